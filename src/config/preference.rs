//! Offline preference learning.

use crate::config::diagnose::FieldProblem;
use crate::config::flat::flat;
use crate::config::loss::{DpoLoss, PreferenceLoss};
use crate::config::options::ReferenceUpdate;
use crate::config::range::Share;
use crate::config::training::{RowsRecipe, TrainRuntime, TrainingRecipe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Offline preference learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DpoConfig {
    /// Everything that can change the trained weights.
    pub recipe: DpoRecipe,
    /// How this machine executes it.
    #[serde(default)]
    pub runtime: TrainRuntime,
}

/// Which end of a prompt that is too long is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Truncation {
    /// Keep the last tokens of the prompt (its beginning-of-text token is kept too).
    KeepEnd,
    /// Keep the first tokens of the prompt.
    KeepStart,
    /// Leave pairs that are too long out, counted.
    Drop,
}

/// How preference pairs become token sequences; part of the key of the reference log-probabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PairLimits {
    /// Longest prompt plus completion, tokens.
    pub max_seq_len: usize,
    /// Longest prompt when the pair is too long, tokens.
    pub max_prompt_len: usize,
    /// What happens to pairs that are too long.
    pub truncation: Truncation,
}

/// What a checkpoint of the pipeline is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// The checkpoint from which this stage starts.
    Init,
    /// The base model.
    Base,
}

/// The frozen model that a policy is compared with, in training; flat in the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ReferenceRecipe {
    /// The frozen model that gives the reference log-probabilities.
    #[serde(rename = "reference")]
    pub model: Reference,
    /// The reference's log-probabilities are taken as 0; no reference model is asked in training.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reference_free: bool,
    /// Lets the reference follow the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_update: Option<ReferenceUpdate>,
}

/// How pairs become steps; flat in the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PairsRecipe {
    /// Length limits, in tokens.
    pub limits: PairLimits,
    /// Online DPO: share of the judged pairs that is trained on, a seeded sample; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online_fraction: Option<Share>,
    /// Pairs per optimiser step.
    pub global_batch_size: NonZeroUsize,
}

/// What can change the result of offline DPO.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct DpoRecipe {
    /// Which pairs are seen.
    #[serde(flatten)]
    pub rows: RowsRecipe,
    /// How they become steps.
    #[serde(flatten)]
    pub pairs: PairsRecipe,
    /// What is minimised.
    #[serde(flatten)]
    pub objective: PreferenceLoss,
    /// What the policy is compared with.
    #[serde(flatten)]
    pub reference: ReferenceRecipe,
    /// How the stage learns.
    #[serde(flatten)]
    pub training: TrainingRecipe,
}

flat!(DpoRecipe {
    rows: RowsRecipe,
    pairs: PairsRecipe,
    objective: PreferenceLoss,
    reference: ReferenceRecipe,
    training: TrainingRecipe,
});

impl DpoRecipe {
    /// Whether training asks a reference model.
    pub fn needs_reference(&self) -> bool {
        !self.reference.reference_free && !self.objective.kind.is_reference_free()
    }
}

/// Options of the recipe that its loss cannot have.
pub(crate) fn loss_problems(recipe: &DpoRecipe) -> Vec<FieldProblem> {
    let (objective, reference) = (&recipe.objective, &recipe.reference);
    let loss = objective.kind;
    let free = loss.is_reference_free();
    let has_means = free || loss == DpoLoss::Ipo;
    let has_likelihood = loss == DpoLoss::Orpo;
    let moves = reference.reference_update.is_some();
    let given = [
        (
            "sft-weight",
            objective.sft_weight.is_some(),
            has_likelihood,
            "it has that term itself",
        ),
        (
            "length-normalized",
            objective.length_normalized,
            has_means,
            "it takes means itself",
        ),
        (
            "reference-free",
            reference.reference_free,
            free,
            "it has no reference anyway",
        ),
        ("reference-update", moves, free, "it has no reference"),
    ];
    let wrong = given
        .into_iter()
        .filter(|(_, given, idle, _)| *given && *idle);
    wrong
        .map(|(field, _, _, why)| FieldProblem {
            field: field.to_owned(),
            message: format!("the loss `{}` does not use `{field}`", loss.name()),
            help: format!("{why}; remove it"),
        })
        .collect()
}
