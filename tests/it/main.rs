//! Promises of the whole program.

mod badfiles;
mod cli;
mod golden;
#[cfg(unix)] // signals, kill and bash
mod interrupt;
mod run;
mod scene;
mod tree;
