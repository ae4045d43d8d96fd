//! The rows of a source under an identity of their own.
//!
//! What must hold: everything but the identity, and the place of rows that are identified by their
//! content, is that of the other source.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::{Dtype, Result, RowLocation, Shape, Source, SourceId};

/// The rows of another source under an identity of their own: for example the copy of a stream, which
/// no later process can read again, or a temporary file that is identified by what is in it. Errors
/// about a row that is identified by [content](SourceId::Content) name the content, not the file.
///
/// ```
/// use std::sync::Arc;
///
/// use lowland_io::{IdentifiedSource, MemorySource, Source, SourceId};
///
/// let copy = Arc::new(MemorySource::from_vec("copy", vec![1.0, 2.0, 3.0, 4.0], 2)?);
/// assert!(copy.id()?.is_lasting());
/// let once = IdentifiedSource::new(copy, SourceId::Once);
/// assert_eq!(once.id()?, SourceId::Once);
/// assert_eq!(once.shape().rows, 2);
/// # Ok::<(), lowland_io::Error>(())
/// ```
pub struct IdentifiedSource {
    source: Arc<dyn Source>,
    id: SourceId,
    /// Dropped after the source, in the order of the fields.
    #[expect(dead_code, reason = "held for its lifetime")]
    owner: Option<Box<dyn Any + Send + Sync>>,
}

impl IdentifiedSource {
    /// Returns the rows of `source` under the identity `id`.
    pub fn new(source: Arc<dyn Source>, id: SourceId) -> Self {
        IdentifiedSource { source, id, owner: None }
    }

    /// Keeps `owner` for as long as the source exists, and drops it after the rows: for example the
    /// temporary directory of their file.
    #[must_use]
    pub fn with_owner(self, owner: impl Any + Send + Sync) -> Self {
        IdentifiedSource { owner: Some(Box::new(owner)), ..self }
    }
}

impl Source for IdentifiedSource {
    fn shape(&self) -> Shape {
        self.source.shape()
    }

    fn dtype(&self) -> Dtype {
        self.source.dtype()
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        self.source.read_rows(first, out)
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.source.read_rows_f64(first, out)
    }

    fn locate(&self, row: u64) -> RowLocation {
        match &self.id {
            SourceId::Content(content) => RowLocation { path: content.path.clone(), row },
            SourceId::Files(_) | SourceId::Once => self.source.locate(row),
        }
    }

    fn columns(&self) -> Vec<String> {
        self.source.columns()
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        self.source.read_columns(names, first, rows)
    }

    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        self.source.column_schema(names)
    }

    fn unsure_columns(&self, names: &[String]) -> Result<Vec<String>> {
        self.source.unsure_columns(names)
    }

    fn categories(&self, name: &str) -> Result<Option<ArrayRef>> {
        self.source.categories(name)
    }

    fn try_columns(&self, names: &[String]) -> Result<()> {
        self.source.try_columns(names)
    }

    fn id(&self) -> Result<SourceId> {
        Ok(self.id.clone())
    }

    fn endless_streams(&self) -> Vec<PathBuf> {
        self.source.endless_streams()
    }

    fn vector_column(&self) -> Option<String> {
        self.source.vector_column()
    }

    fn column_of(&self, row: u64, component: usize) -> Option<String> {
        self.source.column_of(row, component)
    }

    fn held_bytes(&self) -> u64 {
        self.source.held_bytes()
    }

    fn resident_bytes(&self) -> u64 {
        self.source.resident_bytes()
    }

    fn release(&self) {
        self.source.release();
    }
}
