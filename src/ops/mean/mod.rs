//! y = (x_1 + ... + x_k) / k, all of one shape: where columns of a FractalNet join.

pub mod checks;
mod cuda;
#[cfg(test)]
mod tests;

use crate::backend::Span;
use crate::backend::cpu::map;
use crate::error::{Error, Result};
use crate::tape::computation::Operation;
use crate::tape::{Backward, Tape, Var};

const OP: &str = "mean";

/// The mean; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when there is nothing to take it of, or the shapes differ.
pub fn mean(tape: &mut Tape<'_>, inputs: &[Var]) -> Result<Var> {
    let _range = tape.op_range(c"mean_forward");
    let Some(&first) = inputs.first() else {
        return Err(Error::shape(OP, "at least one input", "none"));
    };
    let shape = tape.shape(first);
    if let Some(&other) = inputs.iter().find(|&&x| tape.shape(x) != shape) {
        return Err(Error::shape(OP, shape, tape.shape(other)));
    }
    let y = tape.alloc(shape, inputs.iter().any(|&x| tape.needs_grad(x)))?;
    let (yt, share) = (tape.tensor(y).span, 1.0 / inputs.len() as f32);
    for (i, &x) in inputs.iter().enumerate() {
        let xt = tape.tensor(x).span;
        add_share(tape, "forward", xt, yt, share, i > 0)?;
    }
    tape.write_down(Operation::Mean, inputs, y)?;
    tape.record(MeanNode { inputs: inputs.to_vec(), y }, y, &[]);
    Ok(y)
}

/// to (+)= share * from.
fn add_share(tape: &mut Tape<'_>, pass: &'static str, from: Span, to: Span, share: f32, add: bool) -> Result<()> {
    tape.compute(
        |claims, cpu| map(cpu, claims.write(to), [claims.read(from)], add, move |[x]| share * x),
        |device| cuda::add_share(device, pass, from, to, share, add),
    )
}

struct MeanNode {
    inputs: Vec<Var>,
    y: Var,
}

impl Backward for MeanNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"mean_backward");
        let (gy, share) = (tape.grad(self.y)?, 1.0 / self.inputs.len() as f32);
        for &x in &self.inputs {
            if let Some(gx) = tape.grad_target(x)? {
                add_share(tape, "backward", gy, gx.span, share, gx.add)?;
            }
        }
        Ok(())
    }
}
