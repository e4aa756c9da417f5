//! Routes come, go and cover each other; packets follow at once, sessions too.
//!
//! Each route leads into MPLS over UDP with a label of its own, so that a packet on the underlay tells which route it
//! took. The oracle is a list, searched for the longest prefix that fits.

use std::net::IpAddr;

use weft_tests::{
    frame::{Packet, address},
    lone::{GATEWAY, Lone, WEB},
    wire::Wire,
    world::in_world,
};

super::scenarios! {
    a_route_is_added_and_all_are_deleted: ["Routes: add", "Routes: delete all", "Routes: IPv6"],
    a_sub_route_takes_its_part: ["Routes: sub-route", "Routes: delete a sub-route", "Routes: IPv6"],
    a_super_route_takes_what_is_left: [
        "Routes: super-route", "Routes: delete a mid-level super-route", "Routes: IPv6",
    ],
    classless_prefixes_nest: [
        "Routes: classless prefixes", "Routes: delete a classless super-route", "Routes: IPv6",
    ],
    a_default_route_inherits_from_a_deleted_sub_route: [
        "Routes: default route with a sub-route deleted", "Routes: IPv6",
    ],
    routes_of_odd_lengths_are_replaced: ["Routes: /25, /23 and /20 replaced"],
    seventy_thousand_next_hops_are_all_distinct: ["Routes: 64 K and more next hops"],
    no_packet_is_lost_while_a_route_is_replaced: [],
}

/// The routes that stand now, and the weftd that must follow them.
struct Table<'w> {
    world: &'w mut Lone,
    routes: Vec<(String, u32)>,
    probes: Vec<&'static str>,
}

fn contains(prefix: &str, destination: IpAddr) -> Option<u32> {
    let (network, length) = prefix.split_once('/').expect("a prefix");
    let length: u32 = length.parse().expect("a length");
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, true),
        IpAddr::V6(address) => (address.to_bits(), false),
    };
    let (network, destination) = (bits(address(network)), bits(destination));
    let differing = network.0 ^ destination.0;
    (network.1 == destination.1 && (length == 0 || differing >> (128 - length) == 0)).then_some(length)
}

impl<'w> Table<'w> {
    fn new(world: &'w mut Lone, probes: &[&'static str]) -> Self {
        Table {
            world,
            routes: Vec::new(),
            probes: probes.to_vec(),
        }
    }

    fn name(prefix: &str) -> String {
        format!("t-{}", prefix.replace(['/', ':'], "-"))
    }

    fn set(&mut self, prefix: &str, label: u32) -> &mut Self {
        self.world.host.apply(&format!(
            "kind: Route\nname: {}\nspec: {{vrf: red, prefix: \"{prefix}\", \
             next_hop: {{tunnel: {{endpoint: mpls-udp, labels: [{label}]}}}}}}\n",
            Self::name(prefix)
        ));
        self.routes.retain(|(known, _)| known != prefix);
        self.routes.push((prefix.to_owned(), label));
        self.check()
    }

    fn remove(&mut self, prefix: &str) -> &mut Self {
        self.world.host.delete("route", &Self::name(prefix));
        self.routes.retain(|(known, _)| known != prefix);
        self.check()
    }

    /// Every probe takes the route with the longest prefix, or is dropped.
    fn check(&mut self) -> &mut Self {
        for probe in self.probes.clone() {
            let destination = address(probe);
            let expected = self
                .routes
                .iter()
                .filter_map(|(prefix, label)| Some((contains(prefix, destination)?, *label)))
                .max()
                .map(|(_, label)| label);
            // The same 5-tuple each time: an established session must follow the change as a new one does.
            let packet = match destination {
                IpAddr::V4(_) => Packet::udp("10.0.0.1:7000", &format!("{probe}:7000"), b"probe"),
                IpAddr::V6(_) => Packet::udp("[fd00:1::1]:7000", &format!("[{probe}]:7000"), b"probe"),
            };
            let send = |world: &Lone| world.web.send(&packet.frame(GATEWAY, WEB));
            let taken = match expected {
                None => {
                    self.world.host.expect_drops("no-route", 1, || send(self.world));
                    None
                }
                Some(_) => {
                    send(self.world);
                    Some(label(&tunnelled(&mut self.world.router)))
                }
            };
            assert_eq!(taken, expected, "{probe} with the routes {:?}", self.routes);
        }
        self
    }
}

/// The next MPLSoUDP frame over IPv4; what weftd asks its underlay neighbours is none of these tests' business.
fn tunnelled(router: &mut Wire) -> Vec<u8> {
    loop {
        let frame = router.receive();
        let is_ipv4 = frame.get(12..14) == Some(&[0x08, 0x00]);
        if is_ipv4 && frame.get(36..38) == Some(&6635_u16.to_be_bytes()) {
            return frame;
        }
    }
}

/// The label of an MPLSoUDP frame over IPv4.
fn label(frame: &[u8]) -> u32 {
    u32::from_be_bytes([0, frame[42], frame[43], frame[44]]) >> 4
}

fn a_route_is_added_and_all_are_deleted() {
    in_world(|world: &mut Lone| {
        Table::new(
            world,
            &["172.16.1.1", "172.16.2.1", "172.17.0.1", "fd10:1::1", "fd10:2::1"],
        )
        .check()
        .set("172.16.1.0/24", 101)
        .set("172.16.2.0/24", 102)
        .set("172.17.0.1/32", 103)
        .set("fd10:1::/64", 104)
        .set("fd10:2::1/128", 105)
        .remove("172.16.1.0/24")
        .remove("172.16.2.0/24")
        .remove("172.17.0.1/32")
        .remove("fd10:1::/64")
        .remove("fd10:2::1/128");
    });
}

fn a_sub_route_takes_its_part() {
    in_world(|world: &mut Lone| {
        Table::new(
            world,
            &[
                "172.16.0.1",
                "172.16.1.1",
                "172.16.1.200",
                "fd10::1:1",
                "fd10::2:1",
            ],
        )
        .set("172.16.0.0/16", 201)
        .set("172.16.1.0/24", 202)
        .set("172.16.1.200/32", 203)
        .set("fd10::/32", 204)
        .set("fd10::1:0/112", 205)
        .remove("172.16.1.0/24")
        .remove("fd10::1:0/112")
        .remove("172.16.1.200/32")
        .remove("172.16.0.0/16")
        .remove("fd10::/32");
    });
}

fn a_super_route_takes_what_is_left() {
    in_world(|world: &mut Lone| {
        Table::new(
            world,
            &[
                "172.16.1.1",
                "172.16.2.1",
                "172.20.0.1",
                "fd10:0:1::1",
                "fd10:0:2::1",
                "fd11::1",
            ],
        )
        .set("172.16.1.0/24", 301)
        .set("172.16.0.0/16", 302)
        .set("172.0.0.0/8", 303)
        .set("fd10:0:1::/48", 304)
        .set("fd10::/32", 305)
        .set("fd00::/8", 306)
        .remove("172.16.0.0/16")
        .remove("fd10::/32")
        .remove("172.0.0.0/8")
        .remove("fd00::/8")
        .remove("172.16.1.0/24")
        .remove("fd10:0:1::/48");
    });
}

fn classless_prefixes_nest() {
    in_world(|world: &mut Lone| {
        Table::new(
            world,
            &[
                "172.16.0.1",
                "172.16.3.1",
                "172.16.7.1",
                "172.16.15.1",
                "172.31.0.1",
                "fd10::f:1",
                "fd1f::1",
            ],
        )
        .set("172.16.0.0/12", 401)
        .set("172.16.0.0/20", 402)
        .set("172.16.0.0/21", 403)
        .set("172.16.0.0/22", 404)
        .set("172.16.0.0/27", 405)
        .set("fd10::/12", 406)
        .set("fd10::/109", 407)
        .set("fd10::/111", 408)
        .remove("172.16.0.0/21")
        .remove("172.16.0.0/20")
        .remove("fd10::/109")
        .remove("172.16.0.0/12")
        .remove("172.16.0.0/22")
        .remove("172.16.0.0/27")
        .remove("fd10::/12")
        .remove("fd10::/111");
    });
}

fn a_default_route_inherits_from_a_deleted_sub_route() {
    in_world(|world: &mut Lone| {
        Table::new(world, &["172.16.1.1", "8.8.8.8", "fd10::1", "2001:db8::1"])
            .set("0.0.0.0/0", 501)
            .set("172.16.1.0/24", 502)
            .set("::/0", 503)
            .set("fd10::/64", 504)
            .remove("172.16.1.0/24")
            .remove("fd10::/64")
            .remove("0.0.0.0/0")
            .remove("::/0");
    });
}

fn routes_of_odd_lengths_are_replaced() {
    in_world(|world: &mut Lone| {
        Table::new(
            world,
            &[
                "172.16.0.1",
                "172.16.0.129",
                "172.16.1.1",
                "172.16.2.1",
                "172.16.15.1",
                "172.16.16.1",
            ],
        )
        .set("172.16.0.0/25", 601)
        .set("172.16.0.0/23", 602)
        .set("172.16.0.0/20", 603)
        .set("172.16.0.0/25", 604)
        .set("172.16.0.0/23", 605)
        .set("172.16.0.0/20", 606)
        .remove("172.16.0.0/23")
        .remove("172.16.0.0/25")
        .remove("172.16.0.0/20");
    });
}

fn seventy_thousand_next_hops_are_all_distinct() {
    in_world(|world: &mut Lone| {
        const COUNT: u32 = 70_000;
        let prefix = |number: u32| format!("20.{}.{}.{}", number >> 16, number >> 8 & 0xff, number & 0xff);
        let mut text = String::with_capacity(COUNT as usize * 150);
        for number in 0..COUNT {
            text += &format!(
                "---\nkind: Route\nname: many/{number}\nspec: {{vrf: red, prefix: {}/32, \
                 next_hop: {{tunnel: {{endpoint: mpls-udp, labels: [{}]}}}}}}\n",
                prefix(number),
                2000 + number
            );
        }
        world.host.apply(&text);
        for number in (0..COUNT)
            .step_by(997)
            .chain([65_534, 65_535, 65_536, 65_537, COUNT - 1])
        {
            let packet = Packet::udp("10.0.0.1:7000", &format!("{}:7000", prefix(number)), b"");
            world.web.send(&packet.frame(GATEWAY, WEB));
            assert_eq!(
                label(&tunnelled(&mut world.router)),
                2000 + number,
                "{}",
                prefix(number)
            );
        }
        let file = world.host.path("apply.yaml");
        world.host.show(&format!("delete -f {}", file.display()));
        let packet = Packet::udp("10.0.0.1:7000", &format!("{}:7000", prefix(COUNT - 1)), b"");
        world
            .host
            .expect_drops("no-route", 1, || world.web.send(&packet.frame(GATEWAY, WEB)));
    });
}

fn no_packet_is_lost_while_a_route_is_replaced() {
    in_world(|world: &mut Lone| {
        // A covering route is replaced again and again while packets run: each takes the one or the other.
        Table::new(world, &["172.16.1.1"]).set("172.16.1.0/24", 701);
        let packet = Packet::udp("10.0.0.1:7000", "172.16.1.1:7000", b"run").frame(GATEWAY, WEB);
        let mut labels = [0_u32; 2];
        for round in 0..20 {
            let process = std::thread::scope(|scope| {
                let host = &world.host;
                let apply = scope.spawn(move || {
                    host.apply(&format!(
                        "kind: Route\nname: t-172.16.1.0-24\nspec: {{vrf: red, prefix: 172.16.1.0/24, \
                         next_hop: {{tunnel: {{endpoint: mpls-udp, labels: [{}]}}}}}}\n",
                        701 + (round + 1) % 2
                    ));
                });
                let mut sent = 0;
                while !apply.is_finished() || sent < 100 {
                    world.web.send(&packet);
                    let taken = label(&tunnelled(&mut world.router));
                    assert!(taken == 701 || taken == 702, "label {taken}");
                    labels[(taken - 701) as usize] += 1;
                    sent += 1;
                }
                apply.join()
            });
            assert!(process.is_ok(), "the route is applied");
        }
        assert!(
            labels.iter().all(|count| *count > 100),
            "both routes were seen: {labels:?}"
        );
        world.host.delete("route", "t-172.16.1.0-24");
    });
}
