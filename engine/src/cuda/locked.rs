//! Host memory that the driver holds in its place, so that it can be sent from where it lies.

use cudarc::driver::sys;

use super::Gpu;

/// Pages that are locked until this goes.
pub(crate) struct Locked<'a> {
    gpu: &'a Gpu,
    pages: Vec<&'a [u32]>,
}

impl<'a> Locked<'a> {
    pub(crate) fn new(gpu: &'a Gpu) -> Self {
        Locked { gpu, pages: Vec::new() }
    }

    /// Locks whole pages that nothing else has locked. Where the driver does not, nothing
    /// is lost but time: whoever sends from there sends by a buffer instead.
    pub(crate) fn lock(&mut self, pages: &'a [u32]) -> bool {
        let locked = self.gpu.context.bind_to_thread().and_then(|()| {
            // SAFETY: the pages outlive this, which unlocks them before it goes, and the driver writes nothing there.
            #[expect(unsafe_code, reason = "FFI: the driver's library")]
            unsafe { sys::cuMemHostRegister_v2(pages.as_ptr().cast_mut().cast(), size_of_val(pages), 0) }.result()
        });
        if locked.is_ok() {
            self.pages.push(pages);
        }
        locked.is_ok()
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        // Nothing may be on its way any more. An error that something else left is told first, and
        // only then waited for; a device that is lost has nothing under way.
        if self.gpu.sending.synchronize().is_err() {
            let _ = self.gpu.sending.synchronize();
        }
        for pages in &self.pages {
            // SAFETY: was locked, by this.
            #[expect(unsafe_code, reason = "FFI: the driver's library")]
            let _ = unsafe { sys::cuMemHostUnregister(pages.as_ptr().cast_mut().cast()) };
        }
    }
}
