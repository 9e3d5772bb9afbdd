//! `--profile-steps`: which training steps a profiler records.

use crate::error::{Error, Result};
use std::ops::Range;

/// The steps of `--profile-steps A:B`: A up to but not including B, counted from 1 as in metrics.jsonl.
/// No steps where the flag is not given.
///
/// # Errors
/// [`Error::Config`] when it names no steps.
pub fn parse(flag: Option<&str>) -> Result<Range<u64>> {
    let Some(text) = flag else { return Ok(0..0) };
    let steps = text.split_once(':').and_then(|(a, b)| Some(a.parse().ok()?..b.parse().ok()?));
    steps.filter(|steps| steps.start > 0 && !steps.is_empty()).ok_or_else(|| {
        let message = format!("{text:?} is not A:B, steps A up to but not including B, counted from 1; such as 10:20");
        Error::config("--profile-steps", message)
    })
}

/// Of the steps `asked` for, those that are `due`: with a training that was resumed in the middle, or ends early,
/// the profiler is switched on and off all the same.
pub fn recorded(asked: &Range<u64>, due: Range<u64>) -> Range<u64> {
    asked.start.max(due.start)..asked.end.min(due.end)
}

/// Does the work of `step`, with the profiler switched on before the first step of `recorded` and off after the last.
/// An error in between leaves it on: the program ends, and the profiler with it.
///
/// # Errors
/// Those of `switch` and `work`.
pub fn bracket<C, R>(
    recorded: &Range<u64>,
    step: u64,
    context: &mut C,
    switch: impl Fn(&mut C, bool) -> Result<()>,
    work: impl FnOnce(&mut C) -> Result<R>,
) -> Result<R> {
    if recorded.contains(&step) && step == recorded.start {
        switch(context, true)?;
    }
    let done = work(context)?;
    if recorded.contains(&step) && step + 1 == recorded.end {
        switch(context, false)?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What happens in the steps `due`, as words.
    fn events(flag: &str, due: Range<u64>) -> String {
        let recorded = recorded(&parse(Some(flag)).unwrap(), due.clone());
        let mut events = Vec::new();
        for step in due {
            let switch = |events: &mut Vec<String>, on: bool| {
                events.push(if on { "on" } else { "off" }.to_string());
                Ok(())
            };
            let work = |events: &mut Vec<String>| {
                events.push(step.to_string());
                Ok(())
            };
            bracket(&recorded, step, &mut events, switch, work).unwrap();
        }
        events.join(" ")
    }

    #[test]
    fn the_profiler_is_on_for_the_steps_asked_for() {
        assert_eq!(events("2:4", 1..6), "1 on 2 3 off 4 5");
        assert_eq!(events("1:2", 1..3), "on 1 off 2");
    }

    #[test]
    fn the_profiler_is_on_and_off_when_a_training_starts_late_or_ends_early() {
        assert_eq!(events("2:9", 4..6), "on 4 5 off");
        assert_eq!(events("2:5", 3..6), "on 3 4 off 5");
        assert_eq!(events("7:9", 1..4), "1 2 3");
        assert_eq!(events("1:3", 4..6), "4 5");
    }

    #[test]
    fn without_the_flag_the_profiler_is_left_alone() {
        assert!(recorded(&parse(None).unwrap(), 1..10).is_empty());
    }

    #[test]
    fn what_names_no_steps_is_refused() {
        for text in ["", "3", "3:3", "4:3", "0:2", "a:2", "1:", "-1:2", "1:2:3"] {
            let message = parse(Some(text)).unwrap_err().to_string();
            assert!(message.starts_with("--profile-steps: ") && message.contains("such as 10:20"), "{message}");
        }
    }
}
