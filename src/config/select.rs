//! How training data is chosen: the methods by name, and which of them needs what.

use crate::base::counted;
use crate::config::data_source::DataSource;
use crate::config::diagnose::FieldProblem;
use crate::config::paths::{ModelDir, TextFile};
use crate::config::range::{Cosine, UnitInterval};
use crate::config::training::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use strum::IntoStaticStr;

/// Which rows of the training data are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SelectRecipe {
    /// Rows kept; fewer that can be chosen is an error.
    pub keep: NonZeroUsize,
    /// How they are chosen.
    pub method: SelectMethod,
    /// Number format of the models that a method asks; absent for methods that ask none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
}

/// A way of choosing rows.
///
/// x is a row's prompt, y its reply: of a pair the preferred one, `y_w`; the other is `y_l`. Of a
/// conversation y are all replies. Tokens are those of the stage that is trained on the rows, cut to
/// its limits. Equal scores are ordered by the row's place. "By the seed" is the seeded order of
/// `max-examples`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum SelectMethod {
    /// The first rows by the seed: the same rows as `max-examples`.
    Random,
    /// The most tokens in y first: Zhao et al. 2024 (Long Is More for Alignment).
    Longest,
    /// The fewest tokens in y first: the opposite of `longest`, for control.
    Shortest,
    /// Pairs by bins of their gap in score, each bin with a quota, by the seed within a bin: the
    /// script `zephyr_dpo_pref_strength` of the LIONs authors' code.
    PreferenceStrength(PreferenceStrength),
    /// Rows whose (preferred) reply has a score on one side of a threshold, by the seed: the filters
    /// of positive responses in the LIONs authors' code. With scores given by a judge the filter of
    /// AlpaGasus (Chen et al. 2023).
    ChosenQuality(QualityRule),
    /// The same of the other reply of a pair: the filters of negative responses.
    RejectedQuality(QualityRule),
    /// Complexity times quality, highest first, passing over rows too similar to one kept: Liu et
    /// al. 2023 (Deita, What Makes Good Data for Alignment?), with the scorers of hkust-nlp.
    Deita(DeitaRecipe),
    /// Instruction-following difficulty `IFD = PPL(y | x) / PPL(y)` under the policy, highest first
    /// and below 1: Li et al. 2023 (From Quantity to Quality), as a ratio of perplexities as in
    /// Superfiltering (Li et al. 2024). The first paper's code divides the mean losses, which leaves
    /// out the same rows.
    Ifd,
    /// Rows whose perplexity `PPL(y | x)` under the policy lies between two quantiles, by the seed:
    /// Marion et al. 2023 (When Less is More).
    Perplexity(PerplexityBand),
    /// `r(x, y_w) - r(x, y_l)` of a reward model, highest first: the reward-model scores of the LIONs
    /// authors' code, used as the gap of a pair.
    RewardGap(ModelSource),
    /// `log π(y_w) / π_0(y_w) - log π(y_l) / π_0(y_l)`, π the policy and `π_0` the base model, highest
    /// first: the gap of DPO's implicit rewards (Rafailov et al. 2023, equation 5) over β.
    ImplicitRewardGap,
    /// The policy's margin, the mean token log-probability of `y_w` less that of `y_l`, from one end.
    MarginUncertainty(MarginUncertainty),
    /// Similarity of a row's gradient to those of a target set, highest first: Xia et al. 2024
    /// (LESS), equation 3, with plain gradients of all weights at the policy.
    Less(LessRecipe),
    /// The rows of a file of ids, in its order.
    Ids(IdFile),
}

/// Bins and quotas of `preference-strength`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PreferenceStrength {
    /// Where the gap is found.
    pub gap: GapSource,
    /// Edges of the bins, ascending: bin i is from edge i to below edge i + 1, the last with its upper
    /// edge. Rows outside are never chosen.
    pub edges: Vec<f64>,
    /// How the kept rows are shared among the bins, one weight a bin; what an exhausted bin cannot
    /// give goes to the others by their weights. Absent: equal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Vec<f64>>,
}

/// Where the gap in score of a pair is found. A column is a path of keys and list positions in a
/// row's further keys, for example `meta.chosen_score` or `meta.votes.0`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum GapSource {
    /// A column that holds the gap.
    Column(String),
    /// The difference of two columns.
    Difference {
        /// Score of the preferred reply.
        chosen: String,
        /// Score of the other.
        rejected: String,
    },
}

/// A threshold on a score; at least one side is given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct QualityRule {
    /// Path to the score, as in [`GapSource`].
    pub column: String,
    /// Lowest score that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Highest score that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
}

/// A model of its own, beside the pipeline's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ModelSource {
    /// A folder in Hugging Face layout, relative to the project root.
    pub model_path: ModelDir,
}

/// Models and threshold of `deita`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DeitaRecipe {
    /// Scores an instruction, as `hkust-nlp/deita-complexity-scorer` does.
    pub complexity: ModelSource,
    /// Scores a reply, as `hkust-nlp/deita-quality-scorer` does.
    pub quality: ModelSource,
    /// Gives the embeddings; absent: the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding: Option<ModelSource>,
    /// How hidden states become an embedding.
    pub pooling: Pooling,
    /// A row is passed over if its embedding's cosine similarity with that of a kept row is above
    /// this; 0.9 in the paper's code.
    pub threshold: Cosine,
}

/// How the hidden states of a text become its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The last token's, as in Deita's code.
    Last,
}

/// The band of `perplexity`: quantiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PerplexityBand {
    /// Rows below this quantile are left out.
    pub low: UnitInterval,
    /// Rows above this quantile are left out.
    pub high: UnitInterval,
}

/// Which end of the margins `margin-uncertainty` keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MarginUncertainty {
    /// The end.
    pub tail: Tail,
    /// Order by the margin's absolute value: `hard` are then the pairs that the policy cannot tell
    /// apart, not those that it gets wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absolute: bool,
}

/// An end of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tail {
    /// The smallest margins.
    Hard,
    /// The largest margins.
    Easy,
}

/// Target and projection of `less`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LessRecipe {
    /// The target set, of the same kind of rows as those to choose from.
    pub data: Vec<DataSource>,
    /// Dimension of the random projection; 8192 in the paper.
    pub dimension: NonZeroUsize,
}

/// A file of row ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IdFile {
    /// One id a line, or CSV with a column `full_id` or `id`; relative to the project root.
    pub ids_path: TextFile,
}

/// The kind of rows that are chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectTarget {
    /// Conversations, for supervised fine-tuning.
    Chat,
    /// Preference pairs.
    Pairs,
}

impl SelectMethod {
    /// As a recipe spells it.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// Whether the pipeline's checkpoint at this point is asked.
    pub fn needs_policy(&self) -> bool {
        match self {
            Self::Ifd
            | Self::Perplexity(_)
            | Self::ImplicitRewardGap
            | Self::MarginUncertainty(_)
            | Self::Less(_) => true,
            Self::Deita(deita) => deita.embedding.is_none(),
            _ => false,
        }
    }

    /// Whether gradients of the policy's weights are taken.
    pub fn needs_gradients(&self) -> bool {
        matches!(self, Self::Less(_))
    }

    /// Whether the base model is asked.
    pub fn needs_base(&self) -> bool {
        matches!(self, Self::ImplicitRewardGap)
    }

    /// Whether any model is asked.
    pub fn needs_model(&self) -> bool {
        self.needs_policy() || !self.model_paths().is_empty()
    }

    /// Whether the choice depends on the seed. Where it does not, runs of all seeds are equal.
    pub fn uses_seed(&self) -> bool {
        matches!(
            self,
            Self::Random
                | Self::PreferenceStrength(_)
                | Self::ChosenQuality(_)
                | Self::RejectedQuality(_)
                | Self::Perplexity(_)
                | Self::Less(_)
        )
    }

    /// Folders of models of its own, each with its path from the method.
    pub fn model_paths(&self) -> Vec<(&'static str, &str)> {
        match self {
            Self::Deita(deita) => {
                let mut paths = vec![
                    ("deita.complexity.model-path", &*deita.complexity.model_path),
                    ("deita.quality.model-path", &*deita.quality.model_path),
                ];
                if let Some(embedding) = &deita.embedding {
                    paths.push(("deita.embedding.model-path", &embedding.model_path));
                }
                paths
            }
            Self::RewardGap(model) => vec![("reward-gap.model-path", &model.model_path)],
            _ => Vec::new(),
        }
    }

    /// Data that is read besides the rows to choose from.
    pub fn data(&self) -> &[DataSource] {
        match self {
            Self::Less(less) => &less.data,
            _ => &[],
        }
    }

    /// The file of ids.
    pub fn ids_path(&self) -> Option<&str> {
        match self {
            Self::Ids(ids) => Some(&ids.ids_path),
            _ => None,
        }
    }

    /// Whether it can choose among conversations.
    pub fn applies_to_chat(&self) -> bool {
        !matches!(
            self,
            Self::PreferenceStrength(_)
                | Self::RejectedQuality(_)
                | Self::RewardGap(_)
                | Self::ImplicitRewardGap
                | Self::MarginUncertainty(_)
        )
    }
}

/// What is wrong with the recipe, files aside.
pub fn select_problems(recipe: &SelectRecipe, target: SelectTarget) -> Vec<FieldProblem> {
    let mut found = Found::default();
    let method = &recipe.method;
    let name = method.name();
    if target == SelectTarget::Chat && !method.applies_to_chat() {
        let message = format!("`{name}` chooses among preference pairs, not conversations");
        found.add(
            "method",
            message,
            "write `of = \"dpo\"`, or take another method",
        );
    }
    if method.needs_model() && recipe.precision.is_none() {
        let message = format!("`{name}` asks a model and needs `precision`");
        found.add("method", message, "add `precision = \"f32\"` or `\"bf16\"`");
    }
    if !method.needs_model() && recipe.precision.is_some() {
        let message = format!("`{name}` asks no model and does not use `precision`");
        found.add("precision", message, "remove it");
    }
    for (path, value) in method.model_paths() {
        found.filled(path, value);
    }
    if let Some(path) = method.ids_path() {
        found.filled("ids.ids-path", path);
    }
    method_problems(method, &mut found);
    found.0
}

fn method_problems(method: &SelectMethod, found: &mut Found) {
    match method {
        SelectMethod::PreferenceStrength(strength) => strength_problems(strength, found),
        SelectMethod::ChosenQuality(rule) => rule_problems(rule, "chosen-quality", found),
        SelectMethod::RejectedQuality(rule) => rule_problems(rule, "rejected-quality", found),
        SelectMethod::Perplexity(band) if band.low >= band.high => {
            let (low, high) = (band.low, band.high);
            let message = format!("`high` must be above `low` = {low}, not {high}");
            let help = "they are quantiles, for example 0.1 and 0.9";
            found.add("method.perplexity.high", message, help);
        }
        SelectMethod::Less(less) if less.data.is_empty() => {
            let help = "for example `data = [{ path = \"data/….jsonl\" }]`";
            found.add("method.less.data", "`data` names no target set", help);
        }
        _ => {}
    }
}

fn strength_problems(strength: &PreferenceStrength, found: &mut Found) {
    let at = |field: &str| format!("method.preference-strength.{field}");
    let columns = match &strength.gap {
        GapSource::Column(column) => vec![("gap.column", column)],
        GapSource::Difference { chosen, rejected } => vec![
            ("gap.difference.chosen", chosen),
            ("gap.difference.rejected", rejected),
        ],
    };
    for (field, column) in columns {
        found.filled(&format!("preference-strength.{field}"), column);
    }
    let edges = &strength.edges;
    let ascending = edges.windows(2).all(|pair| pair[0] < pair[1]);
    if edges.len() < 2 || !ascending || !edges.iter().all(|edge| edge.is_finite()) {
        let message = "`edges` must be two or more finite numbers, each above the one before";
        found.add(
            at("edges"),
            message,
            "for example `[0, 1, 2, 3]`: three bins",
        );
    }
    let Some(weights) = &strength.weights else {
        return;
    };
    let bins = edges.len().saturating_sub(1);
    if weights.len() != bins {
        let entries = counted(weights.len(), "entry");
        let message = format!("`weights` has {entries} for {}", counted(bins, "bin"));
        found.add(at("weights"), message, "write one weight for each bin");
    }
    let sound = weights.iter().all(|w| w.is_finite() && *w >= 0.0);
    if !sound || !weights.iter().any(|w| *w > 0.0) {
        let message = "`weights` must be 0 or more, and one of them above 0";
        found.add(at("weights"), message, "for example 1 for each bin");
    }
}

fn rule_problems(rule: &QualityRule, method: &str, found: &mut Found) {
    found.filled(&format!("{method}.column"), &rule.column);
    for (field, value) in [("at-least", rule.at_least), ("at-most", rule.at_most)] {
        if value.is_some_and(|value| !value.is_finite()) {
            let message = format!("`{field}` must be a finite number");
            let help = "leave it out if that side has no bound";
            found.add(format!("method.{method}.{field}"), message, help);
        }
    }
    match (rule.at_least, rule.at_most) {
        (None, None) => found.add(
            format!("method.{method}"),
            format!("`{method}` needs `at-least` or `at-most`"),
            "add one of them, on the scale of the column",
        ),
        (Some(least), Some(most)) if least > most => found.add(
            format!("method.{method}.at-most"),
            format!("`at-most` = {most} is below `at-least` = {least}"),
            "lower `at-least`, or raise `at-most`",
        ),
        _ => {}
    }
}

/// The problems of one recipe.
#[derive(Default)]
struct Found(Vec<FieldProblem>);

impl Found {
    fn add(&mut self, field: impl Into<String>, message: impl Into<String>, help: &str) {
        self.0.push(FieldProblem {
            field: field.into(),
            message: message.into(),
            help: help.to_owned(),
        });
    }

    /// The text at `path` below `method` must not be empty.
    fn filled(&mut self, path: &str, value: &str) {
        if value.trim().is_empty() {
            let name = path.rsplit('.').next().unwrap_or(path);
            let help = if name.ends_with("path") {
                "write a path from the project's folder"
            } else {
                "write a path of keys in a row, for example `meta.score`"
            };
            self.add(format!("method.{path}"), format!("`{name}` is empty"), help);
        }
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
