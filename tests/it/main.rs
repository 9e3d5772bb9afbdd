//! Promises of the whole program.

mod badfiles;
mod bench;
mod bench_compare;
#[cfg(unix)] // a shell script stands in for nvcc
mod build;
mod cli;
#[cfg(target_os = "linux")]
mod cuda;
#[cfg(target_os = "linux")] // the emulator is an ELF library
mod emulator;
mod fetch;
mod golden;
#[cfg(unix)] // signals, kill and bash
mod interrupt;
#[cfg(target_os = "linux")]
mod mutants;
mod parsers;
#[cfg(unix)] // g++ and shared libraries
mod profile;
mod real;
mod run;
mod scene;
mod selftest;
#[cfg(target_os = "linux")]
#[path = "../support/emulator.rs"]
mod support;
mod tree;
