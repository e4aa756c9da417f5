//! `weft trace --what-if`: what is foreseen is what happens, and asking changes nothing.

use serde_json::Value;
use weft_tests::{
    frame::{Packet, tcp},
    host::{number, text},
    lone::{GATEWAY, Lone, ROUTER, UPLINK, WEB, ways},
    world::in_world,
};

use super::{
    nat::{leaves, publish, take_all, withdraw},
    policy::{ADDRESSES, clean, define, denied_to_app, give, socket, syn, to_app, to_web, udp},
};

super::scenarios! {
    a_verdict_is_foreseen_with_its_rule: [],
    a_route_is_foreseen_down_to_the_tunnel: [],
    a_session_is_foreseen_to_go_on_or_to_end: [],
    a_translation_is_foreseen_down_to_the_port: [],
    what_cannot_be_asked_is_refused_with_the_part_named: [],
}

/// What asking could change.
fn tables(world: &Lone) -> (u64, u64, Value, Value, Value) {
    let tables = world.host.json("get tables")["tables"].take();
    (
        // Those of tests before may grow too old meanwhile.
        number(&tables, "sessions") + number(&tables, "sessions_expired"),
        number(&tables, "sessions_created"),
        world.host.json("get drops"),
        world.host.json("get policies"),
        world.host.json("get nat-pools"),
    )
}

/// Asks, and holds against it that nothing has changed and nothing was sent.
fn ask(world: &mut Lone, from: &str, packet: &str) -> Value {
    let before = tables(world);
    let reply = world
        .host
        .weft(&format!("trace --what-if --from {from} {packet} -o json"));
    let answer: Value =
        serde_json::from_str(&reply.output).unwrap_or_else(|error| panic!("{error}: {reply}"));
    let is_dropped = !text(&answer, "drop_reason").is_empty();
    assert_eq!(reply.status.code(), Some(i32::from(is_dropped)), "{reply}");
    assert_eq!(tables(world), before, "asking has changed something");
    for wire in [&mut world.web, &mut world.app, &mut world.router] {
        wire.expect_nothing();
    }
    answer
}

fn in_words(protocol: &str, from: (&str, u16), to: (&str, u16)) -> String {
    format!("{protocol} {} > {}", socket(from.0, from.1), socket(to.0, to.1))
}

/// Who said what: `ingress of red-app: allow, guard 2 (dns)`, one after the other.
fn verdicts(answer: &Value) -> Vec<String> {
    let verdict = |verdict: &Value| {
        let word = |field: &str| {
            let value = text(verdict, field).to_lowercase();
            value.rsplit('_').next().unwrap_or_default().to_owned()
        };
        format!(
            "{} of {}: {}, {} {} ({})",
            word("direction"),
            text(verdict, "port"),
            word("action"),
            text(verdict, "policy"),
            number(verdict, "rule"),
            text(verdict, "rule_name"),
        )
    };
    answer["policies"]
        .as_array()
        .map_or_else(Vec::new, |all| all.iter().map(verdict).collect())
}

/// `red 10.0.0.2/32 port red-app`, one after the other.
fn routes(answer: &Value) -> Vec<String> {
    let route = |lookup: &Value| {
        let words = ["vrf", "prefix", "next_hop"].map(|field| text(lookup, field));
        words.join(" ")
    };
    answer["lookups"]
        .as_array()
        .map_or_else(Vec::new, |all| all.iter().map(route).collect())
}

fn reason(answer: &Value) -> String {
    text(answer, "drop_reason")
}

fn a_verdict_is_foreseen_with_its_rule() {
    in_world(|world: &mut Lone| {
        define(
            world,
            "guard",
            &[
                "direction: egress, action: allow",
                "name: dns, direction: ingress, action: allow, protocol: udp, destination_ports: [{first: 53}]",
                "direction: ingress, action: reject, protocol: tcp, destination_ports: [{first: 80}]",
                "direction: ingress, action: allow, protocol: icmp",
                "direction: ingress, action: allow, protocol: icmpv6",
            ],
            "default_ingress: deny",
        );
        define(world, "mute", &[], "default_egress: deny, default_ingress: allow");
        give(world, "app", &["guard"]);
        for (web, app) in ADDRESSES {
            let host = if web.contains(':') { 128 } else { 32 };
            let route = vec![format!("red {app}/{host} port red-app")];
            let answer = ask(world, "red-web", &in_words("udp", (web, 7), (app, 53)));
            assert_eq!(verdicts(&answer), ["ingress of red-app: allow, guard 2 (dns)"]);
            assert_eq!(routes(&answer), route);
            assert_eq!(
                (text(&answer, "port"), reason(&answer)),
                ("red-app".into(), String::new())
            );
            assert!(answer["session"].is_null(), "{answer}");
            to_app(world, &udp((web, 7), (app, 53)));

            let answer = ask(world, "red-web", &in_words("udp", (web, 7), (app, 54)));
            assert_eq!(verdicts(&answer), ["ingress of red-app: deny, guard 0 ()"]);
            assert_eq!(
                (routes(&answer), reason(&answer)),
                (route, "policy-denied".into())
            );
            denied_to_app(world, &udp((web, 7), (app, 54)));

            let answer = ask(world, "red-web", &in_words("tcp", (web, 7), (app, 80)));
            assert_eq!(verdicts(&answer), ["ingress of red-app: reject, guard 3 ()"]);
            assert_eq!(reason(&answer), "policy-rejected");
            let frame = syn((web, 7), (app, 80)).frame(GATEWAY, WEB);
            world
                .host
                .expect_drops("policy-rejected", 1, || world.web.send(&frame));
            world.web.receive();

            let answer = ask(world, "red-web", &format!("icmp {web} > {app} id 99"));
            assert_eq!((reason(&answer), verdicts(&answer).len()), (String::new(), 1));
            to_app(world, &Packet::echo_request(web, app, 99, 1));
        }
        // The first to say no is the last to be asked.
        give(world, "web", &["mute"]);
        let (web, app) = ADDRESSES[0];
        let answer = ask(world, "red-web", &in_words("udp", (web, 8), (app, 53)));
        assert_eq!(verdicts(&answer), ["egress of red-web: deny, mute 0 ()"]);
        denied_to_app(world, &udp((web, 8), (app, 53)));
        give(world, "web", &["missing"]);
        let answer = ask(world, "red-web", &in_words("udp", (web, 8), (app, 53)));
        assert_eq!(verdicts(&answer), ["egress of red-web: deny,  0 ()"]);
        denied_to_app(world, &udp((web, 8), (app, 53)));
        clean(world, &["guard", "mute"]);
    });
}

fn a_route_is_foreseen_down_to_the_tunnel() {
    in_world(|world: &mut Lone| {
        for way in ways() {
            for (v6, web) in [(false, "10.0.0.1"), (true, "fd00:1::1")] {
                let (far, host) = (way.inner(v6), if v6 { 128 } else { 32 });
                let answer = ask(world, "red-web", &in_words("udp", (web, 70), (&far, 71)));
                let header = match way.name.split_once('-').map(|(_, rest)| rest.starts_with("udp")) {
                    _ if way.name.starts_with("vxlan") => "VXLAN VNI 100",
                    Some(true) => "MPLS over UDP, label 1000",
                    _ => "MPLS over GRE, label 1000",
                };
                let tunnel = format!("tunnel to {}, {}, {header}", way.name, way.remote);
                assert_eq!(text(&answer, "next_hop"), tunnel);
                assert_eq!(text(&answer, "port"), "uplink");
                assert_eq!(routes(&answer), [format!("red {far}/{host} {tunnel}")]);
                let sent = udp((web, 70), (&far, 71));
                world.web.send(&sent.frame(GATEWAY, WEB));
                let frame = world.router.receive();
                assert_eq!(frame, way.outgoing(&sent.hop(), &frame).frame(ROUTER, UPLINK));
            }
        }
        let (web, _) = ADDRESSES[0];
        let mut dropped = |packet: Packet, words: &str, expected: &str| {
            let answer = ask(world, "red-web", words);
            assert_eq!(reason(&answer), expected);
            let frame = packet.frame(GATEWAY, WEB);
            world.host.expect_drops(expected, 1, || world.web.send(&frame));
            routes(&answer)
        };
        let nowhere = udp((web, 1), ("172.16.0.1", 2));
        let routes = dropped(nowhere, "udp 10.0.0.1:1 > 172.16.0.1:2", "no-route");
        assert_eq!(routes, ["red  nowhere"]);
        let gateway = udp((web, 1), ("10.0.0.254", 2));
        dropped(gateway, "udp 10.0.0.1:1 > 10.0.0.254:2", "no-service");
        let everybody = udp((web, 1), ("224.0.0.5", 2));
        dropped(everybody, "udp 10.0.0.1:1 > 224.0.0.5:2", "not-flooded");
        let answer = ask(world, "red-web", "icmp 10.0.0.1 > 10.0.0.254");
        assert_eq!(
            (text(&answer, "next_hop"), reason(&answer)),
            ("the vRouter".into(), String::new())
        );
        // Nobody is asked where a neighbour is.
        world.host.apply(
            "kind: Route\nname: to-underlay\nspec: {vrf: red, prefix: 198.18.0.0/24, next_hop: {vrf: underlay}}\n",
        );
        let answer = ask(world, "red-web", "udp 10.0.0.1:1 > 198.18.0.77:2");
        assert_eq!(reason(&answer), "neighbour-unresolved");
        assert_eq!(
            self::routes(&answer),
            [
                "red 198.18.0.0/24 VRF underlay",
                "underlay 198.18.0.0/24 port uplink"
            ]
        );
        world.host.delete("route", "to-underlay");
    });
}

fn a_session_is_foreseen_to_go_on_or_to_end() {
    in_world(|world: &mut Lone| {
        let defaults = "default_ingress: deny, default_egress: deny";
        define(
            world,
            "guard",
            &["direction: ingress, action: allow, protocol: udp"],
            defaults,
        );
        give(world, "app", &["guard"]);
        for (web, app) in ADDRESSES {
            let (there, back) = (
                in_words("udp", (web, 4711), (app, 53)),
                in_words("udp", (app, 53), (web, 4711)),
            );
            let answer = ask(world, "red-app", &back);
            assert_eq!(
                (reason(&answer), answer["session"].is_null()),
                ("policy-denied".into(), true)
            );
            to_app(world, &udp((web, 4711), (app, 53)));
            let answer = ask(world, "red-web", &there);
            let known = |answer: &Value| {
                let session = &answer["session"];
                (session["initiator"] == true, session["holds"] == true)
            };
            assert_eq!((known(&answer), reason(&answer)), ((true, true), String::new()));
            let answer = ask(world, "red-app", &back);
            assert_eq!((known(&answer), reason(&answer)), ((false, true), String::new()));
            assert_eq!(verdicts(&answer), ["ingress of red-app: allow, guard 1 ()"]);
            to_web(world, &udp((app, 53), (web, 4711)));
            // A change ends it, but asking does not.
            define(world, "guard", &[], defaults);
            for _ in 0..2 {
                let answer = ask(world, "red-web", &there);
                assert_eq!(
                    (known(&answer), reason(&answer)),
                    ((true, false), "policy-denied".into())
                );
            }
            denied_to_app(world, &udp((web, 4711), (app, 53)));
            assert!(ask(world, "red-web", &there)["session"].is_null());
            define(
                world,
                "guard",
                &["direction: ingress, action: allow, protocol: udp"],
                defaults,
            );
        }
        clean(world, &["guard"]);
    });
}

fn a_translation_is_foreseen_down_to_the_port() {
    const REMOTE: &str = "203.0.113.99";
    in_world(|world: &mut Lone| {
        publish(world);
        let answer = ask(
            world,
            "red-web",
            &in_words("tcp", ("10.0.0.1", 4000), (REMOTE, 80)),
        );
        let translation = &answer["translation"];
        assert_eq!(
            (
                text(translation, "source"),
                number(translation, "source_port"),
                text(translation, "source_by")
            ),
            ("203.0.113.1".into(), 4000, "web-0".into())
        );
        assert_eq!(
            routes(&answer),
            [
                "red 203.0.113.0/24 VRF public",
                "public 203.0.113.0/24 tunnel to vxlan, 198.18.0.2, VXLAN VNI 300"
            ]
        );
        let segment = |from: &str, port| Packet::tcp(&socket(from, port), &socket(REMOTE, 80), tcp::SYN, b"");
        leaves(world, &segment("10.0.0.1", 4000), &segment("203.0.113.1", 4000));
        // To the floating IP of another: both are translated.
        let answer = ask(
            world,
            "red-web",
            &in_words("udp", ("10.0.0.1", 5), ("203.0.113.2", 6)),
        );
        let translation = &answer["translation"];
        assert_eq!(
            ["source", "source_by", "destination", "destination_by"].map(|field| text(translation, field)),
            ["203.0.113.1", "web-0", "10.0.0.2", "app-0"]
        );
        assert_eq!(text(&answer, "port"), "red-app");
        take_all(world);
        world.host.apply(
            "kind: NatPool\nname: shared\nspec: {vrf: public, addresses: [203.0.113.64/32], inside_vrf: red, \
             sources: [10.0.0.0/24], first_port: 5000, last_port: 5015, block_size: 16}\n",
        );
        for port in 4001..4005 {
            let answer = ask(
                world,
                "red-web",
                &in_words("tcp", ("10.0.0.1", port), (REMOTE, 80)),
            );
            let translation = &answer["translation"];
            assert_eq!(
                (text(translation, "source"), text(translation, "source_by")),
                ("203.0.113.64".into(), "shared".into())
            );
            let mapped = number(translation, "source_port") as u16;
            leaves(
                world,
                &segment("10.0.0.1", port),
                &segment("203.0.113.64", mapped),
            );
        }
        // Somebody else has the only block.
        let answer = ask(world, "red-app", &in_words("tcp", ("10.0.0.2", 1), (REMOTE, 80)));
        assert_eq!(reason(&answer), "nat-exhausted");
        let answer = ask(
            world,
            "red-app",
            &in_words("udp", ("10.0.0.2", 1), ("203.0.113.64", 80)),
        );
        assert_eq!(reason(&answer), "nat-no-session");
        world.host.delete("nat-pool", "shared");
        super::nat::give_all(world);
        withdraw(world);
    });
}

fn what_cannot_be_asked_is_refused_with_the_part_named() {
    in_world(|world: &mut Lone| {
        for (from, packet, error) in [
            (
                "red-web",
                "tcp 10.0.0.1 > 10.0.0.2:80",
                "source: 10.0.0.1 has no port",
            ),
            (
                "red-web",
                "tcp 10.0.0.1:1 > fd00::1",
                "destination: fd00::1 has no port",
            ),
            (
                "nobody",
                "icmp 10.0.0.1 > 10.0.0.2",
                "port \"nobody\" does not exist",
            ),
            (
                "uplink",
                "icmp 10.0.0.1 > 10.0.0.2",
                "port \"uplink\" does not exist, or is no tenant's",
            ),
        ] {
            let reply = world
                .host
                .weft(&format!("trace --what-if --from {from} {packet}"));
            assert!(!reply.status.success() && reply.errors.contains(error), "{reply}");
        }
        let lines = world
            .host
            .show("trace --what-if --from red-web udp 10.0.0.1:1 > 10.0.0.2:53");
        let expected = "packet      udp 10.0.0.1:1 > 10.0.0.2:53 from red-web\n\
                        session     none yet\n\
                        route       red: 10.0.0.2/32 to port red-app\n\
                        forwarded   port red-app\n";
        assert_eq!(lines, expected);
    });
}
