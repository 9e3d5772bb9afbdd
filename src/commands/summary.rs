//! The report of a run: the outcome first, as it is printed, then what it rests on.

use crate::commands::export::folder_of;
use crate::commands::guided::Comparison;
use crate::commands::job::Job;
use crate::commands::retrain::{Role, Trained, table as results_table};
use crate::commands::search::{Candidate, table as ranking_table};
use crate::commands::timing::Timing;
use crate::commands::{environment, guided, pictures};
use crate::figures::{Figure, network};
use crate::nas::cost::NetworkShape;
use crate::nas::describe;
use crate::report::{Align, count, duration, grouped, table};

/// What a run found.
pub struct Findings<'a> {
    /// Settings, images and directory.
    pub job: &'a Job,
    /// All scored architectures, best first.
    pub ranking: &'a [Candidate],
    /// Those trained from scratch, the winner first.
    pub networks: &'a [Trained],
    /// What the search says of its gradients, if it followed any.
    pub gradient: Option<&'a Comparison>,
    /// Seconds of each stage.
    pub timing: &'a Timing,
}

impl Findings<'_> {
    /// The outcome as markdown that also reads well as text: what `run` prints, and how its report begins.
    pub fn outcome(&self) -> String {
        let Self { job, ranking, networks, .. } = self;
        let seconds = |stage: &str| duration(self.timing.seconds(stage));
        let gradient = self.gradient.map_or(String::new(), |c| format!("```\n{}```\n\n", guided::text(c)));
        format!(
            "# SMASH on {}, seed {}\n\n{}\n\n\
             After training from scratch ({} each, the same images and crops for all):\n\n```\n{}```\n\n\
             Best scores (validation error with generated weights):\n\n```\n{}```\n\n{gradient}\
             Search cost: {} to train the SMASH network, {} to score {} architectures on {} validation images.\n\
             Training {} networks from scratch for comparison: {}.\n\n\
             Test errors are on {} images the search never saw, +- the 95 % interval of that sample; one training each, \
             so seeds add to it.\nEverything is in {}, curves and pictures in its report.html; \
             `smash-engine show {}{}` prints the winner.\nThe winner as it was trained is in {}, for ONNX runtimes, \
             PyTorch{}.\n",
            job.dataset.name,
            job.config.seed,
            verdict(networks),
            epochs(job.config.retrain.epochs),
            results_table(networks),
            ranking_table(ranking, 5),
            seconds("smash"),
            seconds("search"),
            ranking.len(),
            job.validation.len(),
            networks.len(),
            seconds("retrain"),
            networks.first().map_or(0, |n| n.test_images),
            job.dir.display(),
            job.path(&format!("arch/{}.json", ranking[0].id)).display(),
            show_flags(&job.shape),
            folder_of(job, &ranking[0].id).display(),
            if job.shape.is_volume() { "" } else { " and `smash-engine predict`" }
        )
    }

    /// The whole report, and the figures it shows.
    pub fn report(&self) -> (String, Vec<Figure>) {
        let metrics = self.job.path("metrics.jsonl");
        let smash = pictures::smash_training(&metrics);
        let trainings = pictures::trainings(&metrics, self.networks);
        let errors = pictures::test_errors(self.networks);
        let scores = pictures::scores(self.ranking);
        let (cost, agreement) = pictures::scores_and_cost(self.ranking);
        let gradient = self.gradient.and_then(guided::figure);
        let predictions =
            gradient.as_ref().map(|f| f.markdown("changes of the loss, as dE/dc predicts and as measured"));
        let winner = Figure::new("winner", network::svg(&self.ranking[0].arch, &self.job.shape));
        let sections = [
            ("What was searched", vec![self.searched()]),
            ("The SMASH network", vec![self.smash(), smash.markdown("errors of the SMASH network in training")]),
            (
                "The search",
                vec![
                    self.search(),
                    scores.markdown("distribution of the scores"),
                    cost.markdown("scores against multiply-accumulates"),
                    agreement,
                    predictions.unwrap_or_default(),
                ],
            ),
            ("The winner", vec![self.card(), winner.markdown("the winner"), self.winner_table()]),
            ("Training from scratch", vec![self.retraining(), trainings.markdown("errors in training from scratch")]),
            ("Repeat it", vec![self.repeat()]),
        ];
        let mut text = format!("{}\n{}", self.outcome(), errors.markdown("test errors of all networks"));
        for (heading, parts) in sections {
            text += &format!("\n## {heading}\n\n{}", parts.join("\n"));
        }
        (text, [errors, smash, scores, cost, winner, trainings].into_iter().chain(gradient).collect())
    }

    /// Images and space.
    fn searched(&self) -> String {
        let job = self.job;
        let (space, shape) = (&job.config.space, &job.shape);
        let fold = job.config.data.fold.map_or(String::new(), |fold| format!(" of fold {fold}"));
        let list = |numbers: &[usize]| numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let size = shape.image_size;
        let depth = if shape.is_volume() { format!("{} x ", shape.image_depth) } else { String::new() };
        format!(
            "- Images: {}, {} classes, shown to the network as {} x {depth}{size} x {size}. {} to learn from{fold}, {} \
             to validate on (never learned from; scores are errors on them), {} to test on.\n\
             - Preset `{}`. Channels in units of {}, ops up to {} channels wide, banks of 1 to {} units, filters of {} \
             pixels a side, dilated to span up to {}, in groups of {}; {} kinds of bodies; at most {} slices in the three \
             blocks.\n",
            job.dataset.name,
            shape.classes,
            shape.image_channels,
            grouped(job.train.len() as u64),
            grouped(job.validation.len() as u64),
            grouped(job.dataset.test.len() as u64),
            job.config.preset,
            space.unit,
            space.n_max,
            space.max_bank_size,
            list(&space.kernels),
            space.max_extent,
            list(&space.groups),
            space.bodies.len(),
            list(&space.slices()),
        )
    }

    fn smash(&self) -> String {
        let config = &self.job.config.smash;
        let limit = if config.max_steps > 0 { format!(", at most {} steps", config.max_steps) } else { String::new() };
        format!(
            "Trained for {}{limit} in batches of {}, from learning rate {} along a cosine, every batch with \
             another random architecture.\n",
            epochs(config.epochs),
            config.batch,
            config.lr,
        )
    }

    fn search(&self) -> String {
        let config = &self.job.config.search;
        format!(
            "{} architectures scored: {}. A perturbation redraws each element of an architecture with a probability of \
             {} %; the chain starts from the best so far and moves to a better one.\n",
            self.ranking.len(),
            pictures::origins(self.ranking),
            100.0 * config.probability,
        )
    }

    /// The winner's card.
    fn card(&self) -> String {
        let best = &self.ranking[0];
        let ops: usize = best.arch.blocks.iter().map(|block| block.ops.len()).sum();
        let trained = self.networks.iter().find(|n| n.id == best.id);
        let percent = |error: Option<f64>| error.map_or("-".to_string(), |e| format!("{e:.2} %"));
        let rows = [
            ["architecture".to_string(), best.id.clone()],
            ["val_err with generated weights".into(), percent(Some(best.val_err))],
            ["val_err after training".into(), percent(trained.and_then(|n| n.val_err))],
            ["test_err after training".into(), percent(trained.map(|n| n.test_err))],
            ["parameters".into(), count(best.params)],
            ["MACs (FLOPs) per image".into(), format!("{} ({})", count(best.macs), count(2 * best.macs))],
            ["ops, layers with weights".into(), format!("{ops}, {}", best.arch.layers())],
        ];
        format!("```\n{}```\n", table(&[Align::Left, Align::Left], &rows))
    }

    fn winner_table(&self) -> String {
        format!("```\n{}```\n", describe::table(&self.ranking[0].arch, &self.job.shape))
    }

    fn retraining(&self) -> String {
        let config = &self.job.config.retrain;
        let start = if config.init_from_smash { "the SMASH network's weights" } else { "the same random numbers" };
        format!(
            "{} in batches of {}, from learning rate {} along a cosine, with the same images and crops for \
             all, starting from {start}.\n",
            epochs(config.epochs),
            config.batch,
            config.lr,
        )
    }

    /// How to get the same again.
    fn repeat(&self) -> String {
        let job = self.job;
        let began = match environment::command(job) {
            Some(command) => format!("This run began with\n\n```\n{command}\n```\n\nand has"),
            None => "This run has".to_string(),
        };
        format!(
            "{began} the settings below. In a file `settings.toml` they repeat it, bit for bit on the same kind of device, \
             whatever the number of threads:\n\n```\nsmash-engine run --config settings.toml --out ANOTHER-DIRECTORY\n\
             ```\n\nEvery random decision follows from the seed, {}. smash-engine {} on {}.\n\n```toml\n{}```\n",
            job.config.seed,
            env!("CARGO_PKG_VERSION"),
            job.device.describe().trim_start_matches("device: "),
            job.config.to_toml()
        )
    }
}

fn epochs(count: u64) -> String {
    if count == 1 { "1 epoch".into() } else { format!("{count} epochs") }
}

/// The flags of `show` for a network of this shape, those at their defaults left out.
fn show_flags(shape: &NetworkShape) -> String {
    let flags = [
        ("image-channels", shape.image_channels, 3),
        ("image-size", shape.image_size, 32),
        ("classes", shape.classes, 10),
        ("stem-kernel", shape.stem_kernel, 7),
        ("stem-stride", shape.stem_stride, 1),
    ];
    let set = flags.iter().filter(|(_, value, default)| value != default);
    let text: String = set.map(|(flag, value, _)| format!(" --{flag} {value}")).collect();
    text + if shape.is_volume() { " --volume" } else { "" }
}

/// One plain sentence on what the search was worth.
fn verdict(networks: &[Trained]) -> String {
    let of = |role: Role| networks.iter().filter(move |n| n.role == role);
    let Some(winner) = of(Role::Winner).next() else { return String::new() };
    let rivals: Vec<f64> = of(Role::Rival).map(|n| n.test_err).collect();
    let mut text = format!("The winner's test_err is {:.2} %", winner.test_err);
    if !rivals.is_empty() {
        let mean = rivals.iter().sum::<f64>() / rivals.len() as f64;
        let better = rivals.iter().filter(|&&e| winner.test_err < e).count();
        text += &format!(
            "; random architectures of similar cost reach {mean:.2} % on average (it beats {better} of {})",
            rivals.len()
        );
    }
    match of(Role::Largest).next() {
        Some(largest) => text += &format!("; the largest network reaches {:.2} %", largest.test_err),
        None => text += "; it is also among the largest networks scored, so there is no separate choice by cost",
    }
    text + "."
}
