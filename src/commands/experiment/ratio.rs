//! How many weights a SMASH network learns freely for every one that its HyperNet generates (Brock et al. 2018, section
//! 4.1: the larger this ratio, the less the network adapts to an architecture).

use crate::commands::job::Job;
use crate::commands::train::network;
use crate::nas::arch::Architecture;
use crate::nas::capacity::{generated_weights, learned_weights};
use crate::statistics::mean;
use serde::Serialize;

/// Numbers of weights of a SMASH network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Weights {
    /// Of the HyperNet.
    pub hypernet: usize,
    /// Learned freely, in so far as an architecture uses them, on average.
    pub learned: f64,
    /// Generated for an architecture, on average.
    pub generated: f64,
    /// Learned for every generated one.
    pub ratio: f64,
}

impl Weights {
    /// Those of the SMASH network of `job`, over random architectures of its space.
    pub fn of(job: &Job, archs: &[Architecture]) -> Self {
        let over_archs =
            |of: &dyn Fn(&Architecture) -> u64| mean(&archs.iter().map(|arch| of(arch) as f64).collect::<Vec<_>>());
        let (learned, generated) =
            (over_archs(&|arch| learned_weights(arch, &job.shape)), over_archs(&generated_weights));
        Self { hypernet: network(job).store().undecayed(), learned, generated, ratio: learned / generated }
    }
}
