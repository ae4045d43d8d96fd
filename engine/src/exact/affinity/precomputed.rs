//! An affinity that the user has.

use super::{Affinity, Toll, wrong};
use crate::exact::costs::Costs;
use crate::exact::weights::{Dense, Sparse, Weights};
use crate::observe::Progress;
use crate::{Error, Result};

/// P as given: n × n, finite, not below 0. It need not be symmetric, nor sum to anything.
pub struct Precomputed(Weights<'static>);

impl From<Dense> for Precomputed {
    fn from(dense: Dense) -> Self {
        Precomputed(Weights::Dense(dense))
    }
}

impl From<Sparse> for Precomputed {
    fn from(sparse: Sparse) -> Self {
        Precomputed(Weights::Sparse(sparse))
    }
}

impl Affinity for Precomputed {
    fn name(&self) -> &'static str {
        "precomputed"
    }
    fn check(&self, n: usize) -> Result<()> {
        let have = self.0.len();
        if n != have {
            return wrong("affinity", format!("it is of {have} rows, and there are {n}"));
        }
        Ok(())
    }
    fn toll(&self, _: usize) -> Toll {
        // The user's memory, and the user's time.
        Toll { rereads: matches!(self.0, Weights::Dense(_)), ..Toll::default() }
    }
    fn solve<'a>(&'a self, _: &'a Costs<'a>, _: &Progress<'_>) -> Result<Weights<'a>> {
        // Whoever optimizes asks for `given` first.
        Err(Error::Config { field: "affinity", why: "a precomputed affinity is not found from rows".into() })
    }
    fn given(&self) -> Option<&Weights<'static>> {
        Some(&self.0)
    }
}
