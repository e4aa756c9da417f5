//! Policies: who waits for them, what ports share of them, and how several of them are one.

use weft_dataplane::change::PortPolicy;
use weft_table::{
    PolicyId, PortId,
    policy::{Action, Defaults, Direction, RuleSet},
};

use super::*;
use crate::reconciler::{Decider, Part};
use v1::{
    PolicyAction::*,
    PolicyDirection::{Egress, Ingress},
};

fn udp(direction: v1::PolicyDirection, action: v1::PolicyAction, port: u32) -> v1::PolicyRule {
    rule(direction, action, |rule| {
        rule.protocol = "udp".into();
        rule.destination_ports = vec![v1::PortRange { first: port, last: 0 }];
    })
}

/// Ports of the rules, in their order.
fn ports(rules: &RuleSet) -> Vec<u16> {
    rules
        .rules()
        .iter()
        .map(|rule| *rule.destination_ports[0].start())
        .collect()
}

fn policy_of(world: &World, port: u16) -> PortPolicy {
    world.engine.tables().ports[&PortId(port)].policy
}

#[test]
fn a_port_is_closed_until_its_policies_are_all_there() {
    let mut world = World::new();
    world.apply(&[vrf("red"), with_policies(tap("vm", "red", &[]), &["web", "base"])]);
    assert_eq!(policy_of(&world, 0), PortPolicy::Closed);
    assert_eq!(
        world.status(Kind::Port, "vm"),
        (
            State::Active,
            "in part: no session is allowed: waits for policy \"web\", which does not exist".into()
        )
    );
    world.apply(&[policy("web", vec![udp(Ingress, Allow, 53)], [Unspecified; 2])]);
    assert_eq!(policy_of(&world, 0), PortPolicy::Closed);
    world.apply(&[policy("base", vec![], [Deny, Allow])]);
    assert!(matches!(policy_of(&world, 0), PortPolicy::Judged(_)));
    assert_eq!(world.status(Kind::Port, "vm"), (State::Active, String::new()));

    // A name that nobody knows closes it again; what it had does not go on holding.
    world.apply(&[with_policies(tap("vm", "red", &[]), &["web", "basis"])]);
    assert_eq!(policy_of(&world, 0), PortPolicy::Closed);
    assert!(world.engine.tables().policies.is_empty());
    world.apply(&[tap("vm", "red", &[])]);
    assert_eq!(policy_of(&world, 0), PortPolicy::Open);
}

#[test]
fn a_policy_that_a_port_has_cannot_be_deleted() {
    let mut world = World::new();
    world.apply(&[
        vrf("red"),
        policy("web", vec![], [Deny, Allow]),
        with_policies(tap("vm", "red", &[]), &["web"]),
    ]);
    assert_eq!(
        world.refused_change("o", &[], &[key(Kind::Policy, "web")]),
        "name: policy \"web\" is still used by port \"vm\"\n  help: delete those first, or in the same request"
    );
    world.change(&[tap("vm", "red", &[])], &[key(Kind::Policy, "web")]);
    assert!(world.engine.tables().policies.is_empty());
}

#[test]
fn ports_with_the_same_policies_share_one_set_and_a_change_touches_the_set_alone() {
    let mut world = World::new();
    let web = |port| policy("web", vec![udp(Ingress, Allow, port)], [Deny, Allow]);
    world.apply(&[
        vrf("red"),
        web(53),
        policy("more", vec![], [Unspecified; 2]),
        with_policies(tap("a", "red", &[]), &["web"]),
        with_policies(tap("b", "red", &[]), &["web"]),
        with_policies(tap("c", "red", &[]), &["more", "web"]),
    ]);
    assert_eq!(policy_of(&world, 0), policy_of(&world, 1));
    assert_ne!(policy_of(&world, 0), policy_of(&world, 2));
    let before = world.engine.tables();
    assert_eq!(before.policies.len(), 2);
    world.apply(&[web(54)]);
    let after = world.engine.tables();
    assert_eq!(before.ports, after.ports);
    assert!(after.policies.values().all(|rules| ports(rules) == [54]));
}

#[test]
fn policies_are_read_one_after_the_other_up_to_a_stated_default() {
    let mut world = World::new();
    world.apply(&[
        vrf("red"),
        policy(
            "one",
            vec![udp(Ingress, Deny, 1), udp(Egress, Allow, 2)],
            [Unspecified, Unspecified],
        ),
        policy(
            "two",
            vec![udp(Egress, Deny, 3), udp(Ingress, Allow, 4)],
            [Allow, Unspecified],
        ),
        policy(
            "three",
            vec![udp(Ingress, Allow, 5), udp(Egress, Allow, 6)],
            [Deny, Unspecified],
        ),
        with_policies(tap("vm", "red", &[]), &["one", "two", "three"]),
    ]);
    let tables = world.engine.tables();
    let PortPolicy::Judged(id) = policy_of(&world, 0) else {
        panic!()
    };
    let rules = &tables.policies[&id];
    // The second policy decides what is left of ingress; nobody what is left of egress.
    assert_eq!(ports(rules), [1, 2, 3, 4, 6]);
    let defaults = Defaults {
        ingress: Action::Allow,
        egress: Action::Deny,
    };
    assert_eq!(rules.defaults(), defaults);
    let decider = |policy: &str, part| Decider {
        policy: policy.into(),
        part,
    };
    let expected = vec![
        decider("one", Part::Rule(0)),
        decider("one", Part::Rule(1)),
        decider("two", Part::Rule(0)),
        decider("two", Part::Rule(1)),
        decider("three", Part::Rule(1)),
        decider("two", Part::Default(Direction::Ingress)),
        decider("three", Part::Default(Direction::Egress)),
    ];
    assert_eq!(expected.len(), rules.deciders());
    assert_eq!(world.core.policies(None).deciders, [(id, expected)]);
    assert_eq!(world.core.policies(Some(&"four".into())).deciders, []);
}

#[test]
fn the_policies_of_a_port_have_ten_thousand_rules_together_at_most() {
    let mut world = World::new();
    let long = |name: &str, rules| policy(name, vec![udp(Ingress, Allow, 1); rules], [Unspecified; 2]);
    world.apply(&[
        vrf("red"),
        long("a", 6000),
        long("b", 4000),
        with_policies(tap("vm", "red", &[]), &["a", "b"]),
    ]);
    let growing = world.refused(&[long("b", 4001)]);
    let naming = {
        world.apply(&[long("c", 1)]);
        world.refused(&[with_policies(tap("vm", "red", &[]), &["a", "b", "c"])])
    };
    assert_eq!(
        format!("{growing}\n{naming}"),
        "policy.rules: there are 4001 rules, and with the port's other policies (a, b) 10001\n  \
         help: at most 10000 are possible for one port\n\
         port.policies: they have 10001 rules together\n  help: at most 10000 are possible; name fewer policies"
    );
}

#[test]
fn numbers_of_policies_are_used_again() {
    let mut world = World::new();
    world.apply(&[vrf("red"), policy("web", vec![], [Deny, Allow])]);
    for _ in 0..3 {
        world.apply(&[with_policies(tap("vm", "red", &[]), &["web"])]);
        assert_eq!(policy_of(&world, 0), PortPolicy::Judged(PolicyId(0)));
        world.apply(&[tap("vm", "red", &[])]);
    }
}

fn from_group(group: &str) -> v1::PolicyRule {
    rule(Ingress, Allow, |rule| rule.remote_group = group.into())
}

fn members(world: &World) -> Vec<String> {
    let tables = world.engine.tables();
    let groups = tables.address_groups.values();
    groups
        .flat_map(|group| group.members().iter().map(ToString::to_string))
        .collect()
}

#[test]
fn a_policy_waits_for_the_groups_that_its_rules_name() {
    let mut world = World::new();
    world.apply(&[
        vrf("red"),
        policy(
            "web",
            vec![from_group("clients"), from_group("clients")],
            [Deny, Allow],
        ),
        with_policies(tap("vm", "red", &[]), &["web"]),
    ]);
    assert_eq!(policy_of(&world, 0), PortPolicy::Closed);
    assert_eq!(
        world.status(Kind::Policy, "web"),
        (
            State::Pending,
            "waits for address group \"clients\", which does not exist".into()
        )
    );
    world.apply(&[address_group("clients", &["10.0.0.5", "fd00::/8"])]);
    assert!(matches!(policy_of(&world, 0), PortPolicy::Judged(_)));
    assert_eq!(members(&world), ["10.0.0.5/32", "fd00::/8"]);
    assert_eq!(
        world.refused_change("o", &[], &[key(Kind::AddressGroup, "clients")]),
        "name: address group \"clients\" is still used by policy \"web\"\n  \
         help: delete those first, or in the same request"
    );
    world.change(
        &[tap("vm", "red", &[])],
        &[key(Kind::AddressGroup, "clients"), key(Kind::Policy, "web")],
    );
    assert!(members(&world).is_empty());
}

#[test]
fn members_come_and_go_without_a_rule_set_being_touched() {
    let mut world = World::new();
    world.apply(&[
        vrf("red"),
        address_group("clients", &["10.0.0.5"]),
        policy("web", vec![from_group("clients")], [Deny, Allow]),
        with_policies(tap("vm", "red", &[]), &["web"]),
    ]);
    let before = world.engine.tables();
    world.apply(&[address_group("clients", &["10.0.0.5", "10.0.0.6"])]);
    let after = world.engine.tables();
    assert_eq!(members(&world), ["10.0.0.5/32", "10.0.0.6/32"]);
    assert_eq!(before.ports, after.ports);
    for (id, rules) in &before.policies {
        assert!(std::sync::Arc::ptr_eq(rules, &after.policies[id]));
    }
    // Another group under another number.
    world.apply(&[
        address_group("others", &["10.0.0.7"]),
        policy("web", vec![from_group("others")], [Deny, Allow]),
    ]);
    let tables = world.engine.tables();
    let named: Vec<_> = tables
        .policies
        .values()
        .flat_map(|rules| rules.groups())
        .collect();
    assert_eq!(named.len(), 1);
    assert_eq!(
        tables.address_groups[named[0]].members()[0].to_string(),
        "10.0.0.7/32"
    );
}
