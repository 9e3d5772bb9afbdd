//! From meshes or volumes to a file of voxels: objects in parallel, written in order.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Source, beside};
use crate::data::bytes::Bytes;
use crate::data::folder;
use crate::error::{Error, Result};

/// Objects per thread that wait to be written: 100 kB each.
const AHEAD: usize = 16;

/// How far a conversion is; called for with 0 objects done first.
#[derive(Clone, Copy, Debug)]
pub struct Conversion<'a> {
    /// The file being made; none where nothing can be written and the voxels stay in memory.
    pub file: Option<&'a Path>,
    /// Objects done.
    pub done: usize,
    /// All of them.
    pub objects: usize,
}

/// What a conversion made.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The file.
    pub file: PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Objects to train on.
    pub train: usize,
    /// Objects to test on.
    pub test: usize,
    /// Views of each.
    pub views: usize,
    /// Classes.
    pub classes: usize,
}

/// Makes the file of voxels of the data set at `path`: `to`, or NAME.voxels beside the folder or archive NAME.
///
/// # Errors
/// `Data` when there are neither meshes nor volumes, one of them is damaged, or the file cannot be there.
pub fn convert(path: &Path, to: Option<&Path>, progress: Option<fn(&Conversion<'_>)>) -> Result<Converted> {
    let found = folder::detect(path)?;
    if !super::holds(&found.files) {
        let message = format!("holds {}, which is read as it is; only ModelNet needs a conversion", found.format.name);
        return Err(Error::data(path, message));
    }
    let source = Source::of(&found.files)?;
    let file = to.map_or_else(|| beside(&found.files), Path::to_path_buf);
    super::voxel_bytes(&file)?;
    let Some(bytes) = write(&source, &file, progress)? else {
        return Err(Error::data(file, "cannot be written there; name another file with --out"));
    };
    let header = &source.header;
    let (train, test) = (header.train.len(), header.test.len());
    Ok(Converted { file, bytes, train, test, views: header.views, classes: header.class_names.len() })
}

/// Writes the voxels of `source` to the file `path`, whole or not at all; how many bytes it has then. Nothing where the
/// folder cannot be written to.
pub(super) fn write(source: &Source, path: &Path, progress: Option<fn(&Conversion<'_>)>) -> Result<Option<u64>> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    // Not truncated before it is ours.
    let Ok(file) = OpenOptions::new().create(true).truncate(false).write(true).open(&part) else { return Ok(None) };
    if file.try_lock().is_err() {
        return Err(Error::data(&part, "is being written by another process; wait until that is done"));
    }
    let written = fill(source, path, &file, progress).and_then(|bytes| {
        file.sync_all().map_err(Error::io("write", &part))?;
        std::fs::rename(&part, path).map_err(Error::io("rename", &part))?;
        Ok(Some(bytes))
    });
    if written.is_err() {
        // The error is what there is to say.
        let _ = std::fs::remove_file(&part);
    }
    written
}

fn fill(source: &Source, path: &Path, file: &File, progress: Option<fn(&Conversion<'_>)>) -> Result<u64> {
    file.set_len(0).map_err(Error::io("write", path))?;
    let mut out = BufWriter::new(file);
    let mut bytes = 0;
    emit(source, Some(path), progress, |piece| {
        bytes += piece.len() as u64;
        out.write_all(piece).map_err(Error::io("write", path))
    })?;
    out.flush().map_err(Error::io("write", path))?;
    Ok(bytes)
}

/// The same file in memory.
pub(super) fn in_memory(source: &Source, progress: Option<fn(&Conversion<'_>)>) -> Result<Bytes> {
    let mut bytes = Vec::new();
    emit(source, None, progress, |piece| {
        if bytes.is_empty() {
            bytes.reserve_exact(piece.len() + source.header.len() * source.header.object_bytes());
        }
        bytes.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(bytes.into())
}

/// Hands the header and all objects to `take`, in order.
fn emit(
    source: &Source,
    file: Option<&Path>,
    progress: Option<fn(&Conversion<'_>)>,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let objects = source.header.len();
    let say = |done: usize| {
        if let Some(progress) = progress {
            progress(&Conversion { file, done, objects });
        }
    };
    say(0);
    take(&source.header.to_bytes())?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut done = 0;
    while done < objects {
        let end = objects.min(done + threads * AHEAD);
        for object in some(source, done..end, threads) {
            take(&object?)?;
        }
        done = end;
        say(done);
    }
    Ok(())
}

/// The objects of `range` in order, each made by some thread.
fn some(source: &Source, range: std::ops::Range<usize>, threads: usize) -> Vec<Result<Vec<u8>>> {
    let (next, made) = (AtomicUsize::new(range.start), Mutex::new(Vec::with_capacity(range.len())));
    let work = || loop {
        let i = next.fetch_add(1, Ordering::Relaxed);
        if i >= range.end {
            break;
        }
        let object = source.object(i);
        // Poisoned only by a panic, which the scope hands on.
        made.lock().unwrap_or_else(|poison| poison.into_inner()).push((i, object));
    };
    std::thread::scope(|scope| {
        (1..threads).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let mut made = made.into_inner().unwrap_or_else(|poison| poison.into_inner());
    made.sort_by_key(|(i, _)| *i);
    made.into_iter().map(|(_, object)| object).collect()
}
