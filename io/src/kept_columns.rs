//! The kept columns of a map, beside its coordinates, in the types that the file's format can hold.
//!
//! What must hold:
//! - A column that the format cannot hold is refused before anything is written.
//! - A dictionary column is a dictionary column in the file, with the same value in each row.
//! - At most [`MOST_CATEGORIES`] values of a dictionary are held in memory.
//!
//! Readers of Arrow files accept one dictionary for a column, and need it before the rows. So the
//! values are first collected by [`add_values`](KeptColumns::add_values). A column whose values were not collected, or
//! are too many, is written as plain values. Parquet has no dictionary type: the dictionary is
//! declared only in the Arrow schema in the file's metadata, and no values are held unless the
//! keys' type is narrower than 32 bits.

use std::collections::HashMap;
use std::slice::{Iter, IterMut};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, FixedSizeListArray, GenericListArray, GenericListViewArray, Int32Array,
    MapArray, OffsetSizeTrait, RecordBatch, new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, FieldRef, Int8Type, Int16Type, Int32Type, Int64Type, Schema, SchemaRef, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::ipc::writer::FileWriter;
use arrow::row::{RowConverter, SortField};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, add_encoded_arrow_schema_to_metadata};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use crate::catch_panic::catch_panic;
use crate::parquet_types::{descriptor, may_not_fit, stored_field, told_type};
use crate::recast::{recast, structs};
use crate::unify::{plain_field, type_text};

/// The most values of a dictionary, and the most bytes of these values. A column with more is
/// written as plain values.
const MOST_CATEGORIES: usize = 1 << 16;
const MOST_BYTES: usize = 2 << 20;

type ArrowResult<T> = std::result::Result<T, ArrowError>;

/// The format of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnFormat {
    Parquet,
    Arrow,
}

/// The columns of a file.
pub(crate) struct KeptColumns {
    format: ColumnFormat,
    columns: Vec<KeptColumn>,
}

struct KeptColumn {
    /// The declared type, with its dictionaries.
    given: FieldRef,
    /// The type in which values are handed in, without dictionaries.
    plain: FieldRef,
    /// The type in which values are written.
    stored: FieldRef,
    /// The values of the column's dictionaries, in the order in which they appear in its type.
    categories: Vec<DictionaryValues>,
    /// Whether it is an ordered dictionary whose `categories` are in that order.
    ordered: bool,
}

impl KeptColumns {
    /// Prepares the columns of `schema` for a file of `format`. An error text names the column and
    /// the ways out.
    pub(crate) fn new(format: ColumnFormat, schema: &Schema) -> std::result::Result<Self, String> {
        let column = |given: &FieldRef| {
            let refused = |why: String| {
                let (name, kind) = (given.name(), type_text(given));
                let (this, other) = match format {
                    ColumnFormat::Parquet => ("Parquet", ".arrow"),
                    ColumnFormat::Arrow => ("Arrow", ".parquet"),
                };
                format!(
                    "{this} cannot hold column \"{name}\" of type {kind}{why}; write {other} instead, cast it, or \
                     leave it out"
                )
            };
            let plain = plain_field(given);
            let stored = match format {
                ColumnFormat::Arrow => plain.clone(),
                ColumnFormat::Parquet => stored_field(&plain).ok_or_else(|| refused(String::new()))?,
            };
            let mut categories = Vec::new();
            each_dictionary(given.data_type(), &mut |key, values| categories.push(DictionaryValues::new(key, values)));
            let column = KeptColumn { given: given.clone(), plain, stored, categories, ordered: false };
            check_writable(format, &column).map_err(|why| refused(format!(" ({why})")))?;
            Ok::<_, String>(column)
        };
        let columns = schema.fields().iter().map(column).collect::<std::result::Result<_, _>>()?;
        Ok(KeptColumns { format, columns })
    }

    /// Returns the names of the columns whose values should be inspected before they are written.
    pub(crate) fn columns_to_scan(&self) -> Vec<String> {
        let unsure = self.columns.iter().filter(|column| match self.format {
            // The declared key type may be too narrow for the column's values.
            ColumnFormat::Parquet => {
                may_not_fit(column.plain.data_type()) || column.categories.iter().any(DictionaryValues::is_narrow)
            }
            ColumnFormat::Arrow => !column.categories.is_empty(),
        });
        unsure.map(|column| column.given.name().clone()).collect()
    }

    /// Takes the values of an ordered dictionary in their order, before rows are inspected. Returns false if a file of
    /// this format does not keep the order.
    pub(crate) fn order(&mut self, name: &str, values: &ArrayRef) -> ArrowResult<bool> {
        let column = self.columns.iter_mut().find(|column| column.given.name() == name);
        let Some(column) = column.filter(|_| self.format == ColumnFormat::Arrow) else { return Ok(false) };
        let ([categories], DataType::Dictionary(..)) = (column.categories.as_mut_slice(), column.given.data_type())
        else {
            return Ok(false);
        };
        categories.add(&recast(values, column.plain.data_type())?)?;
        column.ordered = categories.known;
        Ok(column.ordered)
    }

    /// Inspects rows of a column. The error is the first row of `array` that cannot be written, and
    /// why.
    pub(crate) fn add_values(&mut self, name: &str, array: &ArrayRef) -> std::result::Result<(), (usize, String)> {
        let Some(column) = self.columns.iter_mut().find(|column| column.given.name() == name) else { return Ok(()) };
        let stored = column.stored.data_type();
        if recast(array, stored).is_err() {
            let fault = (0..array.len()).find_map(|row| Some((row, recast(&array.slice(row, 1), stored).err()?)));
            if let Some((row, fault)) = fault {
                let kind = type_text(&column.given);
                let what = format!(
                    "column \"{name}\" has a value of {kind} that Parquet cannot store ({fault}); write .arrow \
                     instead, cast it, or leave it out"
                );
                return Err((row, what));
            }
        }
        if self.format == ColumnFormat::Parquet && !column.categories.iter().any(DictionaryValues::is_narrow) {
            return Ok(());
        }
        let failed = |e: ArrowError| (0, format!("column \"{name}\": {e}"));
        gather_values(array, column.given.data_type(), &mut column.categories.iter_mut()).map_err(failed)
    }

    /// Decides the dictionaries from the values inspected. Returns the schema of the batches handed
    /// in, and the schema of the file.
    pub(crate) fn settle(&mut self) -> ArrowResult<(SchemaRef, SchemaRef)> {
        for column in &mut self.columns {
            for categories in &mut column.categories {
                categories.settle(self.format)?;
            }
            let declared = settled(self.format, column.given.data_type(), &mut column.categories.iter());
            let declared = if self.format == ColumnFormat::Parquet { told_type(&declared) } else { declared };
            let field = column.given.as_ref().clone().with_data_type(declared);
            // Not declared as ordered unless the values are in that order. Readers of Parquet take the values
            // in the order in which they occur.
            let ordered = column.ordered && matches!(field.data_type(), DataType::Dictionary(..));
            let field = Arc::new(field.with_dict_is_ordered(ordered));
            if self.format == ColumnFormat::Arrow {
                column.stored = field.clone();
            }
            column.given = match self.format {
                ColumnFormat::Arrow => column.given.clone(),
                ColumnFormat::Parquet => field,
            };
        }
        let schema = |field: fn(&KeptColumn) -> &FieldRef| -> SchemaRef {
            Arc::new(Schema::new(self.columns.iter().map(|c| field(c).clone()).collect::<Vec<_>>()))
        };
        Ok((schema(|c| &c.plain), schema(|c| &c.stored)))
    }

    /// Converts a batch from the types in which it was handed in to those of the file.
    pub(crate) fn convert(&self, batch: &RecordBatch, stored: &SchemaRef) -> ArrowResult<RecordBatch> {
        let columns = batch.columns().iter().zip(&self.columns).map(|(array, column)| match self.format {
            ColumnFormat::Parquet => recast(array, column.stored.data_type()),
            ColumnFormat::Arrow => {
                encode(array, column.given.data_type(), column.stored.data_type(), &mut column.categories.iter())
            }
        });
        RecordBatch::try_new(stored.clone(), columns.collect::<ArrowResult<_>>()?)
    }

    /// Returns the options of a Parquet writer for these columns.
    pub(crate) fn options(
        &self,
        mut properties: WriterProperties,
    ) -> std::result::Result<ArrowWriterOptions, ParquetError> {
        let fields =
            |field: fn(&KeptColumn) -> &FieldRef| self.columns.iter().map(|c| field(c).clone()).collect::<Vec<_>>();
        let (told, logical) = (fields(|c| &c.given), fields(|c| &c.plain));
        add_encoded_arrow_schema_to_metadata(&Schema::new(told), &mut properties);
        let descriptor = descriptor(&Schema::new(fields(|c| &c.stored)), &logical)?;
        Ok(ArrowWriterOptions::new()
            .with_properties(properties)
            .with_skip_arrow_metadata(true)
            .with_parquet_schema(descriptor))
    }
}

/// Tests that the format holds a column, by writing zero rows and one null to memory.
fn check_writable(format: ColumnFormat, column: &KeptColumn) -> std::result::Result<(), String> {
    let field = Arc::new(column.stored.as_ref().clone().with_nullable(true));
    let plain = Arc::new(column.plain.as_ref().clone().with_nullable(true));
    let write = || -> std::result::Result<(), String> {
        let text = |e: ArrowError| e.to_string();
        let schema = Arc::new(Schema::new(vec![field.clone()]));
        let null = RecordBatch::try_new(schema.clone(), vec![new_null_array(field.data_type(), 1)]).map_err(text)?;
        let batches = [RecordBatch::new_empty(schema.clone()), null];
        match format {
            ColumnFormat::Parquet => {
                let failed = |e: ParquetError| e.to_string();
                let descriptor = descriptor(&schema, std::slice::from_ref(&plain)).map_err(failed)?;
                let options = ArrowWriterOptions::new().with_parquet_schema(descriptor);
                let mut writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options).map_err(failed)?;
                batches.iter().try_for_each(|batch| writer.write(batch)).map_err(failed)?;
                writer.close().map(drop).map_err(failed)
            }
            ColumnFormat::Arrow => {
                let mut writer = FileWriter::try_new(Vec::new(), &schema).map_err(text)?;
                batches.iter().try_for_each(|batch| writer.write(batch)).map_err(text)?;
                writer.finish().map_err(text)
            }
        }
    };
    catch_panic(write).unwrap_or_else(|| Err("the type is not supported".into()))
}

/// The values of one dictionary, each once, numbered in order of appearance.
struct DictionaryValues {
    key: DataType,
    values: DataType,
    converter: Option<RowConverter>,
    codes: HashMap<Box<[u8]>, i32>,
    bytes: usize,
    /// Whether values were collected and did not exceed the limits.
    known: bool,
    /// The dictionary, set by `settle` if the file gets one.
    dictionary: Option<ArrayRef>,
}

impl DictionaryValues {
    fn new(key: &DataType, values: &DataType) -> Self {
        // A type whose values cannot be compared has no converter and is written as plain values.
        let converter = RowConverter::new(vec![SortField::new(values.clone())]).ok();
        let values = values.clone();
        DictionaryValues {
            key: key.clone(),
            values,
            converter,
            codes: HashMap::new(),
            bytes: 0,
            known: false,
            dictionary: None,
        }
    }

    fn is_narrow(&self) -> bool {
        self.key.primitive_width().is_some_and(|bytes| bytes < 4)
    }

    fn add(&mut self, array: &ArrayRef) -> ArrowResult<()> {
        let Some(converter) = &self.converter else { return Ok(()) };
        self.known = true;
        let rows = converter.convert_columns(std::slice::from_ref(array))?;
        for (at, row) in rows.iter().enumerate() {
            if array.is_null(at) || self.codes.contains_key(row.data()) {
                continue;
            }
            self.bytes += row.data().len();
            if self.codes.len() == MOST_CATEGORIES || self.bytes > MOST_BYTES {
                (self.converter, self.codes, self.known) = (None, HashMap::new(), false);
                return Ok(());
            }
            self.codes.insert(row.data().into(), self.codes.len() as i32);
        }
        Ok(())
    }

    /// Decides the type of the keys and, for Arrow, the dictionary.
    fn settle(&mut self, format: ColumnFormat) -> ArrowResult<()> {
        let most: usize = match self.key {
            DataType::Int8 => 1 << 7,
            DataType::UInt8 => 1 << 8,
            DataType::Int16 => 1 << 15,
            _ => 1 << 16,
        };
        if self.is_narrow() && (!self.known || self.codes.len() > most) {
            self.key = DataType::Int32;
        }
        if format == ColumnFormat::Parquet || !self.known {
            return Ok(());
        }
        let Some(converter) = &self.converter else { return Ok(()) };
        let mut values: Vec<(&[u8], i32)> = self.codes.iter().map(|(value, code)| (value.as_ref(), *code)).collect();
        values.sort_unstable_by_key(|(_, code)| *code);
        let parser = converter.parser();
        let columns = converter.convert_rows(values.iter().map(|(value, _)| parser.parse(value)))?;
        self.dictionary = columns.into_iter().next();
        Ok(())
    }

    /// Returns the type in the file.
    fn settled(&self) -> DataType {
        match &self.dictionary {
            Some(_) => DataType::Dictionary(Box::new(self.key.clone()), Box::new(self.values.clone())),
            None => self.values.clone(),
        }
    }

    fn encode(&self, array: &ArrayRef) -> ArrowResult<ArrayRef> {
        let (Some(dictionary), Some(converter)) = (&self.dictionary, &self.converter) else { return Ok(array.clone()) };
        let rows = converter.convert_columns(std::slice::from_ref(array))?;
        let mut keys = Vec::with_capacity(array.len());
        for (at, row) in rows.iter().enumerate() {
            keys.push(match self.codes.get(row.data()) {
                _ if array.is_null(at) => None,
                Some(code) => Some(*code),
                None => return Err(ArrowError::DictionaryKeyOverflowError),
            });
        }
        let keys = cast(&Int32Array::from(keys), &self.key)?;
        macro_rules! coded {
            ($key:ty) => {
                Arc::new(DictionaryArray::<$key>::try_new(keys.as_primitive::<$key>().clone(), dictionary.clone())?)
            };
        }
        Ok(match self.key {
            DataType::Int8 => coded!(Int8Type),
            DataType::Int16 => coded!(Int16Type),
            DataType::Int64 => coded!(Int64Type),
            DataType::UInt8 => coded!(UInt8Type),
            DataType::UInt16 => coded!(UInt16Type),
            DataType::UInt32 => coded!(UInt32Type),
            DataType::UInt64 => coded!(UInt64Type),
            _ => coded!(Int32Type),
        })
    }
}

/// Calls `each` with the key type and the value type of every dictionary in a type, in order.
fn each_dictionary(data_type: &DataType, each: &mut dyn FnMut(&DataType, &DataType)) {
    use DataType::*;
    match data_type {
        Dictionary(key, values) => each(key, &crate::unify::plain(values)),
        List(item) | LargeList(item) | ListView(item) | LargeListView(item) | FixedSizeList(item, _) | Map(item, _) => {
            each_dictionary(item.data_type(), each);
        }
        Struct(fields) => fields.iter().for_each(|field| each_dictionary(field.data_type(), each)),
        _ => {}
    }
}

/// Returns a type in which dictionaries have the types that were decided.
fn settled(format: ColumnFormat, data_type: &DataType, categories: &mut Iter<'_, DictionaryValues>) -> DataType {
    use DataType::*;
    let item = |field: &FieldRef, categories: &mut Iter<'_, DictionaryValues>| -> FieldRef {
        let data_type = settled(format, field.data_type(), categories);
        Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(field.metadata().clone()))
    };
    match data_type {
        Dictionary(key, values) => match (format, categories.next()) {
            (ColumnFormat::Parquet, decided) => {
                let key = decided.map_or_else(|| key.clone(), |decided| Box::new(decided.key.clone()));
                Dictionary(key, values.clone())
            }
            (ColumnFormat::Arrow, Some(decided)) => decided.settled(),
            (ColumnFormat::Arrow, None) => values.as_ref().clone(),
        },
        List(field) => List(item(field, categories)),
        LargeList(field) => LargeList(item(field, categories)),
        ListView(field) => ListView(item(field, categories)),
        LargeListView(field) => LargeListView(item(field, categories)),
        FixedSizeList(field, size) => FixedSizeList(item(field, categories), *size),
        Map(entries, sorted) => Map(item(entries, categories), *sorted),
        Struct(fields) => Struct(fields.iter().map(|field| item(field, categories)).collect()),
        other => other.clone(),
    }
}

/// Adds the values of `array` to the dictionaries at the places where `declared` has them.
fn gather_values(
    array: &ArrayRef,
    declared: &DataType,
    categories: &mut IterMut<'_, DictionaryValues>,
) -> ArrowResult<()> {
    use DataType::*;
    match declared {
        Dictionary(..) => categories.next().map_or(Ok(()), |categories| categories.add(array)),
        List(item) => gather_values(array.as_list::<i32>().values(), item.data_type(), categories),
        LargeList(item) => gather_values(array.as_list::<i64>().values(), item.data_type(), categories),
        ListView(item) => gather_values(array.as_list_view::<i32>().values(), item.data_type(), categories),
        LargeListView(item) => gather_values(array.as_list_view::<i64>().values(), item.data_type(), categories),
        FixedSizeList(item, _) => gather_values(array.as_fixed_size_list().values(), item.data_type(), categories),
        Map(entries, _) => {
            let pairs: ArrayRef = Arc::new(array.as_map().entries().clone());
            gather_values(&pairs, entries.data_type(), categories)
        }
        Struct(fields) => {
            let columns = array.as_struct().columns().iter().zip(fields);
            columns.into_iter().try_for_each(|(column, field)| gather_values(column, field.data_type(), categories))
        }
        _ => Ok(()),
    }
}

/// Encodes `array` by dictionaries at the places where `declared` has them; `to` is the resulting
/// type.
fn encode(
    array: &ArrayRef,
    declared: &DataType,
    to: &DataType,
    categories: &mut Iter<'_, DictionaryValues>,
) -> ArrowResult<ArrayRef> {
    use DataType::*;
    Ok(match (declared, to) {
        (Dictionary(..), _) => match categories.next() {
            Some(categories) => categories.encode(array)?,
            None => array.clone(),
        },
        (List(from), List(to)) => lists::<i32>(array, from, to, categories)?,
        (LargeList(from), LargeList(to)) => lists::<i64>(array, from, to, categories)?,
        (ListView(from), ListView(to)) => views::<i32>(array, from, to, categories)?,
        (LargeListView(from), LargeListView(to)) => views::<i64>(array, from, to, categories)?,
        (FixedSizeList(from, _), FixedSizeList(to, size)) => {
            let array = array.as_fixed_size_list();
            let items = encode(array.values(), from.data_type(), to.data_type(), categories)?;
            let nulls = array.nulls().cloned();
            Arc::new(FixedSizeListArray::try_new_with_length(to.clone(), *size, items, nulls, array.len())?)
        }
        (Map(from, _), Map(to, sorted)) => {
            let array = array.as_map();
            let pairs: ArrayRef = Arc::new(array.entries().clone());
            let pairs = encode(&pairs, from.data_type(), to.data_type(), categories)?.as_struct().clone();
            let (offsets, nulls) = (array.offsets().clone(), array.nulls().cloned());
            Arc::new(MapArray::try_new(to.clone(), offsets, pairs, nulls, *sorted)?)
        }
        (Struct(from), Struct(to)) => {
            let array = array.as_struct();
            let columns = array.columns().iter().zip(from.iter().zip(to));
            let columns = columns.map(|(c, (from, to))| encode(c, from.data_type(), to.data_type(), categories));
            structs(to, columns.collect::<ArrowResult<_>>()?, array)?
        }
        _ => array.clone(),
    })
}

fn lists<O: OffsetSizeTrait>(
    array: &ArrayRef,
    from: &FieldRef,
    to: &FieldRef,
    categories: &mut Iter<'_, DictionaryValues>,
) -> ArrowResult<ArrayRef> {
    let array = array.as_list::<O>();
    let items = encode(array.values(), from.data_type(), to.data_type(), categories)?;
    Ok(Arc::new(GenericListArray::<O>::try_new(to.clone(), array.offsets().clone(), items, array.nulls().cloned())?))
}

fn views<O: OffsetSizeTrait>(
    array: &ArrayRef,
    from: &FieldRef,
    to: &FieldRef,
    categories: &mut Iter<'_, DictionaryValues>,
) -> ArrowResult<ArrayRef> {
    let array = array.as_list_view::<O>();
    let items = encode(array.values(), from.data_type(), to.data_type(), categories)?;
    let (offsets, sizes, nulls) = (array.offsets().clone(), array.sizes().clone(), array.nulls().cloned());
    Ok(Arc::new(GenericListViewArray::<O>::try_new(to.clone(), offsets, sizes, items, nulls)?))
}
