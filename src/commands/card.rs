//! The card of an exported network: what it is, what it costs, how it was made, how good it is, and what it is not for.
//!
//! Markdown, with the picture beside it; a pure function of what is known.

use crate::commands::latency::Latency;
use crate::data::augment::views_used;
use crate::export::about::{About, Dtype, Weights};
use crate::nas::cost::Cost;
use crate::nas::design::Design;
use crate::nn::optim::Optimizer;
use crate::report::grouped;
use std::fmt::Write;

/// Passes from which on quartiles say something.
const ENOUGH: usize = 5;

/// What a card says besides what the weights say of themselves.
pub struct Card<'a> {
    /// Of the network.
    pub about: &'a About,
    /// Learned numbers.
    pub params: u64,
    /// As the table counts it.
    pub cost: Cost,
    /// The ops and what each costs, as text.
    pub table: &'a str,
    /// Times of batches.
    pub latencies: &'a [Latency],
    /// What they were measured on.
    pub device: &'a str,
    /// Half the 95 % intervals of the test and the validation error, in points.
    pub margins: [f64; 2],
    /// What began the run, if that is known.
    pub command: Option<String>,
    /// BatchNorms of the ONNX file that are part of a convolution, and others.
    pub norms: [usize; 2],
    /// Files beside the card, with what is in them.
    pub files: &'a [(&'a str, &'a str)],
    /// Name of the picture.
    pub picture: &'a str,
}

impl Card<'_> {
    /// The card.
    pub fn markdown(&self) -> String {
        let about = self.about;
        let (id, name) = (about.design.id(), escaped(&about.images.name));
        let mut text = format!("# {id}\n\nAn image classifier for {name}, {}.\n\n", origin(about));
        let sections = [
            ("Errors", self.errors()),
            ("Cost", self.cost()),
            ("Use", self.usage()),
            ("Files", self.files()),
            ("Input and output", self.input()),
            ("Architecture", self.architecture()),
            ("How it was made", self.recipe()),
            ("Limits", self.limits()),
        ];
        for (heading, body) in sections {
            // Writing into a String cannot fail.
            let _ = write!(text, "## {heading}\n\n{body}\n");
        }
        text
    }

    fn is_generated(&self) -> bool {
        self.about.weights == Weights::Generated
    }

    fn errors(&self) -> String {
        let (errors, [test, val]) = (&self.about.errors, self.margins);
        let mut text = String::from("| images | error, +- 95 % interval of the sample |\n|---|---|\n");
        text += &format!("| test, {} | {:.2} % +- {test:.2} |\n", errors.test_images, errors.test_err);
        if let Some(top5) = errors.test_top5_err {
            text += &format!("| test, five guesses | {top5:.2} % |\n");
        }
        if let Some(before) = errors.unrounded_test_err {
            text += &format!("| test, weights not rounded | {before:.2} % |\n");
        }
        let Some(val_err) = errors.val_err else { return text };
        text += &format!("| validation, {} | {val_err:.2} % +- {val:.2} |\n", self.about.recipe.validation_images);
        if matches!(self.about.design, Design::Searched(_)) {
            text += "\nThe search chose architectures by their errors on the validation images; it never saw the test images.\n";
        }
        text
    }

    fn cost(&self) -> String {
        let mut text = format!(
            "{} parameters, {} multiply-accumulates ({} FLOPs) per image.\n\n\
             | batch | milliseconds per batch | images per second |\n|---|---|---|\n",
            grouped(self.params),
            grouped(self.cost.macs),
            grouped(2 * self.cost.macs)
        );
        for Latency { batch, median_ms, quartiles_ms: [low, high], passes } in self.latencies {
            let spread = match *passes {
                1 => "one pass".to_string(),
                ..ENOUGH => format!("the middle of {passes} passes"),
                _ => format!("{low:.2} to {high:.2}, {passes} passes"),
            };
            let rate = 1e3 * *batch as f64 / median_ms;
            text += &format!("| {batch} | {median_ms:.2} ({spread}) | {rate:.0} |\n");
        }
        text + &format!("\nFrom normalised images to logits, by smash-engine on {}.\n", self.device)
    }

    fn usage(&self) -> String {
        let predict = if self.about.shape.is_volume() { "" } else { "    smash-engine predict . picture.png\n" };
        format!(
            "    import onnxruntime\n    logits, = onnxruntime.InferenceSession(\"model.onnx\").run([\"logits\"], {{\"images\": \
             images}})\n\n    from model import CLASSES, load\n    logits = load()(images)\n\n{predict}    smash-engine eval \
             --network .\n"
        )
    }

    fn files(&self) -> String {
        let rows: String = self.files.iter().map(|(name, what)| format!("| `{name}` | {what} |\n")).collect();
        let [folded, kept] = self.norms;
        format!(
            "| file | what |\n|---|---|\n{rows}\nOf the BatchNorms {folded} are part of a convolution in `model.onnx`, and \
             {kept} stand by themselves.\n"
        )
    }

    fn input(&self) -> String {
        let About { images, shape, .. } = self.about;
        let [channels, slices, rows, columns] = images.extent;
        let size = shape.image_size;
        let extent = if shape.is_volume() {
            format!("N x {channels} x {slices} x {rows} x {columns}: voxels, 0 or 1")
        } else {
            format!("N x {channels} x {rows} x {columns}: pixels / 255, {}", colours(channels))
        };
        let padded = match size == rows && size == columns {
            true => String::new(),
            false => format!("padded with black to {size} x {size} and "),
        };
        let list = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
        let views = match views_used(images.views).len() {
            1 => String::new(),
            views => format!(
                "The test error is that of the mean of the probabilities over {views} rotations of each volume. "
            ),
        };
        format!(
            "In, `images`: float32, {extent}. The ONNX and PyTorch networks do the rest themselves: images are \
             {padded}normalised, (x - mean) / std with mean {} and std {}.\n\nOut, `logits`: N x {}. {views}Classes: {}.\n",
            list(&images.mean),
            list(&images.std),
            shape.classes,
            shortened(&images.classes)
        )
    }

    fn architecture(&self) -> String {
        let (id, picture, table) = (self.about.design.id(), self.picture, self.table);
        let mut text = format!("![{id}]({picture})\n\n```\n{table}```\n");
        if matches!(self.about.design, Design::Searched(_)) {
            text += "\nAn op reads memory banks (`reads`), takes them together with a 1x1 convolution from `in` to `mid` \
                     channels, and adds what one or two paths of convolutions (`body`: kernel, d dilation, g groups) make of \
                     that to the banks it `writes`.\n";
        }
        if self.params != self.cost.params {
            text += "\nThe table counts BatchNorms as `--norm sandwich` has them; this network has others.\n";
        }
        text
    }

    fn recipe(&self) -> String {
        let About { recipe, seed, engine, images, .. } = self.about;
        let optimizer = match recipe.optimizer {
            Optimizer::Adam { beta1, beta2, epsilon, decay } => {
                format!("Adam (beta {beta1} and {beta2}, epsilon {epsilon}, weight decay {decay})")
            }
            Optimizer::Sgd { momentum, decay } => format!("SGD, Nesterov momentum {momentum}, weight decay {decay}"),
        };
        let what = match self.is_generated() {
            false => "Trained",
            true => {
                "Weights are those of a SMASH network, 1x1 convolutions generated by its HyperNet, which was trained"
            }
        };
        let per_epoch = (recipe.train_images / recipe.batch.max(1)) as u64;
        let time = match recipe.epochs {
            epochs if epochs * per_epoch != recipe.steps => format!("{} steps", recipe.steps),
            1 => "1 epoch".to_string(),
            epochs => format!("{epochs} epochs"),
        };
        let command =
            self.command.as_ref().map_or(String::new(), |command| format!("The run began with `{command}`. "));
        format!(
            "- {what} by smash-engine {engine}, seed {seed}: {time} in batches of {}, learning rate {} annealed along a \
             cosine, {optimizer}, from {}; images varied by `{}`.\n\
             - Data: {} (`{}`), {} images to train on, {} held out for validation (seed of the split: {}), {} for test.\n\
             - {command}Its settings, also in the metadata of `model.safetensors`, give the same network again with the same \
             commands, bit for bit on the same kind of device:\n\n```toml\n{}```\n",
            recipe.batch,
            recipe.lr,
            recipe.start,
            recipe.augment,
            escaped(&images.name),
            recipe.source,
            recipe.train_images,
            recipe.validation_images,
            recipe.split_seed,
            self.about.errors.test_images,
            recipe.settings
        )
    }

    fn limits(&self) -> String {
        let About { images, dtype, .. } = self.about;
        let mut lines = vec![
            format!("It knows {} classes and gives every image one of them, whatever it shows.", images.classes.len()),
            format!(
                "Errors are those on {}; images from elsewhere, of other sizes or brightness, were not tried. The interval \
                 is that of the sample of test images.",
                escaped(&images.name)
            ),
            "Probabilities are the softmax of logits, not calibrated.".into(),
        ];
        lines.push(match self.is_generated() {
            true => "Weights were generated, not trained for this architecture: good for ranking, not for use.".into(),
            false => "One training with one seed; what another seed would give was not measured.".into(),
        });
        if *dtype != Dtype::F32 {
            lines.push("Filters and matrices were rounded to 16 bits; sums and everything else are in 32.".into());
        }
        lines.into_iter().map(|line| format!("- {line}\n")).collect()
    }
}

/// Where the architecture comes from.
fn origin(about: &About) -> &'static str {
    match about.design {
        Design::Searched(_) => {
            "of an architecture in the space of a SMASH search (Brock et al. 2018, One-Shot Model Architecture Search through \
             HyperNetworks)"
        }
        Design::Builtin(_) => "a network of another paper, built into smash-engine",
    }
}

fn colours(channels: usize) -> &'static str {
    match channels {
        1 => "grey",
        3 => "red, green, blue",
        _ => "channel by channel",
    }
}

/// All of a few names with their numbers, the first and the last of many.
fn shortened(names: &[String]) -> String {
    let numbered: Vec<String> = names.iter().enumerate().map(|(i, name)| format!("{i} {}", escaped(name))).collect();
    match &numbered[..] {
        [first @ .., last] if names.len() > 20 => {
            format!("{}, ..., {last}; all of them are in `CLASSES` of `model.py`", first[..10].join(", "))
        }
        all => all.join(", "),
    }
}

/// A name as Markdown shows it.
fn escaped(name: &str) -> String {
    let special = |c: char| "\\`*_{}[]<>#|~".contains(c);
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_are_and_many_are_cut() {
        assert_eq!(escaped("a_b|c"), "a\\_b\\|c");
        assert_eq!(shortened(&["cat".into(), "*dog*".into()]), "0 cat, 1 \\*dog\\*");
        let many: Vec<String> = (0..30).map(|i| format!("n{i}")).collect();
        assert!(
            shortened(&many).starts_with("0 n0, 1 n1,") && shortened(&many).contains("9 n9, ..., 29 n29; all of them")
        );
    }
}
