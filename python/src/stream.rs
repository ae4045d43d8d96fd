//! Reads an Arrow stream of Python on a separate thread.
//!
//! What must hold:
//! - The producer of the batches never runs on the thread that calls lowland. Polars records for each
//!   thread whether the thread holds the interpreter's lock (GIL). lowland releases the GIL while it
//!   waits; a producer of Polars on the same thread would then use Python objects without the GIL.
//! - No such thread is alive when the interpreter ends: a thread that asks for the GIL afterwards
//!   aborts the process. A stream that is given up leaves its thread inside the producer, so the
//!   interpreter's exit waits for these threads (`alive.rs`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::array::RecordBatchReader;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::alive;
use crate::errors::from_panic;
use crate::source::reader_of;
use crate::watch::{POLL, Watch};

/// The batches of an object with `__arrow_c_stream__` or `__arrow_c_array__`, in order. One batch is
/// read ahead.
pub(crate) struct Stream {
    schema: SchemaRef,
    batches: Receiver<PyResult<RecordBatch>>,
}

impl Stream {
    /// Begins to read `data`, which errors call `name`.
    ///
    /// # Errors
    /// If the object is no Arrow data, or the thread cannot be started.
    pub(crate) fn new(data: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let reader = reader_of(data)?;
        let (schema, name) = (reader.schema(), name.to_string());
        let (to, batches) = bounded(0);
        let alive = alive::enter(None);
        let work = move || {
            read(reader, &name, to);
            drop(alive);
        };
        std::thread::Builder::new().name("lowland-stream".into()).spawn(work)?;
        Ok(Stream { schema, batches })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Waits for the next batch; `None` after the last.
    ///
    /// # Errors
    /// What the producer raised, and what signals raise.
    pub(crate) fn next(&self, py: Python<'_>, watch: &Watch) -> PyResult<Option<RecordBatch>> {
        loop {
            match py.detach(|| self.batches.recv_timeout(POLL)) {
                Ok(batch) => return batch.map(Some),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => watch.check_signals(py)?,
            }
        }
    }
}

/// Sends the batches of `reader`, until there are no more or nobody receives them.
fn read(mut reader: Box<dyn RecordBatchReader + Send>, name: &str, to: Sender<PyResult<RecordBatch>>) {
    // Attached throughout, so that an exception that the producer leaves stays with this thread.
    Python::attach(|py| {
        loop {
            let batch = match catch_unwind(AssertUnwindSafe(|| py.detach(|| reader.next()))) {
                Ok(None) => return,
                Ok(Some(batch)) => batch.map_err(|error| broken(py, name, &error)),
                Err(panic) => Err(from_panic(py, panic.as_ref())),
            };
            let failed = batch.is_err();
            if py.detach(|| to.send(batch)).is_err() || failed {
                return;
            }
        }
    });
    // Releases the producer's objects before the receiver learns that this was the last batch.
    drop(reader);
    drop(to);
}

fn broken(py: Python<'_>, name: &str, error: &ArrowError) -> PyErr {
    // What Python raised while it made a batch.
    if let Some(raised) = PyErr::take(py) {
        return raised;
    }
    PyValueError::new_err(format!("{name}: {error}"))
}
