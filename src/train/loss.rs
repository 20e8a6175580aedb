//! Losses: pure functions of tensors.
//!
//! Letters: N targets, S segments (documents or replies), B pairs. Log-probabilities in nats.

use candle_core::{DType, Result, Tensor};

/// Sums the (N,) values of each segment: (S,) f64, differentiable.
///
/// Sums are taken in f64, so that the same log-probabilities give the same sum in the policy and in
/// the stored reference, up to what the model itself rounds.
pub fn segment_sums(values: &Tensor, segments: &[u32], count: usize) -> Result<Tensor> {
    let values = values.to_dtype(DType::F64)?; // (N,)
    let index = Tensor::new(segments, values.device())?; // (N,)
    Tensor::zeros(count, DType::F64, values.device())?.index_add(&index, &values, 0) // (S,)
}

/// `log σ(x)`, finite for every finite x, with the exact gradient `σ(-x)`, also at 0 (where every
/// DPO run starts).
pub fn log_sigmoid(x: &Tensor) -> Result<Tensor> {
    let zeros = x.zeros_like()?;
    let positive = x.ge(&zeros)?;
    // Each branch sees only arguments for which its exponential cannot overflow.
    let above = positive.where_cond(x, &zeros)?;
    let below = positive.where_cond(&zeros, x)?;
    let from_above = (above.neg()?.exp()? + 1.0)?.log()?.neg()?;
    let from_below = (&below - (below.exp()? + 1.0)?.log()?)?;
    positive.where_cond(&from_above, &from_below)
}

/// Summed log-probabilities of both replies of B pairs.
#[derive(Clone, Debug)]
pub struct PairLogps {
    /// (B,) of the preferred replies.
    pub chosen: Tensor,
    /// (B,) of the others.
    pub rejected: Tensor,
}

/// `-(1 - ε) log σ(z) - ε log σ(-z)` of the (B,) logits z.
pub(crate) fn smoothed_logistic(logits: &Tensor, label_smoothing: f64) -> Result<Tensor> {
    let losses = (log_sigmoid(logits)? * -(1.0 - label_smoothing))?; // (B,)
    if label_smoothing > 0.0 {
        losses - (log_sigmoid(&logits.neg()?)? * label_smoothing)?
    } else {
        Ok(losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    fn row(values: &[f64]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    // The gradient of -log σ(x) is -σ(-x): at 0 exactly -1/2, at ±1000 exactly 0 and -1.
    #[test]
    fn log_sigmoid_is_finite_and_its_gradient_exact_at_zero_and_far_out() {
        let x = Var::from_tensor(&row(&[0.0, 1000.0, -1000.0, 2.0])).unwrap();
        let y = log_sigmoid(&x).unwrap();
        let values: Vec<f64> = y.to_vec1().unwrap();
        let want = [-(2.0f64.ln()), 0.0, -1000.0, -(-2.0f64).exp().ln_1p()];
        for (got, want) in values.iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{values:?}");
        }
        let grads = y.sum_all().unwrap().backward().unwrap();
        let grads: Vec<f64> = grads.get(&x).unwrap().to_vec1().unwrap();
        for (got, want) in grads
            .iter()
            .zip([0.5, 0.0, 1.0, 1.0 / (1.0 + 2.0f64.exp())])
        {
            assert!((got - want).abs() < 1e-12, "{grads:?}");
        }
    }

    #[test]
    fn segment_sums_add_each_segment_and_pass_the_gradient_to_every_token() {
        let values = Var::new(&[1.0f32, 2.0, 4.0, 8.0], &Device::Cpu).unwrap();
        let sums = segment_sums(&values, &[0, 2, 0, 2], 3).unwrap();
        assert_eq!(sums.to_vec1::<f64>().unwrap(), [5.0, 0.0, 10.0]);
        let weighted = (sums * row(&[3.0, 5.0, 7.0])).unwrap().sum_all().unwrap();
        let grads = weighted.backward().unwrap();
        let got: Vec<f32> = grads.get(&values).unwrap().to_vec1().unwrap();
        assert_eq!(got, [3.0, 7.0, 3.0, 7.0]);
    }
}
