//! A map in memory, stored component by component, with its queries: nearest rows and ranks.
//!
//! What must hold: a squared distance is the sum over the components in order, in single precision,
//! and so the same in every query; `neighbors::Ties` decides between equally near rows.

use crate::neighbors::{TieBreaker, TopK};

/// Rows whose distances are computed at a time.
const TILE: usize = 256;
/// Rows that are examined individually if any of them is near enough.
const LANES: usize = 16;

/// The label code of a row without a label.
pub const UNLABELED: u32 = u32::MAX;

/// Points in memory.
#[derive(Debug, Clone)]
pub struct MapPoints {
    rows: usize,
    dim: usize,
    /// All first components, then all second components, and so on.
    values: Vec<f32>,
}

impl MapPoints {
    /// Returns `rows` points at the origin.
    pub fn new(rows: usize, dim: usize) -> Self {
        MapPoints { rows, dim, values: crate::pages::filled(rows * dim, 0.0) }
    }

    /// Returns points from rows × `dim` numbers, row-major.
    pub fn from_rows(values: &[f32], dim: usize) -> Self {
        let mut points = MapPoints::new(values.len() / dim.max(1), dim);
        points.set_rows(0, values);
        points
    }

    /// Stores the points `first..`, given row-major.
    ///
    /// # Panics
    /// If the values reach beyond the last row.
    pub fn set_rows(&mut self, first: usize, values: &[f32]) {
        let count = values.len() / self.dim.max(1);
        for c in 0..self.dim {
            let column = &mut self.values[c * self.rows + first..][..count];
            column.iter_mut().zip(values.iter().skip(c).step_by(self.dim)).for_each(|(to, &value)| *to = value);
        }
    }

    /// Returns the number of points.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the number of components.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Returns the bytes of `rows` points of `dim` components.
    pub fn bytes(rows: u64, dim: usize) -> u64 {
        rows.saturating_mul(dim as u64 * 4)
    }

    /// Returns the coordinates of a point.
    pub(crate) fn point(&self, row: usize) -> Vec<f32> {
        (0..self.dim).map(|c| self.values[c * self.rows + row]).collect()
    }

    /// Returns the squared distance of two points.
    pub(crate) fn squared(&self, a: usize, b: usize) -> f32 {
        let mut sum = 0.0;
        for column in self.values.chunks_exact(self.rows.max(1)) {
            let d = column[b] - column[a];
            sum += d * d;
        }
        sum
    }

    /// Calls `each(first, squares)` with the squared distances from `own` to all points, tile by
    /// tile.
    pub(crate) fn each_tile(&self, own: &[f32], mut each: impl FnMut(usize, &[f32])) {
        let mut squares = [0f32; TILE];
        for first in (0..self.rows).step_by(TILE) {
            let squares = &mut squares[..TILE.min(self.rows - first)];
            squares.fill(0.0);
            for (column, &own) in self.values.chunks_exact(self.rows).zip(own) {
                for (square, &x) in squares.iter_mut().zip(&column[first..]) {
                    let d = x - own;
                    *square += d * d;
                }
            }
            each(first, squares);
        }
    }

    /// Calls `each(row, square)` for points whose squared distance to `own` is at most `bar`;
    /// `each` returns the new `bar`.
    fn each_within(&self, own: &[f32], mut bar: f32, mut each: impl FnMut(usize, f32) -> f32) {
        self.each_tile(own, |first, squares| {
            for (chunk, squares) in squares.chunks(LANES).enumerate() {
                if squares.iter().fold(false, |any, &s| any | (s <= bar)) {
                    for (lane, &square) in squares.iter().enumerate() {
                        if square <= bar {
                            bar = each(first + chunk * LANES + lane, square);
                        }
                    }
                }
            }
        });
    }

    /// Returns the `k` rows nearest to `row`, without the row itself, nearest first; `ties` decides between equally
    /// near rows. If `among` is given, only rows with a label code in it are considered.
    pub(crate) fn nearest(&self, row: u32, k: usize, among: Option<&[u32]>, ties: TieBreaker) -> Vec<u32> {
        if k == 0 {
            return Vec::new();
        }
        let mut top = TopK::new(1, k);
        self.each_within(&self.point(row as usize), f32::INFINITY, |other, square| {
            if other != row as usize && among.is_none_or(|codes| codes[other] != UNLABELED) {
                top.offer(0, square, ties.rank(row, other as u32));
            }
            top.threshold(0)
        });
        top.sort();
        top.sorted(0).map(|(_, rank)| ties.row(row, rank)).collect()
    }

    /// Returns the point nearest to `own`, and its squared distance.
    pub(crate) fn closest(&self, own: &[f32]) -> (u32, f32) {
        let mut best = (0, f32::INFINITY);
        self.each_tile(own, |first, squares| {
            for (lane, &square) in squares.iter().enumerate() {
                if square < best.1 {
                    best = ((first + lane) as u32, square);
                }
            }
        });
        best
    }

    /// Counts the rows that are nearer to `row` than each of `others`.
    pub(crate) fn rank_counts(&self, row: u32, others: impl Iterator<Item = u32>) -> RankCounts {
        let mut row_ranks = RankCounts::new(others.map(|other| self.squared(row as usize, other as usize)).collect());
        let top = row_ranks.top();
        self.each_within(&self.point(row as usize), top, |other, square| {
            if other != row as usize {
                row_ranks.add(square);
            }
            top
        });
        row_ranks
    }
}

/// The squared distances from a row to some other rows, ascending, with the number of rows nearer
/// than each; from it follow the ranks.
///
/// Equally far rows do not count as nearer, so that copies of rows do not lower a score.
#[derive(Debug, Clone)]
pub(crate) struct RankCounts {
    steps: Vec<f32>,
    /// The number of rows nearer than each step.
    nearer: Vec<u32>,
}

impl RankCounts {
    pub(crate) fn new(mut steps: Vec<f32>) -> Self {
        steps.sort_unstable_by(f32::total_cmp);
        RankCounts { nearer: vec![0; steps.len()], steps }
    }

    /// Returns the largest step: rows that are not nearer do not change any count. Below all
    /// numbers if there are no steps.
    pub(crate) fn top(&self) -> f32 {
        self.steps.last().copied().unwrap_or(f32::NEG_INFINITY)
    }

    /// Returns the steps, ascending.
    pub(crate) fn steps(&self) -> &[f32] {
        &self.steps
    }

    /// Counts a row at all steps, without branches, so that the loop vectorises.
    #[inline]
    pub(crate) fn add(&mut self, squared: f32) {
        self.nearer.iter_mut().zip(&self.steps).for_each(|(nearer, &step)| *nearer += u32::from(squared < step));
    }

    /// Adds `rows` rows that are nearer than step `step`.
    pub(crate) fn add_rows(&mut self, step: usize, rows: u32) {
        self.nearer[step] += rows;
    }

    /// Returns Σ max(0, rank − k) over the steps, where a rank is one more than the number of
    /// nearer rows.
    pub(crate) fn excess(&self, k: usize) -> u64 {
        self.nearer.iter().map(|&nearer| (u64::from(nearer) + 1).saturating_sub(k as u64)).sum()
    }

    /// Returns the bytes of rank counts of `steps` steps, and of their bounds while rows are counted.
    pub(crate) fn bytes(steps: usize) -> u64 {
        steps as u64 * 16 + 48
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    #[test]
    fn neighbours_are_exact_and_leave_the_row_out() {
        let line: Vec<f32> = (0..1000).flat_map(|i| [i as f32, 0.0]).collect();
        let (points, ties) = (MapPoints::from_rows(&line, 2), TieBreaker::new(1));
        let both = |row: u32, other: u32| {
            let mut both = [other, 2 * row - other];
            both.sort_by_key(|&other| ties.rank(row, other));
            both
        };
        assert_eq!(points.nearest(50, 4, None, ties), [both(50, 49), both(50, 48)].concat());
        assert_eq!(points.nearest(0, 2, None, ties), [1, 2]);
        assert_eq!(points.nearest(999, 3, None, ties), [998, 997, 996]);
        assert_eq!(points.nearest(3, 0, None, ties), [0u32; 0]);
        assert_eq!(MapPoints::from_rows(&line[..6], 2).nearest(0, 9, None, ties), [1, 2]);
        let mut codes = vec![0; 1000];
        codes[49] = UNLABELED;
        assert_eq!(points.nearest(50, 2, Some(&codes), ties), [51, both(50, 48)[0]]);
        assert_eq!(points.closest(&[512.25, 1.0]), (512, 1.0625));
    }

    #[test]
    fn equals_come_by_their_ranks_and_cost_nothing() {
        let (points, ties) = (MapPoints::from_rows(&[1.0; 600], 2), TieBreaker::new(4));
        let mut others: Vec<u32> = (0..300).filter(|&row| row != 2).collect();
        others.sort_by_key(|&other| ties.rank(2, other));
        assert_eq!(points.nearest(2, 4, None, ties), others[..4]);
        let row_ranks = points.rank_counts(2, [299, 298].into_iter());
        assert_eq!(row_ranks.excess(1), 0);
    }

    #[test]
    fn ranks_match_sorting() {
        let dim = 3;
        let values: Vec<f32> = (0..700 * dim).map(|i| (unit(3, 4, i as u64) * 8.0).floor()).collect();
        let points = MapPoints::from_rows(&values, dim);
        for row in [0u32, 13, 699] {
            let others = [1u32, 2, 200, 300, 698];
            let far = |other: usize| -> f32 {
                let at = |row: usize, c: usize| values[row * dim + c];
                (0..dim).map(|c| (at(row as usize, c) - at(other, c)).powi(2)).sum()
            };
            let rank =
                |other: u32| 1 + (0..700).filter(|&o| o != row as usize && far(o) < far(other as usize)).count() as u64;
            let expected: u64 = others.iter().map(|&other| rank(other).saturating_sub(4)).sum();
            assert!(expected > 0);
            assert_eq!(points.rank_counts(row, others.into_iter()).excess(4), expected);
        }
    }
}
