//! Where an attempt computes.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A device; written and stored as `cpu`, `cuda:N`, `cuda:N+M` or `emulated`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Device {
    /// The processor.
    Cpu,
    /// The CUDA device of that number.
    Cuda(u32),
    /// Several CUDA devices, for one training.
    Several(Cards),
    /// The kernels of cards, on the processor: for tests.
    Emulated,
}

/// CUDA devices of different numbers below 64, two at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cards(u64);

impl Cards {
    /// How many.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Their numbers, the lowest first.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        (0..u64::BITS).filter(move |number| self.0 >> number & 1 == 1)
    }
}

impl Device {
    /// The numbers of the cards that it is.
    pub fn cards(self) -> Vec<u32> {
        match self {
            Self::Cpu | Self::Emulated => Vec::new(),
            Self::Cuda(number) => vec![number],
            Self::Several(cards) => cards.numbers().collect(),
        }
    }

    /// Cards of these numbers; none where there is none, one is there twice, or of several one is 64 or higher.
    pub fn of_cards(numbers: &[u32]) -> Option<Self> {
        if let [number] = *numbers {
            return Some(Self::Cuda(number));
        }
        let mut all = 0u64;
        for number in numbers {
            let bit = 1u64.checked_shl(*number)?;
            if all & bit != 0 {
                return None;
            }
            all |= bit;
        }
        (all != 0).then_some(Self::Several(Cards(all)))
    }

    /// Itself, where that is one device: what trains nothing has no use for more.
    ///
    /// # Errors
    /// It is several cards.
    pub fn alone(self) -> Result<Self, SeveralCards> {
        match self {
            Self::Several(_) => Err(SeveralCards(self)),
            one => Ok(one),
        }
    }

    /// Whether a card is a part of both: two `lions run` never share one.
    pub fn meets(self, other: Self) -> bool {
        let others = other.cards();
        self.cards().iter().any(|card| others.contains(card))
    }

    /// Positions of one forward and backward pass where the recipe's runtime names none: what keeps a processor's caches
    /// and a card's multiprocessors busy.
    pub fn usual_micro_batch(self) -> usize {
        match self {
            Self::Cpu | Self::Emulated => 2048,
            Self::Cuda(_) | Self::Several(_) => 16_384,
        }
    }
}

/// Several cards where one is wanted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is several GPUs, which a training alone makes use of; name one, as `cuda:0`")]
pub struct SeveralCards(pub Device);

/// A word that names no device.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no device; expected `cpu` or `cuda:N`")]
pub struct UnknownDevice(pub String);

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
            Self::Several(cards) => {
                let numbers: Vec<String> = cards.numbers().map(|n| n.to_string()).collect();
                write!(f, "cuda:{}", numbers.join("+"))
            }
            Self::Emulated => f.write_str("emulated"),
        }
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let card = || {
            let numbers = text.strip_prefix("cuda:")?.split('+');
            let numbers: Option<Vec<u32>> = numbers.map(|number| number.parse().ok()).collect();
            Self::of_cards(&numbers?)
        };
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
        for text in [
            "cpu",
            "cuda:0",
            "cuda:12",
            "cuda:0+1",
            "cuda:2+5+63",
            "emulated",
        ] {
            let device: Device = text.parse().unwrap();
            assert_eq!(device.to_string(), text);
            let stored = serde_json::to_string(&device).unwrap();
            assert_eq!(stored, format!("\"{text}\""));
            assert_eq!(serde_json::from_str::<Device>(&stored).unwrap(), device);
        }
        let wrong = [
            "cuda",
            "cuda:",
            "gpu:0",
            "unknown",
            "cuda:0+",
            "cuda:1+1",
            "cuda:0+64",
        ];
        for text in wrong {
            assert!(text.parse::<Device>().is_err(), "{text}");
        }
    }

    #[test]
    fn several_cards_are_refused_where_one_is_wanted() {
        let error = "cuda:0+1".parse::<Device>().unwrap().alone().unwrap_err();
        assert!(
            error.to_string().contains("`cuda:0+1` is several GPUs"),
            "{error}"
        );
        assert_eq!(Device::Cuda(1).alone(), Ok(Device::Cuda(1)));
    }

    #[test]
    fn devices_meet_where_they_have_a_card_in_common() {
        let meets = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| text.parse::<Device>().unwrap());
            assert_eq!(one.meets(other), other.meets(one));
            one.meets(other)
        };
        assert!(
            meets("cuda:0", "cuda:0")
                && meets("cuda:1+0", "cuda:1")
                && meets("cuda:0+1", "cuda:1+2")
        );
        assert!(
            !meets("cuda:0+1", "cuda:2") && !meets("cpu", "cpu") && !meets("emulated", "cuda:0")
        );
    }
}
