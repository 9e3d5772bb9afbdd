//! Parse, dispatch, map the error to an exit code.

use clap::Parser;
use smash_engine::{cli::Cli, commands};
use std::process::ExitCode;

fn main() -> ExitCode {
    commands::finish(commands::dispatch(Cli::parse()))
}
