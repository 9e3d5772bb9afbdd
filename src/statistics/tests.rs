//! Against numbers of SciPy (`tests/golden/statistics.json`), and properties that hold by definition.

use super::*;
use crate::rng::Stream;
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    correlations: Vec<Correlated>,
    differences: Vec<Differing>,
}

/// Paired samples; each result is [coefficient, p].
#[derive(Deserialize)]
struct Correlated {
    name: String,
    x: Vec<f64>,
    y: Vec<f64>,
    pearson: [f64; 2],
    spearman: [f64; 2],
    kendall: [f64; 2],
}

/// Paired differences; the result is [smaller sum of ranks, p].
#[derive(Deserialize)]
struct Differing {
    name: String,
    differences: Vec<f64>,
    wilcoxon: [f64; 2],
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../tests/golden/statistics.json")).unwrap()
}

fn close(name: &str, got: [f64; 2], expected: [f64; 2]) {
    for (got, expected) in got.into_iter().zip(expected) {
        // p-values as small as 1e-30 have to agree in their digits, too.
        let allowed = 1e-9 * expected.abs() + 1e-300;
        assert!(
            (got - expected).abs() <= allowed.max(1e-13 * f64::from(u8::from(expected.abs() > 1e-3))),
            "{name}: {got:e}, not {expected:e}"
        );
    }
}

#[test]
fn correlations_agree_with_scipy() {
    let golden = golden().correlations;
    assert!(golden.len() >= 8);
    for case in golden {
        for (test, result, expected) in [
            ("pearson", pearson(&case.x, &case.y), case.pearson),
            ("spearman", spearman(&case.x, &case.y), case.spearman),
            ("kendall", kendall(&case.x, &case.y), case.kendall),
        ] {
            let result = result.unwrap();
            close(&format!("{} of {}", test, case.name), [result.coefficient, result.p], expected);
        }
    }
}

#[test]
fn signed_ranks_agree_with_scipy() {
    let golden = golden().differences;
    assert!(golden.len() >= 5);
    for case in golden {
        let result = wilcoxon(&case.differences).unwrap();
        close(&case.name, [result.positive.min(result.negative), result.p], case.wilcoxon);
    }
}

#[test]
fn what_cannot_be_compared_has_no_coefficient() {
    let (few, constant, rising) = ([1.0, 2.0], [3.0; 5], [1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(pearson(&few, &few), None);
    for statistic in [pearson, spearman, kendall] {
        assert_eq!(statistic(&constant, &rising), None);
        assert_eq!(statistic(&rising, &constant), None);
        assert_eq!(statistic(&rising, &rising[..4]), None);
        let agreement = statistic(&rising, &rising).unwrap();
        assert!((agreement.coefficient - 1.0).abs() < 1e-15 && agreement.p < 0.02, "{agreement:?}");
    }
    assert_eq!(wilcoxon(&[0.0, 0.0]), None);
    assert_eq!(wilcoxon(&[]), None);
}

#[test]
fn a_bootstrap_interval_has_the_width_that_theory_gives() {
    // Of r of n normal pairs, atanh(r) is nearly normal with deviation 1 / sqrt(n - 3).
    let mut rng = Rng::new(5, Stream::Search);
    let x: Vec<f64> = (0..400).map(|_| rng.normal()).collect();
    let y: Vec<f64> = x.iter().map(|x| 0.6 * x + 0.8 * rng.normal()).collect();
    let r = |x: &[f64], y: &[f64]| pearson(x, y).map(|agreement| agreement.coefficient);
    let interval = bootstrap(&x, &y, 2000, &mut rng, r).unwrap();
    let centre = r(&x, &y).unwrap().atanh();
    let expected = [centre - 1.96 / 397f64.sqrt(), centre + 1.96 / 397f64.sqrt()].map(f64::tanh);
    for (got, expected) in interval.into_iter().zip(expected) {
        assert!((got - expected).abs() < 0.02, "{interval:?}, not {expected}");
    }
    // The same stream draws the same samples.
    let draw = || bootstrap(&x, &y, 300, &mut Rng::new(1, Stream::Search), r);
    assert_eq!(draw(), draw());
    assert_eq!(bootstrap(&[1.0; 9], &[2.0; 9], 500, &mut rng, r), None);
}

#[test]
fn several_p_values_are_corrected_as_holm_says() {
    // Worked by hand: 0.005 x 4, 0.01 x 3, then 0.03 x 2 and 0.04 x 1, of which the last may not fall below the one before.
    let corrected = holm(&[0.01, 0.04, 0.03, 0.005]);
    for (got, expected) in corrected.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        assert!((got - expected).abs() < 1e-15, "{corrected:?}");
    }
    assert_eq!(holm(&[0.9, 0.6]), [1.0, 1.0]);
    let with_none = holm(&[0.01, f64::NAN, 0.04]);
    assert!(with_none[1].is_nan() && with_none[0] == 0.02 && with_none[2] == 0.04, "{with_none:?}");
    assert_eq!(holm(&[]), [0.0; 0]);
}
