//! Services: what they share, what they claim, who serves, and what is wrong with them.

use super::*;
use weft_dataplane::change::ServiceSpec;
use weft_table::NatId;

fn installed(world: &World) -> std::collections::BTreeMap<NatId, ServiceSpec> {
    world.engine.tables().services
}

fn backends(world: &World) -> Vec<String> {
    let services = installed(world);
    let backends = services.values().flat_map(|service| &service.backends);
    backends.map(|backend| backend.address.to_string()).collect()
}

fn web() -> v1::Object {
    service("web", "red", "10.0.0.80", &[80], &["10.0.0.1", "10.0.0.2"])
}

#[test]
fn services_share_a_virtual_ip_but_not_its_ports() {
    let mut world = World::new();
    world.apply(&[web()]);
    assert_eq!(
        world.status(Kind::Service, "web"),
        (
            State::Pending,
            "waits for vrf \"red\", which does not exist".into()
        )
    );
    world.apply(&[vrf("red"), service("all", "red", "10.0.0.80", &[0, 443], &[])]);
    assert_eq!(world.status(Kind::Service, "web"), (State::Active, String::new()));
    assert_eq!(installed(&world).len(), 2);
    let refused = world.refused(&[service("other", "red", "10.0.0.80", &[81, 443], &["10.0.0.1"])]);
    assert!(
        refused.contains("service.ports[1].port: tcp port 443 of 10.0.0.80 in vrf \"red\" already belongs to service \"all\""),
        "{refused}"
    );
    // The same port of another VRF's address is another one.
    world.apply(&[vrf("blue"), service("blue", "blue", "10.0.0.80", &[80], &[])]);
    // Two services change ports in one batch.
    world.apply(&[
        service("web", "red", "10.0.0.80", &[443], &[]),
        service("all", "red", "10.0.0.80", &[0, 80], &[]),
    ]);
    assert_eq!(installed(&world).len(), 3);
}

#[test]
fn nothing_else_has_the_address_of_a_virtual_ip() {
    let mut world = World::new();
    world.apply(&[vrf("red"), vrf("public"), web()]);
    let discard = hop(v1::next_hop::To::Discard(v1::Discard {}));
    let taken = "10.0.0.80 in vrf \"red\" is already the virtual IP of service \"web\"";
    for (object, expected) in [
        (route("r", "red", "10.0.0.80/32", discard.clone()), taken),
        (tap("p", "red", &["10.0.0.80"]), taken),
        (network("n", "red", "10.0.0.0/24", "10.0.0.80"), taken),
        (floating_ip("f", "red", "10.0.0.80", "p", "10.1.0.1"), taken),
        (
            nat_pool("m", "red", &["10.0.0.64/27"], "public", &["10.0.0.0/24"]),
            "nat_pool.addresses[0]: 10.0.0.64/27 in vrf \"red\" has the virtual IP of service \"web\"",
        ),
    ] {
        let refused = world.refused(&[object]);
        assert!(refused.contains(expected), "{refused}");
    }
    let refused = world.refused_change("o", &[], &[key(Kind::Vrf, "red")]);
    assert!(
        refused.contains("vrf \"red\" is still used by service \"web\""),
        "{refused}"
    );
    // And the other way round.
    world.apply(&[
        route("r", "red", "10.0.0.81/32", discard.clone()),
        nat_pool("m", "red", &["10.0.0.128/27"], "public", &["10.0.0.0/24"]),
        // A prefix that holds the virtual IP is no other one.
        route("wide", "red", "10.0.0.0/24", discard),
    ]);
    for (address, expected) in [
        (
            "10.0.0.81",
            "service.address: 10.0.0.81/32 in vrf \"red\" already belongs to route \"r\"",
        ),
        (
            "10.0.0.130",
            "service.address: 10.0.0.130/32 in vrf \"red\" already belongs to NAT pool \"m\"",
        ),
    ] {
        let refused = world.refused(&[service("other", "red", address, &[80], &[])]);
        assert!(refused.contains(expected), "{refused}");
    }
    assert_eq!(installed(&world).len(), 1, "the last good one stays");
}

#[test]
fn a_backend_with_a_port_serves_while_the_port_has_its_address() {
    let mut world = World::new();
    let on_ports = |local_only| {
        with_service(
            service(
                "web",
                "red",
                "10.0.0.80",
                &[80],
                &["10.0.0.1", "10.0.0.2", "10.0.0.3"],
            ),
            |service| {
                service.local_only = local_only;
                service.backends[0].port = "one".into();
                service.backends[1].port = "two".into();
            },
        )
    };
    world.apply(&[
        vrf("red"),
        vrf("blue"),
        tap("one", "red", &["10.0.0.1"]),
        on_ports(false),
    ]);
    assert_eq!(backends(&world), ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(
        world.status(Kind::Service, "web"),
        (
            State::Active,
            "in part: waits for port \"two\", which does not exist".into()
        )
    );
    world.apply(&[tap("two", "red", &["10.0.0.2"])]);
    assert_eq!(backends(&world), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    world.apply(&[on_ports(true)]);
    assert_eq!(backends(&world), ["10.0.0.1", "10.0.0.2"]);
    world.apply(&[tap("two", "red", &["10.0.0.22"])]);
    assert_eq!(backends(&world), ["10.0.0.1"]);
    // A backend in another tenant, or without the address.
    for (port, vrf, expected) in [
        (
            "blue",
            "blue",
            "service.backends[0].port: port \"blue\" is in vrf \"blue\", not in \"red\"",
        ),
        (
            "spare",
            "red",
            "service.backends[0].address: port \"spare\" does not have 10.0.0.1",
        ),
    ] {
        world.apply(&[tap(port, vrf, &["10.0.0.9"])]);
        let elsewhere = with_service(on_ports(true), |service| service.backends[0].port = port.into());
        let refused = world.refused(&[elsewhere]);
        assert!(refused.contains(expected), "{refused}");
    }
    assert_eq!(backends(&world), ["10.0.0.1"], "the last good one stays");
}

#[test]
fn a_pool_for_the_sources_is_of_the_same_vrf() {
    let mut world = World::new();
    let with_pool = |pool: &str| with_service(web(), |service| service.source_pool = pool.into());
    world.apply(&[vrf("red"), vrf("public"), with_pool("shared")]);
    assert_eq!(
        world.status(Kind::Service, "web"),
        (
            State::Pending,
            "waits for NAT pool \"shared\", which does not exist".into()
        )
    );
    world.apply(&[nat_pool(
        "shared",
        "red",
        &["10.0.1.0/30"],
        "public",
        &["10.9.0.0/16"],
    )]);
    assert_eq!(world.status(Kind::Service, "web").0, State::Active);
    world.apply(&[nat_pool(
        "far",
        "public",
        &["10.0.1.0/30"],
        "red",
        &["10.9.0.0/16"],
    )]);
    let refused = world.refused(&[with_pool("far")]);
    let expected = "service.source_pool: NAT pool \"far\" is in vrf \"public\", not in \"red\"";
    assert!(refused.contains(expected), "{refused}");
    // The pool changes, and both go together.
    world.apply(&[nat_pool(
        "shared",
        "red",
        &["10.0.1.4/30"],
        "public",
        &["10.9.0.0/16"],
    )]);
    assert_eq!(world.status(Kind::Service, "web").0, State::Active);
    let refused = world.refused_change("o", &[], &[key(Kind::NatPool, "shared")]);
    assert!(
        refused.contains("NAT pool \"shared\" is still used by service \"web\""),
        "{refused}"
    );
    world.change(&[], &[key(Kind::NatPool, "shared"), key(Kind::Service, "web")]);
    assert!(installed(&world).is_empty());
}
