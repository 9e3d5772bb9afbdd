//! A batch-normalisation layer: scale, shift and running statistics, sliced to the channels
//! that are present.

use crate::backend::Span;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::params::{ParamId, ParamStore};
use crate::ops::batchnorm::{Batchnorm, MOMENTUM, batchnorm};
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
    /// Batch statistics, as number `batch` (from 1) of those whose mean becomes the running ones; nothing is recorded.
    Calibrate {
        /// Counted from 1: the first one replaces what the running statistics were.
        batch: u32,
    },
}

impl Mode {
    /// True in training.
    pub fn is_train(self) -> bool {
        self == Self::Train
    }

    /// Weight of the batch in the running statistics; `None` where it is normalised with those.
    fn momentum(self) -> Option<f32> {
        match self {
            Self::Train => Some(MOMENTUM),
            Self::Eval => None,
            Self::Calibrate { batch } => Some(1.0 / batch as f32),
        }
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
        self.apply(tape, store, views, mode, Some(0.0))
    }

    /// The normalised concatenation of `views`, through a leaky ReLU of `slope` if there is one.
    ///
    /// # Errors
    /// As [`Norm::relu`].
    pub fn apply(
        self,
        tape: &mut Tape<'_>,
        store: &ParamStore,
        views: &[Var],
        mode: Mode,
        slope: Option<f32>,
    ) -> Result<Var> {
        let channels = views.iter().map(|&v| tape.shape(v).c).sum();
        let gamma = store.prefix(tape, self.gamma, channels, mode.is_train());
        let beta = store.prefix(tape, self.beta, channels, mode.is_train());
        let running = self.running.map(|span| span.sub(0, channels));
        batchnorm(tape, views, gamma, beta, Batchnorm { running, momentum: mode.momentum(), slope })
    }
}
