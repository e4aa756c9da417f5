//! IPv6 headers and their extension headers (RFC 8200).

use std::net::Ipv6Addr;

use crate::{
    bytes::{array, get_array, get_u16, get_u32},
    ip::{Addresses, Fragment, IpPacket, Piece, protocol},
    malformed::{Fault, Header, Malformed},
};

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;

/// Extension headers that are looked through; a packet with more is refused.
pub const MAX_EXTENSIONS: usize = 8;

/// Reads an IPv6 header with its extension headers; see [`crate::ip::parse`].
#[inline]
pub fn parse(l3: &[u8], packet_len: usize) -> Result<IpPacket, Malformed> {
    let Some(header) = l3.first_chunk::<HEADER_LEN>() else {
        return Err(Malformed::truncated(Header::Ipv6, 0));
    };
    let first = get_u32(header, 0);
    if first >> 28 != 6 {
        return Err(Malformed::new(Header::Ipv6, 0, Fault::Version));
    }
    // A jumbogram (RFC 2675) says 0 here and fails at its hop-by-hop header, which lies behind the end.
    let total_len = HEADER_LEN + usize::from(get_u16(header, 4));
    if total_len > packet_len {
        return Err(Malformed::new(Header::Ipv6, 0, Fault::Length));
    }
    let mut packet = IpPacket {
        addresses: Addresses::V6 {
            source: Ipv6Addr::from(get_array::<HEADER_LEN, 16>(header, 8)),
            destination: Ipv6Addr::from(get_array::<HEADER_LEN, 16>(header, 24)),
        },
        total_len: total_len as u32,
        l4_offset: HEADER_LEN as u16,
        protocol: header[6],
        fragment: Fragment::Whole,
        ttl: header[7],
        traffic_class: (first >> 20) as u8,
        has_options: false,
        source_routed: false,
    };
    if is_extension(packet.protocol) {
        parse_extensions(l3, &mut packet)?;
    }
    Ok(packet)
}

#[inline]
const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | protocol::AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
    )
}

#[cold]
fn parse_extensions(l3: &[u8], packet: &mut IpPacket) -> Result<(), Malformed> {
    let end = (packet.total_len as usize).min(l3.len());
    let mut offset = HEADER_LEN;
    let mut has_fragment_header = false;
    packet.has_options = true;
    for count in 0.. {
        if !is_extension(packet.protocol) {
            break;
        }
        let wrong = |fault| Err(Malformed::new(Header::Ipv6Extension, offset, fault));
        if count == MAX_EXTENSIONS {
            return wrong(Fault::TooMany);
        }
        let Some(start) = array::<8>(&l3[..end], offset) else {
            return wrong(Fault::Truncated);
        };
        let len = match packet.protocol {
            protocol::HOP_BY_HOP if count > 0 => return wrong(Fault::Order),
            protocol::FRAGMENT if has_fragment_header => return wrong(Fault::Order),
            protocol::FRAGMENT => 8,
            // Its fixed part alone takes twelve (RFC 4302).
            protocol::AUTHENTICATION if start[1] == 0 => return wrong(Fault::HeaderLength),
            protocol::AUTHENTICATION => (usize::from(start[1]) + 2) * 4,
            _ => (usize::from(start[1]) + 1) * 8,
        };
        if offset + len > packet.total_len as usize {
            return wrong(Fault::HeaderLength);
        }
        if offset + len > end {
            return wrong(Fault::Truncated);
        }
        match packet.protocol {
            protocol::ROUTING => packet.source_routed |= start[3] != 0,
            protocol::FRAGMENT => {
                has_fragment_header = true;
                let field = get_u16(start, 2);
                let (fragment_offset, more) = (usize::from(field & !7), field & 1 != 0);
                let data_len = packet.total_len as usize - offset - len;
                if (more && !data_len.is_multiple_of(8)) || fragment_offset + data_len > usize::from(u16::MAX)
                {
                    return wrong(Fault::Fragment);
                }
                packet.fragment = match (fragment_offset, more) {
                    (0, false) => Fragment::Whole,
                    _ => Fragment::of(Piece {
                        identification: u32::from(get_u16(start, 4)) << 16 | u32::from(get_u16(start, 6)),
                        offset: fragment_offset as u16,
                        length: data_len as u16,
                        more,
                    }),
                };
            }
            _ => {}
        }
        packet.protocol = start[0];
        offset += len;
        packet.l4_offset = offset as u16;
        if packet.fragment.is_later() {
            // What follows is the middle of something, not a header.
            break;
        }
    }
    Ok(())
}
