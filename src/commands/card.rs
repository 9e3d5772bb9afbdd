//! The card of an exported network: what it is, what it costs, how it was made, how good it is, and what it is not for.
//!
//! Markdown, with the picture beside it; a pure function of what is known.

use crate::export::about::{About, Dtype, Weights};
use crate::nn::optim::Optimizer;
use crate::report::grouped;
use std::fmt::Write;

/// What a card says besides what the weights say of themselves.
pub struct Card<'a> {
    /// Of the network.
    pub about: &'a About,
    /// Learned numbers.
    pub params: u64,
    /// Multiply-accumulates per image.
    pub macs: u64,
    /// The ops and what each costs, as text.
    pub table: &'a str,
    /// Batch size, milliseconds per batch, and their quartiles.
    pub latencies: &'a [(usize, f64, [f64; 2])],
    /// What it was measured on.
    pub device: &'a str,
    /// Half the 95 % interval of a test error, in points.
    pub margin: f64,
    /// Files beside the card, with what is in them.
    pub files: &'a [(&'a str, &'a str)],
    /// Name of the picture.
    pub picture: &'a str,
}

impl Card<'_> {
    /// The card.
    pub fn markdown(&self) -> String {
        let about = self.about;
        let (id, name) = (about.design.id(), &about.images.name);
        let mut text = format!("# {id}\n\nAn image classifier for {name}, {}.\n\n", origin(about));
        let sections = [
            ("Errors", self.errors()),
            ("Cost", self.cost()),
            ("Files", self.files()),
            ("Input and output", self.input()),
            ("Architecture", format!("![{id}]({})\n\n```\n{}```\n", self.picture, self.table)),
            ("How it was made", self.recipe()),
            ("Limits", self.limits()),
        ];
        for (heading, body) in sections {
            // Writing into a String cannot fail.
            let _ = write!(text, "## {heading}\n\n{body}\n");
        }
        text
    }

    fn errors(&self) -> String {
        let errors = &self.about.errors;
        let mut text = String::from("| images | error |\n|---|---|\n");
        let interval =
            format!("{:.2} % +- {:.2} (95 % interval of {} images)", errors.test_err, self.margin, errors.test_images);
        text += &format!("| test | {interval} |\n");
        if let Some(top5) = errors.test_top5_err {
            text += &format!("| test, five guesses | {top5:.2} % |\n");
        }
        if let Some(before) = errors.unrounded_test_err {
            text += &format!("| test, weights not rounded | {before:.2} % |\n");
        }
        if let Some(val_err) = errors.val_err {
            text += &format!("| validation | {val_err:.2} % |\n");
        }
        text
    }

    fn cost(&self) -> String {
        let mut text = format!(
            "{} parameters, {} multiply-accumulates ({} FLOPs) per image.\n\n\
             | batch | milliseconds per batch, quartiles | images per second |\n|---|---|---|\n",
            grouped(self.params),
            grouped(self.macs),
            grouped(2 * self.macs)
        );
        for &(batch, median, [low, high]) in self.latencies {
            let rate = 1e3 * batch as f64 / median;
            text += &format!("| {batch} | {median:.2} ({low:.2} to {high:.2}) | {rate:.0} |\n");
        }
        text + &format!("\nFrom normalised images to logits, by smash-engine on {}.\n", self.device)
    }

    fn files(&self) -> String {
        let rows: String = self.files.iter().map(|(name, what)| format!("| `{name}` | {what} |\n")).collect();
        format!("| file | what |\n|---|---|\n{rows}")
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
        let padded = if size == rows && size == columns {
            String::new()
        } else {
            format!("padded with black to {size} x {size} and ")
        };
        let list = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(", ");
        let views = if images.views > 1 {
            "The test error is that of the mean of the probabilities over 12 rotations of each volume.\n"
        } else {
            ""
        };
        let classes: Vec<String> = images.classes.iter().enumerate().map(|(i, class)| format!("{i} {class}")).collect();
        format!(
            "In: float32, {extent}. The ONNX and PyTorch networks do the rest themselves: images are {padded}normalised, \
             (x - mean) / std with mean {} and std {}.\n\nOut: logits, N x {}. {views}Classes: {}.\n",
            list(&images.mean),
            list(&images.std),
            shape.classes,
            shortened(&classes)
        )
    }

    fn recipe(&self) -> String {
        let About { recipe, seed, engine, images, .. } = self.about;
        let optimizer = match recipe.optimizer {
            Optimizer::Adam { beta1, beta2, epsilon, decay } => {
                format!("Adam (beta {beta1} and {beta2}, epsilon {epsilon}, weight decay {decay})")
            }
            Optimizer::Sgd { momentum, decay } => format!("SGD, Nesterov momentum {momentum}, weight decay {decay}"),
        };
        let what = match self.about.weights {
            Weights::Trained => "Trained from scratch",
            Weights::Generated => {
                "Weights are those of a SMASH network, 1x1 convolutions generated by its HyperNet, trained"
            }
        };
        format!(
            "- {what} by smash-engine {engine}, seed {seed}: {} in batches of {}, learning rate {}, annealed along a \
             cosine, {optimizer}, from {}; images varied by `{}`.\n\
             - Data: {} (`{}`), {} images to train on, {} held out for validation (seed of the split: {}), {} for test.\n\
             - The settings are in the metadata of `model.safetensors`; `smash-engine` repeats the run from them, bit for \
             bit on the same kind of device:\n\n```toml\n{}```\n",
            if recipe.epochs == 1 { "1 epoch".to_string() } else { format!("{} epochs", recipe.epochs) },
            recipe.batch,
            recipe.lr,
            recipe.start,
            recipe.augment,
            images.name,
            recipe.source,
            recipe.train_images,
            recipe.validation_images,
            recipe.split_seed,
            self.about.errors.test_images,
            recipe.settings
        )
    }

    fn limits(&self) -> String {
        let About { images, dtype, weights, .. } = self.about;
        let mut lines = vec![
            format!(
                "It knows the {} classes above and gives every image one of them, whatever it shows.",
                images.classes.len()
            ),
            format!(
                "Errors are those on {}; images from elsewhere, of other sizes or brightness, were not tried.",
                images.name
            ),
            "One training with one seed; another seed gives another error, by about as much as the interval above."
                .into(),
            "Probabilities are the softmax of logits, not calibrated.".into(),
        ];
        if *weights == Weights::Generated {
            lines.push(
                "Weights were generated, not trained for this architecture: good for ranking, not for use.".into(),
            );
        }
        if *dtype != Dtype::F32 {
            lines.push("Filters and matrices were rounded to 16 bits; sums and everything else are in 32.".into());
        }
        lines.into_iter().map(|line| format!("- {line}\n")).collect()
    }
}

/// Where the architecture comes from.
fn origin(about: &About) -> &'static str {
    match about.design {
        crate::nas::design::Design::Searched(_) => {
            "of an architecture from a SMASH search (Brock et al. 2018, One-Shot Model Architecture Search through HyperNetworks)"
        }
        crate::nas::design::Design::Builtin(_) => "a network of another paper, built into smash-engine",
    }
}

fn colours(channels: usize) -> &'static str {
    match channels {
        1 => "grey",
        3 => "red, green, blue",
        _ => "channel by channel",
    }
}

/// All of a few names, the first and the last of many.
fn shortened(names: &[String]) -> String {
    match names {
        [first @ .., last] if names.len() > 20 => format!("{}, ..., {last}", first[..10].join(", ")),
        all => all.join(", "),
    }
}
