//! Log-probabilities of given tokens without ever holding all logits.
//!
//! `logp_i = z_i[target_i] - logsumexp(z_i)`, `z_i = cap(h[row_i] W^T)`. Rows are taken in chunks;
//! of each chunk only the log-normalisers are kept, and the backward pass recomputes its logits.

use crate::base::laps::{Phase, lap};
use crate::model::ops::Real;
use crate::model::ops::matmul::{Into, Mat, matmul, threads};
use crate::model::ops::simd::{LANES, kernel, lane_sum, row_max, tanh};
use crate::model::ops::storage::{Path, by_dtype, gradient, operand, path, result, with_slice};
use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
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
            entropy: scored.iter().map(|s| s.entropy.to_f64()).collect(),
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
    let chunk = chunk_rows(head.dim(0)?);
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

/// Rows whose logits are held at once. Those of a small vocabulary stay in the cache: about a quarter
/// of a million. Those of a large one cannot; there the head is packed anew for each chunk, so
/// chunks are as long as 128 MiB of `f32` logits allow.
pub(super) fn chunk_rows(vocab: usize) -> usize {
    const SMALL: usize = 1024;
    let held = if vocab <= SMALL { 1 << 18 } else { 1 << 25 };
    (held / vocab.max(1)).clamp(256, 1024)
}

/// Rows of `h` gathered into `out`.
pub(super) fn gather<F: Real>(h: &[F], d: usize, rows: &[u32], out: &mut Vec<F>) {
    out.clear();
    for &row in rows {
        out.extend_from_slice(&h[row as usize * d..(row as usize + 1) * d]);
    }
}

/// What one row of logits says about its target.
#[derive(Clone, Copy)]
pub(super) struct Scored<F> {
    pub(super) logp: F,
    pub(super) lse: F,
    pub(super) entropy: F,
    pub(super) correct: bool,
}

/// The bound of logits, and whether they have it already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cap {
    pub(super) limit: Option<f64>,
    pub(super) applied: bool,
}

/// Bounds the logits of a row by the cap.
#[inline(always)]
fn cap_row<F: Real, const FMA: bool>(row: &mut [F], cap: f64) {
    let (cap, over) = (F::from_f64(cap), F::from_f64(1.0 / cap));
    for v in row.iter_mut() {
        *v = cap * tanh::<F, FMA>(*v * over);
    }
}

kernel! {
    /// Scores each row of `logits (C, V)`, which the softcap changes in place.
    pub(super) fn score_rows<F>(logits: &mut [F], tokens: &[u32], softcap: Option<f64>, out: &mut Vec<Scored<F>>) {
        let v = logits.len() / tokens.len().max(1);
        for (row, &token) in logits.chunks_exact_mut(v).zip(tokens) {
            if let Some(cap) = softcap {
                cap_row::<F, FMA>(row, cap);
            }
            let top = row_max(row);
            let (mut sum, mut weighted) = ([F::zero(); LANES], [F::zero(); LANES]);
            let chunks = row.chunks_exact(LANES);
            for (i, &z) in chunks.remainder().iter().enumerate() {
                let e = (z - top).exp_if::<FMA>();
                sum[i] += e;
                weighted[i] += e * (z - top);
            }
            for c in chunks {
                for i in 0..LANES {
                    let below = c[i] - top;
                    let e = below.exp_if::<FMA>();
                    sum[i] += e;
                    weighted[i] = e.mul_add_if::<FMA>(below, weighted[i]);
                }
            }
            let (sum, weighted) = (lane_sum(sum), lane_sum(weighted));
            let log_sum = sum.log();
            let target = row[token as usize];
            out.push(Scored {
                logp: (target - top) - log_sum,
                lse: top + log_sum,
                entropy: log_sum - weighted / sum,
                correct: target >= top,
            });
        }
    }
}

kernel! {
    /// Turns logits into the gradient of `sum(g_i logp_i)`: `dz = g (onehot - softmax(z))`,
    /// times the slope `1 - (z / cap)^2` of the cap.
    fn logits_gradient<F>(
        logits: &mut [F], tokens: &[u32], lse: &[F], grad: &[F], cap: Cap,
    ) {
        let v = logits.len() / tokens.len().max(1);
        for (i, (row, &token)) in logits.chunks_exact_mut(v).zip(tokens).enumerate() {
            let (lse, g) = (lse[i], grad[i]);
            if let Some(limit) = cap.limit {
                if !cap.applied {
                    cap_row::<F, FMA>(row, limit);
                }
                let over = F::from_f64(1.0 / limit);
                let z = row[token as usize] * over;
                let slope = F::one() - z * z;
                for v in row.iter_mut() {
                    let z = *v * over;
                    *v = -g * (*v - lse).exp_if::<FMA>() * (F::one() - z * z);
                }
                row[token as usize] += g * slope;
            } else {
                for v in row.iter_mut() {
                    *v = -g * (*v - lse).exp_if::<FMA>();
                }
                row[token as usize] += g;
            }
        }
    }
}

/// Rows of logits that one thread scores at a time.
const SCORED_ROWS: usize = 16;

/// [`score_rows`] over the whole chunk, rows in parallel.
pub(super) fn score_all<F: Real>(
    logits: &mut [F],
    tokens: &[u32],
    softcap: Option<f64>,
    out: &mut Vec<Scored<F>>,
) {
    if threads() == 1 || tokens.len() <= SCORED_ROWS {
        return score_rows(logits, tokens, softcap, out);
    }
    let v = logits.len() / tokens.len();
    let parts: Vec<Vec<Scored<F>>> = logits
        .par_chunks_mut(SCORED_ROWS * v)
        .zip(tokens.par_chunks(SCORED_ROWS))
        .map(|(logits, tokens)| {
            let mut part = Vec::with_capacity(tokens.len());
            score_rows(logits, tokens, softcap, &mut part);
            part
        })
        .collect();
    out.extend(parts.into_iter().flatten());
}

/// [`logits_gradient`] over the whole chunk, rows in parallel.
pub(super) fn gradient_of_all<F: Real>(
    logits: &mut [F],
    tokens: &[u32],
    lse: &[F],
    grad: &[F],
    cap: Cap,
) {
    if threads() == 1 || tokens.len() <= SCORED_ROWS {
        return logits_gradient(logits, tokens, lse, grad, cap);
    }
    let v = logits.len() / tokens.len();
    logits
        .par_chunks_mut(SCORED_ROWS * v)
        .zip(tokens.par_chunks(SCORED_ROWS))
        .zip(lse.par_chunks(SCORED_ROWS))
        .zip(grad.par_chunks(SCORED_ROWS))
        .for_each(|(((logits, tokens), lse), grad)| {
            logits_gradient(logits, tokens, lse, grad, cap);
        });
}

impl Targets {
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
        let Targets {
            rows,
            tokens,
            softcap,
        } = &self.targets;
        let chunk = chunk_rows(v);
        let (mut x, mut logits) = (Vec::new(), vec![F::zero(); chunk.min(rows.len()) * v]);
        let mut scored = Vec::with_capacity(rows.len());
        for (rows, tokens) in rows.chunks(chunk).zip(tokens.chunks(chunk)) {
            gather(h, d, rows, &mut x);
            let logits = &mut logits[..rows.len() * v];
            matmul(
                (rows.len(), v, d),
                Mat::new(&x, d),
                Mat::transposed(w, d),
                logits,
                Into::Set,
            );
            score_all(logits, tokens, *softcap, &mut scored);
        }
        scored
    }

    fn backward<F: Real>(
        &self,
        h: &[F],
        w: &[F],
        (lse, grad): (&[F], &[F]),
        (d, v): (usize, usize),
    ) -> (Vec<F>, Vec<F>) {
        let Targets {
            rows,
            tokens,
            softcap,
        } = &self.targets;
        let chunk = chunk_rows(v);
        let held = chunk.min(rows.len());
        let (mut x, mut logits) = (Vec::new(), vec![F::zero(); held * v]);
        let mut dx = vec![F::zero(); held * d];
        let (mut dh, mut dw) = (vec![F::zero(); h.len()], vec![F::zero(); w.len()]);
        for (i, (rows, tokens)) in rows.chunks(chunk).zip(tokens.chunks(chunk)).enumerate() {
            let n = rows.len();
            let here = i * chunk..i * chunk + n;
            gather(h, d, rows, &mut x);
            let (logits, dx) = (&mut logits[..n * v], &mut dx[..n * d]);
            matmul(
                (n, v, d),
                Mat::new(&x, d),
                Mat::transposed(w, d),
                logits,
                Into::Set,
            );
            let cap = Cap {
                limit: *softcap,
                applied: false,
            };
            gradient_of_all(logits, tokens, &lse[here.clone()], &grad[here], cap);
            matmul(
                (n, d, v),
                Mat::new(logits, v),
                Mat::new(w, d),
                dx,
                Into::Set,
            );
            matmul(
                (v, d, n),
                Mat::transposed(logits, v),
                Mat::new(&x, d),
                &mut dw,
                Into::Add,
            );
            for (&row, dx) in rows.iter().zip(dx.chunks_exact(d)) {
                let to = &mut dh[row as usize * d..(row as usize + 1) * d];
                to.iter_mut().zip(dx).for_each(|(a, b)| *a += *b);
            }
        }
        (dh, dw)
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
            let scored = self.forward(h, w, (d, v));
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
        lap(Phase::Backward);
        let (v, d) = w.dims2()?;
        let saved = lock(&self.saved);
        let Some(lse) = saved.lse.as_ref() else {
            candle_core::bail!("token-logps: backward before forward");
        };
        by_dtype!(h.dtype(), F => {
            let lse = candle_core::WithDType::cpu_storage_as_slice(lse)?;
            let (dh, dw) = with_slice::<F, _>("token-logps", h, |h| {
                with_slice("token-logps", w, |w| {
                    with_slice("token-logps", grad, |g| Ok(self.backward(h, w, (lse, g), (d, v))))
                })
            })?;
            lap(Phase::Head);
            Ok((Some(gradient(dh, h)?), Some(gradient(dw, w)?)))
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
        };
        let (logps, stats) = token_logps(&h, &w, targets)?;
        assert!((logps.to_vec1::<f64>()?[0] - 0.5f64.ln()).abs() < 1e-12);
        assert!((stats.entropy[0] - 2f64.ln()).abs() < 1e-12);
        Ok(())
    }
}
