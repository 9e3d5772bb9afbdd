//! How does the correlation depend on the HyperNet and on what it has to generate? (Brock et al. 2018, section 4.1, Table 1)
//!
//! For each g, the width of the widest ops in units, SMASH networks with HyperNets of several sizes are trained. Random
//! architectures are scored by all of them and ranked by the mean score; every j-th of the ranking is trained from scratch
//! with S seeds. A cell of the table says how well the scores of one size of HyperNet predict the mean test errors. g sets
//! the ratio of learned weights to generated ones: shared filters grow with its square, generated ones with g.

mod report;

use crate::cli::{GlobalArgs, Preset, StudyArgs, Table1Args};
use crate::commands::experiment::prediction::Prediction;
use crate::commands::experiment::ratio::Weights;
use crate::commands::experiment::study::{Outcome, Study};
use crate::commands::retrain::Trained;
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::cost::cost;
use crate::nas::design::Design;
use crate::nas::hypernet::HyperConfig;
use crate::nas::space::Space;
use crate::statistics::{ascending, mean};
use serde::Serialize;

/// What is compared with what, and how thoroughly.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Options {
    /// HyperNets, as typed.
    hypernets: Vec<String>,
    /// Widest ops, in units.
    g: Vec<usize>,
    /// SMASH networks of each kind.
    networks: usize,
    /// Architectures scored for each g.
    architectures: usize,
    /// Every so many of the ranking are trained.
    every: usize,
    /// Trainings of each.
    seeds: usize,
}

/// The networks of one g.
#[derive(Clone, Debug, Serialize)]
struct Column {
    g: usize,
    /// Learned weights of the main network for every generated one of an architecture, on average.
    ratio: f64,
    cells: Vec<Cell>,
    /// The mean score of all SMASH networks, and what costs nothing.
    others: Vec<Prediction>,
    /// What was trained, best mean score first.
    networks: Vec<Row>,
}

/// SMASH networks with HyperNets of one size.
#[derive(Clone, Debug, Serialize)]
struct Cell {
    /// As typed.
    hypernet: String,
    weights: Weights,
    /// Over all architectures, in percent.
    mean_val_err: f64,
    prediction: Prediction,
}

/// An architecture that was trained.
#[derive(Clone, Debug, Serialize)]
struct Row {
    id: String,
    /// Place in the ranking by mean score, from 1.
    rank: usize,
    /// By HyperNet: val_err with generated weights, the mean of its networks, in percent.
    scores: Vec<f64>,
    params: u64,
    macs: u64,
    /// After training from scratch, one number for each seed, in percent.
    test_err: Vec<f64>,
}

/// `smash-engine experiment table1`.
///
/// # Errors
/// Usage errors; [`Error::Interrupted`] after saving; whatever training and scoring report.
pub fn run(args: &Table1Args, global: &GlobalArgs) -> Result<()> {
    let options = Options::of(args)?;
    let sizes = options.hypernets.iter().map(|text| size(text)).collect::<Result<Vec<_>>>()?;
    let study = Study::prepare("table1", &options, &settings(args)?, global)?;
    let spaces = options.g.iter().map(|&g| with_width(&study.job.config.space, g)).collect::<Result<Vec<_>>>()?;
    study.job.begin()?;
    let columns = spaces.iter().zip(&options.g).map(|(space, &g)| column(&study, &options, &sizes, space, g));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let text = report::text(&study, &options, &columns);
    let results = serde_json::json!({
        "experiment": "table1", "data": study.job.dataset.name, "seed": study.job.config.seed,
        "options": options, "columns": columns, "seconds": study.seconds(),
    });
    let tables =
        vec![("table1", report::cells_csv(&columns)), ("table1-networks", report::networks_csv(&options, &columns))];
    study.finish(global, &results, &text, &Outcome { figures: report::figures(&study, &columns), tables })
}

impl Options {
    /// What was typed; the rest is the paper's, or what finishes.
    fn of(args: &Table1Args) -> Result<Self> {
        let paper: &[&str] = &["10x12-15-8", "20x8-10-4", "20x12-15-8", "25x16-16-16", "25x25-25-25"];
        let small: &[&str] = &["4x2-2-1", "6x4-5-2", "10x8-10-4"];
        let hypernets = if args.paper { paper } else { small };
        let default = |paper: usize, small: usize| if args.paper { paper } else { small };
        let options = Self {
            hypernets: args
                .hypernets
                .clone()
                .unwrap_or_else(|| hypernets.iter().map(|text| text.to_string()).collect()),
            g: args.g.clone().unwrap_or(if args.paper { vec![4, 8, 16] } else { vec![2, 4, 8] }),
            networks: args.networks.unwrap_or(1),
            architectures: args.architectures.unwrap_or(default(500, 60)),
            every: args.every.unwrap_or(default(10, 5)),
            seeds: args.seeds.unwrap_or(default(5, 1)),
        };
        let counts = [("--networks", options.networks), ("--every", options.every), ("--seeds", options.seeds)];
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(Error::config(*name, "0 leaves nothing to compare"));
        }
        let trained = options.architectures.div_ceil(options.every);
        if trained < 3 {
            let message = format!(
                "every {} of {} are {trained} networks to train; a correlation needs 3 or more",
                options.every, options.architectures
            );
            return Err(Error::config("--architectures", message));
        }
        for (name, repeats) in [("--hypernets", repeats(&options.hypernets)), ("--g", repeats(&options.g))] {
            if repeats {
                return Err(Error::config(name, "names something twice"));
            }
        }
        Ok(options)
    }
}

fn repeats<T: PartialEq>(values: &[T]) -> bool {
    values.iter().enumerate().any(|(i, value)| values[..i].contains(value))
}

/// The settings of the networks: by default the rules of v1, as in the paper, with its schedule or at a small size.
fn settings(args: &Table1Args) -> Result<StudyArgs> {
    let mut study = args.study.clone();
    if study.from.is_some() {
        return Err(Error::config("--from", "every network of the table is trained here; name settings with --config"));
    }
    if study.run.config.is_none() {
        study.run.preset.get_or_insert(if args.paper { Preset::V1 } else { Preset::SmallV1 });
    }
    if args.paper {
        study.run.retrain.retrain_epochs.get_or_insert(100);
    }
    Ok(study)
}

/// A HyperNet from `GROWTHxLAYERS-LAYERS-LAYERS`.
fn size(text: &str) -> Result<HyperConfig> {
    let parsed = text.split_once('x').and_then(|(growth, layers)| {
        let layers = layers.split('-').map(|n| n.parse().ok()).collect::<Option<Vec<usize>>>()?;
        let growth = growth.parse().ok().filter(|&growth: &usize| growth > 0)?;
        Some(HyperConfig { growth: growth.into(), layers, ..HyperConfig::paper() })
    });
    let hyper = parsed.ok_or_else(|| {
        Error::config("--hypernets", format!("{text:?} is not GROWTHxLAYERS-LAYERS-LAYERS, such as 10x8-10-4"))
    })?;
    hyper.validate().map_err(|e| Error::config("--hypernets", format!("{text}: {e}")))?;
    Ok(hyper)
}

/// `space` with ops up to `g` units wide.
fn with_width(space: &Space, g: usize) -> Result<Space> {
    let max_bank_size = space.max_bank_size.min(g);
    let space = Space { n_max: space.unit.saturating_mul(g), max_bank_size, ..space.clone() };
    space.validate().map_err(|e| Error::config("--g", format!("{g} does not fit this space: {e}")))?;
    Ok(space)
}

/// Trains the SMASH networks of one g, scores, ranks, trains every j-th, and compares.
fn column(study: &Study, options: &Options, sizes: &[HyperConfig], space: &Space, g: usize) -> Result<Column> {
    let seed = study.job.config.seed;
    let archs = study.architectures(space, options.architectures)?;
    let (mut weights, mut scores) = (Vec::new(), Vec::new());
    for (hyper, text) in sizes.iter().zip(&options.hypernets) {
        let mut of_size = Vec::new();
        for seed in (0..options.networks as u64).map(|i| seed + i) {
            let smash = study.smash(&format!("g{g}-{text}-s{seed}"), |config| {
                config.seed = seed;
                config.space.clone_from(space);
                config.hyper.clone_from(hyper);
            })?;
            of_size.push(study.scores(&smash, &archs)?.iter().map(|score| score.val_err).collect());
            if of_size.len() == 1 {
                weights.push(Weights::of(&smash.job, &archs));
            }
        }
        scores.push(means(&of_size));
    }
    let rows = train(study, options, &archs, &scores)?;
    Ok(Column::of(g, options, &weights, &scores, rows, seed))
}

/// The mean of several scores of each architecture.
fn means(scores: &[Vec<f64>]) -> Vec<f64> {
    let architectures = scores.first().map_or(0, Vec::len);
    (0..architectures).map(|i| mean(&scores.iter().map(|scores| scores[i]).collect::<Vec<_>>())).collect()
}

/// Trains every j-th of the ranking by the mean of `scores`, which are by HyperNet and architecture.
fn train(study: &Study, options: &Options, archs: &[Architecture], scores: &[Vec<f64>]) -> Result<Vec<Row>> {
    let chosen = every(&means(scores), options.every);
    let designs: Vec<Design> = chosen.iter().map(|&(_, i)| Design::from(&archs[i])).collect();
    let trained = study.trainings(&designs, options.seeds)?;
    let row = |(&(place, i), trained): (&(usize, usize), &Vec<Trained>)| {
        let cost = cost(&archs[i], &study.job.shape);
        Row {
            id: archs[i].id(),
            rank: place + 1,
            scores: scores.iter().map(|scores| scores[i]).collect(),
            params: cost.params,
            macs: cost.macs,
            test_err: trained.iter().map(|t| t.test_err).collect(),
        }
    };
    Ok(chosen.iter().zip(&trained).map(row).collect())
}

/// Every `step`-th of the ranking by `scores`: its place, from 0, and which it is.
fn every(scores: &[f64], step: usize) -> Vec<(usize, usize)> {
    ascending(scores).into_iter().enumerate().step_by(step).collect()
}

impl Column {
    /// Compares the scores of the trained architectures with their errors.
    fn of(g: usize, options: &Options, weights: &[Weights], scores: &[Vec<f64>], rows: Vec<Row>, seed: u64) -> Self {
        let truth: Vec<f64> = rows.iter().map(|row| mean(&row.test_err)).collect();
        let prediction = |name: &str, of: &dyn Fn(&Row) -> f64| {
            Prediction::of(name, &rows.iter().map(of).collect::<Vec<_>>(), &truth, seed)
        };
        let cells = options.hypernets.iter().enumerate().map(|(i, hypernet)| Cell {
            hypernet: hypernet.clone(),
            weights: weights[i],
            mean_val_err: mean(&scores[i]),
            prediction: prediction(hypernet, &|row| row.scores[i]),
        });
        let others = vec![
            prediction("mean score of all", &|row| mean(&row.scores)),
            // The larger network should be the better one.
            prediction("parameters only", &|row| -(row.params as f64)),
            prediction("MACs only", &|row| -(row.macs as f64)),
        ];
        Self { g, ratio: weights[0].ratio, cells: cells.collect(), others, networks: rows }
    }
}

#[cfg(test)]
mod tests;
