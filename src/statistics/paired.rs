//! Wilcoxon's signed-rank test, and Holm's correction for several tests at once.

use super::{normal_two_sided, ranks, ties};

/// What the ranks of paired differences say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignedRanks {
    /// Pairs that differ.
    pub pairs: usize,
    /// Sum of the ranks of positive differences.
    pub positive: f64,
    /// Sum of the ranks of negative differences.
    pub negative: f64,
    /// Two-sided p-value of sums as unequal as these.
    pub p: f64,
}

/// Are `differences` of pairs as often and as far above 0 as below? Zeros are left out (Wilcoxon's own treatment); none when
/// nothing is left.
pub fn wilcoxon(differences: &[f64]) -> Option<SignedRanks> {
    let differing: Vec<f64> = differences.iter().copied().filter(|&d| d != 0.0).collect();
    let n = differing.len();
    if n == 0 {
        return None;
    }
    let sizes: Vec<f64> = differing.iter().map(|d| d.abs()).collect();
    let ranked = ranks(&sizes);
    let positive: f64 = differing.iter().zip(&ranked).filter(|(d, _)| **d > 0.0).map(|(_, rank)| rank).sum();
    let all = (n * (n + 1)) as f64 / 2.0;
    let negative = all - positive;
    let lower = positive.min(negative);
    let tied = ties(&sizes);
    let p = if n <= 50 && tied.len() == n && n == differences.len() {
        exact(n, lower as usize)
    } else {
        let repeats: f64 = tied.iter().map(|t| t * t * t - t).sum();
        let variance = (n * (n + 1) * (2 * n + 1)) as f64 / 24.0 - repeats / 48.0;
        normal_two_sided((lower - all / 2.0) / variance.sqrt())
    };
    Some(SignedRanks { pairs: n, positive, negative, p })
}

/// Probability of a sum of at most `lower`, or as far on the other side, when every rank of 1 to n has either sign alike.
fn exact(n: usize, lower: usize) -> f64 {
    let mut share = vec![0.0f64; lower + 1];
    share[0] = 1.0;
    for rank in 1..=n {
        for sum in (0..=lower).rev() {
            let with = if sum >= rank { share[sum - rank] } else { 0.0 };
            share[sum] = (share[sum] + with) / 2.0;
        }
    }
    (2.0 * share.iter().sum::<f64>()).min(1.0)
}

/// The p-values of several tests, corrected for there being several: the chance that any of those below 0.05 is there by
/// accident is below 0.05 (Holm 1979). The i-th smallest of n, from 0, becomes n - i times as large, never smaller than
/// one before it. A value that is not a number stays one, and counts as no test.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).filter(|&i| !p[i].is_nan()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut corrected = p.to_vec();
    let mut least: f64 = 0.0;
    for (place, &i) in order.iter().enumerate() {
        least = least.max(p[i] * (order.len() - place) as f64).min(1.0);
        corrected[i] = least;
    }
    corrected
}
