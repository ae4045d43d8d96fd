//! How inputs are read for a run: without unusable rows, and with columns shifted towards 0 before
//! rounding. In a graph without vectors, rows without neighbours are unusable.
//!
//! What must hold: the rows that are read depend only on the input, the metric and the user's
//! choice; usable rows are read as if the others did not exist.

use std::sync::Arc;

use lowland_engine::invalid::{ExcludedRows, FlawSummary, ValidRows, survey, survey_graph};
use lowland_engine::{GraphSource, Metric, Observer};
use lowland_io::{MISSING, RowSet, Shift, ShiftedSource, Source, SubsetSource};

use crate::{Error, GraphInput, Result};

/// How unusable rows are handled: rows without a vector, with a null, NaN or infinite component,
/// and for cosine rows of zeros; in a graph without vectors, rows without neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum InvalidRows {
    /// The rows are counted, and the run is refused.
    #[default]
    Error,
    /// The rows are left out of the output, whose ids are still the row numbers in the source.
    Drop,
    /// The rows stay in the output without coordinates: null, or NaN in an `.npy`.
    Null,
}

impl InvalidRows {
    /// All choices.
    pub const ALL: [InvalidRows; 3] = [InvalidRows::Error, InvalidRows::Drop, InvalidRows::Null];

    /// Returns the choice's name.
    pub fn name(self) -> &'static str {
        match self {
            InvalidRows::Error => "error",
            InvalidRows::Drop => "drop",
            InvalidRows::Null => "null",
        }
    }
}

/// The fewest rows of a map.
pub(crate) const MAP_ROWS: u64 = 2;

/// The rows that have a place on the map, and the others.
pub(crate) struct PlacedRows {
    invalid: InvalidRows,
    /// Number of all rows.
    all: u64,
    /// The usable rows, if some rows are left out.
    rows: Option<Arc<RowSet>>,
    flaws: FlawSummary,
}

impl PlacedRows {
    /// Returns all of `all` rows: flaws are found when the source is read.
    fn all(invalid: InvalidRows, all: u64) -> Self {
        PlacedRows { invalid, all, rows: None, flaws: FlawSummary::default() }
    }

    /// # Errors
    /// If fewer than `least` rows are usable.
    fn of(invalid: InvalidRows, found: ValidRows, least: u64) -> Result<Self> {
        let ValidRows { rows, flaws } = found;
        let (count, all) = (rows.count(), rows.all());
        if flaws.any() && count < least {
            let what = if count == 1 { "1 row".into() } else { "no row".to_string() };
            let needed = if least > 1 { format!(", and a map needs {least}") } else { String::new() };
            return Err(Error::job(format!("{what} of {all} can be placed{needed}: {} cannot: {flaws}", flaws.rows())));
        }
        Ok(PlacedRows { invalid, all, rows: flaws.any().then(|| Arc::new(rows)), flaws })
    }

    /// Examines all rows of a source that is read in one pass, without a run. Unusable rows are an error with
    /// [`InvalidRows::Error`]. `memory` is the memory budget of the process in bytes.
    ///
    /// # Errors
    /// If no row is usable, the source cannot be read, or the observer stops the pass.
    pub(crate) fn of_source(
        source: &Arc<dyn Source>,
        invalid: InvalidRows,
        metric: Metric,
        memory: u64,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let ValidRows { rows, flaws } = survey(source, metric, memory, observer)?;
        if invalid == InvalidRows::Error {
            flaws.refuse(rows.all())?;
        }
        let all = rows.all();
        if rows.count() == 0 {
            return Err(Error::job(format!("none of {all} rows can be placed: {flaws}")));
        }
        Ok(PlacedRows { invalid, all, rows: flaws.any().then(|| Arc::new(rows)), flaws })
    }

    /// Examines all rows of a graph without vectors. Rows without neighbours are an error with
    /// [`InvalidRows::Error`]. `memory` is the memory budget of the process in bytes.
    ///
    /// # Errors
    /// If fewer than two rows are usable, the graph cannot be read, or the observer stops the pass.
    pub(crate) fn of_graph(
        graph: &GraphInput,
        invalid: InvalidRows,
        memory: u64,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let found = survey_graph(graph, graph.path(), memory, observer)?;
        if invalid == InvalidRows::Error {
            found.flaws.refuse(graph.rows())?;
        }
        PlacedRows::of(invalid, found, MAP_ROWS)
    }

    /// Returns how unusable rows are handled.
    pub(crate) fn invalid(&self) -> InvalidRows {
        self.invalid
    }

    /// Returns the usable rows, if some rows are left out.
    pub(crate) fn rows(&self) -> Option<&Arc<RowSet>> {
        self.rows.as_ref()
    }

    /// Returns the rows that were left out, if leaving out was requested.
    pub(crate) fn left_out(&self) -> Option<ExcludedRows> {
        (self.invalid != InvalidRows::Error).then(|| ExcludedRows {
            invalid: self.invalid.name().into(),
            rows: self.flaws.rows(),
            of: self.all,
            kinds: self.flaws.clone(),
        })
    }

    /// Returns the fields, by name, that determine the result's bytes, for the identity of a run.
    pub(crate) fn identity(&self) -> Vec<(&'static str, serde_json::Value)> {
        let Some(rows) = &self.rows else { return Vec::new() };
        let valid = format!("{} of {}: {:016x}", rows.count(), rows.all(), rows.checksum());
        vec![("invalid", self.invalid.name().into()), ("valid_rows", valid.into())]
    }
}

/// How a source is read.
pub(crate) struct PreparedSource {
    /// All rows, unchanged.
    whole: Arc<dyn Source>,
    /// The source that the engine reads.
    source: Arc<dyn Source>,
    asked: (InvalidRows, Metric, bool),
    placed: Arc<PlacedRows>,
    shift: Option<Shift>,
}

impl PreparedSource {
    /// Examines all rows of `source` if some may be left out, and the first rows for the shift if a
    /// shift is `allowed`. `memory` is the memory budget of the process in bytes.
    ///
    /// # Errors
    /// If fewer than `least` rows are usable, the source cannot be read, or the observer stops the pass.
    pub(crate) fn new(
        source: &Arc<dyn Source>,
        least: u64,
        invalid: InvalidRows,
        metric: Metric,
        allowed: bool,
        memory: u64,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let placed = match invalid {
            InvalidRows::Error => PlacedRows::all(invalid, source.shape().rows),
            InvalidRows::Drop | InvalidRows::Null => {
                PlacedRows::of(invalid, survey(source, metric, memory, observer)?, least)?
            }
        };
        let usable: Arc<dyn Source> = match placed.rows() {
            Some(rows) => Arc::new(SubsetSource::new(source.clone(), rows.clone())),
            None => source.clone(),
        };
        let (usable, shift) = shift_source(usable, allowed && metric.ignores_shift())?;
        // Frees the decoded first rows until the source is read again.
        source.release();
        Ok(PreparedSource {
            whole: source.clone(),
            source: usable,
            asked: (invalid, metric, allowed),
            placed: Arc::new(placed),
            shift,
        })
    }

    /// Returns whether this was made for the given source and choices.
    pub(crate) fn matches(
        &self,
        source: &Arc<dyn Source>,
        invalid: InvalidRows,
        metric: Metric,
        allowed: bool,
    ) -> bool {
        Arc::ptr_eq(&self.whole, source) && self.asked == (invalid, metric, allowed)
    }

    /// Returns the source that the engine reads.
    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// Returns the rows of the output, in order, unchanged.
    pub(crate) fn output(&self) -> Arc<dyn Source> {
        match self.placed.rows() {
            Some(rows) if self.placed.invalid() == InvalidRows::Drop => {
                Arc::new(SubsetSource::new(self.whole.clone(), rows.clone()))
            }
            _ => self.whole.clone(),
        }
    }

    /// Returns the usable rows and the others.
    pub(crate) fn placed(&self) -> &Arc<PlacedRows> {
        &self.placed
    }

    /// Returns the shift that is subtracted from the rows.
    pub(crate) fn shift(&self) -> Option<&Shift> {
        self.shift.as_ref()
    }
}

/// Returns the source with columns shifted towards 0, if that is `allowed` and some columns are far
/// from 0.
pub(crate) fn shift_source(source: Arc<dyn Source>, allowed: bool) -> Result<(Arc<dyn Source>, Option<Shift>)> {
    let shift = if allowed { Shift::of(source.as_ref())? } else { None };
    Ok(match shift {
        Some(shift) => (Arc::new(ShiftedSource::new(source, shift.clone())), Some(shift)),
        None => (source, None),
    })
}

/// A given graph from which rows are left out: neighbours are renumbered, and neighbours that are
/// left out become missing.
pub(crate) struct FilteredGraph<'a> {
    pub(crate) graph: &'a GraphInput,
    pub(crate) rows: Option<Arc<RowSet>>,
}

impl FilteredGraph<'_> {
    /// Returns the set of remaining rows if the graph covers all rows of the source.
    fn set(&self) -> Option<&RowSet> {
        self.rows.as_deref().filter(|rows| rows.all() == self.graph.rows())
    }
}

impl GraphSource for FilteredGraph<'_> {
    fn k(&self) -> usize {
        self.graph.k()
    }

    fn rows(&self) -> u64 {
        self.set().map_or(self.graph.rows(), RowSet::count)
    }

    fn nearest(&self) -> Option<usize> {
        self.graph.nearest()
    }

    fn resident_bytes(&self) -> u64 {
        self.graph.resident_bytes() + self.set().map_or(0, |set| RowSet::bytes(set.all()))
    }

    fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> lowland_engine::Result<()> {
        let Some(set) = self.set() else { return self.graph.read_rows(first, ids, distances) };
        let k = self.k().max(1);
        let (wanted, mut done) = (ids.len() / k, 0);
        while done < wanted {
            let row = set.source_row(first + done as u64);
            let here = ((wanted - done) as u64).min(set.all() - row) as usize;
            if here == 0 {
                break;
            }
            let range = done * k..(done + here) * k;
            self.graph.read_rows(row, &mut ids[range.clone()], &mut distances[range])?;
            let from = done;
            for i in (0..here).filter(|&i| set.contains(row + i as u64)) {
                let own = (from + i) * k..(from + i + 1) * k;
                ids.copy_within(own.clone(), done * k);
                distances.copy_within(own, done * k);
                done += 1;
            }
        }
        for (ids, distances) in ids.chunks_exact_mut(k).zip(distances.chunks_exact_mut(k)) {
            let mut kept = 0;
            for i in 0..k {
                if ids[i] != MISSING && set.contains(u64::from(ids[i])) {
                    (ids[kept], distances[kept]) = (set.rank(u64::from(ids[i])) as u32, distances[i]);
                    kept += 1;
                }
            }
            ids[kept..].fill(MISSING);
            distances[kept..].fill(f32::INFINITY);
        }
        Ok(())
    }
}
