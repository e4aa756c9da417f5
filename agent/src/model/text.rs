//! Reads the texts and numbers of the API's fields: names, addresses, prefixes, MACs, interface names, paths.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ipnet::IpNet;
use weft_packet::{Label, Mac, VlanId, Vni};

use super::error::{At, FieldError};

/// The name of an object; cheap to copy.
pub type Name = Arc<str>;

/// Longest name of an object.
pub const NAME_MAX: usize = 253;
/// Longest Linux interface name (IFNAMSIZ with its final zero).
pub const INTERFACE_NAME_MAX: usize = 15;
/// Longest path of a unix socket (`sun_path` with its final zero).
pub const SOCKET_PATH_MAX: usize = 107;

const NAME_HELP: &str = "names are 1 to 253 characters of a-z, 0-9, '-', '.', '_' and '/'";

/// A name that must be there.
pub fn name(at: &At, text: &str) -> Result<Name, FieldError> {
    if text.is_empty() {
        return Err(at.error("is missing", NAME_HELP));
    }
    if text.len() > NAME_MAX {
        return Err(at.error(format!("has {} characters", text.len()), NAME_HELP));
    }
    let legal = |c: &char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '.' | '_' | '/');
    if let Some(character) = text.chars().find(|c| !legal(c)) {
        return Err(at.error(
            format!("\"{}\" contains {character:?}", text.escape_debug()),
            NAME_HELP,
        ));
    }
    Ok(text.into())
}

/// A name that may be left out.
pub fn optional_name(at: &At, text: &str) -> Result<Option<Name>, FieldError> {
    if text.is_empty() {
        Ok(None)
    } else {
        name(at, text).map(Some)
    }
}

/// An address that can belong to one host.
pub fn address(at: &At, text: &str) -> Result<IpAddr, FieldError> {
    let address: IpAddr = text.parse().map_err(|_| {
        at.error(
            if text.is_empty() {
                "is missing".into()
            } else {
                format!("`{text}` is no IP address")
            },
            "write an address such as 198.18.0.1 or fd00::1",
        )
    })?;
    unicast(at, address)?;
    Ok(address)
}

fn unicast(at: &At, address: IpAddr) -> Result<(), FieldError> {
    let what = match address {
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V4(v4) if v4.octets()[0] == 0 => "no host's address (RFC 6890: \"this network\")",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address written as IPv6",
        _ if address.is_unspecified() => "the unspecified address",
        _ if address.is_multicast() => "a multicast address",
        _ if address.is_loopback() => "a loopback address",
        _ => return Ok(()),
    };
    Err(at.error(
        format!("{address} is {what}"),
        "name the unicast address of one host",
    ))
}

/// A prefix without host bits, or an address, which is one of full length.
pub fn address_or_prefix(at: &At, text: &str) -> Result<IpNet, FieldError> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) if text.contains('/') => prefix(at, text),
        Err(_) => Err(at.error(
            format!("`{}` is neither an address nor a prefix", text.escape_debug()),
            "write one such as 10.0.0.5, 10.0.0.0/24 or fd00:1::/64",
        )),
    }
}

/// A prefix without host bits.
pub fn prefix(at: &At, text: &str) -> Result<IpNet, FieldError> {
    let prefix: IpNet = text.parse().map_err(|_| {
        at.error(
            if text.is_empty() {
                "is missing".into()
            } else {
                format!("`{text}` is no prefix")
            },
            "write address and length, such as 10.0.0.0/24 or fd00:1::/64",
        )
    })?;
    let truncated = prefix.trunc();
    if truncated != prefix {
        let message = format!(
            "{prefix} has host bits set beyond its /{} length",
            prefix.prefix_len()
        );
        return Err(at.error(message, format!("write {truncated}")));
    }
    Ok(prefix)
}

/// The address of a guest: bare, or with the full length.
pub fn host_address(at: &At, text: &str) -> Result<IpAddr, FieldError> {
    if let Ok(prefix) = text.parse::<IpNet>() {
        if prefix.prefix_len() != prefix.max_prefix_len() {
            return Err(at.error(
                format!("{prefix} has a prefix length, but the port's VRF is not the underlay"),
                format!(
                    "write {}; add a route for a prefix behind the port",
                    prefix.addr()
                ),
            ));
        }
        unicast(at, prefix.addr())?;
        return Ok(prefix.addr());
    }
    address(at, text)
}

/// An uplink's address with the length of its subnet.
pub fn interface_address(at: &At, text: &str) -> Result<IpNet, FieldError> {
    let help = "write the uplink's address and the length of its subnet, such as 198.18.0.1/24";
    let prefix: IpNet = text.parse().map_err(|_| {
        let message = match text.parse::<IpAddr>() {
            Ok(address) => format!("{address} lacks the length of its subnet"),
            Err(_) => format!("`{text}` is no address with a prefix length"),
        };
        at.error(message, help)
    })?;
    unicast(at, prefix.addr())?;
    let hosts_only = prefix.max_prefix_len() - prefix.prefix_len() <= 1;
    if !hosts_only && prefix.addr() == prefix.network() {
        return Err(at.error(
            format!("{prefix} is the subnet itself, not an address in it"),
            help,
        ));
    }
    if !hosts_only && matches!(prefix, IpNet::V4(v4) if v4.addr() == v4.broadcast()) {
        return Err(at.error(
            format!("{} is the broadcast address of its subnet", prefix.addr()),
            help,
        ));
    }
    Ok(prefix)
}

/// The MAC of one station, or none.
pub fn optional_mac(at: &At, text: &str) -> Result<Option<Mac>, FieldError> {
    if text.is_empty() {
        Ok(None)
    } else {
        mac(at, text).map(Some)
    }
}

/// The MAC of one station.
pub fn mac(at: &At, text: &str) -> Result<Mac, FieldError> {
    let mac: Mac = text.parse().map_err(|_| {
        at.error(
            if text.is_empty() {
                "is missing".into()
            } else {
                format!("`{text}` is no MAC address")
            },
            "write six octets, such as 52:54:00:12:34:56",
        )
    })?;
    if !mac.is_unicast() {
        let what = if mac.is_zero() { "zero" } else { "a group address" };
        let help = "name one station: the lowest bit of the first octet is 0, and not all octets are";
        return Err(at.error(format!("{mac} is {what}"), help));
    }
    Ok(mac)
}

/// A VLAN that must be there.
pub fn vlan(at: &At, value: u32) -> Result<VlanId, FieldError> {
    VlanId::try_from(value).map_err(|_| {
        at.error(
            format!("VLAN {value} is out of range"),
            "legal are 1 to 4094 (IEEE 802.1Q reserves 0 and 4095)",
        )
    })
}

/// A VXLAN network identifier.
pub fn vni(at: &At, value: u32) -> Result<Vni, FieldError> {
    Vni::try_from(value).map_err(|_| {
        at.error(
            format!("VNI {value} is out of range"),
            "legal are 1 to 16777215 (24 bits, RFC 7348)",
        )
    })
}

/// An MPLS label.
pub fn label(at: &At, value: u32) -> Result<Label, FieldError> {
    Label::try_from(value).map_err(|_| {
        let what = if value < 16 {
            "is reserved"
        } else {
            "is out of range"
        };
        at.error(
            format!("label {value} {what}"),
            "legal are 16 to 1048575 (20 bits; RFC 3032 reserves 0 to 15)",
        )
    })
}

/// A Linux interface name.
pub fn interface_name(at: &At, text: &str) -> Result<String, FieldError> {
    let help = "interface names are 1 to 15 characters without blanks and '/'";
    if text.is_empty() {
        return Err(at.error("is missing", help));
    }
    if text.len() > INTERFACE_NAME_MAX {
        return Err(at.error(format!("`{text}` has {} characters", text.len()), help));
    }
    let bad = |c: char| c == '/' || c == ':' || !c.is_ascii_graphic();
    if text == "." || text == ".." || text.contains(bad) {
        return Err(at.error(format!("`{}` is no interface name", text.escape_debug()), help));
    }
    Ok(text.into())
}

/// The absolute path of a unix socket.
pub fn socket_path(at: &At, text: &str) -> Result<PathBuf, FieldError> {
    let help = "write an absolute path of at most 107 characters, such as /run/weft/vm-7.sock";
    if text.is_empty() {
        return Err(at.error("is missing", help));
    }
    if !Path::new(text).is_absolute() || text.contains(char::is_control) || text.ends_with('/') {
        return Err(at.error(
            format!("`{}` is no absolute path of a socket", text.escape_debug()),
            help,
        ));
    }
    if text.len() > SOCKET_PATH_MAX {
        return Err(at.error(format!("has {} characters", text.len()), help));
    }
    Ok(text.into())
}

/// A network namespace by its name under /run/netns or by its path; empty: none.
pub fn netns(at: &At, text: &str) -> Result<Option<PathBuf>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    let path = Path::new(text);
    if path.is_absolute() && !text.contains(char::is_control) {
        return Ok(Some(path.into()));
    }
    if text.contains(['/', '\0']) || text == "." || text == ".." || text.contains(char::is_control) {
        return Err(at.error(
            format!("`{}` is neither a name nor an absolute path", text.escape_debug()),
            "write the name of a namespace under /run/netns, or a path such as /proc/4711/ns/net",
        ));
    }
    Ok(Some(Path::new("/run/netns").join(text)))
}

/// A count for which 0 stands for `default`.
pub fn count(at: &At, value: u32, default: u32, most: u32) -> Result<u32, FieldError> {
    match value {
        0 => Ok(default),
        value if value <= most => Ok(value),
        value => Err(at.error(
            format!("{value} is too many"),
            format!("legal are 1 to {most}; 0 stands for {default}"),
        )),
    }
}
