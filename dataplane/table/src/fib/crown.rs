//! The crown of a large IPv4 table: the nodes of its first levels are all there and all dense.
//!
//! Two levels let a reader begin at depth 12 (see `directory`); with three it knows what it will find there as well,
//! and nearly every route of an Internet table ends in the node behind. They cost 66 KB and 2.2 MB, so small tables go
//! without, and so does IPv6, where most of the first bits are never used.

use super::{
    Address,
    arena::Arena,
    blocks::{Skip, dense_with_own_route, release, set_slot, slot, thicken, thin_out},
    directory::Directory,
    node::{Entry, Kind, STRIDE, Target},
    trie::{chain, settle},
};

/// Levels of the largest crown.
pub(super) const LEVELS: u32 = 3;

/// A table gets so many levels at this many routes, and loses them below half as many.
const FROM: [(u32, usize); 2] = if cfg!(test) {
    [(LEVELS, 1 << 9), (2, 1 << 7)]
} else {
    [(LEVELS, 1 << 14), (2, 1 << 12)]
};

/// What the writer keeps of a crown.
pub(super) struct Crown {
    pub(super) levels: u32,
    pub(super) directory: Directory,
}

/// How many levels a table is to have dense that now has `levels`.
fn fitting<A: Address>(routes: usize, levels: u32) -> u32 {
    let fits = |(more, from): &&(u32, usize)| routes >= if levels >= *more { *from / 2 } else { *from };
    match FROM.iter().find(fits) {
        Some((levels, _)) if A::WORDS == 1 => *levels,
        _ => 0,
    }
}

/// Gives the table the crown that fits it. The directory is as before, if there was one.
pub(super) fn fit<A: Address>(
    arena: &mut Arena,
    root: Entry,
    crown: Option<Crown>,
    routes: usize,
) -> (Entry, Option<Crown>) {
    let before = crown.as_ref().map_or(0, |crown| crown.levels);
    let levels = fitting::<A>(routes, before);
    let bare = if levels < before {
        take_off::<A>(arena, root, before)
    } else {
        root
    };
    if levels == 0 {
        if let Some(crown) = crown {
            crown.directory.release(arena);
        }
        return (bare, None);
    }
    let root = if levels == before {
        root
    } else {
        put_on::<A>(arena, bare, levels)
    };
    let directory = match crown {
        Some(crown) => crown.directory,
        None => Directory::new(arena, root),
    };
    (root, Some(Crown { levels, directory }))
}

/// Makes the first levels below an entry dense.
fn put_on<A: Address>(arena: &mut Arena, entry: Entry, levels: u32) -> Entry {
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
fn take_off<A: Address>(arena: &mut Arena, entry: Entry, levels: u32) -> Entry {
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
