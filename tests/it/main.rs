//! Promises of the whole program.

mod cli;
mod golden;
mod tree;
