//! The kept columns of a run's rows.

use lowland_engine::Progress;

use super::{FittedRun, columns_by_place};
use crate::snapshot::{KeptWriter, kept_schema, role};
use crate::store::{ModelLock, ObjectRef};
use crate::{Error, Result};

/// Writes the kept columns by place.
pub(super) fn write(
    lock: &ModelLock<'_>,
    run: &FittedRun<'_>,
    places: &[u32],
    progress: &Progress<'_>,
) -> Result<ObjectRef> {
    // The types of the values, which have no dictionaries.
    let given = run.source.read_columns(run.kept, 0, 0)?.schema();
    let unkept = |(name, why)| Error::Rows { object: role::KEPT, what: format!("column \"{name}\": {why}") };
    let mut writer = KeptWriter::create(lock, role::KEPT, &kept_schema(&given).map_err(unkept)?)?;
    let memory = run.plan.settings().memory / 4;
    columns_by_place(run.source.as_ref(), run.kept, places, memory, progress, &mut |rows| writer.push(rows))?;
    writer.finish()
}
