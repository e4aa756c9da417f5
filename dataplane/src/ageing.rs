//! When how many sessions are looked at for their age: a few in each round, so that every session is looked at within
//! [`pass`] and no burst waits for it.

use std::time::Duration;

use weft_table::flow::{FlowTable, Key, TcpState, WorkerFlows};

use crate::Timeouts;

/// Sessions that are looked at together, at least and at most: their memory is asked for ahead.
const LEAST: u64 = 16;
const MOST: u64 = 256;
/// Bounds of a pass.
const SHORTEST_PASS: Duration = Duration::from_millis(500);
const LONGEST_PASS: Duration = Duration::from_secs(10);

/// How long a pass over all sessions may take: a quarter of the shortest time that a session may be idle, and no longer
/// than a closed one may stay.
pub fn pass(timeouts: &Timeouts) -> Duration {
    let Timeouts {
        tcp_opening,
        tcp,
        tcp_closed,
        udp,
        icmp,
        other,
    } = *timeouts;
    let idle = tcp.min(tcp_opening).min(udp).min(icmp).min(other);
    (idle / 4).min(tcp_closed).clamp(SHORTEST_PASS, LONGEST_PASS)
}

/// One worker's part in the ageing of one table.
pub struct Ageing {
    /// Cycles in which this worker does its part of a pass.
    pass: u64,
    /// Up to when it has.
    since: u64,
}

impl Ageing {
    /// One of `workers` workers, which share a pass of so many cycles; from `now` on.
    pub fn new(pass: u64, workers: u64, now: u64) -> Self {
        Ageing {
            pass: pass.saturating_mul(workers).max(1),
            since: now,
        }
    }

    /// Looks at those that are due; how many. Calls `left` with both keys of each session that it took out, the initiator's
    /// first.
    #[inline]
    pub fn sweep<K: Key>(
        &mut self,
        table: &FlowTable<K>,
        flows: &mut WorkerFlows,
        timeout: impl Fn(&K, TcpState) -> Duration,
        cycles: u64,
        now: u32,
        left: impl FnMut(&K, &K),
    ) -> u64 {
        let due = self.due(u64::from(table.used()), cycles);
        if due > 0 {
            let seconds = |key: &K, state| timeout(key, state).as_secs().min(u64::from(u32::MAX)) as u32;
            table.sweep_with(flows, due as u32, now, seconds, left);
        }
        due
    }

    /// How many of `used` places are due; 0 until there are enough.
    #[inline]
    fn due(&mut self, used: u64, now: u64) -> u64 {
        if used == 0 {
            return 0;
        }
        let elapsed = now.saturating_sub(self.since);
        // Cycles of a place, rather than places of a cycle: no product can overflow.
        let each = self.pass / used;
        let due = elapsed.checked_div(each).unwrap_or(MOST);
        if due < LEAST.min(used) {
            return 0;
        }
        // After a long pause the rest is left out: the next pass comes.
        self.since = if due > MOST { now } else { self.since + due * each };
        due.min(MOST)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_pass_takes_as_long_as_it_may_and_no_slice_is_long(
            used in 1u64..8_000_000, round in 500u64..40_000
        ) {
            const PASS: u64 = 1_250_000_000;
            let mut ageing = Ageing::new(PASS, 1, 0);
            let (mut now, mut looked) = (0, 0);
            while looked < used && now < 4 * PASS {
                now += round;
                let due = ageing.due(used, now);
                prop_assert!(due <= MOST);
                looked += due;
            }
            let within = now as f64 / PASS as f64;
            // A table that is full of sessions and a worker that comes round late take longer.
            let late = (used as f64 * round as f64 / PASS as f64 / MOST as f64).max(1.0);
            prop_assert!((0.8..=1.2 * late).contains(&within), "{within} of a pass, {late}");
        }
    }

    #[test]
    fn workers_share_a_pass() {
        let looked = |workers| {
            let mut ageing = Ageing::new(1_000_000_000, workers, 0);
            (1..=10_000u64)
                .map(|tick| ageing.due(100_000, tick * 10_000))
                .sum::<u64>()
        };
        assert_eq!((looked(1), looked(4)), (10_000, 2_496));
    }

    #[test]
    fn a_pass_is_a_quarter_of_the_shortest_timeout_or_as_long_as_a_closed_session_stays() {
        assert_eq!(pass(&Timeouts::default()), Duration::from_secs(5));
        let second = Timeouts {
            udp: Duration::from_secs(1),
            ..Timeouts::default()
        };
        assert_eq!(pass(&second), SHORTEST_PASS);
    }
}
