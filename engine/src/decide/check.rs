//! Checks the options against the data and the method: every refusal of a configuration that can be known before a
//! run. [`Config::plan`](crate::Config::plan) checks what it is given, and a run its plan, which may be a stored one.

use lowland_io::Shape;

use crate::config::{Affinity, AllPairs, NamedAffinity, Optimizer, Settings};
use crate::plan::{Plan, PlanInput, check_workers};
use crate::{Config, Error, Init, Method, MethodOption, Result, affinity, methods};

/// The largest number of rows. Row numbers are u32; the last few millions are left for numbers of rows that are
/// rounded up to whole blocks.
pub(super) const MOST_ROWS: u64 = 4_000_000_000;
/// The largest number of neighbours of a row.
const MOST_NEIGHBORS: usize = 1000;
/// The largest `n_negatives`: the number of rows in the smallest pool of negative samples.
const MOST_NEGATIVES: usize = 512;

/// Refuses fewer than 2 and more than [`MOST_ROWS`] rows.
pub(super) fn check_rows(rows: u64) -> Result<()> {
    if rows < 2 {
        let rows = if rows == 1 { "1 row".into() } else { format!("{rows} rows") };
        return Err(Error::Data { what: format!("the source has {rows}; a map needs at least 2") });
    }
    if rows > MOST_ROWS {
        return Err(Error::Data { what: format!("{rows} rows: more than {MOST_ROWS} are not supported yet") });
    }
    Ok(())
}

/// Checks a plan that may come from JSON: it was made for `input`, and its options and numbers can be used.
///
/// # Errors
/// Those of [`Config::plan`], and [`Error::Data`], which names what differs or cannot be used.
pub(crate) fn check_plan(plan: &Plan, input: &PlanInput) -> Result<()> {
    let made_for = PlanInput { shape: plan.shape, graph_k: plan.graph_k, ..input.clone() };
    if (made_for.shape, made_for.graph_k) != (input.shape, input.graph_k) {
        let [made_for, given] = [&made_for, input].map(describe);
        return Err(Error::Data {
            what: format!("the plan is for {made_for}, but the input has {given}; make a new plan"),
        });
    }
    check_rows(plan.shape.rows)?;
    // What was asked adds refusals of what was asked for and does not fit; the numbers are the same.
    plan.settings.check(&Config::default(), input)?;
    check_workers(Some(plan.threads), Some(plan.batch_rows))?;
    let (listed, vectors) = (plan.all_pairs.is_none(), plan.shape.dim > 0);
    let numbers = [
        ("index.lists", !listed || !vectors || plan.index.lists > 0),
        ("index.shard_rows", !listed || !vectors || plan.index.shard_rows > 0),
        ("neighbors.window_rows", !listed || !vectors || plan.neighbors.window_rows > 0),
        ("neighbors.portion_rows", !listed || !vectors || plan.neighbors.portion_rows > 0),
        ("exchange.buckets", !listed || plan.graph_k.is_none() || plan.exchange.buckets > 0),
    ];
    match numbers.iter().find(|(_, usable)| !usable) {
        Some((name, _)) => {
            Err(Error::Data { what: format!("the plan's {name} has a value that cannot be used; make a new plan") })
        }
        None => Ok(()),
    }
}

/// Describes rows and graph: "300 rows of 5 components and a graph of 15 neighbours".
fn describe(input: &PlanInput) -> String {
    let Shape { rows, dim } = input.shape;
    let vectors = if dim > 0 { format!("{rows} rows of {dim} components") } else { format!("{rows} rows") };
    match input.graph_k {
        Some(k) => format!("{vectors} and a graph of {k} neighbours"),
        None => vectors,
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
                let why = format!(
                    "{} streams its data, and {why}; exact methods support the metric: {}",
                    self.method,
                    exact.join(", ")
                );
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
            let why = format!("{method} compares all pairs of vectors and cannot start from a graph; {instead} can");
            return config("method", why);
        }
        if rows > exact.rows {
            let why = format!(
                "{method} compares all pairs of rows, and {rows} rows are too many; the maximum is {}; take a sample of them, or {instead}, which streams",
                exact.rows
            );
            return config("method", why);
        }
        if self.init == Init::Centroid {
            return config(
                "init",
                format!("centroid needs inverted lists, which {method} does not build; use pca, random or a file"),
            );
        }
        if method.supports(MethodOption::Affinity) {
            let named = |field, some: fn(NamedAffinity) -> bool| {
                let names = NamedAffinity::ALL.into_iter().filter(|&affinity| some(affinity)).map(NamedAffinity::name);
                let names = names.collect::<Vec<_>>();
                let have = if names.len() == 1 { "does" } else { "do" };
                config(
                    field,
                    format!(
                        "the {} affinity does not have this option; {} {have}",
                        self.affinity.name(),
                        names.join(", ")
                    ),
                )
            };
            if asked.perplexity.is_some() && !self.affinity.has_perplexity() {
                return named("perplexity", NamedAffinity::has_perplexity);
            }
            if asked.n_neighbors.is_some() && self.affinity != NamedAffinity::Umap {
                return named("n_neighbors", |affinity| affinity == NamedAffinity::Umap);
            }
        }
        if asked.n_neighbors == Some(1) {
            return config("n_neighbors", "1 is too small; the minimum is 2".into());
        }
        let problem = methods::problem(self)?;
        if problem.loss.hyperbolic() && self.init == Init::Pca {
            return config(
                "init",
                format!("pca scores may lie outside the ball of {method}'s maps; use random or a file"),
            );
        }
        problem.check(rows as usize)
    }

    /// Checks `n_neighbors` or `perplexity` against the rows and the given graph.
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
                    format!(
                        "{perplexity} is too large for a graph with {k} neighbours a row; {} is suitable",
                        (k / 3).max(1)
                    ),
                ),
                None if perplexity > (rows - 1) as f64 => config(
                    "perplexity",
                    format!("{perplexity} is too large for {rows} rows; the maximum is {}", rows - 1),
                ),
                _ => Ok(()),
            };
        }
        if self.n_neighbors < 2.min(rows as usize - 1)
            && (input.graph_k.is_none() || self.method.affinity() == Some(Affinity::Pacmap))
        {
            let usual = Settings::defaults_for(self.method, rows).n_neighbors;
            return config(
                "n_neighbors",
                format!("{} is too small; the minimum is 2, the default {usual}", self.n_neighbors),
            );
        }
        if input.graph_k.is_none() && self.n_neighbors as u64 >= rows {
            return config(
                "n_neighbors",
                format!("{} neighbours are too many for {rows} rows; the maximum is {}", self.n_neighbors, rows - 1),
            );
        }
        if self.n_neighbors > MOST_NEIGHBORS {
            return config("n_neighbors", format!("{} is more than {MOST_NEIGHBORS}", self.n_neighbors));
        }
        Ok(())
    }

    /// Checks every option.
    pub(super) fn check(&self, asked: &Config, input: &PlanInput) -> Result<()> {
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
            return config(
                "n_components",
                format!("{} is more than the {dim} components of the vectors", self.n_components),
            );
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
                format!("{} makes maps of 2 components only; infotsne is similar and supports up to 64", self.method);
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
            return config("optimizer", format!("{} does not support gains; use momentum or adam", self.method));
        }
        if self.init == Init::Pca && dim == 0 && !self.method.is_all_pairs() {
            return config("init", "pca needs vectors, and only a graph was given".into());
        }
        check_workers(self.threads, self.batch_rows)?;
        crate::device::check_build(self.device).or_else(|why| config("device", why))?;
        if self.method.is_all_pairs() && matches!(self.device, crate::Device::Cuda(_)) {
            let others: Vec<&str> = Method::all().filter(|m| !m.is_all_pairs()).map(Method::name).collect();
            return config("device", format!("{} does not run on a GPU; {} do", self.method, others.join(", ")));
        }
        if !(0.0..=1e9).contains(&self.checkpoint) {
            return config("checkpoint", format!("{} seconds is not between 0 and 1e9", self.checkpoint));
        }
        self.method.all_pairs().map_or(Ok(()), |exact| self.check_exact(exact, asked, input))
    }
}
