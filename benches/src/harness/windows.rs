//! One turn of work that is the same over and over: many windows of a fraction of a millisecond, of which the tenth that
//! went best says what it costs. In the others a neighbour had the core, its other half, or the memory; subject and peer
//! are measured by the same rule.

use std::time::{Duration, Instant};

use weft_dataplane::dpdk::clock;

/// How long a turn of windows lasts, and with `--quick`.
pub const TURN: Duration = Duration::from_millis(400);
/// See [`TURN`].
pub const QUICK_TURN: Duration = Duration::from_millis(120);

/// Part of the windows that went as well as the figure or better.
pub const BEST: f64 = 0.1;

/// Calls `window`, which does so many operations, again and again for `turn`; cycles an operation.
pub fn cycles_each(turn: Duration, operations: usize, mut window: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut cycles = super::turns::Samples::default();
    while began.elapsed() < turn || cycles.values().is_empty() {
        let start = clock::now();
        window();
        cycles.push((clock::now() - start) as f64 / operations as f64);
    }
    cycles.quantile(BEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_goes_by_its_best_windows() {
        let mut calls = 0_u32;
        let cycles = cycles_each(Duration::from_millis(50), 10, || {
            calls += 1;
            // Every other window is held up.
            if calls.is_multiple_of(2) {
                std::thread::yield_now();
                std::hint::black_box((0..200_000_u64).sum::<u64>());
            }
        });
        assert!(calls > 2 && cycles >= 0.0);
    }
}
