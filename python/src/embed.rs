//! Maps: as an array, a table or a file, and batch by batch.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::record_batch::RecordBatch;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, bounded};
use lowland::machine::{Machine, plan_within_grant};
use lowland::model::History;
use lowland::{Error, GraphSource, Job, MapFile, MapSink, MapTable, Plan, Report};
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::alive;
use crate::errors::{exception, wrong_argument};
use crate::report::PyReport;
use crate::request::{Asked, Request};
use crate::source::PySource;
use crate::table::{PyBatch, PySchema, PyTable};
use crate::watch::{Outcome, Watch, begin, catching, finish, poll, watched};

/// Batches that wait for Python while the engine goes on.
const BATCHES_AHEAD: usize = 2;
/// The interval at which an engine that waits for Python looks whether it is to stop.
const WAIT: Duration = Duration::from_millis(50);

/// The result of a run: its report, and the map where it is not in a file.
#[pyclass(name = "Result", module = "lowland._lowland", frozen)]
pub(crate) struct PyRunResult {
    report: Py<PyReport>,
    coordinates: Option<Py<PyArray2<f32>>>,
    table: Option<Py<PyTable>>,
}

#[pymethods]
impl PyRunResult {
    /// What the run did.
    #[getter]
    fn report(&self, py: Python<'_>) -> Py<PyReport> {
        self.report.clone_ref(py)
    }

    /// Rows × components of the map, float32, NaN for rows without a position; None unless asked for.
    #[getter]
    fn coordinates(&self, py: Python<'_>) -> Option<Py<PyArray2<f32>>> {
        self.coordinates.as_ref().map(|array| array.clone_ref(py))
    }

    /// The id, the coordinates and the kept columns; None unless asked for.
    #[getter]
    fn table(&self, py: Python<'_>) -> Option<Py<PyTable>> {
        self.table.as_ref().map(|table| table.clone_ref(py))
    }
}

/// Collects coordinates, or scores, in one array.
pub(crate) struct Collected(pub(crate) Vec<f32>);

impl MapSink for Collected {
    fn write(&mut self, _first: u64, rows: &[f32]) -> lowland_engine::Result<()> {
        self.0.extend_from_slice(rows);
        Ok(())
    }
}

/// Returns an array for `rows` × `width` numbers, which takes memory only as it is filled.
pub(crate) fn room<T>(rows: u64, width: usize) -> lowland::Result<Vec<T>> {
    let mut array = Vec::new();
    let count = usize::try_from(rows).ok().and_then(|rows| rows.checked_mul(width));
    match count.map(|count| array.try_reserve_exact(count)) {
        Some(Ok(())) => Ok(array),
        _ => Err(Error::Job { what: format!("an array of {rows} × {width} numbers does not fit; name an output") }),
    }
}

/// Returns the array of Python with these numbers, which are not copied.
pub(crate) fn matrix<T: numpy::Element>(py: Python<'_>, values: Vec<T>, width: usize) -> PyResult<Py<PyArray2<T>>> {
    let rows = values.len() / width.max(1);
    Ok(PyArray1::from_vec(py, values).reshape([rows, width])?.unbind())
}

/// What the engine returns.
enum Made {
    Array(Vec<f32>, usize),
    Table(SchemaRef, Vec<RecordBatch>),
    File,
}

/// Computes a map of a source, a graph, or both.
///
/// `options` has the engine's names; `form` is "array", "table" or "file", or with `model` "none". A run with
/// `run_dir` can be resumed by the same call. With `model` the map is kept as a model in that new directory, which then
/// has the finished stages of a run that was stopped.
#[pyfunction]
#[pyo3(signature = (source=None, *, graph=None, options=None, id=None, keep=None, coordinates=None, invalid=None,
                    output=None, form="array", model=None, run_dir=None, restart=false, force=false, callback=None,
                    interrupt=false))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn embed(
    py: Python<'_>,
    source: Option<&Bound<'_, PySource>>,
    graph: Option<&Bound<'_, PyAny>>,
    options: Option<&Bound<'_, PyDict>>,
    id: Option<String>,
    keep: Option<Vec<String>>,
    coordinates: Option<Vec<String>>,
    invalid: Option<&Bound<'_, PyAny>>,
    output: Option<PathBuf>,
    form: &str,
    model: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    restart: bool,
    force: bool,
    callback: Option<Py<PyAny>>,
    interrupt: bool,
) -> PyResult<PyRunResult> {
    if model.is_some() && (run_dir.is_some() || restart) {
        let argument = if restart { "restart" } else { "run_dir" };
        return Err(wrong_argument(argument, "with `model` the finished stages are kept in the model; leave this out"));
    }
    let asked =
        Asked { source, graph, options, id, keep, coordinates, invalid, output: output.as_deref(), run_dir, restart };
    let Request { mut job, table } = Request::new(py, asked)?;
    let form = match (form, output) {
        ("file", Some(path)) => Form::File(path),
        ("file", None) => return Err(PyValueError::new_err("output: a file needs a name")),
        (_, Some(_)) => return Err(PyValueError::new_err("output: only form=\"file\" has one")),
        ("array", None) => Form::Array,
        ("table", None) => Form::Table,
        ("none", None) if model.is_some() => Form::None,
        (other, None) => {
            return Err(PyValueError::new_err(format!(
                "form: \"{other}\" is not a form; the forms are array, table, file"
            )));
        }
    };
    let watch = Watch::of(source.map(Bound::get)).interruptible(py, interrupt, source.map(Bound::get))?;
    let (report, made) = match model {
        None => {
            let work = |watch: &Watch| make(&mut job, table, form, force, watch);
            let (report, made) = watched(py, watch, callback.as_ref(), work)?;
            (PyReport::new(report, &job), made)
        }
        Some(model) => {
            let column = job.source.as_ref().and_then(|source| source.vector_column());
            let work = |watch: &Watch| make_model(job, table, form, force, &model, watch);
            let (report, made) = watched(py, watch, callback.as_ref(), work)?;
            (PyReport::of_run(&report, column, None), made)
        }
    };
    let report = Py::new(py, report)?;
    let (mut array, mut rows) = (None, None);
    match made {
        Made::Array(values, width) => array = Some(matrix(py, values, width)?),
        Made::Table(schema, batches) => rows = Some(Py::new(py, PyTable { schema, batches })?),
        Made::File => {}
    }
    Ok(PyRunResult { report, coordinates: array, table: rows })
}

enum Form {
    Array,
    Table,
    File(PathBuf),
    None,
}

fn make(job: &mut Job, table: MapTable, form: Form, force: bool, watch: &Watch) -> lowland::Result<(Report, Made)> {
    let plan = prepare(job, watch)?;
    Ok(match form {
        Form::Array => {
            let rows = match job.output_rows()? {
                Some(source) => source.shape().rows,
                // Rows without neighbours may stay in the output.
                None => job.graph.as_ref().map_or(plan.shape().rows, GraphSource::rows),
            };
            let width = plan.settings().n_components;
            let mut array = Collected(room(rows, width)?);
            let report = job.embed_to(&plan, &mut array, watch)?;
            (report, Made::Array(array.0, width))
        }
        Form::Table => {
            let schema = job.map_schema(&plan, &table, watch)?;
            let batches = Arc::new(Mutex::new(Vec::new()));
            let each = {
                let batches = batches.clone();
                move |batch| {
                    batches.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
                    Ok(())
                }
            };
            let report = job.embed_batches(&plan, &table, each, watch)?;
            let batches = std::mem::take(&mut *batches.lock().unwrap_or_else(PoisonError::into_inner));
            let schema = batches.first().map_or(schema, RecordBatch::schema);
            (report, Made::Table(schema, batches))
        }
        Form::File(path) => (job.embed(&plan, &MapFile { path, table, force }, watch)?, Made::File),
        Form::None => return Err(Error::Job { what: "a map without a form is kept as a model only".into() }),
    })
}

/// As [`make`], and keeps the map as a model. A map in memory is read from a hidden file beside the model, which stays if
/// the call is stopped after the run: the same call does not repeat the run.
fn make_model(
    mut job: Job,
    table: MapTable,
    form: Form,
    force: bool,
    model: &Path,
    watch: &Watch,
) -> lowland::Result<(Report, Made)> {
    job.check_model()?;
    lowland::check_local(model)?;
    if let Ok(history) = History::open(model)
        && let Some(last) = history.versions()?.last()
        && history.unfinished()?.is_empty()
    {
        let has = format!("{} is a model with versions up to {} already", model.display(), last.number);
        let why = format!("{has}; name another directory, or bring that model up to date by lowland.Model(…).update");
        return Err(lowland_engine::Error::Config { field: "model", why }.into());
    }
    let plan = prepare(&mut job, watch)?;
    let width = plan.settings().n_components;
    let keep = table.keep.clone();
    let file = match &form {
        Form::Array => Some(MapFile { path: beside(model, "npy"), force: true, ..MapFile::default() }),
        Form::Table => Some(MapFile { path: beside(model, "arrow"), force: true, table }),
        Form::File(path) => Some(MapFile { path: path.clone(), force, table }),
        Form::None => None,
    };
    let report = job.embed_model(model, &keep, file.as_ref(), watch)?.report;
    let made = match (&form, &file) {
        (Form::Array, Some(file)) => Made::Array(read_array(&file.path)?, width),
        (Form::Table, Some(file)) => {
            let (schema, batches) = read_table(&file.path)?;
            Made::Table(schema, batches)
        }
        _ => return Ok((report, Made::File)),
    };
    // What is left is removed by the system, or replaced.
    let _ = file.map(|file| std::fs::remove_file(file.path));
    Ok((report, made))
}

/// Returns the path of a hidden file beside a model, which has the model's name in its own.
fn beside(model: &Path, ending: &str) -> PathBuf {
    let name = model.file_name().unwrap_or_default().to_string_lossy();
    model.with_file_name(format!(".lowland-{name}-map.{ending}"))
}

/// Reads the coordinates in an `.npy`.
fn read_array(path: &Path) -> lowland::Result<Vec<f32>> {
    let source = lowland::open(&[path.to_string_lossy().into_owned()], None)?;
    let shape = source.shape();
    let mut coordinates = room(shape.rows, shape.dim)?;
    coordinates.resize(shape.rows as usize * shape.dim, 0.0);
    source.read_rows(0, &mut coordinates)?;
    Ok(coordinates)
}

/// Reads the batches of an Arrow file.
fn read_table(path: &Path) -> lowland::Result<(SchemaRef, Vec<RecordBatch>)> {
    let wrong = |error: arrow::error::ArrowError| lowland_io::Error::format(path, error.to_string());
    let file = std::fs::File::open(path).map_err(|error| lowland_io::Error::io(path, "open", error))?;
    let reader = FileReader::try_new(file, None).map_err(wrong)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(wrong)?;
    Ok((schema, batches))
}

/// Examines the rows, plans the map and notes what is left out.
pub(crate) fn prepare(job: &mut Job, watch: &Watch) -> lowland::Result<Plan> {
    note_order(job, watch)?;
    job.check_rows(watch)?;
    if let Some(note) = job.left_out()?.and_then(|left_out| left_out.note()) {
        watch.note(note);
    }
    within_grant(job, |job| job.plan())
}

/// Notes what is probably not meant about the files of the source: their order, and streams whose end is
/// missing.
pub(crate) fn note_order(job: &Job, watch: &Watch) -> lowland::Result<()> {
    let Some(source) = &job.source else { return Ok(()) };
    let files = source.fingerprints()?;
    if let Some([first, second]) = lowland_io::out_of_number_order(&files) {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (first, second) = (name(first), name(second));
        watch.note(format!("files are read in the order of their names: {first} comes before {second}"));
    }
    for path in source.endless_streams() {
        let why = "an Arrow stream without an end: if its writer was stopped, rows are missing";
        watch.note(format!("{}: {why}", path.display()));
    }
    Ok(())
}

/// Returns the plan, unless it takes more memory than the machine grants.
pub(crate) fn within_grant(job: &mut Job, plan: impl Fn(&Job) -> lowland::Result<Plan>) -> lowland::Result<Plan> {
    let memory = job.config.memory;
    let planned = plan_within_grant(memory, &Machine::detect(), |memory| {
        job.config.memory = memory;
        plan(job)
    });
    job.config.memory = memory;
    planned
}

/// Computes a map and returns an iterator over its batches, which come while the last stage writes.
/// Everything is checked before this returns; the run begins with the first batch that is asked for.
#[pyfunction]
#[pyo3(signature = (source=None, *, graph=None, options=None, id=None, keep=None, coordinates=None, invalid=None,
                    run_dir=None, restart=false, callback=None))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn embed_batches(
    py: Python<'_>,
    source: Option<&Bound<'_, PySource>>,
    graph: Option<&Bound<'_, PyAny>>,
    options: Option<&Bound<'_, PyDict>>,
    id: Option<String>,
    keep: Option<Vec<String>>,
    coordinates: Option<Vec<String>>,
    invalid: Option<&Bound<'_, PyAny>>,
    run_dir: Option<PathBuf>,
    restart: bool,
    callback: Option<Py<PyAny>>,
) -> PyResult<Batches> {
    let output = None;
    let asked = Asked { source, graph, options, id, keep, coordinates, invalid, output, run_dir, restart };
    let Request { mut job, table } = Request::new(py, asked)?;
    let watch = Watch::of(source.map(Bound::get));
    let (plan, schema) = watched(py, watch, callback.as_ref(), |watch| {
        let plan = prepare(&mut job, watch)?;
        let schema = job.map_schema(&plan, &table, watch)?;
        Ok((plan, schema))
    })?;
    let watch = Arc::new(Watch::of(source.map(Bound::get)));
    let start = Start { job: Arc::new(job), plan, table, source: source.map(|source| source.clone().unbind()) };
    Ok(Batches {
        schema,
        watch,
        callback,
        state: Mutex::new(BatchState::Waiting(Box::new(start))),
        report: Mutex::default(),
    })
}

/// What a run begins with.
struct Start {
    job: Arc<Job>,
    plan: Plan,
    table: MapTable,
    /// The owner of the file of spooled batches, which the run reads.
    source: Option<Py<PySource>>,
}

enum BatchState {
    Waiting(Box<Start>),
    Running {
        job: Arc<Job>,
        batches: Receiver<RecordBatch>,
        outcome: Receiver<Outcome<Report>>,
        #[expect(dead_code, reason = "held while the run reads it")]
        source: Option<Py<PySource>>,
    },
    Done,
}

/// The batches of a map, in the order of the rows.
#[pyclass(name = "Batches", module = "lowland._lowland", frozen)]
pub(crate) struct Batches {
    schema: SchemaRef,
    watch: Arc<Watch>,
    callback: Option<Py<PyAny>>,
    state: Mutex<BatchState>,
    report: Mutex<Option<Py<PyReport>>>,
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.watch.stop();
    }
}

#[pymethods]
impl Batches {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyBatch>> {
        let _alive = begin(py, &self.watch)?;
        // A second thread must not wait here: it would hold the interpreter, which the first one needs.
        let Ok(mut state) = self.state.try_lock() else {
            return Err(PyValueError::new_err("another thread asks for a batch of this run"));
        };
        if let BatchState::Waiting(_) = &*state
            && let BatchState::Waiting(start) = std::mem::replace(&mut *state, BatchState::Done)
        {
            *state = self.begin(*start)?;
        }
        let BatchState::Running { job, batches, outcome, .. } = &*state else { return Ok(None) };
        let (mut raised, callback) = (None, self.callback.as_ref());
        loop {
            match py.detach(|| batches.recv_timeout(WAIT)) {
                Ok(batch) if raised.is_none() => return Ok(Some(PyBatch(batch))),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => poll(py, &self.watch, callback, &mut raised),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let ended = py.detach(|| outcome.recv().ok());
        let ended = finish(py, &self.watch, callback, raised, ended).and_then(|report| {
            let report = Py::new(py, PyReport::new(report, job))?;
            *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            Ok(None)
        });
        *state = BatchState::Done;
        ended
    }

    /// The columns, before the run and without rows.
    #[getter]
    fn schema(&self) -> PySchema {
        PySchema(self.schema.clone())
    }

    /// What the run did; None before its end.
    #[getter]
    fn report(&self, py: Python<'_>) -> Option<Py<PyReport>> {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        report.as_ref().map(|report| report.clone_ref(py))
    }

    /// Stops the run at its next safe point.
    fn close(&self) {
        self.watch.stop();
    }
}

impl Batches {
    /// Starts the engine's thread.
    fn begin(&self, start: Start) -> PyResult<BatchState> {
        let Start { job, plan, table, source } = start;
        let (give, batches) = bounded(BATCHES_AHEAD);
        let (end, outcome) = bounded(1);
        let (running, watch) = (job.clone(), self.watch.clone());
        let alive = alive::enter(Some(watch.stop_handle()));
        let engine = move || {
            let outcome = catching(|| {
                let stop = watch.clone();
                let each = move |batch| hand_over(batch, &give, &stop);
                running.embed_batches(&plan, &table, each, &*watch)
            });
            // Nobody waits for the outcome of a run that was given up.
            let _ = end.send(outcome);
            drop(alive);
        };
        std::thread::Builder::new().name("lowland".into()).spawn(engine)?;
        Ok(BatchState::Running { job, batches, outcome, source })
    }
}

/// Hands a batch to Python, or fails if the run is to stop.
fn hand_over(batch: RecordBatch, to: &crossbeam_channel::Sender<RecordBatch>, watch: &Watch) -> lowland_io::Result<()> {
    let mut batch = batch;
    while !watch.is_stopped() {
        match to.send_timeout(batch, WAIT) {
            Ok(()) => return Ok(()),
            Err(SendTimeoutError::Timeout(back)) => batch = back,
            Err(SendTimeoutError::Disconnected(_)) => break,
        }
    }
    Err(lowland_io::Error::Stopped { path: "the map".into() })
}

/// Returns the exception for an error of a plain call of the library.
pub(crate) fn raise<T>(py: Python<'_>, result: lowland::Result<T>) -> PyResult<T> {
    result.map_err(|error| exception(py, &error))
}
