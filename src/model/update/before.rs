//! The positions of a version as a map file, from which a refit begins.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use arrow::record_batch::RecordBatch;
use lowland_engine::{Event, Observer};
use lowland_io::{MapColumns, MapWriter, coordinate_names};
use lowland_model::snapshot::Snapshot;

use crate::Result;

/// Places that are written at a time.
const PLACES: u32 = 8192;

/// Writes the ids and positions of all live rows to `path`, under the name `id`. An existing file is replaced.
pub(super) fn write(snapshot: &Snapshot, id: &str, path: &Path, observer: &dyn Observer) -> Result<()> {
    let field = Field::new(id, snapshot.id_type().clone(), false);
    let schema = Arc::new(Schema::new(vec![field]));
    let components = snapshot.n_components();
    // A column of ids may have the name of a coordinate, by which the file's coordinates are recognised.
    let coordinates = match coordinate_names(3).iter().any(|name| name == id) {
        true => (0..components).map(|i| format!("c{i}")).collect(),
        false => coordinate_names(components),
    };
    let columns = MapColumns {
        rows: u64::from(snapshot.live()),
        coordinates,
        extra: Some(schema.clone()),
        own_id: true,
        nullable: false,
    };
    let mut writer = MapWriter::create(path, columns, true)?;
    let mut first = 0;
    for start in (0..snapshot.places()).step_by(PLACES as usize) {
        if observer.event(&Event::Pulse).is_break() {
            return Err(lowland_engine::Error::Cancelled { stage: "place" }.into());
        }
        let places = start..(start + PLACES).min(snapshot.places());
        let live: Vec<u32> = places.clone().filter(|&place| !snapshot.is_dead(place)).collect();
        let positions: Vec<f32> = live.iter().flat_map(|&place| snapshot.position(place).iter().copied()).collect();
        let taken = arrow::array::UInt32Array::from_iter_values(live.iter().map(|place| place - start));
        let wrong = |e: arrow::error::ArrowError| lowland_io::Error::format(path, e.to_string());
        let ids = arrow::compute::take(&snapshot.ids(places)?, &taken, None).map_err(wrong)?;
        let batch = RecordBatch::try_new(schema.clone(), vec![ids]).map_err(wrong)?;
        writer.write_rows(first, &positions, Some(&batch))?;
        first += live.len() as u64;
    }
    writer.finish()?;
    Ok(())
}
