//! Perturbations chosen by the architectural gradient (Brock et al. 2018, section 4.2): the second half of a search
//! with `--strategy gradient`, after its random one.
//!
//! ```text
//! DRAWS perturbations a' of a, as a random search draws them        costs no image
//! predicted change <dE/dc, c(a') - c(a)> of each                     costs no image
//! the one predicted to be best is scored                             costs 1 pass over the validation images
//! a gradient, for each architecture that is perturbed                costs COST passes
//! ```
//!
//! The paper names no update rule for the discrete space; this one keeps every constraint of it, because it only
//! chooses among what [`perturb`] draws. Two phases as in [`super::strategy`]: perturbations of the best random
//! architecture, then a Markov chain. Each has as many passes as the random search has candidates, and what a phase
//! cannot spend goes to the next. The state is plain data but for the gradient, which is computed again on loading.

use serde::{Deserialize, Serialize};

use super::arch::Architecture;
use super::gradient::{COST, Gradient};
use super::perturb::perturb;
use super::strategy::{Best, Origin, Proposal, SearchConfig, stream_position};
use crate::Result;
use crate::rng::{Rng, Stream};

/// Perturbations drawn for each one that is scored.
pub const DRAWS: usize = 100;

/// An architecture to score, and what its loss is predicted to be above that of the one it was made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guess {
    /// What to score.
    pub proposal: Proposal,
    /// The first-order change of the loss; none where that is not finite.
    pub predicted: Option<f64>,
}

/// A guided search under way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Guided {
    config: SearchConfig,
    #[serde(with = "stream_position")]
    rng: Rng,
    /// Index of the next proposal.
    next: usize,
    /// Proposed and not yet reported.
    pending: Option<Guess>,
    /// What is perturbed.
    state: Best,
    /// Best of all: the random architecture it started from, or a guided one.
    best: Best,
    /// In its second phase, the Markov chain.
    chain: bool,
    /// Passes over the validation images that the phase may still take.
    left: usize,
    /// Index of the candidate whose gradient is paid for.
    paid: Option<usize>,
    /// Passes that gradients took.
    gradient_passes: usize,
    #[serde(skip)]
    gradient: Option<Gradient>,
}

impl Guided {
    /// A search from `base`, the best random architecture; its first candidate has the index `first`.
    pub fn new(base: Best, config: SearchConfig, first: usize, seed: u64) -> Self {
        Self {
            config,
            // Sub-stream 0 plans the memory of a search, 1 draws the architectures of an experiment.
            rng: Rng::sub(seed, Stream::Search, 2),
            next: first,
            pending: None,
            state: base.clone(),
            best: base,
            chain: false,
            left: config.perturb,
            paid: None,
            gradient_passes: 0,
            gradient: None,
        }
    }

    /// Passes that may be taken in all.
    pub fn total(config: SearchConfig) -> usize {
        config.perturb + config.markov
    }

    /// Passes that gradients took.
    pub fn gradient_passes(&self) -> usize {
        self.gradient_passes
    }

    /// The best candidate so far.
    pub fn best(&self) -> &Best {
        &self.best
    }

    /// The next architecture to score, or `None` when another would exceed the budget. Until its score is reported
    /// the same one is returned again. `slope` computes the gradient of an architecture when a new one is needed.
    ///
    /// # Errors
    /// Whatever `slope` reports.
    pub fn propose(&mut self, slope: impl FnOnce(&Architecture) -> Result<Gradient>) -> Result<Option<Guess>> {
        if self.pending.is_none() {
            self.pending = self.draw(slope)?;
        }
        Ok(self.pending.clone())
    }

    /// Passes that the next proposal takes.
    fn price(&self) -> usize {
        1 + if self.paid == Some(self.state.index) { 0 } else { COST }
    }

    fn draw(&mut self, slope: impl FnOnce(&Architecture) -> Result<Gradient>) -> Result<Option<Guess>> {
        if !self.chain && self.left < self.price() {
            self.chain = true;
            self.left += self.config.markov;
            self.state = self.best.clone();
        }
        if self.left < self.price() {
            return Ok(None);
        }
        let gradient = match self.gradient.take() {
            Some(known) if known.architecture() == &self.state.arch => known,
            _ => slope(&self.state.arch)?,
        };
        let (change, arch) = most_promising(&gradient, self.config.probability, &mut self.rng);
        self.gradient = Some(gradient);
        self.left -= self.price();
        self.gradient_passes += self.price() - 1;
        self.paid = Some(self.state.index);
        let (index, of) = (self.next, self.state.index);
        self.next += 1;
        let origin = if self.chain { Origin::GradientMarkov { of } } else { Origin::Gradient { of } };
        let predicted = Some(change).filter(|change| change.is_finite());
        Ok(Some(Guess { proposal: Proposal { index, origin, arch }, predicted }))
    }

    /// Reports the score of the proposal last returned, as [`super::strategy::Search::report`].
    pub fn report(&mut self, score: f64) {
        let Some(Guess { proposal: Proposal { index, arch, .. }, .. }) = self.pending.take() else { return };
        let found = Best::new(index, score, arch);
        if found.beats(&self.best) {
            self.best = found;
            if self.chain {
                self.state = self.best.clone();
            }
        }
    }
}

/// Of [`DRAWS`] perturbations the one with the lowest predicted change; one that changes nothing only if all do.
fn most_promising(gradient: &Gradient, probability: f64, rng: &mut Rng) -> (f64, Architecture) {
    let base = gradient.architecture();
    let mut best: Option<(f64, Architecture)> = None;
    for _ in 0..DRAWS {
        let arch = perturb(base, probability, rng);
        if arch == *base {
            continue;
        }
        let change = Some(gradient.change(&arch)).filter(|change| change.is_finite()).unwrap_or(f64::INFINITY);
        if best.as_ref().is_none_or(|(lowest, _)| change < *lowest) {
            best = Some((change, arch));
        }
    }
    best.unwrap_or_else(|| (0.0, base.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nas::sample::{SampleLimits, sample};
    use crate::nas::space::Space;
    use crate::nas::strategy::Strategy;

    const CONFIG: SearchConfig = SearchConfig {
        random: 20,
        perturb: 10,
        markov: 21,
        probability: 0.1,
        calibrate_bn: 0,
        strategy: Strategy::Gradient,
    };

    fn base() -> Best {
        let space = Space::fixture();
        let arch = sample(&space, &SampleLimits::full(&space), &mut Rng::new(7, Stream::Arch));
        Best::new(3, score(&arch), arch)
    }

    fn guided(config: SearchConfig) -> Guided {
        seeded(config, 11)
    }

    fn seeded(config: SearchConfig, seed: u64) -> Guided {
        Guided::new(base(), config, 51, seed)
    }

    /// A score that is a pure function of the architecture: pseudo-random from its name.
    fn score(arch: &Architecture) -> f64 {
        (arch.number() >> 24) as f64
    }

    fn slope(arch: &Architecture) -> Result<Gradient> {
        Ok(Gradient::random(arch))
    }

    fn step(guided: &mut Guided) -> Option<Guess> {
        let guess = guided.propose(slope).unwrap()?;
        guided.report(score(&guess.proposal.arch));
        Some(guess)
    }

    #[test]
    fn a_search_saved_anywhere_continues_exactly() {
        let mut whole = guided(CONFIG);
        let expected: Vec<Guess> = std::iter::from_fn(|| step(&mut whole)).collect();
        for stop in 0..=expected.len() {
            let mut first = guided(CONFIG);
            let mut seen: Vec<Guess> = (0..stop).map(|_| step(&mut first).unwrap()).collect();
            // Proposed, not reported, saved.
            first.propose(slope).unwrap();
            let mut second: Guided = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
            seen.extend(std::iter::from_fn(|| step(&mut second)));
            assert_eq!(seen, expected, "stopped after {stop}");
            assert_eq!((second.best(), second.gradient_passes), (whole.best(), whole.gradient_passes));
        }
    }

    #[test]
    fn gradients_and_scores_share_the_passes_of_a_random_search() {
        for (perturb, markov) in [(10, 21), (0, 21), (3, 1), (3, 0), (4, 0), (0, 0), (40, 40)] {
            let mut guided = guided(SearchConfig { perturb, markov, ..CONFIG });
            let (mut asked, mut scored) = (0, 0);
            loop {
                let guess = guided.propose(|arch| {
                    asked += 1;
                    slope(arch)
                });
                let Some(guess) = guess.unwrap() else { break };
                guided.report(score(&guess.proposal.arch));
                scored += 1;
            }
            let (passes, budget) = (scored + COST * asked, perturb + markov);
            assert!(passes <= budget && budget - passes <= COST, "{passes} of {budget}");
            assert_eq!(guided.gradient_passes(), COST * asked);
        }
    }

    #[test]
    fn phases_follow_each_other_and_the_chain_moves_only_to_better_ones() {
        let moved = (0..10).filter(|&seed| phases(seeded(CONFIG, seed))).count();
        assert!(moved > 0, "some chain moves");
    }

    /// Goes through a search; does its chain move?
    fn phases(mut guided: Guided) -> bool {
        let mut best = (base().index, base().score.unwrap());
        let mut origins = Vec::new();
        for index in 51.. {
            let Some(Guess { proposal, .. }) = step(&mut guided) else { break };
            assert_eq!(proposal.index, index);
            proposal.arch.validate().unwrap();
            match proposal.origin {
                Origin::Gradient { of } => assert_eq!(of, 3),
                Origin::GradientMarkov { of } => assert_eq!(of, best.0),
                other => panic!("{other:?}"),
            }
            origins.push(proposal.origin);
            let found = score(&proposal.arch);
            if found < best.1 {
                best = (index, found);
            }
        }
        assert_eq!(guided.best().index, best.0);
        let chained = origins.iter().position(|o| matches!(o, Origin::GradientMarkov { .. })).unwrap();
        assert_eq!(chained, 7, "10 passes are a gradient and 7 scores");
        origins[chained..].windows(2).any(|o| o[0] != o[1])
    }

    #[test]
    fn the_best_predicted_of_many_perturbations_is_proposed() {
        let base = base();
        let gradient = Gradient::random(&base.arch);
        let Guess { proposal, predicted } = guided(CONFIG).propose(slope).unwrap().unwrap();
        assert_eq!(predicted, Some(gradient.change(&proposal.arch)));
        let mut rng = Rng::new(5, Stream::Search);
        let mut changes = (0..DRAWS).map(|_| gradient.change(&perturb(&base.arch, 0.1, &mut rng)));
        let better = changes.by_ref().filter(|&change| change < predicted.unwrap()).count();
        assert!(better <= 5, "{better} of {DRAWS} others are better");
    }

    #[test]
    fn what_changes_nothing_is_proposed_only_when_nothing_changes() {
        let same = guided(SearchConfig { probability: 0.0, ..CONFIG }).propose(slope).unwrap().unwrap();
        assert_eq!((same.proposal.arch, same.predicted), (base().arch, Some(0.0)));
        // Some of the draws change nothing here, and all that change something are predicted to be worse, unless they
        // gain columns, which are thought to be like their neighbours.
        let rare = SearchConfig { probability: 0.002, ..CONFIG };
        let guesses =
            (0..40).map(|seed| seeded(rare, seed).propose(|arch| Ok(Gradient::content(arch))).unwrap().unwrap());
        let worse: Vec<Guess> = guesses.filter(|guess| guess.predicted.unwrap() > 0.0).collect();
        assert!(!worse.is_empty(), "searches with columns to gain are not all");
        assert!(worse.iter().all(|guess| guess.proposal.arch != base().arch));
    }
}
