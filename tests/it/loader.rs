//! The loader gives the same rows for any batch size, prepared for the metric; it neither hangs nor hides an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use lowland_engine::{Config, Metric, prepared_loader};
use lowland_io::{Dtype, Loader, LoaderOptions, Prepare, RowLocation, Shape, Source, SourceId};
use proptest::prelude::*;

use crate::harness::{TestTable, attempt, inputs_of, mixture, open_run, plan_of, quick};

/// Calls `body`, and panics when it takes longer than 20 seconds.
fn soon<T: Send + 'static>(what: &str, body: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, waits) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(body()));
    waits.recv_timeout(Duration::from_secs(20)).unwrap_or_else(|e| panic!("{what}: {e}"))
}

/// A loader of all rows in batches of `batch_rows`.
fn of_rows(table: Arc<TestTable>, batch_rows: usize) -> Loader {
    Loader::new(table, LoaderOptions { batch_rows: Some(batch_rows), ..LoaderOptions::default() })
}

/// Counts the reads of a source.
struct Counted(Arc<TestTable>, AtomicUsize);

impl Source for Counted {
    fn shape(&self) -> Shape {
        self.0.shape()
    }
    fn dtype(&self) -> Dtype {
        self.0.dtype()
    }
    fn read_rows(&self, first: u64, out: &mut [f32]) -> lowland_io::Result<()> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.read_rows(first, out)
    }
    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> lowland_io::Result<()> {
        self.0.read_rows_f64(first, out)
    }
    fn locate(&self, row: u64) -> RowLocation {
        self.0.locate(row)
    }
    fn columns(&self) -> Vec<String> {
        Vec::new()
    }
    fn read_columns(&self, names: &[String], first: u64, rows: usize) -> lowland_io::Result<RecordBatch> {
        self.0.read_columns(names, first, rows)
    }
    fn id(&self) -> lowland_io::Result<SourceId> {
        self.0.id()
    }
    fn vector_column(&self) -> Option<String> {
        None
    }
}

#[test]
fn a_loader_reads_only_a_few_batches_ahead() {
    let counted = Arc::new(Counted(mixture(5_000, 4), AtomicUsize::new(0)));
    let loader = Loader::new(counted.clone(), LoaderOptions { batch_rows: Some(10), ..LoaderOptions::default() });
    assert_eq!(counted.1.load(Ordering::SeqCst), 0, "nothing is read before a pass begins");
    let mut pass = loader.iter();
    let _first = pass.next().expect("a batch").expect("rows");
    std::thread::sleep(Duration::from_millis(200));
    // The one in use, two that wait, and one that is ready to be sent.
    assert!(counted.1.load(Ordering::SeqCst) <= 4, "{:?} batches were read for one", counted.1);
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
            let options = LoaderOptions { batch_rows: Some(batch_rows), rows: Some(range.clone()), prepare: None };
            let loader = Loader::new(table.clone(), options);
            for _pass in 0..2 {
                let (mut next, mut values) = (range.start, Vec::new());
                for batch in &loader {
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
}

#[test]
fn batches_are_prepared_for_the_metric() {
    let table = mixture(500, 6);
    let expected = table.prepared(Metric::Cosine);
    let loader = prepared_loader(table, Metric::Cosine, 77);
    let values: Vec<f32> = loader.iter().flat_map(|b| b.expect("rows").values().to_vec()).collect();
    assert_eq!(values.len(), expected.len());
    assert!(values.iter().zip(&expected).all(|(&a, &b)| (f64::from(a) - b).abs() < 1e-7));
}

#[test]
fn a_loader_dropped_early_does_not_hang() {
    let table = mixture(5_000, 4);
    for taken in [0, 1, 2, 7] {
        let table = table.clone();
        soon("a loader dropped early", move || {
            let loader = of_rows(table, 10);
            let mut pass = loader.iter();
            let held: Vec<_> = pass.by_ref().take(taken).collect();
            drop((pass, loader));
            // A batch outlives its pass and its loader.
            assert!(held.iter().all(|batch| batch.as_ref().is_ok_and(|b| b.values().len() == 40)));
        });
    }
    // All batches held at once: no buffer ever comes back.
    let all = soon("a loader whose batches are kept", move || {
        of_rows(table, 100).iter().map(|b| b.expect("rows").rows()).sum::<usize>()
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
            of_rows(table, batch_rows)
                .iter()
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

#[test]
fn a_panic_of_the_reading_thread_does_not_end_a_pass_in_silence() {
    let pass = || {
        let prepare: Prepare = Arc::new(|values, _| assert!(values[0] < 100.0, "a value that cannot be prepared"));
        let values = (0..1000).map(|x| x as f32).collect();
        let table = Arc::new(TestTable { dim: 1, values, fails_at: None });
        let options = LoaderOptions { batch_rows: Some(50), prepare: Some(prepare), ..LoaderOptions::default() };
        Loader::new(table, options).iter().count()
    };
    assert!(std::panic::catch_unwind(pass).is_err());
}
