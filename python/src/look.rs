//! What is looked at beside a run: scores and pictures of a map, sources, and run directories.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Float64Array, Int64Array, StringArray};
use arrow::ipc::writer::FileWriter;
use arrow::record_batch::RecordBatch;
use lowland::picture::{Style, png_bytes};
use lowland::plot::{ColorBy, draw, write};
use lowland::runs::RunStatus;
use lowland::scores::EvaluationConfig;
use lowland::{Coordinates, Evaluation, GraphInput, InvalidRows, Source, check_output, open_map};
use numpy::{PyReadonlyArray1, PyReadonlyArray2};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use serde_json::{Value, json};

use crate::errors::{exception, with_arguments, wrong_argument};
use crate::options::{count, memory, metric};
use crate::request::{graph_path, invalid as invalid_of};
use crate::source::PySource;
use crate::temporary::Temporary;
use crate::watch::{Watch, watched};

/// Returns JSON as objects of Python.
pub(crate) fn objects<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}

/// A map: a `Source` whose vectors are the coordinates, or the name of a file.
fn map_of(map: &Bound<'_, PyAny>) -> PyResult<Result<Arc<dyn Source>, PathBuf>> {
    match map.cast::<PySource>() {
        Ok(source) => Ok(Ok(source.get().source.clone())),
        Err(_) => match map.extract::<PathBuf>() {
            Ok(path) => Ok(Err(path)),
            Err(_) => Err(PyTypeError::new_err("map: a Source or the name of a file is expected")),
        },
    }
}

/// Computes the scores of a map: the name of a file, or a `Source` of its coordinates. Returns a dict
/// as `lowland evaluate --json` prints it, and the text under "text". `options` has n_neighbors,
/// sample, metric, seed, threads, batch_rows and memory.
#[pyfunction]
#[pyo3(signature = (map, source=None, *, options=None, graph=None, labels=None, weights=None, id=None,
                    coordinates=None, invalid=None, callback=None))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn evaluate<'py>(
    py: Python<'py>,
    map: &Bound<'py, PyAny>,
    source: Option<&Bound<'py, PySource>>,
    options: Option<&Bound<'py, PyDict>>,
    graph: Option<&Bound<'py, PyAny>>,
    labels: Option<Vec<String>>,
    weights: Option<String>,
    id: Option<String>,
    coordinates: Option<String>,
    invalid: Option<&Bound<'py, PyAny>>,
    callback: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let labels = labels.unwrap_or_default();
    if source.is_none() && labels.is_empty() {
        return Err(wrong_argument("source", "nothing to compare the map with: give a source, labels, or both"));
    }
    let invalid = invalid.map(invalid_of).transpose()?.unwrap_or_default();
    if invalid == InvalidRows::Null {
        return Err(wrong_argument("invalid", "the choices are error and drop"));
    }
    let mut config = EvaluationConfig { memory: crate::options::config(None)?.memory, ..EvaluationConfig::default() };
    let mut asked = None;
    for (name, value) in options.into_iter().flat_map(|options| options.iter()) {
        let name: String = name.extract()?;
        if value.is_none() {
            continue;
        }
        match name.as_str() {
            "n_neighbors" => config.n_neighbors = Some(count(&name, &value)?),
            "sample" => config.sample = Some(count(&name, &value)?),
            "metric" => asked = Some(metric(&value.extract::<String>()?)?),
            "seed" => config.seed = count(&name, &value)? as u64,
            "threads" => config.threads = Some(count(&name, &value)?),
            "batch_rows" => config.batch_rows = Some(count(&name, &value)?),
            "memory" => config.memory = memory(&value)?,
            other => return Err(wrong_argument(other, "there is no such option of an evaluation")),
        }
    }
    let map = map_of(map)?;
    let graph = graph.map(graph_path).transpose()?;
    let watch = Watch::of(source.map(Bound::get));
    let source = source.map(|source| source.get().source.clone());
    let found = watched(py, watch, callback.as_ref(), |watch| {
        let map = match map {
            Ok(source) => source,
            Err(path) => open_map(&path, coordinates.as_deref())?,
        };
        let mut job = Evaluation::new(map);
        job.source = source;
        job.graph = graph.map(GraphInput::open).transpose()?;
        let of_graph = job.graph.as_ref().and_then(GraphInput::metric);
        if let (Some(asked), Some(has)) = (asked, of_graph)
            && asked != has
        {
            let why = format!("the graph was made with {}", has.name());
            return Err(lowland_engine::Error::Config { field: "metric", why }.into());
        }
        (job.labels, job.weights, job.id, job.invalid) = (labels, weights, id, invalid);
        job.config = EvaluationConfig { metric: asked.or(of_graph).unwrap_or_default(), ..config };
        let report = job.run(watch)?;
        let mut full = serde_json::to_value(&report).unwrap_or_default();
        if let Some(fields) = full.as_object_mut() {
            fields.insert("coordinates".into(), json!(job.map.vector_column()));
            fields.insert("column".into(), json!(job.source.as_ref().and_then(|source| source.vector_column())));
            fields.insert("text".into(), json!(report.to_string()));
        }
        Ok(full)
    })?;
    objects(py, &found)
}

/// Draws a map in a file. Returns the picture as the bytes of a PNG, and writes it to `output` if that
/// is given.
#[pyfunction]
#[pyo3(signature = (map, *, color=None, coordinates=None, width=1600, height=1200, dark=false, title=None, output=None,
                    force=false))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn plot<'py>(
    py: Python<'py>,
    map: PathBuf,
    color: Option<String>,
    coordinates: Option<String>,
    width: u32,
    height: u32,
    dark: bool,
    title: Option<String>,
    output: Option<PathBuf>,
    force: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    for (name, pixels) in [("width", width), ("height", height)] {
        if !(16..=8192).contains(&pixels) {
            return Err(wrong_argument(name, format!("{pixels} pixels; give 16 to 8192")));
        }
    }
    if let Some(path) = &output {
        if path.extension().is_none_or(|ending| !ending.eq_ignore_ascii_case("png")) {
            return Err(wrong_argument("output", format!("{} does not end in .png", path.display())));
        }
        check_output(path, force).map_err(|error| exception(py, &error))?;
    }
    let style = Style { width, height, dark, title };
    let color = color.map(|column| ColorBy { column, source: None });
    let coordinates = coordinates.map_or(Coordinates::Usual, Coordinates::Asked);
    let png = watched(py, Watch::default(), None, |watch| {
        let picture = draw(&map, &coordinates, color.as_ref(), &style, watch)?;
        if let Some(path) = &output {
            write(path, &picture)?;
        }
        Ok(png_bytes(&picture)?)
    })?;
    Ok(PyBytes::new(py, &png))
}

/// Draws an array of coordinates, of which the first two are drawn. `color` has a value for each row:
/// an array of int64 or float64, or a list of texts.
#[pyfunction]
#[pyo3(signature = (points, *, color=None, width=1600, height=1200, dark=false, title=None, output=None, force=false))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn plot_array<'py>(
    py: Python<'py>,
    points: PyReadonlyArray2<'py, f32>,
    color: Option<&Bound<'py, PyAny>>,
    width: u32,
    height: u32,
    dark: bool,
    title: Option<String>,
    output: Option<PathBuf>,
    force: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let points = points.as_array();
    let mut columns: Vec<(&str, ArrayRef)> = Vec::new();
    for (name, at) in [("x", 0), ("y", 1)] {
        columns.push((name, Arc::new(Float32Array::from_iter_values(points.column(at).iter().copied()))));
    }
    if let Some(values) = color {
        let values: ArrayRef = if let Ok(numbers) = values.extract::<PyReadonlyArray1<'_, i64>>() {
            Arc::new(Int64Array::from_iter_values(numbers.as_array().iter().copied()))
        } else if let Ok(numbers) = values.extract::<PyReadonlyArray1<'_, f64>>() {
            Arc::new(Float64Array::from_iter_values(numbers.as_array().iter().copied()))
        } else {
            Arc::new(StringArray::from(values.extract::<Vec<String>>()?))
        };
        columns.push(("color", values));
    }
    let broken = |error: arrow::error::ArrowError| wrong_argument("map", error);
    let batch = RecordBatch::try_from_iter(columns).map_err(broken)?;
    // The rasteriser streams files.
    let directory = Temporary::new(py, None)?;
    let path = directory.path().join("map.arrow");
    let mut file = FileWriter::try_new(std::fs::File::create(&path)?, &batch.schema()).map_err(broken)?;
    file.write(&batch).and_then(|()| file.finish()).map_err(broken)?;
    let color = color.map(|_| "color".to_string());
    plot(py, path, color, None, width, height, dark, title, output, force)
}

/// Describes a source and the default run on it, as `lowland inspect --json` does. Reads headers and
/// at most 4,096 rows.
#[pyfunction]
#[pyo3(signature = (source, *, memory=None))]
pub(crate) fn inspect<'py>(
    py: Python<'py>,
    source: &Bound<'py, PySource>,
    memory: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let budget = match memory {
        Some(value) => crate::options::memory(value)?,
        None => crate::options::config(None)?.memory,
    };
    let watch = Watch::of(Some(source.get()));
    let source = source.get().source.as_ref();
    let found = watched(py, watch, None, |_| Ok(lowland::inspect::SourceSummary::of(source, budget)?.json(source)))?;
    objects(py, &found)
}

/// Lists the run directories among `directories` and directly in them, as `lowland runs --json` does.
#[pyfunction]
#[pyo3(signature = (directories=None))]
pub(crate) fn runs(py: Python<'_>, directories: Option<Vec<PathBuf>>) -> PyResult<Bound<'_, PyAny>> {
    let directories = directories.unwrap_or_else(|| vec![PathBuf::from(".")]);
    let found = watched(py, Watch::default(), None, |_| {
        let mut all = lowland::runs::list(&directories)?;
        for run in &mut all {
            if let RunStatus::Damaged(what) | RunStatus::OtherVersion(what) = &mut run.state {
                *what = with_arguments(what);
            }
        }
        Ok(Value::from(all.iter().map(lowland::runs::RunEntry::json).collect::<Vec<_>>()))
    })?;
    objects(py, &found)
}
