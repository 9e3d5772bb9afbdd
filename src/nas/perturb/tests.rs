use super::*;
use crate::nas::chi_square::{Tally, uniform};
use crate::nas::rules::obey;
use crate::nas::sample::sample;
use crate::rng::Stream;

fn presets() -> [Space; 3] {
    [Space::v1(), Space::v2(), Space::fixture()]
}

#[test]
fn perturbations_obey_every_rule() {
    for space in presets() {
        let limits = SampleLimits::full(&space);
        let mut rng = Rng::new(1, Stream::Search);
        for i in 0..2000 {
            let arch = sample(&space, &limits, &mut rng);
            let changed = perturb(&arch, [0.01, 0.05, 0.3, 1.0][i % 4], &mut rng);
            obey(&changed, &limits, false);
            changed.validate().unwrap();
        }
    }
}

#[test]
fn a_long_chain_of_perturbations_stays_in_the_space() {
    for space in presets() {
        let limits = SampleLimits::full(&space);
        let mut rng = Rng::new(2, Stream::Search);
        let mut arch = sample(&space, &limits, &mut rng);
        for _ in 0..500 {
            arch = perturb(&arch, 0.05, &mut rng);
            obey(&arch, &limits, false);
            let mut ops = arch.blocks.iter().flat_map(|block| &block.ops);
            assert!(ops.all(|op| op.write.is_sorted()), "drawn writes ascend, and so do repaired ones");
        }
    }
}

#[test]
fn probability_zero_changes_nothing() {
    for space in presets() {
        let mut rng = Rng::new(3, Stream::Search);
        for _ in 0..200 {
            let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
            assert_eq!(perturb(&arch, 0.0, &mut rng), arch);
        }
    }
}

#[test]
fn hand_written_orders_of_writes_survive() {
    let mut rng = Rng::new(4, Stream::Search);
    let mut arch = sample(&Space::v2(), &SampleLimits::full(&Space::v2()), &mut rng);
    for op in arch.blocks.iter_mut().flat_map(|block| &mut block.ops) {
        op.write.reverse();
    }
    arch.validate().unwrap();
    assert_eq!(perturb(&arch, 0.0, &mut rng), arch);
}

/// Elements that nothing else can change are changed with `probability * (1 - chance of drawing
/// the same again)`.
#[test]
fn about_the_right_fraction_of_elements_changes() {
    let space = Space::v2();
    let mut rng = Rng::new(5, Stream::Search);
    for probability in [0.05, 0.5] {
        let (mut groups, mut kernels, mut bodies) = ((0, 0), (0, 0), (0, 0));
        for _ in 0..300 {
            let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
            let changed = perturb(&arch, probability, &mut rng);
            let pairs = arch.blocks.iter().zip(&changed.blocks).flat_map(|(a, b)| a.ops.iter().zip(&b.ops));
            for (a, b) in pairs {
                bodies = (bodies.0 + usize::from(a.active() != b.active()), bodies.1 + 1);
                for (a, b) in a.body.iter().zip(&b.body) {
                    let (Some(a), Some(b)) = (a, b) else { continue };
                    groups = (groups.0 + usize::from(a.groups != b.groups), groups.1 + 1);
                    for axis in 0..2 {
                        kernels = (kernels.0 + usize::from(a.kernel[axis] != b.kernel[axis]), kernels.1 + 1);
                    }
                }
            }
        }
        let same_body: f64 = space.bodies.iter().map(|body| body.probability.powi(2)).sum();
        for (name, (changed, all), same) in
            [("groups", groups, 0.25), ("kernel", kernels, 1.0 / 3.0), ("body", bodies, same_body)]
        {
            let expected = probability * (1.0 - same);
            let deviation = (expected * (1.0 - expected) / all as f64).sqrt();
            let seen = changed as f64 / all as f64;
            // Five standard deviations: one seed in two million would fail.
            assert!((seen - expected).abs() < 5.0 * deviation, "{name}: {seen} changed, expected {expected}");
        }
    }
}

#[test]
fn redrawn_elements_follow_the_probabilities_of_sampling() {
    let space = Space::v2();
    let mut rng = Rng::new(7, Stream::Search);
    let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
    let [mut widths, mut convs, mut bodies] = [0; 3].map(|_| Tally::default());
    let stated: Vec<(usize, f64)> = space.bodies.iter().map(|body| body.probability).enumerate().collect();
    for _ in 0..300 {
        for block in perturb(&arch, 1.0, &mut rng).blocks {
            for op in &block.ops {
                let (s, units) = (block.bank_size, op.read.len() * block.bank_size);
                let weight = |g: usize| 1.0 / (0.01 + 10.0 * (g as f64 - units as f64).abs());
                let choices: Vec<(usize, f64)> = (1..=8).filter(|g| g % s == 0).map(|g| (g, weight(g))).collect();
                widths.add(format!("size {s}, {units} units read"), &choices, op.width);
                let body = space.bodies.iter().position(|body| body.active == op.active()).unwrap();
                bodies.add("body".into(), &stated, body);
                for (i, conv) in op.body.iter().enumerate() {
                    let Some(conv) = conv else { continue };
                    convs.add(format!("groups of conv {i}"), &uniform([1, 2, 4, 8]), conv.groups);
                    for axis in 0..2 {
                        let (kernel, dilation) = (conv.kernel[axis], conv.dilation[axis]);
                        convs.add(format!("kernel of conv {i}, axis {axis}"), &uniform([3, 5, 7]), kernel);
                        let place = format!("dilation of conv {i}, axis {axis}, kernel {kernel}");
                        convs.add(place, &uniform(1..=4 - (kernel - 1) / 2), dilation);
                    }
                }
            }
        }
    }
    assert!(widths.check("width") >= 5);
    assert_eq!((convs.check("convolutions"), bodies.check("body")), (4 + 8 + 16, 1));
}

/// With several elements per op, most ops of a v2 network keep their reads at 5 %.
#[test]
fn repairs_stay_small() {
    let space = Space::v2();
    let mut rng = Rng::new(6, Stream::Search);
    let (mut kept, mut ops, mut dropped) = (0, 0, 0);
    for _ in 0..500 {
        let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
        let changed = perturb(&arch, 0.05, &mut rng);
        for (a, b) in arch.blocks.iter().zip(&changed.blocks) {
            assert_eq!((a.bank_size, a.n_banks), (b.bank_size, b.n_banks));
            ops += a.ops.len();
            dropped += a.ops.len() - b.ops.len();
            kept += a.ops.iter().zip(&b.ops).filter(|(a, b)| a.read == b.read).count();
        }
    }
    assert!(kept as f64 > 0.85 * ops as f64, "{kept} of {ops} ops keep their reads");
    assert!((dropped as f64) < 0.03 * ops as f64, "{dropped} of {ops} ops dropped");
}
