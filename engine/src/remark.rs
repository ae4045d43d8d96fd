//! Notes and warnings: messages of a run for the user that are not errors, each with a kind for programs.
//!
//! Any part of the engine sends a message as an [`Event::Note`], mostly by
//! [`Progress::note`](crate::Progress::note) and [`Progress::warn`](crate::Progress::warn). A run records its
//! own messages, puts them into the report, keeps those of a finished stage in the manifest, and
//! repeats them when it finds the stage done.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The importance of a remark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// How something was chosen or done.
    Note,
    /// A result that is probably not what was wanted.
    Warning,
}

/// A note or a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Note or warning.
    pub level: Level,
    /// The subject, in lower case with hyphens, for programs: `map-no-extent`.
    pub kind: Cow<'static, str>,
    /// The sentence for users, without a full stop.
    pub text: String,
}

impl Remark {
    /// Returns a note.
    pub fn note(kind: &'static str, text: impl Into<String>) -> Self {
        Remark { level: Level::Note, kind: kind.into(), text: text.into() }
    }

    /// Returns a warning.
    pub fn warning(kind: &'static str, text: impl Into<String>) -> Self {
        Remark { level: Level::Warning, kind: kind.into(), text: text.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_read_from_json_as_it_was_written() {
        let one = Remark::note("a", "one");
        let text = serde_json::to_string(&one).expect("JSON");
        assert_eq!(text, r#"{"level":"note","kind":"a","text":"one"}"#);
        assert_eq!(serde_json::from_str::<Remark>(&text).expect("a remark"), one);
    }
}
