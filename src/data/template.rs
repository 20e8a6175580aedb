//! Chat templates: Jinja as transformers sets it up, and where in the text the replies stand.
//!
//! The environment agrees with `apply_chat_template` of transformers: block tags swallow their line
//! break and indentation, Python's methods of strings, lists and maps work, `raise_exception` stops
//! with its message, `tojson` escapes nothing for HTML. `{% generation %}` marks become invisible
//! characters before compiling, whose places in the rendered text are the replies.
//!
//! `strftime_now` is left undefined: text that depends on today cannot be reproduced. A template that
//! asks whether it is defined takes its own fixed date; one that calls it regardless is refused.
//!
//! Templates come with models of strangers: what one render may do and write is bounded (`guard.rs`).

use super::error::DataError;
use super::jinja::{Source, prepare};
use super::lexemes::{CLOSE, OPEN};
use super::python;
use super::record::Message;
use crate::base::guarded;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};
use std::collections::BTreeMap;
use std::ops::Range;

const NAME: &str = "chat_template";
/// Fuel of one render: a step of the engine, or 64 bytes written or read, costs one. Real templates take
/// some hundreds a turn and read each byte a few times.
const FUEL: u64 = 500_000;
/// More for each turn, and for each two bytes of the conversation.
const FUEL_A_TURN: u64 = 5_000;
/// The most: what the longest row needs. A runaway template takes a second for it, and half a gigabyte.
const MOST_FUEL: u64 = 8_000_000;
/// Calls within calls of macros, each of which takes some of the stack. A macro counts four, a loop one.
const MAX_CALLS: usize = 250;

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
        let refuse = |reason: String| DataError::Template {
            origin: origin.clone(),
            reason,
        };
        let Source { text, marked } = prepare(source).map_err(refuse)?;
        let mut env = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        let compiled = syntax.and_then(|syntax| {
            env.set_syntax(syntax);
            env.set_recursion_limit(MAX_CALLS);
            // Errors name what is undefined, in every build.
            env.set_debug(true);
            python::install(&mut env);
            env.add_function("raise_exception", raise_exception);
            env.add_template_owned(NAME, text)
        });
        compiled.map_err(|e| refuse(describe(&e)))?;
        Ok(Self {
            env,
            origin,
            marked,
            special,
        })
    }

    /// Where it comes from, for messages.
    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the replies are marked.
    pub(super) fn marked(&self) -> bool {
        self.marked
    }

    /// The text of a special token by the name that templates use.
    pub(super) fn special(&self, name: &str) -> Option<&str> {
        self.special.get(name).map(String::as_str)
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
        let turns = messages.iter().map(|m| {
            let content = Value::from(m.content.as_str());
            Value::from_pairs([("role", Value::from(m.role.as_str())), ("content", content)])
        });
        context.insert("messages", turns.collect());
        context.insert("add_generation_prompt", Value::from(ask));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        let mut env = self.env.clone();
        env.set_fuel(Some(fuel(messages)));
        let text = guarded("the template engine", || {
            let template = env.get_template(NAME).map_err(|e| describe(&e))?;
            template
                .render(Value::from_pairs(context))
                .map_err(|e| describe(&e))
        })?;
        Ok(take_marks(&text))
    }
}

/// What a conversation may cost.
fn fuel(messages: &[Message]) -> u64 {
    fuel_for(
        messages.len(),
        messages.iter().map(|m| m.content.len()).sum(),
    )
}

/// What a render of so many turns and bytes may cost.
pub(super) fn fuel_for(turns: usize, bytes: usize) -> u64 {
    let turns = FUEL_A_TURN.saturating_mul(turns as u64);
    let fuel = FUEL.saturating_add(turns).saturating_add(bytes as u64 / 2);
    fuel.min(MOST_FUEL)
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
pub(super) fn describe(error: &Error) -> String {
    let detail = error.detail().unwrap_or_default();
    if error.kind() == ErrorKind::OutOfFuel {
        return "it does not come to an end: it asks for more work or text than any conversation \
                needs"
            .to_owned();
    }
    if detail.contains("strftime_now") {
        return "it writes today's date (`strftime_now`), so that the same data would give other \
                tokens tomorrow; write a fixed date into a copy and name that with \
                `model.chat-template`"
            .to_owned();
    }
    if let Some(raised) = detail.strip_prefix(RAISED) {
        return format!("the template refuses it: {}", beginning(raised));
    }
    let line = error
        .line()
        .map(|n| format!(", line {n}"))
        .unwrap_or_default();
    let kind = error.kind().to_string();
    if detail.is_empty() {
        format!("{kind}{line}")
    } else {
        format!("{kind}: {}{line}", beginning(detail))
    }
}

/// A text of a template for a message, which is no place for a whole conversation.
fn beginning(text: &str) -> String {
    const SHOWN: usize = 300;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const RAISED: &str = "raise_exception: ";

fn raise_exception(message: String) -> Result<Value, Error> {
    let detail = format!("{RAISED}{message}");
    Err(Error::new(ErrorKind::InvalidOperation, detail))
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

    fn text(source: &str) -> String {
        template(source).render(&talk(), false).unwrap().text
    }

    #[test]
    fn tojson_takes_the_options_of_json_dumps() {
        let dict = "{% set d = {'b': [1, 2.5, 1e20], 'a': {'ü': none}} %}";
        let cases = [
            ("d | tojson", r#"{"b": [1, 2.5, 1e+20], "a": {"ü": null}}"#),
            (
                "d | tojson(separators=(',', ':'))",
                r#"{"b":[1,2.5,1e+20],"a":{"ü":null}}"#,
            ),
            (
                "d | tojson(ensure_ascii=true, sort_keys=true)",
                r#"{"a": {"\u00fc": null}, "b": [1, 2.5, 1e+20]}"#,
            ),
            ("[{}, []] | tojson(indent=1)", "[\n {},\n []\n]"),
            (
                "[1] | tojson(indent='--', separators=(';', '='))",
                "[\n--1\n]",
            ),
        ];
        for (expression, want) in cases {
            assert_eq!(text(&format!("{dict}{{{{ {expression} }}}}")), want);
        }
        let unknown = template("{{ [1] | tojson(skipkeys=true) }}").render(&talk(), false);
        assert!(unknown.unwrap_err().contains("skipkeys"));
    }

    // A template with CRLF or a byte order mark writes what it writes with line feeds and without.
    #[test]
    fn line_ends_of_the_source_are_line_feeds() {
        let plain = "{% for m in messages %}\n{{ m.role }}:\n{% endfor %}\nend\n";
        let want = text(plain);
        assert_eq!(text(&plain.replace('\n', "\r\n")), want);
        assert_eq!(text(&format!("\u{feff}{plain}")), want);
        assert!(!want.contains('\r'));
    }

    #[test]
    fn none_is_not_iterable() {
        let source = "{% if tools is iterable and tools | length > 0 %}tools{% endif %}\
                      {% if documents is iterable %}documents{% endif %}\
                      {% if messages is iterable and 'a' is iterable %}yes{% endif %}";
        assert_eq!(text(source), "yes");
    }

    #[test]
    fn what_is_set_within_marks_is_not_seen_behind_them() {
        let source =
            "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}{% endgeneration %}{{ x }}";
        assert_eq!(text(source), "21");
    }

    /// Why a template is refused, compiled or rendered.
    fn refusal(source: &str) -> String {
        let compiled = ChatTemplate::compile(source, "`x`".to_owned(), BTreeMap::new());
        let said = match compiled {
            Ok(template) => match template.render(&talk(), false) {
                Ok(rendered) => panic!("{source}: {} bytes", rendered.text.len()),
                Err(reason) => reason,
            },
            Err(error) => error.to_string(),
        };
        assert!(!said.is_empty() && said.len() < 1000, "{source}: {said}");
        said
    }

    // Each would hang, use up memory or use up the stack without a bound.
    #[test]
    fn a_template_that_does_not_come_to_an_end_is_refused() {
        let bombs = [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}",
            "{% set ns = namespace(s='a' * 1000) %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
            "{% set ns = namespace(s='a' * 1000) %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
            "{% set ns = namespace(s='a' * 1000) %}{% for i in range(40) %}{% set ns.s = [ns.s, ns.s] | join %}{% endfor %}{{ ns.s }}",
            "{% set ns = namespace(s='ab' * 1000) %}{% for i in range(40) %}{% set ns.s = ns.s | replace('b', ns.s) %}{% endfor %}{{ ns.s }}",
            "{% for i in range(100000) %}{% for j in range(100000) %}aaaaaaaaaaaaaaaa{% endfor %}{% endfor %}",
            "{% set ns = namespace(x='a') %}{% for i in range(90) %}{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}{% endfor %}{{ ns.x }}",
            "{{ 'a' * 10000000000 }}",
            "{{ 'x' | indent(10000000000) }}",
            "{{ ('x\n' * 100000) | indent(100000, true, true) }}",
            "{{ '%9999999999d' | format(1) }}",
            "{{ '%9999999999d' % x }}",
            "{{ '%.9999999999f' % 1.5 }}",
            "{% for i in range(10000) %}{% set x = '%9999d' % 1 %}{% endfor %}",
            "{{ 'x' | center(10000000000) }}",
            "{{ 'x'.ljust(10000000000) }}",
            "{{ 'x'.zfill(10000000000) }}",
            "{{ '{:9999999999}'.format(1) }}",
            "{{ '{:{}}'.format(1, 9999999999) }}",
            "{% for i in range(10000) %}{% set x = '{:9999}'.format(1) %}{% endfor %}",
            "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
            "{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}",
            "{{ [[1] * 1000000] * 1000000 }}",
            "{{ (range(100000) | list) | join('b' * 1000000) }}",
            "{{ ('b' * 1000000).join(['a'] * 1000000) }}",
            "{{ ['a' * 1000000] * 1000000 }}",
            "{{ (['a' * 1000000] * 1000000) | join }}",
            "{{ (['a' * 1000000] * 1000000) | tojson }}",
            "{{ ''.join(['a' * 1000000] * 1000000) }}",
            "{{ ['a' * 1000000] * 1000000 ~ '' }}",
            "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}{{ ns.x | length }}",
            "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
            "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}",
            "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = {'a': ns.x, 'b': ns.x} %}{% endfor %}",
            "{% set ns = namespace(x=[]) %}{% for i in range(60) %}{% set ns.x = dict(a=ns.x, b=ns.x) %}{% endfor %}",
            "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x * 2 %}{% endfor %}{{ ns.x | length }}",
            "{% macro m(x, n) %}{% if n > 0 %}{{ m([x, x], n - 1) }}{% else %}{{ x ~ '' }}{% endif %}{% endmacro %}{{ m([1], 30) }}",
            "{{ [1] * 100000000 == [1] * 100000000 }}",
            "{{ [[1] * 100000000] == [[1] * 100000000] }}",
            "{% for a, b in [[1] * 100000000] %}{% endfor %}",
            "{% set a, b = [1] * 100000000 %}",
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "{{ range(100000) | slice(1000000000) | list | length }}",
            "{{ [1] | batch(10000000000, 1) | list | length }}",
            "{{ 'a\tb'.expandtabs(10000000000) }}",
            "{{ [1] | tojson(indent='x' * 1000000) | length }}{% for i in range(1000000) %}{% endfor %}",
            "{{ [1] | tojson(indent=10000000000) }}",
            "{{ raise_exception('a' * 1000000) }}",
            // The engine divides by the number of arguments.
            "{% for i in [1] %}{{ loop.cycle() }}{% endfor %}",
            "{% for i in [1] %}{{ loop.cycle(*[]) }}{% endfor %}",
        ];
        for bomb in bombs {
            refusal(bomb);
        }
    }

    // What the engine itself does at the price of one step: fifty times is more than a render may cost.
    #[test]
    fn a_step_is_paid_for_by_the_size_of_its_values() {
        let texts = "{% set a = 'x' * 1000000 %}{% set b = 'x' * 1000000 %}";
        let lists =
            "{% set x = range(1000) | list %}{% set a = [x] * 150 %}{% set b = [x] * 150 %}";
        let of_texts = [
            "a == b",
            "a < b",
            "a in b",
            "a in ['x', a]",
            "a[0]",
            "a[999999:]",
            "{}[a]",
            "{a: 1}",
            "[a]",
            "{}.get(a)",
            "a is eq(b)",
            "a is in(b)",
            "a is upper",
            "loop.changed(a)",
            "m(a)",
            "a ~ 'b'",
            "a + b",
            "a | first",
            "a.startswith(b)",
            "'%s' % a",
            "'{}'.format(a)",
        ];
        let of_lists = [
            "a == b",
            "a != b",
            "a <= b",
            "a in [b]",
            "[a]",
            "(a, 1)",
            "{'a': a}",
            "m(a)",
            "a ~ ''",
            "a | string",
            "a | trim",
            "a | join",
            "a | tojson",
            "a | sort",
            "a | unique",
            "a | max",
            "a | upper",
            "a | replace('a', 'b')",
            "a | map('list')",
            "a | select('eq', b)",
            "a | capitalize",
            "a | wordcount",
            "a | escape ~ ''",
            "'%s' % a",
            "'%s' | format(a)",
            "'{}'.format(a)",
            "a is eq(b)",
            "a.count(b)",
            "a.index(x)",
            "a + b",
            "a * 2",
            "{a: 1}",
        ];
        let both = of_texts.iter().map(|step| (texts, step));
        for (values, step) in both.chain(of_lists.iter().map(|step| (lists, step))) {
            let source = |times: usize| {
                format!(
                    "{{% macro m(x) %}}{{% endmacro %}}{values}{{% for i in range({times}) %}}\
                     {{% set y = {step} %}}{{% endfor %}}"
                )
            };
            let said = refusal(&source(50));
            assert!(said.contains("does not come to an end"), "{step}: {said}");
            template(&source(1)).render(&talk(), false).unwrap();
        }
        let through = "{% for i in range(50) %}{% for c in a %}{% break %}{% endfor %}{% endfor %}";
        assert!(refusal(&format!("{texts}{through}")).contains("does not come to an end"));
        // A step that costs the same for every size.
        for step in [
            "a | length",
            "a is string",
            "a is iterable",
            "a and b",
            "a if b",
        ] {
            let source =
                format!("{lists}{{% for i in range(50) %}}{{% set y = {step} %}}{{% endfor %}}");
            template(&source).render(&talk(), false).unwrap();
        }
    }

    #[test]
    fn values_are_bounded_in_depth_and_do_not_hold_themselves() {
        let deeper = [
            "[ns.x]",
            "(ns.x, 1)",
            "{'a': ns.x}",
            "dict(a=ns.x)",
            "namespace(a=ns.x)",
            "ns.x | batch(1) | list",
        ];
        for deeper in deeper {
            let said = refusal(&format!(
                "{{% set ns = namespace(x=[1]) %}}{{% for i in range(1000) %}}\
                 {{% set ns.x = {deeper} %}}{{% endfor %}}"
            ));
            let bounded = said.contains("deep") || said.contains("might hold itself");
            assert!(bounded, "{deeper}: {said}");
        }
        let around = [
            "{% set ns = namespace() %}{% set ns.x = ns %}",
            "{% set ns = namespace() %}{% set ns.x = [1, {'a': ns}] %}",
            "{% for x in [1] %}{% if loop.changed(loop) %}{% endif %}{% endfor %}",
            "{% set ns = namespace() %}{% for x in [1] %}{% set ns.x = loop %}{% endfor %}",
            "{% set ns = namespace() %}{% set ns.x = [ns] | map('items') | list %}",
        ];
        for source in around {
            let said = refusal(source);
            assert!(said.contains("might hold itself"), "{source}: {said}");
        }
        let chain = "{% set ns = namespace(x=[1, 2]) %}{% for i in range(3000) %}\
                     {% set ns.x = ns.x[0:] * 1 %}{% endfor %}{{ ns.x }}";
        assert_eq!(text(chain), "[1, 2]");
    }

    // The longest conversations that are read have room.
    #[test]
    fn a_long_conversation_is_no_bomb() {
        let source = "{% set ns = namespace(kept=[]) %}{% for m in messages %}\
                      {% if loop.index0 == messages | length - 1 %}last{% endif %}\
                      {% if messages | selectattr('role', 'equalto', 'system') | list %}s{% endif %}\
                      {% set ns.kept = ns.kept + [m] %}{{ '<' + m.role + '>' + m.content | trim + '</s>' }}\
                      {% endfor %}{{ ns.kept | length }}";
        let template = template(source);
        let many = vec![Message::new("user", "A few words in each turn."); 500];
        let rendered = template.render(&many, false).unwrap();
        assert!(rendered.text.ends_with("500"));
        let long = vec![Message::new("user", "word ".repeat(1 << 20)); 3];
        assert!(template.render(&long, false).unwrap().text.len() > 15 << 20);
    }

    // What only transformers lacks would be text that it does not write.
    #[test]
    fn filters_and_functions_that_jinja_has_not_are_unknown() {
        for source in [
            "{{ [1] | bool }}",
            "{{ 'a' | lines }}",
            "{{ 'a' | split }}",
            "{{ [1] | zip([2]) }}",
            "{{ [1] | chain([2]) }}",
            "{{ messages | pprint }}",
            "{{ messages[0] | attr('role') }}",
            "{{ debug() }}",
            "{% include 'chat_template' %}",
            "{% block a %}{% endblock %}",
            "{% do messages.append(1) %}",
        ] {
            refusal(source);
        }
    }

    // What jinja2 3.1.6 makes of the first: `&lt;u&gt;Hi <you>`.
    #[test]
    fn what_jinja_would_escape_is_refused_with_its_line_and_the_remedy() {
        let said = refusal("a\n{{ '<u>' + messages[0].content|safe }}");
        for part in ["`safe`", "`~`", "line 2"] {
            assert!(said.contains(part), "{said}");
        }
        let mapped = "{{ messages | map(attribute='content') | map('e') | first }}";
        let said = refusal(mapped);
        assert!(said.contains("map: the value of `e`"), "{said}");
        let joined = "{{ '<u>' ~ messages[0].content|safe }}{{ messages[0].content|e|safe }}";
        assert_eq!(text(joined), "<u>Hi <you>Hi &lt;you&gt;");
        // What `~` joins is escaped anew.
        let again = "{{ (messages[0].content|e ~ messages[1].content|safe)|e }}";
        assert_eq!(text(again), "Hi &amp;lt;you&amp;gt;Ho");
    }

    // The first as in the templates of Qwen 3.5: what jinja2 3.1.6 makes of it.
    #[test]
    fn a_variable_of_a_loop_may_hold_what_jinja_escapes_by() {
        let set = "{% set c = m.content | tojson | safe if loop.first else m.content | string %}";
        let each = |body: &str| format!("{{% for m in messages %}}{set}{body}{{% endfor %}}");
        let written = each("{{- c }}{{ c ~ '<' }}") + "{% set c = 'a' %}{{ c + '<' }}";
        assert_eq!(text(&written), "\"Hi <you>\"\"Hi <you>\"<HoHo<a<");
        // As in those of Mistral: what is not such a value there goes on.
        let either = "{% if loop.first %}{{ c }}{% else %}{{ '<' + c | trim }}{% endif %}";
        assert_eq!(text(&each(either)), "\"Hi <you>\"<Ho");
        for source in [
            each("{{ '<' + c }}"),
            each("{{ c | trim }}"),
            each("{% if m %}{% set d = c %}{% endif %}{{ [d] }}"),
            each("{% set d = c, 1 %}"),
            "{% set c = messages[0].content | safe %}{{ c }}".to_owned(),
        ] {
            let said = refusal(&source);
            assert!(said.contains("`safe`") && said.contains("`~`"), "{said}");
        }
        // Whatever its size.
        let many: String = (0..200)
            .map(|n| format!("{{% set x{n} = m | safe %}}"))
            .collect();
        refusal(&each(&many));
    }

    #[test]
    fn a_date_is_refused_only_if_the_template_insists() {
        let insists = template("{{ strftime_now('%Y') }}");
        let reason = insists.render(&talk(), false).unwrap_err();
        assert!(reason.starts_with("it writes today's date"), "{reason}");
        let hidden = "{% macro head() %}{{ strftime_now('%Y') }}{% endmacro %}{{ head() }}";
        let reason = template(hidden).render(&talk(), false).unwrap_err();
        assert!(reason.contains("`model.chat-template`"), "{reason}");
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
                .starts_with("chat template of `x`: an operand is missing"),
            "{error}"
        );
        assert!(error.to_string().ends_with("line 2"), "{error}");
        let special = BTreeMap::new();
        let open = ChatTemplate::compile("a\n{% if x %}", "`x`".to_owned(), special).unwrap_err();
        assert!(
            open.to_string()
                .starts_with("chat template of `x`: syntax error"),
            "{open}"
        );
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
