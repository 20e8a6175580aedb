//! Chat benchmarks whose answers a judge scores, as a sweep file asks for them.

use crate::config::diagnose::FieldProblem;
use crate::config::judge::url_problem;
use crate::config::paths::{ModelDir, TextFile};
use crate::config::range::NonNegative;
use crate::config::training::Precision;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;
use strum::IntoStaticStr;

/// A chat benchmark: the model answers, a judge scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct JudgedEval {
    /// Which, and its files.
    pub benchmark: Benchmark,
    /// Uses the first so many questions; absent: all. A score on a part compares with none that is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_questions: Option<NonZeroUsize>,
    /// Most tokens of a reply. MT-Bench allows 1024, Arena-Hard-Auto 4096.
    pub max_new_tokens: NonZeroUsize,
    /// Softmax temperature of the replies. Absent: the benchmark's own, by category for MT-Bench and 0 for the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<NonNegative>,
    /// Seed of the replies, the same for every trial so that comparisons are paired.
    pub seed: u64,
    /// Who judges.
    pub judge: BenchmarkJudge,
}

/// A chat benchmark with its files, in the forms of its own tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Benchmark {
    /// MT-Bench: two turns, each rated on its own.
    MtBench(MtBenchFiles),
    /// Arena-Hard-Auto v0.1: compared with a baseline in both orders.
    ArenaHard(ArenaHardFiles),
    /// AlpacaEval 2: compared with a baseline by the judge's first token.
    AlpacaEval(AlpacaEvalFiles),
}

/// Files of MT-Bench, relative to the project root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct MtBenchFiles {
    /// `question.jsonl`.
    pub questions_path: TextFile,
    /// Prompts of the judge: `judge_prompts.jsonl`.
    pub prompts_path: TextFile,
    /// Reference answers to questions on math, coding and reasoning: `reference_answer/gpt-4.jsonl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub references_path: Option<TextFile>,
}

/// Files of Arena-Hard-Auto, relative to the project root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArenaHardFiles {
    /// `question.jsonl`.
    pub questions_path: TextFile,
    /// Answers of the baseline: `model_answer/gpt-4-0314.jsonl`.
    pub baseline_path: TextFile,
    /// The system turn of the judge.
    pub system_path: TextFile,
    /// Its user turn; `{question_1}`, `{answer_1}` and `{answer_2}` are filled in.
    pub prompt_path: TextFile,
}

/// Files of AlpacaEval, relative to the project root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlpacaEvalFiles {
    /// Outputs of the baseline with their instructions, in the benchmark's order: `model_outputs.json`.
    pub baseline_path: TextFile,
    /// The prompt of the judge, perhaps with marks of ChatML; `{instruction}`, `{output_1}` and `{output_2}` are filled
    /// in.
    pub prompt_path: TextFile,
    /// `df_gamed.csv`, for the length-controlled win rate; absent: without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gamed_path: Option<TextFile>,
}

/// A model behind `POST {base-url}/chat/completions`, or one of a folder (`model-path`), which the run asks itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct BenchmarkJudge {
    /// Of an endpoint: up to and without `/chat/completions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Of an endpoint: name of the model there: a dated one, such as `gpt-4-1106-preview`, so that it stays the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// In place of an endpoint: a folder with weights, tokenizer and chat template, relative to the project root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_path: Option<ModelDir>,
    /// Number format of the model in that folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// Sampling temperature of the judge. MT-Bench and Arena-Hard-Auto have 0, AlpacaEval 1.
    pub temperature: NonNegative,
    /// Most tokens of its answer. MT-Bench has 2048, Arena-Hard-Auto 4096, AlpacaEval 1.
    pub max_tokens: NonZeroUsize,
    /// Of an endpoint: seed sent with each request; absent: none is sent. Of a folder: seed of what is drawn above
    /// temperature 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

/// Where a judge of benchmarks is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JudgeAt<'a> {
    /// Behind an endpoint.
    Endpoint {
        /// Up to and without `/chat/completions`.
        base_url: &'a str,
        /// Its name there.
        model: &'a str,
    },
    /// In the run's own process.
    Folder {
        /// Relative to the project root.
        path: &'a ModelDir,
        /// Number format.
        precision: Precision,
    },
}

impl BenchmarkJudge {
    /// Where it is asked; `None` of a judge that [`judged_problems`] refuses.
    pub fn at(&self) -> Option<JudgeAt<'_>> {
        match (
            &self.base_url,
            &self.model,
            &self.model_path,
            self.precision,
        ) {
            (Some(base_url), Some(model), None, None) => {
                Some(JudgeAt::Endpoint { base_url, model })
            }
            (None, None, Some(path), Some(precision)) => Some(JudgeAt::Folder { path, precision }),
            _ => None,
        }
    }
}

impl Benchmark {
    /// As a recipe spells it.
    pub fn name(&self) -> &'static str {
        self.into()
    }

    /// The files, each with the key that names it.
    pub fn files(&self) -> Vec<(&'static str, &TextFile)> {
        match self {
            Self::MtBench(files) => {
                let mut named = vec![
                    ("questions-path", &files.questions_path),
                    ("prompts-path", &files.prompts_path),
                ];
                named.extend(
                    files
                        .references_path
                        .as_ref()
                        .map(|path| ("references-path", path)),
                );
                named
            }
            Self::ArenaHard(files) => vec![
                ("questions-path", &files.questions_path),
                ("baseline-path", &files.baseline_path),
                ("system-path", &files.system_path),
                ("prompt-path", &files.prompt_path),
            ],
            Self::AlpacaEval(files) => {
                let mut named = vec![
                    ("baseline-path", &files.baseline_path),
                    ("prompt-path", &files.prompt_path),
                ];
                named.extend(files.gamed_path.as_ref().map(|path| ("gamed-path", path)));
                named
            }
        }
    }

    /// The file with the questions: a row for each.
    pub fn questions(&self) -> &TextFile {
        match self {
            Self::MtBench(files) => &files.questions_path,
            Self::ArenaHard(files) => &files.questions_path,
            Self::AlpacaEval(files) => &files.baseline_path,
        }
    }

    /// How often the judge is asked about a question, at least.
    pub fn requests_a_question(&self) -> usize {
        match self {
            Self::MtBench(_) | Self::ArenaHard(_) => 2,
            Self::AlpacaEval(_) => 1,
        }
    }

    /// Turns that the model answers.
    pub fn turns(&self) -> usize {
        match self {
            Self::MtBench(_) => 2,
            Self::ArenaHard(_) | Self::AlpacaEval(_) => 1,
        }
    }
}

/// What is wrong with a benchmark, without a look at its files.
pub(crate) fn judged_problems(eval: &JudgedEval) -> Vec<FieldProblem> {
    let mut problems = Vec::new();
    let mut fail = |field: &str, message: String, help: &str| {
        problems.push(FieldProblem {
            field: field.to_owned(),
            message,
            help: help.to_owned(),
        });
    };
    let judge = &eval.judge;
    if let Some((message, help)) = judge.base_url.as_deref().and_then(url_problem) {
        fail("judge.base-url", message, help);
    }
    if judge.model.as_deref() == Some("") {
        let help = "write the name that the endpoint knows it by";
        fail("judge.model", "`model` is empty".to_owned(), help);
    }
    if judge.at().is_none() {
        let message = "a judge has either `base-url` and `model` or `model-path` and `precision`";
        let help = "the first two ask an endpoint, the others a model folder of this project";
        fail("judge", message.to_owned(), help);
    }
    if judge.model_path.is_some() && judge.temperature.get() > 0.0 && judge.seed.is_none() {
        let message = "what a local judge draws above temperature 0 depends on a seed";
        fail("judge.seed", message.to_owned(), "for example `seed = 1`");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(benchmark: &str, url: &str) -> JudgedEval {
        let text = format!(
            "benchmark.{benchmark}\nmax-new-tokens = 8\nseed = 1\njudge = {{ base-url = '{url}', model = '', temperature = 0.0, max-tokens = 2048 }}"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_benchmark_names_its_files_and_what_it_asks_for() {
        let eval = read(
            "mt-bench = { questions-path = 'q', prompts-path = 'p' }",
            "h/v1",
        );
        assert_eq!(
            (eval.benchmark.name(), eval.benchmark.requests_a_question()),
            ("mt-bench", 2)
        );
        let files: Vec<_> = eval.benchmark.files().iter().map(|(key, _)| *key).collect();
        assert_eq!(files, ["questions-path", "prompts-path"]);
        let fields: Vec<_> = judged_problems(&eval)
            .into_iter()
            .map(|p| p.field)
            .collect();
        assert_eq!(fields, ["judge.base-url", "judge.model"]);
        let json = serde_json::to_value(&eval).unwrap();
        assert_eq!(serde_json::from_value::<JudgedEval>(json).unwrap(), eval);
        let with = |judge: &str| {
            let text = format!(
                "benchmark.mt-bench = {{ questions-path = 'q', prompts-path = 'p' }}\nmax-new-tokens = 8\nseed = 1\njudge = {{ {judge}, max-tokens = 8 }}"
            );
            let eval: JudgedEval = toml::from_str(&text).unwrap();
            let fields = judged_problems(&eval).into_iter().map(|p| p.field);
            (eval.judge.at().is_some(), fields.collect::<Vec<_>>())
        };
        let local = "model-path = 'm', precision = 'f32'";
        assert_eq!(with(&format!("{local}, temperature = 0.0")), (true, vec![]));
        assert_eq!(
            with(&format!("{local}, temperature = 1.0")),
            (true, vec!["judge.seed".to_owned()])
        );
        for both in [
            "model-path = 'm'",
            "base-url = 'http://h', model = 'j', model-path = 'm'",
        ] {
            let found = with(&format!("{both}, temperature = 0.0"));
            assert_eq!(found, (false, vec!["judge".to_owned()]), "{both}");
        }
        let eval = read(
            "alpaca-eval = { baseline-path = 'b', prompt-path = 'p', gamed-path = 'g' }",
            "http://h/v1",
        );
        assert_eq!(&**eval.benchmark.questions(), "b");
        assert_eq!(
            (eval.benchmark.files().len(), eval.benchmark.turns()),
            (3, 1)
        );
    }
}
