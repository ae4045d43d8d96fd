//! Shards: brings rows into list order, one buffer at a time. A thread sorts and writes a full buffer while the next one
//! is filled.
//!
//! `shard-<n>.ivf`, version 1, little-endian: "LLD1", number of lists (u32), first row of the source
//! (u64), number of rows (u64), size of each list (u32); then list after list the vectors (f32) and the
//! source rows (i64), as in `lists.ivf`. A shard is a unit of the index stage. The memory budget decides
//! which rows a shard holds; the merged file does not depend on it.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use lowland_io::{Error as IoError, FileStamp, MappedFile, PendingFile, Source};
use serde::{Deserialize, Serialize};

use super::write_error;
use crate::observe::Stage;
use crate::work::{StageContext, write_floats};
use crate::{Error, Result};

const MAGIC: &[u8; 4] = b"LLD1";
const HEADER: usize = 24;

/// Record of a shard in the manifest.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct ShardRecord {
    first: u64,
    rows: u64,
}

/// Rows in the source's order, with the list of each.
#[derive(Default)]
struct Rows {
    /// Source row of the first row.
    first: u64,
    values: Vec<f32>,
    lists: Vec<u32>,
}

impl Rows {
    /// Writes the rows sorted by list, in the layout of `lists.ivf`; `sizes` is the number of rows of each list. `check`
    /// is called for each list.
    fn write_to(
        &self,
        file: &mut PendingFile,
        dim: usize,
        sizes: &[u32],
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<()> {
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
        let path = file.path().to_path_buf();
        let mut rest = order.as_slice();
        for &size in sizes {
            let (rows, later) = rest.split_at(size as usize);
            rest = later;
            for &row in rows {
                write_floats(file, &self.values[row as usize * dim..][..dim]).map_err(|e| write_error(&path, e))?;
            }
            for &row in rows {
                let source = (self.first + u64::from(row)) as i64;
                file.write_all(&source.to_le_bytes()).map_err(|e| write_error(&path, e))?;
            }
            check()?;
        }
        Ok(())
    }

    /// Writes the rows as a shard and makes it durable.
    fn write_shard(
        &self,
        mut file: PendingFile,
        dim: usize,
        nlist: usize,
        check: &mut dyn FnMut() -> Result<()>,
    ) -> Result<FileStamp> {
        let path = file.path().to_path_buf();
        let sizes = self.sizes(nlist);
        let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|e| write_error(&path, e));
        write(MAGIC)?;
        write(&(nlist as u32).to_le_bytes())?;
        write(&self.first.to_le_bytes())?;
        write(&(self.lists.len() as u64).to_le_bytes())?;
        sizes.iter().try_for_each(|size| write(&size.to_le_bytes()))?;
        self.write_to(&mut file, dim, &sizes, check)?;
        Ok(file.finish()?)
    }

    fn sizes(&self, nlist: usize) -> Vec<u32> {
        let mut sizes = vec![0u32; nlist];
        self.lists.iter().for_each(|&list| sizes[list as usize] += 1);
        sizes
    }
}

/// The rows that are collected, and the shards written so far.
pub(super) struct ShardBuffer<'a> {
    work: StageContext<'a>,
    source: &'a dyn Source,
    dim: usize,
    nlist: usize,
    capacity: usize,
    collected: Rows,
    /// The memory of the shard before, whose rows are written.
    spare: Rows,
    /// Number of shards that are written or being written.
    spilled: usize,
    /// The last shard, while a thread writes it.
    writing: Option<PendingShard>,
}

/// A shard that a thread writes.
struct PendingShard {
    shard: usize,
    kept: ShardRecord,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(Rows, Result<FileStamp>)>,
}

fn unit(shard: usize) -> String {
    format!("shard-{shard:03}")
}

fn file_name(shard: usize) -> String {
    format!("shard-{shard:03}.ivf")
}

impl<'a> ShardBuffer<'a> {
    /// Creates an empty buffer for shards of `capacity` rows that continues after the finished shards.
    pub(super) fn resume(
        source: &'a dyn Source,
        nlist: usize,
        capacity: usize,
        work: StageContext<'a>,
    ) -> Result<Self> {
        let (mut first, mut spilled) = (0, 0);
        while let Some(kept) = work.recorded_unit::<ShardRecord>(&unit(spilled))? {
            first = kept.first + kept.rows;
            spilled += 1;
        }
        Ok(ShardBuffer {
            work,
            source,
            dim: source.shape().dim,
            nlist,
            capacity: capacity.max(1),
            collected: Rows { first, ..Rows::default() },
            spare: Rows::default(),
            spilled,
            writing: None,
        })
    }

    /// Returns the number of the next source row.
    pub(super) fn next_row(&self) -> u64 {
        self.collected.first + self.collected.lists.len() as u64
    }

    pub(super) fn remaining_rows(&self) -> usize {
        self.capacity - self.collected.lists.len()
    }

    /// Adds the next rows, with the list of each.
    pub(super) fn add(&mut self, rows: &[f32], lists: &[u32]) {
        let Rows { values, lists: list_of, .. } = &mut self.collected;
        if values.capacity() == 0 {
            // Allocated once in full, since growth by doubling would exceed the plan.
            values.reserve_exact(self.capacity * self.dim);
            list_of.reserve_exact(self.capacity);
        }
        values.extend_from_slice(rows);
        list_of.extend_from_slice(lists);
    }

    /// Hands the collected rows to a thread that writes them as a shard, and goes on with none.
    pub(super) fn spill(&mut self) -> Result<()> {
        self.await_shard()?;
        let file = self.work.create(&file_name(self.spilled))?;
        let path = file.path().to_path_buf();
        let next = Rows { first: self.next_row(), ..std::mem::take(&mut self.spare) };
        let rows = std::mem::replace(&mut self.collected, next);
        let kept = ShardRecord { first: rows.first, rows: rows.lists.len() as u64 };
        let stop = Arc::new(AtomicBool::new(false));
        let (dim, nlist, stopped) = (self.dim, self.nlist, stop.clone());
        let write = move || {
            let mut rows = rows;
            let mut check = || match stopped.load(Ordering::Relaxed) {
                true => Err(Error::Cancelled { stage: Stage::Index.name() }),
                false => Ok(()),
            };
            let written = rows.write_shard(file, dim, nlist, &mut check);
            rows.values.clear();
            rows.lists.clear();
            (rows, written)
        };
        let thread = std::thread::Builder::new().name("lowland-shard".into()).stack_size(256 << 10);
        let thread = thread.spawn(write).map_err(|e| IoError::io(&path, "start a thread to write", e))?;
        self.writing = Some(PendingShard { shard: self.spilled, kept, stop, thread });
        self.spilled += 1;
        Ok(())
    }

    /// Waits until the last shard is durable and records it in the manifest.
    fn await_shard(&mut self) -> Result<()> {
        while self.writing.as_ref().is_some_and(|writing| !writing.thread.is_finished()) {
            self.work.progress.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        let Some(PendingShard { shard, kept, thread, .. }) = self.writing.take() else { return Ok(()) };
        let (rows, stamp) = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let stamp = stamp?;
        self.spare = rows;
        self.work.progress.traffic.wrote(stamp.bytes);
        self.work.check_source_unchanged(self.source)?;
        self.work.record_unit(&unit(shard), vec![(file_name(shard), stamp)], &kept)
    }

    /// Writes the file of all lists under the name `name`; returns each list's size.
    pub(super) fn finish(mut self, name: &str) -> Result<(Vec<u32>, FileStamp)> {
        if self.spilled == 0 {
            let sizes = self.collected.sizes(self.nlist);
            let mut file = self.work.create(name)?;
            let progress = self.work.progress;
            self.collected.write_to(&mut file, self.dim, &sizes, &mut || progress.check())?;
            self.collected = Rows::default();
            let stamp = file.finish()?;
            progress.traffic.wrote(stamp.bytes);
            return Ok((sizes, stamp));
        }
        if !self.collected.lists.is_empty() {
            self.spill()?;
        }
        self.collected = Rows::default();
        self.await_shard()?;
        self.spare = Rows::default();
        self.merge(self.work.create(name)?)
    }

    /// Merges all shards, list by list.
    fn merge(&self, mut file: PendingFile) -> Result<(Vec<u32>, FileStamp)> {
        let mut shards = (0..self.spilled)
            .map(|shard| ShardReader::open(&self.work.path(&file_name(shard)), self.nlist))
            .collect::<Result<Vec<_>>>()?;
        let mut sizes = vec![0u32; self.nlist];
        let path = file.path().to_path_buf();
        let vector = self.dim * 4;
        for (list, size) in sizes.iter_mut().enumerate() {
            for (part, width) in [(0, vector), (1, 8)] {
                for shard in &shards {
                    let rows = shard.size(list) as usize;
                    let bytes = shard.bytes(shard.at + part * rows * vector, rows * width)?;
                    file.write_all(bytes).map_err(|e| write_error(&path, e))?;
                    self.work.progress.traffic.read(bytes.len() as u64);
                }
            }
            for shard in &mut shards {
                let rows = shard.size(list);
                shard.at += rows as usize * (vector + 8);
                *size += rows;
            }
            self.work.progress.check()?;
        }
        let stamp = file.finish()?;
        self.work.progress.traffic.wrote(stamp.bytes);
        Ok((sizes, stamp))
    }
}

impl Drop for ShardBuffer<'_> {
    fn drop(&mut self) {
        // No thread may outlive its stage. A shard that is not recorded is written again by the next process.
        if let Some(writing) = self.writing.take() {
            writing.stop.store(true, Ordering::Relaxed);
            let _ = writing.thread.join();
        }
    }
}

/// A shard that is being merged.
struct ShardReader {
    map: MappedFile,
    nlist: usize,
    /// Byte offset of the next list.
    at: usize,
}

impl ShardReader {
    fn open(path: &Path, nlist: usize) -> Result<Self> {
        let map = MappedFile::open(path)?;
        let head = map.bytes().get(..8);
        if head.is_none_or(|head| &head[..4] != MAGIC || head[4..] != (nlist as u32).to_le_bytes()) {
            let what = "not a shard of these lists, version 1".into();
            return Err(IoError::Corrupt { path: path.to_path_buf(), what }.into());
        }
        let shard = ShardReader { map, nlist, at: HEADER + nlist * 4 };
        shard.bytes(0, shard.at)?;
        Ok(shard)
    }

    fn size(&self, list: usize) -> u32 {
        debug_assert!(list < self.nlist);
        // The header's length was checked when the file was opened.
        let bytes = &self.map.bytes()[HEADER + list * 4..][..4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn bytes(&self, start: usize, count: usize) -> Result<&[u8]> {
        let found = self.map.bytes();
        Ok(found.get(start..start + count).ok_or_else(|| IoError::Truncated {
            path: self.map.path().to_path_buf(),
            expected: (start + count) as u64,
            found: found.len() as u64,
        })?)
    }
}

/// Returns the number of buffers for shards of `shard_rows` of `rows` rows: a second one is filled while the first is
/// written.
pub(super) fn buffers(shard_rows: u64, rows: u64) -> u64 {
    if shard_rows < rows { 2 } else { 1 }
}

/// Returns the bytes of a row in a buffer: its vector and its list.
pub(super) fn row_bytes(dim: usize) -> u64 {
    dim as u64 * 4 + 4
}
