//! Groups, receive and discard.

use std::collections::BTreeMap;

use weft_tests::{
    container::TapPort,
    frame::Packet,
    host::rows,
    lone::{APP, GATEWAY, Lone, WEB, test_mac, ways},
    wire::Wire,
    world::in_world,
};

super::scenarios! {
    flows_spread_over_local_and_remote_members: ["Next hops: ECMP over local and remote members"],
    a_leaving_member_moves_only_its_own_flows: ["Next hops: a member leaves and other flows stay put"],
    weights_are_kept: [],
    a_member_that_cannot_be_reached_gets_no_flows: ["Next hops: composite with an unreachable member"],
    receive_takes_what_is_sent_to_it: ["Next hops: receive"],
    discard_drops_and_counts: ["Next hops: discard"],
    a_gateway_is_resolved_behind_the_underlay: ["Next hops: resolve"],
    leaks_that_lead_into_each_other_end: [],
    packet_mode_takes_every_kind_of_next_hop: [],
}

/// A group behind 10.50.0.0/24 and fd50::/64: two local ports and two tunnels.
struct Group<'w> {
    world: &'w mut Lone,
    local: Vec<Wire>,
}

const FLOWS: u16 = 64;

impl<'w> Group<'w> {
    fn new(world: &'w mut Lone, members: &str) -> Self {
        let local = [1, 2]
            .map(|number| {
                let port = TapPort::new(
                    "red",
                    &format!("lb{number}"),
                    &format!("02:00:00:00:07:0{number}"),
                    &[&format!("10.0.0.7{number}")],
                );
                world.host.raw_tap(&world.guests, &port)
            })
            .into();
        let group = Group { world, local };
        group.set(members);
        group.world.host.apply(
            "kind: Route\nname: service\nspec: {vrf: red, prefix: 10.50.0.0/24, next_hop: {group: service}}\n---\n\
             kind: Route\nname: service6\nspec: {vrf: red, prefix: \"fd50::/64\", next_hop: {group: service}}\n",
        );
        group
    }

    fn set(&self, members: &str) {
        self.world.host.apply(&format!(
            "kind: NextHopGroup\nname: service\nspec: {{members: [{members}]}}\n"
        ));
    }

    /// Sends one packet of each flow; returns which member each took.
    fn send_flows(&mut self, v6: bool) -> BTreeMap<u16, &'static str> {
        let mut taken = BTreeMap::new();
        for flow in 0..FLOWS {
            let packet = if v6 {
                Packet::udp(&format!("[fd00:1::1]:{}", 8000 + flow), "[fd50::1]:80", b"flow")
            } else {
                Packet::udp(&format!("10.0.0.1:{}", 8000 + flow), "10.50.0.1:80", b"flow")
            };
            self.world.web.send(&packet.frame(GATEWAY, WEB));
            let member = weft_tests::eventually("a member takes the flow", || self.taken_by(&packet));
            taken.insert(flow, member);
        }
        taken
    }

    fn taken_by(&mut self, packet: &Packet) -> Option<&'static str> {
        let instantly = std::time::Duration::from_millis(1);
        for (number, wire) in self.local.iter_mut().enumerate() {
            if let Some(received) = wire.next(instantly) {
                let expected = packet.hop().frame(test_mac(0x701 + number as u16), GATEWAY);
                assert!(
                    received.bytes == expected,
                    "{}",
                    weft_tests::frame::difference(&expected, &received.bytes)
                );
                return Some(["lb1", "lb2"][number]);
            }
        }
        let sent = self.world.router.next(instantly)?.bytes;
        let (way, name) = if sent[23] == 17 && sent[36..38] == 4789_u16.to_be_bytes() {
            (&ways()[0], "vxlan")
        } else {
            (&ways()[1], "mpls")
        };
        let expected = way.outgoing(&packet.hop(), &sent);
        assert_eq!(&sent[14..], expected.bytes(), "{}", way.name);
        Some(name)
    }

    fn end(self) {
        self.world.host.delete("route", "service service6");
        self.world.host.delete("nexthopgroup", "service");
        self.world.host.delete("port", "red-lb1 red-lb2");
    }
}

const LB1: &str = "{name: lb1, next_hop: {port: {port: red-lb1}}}";
const LB2: &str = "{name: lb2, next_hop: {port: {port: red-lb2}}}";
const VXLAN: &str = "{name: vxlan, next_hop: {tunnel: {endpoint: vxlan, vni: 100}}}";
const MPLS: &str = "{name: mpls, next_hop: {tunnel: {endpoint: mpls-udp, labels: [1000]}}}";

fn count(taken: &BTreeMap<u16, &'static str>, member: &str) -> usize {
    taken.values().filter(|name| **name == member).count()
}

fn flows_spread_over_local_and_remote_members() {
    in_world(|world: &mut Lone| {
        let mut group = Group::new(world, &[LB1, LB2, VXLAN, MPLS].join(", "));
        for v6 in [false, true] {
            let first = group.send_flows(v6);
            for member in ["lb1", "lb2", "vxlan", "mpls"] {
                // 64 flows over four: 16 each; fewer than 4 happens once in 30,000 runs.
                assert!(
                    count(&first, member) >= 4,
                    "{member} got {} of 64",
                    count(&first, member)
                );
            }
            assert_eq!(group.send_flows(v6), first, "a flow stays with its member");
        }
        group.end();
    });
}

fn a_leaving_member_moves_only_its_own_flows() {
    in_world(|world: &mut Lone| {
        let mut group = Group::new(world, &[LB1, LB2, VXLAN, MPLS].join(", "));
        let before = group.send_flows(false);
        group.set(&[LB1, VXLAN, MPLS].join(", "));
        let after = group.send_flows(false);
        for (flow, member) in &before {
            if *member == "lb2" {
                assert_ne!(after[flow], "lb2", "flow {flow} has to move");
            } else {
                assert_eq!(after[flow], *member, "flow {flow} has no reason to move");
            }
        }
        // It comes back, and nobody who is established moves for it.
        group.set(&[LB1, LB2, VXLAN, MPLS].join(", "));
        assert_eq!(
            group.send_flows(false),
            after,
            "established flows stay when a member joins"
        );
        group.end();
    });
}

fn weights_are_kept() {
    in_world(|world: &mut Lone| {
        let heavy = "{name: lb1, weight: 7, next_hop: {port: {port: red-lb1}}}";
        let mut group = Group::new(world, &[heavy, LB2].join(", "));
        let taken = group.send_flows(false);
        // 64 draws at 7 to 1: eight light ones, give or take ten.
        assert!(count(&taken, "lb1") > count(&taken, "lb2") + 20, "{taken:?}");
        group.end();
    });
}

fn a_member_that_cannot_be_reached_gets_no_flows() {
    in_world(|world: &mut Lone| {
        world.host.apply(
            "kind: TunnelEndpoint\nname: nowhere\nspec: {remote: 203.0.113.9, encapsulation: ENCAPSULATION_VXLAN}\n",
        );
        let nowhere = "{name: nowhere, next_hop: {tunnel: {endpoint: nowhere, vni: 100}}}";
        let mut group = Group::new(world, &[LB1, nowhere].join(", "));
        let taken = group.send_flows(false);
        assert_eq!(
            count(&taken, "lb1"),
            usize::from(FLOWS),
            "every flow goes where it arrives"
        );
        group.end();
        world.host.delete("tunnelendpoint", "nowhere");
    });
}

fn receive_takes_what_is_sent_to_it() {
    in_world(|world: &mut Lone| {
        world.host.apply(
            "kind: Route\nname: own\nspec: {vrf: red, prefix: 10.51.0.1/32, next_hop: {receive: {}}}\n",
        );
        world
            .web
            .send(&Packet::echo_request("10.0.0.1", "10.51.0.1", 5, 1).frame(GATEWAY, WEB));
        let received = world.web.receive();
        let expected = Packet::echo_reply("10.51.0.1", "10.0.0.1", 5, 1);
        assert_eq!(
            received[34..],
            expected.payload,
            "{}",
            weft_tests::frame::dump(&received)
        );
        assert_eq!(received[26..34], expected.bytes()[12..20], "addresses");
        // A service that nobody offers is dropped by name.
        let packet = Packet::udp("10.0.0.1:1", "10.51.0.1:9999", b"");
        world
            .host
            .expect_drops("no-service", 1, || world.web.send(&packet.frame(GATEWAY, WEB)));
        world.host.delete("route", "own");
    });
}

fn discard_drops_and_counts() {
    in_world(|world: &mut Lone| {
        world.host.apply(
            "kind: Route\nname: hole\nspec: {vrf: red, prefix: 10.52.0.0/24, next_hop: {discard: {}}}\n---\n\
             kind: Route\nname: hole6\nspec: {vrf: red, prefix: \"fd52::/64\", next_hop: {discard: {}}}\n",
        );
        for (source, destination) in [("10.0.0.1:1", "10.52.0.9:1"), ("[fd00:1::1]:1", "[fd52::9]:1")] {
            let packet = Packet::udp(source, destination, b"");
            world.host.expect_drops("discarded", 3, || {
                for _ in 0..3 {
                    world.web.send(&packet.frame(GATEWAY, WEB));
                }
            });
        }
        world.host.delete("route", "hole hole6");
    });
}

fn a_gateway_is_resolved_behind_the_underlay() {
    in_world(|world: &mut Lone| {
        // The endpoint is two hops away, behind 198.18.0.254 (route "far").
        world.host.apply(
            "kind: TunnelEndpoint\nname: far\nspec: {remote: 198.19.3.3, encapsulation: ENCAPSULATION_VXLAN}\n---\n\
             kind: Route\nname: far-tenant\nspec: {vrf: red, prefix: 10.53.0.0/24, \
             next_hop: {tunnel: {endpoint: far, vni: 100}}}\n",
        );
        let packet = Packet::udp("10.0.0.1:1", "10.53.0.1:1", b"far");
        let sent = weft_tests::eventually("the gateway is resolved", || {
            world.web.send(&packet.frame(GATEWAY, WEB));
            world.router.next(std::time::Duration::from_millis(200))
        });
        let way = weft_tests::lone::Way {
            remote: "198.19.3.3",
            ..ways().remove(0)
        };
        let expected = way
            .outgoing(&packet.hop(), &sent.bytes)
            .frame(weft_tests::lone::ROUTER, weft_tests::lone::UPLINK);
        assert!(
            sent.bytes == expected,
            "{}",
            weft_tests::frame::difference(&expected, &sent.bytes)
        );
        world.router.drain(std::time::Duration::from_millis(50));
        world.host.delete("route", "far-tenant");
        world.host.delete("tunnelendpoint", "far");
    });
}

fn leaks_that_lead_into_each_other_end() {
    in_world(|world: &mut Lone| {
        world.host.apply(
            "kind: Vrf\nname: green\nspec: {}\n---\n\
             kind: Route\nname: loop1\nspec: {vrf: red, prefix: 10.54.0.0/24, next_hop: {vrf: green}}\n---\n\
             kind: Route\nname: loop2\nspec: {vrf: green, prefix: 10.54.0.0/24, next_hop: {vrf: red}}\n",
        );
        let packet = Packet::udp("10.0.0.1:1", "10.54.0.1:1", b"");
        world
            .host
            .expect_drops("leak-loop", 1, || world.web.send(&packet.frame(GATEWAY, WEB)));
        world.host.delete("route", "loop1 loop2");
        world.host.delete("vrf", "green");
    });
}

/// Packets of all kinds come mixed, so that a burst holds several.
fn packet_mode_takes_every_kind_of_next_hop() {
    const ROUNDS: u16 = 20;
    in_world(|world: &mut Lone| {
        let mut group = Group::new(world, &[LB1, LB2].join(", "));
        group.world.host.apply(
            "kind: Vrf\nname: red\nspec: {packet_mode: true}\n---\n\
             kind: Vrf\nname: shared\nspec: {packet_mode: true}\n---\n\
             kind: Route\nname: leak\nspec: {vrf: red, prefix: 10.54.0.0/24, next_hop: {vrf: shared}}\n---\n\
             kind: Route\nname: leaked\nspec: {vrf: shared, prefix: 10.54.0.0/24, \
             next_hop: {tunnel: {endpoint: mpls-udp, labels: [1000]}}}\n---\n\
             kind: Route\nname: hole\nspec: {vrf: red, prefix: 10.52.0.0/24, next_hop: {discard: {}}}\n",
        );
        let to = |destination: &str, round: u16| {
            Packet::udp(
                &format!("10.0.0.1:{}", 6000 + round),
                destination,
                b"without a session",
            )
        };
        let drops = ["discarded", "no-route"].map(|reason| (reason, group.world.host.dropped(reason)));
        for round in 0..ROUNDS {
            for destination in [
                "10.0.0.2:7",
                "10.0.0.12:7",
                "10.50.0.1:7",
                "10.54.0.1:7",
                "10.52.0.1:7",
                "172.30.0.1:7",
            ] {
                group.world.web.send(&to(destination, round).frame(GATEWAY, WEB));
            }
        }
        for (reason, before) in drops {
            weft_tests::eventually(reason, || {
                (group.world.host.dropped(reason) == before + u64::from(ROUNDS)).then_some(())
            });
        }
        for round in 0..ROUNDS {
            let expected = to("10.0.0.2:7", round).hop().frame(APP, GATEWAY);
            group.world.app.expect(&expected);
        }
        // Packets of one flow keep their order, those of several need not.
        let (vxlan, mpls): (Vec<_>, Vec<_>) = (0..2 * ROUNDS)
            .map(|_| group.world.router.receive())
            .partition(|sent| sent[30..34] == [198, 18, 0, 2]);
        for (destination, way, sent) in [("10.0.0.12:7", 0, vxlan), ("10.54.0.1:7", 1, mpls)] {
            assert_eq!(sent.len(), usize::from(ROUNDS), "{destination}");
            for (round, sent) in (0..ROUNDS).zip(sent) {
                let expected = ways()[way].outgoing(&to(destination, round).hop(), &sent);
                assert_eq!(&sent[14..], expected.bytes(), "{destination}");
            }
        }
        let instantly = std::time::Duration::from_millis(100);
        let members = group.local.iter_mut().map(|wire| wire.drain(instantly).len());
        let taken: Vec<usize> = members.collect();
        assert_eq!(taken.iter().sum::<usize>(), usize::from(ROUNDS), "{taken:?}");
        assert!(!taken.contains(&0), "{taken:?}");
        let sessions = rows(
            &group
                .world
                .host
                .json("get flows --vrf red --match proto=udp,dport=7"),
        );
        assert!(sessions.is_empty(), "{sessions:?}");
        group.world.host.delete("route", "leak leaked hole");
        group.world.host.delete("vrf", "shared");
        group
            .world
            .host
            .apply("kind: Vrf\nname: red\nspec: {packet_mode: false}\n");
        group.end();
    });
}
