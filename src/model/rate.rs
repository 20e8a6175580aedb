//! How fast this machine multiplies matrices: the yardstick for the speed of a decoder.

use crate::model::error::ModelError;
use crate::model::kernels::isa::Unit;
use crate::model::ops::linear;
use crate::model::phase_timer::{Moment, Seconds};
use candle_core::{DType, Device, Tensor};

/// The best of several square products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MatmulRate {
    /// Rows, columns and inner dimension.
    pub size: usize,
    /// Time of the fastest product.
    pub seconds: Seconds,
}

impl MatmulRate {
    /// Floating-point operations of one product, two for each multiplication.
    pub fn flops(&self) -> f64 {
        2.0 * (self.size as f64).powi(3)
    }

    /// Operations a second of the wall clock.
    pub fn per_wall_sec(&self) -> f64 {
        self.flops() / self.seconds.wall.max(1e-12)
    }

    /// Operations a second of processor time.
    pub fn per_cpu_sec(&self) -> f64 {
        self.flops() / self.seconds.cpu.max(1e-12)
    }
}

/// Times `repeats` products of two `size` by `size` matrices of `dtype` by the decoder's own linear
/// op, with the threads that it would use, after one to warm up; the fastest on each clock counts.
///
/// # Errors
/// The device refuses.
pub fn matmul_rate(
    size: usize,
    repeats: usize,
    dtype: DType,
    device: &Device,
) -> Result<MatmulRate, ModelError> {
    let matrix = |scale: f64| -> candle_core::Result<Tensor> {
        let wave = (Tensor::arange(0f32, (size * size) as f32, device)? * scale)?.sin()?;
        wave.reshape((size, size))?.to_dtype(dtype)
    };
    let (x, w) = (matrix(0.37)?, matrix(0.11)?);
    drop(linear(&x, &w, None)?);
    let mut best: Option<Seconds> = None;
    for _ in 0..repeats.max(1) {
        let begin = Moment::now();
        let y = linear(&x, &w, None)?;
        device.synchronize()?;
        let took = begin.elapsed();
        drop(y);
        best = Some(best.map_or(took, |best| Seconds {
            wall: best.wall.min(took.wall),
            cpu: best.cpu.min(took.cpu),
        }));
    }
    Ok(MatmulRate {
        size,
        seconds: best.unwrap_or_default(),
    })
}

/// What multiplies on this processor, and the most that it can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UnitLimit {
    /// The instruction set whose vectors or tiles it is.
    pub unit: &'static str,
    /// Floating-point operations a second of processor time, of one thread; none where the compiler chooses
    /// the instructions.
    pub flops_per_cpu_sec: Option<f64>,
}

/// Times independent multiply-adds in registers, of products in bf16 or of all else; the fastest of
/// `repeats` counts.
pub fn unit_limit(bf16_products: bool, repeats: usize) -> UnitLimit {
    // A millisecond of vectors, ten of tiles.
    const ROUNDS: u32 = 1 << 19;
    let unit = Unit::of_products(bf16_products);
    let rates = (0..repeats.max(1)).map(|_| {
        let begin = Moment::now();
        let operations = unit.multiply_adds(ROUNDS);
        operations / begin.elapsed().cpu.max(1e-12)
    });
    let best = rates.fold(0.0, f64::max);
    UnitLimit {
        unit: unit.name(),
        flops_per_cpu_sec: (best > 0.0).then_some(best),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_operations_over_the_time_of_the_fastest_product() {
        let rate = matmul_rate(64, 2, DType::F32, &Device::Cpu).unwrap();
        assert!((rate.flops() - 524_288.0).abs() < 1e-9);
        assert!(rate.seconds.wall > 0.0);
        let back = rate.per_wall_sec() * rate.seconds.wall;
        assert!((back - rate.flops()).abs() < 1.0);
    }
}
