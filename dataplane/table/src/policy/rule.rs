//! What a rule says.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use crate::AddressGroupId;

/// Who opens a session, as seen from the workload behind the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Somebody opens it to the workload.
    Ingress,
    /// The workload opens it.
    Egress,
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may be.
    Allow,
    /// It may not be.
    Deny,
    /// It may not be, and who opens it is told.
    Reject,
}

/// Addresses: a prefix, and what of it is not meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AddressBlock {
    /// What is meant.
    pub prefix: IpNet,
    /// Prefixes of the same family that are left out.
    pub except: Vec<IpNet>,
}

impl From<IpNet> for AddressBlock {
    fn from(prefix: IpNet) -> Self {
        AddressBlock {
            prefix,
            except: Vec::new(),
        }
    }
}

/// One rule: it matches a session if each of its parts does. What is left out matches everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Whose sessions it is about.
    pub direction: Direction,
    /// What it says to them.
    pub action: Action,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// The far end of the session. A rule with an address matches its family only.
    pub remote: Option<AddressBlock>,
    /// The far end is a member of this group, of whatever family.
    pub remote_group: Option<AddressGroupId>,
    /// The workload's end.
    pub local: Option<AddressBlock>,
    /// Of the session's first packet; empty: any.
    pub source_ports: Vec<RangeInclusive<u16>>,
    /// Of the session's first packet; empty: any. ICMP: type in the high byte, code in the low one.
    pub destination_ports: Vec<RangeInclusive<u16>>,
    /// Its decisions are written down.
    pub log: bool,
}

impl Rule {
    /// A rule that matches every session of its direction.
    pub const fn new(direction: Direction, action: Action) -> Self {
        Rule {
            direction,
            action,
            protocol: None,
            remote: None,
            remote_group: None,
            local: None,
            source_ports: Vec::new(),
            destination_ports: Vec::new(),
            log: false,
        }
    }
}
