//! Times whole training steps over sampled architectures.
//!
//!     cargo bench --bench step -- --device cuda:0 --preset v2 --count 8 --archs DIR --json step.json
//!
//! The SMASH network takes another architecture every step, as in its training; a resulting network
//! is made for each architecture and takes all its steps, on a GPU as a replayed graph, as in its
//! training. A sample is one step alone, from its first call until its loss is here. `in a row` is
//! the time per step when two steps may be queued ahead, which is how training runs.
//!
//! The architectures lie in `--archs`, one JSON file each; in an empty folder they are drawn and
//! written first, so that another program can build the same networks. FLOP are three times those of
//! the main network's forward pass: the HyperNet is not counted.

mod common;

use clap::{Parser, ValueEnum};
use common::{Conv, Place, exit, median, quantile, synchronize, write_json};
use serde_json::{Value, json};
use smash_engine::backend::{Context, Kind, Recording};
use smash_engine::cli::Preset;
use smash_engine::config::RunConfig;
use smash_engine::data::augment::{Augment, AugmentKind};
use smash_engine::data::{ImageShape, Images};
use smash_engine::error::{Error, Result};
use smash_engine::nas::arch::Architecture;
use smash_engine::nas::cost::{NetworkShape, cost};
use smash_engine::nas::resulting::ResultingNetwork;
use smash_engine::nas::sample::{SampleLimits, sample};
use smash_engine::nas::smash::{EncodingConfig, SmashNetwork};
use smash_engine::nas::train::{Batch, Network, StepResult, Update, plan_step, train_step};
use smash_engine::nn::optim::Optimizer;
use smash_engine::ops::batch_gather::BatchGather;
use smash_engine::rng::{Rng, Stream};
use smash_engine::tensor::Shape;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// Steps of a SMASH network before the first sample, and of each resulting network: kernels are
/// loaded, a graph is captured.
const WARM_UP: usize = 3;
/// Steps that may be queued while the device works, as in training.
const RUN_AHEAD: usize = 2;
/// Images of the made-up data set.
const IMAGES: usize = 1000;

/// Times whole training steps over sampled architectures.
#[derive(Parser)]
struct Args {
    /// cpu or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Threads of the CPU; all cores by default
    #[arg(long)]
    threads: Option<usize>,
    /// Search space and HyperNet
    #[arg(long, value_enum, default_value = "v2")]
    preset: Preset,
    /// What is trained
    #[arg(long, value_enum, default_value = "smash")]
    network: Trained,
    /// Folder of architectures; filled when it holds none
    #[arg(long)]
    archs: PathBuf,
    /// Architectures to draw
    #[arg(long, default_value_t = 8)]
    count: usize,
    /// Seed of the draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Samples of each architecture
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Images per step
    #[arg(long, default_value_t = 50)]
    batch: usize,
    /// Height and width of the images
    #[arg(long, default_value_t = 32)]
    size: usize,
    /// Kernels of convolutions on a GPU
    #[arg(long, value_enum, default_value = "exact")]
    conv: Conv,
    /// Tell a CUDA profiler to record the samples and nothing else
    #[arg(long)]
    profile: bool,
    /// Also time each step as a replayed graph: what it takes without gaps between kernels
    #[arg(long)]
    gaps: bool,
    /// Write all samples to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Trained {
    Smash,
    Resulting,
}

fn main() -> ExitCode {
    exit(run(&Args::parse()))
}

/// What steps need besides the network.
struct Setting {
    place: Place,
    conv: Conv,
    profile: bool,
    config: RunConfig,
    shape: NetworkShape,
    gather: BatchGather,
    set: Images,
    batch: usize,
    optimizer: Optimizer,
    lr: f32,
}

/// Samples of one architecture, in milliseconds.
#[derive(Default)]
struct Times {
    alone: Vec<f64>,
    /// Until everything was queued.
    queueing: Vec<f64>,
    /// As a replayed graph.
    graph: Vec<f64>,
    launches: Option<u64>,
}

/// Samples of all architectures, and time per step in a row, one number per sequence.
struct Samples {
    archs: Vec<Times>,
    row: Vec<f64>,
}

fn run(args: &Args) -> Result<()> {
    let place = Place::parse(&args.device, args.threads)?;
    if [args.count, args.rounds, args.batch].contains(&0) || !args.size.is_multiple_of(4) || args.size == 0 {
        return Err(Error::config("--size", "must be a multiple of 4, and no number 0"));
    }
    let archs = architectures(args)?;
    let setting = setting(args, place)?;
    let device = place.json()?;
    println!("{device}");
    let samples = match args.network {
        Trained::Smash => smash(args, &setting, &archs)?,
        Trained::Resulting => resulting(args, &setting, &archs)?,
    };
    let rows: Vec<Value> =
        archs.iter().zip(&samples.archs).map(|((file, arch), times)| record(file, arch, times, &setting)).collect();
    println!("{:>8} steps in a row: {:.3} ms per step", "", median(&samples.row));
    let Some(path) = &args.json else { return Ok(()) };
    let hyper = &setting.config.hyper;
    let report = json!({
        "benchmark": "step",
        "version": env!("CARGO_PKG_VERSION"),
        "device": device,
        "preset": args.preset.name(),
        "network": if args.network == Trained::Smash { "smash" } else { "resulting" },
        "norm": setting.config.retrain.norm,
        "hyper": hyper,
        "optimizer": setting.optimizer,
        "lr": setting.lr,
        "batch": args.batch,
        "image": { "channels": setting.shape.image_channels, "size": args.size, "classes": setting.shape.classes },
        "arithmetic": if args.conv == Conv::Exact { "f32 throughout, no TF32" } else { "f32, convolutions with TF32" },
        "conv": args.conv.name(),
        "row_ms_per_step": samples.row,
        "archs": rows,
    });
    write_json(path, &report)
}

/// The architectures of the folder by name; drawn and written there if it holds none.
fn architectures(args: &Args) -> Result<Vec<(PathBuf, Architecture)>> {
    let dir = &args.archs;
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .map_err(Error::io("read", dir))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    if files.is_empty() {
        let space = RunConfig::preset(args.preset).space;
        let mut rng = Rng::new(args.seed, Stream::Arch);
        for i in 0..args.count {
            let path = dir.join(format!("{i:03}.json"));
            let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
            std::fs::write(&path, arch.to_json()).map_err(Error::io("write", &path))?;
            files.push(path);
        }
    }
    files.into_iter().map(|path| Ok((path.clone(), Architecture::load(&path)?))).collect()
}

fn setting(args: &Args, place: Place) -> Result<Setting> {
    let config = RunConfig::preset(args.preset);
    let image = ImageShape { channels: 3, height: args.size, width: args.size };
    let (channels, classes) = (image.channels, 10);
    let mut rng = Rng::new(args.seed, Stream::Init);
    let pixels = (0..IMAGES * image.pixels()).map(|_| rng.below(256) as u8).collect();
    let labels = (0..IMAGES).map(|_| rng.below(classes) as u16).collect();
    let (optimizer, lr) = match args.network {
        Trained::Smash => (config.smash.optimizer, 1e-4),
        Trained::Resulting => (config.retrain.optimizer, 1e-3),
    };
    Ok(Setting {
        place,
        conv: args.conv,
        profile: args.profile,
        shape: NetworkShape { image_channels: channels, image_size: args.size, classes, stem_kernel: 7 },
        gather: BatchGather {
            image: [channels, args.size, args.size],
            size: [args.size; 2],
            mean: vec![0.5; channels],
            std: vec![0.29; channels],
        },
        set: Images::from_pixels(pixels, labels, image)?,
        config,
        batch: args.batch,
        optimizer,
        lr,
    })
}

/// A network in memory, and the steps it has taken.
struct Runner<'a> {
    setting: &'a Setting,
    network: &'a dyn Network,
    context: Context,
    augment: Augment,
    order: Rng,
    step: u64,
}

impl<'a> Runner<'a> {
    fn new<'b>(
        setting: &'a Setting,
        network: &'a dyn Network,
        archs: impl Iterator<Item = &'b Architecture>,
    ) -> Result<Self> {
        let shape =
            Shape::new(setting.shape.image_channels, setting.shape.image_size, setting.shape.image_size, setting.batch);
        let mut arena = 0;
        for arch in archs {
            arena = arena.max(plan_step(setting.place.kind(), network, arch, shape)?);
        }
        let mut context = setting.place.context(arena)?;
        setting.conv.choose(&mut context);
        network.store().reserve(&mut context)?;
        network.store().initialise(&mut context, 1, 0)?;
        let augment = Augment::new(AugmentKind::CropFlip { pad: 4 }, Rng::new(1, Stream::Augment));
        Ok(Self { setting, network, context, augment, order: Rng::new(1, Stream::Shuffle), step: 0 })
    }

    /// Queues a step, with another batch each time.
    fn queue(&mut self, arch: &Architecture, recording: Option<&mut Recording>) -> Result<StepResult> {
        let Setting { set, gather, batch, optimizer, lr, .. } = self.setting;
        let indices: Vec<u32> = (0..*batch).map(|_| self.order.below(set.len()) as u32).collect();
        let batch = Batch {
            set,
            labels: indices.iter().map(|&i| set.label(i as usize)).collect(),
            placements: self.augment.draw(*batch),
            indices,
        };
        self.step += 1;
        let update = Update { optimizer: *optimizer, lr: *lr, step: self.step };
        train_step(&mut self.context, recording, self.network, arch, gather, &batch, update)
    }

    /// A step alone: milliseconds until it was queued, and until its loss was here.
    fn alone(&mut self, arch: &Architecture, recording: Option<&mut Recording>) -> Result<[f64; 2]> {
        synchronize(&mut self.context)?;
        let start = Instant::now();
        let result = self.queue(arch, recording)?;
        let queueing = start.elapsed().as_secs_f64() * 1e3;
        result.wait(&mut self.context)?;
        synchronize(&mut self.context)?;
        Ok([queueing, start.elapsed().as_secs_f64() * 1e3])
    }

    /// Tells a profiler to begin or end, if it is to be told.
    fn record(&mut self, on: bool) -> Result<()> {
        match self.context.as_cuda() {
            Some(cuda) if self.setting.profile => cuda.profile(on),
            _ => Ok(()),
        }
    }

    /// Kernels queued so far; none on a CPU.
    fn launches(&mut self) -> Option<u64> {
        self.context.as_cuda().map(|cuda| cuda.launches())
    }

    fn sample(&mut self, arch: &Architecture, recording: Option<&mut Recording>, times: &mut Times) -> Result<()> {
        let before = self.launches();
        self.record(true)?;
        let [queueing, total] = self.alone(arch, recording)?;
        self.record(false)?;
        times.launches = self.launches().zip(before).map(|(after, before)| after - before);
        times.queueing.push(queueing);
        times.alone.push(total);
        Ok(())
    }

    /// Milliseconds per step of steps in a row.
    fn row(&mut self, archs: &[&Architecture], mut recording: Option<&mut Recording>) -> Result<f64> {
        synchronize(&mut self.context)?;
        let start = Instant::now();
        let mut under_way = VecDeque::new();
        for arch in archs {
            under_way.push_back(self.queue(arch, recording.as_deref_mut())?);
            if under_way.len() > RUN_AHEAD
                && let Some(result) = under_way.pop_front()
            {
                result.wait(&mut self.context)?;
            }
        }
        for result in under_way {
            result.wait(&mut self.context)?;
        }
        synchronize(&mut self.context)?;
        Ok(start.elapsed().as_secs_f64() * 1e3 / archs.len() as f64)
    }

    /// The step as a replayed graph.
    fn graph(&mut self, arch: &Architecture, times: &mut Times, samples: usize) -> Result<()> {
        let mut recording = Recording::default();
        for i in 0..WARM_UP + samples {
            let [_, total] = self.alone(arch, Some(&mut recording))?;
            if i >= WARM_UP {
                times.graph.push(total);
            }
        }
        Ok(())
    }
}

/// Another architecture every step.
fn smash(args: &Args, setting: &Setting, archs: &[(PathBuf, Architecture)]) -> Result<Samples> {
    let config = &setting.config;
    let network = SmashNetwork::new(&config.space, setting.shape, &config.hyper, EncodingConfig::default());
    let mut runner = Runner::new(setting, &network, archs.iter().map(|(_, arch)| arch))?;
    for (_, arch) in archs.iter().cycle().take(WARM_UP.max(archs.len())) {
        runner.alone(arch, None)?;
    }
    let mut samples = Samples { archs: archs.iter().map(|_| Times::default()).collect(), row: Vec::new() };
    let all: Vec<&Architecture> = archs.iter().map(|(_, arch)| arch).collect();
    for _ in 0..args.rounds {
        for (arch, times) in all.iter().zip(&mut samples.archs) {
            runner.sample(arch, None, times)?;
        }
        samples.row.push(runner.row(&all, None)?);
    }
    if args.gaps && setting.place.kind() == Kind::Cuda {
        for (arch, times) in all.iter().zip(&mut samples.archs) {
            runner.graph(arch, times, args.rounds)?;
        }
    }
    Ok(samples)
}

/// One network after the other.
fn resulting(args: &Args, setting: &Setting, archs: &[(PathBuf, Architecture)]) -> Result<Samples> {
    let mut samples = Samples { archs: Vec::new(), row: Vec::new() };
    for (_, arch) in archs {
        let network = ResultingNetwork::new(arch, setting.shape, setting.config.retrain.norm);
        let mut runner = Runner::new(setting, &network, std::iter::once(arch))?;
        let (mut recording, mut times) = (Recording::default(), Times::default());
        for _ in 0..WARM_UP {
            runner.alone(arch, Some(&mut recording))?;
        }
        for _ in 0..args.rounds {
            runner.sample(arch, Some(&mut recording), &mut times)?;
        }
        samples.row.push(runner.row(&vec![arch; args.rounds], Some(&mut recording))?);
        samples.archs.push(times);
    }
    Ok(samples)
}

/// Prints and returns the results of an architecture.
fn record(file: &Path, arch: &Architecture, times: &Times, setting: &Setting) -> Value {
    let cost = cost(arch, &setting.shape);
    let flop = 3.0 * 2.0 * cost.macs as f64 * setting.batch as f64;
    let ms = median(&times.alone);
    let graph = (!times.graph.is_empty()).then(|| median(&times.graph));
    let gaps = graph.map(|graph| 1.0 - graph / ms);
    let name = arch.id();
    println!(
        "{:>8} {name} {ms:9.3} ms ({:.3} to {:.3}), {:7.0} images/s, {:8.0} GFLOP/s{}{}",
        file.file_stem().unwrap_or_default().to_string_lossy(),
        quantile(&times.alone, 0.2),
        quantile(&times.alone, 0.8),
        setting.batch as f64 / ms * 1e3,
        flop / ms / 1e6,
        times.launches.map_or(String::new(), |n| format!(", {n} kernels, queued in {:.3} ms", median(&times.queueing))),
        gaps.map_or(String::new(), |gaps| format!(", {:.0} % of it between kernels", 100.0 * gaps)),
    );
    json!({
        "file": file.file_name().map(|name| name.to_string_lossy()),
        "id": name,
        "params": cost.params,
        "macs_per_image": cost.macs,
        "flop_per_step": flop,
        "samples_ms": times.alone,
        "queueing_ms": times.queueing,
        "graph_ms": times.graph,
        "median_ms": ms,
        "images_per_second": setting.batch as f64 / ms * 1e3,
        "gflops": flop / ms / 1e6,
        "kernels_per_step": times.launches,
        "share_between_kernels": gaps,
    })
}
