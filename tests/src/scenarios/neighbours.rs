//! ARP and neighbour discovery: what tenants ask is answered at the port, what weft asks is the underlay's.

use std::time::Duration;

use weft_tests::{
    frame::{
        self, Mac, Packet, arp, arp_reply, arp_request, neighbour_advertisement, neighbour_solicitation,
    },
    lone::{APP, GATEWAY, Lone, ROUTER, UPLINK, WEB, ways},
    wire::Neighbour,
    world::in_world,
};

super::scenarios! {
    the_gateway_and_peers_answer_arp: ["Neighbours: ARP proxy"],
    a_probe_for_an_own_address_stays_unanswered: ["Neighbours: ARP probe"],
    the_gateway_and_peers_answer_neighbour_solicitations: ["Neighbours: ND proxy"],
    the_gateway_answers_pings: [],
    weft_answers_for_its_own_underlay_addresses: [
        "Neighbours: underlay ARP", "Neighbours: underlay ND", "Neighbours: exactly one answer",
    ],
    an_underlay_neighbour_is_asked_for_and_learned_again: [
        "Neighbours: underlay ARP", "Neighbours: underlay ND", "Next hops: resolve",
    ],
    a_configured_neighbour_is_neither_asked_for_nor_learned: [],
    arp_for_others_is_dropped_and_counted: [],
}

fn the_gateway_and_peers_answer_arp() {
    in_world(|world: &mut Lone| {
        for target in ["10.0.0.254", "10.0.0.2"] {
            world.web.send(&arp_request(WEB, "10.0.0.1", target));
            world.web.expect(&arp_reply(GATEWAY, target, WEB, "10.0.0.1"));
        }
        // Asked again of the gateway's MAC alone, as a kernel does before an entry gets stale (RFC 1122).
        let unicast = arp(
            GATEWAY,
            1,
            (WEB, "10.0.0.1".parse().expect("an address")),
            ([0; 6], "10.0.0.254".parse().expect("an address")),
        );
        world.web.send(&unicast);
        world
            .web
            .expect(&arp_reply(GATEWAY, "10.0.0.254", WEB, "10.0.0.1"));
        world.web.expect_nothing();
        world.app.expect_nothing();
    });
}

fn a_probe_for_an_own_address_stays_unanswered() {
    in_world(|world: &mut Lone| {
        // RFC 5227: sender address zero. An answer would mean that somebody else has it.
        world.host.expect_drops("unanswered", 1, || {
            world.web.send(&arp_request(WEB, "0.0.0.0", "10.0.0.1"))
        });
        world.web.expect_nothing();
        // A probe for the gateway's address must be told that it is taken.
        world.web.send(&arp_request(WEB, "0.0.0.0", "10.0.0.254"));
        world
            .web
            .expect(&arp_reply(GATEWAY, "10.0.0.254", WEB, "0.0.0.0"));
    });
}

fn the_gateway_and_peers_answer_neighbour_solicitations() {
    in_world(|world: &mut Lone| {
        world
            .web
            .send(&neighbour_solicitation(WEB, "fd00:1::1", "fd00:1::fe"));
        let (target, flags) = advertised(&world.web.receive(), WEB, "fd00:1::1");
        assert_eq!(
            (target.as_str(), flags & 0xc0),
            ("fd00:1::fe", 0xc0),
            "a router's solicited answer"
        );
        world
            .web
            .send(&neighbour_solicitation(WEB, "fd00:1::1", "fd00:1::2"));
        let (target, flags) = advertised(&world.web.receive(), WEB, "fd00:1::1");
        assert_eq!(
            (target.as_str(), flags & 0x40),
            ("fd00:1::2", 0x40),
            "a solicited answer"
        );
        world.app.expect_nothing();
    });
}

/// Checks an advertisement from the gateway's MAC to the last byte; returns its target and flags.
fn advertised(received: &[u8], receiver: Mac, receiver_address: &str) -> (String, u8) {
    assert!(received.len() >= 78, "{}", frame::dump(received));
    let target: [u8; 16] = received[62..78].try_into().expect("sixteen bytes");
    let target = std::net::Ipv6Addr::from(target).to_string();
    let flags = received[58];
    let expected = neighbour_advertisement(GATEWAY, &target, receiver, receiver_address, flags);
    assert!(received == expected, "{}", frame::difference(&expected, received));
    (target, flags)
}

fn the_gateway_answers_pings() {
    in_world(|world: &mut Lone| {
        for (source, gateway) in [("10.0.0.1", "10.0.0.254"), ("fd00:1::1", "fd00:1::fe")] {
            for sequence in 1..=3 {
                world
                    .web
                    .send(&Packet::echo_request(source, gateway, 77, sequence).frame(GATEWAY, WEB));
                let received = world.web.receive();
                let mut expected = Packet::echo_reply(gateway, source, 77, sequence);
                // The answer's own TTL and identification are the responder's choice.
                let v6 = source.contains(':');
                expected.ttl = if v6 { received[21] } else { received[22] };
                assert!(expected.ttl >= 64, "a fresh TTL");
                if !v6 {
                    expected.identification = u16::from_be_bytes([received[18], received[19]]);
                    expected.fragment = u16::from_be_bytes([received[20], received[21]]) & 0x4000;
                }
                let expected = expected.frame(WEB, GATEWAY);
                assert!(
                    received == expected,
                    "{}",
                    frame::difference(&expected, &received)
                );
            }
        }
        world.web.expect_nothing();
    });
}

fn weft_answers_for_its_own_underlay_addresses() {
    in_world(|world: &mut Lone| {
        for _ in 0..20 {
            world
                .router
                .send(&arp_request(ROUTER, "198.18.0.2", "198.18.0.1"));
            world
                .router
                .expect(&arp_reply(UPLINK, "198.18.0.1", ROUTER, "198.18.0.2"));
            world
                .router
                .send(&neighbour_solicitation(ROUTER, "fd00:198::2", "fd00:198::1"));
            let received = world.router.receive();
            let expected =
                neighbour_advertisement(UPLINK, "fd00:198::1", ROUTER, "fd00:198::2", received[58]);
            assert!(
                received == expected,
                "{}",
                frame::difference(&expected, &received)
            );
        }
        // Nobody else answers, neither the kernel nor weft a second time.
        world.router.expect_nothing();
    });
}

fn an_underlay_neighbour_is_asked_for_and_learned_again() {
    in_world(|world: &mut Lone| {
        for (number, (remote, v6)) in [("198.18.0.60", false), ("fd00:198::60", true)]
            .into_iter()
            .enumerate()
        {
            world.host.apply(&format!(
                "kind: TunnelEndpoint\nname: late\nspec: {{remote: \"{remote}\", \
                 encapsulation: ENCAPSULATION_VXLAN}}\n---\nkind: Route\nname: late\nspec: {{vrf: red, \
                 prefix: 10.60.{number}.0/24, next_hop: {{tunnel: {{endpoint: late, vni: 100}}}}}}\n"
            ));
            let packet = Packet::udp("10.0.0.1:1", &format!("10.60.{number}.1:1"), b"late");
            world.web.send(&packet.frame(GATEWAY, WEB));
            // weft asks on the underlay, from its own address.
            let question = world.router.receive();
            let expected = if v6 {
                neighbour_solicitation(UPLINK, "fd00:198::1", remote)
            } else {
                arp_request(UPLINK, "198.18.0.1", remote)
            };
            assert!(
                question == expected,
                "{}",
                frame::difference(&expected, &question)
            );
            // No answer, no packet; then one MAC, then another: the packets follow.
            for mac in [[2, 0, 0, 0, 0x60, 1], [2, 0, 0, 0, 0x60, 2]] {
                let answer = if v6 {
                    neighbour_advertisement(mac, remote, UPLINK, "fd00:198::1", 0x60)
                } else {
                    arp_reply(mac, remote, UPLINK, "198.18.0.1")
                };
                world.router.send(&answer);
                weft_tests::eventually("packets follow the neighbour's MAC", || {
                    world.web.send(&packet.frame(GATEWAY, WEB));
                    let received = world.router.next(Duration::from_millis(200))?.bytes;
                    (received[..6] == mac).then_some(())
                });
                world.router.drain(Duration::from_millis(50));
            }
            // weftd keeps what it knows fresh: from here on the neighbour answers by itself.
            let addresses = vec![frame::address(remote)];
            world.router.play(Neighbour {
                mac: [2, 0, 0, 0, 0x60, 2],
                addresses,
                vlan: None,
            });
            world.host.delete("route", "late");
            world.host.delete("tunnelendpoint", "late");
        }
    });
}

fn a_configured_neighbour_is_neither_asked_for_nor_learned() {
    in_world(|world: &mut Lone| {
        let known = [2, 0, 0, 0, 0x70, 1];
        let uplink = |neighbours: &str| {
            format!(
                "kind: Port\nname: uplink\nspec: {{ethdev: {{device: \"net_af_packet0,iface=u1\"}}, vrf: underlay, \
                 mac: \"02:00:00:00:aa:01\", mtu: 1600, addresses: [\"198.18.0.1/24\", \"fd00:198::1/64\"], \
                 neighbours: [{neighbours}]}}\n"
            )
        };
        world.host.apply(&uplink(
            "{address: 198.18.0.70, mac: \"02:00:00:00:70:01\"}, {address: \"fd00:198::70\", mac: \"02:00:00:00:70:01\"}",
        ));
        let far = [
            ("198.18.0.70", "198.18.0.1", "known-v4", "10.70.4.1"),
            ("fd00:198::70", "fd00:198::1", "known-v6", "10.70.6.1"),
        ];
        for (remote, local, name, inner) in far {
            world.host.apply(&format!(
                "kind: TunnelEndpoint\nname: {name}\nspec: {{remote: \"{remote}\", \
                 encapsulation: ENCAPSULATION_VXLAN}}\n---\nkind: Route\nname: {name}\nspec: {{vrf: red, \
                 prefix: {inner}/32, next_hop: {{tunnel: {{endpoint: {name}, vni: 100}}}}}}\n"
            ));
            let packet = Packet::udp("10.0.0.1:1", &format!("{inner}:1"), b"known");
            let leaves = |world: &mut Lone| {
                world.web.send(&packet.frame(GATEWAY, WEB));
                world.router.receive()
            };
            // The first frame on the underlay is the packet itself, no question.
            let sent = leaves(world);
            assert_eq!(sent[..6], known, "{}", frame::dump(&sent));

            // Somebody else says that he has the address. He is heard before the question that follows is answered, and
            // by the control thread before it has done the second of two changes.
            let liar = [2, 0, 0, 0, 0x70, 2];
            let lie = if remote.contains(':') {
                neighbour_advertisement(liar, remote, UPLINK, local, 0x60)
            } else {
                arp_reply(liar, remote, UPLINK, local)
            };
            world.router.send(&lie);
            world
                .router
                .send(&arp_request(ROUTER, "198.18.0.2", "198.18.0.1"));
            world
                .router
                .expect(&arp_reply(UPLINK, "198.18.0.1", ROUTER, "198.18.0.2"));
            for number in 1..=2 {
                world.host.apply(&format!(
                    "kind: Route\nname: passing\nspec: {{vrf: red, prefix: 10.71.0.{number}/32, \
                     next_hop: {{discard: {{}}}}}}\n"
                ));
            }
            let sent = leaves(world);
            assert_eq!(sent[..6], known, "{}", frame::dump(&sent));
        }

        // No longer configured, it is a neighbour like others: asked for, and found where it says.
        world.host.apply(&uplink(""));
        for (remote, local, name, inner) in far {
            let moved = [2, 0, 0, 0, 0x70, 3];
            let answer = if remote.contains(':') {
                neighbour_advertisement(moved, remote, UPLINK, local, 0x60)
            } else {
                arp_reply(moved, remote, UPLINK, local)
            };
            let packet = Packet::udp("10.0.0.1:1", &format!("{inner}:1"), b"known");
            weft_tests::eventually("packets follow the neighbour's MAC", || {
                world.router.send(&answer);
                world.web.send(&packet.frame(GATEWAY, WEB));
                let frames = world.router.drain(Duration::from_millis(100));
                frames.iter().any(|frame| frame[..6] == moved).then_some(())
            });
            world.host.delete("route", name);
            world.host.delete("tunnelendpoint", name);
        }
        world.host.delete("route", "passing");
        world.router.drain(Duration::from_millis(50));
    });
}

fn arp_for_others_is_dropped_and_counted() {
    in_world(|world: &mut Lone| {
        world.host.expect_drops("unanswered", 1, || {
            world.web.send(&arp_request(WEB, "10.0.0.1", "192.168.7.7"));
        });
        world.host.expect_drops("unanswered", 1, || {
            world
                .web
                .send(&neighbour_solicitation(WEB, "fd00:1::1", "fd00:99::1"));
        });
        world.host.expect_drops("unanswered", 1, || {
            world
                .router
                .send(&arp_request(ROUTER, "198.18.0.2", "198.18.0.200"));
        });
        // An answer that nobody asked for changes nothing on the tenants' side.
        world.app.send(&arp(
            frame::BROADCAST,
            2,
            (APP, "10.0.0.1".parse().expect("an address")),
            (APP, "10.0.0.1".parse().expect("an address")),
        ));
        let packet = Packet::udp(
            &format!("{}:1", ways()[0].inner(false)),
            "10.0.0.1:9",
            b"still web's",
        );
        world.router.send(&ways()[0].incoming(&packet));
        world.web.expect(&packet.hop().frame(WEB, GATEWAY));
    });
}
