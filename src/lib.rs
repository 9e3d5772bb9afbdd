//! SMASH: one-shot architecture search on kernels written by hand.
//!
//! One network is trained whose weights are *generated* for any architecture of a search space; architectures are ranked by how
//! well they do with generated weights, and the winner is trained from scratch (Brock, Lim, Ritchie and Weston, "SMASH: One-Shot
//! Model Architecture Search through HyperNetworks", ICLR 2018). Kernels for CPU and GPU, automatic differentiation,
//! layers, optimisers, HyperNet and search are written here; there is no machine-learning framework and no Python behind it.
//! The program `smash-engine` and this library are the same code.
//!
//! # Where to start
//!
//! | to | take | example |
//! |---|---|---|
//! | ask a trained network about images | [`Model`], of a folder that `smash-engine export` or [`Run::export`] wrote | `examples/predict.rs` |
//! | search, and train what was found | a [`Run`] with a [`RunConfig`]; its [`Space`] is what can be found | `examples/search.rs` |
//! | search in a way of one's own | [`Scorer::score`], [`nas::sample`](nas::sample::sample), [`nas::perturb`](nas::perturb::perturb) | `examples/search.rs` |
//! | train a network of one's own | [`Network`](nas::train::Network) and [`train_step`](nas::train::train_step) | `examples/custom_op.rs` |
//! | write an op | [`Backward`](tape::Backward), checked by a [`Case`](testing::Case) | `examples/custom_op.rs` |
//! | write an architecture down by hand | [`Architecture::load`], [`Run::retrain`] | `examples/architectures` |
//! | read data sets, or make one | [`data::open`], [`Images::from_pixels`](data::Images::from_pixels) | `examples/predict.rs` |
//!
//! `cargo run --release --example search` runs one; they take seconds, on images that are part of the crate.
//!
//! # An architecture without a run
//!
//! ```
//! use smash_engine::nas::cost::{NetworkShape, cost};
//! use smash_engine::nas::sample::{SampleLimits, sample};
//! use smash_engine::rng::{Rng, Stream};
//! use smash_engine::{Architecture, Space};
//!
//! # fn main() -> smash_engine::Result<()> {
//! let space = Space { n_max: 32, ..Space::small() }; // ops of up to 32 channels
//! space.validate()?;
//! let drawn = sample(&space, &SampleLimits::full(&space), &mut Rng::new(1, Stream::Search));
//! // What is written to a file is the same architecture again.
//! assert_eq!(Architecture::from_json(&drawn.to_json())?.id(), drawn.id());
//! let cost = cost(&drawn, &NetworkShape::pictures(3, 32, 10, 3));
//! println!("{}: {} parameters, {} MACs", drawn.id(), cost.params, cost.macs);
//! # Ok(())
//! # }
//! ```
//!
//! # Promises
//!
//! Everything that fails is an [`Error`] that names the thing and the remedy; a panic is a mistake of the engine, or of an op
//! written against the contract of [`tape`]. The same seed gives the same bits on a device, whatever the number of threads.
//! Built without nvcc the crate computes on the CPU only, and asking it for a GPU is [`Error::Device`].
//!
//! # How it is built
//!
//! ```text
//! commands -> nas (the method) -> nn (parameters, layers) -> ops -> tape -> tensor -> backend
//!    |          ^
//!    +- data ---+   images as u8        error, machine, rng, trace: used by all
//! ```
//!
//! [`nas`] is what is computed, [`tape`] how gradients flow, [`backend`] what computes; `ARCHITECTURE.md` tells the whole story.

#![warn(missing_docs)]

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
