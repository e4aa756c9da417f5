//! Checksums of TCP, UDP and ICMPv6 over a packet that may lie in several buffers: what a network card does when it can, and
//! what a guest leaves to us when it sends a partial checksum (virtio 1.2, section 5.1.6.2).
//!
//! Where the checksum lies and what it covers is read from the packet's own headers, never from a guest's offsets.

use crate::{
    bytes::{array, array_mut, get_u16},
    checksum::Sum,
    ip::{Fragment, IpPacket, protocol},
    malformed::{Fault, Header, Malformed},
};

/// Fills in the checksum; whatever is in its field is not looked at. `l3` are the bytes at hand, with all headers;
/// `rest` are the packet's further bytes. What lies behind the packet's end (padding) is left out.
pub fn fill_checksum<'a>(
    l3: &mut [u8],
    ip: &IpPacket,
    rest: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), Malformed> {
    write_field(l3, ip, 0)?;
    let sum = sum(l3, ip, rest)?;
    let checksum = if ip.protocol == protocol::UDP {
        sum.udp_checksum()
    } else {
        sum.checksum()
    };
    write_field(l3, ip, checksum)
}

/// Writes the sum of the pseudo header alone into the checksum's field, which is what network cards and virtio want to find
/// there when they are to complete it.
pub fn set_partial(l3: &mut [u8], ip: &IpPacket) -> Result<(), Malformed> {
    let len = covered_len(l3, ip)?;
    write_field(l3, ip, pseudo_header(ip, len).folded())
}

/// True if the checksum is right, or if UDP goes without.
pub fn is_valid<'a>(
    l3: &[u8],
    ip: &IpPacket,
    rest: impl IntoIterator<Item = &'a [u8]>,
) -> Result<bool, Malformed> {
    let field = checksum_offset(ip)?;
    if ip.protocol == protocol::UDP && array::<2>(l3, field) == Some(&[0, 0]) {
        return Ok(true);
    }
    Ok(sum(l3, ip, rest)?.is_valid())
}

/// Where the checksum lies, from the IP header on.
pub fn checksum_offset(ip: &IpPacket) -> Result<usize, Malformed> {
    let inside = match ip.protocol {
        protocol::TCP => 16,
        protocol::UDP => 6,
        protocol::ICMPV6 if ip.is_v6() => 2,
        _ => return Err(no_checksum(ip)),
    };
    Ok(usize::from(ip.l4_offset) + inside)
}

/// How many bytes the checksum covers: UDP says so itself, and may say less than IP.
fn covered_len(l3: &[u8], ip: &IpPacket) -> Result<usize, Malformed> {
    // A fragment does not hold all that the checksum covers, and a source route hides the last destination.
    if ip.fragment != Fragment::Whole || ip.source_routed {
        return Err(no_checksum(ip));
    }
    if ip.protocol != protocol::UDP {
        return Ok(ip.l4_len());
    }
    let offset = usize::from(ip.l4_offset);
    let Some(header) = array::<8>(l3, offset) else {
        return Err(Malformed::truncated(Header::Udp, offset));
    };
    match usize::from(get_u16(header, 4)) {
        len if len >= 8 && len <= ip.l4_len() => Ok(len),
        _ => Err(Malformed::new(Header::Udp, offset, Fault::Length)),
    }
}

fn pseudo_header(ip: &IpPacket, len: usize) -> Sum {
    Sum::pseudo_header(ip.addresses, ip.protocol, len as u32)
}

fn sum<'a>(l3: &[u8], ip: &IpPacket, rest: impl IntoIterator<Item = &'a [u8]>) -> Result<Sum, Malformed> {
    let mut left = covered_len(l3, ip)?;
    let mut sum = pseudo_header(ip, left);
    let mut add = |bytes: &[u8]| {
        let bytes = &bytes[..bytes.len().min(left)];
        sum.add(bytes);
        left -= bytes.len();
    };
    add(ip.l4(l3));
    for bytes in rest {
        add(bytes);
    }
    if left > 0 {
        return Err(Malformed::truncated(Header::Transport, usize::from(ip.l4_offset)));
    }
    Ok(sum)
}

fn write_field(l3: &mut [u8], ip: &IpPacket, value: u16) -> Result<(), Malformed> {
    match array_mut::<2>(l3, checksum_offset(ip)?) {
        Some(field) => {
            *field = value.to_be_bytes();
            Ok(())
        }
        None => Err(Malformed::truncated(Header::Transport, usize::from(ip.l4_offset))),
    }
}

#[cold]
fn no_checksum(ip: &IpPacket) -> Malformed {
    Malformed::new(Header::Transport, usize::from(ip.l4_offset), Fault::NoChecksum)
}
