//! Positions at rest: rows × components floats, little-endian, in list order.

use std::io::Write;
use std::path::Path;

use lowland_io::{Error as IoError, MappedFile, PendingFile};

use crate::Result;
use crate::plan::Plan;

/// Name of the first positions' file in the run directory: rows × components f32, in list order.
pub const INIT: &str = "init.f32";
/// Name of the map's file in the run directory: rows × components f32, in list order.
pub const POSITIONS: &str = "positions.f32";

/// Writes positions as little-endian f32.
pub fn write_positions(path: &Path, positions: &[f32]) -> Result<lowland_io::FileStamp> {
    let mut file = PendingFile::create(path)?;
    crate::work::write_floats(&mut file, positions).map_err(|e| IoError::io(path, "write", e))?;
    file.flush().map_err(|e| IoError::io(path, "write", e))?;
    Ok(file.finish()?)
}

/// Positions in a file, memory-mapped.
pub struct Positions {
    map: MappedFile,
}

impl Positions {
    /// Opens the positions of `rows` rows with `width` components.
    pub fn open(path: &Path, rows: u64, width: usize) -> Result<Self> {
        let map = MappedFile::open(path)?;
        let (expected, found) = (rows * width as u64 * 4, map.bytes().len() as u64);
        if expected != found {
            return Err(IoError::Truncated { path: path.to_path_buf(), expected, found }.into());
        }
        Ok(Positions { map })
    }

    /// Returns the positions, rows × components.
    pub fn values(&self) -> Result<&[f32]> {
        Ok(self.map.floats(0, self.map.bytes().len() / 4)?)
    }
}

/// Returns the bytes of a map's positions.
pub fn map_bytes(plan: &Plan) -> u64 {
    plan.shape.rows * plan.settings.n_components as u64 * 4
}
