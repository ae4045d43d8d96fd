//! Chooses the device for the layout and the kNN join of a run.

use std::ops::ControlFlow;

use crate::device::{Device, Gpu};
use crate::layout::LayoutObjective;
use crate::observe::{Event, Observer, Stage};
use crate::plan::Plan;
use crate::remark::Remark;
use crate::{Error, Result};

/// Returns the GPU for the layout, or none if the layout runs on the CPU. With [`Device::Auto`] a note
/// says why a GPU is not used, unless the machine has no driver.
///
/// # Errors
/// [`Error::Device`] if a GPU was requested by number and cannot be used; [`Error::Cancelled`] if the
/// observer stops the run.
pub(crate) fn layout_gpu(plan: &Plan, objective: &dyn LayoutObjective, observer: &dyn Observer) -> Result<Option<Gpu>> {
    let config = &plan.settings;
    let Some(number) = requested_gpu(config.device) else { return Ok(None) };
    let found = if objective.has_gpu_kernel() {
        open(number, config.device_memory).and_then(|gpu| {
            check_capacity(&gpu, "this map", crate::layout::device_bytes(plan))?;
            crate::layout::check_optional_gpu_room(plan).map(|()| gpu)
        })
    } else {
        Err(format!("{} does not run on a GPU", config.method))
    };
    match found {
        Ok(gpu) => {
            note(observer, Stage::Layout, &format!("the layout runs on {}", name(&gpu)))?;
            Ok(Some(gpu))
        }
        Err(why) if config.device == Device::Auto => {
            note(observer, Stage::Layout, &format!("the layout runs on the CPU: {why}"))?;
            Ok(None)
        }
        Err(why) => Err(Error::Device { what: format!("{}: {why}; `device` cpu gives the same map", config.device) }),
    }
}

/// Returns the GPU for the kNN join, or none if the join runs on the CPU. The CPU compares every pair for
/// an exact index, and joins data whose vectors do not fit into GPU memory; a note reports the latter. If
/// a GPU cannot be opened with [`Device::Auto`], a note says so only if the graph is the only result
/// (`alone`); otherwise the layout reports it.
///
/// # Errors
/// [`Error::Device`] if a GPU was requested by number and cannot be opened; [`Error::Cancelled`] if the
/// observer stops the run.
pub(crate) fn neighbors_gpu(plan: &Plan, observer: &dyn Observer, alone: bool) -> Result<Option<Gpu>> {
    let config = &plan.settings;
    let Some(number) = requested_gpu(config.device).filter(|_| plan.shape.dim > 0 && !plan.index.exact) else {
        return Ok(None);
    };
    let why = match open(number, config.device_memory) {
        Ok(gpu) => match check_capacity(&gpu, "the join", crate::neighbors::device_bytes(plan)) {
            Ok(()) => {
                note(observer, Stage::Neighbors, &format!("the neighbour search runs on {}", name(&gpu)))?;
                return Ok(Some(gpu));
            }
            Err(why) => why,
        },
        Err(why) if config.device == Device::Auto && alone => why,
        Err(_) if config.device == Device::Auto => return Ok(None),
        Err(why) => {
            let what = format!("{}: {why}; `device` cpu gives the same graph", config.device);
            return Err(Error::Device { what });
        }
    };
    note(observer, Stage::Neighbors, &format!("the neighbour search runs on the CPU: {why}"))?;
    Ok(None)
}

/// Returns the number of the GPU to open, if any.
fn requested_gpu(device: Device) -> Option<usize> {
    match device {
        Device::Cpu => None,
        // Most machines have no GPU, which needs no note.
        Device::Auto => has_driver().then_some(0),
        Device::Cuda(number) => Some(number),
    }
}

fn note(observer: &dyn Observer, stage: Stage, text: &str) -> Result<()> {
    match observer.event(&Event::Note { remark: &Remark::note("device", text) }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled { stage: stage.name() }),
    }
}

#[cfg(feature = "cuda")]
fn has_driver() -> bool {
    Gpu::has_driver()
}

#[cfg(not(feature = "cuda"))]
fn has_driver() -> bool {
    false
}

/// Opens GPU `number`, of whose memory `budget` bytes may be held.
#[cfg(feature = "cuda")]
fn open(number: usize, budget: Option<u64>) -> std::result::Result<Gpu, String> {
    Gpu::open(number, budget)
}

#[cfg(not(feature = "cuda"))]
fn open(number: usize, _: Option<u64>) -> std::result::Result<Gpu, String> {
    crate::device::check_build(Device::Cuda(number)).map(|()| unreachable!("a build without CUDA has no device"))
}

/// Checks that the GPU can hold `bytes` bytes for `what`.
#[cfg(feature = "cuda")]
fn check_capacity(gpu: &Gpu, what: &str, bytes: u64) -> std::result::Result<(), String> {
    gpu.check_capacity(what, bytes)
}

#[cfg(not(feature = "cuda"))]
fn check_capacity(gpu: &Gpu, _: &str, _: u64) -> std::result::Result<(), String> {
    match *gpu {}
}

#[cfg(feature = "cuda")]
fn name(gpu: &Gpu) -> &str {
    gpu.name()
}

#[cfg(not(feature = "cuda"))]
fn name(gpu: &Gpu) -> &'static str {
    match *gpu {}
}
