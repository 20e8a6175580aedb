//! Arena-Hard-Auto v0.1 (Li et al. 2024): answers compared with those of a baseline, in both orders.
//!
//! All battles are of a model against the baseline, so the likeliest ratings of Bradley and Terry have a closed form: a
//! model's win rate is its share of its battles, ties half. What its own tool prints comes from a solver that agrees with
//! that to a few of a thousandth of a rating point.

use crate::base::{Mt19937, fill};
use crate::eval::judged::error::JudgedError;
use crate::eval::judged::files::{ArenaGame, ArenaJudgment, ArenaQuestion};
use crate::metrics::{Interval, PositionBias, Winner, percentile_interval, win_probability};

/// Battles that a significantly better answer counts for.
const STRONG: usize = 3;
/// Seed of the intervals, as published.
const SEED: u32 = 42;
/// Rounds of the published interval.
const PUBLISHED_ROUNDS: usize = 100;
/// Rounds of ours: so many that their own noise is below the second decimal.
const ROUNDS: usize = 10_000;
/// No rating is further from the baseline's; where one side won every battle of a round, the likeliest one is infinite.
const FURTHEST: f64 = 1e6;

/// What the judge is told that gave no label.
pub const AGAIN: &str = "continue your judgment and finish by outputting a final verdict label";

/// The two user turns about a question: the baseline as assistant A, then the model. `template` has places for
/// `{question_1}`, `{answer_1}` and `{answer_2}`.
pub fn user_prompts(
    template: &str,
    question: &ArenaQuestion,
    baseline: &str,
    model: &str,
) -> [String; 2] {
    [(baseline, model), (model, baseline)].map(|(a, b)| {
        let values = [
            ("question_1", question.prompt.as_str()),
            ("answer_1", a),
            ("answer_2", b),
        ];
        fill(template, &values)
    })
}

/// The winner between assistants A and B by a label, and how many battles it counts for; `None` for a label that counts
/// for nothing (v0.1 knows no reversed ones, such as `A<B`).
fn outcome(label: &str) -> Option<(Winner, usize)> {
    Some(match label {
        "A>>B" => (Winner::First, STRONG),
        "A>B" => (Winner::First, 1),
        "A=B" => (Winner::Tie, 1),
        "B>A" => (Winner::Second, 1),
        "B>>A" => (Winner::Second, STRONG),
        _ => return None,
    })
}

/// The battles of a question, in the order of its games: the share of each that the model won.
fn battles(games: &[ArenaGame]) -> Vec<f64> {
    let mut shares = Vec::new();
    for (game, model_first) in games.iter().zip([false, true]) {
        if let Some((winner, battles)) = game.score.as_deref().and_then(outcome) {
            let first = winner.share_of_first();
            let share = if model_first { first } else { 1.0 - first };
            shares.extend(std::iter::repeat_n(share, battles));
        }
    }
    shares
}

/// The share of the games of a question that what stood first won, ties half; `None` if no game has a label.
pub(super) fn share_of_first(games: &[ArenaGame]) -> Option<f64> {
    let labels = games
        .iter()
        .filter_map(|game| outcome(game.score.as_deref()?));
    let shares: Vec<f64> = labels.map(|(winner, _)| winner.share_of_first()).collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

/// The score of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ArenaScore {
    /// Win rate against the baseline, 0 to 1.
    pub score: f64,
    /// Battles won.
    pub wins: usize,
    /// Battles lost.
    pub losses: usize,
    /// Battles without a winner.
    pub ties: usize,
    /// 95 % interval over questions: both games of a question, with what they count for, are drawn together.
    pub interval: Interval,
    /// 95 % interval as published: battles are drawn, so that the three of one verdict pass for three verdicts. Where the
    /// published tool has several models in a folder, it draws from the battles of all.
    pub published: Interval,
    /// What standing first was worth.
    pub bias: PositionBias,
    /// Games without a label that counts.
    pub without_label: usize,
}

/// The share of its battles that the model won, question by question, with the number of battles.
pub fn by_question(judgments: &[ArenaJudgment]) -> Vec<(f64, usize)> {
    let of = |judgment: &ArenaJudgment| {
        let shares = battles(&judgment.games);
        (shares.iter().sum(), shares.len())
    };
    judgments.iter().map(of).collect()
}

/// The score of one model by its judgments.
///
/// # Errors
/// No game has a label.
pub fn score(judgments: &[ArenaJudgment]) -> Result<ArenaScore, JudgedError> {
    let all: Vec<f64> = judgments.iter().flat_map(|j| battles(&j.games)).collect();
    if all.is_empty() {
        let text = "no judgment has a label, such as `[[A>B]]`: there is nothing to score";
        return Err(JudgedError::Score(text.to_owned()));
    }
    let count = |share: f64| all.iter().filter(|s| (**s - share).abs() < 0.25).count();
    let mut bias = PositionBias::default();
    let mut without_label = 0;
    for judgment in judgments {
        let labels = judgment
            .games
            .iter()
            .map(|game| game.score.as_deref().and_then(outcome));
        let winners: Vec<Option<Winner>> = labels.map(|o| o.map(|(winner, _)| winner)).collect();
        without_label += winners.iter().filter(|winner| winner.is_none()).count();
        winners
            .iter()
            .flatten()
            .for_each(|winner| bias.add(*winner));
        if let [Some(one), Some(swapped)] = winners[..] {
            bias.add_both(one, swapped);
        }
    }
    Ok(ArenaScore {
        score: all.iter().sum::<f64>() / all.len() as f64,
        wins: count(1.0),
        losses: count(0.0),
        ties: count(0.5),
        interval: interval_over_questions(&by_question(judgments)),
        published: published_interval(&all),
        bias,
        without_label,
    })
}

/// The published interval: battles drawn with NumPy's generator, the percentiles taken of ratings.
fn published_interval(battles: &[f64]) -> Interval {
    let mut random = Mt19937::of_numpy(SEED);
    let rating = |_| {
        let drawn = (0..battles.len()).map(|_| battles[random.below(battles.len())]);
        let share = drawn.sum::<f64>() / battles.len() as f64;
        let lead = 400.0 * (share / (1.0 - share)).log10();
        lead.clamp(-FURTHEST, FURTHEST)
    };
    let leads = percentile_interval((0..PUBLISHED_ROUNDS).map(rating).collect());
    Interval {
        low: win_probability(leads.low, 0.0),
        high: win_probability(leads.high, 0.0),
    }
}

fn interval_over_questions(questions: &[(f64, usize)]) -> Interval {
    let mut random = Mt19937::of_numpy(SEED);
    let mut rates = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let (mut won, mut battles) = (0.0, 0);
        for _ in 0..questions.len() {
            let (share, count) = questions[random.below(questions.len())];
            won += share;
            battles += count;
        }
        // A round of questions without a label says nothing.
        if battles > 0 {
            rates.push(won / battles as f64);
        }
    }
    percentile_interval(rates)
}

/// A line for a person: the score with both intervals, in percent.
pub fn line(score: &ArenaScore) -> String {
    let shown = |interval: Interval| {
        let (low, high) = (100.0 * interval.low, 100.0 * interval.high);
        format!("{low:.2} to {high:.2}")
    };
    let (questions, published) = (shown(score.interval), shown(score.published));
    format!(
        "score {:.2}, 95 % interval over questions {questions}, over verdicts as published {published}",
        100.0 * score.score
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::judged::files::QuestionId;

    fn judgment(labels: [Option<&str>; 2]) -> ArenaJudgment {
        let game = |label: Option<&str>| ArenaGame {
            user_prompt: String::new(),
            judgment: String::new(),
            score: label.map(str::to_owned),
        };
        ArenaJudgment {
            question_id: QuestionId::Text("q".to_owned()),
            model: "m".to_owned(),
            judge: "j".to_owned(),
            games: labels.map(game).to_vec(),
        }
    }

    // tests/golden/judged/judged.json: counts by hand in Python, the score by the closed form and by scikit-learn.
    #[test]
    fn five_hundred_judgments_have_the_score_of_the_tool() {
        let golden = &crate::eval::judged::testing::golden("judged.json")["arena_star"];
        let judgments: Vec<ArenaJudgment> = golden["judgments"]
            .as_array()
            .unwrap()
            .iter()
            .map(|games| judgment([games[0].as_str(), games[1].as_str()]))
            .collect();
        assert_eq!(judgments.len(), 500);
        let got = score(&judgments).unwrap();
        let want = [
            &golden["model_wins"],
            &golden["model_losses"],
            &golden["ties"],
        ];
        let want = want.map(|n| usize::try_from(n.as_u64().unwrap()).unwrap());
        assert_eq!([got.wins, got.losses, got.ties], want);
        assert!((100.0 * got.score - golden["score"].as_f64().unwrap()).abs() < 1e-10);
        let by_solver = golden["score_sklearn"].as_f64().unwrap();
        assert!(
            (got.score - by_solver).abs() < 1e-8 || (100.0 * got.score - by_solver).abs() < 1e-6
        );
        assert!(
            got.interval.low < got.score && got.score < got.interval.high,
            "{got:?}"
        );
        assert!(
            got.published.half_width() < got.interval.half_width(),
            "{got:?}"
        );
        let missing = judgments
            .iter()
            .flat_map(|j| &j.games)
            .filter(|g| g.score.is_none());
        assert_eq!(got.without_label, missing.count());
    }

    // tests/golden/judged/own.json: NumPy's draws and percentiles over the same battles.
    #[test]
    fn the_published_interval_is_that_of_numpy() {
        let golden = &crate::eval::judged::testing::golden("own.json")["arena_interval"];
        let battles: Vec<f64> = golden["battles"]
            .as_array()
            .unwrap()
            .iter()
            .map(|share| share.as_f64().unwrap())
            .collect();
        let got = published_interval(&battles);
        assert!(
            (100.0 * got.low - golden["low"].as_f64().unwrap()).abs() < 1e-9,
            "{got:?}"
        );
        assert!(
            (100.0 * got.high - golden["high"].as_f64().unwrap()).abs() < 1e-9,
            "{got:?}"
        );
    }

    #[test]
    fn labels_are_of_the_model_in_the_second_game_and_reversed_ones_count_for_nothing() {
        let shares = |labels| battles(&judgment(labels).games);
        assert_eq!(
            shares([Some("A>>B"), Some("A>>B")]),
            [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
        );
        assert_eq!(shares([Some("B>A"), Some("B>A")]), [1.0, 0.0]);
        assert_eq!(shares([Some("A=B"), None]), [0.5]);
        assert_eq!(shares([Some("A<B"), Some("B=A")]), [0.0; 0]);
        let got = score(&[judgment([Some("A>B"), Some("A>>B")])]).unwrap();
        assert_eq!((got.bias.first, got.bias.first_twice), (2, 1));
        assert!((got.score - 0.75).abs() < 1e-12);
        assert!(score(&[judgment([None, Some("A<B")])]).is_err());
    }

    #[test]
    fn a_model_that_always_wins_has_the_whole_interval_there() {
        let got = score(&vec![judgment([Some("B>A"), Some("A>B")]); 3]).unwrap();
        assert!((got.score - 1.0).abs() < 1e-12 && (got.published.low - 1.0).abs() < 1e-12);
        let want = "score 100.00, 95 % interval over questions 100.00 to 100.00, over verdicts as published 100.00 to 100.00";
        assert_eq!(line(&got), want);
    }

    #[test]
    fn both_orders_are_asked_about() {
        let question = ArenaQuestion {
            question_id: QuestionId::Text("q".to_owned()),
            prompt: "Say {answer_1}".to_owned(),
            cluster: None,
        };
        let got = user_prompts(
            "{question_1}|{answer_1}|{answer_2}",
            &question,
            "base",
            "own",
        );
        assert_eq!(got, ["Say {answer_1}|base|own", "Say {answer_1}|own|base"]);
    }
}
