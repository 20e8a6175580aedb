//! The kinds of instructions, each a question about an answer.

use super::json::is_json;
use super::language::LanguageDetector;
use super::punkt::Punkt;
use super::words::WordTokenizer;
use crate::data::{Flags, Pattern, is_space, strip};
use serde_json::{Map, Value};

/// What checks need beside the answer.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) language: LanguageDetector,
    /// Absent if the task names no files for it.
    pub(super) punkt: Option<Punkt>,
    pub(super) words: WordTokenizer,
}

impl Tools {
    fn punkt(&self) -> Result<&Punkt, String> {
        self.punkt.as_ref().ok_or_else(|| {
            "it is about English sentences or words, and the task has no `punkt` files".to_owned()
        })
    }
}

/// The arguments of an instruction, without those that are null or empty.
struct Arguments<'a>(&'a Map<String, Value>);

impl Arguments<'_> {
    fn text(&self, name: &str) -> Result<&str, String> {
        let value = self.0.get(name).and_then(Value::as_str);
        value
            .filter(|text| !text.is_empty())
            .ok_or_else(|| missing(name))
    }

    fn number(&self, name: &str) -> Result<f64, String> {
        let value = self.0.get(name).and_then(Value::as_f64);
        value.filter(|n| *n > 0.0).ok_or_else(|| missing(name))
    }

    fn texts(&self, name: &str) -> Result<Vec<&str>, String> {
        let list = self.0.get(name).and_then(Value::as_array);
        let texts: Option<Vec<&str>> = list.and_then(|l| l.iter().map(Value::as_str).collect());
        texts
            .filter(|texts| !texts.is_empty())
            .ok_or_else(|| missing(name))
    }

    /// Whether `count` is as `relation` says of `limit`.
    fn compare(&self, count: usize, limit: &str, relation: &str) -> Result<bool, String> {
        let (count, limit) = (count as f64, self.number(limit)?);
        match self.text(relation)? {
            "less than" => Ok(count < limit),
            "at least" => Ok(count >= limit),
            other => Err(format!(
                "`{relation}` is `{other}`, not `less than` or `at least`"
            )),
        }
    }
}

fn missing(name: &str) -> String {
    format!("`{name}` is missing or of another form")
}

const IGNORE_CASE: Flags = Flags {
    ignore_case: true,
    multiline: false,
    dot_all: false,
    regex_module: false,
};
const MULTILINE: Flags = Flags {
    ignore_case: false,
    multiline: true,
    dot_all: false,
    regex_module: false,
};
/// What NLTK compiles.
const NLTK: Flags = Flags {
    ignore_case: false,
    multiline: false,
    dot_all: false,
    regex_module: true,
};

fn pattern(source: &str, flags: Flags) -> Result<Pattern, String> {
    Pattern::new(source, flags)
}

fn count(source: &str, flags: Flags, text: &str) -> Result<usize, String> {
    Ok(pattern(source, flags)?.matches(text)?.len())
}

fn plain(source: &str, text: &str) -> Result<usize, String> {
    count(source, Flags::default(), text)
}

/// Whether `text` is what the instruction `kind` wants.
///
/// # Errors
/// The kind is unknown, or an argument is missing or wrong.
pub(super) fn check(
    tools: &Tools,
    kind: &str,
    arguments: &Map<String, Value>,
    text: &str,
) -> Result<bool, String> {
    let arguments = Arguments(arguments);
    let a = &arguments;
    match kind {
        "keywords:existence" => {
            for keyword in a.texts("keywords")? {
                if !pattern(keyword, IGNORE_CASE)?.is_in(text)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        "keywords:frequency" => {
            let found = count(strip(a.text("keyword")?), IGNORE_CASE, text)?;
            a.compare(found, "frequency", "relation")
        }
        "keywords:forbidden_words" => {
            for word in a.texts("forbidden_words")? {
                if pattern(&format!(r"\b{word}\b"), IGNORE_CASE)?.is_in(text)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        "keywords:letter_frequency" => letter_frequency(a, text),
        "language:response_language" => {
            let found = tools.language.detect(text)?;
            Ok(found.is_none_or(|found| found == a.text("language").unwrap_or_default()))
        }
        "length_constraints:number_sentences" => {
            let found = tools.punkt()?.sentences(text)?.len();
            a.compare(found, "num_sentences", "relation")
        }
        "length_constraints:number_paragraphs" => paragraphs(a, text),
        "length_constraints:number_words" => {
            a.compare(count(r"\w+", NLTK, text)?, "num_words", "relation")
        }
        "length_constraints:nth_paragraph_first_word" => first_word(a, text),
        "detectable_content:number_placeholders" => {
            Ok(plain(r"\[.*?\]", text)? as f64 >= a.number("num_placeholders")?)
        }
        "detectable_content:postscript" => postscript(a, text),
        "detectable_format:number_bullet_lists" => {
            let stars = count(r"^\s*\*[^\*].*$", MULTILINE, text)?;
            let dashes = count(r"^\s*-.*$", MULTILINE, text)?;
            Ok(equal(stars + dashes, a.number("num_bullets")?))
        }
        "detectable_format:constrained_response" => {
            let options = [
                "My answer is yes.",
                "My answer is no.",
                "My answer is maybe.",
            ];
            let text = strip(text);
            Ok(options.iter().any(|option| text.contains(option)))
        }
        "detectable_format:number_highlighted_sections" => highlights(a, text),
        "detectable_format:multiple_sections" => {
            let splitter = strip(a.text("section_spliter")?);
            let mark = pattern(&format!(r"\s?{splitter}\s?\d+\s?"), Flags::default())?;
            // The pieces are counted, among which are the groups of the pattern.
            let found = mark.matches(text)?.len() * (1 + mark.group_count());
            Ok(found as f64 >= a.number("num_sections")?)
        }
        "detectable_format:json_format" => Ok(is_json(unfenced(text))),
        "detectable_format:title" => title(text),
        "combination:two_responses" => Ok(two_responses(text)),
        "combination:repeat_prompt" => {
            let prompt = strip(a.text("prompt_to_repeat")?).to_lowercase();
            Ok(strip(text).to_lowercase().starts_with(&prompt))
        }
        "startend:end_checker" => {
            let end = strip(a.text("end_phrase")?).to_lowercase();
            let text = strip(text).trim_matches('"').to_lowercase();
            Ok(text.ends_with(&end))
        }
        "startend:quotation" => {
            let text = strip(text);
            Ok(text.len() > 1 && text.starts_with('"') && text.ends_with('"'))
        }
        "change_case:capital_word_frequency" => {
            let words = tools.words.words(tools.punkt()?, text)?;
            let found = words.iter().filter(|word| is_upper(word)).count();
            a.compare(found, "capital_frequency", "capital_relation")
        }
        "change_case:english_capital" => Ok(is_upper(text) && is_english(tools, text)?),
        "change_case:english_lowercase" => Ok(is_lower(text) && is_english(tools, text)?),
        "punctuation:no_comma" => Ok(!text.contains(',')),
        other => Err(format!("`{other}` is no kind of instruction that is known")),
    }
}

/// Whether there are `wanted`; none that is no whole number is.
fn equal(found: usize, wanted: f64) -> bool {
    (found as f64 - wanted).abs() < f64::EPSILON
}

/// `str.isupper`.
fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_title(c))
}

/// `str.islower`.
fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_title(c))
}

/// Whether a character is two, of which the first is a capital.
fn is_title(c: char) -> bool {
    !c.is_uppercase() && !c.is_lowercase() && c.to_lowercase().next() != Some(c)
}

/// A text without features counts as English, as it does in the harness.
fn is_english(tools: &Tools, text: &str) -> Result<bool, String> {
    Ok(tools
        .language
        .detect(text)?
        .is_none_or(|found| found == "en"))
}

fn letter_frequency(a: &Arguments<'_>, text: &str) -> Result<bool, String> {
    let letter = strip(a.text("letter")?).to_lowercase();
    let mut chars = letter.chars();
    let (Some(letter), None) = (chars.next(), chars.next()) else {
        return Err(format!("`letter` is `{letter}`, not one character"));
    };
    // Of a sign that is no letter the harness draws a letter at random; here it is counted itself.
    let found = text.to_lowercase().chars().filter(|&c| c == letter).count();
    a.compare(found, "let_frequency", "let_relation")
}

fn paragraphs(a: &Arguments<'_>, text: &str) -> Result<bool, String> {
    let parts = pattern(r"\s?\*\*\*\s?", Flags::default())?.split(text)?;
    let mut found = parts.len();
    for (at, part) in parts.iter().enumerate() {
        if strip(part).is_empty() {
            if at != 0 && at + 1 != parts.len() {
                return Ok(false);
            }
            found -= 1;
        }
    }
    Ok(equal(found, a.number("num_paragraphs")?))
}

fn first_word(a: &Arguments<'_>, text: &str) -> Result<bool, String> {
    let parts: Vec<&str> = text.split("\n\n").collect();
    let found = parts.iter().filter(|part| !strip(part).is_empty()).count();
    let nth = a.number("nth_paragraph")?;
    if nth.fract() != 0.0 {
        return Err(missing("nth_paragraph"));
    }
    // The place counts blank paragraphs, the number of paragraphs does not.
    let part = parts
        .get(nth as usize - 1)
        .filter(|_| nth <= found as f64)
        .map(|part| strip(part));
    let Some(word) = part.and_then(|part| part.split(is_space).find(|word| !word.is_empty()))
    else {
        return Ok(false);
    };
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let end = word
        .find(['.', ',', '?', '!', '\'', '"'])
        .unwrap_or(word.len());
    // Each letter by itself, the wanted word as a whole: a final sigma is another letter then, there as here.
    let word: String = word[..end].chars().flat_map(char::to_lowercase).collect();
    let wanted = a.text("first_word")?.to_lowercase();
    Ok(equal(found, a.number("num_paragraphs")?) && word == wanted)
}

fn postscript(a: &Arguments<'_>, text: &str) -> Result<bool, String> {
    let marker = strip(a.text("postscript_marker")?);
    let source = match marker {
        "P.P.S" => r"\s*p\.\s?p\.\s?s.*$".to_owned(),
        "P.S." => r"\s*p\.\s?s\..*$".to_owned(),
        other => format!(r"\s*{}.*$", other.to_lowercase()),
    };
    pattern(&source, MULTILINE)?.is_in(&text.to_lowercase())
}

fn highlights(a: &Arguments<'_>, text: &str) -> Result<bool, String> {
    let filled = |source: &str, mark: &str| -> Result<usize, String> {
        let found = pattern(source, Flags::default())?.matches(text)?;
        let inside = |at: std::ops::Range<usize>| {
            let part = &text[at];
            let part = part.strip_prefix(mark).unwrap_or(part);
            !strip(part.strip_suffix(mark).unwrap_or(part)).is_empty()
        };
        Ok(found.into_iter().filter(|at| inside(at.clone())).count())
    };
    let single = |source: &str| -> Result<usize, String> {
        let found = pattern(source, Flags::default())?.matches(text)?;
        let inside =
            |at: &std::ops::Range<usize>| !strip(text[at.clone()].trim_matches('*')).is_empty();
        Ok(found.iter().filter(|at| inside(at)).count())
    };
    let found = single(r"\*[^\n\*]*\*")? + filled(r"\*\*[^\n\*]*\*\*", "**")?;
    Ok(found as f64 >= a.number("num_highlights")?)
}

/// Without the fence of a block of code.
fn unfenced(text: &str) -> &str {
    let mut text = strip(text);
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    strip(text.strip_suffix("```").unwrap_or(text))
}

fn title(text: &str) -> Result<bool, String> {
    let found = pattern(r"<<[^\n]+>>", Flags::default())?.matches(text)?;
    let inside = |at: std::ops::Range<usize>| {
        let inside = text[at].trim_start_matches('<').trim_end_matches('>');
        !strip(inside).is_empty()
    };
    Ok(found.into_iter().any(inside))
}

fn two_responses(text: &str) -> bool {
    let parts: Vec<&str> = text.split("******").collect();
    let mut answers = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if !strip(part).is_empty() {
            answers.push(strip(part));
        } else if at != 0 && at + 1 != parts.len() {
            return false;
        }
    }
    matches!(answers.as_slice(), [first, second] if first != second)
}
