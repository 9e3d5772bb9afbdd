//! What can be trained from scratch, behind one face: an architecture of the search space, or a built-in network.

use crate::error::Result;
use crate::nas::arch::Architecture;
use crate::nas::builtin::Builtin;
use crate::nas::cost::{Cost, cost};
use crate::nas::resulting::{NormKind, ResultingNetwork};
use crate::nas::train::Network;
use crate::nas::twin::NetworkShape;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network to be trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Design {
    /// The resulting network of an architecture.
    Searched(Architecture),
    /// A network of another paper.
    #[serde(serialize_with = "as_name", deserialize_with = "of_name")]
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
    /// Name in files and results: an architecture's id, or the name that was typed.
    pub fn id(&self) -> String {
        match self {
            Self::Searched(arch) => arch.id(),
            Self::Builtin(builtin) => builtin.to_string(),
        }
    }

    /// The network for images and classes of `shape`; `norm` is how ops of an architecture are normalised.
    ///
    /// # Errors
    /// As [`Builtin::network`].
    pub fn network(&self, shape: &NetworkShape, norm: NormKind) -> Result<Box<dyn Network>> {
        Ok(match self {
            Self::Searched(arch) => Box::new(ResultingNetwork::new(arch, *shape, norm)),
            Self::Builtin(builtin) => Box::new(builtin.network(shape)?),
        })
    }

    /// Parameters and multiply-accumulates of that network.
    ///
    /// # Errors
    /// As [`Builtin::graph`].
    pub fn cost(&self, shape: &NetworkShape) -> Result<Cost> {
        Ok(match self {
            Self::Searched(arch) => cost(arch, shape),
            Self::Builtin(builtin) => builtin.graph(shape)?.cost(),
        })
    }
}

fn as_name<S: Serializer>(builtin: &Builtin, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&builtin.to_string())
}

fn of_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Builtin, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(serde::de::Error::custom)
}
