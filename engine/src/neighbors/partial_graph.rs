//! Partial graph: the nearest neighbours found in a round that is not the last, and the lists that each row visited.
//!
//! All numbers are little-endian. Two files per part:
//!
//! - `sofar-<round>-<part>.bin`, version 1: the header "LLS2", k (u32), first row (u32), number of rows
//!   (u32); then for each row k neighbours, nearest first (row u32, [`MISSING`] where fewer were found;
//!   squared distance f32), and the end of the row's entries in the visits (u32).
//! - `visits-<round>-<part>.bin`, version 1: the header "LLV1", 0 (u32), first row (u32), number of rows
//!   (u32); then the lists visited (u32), row after row.
//!
//! Parts cover the same rows as the parts of the final graph. Each part is a unit of the stage. The files
//! of a round are deleted when the next round has finished.

use std::io::Write;
use std::path::Path;

use lowland_io::{Error as IoError, FileStamp, MappedFile, PendingFile};

use super::store::{MISSING, part_rows};
use crate::Result;
use crate::work::{StageContext, StageFiles};

const MAGIC: [&[u8; 4]; 2] = [b"LLS2", b"LLV1"];
const HEADER: usize = 16;

fn file_names(round: u32, part: u32) -> [String; 2] {
    [format!("sofar-{round}-{part:03}.bin"), format!("visits-{round}-{part:03}.bin")]
}

fn unit(round: u32, part: u32) -> String {
    format!("round-{round}-{part:03}")
}

/// Returns whether the manifest lists all parts of a round. The files of an earlier round may have been deleted.
pub(super) fn is_complete(round: u32, rows: u32, work: &StageContext<'_>) -> bool {
    let stage = work.progress.stage().name();
    (0..rows.div_ceil(part_rows(rows))).all(|part| work.run.unit(stage, &unit(round, part)).is_some())
}

/// Writes the rows of a round, in order.
pub(super) struct PartialGraphWriter<'a> {
    work: StageContext<'a>,
    round: u32,
    k: usize,
    rows: u32,
    next: u32,
    part: Option<[PendingFile; 2]>,
    visits: u32,
    record: Vec<u8>,
}

impl<'a> PartialGraphWriter<'a> {
    /// Creates a writer for `rows` rows with `k` neighbours each that continues after the parts that an
    /// earlier process finished.
    pub(super) fn resume(round: u32, rows: u32, k: usize, work: StageContext<'a>) -> Result<Self> {
        let mut next = 0;
        while next < rows && work.recorded_unit::<()>(&unit(round, next / part_rows(rows)))?.is_some() {
            next = next.saturating_add(part_rows(rows)).min(rows);
        }
        Ok(PartialGraphWriter { work, round, k, rows, next, part: None, visits: 0, record: Vec::new() })
    }

    /// Returns the number of the next row.
    pub(super) fn next_row(&self) -> u32 {
        self.next
    }

    /// Appends the next row: its neighbours as (squared distance, row), nearest first, and the lists that
    /// it visited in this and all earlier rounds.
    pub(super) fn push(
        &mut self,
        near: impl Iterator<Item = (f32, u32)>,
        visits: impl Iterator<Item = u32>,
    ) -> Result<()> {
        let part_rows = part_rows(self.rows);
        let names = file_names(self.round, self.next / part_rows);
        let [met, visited] = match &mut self.part {
            Some(part) => part,
            none => {
                let rows = part_rows.min(self.rows - self.next);
                let create = |i: usize, second: u32| {
                    let mut file = self.work.create(&names[i])?;
                    let mut head = MAGIC[i].to_vec();
                    [second, self.next, rows].iter().for_each(|word| head.extend(word.to_le_bytes()));
                    write(&mut file, &head)?;
                    Ok::<_, crate::Error>(file)
                };
                self.visits = 0;
                none.insert([create(0, self.k as u32)?, create(1, 0)?])
            }
        };
        self.record.clear();
        for list in visits {
            self.record.extend(list.to_le_bytes());
            self.visits += 1;
        }
        write(visited, &self.record)?;
        self.record.clear();
        for (squared, row) in near.chain(std::iter::repeat((f32::INFINITY, MISSING))).take(self.k) {
            self.record.extend(row.to_le_bytes());
            self.record.extend(squared.to_le_bytes());
        }
        self.record.extend(self.visits.to_le_bytes());
        write(met, &self.record)?;
        self.next += 1;
        if self.next.is_multiple_of(part_rows) || self.next == self.rows { self.finish_part() } else { Ok(()) }
    }

    fn finish_part(&mut self) -> Result<()> {
        let Some(files) = self.part.take() else { return Ok(()) };
        let part = (self.next - 1) / part_rows(self.rows);
        let stamps = files.into_iter().map(|file| Ok(file.finish()?)).collect::<Result<Vec<FileStamp>>>()?;
        self.work.progress.traffic.wrote(stamps.iter().map(|stamp| stamp.bytes).sum());
        let files: StageFiles = file_names(self.round, part).into_iter().zip(stamps).collect();
        self.work.record_unit(&unit(self.round, part), files, &())
    }
}

fn write(file: &mut PendingFile, bytes: &[u8]) -> Result<()> {
    file.write_all(bytes).map_err(|e| IoError::io(file.path(), "write", e).into())
}

/// A finished round, memory-mapped.
pub(super) struct PartialGraph {
    parts: Vec<[MappedFile; 2]>,
    k: usize,
    shift: u32,
}

impl PartialGraph {
    /// Opens round `round` of `rows` rows with `k` neighbours each in `dir`.
    ///
    /// # Errors
    /// A file that is missing, has the wrong length or header, or whose ends of visits do not ascend.
    pub(super) fn open(dir: &Path, round: u32, rows: u32, k: usize) -> Result<Self> {
        let part_rows = part_rows(rows);
        let mut parts = Vec::new();
        for first in (0..rows).step_by(part_rows as usize) {
            let [met, visits] = file_names(round, first / part_rows).map(|name| MappedFile::open(dir.join(name)));
            let (met, visits) = (met?, visits?);
            let here = part_rows.min(rows - first);
            for (i, (map, second)) in [(&met, k as u32), (&visits, 0)].into_iter().enumerate() {
                let head = map.bytes().as_chunks::<4>().0.iter().take(4).copied();
                let expected = [*MAGIC[i], second.to_le_bytes(), first.to_le_bytes(), here.to_le_bytes()];
                if !head.eq(expected) {
                    let what = format!("not rows {first}.. of round {round}, version 1");
                    return Err(IoError::Corrupt { path: map.path().into(), what }.into());
                }
            }
            let whole = |map: &MappedFile, expected: usize| match map.bytes().len() {
                found if found == expected => Ok(()),
                found => {
                    let (expected, found) = (expected as u64, found as u64);
                    Err(IoError::Truncated { path: map.path().into(), expected, found })
                }
            };
            whole(&met, HEADER + here as usize * record_bytes(k))?;
            let part = [met, visits];
            let mut ends = (0..here as usize).map(|place| visits_end(&part[0], k, place));
            if !ends.clone().is_sorted() {
                let what = "visits out of order".into();
                return Err(IoError::Corrupt { path: part[0].path().into(), what }.into());
            }
            whole(&part[1], HEADER + ends.next_back().unwrap_or(0) * 4)?;
            parts.push(part);
        }
        Ok(PartialGraph { parts, k, shift: part_rows.trailing_zeros() })
    }

    fn place(&self, row: u32) -> (&[MappedFile; 2], usize) {
        (&self.parts[(row >> self.shift) as usize], (row & ((1 << self.shift) - 1)) as usize)
    }

    /// Returns the neighbours of `row` as (squared distance, row), nearest first.
    pub(super) fn nearest(&self, row: u32) -> impl Iterator<Item = (f32, u32)> + Clone + '_ {
        let (part, place) = self.place(row);
        let words = part[0].bytes()[HEADER + place * record_bytes(self.k)..][..self.k * 8].as_chunks::<8>().0;
        words
            .iter()
            .map(|pair| {
                let [a, b, c, d, e, f, g, h] = *pair;
                (f32::from_le_bytes([e, f, g, h]), u32::from_le_bytes([a, b, c, d]))
            })
            .take_while(|&(_, row)| row != MISSING)
    }

    /// Returns the lists that `row` visited.
    pub(super) fn visits(&self, row: u32) -> impl Iterator<Item = u32> + Clone + '_ {
        let (part, place) = self.place(row);
        let start = if place == 0 { 0 } else { visits_end(&part[0], self.k, place - 1) };
        let words = &part[1].bytes()[HEADER + start * 4..HEADER + visits_end(&part[0], self.k, place) * 4];
        words.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word))
    }
}

/// Deletes the files of a round, once the next round has finished.
pub(super) fn release(round: u32, rows: u32, work: &StageContext<'_>) -> Result<()> {
    (0..rows.div_ceil(part_rows(rows))).try_for_each(|part| work.update_unit_files(&unit(round, part), Vec::new(), &()))
}

/// Returns the bytes of a row's record.
fn record_bytes(k: usize) -> usize {
    k * 8 + 4
}

/// Returns the end of the visits of the row at `place`.
fn visits_end(met: &MappedFile, k: usize, place: usize) -> usize {
    let at = HEADER + place * record_bytes(k) + k * 8;
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| met.bytes()[at + i]);
    u32::from_le_bytes([a, b, c, d]) as usize
}

/// Returns the bytes of a round's files if each row visited `lists` lists.
pub(super) fn bytes(rows: u64, k: usize, lists: u64) -> u64 {
    rows * (record_bytes(k) as u64 + lists * 4)
}
