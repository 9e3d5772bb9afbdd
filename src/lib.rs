//! SMASH: one-shot architecture search on kernels written by hand.
//!
//! ```text
//! commands -> nas (the method) -> nn (parameters, layers) -> ops -> tape -> tensor -> backend
//!    |          ^
//!    +- data ---+   images as u8        error, machine, rng, trace: used by all
//! ```
//!
//! Start with [`nas`] for what is computed, [`tape`] for how gradients flow, [`backend`] for what
//! computes. `ARCHITECTURE.md` tells the whole story.

pub mod backend;
pub mod bench;
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod data;
pub mod error;
pub mod export;
pub mod figures;
pub mod machine;
pub mod nas;
pub mod nn;
pub mod ops;
pub mod parsers;
pub mod report;
pub mod rng;
pub mod statistics;
pub mod tape;
pub mod tensor;
pub mod testing;
pub mod trace;

pub use cli::Preset;
pub use commands::{Candidate, Role, Run, Scorer, Setup, Trained};
pub use config::RunConfig;
pub use error::{Error, Result};
pub use export::Model;
pub use nas::arch::Architecture;
pub use nas::design::Design;
pub use nas::space::Space;
