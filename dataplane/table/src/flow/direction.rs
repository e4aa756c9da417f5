//! One direction of a session: all that a packet's hit needs, in one cache line (two for IPv6).
//!
//! A decision (action, ingress, dependencies) is published under its stamp like under a sequence lock: the writer
//! makes the stamp odd, writes, and sets the new stamp last; a reader takes what it read only if the stamp was even
//! and the same before and after. Nobody waits: a reader that meets a writer decides for its packet alone, and a
//! second writer leaves the first one's decision alone.
#![allow(unsafe_code)]

use super::{key::Key, tcp};
use crate::{
    memory::Zeroable,
    stamps::NO_OBJECT,
    sync::{AtomicU32, AtomicU64, Ordering, fence},
};

/// How many dependencies a decision can have besides its route.
pub const FURTHER: usize = 3;

/// Set in the route's word: the session's record holds further dependencies.
const HAS_FURTHER: u32 = 1 << 31;

/// What was decided for a direction, and from what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do with its packets; the pipeline's own code.
    pub action: u64,
    /// By which way its packets must arrive; the pipeline's own code.
    pub ingress: u32,
    /// The object that it was decided from, below 2^31; [`NO_OBJECT`]: none.
    pub route: u32,
    /// What else it was decided from: routes of a leak chain, the route after NAT, policies; [`NO_OBJECT`]: none.
    pub further: [u32; FURTHER],
    /// Number of the snapshot that decided, at least 1 and below 2^48.
    pub stamp: u64,
}

impl Decision {
    /// A decision that depends on one route (or on [`NO_OBJECT`]).
    pub const fn new(action: u64, ingress: u32, route: u32, stamp: u64) -> Self {
        Decision {
            action,
            ingress,
            route,
            further: [NO_OBJECT; FURTHER],
            stamp,
        }
    }

    #[inline(always)]
    fn route_word(&self) -> u32 {
        const { assert!(NO_OBJECT == u32::MAX) };
        let further = self.further.iter().fold(u32::MAX, |all, object| all & object) != NO_OBJECT;
        (self.route & !HAS_FURTHER) | if further { HAS_FURTHER } else { 0 }
    }
}

/// What a direction says at one moment: action, ingress and route belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What to do with its packets.
    pub action: u64,
    /// By which way its packets must arrive.
    pub ingress: u32,
    route: u32,
    word: u64,
}

impl Decided {
    /// The route (or other object) that it was decided from.
    #[inline(always)]
    pub fn route(&self) -> u32 {
        match self.route & !HAS_FURTHER {
            // NO_OBJECT without its top bit.
            0x7fff_ffff => NO_OBJECT,
            route => route,
        }
    }

    /// Number of the snapshot that decided. 0: it is being decided anew right now, so this is out of date.
    #[inline(always)]
    pub fn stamp(&self) -> u64 {
        stamp_of(self.word)
    }

    /// Whether it was decided from more than its route.
    #[inline(always)]
    pub fn has_further(&self) -> bool {
        self.route & HAS_FURTHER != 0
    }
}

/// What became of a new decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redecided {
    /// It is in force for every worker.
    Published,
    /// A decision of a newer snapshot is there already; this one was for its packet alone.
    Newer,
    /// Another worker is writing one at this moment; this one was for its packet alone.
    Busy,
}

// The stamp's word: 48 bits of snapshot number, 16 of version; an odd version: being written.
const VERSION_BITS: u32 = 16;
const VERSION_MASK: u64 = (1 << VERSION_BITS) - 1;
const WRITING: u64 = 1;

#[inline(always)]
fn stamp_of(word: u64) -> u64 {
    if word & WRITING != 0 {
        0
    } else {
        word >> VERSION_BITS
    }
}

fn word_of(stamp: u64, version: u64) -> u64 {
    debug_assert!(
        stamp > 0 && stamp >> (64 - VERSION_BITS) == 0,
        "stamp {stamp} is not of 48 bits"
    );
    stamp << VERSION_BITS | (version & VERSION_MASK & !WRITING)
}

/// One direction. Everything that changes is atomic; see the module for what belongs together.
#[repr(C, align(64))]
pub struct Direction<K: Key> {
    pub(super) key: K::Cells,
    action: AtomicU64,
    stamp: AtomicU64,
    ingress: AtomicU32,
    route: AtomicU32,
    packets: AtomicU64,
    bytes: AtomicU64,
    last_seen: AtomicU32,
    pub(super) tcp: AtomicU32,
}

impl<K: Key> Default for Direction<K> {
    fn default() -> Self {
        Direction {
            key: K::Cells::default(),
            action: AtomicU64::default(),
            stamp: AtomicU64::default(),
            ingress: AtomicU32::default(),
            route: AtomicU32::default(),
            packets: AtomicU64::default(),
            bytes: AtomicU64::default(),
            last_seen: AtomicU32::default(),
            tcp: AtomicU32::default(),
        }
    }
}

// SAFETY: made of Zeroable values only, and nothing is dropped.
unsafe impl<K: Key> Zeroable for Direction<K> {}

#[cfg(not(loom))]
const _: () = {
    use super::key::{Key4, Key6};
    assert!(size_of::<Direction<Key4>>() == 64);
    assert!(size_of::<Direction<Key6>>() == 128);
    // A hit on IPv6 decides by its first line alone.
    assert!(std::mem::offset_of!(Direction<Key6>, packets) == 64);
};

impl<K: Key> Direction<K> {
    /// Its key.
    #[inline(always)]
    pub fn key(&self) -> K {
        K::load(&self.key)
    }

    /// Its decision, whole.
    #[inline(always)]
    pub fn decided(&self) -> Decided {
        let before = self.stamp.load(Ordering::Acquire);
        let action = self.action.load(Ordering::Relaxed);
        let ingress = self.ingress.load(Ordering::Relaxed);
        let route = self.route.load(Ordering::Relaxed);
        let word = if self.is_still(before) { before } else { WRITING };
        Decided {
            action,
            ingress,
            route,
            word,
        }
    }

    /// Whether nothing was written since the stamp's word was read.
    #[inline(always)]
    pub(super) fn is_still(&self, word: u64) -> bool {
        fence(Ordering::Acquire);
        self.stamp.load(Ordering::Relaxed) == word
    }

    /// What to do with its packets; alone it says nothing about freshness, see [`Self::decided`].
    #[inline(always)]
    pub fn action(&self) -> u64 {
        self.action.load(Ordering::Relaxed)
    }

    /// By which way its packets must arrive.
    #[inline(always)]
    pub fn ingress(&self) -> u32 {
        self.ingress.load(Ordering::Relaxed)
    }

    /// Number of the snapshot that decided; 0: being decided anew.
    #[inline(always)]
    pub fn stamp(&self) -> u64 {
        stamp_of(self.stamp.load(Ordering::Acquire))
    }

    /// Counts packets that took this direction. Workers that count the same direction at the same moment may lose
    /// each other's counts: flow counters are for operators, port counters are exact.
    #[inline(always)]
    pub fn count(&self, packets: u64, bytes: u64, now: u32) {
        self.packets.store(
            self.packets.load(Ordering::Relaxed).wrapping_add(packets),
            Ordering::Relaxed,
        );
        self.bytes.store(
            self.bytes.load(Ordering::Relaxed).wrapping_add(bytes),
            Ordering::Relaxed,
        );
        if self.last_seen.load(Ordering::Relaxed) != now {
            self.last_seen.store(now, Ordering::Relaxed);
        }
    }

    /// Packets counted.
    pub fn packets(&self) -> u64 {
        self.packets.load(Ordering::Relaxed)
    }

    /// Bytes counted.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Second of the last packet.
    #[inline(always)]
    pub fn last_seen(&self) -> u32 {
        self.last_seen.load(Ordering::Relaxed)
    }

    /// Where its counters begin: for IPv6 its second cache line.
    #[inline(always)]
    pub(super) fn second_line(&self) -> &AtomicU64 {
        &self.packets
    }

    /// Notes the flags of a TCP packet; needed for SYN, FIN and RST only.
    pub(super) fn observe(&self, flags: u8) -> tcp::Seen {
        tcp::observe(&self.tcp, flags)
    }

    /// Fills a direction that no reader can find.
    #[inline(always)]
    pub(super) fn fill(&self, key: &K, decision: &Decision, now: u32) {
        key.store(&self.key);
        self.action.store(decision.action, Ordering::Relaxed);
        self.ingress.store(decision.ingress, Ordering::Relaxed);
        self.route.store(decision.route_word(), Ordering::Relaxed);
        self.stamp.store(word_of(decision.stamp, 0), Ordering::Relaxed);
        self.packets.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.last_seen.store(now, Ordering::Relaxed);
        self.tcp.store(0, Ordering::Relaxed);
    }

    /// Publishes a new decision; `further` is where its session keeps this direction's further dependencies.
    pub(super) fn redecide(&self, decision: &Decision, further: &[AtomicU32; FURTHER]) -> Redecided {
        let old = self.stamp.load(Ordering::Relaxed);
        if old & WRITING != 0 {
            return Redecided::Busy;
        }
        if stamp_of(old) > decision.stamp {
            return Redecided::Newer;
        }
        if self
            .stamp
            .compare_exchange(old, old | WRITING, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            return Redecided::Busy;
        }
        // No reader that sees one of these stores may see the old stamp after them.
        fence(Ordering::Release);
        self.action.store(decision.action, Ordering::Relaxed);
        self.ingress.store(decision.ingress, Ordering::Relaxed);
        self.route.store(decision.route_word(), Ordering::Relaxed);
        for (place, object) in further.iter().zip(decision.further) {
            place.store(object, Ordering::Relaxed);
        }
        self.stamp.store(
            word_of(decision.stamp, (old & VERSION_MASK) + 2),
            Ordering::Release,
        );
        Redecided::Published
    }

    /// Says that what was read still holds in snapshot `stamp`. False: it was decided anew meanwhile.
    #[inline]
    pub(super) fn restamp(&self, decided: &Decided, stamp: u64) -> bool {
        if decided.word & WRITING != 0 || stamp < decided.stamp() {
            return false;
        }
        let word = word_of(stamp, decided.word & VERSION_MASK);
        self.stamp
            .compare_exchange(decided.word, word, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// The stamp's word of a decision, for [`Self::is_still`].
    #[inline(always)]
    pub(super) fn word(decided: &Decided) -> u64 {
        decided.word
    }
}
