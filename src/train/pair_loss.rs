//! The preference losses, as functions of the log-probabilities of whole replies.
//!
//! B pairs; everything is (B,) f64. A loss never sees tokens: the gradient of a step is that of its
//! loss by the log-probabilities ([`PreferenceLoss::gradient`]), carried on into the model one
//! micro-batch after another.

use crate::config::spec::{DpoLoss, NonNegative, PreferenceLoss};
use crate::train::loss::{PairLogps, log_sigmoid, smoothed_logistic};
use crate::train::reference::ReferencePair;
use crate::train::score::PairScore;
use candle_core::{Device, Result, Tensor, Var};
use std::ops::Range;

/// B pairs as a loss sees them.
#[derive(Clone, Debug)]
pub struct PairTerms {
    /// (B,) log-probabilities under the policy.
    pub policy: PairLogps,
    /// (B,) the same under the reference; zeros where there is none.
    pub reference: PairLogps,
    /// (B,) tokens of each preferred reply.
    pub chosen_tokens: Tensor,
    /// (B,) tokens of each other reply.
    pub rejected_tokens: Tensor,
    /// Tokens of a preferred reply, the mean over all pairs of the step.
    pub mean_chosen_tokens: f64,
}

/// Loss of some pairs, and its gradient by their log-probabilities under the policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PairGradient {
    /// The loss, as part of the step's mean.
    pub loss: f64,
    /// Gradient by chosen and rejected log-probability of each pair.
    pub pairs: Vec<[f64; 2]>,
}

impl PairTerms {
    /// From scores; `mean_chosen_tokens` is the step's.
    pub fn new(
        scores: &[PairScore],
        references: &[ReferencePair],
        mean_chosen_tokens: f64,
    ) -> Result<Self> {
        let row =
            |pick: fn(&PairScore) -> f64| Tensor::from_iter(scores.iter().map(pick), &Device::Cpu);
        let stored = |pick: fn(&ReferencePair) -> f64| {
            Tensor::from_iter(references.iter().map(pick), &Device::Cpu)
        };
        Ok(Self {
            policy: PairLogps {
                chosen: row(|s| s.chosen.logp)?,     // (B,)
                rejected: row(|s| s.rejected.logp)?, // (B,)
            },
            reference: PairLogps {
                chosen: stored(|r| r.chosen)?,     // (B,)
                rejected: stored(|r| r.rejected)?, // (B,)
            },
            chosen_tokens: row(|s| s.chosen.tokens.max(1) as f64)?, // (B,)
            rejected_tokens: row(|s| s.rejected.tokens.max(1) as f64)?, // (B,)
            mean_chosen_tokens,
        })
    }
}

impl PairGradient {
    /// The gradient of the pairs in `range`; the loss stays with the whole.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        Self {
            loss: 0.0,
            pairs: self.pairs.get(range).unwrap_or_default().to_vec(),
        }
    }
}

impl PreferenceLoss {
    /// Whether a pair's loss depends on the other pairs of its step.
    pub fn couples_pairs(&self) -> bool {
        self.kind.couples_pairs()
    }

    /// (B,) losses, whose mean is the loss of the step; differentiable. Where pairs are coupled by
    /// sorting, entry i is not pair i's.
    pub fn losses(&self, pairs: &PairTerms) -> Result<Tensor> {
        let losses = self.plain_losses(pairs)?; // (B,)
        let nll_weight = match self.kind {
            DpoLoss::Orpo => 1.0,
            _ => self.sft_weight.map_or(0.0, NonNegative::get),
        };
        if nll_weight > 0.0 {
            // The mean over pairs of this is the mean over all tokens of the preferred replies.
            losses + (&pairs.policy.chosen * (-nll_weight / pairs.mean_chosen_tokens))?
        } else {
            Ok(losses)
        }
    }

    /// Loss of these pairs out of `total` of the step, and its gradient.
    pub fn gradient(&self, pairs: &PairTerms, total: usize) -> Result<PairGradient> {
        let chosen = Var::from_tensor(&pairs.policy.chosen)?; // (B,)
        let rejected = Var::from_tensor(&pairs.policy.rejected)?; // (B,)
        let policy = PairLogps {
            chosen: chosen.as_tensor().clone(),
            rejected: rejected.as_tensor().clone(),
        };
        let terms = PairTerms {
            policy,
            ..pairs.clone()
        };
        let losses = self.losses(&terms)?; // (B,)
        let loss = losses.sum_all()?.affine(1.0 / total as f64, 0.0)?; // ()
        let store = loss.backward()?;
        let of = |var: &Var| match store.get(var.as_tensor()) {
            Some(grad) => grad.to_vec1::<f64>(),
            None => Ok(vec![0.0; var.elem_count()]),
        };
        let columns = of(&chosen)?.into_iter().zip(of(&rejected)?);
        Ok(PairGradient {
            loss: loss.to_scalar::<f64>()?,
            pairs: columns
                .map(|(chosen, rejected)| [chosen, rejected])
                .collect(),
        })
    }

    /// Implicit rewards of both replies, as TRL logs them: `β (log π(y) - log π_ref(y))`; of SimPO
    /// and ORPO `β` times the mean token log-probability.
    pub fn rewards(&self, score: &PairScore, reference: ReferencePair) -> (f64, f64) {
        let (chosen, rejected) = if self.kind.is_reference_free() {
            (score.chosen.mean_logp(), score.rejected.mean_logp())
        } else {
            (
                score.chosen.logp - reference.chosen,
                score.rejected.logp - reference.rejected,
            )
        };
        (self.beta.get() * chosen, self.beta.get() * rejected)
    }

    /// Without the likelihood term: a function of the log-ratios `a` and `b`, of `h = a - b`, or of
    /// their token means; where there is no reference, of the log-probabilities in their place.
    fn plain_losses(&self, pairs: &PairTerms) -> Result<Tensor> {
        let beta = self.beta.get();
        let free = self.kind.is_reference_free();
        let means = self.length_normalized || self.kind == DpoLoss::Ipo || free;
        let by_token = |values: Tensor, tokens: &Tensor| {
            if means { values / tokens } else { Ok(values) }
        };
        let ratio = |policy: &Tensor, reference: &Tensor, tokens: &Tensor| {
            let ratio = if free {
                policy.clone()
            } else {
                (policy - reference)?
            };
            by_token(ratio, tokens)
        };
        let (policy, reference) = (&pairs.policy, &pairs.reference);
        let a = ratio(&policy.chosen, &reference.chosen, &pairs.chosen_tokens)?; // (B,)
        let b = ratio(
            &policy.rejected,
            &reference.rejected,
            &pairs.rejected_tokens,
        )?; // (B,)
        let h = (&a - &b)?; // (B,)
        let logits = (&h * beta)?; // (B,)
        match self.kind {
            DpoLoss::Sigmoid { label_smoothing } => {
                smoothed_logistic(&logits, label_smoothing.get())
            }
            DpoLoss::Hinge => (logits.neg()? + 1.0)?.relu(),
            DpoLoss::Ipo => (h - 0.5 / beta)?.sqr(),
            DpoLoss::Robust { label_smoothing } => robust(&logits, label_smoothing.get()),
            DpoLoss::ExoPair { label_smoothing } => exo_pair(&logits, label_smoothing.get()),
            DpoLoss::NcaPair => nca_pair(&(a * beta)?, &(b * beta)?),
            DpoLoss::BcoPair { reward_shift } => bco_pair(&(a * beta)?, &(b * beta)?, reward_shift),
            DpoLoss::SppoHard => (a - 0.5 / beta)?.sqr()? + (b + 0.5 / beta)?.sqr()?,
            DpoLoss::ApoZero => sigmoid(&(a * -beta)?)? + sigmoid(&(b * beta)?)?,
            DpoLoss::ApoDown => sigmoid(&(a * beta)?)? + sigmoid(&logits.neg()?)?,
            DpoLoss::Aot { label_smoothing } => {
                let margins = |logps: &PairLogps| {
                    let chosen = by_token(logps.chosen.clone(), &pairs.chosen_tokens)?; // (B,)
                    let rejected = by_token(logps.rejected.clone(), &pairs.rejected_tokens)?; // (B,)
                    sorted(&(chosen - rejected)?) // (B,)
                };
                let gaps = (margins(policy)? - margins(reference)?)?; // (B,)
                smoothed_logistic(&(gaps * beta)?, label_smoothing.get())
            }
            DpoLoss::AotUnpaired { label_smoothing } => {
                let gaps = (sorted(&a)? - sorted(&b)?)?; // (B,)
                smoothed_logistic(&(gaps * beta)?, label_smoothing.get())
            }
            DpoLoss::Discopop { tau } => discopop(&logits, tau.get()),
            DpoLoss::KtoPair => kto_pair(&(a * beta)?, &(b * beta)?),
            DpoLoss::Simpo {
                gamma,
                label_smoothing,
            } => smoothed_logistic(&(logits - gamma.get())?, label_smoothing.get()),
            DpoLoss::Orpo => log_sigmoid(&(log_odds(&a)? - log_odds(&b)?)?)? * -beta,
        }
    }
}

/// `σ(x)`, without overflow on either side.
fn sigmoid(x: &Tensor) -> Result<Tensor> {
    log_sigmoid(x)?.exp()
}

/// `log (p / (1 - p))` of log p (B,). Above -1e-9, where f64 can no longer tell p from 1, the
/// denominator is held.
fn log_odds(logp: &Tensor) -> Result<Tensor> {
    let rest = (logp.minimum(-1e-9)?.exp()?.neg()? + 1.0)?.log()?; // (B,)
    logp - rest
}

/// Values in ascending order; the gradient goes back to where each came from.
fn sorted(values: &Tensor) -> Result<Tensor> {
    let plain = values.to_vec1::<f64>()?;
    let mut order: Vec<u32> = (0..plain.len() as u32).collect();
    order.sort_by(|&i, &j| plain[i as usize].total_cmp(&plain[j as usize]));
    values.index_select(&Tensor::new(order, values.device())?, 0) // (B,)
}

/// Mean, without a graph.
fn constant_mean(values: &Tensor) -> Result<f64> {
    values.detach().mean_all()?.to_scalar::<f64>()
}

fn robust(logits: &Tensor, smoothing: f64) -> Result<Tensor> {
    let clean = (log_sigmoid(logits)? * -(1.0 - smoothing))?; // (B,)
    let flipped = (log_sigmoid(&logits.neg()?)? * smoothing)?; // (B,)
    (clean + flipped)? / (1.0 - 2.0 * smoothing)
}

fn exo_pair(logits: &Tensor, smoothing: f64) -> Result<Tensor> {
    let side = |logits: &Tensor, log_target: f64| {
        let log_q = log_sigmoid(logits)?; // (B,)
        log_q.exp()? * (log_q - log_target)?
    };
    side(logits, (1.0 - smoothing).ln())? + side(&logits.neg()?, smoothing.ln())?
}

fn nca_pair(chosen: &Tensor, rejected: &Tensor) -> Result<Tensor> {
    let pushed = (log_sigmoid(&chosen.neg()?)? + log_sigmoid(&rejected.neg()?)?)?; // (B,)
    ((pushed * 0.5)? + log_sigmoid(chosen)?)?.neg()
}

fn bco_pair(chosen: &Tensor, rejected: &Tensor, shift: bool) -> Result<Tensor> {
    let delta = if shift {
        0.5 * (constant_mean(chosen)? + constant_mean(rejected)?)
    } else {
        0.0
    };
    let rejected = (rejected - delta)?.neg()?; // (B,)
    (log_sigmoid(&(chosen - delta)?)? + log_sigmoid(&rejected)?)?.neg()
}

fn discopop(logits: &Tensor, tau: f64) -> Result<Tensor> {
    let scaled = (logits / tau)?; // (B,)
    let logistic = (log_sigmoid(logits)? * sigmoid(&scaled.neg()?)?)?; // (B,)
    // Where the exponential would overflow, its weight is 0 already.
    let exponential = logits.maximum(-700.0)?.neg()?.exp()?; // (B,)
    (exponential * sigmoid(&scaled)?)? - logistic
}

fn kto_pair(chosen: &Tensor, rejected: &Tensor) -> Result<Tensor> {
    let chosen_level = constant_mean(chosen)?.max(0.0);
    let rejected_level = constant_mean(rejected)?.max(0.0);
    let kept = sigmoid(&(chosen - rejected_level)?.neg()?)?; // (B,)
    let dropped = sigmoid(&(rejected - chosen_level)?)?; // (B,)
    (kept + dropped)? * 0.5
}
