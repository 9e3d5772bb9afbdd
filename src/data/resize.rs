//! Pictures of another size: the middle square, brought to n x n pixels, or the middle part of other proportions.
//!
//! Each new pixel is a weighted mean of old ones, the weights falling linearly to zero at a distance of one new pixel
//! (one old pixel if that is more): when pictures shrink every old pixel counts, when they grow this is bilinear
//! interpolation. Rows and columns are treated one after the other, in single precision.

use std::path::Path;

use crate::data::images::{ImageShape, Images};
use crate::data::{Dataset, bytes};
use crate::error::Result;

/// Old pixels and their weights, for one new pixel.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// The middle square of a plane of `height` rows, as `n` rows of `n` pixels.
pub(super) fn square(plane: &[u8], height: usize, width: usize, n: usize) -> Vec<u8> {
    fit(plane, [height, width], [n, n])
}

/// The largest middle part of a plane of `old` rows and columns that has the proportions of `new`, as `new` rows and columns.
pub(super) fn fit(plane: &[u8], [height, width]: [usize; 2], [rows, columns]: [usize; 2]) -> Vec<u8> {
    // Whichever side is too long for the other.
    let part = |of: usize, other: usize, long: usize, short: usize| (other * long / short).clamp(1, of);
    let (used_height, used_width) = (part(height, width, rows, columns), part(width, height, columns, rows));
    let (top, left) = ((height - used_height) / 2, (width - used_width) / 2);
    let (down, across) = (taps(used_height, rows), taps(used_width, columns));
    let used = plane.chunks_exact(width).skip(top).take(used_height);
    // `narrow` has `used_height` rows of the new width.
    let narrow: Vec<f32> = used
        .flat_map(|row| {
            let mean = |taps: &Taps| {
                let old = &row[left + taps.first..][..taps.weights.len()];
                old.iter().zip(&taps.weights).map(|(&old, weight)| f32::from(old) * weight).sum::<f32>()
            };
            across.iter().map(mean).collect::<Vec<f32>>()
        })
        .collect();
    let mut new = Vec::with_capacity(rows * columns);
    for Taps { first, weights } in &down {
        for x in 0..columns {
            let mean: f32 =
                weights.iter().enumerate().map(|(i, weight)| narrow[(first + i) * columns + x] * weight).sum();
            new.push(mean.round() as u8);
        }
    }
    new
}

/// How each of `n` pixels is made from `side`.
fn taps(side: usize, n: usize) -> Vec<Taps> {
    let step = side as f64 / n as f64;
    let reach = step.max(1.0);
    let of_pixel = |i: usize| {
        let centre = (i as f64 + 0.5) * step - 0.5;
        let weight = |old: usize| (1.0 - (old as f64 - centre).abs() / reach).max(0.0);
        let first = (centre - reach).ceil().max(0.0) as usize;
        let last = ((centre + reach).floor() as usize).min(side - 1);
        let sum: f64 = (first..=last).map(weight).sum();
        Taps { first, weights: (first..=last).map(|old| (weight(old) / sum) as f32).collect() }
    };
    (0..n).map(of_pixel).collect()
}

/// `set`, which lies at `path`, with pictures of `size` x `size` pixels, if that is asked for; volumes have no other size.
pub(super) fn to_size(set: Dataset, size: Option<usize>, path: &Path) -> Result<Dataset> {
    let (Some(n), shape) = (size, set.shape) else { return Ok(set) };
    if shape.depth > 1 || (shape.height, shape.width) == (n, n) {
        return Ok(set);
    }
    let (train, test) = (images(&set.train, shape, n, path)?, images(&set.test, shape, n, path)?);
    Ok(Dataset { train, test, shape: ImageShape::picture(shape.channels, n, n), ..set })
}

/// All `images`, which are pictures of `shape`, at `n` x `n` pixels.
fn images(images: &Images, shape: ImageShape, n: usize, path: &Path) -> Result<Images> {
    let mut pixels = bytes::room(path, images.len() * shape.channels * n * n)?;
    for i in 0..images.len() {
        for plane in images.image(i).chunks_exact(shape.height * shape.width) {
            pixels.extend(square(plane, shape.height, shape.width, n));
        }
    }
    Images::from_pixels(pixels, images.labels().to_vec(), ImageShape::picture(shape.channels, n, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_size_and_constant_pictures_stay_as_they_are() {
        let picture: Vec<u8> = (0..49).map(|i| (i * 37 % 256) as u8).collect();
        assert_eq!(square(&picture, 7, 7, 7), picture);
        for (height, width, n) in [(5, 9, 3), (9, 5, 16), (1, 1, 4), (100, 90, 1)] {
            assert_eq!(square(&vec![137; height * width], height, width, n), vec![137; n * n]);
        }
    }

    #[test]
    fn the_square_is_the_middle_one() {
        let wide: Vec<u8> = (0..3).flat_map(|y| (0..7).map(move |x| 10 * y + x)).collect();
        assert_eq!(square(&wide, 3, 7, 3), [2, 3, 4, 12, 13, 14, 22, 23, 24]);
        let tall: Vec<u8> = (0..6).flat_map(|y| (0..2).map(move |x| 10 * y + x)).collect();
        assert_eq!(square(&tall, 6, 2, 2), [20, 21, 30, 31]);
    }

    #[test]
    fn weights_are_those_of_a_triangle() {
        // To half the size, a new pixel at the edge has old ones at distances 1/2, 1/2 and 3/2 of reach 2.
        let row = |picture: [u8; 16]| square(&picture, 4, 4, 2);
        let mut columns = [0; 16];
        for y in 0..4 {
            columns[4 * y..][..4].copy_from_slice(&[0, 70, 140, 210]);
        }
        // (0 * 3 + 70 * 3 + 140) / 7 = 50, and the mirror image.
        assert_eq!(row(columns), [50, 160, 50, 160]);
        // To twice the size: a quarter of the way between pixels.
        assert_eq!(square(&[0, 99, 0, 99], 2, 2, 4)[..4], [0, 25, 74, 99]);
    }

    #[test]
    fn every_plane_of_every_image_is_resized() {
        let shape = ImageShape::picture(3, 2, 4);
        let pixels: Vec<u8> = (0..6u8).flat_map(|plane| [10 * plane; 8]).collect();
        let set = Images::from_pixels(pixels, vec![4, 5], shape).unwrap();
        let resized = images(&set, shape, 3, Path::new("some")).unwrap();
        assert_eq!((resized.len(), resized.pixels(), resized.labels()), (2, 27, &[4, 5][..]));
        assert_eq!((resized.image(0)[26], resized.image(1)[0], resized.image(1)[26]), (20, 30, 50));
    }
}
