//! Checkpoints of a layout: the state from which a run goes on after any epoch. The state consists of the
//! positions and the optimizer's two numbers for each component (`optimizer`), which are called moments here.
//!
//! `layout-<epoch>.state`, version 1, little-endian: "LLC1", components as padded for their kernel (u32), rows
//! (u32), epochs done (u32); then rows × components positions and rows × 2 × components moments (f32). The file
//! is the stage's unit "checkpoint" in the manifest, and replaces the previous checkpoint.
//!
//! What must hold: a run that goes on from any checkpoint ends with the same bytes as a run that was never
//! stopped.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use lowland_io::{Error as IoError, MappedFile};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::work::{self, StageContext, write_floats};

const MAGIC: &[u8; 4] = b"LLC1";
const HEADER: usize = 16;

/// The manifest's record of a checkpoint.
#[derive(Serialize, Deserialize)]
struct CheckpointRecord {
    epoch: u32,
    file: String,
}

/// Stores the state of a layout after an epoch.
pub trait CheckpointSink {
    /// Returns whether a checkpoint should be written now.
    fn due(&self) -> bool;
    /// Stores the state after `epoch` epochs; positions and moments are given row by row.
    fn save(&mut self, epoch: u32, positions: &[f32], moments: &[f32]) -> Result<()>;
}

/// Stores nothing: for layouts that take seconds.
impl CheckpointSink for () {
    fn due(&self) -> bool {
        false
    }
    fn save(&mut self, _: u32, _: &[f32], _: &[f32]) -> Result<()> {
        Ok(())
    }
}

/// Writes checkpoints to the run directory, at a time interval.
pub(super) struct RunCheckpoints<'a> {
    files: work::Checkpoints<'a>,
    rows: u32,
}

impl<'a> RunCheckpoints<'a> {
    pub(super) fn new(work: StageContext<'a>, rows: u32, every: Duration) -> Self {
        RunCheckpoints { files: work::Checkpoints::new(work, every), rows }
    }

    /// Opens the checkpoint that an earlier process left, if there is one.
    pub(super) fn load(&self) -> Result<Option<LayoutState>> {
        let Some(CheckpointRecord { epoch, file }) = self.files.found::<CheckpointRecord>()? else { return Ok(None) };
        LayoutState::open(&self.files.work.path(&file), self.rows, epoch).map(Some)
    }
}

impl CheckpointSink for RunCheckpoints<'_> {
    fn due(&self) -> bool {
        self.files.due()
    }

    fn save(&mut self, epoch: u32, positions: &[f32], moments: &[f32]) -> Result<()> {
        let name = format!("layout-{epoch}.state");
        let record = CheckpointRecord { epoch, file: name.clone() };
        let rows = self.rows;
        self.files.keep(name, &record, |file| {
            file.write_all(MAGIC)?;
            for word in [(positions.len() / rows.max(1) as usize) as u32, rows, epoch] {
                file.write_all(&word.to_le_bytes())?;
            }
            write_floats(file, positions)?;
            write_floats(file, moments)
        })
    }
}

/// A checkpoint, memory-mapped.
pub struct LayoutState {
    map: MappedFile,
    pub(super) epoch: u32,
    numbers: usize,
}

impl LayoutState {
    fn open(path: &Path, rows: u32, epoch: u32) -> Result<Self> {
        let map = MappedFile::open(path)?;
        let corrupt = |what: &str| IoError::Corrupt { path: path.to_path_buf(), what: what.into() };
        let (words, _) = map.bytes().as_chunks::<4>();
        let word = |i: usize| words.get(i).map(|w| u32::from_le_bytes(*w));
        if words.first() != Some(MAGIC) || (word(2), word(3)) != (Some(rows), Some(epoch)) {
            return Err(corrupt("not this layout's checkpoint, version 1").into());
        }
        let numbers = rows as usize * word(1).unwrap_or(0) as usize;
        let (expected, found) = ((HEADER + numbers * 12) as u64, map.bytes().len() as u64);
        if expected != found {
            return Err(IoError::Truncated { path: path.to_path_buf(), expected, found }.into());
        }
        Ok(LayoutState { map, epoch, numbers })
    }

    /// Returns the positions and the moments.
    pub(super) fn positions_and_moments(&self) -> Result<(&[f32], &[f32])> {
        Ok((self.map.floats(HEADER, self.numbers)?, self.map.floats(HEADER + self.numbers * 4, self.numbers * 2)?))
    }
}

/// Returns the bytes of a checkpoint of a map with this number of components, padded.
pub(super) fn bytes(rows: u64, components: u64) -> u64 {
    HEADER as u64 + rows * components * 12
}
