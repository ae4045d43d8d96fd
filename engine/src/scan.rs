//! The scan stage: one pass over the source that validates every number and collects the input of later stages:
//! the training sample, and principal components if the first positions need them.
//!
//! The training sample of a finished run, whose directory is `run`:
//!
//! ```
//! # use std::sync::Arc;
//! # use lowland_engine::{Config, Inputs, embed};
//! # use lowland_io::{MemorySource, RunDir};
//! # let place = tempfile::tempdir()?;
//! # let rows: Vec<f32> = (0..600 * 8).map(|i| ((i * 7919 % 1009) as f32).sin()).collect();
//! # let inputs = Inputs { source: Some(Arc::new(MemorySource::from_vec("rows", rows, 8)?)), ..Inputs::default() };
//! # let plan = Config { n_epochs: Some(10), threads: Some(1), ..Config::default() }.plan(&inputs.describe()?)?;
//! # let (run, _) = RunDir::open(place.path().join("run"), plan.identity(), Vec::new())?;
//! # let mut map = Vec::new();
//! # let report = embed(&plan, &inputs, &run, &mut map, &())?;
//! use lowland_engine::scan;
//!
//! let sample = scan::read_sample(run.dir())?; // rows × components
//! assert_eq!(sample.len() as u64, plan.index().sample_rows * 8);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::sync::Arc;

use lowland_io::{PendingFile, Source};
use serde::{Deserialize, Serialize};

use crate::batch::prepared_loader;
use crate::budget::MemoryNeeds;
use crate::component_variance::ComponentVariance;
use crate::distinct::Counter;
use crate::error::FlawSummary;
use crate::pca::{BlockwisePca, Covariance, Pca, PcaError};
use crate::plan::Plan;
use crate::random::stratified;
use crate::work::{StageContext, StageFiles};
use crate::{Error, Result, precision};

/// Name of the training sample's file: rows × dim f32, little-endian, in the source's order.
pub const SAMPLE_FILE: &str = "training.f32";

/// Lower bound of the largest component, below which squared distances underflow f32.
const MIN_LARGEST_COMPONENT: f32 = 1e-15;

/// The results of the scan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScanResult {
    /// Number of rows.
    pub rows: u64,
    /// The first principal components, if they are needed.
    pub pca: Option<Pca>,
    /// Number of distinct rows, if the method is one of all pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distinct: Option<usize>,
}

enum ComponentSums {
    None,
    Exact(Covariance),
    Blockwise(BlockwisePca),
}

/// Scans `source` and writes the training sample.
pub fn scan(plan: &Plan, source: &Arc<dyn Source>, work: &StageContext<'_>) -> Result<(StageFiles, ScanResult)> {
    let (dim, progress) = (plan.shape.dim, work.progress);
    let _held = work.reserve(&needs(plan), "read")?;
    let wanted = stratified(plan.settings.seed, 0x5ca9, plan.shape.rows, plan.index.sample_rows);
    let mut wanted = wanted.into_iter().peekable();
    // Without lists, no quantizer is trained and no sample is needed.
    let mut sample =
        if plan.index.sample_rows > 0 { Some(SampleFile { file: work.create(SAMPLE_FILE)? }) } else { None };
    let mut components = match (plan.needs_pca(), plan.uses_incremental_pca()) {
        (false, _) => ComponentSums::None,
        (true, false) => ComponentSums::Exact(Covariance::new(dim)),
        (true, true) => ComponentSums::Blockwise(BlockwisePca::new(dim, plan.settings.n_components)),
    };
    let mut first_row: Option<Vec<f32>> = None;
    let mut all_equal = true;
    let mut largest = 0f32;
    let mut rows = 0;
    let mut spread = ComponentVariance::new(dim);
    let mut flaws = FlawSummary::default();
    // Methods of all pairs fit distinct rows only, which limits some of their options.
    let mut distinct = plan.all_pairs.as_ref().map(|_| Counter::new(plan.shape.rows));
    for batch in prepared_loader(source.clone(), plan.settings.metric, plan.batch_rows) {
        let batch = batch?;
        let values = batch.values();
        rows += batch.rows() as u64;
        if !crate::invalid::check_rows(&mut flaws, plan.settings.metric, source.as_ref(), batch.first, values)? {
            progress.advance(batch.rows() as u64)?;
            continue;
        }
        let first = first_row.get_or_insert_with(|| values[..dim].to_vec());
        largest = values.iter().fold(largest, |most, x| most.max(x.abs()));
        spread.add(values);
        if let Some(counter) = &mut distinct {
            counter.add(values, dim);
        }
        all_equal = all_equal && values.chunks_exact(dim).all(|row| row == first.as_slice());
        while let Some(row) = wanted.next_if(|&row| row < batch.first + batch.rows() as u64) {
            if let Some(sample) = &mut sample {
                sample.push(&values[(row - batch.first) as usize * dim..][..dim])?;
            }
        }
        match &mut components {
            ComponentSums::None => {}
            ComponentSums::Exact(covariance) => covariance.add(values),
            ComponentSums::Blockwise(pca) => pca.add(values),
        }
        progress.traffic.read((batch.rows() * plan.source_row_bytes) as u64);
        progress.advance(batch.rows() as u64)?;
    }
    if rows != plan.shape.rows {
        return Err(Error::Data { what: format!("the source returned {rows} rows, expected {}", plan.shape.rows) });
    }
    flaws.refuse(rows)?;
    if all_equal {
        let rounded = if source.dtype().is_single() { "" } else { " in single precision" };
        return Err(Error::Data { what: format!("all {rows} rows are equal{rounded}: a map would be one point") });
    }
    if largest < MIN_LARGEST_COMPONENT {
        let what = format!(
            "no component is above {largest:e}; squares of numbers below {MIN_LARGEST_COMPONENT:e} are lost in single precision: scale the data up"
        );
        return Err(Error::Data { what });
    }
    if let Some(outweighing) = spread.dominant(plan.settings.metric) {
        progress.warn("one-component", outweighing.explain(source.as_ref()))?;
    }
    if let Some(text) = precision::precision_note(&spread, source.as_ref())? {
        progress.note("coarse-components", text)?;
    }
    let pca = match components {
        ComponentSums::None => None,
        ComponentSums::Exact(covariance) => Some(covariance.finish(plan.settings.n_components.min(dim))),
        ComponentSums::Blockwise(pca) => Some(pca.finish()),
    }
    .transpose()
    .map_err(|e: PcaError| Error::Config { field: "n_components", why: e.to_string() })?;
    let mut made = StageFiles::new();
    if let Some(sample) = sample {
        let stamp = sample.file.finish()?;
        progress.traffic.wrote(stamp.bytes);
        made.push((SAMPLE_FILE.to_string(), stamp));
    }
    Ok((made, ScanResult { rows, pca, distinct: distinct.map(|counter| counter.count()) }))
}

/// Reads the training sample of a finished scan.
pub fn read_sample(dir: &std::path::Path) -> Result<Vec<f32>> {
    let map = lowland_io::MappedFile::open(dir.join(SAMPLE_FILE))?;
    Ok(map.floats(0, map.bytes().len() / 4)?.to_vec())
}

struct SampleFile {
    file: PendingFile,
}

impl SampleFile {
    fn push(&mut self, row: &[f32]) -> Result<()> {
        crate::work::write_floats(&mut self.file, row)
            .map_err(|e| lowland_io::Error::io(self.file.path(), "write", e).into())
    }
}

/// Returns the memory that the stage takes.
pub fn needs(plan: &Plan) -> MemoryNeeds {
    let dim = plan.shape.dim;
    let components = match (plan.needs_pca(), plan.uses_incremental_pca()) {
        (false, _) => 0,
        (true, false) => Covariance::bytes(dim),
        (true, true) => BlockwisePca::bytes(dim, plan.settings.n_components),
    };
    MemoryNeeds::default().phase(
        "read",
        [
            ("batches", plan.loader_bytes()),
            ("numbers of the rows to sample", plan.index.sample_rows * 8),
            ("principal components", components),
            ("variance of each component", ComponentVariance::bytes(dim)),
            ("distinct rows", plan.all_pairs.as_ref().map_or(0, |_| Counter::bytes(plan.shape.rows))),
            ("file buffer", 1 << 20),
        ],
    )
}

/// Returns the bytes of the training sample.
pub fn disk(plan: &Plan) -> u64 {
    plan.index.sample_rows * plan.shape.dim as u64 * 4
}
