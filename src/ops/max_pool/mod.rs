//! `y[c][p][q]` = max of the 2x2 window of `x[c]` at (2p, 2q): [C, H, W, N] -> [C, H/2, W/2, N].
//!
//! The gradient goes to the first largest number of the window, row by row; the others get 0. A window with NaN in it
//! is NaN. H and W are even; volumes are not taken.

pub mod checks;
mod cuda;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::computation::Operation;
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;

const OP: &str = "max_pool";

/// The largest of every 2x2 pixels; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when H or W is odd, or x holds volumes.
pub fn max_pool(tape: &mut Tape<'_>, x: Var) -> Result<Var> {
    let _range = tape.op_range(c"max_pool_forward");
    let shape = tape.shape(x);
    if shape.d != 1 || shape.h % 2 == 1 || shape.w % 2 == 1 {
        return Err(Error::shape(OP, "pictures of even height and width", shape));
    }
    let y = tape.alloc(Shape { h: shape.h / 2, w: shape.w / 2, ..shape }, tape.needs_grad(x))?;
    let (xt, tensor) = (tape.tensor(x).span, tape.tensor(y));
    let yt = tensor.span;
    tape.compute(
        |claims, cpu| {
            let x = claims.read(xt);
            // One task per output row; channel and row are one index, as a channel of x has two rows for each of y.
            cpu.pool.pieces(claims.write(yt), shape.w / 2 * shape.n, |p, out| {
                let rows = &x[2 * p * shape.w * shape.n..][..2 * shape.w * shape.n];
                for (i, out) in out.iter_mut().enumerate() {
                    *out = rows[largest(rows, i, shape)];
                }
            });
        },
        |device| cuda::max_pool_forward(device, xt, tensor),
    )?;
    tape.write_down(Operation::MaxPool, &[x], y)?;
    tape.record(MaxPoolNode { x, y }, y, &[x]);
    Ok(y)
}

/// Where in two rows of x the largest number of the window of output number `i` is.
#[inline]
fn largest(rows: &[f32], i: usize, shape: Shape) -> usize {
    let (q, image) = (i / shape.n, i % shape.n);
    let corner = 2 * q * shape.n + image;
    let below = corner + shape.w * shape.n;
    let mut best = corner;
    for at in [corner + shape.n, below, below + shape.n] {
        if rows[at] > rows[best] || rows[at].is_nan() {
            best = at;
        }
    }
    best
}

struct MaxPoolNode {
    x: Var,
    y: Var,
}

impl Backward for MaxPoolNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"max_pool_backward");
        let gy = tape.grad(self.y)?;
        let (x, shape) = (tape.tensor(self.x).span, tape.shape(self.x));
        let pooled = tape.shape(self.y);
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, cpu| {
                    let (x, gy) = (claims.read(x), claims.read(gy));
                    let (two_rows, row_len) = (2 * shape.w * shape.n, shape.w / 2 * shape.n);
                    // One task per two rows of gx, which are those of one row of gy.
                    cpu.pool.pieces(claims.write(gx.span), two_rows, |p, out| {
                        if !gx.add {
                            out.fill(0.0);
                        }
                        let rows = &x[p * two_rows..][..two_rows];
                        for (i, g) in gy[p * row_len..][..row_len].iter().enumerate() {
                            out[largest(rows, i, shape)] += g;
                        }
                    });
                },
                |device| cuda::max_pool_backward(device, x, gy, gx, pooled),
            )?;
        }
        Ok(())
    }
}
