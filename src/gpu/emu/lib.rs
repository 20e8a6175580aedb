//! The kernels of `../kernels` over their emulation, as C functions. What they promise is in `launch.cc`.

use std::ffi::{c_char, c_int, c_void};

/// A library with the same functions, for programs that open one.
pub const LIBRARY: &str = env!("EMULATION_LIBRARY");

unsafe extern "C" {
    /// The name of the kernel of a number, or null behind the last; its signature goes to `signature`.
    pub fn emu_kernel(number: usize, signature: *mut *const c_char) -> *const c_char;

    /// Runs a kernel: 0, or 1 and what went wrong in `why`.
    pub fn emu_launch(
        name: *const c_char,
        grid: *const [u32; 3],
        block: *const [u32; 3],
        shared: usize,
        args: *mut *mut c_void,
        options: *const [u32; 3],
        counts: *mut [u64; 5],
        why: *mut c_char,
        why_bytes: usize,
    ) -> c_int;
}
