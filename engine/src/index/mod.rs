//! The index stage: train the quantizer, give every row its list, and write
//! the vectors in list order as an index that FAISS itself opens.
//!
//! Rows arrive in batches and collect in a *shard*, a buffer of as many rows
//! as the plan allows; a full shard is sorted by list and written out, and at
//! the end the shards are merged list by list. Rows of a list keep the
//! source's order, so the files do not depend on how many shards there were.

mod assign;
pub mod faiss;
mod lists;
mod train;

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use lowland_io::{Error as IoError, FileStamp, Mapped, PendingFile, Source};

pub use assign::nearest;
pub use lists::{ListTable, Lists};
pub use train::{Quantizer, train};

use crate::batch::Loader;
use crate::observe::Progress;
use crate::plan::Plan;
use crate::{Error, Result};

/// The index file that FAISS opens.
pub const INDEX: &str = "index.faiss";
/// The vectors in list order: FAISS's on-disk inverted lists.
pub const LISTS: &str = "lists.ivf";
/// The shape of the lists and their centroids.
pub const TABLE: &str = "lists.table";

/// Files with their stamps, as the manifest takes them.
pub type Made = Vec<(String, FileStamp)>;

/// Builds the index of `source` in the directory `dir` from a training `sample` (rows × dim).
pub fn build(
    plan: &Plan,
    source: &Arc<dyn Source>,
    sample: Vec<f32>,
    dir: &Path,
    progress: &Progress<'_>,
) -> Result<Made> {
    let dim = plan.shape.dim;
    let quantizer = train(&sample, dim, plan.index.lists, plan.config.seed, progress)?;
    drop(sample);
    let assigner = assign::Assigner::new(&quantizer);
    progress.check()?;

    let mut shards = Shards::new(dim, quantizer.count(), plan.index.shard_rows, dir);
    for batch in Loader::new(source.clone(), plan.config.metric, plan.batch_rows) {
        let batch = batch?;
        progress.traffic.read((batch.rows() * plan.source_row_bytes) as u64);
        let mut done = 0;
        while done < batch.rows() {
            let taken = shards.room().min(batch.rows() - done);
            let rows = &batch.values()[done * dim..][..taken * dim];
            shards.add(batch.first + done as u64, rows, &assigner.assign(rows));
            done += taken;
            if shards.room() == 0 {
                shards.spill(progress)?;
            }
        }
        progress.advance(batch.rows() as u64)?;
    }
    let (sizes, stamp) = shards.finish(progress)?;

    let mut starts = vec![0u32];
    for &size in &sizes {
        starts.push(starts.last().copied().unwrap_or(0) + size as u32);
    }
    let rows = u64::from(starts.last().copied().unwrap_or(0));
    if rows != plan.shape.rows {
        return Err(Error::Data {
            what: format!(
                "the source gave {rows} rows where the scan saw {}: it changed while being read",
                plan.shape.rows
            ),
        });
    }
    let table = ListTable { dim, starts, centroids: quantizer.centroids };
    let mut made = vec![(LISTS.to_string(), stamp)];
    made.push((TABLE.to_string(), write_table(&dir.join(TABLE), &table)?));
    made.push((INDEX.to_string(), write_index(plan, &table, dir)?));
    for (_, stamp) in &made[1..] {
        progress.traffic.wrote(stamp.bytes);
    }
    Ok(made)
}

/// Opens the lists of a finished index stage.
pub fn open(dir: &Path) -> Result<Lists> {
    Lists::open(&dir.join(LISTS), read_table(&dir.join(TABLE))?)
}

/// Rows in list order, a bufferful at a time.
struct Shards<'a> {
    dim: usize,
    dir: &'a Path,
    capacity: usize,
    values: Vec<f32>,
    lists: Vec<u32>,
    ids: Vec<i64>,
    nlist: usize,
    /// Rows of each list in each shard spilled so far.
    spilled: Vec<Vec<u32>>,
}

impl<'a> Shards<'a> {
    fn new(dim: usize, nlist: usize, capacity: usize, dir: &'a Path) -> Self {
        Shards {
            dim,
            dir,
            capacity: capacity.max(1),
            values: Vec::new(),
            lists: Vec::new(),
            ids: Vec::new(),
            nlist,
            spilled: Vec::new(),
        }
    }

    fn room(&self) -> usize {
        self.capacity - self.lists.len()
    }

    fn add(&mut self, first: u64, rows: &[f32], lists: &[u32]) {
        if self.values.capacity() == 0 {
            // Once, so that growth never doubles it.
            self.values.reserve_exact(self.capacity * self.dim);
            self.lists.reserve_exact(self.capacity);
            self.ids.reserve_exact(self.capacity);
        }
        self.values.extend_from_slice(rows);
        self.lists.extend_from_slice(lists);
        self.ids.extend((first..).take(lists.len()).map(|id| id as i64));
    }

    fn shard_path(&self, shard: usize) -> std::path::PathBuf {
        self.dir.join(format!("shard-{shard}.ivf"))
    }

    /// Sorts the buffer by list and writes it in the lists' own layout.
    fn write_to(&self, path: &Path, progress: &Progress<'_>) -> Result<(Vec<u32>, FileStamp)> {
        let mut sizes = vec![0u32; self.nlist];
        self.lists.iter().for_each(|&list| sizes[list as usize] += 1);
        let mut next: Vec<u32> = sizes
            .iter()
            .scan(0, |start, &size| {
                let first = *start;
                *start += size;
                Some(first)
            })
            .collect();
        let mut order = vec![0u32; self.lists.len()];
        for (row, &list) in self.lists.iter().enumerate() {
            order[next[list as usize] as usize] = row as u32;
            next[list as usize] += 1;
        }
        let mut file = PendingFile::create(path)?;
        let mut rest = order.as_slice();
        for &size in &sizes {
            let (rows, later) = rest.split_at(size as usize);
            rest = later;
            for &row in rows {
                write_floats(&mut file, &self.values[row as usize * self.dim..][..self.dim])
                    .map_err(|e| failed(path, e))?;
            }
            for &row in rows {
                file.write_all(&self.ids[row as usize].to_le_bytes()).map_err(|e| failed(path, e))?;
            }
            progress.check()?;
        }
        let stamp = file.finish()?;
        progress.traffic.wrote(stamp.bytes);
        Ok((sizes, stamp))
    }

    fn spill(&mut self, progress: &Progress<'_>) -> Result<()> {
        let (sizes, _) = self.write_to(&self.shard_path(self.spilled.len()), progress)?;
        self.spilled.push(sizes);
        self.values.clear();
        self.lists.clear();
        self.ids.clear();
        Ok(())
    }

    /// Writes the lists' file; returns each list's size.
    fn finish(mut self, progress: &Progress<'_>) -> Result<(Vec<usize>, FileStamp)> {
        let path = self.dir.join(LISTS);
        if self.spilled.is_empty() {
            let (sizes, stamp) = self.write_to(&path, progress)?;
            return Ok((sizes.into_iter().map(|s| s as usize).collect(), stamp));
        }
        if !self.lists.is_empty() {
            self.spill(progress)?;
        }
        self.values = Vec::new();

        let shards: Vec<Mapped> = (0..self.spilled.len())
            .map(|shard| Mapped::open(self.shard_path(shard)))
            .collect::<lowland_io::Result<_>>()?;
        let mut at = vec![0usize; shards.len()];
        let mut sizes = vec![0usize; self.nlist];
        let mut file = PendingFile::create(&path)?;
        let vector = self.dim * 4;
        for (list, size) in sizes.iter_mut().enumerate() {
            for (part, width) in [(0, vector), (1, 8)] {
                for (shard, map) in shards.iter().enumerate() {
                    let rows = self.spilled[shard][list] as usize;
                    let start = at[shard] + part * rows * vector;
                    let bytes = map.bytes().get(start..start + rows * width).ok_or_else(|| IoError::Truncated {
                        path: map.path().to_path_buf(),
                        expected: (start + rows * width) as u64,
                        found: map.bytes().len() as u64,
                    })?;
                    file.write_all(bytes).map_err(|e| failed(&path, e))?;
                    progress.traffic.read(bytes.len() as u64);
                }
            }
            for (shard, at) in at.iter_mut().enumerate() {
                let rows = self.spilled[shard][list] as usize;
                *at += rows * (vector + 8);
                *size += rows;
            }
            progress.check()?;
        }
        let stamp = file.finish()?;
        progress.traffic.wrote(stamp.bytes);
        Ok((sizes, stamp))
    }
}

impl Drop for Shards<'_> {
    /// Shards are scratch: whatever ends the stage, they go.
    fn drop(&mut self) {
        for shard in 0..=self.spilled.len() {
            // Most are gone already, and a run directory sweeps what is left when it is opened.
            let _ = std::fs::remove_file(self.shard_path(shard));
        }
    }
}

/// Bytes that the index stage holds: training first, then shards.
pub fn bytes(plan: &Plan) -> u64 {
    let (dim, rows) = (plan.shape.dim, plan.index.sample_rows as usize);
    let sample = 2 * rows as u64 * dim as u64 * 4;
    let train = sample + Quantizer::bytes(rows, dim, plan.index.lists, plan.threads);
    train.max(bytes_beside_shard(plan) + plan.index.shard_rows as u64 * shard_row_bytes(dim))
}

/// What the second part of the stage holds beside the shard: centroids as
/// trained, as packed and as FAISS takes them, and batches.
pub fn bytes_beside_shard(plan: &Plan) -> u64 {
    let centroids = 3 * (plan.index.lists * plan.shape.dim * 4) as u64;
    centroids + plan.loader_bytes() + plan.batch_rows as u64 * 4 + (1 << 20)
}

/// Bytes of a row in a shard: vector, list, id, and its place in the order.
pub fn shard_row_bytes(dim: usize) -> u64 {
    dim as u64 * 4 + 4 + 8 + 4
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    IoError::io(path, "write", source).into()
}

pub(crate) fn write_floats(to: &mut impl Write, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = [0u8; 1024];
    for values in values.chunks(bytes.len() / 4) {
        for (out, x) in bytes.chunks_exact_mut(4).zip(values) {
            out.copy_from_slice(&x.to_le_bytes());
        }
        to.write_all(&bytes[..values.len() * 4])?;
    }
    Ok(())
}

/// `lists.table`, version 1: "LLT1", dim u32, nlist u32, then nlist + 1 starts
/// (u32) and nlist × dim centroids (f32), little-endian.
fn write_table(path: &Path, table: &ListTable) -> Result<FileStamp> {
    let mut file = PendingFile::create(path)?;
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|e| failed(path, e));
    write(b"LLT1")?;
    write(&(table.dim as u32).to_le_bytes())?;
    write(&(table.count() as u32).to_le_bytes())?;
    for start in &table.starts {
        write(&start.to_le_bytes())?;
    }
    write_floats(&mut file, &table.centroids).map_err(|e| failed(path, e))?;
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
    Ok(ListTable { dim, starts, centroids: centroids.iter().map(|w| f32::from_le_bytes(*w)).collect() })
}

/// Writes `index.faiss`: for small data an exact `IDMap2,Flat` that holds the
/// vectors itself, otherwise an `IVF,Flat` over `lists.ivf`.
fn write_index(plan: &Plan, table: &ListTable, dir: &Path) -> Result<FileStamp> {
    let path = dir.join(INDEX);
    if plan.index.exact {
        return write_flat(&path, &Lists::open(&dir.join(LISTS), table.clone())?);
    }
    let sizes: Vec<usize> = (0..table.count()).map(|l| table.range(l).len()).collect();
    // FAISS keeps the lists' path in the file: an absolute one opens from anywhere.
    let lists = std::path::absolute(dir.join(LISTS)).map_err(|e| IoError::io(dir, "resolve", e))?;
    let unfinished = dir.join(format!("{INDEX}.part"));
    const PROBES: usize = 16;
    faiss::write_ivf(&unfinished, &lists, &table.centroids, &sizes, PROBES.min(table.count()))?;
    Ok(lowland_io::adopt(&unfinished, &path)?)
}

/// FAISS's own layout of an IndexIDMap2 over an IndexFlatL2, written row by
/// row so that the vectors need not be in memory together.
fn write_flat(path: &Path, lists: &Lists) -> Result<FileStamp> {
    let (dim, rows) = (lists.table.dim, u64::from(lists.table.rows()));
    let mut file = PendingFile::create(path)?;
    {
        let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|e| failed(path, e));
        for kind in [b"IxM2", b"IxF2"] {
            write(kind)?;
            write(&(dim as i32).to_le_bytes())?;
            write(&(rows as i64).to_le_bytes())?;
            // Two fields that FAISS no longer uses but still writes.
            write(&(1i64 << 20).to_le_bytes())?;
            write(&(1i64 << 20).to_le_bytes())?;
            write(&[1])?; // trained
            write(&1i32.to_le_bytes())?; // METRIC_L2
        }
        write(&(rows * dim as u64).to_le_bytes())?;
    }
    for list in 0..lists.table.count() {
        write_floats(&mut file, lists.vectors(list)?).map_err(|e| failed(path, e))?;
    }
    file.write_all(&rows.to_le_bytes()).map_err(|e| failed(path, e))?;
    for list in 0..lists.table.count() {
        for id in lists.source_rows(list) {
            file.write_all(&id.to_le_bytes()).map_err(|e| failed(path, e))?;
        }
    }
    Ok(file.finish()?)
}
