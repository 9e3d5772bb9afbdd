//! SMASH: one-shot architecture search on kernels written by hand.

pub mod data;
pub mod error;
pub mod rng;

pub use error::{Error, Result};
