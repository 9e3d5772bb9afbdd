//! Do SMASH networks agree with each other? (Brock et al. 2018, appendix C and Figure 5)
//!
//! The same random architectures are scored by SMASH networks that differ in their seed, and by the mean of those, an
//! ensemble; by one with a crippled HyperNet; and by one with more learned weights for every generated one: it was trained
//! on a space whose ops may be so many times as wide, of which the architectures, taken over as they are, are narrow
//! members; shared filters grow with the square of the width, generated ones in proportion. Where some of the architectures
//! were trained from scratch, each scorer is compared with that, too.

mod figures;
mod report;

use crate::cli::{GlobalArgs, StabilityArgs};
use crate::commands::experiment::prediction::Prediction;
use crate::commands::experiment::ratio::Weights;
use crate::commands::experiment::study::{Outcome, Score, Smash, Study};
use crate::commands::experiment::trained::{Truth, truth};
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::hypernet::HyperConfig;
use crate::nas::space::Space;
use crate::statistics::{Agreement, ascending, kendall, mean, spearman};
use serde::Serialize;

/// A SMASH network, or several, as a source of scores.
#[derive(Clone, Debug, Serialize)]
struct Scorer {
    name: String,
    kind: Kind,
    /// Numbers of weights, over random architectures of its own space; none of an ensemble.
    weights: Option<Weights>,
    /// Mean over the architectures, in percent.
    mean_val_err: f64,
    /// The best architecture's.
    best_val_err: f64,
    /// Part of its best tenth that is among the ensemble's best tenth.
    best_tenth: f64,
    /// How well it predicts the test error after training, where that is known.
    prediction: Option<Prediction>,
    /// By architecture, in percent.
    val_err: Vec<f64>,
}

/// What sets a scorer apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// One of those that differ in their seed only.
    Seed,
    /// The mean of those.
    Ensemble,
    /// A crippled HyperNet.
    Crippled,
    /// More learned weights.
    Wide,
}

/// How far rankings agree.
#[derive(Clone, Debug, Serialize)]
struct Rankings {
    /// Names of rows and columns.
    scorers: Vec<String>,
    /// Spearman's rho of each with each.
    spearman: Vec<Vec<Option<f64>>>,
    /// Kendall's tau of each with each.
    kendall: Vec<Vec<Option<f64>>>,
    /// Mean rho of any two seeds.
    between_seeds: Option<f64>,
    /// Mean rho of a seed and the mean score of the others.
    with_the_others: Option<f64>,
    /// What rho of the ensemble with another of as many new seeds is to be expected (Spearman and Brown).
    expected_of_ensembles: Option<f64>,
}

/// `smash-engine experiment stability`.
///
/// # Errors
/// Usage errors; [`Error::Interrupted`] after saving; whatever training and scoring report.
pub fn run(args: &StabilityArgs, global: &GlobalArgs) -> Result<()> {
    check(args)?;
    let study = Study::prepare("stability", args, &args.study, global)?;
    let space = &study.job.config.space;
    let wide = (args.wide > 1).then(|| widened(space, args.wide)).transpose()?;
    let archs = study.architectures(space, args.architectures)?;
    let truth = args.trained.as_deref().map(|dir| truth(&study, dir, &archs)).transpose()?;
    study.job.begin()?;
    let scorers = scorers(&study, args, &archs, wide.as_ref(), truth.as_ref())?;
    let rankings = Rankings::of(&scorers);
    let text = report::text(&study, &archs, &scorers, &rankings, truth.as_ref());
    let results = serde_json::json!({
        "experiment": "stability", "data": study.job.dataset.name, "seed": study.job.config.seed,
        "architectures": archs.iter().map(Architecture::id).collect::<Vec<_>>(), "scorers": scorers,
        "rankings": rankings, "truth": truth, "seconds": study.seconds(),
    });
    let outcome = Outcome {
        figures: figures::all(&study, &scorers, &rankings, truth.as_ref()),
        tables: vec![("stability", csv(&archs, &scorers, truth.as_ref()))],
    };
    study.finish(global, &results, &text, &outcome)
}

fn check(args: &StabilityArgs) -> Result<()> {
    if args.architectures < 3 {
        let message = format!("{} have no ranking to speak of; 3 or more are needed", args.architectures);
        return Err(Error::config("--architectures", message));
    }
    if args.networks < 2 {
        let message = format!("{} cannot disagree; 2 or more are needed", args.networks);
        return Err(Error::config("--networks", message));
    }
    if args.wide == 0 {
        return Err(Error::config("--wide", "0 leaves no ops; 1 leaves the network out"));
    }
    Ok(())
}

/// A space whose ops may be `factor` times as wide, and which holds all architectures of `space`.
fn widened(space: &Space, factor: usize) -> Result<Space> {
    let wide = Space { n_max: space.n_max.saturating_mul(factor), ..space.clone() };
    wide.validate().map_err(|e| Error::config("--wide", format!("{factor} is too much: {e}")))?;
    Ok(wide)
}

/// A HyperNet that can learn little: one layer for each dense block, a few channels.
fn cripple(config: &mut RunConfig) {
    let blocks = config.hyper.layers.len();
    config.hyper = HyperConfig { stem: 1, layers: vec![1; blocks], growth: 1.into() };
}

/// Trains what is to score, and lets it.
fn scorers(
    study: &Study,
    args: &StabilityArgs,
    archs: &[Architecture],
    wide: Option<&Space>,
    truth: Option<&Truth>,
) -> Result<Vec<Scorer>> {
    let seed = study.job.config.seed;
    let one = |kind: Kind, name: String, smash: Smash, archs: &[Architecture]| -> Result<Scorer> {
        let scores = study.scores(&smash, archs)?;
        let own = study.architectures(&smash.job.config.space, archs.len())?;
        let weights = Weights::of(&smash.job, &own);
        Ok(Scorer::new(name, kind, Some(weights), scores.iter().map(|s: &Score| s.val_err).collect()))
    };
    let mut all = Vec::new();
    for i in 0..args.networks as u64 {
        let smash = match i {
            0 => study.base()?,
            _ => study.smash(&format!("s{}", seed + i), |config| config.seed = seed + i)?,
        };
        all.push(one(Kind::Seed, format!("seed {}", seed + i), smash, archs)?);
    }
    all.push(Scorer::new(format!("mean of {}", all.len()), Kind::Ensemble, None, mean_scores(all.iter())));
    all.push(one(Kind::Crippled, "crippled".into(), study.smash("crippled", cripple)?, archs)?);
    if let Some(space) = wide {
        let moved: Vec<Architecture> =
            archs.iter().map(|arch| Architecture::new(space.clone(), arch.blocks.clone())).collect();
        let smash = study.smash("wide", |config| config.space.clone_from(space))?;
        all.push(one(Kind::Wide, format!("{} x as wide", args.wide), smash, &moved)?);
    }
    let best = best_tenth(&all[args.networks].val_err);
    for scorer in &mut all {
        let found = best_tenth(&scorer.val_err);
        scorer.best_tenth = found.iter().filter(|i| best.contains(i)).count() as f64 / best.len() as f64;
        scorer.prediction = truth.map(|truth| truth.predicted_by(&scorer.name, &scorer.val_err, seed));
    }
    Ok(all)
}

/// The mean score of each architecture.
fn mean_scores<'a>(scorers: impl Iterator<Item = &'a Scorer> + Clone) -> Vec<f64> {
    let architectures = scorers.clone().map(|s| s.val_err.len()).min().unwrap_or(0);
    (0..architectures).map(|i| mean(&scorers.clone().map(|s| s.val_err[i]).collect::<Vec<_>>())).collect()
}

/// Places of the lowest tenth, rounded up; of equal ones the first.
fn best_tenth(scores: &[f64]) -> Vec<usize> {
    let mut order = ascending(scores);
    order.truncate(scores.len().div_ceil(10));
    order
}

impl Scorer {
    fn new(name: String, kind: Kind, weights: Option<Weights>, val_err: Vec<f64>) -> Self {
        let best_val_err = val_err.iter().copied().fold(f64::INFINITY, f64::min);
        Self {
            name,
            kind,
            weights,
            mean_val_err: mean(&val_err),
            best_val_err,
            best_tenth: 0.0,
            prediction: None,
            val_err,
        }
    }
}

type Statistic = fn(&[f64], &[f64]) -> Option<Agreement>;

impl Rankings {
    fn of(scorers: &[Scorer]) -> Self {
        let matrix = |statistic: Statistic| -> Vec<Vec<Option<f64>>> {
            let agreement = |a: &Scorer, b: &Scorer| statistic(&a.val_err, &b.val_err).map(|found| found.coefficient);
            scorers.iter().map(|a| scorers.iter().map(|b| agreement(a, b)).collect()).collect()
        };
        let seeds: Vec<&Scorer> = scorers.iter().filter(|s| s.kind == Kind::Seed).collect();
        let rho = |a: &[f64], b: &[f64]| spearman(a, b).map(|found| found.coefficient);
        let pairs = (0..seeds.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let between_seeds = mean_of(pairs.map(|(a, b)| rho(&seeds[a].val_err, &seeds[b].val_err)));
        let with_the_others = mean_of((0..seeds.len()).map(|i| {
            let others = seeds.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, seed)| *seed);
            rho(&seeds[i].val_err, &mean_scores(others))
        }));
        let n = seeds.len() as f64;
        Self {
            scorers: scorers.iter().map(|s| s.name.clone()).collect(),
            spearman: matrix(spearman),
            kendall: matrix(kendall),
            between_seeds,
            with_the_others,
            expected_of_ensembles: between_seeds.filter(|r| *r > 0.0).map(|r| n * r / (1.0 + (n - 1.0) * r)),
        }
    }
}

/// The mean; none unless there is a value and all have one.
fn mean_of(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let values: Option<Vec<f64>> = values.collect();
    values.filter(|values| !values.is_empty()).map(|values| mean(&values))
}

fn csv(archs: &[Architecture], scorers: &[Scorer], truth: Option<&Truth>) -> String {
    let names: Vec<&str> = scorers.iter().map(|s| s.name.as_str()).collect();
    let mut text = format!("architecture,{},test_err\n", names.join(","));
    for (i, arch) in archs.iter().enumerate() {
        let scores: Vec<String> = scorers.iter().map(|s| s.val_err[i].to_string()).collect();
        let test_err = truth.and_then(|truth| truth.test_err[i]).map_or(String::new(), |e| e.to_string());
        text += &format!("{},{},{test_err}\n", arch.id(), scores.join(","));
    }
    text
}

#[cfg(test)]
mod tests;
