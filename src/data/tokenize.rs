//! Text to tokens in pieces that keep replies apart from what surrounds them.
//!
//! A rendered conversation is cut where replies begin and end, each piece is tokenised on its own and
//! the ids are joined. So the tokens of a prompt are the same whether a reply follows or is yet to be
//! sampled, no token straddles the edge of the loss mask, and a template without a trailing blank in
//! its generation prompt leaves the blank to the reply, as the tokenizer's own words have it.
//!
//! Tokenizers of the SentencePiece kind put a `▁` before text. They must do so where the same place of
//! the whole text would get one (at its start, or after each special token) and not where a cut was
//! made, or every reply would begin with a doubled blank. Hence a second, *bare* tokenizer, equal but
//! for that rule, reads the text between a cut and the next special token. The result equals that of
//! tokenising the whole text, except where a token would have straddled a cut or a rule that splits text
//! looks across it (that of GPT-2 takes two line breaks apart where more text follows).

use super::error::DataError;
use crate::base::guarded;
use serde_json::{Value, json};
use std::path::Path;
use tokenizers::Tokenizer;

/// A conversation as tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedExample {
    /// The row's id.
    pub id: String,
    /// The whole conversation.
    pub tokens: Vec<u32>,
    /// Same length; whether the token counts as a target: replies with their end tokens. The first
    /// is always false. Found before any cutting, so that both parts of a cut reply keep theirs.
    pub loss_mask: Vec<bool>,
    /// The file, as the recipe names it.
    pub source: String,
}

impl TokenizedExample {
    /// Tokens that count as targets.
    pub fn targets(&self) -> usize {
        self.loss_mask.iter().filter(|&&m| m).count()
    }
}

/// Where a tokenizer puts a prefix (`▁`, or a blank) before text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PrefixRule {
    /// At the start and after each special token.
    EachSection,
    /// At the start of the whole text only.
    StartOnly,
}

/// A tokenizer that can continue a text in the middle.
#[derive(Debug)]
pub(super) struct PieceTokenizer {
    plain: Tokenizer,
    /// The same without the prefix rule; absent if there is no such rule.
    bare: Option<(PrefixRule, Tokenizer)>,
    /// Texts of the added tokens, which are found in a text before anything else.
    added: Vec<String>,
    byte_level: bool,
}

impl PieceTokenizer {
    /// The tokenizer of a model folder from the JSON of its files; `path` names it in errors. Truncation and
    /// padding that it may ask for are switched off.
    pub(super) fn of(path: &Path, mut json: Value) -> Result<Self, DataError> {
        let broken = |reason: String| DataError::Tokenizer {
            path: path.to_owned(),
            reason,
        };
        let byte_level = json["decoder"].to_string().contains("\"ByteLevel\"");
        let plain = load(&json).map_err(broken)?;
        let bare = match remove_prefix_rule(&mut json) {
            Some(rule) => Some((rule, load(&json).map_err(broken)?)),
            None => None,
        };
        // By id, so that the order is the same each time.
        let mut added: Vec<(u32, String)> = plain
            .get_added_tokens_decoder()
            .into_iter()
            .map(|(id, token)| (id, token.content))
            .collect();
        added.sort_unstable();
        Ok(Self {
            plain,
            bare,
            added: added.into_iter().map(|(_, text)| text).collect(),
            byte_level,
        })
    }

    /// Tokens of `text`, cut at the byte offsets `cuts` (ascending): one list a piece.
    pub(super) fn encode_pieces(
        &self,
        text: &str,
        cuts: &[usize],
    ) -> Result<Vec<Vec<u32>>, String> {
        let mut pieces = Vec::with_capacity(cuts.len() + 1);
        let mut start = 0;
        for &end in cuts.iter().chain([&text.len()]) {
            pieces.push(self.encode_piece(text, start, end)?);
            start = end;
        }
        Ok(pieces)
    }

    /// Tokens of `text[start..end]`, read as a part of `text`.
    fn encode_piece(&self, text: &str, start: usize, end: usize) -> Result<Vec<u32>, String> {
        let piece = &text[start..end];
        let Some((rule, bare)) = &self.bare else {
            return ids(&self.plain, piece);
        };
        if start == 0 {
            return ids(&self.plain, piece);
        }
        if *rule == PrefixRule::StartOnly {
            return ids(bare, piece);
        }
        let before = &text[..start];
        let after_added = self
            .added
            .iter()
            .any(|token| before.ends_with(token.as_str()));
        let head = if after_added {
            0
        } else {
            self.first_added(piece).unwrap_or(piece.len())
        };
        let mut tokens = ids(bare, &piece[..head])?;
        tokens.extend(ids(&self.plain, &piece[head..])?);
        Ok(tokens)
    }

    /// Where the first added token in `piece` begins.
    fn first_added(&self, piece: &str) -> Option<usize> {
        self.added
            .iter()
            .filter_map(|token| piece.find(token.as_str()))
            .min()
    }

    /// The added tokens in `text` in their order, without those that are white space only.
    pub(super) fn added_in(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut rest = text;
        loop {
            // The first, and of several at one place the longest.
            let at = |token: &&String| Some((rest.find(token.as_str())?, usize::MAX - token.len()));
            let tokens = self.added.iter().filter(|token| !token.trim().is_empty());
            let next = tokens.filter_map(|token| Some((at(&token)?, token))).min();
            let Some(((at, _), token)) = next else {
                return found;
            };
            found.push(token.clone());
            rest = &rest[at + token.len()..];
        }
    }

    /// Whether `text` is made of added tokens and white space.
    pub(super) fn only_added(&self, text: &str) -> bool {
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let tokens = self
                .added
                .iter()
                .filter(|t| !t.is_empty() && rest.starts_with(t.as_str()));
            match tokens.map(String::len).max() {
                Some(length) => rest = rest[length..].trim_start(),
                None => return false,
            }
        }
        true
    }

    /// The id of `text` if the tokenizer reads it as that one token.
    pub(super) fn single(&self, text: &str) -> Option<u32> {
        let id = self.plain.token_to_id(text)?;
        (ids(&self.plain, text).ok()? == [id]).then_some(id)
    }

    /// Text of `ids` without special tokens.
    pub(super) fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let text = self.plain.decode(ids, true);
        text.map_err(|e| DataError::Decode(e.to_string()))
    }

    /// Text of one token for people: blanks as blanks, special tokens by name.
    pub(super) fn token_text(&self, id: u32) -> String {
        let Some(piece) = self.plain.id_to_token(id) else {
            return format!("<no token {id}>");
        };
        if self.byte_level {
            return self.plain.decode(&[id], false).unwrap_or(piece);
        }
        match piece.strip_prefix("<0x").and_then(|p| p.strip_suffix('>')) {
            Some(hex) => match u8::from_str_radix(hex, 16) {
                Ok(byte) if byte.is_ascii() => char::from(byte).to_string(),
                _ => piece,
            },
            None => piece.replace('▁', " "),
        }
    }

    /// One more than the highest id.
    pub(super) fn vocab_size(&self) -> usize {
        let vocab = self.plain.get_vocab(true);
        vocab.values().max().map_or(0, |&id| id as usize + 1)
    }
}

/// A tokenizer from its JSON, without the truncation and padding that it may ask for.
pub(super) fn load(json: &Value) -> Result<Tokenizer, String> {
    check_normalizers(&json["normalizer"])?;
    let made = guarded(LIBRARY, || {
        Tokenizer::from_bytes(json.to_string()).map_err(|e| e.to_string())
    });
    let mut tokenizer = made?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
    Ok(tokenizer)
}

/// As messages call it.
pub(super) const LIBRARY: &str = "the tokenizer library";

/// The most that replacements may make of one character. The longest in use write a byte's name.
const MAX_GROWTH: f64 = 1000.0;

/// Refuses normalisers that would bring the library to a panic or multiply a text without bound.
fn check_normalizers(normalizer: &Value) -> Result<(), String> {
    let mut growth = 1.0;
    let mut open = vec![normalizer];
    while let Some(step) = open.pop() {
        open.extend(step["normalizers"].as_array().into_iter().flatten());
        match step["type"].as_str() {
            Some("Replace") => {
                let pattern = step["pattern"]["String"]
                    .as_str()
                    .map_or(1, str::len)
                    .max(1);
                let content = step["content"].as_str().map_or(0, str::len);
                growth *= (content as f64 / pattern as f64).max(1.0);
            }
            Some("Precompiled") => check_charsmap(step)?,
            _ => {}
        }
    }
    if growth > MAX_GROWTH {
        return Err(format!(
            "its normalisers write up to {growth:.0} characters for one, and {MAX_GROWTH} are the most"
        ));
    }
    Ok(())
}

/// A charsmap is the length of a table in bytes, the table, and text.
fn check_charsmap(step: &Value) -> Result<(), String> {
    use base64::Engine as _;
    let broken = || "`precompiled_charsmap` is damaged".to_owned();
    let text = step["precompiled_charsmap"].as_str().ok_or_else(broken)?;
    let engine = base64::engine::general_purpose::STANDARD;
    let bytes = engine.decode(text).map_err(|_| broken())?;
    let (head, rest) = bytes.split_first_chunk::<4>().ok_or_else(broken)?;
    let table = u32::from_le_bytes(*head) as usize;
    let names = rest.get(table..).ok_or_else(broken)?;
    if !table.is_multiple_of(4) || table == 0 || std::str::from_utf8(names).is_err() {
        return Err(broken());
    }
    Ok(())
}

/// Ids without anything that the tokenizer would add at the ends; the template has written that.
pub(super) fn ids(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, String> {
    guarded(LIBRARY, || {
        let encoding = tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().to_vec())
    })
}

/// Takes the rule that puts a prefix before text out of a `tokenizer.json`, and says what it was.
fn remove_prefix_rule(json: &mut Value) -> Option<PrefixRule> {
    let mut rule = None;
    for key in ["normalizer", "pre_tokenizer"] {
        let part = &mut json[key];
        for list in ["normalizers", "pretokenizers"] {
            let Some(steps) = part.get_mut(list).and_then(Value::as_array_mut) else {
                continue;
            };
            steps.retain_mut(|step| {
                rule = rule.or(remove_from_step(step));
                !step.is_null()
            });
        }
        rule = rule.or(remove_from_step(part));
    }
    rule
}

/// As [`remove_prefix_rule`] for one step; a step that is nothing else becomes null.
fn remove_from_step(step: &mut Value) -> Option<PrefixRule> {
    match step["type"].as_str()? {
        "Prepend" => {
            *step = Value::Null;
            Some(PrefixRule::EachSection)
        }
        "ByteLevel" if step["add_prefix_space"] == json!(true) => {
            step["add_prefix_space"] = json!(false);
            Some(PrefixRule::EachSection)
        }
        "Metaspace" => {
            let scheme = step["prepend_scheme"].as_str().map(str::to_owned);
            let legacy = step["add_prefix_space"].as_bool();
            let step = step.as_object_mut()?;
            step.remove("add_prefix_space");
            step.insert("prepend_scheme".to_owned(), json!("never"));
            match (scheme.as_deref(), legacy) {
                (Some("never"), _) | (None, Some(false)) => None,
                (Some("first"), _) => Some(PrefixRule::StartOnly),
                _ => Some(PrefixRule::EachSection),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalisers_that_panic_or_grow_without_bound_are_refused() {
        let refused = |normalizer: Value| {
            let json = json!({"normalizer": normalizer, "model": {"type": "BPE", "vocab": {}, "merges": []}});
            load(&json).unwrap_err()
        };
        for charsmap in ["AAAA", "", "!", "/////w==", "AAAAAA=="] {
            let step = json!({"type": "Precompiled", "precompiled_charsmap": charsmap});
            assert!(refused(step).contains("precompiled_charsmap"), "{charsmap}");
        }
        let replace =
            json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(32)});
        let bomb = json!({"type": "Sequence", "normalizers": vec![replace; 12]});
        assert!(refused(bomb).contains("characters for one"));
    }
}
