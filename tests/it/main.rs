//! Promises of the whole program.

mod cli;
mod tree;
