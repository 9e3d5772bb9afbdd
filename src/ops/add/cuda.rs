//! add on the GPU.

use super::OP;
use crate::backend::Span;
use crate::backend::cuda::{Address, Cuda, Grid, params};
use crate::error::Result;

params! {
    struct AddParams { a: Address, b: Address, y: Address, len: u32 }
}

/// y = a + b.
pub fn add_forward(cuda: &mut Cuda, a: Span, b: Span, y: Span) -> Result<()> {
    let params = AddParams { a: cuda.address(a), b: cuda.address(b), y: cuda.address(y), len: y.len as u32 };
    cuda.launch(OP, "forward", Grid::elementwise(y.len), &params)
}
