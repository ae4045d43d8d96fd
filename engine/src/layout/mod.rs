//! The layout stage: epochs of the optimizer over the edge store.
//!
//! Resident are the positions, their snapshot and Adam's moments, all rows ×
//! components; edge blocks are kept decoded while the budget allows and read
//! again each epoch, a few at a time, where it does not.

pub mod curve;
mod lanes;
mod math;
mod rows;

use std::sync::atomic::{AtomicU64, Ordering};

use lowland_io::edges::{EdgeBlock, EdgeReader};
use rayon::prelude::*;

use crate::observe::Progress;
use crate::plan::{BLOCK_ROWS, Plan};
use crate::{Error, Result};
use curve::Curve;
use rows::Epoch;

/// Rows that a thread takes at a time.
const ROWS: usize = 512;
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

/// Where an epoch's edge blocks come from.
pub trait Blocks: Sync {
    /// How many there are; together they hold every row once, in order.
    fn count(&self) -> usize;
    /// Block `i`; `scratch` is room to decode it into.
    fn get<'a>(&'a self, i: usize, scratch: &'a mut EdgeBlock) -> Result<&'a EdgeBlock>;
}

impl Blocks for [EdgeBlock] {
    fn count(&self) -> usize {
        self.len()
    }
    fn get<'a>(&'a self, i: usize, _: &'a mut EdgeBlock) -> Result<&'a EdgeBlock> {
        Ok(&self[i])
    }
}

/// The blocks of an edge store, the first of them kept as far as they fit.
pub struct Stored<'a> {
    reader: &'a EdgeReader,
    kept: Vec<EdgeBlock>,
    least_weight: f32,
    rows: u32,
    read: AtomicU64,
}

impl<'a> Stored<'a> {
    /// Keeps decoded blocks of `reader` up to `bytes`, without the edges that
    /// are too weak ever to fire in so many `epochs`.
    pub fn new(reader: &'a EdgeReader, bytes: u64, options: &Options, progress: &Progress<'_>) -> Result<Self> {
        // ⌊epochs · r⌋ is 0 below this. One part in a million lower: never drop what could fire.
        let least_weight = options.max_weight / options.epochs as f32 * (1.0 - 1e-6);
        let mut stored = Stored { reader, kept: Vec::new(), least_weight, rows: options.rows, read: AtomicU64::new(0) };
        let mut held = 0;
        let all: Vec<usize> = (0..reader.blocks().len()).collect();
        'fill: for window in all.chunks(rayon::current_num_threads().max(1)) {
            let blocks = window
                .par_iter()
                .map(|&i| {
                    let mut block = EdgeBlock::default();
                    stored.decode(i, &mut block)?;
                    block.neighbors.shrink_to_fit();
                    block.weights.shrink_to_fit();
                    Ok(block)
                })
                .collect::<Result<Vec<_>>>()?;
            for block in blocks {
                held += block_bytes(block.offsets.len() as u64, block.neighbors.len() as u64);
                if held > bytes {
                    break 'fill;
                }
                stored.kept.push(block);
            }
            progress.check()?;
        }
        Ok(stored)
    }

    /// Bytes of the edge store read so far.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn decode(&self, i: usize, block: &mut EdgeBlock) -> Result<()> {
        self.reader.read_block(i, block)?;
        self.read.fetch_add(self.reader.blocks()[i].bytes, Ordering::Relaxed);
        if let Some(row) = block.neighbors.iter().find(|&&row| row >= self.rows) {
            let what = format!("an edge to row {row} of {}", self.rows);
            return Err(lowland_io::Error::Corrupt { path: self.reader.path().to_path_buf(), what }.into());
        }
        let (mut from, mut to) = (0, 0);
        for place in 0..block.offsets.len() - 1 {
            let end = block.offsets[place + 1] as usize;
            while from < end {
                if block.weights[from] >= self.least_weight {
                    block.weights[to] = block.weights[from];
                    block.neighbors[to] = block.neighbors[from];
                    to += 1;
                }
                from += 1;
            }
            block.offsets[place + 1] = to as u32;
        }
        block.neighbors.truncate(to);
        block.weights.truncate(to);
        Ok(())
    }
}

impl Blocks for Stored<'_> {
    fn count(&self) -> usize {
        self.reader.blocks().len()
    }
    fn get<'a>(&'a self, i: usize, scratch: &'a mut EdgeBlock) -> Result<&'a EdgeBlock> {
        if let Some(block) = self.kept.get(i) {
            return Ok(block);
        }
        self.decode(i, scratch)?;
        Ok(scratch)
    }
}

/// Lays out: moves `positions` (rows × n_components) through all epochs.
pub fn run(
    options: &Options,
    blocks: &(impl Blocks + ?Sized),
    positions: Vec<f32>,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    let width = options.n_components;
    match WIDTHS.iter().copied().find(|&w| w >= width) {
        Some(1) => wide::<1>(options, blocks, positions, progress),
        Some(2) => wide::<2>(options, blocks, positions, progress),
        Some(3) => wide::<3>(options, blocks, positions, progress),
        Some(4) => wide::<4>(options, blocks, positions, progress),
        Some(8) => wide::<8>(options, blocks, positions, progress),
        Some(16) => wide::<16>(options, blocks, positions, progress),
        Some(32) => wide::<32>(options, blocks, positions, progress),
        Some(64) => wide::<64>(options, blocks, positions, progress),
        _ => Err(Error::Config { field: "n_components", why: format!("{width} is more than 64") }),
    }
}

/// Bytes a row holds: position, snapshot and two moments of each component.
/// Components are padded with zeros to the next width that has a kernel.
fn row_bytes(n_components: usize) -> u64 {
    4 * 4 * WIDTHS.iter().copied().find(|&w| w >= n_components).unwrap_or(n_components) as u64
}

fn wide<const DIM: usize>(
    options: &Options,
    blocks: &(impl Blocks + ?Sized),
    positions: Vec<f32>,
    progress: &Progress<'_>,
) -> Result<Vec<f32>> {
    let width = options.n_components;
    let mut now: Vec<[f32; DIM]> = vec![[0.0; DIM]; options.rows as usize];
    for (out, row) in now.iter_mut().zip(positions.chunks_exact(width)) {
        out[..width].copy_from_slice(row);
    }
    drop(positions);
    let mut snapshot = now.clone();
    let mut moments = vec![[[0f32; DIM]; 2]; now.len()];
    // Blocks in portions: all threads decode, then all walk.
    let portion = (2 * rayon::current_num_threads()).max(1);
    let mut scratch: Vec<EdgeBlock> = Vec::new();
    scratch.resize_with(portion.min(blocks.count()), EdgeBlock::default);
    for number in 1..=options.epochs as u32 {
        let epoch = Epoch {
            curve: options.curve,
            number,
            step: options.learning_rate * (1.0 - (number - 1) as f32 / options.epochs as f32),
            rate: 1.0 / options.max_weight.max(f32::MIN_POSITIVE),
            negatives: options.negative_sample_rate as u32,
            rows: options.rows,
            seed: options.seed,
        };
        std::mem::swap(&mut now, &mut snapshot);
        let (mut rest, mut moving) = (now.as_mut_slice(), moments.as_mut_slice());
        let mut first = 0;
        for start in (0..blocks.count()).step_by(portion) {
            let end = (start + portion).min(blocks.count());
            let held = scratch
                .par_iter_mut()
                .zip(start..end)
                .map(|(scratch, i)| blocks.get(i, scratch))
                .collect::<Result<Vec<_>>>()?;
            // Each chunk of rows with the block that holds its edges.
            let mut work = Vec::new();
            for block in held {
                let rows = block.offsets.len() - 1;
                let (positions, later) = rest.split_at_mut(rows);
                let (moments, later_moments) = moving.split_at_mut(rows);
                (rest, moving) = (later, later_moments);
                for (i, (positions, moments)) in positions.chunks_mut(ROWS).zip(moments.chunks_mut(ROWS)).enumerate() {
                    work.push((block, first + (i * ROWS) as u32, positions, moments));
                }
                first += rows as u32;
            }
            work.into_par_iter().for_each(|(block, first, positions, moments)| {
                // Rows that do not move keep their place.
                positions.copy_from_slice(&snapshot[first as usize..][..positions.len()]);
                rows::advance(&epoch, block, first, &snapshot, positions, moments);
            });
            progress.check()?;
        }
        progress.advance(1)?;
    }
    drop((snapshot, moments));
    Ok(now.iter().flat_map(|row| &row[..width]).copied().collect())
}

fn block_bytes(rows: u64, edges: u64) -> u64 {
    rows * 4 + edges * 8 + 120
}

/// Bytes of all edge blocks decoded, by the usual degree of a symmetrised graph.
pub fn edge_bytes(plan: &Plan) -> u64 {
    block_bytes(plan.shape.rows, plan.shape.rows * plan.k() as u64 * 2)
}

/// Bytes that the stage holds beside kept blocks.
pub fn bytes(plan: &Plan) -> u64 {
    let rows = plan.shape.rows;
    let portion = plan.threads as u64 * 2;
    let block = block_bytes(u64::from(BLOCK_ROWS).min(rows), u64::from(BLOCK_ROWS).min(rows) * plan.k() as u64 * 2);
    // A block's decoding holds about as much again.
    rows * (row_bytes(plan.config.n_components) + 4 * plan.config.n_components as u64) + portion * block * 2
}

/// Bytes that writing the map holds: positions in list order and in the source's.
pub fn output_bytes(plan: &Plan) -> u64 {
    let map = plan.shape.rows * plan.config.n_components as u64 * 4;
    2 * map + (64 << 20).min(plan.shape.rows * 256)
}
