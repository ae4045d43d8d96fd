//! An affinity that the user provides.

use super::{AffinityWork, StreamedAffinity, config_error};
use crate::all_pairs::costs::Costs;
use crate::all_pairs::weights::{DenseWeights, SparseWeights, Weights};
use crate::observe::Progress;
use crate::{Error, Result};

/// A given P: n × n, finite, not negative. It need not be symmetric or normalised.
pub struct PrecomputedAffinity(Weights<'static>);

impl From<DenseWeights> for PrecomputedAffinity {
    fn from(dense: DenseWeights) -> Self {
        PrecomputedAffinity(Weights::Dense(dense))
    }
}

impl From<SparseWeights> for PrecomputedAffinity {
    fn from(sparse: SparseWeights) -> Self {
        PrecomputedAffinity(Weights::Sparse(sparse))
    }
}

impl StreamedAffinity for PrecomputedAffinity {
    fn name(&self) -> &'static str {
        "precomputed"
    }
    fn check(&self, n: usize) -> Result<()> {
        let have = self.0.len();
        if n != have {
            return config_error("affinity", format!("it has {have} rows, but the data have {n}"));
        }
        Ok(())
    }
    fn work_estimate(&self, _: usize) -> AffinityWork {
        // The memory belongs to the user, and P takes no time to compute.
        AffinityWork { rereads: matches!(self.0, Weights::Dense(_)), ..AffinityWork::default() }
    }
    fn solve<'a>(&'a self, _: &'a Costs<'a>, _: &Progress<'_>) -> Result<Weights<'a>> {
        // The solver uses `given` instead.
        Err(Error::Config { field: "affinity", why: "a precomputed affinity cannot be computed from rows".into() })
    }
    fn given(&self) -> Option<&Weights<'static>> {
        Some(&self.0)
    }
}
