//! ARP for IPv4 over Ethernet (RFC 826, RFC 5227): reading, answering in place, asking.

use std::net::Ipv4Addr;

use crate::{
    Mac,
    bytes::{array, array_mut, get_array, get_u16, put},
    ethernet::{self, ethertype},
    malformed::{Fault, Header, Malformed},
};

/// Bytes of an ARP packet.
pub const LEN: usize = 28;
/// Bytes of an untagged frame with one; the link pads it.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + LEN;

const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What an ARP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has its address.
    Reply,
}

/// What an ARP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Arp {
    pub operation: Operation,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

impl Arp {
    /// A host asks whether an address is free before it takes it (RFC 5227, section 2.1.1).
    #[inline]
    pub fn is_probe(&self) -> bool {
        self.operation == Operation::Request && self.sender.is_unspecified()
    }

    /// A host tells that it has an address (gratuitous ARP; RFC 5227, section 3).
    #[inline]
    pub fn is_announcement(&self) -> bool {
        self.sender == self.target && !self.sender.is_unspecified()
    }
}

/// Reads what follows the Ethernet header. Padding behind is of no matter.
pub fn parse(l3: &[u8]) -> Result<Arp, Malformed> {
    let Some(packet) = l3.first_chunk::<LEN>() else {
        return Err(Malformed::truncated(Header::Arp, 0));
    };
    // Hardware Ethernet, protocol IPv4, lengths 6 and 4.
    let operation = match (get_array(packet, 0), get_u16(packet, 6)) {
        ([0, 1, 0x08, 0, 6, 4], REQUEST) => Operation::Request,
        ([0, 1, 0x08, 0, 6, 4], REPLY) => Operation::Reply,
        _ => return Err(Malformed::new(Header::Arp, 0, Fault::NotEthernetIpv4)),
    };
    Ok(Arp {
        operation,
        sender_mac: Mac(get_array(packet, 8)),
        sender: Ipv4Addr::from(get_array::<LEN, 4>(packet, 14)),
        target_mac: Mac(get_array(packet, 18)),
        target: Ipv4Addr::from(get_array::<LEN, 4>(packet, 24)),
    })
}

/// Turns the frame of a request into the reply that `mac` has the address that was asked for. The frame's length, its
/// tags and its padding stay. The caller has seen that it is a request, and whose address it asks for.
pub fn answer_in_place(frame: &mut [u8], l3_offset: usize, mac: Mac) -> Result<(), Malformed> {
    let Some(packet) = array_mut::<LEN>(frame, l3_offset) else {
        return Err(Malformed::truncated(Header::Arp, l3_offset));
    };
    let asker: [u8; 10] = get_array(packet, 8);
    let asked: [u8; 4] = get_array(packet, 24);
    put(packet, 6, REPLY.to_be_bytes());
    put(packet, 8, mac.0);
    put(packet, 14, asked);
    put(packet, 18, asker);
    let Some(macs) = frame.first_chunk_mut::<12>() else {
        return Err(Malformed::truncated(Header::Ethernet, 0));
    };
    let sender: [u8; 6] = get_array(macs, 6);
    put(macs, 0, sender);
    put(macs, 6, mac.0);
    Ok(())
}

/// The MAC that the Ethernet header of a request must have as source: hosts that say one thing there and another in
/// the ARP packet are spoofing or bridging.
pub fn sender_matches_frame(frame: &[u8], l3_offset: usize) -> bool {
    match (array::<6>(frame, 6), array::<6>(frame, l3_offset + 8)) {
        (Some(outer), Some(inner)) => outer == inner,
        _ => false,
    }
}

/// Writes a request for `target`. `destination` is whom to ask: a neighbour whose entry is to be refreshed (RFC 1122,
/// section 2.3.2.1), or none for all.
pub fn write_request(
    frame: &mut [u8; FRAME_LEN],
    mac: Mac,
    source: Ipv4Addr,
    target: Ipv4Addr,
    destination: Option<Mac>,
) {
    let arp = Arp {
        operation: Operation::Request,
        sender_mac: mac,
        sender: source,
        target_mac: Mac::ZERO,
        target,
    };
    write(frame, destination.unwrap_or(Mac::BROADCAST), mac, &arp);
}

/// Writes the announcement that `mac` has `address`, to all (RFC 5227, section 3: as a request).
pub fn write_announcement(frame: &mut [u8; FRAME_LEN], mac: Mac, address: Ipv4Addr) {
    write_request(frame, mac, address, address, None);
}

/// Writes any ARP packet in an untagged frame.
pub fn write(frame: &mut [u8; FRAME_LEN], destination: Mac, source: Mac, arp: &Arp) {
    put(frame, 0, destination.0);
    put(frame, 6, source.0);
    put(frame, 12, ethertype::ARP.to_be_bytes());
    put(frame, 14, [0, 1, 0x08, 0, 6, 4]);
    let operation = match arp.operation {
        Operation::Request => REQUEST,
        Operation::Reply => REPLY,
    };
    put(frame, 20, operation.to_be_bytes());
    put(frame, 22, arp.sender_mac.0);
    put(frame, 28, arp.sender.octets());
    put(frame, 32, arp.target_mac.0);
    put(frame, 38, arp.target.octets());
}
