//! `y[k] = act(scale * sum over c, r, s of w[k][c][r][s] * x[c] shifted by (r, s))`
//!
//! | buffer | shape |
//! |---|---|
//! | x | [C, H, W, N] |
//! | w | a stored filter; the op uses the window that [`Filter`] describes |
//! | scale | one number (1/||w|| of a weight-normalised filter), or none |
//! | y | [K, H, W, N] |
//!
//! Stride 1, zero padding to the same size, groups, dilation and odd rectangular kernels.
//! The activation is a (leaky) ReLU of the output: every consumer in SMASH applies its ReLU
//! to what it reads, so it is applied once where it is written. Gradients are added into the
//! used window of gw only (Brock et al. 2018, section 3.1).

pub mod checks;
pub(in crate::ops) mod cpu;
pub(in crate::ops) mod cuda;
#[cfg(test)]
mod tests;

use crate::backend::Kind;
use crate::backend::cpu::{Direction, Filter, PackedFilter, filter_gradient_workspace};
use crate::backend::cuda::FilterTarget;
use crate::error::{Error, Result};
use crate::ops::{check_filter, output_gradient, written};
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;

const OP: &str = "conv2d";

/// Where the result of a convolution goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A new value.
    New,
    /// Channels of an existing value, which nothing else writes: a DenseNet's feature map.
    Into(Var),
    /// Added to a value that another convolution wrote without activation (its derivative would
    /// be taken from the sum): the second path of an op's body.
    AddTo(Var),
}

/// Everything about a convolution but its operands.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d {
    /// The used window of the stored filter, and the groups.
    pub filter: Filter,
    /// Distance of taps in rows and columns, in pixels.
    pub dilation: [usize; 2],
    /// Slope of the leaky ReLU on the output: 0 is the ReLU, `None` no activation.
    pub slope: Option<f32>,
    /// Destination.
    pub output: Output,
}

/// The convolution; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when channels, filter and destination do not fit together.
pub fn conv2d(tape: &mut Tape<'_>, x: Var, w: Var, scale: Option<Var>, config: Conv2d) -> Result<Var> {
    let _range = tape.op_range(c"conv2d_forward");
    let filter = config.filter;
    let shape = tape.shape(x);
    if shape.c != filter.inputs() || shape.d != 1 {
        return Err(Error::shape(OP, format!("{} input channels", filter.inputs()), shape));
    }
    if config.dilation.contains(&0) || filter.kernel.iter().any(|extent| extent.is_multiple_of(2)) {
        return Err(Error::shape(OP, "odd kernels and dilations of 1 and more", format!("{config:?}")));
    }
    check_filter(tape, OP, w, scale, filter)?;
    let y_shape = shape.with_channels(filter.outputs());
    let needs_grad = [Some(x), Some(w), scale].into_iter().flatten().any(|v| tape.needs_grad(v));
    let (y, add) = match config.output {
        Output::New => (tape.alloc(y_shape, needs_grad)?, false),
        Output::Into(y) => (y, false),
        Output::AddTo(y) => (y, true),
    };
    if tape.shape(y) != y_shape || (add && config.slope.is_some()) {
        return Err(Error::shape(OP, format!("a linear destination {y_shape}"), tape.shape(y)));
    }
    let workspace = tape.workspace(workspace(tape, &config, Direction::Forward, shape))?;
    let (xt, wt, yt, st) = (tape.tensor(x), tape.tensor(w), tape.tensor(y), scale.map(|s| tape.tensor(s)));
    tape.compute(
        |claims, device| {
            let operands = cpu::Operands { claims, x: xt, w: wt, scale: st.map(|t| t.span), workspace };
            cpu::conv2d_forward(device, &operands, &config, claims.write(yt.span), add);
        },
        |device| {
            let operands = cuda::Operands { w: wt.span, scale: st.map(|t| t.span), workspace };
            cuda::conv2d_forward(device, &operands, &config, xt, yt.span, add)
        },
    )?;
    tape.free(workspace);
    let saved: Vec<Var> = [Some(x), Some(w), scale, config.slope.map(|_| y)].into_iter().flatten().collect();
    if tape.is_writing() {
        let window = written::Window { w, scale, filter, layers: None };
        written::body_filter(tape, x, window, &config.dilation, (config.slope, add), y)?;
    }
    tape.record(Conv2dNode { x, w, scale, y, config }, y, &saved);
    Ok(y)
}

/// Workspace of the forward pass or the data gradient; `shape` is that of x.
fn workspace(tape: &Tape<'_>, config: &Conv2d, direction: Direction, shape: Shape) -> usize {
    match tape.kind() {
        Kind::Cpu => PackedFilter::workspace(config.filter, direction),
        Kind::Cuda => cuda::workspace(config, direction, shape),
    }
}

struct Conv2dNode {
    x: Var,
    w: Var,
    scale: Option<Var>,
    y: Var,
    config: Conv2d,
}

impl Backward for Conv2dNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"conv2d_backward");
        let config = &self.config;
        let gy = output_gradient(tape, self.y, config.slope)?;
        let (x, w) = (tape.tensor(self.x), tape.tensor(self.w));
        let scale = self.scale.map(|s| tape.tensor(s).span);
        if let Some(gw) = tape.grad_accumulator(self.w)? {
            let gscale = self.scale.map(|s| tape.grad_accumulator(s)).transpose()?.flatten();
            let len = match tape.kind() {
                Kind::Cpu => filter_gradient_workspace(config.filter),
                Kind::Cuda => cuda::weight_workspace(config, x.shape),
            };
            let workspace = tape.workspace(len)?;
            tape.compute(
                |claims, device| {
                    let operands = cpu::Operands { claims, x, w, scale, workspace };
                    let product =
                        cpu::conv2d_backward_weight(device, &operands, config, claims.read(gy), claims.write(gw));
                    if let Some(gscale) = gscale {
                        claims.write(gscale)[0] += product;
                    }
                },
                |device| {
                    let target = FilterTarget { w: w.span, scale, gw, gscale };
                    cuda::conv2d_backward_weight(device, config, x, gy, &target, workspace)
                },
            )?;
            tape.free(workspace);
        }
        if let Some(gx) = tape.grad_target(self.x)? {
            let workspace = tape.workspace(workspace(tape, config, Direction::Backward, x.shape))?;
            tape.compute(
                |claims, device| {
                    let operands = cpu::Operands { claims, x, w, scale, workspace };
                    cpu::conv2d_backward_data(
                        device,
                        &operands,
                        config,
                        claims.read(gy),
                        claims.write(gx.span),
                        gx.add,
                    );
                },
                |device| {
                    let operands = cuda::Operands { w: w.span, scale, workspace };
                    cuda::conv2d_backward_data(device, &operands, config, gy, x.shape, gx)
                },
            )?;
            tape.free(workspace);
        }
        Ok(())
    }
}
