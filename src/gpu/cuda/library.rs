//! Whether driver and cuBLAS are there, and where.

use crate::gpu::error::{GpuError, Result};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Refuses machines without a driver. Nothing else of the driver may be called before: its functions panic where it is
/// missing.
pub(super) fn driver() -> Result<()> {
    #[expect(unsafe_code, reason = "opens a library")]
    // SAFETY: opening the driver runs nothing but its initialisation, which is NVIDIA's to get right.
    let there = unsafe { cudarc::driver::sys::is_culib_present() };
    if !there {
        return Err(GpuError::NoDriver);
    }
    cudarc::driver::result::init().map_err(|e| GpuError::Driver(super::failure::words(e)))
}

/// Makes cuBLAS loadable: by the loader's own search, else from the first of `folders` that has it.
pub(super) fn cublas(folders: &[PathBuf]) -> Result<()> {
    let there = || {
        #[expect(unsafe_code, reason = "opens a library")]
        // SAFETY: as `driver`.
        unsafe {
            cudarc::cublas::sys::is_culib_present()
        }
    };
    let found = there() || folders.iter().any(|folder| load(folder) && there());
    if found {
        return Ok(());
    }
    Err(GpuError::NoLibrary("libcublas"))
}

/// Loads cuBLAS and what it needs by their full paths; afterwards they are found by their names.
fn load(folder: &Path) -> bool {
    let both = |version: u32| {
        [
            format!("libcublasLt.so.{version}"),
            format!("libcublas.so.{version}"),
        ]
        .iter()
        .all(|name| open(&folder.join(name)))
    };
    both(13) || both(12)
}

fn open(path: &Path) -> bool {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    #[expect(unsafe_code, reason = "opens a library")]
    // SAFETY: as `driver`; the library stays open as long as the program.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    !handle.is_null()
}
