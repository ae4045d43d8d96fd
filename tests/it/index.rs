//! The stored index is one that FAISS reads and searches.

use std::sync::Arc;

use lowland_datasets::{DatasetKind, Mixture};
use lowland_engine::{Config, Event, Metric, Stage, index};

use crate::harness::{StopWhen, TestTable, attempt, inputs_of, least, mixture, open_run, plan_of, quick, squared};

/// FAISS itself, on the stored index, finds what all pairs give.
fn check_index(table: &Arc<TestTable>, metric: Metric) {
    const K: usize = 10;
    let place = tempfile::tempdir().expect("a directory");
    let plan = plan_of(&Config { metric: Some(metric), n_neighbors: Some(K), ..quick() }, table);
    let dir = open_run(place.path(), &plan);
    let stop = StopWhen(|event: &Event<'_>| matches!(event, Event::Start { stage: Stage::Neighbors, .. }));
    attempt(&plan, &inputs_of(table), &dir, &stop).expect_err("stopped after the index");
    let (rows, dim, n) = (table.prepared(metric), table.dim, table.rows());
    let some: Vec<usize> = (0..n).step_by(n / 100).collect();
    let queries: Vec<f32> = some.iter().flat_map(|&row| &rows[row * dim..][..dim]).map(|&x| x as f32).collect();
    let (distances, ids) = index::faiss::search(&dir.path(index::INDEX), &queries, dim, K + 1, plan.index().lists)
        .expect("FAISS searches");
    for (i, &row) in some.iter().enumerate() {
        let (ids, distances) = (&ids[i * (K + 1)..][..K + 1], &distances[i * (K + 1)..][..K + 1]);
        assert!(ids.contains(&(row as i64)), "row {row} does not find itself: {ids:?}");
        let expected = least(&rows, dim, row, K);
        let found = ids.iter().zip(distances).filter(|&(&id, _)| id != row as i64);
        for ((&id, &far), &expected) in found.zip(&expected) {
            let here = squared(&rows, dim, row, id as usize);
            assert!((here - expected).abs() <= 1e-5 * expected + 1e-9, "row {row}: {id} at {here}, not {expected}");
            assert!((f64::from(far) - here).abs() <= 1e-4 * here + 1e-5, "row {row}: FAISS says {far}, it is {here}");
        }
    }
}

#[test]
fn faiss_finds_the_same_neighbours_in_the_stored_index() {
    check_index(&mixture(3_000, 12), Metric::Euclidean);
    check_index(&mixture(3_000, 12), Metric::Cosine);
    check_index(&TestTable::of(DatasetKind::Mixture(Mixture::default()), 66_000, 6, 2), Metric::Euclidean);
}
