//! The context of a card on this thread, its stream and the kernels' module.

use super::failure::{OrFailed as _, words};
use super::images::is_machine_code;
use crate::gpu::error::{GpuError, Result};
use cudarc::driver::result::{ctx, module, primary_ctx, stream};
use cudarc::driver::sys::{CUdevice, CUmodule, CUstream};
use std::cell::Cell;

thread_local! {
    /// Whether this thread has a card.
    static CLAIMED: Cell<bool> = const { Cell::new(false) };
}

/// The right to make a context current on this thread. The driver's calls go to the context that is current, so with
/// two cards the first one's would go to the second.
pub(super) struct Claim;

impl Claim {
    /// # Errors
    /// It is taken.
    pub(super) fn take() -> Result<Self> {
        if CLAIMED.replace(true) {
            let why = "this thread has a card already: one thread, one card";
            return Err(GpuError::Request(why.to_owned()));
        }
        Ok(Self)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.set(false);
    }
}

/// The card's context, made current on this thread, its stream and the kernels; null where `new` did not come so far.
pub(super) struct Context {
    device: CUdevice,
    pub(super) stream: CUstream,
    pub(super) module: CUmodule,
    /// Whether the driver took the kernels as machine code.
    pub(super) is_machine_code: bool,
    /// That it stays the thread's own.
    _claim: Claim,
}

impl Context {
    /// With the first of the images of the kernels that the driver takes.
    ///
    /// # Errors
    /// The driver refuses a context, or all images.
    pub(super) fn new(claim: Claim, device: CUdevice, images: &[Vec<u8>]) -> Result<Self> {
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the device comes from the driver. What was retained is released by `Drop`, also if a later line fails.
        let mut own = unsafe {
            let context = primary_ctx::retain(device).or_failed()?;
            let mut own = Self {
                device,
                stream: std::ptr::null_mut(),
                module: std::ptr::null_mut(),
                is_machine_code: false,
                _claim: claim,
            };
            ctx::set_current(context).or_failed()?;
            own.stream = stream::create(stream::StreamKind::NonBlocking).or_failed()?;
            own
        };
        let mut why = String::new();
        for image in images {
            #[expect(unsafe_code, reason = "calls of the driver")]
            // SAFETY: a whole cubin, or text that ends with a zero.
            match unsafe { module::load_data(image.as_ptr().cast()) } {
                Ok(module) => {
                    own.module = module;
                    own.is_machine_code = is_machine_code(image);
                    return Ok(own);
                }
                Err(e) => why = words(e),
            }
        }
        Err(GpuError::NoKernels(why))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: made by `new`, and given back once, after all that used it.
        unsafe {
            if !self.stream.is_null() {
                note(stream::destroy(self.stream));
            }
            if !self.module.is_null() {
                note(module::unload(self.module));
            }
            note(primary_ctx::release(self.device));
        }
    }
}

/// Nothing can be done about a failure to give something back; a lost card fails every time.
pub(super) fn note(result: std::result::Result<(), cudarc::driver::DriverError>) {
    if let Err(e) = result {
        tracing::debug!("closing a card: {}", words(e));
    }
}
