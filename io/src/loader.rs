//! The data loader: batches of a source's rows in order, read ahead by a thread into recycled
//! buffers.
//!
//! What must hold: the rows do not depend on the batch size; every pass over a loader gives the same
//! batches; beside the batches that the user holds, at most [`READ_AHEAD`] + 1 buffers exist at a
//! time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::{Error, Result, Source};

/// The number of batches read ahead of the one in use.
const READ_AHEAD: usize = 2;
/// About the bytes of a batch, if the options do not give its rows.
const BATCH_BYTES: usize = 1 << 20;
/// The most rows of such a batch.
const MAX_BATCH_ROWS: usize = 65_536;

/// Changes the values of a batch, rows × `dim` row-major, before it is handed over.
pub type Prepare = Arc<dyn Fn(&mut [f32], usize) + Send + Sync>;

/// What a [`Loader`] reads, and in what portions.
#[derive(Clone, Default)]
pub struct LoaderOptions {
    /// The number of rows of a batch, of which the last may have fewer. Default: about 1 MiB, and at
    /// most 65,536 rows. 0 counts as 1.
    pub batch_rows: Option<usize>,
    /// The rows to read. Default: all.
    pub rows: Option<Range<u64>>,
    /// Called by the reading thread with each batch's values and the number of components. Default:
    /// values stay as the source gives them.
    pub prepare: Option<Prepare>,
}

/// Consecutive rows of a source.
pub struct Batch {
    /// The number of the first row.
    pub first: u64,
    /// The number of components of a row.
    pub dim: usize,
    values: Vec<f32>,
    /// Where the buffer goes after use.
    empty: SyncSender<Vec<f32>>,
}

impl Batch {
    /// Returns the number of rows.
    pub fn rows(&self) -> usize {
        self.values.len().checked_div(self.dim).unwrap_or(0)
    }

    /// Returns the values, rows × `dim` row-major. A null is [`NULL`](crate::NULL).
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("first", &self.first).field("rows", &self.rows()).finish_non_exhaustive()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // Sending fails if the reader has ended; the buffer is then freed.
        let _ = self.empty.try_send(std::mem::take(&mut self.values));
    }
}

/// Loads the rows of a source batch by batch, as often as wanted. Each pass has a thread of its own,
/// which reads two batches ahead, and ends with the pass.
///
/// ```
/// use std::sync::Arc;
///
/// use lowland_io::{Loader, LoaderOptions, MemorySource};
///
/// // 5 rows of 2 components; lowland_io::open gives the source of files.
/// let source = MemorySource::from_vec("rows", (0..10).map(|x| x as f32).collect(), 2)?;
/// let loader = Loader::new(Arc::new(source), LoaderOptions { batch_rows: Some(2), ..Default::default() });
/// for _epoch in 0..2 {
///     let mut sizes = Vec::new();
///     for batch in &loader {
///         let batch = batch?;
///         assert_eq!(batch.values()[0], batch.first as f32 * 2.0);
///         sizes.push(batch.rows());
///     }
///     assert_eq!(sizes, [2, 2, 1]);
/// }
/// # Ok::<(), lowland_io::Error>(())
/// ```
#[derive(Clone)]
pub struct Loader {
    source: Arc<dyn Source>,
    rows: Range<u64>,
    batch_rows: usize,
    prepare: Option<Prepare>,
}

impl Loader {
    /// Returns the loader of `source`. Nothing is read before a pass begins.
    pub fn new(source: Arc<dyn Source>, options: LoaderOptions) -> Self {
        let shape = source.shape();
        let usual = (BATCH_BYTES / (shape.dim.max(1) * 4)).clamp(1, MAX_BATCH_ROWS);
        Loader {
            rows: options.rows.unwrap_or(0..shape.rows),
            batch_rows: options.batch_rows.unwrap_or(usual).max(1),
            prepare: options.prepare,
            source,
        }
    }

    /// Begins a pass: the batches from the first row on. Also `for batch in &loader`.
    ///
    /// Rows that do not exist or cannot be read are an error, after which the pass ends. A panic of the
    /// reading thread, for example in [`LoaderOptions::prepare`], is resumed by the user's.
    pub fn iter(&self) -> Batches {
        Batches::start(self.clone())
    }

    /// Returns the bytes of the buffers of one pass whose user holds one batch at a time, without what the source holds while it is read
    /// ([`Source::held_bytes`]).
    pub fn bytes(batch_rows: usize, dim: usize) -> u64 {
        // One buffer in use, READ_AHEAD waiting, one being filled.
        (READ_AHEAD as u64 + 2).saturating_mul(batch_rows as u64).saturating_mul(dim as u64 * 4)
    }
}

impl IntoIterator for &Loader {
    type Item = Result<Batch>;
    type IntoIter = Batches;

    fn into_iter(self) -> Batches {
        self.iter()
    }
}

impl IntoIterator for Loader {
    type Item = Result<Batch>;
    type IntoIter = Batches;

    fn into_iter(self) -> Batches {
        Batches::start(self)
    }
}

/// One pass of a [`Loader`] over its rows.
pub struct Batches {
    /// `None` once the pass is being dropped.
    full: Option<Receiver<Result<Batch>>>,
    reader: Option<JoinHandle<()>>,
}

impl Batches {
    fn start(loader: Loader) -> Self {
        let (to_user, full) = sync_channel(READ_AHEAD);
        let no_thread = to_user.clone();
        let reader = std::thread::Builder::new()
            .name("lowland-reader".into())
            .spawn(move || loader.read(&to_user))
            .map_err(|source| no_thread.send(Err(Error::io("", "start a reading thread", source))))
            .ok();
        Batches { full: Some(full), reader }
    }
}

impl Loader {
    /// Sends all batches, until one fails or nobody receives them.
    fn read(self, to_user: &SyncSender<Result<Batch>>) {
        let Loader { source, rows, batch_rows, prepare } = self;
        let (recycle, empty) = sync_channel::<Vec<f32>>(READ_AHEAD + 2);
        let dim = source.shape().dim;
        let mut first = rows.start;
        while first < rows.end {
            let count = (rows.end - first).min(batch_rows as u64) as usize;
            let mut values = empty.try_recv().unwrap_or_default();
            values.resize(count * dim, 0.0);
            let read = source.read_rows(first, &mut values);
            let failed = read.is_err();
            let batch = read.map(|()| {
                if let Some(prepare) = &prepare {
                    prepare(&mut values, dim);
                }
                Batch { first, dim, values, empty: recycle.clone() }
            });
            if to_user.send(batch).is_err() || failed {
                return;
            }
            first += count as u64;
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        let received = self.full.as_ref()?.recv().ok();
        // A reader that panicked has closed the channel, as one that has read all rows.
        if received.is_none()
            && let Some(reader) = self.reader.take()
            && let Err(panic) = reader.join()
        {
            std::panic::resume_unwind(panic);
        }
        received
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        // Closing the channel stops the reader; joining it ensures that no thread outlives its pass.
        self.full = None;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
