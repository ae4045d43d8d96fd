//! The edge store is the fuzzy union of all pairs' directed weights, however the rows are cut; hubs keep their
//! strongest edges.

use std::sync::atomic::Ordering;

use lowland_datasets::{DatasetKind, Mixture};
use lowland_engine::affinity::{self, AffinityStats, Calibration, EdgeStore};
use lowland_engine::neighbors::KnnGraph;
use lowland_engine::{Config, Event};
use lowland_io::EdgeBlock;

use crate::harness::{
    Lcg, Parts, StopWhen, TestTable, check_edges, edges_of, mixture, plan_of_graph, quick, random_graph, run,
};

#[test]
fn the_edge_store_equals_a_dense_computation() {
    let kind = DatasetKind::Duplicates { mixture: Mixture { components: 10, ..Mixture::default() }, share: 0.3 };
    for table in
        [mixture(500, 8), TestTable::of(kind, 500, 8, 5), TestTable::of(DatasetKind::BlobsFar { blobs: 5 }, 500, 3, 1)]
    {
        for k in [2, 15] {
            let run = run(&Config { n_neighbors: Some(k), ..quick() }, &table);
            let graph = KnnGraph::open(run.dir.dir(), 500).expect("a graph");
            let mean = run.report.neighbors.expect("figures").mean_distance;
            check_edges(&run.plan, &graph, mean, run.dir.dir());
        }
    }
}

/// Random neighbours over several blocks of rows: some popular, some rows with few or none.
#[test]
fn the_number_of_runs_does_not_change_the_edge_store() {
    const ROWS: usize = 53_000;
    const K: usize = 4;
    let (rows, mean) = random_graph(ROWS, K, 1);
    let mut first: Option<Parts> = None;
    for (threads, share, buffer_bytes) in [(2, 1, 64 << 20), (1, 2, 1 << 20), (3, 10, 1 << 16), (2, 100, 1 << 20)] {
        let mut plan = plan_of_graph(&Config { threads: Some(threads), ..quick() }, ROWS, K);
        *plan.portions().run_bytes = affinity::run_bytes(&plan).1 / share;
        *plan.portions().buffer_bytes = buffer_bytes;
        let transposed = std::sync::atomic::AtomicBool::new(false);
        let seen = StopWhen(|event: &Event<'_>| {
            transposed.fetch_or(matches!(event, Event::Unit { unit: "transpose", .. }), Ordering::Relaxed);
            false
        });
        let (bench, found, bytes) = edges_of(&plan, &rows, mean, &seen);
        assert_eq!(transposed.into_inner(), share > 1, "by way of the disk");
        assert_eq!(bytes.len(), 1);
        match &first {
            None => {
                let graph = KnnGraph::open(bench.dir.dir(), ROWS as u64).expect("a graph");
                check_edges(&plan, &graph, mean, bench.dir.dir());
                assert!(found.isolated_rows > 0 && found.max_weight <= 1.0, "{found:?}");
                first = Some(bytes);
            }
            Some(first) => assert!(*first == bytes, "{threads} threads and runs of 1/{share} give other bytes"),
        }
        // Nothing of the transpose stays behind.
        assert_eq!(bench.names(), ["edges-000.arrow", "neighbors-000.bin"]);
    }
}

/// Every row names two hubs, which keep the strongest of those edges and no more.
#[test]
fn hubs_keep_their_strongest_edges_for_any_number_of_runs() {
    const ROWS: usize = 200_000;
    const K: usize = 2;
    const HUBS: [u32; 2] = [5, 150_000];
    let mut draws = Lcg(4);
    let mut sum = 0.0;
    let rows: Vec<Vec<(u32, f32)>> = (0..ROWS as u32)
        .map(|row| {
            // Few distances: many weights are equal.
            let far = [1 + draws.below(4), 5 + draws.below(4)].map(|d| d as f32 / 4.0);
            sum += f64::from(far[0]) + f64::from(far[1]);
            let ids = match HUBS.contains(&row) {
                true => [row + 1, row + 2],
                false if draws.below(2) == 0 => HUBS,
                false => [HUBS[1], HUBS[0]],
            };
            vec![(ids[0], far[0]), (ids[1], far[1])]
        })
        .collect();
    let mean = sum / (ROWS * K) as f64;
    let (block_rows, block_edges) = affinity::block_limits(ROWS as u64, K);
    let most = (block_edges - K as u64) as usize;
    assert!(most * 2 < ROWS && block_rows < ROWS as u64, "no row has more edges than it keeps");

    let mut first: Option<(AffinityStats, Parts)> = None;
    for (threads, share) in [(2, 1), (1, 2), (2, 7), (3, 60)] {
        let mut plan = plan_of_graph(&Config { threads: Some(threads), ..quick() }, ROWS, K);
        *plan.portions().run_bytes = affinity::run_bytes(&plan).1 / share;
        *plan.portions().buffer_bytes = 1 << 18;
        let (bench, found, bytes) = edges_of(&plan, &rows, mean, &());
        match &first {
            None => {
                let graph = KnnGraph::open(bench.dir.dir(), ROWS as u64).expect("a graph");
                check_hubs(&graph, &Calibration::new(&graph, mean), bench.dir.dir(), &HUBS, most, &found);
                first = Some((found, bytes));
            }
            Some(first) => assert!((found, bytes) == *first, "runs of 1/{share} give other edges"),
        }
    }
}

/// Compares the edge store in `dir` with what each hub keeps by the definition: the strongest, then those of lower rows.
fn check_hubs(
    graph: &KnnGraph,
    calibration: &Calibration<'_>,
    dir: &std::path::Path,
    hubs: &[u32],
    most: usize,
    found: &AffinityStats,
) {
    let mut forward = std::collections::HashMap::<(u32, u32), f32>::new();
    let mut incoming = vec![Vec::<(u32, f32)>::new(); graph.rows() as usize];
    let mut weights = vec![0f32; graph.k()];
    for row in 0..graph.rows() {
        calibration.weights(row, &mut weights).expect("weights");
        for (to, &weight) in graph.neighbors(row).zip(&weights) {
            forward.insert((row, to), weight);
            incoming[to as usize].push((row, weight));
        }
    }
    let mut cut = 0;
    for incoming in &mut incoming {
        incoming.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        cut += incoming.len().saturating_sub(most);
        incoming.truncate(most);
        incoming.sort_by_key(|edge| edge.0);
    }
    assert!(cut > most, "{cut}");
    assert_eq!(found.cut_edges, cut as u64);
    let store = EdgeStore::open(dir, u64::from(graph.rows())).expect("an edge store");
    let (mut block, mut edges, mut widest) = (EdgeBlock::default(), 0, 0);
    for i in 0..store.count() {
        store.read_block(i, &mut block).expect("a block");
        for (place, offsets) in block.offsets.windows(2).enumerate() {
            let row = block.first_row + place as u32;
            let mut expected = std::collections::BTreeMap::<u32, f64>::new();
            for to in graph.neighbors(row) {
                expected.insert(to, f64::from(forward[&(row, to)]));
            }
            for &(from, weight) in &incoming[row as usize] {
                let (own, weight) = (expected.get(&from).copied().unwrap_or(0.0), f64::from(weight));
                expected.insert(from, own + weight - own * weight);
            }
            expected.retain(|_, weight| *weight > 0.0);
            let range = offsets[0] as usize..offsets[1] as usize;
            assert_eq!(range.len(), expected.len(), "row {row}");
            let stored = block.neighbors[range.clone()].iter().zip(&block.weights[range]);
            for ((&to, &weight), (expected_to, expected)) in stored.zip(expected) {
                assert_eq!(to, expected_to, "row {row}");
                assert!((f64::from(weight) - expected).abs() <= 1e-7, "{row} to {to}: {weight}, {expected}");
            }
            let here = (offsets[1] - offsets[0]) as usize;
            edges += here as u64;
            if hubs.contains(&row) {
                widest = widest.max(here);
            }
        }
    }
    assert_eq!(edges, found.edges);
    assert!(
        (most..=most + 2).contains(&widest),
        "the hubs' edges are {widest}, {most} are kept of those that lead there"
    );
}
