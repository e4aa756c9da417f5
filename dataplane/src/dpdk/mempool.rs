//! Pools of packet buffers.
#![allow(unsafe_code)]

use std::{
    ffi::{CStr, CString},
    ptr::NonNull,
    sync::Arc,
};

use thiserror::Error;

use super::{batch::Batch, errno_text, last_errno, mbuf::Mbuf};

/// Bytes of a packet that a buffer of the common pool holds at most; longer packets are chains.
pub const DATA_ROOM: u16 = 2048;

/// Free bytes in front of a received packet: room for the outer headers of a tunnel.
pub const HEADROOM: u16 = dpdk_sys::RTE_PKTMBUF_HEADROOM as u16;

/// A pool of packet buffers, shared by all ports and workers; a clone is the same pool. EAL threads (workers) take from
/// a cache of their own.
///
/// The last clone frees it. If buffers are still out then, it stays allocated: freeing it would pull memory from under
/// their owners.
#[derive(Clone)]
pub struct Mempool {
    raw: NonNull<dpdk_sys::rte_mempool>,
    room: u16,
    _owner: Arc<Owner>,
}

// SAFETY: DPDK's pools are made for many producers and consumers on any thread.
unsafe impl Send for Mempool {}
// SAFETY: as above.
unsafe impl Sync for Mempool {}

/// Frees the pool.
struct Owner(NonNull<dpdk_sys::rte_mempool>);

// SAFETY: the pool may be freed on any thread.
unsafe impl Send for Owner {}
// SAFETY: nothing is done with a shared owner.
unsafe impl Sync for Owner {}

/// No pool.
#[derive(Debug, Error)]
pub enum MempoolError {
    /// The name is taken, too long or has a NUL.
    #[error("packet pool \"{name}\": the name {why}; choose another")]
    Name {
        /// What was asked for.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Not enough memory.
    #[error(
        "packet pool \"{name}\": no memory for {count} buffers ({mib} MiB): raise `memory_mib`, or lower `mbufs`"
    )]
    Memory {
        /// Name of the pool.
        name: String,
        /// Buffers asked for.
        count: u32,
        /// What they need, about.
        mib: u64,
    },
    /// Anything else DPDK says.
    #[error("packet pool \"{name}\" of {count} buffers: {reason}")]
    Other {
        /// Name of the pool.
        name: String,
        /// Buffers asked for.
        count: u32,
        /// DPDK's words.
        reason: String,
    },
}

impl Mempool {
    /// Makes a pool of `count` buffers of [`DATA_ROOM`] bytes each, with `cache` of them kept at hand by each worker
    /// (cut to what DPDK allows: 512, and two thirds of `count`).
    pub fn new(name: &str, count: u32, cache: u32) -> Result<Mempool, MempoolError> {
        Mempool::with_room(name, count, cache, DATA_ROOM)
    }

    /// As [`new`](Self::new), with buffers of `room` bytes: for drivers that cannot spread a packet over several.
    pub fn with_room(name: &str, count: u32, cache: u32, room: u16) -> Result<Mempool, MempoolError> {
        let bad_name = |why| MempoolError::Name {
            name: name.to_owned(),
            why,
        };
        let c_name = CString::new(name).map_err(|_| bad_name("has a NUL byte"))?;
        if name.is_empty() || name.len() > 25 {
            return Err(bad_name("must have 1 to 25 bytes"));
        }
        let cache = cache.min(dpdk_sys::RTE_MEMPOOL_CACHE_MAX_SIZE).min(count * 2 / 3);
        // SAFETY: the name is a C string that DPDK copies; the rest are numbers it checks.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(
                c_name.as_ptr(),
                count,
                cache,
                0,
                room.saturating_add(HEADROOM),
                dpdk_sys::SOCKET_ID_ANY_,
            )
        };
        let pool = NonNull::new(pool).map(|raw| Mempool {
            raw,
            room,
            _owner: Arc::new(Owner(raw)),
        });
        pool.ok_or_else(|| match last_errno() {
            libc::EEXIST => bad_name("is taken by another pool"),
            libc::ENAMETOOLONG => bad_name("is too long"),
            libc::ENOMEM => MempoolError::Memory {
                name: name.to_owned(),
                count,
                mib: u64::from(count) * (u64::from(room) + 320) / (1 << 20) + 1,
            },
            other => MempoolError::Other {
                name: name.to_owned(),
                count,
                reason: errno_text(other),
            },
        })
    }

    /// Takes one buffer, empty. None: the pool has no more.
    #[inline]
    pub fn allocate(&self) -> Option<Mbuf> {
        // SAFETY: the pool is valid.
        let raw = NonNull::new(unsafe { dpdk_sys::rte_pktmbuf_alloc(self.raw.as_ptr()) })?;
        // SAFETY: a buffer fresh from the pool is nobody else's.
        Some(unsafe { Mbuf::from_raw(raw) })
    }

    /// Takes `count` empty buffers, cut to the room in `batch`: all of them or none. Returns how many.
    #[inline]
    pub fn allocate_bulk(&self, batch: &mut Batch, count: usize) -> usize {
        let (room, free) = batch.room();
        let count = count.min(usize::from(free));
        // SAFETY: `room` has place for `count` pointers; on success all of them are ours.
        unsafe {
            if dpdk_sys::rte_pktmbuf_alloc_bulk(self.raw.as_ptr(), room, count as u32) != 0 {
                return 0;
            }
            batch.grow(count);
        }
        count
    }

    /// Buffers that are out now. Walks the workers' caches: not for the packet path.
    pub fn in_use(&self) -> u32 {
        // SAFETY: reads counters of a valid pool.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.raw.as_ptr()) }
    }

    /// Buffers that are not out. Walks the workers' caches: not for the packet path.
    pub fn available(&self) -> u32 {
        // SAFETY: reads counters of a valid pool.
        unsafe { dpdk_sys::rte_mempool_avail_count(self.raw.as_ptr()) }
    }

    /// Bytes of a packet that one of its buffers holds.
    #[inline]
    pub fn room(&self) -> u16 {
        self.room
    }

    /// Name of the pool.
    pub fn name(&self) -> String {
        // SAFETY: the pool keeps its name, NUL-terminated, in an array of its own.
        unsafe { CStr::from_ptr((*self.raw.as_ptr()).name.as_ptr()) }
            .to_string_lossy()
            .into_owned()
    }

    /// For DPDK's calls.
    #[inline]
    pub(crate) fn as_raw(&self) -> *mut dpdk_sys::rte_mempool {
        self.raw.as_ptr()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // SAFETY: the pool is valid until it is freed here.
        let in_use = unsafe { dpdk_sys::rte_mempool_in_use_count(self.0.as_ptr()) };
        if in_use == 0 {
            // SAFETY: no buffer is out, and this was the pool's only owner.
            unsafe { dpdk_sys::rte_mempool_free(self.0.as_ptr()) };
        } else {
            tracing::warn!(in_use, "a packet pool is kept: buffers are still out");
        }
    }
}
