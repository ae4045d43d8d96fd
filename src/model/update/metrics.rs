//! The figures of an update in the text format of Prometheus, for its textfile collector.

use std::fmt::Write;
use std::path::Path;

use super::{Outcome, UpdateReport};

/// Returns the text of a metrics file.
pub(super) fn text(report: &UpdateReport, model: &Path) -> String {
    let model = model.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let mut out = String::new();
    let mut gauge = |name: &str, help: &str, value: f64| {
        // Writing into a text cannot fail.
        let _ = writeln!(out, "# HELP lowland_update_{name} {help}");
        let _ = writeln!(out, "# TYPE lowland_update_{name} gauge");
        let _ = writeln!(out, "lowland_update_{name}{{model=\"{model}\"}} {value}");
    };
    let done = report.outcome != Outcome::Refused;
    gauge("success", "1 if the model is up to date, 0 if a gate refused the new version", f64::from(u8::from(done)));
    gauge("version", "The number of the version of this run", report.version.unwrap_or(report.parent) as f64);
    gauge("seconds", "Wall time of the update", report.seconds);
    let counts = report.counts;
    gauge("rows", "Rows of the version", counts.rows as f64);
    gauge("added_rows", "Rows with a new id", counts.added as f64);
    gauge("changed_rows", "Rows with another vector", counts.changed as f64);
    gauge("deleted_rows", "Rows that are gone", counts.deleted as f64);
    if let Some(fields) =
        report.measures.and_then(|m| serde_json::to_value(m).ok()).as_ref().and_then(|m| m.as_object())
    {
        for (name, value) in fields.iter().filter_map(|(name, value)| Some((name, value.as_f64()?))) {
            gauge(name, "A measure of the version", value);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use lowland_model::store::Counts;
    use lowland_model::update::Measures;

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
            measures: Some(Measures { recall: 0.5, ..Measures::default() }),
            gates: Vec::new(),
            seconds: 1.5,
        };
        let text = text(&report, Path::new("a \"map\""));
        assert!(text.contains("lowland_update_success{model=\"a \\\"map\\\"\"} 0\n"), "{text}");
        assert!(text.contains("lowland_update_version{model=\"a \\\"map\\\"\"} 7\n"));
        assert!(text.contains("lowland_update_recall{model=\"a \\\"map\\\"\"} 0.5\n"));
        assert!(!text.contains("outliers"), "a measure without a value has no sample");
        assert!(text.lines().all(|line| line.starts_with("# ") || line.starts_with("lowland_update_")));
    }
}
