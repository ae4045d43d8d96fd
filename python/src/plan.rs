//! Plans: what a run would take.

use lowland::forecast::Forecast;
use lowland::machine::Machine;
use lowland::{Job, MapTable};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

use crate::embed::within_grant;
use crate::errors::{message, with_arguments};
use crate::request::{Asked, Request};
use crate::source::PySource;
use crate::watch::{Watch, watched};

/// What a run would take: memory, disk and time of each stage.
#[pyclass(name = "Plan", module = "lowland._lowland", frozen)]
pub(crate) struct PyPlan {
    text: String,
    full: Value,
    peak: u64,
    disk: u64,
    seconds: Option<f64>,
}

#[pymethods]
impl PyPlan {
    /// The plan for people, as `lowland plan` prints it.
    #[getter]
    fn text(&self) -> &str {
        &self.text
    }

    /// The plan as JSON, as `lowland plan --json` prints it.
    fn to_json(&self) -> String {
        self.full.to_string()
    }

    /// The most bytes of memory.
    #[getter]
    fn peak(&self) -> u64 {
        self.peak
    }

    /// The most bytes of the run directory.
    #[getter]
    fn disk(&self) -> u64 {
        self.disk
    }

    /// The estimated seconds on this machine, within a factor of two; None if there is no estimate.
    #[getter]
    fn seconds(&self) -> Option<f64> {
        self.seconds
    }

    fn __repr__(&self) -> &str {
        &self.text
    }
}

/// Checks a run and tells what it would take, without running it.
#[pyfunction]
#[pyo3(signature = (source=None, *, graph=None, options=None, id=None, keep=None, invalid=None, run_dir=None))]
#[expect(clippy::too_many_arguments, reason = "keywords of Python")]
pub(crate) fn plan(
    py: Python<'_>,
    source: Option<&Bound<'_, PySource>>,
    graph: Option<&Bound<'_, PyAny>>,
    options: Option<&Bound<'_, PyDict>>,
    id: Option<String>,
    keep: Option<Vec<String>>,
    invalid: Option<&Bound<'_, PyAny>>,
    run_dir: Option<std::path::PathBuf>,
) -> PyResult<PyPlan> {
    let asked_memory = match options {
        Some(options) => options.get_item("memory")?.is_some_and(|memory| !memory.is_none()),
        None => false,
    };
    let asked =
        Asked { source, graph, options, id, keep, coordinates: None, invalid, output: None, run_dir, restart: false };
    let Request { mut job, table } = Request::new(py, asked)?;
    watched(py, Watch::of(source.map(Bound::get)), None, |watch| {
        job.check_rows(watch)?;
        let plan = job.plan();
        // What a run would refuse on this machine. A plan that exceeds the machine may be meant for another one.
        let refused = within_grant(&mut job, Job::plan);
        let (plan, refused) = match (plan, refused) {
            (Ok(plan), refused) => (plan, refused.err()),
            // This says more than the plan's own error: the limit that the machine would need.
            (Err(_), Err(refused)) => return Err(refused),
            (Err(error), Ok(_)) => return Err(error),
        };
        // A column that does not exist is found now.
        job.map_schema(&plan, &MapTable { keep: table.keep.clone(), ..MapTable::default() }, watch)?;
        let machine = Machine::detect();
        let forecast =
            Forecast::measure(&job, &plan, &machine, None, asked_memory, refused.iter().map(message).collect())?;
        let (text, full) = (with_arguments(&forecast.text()), forecast.json());
        let seconds = full.get("seconds").and_then(Value::as_f64);
        Ok(PyPlan { text, full, peak: plan.peak(), disk: plan.disk(), seconds })
    })
}
