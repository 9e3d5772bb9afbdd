//! What can be trained from scratch, behind one face: an architecture of the search space, or a built-in network.

use crate::checkpoint::write_atomic;
use crate::commands::job::{Job, surroundings};
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::builtin::Builtin;
use crate::nas::cost::{Cost, cost};
use crate::nas::resulting::ResultingNetwork;
use crate::nas::train::Network;
use std::path::PathBuf;

/// A network to be trained.
#[derive(Clone, Debug, PartialEq)]
pub enum Design {
    /// The resulting network of an architecture.
    Searched(Architecture),
    /// A network of another paper.
    Builtin(Builtin),
}

impl From<&Architecture> for Design {
    fn from(arch: &Architecture) -> Self {
        Self::Searched(arch.clone())
    }
}

impl From<Architecture> for Design {
    fn from(arch: Architecture) -> Self {
        Self::Searched(arch)
    }
}

impl Design {
    /// The one called `name`: a built-in network, or an architecture that was trained in the run.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none of that name; whatever reading it reports.
    pub fn named(job: &Job, name: &str) -> Result<Self> {
        if Builtin::is_name(name) {
            return Ok(Self::Builtin(name.parse()?));
        }
        let path = job.path(&format!("arch/{name}.json"));
        if !path.is_file() {
            return Err(Self::missing(job, name));
        }
        Ok(Self::Searched(Architecture::load(path)?))
    }

    fn missing(job: &Job, name: &str) -> Error {
        Error::config("--network", format!("{} holds no trained network {name}", job.dir.display()))
    }

    /// Name in files and results: an architecture's id, or the name that was typed.
    pub fn id(&self) -> String {
        match self {
            Self::Searched(arch) => arch.id(),
            Self::Builtin(builtin) => builtin.to_string(),
        }
    }

    /// Checks what its training with the settings of the run needs, before anything is written.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting, or the network that does not take such images.
    pub fn check(&self, job: &Job) -> Result<()> {
        match self {
            Self::Searched(arch) => job.check_resulting(&arch.space),
            Self::Builtin(builtin) => {
                job.check_retrain_batch()?;
                builtin.graph(&job.shape).map(drop)
            }
        }
    }

    /// The network for the images of the run.
    ///
    /// # Errors
    /// As [`Builtin::network`].
    pub fn network(&self, job: &Job) -> Result<Box<dyn Network>> {
        Ok(match self {
            Self::Searched(arch) => Box::new(ResultingNetwork::new(arch, job.shape, job.config.retrain.norm)),
            Self::Builtin(builtin) => Box::new(builtin.network(&job.shape)?),
        })
    }

    /// Parameters and multiply-accumulates of that network.
    ///
    /// # Errors
    /// As [`Builtin::graph`].
    pub fn cost(&self, job: &Job) -> Result<Cost> {
        Ok(match self {
            Self::Searched(arch) => cost(arch, &job.shape),
            Self::Builtin(builtin) => builtin.graph(&job.shape)?.cost(),
        })
    }

    /// Its checkpoint in the run directory.
    pub fn checkpoint(&self, job: &Job) -> PathBuf {
        job.path(&format!("ckpt/net-{}.safetensors", self.id()))
    }

    /// The checkpoint of its training.
    ///
    /// # Errors
    /// [`Error::Config`] when it was never trained here.
    pub fn trained(&self, job: &Job) -> Result<PathBuf> {
        let path = self.checkpoint(job);
        if path.is_file() { Ok(path) } else { Err(Self::missing(job, &self.id())) }
    }

    /// What that checkpoint belongs to.
    pub fn identity(&self, job: &Job) -> String {
        let surroundings = surroundings(&job.shape);
        match self {
            Self::Searched(arch) => serde_json::json!({ "kind": "resulting", "arch": arch,
                "norm": job.config.retrain.norm, "surroundings": surroundings }),
            Self::Builtin(builtin) => serde_json::json!({ "kind": "builtin", "network": builtin.to_string(),
                "surroundings": surroundings }),
        }
        .to_string()
    }

    /// Writes an architecture down beside the others of the run; a name says all about a built-in network.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_down(&self, job: &Job) -> Result<()> {
        match self {
            Self::Searched(arch) => {
                write_atomic(&job.path(&format!("arch/{}.json", arch.id())), arch.to_json().as_bytes())
            }
            Self::Builtin(_) => Ok(()),
        }
    }
}
