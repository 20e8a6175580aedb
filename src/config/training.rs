//! Training: what supervised fine-tuning and preference learning have in common, and the former.

use crate::arch::{FloatFormat, Learned};
use crate::config::data_source::DataSource;
use crate::config::flat::flat;
use crate::config::options::{Decontamination, TrainableEmbeddings};
use crate::config::range::{BelowOne, NonNegative, Positive, Share, UnitInterval};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU64, NonZeroUsize};
use strum::{IntoStaticStr, VariantArray};

/// How documents become rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Batching {
    /// One document a row, padded to the longest of the batch; pad positions are computed.
    Padded,
    /// Documents concatenated and cut into windows of `max-seq-len` tokens (the paper's packing).
    Concat,
    /// Documents placed whole into windows by best fit; only documents longer than a window are cut.
    BestFit,
}

/// Which target tokens count in the SFT loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LossMask {
    /// Assistant replies with their end token.
    AssistantOnly,
    /// Every token that has a predecessor in its own document.
    AllTokens,
}

/// The size of one optimiser step of SFT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum BatchSize {
    /// Positions computed a step, padding included: equal compute for every kind of batching.
    Tokens(usize),
    /// Rows a step: documents when padded, windows when packed.
    Rows(usize),
}

/// How long a stage trains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Duration {
    /// Passes over the (selected) data.
    Epochs(f64),
    /// Optimiser steps.
    Steps(u64),
}

/// AdamW (Loshchilov & Hutter 2019): f32 moments, decoupled decay, no decay on norms and biases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OptimizerRecipe {
    /// Peak learning rate.
    pub learning_rate: Positive,
    /// Decay of the first moment.
    pub beta1: BelowOne,
    /// Decay of the second moment.
    pub beta2: BelowOne,
    /// Added to the root of the second moment.
    pub eps: Positive,
    /// Decoupled weight decay, on matrices only.
    pub weight_decay: NonNegative,
    /// Clip gradients to this global L2 norm; 0 switches clipping off.
    pub max_grad_norm: NonNegative,
}

/// Shape of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(transform = with_short_name)]
pub enum Decay {
    /// Half a cosine down to `min-ratio`.
    Cosine,
    /// A straight line down to `min-ratio`.
    Linear,
    /// Stays at the peak.
    Constant,
    /// Stays at the peak until the last `decay-ratio` of all steps, then a straight line down to
    /// `min-ratio` (Hu et al. 2024, MiniCPM; the linear form of Hägele et al. 2024).
    #[serde(alias = "wsd")]
    WarmupStableDecay,
}

/// Adds the other spelling of `warmup-stable-decay`, which the derived schema passes over.
fn with_short_name(schema: &mut Schema) {
    if let Some(serde_json::Value::Array(all)) = schema.get_mut("oneOf") {
        all.push(serde_json::json!({
            "type": "string", "const": "wsd", "description": "`warmup-stable-decay`, for short.",
        }));
    }
}

/// Learning-rate schedule: linear warm-up, then `decay`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ScheduleRecipe {
    /// What follows the warm-up.
    pub decay: Decay,
    /// Share of all steps spent in warm-up; steps are rounded up.
    pub warmup_ratio: UnitInterval,
    /// Final learning rate over peak.
    pub min_ratio: UnitInterval,
    /// `warmup-stable-decay`: share of all steps spent in the decay; steps are rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_ratio: Option<UnitInterval>,
}

/// Number format of weights and activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// bfloat16 weights and activations, f32 master weights and moments.
    Bf16,
}

impl Precision {
    /// As a recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl From<Precision> for FloatFormat {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

/// A kind of matrix of a decoder layer, by its name in checkpoints.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
    IntoStaticStr,
    VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum LoraTarget {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// The attention's output.
    OProj,
    /// The gate of the feed-forward part.
    GateProj,
    /// Its other input matrix.
    UpProj,
    /// Its output matrix.
    DownProj,
}

impl LoraTarget {
    /// The name in checkpoints.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Low-rank adapters (Hu et al. 2021): of each target only `A` and `B` in `W + (alpha / rank) B A`
/// are trained. The trained model is the sum.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LoraRecipe {
    /// Rows of `A` and columns of `B`.
    pub rank: NonZeroUsize,
    /// The product is multiplied by `alpha / rank`.
    pub alpha: Positive,
    /// Which matrices of every layer are adapted.
    pub targets: Vec<LoraTarget>,
}

impl LoraRecipe {
    /// What a training of such adapters changes, for counting.
    pub fn learned(&self) -> Learned {
        Learned::Adapters {
            rank: self.rank.get(),
            targets: self.targets.iter().map(|target| target.name()).collect(),
        }
    }
}

/// Supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SftConfig {
    /// Everything that can change the trained weights.
    pub recipe: SftRecipe,
    /// How this machine executes it.
    #[serde(default)]
    pub runtime: TrainRuntime,
}

/// Which rows a training stage sees, and how they are written; flat in the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RowsRecipe {
    /// Mixture of chat or instruction data, or of preference pairs.
    pub data: Vec<DataSource>,
    /// Use only the first so many examples of the seeded permutation of the mixture, so that smaller
    /// sets are nested in larger ones (|D| of preference learning).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_examples: Option<NonZeroUsize>,
    /// Of rows with the same turns (of pairs: the same prompt and preferred reply), over all sources,
    /// only the first is used; before `fraction` and `count`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedup: bool,
    /// Rows that hold texts of these files are left out; after `dedup`, before `fraction` and `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decontaminate: Option<Decontamination>,
    /// With this probability a conversation without a system turn gets an empty one in front, drawn
    /// by content and data seed, so that equal conversations are drawn alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_system_turn: Option<Share>,
    /// Fixes the seed of the mixture's sample and of the permutation whose prefix is
    /// `max-examples`. Absent: the stage's seed, so that repeats also vary the selection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_seed: Option<u64>,
}

impl RowsRecipe {
    /// Every row of the mixture, as it is.
    pub fn of(data: Vec<DataSource>) -> Self {
        Self {
            data,
            max_examples: None,
            dedup: false,
            decontaminate: None,
            empty_system_turn: None,
            data_seed: None,
        }
    }

    /// What of it decides which rows there are to choose from; the seed aside.
    #[must_use]
    pub fn to_choose_from(&self) -> Self {
        Self {
            max_examples: None,
            empty_system_turn: None,
            data_seed: None,
            ..self.clone()
        }
    }

    /// Whether the mixture depends on a seed.
    pub fn is_sampled(&self) -> bool {
        let sampled = |source: &DataSource| source.fraction.is_some() || source.count.is_some();
        self.data.iter().any(sampled)
    }
}

/// How a training stage learns; flat in the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrainingRecipe {
    /// How long to train.
    pub duration: Duration,
    /// Optimiser.
    pub optimizer: OptimizerRecipe,
    /// Learning-rate schedule.
    pub schedule: ScheduleRecipe,
    /// Number format.
    pub precision: Precision,
    /// Train adapters instead of all weights. A reference is the model without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraRecipe>,
    /// Fixes the seed of this stage, so that trials of all seeds share it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Held-out files measured along training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitor>,
    /// Only these rows of the embedding learn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trainable_embeddings: Option<TrainableEmbeddings>,
    /// Number format of the trained weights that later stages and evaluations read; absent: f32, the
    /// master weights. In bf16 an update below half a unit of its weight is lost to them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save_precision: Option<Precision>,
    /// After each of these steps the model is kept as artifact `checkpoints/step-<6 digits>`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub save_steps: Vec<u64>,
}

/// How chats become rows of a batch, and which of their tokens count; flat in the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LayoutRecipe {
    /// Window length in tokens; longer documents are cut (packed) or truncated (padded), counted.
    pub max_seq_len: usize,
    /// How documents become rows.
    pub batching: Batching,
    /// Which targets count.
    pub loss_mask: LossMask,
    /// Rows (windows, or documents when padded) with more than this share of tokens that are no
    /// targets are left out, counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_masked_fraction: Option<BelowOne>,
    /// Size of one optimiser step.
    pub batch: BatchSize,
}

/// What can change the result of supervised fine-tuning.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SftRecipe {
    /// Which conversations are seen.
    #[serde(flatten)]
    pub rows: RowsRecipe,
    /// How they become batches.
    #[serde(flatten)]
    pub layout: LayoutRecipe,
    /// How the stage learns.
    #[serde(flatten)]
    pub training: TrainingRecipe,
}

flat!(SftRecipe {
    rows: RowsRecipe,
    layout: LayoutRecipe,
    training: TrainingRecipe,
});

/// Measurement along training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Monitor {
    /// Held-out data: chat files in SFT, preference pairs in DPO.
    pub data: Vec<DataSource>,
    /// Measure before the first step, every so many steps, and after the last.
    pub every_steps: NonZeroU64,
}

/// How a training stage is executed; never part of an identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TrainRuntime {
    /// Most positions in one forward and backward pass; a step is split to fit. Absent: chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<NonZeroUsize>,
    /// Write a resumable checkpoint every so many steps. Absent: chosen by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_steps: Option<NonZeroU64>,
    /// Keep only the input of each layer for the backward pass and compute the rest again: a third
    /// more compute for much less memory, and the same bytes. Absent: no; on a card, for as many layers
    /// as its memory does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recompute_layers: Option<bool>,
}
