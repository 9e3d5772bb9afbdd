//! Signals that ask a run to end.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// SIGINT or SIGTERM once: finish the step, save, exit; twice: exit at once.
#[derive(Clone, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Watches from here on; before this a signal simply ends the program.
    ///
    /// # Errors
    /// [`Error::Run`] where signals cannot be watched.
    pub fn install(&self) -> Result<()> {
        for number in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            let asked = Arc::new(AtomicBool::new(false));
            // Order matters: the first signal finds `asked` unset, the second one does not.
            signal_hook::flag::register_conditional_shutdown(number, 128 + number, Arc::clone(&asked))
                .and_then(|_| signal_hook::flag::register(number, asked))
                .and_then(|_| signal_hook::flag::register_usize(number, Arc::clone(&self.signal), number as usize))
                .map_err(|e| Error::Run(format!("cannot watch for signals: {e}")))?;
        }
        Ok(())
    }

    /// The signal that came, if any.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            number => Some(number as i32),
        }
    }
}

/// The error that ends an interrupted run.
pub fn interrupted(signal: i32) -> Error {
    Error::Interrupted { name: if signal == signal_hook::consts::SIGINT { "SIGINT" } else { "SIGTERM" }, signal }
}
