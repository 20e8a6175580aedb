//! Texts at which an answer is over.

use crate::data::{ContinuationTokenizer, DataError};

/// Stop texts, looked for in the end of what was drawn.
#[derive(Debug)]
pub struct StopTexts<'a> {
    tokenizer: &'a ContinuationTokenizer,
    texts: Vec<&'a str>,
    /// Tokens of the end that are decoded: enough for the longest text to lie in them, whatever is before and behind
    /// it in its first and last token.
    tail: usize,
}

impl<'a> StopTexts<'a> {
    /// Empty texts stop nothing.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn new(
        tokenizer: &'a ContinuationTokenizer,
        texts: &'a [String],
    ) -> Result<Self, DataError> {
        let texts: Vec<&str> = texts
            .iter()
            .map(String::as_str)
            .filter(|text| !text.is_empty())
            .collect();
        // A text has no more tokens than bytes; those of its own are the usual case.
        let mut tail = 0;
        for text in &texts {
            tail = tail.max(tokenizer.bare_len(text)? + 2);
        }
        Ok(Self {
            tokenizer,
            texts,
            tail,
        })
    }

    /// Whether one of them has come up. What is missed here (a text in more tokens than the tokenizer makes of it) is
    /// still cut from the answer.
    pub(super) fn end(&self, drawn: &[u32]) -> bool {
        if self.texts.is_empty() {
            return false;
        }
        let tail = &drawn[drawn.len().saturating_sub(self.tail)..];
        let text = self.tokenizer.decode(tail).unwrap_or_default();
        self.texts.iter().any(|stop| text.contains(stop))
    }
}
