//! Spill buckets: an external partition of fixed-width records.
//!
//! Records arrive in any order, each with the number of its bucket, and are read back bucket by
//! bucket. A graph that does not fit in memory is transposed this way: the edges are partitioned by
//! the row to which they lead, then sorted one bucket at a time.
//!
//! ```text
//! <dir>/<prefix>-<bucket>.bucket    the bucket's records, end to end; no header, no padding
//!                                   <bucket>: decimal, at least three digits
//! ```
//!
//! A record of type [`EdgeRecord`] has 12 bytes, little-endian: `to` u32, `from` u32, `weight` f32.
//! The format has no version: the files belong to one run. Their lengths and checksums (xxh3, 64
//! bits) are kept in memory, or in the caller's manifest after [`BucketWriter::finish_durable`].
//!
//! What must hold:
//! - The records of one bucket come back in the order in which they were pushed, so that the result
//!   does not depend on the buffer's size.
//! - The memory held, from creation to `finish`, is the value that `bytes` returns.
//! - The bytes read are checked against the length and checksum of the bytes written.
//! - The files are scratch: neither synced nor listed anywhere, and removed when the last handle is
//!   dropped, unless [`BucketWriter::finish_durable`] hands them to the caller.
//!
//! Edges, partitioned by the half of the rows to which they lead:
//!
//! ```
//! use lowland_io::{BucketWriter, EdgeRecord};
//! # let dir = tempfile::tempdir()?;
//!
//! let mut writer = BucketWriter::create(dir.path(), "edges", 2, 1 << 16); // 2 buckets, 64 KiB of buffers
//! for (from, to) in [(0, 9), (1, 2), (2, 7)] {
//!     writer.push(usize::from(to >= 5), EdgeRecord { to, from, weight: 1.0 })?;
//! }
//! let buckets = writer.finish()?;
//! let mut upper = Vec::new();
//! buckets.read(1, &mut upper)?;
//! assert_eq!(upper.iter().map(|edge| edge.to).collect::<Vec<_>>(), [9, 7]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use crate::durable::sync_directory_of;
use crate::{Error, FileStamp, Result};

/// The largest number of buckets. Each bucket may hold an open file, and operating systems commonly
/// allow a process 1024.
pub const MAX_BUCKETS: usize = 512;

/// Bytes of one read.
const READ: usize = 1 << 20;

/// A record of a fixed number of bytes, little-endian on disk.
pub trait Record: Copy {
    /// Width in bytes, at least 1.
    const BYTES: usize;

    /// Writes the record to exactly [`BYTES`](Self::BYTES) bytes.
    fn write(&self, to: &mut [u8]);

    /// Reads the record from exactly [`BYTES`](Self::BYTES) bytes. Every byte pattern must be a
    /// valid record.
    fn read(from: &[u8]) -> Self;
}

/// An edge, as it is spilled to be grouped by the row to which it leads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeRecord {
    /// The row to which the edge leads; edges are partitioned by it.
    pub to: u32,
    /// The row from which the edge comes.
    pub from: u32,
    /// The edge's weight.
    pub weight: f32,
}

impl Record for EdgeRecord {
    const BYTES: usize = 12;

    fn write(&self, to: &mut [u8]) {
        to[..4].copy_from_slice(&self.to.to_le_bytes());
        to[4..8].copy_from_slice(&self.from.to_le_bytes());
        to[8..].copy_from_slice(&self.weight.to_le_bytes());
    }

    fn read(from: &[u8]) -> Self {
        let word = |i: usize| [from[i], from[i + 1], from[i + 2], from[i + 3]];
        EdgeRecord {
            to: u32::from_le_bytes(word(0)),
            from: u32::from_le_bytes(word(4)),
            weight: f32::from_le_bytes(word(8)),
        }
    }
}

/// The state of a bucket that is being written.
struct OpenBucket {
    /// `None` until the first spill.
    file: Option<File>,
    /// The hash of the spilled bytes; buffered records are not in it yet.
    hash: Xxh3,
    /// Bytes in the file.
    spilled: u64,
    /// Bytes in the buffer.
    buffered: usize,
}

/// Writes records whose width is chosen at run time. [`BucketWriter`] writes records of a type.
pub struct ByteBucketWriter {
    place: BucketFiles,
    width: usize,
    /// Bytes of buffer for each bucket, a multiple of `width`.
    share: usize,
    /// One allocation, `share` bytes for each bucket.
    buffer: Vec<u8>,
    open: Vec<OpenBucket>,
}

impl std::fmt::Debug for ByteBucketWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ByteBucketWriter")
            .field("place", &self.place)
            .field("width", &self.width)
            .field("share", &self.share)
            .finish_non_exhaustive()
    }
}

impl ByteBucketWriter {
    /// Prepares `buckets` buckets of records of `width` bytes, with a buffer of about
    /// `buffer_bytes` bytes for all buckets together. A file `<prefix>-*.bucket` in `dir` is
    /// created at the first spill to its bucket, and overwrites the file of an earlier process.
    ///
    /// # Panics
    /// If `buckets` or `width` is 0, or `buckets` above [`MAX_BUCKETS`].
    pub fn create(dir: &Path, prefix: &str, buckets: usize, width: usize, buffer_bytes: usize) -> Self {
        assert!((1..=MAX_BUCKETS).contains(&buckets) && width > 0);
        let share = Self::share(buckets, width, buffer_bytes);
        let open = || OpenBucket { file: None, hash: Xxh3::new(), spilled: 0, buffered: 0 };
        ByteBucketWriter {
            place: BucketFiles { dir: dir.into(), prefix: prefix.into(), buckets, kept: false },
            width,
            share,
            buffer: vec![0; share * buckets],
            open: (0..buckets).map(|_| open()).collect(),
        }
    }

    /// Returns the memory that a writer holds, in bytes: the buffer, which is `buffer_bytes`
    /// rounded down to whole records for each bucket, with at least one record for each bucket; and
    /// at most 700 bytes more for each bucket.
    pub fn bytes(buckets: usize, width: usize, buffer_bytes: usize) -> u64 {
        (buckets * (Self::share(buckets, width, buffer_bytes) + size_of::<OpenBucket>())) as u64
    }

    fn share(buckets: usize, width: usize, buffer_bytes: usize) -> usize {
        (buffer_bytes / buckets / width).max(1) * width
    }

    /// Adds a record to a bucket.
    ///
    /// # Panics
    /// If there is no such bucket, or the record does not have the chosen width.
    pub fn push(&mut self, bucket: usize, record: &[u8]) -> Result<()> {
        assert_eq!(record.len(), self.width);
        self.push_with(bucket, |to| to.copy_from_slice(record))
    }

    fn push_with(&mut self, bucket: usize, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let start = bucket * self.share + self.open[bucket].buffered;
        fill(&mut self.buffer[start..start + self.width]);
        self.open[bucket].buffered += self.width;
        if self.open[bucket].buffered == self.share { self.spill(bucket) } else { Ok(()) }
    }

    fn spill(&mut self, bucket: usize) -> Result<()> {
        let open = &mut self.open[bucket];
        let start = bucket * self.share;
        let data = &self.buffer[start..start + open.buffered];
        if data.is_empty() {
            return Ok(());
        }
        let file = match &mut open.file {
            Some(file) => file,
            none => {
                let path = self.place.path(bucket);
                none.insert(File::create(&path).map_err(|e| Error::io(path, "create", e))?)
            }
        };
        file.write_all(data).map_err(|e| Error::io(self.place.path(bucket), "write", e))?;
        open.hash.update(data);
        open.spilled += data.len() as u64;
        open.buffered = 0;
        Ok(())
    }

    /// Spills the buffered records and closes the files.
    pub fn finish(mut self) -> Result<ByteBuckets> {
        for bucket in 0..self.open.len() {
            self.spill(bucket)?;
        }
        let written = self.open.iter().map(|open| (open.spilled, open.hash.digest())).collect();
        Ok(ByteBuckets { place: std::mem::take(&mut self.place), width: self.width, written })
    }

    /// As [`finish`](Self::finish), and makes the files durable; see
    /// [`BucketWriter::finish_durable`].
    fn finish_durable(mut self) -> Result<ByteBuckets> {
        for bucket in 0..self.open.len() {
            self.spill(bucket)?;
            if let Some(file) = &self.open[bucket].file {
                file.sync_all().map_err(|e| Error::io(self.place.path(bucket), "sync", e))?;
            }
        }
        sync_directory_of(&self.place.path(0))?;
        let mut buckets = self.finish()?;
        buckets.place.kept = true;
        Ok(buckets)
    }
}

/// Partitioned records of a width chosen at run time. Several threads can read buckets at once.
/// Unless they are durable, the files are removed when this is dropped.
#[derive(Debug)]
pub struct ByteBuckets {
    place: BucketFiles,
    width: usize,
    /// The length in bytes and the checksum of each bucket.
    written: Vec<(u64, u64)>,
}

impl ByteBuckets {
    /// Returns the number of buckets.
    pub fn buckets(&self) -> usize {
        self.written.len()
    }

    /// Returns the number of records in a bucket.
    pub fn len(&self, bucket: usize) -> u64 {
        self.written[bucket].0 / self.width as u64
    }

    /// Returns whether all buckets are empty.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Returns the bytes on disk of all buckets together.
    pub fn bytes(&self) -> u64 {
        self.written.iter().map(|(bytes, _)| bytes).sum()
    }

    fn files(&self) -> impl Iterator<Item = (String, FileStamp)> + '_ {
        let there = self.written.iter().enumerate().filter(|(_, (bytes, _))| *bytes > 0);
        there.map(|(bucket, &(bytes, xxh3))| (self.place.name(bucket), FileStamp { bytes, xxh3 }))
    }

    /// Reads a bucket's records, end to end, into `out`, whose former content is replaced. Beside
    /// `out`, about 1 MiB is held.
    pub fn read(&self, bucket: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        out.reserve_exact(self.written[bucket].0 as usize);
        self.read_pieces(bucket, |piece| out.extend_from_slice(piece))
    }

    /// Calls `take` with a bucket's bytes, in order, in pieces of whole records. The bytes are
    /// verified only when this returns `Ok`, because the checksum is compared at the end.
    fn read_pieces(&self, bucket: usize, mut take: impl FnMut(&[u8])) -> Result<()> {
        let (expected, sum) = self.written[bucket];
        if expected == 0 {
            return Ok(());
        }
        let path = self.place.path(bucket);
        let mut file = File::open(&path).map_err(|e| Error::io(&path, "open", e))?;
        let found = file.metadata().map_err(|e| Error::io(&path, "inspect", e))?.len();
        if found != expected {
            return Err(Error::Truncated { path, expected, found });
        }
        let mut hash = Xxh3::new();
        let mut piece = vec![0; (READ / self.width).max(1) * self.width];
        let mut left = expected;
        while left > 0 {
            let n = left.min(piece.len() as u64) as usize;
            file.read_exact(&mut piece[..n]).map_err(|e| Error::io(&path, "read", e))?;
            hash.update(&piece[..n]);
            take(&piece[..n]);
            left -= n as u64;
        }
        if hash.digest() != sum {
            return Err(Error::Corrupt { path, what: "its checksum differs from that of the records written".into() });
        }
        Ok(())
    }

    /// Frees a bucket's disk space before the others'. The bucket then reads as empty.
    pub fn discard(&mut self, bucket: usize) -> Result<()> {
        self.written[bucket] = (0, 0);
        self.place.remove(bucket)
    }

    /// Removes the files, as dropping does, but reports errors.
    pub fn remove(self) -> Result<()> {
        (0..self.buckets()).try_for_each(|bucket| self.place.remove(bucket))
    }
}

/// Writes records of type `R` into buckets.
#[derive(Debug)]
pub struct BucketWriter<R> {
    bytes: ByteBucketWriter,
    record: PhantomData<R>,
}

impl<R: Record> BucketWriter<R> {
    /// Prepares `buckets` buckets, as [`ByteBucketWriter::create`].
    pub fn create(dir: &Path, prefix: &str, buckets: usize, buffer_bytes: usize) -> Self {
        BucketWriter {
            bytes: ByteBucketWriter::create(dir, prefix, buckets, R::BYTES, buffer_bytes),
            record: PhantomData,
        }
    }

    /// Returns the memory that a writer holds, as [`ByteBucketWriter::bytes`].
    pub fn bytes(buckets: usize, buffer_bytes: usize) -> u64 {
        ByteBucketWriter::bytes(buckets, R::BYTES, buffer_bytes)
    }

    /// Adds a record to a bucket.
    ///
    /// # Panics
    /// If there is no such bucket.
    #[inline]
    pub fn push(&mut self, bucket: usize, record: R) -> Result<()> {
        self.bytes.push_with(bucket, |to| record.write(to))
    }

    /// Spills the buffered records and closes the files.
    pub fn finish(self) -> Result<Buckets<R>> {
        Ok(Buckets { bytes: self.bytes.finish()?, record: PhantomData })
    }

    /// Spills the buffered records and makes the files durable. The files then belong to the
    /// caller, who lists them in a manifest ([`Buckets::files`]), opens them again
    /// ([`Buckets::reopen`]) and removes them.
    pub fn finish_durable(self) -> Result<Buckets<R>> {
        Ok(Buckets { bytes: self.bytes.finish_durable()?, record: PhantomData })
    }
}

/// Partitioned records of type `R`; see [`ByteBuckets`].
#[derive(Debug)]
pub struct Buckets<R> {
    bytes: ByteBuckets,
    record: PhantomData<R>,
}

impl<R: Record> Buckets<R> {
    /// Returns the number of buckets.
    pub fn buckets(&self) -> usize {
        self.bytes.buckets()
    }

    /// Returns the number of records in a bucket.
    pub fn len(&self, bucket: usize) -> u64 {
        self.bytes.len(bucket)
    }

    /// Returns whether all buckets are empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the bytes on disk of all buckets together.
    pub fn bytes(&self) -> u64 {
        self.bytes.bytes()
    }

    /// Reads a bucket's records, in the order pushed, into `out`, whose former content is replaced.
    /// Beside `out`, about 1 MiB is held.
    pub fn read(&self, bucket: usize, out: &mut Vec<R>) -> Result<()> {
        out.clear();
        out.reserve_exact(self.len(bucket) as usize);
        self.bytes.read_pieces(bucket, |piece| out.extend(piece.chunks_exact(R::BYTES).map(R::read)))
    }

    /// Calls `take` with a bucket's records, in the order pushed. The records are verified only
    /// when this returns `Ok`. Holds about 1 MiB.
    pub fn for_each(&self, bucket: usize, mut take: impl FnMut(R)) -> Result<()> {
        self.bytes.read_pieces(bucket, |piece| piece.chunks_exact(R::BYTES).for_each(|record| take(R::read(record))))
    }

    /// Returns the names of the files that exist, with lengths and checksums.
    pub fn files(&self) -> impl Iterator<Item = (String, FileStamp)> + '_ {
        self.bytes.files()
    }

    /// Opens the buckets that [`BucketWriter::finish_durable`] wrote, from the list of their files.
    /// A bucket that has no file in `files` reads as empty.
    pub fn reopen(dir: &Path, prefix: &str, buckets: usize, files: &[(String, FileStamp)]) -> Self {
        let place = BucketFiles { dir: dir.into(), prefix: prefix.into(), buckets, kept: true };
        let stamp = |bucket| files.iter().find(|(name, _)| *name == place.name(bucket)).map(|(_, stamp)| stamp);
        let written = (0..buckets).map(|bucket| stamp(bucket).map_or((0, 0), |s| (s.bytes, s.xxh3))).collect();
        Buckets { bytes: ByteBuckets { place, width: R::BYTES, written }, record: PhantomData }
    }

    /// Frees a bucket's disk space before the others'. The bucket then reads as empty.
    pub fn discard(&mut self, bucket: usize) -> Result<()> {
        self.bytes.discard(bucket)
    }

    /// Treats a bucket as empty without removing its file, which the caller removes.
    pub fn forget(&mut self, bucket: usize) {
        self.bytes.written[bucket] = (0, 0);
    }

    /// Removes the files, as dropping does, but reports errors.
    pub fn remove(self) -> Result<()> {
        self.bytes.remove()
    }
}

/// The location of the files. Dropping it removes the files, unless `kept` is set.
#[derive(Debug, Default)]
struct BucketFiles {
    dir: PathBuf,
    prefix: String,
    buckets: usize,
    kept: bool,
}

impl BucketFiles {
    fn name(&self, bucket: usize) -> String {
        format!("{}-{bucket:03}.bucket", self.prefix)
    }

    fn path(&self, bucket: usize) -> PathBuf {
        self.dir.join(self.name(bucket))
    }

    fn remove(&self, bucket: usize) -> Result<()> {
        let path = self.path(bucket);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove", e)),
            _ => Ok(()),
        }
    }
}

impl Drop for BucketFiles {
    fn drop(&mut self) {
        for bucket in (0..self.buckets).filter(|_| !self.kept) {
            // A destructor cannot report errors; opening the run directory removes leftovers.
            let _ = self.remove(bucket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_bucket_gives_its_records_in_push_order(
            buckets in 1usize..9,
            buffer in 0usize..2_000,
            records in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u32>()), 0..800),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = BucketWriter::create(dir.path(), "edges", buckets, buffer);
            let mut expected = vec![Vec::new(); buckets];
            for (to, from, bits) in &records {
                let record = EdgeRecord { to: *to, from: *from, weight: f32::from_bits(*bits) };
                let bucket = *to as usize % buckets;
                writer.push(bucket, record).unwrap();
                expected[bucket].push((*to, *from, *bits));
            }
            let read_back = writer.finish().unwrap();
            prop_assert_eq!(read_back.bytes(), records.len() as u64 * 12);
            let mut out = vec![EdgeRecord { to: 1, from: 2, weight: 3.0 }];
            for (bucket, expected) in expected.iter().enumerate() {
                read_back.read(bucket, &mut out).unwrap();
                prop_assert_eq!(read_back.len(bucket), expected.len() as u64);
                let found: Vec<_> = out.iter().map(|r| (r.to, r.from, r.weight.to_bits())).collect();
                prop_assert_eq!(&found, expected);
            }
            drop(read_back);
            prop_assert_eq!(files(dir.path()), 0);
        }

        #[test]
        fn records_of_any_width(width in 1usize..5_000, count in 0usize..300, buffer in 0usize..100_000) {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = ByteBucketWriter::create(dir.path(), "rows", 3, width, buffer);
            let record = |i: usize| (0..width).map(|j| (i * 37 + j) as u8).collect::<Vec<u8>>();
            for i in 0..count {
                writer.push(i % 3, &record(i)).unwrap();
            }
            let buckets = writer.finish().unwrap();
            let mut out = Vec::new();
            for bucket in 0..3 {
                buckets.read(bucket, &mut out).unwrap();
                let expected: Vec<u8> = (bucket..count).step_by(3).flat_map(record).collect();
                prop_assert!(out == expected);
            }
        }
    }

    #[test]
    fn writer_memory_matches_bytes() {
        let dir = tempfile::tempdir().unwrap();
        for (buckets, width, buffer) in [(1, 12, 1 << 20), (512, 12, 1 << 20), (7, 1000, 10), (512, 100, 0)] {
            let writer = ByteBucketWriter::create(dir.path(), "b", buckets, width, buffer);
            let held = writer.buffer.capacity() + writer.open.capacity() * size_of::<OpenBucket>();
            assert_eq!(held as u64, ByteBucketWriter::bytes(buckets, width, buffer));
            assert!(writer.buffer.capacity() <= buffer.max(buckets * width));
        }
        assert!(size_of::<OpenBucket>() <= 700, "{} bytes: correct the documentation", size_of::<OpenBucket>());
    }

    #[test]
    fn damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BucketWriter::create(dir.path(), "b", 2, 0);
        for i in 0..50 {
            writer.push(1, EdgeRecord { to: i, from: i, weight: 1.0 }).unwrap();
        }
        let buckets = writer.finish().unwrap();
        let path = dir.path().join("b-001.bucket");
        let good = std::fs::read(&path).unwrap();
        let mut out = Vec::new();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(buckets.read(1, &mut out), Err(Error::Corrupt { .. })), "bit {bit}");
        }
        std::fs::write(&path, &good[..588]).unwrap();
        assert!(matches!(buckets.read(1, &mut out), Err(Error::Truncated { expected: 600, found: 588, .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(buckets.read(1, &mut out), Err(Error::Io { .. })));
    }

    #[test]
    fn a_writer_dropped_leaves_nothing_and_a_bucket_can_go_early() {
        let dir = tempfile::tempdir().unwrap();
        let fill = || {
            let mut writer = BucketWriter::create(dir.path(), "b", 4, 0);
            for i in 0..40 {
                writer.push(i as usize % 4, EdgeRecord { to: i, from: 0, weight: 0.5 }).unwrap();
            }
            writer
        };
        let writer = fill();
        assert_eq!(files(dir.path()), 4);
        drop(writer);
        assert_eq!(files(dir.path()), 0);
        let mut buckets = fill().finish().unwrap();
        buckets.discard(2).unwrap();
        assert_eq!((files(dir.path()), buckets.len(2), buckets.bytes()), (3, 0, 360));
        buckets.read(2, &mut Vec::new()).unwrap();
        buckets.remove().unwrap();
        assert_eq!(files(dir.path()), 0);
    }

    #[test]
    fn durable_buckets_stay_and_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = BucketWriter::create(dir.path(), "b", 4, 0);
        for i in 0..40 {
            writer.push(i as usize % 3, EdgeRecord { to: i, from: 0, weight: 0.5 }).unwrap();
        }
        let buckets = writer.finish_durable().unwrap();
        let list: Vec<_> = buckets.files().collect();
        assert_eq!(list.len(), 3);
        for (name, stamp) in &list {
            assert_eq!(crate::stamp(&dir.path().join(name)).unwrap(), *stamp);
        }
        drop(buckets);
        assert_eq!(files(dir.path()), 3);
        let again = Buckets::<EdgeRecord>::reopen(dir.path(), "b", 4, &list[1..]);
        assert_eq!([0, 1, 2, 3].map(|b| again.len(b)), [0, 13, 13, 0]);
        let mut found = Vec::new();
        again.for_each(1, |record| found.push(record.to)).unwrap();
        assert_eq!(found, (0..40).filter(|i| i % 3 == 1).collect::<Vec<u32>>());
    }

    #[test]
    fn two_writers_side_by_side_keep_apart() {
        let dir = tempfile::tempdir().unwrap();
        let mut a = BucketWriter::create(dir.path(), "a", 2, 0);
        let mut b = BucketWriter::create(dir.path(), "b", 2, 0);
        for i in 0..10 {
            a.push(0, EdgeRecord { to: i, from: 1, weight: 1.0 }).unwrap();
            b.push(0, EdgeRecord { to: i, from: 2, weight: 1.0 }).unwrap();
        }
        let (a, b) = (a.finish().unwrap(), b.finish().unwrap());
        drop(a);
        let mut out = Vec::new();
        b.read(0, &mut out).unwrap();
        assert!(out.len() == 10 && out.iter().all(|r| r.from == 2));
    }
}
