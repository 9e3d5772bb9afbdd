//! The pictures of a run: how its networks learned, what the search found, and what that was worth.

use crate::commands::retrain::{Role, Trained};
use crate::commands::search::Candidate;
use crate::figures::Figure;
use crate::figures::chart::{
    Curve, Histogram, Interval, Intervals, Lines, Point, Points, Scatter, histogram, intervals, lines, scatter,
};
use crate::nas::strategy::Origin;
use crate::report::error_margin;
use crate::statistics::spearman;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// Points of a curve over training steps: each is the mean of as many steps as it takes.
const POINTS: usize = 60;

/// A line of `metrics.jsonl`: of a step, or with the validation error of an epoch.
#[derive(Deserialize)]
struct Line {
    network: String,
    step: u64,
    train_err: f64,
    epoch: Option<u64>,
    val_err: Option<f64>,
}

/// How a network learned.
#[derive(Clone, Debug, Default, PartialEq)]
struct Learning {
    /// Errors on the training images of every step, in percent.
    steps: Vec<f64>,
    /// Steps and errors on the validation images after every epoch, in percent.
    epochs: Vec<[f64; 2]>,
}

impl Learning {
    /// What `metrics` tells of each of `names`. A network trained again counts as trained the last time. Curves are no
    /// results: what cannot be read is left out.
    fn read(metrics: &Path, names: &[&str]) -> Vec<Self> {
        let mut found = vec![Self::default(); names.len()];
        let file = File::open(metrics).map(BufReader::new);
        for line in file.into_iter().flat_map(|file| file.split(b'\n')).map_while(std::io::Result::ok) {
            let Ok(line) = serde_json::from_slice::<Line>(&line) else { continue };
            let Some(learning) = names.iter().position(|name| *name == line.network).map(|i| &mut found[i]) else {
                continue;
            };
            match line.epoch {
                Some(_) => learning.epochs.extend(line.val_err.map(|error| [line.step as f64, error])),
                None if line.step == 1 => *learning = Self { steps: vec![line.train_err], epochs: Vec::new() },
                None => learning.steps.push(line.train_err),
            }
        }
        found
    }

    /// The error on training images as a curve.
    fn training(&self) -> Vec<[f64; 2]> {
        let size = self.steps.len().div_ceil(POINTS).max(1);
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
        let middle = |i: usize, part: &[f64]| (i * size) as f64 + (part.len() + 1) as f64 / 2.0;
        self.steps.chunks(size).enumerate().map(|(i, part)| [middle(i, part), mean(part)]).collect()
    }
}

/// Errors of the SMASH network in training.
pub fn smash_training(metrics: &Path) -> Figure {
    let learning = &Learning::read(metrics, &["smash"])[0];
    let curve = |name: &str, points, dashed, colour| Curve { name: name.into(), points, dashed, colour };
    let chart = Lines {
        title: "Training of the SMASH network".into(),
        x: "training step".into(),
        y: "error of random architectures [%]".into(),
        series: vec![
            curve("training batches, a new architecture each", learning.training(), false, 0),
            curve("validation images, after each epoch", learning.epochs.clone(), true, 1),
        ],
    };
    Figure::new("smash-training", lines(&chart))
}

/// Errors of the resulting networks in training.
pub fn trainings(metrics: &Path, networks: &[Trained]) -> Figure {
    let names: Vec<&str> = networks.iter().map(|n| n.id.as_str()).collect();
    let learned = Learning::read(metrics, &names);
    let series = networks.iter().zip(&learned).enumerate().flat_map(|(colour, (network, learning))| {
        let curve = |points, dashed, name| Curve { name, points, dashed, colour };
        [curve(learning.training(), false, label(network)), curve(learning.epochs.clone(), true, String::new())]
    });
    let chart = Lines {
        title: "Training from scratch: training batches (lines), validation images (marks)".into(),
        x: "training step".into(),
        y: "error [%]".into(),
        series: series.collect(),
    };
    Figure::new("trainings", lines(&chart))
}

/// Role and name of a network.
fn label(network: &Trained) -> String {
    format!("{} {}", network.role.name(), network.id)
}

/// Where an architecture came from, as the legends and tables have it, in the order of the search.
const ORIGINS: [&str; 5] = [
    "random",
    "perturbations of the best random one",
    "Markov chain",
    "perturbations by gradient",
    "Markov chain by gradient",
];

fn origin(candidate: &Candidate) -> usize {
    match candidate.origin {
        Origin::Random => 0,
        Origin::Perturb { .. } => 1,
        Origin::Markov { .. } => 2,
        Origin::Gradient { .. } => 3,
        Origin::GradientMarkov { .. } => 4,
    }
}

/// How many architectures came from where: `random 400, Markov chain 100`.
pub fn origins(ranking: &[Candidate]) -> String {
    let count = |kind: usize| ranking.iter().filter(|c| origin(c) == kind).count();
    let counts = ORIGINS.iter().enumerate().map(|(kind, name)| (name, count(kind))).filter(|(_, count)| *count > 0);
    counts.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

/// How the scores of a search are distributed, best first in `ranking`.
pub fn scores(ranking: &[Candidate]) -> Figure {
    let of = |kind: usize| ranking.iter().filter(move |c| origin(c) == kind).map(|c| c.val_err);
    let groups = ORIGINS.iter().enumerate().map(|(kind, name)| (name.to_string(), of(kind).collect::<Vec<f64>>()));
    let chart = Histogram {
        title: format!("Scores of {} architectures", ranking.len()),
        x: "val_err with generated weights [%]".into(),
        y: "architectures".into(),
        groups: groups.filter(|(_, scores)| !scores.is_empty()).collect(),
        marks: ranking
            .first()
            .map(|best| (format!("winner {:.2} %", best.val_err), best.val_err))
            .into_iter()
            .collect(),
    };
    Figure::new("scores", histogram(&chart))
}

/// Scores against cost, and what their ranks have in common among random architectures.
pub fn scores_and_cost(ranking: &[Candidate]) -> (Figure, String) {
    let of = |kind: usize| ranking.iter().filter(move |c| origin(c) == kind);
    let points = |kind| of(kind).map(|c| Point::new(c.macs as f64, c.val_err)).collect::<Vec<_>>();
    let series = ORIGINS.iter().enumerate().map(|(kind, name)| Points {
        name: name.to_string(),
        points: points(kind),
        ..Points::default()
    });
    let chart = Scatter {
        title: "Scores and cost".into(),
        x: "multiply-accumulates per image".into(),
        y: "val_err with generated weights [%]".into(),
        series: series.filter(|s| !s.points.is_empty()).collect(),
    };
    let (macs, errors): (Vec<f64>, Vec<f64>) = of(0).map(|c| (c.macs as f64, c.val_err)).unzip();
    let agreement = match spearman(&macs, &errors) {
        Some(rho) => format!(
            "Among the {} random architectures Spearman's rho of MACs and score is {:+.2} (p = {:.2}); near -1, \
             scoring would be no more than preferring what is expensive.\n",
            macs.len(),
            rho.coefficient,
            rho.p
        ),
        None => String::new(),
    };
    (Figure::new("scores-and-cost", scatter(&chart)), agreement)
}

/// Test errors with the intervals of their samples.
pub fn test_errors(networks: &[Trained]) -> Figure {
    let row = |network: &Trained| {
        let margin = error_margin(network.test_err, network.test_images);
        Interval {
            label: label(network),
            value: network.test_err,
            interval: Some([network.test_err - margin, network.test_err + margin]),
            note: format!("{:.2} % +- {margin:.2}", network.test_err),
        }
    };
    let chart = Intervals {
        title: "Error on the test images after training from scratch".into(),
        x: "test_err [%], with the 95 % interval of a sample of this size".into(),
        reference: networks.iter().find(|n| n.role == Role::Winner).map(|n| n.test_err),
        rows: networks.iter().map(row).collect(),
    };
    Figure::new("test-errors", intervals(&chart))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_means_over_equal_stretches_of_the_last_training() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut text = String::new();
        for (network, steps) in [("a", 10), ("b", 300), ("a", 4)] {
            for step in 1..=steps {
                text += &format!(
                    "{{\"network\":\"{network}\",\"step\":{step},\"train_loss\":null,\"train_err\":{step}}}\n"
                );
            }
            text += &format!(
                "{{\"network\":\"{network}\",\"epoch\":1,\"step\":{steps},\"train_loss\":1,\"train_err\":9,\"val_err\":7.5}}\n"
            );
        }
        std::fs::write(&path, [text.as_bytes(), b"\xff\n{\"network\":\"a\"}\n"].concat()).unwrap();
        let learned = Learning::read(&path, &["b", "a"]);
        assert_eq!(learned[1], Learning { steps: vec![1.0, 2.0, 3.0, 4.0], epochs: vec![[4.0, 7.5]] });
        let curve = learned[0].training();
        assert_eq!(Learning::read(&dir.path().join("nothing"), &["a"]), [Learning::default()]);
        assert_eq!((curve.len(), curve[0], curve[59]), (60, [3.0, 3.0], [298.0, 298.0]));
    }
}
