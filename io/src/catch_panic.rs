//! Turns panics of the parquet crate, and of the crate for object stores, into errors.
//!
//! The crate asserts much of what a page declares, and checking the pages beforehand would cost as
//! much as decoding them. What must hold: only calls into these crates and arrow run inside
//! [`catch_panic`], on values that are dropped after a panic.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread runs inside `catch_panic`. A panic hook should then print nothing,
/// because an error follows.
pub fn is_decoding() -> bool {
    DECODING.get()
}

/// Runs `ask` and returns its result; `None` if it panicked.
pub(crate) fn catch_panic<T>(ask: impl FnOnce() -> T) -> Option<T> {
    let outer = DECODING.replace(true);
    let answer = catch_unwind(AssertUnwindSafe(ask)).ok();
    DECODING.set(outer);
    answer
}
