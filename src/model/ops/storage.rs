//! From candle tensors to slices and back, without copies.

use crate::model::ops::Real;
use candle_core::{CpuStorage, DType, Layout, Result, Shape, Storage, Tensor};

/// The elements of a contiguous CPU operand.
pub(super) fn operand<'a, F: Real>(
    op: &'static str,
    storage: &'a CpuStorage,
    layout: &Layout,
) -> Result<&'a [F]> {
    let data = F::cpu_storage_as_slice(storage)?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => candle_core::bail!(
            "{op}: operand of shape {:?} is not contiguous",
            layout.shape()
        ),
    }
}

/// Calls `f` with the elements of a CPU tensor, which is made contiguous first if need be.
pub(super) fn with_slice<F: Real, R>(
    op: &'static str,
    tensor: &Tensor,
    f: impl FnOnce(&[F]) -> Result<R>,
) -> Result<R> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(operand(op, cpu, layout)?),
        _ => candle_core::bail!("{op}: the fused kernel runs on the CPU only"),
    }
}

/// A result of a forward pass.
pub(super) fn result<F: Real>(data: Vec<F>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (F::to_cpu_storage_owned(data), shape.into())
}

/// A gradient tensor beside `like`, on its device.
pub(super) fn gradient<F: Real>(data: Vec<F>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

/// How an op is computed for an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Fused, in `f32`.
    F32,
    /// Fused, in `f64`.
    F64,
    /// Fused in `f32` between two casts (half-precision formats on the CPU).
    Upcast,
    /// From candle's own differentiable ops, on other devices.
    Naive,
}

/// The path for this tensor.
pub(super) fn path(tensor: &Tensor) -> Path {
    match (tensor.device().is_cpu(), tensor.dtype()) {
        (true, DType::F32) => Path::F32,
        (true, DType::F64) => Path::F64,
        (true, _) => Path::Upcast,
        (false, _) => Path::Naive,
    }
}

/// Evaluates an expression with the type `F` standing for the fused kernels' float of a dtype.
macro_rules! by_dtype {
    ($dtype:expr, $float:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F64 => {
                type $float = f64;
                $body
            }
            _ => {
                type $float = f32;
                $body
            }
        }
    };
}
pub(super) use by_dtype;
