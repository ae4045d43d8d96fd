//! A refit: lists, graph and map anew, near the positions that are there.
//!
//! What must hold: the options that the version keeps are those of the first fit, whatever the refit was run with; a
//! refit that was stopped goes on, because the file of its first positions is kept.

use std::path::Path;

use lowland_engine::{Config, Device, Init, MethodOption, Observer, Optimizer, Progress, Stage};
use lowland_model::ModelOptions;
use lowland_model::snapshot::Snapshot;
use lowland_model::store::{Action, ModelLock, Version};
use lowland_model::update::Measures;

use super::{UpdateJob, before};
use crate::job::RunOptions;
use crate::model::fit::RUN;
use crate::{Error, Job, MapFile, Result};

/// The largest number of epochs of a refit, and its learning rate over that of the map. A refit begins at a finished map,
/// and people know where its rows are. With a whole learning rate rows keep a third of their neighbours in the map, with a
/// hundredth of it .65, and the scores are no worse (`benches/record/2026-11-30-models.md`).
const REFIT_EPOCHS: usize = 30;
const REFIT_RATE: f32 = 0.01;
/// The file of a refit's first positions: this, and the number of the version before.
const BEFORE: &str = "before";

/// Where a refit begins.
pub(super) enum RefitStart<'a> {
    /// As a first map: no row is unchanged.
    Anew,
    /// At the positions of the unchanged rows, with the epochs of a first map: most rows are new.
    MostlyNew(&'a Snapshot),
    /// At the positions of a version, which may hold the new rows already, with few and small steps.
    Near(&'a Snapshot),
}

impl<'a> RefitStart<'a> {
    fn snapshot(&self) -> Option<&'a Snapshot> {
        match *self {
            RefitStart::Anew => None,
            RefitStart::MostlyNew(snapshot) | RefitStart::Near(snapshot) => Some(snapshot),
        }
    }
}

impl UpdateJob {
    /// Computes the whole map anew, and lays it on that of the version it begins at. Also returns whether the rows keep
    /// their positions, because the new map would have moved them too far.
    #[expect(clippy::too_many_arguments, reason = "one call; a struct would only repeat the names")]
    pub(super) fn refit(
        &self,
        lock: &ModelLock<'_>,
        number: u64,
        start: RefitStart<'_>,
        options: &ModelOptions,
        id: &str,
        scratch: &Path,
        observer: &dyn Observer,
    ) -> Result<(Version, Measures, bool)> {
        // Kept if it is there: a run whose first positions are another file does not go on.
        let before = scratch.join(format!("{BEFORE}-{number:06}.arrow"));
        let first = start.snapshot();
        if let Some(first) = first.filter(|_| !before.exists()) {
            before::write(first, id, &before, observer)?;
        }
        let mut job = Job::new();
        job.source = Some(self.source.clone());
        job.id = Some(id.to_string());
        job.invalid = Some(self.invalid);
        job.config = Config {
            memory: self.memory,
            threads: self.threads,
            device: Device::Auto,
            disk: None,
            ..options.config.clone()
        };
        if first.is_some() {
            job.config.init = Some(Init::File(before.clone()));
        }
        if matches!(start, RefitStart::Near(_)) {
            job.config.n_epochs = Some(options.epochs.clamp(1, REFIT_EPOCHS));
            job.config.learning_rate = Some(refit_rate(options, self.source.shape().rows));
            if options.settings.method.supports(MethodOption::EarlyExaggeration) {
                job.config.early_exaggeration = Some(1.0);
            }
        }
        job.run = RunOptions::kept(scratch.join(RUN));
        let report = match job.run_for_model(scratch, &options.kept, None::<&MapFile>, observer) {
            // The table is another one than when the run was begun.
            Err(Error::Engine(lowland_engine::Error::Io(lowland_io::Error::Resume { .. }))) => {
                if let Some(first) = first {
                    before::write(first, id, &before, observer)?;
                }
                job.run.restart = true;
                job.run_for_model(scratch, &options.kept, None::<&MapFile>, observer)?
            }
            ran => ran?,
        };
        let mut stored = job.store(lock, &report, scratch, first, &options.kept, observer)?;
        // What the map was first made by stays what the next refit, and the next placement, is made from.
        stored.options.config = options.config.clone();
        stored.options.epochs = options.epochs;
        let settings = &mut stored.options.settings;
        settings.init = options.settings.init.clone();
        settings.n_epochs = options.settings.n_epochs;
        settings.learning_rate = options.settings.learning_rate;
        settings.early_exaggeration = options.settings.early_exaggeration;
        let next =
            Version { objects: stored.objects, options: stored.options.to_value(), ..Version::new(Action::Refit) };
        let whole = Snapshot::open(lock.model(), &next)?;
        let progress = Progress::start(observer, Stage::Quality, 1, "maps")?;
        let mut measures = lowland_model::update::measure(&whole, whole.places(), &stored.options, &progress)?;
        measures.recall = report.neighbors.map_or(measures.recall, |found| found.recall);
        if let Some((moved, kept)) = stored.moved {
            (measures.moved_p50, measures.moved_p95, measures.moved_max) = (moved.p50, moved.p95, moved.max);
            measures.kept_neighbors = kept;
        }
        Ok((next, measures, stored.held))
    }
}

/// Returns the learning rate of a refit: [`REFIT_RATE`] of that of the map.
fn refit_rate(options: &ModelOptions, rows: u64) -> f32 {
    let usual = match options.settings.optimizer {
        Optimizer::Adam => 1.0,
        // The rule of the methods that move by momentum, without exaggeration.
        _ => rows as f32 / 4.0,
    };
    REFIT_RATE * options.settings.learning_rate.unwrap_or(usual)
}
