//! Claims about the forms of rows.

use super::*;
use serde_json::json;

fn raw(value: Value) -> RawRow {
    (3, value.as_object().cloned().unwrap())
}

fn chat(value: Value) -> Result<ChatRow, String> {
    let row = raw(value);
    let schema = chat_schema("f.jsonl", &row.1).map_err(|e| e.to_string())?;
    chat_row("f.jsonl", schema, row)
}

fn pair(value: Value) -> Result<PairRow, String> {
    pair_row("f.jsonl", raw(value))
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn bot(text: &str) -> Value {
    json!({"role": "assistant", "content": text})
}

#[test]
fn the_three_chat_forms_give_the_same_turns_and_keep_unknown_keys() {
    let want = vec![
        Message::new("user", "Add.\n1+1"),
        Message::new("assistant", "2"),
    ];
    let forms = [
        json!({"messages": [user("Add.\n1+1"), bot("2")], "constraints": {"name": "Fin"}}),
        json!({"instruction": "Add.", "input": "1+1", "output": "2", "constraints": {"name": "Fin"}}),
        json!({"prompt": "Add.\n1+1", "response": "2", "constraints": {"name": "Fin"}}),
        json!({"prompt": [user("Add.\n1+1")], "completion": [bot("2")], "constraints": {"name": "Fin"}}),
    ];
    for form in forms {
        let row = chat(form).unwrap();
        assert_eq!(row.messages, want);
        assert_eq!(row.extra["constraints"]["name"], "Fin");
        assert_eq!(row.id, "row-3");
        assert_eq!(row.prompt(), &want[..1]);
    }
}

#[test]
fn an_alpaca_row_without_input_is_the_instruction_alone() {
    let row = chat(json!({"id": 7, "instruction": "Hi", "input": "", "output": "Yes"})).unwrap();
    assert_eq!(row.id, "7");
    assert_eq!(row.messages[0].content, "Hi");
}

#[test]
fn columns_that_templates_are_told_of_are_refused_unless_they_say_nothing() {
    let turns = json!([user("a"), bot("b")]);
    for nothing in [
        json!(null),
        json!([]),
        json!(""),
        json!("[]"),
        json!({"x": null}),
    ] {
        for key in TOLD {
            let row = json!({"messages": turns, key: nothing});
            assert_eq!(chat(row).unwrap().messages.len(), 2, "{key}: {nothing}");
        }
    }
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    for (key, value) in [
        ("tools", tools),
        ("chat_template_kwargs", json!({"enable_thinking": false})),
    ] {
        let said = chat(json!({"messages": turns, key: value})).unwrap_err();
        assert!(
            said.starts_with(&format!("`{key}` is not supported")),
            "{said}"
        );
        let said = pair(json!({"prompt": "a", "chosen": "b", "rejected": "c", key: value}));
        assert!(said.unwrap_err().contains("take the column out"));
    }
}

#[test]
fn unusable_chat_rows_say_why() {
    let cases = [
        (
            json!({"messages": [user("a"), {"role": "bot", "content": "b"}]}),
            "`messages[1]`: unknown role `bot`; known are `system`, `user` and `assistant`",
        ),
        (json!({"messages": [user("a"), bot(" ")]}), "empty response"),
        (json!({"messages": [user("a")]}), "no assistant turn"),
        (json!({"messages": [user(" "), bot("b")]}), "empty prompt"),
        (
            json!({"messages": [bot("b")]}),
            "it begins with an assistant turn: there is no user turn before it",
        ),
        (
            json!({"messages": [bot("Hello!"), user("a"), bot("b")]}),
            "it begins with an assistant turn: there is no user turn before it",
        ),
        (
            json!({"messages": "a"}),
            "`messages` must be a list of messages, not a string",
        ),
        (
            json!({"messages": [user("a"), {"role": "assistant", "content": null}]}),
            "`messages[1]`: `content` must be a string, not null",
        ),
        (json!({"instruction": "a", "output": ""}), "empty response"),
        (
            json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
            "`f.jsonl` is no chat data: its first row has the keys `chosen`, `prompt`, `rejected`; known forms are `messages`, `conversations`, `instruction` with `output`, `prompt` with `completion` or `response`; other names can be given with `columns`",
        ),
    ];
    for (value, want) in cases {
        assert_eq!(chat(value).unwrap_err(), want);
    }
}

#[test]
fn pairs_of_every_form_have_the_same_halves() {
    let forms = [
        json!({"prompt": "q", "chosen": "good", "rejected": "bad"}),
        json!({"prompt": [user("q")], "chosen": "good", "rejected": "bad"}),
        json!({"prompt": "q", "chosen": [bot("good")], "rejected": [bot("bad")]}),
        // As in ultrafeedback_binarized: the prompt as a string, the halves whole conversations.
        json!({"prompt": "q", "chosen": [user("q"), bot("good")], "rejected": [user("q"), bot("bad")]}),
        json!({"chosen": [user("q"), bot("good")], "rejected": [user("q"), bot("bad")]}),
    ];
    for form in forms {
        let row = pair(form).unwrap();
        assert_eq!(row.prompt, [Message::new("user", "q")]);
        assert_eq!(row.chosen, [Message::new("assistant", "good")]);
        assert_eq!(row.rejected, [Message::new("assistant", "bad")]);
    }
}

#[test]
fn unusable_pairs_say_why() {
    let cases = [
        (
            json!({"prompt": [user("q"), bot("x")], "chosen": "b", "rejected": "a"}),
            "the prompt does not end with a user turn",
        ),
        (
            json!({"prompt": "q", "chosen": "a", "rejected": " a "}),
            "`chosen` and `rejected` are equal",
        ),
        (
            json!({"prompt": "q", "chosen": "", "rejected": "a"}),
            "empty response: `chosen`",
        ),
        (
            json!({"prompt": "", "chosen": "b", "rejected": "a"}),
            "empty prompt",
        ),
        (
            json!({"prompt": "q", "chosen": [user("z"), bot("b")], "rejected": "a"}),
            "`chosen` is a conversation that does not begin with `prompt`",
        ),
        (
            json!({"chosen": "b", "rejected": "a"}),
            "`prompt` is missing, and a reply alone does not hold it: give `prompt`, or write `chosen` and `rejected` as message lists of the whole conversation",
        ),
        (
            json!({"chosen": [user("q"), bot("a")], "rejected": [user("q"), bot("a")]}),
            "`chosen` and `rejected` are equal",
        ),
        (
            json!({"prompt": "q", "chosen": [bot("a"), user("b")], "rejected": "a"}),
            "`chosen` has 2 turns after the prompt, expected one",
        ),
    ];
    for (value, want) in cases {
        assert_eq!(pair(value).unwrap_err(), want);
    }
}

/// The turns of a row as `role: text`, for one look.
fn told(turns: &[Message]) -> Vec<String> {
    turns
        .iter()
        .map(|m| format!("{}: {}", m.role, m.content))
        .collect()
}

#[test]
fn null_and_empty_values_are_absent() {
    let chats = [
        json!({"id": null, "system": "", "messages": [user("Q"), {"role": "assistant", "content": "A", "tool_calls": [], "function_call": {"name": null}, "weight": null}]}),
        json!({"id": "", "messages": [], "prompt": "Q", "completion": null, "response": "A"}),
        json!({"messages": null, "instruction": "Q", "input": null, "output": "A", "history": [], "system": null}),
        json!({"prompt": [], "conversations": [user("Q"), bot("A")], "chosen": null, "rejected": null}),
    ];
    for form in chats {
        let row = chat(form).unwrap();
        assert_eq!(told(&row.messages), ["user: Q", "assistant: A"]);
        assert_eq!(row.id, "row-3");
    }
    let whole = [user("Q"), bot("A")];
    let other = [user("Q"), bot("B")];
    for prompt in [json!(null), json!(""), json!([])] {
        let row =
            pair(json!({"prompt": prompt, "system": null, "chosen": whole, "rejected": other}));
        assert_eq!(told(&row.unwrap().prompt), ["user: Q"]);
    }
    let missing = pair(json!({"prompt": null, "chosen": null, "rejected": "a"}));
    assert_eq!(missing.unwrap_err(), "`chosen` is missing");
    let called = json!({"role": "assistant", "content": "A", "tool_calls": [{"name": "f"}]});
    assert!(chat(json!({"messages": [user("Q"), called]})).is_err());
}

// transformers gives them to the template: without them the text would be another.
#[test]
fn thoughts_beside_a_reply_are_not_dropped_without_a_word() {
    for key in THOUGHTS {
        let reply = |thoughts: Value| {
            let mut reply = bot("A");
            reply[key] = thoughts;
            chat(json!({"messages": [user("Q"), reply]}))
        };
        let said = reply("Hm.".into()).unwrap_err();
        assert!(said.contains(key) && said.contains("`content`"), "{said}");
        for none in [json!(null), json!("")] {
            assert_eq!(
                told(&reply(none).unwrap().messages),
                ["user: Q", "assistant: A"]
            );
        }
    }
}

// Wherever the text of a system turn stands in a row, it is there once and first.
#[test]
fn a_system_column_is_the_first_turn_once() {
    let system = json!({"role": "system", "content": "Be."});
    let chats = [
        json!({"system": "Be.", "prompt": [system, user("Q")], "completion": "A"}),
        json!({"system": "Be.", "prompt": "Q", "completion": "A"}),
        json!({"system": "Be.", "messages": [user("Q"), bot("A")]}),
        json!({"system": "Be.", "messages": [system, user("Q"), bot("A")]}),
        json!({"system": "Be.", "instruction": "Q", "output": "A"}),
        json!({"system": "Be.", "conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}),
    ];
    for form in chats {
        let row = chat(form).unwrap();
        assert_eq!(
            told(&row.messages),
            ["system: Be.", "user: Q", "assistant: A"]
        );
    }
    let pairs = [
        json!({"system": "Be.", "prompt": [system, user("Q")], "chosen": "A", "rejected": "B"}),
        json!({"system": "Be.", "chosen": [system, user("Q"), bot("A")], "rejected": [system, user("Q"), bot("B")]}),
        json!({"system": "Be.", "chosen": [user("Q"), bot("A")], "rejected": [system, user("Q"), bot("B")]}),
        json!({"system": "Be.", "prompt": "Q", "chosen": [system, user("Q"), bot("A")], "rejected": [system, user("Q"), bot("B")]}),
        json!({"prompt": [system, user("Q")], "chosen": [user("Q"), bot("A")], "rejected": "B"}),
        json!({"system": "Be.", "prompt": "Q", "chosen": "A", "rejected": "B"}),
    ];
    for form in pairs {
        let row = pair(form).unwrap();
        assert_eq!(told(&row.prompt), ["system: Be.", "user: Q"]);
        assert_eq!(told(&row.chosen), ["assistant: A"]);
        assert_eq!(told(&row.rejected), ["assistant: B"]);
    }
    let two = json!({"system": "No.", "messages": [system, user("Q"), bot("A")]});
    assert_eq!(chat(two).unwrap_err(), "it has two different system texts");
}

#[test]
fn sharegpt_rows_are_read() {
    let human = json!({"from": "human", "value": "Q"});
    let gpt = |text: &str| json!({"from": "gpt", "value": text, "content": null});
    let row = chat(json!({"conversations": [{"from": "system", "value": "Be."}, human, gpt("A")]}));
    assert_eq!(
        told(&row.unwrap().messages),
        ["system: Be.", "user: Q", "assistant: A"]
    );
    let row = pair(json!({"conversations": [human], "chosen": gpt("A"), "rejected": gpt("B")}));
    let row = row.unwrap();
    assert_eq!(told(&row.prompt), ["user: Q"]);
    assert_eq!(told(&row.chosen), ["assistant: A"]);
    let tool = json!({"from": "observation", "value": "x"});
    let error = chat(json!({"conversations": [human, tool, gpt("A")]})).unwrap_err();
    assert!(error.contains("unknown role `observation`"), "{error}");
}

#[test]
fn transcripts_are_conversations() {
    let head = "\n\nHuman: Pick.\n\nTwo lines.\n\nAssistant: Which?\n\nHuman: One.\n\nAssistant:";
    let row =
        pair(json!({"chosen": format!("{head} good"), "rejected": format!("{head} bad\n\nor so")}));
    let row = row.unwrap();
    assert_eq!(
        told(&row.prompt),
        [
            "user: Pick.\n\nTwo lines.",
            "assistant: Which?",
            "user: One."
        ]
    );
    assert_eq!(told(&row.chosen), ["assistant: good"]);
    assert_eq!(told(&row.rejected), ["assistant: bad\n\nor so"]);
    let split = pair(json!({"prompt": head, "chosen": " good", "rejected": " bad"})).unwrap();
    assert_eq!(split.prompt, row.prompt);
    // A text that only speaks of a human is no transcript.
    let row = chat(json!({"prompt": "Human: or machine?", "completion": "Human: yes."})).unwrap();
    assert_eq!(
        told(&row.messages),
        ["user: Human: or machine?", "assistant: Human: yes."]
    );
}

#[test]
fn a_reply_with_weight_0_is_no_target() {
    let flagged =
        |key: &str, flag: Value| json!({"role": "assistant", "content": "bad", key: flag});
    let forms = [
        flagged("weight", json!(0)),
        flagged("weight", json!(0.0)),
        flagged("train", json!(false)),
        flagged("training", json!(false)),
        flagged("trainable", json!(false)),
    ];
    for bad in forms {
        let row = chat(json!({"messages": [user("a"), bad, user("b"), bot("good")]})).unwrap();
        let trained: Vec<bool> = row.messages.iter().map(|m| m.train).collect();
        assert_eq!(trained, [true, false, true, true]);
        let only = chat(json!({"messages": [user("a"), bad]})).unwrap_err();
        assert!(only.contains("`weight` 0"), "{only}");
        let half = pair(json!({"prompt": "a", "chosen": [bad], "rejected": "c"}));
        assert!(
            half.unwrap_err()
                .contains("`chosen` is marked as no target")
        );
    }
    let half = flagged("weight", json!(0.5));
    let error = chat(json!({"messages": [user("a"), half]})).unwrap_err();
    assert_eq!(error, "`messages[1]`: `weight` must be 0 or 1, not 0.5");
}

proptest::proptest! {
    // Strangers' rows: any JSON under the known keys is read or refused.
    #[test]
    fn no_row_makes_it_panic(values in proptest::collection::vec(0usize..14, 16)) {
        let any = [
            json!(null), json!(""), json!("a"), json!("\n\nHuman: a\n\nAssistant:"), json!([]), json!({}),
            json!([null]), json!([user("a"), bot("b")]), json!({"from": "gpt", "value": "x"}), json!(0),
            json!([{"role": "system", "content": "s"}, user("ü")]), json!(true), json!([["a"]]),
            json!({"role": "assistant", "content": "b", "weight": 0}),
        ];
        let keys = [
            "id", "system", "messages", "conversations", "prompt", "completion", "response", "chosen",
            "rejected", "instruction", "input", "output", "history", "role", "weight", "x",
        ];
        let row: Map<String, Value> = keys.iter().zip(values)
            .filter(|(_, i)| *i > 0)
            .map(|(key, i)| ((*key).to_owned(), any[i].clone()))
            .collect();
        drop(chat(Value::Object(row.clone())));
        drop(pair(Value::Object(row)));
    }
}
