//! `export`: a trained network, or an architecture with generated weights, as files that other programs run.
//!
//! The weights are written first and read back, so that everything else (logits of the ONNX file, latency, the error that
//! rounding costs) is about the very numbers in the file.

use crate::backend::Context;
use crate::checkpoint::{self, write_atomic};
use crate::cli::{ExportArgs, ExportForm, GlobalArgs, RunArgs};
use crate::commands::card::Card;
use crate::commands::design;
use crate::commands::job::{Directory, Job};
use crate::commands::latency::{Latency, latency};
use crate::commands::output::print_result;
use crate::commands::retrain::load_network;
use crate::commands::search::{load_smash, winner};
use crate::commands::show;
use crate::commands::training::Reached;
use crate::config::{RetrainConfig, RunConfig, SmashConfig};
use crate::error::{Error, Result};
use crate::export::about::{About, Dtype, Errors, FORMAT, ImagesAbout, Recipe, Weights};
use crate::export::model::WEIGHTS;
use crate::export::onnx::{self, Onnx, OnnxOptions};
use crate::export::{Model, model, pytorch, weights};
use crate::figures::{layers, network};
use crate::nas::arch::Architecture;
use crate::nas::describe;
use crate::nas::design::Design;
use crate::nas::inherit::inherited;
use crate::nas::resulting::{NormKind, ResultingNetwork};
use crate::nas::score::{calibrate_network, network_error};
use crate::nas::train::{Gather, Network, plan_evaluation};
use crate::ops::volume_gather::VolumeGather;
use crate::report::{Align, error_margin, grouped, table};
use clap::ValueEnum;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Seconds between checkpoints in the settings that an export states, whatever they were: they change no result.
const SAVING: u64 = 30;
/// The drawing of a network.
const PICTURE: &str = "architecture.svg";
/// Batch sizes that latency is measured at.
const BATCHES: [usize; 2] = [1, 128];

/// A network with its parameters, and what it is.
struct Subject {
    design: Design,
    norm: NormKind,
    weights: Weights,
    network: Box<dyn Network>,
    context: Context,
    /// What its training started from.
    start: String,
}

/// `smash-engine export`.
///
/// # Errors
/// Usage errors; [`Error::Checkpoint`] when the network cannot be used.
pub fn run(args: &ExportArgs, global: &GlobalArgs) -> Result<()> {
    let run_args = RunArgs { out: Some(args.out.clone()), resume: true, ..RunArgs::default() };
    let job = Job::open(&run_args, global, Directory::Existing)?;
    let subject = match &args.arch {
        Some(path) => generated(&job, path)?,
        None => trained(&job, args.network.as_deref())?,
    };
    let to = args.to.clone().unwrap_or_else(|| folder_of(&job, &folder_name(&subject, args.form)));
    let exported = export(&job, subject, &to, args.form)?;
    print_result(global, &exported.json(), &exported.text())
}

/// Exports the trained network of `design` to its folder in the run directory, as part of a run.
///
/// # Errors
/// As [`run`].
pub fn export_trained(job: &Job, design: Design) -> Result<()> {
    let to = folder_of(job, &design.id());
    export(job, loaded(job, design)?, &to, ExportForm::default()).map(drop)
}

/// Where exports of the network `name` go unless the user says otherwise.
pub fn folder_of(job: &Job, name: &str) -> PathBuf {
    job.path(&format!("export/{name}"))
}

fn folder_name(subject: &Subject, form: ExportForm) -> String {
    let generated = if subject.weights == Weights::Generated { "-generated" } else { "" };
    let dtype = if form.dtype == Dtype::F32 { String::new() } else { format!("-{}", form.dtype.name()) };
    format!("{}{generated}{dtype}", subject.design.id())
}

fn trained(job: &Job, name: Option<&str>) -> Result<Subject> {
    let design = match name {
        Some(name) => design::named(job, name)?,
        None => Design::Searched(winner(job)?.arch),
    };
    loaded(job, design)
}

fn loaded(job: &Job, design: Design) -> Result<Subject> {
    let (network, context) = load_network(job, &design)?;
    let start = checkpoint::peek::<Reached>(&design::trained(job, &design)?)?.start();
    Ok(Subject { design, norm: job.config.retrain.norm, weights: Weights::Trained, network, context, start })
}

/// The resulting network that computes what the SMASH network of the run does for an architecture.
fn generated(job: &Job, path: &Path) -> Result<Subject> {
    let arch = Architecture::load(path)?;
    if arch.space != job.config.space {
        let message = "belongs to another search space than the run; draw it from the run's own";
        return Err(Error::data(path, message));
    }
    let norm = NormKind::Weightnorm;
    let network = ResultingNetwork::new(&arch, job.shape, norm);
    let (smash, mut of_smash) = load_smash(job)?;
    let planned = plan_evaluation(job.device.kind(), &network, job.evaluation_shape())?;
    let mut context = job.context(planned, 1)?;
    network.store().reserve(&mut context)?;
    for (span, values) in inherited(&mut of_smash, &smash, &network)? {
        context.write(span, &values)?;
    }
    // As the search does before a score, if it does.
    calibrate_network(&mut context, &network, &job.gather, &job.calibration_batches()?)?;
    let (design, start) = (Design::Searched(arch), "random numbers".to_string());
    Ok(Subject { design, norm, weights: Weights::Generated, network: Box::new(network), context, start })
}

/// A file of an export: its name, what it is, and its contents.
struct Piece {
    name: &'static str,
    what: &'static str,
    bytes: Vec<u8>,
}

/// What was written, and what was found on the way.
struct Exported {
    dir: PathBuf,
    about: About,
    files: Vec<Piece>,
    latencies: Vec<Latency>,
    /// BatchNorms of the ONNX file that are part of a convolution, and others.
    norms: [usize; 2],
}

/// Writes the files of a network into `dir`.
fn export(job: &Job, mut subject: Subject, dir: &Path, form: ExportForm) -> Result<Exported> {
    let id = subject.design.id();
    refuse_other_files(dir, &id)?;
    job.say(&format!("export: {id} to {}", dir.display()));
    let before = errors(job, &*subject.network, &mut subject.context)?;
    let about = about(job, &subject, form.dtype, before);
    let (mut model, bytes) = written(job, subject, about)?;
    let latencies = BATCHES.iter().map(|&batch| latency(&mut model, batch)).collect::<Result<Vec<_>>>()?;
    let (files, norms) = pieces(job, &mut model, bytes, &latencies, form)?;
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    for file in &files {
        write_atomic(&dir.join(file.name), &file.bytes)?;
    }
    Ok(Exported { dir: dir.to_path_buf(), about: model.about, files, latencies, norms })
}

/// All files, the card last; and how many BatchNorms of the ONNX file are part of a convolution, and how many are not.
fn pieces(
    job: &Job,
    model: &mut Model,
    weights: Vec<u8>,
    latencies: &[Latency],
    form: ExportForm,
) -> Result<(Vec<Piece>, [usize; 2])> {
    let computation = model.computation()?;
    let (about, shape) = (&model.about, &model.about.shape);
    let options = OnnxOptions { fold_batchnorm: form.fold_batchnorm };
    let Onnx { bytes: onnx, folded, kept } = onnx::write(&computation, about, &options)?;
    let code = pytorch::write(&computation, about)?.into_bytes();
    let mut files = vec![
        Piece { name: WEIGHTS, what: "weights, with all about them in the metadata", bytes: weights },
        Piece { name: "model.onnx", what: "the whole network, for ONNX runtimes", bytes: onnx },
        Piece { name: pytorch::FILE, what: "the network in PyTorch, which loads the weights", bytes: code },
    ];
    let picture = match &about.design {
        Design::Searched(arch) => {
            let json = arch.to_json().into_bytes();
            files.push(Piece { name: "architecture.json", what: "the architecture, for `smash-engine`", bytes: json });
            network::svg(arch, shape)
        }
        Design::Builtin(builtin) => layers::svg(&builtin.to_string(), &builtin.graph(shape)?),
    };
    files.push(Piece { name: PICTURE, what: "its picture", bytes: picture.into_bytes() });
    let card = card(job, model, latencies, &files)?.into_bytes();
    files.push(Piece { name: "README.md", what: "the model card", bytes: card });
    Ok((files, [folded, kept]))
}

/// The weights as the bytes of their file, and the network that comes out of these, with its own errors.
fn written(job: &Job, mut subject: Subject, mut about: About) -> Result<(Model, Vec<u8>)> {
    let store = subject.network.store().clone();
    let bytes = weights::to_bytes(&about, &store, &mut subject.context)?;
    let batch = job.config.data.eval_batch.max(BATCHES[1]);
    let path = Path::new(WEIGHTS);
    let mut model = Model::from_bytes(path, &bytes, job.device.kind(), batch, |arena| job.context(arena, 1))?;
    if about.dtype == Dtype::F32 {
        return Ok((model, bytes));
    }
    let (network, context, _) = model.parts();
    let unrounded = about.errors.test_err;
    about.errors = Errors { unrounded_test_err: Some(unrounded), ..errors(job, network, context)? };
    model.about = about.clone();
    let bytes = weights::to_bytes(&about, &store, &mut subject.context)?;
    Ok((model, bytes))
}

/// A folder may be new, empty, or that of an earlier export of the same network.
fn refuse_other_files(dir: &Path, id: &str) -> Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io("read", dir))?,
    };
    let holds = match (dir.join(WEIGHTS).is_file(), entries.count()) {
        (_, 0) => return Ok(()),
        (true, _) => model::about(dir).map(|about| about.design.id()).unwrap_or_else(|_| "something else".into()),
        (false, _) => "other files".into(),
    };
    if holds == id {
        return Ok(());
    }
    Err(Error::config("--to", format!("{} holds {holds}; name a new folder", dir.display())))
}

/// Errors on validation and test images.
fn errors(job: &Job, network: &dyn Network, context: &mut Context) -> Result<Errors> {
    let mut error = |batches: Vec<_>| network_error(context, network, &job.gather, batches.into_iter());
    let validation = error(job.validation_batches().collect())?;
    let test = error(job.test_batches())?;
    Ok(Errors {
        val_err: (validation.images > 0).then(|| validation.percent()),
        test_err: test.percent(),
        test_top5_err: test.top5_percent(job.shape.classes),
        test_images: test.images,
        unrounded_test_err: None,
    })
}

fn about(job: &Job, subject: &Subject, dtype: Dtype, errors: Errors) -> About {
    let (config, image) = (&job.config, job.dataset.shape);
    let (mean, std) = match &job.gather {
        Gather::Images(gather) => (gather.mean.clone(), gather.std.clone()),
        Gather::Volumes(_) => VolumeGather::normalisation(),
    };
    let (epochs, batch, lr, optimizer) = match subject.weights {
        Weights::Trained => {
            let RetrainConfig { epochs, batch, lr, optimizer, .. } = config.retrain;
            (epochs, batch, lr, optimizer)
        }
        Weights::Generated => {
            let SmashConfig { epochs, batch, lr, optimizer, .. } = config.smash;
            (epochs, batch, lr, optimizer)
        }
    };
    let augment = config.data.augment.and_then(|name| name.to_possible_value());
    About {
        format: FORMAT,
        engine: env!("CARGO_PKG_VERSION").into(),
        design: subject.design.clone(),
        norm: subject.norm,
        shape: job.shape,
        weights: subject.weights,
        dtype,
        images: ImagesAbout {
            name: job.dataset.name.clone(),
            classes: job.dataset.class_names.clone(),
            extent: [image.channels, image.depth, image.height, image.width],
            mean,
            std,
            views: job.dataset.views,
        },
        seed: config.seed,
        recipe: Recipe {
            epochs,
            batch,
            lr,
            optimizer,
            start: subject.start.clone(),
            augment: augment.map_or("none".into(), |name| name.get_name().to_string()),
            train_images: job.train.len(),
            validation_images: job.validation.len(),
            source: config.data.source.clone(),
            split_seed: config.data.split_seed.unwrap_or(config.seed),
            settings: RunConfig { checkpoint_seconds: SAVING, ..config.clone() }.to_toml(),
        },
        errors,
    }
}

fn card(job: &Job, model: &mut Model, latencies: &[Latency], files: &[Piece]) -> Result<String> {
    let params = model.parts().0.store().len() as u64;
    let about = &model.about;
    let table = match &about.design {
        Design::Searched(arch) => describe::table(arch, &about.shape),
        Design::Builtin(builtin) => show::builtin_table(*builtin, &builtin.graph(&about.shape)?, &about.shape),
    };
    let files: Vec<(&str, &str)> = files.iter().map(|file| (file.name, file.what)).collect();
    let latencies: Vec<_> = latencies.iter().map(|l| (l.batch, l.median_ms, l.quartiles_ms)).collect();
    let device = job.device.describe();
    let card = Card {
        about,
        params,
        macs: about.design.cost(&about.shape)?.macs,
        table: &table,
        latencies: &latencies,
        device: device.trim_start_matches("device: "),
        margin: error_margin(about.errors.test_err, about.errors.test_images),
        files: &files,
        picture: PICTURE,
    };
    Ok(card.markdown())
}

impl Exported {
    fn json(&self) -> Value {
        let files: Vec<Value> = self.files.iter().map(|f| json!({ "name": f.name, "bytes": f.bytes.len() })).collect();
        let latencies =
            self.latencies.iter().map(|l| json!({ "batch": l.batch, "median_ms": l.median_ms, "passes": l.passes }));
        json!({ "dir": self.dir, "network": self.about.design.id(), "weights": self.about.weights,
            "dtype": self.about.dtype, "errors": self.about.errors, "files": files,
            "latency": latencies.collect::<Vec<_>>(),
            "onnx_batchnorms": { "folded": self.norms[0], "kept": self.norms[1] } })
    }

    fn text(&self) -> String {
        let Errors { test_err, test_images, unrounded_test_err, .. } = self.about.errors;
        let margin = error_margin(test_err, test_images);
        let mut text = format!("{} in {}\n", self.about.design.id(), self.dir.display());
        let rows: Vec<[String; 2]> =
            self.files.iter().map(|f| [f.name.into(), format!("{} bytes", grouped(f.bytes.len() as u64))]).collect();
        text += &table(&[Align::Left, Align::Right], &rows);
        text += &format!("test_err {test_err:.2} % +- {margin:.2} on {test_images} images");
        if let Some(before) = unrounded_test_err {
            let change = test_err - before;
            text += &format!(
                "; {before:.2} % before weights were rounded to {}: {change:+.2} points",
                self.about.dtype.name()
            );
        }
        text += "\n";
        let [folded, kept] = self.norms;
        if folded > 0 {
            text += &format!("model.onnx: {folded} BatchNorms are part of the convolution in front, {kept} are not\n");
        }
        text
    }
}
