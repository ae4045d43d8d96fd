//! Where a layout runs: on the CPU, or on a GPU that is found.
//!
//! What must hold: it never decides the map (`cuda`), so a run that ended on one device goes on
//! on another; and a build without the feature `cuda` knows the words, and says what it lacks.

use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
pub use super::cuda::Gpu;
#[cfg(feature = "cuda")]
pub(super) use super::cuda::run;
#[cfg(not(feature = "cuda"))]
use crate::observe::Progress;
use crate::observe::{Event, Observer, Stage};
use crate::plan::Plan;
use crate::{Error, Result};

/// Where the layout runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// On the first GPU where one can be used, otherwise on the CPU.
    #[default]
    Auto,
    /// On the CPU.
    Cpu,
    /// On the NVIDIA GPU of a number, from 0.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "auto" => Ok(Device::Auto),
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|number| number.parse().ok())
                .map(Device::Cuda)
                .ok_or_else(|| format!("\"{text}\" is no device; there are auto, cpu, cuda and cuda:N, N from 0")),
        }
    }
}

/// That a build has no CUDA.
#[cfg(not(feature = "cuda"))]
#[derive(Debug)]
pub enum Gpu {}

/// What keeps a build from using a device, whatever the machine.
pub(crate) fn check(device: Device) -> std::result::Result<(), String> {
    match device {
        Device::Cuda(_) if !cfg!(feature = "cuda") => Err(format!(
            "{device}: this lowland was built without CUDA; build it with --features cuda, or ask for auto or cpu"
        )),
        _ => Ok(()),
    }
}

/// The GPU that a plan's layout runs on; none where that is the CPU. Where a GPU was only
/// welcome, a note says why there is none.
///
/// # Errors
/// Where a GPU was asked for and cannot be used.
pub(crate) fn find(plan: &Plan, observer: &dyn Observer) -> Result<Option<Gpu>> {
    let config = &plan.config;
    let number = match config.device {
        Device::Cpu => return Ok(None),
        Device::Auto if !cfg!(feature = "cuda") => return Ok(None),
        Device::Auto => 0,
        Device::Cuda(number) => number,
    };
    let note = |text: &str| match observer.event(&Event::Note { text }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Cancelled { stage: Stage::Layout.name() }),
    };
    let found = if config.method.objective().has_device() {
        let bytes = plan.shape.rows * super::row_bytes(config.n_components);
        open(number, config.device_memory, bytes)
    } else {
        Err(format!("{} has no kernel for a GPU yet", config.method))
    };
    match found {
        Ok(gpu) => {
            note(&format!("the layout runs on {}", name(&gpu)))?;
            Ok(Some(gpu))
        }
        Err(why) if config.device == Device::Auto => {
            note(&format!("the layout runs on the CPU: {why}"))?;
            Ok(None)
        }
        Err(why) => Err(Error::Device { what: format!("{}: {why}; --device cpu gives the same map", config.device) }),
    }
}

/// The GPU of a number, where it can hold a map of so many bytes.
#[cfg(feature = "cuda")]
fn open(number: usize, budget: Option<u64>, bytes: u64) -> std::result::Result<Gpu, String> {
    let gpu = Gpu::found(number, budget)?;
    gpu.holds(bytes).map(|()| gpu)
}

#[cfg(not(feature = "cuda"))]
fn open(number: usize, _: Option<u64>, _: u64) -> std::result::Result<Gpu, String> {
    check(Device::Cuda(number)).map(|()| unreachable!("a build without CUDA has no device"))
}

#[cfg(feature = "cuda")]
fn name(gpu: &Gpu) -> &str {
    gpu.name()
}

#[cfg(not(feature = "cuda"))]
fn name(gpu: &Gpu) -> &'static str {
    match *gpu {}
}

/// Bytes that are page-locked on the way to a GPU.
pub(super) fn needs(plan: &Plan) -> u64 {
    match plan.config.device {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => super::cuda::SENDING_BYTES,
        _ => 0,
    }
}

/// [`super::wide`]'s epochs on a GPU.
#[cfg(not(feature = "cuda"))]
#[expect(clippy::too_many_arguments, reason = "as the loop on the CPU, and the device")]
pub(super) fn run<K: super::Kernel, const DIM: usize>(
    gpu: &Gpu,
    _: &K,
    _: &super::Options,
    _: &super::Edges,
    _: u32,
    _: &mut [[f32; DIM]],
    _: &mut [[[f32; DIM]; 2]],
    _: &mut dyn super::Checkpoints,
    _: &Progress<'_>,
) -> Result<()> {
    match *gpu {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written_and_others_are_told_what_there_is() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda(0), Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(0)));
        for wrong in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "CUDA"] {
            let told = wrong.parse::<Device>().expect_err("refused");
            assert!(told.contains(&format!("\"{wrong}\"")) && told.contains("auto, cpu, cuda and cuda:N"), "{told}");
        }
    }
}
