//! The time-stamp counter: what a worker reads instead of asking the kernel for the time.
#![allow(unsafe_code)]

use std::{sync::OnceLock, time::Duration};

/// Cycles since some moment before the start; the same on every core of a machine with an invariant counter.
#[inline(always)]
pub fn now() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC is there on every x86-64 and only reads.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads the timer that DPDK uses on this architecture.
    unsafe {
        dpdk_sys::rte_rdtsc()
    }
}

/// Cycles a second. Measured by EAL at its start; call it after that.
pub fn hz() -> u64 {
    static HZ: OnceLock<u64> = OnceLock::new();
    // SAFETY: returns a number that EAL stored; 0 before EAL has started.
    *HZ.get_or_init(|| unsafe { dpdk_sys::rte_get_tsc_hz() }.max(1))
}

/// A duration in cycles.
pub fn cycles(duration: Duration) -> u64 {
    let cycles = duration.as_nanos() * u128::from(hz()) / 1_000_000_000;
    u64::try_from(cycles).unwrap_or(u64::MAX)
}

/// Cycles as a duration.
pub fn duration(cycles: u64) -> Duration {
    let nanoseconds = u128::from(cycles) * 1_000_000_000 / u128::from(hz());
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}
