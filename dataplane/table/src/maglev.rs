//! Which backend of a service takes a new session: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4), with weights.
//!
//! Each backend has an order of its own, a permutation of the slots of a table; in turns, each takes the first of its
//! order that is free. So shares are exact to a slot, and a backend that goes gives its slots to the others, with few of
//! theirs moved: as few as the table is large for its backends. Its size is chosen for less than 1 % (measured, see the
//! tests). Slots by rendezvous as those of a [`group`](crate::group) move nothing at all, but with as many of them shares are
//! off by 10 to 50 % where a service has dozens of backends, and they take ten times as long to make.
//!
//! The same backends make the same table on every host: orders come from the backends' identities alone.

use crate::group::mix;

/// A backend that takes new sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Stable identity: decides which slots are its own.
    pub id: u64,
    /// Its part of the sessions, at least 1.
    pub weight: u32,
    /// What [`Maglev::select`] answers with.
    pub number: u16,
}

/// The table. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Maglev {
    slots: Box<[u16]>,
}

/// Prime sizes, each for so many backends.
const SIZES: [(usize, usize); 5] = [
    (2, 1021),
    (3, 4093),
    (16, 16_381),
    (64, 65_521),
    (usize::MAX, 131_071),
];

/// Nobody has the slot yet.
const FREE: u16 = u16::MAX;

impl Maglev {
    /// Most backends.
    pub const BACKENDS: usize = 1000;

    /// Builds the table. Its size depends on `capacity` (backends configured, whether they take sessions or not) alone, so
    /// that one that leaves for a while does not move the others' sessions.
    pub fn new(shares: &[Share], capacity: usize) -> Self {
        let Some(heaviest) = shares.iter().map(|share| share.weight.max(1)).max() else {
            return Maglev::default();
        };
        let capacity = capacity.max(shares.len());
        let size = SIZES.iter().find(|(most, _)| capacity <= *most);
        let size = size.map_or(SIZES[4].1, |(_, size)| *size);
        let mut slots = vec![FREE; size].into_boxed_slice();
        let mut orders: Vec<Order> = shares.iter().map(|share| Order::new(share, size)).collect();
        let mut left = size;
        loop {
            for order in &mut orders {
                order.due += order.weight;
                if order.due < heaviest {
                    continue;
                }
                order.due -= heaviest;
                order.take(&mut slots);
                left -= 1;
                if left == 0 {
                    return Maglev { slots };
                }
            }
        }
    }

    /// The backend's number for a session; None: there is no backend.
    #[inline]
    pub fn select(&self, hash: u32) -> Option<u16> {
        let slot = (u64::from(hash) * self.slots.len() as u64) >> 32;
        self.slots.get(slot as usize).copied()
    }
}

/// A backend's permutation of the slots, walked as far as it has got.
struct Order {
    next: usize,
    skip: usize,
    weight: u32,
    /// A turn is due when this is the heaviest's weight.
    due: u32,
    number: u16,
}

impl Order {
    fn new(share: &Share, size: usize) -> Self {
        let (first, second) = (mix(share.id), mix(mix(share.id) ^ 0x9E37_79B9_7F4A_7C15));
        Order {
            next: (first % size as u64) as usize,
            // Any step below the size visits all slots, which are a prime number.
            skip: (second % (size as u64 - 1)) as usize + 1,
            weight: share.weight.max(1),
            due: 0,
            number: share.number,
        }
    }

    /// Takes the first slot of the order that is free; there is one.
    fn take(&mut self, slots: &mut [u16]) {
        loop {
            let slot = self.next;
            self.next = (self.next + self.skip) % slots.len();
            if slots[slot] == FREE {
                slots[slot] = self.number;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(weights: &[u32], seed: u64) -> Vec<Share> {
        let share = |(number, &weight): (usize, &u32)| Share {
            id: mix(seed ^ mix(number as u64 + 1)),
            weight,
            number: number as u16,
        };
        weights.iter().enumerate().map(share).collect()
    }

    /// How much of the others' slots is somebody else's without backend `gone`.
    fn moved(all: &[Share], gone: u16) -> f64 {
        let rest: Vec<Share> = all.iter().copied().filter(|share| share.number != gone).collect();
        let (before, after) = (Maglev::new(all, all.len()), Maglev::new(&rest, all.len()));
        let others = before
            .slots
            .iter()
            .zip(&after.slots)
            .filter(|(was, _)| **was != gone);
        let (others, moved) = others.fold((0, 0), |(others, moved), (was, is)| {
            (others + 1, moved + usize::from(was != is))
        });
        moved as f64 / f64::from(others.max(1))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 8 } else { 64 }))]

        #[test]
        fn at_most_one_percent_of_the_others_sessions_move_when_a_backend_goes(
            weights in proptest::collection::vec(1u32..=10, 2..200), seed in any::<u64>(),
            gone in any::<proptest::sample::Index>(),
        ) {
            let gone = gone.index(weights.len()) as u16;
            let moved = moved(&shares(&weights, seed), gone);
            prop_assert!(moved <= 0.01, "{:.2} % of {} backends", moved * 100.0, weights.len());
        }

        #[test]
        fn shares_are_as_the_weights(
            weights in proptest::collection::vec(1u32..=256, 1..100), seed in any::<u64>(),
        ) {
            let table = Maglev::new(&shares(&weights, seed), weights.len());
            let total: u32 = weights.iter().sum();
            let mut counts = vec![0u32; weights.len()];
            for number in &table.slots {
                counts[usize::from(*number)] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let share = f64::from(*weight) / f64::from(total) * table.slots.len() as f64;
                // A turn more or less, and what the heaviest gets of the last round.
                prop_assert!((f64::from(*count) - share).abs() <= 2.0 + share * 0.02, "{count} of {share}");
            }
        }
    }

    #[test]
    fn a_thousand_backends_keep_within_one_percent() {
        let all = shares(&[1; Maglev::BACKENDS], 7);
        for gone in [0, 400, 999] {
            let moved = moved(&all, gone);
            assert!(moved <= 0.01, "{moved}");
        }
    }

    #[test]
    fn a_backend_that_is_down_for_a_while_finds_its_sessions_again() {
        let all = shares(&[1, 3, 2], 3);
        assert_eq!(
            Maglev::new(&all, 3),
            Maglev::new(&all.clone(), 2),
            "the size is that of all three"
        );
    }

    #[test]
    fn nobody_is_selected_where_there_is_nobody() {
        assert_eq!(Maglev::new(&[], 3).select(7), None);
        let only = Maglev::new(&shares(&[5], 1), 1);
        assert_eq!((only.select(0), only.select(u32::MAX)), (Some(0), Some(0)));
    }
}
