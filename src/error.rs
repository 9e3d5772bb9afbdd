//! One error type for the whole engine.
//!
//! Every variant names the thing it is about (an op, a path, a flag, an element of an
//! architecture) and its message names the remedy. `Display` is one lower-case sentence
//! without a final full stop; [`Error::exit_code`] is the documented exit status.

use std::path::{Path, PathBuf};

/// The engine's result type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, by the kind of remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Operands of an op do not fit together: a caller's mistake, never a user's.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// Name of the op.
        op: &'static str,
        /// What would fit.
        expected: String,
        /// What there is.
        got: String,
    },

    /// A flag, environment variable or configuration key has an unusable value.
    #[error("{name}: {message}")]
    Config {
        /// The flag, variable or key.
        name: String,
        /// What is wrong with its value.
        message: String,
    },

    /// An architecture breaks a rule of its space. `place` reads like `blocks[1].ops[3].kernel`.
    #[error("architecture, {place}: {message}")]
    Architecture {
        /// The element.
        place: String,
        /// The rule it breaks.
        message: String,
    },

    /// A data, architecture or configuration file is not what it claims to be.
    #[error("{}: {message}", path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        message: String,
    },

    /// A checkpoint cannot continue this run.
    #[error("checkpoint {}: {message}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why not, and what to do.
        message: String,
    },

    /// The requested device is not there.
    #[error("device {name}: {message}")]
    Device {
        /// `cuda:0`, for example.
        name: String,
        /// What is missing.
        message: String,
    },

    /// The operating system refused something.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// `read`, for example.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },

    /// The computation itself failed (a loss that is not finite, a network too large).
    #[error("{0}")]
    Run(String),

    /// A training whose loss is no longer a number.
    #[error("{0}")]
    Diverged(String),

    /// A benchmark is slower than it was, by more than was allowed.
    #[error("{0}")]
    Regression(String),

    /// A signal asked the run to end; its state has been saved.
    #[error("interrupted by {name} after saving; continue with --resume")]
    Interrupted {
        /// SIGINT or SIGTERM.
        name: &'static str,
        /// Its number.
        signal: i32,
    },
}

impl Error {
    /// A [`Error::Shape`] from anything printable.
    pub fn shape(op: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Self::Shape { op, expected: expected.to_string(), got: got.to_string() }
    }

    /// A [`Error::Config`] about the flag or key `name`.
    pub fn config(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { name: name.into(), message: message.into() }
    }

    /// A [`Error::Architecture`] about the element at `place`.
    pub fn architecture(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Architecture { place: place.into(), message: message.into() }
    }

    /// A [`Error::Data`] about the file at `path`.
    pub fn data(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// A [`Error::Checkpoint`] about the file at `path`.
    pub fn checkpoint(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// Wraps an operating-system error; use as `.map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// The process exit status for this error: 1 run failed, 2 usage, 3 data or file
    /// format, 4 slower than before, 5 checkpoint incompatible, 6 device unavailable, 128 + signal when interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Shape { .. } | Self::Io { .. } | Self::Run(_) | Self::Diverged(_) => 1,
            Self::Config { .. } => 2,
            Self::Architecture { .. } | Self::Data { .. } => 3,
            Self::Regression(_) => 4,
            Self::Checkpoint { .. } => 5,
            Self::Device { .. } => 6,
            Self::Interrupted { signal, .. } => 128 + *signal as u8,
        }
    }
}

/// Most characters that [`one_line`] keeps.
const LONGEST: usize = 400;

/// `text`, which a file or another program may have chosen, as part of a message: one line without control
/// characters (a space stands for each), of 400 characters and `...` at most.
pub fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(LONGEST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LONGEST).is_some() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_becomes_one_short_line() {
        assert_eq!(one_line("größe\n\u{1b}[31m\tred\u{9b}\u{7f}"), "größe  [31m red  ");
        let longest = "ß".repeat(LONGEST);
        assert_eq!(one_line(&longest), longest);
        assert_eq!(one_line(&format!("{longest}a")), format!("{longest}..."));
    }
}
