//! VRFs, networks and routes.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use weft_proto::v1;

use super::{
    error::{At, FieldError},
    next_hop::NextHop,
    text::{self, Name},
};

/// A routing table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vrf {
    /// Forward by the FIB alone.
    pub packet_mode: bool,
    /// How long its sessions may be idle, seconds; 0: as everywhere.
    pub timeouts: v1::SessionTimeouts,
}

/// The longest time that a session may be idle, seconds.
const TIMEOUT_MAX: u32 = 7 * 24 * 3600;

impl Vrf {
    pub(super) fn from_proto(vrf: &v1::Vrf) -> Result<Self, FieldError> {
        let timeouts = vrf.timeouts.unwrap_or_default();
        let root = At::root("vrf");
        let at = root.field("timeouts");
        for (name, seconds) in named(&timeouts) {
            if seconds > TIMEOUT_MAX {
                return Err(at.field(name).error(
                    format!("{seconds} seconds are too many"),
                    format!("legal are 1 to {TIMEOUT_MAX}; 0 stands for what weftd.toml says"),
                ));
            }
        }
        Ok(Vrf {
            packet_mode: vrf.packet_mode,
            timeouts,
        })
    }

    pub(super) fn to_proto(&self) -> v1::Vrf {
        v1::Vrf {
            packet_mode: self.packet_mode,
            timeouts: (self.timeouts != v1::SessionTimeouts::default()).then_some(self.timeouts),
        }
    }
}

fn named(timeouts: &v1::SessionTimeouts) -> [(&'static str, u32); 6] {
    let v1::SessionTimeouts {
        tcp_opening,
        tcp,
        tcp_closed,
        udp,
        icmp,
        other,
    } = *timeouts;
    [
        ("tcp_opening", tcp_opening),
        ("tcp", tcp),
        ("tcp_closed", tcp_closed),
        ("udp", udp),
        ("icmp", icmp),
        ("other", other),
    ]
}

/// Subnets inside a VRF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The VRF.
    pub vrf: Name,
    /// No two of them overlap.
    pub subnets: Vec<Subnet>,
}

/// A subnet, whose gateway the vRouter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Without host bits.
    pub prefix: IpNet,
    /// An address in it.
    pub gateway: IpAddr,
}

impl Network {
    pub(super) fn from_proto(network: &v1::Network) -> Result<Self, FieldError> {
        let at = At::root("network");
        let vrf = text::name(&at.field("vrf"), &network.vrf)?;
        let subnets_at = at.field("subnets");
        let mut subnets: Vec<Subnet> = Vec::with_capacity(network.subnets.len());
        for (index, proto) in network.subnets.iter().enumerate() {
            let at = subnets_at.index(index);
            let subnet = Subnet::from_proto(&at, proto)?;
            let overlaps = |other: &&Subnet| {
                other.prefix.contains(&subnet.prefix) || subnet.prefix.contains(&other.prefix)
            };
            if let Some(other) = subnets.iter().find(overlaps) {
                let message = format!(
                    "{} overlaps with {} of the same network",
                    subnet.prefix, other.prefix
                );
                return Err(at.field("prefix").error(message, "remove one of the two"));
            }
            subnets.push(subnet);
        }
        Ok(Network { vrf, subnets })
    }

    pub(super) fn to_proto(&self) -> v1::Network {
        let subnet = |subnet: &Subnet| v1::Subnet {
            prefix: subnet.prefix.to_string(),
            gateway: subnet.gateway.to_string(),
        };
        v1::Network {
            vrf: self.vrf.to_string(),
            subnets: self.subnets.iter().map(subnet).collect(),
        }
    }
}

impl Subnet {
    fn from_proto(at: &At, subnet: &v1::Subnet) -> Result<Self, FieldError> {
        let prefix = text::prefix(&at.field("prefix"), &subnet.prefix)?;
        let at = at.field("gateway");
        let gateway = text::address(&at, &subnet.gateway)?;
        let help = format!("choose an address of a host in {prefix}");
        if !prefix.contains(&gateway) {
            return Err(at.error(format!("{gateway} is not inside {prefix}"), help));
        }
        // RFC 3021 and RFC 6164: in a point-to-point subnet every address is a host's.
        let hosts_only = prefix.max_prefix_len() - prefix.prefix_len() <= 1;
        let reserved = gateway == prefix.network() || (gateway.is_ipv4() && gateway == prefix.broadcast());
        if !hosts_only && reserved {
            return Err(at.error(
                format!("{gateway} is the first or last address of {prefix}"),
                help,
            ));
        }
        Ok(Subnet { prefix, gateway })
    }
}

/// A route of a VRF.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The VRF.
    pub vrf: Name,
    /// Without host bits.
    pub prefix: IpNet,
    /// Where to; many routes share one.
    pub next_hop: Arc<NextHop>,
}

impl Route {
    pub(super) fn from_proto(route: &v1::Route) -> Result<Self, FieldError> {
        let at = At::root("route");
        let vrf = text::name(&at.field("vrf"), &route.vrf)?;
        let prefix = text::prefix(&at.field("prefix"), &route.prefix)?;
        let at = at.field("next_hop");
        let next_hop = NextHop::from_proto(&at, route.next_hop.as_ref())?;
        if next_hop == NextHop::Vrf(vrf.clone()) {
            let message = format!("leads back into vrf \"{vrf}\", where the route itself is");
            return Err(at.field("vrf").error(message, "name another VRF"));
        }
        Ok(Route {
            vrf,
            prefix,
            next_hop: Arc::new(next_hop),
        })
    }

    pub(super) fn to_proto(&self) -> v1::Route {
        v1::Route {
            vrf: self.vrf.to_string(),
            prefix: self.prefix.to_string(),
            next_hop: Some(self.next_hop.to_proto()),
        }
    }
}
