//! What the engine asks of a device.

use crate::gpu::buf::{Buf, Pinned, Region};
use crate::gpu::call::Call;
use crate::gpu::element::{Element, Stored, bytes_of, bytes_of_mut};
use crate::gpu::error::Result;
use std::time::Duration;

/// A device. Everything happens in the order in which it was asked for, as on one stream; only
/// [`Gpu::download_bytes`], [`Gpu::elapsed`] and [`Gpu::sync`] wait for it, and errors of kernels may come with them.
///
/// Memory is allocated in a few large pieces, most of them before the first step, and lives as long as the device unless it
/// is given back.
pub trait Gpu {
    /// The device, for people.
    fn name(&self) -> String;

    /// Fresh memory of any content, aligned to 256 bytes.
    ///
    /// # Errors
    /// Out of memory.
    fn alloc_bytes(&mut self, bytes: usize) -> Result<Region>;

    /// Gives back what [`Gpu::alloc_bytes`] gave, after all that was asked for before.
    ///
    /// # Errors
    /// It gave no such region, or the device is lost.
    fn free_bytes(&mut self, region: Region) -> Result<()>;

    /// Bytes of the host to the device.
    ///
    /// # Errors
    /// Sizes differ, or the device is lost.
    fn upload_bytes(&mut self, from: &[u8], to: Region) -> Result<()>;

    /// Bytes of the device to the host, after all that was asked for before.
    ///
    /// # Errors
    /// Sizes differ, or the device is lost.
    fn download_bytes(&mut self, from: Region, to: &mut [u8]) -> Result<()>;

    /// Bytes from one place of the device to another that does not overlap it.
    ///
    /// # Errors
    /// Sizes differ, the places overlap, or the device is lost.
    fn copy_bytes(&mut self, from: Region, to: Region) -> Result<()>;

    /// Fresh memory of the host that the device reaches, zeros.
    ///
    /// # Errors
    /// The host refuses.
    fn pin(&mut self, bytes: usize) -> Result<Pinned>;

    /// Gives back what [`Gpu::pin`] gave, after all that was asked for before.
    ///
    /// # Errors
    /// It gave no such memory, or the device is lost.
    fn unpin(&mut self, pinned: Pinned) -> Result<()>;

    /// Lets what another device of this program pinned be fetched from here, too, as long as it is pinned there.
    ///
    /// # Errors
    /// The device is lost.
    fn reach(&mut self, pinned: Pinned) -> Result<()>;

    /// Pinned bytes to the device, in its order; nobody waits.
    ///
    /// # Errors
    /// Sizes differ, or the device is lost.
    fn fetch(&mut self, from: Pinned, to: Region) -> Result<()>;

    /// Bytes of the device to pinned memory, in its order; nobody waits.
    ///
    /// # Errors
    /// Sizes differ, or the device is lost.
    fn store(&mut self, from: Region, to: Pinned) -> Result<()>;

    /// Pinned bytes, after all that was asked for before.
    ///
    /// # Errors
    /// Sizes differ, or the device is lost.
    fn read_pinned(&mut self, from: Pinned, to: &mut [u8]) -> Result<()>;

    /// Replaces pinned bytes, after all that was asked for before.
    ///
    /// # Errors
    /// Sizes differ, or the device is lost.
    fn write_pinned(&mut self, from: &[u8], to: Pinned) -> Result<()>;

    /// The same byte everywhere.
    ///
    /// # Errors
    /// The device is lost.
    fn fill(&mut self, region: Region, byte: u8) -> Result<()>;

    /// Runs a kernel.
    ///
    /// # Errors
    /// It cannot run, or did what it must not.
    ///
    /// # Safety
    /// The kernel, run with these arguments, stays within their arrays and finds them aligned as it reads them.
    #[expect(unsafe_code, reason = "kernels follow addresses")]
    unsafe fn launch(&mut self, call: &Call<'_>) -> Result<()>;

    /// A product of matrices.
    ///
    /// # Errors
    /// A matrix does not fit its memory or has numbers of another type than the product wants, `c` overlaps a factor
    /// or is transposed, a size does not fit into 31 bits, memory is not of this device, there is no cuBLAS, or the
    /// device is lost.
    fn gemm(&mut self, gemm: &Gemm) -> Result<()>;

    /// Notes the moment when all that was asked for so far is done. The last 1024 are kept.
    ///
    /// # Errors
    /// The device is lost.
    fn event(&mut self) -> Result<Event>;

    /// Time from one moment to a later one, for which it waits; zero if it is an earlier one.
    ///
    /// # Errors
    /// A moment is not kept any more, or the device is lost.
    fn elapsed(&mut self, from: Event, to: Event) -> Result<Duration>;

    /// Waits until all is done.
    ///
    /// # Errors
    /// A kernel failed, or the device is lost.
    fn sync(&mut self) -> Result<()>;

    /// How much memory there is.
    ///
    /// # Errors
    /// The device is lost.
    fn memory(&mut self) -> Result<Memory>;
}

impl Call<'_> {
    /// Runs it, unless there is nothing to do.
    ///
    /// The functions of `ops/` are all that call this: each has asserted that its arrays are as long, and where numbers
    /// are taken 16 bytes at a time begin where its kernel, with those sizes, reads and writes. Places that are
    /// themselves in device memory (tokens, positions, pages, work lists) it cannot see: who makes them answers for
    /// them, which [`crate::gpu::Emulated::new`] and the opening of a card ask for.
    pub(crate) fn run(self, gpu: &mut dyn Gpu) -> Result<()> {
        if self.launch.grid.contains(&0) {
            return Ok(());
        }
        #[expect(unsafe_code, reason = "kernels follow addresses")]
        // SAFETY: the types of the arguments are those of the kernel (asserted by `new`, and by a test for the table);
        // arrays are long enough and aligned (asserted by the callers); places in device memory are what the functions
        // of `ops` ask for (promised to `Emulated::new`, and asked for by `Cuda::open`).
        unsafe {
            gpu.launch(&self)
        }
    }
}

/// A moment on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(pub(crate) usize);

/// Bytes of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Not yet allocated by anyone.
    pub free: usize,
    /// In all.
    pub total: usize,
    /// Most that was allocated by this device's user at a time.
    pub most: usize,
}

impl dyn Gpu + '_ {
    /// An array of any content.
    ///
    /// # Errors
    /// Out of memory.
    pub fn alloc<T: Element>(&mut self, len: usize) -> Result<Buf<T>> {
        Ok(Buf::new(self.alloc_bytes(len * size_of::<T>())?))
    }

    /// Gives back an array that [`Self::alloc`] gave.
    ///
    /// # Errors
    /// It gave no such array, or the device is lost.
    pub fn free<T: Element>(&mut self, buf: Buf<T>) -> Result<()> {
        self.free_bytes(buf.region())
    }

    /// Writes an array.
    ///
    /// # Errors
    /// Lengths differ, or the device is lost.
    pub fn upload<T: Element>(&mut self, from: &[T], to: Buf<T>) -> Result<()> {
        self.upload_bytes(bytes_of(from), to.region())
    }

    /// Reads an array.
    ///
    /// # Errors
    /// Lengths differ, or the device is lost.
    pub fn download<T: Element>(&mut self, from: Buf<T>, to: &mut [T]) -> Result<()> {
        self.download_bytes(from.region(), bytes_of_mut(to))
    }

    /// Copies an array to one that does not overlap it.
    ///
    /// # Errors
    /// Lengths differ, the arrays overlap, or the device is lost.
    pub fn copy<T: Element>(&mut self, from: Buf<T>, to: Buf<T>) -> Result<()> {
        self.copy_bytes(from.region(), to.region())
    }
}

/// A row-major matrix in device memory, or its transpose.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    pub(crate) region: Region,
    pub(crate) half: bool,
    pub(crate) stride: usize,
    pub(crate) transposed: bool,
}

impl Matrix {
    /// Rows of `stride` elements, one after the other.
    pub fn new<T: Stored>(buf: Buf<T>, stride: usize) -> Self {
        Self {
            region: buf.region(),
            half: T::pick(false, true),
            stride,
            transposed: false,
        }
    }

    /// The transpose of what is stored.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    /// Bytes of a number, numbers of a stored row, and the bytes from the first to the last number, of `rows` by
    /// `cols`.
    pub(crate) fn extent(&self, (rows, cols): (usize, usize)) -> (usize, usize, Region) {
        let (rows, cols) = if self.transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        let size = if self.half { 2 } else { 4 };
        let numbers = rows.saturating_sub(1) * self.stride + cols;
        let bytes = if rows == 0 { 0 } else { numbers * size };
        let at = self.region.at;
        (size, cols, Region { at, bytes })
    }

    /// Whether the memory holds `rows` by `cols`.
    fn holds(&self, rows: usize, cols: usize) -> bool {
        let (_, cols, wanted) = self.extent((rows, cols));
        cols <= self.stride && wanted.bytes <= self.region.bytes
    }
}

/// `c (m, n) = alpha a (m, k) b (k, n) + beta c`, sums in f32. Of bf16 or of f32 factors (without TF32); the product of
/// bf16 factors goes to bf16 or f32. With `beta` 0 the old `c` is not read.
#[derive(Clone, Copy, Debug)]
pub struct Gemm {
    /// `(m, k)`.
    pub a: Matrix,
    /// `(k, n)`.
    pub b: Matrix,
    /// `(m, n)`, not transposed.
    pub c: Matrix,
    /// m, n, k.
    pub shape: (usize, usize, usize),
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of the old `c`.
    pub beta: f32,
}

impl Gemm {
    /// Why it cannot be done.
    pub(crate) fn fault(&self) -> Option<String> {
        let (m, n, k) = self.shape;
        let fits = self.a.holds(m, k) && self.b.holds(k, n) && self.c.holds(m, n);
        let types = self.a.half == self.b.half && (self.a.half || !self.c.half);
        let apart =
            !self.c.region.overlaps(self.a.region) && !self.c.region.overlaps(self.b.region);
        let small = [m, n, k, self.a.stride, self.b.stride, self.c.stride];
        let small = small.iter().all(|&size| i32::try_from(size).is_ok());
        let good = fits && types && apart && small && !self.c.transposed;
        (!good).then(|| format!("a product that cannot be: {self:?}"))
    }
}
