//! An architecture as a table for people.
//!
//! One line per op with what it reads, how wide it is at its input, bottleneck and output, its
//! body and what it costs in the resulting network ([`super::cost`]); totals at the end.

use std::fmt::Write;

use super::arch::{Architecture, Conv, Op};
use super::cost::{Cost, Part, rows};
use super::space::BLOCKS;
use super::twin::NetworkShape;

/// Titles of the columns. Channels are counted where they enter the 1x1, leave it, and leave the op.
const HEADER: [&str; 9] = ["op", "reads", "in", "mid", "out", "body", "writes", "params", "MACs"];

/// A readable plain-text table of a valid architecture, ending in a newline.
pub fn table(arch: &Architecture, shape: &NetworkShape) -> String {
    let costs = rows(arch, shape);
    let mut lines = vec![Line::Cells(HEADER.map(str::to_string))];
    for &(part, cost) in &costs {
        lines.extend(part_lines(arch, shape, part, cost));
    }
    let image = extent(shape.image());
    let order = if arch.space.activation.is_pre() { "" } else { ", activations behind convolutions" };
    let (id, channels, classes) = (arch.id(), shape.image_channels, shape.classes);
    let mut text = format!("architecture {id}: image {channels} x {image}, {classes} classes{order}\n");
    text += &aligned(&lines);
    let total = costs.iter().fold(Cost::default(), |sum, &(_, cost)| sum + cost);
    let ops: usize = arch.blocks.iter().map(|block| block.ops.len()).sum();
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "total: {ops} ops, {} layers with weights, {} slices, {} parameters, {} MACs ({} FLOPs)",
        arch.layers(),
        arch.slices(),
        short(total.params),
        short(total.macs),
        short(2 * total.macs)
    );
    text
}

/// A line of the table: cells to align, or free text.
enum Line {
    Cells([String; 9]),
    Text(String),
}

/// The lines of one part; the first op of a block comes with the block's own line.
fn part_lines(arch: &Architecture, shape: &NetworkShape, part: Part, cost: Cost) -> Vec<Line> {
    let enters = |b: usize| arch.blocks[b].input_channels(b, &arch.space);
    let leaves = |b: usize| arch.blocks[b].output_channels(b, &arch.space);
    let number = |block: usize, number: usize| op_line(arch, shape, [block, number], cost);
    match part {
        Part::Stem => vec![fixed_line("stem", shape.image_channels, enters(0), &stem(shape), cost)],
        Part::Op { block, op: 0 } => vec![Line::Text(block_line(arch, shape, block)), number(block, 0)],
        Part::Op { block, op } => vec![number(block, op)],
        Part::Transition { after } => vec![fixed_line("trans", leaves(after), enters(after + 1), "1x1 pool", cost)],
        Part::Head => vec![fixed_line("head", leaves(BLOCKS - 1), shape.classes, "pool fc", cost)],
    }
}

/// The line of a part that every network has.
fn fixed_line(name: &str, enters: usize, leaves: usize, body: &str, cost: Cost) -> Line {
    let (enters, leaves) = (enters.to_string(), leaves.to_string());
    let (params, macs) = (short(cost.params), short(cost.macs));
    Line::Cells([name, "-", &enters, "-", &leaves, body, "-", &params, &macs].map(str::to_string))
}

fn block_line(arch: &Architecture, shape: &NetworkShape, index: usize) -> String {
    let (block, space) = (&arch.blocks[index], &arch.space);
    format!(
        "block {index}: {}, banks of {} channels, {} of {} used, {} to {} channels, {} of {} slices",
        extent(shape.extent(index)),
        block.bank_size * space.unit,
        block.written_banks(index, space).len(),
        block.n_banks,
        block.input_channels(index, space),
        block.output_channels(index, space),
        block.slices(space),
        space.slices()[index]
    )
}

/// Line of op `number` of block `index`.
fn op_line(arch: &Architecture, shape: &NetworkShape, [index, number]: [usize; 2], cost: Cost) -> Line {
    let (block, space) = (&arch.blocks[index], &arch.space);
    let op = &block.ops[number];
    Line::Cells([
        number.to_string(),
        ranges(&op.read),
        op.input_channels(block, space).to_string(),
        op.bottleneck_channels(block, space).to_string(),
        op.output_channels(space).to_string(),
        body(op, shape),
        ranges(&op.write),
        short(cost.params),
        short(cost.macs),
    ])
}

/// Path A, then path B after `|`: `3x5 d1x2 g4, 3x3 tanh | 7x3, gate at end`. Dilation and groups of 1 and ReLU are
/// left out.
pub fn body(op: &Op, shape: &NetworkShape) -> String {
    let path = |convs: &[Option<Conv>]| convs.iter().flatten().map(|c| conv(c, shape)).collect::<Vec<_>>().join(", ");
    let (a, b) = op.body.split_at(2);
    let paths = match path(b) {
        second if second.is_empty() => path(a),
        second => format!("{} | {second}", path(a)),
    };
    match op.gates {
        [false, false] => paths,
        [true, false] => format!("{paths}, gate inside"),
        [false, true] => format!("{paths}, gate at end"),
        [true, true] => format!("{paths}, both gates"),
    }
}

/// A convolution of a body: `3x5 d1x2 g4 tanh`; ReLU is left out.
pub fn conv(conv: &Conv, shape: &NetworkShape) -> String {
    let (taps, groups) = (shape.body(conv), conv.groups);
    let mut text = joined(taps.kernel, shape);
    if taps.dilation != [1; 3] {
        text += &format!(" d{}", joined(taps.dilation, shape));
    }
    if groups != 1 {
        text += &format!(" g{groups}");
    }
    if !conv.activation.is_relu() {
        text += &format!(" {}", conv.activation.name());
    }
    text
}

/// `7x7`, `3x3x3`; with the stride behind it unless that is 1: `7x7 s2`.
pub fn stem(shape: &NetworkShape) -> String {
    let kernel = joined(shape.stem().kernel, shape);
    if shape.stem_stride == 1 { kernel } else { format!("{kernel} s{}", shape.stem_stride) }
}

/// Numbers for rows and columns, and in a network for volumes for slices in front of them: `3x5`, `3x3x3`.
fn joined(numbers: [usize; 3], shape: &NetworkShape) -> String {
    let used = &numbers[usize::from(!shape.is_volume())..];
    used.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// `32 x 32`, and with more than one slice `16 x 32 x 32`.
pub fn extent([slices, rows, columns]: [usize; 3]) -> String {
    match slices {
        1 => format!("{rows} x {columns}"),
        _ => format!("{slices} x {rows} x {columns}"),
    }
}

/// Bank indices with runs shortened: `0-3,7`. The order is kept.
pub fn ranges(banks: &[usize]) -> String {
    let runs = banks.chunk_by(|a, b| a + 1 == *b);
    let run = |run: &[usize]| match run {
        [first, .., last] => format!("{first}-{last}"),
        _ => run.iter().map(usize::to_string).collect(),
    };
    runs.map(run).collect::<Vec<_>>().join(",")
}

/// A count with three or more digits and a decimal unit: `999`, `12.3k`, `4.61M`.
pub fn short(count: u64) -> String {
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        let value = count as f64 / unit;
        if value >= 1.0 {
            let digits = if value >= 100.0 {
                0
            } else if value >= 10.0 {
                1
            } else {
                2
            };
            return format!("{value:.digits$}{name}");
        }
    }
    count.to_string()
}

/// The cells in columns as wide as their widest; reads, body and writes to the left.
fn aligned(lines: &[Line]) -> String {
    let mut widths = [0; HEADER.len()];
    for line in lines {
        if let Line::Cells(cells) = line {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells = match line {
            Line::Text(line) => {
                text += line;
                text.push('\n');
                continue;
            }
            Line::Cells(cells) => cells,
        };
        let padded = cells.iter().zip(widths).enumerate().map(|(i, (cell, width))| match i {
            1 | 5 | 6 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += padded.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::arch::Block;
    use crate::nas::options::Nonlinearity;
    use crate::nas::space::Space;

    const SHAPE: NetworkShape = NetworkShape::pictures(3, 32, 10, 3);

    #[test]
    fn table_shows_every_element_of_an_op() {
        let conv = |kernel, dilation, groups| Some(Conv { kernel, dilation, groups, activation: Nonlinearity::Relu });
        let op = Op {
            read: vec![0, 1],
            write: vec![2],
            width: 2,
            body: [conv([3, 5], [1, 2], 4), conv([3, 3], [1, 1], 1), conv([7, 3], [1, 1], 2), None],
            gates: [false; 2],
        };
        let block = Block { bank_size: 2, n_banks: 5, ops: vec![op] };
        let arch = Architecture::new(Space::fixture(), vec![block; 3]);
        let text = table(&arch, &SHAPE);
        let op_line = text.lines().find(|line| line.trim_start().starts_with("0 ")).unwrap();
        let words: Vec<&str> = op_line.split_whitespace().collect();
        let expected = ["0", "0-1", "16", "16", "8", "3x5", "d1x2", "g4,", "3x3", "|", "7x3", "g2", "2"];
        assert_eq!(words[..expected.len()], expected);
        assert!(text.contains("block 1: 16 x 16, banks of 8 channels, 3 of 5 used, 24 to 24 channels, 2 of 19 slices"));
        assert!(text.contains("total: 3 ops, 16 layers with weights, 6 slices, "));
        assert!(text.contains(&arch.id()));
    }

    #[test]
    fn volumes_show_cubes_and_strided_stems_their_stride() {
        let conv = |kernel, dilation, groups| Some(Conv { kernel, dilation, groups, activation: Nonlinearity::Relu });
        let body = [conv([3, 5], [1, 2], 4), conv([3, 3], [1, 1], 1), None, None];
        let op = Op { read: vec![0, 1], write: vec![2], width: 2, body, gates: [false; 2] };
        let arch = Architecture::new(Space::fixture(), vec![Block { bank_size: 2, n_banks: 5, ops: vec![op] }; 3]);
        let text = table(&arch, &NetworkShape { image_depth: 4, ..SHAPE });
        assert!(text.contains(": image 3 x 4 x 32 x 32, 10 classes\n"), "{text}");
        assert!(text.contains("  3x3x3 d1x1x2 g4, 3x3x3  "), "{text}");
        assert!(text.contains("block 1: 2 x 16 x 16, ") && text.contains("block 2: 8 x 8, "), "{text}");
        let stem = |text: &str| text.lines().find(|line| line.trim_start().starts_with("stem")).unwrap().to_string();
        assert!(stem(&text).contains("  3x3x3  "), "{text}");
        let strided = table(&arch, &NetworkShape { stem_stride: 2, ..SHAPE });
        assert!(stem(&strided).contains("  3x3 s2  ") && strided.contains("block 0: 16 x 16, "), "{strided}");
    }

    #[test]
    fn runs_of_banks_are_shortened_and_counts_keep_three_digits() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(ranges(&[8, 7]), "8,7");
        let counts = [0, 999, 1000, 12_345, 123_456, 4_610_000, 16_000_000_000].map(short);
        assert_eq!(counts, ["0", "999", "1.00k", "12.3k", "123k", "4.61M", "16.0G"]);
    }
}
