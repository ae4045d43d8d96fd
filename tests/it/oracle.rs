//! The engine's results held against the libraries of the field: umap-learn's
//! weights, scikit-learn's PCA, FAISS, pyarrow and Polars on our files, and
//! the scores of `score.py`, and maps against openTSNE and PaCMAP. Each test makes a run, writes what the script of
//! `tests/oracle` wants as .npy, and expects it to succeed.
//!
//! The Python is `LOWLAND_PYTHON`, as `./x test` sets it; otherwise the one
//! that `./x test` once made. Without any the tests say that they are skipped.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use lowland_datasets::{DatasetKind, Mixture};
use lowland_engine::affinity::{Calibration, EdgeStore};
use lowland_engine::neighbors::KnnGraph;
use lowland_engine::scan::ScanResult;
use lowland_engine::{Config, Init, Method, Metric, index};
use lowland_io::{EdgeBlock, GraphWriter, MapColumns, MapWriter};
use serde_json::Value;

use crate::harness::{FinishedRun, TestTable, graph_of, mixture, quick, run};
use crate::harness::{home, skipped};

/// A Python with the oracles' packages.
pub(crate) fn python() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("LOWLAND_PYTHON") {
        if given.is_empty() {
            skipped("LOWLAND_PYTHON is empty: no Python oracles");
            return None;
        }
        return Some(given.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache")))?;
    let python = cache.join("lowland/venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    skipped(&format!("no {}: run ./x test for the Python oracles", python.display()));
    None
}

/// A directory for one script's arguments.
pub(crate) struct PythonDir {
    python: PathBuf,
    dir: tempfile::TempDir,
}

impl PythonDir {
    /// Nothing where there is no Python.
    pub(crate) fn new() -> Option<Self> {
        Some(PythonDir { python: python()?, dir: tempfile::tempdir().expect("a directory") })
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    /// Writes a file that numpy reads; gives its path.
    pub(crate) fn npy<const N: usize>(
        &self,
        name: &str,
        kind: &str,
        shape: &[usize],
        values: impl Iterator<Item = [u8; N]>,
    ) -> String {
        let shape: String = shape.iter().map(|n| format!("{n},")).collect();
        let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
        header.push_str(&" ".repeat(63 - (10 + header.len()) % 64));
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.into_bytes());
        values.for_each(|value| bytes.extend(value));
        std::fs::write(self.path(name), bytes).expect("written");
        self.path(name)
    }

    pub(crate) fn floats(&self, name: &str, values: &[f32], width: usize) -> String {
        self.npy(name, "<f4", &[values.len() / width, width], values.iter().map(|x| x.to_le_bytes()))
    }

    fn words(&self, name: &str, values: &[u32], width: usize) -> String {
        self.npy(name, "<u4", &[values.len() / width, width], values.iter().map(|x| x.to_le_bytes()))
    }

    pub(crate) fn doubles(&self, name: &str, values: &[f64], shape: &[usize]) -> String {
        self.npy(name, "<f8", shape, values.iter().map(|x| x.to_le_bytes()))
    }

    /// Runs a script that must succeed; gives what it printed.
    pub(crate) fn ask(&self, script: &str, arguments: &[&str]) -> String {
        let path = home().join("tests/oracle").join(script);
        let output = Command::new(&self.python).arg(path).args(arguments).output().expect("Python runs");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{script} {arguments:?}: {}\n{stdout}{stderr}", output.status);
        stdout.into_owned()
    }
}

/// The first rows of the packages of Debian 12, in 64 components.
pub(crate) fn packages(rows: usize) -> Arc<TestTable> {
    let path = home().join("datasets/debian-packages-64.parquet");
    let source = lowland_io::open(&[path.to_string_lossy().into_owned()], &Default::default()).expect("the packages");
    let mut values = vec![0f32; rows * source.shape().dim];
    source.read_rows(0, &mut values).expect("rows");
    TestTable::new(source.shape().dim, values)
}

fn copies(rows: usize) -> Arc<TestTable> {
    let kind = DatasetKind::Duplicates { mixture: Mixture { components: 20, ..Mixture::default() }, share: 0.6 };
    let table = TestTable::of(kind, rows, 8, 5);
    // One row has more copies than neighbours.
    let mut values = table.values.clone();
    let one = values[..8].to_vec();
    values[80..80 + 8 * 25].chunks_exact_mut(8).for_each(|row| row.copy_from_slice(&one));
    TestTable::new(8, values)
}

/// A run's whole edge store: offsets over all rows, neighbours, weights.
fn edges_of(run: &FinishedRun) -> (Vec<u32>, Vec<u32>, Vec<f32>) {
    let store = EdgeStore::open(run.dir.dir(), run.plan.shape().rows).expect("an edge store");
    let (mut offsets, mut neighbors, mut weights) = (vec![0u32], Vec::new(), Vec::new());
    let mut block = EdgeBlock::default();
    for i in 0..store.count() {
        store.read_block(i, &mut block).expect("a block");
        offsets.extend(block.offsets[1..].iter().map(|&o| o + neighbors.len() as u32));
        neighbors.extend_from_slice(&block.neighbors);
        weights.extend_from_slice(&block.weights);
    }
    (offsets, neighbors, weights)
}

fn check_weights(desk: &PythonDir, run: &FinishedRun) {
    let graph = KnnGraph::open(run.dir.dir(), run.plan.shape().rows).expect("a graph");
    let calibration = Calibration::new(&graph, run.report.neighbors.expect("figures").mean_distance);
    let (mut ids, mut distances, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..graph.rows() {
        ids.extend(graph.neighbors(row));
        distances.extend_from_slice(graph.distances(row).expect("distances"));
        let end = weights.len();
        weights.resize(end + graph.k(), 0f32);
        calibration.weights(row, &mut weights[end..]).expect("weights");
    }
    let (offsets, neighbors, united) = edges_of(run);
    let rows: Vec<u32> =
        offsets.windows(2).enumerate().flat_map(|(row, o)| vec![row as u32; (o[1] - o[0]) as usize]).collect();
    let flat =
        |name: &str, values: &[u32]| desk.npy(name, "<u4", &[values.len()], values.iter().map(|x| x.to_le_bytes()));
    let told = desk.ask(
        "umap_weights.py",
        &[
            &desk.words("ids.npy", &ids, graph.k()),
            &desk.floats("distances.npy", &distances, graph.k()),
            &desk.floats("weights.npy", &weights, graph.k()),
            "--edges",
            &flat("rows.npy", &rows),
            &flat("cols.npy", &neighbors),
            &desk.npy("vals.npy", "<f4", &[united.len()], united.iter().map(|x| x.to_le_bytes())),
        ],
    );
    assert!(told.contains("directed") && told.contains("symmetric"), "{told}");
}

#[test]
fn weights_are_those_of_umap_learn() {
    let Some(desk) = PythonDir::new() else { return };
    check_weights(&desk, &run(&quick(), &packages(5_000)));
    check_weights(
        &desk,
        &run(&Config { metric: Some(Metric::Cosine), n_neighbors: Some(5), ..quick() }, &packages(2_000)),
    );
    check_weights(&desk, &run(&quick(), &copies(2_000)));
}

fn check_components(desk: &PythonDir, table: &Arc<TestTable>, n_components: usize) {
    let run =
        run(&Config { init: Some(Init::Pca), n_components: Some(n_components), n_epochs: Some(1), ..quick() }, table);
    let data = run.dir.stage("scan").expect("a scan").data;
    let scanned: ScanResult = serde_json::from_value(data["result"].clone()).expect("what the scan found");
    let pca = scanned.pca.expect("components");
    let mut scores = vec![0f32; table.rows() * n_components];
    pca.project(&table.values, &mut scores);
    desk.doubles("components.npy", &pca.components, &[n_components, table.dim]);
    desk.doubles("variance.npy", &pca.variance, &[n_components]);
    desk.floats("scores.npy", &scores, n_components);
    desk.ask("pca.py", &[&desk.floats("data.npy", &table.values, table.dim), &desk.path("")]);
}

#[test]
fn principal_components_are_those_of_scikit_learn() {
    let Some(desk) = PythonDir::new() else { return };
    check_components(&desk, &packages(5_000), 3);
    let far = mixture(3_000, 20);
    check_components(&desk, &TestTable::new(20, far.values.iter().map(|x| x + 1e4).collect()), 2);
    // Too wide for a covariance: found incrementally, exactly where the rank is low.
    let (narrow, mut values) = (mixture(600, 10), vec![0f32; 600 * 4_200]);
    for (row, out) in narrow.values.chunks_exact(10).zip(values.chunks_exact_mut(4_200)) {
        for (c, out) in out.iter_mut().enumerate() {
            let turn = |i: usize| ((i * 7 + 3) as f32 * (c as f32 * 0.013 + 0.1)).sin();
            *out = row.iter().enumerate().map(|(i, x)| x * turn(i)).sum();
        }
    }
    check_components(&desk, &TestTable::new(4_200, values), 2);
}

/// The rows as the metric sees them.
fn prepared(table: &TestTable, metric: Metric) -> Vec<f32> {
    let mut values = table.values.clone();
    metric.prepare(&mut values, table.dim);
    values
}

#[test]
fn faiss_reads_the_index_and_finds_the_same_neighbours() {
    let Some(desk) = PythonDir::new() else { return };
    for (table, metric) in
        [(packages(5_000), Metric::Cosine), (mixture(3_000, 12), Metric::Euclidean), (copies(2_000), Metric::Euclidean)]
    {
        let run = run(&Config { metric: Some(metric), n_epochs: Some(1), ..quick() }, &table);
        let (ids, distances, ..) = graph_of(&run.plan, &table);
        let distances: Vec<f32> = match metric {
            // Between rows of length 1, as FAISS has them.
            Metric::Cosine => distances.iter().map(|d| (2.0 * d).sqrt()).collect(),
            _ => distances,
        };
        desk.ask(
            "stores.py",
            &[
                "index",
                &run.dir.path(index::INDEX).to_string_lossy(),
                &desk.floats("vectors.npy", &prepared(&table, metric), table.dim),
                "15",
                &desk.words("ids.npy", &ids, 15),
                &desk.floats("distances.npy", &distances, 15),
            ],
        );
    }
    // Inverted lists on disk.
    let table = TestTable::of(DatasetKind::Mixture(Mixture::default()), 66_000, 8, 2);
    let run = run(&Config { n_epochs: Some(1), ..quick() }, &table);
    assert!(!run.plan.index().exact);
    let path = run.dir.path(index::INDEX);
    desk.ask("stores.py", &["index", &path.to_string_lossy(), &desk.floats("vectors.npy", &table.values, 8), "15"]);
}

#[test]
fn pyarrow_and_polars_read_the_edges() {
    let Some(desk) = PythonDir::new() else { return };
    // Several blocks, and rows with copies.
    for table in [packages(5_000), copies(2_000), TestTable::of(DatasetKind::Mixture(Mixture::default()), 40_000, 3, 2)]
    {
        let run = run(&Config { n_epochs: Some(1), n_neighbors: Some(8), ..quick() }, &table);
        // The first part is all there is of so few rows.
        let path = run.dir.path("edges-000.arrow");
        let (offsets, neighbors, weights) = edges_of(&run);
        desk.ask(
            "stores.py",
            &[
                "edges",
                &path.to_string_lossy(),
                &desk.npy("offsets.npy", "<u4", &[offsets.len()], offsets.iter().map(|x| x.to_le_bytes())),
                &desk.npy("neighbors.npy", "<u4", &[neighbors.len()], neighbors.iter().map(|x| x.to_le_bytes())),
                &desk.npy("weights.npy", "<f4", &[weights.len()], weights.iter().map(|x| x.to_le_bytes())),
            ],
        );
    }
}

#[test]
fn pyarrow_and_polars_read_the_graph() {
    let Some(desk) = PythonDir::new() else { return };
    let table = packages(5_000);
    for metric in [Metric::Euclidean, Metric::Cosine] {
        let config = Config { metric: Some(metric), n_neighbors: Some(7), ..quick() };
        let plan = config.plan(&lowland_engine::PlanInput {
            shape: lowland_io::Shape { rows: 5_000, dim: table.dim },
            dtype: lowland_io::Dtype::F32,
            graph_k: None,
            source_bytes: 0,
            resident_bytes: 0,
        });
        let (ids, distances, ..) = graph_of(&plan.expect("a plan"), &table);
        let path = desk.path(&format!("{}.arrow", metric.name()));
        let mut writer = GraphWriter::create(&path, 7, metric.name(), false).expect("a graph");
        writer.write_rows(0, &ids, &distances).expect("written");
        writer.finish().expect("written");
        let (ids, distances) = (desk.words("ids.npy", &ids, 7), desk.floats("distances.npy", &distances, 7));
        desk.ask("stores.py", &["graph", &path, &ids, &distances, metric.name()]);
    }
}

#[test]
fn pyarrow_polars_and_numpy_read_the_maps() {
    let Some(desk) = PythonDir::new() else { return };
    let table = packages(5_000);
    for n_components in [1, 2, 3, 5] {
        let run = run(&Config { n_components: Some(n_components), n_epochs: Some(2), ..quick() }, &table);
        let paths: Vec<String> =
            ["parquet", "arrow", "npy"].iter().map(|e| desk.path(&format!("{n_components}.{e}"))).collect();
        for path in &paths {
            let columns = MapColumns {
                rows: 5_000,
                coordinates: lowland_io::coordinate_names(n_components),
                extra: None,
                own_id: false,
                nullable: false,
            };
            let mut writer = MapWriter::create(path, columns, false).expect("a map");
            writer.write_rows(0, &run.map, None).expect("written");
            writer.finish().expect("written");
        }
        let expected = desk.floats("expected.npy", &run.map, n_components);
        let mut arguments = vec!["map", expected.as_str()];
        arguments.extend(paths.iter().map(String::as_str));
        desk.ask("stores.py", &arguments);
    }
}

#[test]
fn scores_are_those_of_another_program() {
    let Some(desk) = PythonDir::new() else { return };
    // As many rows as the engine's sample, so that both score every one.
    for (table, metric) in [(packages(2_000), Metric::Cosine), (mixture(2_000, 12), Metric::Euclidean)] {
        let run = run(&Config { metric: Some(metric), ..quick() }, &table);
        let quality = run.report.quality.expect("scores");
        assert_eq!(quality.sample_rows, 2_000);
        let map = desk.floats("map.npy", &run.map, 2);
        let vectors = desk.floats("vectors.npy", &table.values, table.dim);
        let told = desk.ask("score.py", &[&map, &vectors, "--k", "15", "--metric", metric.name()]);
        let theirs: Value = serde_json::from_str(&told).expect("JSON");
        for (name, ours) in [
            ("trustworthiness", quality.trustworthiness.expect("there are vectors").mean),
            ("np", quality.preservation.mean),
        ] {
            let theirs = theirs[name].as_f64().expect("a number");
            assert!((ours - theirs).abs() <= 1e-6, "{name}: {ours}, score.py says {theirs}");
        }
        let (triplets, theirs) = (quality.triplets.expect("a score"), theirs["triplet"].as_f64().expect("a number"));
        // Each draws triples of its own: what they differ by has the errors of both.
        let interval = triplets.interval * std::f64::consts::SQRT_2;
        assert!((triplets.mean - theirs).abs() <= interval, "triplets: {triplets:?}, score.py says {theirs}");
    }
}

/// Trustworthiness at 15 of a method's map and of its own program's, on digits
/// and packages: ours is not worse by more than .01.
#[test]
fn maps_are_as_good_as_those_of_the_methods_own_programs() {
    let Some(desk) = PythonDir::new() else { return };
    let path = desk.path("digits.npy");
    desk.ask("peers.py", &["digits", &path]);
    let source = lowland_io::open(&[path], &Default::default()).expect("digits");
    let mut digits = vec![0f32; source.shape().rows as usize * source.shape().dim];
    source.read_rows(0, &mut digits).expect("rows");
    let digits = TestTable::new(source.shape().dim, digits);
    for (name, table) in [("digits", digits), ("packages", packages(5_000))] {
        for (method, peer) in [(Method::TSNE, "opentsne"), (Method::PACMAP, "pacmap")] {
            let run = run(&Config { threads: Some(2), ..Config::of(method) }, &table);
            let vectors = desk.floats("vectors.npy", &table.values, table.dim);
            let told = desk.ask("peers.py", &[peer, &vectors, &desk.floats("map.npy", &run.map, 2)]);
            let told: Value = serde_json::from_str(told.lines().last().unwrap_or("")).expect("JSON");
            if let Some(package) = told["missing"].as_str() {
                skipped(&format!("no {package}: ./x test installs it"));
                continue;
            }
            let [ours, theirs] = ["ours", "theirs"].map(|who| told[who].as_f64().expect("a number"));
            crate::harness::note(&format!("{name}: {method} {ours:.4}, {peer} {theirs:.4}"));
            assert!(ours > theirs - 0.01, "{name}: {method} {ours}, {peer} {theirs}");
        }
    }
}
