//! Packets as bytes: views of headers, parsing, rewriting, checksums, tunnels.

mod id;
mod mac;

pub use id::{Label, NotAnIdentifier, OutOfRange, VlanId, Vni};
pub use mac::{Mac, NotAMac};
