//! y = f(x), element by element: ReLU, leaky ReLU with slope 0.02, tanh, sigmoid.
//!
//! All four have a derivative that is a function of the output, so only y is kept.

pub mod checks;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::computation::Operation;
use crate::tape::{Backward, Tape, Var};

const OP: &str = "activation";

/// Slope of the HyperNet's leaky ReLU below zero (Brock et al. 2018, appendix A).
pub const LEAKY_SLOPE: f32 = 0.02;

/// A nonlinearity; the order is that of `kernels/activation.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// max(x, 0).
    Relu,
    /// x above zero, [`LEAKY_SLOPE`] * x below.
    LeakyRelu,
    /// tanh x.
    Tanh,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
}

impl Activation {
    fn operation(self) -> Operation {
        match self {
            Self::Relu => Operation::Relu,
            Self::LeakyRelu => Operation::LeakyRelu { slope: LEAKY_SLOPE },
            Self::Tanh => Operation::Tanh,
            Self::Sigmoid => Operation::Sigmoid,
        }
    }
}

/// The activation of `x`, any shape; see the module documentation.
pub fn activation(tape: &mut Tape<'_>, x: Var, kind: Activation) -> Result<Var> {
    let y = tape.alloc(tape.shape(x), tape.needs_grad(x))?;
    activation_into(tape, x, y, kind)
}

/// The activation of `x`, written to `y`, channels of an existing value that nothing else writes.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn activation_into(tape: &mut Tape<'_>, x: Var, y: Var, kind: Activation) -> Result<Var> {
    let _range = tape.op_range(c"activation_forward");
    if tape.shape(x) != tape.shape(y) {
        return Err(Error::shape(OP, tape.shape(x), tape.shape(y)));
    }
    let (xt, yt) = (tape.tensor(x).span, tape.tensor(y).span);
    tape.compute(
        |claims, device| cpu::activation_forward(device, claims.read(xt), claims.write(yt), kind),
        |device| cuda::activation_forward(device, xt, yt, kind),
    )?;
    tape.write_down(kind.operation(), &[x], y)?;
    tape.record(ActivationNode { x, y, kind }, y, &[y]);
    Ok(y)
}

struct ActivationNode {
    x: Var,
    y: Var,
    kind: Activation,
}

impl Backward for ActivationNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"activation_backward");
        let (gy, y, kind) = (tape.grad(self.y)?, tape.tensor(self.y).span, self.kind);
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, device| {
                    let (gy, y) = (claims.read(gy), claims.read(y));
                    cpu::activation_backward(device, gy, y, claims.write(gx.span), gx.add, kind);
                },
                |device| cuda::activation_backward(device, gy, y, gx, kind),
            )?;
        }
        Ok(())
    }
}
