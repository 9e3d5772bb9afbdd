//! Promises of the whole program.

mod cli;
mod golden;
mod run;
mod scene;
mod tree;
