//! Summed negative log-likelihood of given tokens, with its gradient made on the way forward.
//!
//! `L = -f sum_i logp_i` has the known coefficient `-f` on every log-probability, so the gradient by
//! the logits of a chunk is `f (softmax(z_i) - onehot(target_i))` as soon as they exist. The backward
//! pass then has nothing to recompute: three products with the head instead of the four of
//! [`super::token_logps`], whose coefficients come from behind.

use crate::model::kernels::head::Logits;
use crate::model::kernels::rows::in_pool;
use crate::model::ops::storage::{Element, Path, by_dtype, operand, path, result};
use crate::model::ops::token_logps::{Targets, TokenStats, scatter, token_logps_naive};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A summed loss with what its pass knows about each target.
#[derive(Debug)]
pub struct SummedNll {
    /// `-factor * sum(logps)`, `()`; differentiable.
    pub loss: Tensor,
    /// Log-probability of each target, nats, `(N,)`; without a gradient.
    pub logps: Vec<f64>,
    /// Side measures.
    pub stats: TokenStats,
}

/// `hidden (T, D)`, `head (V, D)` -> `-factor * sum` of the log-probabilities of all targets.
///
/// # Errors
/// Shapes do not fit; a row or token lies outside.
pub fn summed_nll(
    hidden: &Tensor,
    head: &Tensor,
    targets: Targets,
    factor: f64,
) -> Result<SummedNll> {
    match path(hidden) {
        Path::F32 | Path::F64 => {
            let saved = Arc::new(Mutex::new(Saved::default()));
            let op = NllOp {
                targets,
                factor,
                keep: hidden.track_op() || head.track_op(),
                learns: head.track_op(),
                saved: saved.clone(),
            };
            let loss = hidden.contiguous()?.apply_op2(&head.contiguous()?, op)?;
            let mut saved = lock(&saved);
            Ok(SummedNll {
                loss,
                logps: std::mem::take(&mut saved.logps),
                stats: std::mem::take(&mut saved.stats),
            })
        }
        Path::Upcast => {
            let (h, w) = (hidden.to_dtype(DType::F32)?, head.to_dtype(DType::F32)?);
            summed_nll(&h, &w, targets, factor)
        }
        Path::Naive => summed_nll_naive(hidden, head, targets, factor),
    }
}

/// [`summed_nll`] out of candle's own ops.
///
/// # Errors
/// As [`summed_nll`].
pub fn summed_nll_naive(
    hidden: &Tensor,
    head: &Tensor,
    targets: Targets,
    factor: f64,
) -> Result<SummedNll> {
    let (logps, stats) = token_logps_naive(hidden, head, targets)?;
    Ok(SummedNll {
        loss: (logps.sum_all()? * -factor)?,
        logps: logps.detach().to_dtype(DType::F64)?.to_vec1()?,
        stats,
    })
}

/// What the forward pass leaves behind.
#[derive(Default)]
struct Saved {
    logps: Vec<f64>,
    stats: TokenStats,
    /// Gradients by hidden states, and by the head if it learns.
    gradients: Option<(CpuStorage, Option<CpuStorage>)>,
}

fn lock(saved: &Mutex<Saved>) -> MutexGuard<'_, Saved> {
    saved.lock().unwrap_or_else(PoisonError::into_inner)
}

struct NllOp {
    targets: Targets,
    factor: f64,
    /// Whether a backward pass may come.
    keep: bool,
    /// Whether the head takes part in it.
    learns: bool,
    saved: Arc<Mutex<Saved>>,
}

impl NllOp {
    fn forward<F: Element>(&self, h: &[F], w: &[F], (d, v): (usize, usize)) -> F {
        let (head, mut logits) = (self.targets.head(w, (d, v)), Logits::default());
        let mut scored = Vec::with_capacity(self.targets.rows.len());
        let mut dh = vec![F::ZERO; if self.keep { h.len() } else { 0 }];
        let mut dw = self.learns.then(|| vec![F::ZERO; w.len()]);
        let mut dx = Vec::new();
        for (rows, tokens) in self.targets.chunks(v) {
            let found = logits.forward(&head, h, (rows, tokens));
            if self.keep {
                let lse: Vec<F> = found.iter().map(|s| s.lse).collect();
                let grad = vec![F::of(-self.factor); rows.len()];
                dx.resize(rows.len() * d, F::ZERO);
                logits.backward(&head, tokens, (&lse, &grad), (&mut dx, dw.as_deref_mut()));
                scatter(&dx, d, rows, &mut dh);
            }
            scored.extend(found);
        }
        let mut saved = lock(&self.saved);
        saved.logps = scored.iter().map(|s| s.logp.wide()).collect();
        saved.stats = TokenStats::of(&scored);
        if self.keep {
            let storage = |grad: Vec<F>| result(grad, ()).0;
            saved.gradients = Some((storage(dh), dw.map(storage)));
        }
        F::of(-self.factor * saved.logps.iter().sum::<f64>())
    }
}

impl CustomOp2 for NllOp {
    fn name(&self) -> &'static str {
        "summed-nll"
    }

    fn cpu_fwd(
        &self,
        h: &CpuStorage,
        hl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, d, v) = self.targets.check(hl, wl)?;
        by_dtype!(h.dtype(), F => {
            let (h, w) = (operand::<F>("summed-nll", h, hl)?, operand::<F>("summed-nll", w, wl)?);
            Ok(result(vec![in_pool(|| self.forward(h, w, (d, v)))], ()))
        })
    }

    /// The stored gradients times the upstream one.
    fn bwd(
        &self,
        h: &Tensor,
        w: &Tensor,
        _loss: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some((dh, dw)) = lock(&self.saved).gradients.take() else {
            candle_core::bail!("summed-nll: a second backward pass over one forward pass");
        };
        let upstream = grad.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let scaled = |storage: CpuStorage, like: &Tensor| -> Result<Tensor> {
            let grad = by_dtype!(storage.dtype(), F => {
                let values: Vec<F> = candle_core::WithDType::cpu_storage_data(storage)?;
                Tensor::from_vec(values, like.shape(), like.device())?
            });
            // Mostly the loss itself is what is differentiated.
            #[expect(clippy::float_cmp, reason = "saves a pass where it is exactly 1")]
            if upstream == 1.0 {
                Ok(grad)
            } else {
                grad * upstream
            }
        };
        Ok((
            Some(scaled(dh, h)?),
            dw.map(|dw| scaled(dw, w)).transpose()?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kernels::matmul::Operands;
    use crate::model::ops::check::{agree, gradients_match, noise};
    use crate::model::ops::token_logps;
    use candle_core::Var;

    fn targets(softcap: Option<f64>) -> Targets {
        Targets {
            rows: [0u32, 2, 2, 4].into(),
            tokens: [1u32, 0, 18, 7].into(),
            softcap,
            operands: Operands::Exact,
        }
    }

    #[test]
    fn the_summed_nll_is_its_naive_twin() -> Result<()> {
        let (h, w) = (
            noise(&[5, 8], 1, DType::F32)?,
            noise(&[19, 8], 2, DType::F32)?,
        );
        for cap in [None, Some(1.5)] {
            agree(
                &[&h, &w],
                |t| Ok(summed_nll(&t[0], &t[1], targets(cap), 0.3)?.loss),
                |t| Ok(summed_nll_naive(&t[0], &t[1], targets(cap), 0.3)?.loss),
            )?;
        }
        let (got, want) = (
            summed_nll(&h, &w, targets(None), 1.0)?,
            summed_nll_naive(&h, &w, targets(None), 1.0)?,
        );
        assert_eq!(got.stats.correct, want.stats.correct);
        for (got, want) in got.logps.iter().zip(&want.logps) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
        Ok(())
    }

    #[test]
    fn gradients_of_the_summed_nll_match_central_differences() -> Result<()> {
        let (h, w) = (
            noise(&[5, 4], 1, DType::F64)?,
            noise(&[19, 4], 2, DType::F64)?,
        );
        for cap in [None, Some(1.5)] {
            gradients_match(&[&h, &w], |t| {
                Ok(summed_nll(&t[0], &t[1], targets(cap), 0.3)?.loss)
            })?;
        }
        Ok(())
    }

    #[test]
    fn gradients_made_forward_have_the_bits_of_those_made_backward() -> Result<()> {
        // More targets than one chunk holds.
        let rows: Vec<u32> = (0..700).collect();
        let tokens: Vec<u32> = (0..700).map(|i| i * 7 % 1500).collect();
        let h = Var::from_tensor(&noise(&[700, 16], 1, DType::F32)?)?;
        let w = Var::from_tensor(&noise(&[1500, 16], 2, DType::F32)?)?;
        let factor = 1.0 / 700.0;
        for softcap in [None, Some(1.5)] {
            let targets = Targets {
                rows: rows.as_slice().into(),
                tokens: tokens.as_slice().into(),
                softcap,
                operands: Operands::Exact,
            };
            let forward = summed_nll(&h, &w, targets.clone(), factor)?
                .loss
                .backward()?;
            let logps = token_logps(&h, &w, targets)?.0;
            let backward = (logps.sum_all()? * -factor)?.backward()?;
            for var in [&h, &w] {
                let bits = |g: &candle_core::backprop::GradStore| {
                    g.get(var).unwrap().flatten_all()?.to_vec1::<f32>()
                };
                assert_eq!(bits(&forward)?, bits(&backward)?, "cap {softcap:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_second_backward_pass_is_refused() -> Result<()> {
        let h = Var::from_tensor(&noise(&[5, 4], 1, DType::F32)?)?;
        let w = noise(&[19, 4], 2, DType::F32)?;
        let loss = summed_nll(&h, &w, targets(None), 1.0)?.loss;
        loss.backward()?;
        let error = loss.backward().err().map(|e| e.to_string());
        assert!(error.unwrap_or_default().contains("second backward"));
        Ok(())
    }

    #[test]
    fn threads_do_not_change_a_bit_of_the_summed_nll() -> Result<()> {
        let run = |threads| -> Result<(Vec<f64>, Vec<Vec<f32>>)> {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .map_err(candle_core::Error::wrap)?;
            pool.install(|| {
                let h = Var::from_tensor(&noise(&[300, 16], 1, DType::F32)?)?;
                let w = Var::from_tensor(&noise(&[9000, 16], 2, DType::F32)?)?;
                let targets = Targets {
                    rows: (0..300).collect(),
                    tokens: (0..300).map(|i| i * 7 % 9000).collect(),
                    softcap: None,
                    operands: Operands::Exact,
                };
                let nll = summed_nll(&h, &w, targets, 1.0 / 300.0)?;
                let grads = nll.loss.backward()?;
                let flat = |var| grads.get(var).unwrap().flatten_all()?.to_vec1::<f32>();
                Ok((nll.logps, vec![flat(&h)?, flat(&w)?]))
            })
        };
        assert!(run(1)? == run(3)?);
        Ok(())
    }

    #[test]
    fn without_a_graph_no_gradient_is_made() -> Result<()> {
        let (h, w) = (
            noise(&[5, 4], 1, DType::F32)?,
            noise(&[19, 4], 2, DType::F32)?,
        );
        let got = summed_nll(&h, &w, targets(None), 1.0)?;
        assert!(!got.loss.track_op());
        assert_eq!(got.logps.len(), 4);
        Ok(())
    }
}
