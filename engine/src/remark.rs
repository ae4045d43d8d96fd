//! Notes and warnings: messages of a run for the user that are not errors, each with a kind for programs.
//!
//! Any part of the engine sends a message as an [`Event::Note`], mostly by
//! [`Progress::note`](crate::Progress::note) and [`Progress::warn`](crate::Progress::warn). A run records its
//! own messages ([`Heard`]), puts them into the report, keeps those of a finished stage in the manifest, and
//! repeats them when it finds the stage done.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::observe::{Event, Observer};

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

/// An observer that records remarks, and passes each one on only once.
pub(crate) struct Heard<'a> {
    observer: &'a dyn Observer,
    remarks: Mutex<Vec<Remark>>,
}

impl<'a> Heard<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Heard { observer, remarks: Mutex::default() }
    }

    /// Returns the number of remarks so far.
    pub(crate) fn count(&self) -> usize {
        self.remarks().len()
    }

    /// Returns the remarks from number `first` on.
    pub(crate) fn since(&self, first: usize) -> Vec<Remark> {
        self.remarks().get(first..).unwrap_or_default().to_vec()
    }

    fn remarks(&self) -> MutexGuard<'_, Vec<Remark>> {
        self.remarks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Heard<'_> {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if let Event::Note { remark } = event {
            let mut remarks = self.remarks();
            if remarks.contains(remark) {
                drop(remarks);
                return self.observer.event(&Event::Pulse);
            }
            remarks.push((*remark).clone());
        }
        self.observer.event(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_is_passed_on_once_and_remembered() {
        struct Told(Mutex<usize>);
        impl Observer for Told {
            fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
                *self.0.lock().expect("not poisoned") += usize::from(matches!(event, Event::Note { .. }));
                ControlFlow::Continue(())
            }
        }
        let told = Told(Mutex::new(0));
        let heard = Heard::new(&told);
        let (one, other) = (Remark::note("a", "one"), Remark::warning("a", "one"));
        for remark in [&one, &one, &other, &one] {
            assert!(heard.event(&Event::Note { remark }).is_continue());
        }
        assert_eq!(*told.0.lock().expect("not poisoned"), 2);
        assert_eq!((heard.count(), heard.since(1)), (2, vec![other]));
        let text = serde_json::to_string(&one).expect("JSON");
        assert_eq!(text, r#"{"level":"note","kind":"a","text":"one"}"#);
        assert_eq!(serde_json::from_str::<Remark>(&text).expect("a remark"), one);
    }
}
