//! `--device` and `--jobs` as slots.

use crate::arch::share_of_card;
use crate::base::{Device, counted};
use crate::cli::cards::access;
use crate::cli::error::CommandError;
use crate::cli::text::bytes;
use crate::cli::ui::Ui;
use crate::config::BackendChoice;
use crate::gpu::{Card, GpuError, cards, cublas};
use crate::queue::Slot;
use crate::stage::{DeviceAccess, open_device};
use std::num::NonZeroU32;
use std::str::FromStr;

/// Where runs may execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Devices {
    /// GPUs if there are any that suit, else the CPU.
    Auto,
    /// These: the CPU alone, or GPUs. (Also what tests use: the kernels of GPUs, emulated.)
    Listed(Vec<Device>),
}

impl FromStr for Devices {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is none of auto, cpu, cuda:N, cuda:N,M or cuda:N+M");
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let mut listed: Vec<Device> = Vec::new();
        for word in text.split(',') {
            // The kind stands before the first number only.
            let device = match listed.first() {
                None => word.parse().map_err(|_| wrong())?,
                Some(Device::Cpu | Device::Emulated) => return Err(wrong()),
                Some(Device::Cuda(_) | Device::Several(_)) => {
                    format!("cuda:{word}").parse().map_err(|_| wrong())?
                }
            };
            if listed.iter().any(|other| other.meets(device)) {
                return Err(format!("`{text}` names a GPU twice"));
            }
            listed.push(device);
        }
        Ok(Self::Listed(listed))
    }
}

/// What slots are made of.
enum Place {
    /// The processor, or an emulation on it, which everything shares.
    Processor(Device),
    /// Cards, each, or some together, for one run at a time or a few.
    Cards(Vec<Vec<Card>>),
}

/// How many runs are beside each other, and what each may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Runs in all; as many as there is room for if absent.
    pub(crate) jobs: Option<u32>,
    /// Threads of each on a processor.
    pub(crate) threads: u32,
    /// Runs that share a card.
    pub(crate) runs_per_gpu: NonZeroU32,
}

/// One slot for each attempt that may run at a time. Devices are looked at, not opened.
pub(crate) fn slots(ui: &Ui, devices: &Devices, room: Room) -> Result<Vec<Slot>, CommandError> {
    let (jobs, threads) = (room.jobs, room.threads as usize);
    let slot = Slot::cpu(threads);
    let cards = match place(ui, devices)? {
        Place::Processor(device) => {
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let count = jobs.map_or((cores / threads).max(1), |jobs| jobs as usize);
            return Ok(vec![Slot { device, ..slot }; count]);
        }
        Place::Cards(cards) => cards,
    };
    let each = room.runs_per_gpu.get() as usize;
    let wanted = jobs.map_or(cards.len() * each, |jobs| jobs as usize);
    if wanted > cards.len() * each {
        let on = if cards.iter().all(|together| together.len() == 1) {
            counted(cards.len(), "GPU")
        } else {
            format!("{} of GPUs", counted(cards.len(), "group"))
        };
        return Err(CommandError::user(format!(
            "{} on {on}: each takes {}",
            counted(wanted, "job"),
            counted(each, "run")
        ))
        .hint(
            "ask for fewer jobs, or let small runs share a GPU with `--runs-per-gpu`, or name more GPUs with \
             `--device cuda:0,1`, or `--device cpu`",
        ));
    }
    let beside = beside_each_other(room.runs_per_gpu, wanted, cards.len());
    let shared = cards.iter().map(|cards| slot_on(cards, beside, &slot));
    let shared = shared.collect::<Result<Vec<_>, CommandError>>()?;
    // Fewer jobs than there is room for are spread over the cards.
    let all = std::iter::repeat_n(shared, each).flatten();
    Ok(all.take(wanted).collect())
}

/// A slot on a card, or on several together, as many times as runs share them.
fn slot_on(cards: &[Card], beside: NonZeroU32, slot: &Slot) -> Result<Slot, CommandError> {
    let numbers: Vec<u32> = cards.iter().map(|card| card.index as u32).collect();
    let names: Vec<&str> = cards.iter().map(|card| &*card.uuid).collect();
    let too_many = || CommandError::user("one run takes GPUs of numbers below 64 together");
    let memory = cards.iter().map(|card| memory_of_each(card, beside));
    let memory = memory.collect::<Result<Vec<_>, _>>()?;
    Ok(Slot {
        device: Device::of_cards(&numbers).ok_or_else(too_many)?,
        card_memory: memory.into_iter().flatten().min(),
        card: Some(names.join(",")),
        ..slot.clone()
    })
}

/// Runs that are on a card together, at most: all that it may take, or its part of the jobs that are wanted.
fn beside_each_other(each: NonZeroU32, wanted: usize, cards: usize) -> NonZeroU32 {
    let part = u32::try_from(wanted.div_ceil(cards.max(1))).ok();
    part.and_then(NonZeroU32::new)
        .map_or(each, |part| part.min(each))
}

/// What each of several runs on a card may allocate there, bytes; no limit for one alone.
fn memory_of_each(card: &Card, runs: NonZeroU32) -> Result<Option<u64>, CommandError> {
    if runs.get() == 1 {
        return Ok(None);
    }
    let share = share_of_card(card.bytes as u64, runs);
    if share > 0 {
        return Ok(Some(share));
    }
    let message = format!(
        "{runs} runs on cuda:{}: its {} leave each no more than the driver takes",
        card.index,
        bytes(card.bytes as f64)
    );
    Err(CommandError::user(message).hint("let fewer share it, with `--runs-per-gpu`"))
}

/// Jobs at a scheduler at once, where neither the command nor the project says how many.
const JOBS: u32 = 64;

/// One slot for each attempt that may wait or run at a scheduler. Its device is the one that a job is given, whatever
/// machine it is on.
pub(crate) fn job_slots(choice: &BackendChoice, jobs: Option<u32>) -> Vec<Slot> {
    let (gpu, cpus, own, memory) = match choice {
        BackendChoice::Local(_) => (false, None, None, None),
        BackendChoice::Slurm(spec) => {
            let gpu = spec.gpus.is_some() || spec.gres.is_some();
            (gpu, spec.cpus, spec.jobs, spec.memory.as_deref())
        }
        BackendChoice::Command(spec) => (spec.gpu, spec.cpus, spec.jobs, None),
    };
    let slot = Slot {
        device: if gpu { Device::Cuda(0) } else { Device::Cpu },
        // What a run needs is planned for its device; a job's memory is that of the machine.
        memory_bytes: memory.filter(|_| !gpu).and_then(slurm_bytes),
        elsewhere: true,
        ..Slot::cpu(cpus.map_or(1, u32::from) as usize)
    };
    let count = jobs.or(own.map(u32::from)).unwrap_or(JOBS);
    vec![slot; count as usize]
}

/// `16G` as Slurm reads it: megabytes unless a unit follows. Nothing for 0, which is all that a machine has, and for what is
/// no size.
fn slurm_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "K" | "KB" => 10,
        "" | "M" | "MB" => 20,
        "G" | "GB" => 30,
        "T" | "TB" => 40,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes > 0)
}

fn place(ui: &Ui, devices: &Devices) -> Result<Place, CommandError> {
    let access = access();
    let found = match devices {
        Devices::Auto => Ok(any_card(&access).unwrap_or_else(|why| {
            ui.warn(&format!("{why}; runs use the CPU"));
            Place::Processor(Device::Cpu)
        })),
        Devices::Listed(listed) => match listed[..] {
            [device @ (Device::Cpu | Device::Emulated)] => {
                open_device(device, &access).map(|_| Place::Processor(device))
            }
            _ => these_cards(listed, &access).map(Place::Cards),
        },
    };
    let hint = "`lions doctor` looks at the devices of this machine; `--device cpu` needs none";
    found.map_err(|error| CommandError::user(error).hint(hint))
}

/// All cards that suit; without a driver or a card, the processor.
fn any_card(access: &DeviceAccess) -> Result<Place, GpuError> {
    let shown = match cards() {
        Err(GpuError::NoDriver | GpuError::NotBuiltIn | GpuError::Static) => {
            return Ok(Place::Processor(Device::Cpu));
        }
        shown => shown?.cards,
    };
    let (suit, old): (Vec<Card>, Vec<Card>) = shown.into_iter().partition(|c| c.suits().is_ok());
    if suit.is_empty() {
        old.iter().try_for_each(Card::suits)?;
        return Ok(Place::Processor(Device::Cpu));
    }
    cublas(&access.libraries)?;
    Ok(Place::Cards(
        suit.into_iter().map(|card| vec![card]).collect(),
    ))
}

fn these_cards(listed: &[Device], access: &DeviceAccess) -> Result<Vec<Vec<Card>>, GpuError> {
    let shown = cards()?.cards;
    let of_number = |number: u32| -> Result<Card, GpuError> {
        let (index, count) = (number as usize, shown.len());
        let missing = GpuError::NoDevice { index, count };
        let card = shown.get(index).ok_or(missing)?;
        card.suits()?;
        Ok(card.clone())
    };
    let together = |device: &Device| -> Result<Vec<Card>, GpuError> {
        device.cards().into_iter().map(of_number).collect()
    };
    let found = listed.iter().map(together);
    let found = found.collect::<Result<Vec<Vec<Card>>, GpuError>>()?;
    cublas(&access.libraries)?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_have_the_memory_that_they_ask_for_and_the_gpu_that_they_are_given() {
        let bytes = ["16G", "500", "0", "lots", "1T", "99999999999999T"].map(slurm_bytes);
        let want = [
            Some(16 << 30),
            Some(500 << 20),
            None,
            None,
            Some(1 << 40),
            None,
        ];
        assert_eq!(bytes, want);
        let file = crate::config::ProjectFile::of_text(
            "[backend.slurm]\ngpus = \"1\"\njobs = 3\ncpus = 4\nmemory = \"8G\"\n",
        );
        let file = file.unwrap();
        let slots = job_slots(file.backend("slurm").unwrap(), None);
        assert_eq!(
            (slots.len(), slots[0].device, slots[0].threads),
            (3, Device::Cuda(0), 4)
        );
        assert_eq!(slots[0].memory_bytes, None);
        assert_eq!(job_slots(file.backend("slurm").unwrap(), Some(5)).len(), 5);
    }

    #[test]
    fn fewer_jobs_than_there_is_room_for_share_the_memory_of_their_cards() {
        let beside = |each, wanted, cards| {
            beside_each_other(NonZeroU32::new(each).unwrap(), wanted, cards).get()
        };
        assert_eq!(beside(4, 8, 2), 4);
        // Two on one card and one on the other.
        assert_eq!(beside(4, 3, 2), 2);
        assert_eq!(beside(4, 2, 2), 1);
        assert_eq!(beside(1, 2, 2), 1);
        assert_eq!(beside(3, 0, 0), 3);
    }

    #[test]
    fn devices_are_read_and_nonsense_is_refused() {
        let gpus = vec![Device::Cuda(0), Device::Cuda(2)];
        assert_eq!("cuda:0,2".parse(), Ok(Devices::Listed(gpus)));
        assert_eq!("cpu".parse(), Ok(Devices::Listed(vec![Device::Cpu])));
        assert!("cpu,0".parse::<Devices>().is_err());
        assert!("emulated,0".parse::<Devices>().is_err());
        assert!("cuda:".parse::<Devices>().is_err());
        let together = ["cuda:0+1", "cuda:2"].map(|text| text.parse::<Device>().unwrap());
        assert_eq!("cuda:0+1,2".parse(), Ok(Devices::Listed(together.to_vec())));
        for twice in ["cuda:1,1", "cuda:0+1,1"] {
            assert!(twice.parse::<Devices>().unwrap_err().contains("twice"));
        }
        assert!("gpu".parse::<Devices>().is_err());
    }
}
