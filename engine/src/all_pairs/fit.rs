//! Gradient descent: from an affinity, a loss and an optimizer to positions.
//!
//! What must hold: the positions depend only on the rows, the options and the seed, to the bit;
//! threads, memory and interruptions change nothing. A [`DescentState`] is everything that a later process
//! needs to continue.

use serde::{Deserialize, Serialize};

use super::affinity::{StreamedAffinity, check_positive, config_error};
use super::costs::{Cost, Costs};
use super::duplicates::{self, DistinctRows};
use super::init::{self, InitialPositions};
use super::loss::{ForceFactors, Loss, PreparedLoss};
use super::optimizer::{DescentOptimizer, OptimizerMoments};
use super::points::MAX_MAP_COMPONENTS;
use super::real::sum;
use super::weights::Weights;
use crate::observe::Progress;
use crate::{Error, Result};

/// The largest component value. Squared distances then stay in the range of f32.
const MAX_COMPONENT: f32 = 1e15;

/// The options of the optimisation. The defaults are those of TorchDR's neighbour embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Descent {
    /// Components of the map, 1 to 64. Default 2.
    pub n_components: usize,
    /// Initial positions. Default: PCA.
    pub init: InitialPositions,
    /// Standard deviation of the first component of the initial positions. Default 10⁻⁴.
    pub init_scaling: f64,
    /// The optimizer. Default: SGD with TorchDR's momentum.
    pub optimizer: DescentOptimizer,
    /// Learning rate. `None` is TorchDR's "auto": max(n/λ/4, 50) with SGD, where λ is the current
    /// exaggeration; 1 with the other optimizers. If the map's kernel is Gaussian, 50 is replaced
    /// by n/3 if that is less.
    pub lr: Option<f64>,
    /// The factor of the learning rate. Default: constant.
    pub schedule: Schedule,
    /// λ, the factor of the attraction in the first `early_exaggeration_iter` iterations. At least
    /// 1, which is the default.
    pub early_exaggeration: f64,
    /// The exact number of exaggerated iterations (TorchDR's code exaggerates one more). Default
    /// 250; no effect if λ is 1. Afterwards the optimizer's state is reset.
    pub early_exaggeration_iter: usize,
    /// The factor of the repulsion. Default 1.
    pub repulsion_strength: f64,
    /// The most iterations. Default 2000.
    pub max_iter: usize,
    /// The Euclidean norm of the gradient below which the descent ends. Default 10⁻⁷.
    pub min_grad_norm: f64,
    /// The interval of iterations at which the norm is tested, from the first iteration on. Default
    /// 50.
    pub check_interval: usize,
    /// Seed of every random draw. Default 42.
    pub seed: u64,
    /// Whether duplicate rows are fitted once. Default true.
    pub process_duplicates: bool,
}

impl Default for Descent {
    fn default() -> Self {
        Descent {
            n_components: 2,
            init: InitialPositions::Pca,
            init_scaling: 1e-4,
            optimizer: DescentOptimizer::SGD,
            lr: None,
            schedule: Schedule::Constant,
            early_exaggeration: 1.0,
            early_exaggeration_iter: 250,
            repulsion_strength: 1.0,
            max_iter: 2000,
            min_grad_norm: 1e-7,
            check_interval: 50,
            seed: 42,
            process_duplicates: true,
        }
    }
}

/// The factor of the learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Always 1.
    #[default]
    Constant,
    /// Linear from the first number to the second over `max_iter` iterations; (1, 0) is TorchDR's
    /// "auto". TorchDR's schedule restarts after the exaggeration and never reaches its end; this
    /// one counts from the first iteration.
    Linear(f64, f64),
}

/// Everything that determines the map of given rows.
pub struct Problem {
    /// The affinity that gives P.
    pub affinity: Box<dyn StreamedAffinity>,
    /// The cost of a pair of rows.
    pub cost: Cost,
    /// The loss between P and a map.
    pub loss: Box<dyn Loss>,
    /// The options of the optimisation.
    pub descent: Descent,
}

/// The inputs of a run beside its problem. None of them changes the result.
pub struct FitControl<'a> {
    /// Bytes in which rows of a dense P may be held, so that these are not recomputed in each
    /// iteration. 0 holds none.
    pub hold: u64,
    /// The state that an earlier process stored, if any.
    pub state: Option<DescentState>,
    /// Called with the state after every iteration. An error ends the run.
    pub keep: &'a mut dyn FnMut(&DescentState) -> Result<()>,
}

/// The state from which a descent can continue after any iteration: plain numbers of the distinct
/// rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DescentState {
    /// The iterations done.
    pub iteration: usize,
    /// The positions, n × n_components, row-major.
    pub positions: Vec<f64>,
    /// The optimizer's state.
    pub moments: OptimizerMoments,
    /// The loss's state: TSNEkhorn's dual.
    pub memory: Vec<f64>,
    /// Whether the gradient norm fell below `min_grad_norm`, so that the descent has ended.
    pub converged: bool,
}

/// The result of a fit.
#[derive(Debug, Clone, PartialEq)]
pub struct FittedMap {
    /// The positions, n × n_components, row-major, in the order of the input rows.
    pub positions: Vec<f32>,
    /// The iterations done.
    pub iterations: usize,
    /// Whether the gradient norm fell below `min_grad_norm`.
    pub converged: bool,
    /// The loss at the final positions.
    pub loss: f64,
    /// The number of distinct rows.
    pub distinct: usize,
}

impl Problem {
    /// Checks that the options are valid together and for n distinct rows.
    ///
    /// # Errors
    /// [`Error::Config`] with the option, the value and a way to correct it.
    pub fn check(&self, n: usize) -> Result<()> {
        let d = &self.descent;
        if n < 2 {
            return config_error("rows", format!("{n} distinct rows; a map needs at least 2"));
        }
        if n > u32::MAX as usize {
            return config_error("rows", format!("{n} rows; methods of all pairs support at most {}", u32::MAX));
        }
        if d.n_components == 0 || d.n_components > MAX_MAP_COMPONENTS {
            return config_error("n_components", format!("{}: give 1 to {MAX_MAP_COMPONENTS}", d.n_components));
        }
        check_positive("init_scaling", d.init_scaling)?;
        if let Some(lr) = d.lr {
            check_positive("lr", lr)?;
        }
        if !(d.early_exaggeration >= 1.0 && d.early_exaggeration.is_finite()) {
            return config_error("early_exaggeration", format!("{} is below 1", d.early_exaggeration));
        }
        if d.early_exaggeration > 1.0 && !self.loss.exaggerates() {
            let why = format!("the {} loss has no attraction to exaggerate; leave it 1", self.loss.name());
            return config_error("early_exaggeration", why);
        }
        if !(d.repulsion_strength >= 0.0 && d.repulsion_strength.is_finite()) {
            return config_error("repulsion_strength", format!("{} is not 0 or more", d.repulsion_strength));
        }
        if d.min_grad_norm.is_nan() || d.min_grad_norm < 0.0 {
            return config_error("min_grad_norm", format!("{} is not 0 or more", d.min_grad_norm));
        }
        if d.check_interval == 0 {
            return config_error("check_interval", "0: give at least 1");
        }
        if let DescentOptimizer::Sgd { momentum: Some(m) } = d.optimizer
            && !(0.0..1.0).contains(&m)
        {
            return config_error("momentum", format!("{m} is not from 0 to below 1"));
        }
        if let Schedule::Linear(from, to) = d.schedule
            && !(from >= 0.0 && to >= 0.0 && from.is_finite() && to.is_finite())
        {
            return config_error("schedule", format!("from {from} to {to}: both must be 0 or more"));
        }
        let ball = matches!(d.optimizer, DescentOptimizer::RiemannianAdam(_));
        if ball != self.loss.hyperbolic() || (d.init == InitialPositions::Hyperbolic) != ball {
            let why = format!(
                "the {} loss with the {} optimizer and {} init: maps in the Poincaré ball need all three hyperbolic, others none",
                self.loss.name(),
                d.optimizer.name(),
                d.init.name()
            );
            // Given positions may lie in the ball.
            if !(ball && self.loss.hyperbolic() && matches!(d.init, InitialPositions::Positions(_))) {
                return config_error("optimizer", why);
            }
        }
        self.loss.check()?;
        self.affinity.check_cost(self.cost)?;
        self.affinity.check(n)
    }

    /// Returns the learning rate at `iteration`, for n rows.
    fn rate(&self, n: usize, iteration: usize, exaggeration: f64) -> f64 {
        let d = &self.descent;
        let lr = d.lr.unwrap_or(match d.optimizer {
            DescentOptimizer::Sgd { .. } => (n as f64 / exaggeration / 4.0).max(self.loss.min_step(n)),
            _ => 1.0,
        });
        lr * match d.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear(from, to) => from + (to - from) * (iteration as f64 / d.max_iter.max(1) as f64).min(1.0),
        }
    }
}

/// Computes the map of `rows` (n × dim, row-major, finite) that `problem` defines.
///
/// If the affinity is precomputed, `rows` may be empty and `dim` 0.
///
/// # Errors
/// [`Error::Config`] if options are invalid; [`Error::Data`] if rows or positions are not finite;
/// [`Error::Cancelled`] if the observer asked to stop. A later run continues from the last state
/// that `keep` was called with.
pub fn fit(
    problem: &Problem,
    rows: &[f32],
    dim: usize,
    run: FitControl<'_>,
    progress: &Progress<'_>,
) -> Result<FittedMap> {
    let n = check_rows(problem, rows, dim)?;
    let distinct = if problem.descent.process_duplicates && problem.affinity.given().is_none() {
        duplicates::find(rows, dim)
    } else {
        None
    };
    let width = problem.descent.n_components;
    if let InitialPositions::Positions(given) = &problem.descent.init {
        if given.len() != n * width {
            let why = format!("{} numbers for {n} rows of {width} components; give {}", given.len(), n * width);
            return config_error("init", why);
        }
        if let Some(at) = given.iter().position(|x| !x.is_finite()) {
            return config_error("init", format!("row {}, component {} is {}", at / width, at % width, given[at]));
        }
    }
    match distinct {
        None => fit_distinct(problem, rows, dim, n, None, run, progress),
        Some(distinct) => {
            let unique = distinct.rows(rows, dim);
            let kept = distinct.kept.len();
            let mut fit = fit_distinct(problem, &unique, dim, kept, Some(&distinct), run, progress)?;
            fit.positions = distinct.to_all_rows(&fit.positions, width);
            Ok(fit)
        }
    }
}

/// Checks that the rows are whole and finite, and returns their number.
fn check_rows(problem: &Problem, rows: &[f32], dim: usize) -> Result<usize> {
    let data = |what: String| Err(Error::Data { what });
    if let Some(weights) = problem.affinity.given()
        && rows.is_empty()
    {
        return Ok(weights.len());
    }
    if dim == 0 || rows.is_empty() {
        return data("there are no rows to map".into());
    }
    if !rows.len().is_multiple_of(dim) {
        return data(format!("{} numbers are not a whole number of rows of {dim} components", rows.len()));
    }
    if let Some(at) = rows.iter().position(|x| !x.is_finite()) {
        let (row, component) = (at / dim, at % dim);
        return data(format!("row {row}, component {component} is {}; drop or fill such rows first", rows[at]));
    }
    if let Some(at) = rows.iter().position(|x| x.abs() > MAX_COMPONENT) {
        let (row, component) = (at / dim, at % dim);
        return data(format!(
            "row {row}, component {component} is {}; scale the data below {MAX_COMPONENT:e}",
            rows[at]
        ));
    }
    if problem.cost == Cost::Sqhyperbolic
        && let Some(row) = rows.chunks_exact(dim).position(|row| row.iter().map(|x| x * x).sum::<f32>() >= 1.0)
    {
        return data(format!("row {row} is not inside the ball of radius 1, which the sqhyperbolic metric needs"));
    }
    Ok(rows.len() / dim)
}

fn fit_distinct(
    problem: &Problem,
    rows: &[f32],
    dim: usize,
    n: usize,
    distinct: Option<&DistinctRows>,
    run: FitControl<'_>,
    progress: &Progress<'_>,
) -> Result<FittedMap> {
    problem.check(n)?;
    let costs;
    let mut found;
    let weights: &Weights<'_> = match problem.affinity.given() {
        Some(given) => given,
        None => {
            costs = Costs::new(rows, dim, problem.cost);
            found = problem.affinity.solve(&costs, progress)?;
            if let Weights::Tiled(tiled) = &mut found {
                tiled.hold(run.hold, progress)?;
            }
            &found
        }
    };
    let objective = problem.loss.prepare(weights, rows, dim, progress)?;
    descend(problem, weights, (rows, dim), distinct, objective, run, progress)
}

fn descend(
    problem: &Problem,
    weights: &Weights<'_>,
    data: (&[f32], usize),
    distinct: Option<&DistinctRows>,
    mut objective: Box<dyn PreparedLoss + '_>,
    run: FitControl<'_>,
    progress: &Progress<'_>,
) -> Result<FittedMap> {
    let d = &problem.descent;
    let (n, width) = (weights.len(), d.n_components);
    let mut state = match run.state {
        Some(state) => {
            check_state(&state, objective.as_mut(), n, problem)?;
            state
        }
        None => {
            let kept = distinct.map(|d| d.kept.as_slice());
            let ball = problem.loss.hyperbolic();
            let scaling = (d.init_scaling, d.seed);
            let positions = init::positions(&d.init, data, weights, width, scaling, ball, kept)?;
            DescentState { positions, moments: d.optimizer.begin(n, width), ..DescentState::default() }
        }
    };
    if let Some(memory) = objective.carried_state()
        && !state.memory.is_empty()
    {
        memory.clone_from(&state.memory);
    }
    let mut gradient = vec![0.0; n * width];
    while state.iteration < d.max_iter && !state.converged {
        let t = state.iteration;
        let exaggeration = if t < d.early_exaggeration_iter { d.early_exaggeration } else { 1.0 };
        if t > 0 && t == d.early_exaggeration_iter && d.early_exaggeration > 1.0 {
            state.moments = d.optimizer.begin(n, width);
        }
        let strengths = ForceFactors { attraction: exaggeration, repulsion: d.repulsion_strength };
        objective.evaluate(&state.positions, width, strengths, false, &mut gradient, progress)?;
        let rate = problem.rate(n, t, exaggeration);
        d.optimizer.step(rate, exaggeration > 1.0, width, &mut state.positions, &gradient, &mut state.moments);
        if let Some(at) = state.positions.iter().position(|x| !x.is_finite()) {
            let what = format!(
                "row {} of the map became {} in iteration {t}, with a step of {rate}; lower lr",
                distinct.map_or(at / width, |d| d.kept[at / width] as usize),
                state.positions[at]
            );
            return Err(Error::Data { what });
        }
        if t.is_multiple_of(d.check_interval) {
            state.converged = sum(gradient.iter().map(|g| g * g)).sqrt() < d.min_grad_norm;
        }
        state.iteration += 1;
        if let Some(memory) = objective.carried_state() {
            state.memory.clone_from(memory);
        }
        (run.keep)(&state)?;
        progress.advance(1)?;
    }
    let strengths = ForceFactors { attraction: 1.0, repulsion: d.repulsion_strength };
    let loss = objective.evaluate(&state.positions, width, strengths, true, &mut gradient, progress)?;
    let positions = state.positions.iter().map(|&x| x as f32).collect();
    Ok(FittedMap { positions, iterations: state.iteration, converged: state.converged, loss, distinct: n })
}

/// Checks that a stored state belongs to this problem.
fn check_state(state: &DescentState, objective: &mut dyn PreparedLoss, n: usize, problem: &Problem) -> Result<()> {
    let width = problem.descent.n_components;
    let fresh = problem.descent.optimizer.begin(n, width);
    let memory = objective.carried_state().map_or(0, |memory| memory.len());
    let fits = state.positions.len() == n * width
        && state.moments.first.len() == fresh.first.len()
        && state.moments.second.len() == fresh.second.len()
        && (state.memory.len() == memory || state.iteration == 0);
    if fits && state.positions.iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    let what = format!(
        "the checkpoint of iteration {} does not have {n} rows of {width} components; begin again",
        state.iteration
    );
    Err(Error::Data { what })
}
