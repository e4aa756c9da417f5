//! The packet that most packets are, read in one look: an Ethernet frame with one tag or none, a whole IPv4 packet
//! without options, TCP or UDP.
//!
//! What is plain here, the general parsers ([`ethernet`], [`ip`](crate::ip), [`l4`](crate::l4)) read the same way;
//! whatever is not, be it rare or malformed, is theirs to judge.

use crate::{
    bytes::{get_u16, get_u32, get_word},
    ethernet::{self, ethertype},
    ip::protocol,
    ipv4,
    tunnel::VXLAN_PORT,
};

/// Bytes of an IPv4 header and of as much behind it as is looked at.
const AT_HAND: usize = 40;
/// As many bytes of a frame as are looked at for its link header.
const LINK: usize = 20;
const VXLAN_LEN: usize = 8;
const UDP_LEN: usize = 8;

/// A plain packet: its header as it was loaded, eight bytes a word, the first byte lowest; what it says is worked out
/// when asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// Version, traffic class, total length, identification, fragment.
    first: u64,
    /// TTL, protocol, checksum, source.
    second: u64,
    /// Destination, ports.
    third: u64,
    l3_offset: u16,
    tcp_flags: u8,
}

impl Plain {
    /// Source in the low half and destination in the high one, host order.
    #[inline(always)]
    pub const fn addresses(&self) -> u64 {
        (self.second >> 32 | self.third << 32)
            .swap_bytes()
            .rotate_left(32)
    }

    /// Source port in the low half and destination port in the high one, host order.
    #[inline(always)]
    pub const fn ports(&self) -> u32 {
        ((self.third >> 32) as u32).swap_bytes().rotate_left(16)
    }

    /// From whom, host order.
    #[inline(always)]
    pub const fn source(&self) -> u32 {
        self.addresses() as u32
    }

    /// To whom, host order.
    #[inline(always)]
    pub const fn destination(&self) -> u32 {
        (self.addresses() >> 32) as u32
    }

    /// TCP or UDP.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.second >> 8) as u8
    }

    /// DSCP and ECN.
    #[inline(always)]
    pub const fn traffic_class(&self) -> u8 {
        (self.first >> 8) as u8
    }

    /// Flags of TCP, 0 for UDP.
    #[inline(always)]
    pub const fn tcp_flags(&self) -> u8 {
        self.tcp_flags
    }

    /// Bytes of the packet, from its IP header on.
    #[inline(always)]
    pub const fn total_len(&self) -> u16 {
        ((self.first >> 16) as u16).swap_bytes()
    }

    /// Where the IP header starts in the frame.
    #[inline(always)]
    pub const fn l3_offset(&self) -> usize {
        self.l3_offset as usize
    }
}

/// A link header that plain packets stand behind: untagged, or with one tag. Frames come in runs that have the same, and
/// it takes one compare to see that one more has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Ethertype, and behind a VLAN's the tag and what it tags; the first byte lowest.
    types: u64,
    /// Which bits of it count: not a tag's priority.
    mask: u64,
    vlan: u16,
    l3_offset: u16,
}

impl Link {
    /// Without a tag.
    pub const UNTAGGED: Link = Link {
        types: ethertype::IPV4.to_be() as u64,
        mask: 0xffff,
        vlan: 0,
        l3_offset: ethernet::HEADER_LEN as u16,
    };

    /// The link header of a frame. None: not one that plain packets stand behind.
    pub fn of(frame: &[u8]) -> Option<Link> {
        let header = frame.first_chunk::<LINK>()?;
        let (outer, inner) = (get_u16(header, 12), get_u16(header, 16));
        match (outer, inner, get_u16(header, 14) & 0xfff) {
            (ethertype::IPV4, _, _) => Some(Link::UNTAGGED),
            (ethertype::VLAN, ethertype::IPV4, vlan) if vlan != 0xfff => {
                let mask = 0xffff_ff0f_ffff;
                Some(Link {
                    types: get_word(header, 12) & mask,
                    mask,
                    vlan,
                    l3_offset: Link::UNTAGGED.l3_offset + 4,
                })
            }
            _ => None,
        }
    }

    /// Whether a frame has this link header, and is not sent to a group: that is not for the fast way, and seldom.
    #[inline(always)]
    pub fn is_of(&self, frame: &[u8]) -> bool {
        frame
            .first_chunk::<LINK>()
            .is_some_and(|header| get_word(header, 12) & self.mask == self.types && header[0] & 1 == 0)
    }

    /// The VLAN; 0: none, or a priority tag.
    #[inline(always)]
    pub const fn vlan(&self) -> u16 {
        self.vlan
    }

    /// Reads what stands behind the link header. `frame` is all of the frame, padding included. None: ask the general
    /// parsers.
    #[inline(always)]
    pub fn packet(&self, frame: &[u8]) -> Option<Plain> {
        let l3_offset = usize::from(self.l3_offset);
        packet(frame.get(l3_offset..)?, l3_offset)
    }
}

/// Reads a frame: its VLAN (0: none, or a priority tag), and what it says. None: ask the general parsers.
pub fn parse(frame: &[u8]) -> Option<(u16, Plain)> {
    let link = Link::of(frame).filter(|link| link.is_of(frame))?;
    Some((link.vlan, link.packet(frame)?))
}

/// Reads a packet from its IPv4 header on; `l3_offset` is what stands in front of it.
#[inline(always)]
fn packet(l3: &[u8], l3_offset: usize) -> Option<Plain> {
    let header = l3.first_chunk::<AT_HAND>()?;
    let mut plain = Plain {
        first: get_word(header, 0),
        second: get_word(header, 8),
        third: get_word(header, 16),
        l3_offset: l3_offset as u16,
        tcp_flags: 0,
    };
    let rest = u32::from(plain.total_len()).wrapping_sub(ipv4::HEADER_LEN as u32);
    // A header of 20 bytes of version 4; no fragment; no group's address; all of it is there.
    if plain.first & 0xff3f_0000_0000_00ff != 0x45
        || plain.third as u8 >= 224
        || usize::from(plain.total_len()) > l3.len()
        || !plain.sums_up()
    {
        return None;
    }
    let (least, length) = match plain.protocol() {
        protocol::UDP => (UDP_LEN as u32, u32::from(get_u16(header, 24))),
        protocol::TCP => {
            plain.tcp_flags = header[33];
            (20, u32::from(header[32] >> 4) * 4)
        }
        _ => return None,
    };
    // The total length is no less than the header's: a rest below zero is a very large one.
    let fits = length >= least && length <= rest && rest <= u32::from(u16::MAX);
    fits.then_some(plain)
}

impl Plain {
    /// The header's checksum is right: its 16-bit words sum up to all ones (RFC 1071; the order of bytes does not
    /// matter).
    #[inline(always)]
    fn sums_up(&self) -> bool {
        let (sum, carry) = self.first.overflowing_add(self.second);
        let (sum, again) = sum.overflowing_add((self.third & 0xffff_ffff) + u64::from(carry));
        let sum = (sum & 0xffff_ffff) + (sum >> 32) + u64::from(again);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum == 0xffff
    }
}

/// The plain inner packet of a plain VXLAN packet (RFC 7348): its VNI, and what it says, offsets from the start of the
/// frame. `outer` was parsed from `frame`. None: no VXLAN, or something about it wants a closer look (an outer
/// checksum, congestion marks, a tagged inner frame).
#[inline(always)]
pub fn vxlan(frame: &[u8], outer: Plain) -> Option<(u32, Plain)> {
    if (outer.ports() >> 16) as u16 != VXLAN_PORT || outer.protocol() != protocol::UDP {
        return None;
    }
    let l3_offset = outer.l3_offset();
    let packet_end = l3_offset + usize::from(outer.total_len());
    let udp = frame.get(l3_offset + ipv4::HEADER_LEN..packet_end)?;
    let header = udp.first_chunk::<{ UDP_LEN + VXLAN_LEN + ethernet::HEADER_LEN }>()?;
    let inner_offset = l3_offset + ipv4::HEADER_LEN + header.len();
    let vni = get_u32(header, 12) >> 8;
    if usize::from(get_u16(header, 4)) != udp.len()
        || get_u16(header, 6) != 0
        || header[8] & 0x08 == 0
        || vni == 0
        || header[16] & 1 != 0
        || get_u16(header, 28) != ethertype::IPV4
    {
        return None;
    }
    let inner = packet(&udp[header.len()..], inner_offset)?;
    // RFC 6040: an outer packet that is not ECN-capable leaves the inner marks alone.
    (outer.traffic_class() & 3 == 0).then_some((vni, inner))
}
