//! Turns a column of any type into colours: the first pass surveys the values, and a later pass
//! computes the paint of each row.
//!
//! What must hold: memory does not grow with the rows; numbers are compared and subtracted in their
//! own type, without rounding.

use std::collections::{BTreeMap, HashMap};

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::*;

use crate::picture::{ColorScale, NAMED, ValueNumber, ValueRange, ValueUnit};

/// The most different texts that are counted, and the most bytes of them. Above that, the rarest
/// texts are dropped.
const MAX_TEXTS: usize = 100_000;
const MAX_TEXT_BYTES: usize = 64 << 20;

/// The reason why a column cannot give colours.
pub(super) type Refusal = String;

/// The kind of a column's values.
#[derive(Clone, Debug, PartialEq)]
enum ColumnKind {
    /// Categories.
    Texts,
    /// Integers with their unit. Plain integers with few different values are categories.
    Integers(ValueUnit),
    Floats,
}

/// The values of a portion of rows.
enum ColumnValues {
    Texts(StringArray),
    Integers(Vec<Option<i128>>),
    /// NaN for a missing value.
    Floats(Vec<f64>),
}

/// Returns the reason why a column of this type cannot give colours, if any.
pub fn check_type(data_type: &DataType) -> Result<(), String> {
    kind(data_type).map(drop)
}

fn kind(data_type: &DataType) -> Result<ColumnKind, Refusal> {
    use DataType::*;
    let scale = |scale: i8| Ok(ColumnKind::Integers(ValueUnit::Plain { scale }));
    match data_type {
        Dictionary(_, values) => kind(values),
        RunEndEncoded(_, values) => kind(values.data_type()),
        Utf8 | LargeUtf8 | Utf8View | Boolean | Null => Ok(ColumnKind::Texts),
        uuid if *uuid == UUID => Ok(ColumnKind::Texts),
        Float16 | Float32 | Float64 => Ok(ColumnKind::Floats),
        integer if integer.is_integer() => scale(0),
        Decimal32(_, s) | Decimal64(_, s) | Decimal128(_, s) | Decimal256(_, s) => scale(*s),
        Date32 | Date64 => Ok(ColumnKind::Integers(ValueUnit::Date)),
        Timestamp(_, zone) => Ok(ColumnKind::Integers(ValueUnit::Moment { zone: zone.as_deref().map(Into::into) })),
        Time32(_) | Time64(_) => Ok(ColumnKind::Integers(ValueUnit::TimeOfDay)),
        Duration(_) => Ok(ColumnKind::Integers(ValueUnit::Duration)),
        other => Err(format!("type {other} is neither text, number nor time")),
    }
}

/// Returns the values of a column without a dictionary or run lengths.
fn plain(values: &ArrayRef) -> Result<ArrayRef, Refusal> {
    match values.data_type() {
        DataType::Dictionary(_, inner) => cast(values, inner).map_err(|e| e.to_string()),
        DataType::RunEndEncoded(_, inner) => cast(values, inner.data_type()).map_err(|e| e.to_string()),
        _ => Ok(values.clone()),
    }
}

fn read(values: &ArrayRef) -> Result<ColumnValues, Refusal> {
    let plain = plain(values)?;
    match kind(plain.data_type())? {
        ColumnKind::Texts => texts(&plain).map(ColumnValues::Texts),
        ColumnKind::Integers(_) => wholes(&plain).map(ColumnValues::Integers),
        ColumnKind::Floats => {
            let floats = cast(&plain, &DataType::Float64).map_err(|e| e.to_string())?;
            let floats = floats.as_primitive_opt::<Float64Type>().ok_or("not a number")?;
            Ok(ColumnValues::Floats(floats.iter().map(|v| v.unwrap_or(f64::NAN)).collect()))
        }
    }
}

/// The type of UUIDs, and of other values of 16 bytes, which are written as UUIDs are.
pub(crate) const UUID: DataType = DataType::FixedSizeBinary(16);

/// Converts values to texts, as which categories and labels are compared.
pub(crate) fn texts(values: &ArrayRef) -> Result<StringArray, Refusal> {
    let values = &plain(values)?;
    if let Some(uuids) = values.as_fixed_size_binary_opt().filter(|_| *values.data_type() == UUID) {
        return Ok(uuids.iter().map(|uuid| uuid.map(uuid_text)).collect());
    }
    let texts = cast(values, &DataType::Utf8).map_err(|e| e.to_string())?;
    texts.as_string_opt::<i32>().cloned().ok_or_else(|| format!("type {} is not text", values.data_type()))
}

/// Returns a UUID in its usual form, such as "67e55044-10b1-426f-9247-bb680e5fe0c8".
fn uuid_text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
    }
    text
}

/// Converts values to integers; times to nanoseconds.
fn wholes(values: &ArrayRef) -> Result<Vec<Option<i128>>, Refusal> {
    fn of<T: ArrowPrimitiveType>(values: &ArrayRef, each: i128) -> Option<Vec<Option<i128>>>
    where
        T::Native: Into<i128>,
    {
        let whole = |v: T::Native| Into::<i128>::into(v).saturating_mul(each);
        Some(values.as_primitive_opt::<T>()?.iter().map(|v| v.map(whole)).collect())
    }
    use TimeUnit::*;
    const DAY: i128 = 86_400 * S;
    const S: i128 = 1_000_000_000;
    const MS: i128 = 1_000_000;
    const US: i128 = 1_000;
    let wholes = match values.data_type() {
        DataType::Int8 => of::<Int8Type>(values, 1),
        DataType::Int16 => of::<Int16Type>(values, 1),
        DataType::Int32 => of::<Int32Type>(values, 1),
        DataType::Int64 => of::<Int64Type>(values, 1),
        DataType::UInt8 => of::<UInt8Type>(values, 1),
        DataType::UInt16 => of::<UInt16Type>(values, 1),
        DataType::UInt32 => of::<UInt32Type>(values, 1),
        DataType::UInt64 => of::<UInt64Type>(values, 1),
        DataType::Decimal32(..) => of::<Decimal32Type>(values, 1),
        DataType::Decimal64(..) => of::<Decimal64Type>(values, 1),
        DataType::Decimal128(..) => of::<Decimal128Type>(values, 1),
        // Numbers of more than 38 digits, which no other type has, are clamped to the range of
        // i128.
        DataType::Decimal256(..) => values.as_primitive_opt::<Decimal256Type>().map(|decimals| {
            let whole = |v: i256| v.to_i128().unwrap_or(if v < i256::ZERO { i128::MIN } else { i128::MAX });
            decimals.iter().map(|v| v.map(whole)).collect()
        }),
        DataType::Date32 => of::<Date32Type>(values, DAY),
        DataType::Date64 => of::<Date64Type>(values, MS),
        DataType::Time32(Second) => of::<Time32SecondType>(values, S),
        DataType::Time32(Millisecond) => of::<Time32MillisecondType>(values, MS),
        DataType::Time64(Microsecond) => of::<Time64MicrosecondType>(values, US),
        DataType::Time64(Nanosecond) => of::<Time64NanosecondType>(values, 1),
        DataType::Timestamp(Second, _) => of::<TimestampSecondType>(values, S),
        DataType::Timestamp(Millisecond, _) => of::<TimestampMillisecondType>(values, MS),
        DataType::Timestamp(Microsecond, _) => of::<TimestampMicrosecondType>(values, US),
        DataType::Timestamp(Nanosecond, _) => of::<TimestampNanosecondType>(values, 1),
        DataType::Duration(Second) => of::<DurationSecondType>(values, S),
        DataType::Duration(Millisecond) => of::<DurationMillisecondType>(values, MS),
        DataType::Duration(Microsecond) => of::<DurationMicrosecondType>(values, US),
        DataType::Duration(Nanosecond) => of::<DurationNanosecondType>(values, 1),
        _ => None,
    };
    wholes.ok_or_else(|| format!("type {} was not expected", values.data_type()))
}

/// A summary of a column's values, from the first pass.
#[derive(Debug, Default)]
pub(super) struct ColorSurvey {
    kind: Option<ColumnKind>,
    texts: TextCounts,
    /// Counts of integers, until there are more different values than colours.
    wholes: BTreeMap<i128, u64>,
    many: bool,
    /// The smallest and the largest number.
    range: Option<(ValueNumber, ValueNumber)>,
}

impl ColorSurvey {
    /// Adds the next values.
    pub(super) fn add(&mut self, values: &ArrayRef) -> Result<(), Refusal> {
        let kind = kind(values.data_type())?;
        match self.kind.get_or_insert_with(|| kind.clone()) {
            first if *first == kind => {}
            _ => return Err(format!("its type changes to {} in a later batch", values.data_type())),
        }
        match read(values)? {
            ColumnValues::Texts(texts) => texts.iter().flatten().for_each(|text| self.texts.add(text)),
            ColumnValues::Integers(wholes) => {
                for value in wholes.into_iter().flatten() {
                    if !self.many {
                        *self.wholes.entry(value).or_default() += 1;
                        self.many = self.wholes.len() > NAMED;
                    }
                    let (low, high) = match self.range {
                        Some((ValueNumber::Integer(low), ValueNumber::Integer(high))) => (low, high),
                        _ => (value, value),
                    };
                    self.range = Some((ValueNumber::Integer(low.min(value)), ValueNumber::Integer(high.max(value))));
                }
            }
            ColumnValues::Floats(floats) => {
                for value in floats.into_iter().filter(|v| v.is_finite()) {
                    let (low, high) = match self.range {
                        Some((ValueNumber::Float(low), ValueNumber::Float(high))) => (low, high),
                        _ => (value, value),
                    };
                    self.range = Some((ValueNumber::Float(low.min(value)), ValueNumber::Float(high.max(value))));
                }
            }
        }
        Ok(())
    }

    /// Returns the categories to count again, if others were dropped in favour of them.
    pub(super) fn recount(&self) -> Option<TextRecount> {
        if !self.texts.dropped {
            return None;
        }
        // More categories than there are colours, because their order may change.
        let kept = self.texts.ranked().into_iter().take(20 * NAMED);
        Some(TextRecount { counts: kept.map(|(text, _)| (text, 0)).collect(), others: 0 })
    }

    /// Returns the colours of the column. `recount` is the result of [`recount`](Self::recount)
    /// after a pass.
    pub(super) fn finish(self, recount: Option<TextRecount>) -> ColumnColors {
        ColumnColors(self.paint(recount))
    }

    fn paint(self, recount: Option<TextRecount>) -> ValuePaint {
        let categories = match self.kind {
            Some(ColumnKind::Texts) | None => true,
            Some(ColumnKind::Integers(ValueUnit::Plain { scale: 0 })) => !self.many && !self.wholes.is_empty(),
            _ => self.range.is_none(),
        };
        if categories && !self.wholes.is_empty() {
            let codes = self.wholes.keys().zip(0..).map(|(&value, code)| (value, code)).collect();
            let names = self.wholes.iter().map(|(value, count)| (value.to_string(), *count)).collect();
            return ValuePaint::Integers(ColorScale::categories(names), codes);
        }
        if categories {
            let (counts, others) = match recount {
                Some(recount) => (recount.counts, recount.others),
                None => (self.texts.counts, 0),
            };
            // Sorted, so that codes do not depend on the hash table's order.
            let mut counted: Vec<(String, u64)> = counts.into_iter().collect();
            counted.sort();
            let codes = counted.iter().zip(0..).map(|((text, _), code)| (text.clone(), code)).collect();
            return ValuePaint::Texts(ColorScale::categories(counted).and_others(others), codes);
        }
        let range = match (self.range, self.kind) {
            (Some((ValueNumber::Integer(low), ValueNumber::Integer(high))), Some(ColumnKind::Integers(unit))) => {
                ValueRange::wholes(low, high, unit)
            }
            (Some((ValueNumber::Float(low), ValueNumber::Float(high))), _) => ValueRange::floats(low, high),
            _ => ValueRange::floats(0.0, 0.0),
        };
        ValuePaint::Scale(ColorScale::values(range.clone()), range)
    }
}

/// Counts of texts, in bounded memory.
#[derive(Debug, Default)]
struct TextCounts {
    counts: HashMap<String, u64>,
    bytes: usize,
    dropped: bool,
}

impl TextCounts {
    fn add(&mut self, text: &str) {
        if let Some(count) = self.counts.get_mut(text) {
            *count += 1;
            return;
        }
        if self.counts.len() >= MAX_TEXTS || self.bytes + text.len() > MAX_TEXT_BYTES {
            self.drop_half();
        }
        self.bytes += text.len();
        self.counts.insert(text.into(), 1);
    }

    /// Keeps the more frequent half of the texts.
    fn drop_half(&mut self) {
        let ranked = self.ranked();
        (self.dropped, self.bytes) = (true, 0);
        let bytes = &mut self.bytes;
        let kept = ranked.into_iter().take(MAX_TEXTS / 2).take_while(|(text, _)| {
            *bytes += text.len();
            *bytes <= MAX_TEXT_BYTES / 2
        });
        self.counts = kept.collect();
        self.bytes = self.counts.keys().map(String::len).sum();
    }

    /// Returns the texts, most frequent first; texts with equal counts in alphabetical order.
    fn ranked(&self) -> Vec<(String, u64)> {
        let mut ranked: Vec<(String, u64)> = self.counts.iter().map(|(text, count)| (text.clone(), *count)).collect();
        ranked.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ranked
    }
}

/// A second count of the most frequent texts, if there were too many different texts.
#[derive(Debug)]
pub(super) struct TextRecount {
    counts: HashMap<String, u64>,
    others: u64,
}

impl TextRecount {
    pub(super) fn add(&mut self, values: &ArrayRef) -> Result<(), Refusal> {
        if let ColumnValues::Texts(texts) = read(values)? {
            for text in texts.iter().flatten() {
                match self.counts.get_mut(text) {
                    Some(count) => *count += 1,
                    None => self.others += 1,
                }
            }
        }
        Ok(())
    }
}

/// The colours of a column's values, from a [`survey`](super::survey) of all of them.
#[derive(Debug)]
pub struct ColumnColors(ValuePaint);

/// The mapping from a column's values to colours.
#[derive(Debug)]
enum ValuePaint {
    Texts(ColorScale, HashMap<String, u32>),
    Integers(ColorScale, HashMap<i128, u32>),
    Scale(ColorScale, ValueRange),
}

/// The colours of a portion of rows, one entry for each row, as [`crate::picture::Color`] takes them.
#[derive(Debug, Clone, PartialEq)]
pub enum PortionColors {
    /// The code of each row's category. A missing value, and a text that is too rare to be counted,
    /// has the code `u32::MAX`, which is drawn grey.
    Categories(Vec<u32>),
    /// The place of each row's value along the scale, from 0 (smallest) to 1 (largest). A missing
    /// value is NaN, which is drawn grey.
    Places(Vec<f64>),
}

impl ColumnColors {
    /// Returns the scale: the categories with their numbers of rows, or the range of values; and the
    /// column's name as its heading.
    pub fn scale(&self) -> &ColorScale {
        match &self.0 {
            ValuePaint::Texts(scale, _) | ValuePaint::Integers(scale, _) | ValuePaint::Scale(scale, _) => scale,
        }
    }

    /// Sets the heading of the legend.
    pub(super) fn named(mut self, heading: &str) -> Self {
        let (ValuePaint::Texts(scale, _) | ValuePaint::Integers(scale, _) | ValuePaint::Scale(scale, _)) = &mut self.0;
        *scale = scale.clone().named(heading);
        self
    }

    /// Returns the colours of some values of the column.
    ///
    /// # Errors
    /// If their type is not that of the surveyed values.
    pub fn of(&self, values: &ArrayRef) -> crate::Result<PortionColors> {
        self.portion(values).map_err(crate::Error::job)
    }

    /// As [`of`](Self::of), with the reason alone as the error.
    pub(super) fn portion(&self, values: &ArrayRef) -> Result<PortionColors, Refusal> {
        let code = |code: Option<&u32>| code.copied().unwrap_or(u32::MAX);
        match (&self.0, read(values)?) {
            (ValuePaint::Texts(_, codes), ColumnValues::Texts(texts)) => {
                Ok(PortionColors::Categories(texts.iter().map(|text| code(text.and_then(|t| codes.get(t)))).collect()))
            }
            (ValuePaint::Integers(_, codes), ColumnValues::Integers(wholes)) => {
                Ok(PortionColors::Categories(wholes.iter().map(|v| code(v.and_then(|v| codes.get(&v)))).collect()))
            }
            (ValuePaint::Scale(_, range), ColumnValues::Integers(wholes)) => {
                let place = |v: Option<i128>| v.map_or(f64::NAN, |v| range.place(ValueNumber::Integer(v)));
                Ok(PortionColors::Places(wholes.into_iter().map(place).collect()))
            }
            (ValuePaint::Scale(_, range), ColumnValues::Floats(floats)) => {
                Ok(PortionColors::Places(floats.into_iter().map(|v| range.place(ValueNumber::Float(v))).collect()))
            }
            // A column without any value is all grey.
            (ValuePaint::Texts(..), _) => Ok(PortionColors::Categories(vec![u32::MAX; values.len()])),
            _ => Err(format!("its type changes to {} in a later batch", values.data_type())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::*;
    use arrow::datatypes::{DataType, Int8Type};

    use super::*;

    fn paints(portions: &[ArrayRef]) -> Result<ColumnColors, Refusal> {
        let mut survey = ColorSurvey::default();
        portions.iter().try_for_each(|p| survey.add(p))?;
        let mut recount = survey.recount();
        for recount in recount.iter_mut() {
            portions.iter().try_for_each(|p| recount.add(p))?;
        }
        Ok(survey.finish(recount))
    }

    /// Returns the categories by code; `None` if the column is a scale.
    fn categories(column: ArrayRef) -> Option<Vec<String>> {
        let mut names: Vec<(u32, String)> = match paints(&[column.clone(), column]).expect("colours").0 {
            ValuePaint::Texts(_, codes) => codes.into_iter().map(|(name, code)| (code, name)).collect(),
            ValuePaint::Integers(_, codes) => {
                codes.into_iter().map(|(value, code)| (code, value.to_string())).collect()
            }
            ValuePaint::Scale(..) => return None,
        };
        names.sort();
        Some(names.into_iter().map(|(_, name)| name).collect())
    }

    fn places(column: ArrayRef) -> Vec<f64> {
        let paints = paints(std::slice::from_ref(&column)).expect("colours");
        match paints.portion(&column).expect("paint") {
            PortionColors::Places(places) => places,
            PortionColors::Categories(codes) => panic!("categories {codes:?}"),
        }
    }

    #[track_caller]
    fn check_categories(column: impl Array + 'static, expected: &[&str]) {
        assert_eq!(categories(Arc::new(column)).expect("categories"), expected);
    }

    #[test]
    fn column_types_become_categories_or_scales() {
        check_categories(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]), &["a", "b"]);
        check_categories(["z", "y", "z"].into_iter().collect::<DictionaryArray<Int8Type>>(), &["y", "z"]);
        check_categories(BooleanArray::from(vec![Some(true), Some(false), None]), &["false", "true"]);
        check_categories(Int64Array::from(vec![10, 9, -1, 9]), &["-1", "9", "10"]);
        let ids = [(1u64 << 53) + 1, 1 << 53, u64::MAX];
        check_categories(
            UInt64Array::from(ids.to_vec()),
            &["9007199254740992", "9007199254740993", "18446744073709551615"],
        );
        check_categories(StringArray::from(vec![None::<&str>; 3]), &[]);
        check_categories(NullArray::new(3), &[]);
        let uuid = [0x67, 0xe5, 0x50, 0x44, 0x10, 0xb1, 0x42, 0x6f, 0x92, 0x47, 0xbb, 0x68, 0x0e, 0x5f, 0xe0, 0xc8];
        let uuids = [Some(uuid), None, Some([0; 16]), Some(uuid)].into_iter();
        check_categories(
            FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).unwrap(),
            &["00000000-0000-0000-0000-000000000000", "67e55044-10b1-426f-9247-bb680e5fe0c8"],
        );
        let uuids: ArrayRef = Arc::new(FixedSizeBinaryArray::try_from_iter([uuid, [0; 16]].into_iter()).unwrap());
        let uuids: ArrayRef = Arc::new(DictionaryArray::new(Int8Array::from(vec![Some(1), Some(0), None]), uuids));
        let zeros = "00000000-0000-0000-0000-000000000000";
        assert_eq!(categories(uuids.clone()).unwrap(), [zeros, "67e55044-10b1-426f-9247-bb680e5fe0c8"]);
        // As ids and labels are compared.
        assert_eq!(
            texts(&uuids).unwrap(),
            StringArray::from(vec![Some(zeros), Some("67e55044-10b1-426f-9247-bb680e5fe0c8"), None])
        );
        let values: ArrayRef = Arc::new(Int32Array::from(vec![7, 3]));
        check_categories(DictionaryArray::new(Int8Array::from(vec![0, 1, 0]), values), &["3", "7"]);
        for scale in [
            Arc::new(UInt64Array::from_iter_values(0..=NAMED as u64)) as ArrayRef,
            Arc::new(Float64Array::from(vec![1.0, 1.0])),
            Arc::new(TimestampSecondArray::from(vec![1, 2])),
            Arc::new(Decimal128Array::from(vec![1, 2]).with_precision_and_scale(9, 2).unwrap()),
            Arc::new(Date32Array::from(vec![1, 2])),
            Arc::new(DurationMillisecondArray::from(vec![1, 2])),
            Arc::new(Time64NanosecondArray::from(vec![1, 2])),
        ] {
            assert_eq!(categories(scale.clone()), None, "{}", scale.data_type());
        }
    }

    /// Values that f32, and some that f64, cannot distinguish have different places.
    #[test]
    fn near_values_far_from_zero_have_places_of_their_own() {
        let columns: [ArrayRef; 8] = [
            Arc::new(TimestampSecondArray::from_iter_values((0..=600).map(|i| 1_714_521_600 + i))),
            Arc::new(TimestampNanosecondArray::from_iter_values((0..=600).map(|i| 1_714_521_600_000_000_000 + i))),
            Arc::new(Int64Array::from_iter_values((0..=600).map(|i| (1 << 60) + i))),
            Arc::new(UInt64Array::from_iter_values((0..=600).map(|i| u64::MAX - 600 + i))),
            Arc::new(Float64Array::from_iter_values((0..=600).map(|i| 1.7e9 + f64::from(i) / 10.0))),
            Arc::new(Date32Array::from_iter_values((0..=600).map(|i| 19_000 + i))),
            Arc::new(Decimal128Array::from_iter_values((0..=600).map(|i| 10i128.pow(30) + i))),
            Arc::new(Decimal256Array::from_iter_values((0..=600).map(|i| i256::from_i128(10i128.pow(30) + i)))),
        ];
        for column in columns {
            let places = places(column.clone());
            for (i, place) in places.iter().enumerate() {
                assert!((place - i as f64 / 600.0).abs() < 1e-6, "{}: {place} of {i}", column.data_type());
            }
        }
    }

    #[test]
    fn missing_values_have_no_position() {
        let places = places(Arc::new(Float64Array::from(vec![
            Some(2.5),
            None,
            Some(f64::NAN),
            Some(-1.0),
            Some(f64::INFINITY),
        ])));
        assert!(places[0] == 1.0 && places[1].is_nan() && places[2].is_nan() && places[3] == 0.0 && places[4] == 1.0);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None]));
        let paints = paints(std::slice::from_ref(&texts)).expect("colours");
        let later: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("new")]));
        match paints.portion(&later).expect("paint") {
            PortionColors::Categories(codes) => assert_eq!(codes, [0, u32::MAX, u32::MAX]),
            PortionColors::Places(places) => panic!("{places:?}"),
        }
    }

    #[test]
    fn columns_without_colours_are_refused_by_their_type() {
        let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"x"]));
        assert!(paints(&[bytes]).is_err_and(|why| why.contains("Binary")));
        assert!(check_type(&DataType::Interval(arrow::datatypes::IntervalUnit::DayTime)).is_err());
        assert!(check_type(&DataType::Timestamp(TimeUnit::Second, Some("UTC".into()))).is_ok());
    }

    #[test]
    fn frequent_texts_keep_colours_and_counts() {
        let name = |i: usize| if i % 3 == 1 && i > 150_000 { "late".into() } else { format!("n{i}") };
        let often = |i: usize| if i.is_multiple_of(3) { "often".into() } else { name(i) };
        let portions: Vec<ArrayRef> = (0..300_000)
            .step_by(50_000)
            .map(|from| Arc::new(StringArray::from_iter_values((from..from + 50_000).map(often))) as ArrayRef)
            .collect();
        match paints(&portions).expect("colours").0 {
            ValuePaint::Texts(scale, codes) => {
                let shown = scale.ranked();
                assert_eq!(&shown[..2], [("often".to_string(), 100_000), ("late".to_string(), 50_000)]);
                assert!(codes.len() < 1_000 && codes.contains_key("late"));
                assert_eq!(scale.total(), 300_000);
            }
            other => panic!("{other:?}"),
        }
    }
}
