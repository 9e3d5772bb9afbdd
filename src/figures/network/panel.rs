//! One block of the drawing: its panel, its banks, and a row for its input, every op and its output.

use super::{BANK, BLOCK, CHIP, Canvas, FIRST_BANK, GAP, LABELS_END, Layout, MARGIN, NOTE, ROW, WIDTH, cross};
use crate::nas::arch::{Architecture, Block, Conv, Op};
use crate::nas::cost::Cost;
use crate::nas::describe;
use crate::nas::space::Space;
use crate::nas::twin::NetworkShape;

/// Marks, each behind the move to its centre.
pub(super) const DOT: &str = "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z";
pub(super) const DIAMOND: &str = "m-6 0l6 -6l6 6l-6 6z";
pub(super) const PLUS: &str = "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0zm2 0h6m-3 -3v6";
pub(super) const TIMES: &str = "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0zm3 -2l4 4m0 -4l-4 4";
/// The end of an arrow to the right, and of one downwards.
const TIP: &str = "m-8 -4l8 4l-8 4z";
const TIP_DOWN: &str = "m-4 -8l4 8l4 -8z";

/// Height of a block's head: its name, then the numbers of its banks.
const HEAD: usize = 52;
/// Height of the rows of a block's input and output.
const END: usize = 30;
/// The bank numbers are repeated before every so many ops, in a strip of this height.
const STRIP_EVERY: usize = 10;
const STRIP: usize = 20;
/// Height of a box of text.
const BOX: usize = 18;
/// In a row: the middle of path A and of path B.
const PATH_A: usize = 14;
const PATH_B: usize = 36;

/// What the 1x1 convolution of an op does: `1×1 64→32`.
pub(super) fn point(space: &Space, block: &Block, op: &Op) -> String {
    format!("1×1 {}→{}", op.input_channels(block, space), op.bottleneck_channels(block, space))
}

/// What a convolution of a body does: `3×5 d2×1 g4`.
pub(super) fn conv(conv: &Conv, shape: &NetworkShape) -> String {
    cross(&describe::conv(conv, shape))
}

impl Layout {
    /// In a row: the height of the line back to the banks.
    fn back(&self) -> usize {
        if self.two_paths { PATH_B + 16 } else { PATH_A + 16 }
    }

    fn row(&self) -> usize {
        self.back() + 9
    }

    /// Where the row of op `number` begins in its block.
    fn op(&self, number: usize) -> usize {
        HEAD + END + number * self.row() + number / STRIP_EVERY * STRIP
    }
}

/// Block number `index` of an architecture.
pub(super) struct Panel<'a> {
    pub layout: &'a Layout,
    pub arch: &'a Architecture,
    pub shape: &'a NetworkShape,
    pub index: usize,
}

impl Panel<'_> {
    fn block(&self) -> &Block {
        &self.arch.blocks[self.index]
    }

    /// Where the row of the output begins in the block.
    fn output(&self) -> usize {
        let ops = self.block().ops.len();
        self.layout.op(ops.saturating_sub(1)) + if ops > 0 { self.layout.row() } else { 0 }
    }

    /// The height at which each bank that exists is written first.
    fn begins(&self) -> Vec<(usize, usize)> {
        let (block, layout) = (self.block(), self.layout);
        let initial = block.initial_banks(self.index, &self.arch.space);
        let first = |bank: usize| match block.ops.iter().position(|op| op.write.contains(&bank)) {
            Some(number) if bank >= initial => layout.op(number) + layout.back(),
            _ => HEAD + END / 2,
        };
        block.written_banks(self.index, &self.arch.space).into_iter().map(|bank| (bank, first(bank))).collect()
    }

    /// Draws the block `y` below the top; returns where the next part begins. `costs` are those of its ops.
    pub fn draw(&self, canvas: &mut Canvas, y: usize, costs: &[Cost]) -> usize {
        let (layout, begins) = (self.layout, self.begins());
        let width = layout.width - 2 * MARGIN;
        let height = self.output() + END;
        canvas.open("block", y);
        canvas.rect("panel", [MARGIN, 0], [width, height]);
        for number in (0..self.block().ops.len()).step_by(2) {
            canvas.rect("stripe", [MARGIN + 1, layout.op(number)], [width - 2, layout.row()]);
        }
        self.head(canvas);
        for &(bank, begin) in &begins {
            canvas.path("bank", format!("M{} {begin}V{}", layout.bank(bank), self.output() + END / 2));
        }
        self.numbers(canvas, &begins);
        self.input(canvas);
        let mut written = vec![false; self.block().n_banks];
        written[..self.block().initial_banks(self.index, &self.arch.space)].fill(true);
        for (number, (op, cost)) in self.block().ops.iter().zip(costs).enumerate() {
            self.op(canvas, number, op, cost, &written);
            op.write.iter().for_each(|&bank| written[bank] = true);
        }
        self.end(canvas, &begins);
        canvas.close();
        y + height + GAP
    }

    /// The name of the block, and what its banks are.
    fn head(&self, canvas: &mut Canvas) {
        let (block, space) = (self.block(), &self.arch.space);
        let name = format!("Block {}", self.index);
        let note = format!(
            "{}, {} of {} banks used, {} channels each",
            cross(&describe::extent(self.shape.extent(self.index))),
            block.written_banks(self.index, space).len(),
            block.n_banks,
            block.bank_size * space.unit
        );
        let left = MARGIN + 10;
        canvas.text(BLOCK, [left, 16], &name);
        canvas.text(NOTE, [left + BLOCK.width(&name) + 10, 16], note);
        canvas.text(ROW, [LABELS_END, HEAD - 12], "bank");
    }

    /// The numbers of all banks at the top, and further down of those that exist there.
    fn numbers(&self, canvas: &mut Canvas, begins: &[(usize, usize)]) {
        let strips = (STRIP_EVERY..self.block().ops.len()).step_by(STRIP_EVERY);
        for y in strips.map(|number| self.layout.op(number) - STRIP / 2) {
            for &(bank, _) in begins.iter().filter(|&&(_, begin)| begin < y) {
                let (x, half) = (self.layout.bank(bank), BANK.width(&bank.to_string()) / 2 + 1);
                canvas.rect("halo", [x - half, y - STRIP / 2], [2 * half, STRIP]);
                canvas.text(BANK, [x, y], bank);
            }
        }
        for &(bank, _) in begins {
            canvas.text(BANK, [self.layout.bank(bank), HEAD - 12], bank);
        }
    }

    /// The row that brings what stem or transition emits into the first banks.
    fn input(&self, canvas: &mut Canvas) {
        let (layout, y) = (self.layout, END / 2);
        let banks = self.block().initial_banks(self.index, &self.arch.space);
        canvas.open("input", HEAD);
        canvas.text(ROW, [LABELS_END, y], "input");
        // Upwards to the box above the panel: the origin is HEAD + GAP below it.
        canvas.path("writes", format!("M{} {}V{y}H{FIRST_BANK}", layout.out, -((HEAD + GAP) as isize)));
        for bank in 0..banks {
            canvas.path("first", format!("M{} {y}{DIAMOND}", layout.bank(bank)));
        }
        canvas.text(WIDTH, [layout.out + 8, y], self.block().input_channels(self.index, &self.arch.space));
        canvas.close();
    }

    /// The row that collects all banks for transition or head.
    fn end(&self, canvas: &mut Canvas, begins: &[(usize, usize)]) {
        let (layout, y) = (self.layout, END / 2);
        canvas.open("output", self.output());
        canvas.text(ROW, [LABELS_END, y], "output");
        canvas.path("reads", format!("M{FIRST_BANK} {y}H{}V{}", layout.out, END + GAP - 1));
        canvas.path("read", format!("M{} {}{TIP_DOWN}", layout.out, END + GAP));
        for &(bank, _) in begins {
            canvas.path("read", format!("M{} {y}{DOT}", layout.bank(bank)));
        }
        canvas.text(WIDTH, [layout.out + 8, y], self.block().output_channels(self.index, &self.arch.space));
        canvas.close();
    }

    /// The row of one op; `written` says of each bank whether it holds something before.
    fn op(&self, canvas: &mut Canvas, number: usize, op: &Op, cost: &Cost, written: &[bool]) {
        let layout = self.layout;
        canvas.open("op", layout.op(number));
        canvas.title(self.explanation(number, op, cost));
        canvas.text(ROW, [LABELS_END, layout.row() / 2], format!("op {number}"));
        if let Some(&leftmost) = op.read.iter().min() {
            canvas.path("reads", format!("M{} {PATH_A}H{}", layout.bank(leftmost), layout.point - 1));
            canvas.path("read", format!("M{} {PATH_A}{TIP}", layout.point));
        }
        for &bank in &op.read {
            canvas.path("read", format!("M{} {PATH_A}{DOT}", layout.bank(bank)));
        }
        if let Some(&leftmost) = op.write.iter().min() {
            let back = layout.back();
            canvas.path("writes", format!("M{} {PATH_A}V{back}H{}", layout.out, layout.bank(leftmost)));
        }
        for &bank in &op.write {
            let (class, mark) = if written[bank] { ("add", PLUS) } else { ("first", DIAMOND) };
            canvas.path(class, format!("M{} {}{mark}", layout.bank(bank), layout.back()));
        }
        self.body(canvas, op);
        canvas.text(WIDTH, [layout.out + 8, layout.row() / 2], op.output_channels(&self.arch.space));
        canvas.close();
    }

    /// The 1x1 convolution, the one or two paths after it, and where they meet.
    fn body(&self, canvas: &mut Canvas, op: &Op) {
        let layout = self.layout;
        self.flow(canvas, op);
        chip(canvas, "point", [layout.point, PATH_A], layout.point_width, &point(&self.arch.space, self.block(), op));
        let places = [[layout.first, PATH_A], [layout.second, PATH_A], [layout.first, PATH_B], [layout.second, PATH_B]];
        for (place, active) in places.into_iter().zip(&op.body) {
            if let Some(active) = active {
                chip(canvas, "conv", place, layout.conv_width, &conv(active, self.shape));
            }
        }
    }

    /// The lines under the boxes of a body, and the marks where its paths meet.
    fn flow(&self, canvas: &mut Canvas, op: &Op) {
        let Layout { point, first, out, .. } = *self.layout;
        let (fork, join) = (first - 12, out - 14);
        // A gate inside stands behind the first convolutions, where the second ones begin anew.
        let gate = first + self.layout.conv_width + 10;
        let again = gate + 14;
        let [_, w1, w2, w3] = op.active();
        let direct = w1 || !op.gates[0];
        canvas.path("flow", format!("M{point} {PATH_A}H{}", if direct { out } else { gate }));
        if op.gates[0] {
            canvas.path("flow", format!("M{fork} {PATH_A}V{PATH_B}H{gate}V{PATH_A}"));
            if w3 {
                let end = if direct { join } else { out };
                canvas.path("flow", format!("M{gate} {PATH_A}H{again}V{PATH_B}H{join}V{PATH_A}H{end}"));
            }
            canvas.path("sum", format!("M{gate} {PATH_A}{TIMES}"));
        } else if w2 {
            canvas.path("flow", format!("M{fork} {PATH_A}V{PATH_B}H{join}V{PATH_A}"));
        }
        if w2 && (!op.gates[0] || w1 && w3) {
            let mark = if op.gates[1] { TIMES } else { PLUS };
            canvas.path("sum", format!("M{join} {PATH_A}{mark}"));
        }
    }

    /// What an op does in words: banks, channels and costs.
    fn explanation(&self, number: usize, op: &Op, cost: &Cost) -> String {
        let (block, space) = (self.block(), &self.arch.space);
        let writes = op.write.iter().enumerate().map(|(j, bank)| {
            let channels = op.write_channels(j, block, space);
            format!("{bank} += channels {} to {}", channels.start, channels.end - 1)
        });
        format!(
            "block {}, op {number}: reads {}; bank {}; {} parameters, {} MACs",
            self.index,
            describe::ranges(&op.read),
            writes.collect::<Vec<_>>().join(", bank "),
            describe::short(cost.params),
            describe::short(cost.macs)
        )
    }
}

/// A box with its left edge and middle at `[x, y]`, and a text in it.
fn chip(canvas: &mut Canvas, class: &str, [x, y]: [usize; 2], width: usize, text: &str) {
    canvas.rect(class, [x, y - BOX / 2], [width, BOX]);
    canvas.text(CHIP, [x + width / 2, y], text);
}
