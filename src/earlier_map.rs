//! Initial positions from an earlier map, matched by id if both tables have the id column, else by
//! row number.
//!
//! What must hold: an id that two rows have is refused before any work; beside the positions, 16
//! bytes for each row of the source are held, which the plan counts; positions are read once, in
//! portions.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::DataType;
use lowland_engine::{Event, Observer, PositionSource, PositionSummary};
use lowland_io::{RowSet, Source, SubsetSource};

use crate::Result;
use crate::evaluate::open_map;
use crate::plot::{UUID, texts};

/// Rows read at a time.
const ROWS: usize = 8192;

/// An earlier map, and the id column of the map and of the source, if rows are matched by id.
pub(crate) struct EarlierMap {
    path: PathBuf,
    map: Arc<dyn Source>,
    named: Option<(Arc<dyn Source>, String)>,
}

impl EarlierMap {
    /// Opens the map `path`. Its rows are matched by the column `id` if the map has it, else by row
    /// number, which requires `rows` rows, or if only the rows `placed` of the source are used, one for each row
    /// of the source. An `.npy` has no ids.
    ///
    /// # Errors
    /// If the map does not have `components` components, if it has neither as many rows nor the id
    /// column, or if ids are of a type that cannot be compared.
    pub(crate) fn open(
        path: &Path,
        (rows, components): (u64, usize),
        source: Option<&Arc<dyn Source>>,
        id: Option<&String>,
        placed: Option<&Arc<RowSet>>,
    ) -> Result<Self> {
        let map = open_map(path, None)?;
        let shape = map.shape();
        let wrong = |why: String| {
            let why = format!("{}: {why}", path.display());
            Err(lowland_engine::Error::Config { field: "init", why }.into())
        };
        if shape.dim != components {
            let (has, dim) = (shape.rows, shape.dim);
            return wrong(format!("{has} × {dim} first positions for a map of {rows} × {components}"));
        }
        let columns = map.columns();
        let by_id = source.is_some() && id.is_some_and(|id| columns.contains(id));
        if let Some(placed) = placed.filter(|placed| !by_id && shape.rows == placed.all()) {
            let map = Arc::new(SubsetSource::new(map, placed.clone()));
            return Ok(EarlierMap { path: path.into(), map, named: None });
        }
        let named = match (source, id) {
            (Some(source), Some(id)) if columns.contains(id) => {
                for table in [&map, source] {
                    let kind =
                        table.read_columns(std::slice::from_ref(id), 0, 0)?.schema().field(0).data_type().clone();
                    if !is_id_type(&kind) {
                        return wrong(format!("column \"{id}\" has type {kind}, which cannot identify rows"));
                    }
                }
                Some((source.clone(), id.clone()))
            }
            (_, Some(id)) if shape.rows != rows => {
                let has = if columns.is_empty() { "none".into() } else { columns.join(", ") };
                return wrong(format!(
                    "{} first positions for {rows} rows, and no column \"{id}\" to match them by; its columns are {has}",
                    shape.rows
                ));
            }
            (_, None) if shape.rows != rows => {
                return wrong(format!(
                    "{} first positions for {rows} rows; name the column that identifies rows (the id) to use the \
                     positions of the rows that it contains",
                    shape.rows
                ));
            }
            _ => None,
        };
        Ok(EarlierMap { path: path.into(), map, named })
    }

    /// Returns the id column, if rows are matched by id.
    pub(crate) fn id(&self) -> Option<&str> {
        self.named.as_ref().map(|(_, id)| id.as_str())
    }

    /// Refuses an id that two rows of the map or two rows of the source have. Holds at most `memory` bytes of hashes
    /// (1 MiB at least), and reads the ids again as often as that requires.
    ///
    /// # Errors
    /// Names the first such row; if ids cannot be read, or the observer stops the pass.
    pub(crate) fn check_ids(&self, memory: u64, observer: &dyn Observer) -> Result<()> {
        let Some((source, id)) = &self.named else { return Ok(()) };
        for (what, table) in [("map", &self.map), ("source", source)] {
            let Some([first, second]) = first_repeat(table.as_ref(), id, memory, observer)? else { continue };
            let batch = table.read_columns(std::slice::from_ref(id), second, 1)?;
            let value = texts(batch.column(0)).map_err(|what| lowland_engine::Error::Data { what })?;
            let value = value.iter().flatten().next().unwrap_or_default().to_string();
            let [first, second] = [first, second].map(|row| table.locate(row));
            let before = match first.path == second.path {
                true => format!("row {}", first.row),
                false => format!("row {} of {}", first.row, first.path.display()),
            };
            let why = format!(
                "{}: row {} has the same value in column \"{id}\" as {before}, \"{value}\", and the rows of the {what} are \
                 matched by this column; name a column by `id` whose values all differ",
                second.path.display(),
                second.row
            );
            return Err(lowland_engine::Error::Config { field: "init", why }.into());
        }
        Ok(())
    }

    /// Calls `each(row, hash)` with the hash of each value of a column. Nulls are skipped.
    fn names(
        table: &dyn Source,
        column: &str,
        (first, count): (u64, usize),
        each: &mut dyn FnMut(u64, u64),
    ) -> lowland_engine::Result<()> {
        let batch = table.read_columns(&[column.to_string()], first, count)?;
        let values = texts(batch.column(0)).map_err(|what| lowland_engine::Error::Data { what })?;
        for (row, value) in (first..).zip(&values) {
            if let Some(value) = value {
                let mut hasher = DefaultHasher::new();
                value.hash(&mut hasher);
                each(row, hasher.finish());
            }
        }
        Ok(())
    }
}

/// Returns the first row of `table` whose value in a column an earlier row has, and that row: the earlier row comes
/// first. At most `memory` bytes of hashes are held at a time (1 MiB at least), however many rows have the same value.
pub(crate) fn first_repeat(
    table: &dyn Source,
    column: &str,
    memory: u64,
    observer: &dyn Observer,
) -> Result<Option<[u64; 2]>> {
    let rows = table.shape().rows;
    let most = memory.max(1 << 20) / size_of::<(u64, u64)>() as u64 - ROWS as u64;
    // A part of the hashes takes three quarters of the room if all values differ: parts differ a little in size.
    let parts = rows.div_ceil(most * 3 / 4).max(1);
    let mut found: Option<[u64; 2]> = None;
    for part in 0..parts {
        let mut hashes: Vec<(u64, u64)> = Vec::with_capacity(rows.min(most) as usize + ROWS);
        for first in (0..rows).step_by(ROWS) {
            // Rows from here on come after the repeat that was found.
            if found.is_some_and(|[_, second]| second < first) {
                break;
            }
            // Only repeats fill the room before the end.
            if hashes.len() as u64 > most {
                look_for_repeats(table, column, &mut hashes, &mut found)?;
            }
            if observer.event(&Event::Pulse).is_break() {
                return Err(lowland_engine::Error::Cancelled { stage: "input" }.into());
            }
            let count = (rows - first).min(ROWS as u64) as usize;
            EarlierMap::names(table, column, (first, count), &mut |row, hash| {
                if hash % parts == part {
                    hashes.push((hash, row));
                }
            })?;
        }
        look_for_repeats(table, column, &mut hashes, &mut found)?;
    }
    table.release();
    Ok(found)
}

/// Sorts hashes with their rows, and puts the first repeat among them into `found` if it comes before the one there.
fn look_for_repeats(
    table: &dyn Source,
    column: &str,
    hashes: &mut [(u64, u64)],
    found: &mut Option<[u64; 2]>,
) -> Result<()> {
    hashes.sort_unstable();
    for pair in hashes.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        let rows = [pair[0].1, pair[1].1];
        if found.is_none_or(|found| rows[1] < found[1]) && is_repeat(table, column, rows)? {
            *found = Some(rows);
        }
    }
    Ok(())
}

/// Returns whether two rows have the same value in a column.
fn is_repeat(table: &dyn Source, column: &str, rows: [u64; 2]) -> Result<bool> {
    let mut values = Vec::new();
    for row in rows {
        let batch = table.read_columns(&[column.to_string()], row, 1)?;
        let value = texts(batch.column(0)).map_err(|what| lowland_engine::Error::Data { what })?;
        values.push(value.iter().next().flatten().map(String::from));
    }
    Ok(values[0] == values[1])
}

/// Returns whether values of a type can be ids.
fn is_id_type(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_id_type(values),
        kind => {
            kind.is_integer()
                || kind.is_temporal()
                || matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean)
                || *kind == UUID
        }
    }
}

impl PositionSource for EarlierMap {
    fn read(
        &self,
        positions: &mut [f32],
        pulse: &mut dyn FnMut() -> lowland_engine::Result<()>,
    ) -> lowland_engine::Result<PositionSummary> {
        let shape = self.map.shape();
        let width = shape.dim;
        let mut values = vec![0f32; ROWS.min(shape.rows as usize) * width];
        // The source's rows, sorted by the hash of their ids.
        let mut wanted: Vec<(u64, u32)> = Vec::new();
        if let Some((source, id)) = &self.named {
            let rows = positions.len() / width;
            wanted.reserve_exact(rows);
            for first in (0..rows).step_by(ROWS) {
                pulse()?;
                let portion = (first as u64, ROWS.min(rows - first));
                Self::names(source.as_ref(), id, portion, &mut |row, hash| wanted.push((hash, row as u32)))?;
            }
            wanted.sort_unstable();
            positions.fill(f32::NAN);
        }
        for first in (0..shape.rows).step_by(ROWS) {
            pulse()?;
            let count = (shape.rows - first).min(ROWS as u64) as usize;
            let values = &mut values[..count * width];
            self.map.read_rows(first, values)?;
            let Some((_, id)) = &self.named else {
                positions[first as usize * width..][..values.len()].copy_from_slice(values);
                continue;
            };
            Self::names(self.map.as_ref(), id, (first, count), &mut |row, hash| {
                let from = wanted.partition_point(|&(other, _)| other < hash);
                for &(_, at) in wanted[from..].iter().take_while(|&&(other, _)| other == hash) {
                    let place = &mut positions[at as usize * width..][..width];
                    place.copy_from_slice(&values[(row - first) as usize * width..][..width]);
                }
            })?;
        }
        // A non-finite position counts as missing: the earlier map had no vector for this row.
        let mut new = 0;
        for place in positions.chunks_exact_mut(width) {
            if place.iter().any(|x| !x.is_finite()) {
                place.fill(f32::NAN);
                new += 1;
            }
        }
        Ok(PositionSummary { new, from: self.path.display().to_string() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Int64Array};
    use arrow::record_batch::RecordBatch;
    use lowland_io::{MemorySource, OpenOptions};

    use super::*;

    fn table(ids: Vec<i64>) -> MemorySource {
        let rows = ids.len();
        let vectors = |by: f32| Arc::new(Float32Array::from_iter_values((0..rows).map(|row| row as f32 * by)));
        let batch = RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(ids)) as _),
            ("a", vectors(1.0) as _),
            ("b", vectors(0.5) as _),
        ])
        .expect("a batch");
        let options = OpenOptions { column: Some("a,b".into()), ..OpenOptions::default() };
        MemorySource::new("ids", batch.schema(), vec![batch], &options).expect("a source")
    }

    #[test]
    fn first_repeat_is_found_in_parts_and_among_very_many() {
        let rows = 200_000;
        let look = |ids: Vec<i64>| first_repeat(&table(ids), "id", 0, &()).expect("the ids");
        let different: Vec<i64> = (0..rows).collect();
        assert_eq!(look(different.clone()), None);
        let mut late = different.clone();
        late[190_000] = 17;
        late[190_001] = 190_002;
        assert_eq!(look(late.clone()), Some([17, 190_000]));
        late[9_000] = 8_999;
        assert_eq!(look(late), Some([8_999, 9_000]));
        // All have one value, which would be in one part.
        assert_eq!(look(vec![5; rows as usize]), Some([0, 1]));
        let many = different.into_iter().map(|row| if row < 1_000 { row } else { 1_000_000 }).collect();
        assert_eq!(look(many), Some([1_000, 1_001]));
    }
}
