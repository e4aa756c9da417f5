//! Route tables and destinations as the Internet has them, the same in each run.

use std::collections::HashSet;

use weft_table::{
    RouteId,
    fib::{Address, Prefix},
};

/// Routes of each prefix length in a table of a million: the shape of the Internet's IPv4 table (as the CIDR report
/// counts it), with a fiftieth of longer ones on top, as providers carry within.
const IPV4: [(u8, usize); 24] = [
    (8, 16),
    (9, 13),
    (10, 39),
    (11, 104),
    (12, 300),
    (13, 580),
    (14, 1_200),
    (15, 2_050),
    (16, 13_500),
    (17, 8_300),
    (18, 13_800),
    (19, 24_800),
    (20, 44_000),
    (21, 52_000),
    (22, 109_000),
    (23, 97_000),
    (24, 613_298),
    (25, 2_000),
    (26, 2_000),
    (27, 2_000),
    (28, 2_000),
    (29, 3_000),
    (30, 4_000),
    (32, 5_000),
];

/// The same of a million IPv6 routes.
const IPV6: [(u8, usize); 14] = [
    (20, 100),
    (24, 300),
    (28, 2_000),
    (29, 28_000),
    (30, 4_000),
    (32, 125_000),
    (33, 28_000),
    (36, 60_000),
    (38, 25_000),
    (40, 85_000),
    (42, 30_000),
    (44, 95_000),
    (46, 50_000),
    (48, 467_600),
];

/// Of the longer prefixes, so many in a hundred lie within a shorter one that is announced as well.
const NESTED: usize = 70;

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below a limit.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.draw()) * limit as u128) >> 64) as usize
    }

    /// From 0 up to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of some.
    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

/// A family as the Internet uses it.
pub trait Family: Address {
    /// How many routes of each length a million has, the shortest first.
    const LENGTHS: &'static [(u8, usize)];
    /// An address of the space that is handed out.
    fn anywhere(random: &mut Random) -> Self;
    /// The prefix's first address with the rest at random.
    fn inside(prefix: Prefix<Self>, random: &mut Random) -> Self;
}

impl Family for u32 {
    const LENGTHS: &'static [(u8, usize)] = &IPV4;

    fn anywhere(random: &mut Random) -> u32 {
        loop {
            let address = (random.draw() >> 32) as u32;
            if !matches!(address >> 24, 0 | 10 | 127 | 224..) {
                return address;
            }
        }
    }

    fn inside(prefix: Prefix<u32>, random: &mut Random) -> u32 {
        prefix.address()
            | ((random.draw() as u32)
                .checked_shr(prefix.length().into())
                .unwrap_or(0))
    }
}

impl Family for u128 {
    const LENGTHS: &'static [(u8, usize)] = &IPV6;

    fn anywhere(random: &mut Random) -> u128 {
        // The registries' blocks: a few hundred /16 of 2000::/3.
        let block = 0x2000 + random.below(0x0e00) as u128 / 8 * 8;
        (block << 112) | (u128::from(random.draw()) << 48) | u128::from(random.draw() >> 16)
    }

    fn inside(prefix: Prefix<u128>, random: &mut Random) -> u128 {
        let host = (u128::from(random.draw()) << 64) | u128::from(random.draw());
        prefix.address() | host.checked_shr(prefix.length().into()).unwrap_or(0)
    }
}

/// So many routes, in the order in which they would come: none.
pub fn table<A: Family>(count: usize, random: &mut Random) -> Vec<(Prefix<A>, RouteId)> {
    let mut seen = HashSet::with_capacity(count);
    let mut prefixes: Vec<Prefix<A>> = Vec::with_capacity(count);
    let million: usize = A::LENGTHS.iter().map(|(_, share)| share).sum();
    for &(length, share) in A::LENGTHS {
        let shorter = prefixes.len();
        let wanted = (share * count).div_ceil(million);
        let mut tries = 0;
        while prefixes.len() < shorter + wanted && tries < 20 * wanted {
            tries += 1;
            let nested = shorter > 0 && random.below(100) < NESTED;
            let address = if nested {
                let around = prefixes[random.below(shorter)];
                A::inside(around, random)
            } else {
                A::anywhere(random)
            };
            let prefix = Prefix::containing(address, length);
            if seen.insert(prefix) {
                prefixes.push(prefix);
            }
        }
    }
    for end in (1..prefixes.len()).rev() {
        prefixes.swap(end, random.below(end + 1));
    }
    prefixes.truncate(count);
    let numbered = prefixes.into_iter().enumerate();
    numbered
        .map(|(number, prefix)| (prefix, RouteId(number as u32)))
        .collect()
}

/// Destinations of anybody, whether there is a route or not.
pub fn random_destinations<A: Family>(count: usize, random: &mut Random) -> Vec<A> {
    (0..count).map(|_| A::anywhere(random)).collect()
}

/// Destinations in routes of the table, all alike.
pub fn routed_destinations<A: Family>(
    table: &[(Prefix<A>, RouteId)],
    count: usize,
    random: &mut Random,
) -> Vec<A> {
    (0..count)
        .map(|_| A::inside(random.of(table).0, random))
        .collect()
}

/// Destinations in routes of the table as traffic has them: of 100,000 addresses the n-th is asked for 1/n as often as
/// the first (Zipf's law).
pub fn skewed_destinations<A: Family>(
    table: &[(Prefix<A>, RouteId)],
    count: usize,
    random: &mut Random,
) -> Vec<A> {
    let addresses = routed_destinations(table, 100_000, random);
    let ranks = (addresses.len() as f64).ln();
    (0..count)
        .map(|_| addresses[(random.fraction() * ranks).exp() as usize - 1])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has_the_shape<A: Family>(count: usize) {
        let table = table::<A>(count, &mut Random(1));
        assert_eq!(table.len(), count);
        let distinct: HashSet<_> = table.iter().map(|(prefix, _)| *prefix).collect();
        assert_eq!(distinct.len(), count);
        for &(length, share) in A::LENGTHS {
            let found = table
                .iter()
                .filter(|(prefix, _)| prefix.length() == length)
                .count();
            let wanted = share * count / 1_000_000;
            assert!(
                found.abs_diff(wanted) <= 2 + wanted / 10,
                "{found} routes of /{length}, not {wanted}"
            );
        }
    }

    #[test]
    fn tables_have_the_lengths_of_the_internets() {
        has_the_shape::<u32>(100_000);
        has_the_shape::<u128>(50_000);
    }

    #[test]
    fn skewed_destinations_have_favourites_and_a_long_tail() {
        let table = table::<u32>(1000, &mut Random(2));
        let destinations = skewed_destinations(&table, 100_000, &mut Random(3));
        let mut counts = std::collections::HashMap::new();
        for destination in &destinations {
            *counts.entry(*destination).or_insert(0_usize) += 1;
        }
        let most = counts.values().max().copied().unwrap_or_default();
        // The first has what is drawn between ranks 1 and 2: ln 2 of ln 100,000.
        assert!((5_500..6_500).contains(&most), "{most}");
        assert!(counts.len() > 20_000, "{}", counts.len());
    }
}
