//! The keys of ids: numbers by which the rows of a table are matched with the rows of a model.
//!
//! What must hold: equal ids of one kind (integers, or texts) have equal keys whatever their Arrow type is; different
//! integers have different keys; different texts have different keys but for collisions of a hash of 128 bits.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, UInt64Type};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// The two kinds of ids. Rows of one kind are never matched with rows of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdKind {
    /// Integers of up to 64 bits.
    Integers,
    /// Texts.
    Texts,
}

impl IdKind {
    /// Returns the kind of a column's type; none if values of the type are not ids.
    pub fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Dictionary(_, values) => Self::of(values),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(IdKind::Texts),
            other if other.is_integer() => Some(IdKind::Integers),
            _ => None,
        }
    }

    /// Returns the name of the kind.
    pub fn name(self) -> &'static str {
        match self {
            IdKind::Integers => "integers",
            IdKind::Texts => "texts",
        }
    }
}

/// An id that has no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFault {
    /// The id at this place is null.
    Null(usize),
    /// The column's type is not one of ids.
    Type(DataType),
}

/// Calls `each(i, key)` for each id of a column.
///
/// # Errors
/// A null, or a column whose values are neither integers nor texts.
pub fn each_key(ids: &ArrayRef, mut each: impl FnMut(usize, u128)) -> Result<(), KeyFault> {
    let data_type = ids.data_type().clone();
    let kind = IdKind::of(&data_type).ok_or_else(|| KeyFault::Type(data_type.clone()))?;
    if let Some(nulls) = ids.logical_nulls().filter(|nulls| nulls.null_count() > 0) {
        let place = (0..ids.len()).find(|&i| nulls.is_null(i)).unwrap_or(0);
        return Err(KeyFault::Null(place));
    }
    let cast_to = |to: &DataType| cast(ids, to).map_err(|_| KeyFault::Type(data_type.clone()));
    match kind {
        IdKind::Integers if value_type(&data_type) == &DataType::UInt64 => {
            let numbers = cast_to(&DataType::UInt64)?;
            for (i, &number) in numbers.as_primitive::<UInt64Type>().values().iter().enumerate() {
                each(i, integer_key(i64::try_from(number).map_err(|_| number)));
            }
        }
        IdKind::Integers => {
            let numbers = cast_to(&DataType::Int64)?;
            for (i, &number) in numbers.as_primitive::<Int64Type>().values().iter().enumerate() {
                each(i, integer_key(Ok(number)));
            }
        }
        IdKind::Texts => {
            let texts = cast_to(&DataType::LargeUtf8)?;
            for (i, text) in texts.as_string::<i64>().iter().enumerate() {
                each(i, xxh3_128(text.unwrap_or_default().as_bytes()));
            }
        }
    }
    Ok(())
}

fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// Returns the key of an integer; `Err` holds one of at least 2⁶³.
fn integer_key(number: Result<i64, u64>) -> u128 {
    match number {
        Ok(number) => 1 << 64 | u128::from(number as u64),
        Err(number) => 2 << 64 | u128::from(number),
    }
}

/// Returns the hash of a row's vector, by which a changed row is told from an unchanged one. Zeros of both signs
/// are different.
pub fn row_hash(vector: &[f32]) -> u64 {
    if cfg!(target_endian = "little") {
        return xxh3_64(bytemuck::cast_slice(vector));
    }
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        DictionaryArray, Float64Array, Int8Array, Int32Array, Int64Array, StringArray, StringViewArray,
    };
    use arrow::array::{UInt8Array, UInt64Array};

    use super::*;

    fn keys(ids: ArrayRef) -> Result<Vec<u128>, KeyFault> {
        let mut keys = Vec::new();
        each_key(&ids, |i, key| {
            assert_eq!(i, keys.len());
            keys.push(key);
        })?;
        Ok(keys)
    }

    #[test]
    fn equal_ids_have_equal_keys_in_all_types() {
        let wide = keys(Arc::new(Int64Array::from(vec![1, 2, 7]))).expect("keys");
        for narrow in [
            Arc::new(Int8Array::from(vec![1, 2, 7])) as ArrayRef,
            Arc::new(UInt8Array::from(vec![1, 2, 7])),
            Arc::new(UInt64Array::from(vec![1, 2, 7])),
        ] {
            assert_eq!(keys(narrow).expect("keys"), wide);
        }
        let texts = keys(Arc::new(StringArray::from(vec!["a", "b", "a"]))).expect("keys");
        assert_eq!(texts[0], texts[2]);
        assert_eq!(keys(Arc::new(StringViewArray::from(vec!["a", "b", "a"]))).expect("keys"), texts);
        let coded: DictionaryArray<arrow::datatypes::Int32Type> = vec!["a", "b", "a"].into_iter().collect();
        assert_eq!(keys(Arc::new(coded)).expect("keys"), texts);
    }

    #[test]
    fn different_integers_have_different_keys() {
        let mut all = keys(Arc::new(Int64Array::from(vec![-1, 0, 1, i64::MAX, i64::MIN]))).expect("keys");
        all.extend(keys(Arc::new(UInt64Array::from(vec![u64::MAX, 1 << 63]))).expect("keys"));
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 7);
    }

    #[test]
    fn nulls_and_other_types_have_no_keys() {
        let nulls = keys(Arc::new(Int32Array::from(vec![Some(1), None])));
        assert_eq!(nulls, Err(KeyFault::Null(1)));
        // A dictionary whose value is null.
        let values: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let coded = DictionaryArray::new(Int32Array::from(vec![0, 0, 1]), values);
        assert_eq!(keys(Arc::new(coded)), Err(KeyFault::Null(2)));
        assert_eq!(keys(Arc::new(Float64Array::from(vec![1.0]))), Err(KeyFault::Type(DataType::Float64)));
    }

    #[test]
    fn hashes_tell_rows_apart() {
        assert_eq!(row_hash(&[1.0, 2.0]), row_hash(&[1.0, 2.0]));
        assert_ne!(row_hash(&[1.0, 2.0]), row_hash(&[2.0, 1.0]));
        assert_ne!(row_hash(&[0.0]), row_hash(&[-0.0]));
    }
}
