//! What would become of a packet, a line for each thing that says so.

use std::fmt::Write;

use weft_proto::v1;

use super::policies;
use crate::packet::{self, end_in_words};

/// The answer in lines.
pub fn text(from: &str, packet: &v1::SupposedPacket, answer: &v1::WhatIfResponse) -> String {
    let mut lines = vec![("packet", format!("{} from {from}", packet::words(packet)))];
    lines.push(("session", session(answer)));
    lines.extend(answer.lookups.iter().map(|lookup| ("route", route(lookup))));
    lines.extend(answer.policies.iter().map(|verdict| ("policy", policy(verdict))));
    if let Some(translation) = &answer.translation {
        lines.extend(translated(packet, translation));
    }
    lines.push(match answer.drop_reason.as_str() {
        "" => ("forwarded", forwarded(answer)),
        reason => ("dropped", reason.to_owned()),
    });
    let mut text = String::new();
    for (name, line) in lines {
        let _ = writeln!(text, "{name:<12}{line}");
    }
    if !answer.help.is_empty() {
        let _ = writeln!(text, "{:<12}help: {}", "", answer.help);
    }
    text
}

fn session(answer: &v1::WhatIfResponse) -> String {
    let Some(session) = &answer.session else {
        return "none yet".to_owned();
    };
    let role = match session.initiator {
        true => "of its initiator",
        false => "of who answers",
    };
    match session.holds {
        true => format!("{}, as a packet {role}", session.number),
        false => format!("{}, as a packet {role}; it is decided anew", session.number),
    }
}

fn route(lookup: &v1::RouteLookup) -> String {
    match lookup.prefix.as_str() {
        "" => format!("{}: none for {}", lookup.vrf, lookup.destination),
        prefix => format!("{}: {prefix} to {}", lookup.vrf, lookup.next_hop),
    }
}

fn policy(verdict: &v1::PolicyVerdict) -> String {
    let direction = match verdict.direction() {
        v1::PolicyDirection::Egress => "egress",
        _ => "ingress",
    };
    let action = policies::action(verdict.action());
    let by = match (verdict.rule, verdict.policy.as_str()) {
        (_, "") => "a policy of the port does not exist".to_owned(),
        (0, policy) => format!("default of {policy}"),
        (rule, policy) if verdict.rule_name.is_empty() => format!("rule {rule} of {policy}"),
        (rule, policy) => format!("rule {rule} ({}) of {policy}", verdict.rule_name),
    };
    format!("{direction} of {}: {action} by {by}", verdict.port)
}

fn translated(
    packet: &v1::SupposedPacket,
    translation: &v1::WhatIfTranslation,
) -> Vec<(&'static str, String)> {
    let has_ports = translation.source_port != 0 || translation.destination_port != 0;
    let mut lines = Vec::new();
    for (name, by, before, after) in [
        (
            "source",
            &translation.source_by,
            (&packet.source, packet.source_port),
            (&translation.source, translation.source_port),
        ),
        (
            "destination",
            &translation.destination_by,
            (&packet.destination, packet.destination_port),
            (&translation.destination, translation.destination_port),
        ),
    ] {
        if before != after && (before.0 != after.0 || has_ports) {
            let by = match by.as_str() {
                "" => String::new(),
                by => format!(" by {by}"),
            };
            lines.push((name, format!("{}{by}", end_in_words(after.0, after.1, has_ports))));
        }
    }
    lines
}

fn forwarded(answer: &v1::WhatIfResponse) -> String {
    match answer.port.as_str() {
        "" => answer.next_hop.clone(),
        port if answer.next_hop == format!("port {port}") => answer.next_hop.clone(),
        port => format!("{}, out of port {port}", answer.next_hop),
    }
}
