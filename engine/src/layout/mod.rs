//! The layout stage: runs the optimizer's epochs over the edge store.
//!
//! A kernel (`kernel`) computes the new positions of some rows in one epoch. UMAP has a kernel of its own (`umap`).
//! All other methods use the kernel in `weighted`, which weighs every edge in every epoch and takes the
//! repulsive force either from drawn rows (`pool`) or from a grid (`field`).
//!
//! In memory are the positions, their snapshot at the start of the epoch, and the optimizer's two moments, each
//! of rows × components: 32 bytes a row in the plane. These bytes are the smallest amount of memory that a
//! layout can run in. Edges are kept in memory as far as the budget allows; the others are read from disk in
//! every epoch (`edge_blocks`). The state is written to disk at time intervals (`checkpoint`).
//!
//! A layout of four rows in memory, two and two of which are neighbours:
//!
//! ```
//! use lowland_engine::layout::{LayoutEdges, LayoutOptions, LayoutStart, run};
//! use lowland_engine::{Method, Progress, methods};
//! use lowland_io::EdgeBlock;
//!
//! // Row i has one edge, to neighbors[i], of weight 1.
//! let (offsets, neighbors) = (vec![0, 1, 2, 3, 4], vec![1, 0, 3, 2]);
//! let block = EdgeBlock { first_row: 0, offsets, neighbors, weights: vec![1.0; 4] };
//! let options = LayoutOptions { epochs: 50, ..methods::options(Method::UMAP, 4)? };
//! let edges = LayoutEdges::in_memory(&block, &options);
//! let start = LayoutStart::Positions(&[0.0, 0.0, 9.0, 0.0, 0.0, 9.0, 9.0, 9.0]);
//! let map = run(&options, &edges, start, &mut (), &Progress::silent())?;
//! let distance = |a: usize, b: usize| (map[2 * a] - map[2 * b]).hypot(map[2 * a + 1] - map[2 * b + 1]);
//! assert!(distance(0, 1) < distance(0, 2));
//! # Ok::<(), lowland_engine::Error>(())
//! ```

mod checkpoint;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod cuda;
pub mod curve;
mod edge_blocks;
pub(crate) mod field;
pub(crate) mod kernel;
mod math;
mod optimizer;
mod pool;
pub(crate) mod umap;
pub(crate) mod weighted;

use rayon::prelude::*;

use crate::affinity::{AffinityStats, EdgeStore};
use crate::budget::{MemoryNeeds, MemoryPart, Phase, base_bytes};
pub use crate::config::Optimizer;
use crate::config::{Method, Settings};
pub use crate::device::{Device, Gpu};
use crate::error::format_bytes;
use crate::observe::Progress;
use crate::plan::Plan;
use crate::positions::{INIT, POSITIONS, Positions, write_positions};
use crate::work::{StageContext, StageFiles};
use crate::{Error, Result, affinity, pages};
pub use checkpoint::{CheckpointSink, LayoutState};
#[cfg(feature = "cuda")]
use cuda::run as run_on_gpu;
use curve::MembershipCurve;
pub use edge_blocks::{LayoutEdges, WeightCode};
#[cfg(test)]
pub(crate) use edge_blocks::{PackedBlock, root_unit};
pub use field::RepulsionField;
pub use kernel::LayoutObjective;
use kernel::{Epoch, LayoutKernel, RowChunk};
pub use math::powers;
pub(crate) use optimizer::OptimizerStep;
use pool::ROWS_PER_POOL;

/// Numbers of components for which a kernel is compiled. A map of another number of components is padded with
/// zeros to the next of these.
pub(crate) const KERNEL_WIDTHS: [usize; 8] = [1, 2, 3, 4, 8, 16, 32, 64];

/// Lower bound of the default learning rate of momentum for methods that draw negative samples, in units of the
/// gradient.
const MIN_RATE: f32 = 50.0;
/// Extent of the map below which attraction is not exaggerated, for methods with a repulsive field: a tenth of
/// the standard deviation of such a map's first positions.
const MIN_EXAGGERATED_WIDTH: f64 = 1e-5;

/// Everything that a layout depends on besides the edges and the first positions.
#[derive(Debug, Clone, Copy)]
pub struct LayoutOptions {
    /// The loss that is minimised.
    pub objective: &'static dyn LayoutObjective,
    /// Number of rows of the map.
    pub rows: u32,
    /// Number of components of the map.
    pub n_components: usize,
    /// Number of epochs (passes over the edges).
    pub epochs: usize,
    /// The curve that turns map distances into memberships. Only UMAP uses it.
    pub curve: MembershipCurve,
    /// How rows are moved. UMAP's kernel always uses Adam, with decay rates of its own.
    pub optimizer: Optimizer,
    /// Learning rate of the first epoch, in units of the gradient for momentum and gains. `None` stands for the
    /// optimizer's default: 1 for Adam; for momentum and gains rows / 4 divided by the exaggeration in force,
    /// and at least 50 divided by that exaggeration where the method draws negative samples.
    pub learning_rate: Option<f32>,
    /// Number of epochs after which the learning rate falls linearly to 0. `None`: the learning rate is
    /// constant.
    pub decays_after: Option<u32>,
    /// Number of epochs after which a few random draws are used in turn, and the number of these draws; `None`: each
    /// epoch has its own draw.
    pub rounds: Option<(u32, u32)>,
    /// Number of negative samples: for each edge that fires (UMAP), or for each row (other methods).
    pub negatives: usize,
    /// Factor of the attraction in the first `exaggerated` epochs.
    pub early_exaggeration: f32,
    /// Number of epochs with early exaggeration.
    pub exaggeration_epochs: usize,
    /// The largest weight of the edges.
    pub max_weight: f32,
    /// Seed of the random draws.
    pub seed: u64,
}

impl LayoutOptions {
    /// Returns a method's default options for a map of `rows` rows in the plane whose edge weights are at most
    /// 1. `objective` is the method's loss.
    pub(crate) fn for_method(objective: &'static dyn LayoutObjective, method: Method, rows: u32) -> Self {
        let settings = Settings::defaults_for(method, u64::from(rows));
        let epochs = method.epochs(u64::from(rows));
        LayoutOptions { max_weight: 1.0, ..LayoutOptions::from_settings(objective, &settings, rows, epochs) }
    }

    /// Returns the options that the settings of a run ask for. `objective` is the loss of their method.
    pub fn from_settings(
        objective: &'static dyn LayoutObjective,
        settings: &Settings,
        rows: u32,
        epochs: usize,
    ) -> Self {
        let method = settings.method;
        LayoutOptions {
            objective,
            rows,
            n_components: settings.n_components,
            epochs,
            curve: curve::fit(settings.min_dist, settings.spread),
            optimizer: settings.optimizer,
            learning_rate: settings.learning_rate,
            decays_after: method.decays_after(epochs as u32),
            rounds: method.rounds(epochs as u32),
            negatives: method.negatives(settings),
            early_exaggeration: settings.early_exaggeration,
            exaggeration_epochs: method.exaggeration_epochs(settings, epochs),
            max_weight: 1.0,
            seed: settings.seed,
        }
    }

    /// Returns the parameters of the epoch with this number, counted from 1. `extent` is the larger side of the
    /// map's bounding box at the start of the epoch; it is known only where the method has a repulsive field.
    fn epoch(&self, number: u32, extent: Option<f64>) -> Epoch {
        let exaggerated = number <= self.exaggeration_epochs as u32;
        let exaggeration = if exaggerated { self.early_exaggeration } else { 1.0 };
        let rows = self.rows as f32;
        // With a repulsive field, a learning rate of n / 4 is stable for few rows too, whereas 50 would throw
        // few rows so far apart that attraction could not bring them together again.
        let least = if self.objective.uses_field() { 0.0 } else { MIN_RATE };
        let rate = match (self.optimizer, self.learning_rate) {
            (Optimizer::Adam, asked) => asked.unwrap_or(1.0),
            // Kernels compute n times the gradient.
            (Optimizer::Momentum | Optimizer::Gains, Some(asked)) => asked / rows,
            // The lower bound is divided by the exaggeration too: a rate of 50 with exaggerated attraction
            // would throw few rows about.
            (Optimizer::Momentum | Optimizer::Gains, None) => (rows / 4.0).max(least) / exaggeration / rows,
        };
        let falls = match self.decays_after {
            Some(after) if number > after => {
                1.0 - (number - 1 - after) as f32 / (self.epochs as u32).saturating_sub(after).max(1) as f32
            }
            _ => 1.0,
        };
        let drawn = match self.rounds {
            Some((after, draws)) if number > after => after + 1 + (number - after - 1) % draws,
            _ => number,
        };
        Epoch {
            curve: self.curve,
            number,
            draw_epoch: drawn,
            epochs: self.epochs as u32,
            stepper: OptimizerStep {
                optimizer: self.optimizer,
                rate: rate * falls,
                since: if exaggerated { number } else { number - self.exaggeration_epochs as u32 },
            },
            // With few rows, exaggerated attraction outweighs the repulsion at any distance. Exaggeration would
            // shrink the map by a constant factor in every epoch, until f32 no longer distinguishes the rows.
            exaggeration: if extent.is_some_and(|extent| extent < MIN_EXAGGERATED_WIDTH) { 1.0 } else { exaggeration },
            negatives: self.negatives as u32,
            unit: edge_blocks::root_unit(self.max_weight),
            rows: self.rows,
            seed: self.seed,
        }
    }
}

/// The state in which a layout begins.
pub enum LayoutStart<'a> {
    /// First positions, rows × n_components.
    Positions(&'a [f32]),
    /// A checkpoint after some epochs.
    State(LayoutState),
}

/// Runs the stage: reads the edge store and the first positions (or a checkpoint), and writes the map. `objective`
/// is the loss of the plan's method.
pub fn build(
    plan: &Plan,
    objective: &'static dyn LayoutObjective,
    affinities: &AffinityStats,
    gpu: Option<&Gpu>,
    work: &StageContext<'_>,
) -> Result<StageFiles> {
    let settings = &plan.settings;
    let asked = LayoutOptions::from_settings(objective, settings, plan.shape.rows as u32, plan.layout.epochs);
    let options = LayoutOptions { max_weight: affinities.max_weight, ..asked };
    let held = work.reserve(&needs(plan), "epochs")?;
    let welcome = gpu.map(|_| work.budget.take(&optional_gpu_phase(plan))).transpose()?;
    let store = EdgeStore::open(work.run.dir(), plan.shape.rows)?;
    let edges = LayoutEdges::load(&store, plan.layout.cache_bytes, edge_bytes(plan), &options, work)?;
    drop(store);
    let mut checkpoints = checkpoint::RunCheckpoints::new(*work, options.rows, plan.layout.checkpoint);
    let positions = match checkpoints.load()? {
        Some(state) => run_on(gpu, &options, &edges, LayoutStart::State(state), &mut checkpoints, work.progress)?,
        None => {
            let first = Positions::open(&work.path(INIT), plan.shape.rows, settings.n_components)?;
            let start = LayoutStart::Positions(first.values()?);
            run_on(gpu, &options, &edges, start, &mut checkpoints, work.progress)?
        }
    };
    drop(edges);
    check_finite(&positions)?;
    let stamp = write_positions(work.create(POSITIONS)?, &positions)?;
    work.progress.traffic.wrote(stamp.bytes);
    drop((held, welcome));
    Ok(vec![(POSITIONS.to_string(), stamp)])
}

/// Refuses positions that are not finite, which a learning rate far too large can cause.
fn check_finite(positions: &[f32]) -> Result<()> {
    if positions.par_iter().all(|x| x.is_finite()) {
        return Ok(());
    }
    Err(diverged())
}

fn diverged() -> Error {
    Error::Config { field: "learning_rate", why: "the layout diverged; try a smaller learning rate".into() }
}

/// Runs a layout on the CPU: [`run_on`] without a GPU.
///
/// # Errors
/// The same as of [`run_on`].
pub fn run(
    options: &LayoutOptions,
    edges: &LayoutEdges,
    start: LayoutStart<'_>,
    checkpoints: &mut dyn CheckpointSink,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    run_on(None, options, edges, start, checkpoints, progress)
}

/// Runs all epochs from `start`, on a GPU if given, and returns the final positions, rows × n_components. When
/// the run is stopped, the current epoch is finished and a checkpoint is written first.
///
/// # Errors
/// If the run is stopped, if positions become infinite or NaN, if a checkpoint cannot be written, or if the
/// device fails.
pub fn run_on(
    gpu: Option<&Gpu>,
    options: &LayoutOptions,
    edges: &LayoutEdges,
    start: LayoutStart<'_>,
    checkpoints: &mut dyn CheckpointSink,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    options.objective.run(gpu, options, edges, start, checkpoints, progress)
}

/// Runs a layout with a kernel that is known at compile time: calls [`run_width`] for the padded number of
/// components.
fn run_kernel<K: LayoutKernel>(
    kernel: &K,
    gpu: Option<&Gpu>,
    options: &LayoutOptions,
    edges: &LayoutEdges,
    start: LayoutStart<'_>,
    checkpoints: &mut dyn CheckpointSink,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    let width = options.n_components;
    match kernel_width(width) {
        Some(2) => run_width::<K, 2>(kernel, gpu, options, edges, start, checkpoints, progress),
        Some(_) if K::USES_FIELD => {
            let why = format!("{width}; the method supports only 2 components");
            Err(Error::Config { field: "n_components", why })
        }
        Some(1) => run_width::<K, 1>(kernel, gpu, options, edges, start, checkpoints, progress),
        Some(3) => run_width::<K, 3>(kernel, gpu, options, edges, start, checkpoints, progress),
        Some(4) => run_width::<K, 4>(kernel, gpu, options, edges, start, checkpoints, progress),
        Some(8) => run_width::<K, 8>(kernel, gpu, options, edges, start, checkpoints, progress),
        Some(16) => run_width::<K, 16>(kernel, gpu, options, edges, start, checkpoints, progress),
        Some(32) => run_width::<K, 32>(kernel, gpu, options, edges, start, checkpoints, progress),
        Some(64) => run_width::<K, 64>(kernel, gpu, options, edges, start, checkpoints, progress),
        _ => Err(Error::Config { field: "n_components", why: format!("{width} is more than 64") }),
    }
}

/// Returns the number of components that the kernels work with: `n_components` rounded up to one of [`KERNEL_WIDTHS`].
fn kernel_width(n_components: usize) -> Option<usize> {
    KERNEL_WIDTHS.iter().copied().find(|&width| width >= n_components)
}

/// Returns the bytes that each row takes: position, snapshot and two moments of each component.
fn row_bytes(n_components: usize) -> u64 {
    4 * 4 * kernel_width(n_components).unwrap_or(n_components) as u64
}

fn run_width<K: LayoutKernel, const DIM: usize>(
    kernel: &K,
    gpu: Option<&Gpu>,
    options: &LayoutOptions,
    edges: &LayoutEdges,
    start: LayoutStart<'_>,
    checkpoints: &mut dyn CheckpointSink,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    let width = options.n_components;
    let mut now: Vec<[f32; DIM]> = pages::filled(options.rows as usize, [0.0; DIM]);
    let mut moments = pages::filled(now.len(), [[0f32; DIM]; 2]);
    let begin = match start {
        LayoutStart::Positions(positions) => {
            for (out, row) in now.iter_mut().zip(positions.chunks_exact(width)) {
                out[..width].copy_from_slice(row);
            }
            0
        }
        LayoutStart::State(state) => {
            let (positions, moved) = state.positions_and_moments()?;
            if positions.len() != now.len() * DIM {
                return Err(Error::Data { what: "the checkpoint is of a map with other components".into() });
            }
            now.as_flattened_mut().copy_from_slice(positions);
            moments.as_flattened_mut().as_flattened_mut().copy_from_slice(moved);
            progress.advance(u64::from(state.epoch))?;
            state.epoch
        }
    };
    if let Some(gpu) = gpu {
        run_on_gpu(gpu, kernel, options, edges, begin, &mut now, &mut moments, checkpoints, progress)?;
        drop(moments);
        return Ok(without_padding(now, options));
    }
    let mut snapshot = pages::filled(now.len(), [0.0; DIM]);
    snapshot.copy_from_slice(&now);
    let mut field = K::USES_FIELD.then(|| RepulsionField::new(u64::from(options.rows)));
    // With spilled blocks, an epoch handles the blocks in portions, while the reader thread reads the next
    // ones. With all blocks in memory, one portion holds them all.
    let portion = match edges.spilled_bytes() {
        0 => edges.count().max(1),
        _ => edge_blocks::blocks_per_portion(rayon::current_num_threads()),
    };
    for number in begin + 1..=options.epochs as u32 {
        std::mem::swap(&mut now, &mut snapshot);
        if let Some(field) = &mut field {
            let (pairs, []) = snapshot.as_flattened().as_chunks::<2>() else { unreachable!("a field is of a plane") };
            field.update(pairs)?;
        }
        let field = field.as_ref();
        let epoch = options.epoch(number, field.map(RepulsionField::map_width));
        let (mut rest, mut moving) = (now.as_mut_slice(), moments.as_mut_slice());
        let mut first = 0;
        for start in (0..edges.count()).step_by(portion) {
            let held = edges.next_blocks(start..(start + portion).min(edges.count()))?;
            // Each task is a chunk of rows with the block that holds the rows' edges. A chunk ends where a
            // group of rows with shared draws ends, because a pool belongs to one group.
            let mut work = Vec::new();
            for block in &held {
                let end = first + block.rows() as u32;
                while first < end {
                    let count = (end.min((first / ROWS_PER_POOL + 1).saturating_mul(ROWS_PER_POOL)) - first) as usize;
                    let (positions, moments);
                    ((positions, rest), (moments, moving)) = (rest.split_at_mut(count), moving.split_at_mut(count));
                    work.push((&**block, first, positions, moments));
                    first += count as u32;
                }
            }
            work.into_par_iter().for_each(|(block, first, positions, moments)| {
                // The kernel does not write rows that have no edges; these keep the position of the snapshot.
                positions.copy_from_slice(&snapshot[first as usize..][..positions.len()]);
                let (epoch, snapshot) = (&epoch, snapshot.as_slice());
                kernel::advance(kernel, RowChunk { epoch, block, first, snapshot, field, positions, moments });
            });
        }
        progress.traffic.read(edges.spilled_bytes());
        finish_epoch(options, number, checkpoints, progress, || {
            Ok((now.as_flattened(), moments.as_flattened().as_flattened()))
        })?;
    }
    drop((snapshot, moments, field));
    Ok(without_padding(now, options))
}

/// Finishes an epoch: reports progress, and writes a checkpoint of `state` (positions and moments) if one is
/// due or the run is being stopped.
fn finish_epoch<'a>(
    options: &LayoutOptions,
    number: u32,
    checkpoints: &mut dyn CheckpointSink,
    progress: &Progress<'_>,
    state: impl FnOnce() -> Result<(&'a [f32], &'a [f32])>,
) -> Result<()> {
    let told = progress.advance(1);
    let stopping = matches!(told, Err(Error::Cancelled { .. }));
    if number < options.epochs as u32 && (stopping || checkpoints.due()) {
        let kept = state().and_then(|(positions, moments)| checkpoints.save(number, positions, moments));
        // The stop is reported, unless the checkpoint failed with an error other than the same stop.
        if let Err(error) = kept
            && !(stopping && matches!(error, Error::Cancelled { .. }))
        {
            return Err(error);
        }
    }
    told
}

/// Removes the components that were added as padding.
fn without_padding<const DIM: usize>(positions: Vec<[f32; DIM]>, options: &LayoutOptions) -> Vec<f32> {
    let (mut positions, width) = (positions.into_flattened(), options.n_components);
    if DIM != width {
        for row in 0..options.rows as usize {
            positions.copy_within(row * DIM..row * DIM + width, row * width);
        }
        positions.truncate(options.rows as usize * width);
    }
    positions
}

/// Returns the bytes of all edges in memory, for a graph of the usual degree. Edges of a denser graph beyond
/// that are spilled, whatever the budget.
pub fn edge_bytes(plan: &Plan) -> u64 {
    let rows = plan.shape.rows;
    edge_blocks::bytes(rows, affinity::expected_edges(rows, plan.degree()))
}

/// Returns the memory that the stage takes: the map's state, the kept edges, and the blocks that are decoded or
/// read.
pub fn needs(plan: &Plan) -> MemoryNeeds {
    let (rows, threads) = (plan.shape.rows, plan.threads);
    let (block_rows, block_edges) = affinity::block_limits(rows, plan.degree());
    let block = edge_blocks::bytes(block_rows, block_edges);
    // Each thread decodes a whole block of the edge store into a block of walked edges.
    let decoding = threads as u64 * (affinity::block_visiting_bytes(rows, plan.degree()) + block);
    let read = if plan.layout.cache_bytes < edge_bytes(plan) {
        edge_blocks::blocks_read_ahead(threads) as u64 * block
    } else {
        0
    };
    MemoryNeeds::default().phase(
        "epochs",
        [
            ("positions, snapshot, moments", rows * row_bytes(plan.settings.n_components)),
            ("edges kept", plan.layout.cache_bytes),
            // One task for each chunk of rows of an epoch.
            ("chunks of rows", rows.div_ceil(u64::from(ROWS_PER_POOL)) * 64),
            ("blocks decoded or read ahead", decoding.max(read)),
            (GPU_EDGES, if matches!(plan.settings.device, Device::Cuda(_)) { pinned_bytes(plan) } else { 0 }),
            ("the repulsion grid", if plan.settings.method.has_field() { field::bytes(rows) } else { 0 }),
        ],
    )
}

/// Returns the bytes of GPU memory for the map and for the buffers that edges are sent to.
pub(crate) fn device_bytes(plan: &Plan) -> u64 {
    #[cfg(feature = "cuda")]
    let rooms = cuda::UPLOAD_ROOM_BYTES;
    #[cfg(not(feature = "cuda"))]
    let rooms = 0;
    plan.shape.rows * row_bytes(plan.settings.n_components) + rooms + force_bytes(plan)
}

/// Returns the bytes of the repulsive field's forces, or 0 if the method has no field.
fn force_bytes(plan: &Plan) -> u64 {
    if plan.settings.method.has_field() { 4 * field::force_floats(plan.shape.rows) as u64 } else { 0 }
}

/// Returns the bytes of page-locked host memory for transfers to a GPU: edges, and a field's forces.
fn pinned_bytes(plan: &Plan) -> u64 {
    #[cfg(feature = "cuda")]
    let sending = cuda::UPLOAD_BUFFER_BYTES;
    #[cfg(not(feature = "cuda"))]
    let sending = 0;
    sending + force_bytes(plan)
}

/// Returns the additional memory for `--device auto` if a GPU was found. For a GPU that was asked for,
/// [`needs`] includes these bytes.
fn optional_gpu_phase(plan: &Plan) -> Phase {
    let bytes = if plan.settings.device == Device::Auto { pinned_bytes(plan) } else { 0 };
    Phase { name: "epochs", parts: vec![MemoryPart { what: GPU_EDGES.into(), bytes }] }
}

const GPU_EDGES: &str = "upload buffers for the GPU";

/// Checks that the memory budget has room for the bytes of [`optional_gpu_phase`].
///
/// # Errors
/// A sentence that says how much memory is missing.
pub(crate) fn check_optional_gpu_room(plan: &Plan) -> std::result::Result<(), String> {
    let (settings, more) = (&plan.settings, optional_gpu_phase(plan).bytes());
    let held = base_bytes(plan.shape.dim, plan.threads) + needs(plan).bytes();
    if held + more <= settings.memory {
        return Ok(());
    }
    let (memory, more) = (format_bytes(settings.memory), format_bytes(more));
    Err(format!(
        "`memory` {memory} leaves less than {more} for the upload buffers of the GPU; with `device` cuda:0 the plan includes them"
    ))
}

/// Replaces the GPU's epochs in a build without CUDA, where no [`Gpu`] value can exist.
#[cfg(not(feature = "cuda"))]
#[expect(clippy::too_many_arguments, reason = "as the loop on the CPU, and the device")]
fn run_on_gpu<K: LayoutKernel, const DIM: usize>(
    gpu: &Gpu,
    _: &K,
    _: &LayoutOptions,
    _: &LayoutEdges,
    _: u32,
    _: &mut [[f32; DIM]],
    _: &mut [[[f32; DIM]; 2]],
    _: &mut dyn CheckpointSink,
    _: &Progress<'_>,
) -> Result<()> {
    match *gpu {}
}

/// Returns the bytes of a checkpoint. Two exist at the moment when a new one replaces the old one.
pub fn checkpoint_bytes(plan: &Plan) -> u64 {
    checkpoint::bytes(plan.shape.rows, row_bytes(plan.settings.n_components) / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(method: Method, rows: u32) -> LayoutOptions {
        crate::methods::options(method, rows).expect("it streams")
    }

    #[test]
    fn default_step_is_bounded_for_few_rows() {
        // Expected learning rate after the early exaggeration, as factor of n times the gradient.
        for (method, rows, after) in [
            (Method::TSNE, 100, 0.25),
            (Method::TSNE, 1_000, 0.25),
            (Method::TSNE, 1_000_000, 0.25),
            (Method::INFOTSNE, 100, 0.5), // at least 50 for 100 rows
            (Method::INFOTSNE, 1_000_000, 0.25),
        ] {
            let options = LayoutOptions {
                early_exaggeration: 12.0,
                exaggeration_epochs: 250,
                decays_after: None,
                ..options(method, rows)
            };
            let rate = |number| options.epoch(number, None).stepper.rate;
            assert!((rate(1) - after / 12.0).abs() < 1e-6, "{method}, {rows}: {}", rate(1));
            assert_eq!(rate(1), rate(250));
            assert!((rate(251) - after).abs() < 1e-6, "{method}, {rows}: {}", rate(251));
            // A learning rate that was asked for is not changed.
            let asked = LayoutOptions { learning_rate: Some(10.0), ..options };
            assert_eq!(asked.epoch(1, None).stepper.rate, 10.0 / rows as f32);
        }
        let infotsne = options(Method::INFOTSNE, 1_000);
        assert_eq!(infotsne.epoch(1_000, None).stepper.since, 750, "momentum begins anew");
    }

    #[test]
    fn exaggeration_needs_a_wide_map_and_an_early_epoch() {
        let options =
            LayoutOptions { early_exaggeration: 12.0, exaggeration_epochs: 250, ..options(Method::TSNE, 100) };
        let exaggeration = |number, extent| options.epoch(number, Some(extent)).exaggeration;
        assert_eq!([exaggeration(1, 1e-3), exaggeration(250, 2e-5), exaggeration(251, 1.0)], [12.0, 12.0, 1.0]);
        assert_eq!([exaggeration(1, 9e-6), exaggeration(1, 0.0)], [1.0, 1.0]);
        assert_eq!(options.epoch(1, None).exaggeration, 12.0);
    }

    #[test]
    fn the_step_falls_from_the_epoch_that_the_method_names() {
        let rates = |method| {
            let options =
                LayoutOptions { learning_rate: Some(1.0), optimizer: Optimizer::Adam, ..options(method, 1_000) };
            move |number| options.epoch(number, None).stepper.rate
        };
        let pacmap = rates(Method::PACMAP);
        assert_eq!([pacmap(1), pacmap(300), pacmap(301)], [1.0; 3]);
        assert!((pacmap(376) - 0.5).abs() < 1e-6 && (pacmap(450) - 1.0 / 150.0).abs() < 1e-6);
        let largevis = rates(Method::LARGEVIS);
        assert!((largevis(1) - 1.0).abs() < 1e-6 && (largevis(501) - 0.5).abs() < 1e-6);
        assert_eq!(rates(Method::TSNE)(1_000), 1.0);
    }

    #[test]
    fn pacmaps_draws_come_round_in_its_third_phase() {
        let drawn = |method, number| options(method, 1_000).epoch(number, None).draw_epoch;
        for number in [1, 2, 199, 200] {
            assert_eq!(drawn(Method::PACMAP, number), number);
        }
        let found = [201, 202, 208, 209, 216, 217, 450].map(|n| drawn(Method::PACMAP, n));
        assert_eq!(found, [201, 202, 208, 201, 208, 201, 202]);
        assert_eq!([201, 203].map(|n| drawn(Method::LARGEVIS, n)), [201, 203]);
    }
}
