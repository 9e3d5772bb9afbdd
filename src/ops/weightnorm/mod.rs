//! `scale[i] = 1 / ||w_i||_2` over each *whole* filter w_i: the "simplified WeightNorm" of
//! Brock et al. 2018, section 3.2, which has no learned gain.
//!
//! | buffer | shape |
//! |---|---|
//! | w | a vector that holds all filters of a network |
//! | ranges | (start, length) of each filter in it |
//! | scale | a vector, one factor per filter, for conv2d and pointwise to apply |
//!
//! One launch for all filters. A filter of zeros has no direction: its factor is 0, and so is
//! its gradient.

pub mod checks;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;
use std::ops::Range;

const OP: &str = "weightnorm";

/// The factors; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when a range leaves `w`.
pub fn weightnorm(tape: &mut Tape<'_>, w: Var, ranges: Vec<Range<usize>>) -> Result<Var> {
    let _range = tape.op_range(c"weightnorm_forward");
    let len = tape.shape(w).len();
    if let Some(range) = ranges.iter().find(|r| r.end > len) {
        return Err(Error::shape(OP, format!("filters within {len} weights"), format!("{range:?}")));
    }
    let scale = tape.alloc(Shape::vector(ranges.len()), tape.needs_grad(w))?;
    let (wt, st) = (tape.tensor(w).span, tape.tensor(scale).span);
    tape.compute(
        |claims, cpu| cpu::weightnorm_forward(cpu, claims.read(wt), &ranges, claims.write(st)),
        |device| cuda::weightnorm_forward(device, wt, &ranges, st),
    )?;
    tape.record(WeightnormNode { w, scale, ranges }, scale, &[w, scale]);
    Ok(scale)
}

struct WeightnormNode {
    w: Var,
    scale: Var,
    ranges: Vec<Range<usize>>,
}

impl Backward for WeightnormNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"weightnorm_backward");
        let gscale = tape.grad(self.scale)?;
        let (w, scale) = (tape.tensor(self.w).span, tape.tensor(self.scale).span);
        if let Some(gw) = tape.grad_accumulator(self.w)? {
            tape.compute(
                |claims, cpu| {
                    let (w, scale, gscale) = (claims.read(w), claims.read(scale), claims.read(gscale));
                    cpu::weightnorm_backward(cpu, w, scale, gscale, &self.ranges, claims.write(gw));
                },
                |device| cuda::weightnorm_backward(device, w, scale, gscale, &self.ranges, gw),
            )?;
        }
        Ok(())
    }
}
