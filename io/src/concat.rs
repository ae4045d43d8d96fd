//! Several files read as one source: the rows of the first file, then those of the second, and so
//! on.
//!
//! - All files have vectors of the same width, except files whose vectors are all null, whose width
//!   may be unknown (0).
//! - Only the files read last (one for vectors, one for columns) keep buffers or open handles;
//!   moving to another file releases the previous one.
//! - A column has one type over all files. It follows from the schemas of the files alone, not from
//!   which rows are read.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow::array::ArrayRef;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::categories::of_both;
use crate::number::VectorFloat;
use crate::recast::{concat_columns, recast, recast_batch};
use crate::source::{check_range, lock, no_columns};
use crate::unify::{may_overflow, plain_field, type_text, unify};
use crate::{Dtype, Error, Result, RowLocation, Shape, Source, SourceId};

/// Several files read one after the other.
pub(crate) struct ConcatSource {
    parts: Vec<ConcatPart>,
    /// Files without rows. Only their fingerprints are used, to notice when they change.
    rowless: Vec<Box<dyn Source>>,
    shape: Shape,
    dtype: Dtype,
    /// Indices into `parts` of the file whose vectors, and the file whose columns, were read last
    /// (indexed by `ConcatUse`).
    reading: Mutex<[usize; 2]>,
    /// The names of the columns read last, with the schema they are read in: a cache of
    /// `plain_schema`.
    plain: Mutex<Option<(Vec<String>, SchemaRef)>>,
}

pub(crate) struct ConcatPart {
    pub(crate) path: PathBuf,
    pub(crate) source: Box<dyn Source>,
    /// The index of the file's first row among the rows of all files.
    first: u64,
}

impl ConcatSource {
    /// Joins `sources`, each of which has rows. The files in `rowless` have none.
    pub(crate) fn new(sources: Vec<(PathBuf, Box<dyn Source>)>, rowless: Vec<Box<dyn Source>>) -> Result<Self> {
        let mut parts: Vec<ConcatPart> = Vec::with_capacity(sources.len());
        let mut shape = Shape { rows: 0, dim: 0 };
        let mut leader: Option<PathBuf> = None;
        let mut dtype = None;
        for (path, source) in sources {
            let Shape { rows, dim } = source.shape();
            // A file with only nulls may not know its width, so there is nothing to compare.
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
            parts.push(ConcatPart { path, source, first });
        }
        let dtype = dtype.unwrap_or(Dtype::Mixed);
        Ok(ConcatSource { parts, rowless, shape, dtype, reading: Mutex::new([0; 2]), plain: Mutex::new(None) })
    }

    fn part(&self, row: u64) -> usize {
        self.parts.partition_point(|p| p.first <= row).saturating_sub(1)
    }

    /// Calls `take` for each file that holds some of the `rows` rows from `first` on, with the
    /// file, the first row within it and the number of rows.
    fn each(
        &self,
        use_of: ConcatUse,
        mut first: u64,
        rows: usize,
        mut take: impl FnMut(&ConcatPart, u64, usize) -> Result<()>,
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

    fn read<N: VectorFloat>(&self, first: u64, out: &mut [N]) -> Result<()> {
        check_range(&self.path(), self.shape, first, out.len())?;
        let dim = self.shape.dim.max(1);
        let rows = out.len() / dim;
        let mut rest = out;
        self.each(ConcatUse::Vectors, first, rows, |part, row, here| {
            let (now, after) = std::mem::take(&mut rest).split_at_mut(here * dim);
            rest = after;
            match part.source.shape().dim {
                // Every vector of this file is null.
                0 => now.fill(N::NULL),
                _ => N::read(part.source.as_ref(), row, now)?,
            }
            Ok(())
        })
    }

    /// Records that the file at `index` is being read, and releases the one read before unless it
    /// is still in use.
    fn enter(&self, use_of: ConcatUse, index: usize) {
        let mut reading = lock(&self.reading);
        let before = std::mem::replace(&mut reading[use_of as usize], index);
        if !reading.contains(&before)
            && let Some(part) = self.parts.get(before)
        {
            part.source.release();
        }
    }

    /// Returns the types of the columns over all files, and the names of the columns that may hold
    /// values outside the range of their common type. Files without rows are ignored.
    fn settled(&self, names: &[String]) -> Result<(SchemaRef, Vec<String>)> {
        let parts = || self.parts.iter().filter(|part| part.source.shape().rows > 0);
        let mut fields: Vec<Field> = Vec::new();
        // For each column, the last file that changed its type; named in errors.
        let mut leaders: Vec<&ConcatPart> = Vec::new();
        for part in parts() {
            let schema = part.source.column_schema(names).map_err(|error| match (error, leaders.first()) {
                (Error::NoSuchColumn { path, asked, .. }, Some(leader)) => {
                    let leader = leader.path.display();
                    let what = format!("no column \"{asked}\", which {leader} has; add it, or leave the column out");
                    Error::format(path, what)
                }
                (error, _) => error,
            })?;
            if fields.is_empty() {
                fields = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
                leaders = vec![part; fields.len()];
                continue;
            }
            for ((field, leader), here) in fields.iter_mut().zip(&mut leaders).zip(schema.fields()) {
                let Some(both) = unify(field, here) else {
                    let (name, found, expected) = (field.name(), type_text(here), type_text(field));
                    let leader = leader.path.display();
                    let what = format!(
                        "column \"{name}\" is {found}, but {expected} in {leader}; cast one of them, or leave it out"
                    );
                    return Err(Error::format(&part.path, what));
                };
                if both.data_type() != field.data_type() {
                    *leader = part;
                }
                *field = both;
            }
        }
        let mut unsure = Vec::new();
        for part in parts() {
            let schema = part.source.column_schema(names)?;
            for ((name, field), here) in names.iter().zip(&fields).zip(schema.fields()) {
                if may_overflow(here.data_type(), field.data_type()) && !unsure.contains(name) {
                    unsure.push(name.clone());
                }
            }
        }
        Ok((Arc::new(Schema::new(fields)), unsure))
    }

    /// The types in which columns are read: those of `column_schema`, made plain by `plain_field`.
    fn plain_schema(&self, names: &[String]) -> Result<SchemaRef> {
        let mut last = lock(&self.plain);
        if let Some((_, schema)) = last.as_ref().filter(|(asked, _)| asked == names) {
            return Ok(schema.clone());
        }
        let schema = self.column_schema(names)?;
        let fields: Vec<_> = schema.fields().iter().map(plain_field).collect();
        let schema = Arc::new(Schema::new(fields));
        Ok(last.insert((names.to_vec(), schema)).1.clone())
    }

    fn path(&self) -> PathBuf {
        self.parts.first().map(|p| p.path.clone()).unwrap_or_default()
    }
}

#[derive(Clone, Copy)]
enum ConcatUse {
    Vectors,
    Columns,
}

impl Source for ConcatSource {
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

    fn locate(&self, row: u64) -> RowLocation {
        match self.parts.get(self.part(row)) {
            Some(part) => part.source.locate(row - part.first),
            None => RowLocation { path: self.path(), row },
        }
    }

    /// The columns that every file with rows has, in the order of the first such file.
    fn columns(&self) -> Vec<String> {
        let mut parts = self.parts.iter().filter(|part| part.source.shape().rows > 0);
        let mut columns = parts.next().map(|p| p.source.columns()).unwrap_or_default();
        for part in parts {
            let there = part.source.columns();
            columns.retain(|c| there.contains(c));
        }
        columns
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        check_range(&self.path(), self.shape, first, rows.saturating_mul(self.shape.dim))?;
        if names.is_empty() || self.parts.is_empty() {
            return no_columns(&self.path(), rows);
        }
        let plain = self.plain_schema(names)?;
        let mut batches = Vec::new();
        self.each(ConcatUse::Columns, first, rows, |part, row, here| {
            let batch = part.source.read_columns(names, row, here)?;
            batches.push(recast_batch(&batch, &plain).map_err(|_| out_of_range(part, row, &batch, &plain))?);
            Ok(())
        })?;
        concat_columns(&plain, &batches).map_err(|e| Error::format(self.path(), e.to_string()))
    }

    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        self.settled(names).map(|(schema, _)| schema)
    }

    fn unsure_columns(&self, names: &[String]) -> Result<Vec<String>> {
        self.settled(names).map(|(_, unsure)| unsure)
    }

    fn try_columns(&self, names: &[String]) -> Result<()> {
        for part in &self.parts {
            part.source.try_columns(names)?;
            part.source.release();
        }
        Ok(())
    }

    fn categories(&self, name: &str) -> Result<Option<ArrayRef>> {
        let plain = self.plain_schema(std::slice::from_ref(&name.to_string()))?;
        let mut order: Option<ArrayRef> = None;
        for part in self.parts.iter().filter(|part| part.source.shape().rows > 0) {
            let Some(here) = part.source.categories(name)? else { return Ok(None) };
            let failed = |e: arrow::error::ArrowError| Error::format(&part.path, e.to_string());
            let here = recast(&here, plain.field(0).data_type()).map_err(failed)?;
            order = match order {
                None => Some(here),
                Some(before) => match of_both(&before, &here).map_err(failed)? {
                    Some(both) => Some(both),
                    None => return Ok(None),
                },
            };
        }
        Ok(order)
    }

    fn id(&self) -> Result<SourceId> {
        let mut all = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            all.extend(part.source.fingerprints()?);
        }
        for file in &self.rowless {
            all.extend(file.fingerprints()?);
        }
        Ok(SourceId::Files(all))
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

    fn resident_bytes(&self) -> u64 {
        self.parts.iter().map(|p| p.source.resident_bytes()).sum()
    }

    fn endless_streams(&self) -> Vec<PathBuf> {
        let files = self.parts.iter().map(|part| &part.source).chain(&self.rowless);
        files.flat_map(|source| source.endless_streams()).collect()
    }

    fn release(&self) {
        for part in &self.parts {
            part.source.release();
        }
    }
}

/// The error for a value outside the range of its column's common type. Names the row it is in.
fn out_of_range(part: &ConcatPart, first: u64, batch: &RecordBatch, schema: &SchemaRef) -> Error {
    for (column, field) in batch.columns().iter().zip(schema.fields()) {
        let fits = |row: usize| recast(&column.slice(row, 1), field.data_type()).is_ok();
        if let Some(row) = (0..column.len()).find(|&row| !fits(row)) {
            let place = part.source.locate(first + row as u64);
            let (name, from, to) = (field.name(), column.data_type(), field.data_type());
            let what = format!(
                "row {}: column \"{name}\" has a value of {from} that {to}, which other files have, cannot hold; \
                 cast the column in those, or leave it out",
                place.row
            );
            return Error::format(place.path, what);
        }
    }
    Error::format(&part.path, "its columns differ from what its schema says")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{
        Array, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, Float32Array, Int32Array, Int64Array, NullArray,
        StringArray, StringViewArray, TimestampMicrosecondArray, TimestampSecondArray, UInt8Array,
    };
    use arrow::datatypes::{DataType, Int8Type, Int64Type, TimeUnit, UInt8Type};
    use arrow::ipc::writer::FileWriter;

    use super::*;
    use crate::{OpenOptions, open};

    /// Writes a file of vectors with a column `c`, or without it if `column` is `None`.
    fn file(dir: &Path, name: &str, rows: usize, column: Option<ArrayRef>) -> String {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let values = Arc::new(Float32Array::from(vec![1.0; 2 * rows]));
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, values, None));
        let columns = [("v", vectors)].into_iter().chain(column.map(|c| ("c", c)));
        let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, c)| (name, c, true))).unwrap();
        let path = dir.join(name);
        let mut writer = FileWriter::try_new(std::fs::File::create(&path).unwrap(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        path.to_str().unwrap().into()
    }

    fn joined(columns: Vec<Option<ArrayRef>>) -> (tempfile::TempDir, Box<dyn Source>) {
        let dir = tempfile::tempdir().unwrap();
        let files = columns.into_iter().enumerate().map(|(i, column)| {
            let rows = column.as_ref().map_or(2, |c| c.len());
            file(dir.path(), &format!("{i}.arrow"), rows, column)
        });
        let files: Vec<String> = files.collect();
        let source = open(&files, &OpenOptions { column: Some("v".into()), ..OpenOptions::default() }).unwrap();
        (dir, source)
    }

    fn read(source: &dyn Source) -> ArrayRef {
        let rows = source.shape().rows as usize;
        source.read_columns(&["c".into()], 0, rows).unwrap().column(0).clone()
    }

    fn kind(source: &dyn Source) -> Result<DataType> {
        Ok(source.column_schema(&["c".into()])?.field(0).data_type().clone())
    }

    #[test]
    fn a_column_has_one_type_over_all_files() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let nulls: ArrayRef = Arc::new(NullArray::new(2));
        let narrow: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let wide: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40, 2]));
        let (_dir, source) = joined(vec![Some(narrow.clone()), Some(wide), Some(nulls.clone()), Some(narrow.clone())]);
        assert_eq!(kind(&*source).unwrap(), DataType::Int64);
        let expected = Int64Array::from(vec![Some(1), Some(2), Some(1 << 40), Some(2), None, None, Some(1), Some(2)]);
        assert_eq!(read(&*source).as_primitive::<Int64Type>(), &expected);
        // The type is the same whichever rows are read.
        assert_eq!(source.read_columns(&["c".into()], 0, 1).unwrap().column(0).data_type(), &DataType::Int64);

        let (_dir, source) = joined(vec![Some(nulls.clone()), Some(texts.clone())]);
        assert_eq!(kind(&*source).unwrap(), DataType::Utf8);
        assert_eq!(read(&*source).as_ref(), &StringArray::from(vec![None, None, Some("a"), Some("b")]));

        // A file without rows does not affect the type.
        let nothing: ArrayRef = Arc::new(Int32Array::from(Vec::<i32>::new()));
        let (_dir, source) = joined(vec![Some(nothing), Some(texts.clone())]);
        assert_eq!(kind(&*source).unwrap(), DataType::Utf8);
        assert_eq!(read(&*source).as_ref(), texts.as_ref());

        let (_dir, source) = joined(vec![Some(texts.clone()), Some(nulls), Some(narrow)]);
        for error in [kind(&*source).unwrap_err(), source.read_columns(&["c".into()], 0, 1).unwrap_err()] {
            let error = error.to_string();
            for word in ["2.arrow: column \"c\" is Int32, but Utf8 in ", "0.arrow; cast one of them"] {
                assert!(error.contains(word), "{error}");
            }
        }
        let (_dir, source) = joined(vec![Some(texts), None]);
        let error = kind(&*source).unwrap_err().to_string();
        assert!(error.contains("1.arrow: no column \"c\", which ") && error.contains("0.arrow has"), "{error}");
    }

    #[test]
    fn dictionaries_of_small_keys_and_of_views_over_many_files() {
        let of = |file: usize| -> ArrayRef {
            let texts = StringViewArray::from_iter_values((0..200).map(|i| format!("file {file}, category {i}")));
            Arc::new(DictionaryArray::<UInt8Type>::new(UInt8Array::from_iter_values(0..200), Arc::new(texts)))
        };
        let (_dir, source) = joined((0..3).map(|file| Some(of(file))).collect());
        let expected = DataType::Dictionary(Box::new(DataType::UInt8), Box::new(DataType::Utf8View));
        assert_eq!(kind(&*source).unwrap(), expected);
        let found = read(&*source);
        let found = found.as_string_view();
        assert_eq!(
            (found.len(), found.value(0), found.value(599)),
            (600, "file 0, category 0", "file 2, category 199")
        );

        let plain: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        let coded: DictionaryArray<Int8Type> = ["b", "c"].into_iter().collect();
        let (_dir, source) = joined(vec![Some(Arc::new(coded)), Some(plain)]);
        assert_eq!(kind(&*source).unwrap(), DataType::Utf8);
        assert_eq!(read(&*source).as_ref(), &StringArray::from(vec!["b", "c", "a"]));
    }

    #[test]
    fn a_time_that_is_out_of_range_is_told_with_its_row() {
        let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0, i64::MAX / 1_000]));
        let micros: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1, 2]));
        let (_dir, source) = joined(vec![Some(micros), Some(seconds)]);
        assert_eq!(kind(&*source).unwrap(), DataType::Timestamp(TimeUnit::Microsecond, None));
        assert_eq!(source.unsure_columns(&["c".into(), "v".into()]).unwrap(), ["c"]);
        assert!(source.read_columns(&["c".into()], 0, 3).is_ok());
        let error = source.read_columns(&["c".into()], 1, 3).unwrap_err().to_string();
        assert!(error.contains("1.arrow: row 1: column \"c\""), "{error}");
        let same: ArrayRef = Arc::new(TimestampSecondArray::from(vec![0]));
        let (_dir, source) = joined(vec![Some(same.clone()), Some(same)]);
        assert!(source.unsure_columns(&["c".into()]).unwrap().is_empty());
    }
}
