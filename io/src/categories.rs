//! The order of the values of ordered dictionaries.
//!
//! What must hold: an order that is kept is the order in every file and every batch; if two orders disagree, there
//! is none.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};

/// Returns whether a column, or a field within its lists, structs and maps, is an ordered dictionary.
pub fn has_order(field: &Field) -> bool {
    use DataType::*;
    match field.data_type() {
        Dictionary(..) => field.dict_is_ordered() == Some(true),
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) | Map(item, _) => {
            has_order(item)
        }
        Struct(fields) => fields.iter().any(|field| has_order(field)),
        RunEndEncoded(_, values) => has_order(values),
        _ => false,
    }
}

/// Combines two orders of one type: returns the longer one if it contains the values of the shorter one in the same
/// order, and `None` otherwise.
pub(crate) fn of_both(a: &ArrayRef, b: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    let converter = RowConverter::new(vec![SortField::new(a.data_type().clone())])?;
    let [a_rows, b_rows] = [a, b].map(|values| converter.convert_columns(std::slice::from_ref(values)));
    let (a_rows, b_rows) = (a_rows?, b_rows?);
    let (longer, shorter, kept) = if a.len() >= b.len() { (&a_rows, &b_rows, a) } else { (&b_rows, &a_rows, b) };
    let mut rest = longer.iter();
    Ok(shorter.iter().all(|value| rest.any(|other| other == value)).then(|| kept.clone()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::StringArray;

    use super::*;

    #[test]
    fn two_orders_agree_where_one_has_the_other() {
        let texts = |values: &[&str]| -> ArrayRef { Arc::new(StringArray::from_iter_values(values)) };
        for (a, b, both) in [
            (&["low", "mid", "high"][..], &["low", "mid", "high"][..], Some(&["low", "mid", "high"][..])),
            (&["low", "high"], &["low", "mid", "high"], Some(&["low", "mid", "high"])),
            (&["low", "mid", "high"], &["mid"], Some(&["low", "mid", "high"])),
            (&["low", "mid", "high"], &["high", "low"], None),
            (&["low"], &["high"], None),
            (&[], &["high"], Some(&["high"])),
        ] {
            assert_eq!(of_both(&texts(a), &texts(b)).unwrap(), both.map(texts), "{a:?} {b:?}");
        }
    }
}
