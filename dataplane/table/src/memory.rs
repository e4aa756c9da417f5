//! Flat memory for the tables: one array, made once, never moved, in hugetlb pages where the host has them.
//!
//! With 4 KiB pages nearly every random access to a large table costs a walk of the page table on top of the cache
//! miss; a table in hugetlb pages answered three times as fast. Where hugepages lack or are not wanted, ordinary
//! memory with transparent hugepages asked for does the same job slower; [`FlatMemory::pages`] says which it is.
#![allow(unsafe_code)]

use std::{fmt, io, ops::Deref, ptr::NonNull};

use crate::sync::{AtomicU32, AtomicU64};

#[cfg(not(any(loom, miri)))]
const HUGE_PAGE: usize = 2 << 20;

/// No memory for a table.
#[derive(Debug, thiserror::Error)]
#[error(
    "{purpose}: {bytes} bytes of memory cannot be had: {source}; lower the table's size in the configuration, or \
     free memory"
)]
pub struct MemoryError {
    /// Which table asked.
    pub purpose: &'static str,
    /// How much it asked for.
    pub bytes: usize,
    /// What the kernel said.
    pub source: io::Error,
}

/// What kind of pages a table lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Hugetlb pages, all there from the start.
    Huge,
    /// Ordinary pages, made by the kernel as they are touched; transparent hugepages are asked for.
    Ordinary,
}

impl fmt::Display for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pages::Huge => "hugepages",
            Pages::Ordinary => "ordinary memory",
        })
    }
}

/// Values that may lie in flat memory.
///
/// # Safety
/// All bytes zero must be a valid value, equal in meaning to `Default`, and the type must need no drop.
pub unsafe trait Zeroable: Default {}

// SAFETY: an atomic integer is its integer; zero is the default and nothing is dropped.
unsafe impl Zeroable for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zeroable for AtomicU64 {}
// SAFETY: an array of such values is such a value.
unsafe impl<const N: usize> Zeroable for [AtomicU64; N] where [AtomicU64; N]: Default {}

/// An array of `T` outside the heap, all zero at first.
pub struct FlatMemory<T> {
    base: NonNull<T>,
    count: usize,
    /// Length of the mapping.
    bytes: usize,
    pages: Pages,
}

// SAFETY: FlatMemory owns its elements as a Box<[T]> would.
unsafe impl<T: Send> Send for FlatMemory<T> {}
// SAFETY: only shared references are handed out.
unsafe impl<T: Sync> Sync for FlatMemory<T> {}

impl<T: Zeroable> FlatMemory<T> {
    /// Memory for `count` values, in hugepages if they are wanted and there are enough.
    #[cfg(not(any(loom, miri)))]
    pub fn new(purpose: &'static str, count: usize, hugepages: bool) -> Result<Self, MemoryError> {
        const { assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= 4096) };
        let refuse = |bytes, source| MemoryError {
            purpose,
            bytes,
            source,
        };
        let wanted = count
            .checked_mul(size_of::<T>())
            .filter(|bytes| *bytes <= isize::MAX as usize - 2 * HUGE_PAGE)
            .ok_or_else(|| refuse(usize::MAX, io::ErrorKind::OutOfMemory.into()))?
            .max(1);
        let huge = if hugepages { map_huge(wanted) } else { None };
        let (base, bytes, pages) = match huge {
            Some((base, bytes)) => (base, bytes, Pages::Huge),
            None => {
                let (base, bytes) = map_ordinary(wanted).map_err(|source| refuse(wanted, source))?;
                (base, bytes, Pages::Ordinary)
            }
        };
        Ok(FlatMemory {
            base: base.cast(),
            count,
            bytes,
            pages,
        })
    }

    /// Loom's atomics are no plain memory, and Miri knows no hugepages: made value by value on the heap.
    #[cfg(any(loom, miri))]
    pub fn new(_purpose: &'static str, count: usize, _hugepages: bool) -> Result<Self, MemoryError> {
        let values: Box<[T]> = (0..count).map(|_| T::default()).collect();
        let base = NonNull::from(Box::leak(values)).cast();
        Ok(FlatMemory {
            base,
            count,
            bytes: 0,
            pages: Pages::Ordinary,
        })
    }
}

impl<T> FlatMemory<T> {
    /// What it lies in.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// How much memory it takes, with what rounding to pages adds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl<T> Deref for FlatMemory<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `count` values, which are valid from the start (Zeroable) and live as long as
        // self; only shared references to them exist.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.count) }
    }
}

impl<T> Drop for FlatMemory<T> {
    fn drop(&mut self) {
        #[cfg(not(any(loom, miri)))]
        // SAFETY: exactly the mapping made in `new`; nobody can hold a reference into it any more.
        unsafe {
            libc::munmap(self.base.as_ptr().cast(), self.bytes);
        }
        #[cfg(any(loom, miri))]
        // SAFETY: the box leaked in `new`, of the same length.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.base.as_ptr(), self.count)) });
    }
}

/// Hugetlb pages, all of them present. None: not enough of them, or not allowed.
#[cfg(not(any(loom, miri)))]
fn map_huge(wanted: usize) -> Option<(NonNull<u8>, usize)> {
    let bytes = wanted.next_multiple_of(HUGE_PAGE);
    let base = map(bytes, libc::MAP_HUGETLB).ok()?;
    // A limit of the control group shows only when a page is touched, as SIGBUS; this call gets it as an error.
    // SAFETY: the mapping just made.
    let populated = unsafe { libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) };
    if populated == 0 {
        return Some((base, bytes));
    }
    let unknown_to_kernel = io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL);
    // SAFETY: as above; nothing refers to it.
    unsafe { libc::munmap(base.as_ptr().cast(), bytes) };
    // Linux before 5.14.
    if unknown_to_kernel {
        return Some((map(bytes, libc::MAP_HUGETLB | libc::MAP_POPULATE).ok()?, bytes));
    }
    None
}

/// Ordinary pages, aligned so that the kernel can put transparent hugepages behind them.
#[cfg(not(any(loom, miri)))]
fn map_ordinary(wanted: usize) -> io::Result<(NonNull<u8>, usize)> {
    if wanted < HUGE_PAGE {
        let bytes = wanted.next_multiple_of(4096);
        return Ok((map(bytes, 0)?, bytes));
    }
    let bytes = wanted.next_multiple_of(HUGE_PAGE);
    let base = map(bytes + HUGE_PAGE, 0)?;
    let head = base.as_ptr().align_offset(HUGE_PAGE);
    // SAFETY: head and tail lie inside the mapping of bytes + HUGE_PAGE and are used by nobody; what stays begins at
    // `head`, a multiple of the page size, and is `bytes` long.
    unsafe {
        if head > 0 {
            libc::munmap(base.as_ptr().cast(), head);
        }
        if head < HUGE_PAGE {
            libc::munmap(base.as_ptr().add(head + bytes).cast(), HUGE_PAGE - head);
        }
        let base = base.add(head);
        // Only advice: without it the table is slower, not wrong.
        libc::madvise(base.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
        Ok((base, bytes))
    }
}

#[cfg(not(any(loom, miri)))]
fn map(bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: a new anonymous mapping touches no existing memory.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sync::Ordering::Relaxed;

    #[test]
    fn memory_is_zero_and_keeps_what_is_stored() {
        for count in [1, 1000, 600_000] {
            for hugepages in [false, true] {
                let memory = FlatMemory::<AtomicU64>::new("test", count, hugepages).unwrap();
                assert_eq!(memory.len(), count);
                assert!(memory.iter().all(|value| value.load(Relaxed) == 0));
                memory[count - 1].store(7, Relaxed);
                memory[0].fetch_add(1, Relaxed);
                assert!(memory[count - 1].load(Relaxed) >= 7);
                assert!(memory.bytes() >= count * 8);
            }
        }
    }

    #[test]
    fn large_ordinary_memory_starts_at_a_hugepage_boundary() {
        let memory = FlatMemory::<AtomicU64>::new("test", HUGE_PAGE, false).unwrap();
        assert_eq!(memory.pages(), Pages::Ordinary);
        assert_eq!(memory.as_ptr() as usize % HUGE_PAGE, 0);
    }

    #[test]
    fn impossible_sizes_are_refused_by_name() {
        let refused = FlatMemory::<AtomicU64>::new("flow table", usize::MAX / 2, true)
            .err()
            .unwrap();
        assert_eq!(refused.purpose, "flow table");
        let refused = FlatMemory::<AtomicU64>::new("flow table", 1 << 50, true)
            .err()
            .unwrap();
        assert!(
            refused
                .to_string()
                .starts_with("flow table: 9007199254740992 bytes"),
            "{refused}"
        );
    }
}
