//! The layout on an NVIDIA GPU (`crate::cuda`): the same kernels, in CUDA.
//!
//! `layout.cu` does what `rows` and `weighed` do, sum for sum. A field is the CPU's (`field`):
//! its transforms are scalar for the bits' sake, and what a GPU wants of them is sent in each epoch.
//!
//! What must hold: a map made here has the bytes of one made on the CPU, so that
//! either takes up what the other left, and where a layout ran decides nothing.

#[cfg(feature = "cuda")]
mod resident;
#[cfg(feature = "cuda")]
mod sending;
#[cfg(test)]
pub(crate) mod shim;

#[cfg(feature = "cuda")]
pub(crate) use resident::ROOMS_BYTES;
#[cfg(feature = "cuda")]
pub(super) use resident::run;
#[cfg(feature = "cuda")]
pub(crate) use sending::SENDING_BYTES;

use super::Optimizer;
use super::field::Nodes;
use super::kernel::Epoch;
use crate::random::mix64;

/// What a method has of its own on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnDevice {
    /// What its kernels are called, before the number of components.
    pub(crate) name: &'static str,
    /// How Adam averages.
    pub(crate) betas: [f32; 2],
    /// Epochs since the optimizer began, this one included, where it may begin anew.
    pub(crate) since: u32,
    /// Whether its moments begin anew in this epoch.
    pub(crate) restart: bool,
    /// How rows move.
    pub(crate) optimizer: Optimizer,
    /// The weights of PaCMAP's near and mid-near pairs.
    pub(crate) weights: [f32; 2],
}

/// What a kernel is told: as the struct of the same name in `layout.cu`.
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
    /// An epoch over some rows; the snapshot is the half of the state that `parity` names.
    fn of(epoch: &Epoch, own: &OnDevice, nodes: Nodes, parity: u32, block: Extent) -> Self {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let key = |stream: u64| mix64(epoch.seed.wrapping_add(stream.wrapping_mul(GOLDEN)));
        let correct = |beta: f32| 1.0 / (1.0 - beta.powi(own.since as i32));
        Arguments {
            draws: key(u64::from(epoch.drawn)),
            pools: key(u64::from(epoch.drawn) | super::pool::POOLS),
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

/// The rows of some blocks that are sent together, one part each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    first: u32,
    count: u32,
    /// Rows of each part but the last.
    span: u32,
    /// What they are, as a kernel reads them, in words.
    words: usize,
}

/// Words that a table or a part has where it lies: parts begin at whole lines of memory.
fn padded_words(words: usize) -> usize {
    words.next_multiple_of(32)
}

/// Words that hold so many parts of so many words in all, and their table.
fn group_words(parts: impl ExactSizeIterator<Item = usize>) -> usize {
    padded_words(parts.len()) + parts.map(padded_words).sum::<usize>()
}

/// Writes the table of where each of some parts begins, which stands before them: each has so many words.
fn tabulate(parts: impl Iterator<Item = usize>, table: &mut [u32]) {
    let mut begin = padded_words(table.len());
    for (place, words) in table.iter_mut().zip(parts) {
        *place = begin as u32;
        begin += padded_words(words);
    }
}
