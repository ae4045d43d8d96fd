//! Columns from directory names: `dt=2024-01-01/lang=de/part.parquet` has the text columns `dt` and
//! `lang`, as Hive, Spark, pyarrow and DuckDB write partitioned data sets.
//!
//! What must hold: a column of the file itself takes precedence over a directory's column of the
//! same name.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};

use crate::{Dtype, Error, Result, RowLocation, Shape, Source, SourceId};

/// The value by which Hive writes a null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// A file with the additional columns of its directories.
pub(crate) struct HiveSource {
    file: Box<dyn Source>,
    /// The directories' columns that the file itself does not have, with the value of all rows.
    told: Vec<(String, Option<String>)>,
}

impl HiveSource {
    /// Returns `file`, with the columns of the directories of `path` if there are any. The file's
    /// own column of the same name takes precedence; of two directories, the inner one.
    pub(crate) fn of(path: &Path, file: Box<dyn Source>) -> Box<dyn Source> {
        let own = file.columns();
        let mut told = columns(path);
        told.retain(|(name, _)| !own.contains(name));
        if told.is_empty() { file } else { Box::new(HiveSource { file, told }) }
    }
}

impl HiveSource {
    /// Returns the value of a directory's column; `None` if `name` is not a directory's column. The
    /// value may be null.
    fn value(&self, name: &String) -> Option<Option<&str>> {
        self.told.iter().find(|(told, _)| told == name).map(|(_, value)| value.as_deref())
    }

    /// Returns the names of those columns that are the file's own.
    fn own(&self, names: &[String]) -> Vec<String> {
        names.iter().filter(|name| self.value(name).is_none()).cloned().collect()
    }

    /// Completes the error of a missing column by the directories' columns.
    fn with_told(&self, error: Error) -> Error {
        match error {
            Error::NoSuchColumn { path, asked, .. } => Error::NoSuchColumn { path, asked, available: self.columns() },
            other => other,
        }
    }
}

/// Returns the names and values in the directories of `path`.
fn columns(path: &Path) -> Vec<(String, Option<String>)> {
    let mut found: Vec<(String, Option<String>)> = Vec::new();
    for component in path.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(name) = component else { continue };
        let Some((name, value)) = name.to_str().and_then(|text| text.split_once('=')) else { continue };
        let name = percent_decode(name);
        if name.is_empty() {
            continue;
        }
        let value = (value != NULL).then(|| percent_decode(value));
        match found.iter_mut().find(|(earlier, _)| *earlier == name) {
            Some(earlier) => earlier.1 = value,
            None => found.push((name, value)),
        }
    }
    found
}

/// Decodes escapes such as `%20`. Text that is not an escape, or not UTF-8 after decoding, is
/// unchanged.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = |c: u8| char::from(c).to_digit(16).map(|d| d as u8);
        let escaped = match (byte, after) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.into())
}

impl Source for HiveSource {
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
        self.file.locate(row)
    }

    /// Returns the file's own columns, then the directories' columns.
    fn columns(&self) -> Vec<String> {
        let mut columns = self.file.columns();
        columns.extend(self.told.iter().map(|(name, _)| name.clone()));
        columns
    }

    /// Reads columns; the directories' columns are texts.
    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        let own = self.own(names);
        let batch = self.file.read_columns(&own, first, rows).map_err(|error| self.with_told(error))?;
        if own.len() == names.len() {
            return Ok(batch);
        }
        let schema = batch.schema();
        let mut own = schema.fields().iter().zip(batch.columns());
        let (mut fields, mut columns) = (Vec::new(), Vec::<ArrayRef>::new());
        for name in names {
            if let Some(value) = self.value(name) {
                fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
                columns.push(Arc::new(StringArray::from_iter(std::iter::repeat_n(value, rows))));
            } else if let Some((field, column)) = own.next() {
                fields.push(field.clone());
                columns.push(column.clone());
            }
        }
        let schema = Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema, columns, &options)
            .map_err(|e| Error::format(self.file.locate(first).path, e.to_string()))
    }

    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        let schema = self.file.column_schema(&self.own(names)).map_err(|error| self.with_told(error))?;
        let mut own = schema.fields().iter();
        let fields = names.iter().filter_map(|name| match self.value(name) {
            Some(_) => Some(Arc::new(Field::new(name, DataType::Utf8, true))),
            None => own.next().cloned(),
        });
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn unsure_columns(&self, names: &[String]) -> Result<Vec<String>> {
        self.file.unsure_columns(&self.own(names))
    }

    fn try_columns(&self, names: &[String]) -> Result<()> {
        self.file.try_columns(&self.own(names))
    }

    fn categories(&self, name: &str) -> Result<Option<ArrayRef>> {
        if self.value(&name.to_string()).is_some() { Ok(None) } else { self.file.categories(name) }
    }

    fn id(&self) -> Result<SourceId> {
        self.file.id()
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

    fn endless_streams(&self) -> Vec<PathBuf> {
        self.file.endless_streams()
    }

    fn release(&self) {
        self.file.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hive_directories_give_columns() {
        let check = |path: &str, expected: &[(&str, Option<&str>)]| {
            let expected: Vec<_> = expected.iter().map(|(n, v)| (n.to_string(), v.map(String::from))).collect();
            assert_eq!(columns(Path::new(path)), expected, "{path}");
        };
        check("/data/dt=2024-01-01/lang=d%20e/a=b.parquet", &[("dt", Some("2024-01-01")), ("lang", Some("d e"))]);
        check("x=__HIVE_DEFAULT_PARTITION__/p.npy", &[("x", None)]);
        check("a%3Db=1%2F2=3/p", &[("a=b", Some("1/2=3"))]);
        check("x=/=3/y=%zz%4/z=%ff/p", &[("x", Some("")), ("y", Some("%zz%4")), ("z", Some("%ff"))]);
        check("x=1/x=2/p", &[("x", Some("2"))]);
        check("plain/x=1", &[]);
    }

    #[test]
    fn streams_without_an_end_are_named_through_directories_subsets_and_shifts() {
        let dir = tempfile::tempdir().unwrap();
        let batch = RecordBatch::try_from_iter([
            ("a", Arc::new(arrow::array::Float32Array::from(vec![1.0, 2.0, 3.0])) as ArrayRef),
            ("b", Arc::new(arrow::array::Float32Array::from(vec![3.0, 2.0, 1.0]))),
        ])
        .unwrap();
        let mut bytes = Vec::new();
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &batch.schema()).unwrap();
        writer.write(&batch).and_then(|()| writer.finish()).unwrap();
        drop(writer);
        let cut = dir.path().join("day=2/part.arrows");
        for (day, bytes) in [("day=1", &bytes[..]), ("day=2", &bytes[..bytes.len() - 8])] {
            std::fs::create_dir(dir.path().join(day)).unwrap();
            std::fs::write(dir.path().join(day).join("part.arrows"), bytes).unwrap();
        }
        let options = crate::OpenOptions { column: Some("a,b".into()), ..crate::OpenOptions::default() };
        let source: Arc<dyn Source> =
            crate::open(&[dir.path().to_string_lossy().into_owned()], &options).unwrap().into();
        assert_eq!(source.columns(), ["a", "b", "day"]);
        assert_eq!(source.endless_streams(), std::slice::from_ref(&cut));
        let mut rows = crate::RowSetBuilder::new(source.shape().rows);
        rows.remove(0);
        let some = crate::SubsetSource::new(source.clone(), Arc::new(rows.finish()));
        assert_eq!(some.endless_streams(), std::slice::from_ref(&cut));
        let id = source.id().unwrap();
        assert_eq!(crate::IdentifiedSource::new(source, id).endless_streams(), [cut]);
    }
}
