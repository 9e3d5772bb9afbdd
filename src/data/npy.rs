//! Files of one numpy array (.npy, also the members of an .npz), read strictly.
//!
//! `\x93NUMPY`, major and minor version, the length of the header (two bytes little-endian in version 1,
//! four in versions 2 and 3), the header, the elements. The header is the text of a Python dict,
//! `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`, padded with spaces to a multiple of 64
//! bytes in all; here it is parsed, never evaluated. Source: numpy, `numpy/lib/format.py` (NEP 1).

use std::path::Path;

use crate::data::bytes::Bytes;
use crate::data::numpy::{Array, BY_COLUMNS, Dtype};
use crate::error::{Error, Result};

const MAGIC: &[u8] = b"\x93NUMPY";
/// numpy itself refuses longer headers (`max_header_size`).
const MAX_HEADER: usize = 10_000;
/// numpy allows 64 dimensions; nothing here has more than six.
const MAX_DIMENSIONS: usize = 8;
const AGAIN: &str = "copy or download the file again";

/// Reads the array that the file `path` holds; the elements stay in `bytes`.
///
/// # Errors
/// `Data` when this is no such file, of another length than its header says, or of elements that are
/// big-endian, column-major, or no numbers.
pub(super) fn parse(path: &Path, name: &str, bytes: &Bytes) -> Result<Array> {
    let refuse = |message: String| Error::data(path, message);
    let (text, start) = header(bytes).map_err(|what| refuse(format!("{what}; {AGAIN}")))?;
    let header = Fields::parse(text).ok_or_else(|| {
        let shown = String::from_utf8_lossy(text).trim_end().escape_debug().to_string();
        refuse(format!("the header at byte {} is not one that numpy writes ({shown})", start - text.len()))
    })?;
    let dtype = Dtype::parse(header.order, header.code).map_err(|what| refuse(format!("array {name:?} {what}")))?;
    // With at most one dimension that is not 1, both orders are the same.
    if header.column_major && header.shape.iter().filter(|&&dim| dim != 1).count() > 1 {
        return Err(refuse(format!("array {name:?} {BY_COLUMNS}")));
    }
    Array::new((path, name), dtype, header.shape, (bytes.slice(start..bytes.len()), start))
}

/// The file of an array of f32 of `rows` rows, each of `columns` numbers.
pub fn file_of_rows(rows: &[Vec<f32>], columns: usize) -> Vec<u8> {
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {columns}), }}", rows.len());
    // Magic, version and length of the header are 10 bytes; a newline ends it, at a multiple of 64 bytes.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = [MAGIC, &[1, 0], &(length as u16).to_le_bytes()].concat();
    bytes.extend(format!("{header:<0$}\n", length - 1).bytes());
    bytes.extend(rows.iter().flatten().flat_map(|x| x.to_le_bytes()));
    bytes
}

/// Parses `bytes`, as a check of this reader.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    parse(Path::new("x.npy"), "x", &Bytes::from(bytes.to_vec())).map(drop)
}

/// The header's text, and where the elements begin.
fn header(bytes: &[u8]) -> Result<(&[u8], usize), String> {
    let Some(rest) = bytes.strip_prefix(MAGIC) else {
        return Err("is no .npy file (it does not begin with \\x93NUMPY)".to_owned());
    };
    let (length, start) = match *rest {
        [1, _, a, b, ..] => (usize::from(u16::from_le_bytes([a, b])), 10),
        [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([a, b, c, d]) as usize, 12),
        [1..=3, ..] | [] => return Err(format!("ends inside its header, after {} bytes", bytes.len())),
        [version, ..] => return Err(format!("is of .npy version {version}, not 1, 2 or 3")),
    };
    if length > MAX_HEADER {
        return Err(format!("has a header of {length} bytes at byte {start}, where numpy allows {MAX_HEADER}"));
    }
    match bytes.get(start..start + length) {
        Some(text) => Ok((text, start + length)),
        None => Err(format!("ends inside its header of {length} bytes, after {} bytes", bytes.len())),
    }
}

/// The three entries of a header.
#[derive(Debug, PartialEq)]
struct Fields<'a> {
    order: char,
    code: &'a str,
    column_major: bool,
    shape: Vec<usize>,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut rest = std::str::from_utf8(text).ok()?.trim().strip_prefix('{')?;
        let (mut descr, mut column_major, mut shape) = (None, None, None);
        while rest != "}" {
            let key;
            (key, rest) = quoted(rest)?;
            rest = rest.strip_prefix(':')?.trim_start();
            match key {
                "descr" if descr.is_none() => {
                    let value;
                    (value, rest) = element_type(rest)?;
                    descr = Some(value);
                }
                "fortran_order" if column_major.is_none() => {
                    column_major = Some(rest.starts_with("True"));
                    rest = rest.strip_prefix("True").or_else(|| rest.strip_prefix("False"))?;
                }
                "shape" if shape.is_none() => {
                    let inside;
                    (inside, rest) = rest.strip_prefix('(')?.split_once(')')?;
                    shape = Some(dimensions(inside)?);
                }
                _ => return None,
            }
            rest = rest.trim_start();
            rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
        }
        let (order, code) = descr?;
        Some(Self { order, code, column_major: column_major?, shape: shape? })
    }
}

/// `'text'` at the start of `text`, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let (inside, rest) = text[1..].split_once(quote)?;
    Some((inside, rest.trim_start()))
}

/// `'<f4'` at the start of `text`, and what follows. A list (elements with named parts) reads as the code `records`.
fn element_type(text: &str) -> Option<((char, &str), &str)> {
    if text.starts_with('[') {
        let end = text.rfind(']')? + 1;
        return Some((('|', "records"), &text[end..]));
    }
    let (descr, rest) = quoted(text)?;
    let mut letters = descr.chars();
    let order = letters.next()?;
    Some(((order, letters.as_str()), rest))
}

/// `2, 3` or `2,` or nothing.
fn dimensions(text: &str) -> Option<Vec<usize>> {
    let text = text.trim();
    let text = text.strip_suffix(',').unwrap_or(text);
    if text.is_empty() {
        return Some(Vec::new());
    }
    // Python 2 wrote long integers with an L.
    let dimension = |text: &str| text.trim().trim_end_matches('L').parse().ok();
    let dims: Vec<usize> = text.split(',').map(dimension).collect::<Option<_>>()?;
    (dims.len() <= MAX_DIMENSIONS).then_some(dims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testarrays::{npy, npy_of};
    use crate::data::testdata::refusal;
    use crate::rng::{Rng, Stream};

    fn read(bytes: &[u8]) -> Result<Array> {
        parse(Path::new("x.npy"), "x", &Bytes::from(bytes.to_vec()))
    }

    #[test]
    fn every_version_and_spelling_of_the_header_is_read() {
        let elements = [1, 0, 2, 0, 3, 0];
        let version_1 = npy("<i2", false, &[3, 1], &elements);
        let header = &version_1[10..version_1.len() - 6];
        let version_2 = |version| {
            let length = (header.len() as u32).to_le_bytes();
            [b"\x93NUMPY", &[version, 0][..], &length, header, &elements].concat()
        };
        let spellings = [
            "{'descr': '<i2', 'fortran_order': False, 'shape': (3, 1)}", // numpy before 1.14
            "{'descr': '<i2', 'fortran_order': True, 'shape': (3L, 1L), }", // Python 2; one column
            "{\"shape\" : (3,1,), \"fortran_order\":False, \"descr\":\"<i2\"}",
        ];
        let mut files = vec![version_1.clone(), version_2(2), version_2(3)];
        files.extend(spellings.map(|header| npy_of(header, &elements)));
        for file in files {
            let array = read(&file).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!((&array.shape[..], &array.bytes[..], array.at), (&[3, 1][..], &elements[..], file.len() - 6));
            assert_eq!(array.number(2), 3.0);
        }
        let scalar = read(&npy("<f8", false, &[], &1.5f64.to_le_bytes())).unwrap();
        assert_eq!((scalar.len(), scalar.number(0)), (1, 1.5));
    }

    #[test]
    fn elements_stay_where_they_lie() {
        let bytes = Bytes::from(npy("|u1", false, &[200], &[7; 200]));
        let array = parse(Path::new("x.npy"), "x", &bytes).unwrap();
        assert_eq!(array.bytes.as_ptr(), bytes[array.at..].as_ptr());
    }

    #[test]
    fn what_is_not_such_an_array_is_refused_with_a_remedy() {
        for (file, why) in [
            (npy(">i4", false, &[1], &[0; 4]), "array \"x\" is big-endian (>i4); store x.astype(\"<i4\")"),
            (npy("|O", false, &[1], &[0; 8]), "array \"x\" holds Python objects"),
            (npy("<f4", true, &[2, 2], &[0; 16]), "array \"x\" is stored column by column (Fortran order); store"),
            (npy("<f4", false, &[2, 2], &[0; 15]), "of shape (2, 2) needs 16 bytes from byte 128 on, where 15 follow"),
            (npy("<f4", false, &[2, 2], &[0; 17]), "where 17 follow"),
            (npy("<f4", false, &[1 << 40, 1 << 40], &[]), "needs more than 2^64 bytes"),
            (b"PK\x03\x04".to_vec(), "is no .npy file"),
            (b"\x93NUMPY".to_vec(), "ends inside its header, after 6 bytes"),
            (b"\x93NUMPY\x04\0\0\0".to_vec(), "is of .npy version 4, not 1, 2 or 3"),
            (b"\x93NUMPY\x01\0\x76\0{".to_vec(), "ends inside its header of 118 bytes, after 11 bytes"),
            (b"\x93NUMPY\x02\0\xff\xff\xff\xff".to_vec(), "has a header of 4294967295 bytes at byte 12"),
        ] {
            let message = refusal(read(&file));
            assert!(message.starts_with("x.npy: ") && message.contains(why), "{message}");
        }
        for header in [
            "",
            "{}",
            "{'descr': '<i2', 'fortran_order': False}",
            "{'descr': '<i2', 'fortran_order': 0, 'shape': (3,)}",
            "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), 'shape': (4,)}",
            "{'descr': '<i2', 'descr': '<i2', 'fortran_order': False, 'shape': (3,)}",
            "{'descr': '<i2', 'fortran_order': False, 'shape': (-3,)}",
            "{'descr': '<i2', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}",
            "{'descr': '<i2', 'fortran_order': False, 'shape': (3,), 'other': 1}",
            "{'descr': __import__('os').system('exit'), 'fortran_order': False, 'shape': (3,)}",
        ] {
            let message = refusal(read(&npy_of(header, &[0; 6])));
            assert!(message.contains("the header at byte 10 is not one that numpy writes"), "{header}: {message}");
        }
        let records = npy_of("{'descr': [('a', '<i2'), ('b', '<i4')], 'fortran_order': False, 'shape': (1,)}", &[0; 6]);
        assert!(refusal(read(&records)).contains("holds elements of type \"|records\""));
    }

    #[test]
    fn what_is_written_is_what_numpy_writes() {
        let rows = vec![vec![1.5f32, -2.0, 0.25], vec![3.0, 4.0, f32::MIN_POSITIVE]];
        let elements: Vec<u8> = rows.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
        let header = |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        assert_eq!(file_of_rows(&rows, 3), npy_of(&header("(2, 3)"), &elements));
        assert_eq!(file_of_rows(&[], 10), npy_of(&header("(0, 10)"), &[]));
    }

    #[test]
    fn mutated_files_are_read_or_refused_but_never_panic() {
        let file = npy("<u2", false, &[3, 4], &[9; 24]);
        let mut rng = Rng::new(5, Stream::Init);
        let mut refused = 0;
        for _ in 0..3000 {
            let mut bytes = file.clone();
            for _ in 0..1 + rng.below(3) {
                let (at, from) = (rng.below(80), rng.below(80));
                bytes[at] = if rng.below(2) == 0 { rng.below(256) as u8 } else { file[from] };
            }
            bytes.truncate(bytes.len() - rng.below(3) * rng.below(10));
            if let Err(error) = check(&bytes) {
                refused += 1;
                assert!(matches!(error, Error::Data { .. }), "{error}");
            }
        }
        assert!((1000..3000).contains(&refused), "{refused}");
    }
}
