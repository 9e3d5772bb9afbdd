//! What all experiments share: SMASH networks, scores and trainings from scratch, each kept where it can be continued.
//!
//! | in the experiment's directory | what |
//! |---|---|
//! | `smash/NAME/` | a SMASH network: a run directory of its own, for `eval` and `search` |
//! | `scores/NAME.jsonl` | scores, one line for each architecture |
//! | `trained/ID-sSEED/` | a training from scratch with its result: a run directory of its own |
//! | `results.json`, `*.csv`, `figures/`, `report.md`, `report.html` | the outcome |
//!
//! An experiment that was interrupted goes through the same calls again; each finds what is there and does the rest.

use crate::backend::Context;
use crate::checkpoint::write_atomic;
use crate::cli::{GlobalArgs, RunArgs, StudyArgs};
use crate::commands::design::Design;
use crate::commands::environment;
use crate::commands::interrupt::interrupted;
use crate::commands::job::{Directory, Job, refuse_differences};
use crate::commands::output::print_result;
use crate::commands::publish::write_report;
use crate::commands::retrain::{Role, Trained, train_one};
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
use crate::report::{JsonLines, Progress, Style, duration, write_json};
use crate::rng::{Rng, Stream};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Draws for one architecture that is not there yet, before a space counts as exhausted.
const DRAWS: usize = 1000;

/// An experiment's directory and settings.
pub struct Study {
    /// Settings, images, directory.
    pub job: Job,
    from: Option<PathBuf>,
    jobs: Option<usize>,
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

/// A training from scratch.
#[derive(Clone, Debug)]
pub struct Task {
    /// What to train.
    pub design: Design,
    /// Master seed of its initial weights, order of images and crops.
    pub seed: u64,
}

impl Study {
    /// Opens the directory of experiment `name`; `options` are those that its results depend on, which a resumed
    /// experiment must repeat.
    ///
    /// # Errors
    /// Usage, data, directory and device errors, each named.
    pub fn open(name: &str, options: &impl Serialize, args: &StudyArgs, global: &GlobalArgs) -> Result<Self> {
        let study = Self::prepare(name, options, args, global)?;
        study.job.begin()?;
        Ok(study)
    }

    /// The same, but writes nothing yet: the caller checks more, and then begins the job.
    ///
    /// # Errors
    /// As [`Study::open`].
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
        let mut wanted = RunConfig::load(&dir.join("config.toml"))?;
        let settled = wanted.clone();
        wanted.clone_from(&self.job.config);
        wanted.experiment.clear();
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
        let (mut seen, mut found) = (HashSet::new(), Vec::with_capacity(count));
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
            let val_loss = Some(outcome.mean_loss()).filter(|loss| loss.is_finite());
            Ok(Score { id: ids[i].clone(), val_err: outcome.percent(), val_loss })
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

    /// The results of `tasks`, in their order: those that are there, and those trained now, several at a time.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after saving; whatever training and files report.
    pub fn trainings(&self, tasks: &[Task]) -> Result<Vec<Trained>> {
        Timing::measure(&self.job, "trainings", || {
            let shares = self.job.device.shares(self.jobs.map(|jobs| jobs.min(tasks.len().max(1))));
            let total = tasks.len() as u64;
            let progress = Progress::new(self.job.style, "trainings from scratch", 0, total);
            let work = Mutex::new(Work { next: 0, done: 0, failed: None, progress });
            let results: Vec<Mutex<Option<Trained>>> = tasks.iter().map(|_| Mutex::new(None)).collect();
            std::thread::scope(|scope| {
                for device in shares.into_iter().take(tasks.len()) {
                    let mut job = self.job.clone();
                    (job.device, job.style) = (device, Style::Quiet);
                    let (work, results) = (&work, &results);
                    scope.spawn(move || {
                        loop {
                            let next = lock(work).take(tasks.len());
                            let Some(i) = next else { break };
                            let outcome = train(&job, &tasks[i]);
                            *lock(&results[i]) = lock(work).report(outcome);
                        }
                    });
                }
            });
            let work = work.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
            work.progress.finish();
            if let Some(error) = work.failed {
                return Err(error);
            }
            let results = results.into_iter().map(|result| result.into_inner().ok().flatten());
            results.collect::<Option<_>>().ok_or_else(|| Error::Run("a training ended without a result".into()))
        })
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

/// What the threads of [`Study::trainings`] share.
struct Work {
    next: usize,
    done: u64,
    failed: Option<Error>,
    progress: Progress,
}

impl Work {
    /// The next task; none is begun after one has failed.
    fn take(&mut self, tasks: usize) -> Option<usize> {
        let next = Some(self.next).filter(|&next| next < tasks && self.failed.is_none());
        self.next += usize::from(next.is_some());
        next
    }

    fn report(&mut self, outcome: Result<Trained>) -> Option<Trained> {
        match outcome {
            Ok(trained) => {
                self.done += 1;
                self.progress.update(self.done, &format!("{} test_err {:.2} %", trained.id, trained.test_err));
                Some(trained)
            }
            Err(error) => {
                self.failed.get_or_insert(error);
                None
            }
        }
    }
}

/// A lock whose holders do not panic while they change what it guards.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// One training, or the result that it left.
fn train(job: &Job, task: &Task) -> Result<Trained> {
    let run = job.variant(&format!("trained/{}-s{}", task.design.id(), task.seed), |config| {
        config.experiment.clear();
        config.seed = task.seed;
    })?;
    let path = run.path("results.json");
    if path.is_file() {
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        return serde_json::from_slice(&bytes)
            .map_err(|e| Error::checkpoint(&path, format!("is damaged ({e}); delete it, and it is made again")));
    }
    let trained = train_one(&run, Role::Chosen, task.design.clone(), None)?;
    write_json(&path, &trained)?;
    Ok(trained)
}
