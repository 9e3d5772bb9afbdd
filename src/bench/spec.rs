//! What is timed, as data: an op and the extents of its operands.
//!
//! `--shapes space` makes a list of [`Spec`]s from the search space; `--shapes FILE` reads one, a JSON array:
//!
//! ```json
//! [
//!   {"op": "conv2d", "c": 64, "k": 64, "kernel": [5, 7], "dilation": [2, 1], "groups": 4, "size": [16, 16], "n": 50},
//!   {"op": "pointwise", "views": 4, "c": 32, "k": 128, "size": [32, 32], "n": 50},
//!   {"op": "adam", "parameters": 1000000}
//! ]
//! ```
//!
//! Letters are those of `ops/README.md`. A convolution may also say `stored`, the extents [K, C/G, R, S] of the
//! filter of which it uses a window; `slope`, 0 to 1, that of the leaky ReLU on its output; `scaled`, that its filter
//! has a factor; and `gradients`: "both", or "weight" where nothing wants that of x.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// No operand is longer: 2 GiB of f32.
const LONGEST: usize = 1 << 29;

/// An op with its extents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Spec {
    /// A convolution.
    Conv2d {
        c: usize,
        k: usize,
        kernel: [usize; 2],
        #[serde(default = "ones")]
        dilation: [usize; 2],
        #[serde(default = "one")]
        groups: usize,
        size: [usize; 2],
        n: usize,
        #[serde(default)]
        stored: Option<[usize; 4]>,
        #[serde(default)]
        slope: Option<f32>,
        #[serde(default)]
        scaled: bool,
        #[serde(default)]
        gradients: Gradients,
    },
    /// A convolution of volumes with filters of 3x3x3.
    Conv3d {
        c: usize,
        k: usize,
        #[serde(default = "three_ones")]
        dilation: [usize; 3],
        #[serde(default = "one")]
        groups: usize,
        size: [usize; 3],
        n: usize,
    },
    /// A 1x1 convolution that reads `views` banks of `c` channels, rectified if `relu`.
    Pointwise {
        #[serde(default = "one")]
        views: usize,
        c: usize,
        k: usize,
        size: [usize; 2],
        n: usize,
        #[serde(default = "yes")]
        relu: bool,
    },
    /// The HyperNet's output, [slice_channels * row_units, height, slices], to so many filters.
    GatherFilters { slices: usize, height: usize, slice_channels: usize, row_units: usize, filters: usize },
    /// The norms of `filters` filters of `weights` weights together.
    Weightnorm { filters: usize, weights: usize },
    /// Normalisation of `views` views of `c` channels.
    Batchnorm { views: usize, c: usize, size: [usize; 2], n: usize },
    /// A sum.
    Add { c: usize, size: [usize; 2], n: usize },
    /// A ReLU.
    Activation { c: usize, size: [usize; 2], n: usize },
    /// A tanh-sigmoid gate.
    Gate { c: usize, size: [usize; 2], n: usize },
    /// `views` views of `c` channels as one.
    Concat { views: usize, c: usize, size: [usize; 2], n: usize },
    /// 2x2 pooling.
    AvgPool { c: usize, size: [usize; 2], n: usize },
    /// The largest of 2x2 pixels.
    MaxPool { c: usize, size: [usize; 2], n: usize },
    /// The mean of `views` values.
    Mean { views: usize, c: usize, size: [usize; 2], n: usize },
    /// Every second pixel.
    Subsample { c: usize, size: [usize; 2], n: usize },
    /// Pooling over the picture.
    GlobalAvgPool { c: usize, size: [usize; 2], n: usize },
    /// A batch out of a thousand images.
    BatchGather { c: usize, size: [usize; 2], n: usize },
    /// A batch out of a hundred volumes of so many views each.
    VolumeGather { views: usize, size: [usize; 3], n: usize },
    /// The classifier.
    Linear { c: usize, k: usize, n: usize },
    /// The loss.
    CrossEntropy { k: usize, n: usize },
    /// A step of Adam.
    Adam { parameters: usize },
    /// A step of Nesterov momentum.
    Sgd { parameters: usize },
}

/// Which gradients of a convolution are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Gradients {
    /// Of x and of the filter.
    #[default]
    Both,
    /// Of the filter only: the stem, whose x are images.
    Weight,
}

fn one() -> usize {
    1
}

fn ones() -> [usize; 2] {
    [1, 1]
}

fn three_ones() -> [usize; 3] {
    [1; 3]
}

fn yes() -> bool {
    true
}

/// Reads a list of shapes.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read, [`Error::Data`] when it is no such list.
pub fn load(path: &Path) -> Result<Vec<Spec>> {
    let text = std::fs::read_to_string(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidData => Error::data(path, "is not text; a list of shapes is JSON"),
        std::io::ErrorKind::NotFound => Error::data(path, "there is no such file; --shapes takes `space` or a file"),
        _ => Error::io("read", path)(e),
    })?;
    let specs: Vec<Spec> = serde_json::from_str(&text)
        .map_err(|e| Error::data(path, format!("is not a list of shapes (see `bench kernels --help`): {e}")))?;
    if specs.is_empty() {
        return Err(Error::data(path, "lists no shapes"));
    }
    for (i, spec) in specs.iter().enumerate() {
        spec.validate().map_err(|message| Error::data(path, format!("shape {i}, {}: {message}", spec.op())))?;
    }
    Ok(specs)
}

impl Spec {
    /// The op's name.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Conv2d { .. } => "conv2d",
            Self::Conv3d { .. } => "conv3d",
            Self::Pointwise { .. } => "pointwise",
            Self::GatherFilters { .. } => "gather_filters",
            Self::Weightnorm { .. } => "weightnorm",
            Self::Batchnorm { .. } => "batchnorm",
            Self::Add { .. } => "add",
            Self::Activation { .. } => "activation",
            Self::Gate { .. } => "gate",
            Self::Concat { .. } => "concat",
            Self::AvgPool { .. } => "avg_pool",
            Self::MaxPool { .. } => "max_pool",
            Self::Mean { .. } => "mean",
            Self::Subsample { .. } => "subsample",
            Self::GlobalAvgPool { .. } => "global_avg_pool",
            Self::VolumeGather { .. } => "volume_gather",
            Self::BatchGather { .. } => "batch_gather",
            Self::Linear { .. } => "linear",
            Self::CrossEntropy { .. } => "cross_entropy",
            Self::Adam { .. } => "adam",
            Self::Sgd { .. } => "sgd",
        }
    }

    /// The extents in words: `64->64 5x7 d(2,1) g4 16x16 n50`.
    pub fn shape(&self) -> String {
        let picture = |size: &[usize; 2], n: &usize| format!("{}x{} n{n}", size[0], size[1]);
        let cube = |size: &[usize; 3]| format!("{}x{}x{}", size[0], size[1], size[2]);
        match self {
            Self::Conv2d { c, k, kernel, dilation, groups, size, n, .. } => format!(
                "{c}->{k} {}x{} d({},{}) g{groups} {}",
                kernel[0],
                kernel[1],
                dilation[0],
                dilation[1],
                picture(size, n)
            ),
            Self::Conv3d { c, k, dilation, groups, size, n } => {
                let [d, h, w] = dilation;
                format!("{c}->{k} 3x3x3 d({d},{h},{w}) g{groups} {} n{n}", cube(size))
            }
            Self::VolumeGather { views, size, n } => format!("{} {views} views n{n}", cube(size)),
            Self::Pointwise { views, c, k, size, n, .. } => format!("{views}x{c}->{k} {}", picture(size, n)),
            Self::GatherFilters { slices, height, slice_channels, row_units, filters } => {
                format!("{} {height}x{slices} to {filters} filters", slice_channels * row_units)
            }
            Self::Weightnorm { filters, weights } => format!("{filters} filters, {weights} weights"),
            Self::Batchnorm { views, c, size, n }
            | Self::Concat { views, c, size, n }
            | Self::Mean { views, c, size, n } => {
                format!("{views}x{c} {}", picture(size, n))
            }
            Self::Add { c, size, n }
            | Self::Activation { c, size, n }
            | Self::Gate { c, size, n }
            | Self::AvgPool { c, size, n }
            | Self::MaxPool { c, size, n }
            | Self::Subsample { c, size, n }
            | Self::GlobalAvgPool { c, size, n }
            | Self::BatchGather { c, size, n } => format!("{c} {}", picture(size, n)),
            Self::Linear { c, k, n } => format!("{c}->{k} n{n}"),
            Self::CrossEntropy { k, n } => format!("{k} classes n{n}"),
            Self::Adam { parameters } | Self::Sgd { parameters } => format!("{parameters} parameters"),
        }
    }

    /// The same with a small picture, few images, few parameters: to see whether all works.
    pub fn quick(mut self) -> Self {
        match &mut self {
            Self::Conv2d { size, n, .. }
            | Self::Pointwise { size, n, .. }
            | Self::Batchnorm { size, n, .. }
            | Self::Add { size, n, .. }
            | Self::Activation { size, n, .. }
            | Self::Gate { size, n, .. }
            | Self::Concat { size, n, .. }
            | Self::AvgPool { size, n, .. }
            | Self::MaxPool { size, n, .. }
            | Self::Mean { size, n, .. }
            | Self::Subsample { size, n, .. }
            | Self::GlobalAvgPool { size, n, .. }
            | Self::BatchGather { size, n, .. } => {
                *size = size.map(|side| (side / 8).clamp(2, 8).next_multiple_of(2));
                *n = (*n).min(3);
            }
            Self::Conv3d { size, n, .. } | Self::VolumeGather { size, n, .. } => {
                *size = [4, 4, 2];
                *n = (*n).min(3);
            }
            Self::GatherFilters { slices, filters, .. } => {
                *slices = (*slices).min(16);
                *filters = (*filters).min(*slices);
            }
            Self::Linear { n, .. } | Self::CrossEntropy { n, .. } => *n = (*n).min(3),
            Self::Weightnorm { weights, filters } => *weights = (*weights).min(1000).max(*filters),
            Self::Adam { parameters } | Self::Sgd { parameters } => *parameters = (*parameters).min(1000),
        }
        self
    }

    /// Are the extents those of something that can be computed? What is wrong if not.
    fn validate(&self) -> std::result::Result<(), String> {
        let numbers = self.numbers();
        if numbers.contains(&0) {
            return Err("no extent may be 0".into());
        }
        let longest = numbers.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent));
        if longest.is_none_or(|elements| elements > LONGEST << 10) || self.elements().is_none_or(|e| e > LONGEST) {
            return Err(format!("an operand of more than {LONGEST} numbers is more than this program wants to hold"));
        }
        match *self {
            Self::Conv2d { slope: Some(slope), .. } if !(0.0..=1.0).contains(&slope) => {
                Err(format!("slope {slope} is not between 0 and 1"))
            }
            Self::Conv2d { c, k, kernel, groups, stored, .. } => {
                if !c.is_multiple_of(groups) || !k.is_multiple_of(groups) {
                    return Err(format!("groups {groups} does not divide {c} and {k} channels"));
                }
                if kernel.iter().any(|extent| extent.is_multiple_of(2)) {
                    return Err(format!("kernel {kernel:?} is even; \"same\" padding needs an odd one"));
                }
                let window = [k, c / groups, kernel[0], kernel[1]];
                let holds = |stored: [usize; 4]| {
                    stored.iter().zip(window).all(|(&stored, used)| stored >= used)
                        && stored[2] % 2 == 1
                        && stored[3] % 2 == 1
                };
                match stored {
                    Some(stored) if !holds(stored) => Err(format!("stored {stored:?} has no centre window {window:?}")),
                    _ => Ok(()),
                }
            }
            Self::Conv3d { c, k, groups, .. } if !c.is_multiple_of(groups) || !k.is_multiple_of(groups) => {
                Err(format!("groups {groups} does not divide {c} and {k} channels"))
            }
            Self::VolumeGather { size, .. } if size.iter().product::<usize>() % 8 != 0 => {
                Err(format!("{size:?} is no whole number of bytes of eight voxels"))
            }
            Self::VolumeGather { views, .. } if views > usize::from(u16::MAX) => {
                Err(format!("{views} views are too many"))
            }
            Self::GatherFilters { slices, filters, .. } if filters > slices => {
                Err(format!("{filters} filters need as many slices, there are {slices}"))
            }
            Self::Weightnorm { filters, weights } if filters > weights => {
                Err(format!("{filters} filters need as many weights, there are {weights}"))
            }
            Self::AvgPool { size, .. } | Self::MaxPool { size, .. } | Self::Subsample { size, .. }
                if size.iter().any(|side| side % 2 == 1) =>
            {
                Err(format!("size {size:?} is odd; it is halved"))
            }
            Self::CrossEntropy { k, .. } if k > usize::from(u16::MAX) => Err(format!("{k} classes are too many")),
            _ => Ok(()),
        }
    }

    fn numbers(&self) -> Vec<usize> {
        match *self {
            Self::Conv2d { c, k, kernel: [r, s], dilation: [d, e], groups, size: [h, w], n, .. } => {
                vec![c, k, r, s, d, e, groups, h, w, n]
            }
            Self::Conv3d { c, k, dilation: [t, r, s], groups, size: [d, h, w], n } => {
                vec![c, k, t, r, s, groups, d, h, w, n]
            }
            Self::VolumeGather { views, size: [d, h, w], n } => vec![views, d, h, w, n],
            Self::Pointwise { views, c, k, size: [h, w], n, .. } => vec![views, c, k, h, w, n],
            Self::GatherFilters { slices, height, slice_channels, row_units, filters } => {
                vec![slices, height, slice_channels, row_units, filters]
            }
            Self::Weightnorm { filters, weights } => vec![filters, weights],
            Self::Batchnorm { views, c, size: [h, w], n }
            | Self::Concat { views, c, size: [h, w], n }
            | Self::Mean { views, c, size: [h, w], n } => {
                vec![views, c, h, w, n]
            }
            Self::Add { c, size: [h, w], n }
            | Self::Activation { c, size: [h, w], n }
            | Self::Gate { c, size: [h, w], n }
            | Self::AvgPool { c, size: [h, w], n }
            | Self::MaxPool { c, size: [h, w], n }
            | Self::Subsample { c, size: [h, w], n }
            | Self::GlobalAvgPool { c, size: [h, w], n }
            | Self::BatchGather { c, size: [h, w], n } => vec![c, h, w, n],
            Self::Linear { c, k, n } => vec![c, k, n],
            Self::CrossEntropy { k, n } => vec![k, n],
            Self::Adam { parameters } | Self::Sgd { parameters } => vec![parameters],
        }
    }

    /// Elements of its longest operand, if they can be counted.
    fn elements(&self) -> Option<usize> {
        let product = |extents: &[usize]| extents.iter().try_fold(1usize, |product, &e| product.checked_mul(e));
        match *self {
            Self::Conv2d { c, k, kernel, groups, size: [h, w], n, stored, .. } => {
                let filter = product(&stored.unwrap_or([k, c / groups.max(1), kernel[0], kernel[1]]))?;
                Some(product(&[c.max(k), h, w, n])?.max(filter))
            }
            Self::Pointwise { views, c, k, size: [h, w], n, .. } => {
                let inputs = product(&[views, c])?;
                Some(product(&[inputs.max(k), h, w, n])?.max(product(&[inputs, k])?))
            }
            Self::GatherFilters { slices, height, slice_channels, row_units, .. } => {
                product(&[slices, height, slice_channels, row_units])
            }
            Self::Weightnorm { weights, .. } => Some(weights),
            Self::Linear { c, k, n } => Some(product(&[c, k])?.max(product(&[c, n])?)),
            Self::Conv3d { c, k, groups, size: [d, h, w], n, .. } => {
                Some(product(&[c.max(k), d, h, w, n])?.max(product(&[k, c / groups.max(1), 27])?))
            }
            // A hundred volumes.
            Self::VolumeGather { views, size: [d, h, w], n } => product(&[d, h, w, n.max(100 * views)]),
            // A thousand images.
            Self::BatchGather { c, size: [h, w], n } => product(&[c, h, w, n.max(1000)]),
            _ => product(&self.numbers()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Result<Vec<Spec>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shapes.json");
        std::fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn a_list_of_shapes_is_read_with_its_defaults() {
        let text = r#"[{"op": "conv2d", "c": 4, "k": 6, "kernel": [3, 5], "groups": 2, "size": [8, 9], "n": 7},
            {"op": "pointwise", "c": 4, "k": 6, "size": [8, 9], "n": 7}, {"op": "sgd", "parameters": 10}]"#;
        let shapes: Vec<String> =
            loaded(text).unwrap().iter().map(|spec| format!("{} {}", spec.op(), spec.shape())).collect();
        assert_eq!(shapes, ["conv2d 4->6 3x5 d(1,1) g2 8x9 n7", "pointwise 1x4->6 8x9 n7", "sgd 10 parameters"]);
    }

    #[test]
    fn what_is_no_list_of_shapes_is_refused_with_the_reason() {
        let conv = |rest: &str| format!(r#"[{{"op": "conv2d", "c": 4, "k": 6, "size": [8, 8], "n": 2, {rest}}}]"#);
        for (text, reason) in [
            ("[]", "no shapes"),
            ("{}", "is not a list of shapes"),
            (r#"[{"op": "fft"}]"#, "unknown variant `fft`"),
            (r#"[{"op": "sgd", "parameters": 1, "speed": 2}]"#, "unknown field `speed`"),
            (r#"[{"op": "sgd", "parameters": 0}]"#, "shape 0, sgd: no extent may be 0"),
            (&conv(r#""kernel": [3, 2]"#), "even"),
            (&conv(r#""kernel": [3, 3], "slope": -0.1"#), "slope -0.1 is not between 0 and 1"),
            (&conv(r#""kernel": [3, 3], "slope": 1e30"#), "is not between 0 and 1"),
            (&conv(r#""kernel": [3, 3], "groups": 3"#), "groups 3 does not divide 4 and 6"),
            (&conv(r#""kernel": [3, 3], "stored": [6, 4, 3, 1]"#), "no centre window [6, 4, 3, 3]"),
            (r#"[{"op": "add", "c": 1000000, "size": [1000, 1000], "n": 50}]"#, "more than this program wants to hold"),
            (r#"[{"op": "add", "c": 18446744073709551615, "size": [9, 9], "n": 2}]"#, "wants to hold"),
            (r#"[{"op": "avg_pool", "c": 1, "size": [3, 4], "n": 2}]"#, "odd"),
        ] {
            let message = loaded(text).unwrap_err().to_string();
            assert!(message.contains("shapes.json: ") && message.contains(reason), "{text}: {message}");
        }
    }
}
