//! What a router says to the sender of a packet that it does not let through: a reset to TCP (RFC 9293, section 3.5.2), an
//! ICMP error to everybody else (RFC 792, RFC 1812 section 5.2.7.1; RFC 4443 section 3.1).
//!
//! It says so in the name of whom the packet was for. That address belongs where the sender expects it, also where the
//! router has none of its own.

use crate::{
    bytes::{array, get_u16, get_u32, put},
    checksum::{self, Sum},
    ip::{Addresses, Fragment, IpPacket, protocol},
    ipv4, ipv6,
    l4::tcp_flag,
    quote,
};

const TTL: u8 = 64;
const TCP_LEN: usize = 20;
/// Bytes of an ICMP error in front of what it quotes.
const ERROR_LEN: usize = 8;
/// Longest error about an IPv4 packet (RFC 1812, section 4.3.2.3) and about an IPv6 packet (RFC 4443, section 2.4 c).
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = 1280;
/// Internetwork control (RFC 1812, section 4.3.2.5).
const PRECEDENCE: u8 = 6 << 5;

/// Most bytes of a [`Refusal`].
pub const MAX_LEN: usize = LONGEST_V6;

/// Why a packet goes no further, as ICMP has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// A filter says so: communication administratively prohibited.
    Prohibited,
    /// Nobody listens: port unreachable.
    NobodyListens,
}

impl Because {
    const fn kind_and_code(self, v6: bool) -> [u8; 2] {
        match (v6, self) {
            (false, Because::Prohibited) => [3, 13],
            (false, Because::NobodyListens) => [3, 3],
            (true, Because::Prohibited) => [1, 1],
            (true, Because::NobodyListens) => [1, 4],
        }
    }
}

/// An answer to be written.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    refused: &'a [u8],
    ip: &'a IpPacket,
    says: Says,
}

#[derive(Clone, Copy, Debug)]
enum Says {
    Reset {
        sequence: u32,
        /// With the flag that says that it counts.
        acknowledged: Option<u32>,
    },
    Error {
        kind_and_code: [u8; 2],
        quoted: usize,
    },
}

impl<'a> Refusal<'a> {
    /// The answer to a packet, `l3` from its IP header on as far as it is at hand. None: there must not be one, since the
    /// packet is a fragment, an ICMP error, a redirect or a reset, or is not from one host to one host (RFC 1122, section
    /// 3.2.2; RFC 4443, section 2.4 e).
    pub fn of(l3: &'a [u8], ip: &'a IpPacket, because: Because) -> Option<Self> {
        if ip.fragment != Fragment::Whole || !is_between_two(ip.addresses) {
            return None;
        }
        let l4 = ip.l4(l3);
        let says = match ip.protocol {
            protocol::TCP => reset(l4, ip)?,
            icmp => {
                if matches!(icmp, protocol::ICMP | protocol::ICMPV6) && !is_answered(icmp, *l4.first()?) {
                    return None;
                }
                let (headers, longest) = match ip.is_v6() {
                    false => (ipv4::HEADER_LEN + ERROR_LEN, LONGEST_V4),
                    true => (ipv6::HEADER_LEN + ERROR_LEN, LONGEST_V6),
                };
                Says::Error {
                    kind_and_code: because.kind_and_code(ip.is_v6()),
                    quoted: l3.len().min(ip.total_len as usize).min(longest - headers),
                }
            }
        };
        Some(Refusal {
            refused: l3,
            ip,
            says,
        })
    }

    /// Its bytes, from the IP header on; at most [`MAX_LEN`].
    #[allow(clippy::len_without_is_empty)] // It never is.
    pub fn len(&self) -> usize {
        let header = match self.ip.is_v6() {
            false => ipv4::HEADER_LEN,
            true => ipv6::HEADER_LEN,
        };
        header + self.payload_len()
    }

    fn payload_len(&self) -> usize {
        match self.says {
            Says::Reset { .. } => TCP_LEN,
            Says::Error { quoted, .. } => ERROR_LEN + quoted,
        }
    }

    /// DSCP and ECN.
    pub const fn traffic_class(&self) -> u8 {
        match (self.says, self.ip.is_v6()) {
            (Says::Error { .. }, false) => PRECEDENCE,
            _ => 0,
        }
    }

    /// Writes it. False: `room` is not as long as the answer.
    pub fn write(&self, room: &mut [u8]) -> bool {
        if room.len() != self.len() {
            return false;
        }
        let length = self.payload_len();
        let class = self.traffic_class();
        let protocol = match (self.says, self.ip.is_v6()) {
            (Says::Reset { .. }, _) => protocol::TCP,
            (Says::Error { .. }, false) => protocol::ICMP,
            (Says::Error { .. }, true) => protocol::ICMPV6,
        };
        // Back to who sent it, in the name of whom it was for.
        let (addresses, payload) = match self.ip.addresses {
            Addresses::V4 { source, destination } => {
                let Some((header, payload)) = room.split_first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
                    return false;
                };
                *header = [0; ipv4::HEADER_LEN];
                put(header, 0, [0x45, class]);
                put(header, 2, ((ipv4::HEADER_LEN + length) as u16).to_be_bytes());
                put(header, 6, ipv4::DONT_FRAGMENT.to_be_bytes());
                put(header, 8, [TTL, protocol]);
                put(header, 12, destination.octets());
                put(header, 16, source.octets());
                let sum = checksum::internet(header);
                put(header, 10, sum.to_be_bytes());
                let (source, destination) = (destination, source);
                (Addresses::V4 { source, destination }, payload)
            }
            Addresses::V6 { source, destination } => {
                let Some((header, payload)) = room.split_first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
                    return false;
                };
                *header = [0; ipv6::HEADER_LEN];
                put(header, 0, (6_u32 << 28 | u32::from(class) << 20).to_be_bytes());
                put(header, 4, (length as u16).to_be_bytes());
                put(header, 6, [protocol, TTL]);
                put(header, 8, destination.octets());
                put(header, 24, source.octets());
                let (source, destination) = (destination, source);
                (Addresses::V6 { source, destination }, payload)
            }
        };
        let pseudo_header = match protocol {
            protocol::ICMP => Sum::new(),
            _ => Sum::pseudo_header(addresses, protocol, length as u32),
        };
        self.write_payload(payload, pseudo_header).is_some()
    }

    fn write_payload(&self, payload: &mut [u8], mut sum: Sum) -> Option<()> {
        let checksum_at = match self.says {
            Says::Reset {
                sequence,
                acknowledged,
            } => {
                let ports: &[u8; 4] = array(self.ip.l4(self.refused), 0)?;
                let header = payload.first_chunk_mut::<TCP_LEN>()?;
                *header = [0; TCP_LEN];
                put(header, 0, [ports[2], ports[3], ports[0], ports[1]]);
                put(header, 4, sequence.to_be_bytes());
                put(header, 8, acknowledged.unwrap_or(0).to_be_bytes());
                let acknowledges = if acknowledged.is_some() { tcp_flag::ACK } else { 0 };
                put(
                    header,
                    12,
                    [(TCP_LEN as u8 / 4) << 4, tcp_flag::RST | acknowledges],
                );
                16
            }
            Says::Error {
                kind_and_code: [kind, code],
                quoted,
            } => {
                let (header, quote) = payload.split_first_chunk_mut::<ERROR_LEN>()?;
                *header = [kind, code, 0, 0, 0, 0, 0, 0];
                quote.copy_from_slice(self.refused.get(..quoted)?);
                2
            }
        };
        sum.add(payload);
        let field = payload.get_mut(checksum_at..checksum_at + 2)?;
        field.copy_from_slice(&sum.checksum().to_be_bytes());
        Some(())
    }
}

/// What resets the connection of a segment; None: it is itself a reset, or cut short.
fn reset(segment: &[u8], ip: &IpPacket) -> Option<Says> {
    let header: &[u8; TCP_LEN] = array(segment, 0)?;
    let flags = header[13];
    if flags & tcp_flag::RST != 0 {
        return None;
    }
    if flags & tcp_flag::ACK != 0 {
        return Some(Says::Reset {
            sequence: get_u32(header, 8),
            acknowledged: None,
        });
    }
    let data = ip
        .l4_len()
        .checked_sub(usize::from(get_u16(header, 12) >> 12) * 4)?;
    let takes_a_number = |flag: u8| u32::from(flags & flag != 0);
    let length = data as u32 + takes_a_number(tcp_flag::SYN) + takes_a_number(tcp_flag::FIN);
    Some(Says::Reset {
        sequence: 0,
        acknowledged: Some(get_u32(header, 4).wrapping_add(length)),
    })
}

/// Whether an ICMP message of this type may be answered by an error.
const fn is_answered(protocol: u8, kind: u8) -> bool {
    let is_redirect = matches!((protocol, kind), (protocol::ICMP, 5) | (protocol::ICMPV6, 137));
    !(quote::is_error(protocol, kind) || is_redirect)
}

/// Whether both ends are one host each.
fn is_between_two(addresses: Addresses) -> bool {
    match addresses {
        Addresses::V4 { source, destination } => {
            // Class E and the broadcast address are the last sixteenth.
            let is_one = |first: u8| !matches!(first, 0 | 127 | 224..);
            is_one(source.octets()[0]) && is_one(destination.octets()[0])
        }
        Addresses::V6 { source, destination } => {
            let is_many = source.is_multicast() || destination.is_multicast();
            !(is_many || source.is_unspecified() || source.is_loopback() || destination.is_unspecified())
        }
    }
}
