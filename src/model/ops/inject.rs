//! Backward from a given gradient, which candle's `backward` lacks.

use candle_core::backend::BackendStorage as _;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// Gradients of `sum(y * grad)` in everything upstream of `y`, without computing that sum.
///
/// # Errors
/// Shapes differ, or an op upstream has no backward.
pub fn backward_from(y: &Tensor, grad: Tensor) -> Result<GradStore> {
    if y.dims() != grad.dims() {
        candle_core::bail!("backward: gradient {:?} of {:?}", grad.shape(), y.shape());
    }
    if !y.device().is_cpu() {
        return (y * grad)?.sum_all()?.backward();
    }
    y.apply_op1(Inject(grad))?.backward()
}

/// Forward: a scalar zero. Backward: the stored gradient.
struct Inject(Tensor);

impl CustomOp1 for Inject {
    fn name(&self) -> &'static str {
        "inject"
    }

    fn cpu_fwd(&self, x: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        let zero = match x.dtype() {
            candle_core::DType::F64 => CpuStorage::F64(vec![0.0]),
            _ => CpuStorage::F32(vec![0.0]),
        };
        Ok((zero, ().into()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, _g: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(self.0.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn an_injected_gradient_is_the_gradient_of_the_weighted_sum() -> Result<()> {
        let x = Var::new(&[1.0f64, 2.0, 3.0], &Device::Cpu)?;
        let grad = Tensor::new(&[0.5f64, -1.0, 2.0], &Device::Cpu)?;
        let got = backward_from(&x.sqr()?, grad.clone())?;
        // d(x^2)/dx = 2 x
        let want = (x.as_tensor() * 2.0)?.mul(&grad)?.to_vec1::<f64>()?;
        assert_eq!(
            got.get(&x).map(Tensor::to_vec1::<f64>).transpose()?,
            Some(want)
        );
        Ok(())
    }
}
