//! Graphs of nearest neighbours.

use std::path::{Path, PathBuf};

use lowland::{Error, GraphInput, GraphSource};
use lowland_io::{GraphWriter, MISSING};
use numpy::{PyArray2, PyReadonlyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::embed::{matrix, raise, room, within_grant};
use crate::errors::wrong_argument;
use crate::options::metric as metric_of;
use crate::report::PyReport;
use crate::request::{Asked, Request};
use crate::source::{PySource, temporary};
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
    report: Option<Py<PyReport>>,
    /// The directory of a graph that has no name, which is removed with it.
    own: Option<PathBuf>,
}

impl Drop for PyGraph {
    fn drop(&mut self) {
        if let Some(directory) = &self.own {
            // A directory of temporary files: a failure to remove it harms nobody.
            let _ = std::fs::remove_dir_all(directory);
        }
    }
}

impl PyGraph {
    fn open(path: PathBuf, own: Option<PathBuf>) -> lowland::Result<Self> {
        let graph = GraphInput::open(&path)?;
        let metric = graph.metric().map(|metric| metric.name().to_string());
        Ok(PyGraph { rows: graph.rows(), k: graph.k(), metric, path, report: None, own })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the neighbours and distances of all rows; −1 and infinity where there is none.
    fn read(&self) -> lowland::Result<(Vec<i64>, Vec<f32>)> {
        let graph = GraphInput::open(&self.path)?;
        let (mut indices, mut distances) = (room::<i64>(self.rows, self.k)?, room::<f32>(self.rows, self.k)?);
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
        raise(py, py.detach(|| PyGraph::open(path, None)))
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
        let outside = indices.iter().find(|&&id| id >= rows as i64 || id >= i64::from(MISSING));
        if let Some(id) = outside {
            return Err(wrong_argument("indices", format!("{id} is no row of the {rows}")));
        }
        let metric = metric.map(|name| metric_of(&name)).transpose()?;
        let directory = temporary(None)?;
        let path = directory.join("graph.arrow");
        let write = || -> lowland::Result<PyGraph> {
            let mut writer = GraphWriter::create(&path, k, metric.map_or("", |metric| metric.name()), false)?;
            let (mut ids, mut far) = (Vec::with_capacity(k), Vec::with_capacity(k));
            for row in 0..rows {
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
            PyGraph::open(path.clone(), Some(directory.clone()))
        };
        let graph = write();
        if graph.is_err() {
            // A directory of temporary files: a failure to remove it harms nobody.
            let _ = std::fs::remove_dir_all(&directory);
        }
        raise(py, graph)
    }

    /// The neighbours of each row, rows × k, int64, without the row itself; −1 where there are fewer.
    #[getter]
    fn indices(&self, py: Python<'_>) -> PyResult<Py<PyArray2<i64>>> {
        let (indices, _) = raise(py, py.detach(|| self.read()))?;
        matrix(py, indices, self.k)
    }

    /// Their distances, rows × k, float32; infinite where there are fewer.
    #[getter]
    fn distances(&self, py: Python<'_>) -> PyResult<Py<PyArray2<f32>>> {
        let (_, distances) = raise(py, py.detach(|| self.read()))?;
        matrix(py, distances, self.k)
    }

    /// Both, by one pass over the file.
    fn to_numpy(&self, py: Python<'_>) -> PyResult<(Neighbors, Distances)> {
        let (indices, distances) = raise(py, py.detach(|| self.read()))?;
        Ok((matrix(py, indices, self.k)?, matrix(py, distances, self.k)?))
    }

    /// The file.
    #[getter(path)]
    fn file(&self) -> PathBuf {
        self.path.clone()
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
    let own = if output.is_none() { Some(temporary(None)?) } else { None };
    let path = match (&output, &own) {
        (Some(path), _) => path.clone(),
        (None, Some(directory)) => directory.join("graph.arrow"),
        (None, None) => return Err(PyValueError::new_err("output: none")),
    };
    let watch = Watch::of(Some(source.get())).interruptible(py, interrupt)?;
    let made = watched(py, watch, callback.as_ref(), |watch| {
        job.check_rows(watch)?;
        let left_out = job.left_out()?.filter(|left_out| left_out.rows > 0);
        if let Some(left_out) = left_out {
            if let Some(note) = left_out.note() {
                watch.note(note);
            }
            if left_out.invalid == "drop" && output.is_none() {
                return Err(Error::Job {
                    what:
                        "invalid=\"drop\" leaves rows out, so that neighbours are numbers of the source's rows: name \
                           an `output`, whose column id has them"
                            .into(),
                });
            }
        }
        let plan = within_grant(&mut job, |job| job.plan_graph())?;
        let report = job.knn(&plan, &path, force, watch)?;
        Ok((report, left_out_rows(&job)?))
    });
    let (report, dropped) = match made {
        Ok(made) => made,
        Err(raised) => {
            if let Some(directory) = &own {
                // A directory of temporary files: a failure to remove it harms nobody.
                let _ = std::fs::remove_dir_all(directory);
            }
            return Err(raised);
        }
    };
    let report = Py::new(py, PyReport::new(report, &job))?;
    if dropped {
        // A file of rows with ids of their own: it is for other programs.
        let shape = job.source.as_ref().map_or(0, |source| source.shape().rows);
        return Ok(PyGraph { path, rows: shape, k: 0, metric: None, report: Some(report), own });
    }
    let mut graph = raise(py, py.detach(|| PyGraph::open(path, own)))?;
    graph.report = Some(report);
    Ok(graph)
}

/// Returns whether the output lacks rows of the source.
fn left_out_rows(job: &lowland::Job) -> lowland::Result<bool> {
    Ok(job.left_out()?.is_some_and(|left_out| left_out.rows > 0 && left_out.invalid == "drop"))
}
