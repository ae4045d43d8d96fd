//! The format number of what is stored as JSON and read again: plans and reports.
//!
//! What must hold: JSON of a newer format is refused by its number, whatever else it contains.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};

use crate::{Error, Result};

/// Reads a `what` ("plan") from JSON whose field `format` is at most `newest`.
///
/// # Errors
/// [`Error::Data`] if the number is greater, or the JSON is not a `what`.
pub(crate) fn from_json<T: DeserializeOwned>(json: &str, newest: u32, what: &str) -> Result<T> {
    /// The field that all formats have.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let wrong = |e: serde_json::Error| Error::Data { what: format!("this is not a {what} of lowland: {e}") };
    let head: Head = serde_json::from_str(json).map_err(wrong)?;
    if head.format > newest {
        return Err(Error::Data { what: newer(head.format, newest, what) });
    }
    serde_json::from_str(json).map_err(wrong)
}

/// Deserialises a format number, and refuses one above `newest`.
pub(crate) fn up_to<'de, D: Deserializer<'de>>(
    newest: u32,
    what: &str,
    format: D,
) -> std::result::Result<u32, D::Error> {
    let format = u32::deserialize(format)?;
    if format > newest { Err(D::Error::custom(newer(format, newest, what))) } else { Ok(format) }
}

fn newer(format: u32, newest: u32, what: &str) -> String {
    format!(
        "this {what} has format {format}, and lowland {} reads up to format {newest}: \
         read it with the version that wrote it, or a newer one",
        env!("CARGO_PKG_VERSION")
    )
}
