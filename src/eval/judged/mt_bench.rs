//! MT-Bench (Zheng et al. 2023): two turns, each answer rated on its own by a judge.
//!
//! As FastChat's `llm_judge` does it with `--mode single`. Its pairwise mode is not here.

use crate::base::fill;
use crate::eval::judged::error::JudgedError;
use crate::eval::judged::files::{MtAnswer, MtJudgment, MtQuestion, QuestionId};
use crate::eval::judged::grammar::mt_bench_rating;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The score of a judgment without a rating.
pub const NO_RATING: f64 = -1.0;

/// Sampling temperature of the answers to a category.
pub fn temperature(category: &str) -> f64 {
    match category {
        "extraction" | "math" | "coding" | "reasoning" => 0.0,
        "stem" | "humanities" => 0.1,
        // `writing`, `roleplay`, and what FastChat has no temperature for.
        _ => 0.7,
    }
}

/// Whether the judge of a category is shown a reference answer.
pub fn needs_reference(category: &str) -> bool {
    matches!(category, "math" | "reasoning" | "coding")
}

/// A prompt of the judge: a line of `judge_prompts.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgePrompt {
    /// Its name.
    pub name: String,
    /// The system turn.
    pub system_prompt: String,
    /// The user turn, with places to be filled in.
    pub prompt_template: String,
}

/// The name of the prompt for a turn (from 1) of a question of a category.
pub fn prompt_name(category: &str, turn: usize) -> &'static str {
    match (needs_reference(category), turn > 1) {
        (false, false) => "single-v1",
        (true, false) => "single-math-v1",
        (false, true) => "single-v1-multi-turn",
        (true, true) => "single-math-v1-multi-turn",
    }
}

/// What the judge is asked about one turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgeRequest {
    /// Place of the question.
    pub question: usize,
    /// The turn, from 1.
    pub turn: usize,
    /// The name of the prompt.
    pub prompt: &'static str,
    /// The system turn.
    pub system: String,
    /// The user turn.
    pub user: String,
}

/// What the judge is asked about the answer to a question: a request a turn.
///
/// # Errors
/// A prompt, a reply or a reference answer is missing.
pub fn requests(
    at: usize,
    question: &MtQuestion,
    answer: &MtAnswer,
    references: &[MtAnswer],
    prompts: &[JudgePrompt],
) -> Result<Vec<JudgeRequest>, JudgedError> {
    let missing = |what: String| JudgedError::question(&question.question_id, what);
    let replies = answer.turns();
    let turns = question.turns.len();
    if replies.len() < turns {
        return Err(missing(format!(
            "{} of {turns} turns are answered",
            replies.len()
        )));
    }
    let mut reference: &[String] = &[];
    if needs_reference(&question.category) {
        let own = references
            .iter()
            .find(|r| r.question_id == question.question_id);
        reference = own.map_or(&[], |answer| answer.turns());
        if reference.len() < turns {
            let category = &question.category;
            return Err(missing(format!(
                "there is no reference answer, as `{category}` needs one"
            )));
        }
    }
    let mut asked = Vec::with_capacity(turns);
    for turn in 1..=turns {
        let name = prompt_name(&question.category, turn);
        let prompt = prompts.iter().find(|prompt| prompt.name == name);
        let prompt = prompt.ok_or_else(|| missing(format!("there is no judge prompt `{name}`")))?;
        let text = |texts: &[String], turn: usize| texts.get(turn - 1).cloned().unwrap_or_default();
        let mut values = vec![
            ("question_1", text(&question.turns, 1)),
            ("answer_1", text(replies, 1)),
            ("ref_answer_1", text(reference, 1)),
        ];
        if turn == 1 {
            values.push(("question", text(&question.turns, 1)));
            values.push(("answer", text(replies, 1)));
        } else {
            values.push(("question_2", text(&question.turns, turn)));
            values.push(("answer_2", text(replies, turn)));
            values.push(("ref_answer_2", text(reference, turn)));
        }
        let values: Vec<(&str, &str)> = values.iter().map(|(k, v)| (*k, v.as_str())).collect();
        asked.push(JudgeRequest {
            question: at,
            turn,
            prompt: name,
            system: prompt.system_prompt.clone(),
            user: fill(&prompt.prompt_template, &values),
        });
    }
    Ok(asked)
}

/// The judgment that a judge's reply makes.
pub fn judgment(
    question: &QuestionId,
    model: &str,
    judge: &str,
    asked: &JudgeRequest,
    reply: &str,
) -> MtJudgment {
    MtJudgment {
        question_id: question.clone(),
        model: model.to_owned(),
        judge: (judge.to_owned(), asked.prompt.to_owned()),
        user_prompt: asked.user.clone(),
        judgment: reply.to_owned(),
        score: mt_bench_rating(reply).unwrap_or(NO_RATING),
        turn: asked.turn,
        tstamp: 0.0,
    }
}

/// The table of MT-Bench: means of ratings. Turns without a rating are left out, as its own tool does.
#[derive(Clone, Debug, PartialEq)]
pub struct MtTable {
    /// Over all turns.
    pub score: f64,
    /// By turn, from 1.
    pub by_turn: BTreeMap<usize, f64>,
    /// By category.
    pub by_category: BTreeMap<String, f64>,
    /// The mean over categories, which is `score` if every category has as many ratings.
    pub score_by_category: f64,
    /// Turns without a rating.
    pub left_out: usize,
}

/// The table of judgments, (category, turn, score) each; `None` if none has a rating.
pub fn table<'a>(judged: impl IntoIterator<Item = (&'a str, usize, f64)>) -> Option<MtTable> {
    let mut all = Sum::default();
    let mut by_turn: BTreeMap<usize, Sum> = BTreeMap::new();
    let mut by_category: BTreeMap<String, Sum> = BTreeMap::new();
    let mut left_out = 0;
    for (category, turn, score) in judged {
        if score <= NO_RATING {
            left_out += 1;
            continue;
        }
        all.add(score);
        by_turn.entry(turn).or_default().add(score);
        by_category
            .entry(category.to_owned())
            .or_default()
            .add(score);
    }
    if all.n == 0 {
        return None;
    }
    let by_category: BTreeMap<String, f64> = by_category
        .into_iter()
        .map(|(name, sum)| (name, sum.mean()))
        .collect();
    Some(MtTable {
        score: all.mean(),
        by_turn: by_turn
            .into_iter()
            .map(|(turn, sum)| (turn, sum.mean()))
            .collect(),
        score_by_category: by_category.values().sum::<f64>() / by_category.len() as f64,
        by_category,
        left_out,
    })
}

#[derive(Default)]
struct Sum {
    sum: f64,
    n: usize,
}

impl Sum {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.n += 1;
    }

    fn mean(&self) -> f64 {
        self.sum / self.n as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(category: &str) -> MtQuestion {
        MtQuestion {
            question_id: QuestionId::Number(111),
            category: category.to_owned(),
            turns: vec!["Add {answer}.".to_owned(), "Double it.".to_owned()],
        }
    }

    fn answer(model: &str, turns: [&str; 2]) -> MtAnswer {
        let turns = turns.map(str::to_owned).to_vec();
        MtAnswer::new(QuestionId::Number(111), model, String::new(), turns)
    }

    fn prompts() -> Vec<JudgePrompt> {
        let prompt = |name: &str, template: &str| JudgePrompt {
            name: name.to_owned(),
            system_prompt: format!("Be fair ({name})."),
            prompt_template: template.to_owned(),
        };
        vec![
            prompt("single-v1", "{question}|{answer}"),
            prompt("single-math-v1", "{question}|{ref_answer_1}|{answer}"),
            prompt(
                "single-v1-multi-turn",
                "{question_1}|{answer_1}|{question_2}|{answer_2}",
            ),
            prompt(
                "single-math-v1-multi-turn",
                "{question_1}|{ref_answer_1}|{question_2}|{ref_answer_2}|{answer_1}|{answer_2}",
            ),
        ]
    }

    // tests/golden/judged/judged.json: means by pandas over 160 turns, some without a rating.
    #[test]
    fn the_table_is_that_of_the_tool() {
        let golden = &crate::eval::judged::testing::golden("judged.json")["mt_bench"];
        let rows = golden["rows"].as_array().unwrap();
        assert_eq!(rows.len(), 160);
        let table = table(rows.iter().map(|row| {
            let turn = usize::try_from(row["turn"].as_u64().unwrap()).unwrap();
            (
                row["category"].as_str().unwrap(),
                turn,
                row["score"].as_f64().unwrap(),
            )
        }));
        let table = table.unwrap();
        let close = |got: f64, want: &serde_json::Value| {
            assert!((got - want.as_f64().unwrap()).abs() < 1e-12, "{got} {want}");
        };
        close(table.score, &golden["average"]);
        close(table.by_turn[&1], &golden["turn_1"]);
        close(table.by_turn[&2], &golden["turn_2"]);
        close(table.score_by_category, &golden["mean_of_categories"]);
        assert_eq!(table.left_out as u64, golden["left_out"].as_u64().unwrap());
        let categories = golden["categories"].as_object().unwrap();
        assert_eq!(table.by_category.len(), categories.len());
        for (category, want) in categories {
            close(table.by_category[category], want);
        }
    }

    #[test]
    fn without_a_rating_there_is_no_table() {
        assert_eq!(table([("math", 1, NO_RATING)]), None);
    }

    #[test]
    fn a_category_decides_temperature_prompt_and_reference() {
        let (own, reference) = (
            answer("m", ["3", "6 {question_2}"]),
            answer("r", ["4", "8"]),
        );
        let asked = requests(5, &question("writing"), &own, &[], &prompts()).unwrap();
        assert_eq!(asked[0].user, "Add {answer}.|3");
        assert_eq!(asked[1].user, "Add {answer}.|3|Double it.|6 {question_2}");
        assert_eq!(asked[1].system, "Be fair (single-v1-multi-turn).");
        assert_eq!((asked[1].question, asked[1].turn), (5, 2));
        let math = requests(5, &question("math"), &own, &[reference], &prompts()).unwrap();
        assert_eq!(math[0].user, "Add {answer}.|4|3");
        assert_eq!(
            math[1].user,
            "Add {answer}.|4|Double it.|8|3|6 {question_2}"
        );
        let got = ["writing", "math", "stem", "extraction", "own"].map(temperature);
        assert_eq!(got.map(|t| (t * 10.0) as i32), [7, 0, 1, 0, 7]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let own = answer("m", ["3", "6"]);
        let error = requests(0, &question("coding"), &own, &[], &prompts()).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("`111`: there is no reference answer"),
            "{error}"
        );
        let error = requests(0, &question("stem"), &own, &[], &prompts()[..2]).unwrap_err();
        assert!(
            error.to_string().contains("`single-v1-multi-turn`"),
            "{error}"
        );
        let short = MtAnswer::new(
            QuestionId::Number(111),
            "m",
            String::new(),
            vec![String::new()],
        );
        let error = requests(0, &question("stem"), &short, &[], &prompts()).unwrap_err();
        assert!(error.to_string().contains("1 of 2 turns"), "{error}");
    }

    #[test]
    fn a_reply_becomes_a_judgment() {
        let own = answer("m", ["3", "6"]);
        let asked = &requests(0, &question("stem"), &own, &[], &prompts()).unwrap()[0];
        let judged = |reply: &str| judgment(&QuestionId::Number(111), "m", "j", asked, reply);
        assert!((judged("Good. [[9]]").score - 9.0).abs() < 1e-12);
        assert!((judged("I cannot say.").score - NO_RATING).abs() < 1e-12);
        let judge = ("j".to_owned(), "single-v1".to_owned());
        assert_eq!((judged("").judge, judged("").turn), (judge, 1));
    }
}
