//! Promises of the whole program.

mod cli;
mod golden;
mod interrupt;
mod run;
mod scene;
mod tree;
