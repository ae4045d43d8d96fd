//! Frames to Arrow batches and back, by Arrow's C data interface: two structs that describe a type and
//! the buffers of an array. Polars and Arrow each have these structs, with the same fields; they differ in the names of
//! the types that pointers lead to, as in the parameter of `release`.
//!
//! What must hold:
//! - The buffers of vectors are shared, not copied. (Arrow copies a buffer that is not aligned for its type, and Polars
//!   gives the keys of categories new numbers.)
//! - A struct is moved from one crate's type to the other's, so that one side alone releases it. The buffers live
//!   until the last array of either side is dropped.

use std::borrow::Cow;
use std::mem::transmute;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, NullArray, RecordBatchOptions, make_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi_and_data_type};
use arrow::record_batch::RecordBatch;
use polars::frame::DataFrame;
use polars::prelude::{Column, CompatLevel, Series};
use polars_arrow::datatypes::{ArrowDataType, Field as PolarsField};
use polars_arrow::ffi;

use super::{NAME, failed};
use crate::{Error, Result};

/// The Arrow types that Polars' own are shared as.
const LEVEL: CompatLevel = CompatLevel::newest();

/// Returns an Arrow schema of a frame, in which columns whose type Arrow does not have are of the type `Null`.
pub(super) fn lenient_schema(schema: &polars::prelude::Schema) -> Schema {
    let field = |(name, dtype): (&polars::prelude::PlSmallStr, &polars::prelude::DataType)| {
        to_field(name, dtype).map_or_else(|_| Field::new(name.as_str(), DataType::Null, true), |(_, field)| field)
    };
    Schema::new(schema.iter().map(field).collect::<Vec<_>>())
}

/// Returns the Arrow schema of a frame.
///
/// # Errors
/// Names the column whose type Arrow does not have.
pub(super) fn to_schema(schema: &polars::prelude::Schema) -> Result<SchemaRef> {
    let fields = schema.iter().map(|(name, dtype)| to_field(name, dtype).map(|(_, field)| field));
    Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<Field>>>()?)))
}

/// Returns a column's field as both crates have it.
fn to_field(name: &str, dtype: &polars::prelude::DataType) -> Result<(PolarsField, Field)> {
    let refused = |why: &dyn std::fmt::Display| {
        Error::job(format!(
            "{NAME}: column \"{name}\" of type {dtype} cannot be read as Arrow data ({why}); cast it, or leave it out"
        ))
    };
    let arrow = dtype.try_to_arrow(LEVEL).map_err(|e| refused(&e))?;
    if names_end_early(&arrow) {
        return Err(refused(&"a field's name contains a zero byte"));
    }
    let mut field = PolarsField::new("".into(), arrow, true);
    if let Some(metadata) = dtype.to_arrow_field_metadata() {
        field = field.with_metadata(metadata);
    }
    // SAFETY: `ArrowSchema` and `FFI_ArrowSchema` are the struct of that name of Arrow's C data interface, `repr(C)` with
    // the same fields. It is moved, so that the new owner alone calls its `release`.
    #[expect(unsafe_code, reason = "FFI: a struct of the C data interface")]
    let exported: FFI_ArrowSchema = unsafe { transmute(ffi::export_field_to_c(&field)) };
    let shared = Field::try_from(&exported).map_err(|e| refused(&e))?;
    // The name does not pass the interface, where it ends at a zero byte.
    Ok((field, shared.with_name(name)))
}

/// Returns whether a name within a type has a zero byte, at which Polars panics.
fn names_end_early(dtype: &ArrowDataType) -> bool {
    let field = |field: &PolarsField| field.name.contains('\0') || names_end_early(&field.dtype);
    match dtype {
        ArrowDataType::List(item) | ArrowDataType::LargeList(item) | ArrowDataType::FixedSizeList(item, _) => {
            field(item)
        }
        ArrowDataType::Struct(fields) => fields.iter().any(field),
        _ => false,
    }
}

/// Returns the frame's rows as Arrow batches, which share the frame's memory, and their schema. A batch ends where a
/// chunk of any column ends.
///
/// # Errors
/// Names the column whose type Arrow does not have.
pub fn to_batches(frame: &DataFrame) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let schema = to_schema(frame.schema())?;
    let columns = frame.columns().iter().map(|column| to_chunks(column.as_materialized_series()));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let mut ends: Vec<usize> = columns.iter().flat_map(|chunks| chunk_ends(chunks)).collect();
    ends.sort_unstable();
    ends.dedup();
    let columns: Vec<Vec<ArrayRef>> = columns.into_iter().map(|chunks| cut(chunks, &ends)).collect();
    let mut first = 0;
    let batches = ends.iter().enumerate().map(|(at, &end)| {
        let arrays = columns.iter().map(|parts| parts[at].clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(end - std::mem::replace(&mut first, end)));
        let batch = RecordBatch::try_new_with_options(schema.clone(), arrays, &options);
        batch.map_err(|e| Error::job(format!("{NAME}: {e}")))
    });
    let batches = batches.collect::<Result<Vec<_>>>()?;
    Ok((schema, batches))
}

/// Returns the row before which each chunk that has rows ends.
fn chunk_ends(chunks: &[ArrayRef]) -> impl Iterator<Item = usize> {
    let lengths = chunks.iter().map(|chunk| chunk.len()).filter(|&length| length > 0);
    lengths.scan(0, |end, length| {
        *end += length;
        Some(*end)
    })
}

/// Cuts chunks into parts that end before the rows `ends`, among which are the ends of all chunks.
fn cut(chunks: Vec<ArrayRef>, ends: &[usize]) -> Vec<ArrayRef> {
    let (mut parts, mut first, mut ends) = (Vec::with_capacity(ends.len()), 0, ends.iter().peekable());
    for chunk in chunks {
        let past = first + chunk.len();
        let start = first;
        while let Some(&end) = ends.next_if(|&&end| end <= past) {
            parts.push(chunk.slice(first - start, end - first));
            first = end;
        }
    }
    parts
}

fn to_chunks(series: &Series) -> Result<Vec<ArrayRef>> {
    let (field, shared) = to_field(series.name(), series.dtype())?;
    if shared.data_type() == &DataType::Null {
        // Polars gives it a buffer, which the interface does not allow.
        return Ok(vec![Arc::new(NullArray::new(series.len()))]);
    }
    let chunk = |at| {
        let array = series.to_arrow_with_field(at, Cow::Borrowed(&field), true).map_err(|e| failed(&e))?;
        // SAFETY: `ArrowArray` and `FFI_ArrowArray` are the struct of that name of Arrow's C data interface, `repr(C)` with
        // the same fields. It is moved, so that the new owner alone calls its `release`.
        #[expect(unsafe_code, reason = "FFI: a struct of the C data interface")]
        let exported: FFI_ArrowArray = unsafe { transmute(ffi::export_array_to_c(array)) };
        // SAFETY: Polars made the array by `field`, whose type `shared` has, and its buffers are valid for it.
        #[expect(unsafe_code, reason = "FFI: the buffers of an array of Polars")]
        let data = unsafe { from_ffi_and_data_type(exported, shared.data_type().clone()) };
        Ok(make_array(data.map_err(|e| of_column(shared.name(), &e))?))
    };
    (0..series.n_chunks()).map(chunk).collect()
}

/// Returns Arrow batches of one schema as a frame, which shares their memory; without batches, a frame without columns.
///
/// ```
/// use lowland::polars::{to_batches, to_frame};
/// use polars::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let frame = DataFrame::new(3, vec![Column::new("word".into(), ["a", "b", "c"])])?;
/// let (schema, batches) = to_batches(&frame)?;
/// assert_eq!(schema.field(0).name(), "word");
/// assert!(to_frame(&batches)?.equals(&frame));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If a batch has other columns than the first; names the column whose type Polars does not have.
pub fn to_frame(batches: &[RecordBatch]) -> Result<DataFrame> {
    let Some(first) = batches.first() else { return Ok(DataFrame::empty()) };
    let names = |batch: &RecordBatch| batch.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
    if let Some(at) = batches.iter().position(|batch| names(batch) != names(first)) {
        return Err(Error::job(format!(
            "{NAME}: batch {at} has other columns than the first: {}",
            batches[at].schema()
        )));
    }
    let schema = first.schema();
    let columns = schema.fields().iter().enumerate().map(|(at, field)| {
        let arrays: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(at)).collect();
        to_series(field, &arrays).map(Column::from)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    DataFrame::new(batches.iter().map(RecordBatch::num_rows).sum(), columns).map_err(|e| failed(&e))
}

fn to_series(field: &Field, arrays: &[&ArrayRef]) -> Result<Series> {
    let name = field.name();
    if let Some(other) = arrays.iter().find(|array| array.data_type() != field.data_type()) {
        let (is, first) = (other.data_type(), field.data_type());
        return Err(Error::job(format!("{NAME}: column \"{name}\" has type {first}, and in another batch {is}")));
    }
    let schema = FFI_ArrowSchema::try_from(field.clone().with_name("")).map_err(|e| of_column(name, &e))?;
    // SAFETY: as in `to_field`; the struct is moved, and dropped here.
    #[expect(unsafe_code, reason = "FFI: a struct of the C data interface")]
    let schema: ffi::ArrowSchema = unsafe { transmute(schema) };
    // SAFETY: Arrow made the struct, so that its texts and children are valid.
    #[expect(unsafe_code, reason = "FFI: a type of Arrow")]
    let imported = unsafe { ffi::import_field_from_c(&schema) }.map_err(|e| failed(&e))?;
    let chunks = arrays.iter().map(|array| {
        // SAFETY: as in `to_chunks`; the struct is moved, so that the new owner alone calls its `release`.
        #[expect(unsafe_code, reason = "FFI: a struct of the C data interface")]
        let exported: ffi::ArrowArray = unsafe { transmute(FFI_ArrowArray::new(&array.to_data())) };
        // SAFETY: Arrow made the array, whose type is that of `field`, as was checked, and so `imported.dtype`.
        #[expect(unsafe_code, reason = "FFI: the buffers of an array of Arrow")]
        unsafe { ffi::import_array_from_c(exported, imported.dtype.clone()) }.map_err(|e| failed(&e))
    });
    let chunks = chunks.collect::<Result<Vec<_>>>()?;
    let field = PolarsField { name: name.as_str().into(), ..imported };
    Series::try_from((&field, chunks)).map_err(|e| failed(&e))
}

fn of_column(name: &str, error: &ArrowError) -> Error {
    Error::job(format!("{NAME}: column \"{name}\": {error}"))
}
