//! Makes the golden run directories of `tests/data` anew: `tests/it/golden.rs`
//! says what they are, and when they are made.
//!
//! ```text
//! cargo run --release --example golden_runs
//! ```

use std::ops::ControlFlow;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use lowland::{Config, Event, Job, MapFile, Observer, RunOptions, Stage};

const EPOCHS: usize = 60;
/// The epoch of the checkpoint.
const STOPPED: u64 = 25;

/// Stops a run where it is told to.
struct StopAtEpoch(fn(&Event<'_>) -> bool);

impl Observer for StopAtEpoch {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if (self.0)(event) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let golden = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("tests/data/run-v3");
    if golden.exists() {
        std::fs::remove_dir_all(&golden)?;
    }
    std::fs::create_dir_all(&golden)?;
    // Sources are named as they are typed: from where they are.
    std::env::set_current_dir(&golden)?;
    let generator = lowland_datasets::Generator::new("mixture".parse()?, 300, 4, 7)?;
    lowland_datasets::write(&generator, Path::new("v.npy"), &Default::default())?;
    let second = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    std::fs::File::options().write(true).open("v.npy")?.set_modified(second)?;

    let stops: [(&str, StopAtEpoch); 3] = [
        ("index", StopAtEpoch(|e| matches!(e, Event::Start { stage: Stage::Neighbors, .. }))),
        ("layout", StopAtEpoch(|e| matches!(e, Event::Advance { stage: Stage::Layout, done } if *done == STOPPED))),
        ("complete", StopAtEpoch(|_| false)),
    ];
    for (run, stop) in stops {
        let mut job = Job::new();
        job.source = Some(lowland::open(&["v.npy"], None)?);
        job.run = RunOptions::kept(run);
        job.config = Config { n_neighbors: Some(5), n_epochs: Some(EPOCHS), ..Config::default() };
        match job.embed(&job.plan()?, &MapFile::new("m.npy"), &stop) {
            Err(error) if !error.is_cancelled() => return Err(error.into()),
            _ => std::fs::remove_file(Path::new(run).join("LOCK"))?,
        }
    }
    Ok(())
}
