//! A run as its executor sees it: the content of `stage.json`.

use crate::base::Digest;
use crate::config::spec::{
    DpoRecipe, EvalRecipe, JudgeRecipe, JudgeRuntime, PairLimits, Precision, PromptRecipe,
    RowsRecipe, SamplingRecipe, SelectRecipe, SftRecipe, TrainRuntime, UnitInterval,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;

/// A run's name: 64 hex digits, the digest of its identity document. Shown as its first 12.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub String);

impl RunId {
    /// The first 12 hex digits: the name of its folder.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// A kind of work.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum StageKind {
    /// Filtering of training data.
    Select,
    /// Supervised fine-tuning.
    Sft,
    /// Sampling of replies from a policy.
    Sample,
    /// Comparison of sampled replies; makes preference pairs.
    Judge,
    /// Reference log-probabilities of preference pairs.
    RefLogps,
    /// Offline DPO.
    Dpo,
    /// Evaluation of a checkpoint.
    Eval,
}

impl StageKind {
    /// Every kind, in pipeline order.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The word used in files, tables and on the command line.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Raised by hand whenever the same recipe would give different results.
    pub fn semantics(self) -> u32 {
        match self {
            // 2: sums of the CPU's products and attention have another order. 3: rows, templates and
            // masks that were read otherwise (a `system` column, `weight`, quoted end tokens, CRLF).
            // 4: what `config.json` leaves unsaid is what the class means by it; `sft` leaves its f32
            // master weights. 5: samples and ids of rows come from the content of files, not from names.
            Self::Select | Self::Sft | Self::Sample | Self::Judge => 5,
            // 2: a pair's prompt is computed once. 3 to 6: as 2 to 5 above, `dpo` as `sft`.
            Self::RefLogps | Self::Dpo | Self::Eval => 6,
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an input is to the stage.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::IntoStaticStr,
)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum InputRole {
    /// Weights to start from, or to evaluate: a model folder.
    Model,
    /// Reference log-probabilities: the artifacts of a `ref-logps` run.
    RefLogps,
    /// The base model of the trial, where a stage compares with it.
    Base,
    /// Which rows of the data are used: the artifact of a `select` run.
    Selection,
    /// Sampled replies: the artifact of a `sample` run.
    Samples,
    /// Preference pairs made online: the artifact of a `judge` run.
    Pairs,
}

impl InputRole {
    /// The word used in files.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Where an input comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum InputRef {
    /// A folder in the project, with the digest of the files that matter.
    Folder {
        /// Relative to the project root.
        path: String,
        /// Digest over names and contents.
        digest: Digest,
    },
    /// A named artifact of an earlier run.
    Run {
        /// The run.
        id: RunId,
        /// File or folder under its `artifacts/`.
        artifact: String,
    },
}

/// Name of the artifact with the trained weights of `sft` and `dpo`: a Hugging Face model folder.
pub const MODEL_ARTIFACT: &str = "model";
/// Name of the artifact with the weights after step `step`, where the recipe names it in
/// `save-steps`: a folder like [`MODEL_ARTIFACT`].
pub fn checkpoint_artifact(step: u64) -> String {
    format!("checkpoints/step-{step:06}")
}

/// Name of the artifact of `ref-logps`: JSON lines `{key, chosen, rejected}`.
pub const REF_LOGPS_ARTIFACT: &str = "ref_logps.jsonl";
/// Name of the artifact of `select`: JSON lines `{index, id, score}` of the rows that are kept, in
/// order; `index` counts the rows of the loaded mixture from 0.
pub const SELECTION_ARTIFACT: &str = "selected.jsonl";
/// Name of the artifact of `sample`: one JSON line per prompt with its replies.
pub const SAMPLES_ARTIFACT: &str = "samples.jsonl";
/// Name of the artifact of `judge`: preference pairs as JSON lines.
pub const PAIRS_ARTIFACT: &str = "pairs.jsonl";

/// Name of the artifact of `eval` with one JSON line per evaluated row.
pub const EVAL_ROWS_ARTIFACT: &str = "rows.jsonl";

/// A set of preference pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PairSet {
    /// As in the recipe of training pairs, but before any `max-examples`. `data-seed` is present only
    /// if a source has `fraction` or `count`, or `empty-system-turn` is.
    #[serde(flatten)]
    pub rows: RowsRecipe,
    /// Length limits, in tokens.
    pub limits: PairLimits,
}

/// What a `ref-logps` run computes: every pair set that trials with this reference need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RefLogpsRecipe {
    /// Training pairs first, then monitored and evaluated pairs; without repeats.
    pub sets: Vec<PairSet>,
    /// Length limits of the pairs of the input `pairs`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<PairLimits>,
    /// Number format.
    pub precision: Precision,
}

/// What a `select` run decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SelectStageRecipe {
    /// The rows to choose from, as the training stage would load them.
    pub rows: SelectRows,
    /// How many, and how they are chosen.
    pub select: SelectRecipe,
    /// Seed of the mixture's sample; present only if a source has `fraction` or `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_seed: Option<u64>,
}

/// Rows to choose from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum SelectRows {
    /// Chat data.
    Chat {
        /// As the training stage's, as far as they decide which rows there are.
        #[serde(flatten)]
        rows: RowsRecipe,
        /// Longest document, tokens.
        #[serde(rename = "max-seq-len")]
        max_seq_len: usize,
    },
    /// Preference pairs.
    Pairs {
        /// As the training stage's, as far as they decide which rows there are.
        #[serde(flatten)]
        rows: RowsRecipe,
        /// Length limits, tokens.
        limits: PairLimits,
    },
}

/// What a `sample` run draws.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SampleStageRecipe {
    /// The prompts.
    pub prompts: PromptRecipe,
    /// The round, from 0: which prompts are its turn.
    pub round: usize,
    /// Samples of each prompt.
    pub samples: NonZeroUsize,
    /// How they are drawn.
    pub sampling: SamplingRecipe,
    /// Number format.
    pub precision: Precision,
}

/// What a `judge` run decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct JudgeStageRecipe {
    /// Who compares.
    pub judge: JudgeRecipe,
    /// Share of prompts whose pair is the offline one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_ori_pair: Option<UnitInterval>,
    /// Share of prompts whose chosen reply is the offline one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p_ori_chosen: Option<UnitInterval>,
}

/// The recipe of a run, by stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage", content = "recipe")]
pub enum StageRecipe {
    /// Filtering of training data.
    Select(SelectStageRecipe),
    /// Supervised fine-tuning.
    Sft(SftRecipe),
    /// Sampling.
    Sample(SampleStageRecipe),
    /// Judging.
    Judge(JudgeStageRecipe),
    /// Reference log-probabilities.
    RefLogps(RefLogpsRecipe),
    /// Offline DPO.
    Dpo(DpoRecipe),
    /// Evaluation; `preference` is empty if the trial has no reference.
    Eval(EvalRecipe),
}

impl StageRecipe {
    /// The number format that the model computes in; none without a model.
    pub fn precision(&self) -> Option<Precision> {
        Some(match self {
            Self::Select(recipe) => recipe.select.precision.unwrap_or(Precision::F32),
            Self::Sft(recipe) => recipe.training.precision,
            Self::Sample(recipe) => recipe.precision,
            Self::Judge(_) => return None,
            Self::RefLogps(recipe) => recipe.precision,
            Self::Dpo(recipe) => recipe.training.precision,
            Self::Eval(recipe) => recipe.precision,
        })
    }

    /// The kind of work.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Select(_) => StageKind::Select,
            Self::Sft(_) => StageKind::Sft,
            Self::Sample(_) => StageKind::Sample,
            Self::Judge(_) => StageKind::Judge,
            Self::RefLogps(_) => StageKind::RefLogps,
            Self::Dpo(_) => StageKind::Dpo,
            Self::Eval(_) => StageKind::Eval,
        }
    }
}

/// Everything that `lions exec` needs to carry out a run; written to `stage.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StageFile {
    /// Version of this file's format.
    pub format: u32,
    /// The run.
    pub run: RunId,
    /// The stage and its recipe, paths relative to the project root.
    pub task: StageRecipe,
    /// Seed of the stage (already the fixed one where the recipe fixes it); 0 for `ref-logps` and
    /// `eval`, which draw nothing from it.
    pub seed: u64,
    /// A chat template file that replaces the tokenizer's own; relative to the project root.
    pub chat_template: Option<String>,
    /// Inputs by role.
    pub inputs: BTreeMap<InputRole, InputRef>,
    /// Digest of each data file, text file and model folder that the recipe names, and of the chat
    /// template, when the run was planned, by path; what changed since fails the run before it starts.
    pub data: BTreeMap<String, Digest>,
    /// How to execute; not part of the identity.
    pub runtime: TrainRuntime,
    /// How an endpoint is asked; `judge`, and `eval` with judged benchmarks, and not part of the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge_runtime: Option<JudgeRuntime>,
}

/// Version of `stage.json`.
pub const STAGE_FORMAT: u32 = 1;
