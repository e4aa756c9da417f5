//! The crown of a large IPv4 table: the nodes of its first three levels are all there and all dense.
//!
//! A reader then knows what it will find at depths 0, 6 and 12 and need not look; nearly every route of an Internet
//! table ends in the node behind. It costs 2.2 MB, so small tables go without, and so does IPv6, where most of the
//! first 18 bits are never used.

use super::{
    Address,
    arena::Arena,
    blocks::{Skip, dense_with_own_route, release, set_slot, slot, thicken, thin_out},
    node::{Entry, Kind, STRIDE, Target},
    trie::{chain, settle},
};

/// Levels of the crown.
pub(super) const LEVELS: u32 = 3;

/// A table gets a crown at this many routes ...
const FROM: usize = if cfg!(test) { 1 << 9 } else { 1 << 17 };
/// ... and loses it below this many.
const DOWN_TO: usize = FROM / 2;

/// Whether a table that has a crown, or has not, is to have one.
pub(super) fn fits<A: Address>(routes: usize, crowned: bool) -> bool {
    A::WORDS == 1 && routes >= if crowned { DOWN_TO } else { FROM }
}

/// Makes the first levels below an entry dense.
pub(super) fn put_on<A: Address>(arena: &mut Arena, entry: Entry, levels: u32) -> Entry {
    let node = dense::<A>(arena, entry);
    let Target::Node(kind, mut place) = node.target() else {
        return node;
    };
    if levels > 1 {
        for number in 0..64 {
            let below = put_on::<A>(arena, slot(arena, kind, place, number), levels - 1);
            place = set_slot(arena, (kind, place), number, below, true).place();
        }
    }
    Entry::node(kind, place)
}

/// Gives the first levels below an entry the shape that their routes ask for.
pub(super) fn take_off<A: Address>(arena: &mut Arena, entry: Entry, levels: u32) -> Entry {
    let Target::Node(Kind::Dense, mut place) = entry.target() else {
        return entry;
    };
    if levels > 1 {
        for number in 0..64 {
            let below = slot(arena, Kind::Dense, place, number);
            let below = take_off::<A>(arena, below, levels - 1);
            place = set_slot(arena, (Kind::Dense, place), number, below, true).place();
        }
    }
    let node = thin_out(arena, place);
    settle::<A>(arena, node)
}

/// The same routes in a dense node.
fn dense<A: Address>(arena: &mut Arena, entry: Entry) -> Entry {
    match entry.target() {
        Target::Nothing => dense_with_own_route(arena, None),
        Target::Route(route) => dense_with_own_route(arena, Some(route)),
        Target::Node(Kind::Dense, _) => entry,
        Target::Node(Kind::Sparse, place) => thicken(arena, place),
        Target::Node(Kind::Skip, place) => {
            let skip = Skip::<A>::read(arena, place);
            release::<A>(arena, Kind::Skip, place);
            let rest = Skip {
                count: skip.count - STRIDE,
                bits: skip.bits.shifted_left(STRIDE),
                ..skip
            };
            let below = chain(arena, rest);
            let node = dense_with_own_route(arena, None);
            set_slot(
                arena,
                (Kind::Dense, node.place()),
                skip.bits.first_six(),
                below,
                true,
            )
        }
    }
}
