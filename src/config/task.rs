//! An evaluation task: rows, how a model is asked about them, how its answers are scored.

use crate::config::paths::{DataFile, TextFile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;

/// A task. Texts are Jinja templates over the columns of a row; expressions are what would stand in their `{{ }}`.
/// What is a list there is a value, never a text that is read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskRecipe {
    /// A shipped task, or a task file relative to the project root: what it says holds where this table is silent.
    #[serde(default, skip_serializing)]
    pub file: Option<String>,
    /// The task of lm-evaluation-harness that this one repeats; results are written under its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harness: Option<HarnessTask>,
    /// Files with the rows that are evaluated, relative to the project root.
    pub data: Vec<DataFile>,
    /// Evaluates the first so many rows (of every part); absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_rows: Option<NonZeroUsize>,
    /// Solved rows that stand before the question; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub few_shot: Option<FewShotRecipe>,
    /// Text before the description, of a task in plain text; through a chat template `chat.system` is the system turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Template of what stands before everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Template of the question. Where its text depends on the choice (`continuation` in `request.choices`), `choice`
    /// is that.
    pub prompt: String,
    /// Stands between a question and its answer.
    #[serde(default = "blank")]
    pub delimiter: String,
    /// What the model is asked for.
    pub request: TaskRequest,
    /// Expression of what is right: the number of the choice (from 0) or its digits, a list of truth values, one a
    /// choice, for `mc2`, or the text for generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How answers are scored.
    pub score: Vec<ScorerRecipe>,
    /// Parts with metrics of their own, such as the subjects of MMLU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parts: Option<TaskParts>,
    /// The token that begins a text.
    #[serde(default)]
    pub bos: BosRule,
    /// Asks through the model's chat template; absent: in plain text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<TaskChat>,
}

/// The same task elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HarnessTask {
    /// Its name.
    pub name: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<f64>,
    /// Columns that it adds to its rows, by which it names them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adds: Vec<AddedColumn>,
}

/// A column that another tool adds to a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AddedColumn {
    /// Its name.
    pub column: String,
    /// What it holds.
    pub holds: AddedValue,
}

/// What an added column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AddedValue {
    /// The question, without what stands before it.
    Prompt,
    /// The list of choices.
    Choices,
    /// The number of the right choice.
    Target,
}

/// Solved rows before the question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FewShotRecipe {
    /// Files with the rows that they are taken from, relative to the project root.
    pub data: Vec<DataFile>,
    /// How many; 0 is none.
    pub count: usize,
    /// Which.
    pub draw: FewShotDraw,
    /// Seed of `sample`.
    #[serde(default = "few_shot_seed")]
    pub seed: u64,
    /// The rows may hold the evaluated one: one more is drawn, and what equals it is left out. The harness does so
    /// where a task names neither an evaluated split nor one for these.
    #[serde(default, skip_serializing_if = "is_false")]
    pub overlapping: bool,
    /// Stands behind each.
    #[serde(default = "blank_line")]
    pub delimiter: String,
}

/// How solved rows are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FewShotDraw {
    /// The first ones.
    First,
    /// Python's `random.Random(seed).sample`, one draw after another in the order of the evaluated rows.
    Sample,
}

/// What the model is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum TaskRequest {
    /// How likely each of several answers is.
    Choices(ChoicesRequest),
    /// A greedy answer.
    Generate(GenerateRequest),
}

/// How likely each of several answers is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ChoicesRequest {
    /// Expression of the list of choices.
    pub of: String,
    /// Template of a choice, with `choice` for an element of the list; absent: the element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<String>,
    /// Template of what follows every choice, which then stands in the question and not behind it (partial
    /// evaluation, as Winogrande's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuation: Option<String>,
}

/// A greedy answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GenerateRequest {
    /// Texts at which the answer is cut; the tokenizer's end-of-text token is one more.
    #[serde(default)]
    pub until: Vec<String>,
    /// Most tokens.
    pub max_new_tokens: NonZeroUsize,
}

/// A way to score an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum ScorerRecipe {
    /// Whether the likeliest choice is the right one: `acc`.
    Acc,
    /// As `acc`, log-likelihoods divided by the characters of the choice: `acc_norm`.
    AccNorm,
    /// As `acc`, log-likelihoods divided by the bytes of the choice: `acc_bytes`.
    AccBytes,
    /// The share of probability on choices that are right: `mc2`.
    Mc2,
    /// Whether a part of the answer is the target: `exact_match`.
    ExactMatch(ExactMatch),
    /// Whether a pattern is found in the answer: `found`.
    Found(FoundPattern),
    /// Whether verifiable instructions are followed, strictly and loosely: `prompt_level_strict_acc` and so on.
    Ifeval(IfevalRecipe),
}

/// Whether a part of the answer is the target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExactMatch {
    /// Stands in the metric's key before `exact_match`; absent: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The part; absent: the whole answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extract: Option<ExtractRule>,
    /// Patterns of Python's `re` that are taken out of both texts, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<String>,
    /// Whether case makes no difference.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ignore_case: bool,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExtractRule {
    /// A pattern of Python's `re`; the part is its first group that is not empty, or the whole match if it has none.
    pub pattern: String,
    /// Which match.
    pub which: WhichMatch,
    /// The part where nothing matches.
    pub otherwise: String,
}

/// Which of several matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WhichMatch {
    /// The first.
    First,
    /// The last.
    Last,
}

/// Whether a pattern is found in the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FoundPattern {
    /// Stands in the metric's key before `found`; absent: nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A pattern of Python's `re`.
    pub pattern: String,
}

/// Whether verifiable instructions are followed (Zhou et al. 2023).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct IfevalRecipe {
    /// Expression of the list of instructions.
    pub instructions: String,
    /// Expression of the list of their arguments.
    pub arguments: String,
    /// What NLTK knows of English sentences. Absent: rows that ask for sentences or words in capitals are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub punkt: Option<PunktFiles>,
}

/// The files of `punkt_tab/english` of NLTK, relative to the project root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PunktFiles {
    /// `abbrev_types.txt`.
    pub abbreviations: TextFile,
    /// `collocations.tab`.
    pub collocations: TextFile,
    /// `sent_starters.txt`.
    pub starters: TextFile,
    /// `ortho_context.tab`.
    pub orthography: TextFile,
}

/// Parts with metrics of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskParts {
    /// Expression of a row's part. Few-shot rows are those of the same part.
    pub by: String,
    /// The names of all parts, in groups that have metrics, too: `<task>/<group>/acc`, `<task>/<part>/acc`.
    pub groups: BTreeMap<String, Vec<String>>,
    /// How the parts make up groups and the whole.
    #[serde(default)]
    pub total: PartsTotal,
}

/// How parts make up the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PartsTotal {
    /// Every row counts the same.
    #[default]
    ByRows,
    /// Every part counts the same.
    ByParts,
}

/// The token that begins a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BosRule {
    /// As the tokenizer does by itself, and not twice.
    #[default]
    Tokenizer,
    /// Never, as lm-evaluation-harness before 0.4.9.2.
    Never,
    /// Always, and not twice.
    Always,
}

/// A question through the model's chat template.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TaskChat {
    /// A system turn; the description follows in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Where the solved rows stand.
    pub shots: ShotTurns,
}

/// Where solved rows stand in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ShotTurns {
    /// In one user turn together with the question.
    OneTurn,
    /// Each in a user turn and an assistant turn of its own.
    Turns,
}

fn blank() -> String {
    " ".to_owned()
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

fn few_shot_seed() -> u64 {
    1234
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_false(value: &bool) -> bool {
    !value
}
