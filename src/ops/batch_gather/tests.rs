//! batch_gather against nested loops that place each stored pixel.

use super::{BatchGather, Placement, batch_gather};
use crate::backend::cpu::Isa;
use crate::rng::{Rng, Stream};
use crate::tape::Tape;
use crate::testing::poisoned_context;

fn config(image: [usize; 3], size: [usize; 2]) -> BatchGather {
    let mean = [0.25, 0.5, 0.1, 0.7][..image[0]].to_vec();
    let std = [0.5, 0.2, 0.3, 0.9][..image[0]].to_vec();
    BatchGather { image, size, mean, std }
}

fn draw_images(config: &BatchGather, count: usize) -> Vec<Vec<u8>> {
    let mut rng = Rng::new(7, Stream::Augment);
    let len = config.image.iter().product();
    (0..count).map(|_| (0..len).map(|_| rng.below(256) as u8).collect()).collect()
}

/// x[c][p][q][n], scattering: a black batch, then each image is put where it shows.
fn reference(config: &BatchGather, images: &[Vec<u8>], placements: &[Placement]) -> Vec<f64> {
    let ([channels, h, w], [rows, columns], n_len) = (config.image, config.size, images.len());
    let value = |c: usize, pixel: u8| (f64::from(pixel) / 255.0 - f64::from(config.mean[c])) / f64::from(config.std[c]);
    let black = |i: usize| value(i / (rows * columns * n_len), 0);
    let mut x: Vec<f64> = (0..channels * rows * columns * n_len).map(black).collect();
    // Where the image's first pixel lies in the unshifted batch; halves go towards zero.
    let (top, left) = ((rows as i32 - h as i32) / 2, (columns as i32 - w as i32) / 2);
    for (n, (image, placement)) in images.iter().zip(placements).enumerate() {
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

fn gather(config: &BatchGather, images: &[Vec<u8>], placements: &[Placement], threads: usize) -> Vec<f32> {
    let mut context = poisoned_context(Isa::detect(), threads, 1 << 16);
    let mut tape = Tape::new(&mut context);
    let images: Vec<&[u8]> = images.iter().map(Vec::as_slice).collect();
    let x = batch_gather(&mut tape, &images, placements, config).unwrap();
    let [rows, columns] = config.size;
    assert_eq!(tape.shape(x), crate::tensor::Shape::new(config.image[0], rows, columns, images.len()));
    assert!(!tape.needs_grad(x));
    tape.read(x)
}

fn check(config: &BatchGather, placements: &[Placement]) {
    let images = draw_images(config, placements.len());
    let expected = reference(config, &images, placements);
    let got = gather(config, &images, placements, 1);
    crate::testing::assert_close(&format!("{config:?}"), &got, &expected, 1);
    assert_eq!(gather(config, &images, placements, 3), got, "3 threads");
}

fn at(dy: i32, dx: i32, flip: bool) -> Placement {
    Placement { dy, dx, flip }
}

/// Shifts in all directions, beyond the image too, plain and mirrored.
fn many() -> Vec<Placement> {
    let shifts = [(0, 0), (1, 0), (0, 1), (-2, 0), (0, -3), (2, -1), (-4, 4), (3, 2), (40, 0), (0, -40)];
    shifts.into_iter().flat_map(|(dy, dx)| [at(dy, dx, false), at(dy, dx, true)]).collect()
}

#[test]
fn an_image_of_the_size_of_the_batch() {
    check(&config([3, 7, 5], [7, 5]), &many());
    check(&config([3, 7, 5], [7, 5]), &[Placement::default()]);
}

#[test]
fn a_smaller_image_is_padded() {
    check(&config([1, 28, 28], [32, 32]), &many());
    check(&config([2, 3, 4], [8, 7]), &many());
}

#[test]
fn a_larger_image_is_cropped() {
    check(&config([2, 11, 9], [7, 5]), &many());
    check(&config([4, 9, 8], [6, 3]), &many());
}

#[test]
fn values_are_normalised_per_channel() {
    let config = config([2, 1, 2], [1, 2]);
    let got = gather(&config, &[vec![0, 255, 51, 102]], &[at(0, 0, false)], 1);
    for (got, expected) in got.iter().zip([-0.5f32, 1.5, -1.5, -0.5]) {
        assert!((got - expected).abs() < 1e-6, "{got} is not {expected}");
    }
}

#[test]
fn an_offset_shows_what_lies_further_down_and_right() {
    // One channel of mean 0 and deviation 1 / 255 shows the pixels themselves.
    let plain = BatchGather { image: [1, 2, 3], size: [2, 3], mean: vec![0.0], std: vec![1.0 / 255.0] };
    let show = |placement| {
        let x = gather(&plain, &[vec![1, 2, 3, 4, 5, 6]], &[placement], 1);
        x.iter().map(|x| x.round() as i32).collect::<Vec<_>>()
    };
    assert_eq!(show(at(0, 0, false)), [1, 2, 3, 4, 5, 6]);
    assert_eq!(show(at(1, 0, false)), [4, 5, 6, 0, 0, 0]);
    assert_eq!(show(at(0, 1, false)), [2, 3, 0, 5, 6, 0]);
    assert_eq!(show(at(0, 0, true)), [3, 2, 1, 6, 5, 4]);
    // The window is chosen first, then mirrored.
    assert_eq!(show(at(0, 1, true)), [0, 3, 2, 0, 6, 5]);
    assert_eq!(show(at(-1, -2, false)), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn sizes_that_do_not_fit_are_named() {
    let mut context = poisoned_context(Isa::Portable, 1, 1 << 12);
    let mut tape = Tape::new(&mut context);
    let image: &[u8] = &[0; 12];
    let good = config([2, 2, 3], [2, 3]);
    let mut error = |images: &[&[u8]], placements: usize, config: &BatchGather| {
        let placements = vec![Placement::default(); placements];
        batch_gather(&mut tape, images, &placements, config).map_err(|e| e.to_string()).err()
    };
    assert_eq!(error(&[image; 3], 3, &good), None);
    let expected = "batch_gather: expected images of 2 x 2 x 3 with a placement each, got";
    assert_eq!(error(&[image; 3], 2, &good), Some(format!("{expected} 3 images, 2 placements")));
    assert_eq!(error(&[image, &image[..11]], 2, &good), Some(format!("{expected} 2 images, 2 placements")));
    assert!(error(&[image], 1, &BatchGather { mean: vec![0.0], ..good.clone() }).is_some(), "one mean");
    assert!(error(&[image], 1, &BatchGather { std: vec![1.0; 3], ..good.clone() }).is_some(), "three deviations");
}
