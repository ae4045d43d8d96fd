//! What a method does to some rows in one epoch, and on which instruction set.
//!
//! A [`Kernel`] is written once, over [`Lanes`]; [`advance`] picks the widest
//! instruction set that the processor has. What must hold: a kernel writes its
//! own rows only, and its sums have one order, so that the bits are the same
//! on every instruction set and whoever computes them.

use std::fmt::Debug;

use super::curve::Curve;
use super::field::Field;
use super::lanes::{Lanes, Portable};
use super::optimizer::Stepper;
use super::walk::{Coding, Walk};
use super::{Checkpoints, Edges, Gpu, Options, Start};
use crate::Result;
use crate::observe::Progress;

/// What an epoch needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch {
    /// The curve of the map, where the method has one.
    pub(crate) curve: Curve,
    /// Its number, from 1.
    pub(crate) number: u32,
    /// The number of the epoch whose draws it uses: its own, or an earlier one's.
    pub(crate) drawn: u32,
    /// How many there are.
    pub(crate) epochs: u32,
    /// How rows move.
    pub(crate) stepper: Stepper,
    /// What attraction is multiplied by.
    pub(crate) exaggeration: f32,
    /// Pushing rows for each edge that fires, or for each row.
    pub(crate) negatives: u32,
    /// The root of the weight of one unit of an edge's code, where codes are roots.
    pub(crate) unit: f32,
    /// Rows of the map.
    pub(crate) rows: u32,
    /// The seed.
    pub(crate) seed: u64,
}

/// The rows that one thread owns for an epoch, and what it reads.
pub(crate) struct Chunk<'a, const DIM: usize> {
    pub(crate) epoch: &'a Epoch,
    /// The edges of these rows and others.
    pub(crate) block: &'a Walk,
    /// The first row.
    pub(crate) first: u32,
    /// All rows' positions at the epoch's start.
    pub(crate) snapshot: &'a [[f32; DIM]],
    /// All rows' pushes together, for methods that take them from a field.
    pub(crate) field: Option<&'a Field>,
    /// The rows' own positions and moments.
    pub(crate) positions: &'a mut [[f32; DIM]],
    pub(crate) moments: &'a mut [[[f32; DIM]; 2]],
}

/// What a method does to some rows in one epoch.
pub(crate) trait Kernel: Sync + Debug {
    /// How edges are walked.
    const CODING: Coding;
    /// Whether pushes come from a field over the whole map, rather than from drawn rows.
    const FIELD: bool = false;
    /// Whether a GPU has a kernel for it.
    const ON_DEVICE: bool = false;

    /// What the same arithmetic is called on a GPU and has of its own there; none where it has no kernel.
    #[cfg(any(test, feature = "cuda"))]
    fn on_device(&self, _: &Epoch) -> Option<super::cuda::OnDevice> {
        None
    }

    /// Moves the chunk's rows by one epoch.
    ///
    /// # Safety
    /// The processor has `V`'s instruction set; the epoch's rows and the owned rows are all within the snapshot.
    #[expect(unsafe_code, reason = "measured kernel")]
    unsafe fn advance<V: Lanes, const DIM: usize>(&self, chunk: Chunk<'_, DIM>);
}

/// A kernel whose type is not known where it is chosen.
pub trait Objective: Sync + Debug {
    /// How edges are walked.
    fn coding(&self) -> Coding;
    /// Whether pushes come from a field over the whole map.
    fn field(&self) -> bool;
    /// Whether a GPU has a kernel for it.
    fn has_device(&self) -> bool;
    /// [`super::run_on`] with this objective.
    ///
    /// # Errors
    /// As there.
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

/// Moves the chunk's rows by one epoch, on the widest instruction set there is.
///
/// # Panics
/// If the chunk names a row that the snapshot does not have.
pub(crate) fn advance<K: Kernel, const DIM: usize>(kernel: &K, chunk: Chunk<'_, DIM>) {
    let last = chunk.first as usize + chunk.positions.len();
    assert!(chunk.epoch.rows as usize <= chunk.snapshot.len() && last <= chunk.snapshot.len());
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512dq") {
            // SAFETY: the processor has the features, as just asked, and the rows were just checked.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { advance_avx512(kernel, chunk) };
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            #[expect(unsafe_code, reason = "measured kernel: run-time dispatch")]
            return unsafe { advance_avx2(kernel, chunk) };
        }
    }
    // SAFETY: plain Rust needs no instruction set, and the rows were just checked.
    #[expect(unsafe_code, reason = "the generic kernel")]
    unsafe {
        kernel.advance::<Portable, DIM>(chunk);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
unsafe fn advance_avx512<K: Kernel, const DIM: usize>(kernel: &K, chunk: Chunk<'_, DIM>) {
    // SAFETY: as the caller vouches.
    unsafe { kernel.advance::<super::lanes::Avx512, DIM>(chunk) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(unsafe_code, reason = "measured kernel")]
pub(crate) unsafe fn advance_avx2<K: Kernel, const DIM: usize>(kernel: &K, chunk: Chunk<'_, DIM>) {
    // SAFETY: as the caller vouches.
    unsafe { kernel.advance::<super::lanes::Avx2, DIM>(chunk) }
}
