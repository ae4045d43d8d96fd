//! Positions at rest: rows × components floats, little-endian, in list order.
//!
//! The positions of a finished run, whose directory is `run`, are those of the map in another order:
//!
//! ```
//! # use std::sync::Arc;
//! # use lowland_engine::{Config, Inputs, embed};
//! # use lowland_io::{MemorySource, RunDir};
//! # let place = tempfile::tempdir()?;
//! # let rows: Vec<f32> = (0..600 * 8).map(|i| ((i * 7919 % 1009) as f32).sin()).collect();
//! # let inputs = Inputs { source: Some(Arc::new(MemorySource::from_vec("rows", rows, 8)?)), ..Inputs::default() };
//! # let plan = Config { n_epochs: Some(10), threads: Some(1), ..Config::default() }.plan(&inputs.describe()?)?;
//! # let (run, _) = RunDir::open(place.path().join("run"), plan.identity(), Vec::new())?;
//! # let mut map = Vec::new();
//! # let report = embed(&plan, &inputs, &run, &mut map, &())?;
//! use lowland_engine::positions::{POSITIONS, Positions};
//!
//! let positions = Positions::open(&run.path(POSITIONS), 600, 2)?;
//! let mut here: Vec<f32> = positions.values()?.to_vec();
//! here.sort_by(f32::total_cmp);
//! map.sort_by(f32::total_cmp);
//! assert_eq!(here, map);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::path::Path;

use lowland_io::{Error as IoError, MappedFile, PendingFile};

use crate::Result;
use crate::plan::Plan;

/// Name of the first positions' file in the run directory: rows × components f32, in list order.
pub const INIT: &str = "init.f32";
/// Name of the map's file in the run directory: rows × components f32, in list order.
pub const POSITIONS: &str = "positions.f32";

/// Writes positions as little-endian f32 to `file`, and gives the file its name.
pub fn write_positions(mut file: PendingFile, positions: &[f32]) -> Result<lowland_io::FileStamp> {
    crate::work::write_floats(&mut file, positions).map_err(|e| IoError::io(file.path(), "write", e))?;
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
