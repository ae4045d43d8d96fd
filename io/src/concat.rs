//! Several files as one source: the rows of the first, then of the second, …
//!
//! What must hold: all have vectors of one width; only the file being read
//! keeps memory or an open handle, however many files there are.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::number::Number;
use crate::source::{check_range, lock, no_columns};
use crate::{Dtype, Error, Fingerprint, Place, Result, Shape, Source};

/// Files read one after the other.
pub(crate) struct Concat {
    parts: Vec<Part>,
    /// Files without rows: only that they stay so matters.
    rowless: Vec<Box<dyn Source>>,
    shape: Shape,
    dtype: Dtype,
    /// The parts whose vectors and whose columns were read last.
    reading: Mutex<[usize; 2]>,
}

pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) source: Box<dyn Source>,
    /// Its first row in the whole.
    first: u64,
}

impl Concat {
    /// Joins `sources`, which have rows; `rowless` have none.
    pub(crate) fn new(sources: Vec<(PathBuf, Box<dyn Source>)>, rowless: Vec<Box<dyn Source>>) -> Result<Self> {
        let mut parts: Vec<Part> = Vec::with_capacity(sources.len());
        let mut shape = Shape { rows: 0, dim: 0 };
        let mut leader: Option<PathBuf> = None;
        let mut dtype = None;
        for (path, source) in sources {
            let Shape { rows, dim } = source.shape();
            // A file of nothing but nulls may not know its width: nothing to disagree on.
            match &leader {
                _ if dim == 0 => {}
                Some(first) if shape.dim != dim => {
                    return Err(Error::Width { path, found: dim, first: first.clone(), expected: shape.dim });
                }
                Some(_) => {}
                None => {
                    shape.dim = dim;
                    leader = Some(path.clone());
                }
            }
            dtype = match dtype {
                None => Some(source.dtype()),
                Some(d) if d == source.dtype() => Some(d),
                Some(_) => Some(Dtype::Mixed),
            };
            let first = shape.rows;
            shape.rows = first.checked_add(rows).ok_or_else(|| Error::format(&path, "too many rows"))?;
            parts.push(Part { path, source, first });
        }
        Ok(Concat { parts, rowless, shape, dtype: dtype.unwrap_or(Dtype::Mixed), reading: Mutex::new([0; 2]) })
    }

    fn part(&self, row: u64) -> usize {
        self.parts.partition_point(|p| p.first <= row).saturating_sub(1)
    }

    /// Calls `take` with each part of `rows` rows from `first` on: the source, its row and how many.
    fn each(
        &self,
        use_of: Use,
        mut first: u64,
        rows: usize,
        mut take: impl FnMut(&Part, u64, usize) -> Result<()>,
    ) -> Result<()> {
        let mut left = rows;
        while left > 0 {
            let index = self.part(first);
            let Some(part) = self.parts.get(index) else { return Ok(()) };
            let within = first - part.first;
            let here = (part.source.shape().rows - within).min(left as u64) as usize;
            self.enter(use_of, index);
            take(part, within, here)?;
            first += here as u64;
            left -= here;
        }
        Ok(())
    }

    fn read<N: Number>(&self, first: u64, out: &mut [N]) -> Result<()> {
        check_range(&self.path(), self.shape, first, out.len())?;
        let dim = self.shape.dim.max(1);
        let rows = out.len() / dim;
        let mut rest = out;
        self.each(Use::Vectors, first, rows, |part, row, here| {
            let (now, after) = std::mem::take(&mut rest).split_at_mut(here * dim);
            rest = after;
            match part.source.shape().dim {
                // No row of it has components.
                0 => now.fill(N::NULL),
                _ => N::read(part.source.as_ref(), row, now)?,
            }
            Ok(())
        })
    }

    /// Notes that part `index` is read now, and frees what the one before it kept.
    fn enter(&self, use_of: Use, index: usize) {
        let mut reading = lock(&self.reading);
        let before = std::mem::replace(&mut reading[use_of as usize], index);
        if !reading.contains(&before)
            && let Some(part) = self.parts.get(before)
        {
            part.source.release();
        }
    }

    fn path(&self) -> PathBuf {
        self.parts.first().map(|p| p.path.clone()).unwrap_or_default()
    }
}

#[derive(Clone, Copy)]
enum Use {
    Vectors,
    Columns,
}

impl Source for Concat {
    fn shape(&self) -> Shape {
        self.shape
    }

    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        self.read(first, out)
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.read(first, out)
    }

    fn locate(&self, row: u64) -> Place {
        match self.parts.get(self.part(row)) {
            Some(part) => part.source.locate(row - part.first),
            None => Place { path: self.path(), row },
        }
    }

    /// The columns that every file has, in the first one's order.
    fn columns(&self) -> Vec<String> {
        let mut parts = self.parts.iter();
        let mut columns = parts.next().map(|p| p.source.columns()).unwrap_or_default();
        for part in parts {
            let there = part.source.columns();
            columns.retain(|c| there.contains(c));
        }
        columns
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        check_range(&self.path(), self.shape, first, rows.saturating_mul(self.shape.dim))?;
        let Some(leader) = self.parts.first() else {
            return no_columns(&self.path(), rows);
        };
        if names.is_empty() {
            return no_columns(&leader.path, rows);
        }
        // The first file's types are everybody's, whichever rows are read;
        // what it says of nulls and metadata need not hold for the others.
        let schema = leader.source.read_columns(names, 0, 0)?.schema();
        let fields = schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let mut batches = Vec::new();
        self.each(Use::Columns, first, rows, |part, row, here| {
            let batch = part.source.read_columns(names, row, here)?;
            batches.push(fit(part, batch, &schema, leader)?);
            Ok(())
        })?;
        match batches.as_slice() {
            [one] => Ok(one.clone()),
            several => concat_batches(&schema, several).map_err(|e| Error::format(&leader.path, e.to_string())),
        }
    }

    fn fingerprints(&self) -> Result<Vec<Fingerprint>> {
        let mut all = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            all.extend(part.source.fingerprints()?);
        }
        for file in &self.rowless {
            all.extend(file.fingerprints()?);
        }
        Ok(all)
    }

    fn vector_column(&self) -> Option<String> {
        self.parts.iter().find_map(|p| p.source.vector_column())
    }

    fn column_of(&self, row: u64, component: usize) -> Option<String> {
        let part = self.parts.get(self.part(row))?;
        part.source.column_of(row - part.first, component)
    }

    fn held_bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.source.held_bytes()).max().unwrap_or(0)
    }

    fn release(&self) {
        for part in &self.parts {
            part.source.release();
        }
    }
}

/// Gives `batch` the types of `schema`, where they differ in no more than how they are stored.
fn fit(part: &Part, batch: RecordBatch, schema: &SchemaRef, leader: &Part) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        if column.data_type() == field.data_type() {
            columns.push(column.clone());
            continue;
        }
        let differs = |why: &str| {
            let (name, found, expected) = (field.name(), column.data_type(), field.data_type());
            let leader = leader.path.display();
            Error::format(
                &part.path,
                format!(
                    "column \"{name}\" is {found}, but {expected} in {leader}{why}; cast one of them, or leave it out"
                ),
            )
        };
        if !alike(column.data_type(), field.data_type()) {
            return Err(differs(""));
        }
        let strictly = CastOptions { safe: false, ..CastOptions::default() };
        let cast = cast_with_options(column, field.data_type(), &strictly).map_err(|e| differs(&format!(" ({e})")))?;
        columns.push(cast);
    }
    RecordBatch::try_new(schema.clone(), columns).map_err(|e| Error::format(&part.path, e.to_string()))
}

/// Whether two types hold the same values, stored differently.
fn alike(a: &DataType, b: &DataType) -> bool {
    use DataType::*;
    match (a, b) {
        (Dictionary(_, a), Dictionary(_, b)) => alike(a, b),
        (Dictionary(_, a), b) | (b, Dictionary(_, a)) => alike(a, b),
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (FixedSizeList(a, n), FixedSizeList(b, m)) => n == m && alike(a.data_type(), b.data_type()),
        (List(a) | LargeList(a), List(b) | LargeList(b)) => alike(a.data_type(), b.data_type()),
        (Null, _) => true,
        (a, b) => a.equals_datatype(b),
    }
}
