//! Optimisers: which update, with which constants, over which ranges.

use crate::backend::{Context, Region, Span};
use crate::error::{Error, Result};
use crate::nn::params::ParamStore;
use crate::ops::adam::{Adam, adam};
use crate::ops::sgd::{Sgd, sgd};
use serde::{Deserialize, Serialize};

/// An optimiser and its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind", deny_unknown_fields)]
pub enum Optimizer {
    /// Adam, for the SMASH network.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
        /// L2 factor on all but the HyperNet.
        decay: f32,
    },
    /// SGD with Nesterov momentum, for the resulting network.
    Sgd {
        /// Decay of the velocity.
        momentum: f32,
        /// L2 factor.
        decay: f32,
    },
}

impl Optimizer {
    /// Adam as the paper trains the SMASH network: beta1 of Radford et al. 2015, and a large
    /// epsilon against early steps of rarely used weights.
    pub const SMASH: Self = Self::Adam { beta1: 0.5, beta2: 0.999, epsilon: 1e-4, decay: 1e-4 };
    /// Nesterov momentum as the paper trains resulting networks.
    pub const RESULTING: Self = Self::Sgd { momentum: 0.9, decay: 1e-4 };

    /// Checks the constants; `name` is the setting they come from.
    ///
    /// # Errors
    /// [`Error::Config`] names the constant.
    pub fn validate(self, name: &str) -> Result<()> {
        let (fractions, weights) = match self {
            Self::Adam { beta1, beta2, epsilon, decay } => {
                (vec![("beta1", beta1), ("beta2", beta2)], [("epsilon", epsilon), ("decay", decay)])
            }
            Self::Sgd { momentum, decay } => (vec![("momentum", momentum)], [("decay", decay); 2]),
        };
        if let Some((key, value)) = fractions.into_iter().find(|(_, value)| !(0.0..1.0).contains(value)) {
            return Err(Error::config(format!("{name}.{key}"), format!("{value} is not in 0 to 1, 1 excluded")));
        }
        match weights.into_iter().find(|(_, value)| !(value.is_finite() && *value >= 0.0)) {
            Some((key, value)) => {
                Err(Error::config(format!("{name}.{key}"), format!("{value} is negative or no number")))
            }
            None => Ok(()),
        }
    }

    /// One update with learning rate `lr`; `step` counts from 1. Nothing is updated when the number
    /// at `loss` is not finite.
    ///
    /// # Errors
    /// As [`Context::compute`].
    pub fn step(self, context: &mut Context, store: &ParamStore, lr: f32, step: u64, loss: Span) -> Result<()> {
        let (span, undecayed) = (store.span(), store.undecayed());
        match self {
            Self::Adam { beta1, beta2, epsilon, decay } => {
                adam(context, span, Adam { lr, beta1, beta2, epsilon, step, decay, undecayed }, loss)
            }
            Self::Sgd { momentum, decay } => sgd(context, span, Sgd { lr, momentum, decay, undecayed }, loss),
        }
    }
}

/// Zeroes all parameter gradients: once per step, before the backward pass adds to them.
///
/// # Errors
/// As [`Context::fill`].
pub fn zero_gradients(context: &mut Context) -> Result<()> {
    context.fill(context.whole(Region::Grads), 0.0)
}
