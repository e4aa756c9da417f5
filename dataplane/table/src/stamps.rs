//! When each object last changed, in numbers of snapshots: what tells a session that its decision is out of date.
//!
//! The control thread writes `changed[object] = N` and then publishes snapshot N; a worker compares a decision's
//! stamp with what the decision depends on. The numbers only grow, so an object's index may be used again for
//! another object: a decision that rests on the old one is older than the change that took it away.
#![allow(unsafe_code)]

use std::collections::VecDeque;

use crate::{
    memory::{FlatMemory, MemoryError},
    sync::{AtomicPtr, AtomicU64, Ordering},
};

/// An object number that never changes: "no dependency".
pub const NO_OBJECT: u32 = u32::MAX;

const CHUNK_BITS: u32 = 18;
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNKS: usize = 64;

/// Objects whose numbers have the same remainder share an entry of the summary.
const SUMMARY: usize = if cfg!(loom) { 2 } else { 256 };

/// How many objects can be told apart.
pub const OBJECTS: u32 = (CHUNK * CHUNKS) as u32;

/// The changes of all objects. Chunks of 2 MiB behind a fixed directory; a chunk is made when its first object is
/// set, and never moves.
pub struct Stamps {
    /// The last change of any of the objects that share an entry.
    summary: [AtomicU64; SUMMARY],
    directory: [AtomicPtr<FlatMemory<AtomicU64>>; CHUNKS],
    hugepages: bool,
}

/// Why a change was not recorded.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// The number is beyond the table.
    #[error("object {object}: there is room for {OBJECTS} routes and other objects that sessions depend on")]
    OutOfRange {
        /// The number asked for.
        object: u32,
    },
    /// No memory for another chunk.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl Stamps {
    /// No object has changed yet: all are 0.
    pub fn new(hugepages: bool) -> Self {
        Stamps {
            summary: std::array::from_fn(|_| AtomicU64::new(0)),
            directory: std::array::from_fn(|_| AtomicPtr::default()),
            hugepages,
        }
    }

    /// Whether neither the object nor one that shares its entry of the summary has changed since snapshot `stamp`: a
    /// single load, where [`Self::get`] takes three.
    #[inline(always)]
    pub fn is_surely_unchanged(&self, object: u32, stamp: u64) -> bool {
        self.summary[object as usize % SUMMARY].load(Ordering::Relaxed) <= stamp
    }

    /// Number of the snapshot in which the object last changed. 0: never, or no such object.
    #[inline(always)]
    pub fn get(&self, object: u32) -> u64 {
        let Some(chunk) = self.directory.get((object >> CHUNK_BITS) as usize) else {
            return 0;
        };
        let chunk = chunk.load(Ordering::Acquire);
        if chunk.is_null() {
            return 0;
        }
        // SAFETY: a chunk in the directory came from Box::into_raw and stays until self is dropped.
        let chunk = unsafe { &*chunk };
        // The order against the snapshot is given by the snapshot's own publication.
        chunk[object as usize % CHUNK].load(Ordering::Relaxed)
    }

    /// Records that the object changes with snapshot `number`; to be called before that snapshot is published, by
    /// the control thread alone. A number below the recorded one changes nothing.
    pub fn set(&self, object: u32, number: u64) -> Result<(), StampError> {
        let slot = self
            .directory
            .get((object >> CHUNK_BITS) as usize)
            .ok_or(StampError::OutOfRange { object })?;
        let mut chunk = slot.load(Ordering::Acquire);
        if chunk.is_null() {
            let made = Box::new(FlatMemory::new("stamps of routes", CHUNK, self.hugepages)?);
            let made = Box::into_raw(made);
            match slot.compare_exchange(chunk, made, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => chunk = made,
                Err(other) => {
                    // SAFETY: made above and shown to nobody.
                    drop(unsafe { Box::from_raw(made) });
                    chunk = other;
                }
            }
        }
        // SAFETY: as in `get`.
        let chunk = unsafe { &*chunk };
        chunk[object as usize % CHUNK].fetch_max(number, Ordering::Relaxed);
        self.summary[object as usize % SUMMARY].fetch_max(number, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Stamps {
    fn drop(&mut self) {
        for slot in &self.directory {
            let chunk = slot.load(Ordering::Acquire);
            if !chunk.is_null() {
                // SAFETY: from Box::into_raw in `set`; &mut self: nobody reads it any more.
                drop(unsafe { Box::from_raw(chunk) });
            }
        }
    }
}

/// Hands out small numbers to objects, and takes a number back into use only when the caller says that it is safe.
/// For the control thread.
#[derive(Clone, Debug)]
pub struct IndexPool {
    capacity: u32,
    /// Numbers from here on were never handed out.
    fresh: u32,
    free: Vec<u32>,
    /// Given back, oldest first, each with the epoch that must pass.
    waiting: VecDeque<(u64, u32)>,
}

impl IndexPool {
    /// Numbers from 0 to `capacity - 1`.
    pub fn new(capacity: u32) -> Self {
        IndexPool {
            capacity,
            fresh: 0,
            free: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// A number that nobody has. None: all are in use, or wait.
    pub fn take(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            (self.fresh < self.capacity).then(|| {
                self.fresh += 1;
                self.fresh - 1
            })
        })
    }

    /// Gives a number back; it is handed out again after [`Self::reclaim`] with this epoch or a later one. Epochs
    /// must not go backwards.
    pub fn give(&mut self, index: u32, epoch: u64) {
        debug_assert!(index < self.fresh, "number {index} was never handed out");
        self.waiting.push_back((epoch, index));
    }

    /// Numbers given back in an epoch up to `safe` may be used again.
    pub fn reclaim(&mut self, safe: u64) {
        while let Some((epoch, index)) = self.waiting.front().copied() {
            if epoch > safe {
                return;
            }
            self.waiting.pop_front();
            self.free.push(index);
        }
    }

    /// How many numbers are in use.
    pub fn in_use(&self) -> u32 {
        self.fresh - self.free.len() as u32 - self.waiting.len() as u32
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_and_never_goes_back() {
        let stamps = Stamps::new(false);
        assert_eq!(stamps.get(5), 0);
        stamps.set(5, 9).unwrap();
        stamps.set(5, 3).unwrap();
        stamps.set(OBJECTS - 1, 4).unwrap();
        assert_eq!((stamps.get(5), stamps.get(6), stamps.get(OBJECTS - 1)), (9, 0, 4));
    }

    #[test]
    fn the_summary_never_says_unchanged_of_what_has_changed() {
        let stamps = Stamps::new(false);
        stamps.set(5, 9).unwrap();
        stamps.set(5 + SUMMARY as u32, 3).unwrap();
        assert!(!stamps.is_surely_unchanged(5, 8) && stamps.is_surely_unchanged(5, 9));
        assert!(
            !stamps.is_surely_unchanged(5 + SUMMARY as u32, 8),
            "it shares 5's entry"
        );
        assert!(stamps.is_surely_unchanged(6, 0));
    }

    #[test]
    fn objects_beyond_the_table_are_refused_and_never_change() {
        let stamps = Stamps::new(false);
        let refused = stamps.set(OBJECTS, 1).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("object 16777216: there is room for 16777216"),
            "{refused}"
        );
        assert!(stamps.set(NO_OBJECT, 1).is_err());
        assert_eq!(stamps.get(NO_OBJECT), 0);
    }

    #[test]
    fn a_number_given_back_waits_for_its_epoch() {
        let mut pool = IndexPool::new(2);
        assert_eq!((pool.take(), pool.take(), pool.take()), (Some(0), Some(1), None));
        pool.give(0, 5);
        pool.reclaim(4);
        assert_eq!((pool.take(), pool.in_use()), (None, 1));
        pool.reclaim(5);
        assert_eq!((pool.take(), pool.in_use()), (Some(0), 2));
    }
}
