//! `predict MODEL IMAGES`: what an exported network takes pictures for.
//!
//! Pictures are brought to the size and the channels of the network's images (`data/picture.rs`); its input is then
//! padded and normalised as in its training.

use crate::cli::{GlobalArgs, PredictArgs};
use crate::commands::device::choose;
use crate::commands::output::print_result;
use crate::data::{Images, picture};
use crate::error::{Error, Result};
use crate::export::{Model, model};
use crate::report::{Align, table};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Pictures that are read and computed together.
const BATCH: usize = 100;

/// A class and its probability.
type Guess = (usize, f32);

/// `smash-engine predict`.
///
/// # Errors
/// [`Error::Config`] when the network is for volumes; [`Error::Data`] names what is damaged, [`Error::Io`] what is not
/// there.
pub fn run(args: &PredictArgs, global: &GlobalArgs) -> Result<()> {
    let about = model::about(&args.model)?;
    if about.shape.is_volume() {
        let message = format!("{} classifies volumes; predict is for pictures", args.model.display());
        return Err(Error::config("MODEL", message));
    }
    let mut files = Vec::new();
    for path in &args.images {
        files.extend(picture::find(path)?);
    }
    let batch = BATCH.min(files.len());
    let device = choose(global)?;
    let mut model = Model::load_on(&args.model, device.kind(), batch, |arena| device.context(arena, 1))?;
    let mut guesses = Vec::new();
    for files in files.chunks(batch) {
        guesses.extend(model.probabilities(&read(files, &model)?)?.iter().map(|row| best(row, args.top)));
    }
    let classes = &model.about.images.classes;
    let json = json!({ "network": model.about.design.id(), "images": as_json(&files, &guesses, classes) });
    print_result(global, &json, &text(&files, &guesses, classes))
}

/// The pictures as images of the network; their labels mean nothing.
fn read(files: &[PathBuf], model: &Model) -> Result<Images> {
    let shape = model.image_shape();
    let mut pixels = Vec::with_capacity(files.len() * shape.pixels());
    for file in files {
        pixels.extend(picture::read(file, shape)?);
    }
    Images::from_pixels(pixels, vec![0; files.len()], shape)
}

/// The `top` most probable classes, the best first.
fn best(probabilities: &[f32], top: usize) -> Vec<Guess> {
    let mut guesses: Vec<Guess> = probabilities.iter().copied().enumerate().collect();
    guesses.sort_by(|a, b| b.1.total_cmp(&a.1));
    guesses.truncate(top);
    guesses
}

/// The name of a class, its number if it has none.
fn name(classes: &[String], class: usize) -> String {
    classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}

fn as_json(files: &[PathBuf], guesses: &[Vec<Guess>], classes: &[String]) -> Vec<Value> {
    let guess = |&(class, probability): &Guess| {
        let name = name(classes, class);
        json!({ "class": name, "number": class, "probability": probability })
    };
    let image = |(file, guesses): (&PathBuf, &Vec<Guess>)| {
        let guesses: Vec<Value> = guesses.iter().map(guess).collect();
        json!({ "file": shown(file), "classes": guesses })
    };
    files.iter().zip(guesses).map(image).collect()
}

/// A line for each picture.
fn text(files: &[PathBuf], guesses: &[Vec<Guess>], classes: &[String]) -> String {
    let row = |(file, guesses): (&PathBuf, &Vec<Guess>)| {
        let cells = guesses
            .iter()
            .flat_map(|&(class, probability)| [name(classes, class), format!("{:.1} %", 100.0 * probability)]);
        std::iter::once(shown(file)).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = files.iter().zip(guesses).map(row).collect();
    let columns = rows.first().map_or(0, Vec::len);
    let aligns: Vec<Align> =
        (0..columns).map(|i| if i > 0 && i % 2 == 0 { Align::Right } else { Align::Left }).collect();
    table(&aligns, &rows)
}

/// A path in a line of its own.
fn shown(path: &Path) -> String {
    path.display().to_string().replace(char::is_control, "?")
}
