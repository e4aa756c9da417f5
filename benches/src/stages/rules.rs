//! Rules as security groups have them, as many as are asked for, of which any may decide.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};
use weft_packet::ip::protocol;
use weft_table::policy::{Action, Direction, Rule};

/// Bits of a network's prefix.
const NETWORK: u8 = 28;

/// Three kinds in turn, for what a workload opens: a TCP service that is closed, a network that is open, UDP ports of a
/// host that are closed. The networks are slices of 10.1.0.0/16 from its beginning, so that sessions which go there are
/// allowed by any of the rules, and none is denied whose destination port is above 16,383.
pub fn rules(count: usize) -> Vec<Rule> {
    (0..count).map(rule).collect()
}

fn rule(number: usize) -> Rule {
    let turn = (number / 3) as u16;
    let address = Ipv4Addr::from_bits(0x0a01_0000 + u32::from(turn) * (1 << (32 - NETWORK)));
    let prefix = |length| Ipv4Net::new_assert(address, length).into();
    let low = |port: u16| port % 0x4000;
    match number % 3 {
        0 => Rule {
            protocol: Some(protocol::TCP),
            destination_ports: vec![low(20 + turn)..=low(20 + turn)],
            ..Rule::new(Direction::Egress, Action::Deny)
        },
        1 => Rule {
            remote: Some(IpNet::into(prefix(NETWORK))),
            ..Rule::new(Direction::Egress, Action::Allow)
        },
        _ => Rule {
            protocol: Some(protocol::UDP),
            remote: Some(IpNet::into(prefix(32))),
            destination_ports: vec![1000..=1000 + low(turn)],
            ..Rule::new(Direction::Egress, Action::Deny)
        },
    }
}

#[cfg(test)]
mod tests {
    use weft_table::policy::{Defaults, RuleSet, Tuple};

    use super::*;

    #[test]
    fn each_network_that_is_open_decides_about_its_sessions() {
        let defaults = Defaults {
            ingress: Action::Deny,
            egress: Action::Deny,
        };
        let set = RuleSet::new(rules(50), defaults);
        for network in 0..16_u32 {
            let verdict = set.judge(
                &(),
                Direction::Egress,
                &Tuple {
                    remote: 0x0a01_0000 + network * 16 + 3,
                    local: 0x0a00_0002_u32,
                    protocol: protocol::UDP,
                    source_port: 20_000,
                    destination_port: 20_000,
                },
            );
            assert_eq!(
                (verdict.action, verdict.decider),
                (Action::Allow, 3 * network + 1)
            );
        }
    }
}
