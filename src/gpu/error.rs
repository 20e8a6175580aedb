//! What can go wrong on a device.

use thiserror::Error;

/// Why a device cannot be used, or what it refused.
#[derive(Debug, Error)]
pub enum GpuError {
    /// The machine has no driver.
    #[error("no NVIDIA driver: libcuda.so.1 was not found")]
    NoDriver,
    /// The program opens no libraries, a driver among them.
    #[error(
        "this program is linked statically and can open no driver: use the build for `x86_64-unknown-linux-gnu`"
    )]
    Static,
    /// The driver is there and does not start.
    #[error("the NVIDIA driver does not start: {0}")]
    Driver(String),
    /// The driver lacks functions that are called.
    #[error(
        "the NVIDIA driver is for CUDA {}.{}: too old, 11.8 (driver 520) is wanted",
        cuda.0, cuda.1
    )]
    OldDriver {
        /// The newest CUDA that it knows.
        cuda: (i32, i32),
    },
    /// The driver shows fewer devices.
    #[error("there is no cuda:{index}: the driver shows {}", shown(*count))]
    NoDevice {
        /// The device asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The driver does not show the card that this process was given.
    #[error("the driver does not show the card {0}")]
    NoCard(String),
    /// The program was built without cards.
    #[error("this program was built without cards (feature `gpu`)")]
    NotBuiltIn,
    /// A library that products need.
    #[error(
        "{0} was not found: install it (`pip install nvidia-cublas`) or name its folder in `LIONS_CUDA_LIB`"
    )]
    NoLibrary(&'static str),
    /// The kernels want compute capability 8.0.
    #[error("{name}, compute {}.{}: too old, 8.0 is wanted", compute.0, compute.1)]
    TooOld {
        /// The card.
        name: String,
        /// Its compute capability.
        compute: (i32, i32),
    },
    /// The driver took none of the forms that the kernels are in, or a model wants what none of them does.
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
    /// The host gives no memory that devices reach.
    #[error(
        "the optimiser's state does not fit the device and takes {wanted} bytes of the host's memory, of which \
         {available} are available: fewer runs at a time (`--jobs`), `precision = \"bf16\"`, `lora` or a larger GPU take less"
    )]
    NoHostMemory {
        /// Bytes asked for.
        wanted: usize,
        /// Bytes that the host has.
        available: u64,
    },
    /// The host refuses memory that is locked for a device to reach it, so many bytes.
    #[error(
        "a part of the optimiser's state, {0} bytes, gets no page-locked memory of the host: fewer runs at a time (`--jobs`), \
         `precision = \"bf16\"`, `lora` or a larger GPU take less"
    )]
    Unpinned(usize),
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
    #[error("the device is lost: {0}; `nvidia-smi` and the log of the system's kernel say more")]
    Lost(String),
    /// A device that computes the same training failed; its own error says why.
    #[error("another device of this training failed")]
    Alone,
    /// The kernels cannot be emulated.
    #[error("no emulation of the kernels: {0}")]
    NoEmulation(String),
    /// A device computes something else than the host.
    #[error("{what} is wrong: {why}")]
    Wrong {
        /// What was computed.
        what: &'static str,
        /// How far it is from what it should be.
        why: String,
    },
}

fn shown(count: usize) -> String {
    match count {
        0 => "no card".to_owned(),
        1 => "one card".to_owned(),
        many => format!("{many} cards"),
    }
}

/// A result of the device.
pub type Result<T, E = GpuError> = std::result::Result<T, E>;
