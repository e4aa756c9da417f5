//! Safe wrappers over DPDK: the environment, its lcores and memory, packet buffers and the clock.
//!
//! What is `unsafe` in C is made a type here: an [`mbuf::Mbuf`] is owned and freed once, an [`eal::Eal`] exists once a
//! process, an lcore runs one closure at a time. Devices are not here but in [`crate::port`].

pub mod batch;
pub mod clock;
pub mod eal;
pub mod lcore;
pub mod log;
pub mod mbuf;
pub mod mempool;
pub mod offload;

pub use batch::{BURST, Batch};
pub use eal::{Eal, EalConfig, EalError};
pub use mbuf::Mbuf;
pub use mempool::{Mempool, MempoolError};
pub use offload::{BadOffload, HeaderLengths, Pending, Transport};

#[allow(unsafe_code)]
mod errno {
    use std::ffi::CStr;

    /// DPDK's words for an error number of its own or of the system (given positive or negative).
    pub(crate) fn text(number: i32) -> String {
        // SAFETY: rte_strerror returns a string in static or thread-local memory, copied before the next call.
        unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(number.abs())) }
            .to_string_lossy()
            .into_owned()
    }

    /// This thread's `rte_errno`.
    pub(crate) fn last() -> i32 {
        // SAFETY: reads a thread-local integer.
        unsafe { dpdk_sys::rte_errno_() }
    }
}
pub(crate) use errno::{last as last_errno, text as errno_text};
