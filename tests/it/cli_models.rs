//! Sessions with the commands that talk to models, and with those that compare and export what they said: `generate`,
//! `serve-model`, `samples`, `diff`, `store export`.

use crate::project::Project;
use crate::session::{Study, session_in};
use insta::assert_snapshot;
use serde_json::Value;

#[test]
fn generate_writes_replies_or_says_why_not() {
    assert_snapshot!(
        "generate",
        Study::shared().session(&[
            "generate models/stories260k Once --raw --temperature 0 --max-new-tokens 8",
            "generate models/stories260k Once --raw --temperature 0 --max-new-tokens 4 --samples 2",
            "generate models/stories260k Once --temperature 0 --max-new-tokens 4 --json",
            "generate nope hi",
            "generate study/dpo hi",
            "generate study/dpo hi --where rte=1",
            "generate study/dpo hi --where rate=7",
            "generate study/sft hi --step 3 --where seed=1",
            "generate <eval> hi",
            "generate models/stories260k --raw",
            "generate models/stories260k hi --temperature -1",
            "generate models/stories260k hi --top-p 0",
            "generate models/stories260k hi --where beta",
            "generate models/stories260k hi --prompts x",
            "generate models/stories260k --prompts nope.jsonl",
            "generate models/stories260k hi --device cuda",
        ])
    );
}

#[test]
fn a_model_without_a_chat_template_continues_texts() {
    let project = Project::new();
    let path = "models/stories260k/tokenizer_config.json";
    let mut config: Value = serde_json::from_str(&project.read(path)).unwrap();
    config.as_object_mut().unwrap().remove("chat_template");
    project.write(path, config.to_string());
    assert_snapshot!(
        "generate_without_template",
        session_in(
            &project,
            &[
                "generate models/stories260k Once",
                "generate models/stories260k Once --raw --temperature 0 --max-new-tokens 8",
            ]
        )
    );
}

#[test]
fn serve_model_says_why_it_does_not_begin() {
    assert_snapshot!(
        "serve_model",
        Study::shared().session(&[
            "serve-model nope",
            "serve-model study/dpo",
            "serve-model models/stories260k --port 99999",
            "serve-model models/stories260k --port 0 --chat-template nope.jinja",
            "serve-model",
        ])
    );
}

#[test]
fn samples_are_shown_side_by_side_or_refused() {
    assert_snapshot!(
        "samples",
        Study::shared().session(&[
            "samples study --json",
            "samples nope",
            "samples study --set nope",
            "samples study --where rte=1",
            "samples study --where rate=5",
            "samples study --page 99",
            "samples study --csv --json",
            "samples broken --where rate=1e38",
        ])
    );
}

#[test]
fn two_runs_are_told_apart() {
    assert_snapshot!(
        "diff",
        Study::shared().session(&[
            "diff <sft> <sft>",
            "diff study/0 study/1 --json",
            "diff study/0",
            "diff study/0 study/99",
            "diff study/x study/1",
            "diff nope study/1",
        ])
    );
}

#[test]
fn results_are_written_for_other_programs() {
    assert_snapshot!(
        "store_export",
        Study::copied().session(&[
            "store export tables --format parquet",
            "store export curves --format tensorboard --json",
            "store export tables --format csv",
            "store export new --format xml",
            "store export new",
        ])
    );
}
