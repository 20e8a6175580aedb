//! What commands say where something is one, unknown, silent or asked for twice.

use crate::project::{Project, Said};
use crate::session::Study;
use lions::base::{Timestamp, write_atomic};
use lions::rundir::{FolderLock, Pause, RUNNERS_PATH, write_pause};
use regex::Regex;
use serde_json::Value;

/// One trial without preference learning, although its base file has a recipe for that.
const ONE: &str = r#"extends = ["base/mini.toml"]
[sweep]
name = "one"
question = "Is one enough?"
seeds = [1]
[base]
pipeline = ["sft"]
[base.eval.recipe]
likelihood.instruct = { data = [{ path = "data/sft/instruct_test.jsonl", count = 4 }], max-seq-len = 256 }
likelihood.tales = { data = [{ path = "data/sft/stories_test.jsonl", count = 2 }], max-seq-len = 256 }
"#;

fn refused(said: &Said, code: i32, words: &str) {
    assert_eq!(said.code, code, "{said:?}");
    assert!(said.err.contains(words), "{words} in {said:?}");
}

#[test]
fn one_trial_is_not_several() {
    let project = Project::new();
    project.write("sweeps/one.toml", ONE);
    let said = project.lions(&["plan", "sweeps/one.toml"]);
    let words = "1 trial needs 2 runs (2 if nothing were shared): 0 done, 2 to do";
    assert!(said.out.contains(words), "{said:?}");
    assert!(said.out.contains("1 time "), "{said:?}");
}

#[test]
fn what_is_done_takes_no_hours_and_none_below_nothing() {
    let project = &Study::shared().project;
    let said = project.lions(&["plan", "sweeps/study.toml", "--gpu", "h100,rtx4090"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("0 to do"), "{said:?}");
    for card in ["H100-80GB", "RTX-4090-24GB"] {
        let line = format!("≈ 0.00 GPU-hours (one {card} at 40 % of peak)");
        assert!(said.out.contains(&line), "{said:?}");
    }
    assert!(!said.out.contains("-0"), "{said:?}");
    let told = project.json(&["plan", "sweeps/study.toml", "--gpu", "h100"]);
    assert_eq!(told["device"]["hours"].to_string(), "0.0", "{told}");
}

#[test]
fn a_stage_that_a_trial_does_not_run_has_no_rows_to_look_at() {
    let project = Project::new();
    project.write("sweeps/one.toml", ONE);
    let said = project.lions(&["inspect", "sweeps/one.toml", "--stage", "dpo"]);
    refused(&said, 1, "trial 0 (base) does not run `dpo`");
    refused(&said, 1, "it runs sft");
    let said = project.lions(&["inspect", "sweeps/one.toml"]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn a_report_that_was_left_alone_is_written_by_the_next_run() {
    let study = Study::copied();
    let project = &study.project;
    let eval = project.path("results/runs").join(&study.id("eval")[..12]);
    std::fs::remove_dir_all(eval).unwrap();
    let words = ["run", "sweeps/study.toml"];
    // First for a run that is done again, then for another title.
    for title in ["Learning rate", "Rate"] {
        let text = project.read("sweeps/study.toml");
        project.write("sweeps/study.toml", text.replace("Learning rate", title));
        let said = project.lions(&[&words[..], &["--no-report"]].concat());
        assert_eq!(said.code, 0, "{said:?}");
        for is_current in [false, true] {
            let said = project.lions(&words);
            assert_eq!(said.code, 0, "{said:?}");
            assert_eq!(said.err.contains("nothing to do"), is_current, "{said:?}");
        }
    }
}

#[test]
fn trials_are_those_of_a_sweep() {
    let said = Study::shared().project.lions(&["status", "--trials"]);
    refused(&said, 2, "SWEEP");
}

#[test]
fn a_log_is_followed_or_one_value() {
    let study = Study::shared();
    let words = ["log", study.id("dpo"), "--follow", "--json"];
    refused(&study.project.lions(&words), 1, "`--follow`");
}

#[test]
fn a_run_whose_runner_died_is_silent_and_not_at_work() {
    let study = Study::copied();
    let id = study.id("failed");
    let store = rusqlite::Connection::open(study.project.path("results/lions.db")).unwrap();
    let change = |sql: &str| assert_eq!(store.execute(sql, [id]).unwrap(), 1);
    change("UPDATE run SET state = 'leased' WHERE run_id = ?1");
    // Begun ten minutes ago, and the lease was last renewed two minutes later.
    change(
        "UPDATE attempt SET state = 'live', ended = NULL, started = started - 600000,
         expires = started - 480000 + 90000 WHERE run = (SELECT id FROM run WHERE run_id = ?1)",
    );
    drop(store);
    let sweeps = study.project.lions(&["status"]);
    assert!(sweeps.out.contains("1 silent"), "{sweeps:?}");
    let status = study.project.lions(&["status", "broken"]);
    let row = status.out.lines().find(|line| line.starts_with(&id[..12]));
    let row = row.unwrap();
    assert!(
        row.contains("silent") && row.contains("no heartbeat since"),
        "{row}"
    );
    assert!(row.contains("2m00s"), "up to when it was seen last: {row}");
    for words in [["status", "broken"], ["show", id], ["why", id]] {
        let said = study.project.lions(&words);
        assert!(said.out.contains("silent"), "{said:?}");
        assert!(!said.out.contains("running"), "{said:?}");
    }
    let why = study.project.lions(&["why", id]);
    assert!(
        why.out.contains("the next `lions run` takes it back"),
        "{why:?}"
    );
}

#[test]
fn a_run_that_waits_for_room_on_the_disk_says_so() {
    let study = Study::copied();
    let id = study.id("failed");
    assert_eq!(study.project.lions(&["retry", id]).code, 0);
    let note = study.project.path(format!("{RUNNERS_PATH}/one.lock"));
    write_atomic(&note, &[b' '; 1024]).unwrap();
    let pause = Pause {
        reason: "1 MiB free, 512 MiB are wanted".to_owned(),
        since: Timestamp(0),
    };
    write_pause(&note, Some(&pause)).unwrap();
    let runner = FolderLock::take(&note).unwrap();
    let why = study.project.lions(&["why", id]);
    assert!(why.out.contains("`lions run` has paused for"), "{why:?}");
    assert!(why.out.contains(&pause.reason), "{why:?}");
    let status = study.project.lions(&["status", "broken"]);
    assert!(status.err.contains(&pause.reason), "{status:?}");
    drop(runner);
    let why = study.project.lions(&["why", id]);
    assert!(why.out.contains("waits for a free slot"), "{why:?}");
}

#[test]
fn a_run_whose_attempt_is_still_at_work_says_so() {
    let study = Study::copied();
    let id = study.id("failed");
    assert_eq!(study.project.lions(&["retry", id]).code, 0);
    let attempt = format!("results/runs/{}/attempts/001", &id[..12]);
    let _process = FolderLock::take(&study.project.path(attempt)).unwrap();
    for words in [["why", id], ["status", "broken"]] {
        let said = study.project.lions(&words);
        let told = "its attempt 1 is still running";
        assert!(said.out.contains(told), "{said:?}");
    }
}

#[test]
fn a_sweep_without_tables_compares_what_its_evaluations_measured() {
    let study = Study::copied();
    let project = &study.project;
    let text = project.read("sweeps/study.toml");
    let start = text.find("[[report.table]]").unwrap();
    let end = text.find("[[report.figure]]").unwrap();
    project.edit(
        "sweeps/study.toml",
        &text[start..end],
        "[report]\ntable = []\n\n",
    );
    let said = project.lions(&["run", "sweeps/study.toml", "--no-report", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");
    let table = &project.json(&["compare", "study"])[0];
    let results = table["rows"][0]["results"].as_array().unwrap();
    let keys: Vec<&str> = results
        .iter()
        .map(|cell| cell["metric"].as_str().unwrap())
        .collect();
    for key in [
        "polite/rewards/accuracies",
        "tales/loss",
        "instruct/loss",
        "stories/rule_score",
    ] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    // What training alone measured would be empty columns.
    let of_training = |key: &&str| !key.contains('/') || key.starts_with("eval_");
    assert!(!keys.iter().any(of_training), "{keys:?}");
    assert!(
        results
            .iter()
            .all(|cell| cell["missing"] == Value::Array(Vec::new())),
        "{table}"
    );
    let title = table["title"].as_str().unwrap();
    let some = Regex::new(r"^All configurations: \d+ of \d+ metrics$").unwrap();
    assert!(some.is_match(title), "{title}");
}

#[test]
fn with_json_every_line_of_stderr_is_an_object() {
    let study = Study::copied();
    let project = &study.project;
    let asked = |words: &[&str]| {
        let said = project.lions(&[words, &["--json"]].concat());
        let lines: Vec<Value> = said
            .err
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        (said.code, lines)
    };
    let (code, lines) = asked(&["status", "studdy"]);
    assert_eq!(
        (code, &lines[0]["exit_code"]),
        (1, &Value::from(1)),
        "{lines:?}"
    );
    assert!(
        lines[0]["error"]
            .as_str()
            .unwrap()
            .starts_with("no sweep `studdy`"),
        "{lines:?}"
    );
    assert_eq!(lines[0]["hints"][0], "did you mean `study`?");
    let (code, lines) = asked(&["status", "--nonsense"]);
    assert_eq!(
        (code, &lines[0]["exit_code"]),
        (2, &Value::from(2)),
        "{lines:?}"
    );
    assert_eq!(lines[0]["error"], "unexpected argument '--nonsense' found");
    // A learning rate that destroys the model is warned of.
    let (code, lines) = asked(&["check", "sweeps/broken.toml"]);
    assert_eq!(code, 0, "{lines:?}");
    assert!(
        lines[0]["warning"]
            .as_str()
            .unwrap()
            .contains("learning rate"),
        "{lines:?}"
    );
    // What is logged is a warning, too.
    std::fs::remove_dir_all(project.path("results/sweeps")).unwrap();
    project.write("results/sweeps", "no folder");
    let (code, lines) = asked(&["run", "sweeps/study.toml"]);
    assert_eq!(code, 0, "{lines:?}");
    let mut warnings = lines.iter().filter_map(|line| line["warning"].as_str());
    let told = "the sweep is not kept beside the database";
    assert!(warnings.any(|text| text.starts_with(told)), "{lines:?}");
    project.edit(
        "sweeps/study.toml",
        "global-batch-size = 4",
        "global-batchsize = 4",
    );
    let (code, lines) = asked(&["check", "sweeps/study.toml"]);
    assert_eq!(code, 1, "{lines:?}");
    let finding = &lines[0]["findings"][0];
    assert_eq!(finding["file"], "sweeps/study.toml", "{lines:?}");
    assert_eq!(
        (&finding["line"], &finding["column"]),
        (&Value::from(8), &Value::from(1))
    );
    assert!(
        finding["help"]
            .as_str()
            .unwrap()
            .contains("`global-batch-size`"),
        "{lines:?}"
    );
}

#[test]
fn near_names_are_told_wherever_a_sweep_or_run_is_named() {
    let study = Study::shared();
    let lions = |words: &[&str]| study.project.lions(words);
    for command in ["status", "compare", "figures", "report"] {
        refused(&lions(&[command, "studdy"]), 1, "did you mean `study`?");
        refused(
            &lions(&[command, "sweeps/studdy.toml"]),
            1,
            "did you mean `study`?",
        );
        // Its file is there.
        let begin = "it has not run here yet; `lions run sweeps/smoke.toml` begins";
        refused(&lions(&[command, "smoke"]), 1, begin);
    }
    for command in ["check", "plan", "run", "inspect"] {
        refused(
            &lions(&[command, "studdy"]),
            1,
            "did you mean `sweeps/study.toml`?",
        );
    }
    for command in ["cancel", "retry", "show", "why", "log"] {
        refused(
            &lions(&[command, "studdy"]),
            1,
            "did you mean the sweep `study`?",
        );
    }
    for command in ["cancel", "retry"] {
        refused(
            &lions(&[command, "sweeps/studdy.toml"]),
            1,
            "did you mean `study`?",
        );
    }
    refused(
        &lions(&["show", "study"]),
        1,
        "`study` is a sweep; `lions status study` lists its runs",
    );
    refused(
        &lions(&["compare", "study", "--table", "rat"]),
        1,
        "did you mean `rate`?",
    );
}

#[test]
fn two_forms_at_once_are_refused() {
    let project = &Study::shared().project;
    for form in ["csv", "text"] {
        let said = project.lions(&["compare", "study", "--format", form, "--json"]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.out.is_empty(), "{said:?}");
        let words = format!("`--json` and `--format {form}` ask for two forms");
        assert!(said.err.contains(&words), "{said:?}");
    }
}

#[test]
fn a_metric_that_nothing_has_is_refused_before_anything_is_measured() {
    let study = Study::copied();
    let store = rusqlite::Connection::open(study.project.path("results/lions.db")).unwrap();
    let unmeasured = "UPDATE run SET state = 'ready' WHERE kind = 'eval'; DELETE FROM metric";
    store.execute_batch(unmeasured).unwrap();
    drop(store);
    let said = study
        .project
        .lions(&["compare", "broken", "--metrics", "polite/rewards/accuracy"]);
    refused(&said, 1, "there is no metric `polite/rewards/accuracy`");
    refused(&said, 1, "did you mean `rewards/accuracies`?");
    let said = study.project.lions(&[
        "compare",
        "broken",
        "--metrics",
        "polite/rewards/accuracies",
    ]);
    assert_eq!(said.code, 0, "{said:?}");
}

#[test]
fn small_numbers_keep_their_digits() {
    let study = Study::shared();
    let rate = Regex::new(r"learning_rate +[1-9]\.\d{3}e-\d").unwrap();
    let zero = Regex::new(r" 0\.0000\s").unwrap();
    for command in ["log", "show"] {
        let said = study.project.lions(&[command, study.id("dpo")]);
        assert!(rate.is_match(&said.out), "{said:?}");
        assert!(!zero.is_match(&said.out), "{said:?}");
    }
}

#[test]
fn files_of_another_form_are_told_with_the_way_out() {
    let project = Project::new();
    project.write("sweeps/one.toml", ONE);
    for (file, instead, words) in [
        (
            "model.safetensors",
            "pytorch_model.bin",
            "it has `pytorch_model.bin`, which transformers converts by",
        ),
        (
            "tokenizer.json",
            "tokenizer.model",
            "there is `tokenizer.model` only; transformers writes `tokenizer.json` by",
        ),
    ] {
        let [file, instead] =
            [file, instead].map(|name| project.path("models/stories260k").join(name));
        std::fs::rename(&file, &instead).unwrap();
        refused(&project.lions(&["check", "sweeps/one.toml"]), 1, words);
        std::fs::rename(&instead, &file).unwrap();
    }
    project.write("sweeps/one.toml", ONE.replace("base/mini.toml", "base"));
    refused(
        &project.lions(&["check", "sweeps/one.toml"]),
        1,
        "is a folder",
    );
    let latin: Vec<u8> = ONE
        .replace("one enough", "it na\u{ef}ve")
        .chars()
        .map(|c| c as u8)
        .collect();
    project.write("sweeps/one.toml", latin);
    refused(
        &project.lions(&["check", "sweeps/one.toml"]),
        1,
        "not UTF-8",
    );
}

/// An axis over what results do not depend on, and one over two spellings of a folder.
#[test]
fn configurations_that_are_the_same_runs_are_warned_of() {
    let project = crate::tiny::project();
    for (path, values) in [
        ("sft.runtime.micro-batch-tokens", "[256, 512, 1024]"),
        (
            "model.path",
            "[\"models/stories260k\", \"models//stories260k\", \"models/stories260k/\"]",
        ),
    ] {
        let axis = format!("[[axis]]\nname = \"arm\"\npath = \"{path}\"\nvalues = {values}\n");
        let head = "extends = [\"tiny.toml\"]\n[sweep]\nname = \"same\"\nquestion = \"q\"\nseeds = [1, 2]\n";
        project.write("sweeps/same.toml", format!("{head}{axis}"));
        let said = project.lions(&["plan", "sweeps/same.toml"]);
        assert_eq!(said.code, 0, "{said:?}");
        let warning = "are the same runs: no result depends on what they differ in; so it is with 3 further trials";
        assert!(said.err.contains(warning), "{said:?}");
    }
    let said = project.lions(&["plan", "sweeps/smoke.toml"]);
    assert!(!said.err.contains("the same runs"), "{said:?}");
}

/// What is said of a slip of the pen: what is expected, or what comes near.
#[test]
fn a_slip_of_the_pen_is_answered_with_what_is_expected() {
    let study = Study::copied();
    let project = &study.project;
    let base = "base/mini.toml";
    let axis = "dpo.recipe.beta=0.1,0.2";
    for (words, code, parts) in [
        (
            &["priority", "study", "high"][..],
            2,
            &["it must be a whole number, such as 1 or -1"][..],
        ),
        (
            &["plan", "--base", base, "--axis", axis, "--seeds", "a"],
            2,
            &["it must be a whole number, 0 or more"],
        ),
        (
            &["serve", "--port", "x"],
            2,
            &["it must be a whole number, 0 to 65535"],
        ),
        (
            &["generate", "models/stories260k", "--max-new-tokens", "0"],
            2,
            &["it must be a whole number, 1 or more"],
        ),
        (
            &["run", "sweeps/study.toml", "--notify", "foo"],
            2,
            &["it must begin with `http://` or `https://` and a host"],
        ),
        (
            &["plan", "--base", base, "--axis", axis, "--name", "../x"],
            1,
            &["`../x` cannot be a sweep's name", "letters, digits"],
        ),
        (
            &["plan", "--base", base, "--axis", "dpo.recipe.bta=0.1,0.2"],
            1,
            &["--> --axis:", "did you mean `dpo.recipe.beta`?"],
        ),
        (
            &["pause", "nope"],
            1,
            &["sweeps that have run here: broken, study"],
        ),
        (
            &["pause", "smoke"],
            1,
            &["it has not run here yet; `lions run sweeps/smoke.toml` begins"],
        ),
        (
            &["check", "base/default.toml"],
            1,
            &[
                "`base/default.toml` is a base file, not a sweep",
                "a sweep on it begins with `extends = [\"base/default.toml\"]`",
                "sweep files here: ",
            ],
        ),
        (
            &["run", "sweeps/base/mini.toml"],
            1,
            &["`sweeps/base/mini.toml` is a base file, not a sweep"],
        ),
        (
            &[
                "init",
                "mine",
                "--model",
                "nosuch",
                "--sft",
                "data/sft/instruct_test.jsonl",
            ],
            1,
            &["there is no model folder `nosuch`", "Hugging Face layout"],
        ),
    ] {
        let said = project.lions(words);
        assert_eq!(said.code, code, "{words:?}: {said:?}");
        for part in parts {
            assert!(said.err.contains(part), "no `{part}` in {said:?}");
        }
    }
    assert!(!project.path("mine").exists());
    let told = project.lions(&["man", "pages"]);
    assert!(
        told.err.contains("and a page for each command beside it"),
        "{told:?}"
    );
    assert!(project.path("pages/lions-run.1").is_file());
}

#[test]
fn only_what_failed_is_retried_and_what_is_done_is_not() {
    let study = Study::copied();
    let project = &study.project;
    let state = |id: &str| {
        let shown = project.json(&["status", "broken"]);
        let mut runs = shown["runs"].as_array().unwrap().iter();
        let run = runs.find(|run| run["id"] == id).unwrap();
        run["state"]["state"].as_str().unwrap().to_owned()
    };
    let (failed, done) = (study.id("failed"), study.id("dpo"));
    let said = project.lions(&["retry", "--failed"]);
    let back = "1 run back in the queue; `lions run <sweep file>` carries it out\n";
    assert_eq!((said.code, said.out.as_str()), (0, back), "{said:?}");
    assert_eq!(state(failed), "ready");
    assert_eq!(project.lions(&["cancel", failed]).code, 0);
    let none = "nothing to retry: no run failed or was cancelled\n";
    for words in [&["retry", "--failed"][..], &["retry", "study"]] {
        assert_eq!(project.lions(words).out, none, "{words:?}");
    }
    assert_eq!(state(failed), "cancelled");
    let said = project.lions(&["retry", done]);
    let words = format!(
        "nothing to retry: run {} neither failed nor was cancelled or skipped",
        &done[..12]
    );
    assert!(said.code == 0 && said.out.starts_with(&words), "{said:?}");
    assert_eq!(project.json(&["retry", "broken"])["ready_again"], 1);
    assert_eq!(state(failed), "ready");
}
