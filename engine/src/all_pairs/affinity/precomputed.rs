//! An affinity that the user provides.

use super::{Affinity, Toll, wrong};
use crate::all_pairs::costs::Costs;
use crate::all_pairs::weights::{Dense, Sparse, Weights};
use crate::observe::Progress;
use crate::{Error, Result};

/// A given P: n × n, finite, not negative. It need not be symmetric or normalised.
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
        // The memory belongs to the user, and P takes no time to compute.
        Toll { rereads: matches!(self.0, Weights::Dense(_)), ..Toll::default() }
    }
    fn solve<'a>(&'a self, _: &'a Costs<'a>, _: &Progress<'_>) -> Result<Weights<'a>> {
        // The solver uses `given` instead.
        Err(Error::Config { field: "affinity", why: "a precomputed affinity is not found from rows".into() })
    }
    fn given(&self) -> Option<&Weights<'static>> {
        Some(&self.0)
    }
}
