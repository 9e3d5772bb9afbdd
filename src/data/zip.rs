//! Zip archives (also those that numpy writes as `.npz`): what members there are and where their bytes lie.
//!
//! At the end of the file stands the end record, which says where the central directory begins; its
//! entries say where each member's local header begins, after which its bytes follow (APPNOTE.TXT
//! 6.3, <https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>), with the 64-bit forms. Sizes
//! are those of the directory. Members stored as they are stay in place, deflated ones are unpacked when asked for.
//!
//! Written here and not taken from a crate because of two promises: nothing is allocated that the
//! bytes present do not justify, whatever counts and sizes they claim, and stored members are not copied.

use std::io::Read;
use std::path::Path;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use crate::data::bytes::Bytes;
use crate::error::{Error, Result};

/// Deflate cannot expand more than this (258 bytes from two bits, zlib's technical notes).
pub(super) const MAX_EXPANSION: u64 = 1032;
const AGAIN: &str = "copy or download the archive again";
/// The end record without its comment, which has at most 65535 bytes.
const END_BYTES: usize = 22;
const ENTRY_BYTES: usize = 46;
const LOCAL_BYTES: usize = 30;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// One file inside an archive.
pub(super) struct Member {
    /// Its path inside, as written there, with `/` between folders.
    pub name: String,
    packed: Bytes,
    /// Where these begin in the archive.
    at: usize,
    /// Bytes unpacked, as the directory says.
    pub size: u64,
    crc: u32,
    method: u16,
    encrypted: bool,
}

/// The members of the archive `bytes` in the order of its directory, folders left out; `path` names it in errors.
pub(super) fn members(path: &Path, bytes: &Bytes) -> Result<Vec<Member>> {
    let directory = find_directory(bytes).map_err(|message| Error::data(path, message))?;
    let mut members = Vec::new();
    let mut at = directory.start;
    while at < directory.end {
        let entry = Entry::parse(bytes, at, directory.end).map_err(|message| Error::data(path, message))?;
        at += entry.bytes;
        if !entry.name.ends_with('/') {
            members.push(entry.member(bytes, directory.start).map_err(|message| Error::data(path, message))?);
        }
    }
    // A few bytes that thousands of members share would unpack to any amount of memory.
    let mut places: Vec<(usize, usize)> = members.iter().map(|m: &Member| (m.at, m.at + m.packed.len())).collect();
    places.sort_unstable();
    if let Some(pair) = places.windows(2).find(|pair| pair[0].1 > pair[1].0) {
        let message = format!("has members that overlap, at byte {}; get the official archive", pair[1].0);
        return Err(Error::data(path, message));
    }
    Ok(members)
}

/// Lists an archive and unpacks all of it, one member after the other.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let path = Path::new("archive.zip");
    for member in members(path, &Bytes::from(bytes.to_vec()))? {
        member.bytes(&path.join(&member.name), u64::MAX)?;
    }
    Ok(())
}

impl Member {
    /// Its unpacked bytes, at most `limit` of them: in place if they are stored as they are. `path` names the member in errors.
    pub fn bytes(&self, path: &Path, limit: u64) -> Result<Bytes> {
        self.unpack(limit).map_err(|(what, remedy)| {
            Error::data(path, format!("{what} (from byte {} of the archive on); {remedy}", self.at))
        })
    }

    /// An error is what is wrong, and the remedy.
    fn unpack(&self, limit: u64) -> Result<Bytes, (String, &'static str)> {
        let unpack_it = "unpack the archive and name its folder";
        if self.encrypted {
            return Err(("is encrypted, which is not supported".into(), unpack_it));
        }
        let (size, packed) = (self.size, self.packed.len() as u64);
        if size > limit {
            return Err((format!("expands beyond the limit of {limit} bytes, to {size}"), AGAIN));
        }
        match self.method {
            _ if size == 0 => Err(("is empty".into(), AGAIN)),
            STORED if size == packed => self.checked(self.packed.clone()),
            STORED => Err((format!("is stored in {packed} bytes, but should have {size}"), AGAIN)),
            DEFLATED if size > packed.saturating_mul(MAX_EXPANSION) => {
                Err((format!("should have {size} bytes, more than deflate can pack into {packed}"), AGAIN))
            }
            DEFLATED => self.inflate(),
            method => {
                let name = method_name(method);
                let what = format!("is packed by method {method}{name}, only stored and deflated members are read");
                Err((what, unpack_it))
            }
        }
    }

    fn inflate(&self) -> Result<Bytes, (String, &'static str)> {
        let (mut bytes, size) = (Vec::new(), self.size);
        if bytes.try_reserve_exact(size as usize).is_err() {
            let remedy = "look whether it is the right archive, or use a machine with more memory";
            return Err((format!("would unpack to {size} bytes, for which there is no memory"), remedy));
        }
        // One byte more, to see that there is none.
        let outcome = DeflateDecoder::new(&self.packed[..]).take(self.size + 1).read_to_end(&mut bytes);
        let got = bytes.len() as u64;
        if let Err(error) = outcome {
            return Err((format!("bad deflate stream after {got} unpacked bytes ({error})"), AGAIN));
        }
        if got != size {
            let relation = if got < size { "ends after" } else { "expands beyond the limit of" };
            let bytes = got.min(size);
            return Err((format!("{relation} {bytes} bytes, where the archive's directory says {size}"), AGAIN));
        }
        self.checked(bytes.into())
    }

    /// `bytes`, if they have the checksum of the directory.
    fn checked(&self, bytes: Bytes) -> Result<Bytes, (String, &'static str)> {
        let mut crc = Crc::new();
        crc.update(&bytes);
        let (sum, expected) = (crc.sum(), self.crc);
        if sum != expected {
            return Err((format!("has checksum {sum:08x} where the archive's directory says {expected:08x}"), AGAIN));
        }
        Ok(bytes)
    }

    /// The checksum of its contents.
    pub fn crc(&self) -> u32 {
        self.crc
    }
}

fn method_name(method: u16) -> &'static str {
    match method {
        9 => " (deflate64)",
        12 => " (bzip2)",
        14 => " (LZMA)",
        93 => " (zstandard)",
        95 => " (xz)",
        _ => "",
    }
}

/// `N` bytes from `at` on, if there are as many.
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    chunk(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    chunk(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    chunk(bytes, at).map(u64::from_le_bytes)
}

/// Where the central directory lies.
fn find_directory(bytes: &[u8]) -> Result<std::ops::Range<usize>, String> {
    let is_end = |at: &usize| {
        let comment = u16_at(bytes, at + 20).map(usize::from);
        bytes[*at..].starts_with(b"PK\x05\x06") && comment == Some(bytes.len() - at - END_BYTES)
    };
    let Some(last) = bytes.len().checked_sub(END_BYTES) else {
        return Err(format!("truncated: {} bytes cannot hold a zip archive; {AGAIN}", bytes.len()));
    };
    let Some(end) = (last.saturating_sub(u16::MAX.into())..=last).rev().find(is_end) else {
        return Err(format!(
            "truncated, or followed by something else: no zip directory at its end, by byte {}; {AGAIN}",
            bytes.len()
        ));
    };
    let (mut size, mut start) = (u32_at(bytes, end + 12).map(u64::from), u32_at(bytes, end + 16).map(u64::from));
    let mut limit = end;
    // The 64-bit record is named by a locator right before the end record.
    if let Some(locator) = end.checked_sub(20).filter(|&at| bytes[at..].starts_with(b"PK\x06\x07")) {
        let at = u64_at(bytes, locator + 8).and_then(|at| usize::try_from(at).ok()).filter(|&at| at < locator);
        let Some(at) = at.filter(|&at| bytes[at..].starts_with(b"PK\x06\x06")) else {
            return Err(format!("the 64-bit end record named at byte {locator} is not there; {AGAIN}"));
        };
        (size, start, limit) = (u64_at(bytes, at + 40), u64_at(bytes, at + 48), at);
    }
    let range = start.zip(size).and_then(|(start, size)| {
        let stop = usize::try_from(start.checked_add(size)?).ok().filter(|&stop| stop <= limit)?;
        Some(usize::try_from(start).ok()?..stop)
    });
    range.ok_or_else(|| format!("the zip directory named at byte {end} lies outside of the file; {AGAIN}"))
}

/// One entry of the central directory.
struct Entry {
    name: String,
    /// Its own length.
    bytes: usize,
    /// Where it stands.
    at: usize,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    local: u64,
}

impl Entry {
    fn parse(bytes: &[u8], at: usize, end: usize) -> Result<Self, String> {
        let directory = &bytes[..end];
        let entry = || {
            let word = |offset| u16_at(directory, at + offset);
            let long = |offset| u32_at(directory, at + offset).map(u64::from);
            let (name, extra, comment) = (usize::from(word(28)?), usize::from(word(30)?), usize::from(word(32)?));
            let name_at = at + ENTRY_BYTES;
            let name_bytes = directory.get(name_at..name_at + name)?;
            let extra_bytes = directory.get(name_at + name..name_at + name + extra)?;
            let mut sizes = [long(24)?, long(20)?, long(42)?];
            widen(&mut sizes, extra_bytes)?;
            let [size, packed, local] = sizes;
            // Archives made on Windows may have backslashes. Names go into messages, and so to a terminal.
            let name = String::from_utf8_lossy(name_bytes).replace('\\', "/").replace(char::is_control, "\u{fffd}");
            let bytes = ENTRY_BYTES + name_bytes.len() + extra + comment;
            let (flags, method, crc) = (word(8)?, word(10)?, u32_at(directory, at + 16)?);
            (at + bytes <= end).then_some(Self { name, bytes, at, flags, method, crc, packed, size, local })
        };
        if !directory[at..].starts_with(b"PK\x01\x02") {
            return Err(format!("no entry of the zip directory at byte {at}, where one should be; {AGAIN}"));
        }
        entry().ok_or_else(|| format!("the entry of the zip directory at byte {at} is damaged; {AGAIN}"))
    }

    /// Finds the packed bytes, which must lie before the directory.
    fn member(self, bytes: &Bytes, directory: usize) -> Result<Member, String> {
        let range = || {
            let local = usize::try_from(self.local).ok()?;
            let header = bytes.get(local..local.checked_add(LOCAL_BYTES)?)?;
            let names = usize::from(u16_at(header, 26)?) + usize::from(u16_at(header, 28)?);
            let start = local + LOCAL_BYTES + names;
            let stop = start.checked_add(usize::try_from(self.packed).ok()?)?;
            (header.starts_with(b"PK\x03\x04") && stop <= directory).then_some(start..stop)
        };
        let Some(range) = range() else {
            let (name, at, local) = (&self.name, self.at, self.local);
            return Err(format!(
                "the zip directory says at byte {at} that {name} lies at byte {local}, where it is not; {AGAIN}"
            ));
        };
        let (size, crc, method) = (self.size, self.crc, self.method);
        let (at, packed, encrypted) = (range.start, bytes.slice(range), self.flags & 1 != 0);
        Ok(Member { name: self.name, packed, at, size, crc, method, encrypted })
    }
}

/// Replaces those of size, packed size and place that 32 bits cannot hold by what the extra field 1 has, in this order.
fn widen(sizes: &mut [u64; 3], mut extra: &[u8]) -> Option<()> {
    let mut wide: &[u8] = &[];
    while let (Some(id), Some(len)) = (u16_at(extra, 0), u16_at(extra, 2)) {
        let field = extra.get(4..4 + usize::from(len))?;
        if id == 1 {
            wide = field;
        }
        extra = &extra[4 + field.len()..];
    }
    for size in sizes.iter_mut().filter(|size| **size == u64::from(u32::MAX)) {
        *size = u64_at(wide, 0)?;
        wide = &wide[8..];
    }
    Some(())
}
