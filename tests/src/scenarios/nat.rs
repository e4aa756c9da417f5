//! Floating IPs: an address that stands for another, both ways, and what becomes of sessions when it goes.

use weft_tests::{
    container::TapPort,
    frame::{Mac, Packet, arp_reply, arp_request, difference, partial_checksum, tcp},
    host::{number, rows, text},
    lone::{APP, BLUE, GATEWAY, Lone, ROUTER, UPLINK, WEB, Way, ways},
    sys::Offload,
    world::in_world,
};

use super::fragments::pieces;

super::scenarios! {
    a_workload_is_known_outside_by_its_floating_ip: ["NAT: floating IP both ways", "NAT: NAT66", "NAT: ICMP echo ids"],
    payloads_that_name_addresses_stay_as_they_are: ["NAT: FTP-like payloads untouched"],
    two_floating_ips_of_one_host_reach_each_other: ["NAT: hairpin"],
    errors_are_translated_with_what_they_quote: ["NAT: ICMP errors translated inside"],
    only_what_can_be_translated_leaves: ["NAT: fragments through NAT"],
    checksums_left_to_the_device_are_right_behind_nat: [],
    errors_about_a_session_pass_where_the_session_does: [],
    a_floating_ip_of_the_underlay_is_answered_for: [],
    the_listing_shows_both_sides_of_a_translation: [],
}

/// An address inside, what stands for it, and somebody out there.
pub(super) struct Family {
    pub(super) web: &'static str,
    pub(super) web_outside: &'static str,
    pub(super) app: &'static str,
    pub(super) app_outside: &'static str,
    /// Blue's, which has the same inside address as web.
    pub(super) blue_outside: &'static str,
    pub(super) remote: &'static str,
}

pub(super) const FAMILIES: [Family; 2] = [
    Family {
        web: "10.0.0.1",
        web_outside: "203.0.113.1",
        app: "10.0.0.2",
        app_outside: "203.0.113.2",
        blue_outside: "203.0.113.3",
        remote: "203.0.113.99",
    },
    Family {
        web: "fd00:1::1",
        web_outside: "2001:db8:f::1",
        app: "fd00:1::2",
        app_outside: "2001:db8:f::2",
        blue_outside: "2001:db8:f::3",
        remote: "2001:db8:f::99",
    },
];

const PUBLIC_VNI: u32 = 300;

/// The way between the public VRF and the world.
pub(super) fn outside() -> Way {
    let way = ways().swap_remove(0);
    Way {
        tunnel: weft_tests::frame::Tunnel::Vxlan {
            vni: PUBLIC_VNI,
            destination: GATEWAY,
            source: GATEWAY,
        },
        ..way
    }
}

pub(super) fn floating(name: &str, vrf: &str, address: &str, port: &str, inside: &str) -> String {
    format!(
        "kind: FloatingIp\nname: {name}\nspec: {{vrf: {vrf}, address: \"{address}\", port: {port}, \
         inside_address: \"{inside}\"}}\n"
    )
}

/// A public VRF that the tenants' routes lead to, and a floating IP a container and family.
pub(super) fn publish(world: &Lone) {
    let mut objects = vec![
        "kind: Vrf\nname: public\nspec: {}\n".to_owned(),
        format!("kind: Vni\nname: public\nspec: {{vni: {PUBLIC_VNI}, target: {{vrf: public}}}}\n"),
    ];
    for (family, prefix) in [("v4", "203.0.113.0/24"), ("v6", "2001:db8:f::/48")] {
        objects.push(format!(
            "kind: Route\nname: public-{family}\nspec: {{vrf: public, prefix: \"{prefix}\", \
             next_hop: {{tunnel: {{endpoint: vxlan, vni: {PUBLIC_VNI}}}}}}}\n"
        ));
        for tenant in ["red", "blue"] {
            objects.push(format!(
                "kind: Route\nname: {tenant}-public-{family}\nspec: {{vrf: {tenant}, prefix: \"{prefix}\", \
                 next_hop: {{vrf: public}}}}\n"
            ));
        }
    }
    world.host.apply(&objects.join("---\n"));
    give_all(world);
}

pub(super) fn give_all(world: &Lone) {
    let mut objects = Vec::new();
    for (number, family) in FAMILIES.iter().enumerate() {
        for (name, outside, port, inside) in [
            ("web", family.web_outside, "red-web", family.web),
            ("app", family.app_outside, "red-app", family.app),
            ("blue", family.blue_outside, "blue-bweb", family.web),
        ] {
            objects.push(floating(
                &format!("{name}-{number}"),
                "public",
                outside,
                port,
                inside,
            ));
        }
    }
    world.host.apply(&objects.join("---\n"));
}

pub(super) fn take_all(world: &Lone) {
    for number in 0..FAMILIES.len() {
        for name in ["web", "app", "blue"] {
            world.host.delete("fip", &format!("{name}-{number}"));
        }
    }
}

/// Everything as it was.
pub(super) fn withdraw(world: &Lone) {
    take_all(world);
    for family in ["v4", "v6"] {
        for route in ["public", "red-public", "blue-public"] {
            world.host.delete("route", &format!("{route}-{family}"));
        }
    }
    world.host.delete("vni", "public");
    world.host.delete("vrf", "public");
}

pub(super) fn socket(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

/// Leaves the host, as this packet.
pub(super) fn leaves(world: &mut Lone, sent: &Packet, expected: &Packet) {
    world.web.send(&sent.frame(GATEWAY, WEB));
    let way = outside();
    let frame = world.router.receive();
    let expected = way.outgoing(&expected.hop(), &frame).frame(ROUTER, UPLINK);
    assert!(frame == expected, "{}", difference(&expected, &frame));
}

/// Comes from outside, and reaches web as this packet.
pub(super) fn arrives(world: &mut Lone, sent: &Packet, expected: &Packet) {
    world.router.send(&outside().incoming(sent));
    world.web.expect(&expected.hop().frame(WEB, GATEWAY));
}

pub(super) fn is_dropped(world: &mut Lone, reason: &str, action: impl FnOnce(&Lone)) {
    world.host.expect_drops(reason, 1, || action(world));
    world.router.expect_nothing();
    world.web.expect_nothing();
    world.app.expect_nothing();
}

/// The same packet between other ends.
pub(super) type Between<'a> = &'a dyn Fn(&str, &str) -> Packet;
/// The same packet from somebody else.
pub(super) type Sent<'a> = &'a dyn Fn(&str) -> Packet;

fn a_workload_is_known_outside_by_its_floating_ip() {
    in_world(|world: &mut Lone| {
        publish(world);
        for family in &FAMILIES {
            let Family {
                web,
                web_outside,
                remote,
                ..
            } = *family;
            let data = [0x5a; 77];
            let protocol = |protocol: u8| {
                move |source: &str, destination: &str| {
                    let ends = Packet::udp(&socket(source, 1), &socket(destination, 1), b"");
                    Packet::new(ends.source, ends.destination, protocol, vec![7; 40])
                }
            };
            let (sctp, esp) = (protocol(132), protocol(50));
            let kinds: [(Between<'_>, Between<'_>); 5] = [
                (
                    &|from, to| Packet::udp(&socket(from, 7000), &socket(to, 53), &data),
                    &|from, to| Packet::udp(&socket(from, 53), &socket(to, 7000), &data),
                ),
                (
                    &|from, to| Packet::tcp(&socket(from, 7001), &socket(to, 80), tcp::SYN, b""),
                    &|from, to| Packet::tcp(&socket(from, 80), &socket(to, 7001), tcp::SYN | tcp::ACK, b""),
                ),
                (
                    &|from, to| Packet::echo_request(from, to, 7002, 1),
                    &|from, to| Packet::echo_reply(from, to, 7002, 1),
                ),
                (&sctp, &sctp),
                (&esp, &esp),
            ];
            for (question, answer) in kinds {
                // Asked by the workload, more than once: the first packet and those behind it.
                for _ in 0..3 {
                    leaves(world, &question(web, remote), &question(web_outside, remote));
                    arrives(world, &answer(remote, web_outside), &answer(remote, web));
                }
                // Asked by others.
                let elsewhere = remote.replace("99", "77");
                for _ in 0..3 {
                    arrives(
                        world,
                        &question(&elsewhere, web_outside),
                        &question(&elsewhere, web),
                    );
                    leaves(world, &answer(web, &elsewhere), &answer(web_outside, &elsewhere));
                }
            }
        }
        // Where routes do not lead into the floating IP's VRF, nothing is translated.
        for (web, app) in [("10.0.0.1", "10.0.0.2"), ("fd00:1::1", "fd00:1::2")] {
            let packet = Packet::udp(&socket(web, 1), &socket(app, 1), b"inside");
            world.web.send(&packet.frame(GATEWAY, WEB));
            world.app.expect(&packet.hop().frame(APP, GATEWAY));
        }
        // Nobody else's packets come from it.
        let other = Packet::udp("10.0.0.77:1", "203.0.113.99:1", b"not mine");
        leaves(world, &other, &other);
        let stats = world.host.json("get floating-ips web-0")["stats"][0].take();
        assert_eq!(
            (
                number(&stats, "sessions_from_inside"),
                number(&stats, "sessions_from_outside")
            ),
            (5, 5)
        );
        withdraw(world);
    });
}

fn payloads_that_name_addresses_stay_as_they_are() {
    in_world(|world: &mut Lone| {
        publish(world);
        let active = b"PORT 10,0,0,1,4,1\r\n";
        let command = |source: &str| Packet::tcp(&socket(source, 7100), "203.0.113.99:21", tcp::ACK, active);
        leaves(world, &command("10.0.0.1"), &command("203.0.113.1"));
        let passive = b"227 Entering Passive Mode (203,0,113,1,4,1)\r\n";
        let reply = |to: &str| Packet::tcp("203.0.113.99:21", &socket(to, 7100), tcp::ACK, passive);
        arrives(world, &reply("203.0.113.1"), &reply("10.0.0.1"));
        withdraw(world);
    });
}

fn two_floating_ips_of_one_host_reach_each_other() {
    in_world(|world: &mut Lone| {
        publish(world);
        for family in &FAMILIES {
            let udp = |from: &str, to: &str| Packet::udp(&socket(from, 7200), &socket(to, 53), b"over there");
            let back = |from: &str, to: &str| Packet::udp(&socket(from, 53), &socket(to, 7200), b"and back");
            // In one network, in two with the same inside address at both ends, and to oneself.
            let ends = [
                (APP, family.app, family.app_outside),
                (BLUE, family.web, family.blue_outside),
                (WEB, family.web, family.web_outside),
            ];
            for (mac, inside, outside) in ends.into_iter().cycle().take(2 * ends.len()) {
                world.web.send(&udp(family.web, outside).frame(GATEWAY, WEB));
                let end = match mac {
                    APP => &mut world.app,
                    BLUE => &mut world.blue,
                    _ => &mut world.web,
                };
                end.expect(&udp(family.web_outside, inside).hop().frame(mac, GATEWAY));
                end.send(&back(inside, family.web_outside).frame(GATEWAY, mac));
                world
                    .web
                    .expect(&back(outside, family.web).hop().frame(WEB, GATEWAY));
            }
        }
        withdraw(world);
    });
}

fn errors_are_translated_with_what_they_quote() {
    in_world(|world: &mut Lone| {
        publish(world);
        for family in &FAMILIES {
            let Family {
                web,
                web_outside,
                remote,
                ..
            } = *family;
            let router = remote.replace("99", "254");
            let question = |from: &str, to: &str| Packet::udp(&socket(from, 7300), &socket(to, 53), &[9; 64]);
            let ping = |from: &str, to: &str| Packet::echo_request(from, to, 7301, 1);
            let connect =
                |from: &str, to: &str| Packet::tcp(&socket(from, 7302), &socket(to, 80), tcp::SYN, b"data");
            let kinds: [Between<'_>; 3] = [&question, &ping, &connect];
            for packet in kinds {
                // About what web sent, by the far end and by a router on the way.
                leaves(world, &packet(web, remote), &packet(web_outside, remote));
                for (length, reporter) in [(200, remote), (200, router.as_str()), (28, &router)] {
                    let quote = |from: &str| {
                        let quoted = packet(from, remote).bytes();
                        let headers = if from.contains(':') { 20 } else { 0 };
                        quoted[..quoted.len().min(length + headers)].to_vec()
                    };
                    let error = |to: &str| Packet::unreachable(reporter, to, &quote(to));
                    arrives(world, &error(web_outside), &error(web));
                }
                // About what web got, by web itself.
                let asks = |to: &str| packet(&router, to);
                arrives(world, &asks(web_outside), &asks(web));
                let error = |own: &str| Packet::unreachable(own, &router, &asks(own).bytes());
                leaves(world, &error(web), &error(web_outside));
            }
            // About a session that is not there: nobody to translate for.
            let unknown = question(web_outside, &remote.replace("99", "66"));
            let stray = Packet::unreachable(remote, web_outside, &unknown.bytes());
            is_dropped(world, "nat-without-session", |world| {
                world.router.send(&outside().incoming(&stray))
            });
        }
        withdraw(world);
    });
}

fn only_what_can_be_translated_leaves() {
    in_world(|world: &mut Lone| {
        publish(world);
        // Fragments are translated with their first, also if they came before it.
        let (there, back) = (
            ("10.0.0.1:7400", "203.0.113.99:53"),
            ("203.0.113.99:53", "203.0.113.1:7400"),
        );
        let sent = pieces(there.0, there.1, false);
        let expected = pieces("203.0.113.1:7400", there.1, false);
        for piece in [0, 1, 2] {
            leaves(world, &sent[piece], &expected[piece]);
        }
        let sent = pieces(back.0, back.1, false);
        let expected = pieces(back.0, there.0, false);
        world.router.send(&outside().incoming(&sent[1]));
        world.web.expect_nothing();
        world.router.send(&outside().incoming(&sent[0]));
        for piece in [0, 1] {
            world.web.expect(&expected[piece].hop().frame(WEB, GATEWAY));
        }
        arrives(world, &sent[2], &expected[2]);
        // No checksum stays no checksum.
        let unsummed = |source: &str| {
            let mut packet = Packet::udp(&socket(source, 7401), "203.0.113.99:53", b"unsummed");
            packet.payload[6..8].fill(0);
            packet
        };
        leaves(world, &unsummed("10.0.0.1"), &unsummed("203.0.113.1"));
        // Options are no hindrance, a source route is.
        let with_options = |source: &str, options: &[u8]| Packet {
            options: options.to_vec(),
            ..Packet::udp(&socket(source, 7402), "203.0.113.99:53", b"optional")
        };
        leaves(
            world,
            &with_options("10.0.0.1", &[1, 1, 1, 0]),
            &with_options("203.0.113.1", &[1, 1, 1, 0]),
        );
        let routed = with_options("10.0.0.1", &[131, 7, 4, 203, 0, 113, 9, 0]);
        is_dropped(world, "untranslatable", |world| {
            world.web.send(&routed.frame(GATEWAY, WEB))
        });
        // A message that nothing answers has no session.
        let mut lone = Packet::echo_request("10.0.0.1", "203.0.113.99", 1, 1);
        lone.payload[..4].copy_from_slice(&[17, 0, 0, 0]);
        let sum = weft_tests::frame::checksum(&[&lone.payload]);
        lone.payload[2..4].copy_from_slice(&sum.to_be_bytes());
        is_dropped(world, "nat-without-session", |world| {
            world.web.send(&lone.frame(GATEWAY, WEB))
        });
        // In packet mode there are none at all.
        let plain = Packet::udp("10.0.0.1:7403", "203.0.113.99:53", b"plain");
        world
            .host
            .apply("kind: Vrf\nname: red\nspec: {packet_mode: true}\n");
        is_dropped(world, "nat-without-session", |world| {
            world.web.send(&plain.frame(GATEWAY, WEB))
        });
        world.host.apply("kind: Vrf\nname: red\nspec: {}\n");
        // An error cut short at any byte does no harm, and never reaches web untranslated.
        let asked = |source: &str| Packet::udp(&socket(source, 7404), "203.0.113.99:53", &[3; 16]);
        leaves(world, &asked("10.0.0.1"), &asked("203.0.113.1"));
        for length in 0..asked("10.0.0.1").bytes().len() {
            let quoted = &asked("203.0.113.1").bytes()[..length];
            let error = Packet::unreachable("203.0.113.99", "203.0.113.1", quoted);
            if length < 28 {
                is_dropped(world, "nat-without-session", |world| {
                    world.router.send(&outside().incoming(&error))
                });
            } else {
                let inside =
                    Packet::unreachable("203.0.113.99", "10.0.0.1", &asked("10.0.0.1").bytes()[..length]);
                arrives(world, &error, &inside);
            }
        }
        withdraw(world);
    });
}

fn checksums_left_to_the_device_are_right_behind_nat() {
    in_world(|world: &mut Lone| {
        publish(world);
        for family in &FAMILIES {
            let udp = |from: &str| Packet::udp(&socket(from, 7500), &socket(family.remote, 1), &[0xc3; 333]);
            let tcp = |from: &str| {
                Packet::tcp(
                    &socket(from, 7501),
                    &socket(family.remote, 1),
                    tcp::ACK,
                    &[0xc3; 333],
                )
            };
            let kinds: [(Sent<'_>, u16); 2] = [(&udp, 6), (&tcp, 16)];
            for (packet, field) in kinds {
                let mut partial = packet(family.web);
                let sum = partial_checksum(&partial);
                let at = usize::from(field);
                partial.payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                let offload = Offload {
                    flags: 1,
                    checksum_start: 14 + if partial.source.is_ipv4() { 20 } else { 40 },
                    checksum_offset: field,
                    ..Offload::default()
                };
                for _ in 0..2 {
                    world.web.send_offloaded(&partial.frame(GATEWAY, WEB), offload);
                    let sent = world.router.receive();
                    let translated = packet(family.web_outside).hop();
                    let expected = outside().outgoing(&translated, &sent).frame(ROUTER, UPLINK);
                    assert!(sent == expected, "{}", difference(&expected, &sent));
                }
            }
        }
        withdraw(world);
    });
}

/// Sessions over web's floating IP that have an entry for a destination.
pub(super) fn guard(world: &Lone, policies: &str) {
    let port = TapPort {
        more: format!("policies: [{policies}]"),
        ..TapPort::new("red", "web", "02:00:00:00:01:01", &["10.0.0.1", "fd00:1::1"])
    };
    world.host.apply(&port.yaml(&world.guests));
}

fn errors_about_a_session_pass_where_the_session_does() {
    in_world(|world: &mut Lone| {
        world
            .host
            .apply("kind: Policy\nname: shut\nspec: {default_ingress: deny, default_egress: allow}\n");
        guard(world, "shut");
        for (web, app) in [("10.0.0.1", "10.0.0.2"), ("fd00:1::1", "fd00:1::2")] {
            let question = Packet::udp(&socket(web, 7950), &socket(app, 53), b"anybody there");
            let error = Packet::unreachable(app, web, &question.bytes());
            world
                .host
                .expect_drops("policy-denied", 1, || world.app.send(&error.frame(GATEWAY, APP)));
            world.web.expect_nothing();
            world.web.send(&question.frame(GATEWAY, WEB));
            world.app.expect(&question.hop().frame(APP, GATEWAY));
            world.app.send(&error.frame(GATEWAY, APP));
            world.web.expect(&error.hop().frame(WEB, GATEWAY));
            // Who has nothing to do with the session says nothing about it.
            let stranger = Packet::udp(&socket(web, 7951), &socket(app, 53), b"nobody sent this");
            let lie = Packet::unreachable(app, web, &stranger.bytes());
            world
                .host
                .expect_drops("policy-denied", 1, || world.app.send(&lie.frame(GATEWAY, APP)));
            world.web.expect_nothing();
        }
        guard(world, "");
        world.host.delete("policy", "shut");
    });
}

fn a_floating_ip_of_the_underlay_is_answered_for() {
    in_world(|world: &mut Lone| {
        world
            .host
            .apply("kind: Route\nname: red-underlay\nspec: {vrf: red, prefix: 198.18.0.0/24, next_hop: {vrf: underlay}}\n");
        world.host.apply(&floating(
            "flat",
            "underlay",
            "198.18.0.77",
            "red-web",
            "10.0.0.1",
        ));
        let asker: Mac = ROUTER;
        world
            .router
            .send(&arp_request(asker, "198.18.0.2", "198.18.0.77"));
        world
            .router
            .expect(&arp_reply(UPLINK, "198.18.0.77", asker, "198.18.0.2"));
        let ping = |to: &str| Packet::echo_request("198.18.0.2", to, 8001, 1);
        let pong = |from: &str| Packet::echo_reply(from, "198.18.0.2", 8001, 1);
        world.router.send(&ping("198.18.0.77").frame(UPLINK, ROUTER));
        world.web.expect(&ping("10.0.0.1").hop().frame(WEB, GATEWAY));
        world.web.send(&pong("10.0.0.1").frame(GATEWAY, WEB));
        world
            .router
            .expect(&pong("198.18.0.77").hop().frame(ROUTER, UPLINK));
        let out = |from: &str| Packet::udp(&socket(from, 8002), "198.18.0.2:53", b"flat");
        world.web.send(&out("10.0.0.1").frame(GATEWAY, WEB));
        world
            .router
            .expect(&out("198.18.0.77").hop().frame(ROUTER, UPLINK));
        world.host.delete("fip", "flat");
        world.host.delete("route", "red-underlay");
    });
}

fn the_listing_shows_both_sides_of_a_translation() {
    in_world(|world: &mut Lone| {
        publish(world);
        let ping = |from: &str| Packet::echo_request(from, "203.0.113.99", 8201, 1);
        leaves(world, &ping("10.0.0.1"), &ping("203.0.113.1"));
        let flows = world.host.json("get flows --match src=203.0.113.99,sport=8201");
        let row = &rows(&flows)[0];
        assert_eq!(
            [
                text(row, "destination"),
                text(row, "translated_source"),
                text(row, "translated_destination")
            ],
            ["203.0.113.1", "203.0.113.99", "10.0.0.1"]
        );
        assert_eq!(
            [
                number(row, "translated_source_port"),
                number(row, "translated_destination_port")
            ],
            [8201, 8201]
        );
        let table = world.host.show("get flows --match src=10.0.0.1,sport=8201");
        assert!(table.contains("203.0.113.1:8201 > 203.0.113.99:8201"), "{table}");
        let listed = world.host.show("get floating-ips");
        assert!(
            listed.contains("web-0   public  203.0.113.1    red-web    10.0.0.1"),
            "{listed}"
        );
        withdraw(world);
    });
}
