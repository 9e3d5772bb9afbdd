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
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::backend::Span;
use crate::error::{Error, Result};
use crate::tape::computation::Operation;
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
    if shape.pixels() != 1 || stored < shape.c || stored * k_len != tape.shape(w).len() {
        return Err(Error::shape(OP, format!("[C <= {stored}, 1, 1, N] and {k_len} rows"), shape));
    }
    let needs_grad = [x, w, b].iter().any(|&v| tape.needs_grad(v));
    let y = tape.alloc(shape.with_channels(k_len), needs_grad)?;
    let node = LinearNode { x, w, b, y };
    let operands = node.operands(tape);
    let [bt, yt] = [b, y].map(|v| tape.tensor(v).span);
    tape.compute(
        |claims, device| cpu::linear_forward(device, claims, &operands, bt, yt),
        |device| cuda::linear_forward(device, &operands, bt, yt),
    )?;
    if tape.is_writing() {
        write_down(tape, &node, stored)?;
    }
    tape.record(node, y, &[x, w]);
    Ok(y)
}

fn write_down(tape: &mut Tape<'_>, node: &LinearNode, stored: usize) -> Result<()> {
    let (k_len, c_len) = (tape.shape(node.y).c, tape.shape(node.x).c);
    let [w, b] = [node.w, node.b].map(|v| tape.tensor(v).span);
    let picked = (0..k_len).flat_map(|k| (0..c_len).map(move |c| k * stored + c));
    let w = tape.constant(w, vec![k_len, c_len], picked, 1.0)?;
    let b = tape.constant(b, vec![k_len], 0..k_len, 1.0)?;
    tape.write_down(Operation::Linear { w, b }, &[node.x], node.y)
}

struct LinearNode {
    x: Var,
    w: Var,
    b: Var,
    y: Var,
}

/// What all passes read, and its extents.
#[derive(Clone, Copy)]
struct Operands {
    x: Span,
    w: Span,
    /// Rows of x: C.
    channels: usize,
    /// Columns of the stored matrix: C'.
    stored: usize,
    /// Rows of w: K.
    classes: usize,
    /// N.
    batch: usize,
}

impl LinearNode {
    fn operands(&self, tape: &Tape<'_>) -> Operands {
        let (x, w, classes) = (tape.tensor(self.x), tape.tensor(self.w).span, tape.shape(self.y).c);
        let stored = w.len / classes.max(1);
        Operands { x: x.span, w, channels: x.shape.c, stored, classes, batch: x.shape.n }
    }
}

impl Backward for LinearNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"linear_backward");
        let gy = tape.grad(self.y)?;
        let operands = self.operands(tape);
        if let Some(gw) = tape.grad_accumulator(self.w)? {
            tape.compute(
                |claims, device| cpu::linear_backward_weight(device, claims, &operands, gy, gw),
                |device| cuda::linear_backward_weight(device, &operands, gy, gw),
            )?;
        }
        if let Some(gb) = tape.grad_accumulator(self.b)? {
            tape.compute(
                |claims, _| cpu::linear_backward_bias(claims, &operands, gy, gb),
                |device| cuda::linear_backward_bias(device, &operands, gy, gb),
            )?;
        }
        if let Some(gx) = tape.grad_target(self.x)? {
            tape.compute(
                |claims, device| cpu::linear_backward_data(device, claims, &operands, gy, gx),
                |device| cuda::linear_backward_data(device, &operands, gy, gx),
            )?;
        }
        Ok(())
    }
}
