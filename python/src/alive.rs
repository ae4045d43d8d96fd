//! The calls and threads of this module that are alive, for the interpreter's exit.
//!
//! What must hold: when the interpreter ends, no thread is inside this module and will ask for the interpreter. Python
//! ends such a thread by unwinding its stack, which aborts the process in frames of Rust. So [`wait_for_all`] tells all
//! calls to stop and waits for them, at the interpreter's exit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use pyo3::prelude::*;

use crate::watch::{POLL, Stop};

/// A call or a thread.
struct Entry {
    /// The process that began it. A forked child has no threads of its parent.
    process: u32,
    /// A channel without messages, which is disconnected when the call or thread ends.
    ended: Receiver<()>,
    /// Tells the call to stop; a thread that waits for Python cannot be stopped.
    stop: Option<Stop>,
}

static ALIVE: Mutex<Vec<Entry>> = Mutex::new(Vec::new());
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Enters a call or a thread in the list of those that are alive, until the returned value is dropped. A call drops it
/// while it has the interpreter.
pub(crate) fn enter(stop: Option<Stop>) -> Sender<()> {
    let (alive, ended) = bounded(0);
    let mut all = ALIVE.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|entry| entry.ended.try_recv() == Err(TryRecvError::Empty));
    all.push(Entry { process: std::process::id(), ended, stop });
    alive
}

/// Runs `work` without the interpreter. The interpreter's exit waits for it.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> T {
    let _alive = enter(None);
    py.detach(work)
}

/// Returns whether the interpreter is ending, so that no call may begin.
pub(crate) fn is_ending() -> bool {
    IS_ENDING.load(Ordering::Relaxed)
}

/// Stops all calls of this process and waits for them, and for the threads that read streams.
///
/// # Errors
/// What signals raise: a second Ctrl-C ends the wait for a producer that gives no batch.
#[pyfunction]
pub(crate) fn wait_for_all(py: Python<'_>) -> PyResult<()> {
    IS_ENDING.store(true, Ordering::Relaxed);
    let mut all = std::mem::take(&mut *ALIVE.lock().unwrap_or_else(PoisonError::into_inner));
    all.retain(|entry| entry.process == std::process::id());
    all.iter().filter_map(|entry| entry.stop.as_ref()).for_each(Stop::stop);
    for entry in all {
        while py.detach(|| entry.ended.recv_timeout(POLL)) == Err(RecvTimeoutError::Timeout) {
            py.check_signals()?;
        }
    }
    Ok(())
}
