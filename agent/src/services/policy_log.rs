//! Writes down what rules with `log` decide: a line a decision, and how many had no room.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::spawn_blocking, time::MissedTickBehavior};
use tracing::{info, warn};
use weft_dataplane::view::LoggedDecision;
use weft_packet::ip::protocol;
use weft_table::{
    PolicyId,
    policy::{Action, Direction},
};

use super::Ended;
use crate::{
    engine::Engine,
    model::protocol_name,
    reconciler::{Decider, Names, Part},
    writer::Writer,
};

/// Between two looks, and the most lines at each: a thousand a second.
const LOOK: Duration = Duration::from_millis(100);
const LINES: usize = 100;

/// Runs for ever.
pub async fn run(writer: Writer, engine: Arc<dyn Engine>) -> Ended {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let engine = engine.clone();
        let log = spawn_blocking(move || engine.policy_log(LINES));
        let log = log.await.map_err(|fault| fault.to_string())?;
        if !log.decisions.is_empty() {
            let policies = writer.policies(None).await.map_err(|error| error.to_string())?;
            let names = writer.names();
            for decision in &log.decisions {
                info!(target: "weft::policy", "{}", line(decision, &names, &policies.deciders));
            }
        }
        if log.lost > 0 {
            warn!(target: "weft::policy", "policies decided {} times more than is logged", log.lost);
        }
    }
}

/// `policy web rule 2 denies udp 10.0.0.1:5 > 10.0.0.2:53, ingress of red-app`.
fn line(decision: &LoggedDecision, names: &Names, deciders: &[(PolicyId, Vec<Decider>)]) -> String {
    let decider = deciders
        .iter()
        .find(|(known, _)| *known == decision.policy)
        .and_then(|(_, deciders)| deciders.get(decision.decider as usize));
    let rule = match decider {
        Some(Decider {
            policy,
            part: Part::Rule(place),
        }) => format!("policy {policy} rule {}", place + 1),
        // The policy has changed since.
        _ => "a rule that is gone".to_owned(),
    };
    let action = match decision.action {
        Action::Allow => "allows",
        Action::Deny => "denies",
        Action::Reject => "rejects",
    };
    let direction = match decision.direction {
        Direction::Ingress => "ingress",
        Direction::Egress => "egress",
    };
    let port = names.ports.get(&decision.port);
    let port = port.map_or_else(|| format!("port {}", decision.port), ToString::to_string);
    format!(
        "{rule} {action} {} {}, {direction} of {port}",
        protocol_name(decision.protocol),
        session(decision),
    )
}

/// With the ports, if the protocol has some; ICMP's message stands behind the addresses.
fn session(decision: &LoggedDecision) -> String {
    let LoggedDecision {
        source,
        destination,
        source_port,
        destination_port,
        ..
    } = *decision;
    match decision.protocol {
        protocol::TCP | protocol::UDP | protocol::SCTP => format!(
            "{} > {}",
            SocketAddr::new(source, source_port),
            SocketAddr::new(destination, destination_port)
        ),
        protocol::ICMP | protocol::ICMPV6 => {
            let [kind, code] = destination_port.to_be_bytes();
            format!("{source} > {destination} type {kind} code {code}")
        }
        _ => format!("{source} > {destination}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_table::PortId;

    #[test]
    fn a_line_says_who_decided_what_about_whom() {
        let mut names = Names::default();
        names.ports.insert(PortId(3), "vm-7".into());
        let decider = |place| Decider {
            policy: "web".into(),
            part: Part::Rule(place),
        };
        let deciders = [(PolicyId(1), vec![decider(0), decider(4)])];
        let decision = LoggedDecision {
            policy: PolicyId(1),
            decider: 1,
            action: Action::Deny,
            direction: Direction::Egress,
            port: PortId(3),
            protocol: protocol::TCP,
            source: "fd00::1".parse().unwrap(),
            destination: "fd00::2".parse().unwrap(),
            source_port: 4000,
            destination_port: 25,
        };
        assert_eq!(
            line(&decision, &names, &deciders),
            "policy web rule 5 denies tcp [fd00::1]:4000 > [fd00::2]:25, egress of vm-7"
        );
        let ping = LoggedDecision {
            protocol: protocol::ICMPV6,
            source_port: 0,
            destination_port: 128 << 8,
            action: Action::Allow,
            direction: Direction::Ingress,
            decider: 2,
            port: PortId(4),
            ..decision
        };
        assert_eq!(
            line(&ping, &names, &deciders),
            "a rule that is gone allows icmpv6 fd00::1 > fd00::2 type 128 code 0, ingress of port 4"
        );
    }
}
