//! The memory budget: adds up what the stages need, refuses a budget that is too small, and spends what is left on
//! larger portions (batches, shards, windows, caches), which are faster and never change the map.

use crate::all_pairs;
use crate::budget::{MemoryNeeds, smallest};
use crate::observe::Stage;
use crate::plan::{AllPairsPlan, BATCH_BYTES, BLOCK_ROWS, BatchSize, MIN_BATCH_ROWS, Plan};
use crate::{Error, Result, affinity, index, init, layout, neighbors, output, quality, scan};

/// The largest number of buckets through which a graph is reordered.
const MOST_BUCKETS: u64 = 256;

/// Returns the largest number of buckets that are of use for this number of rows.
pub(super) fn most_buckets(rows: u64) -> usize {
    rows.div_ceil(u64::from(BLOCK_ROWS)).clamp(1, MOST_BUCKETS) as usize
}

impl Plan {
    /// Returns the memory of each stage with the current parameters.
    pub(super) fn needs(&self) -> Vec<(Stage, MemoryNeeds)> {
        self.graph().nodes().iter().map(|node| (node.stage, self.needs_of(node.stage))).collect()
    }

    fn needs_of(&self, stage: Stage) -> MemoryNeeds {
        match (stage, self.problem()) {
            // No plan has these stages.
            (Stage::Survey | Stage::Diff | Stage::Place, _) => MemoryNeeds::default(),
            (Stage::Scan, _) => scan::needs(self),
            (Stage::Index, _) => index::needs(self),
            (Stage::Neighbors, _) if self.graph_k.is_some() => neighbors::import_needs(self),
            (Stage::Neighbors, _) => neighbors::needs(self),
            (Stage::Affinity, _) => affinity::needs(self),
            (Stage::Init, _) => init::needs(self),
            (Stage::Layout, Some(problem)) => all_pairs::stage::needs(self, &problem),
            (Stage::Layout, None) => layout::needs(self),
            (Stage::Output, _) if !self.map => neighbors::export_needs(self),
            (Stage::Output, _) => output::needs(self),
            (Stage::Quality, Some(_)) => all_pairs::quality::needs(self),
            (Stage::Quality, None) => quality::needs(self),
        }
    }

    /// Returns the bytes of a stage; 0 if the plan does not have the stage.
    fn bytes_of_stage(&self, stage: Stage) -> u64 {
        self.graph().node(stage).map_or(0, |_| self.needs_of(stage).bytes())
    }

    /// Refuses a budget that is too small for the stage that needs the most.
    pub(super) fn fits(&self, usable: u64) -> Result<()> {
        match self.needs().iter().map(|(stage, needs)| (needs.bytes(), stage)).max_by_key(|(bytes, _)| *bytes) {
            Some((bytes, stage)) if bytes > usable => {
                let needed = smallest(bytes, self.base());
                let (asked, stage) = (self.settings.memory, stage.name());
                let method = self.settings.method;
                Err(match method.all_pairs() {
                    None => Error::Budget { asked, needed, stage },
                    Some(exact) => {
                        let (rows, instead) = (self.shape.rows, exact.instead.join(" and "));
                        Error::AllPairs { method: method.name(), rows, asked, needed, stage, instead }
                    }
                })
            }
            _ => Ok(()),
        }
    }

    /// Spends each stage's free share of the budget on what makes the stage faster.
    pub(super) fn spend_free_memory(&mut self, usable: u64) {
        let rows = self.shape.rows;
        if self.shape.dim > 0 {
            self.spend_on_batches(usable);
        }
        if let Some(problem) = self.problem() {
            let free = usable.saturating_sub(self.bytes_of_stage(Stage::Layout));
            let whole = all_pairs::stage::needs_of_problem(self, &problem, 0).hold;
            self.all_pairs = Some(AllPairsPlan { hold_bytes: free.min(whole) });
            return;
        }
        if self.shape.dim > 0 {
            self.spend_on_vectors(usable);
        }
        // Reordering a graph uses the smallest number of buckets that fits.
        let through = if self.map { Stage::Neighbors } else { Stage::Output };
        if self.graph_k.is_some() || !self.map {
            let fewest = (1..=most_buckets(rows)).find(|&buckets| {
                self.exchange.buckets = buckets;
                self.bytes_of_stage(through) <= usable
            });
            self.exchange.buckets = fewest.unwrap_or(most_buckets(rows));
            self.exchange.buffer_bytes = self.largest_buffer(usable, through, |plan| &mut plan.exchange.buffer_bytes);
        }
        if self.map {
            let (least, most) = affinity::run_bytes(self);
            let free = usable.saturating_sub(self.bytes_of_stage(Stage::Affinity)) + least;
            self.affinity.run_bytes = free.clamp(least, most);
            while self.bytes_of_stage(Stage::Affinity) > usable && self.affinity.run_bytes > least {
                // The memory held in addition to a run differs between runs in memory and on disk.
                self.affinity.run_bytes = (self.affinity.run_bytes - self.affinity.run_bytes / 64).max(least);
            }
            self.affinity.buffer_bytes =
                self.largest_buffer(usable, Stage::Affinity, |plan| &mut plan.affinity.buffer_bytes);
            let free = usable.saturating_sub(self.bytes_of_stage(Stage::Layout));
            self.layout.cache_bytes = free.min(layout::edge_bytes(self));
        }
    }

    fn spend_on_batches(&mut self, usable: u64) {
        let rows = self.shape.rows;
        if self.settings.batch_rows.is_none() {
            // Up to four such buffers exist at a time; together they take at most an eighth of the budget.
            let row = self.shape.dim as u64 * 4;
            let share = usable / 32 / row;
            // A batch is divided among the threads.
            let wanted = (self.threads as u64 * BATCH_BYTES / row).min(share);
            let mut size = BatchSize::new(MIN_BATCH_ROWS, wanted, rows);
            self.batch_rows = size.now;
            // A stage that the run does not have needs 0 bytes.
            let read =
                [Stage::Scan, if self.all_pairs.is_some() { Stage::Layout } else { Stage::Index }, Stage::Quality];
            while read.iter().any(|&stage| self.bytes_of_stage(stage) > usable) && size.shrink() {
                self.batch_rows = size.now;
            }
        }
    }

    fn spend_on_vectors(&mut self, usable: u64) {
        let rows = self.shape.rows;
        let least = std::mem::replace(&mut self.index.shard_rows, 0);
        let beside = index::needs(self).phases.iter().skip(1).map(|phase| phase.bytes()).max().unwrap_or(0);
        let fit = index::shard_rows(usable.saturating_sub(beside), rows, self.shape.dim);
        self.index.shard_rows = fit.clamp(least as u64, rows) as usize;
        if self.graph_k.is_some() {
            return;
        }
        // An eighth is for lists that are being read; the rest is for the window. Each window reads and packs
        // all lists that its rows visit, so that fewer windows are faster.
        let least = self.neighbors.portion_rows;
        self.neighbors.portion_rows = neighbors::portion_rows(self, usable / 8);
        if self.bytes_of_stage(Stage::Neighbors) > usable {
            self.neighbors.portion_rows = least;
        }
        let (mut fits, mut beyond) =
            (self.neighbors.window_rows, rows.min(neighbors::MAX_WINDOW_ROWS as u64) as usize + 1);
        while beyond - fits > 1 {
            self.neighbors.window_rows = fits.midpoint(beyond);
            let there = if self.bytes_of_stage(Stage::Neighbors) <= usable { &mut fits } else { &mut beyond };
            *there = self.neighbors.window_rows;
        }
        self.neighbors.window_rows = fits;
    }

    /// Returns the largest write buffer with which the stage fits the budget: the current one, doubled up to 64
    /// MiB.
    fn largest_buffer(&mut self, usable: u64, stage: Stage, buffer: fn(&mut Plan) -> &mut u64) -> u64 {
        loop {
            let before = *buffer(self);
            *buffer(self) = before * 2;
            if before >= 64 << 20 || self.bytes_of_stage(stage) > usable {
                return before;
            }
        }
    }
}
