//! Graphs of nearest neighbours.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt32Type;
use lowland::{GraphInput, GraphSource, Source};
use lowland_io::{GraphWriter, MISSING};
use numpy::{PyArray1, PyArray2, PyReadonlyArray2};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::alive::detached;
use crate::embed::{matrix, raise, room, within_grant};
use crate::errors::wrong_argument;
use crate::options::metric as metric_of;
use crate::report::PyReport;
use crate::request::{Asked, Request};
use crate::source::PySource;
use crate::temporary::Temporary;
use crate::watch::{Watch, watched};

/// Rows that are read or written at a time.
const PORTION: usize = 1 << 14;

/// Rows × k: neighbours, and distances.
type Neighbors = Py<PyArray2<i64>>;
type Distances = Py<PyArray2<f32>>;

/// A graph of nearest neighbours, in a file.
#[pyclass(name = "Graph", module = "lowland._lowland", frozen)]
pub(crate) struct PyGraph {
    path: PathBuf,
    rows: u64,
    k: usize,
    metric: Option<String>,
    /// Whether rows of the source were dropped, so that the file has a column of row numbers.
    is_subset: bool,
    report: Option<Py<PyReport>>,
    /// The directory of a graph without an `output`, which is removed with the graph.
    own: Option<Temporary>,
}

impl PyGraph {
    fn open(path: PathBuf, own: Option<Temporary>) -> lowland::Result<Self> {
        let graph = GraphInput::open(&path)?;
        let metric = graph.metric().map(|metric| metric.name().to_string());
        Ok(PyGraph { rows: graph.rows(), k: graph.k(), metric, path, is_subset: false, report: None, own })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a column of a graph whose rows are a part of the source's.
    fn column(&self, name: &str) -> lowland::Result<Arc<dyn Source>> {
        let path = self.path.to_str();
        let path =
            path.ok_or_else(|| lowland_io::Error::format(&self.path, "its name is not UTF-8; rename the file"))?;
        lowland::open(&[path], Some(name))
    }

    /// Returns the row numbers of the source that belong to the graph's rows.
    fn read_ids(&self) -> lowland::Result<Vec<i64>> {
        if !self.is_subset {
            return Ok((0..self.rows as i64).collect());
        }
        let (file, mut ids) = (self.column("distances")?, room::<i64>(self.rows, 1)?);
        for first in (0..self.rows).step_by(PORTION) {
            let count = (self.rows - first).min(PORTION as u64) as usize;
            let batch: RecordBatch = file.read_columns(&["id".into()], first, count)?;
            let column = batch.column(0).as_primitive_opt::<UInt32Type>();
            let column = column.ok_or_else(|| lowland_io::Error::format(&self.path, "the ids are no row numbers"))?;
            ids.extend(column.values().iter().map(|&id| i64::from(id)));
        }
        Ok(ids)
    }

    /// Returns the neighbours and distances of all rows; −1 and infinity where there is none.
    fn read(&self) -> lowland::Result<(Vec<i64>, Vec<f32>)> {
        let (mut indices, mut distances) = (room::<i64>(self.rows, self.k)?, room::<f32>(self.rows, self.k)?);
        if self.is_subset {
            let (ids, far) = (self.column("neighbors")?, self.column("distances")?);
            // Row numbers are exact as numbers of double precision.
            let (mut id, mut distance) = (vec![0.0; PORTION * self.k], vec![0.0; PORTION * self.k]);
            for first in (0..self.rows).step_by(PORTION) {
                let count = (self.rows - first).min(PORTION as u64) as usize * self.k;
                ids.read_rows_f64(first, &mut id[..count])?;
                far.read_rows(first, &mut distance[..count])?;
                indices.extend(id[..count].iter().map(|&id| if id == f64::from(MISSING) { -1 } else { id as i64 }));
                distances.extend_from_slice(&distance[..count]);
            }
            return Ok((indices, distances));
        }
        let graph = GraphInput::open(&self.path)?;
        let (mut ids, mut far) = (vec![0; PORTION * self.k], vec![0.0; PORTION * self.k]);
        for first in (0..self.rows).step_by(PORTION) {
            let count = (self.rows - first).min(PORTION as u64) as usize * self.k;
            graph.read_rows(first, &mut ids[..count], &mut far[..count])?;
            indices.extend(ids[..count].iter().map(|&id| if id == MISSING { -1 } else { i64::from(id) }));
            distances.extend_from_slice(&far[..count]);
        }
        Ok((indices, distances))
    }
}

#[pymethods]
impl PyGraph {
    /// Opens a graph in a file, `.arrow` or `.parquet`.
    #[staticmethod]
    #[pyo3(name = "open")]
    fn open_file(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        raise(py, detached(py, || PyGraph::open(path, None)))
    }

    /// Returns the graph of two arrays: for each row the neighbours, without the row itself and by
    /// ascending distance, and their distances. A neighbour below 0 is none.
    #[staticmethod]
    #[pyo3(signature = (indices, distances, metric=None))]
    fn arrays(
        py: Python<'_>,
        indices: PyReadonlyArray2<'_, i64>,
        distances: PyReadonlyArray2<'_, f32>,
        metric: Option<String>,
    ) -> PyResult<Self> {
        let (indices, distances) = (indices.as_array(), distances.as_array());
        let (rows, k) = indices.dim();
        if distances.dim() != (rows, k) {
            let (others, width) = distances.dim();
            return Err(wrong_argument(
                "distances",
                format!("they are {others} × {width}, and the indices {rows} × {k}"),
            ));
        }
        if rows == 0 || k == 0 {
            return Err(wrong_argument("indices", format!("{rows} rows × {k} neighbours are no graph")));
        }
        let outside =
            detached(py, || indices.iter().find(|&&id| id >= rows as i64 || id >= i64::from(MISSING)).copied());
        if let Some(id) = outside {
            return Err(wrong_argument("indices", format!("{id} is no row of the {rows}")));
        }
        let metric = metric.map(|name| metric_of(&name)).transpose()?;
        let own = Temporary::new(py, None)?;
        let path = own.path().join("graph.arrow");
        watched(py, Watch::default(), None, |watch| {
            let mut writer = GraphWriter::create(&path, k, metric.map_or("", |metric| metric.name()), false)?;
            let (mut ids, mut far) = (Vec::with_capacity(k), Vec::with_capacity(k));
            for row in 0..rows {
                if row % PORTION == 0 && watch.is_stopped() {
                    return Err(lowland_io::Error::Stopped { path: path.clone() }.into());
                }
                ids.clear();
                far.clear();
                for (&id, &distance) in indices.row(row).iter().zip(distances.row(row)) {
                    if id >= 0 {
                        ids.push(id as u32);
                        far.push(distance);
                    }
                }
                ids.resize(k, MISSING);
                far.resize(k, f32::INFINITY);
                writer.write_rows(row as u64, &ids, &far)?;
            }
            writer.finish()?;
            PyGraph::open(path, Some(own))
        })
    }

    /// The row numbers of the source that belong to the graph's rows, int64. They have gaps if rows
    /// were dropped.
    #[getter]
    fn ids<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<i64>>> {
        Ok(PyArray1::from_vec(py, raise(py, detached(py, || self.read_ids()))?))
    }

    /// The neighbours of each row, rows × k, int64, without the row itself; −1 where there are fewer.
    /// They are row numbers of the source.
    #[getter]
    fn indices(&self, py: Python<'_>) -> PyResult<Py<PyArray2<i64>>> {
        let (indices, _) = raise(py, detached(py, || self.read()))?;
        matrix(py, indices, self.k)
    }

    /// Their distances, rows × k, float32; infinite where there are fewer.
    #[getter]
    fn distances(&self, py: Python<'_>) -> PyResult<Py<PyArray2<f32>>> {
        let (_, distances) = raise(py, detached(py, || self.read()))?;
        matrix(py, distances, self.k)
    }

    /// Both, by one pass over the file.
    fn to_numpy(&self, py: Python<'_>) -> PyResult<(Neighbors, Distances)> {
        let (indices, distances) = raise(py, detached(py, || self.read()))?;
        Ok((matrix(py, indices, self.k)?, matrix(py, distances, self.k)?))
    }

    /// The file.
    #[getter(path)]
    fn file(&self) -> PathBuf {
        self.path.clone()
    }

    /// Whether the file is removed with this object.
    #[getter]
    fn is_temporary(&self) -> bool {
        self.own.is_some()
    }

    /// The number of rows.
    #[getter]
    fn rows(&self) -> u64 {
        self.rows
    }

    /// The number of neighbours of each row.
    #[getter]
    fn k(&self) -> usize {
        self.k
    }

    /// The metric of the distances; None if the file does not name it.
    #[getter]
    fn metric(&self) -> Option<String> {
        self.metric.clone()
    }

    /// What the run did; None of a graph that was opened.
    #[getter]
    fn report(&self, py: Python<'_>) -> Option<Py<PyReport>> {
        self.report.as_ref().map(|report| report.clone_ref(py))
    }

    fn __repr__(&self) -> String {
        let metric = self.metric.as_ref().map_or_else(String::new, |metric| format!(", {metric}"));
        format!("<lowland Graph of {} rows × {} neighbours{metric}>", self.rows, self.k)
    }
}

/// Computes the nearest neighbours of every row, to the file `output` or to a temporary one.
#[pyfunction]
#[pyo3(signature = (source, *, options=None, invalid=None, output=None, run_dir=None, restart=false, force=false,
                    callback=None, interrupt=false))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn knn(
    py: Python<'_>,
    source: &Bound<'_, PySource>,
    options: Option<&Bound<'_, PyDict>>,
    invalid: Option<&Bound<'_, PyAny>>,
    output: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    restart: bool,
    force: bool,
    callback: Option<Py<PyAny>>,
    interrupt: bool,
) -> PyResult<PyGraph> {
    let asked = Asked {
        source: Some(source),
        graph: None,
        options,
        id: None,
        keep: None,
        coordinates: None,
        invalid,
        output: output.as_deref(),
        run_dir,
        restart,
    };
    let Request { mut job, .. } = Request::new(py, asked)?;
    let own = if output.is_none() { Some(Temporary::new(py, None)?) } else { None };
    let path = file_of(output, own.as_ref());
    let watch = Watch::of(Some(source.get())).interruptible(py, interrupt, Some(source.get()))?;
    let (report, mut graph) = watched(py, watch, callback.as_ref(), |watch| {
        job.check_rows(watch)?;
        let left_out = job.left_out()?.filter(|left_out| left_out.rows > 0);
        if let Some(note) = left_out.as_ref().and_then(|left_out| left_out.note()) {
            watch.note(note);
        }
        let plan = within_grant(&mut job, |job| job.plan_graph())?;
        let report = job.knn(&plan, &path, force, watch)?;
        let graph = if left_out.is_some_and(|left_out| left_out.invalid == "drop") {
            let metric = Some(plan.settings().metric.name().to_string());
            PyGraph { path, rows: plan.shape().rows, k: plan.k(), metric, is_subset: true, report: None, own }
        } else {
            PyGraph::open(path, own)?
        };
        Ok((report, graph))
    })?;
    graph.report = Some(Py::new(py, PyReport::new(report, &job))?);
    Ok(graph)
}

/// Returns the file of a graph: the one that the user names, or one in a temporary directory.
fn file_of(named: Option<PathBuf>, own: Option<&Temporary>) -> PathBuf {
    named.unwrap_or_else(|| own.map_or_else(PathBuf::new, |own| own.path().join("graph.arrow")))
}
