//! Batches that were written to disk once, as a source.
//!
//! What must hold: two sources of equal batches have equal identities, so that a run can be resumed
//! by another process that is given the same batches, although their temporary file is another one.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use lowland_io::{Dtype, Error, Fingerprint, Result, RowLocation, Shape, Source, SourceId};
use xxhash_rust::xxh3::Xxh3;

/// Bytes of the file that are read at a time for its checksum.
const PORTION: usize = 1 << 20;

/// The rows of a temporary file, named and identified as the batches that are in it.
pub(crate) struct Spooled {
    file: Arc<dyn Source>,
    name: PathBuf,
    bytes: u64,
    checksum: u64,
}

impl Spooled {
    /// Returns the source of the batches in `path`, of which `file` is the source.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn new(file: Arc<dyn Source>, path: &Path, name: &str) -> Result<Self> {
        let failed = |error| Error::io(path, "read", error);
        let mut read = std::fs::File::open(path).map_err(failed)?;
        let (mut hash, mut bytes, mut portion) = (Xxh3::new(), 0, vec![0; PORTION]);
        loop {
            let count = read.read(&mut portion).map_err(failed)?;
            if count == 0 {
                return Ok(Spooled { file, name: name.into(), bytes, checksum: hash.digest() });
            }
            hash.update(&portion[..count]);
            bytes += count as u64;
        }
    }
}

impl Source for Spooled {
    fn shape(&self) -> Shape {
        self.file.shape()
    }

    fn dtype(&self) -> Dtype {
        self.file.dtype()
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        self.file.read_rows(first, out)
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.file.read_rows_f64(first, out)
    }

    fn locate(&self, row: u64) -> RowLocation {
        RowLocation { path: self.name.clone(), row }
    }

    fn columns(&self) -> Vec<String> {
        self.file.columns()
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        self.file.read_columns(names, first, rows)
    }

    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        self.file.column_schema(names)
    }

    fn unsure_columns(&self, names: &[String]) -> Result<Vec<String>> {
        self.file.unsure_columns(names)
    }

    fn categories(&self, name: &str) -> Result<Option<ArrayRef>> {
        self.file.categories(name)
    }

    fn try_columns(&self, names: &[String]) -> Result<()> {
        self.file.try_columns(names)
    }

    fn id(&self) -> Result<SourceId> {
        let (path, bytes, header) = (self.name.clone(), self.bytes, self.checksum);
        Ok(SourceId::Content(Fingerprint { path, bytes, modified: 0, header, etag: None }))
    }

    fn endless_streams(&self) -> Vec<PathBuf> {
        self.file.endless_streams()
    }

    fn vector_column(&self) -> Option<String> {
        self.file.vector_column()
    }

    fn column_of(&self, row: u64, component: usize) -> Option<String> {
        self.file.column_of(row, component)
    }

    fn held_bytes(&self) -> u64 {
        self.file.held_bytes()
    }

    fn resident_bytes(&self) -> u64 {
        self.file.resident_bytes()
    }

    fn release(&self) {
        self.file.release();
    }
}
