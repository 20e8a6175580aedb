//! Where an attempt computes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A device; written and stored as `cpu`, `cuda:N` or `emulated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// The processor.
    Cpu,
    /// The CUDA device of that number.
    Cuda(u32),
    /// The kernels of cards, on the processor: for tests.
    Emulated,
}

impl Device {
    /// Whether it is a card, which two `lions run` never share.
    pub fn is_card(self) -> bool {
        matches!(self, Self::Cuda(_))
    }

    /// Positions of one forward and backward pass where the recipe's runtime names none: what keeps a processor's caches
    /// and a card's multiprocessors busy.
    pub fn usual_micro_batch(self) -> usize {
        match self {
            Self::Cpu | Self::Emulated => 2048,
            Self::Cuda(_) => 16_384,
        }
    }
}

/// A word that names no device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device; expected `cpu` or `cuda:N`")]
pub struct UnknownDevice(pub String);

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let card = || text.strip_prefix("cuda:")?.parse().ok().map(Self::Cuda);
        match text {
            "cpu" => Ok(Self::Cpu),
            "emulated" => Ok(Self::Emulated),
            _ => card().ok_or_else(|| UnknownDevice(text.to_owned())),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = UnknownDevice;

    fn try_from(text: String) -> Result<Self, UnknownDevice> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_written_as_it_is_read() {
        for text in ["cpu", "cuda:0", "cuda:12", "emulated"] {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
            let stored = serde_json::to_string(&device).unwrap();
            assert_eq!(stored, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Device>(&stored).unwrap(), device);
        }
        for text in ["cuda", "cuda:", "gpu:0", "unknown"] {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }
}
