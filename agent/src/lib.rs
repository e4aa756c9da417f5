//! weftd's control half: it takes desired state over gRPC, keeps it, and makes the data plane follow it.
//!
//! What an object must look like is told in [`model`]; what the objects mean together, in [`reconciler`]; how that
//! reaches the packets, in [`engine`]. No packet and no mbuf is known here.

pub mod config;
pub mod engine;
pub mod model;
pub mod reconciler;
pub mod store;
#[cfg(test)]
mod testing;
pub mod writer;
