//! TorchDR's own tests that need no other program (IncrementalPCA, ExactIncrementalPCA, PCA, KernelPCA):
//! data of the same shapes, and the same or tighter tolerances. The tests that compare with scikit-learn
//! are in `tests/it/pca.rs`.

use nalgebra::DMatrix;

use super::tests::{assert_close, assert_orthonormal, bits, blockwise, exact, noise, plane, randomized};
use super::*;

/// Returns `n` × `dim` approximately normal numbers: sums of twelve uniform ones.
fn normal(seed: u64, n: usize, dim: usize) -> Vec<f32> {
    noise(seed, 12 * n * dim).chunks_exact(12).map(|draws| draws.iter().sum()).collect()
}

fn all_axes(rows: &[f32], dim: usize, batch_rows: usize) -> Pca {
    IncrementalPca::fit(rows, dim, None, Some(batch_rows)).unwrap()
}

/// With all components kept, the running SVD is exact for any batches.
#[test]
fn incremental_signs_and_values_are_stable_over_batch_sizes() {
    let rows = normal(1, 100, 3);
    let reference = exact(&rows, 3, 3);
    for batch_rows in 10..40 {
        let found = all_axes(&rows, 3, batch_rows);
        assert_orthonormal(&found);
        assert_close(&found.components, &reference.components, 1e-9);
        assert_close(&found.variance, &reference.variance, 1e-9);
        assert_close(&found.mean, &reference.mean, 1e-9);
        assert!((found.total_variance - reference.total_variance).abs() < 1e-9);
    }
}

/// Ten of a hundred points are far away in one direction: a new point there projects onto the first axis.
#[test]
fn incremental_projection() {
    let mut rows: Vec<f32> = normal(2, 100, 3).iter().map(|x| 0.1 * x).collect();
    let far = |row: &mut [f32]| row.iter_mut().zip([3.0, 4.0, 5.0]).for_each(|(x, by)| *x += by);
    rows.chunks_exact_mut(3).take(10).for_each(far);
    let mut another: Vec<f32> = normal(3, 1, 3).iter().map(|x| 0.1 * x).collect();
    far(&mut another);
    let scores = IncrementalPca::fit(&rows, 3, Some(2), None).unwrap().transform(&another).unwrap();
    let length = scores.iter().map(|s| s * s).sum::<f32>().sqrt();
    assert!((scores[0].abs() / length - 1.0).abs() < 0.01, "{scores:?}");
}

#[test]
fn incremental_fit_is_partial_fits() {
    let mut rows = normal(4, 50, 3);
    for row in rows.chunks_exact_mut(3) {
        row[1] *= 1e-5;
        row.iter_mut().zip([5.0, 4.0, 3.0]).for_each(|(x, mean)| *x += mean);
    }
    let mut parts = IncrementalPca::new(Some(2));
    rows.chunks(10 * 3).for_each(|batch| parts.partial_fit(batch, 3).unwrap());
    let whole = IncrementalPca::fit(&rows, 3, Some(2), Some(10)).unwrap();
    assert_eq!(bits(&whole), bits(&parts.pca().unwrap()));
    // The data are almost a plane, so the axes are also near the exact ones.
    assert_close(&whole.components, &exact(&rows, 3, 2).components, 1e-6);
}

#[test]
fn any_batch_after_the_first_will_do() {
    let (n, dim) = (203, 40);
    let rows = plane(5, n, dim, 4, 3.0);
    let reference = exact(&rows, dim, 4);
    // Batches of 50, 50, 50, 50 and 3 rows, the last with fewer rows than components; then single rows.
    let mut pca = IncrementalPca::new(Some(4));
    for batch in rows.chunks(50 * dim) {
        pca.partial_fit(batch, dim).unwrap();
    }
    let mut singly = IncrementalPca::new(Some(4));
    let (first, others) = rows.split_at(4 * dim);
    singly.partial_fit(first, dim).unwrap();
    others.chunks(dim).for_each(|row| singly.partial_fit(row, dim).unwrap());
    singly.partial_fit(&[], dim).unwrap();
    for found in [pca, singly] {
        assert_eq!(found.count(), n as u64);
        let found = found.pca().unwrap();
        assert_close(&found.components, &reference.components, 1e-6);
        assert_close(&found.variance, &reference.variance, 1e-6 * reference.variance[0]);
    }
}

#[test]
fn both_sides_of_a_merge_agree() {
    // 30 stacked rows for 40 components, and 70 for the same.
    let rows = plane(6, 280, 40, 5, 1.0);
    let [few, many] = [28, 68].map(|batch| IncrementalPca::fit(&rows, 40, Some(5), Some(batch)).unwrap());
    assert_close(&few.components, &many.components, 1e-6);
    assert_close(&few.variance, &many.variance, 1e-6 * few.variance[0]);
}

#[test]
fn incremental_validation() {
    let rows = normal(7, 2, 3);
    let fit = |n_components, rows: &[f32]| IncrementalPca::fit(rows, 3, n_components, Some(10));
    assert_eq!(fit(Some(4), &rows).unwrap_err(), PcaError::TooManyComponents { asked: 4, dim: 3 });
    assert_eq!(fit(Some(3), &rows).unwrap_err(), PcaError::TooFewRows { asked: 3, rows: 2 });
    assert_eq!(fit(None, &[]).unwrap_err(), PcaError::NoRows);
    assert_eq!(fit(None, &rows[..4]).unwrap_err(), PcaError::NotWhole { len: 4, dim: 3 });
    for (n, dim) in [(50, 10), (10, 50)] {
        let mut pca = IncrementalPca::new(None);
        pca.partial_fit(&normal(8, n, dim), dim).unwrap();
        let before = pca.pca().unwrap();
        assert_eq!(before.n_components(), 10);
        // A refused batch changes nothing.
        let wider = pca.partial_fit(&normal(9, 5, dim + 1), dim + 1);
        assert_eq!(wider, Err(PcaError::Width { expected: dim, found: dim + 1 }));
        let mut spoilt = normal(9, 5, dim);
        spoilt[2 * dim + 3] = f32::INFINITY;
        let refused = pca.partial_fit(&spoilt, dim).unwrap_err();
        assert_eq!(refused, PcaError::NotFiniteAt { row: n as u64 + 2, component: 3, value: f32::INFINITY });
        assert_eq!(refused.to_string(), format!("row {}, component 3 is inf; drop or fill such rows first", n + 2));
        assert_eq!(bits(&before), bits(&pca.pca().unwrap()));
    }
}

/// The randomised solver, which corresponds to TorchDR's low-rank mode, finds the exact axes.
#[test]
fn randomized_is_exact() {
    for (n, dim, rank, tolerance) in
        [(150, 4, 2, 1e-12), (150, 4, 4, 1e-12), (400, 30, 3, 1e-9), (60, 300, 5, 1e-6), (2, 7, 2, 1e-12)]
    {
        let rows = normal(10, n, dim);
        // Standard deviations 1, 1/2, 1/3, …
        let rows: Vec<f32> = rows.iter().enumerate().map(|(i, x)| x / (1 + i % dim) as f32 + 5.0).collect();
        let reference = exact(&rows, dim, rank);
        let (found, residual) = randomized(&rows, dim, rank, 33);
        assert!(residual < 1e-5, "{n} × {dim}: {residual:e}");
        assert_orthonormal(&found);
        let real = reference.variance.iter().filter(|&&v| v > 1e-9).count();
        assert_close(&found.components[..real * dim], &reference.components[..real * dim], tolerance);
        assert_close(&found.variance, &reference.variance, tolerance * reference.variance[0]);
        assert_close(&found.mean, &reference.mean, 1e-9);
        assert!((found.total_variance / reference.total_variance - 1.0).abs() < 1e-9);
    }
}

#[test]
fn randomized_tells_how_far_off_it_is() {
    // A flat spectrum, whose axes cannot be found in few passes.
    let rows = normal(11, 600, 500);
    let (found, residual) = randomized(&rows, 500, 3, 600);
    let reference = exact(&rows, 500, 3);
    assert!(residual > 1e-4 && residual < 0.1, "{residual:e}");
    for (found, exact) in found.variance.iter().zip(&reference.variance) {
        assert!((found / exact - 1.0).abs() <= residual, "{found} for {exact}, residual {residual:e}");
    }
    // All passes must see the same rows.
    let mut pca = RandomizedPca::new(500, 3, 1).unwrap();
    pca.add(&rows).unwrap();
    pca.end_pass().unwrap();
    pca.add(&rows[500..]).unwrap();
    assert_eq!(pca.end_pass(), Err(PcaError::Passes { expected: 600, found: 599 }));
    assert_eq!(RandomizedPca::new(3, 4, 0).unwrap_err(), PcaError::TooManyComponents { asked: 4, dim: 3 });
    assert_eq!(RandomizedPca::new(3, 1, 0).unwrap().end_pass(), Err(PcaError::NoRows));
}

fn two_passes(rows: &[f32], dim: usize, n_components: usize, cut: usize) -> Result<Pca, PcaError> {
    let mut pca = ExactIncrementalPca::new(dim);
    rows.chunks(cut * dim).try_for_each(|batch| pca.partial_mean(batch))?;
    rows.chunks(cut * dim).try_for_each(|batch| pca.partial_fit(batch))?;
    pca.finish(n_components)
}

#[test]
fn two_passes_are_exact_and_leave_no_trace_of_batches() {
    let rows: Vec<f32> = normal(12, 150, 4).iter().map(|x| x + 6.0).collect();
    let single = two_passes(&rows, 4, 4, 150).unwrap();
    for cut in [1, 7, 50] {
        assert_eq!(bits(&two_passes(&rows, 4, 4, cut).unwrap()), bits(&single));
    }
    let reference = exact(&rows, 4, 4);
    assert_close(&single.components, &reference.components, 1e-10);
    assert_close(&single.variance, &reference.variance, 1e-12);
    // Three of four components restore most of the rows, all four restore the rows.
    let error = |pca: &Pca| {
        let back = pca.inverse_transform(&pca.transform(&rows).unwrap()).unwrap();
        let squares = rows.iter().zip(&back).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
        squares / (150.0 * reference.total_variance)
    };
    assert!(error(&two_passes(&rows, 4, 3, 9).unwrap()) < 0.26);
    assert!(error(&single) < 1e-12);
}

/// If the first row is far from all others, one pass loses precision that two passes keep.
#[test]
fn two_passes_survive_a_first_row_far_away() {
    let mut rows = normal(13, 2001, 3);
    // Differences of components, to which the outlier along (1, 1, 1) does not contribute.
    let others: Vec<f32> = rows[3..].chunks(3).flat_map(|x| [(x[0] - x[1]), (x[1] - x[2])]).collect();
    rows[..3].fill(3e6);
    let expected = exact(&others, 2, 2).total_variance;
    // Variances of x₀ − x₁ and x₁ − x₂, from the remaining axes.
    let across = |pca: &Pca| {
        let axes = pca.components.chunks(3).zip(&pca.variance).skip(1);
        axes.map(|(v, variance)| variance * ((v[0] - v[1]).powi(2) + (v[1] - v[2]).powi(2))).sum::<f64>()
    };
    let [once, twice] = [exact(&rows, 3, 3), two_passes(&rows, 3, 3, 100).unwrap()].map(|pca| across(&pca) / expected);
    assert!((once - 1.0).abs() > 1e-3, "one pass: {once}, so this tells nothing");
    assert!((twice - 1.0).abs() < 1e-3, "two passes: {twice}, one {once}");
}

#[test]
fn two_passes_in_the_wrong_order_are_refused() {
    let rows = normal(14, 10, 3);
    let mut pca = ExactIncrementalPca::new(3);
    assert_eq!(pca.partial_fit(&rows), Err(PcaError::MeanFirst));
    assert_eq!(pca.mean(), Err(PcaError::NoRows));
    pca.partial_mean(&rows).unwrap();
    pca.partial_fit(&rows[3..]).unwrap();
    assert_eq!(pca.partial_mean(&rows), Err(PcaError::MeanFirst));
    assert_eq!(pca.finish(2), Err(PcaError::Passes { expected: 10, found: 9 }));
    assert_eq!(ExactIncrementalPca::new(3).finish(2), Err(PcaError::MeanFirst));
    assert_eq!(two_passes(&rows, 3, 4, 3), Err(PcaError::TooManyComponents { asked: 4, dim: 3 }));
    assert_eq!(two_passes(&rows[..6], 3, 3, 3), Err(PcaError::TooFewRows { asked: 3, rows: 2 }));
    assert!(matches!(two_passes(&[f32::NAN; 3], 3, 1, 1), Err(PcaError::NotFiniteAt { row: 0, component: 0, .. })));
}

/// The iris rows of the conformance table: incremental, two passes and low rank, compared with the exact axes.
#[test]
fn iris_is_reconstructed() {
    let numbers = |line: &str| line.split(',').take(4).map(|x| x.parse::<f32>().unwrap()).collect::<Vec<_>>();
    let rows: Vec<f32> = include_str!("../all_pairs/tests/iris.csv").lines().flat_map(numbers).collect();
    let reference = exact(&rows, 4, 4);
    let back = |pca: &Pca| pca.inverse_transform(&pca.transform(&rows).unwrap()).unwrap();
    let error = |pca: &Pca| {
        let squares = rows.iter().zip(&back(pca)).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
        squares / (149.0 * reference.total_variance)
    };
    // Three of four components hold all but half a percent.
    assert!(error(&two_passes(&rows, 4, 3, 50).unwrap()) < 0.006);
    for pca in [two_passes(&rows, 4, 4, 50).unwrap(), all_axes(&rows, 4, 50), Pca::fit(&rows, 4, 4).unwrap()] {
        assert!(error(&pca) < 1e-10);
        assert_close(&pca.variance, &reference.variance, 1e-9);
    }
    let two = exact(&rows, 4, 2);
    for pca in [two_passes(&rows, 4, 2, 50).unwrap(), randomized(&rows, 4, 2, 50).0] {
        assert_close(&pca.components, &two.components, 1e-7);
        let apart = back(&pca).iter().zip(&back(&two)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-5, "{apart}");
    }
}

#[test]
fn one_sign_rule_for_all() {
    let rows = plane(15, 300, 20, 6, 2.0);
    let reference = exact(&rows, 20, 3);
    let kernel = KernelPca::fit(Kernel::Linear, &rows, 20, Some(3)).unwrap();
    for found in [
        Pca::fit(&rows, 20, 3).unwrap(),
        blockwise(&rows, 20, 3),
        IncrementalPca::fit(&rows, 20, Some(6), None).unwrap(),
        two_passes(&rows, 20, 3, 64).unwrap(),
        randomized(&rows, 20, 3, 64).0,
    ] {
        assert_close(&found.components[..3 * 20], &reference.components, 1e-6);
    }
    // The scores of the linear kernel equal those of linear PCA up to the sign, which the kernel fixes by
    // rows rather than components.
    let (plain, kernel) = (reference.transform(&rows).unwrap(), kernel.scores());
    for axis in 0..3 {
        let of = |scores: &[f32]| scores.iter().skip(axis).step_by(3).map(|&s| f64::from(s)).collect::<Vec<_>>();
        let (mut a, mut b) = (of(&plain), of(&kernel));
        axes::fix_sign(&mut a);
        axes::fix_sign(&mut b);
        assert_eq!(of(&kernel), b, "the largest score is positive");
        assert_close(&a, &b, 1e-5);
    }
}

#[test]
fn whitened_scores_have_variance_one() {
    let rows = plane(16, 500, 10, 3, 4.0);
    let pca = Pca::fit(&rows, 10, 3).unwrap();
    let scores = pca.whitened().unwrap().transform(&rows).unwrap();
    for axis in 0..3 {
        let squares: f64 = scores.iter().skip(axis).step_by(3).map(|&s| f64::from(s).powi(2)).sum();
        assert!((squares / 499.0 - 1.0).abs() < 1e-5, "{squares}");
    }
    let refused = Pca::fit(&rows, 10, 4).unwrap().whitened();
    assert_eq!(refused, Err(PcaError::NoVariance { usable: 3 }));
    assert!(pca.explained_variance_ratio().iter().sum::<f64>() > 1.0 - 1e-6);
    assert_eq!(Pca::fit(&[1.0; 6], 2, 1).unwrap().explained_variance_ratio(), [0.0]);
    assert_eq!(Pca::fit(&rows[..20], 10, 3), Err(PcaError::TooFewRows { asked: 3, rows: 2 }));
    assert_eq!(pca.transform(&rows[..9]), Err(PcaError::NotWhole { len: 9, dim: 10 }));
    assert_eq!(pca.inverse_transform(&scores[..4]), Err(PcaError::NotWhole { len: 4, dim: 3 }));
}

#[test]
fn centring_a_kernel_is_hkh() {
    let (n, rows) = (20, normal(17, 20, 30));
    let k = DMatrix::from_fn(n, n, |i, j| (0..30).map(|c| f64::from(rows[i * 30 + c] * rows[j * 30 + c])).sum::<f64>());
    let h = DMatrix::identity(n, n) - DMatrix::from_element(n, n, 1.0 / n as f64);
    let mut centered = k.as_slice().to_vec();
    center_kernel(&mut centered);
    assert_close(&centered, (&h * &k * &h).as_slice(), 1e-12);
    assert_eq!(center_kernel(&mut []), (Vec::new(), 0.0));
}

#[test]
fn kernel_components_of_rows_fitted_are_those_transformed() {
    let (rows, dim) = (normal(18, 40, 5), 5);
    let polynomial = Kernel::Polynomial { degree: 2, gamma: 0.5, coef0: 1.0 };
    for kernel in [Kernel::Linear, Kernel::Gaussian { sigma: 2.0 }, polynomial, Kernel::Cosine] {
        let pca = KernelPca::fit(kernel, &rows, dim, Some(3)).unwrap();
        let (scores, again) = (pca.scores(), pca.transform(&rows).unwrap());
        for (a, b) in scores.iter().zip(&again) {
            assert!((a - b).abs() < 1e-5, "{kernel:?}: {a} and {b}");
        }
        // As many components as positive eigenvalues: the centred kernel has at least one eigenvalue 0.
        let all = KernelPca::fit(kernel, &rows, dim, None).unwrap();
        assert!(all.n_components() < 40 && all.eigenvalues().iter().all(|&v| v > 0.0), "{kernel:?}");
        assert_eq!(all.eigenvalues()[..3], *pca.eigenvalues());
    }
    assert_eq!(KernelPca::fit(Kernel::Linear, &rows, dim, None).unwrap().n_components(), dim);
    // Scores of further components are 0.
    let more = KernelPca::fit(Kernel::Linear, &rows, dim, Some(7)).unwrap();
    assert!(more.scores().chunks_exact(7).all(|scores| scores[5..] == [0.0; 2]));
    assert!(more.transform(&rows).unwrap().chunks_exact(7).all(|scores| scores[5..] == [0.0; 2]));
}

#[test]
fn a_precomputed_kernel_is_the_kernel() {
    let (rows, dim) = (normal(19, 12, 3), 3);
    let gaussian = |x: &[f32], y: &[f32]| (-x.iter().zip(y).map(|(x, y)| (x - y).powi(2)).sum::<f32>() / 2.0).exp();
    let matrix: Vec<f32> =
        rows.chunks(dim).flat_map(|x| rows.chunks(dim).map(move |y| gaussian(x, y)).collect::<Vec<_>>()).collect();
    let given = KernelPca::fit(Kernel::Precomputed, &matrix, 12, Some(2)).unwrap();
    let computed = KernelPca::fit(Kernel::Gaussian { sigma: 2.0 }, &rows, dim, Some(2)).unwrap();
    for (a, b) in given.scores().iter().zip(computed.scores()) {
        assert!((a - b).abs() < 1e-5);
    }
    for (a, b) in given.transform(&matrix[..24]).unwrap().iter().zip(computed.scores()) {
        assert!((a - b).abs() < 1e-5);
    }
}

#[test]
fn invalid_kernels_are_refused() {
    let rows = normal(20, 4, 3);
    let fit = |kernel, rows: &[f32], dim, n| KernelPca::fit(kernel, rows, dim, n).unwrap_err();
    assert_eq!(fit(Kernel::Linear, &rows, 3, Some(5)), PcaError::TooFewRows { asked: 5, rows: 4 });
    assert_eq!(fit(Kernel::Linear, &[], 3, None), PcaError::NoRows);
    assert_eq!(fit(Kernel::Linear, &rows, 5, None), PcaError::NotWhole { len: 12, dim: 5 });
    assert_eq!(fit(Kernel::Precomputed, &rows, 3, None), PcaError::Width { expected: 4, found: 3 });
    assert_eq!(fit(Kernel::Gaussian { sigma: 0.0 }, &rows, 3, None), PcaError::NotFinite);
    let many = fit(Kernel::Linear, &vec![0.0; 9000], 1, None);
    assert_eq!(many, PcaError::TooManyRows { rows: 9000, most: 8192 });
    assert!(many.to_string().contains("streamed at any size"), "{many}");
    // A matrix of distances is not a kernel.
    let distances = [0.0, 1.0, 4.0, 1.0, 0.0, 1.0, 4.0, 1.0, 0.0];
    assert!(matches!(fit(Kernel::Precomputed, &distances, 3, None), PcaError::NotPositive { .. }));
    // Equal rows have no variance.
    let equal = KernelPca::fit(Kernel::Gaussian { sigma: 1.0 }, &[2.0; 12], 3, Some(2)).unwrap();
    assert_eq!(equal.scores(), [0.0; 8]);
}
