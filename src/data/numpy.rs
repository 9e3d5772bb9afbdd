//! Arrays of numbers as numpy stores them, in an .npy file or inside a pickle.
//!
//! An array is an element type, a shape and the elements, which stay where they lie in the file; they are
//! little-endian and one row after the other (C order). Element types are those of numbers up to eight
//! bytes: bool, signed and unsigned integers, half, single and double floats. Names follow numpy:
//! `<f4` is a little-endian float of four bytes.

use std::path::{Path, PathBuf};

use crate::data::bytes::Bytes;
use crate::error::{Error, Result};

/// What an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
}

/// An element type: kind, and size in bytes (1, 2, 4 or 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dtype {
    pub kind: Kind,
    pub size: usize,
}

/// What is wrong with an array in Fortran order.
pub(super) const BY_COLUMNS: &str = "is stored column by column (Fortran order); store numpy.ascontiguousarray(x)";

pub(super) const U8: Dtype = Dtype { kind: Kind::Unsigned, size: 1 };

impl Dtype {
    /// From a code such as `u1` and a byte order (`<`, `>`, `|` for none, `=` for this machine's). The error says
    /// what such elements are and what to store instead.
    pub fn parse(order: char, code: &str) -> Result<Self, String> {
        let shown = format!("{order}{code}");
        let (kind, size) = match code {
            "b1" => (Kind::Bool, 1),
            "u1" => (Kind::Unsigned, 1),
            "u2" => (Kind::Unsigned, 2),
            "u4" => (Kind::Unsigned, 4),
            "u8" => (Kind::Unsigned, 8),
            "i1" => (Kind::Signed, 1),
            "i2" => (Kind::Signed, 2),
            "i4" => (Kind::Signed, 4),
            "i8" => (Kind::Signed, 8),
            "f2" => (Kind::Float, 2),
            "f4" => (Kind::Float, 4),
            "f8" => (Kind::Float, 8),
            _ if code.starts_with('O') => {
                return Err("holds Python objects, which are never read; store numbers".to_owned());
            }
            _ => return Err(format!("holds elements of type {shown:?}; store numbers of up to 8 bytes")),
        };
        if size > 1 && (order == '>' || (order == '=' && cfg!(target_endian = "big"))) {
            return Err(format!("is big-endian ({shown}); store x.astype(\"<{code}\")"));
        }
        if !matches!(order, '<' | '>' | '|' | '=') {
            return Err(format!("holds elements of type {shown:?}, whose byte order is not known"));
        }
        Ok(Self { kind, size })
    }
}

/// An array in a file.
#[derive(Clone)]
pub(super) struct Array {
    /// The file, for messages.
    pub path: PathBuf,
    /// What the file calls the array, for messages.
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// The elements, as many as the shape says.
    pub bytes: Bytes,
    /// Byte of the file at which they begin.
    pub at: usize,
}

impl Array {
    /// Checks that `bytes` holds as many elements as `shape` says.
    pub fn new(
        (path, name): (&Path, &str),
        dtype: Dtype,
        shape: Vec<usize>,
        (bytes, at): (Bytes, usize),
    ) -> Result<Self> {
        let expected = bytes_of(&shape, dtype);
        let array = Self { path: path.to_path_buf(), name: name.to_owned(), dtype, shape, bytes, at };
        if expected != Some(array.bytes.len()) {
            let expected = expected.map_or("more than 2^64".to_owned(), |bytes| bytes.to_string());
            let have = array.bytes.len();
            return Err(array.refuse(format!(
                "of shape {} needs {expected} bytes from byte {at} on, where {have} follow (truncated, or another file); \
                 copy or download the file again",
                array.shape_text()
            )));
        }
        Ok(array)
    }

    /// The same array row by row, of one that lies column by column: two dimensions of bytes are turned,
    /// one dimension needs nothing.
    ///
    /// # Errors
    /// `Data` for any other array: nobody publishes images that way.
    pub fn by_rows(self) -> Result<Self> {
        if self.shape.iter().filter(|&&dim| dim != 1).count() <= 1 {
            return Ok(self);
        }
        let &[rows, columns] = &self.shape[..] else { return Err(self.refuse(BY_COLUMNS)) };
        if self.dtype.size != 1 {
            return Err(self.refuse(BY_COLUMNS));
        }
        let mut turned = vec![0; self.bytes.len()];
        for (column, values) in self.bytes.chunks_exact(rows.max(1)).enumerate() {
            for (row, &value) in turned.chunks_exact_mut(columns.max(1)).zip(values) {
                row[column] = value;
            }
        }
        Ok(Self { bytes: Bytes::from(turned), ..self })
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.bytes.len() / self.dtype.size
    }

    /// Element `i` as the nearest double; integers beyond 2^53 are rounded. Zero beyond the end.
    pub fn number(&self, i: usize) -> f64 {
        let size = self.dtype.size;
        let Some(bytes) = self.bytes.get(i * size..(i + 1) * size) else { return 0.0 };
        let mut all = [0; 8];
        all[..size].copy_from_slice(bytes);
        let bits = u64::from_le_bytes(all);
        match self.dtype {
            Dtype { kind: Kind::Bool | Kind::Unsigned, .. } => bits as f64,
            Dtype { kind: Kind::Signed, size } => {
                let unused = 64 - 8 * size as u32;
                ((bits << unused) as i64 >> unused) as f64
            }
            Dtype { kind: Kind::Float, size: 2 } => half(bits as u16),
            Dtype { kind: Kind::Float, size: 4 } => f32::from_bits(bits as u32).into(),
            Dtype { kind: Kind::Float, .. } => f64::from_bits(bits),
        }
    }

    /// The byte of the file at which element `i` lies.
    pub fn byte(&self, i: usize) -> usize {
        self.at + i * self.dtype.size
    }

    /// `(2, 3, 4)`.
    pub fn shape_text(&self) -> String {
        let dims: Vec<String> = self.shape.iter().map(usize::to_string).collect();
        format!("({}{})", dims.join(", "), if dims.len() == 1 { "," } else { "" })
    }

    /// An error about this array.
    pub fn refuse(&self, message: impl std::fmt::Display) -> Error {
        Error::data(&self.path, format!("array {:?} {message}", self.name))
    }

    /// The labels that the array holds, one per image, each a whole number of `range`, less its first.
    ///
    /// # Errors
    /// `Data` when the array is no list of whole numbers or one of them is not in `range`.
    pub fn labels(&self, range: std::ops::RangeInclusive<u16>) -> Result<Vec<u16>> {
        if !matches!(self.shape[..], [_] | [_, 1]) {
            let shape = self.shape_text();
            return Err(self.refuse(format!("has shape {shape} where (N,) is needed, one class number per image")));
        }
        if self.dtype.kind == Kind::Float {
            return Err(self.refuse("holds labels as floats; store y.astype(\"int64\")"));
        }
        let (first, last) = range.into_inner();
        let label = |i: usize| {
            let value = self.number(i);
            // Written so that no value slips through a comparison.
            if value >= first.into() && value <= last.into() {
                return Ok(value as u16 - first);
            }
            let byte = self.byte(i);
            Err(self.refuse(format!(
                "holds label {value} for image {i}, at byte {byte}, which is not in {first} to {last}; correct it, or get the file again"
            )))
        };
        (0..self.len()).map(label).collect()
    }
}

/// Bytes of an array, unless they are more than can be counted.
fn bytes_of(shape: &[usize], dtype: Dtype) -> Option<usize> {
    shape.iter().try_fold(dtype.size, |bytes, &dim| bytes.checked_mul(dim))
}

/// The value of a half-precision float (one sign bit, five of exponent, ten of fraction).
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::testdata::refusal;

    fn array(order: char, code: &str, shape: &[usize], bytes: &[u8]) -> Result<Array> {
        let dtype = Dtype::parse(order, code).unwrap_or_else(|e| panic!("{e}"));
        Array::new((Path::new("f"), "y"), dtype, shape.to_vec(), (bytes.to_vec().into(), 80))
    }

    #[test]
    fn numbers_of_every_type_are_read() {
        let cases: [(&str, Vec<u8>, f64); 15] = [
            ("b1", vec![1], 1.0),
            ("u1", vec![200], 200.0),
            ("i1", vec![200], -56.0),
            ("u2", 40000u16.to_le_bytes().into(), 40000.0),
            ("i2", (-300i16).to_le_bytes().into(), -300.0),
            ("u4", u32::MAX.to_le_bytes().into(), 4294967295.0),
            ("i4", i32::MIN.to_le_bytes().into(), -2147483648.0),
            ("u8", (1u64 << 60).to_le_bytes().into(), 1152921504606846976.0),
            ("i8", (-7i64).to_le_bytes().into(), -7.0),
            ("f4", 0.25f32.to_le_bytes().into(), 0.25),
            ("f8", (-1e300f64).to_le_bytes().into(), -1e300),
            ("f2", vec![0x00, 0xc1], -2.5), // sign, exponent 16, fraction 256
            ("f2", vec![0x01, 0x00], 5.960464477539063e-8), // the least one, 2^-24
            ("f2", vec![0xff, 0x7b], 65504.0), // the largest
            ("f2", vec![0x00, 0xfc], f64::NEG_INFINITY),
        ];
        for (code, bytes, value) in cases {
            let two = [vec![0; bytes.len()], bytes].concat();
            let array = array('<', code, &[2], &two).unwrap();
            assert_eq!((array.len(), array.number(0), array.number(1)), (2, 0.0, value), "{code}");
        }
        assert!(array('<', "f2", &[1], &[0x01, 0x7c]).unwrap().number(0).is_nan());
    }

    #[test]
    fn other_element_types_say_what_to_store() {
        for (order, code, why) in [
            ('>', "f4", "is big-endian (>f4); store x.astype(\"<f4\")"),
            ('|', "O", "holds Python objects"),
            ('<', "U5", "holds elements of type \"<U5\""),
            ('<', "c8", "holds elements of type \"<c8\""),
            ('!', "i4", "whose byte order is not known"),
        ] {
            let message = Dtype::parse(order, code).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
        assert!(Dtype::parse('>', "u1").is_ok(), "one byte has no order");
    }

    #[test]
    fn columns_of_bytes_are_turned_and_others_refused() {
        let turned = array('|', "u1", &[2, 3], &[1, 4, 2, 5, 3, 6]).unwrap().by_rows().unwrap();
        assert_eq!((&turned.bytes[..], &turned.shape[..]), (&[1, 2, 3, 4, 5, 6][..], &[2, 3][..]));
        let line = array('<', "i2", &[1, 3], &[1, 0, 2, 0, 3, 0]).unwrap().by_rows().unwrap();
        assert_eq!(line.bytes[..], [1, 0, 2, 0, 3, 0]);
        for shape in [&[2, 3][..], &[1, 2, 3]] {
            let message = refusal(array('<', "i2", shape, &[0; 12]).unwrap().by_rows());
            assert!(message.contains("array \"y\" is stored column by column (Fortran order); store"), "{message}");
        }
        assert_eq!(array('|', "u1", &[0, 3], &[]).unwrap().by_rows().unwrap().len(), 0);
    }

    #[test]
    fn lengths_are_those_of_the_shape() {
        for (shape, bytes, why) in [
            (&[3, 2][..], 11, "array \"y\" of shape (3, 2) needs 12 bytes from byte 80 on, where 11 follow"),
            (&[3], 7, "of shape (3,) needs 6 bytes from byte 80 on, where 7 follow"),
            (&[], 0, "of shape () needs 2 bytes"),
            (&[usize::MAX, 2], 4, "needs more than 2^64 bytes"),
        ] {
            let message = refusal(array('<', "u2", shape, &vec![0; bytes]));
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn labels_are_whole_numbers_in_range() {
        let labels = |code: &str, shape: &[usize], bytes: &[u8]| array('<', code, shape, bytes)?.labels(1..=1000);
        assert_eq!(labels("i2", &[2], &[1, 0, 0xe8, 3]).unwrap(), [0, 999]);
        assert_eq!(labels("u1", &[2, 1], &[5, 6]).unwrap(), [4, 5]);
        for (code, shape, bytes, why) in [
            ("u1", &[2][..], &[1, 0][..], "holds label 0 for image 1, at byte 81, which is not in 1 to 1000"),
            ("i2", &[2], &[1, 0, 0xe9, 3], "label 1001 for image 1, at byte 82"),
            ("i1", &[1], &[0xff], "label -1 for image 0"),
            ("u8", &[1], &[0, 0, 0, 0, 1, 0, 0, 0], "label 4294967296 for image 0"),
            ("f4", &[1], &[0; 4], "labels as floats; store y.astype(\"int64\")"),
            ("u1", &[1, 2], &[1, 2], "has shape (1, 2) where (N,) is needed"),
        ] {
            let message = refusal(labels(code, shape, bytes));
            assert!(message.contains(why), "{message}");
        }
    }
}
