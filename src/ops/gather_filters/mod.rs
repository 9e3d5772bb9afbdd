//! Re-arranges the HyperNet's output into the filters of all 1x1 convolutions of a network.
//!
//! | buffer | shape |
//! |---|---|
//! | x | [R*D*N*N, k, slices, 1] with C, H, W, N = channel, width row, slice, 1 |
//! | filters | a vector: for each op its filter [n_b, n_in], one op after the other |
//!
//! The channel of x at (width row h, slice t) is `o * D*N + i`: the weight from input channel i
//! of the slice to output unit o of the row. The filter of an op that owns slices t0..t1 has
//! element (h * R*N + o, (t - t0) * D*N + i) from there; its first n_b rows are used. So the
//! first rows come from the first width rows (Brock et al. 2018, section 3.2 and appendix B).

pub mod checks;
mod cpu;
mod cuda;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::tape::{Backward, Tape, Var};
use crate::tensor::Shape;
use std::ops::Range;

const OP: &str = "gather_filters";

/// Which weights one op takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterSlices {
    /// Columns of x.
    pub slices: Range<usize>,
    /// Output channels n_b.
    pub rows: usize,
}

/// The geometry of the gather.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatherFilters {
    /// Input channels per slice, D*N.
    pub slice_channels: usize,
    /// Output units per width row, R*N.
    pub row_units: usize,
    /// The ops' filters in the order of the output.
    pub filters: Vec<FilterSlices>,
}

impl GatherFilters {
    /// Elements of filter `i`.
    pub fn filter_len(&self, i: usize) -> usize {
        self.filters[i].rows * self.filters[i].slices.len() * self.slice_channels
    }

    /// Range of each filter in the output vector.
    pub fn ranges(&self) -> Vec<Range<usize>> {
        let mut start = 0;
        (0..self.filters.len())
            .map(|i| {
                let range = start..start + self.filter_len(i);
                start = range.end;
                range
            })
            .collect()
    }
}

/// The gather; see the module documentation.
///
/// # Errors
/// [`Error::Shape`] when a filter asks for more rows or slices than x holds.
pub fn gather_filters(tape: &mut Tape<'_>, x: Var, config: GatherFilters) -> Result<Var> {
    let _range = tape.op_range(c"gather_filters_forward");
    let shape = tape.shape(x);
    let (units, inputs) = (config.row_units, config.slice_channels);
    let fits = |f: &FilterSlices| f.rows <= units * shape.h && f.slices.end <= shape.w;
    if shape.c != units * inputs || shape.n != 1 || !config.filters.iter().all(fits) {
        return Err(Error::shape(OP, format!("{units} x {inputs} channels that cover {:?}", config.filters), shape));
    }
    let len = config.ranges().last().map_or(0, |r| r.end);
    let y = tape.alloc(Shape::vector(len), tape.needs_grad(x))?;
    let (xt, yt) = (tape.tensor(x).span, tape.tensor(y).span);
    tape.compute(
        |claims, cpu| cpu::gather_forward(cpu, &config, shape, claims.read(xt), claims.write(yt)),
        |device| cuda::gather_forward(device, &config, shape, xt, yt),
    )?;
    tape.record(GatherFiltersNode { x, y, config }, y, &[]);
    Ok(y)
}

struct GatherFiltersNode {
    x: Var,
    y: Var,
    config: GatherFilters,
}

impl Backward for GatherFiltersNode {
    fn backward(&self, tape: &mut Tape<'_>) -> Result<()> {
        let _range = tape.op_range(c"gather_filters_backward");
        let gy = tape.grad(self.y)?;
        let shape = tape.shape(self.x);
        if let Some(gx) = tape.grad_accumulator(self.x)? {
            tape.compute(
                |claims, cpu| {
                    cpu::gather_backward(cpu, &self.config, shape, claims.read(gy), claims.write(gx));
                },
                |device| cuda::gather_backward(device, &self.config, shape, gy, gx),
            )?;
        }
        Ok(())
    }
}
