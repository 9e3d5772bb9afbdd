//! What an architecture is, and how one is drawn, changed, encoded, costed and searched for
//! (Brock et al. 2018, "SMASH: One-Shot Model Architecture Search through HyperNetworks").
//!
//! What the picture below shows is plain data: no tensor, no tape. Networks are [`mainnet`] over
//! the weights of [`smash`] or [`resulting`]. An [`arch::Architecture`] belongs to a
//! [`space::Space`] and has three blocks at full, half and quarter resolution. A block holds
//! memory *banks* of `bank_size * unit` channels; each of its *ops* reads some banks,
//! concatenates them, passes them through a generated 1x1 convolution and a body of up to
//! four ordinary ones, and adds the result to the banks it writes.
//!
//! ```text
//! space --sample--> architecture --encode--> c, the HyperNet's input
//!   ^                 |      ^
//!   presets, TOML     |      +--perturb, strategy (random, perturbations, Markov chain), guided (by dE/dc)
//!                     +--cost, describe
//! ```

pub mod arch;
mod body;
pub mod builtin;
pub mod capacity;
mod check;
pub mod checks;
#[cfg(test)]
mod chi_square;
pub mod computation;
pub mod corrupt;
pub mod cost;
pub mod describe;
pub mod design;
mod draw;
pub mod encode;
pub mod gradient;
pub mod guided;
pub mod hypernet;
pub mod inherit;
pub mod mainnet;
#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod option_tests;
pub mod options;
pub mod perturb;
pub mod resulting;
#[cfg(test)]
mod rules;
pub mod sample;
pub mod score;
pub mod smash;
pub mod space;
pub mod strategy;
pub mod train;
pub mod twin;
#[cfg(test)]
mod twin_tests;
pub mod weights;
