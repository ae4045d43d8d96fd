//! Observers that record what happens in a run, and stop it.

use std::ops::ControlFlow;
use std::sync::Mutex;

use lowland_engine::{Event, Observer, Stage};

/// Stops the run when the closure returns true for an event.
pub(crate) struct StopWhen<F>(pub(crate) F);

impl<F: Fn(&Event<'_>) -> bool + Sync> Observer for StopWhen<F> {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        if (self.0)(event) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The event of a unit: its stage, its name, and whether it was found rather than made.
pub(crate) type UnitEvent = (Stage, String, bool);

/// Whether to stop at an event, given the units so far.
pub(crate) type StopRule<'a> = &'a (dyn Fn(&Event<'_>, &[UnitEvent]) -> bool + Sync);

/// Records the events of units; stops the run when the closure returns true for an event and the units so far.
pub(crate) struct UnitLog<F> {
    told: Mutex<Vec<UnitEvent>>,
    stop: F,
}

impl<F: Fn(&Event<'_>, &[UnitEvent]) -> bool + Sync> UnitLog<F> {
    pub(crate) fn new(stop: F) -> Self {
        UnitLog { told: Mutex::default(), stop }
    }

    pub(crate) fn told(self) -> Vec<UnitEvent> {
        self.told.into_inner().expect("no panic while told")
    }
}

impl<F: Fn(&Event<'_>, &[UnitEvent]) -> bool + Sync> Observer for UnitLog<F> {
    fn event(&self, event: &Event<'_>) -> ControlFlow<()> {
        let mut told = self.told.lock().expect("no panic while told");
        if let Event::Unit { stage, unit, reused } = *event {
            told.push((stage, unit.into(), reused));
        }
        if (self.stop)(event, &told) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Never stops.
pub(crate) fn never(_: &Event<'_>, _: &[UnitEvent]) -> bool {
    false
}

/// Stops at the `n`th unit, counted from 1.
pub(crate) fn after(n: usize) -> impl Fn(&Event<'_>, &[UnitEvent]) -> bool + Sync {
    move |_, told| told.len() >= n
}

/// The units that were made, with their stages.
pub(crate) fn made(told: &[UnitEvent]) -> Vec<(Stage, &str)> {
    told.iter().filter(|(.., reused)| !reused).map(|(stage, unit, _)| (*stage, unit.as_str())).collect()
}

/// The units that were reused, with their stages.
pub(crate) fn reused(told: &[UnitEvent]) -> Vec<(Stage, &str)> {
    told.iter().filter(|(.., reused)| *reused).map(|(stage, unit, _)| (*stage, unit.as_str())).collect()
}
