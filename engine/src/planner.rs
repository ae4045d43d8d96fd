//! The planner: checks a [`Config`] against the data's shape, and computes every parameter that the stages need,
//! once.
//!
//! What must hold: everything that can change the map (lists, sample, epochs) depends only on the data's shape
//! and the config. The memory budget changes only where bytes are stored and in what portions they are read and
//! written (batch rows, shards, windows, caches, runs). The memory that a stage takes is computed by the
//! function `needs` beside that stage, and its disk space by `disk`.

use std::time::Duration;

use lowland_io::Shape;

use crate::all_pairs::Problem;
use crate::budget::{MemoryNeeds, base_bytes, smallest, usable};
use crate::config::{Affinity, AllPairs, Asked, NamedAffinity, Optimizer, Settings};
use crate::error::format_bytes;
use crate::observe::Stage;
use crate::plan::{
    AffinityPlan, AllPairsPlan, BATCH_BYTES, BLOCK_ROWS, BatchSize, ExchangePlan, IndexPlan, LayoutPlan,
    MIN_BATCH_ROWS, NeighborsPlan, Plan, PlanInput, StagePlan, check_workers, threads,
};
use crate::positions::map_bytes;
use crate::remark::Remark;
use crate::{
    Config, Error, Init, Method, MethodOption, Result, affinity, all_pairs, index, init, layout, methods, neighbors,
    output, quality, scan,
};

/// Up to this number of rows, all pairs are compared, whatever their dimension.
const ALL_PAIRS_ROWS: u64 = 32_768;
/// Up to this number of rows, all pairs are compared if the data are narrow (see [`NARROW`]) or a recall of 1
/// is asked for. A row is compared with at most this number of rows.
const MAX_ALL_PAIRS_ROWS: u64 = 65_536;
/// The largest rows × dimension of narrow data. For more numbers, the search by lists is faster.
const NARROW: u64 = 1 << 23;
/// The smallest mean number of rows in a list, where the search goes by lists: the fixed costs of each row and
/// list are a small share of the time only if lists are long.
const MIN_LIST_ROWS: u64 = 200;
/// The largest number of rows. Row numbers are u32; the last few millions are left for numbers of rows that are
/// rounded up to whole blocks.
const MOST_ROWS: u64 = 4_000_000_000;
/// Rows of a join's window at the smallest budget.
const MIN_WINDOW_ROWS: usize = 4096;
/// The largest number of buckets through which a graph is reordered.
const MOST_BUCKETS: u64 = 256;

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
            return Err(Error::Config { field: "method", why: format!("{} makes no graph", self.method) });
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
                notes.push(Remark::note("few-rows", format!("few rows: {} is {is} rather than {usual}", opt.name())));
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

/// Refuses fewer than 2 and more than [`MOST_ROWS`] rows.
fn check_rows(rows: u64) -> Result<()> {
    if rows < 2 {
        let rows = if rows == 1 { "1 row".into() } else { format!("{rows} rows") };
        return Err(Error::Data { what: format!("the source has {rows}; a map needs at least 2") });
    }
    if rows > MOST_ROWS {
        return Err(Error::Data { what: format!("{rows} rows: more than {MOST_ROWS} are not supported yet") });
    }
    Ok(())
}

impl Plan {
    /// Computes every parameter from settings that were checked against the input.
    fn decide(settings: Settings, notes: Vec<Remark>, input: &PlanInput, map: bool) -> Result<Plan> {
        let Shape { rows, dim } = input.shape;
        let threads = threads(settings.threads);
        let all = settings.recall >= 1.0 || rows * dim as u64 <= NARROW;
        let exact = rows <= ALL_PAIRS_ROWS || (rows <= MAX_ALL_PAIRS_ROWS && all);
        let lists = if settings.method.is_all_pairs() { 0 } else { list_count(rows, exact) };
        let sample_rows = (40 * lists as u64).min(rows);
        let epochs = settings.n_epochs;

        let usable = usable(settings.memory, base_bytes(dim, threads) + input.resident_bytes);
        let batch_rows = (settings.batch_rows.unwrap_or(MIN_BATCH_ROWS) as u64).min(rows) as usize;
        let mut plan = Plan {
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
                max_candidates: MAX_ALL_PAIRS_ROWS,
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
}

impl Settings {
    /// Checks the options against what streamed methods support.
    fn check_streamed(&self, input: &PlanInput) -> Result<()> {
        self.check_neighbors(input)?;
        // With a graph and no vectors, the metric only tells what the graph's distances are.
        match self.metric.unsupported_reason().filter(|_| input.shape.dim > 0) {
            None => Ok(()),
            Some(why) => {
                let exact: Vec<&str> = Method::all().filter(|method| method.is_all_pairs()).map(Method::name).collect();
                let why = format!("{} streams, and {why}; exact methods take it: {}", self.method, exact.join(", "));
                Err(Error::Config { field: "metric", why })
            }
        }
    }

    /// Checks the options against what an exact method supports.
    fn check_exact(&self, exact: &AllPairs, asked: &Config, input: &PlanInput) -> Result<()> {
        let Shape { rows, dim } = input.shape;
        let (method, instead) = (self.method, exact.instead.join(" or "));
        let config = |field, why: String| Err(Error::Config { field, why });
        if input.graph_k.is_some() || dim == 0 {
            let why = format!("{method} computes all pairs of the vectors, and takes no graph; {instead} does");
            return config("method", why);
        }
        if rows > exact.rows {
            let why = format!(
                "{method} computes all pairs, which {rows} rows are too many for: {} is the most; take a sample of them, or {instead}, which streams",
                exact.rows
            );
            return config("method", why);
        }
        if self.init == Init::Centroid {
            return config("init", format!("centroid needs lists, which {method} has not; pca, random or a file"));
        }
        if method.supports(MethodOption::Affinity) {
            let named = |field, some: fn(NamedAffinity) -> bool| {
                let names = NamedAffinity::ALL.into_iter().filter(|&affinity| some(affinity)).map(NamedAffinity::name);
                let names = names.collect::<Vec<_>>();
                let have = if names.len() == 1 { "has" } else { "have" };
                config(field, format!("the {} affinity has none; {} {have}", self.affinity.name(), names.join(", ")))
            };
            if asked.perplexity.is_some() && !self.affinity.has_perplexity() {
                return named("perplexity", NamedAffinity::has_perplexity);
            }
            if asked.n_neighbors.is_some() && self.affinity != NamedAffinity::Umap {
                return named("n_neighbors", |affinity| affinity == NamedAffinity::Umap);
            }
        }
        if asked.n_neighbors == Some(1) {
            return config("n_neighbors", "1 is too few; 2 is the least".into());
        }
        let problem = methods::problem(self)?;
        if problem.loss.hyperbolic() && self.init == Init::Pca {
            return config("init", format!("pca scores need not lie in the ball of {method}'s maps; random or a file"));
        }
        problem.check(rows as usize)
    }

    /// Checks the number of neighbours, asked for or given.
    fn check_neighbors(&self, input: &PlanInput) -> Result<()> {
        let rows = input.shape.rows;
        let config = |field, why: String| Err(Error::Config { field, why });
        if self.method.affinity() == Some(Affinity::Pacmap) && input.shape.dim == 0 {
            return Err(affinity::pairs::vectors_missing());
        }
        if self.method.supports(MethodOption::Perplexity) {
            let (perplexity, most) = (self.perplexity, MOST_NEIGHBORS as f64 / 3.0);
            if !(perplexity >= 1.0 && perplexity <= most.floor()) {
                return config("perplexity", format!("{perplexity} is not between 1 and {most:.0}; 30 is the default"));
            }
            return match input.graph_k {
                Some(k) if perplexity > k as f64 => config(
                    "perplexity",
                    format!("{perplexity} of a graph with {k} neighbours a row; {} is what they serve", (k / 3).max(1)),
                ),
                None if perplexity > (rows - 1) as f64 => {
                    config("perplexity", format!("{perplexity} of {rows} rows; {} is the most", rows - 1))
                }
                _ => Ok(()),
            };
        }
        if self.n_neighbors < 2.min(rows as usize - 1)
            && (input.graph_k.is_none() || self.method.affinity() == Some(Affinity::Pacmap))
        {
            let usual = Settings::defaults_for(self.method, rows).n_neighbors;
            return config(
                "n_neighbors",
                format!("{} is too few; 2 is the least, {usual} the default", self.n_neighbors),
            );
        }
        if input.graph_k.is_none() && self.n_neighbors as u64 >= rows {
            return config(
                "n_neighbors",
                format!("{} neighbours asked of {rows} rows; at most {} are there", self.n_neighbors, rows - 1),
            );
        }
        if self.n_neighbors > MOST_NEIGHBORS {
            return config("n_neighbors", format!("{} is more than {MOST_NEIGHBORS}", self.n_neighbors));
        }
        Ok(())
    }

    fn check(&self, asked: &Config, input: &PlanInput) -> Result<()> {
        let Shape { dim, .. } = input.shape;
        let config = |field, why: String| Err(Error::Config { field, why });
        if !self.method.is_all_pairs() {
            self.check_streamed(input)?;
        }
        if self.n_components == 0 || self.n_components > 64 {
            return config("n_components", format!("{} is not between 1 and 64", self.n_components));
        }
        // With vectors of one component, the default of two components of the map is not refused.
        if dim > 0 && self.n_components > dim && asked.n_components.is_some() {
            return config("n_components", format!("{} asked of vectors with {dim} components", self.n_components));
        }
        if !(self.spread.is_finite() && self.spread > 0.0) {
            return config("spread", format!("{} is not above 0", self.spread));
        }
        if !(self.min_dist >= 0.0 && self.min_dist <= self.spread) {
            return config("min_dist", format!("{} is not between 0 and spread ({})", self.min_dist, self.spread));
        }
        if let Some(rate) = self.learning_rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
            return config("learning_rate", format!("{rate} is not above 0"));
        }
        if !(self.early_exaggeration >= 1.0 && self.early_exaggeration <= 1e6) {
            return config(
                "early_exaggeration",
                format!("{} is not between 1 (none) and 1e6", self.early_exaggeration),
            );
        }
        if self.n_negatives == 0 || self.n_negatives > MOST_NEGATIVES {
            return config("n_negatives", format!("{} is not between 1 and {MOST_NEGATIVES}", self.n_negatives));
        }
        if self.method.has_field() && self.n_components != 2 {
            let why =
                format!("{} makes maps of 2 components only; infotsne is as good as t-SNE in any number", self.method);
            return config("n_components", why);
        }
        if !(self.recall > 0.0 && self.recall <= 1.0) {
            return config("recall", format!("{} is not above 0 and at most 1", self.recall));
        }
        if self.negative_sample_rate == 0 || self.negative_sample_rate > 100 {
            return config("negative_sample_rate", format!("{} is not between 1 and 100", self.negative_sample_rate));
        }
        if self.n_epochs == 0 || self.n_epochs > 1 << 20 {
            return config("n_epochs", "must be between 1 and 1048576".into());
        }
        if self.method.is_all_pairs() && self.optimizer == Optimizer::Gains {
            return config("optimizer", format!("{} has no gains; momentum and adam are there", self.method));
        }
        if self.init == Init::Pca && dim == 0 && !self.method.is_all_pairs() {
            return config("init", "pca needs vectors, and only a graph was given".into());
        }
        check_workers(self.threads, self.batch_rows)?;
        crate::device::check_build(self.device).or_else(|why| config("device", why))?;
        if self.method.is_all_pairs() && matches!(self.device, crate::Device::Cuda(_)) {
            let others: Vec<&str> = Method::all().filter(|m| !m.is_all_pairs()).map(Method::name).collect();
            return config("device", format!("{} has no kernel for a GPU; {} have", self.method, others.join(", ")));
        }
        if !(0.0..=1e9).contains(&self.checkpoint) {
            return config("checkpoint", format!("{} seconds is not between 0 and 1e9", self.checkpoint));
        }
        self.method.all_pairs().map_or(Ok(()), |exact| self.check_exact(exact, asked, input))
    }
}

/// The largest number of neighbours of a row.
const MOST_NEIGHBORS: usize = 1000;
/// The largest `n_negatives`: the number of rows in the smallest pool of negative samples.
const MOST_NEGATIVES: usize = 512;

/// Returns the number of inverted lists, which grows with the square root of the rows; lists have at least 32
/// rows on average where all pairs are compared, and otherwise [`MIN_LIST_ROWS`].
fn list_count(rows: u64, exact: bool) -> usize {
    let root = (rows as f64).sqrt();
    // Where all pairs are compared, lists only order the rows and provide the centroids for first positions;
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

fn most_buckets(rows: u64) -> usize {
    rows.div_ceil(u64::from(BLOCK_ROWS)).clamp(1, MOST_BUCKETS) as usize
}

impl Plan {
    /// Returns the problem of a method that computes all pairs; `None` if the method streams.
    fn problem(&self) -> Option<Problem> {
        self.all_pairs.as_ref().and_then(|_| methods::problem(&self.settings).ok())
    }

    /// Returns the memory of each stage with the current parameters.
    fn needs(&self) -> Vec<(Stage, MemoryNeeds)> {
        self.graph().nodes().iter().map(|node| (node.stage, self.needs_of(node.stage))).collect()
    }

    fn needs_of(&self, stage: Stage) -> MemoryNeeds {
        match (stage, self.problem()) {
            // Only a survey before a run has this stage.
            (Stage::Survey, _) => MemoryNeeds::default(),
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

    fn fits(&self, usable: u64) -> Result<()> {
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
    fn spend_free_memory(&mut self, usable: u64) {
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
        let fit = usable.saturating_sub(beside) / index::shard_row_bytes(self.shape.dim);
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

    /// Returns what each stage takes, reads, writes and leaves, once all parameters are known.
    fn describe(&self) -> Vec<StagePlan> {
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
                Stage::Survey => (source, 0, 0, 0),
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
                        spills = Some(format!("edges in buckets by the row they lead to: {}", format_bytes(buckets)));
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
