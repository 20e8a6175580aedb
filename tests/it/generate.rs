//! `lions generate`: prompts, files of prompts, chats.

use crate::driver::signal;
use crate::project::{Project, Said};
use crate::session::Study;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

const MODEL: &str = "models/stories260k";

fn rows(said: &Said) -> Vec<Value> {
    assert_eq!(said.code, 0, "{said:?}");
    said.out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Runs the program with these lines on its input.
fn with_input(project: &Project, words: &[&str], input: &str) -> Said {
    let mut command = project.command(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    Said::of(&child.wait_with_output().unwrap())
}

// models/stories260k/expected.json: greedy continuation of BOS by transformers.
#[test]
fn a_text_is_continued_as_by_transformers_and_where_it_ends() {
    let project = Project::new();
    let expected: Value =
        serde_json::from_str(&project.read("models/stories260k/expected.json")).unwrap();
    let text = expected["greedy_from_bos"]["text"].as_str().unwrap();
    let generate = ["generate", MODEL, "--raw", "--temperature", "0"];
    let said = project.lions(&[&generate[..], &["", "--max-new-tokens", "60"]].concat());
    assert_eq!(said.code, 0, "{said:?}");
    let told = said.out.strip_suffix('\n').unwrap();
    assert!(told.len() > 100 && text.starts_with(told), "{told}");
    assert!(said.err.contains("cut off after 60 tokens"), "{said:?}");
    // Behind its own beginning it goes on with the blank that parts them.
    let begun = "Once upon a time, there was a";
    let said = project.lions(
        &[
            &generate[..],
            &[begun, "--max-new-tokens", "10", "--stop", "named"],
        ]
        .concat(),
    );
    assert_eq!(
        (said.out.as_str(), said.err.as_str()),
        (" little girl \n", "")
    );
}

// transformers' `generate` ends at each `eos_token_id` of `generation_config.json`, or without such a file of `config.json`.
#[test]
fn a_reply_ends_at_each_end_token_that_the_folder_names() {
    const FULL_STOP: u32 = 426;
    let project = Project::new();
    let own = "models/stories260k/generation_config.json";
    let said = |words: &[&str]| {
        let words = [&["generate", MODEL, "--temperature", "0", "--json"], words].concat();
        rows(&project.lions(&words))[0].clone()
    };
    let raw = ["--raw", "", "--max-new-tokens", "40"];
    let first = "Once upon a time, there was a little girl named Lily";
    assert!(
        said(&raw)["text"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{first}. "))
    );
    project.write(own, json!({"eos_token_id": [2, FULL_STOP]}).to_string());
    let raw_ended = said(&raw);
    assert_eq!(
        (&raw_ended["text"], &raw_ended["finish"]),
        (&json!(first), &json!("stop"))
    );
    let chat = ["Tell me a story.", "--max-new-tokens", "60"];
    let ended = said(&chat);
    assert!(!ended["text"].as_str().unwrap().contains('.'), "{ended}");
    assert_eq!(ended["finish"], "stop");
    std::fs::remove_file(project.path(own)).unwrap();
    assert_ne!(said(&raw), raw_ended);
    let config = project.read("models/stories260k/config.json");
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["eos_token_id"] = json!([FULL_STOP]);
    project.write("models/stories260k/config.json", config.to_string());
    assert_eq!(said(&raw), raw_ended);
}

#[test]
fn a_run_a_stage_of_a_sweep_and_a_folder_are_the_same_model() {
    let study = Study::shared();
    let (project, sft) = (&study.project, study.id("sft"));
    let with = |words: &[&str]| {
        let options = [
            "Tell me a story.",
            "--max-new-tokens",
            "16",
            "--json",
            "--seed",
            "5",
        ];
        rows(&project.lions(&[&["generate"], words, &options[..]].concat()))
    };
    let folder = format!("results/runs/{}/artifacts/model", &sft[..12]);
    let by_folder = with(&[&folder]);
    assert_eq!(by_folder.len(), 1);
    assert_eq!(by_folder[0]["prompt"], "Tell me a story.");
    let finish = by_folder[0]["finish"].as_str().unwrap();
    assert!(["stop", "length"].contains(&finish) && by_folder[0]["text"] != "");
    assert_eq!(with(&[&sft[..9]]), by_folder);
    let seed = &project.json(&["show", sft])["identity"]["seed"];
    let by_stage = with(&["study/sft", "--where", &format!("seed={seed}")]);
    assert_eq!(by_stage, by_folder);
    // Another stage, another model.
    let dpo = with(&[
        "study/dpo",
        "--where",
        &format!("seed={seed}"),
        "--where",
        "rate=0.01",
    ]);
    assert_ne!(dpo[0]["text"], by_folder[0]["text"]);
}

#[test]
fn prompts_of_a_file_are_answered_in_their_order_whatever_stands_beside_them() {
    let project = Project::new();
    project.write("p.jsonl", concat!(
        "\"Who are you?\"\n",
        "{\"prompt\": \"Tell me a story.\", \"id\": 7}\n",
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Tell me a story.\"}, {\"role\": \"assistant\", \"content\": \"No.\"}]}\n",
    ));
    let options = ["--temperature", "0", "--max-new-tokens", "12"];
    let with = |more: &[&str]| project.lions(&[&["generate", MODEL], &options[..], more].concat());
    let all = rows(&with(&["--prompts", "p.jsonl", "--json", "--samples", "2"]));
    let places: Vec<_> = all
        .iter()
        .map(|row| (row["index"].clone(), row["sample"].clone()))
        .collect();
    assert_eq!(
        places,
        [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)].map(|(a, b)| (json!(a), json!(b)))
    );
    // Greedy: samples are the same, and so is what is asked alone.
    assert_eq!(all[2]["text"], all[3]["text"]);
    assert_eq!(all[2]["text"], all[4]["text"]);
    let alone = rows(&with(&["Tell me a story.", "--json"]));
    assert_eq!(alone[0]["text"], all[2]["text"]);
    let system = rows(&with(&[
        "Tell me a story.",
        "--json",
        "--system",
        "Be brief.",
    ]));
    assert_ne!(system[0]["text"], alone[0]["text"]);
    project.write("p.txt", "Who are you?\n\nTell me a story.\n");
    let shown = with(&["--prompts", "p.txt"]);
    let text = |row: &Value| row["text"].as_str().unwrap().to_owned();
    let want = format!(
        "prompt 1, reply 1\n{}\n\nprompt 2, reply 1\n{}\n\n",
        text(&all[0]),
        text(&all[2])
    );
    assert_eq!(shown.out, want);
}

#[test]
fn a_chat_remembers_what_was_said_until_it_is_reset() {
    let project = Project::new();
    let words = [
        "generate",
        MODEL,
        "--temperature",
        "0",
        "--max-new-tokens",
        "8",
        "--json",
    ];
    let said = with_input(&project, &words, "Hello.\n\nHello.\n/reset\nHello.\n");
    let texts: Vec<Value> = rows(&said)
        .into_iter()
        .map(|row| row["text"].clone())
        .collect();
    assert_eq!(texts.len(), 3, "{said:?}");
    assert_eq!(texts[0], texts[2]);
    assert_ne!(
        texts[0], texts[1],
        "the second has the first turn before it"
    );
    // A conversation that has no room left is told so.
    let long = format!("{}\n", "word ".repeat(600));
    let said = with_input(&project, &words, &long);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("the model has room for 512") && !said.err.contains("/reset"),
        "{said:?}"
    );
}

/// A chat whose first reply was interrupted behind its first byte; none if the reply was whole before.
fn interrupted(
    project: &Project,
    words: &[&str],
    whole: &str,
) -> Option<(Child, ChildStdin, ChildStdout)> {
    let mut command = project.command(words);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"Tell me a story.\n").unwrap();
    let mut out = child.stdout.take().unwrap();
    let mut byte = [0];
    out.read_exact(&mut byte).unwrap();
    signal("INT", &child.id().to_string());
    let mut said = byte.to_vec();
    // The reply ends with a line of its own.
    let is_start = |said: &[u8]| whole.starts_with(std::str::from_utf8(said).unwrap_or(""));
    let is_over =
        |said: &[u8]| said.ends_with(b"\n") && (said.len() == whole.len() || !is_start(said));
    while !is_over(&said) && out.read_exact(&mut byte).is_ok() {
        said.extend(byte);
    }
    let cut = String::from_utf8(said).unwrap();
    if cut.len() >= whole.len() {
        child.kill().unwrap();
        child.wait().unwrap();
        return None;
    }
    assert!(whole.starts_with(cut.trim_end_matches('\n')), "{cut:?}");
    Some((child, input, out))
}

#[test]
fn an_interrupt_ends_the_reply_and_not_the_chat() {
    let project = Project::new();
    let words = [
        "generate",
        MODEL,
        "--temperature",
        "0",
        "--max-new-tokens",
        "400",
        "--stop",
        "\u{1}",
    ];
    let whole = with_input(&project, &words, "Tell me a story.\n").out;
    assert!(whole.len() > 200, "too short to interrupt: {whole}");
    // A reply takes some milliseconds: on a machine with other work the interrupt may come behind its end.
    let (mut child, mut input, mut out) = (0..20)
        .find_map(|_| interrupted(&project, &words, &whole))
        .expect("one of twenty interrupts comes in time");
    // The chat goes on, with what was said.
    input.write_all(b"/reset\nTell me a story.\n").unwrap();
    drop(input);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, whole);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

// A model may have learnt to write the codes of a terminal.
#[test]
fn what_steers_a_terminal_is_made_visible_and_json_keeps_it() {
    let project = Project::new();
    let path = "models/stories260k/tokenizer.json";
    let mut tokenizer: Value = serde_json::from_str(&project.read(path)).unwrap();
    let clear = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "\u{1b}[2J"});
    tokenizer["decoder"] = json!({"type": "Sequence", "decoders": [tokenizer["decoder"], clear]});
    project.write(path, tokenizer.to_string());
    let words = [
        "generate",
        MODEL,
        "Once",
        "--raw",
        "--temperature",
        "0",
        "--max-new-tokens",
        "12",
    ];
    let said = project.lions(&words);
    assert!(
        said.out.contains("\u{fffd}[2J") && !said.out.contains('\u{1b}'),
        "{said:?}"
    );
    let said = project.lions(&[&words[..], &["--json"]].concat());
    assert!(!said.out.contains('\u{1b}'));
    assert!(
        rows(&said)[0]["text"]
            .as_str()
            .unwrap()
            .contains("\u{1b}[2J")
    );
}
