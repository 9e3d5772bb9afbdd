//! The main network: memory banks, ops, transitions, head (Brock et al. 2018, section 3.1).
//!
//! ```text
//! stem -> block 0 -> transition -> block 1 -> transition -> block 2 -> head
//! op:     x = concat(banks[read]);  h = conv1x1(relu(x));  y = body(h)      (body.rs)
//!         for (j, t) in write: bank[t] += channel group j of y
//! ```
//!
//! In spaces that put activations behind convolutions x is read as it is, and stem, transitions, 1x1 convolutions
//! and bodies end with theirs, so that banks hold sums of activated values.
//!
//! A bank is a list of versions: writing makes a new one, readers keep theirs. An empty bank
//! becomes a view of y. ReLUs are applied where a value is written, since all its readers want
//! them, except on banks, which hold linear values and are rectified as they are read.
//! The same code runs the SMASH network and the resulting network; they differ in their
//! [`WeightSource`] only. For volumes it runs the 3-D twin (`twin.rs`).

use crate::error::{Error, Result};
use crate::nas::arch::{Architecture, Block, PlacedOp};
use crate::nas::body::Body;
use crate::nas::options::ActivationOrder;
use crate::nas::space::Space;
use crate::nas::weights::{FilterVar, WeightSource};
use crate::nn::norm::{Mode, Norm};
use crate::ops::add::add;
use crate::ops::avg_pool::avg_pool;
use crate::ops::concat::concat;
use crate::ops::conv2d::{Conv2d, Output, conv2d};
use crate::ops::conv3d::{Conv3d, conv3d};
use crate::ops::global_avg_pool::global_avg_pool;
use crate::ops::linear::linear;
use crate::ops::pointwise::{Pointwise, pointwise};
use crate::ops::subsample::subsample;
use crate::tape::{Tape, Var};
use crate::trace::Level;
use std::ops::Range;

/// Logits [classes, 1, 1, N] of `images` [C, H, W, N], H and W divisible by 4, or by 8 after a stem of stride 2; or of
/// volumes [C, D, H, W, N], D divisible by 4 or 2 itself. Releases `images`.
///
/// # Errors
/// [`Error::Shape`] when the images do not fit the network; [`Error::Architecture`] when an op
/// reads a bank that nothing wrote.
pub fn forward(
    tape: &mut Tape<'_>,
    arch: &Architecture,
    weights: &dyn WeightSource,
    images: Var,
    mode: Mode,
) -> Result<Var> {
    let space = &arch.space;
    let pass = Pass { space, weights, mode };
    let mut x = pass.stem(tape, images, arch.blocks[0].input_channels(0, space))?;
    let ops: Vec<PlacedOp<'_>> = arch.placed_ops().collect();
    for (b, block) in arch.blocks.iter().enumerate() {
        let _range = tape.range_with(Level::Block, c"block", || b as u64);
        let mut banks = fill_banks(tape, block, b, space, x);
        let of_block = ops.iter().enumerate().filter(|(_, op)| op.block_index == b);
        for (in_block, (index, placed)) in of_block.enumerate() {
            tape.part(|| format!("block{b}.op{in_block}"));
            pass.op(tape, index, placed, &mut banks)?;
        }
        let written: Vec<Var> = banks.into_iter().flatten().collect();
        x = match arch.blocks.get(b + 1) {
            Some(next) => pass.transition(tape, b, &written, next.input_channels(b + 1, space))?,
            None => pass.head(tape, &written)?,
        };
        for bank in written {
            tape.release(bank);
        }
    }
    Ok(x)
}

/// The banks of a block: the first hold its input, the rest are empty. Releases x.
fn fill_banks(tape: &mut Tape<'_>, block: &Block, b: usize, space: &Space, x: Var) -> Vec<Option<Var>> {
    let width = block.bank_size * space.unit;
    let mut banks = vec![None; block.n_banks];
    tape.part(|| format!("block{b}"));
    for (i, bank) in banks.iter_mut().take(block.initial_banks(b, space)).enumerate() {
        let view = tape.channels(x, i * width..(i + 1) * width);
        tape.label(view, || format!("bank{i}"));
        *bank = Some(view);
    }
    tape.release(x);
    banks
}

/// Adds the channel groups of `y` to the banks the op writes; an empty bank becomes a view of
/// its group. Releases y.
fn write_banks(
    tape: &mut Tape<'_>,
    placed: &PlacedOp<'_>,
    space: &Space,
    y: Var,
    banks: &mut [Option<Var>],
) -> Result<()> {
    let mut viewed: Vec<Range<usize>> = Vec::new();
    tape.part(|| format!("block{}", placed.block_index));
    for (j, &target) in placed.op.write.iter().enumerate() {
        let channels = placed.op.write_channels(j, placed.block, space);
        let group = tape.channels(y, channels.clone());
        let written = match banks[target] {
            Some(old) => {
                let sum = add(tape, old, group)?;
                tape.release(old);
                sum
            }
            // Two banks never share memory: what reads both has a gradient for each.
            None if viewed.contains(&channels) => concat(tape, &[group])?,
            None => {
                viewed.push(channels.clone());
                tape.channels(y, channels)
            }
        };
        tape.release(group);
        tape.label(written, || format!("bank{target}"));
        banks[target] = Some(written);
    }
    tape.release(y);
    Ok(())
}

/// One forward pass: where its weights come from and how they are used.
pub(super) struct Pass<'a> {
    pub space: &'a Space,
    pub weights: &'a dyn WeightSource,
    pub mode: Mode,
}

impl Pass<'_> {
    /// The first convolution; releases `images`.
    fn stem(&self, tape: &mut Tape<'_>, images: Var, channels: usize) -> Result<Var> {
        tape.part(|| "stem".into());
        let (weights, shape) = (self.weights.stem(tape, channels), self.weights.shape());
        let x = self.convolve(tape, images, &weights, shape.stem().dilation, self.behind(), Output::New)?;
        tape.release(images);
        if shape.stem_stride == 1 {
            return Ok(x);
        }
        let strided = subsample(tape, x)?;
        tape.release(x);
        Ok(strided)
    }

    /// Slope of the ReLU behind stem and transitions.
    fn behind(&self) -> Option<f32> {
        (self.space.activation == ActivationOrder::Post).then_some(0.0)
    }

    pub fn convolve(
        &self,
        tape: &mut Tape<'_>,
        x: Var,
        weights: &FilterVar,
        dilation: [usize; 3],
        slope: Option<f32>,
        output: Output,
    ) -> Result<Var> {
        let &FilterVar { w, filter, layers, scale } = weights;
        if self.weights.shape().is_volume() {
            return conv3d(tape, x, w, scale, Conv3d { filter, layers, dilation, slope, output });
        }
        let [_, rows, columns] = dilation;
        conv2d(tape, x, w, scale, Conv2d { filter, dilation: [rows, columns], slope, output })
    }

    /// One op: reads banks, writes banks.
    fn op(&self, tape: &mut Tape<'_>, index: usize, placed: &PlacedOp<'_>, banks: &mut [Option<Var>]) -> Result<()> {
        let read = |&i: &usize| {
            let place = || format!("blocks[{}].ops read", placed.block_index);
            banks.get(i).copied().flatten().ok_or_else(|| Error::architecture(place(), format!("bank {i} is empty")))
        };
        let views: Vec<Var> = placed.op.read.iter().map(read).collect::<Result<_>>()?;
        let weights = self.weights.op(tape, index, placed)?;
        let y = Body::new(self, placed.op, &weights).run(tape, &views)?;
        write_banks(tape, placed, self.space, y, banks)
    }

    /// relu(norm(concat(views))).
    fn norm_relu(&self, tape: &mut Tape<'_>, norm: Norm, views: &[Var]) -> Result<Var> {
        norm.relu(tape, self.weights.store(), views, self.mode)
    }

    /// BN, ReLU, 1x1 convolution, average pooling: [C, H, W, N] -> [outputs, H/2, W/2, N], or D/2 too of volumes.
    fn transition(&self, tape: &mut Tape<'_>, t: usize, banks: &[Var], outputs: usize) -> Result<Var> {
        tape.part(|| format!("transition{t}"));
        let inputs = banks.iter().map(|&bank| tape.shape(bank).c).sum();
        let (norm, FilterVar { w, filter, scale, .. }) = self.weights.transition(tape, t, inputs, outputs);
        let x = self.norm_relu(tape, norm, banks)?;
        let z = pointwise(tape, &[x], w, scale, Pointwise { filter, relu: false, slope: self.behind() })?;
        tape.release(x);
        let y = avg_pool(tape, z)?;
        tape.release(z);
        Ok(y)
    }

    /// BN, ReLU, global average pooling, fully connected: logits [classes, 1, 1, N].
    fn head(&self, tape: &mut Tape<'_>, banks: &[Var]) -> Result<Var> {
        tape.part(|| "head".into());
        let (norm, w, b) = self.weights.head(tape);
        let x = self.norm_relu(tape, norm, banks)?;
        let pooled = global_avg_pool(tape, x)?;
        tape.release(x);
        let logits = linear(tape, pooled, w, b)?;
        tape.release(pooled);
        Ok(logits)
    }
}
