//! Measuring in turns, A B A B …: neighbours and clocks change within a minute, so what is compared is measured within
//! seconds, again and again, and the median over the turns stands.

use anyhow::Result;

/// How often each subject has its turn.
pub const TURNS: usize = 5;

/// What was measured, turn by turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(Vec<f64>);

impl<T: IntoIterator<Item = f64>> From<T> for Samples {
    fn from(values: T) -> Self {
        Samples(values.into_iter().collect())
    }
}

impl Samples {
    /// One more turn.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// In the order of the turns.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// The middle; 0 if nothing was measured.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Distance between the quartiles.
    pub fn spread(&self) -> f64 {
        self.quantile(0.75) - self.quantile(0.25)
    }

    /// The value below which this part of the samples lies, between two of them by their distance.
    pub fn quantile(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return 0.0;
        };
        let place = part.clamp(0.0, 1.0) * last as f64;
        let (below, rest) = (place.floor() as usize, place.fract());
        sorted[below] + (sorted[(below + 1).min(last)] - sorted[below]) * rest
    }

    /// Each value changed.
    pub fn map(&self, change: impl FnMut(f64) -> f64) -> Samples {
        Samples(self.0.iter().copied().map(change).collect())
    }

    /// Each value beside that of another in the same turn.
    pub fn with(&self, other: &Samples, join: impl Fn(f64, f64) -> f64) -> Samples {
        Samples(self.0.iter().zip(&other.0).map(|(a, b)| join(*a, *b)).collect())
    }
}

/// Something that is measured when its turn comes, and keeps still while others have theirs.
pub trait Subject {
    /// Measures once.
    fn measure(&mut self) -> Result<f64>;
}

impl<F: FnMut() -> Result<f64>> Subject for F {
    fn measure(&mut self) -> Result<f64> {
        self()
    }
}

/// Measures each subject in turn, `turns` times.
pub fn in_turns(turns: usize, subjects: &mut [&mut dyn Subject]) -> Result<Vec<Samples>> {
    let mut samples = vec![Samples::default(); subjects.len()];
    for _ in 0..turns {
        for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
            samples.push(subject.measure()?);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn median_and_spread_are_those_of_the_ordered_samples() {
        let samples = Samples::from([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((samples.median(), samples.spread()), (3.0, 2.0));
        assert_eq!(Samples::from([1.0, 2.0]).median(), 1.5);
        assert_eq!(Samples::from([7.0]).spread(), 0.0);
        assert_eq!(Samples::default().median(), 0.0);
        assert_eq!(samples.quantile(1.0), 5.0);
    }

    #[test]
    fn subjects_take_turns() {
        let order = RefCell::new(String::new());
        let mut number = 0.0;
        let mut one = || {
            order.borrow_mut().push('A');
            number += 1.0;
            Ok(number)
        };
        let mut other = || {
            order.borrow_mut().push('B');
            Ok(9.0)
        };
        let samples = in_turns(3, &mut [&mut one, &mut other]).unwrap();
        assert_eq!(*order.borrow(), "ABABAB");
        assert_eq!(samples[0].values(), [1.0, 2.0, 3.0]);
        assert_eq!(samples[1].values(), [9.0, 9.0, 9.0]);
        assert_eq!(
            samples[0].with(&samples[1], |a, b| b / a).values(),
            [9.0, 4.5, 3.0]
        );
    }

    #[test]
    fn a_subject_that_fails_ends_the_run() {
        let mut broken = || anyhow::bail!("gone");
        assert!(in_turns(2, &mut [&mut broken]).is_err());
    }
}
