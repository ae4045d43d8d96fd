//! Principal components: of a source, and of batches in memory.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use lowland::pca::{ExactIncrementalPca, IncrementalPca, Kernel, KernelPca, Pca, PcaConfig, PcaError, PcaJob, Solver};
use lowland::{Error, Metric};
use numpy::{PyArray1, PyArray2, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

use crate::alive::detached;
use crate::embed::{Collected, matrix, room};
use crate::errors::wrong_argument;
use crate::options::{count, memory, metric, named};
use crate::request::{check_kept, invalid as invalid_of};
use crate::source::PySource;
use crate::watch::{Watch, watched};

const SOLVERS: [Solver; 4] = [Solver::Auto, Solver::Covariance, Solver::Incremental, Solver::Randomized];

fn refused(error: &PcaError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// Returns the rows of an array, and their number of components.
fn rows_of<'a>(array: &'a PyReadonlyArray2<'_, f32>) -> PyResult<(&'a [f32], usize)> {
    let dim = array.shape()[1];
    match array.as_slice() {
        Ok(rows) => Ok((rows, dim)),
        Err(_) => Err(PyValueError::new_err("the rows are not contiguous; copy them with numpy.ascontiguousarray")),
    }
}

/// Rows that are projected at a time have about this many components.
const PORTION: usize = 1 << 20;

/// Returns `values` as an array of two dimensions in C order: of `dtype`, converted if need be.
fn converted<'py, T: numpy::Element>(
    values: &Bound<'py, PyAny>,
    name: &str,
    dtype: &str,
) -> PyResult<PyReadonlyArray2<'py, T>> {
    let numpy = values.py().import("numpy")?;
    let options = PyDict::new(values.py());
    options.set_item("dtype", dtype)?;
    let array = numpy.call_method("asarray", (values,), Some(&options))?;
    let array = numpy.call_method1("ascontiguousarray", (array,))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    if shape.len() != 2 {
        return Err(wrong_argument(name, format!("an array of 2 dimensions is expected, not of the shape {shape:?}")));
    }
    Ok(array.extract::<PyReadonlyArray2<'py, T>>()?)
}

/// Returns the values of an array in C order.
fn values_of<'a, T: numpy::Element>(array: &'a PyReadonlyArray2<'_, T>) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Principal components: a mean and axes of rows as `metric` prepares them. All numbers are those of the
/// data, in float64.
#[pyclass(name = "PcaModel", module = "lowland._lowland", frozen)]
pub(crate) struct PcaModel {
    pca: Pca,
    metric: Metric,
}

#[pymethods]
impl PcaModel {
    /// The mean of the rows.
    #[getter]
    fn mean<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.pca.mean)
    }

    /// The axes, n_components × components of a row, orthonormal, by descending variance.
    #[getter]
    fn components(&self, py: Python<'_>) -> PyResult<Py<PyArray2<f64>>> {
        matrix(py, self.pca.components.clone(), self.pca.dim())
    }

    /// The variance along each axis, with the divisor n − 1.
    #[getter]
    fn explained_variance<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, &self.pca.variance)
    }

    /// The variance along each axis as a share of the total variance.
    #[getter]
    fn explained_variance_ratio<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_vec(py, self.pca.explained_variance_ratio())
    }

    /// The variance of the data over all axes.
    #[getter]
    fn total_variance(&self) -> f64 {
        self.pca.total_variance
    }

    /// The number of axes.
    #[getter]
    fn n_components(&self) -> usize {
        self.pca.n_components()
    }

    /// Returns the scores of rows, rows × components of any type of numbers: float32. The rows are
    /// prepared as those of the fit: for cosine and correlation they get length 1.
    fn transform(&self, py: Python<'_>, rows: &Bound<'_, PyAny>) -> PyResult<Py<PyArray2<f32>>> {
        let rows = converted::<f64>(rows, "rows", "float64")?;
        self.check(rows.shape()[1], self.pca.dim())?;
        let values = values_of(&rows)?;
        let scores = watched(py, Watch::default(), None, |watch| Ok(self.project(values, watch)))?;
        matrix(py, scores.map_err(|error| refused(&error))?, self.pca.n_components())
    }

    /// Returns the rows with these scores, float32.
    fn inverse_transform(&self, py: Python<'_>, scores: &Bound<'_, PyAny>) -> PyResult<Py<PyArray2<f32>>> {
        let scores = converted::<f32>(scores, "scores", "float32")?;
        self.check(scores.shape()[1], self.pca.n_components())?;
        let values = values_of(&scores)?;
        let rows = detached(py, || self.pca.inverse_transform(values)).map_err(|error| refused(&error))?;
        matrix(py, rows, self.pca.dim())
    }

    /// Returns the components whose scores have variance 1 along every axis.
    fn whitened(&self) -> PyResult<Self> {
        let pca = self.pca.whitened().map_err(|error| refused(&error))?;
        Ok(PcaModel { pca, metric: self.metric })
    }
}

impl PcaModel {
    fn check(&self, found: usize, expected: usize) -> PyResult<()> {
        match found == expected {
            true => Ok(()),
            false => Err(refused(&PcaError::Width { expected, found })),
        }
    }

    /// Returns the scores of `rows`, which are centred in double precision, so that rows far from zero
    /// lose no digits.
    fn project(&self, rows: &[f64], watch: &Watch) -> Result<Vec<f32>, PcaError> {
        let dim = self.pca.dim();
        if let Some(at) = rows.iter().position(|value| !value.is_finite()) {
            let (row, component) = ((at / dim) as u64, at % dim);
            return Err(PcaError::NotFiniteAt { row, component, value: rows[at] as f32 });
        }
        let centred = Pca { mean: vec![0.0; dim], ..self.pca.clone() };
        let mut scores = Vec::with_capacity(rows.len() / dim * self.pca.n_components());
        for portion in rows.chunks((PORTION / dim).max(1) * dim) {
            if watch.is_stopped() {
                break;
            }
            let mut portion = portion.to_vec();
            for row in portion.chunks_exact_mut(dim) {
                prepare(self.metric, row);
                row.iter_mut().zip(&self.pca.mean).for_each(|(value, mean)| *value -= mean);
            }
            let portion: Vec<f32> = portion.into_iter().map(|value| value as f32).collect();
            scores.extend(centred.transform(&portion)?);
        }
        Ok(scores)
    }
}

/// Prepares a row as [`Metric::prepare`], in double precision.
fn prepare(metric: Metric, row: &mut [f64]) {
    if !matches!(metric, Metric::Cosine | Metric::Correlation) {
        return;
    }
    if metric == Metric::Correlation {
        // The mean of equal numbers may round to a different number.
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let mean = if row.iter().all(|value| *value == row[0]) { row[0] } else { mean };
        row.iter_mut().for_each(|value| *value -= mean);
    }
    let norm = row.iter().map(|value| value * value).sum::<f64>().sqrt();
    if norm > 0.0 {
        row.iter_mut().for_each(|value| *value /= norm);
    }
}

/// The result of `pca`: the components, the scores unless they are in a file, and the report.
#[pyclass(name = "PcaResult", module = "lowland._lowland", frozen)]
pub(crate) struct PcaResult {
    model: Py<PcaModel>,
    scores: Option<Py<PyArray2<f32>>>,
    text: String,
    full: Value,
}

#[pymethods]
impl PcaResult {
    /// The components.
    #[getter]
    fn model(&self, py: Python<'_>) -> Py<PcaModel> {
        self.model.clone_ref(py)
    }

    /// The scores of the rows, float32; None if they are in a file.
    #[getter]
    fn scores(&self, py: Python<'_>) -> Option<Py<PyArray2<f32>>> {
        self.scores.as_ref().map(|scores| scores.clone_ref(py))
    }

    /// The report for people.
    #[getter]
    fn text(&self) -> &str {
        &self.text
    }

    /// The report as JSON.
    fn to_json(&self) -> String {
        self.full.to_string()
    }

    fn __getattr__(&self, py: Python<'_>, name: &str) -> PyResult<Py<PyAny>> {
        self.model.getattr(py, name)
    }

    fn __repr__(&self) -> &str {
        &self.text
    }
}

/// Returns the options of `dict`. By default there are two components, or one of vectors with one.
fn config_of(options: Option<&Bound<'_, PyDict>>, dim: usize) -> PyResult<PcaConfig> {
    let mut config = PcaConfig { memory: crate::options::config(None)?.memory, ..PcaConfig::default() };
    config.n_components = config.n_components.min(dim);
    for (name, value) in options.into_iter().flat_map(|options| options.iter()) {
        let name: String = name.extract()?;
        if value.is_none() {
            continue;
        }
        match name.as_str() {
            "n_components" => config.n_components = count(&name, &value)?,
            "solver" => config.solver = named(&name, &value, &SOLVERS, Solver::name)?,
            "whiten" => config.whiten = value.is_truthy()?,
            "metric" => config.metric = metric(&value.extract::<String>()?)?,
            "seed" => config.seed = count(&name, &value)? as u64,
            "threads" => config.threads = Some(count(&name, &value)?),
            "batch_rows" => config.batch_rows = Some(count(&name, &value)?),
            "memory" => config.memory = memory(&value)?,
            other => return Err(wrong_argument(other, "there is no such option of principal components")),
        }
    }
    Ok(config)
}

/// Computes principal components of a source and the scores of its rows: to the file `output`, or in
/// memory. `options` has n_components, solver, whiten, metric, seed, threads, batch_rows and memory.
#[pyfunction]
#[pyo3(signature = (source, *, options=None, id=None, keep=None, coordinates=None, invalid=None, output=None,
                    components=None, force=false, callback=None, interrupt=false))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn pca(
    py: Python<'_>,
    source: &Bound<'_, PySource>,
    options: Option<&Bound<'_, PyDict>>,
    id: Option<String>,
    keep: Option<Vec<String>>,
    coordinates: Option<Vec<String>>,
    invalid: Option<&Bound<'_, PyAny>>,
    output: Option<PathBuf>,
    components: Option<PathBuf>,
    force: bool,
    callback: Option<Py<PyAny>>,
    interrupt: bool,
) -> PyResult<PcaResult> {
    let mut job = PcaJob::new(source.get().source.clone(), output.clone().unwrap_or_default());
    job.config = config_of(options, source.get().source.shape().dim)?;
    job.invalid = invalid.map(invalid_of).transpose()?.unwrap_or_default();
    (job.keep, job.coordinates) = (keep.unwrap_or_default(), coordinates.unwrap_or_default());
    check_kept(id.as_ref(), &job.keep)?;
    (job.id, job.components, job.force) = (id, components, force);
    if output.is_none() && (job.components.is_some() || !job.keep.is_empty() || job.id.is_some()) {
        return Err(wrong_argument("output", "id, keep and components belong to a file; name it"));
    }
    let watch = Watch::of(Some(source.get())).interruptible(py, interrupt, Some(source.get()))?;
    let (model, report, scores) = watched(py, watch, callback.as_ref(), |watch| {
        job.check_rows(watch)?;
        if let Some(left_out) = job.left_out()?.filter(|left_out| left_out.rows > 0) {
            if let Some(note) = left_out.note() {
                watch.note(note);
            }
            if output.is_none() && left_out.invalid == "null" {
                return Err(Error::Job { what: "invalid=\"null\" needs an `output`".into() });
            }
        }
        let plan = job.plan()?;
        if output.is_some() {
            let (model, report) = job.run(&plan, watch)?;
            return Ok((model, report, None));
        }
        let mut scores = Collected(room(plan.shape.rows, plan.config.n_components)?);
        let (model, report) = job.run_to(&plan, &mut scores, watch)?;
        Ok((model, report, Some(scores.0)))
    })?;
    let width = model.n_components();
    let scores = scores.map(|scores| matrix(py, scores, width)).transpose()?;
    let full = serde_json::to_value(&report).unwrap_or_default();
    Ok(PcaResult {
        model: Py::new(py, PcaModel { pca: model, metric: job.config.metric })?,
        scores,
        text: report.to_string(),
        full,
    })
}

/// Principal components of batches that come one after the other, as scikit-learn's `IncrementalPCA`.
#[pyclass(name = "IncrementalPca", module = "lowland._lowland", frozen)]
pub(crate) struct PyIncrementalPca(Mutex<IncrementalPca>);

#[pymethods]
impl PyIncrementalPca {
    #[new]
    #[pyo3(signature = (n_components=None))]
    fn new(n_components: Option<usize>) -> Self {
        PyIncrementalPca(Mutex::new(IncrementalPca::new(n_components)))
    }

    /// Adds a batch of rows.
    fn partial_fit(&self, py: Python<'_>, rows: PyReadonlyArray2<'_, f32>) -> PyResult<()> {
        let (rows, dim) = rows_of(&rows)?;
        detached(py, || self.lock().partial_fit(rows, dim)).map_err(|error| refused(&error))
    }

    /// The number of rows so far.
    #[getter]
    fn count(&self) -> u64 {
        self.lock().count()
    }

    /// Returns the components of the rows so far.
    fn pca(&self) -> PyResult<PcaModel> {
        let pca = self.lock().pca().map_err(|error| refused(&error))?;
        Ok(PcaModel { pca, metric: Metric::Euclidean })
    }
}

impl PyIncrementalPca {
    fn lock(&self) -> std::sync::MutexGuard<'_, IncrementalPca> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Exact principal components by two passes over batches: first the mean, then the covariance.
#[pyclass(name = "ExactIncrementalPca", module = "lowland._lowland", frozen)]
pub(crate) struct PyExactIncrementalPca {
    dim: usize,
    fit: Mutex<Option<ExactIncrementalPca>>,
}

#[pymethods]
impl PyExactIncrementalPca {
    #[new]
    fn new(dim: usize) -> Self {
        PyExactIncrementalPca { dim, fit: Mutex::new(Some(ExactIncrementalPca::new(dim))) }
    }

    /// Adds a batch of the first pass.
    fn partial_mean(&self, py: Python<'_>, rows: PyReadonlyArray2<'_, f32>) -> PyResult<()> {
        let rows = self.rows(&rows)?;
        detached(py, || self.with(|fit| fit.partial_mean(rows)))
    }

    /// Adds a batch of the second pass.
    fn partial_fit(&self, py: Python<'_>, rows: PyReadonlyArray2<'_, f32>) -> PyResult<()> {
        let rows = self.rows(&rows)?;
        detached(py, || self.with(|fit| fit.partial_fit(rows)))
    }

    /// Returns the mean of the rows of the first pass.
    fn mean<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray1<f64>>> {
        Ok(PyArray1::from_vec(py, self.with(|fit| fit.mean())?))
    }

    /// Returns the components, after which no batch can be added.
    fn finish(&self, py: Python<'_>, n_components: usize) -> PyResult<PcaModel> {
        let fit = self.fit.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fit = fit.ok_or_else(finished)?;
        let pca = detached(py, || fit.finish(n_components)).map_err(|error| refused(&error))?;
        Ok(PcaModel { pca, metric: Metric::Euclidean })
    }
}

fn finished() -> PyErr {
    PyValueError::new_err("the components are finished; begin anew")
}

impl PyExactIncrementalPca {
    fn rows<'a>(&self, rows: &'a PyReadonlyArray2<'_, f32>) -> PyResult<&'a [f32]> {
        let (rows, found) = rows_of(rows)?;
        match found == self.dim {
            true => Ok(rows),
            false => Err(refused(&PcaError::Width { expected: self.dim, found })),
        }
    }

    fn with<T>(&self, call: impl FnOnce(&mut ExactIncrementalPca) -> Result<T, PcaError>) -> PyResult<T> {
        let mut fit = self.fit.lock().unwrap_or_else(PoisonError::into_inner);
        call(fit.as_mut().ok_or_else(finished)?).map_err(|error| refused(&error))
    }
}

/// Principal components in the feature space of a kernel, of small data.
#[pyclass(name = "KernelPca", module = "lowland._lowland", frozen)]
pub(crate) struct PyKernelPca {
    pca: KernelPca,
    dim: usize,
}

#[pymethods]
impl PyKernelPca {
    /// Computes the components of rows. `kernel` is linear, gaussian (exp(−d² / sigma)), polynomial,
    /// cosine or precomputed; at most `n_components` of them, None for all.
    #[staticmethod]
    #[pyo3(signature = (rows, kernel, n_components=None, *, sigma=1.0, degree=3, gamma=1.0, coef0=1.0))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn fit(
        py: Python<'_>,
        rows: PyReadonlyArray2<'_, f32>,
        kernel: &str,
        n_components: Option<usize>,
        sigma: f64,
        degree: u32,
        gamma: f64,
        coef0: f64,
    ) -> PyResult<Self> {
        let kernel = match kernel {
            "linear" => Kernel::Linear,
            "gaussian" => Kernel::Gaussian { sigma },
            "polynomial" => Kernel::Polynomial { degree, gamma, coef0 },
            "cosine" => Kernel::Cosine,
            "precomputed" => Kernel::Precomputed,
            other => {
                let why = format!(
                    "\"{other}\" is not a kernel; the kernels are linear, gaussian, polynomial, cosine, precomputed"
                );
                return Err(wrong_argument("kernel", why));
            }
        };
        let (rows, dim) = rows_of(&rows)?;
        let pca = detached(py, || KernelPca::fit(kernel, rows, dim, n_components)).map_err(|error| refused(&error))?;
        Ok(PyKernelPca { pca, dim })
    }

    /// The eigenvalues of the centred kernel matrix, descending.
    #[getter]
    fn eigenvalues<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<f64>> {
        PyArray1::from_slice(py, self.pca.eigenvalues())
    }

    /// Returns the scores of the fitted rows, float32.
    fn scores(&self, py: Python<'_>) -> PyResult<Py<PyArray2<f32>>> {
        matrix(py, self.pca.scores(), self.pca.n_components())
    }

    /// Returns the scores of other rows, float32.
    fn transform(&self, py: Python<'_>, rows: PyReadonlyArray2<'_, f32>) -> PyResult<Py<PyArray2<f32>>> {
        let (rows, found) = rows_of(&rows)?;
        if found != self.dim {
            return Err(refused(&PcaError::Width { expected: self.dim, found }));
        }
        let scores = detached(py, || self.pca.transform(rows)).map_err(|error| refused(&error))?;
        matrix(py, scores, self.pca.n_components())
    }
}
