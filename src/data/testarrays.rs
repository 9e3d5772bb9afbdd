//! Small pickles and .npy files for tests, as Python would write them.

use std::path::PathBuf;

/// A value of a pickled dict.
pub(super) enum Entry<'a> {
    /// Bytes of a numpy array of two dimensions.
    Bytes(&'a [u8], [usize; 2]),
    /// A list of whole numbers.
    Labels(&'a [i32]),
    /// A list of texts.
    Names(&'a [&'a str]),
    /// Opcodes as they are.
    Raw(&'a [u8]),
}

/// Opcodes around `items`, batched as picklers do.
fn list(items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = b"]".to_vec();
    for batch in items.collect::<Vec<_>>().chunks(1000) {
        bytes.push(b'(');
        bytes.extend(batch.concat());
        bytes.push(b'e');
    }
    bytes
}

fn text(text: &str) -> Vec<u8> {
    [&[b'U', text.len() as u8], text.as_bytes()].concat()
}

fn int(value: usize) -> Vec<u8> {
    [&b"J"[..], &(value as i32).to_le_bytes()].concat()
}

/// The opcodes of a numpy array of `dtype`, such as `|u1`.
pub(super) fn pickled_array(dtype: &str, shape: &[usize], column_major: bool, elements: &[u8]) -> Vec<u8> {
    let mut bytes = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01(".to_vec();
    bytes.extend(shape.iter().flat_map(|&dim| int(dim)));
    bytes.extend(b"tcnumpy\ndtype\n");
    bytes.extend(text(&dtype[1..]));
    bytes.extend(b"K\0K\x01\x87R(K\x03");
    bytes.extend(text(&dtype[..1]));
    bytes.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
    bytes.push(if column_major { 0x88 } else { 0x89 });
    bytes.push(b'T');
    bytes.extend((elements.len() as u32).to_le_bytes());
    bytes.extend(elements);
    bytes.extend(b"tb");
    bytes
}

/// A dict pickled by Python 2 with protocol 2, as the archives of CIFAR hold.
pub(super) fn pickle(entries: &[(&str, Entry)]) -> Vec<u8> {
    let mut bytes = b"\x80\x02}(".to_vec();
    for (key, value) in entries {
        bytes.extend(text(key));
        bytes.extend(match value {
            Entry::Bytes(elements, shape) => pickled_array("|u1", shape, false, elements),
            Entry::Labels(labels) => list(labels.iter().map(|&label| int(label as usize))),
            Entry::Names(names) => list(names.iter().map(|name| text(name))),
            Entry::Raw(opcodes) => opcodes.to_vec(),
        });
    }
    bytes.extend(b"u.");
    bytes
}

/// An .npy file of version 1.
pub(super) fn npy(descr: &str, column_major: bool, shape: &[usize], elements: &[u8]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let order = if column_major { "True" } else { "False" };
    npy_of(&format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({dims}), }}"), elements)
}

/// An .npy file of version 1 with any header.
pub(super) fn npy_of(header: &str, elements: &[u8]) -> Vec<u8> {
    let len = (header.len() + 11).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((len as u16).to_le_bytes());
    bytes.extend(format!("{header:0$}\n", len - 1).as_bytes());
    bytes.extend(elements);
    bytes
}

/// The pickles of `tests/pickles`: Python 2 and 3, numpy 1 and 2, protocols 2 to 5.
pub(super) fn committed_pickles() -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pickles");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}
