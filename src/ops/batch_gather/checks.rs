//! batch_gather against nested loops that place each stored pixel.

use super::{BatchGather, OP, Placement, batch_gather};
use crate::data::{ImageShape, Images};
use crate::error::Result;
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::tensor::Shape;
use crate::testing::{Check, Lab, Measured, checks};

checks!(
    OP,
    an_image_of_the_size_of_the_batch,
    a_smaller_image_is_padded,
    a_larger_image_is_cropped,
    values_are_normalised_per_channel,
    an_offset_shows_what_lies_further_down_and_right,
);

pub(super) fn config(image: [usize; 3], size: [usize; 2]) -> BatchGather {
    let mean = [0.25, 0.5, 0.1, 0.7][..image[0]].to_vec();
    let std = [0.5, 0.2, 0.3, 0.9][..image[0]].to_vec();
    BatchGather { image, size, mean, std }
}

/// Images of some pixels.
pub(super) fn set(config: &BatchGather, pixels: Vec<u8>) -> Result<Images> {
    let [channels, height, width] = config.image;
    let shape = ImageShape::picture(channels, height, width);
    let labels = vec![0; pixels.len() / shape.pixels()];
    Images::from_pixels(pixels, labels, shape)
}

fn draw_pixels(config: &BatchGather, count: usize) -> Vec<u8> {
    let mut rng = Rng::new(7, Stream::Augment);
    let len: usize = config.image.iter().product();
    (0..count * len).map(|_| rng.below(256) as u8).collect()
}

/// x[c][p][q][n], scattering: a black batch, then each image is put where it shows.
fn reference(config: &BatchGather, pixels: &[u8], indices: &[u32], placements: &[Placement]) -> Vec<f64> {
    let ([channels, h, w], [rows, columns], n_len) = (config.image, config.size, indices.len());
    let value = |c: usize, pixel: u8| (f64::from(pixel) / 255.0 - f64::from(config.mean[c])) / f64::from(config.std[c]);
    let black = |i: usize| value(i / (rows * columns * n_len), 0);
    let mut x: Vec<f64> = (0..channels * rows * columns * n_len).map(black).collect();
    // Where the image's first pixel lies in the unshifted batch; halves go towards zero.
    let (top, left) = ((rows as i32 - h as i32) / 2, (columns as i32 - w as i32) / 2);
    for (n, (&index, placement)) in indices.iter().zip(placements).enumerate() {
        let image = &pixels[index as usize * channels * h * w..];
        for c in 0..channels {
            for (i, j) in (0..h as i32).flat_map(|i| (0..w as i32).map(move |j| (i, j))) {
                let (p, mut q) = (i + top - placement.dy, j + left - placement.dx);
                if placement.flip {
                    q = columns as i32 - 1 - q;
                }
                if (0..rows as i32).contains(&p) && (0..columns as i32).contains(&q) {
                    let at = ((c * rows + p as usize) * columns + q as usize) * n_len + n;
                    x[at] = value(c, image[(c * h + i as usize) * w + j as usize]);
                }
            }
        }
    }
    x
}

fn gather(
    lab: &Lab,
    measured: &mut Measured,
    set: &Images,
    indices: &[u32],
    placements: &[Placement],
    config: &BatchGather,
) -> Result<Vec<f32>> {
    lab.run(1 << 17, |context| {
        let mut tape = Tape::new(context);
        let x = batch_gather(&mut tape, set, indices, placements, config)?;
        let [rows, columns] = config.size;
        let shape = Shape::new(config.image[0], rows, columns, indices.len());
        measured.holds("shape, and no gradient", tape.shape(x) == shape && !tape.needs_grad(x));
        tape.read(x)
    })
}

/// Images in any order, some twice.
fn check(config: BatchGather, placements: Vec<Placement>) -> Check {
    Check::new(move |lab, measured| {
        let count = placements.len() as u32 + 2;
        let indices: Vec<u32> = (0..placements.len() as u32).map(|i| (i * i + 1) % count).collect();
        let pixels = draw_pixels(&config, count as usize);
        let expected = reference(&config, &pixels, &indices, &placements);
        let got = gather(lab, measured, &set(&config, pixels)?, &indices, &placements, &config)?;
        measured.close("batch", &got, &expected, 1);
        Ok(())
    })
}

fn at(dy: i32, dx: i32, flip: bool) -> Placement {
    Placement::window(dy, dx, flip)
}

/// Shifts in all directions, beyond the image too, plain and mirrored.
fn many() -> Vec<Placement> {
    let shifts = [(0, 0), (1, 0), (0, 1), (-2, 0), (0, -3), (2, -1), (-4, 4), (3, 2), (40, 0), (0, -40)];
    shifts.into_iter().flat_map(|(dy, dx)| [at(dy, dx, false), at(dy, dx, true)]).collect()
}

fn an_image_of_the_size_of_the_batch() -> Vec<Check> {
    let config = config([3, 7, 5], [7, 5]);
    vec![check(config.clone(), many()), check(config, vec![Placement::default()])]
}

fn a_smaller_image_is_padded() -> Vec<Check> {
    vec![check(config([1, 28, 28], [32, 32]), many()), check(config([2, 3, 4], [8, 7]), many())]
}

fn a_larger_image_is_cropped() -> Vec<Check> {
    vec![check(config([2, 11, 9], [7, 5]), many()), check(config([4, 9, 8], [6, 3]), many())]
}

fn values_are_normalised_per_channel() -> Vec<Check> {
    vec![Check::new(|lab, measured| {
        let config = config([2, 1, 2], [1, 2]);
        let set = set(&config, vec![0, 255, 51, 102])?;
        let got = gather(lab, measured, &set, &[0], &[at(0, 0, false)], &config)?;
        measured.within("batch", &got, &[-0.5, 1.5, -1.5, -0.5], 1e-6);
        Ok(())
    })]
}

fn an_offset_shows_what_lies_further_down_and_right() -> Vec<Check> {
    let windows = [
        (at(0, 0, false), [1, 2, 3, 4, 5, 6]),
        (at(1, 0, false), [4, 5, 6, 0, 0, 0]),
        (at(0, 1, false), [2, 3, 0, 5, 6, 0]),
        (at(0, 0, true), [3, 2, 1, 6, 5, 4]),
        // The window is chosen first, then mirrored.
        (at(0, 1, true), [0, 3, 2, 0, 6, 5]),
        (at(-1, -2, false), [0, 0, 0, 0, 0, 1]),
    ];
    vec![Check::new(move |lab, measured| {
        // One channel of mean 0 and deviation 1 / 255 shows the pixels themselves.
        let plain = BatchGather { image: [1, 2, 3], size: [2, 3], mean: vec![0.0], std: vec![1.0 / 255.0] };
        let set = set(&plain, vec![1, 2, 3, 4, 5, 6])?;
        for (placement, expected) in windows {
            let got = gather(lab, measured, &set, &[0], &[placement], &plain)?;
            measured.within(format!("{placement:?}"), &got, &expected.map(f64::from), 1e-5);
        }
        Ok(())
    })]
}
