//! What of a source a run works on: the rows that can be placed, and their
//! numbers moved towards 0 before they are rounded.
//!
//! What must hold: what is read follows from the source, the metric and the
//! choice alone; the valid rows are read as they would be without the others.

use std::sync::Arc;

use lowland_engine::invalid::{Flaws, LeftOut, survey};
use lowland_engine::{GraphSource, Metric, Observer};
use lowland_io::{MISSING, RowSet, Shift, Shifted, Source, Subset};

use crate::{Error, Graph, Result};

/// What is done with rows that cannot be placed: those without a vector, with a null, NaN or
/// infinite component, and under cosine those of all zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Invalid {
    /// They are counted, and the run is refused.
    #[default]
    Error,
    /// They are left out of the output, whose row numbers stay those of the source.
    Drop,
    /// They stay in the output without coordinates: null, or NaN in an `.npy`.
    Null,
}

impl Invalid {
    /// All of them.
    pub const ALL: [Invalid; 3] = [Invalid::Error, Invalid::Drop, Invalid::Null];

    /// The choice's name.
    pub fn name(self) -> &'static str {
        match self {
            Invalid::Error => "error",
            Invalid::Drop => "drop",
            Invalid::Null => "null",
        }
    }
}

/// How a source is read.
pub(crate) struct Reading {
    /// All its rows, as they are at rest.
    whole: Arc<dyn Source>,
    /// What the engine reads.
    source: Arc<dyn Source>,
    asked: (Invalid, Metric, bool),
    /// The rows that can be placed, where others were found and are left out.
    rows: Option<Arc<RowSet>>,
    flaws: Flaws,
    shift: Option<Shift>,
}

impl Reading {
    /// Looks at all rows of `source` where some may be left out, and at the first ones for the
    /// shift, where one is `allowed`. `memory` is what the process may hold.
    ///
    /// # Errors
    /// Where fewer than two rows can be placed, the source cannot be read, or the observer stops it.
    pub(crate) fn new(
        source: &Arc<dyn Source>,
        invalid: Invalid,
        metric: Metric,
        allowed: bool,
        memory: u64,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let (mut rows, mut flaws) = (None, Flaws::default());
        let mut placed = source.clone();
        if invalid != Invalid::Error {
            let found = survey(source, metric, memory, observer)?;
            flaws = found.flaws;
            if flaws.any() {
                let (count, all) = (found.rows.count(), found.rows.all());
                if count < 2 {
                    let what = if count == 1 { "1 row".into() } else { "no row".to_string() };
                    return Err(Error::job(format!(
                        "{what} of {all} can be placed, and 2 are needed: {} cannot: {flaws}",
                        flaws.rows()
                    )));
                }
                let set = Arc::new(found.rows);
                placed = Arc::new(Subset::new(source.clone(), set.clone()));
                rows = Some(set);
            }
        }
        let (placed, shift) = shifted(placed, allowed && metric.ignores_shift())?;
        // What the first rows were decoded from is not held until they are read again.
        source.release();
        Ok(Reading { whole: source.clone(), source: placed, asked: (invalid, metric, allowed), rows, flaws, shift })
    }

    /// Whether it is what these ask for.
    pub(crate) fn is_of(&self, source: &Arc<dyn Source>, invalid: Invalid, metric: Metric, allowed: bool) -> bool {
        Arc::ptr_eq(&self.whole, source) && self.asked == (invalid, metric, allowed)
    }

    /// What the engine reads.
    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// The rows of the output, in its order, as they are at rest.
    pub(crate) fn output(&self) -> Arc<dyn Source> {
        match &self.rows {
            Some(rows) if self.invalid() == Invalid::Drop => Arc::new(Subset::new(self.whole.clone(), rows.clone())),
            _ => self.whole.clone(),
        }
    }

    /// What is done with rows that cannot be placed.
    pub(crate) fn invalid(&self) -> Invalid {
        self.asked.0
    }

    /// The rows that can be placed, where others are left out.
    pub(crate) fn rows(&self) -> Option<&Arc<RowSet>> {
        self.rows.as_ref()
    }

    /// What was subtracted from the rows.
    pub(crate) fn shift(&self) -> Option<&Shift> {
        self.shift.as_ref()
    }

    /// The rows that were left out, where that was asked for.
    pub(crate) fn left_out(&self) -> Option<LeftOut> {
        let invalid = self.invalid();
        (invalid != Invalid::Error).then(|| LeftOut {
            invalid: invalid.name(),
            rows: self.flaws.rows(),
            of: self.whole.shape().rows,
            kinds: self.flaws.clone(),
        })
    }

    /// What of it decides the result's bytes, by name, for the identity of a run.
    pub(crate) fn identity(&self) -> Vec<(&'static str, serde_json::Value)> {
        let mut fields = Vec::new();
        if let Some(rows) = &self.rows {
            fields.push(("invalid", self.invalid().name().into()));
            fields.push(("valid_rows", format!("{} of {}: {:016x}", rows.count(), rows.all(), rows.checksum()).into()));
        }
        if let Some(shift) = &self.shift {
            fields.push(("shift", serde_json::json!(shift)));
        }
        fields
    }
}

/// The source with its columns moved towards 0, where that is `allowed` and some lie far from it.
pub(crate) fn shifted(source: Arc<dyn Source>, allowed: bool) -> Result<(Arc<dyn Source>, Option<Shift>)> {
    let shift = if allowed { Shift::of(source.as_ref())? } else { None };
    Ok(match shift {
        Some(shift) => (Arc::new(Shifted::new(source, shift.clone())), Some(shift)),
        None => (source, None),
    })
}

/// A graph from outside, of which some rows are left out: neighbours are numbered anew, and those
/// that are left out are none.
pub(crate) struct Placed<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) rows: Option<Arc<RowSet>>,
}

impl Placed<'_> {
    /// The rows to be left out, if the graph is one of all of them.
    fn set(&self) -> Option<&RowSet> {
        self.rows.as_deref().filter(|rows| rows.all() == self.graph.rows())
    }
}

impl GraphSource for Placed<'_> {
    fn k(&self) -> usize {
        self.graph.k()
    }

    fn rows(&self) -> u64 {
        self.set().map_or(self.graph.rows(), RowSet::count)
    }

    fn nearest(&self) -> Option<usize> {
        self.graph.nearest()
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
