//! mean on the GPU.

use super::OP;
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;

params! {
    struct MeanParams { from: Address, to: Address, len: u32, share: f32, add: u32 }
}

/// to (+)= share * from.
pub fn add_share(cuda: &mut Cuda, pass: &'static str, from: Span, to: Span, share: f32, add: bool) -> Result<()> {
    let (source, target) = (cuda.address(from), cuda.address(to));
    let params = MeanParams { from: source, to: target, len: to.len as u32, share, add: add.into() };
    cuda.launch(OP, pass, Grid::elementwise(to.len), &params)
}
