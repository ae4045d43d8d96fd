//! The vectors in list order: the file that FAISS calls on-disk inverted
//! lists, seen as one table whose rows are renumbered by list.
//!
//! Layout of `lists.ivf`, list after list, nothing between: the list's
//! vectors (size × dim × f32), then the rows of the source that they are
//! (size × i64), little-endian. FAISS reads the same bytes through
//! `index.faiss`. Row numbers are u32: planning refuses more rows than that.

use std::ops::Range;
use std::path::Path;

use lowland_io::{Error as IoError, Mapped};

use crate::Result;
use crate::neighbors::kernel::squared_distance;

/// The lists' shape: how many rows each has, and the centroids they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct ListTable {
    /// Components of a vector.
    pub dim: usize,
    /// The first row of each list, and the number of rows last (nlist + 1).
    pub starts: Vec<u32>,
    /// The centroids, nlist × dim.
    pub centroids: Vec<f32>,
    /// The list of the first row of each stretch of rows, and the last list.
    stretches: Vec<u32>,
    /// A stretch has two to the power of so many rows.
    shift: u32,
}

impl ListTable {
    /// The table of lists that begin at `starts`, the number of rows last.
    pub fn new(dim: usize, starts: Vec<u32>, centroids: Vec<f32>) -> Self {
        let (rows, lists) = (starts.last().copied().unwrap_or(0), starts.len().saturating_sub(1).max(1) as u32);
        // No more than twice as many stretches as lists.
        let shift = (rows / lists).max(1).ilog2();
        let list_of = |row: u32| starts.partition_point(|&start| start <= row).saturating_sub(1) as u32;
        let stretches = (0..rows).step_by(1 << shift).chain(rows.checked_sub(1)).map(list_of).collect();
        ListTable { dim, starts, centroids, stretches, shift }
    }

    /// Number of lists.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of rows.
    pub fn rows(&self) -> u32 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// The rows of list `list`.
    pub fn range(&self, list: usize) -> Range<u32> {
        self.starts[list]..self.starts[list + 1]
    }

    /// The list that holds row `row`.
    pub fn list_of(&self, row: u32) -> usize {
        // A few lists at most begin within a stretch, unless many are empty.
        let stretch = (row >> self.shift) as usize;
        let (first, last) = (self.stretches[stretch] as usize, self.stretches[stretch + 1] as usize);
        first + self.starts[first + 1..=last].partition_point(|&start| start <= row)
    }

    /// The same for rows one after the other, quick where many lie in one list.
    pub fn lists_of(&self, rows: impl Iterator<Item = u32>) -> impl Iterator<Item = usize> {
        let (mut list, mut last) = (0, 0..0);
        rows.map(move |row| {
            if !last.contains(&row) {
                list = self.list_of(row);
                last = self.range(list);
            }
            list
        })
    }

    /// The centroid of list `list`.
    pub fn centroid(&self, list: usize) -> &[f32] {
        &self.centroids[list * self.dim..][..self.dim]
    }

    /// The `count` lists nearest to list `own` by their centroids, nearest first:
    /// others than itself, with rows.
    pub fn around(&self, own: usize, count: usize) -> Vec<u32> {
        let center = self.centroid(own);
        let mut near: Vec<(f32, u32)> = (0..self.count())
            .filter(|&list| list != own && !self.range(list).is_empty())
            .map(|list| (squared_distance(center, self.centroid(list)), list as u32))
            .collect();
        let order = |a: &(f32, u32), b: &(f32, u32)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if count < near.len() {
            near.select_nth_unstable_by(count, order);
            near.truncate(count);
        }
        near.sort_unstable_by(order);
        near.into_iter().map(|(_, list)| list).collect()
    }

    /// Bytes of the table of so many lists.
    pub fn bytes(lists: usize, dim: usize) -> u64 {
        lists as u64 * (dim as u64 + 3) * 4
    }

    /// Bytes of a list's entry: its vector and its id.
    pub fn entry_bytes(dim: usize) -> usize {
        dim * 4 + 8
    }
}

/// The vectors in list order, mapped.
pub struct Lists {
    /// The shape.
    pub table: ListTable,
    map: Mapped,
}

impl Lists {
    /// Opens `lists.ivf` at `path`, whose shape is `table`.
    pub fn open(path: &Path, table: ListTable) -> Result<Self> {
        let map = Mapped::open(path)?;
        let expected = u64::from(table.rows()) * ListTable::entry_bytes(table.dim) as u64;
        let found = map.bytes().len() as u64;
        if expected != found {
            return Err(IoError::Truncated { path: path.to_path_buf(), expected, found }.into());
        }
        Ok(Lists { table, map })
    }

    /// The vectors of list `list`, row after row.
    pub fn vectors(&self, list: usize) -> Result<&[f32]> {
        let range = self.table.range(list);
        let offset = range.start as usize * ListTable::entry_bytes(self.table.dim);
        Ok(self.map.floats(offset, range.len() * self.table.dim)?)
    }

    /// Reads the vectors of rows `range`, without the map.
    pub fn read(&self, range: Range<u32>, to: &mut [f32]) -> Result<()> {
        let (dim, mut at, mut rest) = (self.table.dim, range.start, to);
        while at < range.end {
            let list = self.table.list_of(at);
            let start = self.table.starts[list] as usize;
            let end = self.table.starts[list + 1].min(range.end);
            let (to, later) = rest.split_at_mut((end - at) as usize * dim);
            let offset = start * ListTable::entry_bytes(dim) + (at as usize - start) * dim * 4;
            self.map.read_floats(offset, to)?;
            (at, rest) = (end, later);
        }
        Ok(())
    }

    /// The vector of row `row`, in list order.
    pub fn row(&self, row: u32) -> Result<&[f32]> {
        let list = self.table.list_of(row);
        let place = (row - self.table.starts[list]) as usize;
        let dim = self.table.dim;
        Ok(&self.vectors(list)?[place * dim..][..dim])
    }

    /// The source's rows that list `list` holds, in order.
    pub fn source_rows(&self, list: usize) -> impl ExactSizeIterator<Item = u64> + '_ {
        let range = self.table.range(list);
        let start = range.start as usize * ListTable::entry_bytes(self.table.dim) + range.len() * self.table.dim * 4;
        // The file's length was checked at opening.
        self.map.bytes()[start..start + range.len() * 8]
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_lies_in_the_list_that_holds_it(sizes in proptest::collection::vec(prop_oneof![Just(0u32), 0u32..4, 0u32..300], 1..80)) {
            let mut starts = vec![0];
            starts.extend(sizes.iter().scan(0, |sum, size| { *sum += size; Some(*sum) }));
            let table = ListTable::new(1, starts, vec![0.0; sizes.len()]);
            prop_assert!(table.stretches.len() <= 2 * sizes.len() + 2);
            for (list, _) in sizes.iter().enumerate() {
                for row in table.range(list) {
                    prop_assert_eq!(table.list_of(row), list);
                }
            }
        }
    }
}
