//! A network as an ONNX model, for the runtimes of others.
//!
//! | | |
//! |---|---|
//! | input | `images`, f32 [N, C, h, w] in 0..1, in the data set's size; volumes [N, 1, D, H, W] of 0 and 1 |
//! | output | `logits`, f32 [N, classes] |
//! | format | IR version 7, operator set 14: what runtimes read since 2021 |
//!
//! N is the user's choice. Padding and normalisation of the images are part of the graph. What is known of the network is
//! in `metadata_props`: `classes` as a JSON list, the data set, errors in percent, and everything under `smash_engine`.
//!
//! ```text
//! Computation --fold.rs--> layers --graph.rs--> nodes --proto.rs--> bytes
//! ```

mod fold;
mod graph;
#[cfg(test)]
mod interpreter;
mod names;
mod proto;
mod tensors;
#[cfg(test)]
mod tests;

use crate::error::{Error, Result};
use crate::export::about::About;
use crate::tape::computation::Computation;
use fold::fold;
use graph::Writer;
use prost::Message;
use proto::{Graph, Model, OperatorSet, Property};

/// Version of the format: that of ONNX 1.7 to 1.9.
const IR_VERSION: i64 = 7;
/// Version of the operators: the first whose `BatchNormalization` says that it is not training. Before, some runtimes take
/// the statistics of the batch.
const OPERATORS: i64 = 14;
/// Bytes of a message of protocol buffers, which are counted in 32 bits with a sign.
const LARGEST: usize = i32::MAX as usize;

/// How a network is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Make BatchNorm part of the convolution in front of it, where nothing else reads that one. In 16 bits, a filter with
    /// BatchNorm in it stays f32, so that no number changes.
    pub fold_batchnorm: bool,
}

/// A network that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onnx {
    /// The file.
    pub bytes: Vec<u8>,
    /// BatchNorms that became part of a convolution.
    pub folded: usize,
    /// BatchNorms that are nodes of their own.
    pub kept: usize,
}

/// The model of `computation`, with weights in `about.dtype` where they are rounded to that.
///
/// # Errors
/// [`Error::Run`] when it is larger than an ONNX file can be, or its images do not fit into it.
pub fn write(computation: &Computation, about: &About, options: &OnnxOptions) -> Result<Onnx> {
    let left = fold(computation, options.fold_batchnorm);
    let graph = Writer::new(about).write(&left.layers)?;
    let bytes = encode(&model(graph, about)?, LARGEST)?;
    Ok(Onnx { bytes, folded: left.folded, kept: left.kept })
}

fn model(graph: Graph, about: &About) -> Result<Model> {
    Ok(Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: about.engine.clone(),
        model_version: 1,
        doc_string: description(about),
        graph: Some(graph),
        opset_import: vec![OperatorSet { domain: Some(String::new()), version: OPERATORS }],
        metadata_props: metadata(about)?,
    })
}

/// What a person reads in a viewer.
fn description(about: &About) -> String {
    let (images, errors) = (&about.images, &about.errors);
    let [channels, slices, rows, columns] = images.extent;
    let input = match about.shape.is_volume() {
        true => format!("volumes [N, {channels}, {slices}, {rows}, {columns}] of 0 and 1"),
        false => format!("images [N, {channels}, {rows}, {columns}] with pixels in 0..1 (a byte over 255)"),
    };
    format!(
        "{} for {}: classifies {input}, which it pads and normalises itself; logits of {} classes, named in the \
         metadata. Test error {:.2} % of {} images.",
        about.design.id(),
        images.name,
        images.classes.len(),
        errors.test_err,
        errors.test_images,
    )
}

/// Texts for programs, each under a key.
fn metadata(about: &About) -> Result<Vec<Property>> {
    let unwritable = |e: serde_json::Error| Error::Run(format!("the description cannot be written: {e}"));
    let errors = &about.errors;
    let texts = [
        ("network", Some(about.design.id())),
        ("data_set", Some(about.images.name.clone())),
        ("classes", Some(serde_json::to_string(&about.images.classes).map_err(unwritable)?)),
        ("val_err", errors.val_err.map(|percent| percent.to_string())),
        ("test_err", Some(errors.test_err.to_string())),
        ("test_top5_err", errors.test_top5_err.map(|percent| percent.to_string())),
        ("test_images", Some(errors.test_images.to_string())),
        ("seed", Some(about.seed.to_string())),
        ("smash_engine", Some(serde_json::to_string(about).map_err(unwritable)?)),
    ];
    let present = texts.into_iter().filter_map(|(key, text)| Some((key, text?)));
    Ok(present.map(|(key, value)| Property { key: key.into(), value }).collect())
}

/// The bytes of a model, up to `largest` of them.
fn encode(model: &Model, largest: usize) -> Result<Vec<u8>> {
    let len = model.encoded_len();
    if len > largest {
        let [len, largest] = [len, largest].map(|bytes| bytes as f64 / 1e9);
        let message = format!(
            "as an ONNX file the network would have {len:.2} GB, and such files hold {largest:.2} GB; export it with \
             --dtype f16, or use its safetensors"
        );
        return Err(Error::Run(message));
    }
    Ok(model.encode_to_vec())
}
