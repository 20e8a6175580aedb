//! Claims about tokens and masks, on the shipped model and on small templates.

use super::*;
use crate::base::SeedTree;
use crate::config::spec::{DataSource, Truncation};
use crate::data::{load_chat, load_pairs};
use serde_json::json;

const MODEL: &str = "models/stories260k";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn stories() -> TextFormat {
    TextFormat::open(&root().join(MODEL), None).unwrap()
}

fn source(path: &str) -> Vec<DataSource> {
    vec![DataSource {
        path: path.into(),
        fraction: None,
        count: None,
        columns: std::collections::BTreeMap::new(),
        fold: None,
    }]
}

fn chats(path: &str) -> Vec<ChatRow> {
    load_chat(root(), &source(path), &SeedTree::root(0))
        .unwrap()
        .0
}

fn row(messages: Vec<Message>) -> ChatRow {
    ChatRow {
        id: "r".to_owned(),
        messages,
        extra: Value::Null,
        origin: Origin {
            path: "a.jsonl".to_owned(),
            row: 1,
        },
    }
}

fn talk(turns: &[&str]) -> Vec<Message> {
    let roles = ["user", "assistant"].into_iter().cycle();
    roles
        .zip(turns)
        .map(|(role, text)| Message::new(role, *text))
        .collect()
}

/// The shipped tokenizer with `template`, its added tokens being `added` instead of `<s>` and so on.
fn with_template(template: &str, added: &[&str]) -> Result<TextFormat, DataError> {
    let dir = tempfile::tempdir().unwrap();
    let text = read_to_string(&root().join(MODEL).join("tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let tokens = json["added_tokens"].as_array_mut().unwrap();
    for (i, text) in added.iter().enumerate() {
        tokens.push(
            json!({"id": 512 + i, "content": text, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}),
        );
    }
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
    let write = |name: &str, text: &str| {
        crate::base::write_atomic(&dir.path().join(name), text.as_bytes()).unwrap();
    };
    write("tokenizer.json", &json.to_string());
    write("tokenizer_config.json", &config.to_string());
    write("chat_template.jinja", template);
    TextFormat::open(dir.path(), None)
}

/// The texts of the runs of targets.
fn target_texts(format: &TextFormat, example: &TokenizedExample) -> Vec<String> {
    let mut runs: Vec<String> = Vec::new();
    let mut before = false;
    for (&id, &target) in example.tokens.iter().zip(&example.loss_mask) {
        if target && !before {
            runs.push(String::new());
        }
        if let (true, Some(run)) = (target, runs.last_mut()) {
            run.push_str(&format.token_text(id));
        }
        before = target;
    }
    runs
}

const CHATML: &str = "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const LLAMA3: &str = "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}";
const GEMMA: &str = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}{% if m['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = m['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}";
/// As Qwen 3: an empty block of reasoning before the last reply only.
const REASONING: &str = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m.content + '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

// Expected ids are of the sentencepiece library (`tokenizer_cases` of the shipped expected.json).
#[test]
fn the_shipped_tokenizer_gives_the_ids_of_sentencepiece() {
    let text = read_to_string(&root().join(MODEL).join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let cases = expected["tokenizer_cases"].as_array().unwrap();
    assert_eq!(cases.len(), 160);
    let format = stories();
    for case in cases {
        let ids: Vec<u32> = serde_json::from_value(case[1].clone()).unwrap();
        let text = case[0].as_str().unwrap();
        assert_eq!(format.encode_text(text).unwrap(), ids, "{text}");
        assert_eq!(format.decode(&ids).unwrap(), text);
    }
}

// Lengths of `logprob_cases`, counted by the script that made expected.json; 512 is its cut.
#[test]
fn shipped_stories_have_the_expected_prompt_and_total_lengths() {
    let text = read_to_string(&root().join(MODEL).join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let format = stories();
    let rows = chats("data/sft/stories_test.jsonl");
    for case in expected["logprob_cases"].as_array().unwrap() {
        let row = rows.iter().find(|r| case["id"] == *r.id).unwrap();
        let example = format.encode_chat(row).unwrap();
        assert_eq!(
            format.encode_prompt(row.prompt()).unwrap().len(),
            case["prompt_tokens"]
        );
        assert_eq!(example.tokens.len().min(512), case["total_tokens"]);
    }
}

#[test]
fn a_shipped_row_reads_as_documented() {
    let format = stories();
    let example = format
        .encode_chat(&row(talk(&["Hi there", "Oh no.", "Why?", "So."])))
        .unwrap();
    let text: String = example
        .tokens
        .iter()
        .map(|&id| format.token_text(id))
        .collect();
    assert_eq!(
        text,
        "<s> User: Hi there\nAssistant: Oh no.</s> User: Why?\nAssistant: So.</s>"
    );
    assert_eq!(target_texts(&format, &example), [" Oh no.</s>", " So.</s>"]);
    assert_eq!(format.end_token(), 2);
    assert_eq!(
        (format.bos_token(), format.pad_token(), format.vocab_size()),
        (Some(1), 2, 512)
    );
}

#[test]
fn a_prompt_to_sample_from_begins_the_same_row_in_training() {
    let formats = [
        stories(),
        with_template(CHATML, &["<|im_start|>", "<|im_end|>"]).unwrap(),
        with_template(
            LLAMA3,
            &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        )
        .unwrap(),
        with_template(GEMMA, &["<start_of_turn>", "<end_of_turn>"]).unwrap(),
    ];
    let turns = talk(&["Hi there", "Oh\n no.", " Why?\n", "  So it is. "]);
    for format in formats {
        let example = format.encode_chat(&row(turns.clone())).unwrap();
        for k in [1, 3] {
            let prompt = format.encode_prompt(&turns[..k]).unwrap();
            assert!(example.tokens.starts_with(&prompt));
            assert!(example.loss_mask[prompt.len()] && !example.loss_mask[prompt.len() - 1]);
        }
    }
}

#[test]
fn replies_are_found_without_generation_marks() {
    let turns = talk(&["Hi", "Oh no.", "Why", "So."]);
    let chatml = with_template(CHATML, &["<|im_start|>", "<|im_end|>"]).unwrap();
    let example = chatml.encode_chat(&row(turns.clone())).unwrap();
    assert_eq!(
        target_texts(&chatml, &example),
        ["Oh no.<|im_end|>", "So.<|im_end|>"]
    );
    let gemma = with_template(GEMMA, &["<start_of_turn>", "<end_of_turn>"]).unwrap();
    let example = gemma.encode_chat(&row(turns)).unwrap();
    assert_eq!(
        target_texts(&gemma, &example),
        ["Oh no.<end_of_turn>", "So.<end_of_turn>"]
    );
}

#[test]
fn a_template_that_changes_earlier_replies_still_finds_them() {
    let format = with_template(REASONING, &["<|im_start|>", "<|im_end|>"]).unwrap();
    let example = format
        .encode_chat(&row(talk(&["Hi", "Oh no.", "Why", "So."])))
        .unwrap();
    assert_eq!(
        target_texts(&format, &example),
        ["Oh no.<|im_end|>", "<think>\n\n</think>\n\nSo.<|im_end|>"]
    );
}

#[test]
fn marked_and_unmarked_templates_give_the_same_mask() {
    let marked = CHATML.replace(
        "{{'<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n'}}",
        "{{'<|im_start|>' + m['role'] + '\\n'}}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{{ '<|im_end|>' + '\\n'}}",
    );
    assert!(marked.contains("endgeneration"));
    let added = ["<|im_start|>", "<|im_end|>"];
    let (a, b) = (
        with_template(CHATML, &added).unwrap(),
        with_template(&marked, &added).unwrap(),
    );
    let row = row(talk(&["Hi", "Oh no.", "Why", "So."]));
    assert_eq!(a.encode_chat(&row).unwrap(), b.encode_chat(&row).unwrap());
}

/// Writes its end token once, at the end of the conversation.
const END_ONCE: &str = "{{ bos_token }}{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}{% else %}{{ eos_token }}{% endif %}";

#[test]
fn an_end_token_that_stands_once_belongs_to_the_last_reply() {
    let format = with_template(END_ONCE, &[]).unwrap();
    let turns = talk(&["One", "Two </s> two", "Three", "Four"]);
    let example = format.encode_chat(&row(turns.clone())).unwrap();
    assert_eq!(
        target_texts(&format, &example),
        ["Two </s>  two\n", "Four\n</s>"]
    );
    let prompt = format.encode_prompt(&turns[..3]).unwrap();
    assert!(example.tokens.starts_with(&prompt));
    let pair = PairRow {
        id: "p".to_owned(),
        prompt: turns[..3].to_vec(),
        chosen: turns[3..].to_vec(),
        rejected: vec![Message::new("assistant", "Five </s> no")],
        extra: Value::Null,
        origin: row(vec![]).origin,
    };
    let limits = PairLimits {
        max_seq_len: 512,
        max_prompt_len: 256,
        truncation: Truncation::Drop,
    };
    let PairEncoding::Kept(pair) = format.encode_pair(&pair, &limits).unwrap() else {
        panic!("dropped");
    };
    assert_eq!([pair.prompt, pair.chosen].concat(), example.tokens);
    assert_eq!(format.decode(&pair.rejected).unwrap().trim(), "Five   no");
}

// As in Phi-3's: each turn has its end, the conversation another one.
#[test]
fn the_end_of_a_turn_is_what_follows_every_reply() {
    let template = "{% for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}";
    let added = ["<|user|>", "<|assistant|>", "<|end|>"];
    let format = with_template(template, &added).unwrap();
    let example = format
        .encode_chat(&row(talk(&["One", "Two", "Three", "Four"])))
        .unwrap();
    assert_eq!(
        target_texts(&format, &example),
        ["Two<|end|>", "Four<|end|>"]
    );
    assert_eq!(format.token_text(format.end_token()), "<|end|>");
}

#[test]
fn a_reply_may_quote_the_end_token() {
    let turns = talk(&[
        "What ends?",
        "The mark </s> ends it, always.",
        "So",
        "A </s>",
    ]);
    let outside = "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ 'Assistant: ' }}{% generation %}{{ m['content'] }}{% endgeneration %}{{ eos_token }}{% else %}{{ 'User: ' + m['content'] + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}";
    let inside = outside.replace(
        "{% endgeneration %}{{ eos_token }}",
        "{{ eos_token }}{% endgeneration %}",
    );
    let unmarked = outside
        .replace("{% generation %}", "")
        .replace("{% endgeneration %}", "");
    for template in [outside, &inside, &unmarked] {
        let format = with_template(template, &[]).unwrap();
        let example = format.encode_chat(&row(turns.clone())).unwrap();
        assert_eq!(
            target_texts(&format, &example),
            // The tokenizer puts a blank of its own after each special token.
            ["The mark </s>  ends it, always.</s>", "A </s></s>"],
            "{template}"
        );
    }
}

#[test]
fn a_flagged_reply_is_read_and_is_no_target() {
    let format = stories();
    let mut turns = talk(&["Hi", "Oh no.", "Why", "So."]);
    let plain = format.encode_chat(&row(turns.clone())).unwrap();
    turns[1].train = false;
    let flagged = format.encode_chat(&row(turns.clone())).unwrap();
    assert_eq!(flagged.tokens, plain.tokens);
    assert_eq!(
        target_texts(&format, &flagged),
        target_texts(&format, &plain)[1..]
    );
}

// As Zephyr and Tülu have it: turns are marked by text, replies end with the tokenizer's own token.
#[test]
fn marks_may_be_plain_text_where_the_end_is_a_token() {
    let zephyr = "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<|user|>\\n' + m['content'] + eos_token }}{% elif m['role'] == 'system' %}{{ '<|system|>\\n' + m['content'] + eos_token }}{% else %}{{ '<|assistant|>\\n' + m['content'] + eos_token }}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}\n{% endfor %}";
    let format = with_template(zephyr, &[]).unwrap();
    let example = format
        .encode_chat(&row(talk(&["Hi", "Oh.", "Why", "So."])))
        .unwrap();
    assert_eq!(target_texts(&format, &example), ["\nOh.</s>", "\nSo.</s>"]);
    let ends_otherwise = zephyr.replace("eos_token", "'<|end|>'");
    let error = with_template(&ends_otherwise, &["<|end|>"]).unwrap_err();
    assert!(
        error.to_string().contains("it writes `<|user|>`"),
        "{error}"
    );
}

#[test]
fn a_template_that_takes_thoughts_out_of_earlier_replies_still_finds_them() {
    let template = "{{ bos_token }}{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' and not loop.last %}{{ m.content.split('</think>')[-1].strip() }}{% else %}{{ m.content }}{% endif %}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    let format = with_template(template, &[]).unwrap();
    let turns = talk(&[
        "One",
        "<think>hm</think>Two",
        "Three",
        "<think>so</think>Four",
    ]);
    let example = format.encode_chat(&row(turns)).unwrap();
    assert_eq!(
        target_texts(&format, &example),
        ["Two</s>", "<think>so</think>Four</s>"]
    );
}

#[test]
fn a_refusal_names_reply_and_remedy() {
    // The turns before a reply change when it follows.
    let counting = "{{ bos_token }}{{ messages | length }}{% for m in messages %}{{ m.role }}: {{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    let marked = counting.replace(
        "{% if m.role == 'assistant' %}{{ eos_token }}",
        "{% if m.role == 'assistant' %}{% generation %}{{ eos_token }}{% endgeneration %}",
    );
    assert!(with_template(counting, &[]).is_err());
    assert!(with_template(&marked, &[]).is_ok());
    let late = counting.replace(
        "{{ messages | length }}",
        "{% if messages | length > 3 %}long {% endif %}",
    );
    let format = with_template(&late, &[]).unwrap();
    let error = format.encode_chat(&row(talk(&["a", "b", "c", "d"])));
    assert_eq!(
        error.unwrap_err().to_string(),
        "row `r` (a.jsonl:1): the template writes the turns before reply 1 (message 2) otherwise when \
         the reply follows; mark replies with `{% generation %}` and `{% endgeneration %}` in a copy \
         of the template, and name that with `model.chat-template`"
    );
}

#[test]
fn templates_that_do_not_fit_are_refused_when_opened() {
    let refused = |template: &str| {
        with_template(template, &["<|im_end|>"])
            .unwrap_err()
            .to_string()
    };
    assert!(
        refused(CHATML).contains("it writes `<|im_start|>`, but the tokenizer has no such token")
    );
    let endless = "{% for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}";
    assert!(
        refused(endless).contains("never learn to stop"),
        "{}",
        refused(endless)
    );
    let silent = "{% for m in messages %}{{ m.role }}<|im_end|>{% endfor %}";
    assert!(refused(silent).contains("does not write the assistant's reply"));
    let dated = "{{ strftime_now('%d') }}";
    assert!(refused(dated).contains("today's date"));
}

#[test]
fn a_model_without_a_template_says_how_to_add_one() {
    let dir = tempfile::tempdir().unwrap();
    let from = root().join(MODEL).join("tokenizer.json");
    std::fs::copy(from, dir.path().join("tokenizer.json")).unwrap();
    let error = TextFormat::open(dir.path(), None).unwrap_err();
    assert!(
        error.to_string().contains("`model.chat-template`"),
        "{error}"
    );
}

#[test]
fn a_list_of_templates_is_asked_for_its_default() {
    let config = json!({"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]});
    let found = find_template(Path::new("/nowhere"), None, &config).unwrap();
    assert_eq!(found.0, "b");
}

#[test]
fn a_list_without_a_default_names_what_is_there() {
    let config = json!({"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "rag", "template": "b"}]});
    let error = find_template(Path::new("/nowhere"), None, &config).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`/nowhere` has no chat template called `default`, only `tool_use`, `rag`: write the one that \
         you want into `chat_template.jinja`, or name a file with `model.chat-template`"
    );
}

#[test]
fn a_refusing_template_names_the_row() {
    let gemma = with_template(GEMMA, &["<start_of_turn>", "<end_of_turn>"]).unwrap();
    let mut turns = talk(&["Hi", "Oh"]);
    turns.insert(0, Message::new("system", "Be."));
    assert_eq!(
        gemma.encode_chat(&row(turns)).unwrap_err().to_string(),
        "row `r` (a.jsonl:1): the template refuses it: System role not supported"
    );
}

#[test]
fn a_text_that_begins_twice_is_refused() {
    let twice = with_template(
        &LLAMA3.replace("{{ bos_token }}", "{{ bos_token }}{{ bos_token }}"),
        &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    )
    .unwrap();
    let error = twice.encode_chat(&row(talk(&["Hi", "Oh"]))).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("the text begins with `<s>` twice"),
        "{error}"
    );
}

// Cutting at the replies must not change tokens: the whole text read at once is the reference.
#[test]
fn shipped_rows_have_the_tokens_of_the_whole_text() {
    let format = stories();
    for path in [
        "data/sft/instruct_train.jsonl",
        "data/sft/stories_test.jsonl",
    ] {
        for row in chats(path) {
            let text = format.render(&row.messages, false).unwrap();
            let whole = format.encode_text(&text).unwrap();
            assert_eq!(
                format.encode_chat(&row).unwrap().tokens,
                whole,
                "{}",
                row.id
            );
        }
    }
}

#[test]
fn every_shipped_row_can_be_encoded() {
    let format = stories();
    for path in [
        "instruct_train",
        "instruct_test",
        "stories_train",
        "stories_test",
    ] {
        let rows = chats(&format!("data/sft/{path}.jsonl"));
        let examples = format.encode_chats(&rows).unwrap();
        assert_eq!(examples.len(), rows.len());
        assert!(examples.iter().all(|e| e.targets() > 0 && e.tokens[0] == 1));
    }
    let limits = PairLimits {
        max_seq_len: 512,
        max_prompt_len: 256,
        truncation: Truncation::KeepEnd,
    };
    for path in [
        "polite_train",
        "polite_test",
        "pandalm_human_train",
        "llmbar_test",
        "oasst_human_train",
    ] {
        let file = source(&format!("data/pref/{path}.jsonl"));
        let (rows, _) = load_pairs(root(), &file, &SeedTree::root(0)).unwrap();
        let (pairs, report) = format.encode_pairs(&rows, &limits).unwrap();
        assert_eq!(report.kept + report.dropped_equal, rows.len());
        assert_eq!(report.dropped_too_long, 0);
        for pair in pairs {
            assert!(pair.prompt.len() + pair.chosen.len().max(pair.rejected.len()) <= 512);
            assert_eq!(pair.prompt[0], 1);
            assert_eq!(
                pair.cut.chosen == 0,
                pair.chosen.last() == Some(&2),
                "{}",
                pair.id
            );
        }
    }
}

#[test]
fn a_pair_is_the_conversation_cut_at_the_reply() {
    let format = stories();
    let pair = PairRow {
        id: "p".to_owned(),
        prompt: talk(&["Hi", "Oh no.", "Why"]),
        chosen: vec![Message::new("assistant", "So.")],
        rejected: vec![Message::new("assistant", "No.")],
        extra: Value::Null,
        origin: Origin {
            path: "a.jsonl".to_owned(),
            row: 1,
        },
    };
    let limits = PairLimits {
        max_seq_len: 512,
        max_prompt_len: 256,
        truncation: Truncation::Drop,
    };
    let PairEncoding::Kept(tokens) = format.encode_pair(&pair, &limits).unwrap() else {
        panic!("dropped");
    };
    let whole = format
        .encode_chat(&row(talk(&["Hi", "Oh no.", "Why", "So."])))
        .unwrap();
    assert_eq!([tokens.prompt, tokens.chosen].concat(), whole.tokens);
}
