//! Whether driver and cuBLAS are there, and where.

use super::failure::words;
use crate::gpu::card::Cublas;
use crate::gpu::error::{GpuError, Result};
use cudarc::cublas::sys::{cublasGetProperty, libraryPropertyType};
use cudarc::driver::sys::{CUresult, cuDriverGetVersion};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The oldest CUDA whose drivers take our PTX, as the driver writes it.
const OLDEST_CUDA: i32 = 11_080;

/// A static musl has no loader.
const IS_STATIC: bool = cfg!(all(target_env = "musl", target_feature = "crt-static"));

/// Starts the driver, for the card of an index, and says which CUDA it is for; refuses machines without one, and one so
/// old that functions are missing. Nothing else of it may be called before: a function that is not there panics.
pub(super) fn driver(index: usize) -> Result<(i32, i32)> {
    if IS_STATIC {
        return Err(GpuError::Static);
    }
    #[expect(unsafe_code, reason = "opens a library")]
    // SAFETY: opening the driver runs nothing but its initialisation, which is NVIDIA's to get right.
    let there = unsafe { cudarc::driver::sys::is_culib_present() };
    if !there {
        return Err(GpuError::NoDriver);
    }
    let mut version = 0;
    #[expect(unsafe_code, reason = "calls of the driver")]
    // SAFETY: the number is written before the call returns.
    let told = unsafe { cuDriverGetVersion(&raw mut version) }.result();
    told.map_err(|e| GpuError::Driver(words(e)))?;
    let cuda = (version / 1000, version % 1000 / 10);
    if version < OLDEST_CUDA {
        return Err(GpuError::OldDriver { cuda });
    }
    match cudarc::driver::result::init() {
        Ok(()) => Ok(cuda),
        // A driver without a card does not start.
        Err(e) if e.0 == CUresult::CUDA_ERROR_NO_DEVICE => {
            Err(GpuError::NoDevice { index, count: 0 })
        }
        Err(e) => Err(GpuError::Driver(words(e))),
    }
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

/// Which cuBLAS [`cublas`] found.
pub(super) fn found_cublas() -> Cublas {
    let part = |which| {
        let mut value = 0;
        #[expect(unsafe_code, reason = "calls of cuBLAS")]
        // SAFETY: the library is there, and the number is written before the call returns.
        let got = unsafe { cublasGetProperty(which, &raw mut value) };
        got.result()
            .map_or_else(|_| "?".to_owned(), |()| value.to_string())
    };
    let parts = [
        libraryPropertyType::MAJOR_VERSION,
        libraryPropertyType::MINOR_VERSION,
        libraryPropertyType::PATCH_LEVEL,
    ];
    Cublas {
        version: parts.map(part).join("."),
        folder: folder_of("libcublas.so"),
    }
}

/// Where a loaded library lies, where the system tells.
fn folder_of(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let is_it = |path: &&Path| {
        let file = path.file_name().unwrap_or_default();
        file.to_string_lossy().starts_with(name)
    };
    let mut paths = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])));
    Some(paths.find(is_it)?.parent()?.to_owned())
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
