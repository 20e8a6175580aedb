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
