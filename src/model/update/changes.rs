//! A table that has only changes: the column [`COLUMN`] says of each row whether it was added, changed or deleted. Of
//! deleted rows nothing but the id is read.
//!
//! Memory: one bit for each row, and 16 bytes for each deleted row.

use std::sync::Arc;

use lowland_engine::{Event, Observer};
use lowland_io::{RowSetBuilder, Source, SubsetSource};
use lowland_model::diff::{KeyFault, each_key};

use crate::plot::texts;
use crate::{Error, Result};

/// The column that says what happened to a row: `added`, `changed` or `deleted`.
pub const COLUMN: &str = "change";
/// Rows that are read at a time.
const ROWS: usize = 8192;

/// The rows of a table of changes.
pub(super) struct Changes {
    /// The rows that were added or changed. An added row that the model has counts as changed, and a changed row that it
    /// does not have as added.
    pub(super) rows: Arc<dyn Source>,
    /// The keys of the ids that were deleted, ascending.
    pub(super) deleted: Vec<u128>,
}

/// Returns the id of a row as text.
pub(super) fn id_of(table: &dyn Source, id: &str, row: u64) -> Result<String> {
    let batch = table.read_columns(&[id.to_string()], row, 1)?;
    let values = texts(batch.column(0)).map_err(Error::job)?;
    Ok(values.iter().flatten().next().unwrap_or_default().to_string())
}

/// Returns the error of rows that were added or changed in a table without vectors.
pub(super) fn without_vectors(rows: &dyn Source) -> Error {
    let place = rows.locate(0);
    Error::job(format!(
        "{}: row {} was added or changed, and no row of the table has a vector; only deleted rows need none",
        place.path.display(),
        place.row
    ))
}

impl Changes {
    /// Reads what happened to the rows of `source`, whose ids are in the column `id`.
    ///
    /// # Errors
    /// If there is no such column or it has another value, if an id is null, or if the observer stops the pass.
    pub(super) fn read(source: &Arc<dyn Source>, id: &str, observer: &dyn Observer) -> Result<Self> {
        let names = [COLUMN.to_string(), id.to_string()];
        let rows = source.shape().rows;
        let (mut kept, mut deleted) = (RowSetBuilder::new(rows), Vec::new());
        for first in (0..rows).step_by(ROWS) {
            if observer.event(&Event::Pulse).is_break() {
                return Err(lowland_engine::Error::Cancelled { stage: "diff" }.into());
            }
            let batch = source.read_columns(&names, first, (rows - first).min(ROWS as u64) as usize)?;
            let kinds = texts(batch.column(0)).map_err(|what| Error::job(format!("column \"{COLUMN}\": {what}")))?;
            let mut keys = Vec::with_capacity(batch.num_rows());
            each_key(batch.column(1), |_, key| keys.push(key)).map_err(|fault| match fault {
                KeyFault::Null(at) => {
                    let place = source.locate(first + at as u64);
                    Error::from(lowland_io::Error::Null { path: place.path, row: place.row, column: id.into() })
                }
                KeyFault::Type(of) => {
                    Error::job(format!("column \"{id}\" has type {of}, and ids are integers or texts"))
                }
            })?;
            for (at, (kind, key)) in kinds.iter().zip(keys).enumerate() {
                match kind {
                    Some("added" | "changed") => {}
                    Some("deleted") => {
                        kept.remove(first + at as u64);
                        deleted.push(key);
                    }
                    other => {
                        let place = source.locate(first + at as u64);
                        let found = other.map_or("null".into(), |text| format!("\"{text}\""));
                        return Err(Error::job(format!(
                            "{}: row {}: column \"{COLUMN}\" has {found}, and a change is added, changed or deleted",
                            place.path.display(),
                            place.row
                        )));
                    }
                }
            }
        }
        source.release();
        deleted.sort_unstable();
        deleted.dedup();
        Ok(Changes { rows: Arc::new(SubsetSource::new(source.clone(), Arc::new(kept.finish()))), deleted })
    }
}
