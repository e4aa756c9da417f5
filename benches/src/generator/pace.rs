//! When the next packets are due: so many a second, by the time-stamp counter.

use serde::{Deserialize, Serialize};

/// How fast a stream sends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rate {
    /// Packets a second; what the device does not take at its time is lost.
    PerSecond(f64),
    /// As fast as the device takes them: nothing is lost on the way in.
    Unpaced,
}

/// Packets that a sender may be late by. One that was not scheduled for longer does not hurl all of it at the device
/// under test, which would lose packets by no fault of its own: it leaves the rest out, and counts what it left out.
const LATE: u64 = 256;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    rate: Rate,
    cycles_per_second: f64,
    since: u64,
    issued: u64,
    /// Packets left out.
    pub skipped: u64,
}

impl Pace {
    /// Begins at `now` (cycles).
    pub fn new(rate: Rate, cycles_per_second: u64, now: u64) -> Self {
        Pace {
            rate,
            cycles_per_second: cycles_per_second as f64,
            since: now,
            issued: 0,
            skipped: 0,
        }
    }

    /// Goes on at another rate.
    pub fn change(&mut self, rate: Rate, now: u64) {
        self.rate = rate;
        self.since = now;
        self.issued = 0;
    }

    /// Nothing is lost at this rate.
    #[inline(always)]
    pub fn waits_for_the_device(&self) -> bool {
        self.rate == Rate::Unpaced
    }

    /// How many packets are due, `most` at most; they count as sent.
    #[inline(always)]
    pub fn due(&mut self, now: u64, most: usize) -> usize {
        let Rate::PerSecond(rate) = self.rate else {
            return most;
        };
        let elapsed = now.saturating_sub(self.since) as f64;
        let mut due = ((elapsed * rate / self.cycles_per_second) as u64).saturating_sub(self.issued);
        if due > LATE {
            self.skipped += due - LATE;
            self.issued += due - LATE;
            due = LATE;
        }
        let due = due.min(most as u64);
        self.issued += due;
        due as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HZ: u64 = 2_500_000_000;

    proptest! {
        #[test]
        fn the_rate_is_kept_whatever_the_steps(
            rate in 1_000.0..20_000_000.0f64, steps in prop::collection::vec(1u64..20_000, 1..500)
        ) {
            let mut pace = Pace::new(Rate::PerSecond(rate), HZ, 5);
            let mut now = 5;
            let mut sent = 0;
            for step in steps {
                now += step;
                // A round may take as many as are due: 20,000 cycles are 160 packets at most.
                sent += pace.due(now, 1000);
            }
            let owed = (now - 5) as f64 * rate / HZ as f64;
            prop_assert!((owed - sent as f64).abs() <= 1.0, "{sent} of {owed}");
            prop_assert_eq!(pace.skipped, 0);
        }

        #[test]
        fn nothing_is_made_up_for_after_a_long_pause(pause in 10_000_000u64..10_000_000_000) {
            let mut pace = Pace::new(Rate::PerSecond(1e6), HZ, 0);
            let late = pace.due(pause, 64) as u64;
            let mut sent = late;
            while sent < LATE {
                sent += pace.due(pause, 64) as u64;
            }
            prop_assert_eq!(pace.due(pause, 64), 0);
            let owed = pause / 2500;
            prop_assert!((sent + pace.skipped).abs_diff(owed) <= 1);
        }
    }

    #[test]
    fn a_new_rate_holds_from_its_change_on() {
        let mut pace = Pace::new(Rate::PerSecond(1e6), HZ, 0);
        assert_eq!(pace.due(25_000, 64), 10);
        pace.change(Rate::PerSecond(2e6), 25_000);
        assert_eq!(pace.due(50_000, 64), 20);
        pace.change(Rate::PerSecond(0.0), 50_000);
        assert_eq!(pace.due(u64::MAX, 64), 0);
        pace.change(Rate::Unpaced, 50_000);
        assert_eq!(pace.due(50_000, 64), 64);
    }
}
