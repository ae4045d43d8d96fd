//! Sources: arrays and Arrow data in memory, files, and batches that are written to disk once.
//!
//! What must hold: values in memory are shared with Python and not copied; their owner lives as
//! long as the source. Items of an iterator are pulled on the calling thread.

use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, FixedSizeListArray, PrimitiveArray, RecordBatchReader, StructArray,
};
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{
    DataType, Field, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Schema,
    SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use lowland::{Error, MemorySource, Source};
use lowland_io::{IdentifiedSource, OpenOptions, SourceId, Stop, spool_batches};
use numpy::{PyArrayDescrMethods, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3_arrow::input::AnyArray;

use crate::alive::detached;
use crate::embed::matrix;
use crate::errors::{exception, wrong_argument};
use crate::interrupt::Interrupt;
use crate::stream::Stream;
use crate::temporary::Temporary;
use crate::watch::{Watch, begin, catching, watched, watched_by};

/// The column of an array's vectors.
const VECTOR: &str = "vector";

/// Vectors: an array or Arrow data in memory, files, or batches on disk. It does not change and may
/// be used by several runs.
#[pyclass(name = "Source", module = "lowland._lowland", frozen)]
pub(crate) struct PySource {
    pub(crate) source: Arc<dyn Source>,
    /// The name of the components' type.
    dtype: &'static str,
    spool: Option<Spool>,
    /// The number of runs on this source that are stopping, which end waits for object stores.
    stopping: Arc<AtomicUsize>,
    /// Notices SIGINT between the writing of the batches and the first run on them.
    interrupt: Mutex<Option<Interrupt>>,
}

/// Batches on disk.
struct Spool {
    #[expect(dead_code, reason = "held until the source is dropped")]
    directory: Temporary,
    bytes: u64,
}

impl PySource {
    fn of(source: Arc<dyn Source>) -> Self {
        let dtype = source.dtype().name();
        PySource { source, dtype, spool: None, stopping: Arc::default(), interrupt: Mutex::default() }
    }

    /// Returns what notices SIGINT since the batches were written; `None` after the first call.
    pub(crate) fn take_interrupt(&self) -> Option<Interrupt> {
        self.interrupt.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the number of runs on this source that are stopping.
    pub(crate) fn stopping(&self) -> Arc<AtomicUsize> {
        self.stopping.clone()
    }
}

#[pymethods]
impl PySource {
    /// Opens files, directories, globs or addresses. `column` names the column of the vectors.
    #[staticmethod]
    #[pyo3(signature = (paths, column=None))]
    fn paths(py: Python<'_>, paths: Vec<PathBuf>, column: Option<String>) -> PyResult<Self> {
        let paths = paths.into_iter().map(text_of).collect::<PyResult<Vec<_>>>()?;
        let stopping = Arc::new(AtomicUsize::new(0));
        let source = watched(py, Watch::default(), None, |watch| {
            let (flag, runs) = (watch.flag(), stopping.clone());
            let stop = Stop::when(move || flag.load(Ordering::Relaxed) || runs.load(Ordering::Relaxed) > 0);
            lowland::open_with(&paths, &OpenOptions { column, stop: Some(stop), ..OpenOptions::default() })
        })?;
        Ok(PySource { stopping, ..PySource::of(source) })
    }

    /// Returns the source of a two-dimensional array of numbers, which is not copied and must not
    /// change while the source exists. `name` is what errors call it.
    #[staticmethod]
    #[pyo3(signature = (values, name="X"))]
    fn array(py: Python<'_>, values: &Bound<'_, PyAny>, name: &str) -> PyResult<Self> {
        let (numbers, dim, dtype) = share(values, name)?;
        let source = detached(py, || {
            catching(|| {
                let batch = of_rows(name, numbers, dim)?;
                Ok(MemorySource::new(name, batch.schema(), vec![batch], &OpenOptions::default())?)
            })
        });
        let source = source.map_err(|panic| crate::errors::from_panic(py, panic.as_ref()))?;
        let source = source.map_err(|error| exception(py, &error))?;
        Ok(PySource { dtype, ..PySource::of(Arc::new(source)) })
    }

    /// Returns the source of Arrow data in memory: an object with `__arrow_c_stream__` or
    /// `__arrow_c_array__`, which is not copied. `column` names the column of the vectors.
    #[staticmethod]
    #[pyo3(signature = (data, column=None, name="data"))]
    fn arrow(py: Python<'_>, data: &Bound<'_, PyAny>, column: Option<String>, name: &str) -> PyResult<Self> {
        let (stream, watch) = (Stream::new(data, name)?, Watch::default());
        let _alive = begin(py, &watch)?;
        let (schema, mut batches) = (stream.schema(), Vec::new());
        while let Some(batch) = stream.next(py, &watch)? {
            batches.push(batch);
            py.check_signals()?;
        }
        let source = watched(py, Watch::default(), None, |_| {
            let options = OpenOptions { column, ..OpenOptions::default() };
            Ok(MemorySource::new(name, schema, batches, &options)?)
        })?;
        Ok(PySource::of(Arc::new(source)))
    }

    /// Returns the source of batches that can be read only once: an iterator of two-dimensional
    /// arrays or of Arrow data, or one object with `__arrow_c_stream__`. They are written to a
    /// temporary file in `directory`, which is removed with the source.
    #[staticmethod]
    #[pyo3(signature = (batches, column=None, directory=None, name="batches", interrupt=false))]
    fn spool(
        py: Python<'_>,
        batches: &Bound<'_, PyAny>,
        column: Option<String>,
        directory: Option<PathBuf>,
        name: &str,
        interrupt: bool,
    ) -> PyResult<Self> {
        let watch = Watch::default().interruptible(py, interrupt, None)?;
        let _alive = begin(py, &watch)?;
        let mut pulled = Pulled::new(batches, name, &watch)?;
        let Some(first) = pulled.next().transpose()? else {
            return Err(PyValueError::new_err(format!("{name}: has no rows")));
        };
        let schema = first.schema();
        let directory = Temporary::new(py, directory.as_deref())?;
        let file = directory.path().join("batches.arrow");
        let path = text_of(file.clone())?;
        let all = std::iter::once(Ok(first)).chain(pulled.map(|batch| batch.map_err(Failed::Python)));
        spool_batches(name, &schema, all, &file).map_err(|failed| match failed {
            Failed::Python(raised) => raised,
            Failed::Library(error) => exception(py, &error),
        })?;
        watch.check_signals(py)?;
        let spool = Spool { directory, bytes: std::fs::metadata(&file)?.len() };
        let source: Arc<dyn Source> = watched_by(py, &watch, None, |watch| {
            let source = lowland::open(&[path], column.as_deref())?;
            Ok(Arc::new(IdentifiedSource::new(source, SourceId::of_content(&file, name, || watch.is_stopped())?)))
        })?;
        let interrupt = Mutex::new(watch.into_interrupt());
        Ok(PySource { spool: Some(spool), interrupt, ..PySource::of(source) })
    }

    /// The number of vectors.
    #[getter]
    fn rows(&self) -> u64 {
        self.source.shape().rows
    }

    /// The number of components of a vector.
    #[getter]
    fn dim(&self) -> usize {
        self.source.shape().dim
    }

    /// The components' type, such as "f32".
    #[getter]
    fn dtype(&self) -> &'static str {
        self.dtype
    }

    /// The names of all columns.
    #[getter]
    fn columns(&self) -> Vec<String> {
        self.source.columns()
    }

    /// Returns a text that is the same in every process for the same rows: of files their names, lengths and
    /// times, of rows in memory and of batches a checksum. None if no later rows can be recognised.
    fn identity(&self, py: Python<'_>) -> PyResult<Option<String>> {
        let source = &self.source;
        watched(py, Watch::of(Some(self)), None, |_| {
            let id = source.id()?;
            Ok(id.is_lasting().then(|| format!("{:?} {:?}", id.into_fingerprints(), source.vector_column())))
        })
    }

    /// The bytes on disk of batches that could be read only once; 0 for other sources.
    #[getter]
    fn spooled_bytes(&self) -> u64 {
        self.spool.as_ref().map_or(0, |spool| spool.bytes)
    }

    /// Returns the rows from `start` to before `stop`, rows × components: float32, or float64 for the
    /// `dtype` "f8".
    #[pyo3(signature = (start, stop, dtype="f4"))]
    fn read<'py>(&self, py: Python<'py>, start: u64, stop: u64, dtype: &str) -> PyResult<Bound<'py, PyAny>> {
        let shape = self.source.shape();
        if start > stop || stop > shape.rows {
            return Err(PyValueError::new_err(format!("rows {start} to {stop} are not among the {}", shape.rows)));
        }
        let count = (stop - start) as usize * shape.dim;
        let source = &self.source;
        match dtype {
            "f4" => {
                let rows = watched(py, Watch::of(Some(self)), None, |_| {
                    let mut rows = vec![0f32; count];
                    Ok(source.read_rows(start, &mut rows).map(|()| rows)?)
                })?;
                Ok(matrix(py, rows, shape.dim)?.into_bound(py).into_any())
            }
            "f8" => {
                let rows = watched(py, Watch::of(Some(self)), None, |_| {
                    let mut rows = vec![0f64; count];
                    Ok(source.read_rows_f64(start, &mut rows).map(|()| rows)?)
                })?;
                Ok(matrix(py, rows, shape.dim)?.into_bound(py).into_any())
            }
            other => {
                Err(PyValueError::new_err(format!("dtype: \"{other}\" is not a choice; the choices are f4 and f8")))
            }
        }
    }

    fn __repr__(&self) -> String {
        let shape = self.source.shape();
        format!("<lowland Source of {} rows × {} of {}>", shape.rows, shape.dim, self.dtype)
    }
}

/// The owner of memory that is shared with Python. When it is dropped, the array may be freed.
struct Owner(#[expect(dead_code, reason = "held for its lifetime")] Py<PyAny>);

/// The object is only dropped, which leaves no state behind if it fails.
impl std::panic::RefUnwindSafe for Owner {}

/// Returns the numbers of a two-dimensional array without a copy, its number of columns, and the
/// name of its type.
fn share(values: &Bound<'_, PyAny>, name: &str) -> PyResult<(ArrayRef, usize, &'static str)> {
    let wrong = |what: String| PyValueError::new_err(format!("{name}: {what}"));
    let array = values.cast::<PyUntypedArray>().map_err(|_| {
        let kind = values.get_type().qualname().map_or_else(|_| "object".into(), |name| name.to_string());
        PyTypeError::new_err(format!("{name}: a NumPy array is expected, not {kind}"))
    })?;
    let dtype = array.dtype();
    let shape = array.shape();
    let &[rows, dim] = shape else {
        return Err(wrong(format!(
            "an array of 2 dimensions is expected, rows × components, not {}; reshape(-1, 1) makes one column of a list",
            shape.len()
        )));
    };
    if rows == 0 || dim == 0 {
        return Err(wrong(format!("has no numbers: {rows} rows × {dim} components")));
    }
    let (kind, bytes) = (dtype.kind(), dtype.itemsize());
    if dtype.is_native_byteorder() == Some(false) {
        return Err(wrong(
            "the numbers are byte-swapped; convert them with X.astype(X.dtype.newbyteorder(\"=\"))".into(),
        ));
    }
    if !array.is_c_contiguous() {
        return Err(wrong("the rows are not contiguous; copy them with numpy.ascontiguousarray".into()));
    }
    if !array.is_aligned() {
        return Err(wrong("the numbers are not aligned; copy them with numpy.array".into()));
    }
    // SAFETY: the array is not a null pointer, and NumPy does not move its data.
    #[expect(unsafe_code, reason = "the pointer of the array's data")]
    let data = unsafe { (*array.as_array_ptr()).data };
    let pointer = NonNull::new(data.cast::<u8>()).ok_or_else(|| wrong("has no data".into()))?;
    let owner = Arc::new(Owner(values.clone().unbind()));
    // SAFETY: the array has rows × dim contiguous values of `bytes` bytes from `pointer` on, and
    // lives as long as its owner. That nobody writes to it meanwhile is the caller's promise.
    #[expect(unsafe_code, reason = "memory of NumPy")]
    let buffer = unsafe { Buffer::from_custom_allocation(pointer, rows * dim * bytes, owner) };
    Ok(match (kind, bytes) {
        (b'f', 2) => (numbers::<Float16Type>(buffer), dim, "f16"),
        (b'f', 4) => (numbers::<Float32Type>(buffer), dim, "f32"),
        (b'f', 8) => (numbers::<Float64Type>(buffer), dim, "f64"),
        (b'i', 1) => (numbers::<Int8Type>(buffer), dim, "i8"),
        (b'i', 2) => (numbers::<Int16Type>(buffer), dim, "i16"),
        (b'i', 4) => (numbers::<Int32Type>(buffer), dim, "i32"),
        (b'i', 8) => (numbers::<Int64Type>(buffer), dim, "i64"),
        (b'u', 1) => (numbers::<UInt8Type>(buffer), dim, "u8"),
        (b'u', 2) => (numbers::<UInt16Type>(buffer), dim, "u16"),
        (b'u', 4) => (numbers::<UInt32Type>(buffer), dim, "u32"),
        (b'u', 8) => (numbers::<UInt64Type>(buffer), dim, "u64"),
        // A byte of 0 or 1 for each.
        (b'b', 1) => (numbers::<UInt8Type>(buffer), dim, "bool"),
        _ => {
            let dtype = dtype.as_any().str().map_or_else(|_| String::new(), |text| text.to_string());
            return Err(wrong(format!(
                "numbers of the type {dtype} cannot be read; those that can are float16, float32, float64, integers and bool"
            )));
        }
    })
}

fn numbers<T: ArrowPrimitiveType>(buffer: Buffer) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(buffer), None))
}

/// Returns the batch of rows of `dim` numbers each.
fn of_rows(name: &str, numbers: ArrayRef, dim: usize) -> lowland::Result<RecordBatch> {
    let wrong = |what: String| Error::from(lowland_io::Error::format(name, what));
    let width = i32::try_from(dim).map_err(|_| wrong(format!("vectors of {dim} components cannot be read")))?;
    let item = Arc::new(Field::new("item", numbers.data_type().clone(), false));
    let rows = FixedSizeListArray::try_new(item, width, numbers, None).map_err(|error| wrong(error.to_string()))?;
    let schema = Arc::new(Schema::new(vec![Field::new(VECTOR, rows.data_type().clone(), false)]));
    RecordBatch::try_new(schema, vec![Arc::new(rows)]).map_err(|error| wrong(error.to_string()))
}

/// Reads the batches of an object with `__arrow_c_stream__` or `__arrow_c_array__`. An array that is
/// no table is a column of vectors.
pub(crate) fn reader_of(data: &Bound<'_, PyAny>) -> PyResult<Box<dyn RecordBatchReader + Send>> {
    let reader = data.extract::<AnyArray>()?.into_reader()?;
    let field = reader.field();
    let (schema, table): (SchemaRef, bool) = match field.data_type() {
        DataType::Struct(fields) => (Arc::new(Schema::new(fields.clone())), true),
        _ => (Arc::new(Schema::new(vec![field.as_ref().clone().with_name(VECTOR)])), false),
    };
    let of = schema.clone();
    let batches = reader.map(move |array| {
        let array = array?;
        if !table {
            return RecordBatch::try_new(of.clone(), vec![array]);
        }
        let rows = array.as_any().downcast_ref::<StructArray>();
        let rows = rows.ok_or_else(|| ArrowError::CDataInterface("a table is expected".into()))?;
        if rows.null_count() > 0 {
            return Err(ArrowError::CDataInterface("some rows of the table are null as a whole".into()));
        }
        // The fields are those of the schema, whatever this array calls them nullable.
        let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(of.clone(), rows.columns().to_vec(), &options)
    });
    Ok(Box::new(arrow::array::RecordBatchIterator::new(batches, schema)))
}

/// A failure while batches are pulled and written.
enum Failed {
    Python(PyErr),
    Library(Error),
}

impl From<lowland_io::Error> for Failed {
    fn from(error: lowland_io::Error) -> Self {
        Failed::Library(error.into())
    }
}

/// Batches of Python, one after the other.
struct Pulled<'a, 'py> {
    py: Python<'py>,
    watch: &'a Watch,
    /// The iterator; `None` of a single stream.
    iterator: Option<Bound<'py, PyAny>>,
    stream: Option<Stream>,
    name: String,
    count: usize,
}

impl<'a, 'py> Pulled<'a, 'py> {
    fn new(batches: &Bound<'py, PyAny>, name: &str, watch: &'a Watch) -> PyResult<Self> {
        let py = batches.py();
        let name = name.to_string();
        if batches.hasattr("__arrow_c_stream__")? || batches.hasattr("__arrow_c_array__")? {
            let stream = Some(Stream::new(batches, &name)?);
            return Ok(Pulled { py, watch, iterator: None, stream, name, count: 0 });
        }
        let iterator = batches.try_iter()?.into_any();
        Ok(Pulled { py, watch, iterator: Some(iterator), stream: None, name, count: 0 })
    }

    /// Returns the next batch that has rows.
    fn pull(&mut self) -> PyResult<Option<RecordBatch>> {
        loop {
            self.watch.check_signals(self.py)?;
            if let Some(stream) = &self.stream {
                match stream.next(self.py, self.watch)? {
                    Some(batch) if batch.num_rows() == 0 => {}
                    Some(batch) => return Ok(Some(batch)),
                    None => self.stream = None,
                }
                continue;
            }
            let Some(iterator) = &self.iterator else { return Ok(None) };
            let Some(item) = iterator.try_iter()?.next().transpose()? else { return Ok(None) };
            let name = format!("{}, batch {}", self.name, self.count);
            self.count += 1;
            if item.hasattr("__arrow_c_stream__")? || item.hasattr("__arrow_c_array__")? {
                self.stream = Some(Stream::new(&item, &self.name)?);
                continue;
            }
            if item.getattr("shape").and_then(|shape| shape.get_item(0)?.extract::<usize>()).is_ok_and(|rows| rows == 0)
            {
                continue;
            }
            let (numbers, dim, _) = share(&item, &name)?;
            return of_rows(&name, numbers, dim).map(Some).map_err(|error| exception(self.py, &error));
        }
    }
}

impl Iterator for Pulled<'_, '_> {
    type Item = Result<RecordBatch, PyErr>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pull().transpose()
    }
}

/// Returns a path as text.
///
/// # Errors
/// `ValueError` for bytes that are not UTF-8: manifests and reports, which name the files, are text.
fn text_of(path: PathBuf) -> PyResult<String> {
    path.into_os_string().into_string().map_err(|path| {
        let path = path.to_string_lossy().into_owned();
        wrong_argument("path", format!("the name {path} is not UTF-8; rename the file, or the directory that holds it"))
    })
}
