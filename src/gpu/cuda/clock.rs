//! Time between events.

use cudarc::driver::DriverError;
use cudarc::driver::sys::{CUevent, CUresult, culib};

/// Names of the function, the newest first: drivers from before CUDA 12.8 have the second alone, and cudarc calls the first,
/// which panics there.
const NAMES: [&[u8]; 2] = [b"cuEventElapsedTime_v2\0", b"cuEventElapsedTime\0"];

/// Milliseconds from one event to another.
///
/// # Safety
/// Both are events of the current context, which were recorded and have come.
#[expect(unsafe_code, reason = "calls of the driver")]
pub(super) unsafe fn elapsed(from: CUevent, to: CUevent) -> Result<f32, DriverError> {
    type Elapsed = unsafe extern "C" fn(*mut f32, CUevent, CUevent) -> CUresult;
    let mut ms = 0.0;
    // SAFETY: the driver is loaded, by whoever made the events; functions of these names have this type in every driver, and
    // write the number before they return.
    unsafe {
        let driver = culib();
        let found = NAMES
            .iter()
            .find_map(|name| driver.get::<Elapsed>(*name).ok());
        let call = found.ok_or(DriverError(CUresult::CUDA_ERROR_NOT_FOUND))?;
        call(&raw mut ms, from, to).result()?;
    }
    Ok(ms)
}
