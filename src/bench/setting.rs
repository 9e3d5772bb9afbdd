//! What `bench step` works on: architectures, drawn or from a folder, and images made up.

use super::Place;
use crate::backend::Kind;
use crate::cli::{Conv, StepArgs, Trained};
use crate::config::RunConfig;
use crate::data::{ImageShape, Images};
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::cost::NetworkShape;
use crate::nas::resulting::ResultingNetwork;
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::smash::{EncodingConfig, SmashNetwork};
use crate::nas::train::Gather;
use crate::nn::optim::Optimizer;
use crate::ops::batch_gather::BatchGather;
use crate::rng::{Rng, Stream};
use crate::tensor::Shape;
use std::path::PathBuf;

/// Images of the made-up data set, and bytes that it may have: fewer of large ones.
const IMAGES: usize = 1000;
const BYTES: usize = 64 << 20;

/// An architecture, and the file it is in if it has one.
pub(super) struct Named {
    pub file: Option<String>,
    pub arch: Architecture,
}

/// What steps need besides the network.
pub(super) struct Setting<'a> {
    pub args: &'a StepArgs,
    pub place: &'a Place<'a>,
    pub conv: Conv,
    pub config: RunConfig,
    pub shape: NetworkShape,
    pub optimizer: Optimizer,
    pub lr: f32,
    pub gather: Gather,
    pub set: Images,
}

impl<'a> Setting<'a> {
    pub fn new(args: &'a StepArgs, conv: Conv, place: &'a Place<'a>) -> Result<Self> {
        let config = RunConfig::preset(args.preset);
        let image = ImageShape::picture(3, args.size, args.size);
        let classes = 10;
        let mut rng = Rng::new(args.seed, Stream::Init);
        let images = IMAGES.min(BYTES / image.pixels());
        let pixels = (0..images * image.pixels()).map(|_| rng.below(256) as u8).collect();
        let labels = (0..images).map(|_| rng.below(classes) as u16).collect();
        let (optimizer, lr) = match args.network {
            Trained::Smash => (config.smash.optimizer, 1e-4),
            Trained::Resulting => (config.retrain.optimizer, 1e-3),
        };
        let channels = image.channels;
        Ok(Self {
            args,
            place,
            conv,
            shape: NetworkShape::pictures(channels, args.size, classes, 7),
            gather: Gather::Images(BatchGather {
                image: [channels, args.size, args.size],
                size: [args.size; 2],
                mean: vec![0.5; channels],
                std: vec![0.29; channels],
            }),
            set: Images::from_pixels(pixels, labels, image)?,
            config,
            optimizer,
            lr,
        })
    }

    pub fn batch_shape(&self) -> Shape {
        self.shape.batch(self.args.batch)
    }

    /// Steps before the first sample: kernels are loaded, on a GPU a graph is captured.
    pub fn warm_up(&self) -> usize {
        if self.place.kind == Kind::Cuda && !self.place.emulated { 3 } else { 1 }
    }

    pub fn smash_network(&self) -> SmashNetwork {
        SmashNetwork::new(&self.config.space, self.shape, &self.config.hyper, EncodingConfig::default())
    }

    pub fn resulting_network(&self, arch: &Architecture) -> ResultingNetwork {
        ResultingNetwork::new(arch, self.shape, self.config.retrain.norm)
    }
}

/// The architectures of the folder by name; drawn if it holds none, and written there.
pub(super) fn architectures(args: &StepArgs) -> Result<Vec<Named>> {
    let mut files: Vec<PathBuf> = Vec::new();
    if let Some(dir) = &args.archs {
        std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        let entries = std::fs::read_dir(dir).map_err(Error::io("read", dir))?;
        files.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
        files.retain(|path| path.extension().is_some_and(|e| e == "json"));
        files.sort();
    }
    if files.is_empty() {
        return draw(args);
    }
    let space = RunConfig::preset(args.preset).space;
    let load = |path: PathBuf| {
        let arch = Architecture::load(&path)?;
        if arch.space != space {
            let message = format!("belongs to another space than --preset {}", args.preset.name());
            return Err(Error::data(&path, message));
        }
        Ok(Named { file: path.file_name().map(|name| name.to_string_lossy().into_owned()), arch })
    };
    files.into_iter().map(load).collect()
}

fn draw(args: &StepArgs) -> Result<Vec<Named>> {
    let space = RunConfig::preset(args.preset).space;
    let mut rng = Rng::new(args.seed, Stream::Arch);
    let named = |i: usize| {
        let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
        let file = args.archs.as_ref().map(|_| format!("{i:03}.json"));
        if let (Some(dir), Some(file)) = (&args.archs, &file) {
            let path = dir.join(file);
            std::fs::write(&path, arch.to_json()).map_err(Error::io("write", &path))?;
        }
        Ok(Named { file, arch })
    };
    (0..args.count).map(named).collect()
}
