//! `lowland plan`: prints what a run would take, stage by stage, before it begins.
//!
//! What must hold: the numbers are those that `embed` uses with the same options; nothing is
//! created except an unnamed temporary file, to measure the disk's speed.

use std::path::{Path, PathBuf};

use lowland::MapTable;
use lowland::forecast::Forecast;
use lowland::machine::Machine;

use super::map::MapArgs;
use super::options::{self, ProgressArgs};
use super::stopped::without_stages;
use super::{Failure, print};
use crate::progress::Console;

const EXAMPLES: &str = "\
Examples:
  lowland plan vectors.parquet
  lowland plan 'shards/*.parquet' --memory 16GiB --run-dir /scratch/run
  lowland plan --knn graph.arrow --json

Takes the options of embed: replace embed by plan to see what that command would
take. It reads headers and the first rows, for less than a second; with --invalid
drop or null, and of a graph without SOURCE, it reads all rows, to count the rows
that are left out.";

/// The output if none is named. It only decides where the run directory would lie.
const OUTPUT: &str = "map.parquet";

/// Show what a run would take: memory, disk and time of each stage
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", super::EXIT_CODES))]
pub(super) struct PlanArgs {
    #[command(flatten)]
    wanted: MapArgs,
    /// The map: .parquet, .arrow or .npy; it is not written
    #[arg(short, long, value_name = "FILE", display_order = 0, help_heading = "Output")]
    output: Option<PathBuf>,
    /// The model that embed would make, whose space is counted; it is not made
    #[arg(long, value_name = "DIR", display_order = 0, help_heading = "Output")]
    #[arg(conflicts_with_all = ["knn", "run_dir", "keep_run", "keep_stages", "restart"])]
    model: Option<PathBuf>,
    /// Write one JSON object
    #[arg(long, display_order = 1, help_heading = "Output")]
    json: bool,
    #[command(flatten)]
    pub(super) progress: ProgressArgs,
}

pub(super) fn run(args: &PlanArgs, console: &Console) -> Result<(), Failure> {
    let wanted = &args.wanted;
    let machine = Machine::detect();
    let named = args.output.as_deref().or(args.model.as_deref()).unwrap_or(Path::new(OUTPUT));
    let mut job = wanted.job(named, &machine)?;
    let mut table = MapTable::default();
    let spool = wanted.open(&mut job, &mut table, console)?;
    if let Some(model) = &args.model {
        job.check_model()?;
        job.plan_for_model(model, &table.keep);
    }
    job.check_rows(console)?;
    let (memory, planned) = (job.config.memory, job.plan());
    let refused = options::plan_within_grant(memory, &machine, |memory| {
        job.config.memory = memory;
        job.plan()
    });
    job.config.memory = memory;
    // A plan that exceeds this machine may be meant for another one.
    let (plan, refused) = match (planned, refused) {
        (Ok(plan), refused) => (plan, refused.err()),
        // This says more than the plan's own error: the limit that the machine would need.
        (Err(_), Err(refused)) if args.model.is_some() => return Err(without_stages(refused)),
        (Err(_), Err(refused)) => return Err(refused),
        (Err(error), Ok(_)) => return Err(error.into()),
    };
    let beyond = options::check_disk(job.config.disk, &plan, spool.as_ref()).err();
    let problems = refused.into_iter().chain(beyond).map(|failure| failure.message()).collect();
    let asked = wanted.resources.memory.is_some();
    let output = (args.output.is_some() || args.model.is_none()).then_some((named, &table));
    let told = Forecast::measure(&job, &plan, &machine, output, asked, problems)?;
    let text = if args.json { format!("{:#}\n", told.json()) } else { told.text() };
    drop((job, spool));
    print(&text)
}
