//! Read-copy-update by quiescent states: readers never wait, and what a writer replaced is freed only when no reader
//! can still be using it.
//!
//! A [`Reader`] (one a worker) says at each burst boundary that it holds nothing: [`Reader::quiescent`], one load and
//! seldom a store. A writer unlinks something, calls [`Domain::advance`], and may free or reuse it once
//! [`Domain::grace_passed`] for that epoch. The borrow checker holds the readers to the rule: what
//! [`Published::load`] returns borrows the reader, and `quiescent` needs the reader for itself.
//!
//! Why it is right: a reader that has reached epoch e loaded it with Acquire from the writer that advanced to e, and
//! so sees the unlinking that came before; what it read earlier was read before its Release store of e. A reader that
//! comes online has seen no epoch, so there a full fence on both sides decides: either the writer sees the reader, or
//! the reader sees the unlinking. (M. Desnoyers et al., User-level implementations of read-copy update, 2012; the
//! quiescent-state variant.)
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    collections::VecDeque,
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use crossbeam::utils::CachePadded;

use crate::sync::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering, fence, spin_loop};

/// How many readers a domain has room for.
pub const MAX_READERS: usize = if cfg!(loom) { 3 } else { 64 };

/// The epoch of a slot whose reader holds nothing and will look again before it does.
const OFFLINE: u64 = u64::MAX;

/// Readers and writers that follow each other's epochs.
pub struct Domain {
    /// Number of the current epoch, from 1.
    epoch: CachePadded<AtomicU64>,
    /// A lower bound of what every reader has reached, so that most questions need no look at the slots.
    safe: CachePadded<AtomicU64>,
    /// Slots at and above this were never used.
    slots_used: AtomicUsize,
    slots: Box<[CachePadded<Slot>]>,
    /// What a writer that went away could not free yet; freed with the domain, when no reader is left.
    orphans: Mutex<Vec<Box<dyn Send>>>,
}

struct Slot {
    /// The epoch that its reader has reached, or OFFLINE.
    epoch: AtomicU64,
    taken: AtomicBool,
}

/// Why a reader was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The slot's number is too high.
    #[error("reader {slot}: a domain has {MAX_READERS} readers at most; run fewer workers")]
    NoSuchSlot {
        /// The number asked for.
        slot: usize,
    },
    /// Another reader has the slot.
    #[error("reader {slot}: the slot is taken by another reader; give each worker a number of its own")]
    Taken {
        /// The number asked for.
        slot: usize,
    },
}

/// Readers that did not come round in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "readers {readers:?} have not reached epoch {epoch} yet: they are stuck in a driver or not scheduled"
)]
pub struct Late {
    /// The epoch that was waited for.
    pub epoch: u64,
    /// Slots of the late readers.
    pub readers: Vec<usize>,
}

impl Domain {
    /// A domain and its only writer.
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> (Arc<Domain>, Writer) {
        let slot = || Slot {
            epoch: AtomicU64::new(OFFLINE),
            taken: AtomicBool::new(false),
        };
        let domain = Arc::new(Domain {
            epoch: CachePadded::new(AtomicU64::new(1)),
            safe: CachePadded::new(AtomicU64::new(0)),
            slots_used: AtomicUsize::new(0),
            slots: (0..MAX_READERS).map(|_| CachePadded::new(slot())).collect(),
            orphans: Mutex::new(Vec::new()),
        });
        (
            domain.clone(),
            Writer {
                domain,
                retired: VecDeque::new(),
            },
        )
    }

    /// Makes a reader in this slot (a worker's number), online.
    pub fn register(self: &Arc<Self>, slot: usize) -> Result<Reader, RegisterError> {
        let entry = self.slots.get(slot).ok_or(RegisterError::NoSuchSlot { slot })?;
        if entry.taken.swap(true, Ordering::AcqRel) {
            return Err(RegisterError::Taken { slot });
        }
        self.slots_used.fetch_max(slot + 1, Ordering::AcqRel);
        let mut reader = Reader {
            domain: self.clone(),
            slot,
            seen: OFFLINE,
            not_sync: PhantomData,
        };
        reader.come_online();
        Ok(reader)
    }

    /// Begins a new epoch and returns its number: what was unlinked before this call may be freed or reused when
    /// every reader has reached it. Any thread.
    pub fn advance(&self) -> u64 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The current epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Whether every reader that was online when `epoch` began has been quiescent since. Any thread; never waits.
    #[inline]
    pub fn grace_passed(&self, epoch: u64) -> bool {
        self.safe.load(Ordering::Acquire) >= epoch || self.safe_epoch() >= epoch
    }

    /// The epoch that every reader has reached. Any thread; never waits.
    pub fn safe_epoch(&self) -> u64 {
        let mut safe = self.epoch.load(Ordering::Acquire);
        // Pairs with the fence of `come_online`.
        fence(Ordering::SeqCst);
        let used = self.slots_used.load(Ordering::Acquire);
        for slot in &self.slots[..used] {
            safe = safe.min(slot.epoch.load(Ordering::Acquire));
        }
        self.safe.fetch_max(safe, Ordering::AcqRel).max(safe)
    }

    /// Slots of the readers that are online and have not reached `epoch`.
    pub fn lagging(&self, epoch: u64) -> Vec<usize> {
        fence(Ordering::SeqCst);
        let used = self.slots_used.load(Ordering::Acquire);
        (0..used)
            .filter(|slot| self.slots[*slot].epoch.load(Ordering::Acquire) < epoch)
            .collect()
    }
}

impl fmt::Debug for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain")
            .field("epoch", &self.epoch())
            .finish_non_exhaustive()
    }
}

/// A worker's side of a domain. Goes with its thread: it can be sent there, but not shared.
pub struct Reader {
    domain: Arc<Domain>,
    slot: usize,
    /// What the slot says.
    seen: u64,
    not_sync: PhantomData<Cell<()>>,
}

impl Reader {
    /// Says that this reader holds nothing it read before; to be called at each burst boundary.
    #[inline(always)]
    pub fn quiescent(&mut self) {
        let epoch = self.domain.epoch.load(Ordering::Acquire);
        if epoch != self.seen {
            self.seen = epoch;
            self.domain.slots[self.slot].epoch.store(epoch, Ordering::Release);
        }
    }

    /// Nobody waits for this reader until the guard is dropped; for sleeps and calls that may take long.
    #[must_use = "the reader is online again as soon as the guard is dropped"]
    pub fn offline(&mut self) -> Offline<'_> {
        self.domain.slots[self.slot]
            .epoch
            .store(OFFLINE, Ordering::Release);
        Offline { reader: self }
    }

    /// Its slot.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Its domain.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// The epoch that every reader has reached.
    pub fn safe_epoch(&self) -> u64 {
        self.domain.safe_epoch()
    }

    fn come_online(&mut self) {
        self.seen = self.domain.epoch.load(Ordering::Acquire);
        self.domain.slots[self.slot]
            .epoch
            .store(self.seen, Ordering::Release);
        // Either a writer that looks at the slots after this sees the reader, or the reader sees what that writer
        // unlinked. Pairs with the fence of `safe_epoch`.
        fence(Ordering::SeqCst);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let slot = &self.domain.slots[self.slot];
        slot.epoch.store(OFFLINE, Ordering::Release);
        slot.taken.store(false, Ordering::Release);
    }
}

/// While it lives, its reader holds nothing and delays nobody.
pub struct Offline<'a> {
    reader: &'a mut Reader,
}

impl Drop for Offline<'_> {
    fn drop(&mut self) {
        self.reader.come_online();
    }
}

/// A value that readers see whole, as one writer publishes it.
pub struct Published<T> {
    /// From `Arc::into_raw`; never null.
    current: AtomicPtr<T>,
    domain: Arc<Domain>,
    owns: PhantomData<Arc<T>>,
}

// SAFETY: a Published hands out &T to any thread and drops Arc<T> on any: what Arc<T> itself needs.
unsafe impl<T: Send + Sync> Send for Published<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Published<T> {}

impl<T: Send + Sync + 'static> Published<T> {
    /// Readers of `domain` see `value` until another is published.
    pub fn new(domain: &Arc<Domain>, value: Arc<T>) -> Self {
        Published {
            current: AtomicPtr::new(Arc::into_raw(value).cast_mut()),
            domain: domain.clone(),
            owns: PhantomData,
        }
    }

    /// What was published last, valid until the reader's next quiescent state.
    ///
    /// # Panics
    /// If the reader is of another domain: nothing would keep the value alive.
    #[inline(always)]
    pub fn load<'a>(&'a self, reader: &'a Reader) -> &'a T {
        assert!(
            Arc::ptr_eq(&self.domain, &reader.domain),
            "reader and published value are of different domains"
        );
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: `current` came from Arc::into_raw and is given up only by `Writer::publish`, which keeps it until
        // each reader of this domain that is online has been quiescent, and by Drop. The reader is online (Offline
        // borrows it mutably) and cannot be quiescent or dropped, nor self be dropped, while 'a lives.
        unsafe { &*current }
    }
}

impl<T> Drop for Published<T> {
    fn drop(&mut self) {
        // SAFETY: from Arc::into_raw, given up only here; every &T of `load` borrowed self and is gone.
        drop(unsafe { Arc::from_raw(self.current.load(Ordering::Acquire)) });
    }
}

/// The only writer of a domain: publishes, keeps what was replaced until its grace period is over, and frees it on
/// its own thread.
pub struct Writer {
    domain: Arc<Domain>,
    /// Oldest first, each with the epoch that all readers must reach.
    retired: VecDeque<(u64, Box<dyn Send>)>,
}

impl Writer {
    /// Its domain.
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Replaces the published value. Returns the epoch in which every reader sees the new one.
    ///
    /// # Panics
    /// If the value is of another domain.
    pub fn publish<T: Send + Sync + 'static>(&mut self, published: &Published<T>, value: Arc<T>) -> u64 {
        assert!(
            Arc::ptr_eq(&self.domain, &published.domain),
            "writer and published value are of different domains"
        );
        let replaced = published
            .current
            .swap(Arc::into_raw(value).cast_mut(), Ordering::AcqRel);
        // SAFETY: from Arc::into_raw, and nobody else gives it up: a domain has one writer, which is borrowed here.
        let replaced = unsafe { Arc::from_raw(replaced.cast_const()) };
        self.retire(replaced)
    }

    /// Drops `value`, which readers can no longer find, when the grace period is over. Returns its epoch.
    pub fn retire<T: Send + 'static>(&mut self, value: T) -> u64 {
        let epoch = self.domain.advance();
        self.retired.push_back((epoch, Box::new(value)));
        epoch
    }

    /// Drops what no reader can be using any more. Returns how many values still wait.
    pub fn collect(&mut self) -> usize {
        if !self.retired.is_empty() {
            let safe = self.domain.safe_epoch();
            while self.retired.front().is_some_and(|(epoch, _)| *epoch <= safe) {
                self.retired.pop_front();
            }
        }
        self.retired.len()
    }

    /// Waits until each reader has been quiescent after this call, `timeout` at most.
    pub fn synchronize(&self, timeout: Duration) -> Result<(), Late> {
        self.wait(self.domain.advance(), timeout)
    }

    /// Waits until every reader has reached `epoch`, `timeout` at most.
    pub fn wait(&self, epoch: u64, timeout: Duration) -> Result<(), Late> {
        let start = Instant::now();
        let mut turns = 0u32;
        loop {
            if self.domain.grace_passed(epoch) {
                return Ok(());
            }
            if start.elapsed() >= timeout {
                let readers = self.domain.lagging(epoch);
                return if readers.is_empty() {
                    Ok(())
                } else {
                    Err(Late { epoch, readers })
                };
            }
            // A burst takes microseconds; past that the readers' CPUs may be wanted by this very thread.
            turns += 1;
            if turns < 1000 {
                spin_loop();
            } else {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
    }

    /// Slots of the readers that have not reached `epoch`.
    pub fn lagging(&self, epoch: u64) -> Vec<usize> {
        self.domain.lagging(epoch)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.collect();
        if !self.retired.is_empty() {
            // A poisoned lock means that another drop panicked; the list is whole all the same.
            let mut orphans = self
                .domain
                .orphans
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            orphans.extend(self.retired.drain(..).map(|(_, value)| value));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use super::*;

    /// Counts how many of its kind were dropped.
    struct Counted(Arc<AtomicUsize>);

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn counted() -> (Arc<AtomicUsize>, impl Fn() -> Arc<Counted>) {
        let drops = Arc::new(AtomicUsize::new(0));
        let counter = drops.clone();
        (drops, move || Arc::new(Counted(counter.clone())))
    }

    #[test]
    fn a_replaced_value_is_freed_when_the_last_reader_was_quiescent() {
        let (domain, mut writer) = Domain::new();
        let (drops, value) = counted();
        let mut readers = [domain.register(0).unwrap(), domain.register(5).unwrap()];
        let published = Published::new(&domain, value());
        let epoch = writer.publish(&published, value());
        assert_eq!((writer.collect(), drops.load(SeqCst)), (1, 0));
        assert_eq!(writer.lagging(epoch), [0, 5]);
        readers[1].quiescent();
        assert_eq!((writer.collect(), drops.load(SeqCst)), (1, 0));
        assert_eq!(writer.lagging(epoch), [0]);
        readers[0].quiescent();
        assert_eq!((writer.collect(), drops.load(SeqCst)), (0, 1));
        assert!(writer.lagging(epoch).is_empty());
        drop(published);
        assert_eq!(drops.load(SeqCst), 2);
    }

    #[test]
    fn a_quiescent_state_before_the_change_does_not_count() {
        let (domain, mut writer) = Domain::new();
        let (drops, value) = counted();
        let mut reader = domain.register(0).unwrap();
        let published = Published::new(&domain, value());
        reader.quiescent();
        reader.quiescent();
        let epoch = writer.publish(&published, value());
        assert!(!domain.grace_passed(epoch));
        assert_eq!((writer.collect(), drops.load(SeqCst)), (1, 0));
    }

    #[test]
    fn late_readers_are_named() {
        let (domain, writer) = Domain::new();
        let mut early = domain.register(2).unwrap();
        let _late = domain.register(3).unwrap();
        let late = writer.synchronize(Duration::ZERO).unwrap_err();
        assert_eq!(late.readers, [2, 3]);
        early.quiescent();
        let late = writer.wait(late.epoch, Duration::from_millis(2)).unwrap_err();
        assert_eq!(late.readers, [3]);
        assert!(
            late.to_string()
                .starts_with("readers [3] have not reached epoch 2"),
            "{late}"
        );
    }

    #[test]
    fn readers_that_sleep_or_are_gone_delay_nobody() {
        let (domain, writer) = Domain::new();
        let mut reader = domain.register(0).unwrap();
        let asleep = reader.offline();
        assert_eq!(writer.synchronize(Duration::ZERO), Ok(()));
        drop(asleep);
        assert!(writer.synchronize(Duration::ZERO).is_err());
        drop(reader);
        assert_eq!(writer.synchronize(Duration::ZERO), Ok(()));
    }

    #[test]
    fn a_slot_has_one_reader_at_a_time() {
        let (domain, _writer) = Domain::new();
        let reader = domain.register(7).unwrap();
        assert_eq!(domain.register(7).err(), Some(RegisterError::Taken { slot: 7 }));
        assert_eq!(
            domain.register(MAX_READERS).err(),
            Some(RegisterError::NoSuchSlot { slot: MAX_READERS })
        );
        drop(reader);
        assert_eq!(domain.register(7).unwrap().slot(), 7);
    }

    #[test]
    fn what_a_writer_leaves_behind_is_freed_with_the_domain() {
        let (domain, mut writer) = Domain::new();
        let (drops, value) = counted();
        let reader = domain.register(0).unwrap();
        writer.retire(value());
        drop(writer);
        assert_eq!(drops.load(SeqCst), 0);
        drop(reader);
        drop(domain);
        assert_eq!(drops.load(SeqCst), 1);
    }

    #[test]
    #[should_panic(expected = "different domains")]
    fn a_reader_of_another_domain_is_refused() {
        let (domain, _writer) = Domain::new();
        let (other, _other_writer) = Domain::new();
        let published = Published::new(&domain, Arc::new(1));
        published.load(&other.register(0).unwrap());
    }

    #[test]
    fn readers_under_way_see_values_in_order_and_none_that_was_freed() {
        /// A value that is no more when it is dropped.
        struct Canary(u64, std::sync::atomic::AtomicU64);
        impl Drop for Canary {
            fn drop(&mut self) {
                self.1.store(0, SeqCst);
            }
        }
        let canary = |number: u64| Arc::new(Canary(number, std::sync::atomic::AtomicU64::new(!number)));
        const LAST: u64 = 20_000;
        let (domain, mut writer) = Domain::new();
        let published = Published::new(&domain, canary(1));
        std::thread::scope(|scope| {
            for slot in 0..2 {
                let (domain, published) = (&domain, &published);
                scope.spawn(move || {
                    let mut reader = domain.register(slot).unwrap();
                    let mut last = 0;
                    let mut turns = 0u32;
                    while last < LAST {
                        let value = published.load(&reader);
                        assert!(value.0 >= last);
                        last = value.0;
                        assert_eq!(value.1.load(SeqCst), !last);
                        turns += 1;
                        if turns & 63 == 0 {
                            drop(reader.offline());
                        } else {
                            reader.quiescent();
                        }
                    }
                });
            }
            for number in 2..=LAST {
                writer.publish(&published, canary(number));
                writer.collect();
            }
        });
        assert_eq!(writer.collect(), 0);
    }
}
