//! Writes generated rows to files: Parquet, Arrow IPC and NumPy.
//!
//! What must hold: a row has the same values in every format of the same component type; memory is
//! bounded by one row group (which Parquet buffers encoded and Arrow writes as a whole) and
//! otherwise by 8 MiB of rows; a file has its own name only when it is complete.
//!
//! Parquet and Arrow files have the columns `id: UInt64` (the row number), `label: UInt32` and
//! `embedding: FixedSizeList<component, dim>`, none of them nullable. `.npy` files have only the
//! embedding.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    num::NonZero,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use arrow::{
    array::{
        ArrayRef, FixedSizeListArray, Float16Array, Float32Array, Float64Array, Int8Array, RecordBatch, UInt8Array,
        UInt32Array, UInt64Array,
    },
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
    ipc::{
        CompressionType,
        writer::{FileWriter, IpcWriteOptions},
    },
};
use half::{f16, slice::HalfFloatSliceExt, vec::HalfFloatVecExt};
use parquet::{
    arrow::ArrowWriter,
    basic::{self, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties},
};

use crate::{Error, Generator};

/// Bytes of rows that are generated at a time.
const PORTION: usize = 8 << 20;

/// The type of a component in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutputDtype {
    /// IEEE half precision, rounded to nearest.
    F16,
    /// IEEE single precision: the generator's own values.
    #[default]
    F32,
    /// IEEE double precision: the generator's values, widened.
    F64,
    /// Unsigned bytes: [`Generator::range`] divided into 256 steps.
    U8,
    /// Signed bytes: the values of `U8` minus 128.
    I8,
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFormat {
    /// Parquet.
    Parquet,
    /// The Arrow IPC file format, also called Feather 2.
    Arrow,
    /// NumPy's `.npy`, version 1.0, in C order.
    Npy,
}

impl OutputFormat {
    /// Returns the format of a file by its extension.
    pub fn of(path: &Path) -> Result<Self, Error> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("arrow") => Ok(Self::Arrow),
            Some("npy") => Ok(Self::Npy),
            _ => Err(Error::Extension(path.to_owned())),
        }
    }
}

/// The compression of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    None,
    /// zstd, level 1 in Parquet.
    Zstd,
}

/// How a file is written.
#[derive(Debug, Clone, Copy)]
pub struct WriteOptions {
    /// The components' type.
    pub dtype: OutputDtype,
    /// `None` is the format's default: zstd for Parquet, no compression for the others, so that
    /// they can be memory-mapped.
    pub compression: Option<Compression>,
    /// Rows of a Parquet row group or an Arrow record batch.
    pub group_rows: NonZero<usize>,
    /// Threads that generate rows. The bytes do not depend on the number of threads.
    pub threads: NonZero<usize>,
}

impl Default for WriteOptions {
    /// `f32`, groups of 100,000 rows, all cores.
    fn default() -> Self {
        Self {
            dtype: OutputDtype::default(),
            compression: None,
            group_rows: NonZero::new(100_000).unwrap_or(NonZero::<usize>::MIN),
            threads: thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN),
        }
    }
}

/// Writes all rows of `generator` to `path`, in the format of the path's extension. Replaces an
/// existing file.
pub fn write(generator: &Generator, path: &Path, options: &WriteOptions) -> Result<(), Error> {
    let format = OutputFormat::of(path)?;
    if format == OutputFormat::Npy && options.compression == Some(Compression::Zstd) {
        return Err(Error::Compression(path.to_owned()));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let unfinished = PathBuf::from(name);
    let fault = |source| Error::Io { path: path.to_owned(), source };
    let written = write_rows(generator, path, &unfinished, format, options)
        .and_then(|()| fs::rename(&unfinished, path).map_err(fault));
    if written.is_err() {
        // The first error is reported; the file may not exist.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn write_rows(
    generator: &Generator,
    path: &Path,
    unfinished: &Path,
    format: OutputFormat,
    options: &WriteOptions,
) -> Result<(), Error> {
    let group = options.group_rows.get();
    let portion = match format {
        // A record batch is written as a whole.
        OutputFormat::Arrow => group,
        OutputFormat::Parquet | OutputFormat::Npy => (PORTION / (4 * generator.dim())).clamp(1, group),
    };
    let mut sink = TableFile::create(generator, path, unfinished, format, options)?;
    let (mut first, mut in_group) = (0, 0);
    while first < generator.rows() {
        let rows = portion.min(group - in_group).min(usize::try_from(generator.rows() - first).unwrap_or(usize::MAX));
        let mut values = vec![0.0; rows * generator.dim()];
        generator.fill_parallel(first, &mut values, options.threads);
        sink.write(generator, first, values)?;
        first += rows as u64;
        in_group = (in_group + rows) % group;
    }
    sink.finish()
}

/// An open file and the state for writing rows.
struct TableFile<'a> {
    path: &'a Path,
    dtype: OutputDtype,
    schema: SchemaRef,
    item: FieldRef,
    writer: FormatWriter,
}

enum FormatWriter {
    // Boxed, because these variants are much larger than the third.
    Parquet(Box<ArrowWriter<BufWriter<File>>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
    Npy(BufWriter<File>),
}

impl<'a> TableFile<'a> {
    fn create(
        generator: &Generator,
        path: &'a Path,
        unfinished: &Path,
        format: OutputFormat,
        options: &WriteOptions,
    ) -> Result<Self, Error> {
        let fault = |source| Error::Io { path: path.to_owned(), source };
        let mut file = BufWriter::with_capacity(1 << 20, File::create(unfinished).map_err(fault)?);
        let item = Arc::new(Field::new_list_field(data_type(options.dtype), false));
        let list = DataType::FixedSizeList(Arc::clone(&item), generator.dim() as i32);
        let schema = Arc::new(Schema::new(vec![
            Field::new("id", DataType::UInt64, false),
            Field::new("label", DataType::UInt32, false),
            Field::new("embedding", list, false),
        ]));
        let writer = match format {
            OutputFormat::Parquet => parquet_writer(file, &schema, options)
                .map(|writer| FormatWriter::Parquet(Box::new(writer)))
                .map_err(|source| parquet_fault(path, source))?,
            OutputFormat::Arrow => {
                let compression = match options.compression {
                    Some(Compression::Zstd) => Some(CompressionType::ZSTD),
                    Some(Compression::None) | None => None,
                };
                IpcWriteOptions::default()
                    .try_with_compression(compression)
                    .and_then(|ipc| FileWriter::try_new_with_options(file, &schema, ipc))
                    .map(|writer| FormatWriter::Arrow(Box::new(writer)))
                    .map_err(|source| arrow_fault(path, source))?
            }
            OutputFormat::Npy => {
                let header = npy_header(generator, options.dtype);
                file.write_all(&header).map_err(fault)?;
                FormatWriter::Npy(file)
            }
        };
        Ok(Self { path, dtype: options.dtype, schema, item, writer })
    }

    fn write(&mut self, generator: &Generator, first: u64, values: Vec<f32>) -> Result<(), Error> {
        let range = generator.range();
        if let FormatWriter::Npy(file) = &mut self.writer {
            let bytes = npy_bytes(&values, self.dtype, range);
            return file.write_all(&bytes).map_err(|source| Error::Io { path: self.path.to_owned(), source });
        }
        let end = first + (values.len() / generator.dim()) as u64;
        let batch = FixedSizeListArray::try_new(
            Arc::clone(&self.item),
            generator.dim() as i32,
            components(values, self.dtype, range),
            None,
        )
        .and_then(|embedding| {
            let id = UInt64Array::from_iter_values(first..end);
            let label = UInt32Array::from_iter_values((first..end).map(|row| generator.label(row)));
            let columns: Vec<ArrayRef> = vec![Arc::new(id), Arc::new(label), Arc::new(embedding)];
            RecordBatch::try_new(Arc::clone(&self.schema), columns)
        })
        .map_err(|source| arrow_fault(self.path, source))?;
        match &mut self.writer {
            FormatWriter::Parquet(writer) => writer.write(&batch).map_err(|source| parquet_fault(self.path, source)),
            FormatWriter::Arrow(writer) => writer.write(&batch).map_err(|source| arrow_fault(self.path, source)),
            FormatWriter::Npy(_) => Ok(()),
        }
    }

    fn finish(self) -> Result<(), Error> {
        let file = match self.writer {
            FormatWriter::Parquet(writer) => writer.into_inner().map_err(|source| parquet_fault(self.path, source))?,
            // This also writes the footer.
            FormatWriter::Arrow(writer) => writer.into_inner().map_err(|source| arrow_fault(self.path, source))?,
            FormatWriter::Npy(file) => file,
        };
        // Dropping the buffer would ignore an error of its last write.
        file.into_inner()
            .map(drop)
            .map_err(|fault| Error::Io { path: self.path.to_owned(), source: fault.into_error() })
    }
}

fn parquet_fault(path: &Path, source: parquet::errors::ParquetError) -> Error {
    Error::Parquet { path: path.to_owned(), source }
}

fn arrow_fault(path: &Path, source: arrow::error::ArrowError) -> Error {
    Error::Arrow { path: path.to_owned(), source }
}

fn parquet_writer(
    file: BufWriter<File>,
    schema: &SchemaRef,
    options: &WriteOptions,
) -> parquet::errors::Result<ArrowWriter<BufWriter<File>>> {
    let compression = match options.compression {
        Some(Compression::None) => basic::Compression::UNCOMPRESSED,
        Some(Compression::Zstd) | None => basic::Compression::ZSTD(ZstdLevel::try_new(1)?),
    };
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(options.group_rows.get()))
        // Random numbers do not repeat, and no reader filters by them.
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_column_statistics_enabled("id".into(), EnabledStatistics::Chunk)
        .build();
    ArrowWriter::try_new(file, Arc::clone(schema), Some(properties))
}

fn data_type(dtype: OutputDtype) -> DataType {
    match dtype {
        OutputDtype::F16 => DataType::Float16,
        OutputDtype::F32 => DataType::Float32,
        OutputDtype::F64 => DataType::Float64,
        OutputDtype::U8 => DataType::UInt8,
        OutputDtype::I8 => DataType::Int8,
    }
}

fn components(values: Vec<f32>, dtype: OutputDtype, range: (f32, f32)) -> ArrayRef {
    let steps = values.iter().map(|&value| step(value, range));
    match dtype {
        OutputDtype::F16 => Arc::new(Float16Array::from(Vec::<f16>::from_f32_slice(&values))),
        OutputDtype::F32 => Arc::new(Float32Array::from(values)),
        OutputDtype::F64 => Arc::new(Float64Array::from_iter_values(values.iter().copied().map(f64::from))),
        OutputDtype::U8 => Arc::new(UInt8Array::from_iter_values(steps)),
        OutputDtype::I8 => Arc::new(Int8Array::from_iter_values(steps.map(signed))),
    }
}

/// Returns the nearest of 256 steps over a range.
fn step(value: f32, (low, high): (f32, f32)) -> u8 {
    // `as` saturates at both ends.
    ((value - low) * (255.0 / (high - low)) + 0.5) as u8
}

fn signed(step: u8) -> i8 {
    (step ^ 0x80) as i8
}

fn npy_header(generator: &Generator, dtype: OutputDtype) -> Vec<u8> {
    let descr = match dtype {
        OutputDtype::F16 => "<f2",
        OutputDtype::F32 => "<f4",
        OutputDtype::F64 => "<f8",
        OutputDtype::U8 => "|u1",
        OutputDtype::I8 => "|i1",
    };
    let mut text = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}, {}), }}",
        generator.rows(),
        generator.dim()
    );
    // Magic, version and length take 10 bytes and the line feed one; the data must begin at a
    // multiple of 64. The text has at most about 100 bytes.
    let length = (text.len() + 11).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', length - 1 - text.len()));
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((length as u16).to_le_bytes());
    header.extend(text.into_bytes());
    header
}

fn npy_bytes(values: &[f32], dtype: OutputDtype, range: (f32, f32)) -> Vec<u8> {
    let steps = values.iter().map(|&value| step(value, range));
    match dtype {
        OutputDtype::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(values);
            halves.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        OutputDtype::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        OutputDtype::F64 => values.iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect(),
        OutputDtype::U8 => steps.collect(),
        OutputDtype::I8 => steps.map(|step| signed(step) as u8).collect(),
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Array, AsArray},
        datatypes::*,
        ipc::reader::FileReader,
    };
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    const ROWS: u64 = 1003;
    const DIM: usize = 7;

    fn options(dtype: OutputDtype, compression: Option<Compression>, threads: usize) -> WriteOptions {
        WriteOptions {
            dtype,
            compression,
            group_rows: NonZero::new(250).unwrap(),
            threads: NonZero::new(threads).unwrap(),
        }
    }

    /// Returns every component as `f64`, whatever its type.
    fn widen(array: &ArrayRef) -> Vec<f64> {
        macro_rules! all {
            ($type:ty, $value:ident => $wide:expr) => {
                array.as_primitive::<$type>().values().iter().map(|&$value| $wide).collect()
            };
        }
        match array.data_type() {
            DataType::Float16 => all!(Float16Type, v => v.to_f64()),
            DataType::Float32 => all!(Float32Type, v => f64::from(v)),
            DataType::Float64 => all!(Float64Type, v => v),
            DataType::UInt8 => all!(UInt8Type, v => f64::from(v)),
            DataType::Int8 => all!(Int8Type, v => f64::from(v)),
            other => panic!("{other}"),
        }
    }

    fn check_batches(generator: &Generator, batches: &[RecordBatch]) -> Vec<f64> {
        let mut values = Vec::new();
        let mut row = 0;
        for batch in batches {
            for &id in batch["id"].as_primitive::<UInt64Type>().values() {
                assert_eq!(id, row);
                row += 1;
            }
            let labels = batch["label"].as_primitive::<UInt32Type>();
            let first = row - batch.num_rows() as u64;
            assert!((first..row).zip(labels.values()).all(|(r, &l)| l == generator.label(r)));
            let lists = batch["embedding"].as_fixed_size_list();
            assert_eq!((lists.value_length(), lists.is_nullable()), (DIM as i32, false));
            values.extend(widen(lists.values()));
        }
        assert_eq!(row, generator.rows());
        values
    }

    fn read_parquet(generator: &Generator, path: &Path) -> Vec<f64> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
        let groups = builder.metadata().row_groups().iter().map(|group| group.num_rows());
        assert_eq!(groups.collect::<Vec<_>>(), [250, 250, 250, 250, 3]);
        let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
        check_batches(generator, &batches)
    }

    fn read_arrow(generator: &Generator, path: &Path) -> Vec<f64> {
        let reader = FileReader::try_new(File::open(path).unwrap(), None).unwrap();
        assert_eq!(reader.num_batches(), 5);
        let batches: Vec<_> = reader.map(Result::unwrap).collect();
        check_batches(generator, &batches)
    }

    fn read_npy(path: &Path) -> Vec<f64> {
        let bytes = fs::read(path).unwrap();
        assert_eq!(bytes[..8], *b"\x93NUMPY\x01\x00");
        let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert!(start.is_multiple_of(64));
        let header = str::from_utf8(&bytes[10..start]).unwrap();
        assert!(header.ends_with('\n'));
        assert!(header.contains("'fortran_order': False, 'shape': (1003, 7), }"), "{header}");
        let data = &bytes[start..];
        let wide: Vec<f64> = match &header[..15] {
            "{'descr': '<f2'" => {
                data.chunks_exact(2).map(|b| f16::from_le_bytes(b.try_into().unwrap()).to_f64()).collect()
            }
            "{'descr': '<f4'" => {
                data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
            }
            "{'descr': '<f8'" => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
            "{'descr': '|u1'" => data.iter().copied().map(f64::from).collect(),
            "{'descr': '|i1'" => data.iter().map(|&b| f64::from(b as i8)).collect(),
            other => panic!("{other}"),
        };
        assert_eq!(wide.len(), ROWS as usize * DIM);
        wide
    }

    #[test]
    fn formats_agree() {
        let dir = tempfile::tempdir().unwrap();
        let generator = Generator::new("duplicates".parse().unwrap(), ROWS, DIM, 5).unwrap();
        let exact = generator.table(0, ROWS as usize);
        let (low, high) = generator.range();
        let size = f64::from(high - low) / 255.0;
        let clamped = |v: f32| f64::from(v.clamp(low, high) - low) / size;
        for dtype in [OutputDtype::F16, OutputDtype::F32, OutputDtype::F64, OutputDtype::U8, OutputDtype::I8] {
            let npy = dir.path().join("a.npy");
            write(&generator, &npy, &options(dtype, None, 1)).unwrap();
            let values = read_npy(&npy);
            for (&value, &exact) in values.iter().zip(&exact) {
                let close = match dtype {
                    OutputDtype::F16 => (value - f64::from(exact)).abs() <= f64::from(exact.abs()) / 2048.0 + 1e-7,
                    OutputDtype::F32 | OutputDtype::F64 => value == f64::from(exact),
                    OutputDtype::U8 => (value - clamped(exact)).abs() < 0.5001,
                    OutputDtype::I8 => (value + 128.0 - clamped(exact)).abs() < 0.5001,
                };
                assert!(close, "{dtype:?} {value} {exact}");
            }
            for compression in [None, Some(Compression::None), Some(Compression::Zstd)] {
                let path = dir.path().join("a.parquet");
                write(&generator, &path, &options(dtype, compression, 3)).unwrap();
                assert_eq!(read_parquet(&generator, &path), values, "{dtype:?} {compression:?}");
                let path = dir.path().join("a.arrow");
                write(&generator, &path, &options(dtype, compression, 2)).unwrap();
                assert_eq!(read_arrow(&generator, &path), values, "{dtype:?} {compression:?}");
            }
        }
        let left: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn threads_do_not_change_a_byte() {
        let dir = tempfile::tempdir().unwrap();
        let generator = Generator::new("moons".parse().unwrap(), ROWS, DIM, 5).unwrap();
        for name in ["a.parquet", "a.arrow", "a.npy"] {
            let path = dir.path().join(name);
            let bytes = [1, 2, 7].map(|threads| {
                write(&generator, &path, &options(OutputDtype::F32, None, threads)).unwrap();
                fs::read(&path).unwrap()
            });
            assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2], "{name}");
        }
    }

    #[test]
    fn failures_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let generator = Generator::new("uniform".parse().unwrap(), 10, 2, 5).unwrap();
        let refused = |name: &str, compression| {
            let path = dir.path().join(name);
            write(&generator, &path, &options(OutputDtype::F32, compression, 1)).unwrap_err().to_string()
        };
        assert!(refused("a.csv", None).ends_with("must end in .parquet, .arrow or .npy"));
        assert!(refused("a.npy", Some(Compression::Zstd)).ends_with("cannot be compressed"));
        assert!(refused("no/such/a.npy", None).contains("a.npy: No such file"));
        fs::create_dir(dir.path().join("taken.npy")).unwrap();
        assert!(refused("taken.npy", None).contains("taken.npy: "));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        let empty = Generator::new("uniform".parse().unwrap(), 0, 2, 5).unwrap();
        for name in ["e.parquet", "e.arrow", "e.npy"] {
            write(&empty, &dir.path().join(name), &WriteOptions::default()).unwrap();
        }
    }
}
