//! The trait for the arithmetic that a method applies to some rows in one epoch, and its dispatch by
//! instruction set.
//!
//! A [`LayoutKernel`] is written once, over [`Lanes`]; [`advance`] selects the widest instruction set of the
//! processor. What must hold: a kernel writes only its own rows, and every sum has a fixed order, so that the
//! bits of the result depend neither on the instruction set nor on which thread computes a row.

use std::fmt::Debug;

use super::curve::MembershipCurve;
use super::edge_blocks::{PackedBlock, WeightCode};
use super::field::RepulsionField;
use super::lanes::{Lanes, Portable};
use super::optimizer::OptimizerStep;
use super::{CheckpointSink, Gpu, LayoutEdges, LayoutOptions, LayoutStart};
use crate::Result;
use crate::observe::Progress;

/// The parameters of one epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch {
    /// The curve from map distance to membership; used by UMAP only.
    pub(crate) curve: MembershipCurve,
    /// The epoch's number, counted from 1.
    pub(crate) number: u32,
    /// The number of the epoch whose random draws are used: this epoch's or an earlier one's.
    pub(crate) draw_epoch: u32,
    /// Number of epochs of the layout.
    pub(crate) epochs: u32,
    /// The optimizer with this epoch's learning rate.
    pub(crate) stepper: OptimizerStep,
    /// Factor of the attraction.
    pub(crate) exaggeration: f32,
    /// Number of negative samples for each edge that fires (UMAP), or for each row.
    pub(crate) negatives: u32,
    /// √(weight) of an edge with code 1 of [`WeightCode::Roots`].
    pub(crate) unit: f32,
    /// Number of rows of the map.
    pub(crate) rows: u32,
    /// Seed of the random draws.
    pub(crate) seed: u64,
}

/// The rows that one thread moves in an epoch, and the data that it reads.
pub(crate) struct RowChunk<'a, const DIM: usize> {
    pub(crate) epoch: &'a Epoch,
    /// The block that holds the edges of these rows, and of other rows.
    pub(crate) block: &'a PackedBlock,
    /// The first row.
    pub(crate) first: u32,
    /// The positions of all rows at the start of the epoch.
    pub(crate) snapshot: &'a [[f32; DIM]],
    /// The repulsive force of all rows, for methods with a field.
    pub(crate) field: Option<&'a RepulsionField>,
    /// The positions and moments of the chunk's rows, which are written.
    pub(crate) positions: &'a mut [[f32; DIM]],
    pub(crate) moments: &'a mut [[[f32; DIM]; 2]],
}

/// The arithmetic that a method applies to some rows in one epoch.
pub(crate) trait LayoutKernel: Sync + Debug {
    /// How edge weights are encoded.
    const WEIGHT_CODE: WeightCode;
    /// Whether the repulsive force comes from a field over the whole map, rather than from negative samples.
    const USES_FIELD: bool = false;
    /// Whether a GPU kernel exists.
    const HAS_GPU_KERNEL: bool = false;

    /// Returns the GPU kernel's name and its parameters for an epoch; `None` if no GPU kernel exists.
    #[cfg(any(test, feature = "cuda"))]
    fn gpu_kernel(&self, _: &Epoch) -> Option<super::cuda::GpuKernel> {
        None
    }

    /// Moves the chunk's rows by one epoch.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set; the epoch's rows and the chunk's rows are all within the
    /// snapshot.
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn advance<V: Lanes, const DIM: usize>(&self, chunk: RowChunk<'_, DIM>);
}

/// A `LayoutKernel` as a trait object, for code that selects a method at run time.
pub trait LayoutObjective: Sync + Debug {
    /// How edge weights are encoded.
    fn weight_code(&self) -> WeightCode;
    /// Whether the repulsive force comes from a field over the whole map.
    fn uses_field(&self) -> bool;
    /// Whether a GPU kernel exists.
    fn has_gpu_kernel(&self) -> bool;
    /// Runs a layout with this objective; see [`super::run_on`].
    ///
    /// # Errors
    /// The same as of [`super::run_on`].
    fn run(
        &self,
        gpu: Option<&Gpu>,
        options: &LayoutOptions,
        edges: &LayoutEdges,
        start: LayoutStart<'_>,
        checkpoints: &mut dyn CheckpointSink,
        progress: &Progress<'_>,
    ) -> Result<Vec<f32>>;
}

impl<K: LayoutKernel> LayoutObjective for K {
    fn weight_code(&self) -> WeightCode {
        K::WEIGHT_CODE
    }

    fn uses_field(&self) -> bool {
        K::USES_FIELD
    }

    fn has_gpu_kernel(&self) -> bool {
        K::HAS_GPU_KERNEL
    }

    fn run(
        &self,
        gpu: Option<&Gpu>,
        options: &LayoutOptions,
        edges: &LayoutEdges,
        start: LayoutStart<'_>,
        checkpoints: &mut dyn CheckpointSink,
        progress: &Progress<'_>,
    ) -> Result<Vec<f32>> {
        super::run_kernel(self, gpu, options, edges, start, checkpoints, progress)
    }
}

/// Moves the chunk's rows by one epoch, with the widest instruction set of the processor.
///
/// # Panics
/// If a row of the epoch or of the chunk is not within the snapshot.
pub(crate) fn advance<K: LayoutKernel, const DIM: usize>(kernel: &K, chunk: RowChunk<'_, DIM>) {
    let last = chunk.first as usize + chunk.positions.len();
    assert!(chunk.epoch.rows as usize <= chunk.snapshot.len() && last <= chunk.snapshot.len());
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512dq") {
            // SAFETY: the processor has the features, and the rows are within the snapshot; both were checked
            // above.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { advance_avx512(kernel, chunk) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: the processor has the features, and the rows are within the snapshot; both were checked
            // above.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { advance_avx2(kernel, chunk) };
        }
    }
    // SAFETY: `Portable` needs no instruction set, and the rows were checked above.
    #[expect(unsafe_code, reason = "the generic kernel")]
    unsafe {
        kernel.advance::<Portable, DIM>(chunk);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn advance_avx512<K: LayoutKernel, const DIM: usize>(kernel: &K, chunk: RowChunk<'_, DIM>) {
    // SAFETY: the caller guarantees the instruction set and the rows.
    unsafe { kernel.advance::<super::lanes::Avx512, DIM>(chunk) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
pub(crate) unsafe fn advance_avx2<K: LayoutKernel, const DIM: usize>(kernel: &K, chunk: RowChunk<'_, DIM>) {
    // SAFETY: the caller guarantees the instruction set and the rows.
    unsafe { kernel.advance::<super::lanes::Avx2, DIM>(chunk) }
}
