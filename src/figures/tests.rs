//! What pictures must be whatever they show: whole, inside their frame, no text on another, every value at its place.

use super::chart::{
    Curve, Histogram, Interval, Intervals, Lines, Matrix, Point, Points, Scatter, histogram, intervals, lines, matrix,
    scatter,
};
use super::picture::text_width;
use super::{Figure, page};
use svg::parser::Event;

/// An element that was drawn, with its text if it has one.
#[derive(Debug)]
struct Element {
    name: String,
    attributes: svg::node::Attributes,
    text: String,
}

impl Element {
    fn number(&self, name: &str) -> f64 {
        self.attributes.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).parse().unwrap()
    }

    fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", |value| value)
    }

    /// Left, top, right and bottom of a text that is not turned.
    fn text_box(&self) -> [f64; 4] {
        let width = if self.attribute("font-weight") == "bold" { 1.25 } else { 1.0 } * text_width(&self.text);
        let (x, y) = (self.number("x"), self.number("y"));
        let left = match self.attribute("text-anchor") {
            "start" => x,
            "middle" => x - width / 2.0,
            _ => x - width,
        };
        [left, y - 12.0, left + width, y + 4.0]
    }
}

fn elements(picture: &str) -> Vec<Element> {
    let mut found: Vec<Element> = Vec::new();
    for event in svg::read(picture).unwrap() {
        match event {
            Event::Tag(name, svg::node::element::tag::Type::End, _) => assert!(["text", "svg"].contains(&name)),
            Event::Tag(name, _, attributes) => {
                found.push(Element { name: name.to_string(), attributes, text: String::new() });
            }
            Event::Text(text) => found.last_mut().unwrap().text = text.trim().to_string(),
            Event::Error(error) => panic!("{error}"),
            _ => {}
        }
    }
    found
}

fn named<'a>(elements: &'a [Element], name: &str) -> Vec<&'a Element> {
    elements.iter().filter(|e| e.name == name).collect()
}

/// The picture's elements, once it is certain that no text leaves it or lies on another.
#[track_caller]
fn drawn(picture: &str) -> Vec<Element> {
    let elements = elements(picture);
    let (width, height) = (elements[0].number("width"), elements[0].number("height"));
    let (turned, level): (Vec<&Element>, Vec<&Element>) =
        named(&elements, "text").into_iter().partition(|t| !t.attribute("transform").is_empty());
    let mut boxes: Vec<([f64; 4], &str)> = level.iter().map(|t| (t.text_box(), t.text.as_str())).collect();
    for text in turned {
        let place: Vec<f64> =
            text.attribute("transform").split(['(', ' ', ')']).filter_map(|word| word.parse().ok()).collect();
        let half = text_width(&text.text) / 2.0;
        boxes.push(([place[0] - 12.0, place[1] - half, place[0] + 4.0, place[1] + half], &text.text));
    }
    for (i, (a, text)) in boxes.iter().enumerate() {
        assert!(a[0] >= 0.0 && a[1] >= 0.0 && a[2] <= width && a[3] <= height, "{text:?} leaves the picture: {a:?}");
        for (b, other) in &boxes[..i] {
            let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
            assert!(apart, "{text:?} lies on {other:?}");
        }
    }
    elements
}

fn points(values: &[[f64; 2]]) -> Vec<Point> {
    values.iter().map(|&[x, y]| Point::new(x, y)).collect()
}

/// A scatter plot of one series without a name.
fn plot(values: &[[f64; 2]]) -> Scatter {
    let series = vec![Points { points: points(values), ..Points::default() }];
    Scatter { title: "Title".into(), x: "x".into(), y: "y".into(), series }
}

/// Where the tick with this number is along x, or y.
fn tick(elements: &[Element], axis: &str, label: &str) -> f64 {
    let texts = named(elements, "text");
    let anchor = if axis == "x" { "middle" } else { "end" };
    let text = texts.iter().find(|t| t.text == label && t.attribute("text-anchor") == anchor);
    let place = text.unwrap_or_else(|| panic!("no {label} along {axis}")).number(axis);
    if axis == "x" { place } else { place - 5.0 } // a text's baseline is below its middle
}

#[test]
fn points_and_their_bars_lie_where_the_axes_say() {
    let mut chart = plot(&[[0.0, -1.0], [4.0, 1.0], [10.0, 0.0]]);
    chart.series[0].points[2].y_interval = Some([-1.0, 1.0]);
    chart.series[0].points[1].x_interval = Some([0.0, 10.0]);
    let drawn = drawn(&scatter(&chart));
    let places: Vec<[f64; 2]> = named(&drawn, "circle").iter().map(|c| [c.number("cx"), c.number("cy")]).collect();
    let (x, y) = (|label| tick(&drawn, "x", label), |label| tick(&drawn, "y", label));
    let expected = [[x("0"), y("-1.0")], [x("4"), y("1.0")], [x("10"), y("0.0")]];
    for (place, expected) in places.iter().flatten().zip(expected.iter().flatten()) {
        assert!((place - expected).abs() < 0.02, "{places:?} is not {expected:?}");
    }
    let bar = |from: [f64; 2], to: [f64; 2]| {
        let ends = |e: &Element| [e.number("x1"), e.number("y1"), e.number("x2"), e.number("y2")];
        let near = |e: &Element| ends(e).iter().zip([from, to].iter().flatten()).all(|(a, b)| (a - b).abs() < 0.02);
        named(&drawn, "line").into_iter().any(|e| e.attribute("stroke") == "#0072b2" && near(e))
    };
    assert!(bar([x("10"), y("-1.0")], [x("10"), y("1.0")]) && bar([x("0"), y("1.0")], [x("10"), y("1.0")]));
}

#[test]
fn a_fit_goes_through_points_on_a_line_and_minimises_squares() {
    let fitted = |values: &[[f64; 2]]| {
        let mut chart = plot(values);
        chart.series[0].fit = Some("fit".into());
        let drawn = drawn(&scatter(&chart));
        let dashed = named(&drawn, "line").into_iter().filter(|l| !l.attribute("stroke-dasharray").is_empty());
        let line = dashed
            .max_by(|a, b| a.number("y1").total_cmp(&b.number("y1")))
            .map(|l| [[l.number("x1"), l.number("y1")], [l.number("x2"), l.number("y2")]]);
        let circles = named(&drawn, "circle").iter().map(|c| [c.number("cx"), c.number("cy")]).collect::<Vec<_>>();
        (line, circles)
    };
    let (line, circles) = fitted(&[[1.0, 3.0], [2.0, 5.0], [4.0, 9.0]]);
    assert_eq!(line.unwrap(), [circles[0], circles[2]]);
    // y = 1 / 2 at all x: of the points (0, 0), (0, 1), (1, 0), (1, 1) as (0, 1), (1, 1), ...
    let (line, circles) = fitted(&[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]);
    let middle = (circles[0][1] + circles[1][1]) / 2.0;
    assert!(line.unwrap().iter().all(|end| (end[1] - middle).abs() < 0.02));
    // No line through points above each other, and none in the legend.
    let (line, _) = fitted(&[[1.0, 0.0], [1.0, 1.0]]);
    assert_eq!(line, None);
}

#[test]
fn bars_are_as_high_as_values_are_many() {
    let chart = Histogram {
        title: "Title".into(),
        x: "x".into(),
        y: "count".into(),
        groups: vec![("first".into(), vec![1.5, 1.6, 1.7, 9.5]), ("second".into(), vec![1.55, 1.65])],
        marks: vec![("mark".into(), 9.5)],
    };
    let drawn = drawn(&histogram(&chart));
    let one = tick(&drawn, "y", "0") - tick(&drawn, "y", "1");
    let bars: Vec<[f64; 4]> = named(&drawn, "rect")
        .iter()
        .skip(3) // the ground and two boxes of the legend
        .map(|r| [r.number("x"), r.number("height") / one, r.number("y") + r.number("height"), r.number("width")])
        .collect();
    let heights: Vec<f64> = bars.iter().map(|b| (b[1] * 100.0).round() / 100.0).collect();
    assert_eq!(heights, [3.0, 2.0, 1.0], "of both groups at 1.6, and of one at 9.5");
    assert_eq!(bars[0][0], bars[1][0], "they stand on each other");
    assert!((bars[1][2] - (bars[0][2] - 3.0 * one)).abs() < 0.02);
    let dashed = named(&drawn, "line").into_iter().find(|l| !l.attribute("stroke-dasharray").is_empty()).unwrap();
    assert!((0.0..=bars[2][3]).contains(&(dashed.number("x1") - bars[2][0])), "the mark is at its bar");
}

#[test]
fn intervals_reach_from_end_to_end_and_a_matrix_darkens() {
    let row = |value, interval| Interval { label: "row".into(), value, interval, note: "note".into() };
    let chart = Intervals {
        title: "Title".into(),
        x: "difference".into(),
        reference: Some(0.0),
        rows: vec![row(2.0, Some([-2.0, 6.0])), row(4.0, None), row(f64::NAN, None)],
    };
    let drawn_intervals = drawn(&intervals(&chart));
    let x = |label: &str| tick(&drawn_intervals, "x", label);
    let lines = named(&drawn_intervals, "line");
    let level = |l: &&&Element| l.attribute("stroke") == "#0072b2" && l.number("y1") == l.number("y2");
    let ends: Vec<[f64; 2]> = lines.iter().filter(level).map(|l| [l.number("x1"), l.number("x2")]).collect();
    assert_eq!(ends, [[x("-2"), x("6")]]);
    let caps = lines.iter().filter(|l| l.attribute("stroke") == "#0072b2" && l.number("x1") == l.number("x2"));
    assert_eq!(caps.map(|l| l.number("x1")).collect::<Vec<_>>(), [x("-2"), x("6")]);
    let marks: Vec<f64> = named(&drawn_intervals, "circle").iter().map(|c| c.number("cx")).collect();
    assert_eq!(marks, [x("2"), x("4")]);
    let reference = lines.iter().find(|l| !l.attribute("stroke-dasharray").is_empty()).unwrap();
    assert_eq!(reference.number("x1"), x("0"));

    let names: Vec<String> = ["one", "two"].map(str::to_string).to_vec();
    let cells = vec![vec![Some(0.0), Some(0.5)], vec![Some(1.0), None]];
    let title = "Title".to_string();
    let chart = Matrix { title, rows: names.clone(), columns: names, cells, range: [0.0, 1.0], decimals: 1 };
    let drawn = drawn(&matrix(&chart));
    let darkness = |e: &&Element| 765 - (1..7).step_by(2).map(|i| hex(&e.attribute("fill")[i..i + 2])).sum::<u32>();
    let cells: Vec<u32> = named(&drawn, "rect").iter().skip(1).map(darkness).collect();
    assert!(cells.len() == 3 && cells.is_sorted() && cells[0] < cells[1], "{cells:?}");
    assert!(["0.0", "0.5", "1.0", "-"].iter().all(|cell| named(&drawn, "text").iter().any(|t| t.text == *cell)));
}

fn hex(digits: &str) -> u32 {
    u32::from_str_radix(digits, 16).unwrap()
}

#[test]
fn axes_have_a_few_different_numbers_for_every_range() {
    let ends = [0.0, 1e-9, 3.7e-4, 0.03, 1.0, 99.7, 12_345.0, 8.8e6, 3.1e9, 5e17, 1e299];
    let ranges = ends.iter().flat_map(|&a| ends.iter().flat_map(move |&b| [[a, b], [-a, b], [-a, -b]]));
    for [a, b] in ranges.filter(|[a, b]| a != b).chain([[89.96, 90.04], [1e7, 1e7 + 300.0]]) {
        let drawn = drawn(&scatter(&plot(&[[a, b], [b, a]])));
        for anchor in ["middle", "end"] {
            let texts = named(&drawn, "text");
            let mut labels: Vec<&str> =
                texts.iter().filter(|t| t.attribute("text-anchor") == anchor).map(|t| t.text.as_str()).collect();
            labels.retain(|label| label.contains(|c: char| c.is_ascii_digit()));
            assert!((3..=11).contains(&labels.len()), "from {a} to {b}: {labels:?}");
            assert!(
                !labels.iter().any(|l| l.trim_start_matches('-').starts_with("0.0")
                    && l.parse() == Ok(0.0)
                    && l.starts_with('-'))
            );
            labels.sort_unstable();
            assert!(labels.windows(2).all(|pair| pair[0] != pair[1]), "from {a} to {b}: {labels:?}");
        }
    }
}

#[test]
fn what_is_no_number_is_left_out_and_nothing_makes_an_empty_chart() {
    let bad = [[f64::NAN, 1.0], [1.0, f64::INFINITY], [f64::NEG_INFINITY, f64::NAN]];
    for values in [&bad[..], &[], &[[3.0, 3.0]]] {
        let mut chart = plot(values);
        chart.series[0].fit = Some("fit".into());
        for point in &mut chart.series[0].points {
            point.y_interval = Some([f64::NAN, f64::INFINITY]);
        }
        let first: Vec<f64> = values.iter().map(|v| v[0]).collect();
        let curve = Curve { name: "curve".into(), points: values.to_vec(), ..Curve::default() };
        let interval = |&value| Interval { value, interval: Some([f64::NAN, 1.0]), ..Interval::default() };
        let pictures = [
            scatter(&chart),
            lines(&Lines { series: vec![curve], ..Lines::default() }),
            histogram(&Histogram {
                groups: vec![("group".into(), first.clone())],
                marks: vec![("mark".into(), f64::NAN)],
                ..Histogram::default()
            }),
            intervals(&Intervals { rows: first.iter().map(interval).collect(), ..Intervals::default() }),
            matrix(&Matrix {
                rows: vec!["row".into()],
                cells: vec![first.iter().map(|&v| Some(v)).collect()],
                ..Matrix::default()
            }),
        ];
        for picture in pictures {
            drawn(&picture);
            assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        }
    }
}

#[test]
fn long_names_stay_inside_and_apart() {
    let long = |i: usize| format!("series number {i} with a name that says more than one would like to read");
    let series = |i| Points { name: long(i), points: points(&[[0.0, i as f64], [1e6, 2.0]]), fit: Some(long(i + 10)) };
    let title = "A title that is so long that it takes a second line, and then goes on and on ".repeat(3);
    let label = "something measured, with its unit and a few more words [%]".to_string();
    drawn(&scatter(&Scatter {
        title: title.clone(),
        x: label.clone(),
        y: label.clone(),
        series: (0..6).map(series).collect(),
    }));
    let values: Vec<f64> = (0..500).map(|i| f64::from(i * i % 97)).collect();
    let marks = (0..5).map(|i| (format!("mark {i} with a name"), 20.0 * f64::from(i))).collect();
    let groups = (0..7).map(|i| (long(i), values.clone())).collect();
    drawn(&histogram(&Histogram { title: title.clone(), x: label.clone(), y: label.clone(), groups, marks }));
    let row = |i: usize| Interval {
        label: "another architecture's encoding".into(),
        value: i as f64,
        interval: Some([i as f64 - 1e5, i as f64 + 1e5]),
        note: "-123.45 [-234.56, +345.67], p < 0.001".into(),
    };
    drawn(&intervals(&Intervals {
        title: title.clone(),
        x: label,
        reference: Some(0.0),
        rows: (0..9).map(row).collect(),
    }));
    let names: Vec<String> = (0..8).map(|i| format!("seed number {i}")).collect();
    let cells = vec![vec![Some(-123.456); 8]; 8];
    drawn(&matrix(&Matrix { title, rows: names.clone(), columns: names, cells, range: [0.0, 1.0], decimals: 3 }));
}

#[test]
fn names_are_text_and_no_markup() {
    let chart = Scatter { title: "a < b & \"c\" </svg>".into(), ..plot(&[[0.0, 1.0]]) };
    let picture = scatter(&chart);
    assert!(picture.contains("a &lt; b &amp; ") && picture.matches("</svg>").count() == 1, "{picture}");
}

#[test]
fn a_page_holds_its_pictures_and_needs_nothing_else() {
    let figures = ["one", "two"].map(|name| Figure::new(name, format!("<svg>\n\n    <text>{name}</text>\n</svg>\n")));
    let markdown = format!(
        "# Report & <b>more</b>\n\n{}\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n```\nx < y\n```\n\n![other](elsewhere.png)\n",
        figures[1].markdown("the [second] picture")
    );
    let html = page::html("Report & <more>", &markdown, &figures);
    assert!(html.contains("<title>Report &amp; &lt;more&gt;</title>"));
    assert!(html.contains("<svg>\n\n    <text>two</text>\n</svg>") && !html.contains("<text>one</text>"), "{html}");
    assert!(!html.contains("figures/two.svg") && !html.contains("picture"), "{html}");
    assert!(html.contains("<td style=\"text-align: right\">2</td>") && html.contains("x &lt; y"), "{html}");
    assert!(html.contains("<img src=\"elsewhere.png\" alt=\"other\" />"), "{html}");
    assert!(!html.contains("<script") && !html.contains("<link"));
}
