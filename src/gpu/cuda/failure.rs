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
    CUresult::CUDA_ERROR_ASSERT,
    CUresult::CUDA_ERROR_MPS_RPC_FAILURE,
    CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED,
    CUresult::CUDA_ERROR_UNKNOWN,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_after_which_the_context_is_dead_lose_the_card() {
        // As the driver numbers them.
        let dead = [
            (700, CUresult::CUDA_ERROR_ILLEGAL_ADDRESS),
            (710, CUresult::CUDA_ERROR_ASSERT),
            (719, CUresult::CUDA_ERROR_LAUNCH_FAILED),
            (806, CUresult::CUDA_ERROR_MPS_RPC_FAILURE),
            (810, CUresult::CUDA_ERROR_MPS_CLIENT_TERMINATED),
            (999, CUresult::CUDA_ERROR_UNKNOWN),
        ];
        for (number, code) in dead {
            assert_eq!(code as u32, number);
            assert!(FATAL.contains(&code), "{number}");
        }
        for code in [
            CUresult::CUDA_ERROR_INVALID_VALUE,
            CUresult::CUDA_ERROR_OUT_OF_MEMORY,
            CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES,
        ] {
            assert!(!FATAL.contains(&code), "{code:?}");
        }
    }
}
