//! dE/dc: how the loss of an architecture with generated weights changes with its encoding
//! (Brock et al. 2018, section 4.2, "architectural gradient descent by proxy").
//!
//! ```text
//! E(c) = mean over images of cross_entropy(forward(a, H(c)))      BatchNorm with its running statistics, as in a score
//! dE/dW    one forward and backward pass per batch, summed over the batches; W: generated filters, before their norm
//! dE/dc    one pass back through the re-arrangement and the HyperNet: [E, k, slices], as `encode.rs` lays c out;
//!          where c is empty, the slope towards a fact
//! ```
//!
//! The architecture `a` itself is held fixed: the gradient sees a change of c only through the weights the
//! HyperNet would generate from it. [`Gradient::change`] is what it predicts of another architecture.

use crate::backend::{Context, Kind};
use crate::error::Result;
use crate::nas::arch::{Architecture, PlacedOp};
use crate::nas::encode::{Encoding, Layout};
use crate::nas::mainnet;
use crate::nas::smash::SmashNetwork;
use crate::nas::train::{Batch, Gather, Outcome, outcome};
use crate::nn::norm::Mode;
use crate::ops::cross_entropy::cross_entropy;
use crate::tape::{Tape, Var};
use crate::tensor::Shape;
use crate::trace::{Level, range_with};

/// Passes over the images that one gradient costs, in units of a score's forward pass: one more forward pass, and
/// a backward pass of twice its work.
pub const COST: usize = 3;

/// A number above 0 that changes no sum, and whose products are no denormal numbers.
const RIGHT: f32 = 1e-20;

/// The gradient of the loss of one architecture with respect to its encoding.
#[derive(Clone, Debug)]
pub struct Gradient {
    arch: Architecture,
    layout: Layout,
    /// dE/dc, laid out as the encoding.
    slope: Encoding,
    /// Value of c where a fact holds, less where none does.
    step: f64,
    /// What the score would say of the same images.
    pub outcome: Outcome,
}

/// dE/dc of `arch` on the images of `batches`.
///
/// # Errors
/// [`crate::Error::Run`] when the arena is full; see [`plan_gradient`].
pub fn gradient<'a>(
    context: &mut Context,
    network: &SmashNetwork,
    arch: &Architecture,
    gather: &Gather,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Gradient> {
    let _range = range_with(Level::Step, c"gradient", || arch.number());
    let c = network.encode(arch);
    let mut filters = {
        let mut tape = Tape::new(context);
        let input = network.input(&mut tape, &c, false)?;
        let filters = network.filters(&mut tape, arch, input, Mode::Eval)?;
        tape.read(filters)?
    };
    // A device that only plans has none to read.
    filters.resize(network.filters_len(arch), 0.0);
    let (mut total, mut slope) = (Outcome::default(), vec![0.0; filters.len()]);
    for batch in batches {
        let mut tape = Tape::new(context);
        let images = gather.batch(&mut tape, &batch)?;
        let (found, gw) = filter_gradient(&mut tape, network, arch, &filters, images, &batch.labels)?;
        let images = batch.labels.len() as f64;
        slope.iter_mut().zip(gw).for_each(|(sum, g)| *sum += images * f64::from(g));
        total.add(found);
    }
    let mean: Vec<f32> = slope.iter().map(|g| (g / total.images.max(1) as f64) as f32).collect();
    let data = encoding_gradient(&mut Tape::new(context), network, arch, &c, &mean)?;
    Ok(Gradient {
        arch: arch.clone(),
        layout: Layout::new(&arch.space),
        slope: Encoding { data, ..c },
        step: 1.0 - f64::from(network.empty()),
        outcome: total,
    })
}

/// Loss and errors of one batch, and the gradient of its mean loss with respect to the generated filters.
/// Releases `images`.
fn filter_gradient(
    tape: &mut Tape<'_>,
    network: &SmashNetwork,
    arch: &Architecture,
    filters: &[f32],
    images: Var,
    labels: &[u16],
) -> Result<(Outcome, Vec<f32>)> {
    let filters = tape.input(Shape::vector(filters.len()), filters, true)?;
    let weights = network.with_filters(tape, arch, filters, Mode::Eval)?;
    let logits = mainnet::forward(tape, arch, &weights, images, Mode::Eval)?;
    let loss = cross_entropy(tape, logits, labels)?;
    tape.release(logits);
    let found = outcome(&tape.read(loss.result)?, labels.len());
    tape.backward(loss.loss)?;
    Ok((found, tape.read_grad(filters)?.unwrap_or_default()))
}

/// dE/dc from dE/dW. Where c is 0 the HyperNet's first activation has a kink, and a fact can only appear: the slope is
/// that to the right. So elements that are 0 are moved to [`RIGHT`] of it.
fn encoding_gradient(
    tape: &mut Tape<'_>,
    network: &SmashNetwork,
    arch: &Architecture,
    c: &Encoding,
    filters: &[f32],
) -> Result<Vec<f32>> {
    let data = c.data.iter().map(|&x| if x == 0.0 { RIGHT } else { x }).collect();
    let input = network.input(tape, &Encoding { data, ..c.clone() }, true)?;
    // Its own handle on c: the HyperNet releases the one it is given.
    let kept = tape.channels(input, 0..c.channels);
    let output = network.filters(tape, arch, input, Mode::Eval)?;
    tape.backward_from(&[(output, filters)])?;
    Ok(tape.read_grad(kept)?.unwrap_or_default())
}

/// Step memory in f32 that the gradient of `arch` with batches of `shape` will use.
///
/// # Errors
/// As the gradient itself.
pub fn plan_gradient(kind: Kind, network: &SmashNetwork, arch: &Architecture, shape: Shape) -> Result<usize> {
    let mut context = Context::plan(kind);
    let c = network.encode(arch);
    let len = network.filters_len(arch);
    let mut tape = Tape::new(&mut context);
    let images = tape.alloc(shape, false)?;
    filter_gradient(&mut tape, network, arch, &vec![0.0; len], images, &vec![0; shape.n])?;
    drop(tape);
    encoding_gradient(&mut Tape::new(&mut context), network, arch, &c, &vec![0.0; len])?;
    Ok(context.arena().high_water())
}

impl Gradient {
    /// The architecture it is of.
    pub fn architecture(&self) -> &Architecture {
        &self.arch
    }

    /// dE/dc, laid out as the encoding.
    pub fn slope(&self) -> &Encoding {
        &self.slope
    }

    /// The first-order change <dE/dc, c' - c> of the loss on the way to `other`, an architecture with the same bank
    /// sizes whose ops are changed but not added, as [`super::perturb`] makes them.
    ///
    /// An op's columns are compared with those of the same op, wherever they lie now. Of columns that an op gains, c
    /// has no gradient; they take the mean of its others. Where no op gains or loses a column, as when anything but
    /// the number of reads changes, this is the inner product itself.
    pub fn change(&self, other: &Architecture) -> f64 {
        let mut here = self.arch.placed_ops().peekable();
        let mut there = other.placed_ops().peekable();
        let mut sum = 0.0;
        for block in 0..self.arch.blocks.len() {
            while let Some(from) = here.next_if(|op| op.block_index == block) {
                match there.next_if(|op| op.block_index == block) {
                    Some(to) if to.op == from.op => {}
                    Some(to) => sum += self.along(&from, &to) - self.along(&from, &from),
                    // A dropped op takes its columns along.
                    None => sum -= self.along(&from, &from),
                }
            }
        }
        self.step * sum
    }

    /// The sum of the slopes at the op `from` of the architecture where `to` has a fact.
    fn along(&self, from: &PlacedOp<'_>, to: &PlacedOp<'_>) -> f64 {
        let Encoding { height, width, ref data, .. } = self.slope;
        let own = from.columns.len();
        let mut sum = 0.0;
        for (channel, columns) in self.layout.filled(&self.arch.space, to) {
            for row in 0..to.op.width {
                let start = (channel * height + row) * width + from.columns.start;
                let slopes = &data[start..start + own];
                let total = |slopes: &[f32]| slopes.iter().map(|&g| f64::from(g)).sum::<f64>();
                let known = columns.start.min(own)..columns.end.min(own);
                let gained = columns.len() - known.len();
                sum += total(&slopes[known]);
                if gained > 0 {
                    sum += gained as f64 * total(slopes) / own as f64;
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::encode::{EncodeOptions, encode};
    use crate::nas::perturb::perturb;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::nas::space::Space;
    use crate::rng::{Rng, Stream};

    impl Gradient {
        /// Slopes drawn at random, the same for the same architecture.
        pub fn random(arch: &Architecture) -> Self {
            let c = encode(arch, EncodeOptions::default());
            let mut rng = Rng::new(arch.number(), Stream::Init);
            let data = c.data.iter().map(|_| rng.normal() as f32).collect();
            let (layout, slope) = (Layout::new(&arch.space), Encoding { data, ..c });
            Self { arch: arch.clone(), layout, slope, step: 1.0, outcome: Outcome::default() }
        }

        /// Slopes by which every change is for the worse.
        pub fn content(arch: &Architecture) -> Self {
            let mut gradient = Self::random(arch);
            let c = encode(arch, EncodeOptions::default());
            gradient.slope.data = c.data.iter().map(|fact| 1.0 - 2.0 * fact).collect();
            gradient
        }
    }

    fn drawn(seed: u64) -> (Architecture, Rng) {
        let (space, mut rng) = (Space::fixture(), Rng::new(seed, Stream::Arch));
        (sample(&space, &SampleLimits::full(&space), &mut rng), rng)
    }

    /// An architecture with an op in block 1 that reads more than it has to, and the place of that op.
    fn reading_more() -> (Architecture, usize) {
        let place = |arch: &Architecture| {
            let step = arch.space.read_step(arch.blocks[1].bank_size);
            arch.blocks[1].ops.iter().position(|op| op.read.len() > step)
        };
        (0..100).map(|seed| drawn(seed).0).find_map(|arch| place(&arch).map(|index| (arch, index))).unwrap()
    }

    #[track_caller]
    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
    }

    /// Where c has the same columns, the change is <slopes, c' - c>, for 0 and for -1 where no fact holds.
    #[test]
    fn a_change_of_facts_is_the_inner_product() {
        let mut seen = 0;
        for empty in [0.0, -1.0] {
            let (arch, mut rng) = drawn(3);
            let gradient = Gradient { step: 1.0 - f64::from(empty), ..Gradient::random(&arch) };
            let c = |arch: &Architecture| encode(arch, EncodeOptions { empty, noise: None }).data;
            for _ in 0..200 {
                let other = perturb(&arch, 0.02, &mut rng);
                let reads = |arch: &Architecture| arch.placed_ops().map(|op| op.op.read.len()).collect::<Vec<_>>();
                if other == arch || reads(&other) != reads(&arch) {
                    continue;
                }
                let moved = c(&other).into_iter().zip(c(&arch)).map(|(to, from)| f64::from(to - from));
                let expected: f64 = moved.zip(&gradient.slope.data).map(|(d, &g)| d * f64::from(g)).sum();
                assert_near(gradient.change(&other), expected);
                seen += 1;
            }
        }
        assert!(seen > 20, "{seen}");
    }

    #[test]
    fn dropped_ops_and_lost_columns_take_their_slopes_along() {
        let (arch, index) = reading_more();
        let gradient = Gradient::random(&arch);
        let c = encode(&arch, EncodeOptions::default());
        let slopes = |columns: std::ops::Range<usize>| -> f64 {
            let places = (0..c.channels * c.height).flat_map(|row| columns.clone().map(move |t| row * c.width + t));
            places.map(|i| f64::from(c.data[i]) * f64::from(gradient.slope.data[i])).sum()
        };
        let mut dropped = arch.clone();
        dropped.blocks[0].ops.pop();
        let last = arch.placed_ops().filter(|op| op.block_index == 0).last().unwrap();
        assert_near(gradient.change(&dropped), -slopes(last.columns.clone()));

        let mut fewer = arch.clone();
        let step = arch.space.read_step(arch.blocks[1].bank_size);
        let reads = &mut fewer.blocks[1].ops[index].read;
        reads.truncate(reads.len() - step);
        let columns = arch.placed_ops().filter(|op| op.block_index == 1).nth(index).unwrap().columns;
        let lost = arch.space.slices_of(step, arch.blocks[1].bank_size);
        assert_near(gradient.change(&fewer), -slopes(columns.end - lost..columns.end));
    }

    #[test]
    fn gained_columns_have_the_mean_slopes_of_the_others() {
        let (arch, index) = reading_more();
        // Slopes that do not depend on the column, so that the mean is any of them.
        let mut gradient = Gradient::random(&arch);
        let width = gradient.slope.width;
        for row in gradient.slope.data.chunks_mut(width) {
            let first = row[0];
            row.fill(first);
        }
        let mut fewer = arch.clone();
        let step = arch.space.read_step(arch.blocks[1].bank_size);
        let reads = &mut fewer.blocks[1].ops[index].read;
        reads.truncate(reads.len() - step);
        let from_fewer = {
            let c = encode(&fewer, EncodeOptions::default());
            let rows = gradient.slope.data.chunks(width).flat_map(|row| vec![row[0]; c.width]);
            Gradient { arch: fewer.clone(), slope: Encoding { data: rows.collect(), ..c }, ..gradient.clone() }
        };
        assert!(gradient.change(&fewer).abs() > 0.1, "there is something to gain");
        assert_near(from_fewer.change(&arch), -gradient.change(&fewer));
    }
}
