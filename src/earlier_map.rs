//! Initial positions from an earlier map, matched by id if both tables have the id column, else by
//! row number.
//!
//! What must hold: beside the positions, 16 bytes for each row of the source are held, which the
//! plan counts; the map is read once, in portions.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::DataType;
use lowland_engine::{PositionSource, PositionSummary};
use lowland_io::Source;

use crate::Result;
use crate::evaluate::open_map;
use crate::plot::texts;

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
    /// number, which requires `rows` rows. An `.npy` has no ids.
    ///
    /// # Errors
    /// If the map does not have `components` components, if it has neither `rows` rows nor the id
    /// column, or if ids are of a type that cannot be compared.
    pub(crate) fn open(
        path: &Path,
        (rows, components): (u64, usize),
        source: Option<&Arc<dyn Source>>,
        id: Option<&String>,
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

/// Returns whether values of a type can be ids.
fn is_id_type(kind: &DataType) -> bool {
    match kind {
        DataType::Dictionary(_, values) => is_id_type(values),
        kind => {
            kind.is_integer()
                || kind.is_temporal()
                || matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean)
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
                    // If the map has an id twice, the first row counts.
                    if place[0].is_nan() {
                        place.copy_from_slice(&values[(row - first) as usize * width..][..width]);
                    }
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
