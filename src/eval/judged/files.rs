//! The files of the three projects: questions, answers and judgments, each in the form that its own tool reads and
//! writes, so that either can go on where the other stopped.

use crate::base::fs::read_to_string;
use crate::eval::judged::error::JudgedError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::path::Path;

/// The id of a question: a number (MT-Bench) or a text (Arena-Hard-Auto).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QuestionId {
    /// As MT-Bench's.
    Number(i64),
    /// As Arena-Hard-Auto's.
    Text(String),
}

impl fmt::Display for QuestionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// A question of MT-Bench: a line of `question.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MtQuestion {
    /// Its id.
    pub question_id: QuestionId,
    /// Its category, which decides temperature and prompt.
    pub category: String,
    /// What the user says, turn by turn; two in MT-Bench.
    pub turns: Vec<String>,
}

/// A question of Arena-Hard-Auto.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(from = "ArenaLine")]
pub struct ArenaQuestion {
    /// Its id.
    pub question_id: QuestionId,
    /// What the user says.
    pub prompt: String,
    /// The group of questions that it belongs to.
    pub cluster: Option<String>,
}

/// A line of `question.jsonl`, of v0.1 (`question_id`, `turns`) or later (`uid`, `prompt`).
#[derive(Deserialize)]
struct ArenaLine {
    #[serde(alias = "uid")]
    question_id: QuestionId,
    #[serde(flatten)]
    said: Said,
    #[serde(default)]
    cluster: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Said {
    Turns { turns: (Content,) },
    Prompt { prompt: String },
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

impl From<ArenaLine> for ArenaQuestion {
    fn from(line: ArenaLine) -> Self {
        Self {
            question_id: line.question_id,
            prompt: match line.said {
                Said::Turns { turns: (turn,) } => turn.content,
                Said::Prompt { prompt } => prompt,
            },
            cluster: line.cluster,
        }
    }
}

/// An answer of MT-Bench or Arena-Hard-Auto: a line of `model_answer/<model>.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer<T> {
    /// The question.
    #[serde(alias = "uid")]
    pub question_id: QuestionId,
    /// A name of its own.
    #[serde(default)]
    pub answer_id: String,
    /// Who answered.
    #[serde(alias = "model")]
    pub model_id: String,
    /// One or more answers; the tools judge the first.
    pub choices: Vec<Choice<T>>,
    /// When, in seconds since 1970; ours are 0, so that the same answers are the same bytes.
    #[serde(default)]
    pub tstamp: f64,
}

/// One answer to all turns of a question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice<T> {
    /// Which.
    pub index: usize,
    /// The replies, turn by turn.
    pub turns: Vec<T>,
}

/// A reply in a file of Arena-Hard-Auto.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArenaTurn {
    /// The text.
    pub content: String,
    /// Its tokens; theirs are counted by GPT's tokenizer, ours by the model's own.
    #[serde(default)]
    pub token_len: usize,
}

/// An answer of MT-Bench, and its reference answers.
pub type MtAnswer = Answer<String>;
/// An answer of Arena-Hard-Auto v0.1.
pub type ArenaAnswer = Answer<ArenaTurn>;

impl<T> Answer<T> {
    /// The first answer to a question.
    pub fn new(question_id: QuestionId, model_id: &str, answer_id: String, turns: Vec<T>) -> Self {
        Self {
            question_id,
            answer_id,
            model_id: model_id.to_owned(),
            choices: vec![Choice { index: 0, turns }],
            tstamp: 0.0,
        }
    }

    /// The replies that are judged.
    pub fn turns(&self) -> &[T] {
        self.choices.first().map_or(&[], |choice| &choice.turns)
    }
}

/// A judgment of MT-Bench: a line of `model_judgment/<judge>_single.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MtJudgment {
    /// The question.
    pub question_id: QuestionId,
    /// Whose answer.
    pub model: String,
    /// The judge and the name of its prompt.
    pub judge: (String, String),
    /// What the judge was asked.
    pub user_prompt: String,
    /// What it said.
    pub judgment: String,
    /// The rating, −1 for none.
    #[serde(serialize_with = "whole_if_whole")]
    pub score: f64,
    /// Which turn, from 1.
    pub turn: usize,
    /// When; ours are 0.
    #[serde(default)]
    pub tstamp: f64,
}

/// As Python writes a number that it read from digits: `7`, but `7.5`.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn whole_if_whole<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        return serializer.serialize_i64(*number as i64);
    }
    serializer.serialize_f64(*number)
}

/// A judgment of Arena-Hard-Auto: a line of `model_judgment/<judge>/<model>.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaJudgment {
    /// The question.
    #[serde(alias = "uid")]
    pub question_id: QuestionId,
    /// Whose answer.
    pub model: String,
    /// The judge.
    pub judge: String,
    /// The baseline first, then the model first.
    pub games: Vec<ArenaGame>,
}

/// One order of a comparison.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArenaGame {
    /// What the judge was asked.
    #[serde(default)]
    pub user_prompt: String,
    /// What it said.
    #[serde(default)]
    pub judgment: String,
    /// The label, if there is one.
    pub score: Option<String>,
}

/// A reply in a file of AlpacaEval: an element of `model_outputs.json`. Instructions have the same form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlpacaOutput {
    /// What is asked.
    pub instruction: String,
    /// The reply.
    #[serde(default)]
    pub output: String,
    /// Who replied.
    #[serde(default)]
    pub generator: String,
    /// The part of the benchmark.
    #[serde(default)]
    pub dataset: String,
}

/// A judgment of AlpacaEval: an element of `annotations.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlpacaAnnotation {
    /// What is asked.
    pub instruction: String,
    /// The baseline's reply.
    pub output_1: String,
    /// The baseline.
    pub generator_1: String,
    /// The part of the benchmark.
    #[serde(default)]
    pub dataset: String,
    /// The model's reply.
    pub output_2: String,
    /// The model.
    pub generator_2: String,
    /// Who judges.
    pub annotator: String,
    /// 1 for the baseline, 2 for the model, and between; 1.5 (or 0) for neither, none where the judge named neither.
    pub preference: Option<f64>,
    /// What the judge said.
    #[serde(default)]
    pub raw_completion: Value,
    /// The preference for the model, 0 to 1, as the length-controlled model has it for equally long replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub glm_preference: Option<f64>,
}

/// The rows of a file: JSON lines, or one JSON list.
///
/// # Errors
/// The file cannot be read, or a row is of another form; the line is named.
pub fn read_rows<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, JudgedError> {
    let text = read_to_string(path)?;
    let wrong = |line: usize, error: serde_json::Error| JudgedError::Form {
        path: path.to_owned(),
        line,
        problem: error.to_string(),
    };
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(&text).map_err(|error| wrong(error.line(), error));
    }
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| serde_json::from_str(line).map_err(|error| wrong(at + 1, error)))
        .collect()
}

/// The numbers of the columns `names` of a file of comma-separated values without quotes, row by row.
///
/// # Errors
/// The file cannot be read, a column is missing, or a field is no number.
pub fn read_columns<const N: usize>(
    path: &Path,
    names: [&str; N],
) -> Result<Vec<[f64; N]>, JudgedError> {
    let text = read_to_string(path)?;
    let wrong = |line: usize, problem: String| JudgedError::Form {
        path: path.to_owned(),
        line,
        problem,
    };
    let mut lines = text.lines();
    let heads: Vec<&str> = lines.next().unwrap_or_default().split(',').collect();
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        let found = heads.iter().position(|head| head.trim() == name);
        *place = found.ok_or_else(|| wrong(1, format!("there is no column `{name}`")))?;
    }
    let mut rows = Vec::new();
    for (at, line) in lines.enumerate().filter(|(_, line)| !line.is_empty()) {
        let fields: Vec<&str> = line.split(',').collect();
        let mut row = [0.0; N];
        for ((value, place), name) in row.iter_mut().zip(places).zip(names) {
            let field = fields.get(place).map_or("", |field| field.trim());
            let number = field.parse().ok().filter(|number: &f64| number.is_finite());
            let problem = || wrong(at + 2, format!("`{name}` is no number: `{field}`"));
            *value = number.ok_or_else(problem)?;
        }
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::write_atomic;
    use serde_json::json;

    fn read<T: DeserializeOwned>(text: &str) -> Result<Vec<T>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        write_atomic(&path, text.as_bytes()).unwrap();
        read_rows(&path).map_err(|error| error.to_string())
    }

    // The forms of the projects' files, with texts of our own.
    #[test]
    fn what_the_tools_write_is_read_and_written_again_as_it_was() {
        fn round<T: DeserializeOwned + Serialize>(line: &Value) {
            let rows: Vec<T> = read(&format!("{line}\n\n{line}\n")).unwrap();
            assert_eq!(rows.len(), 2);
            assert_eq!(serde_json::to_value(&rows[1]).unwrap(), *line);
            let rows: Vec<T> = read(&format!(" [{line},\n{line}]")).unwrap();
            assert_eq!(serde_json::to_value(&rows[0]).unwrap(), *line);
        }
        round::<MtAnswer>(
            &json!({"question_id": 81, "answer_id": "x", "model_id": "m",
            "choices": [{"index": 0, "turns": ["One.", "Two."]}], "tstamp": 1_686_286_924.844_282}),
        );
        round::<MtJudgment>(
            &json!({"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"],
            "user_prompt": "p", "judgment": "[[7.5]]", "score": 7.5, "turn": 2, "tstamp": 0.5}),
        );
        round::<MtJudgment>(
            &json!({"question_id": 81, "model": "m", "judge": ["gpt-4", "single-v1"],
            "user_prompt": "p", "judgment": "none", "score": -1, "turn": 1, "tstamp": 0.5}),
        );
        round::<ArenaAnswer>(
            &json!({"question_id": "ab", "answer_id": "x", "model_id": "m",
            "choices": [{"index": 0, "turns": [{"content": "One.", "token_len": 2}]}], "tstamp": 0.5}),
        );
        round::<ArenaJudgment>(
            &json!({"question_id": "ab", "model": "m", "judge": "j", "games": [
            {"user_prompt": "p", "judgment": "[[A>B]]", "score": "A>B"},
            {"user_prompt": "p", "judgment": "no", "score": null}]}),
        );
        round::<AlpacaOutput>(
            &json!({"instruction": "Add.", "output": "3", "generator": "m", "dataset": "d"}),
        );
        round::<AlpacaAnnotation>(
            &json!({"instruction": "Add.", "output_1": "3", "generator_1": "b",
            "dataset": "d", "output_2": "4", "generator_2": "m", "annotator": "a", "preference": 1.25,
            "raw_completion": {"logprobs": null}, "glm_preference": 0.5}),
        );
    }

    #[test]
    fn questions_of_the_arena_are_read_in_both_of_its_forms() {
        let old = r#"{"question_id": "a", "category": "c", "cluster": "k", "turns": [{"content": "Hi?"}]}"#;
        let new = r#"{"uid": "a", "category": "c", "cluster": "k", "prompt": "Hi?"}"#;
        let [old, new] = [old, new].map(|text| read::<ArenaQuestion>(text).unwrap());
        assert_eq!(old, new);
        assert_eq!(
            (old[0].prompt.as_str(), old[0].cluster.as_deref()),
            ("Hi?", Some("k"))
        );
        let two = r#"{"question_id": "a", "turns": [{"content": "Hi?"}, {"content": "Ho?"}]}"#;
        assert!(read::<ArenaQuestion>(two).unwrap_err().contains("line 1"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let error = read::<MtAnswer>("{}\n").unwrap_err();
        assert!(
            error.contains("line 1") && error.contains("question_id"),
            "{error}"
        );
        let error = read::<AlpacaOutput>("[\n{\"instruction\": 3}]").unwrap_err();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn columns_are_found_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.csv");
        write_atomic(&path, b"model,index,p\nx,0,0.5\n\ny,1,1e-3\n").unwrap();
        let rows = read_columns(&path, ["p", "index"]).unwrap();
        assert_eq!(rows, [[0.5, 0.0], [1e-3, 1.0]]);
        let error = read_columns(&path, ["q"]).unwrap_err().to_string();
        assert!(error.contains("no column `q`"), "{error}");
        let error = read_columns(&path, ["model"]).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("`x`"), "{error}");
    }
}
