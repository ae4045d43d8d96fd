//! What a problem takes, before it runs.

use super::affinity::Toll;
use super::costs::Costs;
use super::fit::Problem;
use super::{duplicates, init};
use crate::budget::Needs;

/// Bytes, phase by phase, and operations.
#[derive(Debug, Clone, PartialEq)]
pub struct Takes {
    /// What is held, as stages say it. The rows themselves are the caller's, and are not in it.
    pub needs: Needs,
    /// Bytes that would hold all of P, for [`super::Run::hold`]; 0 where it is not all pairs, or is held anyway.
    pub hold: u64,
    /// Operations until P is found.
    pub affinity_operations: f64,
    /// Operations of an iteration, with nothing held.
    pub iteration_operations: f64,
    /// Iterations at the most.
    pub iterations: usize,
}

impl Takes {
    /// Operations at the most, with nothing held.
    pub fn operations(&self) -> f64 {
        self.affinity_operations + self.iterations as f64 * self.iteration_operations
    }
}

/// What `problem` takes for n rows of dim components, by `threads` threads,
/// with `hold` bytes to hold P in. No more than this is allocated.
pub fn needs(problem: &Problem, n: usize, dim: usize, threads: usize, hold: u64) -> Takes {
    let width = problem.descent.n_components;
    let Toll { peak, kept, passes, operations, rereads } = problem.affinity.toll(n);
    let given = problem.affinity.given().is_some();
    let pairs = (n as f64).powi(2);
    let pass = if given { 0.0 } else { 3.0 * dim as f64 * pairs };
    let (loss, pairs_of_map) = problem.loss.toll(n, width);
    // Dense affinities other than PHATE's are twice an n × n matrix where they are not symmetric.
    let whole = if rereads && !given && kept < 4 * (n as u64).pow(2) { 8 * (n as u64).pow(2) } else { 0 };
    let costs = if given { 0 } else { Costs::bytes(n, dim, threads) };
    let copies = if problem.descent.process_duplicates && !given { duplicates::bytes(n, dim) } else { 0 };
    let hold = hold.min(whole);
    // The gradient, the positions, and what the loss remembers.
    let optimizer = (n * (problem.descent.optimizer.numbers(width) + 2 * width + 1)) as u64 * 8;
    let needs = Needs::default()
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
    // What is held is not made again, but read.
    let reread = if rereads { (pass + 20.0 * pairs) * (1.0 - hold as f64 / whole.max(1) as f64) } else { 0.0 };
    Takes {
        needs,
        hold: whole,
        affinity_operations: passes * pass + operations,
        iteration_operations: pairs_of_map + reread,
        iterations: problem.descent.max_iter,
    }
}
