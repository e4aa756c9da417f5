//! Packets as bytes: views of headers, parsing, rewriting, checksums, tunnels.

mod bytes;
pub mod checksum;
pub mod ethernet;
mod id;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod l4;
mod mac;
pub mod malformed;
pub mod vlan;

pub use id::{Label, NotAnIdentifier, OutOfRange, VlanId, Vni};
pub use mac::{Mac, NotAMac};
pub use malformed::Malformed;
