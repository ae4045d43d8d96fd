//! Runs a PCA of a source: passes that find the axes, and one pass that projects every row and writes the
//! scores, batch by batch.
//!
//! Invariants: no memory grows with the number of rows; the scores do not depend on batches, threads or
//! memory budget; a source that changed during the run is an error.

use std::sync::Arc;

use lowland_io::Source;

use super::{BlockwisePca, Covariance, Pca, PcaError, PcaPlan, PcaReport, RandomizedPca, Solver};
use crate::budget::{Budget, MemoryNeeds, Reservation, base_bytes};
use crate::component_variance::ComponentVariance;
use crate::error::FlawSummary;
use crate::observe::{Observer, Progress, RemarkLog};
use crate::remark::Level;
use crate::session::Session;
use crate::work::thread_pool;
use crate::{Error, MapSink, Result, precision, prepared_loader};

/// Finds the principal components of `source` and writes the scores of all rows to `sink`.
///
/// # Errors
/// [`Error::Invalid`] counts the rows that cannot be used, [`Error::Data`] names one;
/// [`Error::Cancelled`] if the observer stops the run. A cancelled run leaves nothing to resume: the same
/// call starts again.
pub fn run(
    plan: &PcaPlan,
    source: &Arc<dyn Source>,
    sink: &mut dyn MapSink,
    observer: &dyn Observer,
) -> Result<(Pca, PcaReport)> {
    thread_pool(plan.threads)?.install(|| {
        let rows = plan.shape.rows;
        let memory = plan.config.memory.saturating_sub(base_bytes(0, plan.threads));
        let heard = RemarkLog::new(observer);
        let mut session = Session::start(&heard, memory, Some(source.clone()))?;
        let [(scan, read), (output, write)] = plan.needs();
        let passes = plan.passes as u64 - 1;
        // The axes may be found in fewer passes than are allowed.
        let most = if passes > 1 { "rows at most" } else { "rows" };
        // The source is compared with its state at the beginning after the last pass.
        let ((pca, finder), stage) = session.stage(scan, (rows * passes, most), false, |progress, budget| {
            let _held = take(budget, &read)?;
            fit(plan, source, progress)
        })?;
        session.tell_end(stage, false)?;
        let mut report = PcaReport::new(plan, &pca);
        (report.passes, report.residual) = (finder.passes + 1, finder.residual);
        let ((), stage) = session.stage(output, (rows, "rows"), true, |progress, budget| {
            let _held = take(budget, &write)?;
            project(plan, &pca, source, sink, progress)
        })?;
        session.tell_end(stage, false)?;
        (report.stages, report.seconds) = session.end();
        let remarks = heard.since(0).into_iter();
        (report.warnings, report.notes) = remarks.partition(|remark| remark.level == Level::Warning);
        Ok((pca, report))
    })
}

/// Facts for the report about how the axes were found.
struct AxesFound {
    passes: usize,
    residual: Option<f64>,
}

fn fit(plan: &PcaPlan, source: &Arc<dyn Source>, progress: &Progress<'_>) -> Result<(Pca, AxesFound)> {
    let (dim, n_components) = (plan.shape.dim, plan.config.n_components);
    let (pca, found) = match plan.solver {
        Solver::Auto | Solver::Covariance => {
            let mut covariance = Covariance::new(dim);
            pass(plan, source, progress, true, |values| {
                covariance.add(values);
                Ok(())
            })?;
            (covariance.finish(n_components).map_err(failed)?, AxesFound { passes: 1, residual: None })
        }
        Solver::Incremental => {
            let mut blockwise = BlockwisePca::new(dim, n_components);
            pass(plan, source, progress, true, |values| {
                blockwise.add(values);
                Ok(())
            })?;
            (blockwise.finish().map_err(failed)?, AxesFound { passes: 1, residual: None })
        }
        Solver::Randomized => {
            let mut randomized = RandomizedPca::new(dim, n_components, plan.config.seed).map_err(failed)?;
            while randomized.needs_pass() {
                let first = randomized.passes() == 0;
                pass(plan, source, progress, first, |values| randomized.add(values))?;
                randomized.end_pass().map_err(failed)?;
            }
            let found = AxesFound { passes: randomized.passes(), residual: Some(randomized.residual()) };
            (randomized.finish().map_err(failed)?, found)
        }
    };
    if pca.total_variance == 0.0 {
        let what = format!("all {} rows are equal: there is no variance to explain", plan.shape.rows);
        return Err(Error::Data { what });
    }
    Ok((pca, found))
}

/// Passes all rows to `each`, in order; the first pass also checks them.
fn pass(
    plan: &PcaPlan,
    source: &Arc<dyn Source>,
    progress: &Progress<'_>,
    first: bool,
    mut each: impl FnMut(&[f32]) -> std::result::Result<(), PcaError>,
) -> Result<()> {
    let mut flaws = FlawSummary::default();
    let mut spread = ComponentVariance::new(plan.shape.dim);
    for batch in prepared_loader(source.clone(), plan.config.metric, plan.batch_rows) {
        let batch = batch?;
        let values = batch.values();
        if first {
            flaws.check_rows(plan.config.metric, source.as_ref(), batch.first, values, |_| {})?;
        }
        if !flaws.any() {
            if first {
                spread.add(values);
            }
            each(values).map_err(failed)?;
        }
        progress.traffic.read((batch.rows() * plan.source_row_bytes) as u64);
        progress.advance(batch.rows() as u64)?;
    }
    flaws.refuse(plan.shape.rows)?;
    if !first {
        return Ok(());
    }
    if let Some(outweighing) = spread.dominant(plan.config.metric) {
        progress.warn(
            "one-component",
            outweighing.explain_of(source.as_ref(), "the first axis shows almost only this component"),
        )?;
    }
    match precision::precision_note(&spread, source.as_ref())? {
        Some(text) => progress.note("coarse-components", text),
        None => Ok(()),
    }
}

fn project(
    plan: &PcaPlan,
    pca: &Pca,
    source: &Arc<dyn Source>,
    sink: &mut dyn MapSink,
    progress: &Progress<'_>,
) -> Result<()> {
    let whitened = plan.config.whiten.then(|| pca.whitened()).transpose().map_err(failed)?;
    let pca = whitened.as_ref().unwrap_or(pca);
    let mut scores = Vec::new();
    for batch in prepared_loader(source.clone(), plan.config.metric, plan.batch_rows) {
        let batch = batch?;
        scores.resize(batch.rows() * pca.n_components(), 0f32);
        pca.project(batch.values(), &mut scores);
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            let row = batch.first + (at / pca.n_components()) as u64;
            let why = "its scores exceed single precision; scale the data down";
            return Err(refused(source.as_ref(), row, why));
        }
        sink.write(batch.first, &scores)?;
        progress.traffic.read((batch.rows() * plan.source_row_bytes) as u64);
        progress.traffic.wrote(scores.len() as u64 * 4);
        progress.advance(batch.rows() as u64)?;
    }
    Ok(())
}

fn refused(source: &dyn Source, row: u64, why: &str) -> Error {
    let place = source.locate(row);
    Error::Data { what: format!("{}: row {}: {why}", place.path.display(), place.row) }
}

fn failed(error: PcaError) -> Error {
    match error {
        PcaError::TooManyComponents { .. } | PcaError::TooFewRows { .. } => {
            Error::Config { field: "n_components", why: error.to_string() }
        }
        PcaError::NoVariance { .. } => Error::Config { field: "whiten", why: error.to_string() },
        other => Error::Data { what: other.to_string() },
    }
}

/// Takes all phases of a stage.
fn take(budget: &Budget, needs: &MemoryNeeds) -> Result<Vec<Reservation>> {
    needs.phases.iter().map(|phase| budget.take(phase)).collect()
}
