//! An architecture as a picture, in the memory-bank view (Brock et al. 2018, figures 1 and 6 to 13).
//!
//! Time runs downwards. Every block is a panel, every bank a vertical line that begins where the bank is first
//! written, every op a row: a blue line collects the banks it reads (dots) and enters its 1x1 convolution,
//! the body's one or two paths follow, and an orange line carries the sum back to the banks it writes.
//! Rows of a space are equally high and know nothing of each other, so drawings of similar architectures differ
//! in few lines of text. Widths of texts are bounds: nothing overlaps, whatever font a viewer has.

mod panel;

use super::canvas::{Canvas, Style};
use crate::nas::arch::{Architecture, Block};
use crate::nas::cost::{Cost, Part, cost, rows};
use crate::nas::describe;
use crate::nas::space::BLOCKS;
use crate::nas::twin::NetworkShape;
use panel::Panel;

/// The class of the drawing, which its style rules are limited to.
const ROOT: &str = "smash-network";

const TITLE: Style = Style { class: "title", size: 18, anchor: "start", css: "font-weight: bold;" };
const FACTS: Style = Style { class: "facts", size: 13, anchor: "start", css: "" };
const BLOCK: Style = Style { class: "name", size: 14, anchor: "start", css: "font-weight: bold;" };
const NOTE: Style = Style { class: "note", size: 12, anchor: "start", css: "fill: #51606f;" };
const BANK: Style = Style { class: "number", size: 11, anchor: "middle", css: "fill: #51606f;" };
const ROW: Style = Style { class: "label", size: 12, anchor: "end", css: "fill: #51606f;" };
const CHIP: Style = Style { class: "chip", size: 12, anchor: "middle", css: "" };
const WIDTH: Style = Style { class: "out", size: 12, anchor: "start", css: "font-weight: bold;" };
const STYLES: [Style; 8] = [TITLE, FACTS, BLOCK, NOTE, BANK, ROW, CHIP, WIDTH];

/// How everything that is no text looks. Blue and vermilion differ for every kind of colour vision.
const RULES: [&str; 15] = [
    ".paper { fill: #ffffff; }",
    ".panel { fill: #f4f6f8; stroke: #d5dbe1; }",
    ".stripe { fill: #ffffff; }",
    ".bank { fill: none; stroke: #b4bdc7; stroke-width: 2; }",
    ".halo { fill: #f4f6f8; }",
    ".reads { fill: none; stroke: #1769aa; stroke-width: 1.5; }",
    ".read { fill: #1769aa; }",
    ".writes { fill: none; stroke: #d35400; stroke-width: 1.5; }",
    ".first { fill: #d35400; }",
    ".add { fill: #ffffff; stroke: #d35400; stroke-width: 1.5; }",
    ".flow { fill: none; stroke: #51606f; stroke-width: 1.5; }",
    ".sum { fill: #ffffff; stroke: #51606f; stroke-width: 1.5; }",
    ".point { fill: #fdf1cf; stroke: #c79a1f; }",
    ".conv { fill: #ffffff; stroke: #7b8794; }",
    ".part { fill: #e7ecf1; stroke: #7b8794; }",
];

/// Pixels around everything.
const MARGIN: usize = 12;
/// Where the labels of rows end.
const LABELS_END: usize = 58;
/// The line of bank 0.
const FIRST_BANK: usize = 78;
/// The heading needs this.
const LEAST_WIDTH: usize = 700;
/// Height of stem, transition or head, and of the space above and below.
const PART: usize = 26;
const GAP: usize = 14;

/// Where things are from left to right, and how high a row is.
struct Layout {
    /// Between the lines of two banks.
    pitch: usize,
    /// Where the 1x1 convolutions, the first and the second convolutions of the paths begin.
    point: usize,
    first: usize,
    second: usize,
    /// Widths of these boxes.
    point_width: usize,
    conv_width: usize,
    /// The line that goes back to the banks.
    out: usize,
    /// Of the whole drawing.
    width: usize,
    /// Has a row place for path B?
    two_paths: bool,
}

impl Layout {
    fn of(arch: &Architecture, shape: &NetworkShape) -> Self {
        let used = |(b, block): (usize, &Block)| block.written_banks(b, &arch.space).len();
        // In steps, so that one bank more or less seldom moves everything to its right.
        let columns = arch.blocks.iter().enumerate().map(used).max().unwrap_or(1).next_multiple_of(4);
        let digits = BANK.width(&columns.to_string()) + 4;
        let pitch = (680 / columns).clamp(digits.max(20), 32);
        let points = arch.placed_ops().map(|placed| CHIP.width(&panel::point(&arch.space, placed.block, placed.op)));
        let convs = arch.placed_ops().flat_map(|placed| placed.op.body.iter().flatten());
        let convs = convs.map(|conv| CHIP.width(&panel::conv(conv, shape)));
        // Usual texts get boxes of the same width in every drawing.
        let point_width = points.max().unwrap_or(0).max(88) + 8;
        let conv_width = convs.max().unwrap_or(0).max(88) + 8;
        let bodies = &arch.space.bodies;
        let two_paths = bodies.iter().any(|body| body.active[2]);
        let pairs = bodies.iter().any(|body| body.active[1] || body.active[3]);
        // From the left edge of a path's first convolution to the right edge of its last.
        let between = if arch.space.gates { 34 } else { 14 };
        let path_width = conv_width + if pairs { between + conv_width } else { 0 };
        let right = 8 + WIDTH.width("0000") + 2 * MARGIN;
        let body_width = point_width + 22 + path_width + 26 + right;
        let point = (FIRST_BANK + columns * pitch + 10).max(LEAST_WIDTH.saturating_sub(body_width));
        let first = point + point_width + 22;
        let (second, out) = (first + conv_width + between, first + path_width + 26);
        let width = out + right;
        Self { pitch, point, first, second, point_width, conv_width, out, width, two_paths }
    }

    /// The line of `bank`.
    fn bank(&self, bank: usize) -> usize {
        FIRST_BANK + bank * self.pitch
    }
}

/// Draws a valid architecture with what surrounds it in a network of `shape`.
///
/// The drawing is 700 to 1200 pixels wide in the presets' spaces, wider only with more banks than those have.
pub fn svg(arch: &Architecture, shape: &NetworkShape) -> String {
    let layout = Layout::of(arch, shape);
    let mut canvas = Canvas::default();
    let costs = rows(arch, shape);
    let mut y = heading(&mut canvas, arch, shape);
    let enters = |b: usize| arch.blocks[b].input_channels(b, &arch.space);
    let kernel = cross(&describe::stem(shape));
    let behind = if arch.space.activation.is_pre() { "" } else { ", ReLU" };
    y = part(&mut canvas, &layout, y, format!("stem: {kernel}, {}→{}{behind}", shape.image_channels, enters(0)));
    for (b, block) in arch.blocks.iter().enumerate() {
        let of_block = |part: &Part| matches!(part, Part::Op { block, .. } if *block == b);
        let costs: Vec<Cost> = costs.iter().filter(|(part, _)| of_block(part)).map(|&(_, cost)| cost).collect();
        y = Panel { layout: &layout, arch, shape, index: b }.draw(&mut canvas, y, &costs);
        let leaves = block.output_channels(b, &arch.space);
        let text = if b + 1 < BLOCKS {
            format!("transition: BN, ReLU, 1×1 {leaves}→{}{behind}, average pool", enters(b + 1))
        } else {
            format!("head: BN, ReLU, global average pool, linear {leaves}→{}", shape.classes)
        };
        y = part(&mut canvas, &layout, y, text);
    }
    canvas.finish(ROOT, [layout.width, y], &STYLES, &RULES)
}

/// Title, totals and legend; returns where they end.
fn heading(canvas: &mut Canvas, arch: &Architecture, shape: &NetworkShape) -> usize {
    let total = cost(arch, shape);
    let ops: usize = arch.blocks.iter().map(|block| block.ops.len()).sum();
    let title = format!("Architecture {}", arch.id());
    canvas.title(&title);
    canvas.text(TITLE, [MARGIN, 24], &title);
    let image = cross(&describe::extent(shape.image()));
    let order = if arch.space.activation.is_pre() { "" } else { ", post-activation" };
    let note = format!("images {}×{image}, {} classes{order}", shape.image_channels, shape.classes);
    canvas.text(NOTE, [MARGIN + TITLE.width("Architecture 000000000000") + 10, 24], note);
    let facts = format!(
        "{ops} ops, {} layers with weights, {} parameters, {} multiply-accumulates",
        arch.layers(),
        describe::short(total.params),
        describe::short(total.macs)
    );
    canvas.text(FACTS, [MARGIN, 48], facts);
    let mut x = MARGIN + 6;
    let gate = ("sum", panel::TIMES, "gate: tanh × sigmoid");
    let marks = [
        ("read", panel::DOT, "reads a bank"),
        ("first", panel::DIAMOND, "writes to an empty bank"),
        ("add", panel::PLUS, "adds to a bank"),
    ];
    for (class, mark, text) in marks.into_iter().chain(arch.space.gates.then_some(gate)) {
        canvas.path(class, format!("M{x} 72{mark}"));
        canvas.text(NOTE, [x + 12, 72], text);
        x += 12 + NOTE.width(text) + 24;
    }
    canvas.text(
        NOTE,
        [MARGIN, 92],
        "1×1 in→out channels; then filters: rows×columns, d dilation, g groups; bold: channels",
    );
    108
}

/// The box of stem, transition or head below `y`; returns where the next thing begins.
fn part(canvas: &mut Canvas, layout: &Layout, y: usize, text: String) -> usize {
    let right = layout.width - 2 * MARGIN;
    let left = right - CHIP.width(&text) - 24;
    canvas.rect("part", [left, y], [right - left, PART]);
    canvas.text(CHIP, [(left + right) / 2, y + PART / 2], text);
    y + PART + GAP
}

/// The multiplication sign in place of the letter.
fn cross(text: &str) -> String {
    text.replace(" x ", "×").replace('x', "×")
}

#[cfg(test)]
mod tests;
