//! Floating IPs that come, move and go, beside the policies of their ports, and what is refused.

use weft_tests::{
    frame::{Packet, difference},
    host::{rows, text},
    lone::{APP, GATEWAY, Lone, ROUTER, UPLINK, WEB},
    world::in_world,
};

use super::nat::{
    FAMILIES, Family, arrives, floating, give_all, guard, is_dropped, leaves, outside, publish, socket,
    take_all, withdraw,
};

super::scenarios! {
    a_floating_ip_that_goes_takes_its_sessions_along: [],
    a_floating_ip_moves_to_another_port: [],
    sessions_that_were_there_before_the_floating_ip_begin_anew: [],
    policies_judge_the_addresses_that_the_workload_sees: [],
    what_is_wrong_with_a_floating_ip_is_named: [],
}

fn translated_sessions(world: &Lone, destination: &str) -> usize {
    let flows = world
        .host
        .json(&format!("get flows --match dst={destination},sport=7600"));
    let translated = |row: &&serde_json::Value| !text(row, "translated_source").is_empty();
    rows(&flows).iter().filter(translated).count()
}

fn a_floating_ip_that_goes_takes_its_sessions_along() {
    in_world(|world: &mut Lone| {
        publish(world);
        for (number, family) in FAMILIES.iter().enumerate() {
            let Family {
                web,
                web_outside,
                remote,
                ..
            } = *family;
            let question =
                |from: &str| Packet::udp(&socket(from, 7600), &socket(remote, 53), b"are you there");
            let answer = |to: &str| Packet::udp(&socket(remote, 53), &socket(to, 7600), b"yes");
            let name = format!("web-{number}");
            let back = || floating(&name, "public", web_outside, "red-web", web);
            // The answer comes first afterwards, then the question.
            for answer_first in [true, false] {
                leaves(world, &question(web), &question(web_outside));
                arrives(world, &answer(web_outside), &answer(web));
                assert_eq!(translated_sessions(world, remote), 1);
                world.host.delete("fip", &name);
                if answer_first {
                    // Nobody has the address: the route of the VRF leads out again.
                    let lost = answer(web_outside);
                    world.router.send(&outside().incoming(&lost));
                    let sent = world.router.receive();
                    let expected = outside().outgoing(&lost.hop(), &sent).frame(ROUTER, UPLINK);
                    assert!(sent == expected, "{}", difference(&expected, &sent));
                    world.web.expect_nothing();
                }
                leaves(world, &question(web), &question(web));
                assert_eq!(translated_sessions(world, remote), 0);
                world.host.apply(&back());
                leaves(world, &question(web), &question(web_outside));
                arrives(world, &answer(web_outside), &answer(web));
            }
        }
        withdraw(world);
    });
}

fn a_floating_ip_moves_to_another_port() {
    in_world(|world: &mut Lone| {
        publish(world);
        for (number, family) in FAMILIES.iter().enumerate() {
            let ask = |to: &str| Packet::udp(&socket(family.remote, 7700), &socket(to, 53), b"who are you");
            let answer = |from: &str| Packet::udp(&socket(from, 53), &socket(family.remote, 7700), b"me");
            arrives(world, &ask(family.web_outside), &ask(family.web));
            leaves(world, &answer(family.web), &answer(family.web_outside));
            // In one batch web's goes to app, and app's to web.
            world.host.apply(&format!(
                "{}---\n{}",
                floating(
                    &format!("web-{number}"),
                    "public",
                    family.app_outside,
                    "red-web",
                    family.web
                ),
                floating(
                    &format!("app-{number}"),
                    "public",
                    family.web_outside,
                    "red-app",
                    family.app
                ),
            ));
            world.router.send(&outside().incoming(&ask(family.web_outside)));
            world.app.expect(&ask(family.app).hop().frame(APP, GATEWAY));
            world.app.send(&answer(family.app).frame(GATEWAY, APP));
            let sent = world.router.receive();
            let expected = outside()
                .outgoing(&answer(family.web_outside).hop(), &sent)
                .frame(ROUTER, UPLINK);
            assert!(sent == expected, "{}", difference(&expected, &sent));
            // What web sends now is its own, from its own new address.
            leaves(world, &answer(family.web), &answer(family.app_outside));
        }
        withdraw(world);
    });
}

fn sessions_that_were_there_before_the_floating_ip_begin_anew() {
    in_world(|world: &mut Lone| {
        publish(world);
        take_all(world);
        for family in &FAMILIES {
            let question =
                |from: &str| Packet::udp(&socket(from, 7800), &socket(family.remote, 53), b"first");
            leaves(world, &question(family.web), &question(family.web));
        }
        give_all(world);
        for family in &FAMILIES {
            let question =
                |from: &str| Packet::udp(&socket(from, 7800), &socket(family.remote, 53), b"first");
            let answer = |to: &str| Packet::udp(&socket(family.remote, 53), &socket(to, 7800), b"last");
            leaves(world, &question(family.web), &question(family.web_outside));
            arrives(world, &answer(family.web_outside), &answer(family.web));
        }
        withdraw(world);
    });
}

/// Web with these policies.
fn policies_judge_the_addresses_that_the_workload_sees() {
    in_world(|world: &mut Lone| {
        publish(world);
        world.host.apply(
            "kind: Policy\nname: guard\nspec: {default_ingress: deny, default_egress: deny, rules: [\
             {direction: ingress, action: allow, protocol: udp, remote: {prefix: 203.0.113.99/32}, \
             local: {prefix: 10.0.0.1/32}, destination_ports: [{first: 53}]}, \
             {direction: egress, action: allow, protocol: udp, remote: {prefix: 203.0.113.99/32}, \
             local: {prefix: 10.0.0.1/32}, destination_ports: [{first: 54}]}]}\n",
        );
        guard(world, "guard");
        let ask =
            |from: &str, to: &str, port: u16| Packet::udp(&socket(from, 7900), &socket(to, port), b"ask");
        let (web, own, remote) = ("10.0.0.1", "203.0.113.1", "203.0.113.99");
        arrives(world, &ask(remote, own, 53), &ask(remote, web, 53));
        is_dropped(world, "policy-denied", |world| {
            world.router.send(&outside().incoming(&ask(remote, own, 54)))
        });
        is_dropped(world, "policy-denied", |world| {
            world
                .router
                .send(&outside().incoming(&ask("203.0.113.98", own, 53)))
        });
        leaves(world, &ask(web, remote, 54), &ask(own, remote, 54));
        is_dropped(world, "policy-denied", |world| {
            world.web.send(&ask(web, remote, 53).frame(GATEWAY, WEB))
        });
        // A change ends the session, whoever speaks next.
        let answer = |from: &str, to: &str| Packet::udp(&socket(from, 54), &socket(to, 7900), b"answer");
        arrives(world, &answer(remote, own), &answer(remote, web));
        world
            .host
            .apply("kind: Policy\nname: guard\nspec: {default_ingress: deny, default_egress: deny}\n");
        is_dropped(world, "policy-denied", |world| {
            world.router.send(&outside().incoming(&answer(remote, own)))
        });
        is_dropped(world, "policy-denied", |world| {
            world.web.send(&ask(web, remote, 54).frame(GATEWAY, WEB))
        });
        guard(world, "");
        world.host.delete("policy", "guard");
        withdraw(world);
    });
}

fn what_is_wrong_with_a_floating_ip_is_named() {
    in_world(|world: &mut Lone| {
        publish(world);
        let taken = floating("other", "public", "203.0.113.1", "red-app", "10.0.0.2");
        let second = floating("other", "public", "203.0.113.8", "red-app", "10.0.0.2");
        let mixed = floating("other", "public", "203.0.113.8", "red-app", "fd00:1::2");
        let own = floating("other", "red", "203.0.113.8", "red-app", "10.0.0.2");
        let not_there = floating("other", "public", "203.0.113.8", "red-app", "10.0.0.3");
        let uplink = floating("other", "public", "203.0.113.8", "uplink", "198.18.0.1");
        let multicast = floating("other", "public", "224.0.0.1", "red-app", "10.0.0.2");
        let same = floating("other", "public", "10.0.0.2", "red-app", "10.0.0.2");
        for (wrong, field, message) in [
            (
                &taken,
                "address",
                "203.0.113.1 in vrf \"public\" is already floating IP \"web-0\"",
            ),
            (
                &second,
                "inside_address",
                "10.0.0.2 of port \"red-app\" already has floating IP \"app-0\" in vrf \"public\"",
            ),
            (&mixed, "inside_address", "of different families"),
            (&own, "vrf", "\"red\" is the VRF of port \"red-app\" itself"),
            (
                &not_there,
                "inside_address",
                "port \"red-app\" does not have 10.0.0.3",
            ),
            (&uplink, "port", "\"uplink\" is an uplink"),
            (&multicast, "address", "224.0.0.1 is a multicast address"),
            (&same, "inside_address", "10.0.0.2 is the floating address too"),
        ] {
            let refused = world.host.try_apply(wrong);
            assert!(
                refused.errors.contains(&format!("{field}: ")) && refused.errors.contains(message),
                "{wrong}{refused}"
            );
        }
        let route = world.host.try_apply(
            "kind: Route\nname: clash\nspec: {vrf: public, prefix: 203.0.113.1/32, next_hop: {discard: {}}}\n",
        );
        assert!(
            route.errors.contains("is already floating IP \"web-0\""),
            "{route}"
        );
        let used = world.host.weft("delete port red-web");
        assert!(
            used.errors.contains("is still used by floating IP \"web-0\""),
            "{used}"
        );
        // What was there before is still in force.
        let packet = |from: &str| Packet::udp(&socket(from, 8100), "203.0.113.99:53", b"still");
        leaves(world, &packet("10.0.0.1"), &packet("203.0.113.1"));
        // What it waits for is said, and it works as soon as that is there.
        world
            .host
            .apply(&floating("early", "later", "203.0.113.50", "red-web", "10.0.0.1"));
        let status = world.host.show("describe fip early");
        assert!(
            status.contains("waits for vrf \"later\", which does not exist"),
            "{status}"
        );
        world.host.delete("fip", "early");
        withdraw(world);
    });
}
