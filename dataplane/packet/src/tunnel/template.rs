//! Outer headers made once a next hop and copied in front of each packet.
//!
//! A template holds everything behind the outer Ethernet header: IP, UDP or GRE, VXLAN with the inner Ethernet header,
//! or the MPLS stack. Only lengths, traffic class, entropy and the IPv4 checksum differ from packet to packet.
//! Outer TTL is 64, DF is set, the UDP checksum is 0 (RFC 7348; RFC 6935 and RFC 7510 allow it over IPv6).

use std::net::IpAddr;

use thiserror::Error;

use super::{MPLS_PORT, VXLAN_PORT};
use crate::{
    Label, Mac, Vni,
    bytes::put,
    checksum::Sum,
    ethernet::{self, ethertype},
    ip::protocol,
    ipv4, ipv6,
};

/// The longest template has fewer bytes than this.
pub const MAX_TEMPLATE_LEN: usize = 96;
/// The deepest label stack.
pub const MAX_LABELS: usize = 3;

const TTL: u8 = 64;
const UDP_LEN: usize = 8;

/// Why a template cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// One address of each family.
    #[error("tunnel from {local} to {remote}: both addresses must be IPv4, or both IPv6")]
    Families {
        /// Outer source.
        local: IpAddr,
        /// Outer destination.
        remote: IpAddr,
    },
    /// No label, or too many.
    #[error("label stack of {0}: give one to three labels")]
    LabelCount(usize),
}

/// Why a template was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DoesNotFit {
    /// The outer packet would be longer than an IP length can say: segment the inner one first.
    #[error("the outer packet would be longer than 65535 bytes: segment the inner one first")]
    TooLong,
    /// The room given is not as long as the template.
    #[error("the room for the outer header is not as long as its template")]
    WrongRoom,
}

/// What stands between IP header and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Vxlan,
    MplsOverUdp,
    MplsOverGre,
}

/// An outer header, complete but for what differs from packet to packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The header ends where the array ends, so that one copy of fixed size puts it in front of a packet.
    bytes: [u8; MAX_TEMPLATE_LEN],
    len: u8,
    is_v6: bool,
    shape: Shape,
    /// IPv4: sum of the header with traffic class and length 0.
    header_sum: u16,
}

impl Template {
    /// VXLAN towards a router at the far end: the inner frame goes from [`Mac::VIRTUAL_ROUTER`] to `inner_mac`
    /// (RFC 9135).
    pub fn vxlan(local: IpAddr, remote: IpAddr, vni: Vni, inner_mac: Mac) -> Result<Self, TemplateError> {
        let mut rest = [0u8; 8 + ethernet::HEADER_LEN];
        rest[0] = 0x08;
        rest[4..8].copy_from_slice(&(vni.get() << 8).to_be_bytes());
        rest[8..14].copy_from_slice(&inner_mac.0);
        rest[14..20].copy_from_slice(&Mac::VIRTUAL_ROUTER.0);
        Template::new(local, remote, Shape::Vxlan, &rest)
    }

    /// MPLS over UDP; the outermost label first.
    pub fn mpls_over_udp(local: IpAddr, remote: IpAddr, labels: &[Label]) -> Result<Self, TemplateError> {
        let (stack, len) = stack(labels)?;
        Template::new(local, remote, Shape::MplsOverUdp, &stack[..len])
    }

    /// MPLS over GRE without key, checksum or sequence number; the outermost label first.
    pub fn mpls_over_gre(local: IpAddr, remote: IpAddr, labels: &[Label]) -> Result<Self, TemplateError> {
        let (stack, len) = stack(labels)?;
        Template::new(local, remote, Shape::MplsOverGre, &stack[..len])
    }

    fn new(local: IpAddr, remote: IpAddr, shape: Shape, rest: &[u8]) -> Result<Self, TemplateError> {
        let mut header = [0u8; MAX_TEMPLATE_LEN];
        let (next, is_udp) = match shape {
            Shape::Vxlan | Shape::MplsOverUdp => (protocol::UDP, true),
            Shape::MplsOverGre => (protocol::GRE, false),
        };
        let (is_v6, ip_len) = match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                header[0] = 0x45;
                header[6..8].copy_from_slice(&ipv4::DONT_FRAGMENT.to_be_bytes());
                header[8] = TTL;
                header[9] = next;
                header[12..16].copy_from_slice(&local.octets());
                header[16..20].copy_from_slice(&remote.octets());
                (false, ipv4::HEADER_LEN)
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                header[0] = 0x60;
                header[6] = next;
                header[7] = TTL;
                header[8..24].copy_from_slice(&local.octets());
                header[24..40].copy_from_slice(&remote.octets());
                (true, ipv6::HEADER_LEN)
            }
            _ => return Err(TemplateError::Families { local, remote }),
        };
        let mut sum = Sum::new();
        sum.add(&header[..ip_len]);
        let mut len = ip_len;
        if is_udp {
            let port = if shape == Shape::Vxlan {
                VXLAN_PORT
            } else {
                MPLS_PORT
            };
            header[len + 2..len + 4].copy_from_slice(&port.to_be_bytes());
            len += UDP_LEN;
        } else {
            header[len + 2..len + 4].copy_from_slice(&ethertype::MPLS.to_be_bytes());
            len += 4;
        }
        header[len..len + rest.len()].copy_from_slice(rest);
        len += rest.len();

        let mut bytes = [0u8; MAX_TEMPLATE_LEN];
        bytes[MAX_TEMPLATE_LEN - len..].copy_from_slice(&header[..len]);
        Ok(Template {
            bytes,
            len: len as u8,
            is_v6,
            shape,
            header_sum: sum.folded(),
        })
    }

    /// Bytes that stand in front of the inner IP packet, without the outer Ethernet header.
    #[inline]
    #[allow(clippy::len_without_is_empty)] // Never empty.
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Where the header starts in `bytes`.
    #[inline]
    const fn start(&self) -> usize {
        MAX_TEMPLATE_LEN.saturating_sub(self.len())
    }

    /// True if the underlay packet is IPv6.
    #[inline]
    pub const fn is_v6(&self) -> bool {
        self.is_v6
    }

    /// True if flows differ in their UDP source port; MPLS over GRE over IPv4 has no entropy.
    #[inline]
    pub const fn has_entropy(&self) -> bool {
        self.is_v6 || !matches!(self.shape, Shape::MplsOverGre)
    }

    /// Writes the header into `header`, exactly [`Template::len`] bytes that lie before the inner IP packet of
    /// `inner_len` bytes. `entropy` comes from [`super::entropy`]; `traffic_class` is the inner packet's, DSCP and ECN
    /// (RFC 6040, normal mode).
    #[inline]
    pub fn write(
        &self,
        header: &mut [u8],
        inner_len: usize,
        entropy: u16,
        traffic_class: u8,
        inner_is_v6: bool,
    ) -> Result<(), DoesNotFit> {
        if header.len() != self.len() {
            return Err(DoesNotFit::WrongRoom);
        }
        header.copy_from_slice(self.bytes());
        self.patch(header, inner_len, entropy, traffic_class, inner_is_v6)
    }

    /// The header as it was made, to be copied with others in one piece and [patched](Self::patch).
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.start()..).unwrap_or_default()
    }

    /// Writes what differs from packet to packet into a copy of [`bytes`](Self::bytes); see [`write`](Self::write).
    #[inline(always)]
    pub fn patch(
        &self,
        header: &mut [u8],
        inner_len: usize,
        entropy: u16,
        traffic_class: u8,
        inner_is_v6: bool,
    ) -> Result<(), DoesNotFit> {
        let packet_len = self.len().saturating_add(inner_len);
        // Of IPv6 the length field does not count the header; one bound for both keeps it simple.
        let Ok(total_len) = u16::try_from(packet_len) else {
            return Err(DoesNotFit::TooLong);
        };
        if self.shape == Shape::Vxlan {
            let inner = if inner_is_v6 {
                ethertype::IPV6
            } else {
                ethertype::IPV4
            };
            if let Some(field) = header.last_chunk_mut::<2>() {
                *field = inner.to_be_bytes();
            }
        }
        let has_udp = self.shape != Shape::MplsOverGre;
        if self.is_v6 {
            // IPv6, and the UDP header or GRE and a label.
            let Some(header) = header.first_chunk_mut::<{ ipv6::HEADER_LEN + UDP_LEN }>() else {
                return Err(DoesNotFit::WrongRoom);
            };
            let payload_len = total_len - ipv6::HEADER_LEN as u16;
            // The flow label carries the entropy too (RFC 6438).
            let first = 6 << 28 | u32::from(traffic_class) << 20 | u32::from(entropy);
            put(header, 0, first.to_be_bytes());
            put(header, 4, payload_len.to_be_bytes());
            if has_udp {
                put(header, 40, entropy.to_be_bytes());
                put(header, 44, payload_len.to_be_bytes());
            }
        } else {
            let Some(header) = header.first_chunk_mut::<{ ipv4::HEADER_LEN + UDP_LEN }>() else {
                return Err(DoesNotFit::WrongRoom);
            };
            // At most twice 16 bits and 8: folding once leaves 16.
            let sum = u32::from(self.header_sum) + u32::from(traffic_class) + u32::from(total_len);
            let sum = (sum & 0xffff) + (sum >> 16);
            header[1] = traffic_class;
            put(header, 2, total_len.to_be_bytes());
            put(header, 10, (!(sum as u16)).to_be_bytes());
            if has_udp {
                put(header, 20, entropy.to_be_bytes());
                put(header, 24, (total_len - ipv4::HEADER_LEN as u16).to_be_bytes());
            }
        }
        Ok(())
    }
}

/// A label stack: EXP 0, TTL 64, and the bottom marked (RFC 3032).
fn stack(labels: &[Label]) -> Result<([u8; 4 * MAX_LABELS], usize), TemplateError> {
    if labels.is_empty() || labels.len() > MAX_LABELS {
        return Err(TemplateError::LabelCount(labels.len()));
    }
    let mut stack = [0u8; 4 * MAX_LABELS];
    for (index, label) in labels.iter().enumerate() {
        let bottom = u32::from(index + 1 == labels.len());
        let entry = label.get() << 12 | bottom << 8 | u32::from(TTL);
        stack[4 * index..4 * index + 4].copy_from_slice(&entry.to_be_bytes());
    }
    Ok((stack, 4 * labels.len()))
}
