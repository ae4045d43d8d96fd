//! The engine's errors: options that do not fit together, data that cannot be embedded, budgets that are too
//! small, and runs that were stopped.

mod flaws;

use std::path::PathBuf;

pub use flaws::{FlawCount, FlawSummary, RowFlaw};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option has a value that cannot be used.
    #[error("{field}: {why}")]
    Config {
        /// The option's name, as in [`crate::Config`].
        field: &'static str,
        /// The problem, with the value, and the remedy.
        why: String,
    },
    /// The memory budget is too small for every plan.
    #[error("a memory budget of {} is too small: the {stage} stage needs {}; the smallest sufficient budget is {}", format_bytes(*asked), format_bytes(*needed), format_bytes(*needed))]
    Budget {
        /// The given budget, in bytes.
        asked: u64,
        /// The smallest budget that would be enough, in bytes.
        needed: u64,
        /// The stage that needs it.
        stage: &'static str,
    },
    /// The memory budget is too small for an exact method, which computes all pairs of rows.
    #[error("{method} compares all pairs of {rows} rows, for which the {stage} stage needs {}: a memory budget of {} is too small; the smallest sufficient budget is {}; {instead} stream{}", format_bytes(*needed), format_bytes(*asked), format_bytes(*needed), if instead.contains(' ') { "" } else { "s" })]
    AllPairs {
        /// The method.
        method: &'static str,
        /// Number of rows.
        rows: u64,
        /// The given budget, in bytes.
        asked: u64,
        /// The smallest budget that would be enough, in bytes.
        needed: u64,
        /// The stage that needs it.
        stage: &'static str,
        /// Streamed methods to use instead.
        instead: String,
    },
    /// The disk budget is too small for every plan.
    #[error("a disk budget of {} is too small: the {stage} stage needs {} in the run directory", format_bytes(*asked), format_bytes(*needed))]
    Disk {
        /// The given budget, in bytes.
        asked: u64,
        /// The bytes that are needed.
        needed: u64,
        /// The stage that needs them.
        stage: &'static str,
    },
    /// Some rows cannot be placed on a map.
    #[error("{} of {rows} rows cannot be placed: {flaws}", flaws.rows())]
    Invalid {
        /// The flaws, the number of rows of each, and the place of the first such row.
        flaws: FlawSummary,
        /// Number of rows that were checked.
        rows: u64,
    },
    /// A component is NaN, infinite, or too large for single precision.
    #[error("{}: row {row}, component {component} is {value:e}{}", path.display(), explain_not_finite(*value))]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The row within the file, from 0.
        row: u64,
        /// The component, from 0.
        component: usize,
        /// The value. If it is finite, it is too large for single precision.
        value: f64,
    },
    /// The data are not sufficient for what was asked.
    #[error("{what}")]
    Data {
        /// The problem, and the remedy.
        what: String,
    },
    /// A call of FAISS failed.
    #[error("FAISS could not {doing}: {why}")]
    Faiss {
        /// What was attempted.
        doing: &'static str,
        /// FAISS's message.
        why: String,
    },
    /// A GPU failed, or cannot be used.
    #[error("{what}")]
    Device {
        /// The GPU, what was attempted, its message, and what to do.
        what: String,
    },
    /// The observer stopped the run.
    #[error("stopped in the {stage} stage; finished stages are kept")]
    Cancelled {
        /// The stage that was running.
        stage: &'static str,
    },
    /// Reading or writing files failed.
    #[error(transparent)]
    Io(#[from] lowland_io::Error),
}

/// Explains why a component of `value` cannot be used, and what to do.
fn explain_not_finite(value: f64) -> String {
    match value.is_finite() {
        true => format!(", beyond single precision ({:e} at most); scale the data down", f32::MAX),
        false => "; drop or fill such rows first".into(),
    }
}

/// Formats a count for users, with commas between groups of three digits ("1,234,567").
pub fn format_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Formats a number of bytes for users ("600 MiB").
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || (value.fract() < 0.005) {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.2} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        let texts = [0, 12, 999, 1_000, 1_234_567, 10_000_000].map(format_count);
        assert_eq!(texts, ["0", "12", "999", "1,000", "1,234,567", "10,000,000"]);
    }
}
