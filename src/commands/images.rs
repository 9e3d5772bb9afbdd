//! Which images a run learns from and validates on, and how they become batches.

use crate::config::{Input, RunConfig};
use crate::data::{Dataset, picture_stats, validation_split};
use crate::error::{Error, Result};
use crate::nas::cost::NetworkShape;
use crate::nas::train::Gather;
use crate::ops::batch_gather::BatchGather;
use crate::ops::volume_gather::VolumeGather;

/// Images to learn from, and to validate on: of the whole training set, or of one fold of it.
///
/// # Errors
/// [`Error::Config`] for a fold or share that the set does not have.
pub fn split(config: &RunConfig, dataset: &Dataset) -> Result<(Vec<u32>, Vec<u32>)> {
    let images: Vec<u32> = match config.data.fold {
        None => (0..dataset.train.len() as u32).collect(),
        Some(fold) => dataset.folds.get(fold).cloned().ok_or_else(|| {
            let message = match dataset.folds.len() {
                0 if dataset.name == "stl-10" => "the folds are in fold_indices.txt, which is not there".to_string(),
                0 => format!("{} has no folds; leave it out", dataset.name),
                folds => format!("{fold} is not one of 0 to {}", folds - 1),
            };
            Error::config("data.fold", message)
        })?,
    };
    if config.data.validation == 0.0 {
        return Ok((images, Vec::new()));
    }
    let labels: Vec<u16> = images.iter().map(|&i| dataset.train.label(i as usize)).collect();
    let seed = config.data.split_seed.unwrap_or(config.seed);
    let (train, validation) = validation_split(&labels, config.data.validation, seed, config.data.split.into())?;
    let among = |chosen: Vec<u32>| chosen.into_iter().map(|i| images[i as usize]).collect();
    Ok((among(train), among(validation)))
}

/// Batches' geometry and what surrounds an architecture; pixels are normalised by the statistics of `images`, those
/// trained and validated on.
pub fn geometry<'a>(input: &Input, dataset: &Dataset, images: impl Iterator<Item = &'a u32>) -> (Gather, NetworkShape) {
    let (image, size) = (dataset.shape, input.size);
    let shape = NetworkShape {
        image_depth: image.depth,
        stem_stride: input.stem_stride,
        ..NetworkShape::pictures(image.channels, size, dataset.class_names.len(), input.stem_kernel)
    };
    if image.is_volume() {
        let size = [image.depth, image.height, image.width];
        return (Gather::Volumes(VolumeGather { size, views: dataset.views }), shape);
    }
    let statistics = picture_stats(&dataset.train, image, images.map(|&i| i as usize));
    let single = |values: &[f64]| values.iter().map(|&x| x as f32).collect();
    let gather = Gather::Images(BatchGather {
        image: [image.channels, image.height, image.width],
        size: [size, size],
        mean: single(&statistics.mean),
        std: single(&statistics.std),
    });
    (gather, shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Preset;
    use crate::data::Images;

    #[test]
    fn a_fold_is_split_within_itself() {
        let shape = crate::data::ImageShape::picture(1, 1, 1);
        let images = |n: usize| Images::from_pixels(vec![0; n], (0..n as u16).map(|i| i % 2).collect(), shape).unwrap();
        let folds = vec![vec![3, 4, 5, 6, 7, 8, 9, 10], vec![11, 0, 2, 13, 15, 6, 8, 19]];
        let (train, test, class_names) = (images(20), images(2), vec!["a".into(), "b".into()]);
        let set = Dataset { name: "some".into(), train, test, shape, views: 1, folds: folds.clone(), class_names };
        let mut config = RunConfig::preset(Preset::Small);
        config.data.validation = 0.25;
        for (number, fold) in folds.iter().enumerate() {
            config.data.fold = Some(number);
            let (train, validation) = split(&config, &set).unwrap();
            assert_eq!((train.len(), validation.len()), (6, 2));
            let mut all: Vec<u32> = train.into_iter().chain(validation.iter().copied()).collect();
            let mut expected = fold.clone();
            all.sort_unstable();
            expected.sort_unstable();
            assert_eq!(all, expected, "each image of the fold once, and no other");
            assert_eq!(validation.iter().map(|i| i % 2).sum::<u32>(), 1, "one of each class");
        }
        config.data.fold = Some(2);
        assert_eq!(split(&config, &set).unwrap_err().to_string(), "data.fold: 2 is not one of 0 to 1");
        (config.data.fold, config.data.validation) = (None, 0.0);
        assert_eq!(split(&config, &set).unwrap(), ((0..20).collect(), vec![]), "all images are trained on");
    }
}
