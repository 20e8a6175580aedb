//! Which memory of a device is whose.

use crate::gpu::buf::Region;
use crate::gpu::error::{GpuError, Result};
use std::collections::BTreeMap;

/// The allocations of one device.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<u64, usize>);

impl Ledger {
    pub(crate) fn note(&mut self, region: Region) {
        self.0.insert(region.at, region.bytes);
    }

    /// Refuses what is no allocation, and forgets it otherwise.
    pub(crate) fn forget(&mut self, region: Region) -> Result<()> {
        match self.0.get(&region.at) {
            Some(&bytes) if bytes == region.bytes => {
                self.0.remove(&region.at);
                Ok(())
            }
            _ => Err(GpuError::Request(format!("{region:?} was not allocated"))),
        }
    }

    /// Bytes in all.
    pub(crate) fn used(&self) -> usize {
        self.0.values().sum()
    }

    /// Where they begin.
    #[cfg(feature = "gpu")]
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.0.keys().copied()
    }

    /// Refuses a region that does not lie within one allocation.
    pub(crate) fn check(&self, region: Region) -> Result<()> {
        let found = self.0.range(..=region.at).next_back();
        let holds = |at: u64, bytes: usize| region.at - at + region.bytes as u64 <= bytes as u64;
        if found.is_some_and(|(&at, &bytes)| holds(at, bytes)) {
            return Ok(());
        }
        Err(GpuError::Request(format!(
            "{region:?} is not of this device"
        )))
    }

    /// Refuses regions of different sizes, or that are not of this device.
    pub(crate) fn check_copy(&self, from: Region, to: Region) -> Result<()> {
        self.check(from)?;
        self.check(to)?;
        same_size(from.bytes, to.bytes)?;
        if from.overlaps(to) {
            return Err(GpuError::Request("a copy onto itself".to_owned()));
        }
        Ok(())
    }
}

/// Refuses to move bytes to more or fewer.
pub(crate) fn same_size(one: usize, other: usize) -> Result<()> {
    if one == other {
        return Ok(());
    }
    Err(GpuError::Request(format!("{one} bytes to or from {other}")))
}
