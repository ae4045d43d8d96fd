//! The ids of a table in the order of a model's places, within a given memory.
//!
//! The table has its ids in its own order, and the model in list order. The id column is read once for each range of
//! places whose ids fit into memory; it is narrow beside the vectors, and one pass is enough for most tables.

use std::ops::Range;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{concat, filter, take};
use lowland_engine::Progress;
use lowland_io::Source;

use crate::{Error, Result};

/// Rows of the id column that are read at a time.
const ROWS: usize = 8192;
/// Assumed bytes of an id in memory: a text of average length with its offset, twice, since ids are also reordered.
const ID_BYTES: u64 = 128;

/// Returns the number of places whose ids are held together.
fn places_at_a_time(rows: u64, memory: u64) -> usize {
    (memory / (ID_BYTES + 4)).clamp(ROWS as u64, rows.max(ROWS as u64)) as usize
}

/// Calls `each` with the ids of consecutive places. `places` has the place of each row of `source`.
///
/// # Errors
/// A column that cannot be read, and those of `each`.
pub(super) fn ids_by_place(
    source: &dyn Source,
    id: &str,
    places: &[u32],
    memory: u64,
    progress: &Progress<'_>,
    each: &mut dyn FnMut(&ArrayRef) -> Result<()>,
) -> Result<()> {
    let width = places_at_a_time(places.len() as u64, memory) as u32;
    let rows = places.len() as u32;
    for first in (0..rows).step_by(width as usize) {
        let range = first..first.saturating_add(width).min(rows);
        each(&ids_of(source, id, places, range, progress)?)?;
    }
    source.release();
    Ok(())
}

/// Returns the ids of a range of places, in order.
fn ids_of(
    source: &dyn Source,
    id: &str,
    places: &[u32],
    range: Range<u32>,
    progress: &Progress<'_>,
) -> Result<ArrayRef> {
    let failed = |e: arrow::error::ArrowError| Error::from(lowland_io::Error::format("the ids", e.to_string()));
    let names = [id.to_string()];
    // Where the id of each place of the range is among those that were kept.
    let mut found = vec![0u32; range.len()];
    let (mut kept, mut count): (Vec<ArrayRef>, u32) = (Vec::new(), 0);
    for first in (0..places.len()).step_by(ROWS) {
        progress.check()?;
        let here = &places[first..(first + ROWS).min(places.len())];
        let batch = source.read_columns(&names, first as u64, here.len())?;
        let ids = batch.column(0);
        let wanted: BooleanArray = here.iter().map(|place| Some(range.contains(place))).collect();
        if wanted.true_count() == 0 {
            continue;
        }
        for place in here.iter().filter(|place| range.contains(place)) {
            found[(place - range.start) as usize] = count;
            count += 1;
        }
        kept.push(filter(ids, &wanted).map_err(failed)?);
    }
    let parts: Vec<&dyn Array> = kept.iter().map(|part| part.as_ref()).collect();
    let all = concat(&parts).map_err(failed)?;
    take(&all, &UInt32Array::from(found), None).map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float32Array, Int64Array};
    use arrow::datatypes::Int64Type;
    use arrow::record_batch::RecordBatch;
    use lowland_io::{MemorySource, OpenOptions};

    use super::*;

    #[test]
    fn ids_come_in_the_order_of_places() {
        let rows = 30_000usize;
        let ids = Int64Array::from_iter_values((0..rows as i64).map(|row| row * 10));
        let values = Float32Array::from_iter_values((0..rows).map(|row| row as f32));
        let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as ArrayRef), ("x", Arc::new(values))]);
        let batch = batch.expect("a batch");
        let options = OpenOptions { column: Some("x".into()), stop: None };
        let source = MemorySource::new("rows", batch.schema(), vec![batch], &options).expect("a source");
        let places: Vec<u32> = (0..rows).map(|row| (row * 7 % rows) as u32).collect();
        for memory in [0, 1 << 30] {
            let (mut all, mut calls) = (Vec::new(), 0);
            ids_by_place(&source, "id", &places, memory, &Progress::silent(), &mut |ids| {
                all.extend_from_slice(ids.as_primitive::<Int64Type>().values());
                calls += 1;
                Ok(())
            })
            .expect("ids");
            assert_eq!(calls, if memory == 0 { 4 } else { 1 });
            assert!(places.iter().enumerate().all(|(row, &place)| all[place as usize] == row as i64 * 10));
        }
    }
}
