//! `--device` and `--jobs` as slots.

use crate::base::{Device, counted};
use crate::cli::error::CommandError;
use crate::queue::Slot;
use std::str::FromStr;

/// Where runs may execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Devices {
    /// GPUs if this build can use them and there are any, else the CPU.
    Auto,
    /// These: the CPU alone, or GPUs.
    Listed(Vec<Device>),
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is none of auto, cpu, cuda:N or cuda:N,M");
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut listed: Vec<Device> = Vec::new();
        for word in text.split(',') {
            // The kind stands before the first number only.
            let device = match listed.first() {
                None => word.parse().map_err(|_| wrong())?,
                Some(Device::Cpu) => return Err(wrong()),
                Some(Device::Cuda(_)) => Device::Cuda(word.parse().map_err(|_| wrong())?),
            };
            if listed.contains(&device) {
                return Err(format!("`{text}` names a GPU twice"));
            }
            listed.push(device);
        }
        Ok(Self::Listed(listed))
    }
}

/// One slot for each attempt that may run at a time.
pub(crate) fn slots(
    devices: &Devices,
    jobs: Option<u32>,
    threads: u32,
) -> Result<Vec<Slot>, CommandError> {
    let threads = threads as usize;
    let mut gpus = match devices {
        Devices::Listed(listed) => listed.clone(),
        Devices::Auto if cfg!(feature = "cuda") => visible_gpus(),
        Devices::Auto => Vec::new(),
    };
    gpus.retain(|device| *device != Device::Cpu);
    if !gpus.is_empty() && !cfg!(feature = "cuda") {
        return Err(CommandError::user("this build of lions cannot use GPUs")
            .hint("build it with `cargo build --release --features cuda`"));
    }
    if gpus.is_empty() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = jobs.map_or((cores / threads).max(1), |jobs| jobs as usize);
        return Ok((0..count).map(|_| Slot::cpu(threads)).collect());
    }
    let wanted = jobs.map_or(gpus.len(), |jobs| jobs as usize);
    if wanted > gpus.len() {
        return Err(CommandError::user(format!(
            "{} on {}: two runs never share a GPU",
            counted(wanted, "job"),
            counted(gpus.len(), "GPU")
        ))
        .hint("name more GPUs with `--device cuda:0,1`, or ask for fewer jobs"));
    }
    let slot = |&device: &Device| Slot {
        device,
        threads,
        memory_bytes: None,
    };
    Ok(gpus.iter().take(wanted).map(slot).collect())
}

/// GPUs that the driver shows.
fn visible_gpus() -> Vec<Device> {
    let found = std::fs::read_dir("/proc/driver/nvidia/gpus")
        .into_iter()
        .flatten();
    (0..)
        .zip(found)
        .map(|(index, _)| Device::Cuda(index))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_nonsense_is_refused() {
        let gpus = vec![Device::Cuda(0), Device::Cuda(2)];
        assert_eq!("cuda:0,2".parse(), Ok(Devices::Listed(gpus)));
        assert_eq!("cpu".parse(), Ok(Devices::Listed(vec![Device::Cpu])));
        assert!("cpu,0".parse::<Devices>().is_err());
        assert!("cuda:".parse::<Devices>().is_err());
        assert!("cuda:1,1".parse::<Devices>().unwrap_err().contains("twice"));
        assert!("gpu".parse::<Devices>().is_err());
    }
}
