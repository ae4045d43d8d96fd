//! The trait for the arithmetic that a method applies to some rows in one epoch, and its dispatch by
//! instruction set.
//!
//! A [`Kernel`] is written once, over [`Lanes`]; [`advance`] selects the widest instruction set of the
//! processor. What must hold: a kernel writes only its own rows, and every sum has a fixed order, so that the
//! bits of the result depend neither on the instruction set nor on which thread computes a row.

use std::fmt::Debug;

use super::curve::Curve;
use super::field::Field;
use super::lanes::{Lanes, Portable};
use super::optimizer::Stepper;
use super::walk::{Coding, Walk};
use super::{Checkpoints, Edges, Gpu, Options, Start};
use crate::Result;
use crate::observe::Progress;

/// The parameters of one epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch {
    /// The curve from map distance to membership; used by UMAP only.
    pub(crate) curve: Curve,
    /// The epoch's number, counted from 1.
    pub(crate) number: u32,
    /// The number of the epoch whose random draws are used: this epoch's or an earlier one's.
    pub(crate) drawn: u32,
    /// Number of epochs of the layout.
    pub(crate) epochs: u32,
    /// The optimizer with this epoch's learning rate.
    pub(crate) stepper: Stepper,
    /// Factor of the attraction.
    pub(crate) exaggeration: f32,
    /// Number of negative samples for each edge that fires (UMAP), or for each row.
    pub(crate) negatives: u32,
    /// √(weight) of an edge with code 1 of [`Coding::Roots`].
    pub(crate) unit: f32,
    /// Number of rows of the map.
    pub(crate) rows: u32,
    /// Seed of the random draws.
    pub(crate) seed: u64,
}

/// The rows that one thread moves in an epoch, and the data that it reads.
pub(crate) struct Chunk<'a, const DIM: usize> {
    pub(crate) epoch: &'a Epoch,
    /// The block that holds the edges of these rows, and of other rows.
    pub(crate) block: &'a Walk,
    /// The first row.
    pub(crate) first: u32,
    /// The positions of all rows at the start of the epoch.
    pub(crate) snapshot: &'a [[f32; DIM]],
    /// The repulsive force of all rows, for methods with a field.
    pub(crate) field: Option<&'a Field>,
    /// The positions and moments of the chunk's rows, which are written.
    pub(crate) positions: &'a mut [[f32; DIM]],
    pub(crate) moments: &'a mut [[[f32; DIM]; 2]],
}

/// The arithmetic that a method applies to some rows in one epoch.
pub(crate) trait Kernel: Sync + Debug {
    /// How edge weights are encoded.
    const CODING: Coding;
    /// Whether the repulsive force comes from a field over the whole map, rather than from negative samples.
    const FIELD: bool = false;
    /// Whether a GPU kernel exists.
    const ON_DEVICE: bool = false;

    /// Returns the GPU kernel's name and its parameters for an epoch; `None` if no GPU kernel exists.
    #[cfg(any(test, feature = "cuda"))]
    fn on_device(&self, _: &Epoch) -> Option<super::cuda::OnDevice> {
        None
    }

    /// Moves the chunk's rows by one epoch.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set; the epoch's rows and the chunk's rows are all within the
    /// snapshot.
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn advance<V: Lanes, const DIM: usize>(&self, chunk: Chunk<'_, DIM>);
}

/// A `Kernel` as a trait object, for code that selects a method at run time.
pub trait Objective: Sync + Debug {
    /// How edge weights are encoded.
    fn coding(&self) -> Coding;
    /// Whether the repulsive force comes from a field over the whole map.
    fn field(&self) -> bool;
    /// Whether a GPU kernel exists.
    fn has_device(&self) -> bool;
    /// Runs a layout with this objective; see [`super::run_on`].
    ///
    /// # Errors
    /// The same as of [`super::run_on`].
    fn run(
        &self,
        gpu: Option<&Gpu>,
        options: &Options,
        edges: &Edges,
        start: Start<'_>,
        checkpoints: &mut dyn Checkpoints,
        progress: &Progress<'_>,
    ) -> Result<Vec<f32>>;
}

impl<K: Kernel> Objective for K {
    fn coding(&self) -> Coding {
        K::CODING
    }

    fn field(&self) -> bool {
        K::FIELD
    }

    fn has_device(&self) -> bool {
        K::ON_DEVICE
    }

    fn run(
        &self,
        gpu: Option<&Gpu>,
        options: &Options,
        edges: &Edges,
        start: Start<'_>,
        checkpoints: &mut dyn Checkpoints,
        progress: &Progress<'_>,
    ) -> Result<Vec<f32>> {
        super::epochs(self, gpu, options, edges, start, checkpoints, progress)
    }
}

/// Moves the chunk's rows by one epoch, with the widest instruction set of the processor.
///
/// # Panics
/// If a row of the epoch or of the chunk is not within the snapshot.
pub(crate) fn advance<K: Kernel, const DIM: usize>(kernel: &K, chunk: Chunk<'_, DIM>) {
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
unsafe fn advance_avx512<K: Kernel, const DIM: usize>(kernel: &K, chunk: Chunk<'_, DIM>) {
    // SAFETY: the caller guarantees the instruction set and the rows.
    unsafe { kernel.advance::<super::lanes::Avx512, DIM>(chunk) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
pub(crate) unsafe fn advance_avx2<K: Kernel, const DIM: usize>(kernel: &K, chunk: Chunk<'_, DIM>) {
    // SAFETY: the caller guarantees the instruction set and the rows.
    unsafe { kernel.advance::<super::lanes::Avx2, DIM>(chunk) }
}
