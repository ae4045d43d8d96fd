//! Conversion between Parquet and Arrow types where the parquet crate alone would lose something:
//! intervals, times in UTC, UUIDs, JSON, dictionaries.
//!
//! What must hold: a column that is read from one Parquet file and written to another has the same
//! values, and the same logical type for every reader.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, encode_arrow_schema};
use parquet::basic::{ConvertedType, EdgeInterpolationAlgorithm as Edges, LogicalType, Type as Physical};
use parquet::errors::Result;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder};
use parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type, TypePtr};

use crate::unify::plain_field;

const EXTENSION: &str = "ARROW:extension:name";
const EXTENSION_METADATA: &str = "ARROW:extension:metadata";
/// The metadata key by which the parquet crate marks a time in UTC.
pub(crate) const IN_UTC: &str = "adjusted_to_utc";
/// The metadata key for a Parquet logical type that Arrow cannot express.
const LOGICAL: &str = "PARQUET:logical_type";

/// A Parquet interval: months, days and milliseconds, four bytes each.
pub(crate) const INTERVAL: DataType = DataType::FixedSizeBinary(12);

/// Returns how a file is decoded, and the declared types of its columns. The two differ:
/// dictionaries are decoded as their values, and intervals as bytes.
pub(crate) fn reading(parsed: ParquetMetaData) -> Result<(ArrowReaderMetadata, SchemaRef)> {
    let root = parsed.file_metadata().schema_descr().root_schema_ptr();
    let parsed = Arc::new(without_intervals(parsed));
    // The Arrow schema in the file's metadata is only a hint; it is ignored if it does not fit.
    let read = |options| ArrowReaderMetadata::try_new(parsed.clone(), options);
    let inferred = read(ArrowReaderOptions::new())
        .or_else(|error| read(ArrowReaderOptions::new().with_skip_arrow_metadata(true)).map_err(|_| error))?;
    let metadata = inferred.schema().metadata().clone();
    let fields = inferred.schema().fields().iter().zip(root.get_fields());
    let declared: Vec<FieldRef> = fields.map(|(field, stored)| declare(field, stored)).collect();
    let fields = inferred.schema().fields().iter().zip(&declared);
    let decoded: Vec<FieldRef> = fields.map(|(inferred, declared)| decode(&plain_field(inferred), declared)).collect();
    let declared = Arc::new(Schema::new_with_metadata(declared, metadata.clone()));
    if decoded.iter().zip(inferred.schema().fields()).all(|(a, b)| a.data_type() == b.data_type()) {
        return Ok((inferred, declared));
    }
    let decoded = Arc::new(Schema::new_with_metadata(decoded, metadata));
    let reader = ArrowReaderMetadata::try_new(parsed.clone(), ArrowReaderOptions::new().with_schema(decoded))?;
    Ok((reader, declared))
}

/// Returns the field in the type in which it is decoded: a field inferred as bytes is decoded as
/// text if it is declared as text.
fn decode(inferred: &FieldRef, declared: &FieldRef) -> FieldRef {
    match (inferred.data_type(), declared.data_type()) {
        (DataType::Binary, DataType::Utf8) => Arc::new(inferred.as_ref().clone().with_data_type(DataType::Utf8)),
        (DataType::FixedSizeList(_, 0), list) => Arc::new(inferred.as_ref().clone().with_data_type(list.clone())),
        _ => inferred.clone(),
    }
}

/// Returns the Arrow field of a column that Parquet stores as `stored`.
fn declare(field: &FieldRef, stored: &Type) -> FieldRef {
    let info = stored.get_basic_info();
    let logical = info.logical_type_ref();
    let extended = |field: &Field, name: &str| {
        let mut field = field.clone();
        if !field.metadata().contains_key(EXTENSION) {
            let mut metadata = field.metadata().clone();
            metadata.insert(EXTENSION.into(), name.into());
            metadata.insert(EXTENSION_METADATA.into(), String::new());
            field.set_metadata(metadata);
        }
        Arc::new(field)
    };
    let noted = |key: &str, value: String| {
        let mut metadata = field.metadata().clone();
        metadata.insert(key.into(), value);
        Arc::new(field.as_ref().clone().with_metadata(metadata))
    };
    if stored.is_primitive() {
        return match (field.data_type(), logical) {
            (DataType::FixedSizeBinary(12), _) if info.converted_type() == ConvertedType::INTERVAL => {
                let data_type = DataType::Interval(IntervalUnit::MonthDayNano);
                Arc::new(field.as_ref().clone().with_data_type(data_type))
            }
            (DataType::FixedSizeBinary(16), Some(LogicalType::Uuid)) => extended(field, "arrow.uuid"),
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, Some(LogicalType::Json)) => {
                extended(field, "arrow.json")
            }
            (DataType::Time32(_) | DataType::Time64(_), Some(LogicalType::Time(time))) if time.is_adjusted_to_u_t_c => {
                noted(IN_UTC, "true".into())
            }
            (DataType::Binary, Some(LogicalType::Geometry(geometry))) => {
                noted(LOGICAL, format!("GEOMETRY {}", geometry.crs.as_deref().unwrap_or_default()).trim_end().into())
            }
            (DataType::Binary, Some(LogicalType::Geography(geography))) => {
                let algorithm = geography.algorithm.map_or("-", edges);
                let crs = geography.crs.as_deref().unwrap_or_default();
                noted(LOGICAL, format!("GEOGRAPHY {algorithm} {crs}").trim_end().into())
            }
            (DataType::Binary, Some(LogicalType::Bson)) => noted(LOGICAL, "BSON".into()),
            (DataType::Binary, _) if info.converted_type() == ConvertedType::ENUM => {
                Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8))
            }
            _ => field.clone(),
        };
    }
    let field = match (logical, field.data_type()) {
        (Some(LogicalType::Variant(_)), _) => extended(field, "arrow.parquet.variant"),
        // The parquet crate decodes none of no items.
        (_, DataType::FixedSizeList(item, 0)) => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::List(item.clone())))
        }
        _ => field.clone(),
    };
    within(&field, stored, &|field, stored| declare(field, stored))
}

/// The algorithms that interpolate edges of geographies.
const EDGES: [Edges; 5] = [Edges::SPHERICAL, Edges::VINCENTY, Edges::THOMAS, Edges::ANDOYER, Edges::KARNEY];

fn edges(algorithm: Edges) -> &'static str {
    match algorithm {
        Edges::SPHERICAL => "SPHERICAL",
        Edges::VINCENTY => "VINCENTY",
        Edges::THOMAS => "THOMAS",
        Edges::ANDOYER => "ANDOYER",
        Edges::KARNEY => "KARNEY",
        Edges::_Unknown(_) => "-",
    }
}

/// Returns `field` with its child fields changed by `change`, which is called with each child and
/// its stored type.
fn within(field: &FieldRef, stored: &Type, change: &dyn Fn(&FieldRef, &Type) -> FieldRef) -> FieldRef {
    use DataType::*;
    let fields = stored.get_fields();
    let changed = match field.data_type() {
        Struct(children) if children.len() == fields.len() => {
            Struct(children.iter().zip(fields).map(|(child, stored)| change(child, stored)).collect::<Fields>())
        }
        List(item) => List(change(item, item_of(item, fields))),
        LargeList(item) => LargeList(change(item, item_of(item, fields))),
        ListView(item) => ListView(change(item, item_of(item, fields))),
        LargeListView(item) => LargeListView(change(item, item_of(item, fields))),
        FixedSizeList(item, size) => FixedSizeList(change(item, item_of(item, fields)), *size),
        Map(entries, sorted) => match (entries.data_type(), fields) {
            (Struct(pair), [stored]) if stored.is_group() && stored.get_fields().len() == pair.len() => {
                let pair = pair.iter().zip(stored.get_fields()).map(|(child, stored)| change(child, stored));
                let pair = Struct(pair.collect::<Fields>());
                Map(Arc::new(entries.as_ref().clone().with_data_type(pair)), *sorted)
            }
            _ => return field.clone(),
        },
        _ => return field.clone(),
    };
    Arc::new(field.as_ref().clone().with_data_type(changed))
}

/// Returns the stored type of a list's items: the field within the repeated group, or in older
/// files the repeated field itself.
fn item_of<'a>(item: &Field, fields: &'a [TypePtr]) -> &'a Type {
    const NOTHING: &[TypePtr] = &[];
    let Some(repeated) = fields.first() else { return empty() };
    let inner = if repeated.is_group() { repeated.get_fields() } else { NOTHING };
    match (inner, item.data_type()) {
        ([only], DataType::Struct(children)) if children.len() == 1 && children[0].name() == only.name() => repeated,
        ([only], _) => only,
        _ => repeated,
    }
}

/// Returns an empty group, for types that cannot be found.
fn empty() -> &'static Type {
    static EMPTY: std::sync::OnceLock<Type> = std::sync::OnceLock::new();
    EMPTY.get_or_init(|| {
        let built = Type::group_type_builder("").build();
        built.unwrap_or_else(|_| unreachable!("a group without fields is a group"))
    })
}

/// Returns the metadata with interval columns declared as plain bytes, because the parquet crate
/// decodes only some intervals.
fn without_intervals(parsed: ParquetMetaData) -> ParquetMetaData {
    let file = parsed.file_metadata();
    let descriptor = file.schema_descr();
    let is_interval = |i: usize| descriptor.column(i).converted_type() == ConvertedType::INTERVAL;
    if !(0..descriptor.num_columns()).any(is_interval) {
        return parsed;
    }
    let root = rebuilt(&descriptor.root_schema_ptr(), &|leaf| {
        let info = leaf.get_basic_info();
        if info.converted_type() != ConvertedType::INTERVAL {
            return None;
        }
        let id = info.has_id().then(|| info.id());
        let bytes = Type::primitive_type_builder(leaf.name(), Physical::FIXED_LEN_BYTE_ARRAY).with_length(12);
        bytes.with_repetition(info.repetition()).with_id(id).build().ok()
    });
    let entries = file.key_value_metadata().cloned();
    metadata_with(&parsed, entries, Arc::new(SchemaDescriptor::new(root)))
}

/// Returns the metadata with `schema` in the place of its Arrow schema.
pub(crate) fn with_arrow_schema(parsed: ParquetMetaData, schema: &Schema) -> ParquetMetaData {
    let file = parsed.file_metadata();
    let mut entries = file.key_value_metadata().cloned().unwrap_or_default();
    for entry in entries.iter_mut().filter(|entry| entry.key == ARROW_SCHEMA_META_KEY) {
        entry.value = Some(encode_arrow_schema(schema));
    }
    metadata_with(&parsed, Some(entries), file.schema_descr_ptr())
}

/// Returns the metadata with other entries and another Parquet schema. The offset and column indexes are left out.
fn metadata_with(parsed: &ParquetMetaData, entries: Option<Vec<KeyValue>>, schema: SchemaDescPtr) -> ParquetMetaData {
    let file = parsed.file_metadata();
    let orders = file.column_orders().cloned();
    let created_by = file.created_by().map(String::from);
    let file = FileMetaData::new(file.version(), file.num_rows(), created_by, entries, schema, orders);
    ParquetMetaDataBuilder::new(file).set_row_groups(parsed.row_groups().to_vec()).build()
}

/// Returns a type in which leaves are replaced where `leaf` returns one.
fn rebuilt(stored: &TypePtr, leaf: &dyn Fn(&Type) -> Option<Type>) -> TypePtr {
    match stored.as_ref() {
        Type::GroupType { basic_info, fields } => Arc::new(Type::GroupType {
            basic_info: basic_info.clone(),
            fields: fields.iter().map(|field| rebuilt(field, leaf)).collect(),
        }),
        primitive => leaf(primitive).map_or_else(|| stored.clone(), Arc::new),
    }
}

/// Returns the type in which values of a type without dictionaries are written; `None` if Parquet
/// has no type for them.
pub(crate) fn stored(data_type: &DataType) -> Option<DataType> {
    use DataType::*;
    let item = |field: &FieldRef| stored_field(field);
    Some(match data_type {
        // Parquet has no unit of seconds, and no dates in milliseconds.
        Timestamp(TimeUnit::Second, zone) => Timestamp(TimeUnit::Millisecond, zone.clone()),
        Time32(TimeUnit::Second) => Time32(TimeUnit::Millisecond),
        Date64 => Date32,
        Interval(_) => INTERVAL,
        RunEndEncoded(_, values) => stored(values.data_type())?,
        Union(..) => return None,
        List(field) => List(item(field)?),
        LargeList(field) => LargeList(item(field)?),
        ListView(field) => ListView(item(field)?),
        LargeListView(field) => LargeListView(item(field)?),
        FixedSizeList(field, size) => FixedSizeList(item(field)?, *size),
        Map(entries, sorted) => Map(item(entries)?, *sorted),
        Struct(fields) => Struct(fields.iter().map(item).collect::<Option<_>>()?),
        other => other.clone(),
    })
}

pub(crate) fn stored_field(field: &FieldRef) -> Option<FieldRef> {
    let data_type = stored(field.data_type())?;
    Some(Arc::new(field.as_ref().clone().with_data_type(data_type)))
}

/// Returns the type that the Arrow schema in the file's metadata declares for a column with
/// dictionaries: a type that readers could not infer from Parquet's own types.
pub(crate) fn told_type(data_type: &DataType) -> DataType {
    use DataType::*;
    let item = |field: &FieldRef| -> FieldRef {
        Arc::new(field.as_ref().clone().with_data_type(told_type(field.data_type())))
    };
    match data_type {
        // Readers restore dictionaries only of plain texts and bytes.
        Dictionary(key, values) => match told_type(values) {
            Utf8View => Dictionary(key.clone(), Box::new(Utf8)),
            BinaryView => Dictionary(key.clone(), Box::new(Binary)),
            // Of other dictionaries they would not take what only this tells of their values.
            values @ (Duration(_) | Timestamp(_, Some(_))) => values,
            values => Dictionary(key.clone(), Box::new(values)),
        },
        Date64 => Date64,
        List(field) => List(item(field)),
        LargeList(field) => LargeList(item(field)),
        ListView(field) => ListView(item(field)),
        LargeListView(field) => LargeListView(item(field)),
        FixedSizeList(field, size) => FixedSizeList(item(field), *size),
        Map(entries, sorted) => Map(item(entries), *sorted),
        Struct(fields) => Struct(fields.iter().map(item).collect()),
        other => stored(other).unwrap_or_else(|| other.clone()),
    }
}

/// Returns whether some values of a type cannot be written in the type that Parquet stores.
pub(crate) fn may_not_fit(data_type: &DataType) -> bool {
    use DataType::*;
    match data_type {
        Timestamp(TimeUnit::Second, _) | Date64 | Interval(IntervalUnit::DayTime | IntervalUnit::MonthDayNano) => true,
        RunEndEncoded(_, field)
        | List(field)
        | LargeList(field)
        | ListView(field)
        | LargeListView(field)
        | FixedSizeList(field, _)
        | Map(field, _) => may_not_fit(field.data_type()),
        Struct(fields) => fields.iter().any(|field| may_not_fit(field.data_type())),
        _ => false,
    }
}

/// Returns the Parquet schema of columns that are stored as `stored` and declared as `declared`,
/// with the logical types that the parquet crate does not write by itself.
pub(crate) fn descriptor(stored: &Schema, declared: &[FieldRef]) -> Result<SchemaDescriptor> {
    let plain = ArrowSchemaConverter::new().convert(stored)?;
    let root = plain.root_schema_ptr();
    let fields = root.get_fields().iter().zip(declared).map(|(stored, declared)| with_logical_type(stored, declared));
    let root = Type::GroupType { basic_info: root.get_basic_info().clone(), fields: fields.collect::<Result<_>>()? };
    Ok(SchemaDescriptor::new(Arc::new(root)))
}

/// Returns the stored type of a field, with its logical type.
fn with_logical_type(stored: &TypePtr, declared: &FieldRef) -> Result<TypePtr> {
    use DataType::*;
    let info = stored.get_basic_info();
    let id = info.has_id().then(|| info.id());
    let extension = declared.metadata().get(EXTENSION).map(String::as_str);
    if let Type::PrimitiveType { physical_type, type_length, .. } = stored.as_ref() {
        let builder = Type::primitive_type_builder(stored.name(), *physical_type)
            .with_length(*type_length)
            .with_repetition(info.repetition())
            .with_id(id);
        let logical = match (declared.data_type(), extension, declared.metadata().get(LOGICAL)) {
            (Interval(_), ..) => return builder.with_converted_type(ConvertedType::INTERVAL).build().map(Arc::new),
            (FixedSizeBinary(16), Some("arrow.uuid"), _) => LogicalType::Uuid,
            (Utf8 | LargeUtf8 | Utf8View, Some("arrow.json"), _) => LogicalType::Json,
            (Binary | LargeBinary | BinaryView, _, Some(noted)) => match noted.split_once(' ') {
                Some(("GEOGRAPHY", rest)) => {
                    let (algorithm, crs) =
                        rest.split_once(' ').map_or((rest, None), |(name, crs)| (name, Some(crs.to_string())));
                    LogicalType::geography(crs, EDGES.into_iter().find(|&known| edges(known) == algorithm))
                }
                Some(("GEOMETRY", crs)) => LogicalType::geometry(Some(crs.into())),
                None if noted == "GEOMETRY" => LogicalType::geometry(None),
                None if noted == "BSON" => LogicalType::Bson,
                _ => return Ok(stored.clone()),
            },
            _ => return Ok(stored.clone()),
        };
        return builder.with_logical_type(Some(logical)).build().map(Arc::new);
    }
    let fields = stored.get_fields();
    let mut changed = fields.to_vec();
    match (declared.data_type(), fields) {
        (Struct(children), _) => {
            changed =
                fields.iter().zip(children).map(|(f, child)| with_logical_type(f, child)).collect::<Result<_>>()?;
        }
        (List(i) | LargeList(i) | ListView(i) | LargeListView(i) | FixedSizeList(i, _), [repeated]) => {
            changed = vec![regrouped(repeated, std::slice::from_ref(i))?];
        }
        (Map(entries, _), [repeated]) => {
            if let Struct(pair) = entries.data_type() {
                changed = vec![regrouped(repeated, pair)?];
            }
        }
        _ => {}
    }
    if extension == Some("arrow.parquet.variant") {
        let group = Type::group_type_builder(stored.name()).with_fields(changed).with_id(id);
        let group = group.with_repetition(info.repetition()).with_logical_type(Some(LogicalType::variant(Some(1))));
        return group.build().map(Arc::new);
    }
    Ok(Arc::new(Type::GroupType { basic_info: info.clone(), fields: changed }))
}

/// Returns a repeated group whose fields have their logical types.
fn regrouped(repeated: &TypePtr, declared: &[FieldRef]) -> Result<TypePtr> {
    let fields =
        repeated.get_fields().iter().zip(declared).map(|(stored, declared)| with_logical_type(stored, declared));
    let fields = fields.collect::<Result<_>>()?;
    Ok(Arc::new(Type::GroupType { basic_info: repeated.get_basic_info().clone(), fields }))
}

#[cfg(test)]
mod tests;
