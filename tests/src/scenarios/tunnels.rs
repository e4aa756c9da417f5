//! The fabric: each encapsulation over each family of the underlay, out and in, to the last byte.

use std::collections::BTreeSet;

use weft_tests::{
    container::TapPort,
    frame::{Mac, Outer, Packet, Tunnel, protocol, tagged, tcp},
    lone::{APP, GATEWAY, Lone, RED_VNI, ROUTER, UPLINK, WEB, Way, encapsulation, ways},
    wire::{Neighbour, Wire},
    world::in_world,
};

super::scenarios! {
    packets_leave_in_each_tunnel: [
        "Forwarding: VM to fabric intra VN", "Forwarding: VXLAN", "Forwarding: MPLSoUDP", "Forwarding: MPLSoGRE",
        "Forwarding: IPv4 and IPv6 inside", "Forwarding: IPv6 underlay",
    ],
    packets_arrive_from_each_tunnel: [
        "Forwarding: fabric to VM intra VN", "Forwarding: VXLAN", "Forwarding: MPLSoUDP", "Forwarding: MPLSoGRE",
        "Forwarding: IPv4 and IPv6 inside", "Forwarding: IPv6 underlay",
    ],
    a_leaked_route_leads_out_of_and_into_a_tunnel: [
        "Forwarding: VM to fabric inter VN", "Forwarding: fabric to VM inter VN",
    ],
    an_identifier_may_lead_straight_to_a_port: [],
    a_tagged_uplink_carries_each_encapsulation: ["Forwarding: tagged uplink with each encapsulation"],
    a_large_frame_fits_a_jumbo_uplink: ["Forwarding: jumbo frames"],
    dscp_and_ecn_follow_the_standards_both_ways: ["Forwarding: DSCP and ECN across tunnels"],
    each_flow_has_its_source_port: ["Forwarding: outer source port entropy"],
    a_label_stack_leaves_outermost_first: [],
    ttl_counts_inside_and_not_outside: ["Forwarding: TTL 1"],
    unknown_tenants_and_strangers_are_dropped_by_name: [],
}

/// Sends one packet into a tunnel: the frame on the underlay must be this, and nothing else.
fn leaves(world: &mut Lone, way: &Way, packet: &Packet) -> Vec<u8> {
    world.web.send(&packet.frame(GATEWAY, WEB));
    let sent = world.router.receive();
    let expected = way.outgoing(&packet.hop(), &sent).frame(ROUTER, UPLINK);
    assert!(
        sent == expected,
        "{}\n{}",
        way.name,
        weft_tests::frame::difference(&expected, &sent)
    );
    sent
}

fn packets_leave_in_each_tunnel() {
    in_world(|world: &mut Lone| {
        for way in ways() {
            let (v4, v6) = (way.inner(false), way.inner(true));
            for data in [0, 1, 700, 1400] {
                let data = vec![0x5a; data];
                leaves(
                    world,
                    &way,
                    &Packet::udp("10.0.0.1:4000", &format!("{v4}:53"), &data),
                );
                leaves(
                    world,
                    &way,
                    &Packet::udp("[fd00:1::1]:4000", &format!("[{v6}]:53"), &data),
                );
            }
            leaves(
                world,
                &way,
                &Packet::tcp("10.0.0.1:4001", &format!("{v4}:80"), tcp::SYN, b""),
            );
            leaves(world, &way, &Packet::echo_request("10.0.0.1", &v4, 1, 1));
            leaves(world, &way, &Packet::echo_request("fd00:1::1", &v6, 1, 1));
        }
    });
}

fn packets_arrive_from_each_tunnel() {
    in_world(|world: &mut Lone| {
        for way in ways() {
            let (v4, v6) = (way.inner(false), way.inner(true));
            for data in [0, 1, 700, 1400] {
                let data = vec![0x5a; data];
                let packets = [
                    Packet::udp(&format!("{v4}:53"), "10.0.0.1:4100", &data),
                    Packet::udp(&format!("[{v6}]:53"), "[fd00:1::1]:4100", &data),
                ];
                for packet in packets {
                    world.router.send(&way.incoming(&packet));
                    world.web.expect(&packet.hop().frame(WEB, GATEWAY));
                }
            }
            // A sender that does compute the UDP checksum is understood as well.
            let packet = Packet::udp(&format!("{v4}:54"), "10.0.0.1:4100", b"sum");
            world
                .router
                .send(&way.incoming_with(&packet, |outer| outer.udp_checksum = true));
            world.web.expect(&packet.hop().frame(WEB, GATEWAY));
            // A whole conversation over one session: asked from outside, answered into the tunnel.
            let question = Packet::tcp(&format!("{v4}:3000"), "10.0.0.1:80", tcp::SYN, b"");
            world.router.send(&way.incoming(&question));
            world.web.expect(&question.hop().frame(WEB, GATEWAY));
            leaves(
                world,
                &way,
                &Packet::tcp("10.0.0.1:80", &format!("{v4}:3000"), tcp::SYN | tcp::ACK, b""),
            );
        }
    });
}

fn a_leaked_route_leads_out_of_and_into_a_tunnel() {
    in_world(|world: &mut Lone| {
        world.host.apply("kind: Vrf\nname: green\nspec: {}\n");
        let mut green = world.host.raw_tap(
            &world.guests,
            &TapPort::new("green", "gdb", "02:00:00:00:03:01", &["10.3.0.1"]),
        );
        world.host.apply(
            "kind: Route\nname: green-to-red\nspec: {vrf: green, prefix: 10.0.0.0/24, next_hop: {vrf: red}}\n---\n\
             kind: Route\nname: red-to-green\nspec: {vrf: red, prefix: 10.3.0.0/24, next_hop: {vrf: green}}\n",
        );
        let green_mac = [2, 0, 0, 0, 3, 1];
        for way in ways() {
            let there = Packet::udp("10.3.0.1:1000", &format!("{}:7", way.inner(false)), b"out");
            green.send(&there.frame(GATEWAY, green_mac));
            let sent = world.router.receive();
            assert_eq!(
                sent,
                way.outgoing(&there.hop(), &sent).frame(ROUTER, UPLINK),
                "{}",
                way.name
            );
            let back = Packet::udp(&format!("{}:7", way.inner(false)), "10.3.0.1:1000", b"in");
            world.router.send(&way.incoming(&back));
            green.expect(&back.hop().frame(green_mac, GATEWAY));
            // And begun from outside.
            let first = Packet::udp(&format!("{}:8", way.inner(false)), "10.3.0.1:1001", b"in");
            world.router.send(&way.incoming(&first));
            green.expect(&first.hop().frame(green_mac, GATEWAY));
        }
        for (kind, name) in [
            ("route", "green-to-red red-to-green"),
            ("port", "green-gdb"),
            ("vrf", "green"),
        ] {
            world.host.delete(kind, name);
        }
    });
}

fn an_identifier_may_lead_straight_to_a_port() {
    in_world(|world: &mut Lone| {
        world.host.apply(
            "kind: Vni\nname: app\nspec: {vni: 777, target: {port: red-app}}\n---\n\
             kind: Label\nname: app\nspec: {label: 7777, target: {port: red-app}}\n",
        );
        let packet = Packet::udp("10.9.9.9:1", "10.0.0.2:2", b"direct");
        for way in ways() {
            let tunnel = match &way.tunnel {
                Tunnel::Vxlan { .. } => Tunnel::Vxlan {
                    vni: 777,
                    destination: APP,
                    source: GATEWAY,
                },
                Tunnel::MplsOverUdp(_) => Tunnel::MplsOverUdp(vec![7777]),
                Tunnel::MplsOverGre(_) => Tunnel::MplsOverGre(vec![7777]),
            };
            let outer = Outer::new(way.remote, way.local).carry(&tunnel, &packet);
            world.router.send(&outer.frame(UPLINK, ROUTER));
            world.app.expect(&packet.hop().frame(APP, GATEWAY));
        }
        world.host.delete("vni", "app");
        world.host.delete("label", "app");
    });
}

/// A second uplink: interface `u2` with its far end `r2` in the test's hands.
fn second_uplink(world: &Lone, near: &str, far: &str) -> Wire {
    world.host.namespace.join(
        near,
        "02:00:00:00:aa:02",
        &world.outside,
        far,
        "02:00:00:00:bb:02",
    );
    world.outside.wire(far)
}

fn a_tagged_uplink_carries_each_encapsulation() {
    in_world(|world: &mut Lone| {
        let mut router = second_uplink(world, "u2", "r2");
        let (near, far): (Mac, Mac) = ([2, 0, 0, 0, 0xaa, 2], [2, 0, 0, 0, 0xbb, 2]);
        let addresses = ["198.18.7.2", "fd00:197::2"]
            .map(weft_tests::frame::address)
            .to_vec();
        router.play(Neighbour {
            mac: far,
            addresses,
            vlan: Some(70),
        });
        world.host.apply(
            "kind: Port\nname: uplink2\nspec: {ethdev: {device: \"net_af_packet1,iface=u2\"}, vrf: underlay, \
             mac: \"02:00:00:00:aa:02\", mtu: 1600}\n---\nkind: Port\nname: uplink2-70\n\
             spec: {vlan: {parent: uplink2, vlan: 70}, vrf: underlay, mtu: 1600, mac: \"02:00:00:00:aa:02\", \
             addresses: [\"198.18.7.1/24\", \"fd00:197::1/64\"]}\n",
        );
        for (number, way) in ways().into_iter().enumerate() {
            let v6 = way.local.contains(':');
            let (local, remote) = if v6 {
                ("fd00:197::1", "fd00:197::2")
            } else {
                ("198.18.7.1", "198.18.7.2")
            };
            let (kind, field) = encapsulation(&way.tunnel);
            let name = format!("tagged-{}", way.name);
            world.host.apply(&format!(
                "kind: TunnelEndpoint\nname: {name}\nspec: {{remote: \"{remote}\", encapsulation: {kind}}}\n---\n\
                 kind: Route\nname: {name}\nspec: {{vrf: red, prefix: 10.7.0.{number}/32, \
                 next_hop: {{tunnel: {{endpoint: {name}, {field}}}}}}}\n"
            ));
            let way = Way { local, remote, ..way };
            let packet = Packet::udp("10.0.0.1:4200", &format!("10.7.0.{number}:53"), b"tagged");
            let sent = weft_tests::eventually("the neighbour behind the tag is resolved", || {
                world.web.send(&packet.frame(GATEWAY, WEB));
                router.next(std::time::Duration::from_millis(200))
            });
            let untagged = [&sent.bytes[..12], &sent.bytes[16..]].concat();
            let expected = tagged(70, &way.outgoing(&packet.hop(), &untagged).frame(far, near));
            assert!(
                sent.bytes == expected,
                "{}",
                weft_tests::frame::difference(&expected, &sent.bytes)
            );
            let back = Packet::udp(&format!("10.7.0.{number}:53"), "10.0.0.1:4200", b"tagged");
            let outer = Outer::new(remote, local).carry(&way.tunnel, &back);
            router.send(&tagged(70, &outer.frame(near, far)));
            world.web.expect(&back.hop().frame(WEB, GATEWAY));
            router.clear();
            world.host.delete("route", &name);
            world.host.delete("tunnelendpoint", &name);
        }
        world.host.delete("port", "uplink2-70");
        world.host.delete("port", "uplink2");
        world.host.namespace.run("ip link del u2");
    });
}

fn a_large_frame_fits_a_jumbo_uplink() {
    in_world(|world: &mut Lone| {
        let mut router = second_uplink(world, "u3", "r3");
        let (near, far): (Mac, Mac) = ([2, 0, 0, 0, 0xaa, 2], [2, 0, 0, 0, 0xbb, 2]);
        let addresses = vec![weft_tests::frame::address("198.18.8.2")];
        router.play(Neighbour {
            mac: far,
            addresses,
            vlan: None,
        });
        let mut port = TapPort::new("red", "jumbo3", "02:00:00:00:04:03", &["10.0.0.43"]);
        port.mtu = 9000;
        let mut jumbo = world.host.raw_tap(&world.guests, &port);
        world.guests.run("ip link set jumbo3 mtu 9000");
        world.host.apply(
            "kind: Port\nname: uplink3\nspec: {ethdev: {device: \"net_af_packet2,iface=u3,framesz=16384,\
             blocksz=65536,framecnt=512\"}, vrf: underlay, mac: \"02:00:00:00:aa:02\", mtu: 9100, \
             addresses: [\"198.18.8.1/24\"]}\n---\n\
             kind: TunnelEndpoint\nname: jumbo\nspec: {remote: 198.18.8.2, encapsulation: ENCAPSULATION_VXLAN}\n---\n\
             kind: Route\nname: jumbo\nspec: {vrf: red, prefix: 10.8.0.1/32, \
             next_hop: {tunnel: {endpoint: jumbo, vni: 100}}}\n",
        );
        let tunnel = Tunnel::Vxlan {
            vni: RED_VNI,
            destination: GATEWAY,
            source: GATEWAY,
        };
        let way = Way {
            name: "jumbo",
            local: "198.18.8.1",
            remote: "198.18.8.2",
            host: "",
            tunnel,
        };
        let small = Packet::udp("10.0.0.43:1", "10.8.0.1:1", b"hello");
        weft_tests::eventually("the neighbour is resolved", || {
            jumbo.send(&small.frame(GATEWAY, [2, 0, 0, 0, 4, 3]));
            router.next(std::time::Duration::from_millis(200))
        });
        router.drain(std::time::Duration::from_millis(100));
        for length in [1500, 5000, 8972] {
            let packet = Packet::udp("10.0.0.43:1", "10.8.0.1:1", &vec![8; length]);
            jumbo.send(&packet.frame(GATEWAY, [2, 0, 0, 0, 4, 3]));
            let sent = router.receive();
            let expected = way.outgoing(&packet.hop(), &sent).frame(far, near);
            assert!(
                sent == expected,
                "{}",
                weft_tests::frame::difference(&expected, &sent)
            );
            let back = Packet::udp("10.8.0.1:1", "10.0.0.43:1", &vec![9; length]);
            let outer = Outer::new("198.18.8.2", "198.18.8.1").carry(&way.tunnel, &back);
            router.send(&outer.frame(near, far));
            jumbo.expect(&back.hop().frame([2, 0, 0, 0, 4, 3], GATEWAY));
        }
        world.host.delete("route", "jumbo");
        world.host.delete("tunnelendpoint", "jumbo");
        world.host.delete("port", "uplink3 red-jumbo3");
        world.host.namespace.run("ip link del u3");
    });
}

fn dscp_and_ecn_follow_the_standards_both_ways() {
    in_world(|world: &mut Lone| {
        for way in ways() {
            for v6 in [false, true] {
                let (near, far) = if v6 {
                    ("[fd00:1::1]:4300".to_owned(), format!("[{}]:1", way.inner(true)))
                } else {
                    ("10.0.0.1:4300".to_owned(), format!("{}:1", way.inner(false)))
                };
                for ecn in 0..4 {
                    // RFC 2983 uniform for DSCP and RFC 6040 normal mode for ECN: the outer class is the inner's.
                    let packet = Packet::udp(&near, &far, b"out").with_traffic_class(0xb8 | ecn);
                    leaves(world, &way, &packet);
                }
                for outer in 0..4_u8 {
                    for inner in 0..4_u8 {
                        let packet = Packet::udp(&far, &near, b"in").with_traffic_class(0x28 | inner);
                        let frame = way.incoming_with(&packet, |header| header.traffic_class = 0x88 | outer);
                        match marked(inner, outer) {
                            None => {
                                world
                                    .host
                                    .expect_drops("congestion-mark", 1, || world.router.send(&frame));
                            }
                            Some(ecn) => {
                                world.router.send(&frame);
                                let expected = packet.hop().with_traffic_class(0x28 | ecn);
                                world.web.expect(&expected.frame(WEB, GATEWAY));
                            }
                        }
                    }
                }
            }
        }
    });
}

/// RFC 6040, figure 4, column by column: what leaves the tunnel; None: the packet is dropped.
fn marked(inner: u8, outer: u8) -> Option<u8> {
    const TABLE: [[Option<u8>; 4]; 4] = [
        // outer:  Not-ECT, ECT(1), ECT(0), CE
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    TABLE[usize::from(inner)][usize::from(outer)]
}

fn each_flow_has_its_source_port() {
    in_world(|world: &mut Lone| {
        for way in ways()
            .into_iter()
            .filter(|way| !matches!(way.tunnel, Tunnel::MplsOverGre(_)))
        {
            let at = if way.local.contains(':') { 54 } else { 34 };
            let mut ports = BTreeSet::new();
            for flow in 0..64 {
                let packet = Packet::udp(
                    &format!("10.0.0.1:{}", 5000 + flow),
                    &format!("{}:9", way.inner(false)),
                    b"",
                );
                let first = leaves(world, &way, &packet);
                let again = leaves(world, &way, &packet);
                assert_eq!(first[at..at + 2], again[at..at + 2], "one flow, one source port");
                ports.insert([first[at], first[at + 1]]);
            }
            // 64 draws out of 16,384 meet once in eight runs; ten meetings would be no accident.
            assert!(
                ports.len() > 54,
                "{}: 64 flows share {} source ports",
                way.name,
                ports.len()
            );
        }
    });
}

fn a_label_stack_leaves_outermost_first() {
    in_world(|world: &mut Lone| {
        for (name, tunnel) in [
            ("mpls-udp", Tunnel::MplsOverUdp(vec![16, 1_048_575, 500])),
            ("mpls-gre", Tunnel::MplsOverGre(vec![17, 18])),
        ] {
            let way = ways()
                .into_iter()
                .find(|way| way.name == name)
                .expect("it is one of them");
            let (_, field) = encapsulation(&tunnel);
            world.host.apply(&format!(
                "kind: Route\nname: stack\nspec: {{vrf: red, prefix: 10.6.0.0/24, \
                 next_hop: {{tunnel: {{endpoint: {name}, {field}}}}}}}\n"
            ));
            let way = Way { tunnel, ..way };
            leaves(world, &way, &Packet::udp("10.0.0.1:1", "10.6.0.1:1", b"stacked"));
            world.host.delete("route", "stack");
        }
    });
}

fn ttl_counts_inside_and_not_outside() {
    in_world(|world: &mut Lone| {
        for way in ways() {
            let far = format!("{}:1", way.inner(false));
            leaves(world, &way, &Packet::udp("10.0.0.1:4400", &far, b"").with_ttl(2));
            leaves(
                world,
                &way,
                &Packet::udp("10.0.0.1:4400", &far, b"").with_ttl(255),
            );
            let late = Packet::udp("10.0.0.1:4400", &far, b"").with_ttl(1);
            world
                .host
                .expect_drops("ttl-exceeded", 1, || world.web.send(&late.frame(GATEWAY, WEB)));
            let packet = Packet::udp(&far, "10.0.0.1:4400", b"").with_ttl(2);
            world
                .router
                .send(&way.incoming_with(&packet, |outer| outer.ttl = 1));
            world.web.expect(&packet.hop().frame(WEB, GATEWAY));
            let late = way.incoming(&packet.with_ttl(1));
            world
                .host
                .expect_drops("ttl-exceeded", 1, || world.router.send(&late));
        }
        world.router.expect_nothing();
    });
}

fn unknown_tenants_and_strangers_are_dropped_by_name() {
    in_world(|world: &mut Lone| {
        let packet = Packet::udp("10.0.0.12:1", "10.0.0.1:1", b"");
        let outer = Outer::new("198.18.0.2", "198.18.0.1");
        let send = |world: &Lone, packet: Packet| world.router.send(&packet.frame(UPLINK, ROUTER));
        let vxlan = |vni| Tunnel::Vxlan {
            vni,
            destination: GATEWAY,
            source: GATEWAY,
        };
        world.host.expect_drops("unknown-vni", 1, || {
            send(world, outer.carry(&vxlan(101), &packet))
        });
        let labels = [Tunnel::MplsOverUdp(vec![1001]), Tunnel::MplsOverGre(vec![1001])];
        for tunnel in &labels {
            world
                .host
                .expect_drops("unknown-label", 1, || send(world, outer.carry(tunnel, &packet)));
        }
        let stranger = Outer::new("198.18.0.99", "198.18.0.1");
        for way in ways().iter().take(3) {
            let frame = stranger.carry(&way.tunnel, &packet);
            world
                .host
                .expect_drops("unknown-endpoint", 1, || send(world, frame));
        }
        // Over IPv6: the packet sockets of an af_packet uplink put IPv4 fragments together by themselves.
        let way = &ways()[3];
        let packet = Packet::udp("10.0.0.12:1", "10.0.0.1:1", b"eights");
        let mut fragment = Outer::new(way.remote, way.local).carry(&way.tunnel, &packet);
        fragment.extensions = vec![(protocol::FRAGMENT, vec![0, 0, 0, 1, 0, 0, 0, 9])];
        world
            .host
            .expect_drops("outer-fragment", 1, || send(world, fragment));
        world.web.expect_nothing();
    });
}
