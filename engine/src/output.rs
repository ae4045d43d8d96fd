//! The output stage: writes the map in the source's order.

use crate::budget::Needs;
use crate::guard::{self, Extent};
use crate::index::Lists;
use crate::inputs::Sink;
use crate::plan::Plan;
use crate::positions::{POSITIONS, Positions};
use crate::work::Work;
use crate::{Result, init};

/// Number of rows written at a time.
const ROWS: usize = 65_536;

/// Brings the map into the source's order and writes it to `sink`.
pub(crate) fn write(plan: &Plan, lists: Option<&Lists>, sink: &mut dyn Sink, work: &Work<'_>) -> Result<()> {
    let _held = work.hold(&needs(plan), "write")?;
    let width = plan.settings.n_components;
    let positions = Positions::open(&work.path(POSITIONS), plan.shape.rows, width)?;
    let positions = positions.values()?;
    let mut ordered = Vec::new();
    if let Some(lists) = lists {
        ordered.resize(positions.len(), 0f32);
        let mut rows = positions.chunks_exact(width);
        for list in 0..lists.table.count() {
            for (row, position) in lists.source_rows(list).zip(rows.by_ref()) {
                ordered[row as usize * width..][..width].copy_from_slice(position);
            }
        }
    }
    let ordered = if lists.is_some() { &ordered } else { positions };
    work.progress.traffic.read(positions.len() as u64 * 4);
    let mut extent = Extent::new(width);
    for (i, coordinates) in ordered.chunks(ROWS * width).enumerate() {
        extent.add((i * ROWS) as u64, coordinates);
        sink.write((i * ROWS) as u64, coordinates)?;
        work.progress.traffic.wrote(coordinates.len() as u64 * 4);
        work.progress.advance((coordinates.len() / width) as u64)?;
    }
    extent.warn(plan.shape.rows, guard::began(plan), work.progress)
}

/// Returns the memory that the stage takes.
pub(crate) fn needs(plan: &Plan) -> Needs {
    // Without lists, the positions are in the source's order already.
    let ordered = if plan.index.lists > 0 { crate::positions::map_bytes(plan) } else { 0 };
    Needs::default().phase(
        "write",
        [
            ("positions in the source's order", ordered),
            ("the map's file", lowland_io::MapWriter::bytes(plan.shape.rows, plan.settings.n_components)),
            // An assumption: texts of moderate length in each of a few columns.
            ("kept columns", (16 << 20).min(plan.shape.rows * 64)),
            ("lists' centroids", plan.table_bytes()),
        ],
    )
}
