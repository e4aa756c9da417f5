//! Insertion and removal: down the path of the prefix, change what is at its end, and on the way back up point each
//! node at what its child has become.
//!
//! The shape depends on the set of routes alone (but for how long a node stays dense): a sparse node is never empty,
//! never holds only the route of its own prefix (the entry above says that itself), and a chain of nodes that only
//! lead on is one skip node.

use super::{
    Address, Prefix,
    arena::Arena,
    blocks::{
        Skip, clear_inner, inner, inner_bitmap, only_own_route, only_slot, release, set_inner, set_slot,
        slot, sparse_with_inner, sparse_with_slot, take_link,
    },
    node::{Entry, Kind, STRIDE, Target, inner_position},
};

/// What is left of a prefix behind the levels already passed: its bits, shifted to the top, and how many there are.
#[derive(Clone, Copy)]
pub(super) struct Rest<A> {
    pub(super) bits: A,
    pub(super) length: u32,
}

impl<A: Address> Rest<A> {
    pub(super) fn of(prefix: Prefix<A>) -> Self {
        Rest {
            bits: prefix.address(),
            length: u32::from(prefix.length()),
        }
    }

    /// Behind the next `count` bits.
    pub(super) fn skip(self, count: u32) -> Self {
        Rest {
            bits: self.bits.shifted_left(count),
            length: self.length - count,
        }
    }

    /// The slot of the next level.
    pub(super) fn slot(self) -> u32 {
        self.bits.first_six()
    }

    /// Where the route is among a node's inner routes; none if it belongs further down.
    pub(super) fn position(self) -> Option<u32> {
        (self.length < STRIDE).then(|| inner_position(self.slot(), self.length))
    }
}

/// Adds or replaces a route below an entry. Gives the entry as it is then, and the route that was there.
pub(super) fn insert<A: Address>(
    arena: &mut Arena,
    entry: Entry,
    rest: Rest<A>,
    route: u32,
) -> (Entry, Option<u32>) {
    match entry.target() {
        Target::Nothing => (path(arena, rest, route), None),
        Target::Route(old) if rest.length == 0 => (Entry(route), Some(old)),
        Target::Route(own) => {
            let node = sparse_with_inner(arena, inner_position(0, 0), own);
            insert(arena, node, rest, route)
        }
        Target::Node(Kind::Skip, place) => insert_at_skip(arena, entry, place, rest, route),
        Target::Node(kind, place) => match rest.position() {
            Some(position) => {
                let present = inner_bitmap(arena, kind, place) & (1 << position) != 0;
                let old = present.then(|| inner(arena, kind, place, position));
                if old == Some(route) {
                    return (entry, old);
                }
                (set_inner(arena, kind, place, position, route), old)
            }
            None => {
                let child = slot(arena, kind, place, rest.slot());
                let (after, old) = insert(arena, child, rest.skip(STRIDE), route);
                if after == child {
                    return (entry, old);
                }
                (set_slot(arena, (kind, place), rest.slot(), after, false), old)
            }
        },
    }
}

fn insert_at_skip<A: Address>(
    arena: &mut Arena,
    entry: Entry,
    place: u32,
    rest: Rest<A>,
    route: u32,
) -> (Entry, Option<u32>) {
    let skip = Skip::<A>::read(arena, place);
    let same = rest.bits.common_bits(skip.bits).min(rest.length);
    if same >= skip.count {
        let (after, old) = insert(arena, skip.behind, rest.skip(skip.count), route);
        if after == skip.behind {
            return (entry, old);
        }
        return (Skip::<A>::set_behind(arena, place, after), old);
    }
    // They part within the level that begins behind `before` bits: a node there leads both ways.
    let before = same / STRIDE * STRIDE;
    release::<A>(arena, Kind::Skip, place);
    let old_bits = skip.bits.shifted_left(before);
    let tail = chain(
        arena,
        Skip {
            count: skip.count - before - STRIDE,
            bits: old_bits.shifted_left(STRIDE),
            behind: skip.behind,
        },
    );
    let branch = sparse_with_slot(arena, old_bits.first_six(), tail);
    let (branch, _) = insert(arena, branch, rest.skip(before), route);
    (
        chain(
            arena,
            Skip {
                count: before,
                bits: skip.bits,
                behind: branch,
            },
        ),
        None,
    )
}

/// The entry for a part of the address space with one route in it.
fn path<A: Address>(arena: &mut Arena, rest: Rest<A>, route: u32) -> Entry {
    let levels = rest.length / STRIDE * STRIDE;
    let end = rest.skip(levels);
    let behind = match end.length {
        0 => Entry(route),
        _ => sparse_with_inner(arena, inner_position(end.slot(), end.length), route),
    };
    chain(
        arena,
        Skip {
            count: levels,
            bits: rest.bits,
            behind,
        },
    )
}

/// The entry that leads through some bits (whole levels) and only through them. Bits behind the count are ignored.
pub(super) fn chain<A: Address>(arena: &mut Arena, link: Skip<A>) -> Entry {
    let Skip {
        mut count,
        bits,
        mut behind,
    } = link;
    if count == 0 || behind == Entry::NOTHING {
        return behind;
    }
    let mut bits = bits.network(count as u8);
    while let Some(next) = take_link::<A>(arena, behind) {
        bits = bits.or(next.bits.shifted_right(count));
        count += next.count;
        behind = next.behind;
    }
    if count == STRIDE {
        return sparse_with_slot(arena, bits.first_six(), behind);
    }
    Skip { count, bits, behind }.write(arena)
}

/// Removes a route below an entry whose first `pinned` levels stay as they are. Gives the entry as it is then, and the
/// route; none if there was none.
pub(super) fn remove<A: Address>(
    arena: &mut Arena,
    entry: Entry,
    rest: Rest<A>,
    pinned: u32,
) -> Option<(Entry, u32)> {
    match entry.target() {
        Target::Nothing => None,
        Target::Route(route) => (rest.length == 0).then_some((Entry::NOTHING, route)),
        Target::Node(Kind::Skip, place) => {
            let skip = Skip::<A>::read(arena, place);
            if rest.length < skip.count || rest.bits.common_bits(skip.bits) < skip.count {
                return None;
            }
            let (behind, route) = remove(arena, skip.behind, rest.skip(skip.count), 0)?;
            if leads_on(arena, behind) || behind == Entry::NOTHING {
                release::<A>(arena, Kind::Skip, place);
                return Some((chain(arena, Skip { behind, ..skip }), route));
            }
            Some((Skip::<A>::set_behind(arena, place, behind), route))
        }
        Target::Node(kind, place) => match rest.position() {
            Some(position) => {
                if inner_bitmap(arena, kind, place) & (1 << position) == 0 {
                    return None;
                }
                let route = inner(arena, kind, place, position);
                let after = clear_inner(arena, kind, place, position);
                Some((settle::<A>(arena, after), route))
            }
            None => {
                let child = slot(arena, kind, place, rest.slot());
                let (after, route) = remove(arena, child, rest.skip(STRIDE), pinned.saturating_sub(1))?;
                let after = if after == child {
                    entry
                } else {
                    set_slot(arena, (kind, place), rest.slot(), after, pinned > 0)
                };
                Some((settle::<A>(arena, after), route))
            }
        },
    }
}

/// Gives a node from which something was taken the shape that its routes ask for.
pub(super) fn settle<A: Address>(arena: &mut Arena, entry: Entry) -> Entry {
    let Target::Node(Kind::Sparse, place) = entry.target() else {
        return entry;
    };
    if let Some(route) = only_own_route(arena, place) {
        release::<A>(arena, Kind::Sparse, place);
        return Entry(route);
    }
    match only_slot(arena, place) {
        Some((slot, behind)) if leads_on(arena, behind) => {
            release::<A>(arena, Kind::Sparse, place);
            chain(
                arena,
                Skip {
                    count: STRIDE,
                    bits: A::from_word(0, slot << 26),
                    behind,
                },
            )
        }
        _ => entry,
    }
}

/// Whether the entry leads to a skip node or to a node that is as good as one.
fn leads_on(arena: &Arena, entry: Entry) -> bool {
    match entry.target() {
        Target::Node(Kind::Skip, _) => true,
        Target::Node(Kind::Sparse, place) => only_slot(arena, place).is_some(),
        _ => false,
    }
}
