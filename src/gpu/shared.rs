//! One device for several users, each of whom gives its memory back.

use crate::gpu::buf::{Pinned, Region};
use crate::gpu::call::Call;
use crate::gpu::device::{Event, Gemm, Gpu, Memory};
use crate::gpu::error::{GpuError, Result};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// A device that several models lie on.
#[derive(Clone)]
pub struct SharedGpu(Rc<Shared>);

struct Shared {
    gpu: RefCell<Box<dyn Gpu>>,
    /// Bytes that all users together may hold, where other processes are to have the rest.
    limit: Option<usize>,
    /// Bytes that they hold.
    held: Cell<usize>,
}

impl SharedGpu {
    /// Shares a device.
    pub fn new(gpu: Box<dyn Gpu>) -> Self {
        Self::limited(gpu, None)
    }

    /// Shares a device whose users together hold so many bytes at most, as if it had no more.
    pub fn limited(gpu: Box<dyn Gpu>, limit: Option<usize>) -> Self {
        Self(Rc::new(Shared {
            gpu: RefCell::new(gpu),
            limit,
            held: Cell::new(0),
        }))
    }

    /// How much memory there is, and what all users together had.
    ///
    /// # Errors
    /// The device is lost.
    pub fn memory(&self) -> Result<Memory> {
        let memory = self.0.gpu.borrow_mut().memory()?;
        Ok(match self.0.limit {
            None => memory,
            // Less is free where another process takes more than its share.
            Some(limit) => Memory {
                free: memory.free.min(limit.saturating_sub(self.0.held.get())),
                total: memory.total.min(limit),
                ..memory
            },
        })
    }

    /// Refuses what the limit does not leave room for.
    fn admit(&self, wanted: usize) -> Result<()> {
        let held = self.0.held.get();
        let free = self.0.limit.map(|limit| limit.saturating_sub(held));
        match free {
            Some(free) if wanted > free => Err(GpuError::OutOfMemory { wanted, free }),
            _ => Ok(()),
        }
    }

    /// The device, for people.
    pub fn name(&self) -> String {
        self.0.gpu.borrow().name()
    }

    /// The device for one user: what that allocates and still holds is given back when this is dropped.
    pub fn lend(&self) -> Box<dyn Gpu> {
        Box::new(Lent {
            gpu: self.clone(),
            held: BTreeSet::new(),
            pinned: BTreeSet::new(),
        })
    }
}

/// A device in the hands of one of its users.
struct Lent {
    gpu: SharedGpu,
    /// Place and bytes of what it allocated.
    held: BTreeSet<(u64, usize)>,
    /// The same of memory of the host.
    pinned: BTreeSet<(u64, usize)>,
}

impl Lent {
    fn with<R>(&self, call: impl FnOnce(&mut dyn Gpu) -> R) -> R {
        call(&mut **self.gpu.0.gpu.borrow_mut())
    }
}

impl Gpu for Lent {
    fn name(&self) -> String {
        self.with(|gpu| gpu.name())
    }

    fn alloc_bytes(&mut self, bytes: usize) -> Result<Region> {
        self.gpu.admit(bytes)?;
        let region = self.with(|gpu| gpu.alloc_bytes(bytes))?;
        self.held.insert((region.at, region.bytes));
        self.gpu.0.held.update(|held| held + bytes);
        Ok(region)
    }

    fn free_bytes(&mut self, region: Region) -> Result<()> {
        self.with(|gpu| gpu.free_bytes(region))?;
        self.held.remove(&(region.at, region.bytes));
        self.gpu.0.held.update(|held| held - region.bytes);
        Ok(())
    }

    fn upload_bytes(&mut self, from: &[u8], to: Region) -> Result<()> {
        self.with(|gpu| gpu.upload_bytes(from, to))
    }

    fn download_bytes(&mut self, from: Region, to: &mut [u8]) -> Result<()> {
        self.with(|gpu| gpu.download_bytes(from, to))
    }

    fn copy_bytes(&mut self, from: Region, to: Region) -> Result<()> {
        self.with(|gpu| gpu.copy_bytes(from, to))
    }

    fn pin(&mut self, bytes: usize) -> Result<Pinned> {
        let pinned = self.with(|gpu| gpu.pin(bytes))?;
        self.pinned.insert((pinned.0.at, pinned.0.bytes));
        Ok(pinned)
    }

    fn unpin(&mut self, pinned: Pinned) -> Result<()> {
        self.with(|gpu| gpu.unpin(pinned))?;
        self.pinned.remove(&(pinned.0.at, pinned.0.bytes));
        Ok(())
    }

    fn reach(&mut self, pinned: Pinned) -> Result<()> {
        self.with(|gpu| gpu.reach(pinned))
    }

    fn fetch(&mut self, from: Pinned, to: Region) -> Result<()> {
        self.with(|gpu| gpu.fetch(from, to))
    }

    fn store(&mut self, from: Region, to: Pinned) -> Result<()> {
        self.with(|gpu| gpu.store(from, to))
    }

    fn read_pinned(&mut self, from: Pinned, to: &mut [u8]) -> Result<()> {
        self.with(|gpu| gpu.read_pinned(from, to))
    }

    fn write_pinned(&mut self, from: &[u8], to: Pinned) -> Result<()> {
        self.with(|gpu| gpu.write_pinned(from, to))
    }

    fn fill(&mut self, region: Region, byte: u8) -> Result<()> {
        self.with(|gpu| gpu.fill(region, byte))
    }

    #[expect(unsafe_code, reason = "kernels follow addresses")]
    unsafe fn launch(&mut self, call: &Call<'_>) -> Result<()> {
        // SAFETY: what the caller promises is what the device asks for.
        self.with(|gpu| unsafe { gpu.launch(call) })
    }

    fn gemm(&mut self, gemm: &Gemm) -> Result<()> {
        self.with(|gpu| gpu.gemm(gemm))
    }

    fn event(&mut self) -> Result<Event> {
        self.with(|gpu| gpu.event())
    }

    fn elapsed(&mut self, from: Event, to: Event) -> Result<Duration> {
        self.with(|gpu| gpu.elapsed(from, to))
    }

    fn sync(&mut self) -> Result<()> {
        self.with(|gpu| gpu.sync())
    }

    fn memory(&mut self) -> Result<Memory> {
        self.gpu.memory()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.held) {
            // A lost card fails every time, and whoever asks it next is told.
            drop(self.with(|gpu| gpu.free_bytes(Region { at, bytes })));
            self.gpu.0.held.update(|held| held - bytes);
        }
        for (at, bytes) in std::mem::take(&mut self.pinned) {
            drop(self.with(|gpu| gpu.unpin(Pinned(Region { at, bytes }))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Buf;
    use crate::gpu::testing::emulated;

    #[test]
    fn users_of_a_limited_device_hold_no_more_than_the_limit_together() {
        let shared = SharedGpu::limited(Box::new(emulated(100)), Some(60));
        let (mut one, mut other) = (shared.lend(), shared.lend());
        let first: Buf<f32> = one.alloc(10).unwrap();
        let Err(GpuError::OutOfMemory { wanted, free }) = other.alloc::<f32>(6) else {
            panic!("64 of 60 bytes");
        };
        assert_eq!((wanted, free), (24, 20));
        let memory = other.memory().unwrap();
        assert_eq!((memory.free, memory.total), (20, 60));
        other.alloc::<f32>(5).unwrap();
        one.free(first).unwrap();
        drop(other);
        assert_eq!(one.memory().unwrap().free, 60);
        assert!(
            SharedGpu::new(Box::new(emulated(100)))
                .lend()
                .alloc::<f32>(25)
                .is_ok()
        );
    }

    #[test]
    fn what_a_user_holds_is_given_back_with_it_and_nothing_else() {
        let shared = SharedGpu::new(Box::new(emulated(100)));
        let (mut one, mut other) = (shared.lend(), shared.lend());
        let kept: Buf<f32> = other.alloc(5).unwrap();
        other.upload(&[1.0; 5], kept).unwrap();
        let first: Buf<f32> = one.alloc(10).unwrap();
        let second: Buf<f32> = one.alloc(10).unwrap();
        assert!(one.alloc::<f32>(1).is_err(), "all is taken");
        one.free(first).unwrap();
        assert!(one.free(first).is_err() && one.free(second.part(0..5)).is_err());
        assert!(one.download(first, &mut [0.0; 10]).is_err(), "it is gone");
        assert_eq!(other.memory().unwrap().free, 40);
        drop(one);
        assert_eq!(other.memory().unwrap().free, 80);
        assert_eq!(shared.memory().unwrap().most, 100);
        let mut found = [0.0; 5];
        other.download(kept, &mut found).unwrap();
        assert_eq!(found.map(f32::to_bits), [1.0f32; 5].map(f32::to_bits));
    }
}
