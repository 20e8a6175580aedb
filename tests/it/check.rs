//! What `lions check` says of data files, model folders and sizes, before anything runs.

use crate::project::{Project, Said};
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
            "data/mine/pairs.jsonl:17: ",
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
        assert!(said.err.contains("mend the row"), "{said:?}");
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
    let project = with_pairs();
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
    drop(project);
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

/// Ways in which a model folder can be wrong: a file, what becomes of it, and what is said.
type Wrong = (&'static str, fn(&str) -> Option<String>, &'static str);

#[test]
fn model_folders_are_opened_before_anything_runs() {
    let cases: &[Wrong] = &[
        ("model.safetensors", |_| None, "no `model.safetensors`"),
        (
            "model.safetensors",
            |_| {
                Some(
                    "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
                        .to_owned(),
                )
            },
            "it is a Git LFS pointer",
        ),
        ("tokenizer.json", |_| None, "cannot read"),
        (
            "tokenizer.json",
            |text| Some(text[..text.len() / 2].to_owned()),
            "cannot use the tokenizer",
        ),
        ("config.json", |_| Some("{".to_owned()), "is not JSON"),
        (
            "config.json",
            |text| Some(text.replace("LlamaForCausalLM", "MambaForCausalLM")),
            "names the architecture `MambaForCausalLM`; known are",
        ),
        (
            "config.json",
            |text| Some(changed(text, "hidden_size", "32")),
            "has shape [512, 64], `config.json` asks for [512, 32]",
        ),
        (
            "config.json",
            |text| Some(changed(text, "num_hidden_layers", "6")),
            "tensor `model.layers.5.input_layernorm.weight` of shape [64] is missing",
        ),
        (
            "config.json",
            |text| {
                Some(text.replacen(
                    '{',
                    "{\"attention_dropout_\": 1, \"quantization_config\": {\"bits\": 4},",
                    1,
                ))
            },
            "`quantization_config` in",
        ),
    ];
    for (file, change, want) in cases {
        let project = with_pairs();
        let path = project.path("models/stories260k").join(file);
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        match change(&text) {
            Some(text) => project.write(path.strip_prefix(project.path("")).unwrap(), text),
            None => fs::remove_file(&path).unwrap(),
        }
        let said = check(&project);
        assert_eq!(said.code, 1, "{file}: {said:?}");
        assert!(said.err.contains(want), "{want} in {said:?}");
        assert!(said.err.contains("models/stories260k"), "{said:?}");
    }
}

/// `config.json` with another number under `key`.
fn changed(text: &str, key: &str, to: &str) -> String {
    let at = text.find(&format!("\"{key}\"")).unwrap() + key.len() + 2;
    let from = at + text[at..].find(|c: char| c.is_ascii_digit()).unwrap();
    let end = from + text[from..].find(|c: char| !c.is_ascii_digit()).unwrap();
    format!("{}{to}{}", &text[..from], &text[end..])
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
    for path in ["/dev/zero", "sweeps"] {
        let said = project.lions(&["check", path]);
        assert_eq!(said.code, 1, "{said:?}");
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
