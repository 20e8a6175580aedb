//! A first study of one's own: `init`, then what it says to do next, to a table.

use crate::project::Project;
use std::path::Path;

/// A model folder and data files that are no project's, beside an empty folder `mine`.
fn strangers() -> Project {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Project::bare();
    std::fs::remove_dir(project.path("sweeps")).unwrap();
    for file in std::fs::read_dir(here.join("models/stories260k")).unwrap() {
        let file = file.unwrap();
        let bytes = std::fs::read(file.path()).unwrap();
        project.write(Path::new("model").join(file.file_name()), bytes);
    }
    for (name, shipped) in [
        ("talks.jsonl", "data/sft/instruct_train.jsonl"),
        ("choices.jsonl", "data/pref/polite_train.jsonl"),
    ] {
        let text = std::fs::read_to_string(here.join(shipped)).unwrap();
        let rows: Vec<&str> = text.lines().take(60).collect();
        project.write(name, rows.join("\n"));
    }
    project
}

#[test]
fn three_commands_lead_from_a_model_and_two_files_to_a_table_and_a_figure() {
    let project = strangers();
    let said = project.lions(&[
        "init",
        "mine",
        "--model",
        "model",
        "--sft",
        "talks.jsonl",
        "--pairs",
        "choices.jsonl",
        "--name",
        "pull",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out
            .contains("ok `pull` is fine: 3 configurations, 9 trials"),
        "{said:?}"
    );
    let rows = |file: &str| {
        project
            .read(&format!("mine/data/pull/{file}.jsonl"))
            .lines()
            .count()
    };
    assert_eq!(rows("sft_train") + rows("sft_test"), 60);
    assert_eq!(rows("pairs_train") + rows("pairs_test"), 60);
    assert!(rows("sft_test") > 0 && rows("pairs_test") > 0);

    let plan = project.lions(&["plan", "mine/sweeps/pull.toml"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    let run = project.lions(&["run", "mine/sweeps/pull.toml", "--jobs", "2"]);
    assert_eq!(run.code, 0, "{run:?}");
    // Numbers of every configuration are there long before the last run, and the whole tables after it.
    let (before, after) = run.err.split_once("The first numbers, ").unwrap();
    let told = after.lines().next().unwrap();
    assert!(told.contains(" of 3 seeds"), "{told}");
    assert!(told.contains("`lions compare pull`"), "{told}");
    let table: Vec<&str> = before.lines().rev().take(6).collect();
    for cell in ["0.02", "0.1 ", "0.5", "held-out-pairs/rewards/accuracies"] {
        assert!(table.iter().any(|line| line.contains(cell)), "{table:?}");
    }
    assert!(after.contains("\ndone "), "{run:?}");
    assert!(
        run.out.contains("held-out-pairs/rewards/accuracies"),
        "{run:?}"
    );
    let again = project.lions(&["run", "mine/sweeps/pull.toml"]);
    assert!(!again.err.contains("first numbers"), "{again:?}");
    let table = project.lions(&["compare", "mine/sweeps/pull.toml"]);
    assert_eq!(table.code, 0, "{table:?}");
    for cell in [
        "0.02",
        "0.1",
        "0.5",
        "held-out-pairs/rewards/accuracies",
        "held-out/loss",
    ] {
        assert!(table.out.contains(cell), "no {cell} in {table:?}");
    }
    assert!(project.path("mine/reports/pull/figures/beta.svg").is_file());
}

#[test]
fn what_init_writes_is_a_base_for_further_questions() {
    let project = strangers();
    let words = [
        "init",
        "mine",
        "--model",
        "model",
        "--pairs",
        "choices.jsonl",
    ];
    let said = project.lions(&words);
    assert_eq!(said.code, 0, "{said:?}");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shipped = std::fs::read_to_string(here.join("sweeps/base/default.toml")).unwrap();
    assert_eq!(project.read("mine/sweeps/base/default.toml"), shipped);
    // The sweep itself is short: the question, what is varied, what is reported.
    let sweep = project.read("mine/sweeps/first.toml");
    let lines = sweep.lines().filter(|line| !line.is_empty()).count();
    assert!(lines <= 20, "{lines} lines:\n{sweep}");
    // Another question needs no file of its own, nor a word on the base, which is the only one.
    let axis = "dpo.recipe.optimizer.learning-rate=1e-4,1e-3";
    let said = project.lions(&[
        "run", "--root", "mine", "--axis", axis, "--seeds", "1", "--name", "rate", "--quiet",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(project.path("mine/sweeps/rate.toml").is_file());
    assert!(
        project
            .path("mine/reports/rate/figures/learning-rate.svg")
            .is_file()
    );
}

#[test]
fn no_prompt_is_on_both_sides_and_a_file_that_grows_keeps_its_own() {
    let project = strangers();
    let held_out = |name: &str| {
        let words = [
            "init",
            "mine",
            "--model",
            "model",
            "--pairs",
            "choices.jsonl",
            "--name",
            name,
        ];
        let said = project.lions(&words);
        assert_eq!(said.code, 0, "{said:?}");
        let side = |part: &str| {
            let text = project.read(&format!("mine/data/{name}/pairs_{part}.jsonl"));
            let prompt = |line: &str| {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                row["chosen"][0].to_string()
            };
            text.lines()
                .map(prompt)
                .collect::<std::collections::BTreeSet<_>>()
        };
        let (train, test) = (side("train"), side("test"));
        assert!(train.is_disjoint(&test));
        test
    };
    let before = held_out("small");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(here.join("data/pref/polite_train.jsonl")).unwrap();
    let rows: Vec<&str> = text.lines().take(300).collect();
    project.write("choices.jsonl", rows.join("\n"));
    assert!(held_out("large").is_superset(&before));
}

#[test]
fn init_says_what_is_missing_and_overwrites_nothing() {
    let project = strangers();
    let refused = |words: &[&str], part: &str| {
        let said = project.lions(words);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(part), "no `{part}` in {said:?}");
    };
    refused(&["init", "mine"], "--model DIR");
    refused(
        &["init", "mine", "--model", "model"],
        "--sft FILE, --pairs FILE or both",
    );
    refused(
        &["init", "mine", "--model", "nowhere", "--sft", "talks.jsonl"],
        "config.json",
    );
    refused(
        &["init", "mine", "--model", "model", "--sft", "gone.jsonl"],
        "gone.jsonl",
    );
    refused(
        &["init", "mine", "--model", "model", "--pairs", "talks.jsonl"],
        "talks.jsonl",
    );
    refused(
        &[
            "init",
            "mine",
            "--model",
            "model",
            "--sft",
            "talks.jsonl",
            "--name",
            "a/b",
        ],
        "`a/b` cannot be a sweep's name",
    );
    refused(
        &[
            "init",
            "mine",
            "--model",
            "model",
            "--sft",
            "talks.jsonl",
            "--name",
            "default",
        ],
        "the base that others lie on",
    );
    assert!(!project.path("mine").exists(), "nothing is left of it");
    let words = ["init", "mine", "--model", "model", "--sft", "talks.jsonl"];
    assert_eq!(project.lions(&words).code, 0);
    let written = project.read("mine/sweeps/first.toml");
    refused(&words, "is there already");
    assert_eq!(project.read("mine/sweeps/first.toml"), written);
}

/// So many rows of their own prompts.
fn talks(count: usize) -> String {
    let row = |n| format!("{{\"prompt\": \"Say {n}.\", \"completion\": \"It is {n}.\"}}\n");
    (0..count).map(row).collect()
}

#[test]
fn one_prompt_in_ten_is_held_out_and_of_large_files_a_thousand() {
    let project = strangers();
    project.write("talks.jsonl", talks(12_000));
    let pair = |n| {
        format!(
            "{{\"prompt\": \"Name {n}.\", \"chosen\": \"A plum.\", \"rejected\": \"No {n}.\"}}\n"
        )
    };
    project.write("choices.jsonl", (0..3_000).map(pair).collect::<String>());
    let words = "init mine --model model --sft talks.jsonl --pairs choices.jsonl";
    let said = project.lions(&words.split(' ').collect::<Vec<_>>());
    assert_eq!(said.code, 0, "{said:?}");
    let rows = |file: &str| {
        let text = project.read(&format!("mine/data/first/{file}.jsonl"));
        text.lines().count()
    };
    assert_eq!([rows("sft_train"), rows("sft_test")], [11_000, 1_000]);
    // Of 3000, each with a chance of a tenth, 300 with a standard deviation of 16.
    let held_out = rows("pairs_test");
    assert!((236..=364).contains(&held_out), "{held_out}");
    assert_eq!(rows("pairs_train") + held_out, 3_000);
}

#[test]
fn files_to_test_on_and_a_question_are_taken_as_they_are() {
    let project = strangers();
    project.write("tests.jsonl", talks(5));
    let question = "Which rate suits five rows?";
    let words =
        "init mine --model model --sft talks.jsonl --test-sft tests.jsonl --name own --question";
    let words: Vec<&str> = words.split(' ').chain([question]).collect();
    let said = project.lions(&words);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!project.path("mine/data").exists(), "nothing is parted");
    let said = project.lions(&["run", "mine/sweeps/own.toml", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");
    let table = project.lions(&["compare", "mine/sweeps/own.toml"]);
    for words in [
        "learning-rate",
        "held-out/loss",
        "5 evaluation rows",
        question,
    ] {
        assert!(table.out.contains(words), "no `{words}` in {table:?}");
    }
    assert!(
        project
            .read("mine/reports/own/index.html")
            .contains(question)
    );
}
