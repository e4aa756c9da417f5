//! What policies mean, written down once more and apart from weft's own code: rules are tried one after the other.
//!
//! Everything is done the slow and plain way, and nothing of weft is used, so that one mistake cannot hide in both.

use std::{collections::BTreeMap, fmt::Write, net::IpAddr};

/// Who opens what to whom.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Session {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub source_port: u16,
    pub destination_port: u16,
}

/// Addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u32,
}

impl Prefix {
    /// The addresses that share so many bits with this one.
    pub fn around(address: IpAddr, length: u32) -> Self {
        let (bits, width) = bits(address);
        let host_bits = width - length;
        let network = match bits.checked_shr(host_bits) {
            Some(network) => network.checked_shl(host_bits).unwrap_or(0),
            None => 0,
        };
        let address = match address {
            IpAddr::V4(_) => IpAddr::V4((network as u32).into()),
            IpAddr::V6(_) => IpAddr::V6(network.into()),
        };
        Prefix { address, length }
    }

    /// One address.
    pub fn of(address: IpAddr) -> Self {
        Prefix::around(address, bits(address).1)
    }

    /// Whether an address is one of these.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4() && Prefix::around(address, self.length) == *self
    }

    fn yaml(&self) -> String {
        format!("\"{}/{}\"", self.address, self.length)
    }
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (address.to_bits().into(), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// A prefix with holes.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Block {
    pub prefix: Prefix,
    pub except: Vec<Prefix>,
}

impl Block {
    fn contains(&self, address: IpAddr) -> bool {
        self.prefix.contains(address) && !self.except.iter().any(|hole| hole.contains(address))
    }

    fn yaml(&self) -> String {
        let except: Vec<String> = self.except.iter().map(Prefix::yaml).collect();
        format!(
            "{{prefix: {}, except: [{}]}}",
            self.prefix.yaml(),
            except.join(", ")
        )
    }
}

/// Whom a rule is about.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Remote {
    Anybody,
    Block(Block),
    /// The members of an address group.
    Group(String),
}

/// Of a session, as seen from the workload that a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Direction {
    Ingress,
    Egress,
}

impl Direction {
    fn name(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }
}

/// A rule; what is left empty matches everything.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct Rule {
    pub direction: Direction,
    pub allow: bool,
    pub protocol: Option<u8>,
    pub remote: Remote,
    pub local: Option<Block>,
    /// First and last.
    pub source_ports: Vec<(u16, u16)>,
    pub destination_ports: Vec<(u16, u16)>,
}

impl Rule {
    fn matches(&self, groups: &Groups, direction: Direction, session: &Session) -> bool {
        let (remote, local) = match direction {
            Direction::Ingress => (session.source, session.destination),
            Direction::Egress => (session.destination, session.source),
        };
        let is_meant = match &self.remote {
            Remote::Anybody => true,
            Remote::Block(block) => block.contains(remote),
            Remote::Group(name) => groups[name].iter().any(|member| member.contains(remote)),
        };
        let among = |ports: &[(u16, u16)], port: u16| {
            ports.is_empty() || ports.iter().any(|(first, last)| (*first..=*last).contains(&port))
        };
        self.direction == direction
            && self.protocol.is_none_or(|protocol| protocol == session.protocol)
            && is_meant
            && self.local.as_ref().is_none_or(|block| block.contains(local))
            && among(&self.source_ports, session.source_port)
            && among(&self.destination_ports, session.destination_port)
    }

    fn yaml(&self) -> String {
        let mut text = format!(
            "direction: {}, action: {}",
            self.direction.name(),
            action(self.allow)
        );
        if let Some(protocol) = self.protocol {
            let _ = write!(text, ", protocol: \"{protocol}\"");
        }
        match &self.remote {
            Remote::Anybody => {}
            Remote::Block(block) => _ = write!(text, ", remote: {}", block.yaml()),
            Remote::Group(name) => _ = write!(text, ", remote_group: {name}"),
        }
        if let Some(block) = &self.local {
            let _ = write!(text, ", local: {}", block.yaml());
        }
        for (field, ports) in [
            ("source_ports", &self.source_ports),
            ("destination_ports", &self.destination_ports),
        ] {
            let ports = ports
                .iter()
                .map(|(first, last)| format!("{{first: {first}, last: {last}}}"));
            let ports: Vec<String> = ports.collect();
            let _ = write!(text, ", {field}: [{}]", ports.join(", "));
        }
        format!("{{{text}}}")
    }
}

fn action(allow: bool) -> &'static str {
    if allow { "allow" } else { "deny" }
}

/// Rules in their order, and what becomes of what none matches; None: the next policy says.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Policy {
    pub rules: Vec<Rule>,
    pub ingress: Option<bool>,
    pub egress: Option<bool>,
}

impl Policy {
    fn decides(&self, groups: &Groups, direction: Direction, session: &Session) -> Option<bool> {
        let rule = self
            .rules
            .iter()
            .find(|rule| rule.matches(groups, direction, session));
        let default = match direction {
            Direction::Ingress => self.ingress,
            Direction::Egress => self.egress,
        };
        rule.map(|rule| rule.allow).or(default)
    }

    fn yaml(&self, name: &str) -> String {
        let rules: Vec<String> = self.rules.iter().map(Rule::yaml).collect();
        let mut text = format!("kind: Policy\nname: {name}\nspec:\n  rules:\n");
        for rule in rules {
            let _ = writeln!(text, "  - {rule}");
        }
        if self.rules.is_empty() {
            text = format!("kind: Policy\nname: {name}\nspec:\n  rules: []\n");
        }
        for (direction, allow) in [
            (Direction::Ingress, self.ingress),
            (Direction::Egress, self.egress),
        ] {
            if let Some(allow) = allow {
                let _ = writeln!(text, "  default_{}: {}", direction.name(), action(allow));
            }
        }
        text
    }
}

/// Members by the name of their group.
pub type Groups = BTreeMap<String, Vec<Prefix>>;

/// All that the policies of ports may be.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Catalogue {
    pub policies: BTreeMap<String, Policy>,
    pub groups: Groups,
}

impl Catalogue {
    /// Whether a port that names these policies lets a session be that goes in this direction.
    pub fn allows(&self, named: &[String], direction: Direction, session: &Session) -> bool {
        if named.is_empty() {
            return true;
        }
        let known: Option<Vec<&Policy>> = named.iter().map(|name| self.policies.get(name)).collect();
        // One is missing: nobody knows what it would have said.
        let Some(known) = known else { return false };
        known
            .iter()
            .find_map(|policy| policy.decides(&self.groups, direction, session))
            .unwrap_or(false)
    }

    /// As documents for `weft apply`.
    pub fn yaml(&self) -> Vec<String> {
        let members = |members: &[Prefix]| -> Vec<String> { members.iter().map(Prefix::yaml).collect() };
        let groups = self.groups.iter().map(|(name, prefixes)| {
            let members = members(prefixes).join(", ");
            format!("kind: AddressGroup\nname: {name}\nspec: {{members: [{members}]}}\n")
        });
        let policies = self.policies.iter().map(|(name, policy)| policy.yaml(name));
        groups.chain(policies).collect()
    }
}
