//! The device for the kNN join and the layout: the CPU or a GPU.
//!
//! Invariants: the device never changes the result (`cuda`), so that a run can be resumed on another device. A build
//! without the feature `cuda` accepts the same device names and reports that CUDA is missing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

#[cfg(feature = "cuda")]
pub use crate::cuda::Gpu;

/// The device that runs the kNN join and the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// The first GPU if it can be used, otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The NVIDIA GPU of this number, from 0.
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
            _ => text.strip_prefix("cuda:").and_then(|number| number.parse().ok()).map(Device::Cuda).ok_or_else(|| {
                format!("\"{text}\" is not a device; the devices are auto, cpu, cuda and cuda:N, with N from 0")
            }),
        }
    }
}

/// A build without CUDA has no GPU: a type without values.
#[cfg(not(feature = "cuda"))]
#[derive(Debug)]
pub enum Gpu {}

/// Returns an error if this build cannot use the device on any machine.
pub(crate) fn check_build(device: Device) -> std::result::Result<(), String> {
    match device {
        Device::Cuda(_) if !cfg!(feature = "cuda") => Err(format!(
            "{device}: this lowland was built without CUDA; build it with --features cuda, or use auto or cpu"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_round_trip_and_unknown_ones_list_choices() {
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
