//! Every op and pass: `cargo bench --bench kernels -- ARGUMENTS` is `smash-engine bench kernels ARGUMENTS`.

use clap::Parser;
use smash_engine::{cli::Cli, commands};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Cargo adds one of its own.
    let given = std::env::args_os().skip(1).filter(|argument| argument != "--bench");
    let line = ["smash-engine", "bench", "kernels"].into_iter().map(Into::into).chain(given);
    commands::finish(commands::dispatch(Cli::parse_from(line)))
}
