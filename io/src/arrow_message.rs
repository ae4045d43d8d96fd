//! Arrow IPC messages, checked before the arrow crate decodes them.
//!
//! The arrow crate asserts its expectations of a schema or a batch, but a damaged file must cause
//! an error and not a panic. So every length, offset, count and type on which the crate relies is
//! checked here first.
//!
//! What must hold: whatever passes [`schema`] and [`decode`] is valid, and no memory is allocated
//! by a length that was not checked.

use std::collections::HashMap;

use arrow::array::ArrayRef;
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UnionMode};
use arrow::ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow::ipc::{self, MetadataVersion};
use arrow::record_batch::RecordBatch;

/// A result whose error text says what is wrong with the bytes. The caller adds the file's name.
pub(crate) type Checked<T> = std::result::Result<T, String>;

/// Dictionaries by their id.
pub(crate) type Dictionaries = HashMap<i64, ArrayRef>;

const CONTINUATION: [u8; 4] = [0xff; 4];

/// Returns the flatbuffer of an encapsulated message: the bytes behind the length, and behind the
/// continuation marker that newer writers put first.
pub(crate) fn flatbuffer(message: &[u8]) -> Checked<&[u8]> {
    let skipped = if message.starts_with(&CONTINUATION) { 8 } else { 4 };
    message.get(skipped..).ok_or_else(|| "a message is too short".into())
}

/// Parses a message. Its parts are not checked yet.
pub(crate) fn parse(flatbuffer: &[u8]) -> Checked<ipc::Message<'_>> {
    let message = ipc::root_as_message(flatbuffer).map_err(|e| format!("a message cannot be parsed: {e}"))?;
    match message.version() {
        MetadataVersion::V4 | MetadataVersion::V5 => Ok(message),
        other => Err(format!("Arrow metadata of version {other:?}; V4 and V5 are read: write it again")),
    }
}

/// Returns the schema in the flatbuffer of a message; `None` if it is another message.
pub(crate) fn schema_of(flatbuffer: &[u8]) -> Option<ipc::Schema<'_>> {
    ipc::root_as_message(flatbuffer).ok()?.header_as_schema()
}

/// Checks and converts a schema.
pub(crate) fn schema(found: ipc::Schema<'_>) -> Checked<Schema> {
    if found.endianness() != ipc::Endianness::Little {
        return Err("big-endian Arrow data; write it again on a little-endian machine".into());
    }
    for field in found.fields().ok_or("a schema without fields")? {
        check_field(field)?;
    }
    Ok(ipc::convert::fb_to_schema(found))
}

fn check_field(field: ipc::Field<'_>) -> Checked<()> {
    let name = field.name().unwrap_or_default();
    let sound = check_type(field).ok_or_else(|| {
        format!("column \"{name}\" has a type that cannot be read; cast it, or write the file without it")
    })?;
    if let Some(dictionary) = field.dictionary() {
        let index = dictionary.indexType().filter(|i| matches!(i.bitWidth(), 8 | 16 | 32 | 64));
        index.ok_or_else(|| format!("column \"{name}\" has a dictionary that cannot be read"))?;
    }
    for child in sound {
        check_field(child)?;
    }
    Ok(())
}

/// Returns the children of a field whose own type is valid; `None` for an invalid type.
fn check_type(field: ipc::Field<'_>) -> Option<Vec<ipc::Field<'_>>> {
    use ipc::{DateUnit, IntervalUnit, Precision, TimeUnit, Type, UnionMode};
    let children: Vec<_> = field.children().into_iter().flatten().collect();
    let any_unit = |unit: TimeUnit| unit.variant_name().is_some();
    let sound = match field.type_type() {
        Type::Null
        | Type::Bool
        | Type::Binary
        | Type::BinaryView
        | Type::LargeBinary
        | Type::Utf8
        | Type::Utf8View
        | Type::LargeUtf8
        | Type::Struct_ => true,
        Type::Int => matches!(field.type_as_int()?.bitWidth(), 8 | 16 | 32 | 64),
        Type::FixedSizeBinary => field.type_as_fixed_size_binary()?.byteWidth() >= 0,
        Type::FloatingPoint => {
            matches!(
                field.type_as_floating_point()?.precision(),
                Precision::HALF | Precision::SINGLE | Precision::DOUBLE
            )
        }
        Type::Date => matches!(field.type_as_date()?.unit(), DateUnit::DAY | DateUnit::MILLISECOND),
        Type::Time => {
            let time = field.type_as_time()?;
            matches!(
                (time.bitWidth(), time.unit()),
                (32, TimeUnit::SECOND | TimeUnit::MILLISECOND) | (64, TimeUnit::MICROSECOND | TimeUnit::NANOSECOND)
            )
        }
        Type::Timestamp => any_unit(field.type_as_timestamp()?.unit()),
        Type::Duration => any_unit(field.type_as_duration()?.unit()),
        Type::Interval => matches!(
            field.type_as_interval()?.unit(),
            IntervalUnit::YEAR_MONTH | IntervalUnit::DAY_TIME | IntervalUnit::MONTH_DAY_NANO
        ),
        Type::List | Type::LargeList | Type::ListView | Type::LargeListView => children.len() == 1,
        Type::FixedSizeList => children.len() == 1 && field.type_as_fixed_size_list()?.listSize() >= 0,
        Type::RunEndEncoded => {
            let [ends, _] = children.as_slice() else { return None };
            ends.type_type() == Type::Int
                && !ends.nullable()
                && matches!(ends.type_as_int()?.bitWidth(), 16 | 32 | 64)
                && ends.type_as_int()?.is_signed()
        }
        Type::Map => {
            field.type_as_map()?;
            let [entries] = children.as_slice() else { return None };
            entries.type_type() == Type::Struct_ && entries.children()?.len() == 2
        }
        Type::Decimal => {
            let decimal = field.type_as_decimal()?;
            let precision = match decimal.bitWidth() {
                32 => 9,
                64 => 18,
                128 => 38,
                256 => 76,
                _ => return None,
            };
            (1..=precision).contains(&decimal.precision()) && i8::try_from(decimal.scale()).is_ok()
        }
        Type::Union => {
            let union = field.type_as_union()?;
            let mut ids: Vec<i32> = match union.typeIds() {
                Some(ids) => ids.iter().collect(),
                None => (0..i32::try_from(children.len()).ok()?).collect(),
            };
            let given = ids.len();
            ids.sort_unstable();
            ids.dedup();
            matches!(union.mode(), UnionMode::Dense | UnionMode::Sparse)
                && given == children.len()
                && ids.len() == given
                && ids.iter().all(|id| (0..=127).contains(id))
        }
        _ => false,
    };
    sound.then_some(children)
}

/// Returns the record batch in a message.
pub(crate) fn batch(message: ipc::Message<'_>) -> Checked<ipc::RecordBatch<'_>> {
    message.header_as_record_batch().ok_or_else(|| "a message that should be a batch is not one".into())
}

/// Decodes a batch. If the batch is not compressed and the body is aligned, nothing is copied.
pub(crate) fn decode(
    message: ipc::Message<'_>,
    body: &Buffer,
    schema: &SchemaRef,
    dictionaries: &Dictionaries,
) -> Checked<RecordBatch> {
    let (batch, version) = (batch(message)?, message.version());
    check_batch(batch, version, body, schema)?;
    RecordBatchDecoder::try_new(body, batch, schema.clone(), dictionaries, &version)
        .and_then(RecordBatchDecoder::read_record_batch)
        .map_err(|e| format!("a batch cannot be decoded: {e}"))
}

/// Adds a dictionary, or an extension of one, to `dictionaries`.
pub(crate) fn decode_dictionary(
    message: ipc::Message<'_>,
    body: &Buffer,
    schema: &Schema,
    dictionaries: &mut Dictionaries,
) -> Checked<()> {
    let dictionary = message.header_as_dictionary_batch().ok_or("a message that should be a dictionary is not one")?;
    #[expect(deprecated, reason = "the arrow crate gives no other way from an id to its field")]
    let fields = schema.fields_with_dict_id(dictionary.id());
    let Some(DataType::Dictionary(_, values)) = fields.first().map(|f| f.data_type()) else {
        return Err(format!("a dictionary of no column, with id {}", dictionary.id()));
    };
    let values = Schema::new(vec![Field::new("", values.as_ref().clone(), true)]);
    let batch = dictionary.data().ok_or("a dictionary without values")?;
    check_batch(batch, message.version(), body, &values)?;
    read_dictionary(body, dictionary, schema, dictionaries, &message.version())
        .map_err(|e| format!("a dictionary cannot be decoded: {e}"))
}

fn check_batch(batch: ipc::RecordBatch<'_>, version: MetadataVersion, body: &Buffer, schema: &Schema) -> Checked<()> {
    let rows = u64::try_from(batch.length()).map_err(|_| "a batch of fewer than no rows")?;
    let mut walk = ArrayWalk {
        nodes: batch.nodes().ok_or("a batch without arrays")?.iter(),
        buffers: batch.buffers().ok_or("a batch without buffers")?.iter(),
        variadic: batch.variadicBufferCounts().into_iter().flatten().collect::<Vec<_>>().into_iter(),
        body,
        compressed: batch.compression().is_some(),
        version,
    };
    for field in schema.fields() {
        let length = walk.field(field).map_err(|e| format!("column \"{}\": {e}", field.name()))?;
        if length != rows {
            return Err(format!("column \"{}\" has {length} values in a batch of {rows} rows", field.name()));
        }
    }
    match walk.variadic.next() {
        None => Ok(()),
        Some(_) => Err("a batch counts more buffers than its columns have".into()),
    }
}

/// A walk over a batch's columns, in the order in which their arrays and buffers are stored.
struct ArrayWalk<'a, N, B> {
    nodes: N,
    buffers: B,
    variadic: std::vec::IntoIter<i64>,
    body: &'a Buffer,
    compressed: bool,
    version: MetadataVersion,
}

impl<'f, N, B> ArrayWalk<'_, N, B>
where
    N: Iterator<Item = &'f ipc::FieldNode>,
    B: Iterator<Item = &'f ipc::Buffer>,
{
    /// Checks an array and its child arrays. Returns its length.
    fn field(&mut self, field: &Field) -> Checked<u64> {
        use DataType::*;
        let node = self.nodes.next().ok_or("its array is missing")?;
        let length = u64::try_from(node.length()).map_err(|_| "an array of negative length")?;
        let nulls = u64::try_from(node.null_count()).map_err(|_| "a negative count of nulls")?;
        if nulls > length {
            return Err(format!("{nulls} nulls among {length} values"));
        }
        let bitmap = if nulls > 0 { length.div_ceil(8) } else { 0 };
        match field.data_type() {
            Null => {}
            Utf8 | Binary => {
                self.buffer(bitmap, 1)?;
                self.buffer(0, 4)?;
                self.buffer(0, 1)?;
            }
            LargeUtf8 | LargeBinary => {
                self.buffer(bitmap, 1)?;
                self.buffer(0, 8)?;
                self.buffer(0, 1)?;
            }
            Utf8View | BinaryView => {
                let count = self.variadic.next().filter(|&n| n >= 0).ok_or("its count of buffers is missing")?;
                self.buffer(bitmap, 1)?;
                self.buffer(0, 16)?;
                for _ in 0..count {
                    self.buffer(0, 1)?;
                }
            }
            List(item) | Map(item, _) => {
                self.buffer(bitmap, 1)?;
                self.buffer(0, 4)?;
                self.field(item)?;
            }
            LargeList(item) => {
                self.buffer(bitmap, 1)?;
                self.buffer(0, 8)?;
                self.field(item)?;
            }
            ListView(item) => {
                self.buffer(bitmap, 1)?;
                self.buffer(0, 4)?;
                self.buffer(0, 4)?;
                self.field(item)?;
            }
            LargeListView(item) => {
                self.buffer(bitmap, 1)?;
                self.buffer(0, 8)?;
                self.buffer(0, 8)?;
                self.field(item)?;
            }
            FixedSizeList(item, size) => {
                self.buffer(bitmap, 1)?;
                let values = self.field(item)?;
                let needed = u64::try_from(*size).ok().and_then(|size| length.checked_mul(size));
                if needed.is_none_or(|needed| values < needed) {
                    return Err(format!("{values} values for {length} lists of {size}"));
                }
            }
            Struct(fields) => {
                self.buffer(bitmap, 1)?;
                for field in fields {
                    self.field(field)?;
                }
            }
            RunEndEncoded(ends, values) => {
                self.field(ends)?;
                self.field(values)?;
            }
            Dictionary(index, _) => {
                self.buffer(bitmap, 1)?;
                self.buffer(0, index.primitive_width().unwrap_or(1))?;
            }
            Union(fields, mode) => {
                if self.version < MetadataVersion::V5 {
                    self.buffer(0, 1)?;
                }
                self.buffer(length, 1)?;
                if *mode == UnionMode::Dense {
                    let aligned = self.buffer(length.saturating_mul(4), 4)?;
                    if !aligned {
                        return Err("its buffers are not aligned".into());
                    }
                }
                for (_, field) in fields.iter() {
                    self.field(field)?;
                }
            }
            other => {
                self.buffer(bitmap, 1)?;
                self.buffer(0, other.primitive_width().unwrap_or(1))?;
            }
        }
        Ok(length)
    }

    /// Checks the next buffer: it lies within the body and, once decompressed, has at least `least`
    /// bytes and a whole number of `width`-byte elements. Returns whether it is aligned to `width`.
    fn buffer(&mut self, least: u64, width: usize) -> Checked<bool> {
        let buffer = self.buffers.next().ok_or("a buffer is missing")?;
        let start = usize::try_from(buffer.offset()).map_err(|_| "a buffer at a negative offset")?;
        let length = usize::try_from(buffer.length()).map_err(|_| "a buffer of negative length")?;
        let bytes = start.checked_add(length).and_then(|end| self.body.get(start..end));
        let bytes = bytes.ok_or_else(|| {
            format!("a buffer of {length} bytes at {start} in a body of {}: cut short or damaged", self.body.len())
        })?;
        let (length, at) = match self.compressed && !bytes.is_empty() {
            true => {
                let (prefix, data) = bytes.split_first_chunk().ok_or("a compressed buffer without its length")?;
                (decompressed(*prefix, data.len() as u64)?.unwrap_or(data.len() as u64), std::ptr::null())
            }
            false => (bytes.len() as u64, bytes.as_ptr()),
        };
        if length < least {
            return Err(format!("a buffer of {length} bytes where {least} are needed"));
        }
        if length % width as u64 != 0 {
            return Err(format!("a buffer of {length} bytes holds no whole number of {width}-byte values"));
        }
        Ok((at as usize).is_multiple_of(width))
    }
}

/// Returns the decompressed length that the prefix of a compressed buffer states, where `data`
/// bytes follow the prefix. `None` if the buffer is stored uncompressed because it did not shrink.
pub(crate) fn decompressed(prefix: [u8; 8], data: u64) -> Checked<Option<u64>> {
    let length = match i64::from_le_bytes(prefix) {
        -1 => return Ok(None),
        length => u64::try_from(length).map_err(|_| "a compressed buffer of negative length")?,
    };
    // A zstd block decompresses to at most 128 KiB and takes at least 4 bytes, so a valid buffer
    // does not exceed this. A length that does not fit in memory fails here too.
    let most = data.saturating_mul(32 << 10).saturating_add(128 << 10);
    if length > most || !usize::try_from(length).is_ok_and(has_room) {
        return Err(format!("{data} compressed bytes that claim to be {length}: damaged"));
    }
    Ok(Some(length))
}

/// Returns whether `bytes` bytes can be allocated. Otherwise growing a buffer would abort the
/// process.
pub(crate) fn has_room(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}
