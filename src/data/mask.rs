//! Where in a rendered conversation the replies stand.

use super::record::Message;
use super::template::{ChatTemplate, Rendered};
use super::tokenize::PieceTokenizer;
use std::ops::Range;

/// What to do about a template in which replies cannot be found.
pub(super) const REMEDY: &str = "mark replies with `{% generation %}` and `{% endgeneration %}` in a \
                                 copy of the template, and name that with `model.chat-template`";

/// Stands for a reply's text while the text behind it is looked for; a noncharacter.
const PROBE: &str = "\u{FDD2}";

/// Finds the replies of one conversation.
#[derive(Clone, Copy)]
pub(super) struct Replies<'a> {
    pub(super) template: &'a ChatTemplate,
    pub(super) tokenizer: &'a PieceTokenizer,
    /// The text of the token that ends a reply.
    pub(super) end_text: &'a str,
    pub(super) messages: &'a [Message],
    /// Whether the conversation is rendered up to where the next reply begins.
    pub(super) ask: bool,
}

impl Replies<'_> {
    /// Byte ranges of the assistant's turns in `rendered`, in order and without overlap, each with its
    /// end token and without what the template writes after that. A template that writes its end token
    /// once, behind the last reply, gives the earlier ones none.
    ///
    /// With `{% generation %}` marks those are taken. Without, a reply is what the conversation has
    /// beyond the same conversation cut before the reply and rendered with the generation prompt: the
    /// part that the model itself has to write.
    pub(super) fn spans(&self, rendered: &Rendered) -> Result<Vec<Range<usize>>, String> {
        let messages = self.messages;
        let replies: Vec<usize> = (0..messages.len())
            .filter(|&i| messages[i].role == "assistant")
            .collect();
        let spans: Vec<Range<usize>> = if self.template.marked() {
            if rendered.spans.len() != replies.len() {
                return Err(format!(
                    "the template marks {} of {} replies; put every reply between `{{% generation %}}` \
                     and `{{% endgeneration %}}` in a copy of it, and name that with \
                     `model.chat-template`",
                    rendered.spans.len(),
                    replies.len()
                ));
            }
            let marked = replies.iter().zip(&rendered.spans).enumerate();
            let spans = marked.map(|(n, (&k, span))| self.with_end(&rendered.text, span, n, k));
            spans.collect::<Result<_, _>>()?
        } else {
            let spans = replies.iter().enumerate();
            let spans = spans.map(|(n, &k)| self.by_prefix(&rendered.text, n, k));
            spans.collect::<Result<_, _>>()?
        };
        ascending(&spans, &rendered.text)?;
        Ok(spans)
    }

    /// A marked span as it is, or up to its end token if that stands right behind it. Where the token
    /// closes the marked text, so does what the mark holds after it: a line break, other tokens of the
    /// template. Anywhere else it is a part of the reply.
    fn with_end(
        &self,
        text: &str,
        span: &Range<usize>,
        n: usize,
        k: usize,
    ) -> Result<Range<usize>, String> {
        let after = text[span.end..].trim_start();
        if after.starts_with(self.end_text) {
            return Ok(span.start..text.len() - after.len() + self.end_text.len());
        }
        let body = text[span.clone()].trim_end();
        let behind = body.rfind(self.end_text).map(|at| at + self.end_text.len());
        let closed = behind.is_some_and(|end| self.tokenizer.only_added(&body[end..]));
        if closed || k + 1 < self.messages.len() {
            return Ok(span.clone());
        }
        Err(no_end(self.end_text, n, k))
    }

    /// The span of `messages[k]`, reply `n` from 0, found by rendering the conversation up to it.
    fn by_prefix(&self, text: &str, n: usize, k: usize) -> Result<Range<usize>, String> {
        let before = self.template.render(&self.messages[..k], true)?.text;
        if !text.starts_with(&before) {
            return Err(format!(
                "the template writes the turns before reply {} (message {}) otherwise when the reply \
                 follows; {REMEDY}",
                n + 1,
                k + 1
            ));
        }
        let start = before.len();
        let upto = self.template.render(&self.messages[..=k], false)?.text;
        let end_text = self.end_text;
        if text.starts_with(&upto) && upto.len() > start {
            let mut found = upto[start..].match_indices(end_text);
            if let (Some((at, _)), None) = (found.next(), found.next()) {
                let end = start + at + end_text.len();
                if upto[end..].trim().is_empty() {
                    return Ok(start..end);
                }
            }
        }
        self.by_probe(text, start, n, k)
    }

    /// The span of `messages[k]` that begins at `start`: it ends where the text begins that the
    /// template writes behind any reply there. So a reply may hold the end token's text, and the
    /// template may write a reply in another way when others follow.
    fn by_probe(
        &self,
        text: &str,
        start: usize,
        n: usize,
        k: usize,
    ) -> Result<Range<usize>, String> {
        let lost = || {
            format!(
                "reply {} (message {}) cannot be found in the rendered text, as the template writes \
                 something else for it; {REMEDY}",
                n + 1,
                k + 1
            )
        };
        if self.messages.iter().any(|m| m.content.contains(PROBE)) {
            return Err("the text contains the noncharacter U+FDD2".to_owned());
        }
        let behind = self.behind(self.messages, k, self.ask)?.ok_or_else(lost)?;
        let alone = self
            .behind(&self.messages[..=k], k, false)?
            .ok_or_else(lost)?;
        let body_end = text.len().checked_sub(behind.len()).ok_or_else(lost)?;
        if !text.ends_with(&behind) || body_end < start {
            return Err(lost());
        }
        let at = alone.find(self.end_text);
        let at = at.ok_or_else(|| no_end(self.end_text, n, k))?;
        let whole = at + self.end_text.len();
        if behind.starts_with(&alone[..whole]) {
            return Ok(start..body_end + whole);
        }
        // The end token stands behind the last reply only: the others end with what is always written.
        let closing = if behind.starts_with(&alone[..at]) {
            at
        } else {
            0
        };
        Ok(start..body_end + closing)
    }

    /// What the template writes behind the text of `messages[k]`; none if that is not written.
    fn behind(&self, messages: &[Message], k: usize, ask: bool) -> Result<Option<String>, String> {
        let mut probe = messages.to_vec();
        PROBE.clone_into(&mut probe[k].content);
        let text = self.template.render(&probe, ask)?.text;
        Ok(text
            .rfind(PROBE)
            .map(|at| text[at + PROBE.len()..].to_owned()))
    }
}

fn no_end(end_text: &str, n: usize, k: usize) -> String {
    format!(
        "the template writes no `{end_text}` after reply {} (message {}), so that its end would not be \
         learnt; write it there in a copy of the template, and name that with `model.chat-template`",
        n + 1,
        k + 1
    )
}

/// Refuses spans that do not ascend, overlap, or cut a character: everything behind relies on it.
fn ascending(spans: &[Range<usize>], text: &str) -> Result<(), String> {
    let mut last = 0;
    for (i, span) in spans.iter().enumerate() {
        let cuts = text.is_char_boundary(span.start) && text.is_char_boundary(span.end);
        if span.start < last || span.end < span.start || !cuts {
            return Err(format!(
                "the template writes reply {} into another one; {REMEDY}",
                i + 1
            ));
        }
        last = span.end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_do_not_ascend_are_refused() {
        assert!(ascending(&[0..2, 2..2, 3..4], "abcd").is_ok());
        assert!(ascending(&[0..3, 2..4], "abcd").is_err());
        assert!(ascending(&[2..3, 0..1], "abcd").is_err());
        assert!(ascending(&[0..0, 0..9], "abcd").is_err());
        assert!(ascending(&[0..0, 0..1], "ü").is_err());
    }
}
