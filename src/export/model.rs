//! An exported network, ready to be used: what it is, its layers, and its parameters on a device.

use crate::backend::{Context, Cpu, Kind};
use crate::data::augment::views_used;
use crate::data::{ImageShape, Images};
use crate::error::{Error, Result};
use crate::export::about::About;
use crate::export::weights::{WeightFile, digest};
use crate::nas::computation::computation;
use crate::nas::design::Design;
use crate::nas::resulting::ResultingNetwork;
use crate::nas::score::{logits, mean_probabilities};
use crate::nas::train::{Batch, Gather, Network, plan_evaluation};
use crate::ops::batch_gather::BatchGather;
use crate::ops::volume_gather::VolumeGather;
use crate::tape::computation::Computation;
use std::path::{Path, PathBuf};

/// The weights in a folder that `smash-engine export` wrote.
pub const WEIGHTS: &str = "model.safetensors";
/// Images that are computed together unless told otherwise.
const BATCH: usize = 100;

/// A network that can be asked.
///
/// ```no_run
/// use smash_engine::data::Images;
/// use smash_engine::export::Model;
///
/// # fn main() -> smash_engine::Result<()> {
/// let mut model = Model::load("runs/embedded-small-s1/export/0123456789ab")?;
/// let black = Images::from_pixels(vec![0; 28 * 28], vec![0], model.image_shape())?;
/// println!("{:?}", model.probabilities(&black)?[0]);
/// # Ok(())
/// # }
/// ```
pub struct Model {
    /// What it says of itself.
    pub about: About,
    network: Box<dyn Network>,
    context: Context,
    gather: Gather,
    batch: usize,
}

impl Model {
    /// The network in the file at `path`, or in `model.safetensors` of the folder there, on all cores of the CPU.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be read, [`Error::Data`] when it is damaged or no network of this engine.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::load_on(path, Kind::Cpu, BATCH, |arena| Context::cpu(Cpu::new(threads), arena))
    }

    /// The same on a device of this kind, which `open` gives an arena of so many f32, computing `batch` images together.
    ///
    /// # Errors
    /// As [`Model::load`]; what `open` reports.
    pub fn load_on(
        path: impl AsRef<Path>,
        kind: Kind,
        batch: usize,
        open: impl FnOnce(usize) -> Result<Context>,
    ) -> Result<Self> {
        let (path, bytes) = read(path.as_ref())?;
        Self::from_bytes(&path, &bytes, kind, batch, open)
    }

    /// The same from the `bytes` of the file at `path`.
    ///
    /// # Errors
    /// As [`Model::load_on`], but for reading.
    pub fn from_bytes(
        path: &Path,
        bytes: &[u8],
        kind: Kind,
        batch: usize,
        open: impl FnOnce(usize) -> Result<Context>,
    ) -> Result<Self> {
        let file = WeightFile::parse(path, bytes)?;
        let about = file.about.clone();
        let network = build(path, &about)?;
        // Before memory is taken: the file holds as much as it claims.
        file.check(network.store())?;
        let gather = gather(&about);
        let batch = batch.max(views_used(about.images.views).len());
        let mut context = open(plan_evaluation(kind, &*network, about.shape.batch(batch))?)?;
        network.store().reserve(&mut context)?;
        file.restore(network.store(), &mut context)?;
        Ok(Self { about, network, context, gather, batch })
    }

    /// The images it takes: what [`Images::from_pixels`] wants to know.
    pub fn image_shape(&self) -> ImageShape {
        let [channels, depth, height, width] = self.about.images.extent;
        ImageShape { channels, depth, height, width }
    }

    /// The network and its parameters.
    pub fn parts(&mut self) -> (&dyn Network, &mut Context, &Gather) {
        (&*self.network, &mut self.context, &self.gather)
    }

    /// One logit per class for each image; of volumes for each of the rotations in use of each.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images are not of [`Model::image_shape`]; [`Error::Run`] when a logit is not finite.
    pub fn logits(&mut self, images: &Images) -> Result<Vec<Vec<f32>>> {
        let batches = Batch::all(images, self.about.images.views, self.batch).into_iter();
        let rows = logits(&mut self.context, &*self.network, &self.gather, batches)?;
        if rows.iter().flatten().all(|x| x.is_finite()) {
            return Ok(rows);
        }
        let id = self.about.design.id();
        Err(Error::Run(format!("network {id} computes logits that are no finite numbers; its weights are of no use")))
    }

    /// The probability of each class for each image, of volumes the mean over their rotations; they sum to 1.
    ///
    /// # Errors
    /// As [`Model::logits`].
    pub fn probabilities(&mut self, images: &Images) -> Result<Vec<Vec<f32>>> {
        let views = views_used(self.about.images.views).len();
        let rows = self.logits(images)?;
        let single = |views: &[Vec<f32>]| {
            let mean = mean_probabilities(views.iter().map(|row| row.iter().map(|&x| f64::from(x))));
            mean.into_iter().map(|p| p as f32).collect()
        };
        Ok(rows.chunks(views).map(single).collect())
    }

    /// What it computes, operation by operation, from images that are padded and normalised already.
    ///
    /// # Errors
    /// As [`computation`].
    pub fn computation(&mut self) -> Result<Computation> {
        computation(&mut self.context, &*self.network, &self.about.shape)
    }
}

/// What the file or folder at `path` says of its network; the weights are not looked at.
///
/// # Errors
/// As [`Model::load`].
pub fn about(path: impl AsRef<Path>) -> Result<About> {
    let (path, bytes) = read(path.as_ref())?;
    Ok(WeightFile::parse(&path, &bytes)?.about)
}

/// Writes the parameters of the network in the file or folder at `path` into `context`, whose regions are reserved for
/// it: a training goes on from there.
///
/// # Errors
/// As [`checked`].
pub fn restore(path: impl AsRef<Path>, context: &mut Context) -> Result<()> {
    let (path, bytes) = read(path.as_ref())?;
    let file = WeightFile::parse(&path, &bytes)?;
    file.restore(build(&path, &file.about)?.store(), context)
}

/// What the file or folder at `path` says of its network, whose weights a training can start from, and 12 digits of
/// the SHA-256 of the file.
///
/// # Errors
/// As [`Model::load`].
pub fn checked(path: impl AsRef<Path>) -> Result<(About, String)> {
    let (path, bytes) = read(path.as_ref())?;
    let file = WeightFile::parse(&path, &bytes)?;
    let network = build(&path, &file.about)?;
    file.check_norms(network.store())?;
    let digest = digest("", [("", bytes.as_slice())].into_iter());
    Ok((file.about, digest[..12].to_string()))
}

/// Is this the path of an exported network, rather than of an architecture or the name of a network?
pub fn is_exported(path: &Path) -> bool {
    path.is_dir() || path.extension().is_some_and(|ending| ending == "safetensors")
}

/// Are `bytes` an exported network?
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    let path = Path::new(WEIGHTS);
    let file = WeightFile::parse(path, bytes)?;
    file.check(build(path, &file.about)?.store())
}

/// The bytes of the weights at `path`, and where they are.
fn read(path: &Path) -> Result<(PathBuf, Vec<u8>)> {
    let file = if path.is_dir() { path.join(WEIGHTS) } else { path.to_path_buf() };
    if path.is_dir() && !file.exists() {
        return Err(Error::data(path, format!("holds no {WEIGHTS}; name a folder that `smash-engine export` wrote")));
    }
    if !std::fs::metadata(&file).map_err(Error::io("read", &file))?.is_file() {
        return Err(Error::data(&file, "is no regular file; name a folder that `smash-engine export` wrote"));
    }
    let bytes = std::fs::read(&file).map_err(Error::io("read", &file))?;
    Ok((file, bytes))
}

fn build(path: &Path, about: &About) -> Result<Box<dyn Network>> {
    let network: Result<Box<dyn Network>> = match &about.design {
        // Rounded filters no longer have the norm 1; others would have to divide by it too.
        Design::Searched(arch) => {
            Ok(Box::new(ResultingNetwork::new(arch, about.shape, about.norm).with_normalised_filters()))
        }
        Design::Builtin(_) => about.design.network(&about.shape, about.norm),
    };
    network.map_err(|e| Error::data(path, format!("describes no network ({e})")))
}

/// How images become batches of its input.
pub(super) fn gather(about: &About) -> Gather {
    let [channels, depth, height, width] = about.images.extent;
    if about.shape.is_volume() {
        return Gather::Volumes(VolumeGather { size: [depth, height, width], views: about.images.views });
    }
    Gather::Images(BatchGather {
        image: [channels, height, width],
        size: [about.shape.image_size; 2],
        mean: about.images.mean.clone(),
        std: about.images.std.clone(),
    })
}
