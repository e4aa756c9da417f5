//! Packets as bytes: views of headers, parsing, rewriting, checksums, tunnels.
//!
//! What lives here, layer by layer:
//!
//! | layer | modules |
//! | --- | --- |
//! | identifiers that cannot be wrong | [`Mac`], [`VlanId`], [`Vni`], [`Label`] |
//! | link | [`ethernet`] (parse, write), [`vlan`] (strip, push), [`arp`] |
//! | network | [`ip`] (either version in one pass), [`ipv4`], [`ipv6`], [`fragment`], [`nd`], [`icmp`], [`quote`] and [`refusal`] (ICMP errors) |
//! | transport | [`l4`] (ports, flags), [`transport`] (checksums over several buffers), [`segment`] |
//! | tunnels | [`tunnel`]: prebuilt outer headers, recognising and unwrapping, ECN |
//! | across them | [`checksum`], [`rewrite`] (TTL, DSCP, MACs, address translation), [`malformed`] |
//!
//! What does not: buffers, ports, tables and decisions. Functions get slices and give numbers, they do not allocate,
//! and no input makes them panic or read beyond what they were given (`fuzz/` holds them to it). There is no DPDK and
//! no `unsafe` here. Answers of DHCP, DNS and router discovery are services of the control half.
//!
//! Parsers take the bytes *at hand*, those of a packet's first buffer, say; all headers must lie there. Offsets are
//! counted from the start of the slice that was given.

pub mod arp;
mod bytes;
pub mod checksum;
mod crc32c;
pub mod ethernet;
pub mod fragment;
pub mod icmp;
mod id;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
mod mac;
pub mod malformed;
pub mod nd;
pub mod plain;
pub mod quote;
pub mod refusal;
pub mod rewrite;
pub mod segment;
pub mod transport;
pub mod tunnel;
pub mod vlan;

pub use id::{Label, NotAnIdentifier, OutOfRange, VlanId, Vni};
pub use mac::{Mac, NotAMac};
pub use malformed::Malformed;
