//! Changes in place of headers that were parsed before, each with the checksums that cover it (RFC 1624).

use std::net::IpAddr;

use crate::{
    Mac,
    bytes::{array_mut, get_array, get_u16, put},
    checksum::Delta,
    crc32c, ethernet,
    ip::{Addresses, Fragment, IpPacket, protocol},
    ipv4, ipv6,
    malformed::{Header, Malformed},
};

/// Sets both MACs.
#[inline]
pub fn set_macs(header: &mut [u8; ethernet::HEADER_LEN], destination: Mac, source: Mac) {
    put(header, 0, destination.0);
    put(header, 6, source.0);
}

/// Takes one hop off. False, and nothing changed, if the last one is used up (TTL 0 or 1), or if these are not the
/// bytes of an IP header.
#[inline]
#[must_use = "a packet whose hops are used up must not be forwarded"]
pub fn decrement_ttl(l3: &mut [u8]) -> bool {
    match l3.first().map(|first| first >> 4) {
        Some(4) => decrement_ttl_v4(l3),
        Some(6) => decrement_hop_limit(l3),
        _ => false,
    }
}

/// As [`decrement_ttl`], IPv4.
#[inline]
#[must_use = "a packet whose hops are used up must not be forwarded"]
pub fn decrement_ttl_v4(l3: &mut [u8]) -> bool {
    let Some(header) = l3.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
        return false;
    };
    if header[8] <= 1 {
        return false;
    }
    // RFC 1624, equation 3, with what one hop less comes to: the order of bytes does not matter to a sum of ones'
    // complements, so none is swapped.
    const ONE_HOP: u32 = !0x0100u16.to_be() as u32;
    let sum = u32::from(!u16::from_ne_bytes([header[10], header[11]])) + ONE_HOP;
    let sum = (sum & 0xffff) + (sum >> 16);
    header[8] -= 1;
    put(header, 10, (!(sum as u16)).to_ne_bytes());
    true
}

/// As [`decrement_ttl`], IPv6.
#[inline]
#[must_use = "a packet whose hops are used up must not be forwarded"]
pub fn decrement_hop_limit(l3: &mut [u8]) -> bool {
    match l3.get_mut(7) {
        Some(hop_limit) if *hop_limit > 1 => {
            *hop_limit -= 1;
            true
        }
        _ => false,
    }
}

/// Sets DSCP and ECN of either version.
#[inline]
pub fn set_traffic_class(l3: &mut [u8], traffic_class: u8) {
    match l3.first().map(|first| first >> 4) {
        Some(4) => {
            let Some(header) = l3.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
                return;
            };
            let old = get_u16(header, 0);
            header[1] = traffic_class;
            let checksum = Delta::NONE
                .u16(old, get_u16(header, 0))
                .apply(get_u16(header, 10));
            put(header, 10, checksum.to_be_bytes());
        }
        Some(6) => {
            if let Some([first, second, ..]) = l3.first_chunk_mut::<{ ipv6::HEADER_LEN }>() {
                *first = 0x60 | traffic_class >> 4;
                *second = traffic_class << 4 | *second & 0xf;
            }
        }
        _ => {}
    }
}

/// Sets ECN alone; `ip` is what was parsed.
#[inline]
pub fn set_ecn(l3: &mut [u8], ip: &IpPacket, ecn: u8) {
    set_traffic_class(l3, ip.traffic_class & !3 | ecn & 3);
}

/// Sets DSCP alone; `ip` is what was parsed.
#[inline]
pub fn set_dscp(l3: &mut [u8], ip: &IpPacket, dscp: u8) {
    set_traffic_class(l3, dscp << 2 | ip.ecn());
}

/// What address translation makes of a packet; what is none stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Translation {
    /// New source address, of the packet's family.
    pub source: Option<IpAddr>,
    /// New destination address, of the packet's family.
    pub destination: Option<IpAddr>,
    /// New source port; of an ICMP echo reply, unused.
    pub source_port: Option<u16>,
    /// New destination port; of an ICMP echo reply, its identifier.
    pub destination_port: Option<u16>,
}

/// How far the transport checksum in a packet has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumState {
    /// As it will be on the wire.
    Complete,
    /// The sum of the pseudo header only: a virtio guest left the rest to us.
    Partial,
}

/// Why a packet could not be translated; it is then unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untranslatable {
    /// IPv4 to IPv6 or back is not done here.
    #[error("the new address is not of the packet's family: give one of the same")]
    Family,
    /// The protocol has no ports, or this is a part of an SCTP packet, whose checksum covers all of it.
    #[error("ports of IP protocol {0} cannot be translated here: translate its addresses only")]
    Ports(u8),
    /// The checksum covers a last destination that lies in the source route.
    #[error("the packet is source-routed: its addresses cannot be translated")]
    SourceRouted,
    /// The headers are not all there.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Translates addresses and ports in place, checksums included. `ip` was parsed from these bytes; its addresses are
/// those from before.
///
/// The identifier of an ICMP echo counts as a port: in a request the source's, in a reply the destination's. Later
/// fragments have no ports, so only their addresses change. ICMP errors keep the packet that they quote, see
/// [`quote`](crate::quote).
pub fn translate(
    l3: &mut [u8],
    ip: &IpPacket,
    translation: &Translation,
    state: ChecksumState,
) -> Result<(), Untranslatable> {
    if ip.source_routed {
        return Err(Untranslatable::SourceRouted);
    }
    let new = translated(ip.addresses, translation)?;
    let delta = address_delta(ip.addresses, new);
    // The transport header first: it is what may be refused.
    if !ip.fragment.is_later() {
        translate_transport(l3, ip, delta, translation, state)?;
    }
    write_addresses(l3, new, delta)?;
    Ok(())
}

/// Both ends of a packet with ports, IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Ends {
    pub source: u32,
    pub destination: u32,
    pub source_port: u16,
    pub destination_port: u16,
}

/// As [`translate`], for packets as most are: IPv4 without options, whole, TCP or UDP. False, and nothing changed: it is
/// another one.
#[inline]
#[must_use = "other packets are left to `translate`"]
pub fn translate_plain(l3: &mut [u8], new: &Ends, state: ChecksumState) -> bool {
    const PORTS: usize = ipv4::HEADER_LEN;
    let Some(header) = l3.first_chunk::<{ PORTS + 8 }>() else {
        return false;
    };
    let fragment = get_u16(header, 6) & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET_MASK);
    let udp = match header[9] {
        protocol::TCP => false,
        protocol::UDP => true,
        _ => return false,
    };
    if header[0] != 0x45 || fragment != 0 {
        return false;
    }
    // Numbers as they lie in memory: the order of bytes does not matter to a sum of ones' complements.
    let word = |offset| u32::from_ne_bytes(get_array(header, offset));
    let ports = u32::from(new.source_port) << 16 | u32::from(new.destination_port);
    let addresses = Delta::NONE
        .u32(word(12), new.source.to_be())
        .u32(word(16), new.destination.to_be());
    let all = addresses.u32(word(PORTS), ports.to_be());
    let checksum_at = PORTS + if udp { 6 } else { 16 };
    let Some(field) = array_mut::<2>(l3, checksum_at) else {
        return false;
    };
    let checksum = u16::from_ne_bytes(*field);
    let checksum = match state {
        ChecksumState::Complete if udp => all.apply_udp(checksum),
        ChecksumState::Complete => all.apply(checksum),
        ChecksumState::Partial => addresses.apply_partial(checksum),
    };
    *field = checksum.to_ne_bytes();
    if let Some(header) = l3.first_chunk_mut::<{ PORTS + 8 }>() {
        let checksum = u16::from_ne_bytes(get_array(header, 10));
        put(header, 10, addresses.apply(checksum).to_ne_bytes());
        put(header, 12, new.source.to_be_bytes());
        put(header, 16, new.destination.to_be_bytes());
        put(header, PORTS, ports.to_be_bytes());
    }
    true
}

fn translated(old: Addresses, translation: &Translation) -> Result<Addresses, Untranslatable> {
    Ok(match old {
        Addresses::V4 {
            mut source,
            mut destination,
        } => {
            for (address, new) in [
                (&mut source, translation.source),
                (&mut destination, translation.destination),
            ] {
                match new {
                    Some(IpAddr::V4(new)) => *address = new,
                    Some(IpAddr::V6(_)) => return Err(Untranslatable::Family),
                    None => {}
                }
            }
            Addresses::V4 { source, destination }
        }
        Addresses::V6 {
            mut source,
            mut destination,
        } => {
            for (address, new) in [
                (&mut source, translation.source),
                (&mut destination, translation.destination),
            ] {
                match new {
                    Some(IpAddr::V6(new)) => *address = new,
                    Some(IpAddr::V4(_)) => return Err(Untranslatable::Family),
                    None => {}
                }
            }
            Addresses::V6 { source, destination }
        }
    })
}

fn address_delta(old: Addresses, new: Addresses) -> Delta {
    match (old, new) {
        (
            Addresses::V4 { source, destination },
            Addresses::V4 {
                source: new_source,
                destination: new_destination,
            },
        ) => Delta::NONE
            .u32(source.to_bits(), new_source.to_bits())
            .u32(destination.to_bits(), new_destination.to_bits()),
        (
            Addresses::V6 { source, destination },
            Addresses::V6 {
                source: new_source,
                destination: new_destination,
            },
        ) => Delta::NONE
            .u128(source.to_bits(), new_source.to_bits())
            .u128(destination.to_bits(), new_destination.to_bits()),
        // `translated` keeps the family.
        _ => Delta::NONE,
    }
}

fn write_addresses(l3: &mut [u8], new: Addresses, delta: Delta) -> Result<(), Malformed> {
    match new {
        Addresses::V4 { source, destination } => {
            let Some(header) = l3.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
                return Err(Malformed::truncated(Header::Ipv4, 0));
            };
            let checksum = delta.apply(get_u16(header, 10));
            put(header, 10, checksum.to_be_bytes());
            put(header, 12, source.octets());
            put(header, 16, destination.octets());
        }
        Addresses::V6 { source, destination } => {
            let Some(header) = l3.first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
                return Err(Malformed::truncated(Header::Ipv6, 0));
            };
            put(header, 8, source.octets());
            put(header, 24, destination.octets());
        }
    }
    Ok(())
}

fn translate_transport(
    l3: &mut [u8],
    ip: &IpPacket,
    addresses: Delta,
    translation: &Translation,
    state: ChecksumState,
) -> Result<(), Untranslatable> {
    let offset = usize::from(ip.l4_offset);
    let truncated = |header| Untranslatable::from(Malformed::truncated(header, offset));
    match ip.protocol {
        protocol::TCP => {
            let header = array_mut::<18>(l3, offset).ok_or(truncated(Header::Tcp))?;
            let ports = translate_ports(header, translation);
            let checksum = get_u16(header, 16);
            let checksum = match state {
                ChecksumState::Complete => addresses.and(ports).apply(checksum),
                ChecksumState::Partial => addresses.apply_partial(checksum),
            };
            put(header, 16, checksum.to_be_bytes());
        }
        protocol::UDP => {
            let header = array_mut::<8>(l3, offset).ok_or(truncated(Header::Udp))?;
            let ports = translate_ports(header, translation);
            let checksum = get_u16(header, 6);
            let checksum = match state {
                ChecksumState::Complete => addresses.and(ports).apply_udp(checksum),
                ChecksumState::Partial => addresses.apply_partial(checksum),
            };
            put(header, 6, checksum.to_be_bytes());
        }
        protocol::ICMP | protocol::ICMPV6 => {
            let header = array_mut::<8>(l3, offset).ok_or(truncated(Header::Icmp))?;
            let identifier = match (ip.protocol, header[0]) {
                (protocol::ICMP, 8) | (protocol::ICMPV6, 128) => translation.source_port,
                (protocol::ICMP, 0) | (protocol::ICMPV6, 129) => translation.destination_port,
                _ => None,
            };
            // Only ICMPv6 covers the addresses.
            let mut delta = if ip.protocol == protocol::ICMPV6 {
                addresses
            } else {
                Delta::NONE
            };
            let mut own = Delta::NONE;
            if let Some(identifier) = identifier {
                own = own.u16(get_u16(header, 4), identifier);
                put(header, 4, identifier.to_be_bytes());
            }
            delta = if state == ChecksumState::Complete {
                delta.and(own)
            } else {
                delta
            };
            let checksum = get_u16(header, 2);
            let checksum = match state {
                ChecksumState::Complete => delta.apply(checksum),
                ChecksumState::Partial => delta.apply_partial(checksum),
            };
            put(header, 2, checksum.to_be_bytes());
        }
        protocol::SCTP if ip.fragment == Fragment::Whole && state == ChecksumState::Complete => {
            let header = array_mut::<12>(l3, offset).ok_or(truncated(Header::Sctp))?;
            let before: [u8; 4] = get_array(header, 0);
            translate_ports(header, translation);
            let after: [u8; 4] = get_array(header, 0);
            if before != after {
                let different = std::array::from_fn(|index| before[index] ^ after[index]);
                let change = crc32c::change(different, ip.l4_len() as u16);
                let checksum = u32::from_le_bytes(get_array(header, 8)) ^ change;
                put(header, 8, checksum.to_le_bytes());
            }
        }
        other if translation.source_port.is_some() || translation.destination_port.is_some() => {
            return Err(Untranslatable::Ports(other));
        }
        _ => {}
    }
    Ok(())
}

/// TCP and UDP ports; a partial checksum does not cover them yet.
fn translate_ports<const N: usize>(header: &mut [u8; N], translation: &Translation) -> Delta {
    let mut delta = Delta::NONE;
    for (offset, port) in [(0, translation.source_port), (2, translation.destination_port)] {
        if let Some(port) = port {
            delta = delta.u16(get_u16(header, offset), port);
            put(header, offset, port.to_be_bytes());
        }
    }
    delta
}
