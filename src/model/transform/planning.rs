//! What a transform holds, and the rows of a batch that follow from the budget. No result depends on them.

use lowland_engine::Stage;
use lowland_engine::StagePlan;
use lowland_engine::budget::{MemoryNeeds, base_bytes};
use lowland_io::{Loader, MapWriter, RowSet};
use lowland_model::place::Placer;
use lowland_model::search::{self, Searcher};

use super::units::unit_rows;
use super::{TransformJob, TransformPlan};
use crate::Result;

/// The fewest rows of a batch, if none is asked for.
const LEAST_BATCH_ROWS: usize = 64;

impl TransformJob {
    /// Checks the options against the inputs, and decides the sizes of batches.
    ///
    /// # Errors
    /// Those of [`check_rows`](Self::check_rows), and a memory budget that is too small.
    pub fn plan(&self) -> Result<TransformPlan> {
        let placed = self.placed(&())?;
        let (all, rows) = (self.source.shape().rows, self.usable(&placed));
        let threads = self.threads();
        if threads == 0 || self.batch_rows == Some(0) {
            let field = if threads == 0 { "threads" } else { "batch_rows" };
            return Err(lowland_engine::Error::Config { field, why: "0 is too small; give 1 or more".into() }.into());
        }
        // A given number of rows is kept. Otherwise the batch is halved until it fits.
        let mut batch_rows = self.batch_rows.unwrap_or_else(|| search::batch_rows(self.model.snapshot().places()));
        batch_rows = batch_rows.min(unit_rows(rows) as usize);
        loop {
            let needed = self.budget_of(batch_rows);
            if needed <= self.memory {
                break;
            }
            if self.batch_rows.is_some() || batch_rows <= LEAST_BATCH_ROWS {
                let stage = Stage::Place.name();
                return Err(lowland_engine::Error::Budget { asked: self.memory, needed, stage }.into());
            }
            batch_rows /= 2;
        }
        let base = base_bytes(self.model.snapshot().dim(), threads);
        let stages = vec![
            stage_plan(Stage::Place, &self.needs(batch_rows), base),
            stage_plan(Stage::Output, &self.output_needs(all), base),
        ];
        Ok(TransformPlan { rows, batch_rows, threads, stages })
    }

    fn threads(&self) -> usize {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or(available)
    }

    /// Returns the smallest memory budget, in whole MiB, with batches of `batch_rows`.
    fn budget_of(&self, batch_rows: usize) -> u64 {
        let output = self.output_needs(self.source.shape().rows).bytes();
        let base = base_bytes(self.model.snapshot().dim(), self.threads());
        let held = self.needs(batch_rows).bytes().max(output) + base;
        // A twentieth of the budget stays free, as in a run.
        (held + held / 19).next_multiple_of(1 << 20)
    }

    /// Returns the smallest memory budget that is enough, in whole MiB.
    pub(super) fn least_budget(&self) -> u64 {
        self.budget_of(self.batch_rows.unwrap_or(LEAST_BATCH_ROWS))
    }

    /// Returns what is held while batches of `batch_rows` rows are placed.
    fn needs(&self, batch_rows: usize) -> MemoryNeeds {
        let (all, threads) = (self.source.shape().rows, self.threads());
        let (snapshot, options) = (self.model.snapshot(), self.model.options());
        let dim = snapshot.dim();
        let batches = Loader::bytes(batch_rows, dim) + self.source.held_bytes() + (batch_rows * dim * 4) as u64;
        let placing = Placer::bytes(&options.settings, self.model.rows(), options.n_neighbors, threads);
        let (lists, k) = (snapshot.lists(), options.n_neighbors);
        let search = Searcher::bytes(options.effort, lists, dim, batch_rows, k, threads) + snapshot.bytes();
        // Hashes, positions, scores, and the bytes that are written.
        let rows = (batch_rows * (16 + 8 * snapshot.n_components())) as u64;
        MemoryNeeds::default().phase(
            "place",
            [
                ("batches", batches + rows),
                ("a bit a row", RowSet::bytes(all)),
                ("the source", self.source.resident_bytes()),
                ("search", search),
                ("placement", placing),
            ],
        )
    }

    fn output_needs(&self, all: u64) -> MemoryNeeds {
        let dim = self.model.options().settings.n_components + 1;
        MemoryNeeds::default()
            .phase("output", [("the map", MapWriter::bytes(all, dim)), ("a bit a row", RowSet::bytes(all))])
    }
}

fn stage_plan(stage: Stage, needs: &MemoryNeeds, base: u64) -> StagePlan {
    let holds = needs.largest().map_or_else(Vec::new, |phase| phase.parts.clone());
    StagePlan { stage, memory: needs.bytes() + base, holds, read: 0, written: 0, disk: 0, spills: None }
}
