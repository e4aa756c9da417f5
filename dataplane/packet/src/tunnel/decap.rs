//! Recognising a tunnelled packet and finding the inner one.

use thiserror::Error;

use super::{MPLS_PORT, VXLAN_PORT};
use crate::{
    Label, Vni,
    bytes::{array, get_u16, get_u32},
    checksum::Sum,
    ethernet::ethertype,
    ip::{Fragment, IpPacket, protocol},
};

/// The encapsulations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Vxlan,
    MplsOverUdp,
    MplsOverGre,
}

/// Which tenant's network, by the number in the tunnel header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Identifier {
    Vni(Vni),
    Label(Label),
}

/// What the inner packet starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Inner {
    /// An Ethernet header.
    Ethernet,
    /// An IP header, of the version that its first nibble says.
    Ip,
}

/// A checksum of the tunnel header that covers the whole packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OuterChecksum {
    /// None: as all senders should have it.
    Absent,
    /// UDP's.
    Udp,
    /// GRE's.
    Gre,
}

/// A tunnelled packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decap {
    /// How it was encapsulated.
    pub kind: Kind,
    /// Whose it is.
    pub identifier: Identifier,
    /// Where the inner packet starts, from the outer IP header on.
    pub inner_offset: u16,
    /// With what.
    pub inner: Inner,
    /// If not absent, the caller checks it: see [`checksum`].
    pub outer_checksum: OuterChecksum,
}

/// A packet to a tunnel's port or protocol that cannot be taken out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TunnelError {
    /// The packet ends inside the tunnel header, or what follows is shorter than any packet.
    #[error("the packet ends inside the tunnel header, or what follows is shorter than any packet")]
    Truncated,
    /// The UDP length does not fit the packet.
    #[error("the outer UDP length does not fit the packet")]
    Length,
    /// A fragment: tunnels set DF.
    #[error("tunnelled packets must not be fragmented: raise the underlay's MTU")]
    OuterFragment,
    /// VXLAN without a valid VNI.
    #[error("VXLAN header without the I flag")]
    NoVni,
    /// VNI 0.
    #[error("VNI 0 names no network")]
    ZeroVni,
    /// Labels 0 to 15.
    #[error("label {0} is reserved (RFC 3032)")]
    ReservedLabel(u8),
    /// More than one label: the others would have to be taken off by the routers before.
    #[error("more than one label: only the last one may arrive here")]
    StackTooDeep,
    /// MPLS TTL 0.
    #[error("the label's TTL is 0")]
    LabelTtl,
    /// GRE bits that RFC 2784 says to refuse.
    #[error("GRE header with routing or reserved flags")]
    GreFlags,
}

/// Looks whether `l3`, parsed as `ip`, is a tunnelled packet, and what is inside. None: it is no tunnel's. A first
/// fragment of a tunnelled packet is an error; later ones say neither port nor protocol and are nobody's.
///
/// Reserved VXLAN bits are ignored (RFC 7348, section 5). A GRE key and sequence number are looked over: weft sends
/// none, and tells tenants apart by the label alone (RFC 4023, section 3).
#[inline]
pub fn parse(l3: &[u8], ip: &IpPacket) -> Result<Option<Decap>, TunnelError> {
    match ip.protocol {
        _ if ip.fragment.is_later() => Ok(None),
        protocol::UDP => parse_udp(l3, ip),
        protocol::GRE => parse_gre(l3, ip),
        _ => Ok(None),
    }
}

/// The sum of what a present outer checksum covers, as far as it lies in `l3`; add the packet's further bytes, but no
/// padding, and ask [`Sum::is_valid`].
pub fn checksum(l3: &[u8], ip: &IpPacket, decap: &Decap) -> Sum {
    let mut sum = match decap.outer_checksum {
        OuterChecksum::Udp => Sum::pseudo_header(ip.addresses, protocol::UDP, ip.l4_len() as u32),
        OuterChecksum::Gre | OuterChecksum::Absent => Sum::new(),
    };
    sum.add(ip.l4(l3));
    sum
}

#[inline]
fn parse_udp(l3: &[u8], ip: &IpPacket) -> Result<Option<Decap>, TunnelError> {
    let l4 = ip.l4(l3);
    // UDP and VXLAN headers; or UDP, a label, and the first four bytes of what must be an IP header.
    let Some(header) = l4.first_chunk::<16>() else {
        return short_udp(l4);
    };
    let port = get_u16(header, 2);
    if port != VXLAN_PORT && port != MPLS_PORT {
        return Ok(None);
    }
    if ip.fragment != Fragment::Whole {
        return Err(TunnelError::OuterFragment);
    }
    // UDP may say less than IP (RFC 768 leaves it open), but then the inner packet would not be what is summed.
    if usize::from(get_u16(header, 4)) != ip.l4_len() {
        return Err(TunnelError::Length);
    }
    let outer_checksum = if get_u16(header, 6) == 0 {
        OuterChecksum::Absent
    } else {
        OuterChecksum::Udp
    };
    if port == MPLS_PORT {
        let inner_offset = ip.l4_offset + 12;
        let label = parse_label(get_u32(header, 8))?;
        return mpls(ip, Kind::MplsOverUdp, label, inner_offset, outer_checksum);
    }
    if header[8] & 0x08 == 0 {
        return Err(TunnelError::NoVni);
    }
    let Ok(vni) = Vni::new(get_u32(header, 12) >> 8) else {
        return Err(TunnelError::ZeroVni);
    };
    let inner_offset = ip.l4_offset + 16;
    if u32::from(inner_offset) >= ip.total_len {
        return Err(TunnelError::Truncated);
    }
    Ok(Some(Decap {
        kind: Kind::Vxlan,
        identifier: Identifier::Vni(vni),
        inner_offset,
        inner: Inner::Ethernet,
        outer_checksum,
    }))
}

/// Too short for UDP and what follows: an error if it is a tunnel's at all.
#[cold]
fn short_udp(l4: &[u8]) -> Result<Option<Decap>, TunnelError> {
    match l4.first_chunk::<4>().map(|ports| get_u16(ports, 2)) {
        Some(VXLAN_PORT | MPLS_PORT) => Err(TunnelError::Truncated),
        _ => Ok(None),
    }
}

#[inline]
fn parse_gre(l3: &[u8], ip: &IpPacket) -> Result<Option<Decap>, TunnelError> {
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const VERSION: u16 = 0x0007;

    let l4 = ip.l4(l3);
    let Some(header) = l4.first_chunk::<4>() else {
        return Err(TunnelError::Truncated);
    };
    let flags = get_u16(header, 0);
    if get_u16(header, 2) != ethertype::MPLS || flags & VERSION != 0 {
        return Ok(None);
    }
    if ip.fragment != Fragment::Whole {
        return Err(TunnelError::OuterFragment);
    }
    // RFC 2784 section 2.3: bits 1 to 5 are refused unless RFC 1701 is spoken; RFC 2890 gave two of them back.
    if flags & 0x4c00 != 0 {
        return Err(TunnelError::GreFlags);
    }
    let options = [CHECKSUM, KEY, SEQUENCE]
        .into_iter()
        .filter(|bit| flags & bit != 0)
        .count();
    let label_offset = 4 + 4 * options;
    let Some(entry) = array::<4>(l4, label_offset) else {
        return Err(TunnelError::Truncated);
    };
    let outer_checksum = if flags & CHECKSUM == 0 {
        OuterChecksum::Absent
    } else {
        OuterChecksum::Gre
    };
    let label = parse_label(get_u32(entry, 0))?;
    let inner_offset = ip.l4_offset + label_offset as u16 + 4;
    mpls(ip, Kind::MplsOverGre, label, inner_offset, outer_checksum)
}

#[inline]
fn parse_label(entry: u32) -> Result<Label, TunnelError> {
    let Ok(label) = Label::new(entry >> 12) else {
        return Err(TunnelError::ReservedLabel((entry >> 12) as u8));
    };
    if entry & 0x100 == 0 {
        return Err(TunnelError::StackTooDeep);
    }
    if entry & 0xff == 0 {
        return Err(TunnelError::LabelTtl);
    }
    Ok(label)
}

#[inline]
fn mpls(
    ip: &IpPacket,
    kind: Kind,
    label: Label,
    inner_offset: u16,
    outer_checksum: OuterChecksum,
) -> Result<Option<Decap>, TunnelError> {
    if u32::from(inner_offset) >= ip.total_len {
        return Err(TunnelError::Truncated);
    }
    Ok(Some(Decap {
        kind,
        identifier: Identifier::Label(label),
        inner_offset,
        inner: Inner::Ip,
        outer_checksum,
    }))
}
