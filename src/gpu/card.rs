//! What is known of a card and of cuBLAS before a card is opened.

use crate::gpu::error::{GpuError, Result};
use std::path::PathBuf;

/// What the driver shows to this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cards {
    /// By number.
    pub cards: Vec<Card>,
    /// The newest CUDA that the driver knows, major and minor.
    pub cuda: (i32, i32),
    /// The driver's own version, where the system tells.
    pub release: Option<String>,
}

/// A card as the driver describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// Its number among those that this process is shown.
    pub index: usize,
    /// Its model.
    pub name: String,
    /// By which `CUDA_VISIBLE_DEVICES` of another process names it: `GPU-…`, or `MIG-…` for a part of a card.
    pub uuid: String,
    /// Compute capability.
    pub compute: (i32, i32),
    /// Its memory in all.
    pub bytes: usize,
    /// The compute capability that its kernels were built for; none where the driver compiles them.
    pub built_for: Option<(i32, i32)>,
    pub(crate) is_too_old: bool,
}

impl Card {
    /// Refuses a card on which the kernels do not run.
    ///
    /// # Errors
    /// [`GpuError::TooOld`].
    pub fn suits(&self) -> Result<()> {
        if self.is_too_old {
            return Err(GpuError::TooOld {
                name: self.name.clone(),
                compute: self.compute,
            });
        }
        Ok(())
    }
}

/// A cuBLAS that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cublas {
    /// Major, minor and patch level.
    pub version: String,
    /// Where it lies, where the system tells.
    pub folder: Option<PathBuf>,
}
