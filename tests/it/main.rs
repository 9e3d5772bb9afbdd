//! Promises of the whole program.

mod badfiles;
mod cli;
#[cfg(target_os = "linux")] // the emulator is an ELF library
mod emulator;
mod golden;
#[cfg(unix)] // signals, kill and bash
mod interrupt;
mod run;
mod scene;
#[cfg(target_os = "linux")]
#[path = "../support/emulator.rs"]
mod support;
mod tree;
