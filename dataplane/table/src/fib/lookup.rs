//! Longest-prefix match for readers: no locks, no bounds checks, many addresses at a time.
//!
//! In bulk a group of addresses goes down the trie level by level: while the memory of one is on its way to the
//! core, the others are worked on.
#![allow(unsafe_code)]

use std::hint::select_unpredictable;

use super::{
    Address,
    node::{DENSE_PAIRS, Entry, SPARSE_HEADER, STRIDE, covering_positions, highest, rank},
};
use crate::RouteId;

/// Addresses in a group: enough to hide the last level of cache, few enough for their state to stay in the first.
const GROUP: usize = 32;

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

    /// A reader that begins at a node.
    #[inline(always)]
    fn at(self, place: u32) -> Reader {
        Reader(self.0.wrapping_add(place as usize))
    }

    /// Asks for the memory of a place.
    #[inline(always)]
    fn prefetch_place(self, place: u32) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: a prefetch reads nothing and never faults.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.at(place).0.cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = place;
    }

    /// Asks for the memory that the lane's next step needs; if there is none, for some that is at hand.
    #[inline(always)]
    fn prefetch<A: Address>(self, lane: &Lane<A>) {
        let pair = DENSE_PAIRS + 2 * lane.key.first_six();
        let offset = select_unpredictable(lane.entry.is_dense(), pair, 0);
        self.prefetch_place(select_unpredictable(
            lane.entry.is_node(),
            lane.entry.place() + offset,
            0,
        ));
    }

    /// One level down from a dense node.
    ///
    /// # Safety
    /// The entry is a dense node of the view.
    #[inline(always)]
    unsafe fn step_dense<A: Address>(self, lane: &mut Lane<A>) {
        let place = lane.entry.place() + DENSE_PAIRS + 2 * lane.key.first_six();
        // SAFETY: a dense node has 64 pairs.
        let pair = unsafe { self.wide(place) };
        lane.best = covering_or(pair, lane.best);
        lane.key = lane.key.shifted_left(STRIDE);
        lane.entry = Entry(pair as u32);
    }

    /// Looks a slot up in the bitmaps of the sparse node that the reader begins at. Indices of what is not there
    /// are 0: a node has one entry at least, and reading it is no harm.
    ///
    /// # Safety
    /// The reader begins at a sparse node.
    #[inline(always)]
    unsafe fn find(self, slot: u32) -> Found {
        // SAFETY: the header of the node.
        let (slots, inner) = unsafe { (self.wide(0), self.wide(2)) };
        let covering = inner & covering_positions(slot);
        let taken = slots >> slot & 1 != 0;
        let covered = covering != 0;
        let inner_index = slots.count_ones() + rank(inner, highest(covering));
        Found {
            taken,
            covered,
            slot_index: select_unpredictable(taken, rank(slots, slot), 0),
            inner_index: select_unpredictable(covered, inner_index, 0),
        }
    }

    /// One level down from a sparse node. Which slots are taken is chance, so nothing here branches on it.
    ///
    /// # Safety
    /// The entry is a sparse node of the view.
    #[inline(always)]
    unsafe fn step_sparse<A: Address>(self, lane: &mut Lane<A>) {
        let node = self.at(lane.entry.place());
        // SAFETY: the node of the entry.
        let found = unsafe { node.find(lane.key.first_six()) };
        // SAFETY: entries that its bitmaps name, or its first.
        let entry = unsafe { node.word(SPARSE_HEADER + found.slot_index) };
        // SAFETY: as above.
        let route = unsafe { node.word(SPARSE_HEADER + found.inner_index) };
        lane.best = select_unpredictable(found.covered, route, lane.best);
        lane.entry = Entry(select_unpredictable(found.taken, entry, Entry::NOTHING.0));
        lane.key = lane.key.shifted_left(STRIDE);
    }

    /// Past a skip node.
    ///
    /// # Safety
    /// The entry is a skip node of the view.
    #[inline(always)]
    unsafe fn step_skip<A: Address>(self, lane: &mut Lane<A>) {
        let place = lane.entry.place();
        // SAFETY: within the node's block, as all reads here.
        let count = unsafe { self.word(place) };
        let mut bits = A::default();
        for index in 0..A::WORDS {
            // SAFETY: as above.
            bits = bits.or(A::from_word(index, unsafe { self.word(place + 1 + index) }));
        }
        let same = lane.key.common_bits(bits) >= count;
        // SAFETY: as above.
        let behind = unsafe { self.word(place + 1 + A::WORDS) };
        lane.key = lane.key.shifted_left(count);
        lane.entry = Entry(select_unpredictable(same, behind, Entry::NOTHING.0));
    }

    /// One level down.
    ///
    /// # Safety
    /// The entry is a node of the view.
    #[inline(always)]
    unsafe fn step<A: Address>(self, lane: &mut Lane<A>) {
        // SAFETY: the caller's promise, and the kind.
        unsafe {
            if lane.entry.is_sparse() {
                self.step_sparse(lane);
            } else if lane.entry.is_dense() {
                self.step_dense(lane);
            } else {
                self.step_skip(lane);
            }
        }
    }
}

/// The inner route of a dense node's pair, or what covers it from above.
#[inline(always)]
fn covering_or(pair: u64, above: u32) -> u32 {
    let covering = (pair >> 32) as u32;
    select_unpredictable(covering == Entry::NOTHING.0, above, covering)
}

/// What a sparse node has for a slot.
struct Found {
    taken: bool,
    covered: bool,
    slot_index: u32,
    inner_index: u32,
}

/// An address on its way down.
#[derive(Clone, Copy)]
struct Lane<A> {
    /// A node (go on), a route (the answer) or nothing (the answer is `best`).
    entry: Entry,
    /// The longest route passed.
    best: u32,
    /// The bits of the address that are left, at the top.
    key: A,
}

impl<A: Address> Lane<A> {
    #[inline(always)]
    fn new(root: Entry, address: A) -> Self {
        Lane {
            entry: root,
            best: Entry::NOTHING.0,
            key: address,
        }
    }

    #[inline(always)]
    fn answer(self) -> u32 {
        select_unpredictable(self.entry == Entry::NOTHING, self.best, self.entry.0)
    }
}

/// # Safety
/// `base` and `root` belong to one view.
#[inline(always)]
unsafe fn one<A: Address>(base: *const u32, root: Entry, address: A) -> u32 {
    let reader = Reader(base);
    let mut lane = Lane::new(root, address);
    while lane.entry.is_node() {
        // SAFETY: the root and what its nodes lead to are the view's.
        unsafe { reader.step(&mut lane) };
    }
    lane.answer()
}

/// Which lanes stand before a node, by the node's kind. What a lane comes to next is chance: sorting it into a list
/// costs no branch, and each list is then worked through by code that knows the kind.
struct Lists {
    /// A list for each value of an entry's top three bits; those of routes and of nothing are never read.
    lanes: [[u8; GROUP]; 8],
    /// The lists' lengths, eight bits each.
    lengths: u64,
}

impl Lists {
    const SPARSE: usize = 0b100;
    const DENSE: usize = 0b101;
    const SKIP: usize = 0b110;
    const EMPTY: Lists = Lists {
        lanes: [[0; GROUP]; 8],
        lengths: 0,
    };

    #[inline(always)]
    fn push(&mut self, lane: usize, entry: Entry) {
        let list = (entry.0 >> 29) as usize;
        let end = self.length(list);
        self.lanes[list][end % GROUP] = lane as u8;
        self.lengths += 1 << (8 * list);
    }

    #[inline(always)]
    fn length(&self, list: usize) -> usize {
        (self.lengths >> (8 * list)) as usize & 0xff
    }

    /// Whether a lane is not at its end yet.
    #[inline(always)]
    fn any(&self) -> bool {
        self.lengths & 0x00ff_ffff_0000_0000 != 0
    }
}

/// Takes the first `count` lanes to their ends, level by level.
///
/// # Safety
/// The lanes' entries are the view's.
#[inline(always)]
unsafe fn descend<A: Address>(
    reader: Reader,
    lanes: &mut [Lane<A>; GROUP],
    count: usize,
    lists: &mut [Lists; 2],
) {
    let [mut now, mut next] = lists.each_mut();
    now.lengths = 0;
    for (number, lane) in lanes.iter().take(count).enumerate() {
        reader.prefetch(lane);
        now.push(number, lane.entry);
    }
    while now.any() {
        next.lengths = 0;
        macro_rules! all {
            ($list:expr, $step:ident) => {
                for index in 0..now.length($list) {
                    let number = now.lanes[$list][index % GROUP] as usize % GROUP;
                    let lane = &mut lanes[number];
                    // SAFETY: the list holds lanes that stand before a node of this kind, and a node of the view
                    // leads to nodes of the view.
                    unsafe { reader.$step(lane) };
                    reader.prefetch(lane);
                    next.push(number, lane.entry);
                }
            };
        }
        all!(Lists::DENSE, step_dense);
        all!(Lists::SPARSE, step_sparse);
        all!(Lists::SKIP, step_skip);
        (now, next) = (next, now);
    }
}

/// # Safety
/// As [`one`]; `addresses` and `routes` are equally long.
#[inline(always)]
unsafe fn many<A: Address>(base: *const u32, root: Entry, addresses: &[A], routes: &mut [RouteId]) {
    let reader = Reader(base);
    let mut lanes = [Lane::new(root, A::default()); GROUP];
    let mut lists = [Lists::EMPTY; 2];
    for (addresses, routes) in addresses.chunks(GROUP).zip(routes.chunks_mut(GROUP)) {
        for (lane, address) in lanes.iter_mut().zip(addresses) {
            *lane = Lane::new(root, *address);
        }
        // SAFETY: all lanes stand before the view's root.
        unsafe { descend(reader, &mut lanes, addresses.len(), &mut lists) };
        for (route, lane) in routes.iter_mut().zip(&lanes) {
            *route = RouteId(lane.answer());
        }
    }
}

/// A sparse node of nothing, for lanes that have their answer: they go on in step with the others.
static NO_NODE: [u32; SPARSE_HEADER as usize + 1] = [0; SPARSE_HEADER as usize + 1];

/// [`many`] for a table that wears a crown (see `crown`): three levels without a look at the kinds of nodes, then the
/// sparse node at depth 18 that mostly ends it. Only what is not done by then goes level by level.
///
/// # Safety
/// As [`many`], and the table has a crown.
#[inline(always)]
unsafe fn many_crowned<A: Address>(base: *const u32, root: Entry, addresses: &[A], routes: &mut [RouteId]) {
    let reader = Reader(base);
    let pair_at = |node: Entry, key: A| node.place() + DENSE_PAIRS + 2 * key.first_six();
    let mut pairs = [0; GROUP];
    let mut best = [0; GROUP];
    let mut nodes = [Reader(NO_NODE.as_ptr()); GROUP];
    let mut late = [Lane::new(root, A::default()); GROUP];
    let mut late_numbers = [0_u8; GROUP];
    let mut lists = [Lists::EMPTY; 2];
    for (addresses, routes) in addresses.chunks(GROUP).zip(routes.chunks_mut(GROUP)) {
        for ((address, pair), best) in addresses.iter().zip(&mut pairs).zip(&mut best) {
            // SAFETY: the crown's nodes are dense, and their slots lead to the crown's next level.
            let first = unsafe { reader.wide(pair_at(root, *address)) };
            let key = address.shifted_left(STRIDE);
            // SAFETY: as above.
            let second = unsafe { reader.wide(pair_at(Entry(first as u32), key)) };
            *best = covering_or(second, (first >> 32) as u32);
            *pair = pair_at(Entry(second as u32), key.shifted_left(STRIDE));
            reader.prefetch_place(*pair);
        }
        let mut late_count = 0;
        for (number, address) in addresses.iter().enumerate() {
            // SAFETY: a pair of the crown's third level.
            let pair = unsafe { reader.wide(pairs[number]) };
            let entry = Entry(pair as u32);
            let covering = covering_or(pair, best[number]);
            let node = select_unpredictable(
                entry.is_sparse(),
                reader.at(entry.place()),
                Reader(NO_NODE.as_ptr()),
            );
            node.prefetch_place(0);
            nodes[number] = node;
            best[number] = select_unpredictable(entry.is_route(), entry.0, covering);
            if entry.is_node() && !entry.is_sparse() {
                let lane = Lane {
                    entry,
                    best: covering,
                    key: address.shifted_left(3 * STRIDE),
                };
                late[late_count % GROUP] = lane;
                late_numbers[late_count % GROUP] = number as u8;
                late_count += 1;
            }
        }
        for (number, (address, route)) in addresses.iter().zip(routes.iter_mut()).enumerate() {
            let node = nodes[number];
            let key = address.shifted_left(3 * STRIDE);
            // SAFETY: a sparse node of the view, or the static one of nothing.
            let found = unsafe { node.find(key.first_six()) };
            let index = select_unpredictable(found.taken, found.slot_index, found.inner_index);
            // SAFETY: a node's first entry, or one that its bitmaps name.
            let entry = unsafe { node.word(SPARSE_HEADER + index) };
            let entry = select_unpredictable(found.taken | found.covered, entry, best[number]);
            *route = RouteId(entry);
            if Entry(entry).is_node() {
                // SAFETY: as above.
                let inner = unsafe { node.word(SPARSE_HEADER + found.inner_index) };
                let best = if found.covered { inner } else { best[number] };
                late[late_count % GROUP] = Lane {
                    entry: Entry(entry),
                    best,
                    key: key.shifted_left(STRIDE),
                };
                late_numbers[late_count % GROUP] = number as u8;
                late_count += 1;
            }
        }
        if late_count > 0 {
            // SAFETY: nodes that the view's nodes led to.
            unsafe { descend(reader, &mut late, late_count, &mut lists) };
            for (lane, number) in late.iter().zip(late_numbers).take(late_count) {
                routes[number as usize] = RouteId(lane.answer());
            }
        }
    }
}

/// # Safety
/// As [`many_crowned`], if the table has a crown, else as [`many`].
#[inline(always)]
unsafe fn either<A: Address>(trie: Trie, addresses: &[A], routes: &mut [RouteId]) {
    // SAFETY: the caller's promise.
    unsafe {
        if trie.crowned {
            many_crowned(trie.base, trie.root, addresses, routes);
        } else {
            many(trie.base, trie.root, addresses, routes);
        }
    }
}

/// The same code for processors that count bits by one instruction, which is half the work of a level.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod counting {
    use super::{Address, RouteId, Trie};

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
    pub(super) unsafe fn one<A: Address>(trie: Trie, address: A) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { super::one(trie.base, trie.root, address) }
    }

    /// # Safety
    /// As [`super::either`], and [`available`].
    #[target_feature(enable = "popcnt,lzcnt,bmi1,bmi2")]
    pub(super) unsafe fn many<A: Address>(trie: Trie, addresses: &[A], routes: &mut [RouteId]) {
        // SAFETY: the caller's promise.
        unsafe { super::either(trie, addresses, routes) }
    }
}

/// What a lookup starts from.
#[derive(Clone, Copy)]
pub(super) struct Trie {
    /// The start of the memory.
    pub(super) base: *const u32,
    pub(super) root: Entry,
    /// Whether the table has a crown.
    pub(super) crowned: bool,
}

/// The route of the longest prefix that holds the address, or [`Entry::NOTHING`].
///
/// # Safety
/// The trie is a view's, which lives.
#[inline]
pub(super) unsafe fn lookup<A: Address>(trie: Trie, address: A) -> u32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if counting::available() {
        // SAFETY: the caller's promise; the processor has the instructions.
        return unsafe { counting::one(trie, address) };
    }
    // SAFETY: the caller's promise.
    unsafe { one(trie.base, trie.root, address) }
}

/// [`lookup`] of many; works on as many as the shorter slice holds.
///
/// # Safety
/// As [`lookup`].
#[inline]
pub(super) unsafe fn lookup_bulk<A: Address>(trie: Trie, addresses: &[A], routes: &mut [RouteId]) {
    let count = addresses.len().min(routes.len());
    let (addresses, routes) = (&addresses[..count], &mut routes[..count]);
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    if counting::available() {
        // SAFETY: the caller's promise; the processor has the instructions.
        return unsafe { counting::many(trie, addresses, routes) };
    }
    // SAFETY: the caller's promise.
    unsafe { either(trie, addresses, routes) }
}
