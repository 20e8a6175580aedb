//! Which memory of a device is whose.

use crate::gpu::buf::Region;
use crate::gpu::error::{GpuError, Result};
use std::collections::BTreeMap;

/// The allocations of one device.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: BTreeMap<u64, usize>,
    /// Bytes in all.
    used: usize,
    /// Most bytes that there ever were.
    most: usize,
}

impl Ledger {
    pub(crate) fn note(&mut self, region: Region) {
        self.held.insert(region.at, region.bytes);
        self.used += region.bytes;
        self.most = self.most.max(self.used);
    }

    /// Refuses what is no allocation, and forgets it otherwise.
    pub(crate) fn forget(&mut self, region: Region) -> Result<()> {
        match self.held.get(&region.at) {
            Some(&bytes) if bytes == region.bytes => {
                self.held.remove(&region.at);
                self.used -= bytes;
                Ok(())
            }
            _ => Err(GpuError::Request(format!("{region:?} was not allocated"))),
        }
    }

    /// Bytes in all.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Most bytes that there ever were.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// Where they begin.
    #[cfg(feature = "gpu")]
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u64> {
        self.held.keys().copied()
    }

    /// Refuses a region that does not lie within one allocation.
    pub(crate) fn check(&self, region: Region) -> Result<()> {
        let found = self.held.range(..=region.at).next_back();
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
