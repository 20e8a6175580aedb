//! Numbers between f32 and the type that activations and weights are stored in.

use crate::gpu::buf::Buf;
use crate::gpu::element::Stored;
use crate::gpu::ops::rows::{narrow, widen};
use crate::gpu::{Gpu, Result};

/// An array for the same numbers in T beside one in f32: in f32 that array itself.
///
/// # Errors
/// Out of memory.
pub fn beside<T: Stored>(gpu: &mut dyn Gpu, wide: Buf<f32>) -> Result<Buf<T>> {
    if T::pick(false, true) {
        return gpu.alloc(wide.len());
    }
    Ok(Buf::new(wide.region()))
}

/// `to` becomes `from`, rounded if T is shorter. In f32 both may be the same array.
///
/// # Errors
/// The device refuses.
pub fn rounded<T: Stored>(gpu: &mut dyn Gpu, from: Buf<f32>, to: Buf<T>) -> Result<()> {
    if T::pick(false, true) {
        return narrow(gpu, from, Buf::new(to.region()));
    }
    copied(gpu, from, Buf::new(to.region()))
}

/// `to` becomes `from`. In f32 both may be the same array.
///
/// # Errors
/// The device refuses.
pub fn widened<T: Stored>(gpu: &mut dyn Gpu, from: Buf<T>, to: Buf<f32>) -> Result<()> {
    if T::pick(false, true) {
        return widen(gpu, Buf::new(from.region()), to);
    }
    copied(gpu, Buf::new(from.region()), to)
}

fn copied(gpu: &mut dyn Gpu, from: Buf<f32>, to: Buf<f32>) -> Result<()> {
    if from.region() == to.region() {
        return Ok(());
    }
    gpu.copy(from, to)
}
