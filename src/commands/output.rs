//! Results on stdout: text, JSON and aligned tables.
//!
//! Everything a command *answers* goes through [`print`]; whatever it says on the way goes to
//! stderr. A reader that closes the pipe early (`smash-engine show a.json | head -1`) has what it
//! wanted: that is success, not an error.

use crate::cli::GlobalArgs;
use crate::error::{Error, Result};
use std::io::{ErrorKind, Write};

/// Writes `text` to stdout as it is.
///
/// # Errors
/// [`Error::Io`] when stdout cannot be written to, a full disk for example.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("write to", "stdout")(error)),
        _ => Ok(()),
    }
}

/// Writes one JSON value and a newline to stdout.
///
/// # Errors
/// As [`print`].
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print(&format!("{value:#}\n"))
}

/// Prints a result as JSON with `--json`, as text without.
///
/// # Errors
/// As [`print`].
pub fn print_result(global: &GlobalArgs, json: &serde_json::Value, text: &str) -> Result<()> {
    if global.json { print_json(json) } else { print(text) }
}
