//! Options that several subcommands share, named as in umap-learn and grouped as in `--help`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use lowland::{
    Config, Device, Dtype, Error, InvalidRows, Job, MethodOption, Metric, Plan, RunOptions, Source, StagePlan,
    check_local, format_bytes,
};

use super::keep::{KeptStages, parse_kept};
use super::{Failure, stream};
use crate::progress::{Console, LogFormat};
use lowland::budget::{Memory, parse_memory, parse_size};
use lowland::machine::Machine;

/// What is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(super) struct InputArgs {
    /// Column of the vectors: a list column, or numeric ones as 'a,b,c' or 'pc*'; a struct's field as
    /// 'emb.values'; bytes as 'blob:f32' (or f16, bf16, f64, u8, i8, bits) [default: the only list
    /// column]
    #[arg(long, value_name = "COL", display_order = 1)]
    pub(super) column: Option<String>,
}

/// What is done with rows that cannot be placed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Input")]
pub(super) struct InvalidArgs {
    /// Rows without a vector, with a null, NaN or infinite component, or of all zeros under cosine: error counts and
    /// refuses them, drop leaves them out of the output, null keeps them in it without coordinates [default: error]
    #[arg(long, value_name = "CHOICE", value_parser = parse_invalid, display_order = 3)]
    pub(super) invalid: Option<InvalidRows>,
}

pub(super) fn parse_invalid(text: &str) -> Result<InvalidRows, String> {
    let found = InvalidRows::ALL.into_iter().find(|choice| choice.name() == text);
    found.ok_or_else(|| format!("the choices are {}", InvalidRows::ALL.map(InvalidRows::name).join(", ")))
}

/// Returns the help text of an option: what it is, the methods that have it if not most have, and
/// its defaults.
pub(super) fn help_of(option: MethodOption) -> String {
    let methods = match option {
        MethodOption::NNeighbors
        | MethodOption::NComponents
        | MethodOption::Metric
        | MethodOption::Init
        | MethodOption::NEpochs
        | MethodOption::LearningRate => String::new(),
        _ => format!(" ({})", option.method_names().join(", ")),
    };
    format!("{}{methods} [default: {}]", option.help(), option.default_text())
}

/// Options of the neighbour search.
#[derive(Debug, Args)]
#[command(next_help_heading = "Neighbours")]
pub(super) struct NeighborArgs {
    #[arg(long, value_name = "K")]
    #[arg(help = help_of(MethodOption::NNeighbors))]
    pub(super) n_neighbors: Option<usize>,
    #[arg(long, value_name = "METRIC", value_parser = str::parse::<Metric>)]
    #[arg(help = help_of(MethodOption::Metric))]
    pub(super) metric: Option<Metric>,
    /// Share of the true neighbours that the graph should contain, from 0 to 1. Up to 32,768 rows it
    /// contains all of them; with narrow vectors or a share of 1, up to 65,536 rows
    #[arg(long, value_name = "SHARE", default_value_t = Config::default().recall)]
    pub(super) recall: f64,
}

/// Resources that a run may use, and files that it leaves.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
pub(super) struct ResourceArgs {
    /// Memory that the process may hold: 600MiB, 4GiB, 1.5g, plain bytes, or a share such as 50%;
    /// never changes the result [default: half of what the machine or its cgroup grants]
    #[arg(long, value_name = "SIZE", value_parser = parse_memory)]
    pub(super) memory: Option<Memory>,
    /// Worker threads; never changes the result [default: one per core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Device of the neighbour search by lists and of the layout: auto (a GPU if there is one), cpu, cuda or cuda:N; never changes the result
    #[arg(long, value_name = "DEVICE", default_value_t = Config::default().device)]
    device: Device,
    /// Largest memory to use on the GPU, such as 4GiB [default: all that is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    device_memory: Option<u64>,
    /// Rows read at a time; never changes the result [default: about 1 MiB for each thread]
    #[arg(long, value_name = "ROWS")]
    batch_rows: Option<usize>,
    /// Seed of every random draw
    #[arg(long, value_name = "SEED", default_value_t = Config::default().seed)]
    seed: u64,
    /// Largest size of the run directory together with the copy of a stream, such as 200GiB
    /// [default: all that is free]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(super) disk: Option<u64>,
    /// Directory for finished stages, kept after success [default: the output's name with .run appended]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Keep the default run directory after success too
    #[arg(long)]
    keep_run: bool,
    /// Stages whose files stay in the run directory after success, such as 'index,graph': scan, index, neighbors,
    /// affinity, init, layout; graph is neighbors and affinity, map is layout; all, none. Other files are deleted as
    /// soon as no stage needs them [default: all if the run directory is kept, else none]
    #[arg(long, value_name = "LIST", value_parser = parse_kept)]
    keep_stages: Option<KeptStages>,
    /// Discard the files of an earlier run, and begin again
    #[arg(long)]
    restart: bool,
    /// Replace outputs that exist
    #[arg(long)]
    pub(super) force: bool,
}

impl ResourceArgs {
    /// Sets the fields of `job` that these options concern.
    pub(super) fn apply(&self, job: &mut Job, output: &Path, machine: &Machine) -> Result<(), Failure> {
        if self.keep_run && self.keep_stages.as_ref().is_some_and(|KeptStages(stages)| stages.is_empty()) {
            return Err(Failure::usage("--keep-stages none contradicts --keep-run; give one of the two"));
        }
        job.config = Config {
            memory: budget(self.memory, machine)?,
            threads: self.threads,
            device: self.device,
            device_memory: self.device_memory,
            batch_rows: self.batch_rows,
            disk: self.disk,
            keep_stages: self.keep_stages.as_ref().map(|KeptStages(stages)| stages.clone()),
            seed: self.seed,
            ..job.config.clone()
        };
        self.run_dir.as_deref().map_or(Ok(()), check_local)?;
        job.run = match &self.run_dir {
            Some(dir) => RunOptions::kept(dir),
            None => RunOptions { keep: self.keep_run, ..RunOptions::beside(output) },
        };
        job.run.restart = self.restart;
        Ok(())
    }
}

/// Returns the memory budget: the given one, or half of the machine's limit.
pub(super) fn budget(asked: Option<Memory>, machine: &Machine) -> Result<u64, Failure> {
    let budget = asked.unwrap_or(Memory::DEFAULT).bytes(machine);
    match (asked, budget) {
        (Some(_), None) => Err(Failure::usage(
            "--memory: the system does not report its memory, so a share cannot be computed; give a size such as 4GiB",
        )),
        (_, budget) => Ok(budget.unwrap_or(Config::default().memory)),
    }
}

/// Returns the plan with a budget of `memory` bytes, as [`lowland::machine::plan_within_grant`] does.
pub(super) fn plan_within_grant<P: AsRef<[StagePlan]>>(
    memory: u64,
    machine: &Machine,
    plan: impl FnMut(u64) -> lowland::Result<P>,
) -> Result<P, Failure> {
    lowland::machine::plan_within_grant(memory, machine, plan).map_err(|error| match error {
        Error::Grant { error, limit } => Failure::leaving(*error, format!("but {limit}, and must be raised first")),
        error => error.into(),
    })
}

/// Messages of a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Progress")]
pub(super) struct ProgressArgs {
    /// Format of standard error: text has progress bars or lines, json one JSON object a line
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Show only errors and warnings
    #[arg(short, long)]
    quiet: bool,
}

impl ProgressArgs {
    pub(super) fn mode(&self) -> (LogFormat, bool) {
        (self.log_format, self.quiet)
    }
}

/// The opened vectors, and the directory of the copies of streams, which is removed when this is
/// dropped.
pub(super) struct OpenedSource {
    pub(super) source: Arc<dyn Source>,
    pub(super) spool: Option<stream::Spool>,
}

impl OpenedSource {
    /// Returns the source as a run reads it: a run over the copy of a stream is never resumed.
    pub(super) fn for_run(&self) -> Arc<dyn Source> {
        match &self.spool {
            Some(_) => Arc::new(lowland_io::IdentifiedSource::new(self.source.clone(), lowland_io::SourceId::Once)),
            None => self.source.clone(),
        }
    }
}

/// Opens `sources`. Streams among them are first copied to a directory beside `beside`.
pub(super) fn open(
    sources: &[String],
    column: Option<&str>,
    place: (&Path, Option<u64>),
    console: &Console,
) -> Result<OpenedSource, Failure> {
    open_first(sources, &[column], false, place, console)
}

/// Opens `sources` by the first of `columns` by which they can be opened. If they `may_lack_vectors`, by the first by which
/// a row has one, or else as a table without vectors.
pub(super) fn open_first(
    sources: &[String],
    columns: &[Option<&str>],
    may_lack_vectors: bool,
    (beside, disk): (&Path, Option<u64>),
    console: &Console,
) -> Result<OpenedSource, Failure> {
    let (paths, spool) = stream::copy_streams(sources, (beside, disk), console)?;
    let signals = console.signals().clone();
    let stop = lowland_io::Stop::when(move || signals.came());
    let open = |column: Option<&str>, may_lack_vectors: bool| {
        let (column, stop) = (column.map(Into::into), Some(stop.clone()));
        lowland::open_with(&paths, &lowland_io::OpenOptions { column, stop, may_lack_vectors })
    };
    let again = columns.iter().map(|column| (*column, true)).filter(|_| may_lack_vectors);
    let mut tries = columns.iter().map(|column| (*column, false)).chain(again);
    let mut opened = tries.next().map_or_else(|| open(None, may_lack_vectors), |(column, lacks)| open(column, lacks));
    for (column, lacks) in tries {
        match &opened {
            Ok(source) if source.shape().dim > 0 => break,
            Err(error) if error.is_system() || error.is_cancelled() => break,
            _ => {}
        }
        let next = open(column, lacks);
        // A table without vectors is better than none.
        if opened.is_err() || next.is_ok() {
            opened = next;
        }
    }
    let source = opened.map_err(|error| match &spool {
        Some(spool) => spool.name_stream(error),
        None => error,
    })?;
    if let Some(note) = name_order_note(source.as_ref())? {
        console.note("file-order", note);
    }
    if let [first, others @ ..] = source.endless_streams().as_slice() {
        let name = spool.as_ref().map_or_else(|| first.display().to_string(), |spool| spool.name_of(first));
        let more = if others.is_empty() { String::new() } else { format!(" (and {} more)", others.len()) };
        let why = "an Arrow stream without an end: if its writer was stopped, rows are missing";
        console.note("stream-without-end", format!("{name}{more}: {why}"));
    }
    Ok(OpenedSource { source, spool })
}

/// Refuses a run whose files together with the copies of streams take more than `disk` bytes.
pub(super) fn check_disk(disk: Option<u64>, plan: &Plan, spool: Option<&stream::Spool>) -> Result<(), Failure> {
    let (Some(asked), Some(spool)) = (disk, spool) else { return Ok(()) };
    let Some(most) = plan.stages().iter().max_by_key(|stage| stage.disk) else { return Ok(()) };
    let needed = most.disk.saturating_add(spool.bytes());
    if needed <= asked {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "--disk: {} is too little: the {} stage takes about {} in addition to the {} copied from {}; give --disk {}MiB",
        format_bytes(asked),
        most.stage.name(),
        format_bytes(most.disk),
        format_bytes(spool.bytes()),
        spool.names(),
        needed.div_ceil(1 << 20)
    )))
}

/// Returns a note if the order of the files by name differs from the order of the numbers in their
/// names.
pub(super) fn name_order_note(source: &dyn Source) -> Result<Option<String>, Failure> {
    let files = source.fingerprints()?;
    Ok(lowland_io::out_of_number_order(&files).map(|[first, second]| {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("files are read in the order of their names: {} comes before {}", name(first), name(second))
    }))
}

/// Returns `sources` as they may be printed and recorded: without signatures.
pub(super) fn shown(sources: &[String]) -> Vec<String> {
    sources.iter().map(|source| lowland_io::shown(source).into_owned()).collect()
}

/// Returns the name of a component's type.
pub(super) fn dtype_name(dtype: Dtype) -> &'static str {
    dtype.name()
}

#[cfg(test)]
mod tests {
    use lowland::PlanInput;
    use lowland_io::Shape;

    use super::*;
    use lowland::machine::{Limit, smallest_budget};

    fn granting(bytes: u64) -> Machine {
        Machine { limit: Some(Limit { bytes, source: "the cgroup limit in /a/memory.max".into() }) }
    }

    #[test]
    fn the_budget_is_half_of_what_there_is() {
        let of = |asked, machine: &Machine| budget(asked, machine).map_err(|failure| failure.message());
        assert_eq!(of(None, &granting(3 << 30)), Ok(3 << 29));
        assert_eq!(of(Some(Memory::Share(0.25)), &granting(1 << 30)), Ok(256 << 20));
        assert_eq!(of(Some(Memory::Bytes(5)), &granting(1 << 30)), Ok(5));
        let unknown = Machine { limit: None };
        assert_eq!(of(None, &unknown), Ok(4 << 30));
        assert!(of(Some(Memory::Share(0.5)), &unknown).is_err_and(|why| why.contains("--memory")));
    }

    #[test]
    fn a_plan_that_the_machine_does_not_grant_is_refused() {
        let input = PlanInput {
            shape: Shape { rows: 3_000_000, dim: 128 },
            dtype: Dtype::F32,
            graph_k: None,
            source_bytes: 0,
            resident_bytes: 0,
        };
        let plan = |memory| Config { memory, ..Config::default() }.plan(&input).map_err(Error::from);
        let refusal = |memory, machine| plan_within_grant(memory, &machine, plan).expect_err("refused").message();
        let smallest = plan(1).err().as_ref().and_then(smallest_budget).expect("a smallest budget");
        // The budget exceeds the limit, but the plan does not.
        assert!(plan_within_grant(64 << 30, &granting(60 << 30), plan).is_ok());
        assert!(plan_within_grant(4 << 30, &Machine { limit: None }, plan).is_ok());
        let is = "the cgroup limit in /a/memory.max is ";
        for (memory, limit, words) in [
            (8 << 30, 1 << 30, ["the plan takes ", is, "1 GiB; give --memory 921MiB or less"]),
            (8 << 30, smallest, ["the plan takes ", is, &format!("; give --memory {}MiB", smallest >> 20)]),
            (8 << 30, smallest - 1, ["the plan takes ", is, ", and must be raised first: no budget below "]),
            (50 << 20, smallest - 1, ["too small", "smallest sufficient budget", is]),
        ] {
            let told = refusal(memory, granting(limit));
            for word in ["--memory: "].into_iter().chain(words) {
                assert!(told.contains(word), "no {word} in {told}");
            }
        }
        let told = refusal(50 << 20, granting(smallest));
        assert!(told.contains("too small") && !told.contains("cgroup"), "{told}");
    }
}
