//! Compiled rule sets against what the words say: look at one rule after the other, the first that matches decides.

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::{collection::vec, option, prelude::*, sample::Index};
use weft_table::{
    AddressGroupId,
    policy::{
        Action, AddressBlock, AddressGroup, Defaults, Direction, Family, Rule, RuleSet, Tuple, Verdict,
    },
};

fn in_block(block: Option<&AddressBlock>, address: IpAddr) -> bool {
    block.is_none_or(|block| {
        block.prefix.contains(&address) && !block.except.iter().any(|hole| hole.contains(&address))
    })
}

fn matches(rule: &Rule, groups: &[AddressGroup], direction: Direction, session: &Session) -> bool {
    let is_member = |group: AddressGroupId| {
        let members = groups[group.index()].members();
        members.iter().any(|member| member.contains(&session.remote))
    };
    let port = |ports: &[std::ops::RangeInclusive<u16>], port| {
        ports.is_empty() || ports.iter().any(|ports| ports.contains(&port))
    };
    rule.direction == direction
        && rule.protocol.is_none_or(|protocol| protocol == session.protocol)
        && in_block(rule.remote.as_ref(), session.remote)
        && rule.remote_group.is_none_or(is_member)
        && in_block(rule.local.as_ref(), session.local)
        && port(&rule.source_ports, session.source_port)
        && port(&rule.destination_ports, session.destination_port)
}

fn model(
    rules: &[Rule],
    groups: &[AddressGroup],
    defaults: Defaults,
    direction: Direction,
    session: &Session,
) -> Verdict {
    let found = rules
        .iter()
        .position(|rule| matches(rule, groups, direction, session));
    let (action, decider) = match (found, direction) {
        (Some(rule), _) => (rules[rule].action, rule),
        (None, Direction::Ingress) => (defaults.ingress, rules.len()),
        (None, Direction::Egress) => (defaults.egress, rules.len() + 1),
    };
    Verdict {
        action,
        decider: decider as u32,
    }
}

#[derive(Clone, Copy, Debug)]
struct Session {
    remote: IpAddr,
    local: IpAddr,
    protocol: u8,
    source_port: u16,
    destination_port: u16,
}

impl Session {
    fn tuple<A: Family>(&self, number: impl Fn(IpAddr) -> Option<A>) -> Option<Tuple<A>> {
        Some(Tuple {
            remote: number(self.remote)?,
            local: number(self.local)?,
            protocol: self.protocol,
            source_port: self.source_port,
            destination_port: self.destination_port,
        })
    }
}

fn v4(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: IpAddr) -> Option<u128> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address.into()),
    }
}

/// One by one and all at once, in both families: what the model says.
fn agrees(rules: Vec<Rule>, groups: &[AddressGroup], defaults: Defaults, sessions: &[Session]) {
    let set = RuleSet::new(rules, defaults);
    for direction in [Direction::Ingress, Direction::Egress] {
        let judged = |session: &Session| match (session.tuple(v4), session.tuple(v6)) {
            (Some(tuple), _) => set.judge(groups, direction, &tuple),
            (_, Some(tuple)) => set.judge(groups, direction, &tuple),
            (None, None) => panic!("{session:?} is of two families"),
        };
        for session in sessions {
            let expected = model(set.rules(), groups, defaults, direction, session);
            assert_eq!(judged(session), expected, "{direction:?} {session:?}");
        }
        agrees_in_bulk(&set, groups, direction, sessions, v4);
        agrees_in_bulk(&set, groups, direction, sessions, v6);
    }
}

fn agrees_in_bulk<A: Family>(
    set: &RuleSet,
    groups: &[AddressGroup],
    direction: Direction,
    sessions: &[Session],
    number: impl Fn(IpAddr) -> Option<A>,
) {
    let tuples: Vec<Tuple<A>> = sessions
        .iter()
        .filter_map(|session| session.tuple(&number))
        .collect();
    let nothing = Verdict {
        action: Action::Deny,
        decider: u32::MAX,
    };
    let mut verdicts = vec![nothing; tuples.len()];
    set.judge_bulk(groups, direction, &tuples, &mut verdicts);
    let alone: Vec<Verdict> = tuples
        .iter()
        .map(|tuple| set.judge(groups, direction, tuple))
        .collect();
    assert_eq!(verdicts, alone);
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Allow), Just(Action::Deny), Just(Action::Reject)]
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)]
}

/// Few addresses, so that rules overlap; the ends of the space among them.
fn address(v6: bool) -> BoxedStrategy<IpAddr> {
    let number = prop_oneof![
        4 => 0u32..64,
        2 => (0u32..16).prop_map(|part| part << 12),
        1 => Just(u32::MAX),
        1 => any::<u32>(),
    ];
    number
        .prop_map(move |number| match v6 {
            false => IpAddr::V4((0x0a00_0000 ^ number).into()),
            true => IpAddr::V6((0xfd00 << 112 ^ u128::from(number) << 64 ^ u128::from(number)).into()),
        })
        .boxed()
}

fn prefix(v6: bool) -> impl Strategy<Value = IpNet> {
    let length = if v6 { 128u8 } else { 32 };
    let lengths = prop_oneof![3 => length - 12..=length, 1 => 0..=length, 1 => Just(length)];
    (address(v6), lengths).prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc())
}

fn block(v6: bool) -> impl Strategy<Value = AddressBlock> {
    (prefix(v6), vec(prefix(v6), 0..3)).prop_map(|(prefix, except)| AddressBlock { prefix, except })
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![Just(6), Just(17), Just(1), any::<u8>()]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => 0u16..40, 1 => Just(u16::MAX), 1 => any::<u16>()]
}

fn ports() -> impl Strategy<Value = Vec<std::ops::RangeInclusive<u16>>> {
    let range = (port(), port()).prop_map(|(a, b)| a.min(b)..=a.max(b));
    prop_oneof![2 => Just(Vec::new()), 3 => vec(range, 1..4)]
}

/// How many groups rules name.
const GROUPS: u32 = 4;

fn groups() -> impl Strategy<Value = Vec<AddressGroup>> {
    let member = any::<bool>().prop_flat_map(prefix);
    let group = vec(member, 0..12).prop_map(AddressGroup::new);
    vec(group, GROUPS as usize)
}

fn rule() -> impl Strategy<Value = Rule> {
    any::<bool>().prop_flat_map(|v6| {
        (
            direction(),
            action(),
            option::of(protocol()),
            option::of(block(v6)),
            option::weighted(0.3, 0..GROUPS),
            option::weighted(0.2, block(v6)),
            ports(),
            ports(),
        )
            .prop_map(
                |(direction, action, protocol, remote, group, local, source_ports, destination_ports)| Rule {
                    direction,
                    action,
                    protocol,
                    remote,
                    remote_group: group.map(AddressGroupId),
                    local,
                    source_ports,
                    destination_ports,
                    log: false,
                },
            )
    })
}

fn session() -> impl Strategy<Value = Session> {
    any::<bool>()
        .prop_flat_map(|v6| (address(v6), address(v6), protocol(), port(), port()))
        .prop_map(
            |(remote, local, protocol, source_port, destination_port)| Session {
                remote,
                local,
                protocol,
                source_port,
                destination_port,
            },
        )
}

/// The first and last address of a prefix, and those beside it.
fn edges(prefix: IpNet) -> Vec<IpAddr> {
    let beside = |address: IpAddr, step: i8| match address {
        IpAddr::V4(address) => IpAddr::V4(u32::from(address).wrapping_add_signed(step.into()).into()),
        IpAddr::V6(address) => IpAddr::V6(u128::from(address).wrapping_add_signed(step.into()).into()),
    };
    let (first, last) = (prefix.network(), prefix.broadcast());
    vec![first, last, beside(first, -1), beside(last, 1)]
}

/// A session at an edge of one of the rules.
fn at_an_edge(rules: &[Rule], choice: Index, side: Index, mut session: Session) -> Session {
    if rules.is_empty() {
        return session;
    }
    let rule = &rules[choice.index(rules.len())];
    if let Some(block) = &rule.remote {
        let all: Vec<IpAddr> = std::iter::once(block.prefix)
            .chain(block.except.iter().copied())
            .flat_map(edges)
            .collect();
        session.remote = *side.get(&all);
        session.local = session.remote;
    }
    if let Some(protocol) = rule.protocol {
        session.protocol = protocol;
    }
    let ports: Vec<u16> = rule
        .destination_ports
        .iter()
        .flat_map(|ports| [*ports.start(), *ports.end(), ports.end().wrapping_add(1)])
        .collect();
    if !ports.is_empty() {
        session.destination_port = *side.get(&ports);
    }
    session
}

proptest! {
    #[test]
    fn the_first_rule_that_matches_decides(
        rules in vec(rule(), 0..90),
        groups in groups(),
        defaults in (action(), action()),
        sessions in vec(session(), 1..40),
        edges in vec((any::<Index>(), any::<Index>(), session()), 0..40),
    ) {
        let (ingress, egress) = defaults;
        let at_edges = edges.into_iter().map(|(choice, side, session)| at_an_edge(&rules, choice, side, session));
        let sessions: Vec<Session> = sessions.into_iter().chain(at_edges).collect();
        agrees(rules, &groups, Defaults { ingress, egress }, &sessions);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    // Past a word of words: several groups, shared words, words left out.
    #[test]
    fn ten_thousand_rules_are_still_judged_in_their_order(
        rules in vec(rule(), 60..120),
        groups in groups(),
        count in 4000usize..10_000,
        sessions in vec(session(), 30),
        edges in vec((any::<Index>(), any::<Index>(), session()), 60),
    ) {
        // What matches much comes last, or nobody would get to the rules behind it.
        let narrow = |index: usize| {
            let mut rule = rules[index % rules.len()].clone();
            let number = index as u16;
            rule.destination_ports = vec![number..=number];
            rule.source_ports = vec![number / 7..=number / 7 + 1];
            rule
        };
        let rules: Vec<Rule> = (0..count).map(narrow).chain(rules.iter().cloned()).collect();
        let aimed = |(index, session): (usize, &Session)| {
            let number = (index * 97 % count) as u16;
            Session { destination_port: number, source_port: number / 7, ..*session }
        };
        let all: Vec<Session> = sessions.iter().enumerate().map(aimed).chain(
            edges.into_iter().map(|(choice, side, session)| at_an_edge(&rules, choice, side, session)),
        ).collect();
        let defaults = Defaults { ingress: Action::Allow, egress: Action::Deny };
        agrees(rules, &groups, defaults, &all);
    }
}

#[test]
fn an_empty_set_has_its_defaults_alone() {
    let defaults = Defaults {
        ingress: Action::Deny,
        egress: Action::Allow,
    };
    let set = RuleSet::new(Vec::new(), defaults);
    let tuple = Tuple::<u32>::default();
    let told = |direction| {
        let verdict = set.judge(&(), direction, &tuple);
        (verdict.action, verdict.decider)
    };
    assert_eq!(told(Direction::Ingress), (Action::Deny, 0));
    assert_eq!(told(Direction::Egress), (Action::Allow, 1));
    assert_eq!(set.deciders(), 2);
}

#[test]
fn a_rule_with_an_address_is_for_its_family_only() {
    let everywhere: IpNet = "0.0.0.0/0".parse().unwrap();
    let rule = Rule {
        remote: Some(everywhere.into()),
        ..Rule::new(Direction::Egress, Action::Allow)
    };
    let defaults = Defaults {
        ingress: Action::Deny,
        egress: Action::Deny,
    };
    let set = RuleSet::new(vec![rule], defaults);
    assert_eq!(
        set.judge(&(), Direction::Egress, &Tuple::<u32>::default()).action,
        Action::Allow
    );
    assert_eq!(
        set.judge(&(), Direction::Egress, &Tuple::<u128>::default())
            .action,
        Action::Deny
    );
}

#[test]
fn distinct_hosts_do_not_cost_a_bit_a_rule_each() {
    let hosts = (0..10_000u32).map(|host| Rule {
        remote: Some(IpNet::from(IpAddr::V4((0x0a00_0000 + 2 * host).into())).into()),
        protocol: Some(6),
        destination_ports: vec![443..=443],
        ..Rule::new(Direction::Ingress, Action::Allow)
    });
    let defaults = Defaults {
        ingress: Action::Deny,
        egress: Action::Allow,
    };
    let set = RuleSet::new(hosts.collect::<Vec<_>>(), defaults);
    assert!(set.bytes() < 2 << 20, "{} bytes", set.bytes());
}
