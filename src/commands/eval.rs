//! Error of a trained network, or the SMASH score of an architecture, on a named split; of an exported network on the
//! test images of a data set.

use crate::checkpoint::write_atomic;
use crate::cli::{EvalArgs, GlobalArgs, RunArgs, Split};
use crate::commands::convert;
use crate::commands::design;
use crate::commands::device::choose;
use crate::commands::job::{Directory, Job};
use crate::commands::output::print_result;
use crate::commands::retrain::load_network;
use crate::commands::search::{load_smash, smash_outcome, winner};
use crate::data::npy::file_of_rows;
use crate::data::{DataSpec, Dataset, Options};
use crate::error::{Error, Result};
use crate::export::about::{About, Weights};
use crate::export::model::{self, Model, is_exported};
use crate::nas::arch::Architecture;
use crate::nas::design::Design;
use crate::nas::score::{logits, network_error};
use crate::nas::train::{Batch, Outcome};
use crate::report::error_margin;
use serde_json::{Value, json};
use std::path::Path;

/// Images of an evaluation that are computed together, where no run says how many; fewer when they are large.
const BATCH: usize = 500;
const BATCH_PIXELS: usize = BATCH * 32 * 32;

/// What was evaluated, on what, and how it went.
struct Evaluated {
    id: String,
    weights: &'static str,
    split: Split,
    classes: usize,
    outcome: Outcome,
    /// Where it was evaluated, if that is no run.
    data: Option<String>,
}

/// `smash-engine eval`.
///
/// # Errors
/// Usage errors; [`Error::Checkpoint`] when the network cannot be used.
pub fn run(args: &EvalArgs, global: &GlobalArgs) -> Result<()> {
    let evaluated = match exported(args) {
        Some(path) => of_export(path, args, global)?,
        None => of_run(args, global)?,
    };
    print_result(global, &evaluated.json(), &evaluated.text())
}

/// The path of an exported network, if `--network` names one rather than a network of the run.
fn exported(args: &EvalArgs) -> Option<&str> {
    let name = args.network.as_deref()?;
    let path = Path::new(name);
    let of_run = args.out.as_ref().is_some_and(|out| {
        out.join(format!("arch/{name}.json")).is_file() || out.join(format!("ckpt/net-{name}.safetensors")).is_file()
    });
    (!of_run && (is_exported(path) || path.exists())).then_some(name)
}

/// Evaluates a network or an architecture of a run.
fn of_run(args: &EvalArgs, global: &GlobalArgs) -> Result<Evaluated> {
    let Some(out) = &args.out else {
        let message = match &args.network {
            Some(name) => {
                format!("names no run to find {name} in, and there is no exported network {name}; name either")
            }
            None => "names no run; give its directory, or an exported network with --network".into(),
        };
        return Err(Error::config("--out", message));
    };
    if args.data.is_some() {
        return Err(Error::config("--data", "is for exported networks; a run has its own images"));
    }
    let calibrate_bn = args.calibrate_bn;
    let run_args = RunArgs { out: Some(out.clone()), resume: true, calibrate_bn, ..RunArgs::default() };
    let job = Job::open(&run_args, global, Directory::Existing)?;
    if args.split == Split::Val && job.validation.is_empty() {
        return Err(Error::config("--split", "val: this run trained on all images and held none out; name test"));
    }
    let batches: Vec<Batch<'_>> = match args.split {
        Split::Val => job.validation_batches().collect(),
        Split::Test => job.test_batches(),
    };
    let evaluated = |id, weights, outcome| {
        Ok(Evaluated { id, weights, split: args.split, classes: job.shape.classes, outcome, data: None })
    };
    if let Some(path) = &args.arch {
        let arch = Architecture::load(path)?;
        if arch.space != job.config.space {
            let message = "belongs to another search space than the run; draw it from the run's own";
            return Err(Error::data(path, message));
        }
        let (network, mut context) = load_smash(&job)?;
        let outcome = smash_outcome(&job, &network, &mut context, &arch, batches.into_iter())?;
        return evaluated(arch.id(), "generated", outcome);
    }
    let design = match &args.network {
        Some(name) => design::named(&job, name)?,
        None => Design::Searched(winner(&job)?.arch),
    };
    let (network, mut context) = load_network(&job, &design)?;
    if let Some(file) = &args.logits {
        let rows = logits(&mut context, &*network, &job.gather, batches.iter().cloned())?;
        write_atomic(file, &file_of_rows(&rows, job.shape.classes))?;
    }
    let outcome = network_error(&mut context, &*network, &job.gather, batches.into_iter())?;
    evaluated(design.id(), "trained", outcome)
}

/// Evaluates an exported network on the test images of a data set.
fn of_export(path: &str, args: &EvalArgs, global: &GlobalArgs) -> Result<Evaluated> {
    if args.calibrate_bn.is_some() {
        return Err(Error::config("--calibrate-bn", "is for --arch: an exported network has its statistics"));
    }
    if args.split == Split::Val {
        let message = "val: an exported network brings no validation images; leave it out";
        return Err(Error::config("--split", message));
    }
    let device = choose(global)?;
    let about = model::about(path)?;
    let dataset = images(&about, args, global)?;
    let pixels = about.shape.image_depth * about.shape.image_size.pow(2);
    let batch = (BATCH_PIXELS / pixels).clamp(1, BATCH);
    let mut model = Model::load_on(path, device.kind(), batch, |arena| device.context(arena, 1))?;
    let batches = Batch::all(&dataset.test, dataset.views, batch);
    let (network, context, gather) = model.parts();
    if let Some(file) = &args.logits {
        let rows = logits(context, network, gather, batches.iter().cloned())?;
        write_atomic(file, &file_of_rows(&rows, about.shape.classes))?;
    }
    let outcome = network_error(context, network, gather, batches.into_iter())?;
    if outcome.finite_loss().is_none() {
        return Err(Error::data(path, "computes logits that are no finite numbers; its weights are of no use"));
    }
    let weights = match about.weights {
        Weights::Trained => "trained",
        Weights::Generated => "generated",
    };
    let (id, classes) = (about.design.id(), about.shape.classes);
    Ok(Evaluated { id, weights, split: Split::Test, classes, outcome, data: Some(dataset.name) })
}

/// The images to evaluate an exported network on, of the shape and with the classes that it was trained on.
fn images(about: &About, args: &EvalArgs, global: &GlobalArgs) -> Result<Dataset> {
    let source = args.data.as_deref().unwrap_or(&about.recipe.source);
    let spec = DataSpec::parse(source);
    if let DataSpec::Folder(path) = &spec
        && args.data.is_none()
        && !path.exists()
    {
        let message = format!("{source}, which the network was trained on, is not here; name a copy of it");
        return Err(Error::config("--data", message));
    }
    let [channels, depth, height, width] = about.images.extent;
    let image_size = (depth == 1 && height == width).then_some(height);
    let dataset = crate::data::open_with(&spec, Options { image_size, progress: convert::on_stderr(global) })?;
    let found = dataset.shape;
    if [found.channels, found.depth, found.height, found.width] != about.images.extent
        || dataset.views != about.images.views
    {
        let expected = format!("images of {channels} x {depth} x {height} x {width}");
        return Err(Error::config("--data", format!("the network takes {expected}, and {source} has others")));
    }
    if dataset.class_names != about.images.classes {
        let message = format!("the classes of {source} are not those that the network was trained on");
        return Err(Error::config("--data", message));
    }
    Ok(dataset)
}

impl Evaluated {
    fn json(&self) -> Value {
        let Self { id, weights, outcome, .. } = self;
        let split = self.split.name();
        let mut json = json!({ "architecture": id, "weights": weights, "split": split,
            format!("{split}_err"): outcome.percent(), format!("{split}_loss"): outcome.mean_loss(),
            "images": outcome.images });
        if let Some(top5) = outcome.top5_percent(self.classes) {
            json[format!("{split}_top5_err")] = top5.into();
        }
        if let Some(data) = &self.data {
            json["data"] = data.as_str().into();
        }
        json
    }

    fn text(&self) -> String {
        let Self { id, weights, outcome, .. } = self;
        let (split, error) = (self.split.name(), outcome.percent());
        let margin = error_margin(error, outcome.images);
        let top5 = outcome.top5_percent(self.classes);
        let top5 = top5.map_or(String::new(), |e| format!(", {split}_top5_err {e:.2} %"));
        let data = self.data.as_ref().map_or(String::new(), |data| format!(" of {data}"));
        format!(
            "architecture {id}, {weights} weights: {split}_err {error:.2} % +- {margin:.2} on {} images{data}{top5}, \
             {split}_loss {:.4}\n",
            outcome.images,
            outcome.mean_loss()
        )
    }
}
