//! What an exported network says of itself, as JSON in the metadata of its weights: enough to build it again, to prepare
//! images for it, and to know where it comes from.

use crate::error::{Error, Result, one_line};
use crate::nas::design::Design;
use crate::nas::resulting::NormKind;
use crate::nas::twin::NetworkShape;
use crate::nn::optim::Optimizer;
use serde::{Deserialize, Serialize};

/// Version of this form.
pub const FORMAT: u32 = 1;

/// A network, its images, and its origin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of the engine that wrote it.
    pub engine: String,
    /// What is built from the weights.
    pub design: Design,
    /// How the ops of a searched architecture are normalised.
    pub norm: NormKind,
    /// What surrounds the architecture.
    pub shape: NetworkShape,
    /// How the weights came about.
    pub weights: Weights,
    /// The numbers that weights were rounded to.
    pub dtype: Dtype,
    /// The images it is for.
    pub images: ImagesAbout,
    /// Master seed of the run.
    pub seed: u64,
    /// How it was trained.
    pub recipe: Recipe,
    /// What it reached.
    pub errors: Errors,
}

/// How weights came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// Trained from scratch.
    Trained,
    /// By a SMASH network: 1x1 convolutions from its HyperNet, the rest shared by all architectures.
    Generated,
}

/// What stored weights were rounded to. Vectors (BatchNorm, biases) are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Not at all.
    #[default]
    F32,
    /// 11 significant bits, up to 65,504.
    F16,
    /// 8 significant bits, the range of f32.
    Bf16,
}

impl Dtype {
    /// Name as typed.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

/// The images of a network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImagesAbout {
    /// Name of the data set.
    pub name: String,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Channels, slices, rows and columns of an image as the data set has it, before padding. One slice: pictures.
    pub extent: [usize; 4],
    /// Mean of each channel: an input is `(x - mean) / std` of x in 0..1, a pixel over 255 or a voxel that is 0 or 1, padded
    /// with zeros before that.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel.
    pub std: Vec<f32>,
    /// Rotations of a volume whose class probabilities are averaged; 1 for pictures.
    pub views: usize,
}

/// How a network was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Whole passes over the images.
    pub epochs: u64,
    /// Steps.
    pub steps: u64,
    /// Images per step.
    pub batch: usize,
    /// Learning rate at the start, annealed to zero by a cosine.
    pub lr: f32,
    /// The optimiser with its constants.
    pub optimizer: Optimizer,
    /// How images were varied.
    pub augment: String,
    /// The weights that the training started from, in words.
    pub start: String,
    /// Images it was trained on.
    pub train_images: usize,
    /// Images that were held out of them.
    pub validation_images: usize,
    /// Source of the data set, as typed.
    pub source: String,
    /// Seed of the split into those two.
    pub split_seed: u64,
    /// The settings of the run, as TOML: they repeat it.
    pub settings: String,
}

impl About {
    /// Reads and checks the JSON form: everything that building the network relies on.
    ///
    /// # Errors
    /// What is missing or wrong, in one line.
    pub fn from_json(json: &str) -> Result<Self, String> {
        // The version is looked at first: another one would only be an obscure unknown field.
        #[derive(Deserialize)]
        struct Head {
            format: Option<u32>,
        }
        let head: Head = serde_json::from_str(json).map_err(|e| one_line(&e.to_string()))?;
        match head.format {
            Some(FORMAT) => {}
            Some(format) => return Err(format!("it is of format {format}; this engine reads {FORMAT}")),
            None => return Err("format: missing".into()),
        }
        let about: Self = serde_json::from_str(json).map_err(|e| one_line(&e.to_string()))?;
        about.check().map_err(|e| match e {
            Error::Architecture { place, message } => one_line(&format!("{place}: {message}")),
            other => one_line(&other.to_string()),
        })?;
        Ok(about)
    }

    fn check(&self) -> Result<()> {
        if let Design::Searched(arch) = &self.design {
            arch.validate()?;
        }
        self.shape.check()?;
        self.check_names()?;
        let (shape, images) = (&self.shape, &self.images);
        let [channels, slices, rows, columns] = images.extent;
        let fits = |extent: usize| match shape.is_volume() {
            // Volumes are not padded.
            true => extent == shape.image_size,
            false => (1..=shape.image_size).contains(&extent),
        };
        let whole_bytes = !shape.is_volume() || (slices * rows * columns).is_multiple_of(8);
        let same = [channels, slices] == [shape.image_channels, shape.image_depth];
        if !(same && fits(rows) && fits(columns) && whole_bytes) {
            return Err(wrong("images.extent", format!("{:?} do not fit the network's input", images.extent)));
        }
        if images.classes.len() != shape.classes {
            return Err(wrong("images.classes", format!("{} names for {}", images.classes.len(), shape.classes)));
        }
        let usable = |numbers: &[f32]| numbers.len() == channels && numbers.iter().all(|x| x.is_finite());
        if !usable(&images.mean) || !usable(&images.std) || images.std.iter().any(|&std| std < LEAST_STD) {
            let message = format!("need a finite number for each channel, std {LEAST_STD} or more");
            return Err(wrong("images.mean, images.std", message));
        }
        if !(1..=usize::from(u16::MAX)).contains(&images.views) || !shape.is_volume() && images.views != 1 {
            return Err(wrong("images.views", format!("{} is not possible", images.views)));
        }
        Ok(())
    }

    /// Names are printed, and must not move the cursor of a terminal.
    fn check_names(&self) -> Result<()> {
        let (images, recipe) = (&self.images, &self.recipe);
        let names = images.classes.iter().chain([&images.name, &self.engine, &recipe.source, &recipe.start]);
        match names.chain([&recipe.augment]).find(|name| name.contains(char::is_control)) {
            Some(name) => Err(wrong("names", format!("{} holds control characters", name.escape_debug()))),
            None => Ok(()),
        }
    }
}

/// Far below the standard deviation of any images: one level of 256 is 0.004.
const LEAST_STD: f32 = 1e-6;

fn wrong(place: &str, message: String) -> Error {
    Error::architecture(place, message)
}

/// Errors in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// On the images held out, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_err: Option<f64>,
    /// On the test images.
    pub test_err: f64,
    /// With five guesses, of sets with 100 classes and more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_top5_err: Option<f64>,
    /// Test images.
    pub test_images: usize,
    /// Test error before weights were rounded to less than f32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrounded_test_err: Option<f64>,
}
