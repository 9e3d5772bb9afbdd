//! What a drawing must show, read back from its text; and that nothing in it lies on anything else.

use super::*;
use crate::nas::arch::{Conv, Op};
use crate::nas::options::{ActivationOrder, Nonlinearity};
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::space::{BodyChoice, Space};
use crate::rng::{Rng, Stream};
use std::collections::BTreeMap;

const SHAPE: NetworkShape = NetworkShape::pictures(3, 32, 10, 7);

/// An element with the origin of the groups around it, and the classes of these groups.
struct Element {
    line: String,
    origin: i64,
    group: String,
}

impl Element {
    fn attribute(&self, name: &str) -> &str {
        let start = self.line.find(&format!(" {name}=\"")).unwrap_or_else(|| panic!("{name} in {}", self.line));
        self.line[start + name.len() + 3..].split('"').next().unwrap()
    }

    fn number(&self, name: &str) -> i64 {
        self.attribute(name).parse().unwrap()
    }

    fn is(&self, tag: &str, class: &str) -> bool {
        self.line.starts_with(&format!("<{tag} class=\"{class}\""))
    }

    fn content(&self) -> &str {
        self.line.split_once('>').unwrap().1.split_once("</").unwrap().0
    }

    /// Where a path begins.
    fn start(&self) -> [i64; 2] {
        let mut numbers = self.attribute("d")[1..].split(|c: char| !c.is_ascii_digit() && c != '-');
        [0, self.origin].map(|origin| origin + numbers.next().unwrap().parse::<i64>().unwrap())
    }

    fn x(&self) -> i64 {
        self.start()[0]
    }
}

/// The elements of a drawing. Fails unless there is one on each line and every group is closed.
fn elements(svg: &str) -> Vec<Element> {
    let (mut groups, mut found) = (Vec::<(String, i64)>::new(), Vec::new());
    let body = svg.split_once("</style>\n").unwrap().1.strip_suffix("</svg>\n").unwrap();
    for line in body.lines().map(str::trim) {
        let origin = groups.iter().map(|(_, y)| y).sum();
        let names: Vec<&str> = groups.iter().map(|(name, _)| name.as_str()).collect();
        let element = Element { line: line.to_string(), origin, group: names.join(" ") };
        if line == "</g>" {
            groups.pop().expect("a group to close");
        } else if line.starts_with("<g ") {
            let y = element.attribute("transform")["translate(0 ".len()..].trim_end_matches(')').parse().unwrap();
            groups.push((element.attribute("class").to_string(), y));
            found.push(element);
        } else {
            assert_eq!(line.matches('<').count(), 1 + line.matches("</").count(), "one element: {line}");
            assert!(line.ends_with("/>") || line.contains("</"), "an element that ends: {line}");
            found.push(element);
        }
    }
    assert!(groups.is_empty());
    found
}

/// Architectures of all presets, the largest of several draws among them, and one of volumes.
fn samples() -> Vec<(Architecture, NetworkShape)> {
    let mut all = Vec::new();
    for space in [Space::small(), Space::v1(), Space::v2()] {
        let mut rng = Rng::new(5, Stream::Search);
        let mut drawn: Vec<_> = (0..40).map(|_| sample(&space, &SampleLimits::full(&space), &mut rng)).collect();
        drawn.sort_by_key(|arch| arch.placed_ops().count());
        all.extend([drawn.remove(39), drawn.remove(20), drawn.remove(0)].map(|arch| (arch, SHAPE)));
    }
    let volume = NetworkShape { image_depth: 32, image_channels: 1, ..SHAPE };
    let pictures = NetworkShape { stem_stride: 2, ..NetworkShape::pictures(16, 4096, 12_345, 11) };
    // Narrower than the heading, and with numbers of three digits.
    let narrow = Space { bodies: Space::v1().bodies, ..Space::small() };
    let wide = Space { unit: 1, groups: vec![1], n_max: 16, max_bank_size: 1, widening: 20, ..Space::small() };
    let gated = Space {
        gates: true,
        nonlinearities: vec![Nonlinearity::Relu, Nonlinearity::Tanh, Nonlinearity::Sigmoid],
        activation: ActivationOrder::Post,
        ..Space::small()
    };
    let body = |active, probability| BodyChoice { active, probability };
    let joined = [true, false, true, false];
    let narrow_gated = Space { bodies: vec![body(joined, 1.0)], ..gated.clone() };
    let one_sided = Space {
        bodies: vec![body(joined, 0.2), body([true, false, true, true], 0.4), body([true, true, true, false], 0.4)],
        ..gated.clone()
    };
    for space in [narrow, wide, gated, narrow_gated, one_sided] {
        space.validate().unwrap();
        all.push((sample(&space, &SampleLimits::full(&space), &mut Rng::new(5, Stream::Search)), SHAPE));
    }
    all.extend([(all[0].0.clone(), volume), (all[6].0.clone(), pictures)]);
    all
}

/// Two banks, one of which op 1 adds to and one of which it begins; every kind of body.
fn small() -> Architecture {
    let conv = |kernel, dilation, groups| Some(Conv { kernel, dilation, groups, activation: Nonlinearity::Relu });
    let plain = conv([3, 3], [1, 1], 1);
    let op = |read: &[usize], write: &[usize], width, body| {
        let (read, write) = (read.to_vec(), write.to_vec());
        Op { read, write, width, body, gates: [false; 2] }
    };
    let ops = vec![
        op(&[0, 1], &[1], 2, [conv([3, 5], [3, 1], 4), None, None, None]),
        op(&[1], &[0, 2], 4, [plain, conv([7, 3], [1, 2], 2), plain, None]),
    ];
    let block = |ops: &[Op]| Block { bank_size: 2, n_banks: 5, ops: ops.to_vec() };
    Architecture::new(Space::fixture(), vec![block(&ops), block(&ops[..1]), block(&ops[1..])])
}

#[test]
fn a_small_drawing_is_as_it_was() {
    let arch = small();
    arch.validate().unwrap();
    let drawn = svg(&arch, &SHAPE);
    assert_eq!(drawn, svg(&arch, &SHAPE));
    // After an intended change, look at the picture, then replace the file by what this prints.
    if drawn != include_str!("small.svg") {
        panic!("the drawing changed:\n{drawn}");
    }
}

#[test]
fn every_read_and_write_is_there() {
    for (arch, shape) in samples() {
        let elements = elements(&svg(&arch, &shape));
        let mut start = 0;
        for (b, block) in arch.blocks.iter().enumerate() {
            start += elements[start..].iter().position(|e| e.is("g", "block")).unwrap() + 1;
            let panel: Vec<&Element> = elements[start..].iter().take_while(|e| !e.is("g", "block")).collect();
            // The columns are where the numbers above them stand.
            let head = panel.iter().filter(|e| e.group == "block" && e.is("text", "number"));
            let columns: BTreeMap<i64, usize> = head.map(|e| (e.number("x"), e.content().parse().unwrap())).collect();
            assert_eq!(columns.values().copied().collect::<Vec<_>>(), block.written_banks(b, &arch.space));
            // Their lines begin in the mark of the first write.
            for line in panel.iter().filter(|e| e.is("path", "bank")) {
                assert!(panel.iter().any(|e| e.is("path", "first") && e.start() == line.start()), "{}", line.line);
            }
            let groups = panel.split(|e| e.line.starts_with("<g "));
            let mut rows: Vec<Vec<&Element>> = groups.skip(1).map(|row| row.iter().map(|e| &**e).collect()).collect();
            assert_eq!(rows.len(), block.ops.len() + 2);
            let output = rows.pop().unwrap();
            // Marks are paths that go on after their centre; the rest are lines and arrow heads.
            let marked = |row: &[&Element], class: &str, mark: &str| -> Vec<usize> {
                let marks = row.iter().filter(|e| e.is("path", class) && e.attribute("d").ends_with(mark));
                marks.map(|e| columns[&e.x()]).collect()
            };
            let initial: Vec<usize> = (0..block.initial_banks(b, &arch.space)).collect();
            assert_eq!(marked(&rows[0], "first", panel::DIAMOND), initial);
            assert_eq!(marked(&output, "read", panel::DOT), block.written_banks(b, &arch.space));
            let mut written = initial;
            for (op, row) in block.ops.iter().zip(&rows[1..]) {
                assert_eq!(marked(row, "read", panel::DOT), op.read);
                let (old, new): (Vec<usize>, Vec<usize>) = op.write.iter().partition(|bank| written.contains(bank));
                assert_eq!(marked(row, "add", panel::PLUS), old);
                assert_eq!(marked(row, "first", panel::DIAMOND), new);
                written.extend(new);
                let reads = row.iter().find(|e| e.is("path", "reads")).unwrap();
                assert_eq!(columns[&reads.x()], *op.read.iter().min().unwrap(), "the line reaches all that is read");
                let writes = row.iter().find(|e| e.is("path", "writes")).unwrap().attribute("d");
                let end: i64 = writes.rsplit('H').next().unwrap().parse().unwrap();
                assert_eq!(columns[&end], *op.write.iter().min().unwrap(), "and all that is written");
            }
        }
    }
}

#[test]
fn every_convolution_and_width_is_named() {
    let pair = |[rows, columns]: [usize; 2]| format!("{rows}×{columns}");
    for (arch, _) in samples() {
        let elements = elements(&svg(&arch, &SHAPE));
        let texts = |class: &str| -> Vec<&str> {
            let rows = elements.iter().filter(|e| e.group.ends_with("op") && e.is("text", class));
            rows.map(Element::content).collect()
        };
        let (mut chips, mut widths) = (Vec::new(), Vec::new());
        for placed in arch.placed_ops() {
            let (op, block, space) = (placed.op, placed.block, &arch.space);
            let (enters, middle) = (op.input_channels(block, space), op.bottleneck_channels(block, space));
            chips.push(format!("1×1 {enters}→{middle}"));
            for conv in op.body.iter().flatten() {
                let dilated = if conv.dilation == [1, 1] { "".into() } else { format!(" d{}", pair(conv.dilation)) };
                let grouped = if conv.groups == 1 { "".into() } else { format!(" g{}", conv.groups) };
                let passed = if conv.activation.is_relu() { "".into() } else { format!(" {}", conv.activation.name()) };
                chips.push(pair(conv.kernel) + &dilated + &grouped + &passed);
            }
            widths.push((op.width * space.unit).to_string());
        }
        assert_eq!(texts("chip"), chips);
        assert_eq!(texts("out"), widths);
        let numbers = arch.blocks.iter().flat_map(|block| (0..block.ops.len()).map(|number| format!("op {number}")));
        assert_eq!(texts("label"), numbers.collect::<Vec<_>>());
    }
}

#[test]
fn paths_meet_in_sums_and_gates() {
    for (arch, shape) in samples() {
        let elements = elements(&svg(&arch, &shape));
        let rows = elements.split(|e| e.is("g", "op")).skip(1);
        for (placed, row) in arch.placed_ops().zip(rows) {
            let (op, [_, w1, w2, w3]) = (placed.op, placed.op.active());
            let inside = op.gates[0].then_some(panel::TIMES);
            let both = w2 && (!op.gates[0] || w1 && w3);
            let end = both.then_some(if op.gates[1] { panel::TIMES } else { panel::PLUS });
            let marks: Vec<&Element> = row.iter().filter(|e| e.is("path", "sum") && e.group.ends_with("op")).collect();
            let expected: Vec<&str> = inside.into_iter().chain(end).collect();
            assert_eq!(marks.len(), expected.len());
            for (mark, expected) in marks.iter().zip(expected) {
                assert!(mark.attribute("d").ends_with(expected), "{}", mark.line);
                let boxes = row.iter().filter(|e| e.line.starts_with("<rect") && e.group.ends_with("op"));
                let mut ends = boxes.map(|e| (e.number("x"), e.number("x") + e.number("width")));
                assert!(ends.all(|(left, right)| mark.x() + 5 < left || mark.x() - 5 > right), "{}", mark.line);
            }
            // What leaves the body comes to where the line back begins.
            let back = row.iter().find(|e| e.is("path", "writes")).unwrap();
            let end = format!("H{}", back.x());
            assert!(row.iter().any(|e| e.is("path", "flow") && e.attribute("d").ends_with(&end)));
        }
    }
}

#[test]
fn blocks_and_what_is_between_them_are_labelled() {
    let drawn = svg(&small(), &SHAPE);
    let volume = svg(&small(), &NetworkShape { image_depth: 16, ..SHAPE });
    for text in [
        ">Block 0</text>",
        ">32×32, 3 of 5 banks used, 8 channels each<",
        ">stem: 7×7, 3→16<",
        ">transition: BN, ReLU, 1×1 24→24, average pool<",
        "linear 24→10<",
        ">3×5 d3×1 g4<",
    ] {
        assert!(drawn.contains(text), "{text} is missing");
    }
    let mut post = small();
    post.space = Space { activation: ActivationOrder::Post, gates: true, ..post.space };
    let post = svg(&post, &SHAPE);
    for text in [">gate: tanh × sigmoid<", "10 classes, post-activation<", "3→16, ReLU<", "24→24, ReLU, "] {
        assert!(post.contains(text) && !drawn.contains(text), "{text}");
    }
    for text in [">16×32×32, 3 of", ">stem: 7×7×7, 3→16<", ">3×3×3 d3×3×1 g4<", ">images 3×16×32×32, 10 classes<"]
    {
        assert!(volume.contains(text), "{text} is missing");
    }
}

/// A rectangle: left, top, right, bottom.
type Bounds = [i64; 4];

fn overlap(a: Bounds, b: Bounds) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// Where a text is, from its style.
fn text_bounds(element: &Element) -> Option<Bounds> {
    let class = element.line.strip_prefix("<text class=\"")?.split('"').next()?;
    let style = STYLES.iter().find(|style| style.class == class).unwrap();
    let (width, size) = (style.width(element.content()) as i64, style.size as i64);
    let left = element.number("x")
        - match style.anchor {
            "start" => 0,
            "middle" => width / 2,
            _ => width,
        };
    let baseline = element.number("y") + element.origin;
    Some([left, baseline - size * 3 / 4, left + width, baseline + size / 5])
}

/// The strokes of a line made of M, H and V, two pixels thick. Marks and arrow heads have none.
fn strokes(element: &Element) -> Vec<Bounds> {
    let d = element.attribute("d");
    if d.contains(['m', 'l', 'a', 'h']) {
        return Vec::new();
    }
    let mut at = [0, 0];
    let mut found = Vec::new();
    let mut rest = d;
    while let Some(command) = rest.chars().next() {
        let end = rest[1..].find(char::is_alphabetic).map_or(rest.len(), |end| end + 1);
        let numbers: Vec<i64> = rest[1..end].split(' ').map(|number| number.parse().unwrap()).collect();
        let to = match command {
            'H' => [numbers[0], at[1]],
            'V' => [at[0], numbers[0] + element.origin],
            _ => [numbers[0], numbers[1] + element.origin],
        };
        if command != 'M' {
            let (low, high) = ([0, 1].map(|i| at[i].min(to[i]) - 1), [0, 1].map(|i| at[i].max(to[i]) + 1));
            found.push([low[0], low[1], high[0], high[1]]);
        }
        at = to;
        rest = &rest[end..];
    }
    found
}

#[test]
fn no_text_touches_another_or_a_line_and_all_are_inside() {
    for (arch, shape) in samples() {
        let drawn = svg(&arch, &shape);
        let elements = elements(&drawn);
        let paper = &elements[0];
        let (width, height) = (paper.number("width"), paper.number("height"));
        let texts: Vec<(Bounds, &Element)> = elements.iter().filter_map(|e| Some((text_bounds(e)?, e))).collect();
        for (i, (bounds, text)) in texts.iter().enumerate() {
            assert!(bounds[0] >= 0 && bounds[1] >= 0 && bounds[2] <= width && bounds[3] <= height, "{}", text.line);
            for (other, second) in &texts[i + 1..] {
                assert!(!overlap(*bounds, *other), "{} touches {}", text.line, second.line);
            }
        }
        // Boxes and the ground behind repeated numbers hide the lines they are drawn over: texts need not avoid these.
        let hidden = |element: &Element| element.is("text", "chip") || element.is("text", "number");
        let free: Vec<_> = texts.iter().filter(|(_, text)| !hidden(text)).collect();
        for line in elements.iter().filter(|e| e.line.starts_with("<path")) {
            for stroke in strokes(line) {
                if let Some((_, text)) = free.iter().find(|(bounds, _)| overlap(*bounds, stroke)) {
                    panic!("{} crosses {}", line.line, text.line);
                }
            }
        }
    }
}

#[test]
fn texts_fit_into_their_boxes() {
    for (arch, shape) in samples() {
        let elements = elements(&svg(&arch, &shape));
        let mut seen = 0;
        for pair in elements.windows(2).filter(|pair| pair[1].is("text", "chip")) {
            let (frame, text) = (&pair[0], text_bounds(&pair[1]).unwrap());
            assert!(frame.line.starts_with("<rect"), "{}", frame.line);
            let (x, y) = (frame.number("x"), frame.number("y") + frame.origin);
            let inside = text[0] > x && text[2] < x + frame.number("width");
            assert!(inside && text[1] > y && text[3] < y + frame.number("height"), "{}", pair[1].line);
            seen += 1;
        }
        assert!(seen > 4 * arch.placed_ops().count() / 2);
    }
}

#[test]
fn presets_are_drawn_within_the_width_of_a_page() {
    for (arch, shape) in samples().into_iter().filter(|(arch, _)| arch.space.max_banks() <= 32) {
        let elements = elements(&svg(&arch, &shape));
        let width = elements[0].number("width");
        assert!((700..=1200).contains(&width), "{width}");
    }
}

#[test]
fn similar_architectures_differ_in_few_lines() {
    let first = small();
    let mut second = first.clone();
    second.blocks[1].ops[0].body[0].as_mut().unwrap().kernel = [5, 5];
    second.blocks[1].ops[0].body[0].as_mut().unwrap().dilation = [1, 1];
    let (a, b) = (svg(&first, &SHAPE), svg(&second, &SHAPE));
    assert_eq!(a.lines().count(), b.lines().count());
    let changed: Vec<&str> = b.lines().zip(a.lines()).filter(|(b, a)| b != a).map(|(b, _)| b.trim()).collect();
    // Three lines name the architecture and its cost; the op changes its explanation and one label.
    assert_eq!(changed.len(), 5, "{changed:#?}");
    assert!(changed[4].ends_with(">5×5 g4</text>"), "{changed:#?}");
}
