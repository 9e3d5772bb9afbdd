//! Pictures and pages: what experiments and runs look like, as functions of their data.
//!
//! [`chart`] draws scatter plots, curves, histograms, intervals and matrices, [`network`] an architecture, which [`dot`]
//! writes as a graph, [`layers`] a built-in network; [`page`] puts a report and its pictures into one HTML file. All of it is text computed from the
//! arguments alone: the same numbers give the same bytes. Nothing here reads or writes a file.

mod axes;
pub mod canvas;
pub mod chart;
pub mod dot;
pub mod layers;
pub mod network;
pub mod page;
mod picture;

/// A picture of a report, which refers to it as `figures/NAME.svg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// Name of the file, without `.svg`.
    pub name: String,
    /// The file: a whole SVG document.
    pub svg: String,
}

impl Figure {
    /// A picture called `name`.
    pub fn new(name: impl Into<String>, svg: String) -> Self {
        Self { name: name.into(), svg }
    }

    /// The markdown that shows it in a report; `caption` stands in its place where pictures are not shown.
    pub fn markdown(&self, caption: &str) -> String {
        format!("![{}](figures/{}.svg)\n", caption.replace(['[', ']'], ""), self.name)
    }
}

#[cfg(test)]
mod tests;
