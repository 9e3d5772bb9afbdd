//! SVG text, one element per line so that two drawings can be compared line by line.
//!
//! Coordinates are whole pixels. Texts have a [`Style`], which says how large they are: nothing measures fonts
//! here, so [`Style::width`] is an upper bound, from the widest font in the list below.

use std::fmt::Display;

/// How a text looks. Its class is its name in the style sheet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Class of the element.
    pub class: &'static str,
    /// Height of the font in pixels.
    pub size: usize,
    /// `start`, `middle` or `end`: which part of the text is at its x.
    pub anchor: &'static str,
    /// Other properties.
    pub css: &'static str,
}

impl Style {
    /// An upper bound of the width of `text` in pixels.
    pub fn width(&self, text: &str) -> usize {
        let bold = if self.css.contains("bold") { 1.1 } else { 1.0 };
        let ems: f64 = text.chars().map(advance).sum();
        (ems * bold * self.size as f64).ceil() as usize
    }

    fn rule(&self) -> String {
        let Self { class, size, anchor, css } = self;
        format!(".{class} {{ font-size: {size}px; text-anchor: {anchor}; {css} }}")
    }
}

/// Width of a character in units of the font's height, at most: that of DejaVu Sans, the widest of the common ones.
pub fn advance(c: char) -> f64 {
    match c {
        ' ' | '.' | ',' | ':' | ';' | 'i' | 'j' | 'l' => 0.34,
        'f' | 'r' | 't' | '(' | ')' => 0.42,
        '×' | '→' | '+' | '=' | '<' | '>' | '~' | '±' | '#' | '&' => 0.84,
        '%' | '@' | 'm' | 'w' | 'M' | 'W' | 'N' | 'O' => 1.0,
        'A'..='Z' => 0.78,
        c if c.is_ascii() => 0.64,
        _ => 1.0,
    }
}

/// The elements drawn so far.
#[derive(Debug, Default)]
pub struct Canvas {
    text: String,
    depth: usize,
}

impl Canvas {
    /// A line of its own: an element, or part of one.
    pub fn line(&mut self, element: impl Display) {
        self.text += &format!("{:1$}{element}\n", "", 2 * self.depth);
    }

    /// Starts a group whose origin is `y` pixels below that of the group around it.
    pub fn open(&mut self, class: &str, y: usize) {
        self.line(format!("<g class=\"{class}\" transform=\"translate(0 {y})\">"));
        self.depth += 1;
    }

    /// Ends the group.
    pub fn close(&mut self) {
        self.depth -= 1;
        self.line("</g>");
    }

    /// What a reader sees who points at the group.
    pub fn title(&mut self, text: impl Display) {
        self.line(format!("<title>{text}</title>"));
    }

    /// A text whose middle is at height `y`. It must not hold `<` or `&`.
    pub fn text(&mut self, style: Style, [x, y]: [usize; 2], text: impl Display) {
        // Digits and capitals are about 0.72 em high.
        let baseline = y + style.size * 36 / 100;
        self.line(format!("<text class=\"{}\" x=\"{x}\" y=\"{baseline}\">{text}</text>", style.class));
    }

    /// A rectangle from its upper left corner, its width and height.
    pub fn rect(&mut self, class: &str, [x, y]: [usize; 2], [width, height]: [usize; 2]) {
        let extent = format!("x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\"");
        self.line(format!("<rect class=\"{class}\" {extent}/>"));
    }

    /// Lines, in the language of SVG.
    pub fn path(&mut self, class: &str, d: impl Display) {
        self.line(format!("<path class=\"{class}\" d=\"{d}\"/>"));
    }

    /// The drawing as a file: `root` is the class that its style rules are limited to, so that several drawings
    /// may stand on one page.
    pub fn finish(self, root: &str, [width, height]: [usize; 2], styles: &[Style], rules: &[&str]) -> String {
        let mut head = Self::default();
        let extent = format!("width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\"");
        head.line(format!("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"{root}\" {extent} role=\"img\">"));
        head.depth = 1;
        head.line("<style>");
        head.line(format!(
            ".{root} text {{ font-family: Helvetica, Arial, 'DejaVu Sans', sans-serif; fill: #1c2733; }}"
        ));
        for rule in styles.iter().map(Style::rule).chain(rules.iter().map(|rule| rule.to_string())) {
            head.line(format!(".{root} {rule}"));
        }
        head.line("</style>");
        head.rect("paper", [0, 0], [width, height]);
        head.text + &self.text + "</svg>\n"
    }
}
