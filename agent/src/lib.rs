//! weftd's control half: it takes desired state over gRPC, keeps it, and makes the data plane follow it.
//!
//! What an object must look like is told in [`model`]; what the objects mean together, in [`reconciler`]; what is kept,
//! in [`store`]; how a request becomes a transaction over the three, in [`writer`]; how it comes in, in [`server`]; and
//! how it reaches the packets, in [`engine`]. No packet and no mbuf is known here. [`daemon`] starts and stops it all.

pub mod config;
pub mod daemon;
pub mod engine;
pub mod exit;
#[cfg(any(test, fuzzing, feature = "model"))]
mod fuzz;
pub mod log;
pub mod metrics;
pub mod model;
pub mod reconciler;
pub mod server;
pub mod services;
pub mod store;
#[cfg(test)]
mod testing;
pub mod writer;

#[cfg(any(test, fuzzing, feature = "model"))]
pub use fuzz::apply as fuzz_apply;
