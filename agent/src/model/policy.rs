//! Policies: ordered rules for the sessions of ports.

use std::{ops::RangeInclusive, sync::Arc};

use hashbrown::HashSet;
use ipnet::IpNet;
use weft_packet::{ip::protocol, l4};
use weft_proto::v1;
use weft_table::policy::{Action, AddressBlock, Direction, RULES_MAX, Rule};

use super::{
    error::{At, FieldError},
    text::{self, Name},
};

/// Most port ranges of a rule, and most exceptions of a prefix.
const PARTS_MAX: usize = 1024;

/// A policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// In the order in which they are judged.
    pub rules: Vec<PolicyRule>,
    /// None: the port's next policy decides.
    pub default_ingress: Option<Action>,
    /// None: the port's next policy decides.
    pub default_egress: Option<Action>,
}

/// A rule and what it is called.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyRule {
    /// Unique within the policy.
    pub name: Option<Arc<str>>,
    /// Whose members the far end is one of. The data plane knows the group by a number, which only the reconciler knows.
    pub remote_group: Option<Name>,
    /// What it says, but for the group.
    pub rule: Rule,
}

impl Policy {
    /// What becomes of a session in this direction that no rule matches, if the policy says so.
    pub fn default_of(&self, direction: Direction) -> Option<Action> {
        match direction {
            Direction::Ingress => self.default_ingress,
            Direction::Egress => self.default_egress,
        }
    }

    pub(super) fn from_proto(policy: &v1::Policy) -> Result<Self, FieldError> {
        let at = At::root("policy");
        let rules_at = at.field("rules");
        if policy.rules.len() > RULES_MAX {
            let message = format!("there are {} rules", policy.rules.len());
            return Err(rules_at.error(message, format!("at most {RULES_MAX} are possible")));
        }
        let mut names = HashSet::new();
        let mut rules = Vec::with_capacity(policy.rules.len());
        for (index, proto) in policy.rules.iter().enumerate() {
            let at = rules_at.index(index);
            let rule = PolicyRule::from_proto(&at, proto)?;
            if let Some(name) = &rule.name
                && !names.insert(name.clone())
            {
                let message = format!("another rule of this policy is called \"{name}\"");
                return Err(at
                    .field("name")
                    .error(message, "choose another name, or leave it out"));
            }
            rules.push(rule);
        }
        Ok(Policy {
            rules,
            default_ingress: action(&at.field("default_ingress"), policy.default_ingress)?,
            default_egress: action(&at.field("default_egress"), policy.default_egress)?,
        })
    }

    /// The address groups that its rules name, each once, in the order in which they are first named.
    pub fn groups(&self) -> Vec<&Name> {
        let mut seen = HashSet::new();
        let named = self.rules.iter().filter_map(|rule| rule.remote_group.as_ref());
        named.filter(|name| seen.insert(*name)).collect()
    }

    pub(super) fn to_proto(&self) -> v1::Policy {
        v1::Policy {
            rules: self.rules.iter().map(PolicyRule::to_proto).collect(),
            default_ingress: action_to_proto(self.default_ingress),
            default_egress: action_to_proto(self.default_egress),
        }
    }
}

impl PolicyRule {
    fn from_proto(at: &At, proto: &v1::PolicyRule) -> Result<Self, FieldError> {
        let direction_at = at.field("direction");
        let direction = match v1::PolicyDirection::try_from(proto.direction) {
            Ok(v1::PolicyDirection::Ingress) => Direction::Ingress,
            Ok(v1::PolicyDirection::Egress) => Direction::Egress,
            Ok(v1::PolicyDirection::Unspecified) => {
                return Err(direction_at.error("is missing", "write ingress or egress"));
            }
            Err(_) => {
                let message = format!("direction {} is unknown", proto.direction);
                return Err(direction_at.error(message, "write ingress or egress"));
            }
        };
        let action_at = at.field("action");
        let action = action(&action_at, proto.action)?
            .ok_or_else(|| action_at.error("is missing", "write allow, deny or reject"))?;
        let protocol = protocol_of(&at.field("protocol"), &proto.protocol)?;
        let remote = block(&at.field("remote"), proto.remote.as_ref())?;
        let group_at = at.field("remote_group");
        let remote_group = text::optional_name(&group_at, &proto.remote_group)?;
        if remote.is_some() && remote_group.is_some() {
            return Err(group_at.error("is given, and so is remote", "leave one of the two out"));
        }
        let local = block(&at.field("local"), proto.local.as_ref())?;
        one_family(at, protocol, remote.as_ref(), local.as_ref())?;
        let source_ports = ports(&at.field("source_ports"), protocol, &proto.source_ports)?;
        let destination_ports = match message(at, protocol, proto)? {
            Some(message) => vec![message],
            None => ports(&at.field("destination_ports"), protocol, &proto.destination_ports)?,
        };
        Ok(PolicyRule {
            name: text::optional_name(&at.field("name"), &proto.name)?,
            remote_group,
            rule: Rule {
                direction,
                action,
                protocol,
                remote,
                remote_group: None,
                local,
                source_ports,
                destination_ports,
                log: proto.log,
            },
        })
    }

    fn to_proto(&self) -> v1::PolicyRule {
        let rule = &self.rule;
        let range = |ports: &RangeInclusive<u16>| v1::PortRange {
            first: (*ports.start()).into(),
            last: (*ports.end()).into(),
        };
        let block = |block: &AddressBlock| v1::AddressBlock {
            prefix: block.prefix.to_string(),
            except: block.except.iter().map(IpNet::to_string).collect(),
        };
        // Of ICMP the destination ports are one range: a type with one code or with all of them.
        let icmp = rule.destination_ports.first().filter(|_| is_icmp(rule.protocol));
        let destination_ports = match is_icmp(rule.protocol) {
            true => Vec::new(),
            false => rule.destination_ports.iter().map(range).collect(),
        };
        v1::PolicyRule {
            name: self.name.as_deref().unwrap_or_default().into(),
            direction: match rule.direction {
                Direction::Ingress => v1::PolicyDirection::Ingress,
                Direction::Egress => v1::PolicyDirection::Egress,
            } as i32,
            action: action_to_proto(Some(rule.action)),
            protocol: rule.protocol.map(protocol_name).unwrap_or_default(),
            remote: rule.remote.as_ref().map(block),
            remote_group: self.remote_group.as_deref().unwrap_or_default().into(),
            local: rule.local.as_ref().map(block),
            source_ports: rule.source_ports.iter().map(range).collect(),
            destination_ports,
            icmp_type: icmp.map(|message| u32::from(message.start() >> 8)),
            icmp_code: icmp
                .filter(|message| message.start() == message.end())
                .map(|message| u32::from(message.start() & 0xff)),
            log: rule.log,
        }
    }
}

fn action(at: &At, number: i32) -> Result<Option<Action>, FieldError> {
    match v1::PolicyAction::try_from(number) {
        Ok(v1::PolicyAction::Unspecified) => Ok(None),
        Ok(v1::PolicyAction::Allow) => Ok(Some(Action::Allow)),
        Ok(v1::PolicyAction::Deny) => Ok(Some(Action::Deny)),
        Ok(v1::PolicyAction::Reject) => Ok(Some(Action::Reject)),
        Err(_) => Err(at.error(
            format!("action {number} is unknown"),
            "write allow, deny or reject",
        )),
    }
}

fn action_to_proto(action: Option<Action>) -> i32 {
    match action {
        None => v1::PolicyAction::Unspecified as i32,
        Some(Action::Allow) => v1::PolicyAction::Allow as i32,
        Some(Action::Deny) => v1::PolicyAction::Deny as i32,
        Some(Action::Reject) => v1::PolicyAction::Reject as i32,
    }
}

/// The number of an IP protocol by name or number.
pub fn protocol_number(text: &str) -> Option<u8> {
    match text {
        "icmp" => Some(protocol::ICMP),
        "tcp" => Some(protocol::TCP),
        "udp" => Some(protocol::UDP),
        "icmpv6" | "icmp6" => Some(protocol::ICMPV6),
        "sctp" => Some(protocol::SCTP),
        number => number.parse().ok(),
    }
}

/// The name of an IP protocol, or its number.
pub fn protocol_name(number: u8) -> String {
    match number {
        protocol::ICMP => "icmp".into(),
        protocol::TCP => "tcp".into(),
        protocol::UDP => "udp".into(),
        protocol::ICMPV6 => "icmpv6".into(),
        protocol::SCTP => "sctp".into(),
        number => number.to_string(),
    }
}

fn protocol_of(at: &At, text: &str) -> Result<Option<u8>, FieldError> {
    if text.is_empty() || text == "any" {
        return Ok(None);
    }
    let unknown = || {
        at.error(
            format!("`{}` is no protocol", text.escape_debug()),
            "write tcp, udp, sctp, icmp, icmpv6, any, or a number from 0 to 255",
        )
    };
    protocol_number(text).map(Some).ok_or_else(unknown)
}

fn is_icmp(protocol: Option<u8>) -> bool {
    matches!(protocol, Some(protocol::ICMP | protocol::ICMPV6))
}

fn has_ports(protocol: Option<u8>) -> bool {
    matches!(protocol, Some(protocol::TCP | protocol::UDP | protocol::SCTP))
}

fn block(at: &At, proto: Option<&v1::AddressBlock>) -> Result<Option<AddressBlock>, FieldError> {
    let Some(proto) = proto else { return Ok(None) };
    let prefix = text::prefix(&at.field("prefix"), &proto.prefix)?;
    let except_at = at.field("except");
    few(&except_at, proto.except.len())?;
    let mut except = Vec::with_capacity(proto.except.len());
    for (index, hole) in proto.except.iter().enumerate() {
        let at = except_at.index(index);
        let hole = text::prefix(&at, hole)?;
        if hole.addr().is_ipv4() != prefix.addr().is_ipv4() {
            let message = format!("{hole} and {prefix} are of different families");
            return Err(at.error(message, "write a rule for each family"));
        }
        if hole == prefix {
            let message = format!("{hole} leaves nothing of the prefix");
            return Err(at.error(message, "take the rule out, or name a part of the prefix"));
        }
        if !prefix.contains(&hole) {
            let message = format!("{hole} is no part of {prefix}");
            return Err(at.error(message, "name a part of the prefix"));
        }
        except.push(hole);
    }
    Ok(Some(AddressBlock { prefix, except }))
}

/// A rule that names addresses matches one family only.
fn one_family(
    at: &At,
    protocol: Option<u8>,
    remote: Option<&AddressBlock>,
    local: Option<&AddressBlock>,
) -> Result<(), FieldError> {
    if let (Some(remote), Some(local)) = (remote, local)
        && remote.prefix.addr().is_ipv4() != local.prefix.addr().is_ipv4()
    {
        let message = format!(
            "{} and remote {} are of different families",
            local.prefix, remote.prefix
        );
        return Err(at
            .field("local")
            .field("prefix")
            .error(message, "write a rule for each family"));
    }
    for (field, block) in [("remote", remote), ("local", local)] {
        let misfit = match (protocol, block.map(|block| block.prefix)) {
            (Some(protocol::ICMP), Some(IpNet::V6(prefix))) => Some((IpNet::V6(prefix), "icmp", "icmpv6")),
            (Some(protocol::ICMPV6), Some(IpNet::V4(prefix))) => Some((IpNet::V4(prefix), "icmpv6", "icmp")),
            _ => None,
        };
        if let Some((prefix, given, other)) = misfit {
            let message = format!("{given} is given, but {field} {prefix} is of the other family");
            return Err(at.field("protocol").error(message, format!("write {other}")));
        }
    }
    Ok(())
}

fn few(at: &At, count: usize) -> Result<(), FieldError> {
    if count <= PARTS_MAX {
        return Ok(());
    }
    let help = format!("at most {PARTS_MAX} are possible; write several rules");
    Err(at.error(format!("there are {count}"), help))
}

fn ports(
    at: &At,
    protocol: Option<u8>,
    proto: &[v1::PortRange],
) -> Result<Vec<RangeInclusive<u16>>, FieldError> {
    if !proto.is_empty() && !has_ports(protocol) {
        let message = match protocol {
            Some(protocol) => format!("are given, but {} has no ports", protocol_name(protocol)),
            None => "are given, but not every protocol has ports".into(),
        };
        return Err(at.error(
            message,
            "name a protocol that has: tcp, udp or sctp; for icmp there is icmp_type",
        ));
    }
    few(at, proto.len())?;
    let range = |(index, range): (usize, &v1::PortRange)| {
        let at = at.index(index);
        let port = |at: &At, port: u32| {
            let wrong = |_| at.error(format!("port {port} is out of range"), "legal are 0 to 65535");
            u16::try_from(port).map_err(wrong)
        };
        let first = port(&at.field("first"), range.first)?;
        let last_at = at.field("last");
        match port(&last_at, range.last)? {
            0 => Ok(first..=first),
            last if last < first => {
                let message = format!("{last} is below the first port, {first}: the range is empty");
                Err(last_at.error(message, "swap the two, or leave the last one out for one port"))
            }
            last => Ok(first..=last),
        }
    };
    proto.iter().enumerate().map(range).collect()
}

/// Type and code of an ICMP rule, as the range of destination ports that stands for them.
fn message(
    at: &At,
    protocol: Option<u8>,
    proto: &v1::PolicyRule,
) -> Result<Option<RangeInclusive<u16>>, FieldError> {
    let byte = |at: At, what: &str, number: u32| {
        let wrong = |_| at.error(format!("{what} {number} is out of range"), "legal are 0 to 255");
        u8::try_from(number).map_err(wrong)
    };
    let Some(kind) = proto.icmp_type else {
        return match proto.icmp_code {
            Some(code) => {
                let message = format!("code {code} is given without a type");
                Err(at.field("icmp_code").error(message, "give icmp_type, too"))
            }
            None => Ok(None),
        };
    };
    if !is_icmp(protocol) {
        let message = format!("type {kind} is given, but the protocol is not ICMP");
        let help = "write icmp (IPv4) or icmpv6 for the protocol, or leave the type out";
        return Err(at.field("icmp_type").error(message, help));
    }
    let kind = byte(at.field("icmp_type"), "type", kind)?;
    let (first, last) = match proto.icmp_code {
        Some(code) => {
            let code = byte(at.field("icmp_code"), "code", code)?;
            (code, code)
        }
        None => (0, u8::MAX),
    };
    Ok(Some(l4::message(kind, first)..=l4::message(kind, last)))
}
