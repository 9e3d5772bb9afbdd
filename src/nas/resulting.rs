//! The resulting network: one architecture with every weight freely learned, at exactly the
//! sizes it needs (Brock et al. 2018, section 3.1 and appendix C).
//!
//! | parameter | extent |
//! |---|---|
//! | `stem.w` | [channels, image channels, k, k], or k, k, k for volumes |
//! | `block{b}.op{i}.w_in` | [n_b, n_in] |
//! | `block{b}.op{i}.w{j}` | [GN, inputs/groups, kernel], the kernel being 3, 3, 3 for volumes |
//! | `block{b}.op{i}.bn_in.*`, `.bn_mid.*`, `.bn{j}.*` | `[n_in]`, `[n_b]`, `[GN]`, as the norm asks |
//! | `transition{t}.*`, `head.*` | as in the SMASH network, at exact sizes |

use crate::backend::cpu::Filter;
use crate::error::Result;
use crate::nas::arch::{Architecture, Op, PlacedOp};
use crate::nas::options::ActivationOrder;
use crate::nas::space::Space;
use crate::nas::twin::NetworkShape;
use crate::nas::weights::{FilterVar, OpWeights, WeightSource};
use crate::nn::init::Init;
use crate::nn::norm::{Mode, Norm};
use crate::nn::params::{ParamId, ParamStore};
use crate::ops::weightnorm::weightnorm;
use crate::tape::{Tape, Var};
use serde::{Deserialize, Serialize};

/// How the ops of a resulting network are normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum NormKind {
    /// BatchNorm before and after each op's 1x1 convolution (in spaces with activations behind convolutions: after it, and
    /// at the ends of the body)
    #[default]
    Sandwich,
    /// BatchNorm before every convolution: also before w1 and w3 (or behind every convolution)
    Full,
    /// As in the SMASH network: the 1x1 filter divided by its norm, BatchNorm in bodies where the space has it.
    Weightnorm,
}

/// Handles of one op.
#[derive(Clone, Debug)]
struct OpParams {
    norm_in: Option<Norm>,
    input: ParamId,
    norm_mid: Option<Norm>,
    body: [Option<ParamId>; 4],
    norm_body: [Option<Norm>; 4],
}

/// Parameters of a resulting network.
#[derive(Clone, Debug)]
pub struct ResultingNetwork {
    arch: Architecture,
    shape: NetworkShape,
    /// Are 1x1 filters divided by their norms?
    divides: bool,
    store: ParamStore,
    stem: ParamId,
    ops: Vec<OpParams>,
    transitions: Vec<(Norm, ParamId)>,
    head: (Norm, ParamId, ParamId),
}

impl ResultingNetwork {
    /// The network of `arch` for images and classes of `shape`.
    pub fn new(arch: &Architecture, shape: NetworkShape, norm: NormKind) -> Self {
        let space = &arch.space;
        let mut store = ParamStore::default();
        let channels = |b: usize| arch.blocks[b].input_channels(b, space);
        let outputs = |b: usize| arch.blocks[b].output_channels(b, space);
        let stem = store.add("stem.w", &shape.stem().dims(channels(0), shape.image_channels), Init::He);
        let mut in_block = 0;
        let mut block = 0;
        let ops = arch
            .placed_ops()
            .map(|placed| {
                if placed.block_index != block {
                    (block, in_block) = (placed.block_index, 0);
                }
                let name = format!("block{block}.op{in_block}");
                in_block += 1;
                OpParams::add(&mut store, &name, (arch, &shape), &placed, norm)
            })
            .collect();
        let last = arch.blocks.len() - 1;
        let transitions = (0..last)
            .map(|t| {
                let bn = Norm::add(&mut store, &format!("transition{t}.bn"), outputs(t));
                (bn, store.add(format!("transition{t}.w"), &[channels(t + 1), outputs(t)], Init::He))
            })
            .collect();
        let head = (
            Norm::add(&mut store, "head.bn", outputs(last)),
            store.add("head.fc.w", &[shape.classes, outputs(last)], Init::He),
            store.add("head.fc.b", &[shape.classes], Init::Zeros),
        );
        Self { arch: arch.clone(), shape, divides: norm == NormKind::Weightnorm, store, stem, ops, transitions, head }
    }

    /// The same with filters that are divided by their norms already, as exported ones are.
    pub fn with_normalised_filters(self) -> Self {
        Self { divides: false, ..self }
    }

    /// The parameters.
    pub fn store(&self) -> &ParamStore {
        &self.store
    }

    /// The architecture the network was made for.
    pub fn architecture(&self) -> &Architecture {
        &self.arch
    }

    /// The weights on a tape.
    pub fn weights(&self, mode: Mode) -> FreeWeights<'_> {
        FreeWeights { network: self, train: mode.is_train() }
    }
}

impl NormKind {
    /// Does convolution `j` of the body of `op` have a BatchNorm of its own? The one in front of w0 and w2 is that of
    /// the 1x1 convolution.
    pub fn in_body(self, op: &Op, j: usize, space: &Space) -> bool {
        match (space.activation, self) {
            (ActivationOrder::Pre, Self::Sandwich) => false,
            (_, Self::Weightnorm) if !space.body_norm => false,
            (ActivationOrder::Pre, Self::Full | Self::Weightnorm) => j % 2 == 1,
            (ActivationOrder::Post, Self::Full | Self::Weightnorm) => true,
            (ActivationOrder::Post, Self::Sandwich) => op.ends_path(j),
        }
    }
}

impl OpParams {
    fn add(
        store: &mut ParamStore,
        name: &str,
        (arch, shape): (&Architecture, &NetworkShape),
        placed: &PlacedOp<'_>,
        norm: NormKind,
    ) -> Self {
        let (op, block, space) = (placed.op, placed.block, &arch.space);
        let (n_in, n_b, gn) =
            (op.input_channels(block, space), op.bottleneck_channels(block, space), op.output_channels(space));
        let batch_norm = norm != NormKind::Weightnorm;
        let norm_in =
            (batch_norm && space.activation.is_pre()).then(|| Norm::add(store, &format!("{name}.bn_in"), n_in));
        let input = store.add(format!("{name}.w_in"), &[n_b, n_in], Init::He);
        let has_mid = batch_norm || space.body_norm && space.activation.is_pre();
        let norm_mid = has_mid.then(|| Norm::add(store, &format!("{name}.bn_mid"), n_b));
        let mut body = [None; 4];
        let mut norm_body = [None; 4];
        for (j, conv) in op.body.iter().enumerate() {
            let Some(conv) = conv else { continue };
            let inputs = if j % 2 == 0 { n_b } else { gn };
            if norm.in_body(op, j, space) {
                norm_body[j] = Some(Norm::add(store, &format!("{name}.bn{j}"), gn));
            }
            let dims = shape.body(conv).dims(gn, inputs / conv.groups);
            body[j] = Some(store.add(format!("{name}.w{j}"), &dims, Init::He));
        }
        Self { norm_in, input, norm_mid, body, norm_body }
    }
}

/// The free weights of a resulting network.
pub struct FreeWeights<'a> {
    network: &'a ResultingNetwork,
    train: bool,
}

impl FreeWeights<'_> {
    fn filter(&self, tape: &mut Tape<'_>, id: ParamId, groups: usize) -> FilterVar {
        let param = self.network.store.get(id);
        let (layers, kernel) = match param.dims[2..] {
            [t, r, s] => (t, [t * r, s]),
            [r, s] => (1, [r, s]),
            _ => (1, [1, 1]),
        };
        let filter = Filter::whole(param.dims[0], param.dims[1], kernel, groups);
        FilterVar { w: self.network.store.var(tape, id, self.train), filter, layers, scale: None }
    }
}

impl WeightSource for FreeWeights<'_> {
    fn store(&self) -> &ParamStore {
        &self.network.store
    }

    fn shape(&self) -> &NetworkShape {
        &self.network.shape
    }

    fn stem(&self, tape: &mut Tape<'_>, _channels: usize) -> FilterVar {
        self.filter(tape, self.network.stem, 1)
    }

    fn op(&self, tape: &mut Tape<'_>, index: usize, placed: &PlacedOp<'_>) -> Result<OpWeights> {
        let params = &self.network.ops[index];
        let mut input = self.filter(tape, params.input, 1);
        if self.network.divides {
            let whole = 0..tape.shape(input.w).len();
            input.scale = Some(weightnorm(tape, input.w, Vec::from([whole]))?);
        }
        let mut body = [None; 4];
        for (j, (id, conv)) in params.body.iter().zip(&placed.op.body).enumerate() {
            if let (Some(id), Some(conv)) = (id, conv) {
                body[j] = Some(self.filter(tape, *id, conv.groups));
            }
        }
        let OpParams { norm_in, norm_mid, norm_body, .. } = params.clone();
        Ok(OpWeights { norm_in, input, norm_mid, body, norm_body })
    }

    fn transition(&self, tape: &mut Tape<'_>, t: usize, _inputs: usize, _outputs: usize) -> (Norm, FilterVar) {
        let (norm, w) = self.network.transitions[t];
        (norm, self.filter(tape, w, 1))
    }

    fn head(&self, tape: &mut Tape<'_>) -> (Norm, Var, Var) {
        let (norm, w, b) = self.network.head;
        let store = &self.network.store;
        (norm, store.var(tape, w, self.train), store.var(tape, b, self.train))
    }
}
