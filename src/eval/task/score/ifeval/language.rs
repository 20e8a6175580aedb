//! Which language a text is in, as langdetect 1.0.9 says it with seed 0 (Nakatani Shuyo's n-gram classifier).
//!
//! Its profiles are packed in `data/langdetect` (`tests/golden/make_langdetect.py`). Every trial draws n-grams of the
//! text with Python's generator; the harness leaves it unseeded, so that its verdict on an unclear text may change from
//! one run to the next, and this one's does not.

use crate::base::PythonRandom;
use crate::data::{Flags, Pattern};
use std::collections::BTreeMap;
use std::io::Read as _;

const PACKED: &[u8] = include_bytes!("../../../../../data/langdetect/profiles.zst");

const TRIALS: usize = 7;
const ALPHA: f64 = 0.5;
const ALPHA_WIDTH: f64 = 0.05;
const BASE_FREQUENCY: f64 = 10_000.0;
const MOST_DRAWS: usize = 1000;
const CONVERGED: f64 = 0.99999;
const LEAST: f64 = 0.1;
const MOST_TEXT: usize = 10_000;

/// The classifier.
#[derive(Debug)]
pub(super) struct LanguageDetector {
    languages: Vec<String>,
    /// Probabilities of each gram, by the number of the language.
    grams: BTreeMap<String, Vec<(usize, f64)>>,
    /// Characters of Latin-1 that are blanks.
    excluded: String,
    /// Vietnamese letters with marks of their own.
    vietnamese: BTreeMap<(char, char), char>,
    /// Kanji that stand for one another.
    kanji: BTreeMap<char, char>,
    urls: Pattern,
    mails: Pattern,
}

impl LanguageDetector {
    /// Unpacks the profiles.
    ///
    /// # Errors
    /// They are damaged.
    pub(super) fn new() -> Result<Self, String> {
        let broken = || "the profiles of languages are damaged".to_owned();
        let mut text = String::new();
        let decoder = zstd::Decoder::new(PACKED);
        let read = decoder.and_then(|mut decoder| decoder.read_to_string(&mut text));
        read.map_err(|e| format!("{}: {e}", broken()))?;
        let mut lines = text.split('\n');
        let mut line = || lines.next().ok_or_else(broken);
        let (languages, totals) = totals(line()?).ok_or_else(broken)?;
        let excluded = line()?.to_owned();
        let (letters, marks, written) = (line()?, line()?, line()?);
        let mut vietnamese = BTreeMap::new();
        for (mark, row) in marks.chars().zip(written.split('\t')) {
            let row = letters.chars().zip(row.chars());
            vietnamese.extend(row.map(|(letter, made)| ((letter, mark), made)));
        }
        let mut kanji = BTreeMap::new();
        for class in line()?.split('\t') {
            let first = class.chars().next().ok_or_else(broken)?;
            kanji.extend(class.chars().map(|c| (c, first)));
        }
        let mut grams = BTreeMap::new();
        for line in lines {
            let (gram, counts) = line.split_once('\t').ok_or_else(broken)?;
            let length = gram.chars().count();
            let mut shares = Vec::new();
            for count in counts.split(' ') {
                let (language, count) = count.split_once(':').ok_or_else(broken)?;
                let language: usize = language.parse().map_err(|_| broken())?;
                let count: f64 = count.parse().map_err(|_| broken())?;
                let total = totals
                    .get(language)
                    .and_then(|totals| totals.get(length - 1));
                shares.push((language, count / total.ok_or_else(broken)?));
            }
            grams.insert(gram.to_owned(), shares);
        }
        let pattern = |source: &str| Pattern::new(source, Flags::default());
        Ok(Self {
            languages,
            grams,
            excluded,
            vietnamese,
            kanji,
            urls: pattern(r"https?://[-_.?&~;+=/#0-9A-Za-z]{1,2076}")?,
            mails: pattern(r"[-_.0-9A-Za-z]{1,64}@[-_0-9A-Za-z]{1,255}[-_.0-9A-Za-z]{1,255}")?,
        })
    }

    /// The language of a text; none for a text without any n-gram that is known, `unknown` if none is likely.
    ///
    /// # Errors
    /// A pattern cannot be searched for in the text.
    pub(super) fn detect(&self, text: &str) -> Result<Option<String>, String> {
        let Some(all) = self.probabilities(text, 0)? else {
            return Ok(None);
        };
        let best = all.into_iter().next();
        Ok(Some(
            best.map_or("unknown".to_owned(), |(language, _)| language),
        ))
    }

    /// Languages that are at all likely, the likeliest first.
    fn probabilities(&self, text: &str, seed: u64) -> Result<Option<Vec<(String, f64)>>, String> {
        let grams = self.grams_of(&self.cleaned(text)?);
        if grams.is_empty() {
            return Ok(None);
        }
        let count = self.languages.len();
        let mut random = PythonRandom::new(seed);
        let mut means = vec![0.0; count];
        for _ in 0..TRIALS {
            let mut shares = vec![1.0 / count as f64; count];
            let alpha = ALPHA + random.gauss(0.0, 1.0) * ALPHA_WIDTH;
            for draw in 0.. {
                let gram = grams[random.below(grams.len())];
                let weight = alpha / BASE_FREQUENCY;
                let mut next = gram.iter().peekable();
                for (language, share) in shares.iter_mut().enumerate() {
                    let own = next.next_if(|(at, _)| *at == language);
                    *share *= weight + own.map_or(0.0, |(_, probability)| *probability);
                }
                if draw % 5 == 0 && (normalize(&mut shares) > CONVERGED || draw >= MOST_DRAWS) {
                    break;
                }
            }
            for (mean, share) in means.iter_mut().zip(shares) {
                *mean += share / TRIALS as f64;
            }
        }
        let all = self.languages.iter().cloned().zip(means);
        let mut likely: Vec<(String, f64)> = all.filter(|(_, share)| *share > LEAST).collect();
        likely.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(Some(likely))
    }

    /// Without addresses, runs of blanks, and Latin letters in a text of another script.
    fn cleaned(&self, text: &str) -> Result<String, String> {
        let text = self.mails.replace(&self.urls.replace(text, " ")?, " ")?;
        let mut joined = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let with = chars
                .peek()
                .and_then(|mark| self.vietnamese.get(&(c, *mark)));
            joined.push(with.copied().unwrap_or(c));
            if with.is_some() {
                chars.next();
            }
        }
        let mut kept = String::new();
        let mut before = None;
        for c in joined.chars().take(MOST_TEXT) {
            if c != ' ' || before != Some(' ') {
                kept.push(c);
            }
            before = Some(c);
        }
        let latin = |c: char| ('A'..='z').contains(&c);
        let other = |c: char| c >= '\u{300}' && !('\u{1e00}'..='\u{1eff}').contains(&c);
        let count = |of: &dyn Fn(char) -> bool| kept.chars().filter(|&c| of(c)).count();
        if count(&latin) * 2 < count(&other) {
            kept.retain(|c| !latin(c));
        }
        Ok(kept)
    }

    /// The known grams of one to three characters, but for those of words in capitals.
    fn grams_of(&self, text: &str) -> Vec<&[(usize, f64)]> {
        let mut found = Vec::new();
        let mut gram = vec![' '];
        let mut capitals = false;
        for c in text.chars() {
            let c = self.normalized(c);
            let last = gram[gram.len() - 1];
            if last == ' ' {
                gram = vec![' '];
                capitals = false;
            } else if gram.len() >= 3 {
                gram.remove(0);
            }
            if last != ' ' || c != ' ' {
                gram.push(c);
                capitals = c.is_uppercase() && (capitals || last.is_uppercase());
            }
            if capitals {
                continue;
            }
            for n in 1..=gram.len() {
                let own: String = gram[gram.len() - n..].iter().collect();
                let known = self.grams.get(&own).filter(|_| own != " ");
                found.extend(known.map(Vec::as_slice));
            }
        }
        found
    }

    /// The character that stands for `c` in grams.
    fn normalized(&self, c: char) -> char {
        match c {
            'A'..='Z' | 'a'..='z' => c,
            '\0'..='\u{7f}' | '\u{2000}'..='\u{206f}' => ' ',
            '\u{80}'..='\u{ff}' if self.excluded.contains(c) => ' ',
            '\u{219}' => '\u{15f}',
            '\u{21b}' => '\u{163}',
            '\u{6cc}' => '\u{64a}',
            '\u{1ea0}'..='\u{1eff}' => '\u{1ec3}',
            '\u{3040}'..='\u{309f}' => '\u{3042}',
            '\u{30a0}'..='\u{30ff}' => '\u{30a2}',
            '\u{3100}'..='\u{312f}' | '\u{31a0}'..='\u{31bf}' => '\u{3105}',
            '\u{4e00}'..='\u{9fff}' => self.kanji.get(&c).copied().unwrap_or(c),
            '\u{ac00}'..='\u{d7af}' => '\u{ac00}',
            c => c,
        }
    }
}

/// Languages and their totals of grams by length.
fn totals(line: &str) -> Option<(Vec<String>, Vec<Vec<f64>>)> {
    let mut languages = Vec::new();
    let mut totals = Vec::new();
    for part in line.split(' ') {
        let (language, counts) = part.split_once(':')?;
        let counts: Result<Vec<f64>, _> = counts.split(',').map(str::parse).collect();
        languages.push(language.to_owned());
        totals.push(counts.ok()?);
    }
    Some((languages, totals))
}

/// Makes shares sum to one; the greatest.
fn normalize(shares: &mut [f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let mut most = 0.0;
    for share in shares {
        *share /= sum;
        most = share.max(most);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    // What langdetect says of the golden replies with seed 0, to the sixth decimal.
    #[test]
    fn languages_and_their_shares_are_those_of_langdetect() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let goldens = ["ifeval.json", "ifeval_odd.json"].map(|file| -> Value {
            let path = path.join("tests/golden/eval").join(file);
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        });
        let detector = LanguageDetector::new().unwrap();
        let parts = goldens.iter().map(|golden| golden["parts"].as_array());
        let parts: Vec<&Value> = parts.flat_map(Option::unwrap).collect();
        assert!(parts.len() > 500, "{}", parts.len());
        for part in parts {
            let got = detector
                .probabilities(part["text"].as_str().unwrap(), 0)
                .unwrap();
            let want: Option<Vec<(String, f64)>> =
                serde_json::from_value(part["langdetect_seed_0"].clone()).unwrap();
            let (Some(got), Some(want)) = (&got, &want) else {
                assert_eq!(got.is_none(), want.is_none(), "{part}");
                continue;
            };
            assert_eq!(got.len(), want.len(), "{part}: {got:?}");
            for (got, want) in got.iter().zip(want) {
                assert_eq!(got.0, want.0, "{part}: {got:?}");
                assert!((got.1 - want.1).abs() < 2e-6, "{part}: {got:?}");
            }
        }
    }
}
