//! The memory and the operations of a problem, computed before the problem is run.

use super::affinity::AffinityWork;
use super::costs::Costs;
use super::fit::Problem;
use super::{duplicates, init};
use crate::budget::MemoryNeeds;

/// Memory by phase, and operations.
#[derive(Debug, Clone, PartialEq)]
pub struct ProblemNeeds {
    /// The memory of each phase. The rows themselves belong to the caller and are not included.
    pub needs: MemoryNeeds,
    /// The bytes that would hold all of P, for [`super::FitControl::hold`]; 0 if P is sparse, given or
    /// stored dense.
    pub hold: u64,
    /// Operations for computing P.
    pub affinity_operations: f64,
    /// Operations of one iteration, if no rows of P are held.
    pub iteration_operations: f64,
    /// The most iterations.
    pub iterations: usize,
}

impl ProblemNeeds {
    /// Returns the most operations, if no rows of P are held.
    pub fn operations(&self) -> f64 {
        self.affinity_operations + self.iterations as f64 * self.iteration_operations
    }
}

/// Returns the memory and operations of `problem` for n rows of `dim` components with `threads`
/// threads, if `hold` bytes hold rows of P. No more memory than this is allocated.
pub fn needs(problem: &Problem, n: usize, dim: usize, threads: usize, hold: u64) -> ProblemNeeds {
    let width = problem.descent.n_components;
    let AffinityWork { peak, kept, passes, operations, rereads } = problem.affinity.work_estimate(n);
    let given = problem.affinity.given().is_some();
    let pairs = (n as f64).powi(2);
    let pass = if given { 0.0 } else { 3.0 * dim as f64 * pairs };
    let (loss, pairs_of_map) = problem.loss.work_estimate(n, width);
    // A dense P in closed form needs two n × n matrices if it is not symmetric. PHATE's P is stored
    // already.
    let whole = if rereads && !given && kept < 4 * (n as u64).pow(2) { 8 * (n as u64).pow(2) } else { 0 };
    let costs = if given { 0 } else { Costs::bytes(n, dim, threads) };
    let copies = if problem.descent.process_duplicates && !given { duplicates::bytes(n, dim) } else { 0 };
    let hold = hold.min(whole);
    // The gradient, the positions and the loss's memory.
    let optimizer = (n * (problem.descent.optimizer.numbers(width) + 2 * width + 1)) as u64 * 8;
    let needs = MemoryNeeds::default()
        .phase("affinity", [("rows without copies", copies), ("costs", costs), ("affinity", peak)])
        .phase(
            "descent",
            [
                ("rows without copies", copies),
                ("costs", costs),
                ("affinity", kept + hold),
                ("loss", loss),
                ("positions and optimizer", optimizer + init::bytes(&problem.descent.init, n, dim.max(1), width)),
            ],
        );
    // Held rows of P are read instead of recomputed.
    let reread = if rereads { (pass + 20.0 * pairs) * (1.0 - hold as f64 / whole.max(1) as f64) } else { 0.0 };
    ProblemNeeds {
        needs,
        hold: whole,
        affinity_operations: passes * pass + operations,
        iteration_operations: pairs_of_map + reread,
        iterations: problem.descent.max_iter,
    }
}
