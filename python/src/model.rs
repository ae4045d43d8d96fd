//! Stored models: rows on their maps, their versions, and updates.
//!
//! What must hold: options, columns and names are those of the command line; what a call tells is the JSON that the
//! command line prints.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use lowland::machine::{Machine, plan_within_grant};
use lowland::model::{
    ExportJob, Gate, History, Kept, Model, MoveRows, PlacedRowsInMemory, RefitWhen, Retention, TransformJob,
    TransformReport, UpdateJob, UpdateMode,
};
use lowland::{MapFile, MapTable, RunOptions};
use numpy::{PyArray1, PyArray2};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::{Value, json};

use crate::embed::matrix;
use crate::errors::wrong_argument;
use crate::ids::to_numpy;
use crate::look::objects;
use crate::options::{config, named};
use crate::report::PyReport;
use crate::request::{check_kept, invalid as invalid_of};
use crate::source::PySource;
use crate::table::PyTable;
use crate::watch::{Watch, watched};

/// A version of a stored model, opened for reading.
#[pyclass(name = "Model", module = "lowland._lowland", frozen)]
pub(crate) struct PyModel(Arc<Model>);

#[pymethods]
impl PyModel {
    /// Opens a version of the model in the directory `path`: a number, with or without @, or a tag. Default: the
    /// current version.
    #[staticmethod]
    #[pyo3(signature = (path, version=None))]
    fn open(py: Python<'_>, path: PathBuf, version: Option<String>) -> PyResult<Self> {
        let open = |_: &Watch| Ok(PyModel(Arc::new(Model::open_version(&path, version.as_deref())?)));
        watched(py, Watch::default(), None, open)
    }

    /// The directory.
    #[getter]
    fn path(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }

    /// The number of the version.
    #[getter]
    fn version(&self) -> u64 {
        self.0.number()
    }

    /// The number of rows of the map.
    #[getter]
    fn rows(&self) -> u64 {
        self.0.rows()
    }

    /// The number of components of a vector.
    #[getter]
    fn dim(&self) -> usize {
        self.0.snapshot().dim()
    }

    /// The number of components of the map.
    #[getter]
    fn n_components(&self) -> usize {
        self.0.snapshot().n_components()
    }

    /// The name of the method.
    #[getter]
    fn method(&self) -> &'static str {
        self.0.options().settings.method.name()
    }

    /// The column of the vectors in the source of the map; None if it had no columns with names.
    #[getter]
    fn column(&self) -> Option<String> {
        self.0.options().column.clone()
    }

    /// The column of the ids; None if rows are named by their numbers.
    #[getter]
    fn id(&self) -> Option<String> {
        self.0.options().id.clone()
    }

    /// The columns that the model keeps of each row.
    #[getter]
    fn kept(&self) -> Vec<String> {
        self.0.options().kept.clone()
    }

    /// The options of the map, as the version keeps them.
    fn options<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        objects(py, &self.0.options().to_value())
    }

    /// Places the rows of a source on the map. `options` has memory, threads and batch_rows; `form` is "array", "table" or
    /// "file"; with `ids` an array has the ids of its rows beside it. A transform with `run_dir`, or to a file, is continued
    /// by the same call.
    #[pyo3(signature = (source, *, options=None, id=None, keep=None, coordinates=None, invalid=None, output=None,
                        form="array", ids=false, run_dir=None, restart=false, force=false, callback=None,
                        interrupt=false))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn transform(
        &self,
        py: Python<'_>,
        source: &Bound<'_, PySource>,
        options: Option<&Bound<'_, PyDict>>,
        id: Option<String>,
        keep: Option<Vec<String>>,
        coordinates: Option<Vec<String>>,
        invalid: Option<&Bound<'_, PyAny>>,
        output: Option<PathBuf>,
        form: &str,
        ids: bool,
        run_dir: Option<PathBuf>,
        restart: bool,
        force: bool,
        callback: Option<Py<PyAny>>,
        interrupt: bool,
    ) -> PyResult<PyPlaced> {
        let given = config(options)?;
        let table = MapTable { keep: keep.unwrap_or_default(), coordinates: coordinates.unwrap_or_default() };
        check_kept(id.as_ref(), &table.keep)?;
        let mut job = TransformJob::new(self.0.clone(), source.get().source.clone());
        (job.memory, job.threads, job.batch_rows) = (given.memory, given.threads, given.batch_rows);
        job.id = id;
        job.invalid = invalid.map(invalid_of).transpose()?.unwrap_or_default();
        job.run = match (run_dir, &output) {
            (Some(dir), _) => RunOptions { dir: Some(dir), ..RunOptions::default() },
            (None, Some(output)) => RunOptions::beside(output),
            (None, None) => RunOptions::default(),
        };
        job.run.restart = restart;
        if ids && form != "array" {
            return Err(wrong_argument(
                "return_ids",
                "a table and a file have the ids as a column; take form=\"array\"",
            ));
        }
        let form = match (form, output) {
            ("file", Some(path)) => Form::File(MapFile { path, table, force }),
            ("file", None) => return Err(PyValueError::new_err("output: a file needs a name")),
            (_, Some(_)) => return Err(PyValueError::new_err("output: only form=\"file\" has one")),
            ("array", None) => Form::Array { ids },
            ("table", None) => Form::Table(table),
            (other, None) => {
                return Err(PyValueError::new_err(format!(
                    "form: \"{other}\" is not a form; the forms are array, table, file"
                )));
            }
        };
        let watch = Watch::of(Some(source.get())).interruptible(py, interrupt, Some(source.get()))?;
        let (report, placed) = watched(py, watch, callback.as_ref(), |watch| place(&mut job, form, watch))?;
        let mut found = PyPlaced::of(Py::new(py, told(&report))?);
        match placed {
            Placed::Array { coordinates, outlier, ids, width } => {
                found.ids = ids.map(|ids| to_numpy(py, &ids)).transpose()?;
                found.coordinates = Some(matrix(py, coordinates, width)?);
                found.outlier = Some(PyArray1::from_vec(py, outlier).unbind());
            }
            Placed::Table(table) => found.table = Some(Py::new(py, table)?),
            Placed::File => {}
        }
        Ok(found)
    }

    /// Returns the positions of the rows as an array, with `ids` beside their ids.
    #[pyo3(signature = (*, ids=false))]
    fn positions<'py>(&self, py: Python<'py>, ids: bool) -> PyResult<(Bound<'py, PyAny>, Option<Py<PyAny>>)> {
        let (path, number) = (self.0.path(), self.0.number().to_string());
        let (coordinates, ids) = watched(py, Watch::default(), None, |_| {
            let job = ExportJob { model: Model::open_version(path, Some(&number))? };
            Ok((job.coordinates(), ids.then(|| job.ids()).transpose()?))
        })?;
        let coordinates = matrix(py, coordinates, self.0.snapshot().n_components())?;
        let ids = ids.map(|ids| to_numpy(py, &ids)).transpose()?;
        Ok((coordinates.into_bound(py).into_any(), ids))
    }

    /// Returns the version as a table, or None if it is written to the file `output`.
    #[pyo3(signature = (*, output=None, coordinates=None, force=false, callback=None))]
    fn export(
        &self,
        py: Python<'_>,
        output: Option<PathBuf>,
        coordinates: Option<Vec<String>>,
        force: bool,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<PyPlaced> {
        let table = MapTable { coordinates: coordinates.unwrap_or_default(), ..MapTable::default() };
        if output.is_none() && !table.coordinates.is_empty() {
            return Err(wrong_argument("coordinates", "only the columns of a file have other names; name an output"));
        }
        let (path, number) = (self.0.path(), self.0.number().to_string());
        let (report, table) = watched(py, Watch::default(), callback.as_ref(), |watch| {
            let job = ExportJob { model: Model::open_version(path, Some(&number))? };
            if let Some(path) = output {
                return Ok((job.write(&MapFile { path, table, force }, watch)?, None));
            }
            let collected = Collected::default();
            let report = job.batches(collected.take(), watch)?;
            let batches = collected.batches();
            let schema = batches.first().map_or_else(|| job.schema(), RecordBatch::schema);
            Ok((report, Some(PyTable { schema, batches })))
        })?;
        let full = serde_json::to_value(&report).unwrap_or_default();
        let report = Py::new(py, PyReport::of(report.to_string(), full))?;
        let table = table.map(|table| Py::new(py, table)).transpose()?;
        Ok(PyPlaced { table, ..PyPlaced::of(report) })
    }

    fn __repr__(&self) -> String {
        format!("<lowland Model {}, version {}, {} rows>", self.0.path().display(), self.0.number(), self.0.rows())
    }
}

/// Rows with their positions, where they are not in a file, and the report.
#[pyclass(name = "Placed", module = "lowland._lowland", frozen)]
pub(crate) struct PyPlaced {
    report: Py<PyReport>,
    coordinates: Option<Py<PyArray2<f32>>>,
    outlier: Option<Py<PyArray1<f32>>>,
    ids: Option<Py<PyAny>>,
    table: Option<Py<PyTable>>,
}

impl PyPlaced {
    /// Returns a report without rows.
    fn of(report: Py<PyReport>) -> Self {
        PyPlaced { report, coordinates: None, outlier: None, ids: None, table: None }
    }
}

#[pymethods]
impl PyPlaced {
    /// What the call did.
    #[getter]
    fn report(&self, py: Python<'_>) -> Py<PyReport> {
        self.report.clone_ref(py)
    }

    /// Rows × components, float32, NaN for rows without a position; None unless asked for.
    #[getter]
    fn coordinates(&self, py: Python<'_>) -> Option<Py<PyArray2<f32>>> {
        self.coordinates.as_ref().map(|array| array.clone_ref(py))
    }

    /// The outlier score of each row, float32; None without coordinates.
    #[getter]
    fn outlier(&self, py: Python<'_>) -> Option<Py<PyArray1<f32>>> {
        self.outlier.as_ref().map(|array| array.clone_ref(py))
    }

    /// The ids of the rows, an array of one dimension; None unless asked for.
    #[getter]
    fn ids(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.ids.as_ref().map(|ids| ids.clone_ref(py))
    }

    /// The columns as a table; None unless asked for.
    #[getter]
    fn table(&self, py: Python<'_>) -> Option<Py<PyTable>> {
        self.table.as_ref().map(|table| table.clone_ref(py))
    }
}

enum Form {
    Array { ids: bool },
    Table(MapTable),
    File(MapFile),
}

enum Placed {
    Array { coordinates: Vec<f32>, outlier: Vec<f32>, ids: Option<ArrayRef>, width: usize },
    Table(PyTable),
    File,
}

/// Batches that a job hands over.
#[derive(Clone, Default)]
struct Collected(Arc<Mutex<Vec<RecordBatch>>>);

impl Collected {
    fn take(&self) -> impl FnMut(RecordBatch) -> lowland_io::Result<()> + Send + 'static {
        let batches = self.0.clone();
        move |batch| {
            batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
            Ok(())
        }
    }

    fn batches(&self) -> Vec<RecordBatch> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn place(job: &mut TransformJob, form: Form, watch: &Watch) -> lowland::Result<(TransformReport, Placed)> {
    job.check_rows(watch)?;
    if let Some(note) = job.left_out()?.and_then(|left_out| left_out.note()) {
        watch.note(note);
    }
    let memory = job.memory;
    plan_within_grant(memory, &Machine::detect(), |memory| {
        job.memory = memory;
        job.plan()
    })?;
    job.memory = memory;
    Ok(match form {
        Form::Array { ids } => {
            // Read first: a column that is not there is told before any row is placed.
            let ids = ids.then(|| job.ids(watch)).transpose()?;
            let PlacedRowsInMemory { coordinates, outlier, n_components, report } = job.run(watch)?;
            (report, Placed::Array { coordinates, outlier, ids, width: n_components })
        }
        Form::Table(table) => {
            let schema = job.schema(&table, watch)?;
            let collected = Collected::default();
            let report = job.batches(&table, collected.take(), watch)?;
            let batches = collected.batches();
            let schema = batches.first().map_or(schema, RecordBatch::schema);
            (report, Placed::Table(PyTable { schema, batches }))
        }
        Form::File(file) => (job.write(&file, watch)?, Placed::File),
    })
}

fn told(report: &TransformReport) -> PyReport {
    let mut full = serde_json::to_value(report).unwrap_or_default();
    if let Some(fields) = full.as_object_mut() {
        fields.insert("peak_memory".into(), json!(report.peak()));
    }
    PyReport::of(report.to_string(), full)
}

/// The versions of a model, the oldest first, as `lowland versions --json` prints them.
#[pyfunction]
pub(crate) fn model_versions(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let found = watched(py, Watch::default(), None, |_| {
        let versions = History::open(&path)?.versions()?;
        Ok(Value::from(versions.iter().map(Kept::to_json).collect::<Vec<_>>()))
    })?;
    objects(py, &found)
}

/// How two versions differ, as `lowland diff --json` prints it.
#[pyfunction]
#[pyo3(signature = (path, first, second=None))]
pub(crate) fn model_diff(
    py: Python<'_>,
    path: PathBuf,
    first: String,
    second: Option<String>,
) -> PyResult<Bound<'_, PyAny>> {
    let found = watched(py, Watch::default(), None, |watch| {
        let second = second.as_deref().unwrap_or("current");
        Ok(json!(History::open(&path)?.diff(&first, second, watch)?))
    })?;
    objects(py, &found)
}

fn history(path: &std::path::Path, wait: bool) -> lowland::Result<History> {
    let mut history = History::open(path)?;
    history.wait = wait;
    Ok(history)
}

/// Makes the content of an earlier version current, as a new version. Returns its number.
#[pyfunction]
#[pyo3(signature = (path, to, *, wait=true))]
pub(crate) fn model_rollback(py: Python<'_>, path: PathBuf, to: String, wait: bool) -> PyResult<u64> {
    watched(py, Watch::default(), None, |watch| history(&path, wait)?.rollback(&to, watch))
}

/// Gives a version a tag, and returns its number. Without a version the current one gets it.
#[pyfunction]
#[pyo3(signature = (path, name, version=None, *, wait=true))]
pub(crate) fn model_tag(
    py: Python<'_>,
    path: PathBuf,
    name: String,
    version: Option<String>,
    wait: bool,
) -> PyResult<u64> {
    watched(py, Watch::default(), None, |watch| history(&path, wait)?.tag(&name, version.as_deref(), watch))
}

/// Removes a tag; the version stays.
#[pyfunction]
#[pyo3(signature = (path, name, *, wait=true))]
pub(crate) fn model_untag(py: Python<'_>, path: PathBuf, name: String, wait: bool) -> PyResult<()> {
    watched(py, Watch::default(), None, |watch| history(&path, wait)?.untag(&name, watch))
}

/// Removes old versions and the files that only they need. Returns what was removed, as `lowland gc --json` prints it.
#[pyfunction]
#[pyo3(signature = (path, keep, *, keep_tagged=true, dry_run=false, wait=true))]
pub(crate) fn model_gc(
    py: Python<'_>,
    path: PathBuf,
    keep: usize,
    keep_tagged: bool,
    dry_run: bool,
    wait: bool,
) -> PyResult<Bound<'_, PyAny>> {
    let found = watched(py, Watch::default(), None, |watch| {
        let removed = history(&path, wait)?.collect(Retention { keep, tagged: keep_tagged }, dry_run, watch)?;
        let mut full = json!(removed);
        if let Some(fields) = full.as_object_mut() {
            fields.insert("dry_run".into(), json!(dry_run));
        }
        Ok(full)
    })?;
    objects(py, &found)
}

/// Compares every file of a model with its checksum. Returns those that are damaged, with what is wrong.
#[pyfunction]
pub(crate) fn model_verify(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let found = watched(py, Watch::default(), None, |watch| {
        let damage = History::open(&path)?.verify(watch)?;
        Ok(damage.iter().map(|one| json!({"file": one.file, "what": one.what})).collect::<Value>())
    })?;
    objects(py, &found)
}

/// Brings a model up to date with the whole current table, or with a table of `changes`. Returns the report as `lowland
/// update --json` prints it, and the text under "text". `options` has memory and threads.
#[pyfunction]
#[pyo3(signature = (path, source, *, options=None, changes=false, id=None, mode=None, r#move=None, gates=None,
                    run_id=None, max_shrink=0.2, refit_when=None, invalid=None, metrics_file=None, wait=true, callback=None))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn model_update<'py>(
    py: Python<'py>,
    path: PathBuf,
    source: &Bound<'py, PySource>,
    options: Option<&Bound<'py, PyDict>>,
    changes: bool,
    id: Option<String>,
    mode: Option<&Bound<'py, PyAny>>,
    r#move: Option<&Bound<'py, PyAny>>,
    gates: Option<Vec<String>>,
    run_id: Option<String>,
    max_shrink: f64,
    refit_when: Option<String>,
    invalid: Option<&Bound<'py, PyAny>>,
    metrics_file: Option<PathBuf>,
    wait: bool,
    callback: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let given = config(options)?;
    let mut job = UpdateJob::new(path, source.get().source.clone());
    (job.memory, job.threads, job.wait) = (given.memory, given.threads, wait);
    (job.id, job.run_id, job.metrics_file, job.changes) = (id, run_id, metrics_file, changes);
    if let Some(mode) = mode {
        job.mode = named("mode", mode, &UpdateMode::ALL, UpdateMode::name)?;
    }
    if let Some(moving) = r#move {
        job.moving = named("move", moving, &MoveRows::ALL, MoveRows::name)?;
    }
    for text in gates.iter().flatten() {
        job.gates.extend(Gate::parse_all(text).map_err(|why| wrong_argument("gates", why))?);
    }
    if let Some(text) = refit_when {
        job.refit = text.parse::<RefitWhen>().map_err(|why| wrong_argument("refit_when", why))?;
    }
    if !(0.0..=1.0).contains(&max_shrink) {
        return Err(wrong_argument("max_shrink", format!("{max_shrink} is not a share; give a number from 0 to 1")));
    }
    job.max_shrink = max_shrink;
    job.invalid = invalid.map(invalid_of).transpose()?.unwrap_or_default();
    let watch = Watch::of(Some(source.get()));
    let found = watched(py, watch, callback.as_ref(), |watch| {
        let report = job.run(watch)?;
        let mut full = json!(report);
        if let Some(fields) = full.as_object_mut() {
            fields.insert("text".into(), json!(report.to_string()));
        }
        Ok(full)
    })?;
    objects(py, &found)
}
