//! Stochastic gradient descent with Nesterov momentum over flat buffers, in one pass.
//!
//! With g = gradient + decay * w:  v = momentum * v + g,  w -= lr * (g + momentum * v)
//! (Sutskever et al. 2013, in the form common to today's libraries).

pub mod checks;
mod cpu;
mod cuda;

use crate::backend::{Context, Span};
use crate::error::Result;

const OP: &str = "sgd";

/// Constants of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the velocity.
    pub momentum: f32,
    /// Weight decay.
    pub decay: f32,
    /// So many of the first parameters have no weight decay.
    pub undecayed: usize,
}

/// Updates the parameters in `span` (region `Params`), unless the number at `loss` is not finite;
/// the velocity lies in region `Moment1`.
///
/// # Errors
/// As [`Context::compute`].
pub fn sgd(context: &mut Context, span: Span, config: Sgd, loss: Span) -> Result<()> {
    let _range = crate::trace::range(crate::trace::Level::Op, c"sgd_update");
    context.compute(
        |claims, device| cpu::sgd(device, claims, span, config, loss),
        |device| cuda::sgd(device, span, config, loss),
    )
}
