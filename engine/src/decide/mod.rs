//! Decides a run: checks a [`Config`] against the data's shape, and computes every parameter that the stages need,
//! once. The result is a [`Plan`], the data in the module `plan`, which the stages read.
//!
//! This file decides what follows from the data and the options; `check` refuses options, `portions` spends the
//! memory budget, `describe` computes what each stage reads, writes and leaves.
//!
//! What must hold: everything that can change the map (lists, sample, epochs) depends only on the data's shape
//! and the config. The memory budget changes only where bytes are stored and in what portions they are read and
//! written (batch rows, shards, windows, caches, runs). The memory that a stage takes is computed by the
//! function `needs` beside that stage, and its disk space by `disk`.

mod check;
mod describe;
mod portions;

use std::time::Duration;

use lowland_io::Shape;

use crate::all_pairs::Problem;
use crate::budget::{base_bytes, usable};
use crate::config::{Asked, NamedAffinity, Settings};
use crate::plan::{
    AffinityPlan, AllPairsPlan, ExchangePlan, IndexPlan, LayoutPlan, MIN_BATCH_ROWS, NeighborsPlan, Plan, PlanInput,
    threads,
};
use crate::remark::Remark;
use crate::{Config, Error, MethodOption, Result, affinity, methods, neighbors};

pub(crate) use check::check_plan;
use check::{MOST_ROWS, check_rows};
use portions::most_buckets;

/// Up to this number of rows, every pair is compared, whatever their dimension.
const EVERY_PAIR_ROWS: u64 = 32_768;
/// Up to this number of rows, every pair is compared if the data are narrow (see [`NARROW`]) or a recall of 1
/// is asked for. A row is compared with at most this number of rows.
const MAX_EVERY_PAIR_ROWS: u64 = 65_536;
/// The largest rows × dimension of narrow data. For more numbers, the search by lists is faster.
const NARROW: u64 = 1 << 23;
/// The smallest mean number of rows in a list, where the search goes by lists: the fixed costs of each row and
/// list are a small share of the time only if lists are long.
const MIN_LIST_ROWS: u64 = 200;
/// Rows of a join's window at the smallest budget.
const MIN_WINDOW_ROWS: usize = 4096;

impl Config {
    /// Checks the config against the data's shape and computes every parameter of the run.
    ///
    /// # Errors
    /// [`Error::Config`] names the option that is wrong, [`Error::Data`] what is wrong with the data, and
    /// [`Error::Budget`] the smallest budget that would be enough.
    pub fn plan(&self, input: &PlanInput) -> Result<Plan> {
        self.plan_stages(input, true)
    }

    /// Plans a run that makes only the graph: the stages of a map are not counted.
    ///
    /// # Errors
    /// The same as of [`Config::plan`].
    pub fn plan_graph(&self, input: &PlanInput) -> Result<Plan> {
        self.plan_stages(input, false)
    }

    fn plan_stages(&self, input: &PlanInput, map: bool) -> Result<Plan> {
        check_rows(input.shape.rows)?;
        self.method.check_supported(self)?;
        let mut settings = self.settings(input.shape.rows);
        if let (Some(k), None) = (input.graph_k, self.perplexity) {
            // The default perplexity is limited to what a graph with k neighbours supports.
            settings.perplexity = settings.perplexity.min((k as f64 / 3.0).max(1.0));
        }
        settings.check(self, input)?;
        if !map && self.method.is_all_pairs() {
            return Err(Error::Config {
                field: "method",
                why: format!("{} does not compute a graph of neighbours", self.method),
            });
        }
        let notes = self.notes(&settings, input);
        let asked = Asked { n_neighbors: self.n_neighbors.is_some(), perplexity: self.perplexity.is_some() };
        Ok(Plan { asked, ..Plan::decide(settings, notes, input, map)? })
    }
}

impl Config {
    /// Returns a note for each default that was reduced because there are few rows or a small graph.
    fn notes(&self, settings: &Settings, input: &PlanInput) -> Vec<Remark> {
        let usual = Settings::defaults_for(self.method, MOST_ROWS);
        let mut notes = Vec::new();
        let mut note = |opt: MethodOption, is: f64, usual: f64| {
            if self.method.supports(opt) && !opt.is_set(self) && is < usual {
                let is = (is * 100.0).round() / 100.0;
                notes.push(Remark::note(
                    "few-rows",
                    format!("few rows: {} is limited to {is} instead of {usual}", opt.name()),
                ));
            }
        };
        // A given graph fixes the number of neighbours. Of the affinities of `affinity-matcher`, some have
        // neither option.
        let matcher = self.method.supports(MethodOption::Affinity);
        if input.graph_k.is_none() && (!matcher || settings.affinity == NamedAffinity::Umap) {
            note(MethodOption::NNeighbors, settings.n_neighbors as f64, usual.n_neighbors as f64);
        }
        if !matcher || settings.affinity.has_perplexity() {
            note(MethodOption::Perplexity, settings.perplexity, usual.perplexity);
        }
        notes
    }
}

impl Plan {
    /// Computes every parameter from settings that were checked against the input.
    fn decide(settings: Settings, notes: Vec<Remark>, input: &PlanInput, map: bool) -> Result<Plan> {
        let Shape { rows, dim } = input.shape;
        let threads = threads(settings.threads);
        let all = settings.recall >= 1.0 || rows * dim as u64 <= NARROW;
        let exact = rows <= EVERY_PAIR_ROWS || (rows <= MAX_EVERY_PAIR_ROWS && all);
        let lists = if settings.method.is_all_pairs() { 0 } else { list_count(rows, exact) };
        let sample_rows = (40 * lists as u64).min(rows);
        let epochs = settings.n_epochs;

        let usable = usable(settings.memory, base_bytes(dim, threads) + input.resident_bytes);
        let batch_rows = (settings.batch_rows.unwrap_or(MIN_BATCH_ROWS) as u64).min(rows) as usize;
        let mut plan = Plan {
            format: Plan::FORMAT,
            settings: settings.clone(),
            shape: input.shape,
            source_row_bytes: input.dtype.row_bytes(dim),
            source_bytes: input.source_bytes,
            resident_bytes: input.resident_bytes,
            graph_k: input.graph_k,
            map,
            threads,
            batch_rows,
            index: IndexPlan {
                exact,
                lists,
                sample_rows,
                max_candidates: MAX_EVERY_PAIR_ROWS,
                shard_rows: 1024.min(rows as usize),
            },
            neighbors: NeighborsPlan { window_rows: MIN_WINDOW_ROWS.min(rows as usize), portion_rows: 0 },
            exchange: ExchangePlan { buckets: most_buckets(rows), buffer_bytes: 1 << 20 },
            affinity: AffinityPlan { run_bytes: 0, buffer_bytes: 1 << 20 },
            layout: LayoutPlan { epochs, cache_bytes: 0, checkpoint: Duration::from_secs_f64(settings.checkpoint) },
            all_pairs: settings.method.is_all_pairs().then_some(AllPairsPlan { hold_bytes: 0 }),
            stages: Vec::new(),
            notes,
            asked: Asked::default(),
        };
        if plan.all_pairs.is_none() {
            plan.affinity.run_bytes = affinity::run_bytes(&plan).0;
            plan.neighbors.portion_rows = neighbors::portion_rows(&plan, 0);
        }
        // First checks the smallest memory that each stage needs, then spends the rest of the budget.
        plan.fits(usable)?;
        plan.spend_free_memory(usable);
        plan.stages = plan.describe();
        if let Some(asked) = settings.disk
            && let Some(stage) = plan.stages.iter().max_by_key(|stage| stage.disk)
            && stage.disk > asked
        {
            return Err(Error::Disk { asked, needed: stage.disk.next_multiple_of(1 << 20), stage: stage.stage.name() });
        }
        Ok(plan)
    }

    /// Returns the problem of a method that computes all pairs; `None` if the method streams.
    fn problem(&self) -> Option<Problem> {
        self.all_pairs.as_ref().and_then(|_| methods::problem(&self.settings).ok())
    }
}

/// Returns the number of inverted lists, which grows with the square root of the rows; lists have at least 32
/// rows on average where every pair is compared, and otherwise [`MIN_LIST_ROWS`].
fn list_count(rows: u64, exact: bool) -> usize {
    let root = (rows as f64).sqrt();
    // Where every pair is compared, lists only order the rows and provide the centroids for first positions;
    // more lists are better for that.
    let (wanted, least) = if exact { (8.0 * root, 32) } else { (4.0 * root * large_list_count(rows), MIN_LIST_ROWS) };
    (wanted as u64).min(rows / least).max(1) as usize
}

/// Returns the factor by which a million rows and more have more than 4√rows lists, so that the number of lists
/// grows as rows^¾. A row visits about the same number of lists as with fewer rows, and each of 4√rows lists
/// would hold √rows / 4 rows.
fn large_list_count(rows: u64) -> f64 {
    (rows as f64 / 1e6).powf(0.25).max(1.0)
}

#[cfg(test)]
mod tests {
    use lowland_io::Dtype;

    use super::*;

    fn input(rows: u64, dim: usize) -> PlanInput {
        PlanInput { shape: Shape { rows, dim }, dtype: Dtype::F32, graph_k: None, source_bytes: 0, resident_bytes: 0 }
    }

    #[test]
    fn list_size_grows_slowly_with_rows() {
        for (rows, expected) in [(250_000, 1_250), (1_000_000, 4_000), (16_000_000, 32_000), (100_000_000, 126_491)] {
            assert_eq!(list_count(rows, false), expected, "{rows}");
        }
        assert_eq!(list_count(16_000_000, true), 32_000);
    }

    #[test]
    fn budget_does_not_decide_what_changes_the_map() {
        let plan = |memory| {
            Config { memory, threads: Some(2), ..Config::default() }.plan(&input(2_000_000, 128)).expect("fits")
        };
        let (small, large) = (plan(600 << 20), plan(16 << 30));
        assert_eq!((small.index.lists, small.index.sample_rows), (large.index.lists, large.index.sample_rows));
        assert_eq!(small.layout.epochs, large.layout.epochs);
        assert!(small.neighbors.window_rows < large.neighbors.window_rows);
        for stage in &small.stages {
            assert!(stage.memory <= 600 << 20, "{small}");
        }
    }

    #[test]
    fn too_small_budget_names_the_smallest() {
        let config = Config { memory: 10 << 20, threads: Some(2), ..Config::default() };
        let Err(Error::Budget { needed, .. }) = config.plan(&input(1_000_000, 64)) else { panic!("10 MiB cannot do") };
        let config = Config { memory: needed, ..config };
        config.plan(&input(1_000_000, 64)).expect("what was named does");
    }

    #[test]
    fn invalid_plans_are_refused() {
        let check = |config: Config, rows, dim, word: &str| {
            let error = config.plan(&input(rows, dim)).expect_err(word).to_string();
            assert!(error.contains(word), "{error}");
        };
        let base = Config::default;
        check(base(), 0, 3, "0 rows");
        check(base(), 1, 3, "1 row");
        check(Config { n_neighbors: Some(15), ..base() }, 15, 3, "n_neighbors");
        check(Config { n_components: Some(4), ..base() }, 100, 3, "n_components");
        check(Config { min_dist: Some(2.0), ..base() }, 100, 3, "min_dist");
        check(Config { min_dist: Some(f64::NAN), ..base() }, 100, 3, "min_dist");
        check(Config { spread: Some(0.0), ..base() }, 100, 3, "spread");
        check(Config { learning_rate: Some(-1.0), ..base() }, 100, 3, "learning_rate");
        check(base(), u64::from(u32::MAX), 3, "not supported");
    }
}
