//! The source of a chat template, made ready for the engine.
//!
//! Jinja2 reads every kind of line end as one line feed, and knows the block `generation` through
//! transformers. So the source is read here, tag by tag, and written anew; what is in a tag is read by
//! `expression.rs`.

use super::expression::Reader;
use super::lexemes::{CLOSE, OPEN, string_end};

/// Longer sources are no chat templates: the longest public ones have some 20 kB.
const MAX_SOURCE: usize = 1 << 20;
/// Blocks within blocks, and brackets within brackets: each level is a call of the engine's compiler.
const MAX_DEPTH: usize = 100;

/// A template as the engine reads it.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) text: String,
    /// Whether it marks replies with `{% generation %}`.
    pub(super) marked: bool,
}

/// Rewrites a template, or says why it is none.
pub(super) fn prepare(source: &str) -> Result<Source, String> {
    if source.len() > MAX_SOURCE {
        return Err(format!(
            "it has {} bytes, and {MAX_SOURCE} are the most",
            source.len()
        ));
    }
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.contains([OPEN, CLOSE]) {
        return Err("it contains the noncharacter U+FDD0 or U+FDD1".to_owned());
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    let mut marked = false;
    let mut blocks = Blocks::default();
    while let Some(at) = find_tag(rest) {
        out.push_str(&rest[..at]);
        let tag = &rest[at..];
        // The engine says where a tag without an end begins.
        let Some(end) = tag_end(tag)? else {
            rest = tag;
            break;
        };
        rest = &tag[end..];
        let tag = &tag[..end];
        if tag.starts_with("{#") {
            out.push_str(tag);
        } else if is_raw(tag) {
            // Nothing inside is a tag.
            let end = raw_end(rest).unwrap_or(rest.len());
            out.push_str(tag);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        } else {
            let written = write_tag(tag, &mut blocks, &mut marked);
            let line = || 1 + source[..source.len() - rest.len()].matches('\n').count();
            out.push_str(&written.map_err(|reason| format!("{reason}, line {}", line()))?);
        }
    }
    out.push_str(rest);
    Ok(Source { text: out, marked })
}

/// A tag as the engine is to read it.
fn write_tag(tag: &str, blocks: &mut Blocks, marked: &mut bool) -> Result<String, String> {
    let (open, body, close) = split_tag(tag);
    let reader = Reader::new(body)?;
    if tag.starts_with("{{") {
        let written = reader.within(blocks.markup()).print()?;
        return Ok(format!("{open}{written}{close}"));
    }
    let name = reader.name();
    blocks.count(name, &reader)?;
    Ok(match name {
        // A block of its own, as in transformers: what is set in it is not seen behind it.
        "generation" if reader.len() == 1 => {
            *marked = true;
            format!("{open} with %}}{{% if true %}}{OPEN}{{% endif {close}")
        }
        "endgeneration" if reader.len() == 1 => {
            format!("{open} if true %}}{CLOSE}{{% endif %}}{{% endwith {close}")
        }
        "endraw" => tag.to_owned(),
        _ => {
            let written = reader.within(blocks.markup()).statement()?;
            format!("{open}{written}{close}")
        }
    })
}

/// Where the next tag or comment begins.
fn find_tag(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let begins = |pair: &[u8]| matches!(pair, b"{%" | b"{{" | b"{#");
    bytes.windows(2).position(begins)
}

/// Where a tag that begins at the start of `tag` ends; none if it does not.
fn tag_end(tag: &str) -> Result<Option<usize>, String> {
    if let Some(comment) = tag.strip_prefix("{#") {
        return Ok(comment.find("#}").map(|at| at + 4));
    }
    let bytes = tag.as_bytes();
    let close: &[u8] = if tag.starts_with("{{") { b"}}" } else { b"%}" };
    let (mut at, mut open) = (2, 0usize);
    while at < bytes.len() {
        if open == 0 && bytes[at..].starts_with(close) {
            return Ok(Some(at + 2));
        }
        match bytes[at] {
            b'"' | b'\'' => match string_end(bytes, at) {
                Some(end) => at = end,
                None => return Ok(None),
            },
            b'(' | b'[' | b'{' => {
                open += 1;
                at += 1;
            }
            b')' | b']' | b'}' => {
                open = open.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
        if open > MAX_DEPTH {
            return Err(format!(
                "it has more than {MAX_DEPTH} brackets within brackets"
            ));
        }
    }
    Ok(None)
}

/// The two ends of a tag with their signs for white space, and what is between.
fn split_tag(tag: &str) -> (&str, &str, &str) {
    let sign = |byte: Option<&u8>| matches!(byte, Some(b'-' | b'+'));
    let bytes = tag.as_bytes();
    let start = if sign(bytes.get(2)) && tag.len() > 4 {
        3
    } else {
        2
    };
    let mut end = tag.len() - 2;
    if end > start && sign(bytes.get(end - 1)) {
        end -= 1;
    }
    (&tag[..start], &tag[start..end], &tag[end..])
}

/// An open block.
#[derive(Debug)]
struct Block {
    branches: usize,
    /// How many of [`Blocks::markup`] are from before it, if what is set in it is not seen behind it.
    scope: Option<usize>,
}

/// The blocks that are open, each with its branches: the engine's compiler calls itself for every one.
#[derive(Debug, Default)]
struct Blocks {
    open: Vec<Block>,
    depth: usize,
    /// Variables of the open scopes that may hold `Markup`.
    markup: Vec<String>,
}

impl Blocks {
    /// The variables that hold `Markup` where the next tag stands; absent outside of every scope, where none may:
    /// what is set there is seen by macros that stand before it, too.
    fn markup(&mut self) -> Option<&mut Vec<String>> {
        let scoped = self.open.iter().any(|block| block.scope.is_some());
        scoped.then_some(&mut self.markup)
    }

    fn count(&mut self, name: &str, reader: &Reader) -> Result<(), String> {
        let opens = match name {
            "if" | "for" | "macro" | "call" | "filter" | "with" | "generation" => true,
            "set" => reader.sets_block(),
            _ => false,
        };
        match name {
            _ if opens => {
                let scope = (name != "if").then_some(self.markup.len());
                self.open.push(Block { branches: 1, scope });
                self.depth += 1;
            }
            "elif" => {
                if let Some(block) = self.open.last_mut() {
                    block.branches += 1;
                    self.depth += 1;
                }
            }
            // `raw` is not opened here: nothing is within it.
            _ if name.starts_with("end") && name != "endraw" => {
                if let Some(block) = self.open.pop() {
                    self.depth -= block.branches;
                    if let Some(before) = block.scope {
                        self.markup.truncate(before);
                    }
                }
            }
            _ => {}
        }
        if self.depth > MAX_DEPTH {
            return Err(format!("it has more than {MAX_DEPTH} blocks within blocks"));
        }
        Ok(())
    }
}

fn is_raw(tag: &str) -> bool {
    tag.starts_with("{%") && split_tag(tag).1.trim() == "raw"
}

/// Where the tag `endraw` begins.
fn raw_end(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = text[from..].find("{%") {
        let tag = text[from + at + 2..]
            .trim_start_matches(['-', '+'])
            .trim_start();
        if tag.starts_with("endraw") {
            return Some(from + at);
        }
        from += at + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_a_byte_order_mark_are_read_as_jinja_reads_them() {
        let source = prepare("\u{feff}a\r\nb\rc\n").unwrap();
        assert_eq!(source.text, "a\nb\nc\n");
    }

    #[test]
    fn a_tag_ends_outside_strings_and_brackets() {
        let kept = "{{ '}} %}' }}{% if x == \"%}\" %}{{ {'a': {'b': 1}} }}{# {{ #}{% raw %}{% generation %}{% endraw %}";
        let source = prepare(kept).unwrap();
        assert_eq!(source.text, kept);
        assert!(!source.marked);
    }

    #[test]
    fn a_tag_without_blanks_is_read() {
        let kept = "{%if(x.y)%}{{-x-}}{%-else-%}{%endif%}{#-#}";
        assert_eq!(prepare(kept).unwrap().text, kept);
    }

    #[test]
    fn a_refusal_names_the_line() {
        let reason = prepare("a\n{% if x %}\n{{ y z }}").unwrap_err();
        assert_eq!(reason, "`z` is not expected where it stands, line 3");
    }

    #[test]
    fn deep_and_long_sources_are_refused() {
        let deep = "{% if true %}".repeat(20_000);
        assert!(prepare(&deep).unwrap_err().contains("blocks within blocks"));
        // What is closed within a branch does not close that.
        let within = [
            "",
            "{% raw %}{% endraw %}",
            "{% set x | indent(first=true) %}{% endset %}",
            "{% set x %}{% endset %}",
            "{% set x = a | trim %}",
        ];
        for within in within {
            let branches = format!("{{% if a %}}{within}{}", "{% elif a %}".repeat(20_000));
            let reason = prepare(&branches).unwrap_err();
            assert!(
                reason.contains("blocks within blocks"),
                "{within}: {reason}"
            );
        }
        let brackets = format!("{{{{ {}", "[".repeat(50_000));
        assert!(prepare(&brackets).unwrap_err().contains("brackets"));
        assert!(prepare(&"a".repeat(MAX_SOURCE + 1)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_source_is_read_to_its_end(source in r#"([{}%#'"\\ a(\[.|-]|generation|raw|\{%|%\}){0,40}"#) {
            drop(prepare(&source));
        }
    }
}
