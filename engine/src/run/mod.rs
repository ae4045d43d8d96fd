//! A run: executes the stages in order, where each stage reads the files of earlier ones.
//!
//! What must hold: a stage's files are durable before the manifest lists the stage as done. A stage that is
//! done is not run again, unless a later stage needs its files and they have been deleted. The source's files
//! must not change: after every stage that reads them they are compared with their state at the start of the
//! run.

mod gpu;

use lowland_io::{RunDir, VerifyDepth};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::affinity::{self, AffinityStats};
use crate::all_pairs::Problem;
use crate::budget::Budget;
use crate::config::Settings;
use crate::decide::check_plan;
use crate::index::{self, InvertedLists};
use crate::inputs::{GraphSink, Inputs, MapSink};
use crate::methods::Recipe;
use crate::neighbors::{self, GraphStats, KnnGraph, SAMPLE, TruthSample};
use crate::observe::{Event, Observer, Progress, RemarkLog, Stage, StageReport};
use crate::plan::{Plan, StageGraph};
use crate::remark::{Level, Remark};
use crate::report::Report;
use crate::session::Session;
use crate::work::{StageContext, StageFiles, thread_pool};
use crate::{Error, Init, Method, Result, all_pairs, init, layout, methods, output, quality, scan};

/// Runs all stages and writes the map to `sink`.
///
/// # Errors
/// [`Error::Cancelled`] if the observer stops the run. Finished stages stay in `dir`, and the same call resumes
/// the run.
pub fn embed(
    plan: &Plan,
    inputs: &Inputs<'_>,
    dir: &RunDir,
    sink: &mut dyn MapSink,
    observer: &dyn Observer,
) -> Result<Report> {
    let objective = match methods::recipe(plan.settings.method) {
        Recipe::Streamed(objective) => objective,
        Recipe::AllPairs(problem) => return embed_all_pairs(plan, problem, inputs, dir, sink, observer),
    };
    thread_pool(plan.threads)?.install(|| {
        let heard = RemarkLog::new(observer);
        let mut run = StageRunner::start(plan, inputs, dir, &heard)?;
        let rows = plan.shape.rows;
        if run.sample_missing() {
            run.todo.push(Stage::Neighbors);
        }
        // An explicitly requested GPU may be missing, which must be reported before hours of work.
        let layout = run.todo.contains(&Stage::Layout);
        let gpu = if layout { gpu::layout_gpu(plan, objective, &heard)? } else { None };
        let graph = run.graph(inputs, false)?;

        let lists = graph.lists.as_ref();
        let affinities: AffinityStats = run.run_stage(Stage::Affinity, |work| {
            affinity::build(plan, &KnnGraph::open(dir.dir(), rows)?, graph.found.mean_distance, lists, work)
        })?;
        run.report.affinity = Some(affinities);
        run.release_after(Stage::Affinity, &[SAMPLE])?;

        run.run_stage(Stage::Init, |work| Ok((init::build(plan, lists, graph.pca.as_ref(), inputs.first, work)?, ())))?;
        run.run_stage(Stage::Layout, |work| {
            Ok((layout::build(plan, objective, &affinities, gpu.as_ref(), work)?, ()))
        })?;
        run.release_after(Stage::Layout, &[])?;

        run.run_unrecorded(Stage::Output, |work| output::write(plan, lists, initial_width(plan), sink, work))?;
        let quality = run.run_unrecorded(Stage::Quality, |work| quality::score(plan, lists, &graph.truth, work))?;
        run.report.quality = Some(quality);
        sink.finish()?;
        drop(graph);
        run.release_after(Stage::Quality, &[])?;
        Ok(run.end())
    })
}

/// [`embed`] for a method that computes all pairs: without lists and graph, with rows in the source's order in all stages.
fn embed_all_pairs(
    plan: &Plan,
    problem: fn(&Settings) -> Problem,
    inputs: &Inputs<'_>,
    dir: &RunDir,
    sink: &mut dyn MapSink,
    observer: &dyn Observer,
) -> Result<Report> {
    let Some(source) = &inputs.source else { return Err(Error::Data { what: "no vectors were given".into() }) };
    thread_pool(plan.threads)?.install(|| {
        let heard = RemarkLog::new(observer);
        let mut run = StageRunner::start(plan, inputs, dir, &heard)?;
        let rows = plan.shape.rows;
        // Only distinct rows are fitted: the defaults are those for as many rows.
        let settings_for = |scanned: &scan::ScanResult| {
            plan.settings.of_distinct(scanned.distinct.map_or(rows, |distinct| distinct as u64), plan.asked)
        };
        let scanned: scan::ScanResult = run.run_stage(Stage::Scan, |work| {
            // Faults of the first positions and of the rows must be errors of this stage, not of a later one.
            all_pairs::stage::check_first(plan, &problem(&plan.settings), inputs.first, work)?;
            let (made, scanned) = scan::scan(plan, source, work)?;
            let (settings, distinct) = (settings_for(&scanned), scanned.distinct.unwrap_or(rows as usize));
            problem(&settings).check(distinct)?;
            let reduced = plan.settings.reduced_to(&settings);
            if !reduced.is_empty() {
                let text = format!("only {distinct} rows are distinct: {}", reduced.join(", "));
                work.progress.note("few-rows", text)?;
            }
            Ok((made, scanned))
        })?;
        let settings = settings_for(&scanned);
        let fitted = run.run_stage(Stage::Layout, |work| {
            all_pairs::stage::build(plan, problem(&settings), source, inputs.first, work)
        })?;
        run.report.all_pairs = Some(fitted);
        run.run_unrecorded(Stage::Output, |work| output::write(plan, None, initial_width(plan), sink, work))?;
        let quality = run.run_unrecorded(Stage::Quality, |work| {
            all_pairs::quality::score(plan, &problem(&plan.settings), source, work)
        })?;
        run.report.quality = Some(quality);
        sink.finish()?;
        run.release_after(Stage::Quality, &[])?;
        Ok(run.end())
    })
}

/// Runs the stages up to the graph and writes it to `sink` in the source's order, k neighbours of each row.
pub fn knn(
    plan: &Plan,
    inputs: &Inputs<'_>,
    dir: &RunDir,
    sink: &mut dyn GraphSink,
    observer: &dyn Observer,
) -> Result<Report> {
    thread_pool(plan.threads)?.install(|| {
        let heard = RemarkLog::new(observer);
        let mut run = StageRunner::start(plan, inputs, dir, &heard)?;
        let graph = run.graph(inputs, true)?;
        run.run_unrecorded(Stage::Output, |work| {
            let found = KnnGraph::open(dir.dir(), plan.shape.rows)?;
            neighbors::export(plan, &found, graph.lists.as_ref(), sink, work)
        })?;
        sink.finish()?;
        drop(graph);
        run.release_after(Stage::Output, &[])?;
        Ok(run.end())
    })
}

/// The results of the stages up to the graph.
struct GraphResult {
    lists: Option<InvertedLists>,
    pca: Option<crate::pca::Pca>,
    found: GraphStats,
    truth: TruthSample,
}

/// Returns whether a stage is done and its files exist.
fn has(dir: &RunDir, stage: Stage) -> bool {
    dir.stage(stage.name()).is_some_and(|record| record.done && !record.released)
}

struct StageRunner<'a> {
    plan: &'a Plan,
    graph: StageGraph,
    /// The stages that are to be run. A stage that is done and not in this list gives its kept result.
    todo: Vec<Stage>,
    dir: &'a RunDir,
    observer: &'a RemarkLog<'a>,
    session: Session<'a>,
    report: Report,
}

/// The manifest's record of a finished stage.
#[derive(Serialize, Deserialize)]
struct StageResult<T> {
    result: T,
    report: StageReport,
    /// Warnings and notes that the stage reported.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remarks: Vec<Remark>,
}

impl<'a> StageRunner<'a> {
    /// Begins a run, and reports the plan's notes.
    fn start(plan: &'a Plan, inputs: &Inputs<'_>, dir: &'a RunDir, observer: &'a RemarkLog<'a>) -> Result<Self> {
        check_plan(plan, &inputs.describe()?)?;
        index::faiss::initialize()?;
        let report = Report {
            format: Report::FORMAT,
            version: env!("CARGO_PKG_VERSION").into(),
            plan: plan.clone(),
            stages: Vec::new(),
            reused: Vec::new(),
            neighbors: None,
            affinity: None,
            all_pairs: None,
            quality: None,
            warnings: Vec::new(),
            notes: Vec::new(),
            left_out: None,
            shift: None,
            seconds: 0.0,
        };
        for remark in &plan.notes {
            if observer.event(&Event::Note { remark }).is_break() {
                return Err(Error::Cancelled { stage: Stage::Scan.name() });
            }
        }
        let memory = plan.settings.memory.saturating_sub(plan.base());
        let session = Session::start(observer, memory, inputs.source.clone())?;
        let graph = plan.graph();
        let todo = graph.to_run(|stage| has(dir, stage));
        Ok(StageRunner { plan, graph, todo, dir, observer, session, report })
    }

    fn end(mut self) -> Report {
        (self.report.stages, self.report.seconds) = self.session.end();
        let remarks = self.observer.since(0).into_iter();
        (self.report.warnings, self.report.notes) = remarks.partition(|remark| remark.level == Level::Warning);
        self.report
    }

    /// Returns whether the sample's true neighbours are still to be computed.
    fn sample_missing(&self) -> bool {
        let record = self.dir.stage(Stage::Neighbors.name()).filter(|record| record.done);
        !record.is_some_and(|record| record.files.contains_key(SAMPLE))
    }

    /// Runs the scan, index and neighbors stages, which give a graph in list order. `alone` says that no map is
    /// made afterwards.
    fn graph(&mut self, inputs: &Inputs<'_>, alone: bool) -> Result<GraphResult> {
        let (plan, dir) = (self.plan, self.dir);
        let joins = self.todo.contains(&Stage::Neighbors) && inputs.graph.is_none();
        let gpu = if joins { gpu::neighbors_gpu(plan, self.observer, alone)? } else { None };
        let (mut lists, mut pca) = (None, None);
        if let Some(source) = &inputs.source {
            let scanned: scan::ScanResult = self.run_stage(Stage::Scan, |work| scan::scan(plan, source, work))?;
            pca = scanned.pca;
            self.run_stage(Stage::Index, |work| Ok((index::build(plan, source, work)?, ())))?;
            self.release_after(Stage::Index, &[])?;
            lists = Some(index::open(dir.dir())?);
        }
        let found: GraphStats = self.run_stage(Stage::Neighbors, |work| {
            let (made, found, _) = match (inputs.graph, &lists) {
                (Some(graph), lists) => neighbors::import(plan, graph, lists.as_ref(), work)?,
                (None, Some(lists)) => neighbors::join(plan, lists, gpu.as_ref(), work)?,
                (None, None) => return Err(Error::Data { what: "neither vectors nor a graph were given".into() }),
            };
            Ok((made, found))
        })?;
        self.report.neighbors = Some(found);
        Ok(GraphResult { lists, pca, found, truth: TruthSample::read(dir.dir())? })
    }

    /// Runs a stage whose result is kept in the run directory. If the stage is done already, it is run again
    /// only if it is to be run (because its files no longer exist and are needed); otherwise its files are
    /// verified and its result is returned.
    fn run_stage<T: Serialize + DeserializeOwned>(
        &mut self,
        stage: Stage,
        body: impl FnOnce(&StageContext<'_>) -> Result<(StageFiles, T)>,
    ) -> Result<T> {
        if let Some(record) = self.dir.stage(stage.name()).filter(|record| record.done) {
            if !self.todo.contains(&stage) {
                self.dir.verify(stage.name(), VerifyDepth::Checksums)?;
                let kept: StageResult<T> =
                    serde_json::from_value(record.data).map_err(|e| lowland_io::Error::Corrupt {
                        path: self.dir.path("manifest.json"),
                        what: format!("the {} stage's record: {e}", stage.name()),
                    })?;
                self.report.reused.push(stage);
                self.repeat_remarks(stage, &kept.remarks)?;
                self.session.tell_end(kept.report, true)?;
                return Ok(kept.result);
            }
            // The stage's files were deleted, and are needed again.
            self.dir.drop_stage(stage.name())?;
        }
        let told = self.observer.count();
        let mut made = Vec::new();
        let (result, report) = self.run_measured(stage, |work| {
            let (files, result) = body(work)?;
            made = files;
            Ok(result)
        })?;
        let kept = StageResult { result, report, remarks: self.observer.since(told) };
        let data = serde_json::to_value(&kept).map_err(|e| Error::Data { what: format!("{}: {e}", stage.name()) })?;
        self.dir.finish_stage(stage.name(), made, data)?;
        self.session.tell_end(report, false)?;
        Ok(kept.result)
    }

    /// Deletes the files, except `kept`, that no stage after `stage` reads, unless the plan keeps them.
    fn release_after(&self, stage: Stage, kept: &[&str]) -> Result<()> {
        for stage in self.graph.released_after(stage) {
            if !self.plan.keeps(stage) && has(self.dir, stage) {
                self.dir.release_stage(stage.name(), kept)?;
            }
        }
        Ok(())
    }

    /// Runs a stage that leaves no files in the run directory.
    fn run_unrecorded<T>(&mut self, stage: Stage, body: impl FnOnce(&StageContext<'_>) -> Result<T>) -> Result<T> {
        let (result, report) = self.run_measured(stage, body)?;
        self.session.tell_end(report, false)?;
        Ok(result)
    }

    fn run_measured<T>(
        &mut self,
        stage: Stage,
        body: impl FnOnce(&StageContext<'_>) -> Result<T>,
    ) -> Result<(T, StageReport)> {
        let node = self.graph.node(stage);
        let total = if stage == Stage::Layout { self.plan.layout.epochs as u64 } else { self.plan.shape.rows };
        let (unit, reads_source) = node.map_or(("rows", false), |node| (node.unit, node.source));
        let run = self.dir;
        let body = |progress: &Progress<'_>, budget: &Budget| body(&StageContext { run, progress, budget });
        self.session.stage(stage, (total, unit), reads_source, body)
    }

    /// Reports the remarks of a stage that an earlier process finished.
    fn repeat_remarks(&self, stage: Stage, remarks: &[Remark]) -> Result<()> {
        match remarks.iter().all(|remark| self.observer.event(&Event::Note { remark }).is_continue()) {
            true => Ok(()),
            false => Err(Error::Cancelled { stage: stage.name() }),
        }
    }
}

/// Returns the approximate extent of the first positions; `None` if the user provided them.
fn initial_width(plan: &Plan) -> Option<f64> {
    let settings = &plan.settings;
    // Nearly all of a normal distribution is within three standard deviations.
    let wide = |deviation: f64| 6.0 * deviation;
    if let Ok(problem) = methods::problem(settings) {
        return Some(wide(problem.descent.init_scaling));
    }
    match (settings.method.initial_deviation(), &settings.init) {
        (Some(deviation), _) => Some(wide(deviation)),
        (None, Init::File(_)) => None,
        // UMAP's maps are about as large as their spread.
        (None, _) if settings.method == Method::UMAP => {
            Some(2.0 * f64::from(init::HALF_WIDTH) * settings.spread.min(1.0))
        }
        (None, _) => Some(2.0 * f64::from(init::HALF_WIDTH)),
    }
}
