//! Finds the column or columns of a table that hold the vectors. Used by the Arrow and Parquet
//! readers.
//!
//! What must hold: the same columns are chosen whatever the format; if several columns could be
//! meant, none is chosen and the user must name one.

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Field, Fields, Int8Type, Schema, SchemaRef};

use crate::flatten::{self, ComponentSlots, FlattenError, FlattenPath};
use crate::number::VectorFloat;
use crate::wide_integers;
use crate::{Coordinates, Dtype, Error, OpenOptions, Result, coordinates};

/// Which columns to read as vectors.
#[derive(Debug, Clone)]
pub(crate) enum ColumnRequest {
    /// The only column that can hold vectors.
    Any,
    /// The text that the user gave: a column's name, a struct's field (`emb.values`), bytes with
    /// their number type (`blob:f32`), several columns (`a,b,c`), or a pattern with `*`.
    Asked(String),
    /// Exactly these columns, to which an earlier file of the same source was resolved.
    Names(Vec<String>),
    /// The usual columns of a map: [`Coordinates::Usual`].
    Map,
}

impl ColumnRequest {
    /// Returns the request of a table without vectors.
    pub(crate) fn none() -> Self {
        ColumnRequest::Names(Vec::new())
    }

    /// Returns the choice of columns for a map's coordinates.
    pub(crate) fn of_map(coordinates: &Coordinates) -> Self {
        match coordinates {
            Coordinates::Usual => ColumnRequest::Map,
            Coordinates::Asked(asked) => ColumnRequest::Asked(asked.clone()),
            Coordinates::Named(names) => ColumnRequest::Names(names.clone()),
        }
    }
}

/// The number types as which bytes can be read: ``column` 'blob:f32'`.
const WORDS: [Dtype; 7] = [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F64, Dtype::U8, Dtype::I8, Dtype::Bits];

/// The fields of a Spark vector. Dense vectors use only `values`.
const SPARK: [&str; 4] = ["type", "size", "indices", "values"];

/// A column, or a field within a column, that holds vectors or one component of each.
#[derive(Debug, Clone)]
struct VectorColumn {
    /// The name under which the user can select the term.
    name: String,
    /// The index of the column among the file's columns, then the index of the field in each nested
    /// struct.
    path: Vec<usize>,
    /// The names of these fields.
    fields: Vec<String>,
    /// The number type of the term's bytes, if it holds bytes rather than numbers.
    word: Option<Dtype>,
    /// The path of the field that holds the kind (dense or sparse) of each Spark vector.
    kinds: Option<Vec<usize>>,
    data_type: DataType,
}

impl VectorColumn {
    /// Returns the term for the field at `path` of `fields`. A Spark vector is extended to its
    /// values.
    fn new(fields: &Fields, name: &str, mut path: Vec<usize>) -> Option<Self> {
        let (mut at, mut names) = (fields.get(*path.first()?)?, Vec::new());
        let mut kinds = None;
        for depth in 1.. {
            let DataType::Struct(within) = at.data_type() else { break };
            let spark = is_spark(within);
            if depth == path.len() && spark {
                path.push(3);
            }
            let Some(&next) = path.get(depth) else { break };
            if spark && next == 3 {
                kinds = Some(path[..depth].iter().copied().chain([0]).collect());
            }
            at = within.get(next)?;
            names.push(at.name().clone());
        }
        Some(VectorColumn {
            name: name.into(),
            path,
            fields: names,
            word: None,
            kinds,
            data_type: at.data_type().clone(),
        })
    }

    fn how<'a>(&'a self, lengths: &'a [usize]) -> FlattenPath<'a> {
        FlattenPath { fields: &self.fields, word: self.word, lengths }
    }
}

fn is_spark(fields: &Fields) -> bool {
    fields.len() == SPARK.len()
        && fields.iter().zip(SPARK).all(|(field, name)| field.name() == name)
        && fields[0].data_type() == &DataType::Int8
}

/// The columns of one file that hold its vectors.
#[derive(Debug, Clone)]
pub(crate) struct VectorColumns {
    /// The text by which the user selected the columns, or the column's name.
    pub(crate) label: String,
    /// The indices of the top-level columns, in the order of the components.
    pub(crate) columns: Vec<usize>,
    /// The names under which the columns can be selected, in the same order.
    pub(crate) names: Vec<String>,
    /// The number type of the components.
    pub(crate) dtype: Dtype,
    /// The number of components, if the types or a row have shown it.
    pub(crate) dim: Option<usize>,
    terms: Vec<VectorColumn>,
    /// Bytes of a component in an Arrow array; the widest if the columns' types differ.
    component: u64,
    /// The number of entries at each level of lists whose type allows any length, from the
    /// outermost inwards.
    lengths: Vec<usize>,
}

impl VectorColumns {
    /// Returns the value for a file without rows, whose columns do not matter.
    pub(crate) fn none() -> Self {
        VectorColumns {
            label: String::new(),
            columns: Vec::new(),
            names: Vec::new(),
            dtype: Dtype::F32,
            dim: None,
            terms: Vec::new(),
            component: 0,
            lengths: Vec::new(),
        }
    }

    /// Finds the columns that hold the vectors.
    pub(crate) fn resolve(path: &Path, schema: &Schema, want: &ColumnRequest) -> Result<Self> {
        match want {
            ColumnRequest::Any => Self::only(path, schema),
            ColumnRequest::Map => {
                // The columns with the names of map coordinates, else the only column of lists.
                let term = |&i: &usize| VectorColumn::new(schema.fields(), schema.field(i).name(), vec![i]);
                match coordinates::usual_columns(path, schema) {
                    Ok(columns) => {
                        let names: Vec<&str> = columns.iter().map(|&i| schema.field(i).name().as_str()).collect();
                        Self::build(path, columns.iter().filter_map(term).collect(), &names.join(","))
                    }
                    Err(unknown) => Self::only(path, schema).map_err(|_| unknown),
                }
            }
            ColumnRequest::Asked(asked) => Self::build(path, find(path, schema, asked)?, asked),
            ColumnRequest::Names(names) => {
                let term = |name: &String| named(path, schema, name)?.ok_or_else(|| no_such(path, schema, name));
                Self::build(path, names.iter().map(term).collect::<Result<_>>()?, &names.join(","))
            }
        }
    }

    /// Chooses the only column that can hold vectors: the only column of lists of floats or bytes;
    /// if there is none, the only one of other lists of fractions; then the only one of any lists
    /// of numbers.
    fn only(path: &Path, schema: &Schema) -> Result<Self> {
        let term = |i: usize| VectorColumn::new(schema.fields(), schema.field(i).name(), vec![i]);
        let terms: Vec<VectorColumn> = (0..schema.fields().len()).filter_map(term).collect();
        // A struct's field ranks below a column of lists, and a column of nulls never qualifies.
        let rank = |term: &VectorColumn| {
            let found = numbers(&term.data_type, None).filter(|found| found.list && found.rank < NAMED_ONLY)?;
            Some(found.rank.max(usize::from(!term.fields.is_empty())))
        };
        let best = terms.iter().filter_map(rank).min();
        let mut candidates: Vec<VectorColumn> =
            terms.into_iter().filter(|term| best.is_some() && rank(term) == best).collect();
        match candidates.as_slice() {
            [one] => {
                let name = one.name.clone();
                positions(path, schema, std::slice::from_ref(&name))?;
                Self::build(path, std::mem::take(&mut candidates), &name)
            }
            [] => Err(Error::NoVectorColumn {
                path: path.into(),
                available: schema.fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect(),
            }),
            several => {
                for term in several {
                    positions(path, schema, std::slice::from_ref(&term.name))?;
                }
                let candidates = several.iter().map(|term| term.name.clone()).collect();
                Err(Error::AmbiguousColumn { path: path.into(), candidates })
            }
        }
    }

    fn build(path: &Path, terms: Vec<VectorColumn>, label: &str) -> Result<Self> {
        let found = |term: &VectorColumn| numbers(&term.data_type, term.word);
        let (dtype, dim, component) = match terms.as_slice() {
            [one] if found(one).is_some_and(|found| found.list) => {
                let found = found(one).ok_or_else(|| unusable(path, one))?;
                let dim = if found.any_length { None } else { Some(components(path, one, found.fixed)?) };
                (found.dtype, dim, found.component)
            }
            terms => {
                let mut dtype = None;
                let mut component = 0;
                for term in terms {
                    let one = found(term).filter(|one| !one.list || term.data_type == DataType::Null);
                    let one = one.filter(|_| term.word.is_none()).ok_or_else(|| unusable(path, term))?;
                    dtype = if dtype.is_none_or(|d| d == one.dtype) { Some(one.dtype) } else { Some(Dtype::Mixed) };
                    component = component.max(one.component);
                }
                (dtype.unwrap_or(Dtype::Mixed), Some(terms.len()), component)
            }
        };
        let columns = terms.iter().filter_map(|term| term.path.first().copied()).collect();
        let names = terms.iter().map(|term| term.name.clone()).collect();
        Ok(VectorColumns { label: label.into(), columns, names, dtype, dim, terms, component, lengths: Vec::new() })
    }

    /// Returns the paths of the numbers, and of the fields that must be read with them.
    pub(crate) fn paths(&self) -> Vec<Vec<usize>> {
        self.terms.iter().flat_map(|term| [Some(term.path.clone()), term.kinds.clone()]).flatten().collect()
    }

    /// Returns whether the vectors are encoded by a dictionary.
    pub(crate) fn has_dictionary(&self) -> bool {
        fn within(data_type: &DataType) -> bool {
            match data_type {
                DataType::Dictionary(..) => true,
                DataType::RunEndEncoded(_, values) => within(values.data_type()),
                DataType::FixedSizeList(item, _)
                | DataType::List(item)
                | DataType::LargeList(item)
                | DataType::ListView(item)
                | DataType::LargeListView(item) => within(item.data_type()),
                _ => false,
            }
        }
        self.terms.iter().any(|term| within(&term.data_type))
    }

    /// Determines the number of components from the first row of `arrays` (the columns in component
    /// order) that is not null or empty. Returns whether the number is known.
    pub(crate) fn settle(&mut self, path: &Path, arrays: &[ArrayRef]) -> Result<bool> {
        if self.dim.is_none()
            && let ([array], [term]) = (arrays, self.terms.as_slice())
            && let Some(lengths) =
                flatten::lengths(array, term.how(&[])).map_err(|wrong| self.wrong(path, 0, 0, wrong))?
        {
            let fixed = numbers(&term.data_type, term.word).map_or(0, |found| found.fixed);
            let whole = lengths.iter().try_fold(fixed, |product, &n| product.checked_mul(n));
            self.dim = Some(components(path, term, whole.unwrap_or(0))?);
            self.lengths = lengths;
        }
        Ok(self.dim.is_some())
    }

    /// Writes `arrays` (the columns in component order, all of one length) into `out`, row-major.
    /// `first` is the file's row at which the arrays begin; errors count from there.
    pub(crate) fn copy<N: VectorFloat>(
        &self,
        path: &Path,
        arrays: &[ArrayRef],
        first: u64,
        out: &mut [N],
    ) -> Result<()> {
        let dim = self.dim.unwrap_or(0).max(1);
        let rows = out.len() / dim;
        if arrays.len() != self.terms.len() || arrays.iter().any(|a| a.len() != rows) {
            return Err(Error::format(path, "its columns differ in length"));
        }
        let width = dim / arrays.len().max(1);
        for (at, (array, term)) in arrays.iter().zip(&self.terms).enumerate() {
            if term.kinds.is_some()
                && let Some(row) = sparse(array, &term.fields)
            {
                let what = format!(
                    "row {}: a sparse vector of Spark's in column \"{}\"; write pyspark.ml.functions.vector_to_array of it, which is dense",
                    first + row as u64,
                    term.name
                );
                return Err(Error::format(path, what));
            }
            let mut slots = ComponentSlots { out, dim, at: at * width, width };
            slots.fill(array, term.how(&self.lengths)).map_err(|wrong| self.wrong(path, first, at, wrong))?;
        }
        Ok(())
    }

    /// Returns the bytes of a component in an Arrow array, the widest if types differ; for bits,
    /// the bytes of the byte that holds them.
    pub(crate) fn component_bytes(&self) -> u64 {
        self.component
    }

    /// Returns the bytes of a row's numbers in Arrow arrays, without offsets and validity.
    pub(crate) fn row_bytes(&self) -> u64 {
        let dim = self.dim.unwrap_or(0) as u64;
        match self.dtype {
            Dtype::Bits => dim.div_ceil(8),
            _ => dim.saturating_mul(self.component),
        }
    }

    /// Returns the number of stored values of a row: its numbers, or the byte strings or bytes from
    /// which they are read.
    pub(crate) fn values_of_row(&self) -> u64 {
        use DataType::{Binary, BinaryView, FixedSizeBinary, LargeBinary};
        match self.terms.as_slice() {
            [
                VectorColumn {
                    word: Some(_), data_type: Binary | LargeBinary | BinaryView | FixedSizeBinary(_), ..
                },
            ] => 1,
            [VectorColumn { word: Some(_), .. }] => self.row_bytes(),
            _ => self.dim.unwrap_or(0) as u64,
        }
    }

    /// Returns the bytes of a row's offsets and lengths, in Arrow arrays and while rows are copied.
    pub(crate) fn place_bytes(&self) -> u64 {
        /// An offset and a length, or a view; and a start index during the copy.
        const ENTRY: u64 = 24;
        let mut entries = 1u64;
        let mut bytes = ENTRY * self.terms.len() as u64;
        let outer = self.lengths.len().saturating_sub(1);
        for &length in &self.lengths[..outer] {
            entries = entries.saturating_mul(length as u64);
            bytes = bytes.saturating_add(entries.saturating_mul(ENTRY));
        }
        // Dictionary-encoded numbers are gathered into a new array.
        let gathered = if self.has_dictionary() {
            self.row_bytes().saturating_add(self.dim.unwrap_or(0) as u64 * ENTRY)
        } else {
            0
        };
        bytes.saturating_add(gathered)
    }

    /// Returns the name of the column that holds component `component`.
    pub(crate) fn column_of(&self, component: usize) -> &str {
        self.name(if self.names.len() == 1 { 0 } else { component })
    }

    fn name(&self, component: usize) -> &str {
        self.names.get(component).map_or("", String::as_str)
    }

    /// Converts a fault in the rows of `path` from `first` on. `column` is the index among the
    /// vectors' columns.
    fn wrong(&self, path: &Path, first: u64, column: usize, wrong: FlattenError) -> Error {
        let name = self.name(column);
        match wrong {
            FlattenError::Ragged { row, expected, found } => {
                Error::Ragged { path: path.into(), row: first + row as u64, expected, found }
            }
            FlattenError::Type(found) => Error::ColumnType {
                path: path.into(),
                column: name.into(),
                found: found.to_string(),
                instead: String::new(),
            },
            FlattenError::Damaged(what) => Error::format(path, format!("column \"{name}\" {what}")),
        }
    }
}

/// The largest number of components: the limit of an Arrow fixed-size list.
const MAX_COMPONENTS: usize = i32::MAX as usize;

/// Returns the number of components of vectors that have `fixed` elements, or bytes, in each row.
fn components(path: &Path, term: &VectorColumn, fixed: usize) -> Result<usize> {
    let name = &term.name;
    let found = match term.word {
        None => Some(fixed),
        Some(word) => flatten::components(word, fixed),
    };
    match (found, term.word) {
        (Some(0), _) => Err(Error::format(path, format!("column \"{name}\" holds vectors of no components"))),
        (Some(found), _) if found <= MAX_COMPONENTS => Ok(found),
        (Some(_), _) => Err(Error::format(
            path,
            format!("column \"{name}\" holds vectors of more than {MAX_COMPONENTS} components"),
        )),
        (None, word) => {
            let word = word.unwrap_or(Dtype::F32).name();
            let what =
                format!("column \"{name}\": {fixed} bytes in a row, which are not a whole number of {word} components");
            Err(Error::format(path, what))
        }
    }
}

/// Returns the first row that is a sparse Spark vector. `fields` are the names of the fields that
/// lead to the values.
fn sparse(array: &ArrayRef, fields: &[String]) -> Option<usize> {
    let mut at = array;
    for name in fields.split_last()?.1 {
        at = at.as_struct_opt()?.column_by_name(name)?;
    }
    let kinds = at.as_struct_opt()?.column_by_name(SPARK[0])?.as_primitive_opt::<Int8Type>()?;
    (0..kinds.len()).find(|&row| at.is_valid(row) && kinds.is_valid(row) && kinds.value(row) != 1)
}

/// The rank of a column that is read only if the user names it.
const NAMED_ONLY: usize = usize::MAX;

/// The numbers that a type holds.
struct NumericType {
    dtype: Dtype,
    /// Bytes of one number in an Arrow array.
    component: u64,
    /// The numbers of an element (or its bytes, if read as a number type), without the factor of
    /// the lists of any length.
    fixed: usize,
    /// Whether there are lists of any length.
    any_length: bool,
    /// Whether the type is a list at all.
    list: bool,
    /// How likely the type holds vectors. If the user names no column, the lowest rank is taken.
    rank: usize,
}

/// Returns the numbers of a type: of the type itself, of lists of numbers to any depth, or of bytes
/// with a number type.
fn numbers(data_type: &DataType, word: Option<Dtype>) -> Option<NumericType> {
    use DataType::*;
    let plain = |dtype: Dtype, component: usize, rank: usize| {
        let component = component as u64;
        Some(NumericType { dtype, component, fixed: 1, any_length: false, list: false, rank })
    };
    let list = |item: &Field, size: Option<usize>, rank: usize| {
        let within = numbers(item.data_type(), word)?;
        Some(NumericType {
            fixed: within.fixed.saturating_mul(size.unwrap_or(1)),
            any_length: within.any_length || size.is_none(),
            // Lists in lists are less likely vectors.
            rank: within.rank.max(if within.list { 1 } else { rank }),
            list: true,
            ..within
        })
    };
    match (data_type, word) {
        (List(item) | LargeList(item), _) => list(item, None, 0),
        (ListView(item) | LargeListView(item), _) => list(item, None, 1),
        (FixedSizeList(item, size), _) => list(item, Some(usize::try_from(*size).ok()?), 0),
        (Dictionary(_, values), _) => Some(NumericType { rank: 1, ..numbers(values, word)? }),
        (RunEndEncoded(_, values), _) => Some(NumericType { rank: 1, ..numbers(values.data_type(), word)? }),
        // A column of type Null is read as null vectors or as null components.
        (Null, _) => Some(NumericType { any_length: true, list: true, ..plain(Dtype::F32, 4, NAMED_ONLY)? }),
        (Binary | LargeBinary | BinaryView, Some(word)) => {
            Some(NumericType { any_length: true, list: true, ..plain(word, word.bytes(), NAMED_ONLY)? })
        }
        (FixedSizeBinary(size), Some(word)) => {
            let fixed = usize::try_from(*size).ok()?;
            Some(NumericType { fixed, list: true, ..plain(word, word.bytes(), NAMED_ONLY)? })
        }
        (UInt8 | Int8, Some(word)) => plain(word, word.bytes(), NAMED_ONLY),
        (_, Some(_)) => None,
        (Float16, None) => plain(Dtype::F16, 2, 0),
        (Float32, None) => plain(Dtype::F32, 4, 0),
        (Float64, None) => plain(Dtype::F64, 8, 0),
        (UInt8, None) => plain(Dtype::U8, 1, 0),
        (Int8, None) => plain(Dtype::I8, 1, 0),
        (Decimal32(..), None) => plain(Dtype::Decimal, 4, 1),
        (Decimal64(..), None) => plain(Dtype::Decimal, 8, 1),
        (Decimal128(..), None) => plain(Dtype::Decimal, 16, 1),
        (Decimal256(..), None) => plain(Dtype::Decimal, 32, 1),
        (UInt16, None) => plain(Dtype::U16, 2, 2),
        (UInt32, None) => plain(Dtype::U32, 4, 2),
        (UInt64, None) => plain(Dtype::U64, 8, 2),
        (Int16, None) => plain(Dtype::I16, 2, 2),
        (Int32, None) => plain(Dtype::I32, 4, 2),
        (Int64, None) => plain(Dtype::I64, 8, 2),
        // Booleans take a byte each while they are decoded.
        (Boolean, None) => plain(Dtype::Bool, 1, 2),
        _ => None,
    }
}

/// Returns the error that a column holds no numbers, with a way to read it if there is one.
fn unusable(path: &Path, term: &VectorColumn) -> Error {
    use DataType::*;
    let name = &term.name;
    let holds_bytes =
        |data_type: &DataType| matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_));
    let instead = match &term.data_type {
        _ if term.word.is_some() => "; a type after a colon applies only to binary columns and lists of u8".into(),
        data_type if holds_bytes(data_type) => bytes_instead(name),
        FixedSizeList(item, _) | List(item) | LargeList(item) if holds_bytes(item.data_type()) => bytes_instead(name),
        Struct(fields) => {
            let lists = |f: &&Arc<Field>| numbers(f.data_type(), None).is_some_and(|found| found.list);
            let numeric = |f: &&Arc<Field>| numbers(f.data_type(), None).is_some();
            let field = fields.iter().find(lists).or_else(|| fields.iter().find(numeric)).or(fields.first());
            let field = field.map_or("values", |f| f.name());
            format!("; name one of its fields, as `column` '{name}.{field}'")
        }
        Utf8 | LargeUtf8 | Utf8View => {
            "; write the text as numbers first (in DuckDB: CAST(column AS FLOAT[]), in Polars: str.json_decode)".into()
        }
        _ => String::new(),
    };
    Error::ColumnType { path: path.into(), column: name.clone(), found: term.data_type.to_string(), instead }
}

fn bytes_instead(name: &str) -> String {
    let words: Vec<&str> = WORDS.iter().skip(1).map(|word| word.name()).collect();
    format!("; say what its bytes are, as `column` '{name}:f32' (or {})", words.join(", "))
}

/// Returns the fields reduced to those to which `paths` lead.
pub(crate) fn pruned(fields: &Fields, paths: &[&[usize]]) -> Fields {
    let cut = |(i, field): (usize, &Arc<Field>)| {
        let within = within(paths, i)?;
        match field.data_type() {
            DataType::Struct(fields) if !within.iter().any(|path| path.is_empty()) => {
                let data_type = DataType::Struct(pruned(fields, &within));
                Some(Arc::new(field.as_ref().clone().with_data_type(data_type)))
            }
            _ => Some(field.clone()),
        }
    };
    fields.iter().enumerate().filter_map(cut).collect()
}

/// Returns the paths that lead to or into field `i`, without their first step; `None` if there are
/// none.
pub(crate) fn within<'a>(paths: &[&'a [usize]], i: usize) -> Option<Vec<&'a [usize]>> {
    let paths: Vec<&[usize]> = paths
        .iter()
        .filter_map(|path| path.split_first().filter(|(first, _)| **first == i))
        .map(|(_, rest)| rest)
        .collect();
    (!paths.is_empty()).then_some(paths)
}

/// Returns the indices of the named columns, in the order named.
pub(crate) fn positions(path: &Path, schema: &Schema, names: &[String]) -> Result<Vec<usize>> {
    let found = |name: &String| position(path, schema, name)?.ok_or_else(|| no_such(path, schema, name));
    names.iter().map(found).collect()
}

/// Returns the schema of the columns of these names, as they are stored.
pub(crate) fn stored_columns(path: &Path, schema: &Schema, names: &[String]) -> Result<SchemaRef> {
    let columns = positions(path, schema, names)?;
    let fields: Vec<_> = columns.iter().map(|&at| schema.fields()[at].clone()).collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// Returns the columns that a job reads, as indices in `schema`, each once and ascending: those of the vectors, which
/// `options` select, and those named `others`. `name` is what errors call the source.
///
/// ```
/// use arrow::datatypes::{DataType, Field, Schema};
/// use lowland_io::{OpenOptions, columns_to_read};
///
/// let field = |name: &str| Field::new(name, DataType::Float32, false);
/// let schema = Schema::new(vec![field("pc0"), field("weight"), field("pc1"), field("id")]);
/// let options = OpenOptions { column: Some("pc*".into()), ..OpenOptions::default() };
/// assert_eq!(columns_to_read("rows", &schema, &options, &["id".into()])?, [0, 2, 3]);
/// let missing = columns_to_read("rows", &schema, &options, &["key".into()]).unwrap_err().to_string();
/// assert!(missing.contains("weight"), "{missing}");
/// # Ok::<(), lowland_io::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::NoSuchColumn`] names the columns that there are; the others are those of [`OpenOptions::column`].
pub fn columns_to_read(name: &str, schema: &Schema, options: &OpenOptions, others: &[String]) -> Result<Vec<usize>> {
    let name = Path::new(name);
    let want = options.column.clone().map_or(ColumnRequest::Any, ColumnRequest::Asked);
    let mut columns = VectorColumns::resolve(name, schema, &want)?.columns;
    columns.extend(positions(name, schema, others)?);
    columns.sort_unstable();
    columns.dedup();
    Ok(columns)
}

/// Returns the index of the column of this name. A name that two columns have is an error, and a column that
/// cannot be read.
fn position(path: &Path, schema: &Schema, name: &str) -> Result<Option<usize>> {
    let mut found = schema.fields().iter().enumerate().filter(|(_, f)| f.name() == name).map(|(i, _)| i);
    let first = found.next();
    first.map_or(Ok(()), |index| wide_integers::check(path, schema, index))?;
    match found.next() {
        None => Ok(first),
        Some(_) => Err(Error::format(path, format!("two columns are named \"{name}\"; rename or drop one of them"))),
    }
}

fn no_such(path: &Path, schema: &Schema, asked: &str) -> Error {
    Error::NoSuchColumn {
        path: path.into(),
        asked: asked.into(),
        available: schema.fields().iter().map(|f| f.name().clone()).collect(),
    }
}

/// Returns the columns that `asked` names: the column of exactly this name, else each of the
/// comma-separated parts. A part with `*` stands for the columns that it matches, in natural order.
fn find(path: &Path, schema: &Schema, asked: &str) -> Result<Vec<VectorColumn>> {
    if let Some(one) = named(path, schema, asked)? {
        return Ok(vec![one]);
    }
    let mut found: Vec<VectorColumn> = Vec::new();
    for part in asked.split(',').map(str::trim) {
        let mut matched = match named(path, schema, part)? {
            Some(one) => vec![one],
            None => matching(path, schema, part)?,
        };
        if matched.is_empty() {
            return Err(no_such(path, schema, part));
        }
        matched.retain(|term| !found.iter().any(|other| other.path == term.path));
        found.extend(matched);
    }
    Ok(found)
}

/// Returns the column of this name; else the struct's field to which the name leads; else either of
/// these for the part before a colon, with the number type behind the colon.
fn named(path: &Path, schema: &Schema, name: &str) -> Result<Option<VectorColumn>> {
    let plain = |name: &str| match position(path, schema, name)? {
        Some(i) => Ok(Some(vec![i])),
        None => Ok(lead(schema.fields(), name)),
    };
    if let Some(found) = plain(name)? {
        return Ok(VectorColumn::new(schema.fields(), name, found));
    }
    let Some((base, word)) = name.rsplit_once(':') else { return Ok(None) };
    let Some(found) = plain(base)? else { return Ok(None) };
    let Some(&known) = WORDS.iter().find(|known| known.name() == word.trim().to_ascii_lowercase()) else {
        let words: Vec<&str> = WORDS.iter().map(|word| word.name()).collect();
        let what = format!("bytes of column \"{base}\" cannot be read as \"{word}\"; {} are known", words.join(", "));
        return Err(Error::format(path, what));
    };
    Ok(VectorColumn::new(schema.fields(), name, found).map(|term| VectorColumn { word: Some(known), ..term }))
}

/// Returns the path to which `name` leads within structs. The name has dots between field names,
/// which may contain dots themselves.
fn lead(fields: &Fields, name: &str) -> Option<Vec<usize>> {
    fields.iter().enumerate().find_map(|(i, field)| {
        let DataType::Struct(within) = field.data_type() else { return None };
        let rest = name.strip_prefix(field.name().as_str())?.strip_prefix('.')?;
        let exact = within.iter().position(|f| f.name() == rest).map(|at| vec![at]);
        let found = exact.or_else(|| lead(within, rest))?;
        Some([vec![i], found].concat())
    })
}

fn matching(path: &Path, schema: &Schema, part: &str) -> Result<Vec<VectorColumn>> {
    if !part.contains('*') {
        return Ok(Vec::new());
    }
    // Only `*` is special, because names may contain `?` and brackets.
    let pattern = part.split('*').map(glob::Pattern::escape).collect::<Vec<_>>().join("*");
    let Ok(pattern) = glob::Pattern::new(&pattern) else {
        return Ok(Vec::new());
    };
    // Columns are matched first; if none matches, the fields of structs.
    let mut names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    names.retain(|name| pattern.matches(name));
    if names.is_empty() {
        let in_structs = schema.fields().iter().filter_map(|field| match field.data_type() {
            DataType::Struct(within) => Some(within.iter().map(move |f| format!("{}.{}", field.name(), f.name()))),
            _ => None,
        });
        names = in_structs.flatten().filter(|name| pattern.matches(name)).collect();
    }
    names.sort_by(|a, b| natural(a, b));
    let term = |name: &String| named(path, schema, name)?.ok_or_else(|| no_such(path, schema, name));
    names.iter().map(term).collect()
}

/// Compares names so that numbers in them count as numbers: pc2 before pc10.
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

/// Removes the leading digits from `text` and returns them without leading zeros.
fn take_number<'a>(text: &mut &'a [u8]) -> &'a [u8] {
    let end = text.iter().position(|c| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    let zeros = digits.iter().take_while(|&&c| c == b'0').count();
    &digits[zeros..]
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
        let want = asked.map_or(ColumnRequest::Any, |a| ColumnRequest::Asked(a.into()));
        let found = VectorColumns::resolve(Path::new("f"), &schema(fields), &want);
        match (found, expected) {
            (Ok(v), Ok(names)) => assert_eq!(v.names, names, "{v:?}"),
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

    #[test]
    fn other_list_types_are_taken_where_no_float_list_is() {
        let fixed = |item: DataType, n| DataType::FixedSizeList(Field::new("item", item, true).into(), n);
        let (floats, ids) = (list(DataType::Float32), list(DataType::Int64));
        check(&[("ids", ids.clone()), ("v", floats.clone())], None, Ok(&["v"]));
        check(&[("ids", ids.clone()), ("grid", fixed(fixed(DataType::Float32, 2), 2))], None, Ok(&["grid"]));
        check(&[("ids", ids.clone()), ("id", DataType::Int64)], None, Ok(&["ids"]));
        check(&[("ids", ids.clone()), ("mask", list(DataType::Boolean))], None, Err("\"ids\", \"mask\"; name one"));
        check(&[("v", list(DataType::Decimal128(9, 3))), ("ids", ids)], None, Ok(&["v"]));
        check(&[("v", floats), ("w", list(DataType::UInt8))], None, Err("\"v\", \"w\"; name one"));
        check(&[("blob", DataType::Binary)], None, Err("`column` 'blob:f32'"));
        check(&[("none", DataType::Null)], None, Err("no column holds vectors"));
    }

    #[test]
    fn byte_columns_take_a_type() {
        let list_of = |item| DataType::List(Field::new("item", item, true).into());
        let fields = [
            ("blob", DataType::Binary),
            ("wide", DataType::FixedSizeBinary(12)),
            ("bytes", list_of(DataType::UInt8)),
            ("odd:f32", DataType::BinaryView),
            ("text", DataType::Utf8),
            ("v", list_of(DataType::Float32)),
        ];
        check(&fields, Some("blob:f32"), Ok(&["blob:f32"]));
        check(&fields, Some("wide:bits"), Ok(&["wide:bits"]));
        check(&fields, Some("wide:f64"), Err("12 bytes in a row, which are not a whole number of f64"));
        check(&fields, Some("bytes:bf16"), Ok(&["bytes:bf16"]));
        check(&fields, Some("odd:f32:f16"), Ok(&["odd:f32:f16"]));
        // An exact name wins; its bytes then still need a number type.
        check(&fields, Some("odd:f32"), Err("`column` 'odd:f32:f32'"));
        check(&fields, Some("blob"), Err("say what its bytes are, as `column` 'blob:f32' (or f16, bf16,"));
        check(&fields, Some("blob:f33"), Err("cannot be read as \"f33\"; f32, f16,"));
        check(&fields, Some("v:f32"), Err("applies only to binary columns"));
        check(&fields, Some("none:f32"), Err("no column \"none:f32\""));
        check(&fields, Some("blob:f32,wide:f32"), Err("cannot be read"));
        check(&fields, Some("text"), Err("FLOAT[]"));
    }

    #[test]
    fn fields_of_structs_are_found_by_their_path() {
        let within = |fields: &[(&str, DataType)]| DataType::Struct(schema(fields).fields().clone());
        let spark = [
            ("type", DataType::Int8),
            ("size", DataType::Int32),
            ("indices", list(DataType::Int32)),
            ("values", list(DataType::Float64)),
        ];
        let inner = within(&[("values", list(DataType::Float32)), ("a.b", list(DataType::Float32))]);
        let fields = [
            ("emb", within(&[("n", DataType::Int64), ("values", list(DataType::Float32))])),
            ("emb.values", DataType::Float32),
            ("deep", within(&[("x", DataType::Float32), ("emb", inner), ("y", DataType::Float32)])),
            ("features", within(&spark)),
        ];
        check(&fields, Some("emb.values"), Ok(&["emb.values"]));
        let found = |asked: &str| {
            let vectors =
                VectorColumns::resolve(Path::new("f"), &schema(&fields), &ColumnRequest::Asked(asked.into())).unwrap();
            vectors.paths()
        };
        // The exact name wins.
        assert_eq!(found("emb.values"), [[1]]);
        assert_eq!(found("deep.emb.values"), [[2, 1, 0]]);
        assert_eq!(found("deep.emb.a.b"), [[2, 1, 1]]);
        assert_eq!(found("deep.y, deep.x"), [[2, 2], [2, 0]]);
        for asked in ["features", "features.values"] {
            assert_eq!(found(asked), [[3, 3], [3, 0]]);
        }
        check(&fields, Some("deep"), Err("name one of its fields, as `column` 'deep.x'"));
        check(&fields, Some("deep.z"), Err("no column \"deep.z\""));
        check(&fields[2..], None, Ok(&["features"]));
        check(&[("v", list(DataType::UInt8)), fields[3].clone()], None, Ok(&["v"]));
        let points = [("p", within(&[("x10", DataType::Float32), ("x9", DataType::Float32)]))];
        check(&points, Some("p.x*"), Ok(&["p.x9", "p.x10"]));
    }

    #[test]
    fn two_columns_of_one_name_are_refused() {
        let fields = [("v", list(DataType::Float32)), ("v", list(DataType::Float32)), ("id", DataType::Int64)];
        for asked in [None, Some("v"), Some("v*"), Some("id,v"), Some("v:f32"), Some("v.x")] {
            let expected = if asked == Some("v.x") { "no column" } else { "two columns are named \"v\"" };
            check(&fields, asked, Err(expected));
        }
        let twice = schema(&fields[..2]);
        assert!(positions(Path::new("f"), &twice, &["v".into()]).is_err());
    }
}
