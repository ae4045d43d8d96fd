//! `lowland embed`: computes a map from vectors or from a graph.

use std::io::Write;
use std::path::{Path, PathBuf};

use lowland::model::History;
use lowland::picture::Style;
use lowland::plot::{self, ColorBy};
use lowland::{
    Config, Coordinates, Error, GraphInput, GraphSource, Init, Job, MapFile, MapTable, MatchLoss, Method, MethodOption,
    NamedAffinity, NamedMapAffinity, Optimizer, Report, Stage, check_local, check_output,
};
use lowland_io::coordinate_names;
use serde_json::{Value, json};

use super::options::{self, InputArgs, InvalidArgs, NeighborArgs, ProgressArgs, ResourceArgs, help_of};
use super::{Failure, names, print, stream};
use crate::progress::Console;
use lowland::machine::Machine;

const EXAMPLES: &str = "\
Examples:
  lowland embed vectors.parquet -o map.parquet --plot map.png
  lowland embed 'shards/*.parquet' -o map.parquet --column embedding --id name --keep section
  lowland embed vectors.parquet --id id --model map.lowland
  lowland embed vectors.npy -o map.npy --metric cosine --memory 600MiB
  lowland embed vectors.npy -o map.npy --method tsne --perplexity 50
  lowland embed sample.npy -o map.npy --method affinity-matcher --affinity sinkhorn --metric manhattan
  lowland embed --knn graph.arrow -o map.arrow
  lowland embed 's3://bucket/vectors/**/*.parquet' -o map.parquet
  producer | lowland embed - -o map.parquet

Sources are Parquet, Arrow IPC (Feather 2, streams) and .npy files, directories,
globs (* ? [ab] ** {a,b}), or streams of these formats: - for standard input, pipes,
<(program); a stream is copied to disk first. Addresses are s3://, gs://, az:// and
abfs:// (objects, prefixes, globs) and https:// (one object); credentials are those of
the environment (AWS_*, GOOGLE_*, AZURE_*). Outputs stay local.

A run that stops keeps its finished stages in the run directory, and the same
command continues from there; a run from a stream cannot be resumed.";

/// Make a map of vectors
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct EmbedArgs {
    #[command(flatten)]
    wanted: MapArgs,
    /// The map: .parquet, .arrow or .npy
    #[arg(short, long, value_name = "FILE", display_order = 0, help_heading = "Output")]
    #[arg(required_unless_present = "model")]
    output: Option<PathBuf>,
    /// Keep the map as a model in this new directory, for transform and update; with or without -o. Finished
    /// stages are then kept in the model until it is complete
    #[arg(long, value_name = "DIR", display_order = 1, help_heading = "Output")]
    #[arg(conflicts_with_all = ["knn", "run_dir", "keep_run", "keep_stages", "restart"])]
    model: Option<PathBuf>,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
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

/// Inputs and options of a map, which `embed` and `plan` share.
#[derive(Debug, clap::Args)]
pub(super) struct MapArgs {
    /// Files, directories, globs or addresses (s3://…) of vectors; - for standard input
    #[arg(value_name = "SOURCE", required_unless_present = "knn", display_order = 0, help_heading = "Input")]
    pub(super) sources: Vec<String>,
    #[command(flatten)]
    input: InputArgs,
    #[command(flatten)]
    invalid: InvalidArgs,
    /// Start from a kNN graph and its metric instead of searching neighbours, with or without
    /// SOURCE; with --n-neighbors only that many of the nearest neighbours of each row are used
    #[arg(long, value_name = "GRAPH", display_order = 2, help_heading = "Input")]
    knn: Option<PathBuf>,

    /// Column that names the rows in the map [default: row numbers]
    #[arg(long, value_name = "COL", help_heading = "Output")]
    id: Option<String>,
    /// Columns to copy to the map and the model: 'a,b', or --keep several times; a name with commas as '"a,b"'
    #[arg(long, value_name = "COLS", help_heading = "Output")]
    keep: Vec<String>,
    /// Names of the coordinates' columns, one for each component [default: x, y, z; c0, c1, … for more
    /// than three]
    #[arg(long, value_name = "NAMES", help_heading = "Output")]
    coordinates: Option<String>,
    /// Draw the map as a PNG
    #[arg(long, value_name = "FILE.png", help_heading = "Output")]
    plot: Option<PathBuf>,
    /// Column that colours the picture. Texts, truth values and integers of up to 22 different
    /// values are categories; other numbers, dates and times are a scale
    #[arg(long, value_name = "COL", requires = "plot", help_heading = "Output")]
    color: Option<String>,
    /// Write the report as JSON; - for standard output
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    report: Option<PathBuf>,
    /// End with exit code 3 if the run warns, for example of a map without extent or no better than
    /// chance; map, report and finished stages are kept
    #[arg(long, help_heading = "Output")]
    strict: bool,

    #[command(flatten)]
    neighbors: NeighborArgs,

    #[arg(long, value_name = "METHOD", default_value_t = Method::UMAP, value_parser = parse_method)]
    #[arg(help_heading = "Map", help = methods())]
    method: Method,
    #[arg(long, value_name = "NUMBER", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Perplexity))]
    perplexity: Option<f64>,
    #[arg(long, value_name = "N", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::NComponents))]
    n_components: Option<usize>,
    #[arg(long, value_name = "DISTANCE", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::MinDist))]
    min_dist: Option<f64>,
    #[arg(long, value_name = "SCALE", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Spread))]
    spread: Option<f64>,
    #[arg(long, value_parser = parse_init, value_name = "INIT", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Init))]
    init: Option<Init>,
    #[arg(long, value_name = "N", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::NEpochs))]
    n_epochs: Option<usize>,
    #[arg(long, value_name = "N", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::NegativeSampleRate))]
    negative_sample_rate: Option<usize>,
    #[arg(long, value_name = "N", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::NNegatives))]
    n_negatives: Option<usize>,
    #[arg(long, value_name = "FACTOR", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::EarlyExaggeration))]
    early_exaggeration: Option<f32>,
    #[arg(long, value_parser = parse_optimizer, value_name = "OPTIMIZER", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Optimizer))]
    optimizer: Option<Optimizer>,
    #[arg(long, value_parser = parse_affinity, value_name = "AFFINITY", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Affinity))]
    affinity: Option<NamedAffinity>,
    #[arg(long, value_parser = parse_map_affinity, value_name = "AFFINITY", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::MapAffinity))]
    map_affinity: Option<NamedMapAffinity>,
    #[arg(long, value_parser = parse_loss, value_name = "LOSS", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::Loss))]
    loss: Option<MatchLoss>,
    #[arg(long, visible_alias = "lr", value_name = "STEP", help_heading = "Map")]
    #[arg(help = help_of(MethodOption::LearningRate))]
    learning_rate: Option<f32>,

    #[command(flatten)]
    pub(super) resources: ResourceArgs,
    /// Seconds between checkpoints of the layout; a kill loses at most about this much of its work
    #[arg(long, value_name = "SECONDS", default_value_t = Config::default().checkpoint, help_heading = "Resources")]
    checkpoint: f64,
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

pub(super) fn run(args: &EmbedArgs, console: &Console) -> Result<(), Failure> {
    let wanted = &args.wanted;
    check_files(args)?;
    let machine = Machine::detect();
    // Streams are copied beside the model if no other output is named.
    let named = args.output.as_deref().or(args.model.as_deref()).unwrap_or(Path::new(""));
    let mut job = wanted.job(named, &machine)?;
    let mut file = MapFile { path: named.into(), force: wanted.resources.force, ..MapFile::default() };
    // Dropped last, because the copy of a stream must exist while it is read.
    let spool = wanted.open(&mut job, &mut file.table, console)?;
    if let Some(model) = &args.model {
        job.check_model()?;
        job.plan_for_model(model, &file.table.keep);
    }
    report_excluded(&job, console)?;
    let color = color_by(wanted, &job)?;
    if let Some(color) = &color {
        color.check_values(console)?;
    }

    let plan = options::plan_within_grant(job.config.memory, &machine, |memory| {
        job.config.memory = memory;
        job.plan()
    });
    let plan = plan.map_err(|failure| if args.model.is_some() { without_stages(failure) } else { failure })?;
    options::check_disk(job.config.disk, &plan, spool.as_ref())?;
    console.plan(&plan);
    let column = job.source.as_ref().and_then(|source| source.vector_column());
    let strict_run = run_path(&job).to_path_buf();
    let run_dir = (args.model.is_none() && job.keeps_run()).then(|| run_path(&job).to_path_buf());
    let report = match &args.model {
        None => job.embed(&plan, &file, console).map_err(|error| kept(error, &job, console))?,
        Some(model) => {
            let map = args.output.as_ref().map(|_| &file);
            let fitted = job.embed_model(model, &file.table.keep, map, console);
            fitted.map_err(|error| kept_in_model(error, model, console))?.report
        }
    };

    let mut files: Vec<(&str, &Path)> = Vec::new();
    files.extend(args.output.as_deref().map(|path| ("map", path)));
    files.extend(args.model.as_deref().map(|path| ("model", path)));
    if let Some(path) = &wanted.plot {
        let names = match file.table.coordinates.is_empty() {
            true => coordinate_names(plan.settings().n_components),
            false => file.table.coordinates.clone(),
        };
        let coordinates = Coordinates::Named(names);
        let draw = || plot::write(path, &plot::draw(named, &coordinates, color.as_ref(), &Style::default(), console)?);
        draw().map_err(|error| {
            let again = format!("the map {0} is written: lowland plot {0} draws it", named.display());
            Failure::leaving(error, again)
        })?;
        files.push(("picture", path));
    }
    let to_stdout = wanted.report.as_ref().is_some_and(|r| r.as_os_str() == "-");
    if let Some(path) = wanted.report.as_ref().filter(|_| !to_stdout) {
        files.push(("report", path));
    }
    let full = as_json(&report, (column, run_dir), args, &files);
    if let Some(path) = &wanted.report {
        let text = format!("{full:#}\n");
        let written = if to_stdout { print(&text) } else { write_report(path, &text) };
        written.map_err(|f| Failure::leaving(*f.error, format!("the map {} is written", named.display())))?;
    }
    console.done(&report.summary(), &full, &files);
    if wanted.strict && !report.warnings.is_empty() {
        let warnings = report.warnings.iter().map(|warning| warning.kind.to_string()).collect();
        let warned = Error::Warned { output: named.into(), warnings };
        drop(spool);
        return Err(match &args.model {
            None => Failure::leaving(warned, format!("finished stages are kept in {}", strict_run.display())),
            Some(_) => warned.into(),
        });
    }
    drop(spool);
    Ok(())
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

/// Refuses invalid output names before anything is read.
fn check_files(args: &EmbedArgs) -> Result<(), Failure> {
    let wanted = &args.wanted;
    let force = wanted.resources.force;
    if let Some(output) = &args.output {
        check_output(output, force)?;
    }
    if let Some(model) = &args.model {
        check_local(model)?;
        if let Ok(history) = History::open(model)
            && let Some(last) = history.versions()?.last()
            && history.unfinished()?.is_empty()
        {
            let has = format!("{} is a model with versions up to {} already", model.display(), last.number);
            return Err(Failure::usage(format!("--model: {has}; lowland update adds rows to it")));
        }
    }
    if let Some(path) = &wanted.plot {
        if args.output.is_none() {
            return Err(Failure::usage("--plot: the picture is drawn from the map; name one with -o"));
        }
        if path.extension().is_none_or(|e| !e.eq_ignore_ascii_case("png")) {
            return Err(Failure::usage(format!("--plot: {} does not end in .png", path.display())));
        }
        if wanted.n_components.is_some_and(|components| components < 2) {
            return Err(Failure::usage("--plot: a picture needs --n-components 2 or more"));
        }
        check_output(path, force)?;
    }
    if let Some(path) = wanted.report.as_ref().filter(|p| p.as_os_str() != "-" && !is_device(p)) {
        if Some(path) == args.output.as_ref() || Some(path) == wanted.plot.as_ref() {
            return Err(Failure::usage(format!("--report: {} is also the name of another output", path.display())));
        }
        check_output(path, force)?;
    }
    Ok(())
}

/// Examines the rows, if some may be left out, and notes how many are.
pub(super) fn report_excluded(job: &Job, console: &Console) -> Result<(), Failure> {
    job.check_rows(console)?;
    if let Some(note) = job.left_out()?.and_then(|left_out| left_out.note()) {
        console.note("rows-left-out", note);
    }
    Ok(())
}

/// Returns the column of the colours. It is read from the source, which has all columns, whether
/// kept or not.
fn color_by(wanted: &MapArgs, job: &Job) -> Result<Option<ColorBy>, Failure> {
    let Some(column) = wanted.color.as_deref() else { return Ok(None) };
    let Some(source) = job.output_rows()? else {
        return Err(Failure::usage(format!(
            "--color: the graph has no column \"{column}\"; name the source of the vectors too"
        )));
    };
    let column = names::column("--color", column, &source.columns())?;
    source.column_schema(std::slice::from_ref(&column))?;
    let color = ColorBy { column, source: Some(source) };
    color.check()?;
    Ok(Some(color))
}

/// Adds to a run's error which finished stages are kept.
pub(super) fn kept(error: Error, job: &Job, console: &Console) -> Failure {
    let dir = run_path(job);
    // Other stages leave no files.
    let mut finished = console.finished();
    finished.retain(|name| Stage::ALL.iter().any(|stage| stage.name() == *name && stage.leaves_files()));
    if matches!(&error, Error::Engine(lowland_engine::Error::Io(lowland_io::Error::Changed { .. }))) {
        // The kept stages belong to the unchanged source; the error itself says what to do.
        return error.into();
    }
    if !job.is_resumable().unwrap_or(true) {
        return match error.is_cancelled() {
            true => Failure::leaving(error, "nothing is kept, because a stream cannot be read again".into()),
            false => error.into(),
        };
    }
    if !finished.is_empty() && error.is_bad_input() && !error.is_system() {
        let what = format!("{} kept in {}; to use another input, pass --restart", list(&finished), dir.display());
        return Failure::leaving(error, what);
    }
    match (finished.is_empty(), error.is_cancelled()) {
        (false, _) => {
            let same = if job.run.restart { "the same command without --restart" } else { "the same command" };
            let what = format!("{} kept in {}: {same} continues from there", list(&finished), dir.display());
            Failure::leaving(error, what)
        }
        (true, true) => Failure::leaving(error, "no stage was finished yet".into()),
        (true, false) => error.into(),
    }
}

/// Leaves the advice to keep fewer stages out of the failure of a run whose map becomes a model, which needs them.
pub(super) fn without_stages(failure: Failure) -> Failure {
    match failure.error.as_ref() {
        Error::Engine(error @ lowland_engine::Error::Disk { needed, .. }) => {
            Failure::usage(format!("--disk: {error}; give --disk {}MiB", needed.div_ceil(1 << 20)))
        }
        _ => failure,
    }
}

/// Adds to the error of a run whose map becomes a model which stages are kept in the model.
fn kept_in_model(error: Error, model: &Path, console: &Console) -> Failure {
    let mut finished = console.finished();
    finished.retain(|name| Stage::ALL.iter().any(|stage| stage.name() == *name && stage.leaves_files()));
    if finished.is_empty() {
        return error.into();
    }
    let what = format!("{} kept in {}: the same command continues from there", list(&finished), model.display());
    Failure::leaving(error, what)
}

fn list(stages: &[&str]) -> String {
    match stages {
        [one] => format!("the {one} stage is"),
        several => format!("the stages {} are", several.join(", ")),
    }
}

/// Returns the report as JSON, with inputs, outputs and run directory.
fn as_json(
    report: &Report,
    (column, run_dir): (Option<String>, Option<PathBuf>),
    args: &EmbedArgs,
    files: &[(&str, &Path)],
) -> Value {
    let mut full = serde_json::to_value(report).unwrap_or_default();
    if let Some(fields) = full.as_object_mut() {
        // JSON is UTF-8, and a path may not be.
        let text = |path: &Path| json!(path.to_string_lossy());
        let outputs: serde_json::Map<String, Value> =
            files.iter().map(|(what, path)| ((*what).to_string(), text(path))).collect();
        fields.insert("peak_memory".into(), json!(report.peak()));
        fields.insert("sources".into(), json!(options::shown(&args.wanted.sources)));
        fields.insert("column".into(), json!(column));
        fields.insert("knn".into(), json!(args.wanted.knn.as_deref().map(text)));
        fields.insert("outputs".into(), outputs.into());
        fields.insert("run_dir".into(), json!(run_dir.as_deref().map(text)));
    }
    full
}

/// Returns whether a path is a pipe or device, which is written to and not replaced.
pub(super) fn is_device(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| !found.is_file() && !found.is_dir())
}

pub(super) fn write_report(path: &Path, text: &str) -> Result<(), Failure> {
    if is_device(path) {
        let open = std::fs::OpenOptions::new().write(true).open(path);
        let written = open.and_then(|mut device| device.write_all(text.as_bytes()));
        return written.map_err(|e| lowland_io::Error::io(path, "write", e).into());
    }
    lowland_io::replace(path, text.as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct EmbedAlone {
        #[command(flatten)]
        args: EmbedArgs,
    }

    #[test]
    fn the_defaults_of_the_flags_are_those_of_the_library() {
        let alone = <EmbedAlone as clap::Parser>::parse_from(["lowland", "in.npy", "-o", "map.npy"]);
        // All options except the memory: if the command line does not know the machine's memory, it
        // uses the library's default.
        let nothing_known = Machine { limit: None };
        assert_eq!(alone.args.wanted.job("map.npy".as_ref(), &nothing_known).expect("a job").config, Config::default());
    }
}
