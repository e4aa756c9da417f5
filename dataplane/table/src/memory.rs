//! Flat memory for the tables: one array, made once, never moved, in hugetlb pages where the host has them.
//!
//! With 4 KiB pages nearly every random access to a large table costs a walk of the page table on top of the cache
//! miss; a table in hugetlb pages answered three times as fast. Where hugepages lack or are not wanted, ordinary
//! memory with transparent hugepages asked for does the same job slower; [`FlatMemory::pages`] says which it is.
#![allow(unsafe_code)]

#[cfg(not(any(loom, miri)))]
use std::sync::Arc;
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

/// Where arrays of a region begin.
const ALIGNMENT: usize = 64;

/// Memory that is mapped at once and given back at once.
#[cfg(not(any(loom, miri)))]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: an address and a length; what lies there belongs to the arrays.
#[cfg(not(any(loom, miri)))]
unsafe impl Send for Mapping {}
// SAFETY: as above.
#[cfg(not(any(loom, miri)))]
unsafe impl Sync for Mapping {}

#[cfg(not(any(loom, miri)))]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that was made; every array that lies in it has kept it until now.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Memory for several arrays of one table, so that rounding to hugepages is paid once.
///
/// Loom's atomics are no plain memory, and Miri knows no hugepages: there each array is made value by value on the
/// heap.
pub struct Region {
    #[cfg(not(any(loom, miri)))]
    mapping: Arc<Mapping>,
    #[cfg(not(any(loom, miri)))]
    used: usize,
    pages: Pages,
}

impl Region {
    /// How many bytes of a region an array takes.
    pub const fn room_for<T>(count: usize) -> Option<usize> {
        match count.checked_mul(size_of::<T>()) {
            Some(bytes) => bytes.checked_next_multiple_of(ALIGNMENT),
            None => None,
        }
    }

    /// Memory of so many bytes, all zero, in hugepages if they are wanted and there are enough.
    #[cfg(not(any(loom, miri)))]
    pub fn new(purpose: &'static str, bytes: usize, hugepages: bool) -> Result<Self, MemoryError> {
        let refuse = |source| MemoryError {
            purpose,
            bytes,
            source,
        };
        if bytes > isize::MAX as usize - 2 * HUGE_PAGE {
            return Err(refuse(io::ErrorKind::OutOfMemory.into()));
        }
        let wanted = bytes.max(1);
        let huge = if hugepages { map_huge(wanted) } else { None };
        let ((base, bytes), pages) = match huge {
            Some(mapped) => (mapped, Pages::Huge),
            None => (map_ordinary(wanted).map_err(refuse)?, Pages::Ordinary),
        };
        let mapping = Arc::new(Mapping { base, bytes });
        Ok(Region {
            mapping,
            used: 0,
            pages,
        })
    }

    /// As above.
    #[cfg(any(loom, miri))]
    pub fn new(_purpose: &'static str, _bytes: usize, _hugepages: bool) -> Result<Self, MemoryError> {
        Ok(Region {
            pages: Pages::Ordinary,
        })
    }

    /// An array of `count` values, all zero.
    ///
    /// # Panics
    /// If the region was not made large enough, see [`Self::room_for`].
    #[cfg(not(any(loom, miri)))]
    pub fn array<T: Zeroable>(&mut self, count: usize) -> FlatMemory<T> {
        const { assert!(!std::mem::needs_drop::<T>() && align_of::<T>() <= ALIGNMENT) };
        let end = Self::room_for::<T>(count).and_then(|bytes| self.used.checked_add(bytes));
        let end = end.filter(|end| *end <= self.mapping.bytes.next_multiple_of(ALIGNMENT));
        let Some(end) = end else {
            panic!(
                "{count} values do not fit into a region of {} bytes",
                self.mapping.bytes
            );
        };
        // SAFETY: within the mapping, which begins at a page; what lies behind `used` belongs to no array yet.
        let base = unsafe { self.mapping.base.add(self.used) }.cast();
        self.used = end;
        FlatMemory {
            base,
            count,
            pages: self.pages,
            mapping: Arc::clone(&self.mapping),
        }
    }

    /// As above.
    #[cfg(any(loom, miri))]
    pub fn array<T: Zeroable>(&mut self, count: usize) -> FlatMemory<T> {
        let values: Box<[T]> = (0..count).map(|_| T::default()).collect();
        FlatMemory {
            base: NonNull::from(Box::leak(values)).cast(),
            count,
            pages: Pages::Ordinary,
        }
    }

    /// What it lies in.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// How much memory it takes, with what rounding to pages adds.
    pub fn bytes(&self) -> usize {
        #[cfg(not(any(loom, miri)))]
        return self.mapping.bytes;
        #[cfg(any(loom, miri))]
        return 0;
    }
}

/// An array of `T` outside the heap, all zero at first.
pub struct FlatMemory<T> {
    base: NonNull<T>,
    count: usize,
    pages: Pages,
    /// In which it lies.
    #[cfg(not(any(loom, miri)))]
    mapping: Arc<Mapping>,
}

// SAFETY: FlatMemory owns its elements as a Box<[T]> would.
unsafe impl<T: Send> Send for FlatMemory<T> {}
// SAFETY: only shared references are handed out.
unsafe impl<T: Sync> Sync for FlatMemory<T> {}

impl<T: Zeroable> FlatMemory<T> {
    /// Memory for `count` values in a region of their own.
    pub fn new(purpose: &'static str, count: usize, hugepages: bool) -> Result<Self, MemoryError> {
        let bytes = Region::room_for::<T>(count).unwrap_or(usize::MAX);
        Ok(Region::new(purpose, bytes, hugepages)?.array(count))
    }
}

impl<T> FlatMemory<T> {
    /// What it lies in.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// How much memory its region takes, with what rounding to pages adds.
    pub fn bytes(&self) -> usize {
        #[cfg(not(any(loom, miri)))]
        return self.mapping.bytes;
        #[cfg(any(loom, miri))]
        return 0;
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

#[cfg(any(loom, miri))]
impl<T> Drop for FlatMemory<T> {
    fn drop(&mut self) {
        // SAFETY: the box leaked in `array`, of the same length.
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
    fn arrays_of_a_region_lie_side_by_side_and_outlive_it() {
        let room = |count| Region::room_for::<AtomicU32>(count).unwrap();
        let mut region = Region::new("test", room(3) + room(100), false).unwrap();
        let (one, other) = (region.array::<AtomicU32>(3), region.array::<AtomicU32>(100));
        drop(region);
        for (number, value) in one.iter().chain(other.iter()).enumerate() {
            assert_eq!(value.load(Relaxed), 0);
            value.store(number as u32, Relaxed);
        }
        assert_eq!(other.as_ptr() as usize % ALIGNMENT, 0);
        drop(one);
        assert!(other.iter().map(|value| value.load(Relaxed)).eq(3..103));
    }

    #[test]
    #[should_panic = "100 values do not fit into a region of"]
    fn an_array_that_does_not_fit_is_refused() {
        Region::new("test", 64, false)
            .unwrap()
            .array::<[AtomicU64; 8]>(100);
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
