//! The exact neighbours of a seeded sample of rows. They determine how many lists the join must visit and
//! serve to measure the graph's recall.

use std::io::Write;
use std::path::Path;

use lowland_io::{Error as IoError, FileStamp};

use super::segment_reader::each_portion;
use super::segments::SegmentTable;
use super::window::Window;
use crate::Result;
use crate::distances::PackedRows;
use crate::index::InvertedLists;
use crate::observe::Progress;
use crate::plan::Plan;
use crate::random::stratified;
use crate::work::StageContext;

/// Sample rows and their exact neighbours.
#[derive(Debug, Clone, PartialEq)]
pub struct TruthSample {
    /// Row numbers in list order, ascending.
    pub rows: Vec<u32>,
    /// The `k` nearest neighbours of each row as (squared distance, row), ascending.
    pub neighbors: Vec<Vec<(f32, u32)>>,
}

/// Name of the sample's file.
///
/// `truth.bin`, version 1, little-endian: "LLS1", number of rows (u32); then for each row its number (u32), its
/// number of neighbours (u32), and for each neighbour the squared distance (f32) and the row (u32).
pub const FILE: &str = "truth.bin";

impl TruthSample {
    /// Writes the sample into the run directory.
    pub(super) fn write(&self, work: &StageContext<'_>) -> Result<(String, FileStamp)> {
        let mut bytes = b"LLS1".to_vec();
        bytes.extend((self.rows.len() as u32).to_le_bytes());
        for (row, near) in self.rows.iter().zip(&self.neighbors) {
            bytes.extend(row.to_le_bytes());
            bytes.extend((near.len() as u32).to_le_bytes());
            for (squared, other) in near {
                bytes.extend(squared.to_le_bytes());
                bytes.extend(other.to_le_bytes());
            }
        }
        let mut file = work.create(FILE)?;
        file.write_all(&bytes).map_err(|e| IoError::io(file.path(), "write", e))?;
        let stamp = file.finish()?;
        work.progress.traffic.wrote(stamp.bytes);
        Ok((FILE.into(), stamp))
    }

    /// Reads the sample from the run directory `dir`.
    ///
    /// # Errors
    /// A file that cannot be read, is too short, or has another format.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let bytes = std::fs::read(&path).map_err(|e| IoError::io(&path, "read", e))?;
        let mut words = bytes.as_chunks::<4>().0.iter().copied();
        let corrupt = || IoError::Corrupt { path: path.clone(), what: "not a sample of neighbours, version 1".into() };
        let mut next = || words.next().ok_or_else(corrupt);
        if &next()? != b"LLS1" {
            return Err(corrupt().into());
        }
        let mut sample = TruthSample { rows: Vec::new(), neighbors: Vec::new() };
        for _ in 0..u32::from_le_bytes(next()?) {
            sample.rows.push(u32::from_le_bytes(next()?));
            let mut near = Vec::new();
            for _ in 0..u32::from_le_bytes(next()?) {
                near.push((f32::from_le_bytes(next()?), u32::from_le_bytes(next()?)));
            }
            sample.neighbors.push(near);
        }
        Ok(sample)
    }
}

/// Returns the rows of the sample, ascending, in list order, or in the source's order where there are no lists. The
/// more rows the data has, the fewer are sampled, because each sample row is compared with all rows.
pub(crate) fn sample_rows(plan: &Plan) -> Vec<u32> {
    stratified(plan.settings.seed, 0x51a1, plan.shape.rows, plan.sample_rows() as u64)
        .into_iter()
        .map(|row| row as u32)
        .collect()
}

/// Computes the exact `k` nearest neighbours of the sample's rows by comparing them with all rows.
pub(crate) fn exact_neighbors(
    plan: &Plan,
    lists: &InvertedLists,
    k: usize,
    progress: &Progress<'_>,
) -> Result<TruthSample> {
    let segments = SegmentTable::of_index(lists, plan.index.exact)?;
    let mut window = Window::of(lists, sample_rows(plan), k, plan.settings.seed)?;
    let all: Vec<u32> = (0..segments.count() as u32).collect();
    each_portion(&segments, &all, plan.neighbors.portion_rows, progress, |portion| {
        window.compare(portion, &segments);
        Ok(())
    })?;
    window.sort();
    let neighbors = (0..window.rows().len()).map(|place| window.nearest(place).collect()).collect();
    Ok(TruthSample { rows: window.rows().to_vec(), neighbors })
}

/// Returns the bytes that the exact search for the sample takes in addition to its results.
pub(crate) fn bytes(plan: &Plan) -> u64 {
    let (dim, rows) = (plan.shape.dim, plan.sample_rows() as u64);
    rows * (Window::row_bytes(dim, plan.k()) + 4)
        + Window::bytes(dim, SegmentTable::max_segments(plan), plan.threads)
        + super::segment_reader::bytes::<PackedRows>(plan.neighbors.portion_rows, dim)
}
