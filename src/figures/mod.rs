//! Pictures of what was found and measured: pure functions from data to text.
//!
//! [`network`] draws an architecture as SVG. The same data gives the same text.

pub mod canvas;
pub mod network;
