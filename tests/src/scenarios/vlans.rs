//! VLAN sub-interfaces, trunks, and tags that nobody knows.

use weft_tests::{
    container::TapPort,
    frame::{Packet, arp_reply, arp_request, ethertype, tagged, tagged_as},
    lone::{APP, GATEWAY, Lone, WEB, test_mac},
    wire::Wire,
    world::in_world,
};

super::scenarios! {
    a_sub_interface_sends_and_receives_its_tag: [
        "VLAN: sub-interface by VLAN", "VLAN: strip on receive, tag on transmit", "VLAN: native VLAN",
    ],
    one_vlan_under_two_parents_is_two_networks: ["VLAN: the same VLAN under two parents in two VRFs"],
    an_unknown_vlan_is_dropped_and_counted: ["VLAN: unknown VLAN dropped and counted"],
    a_second_tag_is_dropped_by_name: ["VLAN: QinQ"],
    priority_tags_belong_to_the_port_itself: ["VLAN: priority tags"],
    a_trunk_leads_vlans_to_their_vrfs: ["VLAN: trunk"],
}

/// Two parents in red, each with VLAN 100: under the first in red as well, under the second in blue.
struct Vlans<'w> {
    world: &'w mut Lone,
    first: Wire,
    second: Wire,
}

impl<'w> Vlans<'w> {
    fn new(world: &'w mut Lone) -> Self {
        let parent = |number: u8| {
            TapPort::new(
                "red",
                &format!("parent{number}"),
                &format!("02:00:00:00:08:0{number}"),
                &[&format!("10.0.0.8{number}")],
            )
        };
        let first = world.host.raw_tap(&world.guests, &parent(1));
        let second = world.host.raw_tap(&world.guests, &parent(2));
        world.host.apply(
            "kind: Port\nname: sub1\nspec: {vlan: {parent: red-parent1, vlan: 100}, vrf: red, \
             mac: \"02:00:00:00:08:11\", addresses: [10.0.0.91]}\n---\n\
             kind: Port\nname: sub2\nspec: {vlan: {parent: red-parent2, vlan: 100}, vrf: blue, \
             mac: \"02:00:00:00:08:12\", addresses: [10.0.0.91]}\n",
        );
        Vlans { world, first, second }
    }

    fn end(self) {
        self.world.host.delete("port", "sub1 sub2");
        self.world.host.delete("port", "red-parent1 red-parent2");
    }
}

fn a_sub_interface_sends_and_receives_its_tag() {
    in_world(|world: &mut Lone| {
        let mut vlans = Vlans::new(world);
        let sub = test_mac(0x811);
        // Tagged in, untagged out at the other port.
        let packet = Packet::udp("10.0.0.91:1", "10.0.0.2:1", b"tagged");
        vlans.first.send(&tagged(100, &packet.frame(GATEWAY, sub)));
        vlans.world.app.expect(&packet.hop().frame(APP, GATEWAY));
        // Untagged in, tagged out.
        let packet = Packet::udp("10.0.0.2:1", "10.0.0.91:1", b"reply");
        vlans.world.app.send(&packet.frame(GATEWAY, APP));
        vlans
            .first
            .expect(&tagged(100, &packet.hop().frame(sub, GATEWAY)));
        // The parent's own, untagged, lives beside it.
        let packet = Packet::udp("10.0.0.81:1", "10.0.0.2:2", b"native");
        vlans.first.send(&packet.frame(GATEWAY, test_mac(0x801)));
        vlans.world.app.expect(&packet.hop().frame(APP, GATEWAY));
        let packet = Packet::udp("10.0.0.2:2", "10.0.0.81:1", b"native");
        vlans.world.app.send(&packet.frame(GATEWAY, APP));
        vlans.first.expect(&packet.hop().frame(test_mac(0x801), GATEWAY));
        // From the parent to its own sub-interface, out of the same device.
        let packet = Packet::udp("10.0.0.81:5", "10.0.0.91:5", b"hairpin");
        vlans.first.send(&packet.frame(GATEWAY, test_mac(0x801)));
        vlans
            .first
            .expect(&tagged(100, &packet.hop().frame(sub, GATEWAY)));
        // ARP behind the tag is answered behind the tag.
        vlans
            .first
            .send(&tagged(100, &arp_request(sub, "10.0.0.91", "10.0.0.254")));
        vlans
            .first
            .expect(&tagged(100, &arp_reply(GATEWAY, "10.0.0.254", sub, "10.0.0.91")));
        vlans.end();
    });
}

fn one_vlan_under_two_parents_is_two_networks() {
    in_world(|world: &mut Lone| {
        let mut vlans = Vlans::new(world);
        let packet = Packet::udp("10.0.0.91:3", "10.0.0.1:3", b"whose");
        vlans
            .first
            .send(&tagged(100, &packet.frame(GATEWAY, test_mac(0x811))));
        vlans.world.web.expect(&packet.hop().frame(WEB, GATEWAY));
        vlans
            .second
            .send(&tagged(100, &packet.frame(GATEWAY, test_mac(0x812))));
        vlans
            .world
            .blue
            .expect(&packet.hop().frame(weft_tests::lone::BLUE, GATEWAY));
        let reply = Packet::udp("10.0.0.1:3", "10.0.0.91:3", b"mine");
        vlans
            .world
            .blue
            .send(&reply.frame(GATEWAY, weft_tests::lone::BLUE));
        vlans
            .second
            .expect(&tagged(100, &reply.hop().frame(test_mac(0x812), GATEWAY)));
        vlans.first.expect_nothing();
        vlans.end();
    });
}

fn an_unknown_vlan_is_dropped_and_counted() {
    in_world(|world: &mut Lone| {
        let vlans = Vlans::new(world);
        let packet = Packet::udp("10.0.0.91:1", "10.0.0.2:1", b"");
        for vlan in [1, 99, 101, 4094] {
            vlans.world.host.expect_drops("unknown-vlan", 1, || {
                vlans
                    .first
                    .send(&tagged(vlan, &packet.frame(GATEWAY, test_mac(0x811))));
            });
        }
        // A port without sub-interfaces knows no tag at all.
        vlans.world.host.expect_drops("unknown-vlan", 1, || {
            vlans.world.web.send(&tagged(100, &packet.frame(GATEWAY, WEB)));
        });
        vlans.world.app.expect_nothing();
        vlans.end();
    });
}

fn a_second_tag_is_dropped_by_name() {
    in_world(|world: &mut Lone| {
        let vlans = Vlans::new(world);
        let frame = Packet::udp("10.0.0.91:1", "10.0.0.2:1", b"").frame(GATEWAY, test_mac(0x811));
        let before = vlans.world.host.drops();
        for stacked in [
            tagged(100, &tagged(200, &frame)),
            tagged_as(ethertype::SERVICE_VLAN, 100, &tagged(200, &frame)),
            tagged_as(ethertype::SERVICE_VLAN, 100, &frame),
        ] {
            let total = |drops: &std::collections::BTreeMap<String, u64>| drops.values().sum::<u64>();
            let count = total(&vlans.world.host.drops());
            vlans.first.send(&stacked);
            weft_tests::eventually("the stacked frame is counted", || {
                (total(&vlans.world.host.drops()) == count + 1).then_some(())
            });
        }
        let grown: Vec<String> = vlans
            .world
            .host
            .drops()
            .into_iter()
            .filter(|(reason, packets)| before.get(reason).unwrap_or(&0) < packets)
            .map(|(reason, _)| reason)
            .collect();
        assert!(
            grown
                .iter()
                .all(|reason| ["unknown-vlan", "too-many-headers", "unknown-ethertype"].contains(&&**reason)),
            "{grown:?}"
        );
        vlans.world.app.expect_nothing();
        vlans.end();
    });
}

fn priority_tags_belong_to_the_port_itself() {
    in_world(|world: &mut Lone| {
        let packet = Packet::udp("10.0.0.1:1", "10.0.0.2:1", b"urgent");
        for priority in 0..8_u16 {
            world
                .web
                .send(&tagged(priority << 13, &packet.frame(GATEWAY, WEB)));
            world.app.expect(&packet.hop().frame(APP, GATEWAY));
        }
        // Priority and DEI beside a VLAN that is known.
        let vlans = Vlans::new(world);
        let packet = Packet::udp("10.0.0.91:1", "10.0.0.2:1", b"urgent");
        vlans.first.send(&tagged(
            7 << 13 | 1 << 12 | 100,
            &packet.frame(GATEWAY, test_mac(0x811)),
        ));
        vlans.world.app.expect(&packet.hop().frame(APP, GATEWAY));
        vlans.end();
    });
}

fn a_trunk_leads_vlans_to_their_vrfs() {
    in_world(|world: &mut Lone| {
        let mut port = TapPort::new("red", "trunk", "02:00:00:00:09:01", &["10.0.0.61"]);
        port.more = "trunk: [{vlan: 300, vrf: blue}]".to_owned();
        let mut trunk = world.host.raw_tap(&world.guests, &port);
        world.host.apply(
            "kind: Route\nname: behind-trunk\nspec: {vrf: blue, prefix: 10.0.0.62/32, \
             next_hop: {port: {port: red-trunk, mac: \"02:00:00:00:09:02\", vlan: 300}}}\n",
        );
        let packet = Packet::udp("10.0.0.62:1", "10.0.0.1:1", b"blue");
        trunk.send(&tagged(300, &packet.frame(GATEWAY, test_mac(0x902))));
        world
            .blue
            .expect(&packet.hop().frame(weft_tests::lone::BLUE, GATEWAY));
        let reply = Packet::udp("10.0.0.1:1", "10.0.0.62:1", b"blue");
        world.blue.send(&reply.frame(GATEWAY, weft_tests::lone::BLUE));
        trunk.expect(&tagged(300, &reply.hop().frame(test_mac(0x902), GATEWAY)));
        world.web.expect_nothing();
        world.host.delete("route", "behind-trunk");
        world.host.delete("port", "red-trunk");
    });
}
