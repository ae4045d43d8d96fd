//! Kept columns of every kind are read as they were given, whatever the portions.

use arrow::array::{
    AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeListArray, Float64Array, Int64Array,
    LargeStringArray, MapBuilder, NullArray, StringBuilder, StringViewArray, StructArray, TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{Field, Float32Type, Schema};

use super::*;
use crate::Error;
use crate::snapshot::kept::Kept;

const ROWS: usize = 9000;

/// Columns of many types, with nulls.
fn columns() -> Vec<(&'static str, ArrayRef)> {
    let has = |i: usize| !i.is_multiple_of(7);
    let texts = || (0..ROWS).map(|i| has(i).then(|| format!("größe-{i}-€")));
    let numbers: ArrayRef =
        Arc::new((0..ROWS as i64).map(|i| has(i as usize).then_some(i * i)).collect::<Int64Array>());
    let floats: ArrayRef = Arc::new((0..ROWS).map(|i| has(i).then_some(i as f64 / 3.0)).collect::<Float64Array>());
    let vectors = (0..ROWS).map(|i| has(i).then(|| vec![Some(i as f32), None]));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for i in 0..ROWS {
        maps.keys().append_value("key");
        maps.values().append_option(has(i).then_some("value"));
        maps.append(has(i + 1)).unwrap();
    }
    let pair = vec![
        (Arc::new(Field::new("a", DataType::Int64, true)), numbers.clone()),
        (Arc::new(Field::new("b", DataType::Float64, true)), floats.clone()),
    ];
    vec![
        ("text", Arc::new(texts().collect::<StringArray>())),
        ("large", Arc::new(texts().collect::<LargeStringArray>())),
        ("truth", Arc::new((0..ROWS).map(|i| has(i).then_some(i % 2 == 0)).collect::<BooleanArray>())),
        ("day", Arc::new((0..ROWS as i32).map(Some).collect::<Date32Array>())),
        ("time", Arc::new(TimestampMicrosecondArray::from_iter_values(0..ROWS as i64).with_timezone("Europe/Berlin"))),
        (
            "decimal",
            Arc::new(Decimal128Array::from_iter_values(0..ROWS as i128).with_precision_and_scale(20, 3).unwrap()),
        ),
        ("vector", Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(vectors, 2))),
        ("pair", Arc::new(StructArray::from(pair))),
        ("map", Arc::new(maps.finish())),
        ("nothing", Arc::new(NullArray::new(ROWS))),
        ("number", numbers),
        ("float", floats),
    ]
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// Writes rows in portions, and returns the object's path and reference.
fn write(lock: &ModelLock<'_>, rows: &RecordBatch, portion: usize) -> (std::path::PathBuf, ObjectRef) {
    let mut writer = KeptWriter::create(lock, role::KEPT, &kept_schema(&rows.schema()).unwrap()).unwrap();
    for first in (0..rows.num_rows()).step_by(portion) {
        writer.push(&rows.slice(first, portion.min(rows.num_rows() - first))).unwrap();
    }
    let object = writer.finish().unwrap();
    (lock.model().object_path(&object), object)
}

#[test]
fn columns_of_every_kind_are_read_as_they_were_given() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    let rows = batch(columns());
    let (path, object) = write(&lock, &rows, ROWS);
    let kept = Kept::open(&path, &object).unwrap();
    assert_eq!((kept.rows, &kept.schema), (ROWS as u32, &rows.schema()));
    for range in [0..9000, 0..0, 9000..9000, 0..1, 4095..4097, 5000..9000, 8192..8193] {
        let expected = rows.slice(range.start as usize, range.len());
        assert_eq!(kept.read(range.clone()).unwrap(), expected, "{range:?}");
    }
    for portion in [1, 1000, 4095, 4096, 4097] {
        assert_eq!(write(&lock, &rows, portion).1, object, "portions of {portion}");
    }
    for rows in [0, 1, 4095, 4096, 4097, 8192].map(|count| rows.slice(0, count)) {
        let (path, object) = write(&lock, &rows, 777);
        let count = rows.num_rows() as u32;
        assert_eq!(Kept::open(&path, &object).unwrap().read(0..count).unwrap(), rows);
    }
}

#[test]
fn views_and_other_forms_of_text_are_kept_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    let text: ArrayRef = Arc::new(StringArray::from_iter_values((0..100).map(|i| format!("a long text, number {i}"))));
    let bytes: ArrayRef = Arc::new(BinaryViewArray::from_iter_values((0..100).map(|i| format!("{i}"))));
    let views = batch(vec![("text", Arc::new(StringViewArray::from_iter(text.as_string::<i32>()))), ("bytes", bytes)]);
    let schema = kept_schema(&views.schema()).unwrap();
    let types: Vec<&DataType> = schema.fields().iter().map(|field| field.data_type()).collect();
    assert_eq!(types, [&DataType::Utf8, &DataType::Binary]);
    let (path, object) = write(&lock, &views, 30);
    assert_eq!(Kept::open(&path, &object).unwrap().read(0..100).unwrap().column(0), &text);
    let large = batch(vec![
        ("text", cast(&text, &DataType::LargeUtf8).unwrap()),
        ("bytes", cast(views.column(1), &DataType::LargeBinary).unwrap()),
    ]);
    let mut writer = KeptWriter::create(&lock, role::KEPT, &schema).unwrap();
    writer.push(&large).unwrap();
    assert_eq!(writer.finish().unwrap(), object);
}

#[test]
fn types_are_kept_alike_if_their_values_are_the_same() {
    let list = |name, of, nullable| DataType::List(Arc::new(Field::new(name, of, nullable)));
    let large = |of| DataType::LargeList(Arc::new(Field::new("item", of, true)));
    for (given, stored) in [
        (DataType::LargeUtf8, DataType::Utf8),
        (DataType::Utf8, DataType::LargeUtf8),
        (DataType::Dictionary(Box::new(DataType::Int8), Box::new(DataType::Utf8View)), DataType::Utf8),
        (list("element", DataType::Int32, false), list("item", DataType::Int32, true)),
        (large(DataType::LargeUtf8), list("item", DataType::Utf8, true)),
    ] {
        assert!(is_kept_as(&given, &stored), "{given} as {stored}");
    }
    for (given, stored) in [
        (DataType::Int64, DataType::Int32),
        (DataType::Utf8, DataType::Binary),
        (DataType::Null, DataType::Utf8),
        (list("item", DataType::Int32, true), list("item", DataType::Int64, true)),
    ] {
        assert!(!is_kept_as(&given, &stored), "{given} as {stored}");
    }
}

#[test]
fn a_value_that_the_type_cannot_hold_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::Int32, true)]));
    let mut writer = KeptWriter::create(&lock, role::KEPT, &schema).unwrap();
    let large: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40]));
    let error = writer.push(&batch(vec![("count", large)])).unwrap_err().to_string();
    assert!(error.contains("column \"count\""), "{error}");
}

#[test]
fn a_draft_may_lack_the_kept_columns_of_its_new_rows() {
    let (_dir, model, mut version) = on_disk(&example());
    let lock = model.lock(false, &mut || false).unwrap();
    let first = example().write_kept(&lock, role::DELTA_KEPT, 7..8, 1);
    version.objects.insert(role::DELTA_KEPT.into(), first);
    for (fewer, has) in [(true, 8), (false, 7)] {
        if !fewer {
            version.objects.remove(role::DELTA_KEPT);
        }
        let snapshot = Snapshot::open(&model, &version).unwrap();
        assert_eq!(snapshot.kept(0..has).unwrap().num_rows() as u32, has);
        assert!(matches!(snapshot.kept(0..has + 1), Err(Error::Damaged { .. })));
    }
    // Of a base that has none.
    let (_dir, model, mut version) = on_disk(&example());
    version.objects.remove(role::KEPT);
    assert!(matches!(Snapshot::open(&model, &version), Err(Error::Damaged { .. })));
}
