//! A panel: some queries, and the best rows found for each so far.

use std::ops::Range;

use super::kernel::{LANES, Packed, QUERIES, Queries, for_each_tile, squared_distance};
use super::segments::Segments;
use super::top::Top;
use crate::Result;

/// Rows kept beyond `k` (and beyond the query itself) by their scores, to be
/// ordered again by exact distance: the slack that rounding may use up.
const SLACK: usize = 8;

/// Queries packed together, at most.
pub const PANEL: usize = 256;

/// Queries and their best rows. Queries are rows of the index themselves.
pub struct Panel<'a> {
    rows: Vec<u32>,
    vectors: Vec<&'a [f32]>,
    k: usize,
    packed: Queries,
    top: Vec<Top>,
}

impl<'a> Panel<'a> {
    /// A panel that looks for the `k` nearest of each of `rows`.
    pub fn new(rows: Vec<u32>, vectors: Vec<&'a [f32]>, k: usize) -> Self {
        let top = vec![Top::new(k + 1 + SLACK); rows.len()];
        Panel { rows, vectors, k, packed: Queries::default(), top }
    }

    /// The queries' row numbers.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Compares the queries numbered `which` with every row of a packed segment.
    pub fn scan(&mut self, which: &[u32], packed: &Packed, center: &[f32], rows: Range<u32>) {
        for which in which.chunks(PANEL) {
            // ½|q|² of each query turns a score into ½ distance².
            self.packed.load(which.iter().map(|&q| self.vectors[q as usize]), center);
            let half_norms = self.packed.half_norms();
            let top = &mut self.top;
            for_each_tile(&self.packed, packed, |group, block, tile| {
                let first = group * QUERIES;
                for ((scores, &query), &half_norm) in tile.iter().zip(&which[first..]).zip(&half_norms[first..]) {
                    let top = &mut top[query as usize];
                    let halves: [f32; LANES] = std::array::from_fn(|lane| scores[lane] + half_norm);
                    let limit = top.threshold;
                    // Almost always nothing passes: one comparison of all lanes first.
                    if halves.iter().fold(false, |any, &h| any | (h <= limit)) {
                        for (lane, &half) in halves.iter().enumerate() {
                            let row = rows.start + (block * LANES + lane) as u32;
                            if half <= top.threshold && row < rows.end {
                                top.offer(half, row);
                            }
                        }
                    }
                }
            });
        }
    }

    /// Counts, for every query and each of its thresholds (½ distance²), the
    /// rows of a packed segment that are nearer. At most [`PANEL`] queries.
    pub fn count_nearer(&mut self, packed: &Packed, center: &[f32], thresholds: &[Vec<f32>], counts: &mut [Vec<u64>]) {
        self.packed.load(self.vectors.iter().copied(), center);
        let half_norms = self.packed.half_norms();
        for_each_tile(&self.packed, packed, |group, _, tile| {
            let first = group * QUERIES;
            for (((scores, thresholds), counts), &half_norm) in
                tile.iter().zip(&thresholds[first..]).zip(&mut counts[first..]).zip(&half_norms[first..])
            {
                for (&threshold, count) in thresholds.iter().zip(counts.iter_mut()) {
                    let nearer: u32 = scores.iter().map(|&s| u32::from(s + half_norm < threshold)).sum();
                    *count += u64::from(nearer);
                }
            }
        });
    }

    /// The `k` nearest of each query, by exact distance, itself left out:
    /// (squared distance, row), ascending; fewer where fewer were met.
    pub fn finish(mut self, segments: &Segments<'a>) -> Result<Vec<Vec<(f32, u32)>>> {
        let mut found = Vec::with_capacity(self.rows.len());
        for (query, top) in self.top.iter_mut().enumerate() {
            let mut near = Vec::with_capacity(self.k + 1 + SLACK);
            for (_, row) in top.sorted() {
                if row != self.rows[query] {
                    near.push((squared_distance(self.vectors[query], segments.lists.row(row)?), row));
                }
            }
            near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            near.truncate(self.k);
            found.push(near);
        }
        Ok(found)
    }

    /// Bytes that a panel of so many queries holds, its results included.
    pub fn bytes(queries: usize, dim: usize, k: usize) -> u64 {
        let query = 4 + 16 + Top::bytes(k + 1 + SLACK) + (k as u64 + 1 + SLACK as u64) * 8 + 24;
        queries as u64 * query + PANEL as u64 * (dim as u64 + 1) * 4
    }
}
