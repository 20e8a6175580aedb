//! A device that is the processor: kernels run on their emulation, memory is the host's.

use crate::gpu::allocation::Allocation;
use crate::gpu::buf::{Pinned, Region};
use crate::gpu::call::Call;
use crate::gpu::device::{Event, Gemm, Gpu, Matrix, Memory};
use crate::gpu::error::{GpuError, Result};
use crate::gpu::ledger::{Ledger, same_size};
use crate::gpu::moments::Moments;
use crate::gpu::ops::table::entries;
use crate::gpu::pinned::HostMemory;
use half::bf16;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::time::{Duration, Instant};

/// The functions of the C++ side; see `emu/launch.cc`. They come from outside, so that only who has them built needs a
/// C++ compiler.
#[derive(Clone, Copy, Debug)]
pub struct Emulation {
    /// `emu_launch`.
    pub launch: LaunchFn,
    /// `emu_kernel`.
    pub kernel: KernelFn,
}

/// Name, grid, block, bytes of shared memory, arguments, options, counts, and room for what went wrong.
pub(crate) type LaunchFn = unsafe extern "C" fn(
    *const c_char,
    *const [u32; 3],
    *const [u32; 3],
    usize,
    *mut *mut c_void,
    *const [u32; 3],
    *mut [u64; 5],
    *mut c_char,
    usize,
) -> c_int;

/// A number, and where the signature goes.
pub(crate) type KernelFn = unsafe extern "C" fn(usize, *mut *const c_char) -> *const c_char;

/// In which order threads and blocks run, which no result may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// By number.
    Forward,
    /// From the last to the first.
    Backward,
    /// Warps in an order drawn anew at every turn.
    Random(u32),
}

/// What launches did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Changes from one thread to another.
    pub switches: u64,
    /// Barriers of a block, by every thread.
    pub barriers: u64,
    /// Products of tensor cores.
    pub mma: u64,
    /// Loads of four matrices.
    pub ldmatrix: u64,
    /// Bank conflicts of those.
    pub conflicts: u64,
}

/// An emulated device.
pub struct Emulated {
    emulation: Emulation,
    allocations: Vec<Allocation>,
    ledger: Ledger,
    /// Memory that stands for the host's.
    pinned: Vec<Allocation>,
    host: HostMemory,
    total: usize,
    schedule: Schedule,
    os_threads: u32,
    searching: bool,
    counts: Counts,
    moments: Moments<Instant>,
}

impl Emulated {
    /// A device of so many bytes of memory.
    ///
    /// # Errors
    /// A kernel is missing, or has other arguments than the function here that launches it.
    ///
    /// # Safety
    /// The functions do what `emu/launch.cc` says. Memory of the device is that of the program, so the numbers that
    /// kernels take as places (tokens, positions, pages, work lists) must be what the functions of `ops` ask for.
    #[expect(unsafe_code, reason = "functions of another language")]
    pub unsafe fn new(emulation: Emulation, total: usize) -> Result<Self> {
        let device = Self {
            emulation,
            allocations: Vec::new(),
            ledger: Ledger::default(),
            pinned: Vec::new(),
            host: HostMemory::default(),
            total,
            schedule: Schedule::Forward,
            os_threads: 1,
            searching: true,
            counts: Counts::default(),
            moments: Moments::default(),
        };
        let kernels = device.kernels();
        match entries().find(|e| kernels.get(e.name) != Some(&e.spelt_out())) {
            Some(e) => Err(GpuError::NoKernels(format!(
                "{}({}) is not there",
                e.name,
                e.spelt_out()
            ))),
            None => Ok(device),
        }
    }

    /// How further launches run.
    pub fn run_by(&mut self, schedule: Schedule, os_threads: u32) {
        (self.schedule, self.os_threads) = (schedule, os_threads);
    }

    /// Further launches are no longer searched for races and unwritten reads, which halves their time.
    pub fn trust(&mut self) {
        self.searching = false;
    }

    /// What launches did since the last call.
    pub fn take_counts(&mut self) -> Counts {
        std::mem::take(&mut self.counts)
    }

    /// Every kernel of the C++ side and its signature.
    pub fn kernels(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        loop {
            let mut signature = std::ptr::null();
            #[expect(unsafe_code, reason = "a function of another language")]
            // SAFETY: by `new`, both are strings that live as long as the program, or there is no name.
            let strings = unsafe {
                let name = (self.emulation.kernel)(found.len(), &raw mut signature);
                (!name.is_null()).then(|| (CStr::from_ptr(name), CStr::from_ptr(signature)))
            };
            let Some((name, signature)) = strings else {
                return found;
            };
            let text = |s: &CStr| s.to_string_lossy().into_owned();
            found.insert(text(name), text(signature));
        }
    }

    /// The region's place, if it is of this device.
    fn place(&self, region: Region) -> Result<*mut u8> {
        self.ledger.check(region)?;
        Ok(std::ptr::with_exposed_provenance_mut(region.at as usize))
    }

    fn unharmed(&self, call: &Call<'_>) -> Result<()> {
        let mut all = self.allocations.iter().chain(&self.pinned);
        match all.find(|a| !a.guards_stand()) {
            Some(a) => Err(call.wrong(format!("writes beside an array of {} bytes", a.bytes))),
            None => Ok(()),
        }
    }
}

impl Gpu for Emulated {
    fn name(&self) -> String {
        "emulated".to_owned()
    }

    fn alloc_bytes(&mut self, bytes: usize) -> Result<Region> {
        let free = self.total.saturating_sub(self.ledger.used());
        if bytes > free {
            return Err(GpuError::OutOfMemory {
                wanted: bytes,
                free,
            });
        }
        let allocation = Allocation::new(bytes);
        let region = Region {
            at: allocation.data().expose_provenance() as u64,
            bytes,
        };
        self.allocations.push(allocation);
        self.ledger.note(region);
        Ok(region)
    }

    fn free_bytes(&mut self, region: Region) -> Result<()> {
        self.ledger.forget(region)?;
        let at = |a: &Allocation| a.data().expose_provenance() as u64;
        self.allocations.retain(|a| at(a) != region.at);
        Ok(())
    }

    fn upload_bytes(&mut self, from: &[u8], to: Region) -> Result<()> {
        same_size(from.len(), to.bytes)?;
        let to = self.place(to)?;
        #[expect(unsafe_code, reason = "device memory is reached by addresses")]
        // SAFETY: the place has as many bytes; a slice of the host is never part of an allocation.
        unsafe {
            to.copy_from_nonoverlapping(from.as_ptr(), from.len());
        }
        Ok(())
    }

    fn download_bytes(&mut self, from: Region, to: &mut [u8]) -> Result<()> {
        same_size(from.bytes, to.len())?;
        let from = self.place(from)?;
        #[expect(unsafe_code, reason = "device memory is reached by addresses")]
        // SAFETY: as `upload_bytes`; every byte of an allocation was written when it was made.
        unsafe {
            to.as_mut_ptr().copy_from_nonoverlapping(from, to.len());
        }
        Ok(())
    }

    fn copy_bytes(&mut self, from: Region, to: Region) -> Result<()> {
        self.ledger.check_copy(from, to)?;
        let (source, target) = (self.place(from)?, self.place(to)?);
        #[expect(unsafe_code, reason = "device memory is reached by addresses")]
        // SAFETY: both places have as many bytes and do not overlap.
        unsafe {
            target.copy_from_nonoverlapping(source, from.bytes);
        }
        Ok(())
    }

    fn pin(&mut self, bytes: usize) -> Result<Pinned> {
        let allocation = Allocation::new(bytes);
        let at = allocation.data();
        #[expect(unsafe_code, reason = "memory that devices reach by its address")]
        // SAFETY: the allocation has as many bytes.
        unsafe {
            at.write_bytes(0, bytes);
        }
        self.pinned.push(allocation);
        Ok(self.host.note(at, bytes))
    }

    fn unpin(&mut self, pinned: Pinned) -> Result<()> {
        let at = self.host.forget(pinned)?;
        self.pinned.retain(|a| a.data() != at);
        Ok(())
    }

    fn reach(&mut self, pinned: Pinned) -> Result<()> {
        self.host.reach(pinned);
        Ok(())
    }

    fn fetch(&mut self, from: Pinned, to: Region) -> Result<()> {
        let (source, target) = (self.host.place(from, to.bytes)?, self.place(to)?);
        #[expect(unsafe_code, reason = "device memory is reached by addresses")]
        // SAFETY: both places have as many bytes, of different allocations.
        unsafe {
            target.copy_from_nonoverlapping(source, to.bytes);
        }
        Ok(())
    }

    fn store(&mut self, from: Region, to: Pinned) -> Result<()> {
        let (source, target) = (self.place(from)?, self.host.place(to, from.bytes)?);
        #[expect(unsafe_code, reason = "device memory is reached by addresses")]
        // SAFETY: as `fetch`.
        unsafe {
            target.copy_from_nonoverlapping(source, from.bytes);
        }
        Ok(())
    }

    fn read_pinned(&mut self, from: Pinned, to: &mut [u8]) -> Result<()> {
        self.host.read(from, to)
    }

    fn write_pinned(&mut self, from: &[u8], to: Pinned) -> Result<()> {
        self.host.write(from, to)
    }

    fn fill(&mut self, region: Region, byte: u8) -> Result<()> {
        let at = self.place(region)?;
        #[expect(unsafe_code, reason = "device memory is reached by addresses")]
        // SAFETY: the place has as many bytes.
        unsafe {
            at.write_bytes(byte, region.bytes);
        }
        Ok(())
    }

    #[expect(unsafe_code, reason = "kernels follow addresses")]
    unsafe fn launch(&mut self, call: &Call<'_>) -> Result<()> {
        for region in call.args.iter().filter_map(|arg| arg.region) {
            self.place(region)?;
        }
        let name = CString::new(call.entry.name).map_err(|e| call.wrong(e.to_string()))?;
        let schedule = match self.schedule {
            Schedule::Forward => 0,
            Schedule::Backward => 1,
            Schedule::Random(seed) => seed.max(2),
        };
        let options = [schedule, self.os_threads, u32::from(self.searching)];
        let (mut counts, mut why) = ([0; 5], [0 as c_char; 512]);
        // SAFETY: every argument lives until the call returns and has the size that the kernel wants (`Call::new`);
        // that the kernel stays within its arrays is the caller's promise.
        let faulty = unsafe {
            (self.emulation.launch)(
                name.as_ptr(),
                &raw const call.launch.grid,
                &raw const call.launch.block,
                call.launch.shared as usize,
                call.addresses().as_mut_ptr(),
                &raw const options,
                &raw mut counts,
                why.as_mut_ptr(),
                why.len(),
            )
        };
        self.counts.add(counts);
        if faulty != 0 {
            // SAFETY: the text ends with a zero within the array.
            let why = unsafe { CStr::from_ptr(why.as_ptr()) };
            return Err(call.wrong(why.to_string_lossy()));
        }
        self.unharmed(call)
    }

    fn gemm(&mut self, gemm: &Gemm) -> Result<()> {
        if let Some(fault) = gemm.fault() {
            return Err(GpuError::Request(fault));
        }
        let (m, n, k) = gemm.shape;
        let (a, b) = (
            self.operand(&gemm.a, (m, k))?,
            self.operand(&gemm.b, (k, n))?,
        );
        let old = self.operand(&gemm.c, (m, n))?;
        let mut c = vec![0.0; m * n];
        for (i, row) in c.chunks_exact_mut(n.max(1)).enumerate() {
            for (j, c) in row.iter_mut().enumerate() {
                let sum: f32 = (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
                let kept = if gemm.beta == 0.0 {
                    0.0
                } else {
                    gemm.beta * old[i * n + j]
                };
                *c = gemm.alpha * sum + kept;
            }
        }
        self.put(&gemm.c, (m, n), &c)
    }

    fn event(&mut self) -> Result<Event> {
        Ok(self.moments.note(Instant::now()))
    }

    fn elapsed(&mut self, from: Event, to: Event) -> Result<Duration> {
        let (from, to) = (self.moments.get(from)?, self.moments.get(to)?);
        Ok(to.saturating_duration_since(from))
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn memory(&mut self) -> Result<Memory> {
        Ok(Memory {
            free: self.total.saturating_sub(self.ledger.used()),
            total: self.total,
            most: self.ledger.most(),
        })
    }
}

impl Emulated {
    /// A matrix in f32, by rows of what it stands for.
    fn operand(&mut self, matrix: &Matrix, (rows, cols): (usize, usize)) -> Result<Vec<f32>> {
        let (size, _, region) = matrix.extent((rows, cols));
        let mut bytes = vec![0; region.bytes];
        self.download_bytes(region, &mut bytes)?;
        let number = |at: usize| match (matrix.half, &bytes[at * size..(at + 1) * size]) {
            (true, b) => bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            (false, b) => f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        };
        let place = |i: usize, j: usize| {
            if matrix.transposed {
                j * matrix.stride + i
            } else {
                i * matrix.stride + j
            }
        };
        let all = (0..rows).flat_map(|i| (0..cols).map(move |j| (i, j)));
        Ok(all.map(|(i, j)| number(place(i, j))).collect())
    }

    /// Writes a matrix that is not transposed; what lies between its rows stays.
    fn put(&mut self, matrix: &Matrix, shape: (usize, usize), values: &[f32]) -> Result<()> {
        let (size, cols, region) = matrix.extent(shape);
        for (i, row) in values.chunks_exact(cols.max(1)).enumerate() {
            let bytes: Vec<u8> = if matrix.half {
                row.iter()
                    .flat_map(|&v| bf16::from_f32(v).to_le_bytes())
                    .collect()
            } else {
                row.iter().flat_map(|v| v.to_le_bytes()).collect()
            };
            let at = region.at + (i * matrix.stride * size) as u64;
            let to = Region {
                at,
                bytes: bytes.len(),
            };
            self.upload_bytes(&bytes, to)?;
        }
        Ok(())
    }
}

impl Counts {
    fn add(&mut self, [switches, barriers, mma, ldmatrix, conflicts]: [u64; 5]) {
        self.switches += switches;
        self.barriers += barriers;
        self.mma += mma;
        self.ldmatrix += ldmatrix;
        self.conflicts += conflicts;
    }
}
