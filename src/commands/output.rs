//! Results on stdout.

use crate::cli::GlobalArgs;
use crate::error::{Error, Result};
use std::io::{ErrorKind, Write};

/// Prints `text` to stdout. A reader that closed the pipe (`| head`) has seen enough: no error.
///
/// # Errors
/// [`Error::Io`] when stdout cannot be written for another reason.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("write to", "stdout")(e)),
        _ => Ok(()),
    }
}

/// Prints a result as one line of JSON with `--json`, as text without.
///
/// # Errors
/// As [`print`].
pub fn print_result(global: &GlobalArgs, json: &serde_json::Value, text: &str) -> Result<()> {
    if global.json { print(&format!("{json}\n")) } else { print(text) }
}
