//! `y[c][p][q]` = mean of the 2x2 window of `x[c]` at (2p, 2q): [C, H, W, N] -> [C, H/2, W/2, N].
//!
//! H and W are even.

pub mod checks;
mod cuda;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;

const OP: &str = "avg_pool";

/// 2x2 average pooling; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when H or W is odd.
pub fn avg_pool(tape: &mut Tape<'_>, x: Var) -> Result<Var> {
    let _range = tape.op_range(c"avg_pool_forward");
    let shape = tape.shape(x);
    if shape.h % 2 == 1 || shape.w % 2 == 1 {
        return Err(Error::shape(OP, "even height and width", shape));
    }
    let y = tape.alloc(Shape { h: shape.h / 2, w: shape.w / 2, ..shape }, tape.needs_grad(x))?;
    let (xt, tensor) = (tape.tensor(x).span, tape.tensor(y));
    let yt = tensor.span;
    tape.compute(
        |claims, cpu| {
            let (row, n) = (shape.w * shape.n, shape.n);
            let x = claims.read(xt);
            // One task per output row.
            cpu.pool.pieces(claims.write(yt), row / 2, |p, out| {
                let (upper, lower) = x[2 * p * row..][..2 * row].split_at(row);
                for (q, out) in out.chunks_mut(n).enumerate() {
                    let window = [
                        &upper[2 * q * n..],
                        &upper[(2 * q + 1) * n..],
                        &lower[2 * q * n..],
                        &lower[(2 * q + 1) * n..],
                    ];
                    for (i, out) in out.iter_mut().enumerate() {
                        *out = 0.25 * ((window[0][i] + window[1][i]) + (window[2][i] + window[3][i]));
                    }
                }
            });
        },
        |device| cuda::avg_pool_forward(device, xt, tensor),
    )?;
    tape.record(AvgPoolNode { x, y }, y, &[]);
    Ok(y)
}

struct AvgPoolNode {
    x: Var,
    y: Var,
}

impl Backward for AvgPoolNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"avg_pool_backward");
        let gy = tape.grad(self.y)?;
        let (shape, pooled) = (tape.shape(self.x), tape.shape(self.y));
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, cpu| {
                    let (row, n) = (shape.w * shape.n, shape.n);
                    let gy = claims.read(gy);
                    // One task per input row.
                    cpu.pool.pieces(claims.write(gx.span), row, |h, out| {
                        let gy = &gy[h / 2 * (row / 2)..][..row / 2];
                        for (w, out) in out.chunks_mut(n).enumerate() {
                            for (out, &g) in out.iter_mut().zip(&gy[w / 2 * n..]) {
                                *out = if gx.add { *out + 0.25 * g } else { 0.25 * g };
                            }
                        }
                    });
                },
                |device| cuda::avg_pool_backward(device, gy, gx, pooled),
            )?;
        }
        Ok(())
    }
}
