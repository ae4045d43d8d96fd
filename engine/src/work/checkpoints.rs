//! The checkpoints of a stage: its state is written from time to time, so that a later process can go on from it.
//!
//! A checkpoint is one file, which is the stage's unit "checkpoint" in the manifest and replaces the previous one.
//! The bytes of the file and the manifest's record are the stage's own.

use std::io;
use std::time::{Duration, Instant};

use lowland_io::{Error as IoError, PendingFile};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StageContext;
use crate::Result;

/// The unit's name in the manifest.
const UNIT: &str = "checkpoint";
/// Writing checkpoints takes at most one 25th of the time.
const MAX_TIME_SHARE: u32 = 25;

/// Writes a stage's checkpoints to the run directory, at a time interval.
pub(crate) struct Checkpoints<'a> {
    pub(crate) work: StageContext<'a>,
    every: Duration,
    last: Instant,
    took: Duration,
}

impl<'a> Checkpoints<'a> {
    /// Returns the checkpoints of the stage at work, at most one in each interval of `every`.
    pub(crate) fn new(work: StageContext<'a>, every: Duration) -> Self {
        Checkpoints { work, every, last: Instant::now(), took: Duration::ZERO }
    }

    /// Returns the record of the checkpoint that an earlier process left, if there is one.
    ///
    /// # Errors
    /// Names the file if it differs from its record.
    pub(crate) fn found<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        self.work.recorded_unit(UNIT)
    }

    /// Returns whether a checkpoint should be written now.
    pub(crate) fn due(&self) -> bool {
        self.last.elapsed() >= self.every.max(self.took * MAX_TIME_SHARE)
    }

    /// Writes the file `name`, and records it as `record`.
    ///
    /// # Errors
    /// If the file or the manifest cannot be written; [`crate::Error::Cancelled`], after the checkpoint is recorded,
    /// if the run is to stop.
    pub(crate) fn keep(
        &mut self,
        name: String,
        record: &impl Serialize,
        write: impl FnOnce(&mut PendingFile) -> io::Result<()>,
    ) -> Result<()> {
        let began = Instant::now();
        let path = self.work.path(&name);
        let mut file = self.work.create(&name)?;
        write(&mut file).map_err(|e| IoError::io(&path, "write", e))?;
        let stamp = file.finish()?;
        self.work.progress.traffic.wrote(stamp.bytes);
        self.work.record_unit(UNIT, vec![(name, stamp)], record)?;
        (self.last, self.took) = (Instant::now(), began.elapsed());
        Ok(())
    }
}
