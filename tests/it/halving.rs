//! Successive halving, from the sweep file to the table, and what a sweep keeps of its best configuration.

use crate::driver::attempts;
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
    let plan = plan.split_whitespace().collect::<Vec<_>>().join(" ");
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
