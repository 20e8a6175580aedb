//! Tokenizer and chat template of a model folder, as one thing: how text becomes tokens.

use super::error::DataError;
use super::mask::{REMEDY, Replies};
use super::pair::{PairEncoding, PairReport, TokenizedPair, check_limits, limit_pair};
use super::record::{CHOSEN_FINISHED, ChatRow, Message, Origin, PairRow, REJECTED_FINISHED};
use super::template::{ChatTemplate, Rendered};
use super::tokenize::{PieceTokenizer, TokenizedExample};
use super::tokenizer_file::TokenizerFile;
use crate::base::fs::read_to_string;
use crate::base::{ModelFile, counted};
use crate::config::spec::PairLimits;
use rayon::prelude::*;
use serde_json::Value;
use std::ops::Range;
use std::path::Path;

/// The tokenizer and the chat template of a model.
///
/// The template alone decides about the tokens at the beginning and the end: nothing is added to
/// what it writes, as in `apply_chat_template` of transformers, so no token comes twice.
#[derive(Debug)]
pub struct TextFormat {
    tokenizer: PieceTokenizer,
    template: ChatTemplate,
    bos: Option<u32>,
    pad: u32,
    end: u32,
    end_text: String,
}

impl TextFormat {
    /// Opens `tokenizer.json`, `tokenizer_config.json` and the template of a model folder.
    ///
    /// The template is `template_override`, else `chat_template.jinja`, else `chat_template` of
    /// `tokenizer_config.json` (a string, or a list whose `default` is taken). A trial conversation
    /// is rendered, so that a template that does not fit the tokenizer is refused here.
    ///
    /// # Errors
    /// A file is missing or broken, there is no template, or the template writes special tokens that
    /// the tokenizer lacks, or no special token after a reply.
    pub fn open(model_dir: &Path, template_override: Option<&Path>) -> Result<Self, DataError> {
        let TokenizerFile {
            json,
            named: special,
            config,
        } = TokenizerFile::open(model_dir)?;
        let tokenizer = PieceTokenizer::of(&ModelFile::Tokenizer.within(model_dir), json)?;
        let (source, origin) = find_template(model_dir, template_override, &config)?;
        let id = |name: &str| special.get(name).and_then(|text| tokenizer.single(text));
        let bos = id("bos_token");
        let pad = id("pad_token").or(id("eos_token")).or(id("unk_token"));
        for (name, text) in &special {
            if source.contains(name.as_str()) && tokenizer.single(text).is_none() {
                let reason = format!(
                    "it uses `{name}`, which is `{text}`, but the tokenizer has no such token"
                );
                return Err(DataError::Template { origin, reason });
            }
        }
        let template = ChatTemplate::compile(&source, origin, special)?;
        let end_text = try_out(&tokenizer, &template).map_err(|reason| DataError::Template {
            origin: template.origin().to_owned(),
            reason,
        })?;
        Ok(Self {
            bos,
            pad: pad.unwrap_or(0),
            end: tokenizer.single(&end_text).unwrap_or(0),
            end_text,
            tokenizer,
            template,
        })
    }

    /// Tokens and loss mask of a conversation.
    ///
    /// # Errors
    /// The template refuses the row, or no token of it counts as a target.
    pub fn encode_chat(&self, row: &ChatRow) -> Result<TokenizedExample, DataError> {
        let (tokens, loss_mask) = self
            .chat_tokens(&row.messages)
            .map_err(|e| row_error(&row.id, &row.origin, e))?;
        Ok(TokenizedExample {
            id: row.id.clone(),
            tokens,
            loss_mask,
            source: row.origin.path.clone(),
        })
    }

    /// [`Self::encode_chat`] of many rows on all threads, in their order.
    ///
    /// # Errors
    /// As for the first row that fails.
    pub fn encode_chats(&self, rows: &[ChatRow]) -> Result<Vec<TokenizedExample>, DataError> {
        let all: Vec<_> = rows.par_iter().map(|row| self.encode_chat(row)).collect();
        all.into_iter().collect()
    }

    /// Tokens up to where the assistant's next reply begins: what a sampler is given. They are the
    /// first tokens of every conversation that continues it.
    ///
    /// # Errors
    /// The template refuses the messages.
    pub fn encode_prompt(&self, messages: &[Message]) -> Result<Vec<u32>, DataError> {
        let asked = self.template.render(messages, true);
        asked
            .and_then(|asked| self.prompt_tokens(messages, &asked))
            .map_err(|reason| DataError::Template {
                origin: self.template.origin().to_owned(),
                reason,
            })
    }

    /// Tokens of a preference pair within `limits`.
    ///
    /// # Errors
    /// The template refuses the row, or the limits leave no room for a reply.
    pub fn encode_pair(
        &self,
        row: &PairRow,
        limits: &PairLimits,
    ) -> Result<PairEncoding, DataError> {
        check_limits(limits)?;
        let halves = || {
            let asked = self.template.render(&row.prompt, true)?;
            let prompt = self.prompt_tokens(&row.prompt, &asked)?;
            let reply =
                |reply: &[Message]| self.completion_tokens((&row.prompt, &asked.text), reply);
            let (mut chosen, mut rejected) = (reply(&row.chosen)?, reply(&row.rejected)?);
            for (key, reply) in [
                (CHOSEN_FINISHED, &mut chosen),
                (REJECTED_FINISHED, &mut rejected),
            ] {
                if row.extra.get(key) == Some(&Value::Bool(false)) && reply.len() > 1 {
                    reply.pop(); // the sampler never came to the end token
                }
            }
            Ok((prompt, chosen, rejected))
        };
        let (prompt, chosen, rejected) =
            halves().map_err(|e| row_error(&row.id, &row.origin, e))?;
        Ok(limit_pair(
            &row.id, prompt, chosen, rejected, limits, self.bos,
        ))
    }

    /// [`Self::encode_pair`] of many rows on all threads: the kept pairs in their order, and what
    /// became of all.
    ///
    /// # Errors
    /// As for the first row that fails, or no pair is kept.
    pub fn encode_pairs(
        &self,
        rows: &[PairRow],
        limits: &PairLimits,
    ) -> Result<(Vec<TokenizedPair>, PairReport), DataError> {
        let all: Vec<_> = rows
            .par_iter()
            .map(|row| self.encode_pair(row, limits))
            .collect();
        let mut report = PairReport::default();
        let mut kept = Vec::with_capacity(rows.len());
        for encoding in all {
            let encoding = encoding?;
            report.count(&encoding);
            if let PairEncoding::Kept(pair) = encoding {
                kept.push(pair);
            }
        }
        if kept.is_empty() {
            return Err(DataError::Limits(format!(
                "none of {} is left within `max-seq-len` {} and `max-prompt-len` {}",
                counted(rows.len(), "pair"),
                limits.max_seq_len,
                limits.max_prompt_len
            )));
        }
        Ok((kept, report))
    }

    /// Tokens of plain text, without template or special tokens at the ends.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let pieces = self.tokenizer.encode_pieces(text, &[]);
        Ok(pieces.map_err(DataError::Decode)?.concat())
    }

    /// The conversation as the template writes it.
    ///
    /// # Errors
    /// The template refuses the messages.
    pub fn render(&self, messages: &[Message], ask: bool) -> Result<String, DataError> {
        let rendered = self.template.render(messages, ask);
        let rendered = rendered.map_err(|reason| DataError::Template {
            origin: self.template.origin().to_owned(),
            reason,
        })?;
        Ok(rendered.text)
    }

    /// Refuses a template to which an empty system turn makes no difference.
    ///
    /// # Errors
    /// The template refuses a system turn, or writes nothing for an empty one.
    pub fn check_empty_system_turn(&self) -> Result<(), DataError> {
        let talk = [
            Message::new("system", ""),
            Message::new("user", "Hello"),
            Message::new("assistant", "World"),
        ];
        let texts = || {
            Ok((
                self.template.render(&talk, false)?,
                self.template.render(&talk[1..], false)?,
            ))
        };
        let reason: String = match texts() {
            Ok((with, without)) if with.text != without.text => return Ok(()),
            Ok(_) => "it writes nothing for an empty system turn".to_owned(),
            Err(reason) => reason,
        };
        Err(DataError::Template {
            origin: self.template.origin().to_owned(),
            reason: format!("`empty-system-turn` cannot be had: {reason}"),
        })
    }

    /// Text of `ids` without special tokens.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        self.tokenizer.decode(ids)
    }

    /// Text of one token for people: blanks as blanks, special tokens by name.
    pub fn token_text(&self, id: u32) -> String {
        self.tokenizer.token_text(id)
    }

    /// The token that ends a reply: where sampling stops.
    pub fn end_token(&self) -> u32 {
        self.end
    }

    /// The token at the beginning of a text, if the tokenizer names one.
    pub fn bos_token(&self) -> Option<u32> {
        self.bos
    }

    /// The token that fills padded rows: the pad token, else the one that ends texts.
    pub fn pad_token(&self) -> u32 {
        self.pad
    }

    /// One more than the highest token id.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn chat_tokens(&self, messages: &[Message]) -> Result<(Vec<u32>, Vec<bool>), String> {
        let rendered = self.template.render(messages, false)?;
        let (pieces, spans) = self.pieces(messages, &rendered, false)?;
        let mut trained = messages
            .iter()
            .filter(|m| m.role == "assistant")
            .map(|m| m.train);
        let mut tokens = Vec::new();
        let mut mask = Vec::new();
        for (i, piece) in pieces.into_iter().enumerate() {
            // Pieces alternate: outside, reply, outside, …
            let target = i % 2 == 1 && trained.next() == Some(true);
            mask.extend(std::iter::repeat_n(target, piece.len()));
            tokens.extend(piece);
        }
        self.check_start(&tokens)?;
        if let Some(first) = mask.first_mut() {
            *first = false;
        }
        if !mask.contains(&true) {
            return Err(format!(
                "no token of {} counts as a target",
                counted(spans.len(), "reply")
            ));
        }
        Ok((tokens, mask))
    }

    /// Tokens of a prompt, which the template writes as `asked`.
    fn prompt_tokens(&self, messages: &[Message], asked: &Rendered) -> Result<Vec<u32>, String> {
        let tokens = self.pieces(messages, asked, true)?.0.concat();
        self.check_start(&tokens)?;
        if tokens.is_empty() {
            return Err("the template writes nothing before the reply".to_owned());
        }
        Ok(tokens)
    }

    /// Tokens of a conversation, cut where replies begin and end, and where those stand in its text.
    #[expect(clippy::type_complexity, reason = "pieces, spans")]
    fn pieces(
        &self,
        messages: &[Message],
        rendered: &Rendered,
        ask: bool,
    ) -> Result<(Vec<Vec<u32>>, Vec<Range<usize>>), String> {
        let spans = self.replies(messages, ask).spans(rendered)?;
        let cuts: Vec<usize> = spans.iter().flat_map(|s| [s.start, s.end]).collect();
        Ok((self.tokenizer.encode_pieces(&rendered.text, &cuts)?, spans))
    }

    fn replies<'a>(&'a self, messages: &'a [Message], ask: bool) -> Replies<'a> {
        Replies {
            template: &self.template,
            tokenizer: &self.tokenizer,
            end_text: &self.end_text,
            messages,
            ask,
        }
    }

    /// Tokens of the reply with its end token, as the conversation with it has them.
    fn completion_tokens(
        &self,
        (prompt, before): (&[Message], &str),
        reply: &[Message],
    ) -> Result<Vec<u32>, String> {
        let talk = [prompt, reply].concat();
        let whole = self.template.render(&talk, false)?;
        if !whole.text.starts_with(before) {
            return Err(format!(
                "the conversation does not begin with its prompt as the template writes it; {REMEDY}"
            ));
        }
        let spans = self.replies(&talk, false).spans(&whole)?;
        let end = spans.last().map_or(0, |span| span.end);
        if end <= before.len() {
            return Err(format!("the template does not write the reply; {REMEDY}"));
        }
        let mut pieces = self
            .tokenizer
            .encode_pieces(&whole.text, &[before.len(), end])?;
        Ok(pieces.swap_remove(1))
    }

    fn check_start(&self, tokens: &[u32]) -> Result<(), String> {
        match (self.bos, tokens) {
            (Some(bos), [a, b, ..]) if *a == bos && *b == bos => Err(format!(
                "the text begins with `{}` twice",
                self.token_text(bos)
            )),
            _ => Ok(()),
        }
    }
}

fn row_error(id: &str, origin: &Origin, reason: String) -> DataError {
    DataError::Row {
        id: id.to_owned(),
        origin: origin.to_string(),
        reason,
    }
}

/// The template's source and where it comes from.
fn find_template(
    model_dir: &Path,
    template_override: Option<&Path>,
    config: &Value,
) -> Result<(String, String), DataError> {
    let own = ModelFile::ChatTemplate.within(model_dir);
    let file = template_override.or_else(|| own.exists().then_some(own.as_path()));
    if let Some(file) = file {
        return Ok((read_to_string(file)?, format!("`{}`", file.display())));
    }
    let source = match &config["chat_template"] {
        Value::String(text) => Some(text.clone()),
        Value::Array(list) => {
            Some(
                default_template(list).map_err(|names| DataError::NoDefault {
                    path: model_dir.to_owned(),
                    names,
                })?,
            )
        }
        _ => None,
    };
    let file = ModelFile::TokenizerConfig.within(model_dir);
    match source {
        Some(source) => Ok((source, format!("`{}`", file.display()))),
        None => Err(DataError::NoTemplate {
            path: model_dir.to_owned(),
        }),
    }
}

/// The template of a list that is called `default`, or the names of those that are there.
fn default_template(list: &[Value]) -> Result<String, Vec<String>> {
    let name = |entry: &Value| entry["name"].as_str().unwrap_or("").to_owned();
    let default = list.iter().find(|entry| entry["name"] == "default");
    let source = default.and_then(|entry| entry["template"].as_str());
    source
        .map(str::to_owned)
        .ok_or_else(|| list.iter().map(name).collect())
}

/// Renders a trial conversation; the text of the token that ends its reply, or what does not fit.
fn try_out(tokenizer: &PieceTokenizer, template: &ChatTemplate) -> Result<String, String> {
    let talk = [
        Message::new("user", "Hello"),
        Message::new("assistant", "World"),
    ];
    let asked = template.render(&talk[..1], true)?.text;
    let whole = template.render(&talk, false)?;
    let Some(at) = whole.text.rfind(&talk[1].content) else {
        return Err("it does not write the assistant's reply".to_owned());
    };
    let end = end_of_reply(tokenizer, template, &talk, &whole.text[at..]);
    // Turns may be marked with plain text by a template that ends replies with this tokenizer's own
    // token (Zephyr, Tülu); otherwise the two were not made for each other.
    let own_end = end
        .as_deref()
        .is_some_and(|end| template.special("eos_token") == Some(end));
    for token in special_looking(&whole.text) {
        let text_mark = own_end && token.starts_with("<|");
        if tokenizer.single(token).is_none() && !text_mark {
            return Err(format!(
                "it writes `{token}`, but the tokenizer has no such token; take the template that came \
                 with this tokenizer, or one that ends replies with its `eos_token`"
            ));
        }
    }
    if !whole.text.starts_with(&asked) && !template.marked() {
        return Err(format!(
            "with `add_generation_prompt` it does not write the beginning of the conversation, and \
             it has no `{{% generation %}}` marks, so that replies cannot be told from the rest; {REMEDY}"
        ));
    }
    end.ok_or_else(|| {
        "it writes no special token after the assistant's reply, so that a model would never \
         learn to stop; write `{{ eos_token }}` there in a copy of the template, and name that with \
         `model.chat-template`"
            .to_owned()
    })
}

/// The token that ends a reply: the last of those that follow every reply, else (a template may write
/// one at the end of the conversation only) the last one. `tail` is the conversation from its reply on.
fn end_of_reply(
    tokenizer: &PieceTokenizer,
    template: &ChatTemplate,
    talk: &[Message],
    tail: &str,
) -> Option<String> {
    let last = tokenizer.added_in(tail);
    let longer = [talk, &[Message::new("user", "Next")]].concat();
    let earlier = template.render(&longer, false).ok().and_then(|longer| {
        let at = longer.text.rfind(&talk[1].content)?;
        Some(tokenizer.added_in(&longer.text[at..]))
    });
    let same = |other: Vec<String>| last.iter().zip(other).take_while(|(a, b)| *a == b).count();
    let common = earlier.map_or(0, same);
    let end = common.checked_sub(1).map_or(last.last(), |i| last.get(i));
    end.filter(|end| tokenizer.single(end).is_some()).cloned()
}

/// Parts of a text that are meant as special tokens: `<|…|>`, and the usual names in brackets.
fn special_looking(text: &str) -> Vec<&str> {
    let usual = [
        "<s>",
        "</s>",
        "<bos>",
        "<eos>",
        "<start_of_turn>",
        "<end_of_turn>",
    ];
    let mut found: Vec<&str> = usual.into_iter().filter(|t| text.contains(t)).collect();
    let mut rest = text;
    while let Some(start) = rest.find("<|") {
        rest = &rest[start..];
        let end = rest.find("|>").map(|end| end + 2);
        let token = end
            .map(|end| &rest[..end])
            .filter(|t| !t.contains(char::is_whitespace));
        found.extend(token);
        rest = &rest[token.map_or(2, str::len)..];
    }
    found
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
