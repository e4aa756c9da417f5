//! Finds the highest load at which no more than a given part of the packets is lost: NDR, PDR (RFC 2544, RFC 9004).
//!
//! By bisection of short trials, as MLRsearch does it: a load has passed when most of its trials have. One trial that
//! lost packets while a neighbour of this machine took its time does not decide; the loads that a device under test
//! cannot bear fail again and again.

use anyhow::Result;

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// Part of the packets that may be lost: 0.00001 for the NDR, 0.005 for the PDR.
    pub loss: f64,
    /// The answer may be too low by this part of itself.
    pub width: f64,
    /// Trials that decide about a load: the side that gets most of them.
    pub trials: u32,
}

/// What is found, and how sure that is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// The highest load that has passed; 0: none has.
    pub load: f64,
    /// The lowest that has failed; infinite: none has.
    pub too_much: f64,
}

/// Searches between nothing and `most`. `trial` sends a load and tells the part of the packets that it lost. `guess`
/// is tried first: the rate that came back under overload, say.
pub fn search(
    goal: &Goal,
    most: f64,
    guess: f64,
    mut trial: impl FnMut(f64) -> Result<f64>,
) -> Result<Found> {
    let mut found = Found {
        load: 0.0,
        too_much: f64::INFINITY,
    };
    // First away from the guess in growing steps, until there is a load on either side; then between them.
    let mut load = guess.clamp(most / 1e6, most);
    let mut step = goal.width.max(0.02);
    loop {
        if passes(goal, load, &mut trial)? {
            found.load = load;
            if load >= most {
                return Ok(found);
            }
        } else {
            found.too_much = load;
        }
        if found.load >= found.too_much * (1.0 - goal.width) {
            return Ok(found);
        }
        load = match (found.load > 0.0, found.too_much.is_finite()) {
            (true, true) => (found.load + found.too_much) / 2.0,
            (true, false) => (found.load * (1.0 + step)).min(most),
            _ => found.too_much * (1.0 - step),
        };
        step = (step * 2.0).min(0.5);
        if load < most / 1e6 {
            return Ok(found);
        }
    }
}

/// Most of the trials, and no more of them than it takes to know.
fn passes(goal: &Goal, load: f64, trial: &mut impl FnMut(f64) -> Result<f64>) -> Result<bool> {
    let enough = goal.trials / 2 + 1;
    let (mut good, mut bad) = (0, 0);
    while good < enough && bad < enough {
        if trial(load)? <= goal.loss {
            good += 1;
        } else {
            bad += 1;
        }
    }
    Ok(good >= enough)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A device that forwards `capacity` packets and loses the rest.
    fn loss(capacity: f64, load: f64) -> f64 {
        ((load - capacity) / load).max(0.0)
    }

    const GOAL: Goal = Goal {
        loss: 0.005,
        width: 0.005,
        trials: 3,
    };

    proptest! {
        #[test]
        fn the_limit_is_found_from_any_guess(capacity in 0.01f64..20.0, guess in 0.0f64..30.0) {
            let mut trials = 0;
            let found = search(&GOAL, 15.0, guess, |load| {
                trials += 1;
                Ok(loss(capacity, load))
            }).unwrap();
            let limit = (capacity / (1.0 - GOAL.loss)).min(15.0);
            prop_assert!(found.load <= limit * 1.000_001, "{found:?} for {limit}");
            prop_assert!(found.load >= limit * (1.0 - GOAL.width), "{found:?} for {limit}");
            prop_assert!(trials < 80, "{trials} trials");
        }

        #[test]
        fn a_trial_that_was_disturbed_now_and_then_does_not_decide(capacity in 1.0f64..14.0, disturbed in 0u32..4) {
            let mut number = 0;
            let found = search(&GOAL, 15.0, capacity * 1.1, |load| {
                number += 1;
                Ok(if number % 4 == disturbed { 0.3 } else { loss(capacity, load) })
            }).unwrap();
            let limit = capacity / (1.0 - GOAL.loss);
            prop_assert!((limit * (1.0 - GOAL.width)..=limit * 1.000_001).contains(&found.load), "{found:?}");
        }
    }

    #[test]
    fn a_device_that_loses_at_any_load_has_no_rate() {
        let found = search(&GOAL, 15.0, 10.0, |_| Ok(0.5)).unwrap();
        assert_eq!(found.load, 0.0);
    }

    #[test]
    fn a_trial_that_breaks_ends_the_search() {
        assert!(search(&GOAL, 15.0, 10.0, |_| anyhow::bail!("gone")).is_err());
    }
}
