//! Eigenpairs, orthonormal axes and the sign rule, shared by all PCA algorithms.

use nalgebra::DMatrix;

use super::PcaError;

/// Returns the inner product, computed in eight interleaved running sums that are added pairwise at the end.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
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

/// Returns the `n` leading eigenvalues of a positive semidefinite `matrix`, descending and none negative,
/// and their eigenvectors, row by row.
pub(super) fn eigen(matrix: DMatrix<f64>, n: usize) -> Result<(Vec<f64>, Vec<f64>), PcaError> {
    let (mut values, vectors) = spectrum(matrix, n)?;
    values.truncate(n);
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    Ok((values, vectors))
}

/// Returns all eigenvalues of a symmetric `matrix`, descending, and the eigenvectors of the `n` leading
/// ones, row by row.
pub(super) fn spectrum(matrix: DMatrix<f64>, n: usize) -> Result<(Vec<f64>, Vec<f64>), PcaError> {
    let order = matrix.nrows();
    // The iteration would not terminate on NaN.
    if matrix.iter().any(|x| !x.is_finite()) {
        return Err(PcaError::NotFinite);
    }
    // Usually the iteration takes two or three sweeps per eigenvalue.
    let limit = 1000 + 100 * order;
    let eigen = (matrix.try_symmetric_eigen(f64::EPSILON, limit)).ok_or(PcaError::NotConverged { order })?;
    let values = &eigen.eigenvalues;
    let mut by_size: Vec<usize> = (0..order).collect();
    // Stable: equal eigenvalues keep the order of the decomposition.
    by_size.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
    let sorted = by_size.iter().map(|&i| values[i]).collect();
    by_size.truncate(n);
    let mut vectors = Vec::with_capacity(by_size.len() * order);
    for &i in &by_size {
        vectors.extend(eigen.eigenvectors.column(i).iter());
    }
    Ok((sorted, vectors))
}

/// Flips `axis` so that its entry of largest absolute value, the first if several tie, is positive.
pub(super) fn fix_sign(axis: &mut [f64]) {
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

/// Removes from `vector` its projections onto the orthonormal rows `before`, and scales the rest to
/// length 1. Two passes are enough (Giraud et al. 2005).
pub(super) fn orthonormalize(before: &[f64], vector: &mut [f64]) {
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

/// Extends orthonormal rows to `n` rows, n ≤ dim. Each new row starts from the coordinate axis that the
/// existing rows cover least.
pub(super) fn complete(vectors: &mut Vec<f64>, n: usize, dim: usize) {
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
