//! A panel: some queries, and the best rows found for each so far.

use super::kernel::{LANES, Packed, QUERIES, Queries, for_each_tile, squared_distance};
use super::segments::Segments;
use super::top::Tops;
use crate::Result;

/// Rows kept beyond `k` (and beyond the query itself) by their scores, to be
/// ordered again by exact distance: the slack that rounding may use up.
const SLACK: usize = 8;

/// The share of the k-th distance (squared) that rounding may come to before scores are not trusted.
const TELLS: f32 = 1e-3;

/// The `k` nearest to `own`, in order.
fn settle(near: &mut Vec<(f32, u32)>, own: u32, k: usize) {
    near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(after(own, a.1).cmp(&after(own, b.1))));
    near.truncate(k);
}

/// How far `row` comes after `own`, around the end: what decides between rows
/// that are equally near. By number alone all copies of a row would name the
/// same few, which would then have an edge to every other.
fn after(own: u32, row: u32) -> u32 {
    row.wrapping_sub(own)
}

/// The nearest rows of some queries: (squared distance, row), k of each at most.
pub struct Near {
    k: usize,
    /// k a query; infinitely far where there are fewer.
    all: Vec<(f32, u32)>,
}

impl Near {
    fn push(&mut self, near: &[(f32, u32)]) {
        let missing = (f32::INFINITY, super::MISSING);
        self.all.extend(near.iter().copied().chain(std::iter::repeat(missing)).take(self.k));
    }

    /// The nearest of each query.
    pub fn rows(&self) -> impl Iterator<Item = &[(f32, u32)]> {
        self.all.chunks_exact(self.k.max(1)).map(|near| {
            let there = near.iter().take_while(|(_, row)| *row != super::MISSING).count();
            &near[..there]
        })
    }
}

/// Queries packed together, at most.
pub const PANEL: usize = 256;

/// Queries and their best rows. Queries are rows of the index themselves.
pub struct Panel<'a> {
    rows: Vec<u32>,
    vectors: Vec<&'a [f32]>,
    k: usize,
    packed: Queries,
    top: Tops,
    /// The segments met, with their radii.
    met: Vec<(u32, f32)>,
}

impl<'a> Panel<'a> {
    /// A panel that looks for the `k` nearest of each of `rows`.
    pub fn new(rows: Vec<u32>, vectors: Vec<&'a [f32]>, k: usize) -> Self {
        let top = Tops::new(rows.len(), k + 1 + SLACK);
        Panel { rows, vectors, k, packed: Queries::default(), top, met: Vec::new() }
    }

    /// The queries' row numbers.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Compares the queries numbered `which` with every row of a packed segment.
    pub fn scan(&mut self, which: &[u32], segment: usize, packed: &Packed, segments: &Segments<'_>) {
        let (center, rows) = (segments.center(segment), segments.range(segment));
        self.met.push((segment as u32, packed.radius()));
        for which in which.chunks(PANEL) {
            // ½|q|² of each query turns a score into ½ distance².
            self.packed.load(which.iter().map(|&q| self.vectors[q as usize]), center);
            let half_norms = self.packed.half_norms();
            let (top, numbers) = (&mut self.top, &self.rows);
            for_each_tile(&self.packed, packed, |group, block, tile| {
                let first = group * QUERIES;
                for ((scores, &query), &half_norm) in tile.iter().zip(&which[first..]).zip(&half_norms[first..]) {
                    let (query, own) = (query as usize, numbers[query as usize]);
                    let halves: [f32; LANES] = std::array::from_fn(|lane| scores[lane] + half_norm);
                    let limit = top.threshold(query);
                    // Almost always nothing passes: one comparison of all lanes first.
                    if halves.iter().fold(false, |any, &h| any | (h <= limit)) {
                        for (lane, &half) in halves.iter().enumerate() {
                            let row = rows.start + (block * LANES + lane) as u32;
                            if half <= top.threshold(query) && row < rows.end {
                                top.offer(query, half, after(own, row));
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
    /// (squared distance, row), ascending; fewer where fewer were met. Every
    /// query met every segment, or those that `visits` pairs it with.
    pub fn finish(mut self, segments: &Segments<'a>, visits: Option<&[(u32, u32)]>) -> Result<Near> {
        self.met.sort_unstable_by_key(|&(segment, _)| segment);
        let mut visits = visits.map(|visits| visits.chunk_by(|a, b| a.0 == b.0));
        let mut found = Near { k: self.k, all: Vec::with_capacity(self.rows.len() * self.k) };
        let mut near = Vec::with_capacity(self.k + 1 + SLACK);
        let mut tops = std::mem::take(&mut self.top);
        for query in 0..self.rows.len() {
            near.clear();
            let own = self.rows[query];
            for (_, place) in tops.sorted(query) {
                let row = own.wrapping_add(place);
                if row != own {
                    near.push((squared_distance(self.vectors[query], segments.lists.row(row)?), row));
                }
            }
            settle(&mut near, own, self.k);
            let met = |segment: u32| self.met.binary_search_by_key(&segment, |m| m.0).ok().map(|at| self.met[at]);
            match visits.as_mut().map(|visits| visits.next().unwrap_or_default()) {
                None => self.look_again(query, segments, self.met.iter().copied(), &mut near)?,
                Some(own) => self.look_again(query, segments, own.iter().filter_map(|v| met(v.1)), &mut near)?,
            }
            found.push(&near);
        }
        Ok(found)
    }

    /// Compares a query directly with the rows of those segments whose scores
    /// were too coarse for it.
    ///
    /// A score is rounded on the scale of the rows' distance to their
    /// segment's centre. Where that is thousands of times the distance to the
    /// k-th neighbour found (a segment that spans far groups, a clump in a wide
    /// list), the order among near rows was chance. Ordinary data have none.
    fn look_again(
        &self,
        query: usize,
        segments: &Segments<'a>,
        met: impl Iterator<Item = (u32, f32)>,
        near: &mut Vec<(f32, u32)>,
    ) -> Result<()> {
        let own = self.vectors[query];
        let rounding = f32::EPSILON * (own.len() as f32).sqrt();
        for (segment, radius) in met {
            // Nothing is nearer than copies; with fewer than k nothing was turned away.
            let farthest = match near.last() {
                Some(&(farthest, _)) if near.len() == self.k && farthest > 0.0 => farthest,
                _ => return Ok(()),
            };
            let reach = radius + farthest.sqrt();
            if rounding * reach * reach <= TELLS * farthest {
                continue;
            }
            let away = squared_distance(own, segments.center(segment as usize));
            if away > reach * reach * 1.01 {
                continue;
            }
            let range = segments.range(segment as usize);
            for (row, vector) in range.clone().zip(segments.vectors(range)?) {
                let squared = squared_distance(own, vector);
                if squared <= farthest && row != self.rows[query] && near.iter().all(|&(_, other)| other != row) {
                    near.push((squared, row));
                }
            }
            settle(near, self.rows[query], self.k);
        }
        Ok(())
    }

    /// Bytes that a panel holds for each of its queries, its results not counted.
    pub fn row_bytes(k: usize) -> u64 {
        4 + 16 + Tops::bytes(1, k + 1 + SLACK)
    }

    /// Bytes that it holds beside.
    pub fn bytes(dim: usize) -> u64 {
        PANEL as u64 * (dim as u64 + 1) * 4
    }
}
