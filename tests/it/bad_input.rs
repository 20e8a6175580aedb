//! Bad input gets an error that says what, which and where, and loses nothing.

use crate::project::Project;

/// Exit code of a mistake that is found before anything runs.
const FOUND_BEFORE: i32 = 1;

/// Checks or runs the smoke sweep and expects that it ends so, with a message that has all of
/// `wanted`.
fn refused(project: &Project, command: &str, code: i32, wanted: &[&str]) {
    let said = project.lions(&[command, "sweeps/smoke.toml"]);
    assert_eq!(said.code, code, "{said:?}");
    let all = format!("{}{}", said.out, said.err);
    for text in wanted {
        assert!(all.contains(text), "`{text}` is not in:\n{all}");
    }
    assert!(!all.contains("panicked"), "{all}");
}

#[test]
fn a_misspelt_field_is_shown_at_its_place_with_the_nearest_name() {
    let project = Project::new();
    project.edit(
        "sweeps/smoke.toml",
        "global-batch-size = 8",
        "global-batchsize = 8",
    );
    refused(
        &project,
        "check",
        FOUND_BEFORE,
        &[
            "sweeps/smoke.toml:18:1",
            "global-batchsize",
            "global-batch-size",
        ],
    );
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_of_the_kernels_that_never_ends_is_an_empty_one() {
    let project = Project::new();
    let data = project.path("data/pref/polite_test.jsonl");
    std::fs::remove_file(&data).unwrap();
    std::os::unix::fs::symlink("/proc/kmsg", &data).unwrap();
    for (command, code) in [("check", FOUND_BEFORE), ("plan", 0), ("run", FOUND_BEFORE)] {
        let has_none = "`data/pref/polite_test.jsonl` has no rows";
        refused(&project, command, code, &[has_none]);
    }
}

#[test]
fn a_missing_or_unknown_model_is_refused_before_anything_runs() {
    let project = Project::new();
    std::fs::remove_file(project.path("models/stories260k/model.safetensors")).unwrap();
    refused(&project, "run", FOUND_BEFORE, &["models/stories260k"]);

    let project = Project::new();
    project.edit(
        "models/stories260k/config.json",
        "\"model_type\": \"llama\"",
        "\"model_type\": \"gpt9\"",
    );
    project.edit(
        "models/stories260k/config.json",
        "LlamaForCausalLM",
        "Gpt9ForCausalLM",
    );
    refused(
        &project,
        "run",
        FOUND_BEFORE,
        &["Gpt9ForCausalLM", "LlamaForCausalLM"],
    );
}

#[test]
fn damaged_weights_are_named() {
    let project = Project::new();
    let path = project.path("models/stories260k/model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    project.write(
        "models/stories260k/model.safetensors",
        &bytes[..bytes.len() / 2],
    );
    refused(&project, "run", FOUND_BEFORE, &["model.safetensors"]);

    let project = Project::new();
    project.edit(
        "models/stories260k/config.json",
        "\"intermediate_size\": 172",
        "\"intermediate_size\": 176",
    );
    refused(&project, "run", FOUND_BEFORE, &["mlp", "172", "176"]);
}

#[test]
fn a_bad_row_is_named_by_file_and_line() {
    let project = Project::new();
    let text = project.read("data/sft/instruct_train.jsonl");
    let mut lines: Vec<&str> = text.lines().collect();
    lines[6] = r#"{"id": "x", "messages": [{"role": "user", "content": "hi""#;
    project.write("data/sft/instruct_train.jsonl", lines.join("\n"));
    refused(&project, "run", FOUND_BEFORE, &["instruct_train.jsonl:7"]);

    lines[6] = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}]}"#;
    project.write("data/sft/instruct_train.jsonl", lines.join("\n"));
    refused(
        &project,
        "run",
        FOUND_BEFORE,
        &["instruct_train.jsonl:7", "empty"],
    );
}

/// Files as pyarrow writes them: packed in another way, with bytes that are no text.
#[test]
fn parquet_that_cannot_be_read_as_text_is_told_with_the_way_out() {
    let project = Project::new();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut before = String::new();
    for (name, code, wanted) in [
        (
            "lz4",
            1,
            &["lz4.parquet", "lz4", "help: write it again", "Zstandard"][..],
        ),
        (
            "latin",
            1,
            &["latin.parquet:1: `completion`: bytes that are not UTF-8"][..],
        ),
        ("image", 0, &["fine"][..]),
    ] {
        let file = std::fs::read(fixtures.join(format!("{name}.parquet"))).unwrap();
        project.write(format!("data/mine/{name}.parquet"), file);
        let rows = format!("data = [{{ path = \"data/mine/{name}.parquet\" }}]\n");
        if before.is_empty() {
            let table = "[base.sft.recipe]\n";
            project.edit("sweeps/smoke.toml", table, &format!("{table}{rows}"));
        } else {
            project.edit("sweeps/smoke.toml", &before, &rows);
        }
        before = rows;
        refused(&project, "check", code, wanted);
    }
}

#[test]
fn equal_halves_of_a_pair_are_named() {
    let project = Project::new();
    let text = project.read("data/pref/polite_train.jsonl");
    let mut lines: Vec<&str> = text.lines().collect();
    lines[2] = r#"{"prompt": "Say yes.", "chosen": "Yes.", "rejected": "Yes."}"#;
    project.write("data/pref/polite_train.jsonl", lines.join("\n"));
    refused(&project, "run", FOUND_BEFORE, &["polite_train.jsonl:3"]);
}

#[test]
fn a_template_whose_special_tokens_the_tokenizer_lacks_is_refused() {
    let project = Project::new();
    project.write(
        "chatml.jinja",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\
         {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    );
    project.edit(
        "sweeps/smoke.toml",
        "[base.sft.recipe]",
        "[base.model]\nchat-template = \"chatml.jinja\"\n\n[base.sft.recipe]",
    );
    refused(&project, "run", FOUND_BEFORE, &["<|im_"]);
}

/// Text that jinja2 would escape where it goes on, which templates are not meant to have.
#[test]
fn a_template_that_joins_escaped_text_is_refused_at_its_line() {
    let project = Project::new();
    let template = "{% for m in messages %}{{ m.role + ': ' }}\n{{ '<u>' + m.content|safe }}{{ eos_token }}\n\
                    {% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
    project.write("joined.jinja", template);
    project.edit(
        "sweeps/smoke.toml",
        "[base.sft.recipe]",
        "[base.model]\nchat-template = \"joined.jinja\"\n\n[base.sft.recipe]",
    );
    let said = ["joined.jinja", "line 2", "`safe`", "`~`", "smoke.toml:"];
    refused(&project, "check", 1, &said);
    project.write(
        "joined.jinja",
        template.replace(" + m.content|safe", " ~ m.content|safe"),
    );
    let said = project.lions(&["check", "sweeps/smoke.toml"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_stage_that_would_train_nothing_is_refused() {
    let project = Project::new();
    let long = "word ".repeat(2000);
    let row = |i: usize| {
        format!(
            r#"{{"messages": [{{"role": "user", "content": "{long}"}}, {{"role": "assistant", "content": "short {i}"}}]}}"#
        )
    };
    let rows: Vec<String> = (0..3).map(row).collect();
    project.write("data/sft/instruct_train.jsonl", rows.join("\n"));
    let wanted = [
        "none of the 3 rows looked at has a token to learn among its first 256",
        "sweeps/smoke.toml",
    ];
    refused(&project, "run", FOUND_BEFORE, &wanted);

    let project = Project::new();
    project.edit("sweeps/smoke.toml", "steps = 3", "steps = 1");
    let wanted = [
        "nothing would be trained: the only step runs with rate 0",
        "`warmup-ratio = 0`",
    ];
    refused(&project, "run", FOUND_BEFORE, &wanted);
}
