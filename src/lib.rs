//! SMASH: one-shot architecture search on kernels written by hand.

#![allow(clippy::needless_range_loop)] // kernels index several register tiles with one variable

pub mod backend;
pub mod cli;
pub mod commands;
pub mod data;
pub mod error;
pub mod nas;
pub mod nn;
pub mod ops;
pub mod rng;
pub mod tape;
pub mod tensor;
#[cfg(test)]
pub mod testing;

pub use error::{Error, Result};
