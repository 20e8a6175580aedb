//! Where in a rendered conversation the replies stand.

use super::record::Message;
use super::template::{ChatTemplate, Rendered};
use std::ops::Range;

/// Byte ranges of the assistant's turns of `messages` in `rendered`, each with its end token and
/// without what the template writes after that.
///
/// With `{% generation %}` marks those are taken. Without, a reply is what the conversation has
/// beyond the same conversation cut before the reply and rendered with the generation prompt: the
/// part that the model itself has to write.
pub(super) fn reply_spans(
    template: &ChatTemplate,
    messages: &[Message],
    rendered: &Rendered,
    end_text: &str,
) -> Result<Vec<Range<usize>>, String> {
    let is_reply = |m: &Message| m.role == "assistant";
    let replies: Vec<usize> = (0..messages.len())
        .filter(|&i| is_reply(&messages[i]))
        .collect();
    if !template.marked() {
        let spans = replies
            .iter()
            .map(|&k| span_by_prefix(template, messages, k, rendered, end_text));
        return spans.collect();
    }
    if rendered.spans.len() != replies.len() {
        return Err(format!(
            "the template marks {} of {} replies",
            rendered.spans.len(),
            replies.len()
        ));
    }
    let spans = rendered
        .spans
        .iter()
        .map(|span| with_end(&rendered.text, span.clone(), end_text));
    spans.collect()
}

/// A marked span up to its end token, which may stand right behind the mark.
fn with_end(text: &str, span: Range<usize>, end_text: &str) -> Result<Range<usize>, String> {
    if let Some(at) = text[span.clone()].rfind(end_text) {
        return Ok(span.start..span.start + at + end_text.len());
    }
    if text[span.end..].starts_with(end_text) {
        return Ok(span.start..span.end + end_text.len());
    }
    Err(format!("no `{end_text}` after a reply"))
}

/// The span of `messages[k]`, found by rendering the conversation up to it.
fn span_by_prefix(
    template: &ChatTemplate,
    messages: &[Message],
    k: usize,
    rendered: &Rendered,
    end_text: &str,
) -> Result<Range<usize>, String> {
    let text = rendered.text.as_str();
    let before = template.render(&messages[..k], true)?.text;
    if !text.starts_with(&before) {
        return Err(format!(
            "the template writes the turns before reply {} otherwise when it follows; mark replies \
             with `{{% generation %}}` in a copy of the template",
            k + 1
        ));
    }
    let start = before.len();
    let upto = template.render(&messages[..=k], false)?.text;
    if text.starts_with(&upto) && upto.len() > start {
        let end = upto[start..].rfind(end_text);
        let end = end.ok_or_else(|| format!("no `{end_text}` after reply {}", k + 1))?;
        return Ok(start..start + end + end_text.len());
    }
    // A template may write the last reply in another way (with an empty block of reasoning) than
    // the same reply further up; there it must follow the header at once.
    let content = messages[k].content.trim();
    let tail = text[start..].trim_start();
    let body = text.len() - tail.len() + content.len();
    if !tail.starts_with(content) {
        return Err(format!(
            "reply {} cannot be found in the rendered text",
            k + 1
        ));
    }
    let end = text[body..].find(end_text);
    let end = end.ok_or_else(|| format!("no `{end_text}` after reply {}", k + 1))?;
    Ok(start..body + end + end_text.len())
}
