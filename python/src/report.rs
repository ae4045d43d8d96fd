//! Reports of runs, as texts and JSON.

use std::path::Path;

use lowland::{Job, Report};
use pyo3::prelude::*;
use serde_json::{Value, json};

/// What a run did.
#[pyclass(name = "Report", module = "lowland._lowland", frozen)]
pub(crate) struct PyReport {
    text: String,
    summary: String,
    full: Value,
}

impl PyReport {
    /// Returns the report of a job that is still there.
    pub(crate) fn new(report: Report, job: &Job) -> Self {
        let column = job.source.as_ref().and_then(|source| source.vector_column());
        PyReport::of_run(&report, column, job.run.dir.as_deref().filter(|_| job.keeps_run()))
    }

    /// Returns the report of a run, with the column of the vectors and the run directory that stays.
    pub(crate) fn of_run(report: &Report, column: Option<String>, run_dir: Option<&Path>) -> Self {
        let mut full = serde_json::to_value(report).unwrap_or_default();
        if let Some(fields) = full.as_object_mut() {
            fields.insert("peak_memory".into(), json!(report.peak()));
            fields.insert("column".into(), json!(column));
            fields.insert("run_dir".into(), json!(run_dir.map(Path::to_string_lossy)));
        }
        PyReport { text: report.to_string(), summary: report.summary().to_string(), full }
    }

    /// Returns a report of another kind, whose text is one line.
    pub(crate) fn of(text: String, full: Value) -> Self {
        PyReport { summary: text.clone(), text, full }
    }
}

#[pymethods]
impl PyReport {
    /// The stages, results, warnings and notes, for people.
    #[getter]
    fn text(&self) -> &str {
        &self.text
    }

    /// The results alone, for people.
    #[getter]
    fn summary(&self) -> &str {
        &self.summary
    }

    /// Everything as JSON, as `lowland embed --report` writes it.
    fn to_json(&self) -> String {
        self.full.to_string()
    }

    fn __repr__(&self) -> &str {
        &self.text
    }
}
