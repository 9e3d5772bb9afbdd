//! A fixed set of threads that work through numbered tasks.
//!
//! A kernel splits its work into tasks whose number and extent depend only on shapes, never
//! on the number of threads; threads take the next number from a counter. Who computes a
//! task does not matter for its result, so results are the same for any thread count.
//!
//! While somebody watches ([`Pool::watch`]), the pool adds up the time in which its threads have no
//! task: a worker between two jobs, and the caller while it waits for the last tasks of others. What the
//! caller does alone, between jobs, is work. Nobody watching costs one load per job and thread.

use std::fmt;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a waiting thread looks before it sleeps: some 50 us, which bridge the gap to the next kernel of a
/// step. To wake a sleeping thread takes as long, a thousand times a step.
const LOOKS: usize = 1000;

/// Waits a little for `true`, without sleeping.
fn soon(condition: impl Fn() -> bool) {
    for _ in 0..LOOKS {
        if condition() {
            return;
        }
        std::hint::spin_loop();
    }
}

/// A job as the workers see it: the task function, its lifetime erased.
#[derive(Clone, Copy)]
struct Job {
    run: *const (dyn Fn(usize) + Sync),
    tasks: usize,
}

// SAFETY: the pointee is `Sync`, and `Pool::run` does not return before every worker that took it has
// finished with it.
unsafe impl Send for Job {}

#[derive(Default)]
struct State {
    job: Option<Job>,
    /// Increases with every job, so that a worker never takes one twice.
    generation: u64,
    /// Workers that have taken the current job and not finished.
    inside: usize,
    /// A task panicked on a worker.
    panicked: bool,
    quit: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    start: Condvar,
    done: Condvar,
    next: AtomicUsize,
    /// A job runs; there is room for one.
    taken: AtomicBool,
    /// `generation` and `inside` of the state, for threads that wait without the lock.
    announced: AtomicU64,
    inside: AtomicUsize,
    /// Somebody watches.
    watched: AtomicBool,
    /// Nanoseconds in which workers had tasks, and in which callers waited for workers.
    busy: AtomicU64,
    waited: AtomicU64,
}

impl Shared {
    /// The state; a panicking task never holds this lock, so poisoning carries no meaning.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Waits for a job after number `seen`, which becomes its number; no job when it was over before this thread
    /// woke, nothing at the end of the pool.
    fn next_job(&self, seen: &mut u64) -> Option<Option<Job>> {
        let mut state = self.lock();
        while !state.quit && state.generation == *seen {
            state = self.start.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        *seen = state.generation;
        if state.job.is_some() {
            state.inside += 1;
            self.inside.store(state.inside, Ordering::Relaxed);
        }
        (!state.quit).then_some(state.job)
    }

    /// Runs `work`, and adds its nanoseconds to `sum` while somebody watches. Relaxed: who reads the sum has
    /// waited for the job, and the lock of the state lies in between.
    fn counted<R>(&self, sum: &AtomicU64, work: impl FnOnce() -> R) -> R {
        let start = self.watched.load(Ordering::Relaxed).then(Instant::now);
        let result = work();
        if let Some(start) = start {
            sum.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        result
    }

    fn work(&self, job: Job) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= job.tasks {
                return;
            }
            // SAFETY: `Pool::run` keeps the closure alive until all workers are done.
            unsafe { (*job.run)(task) }
        }
    }
}

/// See the module documentation.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Pool {
    /// A pool of `threads` threads; the caller's thread is one of them.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let workers = (1..threads.max(1))
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                // A machine that refuses another thread simply runs with fewer: same results.
                std::thread::Builder::new().name(format!("smash-{i}")).spawn(move || worker(&shared)).ok()
            })
            .collect();
        Self { shared, workers }
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `run(0) .. run(tasks - 1)`, each once, on any thread, and returns when all are done.
    /// While another job runs (a task that starts tasks, a second caller) this one runs on the
    /// caller's thread alone.
    ///
    /// # Panics
    /// When a task panicked.
    pub fn run(&self, tasks: usize, run: impl Fn(usize) + Sync) {
        if self.workers.is_empty() || tasks <= 1 || self.shared.taken.swap(true, Ordering::Acquire) {
            (0..tasks).for_each(run);
            return;
        }
        let _turn = Turn(&self.shared.taken);
        let run: &(dyn Fn(usize) + Sync) = &run;
        // SAFETY: only the lifetime is erased; `Finish` below takes the job back and waits for all workers
        // that have it before `run` goes out of scope, also when a task panics on this thread.
        let run: *const (dyn Fn(usize) + Sync + 'static) = unsafe { std::mem::transmute(run) };
        let job = Job { run, tasks };
        self.shared.next.store(0, Ordering::Relaxed);
        {
            let mut state = self.shared.lock();
            state.job = Some(job);
            state.generation += 1;
            state.panicked = false;
            self.shared.announced.store(state.generation, Ordering::Relaxed);
        }
        self.shared.start.notify_all();
        let finish = Finish(&self.shared);
        self.shared.work(job);
        drop(finish);
        assert!(!self.shared.lock().panicked, "a task panicked on a worker thread");
    }

    /// Begins (at zero) or ends to add up idle time. No job may be running.
    pub fn watch(&self, on: bool) {
        self.shared.busy.store(0, Ordering::Relaxed);
        self.shared.waited.store(0, Ordering::Relaxed);
        self.shared.watched.store(on, Ordering::Relaxed);
    }

    /// Of threads times `wall`, the time since [`Pool::watch`], the share in which threads had no task.
    pub fn idle_share(&self, wall: Duration) -> f64 {
        let nanoseconds = |sum: &AtomicU64| sum.load(Ordering::Relaxed) as f64;
        let wall = wall.as_nanos() as f64;
        let workers = self.workers.len() as f64 * wall - nanoseconds(&self.shared.busy);
        ((workers + nanoseconds(&self.shared.waited)) / (self.threads() as f64 * wall)).clamp(0.0, 1.0)
    }

    /// Splits `data` into pieces of `piece` elements (the last may be shorter) and calls
    /// `run(index, piece)` for each.
    pub fn pieces(&self, data: &mut [f32], piece: usize, run: impl Fn(usize, &mut [f32]) + Sync) {
        let len = data.len();
        let shared = SharedSlice::new(data);
        self.run(len.div_ceil(piece.max(1)), |i| {
            let start = i * piece;
            // SAFETY: pieces of different tasks do not overlap, each task runs once.
            run(i, unsafe { shared.range(start, piece.min(len - start)) });
        });
    }
}

/// Lets the next job in when dropped.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Waits for the workers when dropped.
struct Finish<'a>(&'a Shared);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        // If this thread panicked, no further tasks need to start.
        if std::thread::panicking() {
            self.0.next.store(usize::MAX / 2, Ordering::Relaxed);
        }
        self.0.counted(&self.0.waited, || {
            // A worker that has not woken by now finds no job; nobody waits for it.
            self.0.lock().job = None;
            soon(|| self.0.inside.load(Ordering::Relaxed) == 0);
            let mut state = self.0.lock();
            while state.inside > 0 {
                state = self.0.done.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
        });
    }
}

fn worker(shared: &Shared) {
    let mut seen = 0;
    loop {
        soon(|| shared.announced.load(Ordering::Relaxed) != seen);
        let Some(job) = shared.next_job(&mut seen) else { return };
        // Too late for that one: the next is likely to follow at once.
        let Some(job) = job else { continue };
        let work = std::panic::AssertUnwindSafe(|| shared.work(job));
        let outcome = shared.counted(&shared.busy, || std::panic::catch_unwind(work));
        let mut state = shared.lock();
        state.panicked |= outcome.is_err();
        state.inside -= 1;
        shared.inside.store(state.inside, Ordering::Relaxed);
        if state.inside == 0 {
            shared.done.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.start.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker catches its panics; there is nothing to report
        }
    }
}

/// A mutable slice that several tasks write at disjoint places.
pub struct SharedSlice<'a> {
    base: *mut f32,
    len: usize,
    data: PhantomData<&'a mut [f32]>,
}

// SAFETY: access goes through `range`, whose caller guarantees disjointness.
unsafe impl Send for SharedSlice<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedSlice<'_> {}

impl<'a> SharedSlice<'a> {
    /// Wraps `data`, which stays borrowed.
    pub fn new(data: &'a mut [f32]) -> Self {
        Self { base: data.as_mut_ptr(), len: data.len(), data: PhantomData }
    }

    /// Where element `i` lies, whether or not there is one.
    pub fn at(&self, i: usize) -> *const f32 {
        self.base.wrapping_add(i)
    }

    /// Elements `start .. start + len`, to write.
    ///
    /// # Safety
    /// No two live ranges may overlap.
    #[allow(clippy::mut_from_ref)] // exclusive by the caller's promise
    pub unsafe fn range(&self, start: usize, len: usize) -> &mut [f32] {
        // Without a sum: it could wrap around.
        assert!(len <= self.len && start <= self.len - len, "range {start}+{len} of {}", self.len);
        // SAFETY: in bounds; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(start), len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_exactly_once_for_any_thread_count() {
        for threads in 1..=4 {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 7, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, |i| {
                    counts[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1), "{threads} threads, {tasks} tasks");
            }
        }
    }

    #[test]
    fn jobs_inside_and_beside_a_job_run_each_task_exactly_once() {
        let pool = Pool::new(3);
        let counts: Vec<AtomicUsize> = (0..4 * 6 * 50).map(|_| AtomicUsize::new(0)).collect();
        let (pool, counts) = (&pool, &counts);
        std::thread::scope(|scope| {
            for caller in 0..4 {
                scope.spawn(move || {
                    pool.run(6, |i| {
                        pool.run(50, |j| {
                            counts[(caller * 6 + i) * 50 + j].fetch_add(1, Ordering::Relaxed);
                        });
                    });
                });
            }
        });
        assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
    }

    #[test]
    fn idle_time_is_that_of_threads_without_a_task() {
        let pool = Pool::new(2);
        // Both threads have a task, and then only those for whom `busy` holds: of the caller, or a worker.
        let idle = |busy: fn(bool) -> bool| {
            let (barrier, caller) = (std::sync::Barrier::new(2), std::thread::current().id());
            let start = Instant::now();
            pool.run(2, |_| {
                barrier.wait();
                if busy(std::thread::current().id() == caller) {
                    std::thread::sleep(Duration::from_millis(50));
                }
            });
            pool.idle_share(start.elapsed())
        };
        pool.watch(true);
        assert!(idle(|_| true) < 0.25, "both are busy");
        pool.watch(true);
        assert!(idle(|caller| !caller) > 0.25, "the caller waits for the worker");
        pool.watch(true);
        assert!(idle(|caller| caller) > 0.25, "the worker has nothing to do");
        pool.watch(false);
        idle(|_| true);
        assert_eq!(pool.shared.busy.load(Ordering::Relaxed), 0, "nobody watches");
        assert_eq!(Pool::new(1).idle_share(Duration::from_secs(1)), 0.0, "the caller alone is never idle");
    }

    #[test]
    fn a_panicking_task_is_reported_and_the_pool_survives() {
        let pool = Pool::new(3);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(50, |i| assert_ne!(i, 20));
        }));
        assert!(outcome.is_err());
        let mut data = vec![0.0; 100];
        pool.pieces(&mut data, 7, |i, piece| piece.fill(i as f32));
        assert_eq!(data[99], 14.0);
    }
}
