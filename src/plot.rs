//! From a map at rest to its picture: what is read, and how a column becomes
//! colours. The drawing itself is [`crate::picture`]'s.
//!
//! What must hold: the map is streamed, twice, and never held; what is held
//! is a table of categories of bounded size.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use image::RgbImage;
use lowland_engine::{Event, Observer};
use lowland_io::{MapReader, Source};

use crate::picture::{Bounds, Canvas, Color, ColorScale, Style, write_png};
use crate::{Error, Result};

/// Integers of more distinct values than this are a scale, not categories.
const FEW: usize = 1_000;
/// Texts of more distinct values than this are refused.
const MOST: usize = 100_000;

/// A column to colour by.
pub struct ColorBy {
    /// The column's name.
    pub column: String,
    /// Where it is read, row for row with the map; the map itself where `None`.
    pub source: Option<Arc<dyn Source>>,
}

/// Draws the map in the file `map`.
///
/// # Errors
/// Where the map or the column cannot be read, or the column gives no colours;
/// and when the observer stops it.
pub fn draw(map: &Path, color: Option<&ColorBy>, style: &Style, observer: &dyn Observer) -> Result<RgbImage> {
    let points = Points { reader: MapReader::open(map)?, map, color };
    let mut bounds = Bounds::new();
    let mut survey = Survey::default();
    points.each(observer, &mut |x, y, values| {
        bounds.add(x, y);
        values.map_or(Ok(()), |values| survey.add(values).map_err(|why| points.no_colors(why)))
    })?;
    let Some(color) = color else {
        let mut canvas = Canvas::new(style, &bounds, ColorScale::density());
        points.each(observer, &mut |x, y, _| {
            canvas.add(x, y, Color::None);
            Ok(())
        })?;
        return Ok(canvas.finish());
    };
    let (scale, codes) = survey.finish();
    let mut canvas = Canvas::new(style, &bounds, scale.named(&color.column));
    points.each(observer, &mut |x, y, values| {
        let Some(values) = values else { return Ok(()) };
        let read = |why| points.no_colors(why);
        match &codes {
            Some(codes) => canvas.add(x, y, Color::Category(&coded(values, codes).map_err(read)?)),
            None => canvas.add(x, y, Color::Value(&numbers(values).map_err(read)?)),
        }
        Ok(())
    })?;
    Ok(canvas.finish())
}

/// Writes a picture as PNG, under its name only when it is whole.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write_png(&part, picture).map_err(Error::from).and_then(|()| {
        let failed = |doing| move |e| Error::from(lowland_io::Error::io(path, doing, e));
        std::fs::File::open(&part).and_then(|file| file.sync_all()).map_err(failed("sync"))?;
        std::fs::rename(&part, path).map_err(failed("rename"))
    });
    if written.is_err() {
        // Best left as it was; the failure itself is told.
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// What each pass over the map calls: x, y and the colour's column.
type Each<'a> = dyn FnMut(&[f32], &[f32], Option<&ArrayRef>) -> Result<()> + 'a;

struct Points<'a> {
    reader: MapReader,
    map: &'a Path,
    color: Option<&'a ColorBy>,
}

impl Points<'_> {
    /// One pass. The reader cannot be stopped, so after a failure the rest is skipped.
    fn each(&self, observer: &dyn Observer, each: &mut Each<'_>) -> Result<()> {
        let mut result = Ok(());
        let mut row = 0;
        let own = self.color.filter(|c| c.source.is_none()).map(|c| c.column.as_str());
        let other = self.color.and_then(|c| c.source.as_ref().map(|s| (s, [c.column.clone()])));
        self.reader.read_xy(own, &mut |x, y, values| {
            if result.is_err() {
                return;
            }
            result = if observer.event(&Event::Pulse).is_break() {
                Err(lowland_engine::Error::Cancelled { stage: "plot" }.into())
            } else if let Some((source, column)) = &other {
                source
                    .read_columns(column, row, x.len())
                    .map_err(Error::from)
                    .and_then(|batch| each(x, y, Some(batch.column(0))))
            } else {
                each(x, y, values)
            };
            row += x.len() as u64;
        })?;
        result
    }

    fn no_colors(&self, why: String) -> Error {
        Error::Color { path: self.map.into(), column: self.color.map_or_else(String::new, |c| c.column.clone()), why }
    }
}

/// What a column holds, learned in the first pass.
#[derive(Default)]
struct Survey {
    /// Counts by value; given up where integers are many.
    counts: HashMap<String, u64>,
    many: bool,
    /// The least and the greatest number.
    range: Option<(f32, f32)>,
}

impl Survey {
    fn add(&mut self, values: &ArrayRef) -> std::result::Result<(), String> {
        let integers = matches!(inner(values), inner if inner.is_integer());
        if !self.many && (integers || is_categorical(inner(values))) {
            for value in texts(values)?.iter().flatten() {
                match self.counts.get_mut(value) {
                    Some(count) => *count += 1,
                    None => drop(self.counts.insert(value.into(), 1)),
                }
                if integers && self.counts.len() > FEW {
                    (self.many, self.counts) = (true, HashMap::new());
                    break;
                }
                if self.counts.len() > MOST {
                    return Err(format!("more than {MOST} distinct values; choose one with fewer"));
                }
            }
        }
        if integers || !is_categorical(inner(values)) {
            for value in numbers(values)?.into_iter().filter(|v| v.is_finite()) {
                let (low, high) = self.range.unwrap_or((value, value));
                self.range = Some((low.min(value), high.max(value)));
            }
        }
        Ok(())
    }

    /// The colours, and the code of each category if there are categories.
    fn finish(self) -> (ColorScale, Option<HashMap<String, u32>>) {
        if self.counts.is_empty() {
            let (low, high) = self.range.unwrap_or((0.0, 0.0));
            return (ColorScale::values(low, high), None);
        }
        // In an order that does not depend on the table: numbers by value, texts by letter.
        let mut counted: Vec<(String, u64)> = self.counts.into_iter().collect();
        counted.sort_by_cached_key(|(name, _)| (name.parse::<i128>().unwrap_or(i128::MAX), name.clone()));
        let codes = counted.iter().zip(0..).map(|((name, _), code)| (name.clone(), code)).collect();
        (ColorScale::categories(counted), Some(codes))
    }
}

/// The type of the values, seen through a dictionary.
fn inner(values: &ArrayRef) -> &DataType {
    match values.data_type() {
        DataType::Dictionary(_, inner) => inner,
        plain => plain,
    }
}

fn is_categorical(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean | DataType::Null)
}

pub(crate) fn texts(values: &ArrayRef) -> std::result::Result<arrow::array::StringArray, String> {
    let texts = cast(values, &DataType::Utf8).map_err(|e| e.to_string())?;
    texts.as_string_opt::<i32>().cloned().ok_or_else(|| format!("{} is no text", values.data_type()))
}

/// Values as numbers: NaN, which is drawn grey, where there is none.
fn numbers(values: &ArrayRef) -> std::result::Result<Vec<f32>, String> {
    let direct = cast(values, &DataType::Float32);
    // Dates and times become numbers only through integers.
    let numbers = direct
        .or_else(|_| cast(values, &DataType::Int64).and_then(|v| cast(&v, &DataType::Float32)))
        .or_else(|_| cast(values, &DataType::Int32).and_then(|v| cast(&v, &DataType::Float32)))
        .map_err(|_| format!("it is {}, neither text nor number", values.data_type()))?;
    let numbers = numbers.as_primitive_opt::<Float32Type>().ok_or("it is no number")?;
    Ok(numbers.iter().map(|v| v.unwrap_or(f32::NAN)).collect())
}

/// Each value's code; one beyond all codes, which is drawn grey, where there is none.
fn coded(values: &ArrayRef, codes: &HashMap<String, u32>) -> std::result::Result<Vec<u32>, String> {
    let code = |value: Option<&str>| value.and_then(|v| codes.get(v)).copied().unwrap_or(u32::MAX);
    Ok(texts(values)?.iter().map(code).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, BooleanArray, DictionaryArray, Float64Array, Int64Array, StringArray};
    use arrow::array::{TimestampSecondArray, UInt64Array};
    use arrow::datatypes::Int8Type;

    fn survey(portions: &[ArrayRef]) -> std::result::Result<Survey, String> {
        let mut survey = Survey::default();
        portions.iter().try_for_each(|p| survey.add(p))?;
        Ok(survey)
    }

    /// The categories by code; none where the column is a scale.
    fn categories(portions: &[ArrayRef]) -> Option<Vec<String>> {
        let (_, codes) = survey(portions).expect("colours").finish();
        let mut names: Vec<(String, u32)> = codes?.into_iter().collect();
        names.sort_by_key(|(_, code)| *code);
        Some(names.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn what_is_a_category_and_what_a_scale() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]));
        assert_eq!(categories(&[texts.clone(), texts.clone()]).as_deref(), Some(&["a".to_string(), "b".into()][..]));
        let coded: DictionaryArray<Int8Type> = ["z", "y", "z"].into_iter().collect();
        assert_eq!(categories(&[Arc::new(coded)]).map(|c| c.len()), Some(2));
        assert_eq!(categories(&[Arc::new(BooleanArray::from(vec![true, false]))]).map(|c| c.len()), Some(2));
        let few: ArrayRef = Arc::new(Int64Array::from(vec![10, 9, -1, 9]));
        assert_eq!(categories(&[few]).as_deref(), Some(&["-1".to_string(), "9".into(), "10".into()][..]));
        let many: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..=FEW as u64));
        assert_eq!(categories(&[many.clone(), many]), None);
        assert_eq!(categories(&[Arc::new(Float64Array::from(vec![1.0, 1.0]))]), None);
        assert_eq!(categories(&[Arc::new(TimestampSecondArray::from(vec![1, 2]))]), None);
    }

    #[test]
    fn scales_and_gaps() {
        let values: ArrayRef = Arc::new(Float64Array::from(vec![Some(2.5), None, Some(f64::NAN), Some(-1.0)]));
        assert_eq!(survey(std::slice::from_ref(&values)).expect("colours").range, Some((-1.0, 2.5)));
        let read = numbers(&values).expect("numbers");
        assert!(read[0] == 2.5 && read[1].is_nan() && read[2].is_nan());
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), None, Some("new")]));
        let codes = HashMap::from([("a".to_string(), 0)]);
        assert_eq!(coded(&texts, &codes).expect("codes"), [0, u32::MAX, u32::MAX]);
    }

    #[test]
    fn columns_without_colours() {
        let bytes: ArrayRef = Arc::new(BinaryArray::from_vec(vec![b"x"]));
        assert!(survey(&[bytes]).is_err_and(|why| why.contains("Binary")));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..=MOST).map(|i| format!("n{i}"))));
        assert!(survey(&[names]).is_err_and(|why| why.contains("100000 distinct")));
        let nothing: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; 3]));
        assert_eq!(categories(&[nothing]), None);
    }
}
