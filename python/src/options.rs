//! Options: a dict of Python becomes a [`Config`], and the engine's table of options a list of
//! Python.

use lowland::budget::{Memory, parse_memory, parse_size};
use lowland::machine::Machine;
use lowland::{
    Config, Device, Init, MatchLoss, Method, MethodOption, Metric, NamedAffinity, NamedMapAffinity, Optimizer,
};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyString};

use crate::errors::wrong_argument;

/// Returns the options of `dict`, whose keys are the fields of [`Config`]. A value that is None
/// stands for the default.
pub(crate) fn config(dict: Option<&Bound<'_, PyDict>>) -> PyResult<Config> {
    let memory = Memory::DEFAULT.bytes(&Machine::detect());
    let mut config = Config::default();
    config.memory = memory.unwrap_or(config.memory);
    for (name, value) in dict.into_iter().flat_map(|dict| dict.iter()) {
        let name: String = name.extract()?;
        if !value.is_none() {
            set(&mut config, &name, &value)?;
        }
    }
    Ok(config)
}

fn set(config: &mut Config, name: &str, value: &Bound<'_, PyAny>) -> PyResult<()> {
    match name {
        "method" => config.method = method(&text(name, value)?)?,
        "n_neighbors" => config.n_neighbors = Some(count(name, value)?),
        "perplexity" => config.perplexity = Some(number(name, value)?),
        "n_components" => config.n_components = Some(count(name, value)?),
        "min_dist" => config.min_dist = Some(number(name, value)?),
        "spread" => config.spread = Some(number(name, value)?),
        "metric" => config.metric = Some(metric(&text(name, value)?)?),
        "init" => config.init = Some(init(value)?),
        "n_epochs" => config.n_epochs = Some(count(name, value)?),
        "negative_sample_rate" => config.negative_sample_rate = Some(count(name, value)?),
        "n_negatives" => config.n_negatives = Some(count(name, value)?),
        "early_exaggeration" => config.early_exaggeration = Some(number(name, value)? as f32),
        "optimizer" => config.optimizer = Some(named(name, value, &Optimizer::ALL, Optimizer::name)?),
        "affinity" => config.affinity = Some(named(name, value, &NamedAffinity::ALL, NamedAffinity::name)?),
        "map_affinity" => {
            config.map_affinity = Some(named(name, value, &NamedMapAffinity::ALL, NamedMapAffinity::name)?);
        }
        "loss" => config.loss = Some(named(name, value, &MatchLoss::ALL, MatchLoss::name)?),
        "learning_rate" => config.learning_rate = Some(number(name, value)? as f32),
        "recall" => config.recall = number(name, value)?,
        "seed" => config.seed = count(name, value)? as u64,
        "threads" => config.threads = Some(count(name, value)?),
        "batch_rows" => config.batch_rows = Some(count(name, value)?),
        "memory" => config.memory = memory(value)?,
        "device" => config.device = text(name, value)?.parse::<Device>().map_err(|why| wrong_argument(name, why))?,
        "device_memory" => config.device_memory = Some(size(name, value)?),
        "disk" => config.disk = Some(size(name, value)?),
        "checkpoint" => config.checkpoint = number(name, value)?,
        other => return Err(wrong_argument(other, "there is no such option")),
    }
    Ok(())
}

fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.extract().map_err(|_| wrong_argument(name, format!("a text is expected, not {}", shown(value))))
}

/// Returns a whole number that is not negative, of any type with `__index__`.
pub(crate) fn count(name: &str, value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let wrong = || wrong_argument(name, format!("a whole number, 0 or more, is expected, not {}", shown(value)));
    if value.is_instance_of::<PyBool>() {
        return Err(wrong());
    }
    value.extract().map_err(|_| wrong())
}

/// Returns a number, of any type with `__float__`.
pub(crate) fn number(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    let wrong = || wrong_argument(name, format!("a number is expected, not {}", shown(value)));
    if value.is_instance_of::<PyBool>() || value.is_instance_of::<PyString>() {
        return Err(wrong());
    }
    value.extract().map_err(|_| wrong())
}

/// Returns a size in bytes: a number, or a text such as "4GiB".
pub(crate) fn size(name: &str, value: &Bound<'_, PyAny>) -> PyResult<u64> {
    match value.extract::<String>() {
        Ok(text) => parse_size(&text).map_err(|why| wrong_argument(name, why)),
        Err(_) => Ok(count(name, value)? as u64),
    }
}

/// Returns a memory budget in bytes: a number, or a text such as "4GiB" or "25%".
pub(crate) fn memory(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let Ok(text) = value.extract::<String>() else { return Ok(count("memory", value)? as u64) };
    let memory = parse_memory(&text).map_err(|why| wrong_argument("memory", why))?;
    let bytes = memory.bytes(&Machine::detect());
    bytes.ok_or_else(|| {
        wrong_argument(
            "memory",
            "the system does not report its memory, so a share cannot be computed; give a size such as 4GiB",
        )
    })
}

pub(crate) fn metric(name: &str) -> PyResult<Metric> {
    name.parse::<Metric>().map_err(|why| wrong_argument("metric", why))
}

fn method(name: &str) -> PyResult<Method> {
    Method::from_name(name).ok_or_else(|| {
        let names: Vec<&str> = Method::all().map(Method::name).collect();
        wrong_argument("method", format!("\"{name}\" is not a method; the methods are {}", names.join(", ")))
    })
}

fn init(value: &Bound<'_, PyAny>) -> PyResult<Init> {
    // A path is a text or has __fspath__.
    let path: std::path::PathBuf = value.extract().map_err(|_| {
        wrong_argument("init", format!("centroid, pca, random or a file is expected, not {}", shown(value)))
    })?;
    let text = path.to_string_lossy();
    match text.as_ref() {
        "centroid" => Ok(Init::Centroid),
        "pca" => Ok(Init::Pca),
        "random" => Ok(Init::Random),
        signed if lowland_io::shown(signed) != signed => {
            Err(wrong_argument("init", "a signed address would be kept in the run directory; fetch the file first"))
        }
        file if path.exists() || file.contains(['.', '/']) => Ok(Init::File(path)),
        other => Err(wrong_argument("init", format!("\"{other}\" is neither centroid, pca, random nor a file"))),
    }
}

/// Returns the element of `all` that has this name.
pub(crate) fn named<T: Copy>(
    name: &str,
    value: &Bound<'_, PyAny>,
    all: &[T],
    name_of: fn(T) -> &'static str,
) -> PyResult<T> {
    let given = text(name, value)?;
    all.iter().copied().find(|&one| name_of(one) == given).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|&one| name_of(one)).collect();
        wrong_argument(name, format!("\"{given}\" is not a choice; the choices are {}", names.join(", ")))
    })
}

fn shown(value: &Bound<'_, PyAny>) -> String {
    value.repr().map_or_else(|_| "this".into(), |text| text.to_string())
}

/// The methods by name: those that stream, then those that compute all pairs of rows in memory.
#[pyfunction]
pub(crate) fn methods() -> Vec<&'static str> {
    let (exact, streamed): (Vec<Method>, Vec<Method>) = Method::all().partition(|method| method.is_all_pairs());
    streamed.into_iter().chain(exact).map(Method::name).collect()
}

/// The engine's table of options: for each its name, the methods that have it, their defaults as
/// texts, and a sentence about it.
#[pyfunction]
pub(crate) fn options(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let all = PyList::empty(py);
    for option in MethodOption::ALL {
        let defaults = PyDict::new(py);
        for method in option.methods() {
            defaults.set_item(method.name(), option.default_of(method))?;
        }
        let row = PyDict::new(py);
        row.set_item("name", option.name())?;
        row.set_item("methods", option.method_names())?;
        row.set_item("defaults", defaults)?;
        row.set_item("help", option.help())?;
        all.append(row)?;
    }
    Ok(all)
}
