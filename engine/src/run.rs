//! A run: the stages in order, each reading what the ones before it made.
//!
//! What must hold: a stage's files are durable before the manifest says that
//! it is done, and a stage that the manifest says is done is not run again.

use std::sync::Arc;
use std::time::Instant;

use lowland_io::{Depth, RunDir, Source};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::affinity::{self, Affinities};
use crate::index::{self, Lists, Made};
use crate::layout::{self, curve};
use crate::meter::Meter;
use crate::neighbors::{self, Found, Graph, Sample};
use crate::observe::{Event, Observer, Progress, Stage};
use crate::plan::{Input, Plan};
use crate::report::{Report, StageReport};
use crate::{Error, Result, init, quality, scan};

/// The map's positions in the run directory: rows × components floats, list order.
const POSITIONS: &str = "positions.f32";

/// Takes the map, row after row in the source's order.
pub trait Sink: Send {
    /// Takes the coordinates (rows × components) of rows `first..`.
    fn write(&mut self, first: u64, coordinates: &[f32]) -> Result<()>;
}

/// A kNN graph that takes the place of the neighbors stage, or receives it.
pub trait GraphSource: Sync {
    /// Neighbours a row.
    fn k(&self) -> usize;
    /// Rows.
    fn rows(&self) -> u64;
    /// Reads rows `first..`: ids (source rows, `u32::MAX` where missing) and distances, k each.
    fn read_rows(&self, first: u64, ids: &mut [u32], distances: &mut [f32]) -> Result<()>;
}

/// Takes a graph's rows in the source's order: the first row, then ids and
/// distances, k of each a row.
pub type EachRows<'a> = &'a mut (dyn FnMut(u64, &[u32], &[f32]) -> Result<()> + Send);

/// What a run starts from: vectors, a graph, or both.
#[derive(Clone, Default)]
pub struct Inputs<'a> {
    /// The vectors.
    pub source: Option<Arc<dyn Source>>,
    /// A precomputed kNN graph.
    pub graph: Option<&'a dyn GraphSource>,
}

impl Inputs<'_> {
    /// The shape that a plan is made for.
    ///
    /// # Errors
    /// Where there is neither, or the two differ in rows.
    pub fn describe(&self) -> Result<Input> {
        let graph = self.graph.map(|g| (g.rows(), g.k()));
        match (&self.source, graph) {
            (Some(source), graph) => {
                let shape = source.shape();
                if let Some((rows, _)) = graph.filter(|&(rows, _)| rows != shape.rows) {
                    return Err(Error::Data { what: format!("the graph has {rows} rows, the vectors {}", shape.rows) });
                }
                Ok(Input { shape, dtype: source.dtype(), graph_k: graph.map(|(_, k)| k) })
            }
            (None, Some((rows, k))) => {
                Ok(Input { shape: lowland_io::Shape { rows, dim: 0 }, dtype: lowland_io::Dtype::F32, graph_k: Some(k) })
            }
            (None, None) => Err(Error::Data { what: "neither vectors nor a graph were given".into() }),
        }
    }
}

/// Runs all stages and hands the map to `sink`.
///
/// # Errors
/// [`Error::Cancelled`] when the observer stops the run; what was finished is
/// kept in `dir`, and the same call goes on from there.
pub fn embed(
    plan: &Plan,
    inputs: &Inputs<'_>,
    dir: &RunDir,
    sink: &mut dyn Sink,
    observer: &dyn Observer,
) -> Result<Report> {
    pool(plan)?.install(|| {
        let mut run = Run::start(plan, dir, observer)?;
        let graph = run.graph(inputs)?;
        let rows = plan.shape.rows;
        let affinities: Affinities = run.stage(Stage::Affinity, rows, "rows", |progress| {
            affinity::build(plan, &graph.open(dir)?, graph.found.mean_distance, dir.dir(), progress)
        })?;
        run.report.affinity = Some(affinities);

        let lists = graph.lists.as_ref();
        run.stage(Stage::Init, rows, "rows", |progress| {
            Ok((init::place(plan, lists, graph.pca.as_ref(), dir.dir(), progress)?, ()))
        })?;

        run.stage(Stage::Layout, plan.layout.epochs as u64, "epochs", |progress| {
            let config = &plan.config;
            let options = layout::Options {
                rows: rows as u32,
                n_components: config.n_components,
                epochs: plan.layout.epochs,
                curve: curve::fit(config.min_dist, config.spread),
                learning_rate: config.learning_rate,
                negative_sample_rate: config.negative_sample_rate,
                max_weight: affinities.max_weight,
                seed: config.seed,
            };
            let reader = lowland_io::edges::EdgeReader::open(dir.path(affinity::EDGES))?;
            let blocks = layout::Stored::new(&reader, plan.layout.cache_bytes, &options, progress)?;
            let start = init::read_positions(&dir.path(init::INIT))?;
            let positions = layout::run(&options, &blocks, start, progress)?;
            progress.traffic.read(blocks.bytes_read());
            check_finite(&positions)?;
            let stamp = init::write_positions(&dir.path(POSITIONS), &positions)?;
            progress.traffic.wrote(stamp.bytes);
            Ok((vec![(POSITIONS.to_string(), stamp)], ()))
        })?;

        run.always(Stage::Output, rows, "rows", |progress| {
            let positions = init::read_positions(&dir.path(POSITIONS))?;
            output(plan, lists, positions, sink, progress)
        })?;
        let quality = run.always(Stage::Quality, rows, "rows", |progress| {
            let positions = init::read_positions(&dir.path(POSITIONS))?;
            quality::score(plan, lists, &graph.truth, &positions, progress)
        })?;
        run.report.quality = Some(quality);
        Ok(run.end())
    })
}

/// Runs the stages up to the graph and hands it over in the source's order:
/// `each(first row, ids, distances)`.
pub fn knn(
    plan: &Plan,
    inputs: &Inputs<'_>,
    dir: &RunDir,
    each: EachRows<'_>,
    observer: &dyn Observer,
) -> Result<Report> {
    pool(plan)?.install(|| {
        let mut run = Run::start(plan, dir, observer)?;
        let graph = run.graph(inputs)?;
        run.always(Stage::Output, plan.shape.rows, "rows", |progress| {
            neighbors::export(plan, &graph.open(dir)?, graph.lists.as_ref(), dir.dir(), each, progress)
        })?;
        Ok(run.end())
    })
}

fn pool(plan: &Plan) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(plan.threads)
        .thread_name(|i| format!("lowland-{i}"))
        .build()
        .map_err(|e| Error::Config { field: "threads", why: e.to_string() })
}

/// The first stages' results.
struct GraphMade {
    lists: Option<Lists>,
    pca: Option<crate::pca::Pca>,
    found: Found,
    truth: Sample,
}

impl GraphMade {
    fn open(&self, dir: &RunDir) -> Result<Graph> {
        Graph::open(&dir.path(neighbors::NEIGHBORS))
    }
}

struct Run<'a> {
    plan: &'a Plan,
    dir: &'a RunDir,
    observer: &'a dyn Observer,
    meter: Meter,
    began: Instant,
    report: Report,
}

/// What the manifest keeps of a finished stage.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    result: T,
    report: StageReport,
}

impl<'a> Run<'a> {
    fn start(plan: &'a Plan, dir: &'a RunDir, observer: &'a dyn Observer) -> Result<Self> {
        index::faiss::start()?;
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            plan: plan.clone(),
            stages: Vec::new(),
            reused: Vec::new(),
            neighbors: None,
            affinity: None,
            quality: None,
            seconds: 0.0,
        };
        Ok(Run { plan, dir, observer, meter: Meter::start(), began: Instant::now(), report })
    }

    fn end(mut self) -> Report {
        self.report.seconds = self.began.elapsed().as_secs_f64();
        self.report
    }

    /// Scan, index and neighbors: what leads to a graph in list order.
    fn graph(&mut self, inputs: &Inputs<'_>) -> Result<GraphMade> {
        let (plan, dir) = (self.plan, self.dir);
        let rows = plan.shape.rows;
        let (mut lists, mut pca) = (None, None);
        if let Some(source) = &inputs.source {
            let scanned: scan::Scanned =
                self.stage(Stage::Scan, rows, "rows", |progress| scan::scan(plan, source, dir.dir(), progress))?;
            pca = scanned.pca;
            self.stage(Stage::Index, rows, "rows", |progress| {
                let sample = scan::read_sample(dir.dir())?;
                Ok((index::build(plan, source, sample, dir.dir(), progress)?, ()))
            })?;
            lists = Some(index::open(dir.dir())?);
        }
        let found: Found = self.stage(Stage::Neighbors, rows, "rows", |progress| {
            let (mut made, found, truth) = match (inputs.graph, &lists) {
                (Some(graph), lists) => neighbors::import(plan, graph, lists.as_ref(), dir.dir(), progress)?,
                (None, Some(lists)) => neighbors::join(plan, lists, dir.dir(), progress)?,
                (None, None) => return Err(Error::Data { what: "neither vectors nor a graph were given".into() }),
            };
            made.push(truth.write(dir.dir())?);
            Ok((made, found))
        })?;
        self.report.neighbors = Some(found);
        Ok(GraphMade { lists, pca, found, truth: Sample::read(dir.dir())? })
    }

    /// Runs a stage whose result the run directory keeps, unless it has it.
    fn stage<T: Serialize + DeserializeOwned>(
        &mut self,
        stage: Stage,
        total: u64,
        unit: &'static str,
        body: impl FnOnce(&Progress<'_>) -> Result<(Made, T)>,
    ) -> Result<T> {
        if let Some(record) = self.dir.stage(stage.name()).filter(|record| record.done) {
            self.dir.verify(stage.name(), Depth::Checksums)?;
            let kept: Kept<T> = serde_json::from_value(record.data).map_err(|e| lowland_io::Error::Corrupt {
                path: self.dir.path("manifest.json"),
                what: format!("the {} stage's record: {e}", stage.name()),
            })?;
            self.report.reused.push(stage);
            self.tell_end(kept.report, true)?;
            return Ok(kept.result);
        }
        let mut made = Vec::new();
        let (result, report) = self.measure(stage, total, unit, |progress| {
            let (files, result) = body(progress)?;
            made = files;
            Ok(result)
        })?;
        let kept = Kept { result, report };
        let data = serde_json::to_value(&kept).map_err(|e| Error::Data { what: format!("{}: {e}", stage.name()) })?;
        self.dir.finish_stage(stage.name(), made, data)?;
        self.tell_end(report, false)?;
        Ok(kept.result)
    }

    /// Runs a stage that leaves nothing in the run directory.
    fn always<T>(
        &mut self,
        stage: Stage,
        total: u64,
        unit: &'static str,
        body: impl FnOnce(&Progress<'_>) -> Result<T>,
    ) -> Result<T> {
        let (result, report) = self.measure(stage, total, unit, body)?;
        self.tell_end(report, false)?;
        Ok(result)
    }

    fn measure<T>(
        &mut self,
        stage: Stage,
        total: u64,
        unit: &'static str,
        body: impl FnOnce(&Progress<'_>) -> Result<T>,
    ) -> Result<(T, StageReport)> {
        let progress = Progress::start(self.observer, stage, total, unit)?;
        self.meter.take_peak();
        let began = Instant::now();
        let result = body(&progress)?;
        let (read, written) = progress.traffic.totals();
        let report = StageReport {
            stage,
            seconds: began.elapsed().as_secs_f64(),
            peak_memory: self.meter.take_peak(),
            read,
            written,
        };
        Ok((result, report))
    }

    fn tell_end(&mut self, report: StageReport, reused: bool) -> Result<()> {
        self.report.stages.push(report);
        let stop = self.observer.event(&Event::End { report: &report, reused }).is_break();
        if stop { Err(Error::Cancelled { stage: report.stage.name() }) } else { Ok(()) }
    }
}

/// Positions must be numbers: a learning rate far too large can lose them.
fn check_finite(positions: &[f32]) -> Result<()> {
    if positions.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(Error::Config {
        field: "learning_rate",
        why: "the layout ran away from the numbers there are; try a smaller one".into(),
    })
}

/// Brings the map into the source's order and hands it over.
fn output(
    plan: &Plan,
    lists: Option<&Lists>,
    positions: Vec<f32>,
    sink: &mut dyn Sink,
    progress: &Progress<'_>,
) -> Result<()> {
    const ROWS: usize = 65_536;
    let width = plan.config.n_components;
    let ordered = match lists {
        None => positions,
        Some(lists) => {
            let mut ordered = vec![0f32; positions.len()];
            let mut rows = positions.chunks_exact(width);
            for list in 0..lists.table.count() {
                for (row, position) in lists.source_rows(list).zip(rows.by_ref()) {
                    ordered[row as usize * width..][..width].copy_from_slice(position);
                }
            }
            ordered
        }
    };
    for (i, coordinates) in ordered.chunks(ROWS * width).enumerate() {
        sink.write((i * ROWS) as u64, coordinates)?;
        progress.traffic.wrote(coordinates.len() as u64 * 4);
        progress.advance((coordinates.len() / width) as u64)?;
    }
    Ok(())
}
