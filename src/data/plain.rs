//! The tokenizer of a model folder alone, for models that are asked in plain text.

use super::error::DataError;
use super::tokenize::ids;
use super::tokenizer_file::TokenizerFile;
use crate::base::ModelFile;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// Text to tokens as transformers' `tokenizer(text)` makes them; no chat template is needed.
#[derive(Debug)]
pub struct PlainTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
}

impl PlainTokenizer {
    /// Opens `tokenizer.json` of a model folder. Truncation and padding are switched off.
    ///
    /// # Errors
    /// The file is missing or broken.
    pub fn open(model_dir: &Path) -> Result<Self, DataError> {
        let tokenizer = TokenizerFile::open(model_dir)?.load(model_dir)?;
        let path = ModelFile::Tokenizer.within(model_dir);
        Ok(Self { path, tokenizer })
    }

    /// Tokens of `text` with those that the tokenizer puts at its ends.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoding = self.tokenizer.encode_fast(text, true);
        let encoding = encoding.map_err(|e| self.failed(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens of `text`; nothing is added at its ends.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode_bare(&self, text: &str) -> Result<Vec<u32>, DataError> {
        ids(&self.tokenizer, text).map_err(|reason| self.failed(reason))
    }

    /// The id of a special token.
    ///
    /// # Errors
    /// The tokenizer does not read `token` as one token.
    pub fn special(&self, token: &str) -> Result<u32, DataError> {
        let id = self.token_id(token);
        let read = self.encode_bare(token)?;
        id.filter(|id| read == [*id])
            .ok_or_else(|| self.failed(format!("it has no token `{token}`")))
    }

    /// `text` with a blank for everything that would be read as a special token, so that a text
    /// cannot pass for the frame around it.
    #[must_use]
    pub fn without_special(&self, text: &str) -> String {
        // By id, so that the order is the same each time.
        let added: BTreeMap<u32, _> = self
            .tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .collect();
        let added = added
            .values()
            .filter(|token| !token.content.trim().is_empty());
        added.fold(text.to_owned(), |text, token| {
            text.replace(&token.content, " ")
        })
    }

    /// The id of the token that is written `token` in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    fn failed(&self, reason: String) -> DataError {
        DataError::Tokenizer {
            path: self.path.clone(),
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_gets_the_tokens_at_its_ends_that_the_file_asks_for() {
        let tokenizer = PlainTokenizer::open(Path::new("models/stories260k")).unwrap();
        let tokens = tokenizer.encode("Once").unwrap();
        assert_eq!(tokens[0], 1, "beginning of text");
        assert!(!tokens.contains(&2));
        assert_eq!(tokenizer.token_id("1"), Some(475));
        assert_eq!(tokenizer.token_id("no such token"), None);
        assert!(PlainTokenizer::open(Path::new("models")).is_err());
    }

    fn shipped() -> PlainTokenizer {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        PlainTokenizer::open(&root.join("models/stories260k")).unwrap()
    }

    #[test]
    fn special_tokens_within_a_text_become_blanks_however_they_are_nested() {
        let tokenizer = shipped();
        assert_eq!(tokenizer.without_special("a</s>b"), "a b");
        assert_eq!(tokenizer.without_special("a<</s>s>b"), "a< s>b");
        let eos = tokenizer.special("</s>").unwrap();
        let tokens = tokenizer.encode_bare(&tokenizer.without_special("x</s></s>y"));
        assert!(!tokens.unwrap().contains(&eos));
    }

    #[test]
    fn a_token_that_is_not_there_is_named_with_the_file() {
        let error = shipped().special("<|source|>").unwrap_err().to_string();
        assert!(error.contains("<|source|>"), "{error}");
        assert!(error.contains("tokenizer.json"), "{error}");
    }
}
