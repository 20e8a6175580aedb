//! Chat templates: Jinja as transformers sets it up, and where in the text the replies stand.
//!
//! The environment agrees with `apply_chat_template` of transformers: block tags swallow their line
//! break and indentation, Python's methods of strings, lists and maps work, `raise_exception` stops
//! with its message, `tojson` escapes nothing for HTML. `{% generation %}` marks become invisible
//! characters before compiling, whose places in the rendered text are the replies.
//!
//! `strftime_now` is left undefined: text that depends on today cannot be reproduced. A template that
//! asks whether it is defined takes its own fixed date; one that calls it regardless is refused.

use super::error::DataError;
use super::record::Message;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat::unknown_method_callback;
use std::collections::BTreeMap;
use std::ops::Range;

/// Stand in the rendered text for `{% generation %}` and `{% endgeneration %}`. Both are
/// noncharacters, which no text that is to be exchanged may contain.
const OPEN: char = '\u{FDD0}';
const CLOSE: char = '\u{FDD1}';
const NAME: &str = "chat_template";

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    env: Environment<'static>,
    /// Where it comes from, for messages.
    origin: String,
    /// Whether the source marks replies with `{% generation %}`.
    marked: bool,
    /// `bos_token` and so on, by the name that templates use.
    special: BTreeMap<String, String>,
}

/// A rendered conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rendered {
    /// The text without marks.
    pub(super) text: String,
    /// Marked byte ranges of `text`, in order; empty without marks in the template.
    pub(super) spans: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Compiles `source`. `origin` names it in messages.
    pub(super) fn compile(
        source: &str,
        origin: String,
        special: BTreeMap<String, String>,
    ) -> Result<Self, DataError> {
        let (source, marked) = rewrite_generation_tags(source);
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        let compiled = syntax.and_then(|syntax| {
            env.set_syntax(syntax);
            env.set_unknown_method_callback(python_method);
            env.add_function("raise_exception", raise_exception);
            env.add_filter("tojson", tojson);
            env.add_template_owned(NAME, source)
        });
        match compiled {
            Ok(()) => Ok(Self {
                env,
                origin,
                marked,
                special,
            }),
            Err(e) => Err(DataError::Template {
                origin,
                reason: describe(&e),
            }),
        }
    }

    /// Where it comes from, for messages.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the replies are marked.
    pub(super) fn marked(&self) -> bool {
        self.marked
    }

    /// Renders `messages`; with `ask`, up to where the assistant's next reply begins.
    ///
    /// The error is a reason, to which the caller adds the row.
    pub(super) fn render(&self, messages: &[Message], ask: bool) -> Result<Rendered, String> {
        if messages.iter().any(|m| m.content.contains([OPEN, CLOSE])) {
            return Err("the text contains the noncharacter U+FDD0 or U+FDD1".to_owned());
        }
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        for (name, token) in &self.special {
            context.insert(name, Value::from(token.as_str()));
        }
        context.insert("messages", Value::from(Serde(&messages)));
        context.insert("add_generation_prompt", Value::from(ask));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        let template = self.env.get_template(NAME).map_err(|e| describe(&e))?;
        let text = template
            .render(Value::from_pairs(context))
            .map_err(|e| describe(&e))?;
        Ok(take_marks(&text))
    }
}

/// `{% generation %}` becomes `{% if true %}`, a mark and `{% endif %}`, each keeping its signs for
/// white space on its outer side, so that trimming does what it does in Jinja.
fn rewrite_generation_tags(source: &str) -> (String, bool) {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut marked = false;
    while let Some(at) = [rest.find("{%"), rest.find("{#")]
        .into_iter()
        .flatten()
        .min()
    {
        out.push_str(&rest[..at]);
        let tag = &rest[at..];
        let comment = tag.starts_with("{#");
        let Some(end) = tag.find(if comment { "#}" } else { "%}" }) else {
            rest = tag;
            break;
        };
        let inner = &tag[2..end];
        let left = inner.chars().next().filter(|c| matches!(c, '-' | '+'));
        let right = inner.chars().next_back().filter(|c| matches!(c, '-' | '+'));
        let mark = match inner.trim_matches(['-', '+']).trim() {
            "generation" => Some(OPEN),
            "endgeneration" => Some(CLOSE),
            _ => None,
        };
        if let (Some(mark), false) = (mark, comment) {
            let sign = |c: Option<char>| c.map(String::from).unwrap_or_default();
            let (left, right) = (sign(left), sign(right));
            let block = format!("{{%{left} if true %}}{mark}{{% endif {right}%}}");
            out.push_str(&block);
            marked = true;
        } else {
            out.push_str(&tag[..end + 2]);
        }
        rest = &tag[end + 2..];
    }
    out.push_str(rest);
    (out, marked)
}

/// Takes the marks out of a rendered text and notes where they stood.
fn take_marks(text: &str) -> Rendered {
    let mut out = String::with_capacity(text.len());
    let mut spans = Vec::new();
    let mut open = None;
    for c in text.chars() {
        match c {
            OPEN => open = Some(out.len()),
            CLOSE => spans.extend(open.take().map(|start| start..out.len())),
            c => out.push(c),
        }
    }
    Rendered { text: out, spans }
}

/// An engine error as one fragment with its line and, for `strftime_now`, the remedy.
fn describe(error: &Error) -> String {
    let detail = error.detail().unwrap_or_default();
    if detail.contains("strftime_now") {
        return "it writes today's date (`strftime_now`), so that the same data would give other \
                tokens tomorrow; write a fixed date into a copy and name that with \
                `model.chat-template`"
            .to_owned();
    }
    if let Some(raised) = detail.strip_prefix(RAISED) {
        return format!("the template refuses it: {raised}");
    }
    let line = error
        .line()
        .map(|n| format!(", line {n}"))
        .unwrap_or_default();
    let kind = error.kind().to_string();
    if detail.is_empty() {
        format!("{kind}{line}")
    } else {
        format!("{kind}: {detail}{line}")
    }
}

/// Python's methods. Of those that the library has, only `title` differs: Python begins a word after
/// every character that is no letter.
fn python_method(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    match (value.as_str(), method, args) {
        (Some(text), "title", []) => Ok(Value::from(python_title(text))),
        _ => unknown_method_callback(state, value, method, args),
    }
}

fn python_title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.extend(c.to_lowercase());
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    out
}

const RAISED: &str = "raise_exception: ";

fn raise_exception(message: String) -> Result<Value, Error> {
    let detail = format!("{RAISED}{message}");
    Err(Error::new(ErrorKind::InvalidOperation, detail))
}

/// `json.dumps(value, ensure_ascii=False)`: the engine's filter without its escapes for HTML.
fn tojson(value: &Value, indent: Option<Value>, args: Kwargs) -> Result<Value, Error> {
    // transformers' own defaults, which some templates write out.
    for known in ["ensure_ascii", "separators", "sort_keys"] {
        args.get::<Option<Value>>(known).map(drop)?;
    }
    let escaped = minijinja::filters::tojson(value, indent, args)?;
    Ok(Value::from(unescape_html(&escaped.to_string())))
}

/// Undoes `\u003c`, `\u003e`, `\u0026` and `\u0027`, but not behind an escaped backslash.
fn unescape_html(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let escapes = [
            ("\\u003c", '<'),
            ("\\u003e", '>'),
            ("\\u0026", '&'),
            ("\\u0027", '\''),
        ];
        if let Some((code, c)) = escapes.iter().find(|(code, _)| tail.starts_with(code)) {
            out.push(*c);
            rest = &tail[code.len()..];
        } else {
            // A backslash and the character that it escapes, which may be a backslash.
            let width = 1 + tail[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&tail[..width]);
            rest = &tail[width..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn template(source: &str) -> ChatTemplate {
        let special = BTreeMap::from([
            ("bos_token".to_owned(), "<s>".to_owned()),
            ("eos_token".to_owned(), "</s>".to_owned()),
        ]);
        ChatTemplate::compile(source, "`test`".to_owned(), special).unwrap()
    }

    fn talk() -> Vec<Message> {
        vec![
            Message::new("user", "Hi <you>"),
            Message::new("assistant", "Ho"),
        ]
    }

    // Jinja: a block tag takes the line break after it and the blanks before it; `-` takes all.
    #[test]
    fn marks_do_not_change_white_space_around_them() {
        let plain = "A\n  {% if true %}\nB\n  {%- endif %}\nC";
        let marked = "A\n  {% generation %}\nB\n  {%- endgeneration %}\nC";
        let want = template(plain).render(&[], false).unwrap().text;
        let got = template(marked).render(&[], false).unwrap();
        assert_eq!(want, "A\nBC");
        assert_eq!(got.text, want);
        assert_eq!(&got.text[got.spans[0].clone()], "B");
    }

    #[test]
    fn a_mark_in_a_comment_is_none() {
        assert!(!template("{# {% generation %} #}a").marked());
        assert!(template("{# {% #}{%- generation -%}a{% endgeneration %}").marked());
    }

    #[test]
    fn python_methods_and_raise_exception_work() {
        let source = "{% for m in messages %}{{ m['content'].strip().split(' ')[0] }}\
                      {% if m.role == 'x' %}{{ raise_exception('no x') }}{% endif %}{% endfor %}";
        let template = template(source);
        assert_eq!(template.render(&talk(), false).unwrap().text, "HiHo");
        let refused = template.render(&[Message::new("x", "y")], false);
        assert_eq!(refused.unwrap_err(), "the template refuses it: no x");
    }

    #[test]
    fn tojson_writes_what_python_writes() {
        let template = template("{{ messages | tojson }}");
        let text = template.render(&talk()[..1], false).unwrap().text;
        assert_eq!(text, r#"[{"role": "user", "content": "Hi <you>"}]"#);
    }

    #[test]
    fn a_date_is_refused_only_if_the_template_insists() {
        let insists = template("{{ strftime_now('%Y') }}");
        let reason = insists.render(&talk(), false).unwrap_err();
        assert!(reason.starts_with("it writes today's date"), "{reason}");
        let asks =
            "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}2024{% endif %}";
        assert_eq!(template(asks).render(&talk(), false).unwrap().text, "2024");
    }

    #[test]
    fn a_broken_template_names_its_line() {
        let special = BTreeMap::new();
        let error = ChatTemplate::compile("a\n{% if %}", "`x`".to_owned(), special).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("chat template of `x`: syntax error"),
            "{error}"
        );
        assert!(error.to_string().ends_with("line 2"), "{error}");
    }

    proptest! {
        #[test]
        fn unescaping_gives_back_every_string(text in r#"[<>&'"\\a-c0-9u\n]{0,20}"#) {
            let template = template("{{ messages[0].content | tojson }}");
            let json = template.render(&[Message::new("user", text.clone())], false).unwrap().text;
            prop_assert!(!json.contains("\\u003c"), "{json}");
            let back: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back, text);
        }
    }
}
