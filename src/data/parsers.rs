//! Every reader of a data file as a function of bytes, for whoever wants to feed them anything.
//!
//! `tests/it/parsers.rs` runs all of them on damaged files, `tests/fuzz` looks for worse.

use crate::data::{cifar, codecs, files, folder, idx, modelnet, npy, npz, off, pickle, stl, voxel_file, zip};
use crate::error::Result;

/// A reader of files.
#[derive(Clone, Copy, Debug)]
pub struct Parser {
    /// What it reads.
    pub name: &'static str,
    /// Reads a whole file and throws away what is in it.
    pub check: fn(&[u8]) -> Result<()>,
    /// How many bytes of memory a byte of the file may stand for: 1032 where it may be deflated.
    pub expansion: usize,
}

const fn plain(name: &'static str, check: fn(&[u8]) -> Result<()>) -> Parser {
    Parser { name, check, expansion: 1 }
}

const fn packed(name: &'static str, check: fn(&[u8]) -> Result<()>) -> Parser {
    Parser { name, check, expansion: zip::MAX_EXPANSION as usize }
}

/// All readers of data files; `set` is any archive with whatever data set it holds.
pub const PARSERS: [Parser; 13] = [
    plain("cifar", cifar::check),
    plain("npy", npy::check),
    plain("off", off::check),
    // An opcode of one byte may make a value of 16, in a table that is half empty.
    Parser { name: "pickle", check: pickle::check, expansion: 16 },
    plain("stl", stl::check),
    plain("voxels", voxel_file::check),
    packed("archive", files::check),
    packed("idx", idx::check),
    packed("modelnet", modelnet::check),
    packed("npz", npz::check),
    packed("picture", codecs::check),
    packed("set", folder::check),
    packed("zip", zip::check),
];
