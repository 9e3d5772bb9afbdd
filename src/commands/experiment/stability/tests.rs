use super::*;
use crate::nas::sample::{SampleLimits, sample};
use crate::rng::{Rng, Stream};

fn scorer(name: &str, kind: Kind, scores: &[f64]) -> Scorer {
    Scorer::new(name.into(), kind, None, scores.to_vec())
}

#[test]
fn rankings_are_compared_each_with_each() {
    let [a, b, c] = [[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 40.0, 30.0], [4.0, 3.0, 2.0, 1.0]];
    let scorers = [scorer("a", Kind::Seed, &a), scorer("b", Kind::Seed, &b), scorer("c", Kind::Crippled, &c)];
    let rankings = Rankings::of(&scorers);
    // One pair of six in the other order; one exchange of neighbours costs rho 6 * 2 / 60.
    assert_eq!(rankings.kendall[0][1], Some(4.0 / 6.0));
    assert!((rankings.spearman[0][1].unwrap() - 0.8).abs() < 1e-12);
    assert_eq!(
        (rankings.spearman[2][0], rankings.kendall[2][0], rankings.spearman[1][1]),
        (Some(-1.0), Some(-1.0), Some(1.0))
    );
    for (i, j) in [(0, 1), (0, 2), (1, 2)] {
        assert_eq!(rankings.spearman[i][j], rankings.spearman[j][i]);
    }
    assert_eq!(rankings.scorers, ["a", "b", "c"]);
    // The third is no seed.
    assert!((rankings.between_seeds.unwrap() - 0.8).abs() < 1e-12);
    assert!((rankings.expected_of_ensembles.unwrap() - 1.6 / 1.8).abs() < 1e-12);
}

#[test]
fn a_seed_is_compared_with_the_mean_of_the_others_only() {
    let scores = [[1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 3.0, 4.0], [1.0, 3.0, 2.0, 8.0]];
    let scorers: Vec<Scorer> = scores.iter().map(|s| scorer("", Kind::Seed, s)).collect();
    assert_eq!(mean_scores(scorers.iter().skip(1)), [1.5, 2.0, 2.5, 6.0]);
    // The first agrees fully with the mean of the others, (1.5, 2, 2.5, 6).
    // The second: (1, 2.5, 2.5, 6) against 2, 1, 3, 4; the third: (1.5, 1.5, 3, 4) against 1, 3, 2, 8.
    let rho = |a: &[f64], b: &[f64]| spearman(a, b).unwrap().coefficient;
    let expected = [1.0, rho(&scores[1], &[1.0, 2.5, 2.5, 6.0]), rho(&scores[2], &[1.5, 1.5, 3.0, 4.0])];
    let found = Rankings::of(&scorers).with_the_others.unwrap();
    assert!((found - mean(&expected)).abs() < 1e-12);
    let constant: Vec<Scorer> = [[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]].iter().map(|s| scorer("", Kind::Seed, s)).collect();
    let rankings = Rankings::of(&constant);
    assert_eq!((rankings.between_seeds, rankings.with_the_others, rankings.expected_of_ensembles), (None, None, None));
}

#[test]
fn the_best_tenth_is_the_lowest_and_at_least_one() {
    let scores: Vec<f64> = (0..21).map(|i| f64::from((i * 8) % 21)).collect();
    let found: Vec<f64> = best_tenth(&scores).into_iter().map(|i| scores[i]).collect();
    assert_eq!(found, [0.0, 1.0, 2.0]);
    assert_eq!(best_tenth(&[5.0, 5.0, 6.0]), [0]);
}

#[test]
fn a_wider_space_holds_the_same_architectures_with_the_same_generated_weights() {
    for space in [Space::small(), Space::v1()] {
        let wide = widened(&space, 4).unwrap();
        assert_eq!(wide.n_max, 4 * space.n_max);
        let mut rng = Rng::new(1, Stream::Arch);
        for _ in 0..20 {
            let arch = sample(&space, &SampleLimits::full(&space), &mut rng);
            let moved = Architecture::new(wide.clone(), arch.blocks.clone());
            moved.validate().unwrap();
            let generated = crate::nas::capacity::generated_weights;
            assert_eq!(generated(&moved), generated(&arch));
        }
    }
    let message = widened(&Space::small(), 1000).unwrap_err().to_string();
    assert!(message.starts_with("--wide: 1000 is too much: space.n_max"), "{message}");
}

#[test]
fn a_crippled_hypernet_is_a_small_one_of_as_many_blocks() {
    let mut config = RunConfig::preset(crate::cli::Preset::Small);
    let blocks = config.hyper.layers.len();
    cripple(&mut config);
    assert_eq!((config.hyper.layers.len(), config.hyper.layers.iter().sum::<usize>()), (blocks, blocks));
    config.validate().unwrap();
}
