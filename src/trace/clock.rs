//! Where the time of a piece of work goes: seconds per phase, for `smash-engine bench`.
//!
//! A clock listens to the ranges of level [`Level::Phase`](super::Level::Phase) that its own thread opens and
//! closes. Time belongs to the innermost open phase, so that the phases and the time outside of all of them add
//! up to the whole. On a device that runs behind the program, `settle` waits for it at every boundary: then the
//! phases hold the device's time, and nothing overlaps.

use std::cell::RefCell;
use std::ffi::CStr;
use std::time::{Duration, Instant};

/// Time spent in each phase, in the order in which they were first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Name and time.
    pub inside: Vec<(&'static str, Duration)>,
    /// Time outside of all phases.
    pub outside: Duration,
}

struct Clock {
    phases: Phases,
    /// The phases that are open, as numbers of `phases.inside`.
    open: Vec<usize>,
    last: Instant,
    settle: Option<fn()>,
}

thread_local! {
    static CLOCK: RefCell<Option<Clock>> = const { RefCell::new(None) };
}

impl Clock {
    /// Gives the time since the last boundary to whom it belongs.
    fn boundary(&mut self) {
        if let Some(settle) = self.settle {
            settle();
        }
        let now = Instant::now();
        let spent = now - self.last;
        self.last = now;
        match self.open.last() {
            Some(&phase) => self.phases.inside[phase].1 += spent,
            None => self.phases.outside += spent,
        }
    }

    fn push(&mut self, name: &'static CStr) {
        self.boundary();
        let name = name.to_str().unwrap_or_default();
        let known = self.phases.inside.iter().position(|&(phase, _)| phase == name);
        self.open.push(known.unwrap_or_else(|| {
            self.phases.inside.push((name, Duration::ZERO));
            self.phases.inside.len() - 1
        }));
    }

    fn pop(&mut self) {
        self.boundary();
        self.open.pop();
    }
}

/// Tells the clock of this thread, if it has one, that a phase begins; true if it has.
pub(super) fn push(name: &'static CStr) -> bool {
    CLOCK.with_borrow_mut(|clock| clock.as_mut().map(|clock| clock.push(name)).is_some())
}

/// Tells it that the innermost phase ends.
pub(super) fn pop() {
    CLOCK.with_borrow_mut(|clock| clock.as_mut().map(Clock::pop));
}

/// Does `work` under a clock. One inside another replaces it.
pub fn timed<R>(settle: Option<fn()>, work: impl FnOnce() -> R) -> (R, Phases) {
    let _listening = super::Listening::begin();
    CLOCK.set(Some(Clock { phases: Phases::default(), open: Vec::new(), last: Instant::now(), settle }));
    let result = work();
    let clock = CLOCK.take().map(|mut clock| {
        clock.boundary();
        clock.phases
    });
    (result, clock.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::{Level, within};
    use super::*;

    fn sleep(milliseconds: u64) {
        std::thread::sleep(Duration::from_millis(milliseconds));
    }

    #[test]
    fn time_belongs_to_the_innermost_phase_and_adds_up() {
        let start = Instant::now();
        let ((), phases) = timed(None, || {
            within(Level::Phase, c"outer", || {
                sleep(5);
                within(Level::Phase, c"inner", || within(Level::Op, c"no phase", || sleep(20)));
                sleep(5);
            });
            within(Level::Phase, c"inner", || sleep(10));
            sleep(15);
        });
        let wall = start.elapsed();
        let names: Vec<&str> = phases.inside.iter().map(|&(name, _)| name).collect();
        assert_eq!(names, ["outer", "inner"]);
        let least = [10, 30, 15].map(Duration::from_millis);
        let spent = [phases.inside[0].1, phases.inside[1].1, phases.outside];
        assert!(spent.iter().zip(least).all(|(spent, least)| *spent >= least), "{phases:?}");
        let sum: Duration = spent.iter().sum();
        assert!(sum <= wall, "{sum:?} of {wall:?}: some of it belongs to two");
    }

    #[test]
    fn without_a_clock_nothing_is_counted_and_other_threads_have_their_own() {
        within(Level::Phase, c"before", || ());
        let ((), phases) = timed(None, || {
            std::thread::scope(|scope| {
                scope.spawn(|| within(Level::Phase, c"elsewhere", || ()));
            });
        });
        assert_eq!(phases.inside, []);
    }
}
