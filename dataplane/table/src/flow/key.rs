//! What names one direction of a session: the VRF in which a packet is looked up and its 5-tuple as it arrives.

use std::fmt;

use crate::{
    id::VrfId,
    memory::Zeroable,
    sync::{AtomicU64, Ordering},
};

/// A key of the flow table, one type an address family.
pub trait Key: Copy + Eq + fmt::Debug + Send + Sync + 'static {
    /// The key's words as they lie in the table, where a listing may read what a worker writes.
    type Cells: Zeroable + Send + Sync;

    /// A 64-bit hash whose high and low bits are both good; nobody who lacks the seed can aim at a bucket.
    fn hash(&self, seed: u64) -> u64;
    /// The key of the other direction, as looked up in `vrf`, when nothing translates addresses or ports.
    fn reversed(&self, vrf: VrfId) -> Self;
    /// IP protocol number.
    fn protocol(&self) -> u8;
    /// Writes the key into its place.
    fn store(&self, cells: &Self::Cells);
    /// Reads the key from its place.
    fn load(cells: &Self::Cells) -> Self;
    /// Whether this key lies there.
    fn lies_in(&self, cells: &Self::Cells) -> bool;
}

/// An IPv4 direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct Key4 {
    /// `u32::from(Ipv4Addr)`.
    pub source: u32,
    /// `u32::from(Ipv4Addr)`.
    pub destination: u32,
    /// Host order; an ICMP identifier stands in both ports, protocols without ports have 0.
    pub source_port: u16,
    /// Host order.
    pub destination_port: u16,
    /// In which the packet is looked up on arrival.
    pub vrf: VrfId,
    /// IP protocol number.
    pub protocol: u8,
}

/// An IPv6 direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C, align(8))]
pub struct Key6 {
    /// As on the wire.
    pub source: [u8; 16],
    /// As on the wire.
    pub destination: [u8; 16],
    /// Host order; an ICMPv6 identifier stands in both ports, protocols without ports have 0.
    pub source_port: u16,
    /// Host order.
    pub destination_port: u16,
    /// In which the packet is looked up on arrival.
    pub vrf: VrfId,
    /// Next header after the extension headers.
    pub protocol: u8,
}

#[inline(always)]
fn ports_and_context(source_port: u16, destination_port: u16, vrf: VrfId, protocol: u8) -> u64 {
    u64::from(source_port)
        | u64::from(destination_port) << 16
        | u64::from(vrf.0) << 32
        | u64::from(protocol) << 48
}

impl Key4 {
    #[inline(always)]
    fn words(&self) -> [u64; 2] {
        [
            u64::from(self.source) | u64::from(self.destination) << 32,
            ports_and_context(self.source_port, self.destination_port, self.vrf, self.protocol),
        ]
    }
}

impl Key for Key4 {
    type Cells = [AtomicU64; 2];

    #[inline(always)]
    fn hash(&self, seed: u64) -> u64 {
        let [addresses, rest] = self.words();
        finish(multiply_fold(addresses ^ seed, rest ^ other(seed)), seed)
    }

    #[inline(always)]
    fn reversed(&self, vrf: VrfId) -> Self {
        Key4 {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            vrf,
            protocol: self.protocol,
        }
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn store(&self, cells: &Self::Cells) {
        store_words(&self.words(), cells);
    }

    #[inline(always)]
    fn load(cells: &Self::Cells) -> Self {
        let [addresses, rest] = [cells[0].load(Ordering::Relaxed), cells[1].load(Ordering::Relaxed)];
        Key4 {
            source: addresses as u32,
            destination: (addresses >> 32) as u32,
            source_port: rest as u16,
            destination_port: (rest >> 16) as u16,
            vrf: VrfId((rest >> 32) as u16),
            protocol: (rest >> 48) as u8,
        }
    }

    #[inline(always)]
    fn lies_in(&self, cells: &Self::Cells) -> bool {
        words_lie_in(&self.words(), cells)
    }
}

impl Key6 {
    #[inline(always)]
    fn words(&self) -> [u64; 5] {
        let [s0, s1] = halves(self.source);
        let [d0, d1] = halves(self.destination);
        let rest = ports_and_context(self.source_port, self.destination_port, self.vrf, self.protocol);
        [s0, s1, d0, d1, rest]
    }
}

#[inline(always)]
fn halves(address: [u8; 16]) -> [u64; 2] {
    let address = u128::from_le_bytes(address);
    [address as u64, (address >> 64) as u64]
}

impl Key for Key6 {
    type Cells = [AtomicU64; 5];

    #[inline(always)]
    fn hash(&self, seed: u64) -> u64 {
        let [s0, s1, d0, d1, rest] = self.words();
        let second = other(seed);
        // Each pair under its own secret, so that no pair can cancel another.
        let source = multiply_fold(s0 ^ seed, s1 ^ second);
        let destination = multiply_fold(d0 ^ second.rotate_left(17), d1 ^ seed.rotate_left(29));
        finish(multiply_fold(source ^ rest ^ second, destination ^ seed), seed)
    }

    #[inline(always)]
    fn reversed(&self, vrf: VrfId) -> Self {
        Key6 {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            vrf,
            protocol: self.protocol,
        }
    }

    #[inline(always)]
    fn protocol(&self) -> u8 {
        self.protocol
    }

    #[inline(always)]
    fn store(&self, cells: &Self::Cells) {
        store_words(&self.words(), cells);
    }

    #[inline(always)]
    fn load(cells: &Self::Cells) -> Self {
        let word = |index: usize| cells[index].load(Ordering::Relaxed);
        let address = |low: usize| (u128::from(word(low)) | u128::from(word(low + 1)) << 64).to_le_bytes();
        let rest = word(4);
        Key6 {
            source: address(0),
            destination: address(2),
            source_port: rest as u16,
            destination_port: (rest >> 16) as u16,
            vrf: VrfId((rest >> 32) as u16),
            protocol: (rest >> 48) as u8,
        }
    }

    #[inline(always)]
    fn lies_in(&self, cells: &Self::Cells) -> bool {
        words_lie_in(&self.words(), cells)
    }
}

#[inline(always)]
fn store_words<const N: usize>(words: &[u64; N], cells: &[AtomicU64; N]) {
    for (word, cell) in words.iter().zip(cells) {
        cell.store(*word, Ordering::Relaxed);
    }
}

/// Without a branch a word: one compare at the end.
#[inline(always)]
fn words_lie_in<const N: usize>(words: &[u64; N], cells: &[AtomicU64; N]) -> bool {
    words.iter().zip(cells).fold(0, |differs, (word, cell)| {
        differs | (word ^ cell.load(Ordering::Relaxed))
    }) == 0
}

/// The 128-bit product, folded: each bit of either factor reaches about half of the result's bits.
#[inline(always)]
fn multiply_fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// A second secret from the seed.
#[inline(always)]
fn other(seed: u64) -> u64 {
    seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15
}

#[inline(always)]
fn finish(folded: u64, seed: u64) -> u64 {
    multiply_fold(folded ^ other(seed), 0xd6e8_feb8_6659_fd93)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key4() -> impl Strategy<Value = Key4> {
        any::<(u32, u32, u16, u16, u16, u8)>().prop_map(
            |(source, destination, sport, dport, vrf, protocol)| Key4 {
                source,
                destination,
                source_port: sport,
                destination_port: dport,
                vrf: VrfId(vrf),
                protocol,
            },
        )
    }

    fn key6() -> impl Strategy<Value = Key6> {
        any::<([u8; 16], [u8; 16], u16, u16, u16, u8)>().prop_map(
            |(source, destination, sport, dport, vrf, protocol)| Key6 {
                source,
                destination,
                source_port: sport,
                destination_port: dport,
                vrf: VrfId(vrf),
                protocol,
            },
        )
    }

    fn is_kept<K: Key>(key: K, other: K, vrf: VrfId, seed: u64) {
        let cells = K::Cells::default();
        key.store(&cells);
        assert_eq!(K::load(&cells), key);
        assert!(key.lies_in(&cells));
        assert_eq!(other.lies_in(&cells), other == key);
        assert_eq!(key.reversed(VrfId(9)).reversed(vrf), key);
        assert_eq!(key.hash(seed), K::load(&cells).hash(seed));
    }

    proptest! {
        #[test]
        fn an_ipv4_key_is_read_as_it_was_written(key in key4(), other in key4(), seed: u64) {
            is_kept(key, other, key.vrf, seed);
        }

        #[test]
        fn an_ipv6_key_is_read_as_it_was_written(key in key6(), other in key6(), seed: u64) {
            is_kept(key, other, key.vrf, seed);
        }
    }

    /// Counts of `bits` of the hash over keys that differ as little as real ones do.
    fn spread(hashes: impl Iterator<Item = u64>, bits: impl Fn(u64) -> usize, boxes: usize) -> f64 {
        let mut counts = vec![0u32; boxes];
        let mut total = 0f64;
        for hash in hashes {
            counts[bits(hash)] += 1;
            total += 1.0;
        }
        let expected = total / boxes as f64;
        // Chi-square a degree of freedom: 1 for a random function.
        counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum::<f64>()
            / (boxes as f64 - 1.0)
    }

    #[test]
    fn high_and_low_bits_are_spread_for_keys_in_sequence() {
        let base = Key4 {
            source: 0x0a00_0001,
            destination: 0x0a00_0002,
            source_port: 1024,
            destination_port: 80,
            vrf: VrfId(1),
            protocol: 17,
        };
        type Vary = fn(Key4, u32) -> Key4;
        let ways: [Vary; 5] = [
            |key, n| Key4 {
                source: key.source + n,
                ..key
            },
            |key, n| Key4 {
                destination: key.destination + (n << 8),
                ..key
            },
            |key, n| Key4 {
                source_port: n as u16,
                destination_port: (n >> 16) as u16,
                ..key
            },
            |key, n| Key4 {
                vrf: VrfId(n as u16 & 0xfff),
                source: key.source + (n >> 12),
                ..key
            },
            |key, n| Key4 {
                source: key.source + n,
                destination: key.destination + n,
                ..key
            },
        ];
        for (way, vary) in ways.iter().enumerate() {
            for seed in [0, 1, 0x1234_5678_9abc_def0, u64::MAX] {
                let hashes = || (0..1 << 17).map(|n| vary(base, n).hash(seed));
                for (name, bits) in [("high", 52), ("low", 0), ("tag", 4), ("middle", 28)] {
                    let ratio = spread(hashes(), |hash| (hash >> bits) as usize & 0xfff, 4096);
                    assert!(
                        (0.8..1.2).contains(&ratio),
                        "way {way}, seed {seed:x}, {name} bits: {ratio}"
                    );
                }
            }
        }
    }

    #[test]
    fn ipv6_keys_in_sequence_are_spread() {
        for vary in 0..36 {
            let hashes = (0..1u32 << 16).map(|n| {
                let mut address = [[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]; 2];
                if vary < 30 {
                    let at = vary % 15;
                    address[vary / 15][at..at + 2].copy_from_slice(&(n as u16).to_be_bytes());
                }
                let port = if vary >= 30 { n as u16 } else { 7 };
                Key6 {
                    source: address[0],
                    destination: address[1],
                    source_port: port,
                    destination_port: 80,
                    vrf: VrfId(1),
                    protocol: 6,
                }
                .hash(0x5eed)
            });
            let hashes: Vec<u64> = hashes.collect();
            for bits in [0, 24, 52] {
                let ratio = spread(
                    hashes.iter().copied(),
                    |hash| (hash >> bits) as usize & 0xfff,
                    4096,
                );
                assert!(
                    (0.8..1.2).contains(&ratio),
                    "byte {vary}, bits from {bits}: {ratio}"
                );
            }
        }
    }

    #[test]
    fn seeds_send_the_same_keys_elsewhere() {
        let key = Key4 {
            source: 1,
            destination: 2,
            source_port: 3,
            destination_port: 4,
            vrf: VrfId(5),
            protocol: 6,
        };
        let same = (0..1000u64)
            .filter(|seed| key.hash(*seed) >> 54 == key.hash(seed + 1000) >> 54)
            .count();
        assert!(same < 10, "{same} of 1000 buckets stayed");
    }
}
