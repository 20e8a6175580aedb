//! From a sweep file to figures, by the program itself.

use crate::driver::{signal, wait_until};
use crate::project::Project;
use lions::config::spec::TrialConfig;
use std::collections::{BTreeMap, BTreeSet};

fn runs_by_stage(plan: &serde_json::Value) -> BTreeMap<String, usize> {
    let mut stages = BTreeMap::new();
    for run in plan["runs"].as_array().unwrap() {
        *stages
            .entry(run["stage"].as_str().unwrap().to_owned())
            .or_default() += 1;
    }
    stages
}

#[test]
fn a_sweep_runs_once_is_reported_and_is_then_done() {
    let project = Project::new();
    let plan = project.json(&["plan", "sweeps/smoke.toml"]);
    let want = BTreeMap::from(
        [("sft", 1), ("ref-logps", 1), ("dpo", 4), ("eval", 4)].map(|(k, v)| (k.to_owned(), v)),
    );
    assert_eq!(
        runs_by_stage(&plan),
        want,
        "each distinct SFT and reference is computed once"
    );

    let first = project.run_smoke(0);
    assert_eq!(
        (&first["executed"], &first["failed"]),
        (&10.into(), &0.into())
    );
    let page = project.read("reports/smoke/index.html");
    assert!(page.contains("Does the whole way through work?") && page.contains("<svg"));
    let figure = project.read("reports/smoke/figures/beta.svg");

    let second = project.run_smoke(0);
    assert_eq!(
        (&second["executed"], &second["reused"]),
        (&0.into(), &10.into())
    );
    assert_eq!(project.lions(&["figures", "smoke"]).code, 0);
    assert_eq!(
        project.read("reports/smoke/figures/beta.svg"),
        figure,
        "figures are redrawn byte for byte"
    );

    let table = &project.json(&["compare", "smoke"])[0];
    assert_eq!(table["rows"].as_array().unwrap().len(), 2, "{table}");
    for (form, mark) in [
        ("markdown", "| "),
        ("csv", ","),
        ("latex", "\\toprule"),
        ("text", "beta"),
    ] {
        assert!(
            project
                .lions(&["compare", "smoke", "--format", form])
                .out
                .contains(mark),
            "{form}"
        );
    }
    assert_eq!(project.json(&["status"])[0]["states"]["succeeded"], 10);
    let run = plan["runs"][0]["id"].as_str().unwrap();
    let shown = project.json(&["show", &run[..8]]);
    assert_eq!(shown["run"]["id"], run);
    assert!(
        shown["counts"]["documents_kept"].as_u64().unwrap() > 0,
        "{}",
        shown["counts"]
    );

    what_runs_store_is_what_check_accepts(&project);
    a_changed_report_is_written_though_no_run_is_new(&project);
    a_new_beta_costs_its_own_runs(&project);
    a_lost_database_costs_nothing(&project);
    a_person_can_ask_the_database(&project);
}

/// The metrics of all runs are those that tables and figures may name, not one more or less.
fn what_runs_store_is_what_check_accepts(project: &Project) {
    let file = project.path("sweeps/smoke.toml");
    let sweep = lions::config::load_sweep(&file, &project.path("")).unwrap();
    let keys_of = |keys: fn(&TrialConfig) -> Vec<String>| -> BTreeSet<String> {
        let trials = sweep.trials.iter();
        trials.flat_map(|trial| keys(&trial.config)).collect()
    };
    let mut stored: BTreeMap<bool, BTreeSet<String>> = BTreeMap::new();
    for run in std::fs::read_dir(project.path("results/runs")).unwrap() {
        let outcome = std::fs::read(run.unwrap().path().join("outcome.json")).unwrap();
        let outcome: serde_json::Value = serde_json::from_slice(&outcome).unwrap();
        let metrics = outcome["result"]["metrics"].as_object().unwrap();
        let of_kind = stored.entry(outcome["kind"] == "eval").or_default();
        of_kind.extend(metrics.keys().cloned());
    }
    assert_eq!(stored[&true], keys_of(lions::config::final_metric_keys));
    assert_eq!(stored[&false], keys_of(lions::config::step_metric_keys));
}

fn a_changed_report_is_written_though_no_run_is_new(project: &Project) {
    let (old, new) = ("Does the whole way", "Does, once more, the whole way");
    project.edit("sweeps/smoke.toml", old, new);
    assert_eq!(project.run_smoke(0)["executed"], 0);
    assert!(project.read("reports/smoke/index.html").contains(new));
    project.edit("sweeps/smoke.toml", new, old);
    assert_eq!(project.run_smoke(0)["executed"], 0);
}

fn a_new_beta_costs_its_own_runs(project: &Project) {
    project.edit(
        "sweeps/smoke.toml",
        "values = [0.1, 0.5]",
        "values = [0.1, 0.5, 0.9]",
    );
    let plan = project.json(&["plan", "sweeps/smoke.toml"]);
    let todo: Vec<_> = plan["runs"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|run| run["done"] == false)
        .collect();
    let stages: Vec<_> = todo
        .iter()
        .map(|run| run["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages.iter().filter(|stage| **stage == "dpo").count(), 2);
    assert_eq!(stages.iter().filter(|stage| **stage == "eval").count(), 2);
    assert_eq!(stages.len(), 4, "nothing else runs again: {stages:?}");
    let said = project.lions(&["plan", "sweeps/smoke.toml", "--explain"]);
    assert!(said.out.contains("recipe.beta"), "{}", said.out);
    project.edit(
        "sweeps/smoke.toml",
        "values = [0.1, 0.5, 0.9]",
        "values = [0.1, 0.5]",
    );
}

fn a_lost_database_costs_nothing(project: &Project) {
    let shown = |words: &[&str]| {
        let mut shown = project.json(words);
        // When it was registered is when its file was written, to the millisecond or so.
        if let Some(sweeps) = shown.as_array_mut() {
            for sweep in sweeps {
                if let Some(sweep) = sweep.as_object_mut() {
                    sweep.remove("registered");
                }
            }
        }
        shown
    };
    let tables = [
        &["compare", "smoke"][..],
        &["status"],
        &["status", "smoke", "--trials"],
    ];
    let before = tables.map(shown);
    std::fs::remove_file(project.path("results/lions.db")).unwrap();
    let said = project.lions(&["store", "rebuild"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("1 sweep and "), "{said:?}");
    assert_eq!(tables.map(shown), before, "before any run");
    let database = rusqlite::Connection::open(project.path("results/lions.db")).unwrap();
    let sql = "SELECT count(*) FROM attempt WHERE device = 'cpu' AND owner <> 'unknown'";
    let known: u32 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(known >= 10, "{known} attempts have their provenance");
    assert_eq!(project.run_smoke(0)["executed"], 0);
}

fn a_person_can_ask_the_database(project: &Project) {
    let database = rusqlite::Connection::open(project.path("results/lions.db")).unwrap();
    let sql = "SELECT assignments ->> 'beta', max(mean), seeds FROM configuration_metric
        WHERE sweep = 'smoke' AND metric = 'polite/rewards/margins' AND stage = 'eval'";
    let (beta, margin, seeds): (f64, f64, u32) = database
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap();
    assert!([0.1, 0.5].contains(&beta) && margin.is_finite());
    assert_eq!(seeds, 2);
}

/// The statement of the README, on a sweep of the name and the axes that it has there.
#[test]
fn the_question_of_the_readme_is_answered_by_a_store() {
    let project = crate::tiny::project();
    let readme = include_str!("../../README.md");
    let sql = readme.split("```sql\n").nth(1).unwrap();
    let sql = sql.split("```").next().unwrap();
    let axes = r#"extends = ["tiny.toml"]
[sweep]
name = "quickstart"
question = "Which β won at each dataset size?"
seeds = [1, 2]
[base]
pipeline = ["dpo"]
[[axis]]
name = "pairs"
path = "dpo.recipe.max-examples"
values = [8, 16]
[[axis]]
path = "dpo.recipe.beta"
values = [0.05, 0.5]
"#;
    let table = crate::tiny::table(&["polite/rewards/accuracies"]);
    let text = format!("{axes}{}{table}", crate::tiny::POLITE);
    project.write("sweeps/quickstart.toml", text);
    let said = project.lions(&["run", "sweeps/quickstart.toml", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");
    // The best mean of each size, and the configurations that have it.
    let rows = project.json(&["compare", "quickstart"])[0]["rows"].clone();
    let mut wanted: BTreeMap<u32, (f64, Vec<f64>)> = BTreeMap::new();
    for row in rows.as_array().unwrap() {
        let of = |axis: &str| row["configuration"][axis].clone();
        let (pairs, beta) = (
            u32::try_from(of("pairs").as_u64().unwrap()).unwrap(),
            of("beta").as_f64().unwrap(),
        );
        let mean = row["results"][0]["estimate"]["value"].as_f64().unwrap();
        let best = wanted.entry(pairs).or_insert((f64::MIN, Vec::new()));
        if mean > best.0 {
            *best = (mean, Vec::new());
        }
        if mean >= best.0 {
            best.1.push(beta);
        }
    }
    let database = crate::driver::database(&project);
    let mut asked = database.prepare(sql).unwrap();
    assert_eq!(asked.column_names(), ["pairs", "beta", "accuracy", "seeds"]);
    let told = asked.query_map([], |row| {
        Ok((
            row.get::<_, u32>(0)?,
            row.get::<_, f64>(1)?,
            row.get::<_, f64>(2)?,
            row.get::<_, u32>(3)?,
        ))
    });
    let told: Vec<_> = told.unwrap().map(Result::unwrap).collect();
    assert_eq!(told.iter().map(|row| row.0).collect::<Vec<_>>(), [8, 16]);
    for (pairs, beta, accuracy, seeds) in told {
        let (best, betas) = &wanted[&pairs];
        assert!(
            (accuracy - best).abs() < 1e-12 && betas.contains(&beta),
            "{pairs}: {beta}"
        );
        assert_eq!(seeds, 2);
    }
}

/// Threads cannot be started with stacks of that size, which no command foresees.
#[test]
fn what_nobody_foresaw_ends_with_the_code_of_a_bug_and_costs_nothing() {
    let project = crate::tiny::project();
    crate::driver::write_sweep(&project, "broken", 2, "");
    let words = ["run", "sweeps/broken.toml", "--jobs", "1"];
    let mut command = project.command(&words);
    command.env("RUST_MIN_STACK", "1000000000000000000");
    let said = crate::project::Said::of(&command.output().unwrap());
    assert_eq!(said.code, 255, "{said:?}");
    for words in [
        "panicked at ",
        "error: the command panicked; this is a bug of lions",
        "hint: ",
    ] {
        assert!(said.err.contains(words), "{words}: {said:?}");
    }
    let said = project.lions(&words);
    assert_eq!(said.code, 0, "{said:?}");
    let table = project.json(&["compare", "broken"]);
    assert_eq!(table[0]["rows"].as_array().unwrap().len(), 1, "{table}");
}

#[test]
fn a_loss_that_is_not_finite_fails_its_run_and_its_siblings_go_on() {
    let project = Project::new();
    project.edit(
        "sweeps/smoke.toml",
        "path = \"dpo.recipe.beta\"",
        "path = \"dpo.recipe.optimizer.learning-rate\"",
    );
    project.edit(
        "sweeps/smoke.toml",
        "values = [0.1, 0.5]",
        "values = [1e-4, 1e38]",
    );
    project.edit("sweeps/smoke.toml", "baseline = { beta = 0.1 }", "");
    // The first step's rate is zero; the third meets the ruined weights before any monitor does.
    project.edit(
        "sweeps/smoke.toml",
        "max-examples = 16",
        "max-examples = 16\nduration = { epochs = 2 }",
    );
    project.edit("sweeps/smoke.toml", "every-steps = 1", "every-steps = 100");
    project.edit("sweeps/smoke.toml", "x = \"beta\"", "x = \"learning-rate\"");
    project.edit(
        "sweeps/smoke.toml",
        "series = \"beta\"",
        "series = \"learning-rate\"",
    );
    let summary = project.run_smoke(100);
    assert_eq!(
        (
            &summary["failed"],
            &summary["skipped"],
            &summary["succeeded"]
        ),
        (&2.into(), &2.into(), &6.into())
    );
    let failure = &summary["failures"][0];
    assert_eq!(failure["class"], "not-finite");
    let message = failure["message"].as_str().unwrap();
    assert!(
        message.contains("step") && message.contains("polite-"),
        "step and rows are named: {message}"
    );
    let run = failure["run"].as_str().unwrap();
    assert!(project.lions(&["why", &run[..10]]).out.contains("step"));
    assert!(project.lions(&["log", &run[..10]]).out.contains("failed"));
    let table = project.lions(&["compare", "smoke"]).out;
    assert!(table.contains("failed"), "an empty cell says why:\n{table}");
}

#[test]
fn an_interrupted_sweep_goes_on_where_it_was() {
    let project = Project::new();
    let mut child = project
        .command(&["run", "sweeps/smoke.toml", "--quiet", "--jobs", "1"])
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let one_is_done = || {
        let runs = std::fs::read_dir(project.path("results/runs"));
        runs.is_ok_and(|runs| {
            runs.flatten()
                .any(|run| run.path().join("outcome.json").is_file())
        })
    };
    wait_until("a run that is done", one_is_done);
    signal("INT", &child.id().to_string());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let summary = project.run_smoke(0);
    assert_eq!(summary["succeeded"], 10);
    assert!(summary["reused"].as_u64().unwrap() >= 1, "{summary}");
}
