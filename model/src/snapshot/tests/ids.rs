//! Ids of every type are read as they were given, and text in any form as text.

use std::slice::from_ref;

use arrow::array::{
    Array, DictionaryArray, Float64Array, Int64Array, LargeStringArray, StringArray, StringViewArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::Int32Type;

use super::*;
use crate::Error;
use crate::snapshot::ids::Ids;

/// Writes ids in portions, reads ranges of them, and returns the bytes of the object.
fn round_trip(parts: &[ArrayRef], expected: &ArrayRef) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    let mut writer = IdsWriter::create(&lock, role::IDS, parts[0].data_type()).unwrap();
    parts.iter().for_each(|part| writer.push(part).unwrap());
    let object = writer.finish().unwrap();
    let path = model.object_path(&object);
    let ids = Ids::open(&path, &object).unwrap();
    let rows = expected.len() as u32;
    assert_eq!((ids.rows, &ids.id_type), (rows, expected.data_type()));
    for range in [0..rows, 0..0, rows..rows, 0..rows.min(1), rows / 2..rows, rows / 3..rows / 2] {
        let found = ids.read(range.clone()).unwrap();
        assert_eq!(&found, &expected.slice(range.start as usize, range.len()));
    }
    std::fs::read(path).unwrap()
}

#[test]
fn integers_keep_their_type() {
    for data_type in [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
    ] {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100).rev()));
        let ids = cast(&values, &data_type).unwrap();
        let whole = round_trip(from_ref(&ids), &ids);
        // A slice, whose values do not begin at the beginning of their buffer.
        let parts = [ids.slice(0, 33), ids.slice(33, 0), ids.slice(33, 67)];
        assert_eq!(round_trip(&parts, &ids), whole);
    }
    let extreme: ArrayRef = Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1 << 63]));
    round_trip(from_ref(&extreme), &extreme);
    let negative: ArrayRef = Arc::new(Int64Array::from(vec![i64::MIN, -1, i64::MAX]));
    round_trip(from_ref(&negative), &negative);
    let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    round_trip(from_ref(&none), &none);
}

#[test]
fn text_in_any_form_is_text() {
    // More than two blocks, with empty texts and characters of several bytes.
    let texts: Vec<String> =
        (0..9000).map(|i| if i % 10 == 0 { String::new() } else { format!("größe-{i}-€") }).collect();
    let plain: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
    let whole = round_trip(from_ref(&plain), &plain);
    let large: ArrayRef = Arc::new(LargeStringArray::from_iter_values(&texts));
    let view: ArrayRef = Arc::new(StringViewArray::from_iter_values(&texts));
    let coded: DictionaryArray<Int32Type> = texts.iter().map(String::as_str).collect();
    let coded: ArrayRef = Arc::new(coded);
    for form in [&plain, &large, &view, &coded] {
        let parts = [form.slice(0, 4095), form.slice(4095, 2), form.slice(4097, 0), form.slice(4097, 4903)];
        assert_eq!(round_trip(&parts, &plain), whole, "{}", form.data_type());
    }
    for rows in [0, 1, 4095, 4096, 4097, 8192] {
        let some = plain.slice(0, rows);
        round_trip(from_ref(&some), &some);
    }
}

#[test]
fn an_id_is_an_integer_or_text_and_never_null() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    for refused in [DataType::Float64, DataType::Boolean, DataType::Binary, DataType::Null] {
        assert!(matches!(IdsWriter::create(&lock, role::IDS, &refused), Err(Error::Rows { .. })));
        assert_eq!(id_type(&refused), None);
    }
    let mut writer = IdsWriter::create(&lock, role::IDS, &DataType::Int64).unwrap();
    let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    assert!(writer.push(&floats).is_err());
    let narrower: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    assert!(writer.push(&narrower).is_err());
    writer.push(&(Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)).unwrap();
    let holes: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
    let error = writer.push(&holes).unwrap_err().to_string();
    assert!(error.contains("row 3 is null"), "{error}");
    // A null among the values of a dictionary.
    let coded: DictionaryArray<Int32Type> = [Some("a"), None].into_iter().collect();
    let mut writer = IdsWriter::create(&lock, role::IDS, coded.data_type()).unwrap();
    assert!(writer.push(&(Arc::new(coded) as ArrayRef)).unwrap_err().to_string().contains("row 1 is null"));
}

#[test]
fn damaged_text_is_refused_or_read_without_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let model = ModelDir::create(dir.path()).unwrap();
    let lock = model.lock(false, &mut || false).unwrap();
    let mut writer = IdsWriter::create(&lock, role::IDS, &DataType::Utf8).unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..4099).map(|i| if i < 4094 { "" } else { "é" })));
    writer.push(&texts).unwrap();
    let object = writer.finish().unwrap();
    let path = model.object_path(&object);
    let bytes = std::fs::read(&path).unwrap();
    let (mut opened, mut refused) = (0, 0);
    // The header, the end of the first block, the second block, the offsets and the number of rows.
    for at in (0..64).chain(bytes.len() - 100..bytes.len()) {
        for change in [0x01, 0x08, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= change;
            std::fs::write(&path, damaged).unwrap();
            match Ids::open(&path, &object) {
                Ok(ids) => {
                    let read = ids.read(0..ids.rows);
                    opened += u32::from(read.is_ok());
                    refused += u32::from(matches!(read, Err(Error::Damaged { .. })));
                }
                Err(Error::Damaged { .. } | Error::Newer { .. }) => refused += 1,
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
    }
    assert!(opened > 10 && refused > 100, "{opened} {refused}");
}
