//! The typed recipe of a trial: what every stage needs to know.
//!
//! `…Recipe` holds whatever can change a result and is hashed whole; `…Runtime` holds what cannot
//! and is never hashed. A field that is `Option` is a feature that is off when absent; absent
//! fields (and switches that are off) are left out of the identity, so that a new feature never
//! renames old runs.

pub use crate::config::judge::*;
pub use crate::config::loss::{DpoLoss, PreferenceLoss};
pub use crate::config::online::*;
pub use crate::config::options::{Decontamination, ReferenceUpdate, TrainableEmbeddings};
pub use crate::config::paths::*;
pub use crate::config::range::*;
pub use crate::config::select::*;

use crate::arch::Learned;
use crate::config::flat::flat;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use strum::{IntoStaticStr, VariantArray};

/// The complete configuration of one trial, after overlay and typing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TrialConfig {
    /// The training stages, in order; empty means that the base model itself is evaluated.
    pub pipeline: Vec<PipelineStage>,
    /// Where the base weights, tokenizer and chat template come from.
    pub model: ModelConfig,
    /// Supervised fine-tuning; needed if `pipeline` names `sft`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sft: Option<SftConfig>,
    /// Offline preference learning; needed if `pipeline` names `dpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dpo: Option<DpoConfig>,
    /// Online preference learning; needed if `pipeline` names `online-dpo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online_dpo: Option<OnlineDpoConfig>,
    /// Filters the data of one stage; absent: nothing is filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select: Option<SelectConfig>,
    /// What is measured on the last checkpoint.
    pub eval: EvalConfig,
}

/// A training stage that a pipeline may name.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum PipelineStage {
    /// Supervised fine-tuning.
    Sft,
    /// Offline DPO.
    Dpo,
    /// Online DPO, in rounds.
    OnlineDpo,
}

impl PipelineStage {
    /// As a pipeline spells it; also the name of its table.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelConfig {
    /// A folder in Hugging Face layout, relative to the project root.
    pub path: ModelDir,
    /// A Jinja chat template file that replaces the tokenizer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<TextFile>,
}

/// One source of a data mixture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DataSource {
    /// A file of JSON lines, a JSON list (both perhaps compressed) or a Parquet file, relative to the
    /// project root.
    pub path: DataFile,
    /// Use this share of the rows: the integer part repeats the set, the rest is a seeded sample.
    /// Not together with `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraction: Option<Positive>,
    /// Use this many rows, sampled without replacement by seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<NonZeroUsize>,
    /// The file's names of columns, by the names that they have here: `{ prompt = "question" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
}

/// The names that a column of a data file may have for us.
pub const COLUMNS: [&str; 12] = [
    "id",
    "messages",
    "conversations",
    "system",
    "prompt",
    "completion",
    "response",
    "chosen",
    "rejected",
    "instruction",
    "input",
    "output",
];

/// How documents become rows of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossMask {
    /// Assistant replies with their end token.
    AssistantOnly,
    /// Every token that has a predecessor in its own document.
    AllTokens,
}

/// The size of one optimiser step of SFT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum BatchSize {
    /// Positions computed a step, padding included: equal compute for every kind of batching.
    Tokens(usize),
    /// Rows a step: documents when padded, windows when packed.
    Rows(usize),
}

/// How long a stage trains.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Duration {
    /// Passes over the (selected) data.
    Epochs(f64),
    /// Optimiser steps.
    Steps(u64),
}

/// AdamW (Loshchilov & Hutter 2019): f32 moments, decoupled decay, no decay on norms and biases.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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

/// Learning-rate schedule: linear warm-up, then `decay`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// bfloat16 weights and activations, f32 master weights and moments.
    Bf16,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SftConfig {
    /// Everything that can change the trained weights.
    pub recipe: SftRecipe,
    /// How this machine executes it.
    #[serde(default)]
    pub runtime: TrainRuntime,
}

/// Which rows a training stage sees, and how they are written; flat in the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Monitor {
    /// Held-out data: chat files in SFT, preference pairs in DPO.
    pub data: Vec<DataSource>,
    /// Measure before the first step, every so many steps, and after the last.
    pub every_steps: NonZeroU64,
}

/// Offline preference learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DpoConfig {
    /// Everything that can change the trained weights.
    pub recipe: DpoRecipe,
    /// How this machine executes it.
    #[serde(default)]
    pub runtime: TrainRuntime,
}

/// Which end of a prompt that is too long is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reference {
    /// The checkpoint from which this stage starts.
    Init,
    /// The base model.
    Base,
}

/// The frozen model that a policy is compared with, in training; flat in the recipe.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize)]
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

/// How a training stage is executed; never part of an identity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TrainRuntime {
    /// Most positions in one forward and backward pass; a step is split to fit. Absent: chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch_tokens: Option<NonZeroUsize>,
    /// Write a resumable checkpoint every so many steps. Absent: chosen by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_steps: Option<NonZeroU64>,
    /// Keep only the input of each layer for the backward pass and compute the rest again: a third
    /// more compute for much less memory, and the same bytes. Absent: no.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recompute_layers: Option<bool>,
}

/// Evaluation of a trial's last checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EvalConfig {
    /// Everything that can change a score.
    pub recipe: EvalRecipe,
    /// Evaluates the weights that the last stage kept after this step (one of its `save-steps`);
    /// absent: its final ones. One training run so serves many points.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_step: Option<u64>,
    /// How this machine executes it.
    #[serde(default)]
    pub runtime: TrainRuntime,
}

/// What is measured. Every set is named; metric keys begin with that name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct EvalRecipe {
    /// Loss and perplexity per reply token: `<name>/loss`, `<name>/perplexity`.
    #[serde(default)]
    pub likelihood: BTreeMap<String, LikelihoodEval>,
    /// Implicit-reward accuracy, margins and probability margin, where the pipeline has a
    /// reference (`dpo`): `<name>/rewards/accuracies` and so on.
    #[serde(default)]
    pub preference: BTreeMap<String, PreferenceEval>,
    /// Rule score of sampled stories: `<name>/rule_score` and so on.
    #[serde(default)]
    pub stories: BTreeMap<String, StoriesEval>,
    /// Number format.
    pub precision: Precision,
}

/// Held-out likelihood of the assistant's replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LikelihoodEval {
    /// Chat or instruction data.
    pub data: Vec<DataSource>,
    /// Longer documents are cut, counted; tokens.
    pub max_seq_len: usize,
}

/// Held-out preference pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreferenceEval {
    /// Preference pairs.
    pub data: Vec<DataSource>,
    /// Length limits, in tokens.
    pub limits: PairLimits,
}

/// Sampled stories, judged by verifiable rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct StoriesEval {
    /// Rows with `messages` and `constraints` (`name`, `dialogue`).
    pub data: Vec<DataSource>,
    /// Use the first so many prompts; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prompts: Option<NonZeroUsize>,
    /// Samples a prompt.
    pub samples: NonZeroUsize,
    /// Sampling parameters.
    pub sampling: SamplingRecipe,
    /// Seed of the samples, the same for every trial so that comparisons are paired.
    pub seed: u64,
}

/// Sampling from a policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SamplingRecipe {
    /// Softmax temperature; 0 is greedy.
    pub temperature: NonNegative,
    /// Nucleus mass; 1 keeps every token.
    pub top_p: Share,
    /// Most new tokens.
    pub max_new_tokens: NonZeroUsize,
}
