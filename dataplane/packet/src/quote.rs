//! The packet that an ICMP error quotes (RFC 792, RFC 4443 section 2.4): read, so that its session can be found, and
//! translated together with the error (RFC 5508, section 4).
//!
//! An error quotes the packet as its sender saw it, so what is quoted travels against the error's own direction. It need
//! not be whole: of the transport header 8 bytes are enough.

use crate::{
    bytes::array_mut,
    checksum::{Delta, Sum},
    ip::{self, Addresses, Fragment, IpPacket, protocol},
    l4::{self, Tuple},
    malformed::{Header, Malformed},
    rewrite::{self, ChecksumState, Translation, Untranslatable},
};

/// Bytes of an ICMP error in front of the packet that it quotes.
const ERROR_LEN: usize = 8;
/// As much of a quoted packet as is read or changed: room for its headers up to the transport checksum.
const HEADERS: usize = 128;
/// Longer than any quoted packet said that it was.
const ANY_LENGTH: usize = 1 << 17;

/// Who sent what to whom, as an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Quote {
    pub addresses: Addresses,
    pub protocol: u8,
    pub tuple: Tuple,
}

/// Whether ICMP messages of this type quote a packet that could not be delivered. Redirects are no errors.
pub const fn is_error(protocol: u8, kind: u8) -> bool {
    match protocol {
        // Destination unreachable, source quench, time exceeded, parameter problem.
        protocol::ICMP => matches!(kind, 3 | 4 | 11 | 12),
        // Destination unreachable, packet too big, time exceeded, parameter problem.
        protocol::ICMPV6 => matches!(kind, 1..=4),
        _ => false,
    }
}

/// The headers of a quoted packet, followed by zeros.
struct Headers {
    bytes: [u8; HEADERS],
    /// How many are the packet's.
    present: usize,
    ip: IpPacket,
}

impl Headers {
    /// None: no error, or what it quotes says too little.
    fn of(l3: &[u8], ip: &IpPacket) -> Option<Headers> {
        let l4 = ip.l4(l3);
        if ip.fragment != Fragment::Whole || !is_error(ip.protocol, *l4.first()?) {
            return None;
        }
        let quoted = l4.get(ERROR_LEN..)?;
        let present = quoted.len().min(HEADERS);
        let mut bytes = [0; HEADERS];
        bytes[..present].copy_from_slice(&quoted[..present]);
        let quoted = ip::parse(&bytes, ANY_LENGTH).ok()?;
        let useful = quoted.is_v6() == ip.is_v6()
            && !quoted.fragment.is_later()
            && usize::from(quoted.l4_offset) + 8 <= present;
        useful.then_some(Headers {
            bytes,
            present,
            ip: quoted,
        })
    }

    fn sum(&self) -> u16 {
        let mut sum = Sum::new();
        sum.add(&self.bytes[..self.present]);
        sum.folded()
    }
}

/// What an ICMP error quotes. `ip` was parsed from `l3`. None: it is no error, or says too little.
pub fn parse(l3: &[u8], ip: &IpPacket) -> Option<Quote> {
    let headers = Headers::of(l3, ip)?;
    let l4 = headers.bytes.get(usize::from(headers.ip.l4_offset)..)?;
    Some(Quote {
        addresses: headers.ip.addresses,
        protocol: headers.ip.protocol,
        tuple: l4::first_bytes(l4.first_chunk()?, headers.ip.protocol),
    })
}

/// Translates an ICMP error and the packet that it quotes, with all checksums that are there. After an error the packet
/// is unchanged.
pub fn translate(
    l3: &mut [u8],
    ip: &IpPacket,
    outer: &Translation,
    quoted: &Translation,
) -> Result<(), Untranslatable> {
    let start = usize::from(ip.l4_offset);
    let truncated = || Malformed::truncated(Header::Icmp, start);
    let mut headers = Headers::of(l3, ip).ok_or_else(truncated)?;
    let before = headers.sum();
    rewrite::translate(&mut headers.bytes, &headers.ip, quoted, ChecksumState::Complete)?;
    rewrite::translate(l3, ip, outer, ChecksumState::Complete)?;
    let place = l3.get_mut(start + ERROR_LEN..).ok_or_else(truncated)?;
    place[..headers.present].copy_from_slice(&headers.bytes[..headers.present]);
    let checksum = array_mut::<2>(l3, start + 2).ok_or_else(truncated)?;
    let changed = Delta::NONE.u16(before, headers.sum());
    *checksum = changed.apply(u16::from_be_bytes(*checksum)).to_be_bytes();
    Ok(())
}
