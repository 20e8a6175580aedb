//! Verdicts in the text of a judge, as each project's own tool reads them.
//!
//! The same text may hold a verdict for one and none for another: see the tests.

/// A rating of MT-Bench: the first `[[7]]` or `[[7.5]]`, else the first `[7]`; `None` if there is none, which its tool
/// stores as −1 (FastChat `llm_judge/common.py`).
pub fn mt_bench_rating(text: &str) -> Option<f64> {
    let inside = runs(text, "[[", "]]", number).into_iter().next();
    let inside = inside.or_else(|| runs(text, "[", "]", number).into_iter().next());
    inside.and_then(|digits| digits.parse().ok())
}

/// The rating of MT-Bench's rule without a fallback: the one `[[7]]` of a text; `None` if there is none, or several
/// differ (Arena-Hard-Auto with `pairwise` off).
pub fn only_rating(text: &str) -> Option<f64> {
    only(&runs(text, "[[", "]]", number))?.parse().ok()
}

/// The winner of MT-Bench's comparison: `[[A]]`, `[[B]]` and `[[C]]` (a tie) are looked for in this order, anywhere.
pub fn mt_bench_winner(text: &str) -> Option<char> {
    ['A', 'B', 'C']
        .into_iter()
        .find(|winner| text.contains(&format!("[[{winner}]]")))
}

/// What a judge of Arena-Hard-Auto v0.1 said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArenaVerdict {
    /// One label, perhaps repeated.
    Label(String),
    /// No label: the judge is asked once more.
    Missing,
    /// Labels that differ: no verdict, and no second try.
    Several,
}

impl ArenaVerdict {
    /// The label, as it is stored.
    pub fn label(self) -> Option<String> {
        match self {
            Self::Label(label) => Some(label),
            Self::Missing | Self::Several => None,
        }
    }
}

/// The label of Arena-Hard-Auto v0.1: the one `[[…]]` of `A`, `B`, `<`, `>` and `=` in a text.
pub fn arena_verdict(text: &str) -> ArenaVerdict {
    let labels = runs(text, "[[", "]]", label);
    if labels.is_empty() {
        return ArenaVerdict::Missing;
    }
    only(&labels).map_or(ArenaVerdict::Several, |label| {
        ArenaVerdict::Label(label.to_owned())
    })
}

/// The label of Arena-Hard-Auto v2: the last `[[…]]`, else the last `[…]`, capitals and small letters alike.
pub fn arena_v2_label(text: &str) -> Option<String> {
    let text = text.to_ascii_uppercase();
    let last = |open, close| runs(&text, open, close, label).pop().map(str::to_owned);
    last("[[", "]]").or_else(|| last("[", "]"))
}

/// The verdict of the three-class comparison of QLoRA: the last line as a whole number; `None` if it is none, which its
/// tool stores as −1.
pub fn last_line_number(text: &str) -> Option<i64> {
    text.trim().rsplit('\n').next()?.trim().parse().ok()
}

/// The one value of a list, perhaps repeated.
fn only<'t>(found: &[&'t str]) -> Option<&'t str> {
    let (first, rest) = found.split_first()?;
    rest.iter().all(|other| other == first).then_some(*first)
}

/// The texts between `open` and `close` that are not empty and wholly of the form that `run` measures, from left to
/// right and without overlap: what a search for `open(form)close` finds. `run` gives the bytes at the beginning of a text
/// that are of the form; brackets are not.
fn runs<'t>(text: &'t str, open: &str, close: &str, run: fn(&str) -> usize) -> Vec<&'t str> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(ahead) = text[at..].find(open) {
        let start = at + ahead + open.len();
        let end = start + run(&text[start..]);
        if end > start && text[end..].starts_with(close) {
            found.push(&text[start..end]);
            at = end + close.len();
        } else {
            at += ahead + 1;
        }
    }
    found
}

/// Digits, perhaps with a point after the first of them.
fn number(text: &str) -> usize {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    if whole > 0 && text[whole..].starts_with('.') {
        return whole + 1 + digits(&text[whole + 1..]);
    }
    whole
}

fn label(text: &str) -> usize {
    let is_part = |byte: &u8| matches!(byte, b'A' | b'B' | b'<' | b'>' | b'=');
    text.bytes().take_while(is_part).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    // tests/golden/judged/judged.json: what each tool's own expressions find.
    #[test]
    fn eighteen_texts_have_the_verdicts_of_each_tool() {
        let golden = crate::eval::judged::testing::golden("judged.json");
        let cases = golden["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 18);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let rating = mt_bench_rating(text).unwrap_or(-1.0);
            assert_eq!(Some(rating), case["mt_single"].as_f64(), "{text}");
            let winner = match mt_bench_winner(text) {
                None => "error".to_owned(),
                Some('C') => "tie".to_owned(),
                Some(winner) => winner.to_string(),
            };
            assert_eq!(case["mt_pair"], winner, "{text}");
            let verdict = arena_verdict(text);
            let again = verdict == ArenaVerdict::Missing;
            let got = Value::from(vec![verdict.label().into(), Value::from(again)]);
            assert_eq!(case["arena_v01"], got, "{text}");
            assert_eq!(
                case["arena_v2"],
                Value::from(arena_v2_label(text)),
                "{text}"
            );
        }
    }

    #[test]
    fn brackets_are_found_as_a_search_from_left_to_right_finds_them() {
        assert_eq!(
            arena_verdict("[[[A>B]]]"),
            ArenaVerdict::Label("A>B".to_owned())
        );
        assert_eq!(arena_verdict("[[A>B]"), ArenaVerdict::Missing);
        assert_eq!(mt_bench_rating("[[7.]] [[8]]"), Some(7.0));
        assert_eq!(mt_bench_rating("é[[.5]] [9]é"), Some(9.0));
        assert_eq!(mt_bench_rating("a list of [100] numbers"), Some(100.0));
        assert_eq!(only_rating("a list of [100] numbers"), None);
        assert_eq!(
            (only_rating("[[3]] [[3]]"), only_rating("[[3]] [[4]]")),
            (Some(3.0), None)
        );
        assert_eq!(last_line_number("Both are good.\n\n 3 \n"), Some(3));
        assert_eq!(
            (last_line_number("3\nno"), last_line_number("")),
            (None, None)
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_by_every_rule(text in r"([\[\]AB<>=0-9.é\n]|\[\[|\]\]){0,40}") {
            if let Some(rating) = mt_bench_rating(&text) {
                proptest::prop_assert!(rating >= 0.0, "{text}");
            }
            if let ArenaVerdict::Label(label) = arena_verdict(&text) {
                let whole = format!("[[{label}]]");
                proptest::prop_assert!(text.contains(&whole), "{text}");
                proptest::prop_assert!(arena_v2_label(&text).is_some(), "{text}");
            }
            proptest::prop_assert!(only_rating(&text).is_none() || mt_bench_rating(&text).is_some());
            proptest::prop_assert!(last_line_number(&text).is_none() || !text.is_empty());
        }
    }
}
