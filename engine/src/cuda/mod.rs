//! An NVIDIA GPU, used through its driver alone: nothing of CUDA is needed to build, and
//! none but the driver to run.
//!
//! Kernels (`layout/cuda/layout.cu`, `neighbors/cuda/join.cu`) are written over `lanes.cuh`,
//! which a C++ compiler understands as well: so tests hold them against the CPU without a GPU
//! (`shim`). `kernels.ptx` is what NVRTC makes of them, by `./x gpu-kernels`; a test tells
//! when it is out of date.
//!
//! What must hold: what is made here has the bytes of what is made on the CPU.

#[cfg(feature = "cuda")]
mod gpu;
#[cfg(feature = "cuda")]
mod locked;
#[cfg(test)]
pub(crate) mod shim;

#[cfg(feature = "cuda")]
pub use gpu::Gpu;
#[cfg(feature = "cuda")]
pub(crate) use gpu::is_out_of_memory;
#[cfg(feature = "cuda")]
pub(crate) use locked::Locked;

/// What NVRTC makes of the kernels.
const KERNELS: &str = include_str!("kernels.ptx");
/// What each kernel begins with.
const ENTRY: &str = ".visible .entry ";

/// The one kernel of a name, with what stands before them all: the driver compiles what it
/// is given, and all of them would take it seconds.
fn only(ptx: &str, name: &str) -> String {
    let mut kernels = ptx.split(ENTRY);
    let mut out = kernels.next().unwrap_or_default().to_string();
    for kernel in kernels.filter(|kernel| kernel.strip_prefix(name).is_some_and(|rest| rest.starts_with('('))) {
        out.push_str(ENTRY);
        out.push_str(kernel);
    }
    out
}
