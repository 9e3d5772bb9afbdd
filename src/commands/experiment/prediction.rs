//! How well something that costs little predicts what costs much: coefficients with p-values and intervals.

use crate::report::p_value;
use crate::rng::{Rng, Stream};
use crate::statistics::{Agreement, bootstrap, kendall, pearson, spearman};
use serde::Serialize;

/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 10_000;

/// The bootstrap interval of `statistic`; with one `seed` the same resamples wherever as many pairs are compared.
pub fn interval(
    x: &[f64],
    y: &[f64],
    seed: u64,
    statistic: impl Fn(&[f64], &[f64]) -> Option<f64>,
) -> Option<[f64; 2]> {
    bootstrap(x, y, RESAMPLES, &mut Rng::sub(seed, Stream::Search, 2), statistic)
}

/// How well a predictor agrees with the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// What predicts.
    pub predictor: String,
    /// Pearson's r.
    pub pearson: Option<Coefficient>,
    /// Spearman's rank correlation.
    pub spearman: Option<Coefficient>,
    /// Kendall's tau-b.
    pub kendall: Option<Coefficient>,
}

/// A coefficient of correlation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Coefficient {
    /// From -1 to 1.
    pub value: f64,
    /// Two-sided p-value.
    pub p: f64,
    /// The middle 95 % over bootstrap resamples of the architectures; none where too few have a value.
    pub interval: Option<[f64; 2]>,
}

impl Prediction {
    /// How well `values` predict `truth`, both by architecture; `seed` draws the resamples.
    pub fn of(predictor: &str, values: &[f64], truth: &[f64], seed: u64) -> Self {
        let coefficient = |statistic: fn(&[f64], &[f64]) -> Option<Agreement>| {
            let Agreement { coefficient: value, p } = statistic(values, truth)?;
            let resampled = |x: &[f64], y: &[f64]| statistic(x, y).map(|a| a.coefficient);
            Some(Coefficient { value, p, interval: interval(values, truth, seed, resampled) })
        };
        Self {
            predictor: predictor.into(),
            pearson: coefficient(pearson),
            spearman: coefficient(spearman),
            kendall: coefficient(kendall),
        }
    }
}

/// A markdown table of predictors of `truth`.
pub fn table(truth: &str, predictions: &[Prediction]) -> String {
    let mut text = format!(
        "| predictor of {truth} | Pearson r | p | Spearman rho | p | Kendall tau | p |\n|---|---|---|---|---|---|---|\n"
    );
    for prediction in predictions {
        let cells = [prediction.pearson, prediction.spearman, prediction.kendall].map(|found| match found {
            None => "- | -".into(),
            Some(Coefficient { value, p, interval }) => {
                let interval = interval.map_or(String::new(), |[low, high]| format!(" ({low:.2} to {high:.2})"));
                format!("{value:.2}{interval} | {}", p_value(p))
            }
        });
        text += &format!("| {} | {} |\n", prediction.predictor, cells.join(" | "));
    }
    text + "\nIn parentheses: the middle 95 % of bootstrap resamples. A positive coefficient means that the better-looking \
            network tends to be the better one; for parameters and MACs that is the larger one.\n"
}
