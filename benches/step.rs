//! Training steps and scores: `cargo bench --bench step -- ARGUMENTS` is `smash-engine bench step ARGUMENTS`.
//! Started otherwise, by `cargo test --all-targets`, it does nothing.

use clap::Parser;
use smash_engine::{cli::Cli, commands};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut given: Vec<OsString> = std::env::args_os().skip(1).collect();
    // `cargo bench` adds it.
    let Some(at) = given.iter().position(|argument| argument == "--bench") else { return ExitCode::SUCCESS };
    given.remove(at);
    let line = ["smash-engine", "bench", "step"].into_iter().map(Into::into).chain(given);
    commands::finish(commands::dispatch(Cli::parse_from(line)))
}
