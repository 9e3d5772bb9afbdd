use super::*;
use crate::nas::arch::Conv;
use crate::nas::options::Nonlinearity;
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::space::BodyChoice;
use crate::rng::Stream;

/// N = 2, k = 3, D = 2: 4 + 6 + 6 channels enter, at most 12, 12 and 16 fill the blocks' banks.
fn tiny() -> Space {
    let body = |active| BodyChoice { active, probability: 0.5 };
    Space {
        unit: 2,
        n_max: 6,
        depth_compression: 2,
        max_bank_size: 3,
        kernels: vec![3, 5],
        square_kernels: true,
        max_extent: 9,
        groups: vec![1, 2],
        bodies: vec![body([true, false, false, false]), body([true, true, false, false])],
        expansion: 2,
        expansion_fixed: false,
        depth: 4,
        widening: 1,
        encoding: EncodingKind::Full,
        ..Space::small()
    }
}

/// Block 0 has banks of 1 unit, blocks 1 and 2 of 1 and 2 units.
fn tiny_arch() -> Architecture {
    let conv = |kernel, dilation, groups| {
        Some(Conv { kernel: [kernel; 2], dilation: [dilation; 2], groups, activation: Nonlinearity::Relu })
    };
    let op = |read: &[usize], write: &[usize], width, body| Op {
        read: read.into(),
        write: write.into(),
        width,
        body,
        gates: [false; 2],
    };
    let one = [conv(3, 3, 2), None, None, None];
    let two = [conv(5, 1, 1), conv(3, 2, 2), None, None];
    let blocks = vec![
        Block { bank_size: 1, n_banks: 5, ops: vec![op(&[0, 1], &[0, 2], 2, one)] },
        Block { bank_size: 1, n_banks: 4, ops: vec![op(&[0, 1], &[2], 1, two)] },
        Block { bank_size: 2, n_banks: 2, ops: vec![op(&[0], &[1], 2, one), op(&[0, 1], &[0], 2, two)] },
    ];
    Architecture::new(tiny(), blocks)
}

#[test]
fn a_tiny_architecture_is_encoded_as_written_out_by_hand() {
    let arch = tiny_arch();
    arch.validate().unwrap();
    let c = encode(&arch, EncodeOptions::default());
    assert_eq!((c.channels, c.height, c.width), (8 + 8 + 3 + 3 + 6 + 4 + 2 + 4, 3, 5));
    assert_eq!(c.data.len(), c.channels * c.height * c.width);
    // Columns: block 0's op | block 1's op | block 2's first op | its second op, two slices.
    // Rows 0 and 1, of which row 1 is empty under the second op (width 1). Row 2 is empty.
    let filled: &[(&str, [u8; 5], [u8; 5])] = &[
        ("read bank 0", [1, 1, 1, 1, 0], [1, 0, 1, 1, 0]),
        ("read bank 1", [1, 1, 0, 0, 1], [1, 0, 0, 0, 1]),
        ("write bank 0", [1, 0, 0, 1, 1], [1, 0, 0, 1, 1]),
        ("write bank 1", [0, 0, 1, 0, 0], [0, 0, 1, 0, 0]),
        ("write bank 2", [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]),
        ("block 0", [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]),
        ("block 1", [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]),
        ("block 2", [0, 0, 1, 1, 1], [0, 0, 1, 1, 1]),
        ("width 1", [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]),
        ("width 2", [1, 0, 1, 1, 1], [1, 0, 1, 1, 1]),
        ("dilation conv 0 1", [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]),
        ("dilation conv 0 3", [1, 0, 1, 0, 0], [1, 0, 1, 0, 0]),
        ("dilation conv 1 2", [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]),
        ("kernel conv 0 3", [1, 0, 1, 0, 0], [1, 0, 1, 0, 0]),
        ("kernel conv 0 5", [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]),
        ("kernel conv 1 3", [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]),
        ("active conv 0", [1, 1, 1, 1, 1], [1, 0, 1, 1, 1]),
        ("active conv 1", [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]),
        ("groups conv 0 1", [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]),
        ("groups conv 0 2", [1, 0, 1, 0, 0], [1, 0, 1, 0, 0]),
        ("groups conv 1 2", [0, 1, 0, 1, 1], [0, 0, 0, 1, 1]),
    ];
    for (channel, name) in channel_layout(&arch.space).iter().enumerate() {
        let (_, row0, row1) = filled.iter().find(|(fact, ..)| fact == name).unwrap_or(&("", [0; 5], [0; 5]));
        for column in 0..5 {
            let found = [0, 1, 2].map(|row| c.at(channel, row, column));
            assert_eq!(found, [row0[column].into(), row1[column].into(), 0.0], "{name}, column {column}");
        }
    }
}

#[test]
fn channels_are_named_in_the_order_of_the_table() {
    let names = channel_layout(&Space::v2());
    // 32 + 32 banks, 3 blocks, 8 widths, 4 x 2 x 3 dilations and kernels, 4 active, 4 x 4 groups
    assert_eq!(names.len(), 143);
    let at = |i: usize| names[i].as_str();
    assert_eq!((at(3), at(32), at(64), at(67)), ("read bank 3", "write bank 0", "block 0", "width 1"));
    assert_eq!(
        (at(75), at(78), at(81)),
        ("dilation conv 0 height 1", "dilation conv 0 width 1", "dilation conv 1 height 1")
    );
    assert_eq!(
        (at(99), at(106), at(122)),
        ("kernel conv 0 height 3", "kernel conv 1 height 5", "kernel conv 3 width 7")
    );
    assert_eq!(
        (at(123), at(126), at(127), at(142)),
        ("active conv 0", "active conv 3", "groups conv 0 1", "groups conv 3 8")
    );
}

#[test]
fn facts_that_do_not_vary_take_no_channels() {
    let v1 = Space::v1();
    let names = channel_layout(&v1);
    assert_eq!(names.len(), 32 + 32 + 3);
    assert_eq!(names[64..], ["dilation conv 0 1", "dilation conv 0 2", "dilation conv 0 3"]);
    // Stated in full, v1 adds only what varies there: block and width.
    let full = Layout::new(&Space { encoding: EncodingKind::Full, ..v1.clone() });
    assert_eq!((full.block.len(), full.width.len(), full.dilation.len()), (3, 7, 3));
    assert!(full.kernel.is_empty() && full.active.is_empty() && full.groups.is_empty());
    let undilated = Layout::new(&Space { max_extent: 5, n_max: 6, max_bank_size: 1, ..v1 });
    assert!(undilated.dilation.is_empty() && undilated.width.is_empty());
}

#[test]
fn names_and_layout_agree_in_every_space() {
    let paper = Space { encoding: EncodingKind::Paper, ..Space::v2() };
    let square = Space { square_kernels: true, ..Space::v2() };
    for space in [Space::v1(), Space::v2(), Space::fixture(), tiny(), paper, square] {
        let (layout, names) = (Layout::new(&space), channel_layout(&space));
        assert_eq!(names.len(), layout.channels);
        let of = |range: &Range<usize>, prefix: &str| names[range.clone()].iter().all(|name| name.starts_with(prefix));
        assert!(of(&layout.read, "read bank ") && of(&layout.write, "write bank ") && of(&layout.block, "block "));
        assert!(of(&layout.width, "width ") && of(&layout.dilation, "dilation ") && of(&layout.kernel, "kernel "));
        assert!(of(&layout.active, "active conv ") && of(&layout.groups, "groups conv "));
        let mut distinct = names.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), names.len());
    }
}

/// What a reader of c can tell about the ops: for each, block, width, reads and writes (ascending).
fn decode(c: &Encoding, arch: &Architecture) -> Vec<(usize, Vec<usize>, Vec<usize>)> {
    let banks = arch.space.max_banks();
    let set = |channels: Range<usize>, columns: Range<usize>| {
        let on = |m: &usize| columns.clone().any(|column| c.at(channels.start + m, 0, column) == 1.0);
        (0..banks).filter(on).collect::<Vec<_>>()
    };
    let mut column = 0;
    let mut ops = Vec::new();
    for op in arch.blocks.iter().flat_map(|block| block.ops.iter().map(move |op| op.slices(block, &arch.space))) {
        let columns = column..column + op;
        let filled = |row: usize| (0..2 * banks).any(|channel| c.at(channel, row, column) == 1.0);
        let width = (0..c.height).take_while(|&row| filled(row)).count();
        ops.push((width, set(0..banks, columns.clone()), set(banks..2 * banks, columns.clone())));
        column = columns.end;
    }
    assert_eq!(column, c.width);
    ops
}

#[test]
fn reads_writes_and_widths_can_be_read_back() {
    for space in [Space::v1(), Space::v2(), Space::fixture(), Space { depth_compression: 3, ..Space::v2() }] {
        let mut rng = Rng::new(1, Stream::Arch);
        for _ in 0..300 {
            let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
            let ops = arch.blocks.iter().flat_map(|block| &block.ops);
            let stated: Vec<_> = ops.map(|op| (op.width, op.read.clone(), op.write.clone())).collect();
            assert_eq!(decode(&encode(&arch, EncodeOptions::default()), &arch), stated);
        }
    }
}

/// The names of all facts about an op, put together without the layout.
fn facts_by_name(placed: &PlacedOp) -> Vec<String> {
    let op = placed.op;
    let mut names = vec![format!("block {}", placed.block_index), format!("width {}", op.width)];
    names.extend(op.read.iter().map(|bank| format!("read bank {bank}")));
    names.extend(op.write.iter().map(|bank| format!("write bank {bank}")));
    for (i, conv) in op.body.iter().enumerate() {
        let Some(Conv { kernel, dilation, groups, .. }) = conv else { continue };
        names.push(format!("active conv {i}"));
        names.push(format!("groups conv {i} {groups}"));
        names.push(format!("kernel conv {i} height {}", kernel[0]));
        names.push(format!("kernel conv {i} width {}", kernel[1]));
        names.push(format!("dilation conv {i} height {}", dilation[0]));
        names.push(format!("dilation conv {i} width {}", dilation[1]));
    }
    names.sort_unstable();
    names
}

#[test]
fn exactly_the_facts_of_an_op_are_filled() {
    for space in [Space::v2(), Space::fixture()] {
        let names = channel_layout(&space);
        let mut rng = Rng::new(2, Stream::Arch);
        for _ in 0..50 {
            let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
            let c = encode(&arch, EncodeOptions::default());
            for placed in arch.placed_ops() {
                let on = |channel: &usize| placed.columns.clone().any(|column| c.at(*channel, 0, column) == 1.0);
                let mut filled: Vec<String> = (0..c.channels).filter(on).map(|i| names[i].clone()).collect();
                filled.sort_unstable();
                assert_eq!(filled, facts_by_name(&placed));
            }
        }
    }
}

/// Bank size 3 and D = 2: unit by unit, the slices of banks p, q are pp, pq, qq.
#[test]
fn a_slice_shared_by_several_banks_names_them_all() {
    let mut arch = tiny_arch();
    let conv = Some(Conv { kernel: [3, 3], dilation: [1, 1], groups: 1, activation: Nonlinearity::Relu });
    let body = [conv, None, None, None];
    arch.space = Space { n_max: 6, max_bank_size: 3, widening: 3, ..tiny() };
    let block = Block {
        bank_size: 3,
        n_banks: 2,
        ops: vec![Op { read: vec![0, 1], write: vec![1], width: 3, body, gates: [false; 2] }],
    };
    let banks: Vec<(usize, Range<usize>)> = bank_columns(&block.ops[0], &block, &arch.space).collect();
    assert_eq!(banks, [(0, 0..2), (1, 1..3)]);
}

#[test]
fn empty_value_and_noise_are_options() {
    let arch = tiny_arch();
    let plain = encode(&arch, EncodeOptions::default());
    let mut rng = Rng::new(1, Stream::Arch);
    let noisy = encode(&arch, EncodeOptions { empty: -1.0, noise: Some(&mut rng) });
    assert_eq!(noisy.channels, plain.channels + 1);
    for (a, b) in plain.data.iter().zip(&noisy.data) {
        assert_eq!(*b, if *a == 1.0 { 1.0 } else { -1.0 });
    }
    let mut same = Rng::new(1, Stream::Arch);
    let noise = &noisy.data[plain.data.len()..];
    assert_eq!(noise.len(), 3 * 5);
    assert!(noise.iter().all(|&value| value == same.normal() as f32));
}
