//! The map that is written: coordinates from the engine, kept columns from the source.
//!
//! What must hold: everything about the columns that can be refused is refused by [`MapOutput::begin`],
//! before any work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use lowland_engine::{Event, MapSink, Observer, Remark};
use lowland_io::{MapColumns, MapWriter, RowSet, Source, coordinate_names, has_order};

use super::placing::{RowPlacement, complete};
use crate::invalid_rows::{InvalidRows, PlacedRows};
use crate::{Error, Result};

/// Rows of kept columns read at a time; few, because values may be long texts.
pub(super) const KEPT_ROWS: usize = 8192;

/// The columns of a map beside its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapTable {
    /// The source's columns to keep beside the coordinates.
    pub keep: Vec<String>,
    /// The names of the coordinates, one for each. If empty: x, y and z, or c0, c1, … if there are
    /// more than three.
    pub coordinates: Vec<String>,
}

/// A file for a map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MapFile {
    /// The file: `.parquet`, `.arrow`, or `.npy` for coordinates alone.
    pub path: PathBuf,
    /// The columns.
    pub table: MapTable,
    /// Whether an existing file may be replaced.
    pub force: bool,
}

impl MapFile {
    /// Returns a file without kept columns, which must not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        MapFile { path: path.into(), ..MapFile::default() }
    }
}

/// Where the rows of a map go.
pub(crate) enum Target<'a> {
    File(&'a Path, bool),
    /// Takes the rows as batches, in order.
    Batches(Box<dyn FnMut(RecordBatch) -> lowland_io::Result<()> + Send>),
}

/// The map that is being written.
pub(crate) struct MapOutput {
    table: Table,
    placing: RowPlacement,
    dim: usize,
    /// Notes on the kept columns.
    pub(crate) remarks: Vec<Remark>,
}

/// The table of the output's rows.
struct Table {
    /// `None` once the map is finished.
    writer: Option<MapWriter>,
    /// The source of the output's rows, if columns are kept.
    source: Option<Arc<dyn Source>>,
    names: Vec<String>,
    /// The output's rows in the source, if an id column with their numbers is written because these
    /// differ from the output's row numbers.
    numbered: Option<Arc<RowSet>>,
}

/// The rows and columns of a map.
pub(crate) struct ExtraColumns<'a> {
    /// The source of the columns, with the rows of the output.
    pub(crate) source: Option<Arc<dyn Source>>,
    /// The rows of the output that have a place on the map.
    pub(crate) placed: Option<&'a PlacedRows>,
    pub(crate) id: Option<&'a String>,
    pub(crate) table: &'a MapTable,
}

impl MapOutput {
    /// Begins a map of rows × dim, where `rows` counts the usable rows, with columns of
    /// the source. Checks the columns: their types over all files and, if the types do not decide,
    /// their values.
    pub(crate) fn begin(
        target: Target<'_>,
        beside: ExtraColumns<'_>,
        (rows, dim): (u64, usize),
        observer: &dyn Observer,
    ) -> Result<MapOutput> {
        let ExtraColumns { source, placed, id, table: MapTable { keep, coordinates } } = beside;
        let names: Vec<String> = id.into_iter().chain(keep).cloned().collect();
        let placing = RowPlacement::of(placed);
        let mut extra = match (&source, names.is_empty()) {
            (_, true) => None,
            (Some(source), false) => Some(source.column_schema(&names)?),
            (None, false) => {
                return Err(Error::job(format!(
                    "column \"{}\" cannot be kept: a graph has no columns; name the source of the vectors too",
                    names[0]
                )));
            }
        };
        let coordinates = coordinates_of(coordinates, dim, &names)?;
        let only_coordinates = match &target {
            Target::File(path, _) => path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")),
            Target::Batches(_) => false,
        };
        let numbered = match &placing {
            RowPlacement::Drop(rows) if id.is_none() && !only_coordinates => Some(rows.clone()),
            _ => None,
        };
        if numbered.is_some() {
            let kept = extra.iter().flat_map(|schema| schema.fields().iter().cloned());
            let number = Arc::new(Field::new("id", DataType::UInt64, false));
            extra = Some(Arc::new(Schema::new(std::iter::once(number).chain(kept).collect::<Vec<_>>())));
        }
        let rows = if let RowPlacement::Null(all, _) = &placing { all.all() } else { rows };
        let nullable = placed.is_some_and(|placed| placed.invalid() == InvalidRows::Null);
        let columns = MapColumns { rows, coordinates, extra, own_id: id.is_some() || numbered.is_some(), nullable };
        let parquet = match &target {
            Target::File(path, _) => path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("parquet")),
            Target::Batches(_) => false,
        };
        let mut writer = match target {
            Target::File(path, force) => MapWriter::create(path, columns, force)?,
            Target::Batches(each) => MapWriter::to_batches("the map", columns, each)?,
        };
        let mut remarks = Vec::new();
        if let Some(source) = &source {
            source.try_columns(&names)?;
            remarks = keep_order(source.as_ref(), &names, &mut writer, parquet)?;
            for remark in &remarks {
                if observer.event(&Event::Note { remark }).is_break() {
                    return Err(lowland_engine::Error::Cancelled { stage: "input" }.into());
                }
            }
            let mut unsure = source.unsure_columns(&names)?;
            unsure.extend(writer.columns_to_scan().into_iter().filter(|name| names.contains(name)));
            unsure.sort_unstable();
            unsure.dedup();
            look_at_columns(source.as_ref(), &unsure, observer, &mut |first, name, values| {
                writer.add_values(name, values).map_err(|(row, what)| {
                    let place = source.locate(first + row as u64);
                    lowland_io::Error::format(place.path, format!("row {}: {what}", place.row)).into()
                })
            })?;
        }
        let source = source.filter(|_| !names.is_empty());
        Ok(MapOutput { table: Table { writer: Some(writer), source, names, numbered }, placing, dim, remarks })
    }
}

impl MapOutput {
    /// Returns the columns of the map.
    pub(crate) fn schema(mut self) -> Result<SchemaRef> {
        match &mut self.table.writer {
            Some(writer) => Ok(writer.schema()?),
            None => Ok(Arc::new(Schema::empty())),
        }
    }
}

impl Table {
    /// Writes rows of the output together with their kept columns.
    fn put(&mut self, first: u64, coordinates: &[f32], dim: usize) -> lowland_engine::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let rows = coordinates.len() / dim;
        let kept = self.source.as_ref().map(|source| source.read_columns(&self.names, first, rows)).transpose()?;
        let Some(placed) = &self.numbered else {
            return Ok(writer.write_rows(first, coordinates, kept.as_ref())?);
        };
        let numbers = (first..first + rows as u64).map(|row| placed.source_row(row));
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(numbers));
        let mut fields = vec![Arc::new(Field::new("id", DataType::UInt64, false))];
        let mut columns = vec![numbers];
        if let Some(kept) = &kept {
            fields.extend(kept.schema().fields().iter().cloned());
            columns.extend(kept.columns().iter().cloned());
        }
        let wrong = |e: arrow::error::ArrowError| lowland_io::Error::format("the map", e.to_string());
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(wrong)?;
        Ok(writer.write_rows(first, coordinates, Some(&batch))?)
    }
}

/// Hands the order of the categories of ordered dictionaries to `writer`. Returns a note for each column that loses it.
fn keep_order(source: &dyn Source, names: &[String], writer: &mut MapWriter, parquet: bool) -> Result<Vec<Remark>> {
    let mut remarks = Vec::new();
    let kept = if names.is_empty() { Schema::empty() } else { source.column_schema(names)?.as_ref().clone() };
    for field in kept.fields().iter().filter(|field| has_order(field)) {
        let name = field.name();
        let order = source.categories(name)?;
        if order.as_ref().map_or(Ok(false), |order| writer.order(name, order))? {
            continue;
        }
        let why = match (parquet, order.is_some()) {
            (true, true) => "Parquet cannot store it; .arrow can",
            (true, false) => "Parquet cannot store it",
            (false, true) => "there are too many categories",
            (false, false) => "its files do not contain the order, or have different orders",
        };
        let text = format!("column \"{name}\": the order of its categories is not kept: {why}");
        remarks.push(Remark::note("categories-without-order", text));
    }
    Ok(remarks)
}

/// Returns the coordinates' names, which must differ from the kept columns' names.
fn coordinates_of(asked: &[String], dim: usize, kept: &[String]) -> Result<Vec<String>> {
    let wrong = |why: String| Err(lowland_engine::Error::Config { field: "coordinates", why }.into());
    let names = if asked.is_empty() { coordinate_names(dim) } else { asked.to_vec() };
    if names.len() != dim {
        return wrong(format!("{} names for {dim} components", names.len()));
    }
    match names.iter().find(|name| kept.contains(name)) {
        Some(name) => {
            let others: Vec<String> = coordinate_names(dim).iter().map(|name| format!("umap_{name}")).collect();
            let others = others.join(",");
            wrong(format!("a kept column is also called \"{name}\"; give other names, such as {others}"))
        }
        None => Ok(names),
    }
}

/// Reads columns of a source in portions, and calls `each` with a portion's first row, the column's
/// name and its values.
pub(crate) fn look_at_columns(
    source: &dyn Source,
    names: &[String],
    observer: &dyn Observer,
    each: &mut dyn FnMut(u64, &str, &ArrayRef) -> Result<()>,
) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let rows = source.shape().rows;
    for first in (0..rows).step_by(KEPT_ROWS) {
        if observer.event(&Event::Pulse).is_break() {
            return Err(lowland_engine::Error::Cancelled { stage: "input" }.into());
        }
        let count = (rows - first).min(KEPT_ROWS as u64) as usize;
        let batch = source.read_columns(names, first, count)?;
        for (name, values) in names.iter().zip(batch.columns()) {
            each(first, name, values)?;
        }
    }
    source.release();
    Ok(())
}

impl MapSink for MapOutput {
    fn write(&mut self, first: u64, coordinates: &[f32]) -> lowland_engine::Result<()> {
        let MapOutput { table, placing, dim, .. } = self;
        // Portions need to be small only if columns are written beside the coordinates.
        let small = table.source.is_some() || table.numbered.is_some();
        let portion = if small { KEPT_ROWS } else { usize::MAX / *dim };
        complete(placing, *dim, portion, (first, coordinates), |row, part| table.put(row, part, *dim))
    }

    /// Gives the map its name.
    fn finish(&mut self) -> lowland_engine::Result<()> {
        self.table.writer.take().map_or(Ok(()), |writer| Ok(writer.finish().map(|_| ())?))
    }
}
