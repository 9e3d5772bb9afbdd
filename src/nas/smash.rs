//! The SMASH network: one set of shared filters per block, and a HyperNet that generates every
//! 1x1 convolution of any architecture of the space (Brock et al. 2018, sections 3.1 and 3.2).
//!
//! | parameter | extent |
//! |---|---|
//! | `hyper.*` | see `hypernet.rs` |
//! | `stem.w` | [in\[0\], image channels, k, k], or k, k, k for volumes |
//! | `block{b}.w{j}` | [N_max, R*N_max (j = 0, 2) or N_max (j = 1, 3), ks_max, ks_max], or 3, 3, 3 for volumes |
//! | `block{b}.bn_mid.*`, `.bn1.*`, `.bn3.*` | `[R*N_max]`, `[N_max]`, `[N_max]` where the space has BatchNorm in bodies |
//! | `block{b}.bn0.*` to `.bn3.*` | `[N_max]` instead, where activations are behind convolutions too |
//! | `transition{t}.bn.*`, `transition{t}.w` | [max\[t\]], [in\[t+1\], max\[t\]] |
//! | `head.bn.*`, `head.fc.w`, `head.fc.b` | [max\[2\]], [classes, max\[2\]], `[classes]` |
//!
//! All are at maximal size; an architecture uses the first channels and the centre of kernels.

use crate::backend::cpu::Filter;
use crate::error::Result;
use crate::nas::arch::{Architecture, PlacedOp};
use crate::nas::encode::{EncodeOptions, Encoding, encode};
use crate::nas::hypernet::{HyperConfig, HyperNet};
use crate::nas::space::Space;
use crate::nas::twin::{NetworkShape, Taps};
use crate::nas::weights::{FilterVar, OpWeights, WeightSource};
use crate::nn::init::Init;
use crate::nn::norm::{Mode, Norm};
use crate::nn::params::{ParamId, ParamStore};
use crate::ops::gather_filters::{FilterSlices, GatherFilters, gather_filters};
use crate::ops::weightnorm::weightnorm;
use crate::rng::{Rng, Stream};
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::trace::Level;
use std::ops::Range;

/// How architectures are written for the HyperNet, beyond their facts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EncodingConfig {
    /// Value of empty elements: 0 in the paper, -1 in its published code.
    pub empty: f32,
    /// Seed of one more channel of N(0, 1), as in the published code. The numbers follow from the
    /// seed and the architecture: training, with a new architecture every step, sees new noise
    /// every step, and a score stays a fixed number.
    pub noise: Option<u64>,
}

/// Parameters of a SMASH network.
#[derive(Clone, Debug)]
pub struct SmashNetwork {
    space: Space,
    shape: NetworkShape,
    encoding: EncodingConfig,
    store: ParamStore,
    hypernet: HyperNet,
    stem: ParamId,
    blocks: Vec<SharedBody>,
    transitions: Vec<(Norm, ParamId)>,
    head: (Norm, ParamId, ParamId),
}

impl SmashNetwork {
    /// The network of `space` for images and classes of `shape`.
    pub fn new(space: &Space, shape: NetworkShape, hyper: &HyperConfig, encoding: EncodingConfig) -> Self {
        let mut store = ParamStore::default();
        let hypernet = HyperNet::add(&mut store, space, hyper, encoding.noise.is_some());
        store.end_undecayed();
        let (ins, maxima) = (space.in_channels(), space.max_channels());
        let stem = store.add("stem.w", &shape.stem().dims(ins[0], shape.image_channels), Init::Orthogonal);
        let blocks = (0..maxima.len())
            .map(|b| {
                let dims = |j| shared_body(space, &shape).dims(space.n_max, body_inputs(space, j));
                let filters = std::array::from_fn(|j| store.add(format!("block{b}.w{j}"), &dims(j), Init::Orthogonal));
                SharedBody::new(&mut store, &format!("block{b}"), space, filters)
            })
            .collect();
        let transitions = (0..maxima.len() - 1)
            .map(|t| {
                let norm = Norm::add(&mut store, &format!("transition{t}.bn"), maxima[t]);
                (norm, store.add(format!("transition{t}.w"), &[ins[t + 1], maxima[t]], Init::Orthogonal))
            })
            .collect();
        let last = maxima[maxima.len() - 1];
        let head = (
            Norm::add(&mut store, "head.bn", last),
            store.add("head.fc.w", &[shape.classes, last], Init::Orthogonal),
            store.add("head.fc.b", &[shape.classes], Init::Zeros),
        );
        Self { space: space.clone(), shape, encoding, store, hypernet, stem, blocks, transitions, head }
    }

    /// The parameters.
    pub fn store(&self) -> &ParamStore {
        &self.store
    }

    /// Generates all weights of `arch` in one pass of the HyperNet.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the arena is full.
    pub fn generate<'a>(&'a self, tape: &mut Tape<'_>, arch: &Architecture, mode: Mode) -> Result<SmashWeights<'a>> {
        self.generate_from(tape, arch, &self.encode(arch), mode)
    }

    /// The encoding c of `arch` that this network was trained to read.
    pub fn encode(&self, arch: &Architecture) -> Encoding {
        let mut noise = self.encoding.noise.map(|seed| noise_of(seed, arch));
        encode(arch, EncodeOptions { empty: self.encoding.empty, noise: noise.as_mut() })
    }

    /// The same from an encoding that is not the architecture's own, of as many slices: a
    /// corrupted one shows how much the weights owe to it (Brock et al. 2018, section 4.2).
    ///
    /// # Errors
    /// [`crate::Error::Shape`] when the encoding belongs to another space or has too few slices.
    pub fn generate_from<'a>(
        &'a self,
        tape: &mut Tape<'_>,
        arch: &Architecture,
        encoding: &Encoding,
        mode: Mode,
    ) -> Result<SmashWeights<'a>> {
        let _range = tape.range_with(Level::Phase, c"hypernet", || arch.number());
        let c = self.input(tape, encoding, false)?;
        let filters = self.filters(tape, arch, c, mode)?;
        self.with_filters(tape, arch, filters, mode)
    }

    /// c on a tape: [E, k, slices, 1].
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the arena is full.
    pub fn input(&self, tape: &mut Tape<'_>, encoding: &Encoding, needs_grad: bool) -> Result<Var> {
        let shape = Shape::new(encoding.channels, encoding.height, encoding.width, 1);
        tape.input(shape, &encoding.data, needs_grad)
    }

    /// W = H(c), re-arranged into the filters of `arch` as one vector: op by op [n_b, n_in]. Releases `c`.
    ///
    /// # Errors
    /// [`crate::Error::Shape`] as for [`SmashNetwork::generate_from`].
    pub fn filters(&self, tape: &mut Tape<'_>, arch: &Architecture, c: Var, mode: Mode) -> Result<Var> {
        let output = self.hypernet.forward(tape, c, mode)?;
        let filters = gather_filters(tape, output, self.gather(arch))?;
        tape.release(output);
        Ok(filters)
    }

    /// The network with these filters, which [`SmashNetwork::filters`] gave; takes their norms.
    ///
    /// # Errors
    /// [`crate::Error::Run`] when the arena is full.
    pub fn with_filters<'a>(
        &'a self,
        tape: &mut Tape<'_>,
        arch: &Architecture,
        filters: Var,
        mode: Mode,
    ) -> Result<SmashWeights<'a>> {
        let ranges = self.gather(arch).ranges();
        let scales = weightnorm(tape, filters, ranges.clone())?;
        Ok(SmashWeights { network: self, filters, scales, ranges, train: mode.is_train() })
    }

    /// Elements of [`SmashNetwork::filters`].
    pub fn filters_len(&self, arch: &Architecture) -> usize {
        self.gather(arch).ranges().last().map_or(0, |range| range.end)
    }

    /// The value of c where no fact holds.
    pub fn empty(&self) -> f32 {
        self.encoding.empty
    }

    /// Which part of the HyperNet's output each op takes.
    fn gather(&self, arch: &Architecture) -> GatherFilters {
        let space = &self.space;
        let slices = |op: PlacedOp<'_>| FilterSlices {
            slices: op.columns.clone(),
            rows: op.op.bottleneck_channels(op.block, space),
        };
        GatherFilters {
            slice_channels: space.depth_compression * space.unit,
            row_units: space.expansion * space.unit,
            filters: arch.placed_ops().map(slices).collect(),
        }
    }
}

/// What the bodies of a block's ops share.
#[derive(Clone, Debug)]
struct SharedBody {
    filters: [ParamId; 4],
    /// BatchNorm in front of w0 and w2.
    norm_mid: Option<Norm>,
    /// BatchNorm in front of w1 and w3, or behind each.
    norms: [Option<Norm>; 4],
}

impl SharedBody {
    fn new(store: &mut ParamStore, name: &str, space: &Space, filters: [ParamId; 4]) -> Self {
        let pre = space.activation.is_pre();
        let mid = (space.body_norm && pre)
            .then(|| Norm::add(store, &format!("{name}.bn_mid"), space.expansion * space.n_max));
        let norms = std::array::from_fn(|j| {
            let there = space.body_norm && (!pre || j % 2 == 1);
            there.then(|| Norm::add(store, &format!("{name}.bn{j}"), space.n_max))
        });
        Self { filters, norm_mid: mid, norms }
    }
}

/// The stream of an architecture's noise channel.
fn noise_of(seed: u64, arch: &Architecture) -> Rng {
    // The id is hexadecimal; its first 8 digits number the sub-stream.
    let number = arch.id().get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
    Rng::sub(seed, Stream::Init, number)
}

/// Input channels of stored body filter `j`.
fn body_inputs(space: &Space, j: usize) -> usize {
    if j.is_multiple_of(2) { space.expansion * space.n_max } else { space.n_max }
}

/// The kernel of all stored body filters.
fn shared_body(space: &Space, shape: &NetworkShape) -> Taps {
    shape.shared_body(space.kernels.iter().copied().max().unwrap_or(1))
}

/// The weights of one architecture on a tape.
pub struct SmashWeights<'a> {
    network: &'a SmashNetwork,
    /// Generated filters, one after the other.
    filters: Var,
    /// Their factors 1/||w||.
    scales: Var,
    ranges: Vec<Range<usize>>,
    train: bool,
}

impl SmashWeights<'_> {
    /// The generated filters as one vector: op by op [n_b, n_in].
    pub fn filters(&self) -> Var {
        self.filters
    }

    fn param(&self, tape: &mut Tape<'_>, id: ParamId, filter: Filter, layers: usize) -> FilterVar {
        FilterVar { w: self.network.store.var(tape, id, self.train), filter, layers, scale: None }
    }
}

impl WeightSource for SmashWeights<'_> {
    fn store(&self) -> &ParamStore {
        &self.network.store
    }

    fn shape(&self) -> &NetworkShape {
        &self.network.shape
    }

    fn stem(&self, tape: &mut Tape<'_>, channels: usize) -> FilterVar {
        let (shape, taps) = (&self.network.shape, self.network.shape.stem());
        let filter = Filter::whole(channels, shape.image_channels, taps.rows_and_columns(), 1);
        self.param(tape, self.network.stem, filter, taps.kernel[0])
    }

    fn op(&self, tape: &mut Tape<'_>, index: usize, placed: &PlacedOp<'_>) -> Result<OpWeights> {
        let space = &self.network.space;
        let (n_in, n_b) =
            (placed.op.input_channels(placed.block, space), placed.op.bottleneck_channels(placed.block, space));
        let input = FilterVar {
            w: tape.channels(self.filters, self.ranges[index].clone()),
            filter: Filter::whole(n_b, n_in, [1, 1], 1),
            layers: 1,
            scale: Some(tape.channels(self.scales, index..index + 1)),
        };
        let outputs = placed.op.output_channels(space);
        let shared = &self.network.blocks[placed.block_index];
        let [rows, columns] = shared_body(space, self.shape()).rows_and_columns();
        let mut body = [None; 4];
        for (j, conv) in placed.op.body.iter().enumerate() {
            if let Some(conv) = conv {
                let inputs = if j % 2 == 0 { n_b } else { outputs };
                let (stored, taps) = ([space.n_max, body_inputs(space, j), rows, columns], self.shape().body(conv));
                let kernel = taps.rows_and_columns();
                let filter = Filter::centre(stored, outputs, inputs / conv.groups, kernel, conv.groups);
                body[j] = Some(self.param(tape, shared.filters[j], filter, taps.kernel[0]));
            }
        }
        Ok(OpWeights { norm_in: None, input, norm_mid: shared.norm_mid, body, norm_body: shared.norms })
    }

    fn transition(&self, tape: &mut Tape<'_>, t: usize, inputs: usize, outputs: usize) -> (Norm, FilterVar) {
        let (norm, w) = self.network.transitions[t];
        let dims = &self.network.store.get(w).dims;
        let filter = Filter::centre([dims[0], dims[1], 1, 1], outputs, inputs, [1, 1], 1);
        (norm, self.param(tape, w, filter, 1))
    }

    fn head(&self, tape: &mut Tape<'_>) -> (Norm, Var, Var) {
        let (norm, w, b) = self.network.head;
        let store = &self.network.store;
        (norm, store.var(tape, w, self.train), store.var(tape, b, self.train))
    }
}
