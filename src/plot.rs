//! Draws a map file: which rows are read, and how a column is turned into colours. The drawing
//! itself is in [`crate::picture`].
//!
//! What must hold: the map is streamed, two or three times, and never held; memory is a portion of
//! rows and a table of categories of bounded size.

mod colors;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use image::RgbImage;
use lowland_engine::{Event, Observer, Remark};
use lowland_io::{Coordinates, MapReader, Source};

use colors::{ColorSurvey, Refusal};
pub use colors::{ColumnColors, PortionColors, check_type};

pub(crate) use colors::{UUID, texts};

use crate::job::look_at_columns;
use crate::picture::{Bounds, Canvas, Color, ColorScale, Style, write_png};
use crate::{Error, Result};

/// The approximate bytes of a colour column read at a time.
const COLOR_BYTES: usize = 8 << 20;
/// Rows of the first read, when the size of the colours' values is not known, and the most rows read
/// at a time.
const FIRST_ROWS: usize = 1 << 10;
const MAX_ROWS: usize = 1 << 16;

/// A column that gives the colours.
pub struct ColorBy {
    /// The column's name.
    pub column: String,
    /// The table of the column, with the map's rows; `None` for the map itself.
    pub source: Option<Arc<dyn Source>>,
}

impl ColorBy {
    /// Checks that the column exists in `source` and that its type can give colours.
    ///
    /// # Errors
    /// Name the column and its type.
    pub fn check(&self) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let nothing = source.read_columns(std::slice::from_ref(&self.column), 0, 0)?;
        check_type(nothing.column(0).data_type()).map_err(|why| self.refused(&source.locate(0).path, why))
    }

    /// Reads the first row of every file, and all rows if some values may not fit the common type over all files, so
    /// that a column that cannot be read is found before a run.
    ///
    /// # Errors
    /// If the column cannot be decoded; if a value does not fit, with its row.
    pub fn check_values(&self, observer: &dyn Observer) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        source.try_columns(std::slice::from_ref(&self.column))?;
        let unsure = source.unsure_columns(std::slice::from_ref(&self.column))?;
        look_at_columns(source.as_ref(), &unsure, observer, &mut |_, _, _| Ok(()))
    }

    fn refused(&self, path: &Path, why: Refusal) -> Error {
        Error::Color { path: path.into(), column: self.column.clone(), why }
    }
}

/// Draws the map in the file `map`, whose coordinates are the columns `coordinates`.
///
/// The observer receives notes about rows without a position, and about texts with characters that
/// the picture's font lacks.
///
/// # Errors
/// If the map or the column cannot be read, if the column cannot give colours, or if the observer
/// stops the drawing.
pub fn draw(
    map: &Path,
    coordinates: &Coordinates,
    color: Option<&ColorBy>,
    style: &Style,
    observer: &dyn Observer,
) -> Result<RgbImage> {
    let points = PlottedMap { reader: MapReader::open(map, coordinates)?, color };
    if let Some(color) = color {
        points.check_rows(color)?;
    }
    let mut bounds = Bounds::new();
    let mut survey = ColorSurvey::default();
    points.each(observer, &mut |x, y, values| {
        bounds.add(x, y);
        values.map_or(Ok(()), |values| survey.add(values))
    })?;
    let canvas = if let Some(color) = color {
        let mut recount = survey.recount();
        if let Some(recount) = &mut recount {
            points.each(observer, &mut |_, _, values| values.map_or(Ok(()), |values| recount.add(values)))?;
        }
        let colors = survey.finish(recount).named(&color.column);
        let mut canvas = Canvas::new(style, &bounds, colors.scale().clone());
        points.each(observer, &mut |x, y, values| {
            let Some(values) = values else { return Ok(()) };
            match colors.portion(values)? {
                PortionColors::Categories(codes) => canvas.add(x, y, Color::Category(&codes)),
                PortionColors::Places(places) => canvas.add(x, y, Color::Value(&places)),
            }
            Ok(())
        })?;
        canvas
    } else {
        let mut canvas = Canvas::new(style, &bounds, ColorScale::density());
        points.each(observer, &mut |x, y, _| {
            canvas.add(x, y, Color::None);
            Ok(())
        })?;
        canvas
    };
    for text in points.notes(&canvas) {
        // The picture is complete, so a request to stop has no effect.
        let _ = observer.event(&Event::Note { remark: &Remark::note("picture", text) });
    }
    Ok(canvas.finish())
}

/// Surveys a column of a table, such as a map, and returns the colours of its values: those of a
/// picture of the same rows. Reads the column once, and a second time if it has more than 100,000
/// different texts, of which then only the most frequent are categories.
///
/// ```
/// use std::sync::Arc;
///
/// use arrow::array::{ArrayRef, RecordBatch, StringArray, Float32Array};
/// use lowland::MemorySource;
/// use lowland::plot::{PortionColors, survey};
///
/// let words: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), Some("a"), Some("b"), None]));
/// let x: ArrayRef = Arc::new(Float32Array::from(vec![0.0, 1.0, 2.0, 3.0]));
/// let batch = RecordBatch::try_from_iter([("x", x), ("word", words.clone())])?;
/// let options = lowland_io::OpenOptions { column: Some("x".into()), ..lowland_io::OpenOptions::default() };
/// let map = MemorySource::new("rows", batch.schema(), vec![batch], &options)?; // or lowland::open_map
///
/// let colors = survey(&map, "word", &())?;
/// assert_eq!(colors.scale().ranked(), [("b".to_string(), 2), ("a".to_string(), 1)]);
/// let PortionColors::Categories(codes) = colors.of(&words)? else { panic!("texts are categories") };
/// assert_eq!(codes, [1, 0, 1, u32::MAX]); // a code for each row; a missing value has none
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// If the column cannot be read, if its type gives no colours, or if the observer stops the survey.
pub fn survey(source: &dyn Source, column: &str, observer: &dyn Observer) -> Result<ColumnColors> {
    let (names, rows) = ([column.to_string()], source.shape().rows);
    let refused = |why: Refusal| Error::Color { path: source.locate(0).path, column: column.into(), why };
    let each = |take: &mut dyn FnMut(&ArrayRef) -> std::result::Result<(), Refusal>| {
        let (mut row, mut portion) = (0, FIRST_ROWS);
        while row < rows {
            stop_if_asked(observer)?;
            let count = (rows - row).min(portion as u64) as usize;
            let batch = source.read_columns(&names, row, count)?;
            take(batch.column(0)).map_err(refused)?;
            portion = next_portion(batch.column(0), portion).min(MAX_ROWS);
            row += count as u64;
        }
        Ok::<(), Error>(())
    };
    let nothing = source.read_columns(&names, 0, 0)?;
    check_type(nothing.column(0).data_type()).map_err(refused)?;
    let mut found = ColorSurvey::default();
    each(&mut |values| found.add(values))?;
    let mut recount = found.recount();
    if let Some(recount) = &mut recount {
        each(&mut |values| recount.add(values))?;
    }
    Ok(found.finish(recount).named(column))
}

/// Returns the rows of the next portion after one of `rows` rows, by the bytes of its values. Texts may
/// be long, and later texts longer.
fn next_portion(values: &ArrayRef, rows: usize) -> usize {
    let bytes = values.to_data().get_slice_memory_size().unwrap_or(COLOR_BYTES) / values.len().max(1);
    (COLOR_BYTES / bytes.max(1)).clamp(1, rows.saturating_mul(8))
}

fn stop_if_asked(observer: &dyn Observer) -> Result<()> {
    match observer.event(&Event::Pulse).is_break() {
        true => Err(lowland_engine::Error::Cancelled { stage: "plot" }.into()),
        false => Ok(()),
    }
}

/// Writes a picture as PNG. The file has its name only when it is complete.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, picture: &RgbImage) -> Result<()> {
    // Written through a symbolic link to its target; the link stays.
    let target = lowland_io::target(path)?;
    let mut part = target.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write_png(&part, picture).map_err(Error::from).and_then(|()| {
        let failed = |doing| move |e| Error::from(lowland_io::Error::io(path, doing, e));
        std::fs::File::open(&part).and_then(|file| file.sync_all()).map_err(failed("sync"))?;
        std::fs::rename(&part, &target).map_err(failed("rename"))
    });
    if written.is_err() {
        // An error of the removal is ignored, because the failure itself is reported.
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// The callback of a pass over the map, called with x, y and the colour column.
type PointVisitor<'a> = dyn FnMut(&[f64], &[f64], Option<&ArrayRef>) -> std::result::Result<(), Refusal> + 'a;

struct PlottedMap<'a> {
    reader: MapReader,
    color: Option<&'a ColorBy>,
}

impl PlottedMap<'_> {
    /// Runs one pass over the map.
    fn each(&self, observer: &dyn Observer, each: &mut PointVisitor<'_>) -> Result<()> {
        let own = self.color.filter(|c| c.source.is_none()).map(|c| c.column.as_str());
        let other = self.color.and_then(|c| c.source.as_ref().map(|s| (s, [c.column.clone()])));
        let most = self.reader.portion();
        let mut portion = if self.color.is_some() { most.min(FIRST_ROWS) } else { most };
        let mut row = 0;
        while row < self.reader.rows() {
            stop_if_asked(observer)?;
            let count = (self.reader.rows() - row).min(portion as u64) as usize;
            let mut part = self.reader.read(row, count, own.as_slice())?;
            let values = match &other {
                Some((source, column)) => Some(source.read_columns(column, row, count)?.column(0).clone()),
                None => part.columns.pop(),
            };
            if let Some(values) = &values {
                portion = next_portion(values, portion).min(most);
            }
            each(&part.x, &part.y, values.as_ref()).map_err(|why| self.refused(why))?;
            row += count as u64;
        }
        Ok(())
    }

    /// Checks the colour column's rows and type before rows are read.
    fn check_rows(&self, color: &ColorBy) -> Result<()> {
        let rows = self.reader.rows();
        match &color.source {
            Some(source) if source.shape().rows != rows => {
                let other = source.shape().rows;
                Err(self.refused(format!("the source has {other} rows, the map {rows}: they must be the same rows")))
            }
            Some(_) => color.check(),
            None => {
                let nothing = self.reader.read(0, 0, &[&color.column])?;
                let mut kinds = nothing.columns.iter().map(|values| check_type(values.data_type()));
                kinds.try_for_each(|kind| kind).map_err(|why| self.refused(why))
            }
        }
    }

    fn refused(&self, why: Refusal) -> Error {
        match self.color {
            Some(color) => color.refused(self.reader.path(), why),
            None => Error::job(format!("{}: {why}", self.reader.path().display())),
        }
    }

    /// Returns the notes for the user about the picture.
    fn notes(&self, canvas: &Canvas) -> Vec<String> {
        let path = self.reader.path().display();
        let mut notes = Vec::new();
        let (dim, named) = (self.reader.dim(), self.reader.coordinates());
        if dim > 2 && named.first().is_none_or(|name| name != "x") {
            notes.push(format!("{path}: the picture shows the first two of {dim} components"));
        }
        if canvas.skipped() > 0 {
            let rows = self.reader.rows();
            let skipped = canvas.skipped();
            notes.push(format!("{path}: {skipped} of {rows} rows have no position and are left out of the picture"));
        }
        let unreadable = canvas.unreadable();
        if let Some(first) = unreadable.first() {
            let (count, one) = (unreadable.len(), unreadable.len() == 1);
            notes.push(format!(
                "{count} text{s} beside the picture {have} characters that its font cannot draw, such as \"{first}\": each \
                 is drawn as a box with its code point; colour by a column of Latin letters, or draw the map's file with a \
                 program that has the font",
                s = if one { "" } else { "s" },
                have = if one { "has" } else { "have" },
            ));
        }
        notes
    }
}
