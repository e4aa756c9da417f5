//! Who has a service's sessions: how they are spread, and which move when its backends change.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use weft_tests::{
    frame::{Packet, difference},
    host::{number, rows},
    lone::{APP, GATEWAY, Lone, ROUTER, UPLINK, WEB},
    wire::PATIENCE,
    world::in_world,
};

use super::{
    nat::socket,
    services::{FAMILIES, PORTS, backend, close, is_refused, leaves, serve, service, way},
};

super::scenarios! {
    sessions_are_spread_by_weight_and_stay_where_they_are: ["Services: weighted consistent hashing"],
    a_backend_that_goes_takes_its_sessions_and_no_others_along: ["Services: a backend leaves and other sessions stay"],
    a_draining_backend_keeps_its_sessions_and_gets_no_new_ones: ["Services: draining"],
    a_client_keeps_its_backend: ["Services: client affinity"],
    only_backends_of_this_host_serve_a_local_service: ["Services: local only"],
    backends_see_a_pools_address_if_they_are_to_answer_here: ["Services: full NAT"],
    a_service_that_is_removed_takes_its_sessions_along: [],
    what_is_wrong_with_a_service_is_named_and_the_last_good_one_stays: ["Bad input: a service without port"],
}

const CLIENT: &str = "10.0.0.1";
const VIRTUAL_IP: &str = "10.0.0.80";
const HERE: &str = "10.0.0.2";
const THERE: &str = "10.0.0.12";

fn udp(from: &str, port: u16, to: &str) -> Packet {
    Packet::udp(&socket(from, port), &socket(to, 53), b"for whoever serves")
}

/// Where the source port of UDP is: in a frame of app's, and in one in the tunnel.
const PORT_AT: usize = 14 + 20;
const INNER_PORT_AT: usize = 14 + 20 + 8 + 8 + PORT_AT;

/// Sends a packet of each session, of web's ports, and says who gets it. Some at a time: each burst decides anew so many.
fn ask(world: &mut Lone, ports: &[u16]) -> BTreeMap<u16, &'static str> {
    let mut served = BTreeMap::new();
    for ports in ports.chunks(16) {
        for port in ports {
            world
                .web
                .send(&udp(CLIENT, *port, VIRTUAL_IP).frame(GATEWAY, WEB));
        }
        let deadline = Instant::now() + PATIENCE;
        let mut left = ports.len();
        while left > 0 {
            assert!(Instant::now() < deadline, "{left} packets reached nobody");
            let port_in = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            if let Some(frame) = world.app.next(Duration::from_millis(5)) {
                let port = port_in(&frame.bytes, PORT_AT);
                let expected = udp(CLIENT, port, HERE).hop().frame(APP, GATEWAY);
                assert!(frame.bytes == expected, "{}", difference(&expected, &frame.bytes));
                served.insert(port, HERE);
                left -= 1;
            }
            if let Some(frame) = world.router.next(Duration::from_millis(5)) {
                let port = port_in(&frame.bytes, INNER_PORT_AT);
                let expected = way().outgoing(&udp(CLIENT, port, THERE).hop(), &frame.bytes);
                let expected = expected.frame(ROUTER, UPLINK);
                assert!(frame.bytes == expected, "{}", difference(&expected, &frame.bytes));
                served.insert(port, THERE);
                left -= 1;
            }
        }
    }
    served
}

fn of(served: &BTreeMap<u16, &str>, who: &str) -> Vec<u16> {
    let ports = served.iter().filter(|(_, backend)| **backend == who);
    ports.map(|(port, _)| *port).collect()
}

fn both(here: &str, there: &str) -> String {
    format!("{{address: {HERE}, {here}}}, {{address: {THERE}, {there}}}")
}

fn sessions_are_spread_by_weight_and_stay_where_they_are() {
    in_world(|world: &mut Lone| {
        serve(world, VIRTUAL_IP, &both("weight: 3", "weight: 1"));
        let ports: Vec<u16> = (20_000..20_400).collect();
        let served = ask(world, &ports);
        let share = of(&served, HERE).len();
        assert!((260..=340).contains(&share), "{share} of 400 at weight 3 to 1");
        assert_eq!(ask(world, &ports), served);
        // Whatever the weights are now.
        serve(world, VIRTUAL_IP, &both("weight: 1", "weight: 200"));
        assert_eq!(ask(world, &ports), served);
        let new = ask(world, &(20_400..20_600).collect::<Vec<_>>());
        assert!(of(&new, THERE).len() > 190, "{new:?}");
        close(world);
    });
}

fn a_backend_that_goes_takes_its_sessions_and_no_others_along() {
    in_world(|world: &mut Lone| {
        serve(world, VIRTUAL_IP, &both("weight: 1", "weight: 1"));
        let ports: Vec<u16> = (21_000..21_100).collect();
        let served = ask(world, &ports);
        assert!(!of(&served, HERE).is_empty() && !of(&served, THERE).is_empty());
        // Another service of the address comes and goes: nothing moves.
        let other = service("other", VIRTUAL_IP, "{protocol: tcp, port: 81}", &backend(THERE));
        world.host.apply(&other);
        assert_eq!(ask(world, &ports), served);
        world.host.delete("service", "other");
        for gone in ["state: down", "state: up, port: missing"] {
            serve(world, VIRTUAL_IP, &both("weight: 1", gone));
            let now = ask(world, &ports);
            assert_eq!(of(&now, HERE), ports);
            // Back again: the sessions that it lost stay where they have come to.
            serve(world, VIRTUAL_IP, &both("weight: 1", "weight: 1"));
            assert_eq!(ask(world, &ports), now);
            world.host.delete("service", "web");
            serve(world, VIRTUAL_IP, &both("weight: 1", "weight: 1"));
        }
        // New ones go where they went before.
        let again: Vec<u16> = ports.iter().map(|port| port + 100).collect();
        let before = ask(world, &again);
        serve(world, VIRTUAL_IP, &backend(HERE));
        serve(world, VIRTUAL_IP, &both("weight: 1", "weight: 1"));
        let stayed: BTreeSet<_> = of(&ask(world, &again), HERE).into_iter().collect();
        assert!(of(&before, HERE).iter().all(|port| stayed.contains(port)));
        close(world);
    });
}

fn a_draining_backend_keeps_its_sessions_and_gets_no_new_ones() {
    in_world(|world: &mut Lone| {
        serve(world, VIRTUAL_IP, &both("weight: 1", "weight: 1"));
        let ports: Vec<u16> = (22_000..22_064).collect();
        let served = ask(world, &ports);
        let theirs = of(&served, THERE);
        assert!(!theirs.is_empty());
        serve(world, VIRTUAL_IP, &both("weight: 1", "state: draining"));
        assert_eq!(ask(world, &ports), served);
        // Answers come by as before.
        let answer = |from: &str| Packet::udp(&socket(from, 53), &socket(CLIENT, theirs[0]), b"still here");
        world.router.send(&way().incoming(&answer(THERE)));
        world.web.expect(&answer(VIRTUAL_IP).hop().frame(WEB, GATEWAY));
        let new: Vec<u16> = (22_100..22_164).collect();
        assert_eq!(of(&ask(world, &new), HERE), new);
        let stats = world.host.json("get services web")["stats"][0].take();
        assert_eq!(
            number(&rows(&stats["backends"])[1], "sessions"),
            theirs.len() as u64
        );
        close(world);
    });
}

fn a_client_keeps_its_backend() {
    in_world(|world: &mut Lone| {
        let sticky = service("web", VIRTUAL_IP, PORTS, &both("weight: 1", "weight: 1"));
        let sticky = sticky.replace("ports:", "client_affinity_seconds: 3600, ports:");
        world.host.apply(&sticky);
        let ports: Vec<u16> = (23_000..23_032).collect();
        let served = ask(world, &ports);
        let one = served[&23_000];
        assert_eq!(of(&served, one), ports);
        // It drains: the client's next sessions go to the other one, and stay there when it is back.
        let drained = match one {
            HERE => both("state: draining", "weight: 1"),
            _ => both("weight: 1", "state: draining"),
        };
        let drained = service("web", VIRTUAL_IP, PORTS, &drained);
        world
            .host
            .apply(&drained.replace("ports:", "client_affinity_seconds: 3600, ports:"));
        let next: Vec<u16> = (23_100..23_132).collect();
        let served = ask(world, &next);
        let other = served[&23_100];
        assert_ne!(other, one);
        assert_eq!(of(&served, other), next);
        world.host.apply(&sticky);
        let last: Vec<u16> = (23_200..23_232).collect();
        assert_eq!(of(&ask(world, &last), other), last);
        close(world);
    });
}

fn only_backends_of_this_host_serve_a_local_service() {
    in_world(|world: &mut Lone| {
        let local = |backends: &str| {
            service("web", VIRTUAL_IP, PORTS, backends).replace("ports:", "local_only: true, ports:")
        };
        world.host.apply(&local(&both("port: red-app", "weight: 256")));
        let ports: Vec<u16> = (24_000..24_016).collect();
        assert_eq!(of(&ask(world, &ports), HERE), ports);
        // Nobody here: what is elsewhere does not help.
        world.host.apply(&local(&backend(THERE)));
        is_refused(world, "no-backend", &udp(CLIENT, 24_100, VIRTUAL_IP));
        close(world);
    });
}

fn backends_see_a_pools_address_if_they_are_to_answer_here() {
    in_world(|world: &mut Lone| {
        // One port: it is known which.
        world.host.apply(&format!(
            "kind: NatPool\nname: behind\nspec: {{vrf: red, addresses: [10.0.1.1/32], inside_vrf: blue, \
             sources: [10.9.0.0/16], first_port: 6000, last_port: 6000, block_size: 1}}\n---\n{}",
            service("web", VIRTUAL_IP, "{protocol: udp, port: 53}", &backend(THERE))
                .replace("ports:", "source_pool: behind, ports:")
        ));
        let seen = || Packet::udp("10.0.1.1:6000", &socket(THERE, 53), b"for whoever serves");
        let answer = |from: &str, to: &str, port: u16| {
            Packet::udp(&socket(from, 53), &socket(to, port), b"here you are")
        };
        for _ in 0..3 {
            world
                .web
                .send(&udp(CLIENT, 25_000, VIRTUAL_IP).frame(GATEWAY, WEB));
            leaves(world, &seen());
            world
                .router
                .send(&way().incoming(&answer(THERE, "10.0.1.1", 6000)));
            let known = answer(VIRTUAL_IP, CLIENT, 25_000);
            world.web.expect(&known.hop().frame(WEB, GATEWAY));
        }
        let stats = world.host.json("get nat-pools behind")["stats"][0].take();
        assert_eq!(number(&stats, "sessions"), 1);
        // There is no other port to the same backend.
        let second = udp(CLIENT, 25_001, VIRTUAL_IP).frame(GATEWAY, WEB);
        world
            .host
            .expect_drops("nat-exhausted", 1, || world.web.send(&second));
        // Other addresses in the pool: the session ends, and goes on by one of them.
        world.host.apply(
            "kind: NatPool\nname: behind\nspec: {vrf: red, addresses: [10.0.1.2/32], inside_vrf: blue, \
             sources: [10.9.0.0/16], first_port: 6001, last_port: 6001, block_size: 1}\n",
        );
        world
            .web
            .send(&udp(CLIENT, 25_000, VIRTUAL_IP).frame(GATEWAY, WEB));
        leaves(
            world,
            &Packet::udp("10.0.1.2:6001", &socket(THERE, 53), b"for whoever serves"),
        );
        close(world);
        world.host.delete("nat-pool", "behind");
    });
}

fn a_service_that_is_removed_takes_its_sessions_along() {
    in_world(|world: &mut Lone| {
        for family in &FAMILIES {
            let (web, app, virtual_ip) = (family.web, family.app, family.virtual_ip);
            let question = |to: &str| udp(web, 26_000, to);
            let answer = |from: &str| Packet::udp(&socket(from, 53), &socket(web, 26_000), b"answer");
            serve(world, virtual_ip, &backend(app));
            world.web.send(&question(virtual_ip).frame(GATEWAY, WEB));
            world.app.expect(&question(app).hop().frame(APP, GATEWAY));
            close(world);
            // The backend speaks for itself again.
            world.app.send(&answer(app).frame(GATEWAY, APP));
            world.web.expect(&answer(app).hop().frame(WEB, GATEWAY));
            let lost = question(virtual_ip).frame(GATEWAY, WEB);
            world.host.expect_drops("no-route", 1, || world.web.send(&lost));
            // And for the service when that is back.
            serve(world, virtual_ip, &backend(app));
            let other = udp(web, 26_001, virtual_ip);
            world.web.send(&other.frame(GATEWAY, WEB));
            world.app.expect(&udp(web, 26_001, app).hop().frame(APP, GATEWAY));
            close(world);
        }
    });
}

fn what_is_wrong_with_a_service_is_named_and_the_last_good_one_stays() {
    in_world(|world: &mut Lone| {
        serve(world, VIRTUAL_IP, &backend(HERE));
        for (wrong, named) in [
            (
                service("web", VIRTUAL_IP, "", &backend(HERE)),
                "spec.ports: is missing",
            ),
            (
                service("web", "10.0.0.2", PORTS, &backend(THERE)),
                "spec.address: 10.0.0.2 in vrf \"red\" is already an address of port \"red-app\"",
            ),
            (
                service(
                    "web",
                    VIRTUAL_IP,
                    PORTS,
                    &format!("{{address: {HERE}, port: blue-bweb}}"),
                ),
                "spec.backends[0].port: port \"blue-bweb\" is in vrf \"blue\", not in \"red\"",
            ),
            (
                service(
                    "web",
                    VIRTUAL_IP,
                    PORTS,
                    &format!("{{address: {HERE}, weight: 0}}"),
                ),
                "spec.backends[0].weight: 0 is no weight",
            ),
            (
                service("other", VIRTUAL_IP, "{protocol: udp, port: 53}", &backend(THERE)),
                "spec.ports[0].port: udp port 53 of 10.0.0.80 in vrf \"red\" already belongs to service \"web\"",
            ),
        ] {
            let reply = world.host.try_apply(&wrong);
            assert!(!reply.status.success(), "{wrong}");
            let said = format!("{}{}", reply.output, reply.errors);
            assert!(said.contains(named), "{said}");
        }
        world
            .web
            .send(&udp(CLIENT, 27_000, VIRTUAL_IP).frame(GATEWAY, WEB));
        world
            .app
            .expect(&udp(CLIENT, 27_000, HERE).hop().frame(APP, GATEWAY));
        close(world);
    });
}
