//! The comparison that `search --strategy gradient` ends with: perturbations chosen by dE/dc against random ones, from
//! the same architecture and with as many passes over the validation images (Brock et al. 2018, section 4.2).
//!
//! Two questions. Does it help: how far do the perturbations of the best random architecture move its validation
//! error, and how good is the best that each way of searching found? And why: does the first-order change of the loss
//! that dE/dc predicts agree with the change that is measured? The random perturbations answer the second one, since
//! nothing was chosen by its prediction among them. Losses and errors are those of the validation images.

use crate::backend::Context;
use crate::commands::images::gather_batch;
use crate::commands::job::Job;
use crate::commands::search::Candidate;
use crate::data::sequential_batches;
use crate::error::Result;
use crate::nas::arch::Architecture;
use crate::nas::gradient::{COST, Gradient, gradient};
use crate::nas::guided::DRAWS;
use crate::nas::smash::SmashNetwork;
use crate::nas::strategy::Origin;
use crate::report::{Align, table};
use crate::statistics::spearman;
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
    /// Perturbations that have both.
    pub pairs: usize,
    /// How many of them have both of one sign.
    pub same_sign: usize,
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
    let batches = batches.map(|indices| gather_batch(&job.dataset.train, indices));
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
    let losses: Vec<(f64, f64)> =
        changed.iter().filter_map(|c| Some((slope.change(&c.arch), c.val_loss? - base.val_loss?))).collect();
    let errors: Vec<f64> = changed.iter().map(|c| c.val_err - base.val_err).collect();
    let measured: Vec<f64> = losses.iter().map(|(_, measured)| *measured).collect();
    Arm {
        passes: own.len() + COST * gradients,
        scored: own.len(),
        gradients,
        best: Found::new(best),
        perturbations: changed.len(),
        better: errors.iter().filter(|&&change| change < 0.0).count(),
        changes: Mean::of(&errors).zip(Mean::of(&measured)).map(|(val_err, val_loss)| Changes { val_err, val_loss }),
        prediction: (losses.len() >= 3).then(|| Prediction::of(&losses)),
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
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (values.len() >= 2).then(|| Self { mean, margin: 1.96 * (variance / n).sqrt() })
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
    fn of(pairs: &[(f64, f64)]) -> Self {
        let (predicted, measured): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let agreement = spearman(&predicted, &measured);
        Self {
            pairs: pairs.len(),
            same_sign: pairs.iter().filter(|(predicted, measured)| predicted * measured > 0.0).count(),
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
    if let Some(Prediction { pairs, same_sign, rank_correlation: Some(r), p: Some(p) }) = &random.prediction {
        text += &format!(
            "dE/dc predicts the sign of the change of the loss for {same_sign} of {pairs} random perturbations; rank \
             correlation {r:.2} (p {p:.2}).\nBy gradient: the best predicted of {DRAWS} is scored.\n"
        );
    }
    text
}
