//! A version of a model as a table: ids, coordinates, kept columns, in which version a row was added, how far it moved, and
//! its neighbours.
//!
//! ```text
//! id          the user's id, of its type
//! x, y, …     Float32
//! …           the columns that the model keeps
//! added_in    UInt64: the version that added the row
//! moved       Float32: the distance between the row's positions in this version and in its parent; null for a row
//!             that the parent does not have, and if the parent was removed
//! neighbors   Struct { ids: List of the id's type, distances: List of Float32 }: the nearest rows, ascending
//! ```
//!
//! Rows are in the order of the model. The file has its name only when it is complete.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, ListArray, StructArray, UInt32Array, UInt64Array, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, take, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use lowland_engine::neighbors::MISSING;
use lowland_engine::{Observer, Session, Stage, StageReport, format_count};
use lowland_io::{MapColumns, MapWriter, coordinate_names};
use lowland_model::snapshot::{Snapshot, role};
use serde::Serialize;

use super::Model;
use super::compare::for_each_pair;
use super::open::is_within;
use crate::{Error, MapFile, Result, check_output};

/// Rows that are written at a time.
const ROWS: u32 = 1 << 13;
/// Ids are read in one range if fewer places than this lie between two of them.
const GAP: u32 = 64;

/// The names of the columns that every export has, beside the coordinates.
pub(super) const OWN_COLUMNS: [&str; 4] = ["id", "added_in", "moved", "neighbors"];

/// A job that writes a version of a model as a table.
pub struct ExportJob {
    /// The model, at the version that is written.
    pub model: Model,
}

/// What an export did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportReport {
    /// The version.
    pub version: u64,
    /// Number of rows.
    pub rows: u64,
    /// The stage.
    pub stages: Vec<StageReport>,
    /// Wall time in seconds.
    pub seconds: f64,
}

impl fmt::Display for ExportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exported   {} rows of version {} in {:.1} s", format_count(self.rows), self.version, self.seconds)
    }
}

impl ExportJob {
    /// Returns the columns.
    pub fn schema(&self) -> SchemaRef {
        let names = coordinate_names(self.model.snapshot().n_components());
        let own = own_fields(self.model.snapshot());
        let mut fields = vec![own[0].clone()];
        fields.extend(names.iter().map(|name| Arc::new(Field::new(name, DataType::Float32, false))));
        fields.extend(own[1..].iter().cloned());
        Arc::new(Schema::new(fields))
    }

    /// Writes the table to a `.parquet` or `.arrow` file. Holds four bytes for each row.
    ///
    /// # Errors
    /// If the output cannot be written, its format cannot hold a kept column, or a file of the model is damaged.
    pub fn write(&self, file: &MapFile, observer: &dyn Observer) -> Result<ExportReport> {
        check_output(&file.path, file.force)?;
        if is_within(&file.path, self.model.path()) {
            return Err(Error::job(format!("{}: in the model's directory; choose another place", file.path.display())));
        }
        if MapWriter::ending(&file.path)? == "npy" {
            let what = "an export has columns of several types; name a .parquet or .arrow file";
            return Err(Error::job(format!("{}: {what}", file.path.display())));
        }
        let writer = MapWriter::create(&file.path, self.columns(&file.table.coordinates)?, file.force)?;
        self.fill(writer, observer)
    }

    /// Hands the table to `each` in batches.
    ///
    /// # Errors
    /// If a file of the model is damaged, and those of `each`.
    pub fn batches(
        &self,
        each: impl FnMut(RecordBatch) -> lowland_io::Result<()> + Send + 'static,
        observer: &dyn Observer,
    ) -> Result<ExportReport> {
        let writer = MapWriter::to_batches("the export", self.columns(&[])?, each)?;
        self.fill(writer, observer)
    }

    /// Returns the positions of the rows, in the order of the table: rows × components, row-major.
    pub fn coordinates(&self) -> Vec<f32> {
        let snapshot = self.model.snapshot();
        portions(snapshot).flatten().flat_map(|place| snapshot.position(place).iter().copied()).collect()
    }

    /// Returns the ids of the rows, in the order of the table: integers or texts.
    ///
    /// # Errors
    /// If the file of the ids is damaged.
    pub fn ids(&self) -> Result<ArrayRef> {
        let snapshot = self.model.snapshot();
        let parts: Vec<ArrayRef> = portions(snapshot).map(|live| ids_of(snapshot, &live)).collect::<Result<_>>()?;
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
        if parts.is_empty() {
            return Ok(new_empty_array(snapshot.id_type()));
        }
        Ok(concat(&parts).map_err(|e| lowland_io::Error::format("the ids of the model", e.to_string()))?)
    }

    fn columns(&self, coordinates: &[String]) -> Result<MapColumns> {
        let width = self.model.snapshot().n_components();
        if !coordinates.is_empty() && coordinates.len() != width {
            let why = format!("{} names for {width} components", coordinates.len());
            return Err(lowland_engine::Error::Config { field: "coordinates", why }.into());
        }
        Ok(MapColumns {
            rows: self.model.rows(),
            coordinates: if coordinates.is_empty() { coordinate_names(width) } else { coordinates.to_vec() },
            extra: Some(Arc::new(Schema::new(own_fields(self.model.snapshot())))),
            own_id: true,
            nullable: false,
        })
    }

    fn fill(&self, mut writer: MapWriter, observer: &dyn Observer) -> Result<ExportReport> {
        let snapshot = self.model.snapshot();
        let before = self.parent()?;
        self.model.check(&role::FOR_EXPORT, observer)?;
        if let Some(parent) = &before {
            parent.check_beside(&self.model, &role::FOR_DIFF, observer)?;
        }
        let mut session = Session::start(observer, u64::MAX, None)?;
        let size = (self.model.rows(), "rows");
        let (written, stage) = session.stage(Stage::Output, size, false, |progress, _| {
            let mut write = || -> Result<()> {
                let places = match &before {
                    Some(parent) => Some(places_before(parent.snapshot(), snapshot, observer)?),
                    None => None,
                };
                self.look_at_kept(&mut writer)?;
                let (mut next, mut positions) = (0, Vec::new());
                for live in portions(snapshot) {
                    positions.clear();
                    live.iter().for_each(|&place| positions.extend_from_slice(snapshot.position(place)));
                    let batch = self.batch(&live, before.as_ref().zip(places.as_ref()))?;
                    writer.write_rows(next, &positions, Some(&batch))?;
                    next += live.len() as u64;
                    progress.advance(live.len() as u64)?;
                }
                Ok(())
            };
            Ok(write())
        })?;
        written?;
        writer.finish()?;
        session.tell_end(stage, false)?;
        let (stages, seconds) = session.end();
        Ok(ExportReport { version: self.model.number(), rows: self.model.rows(), stages, seconds })
    }

    /// Shows the writer the values of kept columns whose type alone does not say whether the format can hold them.
    fn look_at_kept(&self, writer: &mut MapWriter) -> Result<()> {
        let snapshot = self.model.snapshot();
        let mut unsure = writer.columns_to_scan();
        unsure.retain(|name| snapshot.kept_schema().field_with_name(name).is_ok());
        if unsure.is_empty() {
            return Ok(());
        }
        for live in portions(snapshot) {
            let kept = kept_of(snapshot, &live)?;
            for (name, values) in unsure.iter().filter_map(|name| Some((name, kept.column_by_name(name)?))) {
                writer.add_values(name, values).map_err(|(_, what)| Error::job(what))?;
            }
        }
        Ok(())
    }

    /// Opens the version before this one, if it still exists and its map has as many components.
    fn parent(&self) -> Result<Option<Model>> {
        let Some(parent) = self.model.version().parent else { return Ok(None) };
        if !self.model.dir().versions()?.contains(&parent) {
            return Ok(None);
        }
        let parent = Model::open_version(self.model.path(), Some(&parent.to_string()))?;
        Ok(Some(parent).filter(|parent| parent.snapshot().n_components() == self.model.snapshot().n_components()))
    }

    /// Returns the columns beside the coordinates of the rows at `live` places.
    fn batch(&self, live: &[u32], before: Option<(&Model, &Vec<u32>)>) -> Result<RecordBatch> {
        let snapshot = self.model.snapshot();
        let added = UInt64Array::from_iter_values(live.iter().map(|&place| snapshot.added_in(place)));
        let moved: Float32Array = live
            .iter()
            .map(|&place| {
                let (parent, places) = before?;
                let old = places.get(place as usize).copied().filter(|&place| place != MISSING)?;
                let old = parent.snapshot().position(old);
                let squared =
                    old.iter().zip(snapshot.position(place)).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
                Some(squared.sum::<f64>().sqrt() as f32)
            })
            .collect();
        let most = self.model.options().n_neighbors;
        let (mut offsets, mut near, mut distances) = (vec![0_i32], Vec::new(), Vec::new());
        for &place in live {
            let (ids, far) = snapshot.neighbors(place);
            let kept = ids.iter().zip(far).filter(|(id, _)| **id != MISSING && !snapshot.is_dead(**id));
            for (&id, &distance) in kept.take(most) {
                near.push(id);
                distances.push(distance);
            }
            offsets.push(near.len() as i32);
        }
        let lists = OffsetBuffer::new(offsets.into());
        let kind = snapshot.id_type();
        let near = ListArray::new(item(kind), lists.clone(), ids_of(snapshot, &near)?, None);
        let far: ArrayRef = Arc::new(Float32Array::from(distances));
        let far = ListArray::new(item(&DataType::Float32), lists, far, None);
        let neighbors = StructArray::new(neighbor_fields(kind), vec![Arc::new(near), Arc::new(far)], None);
        let mut columns: Vec<ArrayRef> = vec![ids_of(snapshot, live)?];
        columns.extend(kept_of(snapshot, live)?.columns().iter().cloned());
        columns.extend([Arc::new(added) as ArrayRef, Arc::new(moved), Arc::new(neighbors)]);
        let batch = RecordBatch::try_new(Arc::new(Schema::new(own_fields(snapshot))), columns);
        Ok(batch.map_err(|e| lowland_io::Error::format("the export", e.to_string()))?)
    }
}

/// Returns the live places, in portions of neighbouring ones.
fn portions(snapshot: &Snapshot) -> impl Iterator<Item = Vec<u32>> + '_ {
    let places = snapshot.places();
    (0..places).step_by(ROWS as usize).map(move |first| {
        let end = first.saturating_add(ROWS).min(places);
        (first..end).filter(|&place| !snapshot.is_dead(place)).collect()
    })
}

fn item(kind: &DataType) -> Arc<Field> {
    Arc::new(Field::new("item", kind.clone(), false))
}

fn neighbor_fields(kind: &DataType) -> Fields {
    let list = |name: &str, kind: &DataType| Field::new(name, DataType::List(item(kind)), false);
    Fields::from(vec![list("ids", kind), list("distances", &DataType::Float32)])
}

/// Returns the columns beside the coordinates: the id first.
fn own_fields(snapshot: &Snapshot) -> Vec<Arc<Field>> {
    let id = snapshot.id_type();
    let [id_name, added, moved, neighbors] = OWN_COLUMNS;
    let mut fields = vec![Arc::new(Field::new(id_name, id.clone(), false))];
    fields.extend(snapshot.kept_schema().fields().iter().cloned());
    fields.extend([
        Arc::new(Field::new(added, DataType::UInt64, false)),
        Arc::new(Field::new(moved, DataType::Float32, true)),
        Arc::new(Field::new(neighbors, DataType::Struct(neighbor_fields(id)), false)),
    ]);
    fields
}

/// Returns the kept columns of the rows at `live` places, which lie near each other.
fn kept_of(snapshot: &Snapshot, live: &[u32]) -> Result<RecordBatch> {
    let (Some(&first), Some(&last)) = (live.first(), live.last()) else {
        return Ok(RecordBatch::new_empty(snapshot.kept_schema().clone()));
    };
    let all = snapshot.kept(first..last + 1)?;
    if live.len() == all.num_rows() || all.num_columns() == 0 {
        return Ok(all);
    }
    let rows = UInt32Array::from_iter_values(live.iter().map(|&place| place - first));
    let taken = take_record_batch(&all, &rows);
    Ok(taken.map_err(|e| lowland_io::Error::format("the kept columns of the model", e.to_string()))?)
}

/// Returns the ids of `places`, in their order. Ids are stored in the order of places, and are read in ranges.
fn ids_of(snapshot: &Snapshot, places: &[u32]) -> Result<ArrayRef> {
    if places.is_empty() {
        return Ok(new_empty_array(snapshot.id_type()));
    }
    let mut sorted = places.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    // For each range: its first place, and where its ids begin among those that were read.
    let (mut parts, mut ranges, mut count, mut at) = (Vec::new(), Vec::new(), 0_u32, 0);
    while at < sorted.len() {
        let first = sorted[at];
        let mut last = first;
        while at < sorted.len() && sorted[at] - last <= GAP {
            last = sorted[at];
            at += 1;
        }
        parts.push(snapshot.ids(first..last + 1)?);
        ranges.push((first, count));
        count += last + 1 - first;
    }
    let index = |place: u32| {
        let (first, begins) = ranges[ranges.partition_point(|range| range.0 <= place).saturating_sub(1)];
        begins + (place - first)
    };
    let indices = UInt32Array::from_iter_values(places.iter().map(|&place| index(place)));
    let all: Vec<&dyn Array> = parts.iter().map(|part| part.as_ref()).collect();
    let taken = concat(&all).and_then(|all| take(&all, &indices, None));
    Ok(taken.map_err(|e| lowland_io::Error::format("the ids of the model", e.to_string()))?)
}

/// Returns, for each place of `after`, the place that its row had in `before`, or [`MISSING`].
fn places_before(before: &Snapshot, after: &Snapshot, observer: &dyn Observer) -> Result<Vec<u32>> {
    let mut places = vec![MISSING; after.places() as usize];
    for_each_pair(before, after, observer, &mut |pair| {
        if let [Some(old), Some(new)] = pair
            && let Some(place) = places.get_mut(new.place as usize)
        {
            *place = old.place;
        }
    })?;
    Ok(places)
}
