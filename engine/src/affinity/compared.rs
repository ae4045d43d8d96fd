//! Rows as PaCMAP compares them: rows of more than 100 components by their first 100 principal components, as in
//! the authors' program (`apply_pca`), if these hold half of the variance. Only the choice of pairs uses them.
//! Index, graph and the map's scores use all components.
//!
//! `compared.f32` in the run directory: rows × 100 scores, in list order. It is a unit of the affinity stage.
//! Invariant: the file follows from the lists alone.

use std::io::Write;

use lowland_io::{Error as IoError, FileStamp, MappedFile, PendingFile};

use crate::distances::squared_distance;
use crate::index::InvertedLists;
use crate::pca::{BlockwisePca, Covariance, Pca};
use crate::plan::Plan;
use crate::work::StageContext;
use crate::{Error, Metric, Result};

/// Largest number of components that are compared.
pub(super) const MOST: usize = 100;
/// Share of the variance that the components must hold. With less, their distances differ from those of the rows
/// (one-hot rows: any hundred axes are as good as any others).
const LEAST: f64 = 0.5;
/// Number of rows that the axes are computed from, evenly spaced in list order.
const SAMPLE: u32 = 8192;
/// Number of rows that are read together.
const ROWS: usize = 1024;
/// Largest number of components whose covariance is decomposed, which takes about a second.
const NARROW: usize = 1024;
/// Name of the file.
const FILE: &str = "compared.f32";
/// Name of the unit.
const UNIT: &str = "compared";

/// Rows as they are compared: all components, or the file's.
pub(super) enum Compared<'a> {
    Whole(&'a InvertedLists),
    Reduced(MappedFile),
}

/// Returns whether rows of `dim` components may be compared by fewer. Bits are not, as in the authors' program.
pub(super) fn reduces(dim: usize, metric: Metric) -> bool {
    dim > MOST && metric != Metric::Hamming
}

impl<'a> Compared<'a> {
    /// Computes the axes, projects all rows and writes their scores as a unit, unless an earlier process did. If the
    /// axes hold less than [`LEAST`], the rows are compared as they are.
    pub(super) fn make(lists: &'a InvertedLists, work: &StageContext<'_>) -> Result<Self> {
        let path = work.path(FILE);
        let kept = match work.recorded_unit::<bool>(UNIT)? {
            Some(kept) => kept,
            None => {
                let pca = axes(lists, work)?;
                let kept = pca.explained_variance_ratio().iter().sum::<f64>() >= LEAST;
                let files = if kept {
                    vec![(FILE.to_string(), project(&pca, lists, work.create(FILE)?, work)?)]
                } else {
                    Vec::new()
                };
                work.record_unit(UNIT, files, &kept)?;
                kept
            }
        };
        if !kept {
            return Ok(Compared::Whole(lists));
        }
        let scores = MappedFile::open(&path)?;
        let (expected, found) = (u64::from(lists.table.rows()) * MOST as u64 * 4, scores.bytes().len() as u64);
        if expected != found {
            return Err(IoError::Truncated { path, expected, found }.into());
        }
        Ok(Compared::Reduced(scores))
    }

    /// Number of components of a row.
    pub(super) fn dim(&self) -> usize {
        match self {
            Compared::Whole(lists) => lists.table.dim,
            Compared::Reduced(_) => MOST,
        }
    }

    /// Returns a row, by its number in list order.
    pub(super) fn row(&self, row: u32) -> Result<&[f32]> {
        match self {
            Compared::Whole(lists) => lists.row(row),
            Compared::Reduced(scores) => Ok(scores.floats(row as usize * MOST * 4, MOST)?),
        }
    }

    /// Returns the distances of `row` to `others`; `None`: they are those of the graph.
    pub(super) fn distances(&self, row: u32, others: impl Iterator<Item = u32>) -> Result<Option<Vec<(f32, u32)>>> {
        if let Compared::Whole(_) = self {
            return Ok(None);
        }
        let own = self.row(row)?;
        others.map(|to| Ok((squared_distance(own, self.row(to)?).sqrt(), to))).collect::<Result<_>>().map(Some)
    }
}

/// Writes the scores of all rows to `file`.
fn project(pca: &Pca, lists: &InvertedLists, mut file: PendingFile, work: &StageContext<'_>) -> Result<FileStamp> {
    let (rows, dim) = (lists.table.rows(), lists.table.dim);
    let (mut vectors, mut scores) = (vec![0f32; ROWS * dim], vec![0f32; ROWS * MOST]);
    let mut bytes = Vec::with_capacity(ROWS * MOST * 4);
    for first in (0..rows).step_by(ROWS) {
        work.progress.check()?;
        let end = rows.min(first + ROWS as u32);
        let count = (end - first) as usize;
        lists.read(first..end, &mut vectors[..count * dim])?;
        pca.project(&vectors[..count * dim], &mut scores[..count * MOST]);
        bytes.clear();
        scores[..count * MOST].iter().for_each(|score| bytes.extend(score.to_le_bytes()));
        file.write_all(&bytes).map_err(|e| IoError::io(file.path(), "write", e))?;
        work.progress.traffic.read((count * dim * 4) as u64);
    }
    let stamp = file.finish()?;
    work.progress.traffic.wrote(stamp.bytes);
    Ok(stamp)
}

/// Computes the first principal axes of a sample of the rows.
fn axes(lists: &InvertedLists, work: &StageContext<'_>) -> Result<Pca> {
    let (rows, dim) = (lists.table.rows(), lists.table.dim);
    let count = rows.min(SAMPLE);
    let row = |i: u32| (u64::from(i) * u64::from(rows) / u64::from(count)) as u32;
    let whole = dim <= NARROW;
    let (mut covariance, mut blocks) =
        (whole.then(|| Covariance::new(dim)), (!whole).then(|| BlockwisePca::new(dim, MOST)));
    let mut vectors = Vec::with_capacity(ROWS * dim);
    for first in (0..count).step_by(ROWS) {
        work.progress.check()?;
        vectors.clear();
        for i in first..count.min(first + ROWS as u32) {
            vectors.extend_from_slice(lists.row(row(i))?);
        }
        covariance.iter_mut().for_each(|covariance| covariance.add(&vectors));
        blocks.iter_mut().for_each(|blocks| blocks.add(&vectors));
        work.progress.traffic.read(vectors.len() as u64 * 4);
    }
    let found = match (covariance, blocks) {
        (Some(covariance), _) => covariance.finish(MOST),
        (None, Some(blocks)) => blocks.finish(),
        (None, None) => unreachable!("one of the two"),
    };
    found.map_err(|e| Error::Data { what: format!("no principal components for pacmap's pairs: {e}") })
}

/// Memory while the scores are computed.
pub(super) fn bytes(plan: &Plan) -> u64 {
    let dim = plan.shape.dim;
    let axes = if dim <= NARROW { Covariance::bytes(dim) } else { BlockwisePca::bytes(dim, MOST) };
    // Vectors and scores, and beside them first the solver, then the axes.
    let rows = ROWS as u64 * (dim as u64 * 4 + MOST as u64 * 8);
    rows + axes.max((MOST * dim) as u64 * 8)
}

/// Disk that the file takes.
pub(super) fn disk(plan: &Plan) -> u64 {
    if reduces(plan.shape.dim, plan.settings.metric) { plan.shape.rows * MOST as u64 * 4 } else { 0 }
}
