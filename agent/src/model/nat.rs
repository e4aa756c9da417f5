//! Floating IPs: addresses that stand for others.

use std::net::IpAddr;

use weft_proto::v1;

use super::{
    Port,
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
