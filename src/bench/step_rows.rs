//! What `bench step` reports: rows of architectures, their table, their JSON.
//!
//! FLOP of a step are three times those of the main network's forward pass, 2 per multiply-accumulate; the HyperNet is
//! not counted. They are given twice: with the taps that fall on padding (`flop_per_step`, `gflops`), and without
//! (`flop_inside_per_step`, `gflops_inside`), which is what has to be computed.

use super::saved::{Bound, Ceilings, Samples as Timed};
use super::setting::{Named, Setting};
use super::stats::{median, quantile};
use super::step::Samples;
use super::table::{Cell, Table};
use crate::cli::Conv;
use crate::error::{Error, Result};
use crate::machine::peak_resident_bytes;
use crate::nas::cost::{Cost, cost};
use crate::trace::Phases;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// Samples of one architecture, in milliseconds.
#[derive(Default)]
pub(super) struct Measured {
    pub alone: Vec<f64>,
    /// Until everything was queued.
    pub queueing: Vec<f64>,
    /// As a replayed graph.
    pub graph: Vec<f64>,
    /// CUDA kernels of a step.
    pub kernels: Option<u64>,
    /// Step memory.
    pub arena_bytes: u64,
    pub spent: Spent,
    pub score: Vec<f64>,
    pub score_spent: Spent,
}

/// Where the time of some steps went.
#[derive(Clone, Debug, Default)]
pub(super) struct Spent {
    steps: usize,
    sum: Split,
}

/// Milliseconds of a step in each of its parts, on average.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// Choosing images, collecting them.
    pub data_ms: f64,
    /// The HyperNet's forward pass, encoding included; its backward pass is part of the backward pass.
    pub hypernet_ms: f64,
    /// The main network's forward pass and the loss.
    pub forward_ms: f64,
    pub backward_ms: f64,
    /// Zeroing gradients, updating parameters.
    pub optimizer_ms: f64,
    /// Outside of all phases.
    pub other_ms: f64,
    /// From the beginning to the end, by another clock than the parts.
    pub total_ms: f64,
    /// Of threads times time, the share in which a thread of the CPU had no task; not known of a GPU.
    pub idle_share: Option<f64>,
}

impl Spent {
    /// Adds a step.
    pub fn add(&mut self, phases: &Phases, wall: Duration, idle: Option<f64>) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.steps += 1;
        for (name, time) in phases.inside.iter().map(|&(name, time)| (name, ms(time))) {
            let part = match name {
                "data" | "gather" => &mut self.sum.data_ms,
                "hypernet" => &mut self.sum.hypernet_ms,
                "forward" | "loss" => &mut self.sum.forward_ms,
                "backward" => &mut self.sum.backward_ms,
                "zero" | "update" => &mut self.sum.optimizer_ms,
                _ => &mut self.sum.other_ms,
            };
            *part += time;
        }
        self.sum.other_ms += ms(phases.outside);
        self.sum.total_ms += ms(wall);
        if let Some(idle) = idle {
            *self.sum.idle_share.get_or_insert(0.0) += idle;
        }
    }

    fn mean(&self) -> Split {
        let mean = |sum: f64| sum / self.steps.max(1) as f64;
        let Split { data_ms, hypernet_ms, forward_ms, backward_ms, optimizer_ms, other_ms, total_ms, idle_share } =
            self.sum;
        Split {
            data_ms: mean(data_ms),
            hypernet_ms: mean(hypernet_ms),
            forward_ms: mean(forward_ms),
            backward_ms: mean(backward_ms),
            optimizer_ms: mean(optimizer_ms),
            other_ms: mean(other_ms),
            total_ms: mean(total_ms),
            idle_share: idle_share.map(mean),
        }
    }
}

/// All rows of a run, and its settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StepRun {
    pub preset: String,
    pub network: String,
    pub norm: Value,
    pub hyper: Value,
    pub optimizer: Value,
    pub lr: f64,
    pub batch: usize,
    pub image: Value,
    pub arithmetic: String,
    pub conv: String,
    /// Milliseconds per step of steps in a row.
    pub row_ms_per_step: Vec<f64>,
    pub memory: Memory,
    pub archs: Vec<ArchRow>,
}

/// High-water marks.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// Of the step arena: the largest step.
    pub arena_bytes: u64,
    /// Values, gradients, moments of the parameters.
    pub parameter_bytes: u64,
    /// Of the process, resident, where the system tells.
    pub peak_resident_bytes: Option<u64>,
}

/// What was found about an architecture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArchRow {
    pub file: Option<String>,
    pub id: String,
    pub params: u64,
    pub macs_per_image: u64,
    pub macs_inside_per_image: u64,
    pub flop_per_step: f64,
    pub flop_inside_per_step: f64,
    pub arena_bytes: u64,
    #[serde(flatten)]
    pub speed: Speed,
    pub queueing_ms: Vec<f64>,
    pub graph_ms: Vec<f64>,
    pub kernels_per_step: Option<u64>,
    pub share_between_kernels: Option<f64>,
    /// Of scores with the SMASH network.
    pub score: Option<Speed>,
}

/// Samples, and what follows from them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Speed {
    pub samples_ms: Vec<f64>,
    pub median_ms: f64,
    pub p20_ms: f64,
    pub p80_ms: f64,
    pub images_per_second: f64,
    /// Taps on padding counted as work.
    pub gflops: f64,
    pub percent_of_fma: Option<f64>,
    /// Only taps inside the picture.
    pub gflops_inside: f64,
    pub percent_of_fma_inside: Option<f64>,
    pub phases: Split,
}

impl Speed {
    /// Of so many forward passes over so many images.
    fn new(samples: &[f64], spent: &Spent, [passes, images]: [usize; 2], cost: Cost, fma: Option<f64>) -> Self {
        let ms = median(samples);
        let gflops = |macs: u64| 2.0 * (passes * images) as f64 * macs as f64 / ms / 1e6;
        let percent = |gflops: f64| fma.map(|fma| 100.0 * gflops / fma);
        let (all, inside) = (gflops(cost.macs), gflops(cost.macs_inside));
        Self {
            samples_ms: samples.to_vec(),
            median_ms: ms,
            p20_ms: quantile(samples, 0.2),
            p80_ms: quantile(samples, 0.8),
            images_per_second: images as f64 / ms * 1e3,
            gflops: all,
            percent_of_fma: percent(all),
            gflops_inside: inside,
            percent_of_fma_inside: percent(inside),
            phases: spent.mean(),
        }
    }
}

impl StepRun {
    /// See [`super::saved::Saved::samples`].
    pub fn samples(&self) -> Vec<Timed<'_>> {
        // Multiply-adds are what the time of a network goes into.
        fn timed(name: String, ms: &[f64]) -> Timed<'_> {
            Timed { name, ms, bound: Bound::Compute, wrong: false }
        }
        let names: Vec<String> = (0..self.archs.len()).map(|i| self.arch_name(i)).collect();
        let archs = || self.archs.iter().zip(&names);
        let steps = archs().map(|(row, name)| timed(format!("step {name}"), &row.speed.samples_ms));
        let scores = archs().filter_map(|(row, name)| {
            row.score.as_ref().map(|score| timed(format!("score {name}"), &score.samples_ms))
        });
        steps.chain(scores).chain([timed("steps in a row".into(), &self.row_ms_per_step)]).collect()
    }

    /// The id of an architecture, numbered when others before have the same.
    fn arch_name(&self, i: usize) -> String {
        let id = &self.archs[i].id;
        match self.archs[..i].iter().filter(|row| row.id == *id).count() {
            0 => id.clone(),
            before => format!("{id} ({})", before + 1),
        }
    }

    /// What makes two runs incomparable.
    pub fn settings(&self) -> String {
        let Self { preset, network, batch, image, conv, .. } = self;
        format!("{network} {preset}, batch {batch}, images {}, {conv}", image["size"])
    }
}

/// Puts a run together.
pub(super) fn run(setting: &Setting<'_>, archs: &[Named], samples: &Samples, ceilings: &Ceilings) -> Result<StepRun> {
    let value = |value: serde_json::Result<Value>| {
        value.map_err(|e| Error::Run(format!("the settings cannot be written as JSON: {e}")))
    };
    let rows: Vec<ArchRow> =
        archs.iter().zip(&samples.archs).map(|(named, measured)| row(setting, named, measured, ceilings)).collect();
    Ok(StepRun {
        preset: setting.args.preset.name().into(),
        network: setting.args.network.name().into(),
        norm: value(serde_json::to_value(setting.config.retrain.norm))?,
        hyper: value(serde_json::to_value(&setting.config.hyper))?,
        optimizer: value(serde_json::to_value(setting.optimizer))?,
        lr: f64::from(setting.lr),
        batch: setting.args.batch,
        image: json!({
            "channels": setting.shape.image_channels,
            "size": setting.args.size,
            "classes": setting.shape.classes,
        }),
        arithmetic: match setting.conv {
            Conv::Fast | Conv::Tf32 => "f32, convolutions with TF32",
            _ => "f32 throughout, no TF32",
        }
        .into(),
        conv: setting.conv.name().into(),
        row_ms_per_step: samples.row.clone(),
        memory: Memory {
            arena_bytes: rows.iter().map(|row| row.arena_bytes).max().unwrap_or(0),
            parameter_bytes: samples.parameter_bytes,
            peak_resident_bytes: peak_resident_bytes(),
        },
        archs: rows,
    })
}

fn row(setting: &Setting<'_>, named: &Named, measured: &Measured, ceilings: &Ceilings) -> ArchRow {
    let (args, fma) = (setting.args, ceilings.fma());
    let cost = cost(&named.arch, &setting.shape);
    let flop = |macs: u64| 3.0 * 2.0 * macs as f64 * args.batch as f64;
    let speed = Speed::new(&measured.alone, &measured.spent, [3, args.batch], cost, fma);
    let scored = [1, args.batch * args.score];
    let graph = (!measured.graph.is_empty()).then(|| median(&measured.graph));
    ArchRow {
        file: named.file.clone(),
        id: named.arch.id(),
        params: cost.params,
        macs_per_image: cost.macs,
        macs_inside_per_image: cost.macs_inside,
        flop_per_step: flop(cost.macs),
        flop_inside_per_step: flop(cost.macs_inside),
        arena_bytes: measured.arena_bytes,
        share_between_kernels: graph.map(|graph| 1.0 - graph / speed.median_ms),
        speed,
        queueing_ms: measured.queueing.clone(),
        graph_ms: measured.graph.clone(),
        kernels_per_step: measured.kernels,
        score: (!measured.score.is_empty())
            .then(|| Speed::new(&measured.score, &measured.score_spent, scored, cost, fma)),
    }
}

/// Columns for people.
pub fn table(run: &StepRun) -> Table {
    let columns = vec![
        "what",
        "arch",
        "n",
        "median ms",
        "p20",
        "p80",
        "images/s",
        "GFLOP/s",
        "% fma",
        "inside",
        "% fma inside",
        "data %",
        "hypernet %",
        "forward %",
        "backward %",
        "optimizer %",
        "other %",
        "idle %",
        "MiB",
        "kernels",
        "queueing ms",
        "gaps %",
    ];
    let mut rows = Vec::new();
    for row in &run.archs {
        let mut step = cells("step", &row.id, &row.speed);
        step.extend([
            Cell::Number(row.arena_bytes as f64 / (1 << 20) as f64, 0),
            Cell::number(row.kernels_per_step.map(|kernels| kernels as f64), 0),
            Cell::number(row.kernels_per_step.map(|_| median(&row.queueing_ms)), 3),
            Cell::number(row.share_between_kernels.map(|share| 100.0 * share), 0),
        ]);
        rows.push(step);
    }
    for (row, score) in run.archs.iter().filter_map(|row| Some((row, row.score.as_ref()?))) {
        let mut score = cells("score", &row.id, score);
        score.extend(vec![Cell::Empty; 4]);
        rows.push(score);
    }
    Table { columns, rows }
}

fn cells(what: &str, id: &str, speed: &Speed) -> Vec<Cell> {
    let split = &speed.phases;
    let part = |ms: f64| Cell::number((split.total_ms > 0.0).then(|| 100.0 * ms / split.total_ms), 1);
    vec![
        what.into(),
        id.into(),
        Cell::Number(speed.samples_ms.len() as f64, 0),
        Cell::Number(speed.median_ms, 3),
        Cell::Number(speed.p20_ms, 3),
        Cell::Number(speed.p80_ms, 3),
        Cell::Number(speed.images_per_second, 0),
        Cell::Number(speed.gflops, 1),
        Cell::number(speed.percent_of_fma, 0),
        Cell::Number(speed.gflops_inside, 1),
        Cell::number(speed.percent_of_fma_inside, 0),
        part(split.data_ms),
        part(split.hypernet_ms),
        part(split.forward_ms),
        part(split.backward_ms),
        part(split.optimizer_ms),
        part(split.other_ms),
        Cell::number(split.idle_share.map(|share| 100.0 * share), 1),
    ]
}

/// What concerns all rows.
pub fn summary(run: &StepRun) -> String {
    let mib = |bytes: u64| bytes >> 20;
    let medians = |of: &dyn Fn(&ArchRow) -> Option<f64>| median(&run.archs.iter().filter_map(of).collect::<Vec<_>>());
    let mut text = format!(
        "{} {}, {} images a step: median of {} architectures {:.3} ms, {:.0} images/s; steps in a row {:.3} ms each\n",
        run.network,
        run.preset,
        run.batch,
        run.archs.len(),
        medians(&|row| Some(row.speed.median_ms)),
        medians(&|row| Some(row.speed.images_per_second)),
        median(&run.row_ms_per_step)
    );
    text += &format!(
        "of the measured multiply-adds {:.0} % counting taps on padding, {:.0} % counting those inside the picture only\n",
        medians(&|row| row.speed.percent_of_fma),
        medians(&|row| row.speed.percent_of_fma_inside)
    );
    text += &format!(
        "memory: {} MiB step arena, {} MiB parameters, gradients and moments{}\n",
        mib(run.memory.arena_bytes),
        mib(run.memory.parameter_bytes),
        run.memory.peak_resident_bytes.map_or(String::new(), |peak| format!(", {} MiB peak resident", mib(peak)))
    );
    text
}
