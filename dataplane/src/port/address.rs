//! Addresses of the host's own interface on an uplink (`weft0`).

use std::io;

use ipnet::IpNet;

use super::netlink;

/// Gives an interface of this network namespace an address with the length of its subnet; one that it has already
/// stays.
pub fn add(interface: &str, address: IpNet) -> io::Result<()> {
    let index =
        netlink::interface_index(interface).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    netlink::add_address(index, address)
}
