//! The layout stage: epochs of the optimizer over the edge store.
//!
//! Resident are the positions, their snapshot and Adam's moments, all rows ×
//! components: 32 bytes a row in the plane, which is the floor under every
//! budget. Edges are kept in memory while the budget allows and read again
//! each epoch where it does not (`walk`); the state is kept on disk from time
//! to time (`checkpoint`).

mod checkpoint;
pub mod curve;
mod lanes;
mod math;
mod rows;
mod walk;

use rayon::prelude::*;

use crate::affinity::{Affinities, EdgeStore};
use crate::budget::Needs;
use crate::index::Made;
use crate::observe::Progress;
use crate::plan::Plan;
use crate::work::Work;
use crate::{Error, Result, affinity, init, pages};
pub use checkpoint::{Checkpoints, State};
use curve::Curve;
use rows::{Epoch, SHARING};
pub use walk::Edges;

/// The map's positions in the run directory: rows × components floats, list order.
pub const POSITIONS: &str = "positions.f32";
/// Components a map may have; each gets a kernel of its own.
const WIDTHS: [usize; 8] = [1, 2, 3, 4, 8, 16, 32, 64];

/// What decides a layout beside its edges and first positions.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Rows of the map.
    pub rows: u32,
    /// Components of the map.
    pub n_components: usize,
    /// Passes over the edges.
    pub epochs: usize,
    /// The curve that turns distances into memberships.
    pub curve: Curve,
    /// The first epoch's step.
    pub learning_rate: f32,
    /// Pushes for each pull.
    pub negative_sample_rate: usize,
    /// The largest weight of the edges.
    pub max_weight: f32,
    /// The seed.
    pub seed: u64,
}

/// Where a layout begins.
pub enum Start<'a> {
    /// First positions, rows × n_components.
    Positions(&'a [f32]),
    /// After some epochs.
    State(State),
}

/// Runs the stage: the run's edges and first positions to its map.
pub fn build(plan: &Plan, affinities: &Affinities, work: &Work<'_>) -> Result<Made> {
    let config = &plan.config;
    let options = Options {
        rows: plan.shape.rows as u32,
        n_components: config.n_components,
        epochs: plan.layout.epochs,
        curve: curve::fit(config.min_dist, config.spread),
        learning_rate: config.learning_rate,
        negative_sample_rate: config.negative_sample_rate,
        max_weight: affinities.max_weight,
        seed: config.seed,
    };
    let held = work.hold(&needs(plan), "epochs")?;
    let store = EdgeStore::open(work.run.dir(), plan.shape.rows)?;
    let edges = Edges::stored(&store, plan.layout.cache_bytes, edge_bytes(plan), &options, work)?;
    drop(store);
    let mut checkpoints = checkpoint::Stored::new(*work, options.rows, plan.layout.checkpoint);
    let positions = match checkpoints.found()? {
        Some(state) => run(&options, &edges, Start::State(state), &mut checkpoints, work.progress)?,
        None => {
            let first = init::Positions::open(&work.path(init::INIT), plan.shape.rows, config.n_components)?;
            run(&options, &edges, Start::Positions(first.values()?), &mut checkpoints, work.progress)?
        }
    };
    drop(edges);
    check_finite(&positions)?;
    let stamp = init::write_positions(&work.path(POSITIONS), &positions)?;
    work.progress.traffic.wrote(stamp.bytes);
    drop(held);
    Ok(vec![(POSITIONS.to_string(), stamp)])
}

/// Positions must be numbers: a learning rate far too large can lose them.
fn check_finite(positions: &[f32]) -> Result<()> {
    if positions.par_iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(Error::Config {
        field: "learning_rate",
        why: "the layout ran away from the numbers there are; try a smaller one".into(),
    })
}

/// Lays out: moves `start` through all epochs. When the run is to stop, the
/// epoch under way is finished and kept first.
pub fn run(
    options: &Options,
    edges: &Edges,
    start: Start<'_>,
    checkpoints: &mut dyn Checkpoints,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    let width = options.n_components;
    match padded(width) {
        Some(1) => wide::<1>(options, edges, start, checkpoints, progress),
        Some(2) => wide::<2>(options, edges, start, checkpoints, progress),
        Some(3) => wide::<3>(options, edges, start, checkpoints, progress),
        Some(4) => wide::<4>(options, edges, start, checkpoints, progress),
        Some(8) => wide::<8>(options, edges, start, checkpoints, progress),
        Some(16) => wide::<16>(options, edges, start, checkpoints, progress),
        Some(32) => wide::<32>(options, edges, start, checkpoints, progress),
        Some(64) => wide::<64>(options, edges, start, checkpoints, progress),
        _ => Err(Error::Config { field: "n_components", why: format!("{width} is more than 64") }),
    }
}

/// Components as the kernels take them: padded with zeros to the next width that has one.
fn padded(n_components: usize) -> Option<usize> {
    WIDTHS.iter().copied().find(|&width| width >= n_components)
}

/// Bytes a row holds: position, snapshot and two moments of each component.
fn row_bytes(n_components: usize) -> u64 {
    4 * 4 * padded(n_components).unwrap_or(n_components) as u64
}

fn wide<const DIM: usize>(
    options: &Options,
    edges: &Edges,
    start: Start<'_>,
    checkpoints: &mut dyn Checkpoints,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    let width = options.n_components;
    let mut now: Vec<[f32; DIM]> = pages::filled(options.rows as usize, [0.0; DIM]);
    let mut moments = pages::filled(now.len(), [[0f32; DIM]; 2]);
    let begin = match start {
        Start::Positions(positions) => {
            for (out, row) in now.iter_mut().zip(positions.chunks_exact(width)) {
                out[..width].copy_from_slice(row);
            }
            0
        }
        Start::State(state) => {
            let (positions, moved) = state.numbers()?;
            if positions.len() != now.len() * DIM {
                return Err(Error::Data { what: "the checkpoint is of a map with other components".into() });
            }
            now.as_flattened_mut().copy_from_slice(positions);
            moments.as_flattened_mut().as_flattened_mut().copy_from_slice(moved);
            progress.advance(u64::from(state.epoch))?;
            state.epoch
        }
    };
    let mut snapshot = pages::filled(now.len(), [0.0; DIM]);
    snapshot.copy_from_slice(&now);
    // Blocks in portions: what is spilled is read meanwhile, some ahead. With
    // all of them kept there is nothing to wait for within an epoch.
    let portion = match edges.spilled_bytes() {
        0 => edges.count().max(1),
        _ => walk::portion(rayon::current_num_threads()),
    };
    for number in begin + 1..=options.epochs as u32 {
        let epoch = Epoch {
            curve: options.curve,
            number,
            step: options.learning_rate * (1.0 - (number - 1) as f32 / options.epochs as f32),
            negatives: options.negative_sample_rate as u32,
            rows: options.rows,
            seed: options.seed,
        };
        std::mem::swap(&mut now, &mut snapshot);
        let (mut rest, mut moving) = (now.as_mut_slice(), moments.as_mut_slice());
        let mut first = 0;
        for start in (0..edges.count()).step_by(portion) {
            let held = edges.next(start..(start + portion).min(edges.count()))?;
            // Each chunk of rows with the block that holds its edges; a chunk
            // ends where the rows that share their draws do.
            let mut work = Vec::new();
            for block in &held {
                let end = first + block.rows() as u32;
                while first < end {
                    let count = (end.min((first / SHARING + 1).saturating_mul(SHARING)) - first) as usize;
                    let (positions, moments);
                    ((positions, rest), (moments, moving)) = (rest.split_at_mut(count), moving.split_at_mut(count));
                    work.push((&**block, first, positions, moments));
                    first += count as u32;
                }
            }
            work.into_par_iter().for_each(|(block, first, positions, moments)| {
                // Rows that do not move keep their place.
                positions.copy_from_slice(&snapshot[first as usize..][..positions.len()]);
                rows::advance(&epoch, block, first, &snapshot, positions, moments);
            });
        }
        progress.traffic.read(edges.spilled_bytes());
        let told = progress.advance(1);
        let stopping = matches!(told, Err(Error::Cancelled { .. }));
        if number < options.epochs as u32 && (stopping || checkpoints.due()) {
            let kept = checkpoints.keep(number, now.as_flattened(), moments.as_flattened().as_flattened());
            // What stopped the run is told, unless keeping failed for a reason of its own.
            if let Err(error) = kept
                && !(stopping && matches!(error, Error::Cancelled { .. }))
            {
                return Err(error);
            }
        }
        told?;
    }
    drop((snapshot, moments));
    let mut positions = now.into_flattened();
    if DIM != width {
        for row in 0..options.rows as usize {
            positions.copy_within(row * DIM..row * DIM + width, row * width);
        }
        positions.truncate(options.rows as usize * width);
    }
    Ok(positions)
}

/// Bytes of all edges as they are walked, by a usual graph's degree. What a
/// graph has beyond that is spilled, whatever the budget.
pub fn edge_bytes(plan: &Plan) -> u64 {
    let rows = plan.shape.rows;
    walk::bytes(rows, affinity::likely_edges(rows, plan.k()))
}

/// What the stage holds: a map's state, kept edges, and blocks on their way.
pub fn needs(plan: &Plan) -> Needs {
    let (rows, threads) = (plan.shape.rows, plan.threads);
    let (block_rows, block_edges) = affinity::most_of_block(rows, plan.k());
    let block = walk::bytes(block_rows, block_edges);
    // Each thread decodes a block of the store, whole, to what is walked.
    let decoding = threads as u64 * (affinity::block_visiting_bytes(rows, plan.k()) + block);
    let read = if plan.layout.cache_bytes < edge_bytes(plan) { walk::ahead(threads) as u64 * block } else { 0 };
    Needs::default().phase(
        "epochs",
        [
            ("positions, snapshot, moments", rows * row_bytes(plan.config.n_components)),
            ("edges kept", plan.layout.cache_bytes),
            // One for each chunk that an epoch is divided into.
            ("chunks of rows", rows.div_ceil(u64::from(SHARING)) * 64),
            ("blocks decoded or read ahead", decoding.max(read)),
        ],
    )
}

/// Bytes of a checkpoint; two are there while one takes the other's place.
pub fn checkpoint_bytes(plan: &Plan) -> u64 {
    checkpoint::bytes(plan.shape.rows, row_bytes(plan.config.n_components) / 16)
}
