//! What can go wrong on a device.

use thiserror::Error;

/// Why a device cannot be used, or what it refused.
#[derive(Debug, Error)]
pub enum GpuError {
    /// The machine has no driver.
    #[error("no NVIDIA driver: libcuda.so.1 was not found")]
    NoDriver,
    /// The driver is there and does not start.
    #[error("the NVIDIA driver does not start: {0}")]
    Driver(String),
    /// The driver shows fewer devices.
    #[error("no device {index}: the driver shows {count}")]
    NoDevice {
        /// The device asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A library that products need.
    #[error("{0} was not found: install it (`pip install nvidia-cublas`)")]
    NoLibrary(&'static str),
    /// The kernels want compute capability 8.0.
    #[error("{name}, compute {}.{}: too old, 8.0 is wanted", compute.0, compute.1)]
    TooOld {
        /// The card.
        name: String,
        /// Its compute capability.
        compute: (i32, i32),
    },
    /// The driver took none of the forms that the kernels are in.
    #[error("no kernels for this device: {0}")]
    NoKernels(String),
    /// The device's memory does not suffice.
    #[error("out of device memory: {wanted} bytes wanted, {free} free")]
    OutOfMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes free.
        free: usize,
    },
    /// A kernel did not run, or did what it must not do.
    #[error("kernel {kernel}: {why}")]
    Launch {
        /// The kernel.
        kernel: &'static str,
        /// What went wrong.
        why: String,
    },
    /// A request that no device could fulfil: sizes that do not fit, memory of another device.
    #[error("{0}")]
    Request(String),
    /// The device answers no more; nothing on it can be used.
    #[error("the device is lost: {0}")]
    Lost(String),
}

/// A result of the device.
pub type Result<T, E = GpuError> = std::result::Result<T, E>;
