//! Stage 2: score architectures with the trained SMASH network.

use crate::backend::Context;
use crate::checkpoint::{self, write_atomic};
use crate::cli::{GlobalArgs, RunArgs};
use crate::commands::guided::{self, Comparison, compare, gradient_batch, validation_gradient};
use crate::commands::interrupt::interrupted;
use crate::commands::job::{Directory, Job, refuse_differences, remove};
use crate::commands::output::print_result;
use crate::commands::publish::remove_outcome;
use crate::commands::timing::Timing;
use crate::commands::train::{identity, network};
use crate::commands::training::Reached;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::nas::arch::Architecture;
use crate::nas::cost::cost;
use crate::nas::encode::Encoding;
use crate::nas::gradient::plan_gradient;
use crate::nas::guided::{Guess, Guided};
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::score::{calibrated_score, score_with_encoding};
use crate::nas::smash::SmashNetwork;
use crate::nas::strategy::{Origin, Proposal, Search, Strategy};
use crate::nas::train::{Batch, Drawn, Outcome, plan_evaluation};
use crate::report::{JsonLines, Progress, count, write_json};
use crate::rng::{Rng, Stream};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A scored architecture: one line of `archs.jsonl` and `ranking.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Place in the search, from 0.
    pub index: usize,
    /// Where it came from.
    pub origin: Origin,
    /// Name of the architecture.
    pub id: String,
    /// SMASH score: error on the validation images with generated weights, in percent.
    pub val_err: f64,
    /// Mean loss on the validation images with generated weights; none if it is not a number.
    pub val_loss: Option<f64>,
    /// What dE/dc predicted of `val_loss` above that of the candidate it was made from; of perturbations by gradient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<f64>,
    /// Parameters of the resulting network.
    pub params: u64,
    /// Multiply-accumulates of the resulting network per image.
    pub macs: u64,
    /// The architecture, from which its encoding follows.
    pub arch: Architecture,
}

/// Where a search stands: `ckpt/search.json`.
#[derive(Serialize, Deserialize)]
struct State {
    search: Search,
    /// Its second half, of `--strategy gradient`; none before it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guided: Option<Guided>,
    /// Bytes of archs.jsonl that belong to the reported candidates.
    archs_len: u64,
    done: u64,
}

/// `smash-engine search`.
///
/// # Errors
/// As [`stage`]; [`Error::Config`] when the directory holds a search already.
pub fn run(args: &RunArgs, global: &GlobalArgs) -> Result<()> {
    if args.profile_steps.is_some() {
        return Err(Error::config("--profile-steps", "search trains nothing; it is for run, train and retrain"));
    }
    let job = Job::open(args, global, Directory::Existing)?;
    job.check_smash()?;
    let state = job.path("ckpt/search.json");
    if state.is_file() && !args.overwrite {
        if !args.resume {
            let message =
                format!("{} already holds a search; --resume continues it, --overwrite repeats it", job.dir.display());
            return Err(Error::config("--out", message));
        }
        saved(&job)?;
    }
    job.begin()?;
    if args.overwrite {
        // The ranking first: without it the rest is a search to be continued, or started.
        for name in ["ranking.jsonl", guided::FILE, "ckpt/search.json", "archs.jsonl"] {
            remove(&job.path(name))?;
        }
        remove_outcome(&job.dir)?;
    }
    let ranking = stage(&job)?;
    let best = &ranking[0];
    let mut text = format!("{} architectures scored\n{}", ranking.len(), table(&ranking, 10));
    let mut record = serde_json::json!({ "dir": job.dir, "scored": ranking.len(), "best": best });
    if let Some(comparison) = comparison(&job)? {
        text += &format!("\n{}", guided::text(&comparison));
        record["gradient"] = serde_json::json!(comparison);
    }
    print_result(global, &record, &text)
}

/// What a finished search with `--strategy gradient` says of it; none of any other search.
///
/// # Errors
/// [`Error::Io`]; [`Error::Data`] when the file is damaged.
pub fn comparison(job: &Job) -> Result<Option<Comparison>> {
    let path = job.path(guided::FILE);
    if job.config.search.strategy != Strategy::Gradient {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let damaged = |e| Error::data(&path, format!("is damaged ({e}); repeat the search with --overwrite"));
    serde_json::from_slice(&bytes).map(Some).map_err(damaged)
}

/// The best `rows` of a ranking as a table.
pub fn table(ranking: &[Candidate], rows: usize) -> String {
    let mut text =
        format!("{:>6}  {:12}  {:>8}  {:>8}  {:>8}  origin\n", "rank", "architecture", "val_err", "params", "MACs");
    for (i, c) in ranking.iter().take(rows).enumerate() {
        let origin = match c.origin {
            Origin::Random => "random".to_string(),
            Origin::Perturb { of } => format!("perturbation of #{of}"),
            Origin::Markov { of } => format!("chain from #{of}"),
            Origin::Gradient { of } => format!("perturbation of #{of} by gradient"),
            Origin::GradientMarkov { of } => format!("chain from #{of} by gradient"),
        };
        text += &format!(
            "{:>6}  {:12}  {:>7.2}%  {:>8}  {:>8}  {origin}\n",
            i + 1,
            c.id,
            c.val_err,
            count(c.params),
            count(c.macs)
        );
    }
    text
}

/// The checkpoint of the run's SMASH network.
///
/// # Errors
/// [`Error::Config`] when there is none.
pub fn smash_checkpoint(job: &Job) -> Result<PathBuf> {
    let path = job.path("ckpt/smash.safetensors");
    if path.is_file() {
        return Ok(path);
    }
    let message = format!("{} holds no SMASH network; `smash-engine train` makes one", job.dir.display());
    Err(Error::config("--out", message))
}

/// Checks that the run has a SMASH network that is trained to its end, without loading it.
///
/// # Errors
/// As [`load_smash`].
pub fn trained_smash(job: &Job) -> Result<()> {
    demand_trained(job, &checkpoint::peek(&smash_checkpoint(job)?)?)
}

fn demand_trained(job: &Job, reached: &Reached) -> Result<()> {
    reached.demand_end(job, "a SMASH network", "train")
}

/// A SMASH network with its trained parameters in a context ready for scoring.
///
/// # Errors
/// [`Error::Config`] when there is none; [`Error::Checkpoint`] when it cannot be used.
pub fn load_smash(job: &Job) -> Result<(SmashNetwork, Context)> {
    let path = smash_checkpoint(job)?;
    let network = network(job);
    let mut rng = Rng::sub(job.config.seed, Stream::Search, 0);
    let limits = SampleLimits::full(&job.config.space);
    let shape = job.evaluation_shape();
    let kind = job.device.kind();
    let mut largest = 0;
    for _ in 0..100 {
        let arch = sample(&job.config.space, &limits, &mut rng);
        largest = largest.max(plan_evaluation(kind, &Drawn { network: &network, arch: &arch }, shape)?);
        if job.config.search.strategy == Strategy::Gradient {
            largest = largest.max(plan_gradient(kind, &network, &arch, job.batch_shape(gradient_batch(job)))?);
        }
    }
    let mut context = job.context(largest, 4)?;
    network.store().reserve(&mut context)?;
    let reached: Reached = checkpoint::load(&path, network.store(), &mut context, &identity(job))?;
    demand_trained(job, &reached)?;
    Ok((network, context))
}

/// The best architecture of a finished search; nothing is scored.
///
/// # Errors
/// [`Error::Config`] when there is none; whatever reading it reports.
pub fn winner(job: &Job) -> Result<Candidate> {
    let ranking = job.path("ranking.jsonl");
    if !ranking.is_file() {
        let message = format!(
            "{} holds no finished search; `smash-engine search` makes one, or name an architecture",
            job.dir.display()
        );
        return Err(Error::config("--out", message));
    }
    Ok(read(&ranking)?.swap_remove(0))
}

/// Runs the search, from its checkpoint if there is one; returns all candidates, best first.
///
/// # Errors
/// [`Error::Interrupted`] after saving; whatever scoring and files report.
pub fn stage(job: &Job) -> Result<Vec<Candidate>> {
    let archs = job.path("archs.jsonl");
    let ranking = job.path("ranking.jsonl");
    let saved = saved(job)?;
    if !ranking.is_file() {
        Timing::measure(job, "search", || score_all(job, &archs, saved))?;
        let mut candidates = read(&archs)?;
        // Equal scores: the cheaper one first, then the earlier one.
        candidates
            .sort_by(|a, b| a.val_err.total_cmp(&b.val_err).then(a.macs.cmp(&b.macs)).then(a.index.cmp(&b.index)));
        let lines: Vec<String> = candidates
            .iter()
            .map(serde_json::to_string)
            .collect::<Result<_, _>>()
            .map_err(|e| Error::Run(e.to_string()))?;
        write_atomic(&ranking, (lines.join("\n") + "\n").as_bytes())?;
    }
    read(&ranking)
}

/// The search of the run directory, if there is one.
fn saved(job: &Job) -> Result<Option<State>> {
    let path = job.path("ckpt/search.json");
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
    let state: State = serde_json::from_slice(&bytes)
        .map_err(|e| Error::checkpoint(&path, format!("is damaged ({e}); repeat the search with --overwrite")))?;
    let (space, search) = (state.search.space().clone(), state.search.config());
    refuse_differences(&path, &job.config.differences(&RunConfig { space, search, ..job.config.clone() }))?;
    Ok(Some(state))
}

fn score_all(job: &Job, archs: &Path, saved: Option<State>) -> Result<()> {
    let (network, mut context) = load_smash(job)?;
    let path = job.path("ckpt/search.json");
    let mut state = match saved {
        Some(state) => state,
        None => {
            let search = Search::new(job.config.space.clone(), job.config.search, job.config.seed)?;
            State { search, guided: None, archs_len: 0, done: 0 }
        }
    };
    let mut lines = JsonLines::open(archs, Some(state.archs_len))?;
    job.say(&format!("search: {}, {} validation images each", state.plan(), job.validation.len()));
    let mut progress = Progress::new(job.style, "search", state.passes(), state.total());
    let mut last_save = Instant::now();
    while let Some(guess) = state.propose(job, &network, &mut context)? {
        let candidate = score(job, &network, &mut context, guess)?;
        state.report(candidate.val_err);
        lines.write(&candidate)?;
        state.done += 1;
        progress.update(state.passes(), &format!("best val_err {:.2} %", state.best()));
        let signal = job.interrupted();
        let due = last_save.elapsed() >= Duration::from_secs(job.config.checkpoint_seconds);
        if due || signal.is_some() {
            state.archs_len = lines.sync()?;
            write_json(&path, &state)?;
            last_save = Instant::now();
        }
        if let Some(signal) = signal {
            progress.finish();
            return Err(interrupted(signal));
        }
    }
    state.archs_len = lines.sync()?;
    write_json(&path, &state)?;
    progress.finish();
    if job.config.search.strategy == Strategy::Gradient {
        let candidates = read(archs)?;
        let base = state.search.base().and_then(|base| candidates.iter().find(|c| c.index == base.index));
        if let Some(base) = base {
            let slope = validation_gradient(job, &network, &mut context, &base.arch)?;
            write_json(&job.path(guided::FILE), &compare(&candidates, base, &slope))?;
        }
    }
    Ok(())
}

/// Loss and errors of `arch` with generated weights, and with BatchNorm statistics as the settings of the search ask.
///
/// # Errors
/// As [`score_with_encoding`].
pub fn smash_outcome<'a>(
    job: &Job,
    network: &SmashNetwork,
    context: &mut Context,
    arch: &Architecture,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    outcome_with_encoding(job, network, context, arch, &network.encode(arch), batches)
}

/// The same with the weights that the HyperNet generates from `encoding`, which may be another than that of `arch`.
///
/// # Errors
/// As [`score_with_encoding`].
pub fn outcome_with_encoding<'a>(
    job: &Job,
    network: &SmashNetwork,
    context: &mut Context,
    arch: &Architecture,
    encoding: &Encoding,
    batches: impl Iterator<Item = Batch<'a>>,
) -> Result<Outcome> {
    if job.config.search.calibrate_bn == 0 {
        return score_with_encoding(context, network, arch, encoding, &job.gather, batches);
    }
    calibrated_score(context, network, arch, encoding, &job.gather, &job.calibration_batches()?, batches)
}

impl State {
    /// The next architecture to score: of the random search, then of the guided one if there is to be one.
    fn propose(&mut self, job: &Job, network: &SmashNetwork, context: &mut Context) -> Result<Option<Guess>> {
        if let Some(proposal) = self.search.propose() {
            return Ok(Some(Guess { proposal, predicted: None }));
        }
        let (config, first) = (self.search.config(), self.search.total());
        let Some(base) = self.search.base().filter(|_| config.strategy == Strategy::Gradient) else { return Ok(None) };
        let guided = self.guided.get_or_insert_with(|| Guided::new(base.clone(), config, first, job.config.seed));
        guided.propose(|arch| validation_gradient(job, network, context, arch))
    }

    fn report(&mut self, score: f64) {
        match &mut self.guided {
            Some(guided) => guided.report(score),
            None => self.search.report(score),
        }
    }

    /// The lowest score so far.
    fn best(&self) -> f64 {
        let guided = self.guided.as_ref().map(Guided::best);
        let scores = self.search.best().into_iter().chain(guided).filter_map(|best| best.score);
        scores.fold(f64::NAN, f64::min)
    }

    /// Passes over the validation images, taken and in all: one an architecture, more a gradient.
    fn passes(&self) -> u64 {
        self.done + self.guided.as_ref().map_or(0, Guided::gradient_passes) as u64
    }

    fn total(&self) -> u64 {
        (self.search.total() + self.guided_total()) as u64
    }

    fn guided_total(&self) -> usize {
        match self.search.config() {
            config if config.strategy == Strategy::Gradient => Guided::total(config),
            _ => 0,
        }
    }

    /// What is going to be scored.
    fn plan(&self) -> String {
        let text = format!("{} architectures", self.search.total());
        match self.guided_total() {
            0 => text,
            passes => format!("{text}, then as many by gradient as {passes} passes pay for"),
        }
    }
}

fn score(job: &Job, network: &SmashNetwork, context: &mut Context, guess: Guess) -> Result<Candidate> {
    let Guess { proposal: Proposal { index, origin, arch }, predicted } = guess;
    let outcome = smash_outcome(job, network, context, &arch, job.validation_batches())?;
    let cost = cost(&arch, &job.shape);
    Ok(Candidate {
        index,
        origin,
        id: arch.id(),
        val_err: outcome.percent(),
        val_loss: outcome.finite_loss(),
        predicted,
        params: cost.params,
        macs: cost.macs,
        arch,
    })
}

/// Reads candidates, one per line.
fn read(path: &Path) -> Result<Vec<Candidate>> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let parse = |(i, line): (usize, &[u8])| {
        let wrong = |e: &dyn std::fmt::Display| {
            Error::data(path, format!("line {}: {e}; repeat the search with --overwrite", i + 1))
        };
        let candidate: Candidate = serde_json::from_slice(line).map_err(|e| wrong(&e))?;
        candidate.arch.validate().map_err(|e| wrong(&e))?;
        Ok(candidate)
    };
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let candidates: Vec<Candidate> = lines.enumerate().map(parse).collect::<Result<_>>()?;
    if candidates.is_empty() {
        return Err(Error::data(path, "holds no architecture; repeat the search with --overwrite"));
    }
    Ok(candidates)
}
