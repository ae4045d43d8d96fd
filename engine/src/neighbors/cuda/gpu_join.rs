//! The host side of the GPU join: keeps the vectors in GPU memory and sends rows in slices.

use std::ops::Range;

use cudarc::driver::{CudaFunction, CudaSlice, DeviceRepr, LaunchConfig, PushKernelArg};

use super::super::segments::SegmentTable;
use super::super::tie_breaker::TieBreaker;
use super::{
    JoinArguments, MAX_SLICE_ROWS, MAX_SLICE_VISITS, THREADS_PER_ROW, UPLOAD_BYTES, row_shared_bytes, rows_per_block,
};
use crate::cuda::Gpu;
use crate::observe::Progress;
use crate::{Error, Result};

// SAFETY: plain numbers, with the layout of the kernel's struct.
#[expect(unsafe_code, reason = "FFI: what a kernel takes")]
unsafe impl DeviceRepr for JoinArguments {}

/// The vectors on a GPU, and the buffers through which rows are sent.
pub(in crate::neighbors) struct GpuJoin<'a> {
    gpu: &'a Gpu,
    function: CudaFunction,
    dim: usize,
    keep: usize,
    ties: TieBreaker,
    vectors: CudaSlice<f32>,
    starts: CudaSlice<u32>,
    on_device: (CudaSlice<u32>, CudaSlice<u32>, CudaSlice<u64>),
    ends: Vec<u32>,
    visits: Vec<u32>,
    keys: Vec<u64>,
}

impl<'a> GpuJoin<'a> {
    /// Sends the vectors of all rows of `segments` to the GPU.
    ///
    /// # Errors
    /// A failed read, a GPU without enough memory, a failed transfer, or a stop request.
    pub(in crate::neighbors) fn new(
        gpu: &'a Gpu,
        segments: &SegmentTable<'_>,
        k: usize,
        ties: TieBreaker,
        progress: &Progress<'_>,
    ) -> Result<Self> {
        let table = &segments.lists.table;
        let (rows, dim) = (table.rows() as usize, table.dim);
        let failed = |doing: &'static str| move |e| gpu.driver_error(doing, e);
        let function = gpu.kernel("join")?;
        let mut vectors = gpu.allocate::<f32>(rows * dim).map_err(failed("allocate the vectors"))?;
        let mut buffer = Vec::new();
        let together = (UPLOAD_BYTES / (dim * 4)).max(1);
        for first in (0..rows).step_by(together) {
            progress.check()?;
            let end = rows.min(first + together);
            buffer.resize((end - first) * dim, 0.0);
            segments.lists.read(first as u32..end as u32, &mut buffer)?;
            progress.traffic.read(buffer.len() as u64 * 4);
            let mut to = vectors.slice_mut(first * dim..end * dim);
            gpu.stream.memcpy_htod(&buffer, &mut to).map_err(failed("send vectors"))?;
            // The copy must have finished before the buffer is overwritten.
            gpu.stream.synchronize().map_err(failed("send vectors"))?;
        }
        let begins: Vec<u32> =
            (0..segments.count()).map(|segment| segments.range(segment).start).chain([rows as u32]).collect();
        let mut starts = gpu.allocate(begins.len()).map_err(failed("allocate segments"))?;
        gpu.stream.memcpy_htod(&begins, &mut starts).map_err(failed("send segments"))?;
        gpu.stream.synchronize().map_err(failed("send segments"))?;
        let room =
            || Ok((gpu.allocate(MAX_SLICE_ROWS)?, gpu.allocate(MAX_SLICE_VISITS)?, gpu.allocate(MAX_SLICE_ROWS * k)?));
        let on_device = room().map_err(failed("allocate rows"))?;
        let keys = Vec::with_capacity(MAX_SLICE_ROWS * k);
        let (ends, visits) = (Vec::with_capacity(MAX_SLICE_ROWS), Vec::with_capacity(MAX_SLICE_VISITS));
        Ok(GpuJoin { gpu, function, dim, keep: k, ties, vectors, starts, on_device, ends, visits, keys })
    }

    /// Compares each row of `rows` with the segments that `of(row)` returns. `know(rows, keys)` appends
    /// the rows' current heaps to `keys`; `learn(rows, keys)` receives the new heaps. Heaps of keys have
    /// the layout of `Tops`.
    ///
    /// # Errors
    /// A row that visits more segments than fit into a slice; errors of the driver or of `learn`.
    pub(in crate::neighbors) fn compare<I: Iterator<Item = u32>>(
        &mut self,
        rows: Range<u32>,
        of: impl Fn(u32) -> I,
        mut know: impl FnMut(Range<u32>, &mut Vec<u64>),
        mut learn: impl FnMut(Range<u32>, &[u64]) -> Result<()>,
    ) -> Result<()> {
        let (mut first, mut next) = (rows.start, rows.start);
        self.ends.clear();
        self.visits.clear();
        while next < rows.end {
            let its = of(next).count();
            if its > MAX_SLICE_VISITS {
                let what = format!(
                    "row {next} visits more segments than fit in an upload to the GPU; `device` cpu gives the same graph"
                );
                return Err(Error::Device { what });
            }
            if self.visits.len() + its > MAX_SLICE_VISITS {
                self.launch(first..next, &mut know, &mut learn)?;
                first = next;
            }
            self.visits.extend(of(next));
            self.ends.push(self.visits.len() as u32);
            next += 1;
            if self.ends.len() == MAX_SLICE_ROWS || next == rows.end {
                self.launch(first..next, &mut know, &mut learn)?;
                first = next;
            }
        }
        Ok(())
    }

    fn launch(
        &mut self,
        rows: Range<u32>,
        know: &mut impl FnMut(Range<u32>, &mut Vec<u64>),
        learn: &mut impl FnMut(Range<u32>, &[u64]) -> Result<()>,
    ) -> Result<()> {
        let GpuJoin { function, dim, keep, ties, vectors, starts, on_device: (ends, visits, best), .. } = self;
        let gpu = self.gpu;
        let failed = |doing: &'static str| move |e| gpu.driver_error(doing, e);
        self.keys.clear();
        know(rows.clone(), &mut self.keys);
        let stream = &gpu.stream;
        stream.memcpy_htod(&self.ends, &mut ends.slice_mut(..self.ends.len())).map_err(failed("send rows"))?;
        if !self.visits.is_empty() {
            stream
                .memcpy_htod(&self.visits, &mut visits.slice_mut(..self.visits.len()))
                .map_err(failed("send visits"))?;
        }
        stream.memcpy_htod(&self.keys, &mut best.slice_mut(..self.keys.len())).map_err(failed("send what is known"))?;
        let count = rows.end - rows.start;
        let squads = rows_per_block(*dim, *keep);
        let shape = LaunchConfig {
            grid_dim: (count.div_ceil(squads as u32), 1, 1),
            block_dim: ((squads * THREADS_PER_ROW) as u32, 1, 1),
            shared_mem_bytes: (squads * row_shared_bytes(*dim, *keep)) as u32,
        };
        let arguments =
            JoinArguments { first: rows.start, count, dim: *dim as u32, keep: *keep as u32, ties: ties.key() };
        let mut launch = stream.launch_builder(function);
        launch.arg(&*vectors).arg(&*starts).arg(&*ends).arg(&*visits).arg(&mut *best).arg(&arguments);
        // SAFETY: each slice is as long as the arguments and its contents say: rows and segments are
        // those of the lists, and `ends` are positions in `visits`.
        #[expect(unsafe_code, reason = "FFI: a kernel of our own")]
        unsafe { launch.launch(shape) }.map_err(failed("launch the join"))?;
        stream.memcpy_dtoh(&best.slice(..self.keys.len()), &mut self.keys).map_err(failed("fetch neighbours"))?;
        stream.synchronize().map_err(failed("fetch neighbours"))?;
        learn(rows, &self.keys)?;
        self.ends.clear();
        self.visits.clear();
        Ok(())
    }
}
