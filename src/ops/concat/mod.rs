//! y = the channels of all views, one after the other: [C_i, H, W, N] -> [sum of C_i, H, W, N].
//!
//! The plain reference for every op that reads a list of views in place; SMASH itself never
//! stores a concatenation.

pub mod checks;
#[cfg(test)]
mod tests;

use crate::error::Result;
use crate::ops::{common_channels, written};
use crate::tape::{Backward, Tape, Var};

const OP: &str = "concat";

/// The concatenation; see the module documentation.
///
/// # Errors
/// [`crate::Error::Shape`] when the views differ in size or batch.
pub fn concat(tape: &mut Tape<'_>, views: &[Var]) -> Result<Var> {
    let _range = tape.op_range(c"concat_forward");
    let channels = common_channels(tape, OP, views)?;
    let shape = tape.shape(views[0]).with_channels(channels);
    let y = tape.alloc(shape, views.iter().any(|&v| tape.needs_grad(v)))?;
    let target = tape.tensor(y).span;
    let mut start = 0;
    for source in views.iter().map(|&v| tape.tensor(v).span).collect::<Vec<_>>() {
        tape.accumulate(target.sub(start, source.len), source, false)?;
        start += source.len;
    }
    if tape.is_writing() {
        let joined = written::concatenation(tape, views)?;
        tape.stands_for(y, joined);
    }
    tape.record(ConcatNode { views: views.to_vec(), y }, y, &[]);
    Ok(y)
}

struct ConcatNode {
    views: Vec<Var>,
    y: Var,
}

impl Backward for ConcatNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"concat_backward");
        let gy = tape.grad(self.y)?;
        let mut start = 0;
        for &view in &self.views {
            let len = tape.shape(view).len();
            if let Some(gx) = tape.grad_target(view)? {
                tape.accumulate(gx.span, gy.sub(start, len), gx.add)?;
            }
            start += len;
        }
        Ok(())
    }
}
