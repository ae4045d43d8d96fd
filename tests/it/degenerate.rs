//! Data with hardly any structure, rows or neighbours give a finite map, or a refusal that says why.

use std::sync::Arc;

use lowland_datasets::{DatasetKind, Generator};
use lowland_engine::neighbors::MISSING;
use lowland_engine::{Config, Error, Init, Inputs, Metric};
use lowland_io::Source;

use crate::harness::{
    MemoryGraph, TestDir, TestTable, attempt, check_finite, first_positions, graph_of, inputs_of, mixture,
    nearest_in_map, open_run, plan_of, quick, run, run_with, write_npy,
};

#[test]
fn a_handful_of_rows_gives_a_finite_map_with_scores() {
    for (rows, k) in [(3, 2), (4, 3), (5, 2), (5, 4), (17, 15), (33, 2)] {
        for init in [Init::Centroid, Init::Pca, Init::Random] {
            let table = mixture(rows, 3);
            let run = run(&Config { n_neighbors: Some(k), init: Some(init), n_epochs: None, ..quick() }, &table);
            check_finite(&run.map, 200.0);
            let quality = run.report.quality.expect("scores");
            let trust = quality.trustworthiness.expect("there are vectors").mean;
            assert!((0.0..=1.0).contains(&trust), "{rows} rows: trustworthiness {trust}");
            assert!((0.0..=1.0).contains(&quality.preservation.mean), "{rows} rows: {quality:?}");
            assert!(run.report.neighbors.is_some_and(|n| n.recall == 1.0));
        }
    }
}

#[test]
fn two_rows_with_a_given_graph_get_different_positions() {
    let graph = MemoryGraph { k: 1, ids: vec![1, 0], distances: vec![1.0, 1.0] };
    let table = TestTable::new(2, vec![0.0, 0.0, 1.0, 0.0]);
    for source in [None, Some(table as Arc<dyn Source>)] {
        let run = run_with(&quick(), &Inputs { source, graph: Some(&graph), first: None });
        check_finite(&run.map, 200.0);
        assert_ne!(run.map[..2], run.map[2..]);
        let quality = run.report.quality.expect("scores");
        for score in quality.trustworthiness.iter().chain([&quality.preservation]).chain(&quality.triplets) {
            assert!(score.mean.is_finite() && score.interval.is_finite(), "{quality:?}");
        }
    }
}

#[test]
fn rows_that_are_all_equal_are_refused() {
    for (metric, values) in
        [(Metric::Euclidean, vec![1.5; 300]), (Metric::Cosine, vec![1.5; 300]), (Metric::Euclidean, vec![0.0; 300])]
    {
        let table = TestTable::new(3, values);
        let plan = plan_of(&Config { metric: Some(metric), ..quick() }, &table);
        let place = tempfile::tempdir().expect("a directory");
        let refused = attempt(&plan, &inputs_of(&table), &open_run(place.path(), &plan), &()).expect_err("refused");
        assert!(matches!(refused, Error::Data { .. }) && refused.to_string().contains("equal"), "{refused}");
    }
}

#[test]
fn nearly_constant_data_give_a_map_or_a_refusal() {
    let named = |name: &'static str, dim: usize, values: Vec<f32>| (name, TestTable::new(dim, values));
    let mut one_differs = vec![1.0; 900];
    one_differs[0] = 2.0;
    let two_places = (0..900).map(|i| if i / 3 % 2 == 0 { 0.0 } else { 5.0 }).collect();
    let on_a_line = (0..900).map(|i| (i / 3) as f32).collect();
    let parallel = (0..900).map(|i| (1 + i / 3) as f32 * [0.3, 0.5, 0.7][i % 3]).collect();
    let mut some_zero = mixture(300, 3).values.clone();
    some_zero[..150].fill(0.0);
    for (name, table) in [
        named("one row differs", 3, one_differs),
        named("two places", 3, two_places),
        named("a line", 3, on_a_line),
        named("one direction", 3, parallel),
        named("rows of zeros", 3, some_zero),
    ] {
        for metric in [Metric::Euclidean, Metric::Cosine] {
            for init in [Init::Centroid, Init::Pca] {
                let config = Config { metric: Some(metric), init: Some(init), ..quick() };
                let plan = plan_of(&config, &table);
                let place = tempfile::tempdir().expect("a directory");
                match attempt(&plan, &inputs_of(&table), &open_run(place.path(), &plan), &()) {
                    Ok((report, map)) => {
                        check_finite(&map, 200.0);
                        let quality = report.quality.expect("scores");
                        let trust = quality.trustworthiness.expect("there are vectors").mean;
                        assert!((0.0..=1.0).contains(&trust), "{name}: {quality:?}");
                    }
                    // The cosine sees one direction only, or none.
                    Err(error @ (Error::Data { .. } | Error::Invalid { .. })) => {
                        let zeros = table.values.chunks_exact(3).any(|row| row.iter().all(|&x| x == 0.0));
                        let words = if zeros { "all zeros" } else { "equal" };
                        let what = error.to_string();
                        assert!(metric == Metric::Cosine && what.contains(words), "{name}: {what}");
                    }
                    Err(other) => panic!("{name}, {metric:?}: {other}"),
                }
            }
        }
    }
}

#[test]
fn vectors_too_wide_for_a_covariance_get_first_positions() {
    let table = mixture(300, 4_200);
    for init in [Init::Centroid, Init::Pca, Init::Random] {
        let run = run(&Config { init: Some(init), n_epochs: Some(100), ..quick() }, &table);
        check_finite(&run.map, 200.0);
        check_finite(&first_positions(&run), 10.02);
    }
}

/// Distances whose squares f32 does not hold: a map, or a refusal, but never the end of the process.
#[test]
fn extreme_numbers_give_a_map_or_a_refusal() {
    let place = TestDir::new();
    for (i, scale) in [1e-30f32, 1e-22, 1e17, 1e19, 1e36].into_iter().enumerate() {
        let values: Vec<f32> = mixture(1_000, 8).values.iter().map(|x| x * scale).collect();
        let source = format!("v{i}.npy");
        write_npy(&place.path(&source), &values, 8);
        for metric in ["euclidean", "cosine"] {
            let command = format!("embed {source} -o m.npy --n-epochs 5 --metric {metric} --quiet --force --report -");
            let run = place.run(&command);
            if run.code == 0 {
                // The rows are told apart, and the map is one.
                let report: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
                assert_eq!(report["neighbors"]["rows_with_copies"], 0, "numbers of about {scale:e}, {metric}");
                let map = lowland::open(&[place.path("m.npy").to_string_lossy()], None).expect("a map");
                let mut positions = vec![0f32; 2_000];
                map.read_rows(0, &mut positions).expect("rows");
                check_finite(&positions, 200.0);
            } else {
                let refused = run.code == 2 && run.stderr.lines().count() == 1;
                assert!(refused, "numbers of about {scale:e}, {metric}: {run:?}");
            }
        }
    }
}

#[test]
fn rows_without_neighbours_lie_within_the_map() {
    const ROWS: usize = 1_000;
    let table = mixture(ROWS, 6);
    let (ids, distances, ..) = graph_of(&plan_of(&Config { n_neighbors: Some(8), ..quick() }, &table), &table);
    let mut graph = MemoryGraph { k: 8, ids, distances };
    let lost = |row: u32| row % 50 == 3;
    for row in 0..ROWS {
        let near = graph.ids[row * 8..][..8].iter_mut().zip(&mut graph.distances[row * 8..][..8]);
        near.filter(|(id, _)| lost(row as u32) || lost(**id)).for_each(|(id, d)| (*id, *d) = (MISSING, f32::INFINITY));
    }
    for source in [None, Some(table as Arc<dyn Source>)] {
        let with = if source.is_some() { "with vectors" } else { "graph alone" };
        let run =
            run_with(&Config { n_epochs: Some(200), ..quick() }, &Inputs { source, graph: Some(&graph), first: None });
        assert_eq!(run.report.affinity.map(|a| a.isolated_rows), Some(20), "{with}");
        check_finite(&run.map, 200.0);
        // What is connected spans the picture; the others lie within it, give or take its margin.
        let extent = |wanted: bool| {
            let rows = run.map.chunks_exact(2).enumerate().filter(|(row, _)| lost(*row as u32) == wanted);
            rows.flat_map(|(_, p)| p).fold(0f32, |most, x| most.max(x.abs()))
        };
        assert!(extent(true) <= 2.0 * extent(false), "{with}: {} and {}", extent(true), extent(false));
    }
    // Nobody has a neighbour: there is nothing to go by.
    let none = MemoryGraph { k: 3, ids: vec![MISSING; 300], distances: vec![f32::INFINITY; 300] };
    let inputs = Inputs { source: None, graph: Some(&none), first: None };
    let plan = quick().plan(&inputs.describe().expect("inputs")).expect("a plan");
    let place = tempfile::tempdir().expect("a directory");
    let refused = attempt(&plan, &inputs, &open_run(place.path(), &plan), &()).expect_err("refused");
    assert!(matches!(refused, Error::Data { .. }) && refused.to_string().contains("lists only itself"), "{refused}");
}

#[test]
fn unconnected_groups_stay_apart_and_within_the_map() {
    for (blobs, rows) in [(5u32, 1_500), (17, 1_500), (6, 6_000)] {
        let kind = DatasetKind::BlobsFar { blobs };
        let generator = Generator::new(kind, rows as u64, 8, 3).expect("a generator");
        let labels: Vec<u32> = (0..rows as u64).map(|row| generator.label(row)).collect();
        let table = TestTable::of(kind, rows, 8, 3);
        for init in [Init::Centroid, Init::Pca, Init::Random] {
            let run = run(&Config { n_epochs: None, init: Some(init.clone()), ..quick() }, &table);
            check_finite(&run.map, 200.0);
            if init == Init::Random {
                // From random places a group may come together in several parts.
                continue;
            }
            let mut same = 0;
            let some: Vec<usize> = (0..rows).step_by(rows / 500).collect();
            for &row in &some {
                same += nearest_in_map(&run.map, 2, row, 5).into_iter().filter(|&o| labels[o] == labels[row]).count();
            }
            let share = same as f64 / (some.len() * 5) as f64;
            assert!(
                share >= 0.99,
                "{blobs} blobs, {rows} rows, {init:?}: {share} of the neighbours in the map are of the blob"
            );
        }
    }
}
