//! The rows of a transform in units: each is placed by itself, and is a file of the run directory when it is finished.
//!
//! ```text
//! placed-<unit>.f32   rows × (components + 1), f32, little-endian: the coordinates, then the outlier score
//! ```
//!
//! What must hold: the units depend on the number of rows alone, so that a job with another budget continues them.

use std::io::Write;
use std::sync::Arc;

use lowland_engine::invalid::check_rows;
use lowland_engine::{Observer, Progress, Remark, Session, Stage, StageContext, format_count};
use lowland_io::{Loader, LoaderOptions, Source, VerifyDepth};
use lowland_model::diff::row_hash;
use lowland_model::place::Placer;
use lowland_model::search::Searcher;
use lowland_model::snapshot::role;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::begun::{self, OBJECTS};
use super::{TransformJob, TransformPlan, TransformReport};
use crate::invalid_rows::PlacedRows;
use crate::job::OpenRun;
use crate::{Error, Result, SpaceUse, space};

/// The least number of rows of a unit, and the most units.
const UNIT_ROWS: u64 = 1 << 16;
const UNITS: u64 = 256;
/// Rows of a unit that are read at a time.
const READ_ROWS: usize = 1 << 14;
/// The least number of rows of which a warning is given.
const WARNED_ROWS: u64 = 20;
/// A warning is given if a larger share of the rows is outside of the range of the model's rows, of which 1 % are.
const OUTSIDE: f64 = 0.1;

/// The record of a unit, in the manifest.
#[derive(Serialize, Deserialize)]
struct UnitData {
    rows: u64,
    outliers: u64,
    /// The number of the model's version, for messages.
    #[serde(default)]
    version: u64,
}

impl TransformJob {
    /// Places all usable rows in units, then calls `put(first, values)` with the rows in order: rows × (components +
    /// 1).
    pub(super) fn place(
        &self,
        put: &mut dyn FnMut(u64, &[f32]) -> Result<()>,
        notes: Vec<Remark>,
        observer: &dyn Observer,
    ) -> Result<TransformReport> {
        let plan = self.plan()?;
        let placed = self.placed(observer)?;
        self.check_room(plan.rows)?;
        self.model.check(&role::FOR_TRANSFORM, observer)?;
        // Only a source that can be recognised again is worth resuming.
        let resumable = self.source.id()?.is_lasting();
        let run = OpenRun::open(&self.run, self.identity(&placed)?, self.source.fingerprints()?, resumable);
        let run = run.map_err(|error| self.model.of_other_version(error))?;
        let result = self.place_in(&run, &plan, &placed, put, notes, observer);
        run.end(&self.run, false, result)
    }

    fn place_in(
        &self,
        run: &OpenRun,
        plan: &TransformPlan,
        placed: &PlacedRows,
        put: &mut dyn FnMut(u64, &[f32]) -> Result<()>,
        notes: Vec<Remark>,
        observer: &dyn Observer,
    ) -> Result<TransformReport> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(plan.threads).build();
        let pool = pool.map_err(|e| lowland_engine::Error::Config { field: "threads", why: e.to_string() })?;
        let vectors = self.vectors(placed);
        let mut session = Session::start(observer, self.memory, Some(vectors.clone()))?;
        let size = (plan.rows, "rows");
        let units = units(plan.rows);
        let (done, stage) = session.stage(Stage::Place, size, true, |progress, budget| {
            let work = StageContext { run: &run.dir, progress, budget };
            let place = || -> Result<(u64, u64)> {
                let (mut outliers, mut reused) = (0, 0);
                let (snapshot, options) = (self.model.snapshot(), self.model.options());
                let searcher = Searcher::new(snapshot, options.settings.metric, options.effort);
                let placer = pool.install(|| Placer::new(&options.settings, snapshot, options.reach))?;
                let tools = (&searcher, &placer);
                for (first, rows) in units.clone() {
                    let name = unit_name(first);
                    let data = match work.recorded_unit::<UnitData>(&name)? {
                        Some(data) => {
                            reused += data.rows;
                            progress.advance(data.rows)?;
                            data
                        }
                        None => pool.install(|| self.place_unit(tools, &vectors, (first, rows), plan, &work))?,
                    };
                    outliers += data.outliers;
                }
                Ok((outliers, reused))
            };
            Ok(place())
        })?;
        let (outliers, reused_rows) = done?;
        session.tell_end(stage, plan.rows > 0 && reused_rows == plan.rows)?;

        let (written, stage) = session.stage(Stage::Output, size, false, |progress, _| {
            Ok(units.clone().try_for_each(|unit| self.read_unit(run, unit, progress, put)))
        })?;
        written?;
        session.tell_end(stage, false)?;

        let mut warnings = Vec::new();
        // Of a few rows, one that is outside tells nothing about the others.
        if plan.rows >= WARNED_ROWS && outliers as f64 > plan.rows as f64 * OUTSIDE {
            let text = format!(
                "{} of {} rows are outside of the range of the rows of which the map was made: a map of old and new rows \
                 together would show them better",
                format_count(outliers),
                format_count(plan.rows)
            );
            let remark = Remark::warning("outliers", text);
            // The job is done: a request to stop comes too late.
            let _ = observer.event(&lowland_engine::Event::Note { remark: &remark });
            warnings.push(remark);
        }
        let (stages, seconds) = session.end();
        Ok(TransformReport {
            lowland: env!("CARGO_PKG_VERSION").into(),
            model_version: self.model.number(),
            rows: plan.rows,
            outliers,
            left_out: placed.left_out(),
            reused_rows,
            stages,
            warnings,
            notes,
            seconds,
        })
    }

    /// Places `rows` usable rows from `first` on, and records them as a unit.
    fn place_unit(
        &self,
        (searcher, placer): (&Searcher<'_>, &Placer<'_>),
        vectors: &Arc<dyn Source>,
        (first, rows): (u64, u64),
        plan: &TransformPlan,
        work: &StageContext<'_>,
    ) -> Result<UnitData> {
        let (snapshot, options) = (self.model.snapshot(), self.model.options());
        let (dim, width, metric) = (snapshot.dim(), snapshot.n_components(), options.settings.metric);
        let file = format!("placed-{}.f32", unit_name(first));
        let mut out = work.create(&file)?;
        let path = out.path().to_path_buf();
        let failed = |e| Error::from(lowland_io::Error::io(&path, "write", e));
        let read = LoaderOptions { batch_rows: Some(plan.batch_rows), rows: Some(first..first + rows), prepare: None };
        let mut outliers = 0;
        for batch in &Loader::new(vectors.clone(), read) {
            let batch = batch?;
            let hashes: Vec<u64> = batch.values().par_chunks_exact(dim).map(row_hash).collect();
            let mut queries = batch.values().to_vec();
            queries.par_chunks_exact_mut(dim).for_each(|row| metric.prepare(row, dim));
            let mut flaws = Default::default();
            if !check_rows(&mut flaws, metric, vectors.as_ref(), batch.first, &queries)? {
                flaws.refuse(plan.rows)?;
            }
            let own = vec![u32::MAX; batch.rows()];
            let stop = || work.progress.check().is_err();
            let found = searcher.search(&queries, &own, options.n_neighbors, None, &stop)?;
            let (mut positions, mut scores) = (vec![0.0; batch.rows() * width], vec![0.0; batch.rows()]);
            placer.place(&found, &hashes, &mut positions, &mut scores)?;
            let mut bytes = Vec::with_capacity(batch.rows() * (width + 1) * 4);
            for (position, score) in positions.chunks_exact(width).zip(&scores) {
                position.iter().chain([score]).for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
                outliers += u64::from(*score > 1.0);
            }
            out.write_all(&bytes).map_err(failed)?;
            let row_bytes = self.source.dtype().row_bytes(dim) as u64;
            work.progress.traffic.read(batch.rows() as u64 * row_bytes);
            work.progress.traffic.wrote(bytes.len() as u64);
            work.progress.advance(batch.rows() as u64)?;
        }
        let stamp = out.finish()?;
        // The rows must be those that the job began with, because a later process uses them.
        work.check_source_unchanged(vectors.as_ref())?;
        let data = UnitData { rows, outliers, version: self.model.number() };
        work.record_unit(&unit_name(first), vec![(file, stamp)], &data)?;
        Ok(data)
    }

    /// Hands the rows of a finished unit to `put`.
    fn read_unit(
        &self,
        run: &OpenRun,
        (first, rows): (u64, u64),
        progress: &Progress<'_>,
        put: &mut dyn FnMut(u64, &[f32]) -> Result<()>,
    ) -> Result<()> {
        let name = unit_name(first);
        run.dir.verify_unit(Stage::Place.name(), &name, VerifyDepth::Lengths)?;
        let path = run.dir.path(&format!("placed-{name}.f32"));
        let row = self.model.options().settings.n_components + 1;
        let mut file = std::fs::File::open(&path).map_err(|e| lowland_io::Error::io(&path, "open", e))?;
        let portion = (rows as usize).min(READ_ROWS);
        let (mut bytes, mut values) = (vec![0; portion * row * 4], Vec::with_capacity(portion * row));
        let mut next = first;
        while next < first + rows {
            let count = (first + rows - next).min(portion as u64) as usize;
            let bytes = &mut bytes[..count * row * 4];
            std::io::Read::read_exact(&mut file, bytes).map_err(|e| lowland_io::Error::io(&path, "read", e))?;
            values.clear();
            let (numbers, _) = bytes.as_chunks::<4>();
            values.extend(numbers.iter().map(|&number| f32::from_le_bytes(number)));
            put(next, &values)?;
            progress.traffic.read(bytes.len() as u64);
            progress.advance(count as u64)?;
            next += count as u64;
        }
        Ok(())
    }

    /// Returns what determines the placed rows, beside the source's files: the identity of the run.
    fn identity(&self, placed: &PlacedRows) -> Result<serde_json::Value> {
        let version = self.model.version();
        let mut identity = json!({
            OBJECTS: begun::objects(version),
            "options": version.options,
            "column": self.source.vector_column(),
        });
        if let Some(fields) = identity.as_object_mut() {
            for (name, value) in placed.identity() {
                fields.insert(name.into(), value);
            }
        }
        Ok(identity)
    }

    /// Refuses a job for which there is no space.
    fn check_room(&self, rows: u64) -> Result<()> {
        let directory = self.run.dir.clone().unwrap_or_else(std::env::temp_dir);
        let needed = rows.saturating_mul((self.model.options().settings.n_components as u64 + 1) * 4);
        match space::free_space(&directory) {
            Ok(free) if free < needed => Err(Error::Space { what: SpaceUse::Transform, directory, needed, free }),
            _ => Ok(()),
        }
    }
}

/// Returns the number of rows of a unit; the last may have fewer.
pub(super) fn unit_rows(rows: u64) -> u64 {
    rows.div_ceil(UNITS).max(UNIT_ROWS)
}

/// Returns the units as (first row, number of rows).
fn units(rows: u64) -> impl Iterator<Item = (u64, u64)> + Clone {
    let size = unit_rows(rows);
    (0..rows).step_by(size as usize).map(move |first| (first, size.min(rows - first)))
}

fn unit_name(first: u64) -> String {
    format!("{first:012}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_all_rows_once_and_do_not_depend_on_batches() {
        for rows in [0, 1, 65_535, 65_536, 65_537, 40_000_000] {
            let all: Vec<_> = units(rows).collect();
            assert_eq!(all.iter().map(|unit| unit.1).sum::<u64>(), rows);
            assert!(all.len() as u64 <= UNITS);
            let mut next = 0;
            for (first, count) in all {
                assert_eq!(first, next);
                next += count;
            }
        }
    }
}
