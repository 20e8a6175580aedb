//! The rules of a good story: checks that need no model.

use crate::metrics::families::StoryVerdict;
use std::collections::BTreeSet;

/// What a prompt asks of its story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryConstraints {
    /// The hero's name, if the prompt gives one.
    pub name: Option<String>,
    /// Whether somebody is to speak.
    pub dialogue: bool,
}

/// Fewest words of a story of the right length.
const MIN_WORDS: usize = 60;
/// Most words of a story of the right length.
const MAX_WORDS: usize = 140;
/// Words in a sequence that may not occur twice.
const NGRAM: usize = 5;

/// Judges `text`; `finished` says that sampling stopped at the end token.
pub fn judge_story(text: &str, finished: bool, constraints: &StoryConstraints) -> StoryVerdict {
    let words: Vec<&str> = text.split_whitespace().collect();
    StoryVerdict {
        ends: finished,
        name: constraints
            .name
            .as_deref()
            .map(|name| count_name(text, name) >= 2),
        dialogue: quotes_hold(text, constraints.dialogue),
        no_repeat: !repeats(&words),
        length: (MIN_WORDS..=MAX_WORDS).contains(&words.len()),
        words: words.len(),
    }
}

/// Occurrences of `name` as a whole word; `Lily's` counts, `Lilypad` does not.
fn count_name(text: &str, name: &str) -> usize {
    if name.is_empty() {
        return 0;
    }
    text.match_indices(name)
        .filter(|(start, found)| {
            let before = text[..*start].chars().next_back();
            let after = text[start + found.len()..].chars().next();
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
        .count()
}

/// Straight quotation marks come in pairs, curly ones close as often as they open; if `asked`,
/// there is at least one pair.
fn quotes_hold(text: &str, asked: bool) -> bool {
    let count = |mark: char| text.chars().filter(|&c| c == mark).count();
    let (straight, open, close) = (count('"'), count('\u{201c}'), count('\u{201d}'));
    let balanced = straight % 2 == 0 && open == close;
    balanced && (!asked || straight + open > 0)
}

/// Whether any [`NGRAM`] words in a row, without case and surrounding punctuation, occur twice.
fn repeats(words: &[&str]) -> bool {
    let plain: Vec<String> = words
        .iter()
        .map(|w| {
            w.trim_matches(|c: char| !c.is_alphanumeric())
                .to_lowercase()
        })
        .collect();
    let mut seen = BTreeSet::new();
    plain.windows(NGRAM).any(|gram| !seen.insert(gram))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fin(dialogue: bool) -> StoryConstraints {
        StoryConstraints {
            name: Some("Fin".to_owned()),
            dialogue,
        }
    }

    /// `count` different words.
    fn words(count: usize) -> String {
        (0..count)
            .map(|i| format!("w{i}"))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_story_that_keeps_every_rule_scores_one() {
        let text = format!("Fin said, \"Hi.\" {} Fin's end.", words(60));
        let verdict = judge_story(&text, true, &fin(true));
        assert!((verdict.score() - 1.0).abs() < 1e-12, "{verdict:?}");
        assert_eq!(verdict.words, 65);
    }

    #[test]
    fn an_empty_story_keeps_only_the_rules_that_ask_for_nothing() {
        let verdict = judge_story("", false, &fin(false));
        assert!(verdict.dialogue && verdict.no_repeat);
        assert!((verdict.score() - 0.4).abs() < 1e-12);
    }

    #[test]
    fn a_prompt_that_names_nobody_leaves_four_rules() {
        let nobody = StoryConstraints {
            name: None,
            dialogue: false,
        };
        let verdict = judge_story("A dog ran.", true, &nobody);
        assert_eq!(verdict.name, None);
        assert!((verdict.score() - 0.75).abs() < 1e-12);
    }

    #[test]
    fn the_name_counts_as_a_whole_word_and_with_an_apostrophe() {
        assert_eq!(count_name("Fin and Fin's fins. Finn, aFin, Fin!", "Fin"), 3);
    }

    #[test]
    fn a_quotation_must_close_and_must_be_there_if_asked_for() {
        assert!(quotes_hold("no quotes", false));
        assert!(!quotes_hold("no quotes", true));
        assert!(quotes_hold("\"Hi\"", true));
        assert!(!quotes_hold("\"Hi", true));
        assert!(!quotes_hold("\u{201c}Hi", false));
        assert!(quotes_hold("\u{201c}Hi\u{201d}", true));
    }

    #[test]
    fn five_words_repeated_count_whatever_their_case_and_commas() {
        let text: Vec<&str> = "The cat sat on it. the cat, sat on IT".split(' ').collect();
        assert!(repeats(&text));
        let text: Vec<&str> = "the cat sat on it and the cat sat on her"
            .split(' ')
            .collect();
        assert!(!repeats(&text));
    }

    #[test]
    fn the_length_limits_belong_to_the_range() {
        let long_enough = |n| judge_story(&words(n), true, &fin(false)).length;
        assert_eq!(
            [59, 60, 140, 141].map(long_enough),
            [false, true, true, false]
        );
    }
}
