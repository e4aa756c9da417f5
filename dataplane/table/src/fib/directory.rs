//! The directory of a table with a crown: what is at depth 12, by the first twelve bits of the address.
//!
//! A reader begins here, two levels down and with nothing to find out about nodes on the way. The directory says
//! nothing that the nodes above do not say, so a publish makes it anew from those that changed.

use super::{
    arena::Arena,
    node::{DENSE_PAIRS, Entry},
};

/// The bits that choose an entry: two levels.
pub(super) const BITS: u32 = 12;
const ENTRIES: u32 = 1 << BITS;

/// Where the routes begin that cover what an entry leads to, one an entry.
pub(super) const ABOVE: u32 = ENTRIES;
/// Where a sparse node of nothing is, for readers that have nothing to look for.
pub(super) const EMPTY: u32 = 2 * ENTRIES;
/// Words of the block: entries, routes above, the empty node and what a look into it reads.
pub(super) const WORDS: u32 = EMPTY + 8;

/// The writer's part of it.
pub(super) struct Directory {
    place: u32,
    /// The root's pairs when the directory was made.
    pairs: [(Entry, u32); 64],
}

impl Directory {
    /// A directory for this crown.
    pub(super) fn new(arena: &mut Arena, root: Entry) -> Directory {
        let place = arena.allocate(WORDS);
        for offset in EMPTY..WORDS {
            arena.set(place, offset, 0);
        }
        let mut directory = Directory {
            place,
            pairs: [(Entry::NOTHING, 0); 64],
        };
        directory.update(arena, root);
        directory
    }

    /// Where it is.
    pub(super) fn place(&self) -> u32 {
        self.place
    }

    /// Gives its block back.
    pub(super) fn release(self, arena: &mut Arena) {
        arena.release(self.place, WORDS);
    }

    /// Makes it say what the crown says, to be called before it is published.
    pub(super) fn update(&mut self, arena: &mut Arena, root: Entry) {
        if !arena.is_fresh(self.place) {
            let copy = arena.allocate(WORDS);
            arena.copy((self.place, 0), (copy, 0), WORDS);
            arena.release(self.place, WORDS);
            self.place = copy;
        }
        for first in 0..64 {
            let pair = pair(arena, root, first);
            let (second_level, above) = pair;
            if std::mem::replace(&mut self.pairs[first as usize], pair) == pair
                && !arena.is_fresh(second_level.place())
            {
                continue;
            }
            for second in 0..64 {
                let (entry, covering) = pair_below(arena, second_level, second, above);
                arena.set(self.place, 64 * first + second, entry.0);
                arena.set(self.place, ABOVE + 64 * first + second, covering);
            }
        }
    }
}

/// A pair of a dense node.
fn pair(arena: &Arena, node: Entry, slot: u32) -> (Entry, u32) {
    let pair = arena.get_wide(node.place(), DENSE_PAIRS + 2 * slot);
    (Entry(pair as u32), (pair >> 32) as u32)
}

fn pair_below(arena: &Arena, node: Entry, slot: u32, above: u32) -> (Entry, u32) {
    let (entry, covering) = pair(arena, node, slot);
    let covering = if covering == Entry::NOTHING.0 {
        above
    } else {
        covering
    };
    (entry, covering)
}
