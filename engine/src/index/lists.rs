//! The vectors in list order: FAISS's on-disk inverted lists, used as one table whose rows are numbered by list.
//!
//! Layout of `lists.ivf`, little-endian, list after list without gaps: the list's vectors (size × dim ×
//! f32), then the source row of each vector (size × i64). FAISS reads the same bytes through
//! `index.faiss`. Row numbers are u32; planning refuses sources with more rows.

use std::ops::Range;
use std::path::Path;

use lowland_io::{Error as IoError, MappedFile};

use crate::Result;
use crate::distances::squared_distance;

/// The sizes and centroids of the inverted lists.
#[derive(Debug, Clone, PartialEq)]
pub struct ListTable {
    /// Number of components of a vector.
    pub dim: usize,
    /// The first row of each list, then the number of rows (nlist + 1 values).
    pub starts: Vec<u32>,
    /// The centroids, nlist × dim.
    pub centroids: Vec<f32>,
    /// The rows are divided into stretches of equal length; this holds the list of the first row of each
    /// stretch, then the last row's list.
    stretches: Vec<u32>,
    /// log₂ of the number of rows of a stretch.
    shift: u32,
}

impl ListTable {
    /// Creates the table of lists that begin at `starts`, whose last value is the number of rows.
    pub fn new(dim: usize, starts: Vec<u32>, centroids: Vec<f32>) -> Self {
        let (rows, lists) = (starts.last().copied().unwrap_or(0), starts.len().saturating_sub(1).max(1) as u32);
        // At most about twice as many stretches as lists.
        let shift = (rows / lists).max(1).ilog2();
        let list_of = |row: u32| starts.partition_point(|&start| start <= row).saturating_sub(1) as u32;
        let stretches = (0..rows).step_by(1 << shift).chain(rows.checked_sub(1)).map(list_of).collect();
        ListTable { dim, starts, centroids, stretches, shift }
    }

    /// Returns the number of lists.
    pub fn count(&self) -> usize {
        self.starts.len() - 1
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u32 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Returns the rows of list `list`.
    pub fn range(&self, list: usize) -> Range<u32> {
        self.starts[list]..self.starts[list + 1]
    }

    /// Returns the list that contains row `row`.
    pub fn list_of(&self, row: u32) -> usize {
        // Only a few lists begin within a stretch, unless many are empty.
        let stretch = (row >> self.shift) as usize;
        let (first, last) = (self.stretches[stretch] as usize, self.stretches[stretch + 1] as usize);
        first + self.starts[first + 1..=last].partition_point(|&start| start <= row)
    }

    /// Returns the lists of several rows; fast if many consecutive rows belong to one list.
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

    /// Returns the centroid of list `list`.
    pub fn centroid(&self, list: usize) -> &[f32] {
        &self.centroids[list * self.dim..][..self.dim]
    }

    /// Returns up to `count` lists with the nearest centroids to list `own`, nearest first, without `own`
    /// and without empty lists.
    pub fn nearest_lists(&self, own: usize, count: usize) -> Vec<u32> {
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

    /// Returns the bytes of the table for `lists` lists.
    pub fn bytes(lists: usize, dim: usize) -> u64 {
        lists as u64 * (dim as u64 + 3) * 4
    }

    /// Returns the bytes of an entry of a list: a vector and an id.
    pub fn entry_bytes(dim: usize) -> usize {
        dim * 4 + 8
    }
}

/// The vectors in list order, memory-mapped.
pub struct InvertedLists {
    /// The sizes and centroids.
    pub table: ListTable,
    map: MappedFile,
    /// The same file for [`row`](Self::row), which is called in any order: the operating system must not read megabytes
    /// ahead of each row where the file is larger than memory.
    rows: MappedFile,
}

impl InvertedLists {
    /// Opens `lists.ivf` at `path` with the sizes and centroids of `table`.
    ///
    /// # Errors
    /// A file that cannot be mapped or has the wrong length.
    pub fn open(path: &Path, table: ListTable) -> Result<Self> {
        let (map, rows) = (MappedFile::open(path)?, MappedFile::open(path)?);
        rows.expect_random();
        let expected = u64::from(table.rows()) * ListTable::entry_bytes(table.dim) as u64;
        let found = map.bytes().len() as u64;
        if expected != found {
            return Err(IoError::Truncated { path: path.to_path_buf(), expected, found }.into());
        }
        Ok(InvertedLists { table, map, rows })
    }

    /// Returns the vectors of list `list`, row after row.
    pub fn vectors(&self, list: usize) -> Result<&[f32]> {
        let range = self.table.range(list);
        let offset = range.start as usize * ListTable::entry_bytes(self.table.dim);
        Ok(self.map.floats(offset, range.len() * self.table.dim)?)
    }

    /// Reads the vectors of rows `range` with file reads instead of the memory map.
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

    /// Returns the vector of row `row`, numbered in list order.
    pub fn row(&self, row: u32) -> Result<&[f32]> {
        let (list, dim) = (self.table.list_of(row), self.table.dim);
        let start = self.table.starts[list];
        let offset = start as usize * ListTable::entry_bytes(dim) + (row - start) as usize * dim * 4;
        Ok(self.rows.floats(offset, dim)?)
    }

    /// Returns the source rows of list `list`, in order.
    pub fn source_rows(&self, list: usize) -> impl ExactSizeIterator<Item = u64> + '_ {
        let range = self.table.range(list);
        let start = range.start as usize * ListTable::entry_bytes(self.table.dim) + range.len() * self.table.dim * 4;
        // The file's length was checked when it was opened.
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
        fn list_of_row_inverts_row_range(sizes in proptest::collection::vec(prop_oneof![Just(0u32), 0u32..4, 0u32..300], 1..80)) {
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
