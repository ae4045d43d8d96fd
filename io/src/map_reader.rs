//! Reads a map, or any table with two numeric columns, to be drawn.
//!
//! What must hold: a call holds only the rows that it was asked for, however large the file and its
//! batches are; numbers are read as f64.

use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use crate::edges::arrow_error;
use crate::files;
use crate::open::open_one;
use crate::vectors::ColumnRequest;
use crate::{Coordinates, Error, Result, Source};

/// Reads a map: a Parquet, Arrow IPC or npy file, recognised by its first bytes.
///
/// ```
/// use lowland_io::{Coordinates, MapColumns, MapReader, MapWriter, coordinate_names};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("map.parquet");
///
/// let coordinates = coordinate_names(2); // x and y
/// let columns = MapColumns { rows: 3, coordinates, extra: None, own_id: false, nullable: false };
/// let mut writer = MapWriter::create(&path, columns, false)?; // "map.parquet"
/// writer.write_rows(0, &[0.0, 0.5, 1.0, 1.5, 2.0, 2.5], None)?;
/// writer.finish()?;
///
/// let map = MapReader::open(&path, &Coordinates::Usual)?;
/// assert_eq!((map.rows(), map.columns()), (3, ["id", "x", "y"].map(String::from).to_vec()));
/// let part = map.read(1, 2, &["id"])?; // 2 rows from row 1 on
/// assert_eq!((part.x, part.y, part.columns[0].len()), (vec![1.0, 2.0], vec![1.5, 2.5], 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MapReader {
    path: PathBuf,
    source: Box<dyn Source>,
    /// The names of the coordinate columns. `None` if the coordinates are an array, or one column
    /// of lists.
    columns: Option<Vec<String>>,
}

impl std::fmt::Debug for MapReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MapReader").field("path", &self.path).field("columns", &self.columns).finish_non_exhaustive()
    }
}

/// Rows of a map.
#[derive(Debug, Clone)]
pub struct MapRows {
    /// The first coordinate of each row; NaN where it is null.
    pub x: Vec<f64>,
    /// The second coordinate of each row.
    pub y: Vec<f64>,
    /// The columns that were requested beside the coordinates, in the order requested.
    pub columns: Vec<ArrayRef>,
}

impl MapReader {
    /// Opens the map at `path` with the given choice of coordinates.
    ///
    /// # Errors
    /// [`Error::NoCoordinates`] if no coordinates are recognised; [`Error::Format`] if fewer than
    /// two were named; the errors of [`open`](crate::open) if the file cannot be read.
    pub fn open(path: impl Into<PathBuf>, coordinates: &Coordinates) -> Result<Self> {
        let want = ColumnRequest::of_map(coordinates);
        let input = files::one(&path.into())?;
        let path = input.path().to_path_buf();
        let (source, names) = open_one(&input, &want)?;
        let dim = source.shape().dim;
        let one_list = names.len() == 1 && dim != 1;
        let few = dim < 2 && source.shape().rows > 0;
        // Without an explicit choice, lists of more than three numbers are vectors, not a map.
        if few || (one_list && *coordinates == Coordinates::Usual && dim > 3) {
            return Err(match coordinates {
                Coordinates::Usual => not_a_map(&path, source.as_ref()),
                _ => Error::format(&path, "a picture needs two coordinates, and one was named"),
            });
        }
        let columns = (names.len() > 1).then_some(names);
        Ok(MapReader { path, source, columns })
    }

    /// Returns the file's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of rows.
    pub fn rows(&self) -> u64 {
        self.source.shape().rows
    }

    /// Returns the number of coordinates. Only the first two are read.
    pub fn dim(&self) -> usize {
        self.source.shape().dim
    }

    /// Returns the names of the coordinate columns: several, or one column of lists, or none for an
    /// array.
    pub fn coordinates(&self) -> Vec<String> {
        self.columns.clone().unwrap_or_else(|| self.source.vector_column().into_iter().collect())
    }

    /// Returns the names of all columns.
    pub fn columns(&self) -> Vec<String> {
        self.source.columns()
    }

    /// Reads the first two coordinates of `rows` rows from row `first` on, and the named columns of
    /// these rows, in their own types. Dictionaries are read as their values.
    ///
    /// # Errors
    /// [`Error::NoSuchColumn`] if there is no such column; [`Error::Format`] if there are no such
    /// rows, or their bytes are damaged.
    pub fn read(&self, first: u64, rows: usize, columns: &[&str]) -> Result<MapRows> {
        let beside: Vec<String> = columns.iter().map(|&name| name.into()).collect();
        let Some(columns) = &self.columns else {
            let dim = self.source.shape().dim;
            let mut values = vec![0f64; rows * dim];
            self.source.read_rows_f64(first, &mut values)?;
            let component = |c: usize| values.iter().skip(c).step_by(dim.max(1)).copied().collect();
            let (x, y) = (component(0), component(1));
            let batch = (!beside.is_empty()).then(|| self.source.read_columns(&beside, first, rows)).transpose()?;
            return Ok(MapRows { x, y, columns: batch.map_or(Vec::new(), |batch| batch.columns().to_vec()) });
        };
        let names: Vec<String> = columns.iter().take(2).chain(&beside).cloned().collect();
        let batch = self.source.read_columns(&names, first, rows)?;
        let [x, y] = [0, 1].map(|i| self.numbers(batch.column(i)));
        Ok(MapRows { x: x?, y: y?, columns: batch.columns()[2..].to_vec() })
    }

    /// Returns the number of rows whose coordinates take about 1 MiB.
    pub fn portion(&self) -> usize {
        let read = if self.columns.is_some() { 2 } else { self.source.shape().dim };
        ((1 << 17) / read.max(1)).max(1)
    }

    fn numbers(&self, values: &ArrayRef) -> Result<Vec<f64>> {
        let failed = |e| arrow_error(&self.path, "read", e);
        let numbers = cast(values, &DataType::Float64).map_err(failed)?;
        Ok(numbers.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }
}

fn not_a_map(path: &Path, source: &dyn Source) -> Error {
    let names = source.columns();
    if names.is_empty() {
        return Error::format(path, "an array of one component: a picture needs two");
    }
    let schema = source.read_columns(&names, 0, 0).map(|batch| batch.schema());
    schema.map_or_else(|error| error, |schema| crate::coordinates::missing(path, &schema))
}
