//! Statistics of experiments: how strongly two measurements agree, and whether a difference is one.
//!
//! | function | what | p-value (two-sided) |
//! |---|---|---|
//! | [`pearson`] | r, agreement with a straight line | t distribution with n - 2 degrees of freedom |
//! | [`spearman`] | the same of ranks, ties in the middle | the same |
//! | [`kendall`] | tau-b, pairs in the same order less pairs in the other | exact without ties up to 33 pairs, else normal |
//! | [`wilcoxon`] | signed-rank test of paired differences | exact without ties up to 50 pairs, else normal |
//! | [`holm`] | p-values of several tests | corrected for their number |
//! | [`bootstrap`] | interval of any statistic of paired samples | |
//!
//! Definitions and conventions are those of `scipy.stats`, with whose numbers the tests compare
//! (`tools/golden_statistics.py`). Distributions are the crate `statrs`'s.

mod correlation;
mod paired;

pub use correlation::{Agreement, kendall, pearson, spearman};
pub use paired::{SignedRanks, holm, wilcoxon};

use crate::rng::Rng;

/// The mean; not a number of nothing.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation of a sample (n - 1 in the denominator); none of fewer than two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let sum: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (values.len() > 1).then(|| (sum / (values.len() - 1) as f64).sqrt())
}

/// The middle 95 % of `statistic` over `resamples` of the pairs, drawn with replacement from `rng`: the percentile
/// bootstrap. None where too few resamples have a value (the statistic of constant samples has none).
pub fn bootstrap(
    x: &[f64],
    y: &[f64],
    resamples: usize,
    rng: &mut Rng,
    statistic: impl Fn(&[f64], &[f64]) -> Option<f64>,
) -> Option<[f64; 2]> {
    let n = x.len().min(y.len());
    let (mut some_x, mut some_y) = (vec![0.0; n], vec![0.0; n]);
    let mut values = Vec::with_capacity(resamples);
    for _ in 0..resamples {
        for (x_out, y_out) in some_x.iter_mut().zip(&mut some_y) {
            let i = rng.below(n);
            (*x_out, *y_out) = (x[i], y[i]);
        }
        values.extend(statistic(&some_x, &some_y));
    }
    // With fewer, 2.5 % on either side are not a handful.
    if values.len() < 200 {
        return None;
    }
    values.sort_by(f64::total_cmp);
    let at = |fraction: f64| values[((values.len() - 1) as f64 * fraction).round() as usize];
    Some([at(0.025), at(0.975)])
}

/// Places of the values from the smallest to the largest; of equal ones the first comes first.
pub fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    order
}

/// Ranks from 1, equal values sharing the middle of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let order = ascending(values);
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let middle = first as f64 + (tied.len() + 1) as f64 / 2.0;
        tied.iter().for_each(|&i| ranks[i] = middle);
        first += tied.len();
    }
    ranks
}

/// Sizes of the groups of equal values.
fn ties(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.chunk_by(|a, b| a == b).map(|tied| tied.len() as f64).collect()
}

/// Probability of a standard normal number at least as far from 0 as `z`.
fn normal_two_sided(z: f64) -> f64 {
    statrs::function::erf::erfc(z.abs() / std::f64::consts::SQRT_2)
}

#[cfg(test)]
mod tests;
