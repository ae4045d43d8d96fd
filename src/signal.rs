//! Signals. The first SIGINT or SIGTERM is recorded, and the observer stops the run at its next
//! safe point. The second ends the process at once, which is safe too, because an unfinished file
//! does not have its final name yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

/// The signals that the process has received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals {
    /// The number of the last signal; 0 if there was none.
    which: Arc<AtomicUsize>,
}

impl Signals {
    /// Installs the signal handlers.
    pub(crate) fn listen() -> std::io::Result<Self> {
        let signals = Signals::default();
        let again = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            // In this order, so that the shutdown handler only sees the flag of an earlier signal.
            flag::register_conditional_shutdown(signal, 128 + signal, again.clone())?;
            flag::register(signal, again.clone())?;
            flag::register_usize(signal, signals.which.clone(), signal as usize)?;
        }
        // Otherwise a file that reaches the process's limit would end the process without a message.
        flag::register(SIGXFSZ, Arc::default())?;
        Ok(signals)
    }

    /// Returns whether a signal was received.
    pub(crate) fn came(&self) -> bool {
        self.which.load(Ordering::Relaxed) != 0
    }

    /// Returns the exit code after a signal: 130 for SIGINT, 143 for SIGTERM.
    pub(crate) fn exit_code(&self) -> u8 {
        128 + self.which.load(Ordering::Relaxed) as u8
    }
}
