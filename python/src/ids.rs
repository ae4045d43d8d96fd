//! Ids as arrays of NumPy: integers and floating-point numbers keep their type, texts are objects.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::wrong_argument;

/// Returns a column of ids as an array of one dimension. Dictionaries are their values, and a null among texts is None.
///
/// # Errors
/// `ValueError` for other types, and for nulls among numbers.
pub(crate) fn to_numpy(py: Python<'_>, ids: &ArrayRef) -> PyResult<Py<PyAny>> {
    let has_no_array = |what: String| {
        wrong_argument("return_ids", format!("the ids {what}, for which there is no array; form=\"table\" has them"))
    };
    let ids = match ids.data_type() {
        DataType::Dictionary(_, values) => {
            cast(ids, values).map_err(|_| has_no_array(format!("are of the type {}", ids.data_type())))?
        }
        _ => ids.clone(),
    };
    let is_text = matches!(ids.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if !is_text && ids.null_count() > 0 {
        return Err(has_no_array(format!("have {} nulls", ids.null_count())));
    }
    match ids.data_type() {
        DataType::Int8 => numbers::<Int8Type>(py, &ids),
        DataType::Int16 => numbers::<Int16Type>(py, &ids),
        DataType::Int32 => numbers::<Int32Type>(py, &ids),
        DataType::Int64 => numbers::<Int64Type>(py, &ids),
        DataType::UInt8 => numbers::<UInt8Type>(py, &ids),
        DataType::UInt16 => numbers::<UInt16Type>(py, &ids),
        DataType::UInt32 => numbers::<UInt32Type>(py, &ids),
        DataType::UInt64 => numbers::<UInt64Type>(py, &ids),
        DataType::Float32 => numbers::<Float32Type>(py, &ids),
        DataType::Float64 => numbers::<Float64Type>(py, &ids),
        DataType::Utf8 => texts(py, ids.as_string::<i32>().iter()),
        DataType::LargeUtf8 => texts(py, ids.as_string::<i64>().iter()),
        DataType::Utf8View => texts(py, ids.as_string_view().iter()),
        other => Err(has_no_array(format!("are of the type {other}"))),
    }
}

fn numbers<T>(py: Python<'_>, ids: &ArrayRef) -> PyResult<Py<PyAny>>
where
    T: ArrowPrimitiveType,
    T::Native: numpy::Element,
{
    Ok(PyArray1::from_slice(py, ids.as_primitive::<T>().values()).into_any().unbind())
}

fn texts<'a>(py: Python<'_>, ids: impl Iterator<Item = Option<&'a str>>) -> PyResult<Py<PyAny>> {
    let object = |id: Option<&str>| id.map_or_else(|| py.None(), |id| PyString::new(py, id).into_any().unbind());
    Ok(PyArray1::from_vec(py, ids.map(object).collect::<Vec<Py<PyAny>>>()).into_any().unbind())
}
