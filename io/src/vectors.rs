//! Which column, or columns, of a table hold the vectors, and how Arrow
//! arrays become rows of `f32`. Shared by the Arrow and the Parquet reader.
//!
//! What must hold: the same columns and the same rounding whatever the
//! format; a null never becomes a number.

use std::cmp::Ordering;
use std::ops::Range;
use std::path::Path;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, OffsetSizeTrait};
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use half::slice::HalfFloatSliceExt;

use crate::{Dtype, Error, Result};

/// The columns asked for.
#[derive(Debug, Clone)]
pub(crate) enum Want {
    /// The only column that can be meant.
    Any,
    /// What a person wrote: a name, `a,b,c`, or a pattern with `*`.
    Asked(String),
    /// Exactly these: what an earlier file of the same source resolved to.
    Names(Vec<String>),
}

/// The columns of one file that hold its vectors.
#[derive(Debug, Clone)]
pub(crate) struct Vectors {
    /// As it was asked for, or the column's name.
    pub(crate) label: String,
    /// Positions among the file's top-level columns, in the order of the components.
    pub(crate) columns: Vec<usize>,
    /// Their names, in the same order.
    pub(crate) names: Vec<String>,
    /// The components' type.
    pub(crate) dtype: Dtype,
    /// Components, where the types alone say so (not for List and LargeList).
    pub(crate) dim: Option<usize>,
}

impl Vectors {
    /// Finds the columns that hold the vectors.
    pub(crate) fn resolve(path: &Path, schema: &Schema, want: &Want) -> Result<Self> {
        match want {
            Want::Any => Self::only(path, schema),
            Want::Asked(asked) => Self::build(path, schema, &find(path, schema, asked)?, asked),
            Want::Names(names) => Self::build(path, schema, &positions(path, schema, names)?, &names.join(",")),
        }
    }

    fn only(path: &Path, schema: &Schema) -> Result<Self> {
        let is_candidate = |&i: &usize| list_item(schema.field(i).data_type()).and_then(list_dtype).is_some();
        let candidates: Vec<usize> = (0..schema.fields().len()).filter(is_candidate).collect();
        match candidates.as_slice() {
            [one] => Self::build(path, schema, &[*one], schema.field(*one).name()),
            [] => Err(Error::NoVectorColumn {
                path: path.into(),
                available: schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect(),
            }),
            several => Err(Error::AmbiguousColumn {
                path: path.into(),
                candidates: several.iter().map(|&i| schema.field(i).name().clone()).collect(),
            }),
        }
    }

    fn build(path: &Path, schema: &Schema, columns: &[usize], label: &str) -> Result<Self> {
        let unusable = |i: usize| Error::ColumnType {
            path: path.into(),
            column: schema.field(i).name().clone(),
            found: schema.field(i).data_type().to_string(),
        };
        let (dtype, dim) = match columns {
            [one] if list_item(schema.field(*one).data_type()).is_some() => {
                let data_type = schema.field(*one).data_type();
                let dtype = list_item(data_type).and_then(list_dtype).ok_or_else(|| unusable(*one))?;
                let dim = match data_type {
                    DataType::FixedSizeList(_, size) => Some(positive(path, schema.field(*one).name(), *size)?),
                    _ => None,
                };
                (dtype, dim)
            }
            columns => {
                for &i in columns {
                    if !is_number(schema.field(i).data_type()) {
                        return Err(unusable(i));
                    }
                }
                let mut dtypes = columns.iter().map(|&i| list_dtype(schema.field(i).data_type()));
                let first = dtypes.next().flatten().unwrap_or(Dtype::Mixed);
                let dtype = if dtypes.all(|d| d == Some(first)) { first } else { Dtype::Mixed };
                (dtype, Some(columns.len()))
            }
        };
        let names = columns.iter().map(|&i| schema.field(i).name().clone()).collect();
        Ok(Vectors { label: label.into(), columns: columns.to_vec(), names, dtype, dim })
    }

    /// The length of a list column's first vector. `arrays` are the columns
    /// in component order and hold at least the file's first row.
    pub(crate) fn first_width(&self, path: &Path, arrays: &[ArrayRef]) -> Result<usize> {
        if let Some(dim) = self.dim {
            return Ok(dim);
        }
        let [array] = arrays else {
            return Err(Error::format(path, "a list column was expected"));
        };
        if array.is_empty() {
            return Err(Error::format(path, "its first batch holds no rows"));
        }
        if array.is_null(0) {
            return Err(self.null(path, 0, 0));
        }
        let width = match array.data_type() {
            DataType::List(_) => array.as_list::<i32>().value_length(0) as i64,
            DataType::LargeList(_) => array.as_list::<i64>().value_length(0),
            other => return Err(self.unexpected(path, 0, other)),
        };
        positive(path, self.name(0), width)
    }

    /// Writes `arrays` (the columns in component order, all of one length)
    /// into `out`, row by row. `first` is the file's row that they begin at.
    pub(crate) fn copy(&self, path: &Path, arrays: &[ArrayRef], dim: usize, first: u64, out: &mut [f32]) -> Result<()> {
        let rows = out.len() / dim.max(1);
        if arrays.len() != self.columns.len() || arrays.iter().any(|a| a.len() != rows) {
            return Err(Error::format(path, "its columns differ in length"));
        }
        match arrays {
            [array] if list_item(array.data_type()).is_some() => self.copy_lists(path, array, dim, first, out),
            _ => self.copy_numbers(path, arrays, first, out),
        }
    }

    fn copy_lists(&self, path: &Path, array: &ArrayRef, dim: usize, first: u64, out: &mut [f32]) -> Result<()> {
        // A null list may have values behind it, so validity comes first.
        if let Some(row) = first_null(array, 0..array.len()) {
            return Err(self.null(path, first + row as u64, 0));
        }
        let (values, range) = match array.data_type() {
            DataType::FixedSizeList(_, size) => {
                if usize::try_from(*size) != Ok(dim) {
                    return Err(self.unexpected(path, 0, array.data_type()));
                }
                let lists = array.as_fixed_size_list();
                let start = if lists.is_empty() { 0 } else { lists.value_offset(0) as usize };
                (lists.values(), start..start + array.len() * dim)
            }
            DataType::List(_) => self.even::<i32>(path, array, dim, first)?,
            DataType::LargeList(_) => self.even::<i64>(path, array, dim, first)?,
            other => return Err(self.unexpected(path, 0, other)),
        };
        if range.end > values.len() {
            return Err(Error::format(
                path,
                format!("column \"{}\" has fewer values than its lists say", self.name(0)),
            ));
        }
        if let Some(at) = first_null(values, range.clone()) {
            return Err(self.null(path, first + (at / dim) as u64, 0));
        }
        match values.data_type() {
            DataType::Float16 => values.as_primitive::<Float16Type>().values()[range].convert_to_f32_slice(out),
            DataType::Float32 => out.copy_from_slice(&values.as_primitive::<Float32Type>().values()[range]),
            DataType::Float64 => convert::<Float64Type>(values, range, out, |v| v as f32),
            DataType::UInt8 => convert::<UInt8Type>(values, range, out, |v| v as f32),
            DataType::Int8 => convert::<Int8Type>(values, range, out, |v| v as f32),
            other => return Err(self.unexpected(path, 0, other)),
        }
        Ok(())
    }

    /// The values of lists that are all `dim` long: one run, as nothing lies between them.
    fn even<'a, O: OffsetSizeTrait>(
        &self,
        path: &Path,
        array: &'a ArrayRef,
        dim: usize,
        first: u64,
    ) -> Result<(&'a ArrayRef, Range<usize>)> {
        let lists = array.as_list::<O>();
        let offsets = lists.value_offsets();
        for (row, pair) in offsets.windows(2).enumerate() {
            let found = (pair[1] - pair[0]).as_usize();
            if found != dim {
                return Err(Error::Ragged { path: path.into(), row: first + row as u64, expected: dim, found });
            }
        }
        let start = offsets.first().map_or(0, |o| o.as_usize());
        Ok((lists.values(), start..start + array.len() * dim))
    }

    fn copy_numbers(&self, path: &Path, arrays: &[ArrayRef], first: u64, out: &mut [f32]) -> Result<()> {
        let dim = arrays.len();
        for (component, array) in arrays.iter().enumerate() {
            if let Some(row) = first_null(array, 0..array.len()) {
                return Err(self.null(path, first + row as u64, component));
            }
            let slots = out.iter_mut().skip(component).step_by(dim);
            match array.data_type() {
                DataType::Float16 => scatter::<Float16Type>(array, slots, |v| v.to_f32()),
                DataType::Float32 => scatter::<Float32Type>(array, slots, |v| v),
                DataType::Float64 => scatter::<Float64Type>(array, slots, |v| v as f32),
                DataType::Int8 => scatter::<Int8Type>(array, slots, |v| v as f32),
                DataType::Int16 => scatter::<Int16Type>(array, slots, |v| v as f32),
                DataType::Int32 => scatter::<Int32Type>(array, slots, |v| v as f32),
                DataType::Int64 => scatter::<Int64Type>(array, slots, |v| v as f32),
                DataType::UInt8 => scatter::<UInt8Type>(array, slots, |v| v as f32),
                DataType::UInt16 => scatter::<UInt16Type>(array, slots, |v| v as f32),
                DataType::UInt32 => scatter::<UInt32Type>(array, slots, |v| v as f32),
                DataType::UInt64 => scatter::<UInt64Type>(array, slots, |v| v as f32),
                other => return Err(self.unexpected(path, component, other)),
            }
        }
        Ok(())
    }

    /// Bytes of a component, at rest and in an Arrow array; the widest where types differ.
    pub(crate) fn component_bytes(&self) -> u64 {
        match self.dtype {
            Dtype::U8 | Dtype::I8 => 1,
            Dtype::F16 => 2,
            Dtype::F32 => 4,
            Dtype::F64 | Dtype::Mixed => 8,
        }
    }

    fn name(&self, component: usize) -> &str {
        self.names.get(component).map_or("", String::as_str)
    }

    fn null(&self, path: &Path, row: u64, component: usize) -> Error {
        Error::Null { path: path.into(), row, column: self.name(component).into() }
    }

    fn unexpected(&self, path: &Path, component: usize, found: &DataType) -> Error {
        Error::ColumnType { path: path.into(), column: self.name(component).into(), found: found.to_string() }
    }
}

/// The positions of the named columns, in the order named.
pub(crate) fn positions(path: &Path, schema: &Schema, names: &[String]) -> Result<Vec<usize>> {
    names.iter().map(|name| position(schema, name).ok_or_else(|| no_such(path, schema, name))).collect()
}

fn position(schema: &Schema, name: &str) -> Option<usize> {
    schema.fields().iter().position(|f| f.name() == name)
}

fn no_such(path: &Path, schema: &Schema, asked: &str) -> Error {
    Error::NoSuchColumn {
        path: path.into(),
        asked: asked.into(),
        available: schema.fields().iter().map(|f| f.name().clone()).collect(),
    }
}

/// The columns that `asked` names: itself, else each of its comma-separated
/// parts, a part with `*` standing for what it matches, in natural order.
fn find(path: &Path, schema: &Schema, asked: &str) -> Result<Vec<usize>> {
    if let Some(exact) = position(schema, asked) {
        return Ok(vec![exact]);
    }
    let mut found = Vec::new();
    for part in asked.split(',').map(str::trim) {
        let mut matched = matching(schema, part);
        if matched.is_empty() {
            return Err(no_such(path, schema, part));
        }
        matched.retain(|i| !found.contains(i));
        found.extend(matched);
    }
    Ok(found)
}

fn matching(schema: &Schema, part: &str) -> Vec<usize> {
    if let Some(exact) = position(schema, part) {
        return vec![exact];
    }
    if !part.contains('*') {
        return Vec::new();
    }
    // Only `*` is special, so that names may hold `?` and brackets.
    let pattern = part.split('*').map(glob::Pattern::escape).collect::<Vec<_>>().join("*");
    let Ok(pattern) = glob::Pattern::new(&pattern) else {
        return Vec::new();
    };
    let name = |i: usize| schema.field(i).name().as_str();
    let mut matched: Vec<usize> = (0..schema.fields().len()).filter(|&i| pattern.matches(name(i))).collect();
    matched.sort_by(|&a, &b| natural(name(a), name(b)));
    matched
}

/// Compares names with their numbers as numbers: pc2 before pc10.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a.as_bytes(), b.as_bytes());
    loop {
        let (Some(&l), Some(&r)) = (left.first(), right.first()) else {
            return left.len().cmp(&right.len()).then_with(|| a.cmp(b));
        };
        if l.is_ascii_digit() && r.is_ascii_digit() {
            let (number, other) = (take_number(&mut left), take_number(&mut right));
            match number.len().cmp(&other.len()).then_with(|| number.cmp(other)) {
                Ordering::Equal => continue,
                unequal => return unequal,
            }
        }
        if l != r {
            return l.cmp(&r);
        }
        left = &left[1..];
        right = &right[1..];
    }
}

/// Takes the leading digits off `text`; gives them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|&&c| c == b'0').count();
    &digits[zeros..]
}

fn list_item(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => Some(item.data_type()),
        _ => None,
    }
}

fn list_dtype(item: &DataType) -> Option<Dtype> {
    match item {
        DataType::Float16 => Some(Dtype::F16),
        DataType::Float32 => Some(Dtype::F32),
        DataType::Float64 => Some(Dtype::F64),
        DataType::UInt8 => Some(Dtype::U8),
        DataType::Int8 => Some(Dtype::I8),
        _ => None,
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating()
}

fn positive(path: &Path, column: &str, width: impl Into<i64>) -> Result<usize> {
    match usize::try_from(width.into()) {
        Ok(width) if width > 0 => Ok(width),
        _ => Err(Error::format(path, format!("column \"{column}\" holds vectors of no components"))),
    }
}

/// The first null of `array` in `range`, counted from the range's start.
fn first_null(array: &ArrayRef, range: Range<usize>) -> Option<usize> {
    let nulls = array.nulls().filter(|n| n.null_count() > 0)?;
    let start = range.start;
    range.into_iter().find(|&i| nulls.is_null(i)).map(|i| i - start)
}

fn convert<T: ArrowPrimitiveType>(
    values: &ArrayRef,
    range: Range<usize>,
    out: &mut [f32],
    as_f32: impl Fn(T::Native) -> f32,
) {
    for (slot, value) in out.iter_mut().zip(&values.as_primitive::<T>().values()[range]) {
        *slot = as_f32(*value);
    }
}

fn scatter<'a, T: ArrowPrimitiveType>(
    array: &ArrayRef,
    slots: impl Iterator<Item = &'a mut f32>,
    as_f32: impl Fn(T::Native) -> f32,
) {
    for (slot, value) in slots.zip(array.as_primitive::<T>().values()) {
        *slot = as_f32(*value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;

    fn schema(fields: &[(&str, DataType)]) -> Schema {
        Schema::new(fields.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>())
    }

    fn list(item: DataType) -> DataType {
        DataType::List(Field::new("item", item, true).into())
    }

    fn check(fields: &[(&str, DataType)], asked: Option<&str>, expected: std::result::Result<&[&str], &str>) {
        let want = asked.map_or(Want::Any, |a| Want::Asked(a.into()));
        let found = Vectors::resolve(Path::new("f"), &schema(fields), &want);
        match (found, expected) {
            (Ok(v), Ok(names)) => assert_eq!(v.names, names),
            (Err(e), Err(text)) => assert!(e.to_string().contains(text), "{e}"),
            (found, expected) => panic!("{found:?} where {expected:?} was expected"),
        }
    }

    #[test]
    fn one_list_column_need_not_be_named() {
        let fields = [("id", DataType::Int64), ("tags", list(DataType::Utf8)), ("v", list(DataType::Float16))];
        check(&fields, None, Ok(&["v"]));
        check(&fields, Some("id"), Ok(&["id"]));
        check(&fields, Some("tags"), Err("cannot be read as a vector component"));
        check(&fields, Some("w"), Err("no column \"w\"; it has \"id\", \"tags\", \"v\""));
    }

    #[test]
    fn several_candidates_or_none_are_refused() {
        check(&[("a", list(DataType::Float32)), ("b", list(DataType::UInt8))], None, Err("\"a\", \"b\"; name one"));
        check(&[("a", DataType::Int64)], None, Err("no column holds vectors"));
        check(&[], None, Err("no columns"));
    }

    #[test]
    fn patterns_match_in_natural_order_and_exact_names_win() {
        let n = DataType::Float32;
        let fields =
            [("pc10", n.clone()), ("pc2", n.clone()), ("pc1", DataType::Int64), ("q*", n.clone()), ("a,b", n.clone())];
        check(&fields, Some("pc*"), Ok(&["pc1", "pc2", "pc10"]));
        check(&fields, Some("q*"), Ok(&["q*"]));
        check(&fields, Some("a,b"), Ok(&["a,b"]));
        check(&fields, Some("pc2, pc*"), Ok(&["pc2", "pc1", "pc10"]));
        check(&fields, Some("pc1,z"), Err("no column \"z\""));
        check(&fields, Some("z*"), Err("no column \"z*\""));
        check(&[("x1", n), ("x2", DataType::Utf8)], Some("x*"), Err("\"x2\" is Utf8"));
    }

    #[test]
    fn natural_order_is_total_on_equal_numbers() {
        assert_eq!(natural("a01", "a1"), Ordering::Less);
        assert_eq!(natural("a1", "a1"), Ordering::Equal);
        assert_eq!(natural("a9b", "a10a"), Ordering::Less);
        assert_eq!(natural("a", "a1"), Ordering::Less);
    }

    #[test]
    fn vectors_without_components_are_refused() {
        let empty = DataType::FixedSizeList(Field::new("item", DataType::Float32, true).into(), 0);
        check(&[("v", empty)], None, Err("no components"));
    }
}
