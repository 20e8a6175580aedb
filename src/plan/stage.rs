//! A run as its executor sees it: the content of `stage.json`.

use crate::base::Digest;
use crate::config::spec::{
    DataSource, DpoRecipe, EvalRecipe, PairLimits, Precision, SftRecipe, TrainRuntime,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageKind {
    /// Supervised fine-tuning.
    Sft,
    /// Reference log-probabilities of preference pairs.
    RefLogps,
    /// Offline DPO.
    Dpo,
    /// Evaluation of a checkpoint.
    Eval,
}

impl StageKind {
    /// Every kind, in pipeline order.
    pub const ALL: [Self; 4] = [Self::Sft, Self::RefLogps, Self::Dpo, Self::Eval];

    /// The word used in files, tables and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sft => "sft",
            Self::RefLogps => "ref-logps",
            Self::Dpo => "dpo",
            Self::Eval => "eval",
        }
    }

    /// Raised by hand whenever the same recipe would give different results.
    pub fn semantics(self) -> u32 {
        match self {
            Self::Sft | Self::RefLogps | Self::Dpo | Self::Eval => 1,
        }
    }
}

impl fmt::Display for StageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an input is to the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InputRole {
    /// Weights to start from, or to evaluate: a model folder.
    Model,
    /// Reference log-probabilities: the artifacts of a `ref-logps` run.
    RefLogps,
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
/// Name of the artifact of `ref-logps`: JSON lines `{key, chosen, rejected}`.
pub const REF_LOGPS_ARTIFACT: &str = "ref_logps.jsonl";
/// Name of the artifact of `eval` with one JSON line per evaluated row.
pub const EVAL_ROWS_ARTIFACT: &str = "rows.jsonl";

/// A set of preference pairs, before any `max-examples`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PairSet {
    /// Mixture of preference pairs.
    pub data: Vec<DataSource>,
    /// Length limits, in tokens.
    pub limits: PairLimits,
    /// Seed of the mixture's sample; present only if a source has `fraction` or `count`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_seed: Option<u64>,
}

/// What a `ref-logps` run computes: every pair set that trials with this reference need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RefLogpsRecipe {
    /// Training pairs first, then monitored and evaluated pairs; without repeats.
    pub sets: Vec<PairSet>,
    /// Number format.
    pub precision: Precision,
}

/// The recipe of a run, by stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "stage", content = "recipe")]
pub enum StageRecipe {
    /// Supervised fine-tuning.
    Sft(SftRecipe),
    /// Reference log-probabilities.
    RefLogps(RefLogpsRecipe),
    /// Offline DPO.
    Dpo(DpoRecipe),
    /// Evaluation; `preference` is empty if the trial has no reference.
    Eval(EvalRecipe),
}

impl StageRecipe {
    /// The kind of work.
    pub fn kind(&self) -> StageKind {
        match self {
            Self::Sft(_) => StageKind::Sft,
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
    /// Digest of each data file when the run was planned, by path; a file that changed since fails
    /// the run before it starts.
    pub data: BTreeMap<String, Digest>,
    /// How to execute; not part of the identity.
    pub runtime: TrainRuntime,
}

/// Version of `stage.json`.
pub const STAGE_FORMAT: u32 = 1;
