//! The keys of the live rows of a version: those of the base and of the delta, merged.

use std::iter::Peekable;

use super::keys::Key;

/// Keys in ascending order, from two sources that ascend.
pub struct Keys<'a> {
    base: Peekable<Box<dyn Iterator<Item = Key> + Send + 'a>>,
    delta: Peekable<Box<dyn Iterator<Item = Key> + Send + 'a>>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(
        base: impl Iterator<Item = Key> + Send + 'a,
        delta: impl Iterator<Item = Key> + Send + 'a,
    ) -> Self {
        let boxed: [Box<dyn Iterator<Item = Key> + Send + 'a>; 2] = [Box::new(base), Box::new(delta)];
        let [base, delta] = boxed.map(Iterator::peekable);
        Keys { base, delta }
    }
}

impl Iterator for Keys<'_> {
    type Item = Key;

    fn next(&mut self) -> Option<Key> {
        match (self.base.peek(), self.delta.peek()) {
            (Some(base), Some(delta)) if delta < base => self.delta.next(),
            (None, _) => self.delta.next(),
            _ => self.base.next(),
        }
    }
}
