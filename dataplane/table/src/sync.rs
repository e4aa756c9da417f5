//! The one place from which the tables take atomics and locks, so that loom can swap them (`--cfg loom`) and check
//! every interleaving of the code as it stands.

#[cfg(not(loom))]
pub use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(loom)]
pub use loom::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

/// One turn of a bounded spin.
#[inline(always)]
pub fn spin_loop() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    // Tells the model that another thread has to move before this one can.
    #[cfg(loom)]
    loom::thread::yield_now();
}

/// A bounded queue of numbers for many producers and consumers; neither end ever waits.
#[cfg(not(loom))]
pub(crate) struct Queue(crossbeam::queue::ArrayQueue<u32>);

#[cfg(not(loom))]
impl Queue {
    /// Memory a number: itself, and its turn.
    pub(crate) const BYTES_EACH: usize = 16;

    /// Room for `capacity` numbers.
    pub(crate) fn new(capacity: usize) -> Self {
        Queue(crossbeam::queue::ArrayQueue::new(capacity.max(1)))
    }

    /// False: full.
    pub(crate) fn push(&self, value: u32) -> bool {
        self.0.push(value).is_ok()
    }

    /// The oldest number.
    pub(crate) fn pop(&self) -> Option<u32> {
        self.0.pop()
    }
}

/// The queue itself is crossbeam's and not under test; loom sees a lock with the same meaning.
#[cfg(loom)]
pub(crate) struct Queue(Mutex<std::collections::VecDeque<u32>>, usize);

#[cfg(loom)]
#[allow(missing_docs, clippy::unwrap_used)]
impl Queue {
    pub(crate) const BYTES_EACH: usize = 0;

    pub(crate) fn new(capacity: usize) -> Self {
        Queue(Mutex::new(Default::default()), capacity.max(1))
    }

    pub(crate) fn push(&self, value: u32) -> bool {
        let mut queue = self.0.lock().unwrap();
        let room = queue.len() < self.1;
        if room {
            queue.push_back(value);
        }
        room
    }

    pub(crate) fn pop(&self) -> Option<u32> {
        self.0.lock().unwrap().pop_front()
    }
}
