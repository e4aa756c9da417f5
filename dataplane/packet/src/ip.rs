//! What IPv4 and IPv6 have in common, read in one pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{
    ipv4, ipv6,
    malformed::{Fault, Header, Malformed},
};

/// Protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// Encapsulating security payload.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// Source and destination, of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Addresses {
    V4 { source: Ipv4Addr, destination: Ipv4Addr },
    V6 { source: Ipv6Addr, destination: Ipv6Addr },
}

/// Whether a packet is whole, or which part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fragment {
    /// Not a fragment. An IPv6 packet with a fragment header of offset 0 and no more to come is whole (RFC 6946).
    Whole,
    /// The first: it has the ports.
    First(Piece),
    /// Any other: it has none.
    Later(Piece),
}

impl Fragment {
    /// Any but the first: what follows the IP header is the middle of something.
    #[inline]
    pub const fn is_later(&self) -> bool {
        matches!(self, Fragment::Later(_))
    }

    pub(crate) const fn of(piece: Piece) -> Self {
        if piece.offset == 0 {
            Fragment::First(piece)
        } else {
            Fragment::Later(piece)
        }
    }
}

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Piece {
    /// What the fragments of one datagram have in common, beside addresses and protocol (IPv6: addresses alone).
    pub identification: u32,
    /// Bytes of the datagram before it.
    pub offset: u16,
    /// Bytes of the datagram in it; it ends within 65,535.
    pub length: u16,
    /// Others come behind it.
    pub more: bool,
}

/// What an IP header, extension headers included, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPacket {
    /// Who to whom.
    pub addresses: Addresses,
    /// Bytes of the packet, from its IP header on. What follows is the link's padding.
    pub total_len: u32,
    /// Where the transport header starts (in a later fragment: its data), from the IP header on.
    pub l4_offset: u16,
    /// Of the transport header.
    pub protocol: u8,
    /// Whole, or which part.
    pub fragment: Fragment,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// IPv4 options or IPv6 extension headers are present.
    pub has_options: bool,
    /// A source route has hops left: the destination is not the last one (RFC 791, RFC 8200).
    pub source_routed: bool,
}

impl IpPacket {
    /// True for IPv6.
    #[inline]
    pub const fn is_v6(&self) -> bool {
        matches!(self.addresses, Addresses::V6 { .. })
    }

    /// From whom.
    #[inline]
    pub const fn source(&self) -> IpAddr {
        match self.addresses {
            Addresses::V4 { source, .. } => IpAddr::V4(source),
            Addresses::V6 { source, .. } => IpAddr::V6(source),
        }
    }

    /// To whom.
    #[inline]
    pub const fn destination(&self) -> IpAddr {
        match self.addresses {
            Addresses::V4 { destination, .. } => IpAddr::V4(destination),
            Addresses::V6 { destination, .. } => IpAddr::V6(destination),
        }
    }

    /// Differentiated services code point, 6 bits (RFC 2474).
    #[inline]
    pub const fn dscp(&self) -> u8 {
        self.traffic_class >> 2
    }

    /// Explicit congestion notification, 2 bits (RFC 3168).
    #[inline]
    pub const fn ecn(&self) -> u8 {
        self.traffic_class & 3
    }

    /// Bytes of transport header and data.
    #[inline]
    pub const fn l4_len(&self) -> usize {
        self.total_len as usize - self.l4_offset as usize
    }

    /// The part of `l3` that is transport header and data, as far as it is there.
    #[inline]
    pub fn l4<'a>(&self, l3: &'a [u8]) -> &'a [u8] {
        let end = (self.total_len as usize).min(l3.len());
        l3.get(usize::from(self.l4_offset)..end).unwrap_or_default()
    }
}

/// Reads an IP packet of either version. `l3` are the bytes at hand from the IP header on (those of the first buffer,
/// say), `packet_len` is how many there are in all. All headers up to the transport header must be at hand.
#[inline]
pub fn parse(l3: &[u8], packet_len: usize) -> Result<IpPacket, Malformed> {
    match l3.first().map(|first| first >> 4) {
        Some(4) => ipv4::parse(l3, packet_len),
        Some(6) => ipv6::parse(l3, packet_len),
        Some(_) => Err(Malformed::new(Header::Ip, 0, Fault::Version)),
        None => Err(Malformed::truncated(Header::Ip, 0)),
    }
}
