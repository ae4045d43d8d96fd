//! Arrow arrays, of lists in lists to any depth, as rows of numbers.
//!
//! A row's elements lie one behind the other in the array at each level: a
//! level says where they begin in the next one. Where rows follow one another
//! without a gap, that is one number for all rows; else one for each row.
//!
//! What must hold: a null never becomes a number, whatever lies behind it; a
//! row without components is a null; rows of different lengths are an error.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, OffsetSizeTrait};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use half::f16;

use crate::number::{Number, Take};

/// Why rows cannot be read. Rows are counted from the array's first.
#[derive(Debug, PartialEq)]
pub(crate) enum Wrong {
    /// A row of another length than the first one's.
    Ragged { row: usize, expected: usize, found: usize },
    /// A type that does not hold numbers.
    Type(DataType),
    /// An array that contradicts itself.
    Damaged(&'static str),
}

type Result<T> = std::result::Result<T, Wrong>;

const FEWER: Wrong = Wrong::Damaged("has fewer values than its lists say");

/// Where each row's elements begin in an array.
enum Places {
    /// At this place for the first row, and without a gap for the next ones.
    Run(usize),
    /// At its own place for each row; `NOWHERE` where the row is null.
    Each(Vec<usize>),
}

const NOWHERE: usize = usize::MAX;

impl Places {
    /// Where the elements of `row` begin, of which each row has `each`.
    fn begin(&self, row: usize, each: usize) -> Option<usize> {
        match self {
            Places::Run(start) => Some(start + row * each),
            Places::Each(starts) => starts.get(row).copied().filter(|&start| start != NOWHERE),
        }
    }

    /// The places in an array that holds `n` values for every element of this one.
    fn times(&self, n: usize) -> Places {
        match self {
            Places::Run(start) => Places::Run(start * n),
            Places::Each(starts) => {
                Places::Each(starts.iter().map(|&s| if s == NOWHERE { s } else { s * n }).collect())
            }
        }
    }
}

/// Components `at..at + width` of each row of `out`, whose rows are `dim` long.
pub(crate) struct Slots<'a, N> {
    pub(crate) out: &'a mut [N],
    pub(crate) dim: usize,
    pub(crate) at: usize,
    pub(crate) width: usize,
}

/// How many entries the lists of each level have that may be of any length,
/// from the outermost inwards, by the first row of `array` that has components;
/// `None` if no row has any.
pub(crate) fn lengths(array: &ArrayRef) -> Result<Option<Vec<usize>>> {
    for row in 0..array.len() {
        let mut found = Vec::new();
        if lengths_of(array, row, &mut found)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn lengths_of(array: &ArrayRef, at: usize, found: &mut Vec<usize>) -> Result<bool> {
    // A null among a list's numbers says as much of the list's length as a number.
    if array.is_null(at) && array.data_type().is_nested() {
        return Ok(false);
    }
    let mut list = |values: &ArrayRef, start: usize, length: usize| {
        found.push(length);
        Ok(length > 0 && start < values.len() && lengths_of(values, start, found)?)
    };
    match array.data_type() {
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            list(lists.values(), lists.value_offsets()[at] as usize, lists.value_length(at) as usize)
        }
        DataType::LargeList(_) => {
            let lists = array.as_list::<i64>();
            list(lists.values(), lists.value_offsets()[at] as usize, lists.value_length(at) as usize)
        }
        DataType::FixedSizeList(_, size) => {
            let (values, start) = (array.as_fixed_size_list().values(), at * *size as usize);
            Ok(start < values.len() && lengths_of(values, start, found)?)
        }
        _ => Ok(true),
    }
}

impl<N: Number> Slots<'_, N> {
    /// Fills the slots from `array`, one element a row. `lengths` are those that [`lengths`] found.
    pub(crate) fn fill(&mut self, array: &ArrayRef, lengths: &[usize]) -> Result<()> {
        self.level(array, &Places::Run(0), 1, lengths)
    }

    fn rows(&self) -> usize {
        self.out.len() / self.dim.max(1)
    }

    /// Fills the slots from an array in which each row has `each` elements.
    fn level(&mut self, array: &ArrayRef, places: &Places, each: usize, lengths: &[usize]) -> Result<()> {
        let within = |start: usize, count: Option<usize>| {
            count.and_then(|count| count.checked_add(start)).is_some_and(|end| end <= array.len())
        };
        let whole = match places {
            Places::Run(start) => within(*start, self.rows().checked_mul(each)),
            Places::Each(starts) => starts.iter().all(|&start| start == NOWHERE || within(start, Some(each))),
        };
        if !whole {
            return Err(FEWER);
        }
        match array.data_type() {
            DataType::FixedSizeList(_, size) => {
                let size = usize::try_from(*size).map_err(|_| FEWER)?;
                self.level(array.as_fixed_size_list().values(), &places.times(size), each * size, lengths)?;
            }
            DataType::List(_) => return self.lists::<i32>(array, places, each, lengths),
            DataType::LargeList(_) => return self.lists::<i64>(array, places, each, lengths),
            DataType::Float16 => self.halves(array.as_primitive::<Float16Type>().values(), places, each),
            DataType::Float32 => self.numbers::<Float32Type>(array, places, each),
            DataType::Float64 => self.numbers::<Float64Type>(array, places, each),
            DataType::Int8 => self.numbers::<Int8Type>(array, places, each),
            DataType::Int16 => self.numbers::<Int16Type>(array, places, each),
            DataType::Int32 => self.numbers::<Int32Type>(array, places, each),
            DataType::Int64 => self.numbers::<Int64Type>(array, places, each),
            DataType::UInt8 => self.numbers::<UInt8Type>(array, places, each),
            DataType::UInt16 => self.numbers::<UInt16Type>(array, places, each),
            DataType::UInt32 => self.numbers::<UInt32Type>(array, places, each),
            DataType::UInt64 => self.numbers::<UInt64Type>(array, places, each),
            other => return Err(Wrong::Type(other.clone())),
        }
        self.mark(array.nulls(), places, each);
        Ok(())
    }

    fn lists<O: OffsetSizeTrait>(
        &mut self,
        array: &ArrayRef,
        places: &Places,
        each: usize,
        lengths: &[usize],
    ) -> Result<()> {
        let (&length, lengths) = lengths.split_first().ok_or(Wrong::Damaged("has lists where none were"))?;
        let lists = array.as_list::<O>();
        let offsets = lists.value_offsets();
        let nulls = lists.nulls().filter(|nulls| nulls.null_count() > 0);
        let count = self.rows() * each;
        let even = |start: usize| offsets[start..=start + count].windows(2).all(|p| (p[1] - p[0]).as_usize() == length);
        let inner = match places {
            Places::Run(start) if nulls.is_none() && even(*start) => Places::Run(offsets[*start].as_usize()),
            _ => {
                let start_of = |row: usize| {
                    let Some(start) = places.begin(row, each) else { return Ok(NOWHERE) };
                    let mut whole = true;
                    for i in start..start + each {
                        let found = (offsets[i + 1] - offsets[i]).as_usize();
                        if found == 0 || nulls.is_some_and(|nulls| nulls.is_null(i)) {
                            whole = false;
                        } else if found != length {
                            return Err(Wrong::Ragged { row, expected: length, found });
                        }
                    }
                    // Where one list within a row is missing, the others are of no use.
                    Ok(if whole { offsets[start].as_usize() } else { NOWHERE })
                };
                Places::Each((0..self.rows()).map(start_of).collect::<Result<_>>()?)
            }
        };
        self.level(lists.values(), &inner, each * length, lengths)
    }

    fn numbers<T: ArrowPrimitiveType>(&mut self, array: &ArrayRef, places: &Places, each: usize)
    where
        N: Take<T::Native>,
    {
        self.put(array.as_primitive::<T>().values(), places, each, |numbers, slots| {
            for (slot, number) in slots.iter_mut().zip(numbers) {
                *slot = N::take(*number);
            }
        });
    }

    fn halves(&mut self, halves: &[f16], places: &Places, each: usize) {
        self.put(halves, places, each, |halves, slots| match (halves, slots) {
            ([half], [slot]) => *slot = N::take(*half),
            (halves, slots) => N::halves(halves, slots),
        });
    }

    /// Puts the values of each row into its slots, as many at a time as lie together in both.
    fn put<T>(&mut self, values: &[T], places: &Places, each: usize, put: impl Fn(&[T], &mut [N])) {
        let count = self.rows() * each;
        match places {
            Places::Run(start) if each == self.dim => put(&values[*start..start + count], self.out),
            Places::Run(start) if each == 1 => {
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

    /// Makes nulls of the components behind each null element.
    fn mark(&mut self, nulls: Option<&NullBuffer>, places: &Places, each: usize) {
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else { return };
        for (row, slots) in self.out.chunks_exact_mut(self.dim).enumerate() {
            let Some(start) = places.begin(row, each) else { continue };
            for i in (0..each).filter(|i| nulls.is_null(start + i)) {
                let (from, to) = (i * self.width / each, ((i + 1) * self.width).div_ceil(each));
                slots[self.at + from..self.at + to].fill(N::NULL);
            }
        }
    }
}
