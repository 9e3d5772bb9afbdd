//! `y[k] = act(scale * sum over c, t, r, s of w[k][c][t][r][s] * x[c] shifted by (t, r, s))`
//!
//! | buffer | shape |
//! |---|---|
//! | x | [C, D, H, W, N] |
//! | w | a stored filter [K', C', T, R, S], written as one of pictures with T*R rows; its first K and C/G channels are used |
//! | scale | one number (1/||w|| of a weight-normalised filter), or none |
//! | y | [K, D, H, W, N] |
//!
//! conv2d for volumes: stride 1, zero padding to the same size, groups, dilation and odd kernels, the same destinations
//! and gradients (Brock et al. 2018, section 4.3). A volume may be one slice deep. On the CPU it is a sum of 2-D
//! convolutions, one for each layer t of the filter, from slice to slice.

pub mod checks;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::backend::Kind;
use crate::backend::cpu::{Direction, Filter, filter_gradient_workspace};
use crate::backend::cuda::FilterTarget;
use crate::error::{Error, Result};
use crate::ops::conv2d::Output;
use crate::ops::{check_filter, output_gradient, written};
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;

const OP: &str = "conv3d";

/// Everything about a convolution but its operands.
#[derive(Clone, Copy, Debug)]
pub struct Conv3d {
    /// The used channels of the stored filter, and the groups; its kernel is [T*R, S].
    pub filter: Filter,
    /// T: layers of the filter.
    pub layers: usize,
    /// Distance of taps in slices, rows and columns, in pixels.
    pub dilation: [usize; 3],
    /// Slope of the leaky ReLU on the output: 0 is the ReLU, `None` no activation.
    pub slope: Option<f32>,
    /// Destination.
    pub output: Output,
}

impl Conv3d {
    /// The filter of layer `t`, from slice to slice.
    fn layer(&self, t: usize) -> Filter {
        self.filter.layer(t, self.layers)
    }

    /// Are all extents of the kernel odd, and nothing dilated by 0?
    fn is_centred(&self) -> bool {
        let [rows, columns] = self.filter.kernel;
        // A product of odd numbers is odd, and no other is.
        let odd = rows % 2 == 1 && columns % 2 == 1;
        odd && self.layers > 0 && rows.is_multiple_of(self.layers) && !self.dilation.contains(&0)
    }
}

/// The convolution; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when channels, filter and destination do not fit together.
pub fn conv3d(tape: &mut Tape<'_>, x: Var, w: Var, scale: Option<Var>, config: Conv3d) -> Result<Var> {
    let _range = tape.op_range(c"conv3d_forward");
    let filter = config.filter;
    let shape = tape.shape(x);
    if shape.c != filter.inputs() {
        return Err(Error::shape(OP, format!("{} input channels", filter.inputs()), shape));
    }
    if !config.is_centred() {
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
            cpu::conv3d_forward(device, &operands, &config, claims.write(yt.span), add);
        },
        |device| {
            let operands = cuda::Operands { w: wt.span, scale: st.map(|t| t.span), workspace };
            cuda::conv3d_forward(device, &operands, &config, xt, yt.span, add)
        },
    )?;
    tape.free(workspace);
    let saved: Vec<Var> = [Some(x), Some(w), scale, config.slope.map(|_| y)].into_iter().flatten().collect();
    if tape.is_writing() {
        let window = written::Window { w, scale, filter, layers: Some(config.layers) };
        written::body_filter(tape, x, window, &config.dilation, (config.slope, add), y)?;
    }
    tape.record(Conv3dNode { x, w, scale, y, config }, y, &saved);
    Ok(y)
}

/// Workspace of the forward pass or the data gradient; `shape` is that of x.
fn workspace(tape: &Tape<'_>, config: &Conv3d, direction: Direction, shape: Shape) -> usize {
    match tape.kind() {
        Kind::Cpu => cpu::workspace(config, direction),
        Kind::Cuda => cuda::workspace(config, direction, shape),
    }
}

struct Conv3dNode {
    x: Var,
    w: Var,
    scale: Option<Var>,
    y: Var,
    config: Conv3d,
}

impl Backward for Conv3dNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"conv3d_backward");
        let config = &self.config;
        let gy = output_gradient(tape, self.y, config.slope)?;
        let (x, w) = (tape.tensor(self.x), tape.tensor(self.w));
        let scale = self.scale.map(|s| tape.tensor(s).span);
        if let Some(gw) = tape.grad_accumulator(self.w)? {
            let gscale = self.scale.map(|s| tape.grad_accumulator(s)).transpose()?.flatten();
            let len = match tape.kind() {
                Kind::Cpu => filter_gradient_workspace(config.layer(0)),
                Kind::Cuda => cuda::weight_workspace(config, x.shape),
            };
            let workspace = tape.workspace(len)?;
            tape.compute(
                |claims, device| {
                    let operands = cpu::Operands { claims, x, w, scale, workspace };
                    let product =
                        cpu::conv3d_backward_weight(device, &operands, config, claims.read(gy), claims.write(gw));
                    if let Some(gscale) = gscale {
                        claims.write(gscale)[0] += product;
                    }
                },
                |device| {
                    let target = FilterTarget { w: w.span, scale, gw, gscale };
                    cuda::conv3d_backward_weight(device, config, x, gy, &target, workspace)
                },
            )?;
            tape.free(workspace);
        }
        if let Some(gx) = tape.grad_target(self.x)? {
            let workspace = tape.workspace(workspace(tape, config, Direction::Backward, x.shape))?;
            tape.compute(
                |claims, device| {
                    let operands = cpu::Operands { claims, x, w, scale, workspace };
                    cpu::conv3d_backward_data(
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
                    cuda::conv3d_backward_data(device, &operands, config, gy, x.shape, gx)
                },
            )?;
            tape.free(workspace);
        }
        Ok(())
    }
}
