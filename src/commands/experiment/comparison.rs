//! By how much one measurement differs from another of the same things: mean, interval, and a test.

use crate::commands::experiment::prediction::interval;
use crate::statistics::{holm, mean, wilcoxon};
use serde::Serialize;

/// Differences below this p-value count as there.
pub const LEVEL: f64 = 0.05;

/// Paired differences: the second measurement less the first.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Pairs of two numbers.
    pub pairs: usize,
    /// Mean of the differences.
    pub mean: f64,
    /// The middle 95 % of the mean over bootstrap resamples of the pairs.
    pub interval: Option<[f64; 2]>,
    /// Pairs whose second number is the larger one.
    pub larger: usize,
    /// Pairs whose second number is the smaller one.
    pub smaller: usize,
    /// Do the ranks of positive differences weigh more?
    pub rises: bool,
    /// Two-sided p-value of Wilcoxon's signed-rank test; none when no pair differs.
    pub p: Option<f64>,
    /// The same, corrected for the differences that are tested along with it ([`correct`]).
    pub p_holm: Option<f64>,
}

impl Difference {
    /// The differences of `second` from `first`, pair by pair; pairs with something that is no number are left out. None
    /// when nothing is left. `seed` draws the resamples.
    pub fn of(first: &[f64], second: &[f64], seed: u64) -> Option<Self> {
        let pairs = first.iter().zip(second).filter(|(a, b)| a.is_finite() && b.is_finite());
        let (first, second): (Vec<f64>, Vec<f64>) = pairs.unzip();
        if first.is_empty() {
            return None;
        }
        // Equal counts of errors make percents whose differences are equal but for rounding: ties have to be ties.
        let differences: Vec<f64> = first.iter().zip(&second).map(|(a, b)| ((b - a) * 1e9).round() / 1e9).collect();
        let resampled = |a: &[f64], b: &[f64]| Some(mean(b) - mean(a));
        let ranks = wilcoxon(&differences);
        let p = ranks.map(|ranks| ranks.p);
        Some(Self {
            pairs: differences.len(),
            mean: mean(&differences),
            interval: interval(&first, &second, seed, resampled),
            larger: differences.iter().filter(|d| **d > 0.0).count(),
            smaller: differences.iter().filter(|d| **d < 0.0).count(),
            rises: ranks.is_some_and(|ranks| ranks.positive > ranks.negative),
            p,
            p_holm: p,
        })
    }

    /// Is the second number larger on the whole, and not by accident?
    pub fn is_larger(&self) -> bool {
        self.mean > 0.0 && self.rises && self.p_holm.is_some_and(|p| p < LEVEL)
    }
}

/// Corrects the p-values of differences that are tested together.
pub fn correct<'a>(together: impl Iterator<Item = &'a mut Difference>) {
    let mut together: Vec<&mut Difference> = together.collect();
    let p: Vec<f64> = together.iter().map(|d| d.p.unwrap_or(f64::NAN)).collect();
    for (difference, corrected) in together.iter_mut().zip(holm(&p)) {
        difference.p_holm = difference.p.map(|_| corrected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_the_second_less_the_first() {
        let first = [10.0, 20.0, 30.0, f64::NAN, 40.0, 5.0, 6.0, 7.0];
        let second = [11.0, 22.0, 33.0, 1.0, 39.5, 5.0, f64::INFINITY, 8.5];
        let found = Difference::of(&first, &second, 1).unwrap();
        assert_eq!((found.pairs, found.larger, found.smaller), (6, 4, 1));
        assert!((found.mean - (1.0 + 2.0 + 3.0 - 0.5 + 0.0 + 1.5) / 6.0).abs() < 1e-12);
        let [low, high] = found.interval.unwrap();
        assert!(low < found.mean && found.mean < high && low > -0.5 && high < 3.0);
        // Ranks of 0.5, 1, 1.5, 2, 3 are 1 to 5; only the first is below zero.
        let p = wilcoxon(&[1.0, 2.0, 3.0, -0.5, 0.0, 1.5]).unwrap().p;
        assert_eq!((found.p, found.p_holm), (Some(p), Some(p)));
        let same = Difference::of(&[1.0, 2.0], &[1.0, 2.0], 1).unwrap();
        assert_eq!((same.mean, same.p, same.is_larger()), (0.0, None, false));
        assert_eq!(Difference::of(&[f64::NAN], &[1.0], 1), None);
    }

    #[test]
    fn tests_made_together_are_corrected_together() {
        let first = [0.0; 6];
        let clear = Difference::of(&first, &[1.0, 1.5, 2.0, 2.5, 3.0, 3.5], 1).unwrap();
        assert!(clear.is_larger() && clear.p == Some(2.0 / 64.0));
        let mut all = [clear, Difference::of(&first, &first, 1).unwrap(), clear];
        correct(all.iter_mut());
        assert_eq!(all.map(|d| d.p_holm), [Some(4.0 / 64.0), None, Some(4.0 / 64.0)]);
        assert_eq!(all[0].p, clear.p);
        assert!(!all[0].is_larger(), "two tests of 0.03 are not enough");
    }
}
