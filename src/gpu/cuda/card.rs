//! A card: one context, one stream, the kernels' module and cuBLAS.

use super::blas::{Blas, WORKSPACE};
use super::clock::elapsed;
use super::context::{Claim, Context, note};
use super::failure::{OrFailed as _, failed, words};
use super::images::{OLDEST, images};
use super::library;
use crate::gpu::buf::{Pinned, Region};
use crate::gpu::call::Call;
use crate::gpu::device::{Event, Gemm, Gpu, Memory};
use crate::gpu::element::int;
use crate::gpu::error::{GpuError, Result};
use crate::gpu::ledger::{Ledger, same_size};
use crate::gpu::moments::Moments;
use crate::gpu::ops::table::entries;
use crate::gpu::pinned::HostMemory;
use cudarc::driver::DriverError;
use cudarc::driver::result::{self, device, event, module, stream};
use cudarc::driver::sys::{
    CUdevice, CUdevice_attribute_enum as Attribute, CUevent, CUevent_flags, CUfunction,
    CUfunction_attribute_enum, CUresult,
};
use std::collections::BTreeMap;
use std::ffi::{CString, c_void};
use std::path::PathBuf;
use std::time::Duration;

/// Shared memory that a block gets without being asked about it.
const PLAIN_SHARED: u32 = 48 << 10;

/// One card. It belongs to the thread that opened it.
pub struct Cuda {
    // Closed in this order, then the rest of the context by `Drop`.
    blas: Option<Blas>,
    context: Context,
    name: String,
    functions: BTreeMap<&'static str, Function>,
    moments: Moments<CUevent>,
    ledger: Ledger,
    host: HostMemory,
}

/// A kernel, and the most shared memory that it was allowed.
#[derive(Clone, Copy)]
struct Function {
    handle: CUfunction,
    shared: u32,
}

impl Cuda {
    /// Opens the card of an index. cuBLAS is taken from the first of `folders` that has it, if the loader does not find
    /// it by itself.
    ///
    /// Until the card is closed no other code may make another context current on this thread. And the numbers that
    /// kernels take as places (tokens, positions, pages, work lists) must be what the functions of `ops` ask for: they
    /// are on the card, where nobody looks at them. Others lead to any memory that the card reaches, which may be the
    /// program's, or lose the card.
    ///
    /// # Errors
    /// A thread that has a card already, no driver, no such card, a card that is too old, no cuBLAS, or kernels that
    /// the driver refuses.
    pub fn open(index: usize, folders: &[PathBuf]) -> Result<Self> {
        Self::open_with(index, folders, images)
    }

    /// The same with the kernels as text alone, which the driver compiles.
    #[cfg(test)]
    pub(crate) fn open_with_text(index: usize) -> Result<Self> {
        Self::open_with(index, &[], |compute| {
            let mut images = images(compute)?;
            Ok(images.split_off(images.len() - 1))
        })
    }

    fn open_with(
        index: usize,
        folders: &[PathBuf],
        images: impl FnOnce((i32, i32)) -> Result<Vec<Vec<u8>>>,
    ) -> Result<Self> {
        let claim = Claim::take()?;
        library::driver(index)?;
        let count = device::get_count().or_failed()? as usize;
        if index >= count {
            return Err(GpuError::NoDevice { index, count });
        }
        let device = device::get(int(index)).or_failed()?;
        let name = device::get_name(device).or_failed()?;
        let compute = (
            attribute(
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            )?,
            attribute(
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
            )?,
        );
        if compute < OLDEST {
            return Err(GpuError::TooOld { name, compute });
        }
        library::cublas(folders)?;
        let context = Context::new(claim, device, &images(compute)?)?;
        let mut card = Self {
            blas: None,
            context,
            name,
            functions: BTreeMap::new(),
            moments: Moments::default(),
            ledger: Ledger::default(),
            host: HostMemory::default(),
        };
        for entry in entries() {
            card.function(entry.name)?;
        }
        let workspace = card.alloc_bytes(WORKSPACE)?;
        #[expect(unsafe_code, reason = "calls of cuBLAS")]
        // SAFETY: both are of the context that was just made current, and `blas` is closed before it.
        let blas = unsafe { Blas::new(card.context.stream, workspace.at) }?;
        card.blas = Some(blas);
        Ok(card)
    }

    /// Whether its driver took the machine code that the program brings; else it compiled the kernels' text.
    pub fn has_machine_code(&self) -> bool {
        self.context.is_machine_code
    }

    fn function(&mut self, name: &'static str) -> Result<Function> {
        if let Some(found) = self.functions.get(name) {
            return Ok(*found);
        }
        let missing = |why: String| GpuError::NoKernels(format!("{name}: {why}"));
        let text = CString::new(name).map_err(|e| missing(e.to_string()))?;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the module is loaded.
        let handle = unsafe { module::get_function(self.context.module, text) };
        let handle = handle.map_err(|e| missing(words(e)))?;
        let function = Function {
            handle,
            shared: PLAIN_SHARED,
        };
        self.functions.insert(name, function);
        Ok(function)
    }

    /// Lets a kernel have more shared memory than blocks get unasked.
    fn allow(&mut self, call: &Call<'_>, function: Function) -> Result<()> {
        let shared = call.launch.shared;
        if shared <= function.shared {
            return Ok(());
        }
        let most = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the function is of the loaded module.
        let allowed = unsafe {
            result::function::set_function_attribute(function.handle, most, shared.cast_signed())
        };
        allowed.map_err(|e| refused(call, e))?;
        self.functions
            .insert(call.entry.name, Function { shared, ..function });
        Ok(())
    }
}

impl Gpu for Cuda {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn alloc_bytes(&mut self, bytes: usize) -> Result<Region> {
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the context is current (`Claim`). Memory of no bytes cannot be had.
        let at = unsafe { result::malloc_sync(bytes.max(1)) };
        let at = at.map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => GpuError::OutOfMemory {
                wanted: bytes,
                free: result::mem_get_info().map_or(0, |(free, _)| free),
            },
            _ => failed(e),
        })?;
        let region = Region { at, bytes };
        self.ledger.note(region);
        Ok(region)
    }

    fn free_bytes(&mut self, region: Region) -> Result<()> {
        self.ledger.forget(region)?;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: made by `alloc_bytes`, and given back once; this waits for kernels that use it.
        unsafe {
            result::free_sync(region.at).or_failed()
        }
    }

    fn upload_bytes(&mut self, from: &[u8], to: Region) -> Result<()> {
        same_size(from.len(), to.bytes)?;
        self.ledger.check(to)?;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the region is of this device. Plain host memory is copied away before the call returns.
        unsafe {
            result::memcpy_htod_async(to.at, from, self.context.stream).or_failed()
        }
    }

    fn download_bytes(&mut self, from: Region, to: &mut [u8]) -> Result<()> {
        same_size(from.bytes, to.len())?;
        self.ledger.check(from)?;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the region is of this device; `to` is borrowed until the stream is done.
        unsafe {
            result::memcpy_dtoh_async(to, from.at, self.context.stream).or_failed()?;
        }
        self.sync()
    }

    fn copy_bytes(&mut self, from: Region, to: Region) -> Result<()> {
        self.ledger.check_copy(from, to)?;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: both regions are of this device.
        unsafe {
            result::memcpy_dtod_async(to.at, from.at, from.bytes, self.context.stream).or_failed()
        }
    }

    fn pin(&mut self, bytes: usize) -> Result<Pinned> {
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the context is current (`Claim`); what is given has so many bytes.
        let at = unsafe {
            let at = result::malloc_host(bytes.max(1), 0).map(<*mut c_void>::cast::<u8>);
            at.inspect(|at| at.write_bytes(0, bytes))
        };
        let at = at.map_err(|e| match e.0 {
            CUresult::CUDA_ERROR_OUT_OF_MEMORY => GpuError::Unpinned(bytes),
            _ => failed(e),
        })?;
        Ok(self.host.note(at, bytes))
    }

    fn unpin(&mut self, pinned: Pinned) -> Result<()> {
        let at = self.host.forget(pinned)?;
        // A lost card, which uses nothing any more, does not keep the host's memory; its own error is told.
        let done = self.sync();
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: made by `pin`, and given back once; nothing uses it any more.
        let freed = unsafe { result::free_host(at.cast()).or_failed() };
        done.and(freed)
    }

    fn reach(&mut self, pinned: Pinned) -> Result<()> {
        // What one context has page-locked, all of a program reach by the same address.
        self.host.reach(pinned);
        Ok(())
    }

    fn fetch(&mut self, from: Pinned, to: Region) -> Result<()> {
        let place = self.host.place(from, to.bytes)?;
        self.ledger.check(to)?;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the region is of this device; pinned memory lives until `unpin`, which waits, and the host reaches it in
        // `read_pinned` and `write_pinned` alone, which wait.
        unsafe {
            let from = std::slice::from_raw_parts(place, to.bytes);
            result::memcpy_htod_async(to.at, from, self.context.stream).or_failed()
        }
    }

    fn store(&mut self, from: Region, to: Pinned) -> Result<()> {
        let place = self.host.place(to, from.bytes)?;
        self.ledger.check(from)?;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: as `fetch`.
        unsafe {
            let to = std::slice::from_raw_parts_mut(place, from.bytes);
            result::memcpy_dtoh_async(to, from.at, self.context.stream).or_failed()
        }
    }

    fn read_pinned(&mut self, from: Pinned, to: &mut [u8]) -> Result<()> {
        self.sync()?;
        self.host.read(from, to)
    }

    fn write_pinned(&mut self, from: &[u8], to: Pinned) -> Result<()> {
        self.sync()?;
        self.host.write(from, to)
    }

    fn fill(&mut self, region: Region, byte: u8) -> Result<()> {
        self.ledger.check(region)?;
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the region is of this device.
        unsafe {
            result::memset_d8_async(region.at, byte, region.bytes, self.context.stream).or_failed()
        }
    }

    #[expect(unsafe_code, reason = "kernels follow addresses")]
    unsafe fn launch(&mut self, call: &Call<'_>) -> Result<()> {
        for region in call.args.iter().filter_map(|arg| arg.region) {
            self.ledger.check(region)?;
        }
        let function = self.function(call.entry.name)?;
        self.allow(call, function)?;
        let three = |[x, y, z]: [u32; 3]| (x, y, z);
        // SAFETY: the driver copies each argument, of the size that the kernel has, before the call returns; that the
        // kernel stays within its arrays is the caller's promise.
        let launched = unsafe {
            result::launch_kernel(
                function.handle,
                three(call.launch.grid),
                three(call.launch.block),
                call.launch.shared,
                self.context.stream,
                &mut call.addresses(),
            )
        };
        launched.map_err(|e| refused(call, e))
    }

    fn gemm(&mut self, gemm: &Gemm) -> Result<()> {
        if let Some(fault) = gemm.fault() {
            return Err(GpuError::Request(fault));
        }
        for matrix in [&gemm.a, &gemm.b, &gemm.c] {
            self.ledger.check(matrix.region)?;
        }
        let Some(blas) = &self.blas else {
            return Err(GpuError::NoLibrary("libcublas"));
        };
        #[expect(unsafe_code, reason = "calls of cuBLAS")]
        // SAFETY: looked at above.
        let done = unsafe { blas.gemm(gemm) };
        let Err(failure) = done else {
            return Ok(());
        };
        // cuBLAS says that it failed; that the card is lost, the driver says.
        self.sync()?;
        Err(failure)
    }

    fn event(&mut self) -> Result<Event> {
        // One that is long past is recorded anew.
        let event = match self.moments.oldest() {
            Some(oldest) => oldest,
            None => event::create(CUevent_flags::CU_EVENT_DEFAULT).or_failed()?,
        };
        let noted = self.moments.note(event);
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: event and stream are of this context and live.
        unsafe {
            event::record(event, self.context.stream).or_failed()?;
        }
        Ok(noted)
    }

    fn elapsed(&mut self, from: Event, to: Event) -> Result<Duration> {
        let (from, to) = (self.moments.get(from)?, self.moments.get(to)?);
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: both were recorded on the one stream, and are destroyed with the card.
        let ms = unsafe { event::synchronize(to).and_then(|()| elapsed(from, to)) };
        Ok(Duration::from_secs_f64(
            f64::from(ms.or_failed()?.max(0.0)) / 1e3,
        ))
    }

    fn sync(&mut self) -> Result<()> {
        #[expect(unsafe_code, reason = "calls of the driver")]
        // SAFETY: the stream lives.
        unsafe {
            stream::synchronize(self.context.stream).or_failed()
        }
    }

    fn memory(&mut self) -> Result<Memory> {
        let (free, total) = result::mem_get_info().or_failed()?;
        Ok(Memory {
            free,
            total,
            most: self.ledger.most(),
        })
    }
}

impl Drop for Cuda {
    fn drop(&mut self) {
        drop(self.blas.take());
        for &event in self.moments.kept() {
            #[expect(unsafe_code, reason = "calls of the driver")]
            // SAFETY: made by `event`, and given back once.
            let destroyed = unsafe { event::destroy(event) };
            note(destroyed);
        }
        for at in self.ledger.addresses() {
            #[expect(unsafe_code, reason = "calls of the driver")]
            // SAFETY: made by `alloc_bytes`, and given back once; this waits for kernels that use it.
            let freed = unsafe { result::free_sync(at) };
            note(freed);
        }
        for at in self.host.places() {
            #[expect(unsafe_code, reason = "calls of the driver")]
            // SAFETY: made by `pin`, and given back once; freeing memory has waited for all that uses it.
            let freed = unsafe { result::free_host(at.cast()) };
            note(freed);
        }
    }
}

/// Why a kernel does not run, unless it is that the card is lost.
fn refused(call: &Call<'_>, error: DriverError) -> GpuError {
    match failed(error) {
        GpuError::Request(why) => call.wrong(why),
        lost => lost,
    }
}

fn attribute(device: CUdevice, which: Attribute) -> Result<i32> {
    #[expect(unsafe_code, reason = "calls of the driver")]
    // SAFETY: the device comes from the driver.
    unsafe {
        device::get_attribute(device, which).or_failed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_not_there_is_an_error() {
        let Err(error) = Cuda::open(99, &[]) else {
            panic!("a hundredth card");
        };
        assert!(matches!(
            error,
            GpuError::NoDriver | GpuError::NoDevice { .. } | GpuError::Driver(_)
        ));
        drop(Claim::take().expect("a card that was not opened leaves no claim"));
    }

    #[test]
    fn a_thread_has_one_card_at_a_time() {
        let first = Claim::take().unwrap();
        let Err(error) = Cuda::open(0, &[]) else {
            panic!("a second card");
        };
        assert!(
            error.to_string().contains("one thread, one card"),
            "{error}"
        );
        drop(first);
        drop(Claim::take().unwrap());
    }
}
