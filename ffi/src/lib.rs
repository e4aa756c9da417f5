//! DPDK's own names, as bindgen reads them from the installed headers, and nothing else.
//!
//! Static inlines (`rte_eth_rx_burst`, `rte_pktmbuf_free`, …) are reached through C wrappers that the build script
//! compiles with DPDK's own flags, so each costs a call. The safe side is `weft_dataplane::dpdk`.
//!
//! Constants whose name ends in `_` are DPDK's constants of that name without it (see `wrapper.h`).
#![allow(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unnecessary_transmutes,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
