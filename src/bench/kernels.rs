//! `bench kernels`: every op and pass on a list of shapes.
//!
//! A row is an op, a pass, a shape and, for convolutions on a GPU, a kind of kernels. Each round runs every row twice,
//! and times the second run: the first one brings its code and operands in. What the timed run computed is compared
//! with f64 on a sample of its elements, every time; see [`super::cases`].
//!
//! `flop` counts taps that fall on padding, `flop_inside` does not: an engine that skips them can be above 100 % of
//! the measured multiply-adds. `bytes` counts what the pass must read and write, once. What bounds a row is the
//! larger of flop_inside / (multiply-adds per second) and bytes / (copied bytes per second).

use super::saved::{Bound, Ceilings, Content, Samples, Saved};
use super::spec::{self, Spec};
use super::stats::{median, quantile, spread};
use super::table::{Cell, Table};
use super::trial::{Expected, How, Numbers, Trial, Work};
use super::{Place, Yardstick, choose, glob, recorded, space, variant};
use crate::backend::cuda::KernelFacts;
use crate::backend::{Arena, Context, Kind, Region};
use crate::cli::{Conv, KernelsArgs};
use crate::error::{Error, Result};
use crate::testing::{Precision, Row as Compared, Variant};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::rc::Rc;

/// On a CPU a sample has so many launches that it takes about this long, but no more than `MOST_LAUNCHES`.
const SAMPLE_MS: f64 = 0.5;
const MOST_LAUNCHES: usize = 32;
/// Launches of a sample on a GPU: the first one's way there counts for little.
const GPU_LAUNCHES: usize = 16;

/// All rows of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KernelsRun {
    pub quick: bool,
    pub cold: bool,
    pub cases: Vec<Row>,
}

/// What was found about one op, pass and shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Row {
    pub op: String,
    pub pass: String,
    pub shape: String,
    /// Kernels of a convolution on a GPU.
    pub conv: Option<String>,
    /// Operations and bytes of a launch.
    pub flop: f64,
    pub flop_inside: f64,
    pub bytes: f64,
    pub launches_per_sample: usize,
    /// CUDA kernels of a launch, and what the driver says about them.
    pub kernels_per_launch: Option<f64>,
    pub kernels: Vec<KernelFacts>,
    /// Milliseconds per launch, round by round; of them, until the launch was queued.
    pub samples_ms: Vec<f64>,
    pub queueing_ms: Vec<f64>,
    pub median_ms: f64,
    pub p20_ms: f64,
    pub p80_ms: f64,
    pub gflops: f64,
    pub percent_of_fma: Option<f64>,
    pub gbytes: f64,
    pub percent_of_copy: Option<f64>,
    pub bound: Bound,
    /// Largest error of an element in all rounds, as a part of the largest element; what it may be; none where it
    /// is no number.
    pub error: Option<f64>,
    pub tolerance: f64,
    /// `ok` or `WRONG`.
    pub verdict: String,
}

impl KernelsRun {
    /// See [`Saved::samples`].
    pub fn samples(&self) -> Vec<Samples<'_>> {
        self.cases.iter().map(Row::samples).collect()
    }

    /// What makes two runs incomparable.
    pub fn settings(&self) -> String {
        format!("{}{}", if self.quick { "quick, " } else { "" }, if self.cold { "cold" } else { "warm" })
    }

    /// Rows whose results were wrong.
    pub fn wrong(&self) -> Vec<String> {
        self.cases.iter().filter(|row| row.is_wrong()).map(Row::name).collect()
    }
}

impl Row {
    fn name(&self) -> String {
        let conv = self.conv.as_ref().map_or(String::new(), |conv| format!(" {conv}"));
        format!("{} {} {}{conv}", self.op, self.pass, self.shape)
    }

    fn samples(&self) -> Samples<'_> {
        Samples { name: self.name(), ms: &self.samples_ms, bound: self.bound, wrong: self.is_wrong() }
    }

    fn is_wrong(&self) -> bool {
        self.verdict != "ok"
    }
}

/// A row that would be timed.
#[derive(Clone, Debug, Serialize)]
pub struct Listed {
    pub op: &'static str,
    pub pass: &'static str,
    pub shape: String,
    pub conv: Option<&'static str>,
}

impl Listed {
    /// One line.
    pub fn line(&self) -> String {
        let conv = self.conv.map_or(String::new(), |conv| format!("  [{conv}]"));
        format!("{} {} {}{conv}\n", self.op, self.pass, self.shape)
    }
}

/// A row that is being measured.
struct Job {
    op: &'static str,
    shape: String,
    work: Rc<Work>,
    /// Kernels of a convolution on a GPU.
    conv: Option<Conv>,
    launches: usize,
    expected: Vec<Expected>,
    trials: Vec<Trial>,
    facts: Vec<KernelFacts>,
    /// The comparison nearest to its tolerance, and the size of what was compared.
    worst: Option<(Compared, f64)>,
}

/// The rows that `args` ask for, in the order in which they are timed.
fn jobs(args: &KernelsArgs, kind: Kind) -> Result<Vec<Job>> {
    let mut specs = match args.shapes.as_str() {
        "space" => space::specs(args.seed),
        file => spec::load(Path::new(file))?,
    };
    if args.quick {
        specs = specs.into_iter().map(Spec::quick).collect();
    }
    let (mut jobs, mut names): (Vec<Job>, Vec<String>) = (Vec::new(), Vec::new());
    for spec in specs {
        for work in Work::of(&spec)? {
            let name = format!("{} {} {}", spec.op(), work.pass(), spec.shape());
            // Shapes may differ in what their names leave out.
            let before = names.iter().filter(|known| **known == name).count();
            names.push(name.clone());
            if args.only.as_deref().is_some_and(|pattern| !glob::matches(pattern, &name)) {
                continue;
            }
            let shape = if before == 0 { spec.shape() } else { format!("{} ({})", spec.shape(), before + 1) };
            let work = Rc::new(work);
            for conv in variants(spec.op(), kind, args) {
                let (op, shape, work) = (spec.op(), shape.clone(), work.clone());
                let (expected, trials, facts) = (Vec::new(), Vec::new(), Vec::new());
                let launches = args.launches.unwrap_or(1);
                jobs.push(Job { op, shape, work, conv, launches, expected, trials, facts, worst: None });
            }
        }
    }
    match (&args.only, jobs.is_empty()) {
        (Some(pattern), true) => {
            Err(Error::config("-k", format!("no \"op pass shape\" matches {pattern:?}; --list shows them all")))
        }
        _ => Ok(jobs),
    }
}

/// The kernels that are timed for an op: those asked for that it has, or all it has. A CPU has one kind.
fn variants(op: &str, kind: Kind, args: &KernelsArgs) -> Vec<Option<Conv>> {
    let all = Variant::all(op, kind);
    if all.len() < 2 {
        return vec![None];
    }
    let asked = if args.conv.is_empty() { Conv::value_variants() } else { &args.conv };
    asked.iter().filter(|&&conv| all.contains(&variant(conv))).map(|&conv| Some(conv)).collect()
}

/// The rows that would be timed.
///
/// # Errors
/// As [`run`].
pub fn list(args: &KernelsArgs, kind: Kind) -> Result<Vec<Listed>> {
    let listed =
        |job: Job| Listed { op: job.op, pass: job.work.pass(), shape: job.shape, conv: job.conv.map(Conv::name) };
    Ok(jobs(args, kind)?.into_iter().map(listed).collect())
}

/// Opens the device with the memory that all rows need, launched as often as they say.
fn open(place: &Place<'_>, jobs: &[Job], numbers: &Numbers, cold: bool) -> Result<Context> {
    let mut context = place.open(plan(place, jobs, numbers, cold)?)?;
    let (mut state, mut parameters) = (0, 0);
    for job in jobs {
        let [statistics, updated] = job.work.regions();
        (state, parameters) = (state.max(statistics), parameters.max(updated));
    }
    context.reserve(Region::State, state)?;
    for region in [Region::Params, Region::Grads, Region::Moment1, Region::Moment2] {
        context.reserve(region, parameters)?;
    }
    Ok(context)
}

/// Step memory in f32 of the largest trial.
fn plan(place: &Place<'_>, jobs: &[Job], numbers: &Numbers, cold: bool) -> Result<usize> {
    let mut most = Yardstick::plan(place);
    for job in jobs {
        most = most.max(job.work.plan(place.kind, numbers, job.how(cold))?);
    }
    Ok(most)
}

impl Job {
    fn how(&self, cold: bool) -> How {
        How { launches: self.launches, cold, watch: false }
    }

    fn run(&self, context: &mut Context, numbers: &Numbers, how: How) -> Result<Trial> {
        choose(context, self.conv.unwrap_or(Conv::Exact));
        self.work.run(context, numbers, how, &self.expected)
    }

    /// How often a sample launches it.
    fn calibrate(&mut self, context: &mut Context, numbers: &Numbers, args: &KernelsArgs) -> Result<()> {
        self.launches = match (args.launches, context.kind()) {
            (Some(launches), _) => launches,
            (None, _) if args.cold || args.quick => 1,
            (None, Kind::Cuda) => GPU_LAUNCHES,
            (None, Kind::Cpu) => {
                self.run(context, numbers, self.how(false))?;
                let once = self.run(context, numbers, self.how(false))?.total_ms;
                ((SAMPLE_MS / once).ceil() as usize).clamp(1, MOST_LAUNCHES)
            }
        };
        Ok(())
    }

    /// Takes a sample, and compares what it computed.
    fn sample(&mut self, context: &mut Context, numbers: &Numbers, cold: bool) -> Result<()> {
        self.run(context, numbers, self.how(cold))?;
        let trial = self.run(context, numbers, self.how(cold))?;
        let precision = self.conv.map_or(Precision::F32, |conv| variant(conv).precision());
        for (expected, got) in self.expected.iter().zip(&trial.results) {
            let row = Compared::close("", got, &expected.values, precision, expected.depth);
            let size = expected.values.iter().fold(f64::MIN_POSITIVE, |size, value| size.max(value.abs()));
            if self.worst.as_ref().is_none_or(|(worst, _)| row.share() > worst.share()) {
                self.worst = Some((row, size));
            }
        }
        self.trials.push(trial);
        Ok(())
    }

    fn row(self, ceilings: &Ceilings) -> Row {
        let per_launch = |ms: f64| ms / self.launches as f64;
        let samples_ms: Vec<f64> = self.trials.iter().map(|trial| per_launch(trial.total_ms)).collect();
        let queueing_ms: Vec<f64> = self.trials.iter().map(|trial| per_launch(trial.queueing_ms)).collect();
        let kernels = self.trials.last().and_then(|trial| trial.kernels);
        let ([flop, flop_inside], bytes, ms) = (self.work.flop(), self.work.bytes(), median(&samples_ms));
        let (gflops, gbytes) = (flop / ms / 1e6, bytes / ms / 1e6);
        let percent = |value: f64, of: Option<f64>| of.map(|of| 100.0 * value / of);
        // The time that each limit alone would take.
        let least = [ceilings.fma().map(|fma| flop_inside / fma), ceilings.copy().map(|copy| bytes / copy)];
        let late = kernels.is_some() && median(&queueing_ms) > 0.8 * ms;
        let bound = if late {
            Bound::Launch
        } else if least[0] > least[1] {
            Bound::Compute
        } else {
            Bound::Memory
        };
        let (compared, size) = self.worst.unwrap_or((Compared::holds("nothing was compared", false), 1.0));
        Row {
            op: self.op.into(),
            pass: self.work.pass().into(),
            shape: self.shape,
            conv: self.conv.map(|conv| conv.name().into()),
            flop,
            flop_inside,
            bytes,
            launches_per_sample: self.launches,
            kernels_per_launch: kernels.map(|kernels| per_launch(kernels as f64)),
            kernels: self.facts,
            median_ms: ms,
            p20_ms: quantile(&samples_ms, 0.2),
            p80_ms: quantile(&samples_ms, 0.8),
            samples_ms,
            queueing_ms,
            gflops,
            percent_of_fma: percent(gflops, ceilings.fma()),
            gbytes,
            percent_of_copy: percent(gbytes, ceilings.copy()),
            bound,
            error: Some(compared.error / size).filter(|error| error.is_finite()),
            tolerance: compared.tolerance / size,
            verdict: if compared.ok() { "ok" } else { "WRONG" }.into(),
        }
    }
}

/// Makes all jobs ready to be sampled: launches, memory, what they must compute.
fn prepare(args: &KernelsArgs, place: &Place<'_>, jobs: &mut [Job], numbers: &Numbers) -> Result<Context> {
    let mut context = open(place, jobs, numbers, args.cold)?;
    for job in jobs.iter_mut() {
        job.calibrate(&mut context, numbers, args)?;
    }
    let planned = plan(place, jobs, numbers, args.cold)?;
    if planned > context.arena().capacity() {
        place.has_room(planned)?;
        context.restart(Arena::with_capacity(planned))?;
    }
    Ok(context)
}

/// Times all rows.
///
/// # Errors
/// As [`spec::load`]; whatever the ops or the device report.
pub fn run(args: &KernelsArgs, place: &Place<'_>) -> Result<Saved> {
    let mut jobs = jobs(args, place.kind)?;
    let numbers = Numbers::new(jobs.iter().map(|job| &*job.work));
    let mut context = prepare(args, place, &mut jobs, &numbers)?;
    (place.say)(&format!("{} rows: computing what they must give", jobs.len()));
    for job in &mut jobs {
        choose(&mut context, job.conv.unwrap_or(Conv::Exact));
        job.expected = job.work.expect(&mut context, &numbers, job.how(args.cold))?;
        if place.kind == Kind::Cuda {
            job.facts = job.run(&mut context, &numbers, How { watch: true, ..job.how(args.cold) })?.facts;
        }
    }
    let mut yardstick = Yardstick::with_copy(place.kind);
    for round in 0..args.rounds {
        (place.say)(&format!("round {} of {}", round + 1, args.rounds));
        yardstick.sample(&mut context)?;
        for job in &mut jobs {
            job.sample(&mut context, &numbers, args.cold)?;
        }
    }
    yardstick.sample(&mut context)?;
    let ceilings = yardstick.ceilings;
    let cases = jobs.into_iter().map(|job| job.row(&ceilings)).collect();
    let content = Content::Kernels(KernelsRun { quick: args.quick, cold: args.cold, cases });
    Ok(Saved::new(place.device.clone(), ceilings, content))
}

/// Runs every row once, for a profiler.
///
/// # Errors
/// As [`run`].
pub fn profile(args: &KernelsArgs, place: &Place<'_>) -> Result<usize> {
    let jobs = jobs(args, place.kind)?;
    let numbers = Numbers::new(jobs.iter().map(|job| &*job.work));
    let mut context = open(place, &jobs, &numbers, args.cold)?;
    for job in &jobs {
        job.run(&mut context, &numbers, job.how(args.cold))?;
    }
    recorded(&mut context, |context| {
        jobs.iter().try_for_each(|job| job.run(context, &numbers, job.how(args.cold)).map(drop))
    })?;
    Ok(jobs.len())
}

/// Columns for people; those of a GPU only where there is one.
pub fn table(run: &KernelsRun) -> Table {
    let gpu = run.cases.iter().any(|row| row.kernels_per_launch.is_some());
    let mut columns = vec!["op", "pass", "shape"];
    if gpu {
        columns.extend(["conv", "queueing us", "registers"]);
    }
    columns.extend(["n", "median ms", "p20", "p80", "spread %", "MB", "GB/s", "% copy", "GFLOP/s", "% fma", "bound"]);
    columns.extend(["error", "allowed", "verdict"]);
    Table { columns, rows: run.cases.iter().map(|row| cells(row, gpu)).collect() }
}

fn cells(row: &Row, gpu: bool) -> Vec<Cell> {
    let mut cells: Vec<Cell> = [&row.op, &row.pass, &row.shape].map(|text| text.as_str().into()).into();
    if gpu {
        let registers: Vec<String> = row.kernels.iter().map(|kernel| kernel.registers.to_string()).collect();
        cells.push(row.conv.as_deref().map_or(Cell::Empty, Cell::from));
        cells.push(Cell::Number(1e3 * median(&row.queueing_ms), 1));
        // The emulator knows none.
        let known = row.kernels.iter().any(|kernel| kernel.registers > 0);
        cells.push(if known { registers.join(" ").into() } else { Cell::Empty });
    }
    let computes = |value: f64| (row.flop > 0.0).then_some(value);
    cells.extend([
        Cell::Number(row.samples_ms.len() as f64, 0),
        Cell::Number(row.median_ms, 4),
        Cell::Number(row.p20_ms, 4),
        Cell::Number(row.p80_ms, 4),
        Cell::Number(100.0 * spread(&row.samples_ms), 1),
        Cell::Number(row.bytes / 1e6, 2),
        Cell::Number(row.gbytes, 1),
        Cell::number(row.percent_of_copy, 0),
        Cell::number(computes(row.gflops), 1),
        Cell::number(row.percent_of_fma.and_then(computes), 0),
        row.bound.name().into(),
        row.error.map_or("no number".into(), |error| format!("{error:.0e}").into()),
        format!("{:.0e}", row.tolerance).into(),
        row.verdict.as_str().into(),
    ]);
    cells
}
