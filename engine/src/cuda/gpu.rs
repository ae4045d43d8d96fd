//! An opened GPU: its driver, memory and kernels.

use std::fmt;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DeviceRepr, DriverError, result, sys};
use cudarc::nvrtc::Ptx;

use crate::error::format_bytes;
use crate::{Error, Result};

/// The oldest CUDA version of a driver that can load the kernels: 12.4, as in their `.version`.
const MIN_DRIVER: i32 = 12_040;
/// Threads per block, chosen by measurement.
const THREADS: u32 = 256;
/// Bytes of GPU memory left to the driver and to other programs.
const RESERVED_BYTES: u64 = 256 << 20;

/// An opened GPU and its settings.
pub struct Gpu {
    pub(crate) name: String,
    pub(crate) context: Arc<CudaContext>,
    /// Stream on which kernels run.
    pub(crate) stream: Arc<CudaStream>,
    /// Stream on which edges are sent.
    pub(crate) sending: Arc<CudaStream>,
    /// Limit of the GPU memory that may be held, in bytes.
    budget: Option<u64>,
    kernels: String,
    pub(crate) threads: u32,
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gpu({})", self.name)
    }
}

impl Gpu {
    /// Returns whether the machine has an NVIDIA driver.
    pub(crate) fn has_driver() -> bool {
        // SAFETY: loads the driver's library, which only defines functions.
        #[expect(unsafe_code, reason = "FFI: the driver's library")]
        unsafe {
            sys::is_culib_present()
        }
    }

    /// Opens GPU `number`. At most `budget` bytes of its memory are used, by default all free memory less a reserve.
    ///
    /// # Errors
    /// A text that says why the GPU cannot be used.
    pub fn open(number: usize, budget: Option<u64>) -> std::result::Result<Self, String> {
        if !Gpu::has_driver() {
            return Err("no NVIDIA driver was found (libcuda.so.1)".into());
        }
        result::init().map_err(|e| format!("the NVIDIA driver does not start: {}", driver_message(e)))?;
        let knows = driver_version();
        if knows < MIN_DRIVER {
            let (major, minor) = (knows / 1000, knows % 1000 / 10);
            return Err(format!(
                "the NVIDIA driver knows CUDA {major}.{minor} and 12.4 is needed: driver 550 or newer"
            ));
        }
        let count = result::device::get_count().map_err(driver_message)?;
        if number as i64 >= i64::from(count) {
            return Err(format!("there is no GPU {number}: the driver has {count}, numbered from 0"));
        }
        let open = || {
            let context = CudaContext::new(number)?;
            // Two non-default streams: once the second exists, cudarc orders work between the streams by events.
            let (stream, sending) = (context.new_stream()?, context.new_stream()?);
            Ok((context.name()?, context, stream, sending))
        };
        let (name, context, stream, sending) =
            open().map_err(|e: DriverError| format!("GPU {number} cannot be used: {}", driver_message(e)))?;
        Ok(Gpu { name, context, stream, sending, budget, kernels: super::KERNELS.into(), threads: THREADS })
    }

    /// Returns the GPU's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Checks that `bytes` bytes can be allocated for `what`.
    ///
    /// # Errors
    /// A text that says how many bytes are usable and how many are needed.
    pub(crate) fn check_capacity(&self, what: &str, bytes: u64) -> std::result::Result<(), String> {
        let usable = self.usable_bytes().map_err(|e| format!("{}: {}", self.name, driver_message(e)))?;
        if bytes <= usable {
            return Ok(());
        }
        let (usable, needed) = (format_bytes(usable), format_bytes(bytes));
        Err(format!("{}: {usable} of its memory may be used, and {what} needs {needed}", self.name))
    }

    /// Returns the bytes of GPU memory that may be used now.
    pub(crate) fn usable_bytes(&self) -> std::result::Result<u64, DriverError> {
        let (free, _) = self.context.mem_get_info()?;
        Ok((free as u64).saturating_sub(RESERVED_BYTES).min(self.budget.unwrap_or(u64::MAX)))
    }

    /// Replaces the kernels and the number of threads per block, for measurements.
    #[doc(hidden)]
    pub fn with_kernels(mut self, kernels: Option<String>, threads: u32) -> Self {
        if let Some(kernels) = kernels {
            self.kernels = kernels;
        }
        self.threads = threads;
        self
    }

    /// Loads the kernel `name`.
    pub(crate) fn kernel(&self, name: &str) -> Result<CudaFunction> {
        let module = self.context.load_module(Ptx::from_src(super::extract_kernel(&self.kernels, name)));
        module.and_then(|module| module.load_function(name)).map_err(|e| self.driver_error("load a kernel", e))
    }

    /// Allocates memory for `count` values, uninitialised.
    pub(crate) fn allocate<T: DeviceRepr>(&self, count: usize) -> std::result::Result<CudaSlice<T>, DriverError> {
        // SAFETY: every caller writes the memory before it is read.
        #[expect(unsafe_code, reason = "FFI: device memory")]
        unsafe {
            self.stream.alloc(count)
        }
    }

    /// Returns the error of a run that this GPU cannot continue, with the way out: the CPU continues it.
    pub(crate) fn error(&self, what: &str) -> Error {
        Error::Device { what: format!("{}: {what}; continue the run with `device` cpu", self.name) }
    }

    /// Returns the error of a driver's call that failed.
    pub(crate) fn driver_error(&self, doing: &str, error: DriverError) -> Error {
        self.error(&format!("cannot {doing}: {}", driver_message(error)))
    }
}

/// Returns the driver's description of an error.
fn driver_message(error: DriverError) -> String {
    let said = |s: std::result::Result<&std::ffi::CStr, DriverError>| s.ok().map(|s| s.to_string_lossy().into_owned());
    match (said(error.error_name()), said(error.error_string())) {
        (Some(name), Some(string)) => format!("{string} ({name})"),
        _ => format!("{:?}", error.0),
    }
}

pub(crate) fn is_out_of_memory(error: DriverError) -> bool {
    error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY
}

fn driver_version() -> i32 {
    let mut version = 0;
    // SAFETY: the call only writes one number.
    #[expect(unsafe_code, reason = "FFI: the driver's library")]
    let asked = unsafe { sys::cuDriverGetVersion(&raw mut version) }.result();
    asked.map_or(0, |()| version)
}
