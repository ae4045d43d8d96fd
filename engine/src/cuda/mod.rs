//! NVIDIA GPUs, used through the driver alone: a build needs no part of CUDA, and a run needs only the driver.
//!
//! Kernels (`layout/cuda/layout.cu`, `neighbors/cuda/join.cu`) are written with `lanes.cuh`, which a C++ compiler
//! accepts too, so that tests without a GPU compare the kernels with the CPU code (`shim`). NVRTC compiles the
//! kernels to `kernels.ptx` (`./x gpu-kernels`); a test fails if that file is out of date.
//!
//! Invariant: a GPU computes the same bytes as the CPU.

#[cfg(feature = "cuda")]
mod gpu;
#[cfg(feature = "cuda")]
mod pinned;
#[cfg(test)]
pub(crate) mod shim;

#[cfg(feature = "cuda")]
pub use gpu::Gpu;
#[cfg(feature = "cuda")]
pub(crate) use gpu::is_out_of_memory;
#[cfg(feature = "cuda")]
pub(crate) use pinned::PinnedPages;

/// The kernels, compiled by NVRTC.
const KERNELS: &str = include_str!("kernels.ptx");
/// The text with which each kernel begins.
const PTX_ENTRY: &str = ".visible .entry ";

/// Returns the PTX of one kernel, with the common header. The driver compiles all the text that it
/// receives, and compiling all kernels would take seconds.
fn extract_kernel(ptx: &str, name: &str) -> String {
    let mut kernels = ptx.split(PTX_ENTRY);
    let mut out = kernels.next().unwrap_or_default().to_string();
    for kernel in kernels.filter(|kernel| kernel.strip_prefix(name).is_some_and(|rest| rest.starts_with('('))) {
        out.push_str(PTX_ENTRY);
        out.push_str(kernel);
    }
    out
}
