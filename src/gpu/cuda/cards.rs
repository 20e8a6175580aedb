//! What the driver says of its cards before one is opened.

use super::failure::OrFailed as _;
use super::{images, library};
use crate::gpu::card::{Card, Cards, Cublas};
use crate::gpu::element::int;
use crate::gpu::error::{GpuError, Result};
use cudarc::driver::result::device;
use cudarc::driver::sys::{CUdevice, CUdevice_attribute_enum as Attribute, CUuuid};
use std::path::PathBuf;

/// See [`crate::gpu::cards()`].
pub(in crate::gpu) fn cards() -> Result<Cards> {
    let cuda = match library::driver(0) {
        Err(GpuError::NoDevice { .. }) => return Ok(Cards::default()),
        started => started?,
    };
    let count = device::get_count().or_failed()? as usize;
    let cards = (0..count).map(card).collect::<Result<_>>()?;
    let release = std::fs::read_to_string("/sys/module/nvidia/version").ok();
    let release = release.map(|text| text.trim().to_owned());
    Ok(Cards {
        cards,
        cuda,
        release,
    })
}

/// See [`crate::gpu::cublas`].
pub(in crate::gpu) fn cublas(folders: &[PathBuf]) -> Result<Cublas> {
    library::cublas(folders)?;
    Ok(library::found_cublas())
}

fn card(index: usize) -> Result<Card> {
    let device = device::get(int(index)).or_failed()?;
    let attribute = |which| {
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the device comes from the driver.
        let value = unsafe { device::get_attribute(device, which) };
        value.or_failed()
    };
    let compute = (
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    );
    #[expect(unsafe_code, reason = "calls of the driver")]
    // SAFETY: as above.
    let bytes = unsafe { device::total_mem(device) }.or_failed()?;
    let name = device::get_name(device).or_failed()?;
    Ok(Card {
        index,
        uuid: uuid(device, &name)?,
        name,
        compute,
        bytes,
        built_for: images::built_for(compute),
        is_too_old: compute < images::OLDEST,
    })
}

/// The name by which `CUDA_VISIBLE_DEVICES` knows a card, or a part of one that stands for a card (MIG).
fn uuid(device: CUdevice, name: &str) -> Result<String> {
    let kind = if name.contains(" MIG ") { "MIG" } else { "GPU" };
    let own = digits(device::get_uuid(device).or_failed()?);
    Ok(format!("{kind}-{own}"))
}

fn digits(uuid: CUuuid) -> String {
    let bytes: Vec<String> = uuid
        .bytes
        .iter()
        .map(|b| format!("{:02x}", b.to_ne_bytes()[0]))
        .collect();
    [0..4, 4..6, 6..8, 8..10, 10..16]
        .map(|part| bytes[part].concat())
        .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_named_as_the_tools_name_it() {
        let bytes = std::array::from_fn(|i| std::ffi::c_char::from_ne_bytes([0xf0 + i as u8]));
        assert_eq!(
            digits(CUuuid { bytes }),
            "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff"
        );
    }
}
