//! Saving and restoring everything a training needs to continue bit for bit.
//!
//! A checkpoint is one safetensors file: `params/NAME` and `statistics/NAME` at their extents,
//! the moments of the optimiser as two flat vectors, and in the metadata the format version,
//! what network it belongs to, the progress of the run as JSON, and a digest of the tensors.
//! Files are written beside their place, synced and renamed, so a reader finds the old or the
//! new one, whatever happens in between.

use crate::backend::{Context, Region, Span};
use crate::error::{Error, Result};
use crate::export::weights::digest;
use crate::nn::params::ParamStore;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Version of the form described above.
const FORMAT: &str = "smash-engine checkpoint 1";

/// Replaces the file at `path` by `bytes`: completely or not at all.
///
/// # Errors
/// [`Error::Io`] when it cannot be written; what was there before is untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(source) = written.and_then(|()| std::fs::rename(&temporary, path)) {
        // The original error is the one to report.
        let _ = std::fs::remove_file(&temporary);
        return Err(Error::Io { action: "write", path: path.to_path_buf(), source });
    }
    // The rename itself must survive a power cut; where directories cannot be synced it may not.
    if let Some(Ok(dir)) = path.parent().map(File::open) {
        let _ = dir.sync_all();
    }
    Ok(())
}

/// A tensor of a checkpoint: its name, its extent, and where it lies.
type Placed = (String, Vec<usize>, Span);

/// The tensors of a network, sorted by name.
fn tensors(store: &ParamStore) -> Vec<Placed> {
    let params = store.params().iter().map(|p| (format!("params/{}", p.name), p.dims.clone(), p.span));
    let statistics = store.statistics().iter().map(|s| (format!("statistics/{}", s.name), vec![s.span.len], s.span));
    let moments = [("moment1", Region::Moment1), ("moment2", Region::Moment2)]
        .map(|(name, region)| (name.to_string(), vec![store.len()], Span { region, start: 0, len: store.len() }));
    let mut all: Vec<Placed> = params.chain(statistics).chain(moments).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Writes the network in `context` and the run's `progress` to `path`. `network` says what the
/// checkpoint belongs to; loading demands the same text.
///
/// # Errors
/// [`Error::Io`] when it cannot be written; an earlier checkpoint is untouched.
pub fn save(
    path: &Path,
    store: &ParamStore,
    context: &mut Context,
    network: &str,
    progress: &impl Serialize,
) -> Result<()> {
    let unserialisable = |e: &dyn std::fmt::Display| Error::checkpoint(path, format!("cannot be put together: {e}"));
    let tensors = tensors(store);
    let values: Vec<Vec<f32>> = tensors.iter().map(|(.., span)| context.read(*span)).collect::<Result<_>>()?;
    let progress = serde_json::to_string(progress).map_err(|e| unserialisable(&e))?;
    let named = tensors.iter().zip(&values);
    let sha256 = digest(&progress, named.clone().map(|((name, ..), x)| (name.as_str(), bytemuck::cast_slice(x))));
    let fields = [("format", FORMAT), ("network", network), ("progress", &progress), ("sha256", &sha256)];
    let metadata = fields.map(|(name, text)| (name.to_string(), text.to_string())).into();
    let views = named
        .map(|((name, dims, _), x)| {
            TensorView::new(Dtype::F32, dims.clone(), bytemuck::cast_slice(x)).map(|view| (name.clone(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| unserialisable(&e))?;
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| unserialisable(&e))?;
    write_atomic(path, &bytes)
}

/// Restores what [`save`] wrote into `context`, whose regions are reserved, and returns the
/// progress.
///
/// # Errors
/// [`Error::Io`] when it cannot be read; [`Error::Checkpoint`] when it is damaged, of another
/// version, or belongs to another network.
pub fn load<P: DeserializeOwned>(path: &Path, store: &ParamStore, context: &mut Context, network: &str) -> Result<P> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let damaged = |what: String| damaged(path, what);
    let file = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
    let metadata = metadata(path, &bytes)?;
    let field = |name: &str| metadata.get(name).map(String::as_str).unwrap_or_default();
    if field("network") != network {
        let message = "belongs to another network (search space, HyperNet, classes or image size differ); \
                       use the settings it was trained with, or start again with --overwrite";
        return Err(Error::checkpoint(path, message));
    }
    let expected = tensors(store);
    let mut found = Vec::with_capacity(expected.len());
    for (name, dims, _) in &expected {
        let tensor = file.tensor(name).map_err(|e| damaged(e.to_string()))?;
        if tensor.shape() != dims || tensor.dtype() != Dtype::F32 {
            return Err(damaged(format!("{name} is {:?} {:?}, not f32 {dims:?}", tensor.dtype(), tensor.shape())));
        }
        found.push((name.as_str(), tensor.data()));
    }
    if digest(field("progress"), found.iter().copied()) != field("sha256") {
        return Err(damaged("its digest does not match".into()));
    }
    let progress = serde_json::from_str(field("progress")).map_err(|e| damaged(e.to_string()))?;
    for ((.., span), (_, bytes)) in expected.iter().zip(&found) {
        // The bytes of the file may not be aligned for f32.
        context.write(*span, &bytemuck::pod_collect_to_vec(bytes))?;
    }
    Ok(progress)
}

/// The progress in the checkpoint at `path`, before anything is done with it. Its tensors are not
/// looked at; [`load`] checks them.
///
/// # Errors
/// As [`load`], but for the network.
pub fn peek<P: DeserializeOwned>(path: &Path) -> Result<P> {
    progress(path, &std::fs::read(path).map_err(Error::io("read", path))?)
}

fn progress<P: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<P> {
    let metadata = metadata(path, bytes)?;
    let progress = metadata.get("progress").map(String::as_str).unwrap_or_default();
    serde_json::from_str(progress).map_err(|e| damaged(path, e.to_string()))
}

/// Is `bytes` a checkpoint of any network, at any stage?
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    let path = Path::new("checkpoint");
    SafeTensors::deserialize(bytes).map_err(|e| damaged(path, e.to_string()))?;
    progress::<serde::de::IgnoredAny>(path, bytes).map(drop)
}

fn damaged(path: &Path, what: String) -> Error {
    Error::checkpoint(path, format!("is damaged ({what}); start again with --overwrite"))
}

/// What [`save`] writes besides tensors, once it is of this version.
fn metadata(path: &Path, bytes: &[u8]) -> Result<HashMap<String, String>> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| damaged(path, e.to_string()))?;
    let metadata = header.metadata().clone().unwrap_or_default();
    match metadata.get("format").map(String::as_str) {
        Some(FORMAT) => Ok(metadata),
        format => {
            let found = format.unwrap_or("no smash-engine checkpoint");
            Err(Error::checkpoint(path, format!("is {found}; this engine reads \"{FORMAT}\"")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Cpu;
    use crate::nn::init::Init;

    fn network() -> (ParamStore, Context) {
        let mut store = ParamStore::default();
        store.add("a", &[3, 5], Init::He);
        store.add("b", &[7], Init::Ones);
        store.add_statistic("s", 4, 1.0);
        let mut context = Context::cpu(Cpu::new(1), 16).unwrap();
        store.reserve(&mut context).unwrap();
        (store, context)
    }

    fn saved(dir: &Path) -> std::path::PathBuf {
        let (store, mut context) = network();
        store.initialise(&mut context, 3, 0).unwrap();
        context.write(Span { region: Region::Moment1, start: 20, len: 1 }, &[0.25]).unwrap();
        let path = dir.join("x.safetensors");
        save(&path, &store, &mut context, "net", &vec![1, 2, 3]).unwrap();
        path
    }

    #[test]
    fn everything_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = saved(dir.path());
        let (store, mut context) = network();
        let progress: Vec<i32> = load(&path, &store, &mut context, "net").unwrap();
        assert_eq!(progress, [1, 2, 3]);
        let (_, mut original) = network();
        store.initialise(&mut original, 3, 0).unwrap();
        let part = |context: &mut Context, region, start, len| context.read(Span { region, start, len }).unwrap();
        assert_eq!(part(&mut context, Region::Params, 0, 22), part(&mut original, Region::Params, 0, 22));
        assert_eq!(part(&mut context, Region::Moment1, 20, 1), [0.25]);
        assert_eq!(part(&mut context, Region::State, 0, 4), [1.0; 4]);
    }

    #[test]
    fn every_damaged_byte_is_noticed_and_nothing_is_restored() {
        let dir = tempfile::tempdir().unwrap();
        let path = saved(dir.path());
        let bytes = std::fs::read(&path).unwrap();
        for position in (0..bytes.len()).step_by(7) {
            let mut broken = bytes.clone();
            broken[position] ^= 0x41;
            std::fs::write(&path, &broken).unwrap();
            let (store, mut context) = network();
            let outcome = load::<Vec<i32>>(&path, &store, &mut context, "net");
            let error = outcome.expect_err(&format!("byte {position} went unnoticed"));
            assert_eq!(error.exit_code(), 5, "byte {position}: {error}");
            let params = context.whole(Region::Params);
            assert!(context.read(params).unwrap().iter().all(|&x| x == 0.0));
        }
        for len in [0, 1, 7, 8, 100, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let (store, mut context) = network();
            assert_eq!(load::<Vec<i32>>(&path, &store, &mut context, "net").unwrap_err().exit_code(), 5, "{len}");
        }
    }

    #[test]
    fn another_network_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = saved(dir.path());
        let (store, mut context) = network();
        let error = load::<Vec<i32>>(&path, &store, &mut context, "other").unwrap_err();
        assert!(error.to_string().contains("another network"), "{error}");
    }

    #[test]
    fn a_failed_write_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = saved(dir.path());
        let before = std::fs::read(&path).unwrap();
        // A directory in the temporary file's place: creating it fails, also for root.
        std::fs::create_dir(dir.path().join("x.safetensors.tmp")).unwrap();
        let (store, mut context) = network();
        assert_eq!(save(&path, &store, &mut context, "net", &0).unwrap_err().exit_code(), 1);
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
