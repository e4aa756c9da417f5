//! The checks of a host before weftd starts on it.
//!
//! Each check is a function from what is there to findings, in the order in which an operator would look: memory,
//! the interfaces that ports need, processors, NICs. Names of checks are stable, for scripts.

mod devices;
mod memory;
mod processors;

use crate::{cpu::CpuSet, finding::Finding, host::Host};

/// Memory that weftd takes if its configuration does not say otherwise: 256 MiB for packet buffers and DPDK, about
/// 150 MiB for the flow table, the rest for FIBs.
pub const DEFAULT_MEMORY_MIB: u64 = 512;

/// What weftd will want of the host.
#[derive(Clone, Debug)]
pub struct Requirements {
    /// Hugepage memory.
    pub memory_mib: u64,
    /// CPUs of the workers; empty: not known.
    pub workers: CpuSet,
    /// weftd runs already and has what memory it wants.
    pub weftd_runs: bool,
}

impl Default for Requirements {
    fn default() -> Self {
        Self {
            memory_mib: DEFAULT_MEMORY_MIB,
            workers: CpuSet::default(),
            weftd_runs: false,
        }
    }
}

/// Every check.
pub fn doctor(host: &Host, wanted: &Requirements) -> Vec<Finding> {
    let mut findings = vec![memory::hugepages(host, wanted)];
    findings.extend(memory::placement(host, wanted));
    findings.push(memory::mounted(host));
    findings.push(memory::lockable(host, wanted));
    findings.push(devices::tun(host));
    findings.push(devices::nft(host));
    findings.push(devices::iommu(host));
    findings.push(devices::vfio(host));
    findings.push(processors::features(host));
    findings.push(processors::allowed(host, wanted));
    findings.push(processors::isolation(host, wanted));
    findings.extend(processors::shared_cores(host, wanted));
    findings.push(processors::governor(host, wanted));
    findings.extend(processors::balancing(host));
    findings.extend(devices::nics(host, wanted));
    findings
}
