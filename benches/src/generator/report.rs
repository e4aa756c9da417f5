//! What a run measured: packets, losses and latencies, a stream at a time.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Latencies beyond that count as that: 2^36 cycles are half a minute.
const LONGEST: u64 = 1 << 36;
/// Percentiles are right to 1 %: a finer histogram would not stay in the first-level cache.
const DIGITS: u8 = 2;

/// Cycles from sending to receiving, counted.
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // With these constants it cannot be refused.
        Latencies(
            Histogram::new_with_bounds(1, LONGEST, DIGITS)
                .unwrap_or_else(|error| unreachable!("the histogram's bounds are constants: {error}")),
        )
    }
}

impl Latencies {
    /// One packet took `cycles`.
    #[inline(always)]
    pub fn record(&mut self, cycles: u64) {
        self.0.saturating_record(cycles);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// In nanoseconds.
    pub fn percentiles(&self, cycles_per_second: u64) -> Percentiles {
        let nanoseconds = |cycles: u64| cycles as f64 * 1e9 / cycles_per_second as f64;
        let at = |quantile| nanoseconds(self.0.value_at_quantile(quantile));
        Percentiles {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: nanoseconds(self.0.max()),
        }
    }
}

/// Latencies in nanoseconds: half of the packets took at most `p50`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Percentiles {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// One stream's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Packets that were due: taken by the device or refused by it.
    pub offered: u64,
    /// Those that the device did not take, since its queue was full.
    pub refused: u64,
    /// Packets that were left out, since the generator itself came late.
    pub skipped: u64,
    /// What came back.
    pub received: u64,
    /// What came back behind a packet with a higher number.
    pub out_of_order: u64,
    /// Seconds from the first packet to the last that was taken.
    pub sending: f64,
    /// Of what came back.
    pub latency: Percentiles,
}

impl StreamReport {
    /// What did not come back, out of what was offered: 0 to 1.
    pub fn loss(&self) -> f64 {
        self.offered.saturating_sub(self.received) as f64 / self.offered.max(1) as f64
    }
}

/// Since the start of the run, or since the counts were cleared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Seconds.
    pub elapsed: f64,
    /// In the order of the run's streams.
    pub streams: Vec<StreamReport>,
    /// Frames that came and are no stream's, or an earlier run's.
    pub foreign: u64,
}

impl Report {
    /// Of all streams together.
    pub fn loss(&self) -> f64 {
        let offered: u64 = self.streams.iter().map(|stream| stream.offered).sum();
        self.lost() as f64 / offered.max(1) as f64
    }

    /// Packets of all streams that did not come back.
    pub fn lost(&self) -> u64 {
        let lost = |stream: &StreamReport| stream.offered.saturating_sub(stream.received);
        self.streams.iter().map(lost).sum()
    }

    /// Packets a second of all streams together that came back.
    pub fn received_rate(&self, sending: Duration) -> f64 {
        let received: u64 = self.streams.iter().map(|stream| stream.received).sum();
        received as f64 / sending.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_list_to_a_percent(
            mut cycles in prop::collection::vec(1u64..10_000_000, 1..2000)
        ) {
            let mut latencies = Latencies::default();
            cycles.iter().for_each(|value| latencies.record(*value));
            cycles.sort_unstable();
            // A counter of 1 GHz: cycles are nanoseconds.
            let found = latencies.percentiles(1_000_000_000);
            let expected = |quantile: f64| {
                let rank = (quantile * cycles.len() as f64).ceil().max(1.0) as usize;
                cycles[rank - 1] as f64
            };
            for (found, quantile) in [(found.p50, 0.5), (found.p99, 0.99), (found.p999, 0.999), (found.max, 1.0)] {
                let expected = expected(quantile);
                prop_assert!((found - expected).abs() <= expected * 0.01, "{quantile}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn what_never_comes_counts_for_the_longest() {
        let mut latencies = Latencies::default();
        latencies.record(u64::MAX);
        assert!(latencies.percentiles(1_000_000_000).max >= 6.8e10);
    }

    #[test]
    fn loss_counts_what_was_refused_too() {
        let stream = StreamReport {
            offered: 1000,
            refused: 10,
            received: 980,
            ..StreamReport::default()
        };
        assert_eq!(stream.loss(), 0.02);
        let idle = StreamReport::default();
        assert_eq!(idle.loss(), 0.0);
        let report = Report {
            elapsed: 1.0,
            streams: vec![stream, idle],
            foreign: 0,
        };
        assert_eq!((report.loss(), report.lost()), (0.02, 20));
        assert_eq!(report.received_rate(Duration::from_millis(500)), 1960.0);
    }
}
