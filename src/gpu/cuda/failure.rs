//! What the driver says, as our errors.

use crate::gpu::error::{GpuError, Result};
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

/// After these nothing on the card can be used; the process must end.
const FATAL: &[CUresult] = &[
    CUresult::CUDA_ERROR_ILLEGAL_ADDRESS,
    CUresult::CUDA_ERROR_MISALIGNED_ADDRESS,
    CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION,
    CUresult::CUDA_ERROR_INVALID_ADDRESS_SPACE,
    CUresult::CUDA_ERROR_INVALID_PC,
    CUresult::CUDA_ERROR_LAUNCH_FAILED,
    CUresult::CUDA_ERROR_LAUNCH_TIMEOUT,
    CUresult::CUDA_ERROR_HARDWARE_STACK_ERROR,
    CUresult::CUDA_ERROR_ECC_UNCORRECTABLE,
    CUresult::CUDA_ERROR_NVLINK_UNCORRECTABLE,
    CUresult::CUDA_ERROR_CONTAINED,
    CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE,
    CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED,
];

/// The driver's words.
pub(super) fn words(error: DriverError) -> String {
    let text = error.error_string().map(|text| text.to_string_lossy());
    text.map_or_else(|_| format!("{:?}", error.0), std::borrow::Cow::into_owned)
}

/// What kind of failure, seen from a request that has none of its own.
pub(super) fn failed(error: DriverError) -> GpuError {
    if FATAL.contains(&error.0) {
        return GpuError::Lost(words(error));
    }
    GpuError::Request(words(error))
}

pub(super) trait OrFailed<T> {
    /// The driver's error as ours.
    fn or_failed(self) -> Result<T>;
}

impl<T> OrFailed<T> for std::result::Result<T, DriverError> {
    fn or_failed(self) -> Result<T> {
        self.map_err(failed)
    }
}
