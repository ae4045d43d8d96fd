//! Where the engine's rows belong in the output, if unusable rows were left out of the run.
//!
//! What must hold: an output row is written exactly once, in the source's order; a row that is kept
//! without a result ([`InvalidRows::Null`]) is written before the next usable row.

use std::sync::Arc;

use lowland_engine::MapSink;
use lowland_io::RowSet;

use super::map::KEPT_ROWS;
use crate::invalid_rows::{InvalidRows, PlacedRows};

/// How the engine's rows, from which unusable rows were left out, are placed in the output.
pub(super) enum RowPlacement {
    /// No rows were left out.
    All,
    /// The output has only these rows of the source.
    Drop(Arc<RowSet>),
    /// The output has all rows of the source; these rows have results. Also the next row to be
    /// written.
    Null(Arc<RowSet>, u64),
}

impl RowPlacement {
    pub(super) fn of(placed: Option<&PlacedRows>) -> Self {
        match placed.and_then(|placed| Some((placed.invalid(), placed.rows()?))) {
            Some((InvalidRows::Drop, rows)) => RowPlacement::Drop(rows.clone()),
            Some((InvalidRows::Null, rows)) => RowPlacement::Null(rows.clone(), 0),
            _ => RowPlacement::All,
        }
    }
}

/// Distributes `count` usable rows, from the usable row `first` on, over the source's rows from
/// `next` on, up to the next usable row: calls `each(row, rows)` with consecutive portions of at
/// most `portion` rows of the source. Returns the row after the last one.
pub(super) fn spread_rows(
    rows: &RowSet,
    (first, count): (u64, usize),
    next: u64,
    portion: usize,
    mut each: impl FnMut(u64, usize) -> lowland_engine::Result<()>,
) -> lowland_engine::Result<u64> {
    // Unusable rows directly after the last usable one are included.
    let end = rows.source_row(first + count as u64);
    let mut row = next;
    while row < end {
        let here = (end - row).min(portion as u64) as usize;
        each(row, here)?;
        row += here as u64;
    }
    Ok(end)
}

/// Calls `put(row, coordinates)` with the output rows that follow from the usable rows `first..`,
/// in portions of at most `portion` rows of `dim` coordinates each. Rows without a position have
/// NaN.
pub(super) fn complete(
    placing: &mut RowPlacement,
    dim: usize,
    portion: usize,
    (first, coordinates): (u64, &[f32]),
    mut put: impl FnMut(u64, &[f32]) -> lowland_engine::Result<()>,
) -> lowland_engine::Result<()> {
    let RowPlacement::Null(rows, next) = placing else {
        let mut row = first;
        for part in coordinates.chunks(portion.saturating_mul(dim)) {
            put(row, part)?;
            row += (part.len() / dim) as u64;
        }
        return Ok(());
    };
    let mut placed = coordinates.chunks_exact(dim);
    let count = placed.len();
    *next = spread_rows(rows, (first, count), *next, portion.min(KEPT_ROWS), |row, here| {
        let mut all = vec![f32::NAN; here * dim];
        for (i, all) in (row..).zip(all.chunks_exact_mut(dim)) {
            if rows.contains(i)
                && let Some(coordinates) = placed.next()
            {
                all.copy_from_slice(coordinates);
            }
        }
        put(row, &all)
    })?;
    Ok(())
}

/// Passes the rows of the output on to another sink, with NaN for rows without a position.
pub(super) struct Completed<'a> {
    pub(super) sink: &'a mut dyn MapSink,
    pub(super) placing: RowPlacement,
    pub(super) dim: usize,
}

impl MapSink for Completed<'_> {
    fn write(&mut self, first: u64, coordinates: &[f32]) -> lowland_engine::Result<()> {
        let sink = &mut self.sink;
        let portion = usize::MAX / self.dim;
        complete(&mut self.placing, self.dim, portion, (first, coordinates), |row, part| sink.write(row, part))
    }

    fn finish(&mut self) -> lowland_engine::Result<()> {
        self.sink.finish()
    }
}
