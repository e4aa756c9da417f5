//! What is refused because of other objects, in the words that people read.

use super::*;

/// A host with one of everything.
fn world() -> World {
    let mut world = World::new();
    world.apply(&[
        vrf("red"),
        vrf("blue"),
        network("front", "red", "10.0.0.0/24", "10.0.0.1"),
        tap("vm-7", "red", &["10.0.0.7"]),
        port("web-0", "red", vlan_device("vm-7", 100)),
        with_port(port("vm-8", "blue", vhost_device("/run/vm-8.sock")), |port| {
            port.trunk = vec![v1::TrunkVlan {
                vlan: 200,
                vrf: "red".into(),
            }];
        }),
        with_port(uplink("u0", "198.18.0.1/24"), |port| {
            port.host_interface = "weft0".into()
        }),
        endpoint("host-b", "198.18.0.2", v1::Encapsulation::Vxlan),
        endpoint("router", "198.18.0.3", v1::Encapsulation::MplsOverUdp),
        group("spread", &[("a", to_port("vm-7")), ("b", to_vni("host-b", 7))]),
        route("r1", "red", "10.1.0.0/16", to_group("spread")),
        route("r2", "red", "10.2.0.0/16", to_vni("host-b", 7)),
        vni("red-vni", 7, target_vrf("red")),
        label("red-label", 100, target_port("vm-7")),
    ]);
    world
}

#[test]
fn conflicts_name_the_field_the_value_the_other_object_and_the_way_out() {
    let mut world = world();
    let socket = vhost_device("/run/vm-8.sock");
    let device = |device: &str| {
        v1::port::Device::Ethdev(v1::EthdevDevice {
            device: device.into(),
            queues: 0,
        })
    };
    let trunk = |vlan| {
        with_port(tap("vm-7", "red", &["10.0.0.7"]), |port| {
            port.trunk = vec![v1::TrunkVlan {
                vlan,
                vrf: "blue".into(),
            }];
        })
    };
    let batches: [&[v1::Object]; 16] = [
        &[port("web-1", "blue", vlan_device("vm-7", 100))],
        &[port("web-1", "blue", vlan_device("vm-8", 200))],
        &[trunk(100)],
        &[port("web-1", "red", vlan_device("web-0", 5))],
        &[route("r3", "red", "10.1.0.0/16", to_port("vm-7"))],
        &[route("r3", "red", "10.0.0.7/32", to_port("vm-8"))],
        &[tap("vm-9", "red", &["10.0.0.1"])],
        &[tap("vm-9", "red", &["10.0.0.7"])],
        &[network("n2", "red", "10.0.0.0/28", "10.0.0.7")],
        &[uplink("u1", "198.18.0.1/16")],
        &[
            vni("v2", 7, target_vrf("blue")),
            label("l2", 100, target_vrf("blue")),
        ],
        &[
            port("vm-9", "red", socket),
            port("vm-10", "red", tap_device("vm-7")),
        ],
        &[
            port("x", "red", device("net_af_packet_u0,iface=eth9")),
            port("y", "red", device("net_z,iface=u0")),
        ],
        &[port("z", "red", tap_device("weft0"))],
        &[route("r3", "red", "10.3.0.0/16", to_vni("router", 7))],
        &[endpoint("host-b", "198.18.0.2", v1::Encapsulation::MplsOverGre)],
    ];
    let report: Vec<String> = batches.into_iter().map(|batch| world.refused(batch)).collect();
    insta::assert_snapshot!("conflicts", report.join("\n"));
}

#[test]
fn more_conflicts_that_need_the_state_of_things() {
    let mut world = world();
    let report = [
        world.refused(&[group("spread", &[("a", to_labels("host-b", &[16]))])]),
        world.refused(&[with_port(tap("vm-9", "red", &[]), |port| {
            port.workers = vec![0, 2]
        })]),
        world.refused(&[port("vm-7", "red", tap_device("other"))]),
        world.refused(&[
            vrf("green"),
            tap("a", "green", &["10.0.0.1"]),
            tap("b", "green", &["10.0.0.1"]),
        ]),
        world.refused(&[vrf("green"), vrf("green")]),
        world.refused_change("p", &[vrf("red")], &[]),
        world.refused_change("p", &[route("r9", "red", "10.1.0.0/16", to_port("vm-8"))], &[]),
        world.refused_change("o", &[], &[key(Kind::Vrf, "red")]),
        world.refused_change("o", &[], &[key(Kind::Port, "vm-7"), key(Kind::Route, "r1")]),
        world.refused_change("o", &[], &[key(Kind::TunnelEndpoint, "host-b")]),
        world.refused_change("o", &[], &[key(Kind::NextHopGroup, "spread")]),
        world.refused_change("p", &[], &[key(Kind::Route, "r1")]),
        world.refused_change("o", &[vrf("red")], &[key(Kind::Vrf, "red")]),
    ];
    insta::assert_snapshot!("more_conflicts", report.join("\n"));
}

#[test]
fn half_a_batch_is_no_batch() {
    let mut world = world();
    let answer = world.try_apply("o", &[vrf("green"), vni("v2", 7, target_vrf("green"))], &[]);
    assert_eq!(answer.verdicts[0], Verdict::NotTried);
    assert!(matches!(&answer.verdicts[1], Verdict::Refused(error) if error.field == "vni.vni"));
    assert!(
        !world
            .core
            .get(&Filter::default())
            .iter()
            .any(|view| &*view.key.name == "green")
    );
}

#[test]
fn an_encapsulation_changes_together_with_those_who_use_it() {
    let mut world = world();
    world.apply(&[
        endpoint("host-b", "198.18.0.2", v1::Encapsulation::MplsOverGre),
        group(
            "spread",
            &[("a", to_port("vm-7")), ("b", to_labels("host-b", &[16]))],
        ),
        route("r2", "red", "10.2.0.0/16", to_labels("host-b", &[16, 17])),
    ]);
    assert_eq!(world.status(Kind::Route, "r2").0, State::Active);
}

#[test]
fn a_route_that_came_before_its_endpoint_cannot_keep_the_endpoint_out() {
    let mut world = world();
    world.apply(&[route("early", "red", "10.4.0.0/16", to_vni("later", 7))]);
    let later = endpoint("later", "198.18.0.9", v1::Encapsulation::MplsOverUdp);
    let answer = world.try_apply("p", &[later], &[]);
    assert!(matches!(
        answer.verdicts[0],
        Verdict::Done {
            outcome: Outcome::Created,
            ..
        }
    ));
    let (state, message) = world.status(Kind::Route, "early");
    let expected = "tunnel endpoint \"later\" is MPLS over UDP, which the next hop does not suit";
    assert_eq!((state, message.as_str()), (State::Pending, expected));
}

#[test]
fn a_sub_interface_of_a_sub_interface_that_came_first_waits() {
    let mut world = world();
    world.apply(&[port("inner", "red", vlan_device("outer", 5))]);
    world.apply(&[port("outer", "red", vlan_device("vm-8", 6))]);
    let message = "port \"outer\" is itself a VLAN sub-interface and has none";
    assert_eq!(
        world.status(Kind::Port, "inner"),
        (State::Pending, message.into())
    );
    assert_eq!(world.status(Kind::Port, "outer").0, State::Active);
}

#[test]
fn there_are_4095_vrfs_beside_the_underlay() {
    let mut world = World::new();
    let vrfs: Vec<v1::Object> = (0..4096).map(|index| vrf(&format!("v{index}"))).collect();
    let error = world.refused(&vrfs);
    let expected = "name: every number that the data plane has for a vrf is in use";
    assert!(error.starts_with(expected), "{error}");
    world.apply(&vrfs[..4095]);
    // A number is free when the data plane has let go of it, and no sooner.
    world.change(&[], &[key(Kind::Vrf, "v7")]);
    world.apply(&vrfs[4095..]);
}
