//! The typed recipe of a trial: what every stage needs to know.
//!
//! `…Recipe` holds whatever can change a result and is hashed whole; `…Runtime` holds what cannot
//! and is never hashed. A field that is `Option` is a feature that is off when absent; absent
//! fields (and switches that are off) are left out of the identity, so that a new feature never
//! renames old runs.

pub use crate::config::data_source::*;
pub use crate::config::evaluation::*;
pub use crate::config::fold::{Fold, FoldPart};
pub use crate::config::judge::*;
pub use crate::config::judged::*;
pub use crate::config::loss::{DpoLoss, PreferenceLoss};
pub use crate::config::online::*;
pub use crate::config::options::{Decontamination, ReferenceUpdate, TrainableEmbeddings};
pub use crate::config::paths::*;
pub use crate::config::preference::*;
pub use crate::config::range::*;
pub use crate::config::select::*;
pub use crate::config::task::*;
pub use crate::config::training::*;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// The complete configuration of one trial, after overlay and typing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    JsonSchema,
    IntoStaticStr,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelConfig {
    /// A folder in Hugging Face layout, relative to the project root.
    pub path: ModelDir,
    /// A Jinja chat template file that replaces the tokenizer's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_template: Option<TextFile>,
}
