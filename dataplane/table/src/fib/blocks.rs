//! Changes to one node: each gives the entry that leads to the node from then on.
//!
//! A fresh block is changed in place where it has the room; anything else becomes a new block. What the node means
//! is the same for sparse and dense ones: up to 64 slots and up to 63 inner routes.

use super::{
    Bits,
    arena::Arena,
    node::{
        DENSE_HEADER, DENSE_PAIRS, Entry, Kind, SPARSE_HEADER, Target, covering_positions, dense_words,
        highest, rank, skip_words, sparse_words,
    },
};

/// A node becomes dense when this many of its slots lead to nodes ...
pub(super) const DENSE_FROM: u32 = 40;
/// ... and sparse again below this many, so that a route that comes and goes does not turn it back and forth.
pub(super) const DENSE_DOWN_TO: u32 = 28;

/// The bitmaps of a sparse node.
#[derive(Clone, Copy)]
struct Header {
    slots: u64,
    inner: u64,
}

impl Header {
    fn read(arena: &Arena, place: u32) -> Header {
        Header {
            slots: arena.get_wide(place, 0),
            inner: arena.get_wide(place, 2),
        }
    }

    fn write(self, arena: &mut Arena, place: u32) {
        arena.set_wide(place, 0, self.slots);
        arena.set_wide(place, 2, self.inner);
    }

    fn entries(self) -> u32 {
        self.slots.count_ones() + self.inner.count_ones()
    }

    fn words(self) -> u32 {
        sparse_words(self.entries())
    }

    fn slot_index(self, slot: u32) -> u32 {
        rank(self.slots, slot)
    }

    fn inner_index(self, position: u32) -> u32 {
        self.slots.count_ones() + rank(self.inner, position)
    }
}

fn bit(position: u32) -> u64 {
    1 << position
}

fn has(bitmap: u64, position: u32) -> bool {
    bitmap & bit(position) != 0
}

/// What is behind a slot.
pub(super) fn slot(arena: &Arena, kind: Kind, place: u32, slot: u32) -> Entry {
    match kind {
        Kind::Sparse => {
            let header = Header::read(arena, place);
            if has(header.slots, slot) {
                Entry(arena.get(place, SPARSE_HEADER + header.slot_index(slot)))
            } else {
                Entry::NOTHING
            }
        }
        Kind::Dense => Entry(arena.get(place, DENSE_PAIRS + 2 * slot)),
        Kind::Skip => Entry::NOTHING,
    }
}

/// The inner routes' bitmap.
pub(super) fn inner_bitmap(arena: &Arena, kind: Kind, place: u32) -> u64 {
    match kind {
        Kind::Sparse => arena.get_wide(place, 2),
        Kind::Dense => arena.get_wide(place, 0),
        Kind::Skip => 0,
    }
}

/// The inner route at a position that is set in the bitmap.
pub(super) fn inner(arena: &Arena, kind: Kind, place: u32, position: u32) -> u32 {
    match kind {
        Kind::Sparse => arena.get(
            place,
            SPARSE_HEADER + Header::read(arena, place).inner_index(position),
        ),
        Kind::Dense => arena.get(place, DENSE_HEADER + rank(arena.get_wide(place, 0), position)),
        Kind::Skip => Entry::NOTHING.0,
    }
}

/// A sparse node with one slot.
pub(super) fn sparse_with_slot(arena: &mut Arena, slot: u32, entry: Entry) -> Entry {
    let place = arena.allocate(sparse_words(1));
    Header {
        slots: bit(slot),
        inner: 0,
    }
    .write(arena, place);
    arena.set(place, SPARSE_HEADER, entry.0);
    Entry::node(Kind::Sparse, place)
}

/// A sparse node with one inner route.
pub(super) fn sparse_with_inner(arena: &mut Arena, position: u32, route: u32) -> Entry {
    let place = arena.allocate(sparse_words(1));
    Header {
        slots: 0,
        inner: bit(position),
    }
    .write(arena, place);
    arena.set(place, SPARSE_HEADER, route);
    Entry::node(Kind::Sparse, place)
}

/// Changes what is behind a slot of a sparse or dense node. A dense node stays dense if it is `pinned`.
pub(super) fn set_slot(
    arena: &mut Arena,
    (kind, place): (Kind, u32),
    slot: u32,
    entry: Entry,
    pinned: bool,
) -> Entry {
    if kind == Kind::Dense {
        let place = own(arena, place, dense_words(arena.get_wide(place, 0).count_ones()));
        let before = Entry(arena.get(place, DENSE_PAIRS + 2 * slot));
        arena.set(place, DENSE_PAIRS + 2 * slot, entry.0);
        if before.is_route() || entry.is_route() {
            cover_slot(arena, place, slot);
        }
        let fewer = before.is_node() && !entry.is_node();
        return if fewer && !pinned {
            thin_out(arena, place)
        } else {
            Entry::node(Kind::Dense, place)
        };
    }
    let header = Header::read(arena, place);
    let index = header.slot_index(slot);
    let after = Header {
        slots: header.slots | bit(slot),
        ..header
    };
    let place = match (has(header.slots, slot), entry == Entry::NOTHING) {
        (true, true) => {
            let after = Header {
                slots: header.slots & !bit(slot),
                ..header
            };
            return match take_out(arena, place, header, after, index) {
                Some(place) => Entry::node(Kind::Sparse, place),
                None => Entry::NOTHING,
            };
        }
        (false, true) => place,
        (true, false) => {
            let place = own(arena, place, header.words());
            arena.set(place, SPARSE_HEADER + index, entry.0);
            place
        }
        (false, false) => put_in(arena, place, header, after, index, entry.0),
    };
    if entry.is_node()
        && after.slots.count_ones() >= DENSE_FROM
        && nodes_behind(arena, place, after) >= DENSE_FROM
    {
        return thicken(arena, place);
    }
    Entry::node(Kind::Sparse, place)
}

/// Adds or replaces the inner route at a position.
pub(super) fn set_inner(arena: &mut Arena, kind: Kind, place: u32, position: u32, route: u32) -> Entry {
    let bitmap = inner_bitmap(arena, kind, place);
    let present = has(bitmap, position);
    let index = rank(bitmap, position);
    if kind != Kind::Dense {
        let header = Header::read(arena, place);
        let after = Header {
            inner: bitmap | bit(position),
            ..header
        };
        let index = header.inner_index(position);
        let place = if present {
            let place = own(arena, place, header.words());
            arena.set(place, SPARSE_HEADER + index, route);
            place
        } else {
            put_in(arena, place, header, after, index, route)
        };
        return Entry::node(Kind::Sparse, place);
    }
    let place = if present {
        own(arena, place, dense_words(bitmap.count_ones()))
    } else {
        let count = bitmap.count_ones();
        let place = open_gap(
            arena,
            place,
            (dense_words(count), dense_words(count + 1)),
            (DENSE_HEADER + count, DENSE_HEADER + index),
        );
        arena.set_wide(place, 0, bitmap | bit(position));
        place
    };
    arena.set(place, DENSE_HEADER + index, route);
    cover_slots(arena, place, position);
    Entry::node(Kind::Dense, place)
}

/// Takes the inner route at a position away. The node may be nothing afterwards.
pub(super) fn clear_inner(arena: &mut Arena, kind: Kind, place: u32, position: u32) -> Entry {
    let bitmap = inner_bitmap(arena, kind, place);
    let index = rank(bitmap, position);
    let rest = bitmap & !bit(position);
    if kind != Kind::Dense {
        let header = Header::read(arena, place);
        let after = Header {
            inner: rest,
            ..header
        };
        return match take_out(arena, place, header, after, header.inner_index(position)) {
            Some(place) => Entry::node(Kind::Sparse, place),
            None => Entry::NOTHING,
        };
    }
    let count = bitmap.count_ones();
    let place = close_gap(
        arena,
        place,
        (dense_words(count), dense_words(count - 1)),
        (DENSE_HEADER + count, DENSE_HEADER + index),
    );
    arena.set_wide(place, 0, rest);
    cover_slots(arena, place, position);
    Entry::node(Kind::Dense, place)
}

/// Copies a block unless it is fresh.
fn own(arena: &mut Arena, place: u32, words: u32) -> u32 {
    if arena.is_fresh(place) {
        return place;
    }
    let copy = arena.allocate(words);
    arena.copy((place, 0), (copy, 0), words);
    arena.release(place, words);
    copy
}

/// Makes room for one word at `index` in the `used` words of a block. `sizes` are the block's words before and after.
fn open_gap(arena: &mut Arena, place: u32, sizes: (u32, u32), (used, index): (u32, u32)) -> u32 {
    if sizes.0 == sizes.1 && arena.is_fresh(place) {
        arena.copy((place, index), (place, index + 1), used - index);
        return place;
    }
    let copy = arena.allocate(sizes.1);
    arena.copy((place, 0), (copy, 0), index);
    arena.copy((place, index), (copy, index + 1), used - index);
    arena.release(place, sizes.0);
    copy
}

/// Takes the word at `index` out of the `used` words of a block.
fn close_gap(arena: &mut Arena, place: u32, sizes: (u32, u32), (used, index): (u32, u32)) -> u32 {
    if sizes.0 == sizes.1 && arena.is_fresh(place) {
        arena.copy((place, index + 1), (place, index), used - index - 1);
        return place;
    }
    let copy = arena.allocate(sizes.1);
    arena.copy((place, 0), (copy, 0), index);
    arena.copy((place, index + 1), (copy, index), used - index - 1);
    arena.release(place, sizes.0);
    copy
}

fn put_in(arena: &mut Arena, place: u32, before: Header, after: Header, index: u32, value: u32) -> u32 {
    let used = SPARSE_HEADER + before.entries();
    let place = open_gap(
        arena,
        place,
        (before.words(), after.words()),
        (used, SPARSE_HEADER + index),
    );
    after.write(arena, place);
    arena.set(place, SPARSE_HEADER + index, value);
    place
}

/// None: nothing is left.
fn take_out(arena: &mut Arena, place: u32, before: Header, after: Header, index: u32) -> Option<u32> {
    if after.entries() == 0 {
        arena.release(place, before.words());
        return None;
    }
    let used = SPARSE_HEADER + before.entries();
    let place = close_gap(
        arena,
        place,
        (before.words(), after.words()),
        (used, SPARSE_HEADER + index),
    );
    after.write(arena, place);
    Some(place)
}

/// Writes anew which route is the one of each slot that the inner route at a position covers.
fn cover_slots(arena: &mut Arena, place: u32, position: u32) {
    let length = highest(u64::from(position));
    let first = (position - (1 << length)) << (6 - length);
    for slot in first..first + (64 >> length) {
        cover_slot(arena, place, slot);
    }
}

fn cover_slot(arena: &mut Arena, place: u32, slot: u32) {
    let entry = Entry(arena.get(place, DENSE_PAIRS + 2 * slot));
    let bitmap = arena.get_wide(place, 0);
    let covering = bitmap & covering_positions(slot);
    let route = match covering {
        _ if entry.is_route() => entry.0,
        0 => Entry::NOTHING.0,
        _ => arena.get(place, DENSE_HEADER + rank(bitmap, highest(covering))),
    };
    arena.set(place, DENSE_PAIRS + 2 * slot + 1, route);
}

/// How many slots of a sparse node lead to nodes.
fn nodes_behind(arena: &Arena, place: u32, header: Header) -> u32 {
    let taken = 0..header.slots.count_ones();
    taken
        .map(|index| u32::from(Entry(arena.get(place, SPARSE_HEADER + index)).is_node()))
        .sum()
}

/// A dense node without slots and with no inner route, or with the one of its own prefix.
pub(super) fn dense_with_own_route(arena: &mut Arena, route: Option<u32>) -> Entry {
    let place = arena.allocate(dense_words(u32::from(route.is_some())));
    arena.set_wide(place, 0, route.map_or(0, |_| bit(1)));
    for slot in 0..64 {
        arena.set(place, DENSE_PAIRS + 2 * slot, Entry::NOTHING.0);
    }
    if let Some(route) = route {
        arena.set(place, DENSE_HEADER, route);
    }
    cover_slots(arena, place, 1);
    Entry::node(Kind::Dense, place)
}

/// Makes a sparse node dense.
pub(super) fn thicken(arena: &mut Arena, place: u32) -> Entry {
    let header = Header::read(arena, place);
    let taken = header.slots.count_ones();
    let inner = header.inner.count_ones();
    let dense = arena.allocate(dense_words(inner));
    arena.set_wide(dense, 0, header.inner);
    arena.copy((place, SPARSE_HEADER + taken), (dense, DENSE_HEADER), inner);
    let mut index = 0;
    for slot in 0..64 {
        let entry = if has(header.slots, slot) {
            index += 1;
            arena.get(place, SPARSE_HEADER + index - 1)
        } else {
            Entry::NOTHING.0
        };
        arena.set(dense, DENSE_PAIRS + 2 * slot, entry);
    }
    cover_slots(arena, dense, 1);
    arena.release(place, header.words());
    Entry::node(Kind::Dense, dense)
}

/// Makes a dense node sparse if too few of its slots lead to nodes; a node of nothing becomes nothing.
pub(super) fn thin_out(arena: &mut Arena, place: u32) -> Entry {
    let mut slots = 0;
    let mut nodes = 0;
    for slot in 0..64 {
        let entry = Entry(arena.get(place, DENSE_PAIRS + 2 * slot));
        nodes += u32::from(entry.is_node());
        slots |= u64::from(entry != Entry::NOTHING) << slot;
    }
    if nodes >= DENSE_DOWN_TO {
        return Entry::node(Kind::Dense, place);
    }
    let header = Header {
        slots,
        inner: arena.get_wide(place, 0),
    };
    if header.entries() == 0 {
        arena.release(place, dense_words(0));
        return Entry::NOTHING;
    }
    let taken = slots.count_ones();
    let inner = header.inner.count_ones();
    let sparse = arena.allocate(header.words());
    header.write(arena, sparse);
    let mut rest = slots;
    for index in 0..taken {
        let slot = rest.trailing_zeros();
        rest &= rest - 1;
        let entry = arena.get(place, DENSE_PAIRS + 2 * slot);
        arena.set(sparse, SPARSE_HEADER + index, entry);
    }
    arena.copy((place, DENSE_HEADER), (sparse, SPARSE_HEADER + taken), inner);
    arena.release(place, dense_words(inner));
    Entry::node(Kind::Sparse, sparse)
}

/// A sparse node that only leads on: its slot and what is behind it.
pub(super) fn only_slot(arena: &Arena, place: u32) -> Option<(u32, Entry)> {
    let header = Header::read(arena, place);
    (header.inner == 0 && header.slots.is_power_of_two()).then(|| {
        (
            header.slots.trailing_zeros(),
            Entry(arena.get(place, SPARSE_HEADER)),
        )
    })
}

/// The route of a sparse node that holds only the route of its own prefix.
pub(super) fn only_own_route(arena: &Arena, place: u32) -> Option<u32> {
    let header = Header::read(arena, place);
    (header.slots == 0 && header.inner == bit(1)).then(|| arena.get(place, SPARSE_HEADER))
}

/// Words of a node's block.
pub(super) fn block_words<A: Bits>(arena: &Arena, kind: Kind, place: u32) -> u32 {
    match kind {
        Kind::Sparse => Header::read(arena, place).words(),
        Kind::Dense => dense_words(arena.get_wide(place, 0).count_ones()),
        Kind::Skip => skip_words::<A>(),
    }
}

/// Gives a node's block back.
pub(super) fn release<A: Bits>(arena: &mut Arena, kind: Kind, place: u32) {
    let words = block_words::<A>(arena, kind, place);
    arena.release(place, words);
}

/// A skip node taken apart.
#[derive(Clone, Copy)]
pub(super) struct Skip<A> {
    pub(super) count: u32,
    pub(super) bits: A,
    pub(super) behind: Entry,
}

impl<A: Bits> Skip<A> {
    pub(super) fn read(arena: &Arena, place: u32) -> Skip<A> {
        let mut bits = A::default();
        for index in 0..A::WORDS {
            bits = bits.or(A::from_word(index, arena.get(place, 1 + index)));
        }
        Skip {
            count: arena.get(place, 0),
            bits,
            behind: Entry(arena.get(place, 1 + A::WORDS)),
        }
    }

    pub(super) fn write(self, arena: &mut Arena) -> Entry {
        let place = arena.allocate(skip_words::<A>());
        arena.set(place, 0, self.count);
        for index in 0..A::WORDS {
            arena.set(place, 1 + index, self.bits.word(index));
        }
        arena.set(place, 1 + A::WORDS, self.behind.0);
        Entry::node(Kind::Skip, place)
    }

    /// Changes what is behind a skip node.
    pub(super) fn set_behind(arena: &mut Arena, place: u32, behind: Entry) -> Entry {
        let place = own(arena, place, skip_words::<A>());
        arena.set(place, 1 + A::WORDS, behind.0);
        Entry::node(Kind::Skip, place)
    }
}

/// What an entry leads to, if it only leads on: the bits it takes and what is behind them. Its block is given back.
pub(super) fn take_link<A: Bits>(arena: &mut Arena, entry: Entry) -> Option<Skip<A>> {
    let Target::Node(kind, place) = entry.target() else {
        return None;
    };
    let link = match kind {
        Kind::Skip => Skip::read(arena, place),
        Kind::Sparse => {
            let (slot, behind) = only_slot(arena, place)?;
            Skip {
                count: 6,
                bits: A::from_word(0, slot << 26),
                behind,
            }
        }
        Kind::Dense => return None,
    };
    release::<A>(arena, kind, place);
    Some(link)
}
