//! Longest-prefix match for readers: no locks, no bounds checks, many addresses at a time.
//!
//! In bulk a group of addresses goes down the trie level by level: while the memory of one is on its way to the
//! core, the others are worked on.
#![allow(unsafe_code)]

use super::{
    Address,
    node::{DENSE_PAIRS, Entry, SPARSE_HEADER, STRIDE, covering_positions, highest, rank},
};
use crate::RouteId;

/// Addresses in a group: enough to hide the last level of cache, few enough for their state to stay in the first.
const GROUP: usize = 16;

/// Words to which a view leads.
#[derive(Clone, Copy)]
struct Reader(*const u32);

impl Reader {
    /// # Safety
    /// The place belongs to a node of the view.
    #[inline(always)]
    unsafe fn word(self, place: u32) -> u32 {
        // SAFETY: nodes of a view are inside its piece of memory, and nobody writes to them.
        unsafe { *self.0.add(place as usize) }
    }

    /// # Safety
    /// As [`Self::word`], for two words.
    #[inline(always)]
    unsafe fn wide(self, place: u32) -> u64 {
        // SAFETY: as above.
        let wide = unsafe { self.0.add(place as usize).cast::<u64>().read_unaligned() };
        if cfg!(target_endian = "big") {
            wide.rotate_left(32)
        } else {
            wide
        }
    }

    /// Asks for the memory that the next step of this entry needs; anything but a node is no harm.
    #[inline(always)]
    fn prefetch(self, entry: Entry, slot: u32) {
        let offset = if entry.is_dense() {
            DENSE_PAIRS + 2 * slot
        } else {
            0
        };
        let place = if entry.is_node() {
            entry.place() + offset
        } else {
            0
        };
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch reads nothing and faults never.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.0.wrapping_add(place as usize).cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = place;
    }

    /// One level down from a node. `best` becomes the longest route passed; the entry given back is a node (go on),
    /// a route (the answer), or nothing (the answer is `best`).
    ///
    /// # Safety
    /// The entry is a node of the view.
    #[inline(always)]
    unsafe fn step<A: Address>(self, entry: Entry, key: &mut A, best: &mut u32) -> Entry {
        let place = entry.place();
        let slot = key.first_six();
        // SAFETY (all reads below): within the block of the node, whose layout `node` describes; indices come from
        // the bitmaps of the same block.
        if entry.is_dense() {
            // SAFETY: as said above.
            let pair = unsafe { self.wide(place + DENSE_PAIRS + 2 * slot) };
            let covering = (pair >> 32) as u32;
            *best = if covering == Entry::NOTHING.0 {
                *best
            } else {
                covering
            };
            *key = key.shifted_left(STRIDE);
            return Entry(pair as u32);
        }
        if entry.is_sparse() {
            // SAFETY: as said above.
            let (slots, inner) = unsafe { (self.wide(place), self.wide(place + 2)) };
            let covering = inner & covering_positions(slot);
            let taken = slots >> slot & 1 != 0;
            let inner_index = slots.count_ones() + rank(inner, highest(covering));
            let index = if taken { rank(slots, slot) } else { inner_index };
            let found = taken || covering != 0;
            // A node has one entry at least: reading the first is no harm.
            let index = if found { index } else { 0 };
            // SAFETY: as said above.
            let entry = Entry(unsafe { self.word(place + SPARSE_HEADER + index) });
            let entry = if found { entry } else { Entry::NOTHING };
            if entry.is_node() && covering != 0 {
                // SAFETY: as said above.
                *best = unsafe { self.word(place + SPARSE_HEADER + inner_index) };
            }
            *key = key.shifted_left(STRIDE);
            return entry;
        }
        // SAFETY: as said above.
        let count = unsafe { self.word(place) };
        let mut bits = A::default();
        for index in 0..A::WORDS {
            // SAFETY: as said above.
            bits = bits.or(A::from_word(index, unsafe { self.word(place + 1 + index) }));
        }
        if key.common_bits(bits) < count {
            return Entry::NOTHING;
        }
        *key = key.shifted_left(count);
        // SAFETY: as said above.
        Entry(unsafe { self.word(place + 1 + A::WORDS) })
    }
}

#[inline(always)]
fn answer(entry: Entry, best: u32) -> u32 {
    if entry == Entry::NOTHING { best } else { entry.0 }
}

/// # Safety
/// `base` and `root` belong to one view.
#[inline(always)]
unsafe fn one<A: Address>(base: *const u32, root: Entry, address: A) -> u32 {
    let reader = Reader(base);
    let (mut entry, mut key, mut best) = (root, address, Entry::NOTHING.0);
    while entry.is_node() {
        // SAFETY: the root and what its nodes lead to are the view's.
        entry = unsafe { reader.step(entry, &mut key, &mut best) };
    }
    answer(entry, best)
}

/// # Safety
/// As [`one`]; `addresses` and `routes` are equally long.
#[inline(always)]
unsafe fn many<A: Address>(base: *const u32, root: Entry, addresses: &[A], routes: &mut [RouteId]) {
    let reader = Reader(base);
    for (addresses, routes) in addresses.chunks(GROUP).zip(routes.chunks_mut(GROUP)) {
        let mut entries = [root; GROUP];
        let mut best = [Entry::NOTHING.0; GROUP];
        let mut keys = [A::default(); GROUP];
        keys[..addresses.len()].copy_from_slice(addresses);
        // Numbers of those that are not at their end yet.
        let mut walking: [u8; GROUP] = std::array::from_fn(|lane| lane as u8);
        let mut count = if root.is_node() { addresses.len() } else { 0 };
        while count > 0 {
            let mut next = 0;
            for index in 0..count {
                let lane = walking[index] as usize % GROUP;
                // SAFETY: only lanes whose entry is a node are in the list, and all nodes are the view's.
                let entry = unsafe { reader.step(entries[lane], &mut keys[lane], &mut best[lane]) };
                reader.prefetch(entry, keys[lane].first_six());
                entries[lane] = entry;
                walking[next] = lane as u8;
                next += usize::from(entry.is_node());
            }
            count = next;
        }
        for (lane, route) in routes.iter_mut().enumerate() {
            *route = RouteId(answer(entries[lane], best[lane]));
        }
    }
}

/// The same code for processors that count bits by one instruction, which is half the work of a level.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod counting {
    use super::{Address, Entry, RouteId};

    #[inline(always)]
    pub(super) fn available() -> bool {
        is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
    }

    /// # Safety
    /// As [`super::one`], and [`available`].
    #[target_feature(enable = "popcnt,lzcnt,bmi1,bmi2")]
    pub(super) unsafe fn one<A: Address>(base: *const u32, root: Entry, address: A) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { super::one(base, root, address) }
    }

    /// # Safety
    /// As [`super::many`], and [`available`].
    #[target_feature(enable = "popcnt,lzcnt,bmi1,bmi2")]
    pub(super) unsafe fn many<A: Address>(
        base: *const u32,
        root: Entry,
        addresses: &[A],
        routes: &mut [RouteId],
    ) {
        // SAFETY: the caller's promise.
        unsafe { super::many(base, root, addresses, routes) }
    }
}

/// The route of the longest prefix that holds the address, or [`Entry::NOTHING`].
///
/// # Safety
/// `base` is the start of a view's memory and `root` its root; the view lives.
#[inline]
pub(super) unsafe fn lookup<A: Address>(base: *const u32, root: Entry, address: A) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if counting::available() {
        // SAFETY: the caller's promise; the processor has the instructions.
        return unsafe { counting::one(base, root, address) };
    }
    // SAFETY: the caller's promise.
    unsafe { one(base, root, address) }
}

/// [`lookup`] of many; works on as many as the shorter slice holds.
///
/// # Safety
/// As [`lookup`].
#[inline]
pub(super) unsafe fn lookup_bulk<A: Address>(
    base: *const u32,
    root: Entry,
    addresses: &[A],
    routes: &mut [RouteId],
) {
    let count = addresses.len().min(routes.len());
    let (addresses, routes) = (&addresses[..count], &mut routes[..count]);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if counting::available() {
        // SAFETY: the caller's promise; the processor has the instructions.
        return unsafe { counting::many(base, root, addresses, routes) };
    }
    // SAFETY: the caller's promise.
    unsafe { many(base, root, addresses, routes) }
}
