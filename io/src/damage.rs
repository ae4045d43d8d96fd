//! Panics of the parquet crate, turned into errors.
//!
//! The crate asserts much of what a page says, and no look at the pages
//! beforehand would be cheaper than decoding them. What must hold: only calls
//! into that crate run inside [`caught`], on values that are dropped after a
//! panic.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is decoding a file whose damage may show as a panic: a
/// panic hook has nothing to tell then, for an error follows.
pub fn is_decoding() -> bool {
    DECODING.get()
}

/// Runs `ask`; `None` if it panicked.
pub(crate) fn caught<T>(ask: impl FnOnce() -> T) -> Option<T> {
    let outer = DECODING.replace(true);
    let answer = catch_unwind(AssertUnwindSafe(ask)).ok();
    DECODING.set(outer);
    answer
}
