//! A network as a Python file: modules of PyTorch that load `model.safetensors`, written as people write them.
//!
//! ```text
//! Computation -> steps.rs    what each step is in PyTorch; convolutions of stride 2
//!             -> scope.rs    which module computes it: Network, Block0, Block0Op3; what goes in and out
//!             -> forward.rs  statements of a module: expressions, names of values
//!             -> classes.rs  classes, shared by parts that differ in channels only
//!             -> text.rs     literals, broken lines
//! ```
//!
//! Attributes are called so that the names of the state are those of `keys.rs`. The file needs torch and safetensors,
//! nothing else, and gives the engine's logits up to rounding. It can be trained further: modules have PyTorch's own
//! modes. Momentum and epsilon of BatchNorm are PyTorch's.

mod classes;
mod forward;
mod scope;
mod steps;
#[cfg(test)]
mod tests;
mod text;

use crate::error::Result;
use crate::export::about::{About, Dtype, Weights};
use crate::nas::design::Design;
use crate::tape::computation::Computation;
use classes::{Classes, class};
use forward::{Statement, forward};
use scope::Scope;
use steps::steps;
use text::{filled, prose, strings};

/// The name that the file's own docstring gives it.
pub const FILE: &str = "model.py";

/// The file of the network that computes `computation`.
///
/// # Errors
/// [`crate::Error::Run`] when parts of the network are not apart from each other.
pub fn write(computation: &Computation, about: &About) -> Result<String> {
    let steps = steps(computation)?;
    let network = Scope::network(&steps)?;
    let classes = Classes::new(&steps, &network);
    let parts: String = network.parts().map(|part| classes.of(&steps, part)).collect();
    let mut lines = vec![buffer("mean", &about.images.mean), buffer("std", &about.images.std)];
    lines.extend(classes.members(&network));
    let mut pass = forward(&steps, &network);
    pass.statements.splice(0..0, prepared(about, &pass.params));
    pass.params = "images".into();
    let title = format!("{} in 0..1 -> logits [N, {}].", images(about, "N"), about.shape.classes);
    let network = class("Network", &title, &[], &lines, &pass);
    let (docstring, names) = (docstring(computation, about), strings("CLASSES", &about.images.classes));
    Ok(format!("{docstring}\n{IMPORTS}\n{names}{WEIGHTS}\n\n{parts}{network}{LOAD}"))
}

const IMPORTS: &str = "\
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
";

const WEIGHTS: &str = "WEIGHTS = Path(__file__).with_name(\"model.safetensors\")\n";

const LOAD: &str = "\
def load(path=WEIGHTS):
    \"\"\"The network with its weights, in evaluation mode.\"\"\"
    network = Network()
    network.load_state_dict(load_file(path))
    return network.eval()
";

/// A row of numbers, one for each channel, that moves with the network and is not part of its state.
fn buffer(name: &str, numbers: &[f32]) -> String {
    let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:?}")).collect();
    let numbers = numbers.join(", ");
    format!("self.register_buffer(\"{name}\", torch.tensor([{numbers}]), persistent=False)")
}

/// From images as the data set has them to what the first part reads, which is called `x`.
fn prepared(about: &About, x: &str) -> Vec<Statement> {
    let assigned = |expression: String| Statement { targets: vec![x.into()], expression };
    let [_, _, rows, columns] = about.images.extent;
    let size = about.shape.image_size;
    let margins = [columns, rows].map(|extent| {
        let missing = size.saturating_sub(extent);
        [missing / 2, missing - missing / 2]
    });
    let [[left, right], [top, bottom]] = margins;
    let axes = if about.shape.is_volume() { "-1, 1, 1, 1" } else { "-1, 1, 1" };
    let normalised = |x: &str| format!("({x} - self.mean.view({axes})) / self.std.view({axes})");
    if margins == [[0; 2]; 2] {
        return vec![assigned(normalised("images"))];
    }
    let padded = format!("F.pad(images, ({left}, {right}, {top}, {bottom}))");
    vec![assigned(padded), assigned(normalised(x))]
}

/// Extent of a batch of images of the data set.
fn images(about: &About, n: &str) -> String {
    let [channels, slices, rows, columns] = about.images.extent;
    if about.shape.is_volume() {
        return format!("[{n}, {channels}, {slices}, {rows}, {columns}]");
    }
    format!("[{n}, {channels}, {rows}, {columns}]")
}

/// What the file is, and how to use it.
fn docstring(computation: &Computation, about: &About) -> String {
    let name = match &about.design {
        Design::Searched(arch) => format!("The network {}, found by architecture search", arch.id()),
        Design::Builtin(builtin) => format!("The network {builtin}"),
    };
    let (data, engine) = (prose(&about.images.name), prose(&about.engine));
    let title = format!("{name}, for the {} classes of {data}.", about.shape.classes);
    let weights = match about.weights {
        Weights::Trained => {
            let (epochs, images) = (about.recipe.epochs, about.recipe.train_images);
            format!(", trained on {images} images for {epochs} {}", if epochs == 1 { "epoch" } else { "epochs" })
        }
        Weights::Generated => {
            " of a SMASH network: filters of 1x1 convolutions generated by its HyperNet, the rest shared by all \
             architectures"
                .into()
        }
    };
    let rounded = match about.dtype {
        Dtype::F32 => "",
        Dtype::F16 => ", stored in 16 bits (f16)",
        Dtype::Bf16 => ", stored in 16 bits (bf16)",
    };
    let held_out = match about.weights {
        Weights::Trained => "the images held out",
        Weights::Generated => "the images by which architectures were chosen",
    };
    let validated = about.errors.val_err.map_or(String::new(), |e| format!(", {e:.2} % on {held_out}"));
    let (test, images_tested) = (about.errors.test_err, about.errors.test_images);
    let facts = format!(
        "{} parameters{weights}{rounded}. Error: {test:.2} % on {images_tested} test images{validated}. Written by \
         smash-engine {engine}; needs torch and safetensors.",
        parameters(computation)
    );
    format!("\"\"\"{title}\n\n{}\n{}\"\"\"\n", filled(&facts), usage(about))
}

/// Learned numbers.
fn parameters(computation: &Computation) -> usize {
    let constants = computation.instructions.iter().flat_map(|instruction| instruction.operation.constants());
    let learned = constants.filter(|constant| !constant.name.ends_with(".mean") && !constant.name.ends_with(".var"));
    learned.map(|constant| constant.values.len()).sum()
}

fn usage(about: &About) -> String {
    let what = if about.shape.is_volume() { "voxels: 0 or 1" } else { "pixels / 255" };
    let example = images(about, "8");
    let example = example.trim_matches(['[', ']']);
    let views = match about.images.views {
        1 => String::new(),
        views => {
            format!("The engine's error is that of the mean of the probabilities of {views} rotations of a volume.\n\n")
        }
    };
    format!(
        "    from model import CLASSES, load

    network = load()  # the weights in model.safetensors beside this file
    images = torch.rand({example})  # {what}
    logits = network(images)
    print([CLASSES[i] for i in logits.argmax(1)])

{views}To train it further: network.train(), and any optimiser over network.parameters().
"
    )
}
