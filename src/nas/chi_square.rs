//! Pearson's chi-square test of drawn against stated frequencies, for tests.
//!
//! Seeds are fixed and a test fails by chance with probability 1e-6, so a failure means that
//! something changed: the distribution, or the order of draws together with one unlucky seed.

use std::collections::BTreeMap;

/// Counts of one draw's outcomes and their stated weights, by condition.
#[derive(Default)]
pub struct Tally(BTreeMap<String, BTreeMap<usize, (f64, f64)>>);

impl Tally {
    /// One draw under `condition` with the given `(outcome, weight)` choices came out as `outcome`.
    pub fn add(&mut self, condition: String, choices: &[(usize, f64)], outcome: usize) {
        let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
        let counts = self.0.entry(condition).or_default();
        for &(choice, weight) in choices {
            counts.entry(choice).or_default().1 += weight / total;
        }
        counts.get_mut(&outcome).expect("an outcome among the choices").0 += 1.0;
    }

    /// Pearson's chi-square of every condition with enough draws; returns how many there were.
    pub fn check(&self, what: &str) -> usize {
        let mut checked = 0;
        for (condition, counts) in &self.0 {
            // The test is only valid where about five draws are expected; rarer outcomes are pooled.
            let (mut cells, mut rest): (Vec<(f64, f64)>, _) = (Vec::new(), (0.0, 0.0));
            for &(seen, expected) in counts.values() {
                if expected >= 8.0 { cells.push((seen, expected)) } else { rest = (rest.0 + seen, rest.1 + expected) }
            }
            if rest.1 >= 8.0 {
                cells.push(rest);
            }
            if cells.len() < 2 {
                continue;
            }
            let chi2: f64 = cells.iter().map(|(seen, expected)| (seen - expected).powi(2) / expected).sum();
            let limit = critical(cells.len() - 1);
            assert!(chi2 < limit, "{what}, {condition}: chi-square {chi2:.1} above {limit:.1}: {counts:?}");
            checked += 1;
        }
        checked
    }
}

/// The chi-square value exceeded with probability 1e-6 (Wilson and Hilferty 1931).
fn critical(freedom: usize) -> f64 {
    let a = 2.0 / (9.0 * freedom as f64);
    freedom as f64 * (1.0 - a + 4.753_424 * a.sqrt()).powi(3)
}

/// Choices of equal weight.
pub fn uniform(choices: impl IntoIterator<Item = usize>) -> Vec<(usize, f64)> {
    choices.into_iter().map(|choice| (choice, 1.0)).collect()
}
