//! Data loader: batches of a source in order, read ahead by a separate thread into recycled buffers. The
//! last batch may be short.
//!
//! Invariants: the rows do not depend on the batch size; at most `PREFETCH + 2` buffers exist at a time.

use std::ops::Range;
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use lowland_io::Source;

use crate::{Metric, Result};

/// Number of batches read ahead of the one in use.
const PREFETCH: usize = 2;

/// Consecutive rows of a source.
pub struct Batch {
    /// Number of the first row.
    pub first: u64,
    /// Number of components of a row.
    pub dim: usize,
    values: Vec<f32>,
    empty: Sender<Vec<f32>>,
}

impl Batch {
    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.dim
    }

    /// Returns the values, row after row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Sending fails if the reader has ended; the buffer is then freed.
        let _ = self.empty.try_send(std::mem::take(&mut self.values));
    }
}

/// An iterator over the batches of a source.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use lowland_engine::{Loader, Metric};
/// let source: std::sync::Arc<dyn lowland_io::Source> = lowland_io::open(&["vectors.parquet".into()], &Default::default())?.into();
/// for batch in Loader::new(source, Metric::Euclidean, 4096) {
///     let batch = batch?;
///     println!("rows {}..{}", batch.first, batch.first + batch.rows() as u64);
/// }
/// # Ok(()) }
/// ```
pub struct Loader {
    full: Receiver<Result<Batch>>,
    reader: Option<JoinHandle<()>>,
}

impl Loader {
    /// Loads all rows of `source`, `batch_rows` at a time, prepared for `metric`.
    pub fn new(source: Arc<dyn Source>, metric: Metric, batch_rows: usize) -> Self {
        let rows = source.shape().rows;
        Self::over_range(source, metric, batch_rows, 0..rows)
    }

    /// Loads only the rows of `range`.
    pub fn over_range(source: Arc<dyn Source>, metric: Metric, batch_rows: usize, range: Range<u64>) -> Self {
        let batch_rows = batch_rows.max(1);
        let (to_user, full) = bounded(PREFETCH);
        let (recycle, empty) = bounded::<Vec<f32>>(PREFETCH + 2);
        let no_thread = to_user.clone();
        let reader = std::thread::Builder::new()
            .name("lowland-reader".into())
            .spawn(move || {
                let dim = source.shape().dim;
                let mut first = range.start;
                while first < range.end {
                    let rows = (range.end - first).min(batch_rows as u64) as usize;
                    let mut values = empty.try_recv().unwrap_or_default();
                    values.resize(rows * dim, 0.0);
                    let read = source.read_rows(first, &mut values);
                    let failed = read.is_err();
                    let batch = read.map_err(Into::into).map(|()| {
                        metric.prepare(&mut values, dim);
                        Batch { first, dim, values, empty: recycle.clone() }
                    });
                    if to_user.send(batch).is_err() || failed {
                        return;
                    }
                    first += rows as u64;
                }
            })
            .map_err(|source| no_thread.send(Err(lowland_io::Error::io("", "start a reading thread", source).into())))
            .ok();
        Loader { full, reader }
    }

    /// Returns the bytes of a loader's buffers, without the memory that the source needs for decoding.
    pub fn bytes(batch_rows: usize, dim: usize) -> u64 {
        // One buffer in use, PREFETCH waiting, one being filled.
        (PREFETCH as u64 + 2).saturating_mul(batch_rows as u64).saturating_mul(dim as u64 * 4)
    }
}

impl Iterator for Loader {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.full.recv().ok()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closing the channel stops the reader; joining it ensures that no thread outlives its loader.
        let (_, closed) = bounded(0);
        self.full = closed;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
