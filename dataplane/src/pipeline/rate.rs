//! Bounds on what the packets of one port may cause besides: answers to senders, lines in a log.
//!
//! For each port a token bucket, kept as the time at which it is full again (the generic cell rate algorithm of ITU-T
//! I.371). Each worker has its own.

use weft_table::PortId;

use crate::statistics::MAX_PORTS;

/// How often in a second, and at once.
const A_SECOND: u64 = 1000;
const AT_ONCE: u64 = 100;

/// One worker's.
pub struct PortRates {
    /// By [`PortId`], in cycles.
    full: Box<[u64]>,
}

impl Default for PortRates {
    fn default() -> Self {
        PortRates {
            full: vec![0; MAX_PORTS].into_boxed_slice(),
        }
    }
}

impl PortRates {
    /// Whether a packet of this port may cause something now. Times in cycles, of which a second has `hz`.
    pub fn allows(&mut self, port: PortId, now: u64, hz: u64) -> bool {
        let Some(full) = self.full.get_mut(port.index()) else {
            return false;
        };
        let interval = hz / A_SECOND;
        let from = (*full).max(now);
        let allowed = from - now <= interval * (AT_ONCE - 1);
        if allowed {
            *full = from + interval;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: PortId = PortId(7);
    const HZ: u64 = 1_000_000_000;

    fn allowed(rates: &mut PortRates, port: PortId, packets: usize, now: u64) -> usize {
        (0..packets).filter(|_| rates.allows(port, now, HZ)).count()
    }

    #[test]
    fn a_storm_causes_a_steady_rate() {
        let mut rates = PortRates::default();
        let start = 5 * HZ;
        assert_eq!(allowed(&mut rates, PORT, 1000, start), 100);
        assert_eq!(allowed(&mut rates, PORT, 1000, start + HZ / 10_000), 0);
        let storm: usize = (1..=1000)
            .map(|millisecond| allowed(&mut rates, PORT, 50, start + millisecond * HZ / 1000))
            .sum();
        assert_eq!(storm, 1000);
        // After a pause there are no more than at first.
        assert_eq!(allowed(&mut rates, PORT, 1000, start + 60 * HZ), 100);
    }

    #[test]
    fn one_port_does_not_take_what_is_anothers() {
        let mut rates = PortRates::default();
        allowed(&mut rates, PORT, 1000, HZ);
        assert_eq!(allowed(&mut rates, PortId(8), 10, HZ), 10);
    }
}
