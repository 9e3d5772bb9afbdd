//! Tar archives, plain or inside gzip, read once from front to back.
//!
//! An archive is a sequence of 512-byte headers, each followed by its member's bytes, padded to 512; a
//! header of zeros is the end (POSIX.1-2001, "pax", ustar format). Long names come in a header
//! of their own (GNU `L`, pax `x`). Links, sparse files and devices are named but never followed.
//!
//! Written here and not taken from a crate because names and sizes that a header promises are
//! limited before they are believed, and because members of a plain archive stay in place.

use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::data::bytes;
use crate::error::{Error, Result};

const BLOCK: u64 = 512;
/// Longest header of a long name; file systems end at 4096.
const MAX_LONG: u64 = 64 << 10;
const AGAIN: &str = "copy or download the archive again";

/// Where an archive comes from: what is not wanted is skipped, without reading it where that is possible.
pub(super) trait Source: Read {
    /// Leaves out `count` bytes; an error when there are not as many.
    fn skip(&mut self, count: u64) -> std::io::Result<()>;
}

impl Source for &[u8] {
    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        let rest = usize::try_from(count).ok().and_then(|count| self.get(count..));
        *self = rest.ok_or(ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}

impl<R: std::io::BufRead> Source for flate2::bufread::MultiGzDecoder<R> {
    fn skip(&mut self, count: u64) -> std::io::Result<()> {
        let skipped = std::io::copy(&mut self.take(count), &mut std::io::sink())?;
        if skipped < count { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// One member.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// Its path as written there.
    pub name: String,
    /// Byte of the unpacked archive at which its contents begin.
    pub at: u64,
    pub size: u64,
    /// What it is, unless a file: `a link`, ...
    pub other: Option<&'static str>,
}

/// An archive on its way past.
pub(super) struct Reader<S> {
    source: S,
    path: PathBuf,
    /// Bytes read so far.
    at: u64,
    /// Bytes until the next header.
    left: u64,
    /// The member that these belong to, if any.
    member: String,
}

impl<S: Source> Reader<S> {
    /// Reads from `source`; `path` names the archive in errors.
    pub fn new(path: &Path, source: S) -> Self {
        Self { source, path: path.to_path_buf(), at: 0, left: 0, member: String::new() }
    }

    /// The next member that is no folder, or none at the end.
    pub fn next(&mut self) -> Result<Option<Member>> {
        let mut long = Long::default();
        loop {
            self.skip()?;
            let start = self.at;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = long.size.take().or_else(|| number(&header[124..136]));
            let size = size.ok_or_else(|| self.damaged(start, "has a damaged size"))?;
            let padded = size.checked_next_multiple_of(BLOCK);
            self.left = padded.ok_or_else(|| self.damaged(start, "has an impossible size"))?;
            match header[156] {
                b'L' | b'x' if size > MAX_LONG => return Err(self.damaged(start, "has an impossibly long name")),
                kind @ (b'L' | b'x') => {
                    let body = self.read(size, size)?;
                    long.add(kind, &body).ok_or_else(|| self.damaged(start, "is followed by a damaged name"))?;
                }
                // What holds for all members, among which there is no name; where a link leads; a folder.
                b'g' | b'K' => {}
                b'5' => long = Long::default(),
                kind => {
                    let name = long.name.take().unwrap_or_else(|| short_name(&header));
                    self.member.clone_from(&name);
                    let other = if long.sparse { Some("a sparse file") } else { other(kind) };
                    return Ok(Some(Member { name, at: self.at, size, other }));
                }
            }
        }
    }

    /// The first `size` bytes of the member last found; memory for at most `justified` of them is taken in advance.
    pub fn read(&mut self, size: u64, justified: u64) -> Result<Vec<u8>> {
        let mut bytes = bytes::room(&self.path.join(&self.member), size.min(justified) as usize)?;
        let outcome = self.source.by_ref().take(size).read_to_end(&mut bytes);
        let got = bytes.len() as u64;
        self.at += got;
        self.left = self.left.saturating_sub(got);
        outcome.map_err(|error| self.broken(&error))?;
        if got < size { Err(self.broken(&ErrorKind::UnexpectedEof.into())) } else { Ok(bytes) }
    }

    /// The header that begins here, if it is not the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK as usize]>> {
        let start = self.at;
        let mut header = [0; BLOCK as usize];
        self.source.read_exact(&mut header).map_err(|error| self.broken(&error))?;
        self.at += BLOCK;
        if header.iter().all(|&byte| byte == 0) {
            // Reading on to the very end checks a gzip stream's own checksum.
            std::io::copy(&mut self.source, &mut std::io::sink()).map_err(|error| self.broken(&error))?;
            return Ok(None);
        }
        // The checksum is the sum of all bytes, with blanks in its own place.
        let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
        let own: u64 = header[148..156].iter().map(|&byte| u64::from(byte)).sum();
        if number(&header[148..156]) != Some(sum - own + 8 * u64::from(b' ')) {
            let message = format!("no tar header at byte {start}, where one should be (wrong checksum); {AGAIN}");
            return Err(Error::data(&self.path, message));
        }
        Ok(Some(header))
    }

    fn skip(&mut self) -> Result<()> {
        let left = std::mem::take(&mut self.left);
        self.source.skip(left).map_err(|error| self.broken(&error))?;
        self.at += left;
        self.member.clear();
        Ok(())
    }

    fn damaged(&self, header: u64, what: &str) -> Error {
        Error::data(&self.path, format!("the tar header at byte {header} {what}; {AGAIN}"))
    }

    fn broken(&self, error: &std::io::Error) -> Error {
        let message = match error.kind() {
            ErrorKind::UnexpectedEof => {
                format!(
                    "truncated, or followed by something else: the archive ends after byte {} of its tar; {AGAIN}",
                    self.at
                )
            }
            _ => format!("bad gzip after {} unpacked bytes ({error}); {AGAIN}", self.at),
        };
        if self.member.is_empty() {
            return Error::data(&self.path, message);
        }
        Error::data(self.path.join(&self.member), message)
    }
}

/// What headers before a member say about it.
#[derive(Default)]
struct Long {
    name: Option<String>,
    size: Option<u64>,
    sparse: bool,
}

impl Long {
    fn add(&mut self, kind: u8, body: &[u8]) -> Option<()> {
        if kind == b'L' {
            self.name = Some(text(body));
            return Some(());
        }
        // Records of the form "LENGTH KEY=VALUE\n", where the length is that of the whole record.
        let mut rest = body;
        while !rest.is_empty() {
            let blank = rest.iter().position(|&byte| byte == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..blank]).ok()?.parse().ok()?;
            let record = rest.get(blank + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|&byte| byte == b'=')?;
            match &record[..equals] {
                b"path" => self.name = Some(text(&record[equals + 1..])),
                b"size" => self.size = Some(std::str::from_utf8(&record[equals + 1..]).ok()?.parse().ok()?),
                key => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            rest = &rest[length..];
        }
        Some(())
    }
}

fn other(kind: u8) -> Option<&'static str> {
    match kind {
        b'0' | b'7' | 0 => None,
        b'1' | b'2' => Some("a link"),
        b'S' => Some("a sparse file"),
        _ => Some("no regular file"),
    }
}

/// Bytes up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    // It goes into messages, and so to a terminal.
    String::from_utf8_lossy(&bytes[..end]).replace(char::is_control, "\u{fffd}")
}

/// Name and, in the ustar format proper, what goes before it.
fn short_name(header: &[u8; BLOCK as usize]) -> String {
    let name = text(&header[..100]);
    let prefix = if header[257..263] == *b"ustar\0" { text(&header[345..500]) } else { String::new() };
    if prefix.is_empty() { name } else { format!("{prefix}/{name}") }
}

/// An octal number with blanks or zeros around it, or a big-endian one after the byte 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if let Some((0x80, rest)) = field.split_first() {
        let (high, low) = rest.split_last_chunk::<8>()?;
        return high.iter().all(|&byte| byte == 0).then_some(u64::from_be_bytes(*low));
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    u64::from_str_radix(digits, 8).ok()
}
