//! The loader gives the same rows for any batch size, prepared for the metric; it neither hangs nor hides an error.

use std::sync::Arc;
use std::time::Duration;

use lowland_engine::{Config, Loader, Metric};
use proptest::prelude::*;

use crate::harness::{TestTable, attempt, inputs_of, mixture, open_run, plan_of, quick};

/// Calls `body`, and panics when it takes longer than 20 seconds.
fn soon<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(body()));
    waits.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|e| panic!("{what}: {e}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_batch_size_gives_the_same_rows(
        rows in 1usize..300,
        dim in 1usize..5,
        batch_rows in prop_oneof![Just(1usize), 2usize..400, Just(1 << 40)],
        range in (0.0f64..1.0, 0.0f64..1.0),
    ) {
        let table = TestTable::new(dim, (0..rows * dim).map(|x| x as f32).collect());
        let (a, b) = ((range.0 * rows as f64) as u64, (range.1 * (rows + 1) as f64) as u64);
        for range in [0..rows as u64, a.min(b)..a.max(b)] {
            let (mut next, mut values) = (range.start, Vec::new());
            for batch in Loader::over_range(table.clone(), Metric::Euclidean, batch_rows, range.clone()) {
                let batch = batch.expect("rows");
                prop_assert_eq!(batch.first, next);
                prop_assert_eq!(batch.dim, dim);
                next += batch.rows() as u64;
                prop_assert!(batch.rows() == batch_rows || next == range.end, "a short batch that is not the last");
                prop_assert!(batch.rows() > 0);
                values.extend_from_slice(batch.values());
            }
            prop_assert_eq!(next, range.end);
            prop_assert_eq!(values.as_slice(), &table.values[range.start as usize * dim..range.end as usize * dim]);
        }
    }
}

#[test]
fn batches_are_prepared_for_the_metric() {
    let table = mixture(500, 6);
    let expected = table.prepared(Metric::Cosine);
    let loader = Loader::new(table, Metric::Cosine, 77);
    let values: Vec<f32> = loader.flat_map(|b| b.expect("rows").values().to_vec()).collect();
    assert_eq!(values.len(), expected.len());
    assert!(values.iter().zip(&expected).all(|(&a, &b)| (f64::from(a) - b).abs() < 1e-7));
}

#[test]
fn a_loader_dropped_early_does_not_hang() {
    let table = mixture(5_000, 4);
    for taken in [0, 1, 2, 7] {
        let table = table.clone();
        soon("a loader dropped early", move || {
            let mut loader = Loader::new(table, Metric::Euclidean, 10);
            let held: Vec<_> = loader.by_ref().take(taken).collect();
            drop(loader);
            // A batch outlives its loader.
            assert!(held.iter().all(|batch| batch.as_ref().is_ok_and(|b| b.values().len() == 40)));
        });
    }
    // All batches held at once: no buffer ever comes back.
    let all = soon("a loader whose batches are kept", move || {
        Loader::new(table, Metric::Euclidean, 100).map(|b| b.expect("rows").rows()).sum::<usize>()
    });
    assert_eq!(all, 5_000);
}

#[test]
fn the_error_of_a_failing_source_reaches_the_caller() {
    let values = (0..1000).map(|x| x as f32).collect();
    let table = Arc::new(TestTable { dim: 1, values, fails_at: Some(500) });
    for batch_rows in [1, 64, 500, 501, 5000] {
        let table = table.clone();
        let got = soon("a failing source", move || {
            Loader::new(table, Metric::Euclidean, batch_rows)
                .map(|b| b.map(|b| b.rows()).map_err(|e| e.to_string()))
                .collect::<Vec<_>>()
        });
        let Some((Err(error), before)) = got.split_last() else { panic!("no error among {got:?}") };
        assert!(error.contains("this row cannot be read"), "{error}");
        assert_eq!(before.iter().map(|b| *b.as_ref().expect("rows")).sum::<usize>(), 500 / batch_rows * batch_rows);
    }
    let plan = plan_of(&Config { n_components: Some(1), ..quick() }, &table);
    let place = tempfile::tempdir().expect("a directory");
    let failed = attempt(&plan, &inputs_of(&table), &open_run(place.path(), &plan), &()).expect_err("it fails");
    assert!(failed.to_string().contains("this row cannot be read"), "{failed}");
}
