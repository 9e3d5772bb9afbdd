//! What all charts share: a title, a legend below it, and a plot with two axes, whose place depends on them.
//!
//! Text never lies on data: the legend has rows of its own above the plot, and the left margin is as wide as the
//! labels of the y axis.

use super::picture::{Anchor, COLOURS, FAINT, HEADING, INK, Picture, TEXT, text_width, wrapped};

/// Width of every chart.
pub const WIDTH: f64 = 960.0;
/// Height of the plot of most charts.
pub const PLOT_HEIGHT: f64 = 420.0;
/// Around everything.
const MARGIN: f64 = 16.0;
/// Height of a line of text.
pub const ROW: f64 = 22.0;

/// How a series is shown in the legend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// The mark of its points.
    Mark,
    /// A line.
    Line,
    /// A dashed line.
    Dashes,
    /// A box.
    Area,
}

/// A line of the legend: how, which series' colour and shape, and its name.
pub type Entry = (Sign, usize, String);

/// Dashes of fits.
pub const DASHES: &str = "7 4";

/// Values along an axis, and the numbers written there.
#[derive(Clone, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    /// Positions with a number.
    pub ticks: Vec<f64>,
    step: f64,
}

impl Scale {
    /// An axis for `values` with some room around them. What is no number counts for nothing.
    pub fn around(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = extremes(values);
        let room = (high - low) * 0.04;
        Self::from_to(low - room, high + room)
    }

    /// An axis from `low` to `high`.
    pub fn from_to(low: f64, high: f64) -> Self {
        let step = nice_step((high - low) / 9.0);
        let first = (low / step).ceil() as i64;
        let last = (high / step).floor() as i64;
        Self { low, high, ticks: (first..=last).map(|i| i as f64 * step).collect(), step }
    }

    /// Where `value` is between the ends, from 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Its left or lower end.
    pub fn low(&self) -> f64 {
        self.low
    }

    /// Its right or upper end.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Is it a number between the ends?
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// A tick as text, with as many digits as its neighbours need: `0.25`, `40`, `1.5 M`.
    fn label(&self, tick: f64) -> String {
        let most = self.low.abs().max(self.high.abs());
        if most >= 1e15 || self.step < 1e-5 {
            let decimals = (most.log10().floor() - self.step.log10().floor()).max(0.0) as usize;
            return format!("{:.decimals$e}", tick + 0.0);
        }
        let (unit, suffix) = match most {
            1e10.. => (1e9, " G"),
            1e7.. => (1e6, " M"),
            1e4.. => (1e3, " k"),
            _ => (1.0, ""),
        };
        let decimals = (-(self.step / unit).log10().floor()).max(0.0) as usize;
        // No minus before a zero.
        format!("{:.decimals$}{suffix}", tick / unit + 0.0)
    }
}

/// The smallest and the largest of `values`, a little apart where they are one, and 0 and 1 where there is none.
fn extremes(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let usable = values.filter(|v| v.abs() < 1e300);
    let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    match high - low {
        range if range < 0.0 => (0.0, 1.0),
        range if range <= 1e-9 * high.abs() => {
            let room = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
            (low - room, high + room)
        }
        _ => (low, high),
    }
}

/// The smallest of 1, 2 and 5 times a power of ten that is at least `step`.
pub fn nice_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    power * factors.into_iter().find(|f| f * power >= step * (1.0 - 1e-9)).unwrap_or(10.0)
}

/// A picture with its axes drawn, and where values lie on it.
pub struct Plot {
    /// The picture.
    pub picture: Picture,
    /// Left, top, width and height of the plot.
    pub area: [f64; 4],
    x: Scale,
    y: Scale,
}

/// What is to be drawn around a plot.
pub struct Frame<'a> {
    /// What the chart shows.
    pub title: &'a str,
    /// What is along the x axis, with its unit.
    pub x: &'a str,
    /// What is along the y axis, with its unit.
    pub y: &'a str,
    /// The legend.
    pub legend: Vec<Entry>,
    /// Height kept free above the plot.
    pub above: f64,
}

impl Frame<'_> {
    /// Draws title, legend, grid and axes.
    pub fn draw(&self, x: Scale, y: Scale) -> Plot {
        let labels: Vec<String> = y.ticks.iter().map(|&t| y.label(t)).collect();
        let widest = labels.iter().map(|l| text_width(l)).fold(0.0, f64::max);
        let left = MARGIN + ROW + widest + 12.0;
        let legend = arranged(&self.legend);
        let title = title_lines(self.title);
        let top =
            MARGIN + ROW * (title.len() + legend.iter().map(|e| e.0 + 1).max().unwrap_or(0)) as f64 + self.above + 10.0;
        let area = [left, top, WIDTH - left - 2.0 * MARGIN, PLOT_HEIGHT];
        let height = top + PLOT_HEIGHT + 2.0 * ROW + MARGIN;
        let mut picture = Picture::new(WIDTH, height);
        draw_title(&mut picture, &title);
        draw_legend(&mut picture, MARGIN + ROW * title.len() as f64, &legend);
        let mut plot = Plot { picture, area, x, y };
        plot.draw_axes(&labels);
        let [left, top, width, height] = area;
        plot.picture.text([left + width / 2.0, top + height + 2.0 * ROW], Anchor::Middle, INK, self.x);
        plot.picture.upward([MARGIN + 12.0, top + height / 2.0], self.y);
        plot
    }
}

impl Plot {
    /// Where a value lies on the picture.
    pub fn at(&self, x: f64, y: f64) -> [f64; 2] {
        let [left, top, width, height] = self.area;
        [left + width * self.x.place(x), top + height * (1.0 - self.y.place(y))]
    }

    /// Is the point one, and on the plot?
    pub fn holds(&self, x: f64, y: f64) -> bool {
        self.x.holds(x) && self.y.holds(y)
    }

    fn draw_axes(&mut self, y_labels: &[String]) {
        let [left, top, width, height] = self.area;
        let (right, bottom) = (left + width, top + height);
        for (tick, label) in self.y.ticks.clone().into_iter().zip(y_labels) {
            let y = bottom - height * self.y.place(tick);
            self.picture.line([left, y], [right, y], FAINT, 1.0, None);
            self.picture.text([left - 8.0, y + TEXT / 3.0], Anchor::End, INK, label);
        }
        draw_x_axis(&mut self.picture, &self.x, self.area);
        self.picture.line([left, top], [left, bottom], INK, 1.0, None);
    }
}

/// Grid lines, the axis and its numbers below the plot at `area`.
pub fn draw_x_axis(picture: &mut Picture, scale: &Scale, [left, top, width, height]: [f64; 4]) {
    let bottom = top + height;
    for &tick in &scale.ticks {
        let x = left + width * scale.place(tick);
        picture.line([x, top], [x, bottom], FAINT, 1.0, None);
        picture.text([x, bottom + ROW + 1.0], Anchor::Middle, INK, &scale.label(tick));
    }
    picture.line([left, bottom], [left + width, bottom], INK, 1.0, None);
}

/// A title in lines as wide as the chart.
pub fn title_lines(title: &str) -> Vec<String> {
    wrapped(title, (WIDTH - 2.0 * MARGIN) * TEXT / HEADING / 1.1) // bold is a tenth wider
}

/// Draws a title from the top; its lines are [`ROW`] high.
pub fn draw_title(picture: &mut Picture, lines: &[String]) {
    for (i, line) in lines.iter().enumerate() {
        picture.heading([MARGIN, MARGIN + ROW * i as f64 + HEADING * 0.8], line);
    }
}

/// The legend's entries with their row and left end.
fn arranged(entries: &[Entry]) -> Vec<(usize, f64, &Entry)> {
    let (mut row, mut x) = (0, MARGIN);
    let mut placed = Vec::new();
    for entry in entries {
        let width = 34.0 + text_width(&entry.2) + 24.0;
        if x > MARGIN && x + width > WIDTH - MARGIN {
            (row, x) = (row + 1, MARGIN);
        }
        placed.push((row, x, entry));
        x += width;
    }
    placed
}

fn draw_legend(picture: &mut Picture, top: f64, entries: &[(usize, f64, &Entry)]) {
    for &(row, x, (sign, series, name)) in entries {
        let y = top + ROW * row as f64 + ROW / 2.0;
        let colour = COLOURS[series % COLOURS.len()];
        match sign {
            Sign::Mark => picture.mark([x + 13.0, y], *series),
            Sign::Line => picture.line([x, y], [x + 26.0, y], colour, 2.0, None),
            Sign::Dashes => picture.line([x, y], [x + 26.0, y], colour, 2.0, Some(DASHES)),
            Sign::Area => picture.rectangle([x + 4.0, y - 7.0, 18.0, 14.0], colour),
        }
        picture.text([x + 34.0, y + TEXT / 3.0], Anchor::Start, INK, name);
    }
}
