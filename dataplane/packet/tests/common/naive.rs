//! A parser of IP headers that follows the RFCs' text field by field and cares for nothing else: the oracle of the
//! fast one.

use super::naive_checksum;

#[derive(Debug, PartialEq, Eq)]
pub struct Naive {
    pub v6: bool,
    pub source: Vec<u8>,
    pub destination: Vec<u8>,
    pub total_len: usize,
    pub l4_offset: usize,
    pub protocol: u8,
    /// Byte offset and whether more come; none if whole.
    pub fragment: Option<(usize, bool)>,
    pub ttl: u8,
    pub traffic_class: u8,
}

/// None: malformed, or cut off.
pub fn parse(at_hand: &[u8], packet_len: usize) -> Option<Naive> {
    match at_hand.first()? >> 4 {
        4 => parse_v4(at_hand, packet_len),
        6 => parse_v6(at_hand, packet_len),
        _ => None,
    }
}

fn parse_v4(bytes: &[u8], packet_len: usize) -> Option<Naive> {
    let header_len = usize::from(bytes.first()? & 15) * 4;
    if header_len < 20 || bytes.len() < header_len || naive_checksum(&bytes[..header_len]) != 0 {
        return None;
    }
    let total_len = usize::from(bytes[2]) * 256 + usize::from(bytes[3]);
    if total_len < header_len || total_len > packet_len {
        return None;
    }
    let more = bytes[6] & 0x20 != 0;
    let offset = (usize::from(bytes[6] & 0x1f) * 256 + usize::from(bytes[7])) * 8;
    let data_len = total_len - header_len;
    let fragment = (more || offset > 0).then_some((offset, more));
    if fragment.is_some() && (data_len == 0 || (more && data_len % 8 != 0) || offset + data_len > 65535) {
        return None;
    }
    Some(Naive {
        v6: false,
        source: bytes[12..16].to_vec(),
        destination: bytes[16..20].to_vec(),
        total_len,
        l4_offset: header_len,
        protocol: bytes[9],
        fragment,
        ttl: bytes[8],
        traffic_class: bytes[1],
    })
}

fn parse_v6(bytes: &[u8], packet_len: usize) -> Option<Naive> {
    if bytes.len() < 40 {
        return None;
    }
    let total_len = 40 + usize::from(bytes[4]) * 256 + usize::from(bytes[5]);
    if total_len > packet_len {
        return None;
    }
    let mut protocol = bytes[6];
    let mut offset = 40;
    let mut fragment = None;
    let mut seen = Vec::new();
    while matches!(protocol, 0 | 43 | 44 | 51 | 60) {
        if seen.len() == 8 || (protocol == 0 && !seen.is_empty()) || (protocol == 44 && seen.contains(&44)) {
            return None;
        }
        seen.push(protocol);
        let end = total_len.min(bytes.len());
        if offset + 8 > end {
            return None;
        }
        if protocol == 51 && bytes[offset + 1] == 0 {
            return None;
        }
        let len = match protocol {
            44 => 8,
            51 => 8 + 4 * usize::from(bytes[offset + 1]),
            _ => 8 + 8 * usize::from(bytes[offset + 1]),
        };
        if offset + len > end {
            return None;
        }
        if protocol == 44 {
            let field = usize::from(bytes[offset + 2]) * 256 + usize::from(bytes[offset + 3]);
            let (start, more) = (field / 8 * 8, field % 2 == 1);
            let data_len = total_len - offset - 8;
            if (more && data_len % 8 != 0) || start + data_len > 65535 {
                return None;
            }
            if more || start > 0 {
                fragment = Some((start, more));
            }
        }
        protocol = bytes[offset];
        offset += len;
        if matches!(fragment, Some((start, _)) if start > 0) {
            break;
        }
    }
    Some(Naive {
        v6: true,
        source: bytes[8..24].to_vec(),
        destination: bytes[24..40].to_vec(),
        total_len,
        l4_offset: offset,
        protocol,
        fragment,
        ttl: bytes[7],
        traffic_class: bytes[0] << 4 | bytes[1] >> 4,
    })
}
