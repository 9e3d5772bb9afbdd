//! ModelNet10, ModelNet40 and other meshes in folders: volumes for networks in three dimensions.
//!
//! Read are meshes as Princeton publishes them (CLASS/train/x.off and CLASS/test/x.off, in a folder or
//! ModelNet10.zip), and volumes that others made of them: two .npz files, with `modelnet` and `train` or `test` in their
//! names, of `data` (N, V, 32, 32, 32) with V views of each object and `labels`, or of `features` (N, 32, 32, 32) or (N,
//! 1, 32, 32, 32), every view an object, and `targets`. Their axes are x, y, z, as those of polygon2voxel's volumes, and
//! their elements 0 or 1.
//!
//! All of it becomes a file of voxels ([`voxel_file`]) beside the source, once; it is made again when the
//! source has other files. Where nothing can be written, the voxels stay in memory.

mod convert;
mod npz;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::data::bytes::Bytes;
use crate::data::files::Files;
use crate::data::off::Mesh;
use crate::data::voxel_file::{self, Header};
use crate::data::{Dataset, Options, voxels};
use crate::error::{Error, Result};

pub use convert::{Conversion, Converted, convert};

/// The largest mesh; those of ModelNet40 have up to 100 MB.
const MAX_BYTES: u64 = 1 << 30;

/// The classes of ModelNet10, which ModelNet40 has too.
const MODELNET_10: [&str; 10] =
    ["bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet"];

/// Are there meshes, or volumes made of them?
pub(super) fn holds(files: &Files) -> bool {
    files.names().any(|name| Place::of(name).is_some()) || npz::names(files).next().is_some()
}

/// How large a file of this name may be, if it can be one of such a set.
pub(super) fn limit(name: &str) -> Option<u64> {
    if npz::is_one(name) { Some(crate::data::npz::MAX_BYTES) } else { is_mesh(name).then_some(MAX_BYTES) }
}

fn is_mesh(name: &str) -> bool {
    name.to_lowercase().ends_with(".off")
}

/// Opens the set among `files`: from its file of voxels, which is made first if need be.
pub(super) fn open(files: &Files, options: Options) -> Result<Dataset> {
    let source = Source::of(files)?;
    let path = beside(files);
    if let Some(set) = kept(&path, &source)? {
        return Ok(set);
    }
    match convert::write(&source, &path, options.progress)? {
        Some(_) => voxel_file::dataset(&path, &Bytes::map(&path)?),
        None => voxel_file::dataset(&path, &convert::in_memory(&source, options.progress)?),
    }
}

/// The data set in the one file of voxels among `files`.
pub(super) fn open_file(files: &Files) -> Result<Dataset> {
    let name = files.names().next().unwrap_or_default();
    voxel_file::dataset(&files.path(name), &files.bytes(name, u64::MAX)?)
}

/// Is there nothing but one file of voxels?
pub(super) fn is_file(files: &Files) -> bool {
    let mut names = files.names();
    names.next().is_some_and(|name| name.ends_with(".voxels")) && names.next().is_none()
}

/// Makes voxels, in memory, of what is in an archive.
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    let files = Files::archive(Path::new("ModelNet.zip"), bytes.to_vec().into())?;
    convert::in_memory(&Source::of(&files)?, None).map(drop)
}

/// Where the voxels of `files` are kept: NAME.voxels beside the folder or archive NAME.
fn beside(files: &Files) -> PathBuf {
    let root = files.root();
    let root = root.ancestors().find(|path| path.exists()).unwrap_or(&root);
    // `.` and links have a name of their own.
    let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
    let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let stem = if root.is_dir() { name.as_str() } else { name.split_once('.').map_or(name.as_str(), |(stem, _)| stem) };
    root.with_file_name(format!("{stem}.voxels"))
}

/// The file at `path`, if there is one.
///
/// # Errors
/// `Data` when it is no file of voxels: such a file is never replaced.
fn voxel_bytes(path: &Path) -> Result<Option<Bytes>> {
    if !path.exists() {
        return Ok(None);
    }
    let bytes = Bytes::map(path)?;
    if !bytes.starts_with(voxel_file::MAGIC) {
        let message = "is no file of voxels and lies where that of the data set would; move it away";
        return Err(Error::data(path, message));
    }
    Ok(Some(bytes))
}

/// The set at `path`, unless it was made from something else, or badly.
fn kept(path: &Path, source: &Source) -> Result<Option<Dataset>> {
    let Some(bytes) = voxel_bytes(path)? else { return Ok(None) };
    match Header::parse(path, &bytes) {
        Ok((header, _)) if header.source == source.header.source => voxel_file::dataset(path, &bytes).map(Some),
        _ => Ok(None),
    }
}

/// What voxels are made from.
struct Source {
    header: Header,
    kind: Kind,
}

enum Kind {
    /// One file an object, in the order of the labels.
    Meshes(Files, Vec<String>),
    Volumes(npz::Volumes),
}

impl Source {
    fn of(files: &Files) -> Result<Self> {
        let names: Vec<&str> = npz::names(files).collect();
        if names.is_empty() { Self::meshes(files) } else { npz::source(files, &names) }
    }

    fn meshes(files: &Files) -> Result<Self> {
        let places: Vec<(&str, Place<'_>)> = files.names().filter_map(|name| Some((name, Place::of(name)?))).collect();
        let classes: BTreeSet<&str> = places.iter().map(|(_, place)| place.class).collect();
        let of = |test: bool| places.iter().filter(move |(_, place)| place.test == test);
        let label = |place: &Place<'_>| classes.iter().position(|&class| class == place.class).unwrap_or(0) as u16;
        let labels = |test: bool| of(test).map(|(_, place)| label(place)).collect::<Vec<u16>>();
        let (train, test) = (labels(false), labels(true));
        let empty = classes.iter().enumerate().find(|(label, _)| !train.contains(&(*label as u16)));
        if let Some((_, class)) = empty {
            let message = "holds no mesh to train on; copy or unpack the data set again";
            return Err(Error::data(files.path(class).join("train"), message));
        }
        if test.is_empty() || classes.len() > usize::from(u16::MAX) {
            let message =
                format!("holds {} classes and {} meshes to test on, which is no data set", classes.len(), test.len());
            return Err(Error::data(files.root(), format!("{message}; copy or unpack it again")));
        }
        let names: Vec<String> = of(false).chain(of(true)).map(|(name, _)| (*name).to_owned()).collect();
        let all_of_10 = MODELNET_10.iter().all(|class| classes.contains(class));
        let stem = beside(files).file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = match classes.len() {
            10 if all_of_10 => "modelnet10".to_owned(),
            40 if all_of_10 => "modelnet40".to_owned(),
            _ => stem,
        };
        let class_names = classes.iter().map(|class| (*class).to_owned()).collect();
        let source = listing(files, &names);
        let header = Header { name, views: voxels::VIEWS, train, test, class_names, source };
        Ok(Self { header, kind: Kind::Meshes(files.clone(), names) })
    }

    /// All views of object `i`.
    fn object(&self, i: usize) -> Result<Vec<u8>> {
        match &self.kind {
            Kind::Meshes(files, names) => {
                let bytes = files.bytes(&names[i], MAX_BYTES)?;
                Ok(voxels::views(&Mesh::parse(&files.path(&names[i]), &bytes)?))
            }
            Kind::Volumes(volumes) => volumes.object(i),
        }
    }
}

/// Where a mesh stands in the set.
struct Place<'a> {
    class: &'a str,
    test: bool,
}

impl<'a> Place<'a> {
    /// From CLASS/train/x.off or CLASS/test/x.off.
    fn of(name: &'a str) -> Option<Self> {
        let mut parts = name.split('/');
        let (class, split, mesh) = (parts.next()?, parts.next()?, parts.next()?);
        let test = match split {
            "train" => false,
            "test" => true,
            _ => return None,
        };
        (parts.next().is_none() && is_mesh(mesh)).then_some(Self { class, test })
    }
}

/// Digest of the names, sizes and stamps of files.
fn listing(files: &Files, names: &[String]) -> [u8; 32] {
    let mut names: Vec<&String> = names.iter().collect();
    names.sort();
    let mut digest = Sha256::new();
    for name in names {
        let (bytes, written) = files.stamp(name);
        digest.update(format!("{name}\t{bytes}\t{written}\n"));
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
