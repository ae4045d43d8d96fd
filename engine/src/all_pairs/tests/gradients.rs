//! Compares every loss's gradient with central differences in f64, for every form of P.

use super::{given, noise};
use crate::all_pairs::loss::{
    CrossEntropy, ForceFactors, HyperbolicCauchy, Loss, MapAffinity, MapKernel, PreparedLoss, SquareLoss, Stress,
};
use crate::all_pairs::weights::{DenseWeights, SparseWeights, Weights};
use crate::all_pairs::{Cost, Costs, Entropic, Normalization, PhateAffinity, StreamedAffinity, SymmetricEntropic};
use crate::observe::Progress;
use crate::random::unit;

const STRENGTHS: ForceFactors = ForceFactors { attraction: 3.0, repulsion: 0.7 };

fn positions(n: usize, width: usize, scale: f64) -> Vec<f64> {
    (0..(n * width) as u64).map(|i| (f64::from(unit(1, 9, i)) - 0.5) * scale).collect()
}

/// Returns the largest difference between gradient and central differences, relative to the
/// gradient's largest entry.
fn error(objective: &mut dyn PreparedLoss, positions: &[f64], width: usize) -> f64 {
    let progress = Progress::silent();
    let mut gradient = vec![0.0; positions.len()];
    let mut value = |at: &[f64], gradient: &mut [f64]| {
        objective.evaluate(at, width, STRENGTHS, true, gradient, &progress).expect("a loss")
    };
    value(positions, &mut gradient);
    let largest = gradient.iter().fold(0.0f64, |most, g| most.max(g.abs()));
    assert!(largest > 1e-6, "there is nothing to check: {largest}");
    let (mut worst, mut spare) = (0.0f64, vec![0.0; positions.len()]);
    for c in (0..positions.len()).step_by(7) {
        let step = 1e-5;
        let mut moved = positions.to_vec();
        moved[c] += step;
        let up = value(&moved, &mut spare);
        moved[c] -= 2.0 * step;
        let down = value(&moved, &mut spare);
        worst = worst.max(((up - down) / (2.0 * step) - gradient[c]).abs() / largest);
    }
    worst
}

/// Returns P in every form: closed form symmetric and not, dense symmetric and not, sparse.
fn inputs<'a>(
    costs: &'a Costs<'a>,
    n: usize,
    affinities: &'a [Box<dyn StreamedAffinity>],
) -> Vec<(&'static str, Weights<'a>)> {
    let progress = Progress::silent();
    let mut all: Vec<(&str, Weights<'a>)> =
        affinities.iter().map(|a| (a.name(), a.solve(costs, &progress).expect("an affinity"))).collect();
    all.push(("dense", Weights::Dense(given(n, 3))));
    let mut values = given(n, 4).values().to_vec();
    values.iter_mut().enumerate().for_each(|(at, x)| *x *= 0.5 + (at % 5) as f32 * 0.2);
    all.push(("dense, directed", Weights::Dense(DenseWeights::new(values).expect("an affinity"))));
    let offsets = (0..=n).map(|i| 3 * i).collect();
    let columns = (0..n).flat_map(|i| [1, 5, 11].map(|step| ((i + step) % n) as u32)).collect();
    let values = (0..3 * n).map(|i| unit(6, 1, i as u64) / n as f32).collect();
    all.push(("sparse", Weights::Sparse(SparseWeights::new(offsets, columns, values).expect("an affinity"))));
    all
}

fn affinities() -> Vec<Box<dyn StreamedAffinity>> {
    vec![
        Box::new(Entropic { perplexity: 5.0, ..Entropic::default() }),
        Box::new(Entropic { perplexity: 5.0, sparse: false, ..Entropic::default() }),
        Box::new(SymmetricEntropic { perplexity: 5.0, max_iter: 50, ..SymmetricEntropic::default() }),
    ]
}

fn check(loss: &dyn Loss, scale: f64, tolerance: f64, kinds: &[&str]) {
    // None of these row counts is a multiple of sixteen.
    for (n, width) in [(37, 2), (21, 3), (50, 1)] {
        let rows = noise(n, 4, 0.0, 2);
        let costs = Costs::new(&rows, 4, Cost::Sqeuclidean);
        let affinities = affinities();
        for (name, weights) in inputs(&costs, n, &affinities) {
            if !kinds.is_empty() && !kinds.contains(&name) {
                continue;
            }
            let mut objective = loss.prepare(&weights, &rows, 4, &Progress::silent()).expect("prepared");
            let found = error(objective.as_mut(), &positions(n, width, scale), width);
            assert!(found < tolerance, "{}, {name}, {n} × {width}: {found:e}", loss.name());
        }
    }
}

const KERNELS: [MapKernel; 4] = [
    MapKernel::GAUSSIAN,
    MapKernel::STUDENT,
    MapKernel::Gaussian { sigma: 2.5 },
    MapKernel::Student { degrees_of_freedom: 3.0 },
];

#[test]
fn cross_entropy_falls_as_its_gradient_says() {
    for kernel in KERNELS {
        for normalization in [Normalization::Rows, Normalization::All, Normalization::None] {
            for count_itself in [true, false] {
                let map = MapAffinity::Normalized(kernel, normalization);
                check(&CrossEntropy { map, count_itself, single: false }, 3.0, 1e-7, &[]);
            }
        }
    }
}

#[test]
fn in_f32_the_gradient_is_that_of_f64() {
    let progress = Progress::silent();
    for map in [
        MapAffinity::Normalized(MapKernel::GAUSSIAN, Normalization::Rows),
        MapAffinity::Normalized(MapKernel::STUDENT, Normalization::All),
        MapAffinity::Sinkhorn(MapKernel::STUDENT),
    ] {
        let (n, width) = (400, 2);
        let rows = noise(n, 4, 0.0, 2);
        let costs = Costs::new(&rows, 4, Cost::Sqeuclidean);
        let affinities = affinities();
        for (name, weights) in inputs(&costs, n, &affinities) {
            for scale in [1e-4, 1.0, 50.0] {
                let at = positions(n, width, scale);
                let gradients = [true, false].map(|single| {
                    let loss = CrossEntropy { map, count_itself: true, single };
                    let mut objective = loss.prepare(&weights, &rows, 4, &progress).expect("prepared");
                    let mut gradient = vec![0.0; n * width];
                    objective.evaluate(&at, width, STRENGTHS, false, &mut gradient, &progress).expect("a gradient");
                    gradient
                });
                let largest = gradients[1].iter().fold(0.0f64, |most, g| most.max(g.abs()));
                let worst = gradients[0].iter().zip(&gradients[1]).fold(0.0f64, |w, (a, b)| w.max((a - b).abs()));
                assert!(worst < 2e-6 * largest, "{map:?}, {name}, {scale}: {:e}", worst / largest);
            }
        }
    }
}

#[test]
fn with_sinkhorns_dual_converged_the_gap_falls_as_its_gradient_says() {
    // Exact if the rows of P sum to 1/n, by the envelope theorem.
    let progress = Progress::silent();
    let (n, width) = (37, 2);
    let rows = noise(n, 4, 0.0, 2);
    let costs = Costs::new(&rows, 4, Cost::Sqeuclidean);
    let affinity = Entropic { perplexity: 5.0, ..Entropic::default() };
    let weights = affinity.solve(&costs, &progress).expect("an affinity");
    for kernel in [MapKernel::STUDENT, MapKernel::GAUSSIAN] {
        let loss = CrossEntropy { map: MapAffinity::Sinkhorn(kernel), count_itself: false, single: false };
        let mut objective = loss.prepare(&weights, &rows, 4, &progress).expect("prepared");
        let ones = ForceFactors { attraction: 1.0, repulsion: 1.0 };
        // Repeated at every position until f has converged.
        let mut value = |at: &[f64], gradient: &mut [f64]| {
            let mut once = || objective.evaluate(at, width, ones, true, gradient, &progress).expect("a loss");
            (0..30).map(|_| once()).last().expect("a loss")
        };
        let at = positions(n, width, 1.5);
        let mut gradient = vec![0.0; n * width];
        value(&at, &mut gradient);
        let largest = gradient.iter().fold(0.0f64, |most, g| most.max(g.abs()));
        let mut spare = gradient.clone();
        for c in (0..at.len()).step_by(7) {
            let mut moved = at.clone();
            moved[c] += 1e-4;
            let up = value(&moved, &mut spare);
            moved[c] -= 2e-4;
            let down = value(&moved, &mut spare);
            let error = ((up - down) / 2e-4 - gradient[c]).abs() / largest;
            assert!(error < 1e-4, "{kernel:?}, {c}: {error:e}");
        }
    }
}

#[test]
fn the_square_loss_falls_as_its_gradient_says() {
    for kernel in KERNELS {
        for normalization in [Normalization::Rows, Normalization::All, Normalization::None] {
            for count_itself in [true, false] {
                let map = MapAffinity::Normalized(kernel, normalization);
                check(&SquareLoss { map, count_itself }, 3.0, 1e-7, &[]);
            }
        }
    }
}

#[test]
fn the_hyperbolic_loss_falls_as_its_gradient_says() {
    for (gamma, h) in [(2.0, 1.0), (1.0, 0.01), (0.5, 0.0)] {
        // None of the three components exceeds 0.35, so all points lie in the ball.
        for scale in [0.02, 0.7] {
            check(&HyperbolicCauchy { gamma, h }, scale, 1e-6, &[]);
        }
    }
}

#[test]
fn the_stress_falls_as_its_gradient_says() {
    let (n, rows) = (45, noise(45, 5, 0.0, 2));
    let costs = Costs::new(&rows, 5, Cost::Euclidean);
    let affinity = PhateAffinity::default();
    let weights = affinity.solve(&costs, &Progress::silent()).expect("an affinity");
    for width in [1, 2, 3] {
        let mut objective = Stress.prepare(&weights, &rows, 5, &Progress::silent()).expect("prepared");
        let found = error(objective.as_mut(), &positions(n, width, 10.0), width);
        assert!(found < 1e-7, "{width}: {found:e}");
    }
    // Also for a P that is not symmetric.
    check(&Stress, 3.0, 1e-6, &["dense, directed"]);
}
