//! Log-probabilities of given tokens without ever holding all logits.
//!
//! `logp_i = z_i[target_i] - logsumexp(z_i)`, `z_i = cap(h[row_i] W^T)`. Rows are taken in chunks;
//! of each chunk only the log-normalisers are kept, and the backward pass recomputes its logits.

use crate::arch::logit_rows;
use crate::model::kernels::head::{Head, Logits, Scored};
use crate::model::kernels::matmul::Operands;
use crate::model::kernels::real::Real;
use crate::model::kernels::rows::in_pool;
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use crate::model::phase_timer::{Phase, end_phase};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// What is scored, and what the head does to its logits.
#[derive(Clone, Debug)]
pub struct Targets {
    /// Position whose output predicts, `(N,)`.
    pub rows: Arc<[u32]>,
    /// Token that is predicted, `(N,)`.
    pub tokens: Arc<[u32]>,
    /// Logits are bounded by `cap * tanh(logit / cap)` (Gemma 2).
    pub softcap: Option<f64>,
    /// What the head's products make of their operands, on the CPU.
    pub operands: Operands,
}

/// Measures that fall out of the same pass, one a target; they carry no gradient.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenStats {
    /// The target has the highest probability.
    pub correct: Vec<bool>,
    /// Entropy of the predicted distribution, nats.
    pub entropy: Vec<f64>,
}

impl TokenStats {
    pub(super) fn of<F: Real>(scored: &[Scored<F>]) -> Self {
        Self {
            correct: scored.iter().map(|s| s.correct).collect(),
            entropy: scored.iter().map(|s| s.entropy.wide()).collect(),
        }
    }
}

/// `hidden (T, D)`, `head (V, D)` -> log-probability of each target `(N,)`, nats, and side measures.
///
/// # Errors
/// Shapes do not fit; a row or token lies outside.
pub fn token_logps(
    hidden: &Tensor,
    head: &Tensor,
    targets: Targets,
) -> Result<(Tensor, TokenStats)> {
    match path(hidden) {
        Path::F32 | Path::F64 => {
            let saved = Arc::new(Mutex::new(Saved::default()));
            let op = TokenLogpsOp {
                targets,
                saved: saved.clone(),
            };
            let logps = hidden.contiguous()?.apply_op2(&head.contiguous()?, op)?;
            let stats = std::mem::take(&mut lock(&saved).stats);
            Ok((logps, stats))
        }
        Path::Upcast => {
            let (h, w) = (hidden.to_dtype(DType::F32)?, head.to_dtype(DType::F32)?);
            token_logps(&h, &w, targets)
        }
        Path::Naive => token_logps_naive(hidden, head, targets),
    }
}

/// [`token_logps`] out of candle's own ops; holds the logits of a chunk of rows at a time, and of
/// all chunks if a gradient is wanted.
///
/// # Errors
/// As [`token_logps`].
pub fn token_logps_naive(
    hidden: &Tensor,
    head: &Tensor,
    targets: Targets,
) -> Result<(Tensor, TokenStats)> {
    let device = hidden.device();
    let dtype = if hidden.dtype() == DType::F64 {
        DType::F64
    } else {
        DType::F32
    };
    let weight = head.t()?;
    let mut stats = TokenStats::default();
    let mut parts = Vec::new();
    let chunk = logit_rows(head.dim(0)?);
    for (rows, tokens) in targets.rows.chunks(chunk).zip(targets.tokens.chunks(chunk)) {
        let ids = Tensor::from_slice(rows, rows.len(), device)?;
        let mut logits = hidden
            .index_select(&ids, 0)?
            .matmul(&weight)?
            .to_dtype(dtype)?; // (C, V)
        if let Some(cap) = targets.softcap {
            logits = ((logits / cap)?.tanh()? * cap)?;
        }
        let logps = candle_nn::ops::log_softmax(&logits, D::Minus1)?;
        let tokens_tensor = Tensor::from_slice(tokens, (tokens.len(), 1), device)?;
        parts.push(logps.gather(&tokens_tensor, 1)?.squeeze(1)?);
        let logps = logps.detach();
        let best = logps.argmax(D::Minus1)?.to_vec1::<u32>()?;
        stats
            .correct
            .extend(best.iter().zip(tokens).map(|(a, b)| a == b));
        let entropy = (logps.exp()? * logps)?.sum(D::Minus1)?.neg()?;
        stats
            .entropy
            .extend(entropy.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    }
    if parts.is_empty() {
        return Ok((Tensor::zeros(0, dtype, device)?, stats));
    }
    Ok((Tensor::cat(&parts, 0)?, stats))
}

#[derive(Default)]
struct Saved {
    lse: Option<CpuStorage>,
    stats: TokenStats,
}

fn lock(saved: &Mutex<Saved>) -> std::sync::MutexGuard<'_, Saved> {
    saved.lock().unwrap_or_else(PoisonError::into_inner)
}

struct TokenLogpsOp {
    targets: Targets,
    saved: Arc<Mutex<Saved>>,
}

impl Targets {
    /// The head `weight (V, D)` with what it does to its logits.
    pub(super) fn head<'a, F>(
        &self,
        weight: &'a [F],
        (width, vocab): (usize, usize),
    ) -> Head<'a, F> {
        Head {
            weight,
            width,
            vocab,
            softcap: self.softcap,
            operands: self.operands,
        }
    }

    /// Rows and tokens, as many at a time as logits are held.
    pub(super) fn chunks(&self, vocab: usize) -> impl Iterator<Item = (&[u32], &[u32])> {
        let chunk = logit_rows(vocab);
        self.rows.chunks(chunk).zip(self.tokens.chunks(chunk))
    }

    /// T, D and V of the operands, if rows and tokens lie within them.
    pub(super) fn check(&self, h: &Layout, w: &Layout) -> Result<(usize, usize, usize)> {
        let ((t, d), (v, inner)) = (h.shape().dims2()?, w.shape().dims2()?);
        let Self { rows, tokens, .. } = self;
        if inner != d || rows.len() != tokens.len() {
            candle_core::bail!(
                "token-logps: head {:?} for hidden {:?}; {} rows for {} tokens",
                w.shape(),
                h.shape(),
                rows.len(),
                tokens.len()
            );
        }
        if let Some(row) = rows.iter().find(|&&row| row as usize >= t) {
            candle_core::bail!("token-logps: row {row} of {t}");
        }
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= v) {
            candle_core::bail!("token-logps: token {token} in a vocabulary of {v}");
        }
        Ok((t, d, v))
    }
}

impl TokenLogpsOp {
    fn forward<F: Real>(&self, h: &[F], w: &[F], (d, v): (usize, usize)) -> Vec<Scored<F>> {
        let (head, mut logits) = (self.targets.head(w, (d, v)), Logits::default());
        let mut scored = Vec::with_capacity(self.targets.rows.len());
        for chunk in self.targets.chunks(v) {
            scored.extend(logits.forward(&head, h, chunk));
        }
        scored
    }

    fn backward<F: Real>(
        &self,
        h: &[F],
        w: &[F],
        (mut lse, mut grad): (&[F], &[F]),
        (d, v): (usize, usize),
        learns: bool,
    ) -> (Vec<F>, Option<Vec<F>>) {
        let (head, mut logits) = (self.targets.head(w, (d, v)), Logits::default());
        let mut dh = vec![F::ZERO; h.len()];
        let mut dw = learns.then(|| vec![F::ZERO; w.len()]);
        let mut dx = Vec::new();
        for (rows, tokens) in self.targets.chunks(v) {
            logits.forward(&head, h, (rows, tokens));
            dx.resize(rows.len() * d, F::ZERO);
            let (of_lse, of_grad) = (lse.split_at(rows.len()), grad.split_at(rows.len()));
            (lse, grad) = (of_lse.1, of_grad.1);
            let of_rows = (of_lse.0, of_grad.0);
            logits.backward(&head, tokens, of_rows, (&mut dx, dw.as_deref_mut()));
            scatter(&dx, d, rows, &mut dh);
        }
        (dh, dw)
    }
}

/// Adds the rows of `dx (n, D)` to those of `dh (T, D)` that `rows` names.
pub(super) fn scatter<F: Real>(dx: &[F], d: usize, rows: &[u32], dh: &mut [F]) {
    for (&row, dx) in rows.iter().zip(dx.chunks_exact(d)) {
        let to = &mut dh[row as usize * d..(row as usize + 1) * d];
        to.iter_mut().zip(dx).for_each(|(a, b)| *a += *b);
    }
}

impl CustomOp2 for TokenLogpsOp {
    fn name(&self) -> &'static str {
        "token-logps"
    }

    fn cpu_fwd(
        &self,
        h: &CpuStorage,
        hl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, d, v) = self.targets.check(hl, wl)?;
        let n = self.targets.rows.len();
        by_dtype!(h.dtype(), F => {
            let (h, w) = (operand::<F>("token-logps", h, hl)?, operand::<F>("token-logps", w, wl)?);
            let scored = in_pool(|| self.forward(h, w, (d, v)));
            let mut saved = lock(&self.saved);
            saved.lse = Some(result(scored.iter().map(|s| s.lse).collect(), n).0);
            saved.stats = TokenStats::of(&scored);
            Ok(result(scored.iter().map(|s| s.logp).collect(), n))
        })
    }

    /// `dL/dz = g (onehot(target) - softmax(z))` by chunks; `dh = dz W`, `dW = dz^T h`.
    fn bwd(
        &self,
        h: &Tensor,
        w: &Tensor,
        _logps: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        end_phase(Phase::Backward);
        let ((v, d), learns) = (w.dims2()?, w.track_op());
        let saved = lock(&self.saved);
        let Some(lse) = saved.lse.as_ref() else {
            candle_core::bail!("token-logps: backward before forward");
        };
        by_dtype!(h.dtype(), F => {
            let lse = candle_core::WithDType::cpu_storage_as_slice(lse)?;
            let (dh, dw) = with_slice::<F, _>("token-logps", h, |h| {
                with_slice("token-logps", w, |w| {
                    with_slice("token-logps", grad, |g| {
                        Ok(in_pool(|| self.backward(h, w, (lse, g), (d, v), learns)))
                    })
                })
            })?;
            end_phase(Phase::Head);
            Ok((Some(gradient(dh, h)?), dw.map(|dw| gradient(dw, w)).transpose()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ops::check::{agree, gradients_match, noise};

    fn targets(softcap: Option<f64>) -> Targets {
        Targets {
            rows: [0u32, 2, 2, 4].into(),
            tokens: [1u32, 0, 18, 7].into(),
            softcap,
            operands: Operands::Exact,
        }
    }

    #[test]
    fn token_logps_are_their_naive_twin() -> Result<()> {
        let (h, w) = (
            noise(&[5, 8], 1, DType::F32)?,
            noise(&[19, 8], 2, DType::F32)?,
        );
        for cap in [None, Some(1.5)] {
            agree(
                &[&h, &w],
                |t| Ok(token_logps(&t[0], &t[1], targets(cap))?.0),
                |t| Ok(token_logps_naive(&t[0], &t[1], targets(cap))?.0),
            )?;
        }
        Ok(())
    }

    #[test]
    fn side_measures_are_their_naive_twins() -> Result<()> {
        let (h, w) = (
            noise(&[5, 8], 1, DType::F32)?,
            noise(&[19, 8], 2, DType::F32)?,
        );
        let (_, got) = token_logps(&h, &w, targets(None))?;
        let (_, want) = token_logps_naive(&h, &w, targets(None))?;
        assert_eq!(got.correct, want.correct);
        for (got, want) in got.entropy.iter().zip(&want.entropy) {
            assert!((got - want).abs() < 1e-5, "{got} {want}");
        }
        Ok(())
    }

    #[test]
    fn token_logps_gradients_match_central_differences() -> Result<()> {
        let (h, w) = (
            noise(&[5, 4], 1, DType::F64)?,
            noise(&[19, 4], 2, DType::F64)?,
        );
        for cap in [None, Some(1.5)] {
            gradients_match(
                &[&h, &w],
                |t| Ok(token_logps(&t[0], &t[1], targets(cap))?.0),
            )?;
        }
        Ok(())
    }

    // Two equal logits: log(1/2) each, entropy ln 2.
    #[test]
    fn equal_logits_share_the_probability() -> Result<()> {
        let h = Tensor::ones((1, 1), DType::F64, &candle_core::Device::Cpu)?;
        let w = Tensor::ones((2, 1), DType::F64, &candle_core::Device::Cpu)?;
        let targets = Targets {
            rows: [0].into(),
            tokens: [1].into(),
            softcap: None,
            operands: Operands::Exact,
        };
        let (logps, stats) = token_logps(&h, &w, targets)?;
        assert!((logps.to_vec1::<f64>()?[0] - 0.5f64.ln()).abs() < 1e-12);
        assert!((stats.entropy[0] - 2f64.ln()).abs() < 1e-12);
        Ok(())
    }
}
