//! Errors after training from scratch that another experiment left, to compare scores with.

use crate::commands::experiment::prediction::Prediction;
use crate::commands::experiment::study::Study;
use crate::commands::job::refuse_differences;
use crate::commands::retrain::Trained;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::statistics::mean;
use serde::Serialize;
use std::path::Path;

/// What is known of the errors after training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Truth {
    /// By architecture: mean test error over the seeds it was trained with, in percent.
    pub test_err: Vec<Option<f64>>,
}

impl Truth {
    /// Architectures that were trained.
    pub fn count(&self) -> usize {
        self.test_err.iter().flatten().count()
    }

    /// How well `scores`, by architecture, predict it.
    pub fn predicted_by(&self, name: &str, scores: &[f64], seed: u64) -> Prediction {
        let known = scores.iter().zip(&self.test_err).filter_map(|(score, truth)| truth.map(|truth| (*score, truth)));
        let (scores, truth): (Vec<f64>, Vec<f64>) = known.unzip();
        Prediction::of(name, &scores, &truth, seed)
    }
}

/// The trainings of `archs` in the directory `dir` of another experiment.
///
/// # Errors
/// [`Error::Config`] when there are too few; [`Error::Checkpoint`] when they were made with other settings.
pub fn truth(study: &Study, dir: &Path, archs: &[Architecture]) -> Result<Truth> {
    let settings = dir.join("config.toml");
    if !settings.is_file() {
        let message = format!("{} holds no experiment; `smash-engine experiment correlation` makes one", dir.display());
        return Err(Error::config("--trained", message));
    }
    let theirs = RunConfig::load(&settings)?;
    let mut wanted = theirs.clone();
    // What a training from scratch depends on, and what the architectures are drawn from.
    let RunConfig { seed, data, retrain, space, stem_kernel, stem_stride, .. } = study.job.config.clone();
    (wanted.seed, wanted.data, wanted.retrain, wanted.space) = (seed, data, retrain, space);
    (wanted.stem_kernel, wanted.stem_stride) = (stem_kernel, stem_stride);
    refuse_differences(dir, &wanted.differences(&theirs))?;
    let truth = Truth { test_err: read(&dir.join("trained"), archs)? };
    if truth.count() < 3 {
        let message = format!(
            "{} holds trainings of {} of these architectures; a correlation needs 3 or more",
            dir.display(),
            truth.count()
        );
        return Err(Error::config("--trained", message));
    }
    Ok(truth)
}

/// Mean test errors from `folder/ID-sSEED/results.json`, where there are any.
fn read(folder: &Path, archs: &[Architecture]) -> Result<Vec<Option<f64>>> {
    let mut found: Vec<(String, f64)> = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![None; archs.len()]),
        entries => entries.map_err(Error::io("read", folder))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::io("read", folder))?.path().join("results.json");
        // Still at work, or interrupted.
        if !path.is_file() {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let trained: Trained = serde_json::from_slice(&bytes)
            .map_err(|e| Error::checkpoint(&path, format!("is damaged ({e}); repeat that experiment")))?;
        found.push((trained.id, trained.test_err));
    }
    let of = |arch: &Architecture| {
        let id = arch.id();
        let mut errors: Vec<f64> = found.iter().filter(|(name, _)| *name == id).map(|(_, error)| *error).collect();
        // A folder lists its entries in any order.
        errors.sort_by(f64::total_cmp);
        (!errors.is_empty()).then(|| mean(&errors))
    };
    Ok(archs.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::retrain::Role;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::nas::space::Space;
    use crate::rng::{Rng, Stream};

    #[test]
    fn trainings_are_found_by_the_architecture_and_averaged_over_seeds() {
        let (space, mut rng) = (Space::small(), Rng::new(1, Stream::Arch));
        let archs: Vec<Architecture> = (0..3).map(|_| sample(&space, &SampleLimits::full(&space), &mut rng)).collect();
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(&dir.path().join("trained"), &archs).unwrap(), [None; 3]);
        for (arch, seed, test_err) in [(&archs[0], 1, 10.0), (&archs[0], 2, 13.0), (&archs[2], 1, 20.0)] {
            let folder = dir.path().join(format!("trained/{}-s{seed}", arch.id()));
            std::fs::create_dir_all(&folder).unwrap();
            let trained = Trained {
                role: Role::Chosen,
                id: arch.id(),
                params: 1,
                macs: 1,
                smash_val_err: None,
                val_err: None,
                test_err,
                test_top5_err: None,
                test_images: 10,
            };
            std::fs::write(folder.join("results.json"), serde_json::to_vec(&trained).unwrap()).unwrap();
        }
        std::fs::create_dir_all(dir.path().join("trained/unfinished-s1")).unwrap();
        let found = Truth { test_err: read(&dir.path().join("trained"), &archs).unwrap() };
        assert_eq!((found.test_err.clone(), found.count()), (vec![Some(11.5), None, Some(20.0)], 2));
        std::fs::write(dir.path().join("trained/unfinished-s1/results.json"), "{").unwrap();
        assert_eq!(read(&dir.path().join("trained"), &archs).unwrap_err().exit_code(), 5);
    }

    #[test]
    fn only_trained_architectures_take_part_in_a_prediction() {
        let truth = Truth { test_err: vec![Some(1.0), None, Some(2.0), Some(3.0), Some(5.0)] };
        let prediction = truth.predicted_by("some", &[4.0, 100.0, 3.0, 2.0, 1.0], 1);
        assert_eq!(prediction.spearman.map(|rho| rho.value), Some(-1.0));
    }
}
