//! What the stages of a job share: the observer, the budget, the meter, and the source's files as they were when the
//! job began. A run, a PCA, an evaluation and a survey are sessions.

use std::sync::Arc;
use std::time::Instant;

use lowland_io::{Fingerprint, Source};

use crate::budget::Budget;
use crate::memory_meter::MemoryMeter;
use crate::observe::{Event, Observer, Progress, Stage, StageReport};
use crate::{Error, Result};

/// A job at work.
pub struct Session<'a> {
    observer: &'a dyn Observer,
    budget: Budget,
    source: Option<Arc<dyn Source>>,
    /// The source's files as they were when the session began.
    files: Vec<Fingerprint>,
    meter: MemoryMeter,
    began: Instant,
    stages: Vec<StageReport>,
}

impl<'a> Session<'a> {
    /// Begins a session whose stages may take `memory` bytes. The files of `source` must not change until the
    /// end of the last stage that reads them.
    ///
    /// # Errors
    /// If the source's files cannot be read.
    pub fn start(observer: &'a dyn Observer, memory: u64, source: Option<Arc<dyn Source>>) -> Result<Self> {
        let files = source.as_ref().map_or(Ok(Vec::new()), |source| source.fingerprints())?;
        let (meter, began) = (MemoryMeter::start(), Instant::now());
        Ok(Session { observer, budget: Budget::new(memory), source, files, meter, began, stages: Vec::new() })
    }

    /// Runs a stage of `total` units, and measures it. `reads_source` says that the stage reads the source.
    ///
    /// # Errors
    /// [`lowland_io::Error::Changed`] if the source's files changed meanwhile; [`Error::Cancelled`] if the observer
    /// stops the session; those of `body`.
    pub fn stage<T>(
        &mut self,
        stage: Stage,
        (total, unit): (u64, &'static str),
        reads_source: bool,
        body: impl FnOnce(&Progress<'_>, &Budget) -> Result<T>,
    ) -> Result<(T, StageReport)> {
        let progress = Progress::start(self.observer, stage, total, unit)?;
        self.meter.take_peak();
        let began = Instant::now();
        let result = body(&progress, &self.budget)?;
        if let Some(source) = self.source.as_ref().filter(|_| reads_source) {
            // A source that is modified meanwhile gives rows that do not belong together.
            lowland_io::check_unchanged(&self.files, &source.fingerprints()?)?;
        }
        let (read, written) = progress.traffic.totals();
        let seconds = began.elapsed().as_secs_f64();
        Ok((result, StageReport { stage, seconds, peak_memory: self.meter.take_peak(), read, written }))
    }

    /// Reports the end of a stage. `reused` says that an earlier process ran it.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the observer stops the session.
    pub fn tell_end(&mut self, report: StageReport, reused: bool) -> Result<()> {
        self.stages.push(report);
        let stop = self.observer.event(&Event::End { report: &report, reused }).is_break();
        if stop { Err(Error::Cancelled { stage: report.stage.name() }) } else { Ok(()) }
    }

    /// Ends the session. Returns the stages' reports and the seconds since it began.
    pub fn end(self) -> (Vec<StageReport>, f64) {
        (self.stages, self.began.elapsed().as_secs_f64())
    }
}
