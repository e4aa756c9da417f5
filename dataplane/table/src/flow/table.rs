//! The table itself: its memory, lookups, and publication of decisions.
#![allow(unsafe_code)]

use std::{fmt, sync::Arc};

use crossbeam::utils::CachePadded;

use super::{
    bucket::{Bucket, tag_of},
    direction::{Decided, Decision, Direction, FURTHER, Redecided},
    index::{DirectionIndex, SessionIndex},
    key::Key,
    pool::{Cache, Pool},
    tags::{prefetch, prefetch_to_write},
    tcp::{self, Seen, TcpState},
};
use crate::{
    id::WorkerId,
    memory::{FlatMemory, MemoryError, Pages, Region, Zeroable},
    rcu::Domain,
    stamps::Stamps,
    sync::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

/// Directions that ten buckets of ten hold when the table is full. At 56, one bucket in 36 overflows at a time; while
/// sessions come and go in a full table, entries that stay behind in overflow buckets make that one in ten.
const LOAD_OF_TEN: usize = 56;

/// Primary buckets an overflow bucket.
const OVERFLOW_SHARE: usize = 8;

/// Overflow buckets beyond the share of the buckets, for small tables.
const OVERFLOW_AT_LEAST: usize = if cfg!(loom) { 2 } else { 16 };

/// How many sessions a table can be made for.
const SESSIONS_MAX: u32 = 1 << 29;

/// Keys looked up between two passes; a burst.
const BLOCK: usize = 64;

/// Size and kind of a flow table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowConfig {
    /// Sessions it holds, both directions each.
    pub sessions: u32,
    /// Secret of the hash, another one at each start.
    pub seed: u64,
    /// Whether to ask for hugepages.
    pub hugepages: bool,
    /// How many workers will use it.
    pub workers: usize,
}

/// Why there is no table, or no place in it for a worker.
#[derive(Debug, thiserror::Error)]
pub enum FlowTableError {
    /// No memory.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A size that makes no sense.
    #[error("sessions = {sessions}: a flow table holds 1 to {SESSIONS_MAX} sessions; change `sessions`")]
    Sessions {
        /// The size asked for.
        sessions: u32,
    },
    /// A worker the table was not made for.
    #[error("worker {worker}: the flow table was made for {workers} workers")]
    NoSuchWorker {
        /// Its number.
        worker: WorkerId,
        /// How many there are.
        workers: usize,
    },
    /// Another thread is this worker already.
    #[error("worker {worker}: its part of the flow table is in use already; each worker takes it once")]
    WorkerTaken {
        /// Its number.
        worker: WorkerId,
    },
}

/// What of a session no hit needs.
#[derive(Default)]
#[repr(C, align(32))]
pub(super) struct Record {
    /// See `State`.
    pub(super) state: AtomicU32,
    /// Second of its first packet.
    pub(super) created: AtomicU32,
    /// Further dependencies, the initiator's first.
    further: [[AtomicU32; FURTHER]; 2],
}

// SAFETY: made of atomic integers.
unsafe impl Zeroable for Record {}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Record>() == 32);

/// A session's record says in two bits how it stands; the other bits count its lives, so that a listing notices when
/// a number has changed hands.
pub(super) mod state {
    pub const LIVE: u32 = 1;
    pub const LEAVING: u32 = 2;
    pub const MASK: u32 = 3;
    pub const LIFE: u32 = 4;

    pub fn is_live(state: u32) -> bool {
        state & MASK == LIVE
    }
}

impl Record {
    #[inline(always)]
    pub(super) fn further(&self, direction: DirectionIndex) -> &[AtomicU32; FURTHER] {
        &self.further[usize::from(!direction.is_initiator())]
    }
}

/// A worker's own counts; only it writes them.
#[derive(Default)]
pub(super) struct Counters {
    taken: AtomicBool,
    pub(super) created: AtomicU64,
    pub(super) removed: AtomicU64,
    pub(super) expired: AtomicU64,
}

pub(super) fn add_own(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

/// The sessions of one address family. See the [module](super).
pub struct FlowTable<K: Key> {
    /// Primary buckets, then overflow buckets.
    pub(super) buckets: FlatMemory<Bucket>,
    pub(super) primaries: u32,
    pub(super) directions: FlatMemory<Direction<K>>,
    pub(super) records: FlatMemory<Record>,
    pub(super) sessions: Pool,
    pub(super) overflow: Pool,
    pub(super) domain: Arc<Domain>,
    /// Where the next slice of a sweep begins.
    pub(super) cursor: CachePadded<AtomicU32>,
    pub(super) counters: Box<[CachePadded<Counters>]>,
    seed: u64,
    capacity: u32,
    bytes: usize,
    pages: Pages,
}

/// A worker's own part in a table: free numbers, and freed ones whose grace period is not over.
pub struct WorkerFlows {
    pub(super) worker: usize,
    pub(super) sessions: Cache,
    pub(super) overflow: Cache,
}

impl<K: Key> FlowTable<K> {
    /// Makes an empty table, all of its memory at once. Freed numbers are used again when a grace period of `domain`
    /// is over.
    pub fn new(config: &FlowConfig, domain: &Arc<Domain>) -> Result<Self, FlowTableError> {
        let FlowConfig {
            sessions,
            seed,
            hugepages,
            workers,
        } = *config;
        if !(1..=SESSIONS_MAX).contains(&sessions) {
            return Err(FlowTableError::Sessions { sessions });
        }
        let directions = 2 * sessions as usize;
        let primaries = (10 * directions).div_ceil(LOAD_OF_TEN);
        let overflow = primaries / OVERFLOW_SHARE + OVERFLOW_AT_LEAST;
        let numbers = Pool::room(sessions, workers);
        let overflow_numbers = Pool::room(overflow as u32, workers);
        let rooms = [
            Region::room_for::<Bucket>(primaries + overflow),
            Region::room_for::<Direction<K>>(directions),
            Region::room_for::<Record>(sessions as usize),
            Region::room_for::<AtomicU32>(numbers),
            Region::room_for::<AtomicU32>(overflow_numbers),
        ];
        let bytes = rooms
            .into_iter()
            .try_fold(0_usize, |sum, room| sum.checked_add(room?));
        let mut region = Region::new("flow table", bytes.unwrap_or(usize::MAX), hugepages)?;
        let sessions_pool = Pool::new(region.array(numbers), sessions, workers);
        let overflow_pool = Pool::new(region.array(overflow_numbers), overflow as u32, workers);
        Ok(FlowTable {
            buckets: region.array(primaries + overflow),
            primaries: primaries as u32,
            directions: region.array(directions),
            records: region.array(sessions as usize),
            bytes: region.bytes() + sessions_pool.heap_bytes() + overflow_pool.heap_bytes(),
            pages: region.pages(),
            sessions: sessions_pool,
            overflow: overflow_pool,
            domain: domain.clone(),
            cursor: CachePadded::new(AtomicU32::new(0)),
            counters: (0..workers)
                .map(|_| CachePadded::new(Counters::default()))
                .collect(),
            seed,
            capacity: sessions,
        })
    }

    /// A worker's own part; each worker takes it once and keeps it.
    pub fn worker(&self, worker: WorkerId) -> Result<WorkerFlows, FlowTableError> {
        let Some(counters) = self.counters.get(worker.index()) else {
            return Err(FlowTableError::NoSuchWorker {
                worker,
                workers: self.counters.len(),
            });
        };
        if counters.taken.swap(true, Ordering::AcqRel) {
            return Err(FlowTableError::WorkerTaken { worker });
        }
        Ok(WorkerFlows {
            worker: worker.index(),
            sessions: Cache::new(),
            overflow: Cache::new(),
        })
    }

    /// The key's hash, as lookups and insertion want it; its bits serve as a tunnel's entropy as well.
    #[inline(always)]
    pub fn hash(&self, key: &K) -> u64 {
        key.hash(self.seed)
    }

    /// Finds the direction that has this key.
    #[inline]
    pub fn lookup(&self, key: &K, hash: u64) -> DirectionIndex {
        let tag = tag_of(hash);
        let mut bucket = self.bucket(self.primary(hash));
        loop {
            let words = bucket.words();
            let mut matches = words.matches(tag);
            while matches != 0 {
                let direction = bucket.number(matches.trailing_zeros() as usize);
                if key.lies_in(&self.entry(direction).key) {
                    return direction;
                }
                matches &= matches - 1;
            }
            match words.link() {
                Some(overflow) => bucket = self.bucket(self.primaries + overflow),
                None => return DirectionIndex::NONE,
            }
        }
    }

    /// Finds the directions of a burst, in passes that each ask for the memory of the next: buckets, then directions.
    /// What was found is in the first level of cache afterwards.
    ///
    /// # Panics
    /// If the slices are not of one length.
    pub fn lookup_burst(&self, keys: &[K], hashes: &[u64], found: &mut [DirectionIndex]) {
        assert!(
            keys.len() == hashes.len() && keys.len() == found.len(),
            "a burst's arrays are of one length"
        );
        for ((keys, hashes), found) in keys
            .chunks(BLOCK)
            .zip(hashes.chunks(BLOCK))
            .zip(found.chunks_mut(BLOCK))
        {
            for hash in hashes {
                self.prefetch(*hash);
            }
            self.lookup_prefetched(keys, hashes, found);
        }
    }

    /// As [`lookup_burst`](Self::lookup_burst), after the memory was [asked for](Self::prefetch) key by key.
    ///
    /// # Panics
    /// If the slices are not of one length.
    pub fn lookup_prefetched(&self, keys: &[K], hashes: &[u64], found: &mut [DirectionIndex]) {
        assert!(
            keys.len() == hashes.len() && keys.len() == found.len(),
            "a burst's arrays are of one length"
        );
        for ((keys, hashes), found) in keys
            .chunks(BLOCK)
            .zip(hashes.chunks(BLOCK))
            .zip(found.chunks_mut(BLOCK))
        {
            // One bit a key whose first bucket does not settle it.
            let mut unsettled = 0u64;
            for (position, (hash, found)) in hashes.iter().zip(found.iter_mut()).enumerate() {
                let bucket = self.bucket(self.primary(*hash));
                let words = bucket.words();
                let matches = words.matches(tag_of(*hash));
                if matches == 0 {
                    *found = DirectionIndex::NONE;
                    unsettled |= u64::from(words.has_link()) << position;
                    continue;
                }
                *found = bucket.number(matches.trailing_zeros() as usize);
                self.prefetch_direction(*found);
            }
            for (position, ((key, hash), found)) in keys.iter().zip(hashes).zip(found.iter_mut()).enumerate()
            {
                let settled = if found.is_some() {
                    key.lies_in(&self.entry(*found).key)
                } else {
                    unsettled & 1 << position == 0
                };
                if !settled {
                    *found = self.lookup(key, *hash);
                }
            }
        }
    }

    /// Asks for the memory in which a key of this hash is looked up: best as soon as the hash is known, with other
    /// work to do before the lookup.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        prefetch(self.bucket(self.primary(hash)));
    }

    /// Asks for a direction's memory ahead of its use.
    #[inline(always)]
    fn prefetch_direction(&self, direction: DirectionIndex) {
        let direction = self.entry(direction);
        prefetch(direction);
        if size_of::<Direction<K>>() > 64 {
            prefetch(direction.second_line());
        }
    }

    /// Asks for the memory in which a direction's key lies.
    #[inline(always)]
    pub fn prefetch_key(&self, direction: DirectionIndex) {
        if let Some(direction) = self.get(direction) {
            prefetch(direction);
        }
    }

    /// Asks for the memory of a session that will be filled.
    #[inline(always)]
    pub(super) fn prefetch_to_fill(&self, session: SessionIndex) {
        prefetch_to_write(&self.records[session.index()]);
        for direction in [session.initiator(), session.reverse()] {
            let direction = self.entry(direction);
            prefetch_to_write(direction);
            if size_of::<Direction<K>>() > 64 {
                prefetch_to_write(direction.second_line());
            }
        }
    }

    /// Asks for all memory of a session ahead of its use.
    #[inline(always)]
    pub(super) fn prefetch_session(&self, session: SessionIndex) {
        prefetch(&self.records[session.index()]);
        self.prefetch_direction(session.initiator());
        self.prefetch_direction(session.reverse());
    }

    /// One direction.
    ///
    /// # Panics
    /// If no lookup or insertion of this table gave the number ([`DirectionIndex::NONE`] included).
    #[inline(always)]
    pub fn direction(&self, direction: DirectionIndex) -> &Direction<K> {
        &self.directions[direction.index()]
    }

    /// One direction; None for [`DirectionIndex::NONE`].
    #[inline(always)]
    pub fn get(&self, direction: DirectionIndex) -> Option<&Direction<K>> {
        self.directions.get(direction.index())
    }

    /// Whether nothing that the decision rests on has changed since it was made.
    #[inline(always)]
    pub fn is_fresh(&self, direction: DirectionIndex, decided: &Decided, stamps: &Stamps) -> bool {
        let stamp = decided.stamp();
        stamp != 0
            && stamp >= stamps.get(decided.route())
            && (!decided.has_further() || self.further_is_fresh(direction, decided, stamps))
    }

    #[inline(never)]
    fn further_is_fresh(&self, direction: DirectionIndex, decided: &Decided, stamps: &Stamps) -> bool {
        let further = self.further(direction);
        further
            .iter()
            .all(|object| stamps.get(*object) <= decided.stamp())
            && self.direction(direction).is_still(Direction::<K>::word(decided))
    }

    /// What a direction's decision rests on besides its route.
    pub fn further(&self, direction: DirectionIndex) -> [u32; FURTHER] {
        let places = self.records[direction.session().index()].further(direction);
        places.each_ref().map(|place| place.load(Ordering::Relaxed))
    }

    /// Publishes another decision for a direction. What readers see is the old decision whole, or the new one whole;
    /// in between they find it out of date.
    pub fn redecide(&self, direction: DirectionIndex, decision: &Decision) -> Redecided {
        let further = self.records[direction.session().index()].further(direction);
        self.direction(direction).redecide(decision, further)
    }

    /// Says that the decision that was read holds in snapshot `stamp` as well. False: it was decided anew meanwhile,
    /// and stays as that says.
    #[inline]
    pub fn restamp(&self, direction: DirectionIndex, decided: &Decided, stamp: u64) -> bool {
        self.direction(direction).restamp(decided, stamp)
    }

    /// Notes the flags of a TCP packet; needed for packets with SYN, FIN or RST only.
    pub fn observe_tcp(&self, direction: DirectionIndex, flags: u8) {
        if self.direction(direction).observe(flags) == Seen::Begins {
            self.direction(direction.peer()).tcp.store(0, Ordering::Relaxed);
        }
    }

    /// How far a TCP session is.
    pub fn tcp_state(&self, session: SessionIndex) -> TcpState {
        tcp::state(
            &self.direction(session.initiator()).tcp,
            &self.direction(session.reverse()).tcp,
        )
    }

    /// Sessions in the table now. Counts of several workers are not of one moment.
    pub fn len(&self) -> u64 {
        let removed = self.sum(|counters| &counters.removed);
        self.created().saturating_sub(removed)
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No session was ever held in a place at or above this: what [`sweep`](Self::sweep) goes through.
    pub fn used(&self) -> u32 {
        self.sessions.mark()
    }

    /// Sessions that it has room for.
    pub fn capacity(&self) -> u64 {
        u64::from(self.capacity)
    }

    /// Sessions put in since the start.
    pub fn created(&self) -> u64 {
        self.sum(|counters| &counters.created)
    }

    /// Sessions that were idle for too long, since the start.
    pub fn expired(&self) -> u64 {
        self.sum(|counters| &counters.expired)
    }

    fn sum(&self, of: impl Fn(&Counters) -> &AtomicU64) -> u64 {
        self.counters
            .iter()
            .map(|counters| of(counters).load(Ordering::Relaxed))
            .sum()
    }

    /// What it lies in: ordinary memory if hugepages were asked for and there were not enough.
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The primary bucket of a hash: its high half, scaled, so that the number of buckets may be any.
    #[inline(always)]
    pub(super) fn primary(&self, hash: u64) -> u32 {
        (((hash >> 32) * u64::from(self.primaries)) >> 32) as u32
    }

    #[inline(always)]
    pub(super) fn bucket(&self, bucket: u32) -> &Bucket {
        &self.buckets[bucket as usize]
    }

    /// A direction whose number came from a bucket.
    #[inline(always)]
    pub(super) fn entry(&self, direction: DirectionIndex) -> &Direction<K> {
        &self.directions[direction.index()]
    }
}

impl<K: Key> fmt::Debug for FlowTable<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowTable")
            .field("sessions", &self.len())
            .field("capacity", &self.capacity)
            .field("pages", &self.pages())
            .finish_non_exhaustive()
    }
}
