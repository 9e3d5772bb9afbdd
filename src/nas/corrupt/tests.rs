use super::*;
use crate::nas::arch::{Block, Conv, Op};
use crate::nas::encode::{EncodeOptions, channel_layout};
use crate::nas::options::Nonlinearity;
use crate::nas::space::{EncodingKind, Space};
use crate::rng::Stream;

fn plain(arch: &Architecture) -> Encoding {
    super::super::encode::encode(arch, EncodeOptions::default())
}

fn drawn(space: &Space, count: usize) -> Vec<Architecture> {
    let mut rng = Rng::new(4, Stream::Arch);
    (0..count).map(|_| sample(space, &SampleLimits::full(space), &mut rng)).collect()
}

fn lie(arch: &Architecture, kind: Corruption, seed: u64) -> Option<Corrupted> {
    corrupt(arch, &plain(arch), kind, plain, &mut Rng::new(seed, Stream::Search))
}

/// Starts of the names of the channels that a kind may change.
fn prefixes(kind: Corruption) -> &'static [&'static str] {
    match kind {
        Corruption::Dilation => &["dilation"],
        Corruption::Kernel => &["kernel"],
        Corruption::Groups => &["groups"],
        Corruption::Activation => &["activation"],
        Corruption::Gate => &["gate"],
        Corruption::Reads => &["read bank"],
        Corruption::Writes => &["write bank"],
        Corruption::Width => &["width"],
        Corruption::Body => &["dilation", "kernel", "active", "groups", "activation", "gate"],
        Corruption::Another => &[""],
    }
}

/// Names of all filled channels of one column, in one row, that start with one of `prefixes`.
fn said(c: &Encoding, names: &[String], row: usize, column: usize, prefixes: &[&str]) -> Vec<String> {
    let filled = (0..names.len()).filter(|&channel| c.at(channel, row, column) == 1.0);
    filled.map(|channel| names[channel].clone()).filter(|name| prefixes.iter().any(|p| name.starts_with(p))).collect()
}

/// What each fact of a kind is about: `dilation conv 1 height`, without its value. A body is one fact.
fn subjects(kind: Corruption, names: &[String]) -> Vec<String> {
    let of_kind = names.iter().filter(|name| prefixes(kind).iter().any(|p| name.starts_with(p)));
    let mut subjects: Vec<String> = match kind {
        Corruption::Dilation | Corruption::Kernel | Corruption::Groups | Corruption::Activation => {
            of_kind.filter_map(|name| name.rsplit_once(' ')).map(|(subject, _)| format!("{subject} ")).collect()
        }
        _ => vec![String::new()],
    };
    subjects.dedup();
    subjects
}

/// Everything varies that may.
fn with_options() -> Space {
    Space { nonlinearities: vec![Nonlinearity::Relu, Nonlinearity::Tanh], gates: true, ..Space::small() }
}

fn spaces() -> [Space; 4] {
    [Space::v1(), Space::v2(), with_options(), Space { encoding: EncodingKind::Paper, ..Space::v2() }]
}

const SHUFFLED: [Corruption; 9] = [
    Corruption::Dilation,
    Corruption::Kernel,
    Corruption::Groups,
    Corruption::Activation,
    Corruption::Gate,
    Corruption::Reads,
    Corruption::Writes,
    Corruption::Width,
    Corruption::Body,
];

#[test]
fn only_the_named_channels_change_and_no_row_is_filled_that_was_empty() {
    for space in spaces() {
        let names = channel_layout(&space);
        for arch in drawn(&space, 10) {
            let truth = plain(&arch);
            for kind in SHUFFLED {
                let Some(lie) = lie(&arch, kind, 1) else { continue };
                assert_eq!((lie.encoding.channels, lie.encoding.data.len()), (truth.channels, truth.data.len()));
                for placed in arch.placed_ops() {
                    for (channel, name) in names.iter().enumerate() {
                        let named = prefixes(kind).iter().any(|p| name.starts_with(p));
                        for column in placed.columns.clone() {
                            let at =
                                |c: &Encoding| (0..c.height).map(|row| c.at(channel, row, column)).collect::<Vec<_>>();
                            let (was, is) = (at(&truth), at(&lie.encoding));
                            assert!(named || was == is, "{kind:?} changes {name}");
                            assert!(is[..placed.op.width].iter().all(|&value| value == is[0]), "rows of {name} differ");
                            assert!(is[placed.op.width..].iter().all(|&value| value == 0.0), "{name} outside the op");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_said_of_a_block_is_what_was_said_at_other_places() {
    let mut changes = 0;
    for space in spaces() {
        let names = channel_layout(&space);
        for arch in drawn(&space, 10) {
            let truth = plain(&arch);
            for kind in SHUFFLED {
                let Some(lie) = lie(&arch, kind, 2) else { continue };
                for subject in subjects(kind, &names) {
                    let of = |c: &Encoding, column: usize| -> Vec<String> {
                        let mut said = said(c, &names, 0, column, prefixes(kind));
                        said.retain(|name| name.starts_with(&subject));
                        said
                    };
                    for block in 0..3 {
                        let ops = arch.placed_ops().filter(|placed| placed.block_index == block);
                        // An op says the same in all of its columns, but for its reads.
                        let columns: Vec<usize> = match kind {
                            Corruption::Reads => ops.flat_map(|op| op.columns).collect(),
                            _ => ops.map(|op| op.columns.start).collect(),
                        };
                        let [mut was, mut is] = [&truth, &lie.encoding]
                            .map(|c| columns.iter().map(|&column| of(c, column)).collect::<Vec<_>>());
                        // A gate may be said to be where there is none.
                        for (was, is) in was.iter().zip(&is).filter(|_| kind != Corruption::Gate) {
                            assert_eq!(was.is_empty(), is.is_empty(), "{kind:?} {subject} of nothing");
                        }
                        changes += usize::from(was != is);
                        was.sort_unstable();
                        is.sort_unstable();
                        assert_eq!(was, is, "{kind:?} {subject} in block {block}");
                    }
                }
                for placed in arch.placed_ops().filter(|_| kind != Corruption::Reads) {
                    let of = |column| said(&lie.encoding, &names, 0, column, prefixes(kind));
                    let first = of(placed.columns.start);
                    assert!(placed.columns.clone().all(|column| of(column) == first));
                }
            }
        }
    }
    assert!(changes > 300, "{changes}");
}

#[test]
fn something_is_wrong_or_nothing_is_returned() {
    for space in spaces() {
        for arch in drawn(&space, 10) {
            let truth = plain(&arch);
            for kind in Corruption::ALL {
                let Some(lie) = lie(&arch, kind, 3) else { continue };
                let differs = |column: &usize| {
                    let all =
                        || (0..truth.channels).flat_map(|channel| (0..truth.height).map(move |row| (channel, row)));
                    all()
                        .any(|(channel, row)| truth.at(channel, row, *column) != lie.encoding.at(channel, row, *column))
                };
                let columns = (0..truth.width).filter(differs).count();
                assert!(columns > 0, "{kind:?}");
                assert!((lie.changed - columns as f64 / truth.width as f64).abs() < 1e-12);
            }
        }
    }
    // v1 states neither, and two facts of a whole body are needed to differ from one of them.
    const SILENT: [Corruption; 6] = [
        Corruption::Kernel,
        Corruption::Groups,
        Corruption::Activation,
        Corruption::Gate,
        Corruption::Width,
        Corruption::Body,
    ];
    for arch in drawn(&Space::v1(), 5) {
        for kind in SILENT {
            assert_eq!(lie(&arch, kind, 1), None);
        }
        for kind in [Corruption::Dilation, Corruption::Reads, Corruption::Writes, Corruption::Another] {
            assert!(lie(&arch, kind, 1).is_some(), "{kind:?}");
        }
    }
}

/// Two ops in the first block, one in each of the others: only the first block has anything to shuffle.
fn two_ops(first: Op, second: Op) -> Architecture {
    let single = Op { read: vec![0], write: vec![0], ..first.clone() };
    let block = |ops| Block { bank_size: 2, n_banks: 5, ops };
    Architecture::new(
        Space::fixture(),
        vec![block(vec![first, second]), block(vec![single.clone()]), block(vec![single])],
    )
}

#[test]
fn two_ops_exchange_their_values_and_equal_ones_have_none_to_exchange() {
    let conv = |kernel, dilation, groups| {
        Some(Conv { kernel: [kernel, 3], dilation: [1, dilation], groups, activation: Nonlinearity::Relu })
    };
    let first =
        Op { read: vec![0], write: vec![2], width: 2, body: [conv(3, 1, 2), None, None, None], gates: [false; 2] };
    let second = Op {
        read: vec![0, 2],
        write: vec![1],
        width: 2,
        body: [conv(5, 3, 2), conv(7, 2, 4), None, None],
        gates: [false; 2],
    };
    let arch = two_ops(first.clone(), second.clone());
    arch.validate().unwrap();
    let exchanged = |change: &dyn Fn(&mut Op, &mut Op)| {
        let (mut one, mut two) = (first.clone(), second.clone());
        change(&mut one, &mut two);
        plain(&two_ops(one, two)).data
    };
    // Whatever the seed: the only other order there is. The second convolution is alone and keeps its values.
    for seed in 0..5 {
        let found = |kind| lie(&arch, kind, seed).map(|lie| lie.encoding.data[..].to_vec());
        let block0 = |data: Vec<f32>| -> Vec<f32> {
            let width = arch.slices();
            data.chunks(width).flat_map(|row| row[..3].to_vec()).collect()
        };
        let dilations = exchanged(&|one, two| {
            let [Some(a), Some(b)] = [&mut one.body[0], &mut two.body[0]] else { return };
            std::mem::swap(&mut a.dilation, &mut b.dilation);
        });
        assert_eq!(block0(found(Corruption::Dilation).unwrap()), block0(dilations));
        let kernels = exchanged(&|one, two| {
            let [Some(a), Some(b)] = [&mut one.body[0], &mut two.body[0]] else { return };
            std::mem::swap(&mut a.kernel, &mut b.kernel);
        });
        assert_eq!(block0(found(Corruption::Kernel).unwrap()), block0(kernels));
        let writes = exchanged(&|one, two| std::mem::swap(&mut one.write, &mut two.write));
        assert_eq!(block0(found(Corruption::Writes).unwrap()), block0(writes));
        let bodies = exchanged(&|one, two| std::mem::swap(&mut one.body, &mut two.body));
        assert_eq!(block0(found(Corruption::Body).unwrap()), block0(bodies));
        // Both first convolutions have two groups, both ops are as wide.
        assert_eq!((found(Corruption::Groups), found(Corruption::Width)), (None, None));
    }
}

#[test]
fn another_encoding_is_that_of_an_architecture_of_as_many_slices() {
    for space in [Space::v2(), Space::small()] {
        for arch in drawn(&space, 5) {
            let mut seen = Vec::new();
            let encode = |other: &Architecture| {
                other.validate().unwrap();
                plain(other)
            };
            let lie =
                corrupt(&arch, &plain(&arch), Corruption::Another, encode, &mut Rng::new(9, Stream::Search)).unwrap();
            seen.push(lie.encoding.width);
            assert_eq!(lie.encoding.width, arch.slices());
            // The same draws, searched for here.
            let mut rng = Rng::new(9, Stream::Search);
            let others = std::iter::repeat_with(|| sample(&space, &SampleLimits::full(&space), &mut rng));
            let other = others.take(DRAWS).find(|other| other.slices() == arch.slices()).unwrap();
            assert_eq!(lie.encoding, plain(&other));
        }
    }
}

#[test]
fn an_architecture_of_a_size_that_none_has_is_told_the_columns_of_the_closest() {
    let conv = Some(Conv { kernel: [3, 3], dilation: [1, 1], groups: 1, activation: Nonlinearity::Relu });
    let op = Op { read: vec![0], write: vec![0], width: 2, body: [conv, None, None, None], gates: [false; 2] };
    let space = Space::fixture();
    // One slice a block, and all that there are: no draw has as few or as many.
    for (counts, slices) in [([1, 1, 1], 3), (space.slices(), 64)] {
        let blocks = counts.map(|count| Block { bank_size: 2, n_banks: 5, ops: vec![op.clone(); count] });
        let arch = Architecture::new(space.clone(), blocks.to_vec());
        arch.validate().unwrap();
        assert_eq!(arch.slices(), slices);
        let lie = lie(&arch, Corruption::Another, 1).unwrap();
        let mut rng = Rng::new(1, Stream::Search);
        let others: Vec<_> = (0..DRAWS).map(|_| sample(&space, &SampleLimits::full(&space), &mut rng)).collect();
        let closest = others.iter().min_by_key(|other| other.slices().abs_diff(slices)).unwrap();
        let other = plain(closest);
        assert_ne!(other.width, slices);
        for channel in 0..other.channels {
            for row in 0..other.height {
                for column in 0..slices {
                    // Cut off, or begun again.
                    let from = if column < other.width { column } else { column - other.width };
                    assert_eq!(lie.encoding.at(channel, row, column), other.at(channel, row, from));
                }
            }
        }
    }
}

#[test]
fn the_seed_decides_the_lie() {
    let arch = drawn(&with_options(), 1).remove(0);
    for kind in Corruption::ALL {
        assert_eq!(lie(&arch, kind, 5), lie(&arch, kind, 5));
        assert_ne!(lie(&arch, kind, 5), lie(&arch, kind, 6), "{kind:?}");
    }
}

#[test]
fn other_ways_of_writing_are_kept() {
    let arch = drawn(&with_options(), 1).remove(0);
    let encode = |arch: &Architecture| {
        let mut noise = Rng::new(3, Stream::Init);
        super::super::encode::encode(arch, EncodeOptions { empty: -1.0, noise: Some(&mut noise) })
    };
    let truth = encode(&arch);
    for kind in SHUFFLED {
        let [lie, plain] =
            [corrupt(&arch, &truth, kind, encode, &mut Rng::new(7, Stream::Search)), lie(&arch, kind, 7)]
                .map(|lie| lie.unwrap().encoding);
        let len = plain.data.len();
        assert!(plain.data.iter().zip(&lie.data).all(|(a, b)| *b == if *a == 1.0 { 1.0 } else { -1.0 }), "{kind:?}");
        assert_eq!(lie.data[len..], truth.data[len..], "noise under {kind:?}");
    }
}
