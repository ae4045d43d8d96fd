//! Ctrl-C and its kind. The first SIGINT or SIGTERM is remembered, and the
//! observer stops the run at its next safe point; the second ends the process
//! at once, which is safe too: what is not finished has no name yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What was asked of this process so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    /// The signal; 0 before any came.
    which: Arc<AtomicUsize>,
}

impl Signals {
    /// Starts listening.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let signals = Signals::default();
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order: the shutdown sees only what an earlier signal set.
            flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
            flag::register(signal, again.clone())?;
            flag::register_usize(signal, signals.which.clone(), signal as usize)?;
        }
        Ok(signals)
    }

    /// Whether a signal came.
    pub(crate) fn came(&self) -> bool {
        self.which.load(Ordering::Relaxed) != 0
    }

    /// The exit code of a process that a signal ended: 130 for SIGINT, 143 for SIGTERM.
    pub(crate) fn exit_code(&self) -> u8 {
        128 + self.which.load(Ordering::Relaxed) as u8
    }
}
