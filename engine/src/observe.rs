//! Progress, logs and cancellation are one thing: the engine tells an
//! [`Observer`] what happens, and the answer says whether to go on.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::remark::Remark;
use crate::{Error, Result};

/// The stages of a run, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Before a run: find the rows that can be placed, where others are to be left out.
    Survey,
    /// Validate, count, mean and covariance, training sample.
    Scan,
    /// Train the quantizer, write the index in list order.
    Index,
    /// The k nearest of every row.
    Neighbors,
    /// Weights, symmetrised into the edge store.
    Affinity,
    /// First positions.
    Init,
    /// Epochs of the optimizer.
    Layout,
    /// The map in the source's order.
    Output,
    /// Scores on a sample.
    Quality,
}

impl Stage {
    /// All of a run, in their order.
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

    /// Whether it leaves files in the run directory.
    pub fn leaves_files(self) -> bool {
        !matches!(self, Stage::Survey | Stage::Output | Stage::Quality)
    }

    /// The stage's name, as in logs, the manifest and the report.
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
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A stage begins; `total` counts `unit`s of work.
    Start {
        /// The stage.
        stage: Stage,
        /// How many units there are.
        total: u64,
        /// What a unit is: "rows", "epochs", …
        unit: &'static str,
    },
    /// `done` units of the stage under way are done.
    Advance {
        /// The stage.
        stage: Stage,
        /// Units done so far.
        done: u64,
    },
    /// A unit of the stage under way is finished and recorded, or was found so.
    Unit {
        /// The stage.
        stage: Stage,
        /// The unit's name, as in the manifest.
        unit: &'a str,
        /// Whether an earlier process made it.
        reused: bool,
    },
    /// Nothing new: a safe point at which the run may be stopped.
    Pulse,
    /// A stage is done, or was found finished in the run directory.
    End {
        /// The stage and its figures.
        report: &'a crate::report::StageReport,
        /// Whether its result was found rather than made.
        reused: bool,
    },
    /// Something a person should know that is no failure.
    Note {
        /// A note or a warning.
        remark: &'a Remark,
    },
}

/// Hears what happens; `Break` stops the run at the next safe point.
///
/// Called from several threads and, for [`Event::Pulse`], often: an answer should cost no more than
/// a look at a flag.
pub trait Observer: Sync {
    /// Takes an event; says whether to go on.
    fn event(&self, event: &Event<'_>) -> ControlFlow<()>;
}

/// Hears nothing and never stops.
impl Observer for () {
    fn event(&self, _: &Event<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// One stage's progress: counts units, tells the observer, and carries its stop.
pub struct Progress<'a> {
    observer: &'a dyn Observer,
    stage: Stage,
    silent: bool,
    done: AtomicU64,
    stopped: AtomicBool,
    /// Bytes this stage has read and written so far.
    pub traffic: Traffic,
}

/// Bytes moved by a stage: sources, run directory and outputs, before any cache.
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
    /// Bytes read and written so far.
    pub fn totals(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }
}

impl<'a> Progress<'a> {
    /// Starts a stage of `total` units.
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

    /// The progress of work that nobody watches.
    pub fn unheard() -> Progress<'static> {
        Progress {
            observer: &(),
            stage: Stage::Scan,
            silent: true,
            done: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            traffic: Traffic::default(),
        }
    }

    /// Counts `units` more and asks whether to go on.
    pub fn advance(&self, units: u64) -> Result<()> {
        if self.silent {
            return self.check();
        }
        let done = self.done.fetch_add(units, Ordering::Relaxed) + units;
        self.tell(&Event::Advance { stage: self.stage, done })
    }

    /// Tells of a finished unit.
    pub fn unit(&self, unit: &str, reused: bool) -> Result<()> {
        self.tell(&Event::Unit { stage: self.stage, unit, reused })
    }

    /// Asks whether to go on.
    pub fn check(&self) -> Result<()> {
        self.tell(&Event::Pulse)
    }

    /// Tells how something was decided or done; see [`Remark`] for `kind`.
    pub fn note(&self, kind: &'static str, text: impl Into<String>) -> Result<()> {
        self.tell(&Event::Note { remark: &Remark::note(kind, text) })
    }

    /// Warns that a result is probably not what was wanted.
    pub fn warn(&self, kind: &'static str, text: impl Into<String>) -> Result<()> {
        self.tell(&Event::Note { remark: &Remark::warning(kind, text) })
    }

    /// A part of this stage that has a progress of its own: it counts nothing
    /// here, but stops when the observer says so.
    pub fn silent(&self) -> Progress<'a> {
        Progress {
            observer: self.observer,
            stage: self.stage,
            silent: true,
            done: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            traffic: Traffic::default(),
        }
    }

    /// The stage under way.
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
