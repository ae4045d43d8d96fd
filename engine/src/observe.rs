//! Progress, log messages and cancellation: the engine reports events to an [`Observer`], whose return value
//! decides whether the run goes on.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::remark::Remark;
use crate::{Error, Result};

/// The stages of a run, in order, and stages that are no part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Before a run: finds the rows that can be placed, if the others are to be left out.
    Survey,
    /// Validates and counts the rows; computes mean and covariance; draws the training sample.
    Scan,
    /// Trains the quantizer and writes the index in list order.
    Index,
    /// Computes the k nearest neighbours of every row.
    Neighbors,
    /// Computes edge weights, and makes them symmetric, in the edge store.
    Affinity,
    /// Computes first positions.
    Init,
    /// Runs the optimizer's epochs.
    Layout,
    /// Writes the map in the source's order.
    Output,
    /// Scores the map on a sample.
    Quality,
    /// Of a stored map: compares a table with the map's rows.
    Diff,
    /// Of a stored map: finds the neighbours of new rows, and places the rows beside them.
    Place,
}

impl Stage {
    /// All stages of a run, in order.
    pub const ALL: [Stage; 8] = [
        Stage::Scan,
        Stage::Index,
        Stage::Neighbors,
        Stage::Affinity,
        Stage::Init,
        Stage::Layout,
        Stage::Output,
        Stage::Quality,
    ];

    /// Returns whether the stage leaves files in the run directory.
    pub fn leaves_files(self) -> bool {
        !matches!(self, Stage::Survey | Stage::Output | Stage::Quality | Stage::Diff | Stage::Place)
    }

    /// Returns the stage's name, as in logs, the manifest and the report.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Survey => "survey",
            Stage::Scan => "scan",
            Stage::Index => "index",
            Stage::Neighbors => "neighbors",
            Stage::Affinity => "affinity",
            Stage::Init => "init",
            Stage::Layout => "layout",
            Stage::Output => "output",
            Stage::Quality => "quality",
            Stage::Diff => "diff",
            Stage::Place => "place",
        }
    }
}

/// An event of a run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A stage begins; `total` counts `unit`s of work.
    Start {
        /// The stage.
        stage: Stage,
        /// Number of units of work.
        total: u64,
        /// What is counted: "rows", "epochs", …
        unit: &'static str,
    },
    /// `done` units of the current stage's work are done.
    Advance {
        /// The stage.
        stage: Stage,
        /// Number of units done so far.
        done: u64,
    },
    /// A recorded unit of the current stage is finished, or was found finished.
    Unit {
        /// The stage.
        stage: Stage,
        /// The unit's name, as in the manifest.
        unit: &'a str,
        /// Whether an earlier process finished the unit.
        reused: bool,
    },
    /// Nothing new: a safe point at which the run may be stopped.
    Pulse,
    /// A stage is done, or was found done in the run directory.
    End {
        /// The stage and its statistics.
        report: &'a StageReport,
        /// Whether the stage was found done rather than run.
        reused: bool,
    },
    /// A message for the user that is not an error.
    Note {
        /// A note or a warning.
        remark: &'a Remark,
    },
}

/// Receives the events of a run; returning `Break` stops the run at the next safe point.
///
/// Called from several threads and, with [`Event::Pulse`], often: a call should cost no more than reading a
/// flag.
pub trait Observer: Sync {
    /// Receives an event, and returns whether to go on.
    fn event(&self, event: &Event<'_>) -> ControlFlow<()>;
}

/// Ignores all events and never stops a run.
impl Observer for () {
    fn event(&self, _: &Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// The progress of one stage: counts units of work, reports them to the observer, and fails once the observer
/// has stopped the run.
pub struct Progress<'a> {
    observer: &'a dyn Observer,
    stage: Stage,
    silent: bool,
    done: AtomicU64,
    stopped: AtomicBool,
    /// The bytes that this stage has read and written so far.
    pub traffic: Traffic,
}

/// The bytes read and written by a stage: sources, run directory and outputs, before any cache.
#[derive(Debug, Default)]
pub struct Traffic {
    read: AtomicU64,
    written: AtomicU64,
}

impl Traffic {
    /// Counts bytes read.
    pub fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }
    /// Counts bytes written.
    pub fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::Relaxed);
    }
    /// Returns the bytes read and written so far.
    pub fn totals(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }
}

impl<'a> Progress<'a> {
    /// Starts a stage of `total` units of work.
    pub fn start(observer: &'a dyn Observer, stage: Stage, total: u64, unit: &'static str) -> Result<Self> {
        let progress = Progress {
            observer,
            stage,
            silent: false,
            done: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            traffic: Traffic::default(),
        };
        progress.tell(&Event::Start { stage, total, unit })?;
        Ok(progress)
    }

    /// Returns a progress without an observer.
    pub fn silent() -> Progress<'static> {
        Progress {
            observer: &(),
            stage: Stage::Scan,
            silent: true,
            done: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            traffic: Traffic::default(),
        }
    }

    /// Counts `units` more, and fails if the run is to stop.
    pub fn advance(&self, units: u64) -> Result<()> {
        if self.silent {
            return self.check();
        }
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        self.tell(&Event::Advance { stage: self.stage, done })
    }

    /// Reports a finished unit of the stage's record.
    pub fn unit(&self, unit: &str, reused: bool) -> Result<()> {
        self.tell(&Event::Unit { stage: self.stage, unit, reused })
    }

    /// Fails if the run is to stop.
    pub fn check(&self) -> Result<()> {
        self.tell(&Event::Pulse)
    }

    /// Reports how something was chosen or done; see [`Remark`] for `kind`.
    pub fn note(&self, kind: &'static str, text: impl Into<String>) -> Result<()> {
        self.tell(&Event::Note { remark: &Remark::note(kind, text) })
    }

    /// Warns that a result is probably not what was wanted.
    pub fn warn(&self, kind: &'static str, text: impl Into<String>) -> Result<()> {
        self.tell(&Event::Note { remark: &Remark::warning(kind, text) })
    }

    /// Returns a progress for a part of this stage with counts of its own. The new progress reports no counts,
    /// but fails if the run is to stop.
    pub fn part_progress(&self) -> Progress<'a> {
        Progress {
            observer: self.observer,
            stage: self.stage,
            silent: true,
            done: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            traffic: Traffic::default(),
        }
    }

    /// Returns the current stage.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    fn tell(&self, event: &Event<'_>) -> Result<()> {
        if self.stopped.load(Ordering::Relaxed) || self.observer.event(event).is_break() {
            self.stopped.store(true, Ordering::Relaxed);
            return Err(Error::Cancelled { stage: self.stage.name() });
        }
        Ok(())
    }
}

/// The statistics of one stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    /// The stage.
    pub stage: Stage,
    /// Wall time in seconds.
    pub seconds: f64,
    /// The most anonymous memory held, in bytes; 0 where the operating system does not report it.
    pub peak_memory: u64,
    /// Bytes read from sources and the run directory, before any cache.
    pub read: u64,
    /// Bytes written to the run directory and outputs.
    pub written: u64,
}

/// An observer that records remarks, and passes each one on only once.
pub(crate) struct RemarkLog<'a> {
    observer: &'a dyn Observer,
    remarks: Mutex<Vec<Remark>>,
}

impl<'a> RemarkLog<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        RemarkLog { observer, remarks: Mutex::default() }
    }

    /// Returns the number of remarks so far.
    pub(crate) fn count(&self) -> usize {
        self.remarks().len()
    }

    /// Returns the remarks from number `first` on.
    pub(crate) fn since(&self, first: usize) -> Vec<Remark> {
        self.remarks().get(first..).unwrap_or_default().to_vec()
    }

    fn remarks(&self) -> MutexGuard<'_, Vec<Remark>> {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for RemarkLog<'_> {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if let Event::Note { remark } = event {
            let mut remarks = self.remarks();
            if remarks.contains(remark) {
                drop(remarks);
                return self.observer.event(&Event::Pulse);
            }
            remarks.push((*remark).clone());
        }
        self.observer.event(event)
    }
}

/// Returns the kinds of the warnings of `tell`, for tests.
#[cfg(test)]
pub(crate) fn warning_kinds(tell: impl Fn(&Progress<'_>) -> Result<()>) -> Vec<String> {
    struct Kinds(Mutex<Vec<String>>);
    impl Observer for Kinds {
        fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
            if let Event::Note { remark } = event {
                self.0.lock().expect("not poisoned").push(remark.kind.to_string());
            }
            ControlFlow::Continue(())
        }
    }
    let kinds = Kinds(Mutex::default());
    tell(&Progress::start(&kinds, Stage::Quality, 1, "rows").expect("started")).expect("told");
    kinds.0.into_inner().expect("not poisoned")
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn remarks_are_forwarded_once() {
        struct EventLog(Mutex<usize>);
        impl Observer for EventLog {
            fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
                *self.0.lock().expect("not poisoned") += usize::from(matches!(event, Event::Note { .. }));
                ControlFlow::Continue(())
            }
        }
        let told = EventLog(Mutex::new(0));
        let heard = RemarkLog::new(&told);
        let (one, other) = (Remark::note("a", "one"), Remark::warning("a", "one"));
        for remark in [&one, &one, &other, &one] {
            assert!(heard.event(&Event::Note { remark }).is_continue());
        }
        assert_eq!(*told.0.lock().expect("not poisoned"), 2);
        assert_eq!((heard.count(), heard.since(1)), (2, vec![other]));
    }
}
