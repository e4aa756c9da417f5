//! Pools: many sources behind few addresses, by blocks of ports.

use weft_tests::{
    eventually,
    frame::{Packet, arp_reply, arp_request, difference, tcp},
    host::{number, rows, text},
    lone::{APP, GATEWAY, Lone, ROUTER, UPLINK, WEB},
    world::in_world,
};

use super::nat::{FAMILIES, floating, outside, publish, socket, take_all, withdraw};

super::scenarios! {
    many_share_an_address_and_answers_find_their_way: ["NAT: SNAT with port blocks"],
    a_pool_without_a_free_port_says_so: ["NAT: exhaustion counted and named"],
    a_block_is_another_ones_when_nobody_uses_it: ["NAT: SNAT with port blocks"],
    a_deterministic_pool_gives_each_source_its_own_ports: ["NAT: deterministic blocks"],
    only_answers_reach_a_pool: [],
    errors_find_who_is_behind_a_pool: ["NAT: ICMP errors translated inside"],
    a_pool_that_goes_takes_its_sessions_along: [],
    a_floating_ip_goes_before_a_pool: [],
    a_pool_of_the_underlay_is_answered_for: [],
    what_is_wrong_with_a_pool_is_named: [],
}

const REMOTE: &str = "203.0.113.99";

/// A pool for red with these settings.
fn pool(addresses: &str, more: &str) -> String {
    format!(
        "kind: NatPool\nname: shared\nspec: {{vrf: public, addresses: [{addresses}], inside_vrf: red, \
         sources: [10.0.0.0/24], {more}}}\n"
    )
}

/// The public VRF with this pool and no floating IP.
fn share(world: &Lone, addresses: &str, more: &str) {
    publish(world);
    take_all(world);
    world.host.apply(&pool(addresses, more));
}

fn unshare(world: &Lone) {
    world.host.delete("nat-pool", "shared");
    for (number, family) in FAMILIES.iter().enumerate() {
        for (name, address, port, inside) in [
            ("web", family.web_outside, "red-web", family.web),
            ("app", family.app_outside, "red-app", family.app),
            ("blue", family.blue_outside, "blue-bweb", family.web),
        ] {
            world.host.apply(&floating(
                &format!("{name}-{number}"),
                "public",
                address,
                port,
                inside,
            ));
        }
    }
    withdraw(world);
}

/// Where the inner source address of a frame in the tunnel is; 8 bytes behind it the ports follow.
const INNER_SOURCE: usize = 14 + 20 + 8 + 8 + 14 + 12;

/// Leaves the host as `packet` makes it with some address and port of the pool, which are returned. `port_at` is where the
/// packet has its source port, behind the IP header.
fn mapped(world: &mut Lone, packet: &dyn Fn(&str, u16) -> Packet, port_at: usize) -> (String, u16) {
    let frame = world.router.receive();
    let bytes = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).expect("four bytes");
    let address = std::net::Ipv4Addr::from(bytes(INNER_SOURCE)).to_string();
    let at = INNER_SOURCE + 8 + port_at;
    let port = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let expected = outside().outgoing(&packet(&address, port).hop(), &frame);
    let expected = expected.frame(ROUTER, UPLINK);
    assert!(frame == expected, "{}", difference(&expected, &frame));
    (address, port)
}

fn udp(from: &str, port: u16, to: &str) -> Packet {
    Packet::udp(&socket(from, port), &socket(to, 53), b"question")
}

fn udp_answer(from: &str, to: &str, port: u16) -> Packet {
    Packet::udp(&socket(from, 53), &socket(to, port), b"answer")
}

fn many_share_an_address_and_answers_find_their_way() {
    in_world(|world: &mut Lone| {
        share(
            world,
            "203.0.113.64/32",
            "first_port: 5000, last_port: 5999, block_size: 8",
        );
        let mut seen = Vec::new();
        for _ in 0..2 {
            // Both from the same port, to the same remote.
            world.web.send(&udp("10.0.0.1", 9000, REMOTE).frame(GATEWAY, WEB));
            let web = mapped(world, &|from, port| udp(from, port, REMOTE), 0);
            world.app.send(&udp("10.0.0.2", 9000, REMOTE).frame(GATEWAY, APP));
            let app = mapped(world, &|from, port| udp(from, port, REMOTE), 0);
            assert_eq!((&*web.0, &*app.0), ("203.0.113.64", "203.0.113.64"));
            assert!((5000..6000).contains(&web.1) && (5000..6000).contains(&app.1));
            // Not in the same block of eight.
            assert_ne!(web.1 / 8, app.1 / 8);
            let answer = udp_answer(REMOTE, &web.0, web.1);
            world.router.send(&outside().incoming(&answer));
            let inside = udp_answer(REMOTE, "10.0.0.1", 9000);
            world.web.expect(&inside.hop().frame(WEB, GATEWAY));
            let answer = udp_answer(REMOTE, &app.0, app.1);
            world.router.send(&outside().incoming(&answer));
            let inside = udp_answer(REMOTE, "10.0.0.2", 9000);
            world.app.expect(&inside.hop().frame(APP, GATEWAY));
            seen.push((web, app));
        }
        assert_eq!(seen[0], seen[1], "a session keeps its address and port");
        // TCP and ping.
        let syn =
            |from: &str, port: u16| Packet::tcp(&socket(from, port), &socket(REMOTE, 80), tcp::SYN, b"");
        world.web.send(&syn("10.0.0.1", 9001).frame(GATEWAY, WEB));
        let (address, port) = mapped(world, &syn, 0);
        let back = |to: &str, port: u16| {
            Packet::tcp(&socket(REMOTE, 80), &socket(to, port), tcp::SYN | tcp::ACK, b"")
        };
        world.router.send(&outside().incoming(&back(&address, port)));
        world
            .web
            .expect(&back("10.0.0.1", 9001).hop().frame(WEB, GATEWAY));
        let ping = |from: &str, identifier: u16| Packet::echo_request(from, REMOTE, identifier, 1);
        world.web.send(&ping("10.0.0.1", 9002).frame(GATEWAY, WEB));
        let (address, identifier) = mapped(world, &ping, 4);
        let pong = |to: &str, identifier: u16| Packet::echo_reply(REMOTE, to, identifier, 1);
        world
            .router
            .send(&outside().incoming(&pong(&address, identifier)));
        world
            .web
            .expect(&pong("10.0.0.1", 9002).hop().frame(WEB, GATEWAY));
        // Who has which ports is told.
        let stats = world.host.json("get nat-pools shared")["stats"][0].take();
        assert_eq!((number(&stats, "blocks"), number(&stats, "sessions")), (125, 4));
        let mut holders: Vec<String> = rows(&stats["holders"])
            .iter()
            .map(|block| text(block, "holder"))
            .collect();
        holders.sort();
        assert_eq!(holders, ["10.0.0.1", "10.0.0.2"]);
        let described = world.host.show("describe pool shared");
        assert!(described.contains("2 of 125 held"), "{described}");
        unshare(world);
    });
}

fn a_pool_without_a_free_port_says_so() {
    in_world(|world: &mut Lone| {
        share(
            world,
            "203.0.113.64/32",
            "first_port: 5000, last_port: 5003, block_size: 4",
        );
        let mut ports = Vec::new();
        for port in 9100..9104 {
            world.web.send(&udp("10.0.0.1", port, REMOTE).frame(GATEWAY, WEB));
            ports.push(mapped(world, &|from, port| udp(from, port, REMOTE), 0).1);
        }
        ports.sort();
        assert_eq!(ports, [5000, 5001, 5002, 5003]);
        let fifth = udp("10.0.0.1", 9104, REMOTE).frame(GATEWAY, WEB);
        world
            .host
            .expect_drops("nat-exhausted", 1, || world.web.send(&fifth));
        world.router.expect_nothing();
        // A port serves again for another remote; its block is nobody else's.
        world
            .web
            .send(&udp("10.0.0.1", 9104, "203.0.113.98").frame(GATEWAY, WEB));
        mapped(world, &|from, port| udp(from, port, "203.0.113.98"), 0);
        let other = udp("10.0.0.2", 9100, "203.0.113.97").frame(GATEWAY, APP);
        world
            .host
            .expect_drops("nat-exhausted", 1, || world.app.send(&other));
        world.router.expect_nothing();
        unshare(world);
    });
}

fn a_block_is_another_ones_when_nobody_uses_it() {
    in_world(|world: &mut Lone| {
        share(
            world,
            "203.0.113.64/32",
            "first_port: 5000, last_port: 5003, block_size: 4",
        );
        let tcp = |from: &str, port: u16, flags: u8| {
            Packet::tcp(&socket(from, port), &socket(REMOTE, 80), flags, b"")
        };
        for flags in [tcp::SYN, tcp::RST] {
            world.web.send(&tcp("10.0.0.1", 9200, flags).frame(GATEWAY, WEB));
            mapped(world, &|from, port| tcp(from, port, flags), 0);
        }
        // The session ages out, and the block with it.
        let question = udp("10.0.0.2", 9201, REMOTE).frame(GATEWAY, APP);
        let frame = eventually("app gets the block", || {
            world.app.send(&question);
            world.router.next(std::time::Duration::from_millis(100))
        });
        assert_eq!(frame.bytes[INNER_SOURCE..INNER_SOURCE + 4], [203, 0, 113, 64]);
        unshare(world);
    });
}

fn a_deterministic_pool_gives_each_source_its_own_ports() {
    in_world(|world: &mut Lone| {
        share(
            world,
            "203.0.113.64/30",
            "first_port: 10000, last_port: 42767, block_size: 512, deterministic: true",
        );
        // 64 blocks an address: source n has block n.
        for (inside, mac, block) in [
            ("10.0.0.1", WEB, 1),
            ("10.0.0.2", APP, 2),
            ("10.0.0.200", WEB, 200),
        ] {
            let packet = udp(inside, 9300, REMOTE).frame(GATEWAY, mac);
            match mac == WEB {
                true => world.web.send(&packet),
                false => world.app.send(&packet),
            }
            let (address, port) = mapped(world, &|from, port| udp(from, port, REMOTE), 0);
            assert_eq!(address, format!("203.0.113.{}", 64 + block / 64));
            assert_eq!((port - 10000) / 512, block % 64);
        }
        unshare(world);
    });
}

fn only_answers_reach_a_pool() {
    in_world(|world: &mut Lone| {
        share(world, "203.0.113.72/32", "first_port: 5000, last_port: 5999");
        world.web.send(&udp("10.0.0.1", 9400, REMOTE).frame(GATEWAY, WEB));
        let (address, port) = mapped(world, &|from, port| udp(from, port, REMOTE), 0);
        for stray in [
            udp_answer("203.0.113.98", &address, port),
            udp_answer(REMOTE, &address, port ^ 1),
            Packet::udp(&socket(REMOTE, 54), &socket(&address, port), b"other port"),
        ] {
            world.host.expect_drops("nat-no-session", 1, || {
                world.router.send(&outside().incoming(&stray))
            });
            world.web.expect_nothing();
        }
        unshare(world);
    });
}

fn errors_find_who_is_behind_a_pool() {
    in_world(|world: &mut Lone| {
        share(world, "203.0.113.73/32", "");
        world.web.send(&udp("10.0.0.1", 9500, REMOTE).frame(GATEWAY, WEB));
        let (address, port) = mapped(world, &|from, port| udp(from, port, REMOTE), 0);
        let error =
            |to: &str, port: u16| Packet::unreachable("203.0.113.254", to, &udp(to, port, REMOTE).bytes());
        world.router.send(&outside().incoming(&error(&address, port)));
        world
            .web
            .expect(&error("10.0.0.1", 9500).hop().frame(WEB, GATEWAY));
        unshare(world);
    });
}

fn a_pool_that_goes_takes_its_sessions_along() {
    in_world(|world: &mut Lone| {
        share(world, "203.0.113.74/32", "");
        let question = udp("10.0.0.1", 9600, REMOTE);
        world.web.send(&question.frame(GATEWAY, WEB));
        let first = mapped(world, &|from, port| udp(from, port, REMOTE), 0);
        // Another setting that leaves the mapping as it is.
        world.host.apply(&pool("203.0.113.74/32", "deterministic: false"));
        world.web.send(&question.frame(GATEWAY, WEB));
        assert_eq!(mapped(world, &|from, port| udp(from, port, REMOTE), 0), first);
        // Another address.
        world.host.apply(&pool("203.0.113.75/32", ""));
        world.web.send(&question.frame(GATEWAY, WEB));
        let second = mapped(world, &|from, port| udp(from, port, REMOTE), 0);
        assert_eq!(second.0, "203.0.113.75");
        let answer = udp_answer(REMOTE, &second.0, second.1);
        world.router.send(&outside().incoming(&answer));
        let inside = udp_answer(REMOTE, "10.0.0.1", 9600);
        world.web.expect(&inside.hop().frame(WEB, GATEWAY));
        // None.
        world.host.delete("nat-pool", "shared");
        world.web.send(&question.frame(GATEWAY, WEB));
        assert_eq!(
            mapped(world, &|from, port| udp(from, port, REMOTE), 0),
            ("10.0.0.1".to_owned(), 9600)
        );
        world.host.apply(&pool("203.0.113.74/32", ""));
        unshare(world);
    });
}

fn a_floating_ip_goes_before_a_pool() {
    in_world(|world: &mut Lone| {
        share(world, "203.0.113.76/32", "");
        world.host.apply(&floating(
            "web-0",
            "public",
            FAMILIES[0].web_outside,
            "red-web",
            FAMILIES[0].web,
        ));
        world.web.send(&udp("10.0.0.1", 9700, REMOTE).frame(GATEWAY, WEB));
        assert_eq!(
            mapped(world, &|from, port| udp(from, port, REMOTE), 0),
            (FAMILIES[0].web_outside.to_owned(), 9700)
        );
        let taken = world.host.try_apply(&floating(
            "app-0",
            "public",
            "203.0.113.76",
            "red-app",
            FAMILIES[0].app,
        ));
        assert!(!taken.status.success(), "{taken}");
        unshare(world);
    });
}

fn a_pool_of_the_underlay_is_answered_for() {
    in_world(|world: &mut Lone| {
        world.host.apply(
            "kind: Route\nname: red-underlay\nspec: {vrf: red, prefix: 198.18.0.0/24, next_hop: {vrf: underlay}}\n",
        );
        let flat = pool("198.18.0.80/32", "").replace("vrf: public", "vrf: underlay");
        world.host.apply(&flat);
        let question = |from: &str, port: u16| Packet::udp(&socket(from, port), "198.18.0.2:53", b"flat");
        world.web.send(&question("10.0.0.1", 9900).frame(GATEWAY, WEB));
        let frame = world.router.receive();
        let port = u16::from_be_bytes([frame[34], frame[35]]);
        assert_eq!(frame, question("198.18.0.80", port).hop().frame(ROUTER, UPLINK));
        world
            .router
            .send(&arp_request(ROUTER, "198.18.0.2", "198.18.0.80"));
        world
            .router
            .expect(&arp_reply(UPLINK, "198.18.0.80", ROUTER, "198.18.0.2"));
        let answer = |to: &str, port: u16| Packet::udp("198.18.0.2:53", &socket(to, port), b"answer");
        world
            .router
            .send(&answer("198.18.0.80", port).frame(UPLINK, ROUTER));
        world
            .web
            .expect(&answer("10.0.0.1", 9900).hop().frame(WEB, GATEWAY));
        world.host.delete("nat-pool", "shared");
        world.host.delete("route", "red-underlay");
    });
}

fn what_is_wrong_with_a_pool_is_named() {
    in_world(|world: &mut Lone| {
        share(world, "203.0.113.64/32", "");
        let with = |more: &str| pool("203.0.113.80/28", more).replace("shared", "other");
        for (wrong, field, message) in [
            (with("block_size: 48"), "block_size", "48 is no size of a block"),
            (
                with("block_size: 8192"),
                "block_size",
                "8192 is no size of a block",
            ),
            (
                with("first_port: 5000, last_port: 5003, block_size: 8"),
                "block_size",
                "8 ports are more than the 4 of the range",
            ),
            (
                with("first_port: 5000, last_port: 4000"),
                "last_port",
                "4000 is before the first port, 5000",
            ),
            (with("first_port: 70000"), "first_port", "70000 is out of range"),
            (
                with("first_port: 5000, last_port: 5063, deterministic: true"),
                "deterministic",
                "there are 16 blocks for 256 sources",
            ),
            (
                pool("203.0.113.80/28, 203.0.113.84/32", "").replace("shared", "other"),
                "addresses[1]",
                "203.0.113.84/32 overlaps with 203.0.113.80/28",
            ),
            (
                pool("\"2001:db8::/64\"", "").replace("shared", "other"),
                "addresses[0]",
                "2001:db8::/64 is no IPv4 prefix",
            ),
            (
                pool("203.0.0.0/16", "").replace("shared", "other"),
                "addresses",
                "there are 65536 addresses",
            ),
            (
                pool("203.0.113.64/32", "").replace("shared", "other"),
                "addresses[0]",
                "already belongs to NAT pool \"shared\"",
            ),
            (
                with("").replace("inside_vrf: red", "inside_vrf: public"),
                "inside_vrf",
                "cannot be the inside of this pool",
            ),
        ] {
            let refused = world.host.try_apply(&wrong);
            assert!(
                refused.errors.contains(&format!("{field}: ")) && refused.errors.contains(message),
                "{wrong}{refused}"
            );
        }
        // What was there before is still in force.
        world.web.send(&udp("10.0.0.1", 9800, REMOTE).frame(GATEWAY, WEB));
        let (address, _) = mapped(world, &|from, port| udp(from, port, REMOTE), 0);
        assert_eq!(address, "203.0.113.64");
        unshare(world);
    });
}
