//! Page-locked host memory, from which a GPU can copy directly.

use cudarc::driver::sys;

use super::Gpu;

/// Pages that stay locked until this value is dropped.
pub(crate) struct PinnedPages<'a> {
    gpu: &'a Gpu,
    pages: Vec<&'a [u32]>,
}

impl<'a> PinnedPages<'a> {
    pub(crate) fn new(gpu: &'a Gpu) -> Self {
        PinnedPages { gpu, pages: Vec::new() }
    }

    /// Locks whole pages that are not locked yet, and returns whether the driver did. If it did not, data
    /// is sent through a buffer instead, which is only slower.
    pub(crate) fn lock(&mut self, pages: &'a [u32]) -> bool {
        let locked = self.gpu.context.bind_to_thread().and_then(|()| {
            // SAFETY: `self` unlocks the pages before their lifetime ends, and the driver does not write to them.
            #[expect(unsafe_code, reason = "FFI: the driver's library")]
            unsafe { sys::cuMemHostRegister_v2(pages.as_ptr().cast_mut().cast(), size_of_val(pages), 0) }.result()
        });
        if locked.is_ok() {
            self.pages.push(pages);
        }
        locked.is_ok()
    }
}

impl Drop for PinnedPages<'_> {
    fn drop(&mut self) {
        // No copy may be in progress. If `synchronize` fails, the error may stem from an earlier operation and have
        // returned without waiting, so it is called again. A lost device has no copy in progress.
        if self.gpu.sending.synchronize().is_err() {
            let _ = self.gpu.sending.synchronize();
        }
        for pages in &self.pages {
            // SAFETY: these pages were locked by `lock`.
            #[expect(unsafe_code, reason = "FFI: the driver's library")]
            let _ = unsafe { sys::cuMemHostUnregister(pages.as_ptr().cast_mut().cast()) };
        }
    }
}
