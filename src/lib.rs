//! SMASH: one-shot architecture search on kernels written by hand.

pub mod error;
pub mod nas;
pub mod rng;

pub use error::{Error, Result};
