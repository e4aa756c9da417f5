//! Neighbour discovery for IPv6 (RFC 4861): reading solicitations and advertisements, answering in place, asking.
//! Router discovery is not here: routers' advertisements are a service of the control half.

use std::net::Ipv6Addr;

use thiserror::Error;

use crate::{
    Mac,
    bytes::{array, get_array, put},
    checksum::Sum,
    ethernet::{self, ethertype},
    ip::{Addresses, Fragment, IpPacket, protocol},
    ipv6,
    malformed::{Fault, Header, Malformed},
};

/// The link-local address of the router towards every tenant: made from [`Mac::VIRTUAL_ROUTER`] (RFC 4291,
/// appendix A).
pub const VIRTUAL_ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x0200, 0x5eff, 0xfe00, 0x0100);
/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Bytes of the IPv6 packets that are written here: header, message, one link-layer address.
pub const PACKET_LEN: usize = ipv6::HEADER_LEN + MESSAGE_LEN;
/// Bytes of an untagged frame with one.
pub const FRAME_LEN: usize = ethernet::HEADER_LEN + PACKET_LEN;

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const FIXED_LEN: usize = 24;
const MESSAGE_LEN: usize = FIXED_LEN + 8;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A neighbour discovery message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who has the target address?
    Solicitation(Solicitation),
    /// The target address is here.
    Advertisement(Advertisement),
}

/// A neighbour solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solicitation {
    /// Who asks; unspecified in duplicate address detection (RFC 4862, section 5.4).
    pub source: Ipv6Addr,
    /// Whose MAC is asked for.
    pub target: Ipv6Addr,
    /// The asker's MAC.
    pub source_mac: Option<Mac>,
}

impl Solicitation {
    /// A host asks whether an address is free before it takes it.
    #[inline]
    pub fn is_duplicate_address_detection(&self) -> bool {
        self.source.is_unspecified()
    }
}

/// A neighbour advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Who advertises.
    pub source: Ipv6Addr,
    /// Whose MAC is told.
    pub target: Ipv6Addr,
    /// The MAC; the answer to a question to that very MAC may leave it out.
    pub target_mac: Option<Mac>,
    /// The sender is a router.
    pub router: bool,
    /// It is the answer to a question.
    pub solicited: bool,
    /// It replaces what is known.
    pub override_known: bool,
}

/// Reads a neighbour solicitation or advertisement, checked as RFC 4861 (7.1.1, 7.1.2) tells. None: the packet is
/// neither. `l3` must hold the packet whole.
pub fn parse(l3: &[u8], ip: &IpPacket) -> Result<Option<Message>, Malformed> {
    let Addresses::V6 { source, destination } = ip.addresses else {
        return Ok(None);
    };
    if ip.protocol != protocol::ICMPV6 || ip.fragment.is_later() {
        return Ok(None);
    }
    let message = ip.l4(l3);
    let wrong = |fault| {
        Err(Malformed::new(
            Header::NeighbourDiscovery,
            usize::from(ip.l4_offset),
            fault,
        ))
    };
    let kind = match message.first() {
        Some(&kind @ (SOLICITATION | ADVERTISEMENT)) => kind,
        _ => return Ok(None),
    };
    if ip.fragment != Fragment::Whole {
        // RFC 6980, section 5.
        return wrong(Fault::NeighbourDiscovery);
    }
    if ip.ttl != 255 {
        return wrong(Fault::HopLimit);
    }
    let Some(fixed) = message.first_chunk::<FIXED_LEN>() else {
        return wrong(Fault::Truncated);
    };
    if message.len() != ip.l4_len() {
        return wrong(Fault::Truncated);
    }
    let mut sum = Sum::pseudo_header(ip.addresses, protocol::ICMPV6, message.len() as u32);
    sum.add(message);
    if !sum.is_valid() {
        return wrong(Fault::Checksum);
    }
    let target = Ipv6Addr::from(get_array::<FIXED_LEN, 16>(fixed, 8));
    if fixed[1] != 0 || target.is_multicast() {
        return wrong(Fault::NeighbourDiscovery);
    }
    let wanted = if kind == SOLICITATION {
        SOURCE_LINK_LAYER
    } else {
        TARGET_LINK_LAYER
    };
    let Some(mac) = link_layer_address(&message[FIXED_LEN..], wanted) else {
        return wrong(Fault::NeighbourDiscovery);
    };
    if kind == SOLICITATION {
        if source.is_unspecified() && (mac.is_some() || destination != solicited_node(target)) {
            return wrong(Fault::NeighbourDiscovery);
        }
        return Ok(Some(Message::Solicitation(Solicitation {
            source,
            target,
            source_mac: mac,
        })));
    }
    let solicited = fixed[4] & SOLICITED != 0;
    if destination.is_multicast() && solicited {
        return wrong(Fault::NeighbourDiscovery);
    }
    Ok(Some(Message::Advertisement(Advertisement {
        source,
        target,
        target_mac: mac,
        router: fixed[4] & ROUTER != 0,
        solicited,
        override_known: fixed[4] & OVERRIDE != 0,
    })))
}

/// The Ethernet address in an option of kind `wanted`, if there is one. The outer None: the options do not fit the
/// message (one of length 0, say).
fn link_layer_address(mut options: &[u8], wanted: u8) -> Option<Option<Mac>> {
    let mut mac = None;
    while !options.is_empty() {
        let len = usize::from(*options.get(1)?) * 8;
        if len == 0 || len > options.len() {
            return None;
        }
        if options[0] == wanted && len == 8 {
            mac = array::<6>(options, 2).map(|octets| Mac(*octets));
        }
        options = &options[len..];
    }
    Some(mac)
}

/// The group in which the holder of `address` listens for solicitations (RFC 4291, section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    let mut group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).octets();
    group[13..].copy_from_slice(&[a, b, c]);
    Ipv6Addr::from(group)
}

/// The MAC of a multicast group (RFC 2464, section 7).
pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

/// The frame has no room for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the answer takes {needed} bytes and the frame has {given}: make it longer first")]
pub struct NoRoom {
    /// Bytes that the answer takes.
    pub needed: usize,
    /// Bytes that there are.
    pub given: usize,
}

/// How to answer a solicitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The MAC that is told.
    pub mac: Mac,
    /// Of a router.
    pub router: bool,
    /// Replaces what the asker knows; not so when answering for somebody else (RFC 4861, section 7.2.8).
    pub override_known: bool,
}

/// Turns the frame of a solicitation into the advertisement that answers it, tags kept, and says how long the frame
/// now is: `l3_offset + PACKET_LEN`, which may be more than before, so that the slice must reach that far.
///
/// The answer to duplicate address detection goes to all nodes, unsolicited (RFC 4861, section 7.2.4).
pub fn answer_in_place(
    frame: &mut [u8],
    l3_offset: usize,
    solicitation: &Solicitation,
    answer: Answer,
) -> Result<usize, NoRoom> {
    let given = frame.len();
    let needed = l3_offset + PACKET_LEN;
    if given < needed || l3_offset < ethernet::HEADER_LEN {
        return Err(NoRoom { needed, given });
    }
    let (link, rest) = frame.split_at_mut(l3_offset);
    let (Some(macs), Some(packet)) = (link.first_chunk_mut::<12>(), rest.first_chunk_mut::<PACKET_LEN>())
    else {
        return Err(NoRoom { needed, given });
    };
    let (destination_mac, destination, solicited) = if solicitation.is_duplicate_address_detection() {
        (multicast_mac(ALL_NODES), ALL_NODES, false)
    } else {
        let asker = solicitation.source_mac.unwrap_or(Mac(get_array(macs, 6)));
        (asker, solicitation.source, true)
    };
    put(macs, 0, destination_mac.0);
    put(macs, 6, answer.mac.0);
    let advertisement = Advertisement {
        source: solicitation.target,
        target: solicitation.target,
        target_mac: Some(answer.mac),
        router: answer.router,
        solicited,
        override_known: answer.override_known,
    };
    *packet = advertisement_packet(destination, &advertisement, answer.mac);
    Ok(needed)
}

/// Writes a solicitation for `target`. `destination` is whom to ask: a neighbour whose entry is to be refreshed
/// (RFC 4861, section 7.3.3), or none for the target's group.
pub fn write_solicitation(
    frame: &mut [u8; FRAME_LEN],
    mac: Mac,
    source: Ipv6Addr,
    target: Ipv6Addr,
    destination: Option<Mac>,
) {
    let (destination_mac, destination) = match destination {
        Some(neighbour) => (neighbour, target),
        None => (multicast_mac(solicited_node(target)), solicited_node(target)),
    };
    write_link_header(frame, destination_mac, mac);
    let packet = message_packet(
        source,
        destination,
        SOLICITATION,
        0,
        target,
        SOURCE_LINK_LAYER,
        mac,
    );
    put(frame, ethernet::HEADER_LEN, packet);
}

/// Writes the unsolicited advertisement that `mac` has `address`, to all (RFC 4861, section 7.2.6).
pub fn write_announcement(frame: &mut [u8; FRAME_LEN], mac: Mac, address: Ipv6Addr, router: bool) {
    write_link_header(frame, multicast_mac(ALL_NODES), mac);
    let advertisement = Advertisement {
        source: address,
        target: address,
        target_mac: Some(mac),
        router,
        solicited: false,
        override_known: true,
    };
    put(
        frame,
        ethernet::HEADER_LEN,
        advertisement_packet(ALL_NODES, &advertisement, mac),
    );
}

fn write_link_header(frame: &mut [u8; FRAME_LEN], destination: Mac, source: Mac) {
    put(frame, 0, destination.0);
    put(frame, 6, source.0);
    put(frame, 12, ethertype::IPV6.to_be_bytes());
}

fn advertisement_packet(destination: Ipv6Addr, advertisement: &Advertisement, mac: Mac) -> [u8; PACKET_LEN] {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(advertisement.router, ROUTER)
        | flag(advertisement.solicited, SOLICITED)
        | flag(advertisement.override_known, OVERRIDE);
    let Advertisement { source, target, .. } = *advertisement;
    message_packet(
        source,
        destination,
        ADVERTISEMENT,
        flags,
        target,
        TARGET_LINK_LAYER,
        mac,
    )
}

fn message_packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    flags: u8,
    target: Ipv6Addr,
    option: u8,
    mac: Mac,
) -> [u8; PACKET_LEN] {
    let mut packet = [0; PACKET_LEN];
    packet[0] = 0x60;
    put(&mut packet, 4, (MESSAGE_LEN as u16).to_be_bytes());
    packet[6] = protocol::ICMPV6;
    packet[7] = 255;
    put(&mut packet, 8, source.octets());
    put(&mut packet, 24, destination.octets());
    packet[40] = kind;
    packet[44] = flags;
    put(&mut packet, 48, target.octets());
    packet[64] = option;
    packet[65] = 1;
    put(&mut packet, 66, mac.0);
    let mut sum = Sum::pseudo_header_v6(source, destination, protocol::ICMPV6, MESSAGE_LEN as u32);
    sum.add(&packet[ipv6::HEADER_LEN..]);
    put(&mut packet, 42, sum.checksum().to_be_bytes());
    packet
}
