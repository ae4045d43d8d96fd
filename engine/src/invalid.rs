//! Rows that cannot be placed on a map: rows without a vector, with a number that is not finite, or without a
//! direction where the metric needs one; in a graph without vectors, rows without neighbours. Rows are counted by
//! flaw, with the place of the first row of each.
//!
//! What must hold: a row has one flaw, that of its first component with a flaw; the result depends only on the
//! rows and the metric.
//!
//! Which of three rows can be placed:
//!
//! ```
//! use std::sync::Arc;
//!
//! use lowland_engine::Metric;
//! use lowland_engine::invalid::survey;
//! use lowland_io::{MemorySource, Source};
//!
//! let rows = vec![0.0, 1.0, f32::NAN, 1.0, 2.0, 2.0];
//! let source: Arc<dyn Source> = Arc::new(MemorySource::from_vec("rows", rows, 2)?);
//! let found = survey(&source, Metric::Euclidean, 64 << 20, &())?;
//! assert_eq!((found.rows.count(), found.flaws.rows()), (2, 1));
//! println!("{}", found.flaws); // 1 with NaN, the first at …
//! # Ok::<(), lowland_engine::Error>(())
//! ```

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use lowland_io::{Loader, MISSING, RowSet, RowSetBuilder, Source, is_null_f64};
use serde::{Deserialize, Serialize};

use crate::budget::{MemoryNeeds, base_bytes};
pub use crate::error::{FlawCount, FlawSummary, RowFlaw};
use crate::inputs::GraphSource;
use crate::observe::{Observer, Stage};
use crate::session::Session;
use crate::{Error, Metric, Result, prepared_loader};

/// The result of a survey.
#[derive(Debug, Clone)]
pub struct ValidRows {
    /// The rows that can be placed.
    pub rows: RowSet,
    /// The other rows.
    pub flaws: FlawSummary,
}

/// Bytes of a batch of the survey.
const BATCH_BYTES: usize = 1 << 20;

/// Checks all rows of `source` and returns those that can be placed under `metric`. `memory` is the number of
/// bytes that the process may hold.
///
/// # Errors
/// If the source cannot be read or changes meanwhile; [`Error::Cancelled`] if the observer stops the survey;
/// [`Error::Budget`] if the memory is too small for a bit per row and some batches.
pub fn survey(source: &Arc<dyn Source>, metric: Metric, memory: u64, observer: &dyn Observer) -> Result<ValidRows> {
    let shape = source.shape();
    let batch_rows = (BATCH_BYTES / (shape.dim.max(1) * 4)).clamp(1, 65_536);
    let needed = needs(source.as_ref(), batch_rows).bytes() + base_bytes(0, 1);
    if needed > memory {
        return Err(Error::Budget {
            asked: memory,
            needed: needed.next_multiple_of(1 << 20),
            stage: Stage::Survey.name(),
        });
    }
    let mut session = Session::start(observer, memory, Some(source.clone()))?;
    let (mut rows, mut flaws) = (RowSetBuilder::new(shape.rows), FlawSummary::default());
    let ((), stage) = session.stage(Stage::Survey, (shape.rows, "rows"), true, |progress, _| {
        for batch in prepared_loader(source.clone(), metric, batch_rows) {
            let batch = batch?;
            flaws.check_rows(metric, source.as_ref(), batch.first, batch.values(), |row| rows.remove(row))?;
            progress.traffic.read((batch.rows() * shape.dim * source.dtype().bytes()) as u64);
            progress.advance(batch.rows() as u64)?;
        }
        Ok(())
    })?;
    session.tell_end(stage, false)?;
    Ok(ValidRows { rows: rows.finish(), flaws })
}

/// Reads all rows of a graph without vectors and returns those that can be placed: the rows that have a neighbour
/// or are one. The row itself, and neighbours at an infinite distance, do not count. `path` is the graph's file;
/// `memory` is the number of bytes that the process may hold.
///
/// # Errors
/// If the graph cannot be read; [`Error::Cancelled`] if the observer stops the survey; [`Error::Budget`] if the memory
/// is too small for two bits per row and a portion of the graph.
pub fn survey_graph(graph: &dyn GraphSource, path: &Path, memory: u64, observer: &dyn Observer) -> Result<ValidRows> {
    let (rows, k) = (graph.rows(), graph.k().max(1));
    let portion = (BATCH_BYTES / (8 * k)).clamp(1, 65_536).min(rows as usize);
    let held = [("neighbours", (portion * k * 8) as u64), ("two bits a row", 2 * RowSet::bytes(rows))];
    let needed = MemoryNeeds::default().phase("survey", held).bytes() + base_bytes(0, 1);
    if needed > memory {
        let needed = needed.next_multiple_of(1 << 20);
        return Err(Error::Budget { asked: memory, needed, stage: Stage::Survey.name() });
    }
    let mut session = Session::start(observer, memory, None)?;
    let mut unlinked = RowSetBuilder::new(rows);
    let ((), stage) = session.stage(Stage::Survey, (rows, "rows"), false, |progress, _| {
        let (mut ids, mut distances) = (vec![0; portion * k], vec![0.0; portion * k]);
        for first in (0..rows).step_by(portion.max(1)) {
            let count = (rows - first).min(portion as u64) as usize;
            let (ids, distances) = (&mut ids[..count * k], &mut distances[..count * k]);
            graph.read_rows(first, ids, distances)?;
            for (row, (ids, distances)) in (first..).zip(ids.chunks_exact(k).zip(distances.chunks_exact(k))) {
                for (&id, distance) in ids.iter().zip(distances) {
                    if id != MISSING && u64::from(id) != row && distance.is_finite() {
                        unlinked.remove(row);
                        unlinked.remove(u64::from(id));
                    }
                }
            }
            progress.traffic.read((count * k * 8) as u64);
            progress.advance(count as u64)?;
        }
        Ok(())
    })?;
    session.tell_end(stage, false)?;
    let linked = unlinked.complement().finish();
    let mut flaws = FlawSummary::default();
    let count = rows - linked.count();
    if count > 0 {
        let first = (0..rows).find(|&row| !linked.contains(row)).unwrap_or(0);
        flaws.add_unlinked(path, first, count);
    }
    Ok(ValidRows { rows: linked, flaws })
}

fn needs(source: &dyn Source, batch_rows: usize) -> MemoryNeeds {
    let shape = source.shape();
    let batches = Loader::bytes(batch_rows, shape.dim) + source.held_bytes();
    MemoryNeeds::default().phase("survey", [("batches", batches), ("a bit a row", RowSet::bytes(shape.rows))])
}

/// The rows that were left out of a run, for its report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExcludedRows {
    /// The option for these rows: "drop" or "null".
    pub invalid: Cow<'static, str>,
    /// Number of rows left out.
    pub rows: u64,
    /// Number of rows of the source.
    pub of: u64,
    /// The flaws of the rows left out.
    pub kinds: FlawSummary,
}

impl ExcludedRows {
    /// Returns the note of a run about these rows, which says what became of them; `None` if there are none.
    pub fn note(&self) -> Option<String> {
        let what = if self.invalid == "drop" { "are left out" } else { "have no coordinates" };
        (self.rows > 0).then(|| format!("{} of {} rows {what}: {}", self.rows, self.of, self.kinds))
    }
}

impl fmt::Display for ExcludedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} rows", self.rows, self.of)?;
        if self.rows > 0 {
            write!(f, ": {}", self.kinds)?;
        }
        Ok(())
    }
}

/// The largest component whose squared distances do not overflow f32, in any dimension.
const MAX_COMPONENT: f32 = 1e15;

/// Returns whether the rows from `first` on, and all rows before them, can be placed. Rows that cannot be
/// placed are counted in `flaws`.
///
/// # Errors
/// If a number's square overflows single precision, or a component is not 0 or 1 with `hamming`.
pub fn check_rows(
    flaws: &mut FlawSummary,
    metric: Metric,
    source: &dyn Source,
    first: u64,
    values: &[f32],
) -> Result<bool> {
    flaws.check_rows(metric, source, first, values, |_| {})?;
    if flaws.any() {
        return Ok(false);
    }
    let dim = source.shape().dim;
    let refused = |at: usize, why: &str| {
        let place = source.locate(first + (at / dim) as u64);
        Err(Error::Data { what: format!("{}: row {}: {why}", place.path.display(), place.row) })
    };
    match metric {
        // Rows are scaled to length 1.
        Metric::Cosine | Metric::Correlation => {}
        Metric::Euclidean | Metric::Sqeuclidean | Metric::Angular | Metric::Manhattan => {
            if let Some(at) = values.iter().position(|x| x.abs() > MAX_COMPONENT) {
                let why = format!(
                    "component {} is {:e}; squares of numbers above {MAX_COMPONENT:e} are lost in single precision: scale the data down",
                    at % dim,
                    values[at]
                );
                return refused(at, &why);
            }
        }
        Metric::Hamming => {
            if let Some(at) = values.iter().position(|&x| x != 0.0 && x != 1.0) {
                let why = format!(
                    "component {} is {}, and hamming counts components that are 0 or 1; read packed bits as bits, or \
                     use sqeuclidean",
                    at % dim,
                    values[at]
                );
                return refused(at, &why);
            }
        }
    }
    Ok(true)
}

/// Returns the error for a component of `row` that is null, NaN, infinite or too large for single precision,
/// with its value in the file before any scaling. `component` is where the number was found.
pub fn not_finite(source: &dyn Source, row: u64, component: usize) -> Error {
    let mut raw = vec![0f64; source.shape().dim];
    if let Err(e) = source.read_rows_f64(row, &mut raw) {
        return e.into();
    }
    // Scaling a row with an infinity to length 1 makes other components NaN too: searches the first one in the
    // file.
    let component = raw.iter().position(|&x| !(x as f32).is_finite()).unwrap_or(component);
    let place = source.locate(row);
    let value = raw[component];
    if is_null_f64(value) {
        let column = source.column_of(row, component).unwrap_or_default();
        return lowland_io::Error::Null { path: place.path, row: place.row, column }.into();
    }
    Error::NotFinite { path: place.path, row: place.row, component, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row has one neighbour, the next row; the last has none, and row 0 is no row's neighbour.
    struct Chain(u64);

    impl GraphSource for Chain {
        fn k(&self) -> usize {
            1
        }

        fn rows(&self) -> u64 {
            self.0
        }

        fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> Result<()> {
            for (row, (id, distance)) in (first..).zip(ids.iter_mut().zip(distances)) {
                let is_last = row + 1 == self.0;
                (*id, *distance) = if is_last { (MISSING, f32::INFINITY) } else { (row as u32 + 1, 1.0) };
            }
            Ok(())
        }
    }

    #[test]
    fn survey_of_a_graph_names_the_memory_that_is_enough() {
        // Two bits a row are 25 MiB here, so that the process itself is not all that is needed.
        let (graph, path) = (Chain(100_000_000), Path::new("graph.arrow"));
        let Err(Error::Budget { asked: 4096, needed, stage: "survey" }) = survey_graph(&graph, path, 4096, &()) else {
            panic!("a survey within 4 KiB");
        };
        assert!(needed.is_multiple_of(1 << 20) && needed > 2 * RowSet::bytes(graph.rows()), "{needed}");
        assert!(matches!(survey_graph(&graph, path, needed - (1 << 20), &()), Err(Error::Budget { .. })));
        let (few, enough) = (Chain(100_000), needed);
        let found = survey_graph(&few, path, enough, &()).expect("a survey");
        assert_eq!((found.rows.count(), found.flaws.any()), (few.rows(), false));
        let alone = survey_graph(&Chain(1), path, enough, &()).expect("a survey");
        assert_eq!((alone.rows.count(), alone.flaws.rows()), (0, 1));
    }
}
