//! What an attempt is given.

use crate::base::{Clock, Device, Shutdown, SystemClock};
use crate::rundir::RunDir;
use std::path::PathBuf;
use std::sync::Arc;

/// A device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The build lacks the backend.
    #[error("`{0}` was asked for, but this build has no CUDA; build with `--features cuda`")]
    NotBuiltIn(Device),
    /// The driver refused.
    #[error("cannot open `{device}`")]
    Open {
        /// Which.
        device: Device,
        /// What the driver said.
        source: candle_core::Error,
    },
}

/// Opens a device.
///
/// # Errors
/// It is not there, or this build cannot use it.
pub fn open_device(device: Device) -> Result<candle_core::Device, DeviceError> {
    match device {
        Device::Cpu => Ok(candle_core::Device::Cpu),
        Device::Cuda(_) if !cfg!(feature = "cuda") => Err(DeviceError::NotBuiltIn(device)),
        Device::Cuda(index) => candle_core::Device::new_cuda(index as usize)
            .map_err(|source| DeviceError::Open { device, source }),
    }
}

/// Positions of one forward and backward pass where the recipe's runtime names none.
pub(crate) fn micro_batch_tokens(device: Device) -> usize {
    match device {
        Device::Cpu => 2048,
        Device::Cuda(_) => 16_384,
    }
}

/// Everything an attempt is given from outside.
#[derive(Clone)]
pub struct StageContext {
    /// The project; paths of recipes are relative to it.
    pub root: PathBuf,
    /// The run's folder, with `stage.json`.
    pub run_dir: RunDir,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// Where to compute.
    pub device: Device,
    /// Asks the stage to save its state and end.
    pub shutdown: Shutdown,
    /// For time stamps.
    pub clock: Arc<dyn Clock>,
    /// The command line, for the record.
    pub argv: Vec<String>,
    /// Looks up a secret, such as the key of an endpoint, by name; only what the stage asks for is
    /// looked up, and nothing of it is stored.
    pub secret: fn(&str) -> Option<String>,
}

impl StageContext {
    /// On the CPU, with the machine's clock, and a flag that nobody sets.
    pub fn new(root: impl Into<PathBuf>, run_dir: RunDir, attempt: u32) -> Self {
        Self {
            root: root.into(),
            run_dir,
            attempt,
            device: Device::Cpu,
            shutdown: Shutdown::new(),
            clock: Arc::new(SystemClock),
            argv: Vec::new(),
            secret: |_| None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_built_in_is_refused_with_a_hint() {
        let error = open_device(Device::Cuda(0)).unwrap_err();
        assert!(error.to_string().contains("--features cuda"), "{error}");
    }
}
