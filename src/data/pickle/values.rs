//! What the opcodes of a pickle make.
//!
//! Values are small and `Copy`: text and bytes are ranges of the file, containers are numbers into
//! [`Heap::objects`]. So nothing here is nested, whatever the pickle stands for.

/// Text or bytes: a range of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text {
    pub start: usize,
    pub len: u32,
    /// Bytes that protocol 2 wrote as text: each character stands for the byte of its number.
    pub latin1: bool,
}

/// The names a pickle may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `numpy.core.multiarray._reconstruct(ndarray, (0,), b"b")`: an array that `BUILD` fills.
    Reconstruct,
    /// `numpy.ndarray`, only as the argument of that.
    Ndarray,
    /// `numpy.dtype(code, align, copy)`.
    Dtype,
    /// `numpy.core.numeric._frombuffer(bytes, dtype, shape, order)`, protocol 5.
    FromBuffer,
    /// `_codecs.encode(text, "latin1")`, how protocol 2 writes bytes.
    Encode,
}

impl Global {
    /// Versions 1 and 2 of numpy differ in the name of a package.
    pub fn named(module: &[u8], name: &[u8]) -> Option<Self> {
        Some(match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Self::Reconstruct,
            (b"numpy.core.numeric" | b"numpy._core.numeric", b"_frombuffer") => Self::FromBuffer,
            (b"numpy", b"ndarray") => Self::Ndarray,
            (b"numpy", b"dtype") => Self::Dtype,
            (b"_codecs", b"encode") => Self::Encode,
            _ => return None,
        })
    }
}

/// What an opcode pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Text(Text),
    Global(Global),
    /// A container, as a number into [`Heap::objects`].
    Object(usize),
}

/// What is made of other values.
#[derive(Debug)]
pub(super) enum Object {
    Tuple(Vec<Value>),
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// A numpy element type: its code, such as `u1`, and its byte order (`|`, `<`, `>`, `=`).
    Dtype {
        code: Text,
        order: Option<Text>,
    },
    /// An array that is not filled yet.
    Blank,
    /// A numpy array.
    Array {
        dtype: usize,
        shape: usize,
        column_major: bool,
        payload: Text,
    },
}

/// Everything a pickle made, and the value it stands for.
#[derive(Debug)]
pub(super) struct Heap {
    pub objects: Vec<Object>,
    pub root: Value,
}
