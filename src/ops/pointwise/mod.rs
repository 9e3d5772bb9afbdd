//! `y[k] = scale * sum over the channels c of all views of w[k][c] * f(x[c])`,  f = ReLU or identity
//!
//! | buffer | shape |
//! |---|---|
//! | views | any number of [C_i, H, W, N]: memory banks, read in place and in order |
//! | w | [K, C] of a stored filter [K', C'] with K' >= K, C' >= C = sum of C_i |
//! | scale | one number (1/||w||), or none |
//! | y | [K, H, W, N], with a (leaky) ReLU if `slope` is set |
//!
//! A 1x1 convolution is one matrix product over all pixels of the batch. Neither the
//! concatenation of the banks nor their ReLU nor the normalised filter is ever stored
//! (Brock et al. 2018, sections 3.1 and 3.2).

pub mod checks;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::backend::cpu::{Direction, Filter, PackedFilter, filter_gradient_workspace};
use crate::backend::cuda::FilterTarget;
use crate::backend::{Kind, Span};
use crate::error::{Error, Result};
use crate::ops::{check_filter, common_channels, output_gradient, written};
use crate::tape::{Backward, GradTarget, Tape, Var};
use crate::tensor::Tensor;

const OP: &str = "pointwise";

/// Everything about a pointwise convolution but its operands.
#[derive(Clone, Copy, Debug)]
pub struct Pointwise {
    /// The used rows and columns of the stored filter; one group, kernel 1x1.
    pub filter: Filter,
    /// Apply ReLU to the input as it is read.
    pub relu: bool,
    /// Slope of the leaky ReLU on the output: 0 is the ReLU, `None` no activation.
    pub slope: Option<f32>,
}

/// The pointwise convolution; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when the views do not fit together or with the filter, or the scale not with it.
pub fn pointwise(tape: &mut Tape<'_>, views: &[Var], w: Var, scale: Option<Var>, config: Pointwise) -> Result<Var> {
    let _range = tape.op_range(c"pointwise_forward");
    let filter = config.filter;
    let channels = common_channels(tape, OP, views)?;
    if channels != filter.inputs() || filter.groups != 1 || filter.taps() != 1 {
        return Err(Error::shape(OP, format!("{channels} input channels, 1x1"), format!("{filter:?}")));
    }
    check_filter(tape, OP, w, scale, filter)?;
    let needs_grad = views.iter().copied().chain([w]).chain(scale).any(|v| tape.needs_grad(v));
    let y = tape.alloc(tape.shape(views[0]).with_channels(filter.outputs()), needs_grad)?;
    let plane = tape.shape(views[0]).plane();
    let workspace = tape.workspace(workspace(tape, filter, Direction::Forward, plane))?;
    let node = PointwiseNode { views: views.to_vec(), w, scale, y, config };
    let (tensors, yt) = (node.tensors(tape), tape.tensor(y));
    tape.compute(
        |claims, device| {
            cpu::pointwise_forward(device, claims, &tensors, &config, workspace, claims.write(yt.span));
        },
        |device| cuda::pointwise_forward(device, &tensors, &config, workspace, yt.span),
    )?;
    tape.free(workspace);
    let saved: Vec<Var> = views.iter().copied().chain([w]).chain(scale).chain(config.slope.map(|_| y)).collect();
    if tape.is_writing() {
        write_down(tape, views, (w, scale), &config, y)?;
    }
    tape.record(node, y, &saved);
    Ok(y)
}

fn write_down(
    tape: &mut Tape<'_>,
    views: &[Var],
    (w, scale): (Var, Option<Var>),
    config: &Pointwise,
    y: Var,
) -> Result<()> {
    let shape = tape.shape(y);
    let volume = tape.writes_volumes();
    let window = written::Window { w, scale, filter: config.filter, layers: volume.then_some(1) };
    let x = written::concatenation(tape, views)?;
    let x = written::rectified(tape, x, config.relu.then_some(0.0), shape.with_channels(config.filter.inputs()));
    let convolved = written::convolution(tape, x, window, &[1; 3][usize::from(!volume)..], shape)?;
    written::finished(tape, convolved, config.slope, false, y)
}

/// Workspace of the forward pass or the data gradient.
fn workspace(tape: &Tape<'_>, filter: Filter, direction: Direction, plane: usize) -> usize {
    match tape.kind() {
        Kind::Cpu => PackedFilter::workspace(filter, direction),
        Kind::Cuda => cuda::workspace(filter, direction, plane),
    }
}

struct PointwiseNode {
    views: Vec<Var>,
    w: Var,
    scale: Option<Var>,
    y: Var,
    config: Pointwise,
}

/// The tensors of the operands.
struct Operands {
    views: Vec<Tensor>,
    w: Tensor,
    scale: Option<Tensor>,
}

impl PointwiseNode {
    fn tensors(&self, tape: &Tape<'_>) -> Operands {
        Operands {
            views: self.views.iter().map(|&v| tape.tensor(v)).collect(),
            w: tape.tensor(self.w),
            scale: self.scale.map(|s| tape.tensor(s)),
        }
    }
}

impl PointwiseNode {
    /// Where the gradient of each view goes. The kernels compute all of them, so that of a constant beside others
    /// goes to scratch memory, which is returned too.
    fn targets(&self, tape: &mut Tape<'_>) -> Result<(Vec<GradTarget>, Vec<Span>)> {
        let (mut targets, mut scratch) = (Vec::with_capacity(self.views.len()), Vec::new());
        for &view in &self.views {
            targets.push(match tape.grad_target(view)? {
                Some(target) => target,
                None => {
                    let span = tape.workspace(tape.shape(view).len())?;
                    scratch.push(span);
                    GradTarget { span, add: false }
                }
            });
        }
        Ok((targets, scratch))
    }
}

impl Backward for PointwiseNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"pointwise_backward");
        let (config, filter) = (&self.config, self.config.filter);
        let gy = output_gradient(tape, self.y, config.slope)?;
        let tensors = self.tensors(tape);
        let plane = tensors.views[0].shape.plane();
        if let Some(gw) = tape.grad_accumulator(self.w)? {
            let gscale = self.scale.map(|s| tape.grad_accumulator(s)).transpose()?.flatten();
            let len = match tape.kind() {
                Kind::Cpu => filter_gradient_workspace(filter),
                Kind::Cuda => cuda::weight_workspace(filter, plane),
            };
            let workspace = tape.workspace(len)?;
            tape.compute(
                |claims, device| {
                    let (gy, gw) = (claims.read(gy), claims.write(gw));
                    let product = cpu::pointwise_backward_weight(device, claims, &tensors, config, workspace, gy, gw);
                    if let Some(gscale) = gscale {
                        claims.write(gscale)[0] += product;
                    }
                },
                |device| {
                    let (w, scale) = (tensors.w.span, tensors.scale.map(|t| t.span));
                    let target = FilterTarget { w, scale, gw, gscale };
                    cuda::pointwise_backward_weight(device, &tensors, config, workspace, gy, &target)
                },
            )?;
            tape.free(workspace);
        }
        if self.views.iter().any(|&v| tape.needs_grad(v)) {
            let (targets, scratch) = self.targets(tape)?;
            let workspace = tape.workspace(workspace(tape, filter, Direction::Backward, plane))?;
            tape.compute(
                |claims, device| {
                    cpu::pointwise_backward_data(
                        device,
                        claims,
                        &tensors,
                        config,
                        workspace,
                        claims.read(gy),
                        &targets,
                    );
                },
                |device| cuda::pointwise_backward_data(device, &tensors, config, workspace, gy, &targets),
            )?;
            for span in scratch.into_iter().chain([workspace]) {
                tape.free(span);
            }
        }
        Ok(())
    }
}
