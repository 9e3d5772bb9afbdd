//! The rules of an architecture a second time, for tests: written from the description of the
//! search space with loops and plain arithmetic, sharing no code with `space`, `check` or `draw`.

use super::arch::{Architecture, Block, Op};
use super::sample::SampleLimits;
use super::space::Space;

/// Panics with the broken rule. `filled` also demands that the budget is used up, as sampling does.
pub fn obey(arch: &Architecture, limits: &SampleLimits, filled: bool) {
    assert_eq!(arch.schema, 1);
    assert_eq!(arch.blocks.len(), 3);
    for (b, block) in arch.blocks.iter().enumerate() {
        block_obeys(&arch.space, b, block, limits, filled);
    }
}

/// `in`, `max` and budget in channels of block `b`, from the reference network.
fn reference(space: &Space, b: usize) -> (usize, usize, usize) {
    let base = 2 * space.unit;
    let r0 = base * space.widening;
    let (mut enters, mut most) = (r0, 3 * r0);
    for _ in 0..b {
        enters = most / 2;
        enters -= enters % base;
        most = enters + 2 * r0;
    }
    if b == 2 {
        most = 4 * r0;
    }
    (enters, most, enters + space.depth * r0 * [1, 2, 4][b])
}

fn block_obeys(space: &Space, b: usize, block: &Block, limits: &SampleLimits, filled: bool) {
    let (n, d, s) = (space.unit, space.depth_compression, block.bank_size);
    let k = space.n_max / n;
    let (enters, most, budget) = reference(space, b);
    assert!(s >= 1 && s <= space.max_bank_size);
    let initial = enters / (s * n);
    assert!(initial >= 1, "no whole bank of {s} units");
    assert!(s % d == 0 || initial >= d, "banks of {s} units cannot be read in whole slices");
    let share = |fraction: f64| initial + (fraction * (space.depth * k) as f64).ceil() as usize / s;
    let (fewest_banks, most_banks) = (share(0.3).min(most / (s * n)), share(limits.max_fraction).min(most / (s * n)));
    assert!((fewest_banks..=most_banks).contains(&block.n_banks), "{} banks", block.n_banks);

    let mut full = vec![false; block.n_banks];
    full[..initial].fill(true);
    let mut slices = 0;
    assert!(!block.ops.is_empty());
    for op in &block.ops {
        slices += op_reads(op, &full, s, d);
        op_writes(op, &mut full, s, k);
        op_body(space, op, limits.max_kernel);
    }
    let all = budget / (n * d);
    assert!(slices as f64 <= limits.max_fraction * all as f64, "{slices} of {all} slices");
    if filled {
        let smallest_op = (1..).find(|reads| reads * s % d == 0).unwrap() * s / d;
        assert!((slices + smallest_op) as f64 > (0.3 * all as f64).floor(), "{slices} of {all} slices");
    }
}

/// Checks the reads and returns the slices they take.
fn op_reads(op: &Op, full: &[bool], s: usize, d: usize) -> usize {
    assert!(!op.read.is_empty());
    assert!(op.read.windows(2).all(|pair| pair[0] < pair[1]), "reads {:?}", op.read);
    assert!(op.read.iter().all(|&bank| full[bank]), "reads an empty bank: {:?}", op.read);
    assert_eq!(op.read.len() * s % d, 0, "{} reads are not whole slices", op.read.len());
    op.read.len() * s / d
}

fn op_writes(op: &Op, full: &mut [bool], s: usize, k: usize) {
    assert!(op.width >= s && op.width <= k && op.width.is_multiple_of(s), "width {}", op.width);
    let written = full.iter().filter(|&&f| f).count();
    let least = op.width / s;
    assert!(op.write.len() >= least && op.write.len() <= least.max(written / 2), "writes {:?}", op.write);
    let fresh = op.write.iter().filter(|&&bank| !full[bank]).count();
    assert!(fresh <= least, "fills {fresh} empty banks with {least}");
    let mut sorted = op.write.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), op.write.len(), "writes a bank twice: {:?}", op.write);
    sorted.iter().for_each(|&bank| full[bank] = true);
    let first_empty = full.iter().position(|f| !f).unwrap_or(full.len());
    assert!(full[first_empty..].iter().all(|f| !f), "leaves a gap: {:?}", op.write);
}

fn op_body(space: &Space, op: &Op, max_kernel: usize) {
    let active = [0, 1, 2, 3].map(|i| op.body[i].is_some());
    assert!(space.bodies.iter().any(|body| body.active == active));
    for conv in op.body.iter().flatten() {
        for axis in 0..2 {
            let (kernel, dilation) = (conv.kernel[axis], conv.dilation[axis]);
            assert!(space.kernels.contains(&kernel) && kernel <= max_kernel, "kernel {kernel}");
            // Extent 9, in all spaces that tests draw from.
            let most = [0, 0, 0, 3, 0, 2, 0, 1][kernel];
            assert!(dilation >= 1 && dilation <= most, "dilation {dilation} of kernel {kernel}");
            assert!((kernel - 1) * dilation < space.max_extent);
        }
        if space.square_kernels {
            assert_eq!((conv.kernel[0], conv.dilation[0]), (conv.kernel[1], conv.dilation[1]));
        }
        assert!(space.groups.contains(&conv.groups) && space.unit.is_multiple_of(conv.groups));
        assert!(space.nonlinearities.contains(&conv.activation), "{:?}", conv.activation);
    }
    let [inside, at_end] = op.gates;
    assert!(space.gates || !inside && !at_end);
    // What arrives at the end: one value for each path, or for each convolution behind a gate inside.
    let ends = if inside { usize::from(active[1]) + usize::from(active[3]) } else { 1 + usize::from(active[2]) };
    assert!(!inside || active[2] && ends > 0, "a gate inside of {active:?}");
    assert!(!at_end || ends == 2, "a gate at the end of {active:?}");
}
