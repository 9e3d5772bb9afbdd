//! What a run tells: the run directory, metrics, progress on stderr.
//!
//! | file | content |
//! |---|---|
//! | `config.toml` | resolved settings |
//! | `env.json` | engine, machine and command of the latest start, and the command that began the run |
//! | `metrics.jsonl` | one line per training step and epoch; no times, so equal seeds give equal files |
//! | `archs.jsonl` | every scored architecture, in the order proposed |
//! | `ranking.jsonl` | the same, best score first, once the search is over |
//! | `timing.json` | seconds spent in each stage |
//! | `ckpt/` | state to continue from |
//! | `arch/ID.json` | architectures that were trained |
//! | `results.json` | the outcome |
//! | `report.md`, `report.html`, `figures/` | the outcome as one reads it |

use crate::checkpoint::write_atomic;
use crate::error::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A file of JSON lines that a resumed run cuts back to where it continues.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: BufWriter<File>,
    len: u64,
}

impl JsonLines {
    /// Opens `path`, cut to `len` bytes if given, else as it is.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] when the file is shorter than `len`.
    pub fn open(path: &Path, len: Option<u64>) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io("open", path))?;
        let found = file.metadata().map_err(Error::io("read", path))?.len();
        let len = len.unwrap_or(found);
        if found < len {
            let message = format!("has {found} bytes, its checkpoint expects {len}; start again with --overwrite");
            return Err(Error::checkpoint(path, message));
        }
        file.set_len(len).map_err(Error::io("shorten", path))?;
        Ok(Self { path: path.to_path_buf(), file: BufWriter::new(file), len })
    }

    /// Opens `path` without the lines after its first `len` bytes, except whole ones that `keep`
    /// wants: those of others that wrote to the file in the meantime.
    ///
    /// # Errors
    /// As [`JsonLines::open`].
    pub fn reopen(path: &Path, len: u64, keep: impl Fn(&[u8]) -> bool) -> Result<Self> {
        let mut bytes = match std::fs::read(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(Error::io("read", path))?,
        };
        let at = usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len());
        let tail = bytes.split_off(at);
        let kept: Vec<&[u8]> =
            tail.split_inclusive(|&b| b == b'\n').filter(|l| l.ends_with(b"\n") && keep(l)).collect();
        if kept.is_empty() {
            return Self::open(path, Some(len));
        }
        bytes.extend(kept.concat());
        write_atomic(path, &bytes)?;
        Self::open(path, None)
    }

    /// Appends one line.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&mut self, record: &impl Serialize) -> Result<()> {
        let mut line =
            serde_json::to_vec(record).map_err(|e| Error::Run(format!("a record cannot be written: {e}")))?;
        line.push(b'\n');
        self.len += line.len() as u64;
        self.file.write_all(&line).map_err(Error::io("write", &self.path))
    }

    /// Makes everything durable and returns the length in bytes.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&mut self) -> Result<u64> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        self.file.get_ref().sync_data().map_err(Error::io("write", &self.path))?;
        Ok(self.len)
    }
}

/// Writes a value as readable JSON, completely or not at all.
///
/// # Errors
/// [`Error::Io`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|e| Error::Run(format!("a result cannot be written: {e}")))?;
    text.push('\n');
    write_atomic(path, text.as_bytes())
}

/// How the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// `rows` in columns as wide as their widest cell, two spaces apart, each row ending in a newline.
pub fn table<Row: AsRef<[String]>>(aligns: &[Align], rows: &[Row]) -> String {
    let width = |column: usize| rows.iter().map(|row| row.as_ref()[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..aligns.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.as_ref().iter().zip(&widths).zip(aligns).map(|((cell, &width), align)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// Where progress goes: a bar on a terminal, plain lines elsewhere, nothing when quiet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Nothing.
    Quiet,
    /// A line every few seconds.
    Lines,
    /// A bar that redraws itself.
    Bar,
}

impl Style {
    /// The style for stderr.
    pub fn detect(quiet: bool) -> Self {
        match quiet {
            true => Self::Quiet,
            false if std::io::stderr().is_terminal() => Self::Bar,
            false => Self::Lines,
        }
    }
}

/// Writes a line to stderr. When nobody reads it any more the work goes on without.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Time between plain progress lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Progress of one stage on stderr.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    what: String,
    total: u64,
    first: u64,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Progress of `what` from step `first` to `total`.
    pub fn new(style: Style, what: impl Into<String>, first: u64, total: u64) -> Self {
        let what = what.into();
        let bar = ProgressBar::with_draw_target(
            Some(total),
            match style {
                Style::Bar => ProgressDrawTarget::stderr(),
                _ => ProgressDrawTarget::hidden(),
            },
        );
        let template = "{prefix} [{bar:30}] {pos}/{len} {msg}";
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(what.clone());
        bar.set_position(first);
        let now = Instant::now();
        Self { style, bar, what, total, first, started: now, last_line: now }
    }

    /// `done` steps are done; `detail` says how it goes (a loss, the best score).
    pub fn update(&mut self, done: u64, detail: &str) {
        if self.style == Style::Quiet {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = (done - self.first) as f64 / seconds.max(1e-9);
        let left = (self.total - done) as f64 / rate.max(1e-9);
        let message = format!("{rate:.1}/s, {} left, {detail}", duration(left));
        match self.style {
            Style::Bar => {
                self.bar.set_position(done);
                self.bar.set_message(message);
            }
            _ if self.last_line.elapsed() >= LINE_INTERVAL || done == self.total => {
                say(&format!("{} {done}/{} {message}", self.what, self.total));
                self.last_line = Instant::now();
            }
            _ => {}
        }
    }

    /// Ends the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Seconds as people read them: `8 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.round().max(0.0) as u64;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        _ => format!("{} h {} min", s / 3600, s % 3600 / 60),
    }
}

/// A large count as people read it: `950`, `12.3 k`, `4.56 M`.
pub fn count(n: u64) -> String {
    match n {
        0..10_000 => n.to_string(),
        10_000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        _ => format!("{:.2} G", n as f64 / 1e9),
    }
}

/// A p-value with as many digits as mean something.
pub fn p_value(p: f64) -> String {
    match p {
        p if p < 0.0001 => "< 0.0001".into(),
        p if p < 0.01 => format!("{p:.4}"),
        p => format!("{p:.2}"),
    }
}

/// Half width of the 95 % interval of an error of `percent` on `images` images (normal
/// approximation of the binomial).
pub fn error_margin(percent: f64, images: usize) -> f64 {
    let p = percent / 100.0;
    196.0 * (p * (1.0 - p) / images.max(1) as f64).sqrt()
}

/// A count with its thousands apart: `47,040,016`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        let counts = [0, 999, 1000, 12_345, 999_999, 47_040_016].map(grouped);
        assert_eq!(counts, ["0", "999", "1,000", "12,345", "999,999", "47,040,016"]);
    }

    #[test]
    fn lines_are_cut_back_to_where_a_run_continues() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.jsonl");
        let mut lines = JsonLines::open(&path, None).unwrap();
        lines.write(&1).unwrap();
        let len = lines.sync().unwrap();
        lines.write(&22).unwrap();
        drop(lines);
        let mut lines = JsonLines::open(&path, Some(len)).unwrap();
        lines.write(&3).unwrap();
        lines.sync().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n3\n");
        let error = JsonLines::open(&path, Some(100)).unwrap_err();
        assert_eq!(error.exit_code(), 5);
    }

    #[test]
    fn tables_align_words_left_and_numbers_right() {
        let rows = [["file", "bytes", "verdict"], ["a", "10,008", "ok"], ["images", "7", ""]];
        let rows = rows.map(|row| row.map(str::to_string));
        let text = table(&[Align::Left, Align::Right, Align::Left], &rows);
        assert_eq!(text, "file     bytes  verdict\na       10,008  ok\nimages       7\n");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!([8.4, 200.0, 7500.0].map(duration), ["8 s", "3 min 20 s", "2 h 5 min"]);
        assert_eq!([950, 12_300, 4_560_000].map(count), ["950", "12.3 k", "4.56 M"]);
        assert!((error_margin(50.0, 10_000) - 0.98).abs() < 1e-9);
    }
}
