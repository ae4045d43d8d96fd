//! The engine's stages through the library, each held against a plain
//! computation of the same thing, and whole runs against each other: what must
//! not change a map (threads, batches, budget, interruptions) does not.
//!
//! Sources are tables in memory; distances are taken again in f64 over every
//! pair. The helpers that `oracle` shares are at the top.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;
use lowland_datasets::{Generator, Kind, Mixture};
use lowland_engine::affinity::{self, Affinities, EdgeStore, calibrate};
use lowland_engine::budget::Budget;
use lowland_engine::evaluate::mean_and_interval;
use lowland_engine::neighbors::{self, Graph, MISSING};
use lowland_engine::{
    Config, Error, Event, GraphSink, GraphSource, Init, Inputs, Loader, Metric, Observer, Plan, Progress, Report, Sink,
    Stage, Work, embed, index, knn,
};
use lowland_io::{Dtype, EdgeBlock, Fingerprint, Place, RunDir, Shape, Source};
use proptest::prelude::*;

/// Rows in memory. Reading row `fails_at` is an error.
pub(crate) struct Table {
    pub(crate) dim: usize,
    pub(crate) values: Vec<f32>,
    fails_at: Option<u64>,
}

impl Table {
    pub(crate) fn new(dim: usize, values: Vec<f32>) -> Arc<Self> {
        assert_eq!(values.len() % dim, 0);
        Arc::new(Table { dim, values, fails_at: None })
    }

    pub(crate) fn of(kind: Kind, rows: usize, dim: usize, seed: u64) -> Arc<Self> {
        Self::new(dim, Generator::new(kind, rows as u64, dim, seed).expect("a generator").table(0, rows))
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Rows as the metric sees them: squared distances between these are what it orders by.
    fn prepared(&self, metric: Metric) -> Vec<f64> {
        let mut rows: Vec<f64> = self.values.iter().map(|&x| f64::from(x)).collect();
        if metric == Metric::Cosine {
            for row in rows.chunks_exact_mut(self.dim) {
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                row.iter_mut().filter(|_| norm > 0.0).for_each(|x| *x /= norm);
            }
        }
        rows
    }
}

impl Source for Table {
    fn shape(&self) -> Shape {
        Shape { rows: self.rows() as u64, dim: self.dim }
    }
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn read_rows(&self, first: u64, out: &mut [f32]) -> lowland_io::Result<()> {
        let end = first + (out.len() / self.dim) as u64;
        if self.fails_at.is_some_and(|at| (first..end).contains(&at)) {
            return Err(lowland_io::Error::Corrupt { path: "memory".into(), what: "this row cannot be read".into() });
        }
        out.copy_from_slice(&self.values[first as usize * self.dim..][..out.len()]);
        Ok(())
    }
    fn read_rows_f64(&self, first: u64, out: &mut [f64]) -> lowland_io::Result<()> {
        let mut values = vec![0.0; out.len()];
        self.read_rows(first, &mut values)?;
        out.iter_mut().zip(values).for_each(|(slot, value)| *slot = f64::from(value));
        Ok(())
    }
    fn locate(&self, row: u64) -> Place {
        Place { path: "memory".into(), row }
    }
    fn columns(&self) -> Vec<String> {
        Vec::new()
    }
    fn read_columns(&self, _: &[String], _: u64, _: usize) -> lowland_io::Result<RecordBatch> {
        Ok(RecordBatch::new_empty(Arc::new(Schema::empty())))
    }
    fn fingerprints(&self) -> lowland_io::Result<Vec<Fingerprint>> {
        Ok(Vec::new())
    }
    fn vector_column(&self) -> Option<String> {
        None
    }
}

/// A mixture whose clouds touch, small enough to be compared pair by pair.
pub(crate) fn mixture(rows: usize, dim: usize) -> Arc<Table> {
    Table::of(Kind::Mixture(Mixture { components: 30, ..Mixture::default() }), rows, dim, 7)
}

/// Few epochs and two threads.
pub(crate) fn quick() -> Config {
    Config { threads: Some(2), n_epochs: Some(20), ..Config::default() }
}

/// A map, taken row after row.
struct Rows {
    width: usize,
    values: Vec<f32>,
}

impl Sink for Rows {
    fn write(&mut self, first: u64, coordinates: &[f32]) -> lowland_engine::Result<()> {
        assert_eq!(first as usize * self.width, self.values.len(), "rows in order, none twice");
        self.values.extend_from_slice(coordinates);
        Ok(())
    }
}

/// A finished run and its directory.
pub(crate) struct Run {
    pub(crate) dir: RunDir,
    pub(crate) plan: Plan,
    pub(crate) report: Report,
    /// The map in the source's order.
    pub(crate) map: Vec<f32>,
    // Last: the directory's lock goes first.
    _place: tempfile::TempDir,
}

impl Run {
    /// Every file of the run, by name.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.dir)
    }
}

pub(crate) fn files(dir: &RunDir) -> Vec<(String, Vec<u8>)> {
    let manifest = dir.manifest();
    let mut files: Vec<_> = manifest
        .files()
        .filter(|(name, _)| *name != index::INDEX) // FAISS keeps the directory's name in it
        .map(|(name, _)| (name.to_string(), std::fs::read(dir.path(name)).expect("a file of the run")))
        .collect();
    files.sort();
    files
}

pub(crate) fn open_run(place: &Path, plan: &Plan) -> RunDir {
    RunDir::open(place.join("run"), plan.identity(), Vec::new()).expect("a run directory").0
}

/// A run directory in which a stage is called by itself.
pub(crate) struct Bench {
    pub(crate) dir: RunDir,
    _place: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new(plan: &Plan) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        Bench { dir: open_run(place.path(), plan), _place: place }
    }

    /// Calls `body` as `stage`, with all of the plan's budget and `observer`, who may stop it.
    pub(crate) fn work<T>(
        &self,
        plan: &Plan,
        stage: Stage,
        observer: &dyn Observer,
        body: impl FnOnce(&Work<'_>) -> lowland_engine::Result<T>,
    ) -> lowland_engine::Result<T> {
        let progress = Progress::start(observer, stage, plan.shape().rows, "rows")?;
        body(&Work { run: &self.dir, progress: &progress, budget: &Budget::new(plan.settings().memory) })
    }

    /// The files in the directory, by name, but for the manifest and the lock.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.dir()).expect("the directory");
        let names = entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != "manifest.json" && name != "LOCK").collect();
        names.sort();
        names
    }
}

/// Writes a graph in list order as the stage keeps it: each row's neighbours with their distances, nearest first.
pub(crate) fn write_graph(dir: &Path, k: usize, rows: &[Vec<(u32, f32)>]) {
    // Rows of a part; fewer rows than a part's have one.
    const PART: usize = 1 << 17;
    for (part, rows) in rows.chunks(PART).enumerate() {
        let mut bytes = b"LLN2".to_vec();
        for word in [k, part * PART, rows.len()] {
            bytes.extend((word as u32).to_le_bytes());
        }
        for near in rows {
            let padded = near.iter().copied().chain(std::iter::repeat((MISSING, f32::INFINITY))).take(k);
            padded.clone().for_each(|(id, _)| bytes.extend(id.to_le_bytes()));
            padded.for_each(|(_, distance)| bytes.extend(distance.to_le_bytes()));
        }
        std::fs::write(dir.join(neighbors::part_name(part as u32)), bytes).expect("written");
    }
}

pub(crate) fn inputs_of(table: &Arc<Table>) -> Inputs<'static> {
    Inputs { source: Some(table.clone()), graph: None, first: None }
}

/// Runs a plan in a directory that is there.
pub(crate) fn attempt(
    plan: &Plan,
    inputs: &Inputs<'_>,
    dir: &RunDir,
    observer: &dyn Observer,
) -> lowland_engine::Result<(Report, Vec<f32>)> {
    let mut map = Rows { width: plan.settings().n_components, values: Vec::new() };
    let report = embed(plan, inputs, dir, &mut map, observer)?;
    assert_eq!(map.values.len() as u64, plan.shape().rows * plan.settings().n_components as u64);
    Ok((report, map.values))
}

pub(crate) fn run_plan(plan: Plan, inputs: &Inputs<'_>) -> Run {
    let place = tempfile::tempdir().expect("a directory");
    let dir = open_run(place.path(), &plan);
    let (report, map) = attempt(&plan, inputs, &dir, &()).expect("the run succeeds");
    Run { dir, plan, report, map, _place: place }
}

/// Runs `config` over `inputs`.
pub(crate) fn run_with(config: &Config, inputs: &Inputs<'_>) -> Run {
    run_plan(config.plan(&inputs.describe().expect("inputs")).expect("a plan"), inputs)
}

/// Runs `config` over a table.
pub(crate) fn run(config: &Config, table: &Arc<Table>) -> Run {
    run_with(config, &inputs_of(table))
}

pub(crate) fn plan_of(config: &Config, table: &Arc<Table>) -> Plan {
    config.plan(&inputs_of(table).describe().expect("inputs")).expect("a plan")
}

/// Takes a graph.
#[derive(Default)]
struct Neighbors {
    k: usize,
    ids: Vec<u32>,
    distances: Vec<f32>,
    finished: bool,
}

impl GraphSink for Neighbors {
    fn write(&mut self, first: u64, ids: &[u32], distances: &[f32]) -> lowland_engine::Result<()> {
        assert_eq!(first as usize * self.k, self.ids.len(), "rows in order, none twice");
        self.ids.extend_from_slice(ids);
        self.distances.extend_from_slice(distances);
        Ok(())
    }

    fn finish(&mut self) -> lowland_engine::Result<()> {
        self.finished = true;
        Ok(())
    }
}

/// The kNN graph of a table in the source's order: ids, distances, and the stage's figures.
pub(crate) fn graph_of(plan: &Plan, table: &Arc<Table>) -> (Vec<u32>, Vec<f32>, Report, tempfile::TempDir) {
    let place = tempfile::tempdir().expect("a directory");
    let dir = open_run(place.path(), plan);
    let mut taken = Neighbors { k: plan.k(), ..Neighbors::default() };
    let report = knn(plan, &inputs_of(table), &dir, &mut taken, &()).expect("a graph");
    assert_eq!(taken.ids.len(), table.rows() * plan.k());
    assert!(taken.finished);
    (taken.ids, taken.distances, report, place)
}

/// The row of the source that each row in list order is.
pub(crate) fn source_rows(run: &Run) -> Vec<usize> {
    let lists = index::open(run.dir.dir()).expect("lists");
    (0..lists.table.count()).flat_map(|list| lists.source_rows(list).collect::<Vec<_>>()).map(|r| r as usize).collect()
}

fn squared(rows: &[f64], dim: usize, a: usize, b: usize) -> f64 {
    rows[a * dim..][..dim].iter().zip(&rows[b * dim..][..dim]).map(|(x, y)| (x - y) * (x - y)).sum()
}

fn metric_distance(metric: Metric, squared: f64) -> f64 {
    match metric {
        Metric::Euclidean => squared.sqrt(),
        Metric::Cosine => squared / 2.0,
        _ => squared,
    }
}

/// The `k` least squared distances of `row` to others, ascending.
fn least(rows: &[f64], dim: usize, row: usize, k: usize) -> Vec<f64> {
    let n = rows.len() / dim;
    let mut all: Vec<f64> = (0..n).filter(|&other| other != row).map(|other| squared(rows, dim, row, other)).collect();
    if all.len() > k {
        all.select_nth_unstable_by(k - 1, f64::total_cmp);
    }
    all.truncate(k);
    all.sort_unstable_by(f64::total_cmp);
    all
}

fn map_row(map: &[f32], width: usize, row: usize) -> Vec<f64> {
    map[row * width..][..width].iter().map(|&x| f64::from(x)).collect()
}

/// The `k` rows nearest to `row` in a map.
fn nearest_in_map(map: &[f32], width: usize, row: usize, k: usize) -> Vec<usize> {
    let own = map_row(map, width, row);
    let mut all: Vec<(f64, usize)> = (0..map.len() / width)
        .filter(|&other| other != row)
        .map(|other| (own.iter().zip(map_row(map, width, other)).map(|(a, b)| (a - b) * (a - b)).sum(), other))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    all.into_iter().take(k).map(|(_, other)| other).collect()
}

fn check_finite(map: &[f32], extent: f32) {
    let largest = map.iter().fold(0f32, |most, x| most.max(x.abs()));
    assert!(map.iter().all(|x| x.is_finite()), "a coordinate that is no number");
    assert!(largest < extent, "the map reaches {largest}");
}

/// Hears everything; stops the run when the closure says true.
pub(crate) struct StopWhen<F>(pub(crate) F);

impl<F: Fn(&Event<'_>) -> bool + Sync> Observer for StopWhen<F> {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if (self.0)(event) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

// Loader.

/// Fails rather than hangs.
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
        let table = Table::new(dim, (0..rows * dim).map(|x| x as f32).collect());
        let (a, b) = ((range.0 * rows as f64) as u64, (range.1 * (rows + 1) as f64) as u64);
        for range in [0..rows as u64, a.min(b)..a.max(b)] {
            let (mut next, mut values) = (range.start, Vec::new());
            for batch in Loader::over(table.clone(), Metric::Euclidean, batch_rows, range.clone()) {
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
fn a_failing_source_is_heard_of() {
    let values = (0..1000).map(|x| x as f32).collect();
    let table = Arc::new(Table { dim: 1, values, fails_at: Some(500) });
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

// Graph.

/// Compares every row's neighbours with those of all pairs in f64.
fn check_graph(name: &str, table: &Arc<Table>, metric: Metric, k: usize) -> Report {
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

fn shifted(table: &Table, by: f32) -> Arc<Table> {
    Table::new(table.dim, table.values.iter().map(|x| x + by).collect())
}

#[test]
fn an_exact_graph_is_that_of_all_pairs() {
    for metric in [Metric::Euclidean, Metric::Sqeuclidean, Metric::Cosine] {
        let report = check_graph("mixture", &mixture(2_500, 16), metric, 15);
        assert_eq!(report.neighbors.map(|n| n.recall), Some(1.0));
        check_graph("uniform", &Table::of(Kind::Uniform, 1_500, 3, 1), metric, 10);
        check_graph("all are neighbours", &mixture(16, 4), metric, 15);
        check_graph("three rows", &mixture(3, 2), metric, 2);
        check_graph("wide", &mixture(300, 700), metric, 5);
    }
    check_graph("one dimension", &Table::of(Kind::Uniform, 2_000, 1, 1), Metric::Euclidean, 15);
}

#[test]
fn an_exact_graph_of_data_far_from_the_origin() {
    let table = mixture(2_500, 8);
    for offset in [1e4, -1e6] {
        check_graph("offset", &shifted(&table, offset), Metric::Euclidean, 15);
    }
}

#[test]
fn an_exact_graph_of_groups_far_from_each_other() {
    for (blobs, dim) in [(2, 2), (5, 4), (40, 8)] {
        check_graph("blobs", &Table::of(Kind::BlobsFar { blobs }, 2_500, dim, 3), Metric::Euclidean, 15);
    }
    // One row a million away.
    let mut values = mixture(1_500, 4).values.clone();
    values[0] = 1e6;
    check_graph("an outlier", &Table::new(4, values), Metric::Euclidean, 10);
}

#[test]
fn an_exact_graph_of_copies() {
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let kind = Kind::Duplicates { mixture: Mixture { components: 30, ..Mixture::default() }, share: 0.5 };
        let table = Table::of(kind, 2_000, 8, 5);
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
            check_graph("one row many times", &Table::new(4, values), metric, 15);
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

/// Holds a graph by lists, and what is reported of it, against all pairs for every `step`th row.
fn check_lists(name: &str, table: &Arc<Table>, k: usize, step: usize) {
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
fn a_graph_by_lists_has_the_recall_that_it_reports() {
    check_lists("mixture", &Table::of(Kind::Mixture(Mixture::default()), 70_000, 8, 11), 15, 10);
    check_lists("uniform", &Table::of(Kind::Uniform, 70_000, 8, 11), 5, 10);
}

#[test]
fn a_graph_by_lists_of_awkward_data() {
    check_lists("blobs", &Table::of(Kind::BlobsFar { blobs: 5 }, 66_000, 4, 3), 15, 35);
    check_lists("offset", &shifted(&Table::of(Kind::Uniform, 66_000, 3, 2), 1e3), 5, 35);
    // A list of many more rows than the others, all of them equal.
    let mut values = Table::of(Kind::Mixture(Mixture::default()), 66_000, 4, 1).values.clone();
    let one = values[..4].to_vec();
    values[40_000..120_000].chunks_exact_mut(4).for_each(|row| row.copy_from_slice(&one));
    check_lists("one row 20,000 times", &Table::new(4, values), 5, 35);
}

/// FAISS itself, on the stored index, finds what all pairs give.
fn check_index(table: &Arc<Table>, metric: Metric) {
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
    check_index(&Table::of(Kind::Mixture(Mixture::default()), 66_000, 6, 2), Metric::Euclidean);
}

// A graph from outside.

/// A graph in memory: k a row.
pub(crate) struct Given {
    pub(crate) k: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) distances: Vec<f32>,
}

impl GraphSource for Given {
    fn k(&self) -> usize {
        self.k
    }
    fn rows(&self) -> u64 {
        (self.ids.len() / self.k) as u64
    }
    fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> lowland_engine::Result<()> {
        ids.copy_from_slice(&self.ids[first as usize * self.k..][..ids.len()]);
        distances.copy_from_slice(&self.distances[first as usize * self.k..][..distances.len()]);
        Ok(())
    }
}

/// Numbers that look drawn.
pub(crate) struct Draws(pub(crate) u64);

impl Draws {
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((u128::from(self.0) * n as u128) >> 64) as usize
    }
}

#[test]
fn a_given_graph_is_cleaned_of_what_is_no_neighbour() {
    const ROWS: usize = 500;
    const K: usize = 8;
    let mut draws = Draws(3);
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
    let graph = Given { k: K, ids, distances };
    let run = run_with(&quick(), &Inputs { source: None, graph: Some(&graph), first: None });
    let stored = Graph::open(run.dir.dir(), ROWS as u64).expect("a graph");
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

// Affinity.

/// Compares the edge store in `dir`, entry by entry, with a + b − ab of all pairs' directed weights.
fn check_edges(plan: &Plan, graph: &Graph, mean_distance: f64, dir: &Path) {
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

#[test]
fn the_edge_store_equals_a_dense_computation() {
    let kind = Kind::Duplicates { mixture: Mixture { components: 10, ..Mixture::default() }, share: 0.3 };
    for table in [mixture(500, 8), Table::of(kind, 500, 8, 5), Table::of(Kind::BlobsFar { blobs: 5 }, 500, 3, 1)] {
        for k in [2, 15] {
            let run = run(&Config { n_neighbors: Some(k), ..quick() }, &table);
            let graph = Graph::open(run.dir.dir(), 500).expect("a graph");
            let mean = run.report.neighbors.expect("figures").mean_distance;
            check_edges(&run.plan, &graph, mean, run.dir.dir());
        }
    }
}

/// Random neighbours of `rows` rows: some popular, some rows with few or none. Also their mean distance.
pub(crate) fn random_graph(rows: usize, k: usize, seed: u64) -> (Vec<Vec<(u32, f32)>>, f64) {
    let mut draws = Draws(seed);
    let (mut sum, mut count) = (0.0, 0);
    let mut graph = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut near: Vec<(f32, u32)> = Vec::new();
        let there = if row % 1000 == 7 { 0 } else { k - draws.below(40) / 38 };
        while near.len() < there {
            let id = if draws.below(5) == 0 { draws.below(3) * (rows / 3) } else { draws.below(rows) } as u32;
            if id != row as u32 && near.iter().all(|n| n.1 != id) {
                near.push((draws.below(1 << 20) as f32 / 1e4, id));
            }
        }
        near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        near.iter().for_each(|n| (sum, count) = (sum + f64::from(n.0), count + 1));
        graph.push(near.into_iter().map(|(d, id)| (id, d)).collect());
    }
    (graph, sum / f64::from(count))
}

/// A plan for a graph from outside.
pub(crate) fn plan_of_graph(config: &Config, rows: usize, k: usize) -> Plan {
    let given = Given { k, ids: vec![0; rows * k], distances: vec![0.0; rows * k] };
    let input = Inputs { source: None, graph: Some(&given), first: None }.describe().expect("inputs");
    config.plan(&input).expect("a plan")
}

/// Files by name, in order.
pub(crate) type Parts = Vec<(String, Vec<u8>)>;

/// Makes the edge store of a graph of mean distance `mean`; gives what was found and the parts' bytes, in order.
pub(crate) fn edges_of(
    plan: &Plan,
    rows: &[Vec<(u32, f32)>],
    mean: f64,
    observer: &dyn Observer,
) -> (Bench, Affinities, Parts) {
    let bench = Bench::new(plan);
    write_graph(bench.dir.dir(), plan.k(), rows);
    let graph = Graph::open(bench.dir.dir(), rows.len() as u64).expect("a graph");
    let build = |work: &Work<'_>| affinity::build(plan, &graph, mean, None, work);
    let (made, found) = bench.work(plan, Stage::Affinity, observer, build).expect("edges");
    // As the run does after a stage: what the transpose left goes.
    bench.dir.finish_stage(Stage::Affinity.name(), made.clone(), serde_json::Value::Null).expect("recorded");
    let read = |name: String| (name.clone(), std::fs::read(bench.dir.path(&name)).expect("edges"));
    let parts = made.into_iter().map(|(name, _)| read(name)).collect();
    (bench, found, parts)
}

/// Random neighbours over several blocks of rows: some popular, some rows with few or none.
#[test]
fn runs_of_the_transpose_do_not_change_the_edge_store() {
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
                let graph = Graph::open(bench.dir.dir(), ROWS as u64).expect("a graph");
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

// Whole runs.

/// The smallest budget that the plan's own error names.
pub(crate) fn smallest(config: &Config, table: &Arc<Table>) -> Plan {
    let input = inputs_of(table).describe().expect("inputs");
    let tiny = Config { memory: 1, ..config.clone() };
    let Err(Error::Budget { needed, .. } | Error::AllPairs { needed, .. }) = tiny.plan(&input) else {
        panic!("one byte cannot do")
    };
    Config { memory: needed, ..config.clone() }.plan(&input).expect("the budget that was named does")
}

/// Runs every plan and compares all files and the map with those of the first.
pub(crate) fn check_same(table: &Arc<Table>, plans: impl IntoIterator<Item = (String, Plan)>) {
    let mut first = None;
    for (name, plan) in plans {
        let run = run_plan(plan, &inputs_of(table));
        let (files, map) = (run.files(), run.map.clone());
        match &first {
            None => first = Some((files, map)),
            Some((expected, expected_map)) => {
                for (a, b) in files.iter().zip(expected) {
                    assert_eq!(a.0, b.0, "{name}");
                    assert!(a.1 == b.1, "{name}: {} differs", a.0);
                }
                assert_eq!(files.len(), expected.len(), "{name}");
                assert!(
                    map.iter().zip(expected_map).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{name}: the map differs"
                );
            }
        }
    }
}

/// A plan with next to no room, wherever room may not matter.
pub(crate) fn squeezed(mut plan: Plan) -> Plan {
    *plan.portions().shard_rows = (plan.shape().rows as usize / 7).max(1);
    (*plan.portions().window_rows, *plan.portions().portion_rows) = (777, 3000);
    *plan.portions().run_bytes = affinity::run_bytes(&plan).0;
    *plan.portions().buffer_bytes = 1 << 16;
    *plan.portions().cache_bytes = 0;
    plan
}

#[test]
fn threads_batches_and_budget_do_not_change_a_small_run() {
    for (table, config) in [
        (mixture(3_000, 8), quick()),
        (
            mixture(5_000, 5),
            Config { init: Some(Init::Pca), n_components: Some(3), metric: Some(Metric::Cosine), ..quick() },
        ),
        (
            Table::of(Kind::BlobsFar { blobs: 4 }, 2_000, 3, 1),
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
fn threads_batches_and_budget_do_not_change_a_run_by_lists() {
    let table = Table::of(Kind::Mixture(Mixture { components: 200, ..Mixture::default() }), 67_000, 4, 9);
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
fn a_graph_of_few_hubs_keeps_to_the_budget() {
    const ROWS: usize = 400_000;
    const K: usize = 15;
    let place = crate::kit::Place::new();
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
    let graph = Given { k: K, ids, distances };
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

/// Stops a run where `when` says, then goes on, in the directory still held or opened again.
pub(crate) fn check_resumed(
    name: &str,
    table: &Arc<Table>,
    plan: &Plan,
    whole: &Run,
    again: bool,
    when: &(dyn Fn(&Event<'_>) -> bool + Sync),
) {
    let place = tempfile::tempdir().expect("a directory");
    let mut dir = open_run(place.path(), plan);
    match attempt(plan, &inputs_of(table), &dir, &StopWhen(when)) {
        Err(Error::Cancelled { .. }) => {}
        Err(other) => panic!("{name}: {other}"),
        Ok(_) => panic!("{name}: it was not stopped"),
    }
    if again {
        drop(dir);
        dir = open_run(place.path(), plan);
    }
    let kept = dir.manifest().stages.values().filter(|stage| stage.done).count();
    let (report, map) = attempt(plan, &inputs_of(table), &dir, &()).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(report.reused.len(), kept, "{name}: what was finished is done again");
    assert!(map == whole.map, "{name}: the map differs");
    let (found, expected) = (files(&dir), whole.files());
    assert_eq!(found.len(), expected.len(), "{name}");
    for (a, b) in found.iter().zip(&expected) {
        assert!(a == b, "{name}: {} differs", a.0);
    }
    // Only what the manifest lists, the manifest and the lock.
    let there = std::fs::read_dir(dir.dir()).expect("a directory").count();
    assert_eq!(there, dir.manifest().files().count() + 2, "{name}: files left behind");
}

#[test]
fn a_run_stopped_anywhere_goes_on_to_the_same_bytes() {
    let table = mixture(2_000, 6);
    let mut plan = plan_of(&Config { batch_rows: Some(300), ..quick() }, &table);
    *plan.portions().shard_rows = 450;
    let whole = run_plan(plan.clone(), &inputs_of(&table));
    for stage in Stage::ALL {
        let started = move |e: &Event<'_>| matches!(e, Event::Start { stage: s, .. } if *s == stage);
        let ended = move |e: &Event<'_>| matches!(e, Event::End { report, .. } if report.stage == stage);
        check_resumed(&format!("{stage:?} begins"), &table, &plan, &whole, false, &started);
        check_resumed(&format!("{stage:?} ends"), &table, &plan, &whole, true, &ended);
        if !matches!(stage, Stage::Quality) {
            let under_way = move |e: &Event<'_>| matches!(e, Event::Advance { stage: s, .. } if *s == stage);
            check_resumed(&format!("{stage:?} under way"), &table, &plan, &whole, true, &under_way);
        }
    }
    for epoch in [7, 20] {
        let in_epoch =
            move |e: &Event<'_>| matches!(e, Event::Advance { stage: Stage::Layout, done } if *done == epoch);
        check_resumed(&format!("epoch {epoch}"), &table, &plan, &whole, false, &in_epoch);
    }
    // At any event, safe points included.
    let events = AtomicU64::new(0);
    let count = StopWhen(|_: &Event<'_>| {
        events.fetch_add(1, Ordering::Relaxed);
        false
    });
    let place = tempfile::tempdir().expect("a directory");
    attempt(&plan, &inputs_of(&table), &open_run(place.path(), &plan), &count).expect("the run succeeds");
    let all = events.into_inner();
    for at in (0..all).step_by((all as usize / 25).max(1)) {
        let seen = AtomicU64::new(0);
        let stop = |_: &Event<'_>| seen.fetch_add(1, Ordering::Relaxed) >= at;
        check_resumed(&format!("event {at} of {all}"), &table, &plan, &whole, at % 2 == 0, &stop);
    }
}

#[test]
fn a_run_stopped_again_and_again_ends_with_the_same_bytes() {
    let table = mixture(2_000, 6);
    let plan = plan_of(&quick(), &table);
    let whole = run_plan(plan.clone(), &inputs_of(&table));
    let place = tempfile::tempdir().expect("a directory");
    for attempts in 0.. {
        assert!(attempts < 300, "it never ends");
        let dir = open_run(place.path(), &plan);
        let seen = AtomicU64::new(0);
        let stop = StopWhen(|_: &Event<'_>| seen.fetch_add(1, Ordering::Relaxed) >= attempts * attempts);
        match attempt(&plan, &inputs_of(&table), &dir, &stop) {
            Err(Error::Cancelled { .. }) => {}
            Err(other) => panic!("{other}"),
            Ok((_, map)) => {
                assert!(attempts > 3);
                assert!(map == whole.map, "the map differs");
                assert!(files(&dir) == whole.files());
                break;
            }
        }
    }
}

#[test]
fn a_plan_of_another_budget_goes_on_where_one_stopped() {
    let table = mixture(20_000, 4);
    let config = Config { n_epochs: Some(5), ..quick() };
    let (small, large) = (smallest(&Config { threads: Some(1), ..config.clone() }, &table), plan_of(&config, &table));
    let whole = run_plan(large.clone(), &inputs_of(&table));
    let place = tempfile::tempdir().expect("a directory");
    let dir = open_run(place.path(), &small);
    let stop = StopWhen(|e: &Event<'_>| matches!(e, Event::Start { stage: Stage::Affinity, .. }));
    attempt(&small, &inputs_of(&table), &dir, &stop).expect_err("stopped");
    let (_, map) = attempt(&large, &inputs_of(&table), &dir, &()).expect("it goes on");
    assert!(map == whole.map);
}

// Awkward data.

#[test]
fn a_handful_of_rows() {
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
fn two_rows_with_a_given_graph() {
    let graph = Given { k: 1, ids: vec![1, 0], distances: vec![1.0, 1.0] };
    let table = Table::new(2, vec![0.0, 0.0, 1.0, 0.0]);
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
        let table = Table::new(3, values);
        let plan = plan_of(&Config { metric: Some(metric), ..quick() }, &table);
        let place = tempfile::tempdir().expect("a directory");
        let refused = attempt(&plan, &inputs_of(&table), &open_run(place.path(), &plan), &()).expect_err("refused");
        assert!(matches!(refused, Error::Data { .. }) && refused.to_string().contains("equal"), "{refused}");
    }
}

#[test]
fn data_with_hardly_anything_in_it_still_gives_a_map() {
    let named = |name: &'static str, dim: usize, values: Vec<f32>| (name, Table::new(dim, values));
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
fn vectors_too_wide_for_a_covariance() {
    let table = mixture(300, 4_200);
    for init in [Init::Centroid, Init::Pca, Init::Random] {
        let run = run(&Config { init: Some(init), n_epochs: Some(100), ..quick() }, &table);
        check_finite(&run.map, 200.0);
        check_finite(&first_positions(&run), 10.02);
    }
}

/// Distances whose squares f32 does not hold: a map, or a refusal, but never the end of the process.
#[test]
fn numbers_at_the_ends_of_their_range() {
    let place = crate::kit::Place::new();
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

/// Writes rows of floats as numpy does.
fn write_npy(path: &Path, values: &[f32], width: usize) {
    let columns = lowland_io::MapColumns {
        rows: (values.len() / width) as u64,
        coordinates: lowland_io::coordinate_names(width),
        extra: None,
        own_id: false,
        nullable: false,
    };
    let mut writer = lowland_io::MapWriter::create(path, columns, false).expect("a file");
    writer.write_rows(0, values, None).expect("written");
    writer.finish().expect("written");
}

#[test]
fn rows_without_neighbours_end_inside_the_picture() {
    const ROWS: usize = 1_000;
    let table = mixture(ROWS, 6);
    let (ids, distances, ..) = graph_of(&plan_of(&Config { n_neighbors: Some(8), ..quick() }, &table), &table);
    let mut graph = Given { k: 8, ids, distances };
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
    let none = Given { k: 3, ids: vec![MISSING; 300], distances: vec![f32::INFINITY; 300] };
    let inputs = Inputs { source: None, graph: Some(&none), first: None };
    let plan = quick().plan(&inputs.describe().expect("inputs")).expect("a plan");
    let place = tempfile::tempdir().expect("a directory");
    let refused = attempt(&plan, &inputs, &open_run(place.path(), &plan), &()).expect_err("refused");
    assert!(matches!(refused, Error::Data { .. }) && refused.to_string().contains("no neighbours"), "{refused}");
}

#[test]
fn groups_without_a_link_stay_apart_and_inside_the_picture() {
    for (blobs, rows) in [(5u32, 1_500), (17, 1_500), (6, 6_000)] {
        let kind = Kind::BlobsFar { blobs };
        let generator = Generator::new(kind, rows as u64, 8, 3).expect("a generator");
        let labels: Vec<u32> = (0..rows as u64).map(|row| generator.label(row)).collect();
        let table = Table::of(kind, rows, 8, 3);
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

#[test]
fn any_number_of_components() {
    let table = mixture(1_200, 20);
    for n_components in [1, 2, 3, 5, 17] {
        for init in [Init::Centroid, Init::Pca] {
            let run = run(
                &Config { n_components: Some(n_components), init: Some(init), n_epochs: Some(200), ..quick() },
                &table,
            );
            check_finite(&run.map, 200.0);
            // umap-learn 0.5.12 comes to 0.745 to 0.764 in one component of these rows and to
            // 0.851 to 0.856 in two, by its way of starting; with more there is only more room.
            let least = if n_components == 1 { 0.745 } else { 0.851 };
            let trust = run.report.quality.and_then(|q| q.trustworthiness).expect("scores").mean;
            assert!(trust >= least, "{n_components} components: {trust}");
            // No component is left out.
            for c in 0..n_components {
                let values: Vec<f64> = run.map.iter().skip(c).step_by(n_components).map(|&x| f64::from(x)).collect();
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                let variance = values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / values.len() as f64;
                assert!(variance > 1e-2, "component {c} of {n_components}: variance {variance}");
            }
        }
    }
}

// First positions.

fn first_positions(run: &Run) -> Vec<f32> {
    let width = run.plan.settings().n_components;
    let rows = run.plan.shape().rows;
    let stored =
        lowland_engine::positions::Positions::open(&run.dir.path(lowland_engine::positions::INIT), rows, width)
            .expect("first positions");
    let stored = stored.values().expect("first positions");
    let mut ordered = vec![0f32; stored.len()];
    for (position, row) in stored.chunks_exact(width).zip(source_rows(run)) {
        ordered[row * width..][..width].copy_from_slice(position);
    }
    ordered
}

#[test]
fn first_positions_come_from_where_they_are_asked() {
    let table = mixture(3_000, 10);
    let start = |config: &Config| first_positions(&run(config, &table));
    let config = |init: Init| Config { init: Some(init), n_epochs: Some(1), ..quick() };

    let random = start(&config(Init::Random));
    check_finite(&random, 10.02);
    let (mean, interval) = mean_and_interval(&random.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    let deviation = interval / 1.96 * (random.len() as f64).sqrt();
    assert!(mean.abs() < 2.0 * interval && (deviation - 10.0 / 3f64.sqrt()).abs() < 0.15, "{mean} {deviation}");
    assert_ne!(random, start(&Config { seed: 1, ..config(Init::Random) }));

    // Given positions, in the source's order, moved by no more than the jitter.
    let place = tempfile::tempdir().expect("a directory");
    let path = place.path().join("start.npy");
    let given: Vec<f32> = (0..6_000).map(|i| (i as f32 * 0.37).sin() * 9.0).collect();
    write_npy(&path, &given, 2);
    let from_file = start(&config(Init::File(path.clone())));
    assert!(from_file.iter().zip(&given).all(|(a, b)| (a - b).abs() <= 0.0101), "not the file's positions");
    let wrong = Config { n_components: Some(3), ..config(Init::File(path)) };
    let plan = plan_of(&wrong, &table);
    let refused =
        attempt(&plan, &inputs_of(&table), &open_run(place.path(), &plan), &()).expect_err("3 of 2 components");
    assert!(matches!(refused, Error::Config { field: "init", .. }), "{refused}");

    // PCA: each axis is uncorrelated with the other, and wider than it; the data's own order is kept on it.
    let pca = start(&config(Init::Pca));
    check_finite(&pca, 10.02);
    let axis = |c: usize| pca.iter().skip(c).step_by(2).map(|&x| f64::from(x)).collect::<Vec<_>>();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (x, y) = (axis(0), axis(1));
    assert!(dot(&x, &x) > dot(&y, &y));
    assert!(dot(&x, &y).abs() < 1e-2 * dot(&y, &y), "{} {}", dot(&x, &y), dot(&y, &y));

    // Centroids, and 5,000 rows so that there are enough of them: near rows start near.
    let table = mixture(5_000, 10);
    let run = run(&config(Init::Centroid), &table);
    assert!(run.plan.has_centroids());
    let begun = first_positions(&run);
    check_finite(&begun, 60.0);
    let graph = graph_of(&plan_of(&config(Init::Centroid), &table), &table);
    let far = |a: usize, b: usize| (begun[2 * a] - begun[2 * b]).hypot(begun[2 * a + 1] - begun[2 * b + 1]);
    let (mut near, mut any) = (0.0, 0.0);
    for row in 0..5_000 {
        near += far(row, graph.0[row * 15] as usize);
        any += far(row, (row * 7919 + 1) % 5_000);
    }
    assert!(near < 0.25 * any, "{near} {any}");
}

#[test]
fn a_graph_alone_gives_a_map_that_keeps_it() {
    let table = mixture(2_000, 8);
    let (ids, distances, ..) = graph_of(&plan_of(&quick(), &table), &table);
    let graph = Given { k: 15, ids, distances };
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
fn a_given_graph_beside_the_vectors_gives_the_map_of_our_own() {
    let table = mixture(2_000, 8);
    let (ids, distances, ..) = graph_of(&plan_of(&quick(), &table), &table);
    let graph = Given { k: 15, ids, distances };
    let with = run_with(&quick(), &Inputs { source: Some(table.clone()), graph: Some(&graph), first: None });
    let own = run(&quick(), &table);
    assert!(with.map == own.map);
    assert_eq!(
        with.report.neighbors.map(|n| (n.recall, n.mean_distance)),
        own.report.neighbors.map(|n| (n.recall, n.mean_distance))
    );
}

// Quality.

/// Trustworthiness by its definition, and the share of the k nearest kept, over all rows.
fn trust_and_preservation(table: &Table, map: &[f32], width: usize, k: usize) -> (f64, f64) {
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

/// Holds the reported scores, taken on all rows, against their definitions.
fn check_quality(name: &str, table: &Arc<Table>, config: &Config) {
    let run = run(config, table);
    let quality = run.report.quality.expect("scores");
    assert_eq!((quality.sample_rows, quality.k), (table.rows(), run.plan.k()), "{name}");
    let (trust, kept) = trust_and_preservation(table, &run.map, run.plan.settings().n_components, run.plan.k());
    let reported = quality.trustworthiness.expect("there are vectors").mean;
    assert!((reported - trust).abs() <= 1e-6, "{name}: trustworthiness {reported}, by definition {trust}");
    let reported = quality.preservation.mean;
    assert!((reported - kept).abs() <= 1e-6, "{name}: preservation {reported}, by definition {kept}");
}

#[test]
fn scores_are_what_their_definitions_say() {
    check_quality("mixture", &mixture(1_500, 12), &quick());
    check_quality(
        "three components",
        &mixture(1_500, 12),
        &Config { n_components: Some(3), n_neighbors: Some(7), ..quick() },
    );
    check_quality("far from the origin", &shifted(&mixture(1_500, 4), 1e4), &quick());
    check_quality("far blobs", &Table::of(Kind::BlobsFar { blobs: 5 }, 1_500, 4, 3), &quick());
    check_quality(
        "random places",
        &mixture(1_000, 12),
        &Config { init: Some(Init::Random), n_epochs: Some(1), ..quick() },
    );
}

#[test]
fn triplets_are_kept_as_often_as_reported() {
    let table = mixture(2_000, 12);
    let run = run(&quick(), &table);
    let reported = run.report.quality.and_then(|q| q.triplets).expect("a score");
    let rows = table.prepared(Metric::Euclidean);
    let mut draws = Draws(8);
    let map = |a: usize, b: usize| -> f64 {
        map_row(&run.map, 2, a).iter().zip(map_row(&run.map, 2, b)).map(|(x, y)| (x - y) * (x - y)).sum()
    };
    let kept: Vec<f64> = (0..100_000)
        .map(|_| (draws.below(2_000), draws.below(2_000), draws.below(2_000)))
        .filter(|&(i, j, l)| i != j && i != l && j != l)
        .map(|(i, j, l)| {
            let data = squared(&rows, 12, i, j) < squared(&rows, 12, i, l);
            f64::from(u8::from(data == (map(i, j) < map(i, l))))
        })
        .collect();
    let (mean, interval) = mean_and_interval(&kept);
    let allowed = (interval.powi(2) + reported.interval.powi(2)).sqrt();
    assert!((mean - reported.mean).abs() <= allowed, "reported {reported:?}, found {mean} ± {interval}");
}
