//! What a port may send and get in a time, and in which class it sends.

use weft_tests::{
    container::TapPort,
    frame::{Mac, Packet, tcp},
    lone::{APP, GATEWAY, Lone, ROUTER, UPLINK, WEB, ways},
    wire::Wire,
    world::in_world,
};

super::scenarios! {
    a_port_sends_no_more_than_its_limit: [],
    a_port_gets_no_more_than_its_limit: [],
    a_limit_goes_on_while_others_change_and_ends_when_it_is_lifted: [],
    a_port_sends_in_its_class: [],
}

const ENDS: [(&str, &str); 2] = [("10.0.0.1:1", "10.0.0.2:2"), ("[fd00:1::1]:1", "[fd00:1::2]:2")];
/// A packet a second: none but the burst passes while a test runs.
const BURST: u64 = 10;
const OFFERED: u64 = 50;
/// What may have passed by the rate meanwhile.
const SECONDS: u64 = 8;

fn give(world: &Lone, container: &str, quality: &str) {
    give_with_mtu(world, container, quality, 1500);
}

fn give_with_mtu(world: &Lone, container: &str, quality: &str, mtu: u32) {
    let (mac, host) = match container {
        "web" => ("02:00:00:00:01:01", "1"),
        _ => ("02:00:00:00:01:02", "2"),
    };
    let (v4, v6) = (format!("10.0.0.{host}"), format!("fd00:1::{host}"));
    let port = TapPort {
        more: format!("quality: {{{quality}}}"),
        mtu,
        ..TapPort::new("red", container, mac, &[&v4, &v6])
    };
    world.host.apply(&port.yaml(&world.guests));
}

/// How many of the frames that are offered at once arrive; the others must be counted under the reason.
fn passed(world: &mut Lone, packet: &Packet, reason: &str) -> u64 {
    let before = world.host.dropped(reason);
    for _ in 0..OFFERED {
        world.web.send(&packet.frame(GATEWAY, WEB));
    }
    let expected = packet.hop().frame(APP, GATEWAY);
    let mut passed = 0;
    weft_tests::eventually("all packets have passed or are counted", || {
        while let Some(received) = world.app.next(std::time::Duration::from_millis(1)) {
            assert!(received.bytes == expected);
            passed += 1;
        }
        (passed + world.host.dropped(reason) - before == OFFERED).then_some(())
    });
    passed
}

fn is_the_burst(passed: u64) -> bool {
    (BURST..BURST + SECONDS).contains(&passed)
}

fn a_port_sends_no_more_than_its_limit() {
    in_world(|world: &mut Lone| {
        for (source, destination) in ENDS {
            let packet = Packet::udp(source, destination, &[7; 200]);
            let frame = packet.frame(GATEWAY, WEB).len();
            let by_bits = format!(
                "egress: {{bits_per_second: {}, burst_bytes: {}}}",
                frame * 8,
                frame * BURST as usize
            );
            for limit in [
                format!("egress: {{packets_per_second: 1, burst_packets: {BURST}}}"),
                by_bits,
            ] {
                give(world, "web", &limit);
                let passed = passed(world, &packet, "egress-limit");
                assert!(is_the_burst(passed), "{limit}: {passed} of {OFFERED} passed");
                // Others are not held to it.
                let answer = Packet::udp(destination, source, b"back");
                for _ in 0..OFFERED {
                    world.app.send(&answer.frame(GATEWAY, APP));
                }
                for _ in 0..OFFERED {
                    world.web.expect(&answer.hop().frame(WEB, GATEWAY));
                }
            }
        }
        give(world, "web", "");
    });
}

fn a_port_gets_no_more_than_its_limit() {
    in_world(|world: &mut Lone| {
        for (source, destination) in ENDS {
            let packet = Packet::udp(source, destination, &[7; 200]);
            give(
                world,
                "app",
                &format!("ingress: {{packets_per_second: 1, burst_packets: {BURST}}}"),
            );
            let passed = passed(world, &packet, "ingress-limit");
            assert!(is_the_burst(passed), "{passed} of {OFFERED} passed");
            give(world, "app", "");
        }
    });
}

fn a_limit_goes_on_while_others_change_and_ends_when_it_is_lifted() {
    in_world(|world: &mut Lone| {
        let packet = Packet::udp(ENDS[0].0, ENDS[0].1, b"data");
        let limit = format!("egress: {{packets_per_second: 1, burst_packets: {BURST}}}");
        give(world, "web", &limit);
        assert!(is_the_burst(passed(world, &packet, "egress-limit")));
        // Neither a change of another port nor one of its own fills the bucket again.
        give(world, "app", "dscp: 0");
        give_with_mtu(world, "web", &limit, 1400);
        let passed_meanwhile = passed(world, &packet, "egress-limit");
        assert!(
            passed_meanwhile < SECONDS,
            "{passed_meanwhile} passed by an empty bucket"
        );
        give(world, "web", "");
        give(world, "app", "");
        assert_eq!(passed(world, &packet, "egress-limit"), OFFERED);
    });
}

/// Web's packet, as it leaves app's port.
fn marked(to: &mut Wire, from: &Wire, sent: &Packet, class: u8, mac: Mac) {
    from.send(&sent.frame(GATEWAY, WEB));
    to.expect(&sent.clone().with_traffic_class(class).hop().frame(mac, GATEWAY));
}

fn a_port_sends_in_its_class() {
    in_world(|world: &mut Lone| {
        // Expedited forwarding (RFC 3246).
        give(world, "web", "dscp: 46");
        for (source, destination) in ENDS {
            for (sent, left) in [(0, 46 << 2), (0x28 | 2, 46 << 2 | 2)] {
                let address = |socket: &str| socket.rsplit_once(':').unwrap().0.replace(['[', ']'], "");
                let packets = [
                    Packet::udp(source, destination, b"data"),
                    Packet::tcp(source, destination, tcp::SYN, b""),
                    Packet::echo_request(&address(source), &address(destination), 7, 1),
                ];
                for packet in packets {
                    let packet = packet.with_traffic_class(sent);
                    marked(&mut world.app, &world.web, &packet, left, APP);
                }
            }
            // Answers keep their own.
            let answer = Packet::udp(destination, source, b"back").with_traffic_class(0x28);
            world.app.send(&answer.frame(GATEWAY, APP));
            world.web.expect(&answer.hop().frame(WEB, GATEWAY));
        }
        // A tunnel takes the class over (RFC 2983, uniform).
        let way = ways().swap_remove(0);
        let packet = Packet::udp("10.0.0.1:9", &format!("{}:9", way.inner(false)), b"far");
        world.web.send(&packet.frame(GATEWAY, WEB));
        let frame = world.router.receive();
        let inner = packet.with_traffic_class(46 << 2).hop();
        let expected = way.outgoing(&inner, &frame).frame(ROUTER, UPLINK);
        assert!(
            frame == expected,
            "{}",
            weft_tests::frame::difference(&expected, &frame)
        );
        give(world, "web", "");
    });
}
