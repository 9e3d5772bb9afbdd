//! Every op and pass: `cargo bench --bench kernels -- ARGUMENTS` is `smash-engine bench kernels ARGUMENTS`.
//! Started otherwise, by `cargo test --all-targets`, it lists them.

use clap::Parser;
use smash_engine::{cli::Cli, commands};
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut given: Vec<OsString> = std::env::args_os().skip(1).collect();
    // `cargo bench` adds it; other arguments are those of tests.
    match given.iter().position(|argument| argument == "--bench") {
        Some(at) => drop(given.remove(at)),
        None => given = vec!["--list".into()],
    }
    let line = ["smash-engine", "bench", "kernels"].into_iter().map(Into::into).chain(given);
    commands::finish(commands::dispatch(Cli::parse_from(line)))
}
