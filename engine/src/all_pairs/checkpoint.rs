//! The checkpoint of an exact method: the state from which the descent can continue after any
//! iteration.
//!
//! File `exact-<iteration>.state`, version 1, little-endian:
//!
//! ```text
//! "LLX1"        4 bytes: format and version
//! converged     u32, 0 or 1
//! iteration     u64, the iterations done
//! steps         u64, the optimizer's steps
//! lengths       4 × u64: how many numbers follow of each of the four parts
//! positions, first moments, second moments, the loss's memory: f64 each
//! ```
//!
//! The file belongs to the stage's unit "checkpoint"; each checkpoint replaces the one before.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use lowland_io::{Error as IoError, MappedFile};
use serde::{Deserialize, Serialize};

use super::fit::DescentState;
use super::optimizer::OptimizerMoments;
use crate::Result;
use crate::work::{Checkpoints, StageContext};

const MAGIC: &[u8; 4] = b"LLX1";
const HEADER: usize = 8 + 6 * 8;

/// The record of a checkpoint in the manifest.
#[derive(Serialize, Deserialize)]
struct DescentCheckpointRecord {
    iteration: usize,
    file: String,
}

/// Writes checkpoints to the run directory, at a time interval.
pub(super) struct DescentCheckpoints<'a>(Checkpoints<'a>);

impl<'a> DescentCheckpoints<'a> {
    pub(super) fn new(work: StageContext<'a>, every: Duration) -> Self {
        DescentCheckpoints(Checkpoints::new(work, every))
    }

    /// Returns the state that an earlier process stored, if any.
    pub(super) fn load(&self) -> Result<Option<DescentState>> {
        let Some(DescentCheckpointRecord { iteration, file }) = self.0.found::<DescentCheckpointRecord>()? else {
            return Ok(None);
        };
        read(&self.0.work.path(&file), iteration).map(Some)
    }

    /// Returns whether the interval since the last checkpoint has passed.
    pub(super) fn due(&self) -> bool {
        self.0.due()
    }

    pub(super) fn save(&mut self, state: &DescentState) -> Result<()> {
        let name = format!("exact-{}.state", state.iteration);
        let record = DescentCheckpointRecord { iteration: state.iteration, file: name.clone() };
        self.0.keep(name, &record, |file| write(file, state))
    }
}

/// Returns the numeric parts of a state, in file order.
fn parts(state: &DescentState) -> [&[f64]; 4] {
    [&state.positions, &state.moments.first, &state.moments.second, &state.memory]
}

fn write(file: &mut impl Write, state: &DescentState) -> std::io::Result<()> {
    let parts = parts(state);
    file.write_all(MAGIC)?;
    file.write_all(&u32::from(state.converged).to_le_bytes())?;
    for word in [state.iteration as u64, state.moments.steps].into_iter().chain(parts.map(|part| part.len() as u64)) {
        file.write_all(&word.to_le_bytes())?;
    }
    const PORTION: usize = 128;
    let mut bytes = [0u8; 8 * PORTION];
    for numbers in parts.into_iter().flat_map(|part| part.chunks(PORTION)) {
        for (out, x) in bytes.chunks_exact_mut(8).zip(numbers) {
            out.copy_from_slice(&x.to_le_bytes());
        }
        file.write_all(&bytes[..numbers.len() * 8])?;
    }
    Ok(())
}

fn read(path: &Path, iteration: usize) -> Result<DescentState> {
    let map = MappedFile::open(path)?;
    let bytes = map.bytes();
    let corrupt = |what: &str| IoError::Corrupt { path: path.to_path_buf(), what: what.into() };
    let (words, _) = bytes.as_chunks::<8>();
    let word = |i: usize| words.get(i).map_or(0, |word| u64::from_le_bytes(*word));
    if bytes.first_chunk() != Some(MAGIC) || bytes.len() < HEADER || word(1) != iteration as u64 {
        return Err(corrupt("not this map's checkpoint, version 1").into());
    }
    let lengths: [u64; 4] = std::array::from_fn(|i| word(3 + i));
    let expected = lengths.iter().fold(HEADER as u64, |sum, &n| sum.saturating_add(n.saturating_mul(8)));
    if expected != bytes.len() as u64 {
        return Err(IoError::Truncated { path: path.to_path_buf(), expected, found: bytes.len() as u64 }.into());
    }
    let mut numbers = words[HEADER / 8..].iter().map(|word| f64::from_le_bytes(*word));
    let mut next = |i: usize| numbers.by_ref().take(lengths[i] as usize).collect::<Vec<f64>>();
    let (positions, first, second, memory) = (next(0), next(1), next(2), next(3));
    Ok(DescentState {
        iteration,
        positions,
        moments: OptimizerMoments { steps: word(2), first, second },
        memory,
        converged: bytes[4] != 0,
    })
}

/// Returns the bytes of a checkpoint of `numbers` numbers.
pub(super) fn bytes(numbers: u64) -> u64 {
    HEADER as u64 + numbers * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descent_state_round_trips() {
        let state = DescentState {
            iteration: 7,
            positions: vec![0.1, -2.0, 3e-300],
            moments: OptimizerMoments { steps: 5, first: vec![1.0; 300], second: Vec::new() },
            memory: vec![-0.0],
            converged: true,
        };
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("state");
        let mut bytes = Vec::new();
        write(&mut bytes, &state).expect("written");
        assert_eq!(bytes.len() as u64, super::bytes(304));
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(read(&path, 7).expect("a state"), state);
        assert!(read(&path, 8).is_err());
        for length in [0, 5, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).expect("written");
            assert!(read(&path, 7).is_err(), "{length}");
        }
    }
}
