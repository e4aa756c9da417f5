//! Answers to ICMP echo requests, made in place (RFC 792, RFC 4443 section 4.2).

use crate::{
    bytes::{get_array, get_u16, put},
    checksum::Delta,
    ip::{Addresses, Fragment, IpPacket, protocol},
    ipv4, ipv6,
    malformed::{Header, Malformed},
};

const TTL: u8 = 64;
const REQUEST_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

/// True if this is an echo request that [`answer_echo_in_place`] answers: whole, without IP options (a recorded route
/// would have to be turned round), and to one address.
pub fn is_echo_request(l3: &[u8], ip: &IpPacket) -> bool {
    let (echo, to_one) = match ip.addresses {
        Addresses::V4 { source, destination } => (
            (protocol::ICMP, REQUEST_V4),
            !(destination.is_multicast() || destination.is_broadcast() || source.is_unspecified()),
        ),
        Addresses::V6 { source, destination } => (
            (protocol::ICMPV6, REQUEST_V6),
            !(destination.is_multicast() || source.is_unspecified()),
        ),
    };
    to_one
        && ip.fragment == Fragment::Whole
        && !ip.has_options
        && matches!(ip.l4(l3), [kind, 0, ..] if (ip.protocol, *kind) == echo)
}

/// Turns an echo request (see [`is_echo_request`]) into its reply: addresses swapped, a TTL of our own, checksums
/// changed by what changed. So only the headers need be at hand, and data that was damaged on the way is still seen to
/// be so by the asker. The packet's length stays; MACs are left to the caller.
pub fn answer_echo_in_place(l3: &mut [u8], ip: &IpPacket) -> Result<(), Malformed> {
    match ip.addresses {
        Addresses::V4 { .. } => {
            let Some(packet) = l3.first_chunk_mut::<{ ipv4::HEADER_LEN + 8 }>() else {
                return Err(Malformed::truncated(Header::Icmp, ipv4::HEADER_LEN));
            };
            turn_v4(packet);
        }
        Addresses::V6 { .. } => {
            let Some(packet) = l3.first_chunk_mut::<{ ipv6::HEADER_LEN + 8 }>() else {
                return Err(Malformed::truncated(Header::Icmp, ipv6::HEADER_LEN));
            };
            turn_v6(packet);
        }
    }
    Ok(())
}

fn turn_v4(packet: &mut [u8; ipv4::HEADER_LEN + 8]) {
    let source: [u8; 4] = get_array(packet, 12);
    let destination: [u8; 4] = get_array(packet, 16);
    put(packet, 12, destination);
    put(packet, 16, source);
    // Swapped addresses sum up to the same.
    let old = get_u16(packet, 8);
    packet[8] = TTL;
    let sum = Delta::NONE
        .u16(old, get_u16(packet, 8))
        .apply(get_u16(packet, 10));
    put(packet, 10, sum.to_be_bytes());
    turn_type(packet, ipv4::HEADER_LEN, REPLY_V4);
}

fn turn_v6(packet: &mut [u8; ipv6::HEADER_LEN + 8]) {
    let source: [u8; 16] = get_array(packet, 8);
    let destination: [u8; 16] = get_array(packet, 24);
    put(packet, 8, destination);
    put(packet, 24, source);
    packet[7] = TTL;
    turn_type(packet, ipv6::HEADER_LEN, REPLY_V6);
}

fn turn_type<const N: usize>(packet: &mut [u8; N], offset: usize, reply: u8) {
    let old = get_u16(packet, offset);
    packet[offset] = reply;
    let sum = Delta::NONE
        .u16(old, get_u16(packet, offset))
        .apply(get_u16(packet, offset + 2));
    put(packet, offset + 2, sum.to_be_bytes());
}
