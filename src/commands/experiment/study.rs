//! What all experiments share: SMASH networks, scores and trainings from scratch, each kept where it can be continued.
//!
//! | in the experiment's directory | what |
//! |---|---|
//! | `smash/NAME/` | a SMASH network: a run directory of its own, for `eval` and `search` |
//! | `scores/NAME.jsonl` | scores, one line for each architecture |
//! | `trained/ID-sSEED/` | a training from scratch with its result: a run directory of its own |
//! | `results.json`, `figures/*.svg`, `figures/*.csv`, `report.md`, `report.html` | the outcome |
//!
//! An experiment that was interrupted goes through the same calls again; each finds what is there and does the rest.

use crate::backend::Context;
use crate::checkpoint::write_atomic;
use crate::cli::{GlobalArgs, RunArgs, StudyArgs};
use crate::commands::environment;
use crate::commands::interrupt::interrupted;
use crate::commands::job::{Directory, Job, refuse_differences};
use crate::commands::output::print_result;
use crate::commands::publish::write_report;
use crate::commands::search::{self, Candidate, load_smash, smash_outcome};
use crate::commands::timing::Timing;
use crate::commands::train;
use crate::config::RunConfig;
use crate::error::{Error, Result};
use crate::figures::Figure;
use crate::nas::arch::Architecture;
use crate::nas::sample::{SampleLimits, sample};
use crate::nas::smash::SmashNetwork;
use crate::nas::space::Space;
use crate::report::{JsonLines, Progress, duration, write_json};
use crate::rng::{Rng, Stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Draws for one architecture that is not there yet, before a space counts as exhausted.
const DRAWS: usize = 1000;

/// More than anybody scores one by one.
const MOST_ARCHITECTURES: usize = 1_000_000;

/// An experiment's directory and settings.
pub struct Study {
    /// Settings, images, directory.
    pub job: Job,
    from: Option<PathBuf>,
    pub(super) jobs: Option<usize>,
}

/// A trained SMASH network of an experiment.
pub struct Smash {
    /// Its name in the experiment.
    pub name: String,
    /// Its run.
    pub job: Job,
}

/// What an architecture reaches on the validation images with generated weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Name of the architecture.
    pub id: String,
    /// Error in percent.
    pub val_err: f64,
    /// Mean loss per image; none if it is not a number.
    pub val_loss: Option<f64>,
}

impl Study {
    /// Opens the directory of experiment `name`; `options` are those that its results depend on, which a resumed
    /// experiment must repeat. Writes nothing yet: the caller checks more, and then begins the job.
    ///
    /// # Errors
    /// Usage, data, directory and device errors, each named.
    pub fn prepare(name: &str, options: &impl Serialize, args: &StudyArgs, global: &GlobalArgs) -> Result<Self> {
        let unusable = |e: toml::ser::Error| Error::config("experiment", e.to_string());
        let mut experiment = toml::Table::try_from(options).map_err(unusable)?;
        experiment.insert("name".into(), name.into());
        if args.jobs == Some(0) {
            return Err(Error::config("--jobs", "0 trains nothing; name 1 or more, or leave it out"));
        }
        let settings = args.from.as_ref().map(|dir| dir.join("config.toml"));
        let run = RunArgs { experiment, config: settings.or(args.run.config.clone()), ..args.run.clone() };
        let job = Job::open(&run, global, Directory::New)?;
        job.check_smash()?;
        job.check_resulting(&job.config.space)?;
        if job.config.retrain.init_from_smash {
            let message = "experiments compare trainings from scratch; leave it out";
            return Err(Error::config("--init-from-smash", message));
        }
        let study = Self { job, from: args.from.clone(), jobs: args.jobs };
        if let Some(dir) = &study.from {
            study.check_source(dir)?;
        }
        Ok(study)
    }

    /// A study within this one, in its sub-folder `folder`, on the images of `source`. Writes nothing yet.
    ///
    /// # Errors
    /// As [`Job::on_images`]; usage errors.
    pub fn on_images(&self, folder: &str, source: &str) -> Result<Self> {
        let mut job = self.job.on_images(folder, source)?;
        job.config.experiment.clear();
        job.check_smash()?;
        job.check_resulting(&job.config.space)?;
        Ok(Self { job, from: None, jobs: self.jobs })
    }

    /// All candidates of a search with the SMASH network that [`Study::smash`] calls `base`, best first.
    ///
    /// # Errors
    /// As [`Study::smash`] and [`search::stage`].
    pub fn search(&self) -> Result<Vec<Candidate>> {
        let base = self.smash("base", |_| {})?;
        Timing::measure(&self.job, "scores", || search::stage(&base.job))
    }

    /// The best of a search: that of `--from`, which is only read, or one made here.
    ///
    /// # Errors
    /// As [`Study::search`]; [`Error::Config`] when the run of `--from` has not been searched.
    pub fn best(&self) -> Result<Candidate> {
        match self.from {
            Some(_) => self.found(),
            None => Ok(self.search()?.swap_remove(0)),
        }
    }

    /// The winner of the run of `--from`.
    ///
    /// # Errors
    /// [`Error::Config`] when it has not been searched.
    pub fn found(&self) -> Result<Candidate> {
        search::winner(&self.base()?.job)
    }

    /// May the SMASH network of the run in `dir` be used with these settings?
    fn check_source(&self, dir: &Path) -> Result<()> {
        if !dir.join("ckpt/smash.safetensors").is_file() {
            let message = format!("{} holds no SMASH network; `smash-engine train --out DIR` makes one", dir.display());
            return Err(Error::config("--from", message));
        }
        let settled = RunConfig::load(&dir.join("config.toml"))?;
        let mut wanted = self.job.config.clone();
        wanted.experiment.clear();
        // What it was searched and retrained with makes no other network.
        (wanted.search, wanted.retrain) = (settled.search, settled.retrain.clone());
        refuse_differences(dir, &wanted.differences(&settled))
    }

    /// `count` random architectures of `space`, no two alike; the same for every experiment with this seed.
    ///
    /// # Errors
    /// [`Error::Config`] when the space does not hold so many.
    pub fn architectures(&self, space: &Space, count: usize) -> Result<Vec<Architecture>> {
        let mut rng = Rng::sub(self.job.config.seed, Stream::Search, 1);
        let limits = SampleLimits::full(space);
        let (mut seen, mut found) = (HashSet::new(), Vec::new());
        if count > MOST_ARCHITECTURES {
            return Err(Error::config("--architectures", format!("{count} are more than {MOST_ARCHITECTURES}")));
        }
        while found.len() < count {
            let new = (0..DRAWS).map(|_| sample(space, &limits, &mut rng)).find(|arch| seen.insert(arch.id()));
            found.push(new.ok_or_else(|| {
                let message = format!("{count} are more than the space holds; of {} no other was found", seen.len());
                Error::config("--architectures", message)
            })?);
        }
        Ok(found)
    }

    /// The SMASH network with the experiment's own settings: that of `--from`, or one trained here.
    ///
    /// # Errors
    /// As [`Study::smash`].
    pub fn base(&self) -> Result<Smash> {
        match &self.from {
            Some(dir) => {
                let mut job = self.job.clone();
                job.dir.clone_from(dir);
                Ok(Smash { name: "base".into(), job })
            }
            None => self.smash("base", |_| {}),
        }
    }

    /// The SMASH network called `name`, with settings that `change` may change: trained, or as far as it was.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after saving; whatever training and files report.
    pub fn smash(&self, name: &str, change: impl FnOnce(&mut RunConfig)) -> Result<Smash> {
        let job = self.job.variant(&format!("smash/{name}"), |config| {
            config.experiment.clear();
            change(config);
        })?;
        Timing::measure(&self.job, "smash", || train::stage(&job).map(drop))?;
        Ok(Smash { name: name.into(), job })
    }

    /// The scores of `archs`, which are of the network's space, with the weights that `smash` generates.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after saving; [`Error::Checkpoint`] when scores of others lie there.
    pub fn scores(&self, smash: &Smash, archs: &[Architecture]) -> Result<Vec<Score>> {
        let file = format!("scores/{}.jsonl", smash.name);
        let ids: Vec<String> = archs.iter().map(Architecture::id).collect();
        self.score_with(&file, smash, &ids, |i, network, context| {
            let outcome = smash_outcome(&smash.job, network, context, &archs[i], smash.job.validation_batches())?;
            Ok(Score { id: ids[i].clone(), val_err: outcome.percent(), val_loss: outcome.finite_loss() })
        })
    }

    /// One record for each of `names`, by `score`, which is given its place: those in `file`, then the rest.
    ///
    /// # Errors
    /// As [`Study::scores`].
    pub fn score_with<T: Record>(
        &self,
        file: &str,
        smash: &Smash,
        names: &[String],
        score: impl Fn(usize, &SmashNetwork, &mut Context) -> Result<T>,
    ) -> Result<Vec<T>> {
        let path = self.job.path(file);
        let (mut records, mut lines) = continued::<T>(&path, names)?;
        if records.len() == names.len() {
            return Ok(records);
        }
        Timing::measure(&self.job, "scores", || {
            let (network, mut context) = load_smash(&smash.job)?;
            let total = names.len() as u64;
            let mut progress =
                Progress::new(self.job.style, format!("score {}", smash.name), records.len() as u64, total);
            let mut saved = Instant::now();
            while records.len() < names.len() {
                let record = score(records.len(), &network, &mut context)?;
                lines.write(&record)?;
                records.push(record);
                progress.update(records.len() as u64, "");
                let signal = self.job.interrupted();
                let due = saved.elapsed() >= Duration::from_secs(self.job.config.checkpoint_seconds);
                if due || signal.is_some() || records.len() == names.len() {
                    lines.sync()?;
                    saved = Instant::now();
                }
                if let Some(signal) = signal {
                    progress.finish();
                    return Err(interrupted(signal));
                }
            }
            progress.finish();
            Ok(())
        })?;
        Ok(records)
    }

    /// Seconds spent so far: training SMASH networks, scoring, training from scratch.
    pub fn seconds(&self) -> Value {
        let timing = Timing::load(&self.job);
        ["smash", "scores", "trainings"]
            .iter()
            .map(|&stage| (stage.to_string(), Value::from(timing.seconds(stage))))
            .collect()
    }

    /// What the experiment was made on, as a paragraph of its report.
    pub fn setting(&self) -> String {
        let (job, config) = (&self.job, &self.job.config);
        let network = match &self.from {
            Some(dir) => format!("The SMASH network is that of {}.", dir.display()),
            None => {
                let length = steps(config.smash.epochs, config.smash.max_steps);
                format!("SMASH networks are trained for {length} on batches of {}.", config.smash.batch)
            }
        };
        format!(
            "Data: {}, {} training, {} validation, {} test images of {} classes. Search space: {}. {network} \
             Seed {}.\n\n",
            job.dataset.name,
            job.train.len(),
            job.validation.len(),
            job.dataset.test.len(),
            job.shape.classes,
            config.preset,
            config.seed
        )
    }

    /// How networks are trained from scratch, in words.
    pub fn schedule(&self, seeds: usize) -> String {
        let seeds = if seeds == 1 { "one seed".into() } else { format!("{seeds} seeds") };
        format!("{seeds} for {} epochs", self.job.config.retrain.epochs)
    }

    /// What an experiment cost, where its numbers are, and how to repeat it: the end of its report.
    pub fn closing(&self) -> String {
        let timing = Timing::load(&self.job);
        let stages =
            [("smash", "to train SMASH networks"), ("scores", "to score"), ("trainings", "to train from scratch")];
        let spent =
            stages.iter().map(|(stage, what)| (timing.seconds(stage), what)).filter(|(seconds, _)| *seconds >= 0.5);
        let cost: Vec<String> = spent.map(|(seconds, what)| format!("{} {what}", duration(seconds))).collect();
        format!(
            "Cost: {}, on {}.\n\n\
             The numbers are in `results.json` and `figures/*.csv`. To repeat it:\n\n    {}\n",
            if cost.is_empty() { "less than a second".into() } else { cost.join(", ") },
            self.job.device.describe().trim_start_matches("device: "),
            environment::command(&self.job).unwrap_or_default()
        )
    }

    /// Writes the results, the report with its figures and the `tables` behind them (names and CSV), and prints the
    /// report, or with `--json` the results.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn finish(&self, global: &GlobalArgs, results: &Value, report: &str, outcome: &Outcome) -> Result<()> {
        write_json(&self.job.path("results.json"), results)?;
        write_report(&self.job.dir, report, &outcome.figures)?;
        for (name, csv) in &outcome.tables {
            write_atomic(&self.job.path(&format!("figures/{name}.csv")), csv.as_bytes())?;
        }
        self.job.say(&format!("results, figures and report.html are in {}", self.job.dir.display()));
        print_result(global, results, report)
    }
}

/// What a report refers to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Pictures; one at least, for they make the folder.
    pub figures: Vec<Figure>,
    /// The data behind them: names and CSV.
    pub tables: Vec<(&'static str, String)>,
}

/// A length of training in words.
fn steps(epochs: u64, max_steps: u64) -> String {
    if max_steps == 0 { format!("{epochs} epochs") } else { format!("{epochs} epochs, at most {max_steps} steps") }
}

/// A line of a file of scores, which belongs to something with a name.
pub trait Record: Serialize + DeserializeOwned {
    /// That name.
    fn name(&self) -> &str;
}

impl Record for Score {
    fn name(&self) -> &str {
        &self.id
    }
}

/// The whole lines of the file at `path`, as many as were saved, and the file open behind them.
fn continued<T: Record>(path: &Path, names: &[String]) -> Result<(Vec<T>, JsonLines)> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let bytes = match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.map_err(Error::io("read", path))?,
    };
    let (mut records, mut len) = (Vec::new(), 0);
    // A program that was killed may leave a part of a line.
    for line in bytes.split_inclusive(|&b| b == b'\n').filter(|line| line.ends_with(b"\n")) {
        let number = records.len();
        let foreign = |what: String| {
            let message = format!("line {}: {what}; start again with --overwrite", number + 1);
            Error::checkpoint(path, message)
        };
        let record: T = serde_json::from_slice(line).map_err(|e| foreign(e.to_string()))?;
        match names.get(number) {
            Some(name) if name == record.name() => {}
            Some(name) => return Err(foreign(format!("is about {}, not {name}", record.name()))),
            None => return Err(foreign(format!("is beyond the {} that are wanted", names.len()))),
        }
        records.push(record);
        len += line.len() as u64;
    }
    Ok((records, JsonLines::open(path, Some(len))?))
}
