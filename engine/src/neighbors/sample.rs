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

/// Rows that are packed at a time, for each thread.
const ROWS: usize = super::segments::LONGEST;

/// Sample rows and their exact neighbours.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Row numbers in list order, ascending.
    pub rows: Vec<u32>,
    /// The `k` nearest of each, ascending: (squared distance, row).
    pub neighbors: Vec<Vec<(f32, u32)>>,
}

/// `truth.bin`, version 1, little-endian: "LLS1", rows u32; then for each row
/// its number (u32), how many neighbours it has (u32), and those (distance²
/// f32, row u32).
pub const FILE: &str = "truth.bin";

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
pub(super) fn rows(plan: &Plan) -> Vec<u32> {
    stratified(plan.config.seed, 0x51a1, plan.shape.rows, plan.sample_rows() as u64)
        .into_iter()
        .map(|row| row as u32)
        .collect()
}

/// Finds the exact `k` nearest of the sample's rows.
pub fn exact(plan: &Plan, lists: &Lists, k: usize, progress: &Progress<'_>) -> Result<Sample> {
    let segments = Segments::all_pairs(lists, plan.index.exact)?;
    let rows = rows(plan);
    let mut panels = panels(&segments, &rows, k)?;
    let all: Vec<u32> = (0..PANEL as u32).collect();
    sweep(
        &segments,
        &mut panels,
        progress,
        |_| Ok(()),
        |panel, segment, packed| {
            let queries = panel.rows().len();
            panel.scan(&all[..queries], segment, packed, &segments);
        },
    )?;
    let found = panels.into_par_iter().map(|panel| panel.finish(&segments, None)).collect::<Result<Vec<_>>>()?;
    let neighbors = found.iter().flat_map(|near| near.rows().map(<[_]>::to_vec)).collect();
    Ok(Sample { rows, neighbors })
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

/// Brings every segment before every panel, once; `advance` hears how many rows that was.
pub fn sweep<'a, P: Send>(
    segments: &Segments<'a>,
    panels: &mut [P],
    progress: &Progress<'_>,
    advance: impl Fn(u64) -> Result<()>,
    each: impl Fn(&mut P, usize, &super::kernel::Packed) + Sync,
) -> Result<()> {
    let most = ROWS * rayon::current_num_threads().max(2);
    let mut next = 0;
    while next < segments.count() {
        progress.check()?;
        let (first, mut rows) = (next, 0);
        while next < segments.count() && (next == first || rows + segments.range(next).len() <= most) {
            rows += segments.range(next).len();
            next += 1;
        }
        let packed = (first..next).into_par_iter().map(|s| segments.pack(s)).collect::<Result<Vec<_>>>()?;
        panels.par_iter_mut().for_each(|panel| {
            for (segment, packed) in (first..next).zip(&packed) {
                each(panel, segment, packed);
            }
        });
        let rows = rows as u64;
        progress.traffic.read(rows * segments.lists.table.dim as u64 * 4);
        advance(rows)?;
    }
    Ok(())
}

/// Bytes that a sweep holds beside the caller's own results.
pub fn bytes(plan: &Plan) -> u64 {
    let dim = plan.shape.dim;
    let panels =
        plan.sample_rows().div_ceil(PANEL) as u64 * (PANEL as u64 * Panel::row_bytes(plan.k()) + Panel::bytes(dim));
    // Many short segments pad more than one long one.
    let rows = (ROWS * plan.threads.max(2)).min(plan.shape.rows as usize);
    panels + super::kernel::Packed::bytes(rows, dim) * 17 / 16
}

/// The fewest lists that each row must probe for the sample's recall to reach
/// `target`, and the recall it then has. A neighbour is found when its list is
/// among the `probes` nearest to the row, so this is exact counting.
pub fn probes_for(sample: &Sample, lists: &Lists, target: f64, max_candidates: u64) -> Result<(usize, f64)> {
    let table = &lists.table;
    // For each place in a row's order of lists: neighbours that lie there, and rows compared.
    let nothing = || (vec![0u64; table.count()], vec![0u64; table.count()]);
    let (found, candidates) = sample
        .rows
        .par_iter()
        .zip(&sample.neighbors)
        .try_fold(nothing, |(mut found, mut candidates), (&row, neighbors)| {
            // As the join does: the row's own list first, and none that is empty.
            let own = table.list_of(row) as u32;
            let others = table.nearest_lists(lists.row(row)?);
            let others = others.into_iter().filter(|&l| l != own && !table.range(l as usize).is_empty());
            let order: Vec<u32> = std::iter::once(own).chain(others).collect();
            let mut place = vec![0u32; table.count()];
            order.iter().enumerate().for_each(|(i, &list)| place[list as usize] = i as u32);
            for &(_, neighbor) in neighbors {
                found[place[table.list_of(neighbor)] as usize] += 1;
            }
            candidates.iter_mut().zip(&order).for_each(|(c, &l)| *c += table.range(l as usize).len() as u64);
            Ok::<_, crate::Error>((found, candidates))
        })
        .try_reduce(nothing, |mut a, b| {
            a.0.iter_mut().zip(&b.0).for_each(|(x, y)| *x += y);
            a.1.iter_mut().zip(&b.1).for_each(|(x, y)| *x += y);
            Ok(a)
        })?;
    let wanted: u64 = sample.neighbors.iter().map(|n| n.len() as u64).sum();
    let (mut have, mut compared) = (0u64, 0u64);
    for (probes, (found, rows)) in found.iter().zip(&candidates).enumerate() {
        have += found;
        compared += rows;
        let recall = have as f64 / wanted.max(1) as f64;
        let mean_candidates = compared / sample.rows.len().max(1) as u64;
        if recall >= target || mean_candidates >= max_candidates {
            return Ok((probes + 1, recall));
        }
    }
    Ok((table.count(), 1.0))
}
