//! The output stage: writes the map in the source's order.

use crate::Result;
use crate::budget::MemoryNeeds;
use crate::index::{InvertedLists, table_bytes};
use crate::inputs::MapSink;
use crate::observe::Progress;
use crate::plan::Plan;
use crate::positions::{POSITIONS, Positions, map_bytes};
use crate::work::StageContext;

/// Number of rows written at a time.
const ROWS: usize = 65_536;

/// Brings the map into the source's order and writes it to `sink`. `began` is the approximate extent of the first
/// positions, if known.
pub(crate) fn write(
    plan: &Plan,
    lists: Option<&InvertedLists>,
    began: Option<f64>,
    sink: &mut dyn MapSink,
    work: &StageContext<'_>,
) -> Result<()> {
    let _held = work.reserve(&needs(plan), "write")?;
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
    let mut extent = MapExtent::new(width);
    for (i, coordinates) in ordered.chunks(ROWS * width).enumerate() {
        extent.add((i * ROWS) as u64, coordinates);
        sink.write((i * ROWS) as u64, coordinates)?;
        work.progress.traffic.wrote(coordinates.len() as u64 * 4);
        work.progress.advance((coordinates.len() / width) as u64)?;
    }
    extent.warn_if_degenerate(plan.shape.rows, began, work.progress)
}

/// Returns the memory that the stage takes.
pub(crate) fn needs(plan: &Plan) -> MemoryNeeds {
    // Without lists, the positions are in the source's order already.
    let ordered = if plan.index.lists > 0 { map_bytes(plan) } else { 0 };
    MemoryNeeds::default().phase(
        "write",
        [
            ("positions in the source's order", ordered),
            ("the map's file", lowland_io::MapWriter::bytes(plan.shape.rows, plan.settings.n_components)),
            // An assumption: texts of moderate length in each of a few columns.
            ("kept columns", (16 << 20).min(plan.shape.rows * 64)),
            ("lists' centroids", table_bytes(plan)),
        ],
    )
}

/// A map whose extent is less than this fraction of its first extent has collapsed.
const COLLAPSE_RATIO: f64 = 1e-3;

/// Extent, in units of f32's resolution at the largest coordinate, below which points are not distinguishable.
const MIN_F32_STEPS: f32 = 16.0;

/// The extent of a map, and the number of its rows that are not finite.
#[derive(Debug)]
pub(crate) struct MapExtent {
    /// The smallest and the largest coordinate of each component.
    ranges: Vec<(f32, f32)>,
    /// Number of rows with a coordinate that is NaN or infinite, and the first of these rows.
    broken: u64,
    first_broken: Option<u64>,
}

impl MapExtent {
    pub(crate) fn new(width: usize) -> Self {
        MapExtent { ranges: vec![(f32::INFINITY, f32::NEG_INFINITY); width], broken: 0, first_broken: None }
    }

    /// Adds the rows from `first` on.
    pub(crate) fn add(&mut self, first: u64, coordinates: &[f32]) {
        for (row, point) in coordinates.chunks_exact(self.ranges.len()).enumerate() {
            if point.iter().any(|x| !x.is_finite()) {
                self.broken += 1;
                self.first_broken.get_or_insert(first + row as u64);
                continue;
            }
            for ((least, most), &x) in self.ranges.iter_mut().zip(point) {
                *least = least.min(x);
                *most = most.max(x);
            }
        }
    }

    /// Returns the extent of the widest component.
    fn widest(&self) -> f32 {
        self.ranges.iter().map(|(least, most)| most - least).fold(0.0, f32::max)
    }

    /// Returns the largest absolute value of a coordinate.
    fn farthest(&self) -> f32 {
        self.ranges.iter().map(|(least, most)| least.abs().max(most.abs())).fold(0.0, f32::max)
    }

    /// Warns of positions that are not finite, and of a map without extent. `began` is the approximate extent
    /// of the first positions, if known.
    pub(crate) fn warn_if_degenerate(&self, rows: u64, began: Option<f64>, progress: &Progress<'_>) -> Result<()> {
        if let Some(first) = self.first_broken {
            let text = format!(
                "{} of {rows} points of the map have a coordinate that is NaN or infinite, the first in \
                 row {first}: the layout diverged; a smaller learning rate may help",
                self.broken
            );
            return progress.warn("map-not-finite", text);
        }
        let (widest, step) = (self.widest(), MIN_F32_STEPS * f32::EPSILON * self.farthest());
        let collapsed = began.is_some_and(|began| f64::from(widest) < COLLAPSE_RATIO * began);
        if !collapsed && widest > step {
            return Ok(());
        }
        let began = match began.filter(|_| collapsed) {
            Some(began) => format!(", and the first positions were about {began:.1e} wide"),
            None => ", which single precision can hardly distinguish there".into(),
        };
        let text = format!(
            "all points of the map lie within {widest:.1e} of each other{began}: the map is degenerate; try a \
             smaller learning rate, less early exaggeration, or another initialisation"
        );
        progress.warn("map-no-extent", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::warning_kinds;

    #[test]
    fn collapsed_or_non_finite_maps_warn() {
        let told = |points: &[f32], began: Option<f64>| {
            let mut extent = MapExtent::new(2);
            extent.add(0, points);
            warning_kinds(|progress| extent.warn_if_degenerate(points.len() as u64 / 2, began, progress))
        };
        assert_eq!(told(&[0.0, 0.0, 1e-12, 1e-13], Some(6e-4)), ["map-no-extent"]);
        assert_eq!(told(&[1000.0, 0.0, 1000.0001, 0.0], None), ["map-no-extent"]);
        assert_eq!(told(&[3.0, 3.0, 3.0, 3.0], Some(20.0)), ["map-no-extent"]);
        assert_eq!(told(&[0.0, f32::NAN, 1.0, 2.0], Some(20.0)), ["map-not-finite"]);
        assert!(told(&[0.0, 0.0, 1.0, 0.0], Some(20.0)).is_empty());
        assert!(told(&[0.0, 0.0, 1e-9, 0.0], None).is_empty());
    }
}
