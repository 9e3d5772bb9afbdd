//! Charts: scatter plots with fits and error bars, curves, histograms, intervals, matrices.
//!
//! Each is a plain struct of what is to be shown and a function that draws it as an SVG document. What is no number is
//! left out; a chart of nothing is empty axes. Values are shown as they are: percents are numbers up to 100.

use super::axes::{
    DASHES, Entry, Frame, Plot, ROW, Scale, Sign, WIDTH, draw_title, draw_x_axis, nice_step, title_lines,
};
use super::picture::{Anchor, COLOURS, INK, Picture, TEXT, text_width};

/// Points with error bars and straight lines through them.
#[derive(Clone, Debug, Default)]
pub struct Scatter {
    /// What the chart shows.
    pub title: String,
    /// What is along the x axis, with its unit.
    pub x: String,
    /// What is along the y axis, with its unit.
    pub y: String,
    /// What is shown, each in its own colour and shape.
    pub series: Vec<Points>,
}

/// Points of one kind.
#[derive(Clone, Debug, Default)]
pub struct Points {
    /// Name in the legend; none if empty.
    pub name: String,
    /// The points.
    pub points: Vec<Point>,
    /// Draws the line of least squares, with this name in the legend (`least squares, r = 0.71`).
    pub fit: Option<String>,
}

/// A point.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Along the x axis.
    pub x: f64,
    /// Along the y axis.
    pub y: f64,
    /// Ends of a horizontal error bar.
    pub x_interval: Option<[f64; 2]>,
    /// Ends of a vertical error bar.
    pub y_interval: Option<[f64; 2]>,
}

impl Point {
    /// A point without error bars.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, x_interval: None, y_interval: None }
    }

    fn xs(self) -> impl Iterator<Item = f64> {
        [self.x].into_iter().chain(self.x_interval.into_iter().flatten())
    }

    fn ys(self) -> impl Iterator<Item = f64> {
        [self.y].into_iter().chain(self.y_interval.into_iter().flatten())
    }
}

/// Draws a scatter plot.
pub fn scatter(chart: &Scatter) -> String {
    let points = || chart.series.iter().flat_map(|s| s.points.iter().copied());
    let mut legend = Vec::new();
    for (i, series) in chart.series.iter().enumerate() {
        legend.extend(entry(Sign::Mark, i, &series.name));
        if let Some(name) = series.fit.as_ref().filter(|_| least_squares(&series.points).is_some()) {
            legend.extend(entry(Sign::Dashes, i, name));
        }
    }
    let frame = Frame { title: &chart.title, x: &chart.x, y: &chart.y, legend, above: 0.0 };
    let fitted = chart.series.iter().filter(|s| s.fit.is_some()).filter_map(|s| fitted_ends(&s.points)).flatten();
    let ys = points().flat_map(Point::ys).chain(fitted.map(|end| end[1]));
    let mut plot = frame.draw(Scale::around(points().flat_map(Point::xs)), Scale::around(ys));
    for (i, series) in chart.series.iter().enumerate() {
        draw_points(&mut plot, i, &series.points);
        if series.fit.is_some() {
            draw_fit(&mut plot, i, &series.points);
        }
    }
    plot.picture.finish()
}

fn entry(sign: Sign, series: usize, name: &str) -> Option<Entry> {
    (!name.is_empty()).then(|| (sign, series, name.to_string()))
}

fn draw_points(plot: &mut Plot, series: usize, points: &[Point]) {
    let colour = COLOURS[series % COLOURS.len()];
    for point in points.iter().filter(|p| plot.holds(p.x, p.y)).copied().collect::<Vec<_>>() {
        let bars = [
            point.x_interval.map(|[low, high]| ([low, point.y], [high, point.y], [0.0, 4.0])),
            point.y_interval.map(|[low, high]| ([point.x, low], [point.x, high], [4.0, 0.0])),
        ];
        for ([x0, y0], [x1, y1], [dx, dy]) in bars.into_iter().flatten() {
            if !(plot.holds(x0, y0) && plot.holds(x1, y1)) {
                continue;
            }
            let ends = [plot.at(x0, y0), plot.at(x1, y1)];
            plot.picture.line(ends[0], ends[1], colour, 1.2, None);
            for [x, y] in ends {
                plot.picture.line([x - dx, y - dy], [x + dx, y + dy], colour, 1.2, None);
            }
        }
        plot.picture.mark(plot.at(point.x, point.y), series);
    }
}

/// Intercept and slope of the straight line closest to the points in y; none where all have one x.
fn least_squares(points: &[Point]) -> Option<[f64; 2]> {
    let usable: Vec<&Point> = points.iter().filter(|p| p.x.is_finite() && p.y.is_finite()).collect();
    let n = usable.len() as f64;
    let mean = |of: fn(&Point) -> f64| usable.iter().map(|p| of(p)).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.x), mean(|p| p.y));
    let xx: f64 = usable.iter().map(|p| (p.x - x).powi(2)).sum();
    let xy: f64 = usable.iter().map(|p| (p.x - x) * (p.y - y)).sum();
    (xx > 0.0).then(|| [y - xy / xx * x, xy / xx])
}

/// The ends of the fitted line, at the first and the last point along x.
fn fitted_ends(points: &[Point]) -> Option<[[f64; 2]; 2]> {
    let [intercept, slope] = least_squares(points)?;
    let xs = || points.iter().filter(|p| p.x.is_finite() && p.y.is_finite()).map(|p| p.x);
    let ends = [xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max)];
    Some(ends.map(|x| [x, intercept + slope * x]))
}

fn draw_fit(plot: &mut Plot, series: usize, points: &[Point]) {
    let Some(ends) = fitted_ends(points) else { return };
    let ends = ends.map(|[x, y]| plot.at(x, y));
    plot.picture.line(ends[0], ends[1], COLOURS[series % COLOURS.len()], 2.0, Some(DASHES));
}

/// Curves over a common x axis.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// What the chart shows.
    pub title: String,
    /// What is along the x axis, with its unit.
    pub x: String,
    /// What is along the y axis, with its unit.
    pub y: String,
    /// The curves.
    pub series: Vec<Curve>,
}

/// One curve.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Name in the legend; none if empty.
    pub name: String,
    /// Its points from left to right. With few of them each has a mark.
    pub points: Vec<[f64; 2]>,
    /// Draw it dashed: a second measurement beside the first.
    pub dashed: bool,
    /// Number of the colour and shape; curves may share one.
    pub colour: usize,
}

/// Draws curves.
pub fn lines(chart: &Lines) -> String {
    let points = || chart.series.iter().flat_map(|s| &s.points);
    let sign = |c: &Curve| if c.dashed { Sign::Dashes } else { Sign::Line };
    let legend = chart.series.iter().flat_map(|c| entry(sign(c), c.colour, &c.name)).collect();
    let frame = Frame { title: &chart.title, x: &chart.x, y: &chart.y, legend, above: 0.0 };
    let mut plot = frame.draw(Scale::around(points().map(|p| p[0])), Scale::around(points().map(|p| p[1])));
    for curve in &chart.series {
        let usable = curve.points.iter().filter(|[x, y]| plot.holds(*x, *y));
        let places: Vec<[f64; 2]> = usable.map(|&[x, y]| plot.at(x, y)).collect();
        plot.picture.curve(&places, COLOURS[curve.colour % COLOURS.len()], curve.dashed.then_some(DASHES));
        if places.len() <= 40 {
            places.iter().for_each(|&place| plot.picture.mark(place, curve.colour));
        }
    }
    plot.picture.finish()
}

/// How often values occur.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// What the chart shows.
    pub title: String,
    /// What is along the x axis, with its unit.
    pub x: String,
    /// What is counted.
    pub y: String,
    /// Values of several kinds, with their names: bars are stacked.
    pub groups: Vec<(String, Vec<f64>)>,
    /// Values that are marked, with their names.
    pub marks: Vec<(String, f64)>,
}

/// Draws a histogram.
pub fn histogram(chart: &Histogram) -> String {
    let values = || chart.groups.iter().flat_map(|g| g.1.iter().copied());
    let around = Scale::around(values().chain(chart.marks.iter().map(|m| m.1)));
    let bins = Bins::of(values());
    let counts: Vec<Vec<usize>> = chart.groups.iter().map(|(_, values)| bins.count(values)).collect();
    let highest = (0..bins.count).map(|bin| counts.iter().map(|c| c[bin]).sum::<usize>()).max().unwrap_or(0);
    let x = Scale::from_to(bins.low.min(around.low()), (bins.low + bins.count as f64 * bins.width).max(around.high()));
    let y = Scale::from_to(0.0, highest.max(1) as f64 * 1.04);
    let legend = chart.groups.iter().enumerate().flat_map(|(i, (name, _))| entry(Sign::Area, i, name)).collect();
    let above = ROW * chart.marks.len() as f64;
    let mut plot = Frame { title: &chart.title, x: &chart.x, y: &chart.y, legend, above }.draw(x, y);
    for bin in 0..bins.count {
        let (left, mut below) = (bins.low + bin as f64 * bins.width, 0);
        for (i, count) in counts.iter().enumerate().map(|(i, c)| (i, c[bin])).filter(|(_, count)| *count > 0) {
            let [x0, y0] = plot.at(left, (below + count) as f64);
            let [x1, y1] = plot.at(left + bins.width, below as f64);
            plot.picture.rectangle([x0 + 0.5, y0, x1 - x0 - 1.0, y1 - y0], COLOURS[i % COLOURS.len()]);
            below += count;
        }
    }
    draw_marks(&mut plot, &chart.marks);
    plot.picture.finish()
}

/// Lines at marked values, their names above the plot, each in a row of its own and to the right of its line; to the
/// left where the picture would end too soon. A line that passes a name passes behind it.
fn draw_marks(plot: &mut Plot, marks: &[(String, f64)]) {
    let [left, top, width, height] = plot.area;
    let mut placed: Vec<(f64, &str)> = marks
        .iter()
        .filter(|m| m.1.is_finite())
        .map(|(name, value)| (plot.at(*value, 0.0)[0], name.as_str()))
        .collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let heights: Vec<f64> = (0..placed.len()).map(|row| top - ROW * (placed.len() - row) as f64 + ROW / 2.0).collect();
    for (&(x, _), y) in placed.iter().zip(&heights) {
        plot.picture.line([x, y - 6.0], [x, top + height], INK, 1.5, Some("3 3"));
    }
    for (&(x, name), y) in placed.iter().zip(&heights) {
        let fits = x + 7.0 + text_width(name) <= left + width;
        let (anchor, start) = if fits { (Anchor::Start, x + 7.0) } else { (Anchor::End, x - 7.0) };
        plot.picture.text_before([start, y + TEXT / 3.0], anchor, name);
    }
}

/// Equally wide intervals of values.
struct Bins {
    low: f64,
    width: f64,
    count: usize,
}

impl Bins {
    /// Up to twice as many as the root of the number of values, and 50, with round edges.
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let wanted = (2.0 * (values.clone().count() as f64).sqrt()).clamp(8.0, 50.0);
        let scale = Scale::around(values);
        let width = nice_step((scale.high() - scale.low()) / wanted);
        let first = (scale.low() / width).floor();
        let count = (scale.high() / width).floor() - first + 1.0;
        Self { low: first * width, width, count: count as usize }
    }

    fn count(&self, values: &[f64]) -> Vec<usize> {
        let mut counts = vec![0; self.count];
        for value in values.iter().filter(|v| v.is_finite()) {
            // Negative is 0 and too large the last, which only rounding can bring about.
            let bin = ((value - self.low) / self.width) as usize;
            counts[bin.min(self.count - 1)] += 1;
        }
        counts
    }
}

/// Values with their intervals below each other: a forest plot.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    /// What the chart shows.
    pub title: String,
    /// What is along the x axis, with its unit.
    pub x: String,
    /// The value that means no difference.
    pub reference: Option<f64>,
    /// From top to bottom.
    pub rows: Vec<Interval>,
}

/// A row of a forest plot.
#[derive(Clone, Debug, Default)]
pub struct Interval {
    /// What it is about, on the left.
    pub label: String,
    /// Its value.
    pub value: f64,
    /// Ends of the interval around it; none where it has none.
    pub interval: Option<[f64; 2]>,
    /// What else there is to say, on the right: `+1.20 (p = 0.003)`.
    pub note: String,
}

/// Draws intervals.
pub fn intervals(chart: &Intervals) -> String {
    const SPACING: f64 = 32.0;
    let widest = |of: fn(&Interval) -> &str| chart.rows.iter().map(|r| text_width(of(r))).fold(0.0, f64::max);
    let left = 32.0 + widest(|r| &r.label);
    let right = 32.0 + widest(|r| &r.note);
    let title = title_lines(&chart.title);
    let top = 16.0 + ROW * title.len() as f64 + 8.0;
    let height = SPACING * chart.rows.len().max(1) as f64;
    let area = [left, top, (WIDTH - left - right).max(160.0), height];
    let mut picture = Picture::new(area[0] + area[2] + right, top + height + 2.0 * ROW + 16.0);
    draw_title(&mut picture, &title);
    let values = chart.rows.iter().flat_map(|r| [r.value].into_iter().chain(r.interval.into_iter().flatten()));
    let scale = Scale::around(values.chain(chart.reference));
    draw_x_axis(&mut picture, &scale, area);
    let x_of = |value: f64| left + area[2] * scale.place(value);
    if let Some(reference) = chart.reference {
        picture.line([x_of(reference), top], [x_of(reference), top + height], INK, 1.5, Some("3 3"));
    }
    for (i, row) in chart.rows.iter().enumerate() {
        let y = top + SPACING * (i as f64 + 0.5);
        picture.text([left - 12.0, y + TEXT / 3.0], Anchor::End, INK, &row.label);
        picture.text([left + area[2] + 12.0, y + TEXT / 3.0], Anchor::Start, INK, &row.note);
        if let Some([low, high]) = row.interval.filter(|ends| ends.iter().all(|&end| scale.holds(end))) {
            picture.line([x_of(low), y], [x_of(high), y], COLOURS[0], 2.0, None);
            for end in [low, high] {
                picture.line([x_of(end), y - 5.0], [x_of(end), y + 5.0], COLOURS[0], 2.0, None);
            }
        }
        if scale.holds(row.value) {
            picture.mark([x_of(row.value), y], 0);
        }
    }
    picture.text([left + area[2] / 2.0, top + height + 2.0 * ROW], Anchor::Middle, INK, &chart.x);
    picture.finish()
}

/// A table of numbers, each cell the darker the larger its number: how much things agree with each other.
#[derive(Clone, Debug, Default)]
pub struct Matrix {
    /// What the chart shows.
    pub title: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Numbers by row; none where there is none.
    pub cells: Vec<Vec<Option<f64>>>,
    /// The numbers that are white and darkest.
    pub range: [f64; 2],
    /// Digits after the point.
    pub decimals: usize,
}

/// Draws a matrix.
pub fn matrix(chart: &Matrix) -> String {
    let widest = |names: &[String]| names.iter().map(|n| text_width(n)).fold(0.0, f64::max);
    let left = 32.0 + widest(&chart.rows);
    let columns = chart.columns.len().max(1) as f64;
    let width = ((WIDTH - left - 16.0) / columns).clamp(64.0, 120.0).max(widest(&chart.columns) + 12.0);
    let height = 40.0;
    let title = title_lines(&chart.title);
    let top = 16.0 + ROW * (title.len() + 1) as f64 + 8.0;
    let full = (left + width * columns + 16.0).max(WIDTH);
    let mut picture = Picture::new(full, top + height * chart.rows.len() as f64 + 16.0);
    draw_title(&mut picture, &title);
    for (i, name) in chart.columns.iter().enumerate() {
        picture.text([left + width * (i as f64 + 0.5), top - 8.0], Anchor::Middle, INK, name);
    }
    for (i, (name, cells)) in chart.rows.iter().zip(&chart.cells).enumerate() {
        let y = top + height * i as f64;
        picture.text([left - 12.0, y + height / 2.0 + TEXT / 3.0], Anchor::End, INK, name);
        for (j, cell) in cells.iter().enumerate() {
            let [x, middle] = [left + width * j as f64, left + width * (j as f64 + 0.5)];
            let Some(value) = cell.filter(|v| v.is_finite()) else {
                picture.text([middle, y + height / 2.0 + TEXT / 3.0], Anchor::Middle, INK, "-");
                continue;
            };
            let [low, high] = chart.range;
            let dark = ((value - low) / (high - low)).clamp(0.0, 1.0);
            picture.rectangle([x + 1.0, y + 1.0, width - 2.0, height - 2.0], &shade(dark));
            let ink = if dark > 0.55 { "#ffffff" } else { INK };
            let text = format!("{value:.*}", chart.decimals);
            picture.text([middle, y + height / 2.0 + TEXT / 3.0], Anchor::Middle, ink, &text);
        }
    }
    picture.finish()
}

/// From nearly white at 0 to the first colour at 1.
fn shade(dark: f64) -> String {
    let [from, to] = [[0xf0, 0xf4, 0xf8], [0x00, 0x5a, 0x8c]];
    let channel = |i: usize| f64::from(from[i]) + (f64::from(to[i]) - f64::from(from[i])) * dark;
    format!("#{:02x}{:02x}{:02x}", channel(0) as u8, channel(1) as u8, channel(2) as u8)
}
