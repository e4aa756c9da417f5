//! Policies: who may open a session, what answers it, and what a change does to sessions that run.

use weft_tests::{
    container::TapPort,
    frame::{Mac, Outer, Packet, Tunnel, tcp},
    lone::{APP, GATEWAY, Lone, ROUTER, UPLINK, WEB, ways},
    wire::Wire,
    world::in_world,
};

use super::restart::TwoHosts;

super::scenarios! {
    only_what_a_rule_allows_reaches_a_port: [],
    a_port_opens_only_what_its_policy_allows: [],
    answers_pass_and_nothing_else_in_their_name: [],
    a_changed_policy_ends_a_session_in_both_directions: [],
    a_port_whose_policy_does_not_exist_has_no_session: [],
    what_comes_out_of_a_tunnel_is_judged_at_its_port: [],
    packet_mode_judges_each_packet_by_itself: [],
    the_hits_say_which_rule_it_was: [],
    a_policy_holds_between_two_hosts: [],
}

pub const ADDRESSES: [(&str, &str); 2] = [("10.0.0.1", "10.0.0.2"), ("fd00:1::1", "fd00:1::2")];

/// A container of the world with these policies.
pub fn give(world: &Lone, container: &str, policies: &[&str]) {
    let (mac, host) = match container {
        "web" => ("02:00:00:00:01:01", "1"),
        _ => ("02:00:00:00:01:02", "2"),
    };
    let (v4, v6) = (format!("10.0.0.{host}"), format!("fd00:1::{host}"));
    let port = TapPort {
        more: format!("policies: [{}]", policies.join(", ")),
        ..TapPort::new("red", container, mac, &[&v4, &v6])
    };
    world.host.apply(&port.yaml(&world.guests));
}

/// Defines a policy by its rules in YAML's braces.
pub fn define(world: &Lone, name: &str, rules: &[&str], defaults: &str) {
    world.host.apply(&policy(name, rules, defaults));
}

pub fn policy(name: &str, rules: &[&str], defaults: &str) -> String {
    let rules: Vec<String> = rules.iter().map(|rule| format!("{{{rule}}}")).collect();
    format!(
        "kind: Policy\nname: {name}\nspec: {{rules: [{}], {defaults}}}\n",
        rules.join(", ")
    )
}

/// Nobody has a policy any more.
pub fn clean(world: &Lone, policies: &[&str]) {
    give(world, "web", &[]);
    give(world, "app", &[]);
    for policy in policies {
        world.host.delete("policy", policy);
    }
}

/// Passes from one container to the other.
fn passes(from: (&Wire, Mac), to: (&mut Wire, Mac), packet: &Packet) {
    from.0.send(&packet.frame(GATEWAY, from.1));
    to.0.expect(&packet.hop().frame(to.1, GATEWAY));
}

pub fn to_app(world: &mut Lone, packet: &Packet) {
    passes((&world.web, WEB), (&mut world.app, APP), packet);
}

pub fn to_web(world: &mut Lone, packet: &Packet) {
    passes((&world.app, APP), (&mut world.web, WEB), packet);
}

/// Is dropped on its way to app, and counted as that.
pub fn denied_to_app(world: &mut Lone, packet: &Packet) {
    let frame = packet.frame(GATEWAY, WEB);
    world
        .host
        .expect_drops("policy-denied", 1, || world.web.send(&frame));
    world.app.expect_nothing();
}

fn denied_to_web(world: &mut Lone, packet: &Packet) {
    let frame = packet.frame(GATEWAY, APP);
    world
        .host
        .expect_drops("policy-denied", 1, || world.app.send(&frame));
    world.web.expect_nothing();
}

pub fn socket(address: &str, port: u16) -> String {
    match address.contains(':') {
        true => format!("[{address}]:{port}"),
        false => format!("{address}:{port}"),
    }
}

pub fn udp(from: (&str, u16), to: (&str, u16)) -> Packet {
    Packet::udp(&socket(from.0, from.1), &socket(to.0, to.1), b"data")
}

pub fn syn(from: (&str, u16), to: (&str, u16)) -> Packet {
    Packet::tcp(&socket(from.0, from.1), &socket(to.0, to.1), tcp::SYN, b"")
}

fn only_what_a_rule_allows_reaches_a_port() {
    in_world(|world: &mut Lone| {
        define(
            world,
            "guard",
            &[
                "direction: ingress, action: deny, protocol: tcp, destination_ports: [{first: 8080}]",
                "direction: ingress, action: allow, protocol: tcp, \
                 destination_ports: [{first: 80}, {first: 8000, last: 8100}]",
                "direction: ingress, action: allow, protocol: udp, source_ports: [{first: 1024, last: 65535}], \
                 remote: {prefix: 10.0.0.0/24, except: [10.0.0.64/26]}",
                "direction: ingress, action: allow, protocol: udp, remote: {prefix: \"fd00:1::/64\"}, \
                 destination_ports: [{first: 53}]",
                "direction: ingress, action: allow, protocol: icmp, icmp_type: 8",
                "direction: ingress, action: allow, protocol: \"47\", local: {prefix: 10.0.0.2/32}",
            ],
            "default_ingress: deny, default_egress: allow",
        );
        give(world, "app", &["guard"]);
        let (web, app) = ADDRESSES[0];
        let (web6, app6) = ADDRESSES[1];
        let port = 40_000;
        for (web, app) in ADDRESSES {
            to_app(world, &syn((web, port), (app, 80)));
            to_app(world, &syn((web, port), (app, 8000)));
            to_app(world, &syn((web, port), (app, 8100)));
            denied_to_app(world, &syn((web, port), (app, 8080)));
            denied_to_app(world, &syn((web, port), (app, 8101)));
            denied_to_app(world, &syn((web, port), (app, 443)));
        }
        to_app(world, &udp((web, 1024), (app, 7)));
        denied_to_app(world, &udp((web, 1023), (app, 7)));
        to_app(world, &udp(("10.0.0.63", 5000), (app, 7)));
        denied_to_app(world, &udp(("10.0.0.64", 5000), (app, 7)));
        denied_to_app(world, &udp(("10.0.0.127", 5000), (app, 7)));
        to_app(world, &udp(("10.0.0.128", 5000), (app, 7)));
        denied_to_app(world, &udp(("10.0.1.1", 5000), (app, 7)));
        to_app(world, &udp((web6, 53), (app6, 53)));
        denied_to_app(world, &udp((web6, 5000), (app6, 7)));
        to_app(world, &Packet::echo_request(web, app, 1, 1));
        denied_to_app(world, &Packet::echo_request(web6, app6, 1, 1));
        let plain = |protocol| {
            let packet = udp((web, 1), (app, 1));
            Packet::new(packet.source, packet.destination, protocol, vec![1; 40])
        };
        to_app(world, &plain(47));
        denied_to_app(world, &plain(50));
        // What app opens itself is allowed, and what answers it.
        for (web, app) in ADDRESSES {
            to_web(world, &udp((app, 9), (web, 9)));
            to_app(world, &udp((web, 9), (app, 9)));
        }
        clean(world, &["guard"]);
        to_app(world, &syn((web, port), (app, 443)));
    });
}

fn a_port_opens_only_what_its_policy_allows() {
    in_world(|world: &mut Lone| {
        define(
            world,
            "quiet",
            &[
                "direction: egress, action: allow, protocol: udp, destination_ports: [{first: 53}]",
                "direction: egress, action: allow, protocol: icmpv6, icmp_type: 128, icmp_code: 0",
            ],
            "default_ingress: allow, default_egress: deny",
        );
        give(world, "web", &["quiet"]);
        for (web, app) in ADDRESSES {
            to_app(world, &udp((web, 1), (app, 53)));
            to_web(world, &udp((app, 53), (web, 1)));
            denied_to_app(world, &udp((web, 1), (app, 54)));
            denied_to_app(world, &syn((web, 1), (app, 53)));
            // Others may open sessions to it, and it answers.
            to_web(world, &syn((app, 2), (web, 22)));
            to_app(
                world,
                &Packet::tcp(&socket(web, 22), &socket(app, 2), tcp::SYN | tcp::ACK, b""),
            );
        }
        let (web6, app6) = ADDRESSES[1];
        to_app(world, &Packet::echo_request(web6, app6, 1, 1));
        // The vRouter is somebody else, too.
        let ping = |gateway, web| Packet::echo_request(web, gateway, 1, 1).frame(GATEWAY, WEB);
        world.host.expect_drops("policy-denied", 1, || {
            world.web.send(&ping("10.0.0.254", "10.0.0.1"))
        });
        world.web.send(&ping("fd00:1::fe", "fd00:1::1"));
        assert_eq!(world.web.receive()[54], 129, "an echo reply");
        world.web.expect_nothing();
        // And so is who is reached through a tunnel.
        let way = &ways()[0];
        let denied = udp(("10.0.0.1", 1), (&way.inner(false), 54)).frame(GATEWAY, WEB);
        world
            .host
            .expect_drops("policy-denied", 1, || world.web.send(&denied));
        let allowed = udp(("10.0.0.1", 1), (&way.inner(false), 53));
        world.web.send(&allowed.frame(GATEWAY, WEB));
        let sent = world.router.receive();
        assert_eq!(sent, way.outgoing(&allowed.hop(), &sent).frame(ROUTER, UPLINK));
        clean(world, &["quiet"]);
    });
}

fn answers_pass_and_nothing_else_in_their_name() {
    in_world(|world: &mut Lone| {
        define(world, "shut", &[], "default_ingress: deny, default_egress: allow");
        give(world, "web", &["shut"]);
        for (web, app) in ADDRESSES {
            // Without a question there is no answer.
            denied_to_web(world, &udp((app, 53), (web, 7711)));
            denied_to_web(world, &Packet::echo_reply(app, web, 7713, 1));
            to_app(world, &udp((web, 7711), (app, 53)));
            to_web(world, &udp((app, 53), (web, 7711)));
            denied_to_web(world, &udp((app, 53), (web, 7712)));
            denied_to_web(world, &udp((app, 54), (web, 7711)));
            // A ping is answered; a ping back under the same identifier is no answer.
            to_app(world, &Packet::echo_request(web, app, 7713, 1));
            to_web(world, &Packet::echo_reply(app, web, 7713, 1));
            denied_to_web(world, &Packet::echo_request(app, web, 7713, 1));
            denied_to_web(world, &Packet::echo_reply(app, web, 7714, 1));
            to_web(world, &Packet::echo_reply(app, web, 7713, 2));
        }
        // Whoever takes the address of him who was asked does not answer in his place.
        let spoofer: Mac = [2, 0, 0, 0, 1, 9];
        let liar = world.host.raw_tap(
            &world.guests,
            &TapPort::new("red", "liar", "02:00:00:00:01:09", &["10.0.0.9"]),
        );
        let (web, app) = ADDRESSES[0];
        let lie = udp((app, 53), (web, 7711)).frame(GATEWAY, spoofer);
        world.host.expect_drops("policy-denied", 1, || liar.send(&lie));
        world.web.expect_nothing();
        to_web(world, &udp((app, 53), (web, 7711)));
        world.host.delete("port", "red-liar");
        clean(world, &["shut"]);
    });
}

fn a_changed_policy_ends_a_session_in_both_directions() {
    in_world(|world: &mut Lone| {
        let allow = ["direction: ingress, action: allow, protocol: udp"];
        let deny = ["direction: ingress, action: deny, protocol: udp, destination_ports: [{first: 53}]"];
        let defaults = "default_ingress: deny, default_egress: allow";
        let [keep, end] = [allow, deny].map(|rules| policy("guard", &rules, defaults));
        world.host.apply(&keep);
        give(world, "app", &["guard"]);
        for (web, app) in ADDRESSES {
            let (question, answer) = (udp((web, 77), (app, 53)), udp((app, 53), (web, 77)));
            // The question first, then the answer first.
            for ends_with in [&question, &answer] {
                to_app(world, &question);
                to_web(world, &answer);
                world.host.apply(&end);
                match std::ptr::eq(ends_with, &question) {
                    true => denied_to_app(world, &question),
                    false => denied_to_web(world, &answer),
                }
                denied_to_app(world, &question);
                world.host.apply(&keep);
            }
            // A change that leaves the session alone.
            to_app(world, &question);
            world.host.apply(&policy(
                "guard",
                &["direction: ingress, action: allow, protocol: udp, destination_ports: [{first: 53}]"],
                defaults,
            ));
            to_web(world, &answer);
            to_app(world, &question);
            world.host.apply(&keep);
        }
        // The other side's policy is as good.
        let (web, app) = ADDRESSES[0];
        let (question, answer) = (udp((web, 78), (app, 53)), udp((app, 53), (web, 78)));
        to_app(world, &question);
        to_web(world, &answer);
        define(world, "mute", &[], "default_ingress: allow, default_egress: deny");
        give(world, "web", &["mute"]);
        denied_to_web(world, &answer);
        denied_to_app(world, &question);
        give(world, "web", &[]);
        to_app(world, &question);
        to_web(world, &answer);
        clean(world, &["guard", "mute"]);
    });
}

fn a_port_whose_policy_does_not_exist_has_no_session() {
    in_world(|world: &mut Lone| {
        let (web, app) = ADDRESSES[0];
        let (question, answer) = (udp((web, 79), (app, 53)), udp((app, 53), (web, 79)));
        to_app(world, &question);
        to_web(world, &answer);
        give(world, "app", &["later"]);
        let status = world.host.show("describe port red-app");
        assert!(
            status.contains("no session is allowed: waits for policy \"later\", which does not exist"),
            "{status}"
        );
        denied_to_web(world, &answer);
        denied_to_app(world, &question);
        denied_to_web(world, &udp((app, 1), (web, 1)));
        define(
            world,
            "later",
            &["direction: ingress, action: allow, protocol: udp"],
            "default_egress: deny",
        );
        to_app(world, &question);
        to_web(world, &answer);
        denied_to_web(world, &udp((app, 1), (web, 1)));
        let refused = world.host.weft("delete policy later");
        assert!(
            refused
                .errors
                .contains("policy \"later\" is still used by port \"red-app\""),
            "{refused}"
        );
        clean(world, &["later"]);
    });
}

fn what_comes_out_of_a_tunnel_is_judged_at_its_port() {
    in_world(|world: &mut Lone| {
        define(
            world,
            "guard",
            &["direction: ingress, action: allow, protocol: udp, destination_ports: [{first: 53}]"],
            "default_ingress: deny, default_egress: allow",
        );
        give(world, "web", &["guard"]);
        give(world, "app", &["guard"]);
        for way in ways() {
            let far = way.inner(false);
            let (allowed, denied) = (udp((&far, 1), ("10.0.0.1", 53)), udp((&far, 1), ("10.0.0.1", 54)));
            world.router.send(&way.incoming(&allowed));
            world.web.expect(&allowed.hop().frame(WEB, GATEWAY));
            world
                .host
                .expect_drops("policy-denied", 1, || world.router.send(&way.incoming(&denied)));
            // Answers leave by the tunnel, and those to web's own questions come back.
            let answer = udp(("10.0.0.1", 53), (&far, 1));
            world.web.send(&answer.frame(GATEWAY, WEB));
            let sent = world.router.receive();
            assert_eq!(sent, way.outgoing(&answer.hop(), &sent).frame(ROUTER, UPLINK));
            let question = udp(("10.0.0.1", 54), (&far, 1));
            world.web.send(&question.frame(GATEWAY, WEB));
            world.router.receive();
            world.router.send(&way.incoming(&denied));
            world.web.expect(&denied.hop().frame(WEB, GATEWAY));
        }
        // A number that leads straight to a port leads past no policy.
        world
            .host
            .apply("kind: Vni\nname: app\nspec: {vni: 777, target: {port: red-app}}\n");
        let way = &ways()[0];
        let tunnel = Tunnel::Vxlan {
            vni: 777,
            destination: APP,
            source: GATEWAY,
        };
        let straight = |packet: &Packet| {
            let outer = Outer::new(way.remote, way.local).carry(&tunnel, packet);
            outer.frame(UPLINK, ROUTER)
        };
        let far = way.inner(false);
        let (allowed, denied) = (udp((&far, 2), ("10.0.0.2", 53)), udp((&far, 2), ("10.0.0.2", 54)));
        for _ in 0..2 {
            world.router.send(&straight(&allowed));
            world.app.expect(&allowed.hop().frame(APP, GATEWAY));
            world
                .host
                .expect_drops("policy-denied", 1, || world.router.send(&straight(&denied)));
        }
        let question = udp(("10.0.0.2", 54), (&far, 2));
        world.app.send(&question.frame(GATEWAY, APP));
        world.router.receive();
        for _ in 0..2 {
            world.router.send(&straight(&denied));
            world.app.expect(&denied.hop().frame(APP, GATEWAY));
        }
        give(world, "app", &[]);
        let other = udp((&far, 3), ("10.0.0.2", 55));
        world.router.send(&straight(&other));
        world.app.expect(&other.hop().frame(APP, GATEWAY));
        world.host.delete("vni", "app");
        clean(world, &["guard"]);
    });
}

fn packet_mode_judges_each_packet_by_itself() {
    in_world(|world: &mut Lone| {
        define(
            world,
            "guard",
            &[
                "direction: ingress, action: deny, protocol: udp, destination_ports: [{first: 54}]",
                "direction: egress, action: allow, protocol: udp, source_ports: [{first: 53}]",
            ],
            "default_ingress: allow, default_egress: deny",
        );
        give(world, "app", &["guard"]);
        world
            .host
            .apply("kind: Vrf\nname: red\nspec: {packet_mode: true}\n");
        let (web, app) = ADDRESSES[0];
        to_app(world, &udp((web, 1), (app, 53)));
        to_web(world, &udp((app, 53), (web, 1)));
        denied_to_app(world, &udp((web, 1), (app, 54)));
        to_app(world, &udp((web, 1), (app, 55)));
        // It has no session whose answer it would be.
        denied_to_web(world, &udp((app, 55), (web, 1)));
        // A fragment without ports may be of a session that is denied.
        let fragment = udp((web, 1), (app, 53)).with_fragment(100);
        world
            .host
            .expect_drops("fragment", 1, || world.web.send(&fragment.frame(GATEWAY, WEB)));
        world
            .host
            .apply("kind: Vrf\nname: red\nspec: {packet_mode: false}\n");
        clean(world, &["guard"]);
    });
}

fn the_hits_say_which_rule_it_was() {
    in_world(|world: &mut Lone| {
        let rules = [
            "direction: ingress, action: allow, protocol: udp, destination_ports: [{first: 53}]",
            "direction: ingress, action: deny, protocol: udp",
        ];
        define(
            world,
            "guard",
            &rules,
            "default_ingress: allow, default_egress: allow",
        );
        give(world, "app", &["guard"]);
        let (web, app) = ADDRESSES[0];
        for port in [2001, 2002, 2003] {
            // Packets of a session that is allowed are no hits but the first.
            to_app(world, &udp((web, port), (app, 53)));
            to_app(world, &udp((web, port), (app, 53)));
            to_web(world, &udp((app, 53), (web, port)));
        }
        denied_to_app(world, &udp((web, 2001), (app, 54)));
        denied_to_app(world, &udp((web, 2001), (app, 54)));
        to_app(world, &syn((web, 2001), (app, 54)));
        to_web(world, &syn((app, 2001), (web, 54)));
        let hits = |world: &Lone| world.host.json("get policy guard")["stats"][0].clone();
        let expected = serde_json::json!({
            "name": "guard", "rules": [3, 2], "default_ingress": 1, "default_egress": 1
        });
        assert_eq!(hits(world), expected);
        // A rule that comes before them does not take their hits, and sessions that stay are no new hits.
        let first = "direction: ingress, action: allow, protocol: tcp";
        define(
            world,
            "guard",
            &[first, rules[0], rules[1]],
            "default_ingress: allow, default_egress: allow",
        );
        to_app(world, &udp((web, 2001), (app, 53)));
        to_app(world, &syn((web, 2002), (app, 54)));
        assert_eq!(hits(world)["rules"], serde_json::json!([1, 3, 2]));
        clean(world, &["guard"]);
    });
}

fn a_policy_holds_between_two_hosts() {
    in_world(|world: &mut TwoHosts| {
        let [a, b] = &world.hosts;
        let (one, two) = (&world.containers[0], &world.containers[1]);
        let reaches = |target: &str| one.ping(target, 3);
        assert_eq!((reaches("10.0.0.2"), reaches("fd00:1::2")), (3, 3));
        // At the host of him who is asked.
        let guarded = |container: &weft_tests::container::Container, policies: &str| {
            let port = TapPort {
                more: format!("policies: [{policies}]"),
                ..container.port.clone()
            };
            port.yaml(&container.namespace)
        };
        b.apply(&policy(
            "guard",
            &["direction: ingress, action: allow, protocol: icmp, icmp_type: 8, remote: {prefix: 10.0.0.1/32}"],
            "default_ingress: deny, default_egress: allow",
        ));
        b.apply(&guarded(two, "guard"));
        assert_eq!((reaches("10.0.0.2"), reaches("fd00:1::2")), (3, 0));
        assert!(b.dropped("policy-denied") >= 3 && a.dropped("policy-denied") == 0);
        // It may ask by itself, and is answered.
        assert_eq!((two.ping("10.0.0.1", 3), two.ping("fd00:1::1", 3)), (3, 3));
        // At the host of him who asks.
        a.apply(&policy(
            "mute",
            &["direction: egress, action: deny, protocol: icmp"],
            "default_ingress: allow, default_egress: allow",
        ));
        a.apply(&guarded(one, "mute"));
        assert_eq!(reaches("10.0.0.2"), 0);
        assert_eq!(two.ping("10.0.0.1", 3), 3);
        a.apply(&guarded(one, ""));
        b.apply(&guarded(two, ""));
        assert_eq!((reaches("10.0.0.2"), reaches("fd00:1::2")), (3, 3));
        a.delete("policy", "mute");
        b.delete("policy", "guard");
    });
}
