//! Reading the trie as the writer sees it, unpublished changes included: one prefix, what covers it, all in order.

use super::{
    Address, Prefix,
    arena::Arena,
    blocks::{Skip, inner, inner_bitmap, slot},
    node::{Entry, Kind, STRIDE, Target, covering_positions, highest, inner_position},
    trie::Rest,
};

/// The route of exactly this prefix.
pub(super) fn get<A: Address>(arena: &Arena, root: Entry, prefix: Prefix<A>) -> Option<u32> {
    let mut rest = Rest::of(prefix);
    let mut entry = root;
    loop {
        match entry.target() {
            Target::Nothing => return None,
            Target::Route(route) => return (rest.length == 0).then_some(route),
            Target::Node(Kind::Skip, place) => {
                let skip = Skip::<A>::read(arena, place);
                if rest.length < skip.count || rest.bits.common_bits(skip.bits) < skip.count {
                    return None;
                }
                rest = rest.skip(skip.count);
                entry = skip.behind;
            }
            Target::Node(kind, place) => {
                if let Some(position) = rest.position() {
                    let present = inner_bitmap(arena, kind, place) & (1 << position) != 0;
                    return present.then(|| inner(arena, kind, place, position));
                }
                entry = slot(arena, kind, place, rest.slot());
                rest = rest.skip(STRIDE);
            }
        }
    }
}

/// The longest route whose prefix has at most `longest` bits and covers the address, with the length of its prefix.
pub(super) fn longest_match<A: Address>(
    arena: &Arena,
    root: Entry,
    address: A,
    longest: u32,
) -> Option<(u8, u32)> {
    let mut rest = Rest {
        bits: address,
        length: longest,
    };
    let mut depth = 0;
    let mut entry = root;
    let mut best = None;
    loop {
        match entry.target() {
            Target::Nothing => return best,
            Target::Route(route) => return Some((depth as u8, route)),
            Target::Node(Kind::Skip, place) => {
                let skip = Skip::<A>::read(arena, place);
                if rest.length < skip.count || rest.bits.common_bits(skip.bits) < skip.count {
                    return best;
                }
                rest = rest.skip(skip.count);
                depth += skip.count;
                entry = skip.behind;
            }
            Target::Node(kind, place) => {
                let mut covering = inner_bitmap(arena, kind, place) & covering_positions(rest.slot());
                if rest.length < STRIDE - 1 {
                    // Longer lengths have higher positions.
                    covering &= (1 << (2 << rest.length)) - 1;
                }
                if covering != 0 {
                    let position = highest(covering);
                    let length = highest(u64::from(position));
                    best = Some(((depth + length) as u8, inner(arena, kind, place, position)));
                }
                if rest.length < STRIDE {
                    return best;
                }
                entry = slot(arena, kind, place, rest.slot());
                rest = rest.skip(STRIDE);
                depth += STRIDE;
            }
        }
    }
}

/// A node on the way of a walk.
struct Frame<A> {
    kind: Kind,
    place: u32,
    /// The bits that lead to the node.
    bits: A,
    depth: u32,
    /// The next prefix within the node to look at: its first slot and its length (6: the slot itself).
    slot: u32,
    length: u32,
}

/// All routes, by address, a covering prefix before what it covers.
pub(super) struct Walk<'a, A> {
    arena: &'a Arena,
    start: Option<Entry>,
    frames: Vec<Frame<A>>,
}

impl<'a, A: Address> Walk<'a, A> {
    pub(super) fn new(arena: &'a Arena, root: Entry) -> Self {
        Walk {
            arena,
            start: Some(root),
            frames: Vec::new(),
        }
    }

    /// Comes to an entry: its route, or its node's frame, or nothing.
    fn enter(&mut self, entry: Entry, mut bits: A, mut depth: u32) -> Option<(Prefix<A>, u32)> {
        let mut entry = entry;
        loop {
            match entry.target() {
                Target::Nothing => return None,
                Target::Route(route) => return Some((Prefix::containing(bits, depth as u8), route)),
                Target::Node(Kind::Skip, place) => {
                    let skip = Skip::<A>::read(self.arena, place);
                    bits = bits.or(skip.bits.shifted_right(depth));
                    depth += skip.count;
                    entry = skip.behind;
                }
                Target::Node(kind, place) => {
                    self.frames.push(Frame {
                        kind,
                        place,
                        bits,
                        depth,
                        slot: 0,
                        length: 0,
                    });
                    return None;
                }
            }
        }
    }
}

impl<A: Address> Iterator for Walk<'_, A> {
    type Item = (Prefix<A>, u32);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(root) = self.start.take()
            && let Some(found) = self.enter(root, A::default(), 0)
        {
            return Some(found);
        }
        while let Some(frame) = self.frames.last_mut() {
            if frame.slot == 64 {
                self.frames.pop();
                continue;
            }
            let (at, length) = (frame.slot, frame.length);
            let (kind, place, depth) = (frame.kind, frame.place, frame.depth);
            let bits = frame.bits.or(A::from_word(0, at << 26).shifted_right(depth));
            if length < STRIDE {
                frame.length += 1;
                let position = inner_position(at, length);
                if inner_bitmap(self.arena, kind, place) & (1 << position) != 0 {
                    let route = inner(self.arena, kind, place, position);
                    return Some((Prefix::containing(bits, (depth + length) as u8), route));
                }
                continue;
            }
            frame.slot += 1;
            // The shortest prefix that begins at the next slot.
            frame.length = STRIDE.saturating_sub(frame.slot.trailing_zeros());
            let entry = slot(self.arena, kind, place, at);
            if let Some(found) = self.enter(entry, bits, depth + STRIDE) {
                return Some(found);
            }
        }
        None
    }
}
