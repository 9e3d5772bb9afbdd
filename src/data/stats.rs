//! Mean and standard deviation of each channel, and how many images each class has.
//!
//! Pixels are integers, so the sums are exact integers and the result does not depend on the order
//! of the images: mean = S1/n, variance = (n·S2 - S1²)/n² over all n pixels of a channel, in
//! units of u8/255. Voxels are bits, of which the same is computed.

use crate::data::{ImageShape, Images};

/// Per channel, of pixels scaled to 0..=1.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelStats {
    /// Means, one per channel.
    pub mean: Vec<f64>,
    /// Population standard deviations, one per channel. A constant channel has 1 instead of 0, so
    /// that (x - mean) / std is 0 and not a division by zero.
    pub std: Vec<f64>,
}

/// The statistics of all `images`, which have `shape`.
pub fn channel_stats(images: &Images, shape: ImageShape) -> ChannelStats {
    if shape.is_volume() { voxel_stats(images) } else { picture_stats(images, shape, 0..images.len()) }
}

/// The statistics of the images `which` of a set of pictures of `shape`.
pub fn picture_stats(images: &Images, shape: ImageShape, which: impl Iterator<Item = usize>) -> ChannelStats {
    let plane = shape.height * shape.width;
    // u64 holds the squares of 2.8e14 pixels.
    let mut sums = vec![(0u64, 0u64); shape.channels];
    let mut count = 0;
    for i in which {
        count += 1;
        for ((sum, squares), channel) in sums.iter_mut().zip(images.image(i).chunks_exact(plane)) {
            *sum += channel.iter().map(|&x| u64::from(x)).sum::<u64>();
            *squares += channel.iter().map(|&x| u64::from(x) * u64::from(x)).sum::<u64>();
        }
    }
    let n = (count * plane) as u128;
    let std = |&(sum, squares): &(u64, u64)| {
        let scaled = n * u128::from(squares) - u128::from(sum) * u128::from(sum);
        if scaled == 0 { 1.0 } else { (scaled as f64).sqrt() / n as f64 / 255.0 }
    };
    ChannelStats {
        mean: sums.iter().map(|&(sum, _)| sum as f64 / n.max(1) as f64 / 255.0).collect(),
        std: sums.iter().map(std).collect(),
    }
}

/// Of all bits of all views: the share of voxels that are set.
fn voxel_stats(images: &Images) -> ChannelStats {
    let ones = |i: usize| images.image(i).iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
    let set: u64 = (0..images.len()).map(ones).sum();
    let mean = set as f64 / (8 * images.len() * images.pixels()).max(1) as f64;
    let deviation = (mean * (1.0 - mean)).sqrt();
    ChannelStats { mean: vec![mean], std: vec![if deviation == 0.0 { 1.0 } else { deviation }] }
}

/// Number of images of each class `0..classes`; labels beyond that are not counted.
pub fn class_counts(labels: &[u16], classes: usize) -> Vec<u32> {
    let mut counts = vec![0; classes];
    for &label in labels {
        if let Some(count) = counts.get_mut(usize::from(label)) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::embedded;
    use crate::rng::{Rng, Stream};

    #[test]
    fn statistics_match_a_two_pass_computation_per_channel() {
        let shape = ImageShape::picture(3, 2, 3);
        let mut rng = Rng::new(4, Stream::Init);
        let pixels: Vec<u8> = (0..7 * 18).map(|i| (rng.below(86) + 85 * (i / 6 % 3)) as u8).collect();
        let stats = channel_stats(&Images::from_pixels(pixels.clone(), vec![0; 7], shape).unwrap(), shape);
        for c in 0..3 {
            let of_channel: Vec<f64> =
                (0..7 * 18).filter(|i| i / 6 % 3 == c).map(|i| f64::from(pixels[i]) / 255.0).collect();
            let mean = of_channel.iter().sum::<f64>() / 42.0;
            let variance = of_channel.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 42.0;
            assert!((stats.mean[c] - mean).abs() < 1e-12, "channel {c}");
            assert!((stats.std[c] - variance.sqrt()).abs() < 1e-12, "channel {c}");
        }
    }

    #[test]
    fn a_constant_channel_can_be_divided_by() {
        let shape = ImageShape::picture(1, 2, 2);
        let stats = channel_stats(&Images::from_pixels(vec![51; 8], vec![0; 2], shape).unwrap(), shape);
        assert_eq!((stats.mean[0], stats.std[0]), (0.2, 1.0));
    }

    #[test]
    fn voxels_are_counted_bit_by_bit() {
        // A sixth of three views of two volumes.
        let bits = [0b1000_0001, 0, 0b100, 0b1000, 0b1_0000, 0b1110_0000];
        let bytes = ImageShape::picture(1, 1, 3);
        let images = Images::from_pixels(bits.to_vec(), vec![0; 2], bytes).unwrap();
        let stats = channel_stats(&images, ImageShape { channels: 1, depth: 2, height: 2, width: 2 });
        assert!((stats.mean[0] - 1.0 / 6.0).abs() < 1e-15 && (stats.std[0] - 5f64.sqrt() / 6.0).abs() < 1e-15);
    }

    #[test]
    fn the_embedded_set_has_the_statistics_of_fashion_mnist() {
        // Mean 0.2860 and std 0.3530 are the usual figures of all 60,000 images; a sixth of
        // them lies within a few thousandths.
        let set = embedded::open().unwrap();
        let stats = channel_stats(&set.train, set.shape);
        assert!((stats.mean[0] - 0.2860).abs() < 0.004, "mean {}", stats.mean[0]);
        assert!((stats.std[0] - 0.3530).abs() < 0.004, "std {}", stats.std[0]);
    }

    #[test]
    fn classes_are_counted_and_strays_are_not() {
        assert_eq!(class_counts(&[0, 2, 2, 7], 4), [1, 0, 2, 0]);
    }
}
