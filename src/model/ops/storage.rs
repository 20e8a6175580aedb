//! From candle tensors to slices and back, without copies.

use crate::model::kernels::real::Real;
use crate::model::kernels::segments::Segments;
use candle_core::{CpuStorage, DType, Layout, Result, Shape, Storage, Tensor, WithDType};

/// A float of kernels that tensors may hold.
pub(crate) trait Element: Real + WithDType {}

impl Element for f32 {}
impl Element for f64 {}

/// The elements of a contiguous CPU operand.
pub(crate) fn operand<'a, F: WithDType>(
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
pub(crate) fn with_slice<F: WithDType, R>(
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

/// Refuses segments that do not fit `tokens` tokens.
pub(crate) fn check_segments(segments: &Segments, tokens: usize) -> Result<()> {
    let fault = |why| candle_core::Error::Msg(format!("attention: {why}"));
    segments.check(tokens).map_err(fault)
}

/// A result of a forward pass.
pub(crate) fn result<F: WithDType>(data: Vec<F>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (F::to_cpu_storage_owned(data), shape.into())
}

/// A gradient tensor beside `like`, on its device.
pub(crate) fn gradient<F: WithDType>(data: Vec<F>, like: &Tensor) -> Result<Tensor> {
    Tensor::from_vec(data, like.shape(), like.device())
}

/// How an op is computed for an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Fused, in `f32`.
    F32,
    /// Fused, in `f64`; in tests alone.
    F64,
    /// Fused in `f32` between two casts (half-precision formats on the CPU).
    Upcast,
    /// From candle's own differentiable ops: other devices, and `f64` outside tests.
    Naive,
}

/// The path for this tensor.
pub(crate) fn path(tensor: &Tensor) -> Path {
    match (tensor.device().is_cpu(), tensor.dtype()) {
        (true, DType::F32) => Path::F32,
        // Gradient checks need it and nothing else does; without it kernels compile half as long.
        (true, DType::F64) if cfg!(test) => Path::F64,
        (true, DType::F64) | (false, _) => Path::Naive,
        (true, _) => Path::Upcast,
    }
}

/// Evaluates an expression with the type `F` standing for the fused kernels' float of a dtype.
macro_rules! by_dtype {
    ($dtype:expr, $float:ident => $body:expr) => {
        match $dtype {
            #[cfg(test)]
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
pub(crate) use by_dtype;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::bf16;
    use candle_core::Device;

    #[test]
    fn kernels_round_to_bf16_as_tensors_do() -> Result<()> {
        // Ties to either side, the largest value, denormals, and a sweep over all exponents.
        let mut values = vec![0.0, -0.0, 1.003_906_3, 1.011_718_8, f32::MAX, 1e-40, -3e-39];
        values.extend((0..4000).map(|i| f32::from_bits(i * 1_048_583)));
        values.retain(|v| !v.is_nan());
        let tensor = Tensor::new(&values[..], &Device::Cpu)?;
        let want = tensor.to_dtype(DType::BF16)?.to_dtype(DType::F32)?;
        bf16::round(&mut values);
        assert_eq!(values, want.to_vec1::<f32>()?);
        Ok(())
    }
}
