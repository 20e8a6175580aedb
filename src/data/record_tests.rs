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
        assert_eq!(row.id, "f-3");
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
fn unusable_chat_rows_say_why() {
    let cases = [
        (
            json!({"messages": [user("a"), {"role": "bot", "content": "b"}]}),
            "`messages[1]`: unknown role `bot`; known are `system`, `user` and `assistant`",
        ),
        (json!({"messages": [user("a"), bot(" ")]}), "empty response"),
        (json!({"messages": [user("a")]}), "no assistant turn"),
        (json!({"messages": [user(" "), bot("b")]}), "empty prompt"),
        (json!({"messages": [bot("b")]}), "empty prompt"),
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
            "`f.jsonl` is no chat data: its first row has the keys `chosen`, `prompt`, `rejected`; known forms are `messages`, `instruction` with `output`, `prompt` with `completion` or `response`",
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
            "`prompt` is missing and `chosen` and `rejected` do not begin alike",
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
