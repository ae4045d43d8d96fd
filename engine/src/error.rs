//! What can go wrong above the bytes: a configuration that does not hold
//! together, data that cannot be embedded, a budget too small, a run stopped.

use std::path::PathBuf;

/// The result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option whose value cannot be used.
    #[error("{field}: {why}")]
    Config {
        /// The option, as in [`crate::Config`].
        field: &'static str,
        /// What is wrong, with the number, and what to do.
        why: String,
    },
    /// A budget that no plan fits.
    #[error("a memory budget of {} is too small: the {stage} stage needs {}; the smallest that would do is {}", size(*asked), size(*needed), size(*needed))]
    Budget {
        /// The budget given, in bytes.
        asked: u64,
        /// The smallest that would do.
        needed: u64,
        /// The stage that needs it.
        stage: &'static str,
    },
    /// Rows whose pairs no plan within the budget can take: an exact method's.
    #[error("{method} computes all pairs of {rows} rows, for which the {stage} stage needs {}: a memory budget of {} is too small; the smallest that would do is {}; {instead} stream{}", size(*needed), size(*asked), size(*needed), if instead.contains(' ') { "" } else { "s" })]
    AllPairs {
        /// The method.
        method: &'static str,
        /// The rows.
        rows: u64,
        /// The budget given, in bytes.
        asked: u64,
        /// The smallest that would do.
        needed: u64,
        /// The stage that needs it.
        stage: &'static str,
        /// The methods that stream in its place.
        instead: String,
    },
    /// A disk budget that no plan fits.
    #[error("a disk budget of {} is too small: the {stage} stage needs {} in the run directory", size(*asked), size(*needed))]
    Disk {
        /// The budget given, in bytes.
        asked: u64,
        /// What is needed.
        needed: u64,
        /// The stage that needs it.
        stage: &'static str,
    },
    /// Rows that cannot be placed.
    #[error("{} of {rows} rows cannot be placed: {flaws}", flaws.rows())]
    Invalid {
        /// How many, what ails them, and where the first is.
        flaws: crate::invalid::Flaws,
        /// Rows that were looked at.
        rows: u64,
    },
    /// A component that is no number, or none that single precision holds.
    #[error("{}: row {row}, component {component} is {value:e}{}", path.display(), not_finite(*value))]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The row within the file, from 0.
        row: u64,
        /// The component, from 0.
        component: usize,
        /// The value found; where it is finite, it is beyond single precision.
        value: f64,
    },
    /// Data with too little in it for what was asked.
    #[error("{what}")]
    Data {
        /// What is missing, and what to do.
        what: String,
    },
    /// FAISS refused.
    #[error("FAISS could not {doing}: {why}")]
    Faiss {
        /// What was attempted.
        doing: &'static str,
        /// FAISS's own words.
        why: String,
    },
    /// A GPU refused, or cannot be used.
    #[error("{what}")]
    Device {
        /// Which, what it was asked for, in its own words, and what to do.
        what: String,
    },
    /// The observer asked to stop.
    #[error("stopped in the {stage} stage; what was finished is kept")]
    Cancelled {
        /// The stage that was under way.
        stage: &'static str,
    },
    /// Bytes at rest.
    #[error(transparent)]
    Io(#[from] lowland_io::Error),
}

/// Why a component of `value` cannot be used, and what to do.
fn not_finite(value: f64) -> String {
    match value.is_finite() {
        true => format!(", beyond single precision ({:e} at most); scale the data down", f32::MAX),
        false => "; drop or fill such rows first".into(),
    }
}

/// A size in bytes, as people write it ("600 MiB").
pub fn size(bytes: u64) -> String {
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
