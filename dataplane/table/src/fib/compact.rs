//! Moving a table into a new piece of memory, without the gaps that changes leave.

use super::{
    Bits,
    arena::Arena,
    blocks::block_words,
    node::{DENSE_PAIRS, Entry, Kind, SPARSE_HEADER, Target},
};

/// Gaps of less than this many words are not worth the trouble.
const LEAST_GAIN: u64 = if cfg!(test) { 64 } else { 1024 };

/// Whether a new piece pays: a fifth of the used memory is gaps, and enough has changed since the piece was made that
/// the moving costs little on top of the changes themselves.
pub(super) fn pays(arena: &Arena) -> bool {
    let (live, free) = (arena.live_words(), arena.free_words());
    free > LEAST_GAIN && free > live / 4 && arena.turnover() > 2 * live
}

/// Copies all nodes into a new arena, each before its children and these in order, and gives it with the new root.
/// A directory has to be made anew.
pub(super) fn compact<A: Bits>(arena: &Arena, root: Entry) -> (Arena, Entry) {
    let mut target = arena.successor(arena.live_words());
    let root = copy::<A>(arena, &mut target, root);
    target.settle();
    (target, root)
}

fn copy<A: Bits>(source: &Arena, target: &mut Arena, entry: Entry) -> Entry {
    let Target::Node(kind, from) = entry.target() else {
        return entry;
    };
    let words = block_words::<A>(source, kind, from);
    let place = target.adopt(source, from, words);
    let (first, step, count) = match kind {
        Kind::Sparse => (SPARSE_HEADER, 1, source.get_wide(from, 0).count_ones()),
        Kind::Dense => (DENSE_PAIRS, 2, 64),
        Kind::Skip => (1 + A::WORDS, 1, 1),
    };
    for index in 0..count {
        let offset = first + index * step;
        let child = Entry(source.get(from, offset));
        if child.is_node() {
            let child = copy::<A>(source, target, child);
            target.set(place, offset, child.0);
        }
    }
    Entry::node(kind, place)
}
