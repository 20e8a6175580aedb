//! The preference losses with their parameters.

use crate::config::range::{NonNegative, Positive, PositiveSmoothing, Smoothing};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

/// The preference loss of a pair; the loss of a step is the mean over its pairs.
///
/// `a` and `b` are the log-ratios `log π(y) - log π_ref(y)` of the preferred and of the other reply,
/// summed over the tokens of the reply (with `length-normalized`: their mean), `h = a - b`, and ε is
/// the loss's `label-smoothing`, the probability that a label is taken as flipped. Values and gradients are those of TRL 1.16, except where the entry says more.
#[derive(
    Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantNames,
)]
#[serde(
    rename_all = "kebab-case",
    rename_all_fields = "kebab-case",
    deny_unknown_fields
)]
#[strum(serialize_all = "kebab-case")]
pub enum DpoLoss {
    /// `-(1 - ε) log σ(βh) - ε log σ(-βh)`: Rafailov et al. 2023 (DPO), equation 7; with ε the
    /// conservative form (cDPO) of Mitchell 2023.
    Sigmoid {
        /// ε; absent: 0.
        #[serde(default, skip_serializing_if = "Smoothing::is_none")]
        label_smoothing: Smoothing,
    },
    /// `max(0, 1 - βh)`: Zhao et al. 2023 (SLiC-HF), Liu et al. 2024 (RSO).
    Hinge,
    /// `(h̄ - 1 / (2β))²`, h̄ of token means on both sides: Azar et al. 2023 (IPO), equation 17.
    Ipo,
    /// `(-(1 - ε) log σ(βh) + ε log σ(-βh)) / (1 - 2ε)`: Chowdhury et al. 2024 (robust DPO), unbiased
    /// under labels flipped with probability ε.
    Robust {
        /// ε; absent: 0.
        #[serde(default, skip_serializing_if = "Smoothing::is_none")]
        label_smoothing: Smoothing,
    },
    /// `KL(q ‖ p)` with `q = (σ(βh), σ(-βh))`, `p = (1 - ε, ε)`: Ji et al. 2024 (EXO), equation 16;
    /// needs ε above 0.
    ExoPair {
        /// ε, above 0; for example 1e-3.
        label_smoothing: PositiveSmoothing,
    },
    /// `-log σ(βa) - ½ log σ(-βa) - ½ log σ(-βb)`: Chen et al. 2024 (NCA).
    NcaPair,
    /// `-log σ(βa - δ) - log σ(-(βb - δ))`: Jung et al. 2024 (BCO). δ is 0, as in TRL 1.16; with
    /// `reward-shift` it is the mean of the step's rewards `βa` and `βb`, a constant for the gradient.
    /// The paper and earlier TRL keep a running mean over the steps, whose first value this is.
    BcoPair {
        /// Shift the rewards by the mean of the step's rewards.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        reward_shift: bool,
    },
    /// `(a - 1 / (2β))² + (b + 1 / (2β))²`: Wu et al. 2024 (SPPO), with hard labels.
    SppoHard,
    /// `1 - σ(βa) + σ(βb)`: D'Oosterlinck et al. 2024 (APO), equation 7.
    ApoZero,
    /// `σ(βa) + 1 - σ(βh)`: D'Oosterlinck et al. 2024 (APO), equation 8.
    ApoDown,
    /// Smoothed sigmoid loss of the i-th smallest policy margin minus the i-th smallest reference
    /// margin of the step: Melnyk et al. 2024 (AOT), paired.
    Aot {
        /// ε; absent: 0.
        #[serde(default, skip_serializing_if = "Smoothing::is_none")]
        label_smoothing: Smoothing,
    },
    /// The same of the i-th smallest `a` minus the i-th smallest `b`: AOT, unpaired.
    AotUnpaired {
        /// ε; absent: 0.
        #[serde(default, skip_serializing_if = "Smoothing::is_none")]
        label_smoothing: Smoothing,
    },
    /// `-(1 - m) log σ(βh) + m exp(-βh)` with `m = σ(βh / τ)`, τ = `tau`: Lu et al. 2024
    /// (DiscoPOP), equation 5.
    Discopop {
        /// τ: temperature of the blend; the paper's value is 0.05.
        tau: Positive,
    },
    /// `½ (1 - σ(β(a - K_l))) + ½ (1 - σ(β(K_w - b)))`, where K_w and K_l are the step's means of `a`
    /// and `b`, at least 0: Ethayarajh et al. 2024 (KTO) on pairs. Value as in TRL 0.8, which had it;
    /// as in the paper no gradient flows through K.
    KtoPair,
    /// `-log σ(β(l̄_w - l̄_l) - γ)`, l̄ the policy's token mean, γ = `gamma`, ε as for `sigmoid`: Meng
    /// et al. 2024 (SimPO), equation 6, and TRL's `CPOTrainer`. No reference.
    Simpo {
        /// γ: the margin aimed at; the paper's values are 0.3 to 1.6.
        gamma: NonNegative,
        /// ε; absent: 0.
        #[serde(default, skip_serializing_if = "Smoothing::is_none")]
        label_smoothing: Smoothing,
    },
    /// `NLL(y_w) - β log σ(log odds(y_w) - log odds(y_l))`, odds of `exp(l̄)`: Hong et al. 2024 (ORPO),
    /// equations 6 and 7, λ = β. The NLL is that of `sft-weight = 1` (TRL's `ORPOTrainer` also counts
    /// the tokens of the prompt). No reference.
    Orpo,
}

impl DpoLoss {
    /// Every loss, as a recipe spells it.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// As a recipe spells it.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Whether the definition itself holds token means and no reference.
    pub fn is_reference_free(self) -> bool {
        matches!(self, Self::Simpo { .. } | Self::Orpo)
    }

    /// Whether a pair's loss depends on the other pairs of its step.
    pub fn couples_pairs(self) -> bool {
        match self {
            Self::KtoPair | Self::Aot { .. } | Self::AotUnpaired { .. } => true,
            Self::BcoPair { reward_shift } => reward_shift,
            _ => false,
        }
    }
}

/// What is minimised over preference pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreferenceLoss {
    /// The loss, with its parameters: `"hinge"`, or `{ simpo = { gamma = 0.5 } }`.
    #[serde(rename = "loss")]
    pub kind: DpoLoss,
    /// β of the loss: strength of the pull towards the reference (`orpo`: weight of the odds ratio).
    pub beta: Positive,
    /// Adds so many times the negative log-likelihood of the preferred replies, a mean over all their
    /// tokens in the step (TRL's `rpo_alpha`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sft_weight: Option<NonNegative>,
    /// Log-probabilities of policy and reference are means over the tokens of a reply, not sums
    /// (`sigmoid`: TRL's `sigmoid_norm`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub length_normalized: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_spelt_alike_by_name_and_in_a_recipe() {
        let recipe = r#"{"simpo":{"gamma":0.5}}"#;
        let simpo: DpoLoss = serde_json::from_str(recipe).unwrap();
        assert_eq!(simpo.name(), "simpo");
        assert_eq!(
            serde_json::to_string(&simpo).unwrap(),
            recipe,
            "no smoothing, no word of it"
        );
        for name in ["hinge", "bco-pair", "aot-unpaired"] {
            assert!(DpoLoss::NAMES.contains(&name), "{name}");
        }
    }
}
