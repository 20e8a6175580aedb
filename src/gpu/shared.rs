//! One device for several users, each of whom gives its memory back.

use crate::gpu::buf::Region;
use crate::gpu::call::Call;
use crate::gpu::device::{Event, Gemm, Gpu, Memory};
use crate::gpu::error::Result;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// A device that several models lie on.
#[derive(Clone)]
pub struct SharedGpu(Rc<RefCell<Box<dyn Gpu>>>);

impl SharedGpu {
    /// Shares a device.
    pub fn new(gpu: Box<dyn Gpu>) -> Self {
        Self(Rc::new(RefCell::new(gpu)))
    }

    /// How much memory there is, and what all users together had.
    ///
    /// # Errors
    /// The device is lost.
    pub fn memory(&self) -> Result<Memory> {
        self.0.borrow_mut().memory()
    }

    /// The device, for people.
    pub fn name(&self) -> String {
        self.0.borrow().name()
    }

    /// The device for one user: what that allocates and still holds is given back when this is dropped.
    pub fn lend(&self) -> Box<dyn Gpu> {
        Box::new(Lent {
            gpu: self.clone(),
            held: BTreeSet::new(),
        })
    }
}

/// A device in the hands of one of its users.
struct Lent {
    gpu: SharedGpu,
    /// Place and bytes of what it allocated.
    held: BTreeSet<(u64, usize)>,
}

impl Lent {
    fn with<R>(&self, call: impl FnOnce(&mut dyn Gpu) -> R) -> R {
        call(&mut **self.gpu.0.borrow_mut())
    }
}

impl Gpu for Lent {
    fn name(&self) -> String {
        self.with(|gpu| gpu.name())
    }

    fn alloc_bytes(&mut self, bytes: usize) -> Result<Region> {
        let region = self.with(|gpu| gpu.alloc_bytes(bytes))?;
        self.held.insert((region.at, region.bytes));
        Ok(region)
    }

    fn free_bytes(&mut self, region: Region) -> Result<()> {
        self.with(|gpu| gpu.free_bytes(region))?;
        self.held.remove(&(region.at, region.bytes));
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
        self.with(|gpu| gpu.memory())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        for (at, bytes) in std::mem::take(&mut self.held) {
            // A lost card fails every time, and whoever asks it next is told.
            drop(self.with(|gpu| gpu.free_bytes(Region { at, bytes })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::Buf;
    use crate::gpu::testing::emulated;

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
