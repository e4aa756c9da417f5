//! What reaches the data plane, in which order, and what waits.

use weft_dataplane::change::NextHopSpec;
use weft_table::{PortId, VrfId};

use super::*;

#[test]
fn a_route_waits_for_its_port_and_follows_when_it_appears() {
    let mut world = World::new();
    world.apply(&[vrf("red"), route("r", "red", "10.0.0.0/24", to_port("vm"))]);
    let waits = "waits for port \"vm\", which does not exist";
    assert_eq!(world.status(Kind::Route, "r"), (State::Pending, waits.into()));
    assert!(world.routes().is_empty());
    world.apply(&[tap("vm", "red", &[])]);
    assert_eq!(world.status(Kind::Route, "r"), (State::Active, String::new()));
    let hop = NextHopSpec::Port {
        port: PortId(0),
        mac: None,
        vlan: None,
    };
    assert_eq!(
        world.routes(),
        [((VrfId(1), "10.0.0.0/24".parse().unwrap()), hop)].into()
    );
}

#[test]
fn a_whole_tenant_may_come_in_any_order_and_in_pieces() {
    let objects = [
        route("to-host-b", "red", "10.0.1.0/24", to_group("spread")),
        group("spread", &[("a", to_vni("b", 7)), ("b", to_port("vm"))]),
        endpoint("b", "198.18.0.2", v1::Encapsulation::Vxlan),
        tap("sub", "red", &[]),
        with_port(port("sub-7", "red", vlan_device("vm", 7)), |port| {
            port.addresses = vec!["10.0.0.7".into()]
        }),
        tap("vm", "red", &["10.0.0.5", "fd00::5"]),
        network("n", "red", "10.0.0.0/24", "10.0.0.1"),
        vni("v", 7, target_vrf("red")),
        label("l", 16, target_port("vm")),
        uplink("u", "198.18.0.1/24"),
        vrf("red"),
    ];
    let mut at_once = World::new();
    at_once.apply(&objects);
    let mut in_pieces = World::new();
    for object in &objects {
        in_pieces.apply(std::slice::from_ref(object));
    }
    let mut backwards = World::new();
    for object in objects.iter().rev() {
        backwards.apply(std::slice::from_ref(object));
    }
    for world in [&at_once, &in_pieces, &backwards] {
        for view in world.core.get(&Filter::default()) {
            assert_eq!(
                (view.status.state, view.status.message),
                (State::Active, String::new()),
                "{}",
                view.key
            );
        }
        let tables = world.engine.tables();
        let routes: Vec<String> = tables
            .routes
            .keys()
            .map(|(_, prefix)| prefix.to_string())
            .collect();
        let expected = [
            "10.0.0.1/32",
            "10.0.0.5/32",
            "10.0.0.7/32",
            "10.0.1.0/24",
            "fd00::5/128",
        ];
        assert_eq!(routes, expected);
        assert_eq!(
            (tables.vnis.len(), tables.labels.len(), tables.endpoints.len()),
            (1, 1, 1)
        );
        assert_eq!(tables.ports.len(), 4);
    }
    // What came in one request goes in one request, whatever its order.
    let keys: Vec<Key> = objects.iter().map(|object| valid(object).key).collect();
    for mut world in [at_once, in_pieces, backwards] {
        world.change(&[], &keys);
        assert!(by_value(&world.engine.tables()) == by_value(&World::new().engine.tables()));
        assert!(world.stored().is_empty());
    }
}

#[test]
fn routes_that_lead_the_same_way_share_a_next_hop() {
    let mut world = World::new();
    let many = (0..100).map(|i| route(&format!("r{i}"), "red", &format!("10.0.{i}.0/24"), to_port("vm")));
    let mut objects = vec![vrf("red"), tap("vm", "red", &["10.1.0.1"])];
    objects.extend(many);
    world.apply(&objects);
    assert_eq!(
        (
            world.engine.tables().routes.len(),
            world.engine.tables().next_hops.len()
        ),
        (101, 1)
    );
}

#[test]
fn a_next_hop_stays_until_the_last_that_leads_there_is_gone() {
    let mut world = World::new();
    world.apply(&[vrf("red"), tap("vm", "red", &[])]);
    let both = [("a", to_port("vm")), ("b", to_port("vm"))];
    let route = |name: &str, octet: u8| route(name, "red", &format!("10.0.{octet}.0/24"), to_port("vm"));
    world.apply(&[
        group("g", &both),
        route("r1", 1),
        route("r2", 2),
        group("h", &both),
    ]);
    assert_eq!(world.engine.tables().next_hops.len(), 3);
    world.change(&[], &[key(Kind::Route, "r1"), key(Kind::NextHopGroup, "h")]);
    world.change(&[], &[key(Kind::NextHopGroup, "g")]);
    assert_eq!(world.engine.tables().next_hops.len(), 1);
    let used = world.refused_change("o", &[], &[key(Kind::Port, "vm")]);
    assert!(
        used.contains("port \"vm\" is still used by route \"r2\""),
        "{used}"
    );
    world.change(&[], &[key(Kind::Route, "r2")]);
    assert_eq!(world.engine.tables().next_hops.len(), 0);
}

#[test]
fn a_changed_group_keeps_its_number_and_its_routes() {
    let mut world = World::new();
    let two = [("a", to_port("vm-a")), ("b", to_port("vm-b"))];
    world.apply(&[vrf("red"), tap("vm-a", "red", &[]), tap("vm-b", "red", &[])]);
    world.apply(&[group("g", &two), route("r", "red", "10.0.0.0/24", to_group("g"))]);
    let before = world.engine.tables().routes;
    world.apply(&[group("g", &two[..1])]);
    assert_eq!(world.engine.tables().routes, before);
    assert!(
        matches!(world.routes().values().next(), Some(NextHopSpec::Group(members)) if members.len() == 1)
    );
}

#[test]
fn a_member_whose_port_is_missing_is_left_out_and_said_so() {
    let mut world = World::new();
    world.apply(&[vrf("red"), tap("vm-a", "red", &[])]);
    world.apply(&[group("g", &[("a", to_port("vm-a")), ("b", to_port("vm-b"))])]);
    let message = "in part: waits for port \"vm-b\", which does not exist";
    assert_eq!(
        world.status(Kind::NextHopGroup, "g"),
        (State::Active, message.into())
    );
    world.apply(&[tap("vm-b", "red", &[])]);
    assert_eq!(
        world.status(Kind::NextHopGroup, "g"),
        (State::Active, String::new())
    );
}

#[test]
fn a_changed_endpoint_moves_every_tunnel_to_it_and_no_route() {
    let mut world = World::new();
    let to = endpoint("b", "198.18.0.2", v1::Encapsulation::Vxlan);
    world.apply(&[vrf("red"), to, route("r", "red", "10.0.1.0/24", to_vni("b", 7))]);
    let before = world.engine.tables();
    world.apply(&[endpoint("b", "198.18.0.3", v1::Encapsulation::Vxlan)]);
    let after = world.engine.tables();
    assert_eq!(before.routes, after.routes);
    assert_ne!(before.next_hops, after.next_hops);
    assert_eq!(after.endpoints, ["198.18.0.3".parse().unwrap()].into());
}

#[test]
fn an_endpoint_address_stays_until_the_last_endpoint_with_it_is_gone() {
    let mut world = World::new();
    world.apply(&[
        endpoint("vxlan", "198.18.0.2", v1::Encapsulation::Vxlan),
        endpoint("mpls", "198.18.0.2", v1::Encapsulation::MplsOverUdp),
    ]);
    world.change(&[], &[key(Kind::TunnelEndpoint, "vxlan")]);
    assert_eq!(world.engine.tables().endpoints.len(), 1);
    world.change(&[], &[key(Kind::TunnelEndpoint, "mpls")]);
    assert_eq!(world.engine.tables().endpoints.len(), 0);
}

#[test]
fn a_vlan_passes_from_a_removed_port_to_a_new_one_in_one_batch() {
    let mut world = World::new();
    let with = |name: &str| port(name, "red", vlan_device("trunk", 100));
    world.apply(&[vrf("red"), tap("trunk", "red", &[]), with("web-0")]);
    world.apply(&[
        route("r", "red", "10.0.0.0/24", to_group("g")),
        group("g", &[("m", to_port("web-0"))]),
        vni("v", 7, target_port("web-0")),
    ]);
    world.change(
        &[
            with("web-1"),
            group("g", &[("m", to_port("web-1"))]),
            vni("v", 7, target_port("web-1")),
        ],
        &[key(Kind::Port, "web-0")],
    );
    let tables = world.engine.tables();
    let names: Vec<&str> = tables.ports.values().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["trunk", "web-1"]);
    assert_eq!(world.status(Kind::Route, "r").0, State::Active);
}

#[test]
fn a_device_passes_from_a_removed_port_with_sub_interfaces_to_a_new_one() {
    let mut world = World::new();
    let named = |name: &str| port(name, "red", vhost_device("/run/vm.sock"));
    world.apply(&[
        vrf("red"),
        named("old"),
        port("old-7", "red", vlan_device("old", 7)),
    ]);
    world.apply(&[route("r", "red", "10.0.0.0/24", to_port("old-7"))]);
    world.change(
        &[
            named("new"),
            port("new-7", "red", vlan_device("new", 7)),
            route("r", "red", "10.0.0.0/24", to_port("new-7")),
        ],
        &[key(Kind::Port, "old"), key(Kind::Port, "old-7")],
    );
    assert_eq!(world.engine.tables().ports.len(), 2);
    assert_eq!(world.status(Kind::Route, "r").0, State::Active);
}

#[test]
fn an_address_moves_between_ports_in_one_batch() {
    let mut world = World::new();
    world.apply(&[
        vrf("red"),
        tap("a", "red", &["10.0.0.5"]),
        tap("b", "red", &["10.0.0.6"]),
    ]);
    world.apply(&[tap("a", "red", &["10.0.0.6"]), tap("b", "red", &["10.0.0.5"])]);
    let ports: Vec<_> = world.routes().into_values().collect();
    let hop = |port| NextHopSpec::Port {
        port: PortId(port),
        mac: None,
        vlan: None,
    };
    assert_eq!(ports, [hop(1), hop(0)]);
}

#[test]
fn numbers_are_the_same_after_a_restart_and_free_again_after_a_deletion() {
    let directory = tempfile::tempdir().unwrap();
    let mut world = World::restored(Store::open(directory.path()).unwrap(), Arc::default());
    world.apply(&[
        vrf("a"),
        vrf("b"),
        vrf("c"),
        tap("p", "b", &[]),
        tap("q", "c", &["10.0.0.1"]),
    ]);
    world.change(&[], &[key(Kind::Vrf, "a"), key(Kind::Port, "p")]);
    let before = world.engine.tables();
    drop(world);
    let mut world = World::restored(Store::open(directory.path()).unwrap(), Arc::default());
    assert!(by_value(&world.engine.tables()) == by_value(&before));
    world.apply(&[vrf("d"), tap("r", "d", &[])]);
    assert_eq!(world.engine.tables().vrfs[&VrfId(1)].name, "d");
    assert_eq!(world.engine.tables().ports[&PortId(0)].name, "r");
}

#[test]
fn the_underlay_takes_settings_and_outlives_its_object() {
    let mut world = World::new();
    let underlay = || vrf("underlay");
    assert_eq!(world.core.get(&Filter::default())[0].held.owner, "weftd".into());
    world.apply(&[uplink("u", "198.18.0.1/24"), underlay()]);
    world.change(&[], &[key(Kind::Vrf, "underlay")]);
    assert_eq!(world.status(Kind::Port, "u").0, State::Active);
    assert_eq!(world.engine.tables().vrfs[&VrfId::UNDERLAY].name, "underlay");
}

#[test]
fn a_replay_is_unchanged_and_a_change_counts_the_generation_up() {
    let mut world = World::new();
    let objects = [vrf("red"), tap("vm", "red", &["10.0.0.5"])];
    assert_eq!(world.apply(&objects), [Outcome::Created, Outcome::Created]);
    assert_eq!(world.apply(&objects), [Outcome::Unchanged, Outcome::Unchanged]);
    assert_eq!(
        world.apply(&[tap("vm", "red", &["10.0.0.6"])]),
        [Outcome::Changed]
    );
    let filter = Filter {
        kind: Some(Kind::Port),
        ..Default::default()
    };
    assert_eq!(world.core.get(&filter)[0].held.generation, 2);
    assert_eq!(world.change(&[], &[key(Kind::Port, "vm")]), [Outcome::Deleted]);
    assert_eq!(world.change(&[], &[key(Kind::Port, "vm")]), [Outcome::Unchanged]);
}

#[test]
fn a_dry_run_says_what_would_happen_and_does_nothing() {
    let mut world = World::new();
    let batch = Batch {
        owner: "o".into(),
        revision: 9,
        puts: vec![
            Ok(valid(&vrf("red"))),
            Ok(valid(&route("r", "red", "10.0.0.0/8", to_port("x")))),
        ],
        deletes: vec![],
        dry_run: true,
    };
    let created = |state| Verdict::Done {
        outcome: Outcome::Created,
        generation: 1,
        state: Some(state),
    };
    let answer = world.core.apply(batch).unwrap();
    assert_eq!(answer.verdicts, [created(State::Active), created(State::Pending)]);
    assert!(world.stored().is_empty() && world.core.revisions().is_empty());
    assert!(by_value(&world.engine.tables()) == by_value(&World::new().engine.tables()));
}
