//! A batch-normalisation layer: scale, shift and running statistics, sliced to the channels
//! that are present.

use crate::backend::Span;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::params::{ParamId, ParamStore};
use crate::ops::batchnorm::{Batchnorm, batchnorm};
use crate::tape::{Tape, Var};

/// Handles of a layer's parameters and statistics.
#[derive(Clone, Copy, Debug)]
pub struct Norm {
    gamma: ParamId,
    beta: ParamId,
    running: [Span; 2],
}

/// How a network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics; gradients are recorded.
    Train,
    /// Running statistics; gradients flow to inputs that want one, none to parameters.
    Eval,
}

impl Mode {
    /// True in training.
    pub fn is_train(self) -> bool {
        self == Self::Train
    }
}

impl Norm {
    /// Adds `name.gamma`, `name.beta`, `name.mean` and `name.var` of up to `channels` channels.
    pub fn add(store: &mut ParamStore, name: &str, channels: usize) -> Self {
        Self {
            gamma: store.add(format!("{name}.gamma"), &[channels], Init::Ones),
            beta: store.add(format!("{name}.beta"), &[channels], Init::Zeros),
            running: [
                store.add_statistic(format!("{name}.mean"), channels, 0.0),
                store.add_statistic(format!("{name}.var"), channels, 1.0),
            ],
        }
    }

    /// ReLU of the normalised concatenation of `views`: [C_i, H, W, N] -> [sum of C_i, H, W, N].
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the views have more channels than the layer.
    pub fn relu(self, tape: &mut Tape<'_>, store: &ParamStore, views: &[Var], mode: Mode) -> Result<Var> {
        let channels = views.iter().map(|&v| tape.shape(v).c).sum();
        let gamma = store.prefix(tape, self.gamma, channels, mode.is_train());
        let beta = store.prefix(tape, self.beta, channels, mode.is_train());
        let running = self.running.map(|span| span.sub(0, channels));
        batchnorm(tape, views, gamma, beta, Batchnorm { running, train: mode.is_train(), slope: Some(0.0) })
    }
}
