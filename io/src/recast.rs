//! Conversion of columns to another type: dictionaries to their values, and the values of one file
//! to the common type that [`unify`](crate::unify) found.
//!
//! What must hold: values and nulls are unchanged by a conversion, or the conversion is an error.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryBuilder, FixedSizeListArray, GenericListArray, GenericListViewArray,
    IntervalMonthDayNanoArray, MapArray, OffsetSizeTrait, RecordBatch, RecordBatchOptions, StructArray, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, FieldRef, Fields, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit,
    SchemaRef,
};
use arrow::error::ArrowError;

type RecastResult<T> = std::result::Result<T, ArrowError>;

/// Converts `batch` to the types of `schema`, column by column.
pub(crate) fn recast_batch(batch: &RecordBatch, schema: &SchemaRef) -> RecastResult<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| recast(column, field.data_type())).collect::<RecastResult<_>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns, &options)
}

/// Converts `array` to the type `to`, which must not contain dictionaries.
pub(crate) fn recast(array: &ArrayRef, to: &DataType) -> RecastResult<ArrayRef> {
    use DataType::*;
    if array.data_type() == to {
        return Ok(array.clone());
    }
    match (array.data_type(), to) {
        (Null, _) => Ok(new_null_array(to, array.len())),
        (Dictionary(..), _) => recast(&values(array)?, to),
        (Struct(from), Struct(fields)) => {
            let array = array.as_struct();
            let columns = fields.iter().map(|field| match from.find(field.name()) {
                Some((at, _)) => recast(array.column(at), field.data_type()),
                None => Err(ArrowError::CastError(format!("no field \"{}\"", field.name()))),
            });
            structs(fields, columns.collect::<RecastResult<_>>()?, array)
        }
        (Map(..), Map(entries, sorted)) => {
            let Struct(fields) = entries.data_type() else { return cast_strictly(array, to) };
            let array = array.as_map();
            let pairs = array.entries();
            let columns = pairs.columns().iter().zip(fields).map(|(c, f)| recast(c, f.data_type()));
            let pairs =
                StructArray::try_new(fields.clone(), columns.collect::<RecastResult<_>>()?, pairs.nulls().cloned())?;
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, nulls, *sorted)?))
        }
        (FixedSizeList(_, n), FixedSizeList(item, size)) if n == size => {
            let array = array.as_fixed_size_list();
            let items = recast(array.values(), item.data_type())?;
            let nulls = array.nulls().cloned();
            Ok(Arc::new(FixedSizeListArray::try_new_with_length(item.clone(), *size, items, nulls, array.len())?))
        }
        (List(_), List(item)) => lists::<i32>(array, item),
        (LargeList(_), LargeList(item)) => lists::<i64>(array, item),
        (ListView(_), ListView(item)) => views::<i32>(array, item),
        (LargeListView(_), LargeListView(item)) => views::<i64>(array, item),
        // First the list type, with the items unchanged; then the items.
        (FixedSizeList(item, _) | ListView(item), List(_)) => recast(&cast_strictly(array, &List(item.clone()))?, to),
        (List(item) | FixedSizeList(item, _) | ListView(item) | LargeListView(item), LargeList(_)) => {
            recast(&cast_strictly(array, &LargeList(item.clone()))?, to)
        }
        (FixedSizeBinary(12), Interval(IntervalUnit::MonthDayNano)) => Ok(Arc::new(intervals(array))),
        (Interval(IntervalUnit::MonthDayNano), FixedSizeBinary(12)) => interval_bytes(array),
        (Interval(_), FixedSizeBinary(12)) => recast(&cast_strictly(array, &Interval(IntervalUnit::MonthDayNano))?, to),
        (Date64, Date32) => whole_days(array),
        _ => cast_strictly(array, to),
    }
}

const NANOS: i64 = 1_000_000;

/// Converts Parquet intervals: months, days and milliseconds, four bytes each, little-endian.
fn intervals(array: &ArrayRef) -> IntervalMonthDayNanoArray {
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map_or(0, |b| u32::from_le_bytes(*b));
    let interval = |bytes: &[u8]| {
        let nanoseconds = i64::from(word(bytes, 8)) * NANOS;
        IntervalMonthDayNano::new(word(bytes, 0) as i32, word(bytes, 4) as i32, nanoseconds)
    };
    array.as_fixed_size_binary().iter().map(|bytes| bytes.map(interval)).collect()
}

/// Converts to Parquet intervals. Fractions of a millisecond and negative times are an error,
/// because the format cannot hold them.
fn interval_bytes(array: &ArrayRef) -> RecastResult<ArrayRef> {
    let array = array.as_primitive::<IntervalMonthDayNanoType>();
    let mut bytes = FixedSizeBinaryBuilder::with_capacity(array.len(), 12);
    for interval in array {
        let Some(IntervalMonthDayNano { months, days, nanoseconds }) = interval else {
            bytes.append_null();
            continue;
        };
        let whole = (nanoseconds % NANOS == 0).then_some(nanoseconds / NANOS).and_then(|ms| u32::try_from(ms).ok());
        let Some(milliseconds) = whole else {
            let what = format!("{nanoseconds} nanoseconds are not a whole number of milliseconds from 0 to 2^32");
            return Err(ArrowError::CastError(what));
        };
        let mut value = [0; 12];
        value[..4].copy_from_slice(&months.to_le_bytes());
        value[4..8].copy_from_slice(&days.to_le_bytes());
        value[8..].copy_from_slice(&milliseconds.to_le_bytes());
        bytes.append_value(value)?;
    }
    Ok(Arc::new(bytes.finish()))
}

/// Converts dates in milliseconds to days. A fraction of a day is an error.
fn whole_days(array: &ArrayRef) -> RecastResult<ArrayRef> {
    const DAY: i64 = 86_400_000;
    let array = array.as_primitive::<Date64Type>();
    let days = array.try_unary::<_, Date32Type, _>(|ms| match i32::try_from(ms / DAY) {
        Ok(days) if ms % DAY == 0 => Ok(days),
        _ => Err(ArrowError::CastError(format!("{ms} ms are not a whole number of days"))),
    })?;
    Ok(Arc::new(days))
}

fn cast_strictly(array: &ArrayRef, to: &DataType) -> RecastResult<ArrayRef> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Returns a dictionary array's values, row by row.
pub(crate) fn values(array: &ArrayRef) -> RecastResult<ArrayRef> {
    let Some(dictionary) = array.as_any_dictionary_opt() else { return Ok(array.clone()) };
    take(dictionary.values().as_ref(), dictionary.keys(), None)
}

/// Returns a struct array with the given columns and the nulls of `like`.
pub(crate) fn structs(fields: &Fields, columns: Vec<ArrayRef>, like: &StructArray) -> RecastResult<ArrayRef> {
    let nulls = like.nulls().cloned();
    Ok(Arc::new(match fields.is_empty() {
        true => StructArray::new_empty_fields(like.len(), nulls),
        false => StructArray::try_new(fields.clone(), columns, nulls)?,
    }))
}

fn lists<O: OffsetSizeTrait>(array: &ArrayRef, item: &FieldRef) -> RecastResult<ArrayRef> {
    let array = array.as_list::<O>();
    let items = recast(array.values(), item.data_type())?;
    Ok(Arc::new(GenericListArray::<O>::try_new(item.clone(), array.offsets().clone(), items, array.nulls().cloned())?))
}

fn views<O: OffsetSizeTrait>(array: &ArrayRef, item: &FieldRef) -> RecastResult<ArrayRef> {
    let array = array.as_list_view::<O>();
    let items = recast(array.values(), item.data_type())?;
    let (offsets, sizes) = (array.offsets().clone(), array.sizes().clone());
    Ok(Arc::new(GenericListViewArray::<O>::try_new(item.clone(), offsets, sizes, items, array.nulls().cloned())?))
}

/// Concatenates batches that have the types of `schema`.
pub(crate) fn concat_columns(schema: &SchemaRef, parts: &[RecordBatch]) -> RecastResult<RecordBatch> {
    match parts {
        [one] => Ok(one.clone()),
        several => arrow::compute::concat_batches(schema, several),
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date64Array, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, StringViewArray,
        TimestampSecondArray,
    };
    use arrow::datatypes::{Field, Int8Type, TimeUnit};

    use super::*;

    fn item(data_type: DataType) -> FieldRef {
        Arc::new(Field::new("item", data_type, true))
    }

    #[test]
    fn dictionaries_become_their_values_also_within_lists_and_structs() {
        let keys = arrow::array::Int8Array::from(vec![Some(1), None, Some(0), Some(1)]);
        let texts: ArrayRef = Arc::new(StringViewArray::from(vec!["a text that is no short one", "b"]));
        let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::new(keys, texts));
        let expected: ArrayRef =
            Arc::new(StringViewArray::from(vec![Some("b"), None, Some("a text that is no short one"), Some("b")]));
        assert_eq!(&recast(&dictionary, &DataType::Utf8View).unwrap(), &expected);
        let wide = recast(&dictionary, &DataType::LargeUtf8).unwrap();
        assert_eq!(wide.as_string::<i64>().value(0), "b");

        let offsets = arrow::buffer::OffsetBuffer::from_lengths([1, 3]);
        let list: ArrayRef =
            Arc::new(ListArray::new(item(dictionary.data_type().clone()), offsets, dictionary.clone(), None));
        let plain = recast(&list, &DataType::LargeList(item(DataType::Utf8View))).unwrap();
        assert_eq!(plain.as_list::<i64>().values(), &expected);
        assert_eq!(plain.as_list::<i64>().value_length(1), 3);

        let fields: Fields =
            vec![Field::new("k", dictionary.data_type().clone(), true), Field::new("n", DataType::Int32, true)].into();
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
        let nulls = Some(vec![true, true, false, true].into());
        let array: ArrayRef = Arc::new(StructArray::new(fields, vec![dictionary, numbers], nulls));
        // Fields are found by name.
        let to = DataType::Struct(
            vec![Field::new("n", DataType::Int64, true), Field::new("k", DataType::Utf8View, true)].into(),
        );
        let found = recast(&array, &to).unwrap();
        assert_eq!(found.as_struct().column(1), &expected);
        assert_eq!(found.as_struct().column(0).as_ref(), &Int64Array::from(vec![1, 2, 3, 4]));
        assert_eq!(found.null_count(), 1);
    }

    #[test]
    fn lists_of_nothing_become_lists_of_texts() {
        let nulls: ArrayRef = Arc::new(arrow::array::NullArray::new(2));
        let offsets = arrow::buffer::OffsetBuffer::from_lengths([0, 2]);
        let list: ArrayRef = Arc::new(ListArray::new(item(DataType::Null), offsets, nulls, None));
        let found = recast(&list, &DataType::List(item(DataType::Utf8))).unwrap();
        assert_eq!(found.as_list::<i32>().values().as_ref(), &StringArray::from(vec![None::<&str>, None]));
    }

    #[test]
    fn recast_overflow_is_an_error() {
        let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1, i64::MAX / 1_000]));
        let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
        assert!(recast(&seconds.slice(0, 1), &nanos).is_ok());
        assert!(recast(&seconds, &nanos).is_err());
        let dates: ArrayRef = Arc::new(Date64Array::from(vec![Some(-86_400_000), None, Some(1)]));
        assert_eq!(recast(&dates.slice(0, 2), &DataType::Date32).unwrap().as_primitive::<Date32Type>().value(0), -1);
        assert!(recast(&dates, &DataType::Date32).is_err());
    }

    #[test]
    fn intervals_are_twelve_bytes_and_come_back() {
        let of = |months, days, nanoseconds| Some(IntervalMonthDayNano { months, days, nanoseconds });
        let values = vec![of(3, 1, 0), None, of(-1, -2, 5 * NANOS), of(0, 0, i64::from(u32::MAX) * NANOS)];
        let array: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(values));
        let bytes = recast(&array, &DataType::FixedSizeBinary(12)).unwrap();
        assert_eq!(bytes.as_fixed_size_binary().value(0), [3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(&recast(&bytes, array.data_type()).unwrap(), &array);
        for nanoseconds in [1, -NANOS, (i64::from(u32::MAX) + 1) * NANOS] {
            let array: ArrayRef = Arc::new(IntervalMonthDayNanoArray::from(vec![of(0, 0, nanoseconds)]));
            assert!(recast(&array, &DataType::FixedSizeBinary(12)).is_err(), "{nanoseconds}");
        }
    }
}
