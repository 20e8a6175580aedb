//! Sessions with the commands that take a sweep file: `check`, `plan`, `inspect`, `run`, `exec`.

use crate::project::Project;
use crate::session::{Study, session_in};
use insta::assert_snapshot;

#[test]
fn check_says_what_a_file_asks_or_what_is_wrong() {
    let study = Study::shared();
    assert_snapshot!(
        "check",
        study.session(&[
            "check sweeps/study.toml",
            "check sweeps/study.toml --json",
            "check sweeps/study.toml --base sweeps/base/nope.toml",
            "check",
            "check nope.toml",
            "check sweeps",
            "check sweeps/study.toml --nope",
            "check sweeps/study.toml --root nope",
        ])
    );
    let project = Project::new();
    project.edit(
        "sweeps/smoke.toml",
        "global-batch-size = 8",
        "global-batchsize = 8",
    );
    project.edit(
        "sweeps/smoke.toml",
        "baseline = { beta = 0.1 }",
        "baseline = { beta = 0.2 }",
    );
    assert_snapshot!(
        "check_mistakes",
        session_in(
            &project,
            &["check sweeps/smoke.toml", "check sweeps/smoke.toml --json"]
        )
    );
}

#[test]
fn plan_shows_what_would_run() {
    let project = Project::new();
    assert_snapshot!(
        "plan_new",
        session_in(
            &project,
            &[
                "plan sweeps/smoke.toml",
                "plan sweeps/smoke.toml --gpu a100",
            ]
        )
    );
    let study = Study::copied();
    study.project.edit(
        "sweeps/study.toml",
        "global-batch-size = 4",
        "global-batch-size = 8",
    );
    assert_snapshot!(
        "plan",
        study.session(&[
            "plan sweeps/broken.toml",
            "plan sweeps/study.toml --explain --all",
            "plan sweeps/study.toml --json",
            "plan",
            "plan nope.toml",
            "plan sweeps/study.toml --gpu nope",
            "plan sweeps/study.toml --mfu 2",
            "plan sweeps/study.toml --device-flops=-1",
        ])
    );
    std::fs::remove_dir_all(project.path("data/pref")).unwrap();
    assert_snapshot!(
        "plan_missing",
        session_in(
            &project,
            &[
                "plan sweeps/smoke.toml",
                "check sweeps/smoke.toml",
                "run sweeps/smoke.toml",
            ]
        )
    );
}

#[test]
fn schema_tells_a_field_or_all_of_them() {
    let project = Project::new();
    assert_snapshot!(
        "schema",
        session_in(
            &project,
            &[
                "schema dpo.recipe.optimizer.learning-rate",
                "schema sft.recipe.batching",
                "schema dpo.beta",
                "schema sft dpo",
            ]
        )
    );
    let whole = project.json(&["schema"]);
    assert_eq!(whole["properties"]["base"]["type"], "object");
}

#[test]
fn inspect_shows_rows_as_the_model_sees_them() {
    assert_snapshot!(
        "inspect",
        Study::shared().session(&[
            "inspect sweeps/study.toml",
            "inspect sweeps/study.toml --trial 2 --step 4 --row 3",
            "inspect sweeps/study.toml --stage sft --row 1 --tokens",
            "inspect sweeps/study.toml --json",
            "inspect",
            "inspect nope.toml",
            "inspect sweeps/study.toml --trial 9",
            "inspect sweeps/study.toml --step 0",
            "inspect sweeps/study.toml --step 5",
            "inspect sweeps/study.toml --row 4",
            "inspect sweeps/study.toml --stage sft --step 9",
            "inspect sweeps/study.toml --stage sft --row 99",
            "inspect sweeps/study.toml --stage nope",
        ])
    );
}

#[test]
fn a_finished_sweep_has_nothing_to_do_and_a_changed_report_is_written() {
    let study = Study::copied();
    let project = &study.project;
    let before = study.session(&["run sweeps/study.toml --jobs 1"]);
    project.edit("sweeps/study.toml", "Learning rate", "Rate");
    let after = study.session(&[
        "run sweeps/study.toml --no-report --jobs 2",
        "run sweeps/study.toml --quiet",
        "run sweeps/broken.toml --quiet",
        "run",
        "run nope.toml",
        "run sweeps/study.toml nope.toml",
        "run sweeps/study.toml --jobs 0",
        "run sweeps/study.toml --device gpu",
        "run sweeps/study.toml --device cuda:1,1",
    ]);
    assert_snapshot!("run", before + &after);
}

#[test]
fn an_attempt_is_carried_out_by_hand() {
    let study = Study::copied();
    let (sft, project) = (study.id("sft"), &study.project);
    let result = |attempt: u32| -> serde_json::Value {
        let path = format!(
            "results/runs/{}/attempts/{attempt:03}/result.json",
            &sft[..12]
        );
        serde_json::from_str(&project.read(&path)).unwrap()
    };
    let first = result(1);
    assert_snapshot!(
        "exec",
        study.session(&[
            "exec --run <sft> --attempt 2",
            "exec",
            "exec --run abc --attempt 1",
            "exec --run ../../sweeps --attempt 1",
            "exec --run <sft> --attempt 0",
            "exec --run <sft> --attempt 3 --device gpu",
            "exec --run <failed> --attempt 2",
        ])
    );
    assert!(!project.path("results/runs/abc").exists());
    let again = result(2);
    assert_eq!(again["metrics"], first["metrics"], "to the last digit");
    assert!(again["metrics"].is_object());
}

#[test]
fn config_show_says_what_a_trial_comes_to_and_where_it_is_written() {
    let study = Study::shared();
    assert_snapshot!(
        "config",
        study.session(&[
            "config show sweeps/study.toml --trial 1",
            "config show sweeps/study.toml --json",
            "config show sweeps/study.toml --trial 99",
            "config show nope.toml",
        ])
    );
}

#[test]
fn what_config_show_prints_is_the_trial_when_it_is_read_again() {
    let project = Project::new();
    let ids = |file: &str, trial: usize| {
        let plan = project.lions(&["plan", file, "--json"]);
        let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
        plan["trials"][trial]["runs"].clone()
    };
    let shown = project.lions(&["config", "show", "sweeps/smoke.toml", "--trial", "2"]);
    let base: toml::Table = shown.out.parse().unwrap();
    let wanted = ids("sweeps/smoke.toml", 2);
    let seeds = project.lions(&["plan", "sweeps/smoke.toml", "--json"]);
    let seeds: serde_json::Value = serde_json::from_str(&seeds.out).unwrap();
    let seed = seeds["trials"][2]["seed"].as_u64().unwrap();
    let mut file = toml::Table::new();
    file.insert("base".to_owned(), base.into());
    let head =
        format!("[sweep]\nname = \"again\"\nquestion = \"Is it the same?\"\nseeds = [{seed}]\n\n");
    project.write("sweeps/again.toml", format!("{head}{file}"));
    assert_eq!(ids("sweeps/again.toml", 0), wanted);
    assert!(
        wanted.as_array().is_some_and(|runs| !runs.is_empty()),
        "{wanted}"
    );
}

#[test]
fn init_writes_a_first_sweep() {
    let project = Project::new();
    assert_snapshot!(
        "init",
        session_in(
            &project,
            &[
                "init --model models/stories260k --pairs data/pref/polite_train.jsonl",
                "init --model models/stories260k --pairs data/pref/polite_train.jsonl",
                "config show sweeps/first.toml",
            ]
        )
    );
}
