//! Errors of the library as exceptions of Python.
//!
//! What must hold: options are named as Python's arguments (`memory_limit`, `random_state`), not as
//! the library's fields; bad input is a `ValueError`, a failed system call an `OSError`, a budget
//! that is too small a `BudgetError`.

use std::error::Error as _;

use lowland::{Error, SpaceUse};
use pyo3::exceptions::{PyException, PyFileExistsError, PyFileNotFoundError, PyMemoryError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyTuple, PyType};

/// The arguments of Python that have another name than the library's field.
const NAMES: [(&str, &str); 4] =
    [("disk", "disk_limit"), ("memory", "memory_limit"), ("seed", "random_state"), ("threads", "n_jobs")];

static LOWLAND_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static BUDGET_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// Returns the class `LowlandError`.
pub(crate) fn lowland_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let class = LOWLAND_ERROR.get_or_try_init(py, || {
        let doc =
            "A run that failed for a reason other than its input: a damaged run directory, a GPU, lowland itself.";
        new_class(py, "LowlandError", doc, PyTuple::new(py, [py.get_type::<PyException>()])?)
    })?;
    Ok(class.bind(py))
}

/// Returns the class `BudgetError`.
pub(crate) fn budget_error(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    let class = BUDGET_ERROR.get_or_try_init(py, || {
        let doc = "A memory budget that is too small for the run. `needed` has the bytes of the smallest budget \
                   that is enough, `budget` the bytes of the given one.";
        let bases = PyTuple::new(py, [lowland_error(py)?.clone(), py.get_type::<PyMemoryError>()])?;
        new_class(py, "BudgetError", doc, bases)
    })?;
    Ok(class.bind(py))
}

fn new_class(py: Python<'_>, name: &str, doc: &str, bases: Bound<'_, PyTuple>) -> PyResult<Py<PyType>> {
    let members = PyDict::new(py);
    members.set_item("__module__", "lowland")?;
    members.set_item("__doc__", doc)?;
    Ok(py.get_type::<PyType>().call1((name, bases, members))?.cast_into::<PyType>()?.unbind())
}

/// Returns the exception for an error of the library.
pub(crate) fn exception(py: Python<'_>, error: &Error) -> PyErr {
    make(py, error).unwrap_or_else(|failed| failed)
}

fn make(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    use lowland_engine::Error as Engine;
    use lowland_io::Error as Io;
    use lowland_model::Error as Model;
    let text = message(error);
    Ok(match error {
        Error::Engine(Engine::Budget { asked, needed, .. } | Engine::AllPairs { asked, needed, .. }) => {
            budget(py, text, *needed, *asked)?
        }
        Error::Grant { error: inner, .. } => match inner.as_ref() {
            Error::Engine(Engine::Budget { asked, needed, .. } | Engine::AllPairs { asked, needed, .. }) => {
                budget(py, text, *needed, *asked)?
            }
            _ => PyValueError::new_err(text),
        },
        Error::Engine(Engine::Io(Io::Exists { .. })) => PyFileExistsError::new_err(text),
        Error::Engine(Engine::Io(Io::NoFiles { .. })) => PyFileNotFoundError::new_err(text),
        Error::Model(Model::NotAModel { path, .. }) if !path.exists() => PyFileNotFoundError::new_err(text),
        Error::Model(Model::ReadOnly { source, .. }) => match source.raw_os_error() {
            Some(code) => PyOSError::new_err((code, text)),
            None => PyOSError::new_err(text),
        },
        Error::Space { .. } => PyOSError::new_err((28, text)),
        _ if error.is_system() => match system_code(error) {
            Some(code) => PyOSError::new_err((code, text)),
            None => PyOSError::new_err(text),
        },
        _ if error.is_bad_input() => PyValueError::new_err(text),
        _ => PyErr::from_value(lowland_error(py)?.call1((text,))?),
    })
}

fn budget(py: Python<'_>, text: String, needed: u64, budget: u64) -> PyResult<PyErr> {
    let value = budget_error(py)?.call1((text,))?;
    value.setattr("needed", needed)?;
    value.setattr("budget", budget)?;
    Ok(PyErr::from_value(value))
}

/// Returns the exception for a panic, which is an error of lowland itself.
pub(crate) fn from_panic(py: Python<'_>, panic: &(dyn std::any::Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    failure(py, format!("an error of lowland itself, which should be reported: {text}"))
}

/// Returns a `LowlandError` with this text.
pub(crate) fn failure(py: Python<'_>, text: String) -> PyErr {
    lowland_error(py).and_then(|class| class.call1((text,))).map_or_else(|failed| failed, PyErr::from_value)
}

/// Returns a `ValueError` about an argument.
pub(crate) fn wrong_argument(field: &str, why: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("{}: {why}", argument(field)))
}

/// Returns the operating system's number of the error that is the cause.
fn system_code(error: &Error) -> Option<i32> {
    let mut cause = error.source();
    while let Some(found) = cause {
        if let Some(system) = found.downcast_ref::<std::io::Error>() {
            return system.raw_os_error();
        }
        cause = found.source();
    }
    None
}

/// Returns the error's text, with the way out in Python's words.
pub(crate) fn message(error: &Error) -> String {
    use lowland_engine::Error as Engine;
    let mut text = match error {
        Error::Engine(Engine::Config { why, .. }) => why.clone(),
        Error::Space { what: SpaceUse::Run | SpaceUse::Transform, directory, needed, free } => format!(
            "{}: the run will need {} there, and {} are free; make space, or name a `run_dir` on another disk (without \
             one a run is in the directory that the environment variable TMPDIR names)",
            directory.display(),
            lowland::format_bytes(*needed),
            lowland::format_bytes(*free)
        ),
        error => error.to_string(),
    };
    if let Some(field) = error.option() {
        text = format!("{}: {text}", argument(field));
    }
    let set = |field: &str, value: &str| format!("{}=\"{value}\"", argument(field));
    let advice = match error {
        // A call from Python keeps no stages, so that it cannot keep fewer.
        Error::Engine(Engine::Disk { needed, .. }) => {
            Some(format!("give {}", set("disk", &format!("{}MiB", needed.div_ceil(1 << 20)))))
        }
        error => error.advice(set),
    };
    if let Some(advice) = advice {
        text = format!("{text}; {advice}");
    }
    with_arguments(&text)
}

/// Returns the argument of Python for a field of the library's options.
pub(crate) fn argument(field: &str) -> &str {
    NAMES.iter().find(|(name, _)| *name == field).map_or(field, |(_, argument)| argument)
}

/// Returns `text` with Python's names for the options that it names in backquotes.
pub(crate) fn with_arguments(text: &str) -> String {
    let mut with = String::with_capacity(text.len());
    for (i, part) in text.split('`').enumerate() {
        if i > 0 {
            with.push('`');
        }
        with.push_str(if i % 2 == 1 { argument(part) } else { part });
    }
    with
}
