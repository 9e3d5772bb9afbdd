//! `y[c][p][q]` = `x[c]` at (2p, 2q), every second pixel: [C, H, W, N] -> [C, H/2, W/2, N].
//!
//! A convolution followed by it is one of stride 2, whose taps surround pixels (2p, 2q): the stem of a network for
//! large pictures. H and W are even; volumes are not taken.

pub mod checks;
mod cuda;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::computation::Operation;
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;

const OP: &str = "subsample";

/// Every second pixel of every second row; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when H or W is odd, or x holds volumes.
pub fn subsample(tape: &mut Tape<'_>, x: Var) -> Result<Var> {
    let _range = tape.op_range(c"subsample_forward");
    let shape = tape.shape(x);
    if shape.d != 1 || shape.h % 2 == 1 || shape.w % 2 == 1 {
        return Err(Error::shape(OP, "pictures of even height and width", shape));
    }
    let y = tape.alloc(Shape { h: shape.h / 2, w: shape.w / 2, ..shape }, tape.needs_grad(x))?;
    let (xt, tensor) = (tape.tensor(x).span, tape.tensor(y));
    let yt = tensor.span;
    tape.compute(
        |claims, cpu| {
            let (row_len, n) = (shape.w * shape.n, shape.n);
            let x = claims.read(xt);
            // One task per output row.
            cpu.pool.pieces(claims.write(yt), row_len / 2, |p, out| {
                let row = x[2 * p * row_len..][..row_len].chunks(n).step_by(2);
                out.chunks_mut(n).zip(row).for_each(|(out, x)| out.copy_from_slice(x));
            });
        },
        |device| cuda::subsample_forward(device, xt, tensor),
    )?;
    tape.write_down(Operation::Subsample, &[x], y)?;
    tape.record(SubsampleNode { x, y }, y, &[]);
    Ok(y)
}

struct SubsampleNode {
    x: Var,
    y: Var,
}

impl Backward for SubsampleNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"subsample_backward");
        let gy = tape.grad(self.y)?;
        let shape = tape.shape(self.x);
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, cpu| {
                    let (row_len, n) = (shape.w * shape.n, shape.n);
                    let gy = claims.read(gy);
                    // One task per input row.
                    cpu.pool.pieces(claims.write(gx.span), row_len, |h, out| {
                        if !gx.add {
                            out.fill(0.0);
                        }
                        if h % 2 == 0 {
                            let gy = gy[h / 2 * (row_len / 2)..][..row_len / 2].chunks(n);
                            for (out, gy) in out.chunks_mut(n).step_by(2).zip(gy) {
                                out.iter_mut().zip(gy).for_each(|(out, g)| *out += g);
                            }
                        }
                    });
                },
                |device| cuda::subsample_backward(device, gy, gx, shape),
            )?;
        }
        Ok(())
    }
}
