//! What the tests of all ops share: seeded noise, comparison of twins, central differences.

use crate::model::kernels::testing::{Bits, on_every_set};
use candle_core::{DType, Device, Result, Tensor, Var};

/// Uniform noise in -1 to 1 from a small generator, the same on every machine.
pub(crate) fn noise(shape: &[usize], seed: u64, dtype: DType) -> Result<Tensor> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let values: Vec<f64> = (0..shape.iter().product())
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
        .collect();
    Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)
}

fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Largest difference over largest magnitude.
pub(crate) fn relative_error(got: &Tensor, want: &Tensor) -> Result<f64> {
    assert_eq!(got.dims(), want.dims());
    let (got, want) = (flat(got)?, flat(want)?);
    let scale = want.iter().fold(1e-30f64, |m, v| m.max(v.abs()));
    Ok(got.iter().zip(&want).fold(0.0f64, |m, (a, b)| {
        // NaN counts as infinitely wrong.
        let error = (a - b).abs();
        if error.is_nan() {
            f64::INFINITY
        } else {
            m.max(error)
        }
    }) / scale)
}

/// Tensors to be compared to the bit.
pub(crate) struct Exact(pub(crate) Vec<Tensor>);

impl Bits for Exact {
    fn bits(&self) -> Vec<u64> {
        let bits = |tensor: &Tensor| flat(tensor).unwrap().bits();
        self.0.iter().flat_map(bits).collect()
    }
}

/// Value and gradients of `sum(f(vars) * fixed noise)`.
fn run(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<(Tensor, Vec<Tensor>)> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|t| Var::from_tensor(t))
        .collect::<Result<_>>()?;
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&tensors)?;
    let grads = (&out * noise(out.dims(), 77, out.dtype())?)?
        .sum_all()?
        .backward()?;
    let grads = vars
        .iter()
        .map(|v| {
            grads
                .get(v)
                .cloned()
                .ok_or_else(|| candle_core::Error::Msg("no gradient".into()))
        })
        .collect::<Result<_>>()?;
    Ok((out, grads))
}

/// Asserts that two functions agree in `f32`, in value and in every gradient, to 1e-6 relative, on
/// every instruction set.
pub(crate) fn agree(
    inputs: &[&Tensor],
    fused: impl Fn(&[Tensor]) -> Result<Tensor> + Sync,
    naive: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<()> {
    let (want, want_grads) = run(inputs, naive)?;
    on_every_set(|| {
        let (got, got_grads) = run(inputs, &fused)?;
        let error = relative_error(&got, &want)?;
        assert!(error < 1e-6, "values differ by {error:e}");
        for (i, (got, want)) in got_grads.iter().zip(&want_grads).enumerate() {
            let error = relative_error(got, want)?;
            assert!(error < 2e-6, "gradients of input {i} differ by {error:e}");
        }
        Ok(Exact([vec![got], got_grads].concat()))
    })
    .map(drop)
}

/// Asserts that the gradient of every element of every `f64` input matches central differences;
/// that of the best instruction set, whose bits the others have.
pub(crate) fn gradients_match(
    inputs: &[&Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor> + Sync,
) -> Result<()> {
    const STEP: f64 = 1e-5;
    let Exact(mut grads) = on_every_set(|| {
        let (out, grads) = run(inputs, &f)?;
        candle_core::Result::Ok(Exact([vec![out], grads].concat()))
    })?;
    let out = grads.remove(0);
    let weight = noise(out.dims(), 77, out.dtype())?;
    for (i, input) in inputs.iter().enumerate() {
        let (values, grad) = (flat(input)?, flat(&grads[i])?);
        let scale = grad.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        for (j, grad) in grad.iter().enumerate() {
            let at = |delta: f64| -> Result<f64> {
                let mut moved = values.clone();
                moved[j] += delta;
                let mut tensors: Vec<Tensor> = inputs.iter().map(|t| (*t).clone()).collect();
                tensors[i] = Tensor::from_vec(moved, input.dims(), &Device::Cpu)?;
                (f(&tensors)? * &weight)?.sum_all()?.to_scalar::<f64>()
            };
            let slope = (at(STEP)? - at(-STEP)?) / (2.0 * STEP);
            let error = (slope - grad).abs() / scale;
            assert!(
                error < 1e-7,
                "input {i}, element {j}: gradient {grad}, slope {slope}"
            );
        }
    }
    Ok(())
}
