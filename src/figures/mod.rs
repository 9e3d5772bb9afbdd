//! Pictures of what was found and measured: pure functions from data to text.
//!
//! [`network`] draws an architecture as SVG, [`dot`] as a graph for Graphviz. The same data gives the same text.

pub mod canvas;
pub mod dot;
pub mod network;
