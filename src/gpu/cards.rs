//! Which cards there are, without opening one; and opening one by its number.

use crate::gpu::card::{Cards, Cublas};
#[cfg(feature = "gpu")]
use crate::gpu::cuda;
use crate::gpu::device::Gpu;
#[cfg(not(feature = "gpu"))]
use crate::gpu::error::GpuError;
use crate::gpu::error::Result;
use std::path::PathBuf;

/// The cards that the driver shows; none is no error.
///
/// # Errors
/// No driver, one that does not start, or a program built without cards.
pub fn cards() -> Result<Cards> {
    #[cfg(feature = "gpu")]
    {
        cuda::cards()
    }
    #[cfg(not(feature = "gpu"))]
    Err(GpuError::NotBuiltIn)
}

/// Looks for cuBLAS: by the loader's own search, else in the first of `folders` that has it.
///
/// # Errors
/// It is nowhere, or the program was built without cards.
pub fn cublas(folders: &[PathBuf]) -> Result<Cublas> {
    #[cfg(feature = "gpu")]
    {
        cuda::cublas(folders)
    }
    #[cfg(not(feature = "gpu"))]
    {
        let _ = folders;
        Err(GpuError::NotBuiltIn)
    }
}

/// Opens the card of a number; cuBLAS is looked for as by [`cublas`].
///
/// # Errors
/// No driver, no such card, a card that is too old, no cuBLAS, kernels that the driver refuses, or a program built
/// without cards.
pub fn open_card(index: usize, folders: &[PathBuf]) -> Result<Box<dyn Gpu>> {
    #[cfg(feature = "gpu")]
    {
        Ok(Box::new(cuda::Cuda::open(index, folders)?))
    }
    #[cfg(not(feature = "gpu"))]
    {
        let _ = (index, folders);
        Err(GpuError::NotBuiltIn)
    }
}
