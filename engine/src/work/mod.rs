//! The context of a running stage: the paths of its files, the units that an earlier process finished, the
//! observer and the budget.
//!
//! A unit is a part of a long stage that is not repeated after an interruption: a shard, a tile of the join, a
//! part of the edge store, a checkpoint. What must hold: a unit is recorded after its files are durable, and is
//! used again only after the checksums of all its bytes were verified. A unit's contents depend on the data and
//! the config; only scratch units that are deleted with their stage may differ, if the result does not depend
//! on the difference.

mod checkpoints;

use std::io::Write;
use std::path::PathBuf;

use lowland_io::{FileStamp, PendingFile, RunDir, Source, VerifyDepth};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::budget::{Budget, MemoryNeeds, Reservation};
use crate::observe::Progress;
use crate::{Error, Result};

pub(crate) use checkpoints::Checkpoints;

/// The context of a running stage.
#[derive(Clone, Copy)]
pub struct StageContext<'a> {
    /// The run directory.
    pub run: &'a RunDir,
    /// Reports progress, and fails when the run is to stop.
    pub progress: &'a Progress<'a>,
    /// The memory budget.
    pub budget: &'a Budget,
}

impl<'a> StageContext<'a> {
    /// Returns the path of a file in the run directory.
    pub fn path(&self, file: &str) -> PathBuf {
        self.run.path(file)
    }

    /// Begins a file in the run directory; see [`RunDir::create`].
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(&self, file: &str) -> Result<PendingFile> {
        Ok(self.run.create(file)?)
    }

    /// Takes the memory of the phase `name` of `needs` from the budget.
    ///
    /// # Errors
    /// [`Error::Budget`] if that is more than is left.
    pub fn reserve(&self, needs: &MemoryNeeds, name: &str) -> Result<Reservation> {
        let phase = needs.phases.iter().find(|phase| phase.name == name);
        debug_assert!(phase.is_some(), "no phase {name}");
        let nothing = crate::budget::Phase { name: self.progress.stage().name(), parts: Vec::new() };
        self.budget.take(phase.unwrap_or(&nothing))
    }

    /// Checks that the source's files are those that the run began with: results of changed files must not be
    /// recorded.
    ///
    /// # Errors
    /// [`lowland_io::Error::Changed`] names the file, and what differs.
    pub fn check_source_unchanged(&self, source: &dyn Source) -> Result<()> {
        let now = source.fingerprints()?;
        let paths: Vec<_> = now.iter().map(|file| &file.path).collect();
        let began: Vec<_> =
            self.run.manifest().sources.into_iter().filter(|file| paths.contains(&&file.path)).collect();
        // A caller of the library may create a run directory without sources.
        if began.is_empty() { Ok(()) } else { Ok(lowland_io::check_unchanged(&began, &now)?) }
    }

    /// Returns the record that an earlier process left of the unit, after verifying the unit's files. `None` if
    /// the unit is not finished.
    ///
    /// # Errors
    /// Names a file that differs from its record.
    pub fn recorded_unit<T: DeserializeOwned>(&self, unit: &str) -> Result<Option<T>> {
        let stage = self.progress.stage().name();
        let Some(record) = self.run.stage(stage).and_then(|mut record| record.units.remove(unit)) else {
            return Ok(None);
        };
        self.run.verify_unit(stage, unit, VerifyDepth::Checksums)?;
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
    /// If the manifest cannot be written, or the run is to stop.
    pub fn record_unit<T: Serialize>(&self, unit: &str, files: StageFiles, data: &T) -> Result<()> {
        self.update_unit_files(unit, files, data)?;
        self.progress.unit(unit, false)
    }

    /// Changes the record of a finished unit. Files that are no longer listed are deleted.
    ///
    /// # Errors
    /// If the manifest cannot be written.
    pub fn update_unit_files<T: Serialize>(&self, unit: &str, files: StageFiles, data: &T) -> Result<()> {
        let stage = self.progress.stage().name();
        let data = serde_json::to_value(data)
            .map_err(|e| crate::Error::Data { what: format!("unit {unit} of the {stage} stage: {e}") })?;
        Ok(self.run.finish_unit(stage, unit, files, data)?)
    }

    /// Returns the files of finished units, in the form in which a finished stage lists its files.
    pub fn unit_files(&self) -> StageFiles {
        let record = self.run.stage(self.progress.stage().name()).unwrap_or_default();
        record.units.into_values().flat_map(|unit| unit.files).collect()
    }
}

/// Files with their stamps (length and checksum), as recorded in the manifest.
pub type StageFiles = Vec<(String, FileStamp)>;

pub(crate) fn write_floats(to: &mut impl Write, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = [0u8; 1024];
    for values in values.chunks(bytes.len() / 4) {
        for (out, x) in bytes.chunks_exact_mut(4).zip(values) {
            out.copy_from_slice(&x.to_le_bytes());
        }
        to.write_all(&bytes[..values.len() * 4])?;
    }
    Ok(())
}

/// Creates the thread pool that a run's stages share.
pub(crate) fn thread_pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("lowland-{i}"))
        .build()
        .map_err(|e| Error::Config { field: "threads", why: e.to_string() })
}
