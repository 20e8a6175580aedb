//! Memory of the emulated device.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::NonNull;

/// Bytes before and behind every allocation that nobody may write: a row too many should still hit them.
const GUARD: usize = 4096;
/// What lies there, from an even address on: NaN in every format, so that what is read there shows too. It is not
/// [`POISON`], which kernels may copy.
static GUARDS: [u8; GUARD + 1] = {
    let mut bytes = [0xf5; GUARD + 1];
    let mut at = 1;
    while at < bytes.len() {
        bytes[at] = 0xff;
        at += 2;
    }
    bytes
};
/// Fresh memory: NaN in every format.
const POISON: u8 = 0xff;

/// Memory between guards. It is reached by its address alone, as kernels do.
pub(crate) struct Allocation {
    base: NonNull<u8>,
    pub(crate) bytes: usize,
}

impl Allocation {
    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes + 2 * GUARD, 256).expect("memory of a test")
    }

    pub(crate) fn new(bytes: usize) -> Self {
        let layout = Self::layout(bytes);
        #[expect(unsafe_code, reason = "memory that kernels reach by its address")]
        // SAFETY: the layout has a size, and all of it is written.
        let base = unsafe {
            let base = alloc(layout);
            let base = NonNull::new(base).unwrap_or_else(|| std::alloc::handle_alloc_error(layout));
            let data = base.as_ptr().add(GUARD);
            base.as_ptr()
                .copy_from_nonoverlapping(GUARDS.as_ptr(), GUARD);
            data.write_bytes(POISON, bytes);
            let behind = Self::behind(bytes);
            data.add(bytes)
                .copy_from_nonoverlapping(behind.as_ptr(), GUARD);
            base
        };
        Self { base, bytes }
    }

    /// The guard behind so many bytes: it goes on from an odd address with the second byte.
    fn behind(bytes: usize) -> &'static [u8] {
        &GUARDS[bytes % 2..][..GUARD]
    }

    pub(crate) fn data(&self) -> *mut u8 {
        self.base.as_ptr().wrapping_add(GUARD)
    }

    /// Whether nobody wrote beside it.
    pub(crate) fn guards_stand(&self) -> bool {
        let before = self.base.as_ptr();
        #[expect(unsafe_code, reason = "memory that kernels reach by its address")]
        // SAFETY: both guards are within the allocation, written when it was made, and nobody holds a reference to
        // them.
        let (before, behind) = unsafe {
            let behind = before.add(GUARD + self.bytes);
            (
                std::slice::from_raw_parts(before, GUARD),
                std::slice::from_raw_parts(behind, GUARD),
            )
        };
        before == &GUARDS[..GUARD] && behind == Self::behind(self.bytes)
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "memory that kernels reach by its address")]
        // SAFETY: made by `new` with the same layout.
        unsafe {
            dealloc(self.base.as_ptr(), Self::layout(self.bytes));
        }
    }
}
