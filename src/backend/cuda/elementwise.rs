//! Passes over memory that the tape and several ops need.

use super::{Address, Cuda, Grid, params};
use crate::backend::Span;
use crate::error::Result;

const MODULE: &str = "elementwise";

params! {
    struct PassParams { to: Address, from: Address, len: u32, add: u32, slope: f32 }
}

fn pass(cuda: &mut Cuda, name: &'static str, to: Span, from: Span, add: bool, slope: f32) -> Result<()> {
    let params =
        PassParams { to: cuda.address(to), from: cuda.address(from), len: to.len as u32, add: add.into(), slope };
    cuda.launch(MODULE, name, Grid::elementwise(to.len), &params)
}

/// to (+)= from.
///
/// # Errors
/// As [`Cuda::launch`].
pub fn accumulate(cuda: &mut Cuda, to: Span, from: Span, add: bool) -> Result<()> {
    pass(cuda, "accumulate", to, from, add, 1.0)
}

/// The gradient before a leaky ReLU: g times `slope` where its output y is not positive.
///
/// # Errors
/// As [`Cuda::launch`].
pub fn gate_leaky(cuda: &mut Cuda, g: Span, y: Span, slope: f32) -> Result<()> {
    pass(cuda, "gate_leaky", g, y, false, slope)
}
