//! An exact method as the layout stage of a run: reads the rows into memory, solves the problem,
//! and writes the positions in the source's row order.
//!
//! What must hold: the positions depend only on the rows and the config; the budget decides only
//! how much of P is held. If the process is killed, the work since the last checkpoint is lost, and
//! P must be computed again.

use std::sync::Arc;

use lowland_io::Source;
use serde::{Deserialize, Serialize};

use super::checkpoint::{self, DescentCheckpoints};
use super::fit::{DescentState, FitControl, Problem, fit};
use super::init::InitialPositions;
use super::needs::{ProblemNeeds, needs as takes_of};
use crate::batch::prepared_loader;
use crate::budget::{MemoryNeeds, MemoryPart, Phase};
use crate::inputs::PositionSource;
use crate::plan::Plan;
use crate::positions::{POSITIONS, map_bytes, write_positions};
use crate::work::{StageContext, StageFiles};
use crate::{Error, Init, Result, init};

/// The result of a descent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DescentStats {
    /// The iterations done.
    pub iterations: usize,
    /// Whether the gradient norm fell below `min_grad_norm`.
    pub converged: bool,
    /// The loss at the final positions.
    pub loss: f64,
    /// The number of distinct rows; duplicates are fitted once.
    pub distinct: usize,
}

/// Refuses first positions from a file that the problem cannot start from.
pub(crate) fn check_first(
    plan: &Plan,
    problem: &Problem,
    first: Option<&dyn PositionSource>,
    work: &StageContext<'_>,
) -> Result<()> {
    let Init::File(path) = &plan.settings.init else { return Ok(()) };
    let _held = work.reserve(&needs(plan, problem), READ)?;
    let given = init::place_unconnected(plan, init::load(plan, path, first, work)?);
    super::init::check_given(&given, plan.settings.n_components, problem.loss.hyperbolic())
}

/// Reads all rows into memory, preprocessed for the metric.
pub(super) fn read(plan: &Plan, source: &Arc<dyn Source>, work: &StageContext<'_>) -> Result<Vec<f32>> {
    let wanted = plan.shape.rows as usize * plan.shape.dim;
    let mut rows = Vec::with_capacity(wanted);
    for batch in prepared_loader(source.clone(), plan.settings.metric, plan.batch_rows) {
        let batch = batch?;
        work.progress.traffic.read((batch.rows() * plan.source_row_bytes) as u64);
        work.progress.check()?;
        if rows.len() + batch.values().len() > wanted {
            break;
        }
        rows.extend_from_slice(batch.values());
    }
    if rows.len() != wanted {
        return Err(Error::Data { what: "the source returned fewer rows than it announced".into() });
    }
    if plan.settings.metric.has_unit_rows() {
        // For rows of length 1, half of the squared distance is 1 minus the cosine.
        rows.iter_mut().for_each(|x| *x *= std::f32::consts::FRAC_1_SQRT_2);
    }
    Ok(rows)
}

/// Solves the plan's problem, from an earlier process's checkpoint if there is one, and writes the
/// positions. Positions from a file are read here.
pub(crate) fn build(
    plan: &Plan,
    mut problem: Problem,
    source: &Arc<dyn Source>,
    first: Option<&dyn PositionSource>,
    work: &StageContext<'_>,
) -> Result<(StageFiles, DescentStats)> {
    let needs = needs(plan, &problem);
    let mut stored = DescentCheckpoints::new(*work, plan.layout.checkpoint);
    let held = work.reserve(&needs, READ)?;
    let rows = read(plan, source, work)?;
    if let Init::File(path) = &plan.settings.init {
        problem.descent.init =
            InitialPositions::Positions(init::place_unconnected(plan, init::load(plan, path, first, work)?));
    }
    let state = stored.load()?;
    drop(held);
    let fitting = needs.phases.iter().filter(|phase| phase.name != READ).max_by_key(|phase| phase.bytes());
    let _held = fitting.map(|phase| work.budget.take(phase)).transpose()?;

    let begun = state.as_ref().map_or(0, |state| state.iteration);
    work.progress.advance(begun as u64)?;
    let (mut last, mut kept) = (DescentState::default(), begun);
    let mut keep = |state: &DescentState| {
        copy_state(&mut last, state);
        if stored.due() {
            stored.save(state)?;
            kept = state.iteration;
        }
        Ok(())
    };
    let hold = plan.all_pairs.as_ref().map_or(0, |exact| exact.hold_bytes);
    let run = FitControl { hold, state, keep: &mut keep };
    let result = fit(&problem, &rows, plan.shape.dim, run, work.progress);
    if matches!(result, Err(Error::Cancelled { .. })) && last.iteration > kept {
        // Recording the checkpoint reports the cancellation once more.
        match stored.save(&last) {
            Err(Error::Cancelled { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    let fit = result?;
    let stamp = write_positions(work.create(POSITIONS)?, &fit.positions)?;
    work.progress.traffic.wrote(stamp.bytes);
    let fitted =
        DescentStats { iterations: fit.iterations, converged: fit.converged, loss: fit.loss, distinct: fit.distinct };
    Ok((vec![(POSITIONS.into(), stamp)], fitted))
}

/// Copies a state into the memory of another one.
fn copy_state(to: &mut DescentState, from: &DescentState) {
    (to.iteration, to.converged, to.moments.steps) = (from.iteration, from.converged, from.moments.steps);
    to.positions.clone_from(&from.positions);
    to.moments.first.clone_from(&from.moments.first);
    to.moments.second.clone_from(&from.moments.second);
    to.memory.clone_from(&from.memory);
}

const READ: &str = "read";

/// Returns the number of f64 values in a checkpoint.
fn numbers(plan: &Plan, problem: &Problem) -> u64 {
    let width = plan.settings.n_components;
    // One number for each row is TSNEkhorn's dual.
    plan.shape.rows * (problem.descent.optimizer.numbers(width) + width + 1) as u64
}

/// Returns the memory and operations of the plan's problem, if `hold` bytes hold rows of P.
pub(crate) fn needs_of_problem(plan: &Plan, problem: &Problem, hold: u64) -> ProblemNeeds {
    takes_of(problem, plan.shape.rows as usize, plan.shape.dim, plan.threads, hold)
}

/// Returns the bytes of the rows in memory.
pub(super) fn row_bytes(plan: &Plan) -> u64 {
    plan.shape.rows * plan.shape.dim as u64 * 4
}

/// Returns the memory that the stage holds for the plan's problem.
pub(crate) fn needs(plan: &Plan, problem: &Problem) -> MemoryNeeds {
    let hold = plan.all_pairs.as_ref().map_or(0, |exact| exact.hold_bytes);
    let rows = ("rows", row_bytes(plan));
    let map = map_bytes(plan);
    let state = numbers(plan, problem) * 8;
    let first = if matches!(plan.settings.init, Init::File(_)) { 2 * map } else { 0 };
    let mut needs = MemoryNeeds::default().phase(
        READ,
        [rows, ("batches", plan.loader_bytes()), ("first positions", first), ("the last checkpoint", state)],
    );
    for Phase { name, mut parts } in needs_of_problem(plan, problem, hold).needs.phases {
        let beside = [rows, ("first positions", first), ("a checkpoint", state), ("the map", 2 * map)];
        parts.extend(
            beside
                .map(|(what, bytes)| MemoryPart { what: what.into(), bytes })
                .into_iter()
                .filter(|part| part.bytes > 0),
        );
        needs.phases.push(Phase { name, parts });
    }
    needs
}

/// Returns the bytes of a checkpoint of the plan's problem.
pub(crate) fn disk(plan: &Plan, problem: &Problem) -> u64 {
    checkpoint::bytes(numbers(plan, problem))
}
