//! The preference losses by name, and which parameter belongs to which.

use crate::config::spec::DpoRecipe;
use serde::{Deserialize, Serialize};

/// The preference loss of a pair; the loss of a step is the mean over its pairs.
///
/// `a` and `b` are the log-ratios `log π(y) - log π_ref(y)` of the preferred and of the other reply,
/// summed over the tokens of the reply (with `length-normalized`: their mean), `h = a - b`, and ε is
/// `label-smoothing`. Values and gradients are those of TRL 1.16, except where the entry says more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DpoLoss {
    /// `-(1 - ε) log σ(βh) - ε log σ(-βh)`: Rafailov et al. 2023 (DPO), equation 7; with ε the
    /// conservative form (cDPO) of Mitchell 2023.
    Sigmoid,
    /// `max(0, 1 - βh)`: Zhao et al. 2023 (SLiC-HF), Liu et al. 2024 (RSO).
    Hinge,
    /// `(h̄ - 1 / (2β))²`, h̄ of token means on both sides: Azar et al. 2023 (IPO), equation 17.
    Ipo,
    /// `(-(1 - ε) log σ(βh) + ε log σ(-βh)) / (1 - 2ε)`: Chowdhury et al. 2024 (robust DPO), unbiased
    /// under labels flipped with probability ε.
    Robust,
    /// `KL(q ‖ p)` with `q = (σ(βh), σ(-βh))`, `p = (1 - ε, ε)`: Ji et al. 2024 (EXO), equation 16;
    /// needs ε above 0.
    ExoPair,
    /// `-log σ(βa) - ½ log σ(-βa) - ½ log σ(-βb)`: Chen et al. 2024 (NCA).
    NcaPair,
    /// `-log σ(βa - δ) - log σ(-(βb - δ))`: Jung et al. 2024 (BCO). δ is 0, as in TRL 1.16; with
    /// `reward-shift` it is the mean of the step's rewards `βa` and `βb`, a constant for the gradient.
    /// The paper and earlier TRL keep a running mean over the steps, whose first value this is.
    BcoPair,
    /// `(a - 1 / (2β))² + (b + 1 / (2β))²`: Wu et al. 2024 (SPPO), with hard labels.
    SppoHard,
    /// `1 - σ(βa) + σ(βb)`: D'Oosterlinck et al. 2024 (APO), equation 7.
    ApoZero,
    /// `σ(βa) + 1 - σ(βh)`: D'Oosterlinck et al. 2024 (APO), equation 8.
    ApoDown,
    /// Smoothed sigmoid loss of the i-th smallest policy margin minus the i-th smallest reference
    /// margin of the step: Melnyk et al. 2024 (AOT), paired.
    Aot,
    /// The same of the i-th smallest `a` minus the i-th smallest `b`: AOT, unpaired.
    AotUnpaired,
    /// `-(1 - m) log σ(βh) + m exp(-βh)` with `m = σ(βh / τ)`, τ = `discopop-tau`: Lu et al. 2024
    /// (DiscoPOP), equation 5.
    Discopop,
    /// `½ (1 - σ(β(a - K_l))) + ½ (1 - σ(β(K_w - b)))`, where K_w and K_l are the step's means of `a`
    /// and `b`, at least 0: Ethayarajh et al. 2024 (KTO) on pairs. Value as in TRL 0.8, which had it;
    /// as in the paper no gradient flows through K.
    KtoPair,
    /// `-log σ(β(l̄_w - l̄_l) - γ)`, l̄ the policy's token mean, γ = `gamma`, ε as for `sigmoid`: Meng
    /// et al. 2024 (SimPO), equation 6, and TRL's `CPOTrainer`. No reference.
    Simpo,
    /// `NLL(y_w) - β log σ(log odds(y_w) - log odds(y_l))`, odds of `exp(l̄)`: Hong et al. 2024 (ORPO),
    /// equations 6 and 7, λ = β. The NLL is that of `sft-weight = 1` (TRL's `ORPOTrainer` also counts
    /// the tokens of the prompt). No reference.
    Orpo,
}

/// A rule that a recipe breaks.
pub(crate) struct LossProblem {
    /// Name of the field of the recipe.
    pub(crate) field: &'static str,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl DpoLoss {
    /// Every loss.
    pub const ALL: [Self; 16] = [
        Self::Sigmoid,
        Self::Hinge,
        Self::Ipo,
        Self::Robust,
        Self::ExoPair,
        Self::NcaPair,
        Self::BcoPair,
        Self::SppoHard,
        Self::ApoZero,
        Self::ApoDown,
        Self::Aot,
        Self::AotUnpaired,
        Self::Discopop,
        Self::KtoPair,
        Self::Simpo,
        Self::Orpo,
    ];

    /// As a recipe spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Hinge => "hinge",
            Self::Ipo => "ipo",
            Self::Robust => "robust",
            Self::ExoPair => "exo-pair",
            Self::NcaPair => "nca-pair",
            Self::BcoPair => "bco-pair",
            Self::SppoHard => "sppo-hard",
            Self::ApoZero => "apo-zero",
            Self::ApoDown => "apo-down",
            Self::Aot => "aot",
            Self::AotUnpaired => "aot-unpaired",
            Self::Discopop => "discopop",
            Self::KtoPair => "kto-pair",
            Self::Simpo => "simpo",
            Self::Orpo => "orpo",
        }
    }

    /// Whether the definition itself holds token means and no reference.
    pub fn is_reference_free(self) -> bool {
        matches!(self, Self::Simpo | Self::Orpo)
    }

    /// Whether a pair's loss depends on the other pairs of its step.
    pub fn couples_pairs(self, reward_shift: bool) -> bool {
        match self {
            Self::KtoPair | Self::Aot | Self::AotUnpaired => true,
            Self::BcoPair => reward_shift,
            _ => false,
        }
    }

    fn uses_label_smoothing(self) -> bool {
        matches!(
            self,
            Self::Sigmoid
                | Self::Robust
                | Self::ExoPair
                | Self::Aot
                | Self::AotUnpaired
                | Self::Simpo
        )
    }
}

impl DpoRecipe {
    /// Whether training asks a reference model.
    pub fn needs_reference(&self) -> bool {
        !self.reference_free && !self.loss.is_reference_free()
    }

    /// Whether a pair's loss depends on the other pairs of its step.
    pub fn couples_pairs(&self) -> bool {
        self.loss.couples_pairs(self.reward_shift)
    }
}

/// A parameter: its field, whether it is given, and which losses use it.
type Parameter = (&'static str, bool, fn(DpoLoss) -> bool);

/// What is wrong with the parameters of the loss.
pub(crate) fn loss_problems(recipe: &DpoRecipe) -> Vec<LossProblem> {
    let mut problems = Vec::new();
    let mut fail = |field, message, help| {
        problems.push(LossProblem {
            field,
            message,
            help,
        });
    };
    let loss = recipe.loss;
    let parameters: [Parameter; 8] = [
        ("label-smoothing", recipe.label_smoothing > 0.0, |loss| {
            loss.uses_label_smoothing()
        }),
        ("gamma", recipe.gamma.is_some(), |loss| {
            loss == DpoLoss::Simpo
        }),
        ("discopop-tau", recipe.discopop_tau.is_some(), |loss| {
            loss == DpoLoss::Discopop
        }),
        ("reward-shift", recipe.reward_shift, |loss| {
            loss == DpoLoss::BcoPair
        }),
        ("sft-weight", recipe.sft_weight.is_some(), |loss| {
            loss != DpoLoss::Orpo
        }),
        ("length-normalized", recipe.length_normalized, |loss| {
            loss != DpoLoss::Ipo && !loss.is_reference_free()
        }),
        ("reference-free", recipe.reference_free, |loss| {
            !loss.is_reference_free()
        }),
        (
            "reference-update",
            recipe.reference_update.is_some(),
            |loss| !loss.is_reference_free(),
        ),
    ];
    for (field, given, used_by) in parameters {
        if given && !used_by(loss) {
            let users = DpoLoss::ALL.into_iter().filter(|loss| used_by(*loss));
            let users: Vec<String> = users.map(|loss| format!("`{}`", loss.name())).collect();
            fail(
                field,
                format!("the loss `{}` does not use `{field}`", loss.name()),
                Some(format!("it belongs to {}", users.join(", "))),
            );
        }
    }
    let missing = |field: &str| format!("the loss `{}` needs `{field}`", loss.name());
    if loss == DpoLoss::Simpo && recipe.gamma.is_none() {
        let help = "add `gamma`, the margin aimed at; the paper's values are 0.3 to 1.6";
        fail("loss", missing("gamma"), Some(help.to_owned()));
    }
    if loss == DpoLoss::Discopop && recipe.discopop_tau.is_none() {
        let help = "add `discopop-tau`; the paper's value is 0.05";
        fail("loss", missing("discopop-tau"), Some(help.to_owned()));
    }
    if loss == DpoLoss::ExoPair && recipe.label_smoothing <= 0.0 {
        let help = "for example 1e-3";
        let message = missing("label-smoothing") + " above 0";
        fail("label-smoothing", message, Some(help.to_owned()));
    }
    for (field, value, zero) in [
        ("gamma", recipe.gamma, true),
        ("sft-weight", recipe.sft_weight, true),
        ("discopop-tau", recipe.discopop_tau, false),
    ] {
        let Some(value) = value else { continue };
        if !value.is_finite() || value < 0.0 || (value <= 0.0 && !zero) {
            let rule = if zero { "0 or more" } else { "above 0" };
            fail(
                field,
                format!("`{field}` must be {rule}, not {value}"),
                None,
            );
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_listed_under_its_spelling() {
        for loss in DpoLoss::ALL {
            let spelt = serde_json::to_value(loss).unwrap();
            assert_eq!(spelt, loss.name());
        }
        let unique: std::collections::BTreeSet<&str> =
            DpoLoss::ALL.iter().map(|loss| loss.name()).collect();
        assert_eq!(unique.len(), DpoLoss::ALL.len());
    }
}
