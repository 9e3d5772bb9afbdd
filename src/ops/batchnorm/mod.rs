//! `y[c] = act(gamma[c] * (x[c] - mean[c]) / sqrt(var[c] + eps) + beta[c])`
//!
//! | buffer | shape |
//! |---|---|
//! | views | any number of [C_i, H, W, N], read in place; C = sum of C_i |
//! | gamma, beta | the first C of stored vectors |
//! | mean, var | running statistics, the first C of stored vectors in the state region |
//! | y | [C, H, W, N], with a (leaky) ReLU if `slope` is set |
//!
//! Training normalises with the statistics of the batch over H, W, N (population variance) and
//! moves the running ones by `MOMENTUM` towards them (sample variance), calibration by another
//! weight; evaluation uses the running ones. A channel is one contiguous row, so sliced layers, whose channels follow
//! the architecture, need no extra code (Brock et al. 2018, section 3.1; Ioffe & Szegedy 2015).

pub mod checks;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::backend::Span;
use crate::error::{Error, Result};
use crate::ops::{common_channels, written};
use crate::tape::computation::Operation;
use crate::tape::{Backward, GradTarget, Tape, Var};
use crate::tensor::Tensor;

const OP: &str = "batchnorm";
/// Added to the variance.
pub const EPSILON: f32 = 1e-5;
/// Weight of a new batch in the running statistics of a training.
pub const MOMENTUM: f32 = 0.1;

/// Everything about a batch normalisation but its differentiable operands.
#[derive(Clone, Copy, Debug)]
pub struct Batchnorm {
    /// Running mean and variance, C numbers each.
    pub running: [Span; 2],
    /// Normalise with the batch's statistics and move the running ones by this weight towards them:
    /// [`MOMENTUM`] in training. `None` normalises with the running ones.
    pub momentum: Option<f32>,
    /// Slope of the leaky ReLU on the output: 0 is the ReLU, `None` no activation.
    pub slope: Option<f32>,
}

/// The normalisation; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when the vectors do not have one number per channel.
pub fn batchnorm(tape: &mut Tape<'_>, views: &[Var], gamma: Var, beta: Var, config: Batchnorm) -> Result<Var> {
    let _range = tape.op_range(c"batchnorm_forward");
    let c = common_channels(tape, OP, views)?;
    let lens = [tape.shape(gamma).len(), tape.shape(beta).len(), config.running[0].len, config.running[1].len];
    if lens != [c; 4] {
        return Err(Error::shape(OP, format!("vectors of {c} channels"), format!("{lens:?}")));
    }
    let needs_grad = views.iter().copied().chain([gamma, beta]).any(|v| tape.needs_grad(v));
    let shape = tape.shape(views[0]).with_channels(c);
    let y = tape.alloc(shape, needs_grad)?;
    // Mean and 1/std as used, for the backward pass.
    let statistics = tape.alloc(crate::tensor::Shape::vector(2 * c), false)?;
    let node = BatchnormNode { views: views.to_vec(), gamma, beta, statistics, y, config };
    let operands = node.operands(tape);
    let yt = tape.tensor(y).span;
    tape.compute(
        |claims, device| {
            cpu::batchnorm_forward(device, claims, &operands, &config, claims.write(yt));
        },
        |device| cuda::batchnorm_forward(device, &operands, &config),
    )?;
    let saved: Vec<Var> = views.iter().copied().chain([gamma, beta, statistics, y]).collect();
    if tape.is_writing() {
        write_down(tape, views, (gamma, beta), &config, y)?;
    }
    tape.record(node, y, &saved);
    tape.release(statistics);
    Ok(y)
}

fn write_down(tape: &mut Tape<'_>, views: &[Var], (gamma, beta): (Var, Var), config: &Batchnorm, y: Var) -> Result<()> {
    let shape = tape.shape(y);
    let x = written::concatenation(tape, views)?;
    let spans = [tape.tensor(gamma).span, tape.tensor(beta).span, config.running[0], config.running[1]];
    let mut vector = |span| tape.constant(span, vec![shape.c], 0..shape.c, 1.0);
    let [gamma, beta, mean, var] = [vector(spans[0])?, vector(spans[1])?, vector(spans[2])?, vector(spans[3])?];
    let normalised =
        tape.write_value(Operation::BatchNorm { gamma, beta, mean, var, epsilon: EPSILON }, vec![x], shape);
    written::finished(tape, normalised, config.slope, false, y)
}

struct BatchnormNode {
    views: Vec<Var>,
    gamma: Var,
    beta: Var,
    statistics: Var,
    y: Var,
    config: Batchnorm,
}

/// Where the operands lie.
struct Operands {
    views: Vec<Tensor>,
    gamma: Span,
    beta: Span,
    statistics: Span,
    y: Tensor,
}

impl BatchnormNode {
    fn operands(&self, tape: &Tape<'_>) -> Operands {
        Operands {
            views: self.views.iter().map(|&v| tape.tensor(v)).collect(),
            gamma: tape.tensor(self.gamma).span,
            beta: tape.tensor(self.beta).span,
            statistics: tape.tensor(self.statistics).span,
            y: tape.tensor(self.y),
        }
    }
}

impl Backward for BatchnormNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"batchnorm_backward");
        let gy = tape.grad(self.y)?;
        let operands = self.operands(tape);
        let vectors = [tape.grad_accumulator(self.gamma)?, tape.grad_accumulator(self.beta)?];
        let targets: Vec<Option<GradTarget>> =
            self.views.iter().map(|&v| tape.grad_target(v)).collect::<Result<_>>()?;
        tape.compute(
            |claims, device| {
                cpu::batchnorm_backward(device, claims, &operands, &self.config, gy, vectors, &targets);
            },
            |device| cuda::batchnorm_backward(device, &operands, &self.config, gy, vectors, &targets),
        )?;
        Ok(())
    }
}
