//! The matrix-product kernel under every distance search: scores of eight
//! queries against sixteen rows at a time.
//!
//! Rows are packed in blocks of [`LANES`], component after component, so that
//! one load brings the same component of all of them; queries in groups of
//! [`QUERIES`]. A score is `½|x|² − q·x`, which orders rows as the distance
//! to `q` does. Both sides are shifted by a common centre first, so that data
//! far from the origin does not drown in rounding.
//!
//! What must hold: a score is one chain of fused multiply-adds over the
//! components in order, and so a pure function of the two rows: where in a
//! tile they fall, and which instruction set runs, does not change a bit.

/// Rows in a block.
pub const LANES: usize = 16;
/// Queries in a group.
pub const QUERIES: usize = 8;

/// Scores of a group of queries (outer) against a block of rows (inner).
pub type Tile = [[f32; LANES]; QUERIES];

/// Rows packed for the kernel.
#[derive(Default)]
pub struct Packed {
    dim: usize,
    rows: usize,
    /// Block after block: dim × LANES values.
    values: Vec<f32>,
    /// ½|x|² of each row; infinite for the padding of the last block.
    half_norms: Vec<f32>,
}

impl Packed {
    /// Packs `rows`, each shifted by `−center`, replacing what was there.
    pub fn load<'a>(&mut self, rows: impl ExactSizeIterator<Item = &'a [f32]>, center: &[f32]) {
        let dim = center.len();
        self.dim = dim;
        self.rows = rows.len();
        let blocks = self.rows.div_ceil(LANES);
        self.values.clear();
        self.values.resize(blocks * dim * LANES, 0.0);
        self.half_norms.clear();
        self.half_norms.resize(blocks * LANES, f32::INFINITY);
        for (i, row) in rows.enumerate() {
            let (block, lane) = (i / LANES, i % LANES);
            let values = &mut self.values[block * dim * LANES..][..dim * LANES];
            let mut norm = 0f64;
            for ((out, &x), &c) in values.chunks_exact_mut(LANES).zip(row).zip(center) {
                let x = x - c;
                out[lane] = x;
                norm += f64::from(x) * f64::from(x);
            }
            self.half_norms[i] = (norm * 0.5) as f32;
        }
    }

    /// Rows packed.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes held by `rows` packed rows of `dim` components.
    pub fn bytes(rows: usize, dim: usize) -> u64 {
        (rows.div_ceil(LANES) * LANES * (dim + 1) * 4) as u64
    }
}

/// Queries packed for the kernel, in groups; the last one padded with zeros.
#[derive(Default)]
pub struct Queries {
    dim: usize,
    queries: usize,
    /// Group after group: dim × QUERIES values.
    values: Vec<f32>,
}

impl Queries {
    /// Packs `queries`, each shifted by `−center`, replacing what was there.
    pub fn load<'a>(&mut self, queries: impl ExactSizeIterator<Item = &'a [f32]>, center: &[f32]) {
        let dim = center.len();
        self.dim = dim;
        self.queries = queries.len();
        self.values.clear();
        self.values.resize(self.groups() * dim * QUERIES, 0.0);
        let mut queries = queries;
        for values in self.values.chunks_exact_mut(dim * QUERIES) {
            // A whole group is written component by component, eight rows side by side.
            let group: [&[f32]; QUERIES] = std::array::from_fn(|_| queries.next().unwrap_or(center));
            for (c, (out, &center)) in values.as_chunks_mut::<QUERIES>().0.iter_mut().zip(center).enumerate() {
                *out = std::array::from_fn(|place| group[place][c] - center);
            }
        }
    }

    /// ½|q|² of each query, after the shift.
    pub fn half_norms(&self) -> Vec<f32> {
        let mut norms = vec![0f64; self.groups() * QUERIES];
        for (values, norms) in self.values.chunks_exact(self.dim * QUERIES).zip(norms.chunks_exact_mut(QUERIES)) {
            for values in values.chunks_exact(QUERIES) {
                for (norm, &x) in norms.iter_mut().zip(values) {
                    *norm += f64::from(x) * f64::from(x);
                }
            }
        }
        norms.into_iter().map(|norm| (norm * 0.5) as f32).collect()
    }

    /// Queries packed.
    pub fn len(&self) -> usize {
        self.queries
    }

    /// Groups of queries.
    pub fn groups(&self) -> usize {
        self.queries.div_ceil(QUERIES)
    }
}

/// Scores all queries against all rows, a tile at a time: `each(group, block, tile)`.
///
/// Padding queries have scores too; padding rows score infinity.
pub fn for_each_tile(queries: &Queries, rows: &Packed, each: impl FnMut(usize, usize, &Tile)) {
    debug_assert_eq!(queries.dim, rows.dim, "queries and rows of one width");
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the feature, as just asked.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { tiles_avx512(queries, rows, each) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has both features, as just asked.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { tiles_avx2(queries, rows, each) };
        }
    }
    tiles::<QUERIES>(queries, rows, each);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
fn tiles_avx512(queries: &Queries, rows: &Packed, each: impl FnMut(usize, usize, &Tile)) {
    tiles::<8>(queries, rows, each);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn tiles_avx2(queries: &Queries, rows: &Packed, each: impl FnMut(usize, usize, &Tile)) {
    // Sixteen lanes are two registers here; four queries at a time fill the sixteen there are without spilling.
    tiles::<4>(queries, rows, each);
}

/// The kernel's one body; `AT_ONCE` queries are held in registers together.
#[inline(always)]
fn tiles<const AT_ONCE: usize>(queries: &Queries, rows: &Packed, mut each: impl FnMut(usize, usize, &Tile)) {
    let dim = queries.dim;
    let mut tile: Tile = [[0.0; LANES]; QUERIES];
    for (block, (values, half_norms)) in
        rows.values.chunks_exact(dim * LANES).zip(rows.half_norms.chunks_exact(LANES)).enumerate()
    {
        for (group, query) in queries.values.chunks_exact(dim * QUERIES).enumerate() {
            for part in 0..QUERIES / AT_ONCE {
                let mut dots = [[0f32; LANES]; AT_ONCE];
                for (x, q) in values.chunks_exact(LANES).zip(query.chunks_exact(QUERIES)) {
                    for (dots, &q) in dots.iter_mut().zip(&q[part * AT_ONCE..][..AT_ONCE]) {
                        for (dot, &x) in dots.iter_mut().zip(x) {
                            *dot = q.mul_add(x, *dot);
                        }
                    }
                }
                for (scores, dots) in tile[part * AT_ONCE..].iter_mut().zip(&dots) {
                    for ((score, &dot), &half_norm) in scores.iter_mut().zip(dots).zip(half_norms) {
                        *score = half_norm - dot;
                    }
                }
            }
            each(group, block, &tile);
        }
    }
}

/// The squared Euclidean distance of two rows, in a fixed order: sixteen
/// partial sums, then their pairwise total.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both features, as just asked.
        #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
        return unsafe { squared_distance_avx2(a, b) };
    }
    squared_distance_body(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn squared_distance_avx2(a: &[f32], b: &[f32]) -> f32 {
    squared_distance_body(a, b)
}

#[inline(always)]
fn squared_distance_body(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (a_head, a_tail) = a.as_chunks::<LANES>();
    let (b_head, b_tail) = b.as_chunks::<LANES>();
    for (a, b) in a_head.iter().zip(b_head) {
        for lane in 0..LANES {
            let d = a[lane] - b[lane];
            sums[lane] = d.mul_add(d, sums[lane]);
        }
    }
    for (lane, (a, b)) in a_tail.iter().zip(b_tail).enumerate() {
        let d = a - b;
        sums[lane] = d.mul_add(d, sums[lane]);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::unit;

    fn matrix(rows: usize, dim: usize, stream: u64) -> Vec<f32> {
        (0..rows * dim).map(|i| unit(3, stream, i as u64) * 4.0 - 2.0).collect()
    }

    fn packed(values: &[f32], dim: usize) -> (Queries, Packed) {
        let center = vec![0.25; dim];
        let (mut q, mut p) = (Queries::default(), Packed::default());
        q.load(values.chunks_exact(dim), &center);
        p.load(values.chunks_exact(dim), &center);
        (q, p)
    }

    #[test]
    fn scores_order_rows_as_distances_do() {
        for (rows, dim) in [(1, 1), (17, 3), (40, 16), (33, 37)] {
            let values = matrix(rows, dim, 1);
            let (q, p) = packed(&values, dim);
            let row = |i: usize| values[i * dim..][..dim].iter().map(|&x| f64::from(x) - 0.25).collect::<Vec<_>>();
            for_each_tile(&q, &p, |group, block, tile| {
                for (i, scores) in tile.iter().enumerate() {
                    for (j, &score) in scores.iter().enumerate() {
                        let (i, j) = (group * QUERIES + i, block * LANES + j);
                        if i < rows && j < rows {
                            let (a, b) = (row(i), row(j));
                            let truth: f64 = b.iter().map(|x| x * x * 0.5).sum::<f64>()
                                - a.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>();
                            assert!((f64::from(score) - truth).abs() < 1e-4, "{score} {truth}");
                        } else if j >= rows {
                            assert_eq!(score, f32::INFINITY);
                        }
                    }
                }
            });
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let values = matrix(70, 45, 2);
        let (q, p) = packed(&values, 45);
        let mut portable = Vec::new();
        tiles::<8>(&q, &p, |_, _, tile| portable.extend(tile.iter().flatten().map(|x| x.to_bits())));
        let mut dispatched = Vec::new();
        for_each_tile(&q, &p, |_, _, tile| dispatched.extend(tile.iter().flatten().map(|x| x.to_bits())));
        assert_eq!(portable, dispatched);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            let mut avx2 = Vec::new();
            // SAFETY: the features were just asked for.
            #[expect(unsafe_code, reason = "test of a kernel")]
            unsafe {
                tiles_avx2(&q, &p, |_, _, tile| avx2.extend(tile.iter().flatten().map(|x| x.to_bits())))
            };
            assert_eq!(portable, avx2);
        }
        let (a, b) = (&values[..45], &values[45..90]);
        assert_eq!(squared_distance(a, b).to_bits(), squared_distance_body(a, b).to_bits());
    }
}
