//! Every parser, on its corpus and on thousands of damaged copies of it: no panic, no memory that
//! the bytes do not justify, and an error of one line that says what is wrong and what to do.

use rand::{RngExt, SeedableRng, rngs::ChaCha8Rng};
use smash_engine::Error;
use smash_engine::parsers::{Parser, all};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::path::{Path, PathBuf};

/// Damaged copies of each file of a corpus.
const COPIES: usize = 300;

/// What one allocation may have, whatever the file: room for a decoder and its tables.
const ROOM: usize = 64 << 10;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    /// Less than zero where a thread has freed more, of others, than it has allocated.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn allocated(bytes: usize) {
    LIVE.set(LIVE.get() + bytes as isize);
    MOST.set(MOST.get().max(LIVE.get()));
    LARGEST.set(LARGEST.get().max(bytes));
}

fn freed(bytes: usize) {
    LIVE.set(LIVE.get() - bytes as isize);
}

// SAFETY: all four hand everything on to the system's allocator as it came. The counters are
// constants at first and have no destructors, so using them allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        allocated(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        freed(layout.size());
        allocated(size);
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        freed(layout.size());
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `parser` on `bytes`; the error, if it was one, after a look at its form and at the memory.
pub fn judge(parser: &Parser, bytes: &[u8]) -> Result<Option<String>, String> {
    let start = LIVE.get();
    MOST.set(start);
    LARGEST.set(0);
    let Ok(outcome) = std::panic::catch_unwind(|| (parser.check)(bytes)) else {
        return Err("a panic".into());
    };
    let (most, largest) = ((MOST.get() - start) as usize, LARGEST.get());
    let allowed = ROOM.max(4 * parser.expansion * bytes.len());
    if largest > allowed {
        return Err(format!("one allocation of {largest} bytes where {allowed} are justified"));
    }
    if most > 4 * ROOM + 2 * allowed {
        return Err(format!("{most} bytes of memory at once where one allocation may have {allowed}"));
    }
    match outcome {
        Ok(()) => Ok(None),
        Err(error) => well_formed(&error).map(Some),
    }
}

/// The message of an error, which must be one that a file causes, and read like a sentence.
fn well_formed(error: &Error) -> Result<String, String> {
    let message = error.to_string();
    let fault = match error.exit_code() {
        2 | 3 | 5 => message.contains(char::is_control).then_some("a control character in"),
        _ => Some("not the fault of a file"),
    };
    match fault {
        None if message.len() > 2000 => Err(format!("a message of {} bytes", message.len())),
        None => Ok(message),
        Some(fault) => Err(format!("{fault}: {message:?}")),
    }
}

fn corpus(parser: &Parser) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(parser.name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Changes `bytes` in a way that files are damaged, or that somebody with bad intentions would;
/// `other` is another file of the same kind.
fn damage(bytes: &mut Vec<u8>, other: &[u8], chance: &mut ChaCha8Rng) {
    let at = chance.random_range(0..=bytes.len());
    let end = (at + 1 + chance.random_range(0..40)).min(bytes.len());
    match chance.random_range(0..10) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.extend_from_within(at..end),
        3 => {
            let piece = bytes[at..end].to_vec();
            bytes.splice(at..at, piece);
        }
        4 => {
            let from = chance.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        5 => {
            // A number in a text becomes a very large or an odd one.
            let digit = (at..bytes.len()).find(|&i| bytes[i].is_ascii_digit());
            let numbers: [&[u8]; 6] = [b"99999999999999999999999", b"4294967295", b"-1", b"nan", b"1e400", b""];
            if let Some(digit) = digit {
                let number = numbers[chance.random_range(0..numbers.len())];
                bytes.splice(digit..=digit, number.iter().copied());
            }
        }
        6 => {
            // A count or an offset in a header.
            let values = [0, 1, 0x7f, 0xff, 0x100, 0xffff, 0x7fff_ffff, 0xffff_fff0, u64::MAX, u64::MAX / 2, 1 << 40];
            let value = values[chance.random_range(0..values.len())];
            let width = [1, 2, 4, 8][chance.random_range(0..4)];
            let field =
                if chance.random() { value.to_le_bytes() } else { value.rotate_right(8 * width as u32).to_be_bytes() };
            for (byte, new) in bytes.iter_mut().skip(at).zip(&field[..width]) {
                *byte = *new;
            }
        }
        _ => {
            for _ in 0..chance.random_range(1..4) {
                let at = chance.random_range(0..bytes.len().max(1));
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << chance.random_range(0..8);
                }
            }
        }
    }
}

/// So many damaged copies of `bytes`.
pub fn damaged(bytes: &[u8], copies: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut chance = ChaCha8Rng::seed_from_u64(8);
    (0..copies).map(move |_| {
        let mut copy = bytes.to_vec();
        damage(&mut copy, bytes, &mut chance);
        copy
    })
}

#[test]
fn every_parser_refuses_damaged_files_by_name_and_within_bounds() {
    let mut faults = Vec::new();
    for parser in all() {
        let mut chance = ChaCha8Rng::seed_from_u64(7);
        let files = corpus(&parser);
        let (mut accepted, mut refused) = (0, 0);
        for (i, (path, original)) in files.iter().enumerate() {
            for copy in 0..COPIES {
                let mut bytes = original.clone();
                // The first copy is the file itself.
                for _ in 0..copy.min(1 + copy % 3) {
                    let other = &files[(i + chance.random_range(0..files.len())) % files.len()].1;
                    damage(&mut bytes, other, &mut chance);
                }
                match judge(&parser, &bytes) {
                    Ok(None) => accepted += usize::from(copy == 0),
                    Ok(Some(_)) => refused += 1,
                    Err(fault) => faults.push(format!("{} {copy}: {fault}", path.display())),
                }
            }
        }
        assert!(accepted > 0, "{}: no file of its corpus is intact", parser.name);
        assert!(refused > 0, "{}: no damage is noticed", parser.name);
    }
    assert!(
        faults.is_empty(),
        "{} faults, the first of which are\n{}",
        faults.len(),
        faults[..faults.len().min(40)].join("\n")
    );
}

#[test]
fn memory_is_counted() {
    let greedy = |bytes: &[u8]| {
        black_box(vec![1u8; 4 * bytes.len() + ROOM]);
        Ok(())
    };
    let greedy = Parser { name: "greedy", check: greedy, expansion: 1 };
    assert!(judge(&greedy, &[0; 100_000]).unwrap_err().contains("one allocation of 465536 bytes where 400000"));
    let hoarding = |bytes: &[u8]| {
        black_box((0..12).map(|_| bytes.to_vec()).collect::<Vec<_>>());
        Ok(())
    };
    let hoarding = Parser { name: "hoarding", check: hoarding, expansion: 1 };
    assert!(judge(&hoarding, &[0; 100_000]).unwrap_err().contains("bytes of memory at once"));
    let panicking = |bytes: &[u8]| {
        assert!(bytes.is_empty());
        Ok(())
    };
    let panicking = Parser { name: "panicking", check: panicking, expansion: 1 };
    assert_eq!(judge(&panicking, &[0]), Err("a panic".into()));
    let rude = |_: &[u8]| Err(Error::data("x", "two\nlines"));
    assert!(judge(&Parser { name: "rude", check: rude, expansion: 1 }, &[0]).is_err());
}

#[test]
fn every_parser_has_a_fuzz_target() {
    let targets = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml")).unwrap();
    for parser in all() {
        assert!(targets.contains(&format!("[[bin]]\nname = \"{}\"\n", parser.name)), "{}", parser.name);
    }
    assert_eq!(targets.matches("[[bin]]").count(), all().count(), "a target without a parser");
}
