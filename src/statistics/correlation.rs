//! Correlation coefficients with their significance.

use super::{normal_two_sided, ranks, ties};
use statrs::function::beta::beta_reg;

/// A coefficient from -1 to 1, and how likely one at least as far from 0 is without any connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// The coefficient.
    pub coefficient: f64,
    /// Two-sided p-value.
    pub p: f64,
}

/// Pearson's r; none of fewer than 3 pairs, or where one side is constant.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<Agreement> {
    let n = x.len();
    if n < 3 || n != y.len() {
        return None;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        (xx, yy, xy) = (xx + dx * dx, yy + dy * dy, xy + dx * dy);
    }
    if !(xx > 0.0 && yy > 0.0) {
        return None;
    }
    // One root of the product, so that what is the same up to a factor of 2^k has exactly 1.
    let r = (xy / (xx * yy).sqrt()).clamp(-1.0, 1.0);
    // t = r sqrt(dof / (1 - r^2)) has the tail I_{dof / (dof + t^2)}(dof / 2, 1 / 2), and dof / (dof + t^2) = 1 - r^2.
    let p = if r.abs() == 1.0 { 0.0 } else { beta_reg((n - 2) as f64 / 2.0, 0.5, 1.0 - r * r) };
    Some(Agreement { coefficient: r, p })
}

/// Spearman's rho: Pearson's r of the ranks; none where that has none.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<Agreement> {
    pearson(&ranks(x), &ranks(y))
}

/// Kendall's tau-b; none of fewer than 2 pairs, or where one side is constant.
pub fn kendall(x: &[f64], y: &[f64]) -> Option<Agreement> {
    let n = x.len();
    if n < 2 || n != y.len() {
        return None;
    }
    // Pairs in the same order and in the other; pairs tied on a side are neither.
    let (mut same, mut other) = (0u64, 0u64);
    for i in 0..n {
        for j in 0..i {
            let product = (x[i] - x[j]) * (y[i] - y[j]);
            same += u64::from(product > 0.0);
            other += u64::from(product < 0.0);
        }
    }
    let pairs = (n * (n - 1) / 2) as f64;
    let (ties_x, ties_y) = (ties(x), ties(y));
    let tied = |ties: &[f64]| ties.iter().map(|t| t * (t - 1.0) / 2.0).sum::<f64>();
    let (tied_x, tied_y) = (tied(&ties_x), tied(&ties_y));
    if tied_x == pairs || tied_y == pairs {
        return None;
    }
    let difference = same as f64 - other as f64;
    let coefficient = (difference / (((pairs - tied_x) * (pairs - tied_y)).sqrt())).clamp(-1.0, 1.0);
    let p = if tied_x == 0.0 && tied_y == 0.0 && (n <= 33 || same.min(other) <= 1) {
        kendall_exact(n, same.min(other) as usize)
    } else {
        // Variance with ties on both sides: Kendall, Rank Correlation Methods, section 4.
        let sum = |ties: &[f64], term: fn(f64) -> f64| ties.iter().map(|&t| term(t)).sum::<f64>();
        let n = n as f64;
        let (m, five) = (n * (n - 1.0), |t: f64| t * (t - 1.0) * (2.0 * t + 5.0));
        let (two, three) = (|t: f64| t * (t - 1.0), |t: f64| t * (t - 1.0) * (t - 2.0));
        let variance = (m * (2.0 * n + 5.0) - sum(&ties_x, five) - sum(&ties_y, five)) / 18.0
            + sum(&ties_x, two) * sum(&ties_y, two) / (2.0 * m)
            + if n > 2.0 { sum(&ties_x, three) * sum(&ties_y, three) / (9.0 * m * (n - 2.0)) } else { 0.0 };
        normal_two_sided(difference / variance.sqrt())
    };
    Some(Agreement { coefficient, p })
}

/// Probability of at most `inversions` pairs, or as many too few, in the other order, of all n! orders. Orders of n with
/// each number of inversions are counted by prod (1 + q + ... + q^(i - 1)).
fn kendall_exact(n: usize, inversions: usize) -> f64 {
    let mut share = vec![0.0f64; inversions + 1];
    share[0] = 1.0;
    for i in 2..=n {
        let mut window = 0.0;
        let before = share.clone();
        for q in 0..=inversions {
            window += before[q];
            if q >= i {
                window -= before[q - i];
            }
            // Divided as it goes along: n! itself would overflow.
            share[q] = window / i as f64;
        }
    }
    (2.0 * share.iter().sum::<f64>()).min(1.0)
}
