//! Converts Arrow arrays, of lists nested to any depth, to rows of numbers.
//!
//! At each level of nesting, a row's elements are consecutive in that level's array. [`ElementStarts`]
//! stores where they begin: one number for all rows if the rows follow one another without gaps,
//! else one number for each row.
//!
//! What must hold: a null never becomes a number, whatever value its slot has; a row without
//! components is a null; rows of different lengths are an error.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, OffsetSizeTrait, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    ArrowNativeType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use half::f16;

use crate::Dtype;
use crate::number::{RoundFrom, VectorFloat};

/// Why rows cannot be read. Rows are counted from the beginning of the array.
#[derive(Debug, PartialEq)]
pub(crate) enum FlattenError {
    /// A row whose length differs from the expected one.
    Ragged { row: usize, expected: usize, found: usize },
    /// A type that does not hold numbers.
    Type(DataType),
    /// An array whose parts contradict each other.
    Damaged(&'static str),
}

type FlattenResult<T> = std::result::Result<T, FlattenError>;

const TOO_FEW_VALUES: FlattenError = FlattenError::Damaged("has fewer values than its lists say");

/// How the numbers of a row are stored in an array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FlattenPath<'a> {
    /// The names of the fields that lead through nested structs.
    pub(crate) fields: &'a [String],
    /// The number type of bytes, if the array holds bytes rather than numbers.
    pub(crate) word: Option<Dtype>,
    /// For each level of lists (or byte strings) of any length, from the outermost inwards: the
    /// number of entries (or bytes) that each must have.
    pub(crate) lengths: &'a [usize],
}

impl<'a> FlattenPath<'a> {
    /// Returns the child of a struct that `fields` names, and how to read this child.
    fn field(self, array: &'a ArrayRef) -> FlattenResult<(&'a ArrayRef, Self)> {
        let child = self.fields.split_first().and_then(|(name, rest)| {
            let child = array.as_struct().column_by_name(name)?;
            Some((child, FlattenPath { fields: rest, ..self }))
        });
        child.ok_or_else(|| FlattenError::Type(array.data_type().clone()))
    }
}

/// Returns the number of components in `bytes` bytes read as `word`; `None` if they do not fit
/// evenly.
pub(crate) fn components(word: Dtype, bytes: usize) -> Option<usize> {
    match word {
        Dtype::Bits => bytes.checked_mul(8),
        word => bytes.is_multiple_of(word.bytes()).then_some(bytes / word.bytes()),
    }
}

/// Where each row's elements begin in an array.
enum ElementStarts {
    /// The begin of the first row's elements; the next rows follow without gaps.
    Run(usize),
    /// The begin of each row's elements; `NOWHERE` if the row is null.
    Each(Vec<usize>),
}

const NOWHERE: usize = usize::MAX;

impl ElementStarts {
    /// Returns the begin of the elements of `row`, if each row has `each` elements; `None` for a
    /// null row.
    fn begin(&self, row: usize, each: usize) -> Option<usize> {
        match self {
            ElementStarts::Run(start) => Some(start + row * each),
            ElementStarts::Each(starts) => starts.get(row).copied().filter(|&start| start != NOWHERE),
        }
    }

    /// Returns the places in a child array that has `n` values for every element of this one.
    fn times(&self, n: usize) -> ElementStarts {
        match self {
            ElementStarts::Run(start) => ElementStarts::Run(start * n),
            ElementStarts::Each(starts) => {
                ElementStarts::Each(starts.iter().map(|&s| if s == NOWHERE { s } else { s * n }).collect())
            }
        }
    }
}

/// Resolves elements of a dictionary or run-end-encoded array: returns the values, and the index
/// among them of each of `elements` (`NOWHERE` if the element is null or was `NOWHERE`).
fn dictionary_indices(
    array: &ArrayRef,
    elements: impl Iterator<Item = usize>,
) -> FlattenResult<(&ArrayRef, Vec<usize>)> {
    macro_rules! keys {
        ($array:expr, $key:ty) => {{
            let keys = $array.as_primitive::<$key>();
            let key = |i: usize| if i == NOWHERE || keys.is_null(i) { NOWHERE } else { keys.value(i).as_usize() };
            elements.map(key).collect::<Vec<_>>()
        }};
    }
    macro_rules! runs {
        ($ends:ty) => {{
            let runs = array.as_run::<$ends>();
            let place = |i: usize| if i == NOWHERE { NOWHERE } else { runs.get_physical_index(i) };
            (runs.values(), elements.map(place).collect::<Vec<_>>())
        }};
    }
    let unknown = || FlattenError::Type(array.data_type().clone());
    let (values, places) = match array.data_type() {
        DataType::Dictionary(key, _) => {
            let dictionary = array.as_any_dictionary();
            let keys = dictionary.keys();
            let places = match key.as_ref() {
                DataType::Int8 => keys!(keys, Int8Type),
                DataType::Int16 => keys!(keys, Int16Type),
                DataType::Int32 => keys!(keys, Int32Type),
                DataType::Int64 => keys!(keys, Int64Type),
                DataType::UInt8 => keys!(keys, UInt8Type),
                DataType::UInt16 => keys!(keys, UInt16Type),
                DataType::UInt32 => keys!(keys, UInt32Type),
                DataType::UInt64 => keys!(keys, UInt64Type),
                _ => return Err(unknown()),
            };
            (dictionary.values(), places)
        }
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => runs!(Int16Type),
            DataType::Int32 => runs!(Int32Type),
            DataType::Int64 => runs!(Int64Type),
            _ => return Err(unknown()),
        },
        _ => return Err(unknown()),
    };
    match places.iter().all(|&place| place == NOWHERE || place < values.len()) {
        true => Ok((values, places)),
        false => Err(TOO_FEW_VALUES),
    }
}

/// Returns the lengths for [`FlattenPath::lengths`], taken from the first row of `array` that has
/// components; `None` if no row has any.
pub(crate) fn lengths(array: &ArrayRef, how: FlattenPath<'_>) -> FlattenResult<Option<Vec<usize>>> {
    for row in 0..array.len() {
        let mut found = Vec::new();
        if lengths_of(array, row, how, &mut found)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Appends the lengths within element `at` to `found`. Returns whether the element has components.
fn lengths_of(array: &ArrayRef, at: usize, how: FlattenPath<'_>, found: &mut Vec<usize>) -> FlattenResult<bool> {
    let is_null = array.is_null(at);
    let mut list = |values: &ArrayRef, start: usize, length: usize| {
        found.push(length);
        Ok(!is_null && length > 0 && start < values.len() && lengths_of(values, start, how, found)?)
    };
    match array.data_type() {
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            list(lists.values(), lists.value_offsets()[at].as_usize(), lists.value_length(at).as_usize())
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            list(lists.values(), lists.value_offsets()[at].as_usize(), lists.value_length(at).as_usize())
        }
        DataType::ListView(_) => {
            let lists = array.as_list_view::<i32>();
            list(lists.values(), lists.value_offset(at).as_usize(), lists.value_size(at).as_usize())
        }
        DataType::LargeListView(_) => {
            let lists = array.as_list_view::<i64>();
            list(lists.values(), lists.value_offset(at).as_usize(), lists.value_size(at).as_usize())
        }
        DataType::FixedSizeList(_, size) => {
            let (values, start) = (array.as_fixed_size_list().values(), at * size.as_usize());
            Ok(!is_null && start < values.len() && lengths_of(values, start, how, found)?)
        }
        DataType::Struct(_) => {
            let (child, how) = how.field(array)?;
            Ok(!is_null && lengths_of(child, at, how, found)?)
        }
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => {
            let (values, places) = dictionary_indices(array, std::iter::once(at))?;
            match places.as_slice() {
                [place] if *place != NOWHERE => lengths_of(values, *place, how, found),
                _ => Ok(false),
            }
        }
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView if is_null => Ok(false),
        DataType::Binary => blob(array.as_binary::<i32>().value(at), found),
        DataType::LargeBinary => blob(array.as_binary::<i64>().value(at), found),
        DataType::BinaryView => blob(array.as_binary_view().value(at), found),
        DataType::Null => Ok(false),
        // A null number in a list tells as much about the list's length as a number does.
        _ => Ok(true),
    }
}

fn blob(bytes: &[u8], found: &mut Vec<usize>) -> FlattenResult<bool> {
    found.push(bytes.len());
    Ok(!bytes.is_empty())
}

/// The destination: components `at..at + width` of each row of `out`, whose rows have `dim`
/// components.
pub(crate) struct ComponentSlots<'a, N> {
    pub(crate) out: &'a mut [N],
    pub(crate) dim: usize,
    pub(crate) at: usize,
    pub(crate) width: usize,
}

impl<N: VectorFloat> ComponentSlots<'_, N> {
    /// Fills the components from `array`, which has one element for each row.
    pub(crate) fn fill(&mut self, array: &ArrayRef, how: FlattenPath<'_>) -> FlattenResult<()> {
        self.level(array, &ElementStarts::Run(0), 1, how)
    }

    fn rows(&self) -> usize {
        self.out.len() / self.dim.max(1)
    }

    /// Fills the components from an array in which each row has `each` elements.
    fn level(
        &mut self,
        array: &ArrayRef,
        places: &ElementStarts,
        each: usize,
        how: FlattenPath<'_>,
    ) -> FlattenResult<()> {
        let within = |start: usize, count: Option<usize>| {
            count.and_then(|count| count.checked_add(start)).is_some_and(|end| end <= array.len())
        };
        let whole = match places {
            ElementStarts::Run(start) => within(*start, self.rows().checked_mul(each)),
            ElementStarts::Each(starts) => starts.iter().all(|&start| start == NOWHERE || within(start, Some(each))),
        };
        if !whole {
            return Err(TOO_FEW_VALUES);
        }
        match (array.data_type(), how.word) {
            (DataType::FixedSizeList(_, size), _) => {
                let size = usize::try_from(*size).map_err(|_| TOO_FEW_VALUES)?;
                self.level(array.as_fixed_size_list().values(), &places.times(size), each.saturating_mul(size), how)?;
            }
            (DataType::Struct(_), _) => {
                let (child, how) = how.field(array)?;
                self.level(child, places, each, how)?;
            }
            (DataType::List(_), _) => return self.lists::<i32>(array, places, each, how),
            (DataType::LargeList(_), _) => return self.lists::<i64>(array, places, each, how),
            (DataType::ListView(_), _) => return self.views::<i32>(array, places, each, how),
            (DataType::LargeListView(_), _) => return self.views::<i64>(array, places, each, how),
            (DataType::Dictionary(..) | DataType::RunEndEncoded(..), _) => {
                return self.indirect(array, places, each, how);
            }
            (DataType::Null, _) => {
                for slots in self.out.chunks_exact_mut(self.dim) {
                    slots[self.at..self.at + self.width].fill(N::NULL);
                }
            }
            (DataType::Binary, Some(word)) => {
                let blobs = array.as_binary::<i32>();
                let length = how.lengths.first().copied().unwrap_or(0);
                return self.blobs(word, length, array, places, each, |i| blobs.value(i));
            }
            (DataType::LargeBinary, Some(word)) => {
                let blobs = array.as_binary::<i64>();
                let length = how.lengths.first().copied().unwrap_or(0);
                return self.blobs(word, length, array, places, each, |i| blobs.value(i));
            }
            (DataType::BinaryView, Some(word)) => {
                let blobs = array.as_binary_view();
                let length = how.lengths.first().copied().unwrap_or(0);
                return self.blobs(word, length, array, places, each, |i| blobs.value(i));
            }
            (DataType::FixedSizeBinary(length), Some(word)) => {
                let blobs = array.as_fixed_size_binary();
                return self.blobs(word, length.as_usize(), array, places, each, |i| blobs.value(i));
            }
            (DataType::UInt8, Some(word)) => {
                let bytes: &[u8] = array.as_primitive::<UInt8Type>().values();
                self.bytes(word, bytes, places, each);
            }
            (DataType::Int8, Some(word)) => {
                let bytes: &[i8] = array.as_primitive::<Int8Type>().values();
                self.bytes(word, bytemuck::cast_slice(bytes), places, each);
            }
            (other, Some(_)) => return Err(FlattenError::Type(other.clone())),
            (DataType::Float16, None) => self.halves(array.as_primitive::<Float16Type>().values(), places, each),
            (DataType::Float32, None) => self.numbers::<Float32Type>(array, places, each),
            (DataType::Float64, None) => self.numbers::<Float64Type>(array, places, each),
            (DataType::Int8, None) => self.numbers::<Int8Type>(array, places, each),
            (DataType::Int16, None) => self.numbers::<Int16Type>(array, places, each),
            (DataType::Int32, None) => self.numbers::<Int32Type>(array, places, each),
            (DataType::Int64, None) => self.numbers::<Int64Type>(array, places, each),
            (DataType::UInt8, None) => self.numbers::<UInt8Type>(array, places, each),
            (DataType::UInt16, None) => self.numbers::<UInt16Type>(array, places, each),
            (DataType::UInt32, None) => self.numbers::<UInt32Type>(array, places, each),
            (DataType::UInt64, None) => self.numbers::<UInt64Type>(array, places, each),
            (DataType::Boolean, None) => {
                let values = array.as_boolean().values();
                self.put_each(places, each, |i| N::take(u8::from(values.value(i))));
            }
            (DataType::Decimal32(_, scale), None) => {
                let values = array.as_primitive::<Decimal32Type>().values();
                self.put_each(places, each, |i| N::take(scale_decimal(f64::from(values[i]), *scale)));
            }
            (DataType::Decimal64(_, scale), None) => {
                let values = array.as_primitive::<Decimal64Type>().values();
                self.put_each(places, each, |i| N::take(scale_decimal(values[i] as f64, *scale)));
            }
            (DataType::Decimal128(_, scale), None) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                self.put_each(places, each, |i| N::take(scale_decimal(values[i] as f64, *scale)));
            }
            (DataType::Decimal256(_, scale), None) => {
                let values = array.as_primitive::<Decimal256Type>().values();
                self.put_each(places, each, |i| {
                    // The crate converts only values of 128 bits directly; wider ones go through
                    // text.
                    let whole = values[i].to_i128().map(|whole| whole as f64);
                    let whole = whole.or_else(|| values[i].to_string().parse().ok());
                    N::take(scale_decimal(whole.unwrap_or(f64::NAN), *scale))
                });
            }
            (other, None) => return Err(FlattenError::Type(other.clone())),
        }
        self.mark(array.nulls(), places, each);
        Ok(())
    }

    fn lists<O: OffsetSizeTrait>(
        &mut self,
        array: &ArrayRef,
        places: &ElementStarts,
        each: usize,
        how: FlattenPath<'_>,
    ) -> FlattenResult<()> {
        let lists = array.as_list::<O>();
        let offsets = lists.value_offsets();
        let bounds = |i: usize| (offsets[i].as_usize(), (offsets[i + 1] - offsets[i]).as_usize());
        self.within(lists.values(), lists.nulls(), bounds, places, each, how)
    }

    fn views<O: OffsetSizeTrait>(
        &mut self,
        array: &ArrayRef,
        places: &ElementStarts,
        each: usize,
        how: FlattenPath<'_>,
    ) -> FlattenResult<()> {
        let lists = array.as_list_view::<O>();
        let (offsets, sizes) = (lists.value_offsets(), lists.value_sizes());
        let bounds = |i: usize| (offsets[i].as_usize(), sizes[i].as_usize());
        self.within(lists.values(), lists.nulls(), bounds, places, each, how)
    }

    /// Descends from lists to their values. `bounds` returns the begin and the length of a list.
    fn within(
        &mut self,
        values: &ArrayRef,
        nulls: Option<&NullBuffer>,
        bounds: impl Fn(usize) -> (usize, usize),
        places: &ElementStarts,
        each: usize,
        how: FlattenPath<'_>,
    ) -> FlattenResult<()> {
        let (&length, lengths) = how.lengths.split_first().ok_or(FlattenError::Damaged("has lists where none were"))?;
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        let even = |start: usize| {
            let origin = bounds(start).0;
            nulls.is_none() && (0..self.rows() * each).all(|i| bounds(start + i) == (origin + i * length, length))
        };
        let inner = match places {
            // Without rows there is no first list whose bounds could be read.
            ElementStarts::Run(start) if self.rows() > 0 && even(*start) => ElementStarts::Run(bounds(*start).0),
            _ => {
                let start_of = |row: usize| {
                    let Some(start) = places.begin(row, each) else { return Ok(NOWHERE) };
                    let (origin, mut whole) = (bounds(start).0, true);
                    for i in 0..each {
                        let (begin, found) = bounds(start + i);
                        if found == 0 || nulls.is_some_and(|nulls| nulls.is_null(start + i)) {
                            whole = false;
                        } else if found != length {
                            return Err(FlattenError::Ragged { row, expected: length, found });
                        } else if whole && begin != origin + i * length {
                            return Err(FlattenError::Damaged(
                                "has list views within lists that are not in their order",
                            ));
                        }
                    }
                    // If one list within a row is missing, the whole row is null.
                    Ok(if whole { origin } else { NOWHERE })
                };
                ElementStarts::Each((0..self.rows()).map(start_of).collect::<FlattenResult<_>>()?)
            }
        };
        self.level(values, &inner, each.saturating_mul(length), FlattenPath { lengths, ..how })
    }

    /// Descends from dictionary keys or runs to their values.
    fn indirect(
        &mut self,
        array: &ArrayRef,
        places: &ElementStarts,
        each: usize,
        how: FlattenPath<'_>,
    ) -> FlattenResult<()> {
        let elements = (0..self.rows()).flat_map(|row| {
            let start = places.begin(row, each);
            (0..each).map(move |i| start.map_or(NOWHERE, |start| start + i))
        });
        let (values, found) = dictionary_indices(array, elements)?;
        if each == 1 {
            return self.level(values, &ElementStarts::Each(found), 1, how);
        }
        // A row's values may be scattered, so they are gathered into a new array.
        let found = UInt64Array::from_iter(found.iter().map(|&i| (i != NOWHERE).then_some(i as u64)));
        let together = arrow::compute::take(values, &found, None).map_err(|_| TOO_FEW_VALUES)?;
        self.level(&together, &ElementStarts::Run(0), each, how)
    }

    fn numbers<T: ArrowPrimitiveType>(&mut self, array: &ArrayRef, places: &ElementStarts, each: usize)
    where
        N: RoundFrom<T::Native>,
    {
        self.put(array.as_primitive::<T>().values(), places, each, |numbers, slots| {
            for (slot, number) in slots.iter_mut().zip(numbers) {
                *slot = N::take(*number);
            }
        });
    }

    fn halves(&mut self, halves: &[f16], places: &ElementStarts, each: usize) {
        self.put(halves, places, each, |halves, slots| match (halves, slots) {
            ([half], [slot]) => *slot = N::take(*half),
            (halves, slots) => N::halves(halves, slots),
        });
    }

    /// Copies the values of each row into its components, in runs that are contiguous on both
    /// sides.
    fn put<T>(&mut self, values: &[T], places: &ElementStarts, each: usize, put: impl Fn(&[T], &mut [N])) {
        let count = self.rows() * each;
        match places {
            ElementStarts::Run(start) if each == self.dim => put(&values[*start..start + count], self.out),
            ElementStarts::Run(start) if each == 1 => {
                let slots = self.out.iter_mut().skip(self.at).step_by(self.dim);
                for (slot, value) in slots.zip(values[*start..start + count].chunks(1)) {
                    put(value, std::slice::from_mut(slot));
                }
            }
            _ => {
                for (row, slots) in self.out.chunks_exact_mut(self.dim).enumerate() {
                    let slots = &mut slots[self.at..self.at + each];
                    match places.begin(row, each) {
                        Some(start) => put(&values[start..start + each], slots),
                        None => slots.fill(N::NULL),
                    }
                }
            }
        }
    }

    /// Sets each component to `number` of its element.
    fn put_each(&mut self, places: &ElementStarts, each: usize, number: impl Fn(usize) -> N) {
        for (row, slots) in self.out.chunks_exact_mut(self.dim).enumerate() {
            let slots = &mut slots[self.at..self.at + each];
            match places.begin(row, each) {
                Some(start) => slots.iter_mut().zip(start..).for_each(|(slot, i)| *slot = number(i)),
                None => slots.fill(N::NULL),
            }
        }
    }

    /// Reads byte strings of `length` bytes; each row has `each` of them.
    fn blobs<'v>(
        &mut self,
        word: Dtype,
        length: usize,
        array: &ArrayRef,
        places: &ElementStarts,
        each: usize,
        value: impl Fn(usize) -> &'v [u8],
    ) -> FlattenResult<()> {
        let part = (self.width / each).max(1);
        for (row, slots) in self.out.chunks_exact_mut(self.dim).enumerate() {
            let slots = &mut slots[self.at..self.at + self.width];
            let start = places.begin(row, each);
            for (i, slots) in slots.chunks_exact_mut(part).enumerate() {
                let bytes = start.map(|start| start + i).filter(|&at| !array.is_null(at)).map_or(&[][..], &value);
                match bytes.len() {
                    0 => slots.fill(N::NULL),
                    found if found == length => read(word, bytes, slots),
                    found => return Err(FlattenError::Ragged { row, expected: length, found }),
                }
            }
        }
        Ok(())
    }

    /// Reads the bytes of each row; each row has `each` bytes.
    fn bytes(&mut self, word: Dtype, bytes: &[u8], places: &ElementStarts, each: usize) {
        for (row, slots) in self.out.chunks_exact_mut(self.dim).enumerate() {
            let slots = &mut slots[self.at..self.at + self.width];
            match places.begin(row, each) {
                Some(start) => read(word, &bytes[start..start + each], slots),
                None => slots.fill(N::NULL),
            }
        }
    }

    /// Sets the components of null elements to null.
    fn mark(&mut self, nulls: Option<&NullBuffer>, places: &ElementStarts, each: usize) {
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return };
        for (row, slots) in self.out.chunks_exact_mut(self.dim).enumerate() {
            let Some(start) = places.begin(row, each) else { continue };
            for i in (0..each).filter(|i| nulls.is_null(start + i)) {
                // A byte may be a part of a component, or (bits) several components.
                let (from, to) = (i * self.width / each, ((i + 1) * self.width).div_ceil(each));
                slots[self.at + from..self.at + to].fill(N::NULL);
            }
        }
    }
}

/// Returns the decimal `whole` · 10^-`scale`.
fn scale_decimal(whole: f64, scale: i8) -> f64 {
    // Powers of ten up to 10²² are exact in f64, so the result is rounded only once.
    let power = 10f64.powi(i32::from(scale).abs());
    if scale >= 0 { whole / power } else { whole * power }
}

/// Reads little-endian bytes as `word`, one number for each slot.
fn read<N: VectorFloat>(word: Dtype, bytes: &[u8], slots: &mut [N]) {
    macro_rules! numbers {
        ($number:ty) => {
            for (slot, bytes) in slots.iter_mut().zip(bytes.as_chunks().0) {
                *slot = N::take(<$number>::from_le_bytes(*bytes));
            }
        };
    }
    match word {
        Dtype::F16 => numbers!(f16),
        Dtype::F32 => numbers!(f32),
        Dtype::F64 => numbers!(f64),
        Dtype::U8 => numbers!(u8),
        Dtype::I8 => numbers!(i8),
        Dtype::Bf16 => {
            for (slot, bytes) in slots.iter_mut().zip(bytes.as_chunks().0) {
                *slot = N::take(f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16));
            }
        }
        // Bits: the most significant bit of a byte comes first, as in numpy.packbits.
        _ => {
            for (slots, byte) in slots.chunks_mut(8).zip(bytes) {
                slots.iter_mut().enumerate().for_each(|(i, slot)| *slot = N::take(byte >> (7 - i) & 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_the_named_type() {
        let check = |word, bytes: &[u8], expected: &[f64]| {
            assert_eq!(components(word, bytes.len()), Some(expected.len()));
            let (mut single, mut double) = (vec![0f32; expected.len()], vec![0f64; expected.len()]);
            read(word, bytes, &mut single);
            read(word, bytes, &mut double);
            assert_eq!(double, expected);
            assert!(single.iter().zip(&double).all(|(a, b)| f64::from(*a) == *b));
        };
        check(Dtype::F32, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0], &[1.0, -2.0]);
        check(Dtype::F64, &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f], &[1.0]);
        check(Dtype::F16, &[0, 0x3c, 0, 0xc0], &[1.0, -2.0]);
        check(Dtype::Bf16, &[0x80, 0x3f, 0, 0xc0], &[1.0, -2.0]);
        check(Dtype::U8, &[0, 255], &[0.0, 255.0]);
        check(Dtype::I8, &[1, 255], &[1.0, -1.0]);
        check(
            Dtype::Bits,
            &[0b1000_0000, 0b0000_0011],
            &[1., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 0., 1., 1.],
        );
        assert_eq!(components(Dtype::F32, 7), None);
    }

    #[test]
    fn decimals_are_rounded_once() {
        assert_eq!(scale_decimal(12_345.0, 4), 1.2345);
        assert_eq!(scale_decimal(-3.0, 1), -0.3);
        assert_eq!(scale_decimal(7.0, -3), 7000.0);
    }
}
