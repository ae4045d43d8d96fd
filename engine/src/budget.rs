//! The memory budget: one number of bytes, and the record of which phase holds how much of it.
//!
//! The contract:
//!
//! - A stage declares beforehand what it will hold: its `needs`, phase by phase, each part with a name. The
//!   planner sizes the parts so that every phase fits, and `lowland plan` prints them.
//! - When a phase begins, the stage takes its parts from the [`Budget`] as one [`Reservation`], which returns
//!   them when it is dropped, however the phase ends. A phase that was not planned for cannot take more than is
//!   left: that is an error.
//! - A phase allocates no more than its parts. Tests compare the two, using the anonymous memory that the
//!   operating system counts.
//! - Not taken from the budget are [`base_bytes`], which the process holds in every stage, and a margin that the
//!   planner leaves.
//!
//! A stage takes what it declared:
//!
//! ```
//! use lowland_engine::budget::{Budget, MemoryNeeds};
//!
//! let needs = MemoryNeeds::default().phase("sort", [("rows", 60 << 20), ("keys", 20 << 20)]);
//! let budget = Budget::new(100 << 20);
//! let held = budget.take(&needs.phases[0])?;
//! assert_eq!(budget.taken(), needs.bytes());
//! assert!(budget.take(&needs.phases[0]).is_err()); // 160 MiB of 100 MiB
//! drop(held);
//! assert_eq!(budget.taken(), 0);
//! # Ok::<(), lowland_engine::Error>(())
//! ```

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Returns the bytes that the process holds in addition to the stages' parts: code, allocator, thread stacks,
/// free space between allocated blocks, and the memory that BLAS keeps for each thread after vectors of `dim`
/// components went through it. Measured with two threads: 3 MiB at 16 to 128 components, 10 MiB at 384, 13 MiB
/// at 768.
pub fn base_bytes(dim: usize, threads: usize) -> u64 {
    const WIDEST: u64 = 1024;
    (6 << 20) + threads as u64 * ((1 << 20) + (dim as u64).min(WIDEST) * (8 << 10))
}

/// No stage plans to use the last 1 / `MARGIN_DIVISOR` of the budget.
const MARGIN_DIVISOR: u64 = 20;

/// Returns the bytes that stages may plan to hold if the budget is `memory` bytes, of which the process holds `base`
/// all the time.
pub(crate) fn usable(memory: u64, base: u64) -> u64 {
    memory.saturating_sub(base + memory / MARGIN_DIVISOR)
}

/// Returns the smallest budget in which a stage may plan to hold `bytes` beside `base`. It is in whole MiB, so that
/// the number can be typed as it is printed.
pub(crate) fn smallest(bytes: u64, base: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    // The margin grows with the budget; the smallest budget must leave it free.
    let held = bytes.saturating_add(base);
    let with_margin = held.saturating_add(held / (MARGIN_DIVISOR - 1));
    with_margin.div_ceil(MIB).saturating_add(1).saturating_mul(MIB)
}

/// A part of a phase's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPart {
    /// What the memory is used for, for users.
    pub what: Cow<'static, str>,
    /// Number of bytes.
    pub bytes: u64,
}

/// The memory that is held at the same time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// The phase's name.
    pub name: &'static str,
    /// The parts of the memory.
    pub parts: Vec<MemoryPart>,
}

impl Phase {
    /// Returns the bytes of all parts.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

/// The memory of a stage, phase after phase.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryNeeds {
    /// The phases, in order.
    pub phases: Vec<Phase>,
}

impl MemoryNeeds {
    /// Adds a phase. Parts of 0 bytes are left out.
    pub fn phase(mut self, name: &'static str, parts: impl IntoIterator<Item = (&'static str, u64)>) -> Self {
        let parts = parts.into_iter().filter(|&(_, bytes)| bytes > 0);
        self.phases
            .push(Phase { name, parts: parts.map(|(what, bytes)| MemoryPart { what: what.into(), bytes }).collect() });
        self
    }

    /// Returns the phase with the most bytes.
    pub fn largest(&self) -> Option<&Phase> {
        self.phases.iter().max_by_key(|phase| phase.bytes())
    }

    /// Returns the bytes of the phase with the most bytes.
    pub fn bytes(&self) -> u64 {
        self.largest().map_or(0, Phase::bytes)
    }
}

/// A number of bytes that may be held, and the bytes taken from it. Clones share the same budget.
#[derive(Debug, Clone)]
pub struct Budget {
    total: u64,
    held: Arc<Mutex<BudgetState>>,
}

#[derive(Debug, Default)]
struct BudgetState {
    parts: Vec<(u64, Phase)>,
    taken: u64,
    most: u64,
    next: u64,
}

impl Budget {
    /// Returns a budget of `total` bytes.
    pub fn new(total: u64) -> Self {
        Budget { total, held: Arc::default() }
    }

    /// Takes a phase's parts.
    ///
    /// # Errors
    /// [`Error::Budget`] if that is more than is left.
    pub fn take(&self, phase: &Phase) -> Result<Reservation> {
        let mut held = self.lock();
        let wanted = held.taken.saturating_add(phase.bytes());
        if wanted > self.total {
            return Err(Error::Budget { asked: self.total, needed: wanted, stage: phase.name });
        }
        held.taken = wanted;
        held.most = held.most.max(wanted);
        held.next += 1;
        let number = held.next;
        held.parts.push((number, phase.clone()));
        Ok(Reservation { budget: self.clone(), number })
    }

    /// Returns the bytes that are taken now.
    pub fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Returns the most bytes that were taken at the same time since the last call.
    pub fn take_peak(&self) -> u64 {
        let mut held = self.lock();
        let taken = held.taken;
        std::mem::replace(&mut held.most, taken)
    }

    fn lock(&self) -> MutexGuard<'_, BudgetState> {
        // A panic cannot leave a half-done change behind the lock, so that a poisoned lock is usable.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes taken from a budget, which are returned when the reservation is dropped.
#[derive(Debug)]
#[must_use = "dropped at once, it is given back at once"]
pub struct Reservation {
    budget: Budget,
    number: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = self.budget.lock();
        if let Some(at) = held.parts.iter().position(|(number, _)| *number == self.number) {
            let (_, phase) = held.parts.swap_remove(at);
            held.taken -= phase.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_budget_is_enough_and_few_less_are_not() {
        for (bytes, base) in
            [(0, 0), (1, 8 << 20), (100 << 20, 8 << 20), (95 << 20, 5 << 20), (7_654_321_987, 12_345_678)]
        {
            let least = smallest(bytes, base);
            assert!(usable(least, base) >= bytes, "{bytes} {base}: {least}");
            assert_eq!(least % (1 << 20), 0);
            assert!(usable(least.saturating_sub(3 << 20), base) <= bytes, "{bytes} {base}: {least}");
        }
        assert!(smallest(u64::MAX, 1) >= u64::MAX - (1 << 20));
    }

    #[test]
    fn reservations_are_returned_and_never_exceed_the_total() {
        let needs =
            MemoryNeeds::default().phase("first", [("a", 60), ("b", 0)]).phase("second", [("c", 30), ("d", 40)]);
        assert_eq!(needs.bytes(), 70);
        assert_eq!(needs.phases[0].parts.len(), 1);
        let budget = Budget::new(100);
        let first = budget.take(&needs.phases[0]).expect("fits");
        let Err(Error::Budget { asked: 100, needed: 130, stage: "second" }) = budget.take(&needs.phases[1]) else {
            panic!("130 of 100 were given");
        };
        assert_eq!(budget.taken(), 60);
        drop(first);
        let second = budget.take(&needs.phases[1]).expect("fits now");
        assert_eq!((budget.taken(), budget.take_peak()), (70, 70));
        drop(second);
        assert_eq!((budget.taken(), budget.take_peak(), budget.take_peak()), (0, 70, 0));
    }
}
