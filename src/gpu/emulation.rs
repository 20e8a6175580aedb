//! The emulation from a library that is opened when it is asked for, as a driver is.

use crate::gpu::device::Gpu;
use crate::gpu::emulated::{Emulated, Emulation, KernelFn, LaunchFn};
use crate::gpu::error::{GpuError, Result};
use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Memory of such a device: no more than a bound, of which what is allocated is taken.
const BYTES: usize = 4 << 30;

/// Opens an emulated device over the library that the build script of `emu/` makes. Its kernels are not searched for
/// races, which the tests of each have done.
///
/// The library is code that runs in this program, and the numbers that kernels take as places must be what the
/// functions of `ops` ask for, as on a card.
///
/// # Errors
/// The file is no such library, or one of other kernels.
pub fn open_emulation(library: &Path) -> Result<Box<dyn Gpu>> {
    let opened = open(library)?;
    #[expect(unsafe_code, reason = "functions of another language")]
    // SAFETY: a library that has functions of these names is that of `emu/`, of which these are the types; `new` looks
    // at every kernel's.
    let emulation = unsafe {
        Emulation {
            launch: std::mem::transmute::<*mut c_void, LaunchFn>(find(opened, c"emu_launch")?),
            kernel: std::mem::transmute::<*mut c_void, KernelFn>(find(opened, c"emu_kernel")?),
        }
    };
    #[expect(unsafe_code, reason = "functions of another language")]
    // SAFETY: as above; the places that kernels take are the caller's.
    let mut emulated = unsafe { Emulated::new(emulation, BYTES) }?;
    emulated.trust();
    Ok(Box::new(emulated))
}

/// Stays open as long as the program.
fn open(library: &Path) -> Result<*mut c_void> {
    let name = CString::new(library.as_os_str().as_bytes());
    let name = name.map_err(|e| GpuError::NoEmulation(e.to_string()))?;
    #[expect(unsafe_code, reason = "opens a library")]
    // SAFETY: opening it runs the registration of its kernels.
    let opened = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if opened.is_null() {
        Err(refused())
    } else {
        Ok(opened)
    }
}

fn find(opened: *mut c_void, name: &CStr) -> Result<*mut c_void> {
    #[expect(unsafe_code, reason = "looks into a library")]
    // SAFETY: it is open.
    let found = unsafe { libc::dlsym(opened, name.as_ptr()) };
    if found.is_null() {
        Err(refused())
    } else {
        Ok(found)
    }
}

/// What the loader says of the last call.
fn refused() -> GpuError {
    #[expect(unsafe_code, reason = "asks the loader")]
    // SAFETY: the text lives until the next call of the loader on this thread.
    let why = unsafe {
        let why = libc::dlerror();
        (!why.is_null()).then(|| CStr::from_ptr(why).to_string_lossy().into_owned())
    };
    GpuError::NoEmulation(why.unwrap_or_else(|| "the loader does not say why".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_of_the_kernels_is_a_device_and_others_are_none() {
        let device = open_emulation(Path::new(lions_emulation::LIBRARY)).unwrap();
        assert_eq!(device.name(), "emulated");
        for other in ["/no/such/library.so", "libc.so.6"] {
            let Err(error) = open_emulation(Path::new(other)) else {
                panic!("{other} is a device");
            };
            assert!(
                error
                    .to_string()
                    .starts_with("no emulation of the kernels: "),
                "{error}"
            );
        }
    }
}
