//! Claims that templates, tokens and masks are those of transformers.
//!
//! Expected values: `tests/golden/make_templates.py`, whose versions stand in the file.

use super::format::TextFormat;
use super::record::{ChatRow, Message, Origin};
use super::template::ChatTemplate;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/templates.json");
    serde_json::from_str(&crate::base::fs::read_to_string(&path).unwrap()).unwrap()
}

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
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
        let row = ChatRow {
            id: "golden".to_owned(),
            messages: messages(&case["messages"]),
            extra: Value::Null,
            origin: Origin {
                path: "templates.json".to_owned(),
                row: 1,
            },
        };
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

// Small templates of our own with what public ones do, by conversations of every kind: the text is that
// of jinja2 with transformers' settings, or both refuse.
#[test]
fn the_corpus_renders_as_in_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/template_corpus.json");
    let golden: Value =
        serde_json::from_str(&crate::base::fs::read_to_string(&path).unwrap()).unwrap();
    let talks = golden["conversations"].as_array().unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 60 && talks.len() == 6);
    let mut wrong = Vec::new();
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let template = compile(case["template"].as_str().unwrap());
        for (talk, want) in talks.iter().zip(case["results"].as_array().unwrap()) {
            let talk = messages(talk);
            for (ask, key) in [(false, "text"), (true, "asked")] {
                let turns = if ask {
                    &talk[..talk.len() - 1]
                } else {
                    &talk[..]
                };
                let got = template.render(turns, ask);
                // Where we refuse on purpose, the reason is pinned.
                let refused = case["refused"].as_str();
                let right = match (&got, want[key].as_str(), refused) {
                    (Err(reason), _, Some(pinned)) => reason.contains(pinned),
                    (Ok(got), Some(want), None) => got.text == want,
                    (Err(_), None, None) => true,
                    _ => false,
                };
                if !right {
                    wrong.push(format!("{name} {key}: {got:?}, not {:?}", want[key]));
                }
                let Ok(got) = got else { continue };
                let chars = |byte: usize| got.text[..byte].chars().count();
                let spans = got.spans.iter().map(|s| [chars(s.start), chars(s.end)]);
                let spans: Vec<[usize; 2]> = spans.collect();
                let marks: Vec<[usize; 2]> =
                    serde_json::from_value(want["marks"].clone()).unwrap_or_default();
                if !ask && spans != marks {
                    wrong.push(format!("{name}: marks {spans:?}, not {marks:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
