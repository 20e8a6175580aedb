//! Claims that templates, tokens and masks are those of transformers.
//!
//! Expected values: `tests/golden/make_templates.py` and `make_template_corpus.py`, whose versions stand in
//! the files.

use super::error::DataError;
use super::format::TextFormat;
use super::record::{ChatRow, Message, Origin};
use super::template::ChatTemplate;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/templates.json");
    serde_json::from_str(&crate::base::fs::read_to_string(&path).unwrap()).unwrap()
}

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

fn row(messages: Vec<Message>) -> ChatRow {
    ChatRow {
        id: "golden".to_owned(),
        messages,
        extra: Value::Null,
        origin: Origin {
            path: "templates.json".to_owned(),
            row: 1,
        },
    }
}

fn compile(source: &str) -> ChatTemplate {
    let special = BTreeMap::from([
        ("bos_token".to_owned(), "<s>".to_owned()),
        ("eos_token".to_owned(), "</s>".to_owned()),
    ]);
    ChatTemplate::compile(source, "golden".to_owned(), special).unwrap()
}

#[test]
fn templates_render_as_in_transformers() {
    let golden = golden();
    let cases = golden["rendered"].as_array().unwrap();
    assert_eq!(cases.len(), 36);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let template = compile(golden["templates"][name].as_str().unwrap());
        let got = template.render(&messages(&case["messages"]), case["ask"] == true);
        let Some(want) = case["text"].as_str() else {
            let refusal = format!(
                "the template refuses it: {}",
                case["error"].as_str().unwrap()
            );
            assert_eq!(got.unwrap_err(), refusal);
            continue;
        };
        let got = got.unwrap();
        assert_eq!(got.text, want, "{name}");
        // transformers counts characters, we count bytes.
        let chars = |byte: usize| got.text[..byte].chars().count();
        let spans: Vec<[usize; 2]> = got
            .spans
            .iter()
            .map(|s| [chars(s.start), chars(s.end)])
            .collect();
        let want: Vec<[usize; 2]> =
            serde_json::from_value(case["spans"].clone()).unwrap_or_default();
        assert_eq!(spans, want, "{name}");
    }
}

#[test]
fn shipped_rows_have_the_ids_and_the_mask_of_transformers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let format = TextFormat::open(&root.join("models/stories260k"), None).unwrap();
    let golden = golden();
    let cases = golden["encoded"].as_array().unwrap();
    assert_eq!(cases.len(), 23);
    for case in cases {
        let row = row(messages(&case["messages"]));
        let ids: Vec<u32> = serde_json::from_value(case["ids"].clone()).unwrap();
        let mask: Vec<u32> = serde_json::from_value(case["mask"].clone()).unwrap();
        let prompt: Vec<u32> = serde_json::from_value(case["prompt_ids"].clone()).unwrap();
        let example = format.encode_chat(&row).unwrap();
        assert_eq!(example.tokens, ids);
        let got: Vec<u32> = example.loss_mask.iter().map(|&m| u32::from(m)).collect();
        assert_eq!(got, mask, "{:?}", row.messages);
        assert_eq!(format.encode_prompt(row.prompt()).unwrap(), prompt);
    }
}

fn corpus() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/template_corpus.json");
    serde_json::from_str(&crate::base::fs::read_to_string(&path).unwrap()).unwrap()
}

/// What transformers renders, up to the last reply if `ask`; none where the template refuses that.
fn rendered(result: &Value, ask: bool) -> Option<&str> {
    let text = result["text"].as_str();
    if !ask {
        return text;
    }
    let (Some(text), Some(length)) = (text, result["asked"].as_u64()) else {
        return result["asked"].as_str();
    };
    let end = text.char_indices().nth(length as usize);
    Some(end.map_or(text, |(at, _)| &text[..at]))
}

// Small templates of our own with what public ones do, by conversations of every kind: the text is that
// of jinja2 with transformers' settings, or both refuse.
#[test]
fn the_corpus_renders_as_in_transformers() {
    let golden = corpus();
    let talks = golden["conversations"].as_array().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!((cases.len(), talks.len()), (146, 6));
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let template = compile(case["template"].as_str().unwrap());
        if case["dated"] == true {
            let reason = template.render(&messages(&talks[0]), false).unwrap_err();
            assert!(reason.contains("`model.chat-template`"), "{name}: {reason}");
        }
        for (talk, result) in talks.iter().zip(case["results"].as_array().unwrap()) {
            let talk = messages(talk);
            for (turns, ask) in [(&talk[..], false), (&talk[..talk.len() - 1], true)] {
                let got = template.render(turns, ask);
                let want = rendered(result, ask);
                if got.as_ref().ok().map(|got| &*got.text) != want {
                    wrong.push(format!("{name}, ask {ask}: {got:?}, not {want:?}"));
                }
                let (Ok(got), false) = (got, ask) else {
                    continue;
                };
                let chars = |byte: usize| got.text[..byte].chars().count();
                let spans = got.spans.iter().map(|s| [chars(s.start), chars(s.end)]);
                let spans: Vec<[usize; 2]> = spans.collect();
                let marks: Vec<[usize; 2]> =
                    serde_json::from_value(result["marks"].clone()).unwrap_or_default();
                if spans != marks {
                    wrong.push(format!("{name}: marks {spans:?}, not {marks:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The shipped tokenizer with a template of the corpus and the tokens that it needs.
fn format_of(case: &Value) -> Result<TextFormat, DataError> {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/stories260k");
    let text = crate::base::fs::read_to_string(&shipped.join("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&text).unwrap();
    let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
    for (i, text) in case["added"].as_array().unwrap().iter().enumerate() {
        tokens.push(
            json!({"id": 512 + i, "content": text, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}),
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        crate::base::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
    };
    write("tokenizer.json", &tokenizer.to_string());
    write(
        "tokenizer_config.json",
        r#"{"bos_token": "<s>", "eos_token": "</s>"}"#,
    );
    write("chat_template.jinja", case["template"].as_str().unwrap());
    TextFormat::open(dir.path(), None)
}

/// What is wrong with tokens and targets of a conversation, if anything is.
fn fault(format: &TextFormat, talk: &[Message], result: &Value) -> Option<String> {
    let got = format.encode_chat(&row(talk.to_vec()));
    let (got, want) = match (got, &result["tokens"]) {
        (Err(error), Value::Null) => {
            let said = error.to_string();
            let remedy = said.contains("`model.chat-template`");
            let right = match result["refused"].as_str() {
                Some(reason) => said.contains(reason) && remedy,
                None => said.contains("the template refuses it"),
            };
            return (!right).then_some(said);
        }
        (got, Value::Null) => return Some(format!("{got:?}")),
        (Err(error), _) => return Some(error.to_string()),
        (Ok(got), want) => (got, want),
    };
    let tokens: Vec<u32> = serde_json::from_value(want.clone()).unwrap();
    if got.tokens != tokens {
        return Some(format!("tokens {:?}, not {tokens:?}", got.tokens));
    }
    let targets: Vec<[usize; 2]> = serde_json::from_value(result["targets"].clone()).unwrap();
    let is_target = |i: usize| targets.iter().any(|[a, b]| (*a..*b).contains(&i));
    let mask: Vec<bool> = (0..tokens.len()).map(is_target).collect();
    if got.loss_mask != mask {
        return Some(format!("mask {:?}, not {targets:?}", got.loss_mask));
    }
    // Where the conversation begins with its prompt, so do its tokens.
    let [start, _] = *targets.last().unwrap();
    let prompt = format.encode_prompt(&talk[..talk.len() - 1]);
    let begins = result["asked"] == result["spans"].as_array().unwrap().last().unwrap()[0];
    match prompt {
        Ok(prompt) if begins && prompt != tokens[..start] => Some(format!("prompt {prompt:?}")),
        Err(error) if begins => Some(error.to_string()),
        _ => None,
    }
}

// The tokens are those of transformers, cut at the edges of replies where one lies across; the targets are
// found by a twin of each template that writes a sign where a reply begins and where it ends.
#[test]
fn the_corpus_has_the_tokens_and_targets_of_transformers() {
    let golden = corpus();
    let talks = golden["conversations"].as_array().unwrap();
    let (mut compared, mut masks, mut wrong) = (0, 0, Vec::new());
    for case in golden["cases"].as_array().unwrap() {
        if case["dated"] == true {
            continue;
        }
        let name = case["name"].as_str().unwrap();
        let format = match (format_of(case), case["refused"].as_str()) {
            (Ok(format), None) => format,
            (Err(error), Some(reason)) => {
                let said = error.to_string();
                if !said.contains(reason) || !said.contains("`model.chat-template`") {
                    wrong.push(format!("{name}: {said}"));
                }
                continue;
            }
            (opened, _) => {
                wrong.push(format!("{name}: {:?}", opened.err()));
                continue;
            }
        };
        for (i, result) in case["results"].as_array().unwrap().iter().enumerate() {
            compared += usize::from(!result["tokens"].is_null());
            masks += usize::from(result["mask"] == true);
            let fault = fault(&format, &messages(&talks[i]), result);
            wrong.extend(fault.map(|fault| format!("{name}, conversation {i}: {fault}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Of `masks` the targets are transformers' own; the others have no marks, or marks that leave the end
    // token out or go on behind it.
    assert_eq!((compared, masks), (729, 40));
}
