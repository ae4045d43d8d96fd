//! Opens the paths and addresses that a user names (files, directories, globs, objects) as one
//! source.
//!
//! What must hold: a file's format is decided by its first bytes, never by its name; a file without
//! rows is ignored, whatever its columns are.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::arrow_file::{self, ArrowFile};
use crate::concat::ConcatSource;
use crate::files::{self, Input};
use crate::hive::HiveSource;
use crate::npy::{self, NpyFile};
use crate::parquet::{self, ParquetFile};
use crate::positioned::PositionedFile;
use crate::remote::Client;
use crate::vectors::ColumnRequest;
use crate::{Coordinates, Error, Result, Source};

/// How an input is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Where the vectors are: the name of a list column; or numeric columns, one component each, as
    /// a name, as `a,b,c` or as a pattern (`pc*`; matches are in natural order: pc2 before pc10).
    /// An exact name wins over a pattern. A struct's field is named by its path (`emb.values`).
    /// Bytes need a number type (`blob:f32`; f16, bf16, f64, u8, i8, or bits, of which each is a
    /// component, the most significant bit of a byte first). Not needed if exactly one column holds
    /// lists of numbers: of floats or bytes, else of other fractions, else of any numbers.
    pub column: Option<String>,
    /// Asked while waiting for an object store, to find out whether to stop.
    pub stop: Option<Stop>,
    /// Whether files may lack the column of vectors, and the source may have no rows. A row of such a file has a null
    /// vector; if no row of the source has a vector, its shape has 0 components. Default: they are an error.
    pub may_lack_vectors: bool,
}

/// Makes calls that wait for an object store stop early. They then return [`Error::Stopped`].
#[derive(Clone)]
pub struct Stop(Arc<dyn Fn() -> bool + Send + Sync>);

impl Stop {
    /// Stops waiting once `came` returns true. It is called several times a second while a call
    /// waits.
    pub fn when(came: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Stop(Arc::new(came))
    }

    /// Whether to stop now.
    #[cfg_attr(not(feature = "object-store"), expect(dead_code, reason = "nobody waits then"))]
    pub(crate) fn came(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stop")
    }
}

impl PartialEq for Stop {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Stop {}

/// Opens files, directories, globs and addresses as one source, in the order given.
///
/// An address takes one of these forms:
///
/// - `s3://bucket/key`, `gs://bucket/key`, `az://container/key` or
///   `abfs://container@account.dfs.core.windows.net/key`, where the key is taken literally or as a
///   glob. A key that ends in `/` or names no object stands for all objects below it, as a
///   directory does.
/// - An HTTP or HTTPS URL, which stands for one object.
///
/// Credentials come from the stores' usual environment variables. Without the feature
/// `object-store`, addresses are refused.
///
/// A directory stands for the Parquet, Arrow and npy files in it and below it, sorted by name. They
/// are recognised by their endings (`.parquet`, `.pq`, `.parq`, `.arrow`, `.arrows`, `.feather`,
/// `.ipc`, `.npy`) or, under other names, by their first bytes; names that begin with `.` or `_`
/// are skipped. Globs have `*`, `?`, `[ab]`, `**` and `{a,b}`. Directories named `name=value` add a
/// text column, unless the file has a column of that name. Parquet, Arrow IPC files (Feather
/// version 2), Arrow IPC streams and `.npy` can be mixed if their vectors have the same number of
/// components. With several files, the vectors' column is determined from the first file that has
/// columns, and must exist in all files; files without rows are ignored. Opening reads only headers
/// and footers (and, if the vectors' length is not part of the column's type, the first rows).
///
/// # Errors
///
/// [`Error::NoFiles`] or [`Error::Store`] if there are no files; [`Error::Format`] if a file is
/// empty, of an unknown format or named twice, or if there are no rows at all; [`Error::Width`] if
/// the numbers of components differ; and the errors of [`OpenOptions::column`]: [`Error::NoVectorColumn`],
/// [`Error::AmbiguousColumn`], [`Error::NoSuchColumn`], [`Error::ColumnType`].
pub fn open(paths: &[String], options: &OpenOptions) -> Result<Box<dyn Source>> {
    let want = options.column.clone().map_or(ColumnRequest::Any, ColumnRequest::Asked);
    open_columns(paths, want, options.may_lack_vectors, &|| Client::new(options.stop.clone()))
}

/// Opens a map as a source whose vectors are its coordinates.
///
/// # Errors
///
/// [`Error::NoCoordinates`] if no coordinates are recognised, and the errors of [`open`].
pub fn open_map(path: &str, coordinates: &Coordinates) -> Result<Box<dyn Source>> {
    open_columns(&[path.into()], ColumnRequest::of_map(coordinates), false, &|| Client::new(None))
}

/// The number of files without a column of vectors that are opened again once another file tells its
/// name.
const MOST_WAITING: usize = 16;
/// The number of objects whose beginnings and ends are requested at a time when they are opened.
const WARM: usize = 8;

/// Opens `paths`. `connect` is called if any of them is an address. For `may_lack_vectors` see [`OpenOptions`].
pub(crate) fn open_columns(
    paths: &[String],
    mut want: ColumnRequest,
    may_lack_vectors: bool,
    connect: &dyn Fn() -> Result<Arc<Client>>,
) -> Result<Box<dyn Source>> {
    let inputs = files::find(paths, connect)?;
    let Some(first) = inputs.first().map(|input| input.path().to_path_buf()) else {
        return Err(Error::NoFiles { pattern: paths.join(" ") });
    };
    let mut sources = Vec::with_capacity(inputs.len());
    let mut rowless = Vec::new();
    // Files without a column of vectors. In them the column may have the type null: others tell its name.
    let mut waiting = Vec::new();
    let several = inputs.len() > 1;
    let mut inputs: VecDeque<(usize, files::Input)> = inputs.into_iter().enumerate().collect();
    while let Some((at, input)) = inputs.pop_front() {
        // The requests for the next objects are sent while this one is opened.
        for next in std::iter::once(&input).chain(inputs.iter().map(|(_, next)| next)).take(WARM) {
            if let Input::Object(object) = next {
                object.warm();
            }
        }
        let path = input.path().to_path_buf();
        let may_wait = several && matches!(want, ColumnRequest::Any) && waiting.len() < MOST_WAITING;
        let (source, names) = match open_one(&input, &want) {
            Err(error @ Error::NoVectorColumn { .. }) if may_wait => {
                waiting.push((at, input, error));
                continue;
            }
            Err(Error::NoVectorColumn { .. } | Error::NoSuchColumn { .. }) if may_lack_vectors => {
                open_one(&input, &ColumnRequest::none())?
            }
            opened => opened?,
        };
        if source.shape().rows == 0 {
            rowless.push(source);
            continue;
        }
        if !names.is_empty() {
            want = ColumnRequest::Names(names);
            inputs.extend(waiting.drain(..).map(|(at, input, _)| (at, input)));
        }
        let source = HiveSource::of(&path, source);
        sources.push((at, path, source));
    }
    for (at, input, error) in waiting {
        if !may_lack_vectors {
            return Err(error);
        }
        let path = input.path().to_path_buf();
        sources.push((at, path.clone(), HiveSource::of(&path, open_one(&input, &ColumnRequest::none())?.0)));
    }
    sources.sort_by_key(|(at, ..)| *at);
    let mut sources: Vec<_> = sources.into_iter().map(|(_, path, source)| (path, source)).collect();
    if sources.is_empty() && !may_lack_vectors {
        let others = if rowless.len() > 1 { ", and neither do the other files" } else { "" };
        return Err(Error::format(first, format!("has no rows{others}")));
    }
    if sources.iter().all(|(_, source)| source.shape().dim == 0) && !may_lack_vectors {
        let column = sources.iter().find_map(|(_, source)| source.vector_column()).unwrap_or_default();
        return Err(Error::format(first, format!("column \"{column}\" has no vector: all its rows are null or empty")));
    }
    if sources.len() == 1
        && rowless.is_empty()
        && let Some((_, source)) = sources.pop()
    {
        return Ok(source);
    }
    Ok(Box::new(ConcatSource::new(sources, rowless)?))
}

/// Opens one file or object, whose format its first bytes tell. Also returns the names of the
/// vectors' columns.
pub(crate) fn open_one(input: &Input, want: &ColumnRequest) -> Result<(Box<dyn Source>, Vec<String>)> {
    let (path, file): (&Path, _) = (input.path(), PositionedFile::of(input)?);
    match FileFormat::of(&file.read(0..file.bytes().min(FileFormat::MAGIC_BYTES))?) {
        Ok(FileFormat::Npy) => {
            if let ColumnRequest::Asked(asked) = want {
                return Err(Error::NoSuchColumn { path: path.into(), asked: asked.clone(), available: Vec::new() });
            }
            Ok((Box::new(NpyFile::open(file)?), Vec::new()))
        }
        Ok(FileFormat::Parquet) => {
            let file = ParquetFile::open(file, want)?;
            let names = file.names().to_vec();
            Ok((Box::new(file), names))
        }
        Ok(FileFormat::Arrow) => {
            let file = ArrowFile::open(file, want)?;
            let names = file.names().to_vec();
            Ok((Box::new(file), names))
        }
        Err(what) => Err(Error::format(path, what)),
    }
}

/// The file formats that can be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FileFormat {
    Npy,
    Parquet,
    /// An Arrow IPC file or stream.
    Arrow,
}

impl FileFormat {
    /// The number of first bytes that identify a format.
    pub(crate) const MAGIC_BYTES: u64 = 64;

    /// Returns the format of a file or stream that begins with `magic`; the error text says what
    /// another file is.
    pub(crate) fn of(magic: &[u8]) -> std::result::Result<Self, &'static str> {
        let begins = |with: &[u8]| magic.starts_with(with);
        if begins(npy::MAGIC) {
            return Ok(FileFormat::Npy);
        } else if begins(parquet::MAGIC) {
            return Ok(FileFormat::Parquet);
        } else if begins(arrow_file::MAGIC) || begins(arrow_file::STREAM_MAGIC) {
            return Ok(FileFormat::Arrow);
        }
        Err(match magic {
            [b'F', b'E', b'A', b'1', ..] => "Feather version 1; write it again as version 2",
            [b'P', b'A', b'R', b'E', ..] => "encrypted Parquet; write it without encryption",
            [b'P', b'K', 3, 4, ..] => "an archive, such as .npz; unpack the .npy from it",
            [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                "compressed as a whole; decompress it, for instance zcat FILE | lowland embed -"
            }
            _ if begins_old_stream(magic) => {
                "an Arrow stream of an old format (before Arrow 0.15); write it again with a current library"
            }
            _ => "of no known format; Parquet, Arrow IPC (files and streams) and .npy are read",
        })
    }
}

/// Returns whether a file begins as Arrow streams did before version 0.15: with the length of a message, a multiple of
/// four without a marker before it, and a flatbuffer: the offset of its root table, which in turn tells how far before
/// it the table's description lies, that begins with its own length.
fn begins_old_stream(magic: &[u8]) -> bool {
    let number = |at: usize| magic.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let description = || {
        let (length, root) = (number(0)?, number(4)?);
        let table = 4 + usize::try_from(root).ok().filter(|&root| root < magic.len())?;
        let before = usize::try_from(number(table)?).ok()?;
        let description = table.checked_sub(before).filter(|&at| at >= 8)?;
        let bytes = u16::from_le_bytes(*magic.get(description..)?.first_chunk()?);
        Some(length.is_multiple_of(4) && (root..1 << 24).contains(&length) && (4..=32).contains(&bytes))
    };
    description().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use ::parquet::arrow::ArrowWriter;
    use ::parquet::basic::{Compression, ZstdLevel};
    use ::parquet::file::properties::WriterProperties;
    use arrow::array::{
        ArrayRef, AsArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array, GenericListArray,
        LargeStringArray, OffsetSizeTrait, RecordBatch, StringArray, UInt64Array,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{DataType, Field, Int64Type};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions};
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::{Dtype, Shape};

    fn fixture(name: &str) -> String {
        format!("{}/../tests/data/{name}", std::env::var("CARGO_MANIFEST_DIR").unwrap())
    }

    fn column(name: &str) -> OpenOptions {
        OpenOptions { column: Some(name.into()), ..OpenOptions::default() }
    }

    /// The matrix that tests/data/make.py writes.
    fn expected(dtype: Dtype, rows: std::ops::Range<usize>, dim: usize) -> Vec<f32> {
        let at = |i: usize, j: usize| ((7 * i + 3 * j) % 23) as f32;
        let value = |i, j| match dtype {
            Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => at(i, j),
            Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => at(i, j) - 11.0,
            Dtype::Bool => f32::from(u8::from(at(i, j) > 11.0)),
            _ => (at(i, j) - 11.0) / 4.0,
        };
        rows.flat_map(|i| (0..dim).map(move |j| value(i, j))).collect()
    }

    fn read(source: &dyn Source, first: u64, rows: usize) -> Result<Vec<f32>> {
        let mut out = vec![f32::NAN; rows * source.shape().dim];
        source.read_rows(first, &mut out).map(|()| out)
    }

    /// Opens a fixture that holds rows `rows` of the matrix; reads it whole, by row, backwards, and
    /// three rows at a time.
    fn check(name: &str, options: &OpenOptions, dtype: Dtype, rows: std::ops::Range<usize>, dim: usize) {
        let source = open(&[fixture(name)], options).unwrap_or_else(|e| panic!("{e}"));
        let n = rows.len();
        assert_eq!(source.shape(), Shape { rows: n as u64, dim }, "{name}");
        assert_eq!(source.dtype(), dtype, "{name}");
        let whole = expected(dtype, rows, dim);
        assert_eq!(read(&*source, 0, n).unwrap(), whole, "{name}");
        let mut starts: Vec<usize> = (0..n).rev().collect();
        starts.extend(0..n);
        starts.extend((0..n).step_by(3));
        for first in starts {
            let take = (n - first).min(3);
            let found = read(&*source, first as u64, take).unwrap();
            assert_eq!(found, whole[first * dim..(first + take) * dim], "{name} from row {first}");
        }
        for (first, take) in [(n, 1), (0, n + 1), (usize::MAX, 1)] {
            let error = read(&*source, first as u64, take).unwrap_err().to_string();
            assert!(error.contains("rows"), "{name}: {error}");
        }
        assert!(source.read_rows(0, &mut vec![0.0; dim + 1]).is_err() || dim == 1, "{name}");
        assert_eq!(source.fingerprints().unwrap(), source.fingerprints().unwrap());
        source.release();
        assert_eq!(read(&*source, 0, n).unwrap(), whole, "{name} after release");
    }

    fn refused(name: &str, options: &OpenOptions, text: &str) {
        let read = open(&[fixture(name)], options).and_then(|s| read(&*s, 0, s.shape().rows as usize));
        let error = read.expect_err(name).to_string();
        assert!(error.contains(text) && error.contains(name), "{error}");
    }

    const FIXED: [(&str, Dtype); 5] =
        [("f16", Dtype::F16), ("f32", Dtype::F32), ("f64", Dtype::F64), ("u8", Dtype::U8), ("i8", Dtype::I8)];

    #[test]
    fn streams_of_the_old_format_are_named() {
        let values: ArrayRef = Arc::new(Float32Array::from(vec![1.0, 2.0]));
        let old = IpcWriteOptions::try_new(8, true, arrow::ipc::MetadataVersion::V4).unwrap();
        for names in [vec!["x"], vec!["a", "b", "c"]] {
            let batch = RecordBatch::try_from_iter(names.iter().map(|name| (*name, values.clone()))).unwrap();
            let mut bytes = Vec::new();
            let mut writer =
                arrow::ipc::writer::StreamWriter::try_new_with_options(&mut bytes, &batch.schema(), old.clone())
                    .unwrap();
            writer.write(&batch).unwrap();
            writer.finish().unwrap();
            let told = FileFormat::of(&bytes[..64]).unwrap_err();
            assert!(told.contains("before Arrow 0.15") && told.contains("write it again"), "{told}");
        }
        // Counts of rows and of components, as vectors are kept in files without a format.
        for (rows, dim) in [(1000u32, 16u32), (220, 12), (1 << 20, 96)] {
            let numbers = (0..14).flat_map(|i| (i as f32 / 3.0).to_le_bytes());
            let bytes: Vec<u8> = rows.to_le_bytes().into_iter().chain(dim.to_le_bytes()).chain(numbers).collect();
            assert!(FileFormat::of(&bytes).unwrap_err().contains("of no known format"));
        }
        assert!(FileFormat::of(&[8, 0, 0, 0]).unwrap_err().contains("of no known format"));
    }

    #[test]
    fn a_file_of_nothing_but_nulls_learns_from_others_which_column_holds_vectors() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, columns: Vec<(&str, ArrayRef)>| {
            let batch =
                RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
            let file = std::fs::File::create(dir.path().join(name)).unwrap();
            let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
            writer.write(&batch).unwrap();
            writer.close().unwrap();
        };
        let nulls = || Arc::new(arrow::array::NullArray::new(3)) as ArrayRef;
        let ids = || Arc::new(UInt64Array::from(vec![1, 2, 3])) as ArrayRef;
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let values = Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        let vectors: ArrayRef = Arc::new(FixedSizeListArray::new(item, 2, values, None));
        write("0.parquet", vec![("note", nulls()), ("v", nulls())]);
        write("1.parquet", vec![("v", vectors), ("note", nulls())]);
        write("2.parquet", vec![("note", nulls()), ("v", nulls())]);
        let all = dir.path().to_string_lossy().into_owned();
        let source = open(std::slice::from_ref(&all), &OpenOptions::default()).unwrap();
        assert_eq!(source.shape(), Shape { rows: 9, dim: 2 });
        let found = read(&*source, 0, 9).unwrap();
        assert_eq!(found[6..12], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert!(found[..6].iter().chain(&found[12..]).all(|x| crate::is_null(*x)));
        assert_eq!(source.locate(0).path, dir.path().join("0.parquet"));
        // Where none tells it, the first is named; where one lacks the column, that one is.
        write("1.parquet", vec![("note", nulls())]);
        let error = open(std::slice::from_ref(&all), &OpenOptions::default()).err().unwrap().to_string();
        assert!(error.contains("0.parquet: no column holds vectors"), "{error}");
        write("1.parquet", vec![("id", ids()), ("list", list_of(3))]);
        let error = open(&[all], &OpenOptions::default()).err().unwrap().to_string();
        assert!(error.contains("2.parquet: no column \"list\""), "{error}");
    }

    /// Lists of two numbers.
    fn list_of(rows: usize) -> ArrayRef {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        Arc::new(FixedSizeListArray::new(item, 2, Arc::new(Float32Array::from(vec![1.0; 2 * rows])), None))
    }

    #[test]
    fn files_of_numpy_pyarrow_and_polars_read_as_they_were_written() {
        let any = OpenOptions::default();
        for (name, dtype) in FIXED {
            for file in [
                format!("numpy_{name}.npy"),
                format!("pyarrow_fixed_{name}.parquet"),
                format!("pyarrow_fixed_{name}.arrow"),
            ] {
                check(&file, &any, dtype, 0..10, 4);
            }
        }
        for file in [
            "numpy_version2.npy",
            "numpy_version3.npy",
            "pyarrow_list_f32.parquet",
            "pyarrow_large_list_f32.parquet",
            "pyarrow_lz4_f32.parquet",
            "pyarrow_zstd_f32.parquet",
            "pyarrow_list_f32.arrow",
            "pyarrow_large_list_f32.arrow",
            "pyarrow_lz4_f32.arrow",
            "pyarrow_zstd_f32.arrow",
            "pyarrow_dictionary_f32.arrow",
            "pyarrow_f32.feather",
            "pyarrow_f32.arrows",
            "polars_f32.arrows",
            "polars_array_f32.parquet",
            "polars_array_f32.arrow",
        ] {
            check(file, &any, Dtype::F32, 0..10, 4);
        }
        for file in ["polars_list_f64.parquet", "polars_list_f64.arrow", "polars_lz4_f64.arrow"] {
            check(file, &any, Dtype::F64, 0..10, 4);
        }
        check("pyarrow_slice_f32.arrow", &any, Dtype::F32, 3..8, 4);
        check("numpy_fortran.npy", &any, Dtype::F32, 0..10, 4);
        check("numpy_big_endian.npy", &any, Dtype::F32, 0..10, 4);
        check("numpy_i64.npy", &any, Dtype::I64, 0..10, 4);
        for file in ["pyarrow_scalars.parquet", "pyarrow_scalars.arrow"] {
            check(file, &column("pc*"), Dtype::Mixed, 0..10, 10);
            check(file, &column("pc1,pc2,pc3"), Dtype::Mixed, 0..10, 3);
            check(file, &column("pc1"), Dtype::F32, 0..10, 1);
        }
    }

    #[test]
    fn vectors_in_every_column_type_read_back() {
        let (parquet, arrow) = ("pyarrow_clothes.parquet", "pyarrow_clothes.arrow");
        for (name, dtype) in [
            ("int16", Dtype::I16),
            ("int32", Dtype::I32),
            ("int64", Dtype::I64),
            ("uint16", Dtype::U16),
            ("uint32", Dtype::U32),
            ("uint64", Dtype::U64),
            ("bool", Dtype::Bool),
            ("decimal", Dtype::Decimal),
            ("nested", Dtype::F32),
            ("ragged nest", Dtype::F32),
            ("tensor", Dtype::F32),
            ("struct.values", Dtype::F32),
            ("spark", Dtype::F64),
            ("spark.values", Dtype::F64),
            ("binary:f32", Dtype::F32),
            ("fixed:f32", Dtype::F32),
            ("bytes:f32", Dtype::F32),
        ] {
            check(parquet, &column(name), dtype, 0..10, 4);
        }
        for (name, dtype) in [
            ("int64", Dtype::I64),
            ("bool", Dtype::Bool),
            ("decimal", Dtype::Decimal),
            ("struct.values", Dtype::F32),
            ("spark", Dtype::F64),
            ("views", Dtype::F32),
            ("dictionary", Dtype::F32),
            ("words", Dtype::F32),
            ("binary view:f32", Dtype::F32),
            ("large binary:f32", Dtype::F32),
        ] {
            check(arrow, &column(name), dtype, 0..10, 4);
        }
        for name in [parquet, arrow] {
            let source = open(&[fixture(name)], &column("packed:bits")).unwrap();
            assert_eq!((source.shape(), source.dtype()), (Shape { rows: 10, dim: 16 }, Dtype::Bits));
            let bits = |byte: u8| (0..8).map(move |bit| f32::from(byte >> (7 - bit) & 1));
            let expected: Vec<f32> = (0..10u8).flat_map(|i| bits(i).chain(bits(255 - i))).collect();
            assert_eq!(read(&*source, 0, 10).unwrap(), expected);
            refused(name, &column("struct"), "name one of its fields, as `column` 'struct.values'");
            refused(name, &column("packed"), "say what its bytes are, as `column` 'packed:f32'");
            refused(name, &column("packed:f32"), "2 bytes in a row, which are not a whole number of f32");
        }
    }

    /// Number `i` of the matrix that every type holds.
    fn number(i: usize, kind: &DataType) -> f64 {
        let whole = (i * 37 % 101) as f64;
        if kind == &DataType::Boolean { f64::from(u8::from(whole != 0.0)) } else { whole }
    }

    #[test]
    fn every_number_in_every_container_reads_as_written_with_its_nulls() {
        use arrow::array::{DictionaryArray, Int16Array, Int32Array, Int64Array, ListViewArray, RunArray, StructArray};
        use arrow::datatypes::{Int16Type, Int32Type};
        let (rows, dim) = (23, 4);
        let null_row = |row: usize| row % 7 == 5;
        let null_number = |i: usize| i % 11 == 3;
        let dir = tempfile::tempdir().unwrap();
        let mut checked = 0;
        for kind in [
            DataType::Int8,
            DataType::Int16,
            DataType::Int32,
            DataType::Int64,
            DataType::UInt8,
            DataType::UInt16,
            DataType::UInt32,
            DataType::UInt64,
            DataType::Float16,
            DataType::Float32,
            DataType::Float64,
            DataType::Boolean,
            DataType::Decimal32(7, 2),
            DataType::Decimal64(12, 2),
            DataType::Decimal128(20, 3),
            DataType::Decimal256(50, 3),
        ] {
            let numbers = |indices: &mut dyn Iterator<Item = usize>| -> ArrayRef {
                let plain = indices.map(|i| (!null_number(i)).then_some((i * 37 % 101) as i64)).collect::<Int64Array>();
                arrow::compute::cast(&plain, &kind).unwrap()
            };
            let item = Arc::new(Field::new("item", kind.clone(), true));
            let validity = || Some((0..rows).map(|row| !null_row(row)).collect::<Vec<bool>>().into());
            let all = numbers(&mut (0..rows * dim));
            let fixed: ArrayRef = Arc::new(FixedSizeListArray::new(item.clone(), dim as i32, all.clone(), validity()));
            // The slot of a null row is empty, or has the length of a row.
            let length = |row: usize| if null_row(row) && row.is_multiple_of(2) { 0 } else { dim };
            let present = numbers(&mut (0..rows * dim).filter(|i| length(i / dim) > 0));
            let list: ArrayRef = Arc::new(GenericListArray::<i32>::new(
                item.clone(),
                OffsetBuffer::from_lengths((0..rows).map(length)),
                present.clone(),
                validity(),
            ));
            let large: ArrayRef = Arc::new(GenericListArray::<i64>::new(
                item.clone(),
                OffsetBuffer::from_lengths((0..rows).map(length)),
                present,
                validity(),
            ));
            // The last row is stored first.
            let backwards = numbers(&mut (0..rows).rev().flat_map(|row| row * dim..(row + 1) * dim));
            let starts: Vec<i32> = (0..rows).map(|row| ((rows - 1 - row) * dim) as i32).collect();
            let views: ArrayRef = Arc::new(ListViewArray::new(
                item.clone(),
                starts.into(),
                vec![dim as i32; rows].into(),
                backwards.clone(),
                validity(),
            ));
            let nested = Arc::new(Field::new("item", DataType::FixedSizeList(item.clone(), 2), true));
            let pairs: ArrayRef = Arc::new(FixedSizeListArray::new(item.clone(), 2, all.clone(), None));
            let nested: ArrayRef = Arc::new(FixedSizeListArray::new(nested, dim as i32 / 2, pairs, validity()));
            let keys = (0..rows).map(|row| (!null_row(row)).then_some((rows - 1 - row) as i16)).collect::<Int16Array>();
            let reversed = FixedSizeListArray::new(item.clone(), dim as i32, backwards, None);
            let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int16Type>::new(keys, Arc::new(reversed)));
            let ends = Int32Array::from_iter_values(1..=rows as i32);
            let runs: ArrayRef = Arc::new(RunArray::<Int32Type>::try_new(&ends, &fixed).unwrap());
            let field = Field::new("v", fixed.data_type().clone(), true);
            let whole: ArrayRef = Arc::new(FixedSizeListArray::new(item.clone(), dim as i32, all, None));
            let structs: ArrayRef = Arc::new(StructArray::new(vec![field].into(), vec![whole], validity()));
            let expected: Vec<Option<f64>> =
                (0..rows * dim).map(|i| (!null_row(i / dim) && !null_number(i)).then_some(number(i, &kind))).collect();
            for (name, array, in_parquet) in [
                ("fixed", fixed, true),
                ("list", list, true),
                ("large", large, true),
                ("nested", nested, true),
                ("struct.v", structs, true),
                ("views", views, false),
                ("dictionary", dictionary, false),
                ("runs", runs, false),
            ] {
                let column_name = name.trim_end_matches(".v");
                let batch = RecordBatch::try_from_iter([(column_name, array)]).unwrap();
                let halves = [batch.slice(0, 9), batch.slice(9, rows - 9)];
                // A slice of a dictionary or run-end-encoded array keeps all values.
                let parts = if in_parquet { &halves[..] } else { std::slice::from_ref(&batch) };
                let mut files = vec![arrow_bytes(parts, None), arrow_bytes(parts, Some(CompressionType::ZSTD))];
                if in_parquet && kind != DataType::Float16 {
                    files.push(parquet_bytes(parts, 8, Compression::UNCOMPRESSED));
                }
                for (at_file, bytes) in files.into_iter().enumerate() {
                    std::fs::write(dir.path().join("x"), bytes).unwrap();
                    let source =
                        open(&[at(&dir, "x")], &column(name)).unwrap_or_else(|e| panic!("{kind}, {name}: {e}"));
                    assert_eq!(source.shape(), Shape { rows: rows as u64, dim }, "{kind}, {name}");
                    assert_eq!(read_nullable(&*source), expected, "{kind}, {name}, file {at_file}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 16 * 16, "{checked}");
    }

    #[test]
    fn bad_files_are_refused_with_file_row_and_column() {
        let any = OpenOptions::default();
        for end in ["parquet", "arrow"] {
            refused(&format!("bad_ragged.{end}"), &any, "row 5: 2 components where the first row has 4");
            refused(&format!("pyarrow_scalars.{end}"), &any, "no column holds vectors");
            refused(&format!("pyarrow_scalars.{end}"), &column("*"), "column \"name\" is Utf8");
            refused(&format!("pyarrow_scalars.{end}"), &column("pc11"), "no column \"pc11\"");
        }
        refused("bad_two_columns.parquet", &any, "\"v\", \"w\"; name one with `column`");
        refused("bad_two_columns.parquet", &column("v,w"), "column \"v\" is");
        refused("bad_no_vectors.parquet", &any, "\"id: Int64\", \"name: Utf8\"");
        refused("bad_no_rows.parquet", &any, "has no rows");
        refused("bad_complex.npy", &any, "arr.real");
        refused("bad_twice.npy", &any, "a second array follows");
        refused("bad_twice.parquet", &any, "two columns are named \"v\"");
        refused("bad_sparse.parquet", &any, "row 4: a sparse vector of Spark's");
        refused("bad_sparse.parquet", &column("features.values"), "vector_to_array");
        refused("bad_one_dimension.npy", &any, "one-dimensional, 40 numbers");
        refused("bad_three_dimensions.npy", &any, "3 dimensions");
        refused("bad_structured.npy", &any, "structured");
        refused("numpy_f32.npy", &column("v"), "no column \"v\"");
        refused("make.py", &any, "of no known format");
        refused("nothing.npy", &any, "no such file");
        refused("nothing*.npy", &any, "no such file");
        assert!(matches!(open(&[], &any).err(), Some(Error::NoFiles { .. })));
    }

    /// Reads a source whole in both precisions, which must agree. A null is `None`.
    fn read_nullable(source: &dyn Source) -> Vec<Option<f64>> {
        let Shape { rows, dim } = source.shape();
        let single = read(source, 0, rows as usize).unwrap();
        let mut double = vec![0.0; rows as usize * dim];
        source.read_rows_f64(0, &mut double).unwrap();
        for (single, double) in single.iter().zip(&double) {
            assert_eq!(crate::is_null(*single), crate::is_null_f64(*double));
            assert!(*single == *double as f32 || single.is_nan() && double.is_nan(), "{single} is {double}");
        }
        double.iter().map(|&x| (!crate::is_null_f64(x)).then_some(x)).collect()
    }

    #[test]
    fn nulls_are_told_from_numbers_and_from_nan() {
        let whole: Vec<Option<f64>> = expected(Dtype::F32, 0..10, 4).into_iter().map(|x| Some(f64::from(x))).collect();
        for end in ["parquet", "arrow"] {
            let open = |name: &str, options: &OpenOptions| open(&[fixture(&format!("{name}.{end}"))], options).unwrap();
            let mut with_null = whole.clone();
            with_null[24..28].fill(None);
            assert_eq!(read_nullable(&*open("bad_null_list", &OpenOptions::default())), with_null, "{end}");
            let mut with_null = whole.clone();
            with_null[32..36].clone_from_slice(&[Some(1.0), None, Some(2.0), Some(3.0)]);
            assert_eq!(read_nullable(&*open("bad_null_component", &OpenOptions::default())), with_null, "{end}");
            let numbers = open("bad_null_number", &column("y,x"));
            let found = read_nullable(&*numbers);
            assert_eq!(found, [Some(1.0), Some(1.0), Some(2.0), Some(2.0), Some(3.0), None]);
            assert_eq!(numbers.column_of(2, 1).as_deref(), Some("x"));
        }
    }

    #[test]
    fn the_first_rows_may_be_null_or_empty() {
        let dir = tempfile::tempdir().unwrap();
        let rows = 300;
        for first in [0, 1, 2, 63, 64, 65, 150, rows - 1] {
            let item = Arc::new(Field::new("item", DataType::Float32, true));
            let lengths = (0..rows).map(|row| if row < first { 0 } else { 3 });
            let values = Float32Array::from_iter((0..(rows - first) * 3).map(|i| (i != 1).then_some(f32::NAN)));
            let nulls = (0..rows).map(|row| row >= first || row % 2 == 1).collect::<Vec<_>>().into();
            let lists =
                GenericListArray::<i32>::new(item, OffsetBuffer::from_lengths(lengths), Arc::new(values), Some(nulls));
            let batch = RecordBatch::try_from_iter([("v", Arc::new(lists) as ArrayRef)]).unwrap();
            for (name, bytes) in [
                ("a", arrow_bytes(&[batch.slice(0, rows / 3), batch.slice(rows / 3, rows - rows / 3)], None)),
                ("b", arrow_bytes(std::slice::from_ref(&batch), Some(CompressionType::ZSTD))),
                ("c", parquet_bytes(std::slice::from_ref(&batch), 100, Compression::UNCOMPRESSED)),
            ] {
                std::fs::write(dir.path().join(name), bytes).unwrap();
                let source = open(&[at(&dir, name)], &OpenOptions::default()).unwrap();
                assert_eq!(source.shape(), Shape { rows: rows as u64, dim: 3 });
                for (i, found) in read_nullable(&*source).into_iter().enumerate() {
                    // A NaN of the file is not a null.
                    assert_eq!(found.is_some(), i >= first * 3 && i != first * 3 + 1, "{name}, {first}: {i}");
                }
            }
        }
    }

    #[test]
    fn a_file_of_nulls_joins_others_and_is_refused_alone() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, vectors: ArrayRef| {
            let batch = RecordBatch::try_from_iter([("v", vectors)]).unwrap();
            std::fs::write(dir.path().join(name), arrow_bytes(&[batch], None)).unwrap();
        };
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let empty = |n| OffsetBuffer::<i32>::from_lengths(std::iter::repeat_n(0, n));
        let none = |n| {
            let values = Arc::new(Float32Array::from(Vec::<f32>::new()));
            Arc::new(GenericListArray::new(item.clone(), empty(n), values, None)) as ArrayRef
        };
        write("0", none(2));
        write("2", none(3));
        write("1", lists::<i32>(Arc::new(Float32Array::from(vec![1.0, 2.0, 3.0, 4.0])), 2));
        let any = OpenOptions::default();
        let error = open(&[at(&dir, "0"), at(&dir, "2")], &any).err().unwrap().to_string();
        assert!(error.contains("column \"v\" has no vector"), "{error}");
        for order in [["0", "1"], ["1", "0"]] {
            let source = open(&order.map(|name| at(&dir, name)), &any).unwrap();
            assert_eq!(source.shape(), Shape { rows: 4, dim: 2 });
            let mut expected = [None, None, None, None, Some(1.0), Some(2.0), Some(3.0), Some(4.0)];
            expected.rotate_left(if order[0] == "0" { 0 } else { 4 });
            assert_eq!(read_nullable(&*source), expected);
        }
    }

    #[test]
    fn a_file_without_rows_counts_for_nothing() {
        let dir = copy_fixtures(&[("pyarrow_list_f32.parquet", "m.parquet"), ("bad_no_rows.parquet", "z.parquet")]);
        let nothing = |name: &str, column: &str, array: ArrayRef| {
            let batch = RecordBatch::try_from_iter([(column, array)]).unwrap();
            let bytes = match name.ends_with("arrow") {
                true => arrow_bytes(&[batch], None),
                false => parquet_bytes(&[batch], 5, Compression::UNCOMPRESSED),
            };
            std::fs::write(dir.path().join(name), bytes).unwrap();
        };
        // No column of vectors; a column of type Null; vectors of another width.
        nothing("a.arrow", "id", Arc::new(UInt64Array::from(Vec::<u64>::new())));
        nothing("b.parquet", "v", Arc::new(arrow::array::NullArray::new(0)));
        nothing("y.arrow", "v", fixed(&[], 7));
        let source = open(&[at(&dir, "")], &OpenOptions::default()).unwrap();
        assert_eq!(source.shape(), Shape { rows: 10, dim: 4 });
        assert_eq!(read(&*source, 0, 10).unwrap(), expected(Dtype::F32, 0..10, 4));
        assert_eq!(source.read_columns(&["id".into()], 3, 2).unwrap().num_rows(), 2);
        assert!(source.columns().contains(&"name".to_string()));
        // A change of a file without rows is detected too.
        assert_eq!(source.fingerprints().unwrap().len(), 5);
        let error =
            open(&[at(&dir, "a.arrow"), at(&dir, "y.arrow")], &OpenOptions::default()).err().unwrap().to_string();
        assert!(error.contains("a.arrow: has no rows, and neither do the other files"), "{error}");
    }

    #[test]
    fn columns_pass_through_beside_the_vectors() {
        for name in [
            "pyarrow_fixed_f32.parquet",
            "pyarrow_fixed_f32.arrow",
            "pyarrow_lz4_f32.arrow",
            "pyarrow_dictionary_f32.arrow",
            "polars_array_f32.arrow",
            "polars_list_f64.parquet",
        ] {
            let source = open(&[fixture(name)], &OpenOptions::default()).unwrap();
            assert!(source.columns().contains(&"name".to_string()));
            let names = ["name".to_string(), "id".into(), "v".into(), "name".into()];
            for (first, rows) in [(0, 10), (2, 5), (7, 3), (9, 1), (0, 1), (4, 0), (1, 2)] {
                let _ = read(&*source, first, rows).unwrap();
                let batch = source.read_columns(&names, first, rows).unwrap();
                assert_eq!(batch.num_rows(), rows, "{name}");
                assert_eq!(batch.schema().field(1).name(), "id");
                let ids: Vec<i64> = batch.column(1).as_primitive::<Int64Type>().values().to_vec();
                assert_eq!(ids, (first as i64..first as i64 + rows as i64).collect::<Vec<_>>(), "{name}");
                let text = arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
                let text: Vec<_> = text.as_string::<i32>().iter().flatten().map(String::from).collect();
                assert_eq!(text, (first..first + rows as u64).map(|i| format!("row {i}")).collect::<Vec<_>>());
            }
            assert_eq!(source.read_columns(&[], 0, 3).unwrap().num_rows(), 3);
            let error = source.read_columns(&["no".into()], 0, 1).unwrap_err();
            assert!(matches!(error, Error::NoSuchColumn { .. }), "{error}");
            assert!(source.read_columns(&names, 9, 2).is_err());
        }
    }

    fn copy_fixtures(names: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (from, to) in names {
            let to = dir.path().join(to);
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(fixture(from), to).unwrap();
        }
        dir
    }

    fn at(dir: &tempfile::TempDir, name: &str) -> String {
        dir.path().join(name).to_str().unwrap().into()
    }

    #[test]
    fn directories_and_globs_are_read_in_the_order_of_names() {
        let dir = copy_fixtures(&[
            ("pyarrow_list_f32.arrow", "b.feather"),
            ("numpy_f32.npy", "a=1/part.npy"),
            ("polars_array_f32.parquet", "a=2/part.PARQUET"),
            ("pyarrow_slice_f32.arrow", "a=2/deep/x.ipc"),
            ("bad_no_rows.parquet", "a=3/part.parquet"),
            ("bad_ragged.arrow", "_hidden/part.arrow"),
            ("bad_ragged.arrow", ".hidden.arrow"),
            ("make.py", "make.py"),
        ]);
        let any = OpenOptions::default();
        let whole = open(&[at(&dir, "")], &any).unwrap();
        assert_eq!(whole.shape(), Shape { rows: 35, dim: 4 });
        let mut all = expected(Dtype::F32, 0..10, 4);
        all.extend(expected(Dtype::F32, 3..8, 4));
        all.extend(expected(Dtype::F32, 0..10, 4));
        all.extend(expected(Dtype::F32, 0..10, 4));
        for (first, rows) in [(0, 35), (8, 9), (14, 2), (34, 1), (0, 1), (12, 20)] {
            let found = read(&*whole, first, rows).unwrap();
            assert_eq!(found, all[first as usize * 4..(first as usize + rows) * 4]);
        }
        assert_eq!(whole.locate(12).row, 2);
        assert!(whole.locate(12).path.ends_with("a=2/deep/x.ipc"));
        assert!(whole.locate(34).path.ends_with("b.feather"));
        assert_eq!(whole.fingerprints().unwrap().len(), 5);
        assert!(read(&*whole, 35, 1).is_err());
        let two = open(&[at(&dir, "b.feather"), at(&dir, "a=*/part.???")], &any).unwrap();
        assert_eq!(two.shape().rows, 20);
        assert_eq!(two.vector_column().as_deref(), Some("v"));
        std::fs::write(dir.path().join("b.feather"), []).unwrap();
        let error = open(&[at(&dir, "")], &any).err().unwrap().to_string();
        assert!(error.contains("empty (0 bytes)"), "{error}");
    }

    #[test]
    fn files_of_one_source_must_agree() {
        let dir =
            copy_fixtures(&[("pyarrow_fixed_f32.parquet", "a.parquet"), ("pyarrow_scalars.parquet", "b.parquet")]);
        let paths = [at(&dir, "a.parquet"), at(&dir, "b.parquet")];
        let error = open(&paths, &OpenOptions::default()).err().unwrap();
        assert!(matches!(&error, Error::NoSuchColumn { path, .. } if path.ends_with("b.parquet")), "{error}");
        let dir = copy_fixtures(&[("pyarrow_scalars.parquet", "b.parquet"), ("numpy_f32.npy", "c.npy")]);
        let paths = [at(&dir, "c.npy"), at(&dir, "b.parquet")];
        let error = open(&paths, &OpenOptions::default()).err().unwrap();
        assert!(matches!(error, Error::NoVectorColumn { .. }), "{error}");
        let write = |name: &str, batch: &RecordBatch| {
            std::fs::write(dir.path().join(name), arrow_bytes(std::slice::from_ref(batch), None)).unwrap()
        };
        let batch = |vectors: ArrayRef, label: ArrayRef| {
            RecordBatch::try_from_iter([("v", vectors), ("label", label)]).unwrap()
        };
        let label: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
        write("1.arrow", &batch(fixed(&[1.0, 2.0, 3.0, 4.0], 2), label.clone()));
        write("2.arrow", &batch(fixed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), label.clone()));
        write(
            "3.arrow",
            &batch(fixed(&[1.0, 2.0, 3.0, 4.0], 2), arrow::compute::cast(&label, &DataType::Utf8View).unwrap()),
        );
        write("4.arrow", &batch(fixed(&[1.0, 2.0, 3.0, 4.0], 2), Arc::new(UInt64Array::from(vec![1, 2]))));
        let any = OpenOptions::default();
        let error = open(&[at(&dir, "1.arrow"), at(&dir, "2.arrow")], &any).err().unwrap();
        assert!(matches!(error, Error::Width { found: 3, expected: 2, .. }), "{error}");
        let joined = open(&[at(&dir, "1.arrow"), at(&dir, "3.arrow")], &any).unwrap();
        let batch = joined.read_columns(&["label".into()], 1, 2).unwrap();
        assert_eq!(batch.column(0).as_ref(), &LargeStringArray::from(vec!["y", "x"]));
        let batch = joined.read_columns(&["label".into()], 2, 1).unwrap();
        assert_eq!(batch.column(0).data_type(), &DataType::LargeUtf8);
        assert_eq!(joined.read_columns(&["label".into()], 2, 0).unwrap().num_rows(), 0);
        let joined = open(&[at(&dir, "1.arrow"), at(&dir, "4.arrow")], &any).unwrap();
        let error = joined.read_columns(&["label".into()], 1, 2).unwrap_err().to_string();
        assert!(error.contains("4.arrow: column \"label\" is UInt64, but Utf8 in"), "{error}");
    }

    #[test]
    fn a_file_changed_while_open_is_noticed() {
        for name in ["pyarrow_fixed_f32.parquet", "pyarrow_fixed_f32.arrow", "numpy_f32.npy"] {
            let dir = copy_fixtures(&[(name, "a")]);
            let source = open(&[at(&dir, "a")], &OpenOptions::default()).unwrap();
            let before = source.fingerprints().unwrap();
            crate::check_unchanged(&before, &source.fingerprints().unwrap()).unwrap();
            std::fs::copy(fixture("polars_list_f64.parquet"), dir.path().join("a")).unwrap();
            let changed = crate::check_unchanged(&before, &source.fingerprints().unwrap());
            for error in [changed.unwrap_err(), read(&*source, 0, 1).unwrap_err()] {
                assert!(matches!(&error, Error::Changed { path, .. } if path.ends_with("a")), "{name}: {error}");
            }
        }
    }

    #[test]
    fn a_file_cut_short_while_it_is_read_is_an_error_that_names_it() {
        // More rows than a Parquet reader decodes ahead.
        let (rows, dim) = (16_384, 16);
        let values: Vec<f32> = (0..rows * dim).map(|i| i as f32).collect();
        let batch = RecordBatch::try_from_iter([("v", fixed(&values, dim))]).unwrap();
        let halves = [batch.slice(0, rows / 2), batch.slice(rows / 2, rows / 2)];
        let npy_header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}\n");
        let mut npy = b"\x93NUMPY\x01\x00".to_vec();
        npy.extend((npy_header.len() as u16).to_le_bytes());
        npy.extend(npy_header.as_bytes());
        npy.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("a.npy", npy),
            ("a.arrow", arrow_bytes(&halves, None)),
            ("b.arrow", arrow_bytes(&halves, Some(CompressionType::ZSTD))),
            ("a.parquet", parquet_bytes(&halves, 1024, Compression::UNCOMPRESSED)),
        ] {
            std::fs::write(dir.path().join(name), &bytes).unwrap();
            let source = open(&[at(&dir, name)], &OpenOptions::default()).unwrap();
            assert_eq!(read(&*source, 0, 8).unwrap(), values[..8 * dim], "{name}");
            let file = std::fs::File::options().write(true).open(dir.path().join(name)).unwrap();
            file.set_len(bytes.len() as u64 / 3).unwrap();
            let error = read(&*source, 8, rows - 8).err().unwrap_or_else(|| panic!("{name} was read whole"));
            assert!(matches!(error, Error::Truncated { .. } | Error::Changed { .. }), "{name}: {error}");
            assert!(error.is_bad_input() && error.to_string().contains(name), "{error}");
            // After a release, the changed file is not read either.
            source.release();
            assert!(matches!(read(&*source, 0, 8), Err(Error::Changed { .. })), "{name}");
        }
    }

    fn fixed(values: &[f32], dim: usize) -> ArrayRef {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        Arc::new(FixedSizeListArray::new(item, dim as i32, Arc::new(Float32Array::from(values.to_vec())), None))
    }

    fn lists<O: OffsetSizeTrait>(values: ArrayRef, dim: usize) -> ArrayRef {
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let offsets = OffsetBuffer::<O>::from_lengths(std::iter::repeat_n(dim, values.len() / dim));
        Arc::new(GenericListArray::new(item, offsets, values, None))
    }

    fn arrow_bytes(batches: &[RecordBatch], compression: Option<CompressionType>) -> Vec<u8> {
        let options = IpcWriteOptions::default().try_with_compression(compression).unwrap();
        let mut writer = FileWriter::try_new_with_options(Vec::new(), &batches[0].schema(), options).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.into_inner().unwrap()
    }

    fn parquet_bytes(batches: &[RecordBatch], group: usize, compression: Compression) -> Vec<u8> {
        let properties = WriterProperties::builder()
            .set_max_row_group_row_count(Some(group))
            .set_data_page_row_count_limit(5)
            .set_write_batch_size(3)
            .set_compression(compression)
            .build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).unwrap();
        for batch in batches {
            writer.write(batch).unwrap();
        }
        writer.into_inner().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn any_range_of_any_format_reads_as_written(
            rows in 1usize..60,
            dim in 1usize..7,
            chunk in 1usize..20,
            kind in 0usize..6,
            format in 0usize..5,
            seed in any::<u32>(),
            ranges in prop::collection::vec((0.0f64..1.0, 0.0f64..1.0), 1..20),
        ) {
            let values: Vec<f32> = (0..rows * dim)
                .map(|i| ((i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) % 2048) as f32 / 8.0)
                .collect();
            let array: ArrayRef = match kind {
                0 => fixed(&values, dim),
                1 => lists::<i32>(Arc::new(Float32Array::from(values.clone())), dim),
                2 => lists::<i64>(Arc::new(Float64Array::from_iter_values(values.iter().map(|&v| v as f64))), dim),
                3 => lists::<i32>(Arc::new(Float16Array::from_iter_values(values.iter().map(|&v| f16::from_f32(v)))), dim),
                _ => Arc::new(Float32Array::from(values.clone())),
            };
            let ids: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..rows as u64));
            let (batch, options) = if kind < 4 {
                (RecordBatch::try_from_iter([("id", ids), ("v", array)]).unwrap(), OpenOptions::default())
            } else {
                let mut columns = vec![("id".to_string(), ids)];
                for j in (0..dim).rev() {
                    let component = values.iter().skip(j).step_by(dim).map(|&v| v as f64);
                    columns.push((format!("x{j}"), Arc::new(Float64Array::from_iter_values(component)) as _));
                }
                (RecordBatch::try_from_iter(columns).unwrap(), column("x*"))
            };
            let batches: Vec<_> = (0..rows).step_by(chunk).map(|r| batch.slice(r, chunk.min(rows - r))).collect();
            let bytes = match format {
                0 => arrow_bytes(&batches, None),
                1 => arrow_bytes(&batches, Some(CompressionType::LZ4_FRAME)),
                2 => arrow_bytes(&batches, Some(CompressionType::ZSTD)),
                3 => parquet_bytes(&batches, chunk, Compression::UNCOMPRESSED),
                _ => parquet_bytes(&batches, 2 * chunk, Compression::ZSTD(ZstdLevel::default())),
            };
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("x"), bytes).unwrap();
            let source = open(&[at(&dir, "x")], &options).unwrap();
            prop_assert_eq!(source.shape(), Shape { rows: rows as u64, dim });
            for (from, length) in ranges {
                let first = (from * rows as f64) as usize;
                let take = (length * (rows - first + 1) as f64) as usize;
                let found = read(&*source, first as u64, take).unwrap();
                prop_assert_eq!(found.as_slice(), &values[first * dim..(first + take) * dim]);
                if seed % 2 == 0 {
                    let batch = source.read_columns(&["id".into()], first as u64, take).unwrap();
                    let found = batch.column(0).as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec();
                    prop_assert_eq!(found, (first as u64..(first + take) as u64).collect::<Vec<_>>());
                }
            }
        }
    }

    /// Opens and reads everything in a damaged file. The error says where it panicked.
    fn survive(path: &str, options: &OpenOptions) -> std::result::Result<(), String> {
        let found = catch_unwind(AssertUnwindSafe(|| {
            let Ok(source) = open(&[path.into()], options) else { return };
            let Shape { rows, dim } = source.shape();
            if rows < 1000 && dim < 1000 {
                let _ = read(&*source, 0, rows as usize);
                let _ = read(&*source, rows / 2, 1);
                for name in source.columns() {
                    let _ = source.read_columns(&[name], rows / 3, (rows / 2) as usize);
                }
            }
        }));
        found.map_err(|e| match e.downcast::<String>() {
            Ok(text) => *text,
            Err(e) => e.downcast_ref::<&str>().unwrap_or(&"a panic").to_string(),
        })
    }

    fn damage(names: &[&str]) {
        for name in names {
            damaged(name, &OpenOptions::default(), (0, 1));
        }
    }

    /// Changes each byte of a file in turn, and cuts the file there; of every `step` bytes only
    /// one.
    fn damaged(name: &str, options: &OpenOptions, (from, step): (usize, usize)) {
        let dir = tempfile::tempdir().unwrap();
        let path = at(&dir, "x");
        let good = std::fs::read(fixture(name)).unwrap();
        for length in (from..good.len()).step_by(step) {
            std::fs::write(&path, &good[..length]).unwrap();
            assert!(open(std::slice::from_ref(&path), options).is_err(), "{name} cut at {length}");
        }
        for at in (from..good.len()).step_by(step) {
            let flip = [1 << (at / 3 % 8), 0x80, 0xff][at % 3];
            let mut bad = good.clone();
            bad[at] ^= flip;
            std::fs::write(&path, &bad).unwrap();
            if let Err(what) = survive(&path, options) {
                panic!("{name}: byte {at} ^ {flip:#x}: {what}");
            }
        }
    }

    #[test]
    fn damage_to_other_column_types_does_not_panic() {
        // Changes each byte once, and reads a different column each time.
        let columns = ["views", "dictionary", "words", "struct.values", "binary view:f32", "packed:bits", "decimal"];
        for (i, name) in columns.into_iter().enumerate() {
            damaged("pyarrow_clothes.arrow", &column(name), (i, columns.len()));
        }
        let columns = ["nested", "ragged nest", "spark", "bool", "decimal", "binary:f32", "bytes:bf16"];
        for (i, name) in columns.into_iter().enumerate() {
            damaged("pyarrow_clothes.parquet", &column(name), (i, columns.len()));
        }
        damaged("numpy_fortran.npy", &OpenOptions::default(), (0, 1));
    }

    #[test]
    fn no_damage_to_arrow_or_npy_panics() {
        damage(&[
            "numpy_f32.npy",
            "pyarrow_list_f32.arrow",
            "pyarrow_lz4_f32.arrow",
            "pyarrow_dictionary_f32.arrow",
            "polars_array_f32.arrow",
        ]);
    }

    #[test]
    fn no_damage_to_parquet_panics() {
        damage(&["pyarrow_fixed_f32.parquet", "pyarrow_list_f32.parquet", "polars_list_f64.parquet"]);
    }
}
