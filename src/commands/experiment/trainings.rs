//! Trainings from scratch of an experiment, several at a time, each in a run directory of its own where its result is kept.

use crate::commands::design;
use crate::commands::experiment::study::Study;
use crate::commands::job::Job;
use crate::commands::retrain::{Role, Trained, train_one};
use crate::commands::timing::Timing;
use crate::error::{Error, Result};
use crate::nas::design::Design;
use crate::report::{Progress, Style, write_json};
use std::sync::Mutex;

/// A training from scratch.
struct Task<'a> {
    design: &'a Design,
    /// Master seed of its initial weights, order of images and crops.
    seed: u64,
}

impl Study {
    /// The results of training each of `designs` with `seeds` seeds (at least one), from the study's own on: those that
    /// are there, and those trained now, several at a time.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after saving; whatever training and files report.
    pub fn trainings(&self, designs: &[Design], seeds: usize) -> Result<Vec<Vec<Trained>>> {
        let first = self.job.config.seed;
        let seeded = |design| (first..first + seeds as u64).map(move |seed| Task { design, seed });
        let tasks: Vec<Task<'_>> = designs.iter().flat_map(seeded).collect();
        let trained = self.train_all(&tasks)?;
        Ok(trained.chunks(seeds).map(<[Trained]>::to_vec).collect())
    }

    /// The results of `tasks`, in their order.
    fn train_all(&self, tasks: &[Task<'_>]) -> Result<Vec<Trained>> {
        Timing::measure(&self.job, "trainings", || {
            let shares = self.job.device.shares(self.jobs, tasks.len());
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
}

/// What the threads of [`Study::train_all`] share.
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
fn train(job: &Job, task: &Task<'_>) -> Result<Trained> {
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
    let trained = match train_one(&run, Role::Chosen, task.design.clone(), None) {
        Err(Error::Diverged(_)) => diverged(&run, task)?,
        trained => trained?,
    };
    write_json(&path, &trained)?;
    Ok(trained)
}

/// The result of a training that ended without a finite loss, which would end so again: what is no number classifies
/// nothing, and every image counts as an error.
fn diverged(run: &Job, task: &Task<'_>) -> Result<Trained> {
    let cost = design::cost(run, task.design)?;
    Ok(Trained {
        role: Role::Chosen,
        id: task.design.id(),
        params: cost.params,
        macs: cost.macs,
        smash_val_err: None,
        val_err: Some(100.0),
        test_err: 100.0,
        test_top5_err: None,
        test_images: run.dataset.test.len(),
    })
}
