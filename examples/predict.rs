//! Loads an exported network and asks it about images.
//!
//!     cargo run --release --example predict FOLDER
//!
//! FOLDER is what `smash-engine export` writes, and the example `search` in the end. The network must be for the size of
//! pictures it finds in the embedded set, of which it sees the first test images.

use smash_engine::data::{self, DataSpec, Images, Options};
use smash_engine::{Error, Model, Result};

/// Pictures that are shown.
const SHOWN: usize = 10;

fn main() -> Result<()> {
    let folder =
        std::env::args_os().nth(1).ok_or_else(|| Error::config("FOLDER", "name that of an exported network"))?;
    let mut model = Model::load(folder)?;
    let (shape, about) = (model.image_shape(), model.about.clone());
    println!("{}: {} classes of {}", about.design.id(), about.images.classes.len(), about.images.name);
    println!("its file says: wrong about {:.2} % of {} test images", about.errors.test_err, about.errors.test_images);

    let options = Options { image_size: Some(shape.height), ..Options::default() };
    let set = data::open_with(&DataSpec::Embedded, options)?.test;
    // Images may come from anywhere: a byte for each pixel, the rows of a channel one after the other, channels apart.
    let pixels: Vec<u8> = (0..SHOWN).flat_map(|i| set.image(i).to_vec()).collect();
    let labels: Vec<u16> = (0..SHOWN).map(|i| set.label(i)).collect();
    let images = Images::from_pixels(pixels, labels, shape)?;

    println!("\n{:14}  {:14}  probability", "is", "looks like");
    for (i, probabilities) in model.probabilities(&images)?.iter().enumerate() {
        let (best, probability) = largest(probabilities);
        let [is, seems] = [images.label(i).into(), best].map(|class: usize| &about.images.classes[class]);
        println!("{is:14}  {seems:14}  {:5.1} %  {}", 100.0 * probability, bar(probability));
    }

    let guesses = model.logits(&set)?;
    let wrong =
        guesses.iter().enumerate().filter(|(i, logits)| largest(logits).0 != usize::from(set.label(*i))).count();
    println!("\nwrong about {wrong} of {} test images: {:.2} %", set.len(), 100.0 * wrong as f64 / set.len() as f64);
    Ok(())
}

/// The largest number and where it is.
fn largest(values: &[f32]) -> (usize, f32) {
    let better = |best: (usize, f32), (i, &value): (usize, &f32)| if value > best.1 { (i, value) } else { best };
    values.iter().enumerate().fold((0, f32::NEG_INFINITY), better)
}

fn bar(probability: f32) -> String {
    "#".repeat((20.0 * probability).round() as usize)
}
