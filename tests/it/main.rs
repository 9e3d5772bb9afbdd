//! Promises of the whole program.

mod badfiles;
mod bench;
mod bench_compare;
#[cfg(unix)] // a shell script stands in for nvcc
mod build;
mod builtin;
mod byhand;
mod cli;
#[cfg(target_os = "linux")]
mod cuda;
mod datasets;
#[cfg(target_os = "linux")] // the emulator is an ELF library
mod emulator;
/// What `formats` calls the crate's errors.
mod error {
    pub use smash_engine::error::{Error, Result};
}
mod experiment_scores;
mod export;
mod fetch;
/// What the readers' own tests write: IDX, CIFAR, STL-10, tar and zip.
#[allow(dead_code)] // their tests use all of it, these some
#[path = "../../src/data/testdata.rs"]
mod formats;
mod golden;
mod gradient;
#[cfg(unix)] // signals, kill and bash
mod interrupt;
mod library;
#[cfg(target_os = "linux")]
mod mutants;
/// The same for .npy files and pickles.
#[allow(dead_code)]
#[path = "../../src/data/testarrays.rs"]
mod numpy;
mod options;
mod parsers;
mod predict;
#[cfg(unix)] // g++ and shared libraries
mod profile;
mod real;
mod report;
mod run;
mod scene;
mod selftest;
#[cfg(target_os = "linux")]
#[path = "../support/emulator.rs"]
mod support;
mod tree;
mod volumes;
