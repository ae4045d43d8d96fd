//! The state and the edges in the GPU's memory, and the launch of the epochs.
//!
//! Edges stay in the GPU's memory while its budget allows. The others are sent in each epoch (`edge_upload`),
//! alternately to one of two buffers ("rooms") there, while a kernel works on the edges in the other buffer.

use std::collections::VecDeque;

use cudarc::driver::{
    CudaEvent, CudaFunction, CudaSlice, DeviceRepr, DriverError, LaunchConfig, PinnedHostSlice, PushKernelArg,
};

use super::super::edge_blocks::{LayoutEdges, block_words};
use super::super::field::{FieldNodes, RepulsionField, force_floats};
use super::super::kernel::{Epoch, LayoutKernel};
use super::super::pool::ROWS_PER_POOL;
use super::super::{CheckpointSink, LayoutOptions, finish_epoch};
use super::edge_upload::EdgeUpload;
use super::{Arguments, GpuKernel, RowSpan, group_words, padded_words};
use crate::cuda::{Gpu, is_out_of_memory};
use crate::error::format_bytes;
use crate::observe::Progress;
use crate::{Error, Result};

/// The largest number of words of edges that are sent together: enough to use the bus fully, and small compared
/// with the budget.
const MAX_UPLOAD_WORDS: usize = 8 << 20;
/// Bytes of GPU memory for the two buffers that edges are sent to.
pub(crate) const UPLOAD_ROOM_BYTES: u64 = 2 * 4 * MAX_UPLOAD_WORDS as u64;
/// The largest number of words that one launch works on.
const MAX_LAUNCH_WORDS: usize = 1 << 28;
/// Number of epochs that are launched ahead of the one whose end is awaited.
const EPOCHS_IN_FLIGHT: usize = 2;

// SAFETY: plain numbers, laid out as in the kernels' struct of the same name.
#[expect(unsafe_code, reason = "FFI: what a kernel takes")]
unsafe impl DeviceRepr for Arguments {}

/// Consecutive blocks of edges that one launch works on.
struct BlockGroup {
    blocks: std::ops::Range<usize>,
    extent: RowSpan,
    /// The group's edges in GPU memory; `None` if they are sent in each epoch.
    kept: Option<CudaSlice<u32>>,
    /// Whether the edges in `kept` have been sent.
    sent: bool,
}

/// Divides the edges into groups of at most `most` words, or of one block where a block has more words.
fn block_groups(edges: &LayoutEdges, most: usize) -> Vec<BlockGroup> {
    let mut groups: Vec<BlockGroup> = Vec::new();
    for i in 0..edges.count() {
        let (first, rows, count) = edges.block_extent(i);
        let words = block_words(rows as usize, count as usize);
        if let Some(group) = groups.last_mut() {
            let extent = &mut group.extent;
            let blocks = group.blocks.len();
            let words = padded_words(words) + padded_words(blocks + 1) - padded_words(blocks);
            // All parts but the last have the same number of rows, and no two parts have rows that share a
            // pool.
            let whole = extent.count % extent.span == 0 && rows <= extent.span;
            let apart = extent.span % ROWS_PER_POOL == 0 && extent.first % ROWS_PER_POOL == 0;
            if whole && apart && extent.words + words <= most {
                *extent = RowSpan { count: extent.count + rows, words: extent.words + words, ..*extent };
                group.blocks.end = i + 1;
                continue;
            }
        }
        let extent = RowSpan { first, count: rows, span: rows.max(1), words: group_words([words].into_iter()) };
        groups.push(BlockGroup { blocks: i..i + 1, extent, kept: None, sent: false });
    }
    groups
}

/// The data in GPU memory, and the means to send the other edges.
struct DeviceState<'a> {
    /// First field, and therefore dropped first: its drop waits for transfers that are under way.
    sending: EdgeUpload<'a>,
    /// Positions twice, moments, and the field's forces if there is a field.
    state: CudaSlice<f32>,
    groups: Vec<BlockGroup>,
    rooms: Vec<CudaSlice<u32>>,
    /// Number of groups that were sent to a buffer, which selects the next buffer.
    turn: usize,
}

/// A repulsive field, computed on the CPU and sent in each epoch.
struct FieldUpload {
    field: RepulsionField,
    host: PinnedHostSlice<f32>,
}

impl FieldUpload {
    fn new(gpu: &Gpu, rows: u32) -> Result<Self> {
        let rows = u64::from(rows);
        // SAFETY: the memory is written before it is sent.
        #[expect(unsafe_code, reason = "FFI: page-locked memory")]
        let host = unsafe { gpu.context.alloc_pinned(force_floats(rows)) };
        Ok(FieldUpload {
            field: RepulsionField::new(rows),
            host: host.map_err(|e| gpu.driver_error("allocate a field", e))?,
        })
    }

    /// Computes the field of the positions in `snapshot`, and sends its forces to the place behind the moments
    /// in `state`.
    fn upload<const DIM: usize>(
        &mut self,
        gpu: &Gpu,
        snapshot: &[[f32; DIM]],
        state: &mut CudaSlice<f32>,
    ) -> Result<FieldNodes> {
        let (pairs, []) = snapshot.as_flattened().as_chunks::<2>() else { unreachable!("a field is of a plane") };
        self.field.update(pairs)?;
        let at = 4 * snapshot.len() * DIM;
        let mut send = || {
            // The previous transfer from `host` is complete: the snapshot's transfer followed it in the same
            // stream, and was awaited.
            let host = self.host.as_mut_slice()?;
            let length = self.field.forces(host);
            gpu.stream.memcpy_htod(&host[..length], &mut state.slice_mut(at..at + length))
        };
        send().map_err(|e| gpu.driver_error("send a field", e))?;
        Ok(self.field.nodes())
    }
}

impl Gpu {
    /// Allocates GPU memory for `floats` floats of state and for as many edges as the budget allows.
    fn allocate_state<'a>(
        &'a self,
        floats: usize,
        edges: &'a LayoutEdges,
        progress: &Progress<'_>,
    ) -> Result<DeviceState<'a>> {
        let usable = self.usable_bytes().map_err(|e| self.driver_error("ask for its free memory", e))?;
        let too_small = |least: u64| {
            let (usable, least) = (format_bytes(usable), format_bytes(least));
            self.error(&format!("{usable} of its memory may be used, and the map needs {least}"))
        };
        let state_bytes = floats as u64 * 4;
        if usable < state_bytes {
            return Err(too_small(state_bytes));
        }
        let state = self.allocate(floats).map_err(|e| self.driver_error("allocate the map", e))?;
        let largest = block_groups(edges, 0).iter().map(|group| group.extent.words).max().unwrap_or(0);
        let (mut left, mut most) = (usable - state_bytes, MAX_UPLOAD_WORDS.max(largest));
        loop {
            match self.allocate_edges(edges, left, most) {
                Ok((groups, rooms)) => {
                    let sending = EdgeUpload::new(self, edges, groups.iter().map(|group| group.blocks.clone()));
                    let mut sending = sending.map_err(|e| self.driver_error("page-lock memory", e))?;
                    for group in groups.iter().filter(|group| group.kept.is_none()) {
                        if !sending.lock(group.blocks.clone(), progress)? {
                            break;
                        }
                    }
                    return Ok(DeviceState { sending, state, groups, rooms, turn: 0 });
                }
                // Memory that was free a moment ago may be taken by another process: retries with less memory
                // for edges.
                Err(e) if is_out_of_memory(e) && (left > 0 || most > largest) => {
                    left = if left > 8 * most as u64 { left / 2 } else { 0 };
                    most = if left == 0 { (most / 2).max(largest) } else { most };
                }
                Err(e) if is_out_of_memory(e) => return Err(too_small(state_bytes + 8 * most as u64)),
                Err(e) => return Err(self.driver_error("allocate edges", e)),
            }
        }
    }

    /// Allocates GPU memory for edges: `left` bytes, or at least the two buffers.
    fn allocate_edges(
        &self,
        edges: &LayoutEdges,
        left: u64,
        most: usize,
    ) -> std::result::Result<(Vec<BlockGroup>, Vec<CudaSlice<u32>>), DriverError> {
        let sent = 2 * 4 * most as u64;
        let all = block_groups(edges, MAX_LAUNCH_WORDS);
        let bytes = |groups: &[BlockGroup]| groups.iter().map(|group| group.extent.words as u64 * 4).sum::<u64>();
        let (mut groups, share) = if bytes(&all) + 4 * most as u64 <= left {
            (all, 1.0)
        } else {
            let groups = block_groups(edges, most);
            let share = left.saturating_sub(sent) as f64 / bytes(&groups).max(1) as f64;
            (groups, share)
        };
        // Kept groups are spread evenly, so that edges are sent throughout an epoch.
        for (i, group) in groups.iter_mut().enumerate() {
            if ((i + 1) as f64 * share).floor() > (i as f64 * share).floor() {
                group.kept = Some(self.allocate(group.extent.words)?);
            }
        }
        let room = groups.iter().filter(|group| group.kept.is_none()).map(|group| group.extent.words).max();
        let rooms = (0..2).map(|_| self.allocate(room.unwrap_or(1))).collect::<std::result::Result<_, _>>()?;
        self.stream.synchronize()?;
        Ok((groups, rooms))
    }
}

/// Runs all epochs after `begin`; reads and writes the positions `now` and the moments.
#[expect(clippy::too_many_arguments, reason = "as the loop on the CPU, and the device")]
pub(in crate::layout) fn run<K: LayoutKernel, const DIM: usize>(
    gpu: &Gpu,
    kernel: &K,
    options: &LayoutOptions,
    edges: &LayoutEdges,
    begin: u32,
    now: &mut [[f32; DIM]],
    moments: &mut [[[f32; DIM]; 2]],
    checkpoints: &mut dyn CheckpointSink,
    progress: &Progress<'_>,
) -> Result<()> {
    let half = now.len() * DIM;
    let failed = |doing: &'static str| move |e: DriverError| gpu.driver_error(doing, e);
    let mut pushes = K::USES_FIELD.then(|| FieldUpload::new(gpu, options.rows)).transpose()?;
    let forces = if K::USES_FIELD { force_floats(u64::from(options.rows)) } else { 0 };
    let mut resident = gpu.allocate_state(4 * half + forces, edges, progress)?;
    let stream = &gpu.stream;
    let upload = |from: &[f32], to: usize, state: &mut CudaSlice<f32>| {
        stream.memcpy_htod(from, &mut state.slice_mut(to..to + from.len()))
    };
    upload(now.as_flattened(), 0, &mut resident.state).map_err(failed("send positions"))?;
    let flat = moments.as_flattened().as_flattened();
    upload(flat, 2 * half, &mut resident.state).map_err(failed("send moments"))?;
    let mut function: Option<CudaFunction> = None;

    let mut in_flight: VecDeque<CudaEvent> = VecDeque::new();
    let last = options.epochs as u32;
    for number in begin + 1..=last {
        let parity = (number - begin - 1) % 2;
        let mut nodes = FieldNodes::default();
        if let Some(pushes) = &mut pushes {
            let state = &resident.state.slice(parity as usize * half..);
            let fetch =
                |to: &mut [f32]| stream.memcpy_dtoh(&state.slice(..half), to).and_then(|()| stream.synchronize());
            fetch(now.as_flattened_mut()).map_err(failed("fetch positions"))?;
            nodes = pushes.upload(gpu, now, &mut resident.state)?;
        }
        let epoch = options.epoch(number, pushes.as_ref().map(|pushes| pushes.field.map_width()));
        let own =
            kernel.gpu_kernel(&epoch).ok_or_else(|| Error::Device { what: "no kernel for this method".into() })?;
        let function = match &mut function {
            Some(function) => function,
            none => none.insert(gpu.kernel(&format!("{}_{DIM}", own.name))?),
        };
        let turn = EpochLaunch { function, epoch: &epoch, own: &own, nodes, parity };
        resident.launch_epoch(gpu, &turn, edges, progress)?;

        in_flight.push_back(stream.record_event(None).map_err(failed("mark an epoch"))?);
        if in_flight.len() > EPOCHS_IN_FLIGHT
            && let Some(event) = in_flight.pop_front()
        {
            event.synchronize().map_err(failed("finish an epoch"))?;
        }
        let (now, moments, state) = (&mut *now, &mut *moments, &resident.state);
        finish_epoch(options, number, checkpoints, progress, || {
            let at = if parity == 0 { half } else { 0 };
            let download = |from: usize, to: &mut [f32]| stream.memcpy_dtoh(&state.slice(from..from + to.len()), to);
            download(at, now.as_flattened_mut()).map_err(failed("fetch positions"))?;
            let flat = moments.as_flattened_mut().as_flattened_mut();
            download(2 * half, flat).map_err(failed("fetch moments"))?;
            stream.synchronize().map_err(failed("fetch the map"))?;
            Ok((now.as_flattened(), moments.as_flattened().as_flattened()))
        })?;
    }
    if last > begin {
        let at = if (last - begin - 1).is_multiple_of(2) { half } else { 0 };
        stream
            .memcpy_dtoh(&resident.state.slice(at..at + half), now.as_flattened_mut())
            .and_then(|()| stream.synchronize())
            .map_err(failed("fetch the map"))?;
    }
    Ok(())
}

/// The parameters of the launches in one epoch.
struct EpochLaunch<'a> {
    function: &'a CudaFunction,
    epoch: &'a Epoch,
    own: &'a GpuKernel,
    nodes: FieldNodes,
    parity: u32,
}

impl DeviceState<'_> {
    /// Launches an epoch over all groups, and sends the edges that are not in GPU memory.
    fn launch_epoch(
        &mut self,
        gpu: &Gpu,
        turn: &EpochLaunch<'_>,
        edges: &LayoutEdges,
        progress: &Progress<'_>,
    ) -> Result<()> {
        let failed = |doing: &'static str| move |e: DriverError| gpu.driver_error(doing, e);
        let all_there = self.groups.iter().all(|group| group.sent);
        for group in &mut self.groups {
            let arguments = Arguments::of(turn.epoch, turn.own, turn.nodes, turn.parity, group.extent);
            let blocks = group.blocks.clone();
            let block = match &mut group.kept {
                Some(kept) => {
                    if !group.sent {
                        self.sending.send(blocks, kept)?;
                        group.sent = true;
                    } else if !all_there {
                        self.sending.skip(blocks)?;
                    }
                    &*kept
                }
                None => {
                    let room = &mut self.rooms[self.turn % 2];
                    self.turn += 1;
                    self.sending.send(blocks, room)?;
                    &*room
                }
            };
            let shared = group.extent.first % ROWS_PER_POOL;
            let blocks = (shared + group.extent.count).div_ceil(ROWS_PER_POOL);
            let shape = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (gpu.threads, 1, 1), shared_mem_bytes: 0 };
            let mut launch = gpu.stream.launch_builder(turn.function);
            launch.arg(block).arg(&mut self.state).arg(&arguments);
            // SAFETY: state and edges are as long as the arguments say, and every neighbour is a row of the
            // map; both were checked when the edges were read.
            #[expect(unsafe_code, reason = "FFI: a kernel of our own")]
            unsafe { launch.launch(shape) }.map_err(failed("launch an epoch"))?;
        }
        if !all_there {
            progress.traffic.read(edges.spilled_bytes());
        }
        Ok(())
    }
}
