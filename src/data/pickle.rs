//! Pickles of numpy arrays, read without running anything: a dict of arrays, lists of numbers, and text.
//!
//! `pickle/machine.rs` executes the opcodes; here its values are asked for by key and become arrays
//! (which stay in the file), numbers and names. What is not asked for (file names, say) costs nothing more.
//! Python 2 writes text as bytes and Python 3 may write bytes as text; keys are compared as bytes.

use std::path::{Path, PathBuf};

use crate::data::bytes::Bytes;
use crate::data::numpy::{Array, Dtype};
use crate::error::{Error, Result};

mod machine;
mod refusal;
mod values;

use values::{Heap, Object, Text, Value};

/// Names of classes are at most a few hundred, each a few letters.
const MAX_NAME: u32 = 256;

/// A pickled dict.
pub(super) struct Pickle {
    path: PathBuf,
    bytes: Bytes,
    heap: Heap,
}

impl Pickle {
    /// Reads the pickle that the file `path` holds.
    ///
    /// # Errors
    /// `Data` when it is damaged or holds anything but numbers, text, lists, dicts and numpy arrays.
    pub fn parse(path: &Path, bytes: Bytes) -> Result<Self> {
        let heap = machine::run(&bytes).map_err(|fault| {
            let message = format!(
                "at byte {}, {}; download the official file again, or store the arrays with numpy.savez",
                fault.at, fault.what
            );
            Error::data(path, message)
        })?;
        Ok(Self { path: path.to_path_buf(), bytes, heap })
    }

    /// The array under `key`; column-major arrays of two dimensions are turned.
    pub fn array(&self, key: &str) -> Result<Array> {
        match self.get(key)? {
            Value::Object(number) => self.array_of(key, number),
            _ => Err(self.refuse(key, "is no numpy array")),
        }
    }

    /// The whole numbers under `key`, a list or an array of one dimension.
    pub fn labels(&self, key: &str, range: std::ops::RangeInclusive<u16>) -> Result<Vec<u16>> {
        let Some(list) = self.list(key)? else { return self.array(key)?.labels(range) };
        let (first, last) = range.into_inner();
        let label = |(i, value): (usize, &Value)| match *value {
            Value::Int(label) if (i64::from(first)..=i64::from(last)).contains(&label) => Ok(label as u16 - first),
            Value::Int(label) => {
                Err(self.refuse(key, format!("label {label} of image {i} is not in {first} to {last}")))
            }
            _ => Err(self.refuse(key, format!("the label of image {i} is no whole number"))),
        };
        list.iter().enumerate().map(label).collect()
    }

    /// The `count` names under `key`.
    pub fn names(&self, key: &str, count: usize) -> Result<Vec<String>> {
        let name = |value: &Value| match *value {
            Value::Text(text) if text.len <= MAX_NAME => String::from_utf8(self.slice(text).to_vec()).ok(),
            _ => None,
        };
        let list = self.list(key)?.filter(|list| list.len() == count).unwrap_or_default();
        let names: Option<Vec<String>> = list.iter().map(name).collect();
        let names = names.filter(|names| names.len() == count);
        names.ok_or_else(|| self.refuse(key, format!("is no list of {count} names")))
    }

    fn get(&self, key: &str) -> Result<Value> {
        let Value::Object(root) = self.heap.root else { return Err(self.refuse_root()) };
        let Some(Object::Dict(entries)) = self.heap.objects.get(root) else { return Err(self.refuse_root()) };
        let is_key =
            |entry: &&(Value, Value)| matches!(entry.0, Value::Text(text) if self.slice(text) == key.as_bytes());
        let entry = entries.iter().rev().find(is_key);
        entry.map(|entry| entry.1).ok_or_else(|| self.refuse(key, "is missing"))
    }

    fn list(&self, key: &str) -> Result<Option<&[Value]>> {
        let Value::Object(number) = self.get(key)? else { return Ok(None) };
        match self.heap.objects.get(number) {
            Some(Object::List(items)) => Ok(Some(items)),
            _ => Ok(None),
        }
    }

    fn slice(&self, text: Text) -> &[u8] {
        self.bytes.get(text.start..text.start + text.len as usize).unwrap_or_default()
    }

    fn array_of(&self, key: &str, number: usize) -> Result<Array> {
        let Some(&Object::Array { dtype, shape, column_major, payload }) = self.heap.objects.get(number) else {
            return Err(self.refuse(key, "is no numpy array"));
        };
        let dtype = self.dtype(dtype).map_err(|what| self.refuse(key, what))?;
        let shape = self.shape(shape).ok_or_else(|| self.refuse(key, "has no shape of up to 8 dimensions"))?;
        let bytes = if payload.latin1 {
            Bytes::from(latin1(self.slice(payload)).ok_or_else(|| self.refuse(key, "holds no bytes"))?)
        } else {
            self.bytes.slice(payload.start..payload.start + payload.len as usize)
        };
        let array = Array::new((&self.path, key), dtype, shape, (bytes, payload.start))?;
        if column_major { array.by_rows() } else { Ok(array) }
    }

    fn dtype(&self, number: usize) -> Result<Dtype, String> {
        let Some(&Object::Dtype { code, order }) = self.heap.objects.get(number) else {
            return Err("its elements have no type".to_owned());
        };
        let text = |text: Text| String::from_utf8_lossy(&self.slice(text)[..(text.len as usize).min(16)]).into_owned();
        let order = order.map_or("=".to_owned(), text);
        Dtype::parse(order.chars().next().unwrap_or('='), &text(code))
    }

    fn shape(&self, number: usize) -> Option<Vec<usize>> {
        match self.heap.objects.get(number) {
            Some(Object::Tuple(dims)) if dims.len() <= 8 => dims
                .iter()
                .map(|dim| match *dim {
                    Value::Int(dim) => usize::try_from(dim).ok(),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }

    fn refuse(&self, key: &str, message: impl std::fmt::Display) -> Error {
        Error::data(&self.path, format!("{key:?} {message}; this is not the official file, download it again"))
    }

    fn refuse_root(&self) -> Error {
        Error::data(&self.path, "holds no dict; a data set is pickled as a dict of arrays")
    }
}

/// The bytes that UTF-8 `text` stands for, one a character.
fn latin1(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut bytes = Vec::with_capacity(text.chars().count());
    for letter in text.chars() {
        bytes.push(u8::try_from(letter).ok()?);
    }
    Some(bytes)
}

/// Parses `bytes` and looks at everything in it, as a check of this reader.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let pickle = Pickle::parse(Path::new("x.pickle"), Bytes::from(bytes.to_vec()))?;
    for (number, object) in pickle.heap.objects.iter().enumerate() {
        if matches!(object, Object::Array { .. }) {
            pickle.array_of("x", number)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
