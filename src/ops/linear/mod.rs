//! `y[k][n] = b[k] + sum over c of w[k][c] * x[c][n]`
//!
//! | buffer | shape |
//! |---|---|
//! | x | [C, 1, 1, N] |
//! | w | a stored matrix [K, C'] of which the first C <= C' columns are used |
//! | b | K numbers |
//! | y | [K, 1, 1, N] |
//!
//! The classifier: K is the number of classes. It is far too small to deserve tiles.

pub mod checks;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::{Backward, Tape, Var};

const OP: &str = "linear";

/// The affine map; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when the matrix is not K times at least C.
pub fn linear(tape: &mut Tape<'_>, x: Var, w: Var, b: Var) -> Result<Var> {
    let _range = tape.op_range(c"linear_forward");
    let shape = tape.shape(x);
    let k_len = tape.shape(b).len();
    let stored = tape.shape(w).len() / k_len.max(1);
    if shape.h * shape.w != 1 || stored < shape.c || stored * k_len != tape.shape(w).len() {
        return Err(Error::shape(OP, format!("[C <= {stored}, 1, 1, N] and {k_len} rows"), shape));
    }
    let needs_grad = [x, w, b].iter().any(|&v| tape.needs_grad(v));
    let y = tape.alloc(shape.with_channels(k_len), needs_grad)?;
    let [xt, wt, bt, yt] = [x, w, b, y].map(|v| tape.tensor(v).span);
    tape.compute(
        |claims, cpu| {
            let (x, w, b) = (claims.read(xt), claims.read(wt), claims.read(bt));
            cpu.pool.pieces(claims.write(yt), shape.n, |k, y| {
                y.fill(b[k]);
                for (row, &w) in x.chunks(shape.n).zip(&w[k * stored..]) {
                    for (y, &x) in y.iter_mut().zip(row) {
                        *y += w * x;
                    }
                }
            });
        },
        |_cuda| todo!("cuda"),
    )?;
    tape.record(LinearNode { x, w, b, y }, y, &[x, w]);
    Ok(y)
}

struct LinearNode {
    x: Var,
    w: Var,
    b: Var,
    y: Var,
}

impl Backward for LinearNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"linear_backward");
        let gy = tape.grad(self.y)?;
        let (xt, wt) = (tape.tensor(self.x), tape.tensor(self.w).span);
        let n = xt.shape.n;
        let stored = wt.len / tape.shape(self.y).c;
        if let Some(gw) = tape.grad_accumulator(self.w)? {
            tape.compute(
                |claims, cpu| {
                    let (gy, x) = (claims.read(gy), claims.read(xt.span));
                    cpu.pool.pieces(claims.write(gw), stored, |k, gw| {
                        for (gw, x) in gw.iter_mut().zip(x.chunks(n)) {
                            *gw += gy[k * n..][..n].iter().zip(x).map(|(g, x)| g * x).sum::<f32>();
                        }
                    });
                },
                |_cuda| todo!("cuda"),
            )?;
        }
        if let Some(gb) = tape.grad_accumulator(self.b)? {
            tape.compute(
                |claims, _| {
                    for (gb, gy) in claims.write(gb).iter_mut().zip(claims.read(gy).chunks(n)) {
                        *gb += gy.iter().sum::<f32>();
                    }
                },
                |_cuda| todo!("cuda"),
            )?;
        }
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, cpu| {
                    let (gy, w) = (claims.read(gy), claims.read(wt));
                    cpu.pool.pieces(claims.write(gx.span), n, |c, out| {
                        if !gx.add {
                            out.fill(0.0);
                        }
                        for (gy, w) in gy.chunks(n).zip(w[c..].iter().step_by(stored)) {
                            for (out, &g) in out.iter_mut().zip(gy) {
                                *out += w * g;
                            }
                        }
                    });
                },
                |_cuda| todo!("cuda"),
            )?;
        }
        Ok(())
    }
}
