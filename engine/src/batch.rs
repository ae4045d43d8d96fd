//! Batches of a source whose rows are prepared for a metric, by [`lowland_io::Loader`].

use std::sync::Arc;

use lowland_io::{Loader, LoaderOptions, Source};

use crate::Metric;

/// Returns a loader of all rows of `source`, `batch_rows` at a time. The reading thread prepares each batch for
/// `metric` ([`Metric::prepare`]).
///
/// ```
/// use std::sync::Arc;
///
/// use lowland_engine::{Metric, prepared_loader};
/// use lowland_io::MemorySource;
///
/// let source = Arc::new(MemorySource::from_vec("rows", vec![5.0, 0.0, 0.0, 2.0], 2)?);
/// for batch in &prepared_loader(source, Metric::Cosine, 4096) {
///     assert_eq!(batch?.values(), [1.0, 0.0, 0.0, 1.0]); // of length 1
/// }
/// # Ok::<(), lowland_io::Error>(())
/// ```
pub fn prepared_loader(source: Arc<dyn Source>, metric: Metric, batch_rows: usize) -> Loader {
    Loader::new(source, prepared(metric, batch_rows))
}

/// Returns the options of [`prepared_loader`].
pub(crate) fn prepared(metric: Metric, batch_rows: usize) -> LoaderOptions {
    let prepare = move |values: &mut [f32], dim: usize| metric.prepare(values, dim);
    LoaderOptions { batch_rows: Some(batch_rows), rows: None, prepare: Some(Arc::new(prepare)) }
}
