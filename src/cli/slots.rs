//! `--device` and `--jobs` as slots.

use crate::cli::error::CommandError;
use crate::queue::Slot;
use std::str::FromStr;

/// Where runs may execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    /// GPUs if this build can use them and there are any, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// These GPUs.
    Cuda(Vec<usize>),
}

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is none of auto, cpu, cuda:N or cuda:N,M");
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => {
                let list = text.strip_prefix("cuda:").ok_or_else(wrong)?;
                let ids: Result<Vec<usize>, _> = list.split(',').map(str::parse).collect();
                let ids = ids.map_err(|_| wrong())?;
                let repeated = ids
                    .iter()
                    .enumerate()
                    .any(|(at, id)| ids.iter().skip(at + 1).any(|other| other == id));
                if repeated {
                    Err(format!("`{text}` names a GPU twice"))
                } else {
                    Ok(Self::Cuda(ids))
                }
            }
        }
    }
}

/// One slot for each attempt that may run at a time.
pub(crate) fn slots(
    device: &DeviceArg,
    jobs: Option<u32>,
    threads: u32,
) -> Result<Vec<Slot>, CommandError> {
    let threads = threads as usize;
    let gpus = match device {
        DeviceArg::Cuda(_) if !cfg!(feature = "cuda") => {
            return Err(CommandError::user("this build of lions cannot use GPUs")
                .hint("build it with `cargo build --release --features cuda`"));
        }
        DeviceArg::Cuda(ids) => ids.clone(),
        DeviceArg::Auto if cfg!(feature = "cuda") => visible_gpus(),
        DeviceArg::Auto | DeviceArg::Cpu => Vec::new(),
    };
    if gpus.is_empty() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let count = jobs.map_or((cores / threads).max(1), |jobs| jobs as usize);
        return Ok((0..count).map(|_| Slot::cpu(threads)).collect());
    }
    let wanted = jobs.map_or(gpus.len(), |jobs| jobs as usize);
    if wanted > gpus.len() {
        return Err(CommandError::user(format!(
            "{wanted} jobs on {} GPUs: two runs never share a GPU",
            gpus.len()
        ))
        .hint("name more GPUs with `--device cuda:0,1`, or ask for fewer jobs"));
    }
    let slot = |id: &usize| Slot {
        device: format!("cuda:{id}"),
        threads,
        memory_bytes: None,
    };
    Ok(gpus.iter().take(wanted).map(slot).collect())
}

/// GPUs that the driver shows.
fn visible_gpus() -> Vec<usize> {
    let count = std::fs::read_dir("/proc/driver/nvidia/gpus").map_or(0, Iterator::count);
    (0..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_nonsense_is_refused() {
        assert_eq!("cuda:0,2".parse(), Ok(DeviceArg::Cuda(vec![0, 2])));
        assert_eq!("cpu".parse(), Ok(DeviceArg::Cpu));
        assert!("cuda:".parse::<DeviceArg>().is_err());
        assert!(
            "cuda:1,1"
                .parse::<DeviceArg>()
                .unwrap_err()
                .contains("twice")
        );
        assert!("gpu".parse::<DeviceArg>().is_err());
    }
}
