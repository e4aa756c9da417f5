//! What the trie is made of: entries of 32 bits, and the three kinds of node that they lead to.
//!
//! A level takes six bits of the address. A node at depth *d* holds the routes of lengths *d* to *d* + 5 of its part
//! of the address space itself (its *inner* routes) and has 64 *slots* of length *d* + 6. A slot is an [`Entry`]:
//! nothing, a route of length *d* + 6, or the node at depth *d* + 6, whose inner routes begin with that length.
//! Every route is stored exactly once and nothing is pushed down to longer prefixes, so a change touches the nodes
//! on its own path only, however short the prefix (the tree bitmap of Eatherton, Dittia and Varghese, 2004).
//!
//! Blocks, in words of 32 bits:
//! - *sparse*: bitmap of the taken slots (2), bitmap of the inner routes (2), the taken slots' entries, the inner
//!   routes. Header and entries lie together, so that a level costs one memory access.
//! - *dense*: bitmap of the inner routes (2), 64 pairs (the slot's entry; the route of its addresses that no node
//!   behind it knows better: the slot's own, else the inner route that covers it, else nothing), the inner routes.
//!   For nodes that have nearly all children: no counting of bits.
//! - *skip*: how many bits are skipped (1), these bits (1 or 4), the entry behind them. For two or more levels that
//!   would have one child each and no route; the bits are compared, as they are part of the key.

use super::Bits;

/// Bits of the address that a level takes.
pub(super) const STRIDE: u32 = 6;
/// Words of a sparse node before its entries.
pub(super) const SPARSE_HEADER: u32 = 4;
/// Where the pairs of a dense node begin.
pub(super) const DENSE_PAIRS: u32 = 2;
/// Words of a dense node before its inner routes.
pub(super) const DENSE_HEADER: u32 = DENSE_PAIRS + 2 * 64;

/// What a slot holds, in one word: a route's number (top bit clear), or kind and place of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Entry(pub u32);

/// Kind of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sparse,
    Dense,
    Skip,
}

/// An [`Entry`] taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Nothing,
    Route(u32),
    Node(Kind, u32),
}

const PLACE_BITS: u32 = 29;
const KIND_MASK: u32 = !0 << PLACE_BITS;
const SPARSE: u32 = 0b100 << PLACE_BITS;
const SKIP: u32 = 0b101 << PLACE_BITS;
const DENSE: u32 = 0b110 << PLACE_BITS;

/// How many words 29 bits can name: 2 GiB a table.
pub(super) const MAX_WORDS: u32 = 1 << PLACE_BITS;

impl Entry {
    /// No route and no node. The same word as [`super::NO_ROUTE`].
    pub(super) const NOTHING: Entry = Entry(u32::MAX);

    pub(super) fn node(kind: Kind, place: u32) -> Entry {
        debug_assert!(place < MAX_WORDS);
        Entry(
            place
                | match kind {
                    Kind::Sparse => SPARSE,
                    Kind::Dense => DENSE,
                    Kind::Skip => SKIP,
                },
        )
    }

    /// Whether it leads to a node. One comparison: nodes are the negative numbers but -1.
    #[inline(always)]
    pub(super) fn is_node(self) -> bool {
        (self.0 as i32) < -1
    }

    #[inline(always)]
    pub(super) fn is_route(self) -> bool {
        self.0 as i32 >= 0
    }

    #[inline(always)]
    pub(super) fn is_dense(self) -> bool {
        self.0 & KIND_MASK == DENSE
    }

    /// One comparison: sparse nodes are the lowest numbers.
    #[inline(always)]
    pub(super) fn is_sparse(self) -> bool {
        (self.0 as i32) < SKIP as i32
    }

    /// Whether it leads to a node that is not sparse.
    #[inline(always)]
    pub(super) fn is_other_node(self) -> bool {
        self.0.wrapping_sub(SKIP) < Entry::NOTHING.0 - SKIP
    }

    /// Where a sparse or dense node is, in bytes: their kinds are shifted out.
    #[inline(always)]
    pub(super) fn byte_place(self) -> u32 {
        self.0 << 2
    }

    /// Where the node is; meaningful for nodes only.
    #[inline(always)]
    pub(super) fn place(self) -> u32 {
        self.0 & !KIND_MASK
    }

    pub(super) fn target(self) -> Target {
        match self.0 & KIND_MASK {
            SPARSE => Target::Node(Kind::Sparse, self.place()),
            DENSE => Target::Node(Kind::Dense, self.place()),
            SKIP => Target::Node(Kind::Skip, self.place()),
            _ if self == Entry::NOTHING => Target::Nothing,
            _ => Target::Route(self.0),
        }
    }
}

/// Words of a sparse node with this many entries. Small ones, of which there are most, are exact; larger ones have
/// room to grow in place.
pub(super) fn sparse_words(entries: u32) -> u32 {
    let words = SPARSE_HEADER + entries;
    if words <= 16 {
        words
    } else {
        words.next_multiple_of(4)
    }
}

/// Words of a dense node with this many inner routes.
pub(super) fn dense_words(inner: u32) -> u32 {
    (DENSE_HEADER + inner).next_multiple_of(8)
}

/// Words of a skip node.
pub(super) fn skip_words<A: Bits>() -> u32 {
    2 + A::WORDS
}

/// Position of an inner route in the node's bitmap: the first `length` (0 to 5) of the key's next six bits, behind
/// a leading 1. Longer routes have higher positions.
#[inline(always)]
pub(super) fn inner_position(slot: u32, length: u32) -> u32 {
    debug_assert!(length < STRIDE);
    (1 << length) | (slot >> (STRIDE - length))
}

/// For each slot the positions of the inner routes that cover it, one a length.
pub(super) static COVERING: [u64; 64] = {
    let mut table = [0; 64];
    let mut slot = 0;
    while slot < 64 {
        let mut length = 0;
        while length < STRIDE {
            table[slot as usize] |= 1 << ((1 << length) | (slot >> (STRIDE - length)));
            length += 1;
        }
        slot += 1;
    }
    table
};

/// Positions of the inner routes that cover a slot.
#[inline(always)]
pub(super) fn covering_positions(slot: u32) -> u64 {
    COVERING[slot as usize & 63]
}

/// How many bits are set below a position (0 to 63).
#[inline(always)]
pub(super) fn rank(bitmap: u64, position: u32) -> u32 {
    (bitmap & ((1 << position) - 1)).count_ones()
}

/// The highest position that is set; the bitmap is not empty.
#[inline(always)]
pub(super) fn highest(bitmap: u64) -> u32 {
    63 - (bitmap | 1).leading_zeros()
}
