//! Policies and their rules as rows of tables, with how often they decided.

use weft_proto::v1::{self, object::Spec};

use super::{
    objects::state,
    table::{Column, Table},
    units,
};

/// An action in a word; nothing if none is stated.
pub fn action(action: v1::PolicyAction) -> &'static str {
    match action {
        v1::PolicyAction::Unspecified => "",
        v1::PolicyAction::Allow => "allow",
        v1::PolicyAction::Deny => "deny",
        v1::PolicyAction::Reject => "reject",
    }
}

fn direction(direction: v1::PolicyDirection) -> &'static str {
    match direction {
        v1::PolicyDirection::Unspecified => "",
        v1::PolicyDirection::Ingress => "ingress",
        v1::PolicyDirection::Egress => "egress",
    }
}

/// A table of policies, each with its statistics if there are some.
pub fn table(policies: &[(v1::Object, Option<v1::PolicyStats>)]) -> Table {
    use Column::{Number, Text};
    let mut table = Table::new([
        Text("NAME"),
        Number("RULES"),
        Text("INGRESS"),
        Text("EGRESS"),
        Number("ALLOWED"),
        Number("DENIED"),
        Text("OWNER"),
        Text("STATE"),
    ]);
    for (object, stats) in policies {
        let Some(Spec::Policy(policy)) = &object.spec else {
            continue;
        };
        let decided = stats.as_ref().map(|stats| totals(policy, stats));
        let shown = |count: fn((u64, u64)) -> u64| decided.map(count).map(units::count).unwrap_or_default();
        table.row([
            object.name.clone(),
            policy.rules.len().to_string(),
            action(policy.default_ingress()).to_owned(),
            action(policy.default_egress()).to_owned(),
            shown(|(allowed, _)| allowed),
            shown(|(_, denied)| denied),
            object.owner.clone(),
            state(object).to_owned(),
        ]);
    }
    table
}

/// How often a policy allowed, and how often it denied.
fn totals(policy: &v1::Policy, stats: &v1::PolicyStats) -> (u64, u64) {
    let rules = policy.rules.iter().map(v1::PolicyRule::action);
    let defaults = [policy.default_ingress(), policy.default_egress()];
    let hits = stats.rules.iter().copied();
    let decided = rules.zip(hits).chain(
        defaults
            .into_iter()
            .zip([stats.default_ingress, stats.default_egress]),
    );
    decided.fold((0, 0), |(allowed, denied), (action, hits)| match action {
        v1::PolicyAction::Allow => (allowed + hits, denied),
        // What no policy decides is denied, and counted by the last one.
        v1::PolicyAction::Deny | v1::PolicyAction::Reject | v1::PolicyAction::Unspecified => {
            (allowed, denied + hits)
        }
    })
}

/// A table of a policy's rules in their order, and of its defaults.
pub fn rules(policy: &v1::Policy, stats: Option<&v1::PolicyStats>) -> Table {
    use Column::{Number, Text};
    let mut table = Table::new([
        Number("RULE"),
        Text("NAME"),
        Text("DIRECTION"),
        Text("ACTION"),
        Text("SESSIONS"),
        Number("HITS"),
    ]);
    let exact = |hits: Option<u64>| hits.map(units::exact).unwrap_or_default();
    for (place, rule) in policy.rules.iter().enumerate() {
        table.row([
            (place + 1).to_string(),
            rule.name.clone(),
            direction(rule.direction()).to_owned(),
            match rule.log {
                true => format!("{}, log", action(rule.action())),
                false => action(rule.action()).to_owned(),
            },
            sessions(rule),
            exact(stats.and_then(|stats| stats.rules.get(place).copied())),
        ]);
    }
    for (direction, default, hits) in [
        (
            "ingress",
            policy.default_ingress(),
            stats.map(|stats| stats.default_ingress),
        ),
        (
            "egress",
            policy.default_egress(),
            stats.map(|stats| stats.default_egress),
        ),
    ] {
        let action = match action(default) {
            "" => "next policy, or deny",
            action => action,
        };
        table.row([
            String::new(),
            "default".to_owned(),
            direction.to_owned(),
            action.to_owned(),
            "all others".to_owned(),
            exact(hits),
        ]);
    }
    table
}

/// What a rule matches: `tcp from 10.0.0.0/8 except 10.1.0.0/16 to port 80, 8000-8080`.
fn sessions(rule: &v1::PolicyRule) -> String {
    let mut words = vec![match rule.protocol.as_str() {
        "" => "any".to_owned(),
        protocol => protocol.to_owned(),
    }];
    if let Some(kind) = rule.icmp_type {
        words.push(format!("type {kind}"));
    }
    if let Some(code) = rule.icmp_code {
        words.push(format!("code {code}"));
    }
    let (source, destination) = match rule.direction() {
        v1::PolicyDirection::Egress => (&rule.local, &rule.remote),
        _ => (&rule.remote, &rule.local),
    };
    let is_remote = |word: &str| (word == "to") == (rule.direction() == v1::PolicyDirection::Egress);
    for (word, block, ports) in [
        ("from", source, &rule.source_ports),
        ("to", destination, &rule.destination_ports),
    ] {
        let group = Some(&rule.remote_group).filter(|group| !group.is_empty() && is_remote(word));
        if block.is_none() && group.is_none() && ports.is_empty() {
            continue;
        }
        words.push(word.to_owned());
        words.extend(group.map(|group| format!("group {group}")));
        if let Some(block) = block {
            words.push(block.prefix.clone());
            if !block.except.is_empty() {
                words.push(format!("except {}", block.except.join(", ")));
            }
        }
        if !ports.is_empty() {
            let ports: Vec<String> = ports.iter().map(port_range).collect();
            words.push(format!("port {}", ports.join(", ")));
        }
    }
    words.join(" ")
}

fn port_range(range: &v1::PortRange) -> String {
    match range.last {
        last if last == 0 || last == range.first => range.first.to_string(),
        last => format!("{}-{last}", range.first),
    }
}
