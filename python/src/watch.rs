//! One call of the engine: it works on a thread of its own, and the calling thread delivers its
//! events and looks for signals.
//!
//! What must hold: the interpreter is free while the engine works; Python is called only on the
//! calling thread; an exception there, also of a signal, stops the engine at its next safe point,
//! and is raised when the engine has stopped.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use lowland::{Event, Level, Observer};
use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::alive;
use crate::errors::{exception, failure, from_panic, with_arguments};
use crate::interrupt::Interrupt;
use crate::source::PySource;

/// The interval at which the calling thread looks for signals and delivers events.
pub(crate) const POLL: Duration = Duration::from_millis(50);
/// The most events that wait for delivery; a caller that is slower misses some.
const MAX_QUEUED: usize = 4096;

/// What a callback receives.
struct Message {
    kind: &'static str,
    stage: &'static str,
    done: u64,
    total: u64,
    unit: &'static str,
    text: String,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    stage: &'static str,
    done: u64,
    total: u64,
    unit: &'static str,
    /// The count that was delivered last.
    told: u64,
}

/// Tells the engine of a call to stop.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    stopped: Arc<AtomicBool>,
    /// Of the call's source: the number of its calls that are stopping, which ends waits for object
    /// stores.
    stopping: Option<Arc<AtomicUsize>>,
}

impl Stop {
    /// Tells the engine to stop.
    pub(crate) fn stop(&self) {
        let before = self.stopped.swap(true, Ordering::Relaxed);
        if let Some(stopping) = self.stopping.as_ref().filter(|_| !before) {
            stopping.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The observer of a call.
#[derive(Default)]
pub(crate) struct Watch {
    stop: Stop,
    /// SIGINT, where the calling thread is not the one to which Python reports signals.
    interrupt: Option<Interrupt>,
    state: Mutex<State>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(stopping) = self.stop.stopping.as_ref().filter(|_| self.is_stopped()) {
            stopping.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Watch {
    /// Returns the watch of a call on `source`.
    pub(crate) fn of(source: Option<&PySource>) -> Self {
        let stopping = source.map(PySource::stopping);
        Watch { stop: Stop { stopped: Arc::default(), stopping }, interrupt: None, state: Mutex::default() }
    }

    /// Makes SIGINT stop the call, if `asked`, also on another thread than Python's main thread. A
    /// SIGINT that was received since `source` was read to disk counts.
    ///
    /// # Errors
    /// If Python does not tell which thread this is.
    pub(crate) fn interruptible(mut self, py: Python<'_>, asked: bool, source: Option<&PySource>) -> PyResult<Self> {
        if asked && !is_main_thread(py)? {
            let earlier = source.and_then(PySource::take_interrupt);
            self.interrupt = Some(earlier.unwrap_or_else(Interrupt::new));
        }
        Ok(self)
    }

    /// Gives the noticed SIGINT away, for the run that reads what this call has written.
    pub(crate) fn into_interrupt(mut self) -> Option<Interrupt> {
        self.interrupt.take()
    }

    /// Raises what signals raise.
    pub(crate) fn check_signals(&self, py: Python<'_>) -> PyResult<()> {
        py.check_signals()?;
        match &self.interrupt {
            Some(interrupt) if interrupt.came() => Err(PyKeyboardInterrupt::new_err(())),
            _ => Ok(()),
        }
    }

    /// Tells the engine to stop.
    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    /// Returns what tells the engine to stop, for another thread.
    pub(crate) fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Returns whether the engine was told to stop.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.stopped.load(Ordering::Relaxed)
    }

    /// Returns the flag that [`stop`](Self::stop) sets.
    pub(crate) fn flag(&self) -> Arc<AtomicBool> {
        self.stop.stopped.clone()
    }

    /// Queues a note of the package itself.
    pub(crate) fn note(&self, text: String) {
        let mut state = self.state();
        let stage = state.stage;
        state.push(Message { kind: "note", stage, done: 0, total: 0, unit: "", text });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `callback` with the events that are queued, and with the progress of the current stage.
    pub(crate) fn deliver(&self, py: Python<'_>, callback: Option<&Py<PyAny>>) -> PyResult<()> {
        let messages = {
            let mut state = self.state();
            if state.done != state.told {
                state.told = state.done;
                let State { stage, done, total, unit, .. } = *state;
                state.push(Message { kind: "progress", stage, done, total, unit, text: String::new() });
            }
            std::mem::take(&mut state.queue)
        };
        let Some(callback) = callback else { return Ok(()) };
        for message in messages {
            let Message { kind, stage, done, total, unit, text } = message;
            let event = PyDict::new(py);
            event.set_item("kind", kind)?;
            event.set_item("stage", stage)?;
            event.set_item("done", done)?;
            event.set_item("total", total)?;
            event.set_item("unit", unit)?;
            event.set_item("text", text)?;
            callback.call1(py, (event,))?;
        }
        Ok(())
    }
}

impl State {
    fn push(&mut self, message: Message) {
        if self.queue.len() < MAX_QUEUED {
            self.queue.push_back(message);
        }
    }
}

impl Observer for Watch {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        match *event {
            Event::Start { stage, total, unit } => {
                let mut state = self.state();
                let stage = stage.name();
                (state.stage, state.done, state.told, state.total, state.unit) = (stage, 0, 0, total, unit);
                state.push(Message { kind: "start", stage, done: 0, total, unit, text: String::new() });
            }
            Event::Advance { stage, done } => {
                let mut state = self.state();
                // Threads report out of order.
                if state.stage == stage.name() {
                    state.done = state.done.max(done);
                }
            }
            Event::End { report, reused } => {
                lowland::allocator::trim();
                let mut state = self.state();
                let stage = report.stage.name();
                let (done, total, unit) = match state.stage == stage {
                    true => (state.done, state.total, state.unit),
                    false => (0, 0, ""),
                };
                state.told = state.done;
                let text = match reused {
                    true => "found done in the run directory".into(),
                    false => format!("{:.1} s, {} at most", report.seconds, lowland::format_bytes(report.peak_memory)),
                };
                state.push(Message { kind: "end", stage, done, total, unit, text });
            }
            Event::Note { remark } => {
                let kind = if remark.level == Level::Warning { "warning" } else { "note" };
                let mut state = self.state();
                let stage = state.stage;
                state.push(Message { kind, stage, done: 0, total: 0, unit: "", text: with_arguments(&remark.text) });
            }
            _ => {}
        }
        if self.is_stopped() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Returns whether this is the thread on which Python raises what signals raise.
fn is_main_thread(py: Python<'_>) -> PyResult<bool> {
    let threading = py.import("threading")?;
    let main = threading.call_method0("main_thread")?.getattr("ident")?;
    threading.call_method0("get_ident")?.eq(main)
}

/// The outcome of a call: its result, an error of the library, or a panic.
pub(crate) type Outcome<T> = std::thread::Result<lowland::Result<T>>;

/// Calls `work` so that a panic is an outcome.
pub(crate) fn catching<T>(work: impl FnOnce() -> lowland::Result<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(work))
}

/// Runs `work` on a thread of its own, watched by this one. `callback` receives the events.
pub(crate) fn watched<T: Send>(
    py: Python<'_>,
    watch: Watch,
    callback: Option<&Py<PyAny>>,
    work: impl FnOnce(&Watch) -> lowland::Result<T> + Send,
) -> PyResult<T> {
    watched_by(py, &watch, callback, work)
}

/// As [`watched`], by a watch that is used further.
pub(crate) fn watched_by<T: Send>(
    py: Python<'_>,
    watch: &Watch,
    callback: Option<&Py<PyAny>>,
    work: impl FnOnce(&Watch) -> lowland::Result<T> + Send,
) -> PyResult<T> {
    let _alive = begin(py, watch)?;
    std::thread::scope(|scope| {
        let (send, outcome) = bounded(1);
        let engine = move || {
            // The receiver lives as long as this scope.
            let _ = send.send(catching(|| work(watch)));
        };
        std::thread::Builder::new().name("lowland".into()).spawn_scoped(scope, engine)?;
        wait(py, watch, callback, &outcome)
    })
}

/// Enters a call in the list of those that the interpreter's exit stops and waits for, until the returned value is
/// dropped.
///
/// # Errors
/// If the interpreter is ending.
pub(crate) fn begin(py: Python<'_>, watch: &Watch) -> PyResult<Sender<()>> {
    match alive::is_ending() {
        true => Err(failure(py, "Python is ending".into())),
        false => Ok(alive::enter(Some(watch.stop_handle()))),
    }
}

/// Waits for the outcome of a call, delivers its events and looks for signals.
pub(crate) fn wait<T: Send>(
    py: Python<'_>,
    watch: &Watch,
    callback: Option<&Py<PyAny>>,
    outcome: &Receiver<Outcome<T>>,
) -> PyResult<T> {
    let mut raised = None;
    let outcome = loop {
        match py.detach(|| outcome.recv_timeout(POLL)) {
            Ok(outcome) => break Some(outcome),
            Err(RecvTimeoutError::Disconnected) => break None,
            Err(RecvTimeoutError::Timeout) => poll(py, watch, callback, &mut raised),
        }
    };
    finish(py, watch, callback, raised, outcome)
}

/// Looks for signals and delivers events. After an exception no more events are delivered, and an
/// interrupt that is repeated while the engine stops is not raised a second time.
pub(crate) fn poll(py: Python<'_>, watch: &Watch, callback: Option<&Py<PyAny>>, raised: &mut Option<PyErr>) {
    let found = watch.check_signals(py);
    if raised.is_some() {
        return;
    }
    if let Err(exception) = found.and_then(|()| watch.deliver(py, callback)) {
        watch.stop();
        *raised = Some(exception);
    }
}

/// Returns the result of a call that ended, or its exception.
pub(crate) fn finish<T>(
    py: Python<'_>,
    watch: &Watch,
    callback: Option<&Py<PyAny>>,
    raised: Option<PyErr>,
    outcome: Option<Outcome<T>>,
) -> PyResult<T> {
    if let Some(exception) = raised {
        return Err(exception);
    }
    // The last notes and warnings, also those before an error.
    watch.deliver(py, callback)?;
    match outcome {
        Some(Ok(Ok(done))) => Ok(done),
        Some(Ok(Err(error))) => Err(exception(py, &error)),
        Some(Err(panic)) => Err(from_panic(py, panic.as_ref() as &(dyn Any + Send))),
        None => Err(failure(py, "the run ended without a result".into())),
    }
}
