//! What a person should know of a run that is no failure: notes and warnings,
//! each with a kind that a program can look for.
//!
//! Whatever part of the engine has something to say sends an [`Event::Note`],
//! mostly by [`Progress::note`](crate::Progress::note) and
//! [`Progress::warn`](crate::Progress::warn). A run hears its own remarks
//! ([`Heard`]), puts them into the report, keeps those of a finished stage in
//! the manifest and repeats them when it takes that stage up.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::observe::{Event, Observer};

/// How much a remark matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// How something was decided or done.
    Note,
    /// A result that is probably not what was wanted.
    Warning,
}

/// A note or a warning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remark {
    /// Note or warning.
    pub level: Level,
    /// What it is about, in lower case with hyphens, for programs: `map-no-extent`.
    pub kind: Cow<'static, str>,
    /// The sentence for people, without a full stop.
    pub text: String,
}

impl Remark {
    /// A note.
    pub fn note(kind: &'static str, text: impl Into<String>) -> Self {
        Remark { level: Level::Note, kind: kind.into(), text: text.into() }
    }

    /// A warning.
    pub fn warning(kind: &'static str, text: impl Into<String>) -> Self {
        Remark { level: Level::Warning, kind: kind.into(), text: text.into() }
    }
}

/// An observer that remembers remarks, and passes each on once.
pub(crate) struct Heard<'a> {
    observer: &'a dyn Observer,
    remarks: Mutex<Vec<Remark>>,
}

impl<'a> Heard<'a> {
    pub(crate) fn new(observer: &'a dyn Observer) -> Self {
        Heard { observer, remarks: Mutex::default() }
    }

    /// How many there are so far.
    pub(crate) fn count(&self) -> usize {
        self.remarks().len()
    }

    /// The remarks from the `first`-th on.
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
