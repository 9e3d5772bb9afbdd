//! How many weights a SMASH network learns freely for every one that its HyperNet generates (Brock et al. 2018, section
//! 4.1: the larger this ratio, the less the network adapts to an architecture).

use crate::commands::job::Job;
use crate::commands::train::network;
use crate::nas::arch::Architecture;
use crate::nas::cost::generated_weights;
use crate::statistics::mean;
use serde::Serialize;

/// Numbers of weights of a SMASH network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Weights {
    /// Of the HyperNet.
    pub hypernet: usize,
    /// Of the main network, learned freely and shared by all architectures: stem, bodies, transitions, head.
    pub learned: usize,
    /// Generated for an architecture: those of its 1x1 convolutions, on average.
    pub generated: f64,
    /// Learned for every generated one.
    pub ratio: f64,
}

impl Weights {
    /// Those of the SMASH network of `job`, over `archs` of its space.
    pub fn of(job: &Job, archs: &[Architecture]) -> Self {
        let network = network(job);
        let hypernet = network.store().undecayed();
        let learned = network.store().len() - hypernet;
        let generated = mean(&archs.iter().map(|arch| generated_weights(arch) as f64).collect::<Vec<_>>());
        Self { hypernet, learned, generated, ratio: learned as f64 / generated }
    }
}
