//! The kept columns of a version, of base and delta.

use std::ops::Range;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use super::{Snapshot, role};
use crate::{Error, Result};

impl Snapshot {
    /// Returns the kept columns in the types in which they are stored; none if the model keeps none.
    pub fn kept_schema(&self) -> &SchemaRef {
        &self.kept_schema
    }

    /// Returns the kept columns of a range of places. Decodes blocks of 4,096 rows.
    ///
    /// # Errors
    /// [`Error::Rows`] if the range is wrong; [`Error::Damaged`] if a block is not what was written.
    pub fn kept(&self, places: Range<u32>) -> Result<RecordBatch> {
        self.check_range(&places, None)?;
        let (count, [base, delta]) = (places.len(), self.split(places));
        let Some(kept) = &self.kept else {
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            return RecordBatch::try_new_with_options(self.kept_schema.clone(), Vec::new(), &options).map_err(unkept);
        };
        if delta.is_empty() {
            return kept.read(base);
        }
        let Some(of_delta) = self.delta_kept.as_ref().filter(|found| delta.end <= found.rows) else {
            let file = self.delta_kept.as_ref().unwrap_or(kept);
            return Err(file.damaged("the kept columns of rows that were added since are missing"));
        };
        let parts = [kept.read(base)?, of_delta.read(delta)?];
        concat_batches(&self.kept_schema, &parts).map_err(unkept)
    }
}

fn unkept(error: arrow::error::ArrowError) -> Error {
    Error::Rows { object: role::KEPT, what: error.to_string() }
}
