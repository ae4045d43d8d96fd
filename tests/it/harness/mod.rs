//! What the tests share: sources and graphs in memory, runs through the library and runs of the program,
//! observers, and the same quantities by their definitions.

mod dense;
mod disk;
mod graphs;
pub(crate) mod jobs;
mod observers;
mod program;
mod runs;
mod tables;

pub(crate) use dense::*;
pub(crate) use disk::*;
pub(crate) use graphs::*;
pub(crate) use observers::*;
pub(crate) use program::*;
pub(crate) use runs::*;
pub(crate) use tables::*;
