//! Where English sentences end, as NLTK's `PunktSentenceTokenizer` sees it (Kiss and Strunk 2006; NLTK 3.10). What it
//! knows of abbreviations, collocations, sentence starters and capitals is read from the files of `punkt_tab`.

use crate::base::fs::read_to_string;
use crate::config::spec::PunktFiles;
use crate::data::{Flags, Pattern, is_space, strip};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Ends of sentences and closing signs cannot be within words.
const NON_WORD: &str = r#"(?:[)";}\]*:@'({\[‘’“”«»?!])"#;
const MULTIPLE: &str = r"(?:\-{2,}|\.{2,}|(?:\.\s){2,}\.)";
const WORD_START: &str = r#"[^("`{\[:;&#*@)}\]\-,]"#;

/// Contexts that a word occurred in, as bits of `ortho_context.tab`.
const MIDDLE_UPPER: u32 = 1 << 2;
const ANY_UPPER: u32 = (1 << 1) | MIDDLE_UPPER | (1 << 3);
const BEGIN_LOWER: u32 = 1 << 4;
const ANY_LOWER: u32 = BEGIN_LOWER | (1 << 5) | (1 << 6);

/// The splitter.
#[derive(Debug)]
pub(super) struct Punkt {
    abbreviations: BTreeSet<String>,
    collocations: BTreeSet<(String, String)>,
    starters: BTreeSet<String>,
    orthography: BTreeMap<String, u32>,
    ends: Pattern,
    words: Pattern,
    number: Pattern,
    initial: Pattern,
    closing: Pattern,
}

/// A word with what was decided about it.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four decisions, each read on its own"
)]
struct Token {
    text: String,
    /// In lower case, with `##number##` for one.
    kind: String,
    ends_sentence: bool,
    abbreviation: bool,
    ellipsis: bool,
    initial: bool,
}

impl Token {
    fn kind_without_period(&self) -> &str {
        match self.kind.strip_suffix('.') {
            Some(rest) if !rest.is_empty() => rest,
            _ => &self.kind,
        }
    }

    fn kind_without_end(&self) -> &str {
        if self.ends_sentence {
            self.kind_without_period()
        } else {
            &self.kind
        }
    }

    fn begins(&self, how: impl Fn(char) -> bool) -> bool {
        self.text.chars().next().is_some_and(how)
    }
}

impl Punkt {
    /// Reads the four files.
    ///
    /// # Errors
    /// One cannot be read, or a line of it is of another form.
    pub(super) fn open(root: &Path, files: &PunktFiles) -> Result<Self, String> {
        let read = |file: &str| {
            read_to_string(&root.join(file)).map_err(|e| {
                format!("{e} (`nltk.download(\"punkt_tab\")` fetches what NLTK knows of sentences)")
            })
        };
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
        let pairs = |text: &str| -> Result<Vec<(String, String)>, String> {
            let pair = |line: &str| {
                let pair = line.split_once('\t');
                let pair = pair.ok_or_else(|| format!("expected two columns, found `{line}`"))?;
                Ok((pair.0.to_owned(), pair.1.to_owned()))
            };
            text.lines()
                .filter(|line| !line.is_empty())
                .map(pair)
                .collect()
        };
        let orthography = pairs(&read(&files.orthography)?)?.into_iter();
        let orthography = orthography.map(|(word, bits)| {
            let bits = bits
                .trim()
                .parse()
                .map_err(|_| format!("`{bits}` is no number"))?;
            Ok((word, bits))
        });
        let flags = Flags {
            regex_module: true,
            ..Flags::default()
        };
        let pattern = |source: &str| Pattern::new(source, flags);
        let comma = format!(r",(?=$|\s|{NON_WORD}|{MULTIPLE})");
        Ok(Self {
            abbreviations: lines(&read(&files.abbreviations)?),
            collocations: pairs(&read(&files.collocations)?)?.into_iter().collect(),
            starters: lines(&read(&files.starters)?),
            orthography: orthography.collect::<Result<_, String>>()?,
            ends: pattern(&format!(r"[.?!](?=({NON_WORD}|\s+(\S+)))"))?,
            words: pattern(&format!(
                r"{MULTIPLE}|(?={WORD_START})\S+?(?=\s|$|{NON_WORD}|{MULTIPLE}|{comma})|\S"
            ))?,
            number: pattern(r"^-?[\.,]?\d[\d,\.-]*\.?$")?,
            initial: pattern(r"\A[^\W\d]\.$")?,
            closing: Pattern::new(
                r#"\A["')\]}‘’“”«»]+?(?:\s+|(?=--)|$)"#,
                Flags {
                    multiline: true,
                    ..flags
                },
            )?,
        })
    }

    /// The sentences of a text.
    ///
    /// # Errors
    /// A pattern cannot be searched for in it.
    pub(super) fn sentences<'t>(&self, text: &'t str) -> Result<Vec<&'t str>, String> {
        let slices = self.slices(text)?;
        let mut sentences = Vec::new();
        let mut realign = 0;
        for (at, &(start, end)) in slices.iter().enumerate() {
            let start = (start + realign).min(end.max(start));
            let own = text.get(start..end).unwrap_or("");
            let Some(&(next, next_end)) = slices.get(at + 1) else {
                sentences.extend((!own.is_empty()).then_some(own));
                continue;
            };
            let following = text.get(next..next_end).unwrap_or("");
            // Signs that close a sentence belong to it.
            if let Some(closing) = self.closing.matches(following)?.first() {
                let signs = following[closing.clone()].trim_end_matches(is_space);
                sentences.push(&text[start..next + signs.len()]);
                realign = closing.end;
            } else {
                realign = 0;
                sentences.extend((!own.is_empty()).then_some(own));
            }
        }
        Ok(sentences)
    }

    /// Byte ranges of the sentences, before closing signs are moved.
    fn slices(&self, text: &str) -> Result<Vec<(usize, usize)>, String> {
        let mut slices = Vec::new();
        let mut begin = 0;
        for (end, next, context) in self.contexts(text)? {
            if self.has_end(&context)? {
                slices.push((begin, end));
                begin = next.unwrap_or(end);
            }
        }
        slices.push((begin, text.trim_end_matches(is_space).len()));
        Ok(slices)
    }

    /// Where sentences might end: the place behind, where the next word begins if a blank is between, and the words
    /// around.
    fn contexts(&self, text: &str) -> Result<Vec<(usize, Option<usize>, String)>, String> {
        let mut contexts = Vec::new();
        let mut before = (0, 0);
        let mut last: Option<(usize, Option<usize>, usize)> = None;
        let context = |word: (usize, usize), found: (usize, Option<usize>, usize)| {
            // The word, the sign, and what stands behind.
            let end = found.2;
            (found.0, found.1, text[word.0..end].to_owned())
        };
        for groups in self.ends.groups(text)? {
            let Some(sign) = groups[0].clone() else {
                continue;
            };
            let behind = groups[1].clone().map_or(sign.end, |group| group.end);
            let head = &text[before.1..sign.start];
            let blank = head.rfind([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
            let start = match blank {
                Some(at) if at > 0 => before.1 + at + 1,
                _ => before.0,
            };
            let word = (start, sign.start);
            if let Some(found) = last
                && before.1 <= word.0
            {
                contexts.push(context(before, found));
            }
            last = Some((
                sign.end,
                groups[2].as_ref().map(|group| group.start),
                behind,
            ));
            before = word;
        }
        contexts.extend(last.map(|found| context(before, found)));
        Ok(contexts)
    }

    /// Whether a word before the last one ends a sentence.
    fn has_end(&self, text: &str) -> Result<bool, String> {
        let mut tokens = self.tokens(text)?;
        for at in 0..tokens.len() {
            let (own, behind) = tokens.split_at_mut(at + 1);
            if let Some(next) = behind.first() {
                self.decide(&mut own[at], next);
            }
        }
        let end = tokens.iter().position(|token| token.ends_sentence);
        Ok(end.is_some_and(|end| end + 1 < tokens.len()))
    }

    /// The words of a text, decided about by themselves alone.
    fn tokens(&self, text: &str) -> Result<Vec<Token>, String> {
        let mut tokens = Vec::new();
        for line in text.split('\n').filter(|line| !strip(line).is_empty()) {
            for word in self.words.matches(line)? {
                tokens.push(self.token(&line[word])?);
            }
        }
        Ok(tokens)
    }

    fn token(&self, text: &str) -> Result<Token, String> {
        let lower = text.to_lowercase();
        let known = |word: &str| self.abbreviations.contains(word);
        let mut token = Token {
            kind: self.number.replace(&lower, "##number##")?,
            text: text.to_owned(),
            ends_sentence: false,
            abbreviation: false,
            ellipsis: false,
            initial: self.initial.is_in(text)?,
        };
        let dots = text.bytes().all(|b| b == b'.');
        if matches!(text, "." | "?" | "!") {
            token.ends_sentence = true;
        } else if dots && text.len() > 1 {
            token.ellipsis = true;
        } else if text.ends_with('.') && !text.ends_with("..") {
            let word = lower.strip_suffix('.').unwrap_or(&lower);
            let last = word.rsplit('-').next().unwrap_or(word);
            token.abbreviation = known(word) || known(last);
            token.ends_sentence = !token.abbreviation;
        }
        Ok(token)
    }

    /// Decides about a word by the one that follows it.
    fn decide(&self, token: &mut Token, next: &Token) {
        if !token.text.ends_with('.') {
            return;
        }
        let kind = token.kind_without_period().to_owned();
        let next_kind = next.kind_without_end().to_owned();
        let starts = self.starts_sentence(next);
        let mark = |token: &mut Token, ends: bool| {
            token.ends_sentence = ends;
            token.abbreviation |= !ends;
        };
        if self
            .collocations
            .contains(&(kind.clone(), next_kind.clone()))
        {
            return mark(token, false);
        }
        if (token.abbreviation || token.ellipsis) && !token.initial {
            let starter = next.begins(char::is_uppercase) && self.starters.contains(&next_kind);
            if starts == Some(true) || starter {
                token.ends_sentence = true;
                return;
            }
        }
        if token.initial || kind == "##number##" {
            let seen_lower = self
                .orthography
                .get(&next_kind)
                .is_some_and(|b| b & ANY_LOWER != 0);
            let always_upper =
                starts.is_none() && token.initial && next.begins(char::is_uppercase) && !seen_lower;
            if starts == Some(false) || always_upper {
                mark(token, false);
            }
        }
    }

    /// Whether a word begins a sentence, as far as its case tells.
    fn starts_sentence(&self, token: &Token) -> Option<bool> {
        if matches!(token.text.as_str(), ";" | ":" | "," | "." | "!" | "?") {
            return Some(false);
        }
        let bits = self
            .orthography
            .get(token.kind_without_end())
            .copied()
            .unwrap_or(0);
        let (upper, lower) = (
            token.begins(char::is_uppercase),
            token.begins(char::is_lowercase),
        );
        if upper && bits & ANY_LOWER != 0 && bits & MIDDLE_UPPER == 0 {
            return Some(true);
        }
        if lower && (bits & ANY_UPPER != 0 || bits & BEGIN_LOWER == 0) {
            return Some(false);
        }
        None
    }
}
