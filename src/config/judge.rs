//! Who judges sampled replies: the recipe of a judge, and what of it cannot change a verdict.

use crate::config::diagnose::FieldProblem;
use crate::config::paths::ModelDir;
use crate::config::range::NonNegative;
use crate::config::training::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use strum::IntoStaticStr;

/// A judge of replies to one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum JudgeRecipe {
    /// The verifiable rules of the shipped story task; the score is the share that holds.
    Rules,
    /// Some of these rules; the score is the share of them that holds.
    SomeRules(SomeRules),
    /// A local decoder with a scalar head.
    RewardModel(RewardModelJudge),
    /// A local PairRM (Jiang et al. 2023), which compares two replies at a time.
    Pairrm(PairrmJudge),
    /// A local language model, by the probabilities of its next token.
    LocalModel(LocalModelJudge),
    /// A model behind an endpoint that speaks OpenAI's chat protocol.
    Openai(OpenaiJudge),
}

/// The rules that a judge sees: with some of them left out, a policy can be measured by what it was not
/// trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SomeRules {
    /// Their names.
    pub rules: Vec<StoryRule>,
}

/// A rule of the story task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoryRule {
    /// It ends by itself, within the token budget.
    Ends,
    /// It names the hero twice or more; holds for no reply where the prompt names nobody.
    Name,
    /// Quotation marks are balanced, and there is a quotation if one was asked for.
    Dialogue,
    /// No five words in a row occur twice.
    NoRepeat,
    /// It has 60 to 140 words.
    Length,
}

/// A reward model in Hugging Face layout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RewardModelJudge {
    /// A folder with weights, tokenizer and chat template, relative to the project root.
    pub model_path: ModelDir,
    /// Number format.
    pub precision: Precision,
    /// Longer conversations lose their first tokens (the beginning-of-text token is kept). Absent:
    /// as many as the model has positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_seq_len: Option<usize>,
}

/// A PairRM in the layout of `llm-blender/PairRM-hf`; computed in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PairrmJudge {
    /// A folder with weights and tokenizer, relative to the project root.
    pub model_path: ModelDir,
    /// Longest prompt, tokens with special tokens. Absent: 1224, as PairRM was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_prompt_len: Option<usize>,
    /// Longest reply, tokens with special tokens; a short prompt leaves its room to the replies.
    /// Absent: 412, as PairRM was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_reply_len: Option<usize>,
}

/// A language model in Hugging Face layout that is asked about replies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LocalModelJudge {
    /// A folder with weights, tokenizer and chat template, relative to the project root.
    pub model_path: ModelDir,
    /// Number format.
    pub precision: Precision,
    /// What is asked: the expected digit, 1 to 9, behind the question (`score`), or the probability of `A` against `B` in
    /// both orders (`pairwise`).
    pub mode: JudgeMode,
    /// The question: `{prompt}` and `{reply}` (`score`), or `{prompt}`, `{a}` and `{b}` (`pairwise`)
    /// are filled in. Absent: the question of this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// A system turn before the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// What a judge is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JudgeMode {
    /// A rating of each reply, `[[N]]`.
    Score,
    /// The better of every two replies, in both orders: `[[A]]`, `[[B]]` or `[[C]]` for a tie. The
    /// score is the share of comparisons won, a tie half.
    Pairwise,
}

/// A model behind `POST {base-url}/chat/completions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct OpenaiJudge {
    /// Up to and without `/chat/completions`, for example `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// Name of the model, as the endpoint knows it.
    pub model: String,
    /// What is asked.
    pub mode: JudgeMode,
    /// The question: `{prompt}` and `{reply}` (`score`), or `{prompt}`, `{a}` and `{b}` (`pairwise`)
    /// are filled in. Absent: the question of this program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// A system turn before the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// Lowest rating (`score`). Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lowest: Option<f64>,
    /// Highest rating (`score`). Absent: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<f64>,
    /// Sampling temperature of the judge. Absent: not sent, the endpoint's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<NonNegative>,
    /// Most tokens of an answer. Absent: not sent, the endpoint's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<NonZeroUsize>,
    /// Seed of the first time that a question is asked; each further time it is one more. Absent:
    /// not sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// How a judge is asked; never part of an identity. `openai` and judges of benchmarks use it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct JudgeRuntime {
    /// Requests under way at a time. Absent: 8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<NonZeroUsize>,
    /// How often a request is sent again after 408, 429, 5xx, a broken connection or a time-out.
    /// Absent: 6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Seconds after which a request without an answer has failed. Absent: 120.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<NonZeroU64>,
    /// How often a question is asked until an answer holds a verdict. Absent: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<NonZeroU32>,
    /// The environment variable that holds the endpoint's key. Absent: no key is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_env: Option<String>,
    /// Writes what a judge of benchmarks would be asked, and asks nothing: the run then fails and says where the requests
    /// are. Absent: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dry: Option<bool>,
}

impl JudgeRecipe {
    /// As a recipe spells it.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The folder of the judge's own weights, relative to the project root.
    pub fn model_path(&self) -> Option<&str> {
        match self {
            Self::RewardModel(judge) => Some(&judge.model_path),
            Self::Pairrm(judge) => Some(&judge.model_path),
            Self::LocalModel(judge) => Some(&judge.model_path),
            Self::Rules | Self::SomeRules(_) | Self::Openai(_) => None,
        }
    }
}

impl PairrmJudge {
    /// Longest prompt and longest reply, tokens.
    pub fn lengths(&self) -> (usize, usize) {
        (
            self.max_prompt_len.unwrap_or(1224),
            self.max_reply_len.unwrap_or(412),
        )
    }
}

impl OpenaiJudge {
    /// Lowest and highest rating.
    pub fn scale(&self) -> (f64, f64) {
        (
            self.lowest.unwrap_or(ASKED_SCALE.0),
            self.highest.unwrap_or(ASKED_SCALE.1),
        )
    }
}

impl JudgeRuntime {
    /// [`Self::concurrency`], filled in.
    pub fn concurrency(&self) -> usize {
        self.concurrency.map_or(8, NonZeroUsize::get)
    }

    /// [`Self::retries`], filled in.
    pub fn retries(&self) -> u32 {
        self.retries.unwrap_or(6)
    }

    /// [`Self::timeout_secs`], filled in.
    pub fn timeout_secs(&self) -> u64 {
        self.timeout_secs.map_or(120, NonZeroU64::get)
    }

    /// [`Self::asks`], filled in.
    pub fn asks(&self) -> u32 {
        self.asks.map_or(3, NonZeroU32::get)
    }
}

/// What is wrong with a judge. Whether its model folder is there is not looked at.
pub(crate) fn judge_problems(recipe: &JudgeRecipe) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    let mut fail = |field: &str, message: String, help: &str| {
        problems.push(FieldProblem {
            field: format!("{}.{field}", recipe.name()),
            message,
            help: help.to_owned(),
        });
    };
    match recipe {
        JudgeRecipe::Rules => {}
        JudgeRecipe::SomeRules(judge) => {
            let again = |at: usize| judge.rules[..at].contains(&judge.rules[at]);
            if judge.rules.is_empty() || (0..judge.rules.len()).any(again) {
                let message = "`rules` must name one rule at least, and each once";
                let help = "for example `rules = [\"name\", \"no-repeat\"]`; all of them are `judge = \"rules\"`";
                fail("rules", message.to_owned(), help);
            }
        }
        JudgeRecipe::RewardModel(judge) => {
            if judge.max_seq_len.is_some_and(|len| len < 2) {
                let message = "`max-seq-len` must be 2 or more";
                let help = "leave it out for as many as the model has positions";
                fail("max-seq-len", message.to_owned(), help);
            }
        }
        JudgeRecipe::Pairrm(judge) => {
            for (field, value) in [
                ("max-prompt-len", judge.max_prompt_len),
                ("max-reply-len", judge.max_reply_len),
            ] {
                if let Some(value) = value.filter(|value| *value < 4) {
                    let message = format!("`{field}` must be 4 or more, not {value}");
                    fail(field, message, "three are special tokens");
                }
            }
        }
        JudgeRecipe::LocalModel(judge) => {
            template_problems(judge.mode, judge.template.as_deref(), &mut fail);
        }
        JudgeRecipe::Openai(judge) => openai_problems(judge, &mut fail),
    }
    problems
}

/// What a template does not show to the judge.
fn template_problems(
    mode: JudgeMode,
    template: Option<&str>,
    fail: &mut impl FnMut(&str, String, &str),
) {
    let wanted: &[&str] = match mode {
        JudgeMode::Score => &["{prompt}", "{reply}"],
        JudgeMode::Pairwise => &["{prompt}", "{a}", "{b}"],
    };
    let Some(template) = template else { return };
    for place in wanted.iter().filter(|place| !template.contains(**place)) {
        let message = format!("`template` has no `{place}`");
        fail("template", message, "it would not show it to the judge");
    }
}

/// Ratings that the built-in question asks for.
const ASKED_SCALE: (f64, f64) = (1.0, 10.0);

/// What is wrong with the address of an endpoint, and what helps.
pub(crate) fn url_problem(url: &str) -> Option<(String, &'static str)> {
    let address = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"));
    match address {
        None | Some("") => Some((
            format!("`base-url` must begin with `http://` or `https://`, not be `{url}`"),
            "for example `http://127.0.0.1:8000/v1`",
        )),
        Some(address) if address.split('/').next().unwrap_or("").contains('@') => Some((
            "`base-url` holds a user or password, which would be stored and shown".to_owned(),
            "name the variable that holds the key with `key-env` in the runtime",
        )),
        Some(_) if url.trim_end_matches('/').ends_with("/chat/completions") => Some((
            "`base-url` ends with `/chat/completions`, which is added to it".to_owned(),
            "leave that part out",
        )),
        Some(_) => None,
    }
}

fn openai_problems(judge: &OpenaiJudge, fail: &mut impl FnMut(&str, String, &str)) {
    if let Some((message, help)) = url_problem(&judge.base_url) {
        fail("base-url", message, help);
    }
    if judge.model.is_empty() {
        let help = "write the name that the endpoint knows it by";
        fail("model", "`model` is empty".to_owned(), help);
    }
    let (lowest, highest) = judge.scale();
    let scored = judge.mode == JudgeMode::Score;
    for (field, value) in [("lowest", judge.lowest), ("highest", judge.highest)] {
        if value.is_some() && !scored {
            let message = format!("the mode `pairwise` does not use `{field}`");
            fail(field, message, "it belongs to `score`");
        }
    }
    if scored && !(lowest.is_finite() && highest.is_finite() && lowest < highest) {
        let message = format!("ratings from {lowest} to {highest} are no scale");
        fail(
            "highest",
            message,
            "write two numbers, `lowest` the smaller one",
        );
    } else if scored && judge.template.is_none() && (lowest, highest) != ASKED_SCALE {
        let message =
            format!("ratings from {lowest} to {highest}, but the question asks for 1 to 10");
        let help = "give a `template` that asks for your scale";
        fail("highest", message, help);
    }
    template_problems(judge.mode, judge.template.as_deref(), fail);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<JudgeRecipe, String> {
        #[derive(Deserialize)]
        struct Holder {
            judge: JudgeRecipe,
        }
        let holder: Result<Holder, _> = toml::from_str(text);
        holder.map(|h| h.judge).map_err(|e| e.to_string())
    }

    fn fields(text: &str) -> Vec<String> {
        let problems = judge_problems(&read(text).unwrap());
        problems.into_iter().map(|p| p.field).collect()
    }

    #[test]
    fn each_judge_is_read_as_the_sweep_file_spells_it() {
        for (text, name, folder) in [
            ("judge = 'rules'", "rules", None),
            (
                "judge = { reward-model = { model-path = 'm/r', precision = 'f32' } }",
                "reward-model",
                Some("m/r"),
            ),
            (
                "judge = { pairrm = { model-path = 'm/p' } }",
                "pairrm",
                Some("m/p"),
            ),
            (
                "judge = { local-model = { model-path = 'm/l', precision = 'bf16', mode = 'pairwise' } }",
                "local-model",
                Some("m/l"),
            ),
            (
                "judge.openai = { base-url = 'http://h/v1', model = 'j', mode = 'score' }",
                "openai",
                None,
            ),
        ] {
            let recipe = read(text).unwrap();
            assert_eq!((recipe.name(), recipe.model_path()), (name, folder));
            assert!(judge_problems(&recipe).is_empty(), "{text}");
            let json = serde_json::to_value(&recipe).unwrap();
            assert_eq!(serde_json::from_value::<JudgeRecipe>(json).unwrap(), recipe);
        }
    }

    #[test]
    fn an_unknown_field_or_judge_is_refused() {
        assert!(read("judge = 'rulez'").unwrap_err().contains("rulez"));
        let text = "judge = { pairrm = { model-path = 'm', path = 'n' } }";
        assert!(read(text).unwrap_err().contains("path"));
        let text =
            "judge.openai = { base-url = 'http://h', model = 'j', mode = 'score', key = 'x' }";
        assert!(read(text).unwrap_err().contains("key"));
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_their_types() {
        let text = "judge.openai = { base-url = 'http://h', model = 'j', mode = 'score', temperature = -1 }";
        assert!(read(text).unwrap_err().contains("0 or more"));
        let text =
            "judge.openai = { base-url = 'http://h', model = 'j', mode = 'score', max-tokens = 0 }";
        assert!(read(text).is_err());
        assert!(toml::from_str::<JudgeRuntime>("asks = 0").is_err());
    }

    #[test]
    fn absent_options_are_left_out_of_the_identity() {
        let text = "judge = { pairrm = { model-path = 'm' } }";
        let json = serde_json::to_string(&read(text).unwrap()).unwrap();
        assert_eq!(json, r#"{"pairrm":{"model-path":"m"}}"#);
    }

    #[test]
    fn every_broken_rule_of_an_endpoint_is_found() {
        let openai = |rest: &str| {
            fields(&format!(
                "[judge.openai]\nbase-url = 'http://h/v1'\nmodel = 'j'\nmode = 'score'\n{rest}"
            ))
        };
        assert_eq!(openai("lowest = 5.0\nhighest = 5.0"), ["openai.highest"]);
        assert_eq!(openai("highest = 5.0"), ["openai.highest"]);
        let own = "highest = 5.0\ntemplate = '{prompt} {reply}, 1 to 5'";
        assert_eq!(openai(own), [""; 0]);
        assert_eq!(openai("template = 'rate {reply}'"), ["openai.template"]);
        let url = |url: &str| {
            fields(&format!(
                "judge.openai = {{ base-url = '{url}', model = 'j', mode = 'pairwise' }}"
            ))
        };
        assert_eq!(url("h/v1"), ["openai.base-url"]);
        assert_eq!(url("https://me:secret@h/v1"), ["openai.base-url"]);
        assert_eq!(url("http://h/v1/chat/completions"), ["openai.base-url"]);
        assert!(url("http://h/v1/").is_empty());
        let text = "judge.openai = { base-url = 'http://h', model = '', mode = 'pairwise', lowest = 2.0, template = '{prompt}{a}' }";
        assert_eq!(
            fields(text),
            ["openai.model", "openai.lowest", "openai.template"]
        );
    }

    #[test]
    fn lengths_without_room_for_text_are_refused() {
        let text =
            "judge = { pairrm = { model-path = 'm', max-prompt-len = 3, max-reply-len = 4 } }";
        assert_eq!(fields(text), ["pairrm.max-prompt-len"]);
        let text = "judge.reward-model = { model-path = 'm', precision = 'f32', max-seq-len = 1 }";
        assert_eq!(fields(text), ["reward-model.max-seq-len"]);
    }
}
