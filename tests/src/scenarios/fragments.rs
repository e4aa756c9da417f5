//! Fragments of tenants' packets: by the FIB in packet mode, behind the first of their datagram where there are sessions.

use weft_tests::{
    container::TapPort,
    frame::{MORE_FRAGMENTS, Packet, protocol},
    host::{number, rows},
    lone::{APP, GATEWAY, Lone, WEB, test_mac},
    world::in_world,
};

super::scenarios! {
    packet_mode_forwards_every_fragment_in_any_order: ["Fragments: packet mode"],
    sessions_forward_every_fragment_behind_the_first: ["Fragments: in order", "Fragments: out of order"],
    a_policy_judges_fragments_by_the_first: [],
    no_byte_of_a_datagram_passes_twice: ["Fragments: overlapping dropped"],
    a_fragment_whose_first_does_not_come_is_dropped_in_time: ["Fragments: timeouts"],
    a_flood_of_fragments_takes_its_own_share_alone: ["Fragments: floods bounded"],
    all_fragments_of_a_datagram_go_to_one_member_of_a_group: ["Fragments: towards an ECMP service"],
}

const ENDS: [(&str, &str, bool); 2] = [
    ("10.0.0.1:1", "10.0.0.2:2", false),
    ("[fd00:1::1]:1", "[fd00:1::2]:2", true),
];

/// Three pieces of one datagram, in order.
pub(super) fn pieces(source: &str, destination: &str, v6: bool) -> Vec<Packet> {
    let whole = Packet::udp(source, destination, &[0x77; 3000]);
    let cut = [0, 1024, 2048, whole.payload.len()];
    cut.windows(2)
        .map(|range| {
            let last = range[1] == whole.payload.len();
            let mut piece = whole.clone();
            piece.payload = whole.payload[range[0]..range[1]].to_vec();
            if v6 {
                // RFC 8200, section 4.5: offset in eights of bytes, and the M flag.
                let offset = (range[0] as u16) | u16::from(!last);
                let header = [&[0, 0][..], &offset.to_be_bytes(), &[0xde, 0xad, 0xbe, 0xef]].concat();
                piece.with_extensions(&[(protocol::FRAGMENT, &header)])
            } else {
                piece.with_fragment((range[0] / 8) as u16 | if last { 0 } else { MORE_FRAGMENTS })
            }
        })
        .collect()
}

fn packet_mode_forwards_every_fragment_in_any_order() {
    in_world(|world: &mut Lone| {
        world
            .host
            .apply("kind: Vrf\nname: fast\nspec: {packet_mode: true}\n");
        let one = TapPort::new("fast", "fast1", "02:00:00:00:06:01", &["10.6.0.1", "fd00:6::1"]);
        let two = TapPort::new("fast", "fast2", "02:00:00:00:06:02", &["10.6.0.2", "fd00:6::2"]);
        let one = world.host.raw_tap(&world.guests, &one);
        let mut two = world.host.raw_tap(&world.guests, &two);
        for (source, destination, v6) in [
            ("10.6.0.1:1", "10.6.0.2:2", false),
            ("[fd00:6::1]:1", "[fd00:6::2]:2", true),
        ] {
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
                let pieces = pieces(source, destination, v6);
                for piece in order {
                    one.send(&pieces[piece].frame(GATEWAY, test_mac(0x601)));
                    two.expect(&pieces[piece].hop().frame(test_mac(0x602), GATEWAY));
                }
            }
        }
        assert_eq!(
            rows(&world.host.json("get flows --vrf fast --match src=10.6.0.1")).len(),
            0,
            "no sessions"
        );
        world.host.delete("port", "fast-fast1 fast-fast2");
        world.host.delete("vrf", "fast");
    });
}

fn sessions_forward_every_fragment_behind_the_first() {
    in_world(|world: &mut Lone| {
        for (source, destination, v6) in ENDS {
            for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
                let pieces = pieces(source, destination, v6);
                let early = order.iter().take_while(|piece| **piece != 0).count();
                for piece in &order[..early] {
                    world.web.send(&pieces[*piece].frame(GATEWAY, WEB));
                }
                if early > 0 {
                    world.app.expect_nothing();
                }
                world.web.send(&pieces[0].frame(GATEWAY, WEB));
                for piece in std::iter::once(&0).chain(&order[..early]) {
                    world.app.expect(&pieces[*piece].hop().frame(APP, GATEWAY));
                }
                for piece in &order[early + 1..] {
                    world.web.send(&pieces[*piece].frame(GATEWAY, WEB));
                    world.app.expect(&pieces[*piece].hop().frame(APP, GATEWAY));
                }
            }
        }
        let flows = world.host.json("get flows --match src=10.0.0.1,dst=10.0.0.2");
        let ports = |flow: &_| (number(flow, "source_port"), number(flow, "destination_port"));
        let flows = rows(&flows).into_iter().filter(|flow| ports(flow) == (1, 2));
        assert_eq!(flows.count(), 1, "all of them have one session");
        world.host.check_balance();
    });
}

fn a_policy_judges_fragments_by_the_first() {
    in_world(|world: &mut Lone| {
        world.host.apply(
            "kind: Policy\nname: no-two\nspec: {rules: [{direction: egress, action: deny, protocol: udp, destination_ports: [{first: 2}]}], \
             default_egress: allow, default_ingress: allow}\n",
        );
        let addresses = &["10.0.0.1", "fd00:1::1"];
        let web = |more: &str| TapPort {
            more: more.into(),
            ..TapPort::new("red", "web", "02:00:00:00:01:01", addresses)
        };
        world.host.apply(&web("policies: [no-two]").yaml(&world.guests));
        for (source, destination, v6) in ENDS {
            let denied = pieces(source, destination, v6);
            world.host.expect_drops("policy-denied", 3, || {
                for piece in [1, 0, 2] {
                    world.web.send(&denied[piece].frame(GATEWAY, WEB));
                }
            });
            world.app.expect_nothing();
            let allowed = pieces(
                source,
                &destination.replace(":2", ":3").replace("fd00:1::3", "fd00:1::2"),
                v6,
            );
            for piece in &allowed {
                world.web.send(&piece.frame(GATEWAY, WEB));
                world.app.expect(&piece.hop().frame(APP, GATEWAY));
            }
        }
        world.host.apply(&web("").yaml(&world.guests));
        world.host.delete("policy", "no-two");
    });
}

fn no_byte_of_a_datagram_passes_twice() {
    in_world(|world: &mut Lone| {
        let whole = Packet::udp("10.0.0.1:1", "10.0.0.2:2", &[0x77; 3000]);
        let piece = |range: std::ops::Range<usize>| {
            let more = if range.end < whole.payload.len() {
                MORE_FRAGMENTS
            } else {
                0
            };
            let mut piece = whole.clone().with_fragment((range.start / 8) as u16 | more);
            piece.payload = whole.payload[range].to_vec();
            piece
        };
        let end = whole.payload.len();
        let passes = |world: &mut Lone, piece: &Packet| {
            world.web.send(&piece.frame(GATEWAY, WEB));
            world.app.expect(&piece.hop().frame(APP, GATEWAY));
        };
        passes(world, &piece(0..1024));
        // The same again, some of it again, and what would change a header that was judged (RFC 1858).
        for again in [piece(0..1024), piece(512..1536), piece(8..1032)] {
            world.host.expect_drops("fragment-overlap", 1, || {
                world.web.send(&again.frame(GATEWAY, WEB))
            });
        }
        passes(world, &piece(2048..end));
        // Over the border of what is there.
        world.host.expect_drops("fragment-overlap", 1, || {
            world.web.send(&piece(1536..2304).frame(GATEWAY, WEB));
        });
        passes(world, &piece(1024..2048));
        world.app.expect_nothing();
    });
}

fn a_fragment_whose_first_does_not_come_is_dropped_in_time() {
    in_world(|world: &mut Lone| {
        for (source, destination, v6) in ENDS {
            let pieces = pieces(source, destination, v6);
            world.host.expect_drops("fragment-timeout", 2, || {
                for piece in &pieces[1..] {
                    world.web.send(&piece.frame(GATEWAY, WEB));
                }
            });
        }
        world.app.expect_nothing();
        assert_eq!(world.host.balance().held, 0);
    });
}

fn a_flood_of_fragments_takes_its_own_share_alone() {
    in_world(|world: &mut Lone| {
        let last = pieces("10.0.0.1:1", "10.0.0.2:2", false).swap_remove(2);
        let flood = || {
            for number in 0..600 {
                world
                    .web
                    .send(&last.clone().with_identification(number).frame(GATEWAY, WEB));
            }
        };
        let before = world.host.drops();
        flood();
        // Another's datagram passes meanwhile, though its first fragment comes last.
        let pieces = pieces("10.0.0.2:2", "10.0.0.1:1", false);
        for piece in [2, 1, 0] {
            world.app.send(&pieces[piece].frame(GATEWAY, APP));
        }
        for piece in [0, 2, 1] {
            world.web.expect(&pieces[piece].hop().frame(WEB, GATEWAY));
        }
        let grown = |reason: &str| {
            let count =
                |drops: &std::collections::BTreeMap<String, u64>| drops.get(reason).copied().unwrap_or(0);
            count(&world.host.drops()) - count(&before)
        };
        weft_tests::eventually("all of the flood is dropped", || {
            (grown("fragment-limit") + grown("fragment-timeout") == 600).then_some(())
        });
        assert!(grown("fragment-timeout") < 200 && grown("fragment-limit") > 400);
        world.app.expect_nothing();
        world.host.check_balance();
    });
}

fn all_fragments_of_a_datagram_go_to_one_member_of_a_group() {
    in_world(|world: &mut Lone| {
        let mut members = [1, 2].map(|number| {
            let (name, mac) = (format!("member{number}"), format!("02:00:00:00:08:0{number}"));
            let port = TapPort::new("red", &name, &mac, &[&format!("10.0.0.8{number}")]);
            world.host.raw_tap(&world.guests, &port)
        });
        world.host.apply(
            "kind: NextHopGroup\nname: both\nspec: {members: [{name: one, next_hop: {port: {port: red-member1}}}, \
             {name: two, next_hop: {port: {port: red-member2}}}]}\n---\n\
             kind: Route\nname: both\nspec: {vrf: red, prefix: 10.51.0.0/24, next_hop: {group: both}}\n",
        );
        let mut taken = [0; 2];
        for port in 1000..1032 {
            let pieces = pieces(&format!("10.0.0.1:{port}"), "10.51.0.1:53", false);
            let pieces: [Packet; 3] = pieces.try_into().expect("three");
            for piece in [1, 0, 2] {
                world.web.send(
                    &pieces[piece]
                        .clone()
                        .with_identification(port)
                        .frame(GATEWAY, WEB),
                );
            }
            let instantly = std::time::Duration::from_millis(1);
            let mut received = Vec::new();
            let member = weft_tests::eventually("a member takes the datagram", || {
                [0, 1].into_iter().find(|member| {
                    let first = members[*member].next(instantly);
                    received.extend(first.map(|first| first.bytes));
                    !received.is_empty()
                })
            });
            received.extend([(); 2].map(|()| members[member].receive()));
            received.sort();
            let mac = test_mac(0x801 + member as u16);
            let mut expected = pieces.map(|piece| piece.with_identification(port).hop().frame(mac, GATEWAY));
            expected.sort();
            assert!(
                received == expected,
                "datagram {port}: other fragments, or elsewhere"
            );
            taken[member] += 1;
        }
        assert!(taken[0] > 0 && taken[1] > 0, "{taken:?}");
        world.host.delete("route", "both");
        world.host.delete("nexthopgroup", "both");
        world.host.delete("port", "red-member1 red-member2");
    });
}
