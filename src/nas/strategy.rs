//! The search over architectures with a trained SMASH network (Brock et al. 2018, appendix C):
//! random draws, then perturbations of the best of them, then a Markov chain that starts from the
//! best so far and accepts only a better score.
//!
//! A [`Search`] proposes, its caller scores and reports; nothing is evaluated here. Its state is
//! plain data with a position in a random stream, so a search that is saved (any serde format)
//! and loaded goes on exactly as it would have. Lower scores are better (validation error).

use serde::{Deserialize, Deserializer, Serialize};

use super::arch::Architecture;
use super::perturb::perturb;
use super::sample::{SampleLimits, sample};
use super::space::Space;
use crate::rng::{Rng, Stream};
use crate::{Error, Result};

/// How many candidates of each kind, and how much a perturbation changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    /// Random architectures.
    pub random: usize,
    /// Perturbations of the best random one.
    pub perturb: usize,
    /// Steps of the Markov chain.
    pub markov: usize,
    /// Probability that one element of an architecture is redrawn.
    pub probability: f64,
    /// Training batches on which BatchNorm statistics are re-estimated before each score; 0 keeps those of the training.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub calibrate_bn: usize,
    /// How perturbations are chosen.
    #[serde(default, skip_serializing_if = "Strategy::is_default")]
    pub strategy: Strategy,
}

/// How perturbations are chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// At random.
    #[default]
    Random,
    /// At random, and once more by what dE/dc predicts of them, at the same cost.
    Gradient,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Strategy {
    /// As it was before there was a choice.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for SearchConfig {
    fn default() -> Self {
        let strategy = Strategy::Random;
        Self { random: 500, perturb: 100, markov: 100, probability: 0.05, calibrate_bn: 0, strategy }
    }
}

/// Where a candidate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Drawn from the whole space.
    Random,
    /// The best random architecture, perturbed.
    Perturb {
        /// Index of the candidate that was changed.
        of: usize,
    },
    /// The Markov chain's state, perturbed.
    Markov {
        /// Index of the candidate that was changed.
        of: usize,
    },
    /// The best random architecture, perturbed as its gradient suggests (`guided.rs`).
    Gradient {
        /// Index of the candidate that was changed.
        of: usize,
    },
    /// The state of a Markov chain, perturbed as its gradient suggests.
    #[serde(rename = "gradient-markov")]
    GradientMarkov {
        /// Index of the candidate that was changed.
        of: usize,
    },
}

impl Origin {
    /// Index of the candidate that was changed; none of what was drawn at random.
    pub fn parent(self) -> Option<usize> {
        match self {
            Self::Random => None,
            Self::Perturb { of } | Self::Markov { of } | Self::Gradient { of } | Self::GradientMarkov { of } => {
                Some(of)
            }
        }
    }
}

/// An architecture to score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proposal {
    /// 0, 1, ... in the order proposed.
    pub index: usize,
    /// Where it comes from.
    pub origin: Origin,
    /// What to score.
    #[serde(deserialize_with = "valid_architecture")]
    pub arch: Architecture,
}

/// The best candidate so far. `score` is `None` when only scores that are not finite were reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Index of its proposal.
    pub index: usize,
    /// Validation error, or `None`, which is worse than any number.
    pub score: Option<f64>,
    /// The architecture.
    #[serde(deserialize_with = "valid_architecture")]
    pub arch: Architecture,
}

impl Best {
    /// A candidate with its score; one that is not finite is worse than any other.
    pub(super) fn new(index: usize, score: f64, arch: Architecture) -> Self {
        Self { index, score: score.is_finite().then_some(score), arch }
    }

    /// Is its score the lower one?
    pub(super) fn beats(&self, other: &Self) -> bool {
        match (self.score, other.score) {
            (Some(score), Some(other)) => score < other,
            (score, other) => score.is_some() && other.is_none(),
        }
    }
}

/// A search under way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Search {
    #[serde(deserialize_with = "valid_space")]
    space: Space,
    config: SearchConfig,
    #[serde(with = "stream_position")]
    rng: Rng,
    /// Index of the next proposal.
    next: usize,
    /// Proposed and not yet reported.
    pending: Option<Proposal>,
    /// What is perturbed after the random phase: the best random architecture.
    base: Option<Best>,
    /// Best of all; after the random phases also the state of the Markov chain, which starts from
    /// the best and moves only to a better one.
    best: Option<Best>,
}

impl Search {
    /// A search in `space`; the same seed and scores give the same proposals.
    ///
    /// # Errors
    /// [`Error::Config`] when the space is not valid, nothing random is drawn, or the probability
    /// is not one.
    pub fn new(space: Space, config: SearchConfig, seed: u64) -> Result<Self> {
        space.validate()?;
        if config.random == 0 {
            return Err(Error::config(
                "search.random",
                "must be at least 1: everything else starts from the best of them",
            ));
        }
        if !(0.0..=1.0).contains(&config.probability) {
            return Err(Error::config("search.probability", format!("{} is outside 0 to 1", config.probability)));
        }
        let rng = Rng::new(seed, Stream::Search);
        Ok(Self { space, config, rng, next: 0, pending: None, base: None, best: None })
    }

    /// The space it searches.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// What it was started with.
    pub fn config(&self) -> SearchConfig {
        self.config
    }

    /// Candidates of the whole search.
    pub fn total(&self) -> usize {
        self.config.random + self.config.perturb + self.config.markov
    }

    /// The next architecture to score, or `None` when the search is over. Until its score is
    /// reported the same one is returned again, also after the search was saved and loaded.
    pub fn propose(&mut self) -> Option<Proposal> {
        if self.pending.is_none() {
            self.pending = self.draw();
        }
        self.pending.clone()
    }

    fn draw(&mut self) -> Option<Proposal> {
        let SearchConfig { random, perturb: perturbed, probability, .. } = self.config;
        let index = self.next;
        if index >= self.total() {
            return None;
        }
        let (origin, arch) = if index < random {
            (Origin::Random, sample(&self.space, &SampleLimits::full(&self.space), &mut self.rng))
        } else if index < random + perturbed {
            let base = self.base.as_ref()?;
            (Origin::Perturb { of: base.index }, perturb(&base.arch, probability, &mut self.rng))
        } else {
            let state = self.best.as_ref()?;
            (Origin::Markov { of: state.index }, perturb(&state.arch, probability, &mut self.rng))
        };
        self.next += 1;
        Some(Proposal { index, origin, arch })
    }

    /// Reports the score (validation error, lower is better) of the proposal last returned. A
    /// score that is not finite is worse than any other. Without a proposal nothing happens.
    pub fn report(&mut self, score: f64) {
        let Some(Proposal { index, origin, arch }) = self.pending.take() else { return };
        let found = Best::new(index, score, arch);
        if self.best.as_ref().is_none_or(|best| found.beats(best)) {
            self.best = Some(found);
            if origin == Origin::Random {
                self.base = self.best.clone();
            }
        }
    }

    /// The best random architecture, which perturbations start from; none before there is one.
    pub fn base(&self) -> Option<&Best> {
        self.base.as_ref()
    }

    /// The best candidate reported so far.
    pub fn best(&self) -> Option<&Best> {
        self.best.as_ref()
    }
}

/// Drawing relies on a valid space, so a file's is checked when it is loaded.
fn valid_space<'de, D: Deserializer<'de>>(from: D) -> Result<Space, D::Error> {
    let space = Space::deserialize(from)?;
    space.validate().map_err(serde::de::Error::custom)?;
    Ok(space)
}

/// Perturbing relies on a valid architecture, so a file's are checked when they are loaded.
fn valid_architecture<'de, D: Deserializer<'de>>(from: D) -> Result<Architecture, D::Error> {
    let arch = Architecture::deserialize(from)?;
    arch.validate().map_err(serde::de::Error::custom)?;
    Ok(arch)
}

/// Serialises a random stream as its position.
pub(super) mod stream_position {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::rng::{Rng, RngState};

    pub fn serialize<S: Serializer>(rng: &Rng, to: S) -> Result<S::Ok, S::Error> {
        rng.state().serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rng, D::Error> {
        let state = RngState::deserialize(from)?;
        Rng::restore(&state).ok_or_else(|| serde::de::Error::custom("the random stream's position is not a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: SearchConfig = SearchConfig {
        random: 20,
        perturb: 10,
        markov: 15,
        probability: 0.2,
        calibrate_bn: 0,
        strategy: Strategy::Random,
    };

    fn search() -> Search {
        Search::new(Space::fixture(), CONFIG, 11).unwrap()
    }

    /// A score that is a pure function of the architecture: pseudo-random from its name.
    fn score(arch: &Architecture) -> f64 {
        u32::from_str_radix(&arch.id()[..6], 16).unwrap() as f64
    }

    fn step(search: &mut Search) -> Option<Proposal> {
        let proposal = search.propose()?;
        search.report(score(&proposal.arch));
        Some(proposal)
    }

    fn reload(search: &Search) -> Search {
        serde_json::from_str(&serde_json::to_string(search).unwrap()).unwrap()
    }

    #[test]
    fn a_search_saved_anywhere_continues_exactly() {
        let mut whole = search();
        let expected: Vec<Proposal> = std::iter::from_fn(|| step(&mut whole)).collect();
        assert_eq!(expected.len(), 45);
        for stop in [0, 7, 20, 25, 33, 45] {
            let mut first = search();
            let mut seen: Vec<Proposal> = (0..stop).map(|_| step(&mut first).unwrap()).collect();
            let mut second = reload(&first);
            seen.extend(std::iter::from_fn(|| step(&mut second)));
            assert_eq!(seen, expected, "stopped after {stop}");
            assert_eq!(second.best(), whole.best());
        }
    }

    #[test]
    fn an_unreported_proposal_is_proposed_again() {
        let mut search = search();
        let first = search.propose().unwrap();
        assert_eq!(search.propose().unwrap(), first);
        assert_eq!(reload(&search).propose().unwrap(), first);
        search.report(1.0);
        assert_eq!(search.propose().unwrap().index, 1);
    }

    #[test]
    fn phases_follow_each_other_with_their_origins() {
        let mut search = search();
        let mut scores: Vec<f64> = Vec::new();
        let best_of = |scores: &[f64]| {
            let best = scores.iter().copied().fold(f64::INFINITY, f64::min);
            scores.iter().position(|&s| s == best).unwrap()
        };
        for index in 0..45 {
            let proposal = search.propose().unwrap();
            assert_eq!(proposal.index, index);
            proposal.arch.validate().unwrap();
            let expected = match index {
                0..20 => Origin::Random,
                20..30 => Origin::Perturb { of: best_of(&scores[..20]) },
                _ => Origin::Markov { of: best_of(&scores) },
            };
            assert_eq!(proposal.origin, expected, "candidate {index}");
            scores.push(score(&proposal.arch));
            search.report(scores[index]);
        }
        assert!(search.propose().is_none());
        assert_eq!(search.best().unwrap().index, best_of(&scores));
    }

    #[test]
    fn the_markov_chain_moves_only_to_a_better_score() {
        let mut search = search();
        for _ in 0..30 {
            search.propose().unwrap();
            search.report(50.0);
        }
        // Ties keep the first; then worse, equal, better, not finite, worse.
        let state = |search: &mut Search, score: f64| {
            let Origin::Markov { of } = search.propose().unwrap().origin else { panic!("not the chain") };
            search.report(score);
            of
        };
        let states: Vec<usize> =
            [51.0, 50.0, 49.0, f64::NEG_INFINITY, 49.5].map(|score| state(&mut search, score)).to_vec();
        assert_eq!(states, [0, 0, 0, 32, 32]);
        assert_eq!(search.best().unwrap().score, Some(49.0));
    }

    #[test]
    fn scores_that_are_not_finite_are_worst() {
        for saved in [false, true] {
            let mut search = search();
            for score in [f64::NAN, f64::INFINITY, 99.0, f64::NAN, f64::NEG_INFINITY] {
                search.propose().unwrap();
                search.report(score);
                if saved {
                    search = reload(&search);
                }
            }
            assert_eq!((search.best().unwrap().index, search.best().unwrap().score), (2, Some(99.0)));
        }
    }

    #[test]
    fn a_search_whose_scores_all_fail_still_ends() {
        let mut search = search();
        let mut count = 0;
        while search.propose().is_some() {
            search.report(f64::NAN);
            count += 1;
        }
        assert_eq!((count, search.best().unwrap().index), (45, 0));
    }

    #[test]
    fn a_damaged_state_is_refused_when_loaded() {
        let mut search = search();
        step(&mut search);
        let good = serde_json::to_string(&search).unwrap();
        for (from, to, message) in [
            ("\"widening\":2", "\"widening\":0", "space.widening"),
            ("\"width\":", "\"width\":1000", "].width: width 1000"),
            ("\"word_pos\":\"", "\"word_pos\":\"x", "position is not a number"),
        ] {
            let damaged = serde_json::from_str::<Search>(&good.replacen(from, to, 1));
            let said = damaged.unwrap_err().to_string();
            assert!(said.contains(message), "{message}: {said}");
        }
    }

    #[test]
    fn unusable_settings_are_named() {
        for (name, config) in [
            ("search.random", SearchConfig { random: 0, ..CONFIG }),
            ("search.probability", SearchConfig { probability: f64::NAN, ..CONFIG }),
            ("search.probability", SearchConfig { probability: 1.5, ..CONFIG }),
        ] {
            match Search::new(Space::fixture(), config, 1) {
                Err(Error::Config { name: found, .. }) => assert_eq!(found, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
