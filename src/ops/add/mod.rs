//! y = a + b, all of one shape. Writing to a memory bank adds to it: a new version of the bank.

pub mod checks;
mod cuda;
#[cfg(test)]
mod tests;

use crate::backend::cpu::map;
use crate::error::{Error, Result};
use crate::tape::computation::Operation;
use crate::tape::{Backward, Tape, Var};

const OP: &str = "add";

/// The sum; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ.
pub fn add(tape: &mut Tape<'_>, a: Var, b: Var) -> Result<Var> {
    let _range = tape.op_range(c"add_forward");
    let shape = tape.shape(a);
    if tape.shape(b) != shape {
        return Err(Error::shape(OP, shape, tape.shape(b)));
    }
    let y = tape.alloc(shape, tape.needs_grad(a) || tape.needs_grad(b))?;
    let (at, bt, yt) = (tape.tensor(a).span, tape.tensor(b).span, tape.tensor(y).span);
    tape.compute(
        |claims, cpu| map(cpu, claims.write(yt), [claims.read(at), claims.read(bt)], false, |[a, b]| a + b),
        |device| cuda::add_forward(device, at, bt, yt),
    )?;
    tape.write_down(Operation::Add, &[a, b], y)?;
    tape.record(AddNode { a, b, y }, y, &[]);
    Ok(y)
}

struct AddNode {
    a: Var,
    b: Var,
    y: Var,
}

impl Backward for AddNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"add_backward");
        let gy = tape.grad(self.y)?;
        for x in [self.a, self.b] {
            if let Some(gx) = tape.grad_target(x)? {
                tape.accumulate(gx.span, gy, gx.add)?;
            }
        }
        Ok(())
    }
}
