//! A source whose columns are shifted by constants before they are rounded to `f32`.
//!
//! Single-precision numbers near 1.7e9 are 128 apart. If a column's numbers are far from 0 and
//! close to each other, rounding loses most of their differences, unless a common constant is
//! subtracted first in double precision.
//!
//! What must hold: the shift depends only on the source's first rows; a column for which rounding
//! loses little is not shifted, so that ordinary data are read unchanged.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use crate::number::{NULL, is_null_f64};
use crate::{Dtype, Result, RowLocation, Shape, Source, SourceId};

/// The most and the least number of rows from which a shift is computed; the least applies if rows
/// have many components.
const MOST_ROWS: usize = 1024;
const LEAST_ROWS: usize = 64;
/// The most numbers from which a shift is computed (except for the least number of rows), and the
/// numbers read at a time.
const NUMBERS: usize = 1 << 20;
const PORTION: usize = 1 << 16;
/// A column is shifted if its median exceeds its spread this many times. Single precision would
/// then keep less than 18 bits of the spread.
const MIN_OFFSET_RATIO: f64 = 64.0;
/// A column that is constant in the first rows is shifted if its median exceeds this.
const MIN_CONSTANT_OFFSET: f64 = 65_536.0;

/// The constants that are subtracted from each component of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shift(Vec<f64>);

impl Shift {
    /// Computes the shift of a source: for each column the median of its first 1,024 rows (of fewer
    /// rows, but at least 64, if a row has more than 1,024 components), without nulls and
    /// non-finite numbers. A column is shifted if the absolute median is more than 64 times the
    /// distance of the quartiles (more than 65,536 for a column that is constant in these rows).
    /// The shift is rounded so that the remaining median is at most that distance. `None` if no
    /// column is far from 0, or if `f32` holds the components exactly.
    ///
    /// # Errors
    /// If the rows cannot be read.
    pub fn of(source: &dyn Source) -> Result<Option<Shift>> {
        let Shape { rows, dim } = source.shape();
        if source.dtype().is_single() || dim == 0 {
            return Ok(None);
        }
        let rows = rows.min((NUMBERS / dim).clamp(LEAST_ROWS, MOST_ROWS) as u64) as usize;
        let mut values = vec![0.0; rows * dim];
        source.read_rows_f64(0, &mut values)?;
        let mut column = Vec::with_capacity(rows);
        let shift: Vec<f64> = (0..dim)
            .map(|c| {
                column.clear();
                column.extend(values.iter().skip(c).step_by(dim).filter(|x| x.is_finite()));
                far(&mut column)
            })
            .collect();
        Ok(shift.iter().any(|&s| s != 0.0).then_some(Shift(shift)))
    }

    /// Returns the subtracted constants, one for each component; 0 for components that are not
    /// shifted.
    pub fn values(&self) -> &[f64] {
        &self.0
    }

    /// Returns the number of shifted components.
    pub fn moved(&self) -> usize {
        self.0.iter().filter(|&&s| s != 0.0).count()
    }
}

/// Returns the shift for a column's numbers: 0 unless the numbers are far from 0.
fn far(numbers: &mut [f64]) -> f64 {
    numbers.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| numbers.get(((numbers.len() as f64 - 1.0) * share) as usize).copied();
    let (Some(low), Some(median), Some(high)) = (at(0.25), at(0.5), at(0.75)) else { return 0.0 };
    // If half of the numbers are equal, the quartiles may coincide; the range is used then.
    let spread = if high > low { high - low } else { numbers[numbers.len() - 1] - numbers[0] };
    // A column that is constant so far may vary later, so its spread is unknown.
    let far = median.abs() > if spread > 0.0 { MIN_OFFSET_RATIO * spread } else { MIN_CONSTANT_OFFSET };
    match (far, spread > 0.0) {
        (false, _) => 0.0,
        (true, false) => median,
        (true, true) => {
            // The grid is a power of two, so that its multiples are exact and short.
            let grid = spread.log2().floor().exp2();
            let rounded = (median / grid).round() * grid;
            if rounded.is_finite() { rounded } else { median }
        }
    }
}

/// A source whose columns are shifted.
pub struct ShiftedSource {
    source: Arc<dyn Source>,
    shift: Shift,
}

impl ShiftedSource {
    /// Returns `source` with `shift` subtracted from each row.
    ///
    /// # Panics
    /// If the shift has another number of components than the source.
    pub fn new(source: Arc<dyn Source>, shift: Shift) -> Self {
        assert_eq!(source.shape().dim, shift.0.len(), "a shift for each component");
        ShiftedSource { source, shift }
    }
}

impl Source for ShiftedSource {
    fn shape(&self) -> Shape {
        self.source.shape()
    }

    fn dtype(&self) -> Dtype {
        self.source.dtype()
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        let dim = self.shape().dim;
        let rows = (PORTION / dim).max(1);
        let mut wide = vec![0.0; (rows * dim).min(out.len())];
        for (out, first) in out.chunks_mut(rows * dim).zip((first..).step_by(rows)) {
            let wide = &mut wide[..out.len()];
            self.source.read_rows_f64(first, wide)?;
            for (out, wide) in out.chunks_mut(dim).zip(wide.chunks(dim)) {
                for ((out, &x), &shift) in out.iter_mut().zip(wide).zip(&self.shift.0) {
                    *out = if is_null_f64(x) { NULL } else { (x - shift) as f32 };
                }
            }
        }
        Ok(())
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.source.read_rows_f64(first, out)?;
        for row in out.chunks_mut(self.shape().dim) {
            for (x, &shift) in row.iter_mut().zip(&self.shift.0).filter(|(x, _)| !is_null_f64(**x)) {
                *x -= shift;
            }
        }
        Ok(())
    }

    fn locate(&self, row: u64) -> RowLocation {
        self.source.locate(row)
    }

    fn column_of(&self, row: u64, component: usize) -> Option<String> {
        self.source.column_of(row, component)
    }

    fn columns(&self) -> Vec<String> {
        self.source.columns()
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        self.source.read_columns(names, first, rows)
    }

    fn column_schema(&self, names: &[String]) -> Result<SchemaRef> {
        self.source.column_schema(names)
    }

    fn unsure_columns(&self, names: &[String]) -> Result<Vec<String>> {
        self.source.unsure_columns(names)
    }

    fn try_columns(&self, names: &[String]) -> Result<()> {
        self.source.try_columns(names)
    }

    fn categories(&self, name: &str) -> Result<Option<ArrayRef>> {
        self.source.categories(name)
    }

    fn id(&self) -> Result<SourceId> {
        self.source.id()
    }

    fn vector_column(&self) -> Option<String> {
        self.source.vector_column()
    }

    /// The bytes of the inner source, and a portion in double precision.
    fn held_bytes(&self) -> u64 {
        let dim = self.shape().dim as u64;
        self.source.held_bytes() + 8 * dim.max((PORTION as u64).min(self.shape().rows.saturating_mul(dim)))
    }

    fn resident_bytes(&self) -> u64 {
        self.source.resident_bytes() + self.shift.0.len() as u64 * 8
    }

    fn endless_streams(&self) -> Vec<std::path::PathBuf> {
        self.source.endless_streams()
    }

    fn release(&self) {
        self.source.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::{NULL_F64, is_null};
    use crate::source::check_range;

    /// Rows of two columns in memory.
    struct ShiftedTable(Vec<[f64; 2]>, Dtype);

    impl Source for ShiftedTable {
        fn shape(&self) -> Shape {
            Shape { rows: self.0.len() as u64, dim: 2 }
        }
        fn dtype(&self) -> Dtype {
            self.1
        }
        fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
            let mut wide = vec![0.0; out.len()];
            self.read_rows_f64(first, &mut wide)?;
            out.iter_mut().zip(wide).for_each(|(out, x)| *out = x as f32);
            Ok(())
        }
        fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
            check_range("table".as_ref(), self.shape(), first, out.len())?;
            let rows = self.0.iter().skip(first as usize).flatten();
            out.iter_mut().zip(rows).for_each(|(out, x)| *out = *x);
            Ok(())
        }
        fn locate(&self, row: u64) -> RowLocation {
            RowLocation { path: "table".into(), row }
        }
        fn columns(&self) -> Vec<String> {
            Vec::new()
        }
        fn read_columns(&self, _: &[String], _: u64, rows: usize) -> Result<RecordBatch> {
            crate::source::no_columns("table".as_ref(), rows)
        }
        fn id(&self) -> Result<SourceId> {
            Ok(SourceId::Once)
        }
        fn vector_column(&self) -> Option<String> {
            None
        }
    }

    fn table(rows: usize, value: impl Fn(f64) -> [f64; 2]) -> ShiftedTable {
        ShiftedTable((0..rows).map(|i| value((i as f64 * 0.7).sin())).collect(), Dtype::F64)
    }

    #[test]
    fn a_column_far_from_0_is_moved_and_others_are_not() {
        let shift = Shift::of(&table(500, |x| [1.7e9 + 86_400.0 * x, 5.0 + x])).unwrap().expect("a shift");
        let &[far, near] = shift.values() else { panic!("{shift:?}") };
        assert!((far - 1.7e9).abs() < 86_400.0 && far % 65_536.0 == 0.0, "{far}");
        assert_eq!((near, shift.moved()), (0.0, 1));
        // Ordinary data are not shifted, nor is a constant of moderate size.
        assert_eq!(Shift::of(&table(500, |x| [50.0 + x, 273.15])).unwrap(), None);
        assert_eq!(Shift::of(&table(500, |x| [1e-30 * x, -1e30 * x])).unwrap(), None);
        let constant = Shift::of(&table(500, |x| [-4e8, x])).unwrap().expect("a shift");
        assert_eq!(constant.values(), [-4e8, 0.0]);
        // f32 holds these numbers exactly.
        let single = ShiftedTable(table(500, |x| [4e8 + x, x]).0, Dtype::F32);
        assert_eq!(Shift::of(&single).unwrap(), None);
    }

    #[test]
    fn nan_is_ignored_by_the_shift() {
        let sound = table(40, |x| [1.7e9 + x, x]);
        let mut rows = sound.0.clone();
        for (at, row) in [(0, [NULL_F64; 2]), (7, [f64::NAN, 0.5]), (9, [f64::INFINITY, 0.5])] {
            rows.insert(at, row);
        }
        let spoilt = ShiftedTable(rows, Dtype::F64);
        let shift = Shift::of(&spoilt).unwrap();
        assert_eq!(shift, Shift::of(&sound).unwrap());
        assert_eq!(Shift::of(&ShiftedTable(vec![[f64::NAN; 2]; 3], Dtype::F64)).unwrap(), None);
        let shifted = ShiftedSource::new(Arc::new(spoilt), shift.expect("a shift"));
        let mut read = [0f32; 86];
        shifted.read_rows(0, &mut read).unwrap();
        assert!(is_null(read[0]) && is_null(read[1]) && read[14].is_nan() && read[18] == f32::INFINITY);
        let mut wide = [0f64; 86];
        shifted.read_rows_f64(0, &mut wide).unwrap();
        assert!(is_null_f64(wide[0]) && !is_null_f64(wide[14]));
    }

    #[test]
    fn differences_are_those_of_the_file() {
        let source = Arc::new(table(3_000, |x| [4e8 + x, 1e15 + 1000.0 * (1000.0 * x).round()]));
        let shift = Shift::of(source.as_ref()).unwrap().expect("a shift");
        let shifted = ShiftedSource::new(source.clone(), shift.clone());
        let mut all = vec![0f32; 6_000];
        shifted.read_rows(0, &mut all).unwrap();
        for (row, read) in source.0.iter().zip(all.chunks(2)) {
            for c in 0..2 {
                assert_eq!(f64::from(read[c]), f64::from((row[c] - shift.values()[c]) as f32));
                let differs = f64::from(read[c]) - (row[c] - shift.values()[c]);
                assert!(differs.abs() < 1e-6 * [1.0, 1e6][c], "{differs}");
            }
        }
        let mut some = [0f32; 20];
        shifted.read_rows(1_000, &mut some).unwrap();
        assert_eq!(some, all[2_000..2_020]);
    }
}
