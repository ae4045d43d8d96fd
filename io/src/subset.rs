//! A source that consists of some rows of another source.
//!
//! What must hold: a row's values, columns and location are those of its row in the inner source,
//! and the rows keep their order. Memory is [`RowSet::bytes`], slightly more than one bit for each
//! row. Reading needs no buffer of its own, and reads the inner source only forwards, in runs as
//! long as the number of rows that are still missing.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use xxhash_rust::xxh3::xxh3_64;

use crate::source::check_range;
use crate::{Dtype, Result, RowLocation, Shape, Source, SourceId};

/// Bits of a word, and words between two stored ranks.
const WORD: u64 = 64;
const WORDS: usize = 8;

/// A set of rows of a source, renumbered from 0 in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    /// The number of rows of the source.
    all: u64,
    /// One bit for each row, lowest bit first.
    words: Vec<u64>,
    /// The number of rows of the set before each block of words; at the end, the size of the set.
    ranks: Vec<u64>,
}

/// A [`RowSet`] under construction: all rows at first, from which some are removed.
#[derive(Debug)]
pub struct RowSetBuilder {
    all: u64,
    words: Vec<u64>,
}

impl RowSetBuilder {
    /// Begins with all of `rows` rows.
    pub fn new(rows: u64) -> Self {
        let mut words = vec![u64::MAX; rows.div_ceil(WORD) as usize];
        if let Some(last) = words.last_mut().filter(|_| !rows.is_multiple_of(WORD)) {
            *last = (1 << (rows % WORD)) - 1;
        }
        RowSetBuilder { all: rows, words }
    }

    /// Removes a row. A number beyond the last row is ignored.
    pub fn remove(&mut self, row: u64) {
        if let Some(word) = self.words.get_mut((row / WORD) as usize) {
            *word &= !(1 << (row % WORD));
        }
    }

    /// Returns the set of the remaining rows.
    pub fn finish(self) -> RowSet {
        let mut ranks = Vec::with_capacity(self.words.len().div_ceil(WORDS) + 1);
        let mut before = 0;
        for block in self.words.chunks(WORDS) {
            ranks.push(before);
            before += block.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
        }
        ranks.push(before);
        RowSet { all: self.all, words: self.words, ranks }
    }

    /// Returns the builder whose remaining rows are the removed rows of this one.
    #[must_use]
    pub fn complement(self) -> Self {
        let mut other = RowSetBuilder::new(self.all);
        other.words.iter_mut().zip(&self.words).for_each(|(word, removed)| *word &= !removed);
        other
    }
}

impl RowSet {
    /// Returns the bytes of a set over a source of `rows` rows, whatever the size of the set.
    pub fn bytes(rows: u64) -> u64 {
        let words = rows.div_ceil(WORD);
        words * 8 + (words.div_ceil(WORDS as u64) + 1) * 8
    }

    /// Returns the number of rows of the source.
    pub fn all(&self) -> u64 {
        self.all
    }

    /// Returns the number of rows of the set.
    pub fn count(&self) -> u64 {
        self.ranks.last().copied().unwrap_or(0)
    }

    /// Returns whether the set contains row `row` of the source.
    pub fn contains(&self, row: u64) -> bool {
        self.words.get((row / WORD) as usize).is_some_and(|word| word >> (row % WORD) & 1 == 1)
    }

    /// Returns the number of rows of the set before row `row` of the source.
    pub fn rank(&self, row: u64) -> u64 {
        if row >= self.all {
            return self.count();
        }
        let word = (row / WORD) as usize;
        let block = word / WORDS;
        let before: u64 = self.words[block * WORDS..word].iter().map(|word| u64::from(word.count_ones())).sum();
        self.ranks[block] + before + u64::from((self.words[word] & ((1 << (row % WORD)) - 1)).count_ones())
    }

    /// Returns the source's row number of row `row` of the set; the number of rows of the source if
    /// there is no such row.
    pub fn source_row(&self, row: u64) -> u64 {
        if row >= self.count() {
            return self.all;
        }
        // Of several blocks with the same rank, all but the last are empty.
        let block = self.ranks.partition_point(|&rank| rank <= row) - 1;
        let mut left = row - self.ranks[block];
        for (at, &word) in self.words.iter().enumerate().skip(block * WORDS) {
            let here = u64::from(word.count_ones());
            if left < here {
                return at as u64 * WORD + nth_bit(word, left);
            }
            left -= here;
        }
        self.all
    }

    /// Returns a checksum that identifies the set.
    pub fn checksum(&self) -> u64 {
        let bytes: Vec<u64> = self.words.chunks(1 << 16).map(|words| xxh3_64(&as_bytes(words))).collect();
        xxh3_64(&as_bytes(&bytes)) ^ self.all
    }
}

fn as_bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Returns the position of the set bit of `word` that has `n` set bits below it.
fn nth_bit(mut word: u64, n: u64) -> u64 {
    for _ in 0..n {
        word &= word - 1;
    }
    u64::from(word.trailing_zeros())
}

/// A source that consists of the rows of a [`RowSet`].
pub struct SubsetSource {
    source: Arc<dyn Source>,
    rows: Arc<RowSet>,
}

impl SubsetSource {
    /// Returns the source of the rows `rows` of `source`.
    pub fn new(source: Arc<dyn Source>, rows: Arc<RowSet>) -> Self {
        SubsetSource { source, rows }
    }

    /// Calls `piece(row, rows, done)` until `wanted` rows of the set, from row `first` of the set
    /// on, are read. `piece` takes the rows of the set among `rows` rows of the source from row
    /// `row` on, where `done` rows were taken before, and returns how many it took.
    fn each(&self, first: u64, wanted: usize, mut piece: impl FnMut(u64, usize, usize) -> Result<usize>) -> Result<()> {
        let mut done = 0;
        while done < wanted {
            let row = self.rows.source_row(first + done as u64);
            let here = ((wanted - done) as u64).min(self.rows.all - row) as usize;
            if here == 0 {
                break;
            }
            done += piece(row, here, done)?;
        }
        Ok(())
    }

    /// Reads rows by `read` directly into `out`. Rows that are not in the set are overwritten by
    /// the next ones.
    fn read<T: Copy>(&self, first: u64, out: &mut [T], read: impl Fn(u64, &mut [T]) -> Result<()>) -> Result<()> {
        let shape = self.shape();
        check_range(&self.locate(first).path, shape, first, out.len())?;
        let dim = shape.dim.max(1);
        self.each(first, out.len() / dim, |row, rows, done| {
            let out = &mut out[done * dim..][..rows * dim];
            read(row, out)?;
            let mut kept = 0;
            for i in (0..rows).filter(|&i| self.rows.contains(row + i as u64)) {
                if i != kept {
                    out.copy_within(i * dim..(i + 1) * dim, kept * dim);
                }
                kept += 1;
            }
            Ok(kept)
        })
    }
}

impl Source for SubsetSource {
    fn shape(&self) -> Shape {
        Shape { rows: self.rows.count(), dim: self.source.shape().dim }
    }

    fn dtype(&self) -> Dtype {
        self.source.dtype()
    }

    fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
        self.read(first, out, |row, out| self.source.read_rows(row, out))
    }

    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
        self.read(first, out, |row, out| self.source.read_rows_f64(row, out))
    }

    fn locate(&self, row: u64) -> RowLocation {
        self.source.locate(self.rows.source_row(row))
    }

    fn column_of(&self, row: u64, component: usize) -> Option<String> {
        self.source.column_of(self.rows.source_row(row), component)
    }

    fn columns(&self) -> Vec<String> {
        self.source.columns()
    }

    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
        let shape = self.shape();
        check_range(&self.locate(first).path, shape, first, rows.saturating_mul(shape.dim))?;
        if rows == 0 {
            return self.source.read_columns(names, 0, 0);
        }
        let mut batches = Vec::new();
        let wrong = |e: arrow::error::ArrowError| crate::Error::format(self.locate(first).path, e.to_string());
        self.each(first, rows, |row, here, _| {
            let batch = self.source.read_columns(names, row, here)?;
            let kept: BooleanArray = (row..row + here as u64).map(|row| Some(self.rows.contains(row))).collect();
            let batch = filter_record_batch(&batch, &kept).map_err(wrong)?;
            let count = batch.num_rows();
            batches.push(batch);
            Ok(count)
        })?;
        match batches.as_slice() {
            [one] => Ok(one.clone()),
            [one, ..] => concat_batches(&one.schema(), &batches).map_err(wrong),
            [] => self.source.read_columns(names, 0, 0),
        }
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

    fn held_bytes(&self) -> u64 {
        self.source.held_bytes()
    }

    fn resident_bytes(&self) -> u64 {
        self.source.resident_bytes() + RowSet::bytes(self.rows.all)
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
    use std::sync::Mutex;

    use arrow::array::{AsArray, UInt64Array};
    use arrow::datatypes::{DataType, Field, Schema, UInt64Type};
    use proptest::prelude::*;

    use super::*;

    /// A source in memory whose components are computed from the row number; records what is read.
    pub(crate) struct NumberedSource {
        pub(crate) rows: u64,
        pub(crate) dim: usize,
        pub(crate) asked: Mutex<Vec<(u64, usize)>>,
    }

    impl Source for NumberedSource {
        fn shape(&self) -> Shape {
            Shape { rows: self.rows, dim: self.dim }
        }
        fn dtype(&self) -> Dtype {
            Dtype::F64
        }
        fn read_rows(&self, first: u64, out: &mut [f32]) -> Result<()> {
            let mut wide = vec![0.0; out.len()];
            self.read_rows_f64(first, &mut wide)?;
            out.iter_mut().zip(wide).for_each(|(out, x)| *out = x as f32);
            Ok(())
        }
        fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> Result<()> {
            check_range("numbered".as_ref(), self.shape(), first, out.len())?;
            self.asked.lock().unwrap().push((first, out.len() / self.dim));
            let at = first * self.dim as u64;
            out.iter_mut().zip(at..).for_each(|(out, i)| *out = i as f64);
            Ok(())
        }
        fn locate(&self, row: u64) -> RowLocation {
            RowLocation { path: "numbered".into(), row }
        }
        fn columns(&self) -> Vec<String> {
            vec!["n".into()]
        }
        fn read_columns(&self, _: &[String], first: u64, rows: usize) -> Result<RecordBatch> {
            let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::UInt64, false)]));
            let numbers = UInt64Array::from_iter_values(first..first + rows as u64);
            Ok(RecordBatch::try_new(schema, vec![Arc::new(numbers)]).unwrap())
        }
        fn id(&self) -> Result<SourceId> {
            Ok(SourceId::Once)
        }
        fn vector_column(&self) -> Option<String> {
            None
        }
    }

    fn check(rows: u64, dim: usize, removed: &[u64], portion: usize) {
        let mut set = RowSetBuilder::new(rows);
        removed.iter().for_each(|&row| set.remove(row));
        let set = Arc::new(set.finish());
        let kept: Vec<u64> = (0..rows).filter(|row| !removed.contains(row)).collect();
        assert_eq!((set.all(), set.count()), (rows, kept.len() as u64));
        for (at, &row) in kept.iter().enumerate() {
            assert_eq!(set.source_row(at as u64), row);
        }
        assert_eq!(set.source_row(kept.len() as u64), rows);
        for row in 0..=rows {
            assert_eq!(set.rank(row), kept.partition_point(|&kept| kept < row) as u64, "rank of {row}");
            assert_eq!(set.contains(row), kept.contains(&row));
        }
        let source = Arc::new(NumberedSource { rows, dim, asked: Mutex::default() });
        let subset = SubsetSource::new(source.clone(), set);
        let names = ["n".to_string()];
        for first in (0..kept.len()).step_by(portion) {
            let kept = &kept[first..kept.len().min(first + portion)];
            let expected: Vec<f64> =
                kept.iter().flat_map(|row| (row * dim as u64..(row + 1) * dim as u64).map(|i| i as f64)).collect();
            let (mut narrow, mut wide) = (vec![-1.0; expected.len()], vec![-1.0; expected.len()]);
            subset.read_rows(first as u64, &mut narrow).unwrap();
            source.asked.lock().unwrap().clear();
            subset.read_rows_f64(first as u64, &mut wide).unwrap();
            assert_eq!(wide, expected);
            assert_eq!(narrow, expected.iter().map(|&x| x as f32).collect::<Vec<_>>());
            let asked = source.asked.lock().unwrap();
            assert!(asked.windows(2).all(|pair| pair[0].0 + pair[0].1 as u64 <= pair[1].0), "read forward only");
            let batch = subset.read_columns(&names, first as u64, kept.len()).unwrap();
            assert_eq!(batch.column(0).as_primitive::<UInt64Type>().values(), kept);
            assert_eq!(subset.locate(first as u64).row, kept[0]);
        }
        assert!(subset.read_rows(kept.len() as u64, &mut vec![0.0; dim]).is_err());
        assert_eq!(subset.read_columns(&names, 0, 0).unwrap().num_rows(), 0);
    }

    #[test]
    fn complement_has_the_removed_rows() {
        for rows in [1, 63, 64, 65, 1000] {
            let mut builder = RowSetBuilder::new(rows);
            (0..rows).filter(|row| row % 3 == 0).for_each(|row| builder.remove(row));
            let set = builder.complement().finish();
            assert_eq!(set.count(), rows.div_ceil(3));
            assert!((0..rows).all(|row| set.contains(row) == (row % 3 == 0)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn subset_reads_only_its_rows(
            rows in 1u64..1_300,
            dim in 1usize..4,
            every in 1u64..40,
            offset in 0u64..40,
            run in 0u64..700,
            portion in 1usize..500,
        ) {
            let mut removed: Vec<u64> = (offset.min(rows)..rows).step_by(every as usize + 1).collect();
            removed.extend((offset * 3).min(rows)..(offset * 3 + run).min(rows));
            check(rows, dim, &removed, portion);
        }
    }

    #[test]
    fn subset_of_none_all_and_the_ends() {
        check(64, 1, &[], 10);
        check(65, 2, &[0, 64], 100);
        check(512, 1, &(0..511).collect::<Vec<_>>(), 3);
        check(100, 1, &(0..100).collect::<Vec<_>>(), 3);
        assert_ne!(RowSetBuilder::new(10).finish().checksum(), RowSetBuilder::new(11).finish().checksum());
        let set = RowSetBuilder::new(1_000).finish();
        assert!(RowSet::bytes(1_000) >= (set.words.len() + set.ranks.len()) as u64 * 8);
    }

    #[test]
    fn subset_reads_few_runs() {
        let mut set = RowSetBuilder::new(100_000);
        (1_000..99_000).for_each(|row| set.remove(row));
        let source = Arc::new(NumberedSource { rows: 100_000, dim: 1, asked: Mutex::default() });
        let subset = SubsetSource::new(source.clone(), Arc::new(set.finish()));
        subset.read_rows_f64(0, &mut [0.0; 2_000]).unwrap();
        let read: usize = source.asked.lock().unwrap().drain(..).map(|(_, rows)| rows).sum();
        assert!(read <= 3_000, "{read} rows read for 2000");
        let mut set = RowSetBuilder::new(100_000);
        (0..100_000).step_by(10).for_each(|row| set.remove(row));
        let subset = SubsetSource::new(source.clone(), Arc::new(set.finish()));
        subset.read_rows_f64(0, &mut vec![0.0; 65_536]).unwrap();
        assert!(source.asked.lock().unwrap().len() < 12);
    }
}
