//! Rules with `log`: what they decide stands in weftd's log, once a session, and a flood of it is bounded and counted.

use weft_tests::{
    eventually,
    frame::Packet,
    lone::{GATEWAY, Lone, WEB},
    world::in_world,
};

use super::policy::{ADDRESSES, clean, define, denied_to_app, give, socket, to_app, to_web, udp};

super::scenarios! {
    a_logged_decision_is_written_down_once: [],
    what_is_too_much_to_log_is_counted: [],
}

/// The lines of weftd's log that hold these words.
fn lines(world: &Lone, words: &str) -> Vec<String> {
    let log = std::fs::read_to_string(world.host.path("weftd.log")).expect("weftd has a log");
    let lines = log.lines().filter(|line| line.contains(words));
    lines.map(str::to_owned).collect()
}

fn a_logged_decision_is_written_down_once() {
    in_world(|world: &mut Lone| {
        define(
            world,
            "written",
            &[
                "direction: ingress, action: allow, protocol: udp, destination_ports: [{first: 53}], log: true",
                "direction: ingress, action: deny, protocol: udp, destination_ports: [{first: 54}], log: true",
                "direction: ingress, action: allow, protocol: udp, destination_ports: [{first: 55}]",
                "direction: ingress, action: allow, protocol: icmp, log: true",
                "direction: ingress, action: allow, protocol: icmpv6, log: true",
            ],
            "default_ingress: deny, default_egress: allow",
        );
        give(world, "app", &["written"]);
        for (web, app) in ADDRESSES {
            let udp = |port| udp((web, 4000), (app, port));
            let allowed = |port| format!("udp {} > {}", socket(web, 4000), socket(app, port));
            for _ in 0..3 {
                to_app(world, &udp(53));
            }
            to_web(world, &super::policy::udp((app, 53), (web, 4000)));
            to_app(world, &udp(55));
            denied_to_app(world, &udp(56));
            denied_to_app(world, &udp(54));
            denied_to_app(world, &udp(54));
            to_app(world, &Packet::echo_request(web, app, 11, 1));
            // The last one that is written.
            let (protocol, kind, rule) = match web.contains(':') {
                false => ("icmp", 8, 4),
                true => ("icmpv6", 128, 5),
            };
            let ping = format!(
                "policy written rule {rule} allows {protocol} {web} > {app} type {kind} code 0, ingress of red-app"
            );
            eventually("the ping is written down", || {
                (!lines(world, &ping).is_empty()).then_some(())
            });
            let first = format!("policy written rule 1 allows {}, ingress of red-app", allowed(53));
            let second = format!("policy written rule 2 denies {}, ingress of red-app", allowed(54));
            let counts = [&first, &second, &allowed(55), &allowed(56)].map(|words| lines(world, words).len());
            assert_eq!(counts, [1, 2, 0, 0]);
        }
        let rules = world.host.show("describe policy written");
        assert!(rules.contains("deny, log"), "{rules}");
        clean(world, &["written"]);
    });
}

fn what_is_too_much_to_log_is_counted() {
    const FLOOD: usize = 3000;
    const BURST: usize = 300;
    in_world(|world: &mut Lone| {
        define(
            world,
            "flooded",
            &["direction: ingress, action: deny, log: true"],
            "default_ingress: deny, default_egress: allow",
        );
        give(world, "app", &["flooded"]);
        let (web, app) = ADDRESSES[0];
        let flood = Packet::udp(&socket(web, 1), &socket(app, 2), b"").frame(GATEWAY, WEB);
        // No more at a time than the tap's queue holds.
        for _ in 0..FLOOD / BURST {
            world.host.expect_drops("policy-denied", BURST as u64, || {
                for _ in 0..BURST {
                    world.web.send(&flood);
                }
            });
        }
        let lost = |world: &Lone| -> usize {
            let count = |line: &String| {
                let (_, rest) = line.split_once("policies decided ")?;
                rest.split(' ').next()?.parse::<usize>().ok()
            };
            lines(world, "policies decided").iter().filter_map(count).sum()
        };
        eventually("each decision is written down or counted", || {
            (lines(world, "policy flooded rule 1 denies udp").len() + lost(world) == FLOOD).then_some(())
        });
        clean(world, &["flooded"]);
        world.app.expect_nothing();
        to_web(world, &udp((app, 5), (web, 6)));
    });
}
