//! Tokens to text as they come, and where a stop text ends it.

use crate::data::{ContinuationTokenizer, DataError};

/// Turns the tokens of a reply into text, piece by piece: what it has given is always the beginning of the text of all
/// tokens, if their bytes are a text. A character whose bytes are not all there yet, and what may become a stop text, is held back.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a ContinuationTokenizer,
    until: &'a [String],
    tokens: Vec<u32>,
    /// Where the tokens begin that are decoded again with every new one, and where those begin whose text is to come.
    /// Decoders treat the beginning of a text apart; within both texts it is the same and falls out.
    window: (usize, usize),
    /// Text that is held back.
    held: String,
    stopped: bool,
}

impl<'a> TextStream<'a> {
    /// Without a token yet. Empty stop texts stop nothing.
    pub fn new(tokenizer: &'a ContinuationTokenizer, until: &'a [String]) -> Self {
        Self {
            tokenizer,
            until,
            tokens: Vec::new(),
            window: (0, 0),
            held: String::new(),
            stopped: false,
        }
    }

    /// Without a token yet, behind others whose text is known and goes on.
    pub fn behind(
        tokenizer: &'a ContinuationTokenizer,
        until: &'a [String],
        known: &[u32],
    ) -> Self {
        // Not from the middle of a character, of which decoders make none.
        let decodes = |from: &usize| {
            let text = tokenizer.decode(&known[*from..]).unwrap_or_default();
            !text.contains(char::REPLACEMENT_CHARACTER)
        };
        let from = (0..known.len()).find(decodes).unwrap_or(known.len());
        Self {
            tokens: known.to_vec(),
            window: (from, known.len()),
            ..Self::new(tokenizer, until)
        }
    }

    /// Whether a stop text has come up.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the next token; the text that is certain now.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn push(&mut self, token: u32) -> Result<String, DataError> {
        self.tokens.push(token);
        let (text, whole) = self.fresh()?;
        // An unfinished character; four bytes are the longest.
        if !whole && self.tokens.len() - self.window.1 < 4 {
            return Ok(String::new());
        }
        self.window = (self.window.1, self.tokens.len());
        Ok(self.let_go(&text, false))
    }

    /// What was held back, now that no token follows.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn end(&mut self) -> Result<String, DataError> {
        let (text, _) = self.fresh()?;
        self.window = (self.tokens.len(), self.tokens.len());
        Ok(self.let_go(&text, true))
    }

    /// The text of the tokens behind the window's middle, and whether its last character is whole. Of bytes that are none
    /// yet, decoders make replacement characters of all that stand before them without a break, known ones too: what is
    /// unfinished has no known beginning.
    fn fresh(&self) -> Result<(String, bool), DataError> {
        let (from, middle) = self.window;
        let known = self.tokenizer.decode(&self.tokens[from..middle])?;
        let all = self.tokenizer.decode(&self.tokens[from..])?;
        let text = match all.strip_prefix(known.as_str()) {
            Some(text) => text.to_owned(),
            None => self.tokenizer.decode(&self.tokens[middle..])?,
        };
        Ok((text, !all.ends_with(char::REPLACEMENT_CHARACTER)))
    }

    fn let_go(&mut self, text: &str, all: bool) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(text);
        let stops = self.until.iter().filter(|stop| !stop.is_empty());
        if let Some(at) = stops.clone().filter_map(|stop| self.held.find(stop)).min() {
            self.stopped = true;
            let text = self.held[..at].to_owned();
            self.held.clear();
            return text;
        }
        let most = if all {
            0
        } else {
            stops.map(|stop| begun(&self.held, stop)).max().unwrap_or(0)
        };
        let rest = self.held.split_off(self.held.len() - most);
        std::mem::replace(&mut self.held, rest)
    }
}

/// Bytes at the end of `text` that are a beginning of `stop`.
fn begun(text: &str, stop: &str) -> usize {
    let lengths = stop.char_indices().map(|(at, _)| at);
    let mut longest_first = lengths.rev();
    longest_first
        .find(|&len| text.ends_with(&stop[..len]))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::BosRule;
    use std::path::Path;

    fn tokenizer() -> ContinuationTokenizer {
        ContinuationTokenizer::open(Path::new("models/stories260k"), BosRule::Never).unwrap()
    }

    fn pieces(text: &str, until: &[&str]) -> (Vec<String>, bool) {
        let tokenizer = tokenizer();
        let until: Vec<String> = until.iter().map(|&stop| stop.to_owned()).collect();
        let mut stream = TextStream::new(&tokenizer, &until);
        let mut given: Vec<String> = Vec::new();
        for token in tokenizer.encode(text).unwrap() {
            given.push(stream.push(token).unwrap());
        }
        given.push(stream.end().unwrap());
        (given, stream.stopped())
    }

    // The tokenizer has no token for most of these characters and writes their bytes.
    #[test]
    fn the_pieces_are_the_text_and_characters_come_whole() {
        for text in [
            "Once upon a time, there was a cat.",
            "naïve 日本 👩‍🔬 end",
            "a\n\nb",
            "日",
        ] {
            let (given, stopped) = pieces(text, &[]);
            assert_eq!(given.concat(), text);
            assert!(
                !stopped && given.iter().all(|piece| !piece.contains('\u{fffd}')),
                "{given:?}"
            );
        }
        assert!(pieces("Once upon a time", &[]).0.len() > 3);
    }

    #[test]
    fn a_text_goes_on_behind_another_wherever_a_character_ends() {
        let tokenizer = tokenizer();
        let text = "日本語日本語 👩\u{200d}🔬👩\u{200d}🔬x one";
        let tokens = tokenizer.encode(text).unwrap();
        let mut whole = 0;
        for cut in 1..tokens.len() {
            let before = tokenizer.decode(&tokens[..cut]).unwrap();
            if before.contains(char::REPLACEMENT_CHARACTER) {
                continue;
            }
            let known = &tokens[cut.saturating_sub(6)..cut];
            let mut stream = TextStream::behind(&tokenizer, &[], known);
            let mut all = before;
            for &token in &tokens[cut..] {
                all.push_str(&stream.push(token).unwrap());
            }
            all.push_str(&stream.end().unwrap());
            assert_eq!(all, text, "{cut}");
            whole += 1;
        }
        assert!(whole > 10);
    }

    #[test]
    fn a_stop_text_ends_it_and_what_may_become_one_waits() {
        let cut = |text, until: &[&str]| {
            let (given, stopped) = pieces(text, until);
            (given.concat(), stopped)
        };
        let text = "The cat sat. The dog sat.";
        assert_eq!(cut(text, &["dog", "cat sat"]), ("The ".to_owned(), true));
        assert_eq!(cut(text, &["sat. The cow"]), (text.to_owned(), false));
        assert_eq!(cut(text, &["sat."]), ("The cat ".to_owned(), true));
        assert_eq!(cut(text, &["sat.!"]), (text.to_owned(), false));
        assert_eq!(begun("abab", "ababc"), 4);
        assert_eq!(begun("xab", "abc"), 2);
        assert_eq!(begun("x", "abc"), 0);
    }
}
