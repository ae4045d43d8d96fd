//! The same quantities by their definitions, in f64 over all pairs of rows.

use std::path::Path;

use lowland_engine::affinity::{EdgeStore, calibrate};
use lowland_engine::neighbors::KnnGraph;
use lowland_engine::{Metric, Plan};
use lowland_io::EdgeBlock;

use super::TestTable;

/// The squared distance of rows `a` and `b` of `rows`, each of `dim` components.
pub(crate) fn squared(rows: &[f64], dim: usize, a: usize, b: usize) -> f64 {
    rows[a * dim..][..dim].iter().zip(&rows[b * dim..][..dim]).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// The metric's distance for a squared Euclidean distance of prepared rows.
pub(crate) fn metric_distance(metric: Metric, squared: f64) -> f64 {
    match metric {
        Metric::Euclidean => squared.sqrt(),
        Metric::Cosine => squared / 2.0,
        _ => squared,
    }
}

/// The `k` least squared distances of `row` to others, ascending.
pub(crate) fn least(rows: &[f64], dim: usize, row: usize, k: usize) -> Vec<f64> {
    let n = rows.len() / dim;
    let mut all: Vec<f64> = (0..n).filter(|&other| other != row).map(|other| squared(rows, dim, row, other)).collect();
    if all.len() > k {
        all.select_nth_unstable_by(k - 1, f64::total_cmp);
    }
    all.truncate(k);
    all.sort_unstable_by(f64::total_cmp);
    all
}

/// The position of `row` in a map of `width` components.
pub(crate) fn map_row(map: &[f32], width: usize, row: usize) -> Vec<f64> {
    map[row * width..][..width].iter().map(|&x| f64::from(x)).collect()
}

/// The `k` rows nearest to `row` in a map.
pub(crate) fn nearest_in_map(map: &[f32], width: usize, row: usize, k: usize) -> Vec<usize> {
    let own = map_row(map, width, row);
    let mut all: Vec<(f64, usize)> = (0..map.len() / width)
        .filter(|&other| other != row)
        .map(|other| (own.iter().zip(map_row(map, width, other)).map(|(a, b)| (a - b) * (a - b)).sum(), other))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(k).map(|(_, other)| other).collect()
}

/// Panics unless every coordinate is finite and less than `extent` from 0.
pub(crate) fn check_finite(map: &[f32], extent: f32) {
    let largest = map.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(map.iter().all(|x| x.is_finite()), "a coordinate is NaN or infinite");
    assert!(largest < extent, "the map reaches {largest}");
}

/// Trustworthiness by its definition, and the share of the k nearest kept, over all rows.
pub(crate) fn trust_and_preservation(table: &TestTable, map: &[f32], width: usize, k: usize) -> (f64, f64) {
    let (rows, dim, n) = (table.prepared(Metric::Euclidean), table.dim, table.rows());
    let (mut excess, mut kept) = (0usize, 0usize);
    for row in 0..n {
        let far: Vec<f64> = (0..n).map(|other| squared(&rows, dim, row, other)).collect();
        for other in nearest_in_map(map, width, row, k) {
            // Rank among the others: 1 + those that are strictly nearer.
            let rank = 1 + (0..n).filter(|&o| o != row && far[o] < far[other]).count();
            excess += rank.saturating_sub(k);
            kept += usize::from(rank <= k);
        }
    }
    let scale = 2.0 / (n as f64 * k as f64 * (2.0 * n as f64 - 3.0 * k as f64 - 1.0));
    (1.0 - scale * excess as f64, kept as f64 / (n * k) as f64)
}

/// Compares the edge store in `dir`, entry by entry, with a + b − ab of all pairs' directed weights.
pub(crate) fn check_edges(plan: &Plan, graph: &KnnGraph, mean_distance: f64, dir: &Path) {
    let (n, k) = (graph.rows(), graph.k());
    // umap-learn's mean counts each row's own 0.
    let mean = mean_distance * k as f64 / (k + 1) as f64;
    let mut directed = std::collections::BTreeMap::<(u32, u32), f64>::new();
    let mut weights = vec![0f32; k];
    for row in 0..n {
        let distances = graph.distances(row).expect("distances");
        calibrate::calibrate(distances, ((k + 1) as f64).log2(), mean, &mut weights);
        assert!(weights.iter().all(|w| (0.0..=1.0).contains(w)), "row {row}: {weights:?}");
        for (to, &weight) in graph.neighbors(row).zip(&weights) {
            assert!(directed.insert((row, to), f64::from(weight)).is_none(), "row {row} names {to} twice");
        }
    }
    let mut expected = std::collections::BTreeMap::<(u32, u32), f64>::new();
    for (&(from, to), &a) in &directed {
        let b = directed.get(&(to, from)).copied().unwrap_or(0.0);
        for pair in [(from, to), (to, from)] {
            expected.insert(pair, a + b - a * b);
        }
    }
    expected.retain(|_, w| *w as f32 > 0.0);

    let store = EdgeStore::open(dir, u64::from(n)).expect("an edge store");
    let mut expected = expected.into_iter();
    let mut next = 0;
    let mut block = EdgeBlock::default();
    for i in 0..store.count() {
        store.read_block(i, &mut block).expect("a block");
        assert_eq!(block.first_row, next, "block {i}");
        assert_eq!(block.offsets[0], 0);
        assert_eq!(*block.offsets.last().expect("offsets") as usize, block.neighbors.len());
        assert_eq!(block.neighbors.len(), block.weights.len());
        for (place, offsets) in block.offsets.windows(2).enumerate() {
            let row = block.first_row + place as u32;
            let range = offsets[0] as usize..offsets[1] as usize;
            assert!(block.neighbors[range.clone()].is_sorted_by(|a, b| a < b), "row {row}: neighbours out of order");
            for (&to, &weight) in block.neighbors[range.clone()].iter().zip(&block.weights[range]) {
                assert_ne!(to, row, "a row that is its own neighbour");
                let (pair, expected) = expected.next().expect("an edge too many");
                assert_eq!((row, to), pair);
                assert!((f64::from(weight) - expected).abs() <= 1e-7, "{pair:?}: {weight}, dense {expected}");
                assert!(weight > 0.0 && weight <= 1.0);
            }
        }
        next += block.offsets.len() as u32 - 1;
    }
    assert_eq!(next, n, "every row once");
    assert_eq!(expected.next(), None, "an edge too few");
    assert_eq!(u64::from(n), plan.shape().rows);
}
