//! Columns of every logical type, copied from one Parquet file to another, keep types, levels and raw values in every
//! leaf. They are compared without our own reader.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use parquet::basic::{LogicalType, Repetition, Type as Physical};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::column::writer::{ColumnWriter, ColumnWriterImpl};
use parquet::data_type::{ByteArray, DataType as Stored, FixedLenByteArray, Int96};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnDescriptor, Type, TypePtr};

use super::*;
use crate::{MapColumns, MapWriter, OpenOptions, coordinate_names, open};

const ROWS: usize = 7;

/// A leaf column: its type, and all its levels and values as text.
type Leaf = (String, String);

/// Reads the leaves of a column.
fn leaves(path: &Path, column: &str) -> Vec<Leaf> {
    let file = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let descriptor = file.metadata().file_metadata().schema_descr();
    let own = |i: &usize| descriptor.column(*i).path().parts()[0] == column;
    let leaf = |i: usize| {
        let mut values = String::new();
        for group in 0..file.num_row_groups() {
            values += &raw(file.get_row_group(group).unwrap().get_column_reader(i).unwrap());
        }
        (kind(&descriptor.column(i)), values)
    };
    (0..descriptor.num_columns()).filter(own).map(leaf).collect()
}

/// Returns a leaf's type as text. Signed integers of 32 and 64 bits are the default and need no annotation.
fn kind(leaf: &ColumnDescriptor) -> String {
    // A converted type says the same as a logical type, except of times.
    let told = |logical: &&LogicalType| {
        matches!(logical, LogicalType::Time(_) | LogicalType::Timestamp(_))
            || leaf.converted_type() == ConvertedType::NONE
    };
    let logical = leaf.logical_type_ref().filter(told);
    let length = if leaf.physical_type() == Physical::FIXED_LEN_BYTE_ARRAY { leaf.type_length() } else { 0 };
    let converted = match leaf.converted_type() {
        ConvertedType::INT_32 | ConvertedType::INT_64 => ConvertedType::NONE,
        converted => converted,
    };
    format!("{:?} {length} {logical:?} {converted:?}", leaf.physical_type())
}

fn raw(reader: ColumnReader) -> String {
    fn all<T: Stored>(mut reader: ColumnReaderImpl<T>) -> String {
        let (mut definitions, mut repetitions, mut values) = (Vec::new(), Vec::new(), Vec::new());
        reader.read_records(1 << 20, Some(&mut definitions), Some(&mut repetitions), &mut values).unwrap();
        format!("{definitions:?} {repetitions:?} {values:?}")
    }
    match reader {
        ColumnReader::BoolColumnReader(reader) => all(reader),
        ColumnReader::Int32ColumnReader(reader) => all(reader),
        ColumnReader::Int64ColumnReader(reader) => all(reader),
        ColumnReader::Int96ColumnReader(reader) => all(reader),
        ColumnReader::FloatColumnReader(reader) => all(reader),
        ColumnReader::DoubleColumnReader(reader) => all(reader),
        ColumnReader::ByteArrayColumnReader(reader) => all(reader),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => all(reader),
    }
}

/// Copies a column of `from` to a map `name` beside it.
fn pass(from: &Path, column: &str, name: &str) -> crate::Result<PathBuf> {
    let source =
        open(&[from.to_string_lossy().into()], &OpenOptions { column: Some("v".into()), ..OpenOptions::default() })?;
    let (rows, names) = (source.shape().rows, [column.to_string()]);
    let path = from.with_file_name(name);
    let columns = MapColumns {
        rows,
        coordinates: coordinate_names(2),
        extra: Some(source.column_schema(&names)?),
        own_id: false,
        nullable: false,
    };
    let mut writer = MapWriter::create(&path, columns, true)?;
    let kept = source.read_columns(&names, 0, rows as usize)?;
    writer.add_values(column, kept.column(0)).unwrap();
    writer.write_rows(0, &vec![0.0; 2 * rows as usize], Some(&kept))?;
    writer.finish()?;
    Ok(path)
}

/// Copies a column to a Parquet file, and compares its leaves.
fn check(from: &Path, column: &str) {
    let expected = leaves(from, column);
    assert!(!expected.is_empty(), "{column}");
    let direct = pass(from, column, "direct.parquet").unwrap_or_else(|e| panic!("{column}: {e}"));
    assert_eq!(leaves(&direct, column), expected, "{column}");
}

/// Writes a file with vectors `v` and the leaves `fields`; the second row of each leaf is null.
fn file(path: &Path, fields: Vec<Type>) {
    let vector = Type::primitive_type_builder("v", Physical::FLOAT).with_repetition(Repetition::REQUIRED);
    let all: Vec<TypePtr> = std::iter::once(vector.build().unwrap()).chain(fields).map(Arc::new).collect();
    let root = Arc::new(Type::group_type_builder("schema").with_fields(all).build().unwrap());
    let file = std::fs::File::create(path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, root, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    while let Some(mut column) = group.next_column().unwrap() {
        write(column.untyped());
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

fn write(column: &mut ColumnWriter<'_>) {
    fn all<T: Stored>(writer: &mut ColumnWriterImpl<'_, T>, value: impl Fn(usize) -> T::T) {
        let most = writer.get_descriptor().max_def_level();
        let definitions: Vec<i16> = (0..ROWS).map(|row| if row == 1 && most > 0 { 0 } else { most }).collect();
        let values: Vec<T::T> = (0..ROWS).filter(|&row| row != 1 || most == 0).map(value).collect();
        writer.write_batch(&values, Some(&definitions), None).unwrap();
    }
    match column {
        ColumnWriter::BoolColumnWriter(writer) => all(writer, |row| row % 2 == 0),
        ColumnWriter::Int32ColumnWriter(writer) => all(writer, |row| row as i32),
        ColumnWriter::Int64ColumnWriter(writer) => all(writer, |row| row as i64),
        ColumnWriter::Int96ColumnWriter(writer) => all(writer, |_| Int96::new()),
        ColumnWriter::FloatColumnWriter(writer) => all(writer, |row| row as f32),
        ColumnWriter::DoubleColumnWriter(writer) => all(writer, |row| row as f64),
        ColumnWriter::ByteArrayColumnWriter(writer) => {
            all(writer, |row| ByteArray::from(format!("{{\"a\":{row}}}").into_bytes()));
        }
        ColumnWriter::FixedLenByteArrayColumnWriter(writer) => {
            let length = writer.get_descriptor().type_length() as usize;
            all(writer, |row| FixedLenByteArray::from(ByteArray::from(vec![row as u8; length])));
        }
    }
}

#[test]
fn leaves_of_every_logical_type_stay_what_they_are() {
    let leaf = |name: &str, physical, length, logical: Option<LogicalType>, converted| {
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        let builder = builder.with_length(length).with_logical_type(logical).with_converted_type(converted);
        builder.build().unwrap()
    };
    let none = ConvertedType::NONE;
    let (bytes, fixed) = (Physical::BYTE_ARRAY, Physical::FIXED_LEN_BYTE_ARRAY);
    let mut fields = vec![
        leaf("geometry", bytes, -1, Some(LogicalType::geometry(None)), none),
        leaf("geometry in", bytes, -1, Some(LogicalType::geometry(Some("OGC:CRS84 and more".into()))), none),
        leaf("geography", bytes, -1, Some(LogicalType::geography(None, None)), none),
        leaf("geography by", bytes, -1, Some(LogicalType::geography(None, Some(Edges::KARNEY))), none),
        leaf(
            "geography in",
            bytes,
            -1,
            Some(LogicalType::geography(Some("EPSG:4326".into()), Some(Edges::THOMAS))),
            none,
        ),
        leaf("bson", bytes, -1, Some(LogicalType::Bson), none),
        leaf("json", bytes, -1, Some(LogicalType::Json), none),
        leaf("string", bytes, -1, Some(LogicalType::String), none),
        leaf("utf8", bytes, -1, None, ConvertedType::UTF8),
        leaf("plain", bytes, -1, None, none),
        leaf("uuid", fixed, 16, Some(LogicalType::Uuid), none),
        leaf("half", fixed, 2, Some(LogicalType::Float16), none),
        leaf("fixed", fixed, 5, None, none),
        leaf("interval", fixed, 12, None, ConvertedType::INTERVAL),
        leaf("single", Physical::FLOAT, -1, None, none),
        leaf("double", Physical::DOUBLE, -1, None, none),
        leaf("flag", Physical::BOOLEAN, -1, None, none),
        leaf("date", Physical::INT32, -1, Some(LogicalType::Date), none),
    ];
    for (bits, physical) in [(8, Physical::INT32), (16, Physical::INT32), (32, Physical::INT32), (64, Physical::INT64)]
    {
        for signed in [true, false] {
            let logical = LogicalType::integer(bits, signed);
            fields.push(leaf(&format!("int {bits} {signed}"), physical, -1, Some(logical), none));
        }
    }
    for utc in [true, false] {
        use parquet::basic::TimeUnit::{MICROS, MILLIS, NANOS};
        for (unit, physical) in [(MILLIS, Physical::INT32), (MICROS, Physical::INT64), (NANOS, Physical::INT64)] {
            fields.push(leaf(&format!("time {unit:?} {utc}"), physical, -1, Some(LogicalType::time(utc, unit)), none));
            let stamp = LogicalType::timestamp(utc, unit);
            fields.push(leaf(&format!("stamp {unit:?} {utc}"), Physical::INT64, -1, Some(stamp), none));
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.parquet");
    let names: Vec<String> = fields.iter().map(|field| field.name().to_string()).collect();
    file(&path, fields);
    names.iter().for_each(|name| check(&path, name));
    // What Arrow has a word for it has in the source's schema.
    let source =
        open(&[path.to_string_lossy().into()], &OpenOptions { column: Some("v".into()), ..OpenOptions::default() })
            .unwrap();
    for (name, expected) in [
        ("half", DataType::Float16),
        ("time NANOS true", DataType::Time64(TimeUnit::Nanosecond)),
        ("stamp NANOS true", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))),
        ("stamp NANOS false", DataType::Timestamp(TimeUnit::Nanosecond, None)),
    ] {
        assert_eq!(source.column_schema(&[name.into()]).unwrap().field(0).data_type(), &expected, "{name}");
    }
}

#[test]
fn decimals_stay_decimals_of_the_same_value() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.parquet");
    let decimal = |name: &str, physical, length, precision| {
        Type::primitive_type_builder(name, physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_length(length)
            .with_precision(precision)
            .with_scale(2)
            .with_logical_type(Some(LogicalType::decimal(2, precision)))
            .build()
            .unwrap()
    };
    let fields = vec![
        decimal("of 4 bytes", Physical::INT32, -1, 9),
        decimal("of 8 bytes", Physical::INT64, -1, 18),
        decimal("fixed", Physical::FIXED_LEN_BYTE_ARRAY, 9, 20),
        decimal("wide", Physical::FIXED_LEN_BYTE_ARRAY, 20, 46),
        decimal("bytes", Physical::BYTE_ARRAY, -1, 30),
    ];
    let names: Vec<String> = fields.iter().map(|field| field.name().to_string()).collect();
    file(&path, fields);
    for name in &names {
        let direct = pass(&path, name, "direct.parquet").unwrap_or_else(|e| panic!("{name}: {e}"));
        let read = |path: &Path| {
            let column = if path.ends_with("direct.parquet") { "x,y" } else { "v" };
            let source = open(
                &[path.to_string_lossy().into()],
                &OpenOptions { column: Some(column.into()), ..OpenOptions::default() },
            );
            source.unwrap().read_columns(std::slice::from_ref(name), 0, ROWS).unwrap()
        };
        assert_eq!(read(&direct).column(0), read(&path).column(0), "{name}");
        let decimal = |path: &Path| {
            let file = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
            let descriptor = file.metadata().file_metadata().schema_descr();
            let leaf = descriptor.columns().iter().find(|leaf| leaf.name() == name).unwrap().clone();
            (leaf.converted_type(), leaf.type_precision(), leaf.type_scale())
        };
        assert_eq!(decimal(&direct), decimal(&path), "{name}");
    }
}

#[test]
fn variants_stay_variants() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.parquet");
    let bytes = |name: &str| {
        Arc::new(
            Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
                .with_repetition(Repetition::REQUIRED)
                .build()
                .unwrap(),
        )
    };
    let variant = Type::group_type_builder("variant")
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(Some(LogicalType::variant(Some(1))))
        .with_fields(vec![bytes("metadata"), bytes("value")])
        .build()
        .unwrap();
    file(&path, vec![variant]);
    check(&path, "variant");
    let logical = |path: &Path| {
        let file = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let root = file.metadata().file_metadata().schema_descr().root_schema_ptr();
        let field = root.get_fields().iter().find(|field| field.name() == "variant").unwrap().clone();
        field.get_basic_info().logical_type_ref().cloned()
    };
    assert_eq!(logical(&path.with_file_name("direct.parquet")), logical(&path));
}

/// The fixture is written by DuckDB; see `tests/data/make.py`.
#[test]
fn columns_of_duckdb_stay_what_they_are() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/duckdb_columns.parquet");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.parquet");
    std::fs::copy(fixture, &path).unwrap();
    let source =
        open(&[path.to_string_lossy().into()], &OpenOptions { column: Some("v".into()), ..OpenOptions::default() })
            .unwrap();
    // Below a null array, DuckDB writes entries that are null. Readers see no difference, but the leaves differ.
    let columns: Vec<String> = source.columns().into_iter().filter(|name| name != "v" && name != "array").collect();
    assert!(columns.len() > 20, "{columns:?}");
    columns.iter().for_each(|name| check(&path, name));
}
