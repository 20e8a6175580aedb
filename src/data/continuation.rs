//! A context and what may follow it, as the tokens that lm-evaluation-harness scores.
//!
//! Both are tokenised together, and what is behind the context's own tokens is the continuation
//! (`_encode_pair` and `tok_encode` of `lm_eval` 0.4.13). White space at the end of the context goes to the
//! continuation first, so that its tokens are those of running text. Where a token straddles the border the
//! continuation loses its beginning, as there.

use super::error::DataError;
use super::repr::is_space;
use super::tokenize::{LIBRARY, ids};
use super::tokenizer_file::TokenizerFile;
use crate::base::{ModelFile, end_tokens, guarded};
use crate::config::spec::BosRule;
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// The tokens of a context and of its continuation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizedRequest {
    /// What the model is given first; never empty.
    pub context: Vec<u32>,
    /// What follows.
    pub continuation: Vec<u32>,
}

/// The tokenizer of a model folder, for models that are asked in text of which every token counts; no chat
/// template is needed.
#[derive(Debug)]
pub struct ContinuationTokenizer {
    path: PathBuf,
    tokenizer: Tokenizer,
    /// Text and id of the beginning-of-text token, or of the end-of-text token where there is none.
    prefix: Option<(String, u32)>,
    eos: Option<(String, u32)>,
    /// Ids that end what the model writes.
    ends: Vec<u32>,
    bos: BosRule,
}

impl ContinuationTokenizer {
    /// Opens `tokenizer.json` and the names of the special tokens of a model folder.
    ///
    /// # Errors
    /// A file is missing or broken.
    pub fn open(model_dir: &Path, bos: BosRule) -> Result<Self, DataError> {
        let file = TokenizerFile::open(model_dir)?;
        let tokenizer = file.load(model_dir)?;
        let token = |name: &str| {
            let text: &String = file.named.get(name)?;
            Some((text.clone(), tokenizer.token_to_id(text)?))
        };
        let eos = token("eos_token");
        let mut ends: Vec<u32> = eos.iter().map(|(_, id)| *id).collect();
        for id in end_tokens(model_dir)? {
            if !ends.contains(&id) {
                ends.push(id);
            }
        }
        Ok(Self {
            prefix: token("bos_token").or_else(|| eos.clone()),
            eos,
            ends,
            path: ModelFile::Tokenizer.within(model_dir),
            tokenizer,
            bos,
        })
    }

    /// The text that ends a reply, if the tokenizer names one.
    pub fn eos_text(&self) -> Option<&str> {
        self.eos.as_ref().map(|(text, _)| text.as_str())
    }

    /// The tokens that end what the model writes: the tokenizer's own and those of the model's files
    /// ([`end_tokens`]).
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// One more than the highest token id.
    pub fn vocab_size(&self) -> usize {
        let vocab = self.tokenizer.get_vocab(true);
        vocab.values().max().map_or(0, |&id| id as usize + 1)
    }

    /// Tokens of a text that the model is given: with those that the tokenizer puts at its ends, unless the rule
    /// or the text itself has them.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let begins = |(prefix, _): &(String, u32)| text.starts_with(prefix.as_str());
        let has_prefix = self.prefix.as_ref().is_some_and(begins);
        let mut tokens = match self.bos {
            BosRule::Tokenizer if !has_prefix => self.with_specials(text)?,
            _ => self.bare(text)?,
        };
        if let (BosRule::Always, false, Some((_, id))) = (self.bos, has_prefix, &self.prefix) {
            tokens.insert(0, *id);
        }
        Ok(tokens)
    }

    /// Tokens of `continuation` behind `context`.
    ///
    /// # Errors
    /// The tokenizer fails; nothing is left of the continuation; or the context is empty and the tokenizer has no
    /// token to begin with.
    pub fn encode_pair(
        &self,
        context: &str,
        continuation: &str,
    ) -> Result<TokenizedRequest, DataError> {
        let request = if context.is_empty() {
            self.without_context(continuation)?
        } else {
            let kept = context.trim_end_matches(is_space);
            let whole = self.encode(&format!("{context}{continuation}"))?;
            let context = self.encode(kept)?;
            TokenizedRequest {
                continuation: whole.get(context.len()..).unwrap_or_default().to_vec(),
                context,
            }
        };
        if request.continuation.is_empty() {
            return Err(self.failed(format!(
                "nothing is left of the continuation `{continuation}`, whose tokens are those of the context's end"
            )));
        }
        if request.context.is_empty() {
            return Err(self.failed(format!("the context before `{continuation}` has no token")));
        }
        Ok(request)
    }

    /// A continuation of nothing: the model is given the token that begins texts.
    fn without_context(&self, continuation: &str) -> Result<TokenizedRequest, DataError> {
        let (_, prefix) = self.prefix.as_ref().ok_or_else(|| {
            self.failed("it names no token that a text without a context could begin with".into())
        })?;
        let mut tokens = self.bare(continuation)?;
        if tokens.first() == Some(prefix) {
            tokens.remove(0);
        }
        Ok(TokenizedRequest {
            context: vec![*prefix],
            continuation: tokens,
        })
    }

    /// Tokens of a text by itself.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn bare_len(&self, text: &str) -> Result<usize, DataError> {
        Ok(self.bare(text)?.len())
    }

    /// Text of `tokens` without special tokens.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, DataError> {
        let text = self.tokenizer.decode(tokens, true);
        text.map_err(|e| DataError::Decode(e.to_string()))
    }

    /// Text of one token for people and programs, special ones by name.
    pub fn token_text(&self, token: u32) -> String {
        let text = self.tokenizer.decode(&[token], false).unwrap_or_default();
        match self.tokenizer.id_to_token(token) {
            // Decoders drop the blank at the beginning of a text.
            Some(piece) if piece.starts_with('▁') && !text.starts_with(' ') => {
                piece.replace('▁', " ")
            }
            Some(_) => text,
            None => format!("<no token {token}>"),
        }
    }

    fn with_specials(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let encoded = guarded(LIBRARY, || {
            let encoding = self.tokenizer.encode_fast(text, true);
            let encoding = encoding.map_err(|e| e.to_string())?;
            Ok(encoding.get_ids().to_vec())
        });
        encoded.map_err(|reason| self.failed(reason))
    }

    fn bare(&self, text: &str) -> Result<Vec<u32>, DataError> {
        ids(&self.tokenizer, text).map_err(|reason| self.failed(reason))
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
    use crate::base::fs::read_to_string;
    use serde_json::Value;

    /// Pairs of the golden file, under the rule that it was made with.
    fn agrees(file: &str, model: &str, bos: BosRule) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = root.join("tests/golden/eval/lm").join(file);
        let golden: Value = serde_json::from_str(&read_to_string(&path).unwrap()).unwrap();
        let tokenizer = ContinuationTokenizer::open(&root.join(model), bos).unwrap();
        let pairs = golden["pairs"].as_array().unwrap();
        assert!(pairs.len() >= 15);
        for pair in pairs {
            let text = |key: &str| pair[key].as_str().unwrap();
            let got = tokenizer.encode_pair(text("context"), text("continuation"));
            if pair["error"].is_string() {
                assert!(got.is_err(), "{pair}");
                continue;
            }
            let got = got.unwrap();
            let want =
                |key: &str| -> Vec<u32> { serde_json::from_value(pair[key].clone()).unwrap() };
            assert_eq!(got.context, want("context_ids"), "{pair}");
            assert_eq!(got.continuation, want("continuation_ids"), "{pair}");
        }
    }

    #[test]
    fn contexts_and_continuations_are_cut_as_the_harness_does() {
        let shipped = "models/stories260k";
        agrees("stories260k.pairs.json", shipped, BosRule::Tokenizer);
        agrees("stories260k-nobos.pairs.json", shipped, BosRule::Never);
        let other = "tests/golden/eval/tiny-qwen2";
        agrees("tiny-qwen2.pairs.json", other, BosRule::Tokenizer);
    }

    #[test]
    fn a_beginning_is_put_before_a_text_once() {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
        let tokenizer = ContinuationTokenizer::open(&model, BosRule::Always).unwrap();
        assert_eq!(tokenizer.encode("Once").unwrap()[0], 1);
        let twice = tokenizer.encode("<s>Once").unwrap();
        assert_eq!(
            (twice[0], twice.iter().filter(|&&t| t == 1).count()),
            (1, 1)
        );
        assert_eq!(tokenizer.eos_text(), Some("</s>"));
    }
}
