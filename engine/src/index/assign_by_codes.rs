//! Assigns rows to lists by reduced codes: codes exclude the centroids that cannot be nearest, and exact scores decide
//! among the others.
//!
//! What must hold: a list is the one that `PackedAssigner` finds, to the last bit of a score. Codes bound the true
//! distance, and a score is near half of the true distance, so a centroid is excluded only if its score is larger than
//! that of another one.

use rayon::prelude::*;

use super::assign::{GROUPS_PROBED, PANEL as PACKED_ROWS, common_center, k_nearest};
use super::train::Quantizer;
use crate::coded::{CodeInstructions, CodeScale, CodedComparison, CodedRows, CodedVectors};
use crate::distances::{PackedQueries, PackedRows, squared_distance};
use crate::simd::{InstructionSet, Simd, SimdTask};

/// Number of rows that are coded and compared together.
const PANEL: usize = 1024;
/// Number of exact scores that are computed side by side, because each is a chain of operations.
const SCORES_AT_ONCE: usize = 8;

/// A quantizer whose centroids are coded.
pub(super) struct CodedAssigner<'a> {
    with: CodeInstructions,
    quantizer: &'a Quantizer,
    /// The mean of the groups' centres, around which rows are coded.
    middle: Vec<f32>,
    /// The groups' centres. In full precision, because codes would exclude few of those that compete for eight places.
    groups: PackedRows,
    /// The lists of each group.
    lists: Vec<CodedTable<'a>>,
    /// The largest ½|x|² of a centroid, less the common centre.
    farthest: f32,
}

/// The centroids of a group of lists.
struct CodedTable<'a> {
    dim: usize,
    vectors: &'a [f32],
    /// ½|x|² of each vector, less the common centre: with the bits of `PackedRows`.
    half_norms: Vec<f32>,
    rows: CodedRows,
    /// The point around which the vectors are coded.
    middle: Vec<f32>,
}

/// The rows of a panel.
struct Panel<'a> {
    rows: &'a [f32],
    codes: CodedVectors,
    coding: CodeScale,
    /// ½|q|² of each row, less the common centre.
    half_norms: Vec<f32>,
}

/// For each group of lists the rows of a panel that are compared with it.
struct GroupVisits {
    /// The rows to which no group is nearer.
    nearest: Vec<Vec<u32>>,
    others: Vec<Vec<u32>>,
}

/// Reusable buffers.
#[derive(Default)]
struct Scratch {
    between: CodedComparison,
    far: Vec<f32>,
    /// The pairs that codes did not exclude: a row of the panel, and a row of a table.
    pairs: Vec<(u32, u32)>,
}

impl<'a> CodedAssigner<'a> {
    /// Codes `quantizer`; `None` where codes are not fast.
    pub(super) fn new(quantizer: &'a Quantizer) -> Option<Self> {
        CodeInstructions::best(quantizer.dim).map(|with| Self::with(with, quantizer))
    }

    /// Codes `quantizer` for each instruction set of this processor.
    #[cfg(test)]
    pub(super) fn all(quantizer: &'a Quantizer) -> impl Iterator<Item = Self> {
        CodeInstructions::all().map(|with| Self::with(with, quantizer))
    }

    fn with(with: CodeInstructions, quantizer: &'a Quantizer) -> Self {
        let (dim, center) = (quantizer.dim, common_center(quantizer));
        let count = (quantizer.group_centers.len() / dim) as f32;
        let mut middle = vec![0f32; dim];
        for group in quantizer.group_centers.chunks_exact(dim) {
            middle.iter_mut().zip(group).for_each(|(sum, &x)| *sum += x / count);
        }
        let table = |vectors: &'a [f32], middle: &[f32]| CodedTable {
            dim,
            vectors,
            half_norms: vectors.chunks_exact(dim).map(|row| half_norm(row, center)).collect(),
            rows: CodedRows::encode(with, Vec::new(), vectors, middle),
            middle: middle.to_vec(),
        };
        let mut groups = PackedRows::default();
        groups.load(quantizer.group_centers.chunks_exact(dim), center);
        let of_group = quantizer.group_starts.windows(2).zip(quantizer.group_centers.chunks_exact(dim));
        let lists: Vec<_> = of_group
            .map(|(range, center)| {
                table(&quantizer.centroids[range[0] as usize * dim..range[1] as usize * dim], center)
            })
            .collect();
        let farthest = lists.iter().flat_map(|table| &table.half_norms).copied().fold(0f32, f32::max);
        CodedAssigner { with, quantizer, middle, groups, lists, farthest }
    }

    /// Returns the list of each row of `rows`.
    pub(super) fn assign(&self, rows: &[f32]) -> Vec<u32> {
        let dim = self.quantizer.dim;
        let mut assigned = vec![0u32; rows.len() / dim];
        assigned.par_chunks_mut(PANEL).zip(rows.par_chunks(PANEL * dim)).for_each(|(out, rows)| {
            self.assign_panel(rows, out);
        });
        assigned
    }

    fn assign_panel(&self, rows: &[f32], out: &mut [u32]) {
        let (dim, center) = (self.quantizer.dim, common_center(self.quantizer));
        let mut codes = CodedVectors::new(self.with, out.len(), dim);
        let coding = codes.slots().encode(rows, &self.middle);
        let half_norms = rows.chunks_exact(dim).map(|row| 0.5 * squared_distance(row, center)).collect();
        let panel = Panel { rows, codes, coding, half_norms };
        let mut work = Scratch::default();

        let visits = self.visits(&panel, out.len());
        // No centroid that is farther than its row's limit (a squared distance) can have the least score.
        let mut limits = vec![f32::INFINITY; out.len()];
        let mut best = vec![(f32::INFINITY, u32::MAX); out.len()];
        // The nearest group comes first: its best score excludes most lists of the others.
        for (visits, is_nearest) in [(&visits.nearest, true), (&visits.others, false)] {
            for (group, rows) in visits.iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
                let table = &self.lists[group];
                work.between.prepare(&panel.coding, &self.middle, &table.rows, &table.middle);
                if is_nearest {
                    work.between.crowd_limits(&panel.codes, rows, &table.rows, 1, &mut work.far);
                    for (&row, far) in rows.iter().zip(&work.far) {
                        limits[row as usize] = far + 4.0 * self.score_error(&panel, row);
                    }
                }
                work.find_pairs(&panel, table, rows, &limits);
                let first = self.quantizer.group_starts[group];
                table.score(&panel, center, &work.pairs, |row, place, score| {
                    let best = &mut best[row as usize];
                    // Equal scores go to the lower list, whatever the order of groups.
                    if (score, first + place) < *best {
                        *best = (score, first + place);
                        let within = score + panel.half_norms[row as usize] + 2.0 * self.score_error(&panel, row);
                        let limit = &mut limits[row as usize];
                        *limit = limit.min(2.0 * within.max(0.0));
                    }
                });
            }
        }
        let last = *self.quantizer.group_starts.last().unwrap_or(&1) - 1;
        for (out, (_, list)) in out.iter_mut().zip(best) {
            *out = list.min(last);
        }
    }

    /// Finds the groups with which each row of the panel is compared.
    fn visits(&self, panel: &Panel<'_>, count: usize) -> GroupVisits {
        let everybody: Vec<u32> = (0..count as u32).collect();
        let none = || vec![Vec::new(); self.lists.len()];
        let mut visits = GroupVisits { nearest: none(), others: none() };
        if self.lists.len() <= GROUPS_PROBED {
            visits.others[1..].fill(everybody.clone());
            visits.nearest[0] = everybody;
            return visits;
        }
        let mut queries = PackedQueries::default();
        for (rows, values) in everybody.chunks(PACKED_ROWS).zip(panel.rows.chunks(PACKED_ROWS * self.quantizer.dim)) {
            queries.load(values.chunks_exact(self.quantizer.dim), common_center(self.quantizer));
            for (&row, groups) in rows.iter().zip(k_nearest(&queries, &self.groups, GROUPS_PROBED)) {
                for (rank, (_, group)) in groups.into_iter().enumerate() {
                    let visits = if rank == 0 { &mut visits.nearest } else { &mut visits.others };
                    visits[group as usize].push(row);
                }
            }
        }
        visits
    }

    /// Returns a bound of the difference between a row's score plus ½|q|², and half of a true squared distance: twice
    /// that of [`score_bar`](crate::distances::score_bar), since ½|q|² is summed in single precision here.
    fn score_error(&self, panel: &Panel<'_>, row: u32) -> f32 {
        let norms = panel.half_norms[row as usize] + self.farthest;
        (self.quantizer.dim as f32 + 16.0) * f32::EPSILON * norms + f32::MIN_POSITIVE
    }
}

impl Scratch {
    /// Finds the pairs of `rows` of the panel and of vectors of `table` whose squared distance may be at most the limit
    /// of the row. The comparison of both was prepared.
    fn find_pairs(&mut self, panel: &Panel<'_>, table: &CodedTable<'_>, rows: &[u32], limits: &[f32]) {
        let Scratch { between, pairs, .. } = self;
        let limit = |i: usize| limits[rows[i] as usize];
        pairs.clear();
        between.for_each_near(&panel.codes, rows, &table.rows, None, limit, |i, place| {
            pairs.push((rows[i], place as u32));
            limit(i)
        });
    }
}

impl CodedTable<'_> {
    /// Calls `each(row, place, score)` with the exact score of each pair.
    fn score(&self, panel: &Panel<'_>, center: &[f32], pairs: &[(u32, u32)], mut each: impl FnMut(u32, u32, f32)) {
        let dim = self.dim;
        for pairs in pairs.chunks(SCORES_AT_ONCE) {
            let vectors = std::array::from_fn(|i| {
                let (row, place) = pairs[i.min(pairs.len() - 1)];
                (&panel.rows[row as usize * dim..][..dim], &self.vectors[place as usize * dim..][..dim])
            });
            let dots = InstructionSet::best().run(PairDots { center, vectors });
            for (&(row, place), dot) in pairs.iter().zip(dots) {
                each(row, place, self.half_norms[place as usize] - dot);
            }
        }
    }
}

/// Returns the bytes that all threads hold for the panels of a batch.
pub(super) fn bytes(batch_rows: usize, dim: usize, threads: usize) -> u64 {
    // Beside its codes: ½|q|², the limit, the best list, the groups visited, and pairs.
    const BESIDE: u64 = 128;
    batch_rows.min(threads * PANEL) as u64 * (CodedVectors::row_bytes(dim) + BESIDE)
}

/// Returns ½|x|² of `row` less `center`, as `PackedRows` computes it.
fn half_norm(row: &[f32], center: &[f32]) -> f32 {
    let squares = row.iter().zip(center).map(|(&x, &c)| f64::from(x - c) * f64::from(x - c));
    (squares.fold(0f64, |sum, square| sum + square) * 0.5) as f32
}

/// Computes the dot products of pairs of vectors, each less `center`: the chains of the kernel in `distances`.
struct PairDots<'a> {
    center: &'a [f32],
    vectors: [(&'a [f32], &'a [f32]); SCORES_AT_ONCE],
}

impl SimdTask for PairDots<'_> {
    type Output = [f32; SCORES_AT_ONCE];

    #[inline(always)]
    fn run<S: Simd>(self, _on: S) -> [f32; SCORES_AT_ONCE] {
        let dim = self.center.len();
        let vectors = self.vectors.map(|(a, b)| (&a[..dim], &b[..dim]));
        let mut sums = [0f32; SCORES_AT_ONCE];
        for (d, &center) in self.center.iter().enumerate() {
            for (sum, (a, b)) in sums.iter_mut().zip(vectors) {
                *sum = (a[d] - center).mul_add(b[d] - center, *sum);
            }
        }
        sums
    }
}
