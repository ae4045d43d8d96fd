//! The exact neighbours of a seeded sample of rows: what recall is measured
//! against, and what decides how many lists the join must probe.

use std::path::Path;

use lowland_io::{Error as IoError, FileStamp};
use rayon::prelude::*;

use super::panel::{PANEL, Panel};
use super::segments::Segments;
use crate::Result;
use crate::index::Lists;
use crate::observe::Progress;
use crate::plan::Plan;
use crate::random::stratified;

/// Segments that are packed at a time.
const WINDOW: usize = 8;

/// Sample rows and their exact neighbours.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Row numbers in list order, ascending.
    pub rows: Vec<u32>,
    /// The `k` nearest of each, ascending: (squared distance, row).
    pub neighbors: Vec<Vec<(f32, u32)>>,
}

/// `sample.bin`, version 1, little-endian: "LLS1", rows u32; then for each row
/// its number (u32), how many neighbours it has (u32), and those (distance²
/// f32, row u32).
const FILE: &str = "sample.bin";

impl Sample {
    /// Writes the sample into the run directory.
    pub fn write(&self, dir: &Path) -> Result<(String, FileStamp)> {
        let path = dir.join(FILE);
        let mut bytes = b"LLS1".to_vec();
        bytes.extend((self.rows.len() as u32).to_le_bytes());
        for (row, near) in self.rows.iter().zip(&self.neighbors) {
            bytes.extend(row.to_le_bytes());
            bytes.extend((near.len() as u32).to_le_bytes());
            for (squared, other) in near {
                bytes.extend(squared.to_le_bytes());
                bytes.extend(other.to_le_bytes());
            }
        }
        Ok((FILE.into(), lowland_io::replace(&path, &bytes)?))
    }

    /// Reads it back.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(FILE);
        let bytes = std::fs::read(&path).map_err(|e| IoError::io(&path, "read", e))?;
        let mut words = bytes.as_chunks::<4>().0.iter().copied();
        let corrupt = || IoError::Corrupt { path: path.clone(), what: "not a sample of neighbours, version 1".into() };
        let mut next = || words.next().ok_or_else(corrupt);
        if &next()? != b"LLS1" {
            return Err(corrupt().into());
        }
        let mut sample = Sample { rows: Vec::new(), neighbors: Vec::new() };
        for _ in 0..u32::from_le_bytes(next()?) {
            sample.rows.push(u32::from_le_bytes(next()?));
            let mut near = Vec::new();
            for _ in 0..u32::from_le_bytes(next()?) {
                near.push((f32::from_le_bytes(next()?), u32::from_le_bytes(next()?)));
            }
            sample.neighbors.push(near);
        }
        Ok(sample)
    }
}

/// The rows of the sample, in list order: fewer where the data are many, for
/// each is compared with all.
pub fn rows(plan: &Plan) -> Vec<u32> {
    stratified(plan.config.seed, 0x51a1, plan.shape.rows, plan.sample_rows() as u64)
        .into_iter()
        .map(|row| row as u32)
        .collect()
}

/// Finds the exact `k` nearest of the sample's rows.
pub fn exact(plan: &Plan, lists: &Lists, k: usize, progress: &Progress<'_>) -> Result<Sample> {
    let segments = Segments::even(lists);
    let rows = rows(plan);
    let mut panels = panels(&segments, &rows, k)?;
    sweep(&segments, &mut panels, progress, |panel, packed, center, range| panel.scan(packed, center, range))?;
    let found: Vec<Vec<Vec<(f32, u32)>>> = panels
        .into_par_iter()
        .map(|panel| {
            let mut found = Vec::new();
            panel.finish(&segments, |_, neighbors| found.push(neighbors.to_vec()))?;
            Ok(found)
        })
        .collect::<Result<_>>()?;
    Ok(Sample { rows, neighbors: found.into_iter().flatten().collect() })
}

/// The sample's rows in panels.
pub fn panels<'a>(segments: &Segments<'a>, rows: &[u32], k: usize) -> Result<Vec<Panel<'a>>> {
    rows.chunks(PANEL)
        .map(|rows| {
            let vectors = rows.iter().map(|&row| segments.lists.row(row)).collect::<Result<Vec<_>>>()?;
            Ok(Panel::new(rows.to_vec(), vectors, k))
        })
        .collect()
}

/// Brings every segment before every panel, once.
pub fn sweep<'a, P: Send>(
    segments: &Segments<'a>,
    panels: &mut [P],
    progress: &Progress<'_>,
    each: impl Fn(&mut P, &super::kernel::Packed, &[f32], std::ops::Range<u32>) + Sync,
) -> Result<()> {
    let all: Vec<usize> = (0..segments.len()).collect();
    for window in all.chunks(WINDOW) {
        progress.check()?;
        let packed = window.par_iter().map(|&s| segments.pack(s)).collect::<Result<Vec<_>>>()?;
        panels.par_iter_mut().for_each(|panel| {
            for (&segment, packed) in window.iter().zip(&packed) {
                each(panel, packed, segments.center(segment), segments.range(segment));
            }
        });
        let bytes: usize = window.iter().map(|&s| segments.range(s).len() * segments.lists.table.dim * 4).sum();
        progress.traffic.read(bytes as u64);
    }
    Ok(())
}

/// Bytes that a sweep holds beside the caller's own results.
pub fn bytes(plan: &Plan) -> u64 {
    let dim = plan.shape.dim;
    let panels = plan.sample_rows().div_ceil(PANEL) as u64 * Panel::bytes(dim, plan.k());
    panels + (WINDOW as u64) * super::kernel::Packed::bytes(1024, dim)
}

/// The fewest lists a row's list must probe for the sample's recall to reach
/// `target`, and the recall it then has. List-level probing makes this exact
/// counting: a neighbour is found when its list is among the first `probes`.
pub fn probes_for(sample: &Sample, lists: &Lists, target: f64, max_candidates: u64) -> (usize, f64) {
    let table = &lists.table;
    let mut of_list: Vec<(usize, usize)> =
        sample.rows.iter().enumerate().map(|(i, &row)| (table.list_of(row), i)).collect();
    of_list.sort_unstable();
    let groups: Vec<&[(usize, usize)]> = of_list.chunk_by(|a, b| a.0 == b.0).collect();
    // For each probe count: neighbours whose list comes exactly there, and rows compared.
    let (found, candidates) = groups
        .par_iter()
        .map(|group| {
            let order = table.nearest_lists(group[0].0);
            let mut place = vec![0u32; order.len()];
            order.iter().enumerate().for_each(|(i, &list)| place[list as usize] = i as u32);
            let mut found = vec![0u64; order.len()];
            for &(_, i) in group.iter() {
                for &(_, row) in &sample.neighbors[i] {
                    found[place[table.list_of(row)] as usize] += 1;
                }
            }
            let rows: Vec<u64> =
                order.iter().map(|&l| table.range(l as usize).len() as u64 * group.len() as u64).collect();
            (found, rows)
        })
        .reduce(
            || (vec![0; table.len()], vec![0; table.len()]),
            |mut a, b| {
                a.0.iter_mut().zip(&b.0).for_each(|(x, y)| *x += y);
                a.1.iter_mut().zip(&b.1).for_each(|(x, y)| *x += y);
                a
            },
        );
    let wanted: u64 = sample.neighbors.iter().map(|n| n.len() as u64).sum();
    let (mut have, mut compared) = (0u64, 0u64);
    for (probes, (found, rows)) in found.iter().zip(&candidates).enumerate() {
        have += found;
        compared += rows;
        let recall = have as f64 / wanted.max(1) as f64;
        let mean_candidates = compared / sample.rows.len().max(1) as u64;
        if recall >= target || mean_candidates >= max_candidates {
            return (probes + 1, recall);
        }
    }
    (table.len(), 1.0)
}
