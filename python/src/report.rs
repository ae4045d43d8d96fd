//! Reports of runs, as texts and JSON.

use lowland::{Job, Report};
use pyo3::prelude::*;
use serde_json::{Value, json};

/// What a run did.
#[pyclass(name = "Report", module = "lowland._lowland", frozen)]
pub(crate) struct PyReport {
    report: Report,
    full: Value,
}

impl PyReport {
    pub(crate) fn new(report: Report, job: &Job) -> Self {
        let mut full = serde_json::to_value(&report).unwrap_or_default();
        if let Some(fields) = full.as_object_mut() {
            fields.insert("peak_memory".into(), json!(report.peak()));
            fields.insert("column".into(), json!(job.source.as_ref().and_then(|source| source.vector_column())));
            let kept = job.run.dir.as_ref().filter(|_| job.keeps_run());
            fields.insert("run_dir".into(), json!(kept.map(|dir| dir.to_string_lossy())));
        }
        PyReport { report, full }
    }
}

#[pymethods]
impl PyReport {
    /// The stages, results, warnings and notes, for people.
    #[getter]
    fn text(&self) -> String {
        self.report.to_string()
    }

    /// The results alone, for people.
    #[getter]
    fn summary(&self) -> String {
        self.report.summary().to_string()
    }

    /// Everything as JSON, as `lowland embed --report` writes it.
    fn to_json(&self) -> String {
        self.full.to_string()
    }

    fn __repr__(&self) -> String {
        self.report.to_string()
    }
}
