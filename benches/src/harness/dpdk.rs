//! DPDK in this very process, for its own tables as peers of weft's.
#![allow(unsafe_code)] // DPDK's C functions.

use std::sync::OnceLock;

use anyhow::Result;
use weft_dataplane::dpdk::{Eal, EalConfig};
use weft_tests::host;

use super::machine::Machine;

/// Memory to start with, MiB; DPDK takes more as it needs it.
const MEMORY_MIB: u32 = 128;

/// Starts EAL, the first time: it starts once a process. It leaves nothing on the host when the process ends.
pub fn eal(machine: &Machine) -> Result<&'static Eal> {
    static EAL: OnceLock<Eal> = OnceLock::new();
    if let Some(eal) = EAL.get() {
        return Ok(eal);
    }
    let eal = Eal::start(&EalConfig {
        worker_cpus: machine.worker_cpus(1)?.to_vec(),
        memory_mib: MEMORY_MIB,
        file_prefix: format!("weft-{}-tables", host::run_number()),
        ..EalConfig::default()
    })?;
    Ok(EAL.get_or_init(|| eal))
}

/// Bytes that DPDK has handed out of its heaps.
pub fn heap_bytes(_eal: &Eal) -> u64 {
    let mut statistics = dpdk_sys::rte_malloc_socket_stats::default();
    (0..dpdk_sys::RTE_MAX_NUMA_NODES as i32)
        .map(|socket| {
            // SAFETY: EAL runs; the structure is filled in.
            match unsafe { dpdk_sys::rte_malloc_get_socket_stats(socket, &raw mut statistics) } {
                0 => statistics.heap_allocsz_bytes as u64,
                _ => 0,
            }
        })
        .sum()
}
