//! The kept columns of the rows of a delta.

use std::collections::BTreeMap;

use super::Update;
use crate::Result;
use crate::snapshot::{KeptWriter, role};
use crate::store::ObjectRef;

/// Rows that are copied or read at a time.
const ROWS: u32 = 4096;

/// Writes the kept columns of the delta: those of earlier updates as they are, then those of the new rows.
pub(super) fn write(update: &Update<'_>, objects: &mut BTreeMap<String, ObjectRef>) -> Result<()> {
    let Update { lock, snapshot, diff, rows, progress, .. } = *update;
    let schema = snapshot.kept_schema();
    let (base, first, count) = (snapshot.base_rows(), snapshot.places(), diff.new.count());
    if !update.keep || schema.fields().is_empty() || count == 0 {
        return Ok(());
    }
    let mut writer = KeptWriter::create(lock, role::DELTA_KEPT, schema)?;
    for start in (base..first).step_by(ROWS as usize) {
        writer.push(&snapshot.kept(start..(start + ROWS).min(first))?)?;
        progress.check()?;
    }
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    for start in (0..count).step_by(ROWS as usize) {
        let here = (count - start).min(u64::from(ROWS)) as usize;
        writer.push(&rows.read_columns(&names, start, here)?)?;
        progress.check()?;
    }
    rows.release();
    objects.insert(role::DELTA_KEPT.into(), writer.finish()?);
    Ok(())
}
