//! Sets a part of the training images aside for validation.
//!
//! The split is made once per run, from the seed alone. Stratified: class k of c_k images gives
//! floor(f·c_k) images or one more, the extra ones going to the largest remainders (Hamilton's
//! method), so that the total is exactly round(f·n). The SMASH paper takes a random tenth
//! (section 4.1), its published code the last tenth of the training order.

use crate::error::{Error, Result};
use crate::rng::{Rng, Stream};

/// Which images are set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitKind {
    /// Drawn per class.
    Stratified,
    /// The end of the training order (a tenth of it at the default fraction), whatever its classes.
    LastTenth,
}

/// Sub-stream of the shuffle stream the split is drawn from: the far end, clear of the low
/// numbers given to retrained networks. (The very last number is not free, it wraps to 0.)
const SUB_STREAM: u32 = u32::MAX - 1;

/// Splits images `0..labels.len()` into training and validation indices, both ascending, disjoint
/// and together all of them; exactly `round(fraction * labels.len())` are for validation.
///
/// # Errors
/// `Config` unless 0 < fraction < 1 and both parts get at least one image.
pub fn validation_split(labels: &[u16], fraction: f64, seed: u64, kind: SplitKind) -> Result<(Vec<u32>, Vec<u32>)> {
    let name = "validation fraction";
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(Error::config(name, format!("{fraction} is not between 0 and 1")));
    }
    if u32::try_from(labels.len()).is_err() {
        return Err(Error::config(name, format!("{} images are more than indices can number", labels.len())));
    }
    let total = (fraction * labels.len() as f64).round() as usize;
    if total == 0 || total == labels.len() {
        let message = format!(
            "{fraction} of {} images leaves {total} for validation and {} for training; both need one",
            labels.len(),
            labels.len() - total
        );
        return Err(Error::config(name, message));
    }
    let mut chosen = vec![false; labels.len()];
    match kind {
        SplitKind::LastTenth => chosen[labels.len() - total..].fill(true),
        SplitKind::Stratified => choose_stratified(labels, fraction, total, seed, &mut chosen),
    }
    Ok((0..labels.len() as u32).partition(|&i| !chosen[i as usize]))
}

fn choose_stratified(labels: &[u16], fraction: f64, total: usize, seed: u64, chosen: &mut [bool]) {
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); classes];
    for (i, &label) in labels.iter().enumerate() {
        members[usize::from(label)].push(i as u32);
    }
    let mut rng = Rng::sub(seed, Stream::Shuffle, SUB_STREAM);
    for (of_class, count) in members.iter().zip(quotas(&members, fraction, total)) {
        for i in rng.choose(of_class, count) {
            chosen[i as usize] = true;
        }
    }
}

/// How many of each class, by largest remainder; ties go to the lower class.
fn quotas(members: &[Vec<u32>], fraction: f64, total: usize) -> Vec<usize> {
    let exact: Vec<f64> = members.iter().map(|of_class| of_class.len() as f64 * fraction).collect();
    let mut quotas: Vec<usize> = exact.iter().map(|share| share.floor() as usize).collect();
    let mut by_remainder: Vec<usize> = (0..members.len()).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()));
    let missing = total.saturating_sub(quotas.iter().sum());
    for &class in by_remainder.iter().take(missing) {
        quotas[class] += 1;
    }
    quotas
}

/// Images `0..labels.len()` for training and for test, where a set has no test images of its own: for test is every
/// fifth image of each class. Both ascend.
pub(super) fn every_fifth(labels: &[u16]) -> (Vec<usize>, Vec<usize>) {
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let mut seen = vec![0u32; classes];
    (0..labels.len()).partition(|&i| {
        let seen = &mut seen[usize::from(labels[i])];
        *seen += 1;
        !seen.is_multiple_of(5)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::class_counts;

    fn labels_of(counts: &[usize]) -> Vec<u16> {
        let mut labels: Vec<u16> = counts.iter().enumerate().flat_map(|(c, &n)| vec![c as u16; n]).collect();
        Rng::new(5, Stream::Init).shuffle(&mut labels);
        labels
    }

    fn covers(labels: &[u16], train: &[u32], validation: &[u32]) {
        assert!(train.is_sorted() && validation.is_sorted());
        let mut all = [train, validation].concat();
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..labels.len() as u32), "not disjoint and covering");
    }

    #[test]
    fn a_stratified_split_is_exact_disjoint_and_covering() {
        let uneven = [[100, 3, 1, 57, 0, 219], [1, 1, 1, 1, 1, 1], [500; 6], [7, 7, 7, 7, 7, 15]];
        for counts in uneven {
            for fraction in [0.1, 0.29, 0.5, 0.9, 1.0 / 3.0] {
                let labels = labels_of(&counts);
                let (train, validation) = validation_split(&labels, fraction, 1, SplitKind::Stratified).unwrap();
                covers(&labels, &train, &validation);
                assert_eq!(validation.len(), (fraction * labels.len() as f64).round() as usize);
                let picked: Vec<u16> = validation.iter().map(|&i| labels[i as usize]).collect();
                for (class, picked) in class_counts(&picked, counts.len()).into_iter().enumerate() {
                    let exact = fraction * counts[class] as f64;
                    assert!((f64::from(picked) - exact).abs() <= 1.0, "class {class}: {picked} for {exact}");
                }
            }
        }
    }

    #[test]
    fn the_split_depends_on_the_seed_and_on_nothing_else() {
        let labels = labels_of(&[40; 10]);
        let split = |seed| validation_split(&labels, 0.1, seed, SplitKind::Stratified).unwrap().1;
        assert_eq!(split(1), split(1));
        assert_ne!(split(1), split(2));
        let last = |seed| validation_split(&labels, 0.1, seed, SplitKind::LastTenth).unwrap();
        assert_eq!(last(1), last(2));
        assert_eq!(last(1).1, (360..400).collect::<Vec<u32>>());
        covers(&labels, &last(1).0, &last(1).1);
    }

    #[test]
    fn images_of_a_class_are_chosen_evenly() {
        // Each of 20 images is one of 5 chosen in a quarter of 400 seeds: 100 expected, sd 8.7.
        let labels = vec![0; 20];
        let mut hits = [0u32; 20];
        for seed in 0..400 {
            for i in validation_split(&labels, 0.25, seed, SplitKind::Stratified).unwrap().1 {
                hits[i as usize] += 1;
            }
        }
        assert!(hits.iter().all(|&h| (65..=135).contains(&h)), "{hits:?}");
    }

    #[test]
    fn fractions_that_leave_a_part_empty_are_config_errors() {
        for (fraction, n) in [(0.0, 10), (1.0, 10), (-0.1, 10), (f64::NAN, 10), (0.04, 10), (0.96, 10), (0.5, 0)] {
            let error = validation_split(&vec![0; n], fraction, 1, SplitKind::Stratified).unwrap_err();
            assert!(matches!(error, Error::Config { .. }), "{fraction} of {n}: {error}");
        }
    }

    #[test]
    fn every_fifth_image_of_each_class_is_for_test() {
        let labels = [0, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 2];
        assert_eq!(every_fifth(&labels), (vec![0, 1, 2, 3, 4, 5, 6, 8, 10, 11], vec![7, 9]));
        assert_eq!(every_fifth(&[]), (vec![], vec![]));
    }
}
