//! Planned against measured memory: runs of different shapes under different
//! budgets, each in a process of its own. The tests take a few small ones, the
//! bench `memory` a table of large ones.

use std::path::Path;
use std::process::{Command, Stdio};

use lowland_datasets::{Generator, OutputDtype, WriteOptions, write};
use serde_json::Value;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) kind: &'static str,
    pub(crate) rows: u64,
    pub(crate) dim: usize,
    pub(crate) dtype: OutputDtype,
    /// How the source's name ends.
    pub(crate) format: &'static str,
    pub(crate) k: usize,
    pub(crate) memory: &'static str,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Peaks {
    /// Bytes, of the stage with the largest plan.
    pub(crate) planned: u64,
    /// Bytes of anonymous memory, sampled every 10 ms.
    pub(crate) measured: u64,
    /// Stage by stage: name, planned, measured.
    pub(crate) stages: Vec<(String, u64, u64)>,
}

impl Case {
    /// Runs it in `dir`, where sources that others made are taken up.
    pub(crate) fn run(&self, dir: &Path) -> Peaks {
        let Case { kind, rows, dim, dtype, format, k, memory } = *self;
        let source = format!("{kind}-{rows}x{dim}-{dtype:?}.{format}");
        if !dir.join(&source).exists() {
            let generator = Generator::new(kind.parse().expect("a kind"), rows, dim, 7).expect("a generator");
            write(&generator, &dir.join(&source), &WriteOptions { dtype, ..WriteOptions::default() }).expect("written");
        }
        let arguments = format!(
            "embed {source} -o map.npy --force --report report.json --n-neighbors {k} --n-epochs 20 --threads 2 \
             --memory {memory} --quiet"
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_lowland"));
        command.args(arguments.split_whitespace()).current_dir(dir).stdin(Stdio::null());
        let output = command.output().expect("the binary runs");
        assert!(output.status.success(), "{self:?}: {}", String::from_utf8_lossy(&output.stderr));
        let report = std::fs::read(dir.join("report.json")).expect("a report");
        let report: Value = serde_json::from_slice(&report).expect("JSON");
        let stages = held(&report);
        let most = |of: fn(&(String, u64, u64)) -> u64| stages.iter().map(of).max().expect("a stage");
        Peaks { planned: most(|s| s.1), measured: most(|s| s.2), stages }
    }
}

/// Of a report, stage by stage: its name, the bytes that were planned, and those that were held.
pub(crate) fn held(report: &Value) -> Vec<(String, u64, u64)> {
    let number = |value: &Value| value.as_u64().expect("a number");
    let planned = report["plan"]["stages"].as_array().expect("a plan");
    let stages = report["stages"].as_array().expect("stages").iter();
    let held = stages.filter_map(|stage| {
        let planned = planned.iter().find(|planned| planned["stage"] == stage["stage"])?;
        let name = stage["stage"].as_str().expect("a name").to_owned();
        Some((name, number(&planned["memory"]), number(&stage["peak_memory"])))
    });
    held.collect()
}

impl Peaks {
    /// Planned over measured.
    pub(crate) fn ratio(&self) -> f64 {
        self.planned as f64 / self.measured as f64
    }
}
