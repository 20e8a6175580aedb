//! Where an attempt computes, beside the processor.

use crate::base::Device;
use crate::gpu::{Gpu, GpuError, cards, open_card, open_emulation};
use std::path::PathBuf;

/// How devices beside the processor are reached, which the environment says.
#[derive(Clone, Debug, Default)]
pub struct DeviceAccess {
    /// The card's own name, if this process was given one: of the cards that the driver shows it is the one to open,
    /// whatever its number. Of several cards their names, by commas.
    pub card: Option<String>,
    /// Bytes of the card that an attempt may allocate, if others have the rest.
    pub memory: Option<u64>,
    /// Folders to look for cuBLAS in, where the loader does not find it by itself.
    pub libraries: Vec<PathBuf>,
    /// The library of emulated kernels.
    pub emulation: Option<PathBuf>,
}

/// Opens a device; none for the processor, which needs none. A thread has one card at a time. Of several cards it is the first:
/// what is no training has no use for more.
///
/// # Errors
/// It is not there, or does not suit.
pub fn open_device(
    device: Device,
    access: &DeviceAccess,
) -> Result<Option<Box<dyn Gpu>>, GpuError> {
    match device {
        Device::Cpu => Ok(None),
        Device::Cuda(_) | Device::Several(_) => open_rank(device, access, 0).map(Some),
        Device::Emulated => {
            let library = access.emulation.as_deref();
            let unset = || GpuError::NoEmulation("`LIONS_EMULATION` names no library".to_owned());
            open_emulation(library.ok_or_else(unset)?).map(Some)
        }
    }
}

/// Opens one of the cards of a device, by its place among them.
///
/// # Errors
/// It is not there, or does not suit.
pub(super) fn open_rank(
    device: Device,
    access: &DeviceAccess,
    rank: usize,
) -> Result<Box<dyn Gpu>, GpuError> {
    let missing = || GpuError::Request(format!("`{device}` has no card {rank}"));
    let number = match &access.card {
        Some(names) => numbered(names.split(',').nth(rank).ok_or_else(missing)?)?,
        None => *device.cards().get(rank).ok_or_else(missing)? as usize,
    };
    open_card(number, &access.libraries)
}

/// The number, here, of the card of that name.
fn numbered(name: &str) -> Result<usize, GpuError> {
    let shown = cards()?.cards;
    let found = shown.iter().find(|card| card.uuid == name);
    found
        .map(|card| card.index)
        .ok_or_else(|| GpuError::NoCard(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_needs_no_device_and_an_emulation_its_library() {
        let access = DeviceAccess::default();
        assert!(open_device(Device::Cpu, &access).unwrap().is_none());
        let Err(error) = open_device(Device::Emulated, &access) else {
            panic!("an emulation from nowhere");
        };
        assert!(error.to_string().contains("LIONS_EMULATION"), "{error}");
        let access = DeviceAccess {
            emulation: Some(lions_emulation::LIBRARY.into()),
            ..access
        };
        let device = open_device(Device::Emulated, &access).unwrap().unwrap();
        assert_eq!(device.name(), "emulated");
    }
}
