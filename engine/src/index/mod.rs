//! The index stage: trains the coarse quantizer, assigns each row to an inverted list, and writes the
//! vectors in list order as an index that FAISS can open.
//!
//! Rows arrive in batches and are collected in a shard, a buffer of as many rows as the plan allows
//! (`shards`). A full shard is sorted by list and written while the next one is filled; at the end the shards are merged
//! list by list.
//! The quantizer and each shard are units: a resumed run neither trains again nor reads a row of a
//! finished shard again.
//!
//! Invariant: the rows of a list keep the source's order, so that the files do not depend on the number of shards.
//!
//! The lists of a finished run, whose directory is `run`:
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
//! use lowland_engine::index;
//!
//! let lists = index::open(run.dir())?;
//! for list in 0..lists.table.count() {
//!     let vectors = lists.vectors(list)?; // rows × components
//!     assert_eq!(vectors.len(), lists.source_rows(list).len() * 8);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod assign;
mod assign_by_codes;
#[cfg(not(lowland_no_faiss))]
pub mod faiss;
#[cfg(lowland_no_faiss)]
#[path = "no_faiss.rs"]
pub mod faiss;
mod lists;
mod shards;
mod train;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use lowland_io::{Error as IoError, FileStamp, Loader, LoaderOptions, PendingFile, RunDir, Source};

pub use assign::k_nearest;
pub use lists::{InvertedLists, ListTable};
use shards::ShardBuffer;
pub(crate) use train::group_count;
pub use train::{Quantizer, train};

use crate::batch::prepared;
use crate::budget::MemoryNeeds;
use crate::plan::Plan;
use crate::work::{StageContext, StageFiles, write_floats};
use crate::{Error, Result, scan};

/// Name of the index file that FAISS opens.
pub const INDEX: &str = "index.faiss";
/// Name of the file with the vectors in list order: FAISS's on-disk inverted lists.
pub const LISTS: &str = "lists.ivf";
/// Name of the file with the lists' sizes and centroids.
pub const METHODS: &str = "lists.table";

/// Builds the index of `source` from the training sample of the scan stage, and returns the written files.
pub fn build(plan: &Plan, source: &Arc<dyn Source>, work: &StageContext<'_>) -> Result<StageFiles> {
    let (dim, needs, progress) = (plan.shape.dim, needs(plan), work.progress);
    let held = work.reserve(&needs, "train")?;
    let quantizer = quantizer(plan, work)?;
    let assigner = assign::ListAssigner::new(&quantizer);
    drop(held);
    progress.check()?;

    let held = work.reserve(&needs, "assign")?;
    let mut shards = ShardBuffer::resume(source.as_ref(), quantizer.count(), plan.index.shard_rows, *work)?;
    let rows = shards.next_row()..plan.shape.rows;
    progress.advance(rows.start)?;
    let options = LoaderOptions { rows: Some(rows), ..prepared(plan.settings.metric, plan.batch_rows) };
    for batch in Loader::new(source.clone(), options) {
        let batch = batch?;
        progress.traffic.read((batch.rows() * plan.source_row_bytes) as u64);
        let mut done = 0;
        while done < batch.rows() {
            let taken = shards.remaining_rows().min(batch.rows() - done);
            let rows = &batch.values()[done * dim..][..taken * dim];
            shards.add(rows, &assigner.assign(rows));
            done += taken;
            if shards.remaining_rows() == 0 && shards.next_row() < plan.shape.rows {
                shards.spill()?;
            }
        }
        progress.advance(batch.rows() as u64)?;
    }
    drop(assigner);
    drop(held);
    let held = work.reserve(&needs, "write")?;
    let (sizes, stamp) = shards.finish(LISTS)?;
    drop(held);

    let mut starts = vec![0u32];
    for &size in &sizes {
        starts.push(starts.last().copied().unwrap_or(0) + size);
    }
    let rows = u64::from(starts.last().copied().unwrap_or(0));
    if rows != plan.shape.rows {
        return Err(Error::Data {
            what: format!(
                "the source returned {rows} rows, but the scan found {}: it changed while it was read",
                plan.shape.rows
            ),
        });
    }
    let table = ListTable::new(dim, starts, quantizer.centroids);
    let mut made = vec![(LISTS.to_string(), stamp)];
    made.push((METHODS.to_string(), write_table(work.create(METHODS)?, &table)?));
    made.push((INDEX.to_string(), write_index(plan, &table, work.run)?));
    for (_, stamp) in &made[1..] {
        progress.traffic.wrote(stamp.bytes);
    }
    Ok(made)
}

/// Returns the quantizer, which is trained now or was trained by an earlier process: the stage's first unit.
fn quantizer(plan: &Plan, work: &StageContext<'_>) -> Result<Quantizer> {
    const UNIT: &str = "quantizer";
    const FILE: &str = "quantizer.bin";
    let path = work.path(FILE);
    if let Some(()) = work.recorded_unit::<()>(UNIT)? {
        return Quantizer::read(&path);
    }
    let mut sample = scan::read_sample(work.run.dir())?;
    let quantizer = train(&mut sample, plan.shape.dim, plan.index.lists, plan.settings.seed, work.progress)?;
    drop(sample);
    let stamp = quantizer.write(work.create(FILE)?)?;
    work.progress.traffic.wrote(stamp.bytes);
    work.record_unit(UNIT, vec![(FILE.into(), stamp)], &())?;
    Ok(quantizer)
}

/// Opens the inverted lists of a finished index stage in `dir`.
pub fn open(dir: &Path) -> Result<InvertedLists> {
    InvertedLists::open(&dir.join(LISTS), read_table(&dir.join(METHODS))?)
}

/// Returns the bytes of the lists' table and centroids, which are held from the index stage on.
pub(crate) fn table_bytes(plan: &Plan) -> u64 {
    if plan.shape.dim > 0 { ListTable::bytes(plan.index.lists, plan.shape.dim) } else { 0 }
}

/// Returns the memory that the stage holds, phase by phase: training, assigning rows, writing.
pub fn needs(plan: &Plan) -> MemoryNeeds {
    let (dim, sampled) = (plan.shape.dim, plan.index.sample_rows as usize);
    let sample = sampled as u64 * dim as u64 * 4;
    let rows = plan.index.shard_rows as u64;
    let buffered = rows * shards::buffers(rows, plan.shape.rows);
    // As trained, as packed, and as held by FAISS.
    let centroids = ("centroids, also packed", 3 * table_bytes(plan));
    MemoryNeeds::default()
        .phase(
            "train",
            [
                ("training sample", sample),
                ("k-means", Quantizer::bytes(sampled, dim, plan.index.lists, plan.threads)),
                ("centroids, also packed", 2 * table_bytes(plan)),
            ],
        )
        .phase(
            "assign",
            [
                ("rows of shards", buffered * shards::row_bytes(dim)),
                ("their order", if rows < plan.shape.rows { rows * 4 } else { 0 }),
                centroids,
                ("batches", plan.loader_bytes() + plan.batch_rows as u64 * 4),
                ("rows of a batch in codes", assign_by_codes::bytes(plan.batch_rows, dim, plan.threads)),
                ("file buffer", 1 << 20),
            ],
        )
        .phase(
            "write",
            [
                ("rows of shards", buffered * shards::row_bytes(dim)),
                ("their order", rows * 4),
                centroids,
                ("file buffer", 1 << 20),
            ],
        )
}

/// Returns how many rows a shard has, of `rows` rows of `dim` components, if buffers may take `bytes`.
pub fn shard_rows(bytes: u64, rows: u64, dim: usize) -> u64 {
    // The order of the rows is held while they are sorted.
    let row = shards::row_bytes(dim) + 4;
    if bytes / row >= rows { rows } else { bytes / (2 * shards::row_bytes(dim) + 4) }
}

/// Returns the bytes on disk: temporary files (shards while they are merged), and files that stay.
pub fn disk(plan: &Plan) -> (u64, u64) {
    let (rows, dim) = (plan.shape.rows, plan.shape.dim as u64);
    let lists = rows * (dim * 4 + 8);
    let shards = if (plan.index.shard_rows as u64) < rows { lists } else { 0 };
    let flat = if plan.index.exact { lists } else { table_bytes(plan) };
    (shards + 2 * table_bytes(plan), lists + table_bytes(plan) + flat)
}

fn write_error(path: &Path, source: std::io::Error) -> Error {
    IoError::io(path, "write", source).into()
}

/// Writes `lists.table`, version 1, little-endian: "LLT1", dim (u32), nlist (u32), then nlist + 1 starts
/// (u32) and nlist × dim centroids (f32).
fn write_table(mut file: PendingFile, table: &ListTable) -> Result<FileStamp> {
    let path = file.path().to_path_buf();
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|e| write_error(&path, e));
    write(b"LLT1")?;
    write(&(table.dim as u32).to_le_bytes())?;
    write(&(table.count() as u32).to_le_bytes())?;
    for start in &table.starts {
        write(&start.to_le_bytes())?;
    }
    write_floats(&mut file, &table.centroids).map_err(|e| write_error(&path, e))?;
    Ok(file.finish()?)
}

fn read_table(path: &Path) -> Result<ListTable> {
    let bytes = std::fs::read(path).map_err(|e| IoError::io(path, "read", e))?;
    let corrupt = |what: &str| IoError::Corrupt { path: path.to_path_buf(), what: what.into() };
    let (words, rest) = bytes.as_chunks::<4>();
    let word = |i: usize| words.get(i).map(|w| u32::from_le_bytes(*w)).ok_or_else(|| corrupt("cut short"));
    if words.first() != Some(b"LLT1") || !rest.is_empty() {
        return Err(corrupt("not a table of lists, version 1").into());
    }
    let (dim, nlist) = (word(1)? as usize, word(2)? as usize);
    if Some(words.len()) != nlist.checked_mul(dim).and_then(|c| c.checked_add(nlist + 4)) {
        return Err(corrupt("its length is not what its header says").into());
    }
    let (starts, centroids) = words[3..].split_at(nlist + 1);
    let starts: Vec<u32> = starts.iter().map(|w| u32::from_le_bytes(*w)).collect();
    if starts.windows(2).any(|w| w[0] > w[1]) {
        return Err(corrupt("list starts out of order").into());
    }
    let centroids = centroids.iter().map(|w| f32::from_le_bytes(*w)).collect();
    Ok(ListTable::new(dim, starts, centroids))
}

/// Writes `index.faiss`: for an exact index an `IDMap2,Flat` that contains the vectors, otherwise an
/// `IVF,Flat` that refers to `lists.ivf`.
fn write_index(plan: &Plan, table: &ListTable, run: &RunDir) -> Result<FileStamp> {
    let dir = run.dir();
    if plan.index.exact {
        return write_flat(run.create(INDEX)?, &InvertedLists::open(&dir.join(LISTS), table.clone())?);
    }
    let sizes: Vec<usize> = (0..table.count()).map(|l| table.range(l).len()).collect();
    // FAISS stores the path of the lists in the file; an absolute path can be opened from any directory.
    let lists = std::path::absolute(dir.join(LISTS)).map_err(|e| IoError::io(dir, "resolve", e))?;
    let unfinished = dir.join(format!("{INDEX}.part"));
    const PROBES: usize = 16;
    faiss::write_ivf(&unfinished, &lists, &table.centroids, &sizes, PROBES.min(table.count())).inspect_err(|_| {
        // A second failure is not reported; unfinished files are deleted when the run directory is next opened.
        let _ = std::fs::remove_file(&unfinished);
    })?;
    Ok(run.adopt(&unfinished, INDEX)?)
}

/// Writes FAISS's format of an IndexIDMap2 over an IndexFlatL2, row by row, so that the vectors need not
/// be in memory together.
fn write_flat(mut file: PendingFile, lists: &InvertedLists) -> Result<FileStamp> {
    let path = &file.path().to_path_buf();
    let (dim, rows) = (lists.table.dim, u64::from(lists.table.rows()));
    {
        let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|e| write_error(path, e));
        for kind in [b"IxM2", b"IxF2"] {
            write(kind)?;
            write(&(dim as i32).to_le_bytes())?;
            write(&(rows as i64).to_le_bytes())?;
            // Two fields that FAISS still writes but no longer uses.
            write(&(1i64 << 20).to_le_bytes())?;
            write(&(1i64 << 20).to_le_bytes())?;
            write(&[1])?; // whether the index is trained
            write(&1i32.to_le_bytes())?; // METRIC_L2
        }
        write(&(rows * dim as u64).to_le_bytes())?;
    }
    for list in 0..lists.table.count() {
        write_floats(&mut file, lists.vectors(list)?).map_err(|e| write_error(path, e))?;
    }
    file.write_all(&rows.to_le_bytes()).map_err(|e| write_error(path, e))?;
    for list in 0..lists.table.count() {
        for id in lists.source_rows(list) {
            file.write_all(&id.to_le_bytes()).map_err(|e| write_error(path, e))?;
        }
    }
    Ok(file.finish()?)
}
