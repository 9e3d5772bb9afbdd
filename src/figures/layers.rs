//! A built-in network as a picture: its parts from top to bottom, and which part reads what.
//!
//! What only the next part reads goes straight down. Any other value has a line on the right, from the part that
//! computes it to the last one that reads it, with a dot where it is read; lines take the first place that is free.

use super::canvas::{Canvas, Style};
use crate::nas::builtin::graph::{Graph, Kind, Layer};
use crate::nas::describe::short;
use std::ops::Range;

/// The class of the drawing, which its style rules are limited to.
const ROOT: &str = "smash-layers";

const TITLE: Style = Style { class: "title", size: 18, anchor: "start", css: "font-weight: bold;" };
const FACTS: Style = Style { class: "facts", size: 13, anchor: "start", css: "" };
const NAME: Style = Style { class: "name", size: 12, anchor: "end", css: "fill: #51606f;" };
const LAYERS: Style = Style { class: "layers", size: 12, anchor: "start", css: "" };
const EXTENT: Style = Style { class: "extent", size: 12, anchor: "end", css: "font-weight: bold;" };
const STYLES: [Style; 5] = [TITLE, FACTS, NAME, LAYERS, EXTENT];

/// How everything that is no text looks; colours as in the drawings of architectures.
const RULES: [&str; 6] = [
    ".paper { fill: #ffffff; }",
    ".part { fill: #f4f6f8; stroke: #7b8794; }",
    ".flow { fill: none; stroke: #51606f; stroke-width: 1.5; }",
    ".skip { fill: none; stroke: #1769aa; stroke-width: 1.5; }",
    ".read { fill: #1769aa; }",
    ".first { fill: #d35400; }",
];

const MARGIN: usize = 12;
/// Height of a part, and of the space below.
const PART: usize = 24;
const GAP: usize = 10;
/// Between two lines on the right.
const PITCH: usize = 12;
/// The heading needs this.
const LEAST_WIDTH: usize = 480;

/// A part of the network, the image being the first.
struct Part<'a> {
    name: &'a str,
    layers: String,
    extent: String,
    /// Parts whose values it reads.
    reads: Vec<usize>,
}

/// Draws the network called `name`; as wide as its widest part and the lines that are there at once ask for.
pub fn svg(name: &str, graph: &Graph) -> String {
    let parts = parts(graph);
    let lines = lines(&parts);
    let names = MARGIN + widest(NAME, parts.iter().map(|part| part.name));
    let left = names + 8;
    let layers = widest(LAYERS, parts.iter().map(|part| part.layers.as_str()));
    let width = layers + widest(EXTENT, parts.iter().map(|part| part.extent.as_str())) + 40;
    let right = left + width;
    let lanes = lines.iter().map(|line| line.lane + 1).max().unwrap_or(0);
    let mut canvas = Canvas::default();
    let mut y = MARGIN + 10;
    canvas.text(TITLE, [MARGIN, y], name);
    let cost = graph.cost();
    let facts = format!(
        "{} layers with weights, {} parameters, {} MACs",
        graph.weighted_layers(),
        short(cost.params),
        short(cost.macs)
    );
    canvas.text(FACTS, [MARGIN, y + 24], facts);
    y += 48;
    let middle = |part: usize| y + part * (PART + GAP) + PART / 2;
    for (i, part) in parts.iter().enumerate() {
        canvas.rect("part", [left, middle(i) - PART / 2], [width, PART]);
        canvas.text(NAME, [names, middle(i)], part.name);
        canvas.text(LAYERS, [left + 10, middle(i)], &part.layers);
        canvas.text(EXTENT, [right - 10, middle(i)], &part.extent);
        if i > 0 && part.reads.contains(&(i - 1)) {
            let x = left + width / 2;
            canvas.path("flow", format!("M{x} {} V{}", middle(i) - PART / 2 - GAP, middle(i) - PART / 2));
        }
    }
    for Line { parts: Range { start, end }, lane, readers } in &lines {
        let x = right + (lane + 1) * PITCH;
        canvas.path("skip", format!("M{right} {} H{x} V{}", middle(*start), middle(*end)));
        canvas.rect("first", [right - 2, middle(*start) - 2], [4, 4]);
        for &reader in readers {
            canvas.path("skip", format!("M{right} {} H{x}", middle(reader)));
            canvas.rect("read", [x - 3, middle(reader) - 3], [6, 6]);
        }
    }
    let width = (right + lanes * PITCH + 2 * MARGIN).max(LEAST_WIDTH);
    canvas.finish(ROOT, [width, middle(parts.len() - 1) + PART / 2 + MARGIN], &STYLES, &RULES)
}

/// Width of the widest of some texts.
fn widest<'a>(style: Style, texts: impl Iterator<Item = &'a str>) -> usize {
    texts.map(|text| style.width(text)).max().unwrap_or(0)
}

fn parts(graph: &Graph) -> Vec<Part<'_>> {
    let extent = |layer: &Layer| format!("{} × {}²", layer.channels, layer.size);
    let image = &graph.layers()[0];
    let mut parts = vec![Part { name: "image", layers: String::new(), extent: extent(image), reads: Vec::new() }];
    // The part of each value.
    let mut part_of = vec![0];
    for (name, layers) in graph.parts() {
        let own = parts.len();
        let mut reads: Vec<usize> = Vec::new();
        for layer in layers {
            reads.extend(layer.from.iter().map(|&value| part_of[value]).filter(|&part| part < own));
            part_of.push(own);
        }
        reads.sort_unstable();
        reads.dedup();
        let words = |layer: &Layer| match layer.kind {
            Kind::Conv { .. } => layer.to_string().replace('x', "×"),
            _ => layer.to_string(),
        };
        let texts: Vec<String> = layers.iter().map(words).collect();
        parts.push(Part { name, layers: texts.join(", "), extent: extent(&layers[layers.len() - 1]), reads });
    }
    parts
}

/// A value that others than the next part read.
struct Line {
    /// From the part that computes it to the last reader.
    parts: Range<usize>,
    /// Its place on the right.
    lane: usize,
    /// Parts that read it, the next one only where that is not the only one.
    readers: Vec<usize>,
}

fn lines(parts: &[Part<'_>]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    for source in 0..parts.len() {
        let readers: Vec<usize> =
            (source + 2..parts.len()).filter(|&part| parts[part].reads.contains(&source)).collect();
        let Some(&last) = readers.last() else { continue };
        let taken = |lane: usize| lines.iter().any(|line| line.lane == lane && line.parts.end > source);
        let lane = (0..).find(|&lane| !taken(lane)).unwrap_or(0);
        lines.push(Line { parts: source..last, lane, readers });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::builtin::Builtin;
    use crate::nas::twin::NetworkShape;

    fn graph(name: &str) -> Graph {
        name.parse::<Builtin>().unwrap().graph(&NetworkShape::pictures(3, 32, 10, 3)).unwrap()
    }

    #[test]
    fn what_only_the_next_part_reads_has_no_line() {
        let graph = graph("wrn-16-2");
        // A unit's shortcut is inside of it.
        assert!(lines(&parts(&graph)).is_empty());
        let drawing = svg("wrn-16-2", &graph);
        assert_eq!(drawing.matches("class=\"flow\"").count(), parts(&graph).len() - 1);
        assert!(drawing.contains(">block2.unit1</text>") && drawing.contains("3×3"), "{drawing}");
    }

    #[test]
    fn every_other_reader_has_a_dot_on_a_line_of_its_own() {
        let graph = graph("densenet-16-4");
        let parts = parts(&graph);
        let lines = lines(&parts);
        let far = |(i, part): (usize, &Part<'_>)| part.reads.iter().filter(|&&read| read + 1 < i).count();
        let expected: usize = parts.iter().enumerate().map(far).sum();
        assert!(expected > 20);
        assert_eq!(svg("densenet-16-4", &graph).matches("class=\"read\"").count(), expected);
        for (i, a) in lines.iter().enumerate() {
            for b in &lines[i + 1..] {
                let apart = a.parts.end <= b.parts.start;
                assert!(a.lane != b.lane || apart, "{:?} {:?}", a.parts, b.parts);
            }
        }
    }
}
