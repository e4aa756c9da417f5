//! Floating IPs and pools: what they wait for, what they claim, and how they change hands.

use weft_dataplane::change::FloatingIpSpec;
use weft_table::PortId;

use super::*;

/// What the data plane has, by address.
fn installed(world: &World) -> BTreeMap<String, FloatingIpSpec> {
    let tables = world.engine.tables();
    let all = tables.floating_ips.values();
    all.map(|spec| (spec.address.to_string(), *spec)).collect()
}

/// Two containers of red and a public VRF.
fn tenants() -> Vec<v1::Object> {
    vec![
        vrf("red"),
        vrf("public"),
        tap("web", "red", &["10.0.0.1", "fd00::1"]),
        tap("app", "red", &["10.0.0.2"]),
    ]
}

#[test]
fn a_floating_ip_waits_for_its_vrf_and_port() {
    let mut world = World::new();
    world.apply(&[floating_ip("f", "public", "203.0.113.1", "web", "10.0.0.1")]);
    assert_eq!(
        world.status(Kind::FloatingIp, "f"),
        (
            State::Pending,
            "waits for port \"web\", which does not exist; waits for vrf \"public\", which does not exist"
                .into()
        )
    );
    world.apply(&tenants());
    assert_eq!(
        world.status(Kind::FloatingIp, "f"),
        (State::Active, String::new())
    );
    let spec = installed(&world)["203.0.113.1"];
    assert_eq!((spec.port, spec.inside), (PortId(0), "10.0.0.1".parse().unwrap()));
}

#[test]
fn a_port_that_loses_the_address_takes_the_floating_ip_out_of_force() {
    let mut world = World::new();
    world.apply(&tenants());
    world.apply(&[floating_ip("f", "public", "203.0.113.1", "web", "10.0.0.1")]);
    world.apply(&[tap("web", "red", &["10.0.0.9"])]);
    assert!(installed(&world).is_empty());
    assert_eq!(
        world.status(Kind::FloatingIp, "f"),
        (State::Pending, "port \"web\" does not have 10.0.0.1".into())
    );
    world.apply(&[tap("web", "red", &["10.0.0.9", "10.0.0.1"])]);
    assert_eq!(installed(&world).len(), 1);
    // Its VRF cannot be where the port itself is.
    world.apply(&[tap("web", "public", &["10.0.0.1"])]);
    assert!(installed(&world).is_empty());
}

#[test]
fn an_address_is_one_floating_ip_and_an_inside_address_has_one_in_a_vrf() {
    let mut world = World::new();
    world.apply(&tenants());
    world.apply(&[floating_ip("f", "public", "203.0.113.1", "web", "10.0.0.1")]);
    let by_route = hop(v1::next_hop::To::Discard(v1::Discard {}));
    for (object, error) in [
        (
            floating_ip("g", "public", "203.0.113.1", "app", "10.0.0.2"),
            "floating_ip.address: 203.0.113.1 in vrf \"public\" is already floating IP \"f\"",
        ),
        (
            floating_ip("g", "public", "203.0.113.2", "web", "10.0.0.1"),
            "floating_ip.inside_address: 10.0.0.1 of port \"web\" already has floating IP \"f\" in vrf \"public\"",
        ),
        (
            route("r", "public", "203.0.113.1/32", by_route.clone()),
            "route.prefix: 203.0.113.1 in vrf \"public\" is already floating IP \"f\"",
        ),
        (
            floating_ip("g", "public", "203.0.113.2", "web", "10.0.0.7"),
            "floating_ip.inside_address: port \"web\" does not have 10.0.0.7",
        ),
        (
            floating_ip("g", "red", "203.0.113.2", "web", "10.0.0.1"),
            "floating_ip.vrf: \"red\" is the VRF of port \"web\" itself",
        ),
    ] {
        let refused = world.refused(&[object]);
        assert!(refused.starts_with(error), "{refused}");
    }
    assert_eq!(
        world.refused_change("o", &[], &[key(Kind::Port, "web")]),
        "name: port \"web\" is still used by floating IP \"f\"\n  help: delete those first, or in the same request"
    );
    // The same inside address in another VRF, and the other family.
    world.apply(&[
        vrf("partners"),
        floating_ip("g", "partners", "203.0.113.1", "web", "10.0.0.1"),
        floating_ip("h", "public", "2001:db8::1", "web", "fd00::1"),
        route("r", "public", "203.0.113.0/24", by_route),
    ]);
    assert_eq!(world.engine.tables().floating_ips.len(), 3);
}

#[test]
fn floating_ips_change_places_in_one_batch_and_with_a_route() {
    let mut world = World::new();
    world.apply(&tenants());
    world.apply(&[
        floating_ip("f", "public", "203.0.113.1", "web", "10.0.0.1"),
        floating_ip("g", "public", "203.0.113.2", "app", "10.0.0.2"),
    ]);
    world.apply(&[
        floating_ip("f", "public", "203.0.113.2", "web", "10.0.0.1"),
        floating_ip("g", "public", "203.0.113.1", "app", "10.0.0.2"),
    ]);
    let now = installed(&world);
    assert_eq!(
        (now["203.0.113.1"].port, now["203.0.113.2"].port),
        (PortId(1), PortId(0))
    );
    // A route takes the address of one, which takes the route's.
    let discard = hop(v1::next_hop::To::Discard(v1::Discard {}));
    world.apply(&[route("r", "public", "203.0.113.3/32", discard.clone())]);
    world.apply(&[
        floating_ip("g", "public", "203.0.113.3", "app", "10.0.0.2"),
        route("r", "public", "203.0.113.1/32", discard),
    ]);
    assert!(installed(&world).contains_key("203.0.113.3"));
    // A port of the same batch takes over the device of the port that had it.
    world.change(
        &[
            port("web-2", "red", tap_device("web")),
            floating_ip("f", "public", "203.0.113.2", "app", "10.0.0.2"),
        ],
        &[key(Kind::Port, "web"), key(Kind::FloatingIp, "g")],
    );
    assert_eq!(installed(&world)["203.0.113.2"].port, PortId(1));
}

#[test]
fn a_pool_waits_for_its_vrfs_and_has_its_prefixes_alone() {
    let mut world = World::new();
    let shared = |addresses: &[&str]| nat_pool("shared", "public", addresses, "red", &["10.0.0.0/24"]);
    world.apply(&[vrf("red"), shared(&["203.0.113.64/30"])]);
    assert_eq!(
        world.status(Kind::NatPool, "shared"),
        (
            State::Pending,
            "waits for vrf \"public\", which does not exist".into()
        )
    );
    world.apply(&[vrf("public")]);
    assert_eq!(
        world.status(Kind::NatPool, "shared"),
        (State::Active, String::new())
    );
    let spec = world.engine.tables().pools.values().next().cloned().unwrap();
    assert_eq!(
        (spec.ports, spec.block_size, spec.deterministic),
        (1024..=65535, 64, false)
    );
    for object in [
        nat_pool("other", "public", &["203.0.113.64/30"], "red", &["10.0.1.0/24"]),
        route(
            "r",
            "public",
            "203.0.113.64/30",
            hop(v1::next_hop::To::Discard(v1::Discard {})),
        ),
    ] {
        let refused = world.refused(&[object]);
        assert!(
            refused.contains("203.0.113.64/30 in vrf \"public\" already belongs to NAT pool \"shared\""),
            "{refused}"
        );
    }
    assert!(
        world
            .refused_change("o", &[], &[key(Kind::Vrf, "public")])
            .contains("vrf \"public\" is still used by NAT pool \"shared\"")
    );
    // It gives up a prefix that a route takes in the same batch.
    world.apply(&[
        shared(&["203.0.113.80/30"]),
        route(
            "r",
            "public",
            "203.0.113.64/30",
            hop(v1::next_hop::To::Discard(v1::Discard {})),
        ),
    ]);
    let spec = world.engine.tables().pools.values().next().cloned().unwrap();
    assert_eq!(spec.addresses, ["203.0.113.80/30".parse().unwrap()]);
}
