//! Principal components of rows that arrive in batches: exactly, through the
//! streamed covariance ([`Covariance`]), or, where `dim × dim` numbers do not
//! fit, through a running truncated SVD ([`IncrementalPca`]).
//!
//! What must hold: the result is a function of the rows and their order alone,
//! bit for bit. How the caller cuts the rows into batches, how many threads
//! rayon has and how wide the CPU's registers are change nothing. Hence every
//! sum below runs in one fixed order, in f64, with separate multiplications
//! and additions: a fused multiply-add would round differently on the CPUs
//! that lack it (and gains nothing on those where both have their own port).
//!
//! One sign rule serves both: in every axis the entry of largest absolute
//! value, the first of them if several tie, is positive.

use nalgebra::DMatrix;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// Coordinates that travel together through the product kernel, and so the
/// edge of a tile of sums. With AVX2, half a tile is eight registers.
const PANEL: usize = 8;

/// Samples converted to f64 and multiplied at a time. Two panels of them
/// (2 × 16 KiB) stay in a core's first-level cache.
const BLOCK: usize = 256;

/// Directions an [`IncrementalPca`] keeps beyond those asked for. They catch
/// what is weak in one block and strong over all, which a merge of the leading
/// few drops: on 20,000 rows of the Debian embeddings (384 dimensions, two
/// components, the second with 4 % of the variance) the second axis misses the
/// exact one by 1 − |cos| = 0.85 with none in reserve, 2·10⁻² with 16, 10⁻³
/// with 64 and 10⁻⁴ with 128. Larger blocks help far less and cost more.
const RESERVE: usize = 64;

/// Scores computed per rayon task: enough rows to be worth a hand-over.
const PROJECT_ROWS: usize = 64;

/// Why there are no principal components.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PcaError {
    /// More axes were asked for than the data has coordinates.
    #[error("{asked} principal components asked of data with {dim} dimensions")]
    TooManyComponents {
        /// Components asked for.
        asked: usize,
        /// Coordinates of a row.
        dim: usize,
    },
    /// Not one row was added.
    #[error("no rows to take principal components of")]
    NoRows,
    /// A row held NaN or an infinity. The scan refuses such rows by name; this
    /// is the second line of defence.
    #[error("the rows hold NaN or infinite values")]
    NotFinite,
    /// The eigenvalue iteration ran past its limit. Not known to happen.
    #[error("the eigenvalues of a {order} × {order} matrix did not converge")]
    NotConverged {
        /// Rows of the matrix.
        order: usize,
    },
}

/// Principal axes of a data set, and the projection onto them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pca {
    /// Mean of the rows, `dim` values.
    pub mean: Vec<f64>,
    /// The axes, `n_components × dim`, row-major, orthonormal, by descending
    /// variance. Signs follow the rule in the module's header.
    pub components: Vec<f64>,
    /// Variance along each axis, `n_components` values, with scikit-learn's
    /// divisor n − 1 (its `explained_variance_`).
    pub variance: Vec<f64>,
    /// Variance of the data over all `dim` axes, same divisor:
    /// `variance / total_variance` is the share explained.
    pub total_variance: f64,
}

impl Pca {
    /// Coordinates of a row.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Number of axes.
    pub fn n_components(&self) -> usize {
        self.variance.len()
    }

    /// Writes the scores of `rows` (rows × dim) to `out` (rows ×
    /// n_components), both row-major. A row's scores depend on that row alone.
    ///
    /// # Panics
    /// If the two lengths do not belong to the same whole number of rows.
    pub fn project(&self, rows: &[f32], out: &mut [f32]) {
        let (dim, n_components) = (self.dim(), self.n_components());
        if dim == 0 || n_components == 0 {
            return;
        }
        assert_eq!(rows.len() % dim, 0, "rows must be whole");
        assert_eq!(out.len(), rows.len() / dim * n_components, "one score for each row and component");
        out.par_chunks_mut(PROJECT_ROWS * n_components).zip(rows.par_chunks(PROJECT_ROWS * dim)).for_each(
            |(out, rows)| {
                let mut centered = vec![0.0; dim];
                for (scores, row) in out.chunks_exact_mut(n_components).zip(rows.chunks_exact(dim)) {
                    for ((c, &x), &mean) in centered.iter_mut().zip(row).zip(&self.mean) {
                        *c = f64::from(x) - mean;
                    }
                    for (score, axis) in scores.iter_mut().zip(self.components.chunks_exact(dim)) {
                        *score = dot(&centered, axis) as f32;
                    }
                }
            },
        );
    }
}

/// Peak bytes of a [`Covariance`] of `dim` coordinates, its `finish` with the
/// eigendecomposition (twice the full matrix) included.
pub fn bytes(dim: usize) -> u64 {
    // Tiles while adding; at the end the matrix beside its eigenvectors.
    Products::bytes(dim).max(16 * (dim * dim) as u64) + 64 * dim as u64
}

/// Mean and covariance of a stream of rows, exact and in one pass.
///
/// Sums are taken of `x − s`, where the shift s is the first row: without it,
/// data far from the origin would lose its variance to cancellation. Like
/// every shifted one-pass sum this presumes that the first row lies among the
/// others, within some 10⁶ of their spread.
#[derive(Debug)]
pub struct Covariance {
    count: u64,
    shift: Vec<f32>,
    /// Σ(x − s) by coordinate, padded to whole panels.
    sums: Vec<[f64; PANEL]>,
    /// Σ(x − s)(x − s)ᵀ.
    products: Products,
}

impl Covariance {
    /// No rows yet, of `dim` coordinates. Allocates as [`bytes`] says.
    pub fn new(dim: usize) -> Self {
        Self {
            count: 0,
            shift: vec![0.0; dim],
            sums: vec![[0.0; PANEL]; dim.div_ceil(PANEL)],
            products: Products::new(dim),
        }
    }

    /// Adds `rows` (rows × dim, row-major). Any split into calls gives the
    /// same bits; a call costs as much as some tens of rows, so hand over
    /// hundreds at a time.
    ///
    /// # Panics
    /// If the length is not a whole number of rows.
    pub fn add(&mut self, rows: &[f32]) {
        let dim = self.shift.len();
        if dim == 0 || rows.is_empty() {
            return;
        }
        assert_eq!(rows.len() % dim, 0, "rows must be whole");
        if self.count == 0 {
            self.shift.copy_from_slice(&rows[..dim]);
        }
        for block in rows.chunks(BLOCK * dim) {
            let n = block.len() / dim;
            let shift = &self.shift;
            self.products.add(n, |row, c| f64::from(block[row * dim + c]) - f64::from(shift[c]));
            let panels = self.products.packed.par_chunks(n);
            self.sums.par_iter_mut().zip(panels).for_each(|(sum, panel)| {
                for row in panel {
                    for (s, &x) in sum.iter_mut().zip(row) {
                        *s += x;
                    }
                }
            });
            self.count += n as u64;
        }
    }

    /// Rows added so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean of the rows so far, `dim` values; zeros before the first.
    pub fn mean(&self) -> Vec<f64> {
        let n = self.count.max(1) as f64;
        (self.shift.iter().zip(self.sums.as_flattened())).map(|(&s, &sum)| f64::from(s) + sum / n).collect()
    }

    /// The `n_components` axes of largest variance. Data of lower rank gets
    /// axes of variance 0 to fill up, orthonormal like the rest.
    pub fn finish(self, n_components: usize) -> Result<Pca, PcaError> {
        let dim = self.shift.len();
        check(n_components, dim, self.count)?;
        let mean = self.mean();
        let n = self.count as f64;
        let divisor = (n - 1.0).max(1.0);
        let sums = self.sums.as_flattened();
        let covariance = self.products.into_matrix(|i, j, product| (product - sums[i] * (sums[j] / n)) / divisor);
        let total_variance = (0..dim).map(|i| covariance[(i, i)].max(0.0)).sum();
        let (variance, mut components) = eigen(covariance, n_components)?;
        components.chunks_exact_mut(dim).for_each(fix_sign);
        Ok(Pca { mean, components, variance, total_variance })
    }
}

/// Peak bytes of an [`IncrementalPca`] for `rank` components of `dim`
/// coordinates: linear in `dim`.
pub fn incremental_bytes(dim: usize, rank: usize) -> u64 {
    let kept = kept(dim, rank);
    let block = block_rows(rank);
    let order = kept + block + 1;
    let rows = 4 * dim * block;
    // The sketch and its successor; at the end, the axes beside the sketch.
    let vectors = 8 * dim * (kept + kept.max(rank));
    let gram = Products::bytes(order).max(16 * (order * order) as u64);
    (rows + vectors + 40 * dim + 64 * order) as u64 + gram
}

/// Principal components of rows too wide for their covariance to fit.
///
/// Keeps the leading right singular vectors of the centred rows so far. Each
/// full block of rows is merged by an SVD of the stack [S·V; block − its mean;
/// √(n·m/(n+m)) · (mean − block's mean)] (Ross, Lim, Lin & Yang,
/// "Incremental learning for robust visual tracking", IJCV 2008; also
/// scikit-learn's `IncrementalPCA`). Rows are gathered into blocks of a fixed
/// size first, so the caller's batches leave no trace.
///
/// The SVD goes through the stack's Gram matrix, whose order is the number of
/// stacked rows: cheap where `dim` is larger. Squaring loses directions whose
/// deviation is below about 10⁻⁷ of the largest; they count as variance 0.
///
/// Exact when the data's rank is at most the number of vectors kept, `rank` +
/// 64; otherwise an approximation, good where a few directions stand out.
#[derive(Debug)]
pub struct IncrementalPca {
    rank: usize,
    count: u64,
    mean: Vec<f64>,
    /// Σ‖x − mean‖² over the merged rows.
    scatter: f64,
    /// Squared singular values, descending, all positive; at most `kept`.
    strengths: Vec<f64>,
    /// S·V, coordinate by coordinate: `dim × strengths.len()`. Left unscaled,
    /// what a merge keeps is a projection of its stack, correct to rounding
    /// however weak the direction.
    sketch: Vec<f64>,
    /// Rows waiting for their block to fill.
    waiting: Vec<f32>,
    /// What went wrong in a merge; `finish` reports it.
    error: Option<PcaError>,
}

/// Vectors kept between merges.
fn kept(dim: usize, rank: usize) -> usize {
    (rank + RESERVE).min(dim)
}

/// Rows merged at a time. Fixed by `rank`, since the result depends on it.
fn block_rows(rank: usize) -> usize {
    2 * (rank + RESERVE)
}

impl IncrementalPca {
    /// No rows yet, of `dim` coordinates; `rank` components will be asked for.
    /// Allocates as [`incremental_bytes`] says.
    pub fn new(dim: usize, rank: usize) -> Self {
        Self {
            rank,
            count: 0,
            mean: vec![0.0; dim],
            scatter: 0.0,
            strengths: Vec::new(),
            sketch: Vec::new(),
            waiting: Vec::with_capacity(dim * block_rows(rank)),
            error: None,
        }
    }

    /// Adds `rows` (rows × dim, row-major). Any split into calls gives the
    /// same bits.
    ///
    /// # Panics
    /// If the length is not a whole number of rows.
    pub fn add(&mut self, mut rows: &[f32]) {
        let dim = self.mean.len();
        if dim == 0 {
            return;
        }
        assert_eq!(rows.len() % dim, 0, "rows must be whole");
        let full = dim * block_rows(self.rank);
        while !rows.is_empty() {
            let (now, later) = rows.split_at((full - self.waiting.len()).min(rows.len()));
            self.waiting.extend_from_slice(now);
            rows = later;
            if self.waiting.len() == full {
                self.merge();
            }
        }
    }

    /// Rows added so far.
    pub fn count(&self) -> u64 {
        self.count + (self.waiting.len() / self.mean.len().max(1)) as u64
    }

    /// The `rank` leading axes. Data of lower rank gets axes of variance 0 to
    /// fill up, orthonormal like the rest.
    pub fn finish(mut self) -> Result<Pca, PcaError> {
        let (rank, dim) = (self.rank, self.mean.len());
        check(rank, dim, self.count())?;
        if !self.waiting.is_empty() {
            self.merge();
        }
        self.error.map_or(Ok(()), Err)?;
        let divisor = (self.count as f64 - 1.0).max(1.0);
        let found = self.strengths.len();
        let mut variance = self.strengths;
        variance.truncate(rank);
        let mut components = Vec::with_capacity(rank * dim);
        for axis in 0..variance.len() {
            components.extend(self.sketch.iter().skip(axis).step_by(found));
        }
        drop(self.sketch);
        // Weak directions come out of a Gram matrix slightly oblique.
        for axis in 0..variance.len() {
            let (before, after) = components.split_at_mut(axis * dim);
            orthonormalize(before, &mut after[..dim]);
        }
        variance.iter_mut().for_each(|v| *v /= divisor);
        variance.resize(rank, 0.0);
        complete(&mut components, rank, dim);
        components.chunks_exact_mut(dim).for_each(fix_sign);
        Ok(Pca { mean: self.mean, components, variance, total_variance: self.scatter / divisor })
    }

    /// Takes the waiting rows into the mean, the scatter and the vectors.
    fn merge(&mut self) {
        if self.error.is_none() {
            self.error = self.try_merge().err();
        }
        self.count += (self.waiting.len() / self.mean.len()) as u64;
        self.waiting.clear();
    }

    fn try_merge(&mut self) -> Result<(), PcaError> {
        let dim = self.mean.len();
        let old = self.strengths.len();
        let rows = &self.waiting;
        let block = rows.len() / dim;
        let (n, m) = (self.count as f64, block as f64);

        // The block's mean, shifted by its first row for accuracy.
        let mut block_mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            for ((sum, &x), &first) in block_mean.iter_mut().zip(row).zip(rows) {
                *sum += f64::from(x) - f64::from(first);
            }
        }
        for (sum, &first) in block_mean.iter_mut().zip(rows) {
            *sum = f64::from(first) + *sum / m;
        }
        let weight = (n * m / (n + m)).sqrt();

        let order = old + block + 1;
        let (sketch, mean) = (&self.sketch, &self.mean);
        let stack = |row: usize, c: usize| {
            if row < old {
                sketch[c * old + row]
            } else if row < old + block {
                f64::from(rows[(row - old) * dim + c]) - block_mean[c]
            } else {
                weight * (mean[c] - block_mean[c])
            }
        };
        let mut products = Products::new(order);
        for start in (0..dim).step_by(BLOCK) {
            let n = BLOCK.min(dim - start);
            products.add(n, |c, row| stack(row, start + c));
        }
        let gram = products.into_matrix(|_, _, product| product);
        let scatter: f64 = (old..order).map(|i| gram[(i, i)]).sum();
        let (mut strengths, turns) = eigen(gram, kept(dim, self.rank).min(order))?;
        // Below this the Gram matrix holds rounding errors only.
        let floor = strengths.first().map_or(0.0, |s| s * order as f64 * f64::EPSILON);
        strengths.retain(|&s| s > floor);
        self.sketch = turn(&turns, strengths.len(), order, dim, stack);
        self.strengths = strengths;
        for (mean, &of_block) in self.mean.iter_mut().zip(&block_mean) {
            *mean += (of_block - *mean) * (m / (n + m));
        }
        self.scatter += scatter;
        Ok(())
    }
}

/// The first `n` rows of `turns` (any × order) times the stack (order × dim),
/// coordinate by coordinate: dim × n.
fn turn(turns: &[f64], n: usize, order: usize, dim: usize, stack: impl Fn(usize, usize) -> f64 + Sync) -> Vec<f64> {
    /// Coordinates at a time: a cache line of each row, twice over.
    const COLUMNS: usize = 32;
    // Stack rows in fours, so that a running sum is loaded once for four terms.
    let padded = order.next_multiple_of(4);
    let mut by_row = vec![0.0; padded * n];
    for (axis, turn) in turns.chunks_exact(order).take(n).enumerate() {
        for (row, &share) in turn.iter().enumerate() {
            by_row[row * n + axis] = share;
        }
    }
    let mut out = vec![0.0; dim * n];
    if n == 0 {
        return out;
    }
    out.par_chunks_mut(COLUMNS * n).enumerate().for_each(|(chunk, out)| {
        let mut columns = vec![0.0; COLUMNS * padded];
        for row in 0..order {
            for c in 0..out.len() / n {
                columns[c * padded + row] = stack(row, chunk * COLUMNS + c);
            }
        }
        for (out, column) in out.chunks_exact_mut(n).zip(columns.chunks_exact(padded)) {
            for (x, turns) in column.chunks_exact(4).zip(by_row.chunks_exact(4 * n)) {
                let (a, turns) = turns.split_at(n);
                let (b, turns) = turns.split_at(n);
                let (c, d) = turns.split_at(n);
                for (i, out) in out.iter_mut().enumerate() {
                    *out = (((*out + x[0] * a[i]) + x[1] * b[i]) + x[2] * c[i]) + x[3] * d[i];
                }
            }
        }
    });
    out
}

/// One square of the upper triangle of a [`Products`].
#[derive(Clone, Debug)]
struct Tile {
    /// Panel of the tile's rows.
    top: u32,
    /// Panel of the tile's columns, at least `top`.
    left: u32,
    sums: [[f64; PANEL]; PANEL],
}

/// Σ x xᵀ over samples x of `order` coordinates; the upper triangle only.
///
/// Every entry is one running sum over the samples in the order of their
/// coming. Tiles are independent, so threads share them out freely.
#[derive(Debug)]
struct Products {
    order: usize,
    tiles: Vec<Tile>,
    /// The samples at hand, panel by panel: `[panel][sample][coordinate]`.
    packed: Vec<[f64; PANEL]>,
}

impl Products {
    fn tile_bytes(order: usize) -> u64 {
        let panels = order.div_ceil(PANEL) as u64;
        panels * (panels + 1) / 2 * size_of::<Tile>() as u64
    }

    fn bytes(order: usize) -> u64 {
        Self::tile_bytes(order) + (order.div_ceil(PANEL) * PANEL * BLOCK * 8) as u64
    }

    fn new(order: usize) -> Self {
        let panels = order.div_ceil(PANEL) as u32;
        let mut tiles = Vec::with_capacity((panels as usize) * (panels as usize + 1) / 2);
        for top in 0..panels {
            for left in top..panels {
                let sums = [[0.0; PANEL]; PANEL];
                tiles.push(Tile { top, left, sums });
            }
        }
        Self { order, tiles, packed: vec![[0.0; PANEL]; panels as usize * BLOCK] }
    }

    /// Adds `n` ≤ [`BLOCK`] samples; `value(sample, coordinate)` yields them.
    fn add(&mut self, n: usize, value: impl Fn(usize, usize) -> f64 + Sync) {
        let order = self.order;
        let packed = &mut self.packed[..order.div_ceil(PANEL) * n];
        packed.par_chunks_mut(n).enumerate().for_each(|(panel, samples)| {
            let width = PANEL.min(order - panel * PANEL);
            for (sample, lanes) in samples.iter_mut().enumerate() {
                for (lane, x) in lanes[..width].iter_mut().enumerate() {
                    *x = value(sample, panel * PANEL + lane);
                }
                lanes[width..].fill(0.0);
            }
        });
        let panel = |p: u32| &packed[p as usize * n..][..n];
        (self.tiles.par_iter_mut().with_min_len(8))
            .for_each(|tile| accumulate(&mut tile.sums, panel(tile.top), panel(tile.left)));
    }

    /// The symmetric matrix of `entry(i, j, Σ xᵢxⱼ)`, i ≤ j.
    fn into_matrix(self, entry: impl Fn(usize, usize, f64) -> f64) -> DMatrix<f64> {
        drop(self.packed);
        let mut matrix = DMatrix::zeros(self.order, self.order);
        for tile in &self.tiles {
            for (i, row) in (tile.top as usize * PANEL..self.order).zip(&tile.sums) {
                for (j, &product) in (tile.left as usize * PANEL..self.order).zip(row) {
                    if i <= j {
                        let value = entry(i, j, product);
                        matrix[(i, j)] = value;
                        matrix[(j, i)] = value;
                    }
                }
            }
        }
        matrix
    }
}

/// sums += Σ over samples of `a` (down) × `b` (across), with the widest
/// instructions at hand; the bits are the same with all of them.
fn accumulate(sums: &mut [[f64; PANEL]; PANEL], a: &[[f64; PANEL]], b: &[[f64; PANEL]]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        #[expect(unsafe_code, reason = "2.5 times the speed of the baseline's SSE2")]
        // SAFETY: the function is safe but for needing AVX2, which is there.
        return unsafe { accumulate_avx2(sums, a, b) };
    }
    accumulate_by::<2>(sums, a, b);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn accumulate_avx2(sums: &mut [[f64; PANEL]; PANEL], a: &[[f64; PANEL]], b: &[[f64; PANEL]]) {
    accumulate_by::<4>(sums, a, b);
}

/// `HEIGHT` rows of the tile at a time, as many as the registers hold.
#[inline(always)]
fn accumulate_by<const HEIGHT: usize>(sums: &mut [[f64; PANEL]; PANEL], a: &[[f64; PANEL]], b: &[[f64; PANEL]]) {
    for top in (0..PANEL).step_by(HEIGHT) {
        let mut part = [[0.0; PANEL]; HEIGHT];
        part.copy_from_slice(&sums[top..top + HEIGHT]);
        for (x, y) in a.iter().zip(b) {
            for i in 0..HEIGHT {
                for j in 0..PANEL {
                    part[i][j] += x[top + i] * y[j];
                }
            }
        }
        sums[top..top + HEIGHT].copy_from_slice(&part);
    }
}

/// Inner product in eight interleaved running sums, added pairwise at the end.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    for (sum, (x, y)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += x * y;
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

fn check(asked: usize, dim: usize, count: u64) -> Result<(), PcaError> {
    if asked > dim {
        return Err(PcaError::TooManyComponents { asked, dim });
    }
    if count == 0 {
        return Err(PcaError::NoRows);
    }
    Ok(())
}

/// The `n` leading eigenvalues of a positive semidefinite `matrix`,
/// descending and none negative, and their eigenvectors, row by row.
fn eigen(matrix: DMatrix<f64>, n: usize) -> Result<(Vec<f64>, Vec<f64>), PcaError> {
    let order = matrix.nrows();
    // The iteration would never end on NaN.
    if matrix.iter().any(|x| !x.is_finite()) {
        return Err(PcaError::NotFinite);
    }
    // Two or three sweeps an eigenvalue are usual.
    let limit = 1000 + 100 * order;
    let eigen = (matrix.try_symmetric_eigen(f64::EPSILON, limit)).ok_or(PcaError::NotConverged { order })?;
    let values = &eigen.eigenvalues;
    let mut by_size: Vec<usize> = (0..order).collect();
    // Stable: equal eigenvalues keep the order of the decomposition.
    by_size.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
    by_size.truncate(n);
    let largest = by_size.iter().map(|&i| values[i].max(0.0)).collect();
    let mut vectors = Vec::with_capacity(n * order);
    for &i in &by_size {
        vectors.extend(eigen.eigenvectors.column(i).iter());
    }
    Ok((largest, vectors))
}

/// Turns `axis` so that its entry of largest absolute value, the first if
/// several tie, is positive.
fn fix_sign(axis: &mut [f64]) {
    let mut largest = 0.0f64;
    for &x in &*axis {
        if x.abs() > largest.abs() {
            largest = x;
        }
    }
    if largest < 0.0 {
        axis.iter_mut().for_each(|x| *x = -*x);
    }
}

/// Frees `vector` of its parts along the orthonormal rows `before` and gives
/// it length 1. Twice is enough (Giraud et al. 2005).
fn orthonormalize(before: &[f64], vector: &mut [f64]) {
    for _ in 0..2 {
        for other in before.chunks_exact(vector.len()) {
            let along = dot(vector, other);
            for (v, o) in vector.iter_mut().zip(other) {
                *v -= along * o;
            }
        }
        let length = dot(vector, vector).sqrt();
        vector.iter_mut().for_each(|v| *v /= length);
    }
}

/// Extends orthonormal rows to `n` of them, n ≤ dim. Each new row starts from
/// the coordinate axis that the rows so far cover least.
fn complete(vectors: &mut Vec<f64>, n: usize, dim: usize) {
    while vectors.len() < n * dim {
        let mut covered = vec![0.0; dim];
        for vector in vectors.chunks_exact(dim) {
            for (sum, v) in covered.iter_mut().zip(vector) {
                *sum += v * v;
            }
        }
        let least = (0..dim).min_by(|&i, &j| covered[i].total_cmp(&covered[j]));
        let mut axis = vec![0.0; dim];
        axis[least.unwrap_or(0)] = 1.0;
        orthonormalize(vectors, &mut axis);
        vectors.extend_from_slice(&axis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reproducible values in [−0.5, 0.5), by a linear congruence.
    fn noise(seed: u64, n: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2) + 1;
        (0..n)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect()
    }

    /// `n` rows on a `rank`-dimensional plane through `offset`·(1, 1, …).
    fn plane(seed: u64, n: usize, dim: usize, rank: usize, offset: f32) -> Vec<f32> {
        let basis = noise(seed + 1, rank * dim);
        noise(seed, n * rank)
            .chunks(rank)
            .flat_map(|weights| {
                let basis = &basis;
                (0..dim).map(move |c| {
                    offset + (0..rank).map(|r| weights[r] * basis[r * dim + c] * (1 + r) as f32).sum::<f32>()
                })
            })
            .collect()
    }

    /// Means, then covariances about them: two passes, no shift, no tiles.
    fn naive(rows: &[f32], dim: usize) -> (Vec<f64>, DMatrix<f64>) {
        let n = (rows.len() / dim) as f64;
        let mut mean = vec![0.0; dim];
        for row in rows.chunks(dim) {
            for (m, &x) in mean.iter_mut().zip(row) {
                *m += f64::from(x) / n;
            }
        }
        let mut covariance = DMatrix::zeros(dim, dim);
        for row in rows.chunks(dim) {
            for i in 0..dim {
                for j in 0..dim {
                    covariance[(i, j)] += (f64::from(row[i]) - mean[i]) * (f64::from(row[j]) - mean[j]) / (n - 1.0);
                }
            }
        }
        (mean, covariance)
    }

    fn exact(rows: &[f32], dim: usize, n_components: usize) -> Pca {
        let mut covariance = Covariance::new(dim);
        covariance.add(rows);
        covariance.finish(n_components).unwrap()
    }

    fn incremental(rows: &[f32], dim: usize, rank: usize) -> Pca {
        let mut pca = IncrementalPca::new(dim, rank);
        pca.add(rows);
        pca.finish().unwrap()
    }

    /// Every number of a result, for comparison to the last bit.
    fn bits(pca: &Pca) -> Vec<u64> {
        [&pca.mean, &pca.components, &pca.variance, &vec![pca.total_variance]]
            .into_iter()
            .flatten()
            .map(|x| x.to_bits())
            .collect()
    }

    fn assert_orthonormal(pca: &Pca) {
        let dim = pca.dim();
        for (i, a) in pca.components.chunks(dim).enumerate() {
            for (j, b) in pca.components.chunks(dim).enumerate() {
                let expected = if i == j { 1.0 } else { 0.0 };
                let product = dot(a, b);
                assert!((product - expected).abs() < 1e-12, "{i}·{j} = {product}");
            }
        }
        assert!(pca.variance.iter().all(|v| v.is_finite() && *v >= 0.0));
        assert!(pca.variance.is_sorted_by(|a, b| a >= b));
    }

    fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
        assert_eq!(a.len(), b.len());
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            assert!((a - b).abs() <= tolerance, "[{i}] {a} against {b}");
        }
    }

    /// `rows` in pieces whose lengths follow `cuts`, over and over.
    fn in_pieces<'a>(rows: &'a [f32], dim: usize, cuts: &'a [usize]) -> Vec<&'a [f32]> {
        let (mut rest, mut pieces) = (rows, Vec::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, later) = rest.split_at((cut * dim).min(rest.len()));
            pieces.push(piece);
            rest = later;
        }
        pieces
    }

    #[test]
    fn covariance_is_that_of_two_passes() {
        for (n, dim) in [(2, 1), (3, 2), (300, 7), (257, 8), (600, 19)] {
            for offset in [0.0, 1000.0] {
                let rows: Vec<f32> = noise(n as u64, n * dim).iter().map(|x| x + offset).collect();
                let (mean, expected) = naive(&rows, dim);
                let pca = exact(&rows, dim, dim);
                assert_close(&pca.mean, &mean, 1e-12 * (1.0 + f64::from(offset)));
                assert!((pca.total_variance - expected.trace()).abs() < 1e-12);
                // V diag(variance) Vᵀ gives the covariance back.
                let mut product = DMatrix::<f64>::zeros(dim, dim);
                for (axis, v) in pca.components.chunks(dim).zip(&pca.variance) {
                    for i in 0..dim {
                        for j in 0..dim {
                            product[(i, j)] += axis[i] * v * axis[j];
                        }
                    }
                }
                assert_close(product.as_slice(), expected.as_slice(), 1e-12);
                assert_orthonormal(&pca);
            }
        }
    }

    #[test]
    fn both_kernels_give_the_same_bits() {
        let values = noise(5, 2 * 40 * PANEL);
        let values: Vec<f64> = values.iter().map(|&x| f64::from(x).cbrt()).collect();
        let (panels, _) = values.as_chunks::<PANEL>();
        let (a, b) = panels.split_at(40);
        let mut expected = [[0.25; PANEL]; PANEL];
        let mut sums = expected;
        accumulate_by::<2>(&mut expected, a, b);
        accumulate(&mut sums, a, b);
        assert_eq!(sums, expected);
    }

    #[test]
    fn threads_change_no_bit() {
        let (n, dim) = (700, 37);
        let rows = noise(1, n * dim);
        let results = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(|| {
                let pca = exact(&rows, dim, 5);
                let mut scores = vec![0.0; n * 5];
                pca.project(&rows, &mut scores);
                (bits(&pca), bits(&incremental(&rows, dim, 5)), scores)
            })
        });
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0], results[2]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn batches_change_no_bit(
            seed in 0u64..1000,
            n in 1usize..700,
            dim in 1usize..20,
            cuts in prop::collection::vec(1usize..400, 1..5),
        ) {
            let rows = noise(seed, n * dim);
            let rank = dim.min(3);
            let mut covariance = Covariance::new(dim);
            let mut running = IncrementalPca::new(dim, rank);
            for piece in in_pieces(&rows, dim, &cuts) {
                covariance.add(piece);
                running.add(piece);
            }
            prop_assert_eq!(covariance.count(), n as u64);
            prop_assert_eq!(running.count(), n as u64);
            let pca = covariance.finish(rank).unwrap();
            prop_assert_eq!(bits(&pca), bits(&exact(&rows, dim, rank)));
            prop_assert_eq!(
                bits(&running.finish().unwrap()),
                bits(&incremental(&rows, dim, rank))
            );
            let (mut whole, mut pieces) = (vec![0.0; n * rank], Vec::new());
            pca.project(&rows, &mut whole);
            for piece in in_pieces(&rows, dim, &cuts) {
                let mut scores = vec![0.0; piece.len() / dim * rank];
                pca.project(piece, &mut scores);
                pieces.extend(scores);
            }
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn all_components_rebuild_the_rows() {
        let (n, dim) = (400, 12);
        let rows = plane(3, n, dim, dim, 20.0);
        for pca in [exact(&rows, dim, dim), incremental(&rows, dim, dim)] {
            let mut scores = vec![0.0; n * dim];
            pca.project(&rows, &mut scores);
            for (row, scores) in rows.chunks(dim).zip(scores.chunks(dim)) {
                for c in 0..dim {
                    let along: f64 =
                        (pca.components.chunks(dim).zip(scores)).map(|(axis, &score)| axis[c] * f64::from(score)).sum();
                    assert!((pca.mean[c] + along - f64::from(row[c])).abs() < 1e-5);
                }
            }
            // The scores' variance is the one reported.
            for (k, v) in pca.variance.iter().enumerate() {
                let squares: f64 = (scores.iter().skip(k).step_by(dim)).map(|&s| f64::from(s).powi(2)).sum();
                assert!((squares / (n as f64 - 1.0) - v).abs() <= 1e-6 * pca.variance[0]);
            }
        }
    }

    #[test]
    fn the_largest_entry_of_every_axis_is_positive() {
        let rows = noise(9, 500 * 11);
        for pca in [exact(&rows, 11, 11), incremental(&rows, 11, 11)] {
            for axis in pca.components.chunks(11) {
                let (low, high) = axis.iter().fold((0.0f64, 0.0f64), |(low, high), &x| (low.min(x), high.max(x)));
                assert!(high >= -low, "{axis:?}");
            }
        }
        let mut tie = [0.5, -0.5, 0.5];
        fix_sign(&mut tie);
        assert_eq!(tie, [0.5, -0.5, 0.5]);
        let mut tie = [-0.5, 0.5, 0.1];
        fix_sign(&mut tie);
        assert_eq!(tie, [0.5, -0.5, -0.1]);
    }

    #[test]
    fn degenerate_data_gets_orthonormal_axes_of_no_variance() {
        let dim = 9;
        let same: Vec<f32> = [1.5, -2.25, 1e6].repeat(3).repeat(40);
        let line: Vec<f32> = (0..40).flat_map(|i| [i as f32 * 0.1; 9]).collect();
        let huge: Vec<f32> = noise(2, 50 * dim).iter().map(|x| x * 3e38).collect();
        let tiny: Vec<f32> = noise(2, 50 * dim).iter().map(|x| x * 1e-37).collect();
        for (rows, rank) in
            [(&same[..], 0), (&same[..dim], 0), (&line, 1), (&line[..dim * 2], 1), (&huge, dim), (&tiny, dim)]
        {
            for pca in [exact(rows, dim, dim), incremental(rows, dim, dim)] {
                assert_orthonormal(&pca);
                assert!(pca.total_variance.is_finite());
                let floor = 1e-12 * pca.total_variance;
                let positive = pca.variance.iter().filter(|&&v| v > floor).count();
                assert_eq!(positive, rank, "{:?}", pca.variance);
                if rank == 0 {
                    assert_eq!(pca.variance, vec![0.0; dim]);
                }
                let mut scores = vec![f32::NAN; rows.len()];
                pca.project(rows, &mut scores);
                assert!(scores.iter().all(|s| s.is_finite()));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let rows = noise(1, 30);
        let asked = |n| {
            let mut covariance = Covariance::new(3);
            covariance.add(&rows);
            covariance.finish(n)
        };
        let too_many = PcaError::TooManyComponents { asked: 4, dim: 3 };
        assert_eq!(asked(4), Err(too_many.clone()));
        assert!(asked(0).unwrap().components.is_empty());
        assert_eq!(Covariance::new(3).finish(2), Err(PcaError::NoRows));
        assert_eq!(IncrementalPca::new(3, 4).finish(), Err(too_many));
        assert_eq!(IncrementalPca::new(3, 2).finish(), Err(PcaError::NoRows));
        for bad in [f32::NAN, f32::INFINITY] {
            let rows = [0.0, 1.0, 2.0, bad, 4.0, 5.0, 6.0, 7.0, 8.0];
            let mut covariance = Covariance::new(3);
            covariance.add(&rows);
            assert_eq!(covariance.finish(2), Err(PcaError::NotFinite));
            let mut running = IncrementalPca::new(3, 2);
            running.add(&rows);
            assert_eq!(running.finish(), Err(PcaError::NotFinite));
            let mut running = IncrementalPca::new(3, 2);
            running.add(&rows.repeat(block_rows(2)));
            assert_eq!(running.count(), 3 * block_rows(2) as u64);
            assert_eq!(running.finish(), Err(PcaError::NotFinite));
        }
    }

    #[test]
    fn incremental_is_exact_on_data_of_low_rank() {
        for (n, dim, rank, offset) in [(2000, 300, 4, 0.0), (777, 64, 2, 50.0), (100, 500, 3, 1.0)] {
            let rows = plane(7, n, dim, rank, offset);
            let (exact, running) = (exact(&rows, dim, rank), incremental(&rows, dim, rank));
            assert_orthonormal(&running);
            assert_close(&running.mean, &exact.mean, 1e-9);
            assert_close(&running.components, &exact.components, 1e-6);
            assert_close(&running.variance, &exact.variance, 1e-6 * exact.variance[0]);
            assert!((running.total_variance / exact.total_variance - 1.0).abs() < 1e-9);
        }
    }

    #[test]
    fn bytes_grow_as_documented() {
        assert!((384 * 384 * 16..384 * 384 * 17).contains(&bytes(384)));
        let (narrow, wide) = (incremental_bytes(10_000, 2), incremental_bytes(100_000, 2));
        assert!(wide > 8 * narrow && wide < 10 * narrow);
        assert!(wide < bytes(100_000) / 100);
    }
}
