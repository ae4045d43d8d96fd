//! The device's side: state and edges in its memory, and epochs launched one after another.
//!
//! Edges stay on the device while its budget allows. The others are sent in each epoch (`sending`),
//! to one of two rooms there, while kernels go over what is in the other.

use std::collections::VecDeque;

use cudarc::driver::{
    CudaEvent, CudaFunction, CudaSlice, DeviceRepr, DriverError, LaunchConfig, PinnedHostSlice, PushKernelArg,
};

use super::super::field::{Field, Nodes, force_floats};
use super::super::kernel::{Epoch, Kernel};
use super::super::pool::SHARING;
use super::super::walk::{Edges, words_of};
use super::super::{Checkpoints, Options, ended};
use super::sending::Sending;
use super::{Arguments, Extent, OnDevice, group_words, padded_words};
use crate::cuda::{Gpu, is_out_of_memory};
use crate::error::size;
use crate::observe::Progress;
use crate::{Error, Result};

/// Words of edges that are sent together, at most: large enough for the bus, small beside the budget.
const SENT: usize = 8 << 20;
/// Bytes of the device's memory that they are sent to.
pub(crate) const ROOMS_BYTES: u64 = 2 * 4 * SENT as u64;
/// Words that one launch goes over, at most.
const KEPT: usize = 1 << 28;
/// Epochs that are launched ahead of the one that is waited for.
const AHEAD: usize = 2;

// SAFETY: plain numbers, laid out as the kernels' struct of the same name.
#[expect(unsafe_code, reason = "FFI: what a kernel takes")]
unsafe impl DeviceRepr for Arguments {}

/// Blocks of the walk that are launched together.
struct Group {
    blocks: std::ops::Range<usize>,
    extent: Extent,
    /// Its edges on the device; sent in each epoch where there are none.
    kept: Option<CudaSlice<u32>>,
    /// Whether they have been sent there.
    sent: bool,
}

/// Divides the walk into groups of at most `most` words, or one block where that has more.
fn groups(edges: &Edges, most: usize) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for i in 0..edges.count() {
        let (first, rows, count) = edges.extent(i);
        let words = words_of(rows as usize, count as usize);
        if let Some(group) = groups.last_mut() {
            let extent = &mut group.extent;
            let blocks = group.blocks.len();
            let words = padded_words(words) + padded_words(blocks + 1) - padded_words(blocks);
            // Parts are alike, and no two have rows that share their draws.
            let whole = extent.count % extent.span == 0 && rows <= extent.span;
            let apart = extent.span % SHARING == 0 && extent.first % SHARING == 0;
            if whole && apart && extent.words + words <= most {
                *extent = Extent { count: extent.count + rows, words: extent.words + words, ..*extent };
                group.blocks.end = i + 1;
                continue;
            }
        }
        let extent = Extent { first, count: rows, span: rows.max(1), words: group_words([words].into_iter()) };
        groups.push(Group { blocks: i..i + 1, extent, kept: None, sent: false });
    }
    groups
}

/// What is in the device's memory, and whence the rest is sent.
struct Resident<'a> {
    /// First to go, and to wait for what is under way.
    sending: Sending<'a>,
    /// Positions twice, moments, and the field's forces where there is one.
    state: CudaSlice<f32>,
    groups: Vec<Group>,
    rooms: Vec<CudaSlice<u32>>,
    /// Groups that were sent.
    turn: usize,
}

/// A field on its way: made on the CPU, sent in each epoch.
struct Pushes {
    field: Field,
    host: PinnedHostSlice<f32>,
}

impl Pushes {
    fn new(gpu: &Gpu, rows: u32) -> Result<Self> {
        let rows = u64::from(rows);
        // SAFETY: written before it is sent.
        #[expect(unsafe_code, reason = "FFI: page-locked memory")]
        let host = unsafe { gpu.context.alloc_pinned(force_floats(rows)) };
        Ok(Pushes { field: Field::new(rows), host: host.map_err(|e| gpu.failed("allocate a field", e))? })
    }

    /// Makes the field of the positions, `snapshot`, and puts its forces behind the state.
    fn send<const DIM: usize>(
        &mut self,
        gpu: &Gpu,
        snapshot: &[[f32; DIM]],
        state: &mut CudaSlice<f32>,
    ) -> Result<Nodes> {
        let (pairs, []) = snapshot.as_flattened().as_chunks::<2>() else { unreachable!("a field is of a plane") };
        self.field.take(pairs)?;
        let at = 4 * snapshot.len() * DIM;
        let mut send = || {
            // What was sent before is there: the snapshot, which came later, is.
            let host = self.host.as_mut_slice()?;
            let length = self.field.forces(host);
            gpu.stream.memcpy_htod(&host[..length], &mut state.slice_mut(at..at + length))
        };
        send().map_err(|e| gpu.failed("send a field", e))?;
        Ok(self.field.nodes())
    }
}

impl Gpu {
    /// Memory for so many floats of state, and as many edges as the budget allows.
    fn settle<'a>(&'a self, floats: usize, edges: &'a Edges, progress: &Progress<'_>) -> Result<Resident<'a>> {
        let usable = self.usable().map_err(|e| self.failed("ask for its free memory", e))?;
        let too_small = |least: u64| Error::Device {
            what: format!(
                "{}: {} of its memory may be used, and the map needs {}; the run goes on from here with --device cpu",
                self.name,
                size(usable),
                size(least)
            ),
        };
        let state_bytes = floats as u64 * 4;
        if usable < state_bytes {
            return Err(too_small(state_bytes));
        }
        let state = self.allocate(floats).map_err(|e| self.failed("allocate the map", e))?;
        let largest = groups(edges, 0).iter().map(|group| group.extent.words).max().unwrap_or(0);
        let (mut left, mut most) = (usable - state_bytes, SENT.max(largest));
        loop {
            match self.place(edges, left, most) {
                Ok((groups, rooms)) => {
                    let sending = Sending::new(self, edges, groups.iter().map(|group| group.blocks.clone()));
                    let mut sending = sending.map_err(|e| self.failed("page-lock memory", e))?;
                    for group in groups.iter().filter(|group| group.kept.is_none()) {
                        if !sending.lock(group.blocks.clone(), progress)? {
                            break;
                        }
                    }
                    return Ok(Resident { sending, state, groups, rooms, turn: 0 });
                }
                // What was free may be gone: with less of it.
                Err(e) if is_out_of_memory(e) && (left > 0 || most > largest) => {
                    left = if left > 8 * most as u64 { left / 2 } else { 0 };
                    most = if left == 0 { (most / 2).max(largest) } else { most };
                }
                Err(e) if is_out_of_memory(e) => return Err(too_small(state_bytes + 8 * most as u64)),
                Err(e) => return Err(self.failed("allocate edges", e)),
            }
        }
    }

    /// Memory for edges: `left` bytes of it, or at least for what is sent.
    fn place(
        &self,
        edges: &Edges,
        left: u64,
        most: usize,
    ) -> std::result::Result<(Vec<Group>, Vec<CudaSlice<u32>>), DriverError> {
        let sent = 2 * 4 * most as u64;
        let all = groups(edges, KEPT);
        let bytes = |groups: &[Group]| groups.iter().map(|group| group.extent.words as u64 * 4).sum::<u64>();
        let (mut groups, share) = if bytes(&all) + 4 * most as u64 <= left {
            (all, 1.0)
        } else {
            let groups = groups(edges, most);
            let share = left.saturating_sub(sent) as f64 / bytes(&groups).max(1) as f64;
            (groups, share)
        };
        // Kept ones at even steps, so that something is sent throughout an epoch.
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

/// All epochs from `begin` on, from and to `now` and `moments`.
#[expect(clippy::too_many_arguments, reason = "as the loop on the CPU, and the device")]
pub(in crate::layout) fn run<K: Kernel, const DIM: usize>(
    gpu: &Gpu,
    kernel: &K,
    options: &Options,
    edges: &Edges,
    begin: u32,
    now: &mut [[f32; DIM]],
    moments: &mut [[[f32; DIM]; 2]],
    checkpoints: &mut dyn Checkpoints,
    progress: &Progress<'_>,
) -> Result<()> {
    let half = now.len() * DIM;
    let failed = |doing: &'static str| move |e: DriverError| gpu.failed(doing, e);
    let mut pushes = K::FIELD.then(|| Pushes::new(gpu, options.rows)).transpose()?;
    let forces = if K::FIELD { force_floats(u64::from(options.rows)) } else { 0 };
    let mut resident = gpu.settle(4 * half + forces, edges, progress)?;
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
        let mut nodes = Nodes::default();
        if let Some(pushes) = &mut pushes {
            let state = &resident.state.slice(parity as usize * half..);
            let fetch =
                |to: &mut [f32]| stream.memcpy_dtoh(&state.slice(..half), to).and_then(|()| stream.synchronize());
            fetch(now.as_flattened_mut()).map_err(failed("fetch positions"))?;
            nodes = pushes.send(gpu, now, &mut resident.state)?;
        }
        let epoch = options.epoch(number, pushes.as_ref().map(|pushes| pushes.field.extent()));
        let own = kernel.on_device(&epoch).ok_or_else(|| Error::Device { what: "no kernel for this method".into() })?;
        let function = match &mut function {
            Some(function) => function,
            none => none.insert(gpu.kernel(&format!("{}_{DIM}", own.name))?),
        };
        let turn = Turn { function, epoch: &epoch, own: &own, nodes, parity };
        resident.epoch(gpu, &turn, edges, progress)?;

        in_flight.push_back(stream.record_event(None).map_err(failed("mark an epoch"))?);
        if in_flight.len() > AHEAD
            && let Some(event) = in_flight.pop_front()
        {
            event.synchronize().map_err(failed("finish an epoch"))?;
        }
        let (now, moments, state) = (&mut *now, &mut *moments, &resident.state);
        ended(options, number, checkpoints, progress, || {
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

/// What is launched in an epoch.
struct Turn<'a> {
    function: &'a CudaFunction,
    epoch: &'a Epoch,
    own: &'a OnDevice,
    nodes: Nodes,
    parity: u32,
}

impl Resident<'_> {
    /// Launches an epoch over all groups, sending what is not there.
    fn epoch(&mut self, gpu: &Gpu, turn: &Turn<'_>, edges: &Edges, progress: &Progress<'_>) -> Result<()> {
        let failed = |doing: &'static str| move |e: DriverError| gpu.failed(doing, e);
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
            let shared = group.extent.first % SHARING;
            let blocks = (shared + group.extent.count).div_ceil(SHARING);
            let shape = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (gpu.threads, 1, 1), shared_mem_bytes: 0 };
            let mut launch = gpu.stream.launch_builder(turn.function);
            launch.arg(block).arg(&mut self.state).arg(&arguments);
            // SAFETY: state and edges are as long as the arguments say, and every neighbour is a row: both were
            // checked as the edges were read.
            #[expect(unsafe_code, reason = "FFI: a kernel of our own")]
            unsafe { launch.launch(shape) }.map_err(failed("launch an epoch"))?;
        }
        if !all_there {
            progress.traffic.read(edges.spilled_bytes());
        }
        Ok(())
    }
}
