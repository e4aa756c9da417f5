//! Frames that no honest sender makes. Each must end as a counted drop, and nobody else may notice.

use std::collections::BTreeMap;

use weft_tests::{
    frame::{Outer, Packet, Tunnel, arp_request, checksum, neighbour_solicitation, protocol, tagged, tcp},
    lone::{APP, GATEWAY, Lone, RED_LABEL, RED_VNI, ROUTER, UPLINK, WEB, ways},
    wire::Wire,
    world::in_world,
};

super::scenarios! {
    a_tenants_frame_cut_at_every_byte_is_dropped: ["Hostile input: truncated at every byte"],
    a_tunnelled_frame_cut_at_every_byte_is_dropped: ["Hostile input: truncated at every byte"],
    header_lengths_that_cannot_be_are_dropped: ["Hostile input: IHL < 5"],
    total_lengths_that_lie_are_dropped: ["Hostile input: total length lies"],
    bytes_behind_the_packet_are_not_carried: ["Hostile input: total length lies"],
    a_broken_header_checksum_is_dropped_by_name: [],
    stacks_of_vlan_tags_end: ["Hostile input: VLAN stacks without end"],
    chains_of_extension_headers_end: ["Hostile input: IPv6 extension header chains"],
    a_zero_udp_checksum_is_carried_as_it_is: ["Hostile input: zero checksum UDP"],
    stacks_of_labels_end: ["Hostile input: label stacks without end"],
    reserved_vxlan_bits_are_ignored_and_a_missing_flag_is_not: ["Hostile input: VXLAN with reserved bits"],
    a_tunnel_inside_a_tunnel_is_not_opened: ["Hostile input: inner tunnel loops"],
    a_packet_between_two_tunnels_ends_by_its_ttl: ["Hostile input: inner tunnel loops"],
    ten_thousand_twisted_frames_disturb_nobody: ["Hostile input: truncated at every byte"],
}

fn total(drops: &BTreeMap<String, u64>) -> u64 {
    drops.values().sum()
}

/// Which wire the frames go to.
type Side = fn(&Lone) -> &Wire;

fn tenant(world: &Lone) -> &Wire {
    &world.web
}

fn underlay(world: &Lone) -> &Wire {
    &world.router
}

/// Every frame ends as a drop, for one of these reasons (any, if none is named), and none comes out anywhere.
fn all_dropped(world: &mut Lone, side: Side, frames: &[Vec<u8>], reasons: &[&str]) {
    let before = world.host.drops();
    let sent = frames.iter().filter(|frame| side(world).try_send(frame)).count() as u64;
    assert!(sent > 0, "frames were sent");
    let mut after = BTreeMap::new();
    weft_tests::within(std::time::Duration::from_secs(5), || {
        after = world.host.drops();
        (total(&after) >= total(&before) + sent).then_some(())
    });
    let grown: BTreeMap<_, _> = after
        .iter()
        .map(|(reason, packets)| (reason.clone(), packets - before.get(reason).unwrap_or(&0)))
        .filter(|(_, packets)| *packets > 0)
        .collect();
    assert_eq!(
        grown.values().sum::<u64>(),
        sent,
        "{sent} sent, dropped {grown:?}"
    );
    assert!(
        reasons.is_empty() || grown.keys().all(|reason| reasons.contains(&reason.as_str())),
        "{grown:?}"
    );
    for wire in [&mut world.web, &mut world.app, &mut world.blue, &mut world.router] {
        wire.expect_nothing();
    }
}

fn still_forwards(world: &mut Lone) {
    let packet = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"as before");
    world.web.send(&packet.frame(GATEWAY, WEB));
    world.app.expect(&packet.hop().frame(APP, GATEWAY));
}

fn cuts(frame: &[u8]) -> Vec<Vec<u8>> {
    (14..frame.len()).map(|length| frame[..length].to_vec()).collect()
}

fn a_tenants_frame_cut_at_every_byte_is_dropped() {
    in_world(|world: &mut Lone| {
        let options = Packet {
            options: vec![7, 7, 4, 0, 0, 0, 0, 0],
            ..Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"12")
        };
        let chained = Packet::udp("[fd00:1::1]:1", "[fd00:1::2]:1", b"12").with_extensions(&[
            (protocol::HOP_BY_HOP, &[0, 0, 5, 2, 0, 0, 1, 0]),
            (protocol::DESTINATION_OPTIONS, &[0, 0, 1, 4, 0, 0, 0, 0]),
        ]);
        for frame in [
            Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"payload").frame(GATEWAY, WEB),
            Packet::tcp("[fd00:1::1]:1", "[fd00:1::2]:1", tcp::SYN, b"payload").frame(GATEWAY, WEB),
            options.frame(GATEWAY, WEB),
            chained.frame(GATEWAY, WEB),
            arp_request(WEB, "10.0.0.1", "10.0.0.254"),
            neighbour_solicitation(WEB, "fd00:1::1", "fd00:1::fe"),
        ] {
            all_dropped(world, tenant, &cuts(&frame), &["malformed"]);
        }
        still_forwards(world);
    });
}

fn a_tunnelled_frame_cut_at_every_byte_is_dropped() {
    in_world(|world: &mut Lone| {
        for way in ways() {
            let inner = Packet::udp(&format!("{}:1", way.inner(false)), "10.0.0.1:1", b"payload");
            all_dropped(world, underlay, &cuts(&way.incoming(&inner)), &["malformed"]);
            // And cut inside, with an outer header that agrees.
            let whole = inner.bytes();
            let frames: Vec<_> = (0..whole.len())
                .map(|length| {
                    Outer::new(way.remote, way.local)
                        .carry_bytes(&way.tunnel, inner.ethertype(), &whole[..length])
                        .frame(UPLINK, ROUTER)
                })
                .collect();
            all_dropped(world, underlay, &frames, &["malformed", "bad-tunnel-header"]);
        }
        still_forwards(world);
    });
}

/// The packet with a change in its IPv4 header and a checksum that agrees again.
fn altered(packet: &Packet, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut frame = packet.frame(GATEWAY, WEB);
    change(&mut frame[14..]);
    let length = (usize::from(frame[14] & 0xf) * 4).clamp(20, frame.len() - 14);
    frame[24..26].fill(0);
    let sum = checksum(&[&frame[14..14 + length]]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn header_lengths_that_cannot_be_are_dropped() {
    in_world(|world: &mut Lone| {
        let packet = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"x");
        let mut frames: Vec<_> = (0..5)
            .map(|words| altered(&packet, |header| header[0] = 0x40 | words))
            .collect();
        // Options that would reach beyond the packet's end; other versions under this ethertype.
        frames.push(altered(&packet, |header| header[0] = 0x4f));
        frames
            .extend([0x05, 0x15, 0x55, 0x65, 0xf5].map(|first| altered(&packet, |header| header[0] = first)));
        all_dropped(world, tenant, &frames, &["malformed"]);
        still_forwards(world);
    });
}

fn total_lengths_that_lie_are_dropped() {
    in_world(|world: &mut Lone| {
        let v4 = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"12345678");
        let length = v4.bytes().len() as u16;
        let mut frames: Vec<_> = [0, 1, 19, 20, 21, 27, length + 1, length + 100, 0xffff]
            .map(|lie| altered(&v4, |header| header[2..4].copy_from_slice(&lie.to_be_bytes())))
            .into();
        let v6 = Packet::udp("[fd00:1::1]:1", "[fd00:1::2]:1", b"12345678").frame(GATEWAY, WEB);
        for lie in [0_u16, 1, 7, 17, 0xffff] {
            let mut frame = v6.clone();
            frame[18..20].copy_from_slice(&lie.to_be_bytes());
            frames.push(frame);
        }
        // UDP's own length, longer than the packet or shorter than itself; a TCP header beyond the end.
        for lie in [0_u16, 7, 17, 0xffff] {
            let mut packet = v4.clone();
            packet.payload[4..6].copy_from_slice(&lie.to_be_bytes());
            frames.push(packet.frame(GATEWAY, WEB));
        }
        for words in [0_u8, 4, 15] {
            let mut packet = Packet::tcp("10.0.0.1:1", "10.0.0.2:1", tcp::SYN, b"");
            packet.payload[12] = words << 4;
            frames.push(packet.frame(GATEWAY, WEB));
        }
        all_dropped(world, tenant, &frames, &["malformed"]);
        still_forwards(world);
    });
}

fn bytes_behind_the_packet_are_not_carried() {
    in_world(|world: &mut Lone| {
        for (source, destination) in [("10.0.0.1:1", "10.0.0.2:1"), ("[fd00:1::1]:1", "[fd00:1::2]:1")] {
            let packet = Packet::udp(source, destination, b"");
            let padded = [packet.frame(GATEWAY, WEB), vec![0xee; 18]].concat();
            world.web.send(&padded);
            world.app.expect(&packet.hop().frame(APP, GATEWAY));
        }
        // Nor into a tunnel, where they would leak the sender's memory to the far end.
        let way = &ways()[0];
        let packet = Packet::udp("10.0.0.1:1", &format!("{}:1", way.inner(false)), b"");
        world
            .web
            .send(&[packet.frame(GATEWAY, WEB), vec![0xee; 18]].concat());
        let sent = world.router.receive();
        let expected = way.outgoing(&packet.hop(), &sent).frame(ROUTER, UPLINK);
        assert!(
            sent == expected,
            "{}",
            weft_tests::frame::difference(&expected, &sent)
        );
        // Out of one likewise.
        let packet = Packet::udp(&format!("{}:1", way.inner(false)), "10.0.0.1:1", b"");
        let bytes = [packet.bytes(), vec![0xee; 18]].concat();
        let outer = Outer::new(way.remote, way.local).carry_bytes(&way.tunnel, packet.ethertype(), &bytes);
        world.router.send(&outer.frame(UPLINK, ROUTER));
        world.web.expect(&packet.hop().frame(WEB, GATEWAY));
    });
}

fn a_broken_header_checksum_is_dropped_by_name() {
    in_world(|world: &mut Lone| {
        let mut frame = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"").frame(GATEWAY, WEB);
        frame[24] ^= 0x40;
        all_dropped(world, tenant, &[frame], &["bad-checksum"]);
        let mut frame = ways()[0].incoming(&Packet::udp("10.0.0.12:1", "10.0.0.1:1", b""));
        frame[24] ^= 0x40;
        all_dropped(world, underlay, &[frame], &["bad-checksum"]);
    });
}

fn stacks_of_vlan_tags_end() {
    in_world(|world: &mut Lone| {
        let packet = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"deep");
        let frames: Vec<_> = [2, 3, 4, 8, 50, 300]
            .map(|depth| (0..depth).fold(packet.frame(GATEWAY, WEB), |frame, _| tagged(0, &frame)))
            .into();
        all_dropped(
            world,
            tenant,
            &frames,
            &["too-many-headers", "unknown-vlan", "unknown-ethertype"],
        );
        // Tags to the end of the frame.
        let endless = [&packet.frame(GATEWAY, WEB)[..12], &[0x81, 0, 0, 0].repeat(300)].concat();
        all_dropped(world, tenant, std::slice::from_ref(&endless), &[]);
        all_dropped(world, underlay, &[endless], &[]);
        still_forwards(world);
    });
}

fn chains_of_extension_headers_end() {
    in_world(|world: &mut Lone| {
        let packet = Packet::udp("[fd00:1::1]:1", "[fd00:1::2]:1", b"chained");
        let hop: (u8, &[u8]) = (protocol::HOP_BY_HOP, &[0, 0, 5, 2, 0, 0, 1, 0]);
        let options: (u8, &[u8]) = (protocol::DESTINATION_OPTIONS, &[0, 0, 1, 4, 0, 0, 0, 0]);
        // A sane chain is carried to the last byte.
        let sane = packet.clone().with_extensions(&[hop, options]);
        world.web.send(&sane.frame(GATEWAY, WEB));
        world.app.expect(&sane.hop().frame(APP, GATEWAY));
        let long: Vec<_> = [20, 60, 120]
            .map(|count| {
                packet
                    .clone()
                    .with_extensions(&vec![options; count])
                    .frame(GATEWAY, WEB)
            })
            .into();
        all_dropped(world, tenant, &long, &["too-many-headers"]);
        // The last header says that it is longer than the packet.
        let beyond = packet.with_extensions(&[(protocol::DESTINATION_OPTIONS, &[0, 255, 1, 4, 0, 0, 0, 0])]);
        all_dropped(world, tenant, &[beyond.frame(GATEWAY, WEB)], &["malformed"]);
        still_forwards(world);
    });
}

fn a_zero_udp_checksum_is_carried_as_it_is() {
    in_world(|world: &mut Lone| {
        for (source, destination) in [("10.0.0.1:1", "10.0.0.2:1"), ("[fd00:1::1]:1", "[fd00:1::2]:1")] {
            let mut packet = Packet::udp(source, destination, b"unsummed");
            packet.payload[6..8].fill(0);
            world.web.send(&packet.frame(GATEWAY, WEB));
            world.app.expect(&packet.hop().frame(APP, GATEWAY));
        }
    });
}

fn stacks_of_labels_end() {
    in_world(|world: &mut Lone| {
        let inner = Packet::udp("10.0.0.13:1", "10.0.0.1:1", b"deep");
        let mut frames = Vec::new();
        for depth in [2, 3, 4, 16, 300] {
            let labels = vec![RED_LABEL; depth];
            for tunnel in [
                Tunnel::MplsOverUdp(labels.clone()),
                Tunnel::MplsOverGre(labels.clone()),
            ] {
                frames.push(
                    Outer::new("198.18.0.3", "198.18.0.1")
                        .carry(&tunnel, &inner)
                        .frame(UPLINK, ROUTER),
                );
            }
        }
        // No bottom at all, to the end of the packet.
        let outer = Outer::new("198.18.0.3", "198.18.0.1");
        frames.push(
            outer
                .datagram(6635, &(RED_LABEL << 12 | 64).to_be_bytes().repeat(300))
                .frame(UPLINK, ROUTER),
        );
        all_dropped(
            world,
            underlay,
            &frames,
            &[
                "bad-tunnel-header",
                "too-many-headers",
                "unknown-label",
                "malformed",
            ],
        );
        still_forwards(world);
    });
}

fn reserved_vxlan_bits_are_ignored_and_a_missing_flag_is_not() {
    in_world(|world: &mut Lone| {
        let way = &ways()[0];
        let packet = Packet::udp(&format!("{}:1", way.inner(false)), "10.0.0.1:1", b"reserved");
        let frame = way.incoming(&packet);
        // RFC 7348, section 5: reserved bits are ignored on receipt.
        for (at, bits) in [(42, 0xf7), (43, 0xff), (44, 0xff), (45, 0xff), (49, 0xff)] {
            let mut frame = frame.clone();
            frame[at] |= bits;
            world.router.send(&frame);
            world.web.expect(&packet.hop().frame(WEB, GATEWAY));
        }
        let mut without = frame.clone();
        without[42] &= !0x08;
        all_dropped(world, underlay, &[without], &["bad-tunnel-header"]);
        let mut zero = frame;
        zero[46..49].fill(0);
        all_dropped(world, underlay, &[zero], &["bad-tunnel-header", "unknown-vni"]);
    });
}

fn a_tunnel_inside_a_tunnel_is_not_opened() {
    in_world(|world: &mut Lone| {
        let way = &ways()[0];
        let innermost = Packet::udp(&format!("{}:1", way.inner(false)), "10.0.0.1:1", b"innermost");
        let vxlan = Tunnel::Vxlan {
            vni: RED_VNI,
            destination: GATEWAY,
            source: GATEWAY,
        };
        // From the fabric: the inner packet is addressed to weft's own tunnel endpoint.
        let inner = Outer::new("198.18.0.2", "198.18.0.1").carry(&vxlan, &innermost);
        all_dropped(world, underlay, &[way.incoming(&inner)], &["no-route"]);
        // From a tenant who plays tunnel endpoint: his packets are red's and nothing else.
        all_dropped(world, tenant, &[inner.frame(GATEWAY, WEB)], &["no-route"]);
        let gateway = Outer::new("10.0.0.1", "10.0.0.254").carry(&vxlan, &innermost);
        all_dropped(world, tenant, &[gateway.frame(GATEWAY, WEB)], &["no-service"]);
        // Seven tunnels deep, to a tenant who is there: carried as any other payload.
        let deep = (0..7).fold(innermost, |inner, _| {
            Outer::new("10.0.0.12", "10.0.0.1").carry(&vxlan, &inner)
        });
        world.router.send(&way.incoming(&deep));
        world.web.expect(&deep.hop().frame(WEB, GATEWAY));
    });
}

fn a_packet_between_two_tunnels_ends_by_its_ttl() {
    in_world(|world: &mut Lone| {
        // Two far ends that send each other's addresses through weft: forwarded, one TTL less each time.
        let (from, to) = (&ways()[0], &ways()[1]);
        let packet = Packet::udp(
            &format!("{}:1", from.inner(false)),
            &format!("{}:1", to.inner(false)),
            b"loop",
        );
        for ttl in [64, 3, 2] {
            let packet = packet.clone().with_ttl(ttl);
            world.router.send(&from.incoming(&packet));
            let sent = world.router.receive();
            let expected = to.outgoing(&packet.hop(), &sent).frame(ROUTER, UPLINK);
            assert!(
                sent == expected,
                "{}",
                weft_tests::frame::difference(&expected, &sent)
            );
        }
        all_dropped(
            world,
            underlay,
            &[from.incoming(&packet.with_ttl(1))],
            &["ttl-exceeded"],
        );
    });
}

fn ten_thousand_twisted_frames_disturb_nobody() {
    in_world(|world: &mut Lone| {
        let mut seeds: Vec<(Side, Vec<u8>)> = vec![
            (
                tenant,
                Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"seed").frame(GATEWAY, WEB),
            ),
            (
                tenant,
                Packet::tcp("[fd00:1::1]:1", "[fd00:1::2]:1", tcp::SYN, b"seed").frame(GATEWAY, WEB),
            ),
            (tenant, arp_request(WEB, "10.0.0.1", "10.0.0.254")),
            (tenant, neighbour_solicitation(WEB, "fd00:1::1", "fd00:1::fe")),
        ];
        for way in ways() {
            let inner = Packet::udp(&format!("{}:1", way.inner(false)), "10.0.0.1:1", b"seed");
            seeds.push((underlay, way.incoming(&inner)));
        }
        // A generator of our own: the same frames in each run (Knuth's MMIX constants).
        let mut state = 0x0be5_7ea5_u64;
        let mut random = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for round in 0..10_000 {
            let (side, seed) = &seeds[round % seeds.len()];
            let mut frame = seed.clone();
            for _ in 0..=random(4) {
                let at = random(frame.len());
                match random(4) {
                    0 => frame[at] = random(256) as u8,
                    1 => frame[at] ^= 1 << random(8),
                    2 => frame.truncate(at.max(14)),
                    _ => frame.insert(at, random(256) as u8),
                }
            }
            side(world).try_send(&frame);
            if round % 200 == 0 {
                for wire in [&mut world.web, &mut world.app, &mut world.router] {
                    wire.clear();
                }
            }
        }
        // A last packet from each side: once they are through, so is all that came before them.
        let marks = [
            Packet::udp("10.0.0.1:1", "10.0.0.2:2", b"the last from red"),
            Packet::udp(
                &format!("{}:1", ways()[0].inner(false)),
                "10.0.0.2:2",
                b"the last from outside",
            ),
        ];
        world.web.send(&marks[0].frame(GATEWAY, WEB));
        world.app.skip_to(&marks[0].hop().frame(APP, GATEWAY));
        world.router.send(&ways()[0].incoming(&marks[1]));
        world.app.skip_to(&marks[1].hop().frame(APP, GATEWAY));
        // VNI and label of blue are unknown: whatever was twisted, blue saw nothing.
        world.blue.expect_nothing();
        // Whom the frames made a neighbour of weft is asked for three times, a second apart: not into the next test.
        world.router.drain(std::time::Duration::from_millis(1500));
    });
}
