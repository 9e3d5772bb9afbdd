use super::*;
use crate::nas::arch::Op;
use crate::nas::chi_square::{Tally, uniform};
use crate::nas::rules::obey;
use crate::rng::Stream;

fn presets() -> [Space; 3] {
    [Space::v1(), Space::v2(), Space::fixture()]
}

#[test]
fn ten_thousand_draws_of_each_preset_obey_every_rule() {
    for space in presets() {
        let mut rng = Rng::new(1, Stream::Arch);
        for i in 0..10_000 {
            let limits = SampleLimits::at(&space, [0.0, 0.2, 0.35, 1.0][i % 4]);
            let arch = sample(&space, &limits, &mut rng);
            obey(&arch, &limits, true);
            arch.validate().unwrap();
        }
    }
}

/// Spaces no preset covers: several slices per bank, odd compression, very few banks per op.
#[test]
fn unusual_spaces_obey_every_rule() {
    let v2 = Space::v2();
    let spaces = [
        Space { depth_compression: 3, ..v2.clone() },
        Space { depth_compression: 4, ..v2.clone() },
        Space { widening: 1, depth: 9, ..v2.clone() },
        Space { n_max: 128, max_bank_size: 2, widening: 1, ..v2.clone() },
        Space { square_kernels: true, max_bank_size: 1, depth_compression: 1, ..v2 },
    ];
    for space in spaces {
        space.validate().unwrap();
        let limits = SampleLimits::full(&space);
        let mut rng = Rng::new(2, Stream::Arch);
        for _ in 0..500 {
            let arch = sample(&space, &limits, &mut rng);
            obey(&arch, &limits, true);
            arch.validate().unwrap();
        }
    }
}

#[test]
fn the_stream_alone_decides_what_is_drawn() {
    let space = Space::v2();
    let limits = SampleLimits::full(&space);
    let mut a = Rng::new(5, Stream::Arch);
    let first = [sample(&space, &limits, &mut a), sample(&space, &limits, &mut a)];
    let mut b = Rng::new(5, Stream::Arch);
    assert_eq!(first, [sample(&space, &limits, &mut b), sample(&space, &limits, &mut b)]);
    assert_ne!(first[0], first[1]);
}

/// The order of draws is part of what a seed means: runs of an older engine must be repeatable.
#[test]
fn draws_are_golden() {
    let golden = [(Space::v1(), "6567b4f3aadc"), (Space::v2(), "5a7dd084e513")];
    for (space, id) in golden {
        assert_eq!(sample(&space, &SampleLimits::full(&space), &mut Rng::new(1, Stream::Arch)).id(), id);
    }
}

#[test]
fn limits_rise_over_the_first_half_of_training() {
    let v2 = Space::v2();
    let at = |progress| {
        let SampleLimits { max_fraction, max_kernel } = SampleLimits::at(&v2, progress);
        (max_fraction, max_kernel)
    };
    assert_eq!(at(-1.0), (0.5, 3));
    assert_eq!(at(0.0), (0.5, 3));
    assert_eq!(at(0.125), (0.625, 4));
    assert_eq!(at(0.25), (0.75, 5));
    assert_eq!(at(0.5), (1.0, 7));
    assert_eq!(at(1.0), (1.0, 7));
    assert_eq!(SampleLimits::at(&v2, 0.75), SampleLimits::full(&v2));
    assert_eq!(SampleLimits::full(&Space::v1()).max_kernel, 3);
}

#[test]
fn limits_outside_the_space_still_draw_from_it() {
    let space = Space::v2();
    let narrow = SampleLimits { max_fraction: 0.0, max_kernel: 0 };
    let wide = SampleLimits { max_fraction: 7.0, max_kernel: 99 };
    let mut rng = Rng::new(1, Stream::Arch);
    obey(&sample(&space, &narrow, &mut rng), &SampleLimits { max_fraction: 0.3, max_kernel: 3 }, true);
    obey(&sample(&space, &wide, &mut rng), &SampleLimits::full(&space), true);
}

/// Calls `visit(block, banks written before the op, op)` for the ops of `draws` architectures.
fn each_op(space: &Space, limits: &SampleLimits, draws: usize, mut visit: impl FnMut(&Block, usize, &Op)) {
    let mut rng = Rng::new(3, Stream::Arch);
    for _ in 0..draws {
        let arch = sample(space, limits, &mut rng);
        for (b, block) in arch.blocks.iter().enumerate() {
            let mut written = space.in_channels()[b] / (block.bank_size * space.unit);
            for op in &block.ops {
                visit(block, written, op);
                written = written.max(op.write.iter().max().unwrap() + 1);
            }
        }
    }
}

#[test]
fn bank_sizes_are_uniform_over_those_allowed() {
    let space = Space::v2();
    let allowed = [vec![1, 2, 3, 4, 6, 8], vec![1, 2, 3, 4, 5, 6, 8], vec![1, 2, 3, 4, 5, 6, 7, 8]];
    let (mut rng, mut tally) = (Rng::new(4, Stream::Arch), Tally::default());
    for _ in 0..4000 {
        for (b, block) in sample(&space, &SampleLimits::full(&space), &mut rng).blocks.iter().enumerate() {
            tally.add(format!("block {b}"), &uniform(allowed[b].iter().copied()), block.bank_size);
        }
    }
    assert_eq!(tally.check("bank size"), 3);
}

#[test]
fn widths_follow_their_weights_given_the_reads() {
    for (space, k, conditions) in [(Space::v2(), 8, 30), (Space::v1(), 7, 8)] {
        let mut tally = Tally::default();
        each_op(&space, &SampleLimits::full(&space), 1500, |block, _, op| {
            let (s, units) = (block.bank_size, op.read.len() * block.bank_size);
            let weight = |g: usize| 1.0 / (0.01 + 10.0 * (g as f64 - units as f64).abs());
            let choices: Vec<(usize, f64)> = (1..=k).filter(|g| g % s == 0).map(|g| (g, weight(g))).collect();
            tally.add(format!("size {s}, {units} units read"), &choices, op.width);
        });
        let checked = tally.check("width");
        assert!(checked >= conditions, "only {checked} conditions");
    }
}

#[test]
fn numbers_of_writes_follow_their_weights_given_width_and_banks() {
    let mut tally = Tally::default();
    each_op(&Space::v2(), &SampleLimits::full(&Space::v2()), 1500, |block, written, op| {
        let least = op.width / block.bank_size;
        let extra: Vec<(usize, f64)> = (0..=least.max(written / 2) - least).map(|n| (n, (-(n as f64)).exp())).collect();
        tally.add(format!("at least {least}, {written} written"), &extra, op.write.len() - least);
        // Together as well, for the power that the many small conditions lack.
        tally.add("any".into(), &extra, op.write.len() - least);
    });
    let checked = tally.check("writes");
    assert!(checked >= 60, "only {checked} conditions");
}

#[test]
fn targets_are_uniform_over_written_and_first_empty_banks() {
    let mut tally = Tally::default();
    each_op(&Space::v2(), &SampleLimits::full(&Space::v2()), 1500, |block, written, op| {
        let least = op.width / block.bank_size;
        let fresh = least.min(block.n_banks - written);
        if let [bank] = op.write[..] {
            // One target: each written bank and the first empty one are equally likely.
            tally.add(format!("{written} written, {fresh} empty"), &uniform(0..written + fresh), bank);
        }
    });
    assert!(tally.check("target") >= 15);
}

#[test]
fn reads_are_uniform_over_the_allowed_numbers_and_banks() {
    let space = Space::v2();
    let (mut numbers, mut banks) = (Tally::default(), Tally::default());
    let mut rng = Rng::new(6, Stream::Arch);
    for _ in 0..20_000 {
        let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
        // First ops only: there the budget (at least 0.3 * 52 = 15 slices) limits nothing.
        for (b, block) in arch.blocks.iter().enumerate() {
            let (s, written) = (block.bank_size, space.in_channels()[b] / (block.bank_size * space.unit));
            let step = if s % 2 == 0 { 1 } else { 2 };
            let read = &block.ops[0].read;
            let choices = uniform((step..=written).step_by(step));
            numbers.add(format!("size {s}, {written} written"), &choices, read.len());
            // A bank drawn at random among the reads is then uniform over the written ones.
            banks.add(format!("size {s}, {written} written"), &uniform(0..written), read[rng.below(read.len())]);
        }
    }
    assert_eq!(numbers.check("number of reads"), 10);
    assert_eq!(banks.check("banks read"), 13);
}

#[test]
fn bodies_kernels_dilations_and_groups_follow_their_probabilities() {
    let space = Space::v2();
    let stated = [(0b0001, 0.05), (0b0101, 0.10), (0b0011, 0.15), (0b0111, 0.25), (0b1111, 0.45)];
    for max_kernel in [3, 5, 7] {
        let limits = SampleLimits { max_fraction: 1.0, max_kernel };
        let [mut bodies, mut kernels, mut dilations, mut groups] = [0; 4].map(|_| Tally::default());
        each_op(&space, &limits, 400, |_, _, op| {
            let active = (0..4).map(|i| usize::from(op.body[i].is_some()) << i).sum();
            bodies.add("body".into(), &stated, active);
            for (i, conv) in op.body.iter().enumerate() {
                let Some(conv) = conv else { continue };
                for axis in 0..2 {
                    let place = format!("conv {i} axis {axis}");
                    kernels.add(place.clone(), &uniform((3..=max_kernel).step_by(2)), conv.kernel[axis]);
                    let most = 4 - (conv.kernel[axis] - 1) / 2;
                    dilations.add(
                        format!("{place}, kernel {}", conv.kernel[axis]),
                        &uniform(1..=most),
                        conv.dilation[axis],
                    );
                }
                // Height and width are independent: their combinations are uniform as well.
                let sizes = (3..=max_kernel).step_by(2);
                let pairs = uniform(sizes.clone().flat_map(|h| sizes.clone().map(move |w| 10 * h + w)));
                kernels.add(format!("conv {i} pair"), &pairs, 10 * conv.kernel[0] + conv.kernel[1]);
                groups.add(format!("conv {i}"), &uniform([1, 2, 4, 8]), conv.groups);
            }
        });
        let sizes = (max_kernel - 1) / 2;
        assert_eq!(bodies.check("body"), 1);
        assert_eq!(kernels.check("kernel"), if sizes > 1 { 12 } else { 0 });
        assert_eq!(dilations.check("dilation"), 8 * sizes.min(2));
        assert_eq!(groups.check("groups"), 4);
    }
}

#[test]
fn budget_fractions_are_uniform_between_their_limits() {
    let mut rng = Rng::new(9, Stream::Arch);
    let mut tally = Tally::default();
    for max_fraction in [0.5, 1.0] {
        let limits = SampleLimits { max_fraction, max_kernel: 7 };
        for _ in 0..4000 {
            let fraction = limits.fraction(&mut rng);
            let bin = (fraction - 0.3) / (max_fraction - 0.3) * 10.0;
            tally.add(format!("to {max_fraction}"), &uniform(0..10), bin as usize);
        }
    }
    assert_eq!(tally.check("fraction"), 2);
}
