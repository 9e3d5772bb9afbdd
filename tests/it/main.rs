//! Promises of the whole program.

mod badfiles;
mod cli;
mod golden;
mod interrupt;
mod run;
mod scene;
mod tree;
