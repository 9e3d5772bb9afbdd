//! Adam over flat buffers, all parameters in one pass (Kingma & Ba 2014).
//!
//! With g = gradient + decay * w:  m = b1 m + (1-b1) g,  v = b2 v + (1-b2) g^2,
//! w -= lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps).
//!
//! Weight decay is the L2 form; the HyperNet, which comes first, has none (Brock et al. 2018, appendix C).

pub mod checks;
mod cpu;
mod cuda;

use crate::backend::{Context, Span};
use crate::error::Result;

const OP: &str = "adam";

/// Constants of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate of this step.
    pub lr: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Weight decay.
    pub decay: f32,
    /// So many of the first parameters have no weight decay.
    pub undecayed: usize,
    /// Number of this step, from 1.
    pub step: u64,
}

impl Adam {
    /// 1 - beta^t of both moments. In f64: 1 - 0.999^t loses half its digits in f32.
    fn corrections(self) -> [f32; 2] {
        [self.beta1, self.beta2].map(|beta| (1.0 - f64::from(beta).powf(self.step as f64)) as f32)
    }
}

/// Updates the parameters in `span` (region `Params`), unless the number at `loss` is not finite.
///
/// # Errors
/// As [`Context::compute`].
pub fn adam(context: &mut Context, span: Span, config: Adam, loss: Span) -> Result<()> {
    let _range = crate::trace::range(crate::trace::Level::Op, c"adam_update");
    context.compute(
        |claims, device| cpu::adam(device, claims, span, config, loss),
        |device| cuda::adam(device, span, config, loss),
    )
}
