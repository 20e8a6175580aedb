//! The questions that an endpoint is asked, and the verdicts in its answers.

use crate::base::printable;
use crate::config::spec::{JudgeMode, OpenaiJudge};
use serde_json::{Value, json};

/// The question of `score`, where the recipe has none.
const SCORE_TEMPLATE: &str = "\
Rate the reply that ends this conversation. Ask whether it is correct, whether it does what was asked for, and whether \
it is clear. Length is no merit in itself. Say in one or two sentences what decides, then write the rating, a whole \
number from 1 (useless) to 10 (could not be better), in double square brackets, as in [[5]].

[conversation]
{prompt}
[end of conversation]

[reply]
{reply}
[end of reply]";

/// The question of `pairwise`, where the recipe has none.
const PAIRWISE_TEMPLATE: &str = "\
Which of two replies ends this conversation better? Ask whether they are correct, whether they do what was asked for, \
and whether they are clear. Neither their order nor their length is a merit in itself. Say in one or two sentences \
what decides, then write [[A]] if reply A is better, [[B]] if reply B is better, or [[C]] if they are equally good.

[conversation]
{prompt}
[end of conversation]

[reply A]
{a}
[end of reply A]

[reply B]
{b}
[end of reply B]";

/// The body of the request that asks `question`, for the first time.
pub(super) fn request(judge: &OpenaiJudge, question: &str) -> Value {
    let mut messages = Vec::new();
    if let Some(system) = &judge.system {
        messages.push(json!({"role": "system", "content": system}));
    }
    messages.push(json!({"role": "user", "content": question}));
    let mut body = json!({"model": judge.model, "messages": messages});
    for (key, value) in [
        ("temperature", judge.temperature.map(|t| json!(t))),
        ("max_tokens", judge.max_tokens.map(|n| json!(n))),
        ("seed", judge.seed.map(|s| json!(s))),
    ] {
        if let Some(value) = value {
            body[key] = value;
        }
    }
    body
}

/// The template of the recipe, or ours.
pub(super) fn template(judge: &OpenaiJudge) -> &str {
    let ours = match judge.mode {
        JudgeMode::Score => SCORE_TEMPLATE,
        JudgeMode::Pairwise => PAIRWISE_TEMPLATE,
    };
    judge.template.as_deref().unwrap_or(ours)
}

/// The verdict in a raw response of the endpoint: a rating (`score`), or how much of the
/// comparison A wins, 1, ½ or 0 (`pairwise`); or what is wrong.
pub(super) fn verdict(judge: &OpenaiJudge, response: &str) -> Result<f64, String> {
    let json: Value = serde_json::from_str(response)
        .map_err(|_| format!("the response is not JSON: `{}`", excerpt(response)))?;
    let text = json["choices"][0]["message"]["content"].as_str();
    let text = text.ok_or_else(|| {
        let what = "the response has no `choices[0].message.content`";
        format!("{what}: `{}`", excerpt(response))
    })?;
    let found = match judge.mode {
        JudgeMode::Score => rating(text, judge.scale()),
        JudgeMode::Pairwise => winner(text),
    };
    found.map_err(|problem| format!("{problem} in `{}`", tail(text)))
}

/// The last `[[N]]` of a text; `[[N/10]]` and `[[Rating: N]]` are understood too.
fn rating(text: &str, (lowest, highest): (f64, f64)) -> Result<f64, String> {
    let inside = last_brackets(text, |inside| number(inside).is_some());
    let rating = inside.and_then(number).ok_or("no rating `[[N]]`")?;
    if (lowest..=highest).contains(&rating) {
        return Ok(rating);
    }
    Err(format!(
        "a rating of {rating} outside {lowest} to {highest}"
    ))
}

/// `7`, `7.5`, `7/10`, `Rating: 7`.
fn number(inside: &str) -> Option<f64> {
    let text = inside.rsplit(':').next()?;
    let text = text.split('/').next()?.trim();
    let plain = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+');
    let number = text.chars().all(plain).then(|| text.parse::<f64>().ok());
    number?.filter(|n| n.is_finite())
}

/// 1 for the last `[[A]]`, 0 for `[[B]]`, ½ for `[[C]]`.
fn winner(text: &str) -> Result<f64, String> {
    let win = |inside: &str| match inside.trim() {
        "A" | "a" => Some(1.0),
        "B" | "b" => Some(0.0),
        "C" | "c" => Some(0.5),
        _ => None,
    };
    let inside = last_brackets(text, |inside| win(inside).is_some());
    let found = inside.and_then(win);
    found.ok_or_else(|| "no verdict `[[A]]`, `[[B]]` or `[[C]]`".to_owned())
}

/// What stands in the last `[[…]]` that `fits`.
fn last_brackets(text: &str, fits: impl Fn(&str) -> bool) -> Option<&str> {
    let starts = text
        .match_indices("[[")
        .map(|(at, _)| text[at..].trim_start_matches('['));
    let insides = starts.filter_map(|rest| rest.split_once("]]").map(|(inside, _)| inside));
    insides.filter(|inside| fits(inside)).last()
}

/// Characters of an answer that an error shows.
const SHOWN: usize = 160;

/// A text on one line, without characters that steer a terminal.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    printable(&words.join(" ")).into_owned()
}

/// The beginning of a text, on one line.
pub(super) fn excerpt(text: &str) -> String {
    let line = one_line(text);
    let mut shown: String = line.chars().take(SHOWN).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    shown
}

/// The end of a text, on one line.
fn tail(text: &str) -> String {
    let line = one_line(text);
    let extra = line.chars().count().saturating_sub(SHOWN);
    if extra == 0 {
        return line;
    }
    "…".chars().chain(line.chars().skip(extra)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::fill;

    fn judge(mode: JudgeMode) -> OpenaiJudge {
        OpenaiJudge {
            base_url: "http://h/v1".to_owned(),
            model: "j".to_owned(),
            mode,
            template: None,
            system: None,
            lowest: None,
            highest: None,
            temperature: None,
            max_tokens: None,
            seed: None,
        }
    }

    fn answer(mode: JudgeMode, text: &str) -> Result<f64, String> {
        let response = json!({"choices": [{"message": {"content": text}}]});
        verdict(&judge(mode), &response.to_string())
    }

    #[test]
    fn ratings_are_read_in_the_ways_models_write_them() {
        for (text, want) in [
            ("[[7]]", 7.0),
            ("Good.\n\nRating: [[ 8 ]]", 8.0),
            ("**[[6.5]]**", 6.5),
            ("[[9/10]]", 9.0),
            ("[[Rating: 3]]", 3.0),
            ("Between [[2]] and [[4]], so [[3]].", 3.0),
            ("It says [[x]] but [[5]] and [[none]]", 5.0),
            ("[[[4]]]", 4.0),
        ] {
            assert_eq!(answer(JudgeMode::Score, text), Ok(want), "{text}");
        }
    }

    #[test]
    fn answers_without_a_rating_or_off_the_scale_say_so() {
        for (text, want) in [
            ("seven of ten", "no rating"),
            ("[[]]", "no rating"),
            ("[7]", "no rating"),
            ("[[7", "no rating"),
            ("[[11]]", "outside 1 to 10"),
            ("[[0]]", "outside 1 to 10"),
            ("[[nan]]", "no rating"),
        ] {
            let error = answer(JudgeMode::Score, text).unwrap_err();
            assert!(error.contains(want), "{text}: {error}");
        }
        let scored = judge(JudgeMode::Score);
        let error = verdict(&scored, "<html>busy</html>").unwrap_err();
        assert!(error.contains("not JSON"), "{error}");
        let null = r#"{"choices": [{"message": {"content": null}}]}"#;
        assert!(verdict(&scored, null).unwrap_err().contains("content"));
        assert!(verdict(&scored, "{}").unwrap_err().contains("choices"));
    }

    #[test]
    fn comparisons_are_read_as_the_share_that_a_wins() {
        for (text, want) in [("[[A]]", 1.0), ("[[ B ]]", 0.0), ("[[A]] no, [[C]]", 0.5)] {
            assert_eq!(answer(JudgeMode::Pairwise, text), Ok(want), "{text}");
        }
        assert!(answer(JudgeMode::Pairwise, "A is better").is_err());
        assert!(answer(JudgeMode::Pairwise, "[[7]]").is_err());
    }

    #[test]
    fn every_place_of_our_templates_is_filled() {
        let values = [("a", "1"), ("b", "2"), ("prompt", "p")];
        assert_eq!(fill(PAIRWISE_TEMPLATE, &values).matches('{').count(), 0);
        let values = [("reply", "r"), ("prompt", "p")];
        assert_eq!(fill(SCORE_TEMPLATE, &values).matches('{').count(), 0);
    }

    #[test]
    fn a_request_holds_what_the_recipe_sets_and_nothing_else() {
        let plain = request(&judge(JudgeMode::Score), "q");
        let want = json!({"model": "j", "messages": [{"role": "user", "content": "q"}]});
        assert_eq!(plain, want);
        let mut full = judge(JudgeMode::Score);
        full.system = Some("s".to_owned());
        full.temperature = Some(0.0.try_into().unwrap());
        full.max_tokens = Some(64.try_into().unwrap());
        full.seed = Some(5);
        let want = json!({
            "model": "j",
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
            "temperature": 0.0, "max_tokens": 64, "seed": 5,
        });
        assert_eq!(request(&full, "q"), want);
    }

    #[test]
    fn a_long_answer_is_shown_in_part() {
        assert_eq!(excerpt("a\n b"), "a b");
        assert_eq!(
            excerpt("\u{1b}]0;x\u{7} \u{9b}31m"),
            "\u{fffd}]0;x\u{fffd} \u{fffd}31m"
        );
        assert_eq!(excerpt(&"é".repeat(200)).chars().count(), SHOWN + 1);
        assert!(tail(&format!("{}end", "é".repeat(200))).ends_with("end"));
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_read_or_refused(
            text in r#"([\[\]{}"\\:,/.0-9eé|*\n-]|\[\[|\]\]|Rating|[ABC]|choices|message|content|NaN|99999){0,60}"#,
            wrapped: bool,
            pairwise: bool,
        ) {
            let mode = if pairwise { JudgeMode::Pairwise } else { JudgeMode::Score };
            let found = if wrapped {
                answer(mode, &text)
            } else {
                verdict(&judge(mode), &text)
            };
            let (lowest, highest) = if pairwise { (0.0, 1.0) } else { (1.0, 10.0) };
            match found {
                Ok(value) => proptest::prop_assert!((lowest..=highest).contains(&value), "{value}"),
                Err(problem) => proptest::prop_assert!(problem.len() < 2000, "{problem}"),
            }
        }
    }
}
