//! What is kept of a run that stopped, for its message.

use std::path::Path;

use lowland::{Error, Job, Stage};

use super::Failure;
use super::map::run_path;
use crate::progress::Console;

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
pub(super) fn kept_in_model(error: Error, model: &Path, console: &Console) -> Failure {
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
