//! Compares all PCA algorithms with each other and with a plain two-pass covariance.

use nalgebra::DMatrix;
use proptest::prelude::*;

use super::axes::{dot, fix_sign};
use super::blockwise::block_rows;
use super::products::{PANEL, accumulate, accumulate_by};
use super::*;

/// Returns reproducible values in [−0.5, 0.5) from a linear congruential generator.
pub(super) fn noise(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2) + 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

/// Returns `n` rows on a `rank`-dimensional plane through `offset`·(1, 1, …).
pub(super) fn plane(seed: u64, n: usize, dim: usize, rank: usize, offset: f32) -> Vec<f32> {
    let basis = noise(seed + 1, rank * dim);
    noise(seed, n * rank)
        .chunks(rank)
        .flat_map(|weights| {
            let basis = &basis;
            (0..dim)
                .map(move |c| offset + (0..rank).map(|r| weights[r] * basis[r * dim + c] * (1 + r) as f32).sum::<f32>())
        })
        .collect()
}

/// Returns the mean and the covariance, by two plain passes without shift or tiles.
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

pub(super) fn exact(rows: &[f32], dim: usize, n_components: usize) -> Pca {
    let mut covariance = Covariance::new(dim);
    covariance.add(rows);
    covariance.finish(n_components).unwrap()
}

pub(super) fn blockwise(rows: &[f32], dim: usize, rank: usize) -> Pca {
    let mut pca = BlockwisePca::new(dim, rank);
    pca.add(rows);
    pca.finish().unwrap()
}

/// Runs the randomised solver with batches of `cut` rows; returns the axes and the residual.
pub(super) fn randomized(rows: &[f32], dim: usize, n_components: usize, cut: usize) -> (Pca, f64) {
    let mut pca = RandomizedPca::new(dim, n_components, 42).unwrap();
    while pca.needs_pass() {
        rows.chunks(cut * dim).for_each(|batch| pca.add(batch).unwrap());
        pca.end_pass().unwrap();
    }
    let residual = pca.residual();
    (pca.finish().unwrap(), residual)
}

/// Returns every number of a result as bits.
pub(super) fn bits(pca: &Pca) -> Vec<u64> {
    [&pca.mean, &pca.components, &pca.variance, &vec![pca.total_variance]]
        .into_iter()
        .flatten()
        .map(|x| x.to_bits())
        .collect()
}

pub(super) fn assert_orthonormal(pca: &Pca) {
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

pub(super) fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= tolerance, "[{i}] {a} against {b}");
    }
}

/// Splits `rows` into pieces whose lengths follow `cuts` cyclically.
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
            // V diag(variance) Vᵀ restores the covariance.
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
            let (passes, residual) = randomized(&rows, dim, 5, 300);
            let randomized = (bits(&passes), residual.to_bits());
            (bits(&pca), bits(&blockwise(&rows, dim, 5)), randomized, scores)
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
        let mut running = BlockwisePca::new(dim, rank);
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
            bits(&blockwise(&rows, dim, rank))
        );
        let passes = randomized(&rows, dim, rank, cuts[0]);
        let whole = randomized(&rows, dim, rank, n);
        prop_assert_eq!((bits(&passes.0), passes.1.to_bits()), (bits(&whole.0), whole.1.to_bits()));
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
    for pca in [exact(&rows, dim, dim), blockwise(&rows, dim, dim), randomized(&rows, dim, dim, n).0] {
        let mut scores = vec![0.0; n * dim];
        pca.project(&rows, &mut scores);
        for (row, scores) in rows.chunks(dim).zip(scores.chunks(dim)) {
            for c in 0..dim {
                let along: f64 =
                    (pca.components.chunks(dim).zip(scores)).map(|(axis, &score)| axis[c] * f64::from(score)).sum();
                assert!((pca.mean[c] + along - f64::from(row[c])).abs() < 1e-5);
            }
        }
        // The scores' variance is the reported variance.
        for (k, v) in pca.variance.iter().enumerate() {
            let squares: f64 = (scores.iter().skip(k).step_by(dim)).map(|&s| f64::from(s).powi(2)).sum();
            assert!((squares / (n as f64 - 1.0) - v).abs() <= 1e-6 * pca.variance[0]);
        }
    }
}

#[test]
fn the_largest_entry_of_every_axis_is_positive() {
    let rows = noise(9, 500 * 11);
    for pca in [exact(&rows, 11, 11), blockwise(&rows, 11, 11), randomized(&rows, 11, 11, 500).0] {
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
        for pca in [exact(rows, dim, dim), blockwise(rows, dim, dim), randomized(rows, dim, dim, 7).0] {
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
fn invalid_pca_input_is_refused() {
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
    assert_eq!(BlockwisePca::new(3, 4).finish(), Err(too_many));
    assert_eq!(BlockwisePca::new(3, 2).finish(), Err(PcaError::NoRows));
    for bad in [f32::NAN, f32::INFINITY] {
        let rows = [0.0, 1.0, 2.0, bad, 4.0, 5.0, 6.0, 7.0, 8.0];
        let mut covariance = Covariance::new(3);
        covariance.add(&rows);
        assert_eq!(covariance.finish(2), Err(PcaError::NotFinite));
        let mut running = BlockwisePca::new(3, 2);
        running.add(&rows);
        assert_eq!(running.finish(), Err(PcaError::NotFinite));
        let mut running = BlockwisePca::new(3, 2);
        running.add(&rows.repeat(block_rows(2)));
        assert_eq!(running.count(), 3 * block_rows(2) as u64);
        assert_eq!(running.finish(), Err(PcaError::NotFinite));
    }
}

#[test]
fn blockwise_is_exact_on_data_of_low_rank() {
    for (n, dim, rank, offset) in [(2000, 300, 4, 0.0), (777, 64, 2, 50.0), (100, 500, 3, 1.0)] {
        let rows = plane(7, n, dim, rank, offset);
        let (exact, running) = (exact(&rows, dim, rank), blockwise(&rows, dim, rank));
        assert_orthonormal(&running);
        assert_close(&running.mean, &exact.mean, 1e-9);
        assert_close(&running.components, &exact.components, 1e-6);
        assert_close(&running.variance, &exact.variance, 1e-6 * exact.variance[0]);
        assert!((running.total_variance / exact.total_variance - 1.0).abs() < 1e-9);
    }
}

#[test]
fn bytes_grow_as_documented() {
    assert!((384 * 384 * 16..384 * 384 * 17).contains(&Covariance::bytes(384)));
    let (narrow, wide) = (BlockwisePca::bytes(10_000, 2), BlockwisePca::bytes(100_000, 2));
    assert!(wide > 8 * narrow && wide < 10 * narrow);
    assert!(wide < Covariance::bytes(100_000) / 100);
}
