//! The layout on an NVIDIA GPU (`crate::cuda`): the kernels of the CPU, written in CUDA.
//!
//! `layout.cu` computes what `umap` and `weighted` compute, with every sum in the same order. A repulsive field
//! (`field`) is computed on the CPU, because its transforms must be scalar for the sake of equal bits; its
//! forces are sent to the GPU in each epoch.
//!
//! What must hold: a map computed on a GPU has the bytes of one computed on the CPU. Either device can
//! therefore go on from the other's checkpoint, and the device is no part of a run's identity.

#[cfg(feature = "cuda")]
mod device_state;
#[cfg(feature = "cuda")]
mod edge_upload;
#[cfg(test)]
pub(crate) mod shim;

#[cfg(feature = "cuda")]
pub(crate) use device_state::UPLOAD_ROOM_BYTES;
#[cfg(feature = "cuda")]
pub(super) use device_state::run;
#[cfg(feature = "cuda")]
pub(crate) use edge_upload::UPLOAD_BUFFER_BYTES;

use super::Optimizer;
use super::field::FieldNodes;
use super::kernel::Epoch;
use crate::random::mix64;

/// The parameters of a method's GPU kernel in an epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GpuKernel {
    /// The kernel's name without the number of components.
    pub(crate) name: &'static str,
    /// Adam's decay rates β₁ and β₂.
    pub(crate) betas: [f32; 2],
    /// Number of epochs since the optimizer was started or restarted, this one included.
    pub(crate) since: u32,
    /// Whether the optimizer is restarted in this epoch.
    pub(crate) restart: bool,
    /// How rows are moved.
    pub(crate) optimizer: Optimizer,
    /// The weights of PaCMAP's near and mid-near pairs.
    pub(crate) weights: [f32; 2],
}

/// The arguments of a kernel; must match the struct of the same name in `layout.cu`.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Arguments {
    draws: u64,
    pools: u64,
    step: f64,
    origin: [f64; 2],
    number: u32,
    rows: u32,
    parity: u32,
    first: u32,
    count: u32,
    span: u32,
    negatives: u32,
    restart: u32,
    optimizer: u32,
    a: f32,
    b: f32,
    rate: f32,
    beta1: f32,
    beta2: f32,
    correct1: f32,
    correct2: f32,
    exaggeration: f32,
    unit: f32,
    near: f32,
    middle: f32,
    factor: f32,
    side: u32,
}

impl Arguments {
    /// Returns the arguments of an epoch over the rows of `block`. The snapshot is the half of the state that
    /// `parity` selects.
    fn of(epoch: &Epoch, own: &GpuKernel, nodes: FieldNodes, parity: u32, block: RowSpan) -> Self {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let key = |stream: u64| mix64(epoch.seed.wrapping_add(stream.wrapping_mul(GOLDEN)));
        let correct = |beta: f32| 1.0 / (1.0 - beta.powi(own.since as i32));
        Arguments {
            draws: key(u64::from(epoch.draw_epoch)),
            pools: key(u64::from(epoch.draw_epoch) | super::pool::POOL_STREAM),
            step: nodes.step,
            origin: nodes.origin,
            number: epoch.number,
            rows: epoch.rows,
            parity,
            first: block.first,
            count: block.count,
            span: block.span,
            negatives: epoch.negatives,
            restart: u32::from(own.restart),
            optimizer: match own.optimizer {
                Optimizer::Adam => 0,
                Optimizer::Momentum => 1,
                Optimizer::Gains => 2,
            },
            a: epoch.curve.a as f32,
            b: epoch.curve.b as f32,
            rate: epoch.stepper.rate,
            beta1: own.betas[0],
            beta2: own.betas[1],
            correct1: correct(own.betas[0]),
            correct2: correct(own.betas[1]),
            exaggeration: epoch.exaggeration,
            unit: epoch.unit,
            near: own.weights[0],
            middle: own.weights[1],
            factor: nodes.factor,
            side: nodes.side,
        }
    }
}

/// The rows of consecutive blocks that are sent together; each block is one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct RowSpan {
    first: u32,
    count: u32,
    /// Number of rows of each part except the last.
    span: u32,
    /// Number of words of the parts and their table, as a kernel reads them.
    words: usize,
}

/// Returns the number of words that a table or a part of `words` words takes, padded to whole 128-byte lines.
fn padded_words(words: usize) -> usize {
    words.next_multiple_of(32)
}

/// Returns the number of words of parts with these numbers of words, together with their table.
fn group_words(parts: impl ExactSizeIterator<Item = usize>) -> usize {
    padded_words(parts.len()) + parts.map(padded_words).sum::<usize>()
}

/// Writes the table that precedes the parts: the word at which each part begins. `parts` are the parts' numbers
/// of words.
fn write_offsets(parts: impl Iterator<Item = usize>, table: &mut [u32]) {
    let mut begin = padded_words(table.len());
    for (place, words) in table.iter_mut().zip(parts) {
        *place = begin as u32;
        begin += padded_words(words);
    }
}
