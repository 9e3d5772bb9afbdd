//! `export`: a trained network, or an architecture with generated weights, as files that other programs run.
//!
//! The weights are written first and read back, so that everything else (logits of the ONNX file, latency, the error that
//! rounding costs) is about the very numbers in the file.

mod subject;

use crate::backend::Context;
use crate::checkpoint::write_atomic;
use crate::cli::{ExportArgs, ExportForm, GlobalArgs, RunArgs};
use crate::commands::card::Card;
use crate::commands::environment;
use crate::commands::job::{Directory, Job};
use crate::commands::latency::{Latency, latency};
use crate::commands::output::print_result;
use crate::commands::show;
use crate::error::{Error, Result};
use crate::export::about::{About, Dtype, Errors, Weights};
use crate::export::model::WEIGHTS;
use crate::export::onnx::{self, Onnx, OnnxOptions};
use crate::export::{Model, model, pytorch, weights};
use crate::figures::{layers, network};
use crate::nas::describe;
use crate::nas::design::Design;
use crate::nas::score::network_error;
use crate::nas::train::Network;
use crate::report::{Align, error_margin, grouped, table};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use subject::Subject;

/// The drawing of a network.
const PICTURE: &str = "architecture.svg";
/// Batch sizes that latency is measured at.
const BATCHES: [usize; 2] = [1, 128];

/// `smash-engine export`.
///
/// # Errors
/// Usage errors; [`Error::Checkpoint`] when the network cannot be used.
pub fn run(args: &ExportArgs, global: &GlobalArgs) -> Result<()> {
    let calibrate_bn = args.calibrate_bn;
    let run_args = RunArgs { out: Some(args.out.clone()), resume: true, calibrate_bn, ..RunArgs::default() };
    let job = Job::open(&run_args, global, Directory::Existing)?;
    let subject = match &args.arch {
        Some(path) => Subject::generated(&job, path)?,
        None => Subject::trained(&job, args.network.as_deref())?,
    };
    let to = args.to.clone().unwrap_or_else(|| folder_of(&job, &folder_name(&subject, args.form)));
    let about = subject.about(&job, args.form.dtype);
    if !args.overwrite {
        refuse_others(&to, &about)?;
    }
    let exported = export(&job, subject, about, &to, args.form)?;
    print_result(global, &exported.json(), &exported.text())
}

/// Exports the trained network of `design` to its folder in the run directory, as part of a run.
///
/// # Errors
/// As [`run`].
pub fn export_trained(job: &Job, design: Design) -> Result<()> {
    let subject = Subject::of(job, design)?;
    let (to, form) = (folder_of(job, &subject.design.id()), ExportForm::default());
    let about = subject.about(job, form.dtype);
    export(job, subject, about, &to, form).map(drop)
}

/// Where exports of the network `name` go unless the user says otherwise.
pub fn folder_of(job: &Job, name: &str) -> PathBuf {
    job.path(&format!("export/{name}"))
}

fn folder_name(subject: &Subject, form: ExportForm) -> String {
    let generated = if subject.weights == Weights::Generated { "-generated" } else { "" };
    let dtype = if form.dtype == Dtype::F32 { String::new() } else { format!("-{}", form.dtype.name()) };
    let folded = if form.fold_batchnorm { "-folded" } else { "" };
    format!("{}{generated}{dtype}{folded}", subject.design.id())
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
fn export(job: &Job, subject: Subject, about: About, dir: &Path, form: ExportForm) -> Result<Exported> {
    job.say(&format!("export: {} to {}", subject.design.id(), dir.display()));
    std::fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    let (mut model, weights) = written(job, subject, about)?;
    // First of all: whatever else fails, the network is there.
    write_atomic(&dir.join(WEIGHTS), &weights)?;
    let latencies = BATCHES.iter().map(|&batch| latency(&mut model, batch)).collect::<Result<Vec<_>>>()?;
    let (files, norms) = pieces(job, &mut model, weights, &latencies, form)?;
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
    let card = card(job, model, latencies, &files, [folded, kept])?.into_bytes();
    files.push(Piece { name: "README.md", what: "the model card", bytes: card });
    Ok((files, [folded, kept]))
}

/// The network that the file of its weights is, with its errors, and that file.
fn written(job: &Job, mut subject: Subject, mut about: About) -> Result<(Model, Vec<u8>)> {
    let store = subject.network.store().clone();
    let bytes = weights::to_bytes(&about, &store, &mut subject.context)?;
    let batch = job.config.data.eval_batch.max(BATCHES[1]);
    let path = Path::new(WEIGHTS);
    let mut model = Model::from_bytes(path, &bytes, job.device.kind(), batch, |arena| job.context(arena, 1))?;
    let (network, context, _) = model.parts();
    about.errors = errors(job, network, context)?;
    if about.dtype != Dtype::F32 {
        let before = errors(job, &*subject.network, &mut subject.context)?;
        about.errors.unrounded_test_err = Some(before.test_err);
    }
    model.about = about;
    let bytes = weights::to_bytes(&model.about, &store, &mut subject.context)?;
    Ok((model, bytes))
}

/// A folder may be new, empty, or that of an earlier export of the same network in the same form.
fn refuse_others(dir: &Path, about: &About) -> Result<()> {
    let refuse = |holds: &str| {
        let message =
            format!("{} holds {holds}; name a new folder, or replace its files with --overwrite", dir.display());
        Err(Error::config("--to", message))
    };
    if dir.exists() && !dir.is_dir() {
        return Err(Error::config("--to", format!("{} is no folder; name one", dir.display())));
    }
    let Ok(mut entries) = std::fs::read_dir(dir) else { return Ok(()) };
    match (dir.join(WEIGHTS).is_file(), entries.next()) {
        (_, None) => Ok(()),
        (false, Some(_)) => refuse("other files"),
        (true, Some(_)) => match model::about(dir) {
            Ok(there) if (About { errors: about.errors, ..there.clone() }) == *about => Ok(()),
            Ok(there) => refuse(&format!("another export of {}", there.design.id())),
            Err(_) => refuse("a damaged export"),
        },
    }
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

fn card(job: &Job, model: &mut Model, latencies: &[Latency], files: &[Piece], norms: [usize; 2]) -> Result<String> {
    let params = model.parts().0.store().len() as u64;
    let about = &model.about;
    let table = match &about.design {
        Design::Searched(arch) => describe::table(arch, &about.shape),
        Design::Builtin(builtin) => show::builtin_table(*builtin, &builtin.graph(&about.shape)?, &about.shape),
    };
    let cost = about.design.cost(&about.shape)?;
    let files: Vec<(&str, &str)> = files.iter().map(|file| (file.name, file.what)).collect();
    let margin = |error: f64, images: usize| error_margin(error, images);
    let card = Card {
        about,
        params,
        cost,
        table: &table,
        latencies,
        device: &job.device.name(),
        margins: [
            margin(about.errors.test_err, about.errors.test_images),
            margin(about.errors.val_err.unwrap_or(0.0), job.validation.len()),
        ],
        command: environment::command(job),
        norms,
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
