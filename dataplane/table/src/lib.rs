//! weft's tables: where packets go, which sessions there are, and how both change while packets pass.
//!
//! - [`fib`]: routes, one trie a VRF and family.
//! - [`group`]: next-hop groups.
//! - [`maglev`]: which backend of a service takes a session; [`affinity`]: which one its client had last.
//! - [`flow`]: sessions, shared by all workers.
//! - [`fragments`]: datagrams that pass in fragments.
//! - [`policy`]: which sessions a port may have.
//! - [`stamps`]: when what a session depends on changed last.
//! - [`rcu`]: snapshots and grace periods; [`cow`]: arrays that are cheap to copy into the next snapshot.
//! - [`bucket`]: rates that are not exceeded.
//! - [`memory`]: hugepages; [`sync`]: the atomics, which loom can swap.
//!
//! No DPDK here, no I/O, no thread: all of it builds and is tested without libdpdk. `unsafe` is for flat memory, the
//! pointers of `rcu` and `stamps`, and SIMD.

pub mod affinity;
pub mod bucket;
pub mod cow;
pub mod fib;
pub mod flow;
pub mod fragments;
pub mod group;
pub mod id;
pub mod maglev;
pub mod memory;
pub mod nat;
pub mod policy;
pub mod rcu;
pub mod stamps;
pub mod sync;

pub use id::{AddressGroupId, NatId, NextHopId, PolicyId, PortId, RouteId, VrfId, WorkerId};
