//! Parse, dispatch, map the error to an exit code.

use clap::Parser;
use smash_engine::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match smash_engine::commands::dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("smash-engine: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
