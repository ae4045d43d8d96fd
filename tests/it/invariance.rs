//! Threads, batches and the budget change no byte of a run; the smallest budget is the one that is named.

use lowland_datasets::{DatasetKind, Mixture};
use lowland_engine::{Config, Error, Init, Inputs, Metric};

use crate::harness::{
    MemoryGraph, TestDir, TestTable, check_same, inputs_of, mixture, plan_of, quick, smallest, squeezed,
};

#[test]
fn threads_batches_and_budget_do_not_change_a_small_run() {
    for (table, config) in [
        (mixture(3_000, 8), quick()),
        (
            mixture(5_000, 5),
            Config { init: Some(Init::Pca), n_components: Some(3), metric: Some(Metric::Cosine), ..quick() },
        ),
        (
            TestTable::of(DatasetKind::BlobsFar { blobs: 4 }, 2_000, 3, 1),
            Config { init: Some(Init::Random), n_components: Some(1), ..quick() },
        ),
    ] {
        let plan = |change: &dyn Fn(&mut Config)| {
            let mut config = config.clone();
            change(&mut config);
            plan_of(&config, &table)
        };
        check_same(
            &table,
            [
                ("as it is".into(), plan(&|_| {})),
                ("1 thread".into(), plan(&|c| c.threads = Some(1))),
                ("3 threads".into(), plan(&|c| c.threads = Some(3))),
                ("batches of 1".into(), plan(&|c| c.batch_rows = Some(1))),
                ("batches of 1000".into(), plan(&|c| c.batch_rows = Some(1000))),
                ("batches of 65536".into(), plan(&|c| c.batch_rows = Some(65_536))),
                ("the smallest budget".into(), smallest(&config, &table)),
                ("no room".into(), squeezed(plan(&|c| (c.threads, c.batch_rows) = (Some(5), Some(77))))),
            ],
        );
    }
}

#[test]
fn threads_batches_and_budget_do_not_change_a_run_with_a_probed_graph() {
    let table = TestTable::of(DatasetKind::Mixture(Mixture { components: 200, ..Mixture::default() }), 67_000, 4, 9);
    let config = Config { n_neighbors: Some(6), n_epochs: Some(4), ..quick() };
    let small = smallest(&config, &table);
    let large = plan_of(&config, &table);
    assert!(!large.index().exact);
    let tight = squeezed(plan_of(&Config { threads: Some(3), batch_rows: Some(1000), ..config.clone() }, &table));
    assert!(
        tight.index().shard_rows < large.index().shard_rows && tight.affinity().run_bytes < large.affinity().run_bytes
    );
    check_same(
        &table,
        [
            ("as it is".into(), large),
            (
                "1 thread, batches of 1".into(),
                plan_of(&Config { threads: Some(1), batch_rows: Some(1), ..config.clone() }, &table),
            ),
            ("the smallest budget".into(), small),
            ("no room, 3 threads".into(), tight),
        ],
    );
}

#[test]
fn a_budget_below_the_smallest_is_refused() {
    let table = mixture(40_000, 32);
    let plan = smallest(&quick(), &table);
    // A fiftieth less than what was named as the smallest.
    let less = Config { memory: plan.settings().memory / 50 * 49 - (2 << 20), ..quick() };
    let refused = less.plan(&inputs_of(&table).describe().expect("inputs"));
    assert!(matches!(refused, Err(Error::Budget { .. })), "{} does as well: {refused:?}", less.memory);
}

/// Every row's neighbours are the same few: no run and no block is like the others.
#[test]
fn a_run_with_a_few_hubs_stays_within_the_budget() {
    const ROWS: usize = 400_000;
    const K: usize = 15;
    let place = TestDir::new();
    let (mut ids, mut distances) = (Vec::new(), Vec::new());
    for row in 0..ROWS {
        for i in 0..K {
            ids.push(i as u32 + if row < K { 100 } else { 0 });
            distances.push(1.0 + i as f32);
        }
    }
    let mut writer = lowland_io::GraphWriter::create(place.path("g.arrow"), K, "euclidean", false).expect("a graph");
    writer.write_rows(0, &ids, &distances).expect("written");
    writer.finish().expect("written");
    let graph = MemoryGraph { k: K, ids, distances };
    let input = Inputs { source: None, graph: Some(&graph), first: None }.describe().expect("inputs");
    let Err(Error::Budget { needed, .. }) = (Config { memory: 1, ..quick() }).plan(&input) else {
        panic!("too little")
    };
    let command = format!("embed --knn g.arrow -o m.npy --n-epochs 2 --threads 2 --memory {needed} --quiet --report -");
    let report: serde_json::Value = serde_json::from_str(&place.ok(&command).stdout).expect("JSON");
    for stage in report["stages"].as_array().expect("stages") {
        let peak = stage["peak_memory"].as_u64().expect("bytes");
        assert!(peak <= needed, "{}: {peak} bytes held, of {needed}", stage["stage"]);
    }
}
