//! Longest-prefix match for readers: no locks, no bounds checks, many addresses at a time.
//!
//! In bulk a group of addresses goes down the trie level by level: while the memory of one is on its way to the
//! core, the others are worked on.
#![allow(unsafe_code)]

use std::hint::select_unpredictable;

use super::{
    Address, crown, directory,
    node::{DENSE_PAIRS, Entry, SPARSE_HEADER, STRIDE, covering_positions, highest, rank},
};
use crate::RouteId;

/// Addresses in a group: enough to hide the last level of cache, few enough for their state to stay in the first.
const GROUP: usize = 64;

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

    /// A reader that begins so many bytes behind.
    #[inline(always)]
    fn at_byte(self, offset: u32) -> Reader {
        Reader(self.0.wrapping_byte_add(offset as usize))
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
    /// At its end, without an answer.
    const NONE: Lane<A> = Lane {
        entry: Entry::NOTHING,
        best: Entry::NOTHING.0,
        key: A::ZERO,
    };

    #[inline(always)]
    fn answer(self) -> u32 {
        select_unpredictable(self.entry == Entry::NOTHING, self.best, self.entry.0)
    }
}

/// Where an address begins: at the root, or behind what a directory knows.
///
/// # Safety
/// The trie is a view's, which lives.
#[inline(always)]
unsafe fn begin<A: Address>(trie: Trie, address: A) -> Lane<A> {
    if trie.levels == 0 {
        return Lane {
            entry: trie.root,
            best: Entry::NOTHING.0,
            key: address,
        };
    }
    let directory = Reader(trie.base).at(trie.directory);
    let index = directory_index(address);
    // SAFETY: both within the directory's block.
    let (entry, above) = unsafe { (directory.word(index), directory.word(directory::ABOVE + index)) };
    Lane {
        entry: Entry(entry),
        best: above,
        key: address.shifted_left(directory::BITS),
    }
}

#[inline(always)]
fn directory_index<A: Address>(address: A) -> u32 {
    address.first_word() >> (32 - directory::BITS)
}

/// # Safety
/// As [`begin`].
#[inline(always)]
unsafe fn one<A: Address>(trie: Trie, address: A) -> u32 {
    let reader = Reader(trie.base);
    // SAFETY: the caller's promise.
    let mut lane = unsafe { begin(trie, address) };
    while lane.entry.is_node() {
        // SAFETY: where the lane begins and what the view's nodes lead to is the view's.
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
    const DENSE: usize = 0b110;
    const SKIP: usize = 0b101;
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
/// As [`begin`]; `addresses` and `routes` are equally long.
#[inline(always)]
unsafe fn many<A: Address>(trie: Trie, addresses: &[A], routes: &mut [RouteId]) {
    let reader = Reader(trie.base);
    let mut lanes = [Lane::NONE; GROUP];
    let mut lists = [Lists::EMPTY; 2];
    for (addresses, routes) in addresses.chunks(GROUP).zip(routes.chunks_mut(GROUP)) {
        for (lane, address) in lanes.iter_mut().zip(addresses) {
            // SAFETY: the caller's promise.
            *lane = unsafe { begin(trie, *address) };
        }
        // SAFETY: all lanes stand where the view lets them begin.
        unsafe { descend(reader, &mut lanes, addresses.len(), &mut lists) };
        for (route, lane) in routes.iter_mut().zip(&lanes) {
            *route = RouteId(lane.answer());
        }
    }
}

/// [`many`] for a table with all levels of a crown: from the directory to the pair at depth 12, to the sparse node at
/// depth 18 that mostly ends it, with nothing in between that depends on what is found. Only what is not done by then
/// goes level by level.
///
/// # Safety
/// As [`many`], and the table has the crown.
#[inline(always)]
unsafe fn many_crowned<A: Address>(trie: Trie, addresses: &[A], routes: &mut [RouteId]) {
    let reader = Reader(trie.base);
    let directory = reader.at(trie.directory);
    let empty = (trie.directory + directory::EMPTY) * size_of::<u32>() as u32;
    // Of pairs, then of nodes, in bytes.
    let mut places = [0; GROUP];
    let mut best = [0; GROUP];
    // Where the route stands.
    let mut answers = [Reader(std::ptr::null()); GROUP];
    let mut late = [0; GROUP];
    for (addresses, routes) in addresses.chunks(GROUP).zip(routes.chunks_mut(GROUP)) {
        for (address, place) in addresses.iter().zip(&mut places) {
            // SAFETY: within the directory's block.
            let node = Entry(unsafe { directory.word(directory_index(*address)) });
            let slot = address.first_word() >> 14 & 63;
            *place = node.byte_place() + 4 * DENSE_PAIRS + 8 * slot;
            reader.at_byte(*place).prefetch_place(0);
        }
        for ((address, place), best) in addresses.iter().zip(&mut places).zip(&mut best) {
            // SAFETY: the crown's third level is dense nodes, of which this is a pair.
            let pair = unsafe { reader.at_byte(*place).wide(0) };
            let (entry, covering) = (Entry(pair as u32), (pair >> 32) as u32);
            // SAFETY: within the directory's block.
            let above = unsafe { directory.word(directory::ABOVE + directory_index(*address)) };
            let covering = select_unpredictable(covering == Entry::NOTHING.0, above, covering);
            *place = select_unpredictable(entry.is_sparse(), entry.byte_place(), empty);
            reader.at_byte(*place).prefetch_place(0);
            // What leads on to another node is found to be one below.
            *best = select_unpredictable(entry.is_other_node(), entry.0, covering);
        }
        let nodes = addresses.iter().zip(&places).zip(&best);
        for (((address, place), best), answer) in nodes.zip(&mut answers) {
            let node = reader.at_byte(*place);
            // SAFETY: a sparse node of the view, or the directory's of nothing.
            let found = unsafe { node.find(address.first_word() >> 8 & 63) };
            let index = select_unpredictable(found.taken, found.slot_index, found.inner_index);
            let entry = node.at(SPARSE_HEADER + index);
            *answer = select_unpredictable(found.taken | found.covered, entry, Reader(best));
            answer.prefetch_place(0);
        }
        let mut late_count = 0;
        for (number, (answer, route)) in answers.iter().zip(routes.iter_mut()).enumerate() {
            // SAFETY: a node's entry that its bitmaps name, or one of `best`.
            let entry = unsafe { answer.word(0) };
            *route = RouteId(entry);
            if Entry(entry).is_node() {
                late[late_count % GROUP] = number as u8;
                late_count += 1;
            }
        }
        if late_count > 0 {
            // SAFETY: the caller's promise.
            unsafe { catch_up(trie, addresses, routes, &late[..late_count]) };
        }
    }
}

/// Looks up those that are not at their end where most are.
///
/// # Safety
/// As [`begin`].
#[inline(always)]
unsafe fn catch_up<A: Address>(trie: Trie, addresses: &[A], routes: &mut [RouteId], late: &[u8]) {
    let mut lanes = [Lane::NONE; GROUP];
    for (lane, number) in lanes.iter_mut().zip(late) {
        // SAFETY: the caller's promise.
        *lane = unsafe { begin(trie, addresses[usize::from(*number)]) };
    }
    // SAFETY: all lanes stand where the view lets them begin.
    unsafe { descend(Reader(trie.base), &mut lanes, late.len(), &mut [Lists::EMPTY; 2]) };
    for (lane, number) in lanes.iter().zip(late) {
        routes[usize::from(*number)] = RouteId(lane.answer());
    }
}

/// # Safety
/// As [`many`].
#[inline(always)]
unsafe fn either<A: Address>(trie: Trie, addresses: &[A], routes: &mut [RouteId]) {
    // SAFETY: the caller's promise.
    unsafe {
        if trie.levels == crown::LEVELS {
            many_crowned(trie, addresses, routes);
        } else if trie.small {
            for (address, route) in addresses.iter().zip(routes) {
                *route = RouteId(one(trie, *address));
            }
        } else {
            many(trie, addresses, routes);
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
        unsafe { super::one(trie, address) }
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
    /// Levels of the table's crown, and where its directory is if there are any.
    pub(super) levels: u32,
    pub(super) directory: u32,
    /// Whether the table stays in the core's own cache: then there is nothing to wait for, and sorting lanes costs more
    /// than a wrong guess.
    pub(super) small: bool,
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
    unsafe { one(trie, address) }
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
