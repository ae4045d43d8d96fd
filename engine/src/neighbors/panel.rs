//! A panel: some queries, and the best rows found for each so far.

use std::ops::Range;

use super::kernel::{LANES, Packed, QUERIES, Queries, for_each_tile, squared_distance};
use super::segments::Segments;
use super::top::Top;
use crate::Result;

/// Rows kept beyond `k` (and beyond the query itself) by their scores, to be
/// ordered again by exact distance: the slack that rounding may use up.
const SLACK: usize = 8;

/// Queries of a panel, at most.
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

    /// Packs the queries against a centre; ½|q|² of each, which turns a score into ½ distance².
    pub fn shift(&mut self, center: &[f32]) -> Vec<f32> {
        self.packed.load(self.vectors.iter().copied(), center);
        self.packed.half_norms()
    }

    /// Compares every query with every row of a packed segment.
    pub fn scan(&mut self, packed: &Packed, center: &[f32], rows: Range<u32>) {
        let half_norms = self.shift(center);
        let top = &mut self.top;
        for_each_tile(&self.packed, packed, |group, block, tile| {
            let first = group * QUERIES;
            for ((scores, top), &half_norm) in tile.iter().zip(&mut top[first..]).zip(&half_norms[first..]) {
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

    /// Counts, for every query and each of its thresholds (½ distance², ascending
    /// or not), the rows of a packed segment that are nearer.
    pub fn count_nearer(&mut self, packed: &Packed, center: &[f32], thresholds: &[Vec<f32>], counts: &mut [Vec<u64>]) {
        let half_norms = self.shift(center);
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
    /// `each(query, squared distances and rows, ascending)`; fewer where fewer were met.
    pub fn finish(mut self, segments: &Segments<'a>, mut each: impl FnMut(usize, &[(f32, u32)])) -> Result<()> {
        let mut found: Vec<(f32, u32)> = Vec::new();
        for (query, top) in self.top.iter_mut().enumerate() {
            found.clear();
            for (_, row) in top.sorted() {
                if row != self.rows[query] {
                    found.push((squared_distance(self.vectors[query], segments.lists.row(row)?), row));
                }
            }
            found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            found.truncate(self.k);
            each(query, &found);
        }
        Ok(())
    }

    /// Bytes that a panel of `PANEL` queries holds.
    pub fn bytes(dim: usize, k: usize) -> u64 {
        PANEL as u64 * (dim as u64 * 4 + 4 + 16 + 4 + Top::bytes(k + 1 + SLACK))
    }
}
