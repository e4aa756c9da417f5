//! Services: a virtual IP, who serves its sessions, and what becomes of them when that changes.

use weft_tests::{
    frame::{
        Packet, arp_reply, arp_request, difference, neighbour_advertisement, neighbour_solicitation, tcp,
    },
    host::{number, rows, text},
    lone::{APP, BLUE, GATEWAY, Lone, ROUTER, UPLINK, WEB, Way, ways},
    world::in_world,
};

use super::{
    nat::socket,
    policy::{clean, define, give},
    policy_reject::{error, reset},
};

super::scenarios! {
    a_session_to_a_virtual_ip_is_its_backends_and_answers_come_from_the_virtual_ip: [
        "Services: TCP, UDP, SCTP, IPv4 and IPv6", "Services: port to target port", "Services: source IP kept",
    ],
    backends_and_clients_may_be_elsewhere: ["Services: remote backends"],
    a_virtual_ip_is_reached_from_another_vrf: [],
    a_virtual_ip_has_several_services_and_one_of_all_other_ports: ["Services: any port"],
    a_virtual_ip_is_the_vrouters_own_for_pings_and_neighbours: [],
    without_a_backend_the_client_is_told: ["Services: no backend is refused"],
    errors_are_translated_with_the_session_that_they_quote: ["Services: ICMP errors translated inside"],
    a_backend_reaches_itself_by_its_service: ["Services: hairpin to oneself"],
    policies_judge_what_each_end_sees: [],
    the_listing_shows_who_serves_and_both_sides: [],
}

pub(super) struct Family {
    pub(super) web: &'static str,
    pub(super) app: &'static str,
    /// Behind the VXLAN tunnel.
    pub(super) far: &'static str,
    pub(super) virtual_ip: &'static str,
    gateway: &'static str,
}

pub(super) const FAMILIES: [Family; 2] = [
    Family {
        web: "10.0.0.1",
        app: "10.0.0.2",
        far: "10.0.0.12",
        virtual_ip: "10.0.0.80",
        gateway: "10.0.0.254",
    },
    Family {
        web: "fd00:1::1",
        app: "fd00:1::2",
        far: "fd00:1::12",
        virtual_ip: "fd00:1::80",
        gateway: "fd00:1::fe",
    },
];

/// A service of red.
pub(super) fn service(name: &str, address: &str, ports: &str, backends: &str) -> String {
    format!(
        "kind: Service\nname: {name}\nspec: {{vrf: red, address: \"{address}\", ports: [{ports}], \
         backends: [{backends}]}}\n"
    )
}

pub(super) fn backend(address: &str) -> String {
    format!("{{address: \"{address}\"}}")
}

/// TCP port 80, which is 8080 of the backends, UDP port 53, and SCTP port 2905, which is 36412 of the backends.
pub(super) const PORTS: &str = "{protocol: tcp, port: 80, target_port: 8080}, {protocol: udp, port: 53}, {protocol: sctp, port: 2905, target_port: 36412}";

pub(super) fn serve(world: &Lone, address: &str, backends: &str) {
    world.host.apply(&service("web", address, PORTS, backends));
}

pub(super) fn close(world: &Lone) {
    world.host.delete("service", "web");
}

/// The VXLAN tunnel, which leads to `far`.
pub(super) fn way() -> Way {
    ways().swap_remove(0)
}

/// Comes out of the tunnel as this packet.
pub(super) fn leaves(world: &mut Lone, expected: &Packet) {
    let frame = world.router.receive();
    let expected = way().outgoing(&expected.hop(), &frame).frame(ROUTER, UPLINK);
    assert!(frame == expected, "{}", difference(&expected, &frame));
}

fn udp(from: (&str, u16), to: (&str, u16)) -> Packet {
    Packet::udp(
        &socket(from.0, from.1),
        &socket(to.0, to.1),
        b"a question, or its answer",
    )
}

/// From web to app.
fn to_app(world: &mut Lone, sent: &Packet, expected: &Packet) {
    world.web.send(&sent.frame(GATEWAY, WEB));
    world.app.expect(&expected.hop().frame(APP, GATEWAY));
}

/// Web's packet is dropped, and it is told that nobody listens.
pub(super) fn is_refused(world: &mut Lone, reason: &str, sent: &Packet) {
    let frame = sent.frame(GATEWAY, WEB);
    world.host.expect_drops(reason, 1, || world.web.send(&frame));
    let told = error(sent, Packet::unreachable);
    world.web.expect(&told.frame(WEB, GATEWAY));
    world.app.expect_nothing();
    world.router.expect_nothing();
}

/// From app to web.
fn to_web(world: &mut Lone, sent: &Packet, expected: &Packet) {
    world.app.send(&sent.frame(GATEWAY, APP));
    world.web.expect(&expected.hop().frame(WEB, GATEWAY));
}

fn a_session_to_a_virtual_ip_is_its_backends_and_answers_come_from_the_virtual_ip() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family {
                web, app, virtual_ip, ..
            } = *family;
            serve(world, virtual_ip, &backend(app));
            let connect = |from: &str, to: &str, port: u16, flags| {
                Packet::tcp(&socket(from, 5000), &socket(to, port), flags, b"")
            };
            let accept = |from: &str, port: u16, to: &str| {
                let flags = tcp::SYN | tcp::ACK;
                Packet::tcp(&socket(from, port), &socket(to, 5000), flags, b"")
            };
            // The first packet and those behind it.
            for flags in [tcp::SYN, tcp::ACK, tcp::ACK] {
                to_app(
                    world,
                    &connect(web, virtual_ip, 80, flags),
                    &connect(web, app, 8080, flags),
                );
                to_web(world, &accept(app, 8080, web), &accept(virtual_ip, 80, web));
            }
            for _ in 0..3 {
                to_app(
                    world,
                    &udp((web, 5001), (virtual_ip, 53)),
                    &udp((web, 5001), (app, 53)),
                );
                to_web(
                    world,
                    &udp((app, 53), (web, 5001)),
                    &udp((virtual_ip, 53), (web, 5001)),
                );
            }
            let sctp = |from: (&str, u16), to: (&str, u16)| {
                Packet::sctp(&socket(from.0, from.1), &socket(to.0, to.1), b"an odd length")
            };
            for _ in 0..3 {
                to_app(
                    world,
                    &sctp((web, 5003), (virtual_ip, 2905)),
                    &sctp((web, 5003), (app, 36412)),
                );
                to_web(
                    world,
                    &sctp((app, 36412), (web, 5003)),
                    &sctp((virtual_ip, 2905), (web, 5003)),
                );
            }
            // Past the service the backend is itself.
            to_app(world, &udp((web, 5002), (app, 53)), &udp((web, 5002), (app, 53)));
            to_web(world, &udp((app, 53), (web, 5002)), &udp((app, 53), (web, 5002)));
            close(world);
        }
    });
}

fn backends_and_clients_may_be_elsewhere() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family {
                web,
                app,
                far,
                virtual_ip,
                ..
            } = *family;
            serve(world, virtual_ip, &backend(far));
            for _ in 0..3 {
                let question = udp((web, 5100), (virtual_ip, 53));
                world.web.send(&question.frame(GATEWAY, WEB));
                leaves(world, &udp((web, 5100), (far, 53)));
                world.router.send(&way().incoming(&udp((far, 53), (web, 5100))));
                let answer = udp((virtual_ip, 53), (web, 5100));
                world.web.expect(&answer.hop().frame(WEB, GATEWAY));
            }
            // Now the client is over there.
            serve(world, virtual_ip, &backend(app));
            for _ in 0..3 {
                world
                    .router
                    .send(&way().incoming(&udp((far, 5101), (virtual_ip, 53))));
                let question = udp((far, 5101), (app, 53));
                world.app.expect(&question.hop().frame(APP, GATEWAY));
                world.app.send(&udp((app, 53), (far, 5101)).frame(GATEWAY, APP));
                leaves(world, &udp((virtual_ip, 53), (far, 5101)));
            }
            close(world);
        }
    });
}

fn a_virtual_ip_is_reached_from_another_vrf() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family { app, virtual_ip, .. } = *family;
            // Blue's own address is the same as web's in red: it needs another one there.
            let outside = virtual_ip.replace("80", "99");
            serve(world, virtual_ip, &backend(app));
            let length = if virtual_ip.contains(':') { 128 } else { 32 };
            world.host.apply(&format!(
                "kind: Route\nname: to-service\nspec: {{vrf: blue, prefix: \"{virtual_ip}/{length}\", \
                 next_hop: {{vrf: red}}}}\n---\n{}",
                super::nat::floating("client", "red", &outside, "blue-bweb", family.web)
            ));
            for _ in 0..3 {
                let question = udp((family.web, 5200), (virtual_ip, 53));
                world.blue.send(&question.frame(GATEWAY, BLUE));
                let seen = udp((&outside, 5200), (app, 53));
                world.app.expect(&seen.hop().frame(APP, GATEWAY));
                let answer = udp((app, 53), (&outside, 5200));
                world.app.send(&answer.frame(GATEWAY, APP));
                let seen = udp((virtual_ip, 53), (family.web, 5200));
                world.blue.expect(&seen.hop().frame(BLUE, GATEWAY));
            }
            world.host.delete("fip", "client");
            world.host.delete("route", "to-service");
            close(world);
        }
    });
}

fn a_virtual_ip_has_several_services_and_one_of_all_other_ports() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family {
                web,
                app,
                far,
                virtual_ip,
                ..
            } = *family;
            serve(world, virtual_ip, &backend(app));
            let rest = service("rest", virtual_ip, "{protocol: udp}", &backend(far));
            world.host.apply(&rest);
            let to_far = |world: &mut Lone, client: u16, port: u16| {
                world
                    .web
                    .send(&udp((web, client), (virtual_ip, port)).frame(GATEWAY, WEB));
                leaves(world, &udp((web, client), (far, port)));
            };
            to_far(world, 5300, 54);
            to_far(world, 5300, 9999);
            to_app(
                world,
                &udp((web, 5300), (virtual_ip, 53)),
                &udp((web, 5300), (app, 53)),
            );
            // The session of a port follows who has it.
            close(world);
            to_far(world, 5300, 53);
            serve(world, virtual_ip, &backend(app));
            to_app(
                world,
                &udp((web, 5300), (virtual_ip, 53)),
                &udp((web, 5300), (app, 53)),
            );
            to_far(world, 5300, 9999);
            world.host.delete("service", "rest");
            is_refused(world, "service-port", &udp((web, 5300), (virtual_ip, 9999)));
            close(world);
        }
    });
}

fn a_virtual_ip_is_the_vrouters_own_for_pings_and_neighbours() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family { web, virtual_ip, .. } = *family;
            // Whether there is a backend or not.
            serve(world, virtual_ip, "");
            let ping = Packet::echo_request(web, virtual_ip, 5400, 1);
            world.web.send(&ping.frame(GATEWAY, WEB));
            let pong = Packet::echo_reply(virtual_ip, web, 5400, 1);
            world.web.expect(&pong.frame(WEB, GATEWAY));
            match virtual_ip.contains(':') {
                false => {
                    world.web.send(&arp_request(WEB, web, virtual_ip));
                    world.web.expect(&arp_reply(GATEWAY, virtual_ip, WEB, web));
                }
                true => {
                    world.web.send(&neighbour_solicitation(WEB, web, virtual_ip));
                    let answer = world.web.receive();
                    let flags = answer[58];
                    let expected = neighbour_advertisement(GATEWAY, virtual_ip, WEB, web, flags);
                    assert!(answer == expected, "{}", difference(&expected, &answer));
                }
            }
            let other = Packet::new(
                ping.source,
                ping.destination,
                50,
                b"no port and no service".to_vec(),
            );
            is_refused(world, "service-port", &other);
            close(world);
        }
    });
}

fn without_a_backend_the_client_is_told() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family {
                web,
                app,
                far,
                virtual_ip,
                gateway,
                ..
            } = *family;
            let question = udp((web, 5500), (virtual_ip, 53));
            let refused = |world: &mut Lone, backends: &str| {
                serve(world, virtual_ip, backends);
                is_refused(world, "no-backend", &question);
            };
            refused(world, "");
            let syn = Packet::tcp(&socket(web, 5501), &socket(virtual_ip, 80), tcp::SYN, b"");
            let frame = syn.frame(GATEWAY, WEB);
            world
                .host
                .expect_drops("no-backend", 1, || world.web.send(&frame));
            let answer = reset((virtual_ip, 80), (web, 5501), tcp::RST | tcp::ACK, 0, 1001);
            world.web.expect(&answer.frame(WEB, GATEWAY));
            let none =
                format!("{{address: \"{app}\", state: down}}, {{address: \"{far}\", state: draining}}");
            refused(world, &none);
            // What stands for others serves nobody.
            world.host.apply(&service(
                "other",
                &virtual_ip.replace("80", "81"),
                PORTS,
                &backend(app),
            ));
            refused(world, &backend(&virtual_ip.replace("80", "81")));
            world.host.delete("service", "other");
            // The vRouter is no backend.
            serve(world, virtual_ip, &backend(gateway));
            let frame = question.frame(GATEWAY, WEB);
            world
                .host
                .expect_drops("no-service", 1, || world.web.send(&frame));
            // And with one it goes on.
            serve(world, virtual_ip, &backend(app));
            to_app(world, &question, &udp((web, 5500), (app, 53)));
            refused(world, "");
            close(world);
        }
    });
}

fn errors_are_translated_with_the_session_that_they_quote() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family {
                web,
                app,
                far,
                virtual_ip,
                ..
            } = *family;
            serve(world, virtual_ip, &backend(app));
            let connect =
                |to: &str, port: u16| Packet::tcp(&socket(web, 5600), &socket(to, port), tcp::SYN, b"");
            to_app(world, &connect(virtual_ip, 80), &connect(app, 8080));
            // By the backend, about what it got: the client gets it from whom it knows, about what it sent.
            let error =
                |from: &str, to: &str, port: u16| Packet::unreachable(from, web, &connect(to, port).bytes());
            to_web(world, &error(app, app, 8080), &error(virtual_ip, virtual_ip, 80));
            // By the client, about an answer.
            let accept = |from: &str, port: u16| {
                let flags = tcp::SYN | tcp::ACK;
                Packet::tcp(&socket(from, port), &socket(web, 5600), flags, b"")
            };
            to_web(world, &accept(app, 8080), &accept(virtual_ip, 80));
            let error = |from: &str, port: u16| Packet::unreachable(web, from, &accept(from, port).bytes());
            to_app(world, &error(virtual_ip, 80), &error(app, 8080));
            // By a router on the way to a backend elsewhere.
            serve(world, virtual_ip, &backend(far));
            world
                .web
                .send(&udp((web, 5601), (virtual_ip, 53)).frame(GATEWAY, WEB));
            leaves(world, &udp((web, 5601), (far, 53)));
            let router = far.replace("12", "250");
            let error = |to: &str| Packet::unreachable(&router, web, &udp((web, 5601), (to, 53)).bytes());
            world.router.send(&way().incoming(&error(far)));
            world.web.expect(&error(virtual_ip).hop().frame(WEB, GATEWAY));
            close(world);
        }
    });
}

fn a_backend_reaches_itself_by_its_service() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family { app, virtual_ip, .. } = *family;
            serve(world, virtual_ip, &backend(app));
            let itself = |world: &mut Lone, sent: &Packet, expected: &Packet| {
                world.app.send(&sent.frame(GATEWAY, APP));
                world.app.expect(&expected.hop().frame(APP, GATEWAY));
            };
            let connect = |from: &str, to: &str, port: u16| {
                Packet::tcp(&socket(from, 5700), &socket(to, port), tcp::SYN, b"")
            };
            let accept = |from: &str, port: u16, to: &str| {
                let flags = tcp::SYN | tcp::ACK;
                Packet::tcp(&socket(from, port), &socket(to, 5700), flags, b"")
            };
            for round in 0..4 {
                itself(
                    world,
                    &connect(app, virtual_ip, 80),
                    &connect(virtual_ip, app, 8080),
                );
                itself(
                    world,
                    &accept(app, 8080, virtual_ip),
                    &accept(virtual_ip, 80, app),
                );
                if round == 1 {
                    // Decided anew, both directions say the same.
                    let more = format!(
                        "{}, {{address: \"{}\", state: draining}}",
                        backend(app),
                        family.far
                    );
                    serve(world, virtual_ip, &more);
                }
            }
            close(world);
        }
    });
}

fn policies_judge_what_each_end_sees() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let Family {
                web, app, virtual_ip, ..
            } = *family;
            serve(world, virtual_ip, &backend(app));
            let length = if virtual_ip.contains(':') { 128 } else { 32 };
            let client = format!(
                "direction: egress, action: allow, protocol: tcp, remote: {{prefix: \"{virtual_ip}/{length}\"}}, \
                 destination_ports: [{{first: 80}}]"
            );
            let server = format!(
                "direction: ingress, action: allow, protocol: tcp, remote: {{prefix: \"{web}/{length}\"}}, \
                 destination_ports: [{{first: 8080}}]"
            );
            define(world, "client", &[&client], "default_egress: deny");
            define(world, "server", &[&server], "default_ingress: deny");
            give(world, "web", &["client"]);
            give(world, "app", &["server"]);
            let connect =
                |to: &str, port: u16| Packet::tcp(&socket(web, 5900), &socket(to, port), tcp::SYN, b"");
            let accept = |from: &str, port: u16| {
                let flags = tcp::SYN | tcp::ACK;
                Packet::tcp(&socket(from, port), &socket(web, 5900), flags, b"")
            };
            for _ in 0..2 {
                to_app(world, &connect(virtual_ip, 80), &connect(app, 8080));
                to_web(world, &accept(app, 8080), &accept(virtual_ip, 80));
            }
            let denied = |world: &mut Lone, packet: &Packet| {
                let frame = packet.frame(GATEWAY, WEB);
                world
                    .host
                    .expect_drops("policy-denied", 1, || world.web.send(&frame));
                world.app.expect_nothing();
            };
            denied(world, &connect(app, 8080));
            denied(world, &udp((web, 5901), (virtual_ip, 53)));
            // The server's policy changes: the session that runs ends.
            define(world, "server", &[], "default_ingress: deny");
            denied(world, &connect(virtual_ip, 80));
            clean(world, &["client", "server"]);
            close(world);
        }
    });
}

fn the_listing_shows_who_serves_and_both_sides() {
    in_world(|world: &mut Lone| {
        let Family {
            web,
            app,
            far,
            virtual_ip,
            ..
        } = FAMILIES[0];
        let backends = format!(
            "{{address: {app}, port: red-app, weight: 3}}, {{address: {far}, state: draining}}, \
             {{address: 10.0.0.77, port: missing}}"
        );
        serve(world, virtual_ip, &backends);
        let connect =
            |to: &str, port: u16, flags| Packet::tcp(&socket(web, 5800), &socket(to, port), flags, b"");
        for flags in [tcp::SYN, tcp::ACK] {
            to_app(world, &connect(virtual_ip, 80, flags), &connect(app, 8080, flags));
        }
        to_app(
            world,
            &udp((web, 5801), (virtual_ip, 53)),
            &udp((web, 5801), (app, 53)),
        );
        let stats = world.host.json("get services web")["stats"][0].take();
        let backends = rows(&stats["backends"]);
        let counts: Vec<_> = backends
            .iter()
            .map(|row| {
                (
                    text(row, "address"),
                    number(row, "sessions"),
                    number(row, "opened"),
                )
            })
            .collect();
        assert_eq!(counts, [(app.to_owned(), 2, 2), (far.to_owned(), 0, 0)]);
        let described = world.host.show("describe service web");
        for line in [
            "10.0.0.2   red-app       3  up               2       2",
            "10.0.0.12  -             1  draining         0       0",
            "10.0.0.77  missing       1  left out         -       -",
        ] {
            assert!(described.contains(line), "{described}");
        }
        let flows = world.host.json("get flows --match proto=tcp,sport=5800");
        let flow = rows(&flows["flows"]).remove(0);
        assert_eq!(
            (
                text(&flow, "destination"),
                number(&flow, "destination_port"),
                text(&flow, "translated_destination"),
                number(&flow, "translated_destination_port"),
            ),
            (virtual_ip.to_owned(), 80, app.to_owned(), 8080)
        );
        // A session that is over is nobody's.
        to_app(
            world,
            &connect(virtual_ip, 80, tcp::RST),
            &connect(app, 8080, tcp::RST),
        );
        weft_tests::eventually("the reset session is gone", || {
            let stats = world.host.json("get services web")["stats"][0].take();
            (number(&rows(&stats["backends"])[0], "sessions") == 1).then_some(())
        });
        close(world);
    });
}
