//! The trait for the arithmetic that a method applies to some rows in one epoch, and its dispatch by
//! instruction set.
//!
//! A [`LayoutKernel`] is written once, over [`Simd`]; [`advance`] selects the widest instruction set of the
//! processor. What must hold: a kernel writes only its own rows, and every sum has a fixed order, so that the
//! bits of the result depend neither on the instruction set nor on which thread computes a row.

use std::fmt::Debug;

use super::curve::MembershipCurve;
use super::edge_blocks::{PackedBlock, WeightCode};
use super::field::RepulsionField;
use super::optimizer::OptimizerStep;
use super::{CheckpointSink, Gpu, LayoutEdges, LayoutOptions, LayoutStart};
use crate::Result;
use crate::observe::Progress;
use crate::simd::{InstructionSet, Simd, SimdTask};

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

    /// Moves the chunk's rows by one epoch. Implementations are `#[inline(always)]`.
    ///
    /// # Panics
    /// If a row of the epoch, a row of the chunk or a neighbour of one is not within the snapshot.
    fn advance<S: Simd, const DIM: usize>(&self, on: S, chunk: RowChunk<'_, DIM>);
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
/// As [`LayoutKernel::advance`].
pub(crate) fn advance<K: LayoutKernel, const DIM: usize>(kernel: &K, chunk: RowChunk<'_, DIM>) {
    InstructionSet::best().run(Advance { kernel, chunk });
}

/// A kernel's work on a chunk, which [`InstructionSet::run`] compiles for each instruction set.
pub(crate) struct Advance<'a, K, const DIM: usize> {
    pub(crate) kernel: &'a K,
    pub(crate) chunk: RowChunk<'a, DIM>,
}

impl<K: LayoutKernel, const DIM: usize> SimdTask for Advance<'_, K, DIM> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, on: S) {
        self.kernel.advance(on, self.chunk);
    }
}
