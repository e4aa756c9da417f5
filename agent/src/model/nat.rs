//! Floating IPs and pools: addresses that stand for others.

use std::{net::IpAddr, ops::RangeInclusive};

use ipnet::{IpNet, Ipv4Net};
use weft_proto::v1;

use super::{
    Port, UNDERLAY,
    error::{At, FieldError},
    text::{self, Name},
};

/// An address that stands for one behind a port, both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloatingIp {
    /// The VRF in which the address is reached.
    pub vrf: Name,
    /// As others know the workload.
    pub address: IpAddr,
    /// Where the workload is.
    pub port: Name,
    /// The workload's own address, of the same family.
    pub inside_address: IpAddr,
}

impl FloatingIp {
    pub(super) fn from_proto(floating: &v1::FloatingIp) -> Result<Self, FieldError> {
        let at = At::root("floating_ip");
        let vrf = text::name(&at.field("vrf"), &floating.vrf)?;
        let address = text::address(&at.field("address"), &floating.address)?;
        let port = text::name(&at.field("port"), &floating.port)?;
        let inside_at = at.field("inside_address");
        let inside_address = text::address(&inside_at, &floating.inside_address)?;
        if inside_address.is_ipv4() != address.is_ipv4() {
            let message = format!("{inside_address} and the floating {address} are of different families");
            return Err(inside_at.error(message, "use two IPv4 or two IPv6 addresses; there is no NAT64"));
        }
        if inside_address == address {
            let message = format!("{inside_address} is the floating address too");
            return Err(inside_at.error(message, "name the address that the workload has"));
        }
        Ok(FloatingIp {
            vrf,
            address,
            port,
            inside_address,
        })
    }

    pub(super) fn to_proto(&self) -> v1::FloatingIp {
        v1::FloatingIp {
            vrf: self.vrf.to_string(),
            address: self.address.to_string(),
            port: self.port.to_string(),
            inside_address: self.inside_address.to_string(),
        }
    }

    /// Why it cannot stand for an address of this port.
    pub fn misfit(&self, port: &Port) -> Option<FieldError> {
        let (name, at) = (&self.port, At::root("floating_ip"));
        if port.is_uplink() {
            let message = format!("\"{name}\" is an uplink");
            return Some(
                at.field("port")
                    .error(message, "name the port of a guest or container"),
            );
        }
        if port.vrf == self.vrf {
            let message = format!("\"{}\" is the VRF of port \"{name}\" itself", self.vrf);
            let help =
                "name the VRF in which others reach the address; routes lead there from the port's own";
            return Some(at.field("vrf").error(message, help));
        }
        if !port.hosts().any(|host| host == self.inside_address) {
            let message = format!("port \"{name}\" does not have {}", self.inside_address);
            return Some(at.field("inside_address").error(
                message,
                "name one of the port's addresses, or add this one to the port",
            ));
        }
        None
    }
}

/// Most addresses of a pool.
const ADDRESSES_MAX: u64 = 4096;
/// Most blocks of a pool.
const BLOCKS_MAX: u64 = 1 << 20;
/// Most ports of a block.
const BLOCK_MAX: u32 = 4096;

/// IPv4 addresses that many share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatPool {
    /// The VRF in which the addresses are reached.
    pub vrf: Name,
    /// The addresses.
    pub addresses: Vec<Ipv4Net>,
    /// The VRF that the sessions come from.
    pub inside_vrf: Name,
    /// Whose sessions are translated.
    pub sources: Vec<Ipv4Net>,
    /// Ports that are handed out.
    pub ports: RangeInclusive<u16>,
    /// Ports that an inside address is given at a time: a power of two.
    pub block_size: u16,
    /// Each inside address has one block.
    pub deterministic: bool,
}

impl NatPool {
    pub(super) fn from_proto(pool: &v1::NatPool) -> Result<Self, FieldError> {
        let at = At::root("nat_pool");
        let vrf = text::name(&at.field("vrf"), &pool.vrf)?;
        let inside_at = at.field("inside_vrf");
        let inside_vrf = text::name(&inside_at, &pool.inside_vrf)?;
        if inside_vrf == vrf || &*inside_vrf == UNDERLAY {
            let help = "name the tenant's VRF; its routes lead into the pool's";
            return Err(inside_at.error(
                format!("\"{inside_vrf}\" cannot be the inside of this pool"),
                help,
            ));
        }
        let addresses_at = at.field("addresses");
        let addresses = prefixes(&addresses_at, &pool.addresses)?;
        let count = hosts(&addresses);
        if count > ADDRESSES_MAX {
            let message = format!("there are {count} addresses");
            return Err(addresses_at.error(message, format!("name {ADDRESSES_MAX} at most")));
        }
        let sources_at = at.field("sources");
        let sources = prefixes(&sources_at, &pool.sources)?;
        let ports = ports(&at, pool.first_port, pool.last_port)?;
        let block_at = at.field("block_size");
        let block_size = if pool.block_size == 0 { 64 } else { pool.block_size };
        if !block_size.is_power_of_two() || block_size > BLOCK_MAX {
            let help = format!("choose a power of two up to {BLOCK_MAX}, such as 64");
            return Err(block_at.error(format!("{block_size} is no size of a block"), help));
        }
        let range = u32::from(*ports.end()) - u32::from(*ports.start()) + 1;
        let per_address = range / block_size;
        if per_address == 0 {
            let message = format!("{block_size} ports are more than the {range} of the range");
            return Err(block_at.error(message, "choose a smaller block, or a larger range of ports"));
        }
        if count * u64::from(per_address) > BLOCKS_MAX {
            let message = format!(
                "{block_size} ports make {} blocks",
                count * u64::from(per_address)
            );
            return Err(block_at.error(
                message,
                format!("choose larger blocks: {BLOCKS_MAX} are possible"),
            ));
        }
        let (blocks, inside) = (count * u64::from(per_address), hosts(&sources));
        if pool.deterministic && inside > blocks {
            let message = format!("there are {blocks} blocks for {inside} sources");
            let help = "add addresses, make blocks smaller, or name fewer sources";
            return Err(at.field("deterministic").error(message, help));
        }
        Ok(NatPool {
            vrf,
            addresses,
            inside_vrf,
            sources,
            ports,
            block_size: block_size as u16,
            deterministic: pool.deterministic,
        })
    }

    pub(super) fn to_proto(&self) -> v1::NatPool {
        let texts = |prefixes: &[Ipv4Net]| prefixes.iter().map(Ipv4Net::to_string).collect();
        v1::NatPool {
            vrf: self.vrf.to_string(),
            addresses: texts(&self.addresses),
            inside_vrf: self.inside_vrf.to_string(),
            sources: texts(&self.sources),
            first_port: u32::from(*self.ports.start()),
            last_port: u32::from(*self.ports.end()),
            block_size: u32::from(self.block_size),
            deterministic: self.deterministic,
        }
    }
}

fn ports(at: &At, first: u32, last: u32) -> Result<RangeInclusive<u16>, FieldError> {
    let number = |field: &'static str, port: u32, default: u16| match port {
        0 => Ok(default),
        port => u16::try_from(port).map_err(|_| {
            let help = "ports are 1 to 65535; 0 stands for the default";
            at.field(field).error(format!("{port} is out of range"), help)
        }),
    };
    let (first, last) = (
        number("first_port", first, 1024)?,
        number("last_port", last, u16::MAX)?,
    );
    if last < first {
        let message = format!("{last} is before the first port, {first}");
        return Err(at.field("last_port").error(message, "name a later port"));
    }
    Ok(first..=last)
}

/// IPv4 prefixes without overlap, at least one.
fn prefixes(at: &At, texts: &[String]) -> Result<Vec<Ipv4Net>, FieldError> {
    if texts.is_empty() {
        return Err(at.error(
            "is missing",
            "name at least one IPv4 prefix, such as 203.0.113.64/28",
        ));
    }
    let mut prefixes: Vec<Ipv4Net> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let at = at.index(index);
        let prefix = match text::prefix(&at, text)? {
            IpNet::V4(prefix) => prefix,
            IpNet::V6(prefix) => {
                let help = "pools are for IPv4; give IPv6 a floating IP, or a route";
                return Err(at.error(format!("{prefix} is no IPv4 prefix"), help));
            }
        };
        if let Some(other) = prefixes
            .iter()
            .find(|other| other.contains(&prefix) || prefix.contains(*other))
        {
            return Err(at.error(format!("{prefix} overlaps with {other}"), "remove one of the two"));
        }
        prefixes.push(prefix);
    }
    Ok(prefixes)
}

fn hosts(prefixes: &[Ipv4Net]) -> u64 {
    prefixes
        .iter()
        .map(|prefix| 1 << (32 - prefix.prefix_len()))
        .sum()
}
