//! Next hops and groups of them.

use std::net::IpAddr;

use weft_packet::{Label, Mac, VlanId, Vni};
use weft_proto::v1;

use super::{
    error::{At, FieldError},
    text::{self, Name},
};

/// Most labels of a tunnel next hop.
pub const LABELS_MAX: usize = 3;
/// Most members of a group.
pub const MEMBERS_MAX: usize = 256;
/// Heaviest member.
pub const WEIGHT_MAX: u32 = 1024;

/// Where a route or a group's member leads, by names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// Out of a port.
    Port {
        /// The port.
        port: Name,
        /// Destination MAC; None: the port's.
        mac: Option<Mac>,
        /// Tag to put on.
        vlan: Option<VlanId>,
    },
    /// Into a tunnel.
    Tunnel {
        /// A tunnel endpoint.
        endpoint: Name,
        /// What the remote tells VRFs apart by.
        identifier: Identifier,
        /// VRF of the reply; None: the initiator's.
        return_vrf: Option<Name>,
    },
    /// A group.
    Group(Name),
    /// Look up again in this VRF.
    Vrf(Name),
    /// An underlay router.
    Gateway(IpAddr),
    /// To the vRouter itself.
    Receive,
    /// Drop, and count it.
    Discard,
}

/// What a tunnel's remote tells VRFs apart by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identifier {
    /// VXLAN.
    Vni {
        /// The network identifier.
        vni: Vni,
        /// Destination MAC of the inner frame (RFC 9135).
        inner_mac: Mac,
    },
    /// MPLS: outermost first, one to three.
    Labels(Vec<Label>),
}

impl NextHop {
    pub(super) fn from_proto(at: &At, next_hop: Option<&v1::NextHop>) -> Result<Self, FieldError> {
        use v1::next_hop::To;
        let Some(to) = next_hop.and_then(|next_hop| next_hop.to.as_ref()) else {
            let help = "fill in one of port, tunnel, group, vrf, gateway, receive, discard";
            return Err(at.error("is missing", help));
        };
        Ok(match to {
            To::Port(port) => {
                let at = at.field("port");
                NextHop::Port {
                    port: text::name(&at.field("port"), &port.port)?,
                    mac: text::optional_mac(&at.field("mac"), &port.mac)?,
                    vlan: match port.vlan {
                        0 => None,
                        vlan => Some(text::vlan(&at.field("vlan"), vlan)?),
                    },
                }
            }
            To::Tunnel(tunnel) => Self::tunnel(&at.field("tunnel"), tunnel)?,
            To::Group(group) => NextHop::Group(text::name(&at.field("group"), group)?),
            To::Vrf(vrf) => NextHop::Vrf(text::name(&at.field("vrf"), vrf)?),
            To::Gateway(gateway) => NextHop::Gateway(text::address(&at.field("gateway"), gateway)?),
            To::Receive(v1::Receive {}) => NextHop::Receive,
            To::Discard(v1::Discard {}) => NextHop::Discard,
        })
    }

    fn tunnel(at: &At, tunnel: &v1::TunnelNextHop) -> Result<Self, FieldError> {
        let endpoint = text::name(&at.field("endpoint"), &tunnel.endpoint)?;
        let inner_mac = text::optional_mac(&at.field("inner_mac"), &tunnel.inner_mac)?;
        let identifier = match (tunnel.vni, tunnel.labels.as_slice()) {
            (0, []) => {
                let help = "give a vni to a VXLAN endpoint, one to three labels to an MPLS endpoint";
                return Err(at.error("has neither a vni nor labels", help));
            }
            (vni, []) => Identifier::Vni {
                vni: text::vni(&at.field("vni"), vni)?,
                inner_mac: inner_mac.unwrap_or(Mac::VIRTUAL_ROUTER),
            },
            (0, labels) => {
                let labels_at = at.field("labels");
                if labels.len() > LABELS_MAX {
                    let message = format!("{} labels are too many", labels.len());
                    return Err(labels_at.error(message, "stack at most three labels"));
                }
                if let Some(mac) = inner_mac {
                    let help = "leave inner_mac out: MPLS carries IP packets without a MAC";
                    return Err(at
                        .field("inner_mac")
                        .error(format!("{mac} is given beside labels"), help));
                }
                let label = |(index, label): (usize, &u32)| text::label(&labels_at.index(index), *label);
                Identifier::Labels(labels.iter().enumerate().map(label).collect::<Result<_, _>>()?)
            }
            (vni, _) => {
                let message = format!("vni {vni} and labels are both given");
                return Err(at.error(
                    message,
                    "give a vni to a VXLAN endpoint, labels to an MPLS endpoint",
                ));
            }
        };
        let return_vrf = text::optional_name(&at.field("return_vrf"), &tunnel.return_vrf)?;
        Ok(NextHop::Tunnel {
            endpoint,
            identifier,
            return_vrf,
        })
    }

    pub(super) fn to_proto(&self) -> v1::NextHop {
        use v1::next_hop::To;
        let to = match self {
            NextHop::Port { port, mac, vlan } => To::Port(v1::PortNextHop {
                port: port.to_string(),
                mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
                vlan: vlan.map(u32::from).unwrap_or_default(),
            }),
            NextHop::Tunnel {
                endpoint,
                identifier,
                return_vrf,
            } => {
                let mut tunnel = v1::TunnelNextHop {
                    endpoint: endpoint.to_string(),
                    return_vrf: return_vrf.as_deref().unwrap_or_default().into(),
                    ..Default::default()
                };
                match identifier {
                    Identifier::Vni { vni, inner_mac } => {
                        tunnel.vni = vni.get();
                        tunnel.inner_mac = inner_mac.to_string();
                    }
                    Identifier::Labels(labels) => tunnel.labels = labels.iter().map(|l| l.get()).collect(),
                }
                To::Tunnel(tunnel)
            }
            NextHop::Group(group) => To::Group(group.to_string()),
            NextHop::Vrf(vrf) => To::Vrf(vrf.to_string()),
            NextHop::Gateway(gateway) => To::Gateway(gateway.to_string()),
            NextHop::Receive => To::Receive(v1::Receive {}),
            NextHop::Discard => To::Discard(v1::Discard {}),
        };
        v1::NextHop { to: Some(to) }
    }
}

/// Weighted members; a flow stays with its member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopGroup {
    /// At least one; names are unique, none leads to a group.
    pub members: Vec<Member>,
}

/// One member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Stable within the group.
    pub name: Name,
    /// At least 1.
    pub weight: u32,
    /// Where to.
    pub next_hop: NextHop,
}

impl Member {
    /// The number by which the data plane knows this member, the same in every run and version: 64-bit FNV-1a of the
    /// name (draft-eastlake-fnv).
    pub fn id(&self) -> u64 {
        self.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

impl NextHopGroup {
    pub(super) fn from_proto(group: &v1::NextHopGroup) -> Result<Self, FieldError> {
        let at = At::root("next_hop_group");
        let members_at = at.field("members");
        if group.members.is_empty() {
            return Err(members_at.error(
                "is empty",
                "add a member; to drop packets, use the next hop discard",
            ));
        }
        if group.members.len() > MEMBERS_MAX {
            let message = format!("{} members are too many", group.members.len());
            return Err(members_at.error(message, format!("a group has at most {MEMBERS_MAX}")));
        }
        let mut members: Vec<Member> = Vec::with_capacity(group.members.len());
        for (index, proto) in group.members.iter().enumerate() {
            let at = members_at.index(index);
            let name = text::name(&at.field("name"), &proto.name)?;
            if members.iter().any(|member| member.name == name) {
                let message = format!("\"{name}\" is the name of another member too");
                return Err(at
                    .field("name")
                    .error(message, "give each member a name of its own"));
            }
            let weight = text::count(&at.field("weight"), proto.weight, 1, WEIGHT_MAX)?;
            let at = at.field("next_hop");
            let next_hop = NextHop::from_proto(&at, proto.next_hop.as_ref())?;
            if let NextHop::Group(other) = &next_hop {
                let message = format!("names group \"{other}\", but a group's member is no group");
                return Err(at
                    .field("group")
                    .error(message, "list that group's members here instead"));
            }
            members.push(Member {
                name,
                weight,
                next_hop,
            });
        }
        Ok(NextHopGroup { members })
    }

    pub(super) fn to_proto(&self) -> v1::NextHopGroup {
        let member = |member: &Member| v1::Member {
            name: member.name.to_string(),
            weight: member.weight,
            next_hop: Some(member.next_hop.to_proto()),
        };
        v1::NextHopGroup {
            members: self.members.iter().map(member).collect(),
        }
    }
}
