//! Writes the graph: rows in order, part by part. Each part is a unit whose record holds the sums over
//! its rows. Parts that an earlier process finished are skipped.

use serde::{Deserialize, Serialize};

use super::store::{self, GraphPartWriter};
use super::{GraphStats, part_name};
use crate::Result;
use crate::work::{StageContext, StageFiles};

/// Sums over the rows of a part, as stored in the manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct GraphPartStats {
    candidates: u64,
    #[serde(default)]
    lists: u64,
    distance_sum: f64,
    distances: u64,
    copies: u64,
    recalls: Vec<f64>,
}

/// Statistics of one row, beside its neighbours.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowStats {
    /// Number of lists that the row visited.
    pub(super) lists: u64,
    /// Number of rows that the row was compared with.
    pub(super) compared: u64,
    /// The row's recall, if the row is in the sample.
    pub(super) recall: Option<f64>,
}

/// Writes the graph's rows, in order.
pub(super) struct KnnGraphWriter<'a> {
    work: StageContext<'a>,
    k: usize,
    rows: u32,
    next: u32,
    part: Option<GraphPartWriter>,
    counted: GraphPartStats,
    before: Vec<GraphPartStats>,
    files: StageFiles,
}

fn unit(part: u32) -> String {
    format!("neighbors-{part:03}")
}

impl<'a> KnnGraphWriter<'a> {
    /// Creates a writer for `rows` rows with `k` neighbours each, from the first row on.
    pub(super) fn begin(rows: u32, k: usize, work: StageContext<'a>) -> Self {
        let (counted, before, files) = (GraphPartStats::default(), Vec::new(), Vec::new());
        KnnGraphWriter { work, k, rows, next: 0, part: None, counted, before, files }
    }

    /// Creates a writer that continues after the parts that an earlier process finished.
    pub(super) fn resume(rows: u32, k: usize, work: StageContext<'a>) -> Result<Self> {
        let mut tiles = Self::begin(rows, k, work);
        let part_rows = store::part_rows(rows);
        while tiles.next < rows {
            let part = tiles.next / part_rows;
            let Some(counted) = work.recorded_unit::<GraphPartStats>(&unit(part))? else { break };
            tiles.before.push(counted);
            let listed = work.run.unit(work.progress.stage().name(), &unit(part)).unwrap_or_default();
            tiles.files.extend(listed.files);
            tiles.next = tiles.next.saturating_add(part_rows).min(rows);
        }
        Ok(tiles)
    }

    /// Returns the number of the next row.
    pub(super) fn next_row(&self) -> u32 {
        self.next
    }

    /// Appends the next row: its neighbours as (row, distance), nearest first, and its statistics.
    pub(super) fn push(&mut self, near: impl Iterator<Item = (u32, f32)> + Clone, about: RowStats) -> Result<()> {
        let part_rows = store::part_rows(self.rows);
        let part = match &mut self.part {
            Some(part) => part,
            none => {
                let file = self.work.create(&part_name(self.next / part_rows))?;
                none.insert(GraphPartWriter::new(file, self.k, self.next, part_rows.min(self.rows - self.next))?)
            }
        };
        part.push(near.clone())?;
        let counted = &mut self.counted;
        counted.candidates += about.compared;
        counted.lists += about.lists;
        counted.copies += u64::from(near.clone().next().is_some_and(|(_, distance)| distance == 0.0));
        for (_, distance) in near {
            counted.distance_sum += f64::from(distance);
            counted.distances += 1;
        }
        counted.recalls.extend(about.recall);
        self.next += 1;
        if self.next.is_multiple_of(part_rows) || self.next == self.rows { self.finish_part() } else { Ok(()) }
    }

    fn finish_part(&mut self) -> Result<()> {
        let Some(part) = self.part.take() else { return Ok(()) };
        let number = (self.next - 1) / store::part_rows(self.rows);
        let file = (part_name(number), part.finish()?);
        self.work.progress.traffic.wrote(file.1.bytes);
        self.files.push(file.clone());
        let counted = std::mem::take(&mut self.counted);
        self.work.record_unit(&unit(number), vec![file], &counted)?;
        self.before.push(counted);
        Ok(())
    }

    /// Returns the parts' files and the graph's statistics. All rows must have been written.
    pub(super) fn finish(self) -> (StageFiles, GraphStats) {
        // Sums are added part by part, so that they do not depend on where an earlier process stopped.
        let recalls: Vec<f64> = self.before.iter().flat_map(|c| &c.recalls).copied().collect();
        let (recall, recall_interval) = crate::score::mean_and_interval(&recalls);
        let sum = |of: fn(&GraphPartStats) -> u64| self.before.iter().map(of).sum::<u64>();
        let found = GraphStats {
            probes: (sum(|c| c.lists) as f64 / f64::from(self.rows.max(1))).round() as usize,
            mean_candidates: sum(|c| c.candidates) as f64 / f64::from(self.rows.max(1)),
            recall,
            recall_interval,
            sample_rows: recalls.len(),
            mean_distance: self.before.iter().map(|c| c.distance_sum).sum::<f64>() / sum(|c| c.distances).max(1) as f64,
            rows_with_copies: sum(|c| c.copies),
        };
        (self.files, found)
    }
}
