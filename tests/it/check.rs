//! What `lions check` says of data files, model folders and sizes, before anything runs.

use crate::project::{Project, Said, copy_tree};
use std::fs;

/// A sweep of SFT and DPO on this project's files; `more` is laid on.
fn study(project: &Project, more: &str) {
    project.write(
        "sweeps/mine.toml",
        format!(
            r#"extends = ["base/mini.toml"]

[sweep]
name = "mine"
question = "Is what I use fit to be used?"
seeds = [1]

[base]
pipeline = ["sft", "dpo"]

{more}
"#
        ),
    );
}

fn check(project: &Project) -> Said {
    project.lions(&["check", "sweeps/mine.toml"])
}

/// A project whose pairs lie in `data/mine/pairs.jsonl`, twenty good rows, and are what DPO reads.
fn with_pairs() -> Project {
    let project = Project::new();
    project.write("data/mine/pairs.jsonl", pairs(20));
    study(
        &project,
        "[base.dpo.recipe]\ndata = [{ path = \"data/mine/pairs.jsonl\" }]",
    );
    project
}

fn pairs(count: usize) -> String {
    let row = |n| {
        format!(
            "{{\"prompt\": \"Name fruit {n}.\", \"chosen\": \"A plum.\", \"rejected\": \"No {n}.\"}}\n"
        )
    };
    (0..count).map(row).collect()
}

#[test]
fn bad_rows_are_found_by_check_plan_and_run_at_their_line() {
    let project = with_pairs();
    let good = pairs(20);
    let line = good.lines().nth(16).unwrap();
    let cases: [(Vec<u8>, &str); 4] = [
        (
            good.replace(line, &line[..line.len() - 1]).into_bytes(),
            "data/mine/pairs.jsonl:17:70: EOF while parsing an object",
        ),
        (
            {
                let mut bytes = good.clone().into_bytes();
                let at = good.find(line).unwrap() + 30;
                bytes[at] = 0xff;
                bytes
            },
            "data/mine/pairs.jsonl:17:31: not UTF-8",
        ),
        (
            good.replace(line, &line.replace("A plum.", ""))
                .into_bytes(),
            "data/mine/pairs.jsonl:17: empty response: `chosen`",
        ),
        (
            good.replace(line, r#"{"prompt": "Q", "chosen": "A"}"#)
                .into_bytes(),
            "data/mine/pairs.jsonl:17: `rejected` is missing",
        ),
    ];
    for (text, want) in cases {
        project.write("data/mine/pairs.jsonl", text);
        let said = check(&project);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(want), "{want} in {said:?}");
        assert!(said.err.contains("fix the row"), "{said:?}");
        for command in ["run", "plan"] {
            let said = project.lions(&[command, "sweeps/mine.toml"]);
            assert!(said.err.contains(want), "{command}: {said:?}");
            assert_eq!(said.code, i32::from(command == "run"), "{said:?}");
        }
        assert!(!project.path("results/runs").exists(), "something ran");
    }
    project.write("data/mine/pairs.jsonl", good);
    assert_eq!(check(&project).code, 0);
}

#[test]
fn a_file_of_another_form_is_found_before_the_first_stage() {
    let project = with_pairs();
    project.edit(
        "sweeps/mine.toml",
        "data/mine/pairs.jsonl",
        "data/sft/instruct_train.jsonl",
    );
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("is no preference data"), "{said:?}");
    assert!(
        said.err
            .contains("known forms are `chosen` with `rejected`"),
        "{said:?}"
    );
}

#[test]
fn numbers_that_the_data_cannot_give_are_named_at_their_place() {
    let path = "data = [{ path = \"data/mine/pairs.jsonl\" }]";
    for (to, place, words) in [
        (
            format!("{path}\nmax-examples = 5000"),
            "sweeps/mine.toml:13:16",
            "`max-examples` is 5000, but the data has 20 examples",
        ),
        (
            "data = [{ path = \"data/mine/pairs.jsonl\", count = 21 }]".to_owned(),
            "sweeps/mine.toml:12:51",
            "`count` is 21, but `data/mine/pairs.jsonl` has 20 rows",
        ),
        (
            "data = [{ path = \"data/mine/pairs.jsonl\", fraction = 0.02 }]".to_owned(),
            "sweeps/mine.toml:12:54",
            "this `fraction` of 20 rows is less than one",
        ),
        (
            format!(
                "{path}\nlimits = {{ max-seq-len = 8, max-prompt-len = 7, truncation = \"drop\" }}"
            ),
            "sweeps/mine.toml:13:26",
            "none of the 20 pairs looked at is left",
        ),
        (
            format!("{path}\nglobal-batch-size = 20"),
            "sweeps/base/mini.toml",
            "nothing would be trained: the only step runs with rate 0",
        ),
    ] {
        let project = with_pairs();
        project.edit("sweeps/mine.toml", path, &to);
        let said = check(&project);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(place), "{place} in {said:?}");
        assert!(said.err.contains(words), "{words} in {said:?}");
        assert!(said.err.contains("help: "), "{said:?}");
    }
}

#[test]
fn a_few_examples_of_many_are_planned_too() {
    let project = Project::new();
    let row = |n| format!("{{\"prompt\": \"Say {n}.\", \"completion\": \"It is {n}.\"}}\n");
    project.write(
        "data/mine/many.jsonl",
        (0..300).map(row).collect::<String>(),
    );
    study(
        &project,
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/many.jsonl\" }]\nmax-examples = 8\n\
         batch = { rows = 8 }\nduration = { epochs = 1 }",
    );
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    let words = "nothing would be trained: the only step runs with rate 0";
    assert!(said.err.contains(words), "{said:?}");
}

#[test]
fn a_number_of_rows_is_not_asked_of_the_beginning_of_a_large_file() {
    let project = Project::new();
    let note = "x".repeat(80 << 10);
    let row = |n| {
        format!(
            "{{\"prompt\": \"Say {n}.\", \"completion\": \"It is {n}.\", \"note\": \"{note}\"}}\n"
        )
    };
    // Of 220 rows of 80 KiB the first 204 are looked at.
    let rows: String = (0..220).map(row).collect();
    project.write("data/mine/large.jsonl", rows);
    study(
        &project,
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/large.jsonl\", count = 210 }]",
    );
    let said = check(&project);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
}

#[test]
fn what_trials_have_in_common_is_told_once() {
    let project = with_pairs();
    let path = "data = [{ path = \"data/mine/pairs.jsonl\" }]";
    let axis = "[[axis]]\npath = \"dpo.recipe.beta\"\nvalues = [0.1, 0.5]";
    let wrong = format!("{path}\nmax-examples = 5000\n\n{axis}");
    project.edit("sweeps/mine.toml", path, &wrong);
    project.edit("sweeps/mine.toml", "seeds = [1]", "seeds = [1, 2]");
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.err.matches("error: ").count(), 1, "{said:?}");
    let verdict = "not ok `mine`: 1 problem in 2 configurations, 4 trials";
    assert!(said.out.contains(verdict), "{said:?}");
}

#[test]
fn prompts_that_leave_nothing_to_learn_are_told() {
    let project = Project::new();
    let row = |n| {
        let prompt = "word ".repeat(400);
        format!("{{\"prompt\": \"{prompt}\", \"completion\": \"short {n}\"}}\n")
    };
    project.write("data/mine/long.jsonl", (0..3).map(row).collect::<String>());
    study(
        &project,
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/long.jsonl\" }]\nmax-seq-len = 256",
    );
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    let words = "none of the 3 rows looked at has a token to learn among its first 256";
    assert!(said.err.contains(words), "{said:?}");
    assert!(said.err.contains("sweeps/mine.toml:13:15"), "{said:?}");
    // A prompt is something to learn where all tokens count.
    let limit = "max-seq-len = 256";
    let all = format!("{limit}\nloss-mask = \"all-tokens\"");
    project.edit("sweeps/mine.toml", limit, &all);
    assert_eq!(check(&project).code, 0);

    // A sample proves nothing: row 101 is none of the 64 that are looked at, and is short.
    project.edit("sweeps/mine.toml", &all, limit);
    let short = "{\"prompt\": \"a\", \"completion\": \"b\"}\n".to_owned();
    let rows = (0..200).map(|n| if n == 100 { short.clone() } else { row(n) });
    project.write("data/mine/long.jsonl", rows.collect::<String>());
    let said = check(&project);
    assert_eq!(said.code, 0, "{said:?}");
    let words =
        "warning: sweeps/mine.toml:13:15: none of the 64 rows looked at has a token to learn";
    assert!(said.err.contains(words), "{said:?}");
    let deep = project.lions(&["check", "sweeps/mine.toml", "--deep"]);
    assert_eq!((deep.code, deep.err.as_str()), (0, ""), "{deep:?}");
}

#[test]
fn rows_behind_the_sample_are_looked_at_on_request() {
    let project = with_pairs();
    let good = pairs(200);
    // The row is well-formed, and no template writes it: its text holds a noncharacter.
    let line = good.lines().nth(100).unwrap();
    let bad = line.replace("A plum", "A \u{fdd0}plum");
    project.write("data/mine/pairs.jsonl", good.replace(line, &bad));
    let said = check(&project);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let deep = project.lions(&["check", "sweeps/mine.toml", "--deep"]);
    assert_eq!(deep.code, 1, "{deep:?}");
    let words = "data/mine/pairs.jsonl:101: the text contains the noncharacter";
    assert!(deep.err.contains(words), "{deep:?}");

    // A file that two sets share does not hide the next.
    project.write("data/mine/pairs.jsonl", pairs(20));
    project.write("data/mine/more.jsonl", format!("{bad}\n"));
    project.edit(
        "sweeps/mine.toml",
        "data = [{ path = \"data/mine/pairs.jsonl\" }]",
        "monitor = { data = [{ path = \"data/mine/pairs.jsonl\" }], every-steps = 1 }\n\
         data = [{ path = \"data/mine/pairs.jsonl\" }, { path = \"data/mine/more.jsonl\" }]",
    );
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    let words = "data/mine/more.jsonl:1: the text contains the noncharacter";
    assert!(said.err.contains(words), "{said:?}");
}

#[test]
fn only_what_a_stage_of_the_pipeline_uses_is_looked_at() {
    let project = Project::new();
    study(
        &project,
        "[base.eval.recipe.preference.mine]\ndata = [{ path = \"data/sft/instruct_test.jsonl\" }]\n\
         limits = { max-seq-len = 256, max-prompt-len = 128, truncation = \"keep-end\" }",
    );
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("is no preference data"), "{said:?}");
    // Without a reference pairs are not measured.
    let pipeline = "pipeline = [\"sft\", \"dpo\"]";
    project.edit("sweeps/mine.toml", pipeline, "pipeline = [\"sft\"]");
    assert_eq!(check(&project).code, 0);

    project.write("data/mine/pairs.jsonl", pairs(20));
    study(
        &project,
        "[base.sft.recipe]\nmonitor = { data = [{ path = \"data/sft/instruct_train.jsonl\" }], \
         every-steps = 5 }\n\n[base.dpo.recipe]\nmonitor = { data = [{ path = \
         \"data/sft/instruct_train.jsonl\" }], every-steps = 5 }\n\n[base.online-dpo.recipe.dpo]\n\
         data = [{ path = \"data/mine/pairs.jsonl\" }]\nmonitor = { data = [{ path = \
         \"data/mine/pairs.jsonl\" }], every-steps = 5 }",
    );
    let online = "pipeline = [\"sft\", \"online-dpo\"]";
    project.edit("sweeps/mine.toml", pipeline, online);
    let said = check(&project);
    assert_eq!(said.code, 0, "{said:?}");
    for words in [
        "sweeps/mine.toml:12:20: `data/sft/instruct_train.jsonl` is held out here, and `sft` trains on it",
        "sweeps/mine.toml:19:20: `data/mine/pairs.jsonl` is held out here, and `online-dpo` trains on it",
    ] {
        assert!(said.err.contains(words), "{words} in {said:?}");
    }
}

#[test]
fn files_of_stages_that_do_not_run_need_not_be_there() {
    let project = Project::new();
    let judge = "judge = { reward-model = { model-path = \"models/none\", precision = \"f32\" } }";
    study(&project, &format!("[base.online-dpo.recipe]\n{judge}"));
    let (pairs, prompts) = (
        "data/pref/polite_train.jsonl",
        "data/sft/stories_train.jsonl",
    );
    for file in [pairs, prompts] {
        std::fs::remove_file(project.path(file)).unwrap();
    }
    let mut before = "[\"sft\", \"dpo\"]";
    for (pipeline, missing) in [
        ("[\"sft\", \"dpo\"]", &[pairs][..]),
        ("[\"sft\", \"online-dpo\"]", &[prompts, "models/none"][..]),
        ("[\"sft\"]", &[][..]),
    ] {
        project.edit("sweeps/mine.toml", before, pipeline);
        before = pipeline;
        let said = check(&project);
        assert_eq!(said.code, i32::from(!missing.is_empty()), "{said:?}");
        for path in [pairs, prompts, "models/none"] {
            let told = said.err.contains(&format!("`{path}`"));
            assert_eq!(told, missing.contains(&path), "{path}: {said:?}");
        }
    }
}

#[test]
fn story_prompts_without_constraints_are_found_before_they_are_sampled() {
    let project = Project::new();
    study(
        &project,
        "[base.eval.recipe.stories.mine]\ndata = [{ path = \"data/sft/instruct_test.jsonl\" }]\n\
         max-prompts = 2\nsamples = 1\nseed = 1\n\
         sampling = { temperature = 0.7, top-p = 0.95, max-new-tokens = 12 }",
    );
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    let row = |n| {
        format!("data/sft/instruct_test.jsonl:{n}: a story prompt needs `constraints`, an object")
    };
    // Only the prompts that are used count.
    let told = [1, 2, 3].map(|n| said.err.contains(&row(n)));
    assert_eq!(told, [true, true, false], "{said:?}");
    project.edit("sweeps/mine.toml", "instruct_test", "stories_test");
    assert_eq!(check(&project).code, 0);
}

#[test]
fn a_runaway_rate_and_rows_that_are_trained_on_are_warned_of() {
    let project = with_pairs();
    project.edit(
        "sweeps/mine.toml",
        "[base.dpo.recipe]",
        "[base.eval.recipe.preference.mine]\ndata = [{ path = \"data/mine/pairs.jsonl\" }]\nlimits = { \
         max-seq-len = 256, max-prompt-len = 128, truncation = \"keep-end\" }\n\n[base.dpo.recipe]\n\
         optimizer.learning-rate = 2",
    );
    let said = check(&project);
    assert_eq!(said.code, 0, "{said:?}");
    let leak = "warning: sweeps/mine.toml:12:8: `data/mine/pairs.jsonl` is held out here, and `dpo` trains \
                on it: 20 rows are the same (measure on other rows";
    assert!(said.err.contains(leak), "{said:?}");
    let rate = "warning: sweeps/mine.toml:16:27: a learning rate of 2.0 moves every weight";
    assert!(said.err.contains(rate), "{said:?}");
    assert!(
        said.out
            .contains("fine: 1 configuration, 1 trial, 2 warnings"),
        "{said:?}"
    );
    let json = project.json(&["check", "sweeps/mine.toml"]);
    assert_eq!(json["problems"][0]["weight"], "warning");
    assert_eq!(json["problems"].as_array().unwrap().len(), 2);
}

#[test]
fn a_reference_in_another_number_format_than_what_is_measured_is_warned_of() {
    let project = with_pairs();
    let measured = "[base.eval.recipe.preference.polite]\ndata = [{ path = \"data/pref/polite_test.jsonl\" }]\n\
        limits = { max-seq-len = 256, max-prompt-len = 128, truncation = \"keep-end\" }\n\n[base.dpo.recipe]\n\
        precision = \"bf16\"";
    project.edit("sweeps/mine.toml", "[base.dpo.recipe]", measured);
    let warning = "pairs are measured in f32 against a reference in bf16";
    let said = check(&project);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.err.contains(warning) && said.err.contains("`dpo.recipe`"),
        "{said:?}"
    );
    let same = "[base.eval.recipe]\nprecision = \"bf16\"\n\n[base.dpo.recipe]";
    project.edit("sweeps/mine.toml", "[base.dpo.recipe]", same);
    let said = check(&project);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.err.contains("against a reference"), "{said:?}");
}

/// Ways in which a model folder can be wrong: a file, what becomes of it, what is said, and the remedy.
type Wrong = (
    &'static str,
    fn(&[u8]) -> Option<Vec<u8>>,
    &'static str,
    &'static str,
);

/// Another text in place of a file's.
#[expect(
    clippy::unnecessary_wraps,
    reason = "none is a file that is taken away"
)]
fn text(bytes: &[u8], change: impl Fn(&str) -> String) -> Option<Vec<u8>> {
    Some(change(std::str::from_utf8(bytes).unwrap()).into_bytes())
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "none is a file that is taken away"
)]
fn half(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes[..bytes.len() / 2].to_vec())
}

const ONE_MODEL: &str = "`config.json` and the weights are of different models: take both of one";

const WRONG: &[Wrong] = &[
    (
        "config.json",
        |_| None,
        "has no `config.json` that can be read",
        "put the model's own there; `models/stories260k` holds `LICENSE`",
    ),
    (
        "config.json",
        |_| Some(b"{".to_vec()),
        "is not JSON",
        "fetch the model's `config.json` again",
    ),
    (
        "config.json",
        |bytes| {
            text(bytes, |all| {
                all.replace("LlamaForCausalLM", "MambaForCausalLM")
            })
        },
        "names the architecture `MambaForCausalLM`; known are",
        "take a model of one of these families",
    ),
    (
        "config.json",
        |bytes| {
            text(bytes, |all| {
                all.replacen('{', "{\"quantization_config\": {\"bits\": 4},", 1)
            })
        },
        "`quantization_config` in",
        "take a model that has it as it must be",
    ),
    (
        "model.safetensors",
        |_| None,
        "no `model.safetensors`",
        "put the weights there as `model.safetensors`",
    ),
    (
        "model.safetensors",
        half,
        "is damaged: its header promises",
        "fetch the file again: it is not whole",
    ),
    (
        "model.safetensors",
        |_| Some(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n".to_vec()),
        "it is a Git LFS pointer",
        "fetch the file again",
    ),
    (
        "config.json",
        |bytes| text(bytes, |all| changed(all, "hidden_size", "32")),
        "has shape [512, 64], `config.json` asks for [512, 32]",
        ONE_MODEL,
    ),
    (
        "config.json",
        |bytes| text(bytes, |all| changed(all, "num_hidden_layers", "6")),
        "tensor `model.layers.5.input_layernorm.weight` of shape [64] is missing",
        ONE_MODEL,
    ),
    (
        "tokenizer.json",
        |_| None,
        "cannot read `models/stories260k/tokenizer.json`",
        "put the model's own `tokenizer.json` there",
    ),
    (
        "tokenizer.json",
        half,
        "cannot use the tokenizer `models/stories260k/tokenizer.json`",
        "put the model's own `tokenizer.json` there",
    ),
    (
        "tokenizer_config.json",
        |_| Some(b"{\"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}".to_vec()),
        "`models/stories260k` has no chat template",
        "name a template that goes with the tokenizer, a file, as `chat-template`",
    ),
];

#[test]
fn model_folders_are_opened_before_anything_runs() {
    let mut faults = Vec::new();
    for (file, change, message, remedy) in WRONG {
        let project = with_pairs();
        let relative = format!("models/stories260k/{file}");
        let path = project.path(&relative);
        match change(&fs::read(&path).unwrap()) {
            Some(bytes) => project.write(&relative, bytes),
            None => fs::remove_file(&path).unwrap(),
        }
        let said = check(&project);
        for words in ["--> sweeps/base/mini.toml:8:8\n", message, remedy] {
            if said.code != 1 || !said.err.contains(words) {
                faults.push(format!("{words} in {said:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// `config.json` with another number under `key`.
fn changed(text: &str, key: &str, to: &str) -> String {
    let at = text.find(&format!("\"{key}\"")).unwrap() + key.len() + 2;
    let from = at + text[at..].find(|c: char| c.is_ascii_digit()).unwrap();
    let end = from + text[from..].find(|c: char| !c.is_ascii_digit()).unwrap();
    format!("{}{to}{}", &text[..from], &text[end..])
}

#[test]
fn a_folder_of_adapters_is_told_from_a_model() {
    let project = Project::new();
    study(&project, "[base.model]\npath = \"models/adapter\"");
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/lora");
    copy_tree(&golden, &project.path("models/adapter"));
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    for words in [
        "`models/adapter` has no `config.json`",
        "it holds adapters",
        "`lions merge`",
    ] {
        assert!(said.err.contains(words), "{said:?}");
    }
}

#[test]
fn a_head_beside_a_tied_embedding_is_refused_unless_it_is_a_copy() {
    let project = with_pairs();
    let path = project.path("models/stories260k/model.safetensors");
    let raw = fs::read(&path).unwrap();
    let size = u64::from_le_bytes(raw[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&raw[8..8 + size]).unwrap();
    let data = &raw[8 + size..];
    let embedding = header["model.embed_tokens.weight"].clone();
    let span = |at: usize| embedding["data_offsets"][at].as_u64().unwrap() as usize;
    let table = &data[span(0)..span(1)];
    header["lm_head.weight"] = embedding.clone();
    header["lm_head.weight"]["data_offsets"] =
        serde_json::json!([data.len(), data.len() + table.len()]);
    let text = header.to_string();
    for (head, code) in [(vec![0; table.len()], 1), (table.to_vec(), 0)] {
        let bytes = [
            &(text.len() as u64).to_le_bytes()[..],
            text.as_bytes(),
            data,
            &head,
        ]
        .concat();
        project.write("models/stories260k/model.safetensors", bytes);
        let said = check(&project);
        assert_eq!(said.code, code, "{said:?}");
        let refused = said.err.contains("is another matrix than the embedding");
        assert_eq!(refused, code == 1, "{said:?}");
    }
}

#[test]
fn several_files_are_checked_and_one_name_in_two_is_refused() {
    let project = with_pairs();
    let both = project.lions(&["check", "sweeps/mine.toml", "sweeps/smoke.toml"]);
    assert_eq!(both.code, 0, "{both:?}");
    assert!(
        both.out.contains("`mine` is fine") && both.out.contains("`smoke` is fine"),
        "{both:?}"
    );
    let text = project.read("sweeps/mine.toml");
    project.write("sweeps/other.toml", &text);
    for command in ["check", "run"] {
        let said = project.lions(&[command, "sweeps/mine.toml", "sweeps/other.toml"]);
        assert_eq!(said.code, 1, "{said:?}");
        let words = "`sweeps/mine.toml` and `sweeps/other.toml` both have the name `mine`";
        assert!(said.err.contains(words), "{said:?}");
    }
    let both = ["check", "sweeps/mine.toml", "sweeps/other.toml", "--json"];
    let said = project.lions(&both);
    assert_eq!(said.code, 1, "{said:?}");
    let shown: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(shown[0]["sweep"], "mine", "{said:?}");
    assert_eq!(shown[1]["sweep"], "mine", "{said:?}");
    let said = project.lions(&["check", "mine"]);
    assert!(said.err.contains("has the name `mine`, too"), "{said:?}");
    // A mistake in the first does not hide the second.
    project.edit("sweeps/mine.toml", "seeds = [1]", "seeds = []");
    let said = project.lions(&["check", "sweeps/mine.toml", "sweeps/smoke.toml"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.err.contains("`seeds` is empty") && said.out.contains("`smoke` is fine"),
        "{said:?}"
    );
}

#[test]
fn what_sweeps_share_is_told_once_and_counts_for_each() {
    let project = with_pairs();
    let tokenizer = project.read("models/stories260k/tokenizer.json");
    let half = &tokenizer[..tokenizer.len() / 2];
    project.write("models/stories260k/tokenizer.json", half);
    let files = ["sweeps/mine.toml", "sweeps/smoke.toml"];
    let said = project.lions(&["check", files[0], files[1]]);
    assert_eq!(said.code, 1, "{said:?}");
    let words = "cannot use the tokenizer";
    assert_eq!(said.err.matches(words).count(), 1, "{said:?}");
    for name in ["mine", "smoke"] {
        let verdict = format!("not ok `{name}`: 1 problem");
        assert!(said.out.contains(&verdict), "{said:?}");
    }
    let json = project.lions(&["check", files[0], files[1], "--json"]);
    assert_eq!(json.code, 1, "{json:?}");
    let shown: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    for sweep in shown.as_array().unwrap() {
        let problems = sweep["problems"].as_array().unwrap();
        assert_eq!(problems.len(), 1, "{sweep}");
        let message = problems[0]["message"].as_str().unwrap();
        assert!(message.contains(words), "{sweep}");
    }
    let run = project.lions(&["run", files[0], files[1]]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("nothing was run: 1 problem"), "{run:?}");
}

#[test]
fn more_trials_than_anyone_means_are_refused_with_their_number() {
    let project = with_pairs();
    let values: Vec<String> = (1..=400).map(|n| format!("{n}e-5")).collect();
    let axis = |path: &str| {
        let values = values.join(", ");
        format!("\n[[axis]]\npath = \"dpo.recipe.{path}\"\nvalues = [{values}]\n")
    };
    let text = project.read("sweeps/mine.toml");
    let text = text + &axis("beta") + &axis("optimizer.learning-rate");
    project.write("sweeps/mine.toml", text);
    let said = check(&project);
    assert_eq!(said.code, 1, "{said:?}");
    let words = "make 160000 trials, more than the 100000 that a sweep may have";
    assert!(said.err.contains(words), "{said:?}");
}

#[test]
fn a_sweep_is_named_by_its_file_or_its_name_and_near_names_are_told() {
    let project = with_pairs();
    let by_name = project.lions(&["check", "mine"]);
    assert_eq!(by_name.code, 0, "{by_name:?}");
    assert!(!by_name.err.contains("has the name"), "{by_name:?}");
    let near = project.lions(&["check", "sweeps/mime.toml"]);
    assert!(
        near.err.contains("did you mean `sweeps/mine.toml`?"),
        "{near:?}"
    );
    // Devices and folders end at once.
    for (path, words) in [
        ("/dev/zero", "`/dev/zero`: it is no file of a sweep's size"),
        ("sweeps", "`sweeps` is a folder, not a sweep file"),
    ] {
        let said = project.lions(&["check", path]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(words), "{words} in {said:?}");
    }
}

#[test]
fn everything_wrong_with_a_file_is_told_at_once_causes_first() {
    let project = Project::new();
    project.write(
        "sweeps/mine.toml",
        "model_name_or_path = \"x\"\n\n[sweep]\nname = \"mine\"\nquestion = \"q\"\nseeds = [1]\n\n\
         [base]\npipeline = [\"sft\"]\nmodel.path = \"models/stories260k\"\n\n[base.sft.recipe]\n\
         lr = 1e-3\nmax_length = 64\nnum_train_epochs = 1\nprecision = \"fp16\"\n",
    );
    let said = check(&project);
    let json = project.lions(&["check", "sweeps/mine.toml", "--json"]);
    assert_eq!((said.code, json.code), (1, 1), "{said:?}");
    for words in [
        "unknown key `model_name_or_path`",
        "here it is `optimizer.learning-rate`",
        "here it is `max-seq-len`",
        "here it is `duration = { epochs = N }`",
        "write `bf16` or `f32`",
    ] {
        assert!(said.err.contains(words), "{words} in {said:?}");
    }
    project.edit("sweeps/mine.toml", "model_name_or_path = \"x\"\n", "");
    let said = check(&project);
    for words in [
        "key `data` is missing in `sft.recipe`",
        "key `schedule` is missing",
        "key `eval` is missing",
    ] {
        assert!(said.err.contains(words), "{words} in {said:?}");
    }
    // What was written under another name is not missing as well.
    assert!(
        !said.err.contains("key `max-seq-len` is missing"),
        "{said:?}"
    );
    assert!(
        said.err.find("unknown key `lr`") < said.err.find("is missing"),
        "{said:?}"
    );
}

#[test]
fn a_linked_sweep_file_belongs_to_the_project_where_it_is_named() {
    let there = with_pairs();
    let here = Project::bare();
    for folder in ["data", "models"] {
        std::os::unix::fs::symlink(there.path(folder), here.path(folder)).unwrap();
    }
    fs::remove_dir(here.path("sweeps")).unwrap();
    std::os::unix::fs::symlink(there.path("sweeps"), here.path("sweeps")).unwrap();
    let said = here.lions(&["plan", "sweeps/mine.toml"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        here.path("results").exists() && !there.path("results").exists(),
        "{said:?}"
    );
}

#[test]
fn colours_of_a_data_row_reach_no_terminal_and_no_pipe() {
    let project = Project::new();
    study(
        &project,
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/chats.jsonl\" }]",
    );
    project.write(
        "data/mine/chats.jsonl",
        "{\"messages\": [{\"role\": \"\\u001b[8mghost\", \"content\": \"Boo.\"}]}\n",
    );
    for color in ["never", "always"] {
        let said = project.lions(&["check", "sweeps/mine.toml", "--color", color]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains("[8mghost"), "{said:?}");
        assert!(!said.err.contains("\u{1b}[8m"), "{said:?}");
        assert_eq!(said.err.contains('\u{1b}'), color == "always", "{said:?}");
    }
}

/// A study whose filter, judge or decontamination uses what is not fit to be used; what is laid on, the
/// places with what is said there, and what has to be there.
#[test]
fn models_and_files_of_judges_and_filters_are_opened_too() {
    let select = |of: &str, method: &str, asks: bool| {
        let precision = if asks { "precision = \"f32\"\n" } else { "" };
        format!(
            "[base.select]\nof = \"{of}\"\n\n[base.select.recipe]\nkeep = 4\n{precision}method = {method}"
        )
    };
    let scorer = |quality: &str| {
        format!(
            "{{ deita = {{ complexity = {{ model-path = \"models/stories260k\" }}, quality = {{ model-path = \
             \"{quality}\" }}, embedding = {{ model-path = \"models/mute\" }}, pooling = \"mean\", threshold \
             = 0.9 }} }}"
        )
    };
    let cases = [
        (
            select("dpo", "{ reward-gap = { model-path = \"models/stories260k\" } }", true),
            "17:40",
            "no scalar head in `models/stories260k`",
            "take a model of transformers' `…ForSequenceClassification`",
        ),
        (
            select("dpo", &scorer("models/wordless"), true),
            "17:99",
            "cannot use the tokenizer `models/wordless/tokenizer.json`",
            "put the model's own `tokenizer.json` there",
        ),
        (
            select("sft", &scorer("models/stories260k"), true),
            "17:150",
            "`models/mute` has no chat template",
            "name a template that goes with the tokenizer",
        ),
        (
            select("dpo", "{ less = { data = [{ path = \"data/sft/instruct_test.jsonl\" }], dimension = 8 } }", true),
            "17:38",
            "`data/sft/instruct_test.jsonl` is no preference data",
            "take a file of such rows",
        ),
        (
            select("dpo", "{ chosen-quality = { column = \"meta.scroe\", at-least = 1 } }", false),
            "16:40",
            "the row at data/mine/scored.jsonl:1 has no number at `meta.scroe`",
            "did you mean `meta.score`?",
        ),
        (
            select("dpo", "{ ids = { ids-path = \"data/mine/ids.txt\" } }", false),
            "16:31",
            "`data/mine/ids.txt`: `keep` is 4, but it has 2 ids",
            "write one id a line",
        ),
        (
            select("dpo", "{ ids = { ids-path = \"data/mine/strange.txt\" } }", false),
            "16:31",
            "`data/mine/strange.txt`: no row has the id `nope` (1 of its 4 ids are unknown)",
            "each of a row of the data",
        ),
        (
            select("dpo", "{ ids = { ids-path = \"data/mine/twice.csv\" } }", false),
            "16:31",
            "`data/mine/twice.csv`: the id `row-2` stands in it twice",
            "each of a row of the data",
        ),
        (
            select("dpo", "\"longest\"", false).replace("keep = 4", "keep = 40"),
            "15:8",
            "`keep` is 40, but the data has 20 rows",
            "write 20 or less",
        ),
        (
            "[base.dpo.recipe.decontaminate]\ndata = [{ path = \"data/mine/notes.jsonl\" }]".to_owned(),
            "12:18",
            "`data/mine/notes.jsonl` is no evaluation data",
            "take a file of such rows",
        ),
        (
            "[base.online-dpo.recipe]\njudge = { reward-model = { model-path = \"models/stories260k\", \
             precision = \"f32\" } }"
                .to_owned(),
            "12:41",
            "no scalar head in `models/stories260k`",
            "take a model of transformers' `…ForSequenceClassification`",
        ),
        (
            "[base.online-dpo.recipe]\njudge = { pairrm = { model-path = \"models/stories260k\" } }".to_owned(),
            "12:35",
            "it has no token `<|source|>`",
            "take a folder in the layout of `llm-blender/PairRM-hf`",
        ),
    ];
    let project = Project::new();
    let scored = |n| {
        format!(
            "{{\"prompt\": \"Name fruit {n}.\", \"chosen\": \"A plum.\", \"rejected\": \"No {n}.\", \
             \"meta\": {{\"score\": {n}}}}}\n"
        )
    };
    project.write(
        "data/mine/scored.jsonl",
        (0..20).map(scored).collect::<String>(),
    );
    project.write("data/mine/ids.txt", "a\nb\n");
    project.write("data/mine/strange.txt", "row-1\nrow-2\nrow-3\nnope\n");
    project.write("data/mine/twice.csv", "id\nrow-1\nrow-2\nrow-3\nrow-2\n");
    project.write(
        "data/mine/notes.jsonl",
        "{\"note\": \"none of the known forms\"}\n",
    );
    for folder in ["models/mute", "models/wordless"] {
        copy_tree(&project.path("models/stories260k"), &project.path(folder));
    }
    project.write("models/mute/tokenizer_config.json", "{}");
    project.write("models/wordless/tokenizer.json", "{}");
    let mut faults = Vec::new();
    for (more, place, message, remedy) in cases {
        study(&project, &more);
        let online = more.contains("online-dpo");
        let data = "[base.dpo.recipe]\ndata = [{ path = \"data/mine/scored.jsonl\" }]\n";
        let text = project.read("sweeps/mine.toml").trim_end().to_owned();
        project.write("sweeps/mine.toml", format!("{text}\n\n{data}"));
        if online {
            project.edit(
                "sweeps/mine.toml",
                "[\"sft\", \"dpo\"]",
                "[\"sft\", \"online-dpo\"]",
            );
        }
        let said = check(&project);
        let place = format!("--> sweeps/mine.toml:{place}\n");
        for words in [&*place, message, remedy] {
            if said.code != 1 || !said.err.contains(words) {
                faults.push(format!("{words} in\n{}", said.err));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_rows_that_a_seed_chooses_decide_whether_a_stage_would_train() {
    let project = Project::new();
    study(
        &project,
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/many.jsonl\" }]\nmax-examples = 8\nseed = 3\n\
         max-seq-len = 256\nbatch = { rows = 1 }\nduration = { epochs = 1 }\nschedule.warmup-ratio = 0",
    );
    let places = (0..300).collect::<Vec<usize>>();
    let chosen = lions::data::select(places, Some(8), &lions::data::select_seed(3)).unwrap();
    let row = |long: bool, n: usize| {
        let prompt = if long {
            "word ".repeat(400)
        } else {
            format!("Say {n}.")
        };
        format!("{{\"prompt\": \"{prompt}\", \"completion\": \"It is {n}.\"}}\n")
    };
    for (chosen_are_long, code) in [(true, 1), (false, 0)] {
        let rows = (0..300).map(|n| row(chosen.contains(&n) == chosen_are_long, n));
        project.write("data/mine/many.jsonl", rows.collect::<String>());
        let said = check(&project);
        assert_eq!(said.code, code, "{said:?}");
        let words = "none of the 8 rows looked at has a token to learn among its first 256";
        assert_eq!(said.err.contains(words), chosen_are_long, "{said:?}");
    }
}

#[test]
fn a_row_that_no_template_writes_is_a_mistake_only_where_it_is_used() {
    let project = Project::new();
    study(
        &project,
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/many.jsonl\" }]\nmax-examples = 8\nseed = 3\n\
         batch = { rows = 1 }\nduration = { epochs = 1 }\nschedule.warmup-ratio = 0",
    );
    let places = (0..300).collect::<Vec<usize>>();
    let chosen = lions::data::select(places, Some(8), &lions::data::select_seed(3)).unwrap();
    let other = (0..16).find(|n| !chosen.contains(n)).unwrap();
    for (bad, code, weight) in [(other, 0, "warning: "), (chosen[0], 1, "error: ")] {
        let row = |n| {
            let mark = if n == bad { "\u{fdd0}" } else { "" };
            format!("{{\"prompt\": \"Say {n}.\", \"completion\": \"It is {mark}{n}.\"}}\n")
        };
        project.write(
            "data/mine/many.jsonl",
            (0..300).map(row).collect::<String>(),
        );
        let said = check(&project);
        assert_eq!(said.code, code, "{said:?}");
        let place = format!("{weight}data/mine/many.jsonl:{}: ", bad + 1);
        let words = format!("{place}the text contains the noncharacter");
        assert_eq!(said.err.matches(&words).count(), 1, "{said:?}");
    }
}

#[test]
fn prompts_that_cannot_be_judged_are_found_before_they_are_sampled() {
    let online = "pipeline = [\"sft\", \"online-dpo\"]";
    for (more, place, message, remedy) in [
        (
            "[base.online-dpo.recipe.prompts]\ndata = [{ path = \"data/sft/instruct_test.jsonl\" }]",
            "data/sft/instruct_test.jsonl:1: ",
            "the judge `rules` needs `constraints`, an object",
            "fix the row or take it out",
        ),
        (
            "[base.online-dpo.recipe]\np-ori-pair = 0.5",
            "--> sweeps/mine.toml:12:14\n",
            "`p-ori-pair` takes offline pairs, and `data/sft/stories_train.jsonl` has none",
            "take prompts of preference data",
        ),
        (
            "[base.online-dpo.recipe.prompts]\nmax-prompt-len = 2",
            "--> sweeps/mine.toml:12:18\n",
            "none of the 24 prompts looked at is within `max-prompt-len` 2",
            "raise the limit, or take shorter prompts",
        ),
    ] {
        let project = Project::new();
        study(&project, more);
        project.edit("sweeps/mine.toml", "pipeline = [\"sft\", \"dpo\"]", online);
        let said = check(&project);
        assert_eq!(said.code, 1, "{said:?}");
        for words in [place, message, remedy] {
            assert!(said.err.contains(words), "{words} in {said:?}");
        }
    }
}

/// Rows of which all hold a text of the evaluation, but for `clean` at the end.
fn contaminated(project: &Project, rows: usize, clean: usize) {
    let row = |n: usize| {
        let held = if n < rows - clean {
            "We know that the sky is blue today"
        } else {
            "Nothing"
        };
        format!(
            "{{\"prompt\": \"Name fruit {n}.\", \"chosen\": \"{held} {n}.\", \"rejected\": \"No {n}.\"}}\n"
        )
    };
    project.write(
        "data/mine/pairs.jsonl",
        (0..rows).map(row).collect::<String>(),
    );
    let chat = |n: usize| {
        let text = row(n);
        text.replace("\"chosen\"", "\"completion\"")
            .replace(&format!(", \"rejected\": \"No {n}.\""), "")
    };
    project.write(
        "data/mine/chats.jsonl",
        (0..rows).map(chat).collect::<String>(),
    );
    project.write("data/mine/held.jsonl", "{\"text\": \"The sky is blue\"}\n");
}

/// What is said of a stage's rows that its filters leave too few of, at its place, with a remedy; `run` says so, too, before
/// anything runs.
fn refused_before_work(project: &Project, more: &str, words: [&str; 3]) {
    study(project, more);
    for command in ["check", "run"] {
        let said = project.lions(&[command, "sweeps/mine.toml"]);
        assert_eq!(said.code, 1, "{more}: {said:?}");
        let err = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
        for words in words {
            assert!(err.contains(words), "{words} in {said:?}");
        }
    }
    assert!(!project.path("results/runs").exists(), "something ran");
}

#[test]
fn filters_that_leave_too_few_rows_are_told_before_work() {
    let clean = "decontaminate = { data = [{ path = \"data/mine/held.jsonl\" }] }";
    let of_pairs = "[base.dpo.recipe]\ndata = [{ path = \"data/mine/pairs.jsonl\" }]";
    let project = Project::new();
    contaminated(&project, 20, 0);
    let none = "none of the 20 rows is left: all hold texts of the evaluation";
    refused_before_work(
        &project,
        &format!("{of_pairs}\n{clean}"),
        [
            "--> sweeps/mine.toml:13:",
            none,
            "help: take other rows, or look for other texts",
        ],
    );
    refused_before_work(
        &project,
        &format!("[base.sft.recipe]\ndata = [{{ path = \"data/mine/chats.jsonl\" }}]\n{clean}"),
        ["--> sweeps/mine.toml:13:", none, "help: take other rows"],
    );

    contaminated(&project, 20, 4);
    refused_before_work(
        &project,
        &format!("{of_pairs}\n{clean}\nmax-examples = 12"),
        [
            "--> sweeps/mine.toml:14:",
            "`max-examples` is 12, but only 4 of 20 examples are left",
            "help: write 4 or less",
        ],
    );
    refused_before_work(
        &project,
        &format!("{}\n{clean}", of_pairs.replace("\" }]", "\", count = 6 }]")),
        [
            "--> sweeps/mine.toml:12:",
            "`count` is 6, but only 4 of the 20 rows of `data/mine/pairs.jsonl` are left",
            "help: write 4 or less, or leave `count` out",
        ],
    );
    refused_before_work(
        &project,
        &format!(
            "{}\n{clean}",
            of_pairs.replace("\" }]", "\", fraction = 0.1 }]")
        ),
        [
            "--> sweeps/mine.toml:12:",
            "of the 20 rows of `data/mine/pairs.jsonl` 4 are left, and this `fraction` of them is less than one",
            "help: raise it",
        ],
    );
    let select = "[base.select]\nof = \"dpo\"\nrecipe = { keep = 9, method = \"random\" }";
    refused_before_work(
        &project,
        &format!("{of_pairs}\n{clean}\n{select}"),
        [
            "sweeps/mine.toml:16:",
            "`keep` is 9, but only 4 of 20 rows are left",
            "help: write 4 or less",
        ],
    );
    // Enough of them are none of anybody's business.
    study(
        &project,
        &format!("{of_pairs}\n{clean}\nmax-examples = 4\nglobal-batch-size = 2"),
    );
    let said = check(&project);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    // Repeats count as what they are.
    let same = "{\"prompt\": \"Name a fruit.\", \"chosen\": \"A plum.\", \"rejected\": \"No.\"}\n";
    project.write("data/mine/pairs.jsonl", same.repeat(20) + &pairs(3));
    refused_before_work(
        &project,
        &format!("{of_pairs}\ndedup = true\nmax-examples = 12"),
        [
            "--> sweeps/mine.toml:14:",
            "`max-examples` is 12, but only 4 of 23 examples are left",
            "help: write 4 or less",
        ],
    );
}

#[test]
fn filters_by_scores_and_limits_that_can_choose_too_few_are_told_before_work() {
    let project = Project::new();
    let long = "word ".repeat(400);
    let row = |n: usize| {
        let prompt = if n < 15 { long.as_str() } else { "Name one." };
        format!(
            "{{\"prompt\": \"{prompt}\", \"chosen\": \"A plum {n}.\", \"rejected\": \"No {n}.\", \"score\": {n}}}\n"
        )
    };
    project.write(
        "data/mine/pairs.jsonl",
        (0..20).map(row).collect::<String>(),
    );
    let with = |limits: &str, select: &str| {
        format!(
            "[base.dpo.recipe]\ndata = [{{ path = \"data/mine/pairs.jsonl\" }}]\n{limits}\n\
             [base.select]\nof = \"dpo\"\nrecipe = {{ keep = 9, method = {select} }}"
        )
    };
    let drop = "limits = { max-seq-len = 256, max-prompt-len = 128, truncation = \"drop\" }";
    let place = "--> sweeps/mine.toml:16:19";
    refused_before_work(
        &project,
        &with(drop, "\"random\""),
        [
            place,
            "`keep` is 9, but 5 of 20 pairs are within the limits",
            "help: write 5 or less",
        ],
    );
    refused_before_work(
        &project,
        &with(
            "",
            "{ chosen-quality = { column = \"score\", at-least = 18 } }",
        )
        .replace("}]\n\n", "}]\n#\n"),
        [
            place,
            "`keep` is 9, but its method can choose 2 of 20 rows",
            "help: write 2 or less",
        ],
    );
    refused_before_work(
        &project,
        &with(
            "#",
            "{ preference-strength = { gap = { column = \"score\" }, edges = [1, 3, 4] } }",
        ),
        [
            place,
            "`keep` is 9, but its method can choose 4 of 20 rows",
            "help: write 4 or less",
        ],
    );
}

#[test]
fn sets_with_nothing_to_measure_and_rounds_with_too_few_pairs_are_told_before_work() {
    let long = "word ".repeat(400);
    let chat = format!("{{\"prompt\": \"{long}\", \"completion\": \"short\"}}\n");
    let pair = format!("{{\"prompt\": \"{long}\", \"chosen\": \"yes\", \"rejected\": \"no\"}}\n");
    let silent = "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi.\"}, {\"role\": \"assistant\", \"content\": \"Yes.\", \"weight\": 0}]}\n";
    let project = Project::new();
    project.write("data/mine/chats.jsonl", &chat);
    project.write("data/mine/pairs.jsonl", &pair);
    project.write("data/mine/silent.jsonl", silent.repeat(3));
    // One of two sets along training; the other one is fine.
    refused_before_work(
        &project,
        "[base.sft.recipe]\nmax-seq-len = 256\nmonitor = { data = [{ path = \"data/sft/instruct_test.jsonl\" }, { path = \"data/mine/chats.jsonl\" }], every-steps = 10 }",
        [
            "--> sweeps/mine.toml:13:",
            "none of the 1 row looked at has a token to learn among its first 256",
            "help: raise the limit",
        ],
    );
    refused_before_work(
        &project,
        "[base.dpo.recipe]\nlimits = { max-seq-len = 256, max-prompt-len = 64, truncation = \"drop\" }\n\
         monitor = { data = [{ path = \"data/pref/polite_test.jsonl\" }, { path = \"data/mine/pairs.jsonl\" }], every-steps = 10 }",
        [
            "none of the 1 pair looked at is left within",
            "`max-prompt-len` 64",
            "help: raise the limits",
        ],
    );
    study(
        &project,
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/silent.jsonl\" }]\nbatching = \"concat\"",
    );
    let said = check(&project);
    let words = "data/mine/silent.jsonl:1: every reply is marked as no target";
    assert!(said.code == 1 && said.err.contains(words), "{said:?}");

    // Of each row more is masked than is allowed.
    let row = |n: usize| {
        format!(
            "{{\"prompt\": \"{}\", \"completion\": \"{n}\"}}\n",
            "word ".repeat(30)
        )
    };
    project.write(
        "data/mine/masked.jsonl",
        (0..300).map(row).collect::<String>(),
    );
    study(
        &project,
        "[base.sft.recipe]\ndata = [{ path = \"data/mine/masked.jsonl\" }]\nmax-masked-fraction = 0.5",
    );
    let said = check(&project);
    let words = "of each of the 64 rows looked at more than `max-masked-fraction` 0.5 is masked";
    let err = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.code == 0 && err.contains(words) && err.contains("raise it"),
        "{said:?}"
    );

    // A round cannot train on more pairs than it makes.
    project.write("sweeps/mine.toml", "");
    let online = "[base.online-dpo.recipe]\nprompts = { per-round = 6 }\n[base.online-dpo.recipe.dpo]\nmax-examples = 9\ndata = [{ path = \"data/pref/polite_train.jsonl\", count = 2 }]";
    study(&project, online);
    project.edit(
        "sweeps/mine.toml",
        "[\"sft\", \"dpo\"]",
        "[\"sft\", \"online-dpo\"]",
    );
    let said = check(&project);
    let words = "`max-examples` is 9, but a round has at most 8 pairs: of 6 prompts and 2 offline";
    let err = said.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.code == 1 && err.contains(words) && err.contains("sweeps/mine.toml:14:16"),
        "{said:?}"
    );
}
