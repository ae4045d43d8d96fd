//! Tests of affinities from TorchDR's conformance table: marginals, entropy, symmetry.

use super::{dense, iris, moons, noise};
use crate::all_pairs::{
    BaseKernel, Cost, Costs, DoublyStochasticQuadratic, DualSolver, Entropic, Magic, Normalization, NormalizedGaussian,
    NormalizedStudent, PhateAffinity, SelfTuning, Sinkhorn, StreamedAffinity, SymmetricEntropic, UmapAffinity, Weights,
};
use crate::observe::Progress;

fn rows_of(p: &[f64]) -> impl Iterator<Item = &[f64]> {
    p.chunks_exact(p.len().isqrt())
}

/// Returns the largest |n Σ_j P_ij − 1|.
fn marginal_error(p: &[f64]) -> f64 {
    let n = p.len().isqrt() as f64;
    rows_of(p).map(|row| (n * row.iter().sum::<f64>() - 1.0).abs()).fold(0.0, f64::max)
}

/// Returns the largest difference of a row's entropy −Σ p (ln p − 1), p scaled by n, from
/// ln(perplexity) + 1.
fn entropy_error(p: &[f64], perplexity: f64) -> f64 {
    let n = p.len().isqrt() as f64;
    let entropy =
        |row: &[f64]| -row.iter().map(|p| p * n).filter(|&p| p > 0.0).map(|p| p * (p.ln() - 1.0)).sum::<f64>();
    rows_of(p).map(|row| (entropy(row) - perplexity.ln() - 1.0).abs()).fold(0.0, f64::max)
}

fn assert_symmetric(p: &[f64]) {
    let n = p.len().isqrt();
    for i in 0..n {
        for j in 0..i {
            assert_eq!(p[i * n + j].to_bits(), p[j * n + i].to_bits(), "{i} {j}");
        }
    }
}

fn assert_nonnegative(p: &[f64]) {
    assert!(p.iter().all(|&p| p >= 0.0 && p.is_finite()));
}

#[test]
fn entropic_rows_have_their_sum_and_entropy() {
    let (rows, _) = moons(300, 0.05);
    for cost in [Cost::Sqeuclidean, Cost::Euclidean, Cost::Manhattan, Cost::Angular] {
        for sparse in [true, false] {
            let affinity = Entropic { sparse, ..Entropic::default() };
            let p = dense(&affinity, &rows, 2, cost).expect("an affinity");
            assert_nonnegative(&p);
            let (sum, entropy) = (marginal_error(&p), entropy_error(&p, 30.0));
            assert!(sum < 1e-6, "{cost:?} {sparse}: {sum:e}");
            assert!(entropy < 2e-6, "{cost:?} {sparse}: {entropy:e}");
            for (i, row) in rows_of(&p).enumerate() {
                assert_eq!(row[i], 0.0);
                assert!(!sparse || row.iter().filter(|&&p| p > 0.0).count() == 90);
            }
        }
    }
}

#[test]
fn the_sparse_entropic_affinity_holds_the_nearest() {
    let (rows, _) = moons(100, 0.05);
    let affinity = Entropic { perplexity: 6.0, ..Entropic::default() };
    let full = dense(&Entropic { sparse: false, ..affinity.clone() }, &rows, 2, Cost::Sqeuclidean).expect("full");
    let kept = dense(&affinity, &rows, 2, Cost::Sqeuclidean).expect("kept");
    for (kept, full) in rows_of(&kept).zip(rows_of(&full)) {
        // In every row, a nearer row has a larger weight.
        let out = full.iter().zip(kept).filter(|(_, k)| **k == 0.0).map(|(f, _)| *f).fold(0.0, f64::max);
        let least = full.iter().zip(kept).filter(|(_, k)| **k > 0.0).map(|(f, _)| *f).fold(f64::INFINITY, f64::min);
        assert!(out <= least, "{out} {least}");
    }
}

#[test]
fn entropic_rows_of_odd_data_are_calibrated_too() {
    // Data far from 0, and data on very different scales.
    let far: Vec<f32> = noise(120, 3, 0.0, 4).iter().map(|x| x * 0.01 + 100.0).collect();
    let scales: Vec<f32> = noise(120, 3, 0.0, 5)
        .chunks(3)
        .enumerate()
        .flat_map(|(i, r)| r.iter().map(move |x| x * 10f32.powi(i as i32 % 7 - 3)).collect::<Vec<_>>())
        .collect();
    for rows in [far, scales] {
        for sparse in [true, false] {
            let affinity = Entropic { perplexity: 8.0, sparse, ..Entropic::default() };
            let p = dense(&affinity, &rows, 3, Cost::Sqeuclidean).expect("an affinity");
            assert!(
                marginal_error(&p) < 1e-5 && entropy_error(&p, 8.0) < 1e-5,
                "{} {}",
                marginal_error(&p),
                entropy_error(&p, 8.0)
            );
        }
    }
    // All rows at the same distance: the entropy cannot be lowered, and nothing may become NaN.
    let simplex: Vec<f32> = (0..20 * 20).map(|at| f32::from(u8::from(at % 21 == 0))).collect();
    for sparse in [true, false] {
        let affinity = Entropic { perplexity: 4.0, sparse, ..Entropic::default() };
        let p = dense(&affinity, &simplex, 20, Cost::Sqeuclidean).expect("an affinity");
        assert_nonnegative(&p);
        assert!(marginal_error(&p) < 1e-6);
    }
}

#[test]
fn symmetric_entropic_rows_have_their_sum_and_entropy_and_symmetry() {
    let (rows, _) = moons(300, 0.05);
    for solver in [DualSolver::Adam, DualSolver::Lbfgs] {
        for eps_square in [true, false] {
            let affinity = SymmetricEntropic {
                solver,
                lr: if solver == DualSolver::Adam { 0.1 } else { 1.0 },
                eps_square,
                tol: 1e-5,
                max_iter: 3000,
                ..SymmetricEntropic::default()
            };
            let p = dense(&affinity, &rows, 2, Cost::Sqeuclidean).expect("an affinity");
            assert_symmetric(&p);
            let (sum, entropy) = (marginal_error(&p), entropy_error(&p, 30.0));
            // Adam with this learning rate still oscillates after 3,000 iterations.
            let limit = if solver == DualSolver::Adam { 5e-3 } else { 2e-5 };
            assert!(sum < limit && entropy < limit, "{solver:?} {eps_square}: {sum:e} {entropy:e}");
        }
    }
}

#[test]
fn sinkhorn_is_doubly_stochastic_and_symmetric() {
    let (rows, _) = moons(300, 0.05);
    for base_kernel in [BaseKernel::Gaussian, BaseKernel::Student] {
        for (eps, zero_diag) in [(1.0, true), (1.0, false), (0.05, true)] {
            let affinity = Sinkhorn { eps, base_kernel, zero_diag, ..Sinkhorn::default() };
            let p = dense(&affinity, &rows, 2, Cost::Sqeuclidean).expect("an affinity");
            assert_symmetric(&p);
            assert!(marginal_error(&p) < 1e-5, "{base_kernel:?} {eps}: {:e}", marginal_error(&p));
            assert_eq!(p[0] == 0.0, zero_diag);
        }
    }
}

#[test]
fn the_quadratic_affinity_is_doubly_stochastic_symmetric_and_sparse() {
    let (rows, _) = moons(300, 0.05);
    let p = dense(&DoublyStochasticQuadratic::default(), &rows, 2, Cost::Sqeuclidean).expect("an affinity");
    assert_symmetric(&p);
    assert_nonnegative(&p);
    assert!(marginal_error(&p) < 1e-3, "{:e}", marginal_error(&p));
    assert!(p.iter().filter(|&&p| p == 0.0).count() > p.len() / 2);
}

#[test]
fn normalized_kernels_sum_to_what_is_asked() {
    let (rows, _) = moons(50, 0.05);
    let gaussian = |normalization| NormalizedGaussian { sigma: 0.3, normalization, zero_diag: true };
    let student = |normalization| NormalizedStudent { degrees_of_freedom: 2.5, normalization, zero_diag: true };
    let both = |n| [Box::new(gaussian(n)) as Box<dyn StreamedAffinity>, Box::new(student(n))];
    for cost in [Cost::Sqeuclidean, Cost::Euclidean] {
        for affinity in both(Normalization::Rows) {
            let p = dense(affinity.as_ref(), &rows, 2, cost).expect("an affinity");
            assert_nonnegative(&p);
            assert!(marginal_error(&p) < 1e-5);
        }
        for affinity in both(Normalization::All) {
            let p = dense(affinity.as_ref(), &rows, 2, cost).expect("an affinity");
            assert_symmetric(&p);
            assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-5);
        }
        let plain = both(Normalization::None).map(|a| dense(a.as_ref(), &rows, 2, cost).expect("an affinity"));
        let square: f64 = rows[..2].iter().zip(&rows[2..4]).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let c = if cost == Cost::Euclidean { square.sqrt() } else { square };
        assert!((plain[0][1] - (-c / 0.3).exp()).abs() < 1e-6);
        assert!((plain[1][1] - (1.0 + c / 2.5).powf(-1.75)).abs() < 1e-6);
    }
}

#[test]
fn self_tuning_and_magic_have_their_sums() {
    let (rows, _) = moons(10, 0.05);
    let p = dense(&SelfTuning::default(), &rows, 2, Cost::Sqeuclidean).expect("an affinity");
    assert_nonnegative(&p);
    assert_symmetric(&p);
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-5);
    // Rows of both affinities sum to 1, not to 1/n.
    let rows_sum = SelfTuning { normalization: Normalization::Rows, ..SelfTuning::default() };
    for affinity in [Box::new(rows_sum) as Box<dyn StreamedAffinity>, Box::new(Magic::default())] {
        let p = dense(affinity.as_ref(), &rows, 2, Cost::Sqeuclidean).expect("an affinity");
        assert_nonnegative(&p);
        assert!(rows_of(&p).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-5));
    }
}

#[test]
fn umap_rows_sum_to_the_logarithm_before_they_are_united() {
    let (rows, _) = moons(300, 0.05);
    let directed = UmapAffinity { symmetrize: false, ..UmapAffinity::default() };
    let a = dense(&directed, &rows, 2, Cost::Sqeuclidean).expect("an affinity");
    for row in rows_of(&a) {
        assert!((row.iter().sum::<f64>() - 30f64.log2()).abs() < 1e-5);
        assert!(row.iter().any(|&a| (a - 1.0).abs() < 1e-6), "the nearest weighs 1");
    }
    let p = dense(&UmapAffinity::default(), &rows, 2, Cost::Sqeuclidean).expect("an affinity");
    assert_symmetric(&p);
    for i in 0..300 {
        for j in 0..300 {
            let (x, y) = (a[i * 300 + j], a[j * 300 + i]);
            assert!((p[i * 300 + j] - (x + y - x * y)).abs() < 1e-6);
        }
    }
}

#[test]
fn phate_is_symmetric_and_finite() {
    let (rows, _) = moons(50, 0.05);
    let p = dense(&PhateAffinity { k: 5, alpha: 2.0, t: 3 }, &rows, 2, Cost::Euclidean).expect("an affinity");
    assert_symmetric(&p);
    assert!(p.iter().all(|&p| p <= 0.0 && p.is_finite()));
    let rows = noise(128, 64, 1.0, 4);
    let p = dense(&PhateAffinity { t: 30, ..PhateAffinity::default() }, &rows, 64, Cost::Euclidean).expect("finite");
    assert!(p.iter().all(|p| p.is_finite()));
}

#[test]
fn cached_rows_equal_computed_rows() {
    let (rows, _) = iris();
    let costs = Costs::new(&rows, 4, Cost::Sqeuclidean);
    let progress = Progress::silent();
    for affinity in [
        Box::new(Entropic { sparse: false, ..Entropic::default() }) as Box<dyn StreamedAffinity>,
        Box::new(Sinkhorn::default()),
        Box::new(Magic { k: 40, ..Magic::default() }),
    ] {
        let truth = affinity.solve(&costs, &progress).expect("an affinity").to_dense(&progress).expect("numbers");
        for hold in [0, 1, 4 * 150 * 9, 8 * 150 * 77, 1 << 30] {
            let mut weights = affinity.solve(&costs, &progress).expect("an affinity");
            let Weights::Tiled(tiled) = &mut weights else { panic!("{} is no closed form", affinity.name()) };
            tiled.hold(hold, &progress).expect("held");
            assert_eq!(weights.to_dense(&progress).expect("numbers"), truth, "{}, {hold} bytes", affinity.name());
        }
    }
}

#[test]
fn options_that_do_not_fit_are_refused_by_name() {
    let rows = noise(20, 3, 0.0, 1);
    let refused = |affinity: &dyn StreamedAffinity, cost: Cost| {
        let error = dense(affinity, &rows, 3, cost).expect_err("it does not fit");
        error.to_string()
    };
    for (affinity, cost, field) in [
        (
            Box::new(Entropic { perplexity: 20.0, ..Entropic::default() }) as Box<dyn StreamedAffinity>,
            Cost::Sqeuclidean,
            "perplexity",
        ),
        (Box::new(Entropic { perplexity: 1.0, ..Entropic::default() }), Cost::Sqeuclidean, "perplexity"),
        (Box::new(Entropic { perplexity: f64::NAN, ..Entropic::default() }), Cost::Sqeuclidean, "perplexity"),
        (Box::new(SymmetricEntropic::default()), Cost::Sqeuclidean, "perplexity"),
        (Box::new(Sinkhorn { eps: 0.0, ..Sinkhorn::default() }), Cost::Sqeuclidean, "eps"),
        (Box::new(NormalizedGaussian { sigma: -1.0, ..NormalizedGaussian::default() }), Cost::Sqeuclidean, "sigma"),
        (Box::new(NormalizedStudent::default()), Cost::Angular, "metric"),
        (Box::new(SelfTuning { k: 20, ..SelfTuning::default() }), Cost::Sqeuclidean, "k"),
        (Box::new(Magic { k: 0, ..Magic::default() }), Cost::Sqeuclidean, "k"),
        (Box::new(Magic::default()), Cost::Angular, "metric"),
        (Box::new(UmapAffinity::default()), Cost::Sqeuclidean, "n_neighbors"),
        (Box::new(PhateAffinity { k: 1, ..PhateAffinity::default() }), Cost::Euclidean, "k"),
    ] {
        let told = refused(affinity.as_ref(), cost);
        assert!(told.starts_with(&format!("{field}:")), "{told}");
    }
    let told = PhateAffinity::default().check(30_000).expect_err("too many").to_string();
    assert!(told.contains("20000") && told.contains("stream") && told.contains("GiB"), "{told}");
    // Rows that are too far for ε cause an error, not NaN.
    let far = [0.0f32, 1e6, -1e9, 3e7];
    let outcome = dense(&Sinkhorn { eps: 1e-6, ..Sinkhorn::default() }, &far, 1, Cost::Sqeuclidean);
    assert!(outcome.is_err() || outcome.is_ok_and(|p| p.iter().all(|p| p.is_finite())));
    // Duplicates leave no bandwidth above 0.
    let told = dense(&Magic::default(), &[1.0; 60], 3, Cost::Sqeuclidean).expect_err("no scale").to_string();
    assert!(told.contains("row 0") && told.contains("copies"), "{told}");
}
