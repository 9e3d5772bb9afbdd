//! `y[c][p][q]` = mean of the 2x2 window of `x[c]` at (2p, 2q): [C, H, W, N] -> [C, H/2, W/2, N]. Of volumes it is
//! the 2x2x2 window: [C, D, H, W, N] -> [C, D/2, H/2, W/2, N].
//!
//! H and W are even, and D is even or 1.

pub mod checks;
mod cuda;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::computation::Operation;
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;

const OP: &str = "avg_pool";

/// Average pooling by two along each axis; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when an extent is odd, but for a depth of 1.
pub fn avg_pool(tape: &mut Tape<'_>, x: Var) -> Result<Var> {
    let _range = tape.op_range(c"avg_pool_forward");
    let shape = tape.shape(x);
    let slices = window_slices(shape);
    if shape.h % 2 == 1 || shape.w % 2 == 1 || shape.d % slices == 1 {
        let expected = if shape.d == 1 { "even height and width" } else { "even depth, height and width" };
        return Err(Error::shape(OP, expected, shape));
    }
    let pooled = Shape { d: shape.d / slices, h: shape.h / 2, w: shape.w / 2, ..shape };
    let y = tape.alloc(pooled, tape.needs_grad(x))?;
    let (xt, tensor) = (tape.tensor(x).span, tape.tensor(y));
    let yt = tensor.span;
    tape.compute(
        |claims, cpu| {
            let x = claims.read(xt);
            // One task per output row.
            cpu.pool.pieces(claims.write(yt), pooled.w * pooled.n, |row, out| pool_row(shape, row, x, out));
        },
        |device| cuda::avg_pool_forward(device, xt, tensor, slices),
    )?;
    tape.write_down(Operation::AvgPool, &[x], y)?;
    tape.record(AvgPoolNode { x, y }, y, &[]);
    Ok(y)
}

/// Slices of a window in `shape`.
fn window_slices(shape: Shape) -> usize {
    if shape.d == 1 { 1 } else { 2 }
}

/// Output row `row`, counted over all channels and slices, of x of `shape`.
fn pool_row(shape: Shape, row: usize, x: &[f32], out: &mut [f32]) {
    let (row_len, n, slices) = (shape.w * shape.n, shape.n, window_slices(shape));
    let (slice, p) = (row / (shape.h / 2), row % (shape.h / 2));
    let scale = 0.25 / slices as f32;
    for s in 0..slices {
        let start = ((slice * slices + s) * shape.h + 2 * p) * row_len;
        let (upper, lower) = x[start..][..2 * row_len].split_at(row_len);
        for (q, out) in out.chunks_mut(n).enumerate() {
            let [left, right] = [2 * q * n, (2 * q + 1) * n];
            let window = [&upper[left..], &upper[right..], &lower[left..], &lower[right..]];
            for (i, out) in out.iter_mut().enumerate() {
                let mean = scale * ((window[0][i] + window[1][i]) + (window[2][i] + window[3][i]));
                *out = if s == 0 { mean } else { *out + mean };
            }
        }
    }
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
        let slices = window_slices(shape);
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, cpu| {
                    let (row_len, n, scale) = (shape.w * shape.n, shape.n, 0.25 / slices as f32);
                    let gy = claims.read(gy);
                    // One task per input row.
                    cpu.pool.pieces(claims.write(gx.span), row_len, |row, out| {
                        let (slice, h) = (row / shape.h / slices, row % shape.h);
                        let gy = &gy[(slice * pooled.h + h / 2) * (row_len / 2)..][..row_len / 2];
                        for (w, out) in out.chunks_mut(n).enumerate() {
                            for (out, &g) in out.iter_mut().zip(&gy[w / 2 * n..]) {
                                *out = if gx.add { *out + scale * g } else { scale * g };
                            }
                        }
                    });
                },
                |device| cuda::avg_pool_backward(device, gy, gx, pooled, slices),
            )?;
        }
        Ok(())
    }
}
