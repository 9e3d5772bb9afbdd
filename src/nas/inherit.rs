//! Where a resulting network starts when it inherits from a trained SMASH network: with what the HyperNet generates
//! for its architecture and what all architectures share (Brock et al. 2018, section 5; in their appendix C
//! random starts came out better).
//!
//! | parameter | what it inherits |
//! |---|---|
//! | `block{b}.op{i}.w_in` | the generated filter, divided by its norm: [n_b, n_in] |
//! | `block{b}.op{i}.NAME` | of `block{b}.NAME` the first channels and the centre of the kernel |
//! | `stem.w`, `transition{t}.*`, `head.*` | of the same name the first channels, running statistics included |
//!
//! BatchNorm around the 1x1 convolutions has no counterpart and starts as always. With norm `weightnorm` the
//! two networks compute the same function.

use crate::backend::{Context, Span};
use crate::error::Result;
use crate::nas::resulting::ResultingNetwork;
use crate::nas::smash::SmashNetwork;
use crate::nn::norm::Mode;
use crate::nn::params::ParamStore;
use crate::tape::Tape;

/// What `resulting` inherits from `smash`, whose trained parameters are in `context`: values for its own ranges.
///
/// # Errors
/// [`crate::Error::Run`] when the arena is full.
pub fn inherited(
    context: &mut Context,
    smash: &SmashNetwork,
    resulting: &ResultingNetwork,
) -> Result<Vec<(Span, Vec<f32>)>> {
    let mut generated = generated(context, smash, resulting)?.into_iter();
    let mut values = Vec::new();
    for param in resulting.store().params() {
        if param.name.ends_with(".w_in") {
            values.extend(generated.next().map(|filter| (param.span, filter)));
        } else if let Some((dims, span)) = shared(smash.store(), &param.name) {
            values.push((param.span, window(&context.read(span)?, &dims, &param.dims)));
        }
    }
    for statistic in resulting.store().statistics() {
        if let Some((dims, span)) = shared(smash.store(), &statistic.name) {
            values.push((statistic.span, window(&context.read(span)?, &dims, &[statistic.span.len])));
        }
    }
    Ok(values)
}

/// The generated filters, op by op, each divided by its norm.
fn generated(context: &mut Context, smash: &SmashNetwork, resulting: &ResultingNetwork) -> Result<Vec<Vec<f32>>> {
    let arch = resulting.architecture();
    let mut tape = Tape::new(context);
    let weights = smash.generate(&mut tape, arch, Mode::Eval)?;
    let all = tape.read(weights.filters())?;
    let mut rest = all.as_slice();
    let filters = arch.placed_ops().map(|placed| {
        let (op, block, space) = (placed.op, placed.block, &arch.space);
        let len = op.bottleneck_channels(block, space) * op.input_channels(block, space);
        let (filter, behind) = rest.split_at(len);
        rest = behind;
        let norm = filter.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
        filter.iter().map(|&w| (f64::from(w) / norm) as f32).collect()
    });
    Ok(filters.collect())
}

/// Extent and place of what all architectures share where this one has a parameter or statistic called `name`.
fn shared(store: &ParamStore, name: &str) -> Option<(Vec<usize>, Span)> {
    // All ops of a block share theirs: block0.op3.w1 is a part of block0.w1.
    let parts: Vec<&str> = name.split('.').filter(|part| !part.starts_with("op")).collect();
    let name = parts.join(".");
    let params = store.params().iter().filter(|p| p.name == name).map(|p| (p.dims.clone(), p.span));
    let statistics = store.statistics().iter().filter(|s| s.name == name).map(|s| (vec![s.span.len], s.span));
    params.chain(statistics).next()
}

/// Of `stored`, of extent `from`, the first channels of the first two axes and the centre of the others: extent `to`.
fn window(stored: &[f32], from: &[usize], to: &[usize]) -> Vec<f32> {
    let source = |index: usize| {
        // The digits of an index, in the mixed base of the extents, are its coordinates, innermost last.
        let (mut rest, mut at, mut stride) = (index, 0, 1);
        for (axis, (&from, &to)) in from.iter().zip(to).enumerate().rev() {
            let margin = if axis < 2 { 0 } else { (from - to) / 2 };
            at += (rest % to + margin) * stride;
            rest /= to;
            stride *= from;
        }
        stored[at]
    };
    (0..to.iter().product()).map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Cpu, Region};
    use crate::nas::arch::Architecture;
    use crate::nas::hypernet::HyperConfig;
    use crate::nas::mainnet::forward;
    use crate::nas::options::ActivationOrder;
    use crate::nas::resulting::NormKind;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::nas::smash::EncodingConfig;
    use crate::nas::space::Space;
    use crate::nas::twin::NetworkShape;
    use crate::nas::weights::WeightSource;
    use crate::rng::{Rng, Stream};
    use crate::testing::assert_close;

    fn context(store: &ParamStore) -> Context {
        let mut context = Context::cpu(Cpu::new(1), 1 << 22).unwrap();
        store.reserve(&mut context).unwrap();
        store.initialise(&mut context, 3, 0).unwrap();
        context
    }

    fn logits(tape: &mut Tape<'_>, arch: &Architecture, weights: &dyn WeightSource, shape: NetworkShape) -> Vec<f64> {
        let mut rng = Rng::new(4, Stream::Augment);
        let images: Vec<f32> = (0..shape.batch(3).len()).map(|_| rng.normal() as f32).collect();
        let images = tape.input(shape.batch(3), &images, false).unwrap();
        let logits = forward(tape, arch, weights, images, Mode::Eval).unwrap();
        tape.read(logits).unwrap().into_iter().map(f64::from).collect()
    }

    /// Logits of a SMASH network under a drawn architecture, and of the resulting network that inherited from it.
    fn both(space: &Space, shape: NetworkShape, norm: NormKind, seed: u64) -> [Vec<f64>; 2] {
        let hyper = HyperConfig { stem: 4, layers: vec![2, 2, 1], growth: 4.into() };
        let smash = SmashNetwork::new(space, shape, &hyper, EncodingConfig::default());
        let mut trained = context(smash.store());
        // Statistics, scales and shifts have values of their own, as after a training.
        let mut rng = Rng::new(seed, Stream::Init);
        let vectors = smash.store().params().iter().filter(|p| p.dims.len() == 1).map(|p| p.span);
        for span in vectors.chain([trained.whole(Region::State)]) {
            let values: Vec<f32> = (0..span.len).map(|_| (0.5 + rng.uniform()) as f32).collect();
            trained.write(span, &values).unwrap();
        }
        let arch = sample(space, &SampleLimits::full(space), &mut Rng::new(seed, Stream::Arch));
        let resulting = ResultingNetwork::new(&arch, shape, norm);
        let mut heir = context(resulting.store());
        for (span, values) in inherited(&mut trained, &smash, &resulting).unwrap() {
            heir.write(span, &values).unwrap();
        }
        let mut tape = Tape::new(&mut trained);
        let weights = smash.generate(&mut tape, &arch, Mode::Eval).unwrap();
        let before = logits(&mut tape, &arch, &weights, shape);
        [before, logits(&mut Tape::new(&mut heir), &arch, &resulting.weights(Mode::Eval), shape)]
    }

    #[test]
    fn an_heir_with_weight_norm_computes_what_the_smash_network_does() {
        let pictures = NetworkShape::pictures(3, 8, 5, 3);
        let volumes = NetworkShape { image_depth: 8, ..NetworkShape::pictures(1, 8, 5, 3) };
        let post = Space { activation: ActivationOrder::Post, ..Space::fixture() };
        let body_norm = |space: &Space| Space { body_norm: true, ..space.clone() };
        let spaces = [Space::fixture(), post.clone(), body_norm(&Space::fixture()), body_norm(&post)];
        let pairs = [(1, pictures), (2, pictures), (3, volumes)];
        for (space, (seed, shape)) in spaces.iter().flat_map(|space| pairs.map(|pair| (space, pair))) {
            let [before, after] = both(space, shape, NormKind::Weightnorm, seed);
            let after: Vec<f32> = after.iter().map(|&x| x as f32).collect();
            assert_close("logits", &after, &before, 300);
        }
    }

    #[test]
    fn batch_norm_without_a_counterpart_starts_as_always() {
        let pictures = NetworkShape::pictures(3, 8, 5, 3);
        let space = Space::fixture();
        let smash = SmashNetwork::new(
            &space,
            pictures,
            &HyperConfig { stem: 4, layers: vec![1, 1, 1], growth: 4.into() },
            EncodingConfig::default(),
        );
        let arch = sample(&space, &SampleLimits::full(&space), &mut Rng::new(1, Stream::Arch));
        let resulting = ResultingNetwork::new(&arch, pictures, NormKind::Full);
        let spans: Vec<Span> =
            inherited(&mut context(smash.store()), &smash, &resulting).unwrap().iter().map(|v| v.0).collect();
        let store = resulting.store();
        let of_ops = ["bn_in", "bn_mid", "bn1", "bn3"];
        let is_of_an_op = |name: &str| of_ops.iter().any(|bn| name.contains(&format!(".{bn}.")));
        let params = store.params().iter().map(|p| (&p.name, p.span));
        for (name, span) in params.chain(store.statistics().iter().map(|s| (&s.name, s.span))) {
            assert_eq!(spans.contains(&span), !is_of_an_op(name), "{name}");
        }
    }
}
