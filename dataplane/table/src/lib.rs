//! weft's tables. No DPDK here.
pub mod fib;
pub mod id;
pub use id::{NextHopId, PortId, RouteId, VrfId, WorkerId};
