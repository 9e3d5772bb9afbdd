//! A design in a run: the network for its images, its files, and what its checkpoint belongs to.

use crate::checkpoint::write_atomic;
use crate::commands::job::{Job, surroundings};
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::builtin::Builtin;
use crate::nas::cost::Cost;
use crate::nas::design::Design;
use crate::nas::train::Network;
use std::path::PathBuf;

/// The one called `name`: a built-in network, or an architecture that was trained in the run.
///
/// # Errors
/// [`Error::Config`] when there is none of that name; whatever reading it reports.
pub fn named(job: &Job, name: &str) -> Result<Design> {
    if Builtin::is_name(name) {
        return Ok(Design::Builtin(name.parse()?));
    }
    let path = job.path(&format!("arch/{name}.json"));
    if !path.is_file() {
        return Err(missing(job, name));
    }
    Ok(Design::Searched(Architecture::load(path)?))
}

fn missing(job: &Job, name: &str) -> Error {
    Error::config("--network", format!("{} holds no trained network {name}", job.dir.display()))
}

/// Checks what its training with the settings of the run needs, before anything is written.
///
/// # Errors
/// [`Error::Config`] names the setting, or the network that does not take such images; [`Error::Architecture`] the
/// rule that it breaks.
pub fn check(job: &Job, design: &Design) -> Result<()> {
    match design {
        Design::Searched(arch) => {
            arch.validate()?;
            job.check_resulting(&arch.space)
        }
        Design::Builtin(builtin) => {
            job.check_retrain_batch()?;
            builtin.graph(&job.shape).map(drop)
        }
    }
}

/// The network for the images of the run, normalised as its settings say.
///
/// # Errors
/// As [`Design::network`].
pub fn network(job: &Job, design: &Design) -> Result<Box<dyn Network>> {
    design.network(&job.shape, job.config.retrain.norm)
}

/// Parameters and multiply-accumulates of that network.
///
/// # Errors
/// As [`Design::cost`].
pub fn cost(job: &Job, design: &Design) -> Result<Cost> {
    design.cost(&job.shape)
}

/// Its checkpoint in the run directory.
pub fn checkpoint(job: &Job, design: &Design) -> PathBuf {
    job.path(&format!("ckpt/net-{}.safetensors", design.id()))
}

/// The checkpoint of its training.
///
/// # Errors
/// [`Error::Config`] when it was never trained here.
pub fn trained(job: &Job, design: &Design) -> Result<PathBuf> {
    let path = checkpoint(job, design);
    if path.is_file() { Ok(path) } else { Err(missing(job, &design.id())) }
}

/// What that checkpoint belongs to.
pub fn identity(job: &Job, design: &Design) -> String {
    let surroundings = surroundings(&job.shape);
    match design {
        Design::Searched(arch) => serde_json::json!({ "kind": "resulting", "arch": arch,
            "norm": job.config.retrain.norm, "surroundings": surroundings }),
        Design::Builtin(builtin) => serde_json::json!({ "kind": "builtin", "network": builtin.to_string(),
            "surroundings": surroundings }),
    }
    .to_string()
}

/// Writes an architecture down beside the others of the run; a name says all about a built-in network.
///
/// # Errors
/// [`Error::Io`].
pub fn write_down(job: &Job, design: &Design) -> Result<()> {
    match design {
        Design::Searched(arch) => {
            write_atomic(&job.path(&format!("arch/{}.json", arch.id())), arch.to_json().as_bytes())
        }
        Design::Builtin(_) => Ok(()),
    }
}
