//! The figures of an update in the text format of Prometheus, for its textfile collector.
//!
//! What must hold: every file has the same names, whatever came of the update; what has no value is NaN.
//! `lowland_model_…` are facts of the current version, `lowland_update_…` are facts of the run.

use std::fmt::Write;
use std::path::Path;

use lowland_model::store::Version;
use lowland_model::update::Measures;

use super::{Outcome, UpdateReport};

/// Returns the text of a metrics file. `current` is the version that readers take after the update.
pub(super) fn text(report: &UpdateReport, current: &Version, model: &Path) -> String {
    let model = model.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, value: f64| {
        // Writing into a text cannot fail.
        let _ = writeln!(out, "# HELP lowland_{name} {help}");
        let _ = writeln!(out, "# TYPE lowland_{name} gauge");
        let _ = writeln!(out, "lowland_{name}{{model=\"{model}\"}} {value}");
    };
    let truth = |is: bool| f64::from(u8::from(is));
    let number = |number: Option<u64>| number.map_or(f64::NAN, |number| number as f64);
    let refused = report.outcome == Outcome::Refused;
    gauge("update_success", "1 if the model is up to date, 0 if a gate refused the new version", truth(!refused));
    gauge("update_published", "1 if the run made a version current", truth(report.outcome == Outcome::Published));
    gauge("update_version", "The version that the run made, or had made before", number(report.version));
    gauge("update_failed_gates", "Gates that this version does not meet", {
        report.gates.iter().filter(|gate| !gate.passed).count() as f64
    });
    gauge("update_seconds", "Wall time of the run", report.seconds);
    let counts = report.counts;
    gauge("update_added_rows", "Rows with a new id", counts.added as f64);
    gauge("update_changed_rows", "Rows with another vector", counts.changed as f64);
    gauge("update_deleted_rows", "Rows that are gone", counts.deleted as f64);
    gauge("update_unchanged_rows", "Rows with the same vector", counts.unchanged as f64);
    let left_out = report.left_out.as_ref().map_or(0, |left_out| left_out.rows);
    gauge("update_left_out_rows", "Rows of the table without a usable vector that were left out", left_out as f64);
    gauge("model_version", "The version that readers take", current.number as f64);
    gauge("model_rows", "Rows of this version", current.counts.rows as f64);
    for name in Measures::names() {
        let value = current.measures.get(&name).and_then(serde_json::Value::as_f64);
        gauge(&format!("model_{name}"), "A measure of this version; NaN if it has none", value.unwrap_or(f64::NAN));
    }
    out
}

#[cfg(test)]
mod tests {
    use lowland_model::store::{Action, Counts};

    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_sample() {
        let report = UpdateReport {
            run_id: "a".into(),
            outcome: Outcome::Refused,
            version: Some(7),
            parent: 6,
            mode: None,
            why: String::new(),
            counts: Counts { rows: 10, added: 1, ..Counts::default() },
            left_out: None,
            measures: Some(Measures { recall: 0.25, ..Measures::default() }),
            gates: Vec::new(),
            seconds: 1.5,
        };
        let measures = serde_json::to_value(Measures { recall: 0.5, ..Measures::default() }).expect("JSON");
        let current = Version { number: 6, measures, ..Version::new(Action::Transform) };
        let text = text(&report, &current, Path::new("a \"map\""));
        let sample =
            |name: &str, value: &str| text.contains(&format!("lowland_{name}{{model=\"a \\\"map\\\"\"}} {value}\n"));
        assert!(
            sample("update_success", "0") && sample("update_version", "7") && sample("model_version", "6"),
            "{text}"
        );
        assert!(sample("model_recall", "0.5"), "of the version that readers take: {text}");
        assert!(sample("model_outliers", "NaN"), "a measure without a value: {text}");
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("lowland_")));
    }
}
