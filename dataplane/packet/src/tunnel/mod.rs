//! Tunnels over the underlay: VXLAN (RFC 7348), MPLS over UDP (RFC 7510) and MPLS over GRE (RFC 4023).

pub mod decap;
pub mod ecn;
mod template;

pub use decap::{Decap, Identifier, Inner, Kind, OuterChecksum, TunnelError, parse};
pub use ecn::{CongestionMarked, ecn_decapsulate};
pub use template::{DoesNotFit, MAX_LABELS, MAX_TEMPLATE_LEN, Template, TemplateError};

/// UDP port of VXLAN (RFC 7348, section 8).
pub const VXLAN_PORT: u16 = 4789;
/// UDP port of MPLS over UDP (RFC 7510, section 6).
pub const MPLS_PORT: u16 = 6635;

/// UDP source port for a flow: in 49152..=65535 (RFC 7348 section 5, RFC 7510 section 3), so that routers on the way
/// spread flows over their paths without looking inside.
#[inline]
pub const fn entropy(hash: u32) -> u16 {
    // Both halves count: the flow table may have used one of them up.
    0xc000 | ((hash >> 16) ^ hash) as u16 & 0x3fff
}
