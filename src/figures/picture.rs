//! A picture being drawn: lines, boxes and text on a white ground, in units of a pixel at full width.
//!
//! Colours are those of Okabe and Ito, which people who see few colours tell apart. The ground is painted, so that
//! pictures are the same on a dark page. How wide a text is depends on the reader's font: [`text_width`] is a bound.

use super::canvas::advance;
use svg::Document;
use svg::node::element::{Circle, Line, Path, Rectangle, Text};

/// Colours of series, in this order.
pub const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555"];
/// Text and axes.
pub const INK: &str = "#222222";
/// Grid lines.
pub const FAINT: &str = "#dddddd";
/// Height of text.
pub const TEXT: f64 = 15.0;

/// On which side of its position a text lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// To the right.
    Start,
    /// On both sides.
    Middle,
    /// To the left.
    End,
}

/// A picture being drawn.
pub struct Picture(Document);

impl Picture {
    /// A white picture.
    pub fn new(width: f64, height: f64) -> Self {
        let document = Document::new()
            .set("viewBox", (0.0, 0.0, rounded(width), rounded(height)))
            .set("width", rounded(width))
            .set("height", rounded(height))
            .set("font-family", "Helvetica, Arial, DejaVu Sans, sans-serif")
            .set("font-size", TEXT);
        let mut picture = Self(document);
        picture.rectangle([0.0, 0.0, width, height], "#ffffff");
        picture
    }

    /// The file.
    pub fn finish(self) -> String {
        format!("{}\n", self.0)
    }

    fn add(&mut self, node: impl svg::Node) {
        let document = std::mem::replace(&mut self.0, Document::new());
        self.0 = document.add(node);
    }

    /// A straight line from one point to another, dashed where `dashes` says how.
    pub fn line(&mut self, from: [f64; 2], to: [f64; 2], colour: &str, width: f64, dashes: Option<&str>) {
        let line = Line::new()
            .set("x1", rounded(from[0]))
            .set("y1", rounded(from[1]))
            .set("x2", rounded(to[0]))
            .set("y2", rounded(to[1]))
            .set("stroke", colour)
            .set("stroke-width", width);
        match dashes {
            Some(dashes) => self.add(line.set("stroke-dasharray", dashes)),
            None => self.add(line),
        }
    }

    /// A filled box: left, top, width and height.
    pub fn rectangle(&mut self, [x, y, width, height]: [f64; 4], colour: &str) {
        let rectangle = Rectangle::new()
            .set("x", rounded(x))
            .set("y", rounded(y))
            .set("width", rounded(width))
            .set("height", rounded(height))
            .set("fill", colour);
        self.add(rectangle);
    }

    /// A line through `points`.
    pub fn curve(&mut self, points: &[[f64; 2]], colour: &str, dashes: Option<&str>) {
        let path = Path::new()
            .set("d", outline(points))
            .set("fill", "none")
            .set("stroke", colour)
            .set("stroke-width", 2)
            .set("stroke-linejoin", "round");
        match dashes {
            Some(dashes) => self.add(path.set("stroke-dasharray", dashes)),
            None => self.add(path),
        }
    }

    /// The mark of series `series`: its colour and its own shape.
    pub fn mark(&mut self, [x, y]: [f64; 2], series: usize) {
        let colour = COLOURS[series % COLOURS.len()];
        let corners: &[[f64; 2]] = match series % 4 {
            0 => {
                let circle = Circle::new().set("cx", rounded(x)).set("cy", rounded(y)).set("r", 4.5);
                return self.add(circle.set("fill", colour).set("fill-opacity", 0.8));
            }
            1 => &[[-4.5, -4.5], [4.5, -4.5], [4.5, 4.5], [-4.5, 4.5]],
            2 => &[[0.0, -6.0], [5.5, 4.5], [-5.5, 4.5]],
            _ => &[[0.0, -6.0], [6.0, 0.0], [0.0, 6.0], [-6.0, 0.0]],
        };
        let corners: Vec<[f64; 2]> = corners.iter().map(|[dx, dy]| [x + dx, y + dy]).collect();
        let path = Path::new().set("d", outline(&corners) + "z").set("fill", colour).set("fill-opacity", 0.8);
        self.add(path);
    }

    /// Text with its baseline at `y`.
    pub fn text(&mut self, [x, y]: [f64; 2], anchor: Anchor, colour: &str, text: &str) {
        self.add(words(text, anchor, colour).set("x", rounded(x)).set("y", rounded(y)));
    }

    /// Text before lines: it has a white edge.
    pub fn text_before(&mut self, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let text = words(text, anchor, INK).set("x", rounded(x)).set("y", rounded(y));
        self.add(text.set("stroke", "#ffffff").set("stroke-width", 5).set("paint-order", "stroke"));
    }

    /// A heading.
    pub fn heading(&mut self, [x, y]: [f64; 2], text: &str) {
        let heading = words(text, Anchor::Start, INK).set("x", rounded(x)).set("y", rounded(y));
        self.add(heading.set("font-weight", "bold").set("font-size", HEADING));
    }

    /// Text from bottom to top, its middle at a point.
    pub fn upward(&mut self, [x, y]: [f64; 2], text: &str) {
        let turn = format!("translate({} {}) rotate(-90)", rounded(x), rounded(y));
        self.add(words(text, Anchor::Middle, INK).set("transform", turn));
    }
}

/// Height of headings.
pub const HEADING: f64 = 17.0;

fn words(text: &str, anchor: Anchor, colour: &str) -> Text {
    let anchor = match anchor {
        Anchor::Start => "start",
        Anchor::Middle => "middle",
        Anchor::End => "end",
    };
    Text::new(text).set("text-anchor", anchor).set("fill", colour)
}

/// A hundredth of a pixel is enough, and the shortest text.
fn rounded(x: f64) -> f64 {
    (x * 100.0).round() / 100.0 + 0.0
}

fn outline(points: &[[f64; 2]]) -> String {
    let steps = points.iter().enumerate();
    steps.map(|(i, [x, y])| format!("{}{} {}", if i == 0 { "M" } else { "L" }, rounded(*x), rounded(*y))).collect()
}

/// Width of a text of height [`TEXT`], at most.
pub fn text_width(text: &str) -> f64 {
    text.chars().map(advance).sum::<f64>() * TEXT
}

/// `text` in lines of at most `width`, broken between words.
pub fn wrapped(text: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if text_width(line) + text_width(" ") + text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_string()),
        }
    }
    lines
}
