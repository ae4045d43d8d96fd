//! Inputs and options of a map, which `embed` and `plan` share.

use std::path::{Path, PathBuf};

use lowland::machine::Machine;
use lowland::{
    Config, Error, GraphInput, GraphSource, Init, Job, MapTable, MatchLoss, Method, MethodOption, NamedAffinity,
    NamedMapAffinity, Optimizer, check_local,
};

use super::options::{self, InputArgs, InvalidArgs, NeighborArgs, ResourceArgs, help_of};
use super::{Failure, names, stream};
use crate::progress::Console;

/// Inputs and options of a map, which `embed` and `plan` share.
#[derive(Debug, clap::Args)]
pub(super) struct MapArgs {
    /// Files, directories, globs or addresses (s3://…) of vectors; - for standard input
    #[arg(value_name = "SOURCE", required_unless_present = "knn", display_order = 0, help_heading = "Input")]
    pub(super) sources: Vec<String>,
    #[command(flatten)]
    pub(super) input: InputArgs,
    #[command(flatten)]
    pub(super) invalid: InvalidArgs,
    /// Start from a kNN graph and its metric instead of searching neighbours, with or without
    /// SOURCE; with --n-neighbors only that many of the nearest neighbours of each row are used
    #[arg(long, value_name = "GRAPH", display_order = 2, help_heading = "Input")]
    pub(super) knn: Option<PathBuf>,

    /// Column that names the rows in the map [default: row numbers]
    #[arg(long, value_name = "COL", help_heading = "Output")]
    pub(super) id: Option<String>,
    /// Columns to copy to the map and the model: 'a,b', or --keep several times; a name with commas as '"a,b"'
    #[arg(long, value_name = "COLS", help_heading = "Output")]
    pub(super) keep: Vec<String>,
    /// Names of the coordinates' columns, one for each component [default: x, y, z; c0, c1, … for more
    /// than three]
    #[arg(long, value_name = "NAMES", help_heading = "Output")]
    pub(super) coordinates: Option<String>,
    /// Draw the map as a PNG
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    pub(super) plot: Option<PathBuf>,
    /// Column that colours the picture. Texts, truth values and integers of up to 22 different
    /// values are categories; other numbers, dates and times are a scale
    #[arg(long, value_name = "COL", requires = "plot", help_heading = "Output")]
    pub(super) color: Option<String>,
    /// Write the report as JSON; - for standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(super) report: Option<PathBuf>,
    /// End with exit code 3 if the run warns, for example of a map without extent or no better than
    /// chance; map, report and finished stages are kept
    #[arg(long, help_heading = "Output")]
    pub(super) strict: bool,

    #[command(flatten)]
    pub(super) neighbors: NeighborArgs,

    #[arg(long, value_name = "METHOD", default_value_t = Method::UMAP, value_parser = parse_method)]
    #[arg(help_heading = "Map", help = methods())]
    pub(super) method: Method,
    #[arg(long, value_name = "NUMBER", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Perplexity))]
    pub(super) perplexity: Option<f64>,
    #[arg(long, value_name = "N", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::NComponents))]
    pub(super) n_components: Option<usize>,
    #[arg(long, value_name = "DISTANCE", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::MinDist))]
    pub(super) min_dist: Option<f64>,
    #[arg(long, value_name = "SCALE", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Spread))]
    pub(super) spread: Option<f64>,
    #[arg(long, value_parser = parse_init, value_name = "INIT", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Init))]
    pub(super) init: Option<Init>,
    #[arg(long, value_name = "N", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::NEpochs))]
    pub(super) n_epochs: Option<usize>,
    #[arg(long, value_name = "N", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::NegativeSampleRate))]
    pub(super) negative_sample_rate: Option<usize>,
    #[arg(long, value_name = "N", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::NNegatives))]
    pub(super) n_negatives: Option<usize>,
    #[arg(long, value_name = "FACTOR", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::EarlyExaggeration))]
    pub(super) early_exaggeration: Option<f32>,
    #[arg(long, value_parser = parse_optimizer, value_name = "OPTIMIZER", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Optimizer))]
    pub(super) optimizer: Option<Optimizer>,
    #[arg(long, value_parser = parse_affinity, value_name = "AFFINITY", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Affinity))]
    pub(super) affinity: Option<NamedAffinity>,
    #[arg(long, value_parser = parse_map_affinity, value_name = "AFFINITY", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::MapAffinity))]
    pub(super) map_affinity: Option<NamedMapAffinity>,
    #[arg(long, value_parser = parse_loss, value_name = "LOSS", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Loss))]
    pub(super) loss: Option<MatchLoss>,
    #[arg(long, visible_alias = "lr", value_name = "STEP", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::LearningRate))]
    pub(super) learning_rate: Option<f32>,

    #[command(flatten)]
    pub(super) resources: ResourceArgs,
    /// Seconds between checkpoints of the layout; a kill loses at most about this much of its work
    #[arg(long, value_name = "SECONDS", default_value_t = Config::default().checkpoint, help_heading = "Resources")]
    pub(super) checkpoint: f64,
}

impl MapArgs {
    /// Creates the job from the options that do not depend on the inputs.
    pub(super) fn job(&self, output: &Path, machine: &Machine) -> Result<Job, Failure> {
        let mut job = Job::new();
        self.check_known()?;
        for path in std::iter::once(output).chain(self.plot.as_deref()).chain(self.report.as_deref()) {
            check_local(path)?;
        }
        job.config = self.config();
        self.resources.apply(&mut job, output, machine)?;
        job.run.strict = self.strict;
        job.invalid = self.invalid.invalid;
        Ok(job)
    }

    /// Returns the options that were given; the others stay unset.
    fn config(&self) -> Config {
        Config {
            method: self.method,
            n_neighbors: self.neighbors.n_neighbors,
            perplexity: self.perplexity,
            n_components: self.n_components,
            min_dist: self.min_dist,
            spread: self.spread,
            metric: self.neighbors.metric,
            init: self.init.clone(),
            n_epochs: self.n_epochs,
            negative_sample_rate: self.negative_sample_rate,
            n_negatives: self.n_negatives,
            early_exaggeration: self.early_exaggeration,
            optimizer: self.optimizer,
            affinity: self.affinity,
            map_affinity: self.map_affinity,
            loss: self.loss,
            learning_rate: self.learning_rate,
            recall: self.neighbors.recall,
            checkpoint: self.checkpoint,
            ..Config::default()
        }
    }

    /// Refuses options that the method does not have, before anything is read.
    fn check_known(&self) -> Result<(), Failure> {
        let config = self.config();
        match MethodOption::ALL.into_iter().find(|&opt| opt.is_set(&config) && !self.method.supports(opt)) {
            Some(opt) => Err(Error::from(self.method.unsupported_option(opt)).into()),
            None => Ok(()),
        }
    }

    /// Opens the inputs. The copies of streams lie in the returned directory.
    pub(super) fn open(
        &self,
        job: &mut Job,
        table: &mut MapTable,
        console: &Console,
    ) -> Result<Option<stream::Spool>, Failure> {
        if let Some(path) = &self.knn {
            let mut graph = GraphInput::open(path)?;
            if let Some(asked) = self.neighbors.n_neighbors {
                let has = graph.k();
                if asked > has {
                    let why = format!("{asked} is more than the graph {} has: {has} neighbours a row", path.display());
                    return Err(Failure::usage(format!("--n-neighbors: {why}")));
                }
                // PaCMAP selects its neighbours from a longer list.
                graph.nearest = Some(asked).filter(|_| self.method != Method::PACMAP);
            }
            match (self.neighbors.metric, graph.metric()) {
                (Some(asked), Some(has)) if has != asked => {
                    return Err(Failure::usage(format!(
                        "--metric: the graph {} was made with {}",
                        path.display(),
                        has.name()
                    )));
                }
                (None, Some(has)) => job.config.metric = Some(has),
                _ => {}
            }
            job.graph = Some(graph);
        }
        let mut spool = None;
        if !self.sources.is_empty() {
            let column = self.input.column.as_deref();
            let opened = options::open(&self.sources, column, (run_path(job), self.resources.disk), console)?;
            (job.source, spool) = (Some(opened.for_run()), opened.spool);
        }
        let there = job.source.as_ref().map(|source| source.columns()).unwrap_or_default();
        job.id = self.id.as_ref().map(|id| names::column("--id", id, &there)).transpose()?;
        table.keep = names::columns("--keep", &self.keep, &there)?;
        names::check_kept(job.id.as_ref(), &table.keep)?;
        table.coordinates = match &self.coordinates {
            Some(given) => names::split(given, &[]).map_err(|why| Failure::usage(format!("--coordinates: {why}")))?,
            None => Vec::new(),
        };
        Ok(spool)
    }
}

/// Returns the job's run directory, which the command line always names.
pub(super) fn run_path(job: &Job) -> &Path {
    job.run.dir.as_deref().unwrap_or(Path::new(""))
}

/// Returns the command with a help text of its own for the option that also concerns a graph without vectors.
pub(super) fn with_graph(command: clap::Command) -> clap::Command {
    command.mut_arg("invalid", |arg| {
        arg.help(
            "Rows without a vector, with a null, NaN or infinite component, or of all zeros under cosine; of a graph \
             without SOURCE, rows without neighbours: error counts and refuses them, drop leaves them out of the \
             output, null keeps them in it without coordinates [default: error; without SOURCE: null]",
        )
    })
}

/// Examines the rows, if some may be left out, and notes how many are.
pub(super) fn report_excluded(job: &Job, console: &Console) -> Result<(), Failure> {
    job.check_rows(console)?;
    if let Some(note) = job.left_out()?.and_then(|left_out| left_out.note()) {
        console.note("rows-left-out", note);
    }
    Ok(())
}

/// Returns the help text that lists the methods.
fn methods() -> String {
    let names = |exact: bool| {
        let names: Vec<&str> =
            Method::all().filter(|method| method.is_all_pairs() == exact).map(Method::name).collect();
        names.join(", ")
    };
    format!("Method: {}; or exact, on all pairs of rows in memory: {}", names(false), names(true))
}

fn parse_method(text: &str) -> Result<Method, String> {
    Method::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = Method::all().map(Method::name).collect();
        format!("the methods are {}", names.join(", "))
    })
}

/// Returns the element of `all` that has this name.
fn named<T: Copy, const N: usize>(text: &str, all: [T; N], name: fn(T) -> &'static str) -> Result<T, String> {
    let found = all.into_iter().find(|&one| name(one) == text);
    found.ok_or_else(|| match all.map(name).as_slice() {
        [one, other] => format!("the choices are {one} and {other}"),
        names => format!("the choices are {}", names.join(", ")),
    })
}

fn parse_optimizer(text: &str) -> Result<Optimizer, String> {
    named(text, Optimizer::ALL, Optimizer::name)
}

fn parse_affinity(text: &str) -> Result<NamedAffinity, String> {
    named(text, NamedAffinity::ALL, NamedAffinity::name)
}

fn parse_map_affinity(text: &str) -> Result<NamedMapAffinity, String> {
    named(text, NamedMapAffinity::ALL, NamedMapAffinity::name)
}

fn parse_loss(text: &str) -> Result<MatchLoss, String> {
    named(text, MatchLoss::ALL, MatchLoss::name)
}

fn parse_init(text: &str) -> Result<Init, String> {
    match text {
        "centroid" => Ok(Init::Centroid),
        "pca" => Ok(Init::Pca),
        "random" => Ok(Init::Random),
        signed if lowland_io::shown(signed) != signed => {
            Err("a signed address would be kept in the run directory; fetch the file first".into())
        }
        file if Path::new(file).exists() || file.contains(['.', '/']) => Ok(Init::File(file.into())),
        other => Err(format!("\"{other}\" is neither centroid, pca, random nor a file")),
    }
}
