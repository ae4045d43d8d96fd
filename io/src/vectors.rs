//! Which column, or columns, of a table hold the vectors. Shared by the Arrow
//! and the Parquet reader.
//!
//! What must hold: the same columns whatever the format.

use std::cmp::Ordering;
use std::path::Path;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Schema};

use crate::flatten::{self, Slots, Wrong};
use crate::number::Number;
use crate::{Coordinates, Dtype, Error, Result, coordinates};

/// The columns asked for.
#[derive(Debug, Clone)]
pub(crate) enum Want {
    /// The only column that can be meant.
    Any,
    /// What a person wrote: a name, `a,b,c`, or a pattern with `*`.
    Asked(String),
    /// Exactly these: what an earlier file of the same source resolved to.
    Names(Vec<String>),
    /// What is usual in maps: [`Coordinates::Usual`].
    Map,
}

impl Want {
    /// The coordinates of a map.
    pub(crate) fn of_map(coordinates: &Coordinates) -> Self {
        match coordinates {
            Coordinates::Usual => Want::Map,
            Coordinates::Asked(asked) => Want::Asked(asked.clone()),
            Coordinates::Named(names) => Want::Names(names.clone()),
        }
    }
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
    /// Components, where the types say so (not for List and LargeList) or a row has been seen.
    pub(crate) dim: Option<usize>,
    /// How many entries the lists of each level have that may be of any length.
    lengths: Vec<usize>,
}

impl Vectors {
    /// Those of a file without rows, whose columns do not matter.
    pub(crate) fn none() -> Self {
        Vectors {
            label: String::new(),
            columns: Vec::new(),
            names: Vec::new(),
            dtype: Dtype::F32,
            dim: None,
            lengths: Vec::new(),
        }
    }

    /// Finds the columns that hold the vectors.
    pub(crate) fn resolve(path: &Path, schema: &Schema, want: &Want) -> Result<Self> {
        match want {
            Want::Any => Self::only(path, schema),
            Want::Map => {
                // Columns with a map's names, else the only one of lists.
                let usual = coordinates::usual(path, schema).map(|columns| {
                    let names: Vec<&str> = columns.iter().map(|&i| schema.field(i).name().as_str()).collect();
                    Self::build(path, schema, &columns, &names.join(","))
                });
                usual.unwrap_or_else(|unknown| Self::only(path, schema).map_err(|_| unknown))
            }
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
                    DataType::FixedSizeList(..) => match fixed_components(data_type) {
                        0 => return Err(no_components(path, schema.field(*one).name())),
                        dim => Some(dim),
                    },
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
        Ok(Vectors { label: label.into(), columns: columns.to_vec(), names, dtype, dim, lengths: Vec::new() })
    }

    /// Settles how many components the vectors have, by the first row of `arrays` (the columns in
    /// component order) that has any; says whether it is settled.
    pub(crate) fn settle(&mut self, path: &Path, arrays: &[ArrayRef]) -> Result<bool> {
        if self.dim.is_none()
            && let [array] = arrays
            && let Some(lengths) = flatten::lengths(array).map_err(|wrong| self.wrong(path, 0, 0, wrong))?
        {
            let fixed = fixed_components(array.data_type());
            let dim = lengths.iter().try_fold(fixed, |product, &n| product.checked_mul(n));
            self.dim = Some(dim.filter(|&dim| dim > 0).ok_or_else(|| no_components(path, self.name(0)))?);
            self.lengths = lengths;
        }
        Ok(self.dim.is_some())
    }

    /// Writes `arrays` (the columns in component order, all of one length)
    /// into `out`, row by row. `first` is the file's row that they begin at.
    pub(crate) fn copy<N: Number>(&self, path: &Path, arrays: &[ArrayRef], first: u64, out: &mut [N]) -> Result<()> {
        let dim = self.dim.unwrap_or(0).max(1);
        let rows = out.len() / dim;
        if arrays.len() != self.columns.len() || arrays.iter().any(|a| a.len() != rows) {
            return Err(Error::format(path, "its columns differ in length"));
        }
        let width = dim / arrays.len().max(1);
        for (at, array) in arrays.iter().enumerate() {
            let mut slots = Slots { out, dim, at: at * width, width };
            slots.fill(array, &self.lengths).map_err(|wrong| self.wrong(path, first, at, wrong))?;
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

    /// The column that holds component `component`.
    pub(crate) fn column_of(&self, component: usize) -> &str {
        self.name(if self.names.len() == 1 { 0 } else { component })
    }

    fn name(&self, component: usize) -> &str {
        self.names.get(component).map_or("", String::as_str)
    }

    /// What is wrong with rows of `path` from `first` on, of the column that is the given one of the vectors'.
    fn wrong(&self, path: &Path, first: u64, column: usize, wrong: Wrong) -> Error {
        let name = self.name(column);
        match wrong {
            Wrong::Ragged { row, expected, found } => {
                Error::Ragged { path: path.into(), row: first + row as u64, expected, found }
            }
            Wrong::Type(found) => {
                Error::ColumnType { path: path.into(), column: name.into(), found: found.to_string() }
            }
            Wrong::Damaged(what) => Error::format(path, format!("column \"{name}\" {what}")),
        }
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
pub(crate) fn natural(a: &str, b: &str) -> Ordering {
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

/// How many components an element has by the sizes that its type gives.
fn fixed_components(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeList(item, size) => {
            usize::try_from(*size).unwrap_or(0).saturating_mul(fixed_components(item.data_type()))
        }
        DataType::List(item) | DataType::LargeList(item) => fixed_components(item.data_type()),
        _ => 1,
    }
}

fn no_components(path: &Path, column: &str) -> Error {
    Error::format(path, format!("column \"{column}\" holds vectors of no components"))
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
