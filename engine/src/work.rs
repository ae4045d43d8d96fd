//! A stage at work: where its files go, which of its units an earlier process
//! finished, and what it may hold.
//!
//! A unit is a part of a long stage that is not done twice: a shard, a tile of
//! the join, a part of the edge store, a checkpoint. What must hold: a unit is
//! recorded after its files are durable, and used again only after every byte
//! was checked; what a unit holds follows from the data and the config, or, for
//! scratch that never outlives its stage, does not reach the result.

use std::path::PathBuf;

use lowland_io::{Depth, RunDir, Source};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::budget::{Budget, Needs, Reservation};
use crate::index::Made;
use crate::observe::Progress;

/// What a stage works with.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The run directory.
    pub run: &'a RunDir,
    /// Who hears how it goes, and may stop it.
    pub progress: &'a Progress<'a>,
    /// What it may hold.
    pub budget: &'a Budget,
}

impl<'a> Work<'a> {
    /// Where a file of the run lies.
    pub fn path(&self, file: &str) -> PathBuf {
        self.run.path(file)
    }

    /// Takes what the phase `name` of `needs` holds.
    ///
    /// # Errors
    /// [`crate::Error::Budget`] where that is more than is left.
    pub fn hold(&self, needs: &Needs, name: &str) -> Result<Reservation> {
        let phase = needs.phases.iter().find(|phase| phase.name == name);
        debug_assert!(phase.is_some(), "no phase {name}");
        let nothing = crate::budget::Phase { name: self.progress.stage().name(), parts: Vec::new() };
        self.budget.take(phase.unwrap_or(&nothing))
    }

    /// Makes sure that the source's files are those that the run began with:
    /// what was made of others must not be recorded.
    ///
    /// # Errors
    /// [`lowland_io::Error::Changed`] names the file, and what differs.
    pub fn unchanged(&self, source: &dyn Source) -> Result<()> {
        let now = source.fingerprints()?;
        let paths: Vec<_> = now.iter().map(|file| &file.path).collect();
        let began: Vec<_> =
            self.run.manifest().sources.into_iter().filter(|file| paths.contains(&&file.path)).collect();
        // A run directory of a library's user may name no sources.
        if began.is_empty() { Ok(()) } else { Ok(lowland_io::unchanged(&began, &now)?) }
    }

    /// What an earlier process recorded of the unit, once its files are found whole.
    ///
    /// # Errors
    /// A file that is not what was recorded is named.
    pub fn finished<T: DeserializeOwned>(&self, unit: &str) -> Result<Option<T>> {
        let stage = self.progress.stage().name();
        let Some(record) = self.run.stage(stage).and_then(|mut record| record.units.remove(unit)) else {
            return Ok(None);
        };
        self.run.verify_unit(stage, unit, Depth::Checksums)?;
        let data = serde_json::from_value(record.data).map_err(|e| lowland_io::Error::Corrupt {
            path: self.path("manifest.json"),
            what: format!("unit {unit} of the {stage} stage: {e}"),
        })?;
        self.progress.unit(unit, true)?;
        Ok(Some(data))
    }

    /// Records a unit whose `files` are durable.
    ///
    /// # Errors
    /// Where the manifest cannot be written, or the run is to stop.
    pub fn finish<T: Serialize>(&self, unit: &str, files: Made, data: &T) -> Result<()> {
        self.amend(unit, files, data)?;
        self.progress.unit(unit, false)
    }

    /// Records that a finished unit has other files now: those that are no
    /// longer listed go.
    ///
    /// # Errors
    /// Where the manifest cannot be written.
    pub fn amend<T: Serialize>(&self, unit: &str, files: Made, data: &T) -> Result<()> {
        let stage = self.progress.stage().name();
        let data = serde_json::to_value(data)
            .map_err(|e| crate::Error::Data { what: format!("unit {unit} of the {stage} stage: {e}") })?;
        Ok(self.run.finish_unit(stage, unit, files, data)?)
    }

    /// The files of finished units, as a finished stage lists them.
    pub fn unit_files(&self) -> Made {
        let record = self.run.stage(self.progress.stage().name()).unwrap_or_default();
        record.units.into_values().flat_map(|unit| unit.files).collect()
    }
}
