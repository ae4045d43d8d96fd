//! Columns of a table in the order of a model's places, within a given memory.
//!
//! The table has its rows in its own order, and the model in list order. The columns are read once for each range of
//! places whose values fit into memory; they are narrow beside the vectors, and one pass is enough for most tables.

use std::ops::Range;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::error::ArrowError;
use lowland_engine::Progress;
use lowland_io::Source;

use crate::snapshot::{KEPT_BLOCK, converted, stored_type};
use crate::{Error, Result};

/// Rows of the table that are read at a time.
const ROWS: usize = 8192;
/// The fewest places whose values are held together.
const LEAST: u32 = KEPT_BLOCK as u32;
/// Assumed bytes of a value in memory: a text of average length with its offset, twice, since values are also reordered.
const VALUE_BYTES: u64 = 128;
/// Values are held three times: as they were read, together, and in order.
const COPIES: u64 = 3;
/// The most bytes of values that are held once. Arrow's texts have offsets of 31 bits.
const MOST_BYTES: u64 = 1 << 30;

/// Returns the number of places whose values are held together, if values are as long as is assumed.
fn places_at_a_time(rows: u32, columns: usize, memory: u64) -> u32 {
    let wanted = memory / (VALUE_BYTES * columns.max(1) as u64 + 4);
    let clamped = wanted.clamp(ROWS as u64, u64::from(rows).max(ROWS as u64));
    u32::try_from(clamped.next_multiple_of(u64::from(LEAST))).unwrap_or(u32::MAX)
}

/// Calls `each` with the columns `names` of consecutive places. `places` has the place of each row of `source`. Ranges of
/// places whose values take more than `memory` are divided, down to a few thousand places.
///
/// # Errors
/// A column that cannot be read, and those of `each`.
pub(super) fn columns_by_place(
    source: &dyn Source,
    names: &[String],
    places: &[u32],
    memory: u64,
    progress: &Progress<'_>,
    each: &mut dyn FnMut(&RecordBatch) -> Result<()>,
) -> Result<()> {
    let rows = places.len() as u32;
    let mut width = places_at_a_time(rows, names.len(), memory);
    let most = (memory / COPIES).min(MOST_BYTES);
    let mut first = 0;
    while first < rows {
        let range = first..first.saturating_add(width).min(rows);
        let most = if width == LEAST { u64::MAX } else { most };
        match columns_of(source, names, places, range.clone(), most, progress)? {
            Some(columns) => {
                each(&columns)?;
                first = range.end;
            }
            None => width = (width / 2).next_multiple_of(LEAST).min(width - LEAST),
        }
    }
    source.release();
    Ok(())
}

/// Returns the columns of a range of places, in order; `None` if they take more than `most` bytes.
fn columns_of(
    source: &dyn Source,
    names: &[String],
    places: &[u32],
    range: Range<u32>,
    most: u64,
    progress: &Progress<'_>,
) -> Result<Option<RecordBatch>> {
    let failed = |e: ArrowError| Error::from(lowland_io::Error::format("the table's columns", e.to_string()));
    // Where the row of each place of the range is among those that were taken.
    let mut found = vec![0u32; range.len()];
    let (mut taken, mut count, mut bytes) = (Vec::new(), 0, 0);
    for first in (0..places.len()).step_by(ROWS) {
        progress.check()?;
        let here = &places[first..(first + ROWS).min(places.len())];
        let wanted: BooleanArray = here.iter().map(|place| Some(range.contains(place))).collect();
        if wanted.true_count() == 0 {
            continue;
        }
        for place in here.iter().filter(|place| range.contains(place)) {
            found[(place - range.start) as usize] = count;
            count += 1;
        }
        let batch = source.read_columns(names, first as u64, here.len())?;
        let part = filter_record_batch(&without_views(&batch).map_err(failed)?, &wanted).map_err(failed)?;
        bytes += part.get_array_memory_size() as u64;
        if bytes > most {
            return Ok(None);
        }
        taken.push(part);
    }
    let Some(part) = taken.first() else {
        return Err(failed(ArrowError::ComputeError("no row lies at these places".into())));
    };
    let all = concat_batches(&part.schema(), &taken).map_err(failed)?;
    drop(taken);
    take_record_batch(&all, &UInt32Array::from(found)).map(Some).map_err(failed)
}

/// Returns the batch with the values of views in buffers of their own.
fn without_views(batch: &RecordBatch) -> std::result::Result<RecordBatch, ArrowError> {
    let plain = |array: &ArrayRef| converted(array, &stored_type(array.data_type()));
    let columns = batch.columns().iter().map(plain).collect::<std::result::Result<Vec<_>, _>>()?;
    let schema = batch.schema();
    RecordBatch::try_from_iter_with_nullable(schema.fields().iter().zip(columns).map(|(f, c)| (f.name(), c, true)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Float32Array, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use lowland_io::{MemorySource, OpenOptions};

    use super::*;

    #[test]
    fn columns_come_in_the_order_of_places() {
        let rows = 30_000usize;
        let ids = Int64Array::from_iter_values((0..rows as i64).map(|row| row * 10));
        let values = Float32Array::from_iter_values((0..rows).map(|row| row as f32));
        // Longer than is assumed.
        let texts = StringArray::from_iter_values((0..rows).map(|row| format!("{row:0500}")));
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(ids) as ArrayRef),
            ("x", Arc::new(values)),
            ("text", Arc::new(texts)),
        ]);
        let batch = batch.expect("a batch");
        let options = OpenOptions { column: Some("x".into()), ..OpenOptions::default() };
        let source = MemorySource::new("rows", batch.schema(), vec![batch], &options).expect("a source");
        let places: Vec<u32> = (0..rows).map(|row| (row * 7 % rows) as u32).collect();
        let names = ["id".to_string(), "text".to_string()];
        for (memory, columns, expected) in [(0, 1, 8), (1 << 30, 1, 1), (1 << 30, 2, 1), (16 << 20, 2, 4)] {
            let (mut all, mut texts, mut calls) = (Vec::new(), Vec::new(), 0);
            columns_by_place(&source, &names[..columns], &places, memory, &Progress::silent(), &mut |found| {
                all.extend_from_slice(found.column(0).as_primitive::<Int64Type>().values());
                let found = found.columns().get(1).map(|text| text.as_string::<i32>().clone());
                texts.extend(found.iter().flatten().flatten().map(String::from));
                calls += 1;
                Ok(())
            })
            .expect("columns");
            assert_eq!(calls, expected, "{memory} bytes for {columns} columns");
            assert!(places.iter().enumerate().all(|(row, &place)| all[place as usize] == row as i64 * 10));
            let is_right = |(row, &place): (usize, &u32)| texts[place as usize] == format!("{row:0500}");
            assert!(columns == 1 || places.iter().enumerate().all(is_right));
        }
    }
}
