//! Promises of the whole program.

mod badfiles;
#[cfg(unix)] // a shell script stands in for nvcc
mod build;
mod cli;
mod golden;
#[cfg(unix)] // signals, kill and bash
mod interrupt;
#[cfg(unix)] // g++ and shared libraries
mod profile;
mod run;
mod scene;
mod tree;
