//! Parse, dispatch, map the error to an exit code.

use clap::Parser;
use smash_engine::cli::Cli;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match smash_engine::commands::dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Unlike `eprintln!`, this does not panic when nobody reads stderr.
            let _ = writeln!(std::io::stderr(), "smash-engine: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
