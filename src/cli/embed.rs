//! `lowland embed`: computes a map from vectors or from a graph.

use std::path::{Path, PathBuf};

use lowland::machine::Machine;
use lowland::model::History;
use lowland::picture::Style;
use lowland::plot::{self, ColorBy};
use lowland::{Coordinates, Error, Job, MapFile, Report, check_local, check_output};
use lowland_io::coordinate_names;
use serde_json::{Value, json};

use super::map::{MapArgs, report_excluded, run_path};
use super::options::{self, ProgressArgs};
use super::report::{is_device, write_report};
use super::stopped::{kept, kept_in_model, without_stages};
use super::{Failure, names, print};
use crate::progress::Console;

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

#[cfg(test)]
mod tests {
    use lowland::Config;

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
