//! The similarity (rotation or reflection, one scale, shift) that brings one map nearest to another: Umeyama, 1991,
//! "Least-squares estimation of transformation parameters between two point patterns".
//!
//! What must hold: sums run over the rows in order and in double precision, so that the result does not depend on
//! threads.

use nalgebra::DMatrix;

/// A map of positions to positions: scale · rotation · x + shift.
#[derive(Debug, Clone, PartialEq)]
pub struct Similarity {
    /// Rotation or reflection, components × components, row after row.
    pub rotation: Vec<f64>,
    /// The scale.
    pub scale: f64,
    /// The shift.
    pub shift: Vec<f64>,
    /// Whether the rotation has a reflection.
    pub reflects: bool,
}

/// Sums over pairs of positions from which a [`Similarity`] follows.
#[derive(Debug, Clone)]
pub struct PairSums {
    dim: usize,
    count: u64,
    from: Vec<f64>,
    to: Vec<f64>,
    /// Σ (to − origin)(from − origin)ᵀ.
    products: Vec<f64>,
    square: f64,
    /// The first pair, which is subtracted from all others so that a map far from 0 loses no digits.
    origin: Option<(Vec<f64>, Vec<f64>)>,
}

impl PairSums {
    /// Begins sums for positions of `dim` components.
    pub fn new(dim: usize) -> Self {
        let zeros = vec![0.0; dim];
        let products = vec![0.0; dim * dim];
        PairSums { dim, count: 0, from: zeros.clone(), to: zeros, products, square: 0.0, origin: None }
    }

    /// Adds a row's position `from`, which is to be moved, and its position `to`.
    pub fn add(&mut self, from: &[f32], to: &[f32]) {
        let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (from_origin, to_origin) = self.origin.get_or_insert_with(|| (wide(from), wide(to)));
        self.count += 1;
        for i in 0..self.dim {
            let x = f64::from(from[i]) - from_origin[i];
            let y = f64::from(to[i]) - to_origin[i];
            self.from[i] += x;
            self.to[i] += y;
            self.square += x * x;
            for j in 0..self.dim {
                self.products[i * self.dim + j] += y * (f64::from(from[j]) - from_origin[j]);
            }
        }
    }

    /// Returns the number of pairs.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the similarity with the least sum of squares of what is left; the identity if there are fewer than two
    /// different rows.
    pub fn similarity(&self) -> Similarity {
        let dim = self.dim;
        let identity = || {
            let rotation = (0..dim * dim).map(|at| f64::from(u8::from(at % (dim + 1) == 0))).collect();
            Similarity { rotation, scale: 1.0, shift: vec![0.0; dim], reflects: false }
        };
        let Some((from_origin, to_origin)) = &self.origin else { return identity() };
        let n = self.count as f64;
        let (from, to): (Vec<f64>, Vec<f64>) =
            (self.from.iter().map(|x| x / n).collect(), self.to.iter().map(|x| x / n).collect());
        let variance = self.square / n - from.iter().map(|x| x * x).sum::<f64>();
        if variance <= 0.0 {
            return identity();
        }
        let covariance = DMatrix::from_fn(dim, dim, |i, j| self.products[i * dim + j] / n - to[i] * from[j]);
        let svd = covariance.svd(true, true);
        let (Some(u), Some(v)) = (svd.u, svd.v_t) else { return identity() };
        // A mirror image is allowed, unlike in the paper: neighbours do not change by it.
        let rotation = &u * &v;
        let reflects = rotation.determinant() < 0.0;
        let scale = svd.singular_values.sum() / variance;
        let shift = (0..dim)
            .map(|i| {
                let turned: f64 = (0..dim).map(|j| rotation[(i, j)] * (from[j] + from_origin[j])).sum();
                to[i] + to_origin[i] - scale * turned
            })
            .collect();
        let rotation = (0..dim * dim).map(|at| rotation[(at / dim, at % dim)]).collect();
        Similarity { rotation, scale, shift, reflects }
    }
}

impl Similarity {
    /// Moves a position.
    pub fn apply(&self, position: &mut [f32]) {
        let dim = position.len();
        let from: Vec<f64> = position.iter().map(|&x| f64::from(x)).collect();
        for (i, out) in position.iter_mut().enumerate() {
            let turned: f64 = (0..dim).map(|j| self.rotation[i * dim + j] * from[j]).sum();
            *out = (self.scale * turned + self.shift[i]) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(dim: usize) -> Vec<Vec<f32>> {
        (0..50).map(|i| (0..dim).map(|d| ((i * 37 + d * 101) as f32 * 0.7).sin() * 5.0 + 100.0).collect()).collect()
    }

    #[test]
    fn a_similarity_is_found_again() {
        for (dim, mirrored) in [(1, false), (1, true), (2, false), (2, true), (3, false), (3, true)] {
            let mut rotation: Vec<f64> = (0..dim * dim).map(|at| f64::from(u8::from(at % (dim + 1) == 0))).collect();
            if dim > 1 {
                let (sin, cos) = 0.7f64.sin_cos();
                (rotation[0], rotation[1], rotation[dim], rotation[dim + 1]) = (cos, -sin, sin, cos);
            }
            if mirrored {
                rotation[..dim].iter_mut().for_each(|x| *x = -*x);
            }
            let wanted = Similarity { rotation, scale: 2.5, shift: vec![-30.0; dim], reflects: mirrored };
            let mut sums = PairSums::new(dim);
            for row in rows(dim) {
                let mut to = row.clone();
                wanted.apply(&mut to);
                sums.add(&row, &to);
            }
            let found = sums.similarity();
            assert_eq!(found.reflects, mirrored, "{dim} components");
            for row in rows(dim) {
                let (mut a, mut b) = (row.clone(), row);
                wanted.apply(&mut a);
                found.apply(&mut b);
                assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3), "{dim}: {a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn too_few_rows_do_not_move() {
        let mut sums = PairSums::new(2);
        let mut position = [3.0, 4.0];
        sums.similarity().apply(&mut position);
        sums.add(&[1.0, 2.0], &[5.0, 6.0]);
        sums.similarity().apply(&mut position);
        assert_eq!(position, [3.0, 4.0]);
    }
}
