//! Networks for other programs, and back.
//!
//! ```text
//! a network with its parameters --> weights.rs: safetensors, with about.rs as metadata --> model.rs: a network again
//!      | one forward pass, written down (tape/computation.rs)
//!      +--> onnx.rs: a graph for ONNX runtimes
//!      +--> pytorch.rs: readable modules for PyTorch, which load the safetensors
//! ```
//!
//! Files are in N, C, H, W and O, I, H, W as everywhere else; `keys.rs` says what tensors are called.

pub mod about;
pub mod keys;
pub mod model;
pub mod onnx;
pub mod pytorch;
#[cfg(test)]
mod tests;
pub mod weights;

pub use model::Model;
