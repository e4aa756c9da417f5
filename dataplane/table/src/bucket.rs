//! A token bucket that all workers share: how much of something may pass in a time (RFC 2697 with one rate and two
//! colours; kept as the virtual schedule of ITU-T I.371, which needs a single word).

use crate::sync::{AtomicU64, Ordering};

/// Sixty-fourths of a tick, so that rates of many units a tick are kept: with ticks of a nanosecond a small packet at
/// 100 Gbit/s costs some hundred of them.
const FRACTION: u32 = 6;
/// More of them in what a unit costs.
const COST_FRACTION: u32 = 16;

/// See the module. Ticks are those of any clock that does not go backwards.
#[derive(Debug)]
pub struct TokenBucket {
    /// When the bucket would be full again, in fractions of ticks.
    full_at: AtomicU64,
    /// What a unit costs: fractions of a tick, with further binary places.
    cost: u64,
    /// How long an empty bucket takes to fill, in fractions of ticks.
    depth: u64,
}

impl TokenBucket {
    /// A full one of `burst` units, which fills at `per_second` (both at least 1); the clock ticks `hz` times a second.
    pub fn new(per_second: u64, burst: u64, hz: u64) -> Self {
        let cost = (u128::from(hz) << (FRACTION + COST_FRACTION)) / u128::from(per_second.max(1));
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        TokenBucket {
            full_at: AtomicU64::new(0),
            cost,
            depth: costs(cost, burst.max(1)),
        }
    }

    /// Whether anything is left at `now`.
    #[inline]
    pub fn has_some(&self, now: u64) -> bool {
        self.full_at.load(Ordering::Relaxed) < (now << FRACTION).saturating_add(self.depth)
    }

    /// Takes units out. The last packet may take more than is left, which those after it wait for: a bucket smaller than a
    /// packet lets it pass all the same, at the rate.
    #[inline]
    pub fn take(&self, units: u64, now: u64) {
        let (now, cost) = (now << FRACTION, costs(self.cost, units));
        let later = |full_at: u64| Some(full_at.max(now).saturating_add(cost));
        // Never refused: `later` has always an answer.
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, later);
    }
}

#[inline]
fn costs(unit: u64, units: u64) -> u64 {
    u64::try_from((u128::from(unit) * u128::from(units)) >> COST_FRACTION).unwrap_or(u64::MAX)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HZ: u64 = 1_000_000;

    /// How many of these units pass at these times.
    fn passed(bucket: &TokenBucket, offers: impl Iterator<Item = (u64, u64)>) -> u64 {
        let mut passed = 0;
        for (now, units) in offers {
            if bucket.has_some(now) {
                bucket.take(units, now);
                passed += units;
            }
        }
        passed
    }

    #[test]
    fn a_burst_passes_at_once_and_then_the_rate() {
        let bucket = TokenBucket::new(1000, 50, HZ);
        assert_eq!(passed(&bucket, (0..1000).map(|_| (0, 1))), 50);
        // Ten seconds, ten thousand offers a second.
        let offers = (0..100_000).map(|number| (number * 100, 1));
        assert!((9_990..=10_010).contains(&passed(&bucket, offers)));
        // Idle time fills no more than the bucket.
        assert_eq!(passed(&bucket, (0..1000).map(|_| (100 * HZ, 1))), 50);
    }

    #[test]
    fn what_is_larger_than_the_bucket_passes_at_the_rate() {
        let bucket = TokenBucket::new(1000, 1, HZ);
        let offers = (0..10_000).map(|number| (number * 1000, 500));
        assert_eq!(passed(&bucket, offers), 10_000);
    }

    #[test]
    fn rates_of_many_units_a_tick_are_kept() {
        // 100 Gbit/s in bytes, by a clock of 1 GHz; twice as much is offered for a millisecond.
        let rate = 12_500_000_000;
        for length in [64, 1500] {
            let bucket = TokenBucket::new(rate, 65_536, 1_000_000_000);
            let offers = (0..25_000_000 / length).map(|number| (number * length / 25, length));
            let passed = passed(&bucket, offers) as f64 - 65_536.0;
            assert!(
                (passed / (rate as f64 / 1000.0) - 1.0).abs() < 0.01,
                "{passed} bytes of {length}"
            );
        }
    }

    proptest! {
        /// Against a bucket that is counted in whole units times ticks.
        #[test]
        fn as_much_passes_as_by_simple_counting(
            per_second in 1u64..5_000_000,
            burst in 1u64..10_000,
            offers in proptest::collection::vec((0u64..10_000, 1u64..2_000), 1..200),
        ) {
            let bucket = TokenBucket::new(per_second, burst, HZ);
            let (mut now, mut level, mut passed) = (0, i128::from(burst) * i128::from(HZ), 0u64);
            for (pause, units) in offers {
                now += pause;
                level = (level + i128::from(pause) * i128::from(per_second)).min(i128::from(burst) * i128::from(HZ));
                let near = i128::from(per_second).max(i128::from(HZ));
                let has_some = bucket.has_some(now);
                // At the edge rounding decides.
                if level.abs() > 2 * near {
                    prop_assert_eq!(has_some, level > 0, "level {} after {} units", level, passed);
                }
                if has_some {
                    bucket.take(units, now);
                    level -= i128::from(units) * i128::from(HZ);
                    passed += units;
                }
            }
        }
    }
}
