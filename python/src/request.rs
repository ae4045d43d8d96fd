//! What is asked of a run: the arguments that `plan`, `embed`, `embed_batches` and `knn` share, as a
//! job of the library.

use std::path::{Path, PathBuf};

use lowland::{GraphInput, GraphSource, InvalidRows, Job, MapTable, Method, RunOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::alive::detached;
use crate::errors::{exception, wrong_argument};
use crate::knn::PyGraph;
use crate::options::{config, named};
use crate::source::PySource;

/// A job and the columns of its map.
pub(crate) struct Request {
    pub(crate) job: Job,
    pub(crate) table: MapTable,
}

/// The arguments of a run that are not options of the method.
pub(crate) struct Asked<'a, 'py> {
    pub(crate) source: Option<&'a Bound<'py, PySource>>,
    pub(crate) graph: Option<&'a Bound<'py, PyAny>>,
    pub(crate) options: Option<&'a Bound<'py, PyDict>>,
    pub(crate) id: Option<String>,
    pub(crate) keep: Option<Vec<String>>,
    pub(crate) coordinates: Option<Vec<String>>,
    pub(crate) invalid: Option<&'a Bound<'py, PyAny>>,
    pub(crate) output: Option<&'a Path>,
    pub(crate) run_dir: Option<PathBuf>,
    pub(crate) restart: bool,
}

impl Request {
    /// Returns the job.
    ///
    /// # Errors
    /// `ValueError` for an option that does not exist or a value that is of no use.
    pub(crate) fn new(py: Python<'_>, asked: Asked<'_, '_>) -> PyResult<Self> {
        let mut job = Job::new();
        job.config = config(asked.options)?;
        job.source = asked.source.map(|source| source.get().source.clone());
        job.invalid = asked.invalid.map(invalid).transpose()?;
        job.run = match (asked.run_dir, asked.output) {
            (Some(dir), _) => RunOptions::kept(dir),
            (None, Some(output)) => RunOptions::beside(output),
            (None, None) => RunOptions::default(),
        };
        job.run.restart = asked.restart;
        if let Some(graph) = asked.graph {
            use_graph(py, &mut job, graph)?;
        }
        if job.source.is_none() && job.graph.is_none() {
            return Err(PyTypeError::new_err("there is neither a source nor a graph"));
        }
        let table =
            MapTable { keep: asked.keep.unwrap_or_default(), coordinates: asked.coordinates.unwrap_or_default() };
        check_kept(asked.id.as_ref(), &table.keep)?;
        job.id = asked.id;
        Ok(Request { job, table })
    }
}

/// Returns how rows without a usable vector are handled.
pub(crate) fn invalid(value: &Bound<'_, PyAny>) -> PyResult<InvalidRows> {
    named("invalid", value, &InvalidRows::ALL, InvalidRows::name)
}

/// Refuses a kept column with the name of the output's first column.
pub(crate) fn check_kept(id: Option<&String>, keep: &[String]) -> PyResult<()> {
    match id {
        None if keep.iter().any(|name| name == "id") => Err(wrong_argument(
            "keep",
            "the output's own column of row numbers is called \"id\"; name the rows by the source's with id=\"id\"",
        )),
        Some(id) if keep.contains(id) => {
            Err(wrong_argument("keep", format!("column \"{id}\" names the rows already, by id; leave it out")))
        }
        _ => Ok(()),
    }
}

/// Returns the path of a graph: a `Graph`, or the name of a file.
pub(crate) fn graph_path(graph: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    match graph.cast::<PyGraph>() {
        Ok(graph) => Ok(graph.get().path().to_path_buf()),
        Err(_) => graph.extract(),
    }
}

fn use_graph(py: Python<'_>, job: &mut Job, graph: &Bound<'_, PyAny>) -> PyResult<()> {
    let path = graph_path(graph)?;
    let mut input = detached(py, || GraphInput::open(&path)).map_err(|error| exception(py, &error))?;
    if let Some(asked) = job.config.n_neighbors {
        let has = input.k();
        if asked > has {
            let why = format!("{asked} of the graph {}, whose rows have {has} at most", path.display());
            return Err(wrong_argument("n_neighbors", why));
        }
        // PaCMAP selects its neighbours from a longer list.
        input.nearest = Some(asked).filter(|_| job.config.method != Method::PACMAP);
    }
    match (job.config.metric, input.metric()) {
        (Some(asked), Some(has)) if has != asked => {
            return Err(wrong_argument("metric", format!("the graph {} was made with {}", path.display(), has.name())));
        }
        (None, Some(has)) => job.config.metric = Some(has),
        _ => {}
    }
    job.graph = Some(input);
    Ok(())
}
