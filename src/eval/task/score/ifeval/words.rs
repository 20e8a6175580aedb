//! English words as NLTK's `word_tokenize` takes them apart: sentences first, then `NLTKWordTokenizer` (NLTK 3.10).

use super::punkt::Punkt;
use crate::data::{Flags, Pattern, is_space};

/// A pattern and what it is replaced by, in the words of Python's `re.sub`.
type Step = (&'static str, &'static str);

/// Before the blanks are put around a sentence.
const BEFORE: [Step; 18] = [
    ("([«“‘„]|[`]+)", r" \1 "),
    (r#"^""#, "``"),
    ("(``)", r" \1 "),
    (r#"([ \(\[{<])("|'{2})"#, r"\1 `` "),
    (r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", r"\1 "),
    (r#"([^\.])(\.)([\]\)}>"'»”’ ]*)\s*$"#, r"\1 \2 \3 "),
    (r"([:,])([^\d])", r" \1 \2"),
    (r"([:,])$", r" \1 "),
    (r"\.{2,}", r" \g<0> "),
    (r"[;@#$%&]", r" \g<0> "),
    ("[\u{2012}-\u{2015}]", r" \g<0> "),
    (r#"([^\.])(\.)([\]\)}>"']*)\s*$"#, r"\1 \2\3 "),
    (r"[?!]", r" \g<0> "),
    (r"([^'])' ", r"\1 ' "),
    (r"[*]", r" \g<0> "),
    (r"[\]\[\(\)\{\}\<\>]", r" \g<0> "),
    ("--", " -- "),
    // The blanks around the sentence.
    (r"\A(?s)(.*)\z", r" \1 "),
];

/// Behind that.
const BEHIND: [Step; 6] = [
    ("([»”’])", r" \1 "),
    ("''", " '' "),
    ("\"", " '' "),
    (r"\s+", " "),
    (r"([^' ])('[sS]|'[mM]|'[dD]|') ", r"\1 \2 "),
    (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", r"\1 \2 "),
];

/// Contractions, which it compiles with `re` still.
const CONTRACTIONS: [Step; 10] = [
    (r"(?i)\b(can)(not)\b", r" \1 \2 "),
    (r"(?i)\b(d)('ye)\b", r" \1 \2 "),
    (r"(?i)\b(gim)(me)\b", r" \1 \2 "),
    (r"(?i)\b(gon)(na)\b", r" \1 \2 "),
    (r"(?i)\b(got)(ta)\b", r" \1 \2 "),
    (r"(?i)\b(lem)(me)\b", r" \1 \2 "),
    (r"(?i)\b(more)('n)\b", r" \1 \2 "),
    (r"(?i)\b(wan)(na)(?=\s)", r" \1 \2 "),
    (r"(?i) ('t)(is)\b", r" \1 \2 "),
    (r"(?i) ('t)(was)\b", r" \1 \2 "),
];

/// Takes texts apart.
#[derive(Debug)]
pub(super) struct WordTokenizer(Vec<(Pattern, &'static str)>);

impl WordTokenizer {
    /// Compiles the steps.
    pub(super) fn new() -> Result<Self, String> {
        let own = Flags {
            regex_module: true,
            ..Flags::default()
        };
        let steps = BEFORE.iter().chain(&BEHIND).map(|step| (step, own));
        let steps = steps.chain(CONTRACTIONS.iter().map(|step| (step, Flags::default())));
        let compiled = steps.map(|((pattern, by), flags)| Ok((Pattern::new(pattern, flags)?, *by)));
        compiled.collect::<Result<_, String>>().map(Self)
    }

    /// The words of a text.
    pub(super) fn words(&self, punkt: &Punkt, text: &str) -> Result<Vec<String>, String> {
        let mut words = Vec::new();
        for sentence in punkt.sentences(text)? {
            let mut sentence = sentence.to_owned();
            for (pattern, by) in &self.0 {
                sentence = pattern.replace(&sentence, by)?;
            }
            let parts = sentence.split(is_space).filter(|part| !part.is_empty());
            words.extend(parts.map(str::to_owned));
        }
        Ok(words)
    }
}
