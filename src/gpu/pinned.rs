//! Memory of the host that a device reaches by itself.

use crate::gpu::buf::{Pinned, Region};
use crate::gpu::error::Result;
use crate::gpu::ledger::{Ledger, same_size};

/// The pinned memory of one device, and that of others which it reaches. Whoever has it made answers for it being there as long
/// as it is noted.
#[derive(Debug, Default)]
pub(crate) struct HostMemory {
    own: Ledger,
    others: Ledger,
}

impl HostMemory {
    /// Notes memory that was made, of so many bytes, all of them written.
    pub(crate) fn note(&mut self, at: *mut u8, bytes: usize) -> Pinned {
        let at = at.expose_provenance() as u64;
        let region = Region { at, bytes };
        self.own.note(region);
        Pinned(region)
    }

    /// Notes memory of another device, to be read here.
    pub(crate) fn reach(&mut self, pinned: Pinned) {
        self.others.note(pinned.0);
    }

    /// Refuses what was not noted, and forgets it otherwise: where it is.
    pub(crate) fn forget(&mut self, pinned: Pinned) -> Result<*mut u8> {
        self.own.forget(pinned.0)?;
        Ok(place(pinned.0.at))
    }

    /// Where pinned bytes are, of which there are so many.
    pub(crate) fn place(&self, pinned: Pinned, bytes: usize) -> Result<*mut u8> {
        same_size(pinned.bytes(), bytes)?;
        self.own
            .check(pinned.0)
            .or_else(|_| self.others.check(pinned.0))?;
        Ok(place(pinned.0.at))
    }

    /// Pinned bytes, with which the device is done.
    pub(crate) fn read(&self, from: Pinned, to: &mut [u8]) -> Result<()> {
        let from = self.place(from, to.len())?;
        #[expect(unsafe_code, reason = "memory that devices reach by its address")]
        // SAFETY: there are as many bytes, all of them written; a slice of the host is never part of them.
        unsafe {
            to.as_mut_ptr().copy_from_nonoverlapping(from, to.len());
        }
        Ok(())
    }

    /// Replaces pinned bytes, with which the device is done.
    pub(crate) fn write(&self, from: &[u8], to: Pinned) -> Result<()> {
        let to = self.place(to, from.len())?;
        #[expect(unsafe_code, reason = "memory that devices reach by its address")]
        // SAFETY: as `read`.
        unsafe {
            to.copy_from_nonoverlapping(from.as_ptr(), from.len());
        }
        Ok(())
    }

    /// Where all of it begins.
    #[cfg(feature = "gpu")]
    pub(crate) fn places(&self) -> impl Iterator<Item = *mut u8> {
        self.own.addresses().map(place)
    }
}

fn place(at: u64) -> *mut u8 {
    std::ptr::with_exposed_provenance_mut(at as usize)
}
