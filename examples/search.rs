//! Defines a search space, trains a SMASH network on it, searches in two ways, and trains what was found.
//!
//!     cargo run --release --example search [DIR]
//!
//! The images are the embedded ones, at a quarter of their size, and everything is as small as it can be: this shows how the
//! parts are put together in a few seconds, not what they find. DIR [default: a temporary folder] is a run directory
//! like that of `smash-engine run`: started again, the example goes on where it was stopped.

use smash_engine::nas::describe;
use smash_engine::nas::perturb::perturb;
use smash_engine::rng::{Rng, Stream};
use smash_engine::{Architecture, Preset, Result, Run, RunConfig, Scorer, Setup, Space};
use std::path::PathBuf;

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).map_or_else(temporary, PathBuf::from);
    let run = Run::create(settings(), &dir, &Setup { device: "cpu".into(), ..Setup::default() })?;
    let (images, shape) = (run.dataset(), run.shape());
    println!("{}: {} images of {} classes", images.name, images.train.len(), shape.classes);

    // 1. One network that generates weights for every architecture of the space.
    run.train()?;

    // 2. A search: random architectures, then changes of the best. It scores with generated weights; nothing is trained.
    let ranking = run.search()?;
    println!("\n{} architectures scored, best first:", ranking.len());
    for candidate in ranking.iter().take(3) {
        println!("  {}  val_err {:5.2} %  {:6} parameters", candidate.id, candidate.val_err, candidate.params);
    }

    // 3. A search of one's own: anything that asks for scores will do.
    let start = ranking[0].arch.clone();
    let (found, score) = climb(&mut run.scorer()?, start, 10)?;
    println!("\n10 steps uphill from there: {} with val_err {score:.2} %", found.id());
    print!("\n{}", describe::table(&found, shape));

    // 4. The architecture as a network of its own, trained from scratch, and on the test images for the first time.
    let trained = run.retrain(&found)?;
    println!("\ntrained from scratch: test_err {:.2} % of {} images", trained.test_err, trained.test_images);

    // 5. As files that other programs run, and the example `predict`.
    println!("exported to {}", run.export(&found)?.display());
    Ok(())
}

/// A space of one's own, and what differs from the preset.
fn settings() -> RunConfig {
    let space = Space {
        unit: 4,            // channels are counted in fours
        n_max: 8,           // at most 8 channels an op
        kernels: vec![3],   // filters of the ops
        groups: vec![1, 2], // their groups
        max_bank_size: 2,   // banks of 4 or 8 channels
        depth: 3,           // about so many layers in each of the three blocks
        ..Space::small()
    };
    let mut config = RunConfig { space, ..RunConfig::preset(Preset::Small) };
    (config.data.image_size, config.data.size) = (Some(12), Some(12));
    (config.smash.epochs, config.smash.lr) = (1, 3e-3);
    (config.search.random, config.search.perturb, config.search.markov) = (10, 5, 5);
    config.retrain.epochs = 1;
    config
}

/// Goes from architecture to architecture, each a small change of the one before, as long as scores get better.
fn climb(scorer: &mut Scorer<'_>, start: Architecture, steps: usize) -> Result<(Architecture, f64)> {
    let mut rng = Rng::new(1, Stream::Search);
    let mut best = scorer.score(&start)?.percent();
    let mut at = start;
    for _ in 0..steps {
        let next = perturb(&at, 0.1, &mut rng);
        let score = scorer.score(&next)?.percent();
        if score < best {
            (at, best) = (next, score);
        }
    }
    Ok((at, best))
}

fn temporary() -> PathBuf {
    std::env::temp_dir().join(format!("smash-engine-search-{}", std::process::id()))
}
