//! The comparison that `search --strategy gradient` ends with: perturbations chosen by dE/dc against random ones, from
//! the same architecture and with as many passes over the validation images (Brock et al. 2018, section 4.2).
//!
//! Two questions. Does it help: how far do the perturbations of the best random architecture move its validation
//! error, and how good is the best that each way of searching found? And why: does the first-order change of the loss
//! that dE/dc predicts agree with the change that is measured? The random perturbations answer the second one, since
//! nothing was chosen by its prediction among them. Losses and errors are those of the validation images.

use crate::backend::Context;
use crate::commands::job::Job;
use crate::commands::search::Candidate;
use crate::data::sequential_batches;
use crate::error::Result;
use crate::figures::Figure;
use crate::figures::chart::{Point, Points, Scatter, scatter};
use crate::nas::arch::Architecture;
use crate::nas::gradient::{COST, Gradient, gradient};
use crate::nas::guided::DRAWS;
use crate::nas::smash::SmashNetwork;
use crate::nas::strategy::Origin;
use crate::nas::train::Batch;
use crate::report::{Align, p_value, table};
use crate::statistics::{mean, spearman, standard_deviation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// File of the run directory that holds it.
pub const FILE: &str = "gradient.json";

/// Both ways of perturbing, side by side.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The best random architecture, which both start from.
    pub base: Found,
    /// Perturbations at random.
    pub random: Arm,
    /// Perturbations chosen by the gradient.
    pub gradient: Arm,
    /// Mean change by the gradient's perturbations of the base less that by random ones; none without either.
    pub difference: Option<Changes>,
}

/// A scored architecture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Its place in the search.
    pub index: usize,
    /// Its name.
    pub id: String,
    /// Its error in percent.
    pub val_err: f64,
}

/// What one way of perturbing found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Arm {
    /// Passes over the validation images: one a score, and [`COST`] a gradient.
    pub passes: usize,
    /// Architectures scored.
    pub scored: usize,
    /// Gradients computed.
    pub gradients: usize,
    /// The best of them all, the base included.
    pub best: Found,
    /// Perturbations of the base.
    pub perturbations: usize,
    /// How many of these have a lower error than the base.
    pub better: usize,
    /// Their mean change from the base; none without any.
    pub changes: Option<Changes>,
    /// How well the gradient of the base predicts their losses; none of fewer than 3.
    pub prediction: Option<Prediction>,
}

/// Mean changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changes {
    /// Of the error, in percentage points.
    pub val_err: Mean,
    /// Of the mean loss.
    pub val_loss: Mean,
}

/// A mean and its 95 % interval, that of a normal distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Half the width of its interval.
    pub margin: f64,
}

/// Predicted against measured changes of the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// Predicted and measured change of each perturbation that has both.
    pub pairs: Vec<[f64; 2]>,
    /// How many of them have both of one sign.
    pub same_sign: usize,
    /// Standard deviations of the predicted and of the measured changes: c tells the HyperNet of a change, but does not
    /// make it, so that its gradient may see little of what happens.
    pub spread: [f64; 2],
    /// Spearman's rank correlation; none where either side is constant.
    pub rank_correlation: Option<f64>,
    /// Its p-value.
    pub p: Option<f64>,
}

/// dE/dc of `arch` on the validation images, in batches that training proved to fit.
///
/// # Errors
/// As [`gradient`].
pub fn validation_gradient(
    job: &Job,
    network: &SmashNetwork,
    context: &mut Context,
    arch: &Architecture,
) -> Result<Gradient> {
    let batches = sequential_batches(&job.validation, gradient_batch(job));
    let batches = batches.map(|indices| Batch::unvaried(&job.dataset.train, indices, &[0]));
    gradient(context, network, arch, &job.gather, batches)
}

/// Images per batch of a gradient.
pub fn gradient_batch(job: &Job) -> usize {
    job.config.smash.batch.min(job.config.data.eval_batch).min(job.validation.len())
}

/// The comparison of a finished search, from all its candidates and the gradient of the base.
pub fn compare(candidates: &[Candidate], base: &Candidate, slope: &Gradient) -> Comparison {
    let random = arm(candidates, base, slope, |c| matches!(c.origin, Origin::Perturb { .. } | Origin::Markov { .. }));
    let guided = |c: &Candidate| matches!(c.origin, Origin::Gradient { .. } | Origin::GradientMarkov { .. });
    let gradient = arm(candidates, base, slope, guided);
    let difference = gradient
        .changes
        .as_ref()
        .zip(random.changes.as_ref())
        .map(|(a, b)| Changes { val_err: a.val_err.less(b.val_err), val_loss: a.val_loss.less(b.val_loss) });
    Comparison { base: Found::new(base), random, gradient, difference }
}

fn arm(candidates: &[Candidate], base: &Candidate, slope: &Gradient, of: impl Fn(&Candidate) -> bool) -> Arm {
    let own: Vec<&Candidate> = candidates.iter().filter(|c| of(c)).collect();
    let changed: Vec<&Candidate> =
        own.iter().copied().filter(|c| matches!(c.origin, Origin::Perturb { .. } | Origin::Gradient { .. })).collect();
    // Every architecture that was perturbed by its gradient has paid for one.
    let guided = own.iter().filter(|c| matches!(c.origin, Origin::Gradient { .. } | Origin::GradientMarkov { .. }));
    let gradients = guided.filter_map(|c| c.origin.parent()).collect::<BTreeSet<_>>().len();
    let best = own.iter().copied().fold(base, |best, c| if c.val_err < best.val_err { c } else { best });
    // Both losses are finite, or there is no change to speak of.
    let pairs = changed.iter().filter_map(|c| Some([slope.change(&c.arch), c.val_loss? - base.val_loss?]));
    let pairs: Vec<[f64; 2]> = pairs.collect();
    let errors: Vec<f64> = changed.iter().map(|c| c.val_err - base.val_err).collect();
    let losses: Vec<f64> = pairs.iter().map(|[_, measured]| *measured).collect();
    Arm {
        passes: own.len() + COST * gradients,
        scored: own.len(),
        gradients,
        best: Found::new(best),
        perturbations: changed.len(),
        better: errors.iter().filter(|&&change| change < 0.0).count(),
        changes: Mean::of(&errors).zip(Mean::of(&losses)).map(|(val_err, val_loss)| Changes { val_err, val_loss }),
        prediction: (pairs.len() >= 3).then(|| Prediction::of(pairs)),
    }
}

impl Found {
    fn new(candidate: &Candidate) -> Self {
        Self { index: candidate.index, id: candidate.id.clone(), val_err: candidate.val_err }
    }
}

impl Mean {
    /// None of fewer than two values.
    fn of(values: &[f64]) -> Option<Self> {
        let deviation = standard_deviation(values)?;
        Some(Self { mean: mean(values), margin: 1.96 * deviation / (values.len() as f64).sqrt() })
    }

    /// The difference of two means of independent samples.
    fn less(self, other: Self) -> Self {
        Self { mean: self.mean - other.mean, margin: self.margin.hypot(other.margin) }
    }

    fn text(self, digits: usize) -> String {
        format!("{:+.digits$} +- {:.digits$}", self.mean, self.margin)
    }
}

impl Prediction {
    /// Of pairs of a predicted and a measured change.
    fn of(pairs: Vec<[f64; 2]>) -> Self {
        let (predicted, measured): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&[a, b]| (a, b)).unzip();
        let agreement = spearman(&predicted, &measured);
        Self {
            same_sign: pairs.iter().filter(|[predicted, measured]| predicted * measured > 0.0).count(),
            spread: [&predicted, &measured].map(|changes| standard_deviation(changes).unwrap_or(f64::NAN)),
            pairs,
            rank_correlation: agreement.map(|a| a.coefficient),
            p: agreement.map(|a| a.p),
        }
    }
}

/// The comparison as text.
pub fn text(comparison: &Comparison) -> String {
    let Comparison { base, random, gradient, difference } = comparison;
    let mut rows = vec![
        ["perturbations", "passes", "scored", "gradients", "better", "change of val_err", "of val_loss", "best"]
            .map(str::to_string),
    ];
    for (name, arm) in [("random", random), ("by gradient", gradient)] {
        let changes = arm.changes.as_ref();
        rows.push([
            name.into(),
            arm.passes.to_string(),
            arm.scored.to_string(),
            arm.gradients.to_string(),
            format!("{} of {}", arm.better, arm.perturbations),
            changes.map_or("-".into(), |c| c.val_err.text(2)),
            changes.map_or("-".into(), |c| c.val_loss.text(4)),
            format!("{:.2}% {}", arm.best.val_err, arm.best.id),
        ]);
    }
    let mut aligns = [Align::Right; 8];
    aligns[0] = Align::Left;
    let mut text = format!(
        "Perturbations by gradient against random ones, from {} (val_err {:.2} %), a pass being one over the \
         validation images\nand a gradient counting {COST}; changes are those of the base, with 95 % intervals:\n\n{}",
        base.id,
        base.val_err,
        table(&aligns, &rows)
    );
    if let Some(Changes { val_err, val_loss }) = difference {
        text += &format!("difference: {} points of val_err, {} of val_loss\n", val_err.text(2), val_loss.text(4));
    }
    if let Some(Prediction { pairs, same_sign, spread, rank_correlation: Some(r), p: Some(p) }) = &random.prediction {
        text += &format!(
            "dE/dc predicts the sign of the change of the loss for {same_sign} of {} random perturbations; rank correlation \
             {r:+.2} (p {}).\nThe changes it predicts spread by {:.4}, those measured by {:.4} (standard \
             deviations).\nBy gradient: of {DRAWS} random perturbations the one predicted to be best is scored.\n",
            pairs.len(),
            p_value(*p),
            spread[0],
            spread[1]
        );
    }
    text
}

/// Predicted against measured changes by the perturbations of the base; none without predictions.
pub fn figure(comparison: &Comparison) -> Option<Figure> {
    let arms = [("at random", &comparison.random), ("by gradient", &comparison.gradient)];
    let series = arms.into_iter().filter_map(|(name, arm)| {
        let pairs = &arm.prediction.as_ref()?.pairs;
        let points = pairs.iter().map(|&[x, y]| Point { x, y, ..Point::default() }).collect();
        Some(Points { name: name.into(), points, fit: None })
    });
    let chart = Scatter {
        title: "Perturbations of the best random architecture".into(),
        x: "change of the loss that dE/dc predicts".into(),
        y: "change of the loss on the validation images".into(),
        series: series.collect(),
    };
    (!chart.series.is_empty()).then(|| Figure::new("gradient", scatter(&chart)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::perturb::perturb;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::nas::space::Space;
    use crate::rng::{Rng, Stream};

    /// The base, three random perturbations and a chain, three guided ones and a chain of two states.
    fn candidates() -> (Vec<Candidate>, Gradient) {
        let (space, mut rng) = (Space::small(), Rng::new(2, Stream::Search));
        let base = sample(&space, &SampleLimits::full(&space), &mut rng);
        let slope = Gradient::random(&base);
        let mut of = |origin| if origin == Origin::Random { base.clone() } else { perturb(&base, 0.1, &mut rng) };
        let found = [
            (Origin::Random, 20.0, Some(1.0)),
            (Origin::Perturb { of: 0 }, 22.0, Some(1.25)),
            (Origin::Perturb { of: 0 }, 19.0, None),
            (Origin::Perturb { of: 0 }, 25.0, Some(0.75)),
            (Origin::Markov { of: 2 }, 18.5, Some(1.5)),
            (Origin::Gradient { of: 0 }, 20.0, Some(0.5)),
            (Origin::Gradient { of: 0 }, 19.0, Some(1.5)),
            (Origin::Gradient { of: 0 }, 19.5, Some(1.125)),
            (Origin::GradientMarkov { of: 6 }, 17.0, Some(1.0)),
            (Origin::GradientMarkov { of: 8 }, 30.0, Some(2.0)),
        ];
        let candidate = |(index, (origin, val_err, val_loss))| {
            let (id, arch) = (format!("id{index}"), of(origin));
            Candidate { index, origin, id, val_err, val_loss, predicted: None, params: 0, macs: 0, arch }
        };
        (found.into_iter().enumerate().map(candidate).collect(), slope)
    }

    #[test]
    fn each_way_is_counted_with_what_it_paid_and_found() {
        let (all, slope) = candidates();
        let Comparison { base, random, gradient, difference } = compare(&all, &all[0], &slope);
        assert_eq!((base.index, random.best.index, gradient.best.index), (0, 4, 8));
        assert_eq!((random.scored, random.gradients, random.passes), (4, 0, 4));
        // Gradients of the base and of two states of the chain.
        assert_eq!((gradient.scored, gradient.gradients, gradient.passes), (5, 3, 5 + 3 * COST));
        assert_eq!((random.perturbations, random.better, gradient.perturbations, gradient.better), (3, 1, 3, 2));
        let (random, gradient) = (random.changes.unwrap(), gradient.changes.unwrap());
        assert_eq!((random.val_err.mean, random.val_loss.mean), (2.0, 0.0));
        assert_eq!((gradient.val_err.mean, gradient.val_loss.mean), (-0.5, 0.125 / 3.0));
        // Of 2, -1 and 5 the standard deviation is 3, of 0, -1 and -0.5 it is 0.5.
        let margin = |deviation: f64| 1.96 * deviation / 3f64.sqrt();
        assert!((random.val_err.margin - margin(3.0)).abs() < 1e-12);
        let difference = difference.unwrap().val_err;
        assert_eq!(difference.mean, -2.5);
        assert!((difference.margin - margin(9.25f64.sqrt())).abs() < 1e-12);
    }

    #[test]
    fn predictions_are_compared_with_what_was_measured() {
        let (all, slope) = candidates();
        let Comparison { random, gradient, .. } = compare(&all, &all[0], &slope);
        assert_eq!(random.prediction, None, "one of three has no loss");
        let found = gradient.prediction.unwrap();
        let pairs = [(5, -0.5), (6, 0.5), (7, 0.125)].map(|(i, change)| [slope.change(&all[i].arch), change]);
        assert_eq!(found.pairs, pairs);
        assert_eq!(found.same_sign, pairs.iter().filter(|[a, b]| (*a < 0.0) == (*b < 0.0)).count());
        let by_rank = Prediction::of(vec![[-3.0, 0.5], [2.0, 0.75], [7.0, 0.25], [8.0, 2.0]]);
        assert_eq!((by_rank.same_sign, by_rank.rank_correlation.map(|r| (10.0 * r).round())), (3, Some(4.0)));
        assert!((by_rank.spread[1] - 0.777_28).abs() < 1e-4, "{:?}", by_rank.spread);
        let constant = Prediction::of(vec![[1.0, 0.5], [1.0, 0.75], [1.0, 0.25]]);
        assert_eq!((constant.rank_correlation, constant.p), (None, None));
    }
}
