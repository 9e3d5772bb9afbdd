//! The weights of a network as a safetensors file, and back.
//!
//! Tensors have the names and extents of `keys.rs`; what is normalised by its own norm is stored normalised, so that
//! nobody else has to do it. The metadata are `format: pt` (tensors are PyTorch's), the JSON of [`About`] under
//! `smash_engine`, and under `sha256` a digest of that, names and numbers, in the order of names; nothing else. A file
//! without digest is accepted: one that was trained on by another program and given the same metadata.

use crate::backend::{Context, Span};
use crate::error::{Error, Result};
use crate::export::about::{About, Dtype};
use crate::export::keys::{extent, key};
use crate::nas::design::Design;
use crate::nas::resulting::NormKind;
use crate::nn::params::ParamStore;
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype as Stored, SafeTensors};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Name of [`About`] in the metadata.
const ABOUT: &str = "smash_engine";
const DIGEST: &str = "sha256";
/// Far more than bf16 rounds a norm by.
const NORM_TOLERANCE: f64 = 0.01;
/// A tensor that PyTorch's BatchNorm counts its steps in; of no use to others.
const COUNTER: &str = ".num_batches_tracked";

/// A tensor of a network: its name and extent in files, and where it lies.
struct Placed {
    key: String,
    extent: Vec<usize>,
    span: Span,
    /// Divided by its norm.
    normalised: bool,
}

/// The tensors of a network, sorted by name.
fn tensors(about: &About, store: &ParamStore) -> Vec<Placed> {
    let has_norms = matches!(about.design, Design::Searched(_)) && about.norm == NormKind::Weightnorm;
    let params = store.params().iter().map(|p| Placed {
        key: key(&p.name),
        extent: extent(&p.name, &p.dims, about.shape.is_volume()),
        span: p.span,
        normalised: has_norms && p.name.ends_with(".w_in"),
    });
    let vector = |s: &crate::nn::params::Statistic| Placed {
        key: key(&s.name),
        extent: vec![s.span.len],
        span: s.span,
        normalised: false,
    };
    let mut all: Vec<Placed> = params.chain(store.statistics().iter().map(vector)).collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

/// The file of a network whose parameters are in `context`; filters and matrices rounded to `about.dtype`.
///
/// # Errors
/// [`Error::Run`] when a weight is not finite, or too large for that type.
pub fn to_bytes(about: &About, store: &ParamStore, context: &mut Context) -> Result<Vec<u8>> {
    let unserialisable = |e: &dyn std::fmt::Display| Error::Run(format!("the weights cannot be put together: {e}"));
    let mut stored = Vec::new();
    for Placed { key, extent, span, normalised } in tensors(about, store) {
        let mut values = context.read(span)?;
        if normalised {
            let norm = values.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
            values.iter_mut().for_each(|w| *w = (f64::from(*w) / norm) as f32);
        }
        let dtype = if extent.len() > 1 { about.dtype } else { Dtype::F32 };
        stored.push((pack(&key, &values, dtype)?, key, extent));
    }
    let json = serde_json::to_string(about).map_err(|e| unserialisable(&e))?;
    let sha256 = digest(&json, stored.iter().map(|((_, bytes), key, _)| (key.as_str(), bytes.as_slice())));
    let metadata = [("format", "pt"), (ABOUT, &json), (DIGEST, &sha256)];
    let metadata = metadata.map(|(name, text)| (name.to_string(), text.to_string())).into();
    let views = stored
        .iter()
        .map(|((dtype, bytes), key, extent)| TensorView::new(*dtype, extent.clone(), bytes).map(|view| (key, view)))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| unserialisable(&e))?;
    safetensors::serialize(views, Some(metadata)).map_err(|e| unserialisable(&e))
}

/// Numbers as bytes of a file.
fn pack(key: &str, values: &[f32], dtype: Dtype) -> Result<(Stored, Vec<u8>)> {
    let (stored, bytes): (Stored, Vec<u8>) = match dtype {
        Dtype::F32 => (Stored::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect()),
        Dtype::F16 => (Stored::F16, values.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()),
        Dtype::Bf16 => (Stored::BF16, values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect()),
    };
    match unpack(stored, &bytes).iter().flatten().position(|x| !x.is_finite()) {
        Some(i) => Err(Error::Run(format!("{key} has a weight of {}, which {stored:?} cannot hold", values[i]))),
        None => Ok((stored, bytes)),
    }
}

/// The numbers of a tensor; none of a type that no export has.
fn unpack(stored: Stored, bytes: &[u8]) -> Option<Vec<f32>> {
    let pairs = || bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match stored {
        // The bytes of a file may not be aligned.
        Stored::F32 => Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()),
        Stored::F16 => Some(pairs().map(|pair| f16::from_le_bytes(pair).to_f32()).collect()),
        Stored::BF16 => Some(pairs().map(|pair| bf16::from_le_bytes(pair).to_f32()).collect()),
        _ => None,
    }
}

/// SHA-256 of a text and of names and bytes of tensors, in hexadecimal.
pub fn digest<'a>(text: &str, tensors: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    let mut hash = Sha256::new_with_prefix(text);
    for (name, bytes) in tensors {
        hash.update(name.as_bytes());
        hash.update(bytes);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that has been looked at, but for its tensors.
#[derive(Debug)]
pub struct WeightFile<'a> {
    path: &'a Path,
    tensors: SafeTensors<'a>,
    /// What it says of itself.
    pub about: About,
}

impl<'a> WeightFile<'a> {
    /// Reads the head of the file `bytes` at `path`, and compares its digest.
    ///
    /// # Errors
    /// [`Error::Data`] when it is no network that this engine wrote, of another version, or damaged.
    pub fn parse(path: &'a Path, bytes: &'a [u8]) -> Result<Self> {
        let foreign =
            |what: String| Error::data(path, format!("is no network that `smash-engine export` wrote ({what})"));
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| foreign(format!("no safetensors file: {e}")))?;
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| foreign(e.to_string()))?;
        let metadata = header.metadata().clone().unwrap_or_default();
        if metadata.get("format").is_some_and(|format| format.starts_with("smash-engine checkpoint")) {
            return Err(Error::data(path, "is a checkpoint of a run; `smash-engine export` makes a network of it"));
        }
        let Some(json) = metadata.get(ABOUT) else {
            return Err(foreign(format!(
                "its metadata have no {ABOUT:?}; architecture and images are described there"
            )));
        };
        let about = About::from_json(json).map_err(foreign)?;
        let known = |(key, value): (&String, &String)| match key.as_str() {
            "format" => value == "pt",
            key => [ABOUT, DIGEST].contains(&key),
        };
        if !metadata.contains_key("format") || !metadata.iter().all(known) {
            return Err(foreign(format!("its metadata are not format = pt, {ABOUT} and {DIGEST}")));
        }
        let mut names = tensors.names();
        names.sort_unstable();
        let found: Vec<_> = names.iter().filter_map(|name| Some((*name, tensors.tensor(name).ok()?.data()))).collect();
        match metadata.get(DIGEST) {
            Some(expected) if digest(json, found.into_iter()) != *expected => {
                Err(Error::data(path, "is damaged: its digest does not match; export the network again"))
            }
            _ => Ok(Self { path, tensors, about }),
        }
    }

    /// Compares the tensors with those of the network whose parameters are in `store`.
    ///
    /// # Errors
    /// [`Error::Data`] names the first one that is missing, too many, or of another extent or type.
    pub fn check(&self, store: &ParamStore) -> Result<()> {
        self.values(store).map(drop)
    }

    /// Checks that filters divided by their norms still have the norm 1, so that a training, which divides by it, goes on
    /// from the same network.
    ///
    /// # Errors
    /// [`Error::Data`] names the first one that has not, as [`WeightFile::check`] otherwise.
    pub fn check_norms(&self, store: &ParamStore) -> Result<()> {
        let normalised = tensors(&self.about, store).into_iter().filter(|tensor| tensor.normalised);
        let spans: Vec<(Span, String)> = normalised.map(|tensor| (tensor.span, tensor.key)).collect();
        for (span, values) in self.values(store)? {
            let norm = values.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>().sqrt();
            let wrong = spans.iter().find(|(place, _)| *place == span && (norm - 1.0).abs() > NORM_TOLERANCE);
            if let Some((_, key)) = wrong {
                let message = format!(
                    "has a filter {key:?} of norm {norm:.3}, and a network of norm weightnorm trains filters of norm 1; \
                     train another --norm"
                );
                return Err(Error::data(self.path, message));
            }
        }
        Ok(())
    }

    /// Writes all numbers to their places in `context`, whose regions are reserved.
    ///
    /// # Errors
    /// As [`WeightFile::check`]; nothing is written then.
    pub fn restore(&self, store: &ParamStore, context: &mut Context) -> Result<()> {
        for (span, values) in self.values(store)? {
            context.write(span, &values)?;
        }
        Ok(())
    }

    fn values(&self, store: &ParamStore) -> Result<Vec<(Span, Vec<f32>)>> {
        let wrong = |what: String| Error::data(self.path, format!("{what}; export the network again"));
        let expected = tensors(&self.about, store);
        let is_expected = |name: &str| expected.binary_search_by(|t| t.key.as_str().cmp(name)).is_ok();
        let other = self.tensors.names().into_iter().find(|name| !is_expected(name) && !name.ends_with(COUNTER));
        if let Some(name) = other {
            return Err(wrong(format!("has a tensor {name:?}, which its network has not")));
        }
        let mut found = Vec::with_capacity(expected.len());
        for Placed { key, extent, span, .. } in expected {
            let tensor = self.tensors.tensor(&key).map_err(|_| wrong(format!("lacks the tensor {key:?}")))?;
            if tensor.shape() != extent {
                let got = tensor.shape();
                return Err(wrong(format!("has a tensor {key:?} of extent {got:?} in place of {extent:?}")));
            }
            let values = unpack(tensor.dtype(), tensor.data())
                .ok_or_else(|| wrong(format!("has {key:?} in {:?}, not in f32, f16 or bf16", tensor.dtype())))?;
            let is_variance = key.ends_with(".running_var");
            if !values.iter().all(|&x| x.is_finite() && (!is_variance || x >= 0.0)) {
                let what = if is_variance { "finite and 0 or more" } else { "finite" };
                return Err(wrong(format!("has a number in {key:?} that is not {what}")));
            }
            found.push((span, values));
        }
        Ok(found)
    }
}
