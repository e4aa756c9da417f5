//! Containers of one host, by sessions and by the FIB alone.

use weft_tests::{
    container::TapPort,
    frame::{Mac, Packet, tcp},
    lone::{APP, BLUE, GATEWAY, Lone, WEB, test_mac},
    wire::Wire,
    world::in_world,
};

super::scenarios! {
    two_containers_of_a_network_reach_each_other: ["Forwarding: VM to VM in one VN"],
    two_containers_reach_each_other_over_ipv6: ["Forwarding: VM to VM in one VN over IPv6"],
    tenants_with_the_same_addresses_do_not_meet: ["Hostile input: source address from another tenant"],
    a_leaked_route_joins_two_networks: ["Forwarding: VM to VM between VNs", "Next hops: VRF translate"],
    a_packet_with_ttl_1_is_dropped_and_counted: ["Forwarding: TTL 1"],
    jumbo_frames_pass_between_ports_that_take_them: ["Forwarding: jumbo frames"],
    a_packet_larger_than_the_way_out_is_dropped_and_counted: [],
    frames_to_any_unicast_mac_are_routed: [],
    broadcast_and_multicast_are_not_flooded: [],
    a_session_is_listed_with_both_directions: [],
}

/// Sends from one to the other: all of it but the TTL must arrive as it was.
fn crosses(from: &Wire, source: Mac, to: &mut Wire, destination: Mac, packet: &Packet) {
    from.send(&packet.frame(GATEWAY, source));
    to.expect(&packet.hop().frame(destination, GATEWAY));
}

fn conversation(world: &mut Lone, one: &str, other: &str) {
    let socket = |address: &str, port: u16| {
        if address.contains(':') {
            format!("[{address}]:{port}")
        } else {
            format!("{address}:{port}")
        }
    };
    let (client, server) = (socket(one, 40_000), socket(other, 443));
    let (web, app) = (&mut world.web, &mut world.app);
    for (length, class) in [(0, 0), (1, 0xb8), (999, 0x28), (1400, 3)] {
        let data = vec![0xa5; length];
        crosses(
            web,
            WEB,
            app,
            APP,
            &Packet::udp(&client, &server, &data).with_traffic_class(class),
        );
        crosses(
            app,
            APP,
            web,
            WEB,
            &Packet::udp(&server, &client, &data).with_traffic_class(class),
        );
    }
    crosses(web, WEB, app, APP, &Packet::tcp(&client, &server, tcp::SYN, b""));
    crosses(
        app,
        APP,
        web,
        WEB,
        &Packet::tcp(&server, &client, tcp::SYN | tcp::ACK, b""),
    );
    crosses(
        web,
        WEB,
        app,
        APP,
        &Packet::tcp(&client, &server, tcp::ACK, b"GET /"),
    );
    crosses(app, APP, web, WEB, &Packet::tcp(&server, &client, tcp::RST, b""));
    crosses(web, WEB, app, APP, &Packet::echo_request(one, other, 7, 1));
    crosses(app, APP, web, WEB, &Packet::echo_reply(other, one, 7, 1));
    // A protocol without ports: SCTP's number.
    let plain = Packet::udp(&client, &server, b"any");
    crosses(
        web,
        WEB,
        app,
        APP,
        &Packet::new(plain.source, plain.destination, 132, vec![1; 40]),
    );
}

fn two_containers_of_a_network_reach_each_other() {
    in_world(|world: &mut Lone| conversation(world, "10.0.0.1", "10.0.0.2"));
}

fn two_containers_reach_each_other_over_ipv6() {
    in_world(|world: &mut Lone| conversation(world, "fd00:1::1", "fd00:1::2"));
}

fn tenants_with_the_same_addresses_do_not_meet() {
    in_world(|world: &mut Lone| {
        // Blue has no 10.0.0.2: red's is not it.
        let packet = Packet::udp("10.0.0.1:5000", "10.0.0.2:5000", b"blue");
        world
            .host
            .expect_drops("no-route", 1, || world.blue.send(&packet.frame(GATEWAY, BLUE)));
        world.app.expect_nothing();
        // Red uses blue's address as its source: what comes back stays in red.
        let forged = Packet::udp("10.0.0.77:5000", "10.0.0.2:5001", b"forged");
        crosses(&world.web, WEB, &mut world.app, APP, &forged);
        let reply = Packet::udp("10.0.0.2:5001", "10.0.0.77:5000", b"reply");
        world.app.send(&reply.frame(GATEWAY, APP));
        world
            .app
            .send(&Packet::udp("10.0.0.2:9", "10.0.0.1:9", b"mark").frame(GATEWAY, APP));
        world.web.drain(std::time::Duration::from_millis(50));
        world.blue.expect_nothing();
    });
}

fn a_leaked_route_joins_two_networks() {
    in_world(|world: &mut Lone| {
        world.host.apply("kind: Vrf\nname: green\nspec: {}\n");
        let mut green = world.host.raw_tap(
            &world.guests,
            &TapPort::new("green", "gdb", "02:00:00:00:03:01", &["10.3.0.1"]),
        );
        world.host.apply(
            "kind: Route\nname: red-to-green\nspec: {vrf: red, prefix: 10.3.0.0/24, next_hop: {vrf: green}}\n---\n\
             kind: Route\nname: green-to-red\nspec: {vrf: green, prefix: 10.0.0.0/24, next_hop: {vrf: red}}\n",
        );
        let there = Packet::udp("10.0.0.1:6000", "10.3.0.1:53", b"question");
        crosses(&world.web, WEB, &mut green, [2, 0, 0, 0, 3, 1], &there);
        let back = Packet::udp("10.3.0.1:53", "10.0.0.1:6000", b"answer");
        crosses(&green, [2, 0, 0, 0, 3, 1], &mut world.web, WEB, &back);
        // Without the leak the session that used it ends too.
        world.host.delete("route", "red-to-green");
        world
            .host
            .expect_drops("no-route", 1, || world.web.send(&there.frame(GATEWAY, WEB)));
        green.expect_nothing();
        for (kind, name) in [("route", "green-to-red"), ("port", "green-gdb"), ("vrf", "green")] {
            world.host.delete(kind, name);
        }
    });
}

fn a_packet_with_ttl_1_is_dropped_and_counted() {
    in_world(|world: &mut Lone| {
        for (source, destination) in [("10.0.0.1:1", "10.0.0.2:1"), ("[fd00:1::1]:1", "[fd00:1::2]:1")] {
            for ttl in [1, 0] {
                let packet = Packet::udp(source, destination, b"late").with_ttl(ttl);
                world
                    .host
                    .expect_drops("ttl-exceeded", 1, || world.web.send(&packet.frame(GATEWAY, WEB)));
            }
            let packet = Packet::udp(source, destination, b"in time").with_ttl(2);
            crosses(&world.web, WEB, &mut world.app, APP, &packet);
        }
    });
}

fn jumbo_frames_pass_between_ports_that_take_them() {
    in_world(|world: &mut Lone| {
        let mut wires = Vec::new();
        for number in [1_u16, 2] {
            let mut port = TapPort::new(
                "red",
                &format!("jumbo{number}"),
                &format!("02:00:00:00:04:0{number}"),
                &[&format!("10.0.0.4{number}")],
            );
            port.mtu = 9000;
            wires.push(world.host.raw_tap(&world.guests, &port));
            world.guests.run(&format!("ip link set jumbo{number} mtu 9000"));
        }
        for length in [1473, 4000, 8972] {
            let packet = Packet::udp("10.0.0.41:1", "10.0.0.42:1", &vec![7; length]);
            let (one, two) = wires.split_at_mut(1);
            crosses(&one[0], test_mac(0x401), &mut two[0], test_mac(0x402), &packet);
        }
        world.host.delete("port", "red-jumbo1 red-jumbo2");
    });
}

fn a_packet_larger_than_the_way_out_is_dropped_and_counted() {
    in_world(|world: &mut Lone| {
        let mut port = TapPort::new("red", "small", "02:00:00:00:05:01", &["10.0.0.50"]);
        port.mtu = 1000;
        let mut small = world.host.raw_tap(&world.guests, &port);
        let mut packet = Packet::udp("10.0.0.1:1", "10.0.0.50:1", &[7; 973]);
        packet.fragment = weft_tests::frame::DONT_FRAGMENT;
        world
            .host
            .expect_drops("too-big", 1, || world.web.send(&packet.frame(GATEWAY, WEB)));
        packet = Packet::udp("10.0.0.1:1", "10.0.0.50:1", &[7; 972]);
        crosses(&world.web, WEB, &mut small, test_mac(0x501), &packet);
        world.host.delete("port", "red-small");
    });
}

fn frames_to_any_unicast_mac_are_routed() {
    in_world(|world: &mut Lone| {
        let packet = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"astray");
        // One guest is behind a port: whatever MAC it takes for its gateway's, the packet is for the router.
        world.web.send(&packet.frame(test_mac(0x999), WEB));
        world.app.expect(&packet.hop().frame(APP, GATEWAY));
    });
}

fn broadcast_and_multicast_are_not_flooded() {
    in_world(|world: &mut Lone| {
        let broadcast = Packet::udp("10.0.0.1:68", "255.255.255.255:67", b"discover");
        let subnet = Packet::udp("10.0.0.1:137", "10.0.0.255:137", b"who");
        let group = Packet::udp("10.0.0.1:5353", "224.0.0.251:5353", b"mdns");
        let group_v6 = Packet::udp("[fd00:1::1]:5353", "[ff02::fb]:5353", b"mdns");
        world.host.expect_drops("not-flooded", 4, || {
            world.web.send(&broadcast.frame([0xff; 6], WEB));
            world.web.send(&subnet.frame([0xff; 6], WEB));
            world.web.send(&group.frame([1, 0, 0x5e, 0, 0, 0xfb], WEB));
            world.web.send(&group_v6.frame([0x33, 0x33, 0, 0, 0, 0xfb], WEB));
        });
        // A group's address in a frame to the gateway is not flooded either.
        world
            .host
            .expect_drops("not-flooded", 1, || world.web.send(&group.frame(GATEWAY, WEB)));
        for wire in [&mut world.app, &mut world.blue, &mut world.router] {
            wire.expect_nothing();
        }
    });
}

fn a_session_is_listed_with_both_directions() {
    in_world(|world: &mut Lone| {
        let there = Packet::udp("10.0.0.1:7001", "10.0.0.2:7002", b"there");
        let back = Packet::udp("10.0.0.2:7002", "10.0.0.1:7001", b"back");
        for _ in 0..3 {
            crosses(&world.web, WEB, &mut world.app, APP, &there);
        }
        crosses(&world.app, APP, &mut world.web, WEB, &back);
        let value = world
            .host
            .json("get flows --vrf red --match proto=udp,dport=7002");
        let there = weft_tests::host::rows(&value);
        assert_eq!(there.len(), 1, "{value}");
        assert_eq!(weft_tests::host::number(&there[0], "packets"), 3, "{value}");
        let value = world
            .host
            .json("get flows --vrf red --match proto=udp,sport=7002");
        let back = weft_tests::host::rows(&value);
        assert_eq!(back.len(), 1, "{value}");
        assert_eq!(weft_tests::host::number(&back[0], "packets"), 1, "{value}");
        assert_eq!(there[0]["session"], back[0]["session"], "one session");
    });
}
