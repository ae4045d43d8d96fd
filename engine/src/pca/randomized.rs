//! Principal components of rows of any width in a few passes: a randomised block Krylov method.
//!
//! Each pass multiplies directions Q by the scatter matrix C = Σ(x − μ)(x − μ)ᵀ, which is never formed:
//! C·Q = Σ(x − μ)((x − μ)ᵀQ). The first Q is random (Halko, Martinsson & Tropp, "Finding structure with
//! randomness", SIAM Review 2011); each later Q is C times the previous one. All directions are kept, and
//! the axes are the best in the space that they span together (Musco & Musco, "Randomized block Krylov
//! methods for stronger and faster approximate singular value decomposition", NeurIPS 2015), which for
//! the same number of passes is much more accurate than the last power alone.
//!
//! Invariants: no memory grows with the number of rows; random numbers are counter-based; every sum over
//! rows runs in row order, for any batches and threads.

use nalgebra::DMatrix;
use rayon::prelude::*;

use super::axes::{complete, dot, eigen, fix_sign, orthonormalize};
use super::{Pca, PcaError, check, check_rows};
use crate::random::draw;

/// Number of directions beyond those requested; Halko et al. recommend 5 to 10.
const OVERSAMPLES: usize = 10;
/// Residual, as a share of an axis's variance, at which the axes count as found.
const TOLERANCE: f64 = 1e-5;
/// A candidate direction is dropped if the part that the others do not span is at most this share of its length.
const MIN_RESIDUAL_LENGTH: f64 = 1e-11;
/// Number of rows processed at a time, and number of components per task.
const ROWS: usize = 256;
const COLUMNS: usize = 64;

/// Principal components by repeated passes over all rows, until the residual is at most 10⁻⁵ or
/// [`PASSES`](Self::PASSES) passes were made.
///
/// ```
/// use lowland_engine::pca::RandomizedPca;
/// let batches = [[1.0, 0.0, 2.0, 0.5, 1.0, 9.0], [0.0, 7.0, 1.0, 2.0, 2.0, 3.0]]; // two rows of three each
/// let mut pca = RandomizedPca::new(3, 1, 42)?;
/// while pca.needs_pass() {
///     for batch in &batches {
///         pca.add(batch)?;
///     }
///     pca.end_pass()?;
/// }
/// assert!(pca.residual() < 1e-5 && pca.passes() <= RandomizedPca::PASSES);
/// assert_eq!(pca.finish()?.n_components(), 1);
/// # Ok::<(), lowland_engine::pca::PcaError>(())
/// ```
#[derive(Debug)]
pub struct RandomizedPca {
    n_components: usize,
    dim: usize,
    /// Number of directions multiplied in a pass; the last few may be zeros.
    lanes: usize,
    passes: usize,
    done: bool,
    /// Number of rows of the first pass, and of the current pass.
    count: u64,
    seen: u64,
    /// The mean; during the first pass the first row, which serves as the shift.
    mean: Vec<f64>,
    /// Σ(x − first row) of the first pass.
    sums: Vec<f64>,
    /// Σ‖x − mean‖².
    scatter: f64,
    /// The directions of this pass, component by component, and C times the directions.
    directions: Vec<f64>,
    products: Vec<f64>,
    /// All directions so far (orthonormal), and C times each: vectors × dim.
    basis: Vec<f64>,
    images: Vec<f64>,
    /// Leading eigenvalues of C in the spanned space, and the coefficients of each axis.
    strengths: Vec<f64>,
    turns: Vec<f64>,
    residual: f64,
}

impl RandomizedPca {
    /// The largest number of passes.
    pub const PASSES: usize = 6;

    /// Returns the peak bytes for `n_components` of rows with `dim` components: linear in `dim`.
    pub fn bytes(dim: usize, n_components: usize) -> u64 {
        let lanes = lanes(dim, n_components);
        let vectors = (lanes * Self::PASSES).min(dim);
        // Per pass: the directions, their products with C, and the products of the pass before.
        let of_passes = 8 * dim as u64 * (2 * vectors + 3 * lanes + n_components) as u64;
        let of_rows = 8 * (ROWS * (lanes + 1)) as u64;
        of_passes + of_rows + 24 * (vectors * vectors) as u64 + 64 * dim as u64
    }

    /// Prepares the first pass over rows with `dim` components.
    ///
    /// # Errors
    /// [`PcaError::TooManyComponents`].
    pub fn new(dim: usize, n_components: usize, seed: u64) -> Result<Self, PcaError> {
        check(n_components, dim, 1)?;
        let lanes = lanes(dim, n_components);
        let vectors = (lanes * Self::PASSES).min(dim);
        let mut pca = Self {
            n_components,
            dim,
            lanes,
            passes: 0,
            done: n_components == 0,
            count: 0,
            seen: 0,
            mean: vec![0.0; dim],
            sums: vec![0.0; dim],
            scatter: 0.0,
            directions: vec![0.0; dim * lanes],
            products: vec![0.0; dim * lanes],
            basis: Vec::with_capacity(vectors * dim),
            images: Vec::with_capacity(vectors * dim),
            strengths: Vec::new(),
            turns: Vec::new(),
            residual: f64::INFINITY,
        };
        let signs = (0..lanes as u64).map(|lane| {
            let sign = |c| if draw(seed, 0x9ca0 + lane, c) & 1 == 0 { 1.0 } else { -1.0 };
            (0..dim as u64).map(sign).collect()
        });
        // With few components, some random directions may be linear combinations of others.
        let units = (0..lanes).map(|lane| (0..dim).map(|c| f64::from(c == lane)).collect());
        pca.begin(signs.chain(units));
        Ok(pca)
    }

    /// Returns whether another pass over all rows is needed.
    pub fn needs_pass(&self) -> bool {
        !self.done
    }

    /// Returns the number of finished passes.
    pub fn passes(&self) -> usize {
        self.passes
    }

    /// Returns the largest ‖C·v − λv‖ / λ of the current axes v: about the sine of the angle to the true
    /// axes, if the eigenvalues are well separated.
    pub fn residual(&self) -> f64 {
        self.residual
    }

    /// Adds `rows` (rows × dim, row-major) to the current pass. Any split into calls gives the same bits.
    ///
    /// # Errors
    /// [`PcaError::NotWhole`] and [`PcaError::NotFiniteAt`].
    pub fn add(&mut self, rows: &[f32]) -> Result<(), PcaError> {
        let (dim, lanes, first_pass) = (self.dim, self.lanes, self.passes == 0);
        check_rows(rows, dim, self.seen)?;
        if first_pass && self.seen == 0 {
            self.mean.iter_mut().zip(rows).for_each(|(mean, &x)| *mean = f64::from(x));
        }
        for rows in rows.chunks(ROWS * dim) {
            let n = rows.len() / dim;
            let (mean, directions) = (&self.mean, &self.directions);
            // For each row: its products with the directions, then its squared length.
            let mut along = vec![0.0; n * (lanes + 1)];
            along.par_chunks_mut(lanes + 1).zip(rows.par_chunks(dim)).for_each(|(along, row)| {
                let (along, square) = along.split_at_mut(lanes);
                multiply(row, mean, directions, along);
                square[0] = row.iter().zip(mean).map(|(&x, mean)| (f64::from(x) - mean).powi(2)).sum();
            });
            if first_pass {
                along.chunks_exact(lanes + 1).for_each(|along| self.scatter += along[lanes]);
            }
            let shares = self.products.par_chunks_mut(COLUMNS * lanes).zip(self.sums.par_chunks_mut(COLUMNS));
            shares.enumerate().for_each(|(share, (products, sums))| {
                let columns = share * COLUMNS..share * COLUMNS + sums.len();
                if first_pass {
                    for row in rows.chunks_exact(dim) {
                        let centered = row[columns.clone()].iter().zip(&mean[columns.clone()]);
                        sums.iter_mut().zip(centered).for_each(|(sum, (&x, mean))| *sum += f64::from(x) - mean);
                    }
                }
                gather(rows, dim, columns, mean, &along, lanes, products);
            });
            self.seen += n as u64;
        }
        Ok(())
    }

    /// Ends a pass: computes the best axes so far, and the directions of the next pass.
    ///
    /// # Errors
    /// [`PcaError::NoRows`]; [`PcaError::Passes`] if the pass saw another number of rows than the first.
    pub fn end_pass(&mut self) -> Result<(), PcaError> {
        if self.passes == 0 {
            check(self.n_components, self.dim, self.seen)?;
            self.count = self.seen;
            self.center();
        } else if self.seen != self.count {
            return Err(PcaError::Passes { expected: self.count, found: self.seen });
        }
        self.seen = 0;
        self.passes += 1;
        let (dim, before) = (self.dim, self.images.len() / self.dim);
        let width = self.basis.len() / dim - before;
        for lane in 0..width {
            self.images.extend(self.products.iter().skip(lane).step_by(self.lanes));
        }
        self.best()?;
        if self.residual <= TOLERANCE || self.passes == Self::PASSES {
            self.done = true;
        } else {
            let last: Vec<Vec<f64>> = self.images[before * dim..].chunks_exact(dim).map(<[f64]>::to_vec).collect();
            self.begin(last.into_iter());
        }
        Ok(())
    }

    /// Returns the axes. If the data's rank is lower, axes with variance 0 are added.
    ///
    /// # Errors
    /// [`PcaError::NoRows`] before the first pass has ended.
    pub fn finish(self) -> Result<Pca, PcaError> {
        let (dim, rank) = (self.dim, self.n_components);
        check(rank, dim, self.count)?;
        let divisor = (self.count as f64 - 1.0).max(1.0);
        let vectors = self.basis.len() / dim;
        let floor = self.strengths.first().map_or(0.0, |s| s * dim as f64 * f64::EPSILON);
        let mut variance: Vec<f64> = self.strengths.iter().filter(|&&s| s > floor).map(|s| s / divisor).collect();
        let mut components = Vec::with_capacity(rank * dim);
        for turn in self.turns.chunks_exact(vectors).take(variance.len()) {
            let start = components.len();
            components.extend(combine(turn, &self.basis, dim));
            let (before, axis) = components.split_at_mut(start);
            orthonormalize(before, axis);
        }
        variance.resize(rank, 0.0);
        complete(&mut components, rank, dim);
        components.chunks_exact_mut(dim).for_each(fix_sign);
        Ok(Pca { mean: self.mean, components, variance, total_variance: self.scatter / divisor })
    }

    /// Converts the sums around the first row to sums around the mean.
    fn center(&mut self) {
        let n = self.count as f64;
        let off: Vec<f64> = self.sums.iter().map(|sum| sum / n).collect();
        let mut along = vec![0.0; self.lanes];
        for (off, directions) in off.iter().zip(self.directions.chunks_exact(self.lanes)) {
            along.iter_mut().zip(directions).for_each(|(along, direction)| *along += off * direction);
        }
        for (off, products) in off.iter().zip(self.products.chunks_exact_mut(self.lanes)) {
            products.iter_mut().zip(&along).for_each(|(product, along)| *product -= n * off * along);
        }
        self.mean.iter_mut().zip(&off).for_each(|(mean, off)| *mean += off);
        self.scatter = (self.scatter - n * dot(&off, &off)).max(0.0);
    }

    /// Computes the best axes in the space of the basis (Rayleigh–Ritz), and their residual as
    /// eigenvectors of C.
    fn best(&mut self) -> Result<(), PcaError> {
        let dim = self.dim;
        let vectors = self.basis.len() / dim;
        let products: Vec<f64> = (self.basis.par_chunks_exact(dim))
            .flat_map_iter(|vector| self.images.chunks_exact(dim).map(move |image| dot(vector, image)))
            .collect();
        let matrix =
            DMatrix::from_fn(vectors, vectors, |i, j| (products[i * vectors + j] + products[j * vectors + i]) / 2.0);
        (self.strengths, self.turns) = eigen(matrix, self.n_components.min(vectors))?;
        let largest = self.strengths.first().copied().unwrap_or(0.0);
        let floor = largest * dim as f64 * f64::EPSILON;
        let residuals = (self.turns.par_chunks_exact(vectors).zip(&self.strengths)).map(|(turn, &strength)| {
            if strength <= floor {
                return 0.0;
            }
            let mut rest = combine(turn, &self.images, dim);
            rest.iter_mut().zip(combine(turn, &self.basis, dim)).for_each(|(rest, x)| *rest -= strength * x);
            dot(&rest, &rest).sqrt() / strength
        });
        self.residual = residuals.collect::<Vec<f64>>().into_iter().fold(0.0, f64::max);
        Ok(())
    }

    /// Takes the parts of `candidates` outside the basis as the directions of the next pass.
    fn begin(&mut self, candidates: impl Iterator<Item = Vec<f64>>) {
        let dim = self.dim;
        self.directions.fill(0.0);
        self.products.fill(0.0);
        let mut width = 0;
        for mut candidate in candidates {
            if width == self.lanes || self.basis.len() == dim * dim {
                break;
            }
            let length = dot(&candidate, &candidate).sqrt();
            if length == 0.0 {
                continue;
            }
            candidate.iter_mut().for_each(|x| *x /= length);
            if rest(&self.basis, &mut candidate) <= MIN_RESIDUAL_LENGTH {
                continue;
            }
            orthonormalize(&self.basis, &mut candidate);
            for (directions, &x) in self.directions.chunks_exact_mut(self.lanes).zip(&candidate) {
                directions[width] = x;
            }
            self.basis.extend(candidate);
            width += 1;
        }
        // No new direction: the space is invariant under C, and the axes in it are exact eigenvectors.
        self.done = self.done || width == 0;
    }
}

/// Returns the number of directions per pass: a multiple of the register width.
fn lanes(dim: usize, n_components: usize) -> usize {
    (n_components + OVERSAMPLES).next_multiple_of(4).min(dim)
}

/// Returns Σ turnᵢ · vectorᵢ.
fn combine(turn: &[f64], vectors: &[f64], dim: usize) -> Vec<f64> {
    let mut sum = vec![0.0; dim];
    for (share, vector) in turn.iter().zip(vectors.chunks_exact(dim)) {
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += share * x);
    }
    sum
}

/// Removes from `vector`, of length 1, its projections onto `basis`, and returns the remaining length.
fn rest(basis: &[f64], vector: &mut [f64]) -> f64 {
    let dim = vector.len();
    for other in basis.chunks_exact(dim) {
        let along = dot(vector, other);
        vector.iter_mut().zip(other).for_each(|(v, o)| *v -= along * o);
    }
    dot(vector, vector).sqrt()
}

/// Computes (row − mean)ᵀ · directions into `along`, as a running sum over the components.
fn multiply(row: &[f32], mean: &[f64], directions: &[f64], along: &mut [f64]) {
    let lanes = along.len();
    let quads = row.chunks_exact(4).zip(mean.chunks_exact(4)).zip(directions.chunks_exact(4 * lanes));
    for ((x, mean), directions) in quads {
        let x: [f64; 4] = std::array::from_fn(|i| f64::from(x[i]) - mean[i]);
        add_four(along, x, directions);
    }
    let whole = row.len() / 4 * 4;
    for c in whole..row.len() {
        let x = f64::from(row[c]) - mean[c];
        along.iter_mut().zip(&directions[c * lanes..]).for_each(|(along, direction)| *along += x * direction);
    }
}

/// Adds Σ (row − mean) · along over these rows to `products` of some columns, as a running sum over the rows.
fn gather(
    rows: &[f32],
    dim: usize,
    columns: std::ops::Range<usize>,
    mean: &[f64],
    along: &[f64],
    lanes: usize,
    products: &mut [f64],
) {
    let stride = lanes + 1;
    // The coefficients of four rows side by side, so that a running sum is loaded once for four terms.
    let mut four = vec![0.0; 4 * lanes];
    for (rows, along) in rows.chunks(4 * dim).zip(along.chunks(4 * stride)) {
        let n = rows.len() / dim;
        for (four, along) in four.chunks_exact_mut(lanes).zip(along.chunks_exact(stride)) {
            four.copy_from_slice(&along[..lanes]);
        }
        for (c, products) in columns.clone().zip(products.chunks_exact_mut(lanes)) {
            let x = |i: usize| f64::from(rows[i * dim + c]) - mean[c];
            if n == 4 {
                add_four(products, [x(0), x(1), x(2), x(3)], &four);
            } else {
                for (i, four) in four.chunks_exact(lanes).take(n).enumerate() {
                    let x = x(i);
                    products.iter_mut().zip(four).for_each(|(product, along)| *product += x * along);
                }
            }
        }
    }
}

/// Computes out += x₀·a + x₁·b + x₂·c + x₃·d, term by term; `four` holds a, b, c and d in order.
#[inline(always)]
fn add_four(out: &mut [f64], x: [f64; 4], four: &[f64]) {
    let n = out.len();
    let (a, four) = four.split_at(n);
    let (b, four) = four.split_at(n);
    let (c, d) = four.split_at(n);
    for (i, out) in out.iter_mut().enumerate() {
        *out = (((*out + x[0] * a[i]) + x[1] * b[i]) + x[2] * c[i]) + x[3] * d[i];
    }
}
