//! Describes the stages of a plan once all parameters are known: memory, bytes read and written, and disk space.

use lowland_io::Shape;

use crate::all_pairs::{self, Problem};
use crate::budget::MemoryNeeds;
use crate::error::format_bytes;
use crate::observe::Stage;
use crate::plan::{Plan, StagePlan};
use crate::positions::map_bytes;
use crate::{affinity, index, layout, neighbors, scan};

impl Plan {
    /// Returns what each stage takes, reads, writes and leaves, once all parameters are known.
    pub(super) fn describe(&self) -> Vec<StagePlan> {
        if let Some(problem) = self.problem() {
            return self.describe_all_pairs(&problem);
        }
        let Shape { rows, .. } = self.shape;
        let source = rows * self.source_row_bytes as u64;
        let (training, (shards, index)) = (scan::disk(self), index::disk(self));
        let graph = neighbors::graph_bytes(rows, self.k());
        let (buckets, edges) = affinity::disk(self);
        let map = map_bytes(self);
        let spilled = layout::edge_bytes(self).saturating_sub(self.layout.cache_bytes);
        let lists = if self.shape.dim > 0 { rows * (self.shape.dim as u64 * 4 + 8) } else { 0 };
        let nodes = self.graph();
        // Bytes in the run directory so far, and what each stage left there.
        let (mut there, mut leaves) = (0, Vec::new());
        let mut stages = Vec::new();
        for (stage, needs) in self.needs() {
            let mut spills = None;
            // Bytes read, written, present only while the stage runs, and left by the stage.
            let (read, written, scratch, left) = match stage {
                Stage::Survey | Stage::Diff | Stage::Place => (source, 0, 0, 0),
                Stage::Scan => (source, training, 0, training),
                Stage::Index => {
                    if self.index.shard_rows < rows as usize {
                        let count = rows.div_ceil(self.index.shard_rows as u64);
                        spills = Some(format!("vectors in {count} shards, merged by list: {}", format_bytes(lists)));
                    }
                    (source + training + shards, shards + index, shards, index)
                }
                Stage::Neighbors if self.graph_k.is_some() => {
                    let bucket = neighbors::import_disk(self);
                    (graph + bucket + lists, graph + bucket, bucket, graph)
                }
                Stage::Neighbors => {
                    let windows = rows.div_ceil(self.neighbors.window_rows as u64);
                    if windows > 1 {
                        spills = Some(format!(
                            "{} of vectors are read again for each of {windows} windows",
                            format_bytes(lists)
                        ));
                    }
                    // The files of a first round, and its partial graph.
                    let rounds = neighbors::disk(self);
                    let read = if self.index.exact { 1 } else { 2 } * windows * lists;
                    (2 * lists + read + rounds / 2, graph + rounds / 2, rounds, graph)
                }
                Stage::Affinity => {
                    if buckets > 0 {
                        spills = Some(format!("edges in buckets by target row: {}", format_bytes(buckets)));
                    }
                    (3 * graph + buckets, buckets + edges, buckets, edges)
                }
                Stage::Init => (lists, map, 0, map),
                Stage::Layout => {
                    if spilled > 0 {
                        spills = Some(format!("{} of edges are read in each epoch", format_bytes(spilled)));
                    }
                    let scratch = spilled + 2 * layout::checkpoint_bytes(self);
                    let read = edges + map + spilled * self.layout.epochs as u64;
                    (read, spilled + map, scratch, map)
                }
                Stage::Output if !self.map => {
                    let bucket = neighbors::export_disk(self);
                    (graph + bucket, 2 * bucket, bucket, 0)
                }
                Stage::Output => (map, map, 0, 0),
                Stage::Quality => (lists + map, 0, 0, 0),
            };
            let memory = self.base() + needs.bytes();
            let holds = needs.largest().map_or(Vec::new(), |phase| phase.parts.clone());
            stages.push(StagePlan { stage, memory, holds, read, written, disk: there + scratch + left, spills });
            there += left;
            leaves.push((stage, left));
            let released = nodes.released_after(stage).filter(|&stage| !self.keeps(stage));
            for (_, left) in released.filter_map(|stage| leaves.iter().find(|(of, _)| *of == stage)) {
                there -= left;
            }
        }
        stages
    }

    /// [`Plan::describe`] for a method that computes all pairs.
    fn describe_all_pairs(&self, problem: &Problem) -> Vec<StagePlan> {
        let source = self.shape.rows * self.source_row_bytes as u64;
        let map = map_bytes(self);
        let stage = |(stage, needs): (Stage, MemoryNeeds)| {
            let (read, written, disk) = match stage {
                Stage::Layout => (source, map, map + 2 * all_pairs::stage::disk(self, problem)),
                Stage::Output => (map, map, map),
                Stage::Quality => (source + map, 0, map),
                _ => (source, 0, 0),
            };
            let memory = self.base() + needs.bytes();
            let holds = needs.largest().map_or(Vec::new(), |phase| phase.parts.clone());
            StagePlan { stage, memory, holds, read, written, disk, spills: None }
        };
        self.needs().into_iter().map(stage).collect()
    }
}
