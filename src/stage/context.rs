//! What an attempt is given.

use crate::base::{Clock, Shutdown, SystemClock};
use crate::rundir::RunDir;
use candle_core::Device;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

/// Where a stage computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    Cpu,
    /// The CUDA device of that number.
    Cuda(usize),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// A word that names no device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device; expected `cpu` or `cuda:N`")]
pub struct UnknownDevice(pub String);

impl FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        match (text, text.strip_prefix("cuda:")) {
            ("cpu", _) => Ok(Self::Cpu),
            (_, Some(index)) => {
                let index = index.parse().map_err(|_| UnknownDevice(text.to_owned()))?;
                Ok(Self::Cuda(index))
            }
            _ => Err(UnknownDevice(text.to_owned())),
        }
    }
}

/// A device cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The build lacks the backend.
    #[error("`{0}` was asked for, but this build has no CUDA; build with `--features cuda`")]
    NotBuiltIn(DeviceChoice),
    /// The driver refused.
    #[error("cannot open `{device}`")]
    Open {
        /// Which.
        device: DeviceChoice,
        /// What the driver said.
        source: candle_core::Error,
    },
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// It is not there, or this build cannot use it.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cfg!(feature = "cuda") => Err(DeviceError::NotBuiltIn(self)),
            Self::Cuda(index) => Device::new_cuda(index).map_err(|source| DeviceError::Open {
                device: self,
                source,
            }),
        }
    }

    /// Positions of one forward and backward pass where the recipe's runtime names none.
    pub(crate) fn micro_batch_tokens(self) -> usize {
        match self {
            Self::Cpu => 2048,
            Self::Cuda(_) => 16_384,
        }
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
    pub device: DeviceChoice,
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
            device: DeviceChoice::Cpu,
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

    #[test]
    fn a_device_is_written_as_it_is_read() {
        for text in ["cpu", "cuda:0", "cuda:12"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert!("cuda".parse::<DeviceChoice>().is_err());
        assert!("gpu:0".parse::<DeviceChoice>().is_err());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_device_that_is_not_built_in_is_refused_with_a_hint() {
        let error = DeviceChoice::Cuda(0).open().unwrap_err();
        assert!(error.to_string().contains("--features cuda"), "{error}");
    }
}
