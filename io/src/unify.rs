//! The common type of a column that several files have.
//!
//! What must hold: every value of either type is a value of the common type, and of the same kind.
//! Numbers widen, the finer unit of time is taken, and a column of nulls takes the other's type.
//! All other types do not match: a text is not a number, and a time with a zone is not one without.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, IntervalUnit, Schema, SchemaRef, TimeUnit};

use crate::parquet_types::IN_UTC;

/// Returns the field that holds the values of both fields, with the name of the first. `None` if
/// their types do not match.
///
/// The result is nullable if either field is. It keeps the metadata that both fields have; a field
/// of type Null has no say.
pub(crate) fn unify(a: &Field, b: &Field) -> Option<Field> {
    let data_type = types(a.data_type(), b.data_type())?;
    let (named, other) = (a.metadata().get(EXTENSION), b.metadata().get(EXTENSION));
    if named.is_some() && other.is_some() && named != other {
        return None;
    }
    if matches!(data_type, DataType::Time32(_) | DataType::Time64(_))
        && *a.data_type() != DataType::Null
        && *b.data_type() != DataType::Null
        && in_utc(a) != in_utc(b)
    {
        return None;
    }
    let metadata = match (a.data_type(), b.data_type()) {
        (DataType::Null, DataType::Null) => common_type(a.metadata(), b.metadata()),
        (DataType::Null, _) => b.metadata().clone(),
        (_, DataType::Null) => a.metadata().clone(),
        _ => common_type(a.metadata(), b.metadata()),
    };
    let null = |f: &Field| f.is_nullable() || *f.data_type() == DataType::Null;
    // Whether the orders are one is for their values to tell.
    let ordered = [a, b].iter().any(|field| field.dict_is_ordered() == Some(true));
    let field = Field::new(a.name(), data_type, null(a) || null(b)).with_metadata(metadata);
    Some(field.with_dict_is_ordered(ordered))
}

const EXTENSION: &str = "ARROW:extension:name";

fn in_utc(field: &Field) -> bool {
    field.metadata().contains_key(IN_UTC)
}

/// Returns a field's type as error messages name it.
pub(crate) fn type_text(field: &Field) -> String {
    let data_type = field.data_type();
    match field.metadata().get(EXTENSION) {
        Some(name) => format!("{name} ({data_type})"),
        None if in_utc(field) => format!("{data_type} in UTC"),
        None => data_type.to_string(),
    }
}

fn common_type(a: &HashMap<String, String>, b: &HashMap<String, String>) -> HashMap<String, String> {
    a.iter().filter(|(key, value)| b.get(*key) == Some(*value)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Returns the type that holds the values of both types; `None` if there is none.
pub(crate) fn types(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (Null, other) | (other, Null) => other.clone(),
        (Dictionary(i, a), Dictionary(j, b)) => {
            let key = if i == j { i.clone() } else { Box::new(Int32) };
            Dictionary(key, Box::new(types(a, b)?))
        }
        (Dictionary(_, values), other) => types(values, other)?,
        (other, Dictionary(_, values)) => types(other, values)?,
        (RunEndEncoded(_, a), RunEndEncoded(_, b)) => types(a.data_type(), b.data_type())?,
        (RunEndEncoded(_, values), other) => types(values.data_type(), other)?,
        (other, RunEndEncoded(_, values)) => types(other, values.data_type())?,
        (a, b) if a.is_integer() && b.is_integer() => integers(a, b)?,
        (a, b) if a.is_floating() && b.is_floating() => {
            if *a == Float64 || *b == Float64 {
                Float64
            } else {
                Float32
            }
        }
        (int, float) | (float, int) if int.is_integer() && float.is_floating() => with_fraction(int, float)?,
        (a, b) if decimal(a).is_some() && decimal(b).is_some() => decimals(a, b)?,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => LargeUtf8,
        (
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
        ) => LargeBinary,
        (Date32 | Date64, Date32 | Date64) => Date64,
        (Time32(a) | Time64(a), Time32(b) | Time64(b)) => match finer(*a, *b) {
            unit @ (TimeUnit::Second | TimeUnit::Millisecond) => Time32(unit),
            unit => Time64(unit),
        },
        (Timestamp(a, zone), Timestamp(b, other)) => Timestamp(finer(*a, *b), zones(zone, other)?),
        (Duration(a), Duration(b)) => Duration(finer(*a, *b)),
        (Interval(_), Interval(_)) => Interval(IntervalUnit::MonthDayNano),
        (FixedSizeList(a, n), FixedSizeList(b, m)) if n == m => FixedSizeList(items(a, b)?, *n),
        (ListView(a), ListView(b)) => ListView(items(a, b)?),
        (LargeListView(a), LargeListView(b)) => LargeListView(items(a, b)?),
        (a, b) if list(a).is_some() && list(b).is_some() => {
            let (a, long) = list(a)?;
            let (b, other) = list(b)?;
            let item = items(a, b)?;
            if long || other { LargeList(item) } else { List(item) }
        }
        (Map(a, sorted), Map(b, also)) => Map(entries(a, b)?, *sorted && *also),
        (Struct(a), Struct(b)) => Struct(fields(a, b)?),
        _ => return None,
    })
}

fn items(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    unify(a, b).map(Arc::new)
}

/// Matches fields by name, in the order of the first struct. Both must have the same names, each
/// once.
fn fields(a: &Fields, b: &Fields) -> Option<Fields> {
    let unique = |fields: &Fields| {
        let mut names: Vec<&String> = fields.iter().map(|f| f.name()).collect();
        names.sort_unstable();
        names.windows(2).all(|pair| pair[0] != pair[1])
    };
    if a.len() != b.len() || !unique(a) || !unique(b) {
        return None;
    }
    a.iter().map(|field| unify(field, b.find(field.name())?.1).map(Arc::new)).collect()
}

/// Matches the key and the value of maps by position, whatever their names.
fn entries(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    let (DataType::Struct(pairs), DataType::Struct(others)) = (a.data_type(), b.data_type()) else { return None };
    if pairs.len() != 2 || others.len() != 2 {
        return None;
    }
    let both: Fields = pairs.iter().zip(others).map(|(a, b)| unify(a, b).map(Arc::new)).collect::<Option<_>>()?;
    Some(Arc::new(a.as_ref().clone().with_data_type(DataType::Struct(both))))
}

/// Returns a list's items, and whether its offsets have 64 bits.
fn list(data_type: &DataType) -> Option<(&FieldRef, bool)> {
    match data_type {
        DataType::List(item) | DataType::ListView(item) | DataType::FixedSizeList(item, _) => Some((item, false)),
        DataType::LargeList(item) | DataType::LargeListView(item) => Some((item, true)),
        _ => None,
    }
}

/// Returns an integer type's bits, and whether it is signed.
fn integer(data_type: &DataType) -> Option<(usize, bool)> {
    let bits = data_type.primitive_width()? * 8;
    data_type.is_integer().then_some((bits, data_type.is_signed_integer()))
}

fn integers(a: &DataType, b: &DataType) -> Option<DataType> {
    let ((a, signed), (b, also)) = (integer(a)?, integer(b)?);
    let (bits, signed) = match (signed, also) {
        (true, true) | (false, false) => (a.max(b), signed),
        // A signed type has one bit less for the magnitude.
        (true, false) => (a.max(2 * b), true),
        (false, true) => (b.max(2 * a), true),
    };
    Some(match (bits, signed) {
        (16, true) => DataType::Int16,
        (32, true) => DataType::Int32,
        (64, true) => DataType::Int64,
        (16, false) => DataType::UInt16,
        (32, false) => DataType::UInt32,
        (64, false) => DataType::UInt64,
        _ => return None,
    })
}

/// Returns a floating-point type that represents every value of an integer type exactly.
fn with_fraction(int: &DataType, float: &DataType) -> Option<DataType> {
    let (bits, _) = integer(int)?;
    match (bits, float) {
        (8 | 16, DataType::Float16 | DataType::Float32) => Some(DataType::Float32),
        (8 | 16 | 32, _) => Some(DataType::Float64),
        _ => None,
    }
}

/// Returns a decimal type's bits, its precision and its scale, the digits after the point.
fn decimal(data_type: &DataType) -> Option<(u32, i32, i32)> {
    match data_type {
        DataType::Decimal32(p, s) => Some((32, i32::from(*p), i32::from(*s))),
        DataType::Decimal64(p, s) => Some((64, i32::from(*p), i32::from(*s))),
        DataType::Decimal128(p, s) => Some((128, i32::from(*p), i32::from(*s))),
        DataType::Decimal256(p, s) => Some((256, i32::from(*p), i32::from(*s))),
        _ => None,
    }
}

fn decimals(a: &DataType, b: &DataType) -> Option<DataType> {
    let ((bits, p, s), (other, q, t)) = (decimal(a)?, decimal(b)?);
    let scale = s.max(t);
    let digits = u8::try_from((p - s).max(q - t) + scale).ok()?;
    let scale = i8::try_from(scale).ok()?;
    Some(match (bits.max(other), digits) {
        (32, ..=9) => DataType::Decimal32(digits, scale),
        (..=64, ..=18) => DataType::Decimal64(digits, scale),
        (..=128, ..=38) => DataType::Decimal128(digits, scale),
        (_, ..=76) => DataType::Decimal256(digits, scale),
        _ => return None,
    })
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    // `TimeUnit` is ordered from the second to the nanosecond.
    a.max(b)
}

/// Returns the common time zone of two timestamp types; `None` if the zones differ.
fn zones(a: &Option<Arc<str>>, b: &Option<Arc<str>>) -> Option<Option<Arc<str>>> {
    let utc = |zone: &Option<Arc<str>>| {
        zone.as_deref().is_some_and(|zone| matches!(zone, "UTC" | "Etc/UTC" | "Z" | "+00:00" | "+00" | "+0000"))
    };
    match a == b {
        true => Some(a.clone()),
        false if utc(a) && utc(b) => Some(Some("UTC".into())),
        false => None,
    }
}

/// Returns whether a cast from `from` to the type that [`types`] returned can fail for some values:
/// a time out of the range of the finer unit.
pub(crate) fn may_overflow(from: &DataType, to: &DataType) -> bool {
    use DataType::*;
    match (from, to) {
        (Timestamp(a, _), Timestamp(b, _)) | (Duration(a), Duration(b)) => a != b,
        (Dictionary(_, from), Dictionary(_, to)) => may_overflow(from, to),
        (Dictionary(_, from), to) => may_overflow(from, to),
        (RunEndEncoded(_, from), to) => may_overflow(from.data_type(), to),
        (Struct(from), Struct(to)) => {
            from.iter().any(|f| to.find(f.name()).is_some_and(|(_, t)| may_overflow(f.data_type(), t.data_type())))
        }
        (Map(from, _), Map(to, _)) => match (from.data_type(), to.data_type()) {
            (Struct(from), Struct(to)) => from.iter().zip(to).any(|(f, t)| may_overflow(f.data_type(), t.data_type())),
            _ => false,
        },
        (from, to) => match (list(from), list(to)) {
            (Some((from, _)), Some((to, _))) => may_overflow(from.data_type(), to.data_type()),
            _ => false,
        },
    }
}

/// Returns a type in which every dictionary is replaced by its value type, also within lists,
/// structs and maps.
pub(crate) fn plain(data_type: &DataType) -> DataType {
    use DataType::*;
    match data_type {
        Dictionary(_, values) => plain(values),
        List(item) => List(plain_field(item)),
        LargeList(item) => LargeList(plain_field(item)),
        ListView(item) => ListView(plain_field(item)),
        LargeListView(item) => LargeListView(plain_field(item)),
        FixedSizeList(item, size) => FixedSizeList(plain_field(item), *size),
        Map(entries, sorted) => Map(plain_field(entries), *sorted),
        Struct(fields) => Struct(fields.iter().map(plain_field).collect()),
        other => other.clone(),
    }
}

/// Returns the schema in which the columns at these places are read: each a [`plain_field`].
pub(crate) fn plain_columns(schema: &Schema, columns: &[usize]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|&at| plain_field(&schema.fields()[at])).collect::<Vec<_>>()))
}

/// Returns a field whose type is [`plain`].
pub(crate) fn plain_field(field: &FieldRef) -> FieldRef {
    let data_type = plain(field.data_type());
    if *field.data_type() == data_type {
        field.clone()
    } else {
        Arc::new(field.as_ref().clone().with_data_type(data_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DataType::*;

    fn field(data_type: &DataType) -> FieldRef {
        Arc::new(Field::new("item", data_type.clone(), true))
    }

    fn dictionary(key: DataType, values: DataType) -> DataType {
        Dictionary(Box::new(key), Box::new(values))
    }

    fn pair(name: &str, data_type: DataType, other: &str, also: DataType) -> DataType {
        Struct(vec![Field::new(name, data_type, true), Field::new(other, also, true)].into())
    }

    #[test]
    fn unified_type_holds_both() {
        use TimeUnit::{Microsecond as Micro, Millisecond as Milli, Nanosecond as Nano, Second};
        let zone = |name: &str| Some(Arc::from(name));
        for (a, b, both) in [
            (Int32, Int64, Some(Int64)),
            (Int8, UInt8, Some(Int16)),
            (UInt32, Int32, Some(Int64)),
            (UInt16, UInt64, Some(UInt64)),
            (UInt64, Int64, None),
            (UInt64, Int8, None),
            (Float16, Float32, Some(Float32)),
            (Float32, Float64, Some(Float64)),
            (Int16, Float32, Some(Float32)),
            (Int32, Float32, Some(Float64)),
            (UInt32, Float64, Some(Float64)),
            (Int64, Float64, None),
            (Int64, Utf8, None),
            (Boolean, Int8, None),
            (Null, Utf8, Some(Utf8)),
            (Null, dictionary(Int8, Utf8), Some(dictionary(Int8, Utf8))),
            (List(field(&Null)), List(field(&Utf8)), Some(List(field(&Utf8)))),
            (List(field(&Int32)), LargeList(field(&Int64)), Some(LargeList(field(&Int64)))),
            (
                FixedSizeList(field(&Float32), 2),
                FixedSizeList(field(&Float64), 2),
                Some(FixedSizeList(field(&Float64), 2)),
            ),
            (FixedSizeList(field(&Int8), 2), FixedSizeList(field(&Int8), 3), Some(List(field(&Int8)))),
            (ListView(field(&Int8)), List(field(&Int8)), Some(List(field(&Int8)))),
            (List(field(&Int8)), Int8, None),
            (Utf8, LargeUtf8, Some(LargeUtf8)),
            (Utf8View, Utf8, Some(LargeUtf8)),
            (Utf8, Binary, None),
            (Binary, BinaryView, Some(LargeBinary)),
            (FixedSizeBinary(16), FixedSizeBinary(8), Some(LargeBinary)),
            (dictionary(Int8, Utf8), dictionary(Int8, Utf8View), Some(dictionary(Int8, LargeUtf8))),
            (dictionary(Int8, Utf8), dictionary(UInt32, Utf8), Some(dictionary(Int32, Utf8))),
            (dictionary(Int8, Utf8), Utf8, Some(Utf8)),
            (dictionary(Int8, Utf8), Int8, None),
            (Timestamp(Micro, None), Timestamp(Nano, None), Some(Timestamp(Nano, None))),
            (Timestamp(Micro, zone("UTC")), Timestamp(Micro, None), None),
            (Timestamp(Micro, zone("UTC")), Timestamp(Milli, zone("+00:00")), Some(Timestamp(Micro, zone("UTC")))),
            (Timestamp(Micro, zone("UTC")), Timestamp(Micro, zone("Europe/Berlin")), None),
            (Timestamp(Micro, None), Date32, None),
            (Date32, Date64, Some(Date64)),
            (Time32(Second), Time32(Milli), Some(Time32(Milli))),
            (Time32(Milli), Time64(Nano), Some(Time64(Nano))),
            (Duration(Second), Duration(Micro), Some(Duration(Micro))),
            (
                Interval(IntervalUnit::DayTime),
                Interval(IntervalUnit::YearMonth),
                Some(Interval(IntervalUnit::MonthDayNano)),
            ),
            (Decimal128(10, 2), Decimal128(12, 4), Some(Decimal128(12, 4))),
            (Decimal32(7, 1), Decimal128(20, 4), Some(Decimal128(20, 4))),
            (Decimal128(38, 0), Decimal128(38, 10), Some(Decimal256(48, 10))),
            (Decimal256(76, 0), Decimal256(76, 10), None),
            (pair("a", Int32, "b", Utf8), pair("b", Utf8, "a", Int64), Some(pair("a", Int64, "b", Utf8))),
            (pair("a", Int32, "b", Utf8), pair("a", Int32, "c", Utf8), None),
            (pair("a", Int32, "a", Utf8), pair("a", Int64, "a", Utf8), None),
        ] {
            assert_eq!(types(&a, &b), both, "{a} and {b}");
            // The reverse order gives the same, except for the order of fields.
            let other = types(&b, &a);
            match &both {
                Some(Struct(_)) => assert!(other.is_some()),
                both => assert_eq!(other, *both, "{b} and {a}"),
            }
        }
    }

    #[test]
    fn only_finer_units_may_overflow() {
        let times = |unit| Timestamp(unit, None);
        assert!(may_overflow(&times(TimeUnit::Second), &times(TimeUnit::Nanosecond)));
        assert!(may_overflow(
            &List(field(&Duration(TimeUnit::Second))),
            &LargeList(field(&Duration(TimeUnit::Nanosecond)))
        ));
        assert!(may_overflow(
            &pair("a", times(TimeUnit::Second), "b", Utf8),
            &pair("b", Utf8, "a", times(TimeUnit::Millisecond))
        ));
        assert!(!may_overflow(&times(TimeUnit::Second), &times(TimeUnit::Second)));
        assert!(!may_overflow(&Null, &times(TimeUnit::Second)));
        assert!(!may_overflow(&Int32, &Int64));
    }

    #[test]
    fn unified_metadata_is_what_both_have() {
        let of = |data_type: DataType, pairs: &[(&str, &str)]| {
            let metadata = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
            Field::new("c", data_type, false).with_metadata(metadata)
        };
        let both = unify(&of(Int8, &[("a", "1"), ("b", "2")]), &of(Int8, &[("a", "1"), ("b", "3")])).unwrap();
        assert_eq!(both, of(Int8, &[("a", "1")]));
        let both = unify(&of(Null, &[]), &of(Int8, &[("a", "1")])).unwrap();
        assert_eq!(both, of(Int8, &[("a", "1")]).with_nullable(true));
        // An extension name tells what the bytes are.
        let uuid = of(FixedSizeBinary(16), &[(EXTENSION, "arrow.uuid")]);
        assert!(unify(&uuid, &of(FixedSizeBinary(16), &[(EXTENSION, "other")])).is_none());
        assert_eq!(unify(&uuid, &uuid), Some(uuid.clone()));
        assert_eq!(type_text(&uuid), "arrow.uuid (FixedSizeBinary(16))");
        // A time in UTC differs from a time that is not.
        let time = Time64(TimeUnit::Microsecond);
        assert!(unify(&of(time.clone(), &[(IN_UTC, "true")]), &of(time, &[])).is_none());
    }
}
