//! Where the main network's weights come from: generated (SMASH) or freely learned (resulting
//! network). One forward pass, `mainnet`, runs over either.

use crate::backend::cpu::Filter;
use crate::error::Result;
use crate::nas::arch::PlacedOp;
use crate::nas::twin::NetworkShape;
use crate::nn::norm::Norm;
use crate::nn::params::ParamStore;
use crate::tape::{Tape, Var};

/// A filter on the tape.
#[derive(Clone, Copy, Debug)]
pub struct FilterVar {
    /// The stored filter.
    pub w: Var,
    /// The used window of it.
    pub filter: Filter,
    /// Layers of a filter of volumes, which lie under one another in the window; otherwise 1.
    pub layers: usize,
    /// Factor 1/||w|| of a weight-normalised filter.
    pub scale: Option<Var>,
}

/// The weights of one op.
#[derive(Clone, Copy, Debug)]
pub struct OpWeights {
    /// Normalisation of the concatenated banks, instead of a plain ReLU.
    pub norm_in: Option<Norm>,
    /// The 1x1 convolution, n_in -> n_b.
    pub input: FilterVar,
    /// Normalisation after the 1x1 convolution.
    pub norm_mid: Option<Norm>,
    /// The convolutions w0..w3 of the body that are active.
    pub body: [Option<FilterVar>; 4],
    /// Normalisation with each convolution of the body: before or behind it, as the space orders them.
    pub norm_body: [Option<Norm>; 4],
}

/// Gives `mainnet` its weights, sliced to what the architecture uses.
pub trait WeightSource {
    /// The parameters behind it.
    fn store(&self) -> &ParamStore;
    /// The images it is for.
    fn shape(&self) -> &NetworkShape;
    /// The stem, image channels -> `channels`.
    fn stem(&self, tape: &mut Tape<'_>, channels: usize) -> FilterVar;
    /// Op number `index` of the network. The caller releases the handles of `input`.
    fn op(&self, tape: &mut Tape<'_>, index: usize, op: &PlacedOp<'_>) -> Result<OpWeights>;
    /// Transition `t` (after block `t`), `inputs` -> `outputs` channels.
    fn transition(&self, tape: &mut Tape<'_>, t: usize, inputs: usize, outputs: usize) -> (Norm, FilterVar);
    /// Normalisation, matrix and bias of the head.
    fn head(&self, tape: &mut Tape<'_>) -> (Norm, Var, Var);
}
