//! IPv4 headers (RFC 791).

use std::net::Ipv4Addr;

use crate::{
    bytes::{get_array, get_u16},
    checksum,
    ip::{Addresses, Fragment, IpPacket, Piece},
    malformed::{Fault, Header, Malformed},
};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;
/// Bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;

pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
pub(crate) const OFFSET_MASK: u16 = 0x1fff;

const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;

/// Reads an IPv4 header; see [`crate::ip::parse`].
#[inline]
pub fn parse(l3: &[u8], packet_len: usize) -> Result<IpPacket, Malformed> {
    let Some(header) = l3.first_chunk::<HEADER_LEN>() else {
        return Err(Malformed::truncated(Header::Ipv4, 0));
    };
    let mut header_len = HEADER_LEN;
    let mut source_routed = false;
    if header[0] == 0x45 {
        if !checksum::is_valid_ipv4_header(header) {
            return Err(Malformed::new(Header::Ipv4, 0, Fault::Checksum));
        }
    } else {
        (header_len, source_routed) = parse_options(l3, header[0])?;
    }
    let total_len = usize::from(get_u16(header, 2));
    if total_len < header_len || total_len > packet_len {
        return Err(Malformed::new(Header::Ipv4, 0, Fault::Length));
    }
    let fragment = match get_u16(header, 6) & (MORE_FRAGMENTS | OFFSET_MASK) {
        0 => Fragment::Whole,
        field => fragment(get_u16(header, 4), field, total_len - header_len)?,
    };
    Ok(IpPacket {
        addresses: Addresses::V4 {
            source: Ipv4Addr::from(get_array::<HEADER_LEN, 4>(header, 12)),
            destination: Ipv4Addr::from(get_array::<HEADER_LEN, 4>(header, 16)),
        },
        total_len: total_len as u32,
        l4_offset: header_len as u16,
        protocol: header[9],
        fragment,
        ttl: header[8],
        traffic_class: header[1],
        has_options: header_len != HEADER_LEN,
        source_routed,
    })
}

/// The rare header: not version 4 with exactly 20 bytes.
#[cold]
fn parse_options(l3: &[u8], first: u8) -> Result<(usize, bool), Malformed> {
    let wrong = |fault| Err(Malformed::new(Header::Ipv4, 0, fault));
    if first >> 4 != 4 {
        return wrong(Fault::Version);
    }
    let header_len = usize::from(first & 0xf) * 4;
    if header_len < HEADER_LEN {
        return wrong(Fault::HeaderLength);
    }
    let Some(header) = l3.get(..header_len) else {
        return wrong(Fault::Truncated);
    };
    if checksum::internet(header) != 0 {
        return wrong(Fault::Checksum);
    }
    let mut options = &header[HEADER_LEN..];
    let mut source_routed = false;
    while let Some((kind, len)) = next_option(options) {
        let pointer = options.get(2).map_or(0, |&pointer| usize::from(pointer));
        source_routed |= matches!(kind, LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE) && pointer <= len;
        options = &options[len..];
    }
    Ok((header_len, source_routed))
}

/// Kind and length of the option that `options` starts with; none at the end of the list or at an option that does
/// not fit (a router forwards those as they are).
pub(crate) fn next_option(options: &[u8]) -> Option<(u8, usize)> {
    match *options {
        [] | [0, ..] => None,
        [1, ..] => Some((1, 1)),
        [kind, len, ..] if len >= 2 && usize::from(len) <= options.len() => Some((kind, usize::from(len))),
        _ => None,
    }
}

#[cold]
fn fragment(identification: u16, field: u16, data_len: usize) -> Result<Fragment, Malformed> {
    let offset = usize::from(field & OFFSET_MASK) * 8;
    let more = field & MORE_FRAGMENTS != 0;
    // Only the last fragment may end between two multiples of 8, and none beyond what a total length can say.
    if (more && !data_len.is_multiple_of(8)) || data_len == 0 || offset + data_len > usize::from(u16::MAX) {
        return Err(Malformed::new(Header::Ipv4, 0, Fault::Fragment));
    }
    Ok(Fragment::of(Piece {
        identification: u32::from(identification),
        offset: offset as u16,
        length: data_len as u16,
        more,
    }))
}
