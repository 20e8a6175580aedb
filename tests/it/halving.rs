//! Successive halving, from the sweep file to the table, and what a sweep keeps of its best configuration.

use crate::driver::{Driver, attempts, database, run_words};
use crate::project::Project;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Two arms, each with the best of three values of β, chosen by short trainings.
const HALVED: &str = r#"extends = ["tiny.toml"]
[sweep]
name = "halved"
question = "Which rate is better, each with its own β?"
seeds = [1, 2]
[base]
pipeline = ["sft", "dpo"]
[base.dpo.recipe]
duration = { steps = 4 }
[search.halving]
over = ["beta"]
rungs = [{ steps = 2, keep = 2 }, { steps = 3, keep = 1 }]
seeds = [101]
metric = "valid/loss"
[search.halving.eval]
precision = "f32"
likelihood.valid = { data = [{ path = "data/sft/instruct_validation.jsonl", count = 4 }], max-seq-len = 256 }
[[axis]]
path = "dpo.recipe.optimizer.learning-rate"
values = [1e-4, 1e-3]
[[axis]]
path = "dpo.recipe.beta"
values = [0.05, 0.5, 5]
[[report.table]]
name = "main"
title = "Rates"
metrics = ["tales/loss"]
baseline = { learning-rate = 1e-4 }
"#;

fn is_ok(project: &Project, words: &[&str]) -> String {
    let said = project.lions(words);
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}

/// Words without the ends of lines.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn halved() -> Project {
    let project = crate::tiny::project();
    project.write("sweeps/halved.toml", HALVED);
    project
}

/// Values of a sweep's first metric, by learning rate and β, in rows of the table.
fn losses(project: &Project, sweep: &str, metric: &str) -> BTreeMap<(String, String), f64> {
    let tables = project.json(&["compare", sweep, "--metrics", metric]);
    let rows = tables[0]["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        let own = |axis: &str| row["configuration"][axis].to_string();
        let value = &row["results"][0]["estimate"]["value"];
        ((own("learning-rate"), own("beta")), value.as_f64().unwrap())
    })
    .collect()
}

/// Of each rate so many with the least loss.
fn best(losses: &BTreeMap<(String, String), f64>, keep: usize) -> Vec<(String, String)> {
    let mut ranked: Vec<_> = losses.iter().collect();
    ranked.sort_by(|a, b| a.1.total_cmp(b.1));
    let mut kept: Vec<(String, String)> = Vec::new();
    for ((rate, beta), _) in ranked {
        if kept.iter().filter(|(known, _)| known == rate).count() < keep {
            kept.push((rate.clone(), beta.clone()));
        }
    }
    kept.sort();
    kept
}

#[test]
fn halving_stops_what_ranks_low_and_compares_what_is_left() {
    let project = halved();
    let plan = is_ok(&project, &["plan", "sweeps/halved.toml"]);
    let want = "halving over beta by valid/loss: 2 at step 2, then 1 at step 3 go on; next is rung 1, `halved~2-steps`";
    let plan = one_line(&plan);
    assert!(plan.contains(want), "{plan}");
    let told = project.json(&["plan", "sweeps/halved.toml"]);
    let flops = |key: &str| told["halving"]["flops"][key].as_f64().unwrap();
    assert!(
        0.0 < flops("least") && flops("least") <= flops("most"),
        "{told}"
    );
    assert!(flops("most") < flops("without_halving"), "{told}");
    // Before anything of it runs there is the first rung alone.
    assert_eq!(
        project
            .lions(&["run", "sweeps/halved.toml", "--until", "1s"])
            .code,
        130
    );
    let said = project.lions(&["status", "halved"]);
    assert!(
        said.code == 1 && said.err.contains("`lions status halved~2-steps`"),
        "{said:?}"
    );
    is_ok(&project, &["run", "sweeps/halved.toml", "--jobs", "2"]);

    // The rungs, as the rule has it.
    let first = losses(&project, "halved~2-steps", "valid/loss");
    let second = losses(&project, "halved~3-steps", "valid/loss");
    let left = losses(&project, "halved", "tales/loss");
    assert_eq!((first.len(), second.len(), left.len()), (6, 4, 2));
    assert_eq!(second.keys().cloned().collect::<Vec<_>>(), best(&first, 2));
    assert_eq!(left.keys().cloned().collect::<Vec<_>>(), best(&second, 1));

    // What was stopped is shown as that, and compared with nothing; the two that are left with each other.
    let table = &project.json(&["compare", "halved"])[0];
    let stopped = table["stopped"].as_array().unwrap();
    let mut why: Vec<&str> = stopped
        .iter()
        .map(|row| row["why"].as_str().unwrap())
        .collect();
    why.sort_unstable();
    let of =
        |step: u32, of: u32| format!("stopped at step {step}: rank {of} of {of} on valid/loss");
    assert_eq!(why, [of(2, 3), of(2, 3), of(3, 2), of(3, 2)]);
    let rows = table["rows"].as_array().unwrap();
    let compared = rows
        .iter()
        .filter(|row| !row["results"][0]["comparison"].is_null());
    assert_eq!(compared.count(), 1, "{table}");
    let text = is_ok(&project, &["compare", "halved"]);
    assert_eq!(
        text.matches("stopped at step 2: rank 3 of 3").count(),
        2,
        "{text}"
    );
    let csv = is_ok(&project, &["compare", "halved", "--format", "csv"]);
    assert_eq!(csv.matches("stopped at step").count(), 4, "{csv}");
    let status = is_ok(&project, &["status", "halved"]);
    assert_eq!(status.matches(": stopped at step").count(), 4, "{status}");
    let page = project.read("reports/halved/index.html");
    assert!(page.contains("How configurations were chosen") && page.contains("stopped at step 3"));

    // Nothing is left to do, and the decision stays.
    let again = project.lions(&["run", "sweeps/halved.toml"]);
    assert!(
        again.code == 0 && again.err.contains("nothing to do"),
        "{again:?}"
    );
    let plan = is_ok(&project, &["plan", "sweeps/halved.toml"]);
    assert!(
        plan.contains("to do: 0 to 0 FLOPs")
            && plan.contains("all rungs are decided")
            && plan.contains("0 to do"),
        "{plan}"
    );

    // What is left is what a sweep without halving would have: its runs are done.
    let trained = attempts(&project, "dpo").len();
    let search = HALVED.find("[search.halving]").unwrap()..HALVED.find("[[axis]]").unwrap();
    let mut grid = HALVED.to_owned();
    grid.replace_range(search, "");
    let grid = grid.replace("\"halved\"", "\"grid\"");
    let grid = grid.replace("baseline = { learning-rate = 1e-4 }", "");
    project.write("sweeps/grid.toml", grid);
    for (rate, beta) in left.keys() {
        let (rate, beta) = (format!("learning-rate={rate}"), format!("beta={beta}"));
        is_ok(
            &project,
            &[
                "run",
                "sweeps/grid.toml",
                "--where",
                &rate,
                "--where",
                &beta,
            ],
        );
    }
    assert_eq!(
        attempts(&project, "dpo").len(),
        trained,
        "a run was done anew"
    );
    what_was_stopped_is_picked_like_what_was_not(&project);
    a_rung_that_was_not_measured_is_not_decided(&project);
}

/// Rows of what was stopped, by rate and β with the sweep where there are several.
fn stopped_in(project: &Project, words: &[&str]) -> Vec<[String; 3]> {
    let table = &project.json(&[&["compare"], words].concat())[0];
    let rows = table["stopped"].as_array().cloned().unwrap_or_default();
    let of = |row: &Value| {
        ["sweep", "learning-rate", "beta"].map(|axis| row["configuration"][axis].to_string())
    };
    rows.iter().map(of).collect()
}

fn what_was_stopped_is_picked_like_what_was_not(project: &Project) {
    let all = stopped_in(project, &["halved"]);
    assert_eq!(all.len(), 4, "{all:?}");
    let one = stopped_in(project, &["halved", "--where", "learning-rate=1e-4"]);
    assert_eq!(one.len(), 2, "{one:?}");
    assert!(
        one.iter()
            .all(|row| all.contains(row) && row[1] == all_rate(1e-4))
    );
    // Seeds do not tell who was stopped.
    assert_eq!(stopped_in(project, &["halved", "--where", "seed=2"]), all);
    let [_, rate, beta] = &one[0];
    let words = [format!("learning-rate={rate}"), format!("beta={beta}")];
    let said = project.lions(&[
        "compare", "halved", "--where", &words[0], "--where", &words[1],
    ]);
    assert!(
        said.code == 1 && said.err.contains("halving stopped every configuration"),
        "{said:?}"
    );
    // Beside another sweep each stays its sweep's, whichever is named first.
    for both in [["halved", "grid"], ["grid", "halved"]] {
        let rows = stopped_in(project, &both);
        assert_eq!(rows.len(), 4, "{rows:?}");
        assert!(rows.iter().all(|row| row[0] == "\"halved\""), "{rows:?}");
        let of = |sweep: &str| stopped_in(project, &[both[0], both[1], "--where", sweep]).len();
        assert_eq!((of("sweep=halved"), of("sweep=grid")), (4, 0));
    }
}

/// As JSON writes it.
fn all_rate(rate: f64) -> String {
    Value::from(rate).to_string()
}

/// As an evaluation of an earlier version would be, which did not measure it yet.
fn a_rung_that_was_not_measured_is_not_decided(project: &Project) {
    let trained = attempts(project, "dpo").len();
    let forget = "DELETE FROM metric WHERE key = 'valid/loss'";
    assert!(database(project).execute(forget, []).unwrap() >= 10);
    for command in ["run", "plan"] {
        let said = project.lions(&[command, "sweeps/halved.toml"]);
        let named = [
            "`halved~2-steps` cannot be decided: run ",
            "has no metric `valid/loss`",
        ];
        let is_told = named.iter().all(|text| said.err.contains(text));
        assert!(said.code == 1 && is_told, "{said:?}");
        let next = said.err.split("`lions show ").nth(1).unwrap();
        let run = next.split('`').next().unwrap();
        is_ok(project, &["show", run]);
    }
    assert_eq!(attempts(project, "dpo").len(), trained);
}

// A training that does not stay finite ranks last; it stops nothing else.
#[test]
fn a_configuration_that_does_not_stay_finite_at_a_rung_is_stopped() {
    let project = halved();
    for (from, to) in [
        ("values = [1e-4, 1e-3]", "values = [1e-4]"),
        ("values = [0.05, 0.5, 5]", "values = [0.05, 1e300]"),
        (
            "{ steps = 2, keep = 2 }, { steps = 3, keep = 1 }",
            "{ steps = 2, keep = 1 }",
        ),
        ("baseline = { learning-rate = 1e-4 }", ""),
    ] {
        project.edit("sweeps/halved.toml", from, to);
    }
    let said = project.lions(&["run", "sweeps/halved.toml", "--jobs", "2"]);
    let table = &project.json(&["compare", "halved"])[0];
    let why = table["stopped"][0]["why"].as_str().unwrap();
    assert!(
        why.contains("was not finite") && said.code == 0,
        "{said:?} {table}"
    );
}

#[test]
fn a_halving_that_would_favour_something_is_refused() {
    let project = halved();
    let refused = |from: &str, to: &str, message: &str| {
        project.write("sweeps/wrong.toml", HALVED.replace(from, to));
        let said = project.lions(&["check", "sweeps/wrong.toml"]);
        assert!(
            said.code == 1 && said.err.contains(message),
            "{message}: {said:?}"
        );
    };
    refused(
        "seeds = [101]",
        "seeds = [2]",
        "the seed 2 is one of the sweep's",
    );
    refused(
        "instruct_validation",
        "instruct_test",
        "also stands in the trials' `eval.recipe`",
    );
    refused(
        "data/sft/instruct_validation.jsonl",
        "data/../data/sft/./instruct_test.jsonl",
        "also stands in the trials' `eval.recipe`",
    );
    let part = project.lions(&["run", "sweeps/halved.toml", "--where", "beta=5"]);
    assert!(
        part.code == 1 && part.err.contains("cannot pick some"),
        "{part:?}"
    );
    refused(
        "baseline = { learning-rate = 1e-4 }",
        "baseline = { learning-rate = 1e-4, beta = 5 }",
        "halving may stop what has this `beta`",
    );
    refused(
        "\"valid/loss\"",
        "\"valid/tokens\"",
        "`eval` does not measure `valid/tokens`",
    );
    refused(
        "over = [\"beta\"]",
        "over = [\"bta\"]",
        "there is no axis `bta`",
    );
    refused(
        "{ steps = 3, keep = 1 }",
        "{ steps = 4, keep = 1 }",
        "is no shorter than a trial of 4",
    );
    refused(
        "{ steps = 3, keep = 1 }",
        "{ steps = 3, keep = 2 }",
        "this rung is entered by 2 and keeps 2",
    );
    refused("keep = 2 }, ", "keep = 3 }, ", "nothing is stopped");
    refused(
        "[base.dpo.recipe]",
        "[base.dpo.recipe]\nseed = 4",
        "gives rungs and trials the same training",
    );
}

/// Epochs are the steps that they are.
#[test]
fn a_rung_that_is_no_shorter_than_the_epochs_of_a_trial_is_refused() {
    let project = halved();
    let epochs = "duration = { epochs = 1 }\nmax-examples = 20";
    project.edit("sweeps/halved.toml", "duration = { steps = 4 }", epochs);
    // 20 pairs are 5 steps of 4.
    let steps = |own: u32| {
        let rungs = format!("{{ steps = {own}, keep = 1 }}");
        let text = project.read("sweeps/halved.toml");
        let text = text.replace("{ steps = 3, keep = 1 }", &rungs);
        project.write("sweeps/long.toml", text.replace("\"halved\"", "\"long\""));
    };
    steps(4);
    is_ok(&project, &["check", "sweeps/long.toml"]);
    steps(5);
    let why = "rung 2 trains for 5 steps and is no shorter than the trial `beta=0.05 learning-rate=0.0001`, which \
               trains for 5";
    // A plan of what is refused is shown, as any other.
    for (command, code) in [("check", 1), ("plan", 0), ("run", 1)] {
        let said = project.lions(&[command, "sweeps/long.toml"]);
        let err = one_line(&said.err);
        assert!(
            said.code == code && err.contains(why) && err.contains("sweeps/long.toml:"),
            "{command}: {said:?}"
        );
        assert_eq!(err.matches(why).count(), 1, "{command}: {err}");
        assert!(
            err.contains("lower `search.halving.rungs.1.steps` below 5"),
            "{err}"
        );
        assert_eq!(
            err.contains("this is what would run; `lions run` refuses it"),
            command == "plan",
            "{err}"
        );
    }
    assert!(!project.path("results/lions.db").exists());
}

/// Rows that are too many to be counted out: what packing makes of them is estimated.
#[test]
fn a_rung_that_is_no_shorter_than_estimated_epochs_is_refused() {
    let project = Project::new();
    let lines = project.read("data/sft/instruct_train.jsonl");
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let many = (0..300).map(|at| {
        let mut row = lines[at % lines.len()].clone();
        row["id"] = format!("row-{at}").into();
        format!("{row}\n")
    });
    project.write("data/sft/many.jsonl", many.collect::<String>());
    let file = r#"extends = ["base/mini.toml"]
[sweep]
name = "many"
question = "Which rate?"
seeds = [1]
[base]
pipeline = ["sft"]
[base.sft.recipe]
data = [{ path = "data/sft/many.jsonl" }]
duration = { epochs = 1 }
[search.halving]
over = ["learning-rate"]
rungs = [{ steps = 9999, keep = 1 }]
seeds = [101]
metric = "valid/loss"
[search.halving.eval]
precision = "f32"
likelihood.valid = { data = [{ path = "data/sft/instruct_validation.jsonl", count = 4 }], max-seq-len = 256 }
[[axis]]
path = "sft.recipe.optimizer.learning-rate"
values = [1e-4, 1e-3]
"#;
    project.write("sweeps/many.toml", file);
    let why = "rung 1 trains for 9999 steps and is no shorter than the trial `learning-rate=0.0001`, which trains for about ";
    for command in ["plan", "run"] {
        let said = project.lions(&[command, "sweeps/many.toml"]);
        let err = one_line(&said.err);
        assert!(said.code == 1 && err.contains(why), "{command}: {said:?}");
    }
    assert!(!project.path("results/lions.db").exists());
    project.edit("sweeps/many.toml", "steps = 9999", "steps = 2");
    is_ok(&project, &["plan", "sweeps/many.toml"]);
}

/// One arm, one rung.
fn one_rung(keep: &str) -> Project {
    let project = halved();
    for (from, to) in [
        ("values = [1e-4, 1e-3]", "values = [1e-4]"),
        ("values = [0.05, 0.5, 5]", "values = [0.05, 0.5]"),
        (
            "{ steps = 2, keep = 2 }, { steps = 3, keep = 1 }",
            "{ steps = 2, keep = 1 }",
        ),
        ("baseline = { learning-rate = 1e-4 }", ""),
        ("seeds = [1, 2]", &format!("seeds = [1]\n{keep}")),
    ] {
        project.edit("sweeps/halved.toml", from, to);
    }
    project
}

#[test]
fn the_weights_of_rungs_go_with_those_of_their_sweep() {
    let project = one_rung("keep = \"last\"");
    is_ok(&project, &["run", "sweeps/halved.toml", "--jobs", "2"]);
    let trained = |sweep: &str| -> Vec<String> {
        let runs = project.json(&["status", sweep]);
        let dpo = runs["runs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|run| run["kind"] == "dpo");
        dpo.map(|run| run["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (rung, left) = (trained("halved~2-steps"), trained("halved"));
    assert_eq!((rung.len(), left.len()), (2, 1));
    // What a rung keeps follows from the file, and is no other than when it was run.
    let would = project.lions(&["gc", "halved"]);
    assert!(would.code == 0 && would.err.is_empty(), "{would:?}");
    assert!(
        rung.iter().all(|run| would.out.contains(&run[..12])),
        "{would:?}"
    );
    is_ok(&project, &["gc", "halved", "--yes"]);
    assert!(!rung.iter().any(|run| has_model(&project, run)));
    assert!(has_model(&project, &left[0]));
    // All stays, that of rungs too, once the file says so and was run.
    project.edit("sweeps/halved.toml", "keep = \"last\"", "keep = \"all\"");
    let told = project.lions(&["gc"]);
    for sweep in ["`halved`", "`halved~2-steps`"] {
        let other = format!("is another than when {sweep} was run last");
        assert!(told.err.contains(&other), "{told:?}");
    }
}

/// A sweep that was run on another base is looked up on it.
#[test]
fn what_is_kept_is_read_on_the_base_that_the_sweep_was_run_on() {
    let project = crate::tiny::project();
    let mini = project.read("sweeps/base/mini.toml");
    project.write("sweeps/base/other.toml", mini);
    crate::driver::write_sweep(&project, "based", 2, "");
    let text = project.read("sweeps/based.toml");
    let text = text.replace("tiny.toml", "base/mini.toml");
    project.write(
        "sweeps/based.toml",
        text.replace("seeds = [1]", "seeds = [1]\nkeep = \"last\""),
    );
    let base = "sweeps/base/other.toml";
    is_ok(
        &project,
        &["run", "sweeps/based.toml", "--base", base, "--jobs", "1"],
    );
    assert!(project.lions(&["gc"]).err.is_empty());
    // The file lies on nothing any more but on that base, which alone can be read.
    project.write("sweeps/base/mini.toml", "[base]\nnonsense = 1\n");
    project.edit("sweeps/based.toml", "\"last\"", "\"none\"");
    let told = project.lions(&["gc", "--yes"]);
    let why = "is another than when `based@other` was run last";
    let next = "the next `lions run sweeps/based.toml --base sweeps/base/other.toml` takes it over";
    assert!(
        told.code == 1 && told.err.contains(why) && told.err.contains(next),
        "{told:?}"
    );
}

#[test]
fn what_was_cancelled_of_a_rung_is_put_back_by_the_name_of_its_sweep() {
    let project = one_rung("");
    let words = ["run", "sweeps/halved.toml", "--jobs", "2"];
    let said = project.lions(&[&words[..], &["--until", "1s"]].concat());
    assert_eq!(said.code, 130, "{said:?}");
    // The fine-tuning alone can be begun; the five other runs of the rung need it.
    assert!(is_ok(&project, &["cancel", "halved"]).starts_with("1 run cancelled"));
    let said = project.lions(&words);
    let undecided = one_line(&said.err);
    assert!(
        said.code == 100 && undecided.contains("`halved~2-steps` is not decided"),
        "{said:?}"
    );
    assert!(attempts(&project, "dpo").is_empty());
    let none = is_ok(&project, &["retry", "halved", "--failed"]);
    assert!(none.starts_with("nothing to retry"), "{none}");
    let back = is_ok(&project, &["retry", "halved"]);
    assert!(back.contains("back in the queue"), "{back}");
    is_ok(&project, &words);
    let table = &project.json(&["compare", "halved"])[0];
    assert_eq!(table["rows"].as_array().unwrap().len(), 1, "{table}");
    assert_eq!(table["stopped"].as_array().unwrap().len(), 1, "{table}");
}

/// What is said of a sweep while its rungs run holds for them, and for those that are still to come.
#[test]
fn a_pause_and_a_priority_of_a_sweep_are_those_of_its_rungs() {
    let project = halved();
    let words = run_words("sweeps/halved.toml");
    let mut driver = Driver::start(&mut project.command(&words));
    driver.wait("run-started");
    assert!(is_ok(&project, &["pause", "halved"]).starts_with("1 sweep paused;"));
    let paused = driver.wait("paused");
    assert!(
        paused["reason"]
            .as_str()
            .unwrap()
            .contains("the sweep is paused"),
        "{paused}"
    );
    assert_eq!(
        is_ok(&project, &["priority", "halved", "3"]),
        "halved has priority 3\n"
    );
    let told = is_ok(&project, &["status"]);
    assert!(
        told.contains("halved~2-steps") && told.contains("paused since"),
        "{told}"
    );
    assert_eq!(is_ok(&project, &["resume", "halved"]), "1 sweep resumed\n");
    driver.wait("resumed");
    let ended = driver.end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let sql = "SELECT name, priority FROM sweep JOIN sweep_order ON sweep_order.sweep = sweep.id ORDER BY name";
    let store = database(&project);
    let mut found = store.prepare(sql).unwrap();
    let rows = found.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
    });
    let rows: Vec<(String, i64)> = rows.unwrap().map(Result::unwrap).collect();
    let all = ["halved", "halved~2-steps", "halved~3-steps"].map(|name| (name.to_owned(), 3));
    assert_eq!(rows, all);
    // By the sweep's name all runs of rungs are put back and cancelled, too.
    assert!(is_ok(&project, &["cancel", "halved"]).starts_with("0 runs cancelled"));
    // One order for all of them, whichever were paused before.
    is_ok(&project, &["pause", "halved~2-steps"]);
    let paused = || -> Vec<Option<i64>> {
        let mut found = store
            .prepare("SELECT paused FROM sweep_order ORDER BY sweep")
            .unwrap();
        let rows = found.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let first = paused();
    assert_eq!(first.iter().flatten().count(), 1);
    assert!(is_ok(&project, &["pause", "halved"]).starts_with("1 sweep paused;"));
    assert_eq!(paused().iter().flatten().count(), 3);
    let kept = |at: usize| first[at].is_none_or(|since| paused()[at] == Some(since));
    assert!((0..3).all(kept), "{first:?} {:?}", paused());
    assert!(
        is_ok(&project, &["pause", "halved"]).starts_with("0 runs paused, 1 paused before"),
        "nothing to change"
    );
    assert_eq!(is_ok(&project, &["resume", "halved"]), "1 sweep resumed\n");
    assert_eq!(paused(), [None; 3]);
}

#[test]
fn a_sweep_that_is_halved_is_removed_with_its_rungs() {
    let project = one_rung("");
    is_ok(&project, &["run", "sweeps/halved.toml", "--jobs", "2"]);
    let folders = || {
        std::fs::read_dir(project.path("results/runs"))
            .unwrap()
            .count()
    };
    let all = folders();
    let would = is_ok(&project, &["rm", "halved"]);
    let said = format!("halved would go, with 1 rung, {all} runs and ");
    assert!(would.starts_with(&said), "{would}");
    let removed = &project.json(&["rm", "halved", "--yes"]);
    let sweeps = &removed["remains"]["sweeps"];
    assert_eq!(*sweeps, serde_json::json!(["halved~2-steps", "halved"]));
    assert_eq!(folders(), 0);
    for name in ["halved", "halved~2-steps"] {
        assert_eq!(project.lions(&["compare", name]).code, 1);
    }
    // A rung goes alone if it is named, and its sweep has its runs made again.
    is_ok(&project, &["run", "sweeps/halved.toml", "--jobs", "2"]);
    assert_eq!(folders(), all);
    is_ok(&project, &["rm", "halved~2-steps", "--yes"]);
    assert!(folders() < all);
    is_ok(&project, &["run", "sweeps/halved.toml", "--jobs", "2"]);
    assert_eq!(folders(), all);
}

/// Files of weights below a run's artifacts.
fn has_model(project: &Project, run: &str) -> bool {
    let model = format!(
        "results/runs/{}/artifacts/model/model.safetensors",
        &run[..12]
    );
    project.path(Path::new(&model)).is_file()
}

#[test]
fn a_sweep_that_keeps_its_best_lets_the_weights_of_the_others_go_when_all_are_done() {
    let project = crate::tiny::project();
    let sweep = r#"extends = ["tiny.toml"]
[sweep]
name = "best"
question = "Which rate?"
seeds = [1]
keep = "best"
[[axis]]
path = "sft.recipe.optimizer.learning-rate"
values = [1e-2, 1e-7]
"#;
    project.write("sweeps/best.toml", sweep);
    let said = project.lions(&["check", "sweeps/best.toml"]);
    assert!(
        said.code == 1 && said.err.contains("needs a table whose first metric"),
        "{said:?}"
    );
    let table = crate::tiny::table(&["tales/loss", "instruct/loss"]);
    project.write("sweeps/best.toml", format!("{sweep}{table}"));
    // Before all are done any may be the best.
    is_ok(
        &project,
        &["run", "sweeps/best.toml", "--where", "learning-rate=1e-2"],
    );
    assert!(is_ok(&project, &["gc"]).starts_with("nothing to delete;"));
    is_ok(&project, &["run", "sweeps/best.toml"]);
    let trials = project.json(&["status", "best", "--trials"]);
    let trials: Vec<&Value> = trials.as_array().unwrap().iter().collect();
    let rows = project.json(&["compare", "best"]);
    let rows = rows[0]["rows"].as_array().unwrap().clone();
    let bests: Vec<bool> = rows
        .iter()
        .map(|row| row["results"][0]["best"] == true)
        .collect();
    assert!(bests.contains(&true) && bests.contains(&false), "{rows:?}");
    is_ok(&project, &["gc", "--yes"]);
    for (trial, best) in trials.iter().zip(bests) {
        let run = trial["runs"][0]["id"].as_str().unwrap();
        assert_eq!(has_model(&project, run), best, "{trial}");
    }
    assert_eq!(
        project.json(&["compare", "best"])[0]["rows"]
            .as_array()
            .unwrap(),
        &rows
    );
}
