//! The kNN graph: the exact one is that of all pairs, a probed one has the recall that it reports, an imported one
//! is cleaned and used.

use std::sync::Arc;

use lowland_datasets::{DatasetKind, Generator, Mixture};
use lowland_engine::evaluate::mean_and_interval;
use lowland_engine::neighbors::{KnnGraph, MISSING};
use lowland_engine::{Config, Error, Init, Inputs, Metric, Report};

use crate::harness::{
    Lcg, MemoryGraph, TestTable, check_edges, check_finite, graph_of, least, metric_distance, mixture, plan_of, quick,
    run, run_with, shifted, squared, trust_and_preservation,
};

/// Compares every row's neighbours with those of all pairs in f64.
fn check_graph(name: &str, table: &Arc<TestTable>, metric: Metric, k: usize) -> Report {
    let config = Config { metric: Some(metric), n_neighbors: Some(k), n_components: Some(1), ..quick() };
    let plan = plan_of(&config, table);
    assert!(plan.index().exact);
    let (ids, distances, report, _place) = graph_of(&plan, table);
    let (rows, dim) = (table.prepared(metric), table.dim);
    // f32 sums of `dim` squares, and for the cosine rows that were rounded when scaled.
    let close = |a: f64, b: f64| match metric {
        Metric::Cosine => (a - b).abs() <= 1e-6 * b + 2e-7 * b.sqrt() + 1e-13,
        Metric::Euclidean => (a - b).abs() <= 2e-6 * b,
        _ => (a - b).abs() <= 4e-6 * b,
    };
    let (mut wrong, mut shown) = (0, String::new());
    for row in 0..table.rows() {
        let (ids, distances) = (&ids[row * k..][..k], &distances[row * k..][..k]);
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), k, "{name}: row {row} names one twice: {ids:?}");
        assert!(!ids.contains(&(row as u32)), "{name}: row {row} is its own neighbour");
        assert!(distances.is_sorted(), "{name}: row {row}: {distances:?}");
        let expected = least(&rows, dim, row, k);
        for ((&id, &distance), &expected) in ids.iter().zip(distances).zip(&expected) {
            let here = metric_distance(metric, squared(&rows, dim, row, id as usize));
            let expected = metric_distance(metric, expected);
            assert!(close(f64::from(distance), here), "{name}: row {row} to {id}: {distance}, in f64 {here}");
            if !close(here, expected) {
                wrong += 1;
                shown = format!("row {row}: {id} at {here}, where another is at {expected}");
            }
        }
    }
    assert_eq!(wrong, 0, "{name}: {wrong} of {} neighbours are not the nearest: {shown}", ids.len());
    report
}

#[test]
fn an_exact_graph_is_that_of_all_pairs() {
    for metric in [Metric::Euclidean, Metric::Sqeuclidean, Metric::Cosine] {
        let report = check_graph("mixture", &mixture(2_500, 16), metric, 15);
        assert_eq!(report.neighbors.map(|n| n.recall), Some(1.0));
        check_graph("uniform", &TestTable::of(DatasetKind::Uniform, 1_500, 3, 1), metric, 10);
        check_graph("all are neighbours", &mixture(16, 4), metric, 15);
        check_graph("three rows", &mixture(3, 2), metric, 2);
        check_graph("wide", &mixture(300, 700), metric, 5);
    }
    check_graph("one dimension", &TestTable::of(DatasetKind::Uniform, 2_000, 1, 1), Metric::Euclidean, 15);
}

#[test]
fn an_exact_graph_is_right_far_from_the_origin() {
    let table = mixture(2_500, 8);
    for offset in [1e4, -1e6] {
        check_graph("offset", &shifted(&table, offset), Metric::Euclidean, 15);
    }
}

#[test]
fn an_exact_graph_is_right_for_groups_far_from_each_other() {
    for (blobs, dim) in [(2, 2), (5, 4), (40, 8)] {
        check_graph("blobs", &TestTable::of(DatasetKind::BlobsFar { blobs }, 2_500, dim, 3), Metric::Euclidean, 15);
    }
    // One row a million away.
    let mut values = mixture(1_500, 4).values.clone();
    values[0] = 1e6;
    check_graph("an outlier", &TestTable::new(4, values), Metric::Euclidean, 10);
}

#[test]
fn an_exact_graph_is_right_for_copies() {
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let kind = DatasetKind::Duplicates { mixture: Mixture { components: 30, ..Mixture::default() }, share: 0.5 };
        let table = TestTable::of(kind, 2_000, 8, 5);
        let report = check_graph("half are copies", &table, metric, 15);
        let generator = Generator::new(kind, 2_000, 8, 5).expect("a generator");
        let mut times = vec![0u64; 2_000];
        (0..2_000).for_each(|row| times[generator.origin(row) as usize] += 1);
        let copies: u64 = times.into_iter().filter(|&t| t > 1).sum();
        assert_eq!(report.neighbors.map(|n| n.rows_with_copies), Some(copies), "rows with a copy");

        // More copies of one row than it has neighbours, than the slack, and than a panel.
        for copies in [16, 40, 600] {
            let mut values = mixture(1_000, 4).values.clone();
            let one = values[..4].to_vec();
            values[..copies * 4].chunks_exact_mut(4).for_each(|row| row.copy_from_slice(&one));
            check_graph("one row many times", &TestTable::new(4, values), metric, 15);
        }
    }
}

/// Recall of a graph on `some` rows: a row as near as the farthest true one counts.
fn recall_on(rows: &[f64], dim: usize, ids: &[u32], k: usize, some: impl Iterator<Item = usize>) -> (f64, f64) {
    let recalls: Vec<f64> = some
        .map(|row| {
            let farthest = least(rows, dim, row, k)[k - 1] * (1.0 + 1e-6);
            let ids = &ids[row * k..][..k];
            let found = ids.iter().filter(|&&id| id != MISSING && squared(rows, dim, row, id as usize) <= farthest);
            found.count() as f64 / k as f64
        })
        .collect();
    mean_and_interval(&recalls)
}

/// Compares a probed graph and its reported recall with all pairs, for every `step`th row.
fn check_lists(name: &str, table: &Arc<TestTable>, k: usize, step: usize) {
    let config = Config { n_neighbors: Some(k), ..quick() };
    let plan = plan_of(&config, table);
    assert!(!plan.index().exact);
    let (ids, distances, report, _place) = graph_of(&plan, table);
    let found = report.neighbors.expect("figures");
    let (rows, dim, n) = (table.prepared(Metric::Euclidean), table.dim, table.rows());
    let (recall, interval) = recall_on(&rows, dim, &ids, k, (0..n).step_by(step));
    let told = format!("{name}: reported {} ± {}, found {recall} ± {interval}", found.recall, found.recall_interval);
    // Of two estimates on different rows.
    let allowed = found.recall_interval.hypot(interval);
    assert!((found.recall - recall).abs() <= allowed, "{told}");
    // The sample decided how many lists are visited: its error is in what other rows get.
    assert!(recall >= config.recall - allowed && found.recall >= config.recall - found.recall_interval, "{told}");
    for (row, (ids, distances)) in ids.chunks_exact(k).zip(distances.chunks_exact(k)).enumerate() {
        let mut distinct = ids.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), k, "{name}: row {row} names one twice: {ids:?}");
        assert!(distances.is_sorted() && !ids.contains(&MISSING) && !ids.contains(&(row as u32)), "{name}: row {row}");
        for (&id, &distance) in ids.iter().zip(distances) {
            let here = squared(&rows, dim, row, id as usize).sqrt();
            assert!((f64::from(distance) - here).abs() <= 2e-6 * here, "{name}: row {row} to {id}: {distance}, {here}");
        }
    }
}

#[test]
fn a_probed_graph_has_the_recall_that_it_reports() {
    check_lists("mixture", &TestTable::of(DatasetKind::Mixture(Mixture::default()), 70_000, 8, 11), 15, 10);
    check_lists("uniform", &TestTable::of(DatasetKind::Uniform, 70_000, 8, 11), 5, 10);
}

#[test]
fn a_probed_graph_of_awkward_data_has_the_recall_that_it_reports() {
    check_lists("blobs", &TestTable::of(DatasetKind::BlobsFar { blobs: 5 }, 66_000, 4, 3), 15, 35);
    check_lists("offset", &shifted(&TestTable::of(DatasetKind::Uniform, 66_000, 3, 2), 1e3), 5, 35);
    // A list of many more rows than the others, all of them equal.
    let mut values = TestTable::of(DatasetKind::Mixture(Mixture::default()), 66_000, 4, 1).values.clone();
    let one = values[..4].to_vec();
    values[40_000..120_000].chunks_exact_mut(4).for_each(|row| row.copy_from_slice(&one));
    check_lists("one row 20,000 times", &TestTable::new(4, values), 5, 35);
}

#[test]
fn an_imported_graph_loses_repeats_holes_and_the_row_itself() {
    const ROWS: usize = 500;
    const K: usize = 8;
    let mut draws = Lcg(3);
    let (mut ids, mut distances) = (Vec::new(), Vec::new());
    for row in 0..ROWS {
        for _ in 0..K {
            // Unordered, with repeats, holes and the row itself.
            let id = match draws.below(6) {
                0 => MISSING,
                1 => row as u32,
                2 => (row as u32 + 1) % ROWS as u32,
                _ => draws.below(ROWS) as u32,
            };
            ids.push(id);
            distances.push(draws.below(1000) as f32 / 100.0);
        }
    }
    let graph = MemoryGraph { k: K, ids, distances };
    let run = run_with(&quick(), &Inputs { source: None, graph: Some(&graph), first: None });
    let stored = KnnGraph::open(run.dir.dir(), ROWS as u64).expect("a graph");
    assert_eq!((stored.k(), stored.rows()), (K, ROWS as u32));
    for row in 0..ROWS {
        let mut expected = std::collections::BTreeMap::new();
        for (&id, &distance) in graph.ids[row * K..][..K].iter().zip(&graph.distances[row * K..][..K]) {
            if id != MISSING && id != row as u32 {
                let least = expected.entry(id).or_insert(distance);
                *least = least.min(distance);
            }
        }
        let mut expected: Vec<(f32, u32)> = expected.into_iter().map(|(id, d)| (d, id)).collect();
        expected.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let far = stored.distances(row as u32).expect("distances");
        let mut found: Vec<(f32, u32)> = far.iter().copied().zip(stored.neighbors(row as u32)).collect();
        // Between equally near neighbours a hash of the seed decides.
        assert!(found.is_sorted_by(|a, b| a.0 <= b.0), "row {row}: {found:?}");
        found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        assert_eq!(found, expected, "row {row}");
        assert!(far[found.len()..].iter().all(|d| d.is_infinite()));
    }
    check_edges(&run.plan, &stored, run.report.neighbors.expect("figures").mean_distance, run.dir.dir());
    check_finite(&run.map, 200.0);
}

#[test]
fn a_graph_without_vectors_gives_a_map_that_keeps_neighbours() {
    let table = mixture(2_000, 8);
    let (ids, distances, ..) = graph_of(&plan_of(&quick(), &table), &table);
    let graph = MemoryGraph { k: 15, ids, distances };
    let inputs = Inputs { source: None, graph: Some(&graph), first: None };
    let refused = Config { init: Some(Init::Pca), ..quick() }.plan(&inputs.describe().expect("inputs"));
    assert!(matches!(refused, Err(Error::Config { field: "init", .. })), "{refused:?}");
    for init in [Init::Centroid, Init::Random] {
        let run = run_with(
            &Config { n_epochs: None, init: Some(init.clone()), ..quick() },
            &Inputs { source: None, graph: Some(&graph), first: None },
        );
        check_finite(&run.map, 200.0);
        let scored = trust_and_preservation(&table, &run.map, 2, 15);
        let quality = run.report.quality.expect("scores");
        assert!(quality.trustworthiness.is_none());
        assert!((quality.preservation.mean - scored.1).abs() < 1e-3, "{init:?}: {quality:?} {scored:?}");
        assert!(scored.0 > 0.85, "{init:?}: {scored:?}");
    }
}

#[test]
fn an_imported_graph_gives_the_map_of_the_same_graph_computed() {
    let table = mixture(2_000, 8);
    let (ids, distances, ..) = graph_of(&plan_of(&quick(), &table), &table);
    let graph = MemoryGraph { k: 15, ids, distances };
    let with = run_with(&quick(), &Inputs { source: Some(table.clone()), graph: Some(&graph), first: None });
    let own = run(&quick(), &table);
    assert!(with.map == own.map);
    assert_eq!(
        with.report.neighbors.map(|n| (n.recall, n.mean_distance)),
        own.report.neighbors.map(|n| (n.recall, n.mean_distance))
    );
}
