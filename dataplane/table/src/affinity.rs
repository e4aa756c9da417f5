//! Which backend a client had last: a bounded memory that workers share without waiting.
//!
//! A client has a bucket of one cache line, by its hash. An entry says who, which backend, and when it opened its last
//! session; one that is older than the timeout is as good as none. Who finds no room takes the place of the entry that was
//! used the longest time ago: that client is spread anew with its next session. A client or backend is known by some bits
//! of its identity, so that two clients of one bucket are taken for one in one of 16 million cases, which share a backend
//! then.
//!
//! Each entry is one word. Two workers that see a client for the first time at the same moment may both write it down;
//! they agree on the backend, since they choose it by the client alone.

use crate::sync::{AtomicU64, Ordering};

/// Entries of a bucket: a cache line.
const WAYS: usize = 8;
/// Buckets: 16,384 clients, 128 KiB.
const BUCKETS: usize = 2048;

const CLIENT_BITS: u32 = 24;
const BACKEND_BITS: u32 = 20;
const SECONDS_BITS: u32 = 64 - CLIENT_BITS - BACKEND_BITS;
const SECONDS_MASK: u64 = (1 << SECONDS_BITS) - 1;
const BACKEND_MASK: u64 = (1 << BACKEND_BITS) - 1;

/// Longest timeout, seconds: half of what an entry's clock tells apart.
pub const TIMEOUT_MAX: u32 = 1 << (SECONDS_BITS - 1);

#[repr(align(64))]
#[derive(Debug)]
struct Bucket([AtomicU64; WAYS]);

/// See the module.
#[derive(Debug)]
pub struct Affinity {
    buckets: Box<[Bucket]>,
}

impl Default for Affinity {
    /// Nobody is known.
    fn default() -> Self {
        let bucket = || Bucket(std::array::from_fn(|_| AtomicU64::new(0)));
        Affinity {
            buckets: std::iter::repeat_with(bucket).take(BUCKETS).collect(),
        }
    }
}

/// What an entry keeps of a backend's identity.
pub fn mark(backend: u64) -> u32 {
    (backend & BACKEND_MASK) as u32
}

struct Entry(u64);

impl Entry {
    /// Never 0: that is a vacant place.
    fn new(client: u64, backend: u32, now: u32) -> Self {
        let seconds = u64::from(now) & SECONDS_MASK;
        Entry(client_of(client) << (64 - CLIENT_BITS) | u64::from(backend) << SECONDS_BITS | seconds)
    }

    fn age(&self, now: u32) -> u32 {
        (u64::from(now).wrapping_sub(self.0) & SECONDS_MASK) as u32
    }

    fn is_of(&self, client: u64) -> bool {
        self.0 != 0 && self.0 >> (64 - CLIENT_BITS) == client_of(client)
    }

    fn backend(&self) -> u32 {
        (self.0 >> SECONDS_BITS & BACKEND_MASK) as u32
    }
}

fn client_of(client: u64) -> u64 {
    (client >> (64 - CLIENT_BITS)).max(1)
}

impl Affinity {
    fn bucket(&self, client: u64) -> &[AtomicU64; WAYS] {
        &self.buckets[client as usize % BUCKETS].0
    }

    /// The [`mark`] of the backend that a client had within `timeout` seconds. `client` is a hash of 64 good bits.
    #[inline]
    pub fn recall(&self, client: u64, now: u32, timeout: u32) -> Option<u32> {
        let entries = self.bucket(client).iter();
        let mut entries = entries.map(|entry| Entry(entry.load(Ordering::Relaxed)));
        let entry = entries.find(|entry| entry.is_of(client))?;
        (entry.age(now) <= timeout).then(|| entry.backend())
    }

    /// A client opens a session to the backend with this [`mark`].
    #[inline]
    pub fn remember(&self, client: u64, backend: u32, now: u32) {
        let bucket = self.bucket(client);
        let known = |entry: &&AtomicU64| Entry(entry.load(Ordering::Relaxed)).is_of(client);
        let age = |entry: &AtomicU64| match entry.load(Ordering::Relaxed) {
            0 => u32::MAX,
            word => Entry(word).age(now),
        };
        let place = bucket
            .iter()
            .find(known)
            .or_else(|| bucket.iter().max_by_key(|entry| age(entry)));
        if let Some(place) = place {
            place.store(Entry::new(client, backend, now).0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::mix;

    #[test]
    fn a_client_keeps_its_backend_until_the_timeout_has_passed_since_its_last_session() {
        let affinity = Affinity::default();
        let client = mix(1);
        assert_eq!(affinity.recall(client, 100, 60), None);
        affinity.remember(client, 7, 100);
        assert_eq!(affinity.recall(client, 160, 60), Some(7));
        affinity.remember(client, 7, 160);
        assert_eq!(affinity.recall(client, 220, 60), Some(7));
        assert_eq!(affinity.recall(client, 221, 60), None);
        assert_eq!(affinity.recall(mix(2), 160, 60), None);
    }

    #[test]
    fn the_clock_may_pass_its_end() {
        let affinity = Affinity::default();
        let late = SECONDS_MASK as u32;
        affinity.remember(mix(1), 7, late);
        assert_eq!(affinity.recall(mix(1), late + 5, 60), Some(7));
        assert_eq!(affinity.recall(mix(1), late + 61, 60), None);
    }

    #[test]
    fn who_finds_no_room_takes_the_oldest_place() {
        let affinity = Affinity::default();
        // All of one bucket.
        let client = |number: u64| number << 40 | 5;
        for number in 1..=WAYS as u64 {
            affinity.remember(client(number), number as u32, number as u32);
        }
        affinity.remember(client(100), 100, 50);
        let known = |number| affinity.recall(client(number), 50, 1000);
        assert_eq!((known(1), known(2), known(100)), (None, Some(2), Some(100)));
    }

    #[test]
    fn all_clients_that_there_is_room_for_are_known() {
        let affinity = Affinity::default();
        let clients: Vec<u64> = (0..4000).map(mix).collect();
        for client in &clients {
            affinity.remember(*client, mark(*client), 1);
        }
        let right = clients
            .iter()
            .filter(|client| affinity.recall(**client, 1, 10) == Some(mark(**client)));
        assert!(right.count() > 3_990, "a quarter full, hardly any bucket is");
    }
}
