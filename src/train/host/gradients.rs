//! Gradients of one step: in name order, in f32, summed over micro-batches.

use crate::model::phase_timer::{Phase, end_phase};
use crate::train::error::TrainError;
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Device, Result, Storage, Tensor, Var};
use std::collections::BTreeMap;
use std::ops::Range;

/// Gradients by parameter name: contiguous f32 tensors shaped like their parameters.
#[derive(Debug, Default)]
pub struct Gradients(BTreeMap<String, Tensor>);

impl Gradients {
    /// Adds the gradients of one micro-batch; takes them out of `store`.
    ///
    /// # Errors
    /// A parameter has no gradient ([`TrainError::NoGradient`]): some op on the way to the loss has
    /// no backward pass.
    pub fn accumulate(
        &mut self,
        vars: &BTreeMap<String, Var>,
        store: &mut GradStore,
    ) -> std::result::Result<(), TrainError> {
        let mut missing = Vec::new();
        for (name, var) in vars {
            let Some(grad) = store.remove(var.as_tensor()) else {
                missing.push(name.clone());
                continue;
            };
            let grad = grad.detach().to_dtype(DType::F32)?.contiguous()?;
            let sum = match self.0.remove(name) {
                None => grad,
                Some(sum) => sum.add(&grad)?,
            };
            self.0.insert(name.clone(), sum);
        }
        end_phase(Phase::Backward);
        if missing.is_empty() {
            Ok(())
        } else {
            Err(TrainError::NoGradient { names: missing })
        }
    }

    /// The gradient of one parameter.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Whether there are none yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name and gradient, in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.0.iter()
    }

    /// Sets one gradient; for tests and callers that compute gradients elsewhere.
    pub fn insert(&mut self, name: &str, grad: Tensor) {
        self.0.insert(name.to_owned(), grad);
    }

    /// Zeroes the rows of one gradient outside `rows`.
    ///
    /// # Errors
    /// `rows` does not lie within the gradient.
    pub fn keep_rows(&mut self, name: &str, rows: &Range<usize>) -> Result<()> {
        let Some(grad) = self.0.get_mut(name) else {
            return Ok(());
        };
        let all = grad.dim(0)?;
        let kept = grad.narrow(0, rows.start, rows.len())?;
        let behind = all.saturating_sub(rows.end);
        *grad = kept.pad_with_zeros(0, rows.start, behind)?.contiguous()?;
        Ok(())
    }

    /// The first parameter, by name, whose gradient holds NaN or an infinity.
    pub fn first_not_finite(&self) -> Result<Option<String>> {
        for (name, grad) in &self.0 {
            if !sum_of_squares(grad)?.is_finite() {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }
}

/// What clipping found: the norm before, and what each gradient is to be multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clip {
    /// Global L2 norm before clipping.
    pub norm: f64,
    /// `min(1, max_norm / (norm + 1e-6))`; 1 when clipping is off.
    pub scale: f64,
}

/// Global L2 norm over all gradients, summed in f64 in name order, and the clipping factor of
/// `torch.nn.utils.clip_grad_norm_`. `max_norm` 0 switches clipping off.
///
/// The factor is not applied here: [`crate::train::AdamW::step`] multiplies as it reads, which
/// saves a pass over memory.
pub fn clip_by_global_norm(grads: &Gradients, max_norm: f64) -> Result<Clip> {
    let mut squares = 0.0f64;
    for (_, grad) in grads.iter() {
        squares += sum_of_squares(grad)?;
    }
    let norm = squares.sqrt();
    let scale = if max_norm > 0.0 {
        (max_norm / (norm + 1e-6)).min(1.0)
    } else {
        1.0
    };
    Ok(Clip { norm, scale })
}

/// Sum of squares in f64, in a fixed order on the CPU.
fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    if !matches!(tensor.device(), Device::Cpu) {
        return tensor.sqr()?.sum_all()?.to_scalar::<f32>().map(f64::from);
    }
    with_f32_slice(tensor, |values| {
        // Eight running sums let the compiler use wide registers; their order never changes.
        let mut lanes = [0.0f64; 8];
        let chunks = values.chunks_exact(8);
        let rest = chunks.remainder();
        for chunk in chunks {
            for (lane, &x) in lanes.iter_mut().zip(chunk) {
                *lane += f64::from(x) * f64::from(x);
            }
        }
        let tail: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        lanes.iter().sum::<f64>() + tail
    })
}

/// Reads a contiguous f32 CPU tensor without copying it.
pub(crate) fn with_f32_slice<T>(tensor: &Tensor, read: impl FnOnce(&[f32]) -> T) -> Result<T> {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (Storage::Cpu(CpuStorage::F32(values)), Some((start, end))) => {
            Ok(read(&values[start..end]))
        }
        _ => candle_core::bail!("expected a contiguous f32 tensor on the cpu"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grads(values: &[(&str, &[f32])]) -> Gradients {
        let mut grads = Gradients::default();
        for (name, row) in values {
            grads.insert(name, Tensor::new(*row, &Device::Cpu).unwrap());
        }
        grads
    }

    // By hand: sqrt(1 + 4 + 4 + 16) = 5.
    #[test]
    fn the_norm_is_taken_over_all_parameters_together() {
        let clip = clip_by_global_norm(&grads(&[("a", &[1.0, 2.0]), ("b", &[2.0, 4.0])]), 1.0);
        let clip = clip.unwrap();
        assert!((clip.norm - 5.0).abs() < 1e-12);
        assert!((clip.scale - 1.0 / 5.000_001).abs() < 1e-12);
    }

    #[test]
    fn a_small_norm_and_a_zero_limit_leave_gradients_alone() {
        let small = grads(&[("a", &[0.3, 0.4])]);
        assert!((clip_by_global_norm(&small, 1.0).unwrap().scale - 1.0).abs() < 1e-15);
        let large = grads(&[("a", &[30.0; 20])]);
        assert!((clip_by_global_norm(&large, 0.0).unwrap().scale - 1.0).abs() < 1e-15);
    }

    #[test]
    fn the_first_parameter_that_is_not_finite_is_named() {
        let bad = grads(&[("a", &[1.0]), ("b", &[f32::NAN]), ("c", &[f32::INFINITY])]);
        assert_eq!(bad.first_not_finite().unwrap().as_deref(), Some("b"));
        assert_eq!(grads(&[("a", &[1.0])]).first_not_finite().unwrap(), None);
    }

    #[test]
    fn rows_outside_the_kept_ones_become_zero() {
        let mut grads = Gradients::default();
        let rows = [[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]];
        for name in ["a", "b"] {
            grads.insert(name, Tensor::new(&rows, &Device::Cpu).unwrap());
        }
        grads.keep_rows("a", &(1..2)).unwrap();
        let got = |name: &str| grads.get(name).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(got("a"), [[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]]);
        assert_eq!(got("b"), rows);
    }

    #[test]
    fn a_parameter_cut_off_from_the_loss_is_an_error_that_names_it() {
        let vars: BTreeMap<String, Var> = ["seen", "cut"]
            .iter()
            .map(|n| {
                (
                    (*n).to_owned(),
                    Var::new(&[1.0f32, 2.0], &Device::Cpu).unwrap(),
                )
            })
            .collect();
        let detached = vars["cut"].as_detached_tensor();
        let loss = (vars["seen"].as_tensor() * detached)
            .unwrap()
            .sum_all()
            .unwrap();
        let mut store = loss.backward().unwrap();
        let error = Gradients::default()
            .accumulate(&vars, &mut store)
            .unwrap_err();
        assert_eq!(error.to_string(), "no gradient reached `cut`");
    }
}
