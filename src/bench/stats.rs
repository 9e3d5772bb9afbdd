//! Statistics of samples: quantiles, and the rank test of Mann and Whitney.

/// The value below which `fraction` of the samples lie, between neighbours in proportion; NaN of none.
pub fn quantile(samples: &[f64], fraction: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = fraction * sorted.len().saturating_sub(1) as f64;
    match (sorted.get(at.floor() as usize), sorted.get(at.ceil() as usize)) {
        (Some(low), Some(high)) => low + (high - low) * at.fract(),
        _ => f64::NAN,
    }
}

/// The middle of the samples.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// Distance of the 20 % and 80 % quantiles as a part of the median.
pub fn spread(samples: &[f64]) -> f64 {
    (quantile(samples, 0.8) - quantile(samples, 0.2)) / median(samples)
}

/// Probability, if both come from the same distribution, of ranks at least as far apart as those of `a` and `b`
/// (two-sided). Exact where no value occurs twice; equal ones count half for either side, halves rounded towards more
/// likely. 1 of none.
///
/// With U pairs in which a is above b, the number of arrangements with each U has the Gaussian binomial
/// coefficient as generating function, prod (1 - q^(m + i)) / (1 - q^i) over i = 1..n; its lower half is enough.
pub fn rank_test(a: &[f64], b: &[f64]) -> f64 {
    let (a, b) = (thinned(a), thinned(b));
    let above = |x: f64| {
        b.iter()
            .map(|&y| {
                if x > y {
                    1.0
                } else if x == y {
                    0.5
                } else {
                    0.0
                }
            })
            .sum::<f64>()
    };
    let u: f64 = a.iter().map(|&x| above(x)).sum();
    let (n, m) = (a.len(), b.len());
    let lower = u.min((n * m) as f64 - u).ceil() as usize;
    let mut ways = vec![0.0f64; lower + 1];
    ways[0] = 1.0;
    for i in 1..=n {
        for q in (m + i..=lower).rev() {
            ways[q] -= ways[q - m - i];
        }
        for q in i..=lower {
            ways[q] += ways[q - i];
        }
    }
    let all: f64 = (1..=n).map(|i| (m + i) as f64 / i as f64).product();
    (2.0 * ways.iter().sum::<f64>() / all).min(1.0)
}

/// The lowest probability that [`rank_test`] has for so many samples: that of two sides without an overlap.
pub fn rarest(n: usize, m: usize) -> f64 {
    (1..=n).fold(2.0, |p: f64, i| p * i as f64 / (m + i) as f64).min(1.0)
}

/// At most 256 of the samples, evenly spread: beyond 500 on either side the number of arrangements overflows.
fn thinned(samples: &[f64]) -> Vec<f64> {
    samples.iter().step_by(samples.len().div_ceil(256).max(1)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let samples = [4.0, 1.0, 3.0, 2.0];
        assert_eq!([0.0, 0.5, 1.0].map(|fraction| quantile(&samples, fraction)), [1.0, 2.5, 4.0]);
        assert!((quantile(&samples, 0.2) - 1.6).abs() < 1e-12);
        assert!(median(&[]).is_nan());
        assert_eq!(spread(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), (5.0 - 2.0) / 3.5);
    }

    /// Every way to choose `n` of `n + m` ranks, as the sum of the ranks chosen.
    fn rank_sums(n: usize, m: usize) -> Vec<usize> {
        let subsets = (0u32..1 << (n + m)).filter(|subset| subset.count_ones() as usize == n);
        subsets.map(|subset| (0..n + m).filter(|rank| subset & (1 << rank) != 0).sum()).collect()
    }

    #[test]
    fn the_rank_test_counts_all_arrangements() {
        for (n, m) in [(1, 1), (2, 5), (4, 4), (5, 3), (6, 7)] {
            let all = rank_sums(n, m);
            // a has every second rank, as far as it goes; then the lowest ones.
            for ranks in [(0..n).map(|i| (2 * i).min(m + i)).collect::<Vec<_>>(), (0..n).collect()] {
                let others = (0..n + m).filter(|rank| !ranks.contains(rank)).map(|rank| rank as f64);
                let p = rank_test(&ranks.iter().map(|&r| r as f64).collect::<Vec<_>>(), &others.collect::<Vec<_>>());
                let (sum, most) = (ranks.iter().sum::<usize>(), n * (n + m - 1));
                let lower = sum.min(most - sum);
                let as_far = all.iter().filter(|&&other| other <= lower).count();
                let expected = (2.0 * as_far as f64 / all.len() as f64).min(1.0);
                assert!((p - expected).abs() < 1e-12, "{n} {m}: {p} {expected}");
            }
        }
    }

    #[test]
    fn the_rank_test_agrees_with_published_numbers() {
        // The example of scipy.stats.mannwhitneyu (SciPy 1.11, reference manual): U = 17, exact p = 0.1111.
        let (males, females) = ([19.0, 22.0, 16.0, 29.0, 24.0], [20.0, 11.0, 17.0, 12.0]);
        assert!((rank_test(&males, &females) - 1.0 / 9.0).abs() < 1e-12);
        assert!((rank_test(&females, &males) - 1.0 / 9.0).abs() < 1e-12);
        // The critical value of U in tables for 20 and 20 at 5 %, two-sided, is 127: not above 0.05, and 128 is.
        let with_u = |u: usize| {
            // All of a lie below b but for the pairs that u counts.
            let mut a: Vec<f64> = (0..20).map(|i| i as f64 / 100.0).collect();
            let b: Vec<f64> = (1..=20).map(f64::from).collect();
            for (i, x) in a.iter_mut().enumerate() {
                *x += (u / 20 + usize::from(i < u % 20)) as f64 + 0.5;
            }
            rank_test(&a, &b)
        };
        assert!(with_u(127) <= 0.05 && with_u(128) > 0.05, "{} {}", with_u(127), with_u(128));
    }

    #[test]
    fn sides_without_an_overlap_are_the_rarest_and_ties_make_chance_likelier() {
        let from = |start: usize, len: usize| (start..start + len).map(|x| x as f64).collect::<Vec<_>>();
        for (n, m) in [(1, 1), (5, 5), (7, 11)] {
            let p = rank_test(&from(0, n), &from(n, m));
            assert!((rarest(n, m) / p - 1.0).abs() < 1e-12, "{n} {m}");
        }
        // U is 1/2, which is no number of pairs.
        assert_eq!(rank_test(&[1.0, 2.0], &[2.0, 3.0]), rank_test(&[1.0, 3.0], &[2.0, 4.0]));
    }

    #[test]
    fn many_equal_or_no_samples_have_a_probability() {
        assert_eq!(rank_test(&[1.0; 1000], &[1.0; 700]), 1.0);
        assert_eq!(rank_test(&[], &[1.0]), 1.0);
        let up: Vec<f64> = (0..2000).map(f64::from).collect();
        let higher: Vec<f64> = up.iter().map(|x| x + 1500.0).collect();
        assert!(rank_test(&up, &higher) < 1e-12);
    }
}
