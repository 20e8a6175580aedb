//! Stores of earlier versions stay readable.
//!
//! `tests/data/store-v1` was written by lions 0.1.0 (its `make.sh` says how): recipes, run ids and
//! reports have changed since, and its numbers have to come back all the same.

use crate::project::{Project, copy_tree};
use std::path::Path;

/// Means over two seeds, as the program that made the store printed them.
const MARGINS: [(&str, f64); 2] = [
    ("sigmoid", 1.943_025_858_238_494_7),
    ("simpo", 1.650_412_788_789_253_7),
];

fn old_project() -> Project {
    let project = Project::bare();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/store-v1/results");
    copy_tree(&from, &project.path("results"));
    project
}

fn near(found: &serde_json::Value, want: f64) {
    let found = found.as_f64().unwrap();
    assert!((found - want).abs() < 1e-12, "{found} instead of {want}");
}

fn comes_back(project: &Project) {
    let status = &project.json(&["status"])[0];
    assert_eq!(
        (&status["name"], &status["trials"]),
        (&"old".into(), &4.into())
    );
    assert_eq!(status["states"]["succeeded"], 11);
    let runs = project.lions(&["status", "old"]);
    assert!(runs.out.contains("stay readable?"), "{runs:?}");

    let shown = project.json(&["show", "70c30b67"]);
    assert_eq!(shown["run"]["kind"], "sft");
    assert_eq!(shown["counts"]["documents_kept"], 24);

    let tables = project.json(&["compare", "old"]);
    for ((loss, margin), row) in MARGINS.iter().zip(tables[0]["rows"].as_array().unwrap()) {
        assert_eq!(row["configuration"]["loss"], *loss);
        assert_eq!(row["results"][1]["metric"], "polite/rewards/margins");
        near(&row["results"][1]["estimate"]["value"], *margin);
        assert_eq!(row["results"][1]["seeds"].as_array().unwrap().len(), 2);
    }
    let difference = &tables[0]["rows"][1]["results"][1]["comparison"]["difference"];
    near(difference, MARGINS[1].1 - MARGINS[0].1);

    assert_eq!(project.lions(&["figures", "old"]).code, 0);
    let bars = project.read("reports/old/figures/losses.csv");
    assert!(bars.contains("sigmoid,mean,2,1.9430258582384947"), "{bars}");
    // Steps come from the journals of the attempts, lengths from an artifact.
    let curves = project.read("reports/old/figures/margin.csv");
    assert!(
        curves.contains(",2,mean,2,-0.00004807078671287998"),
        "{curves}"
    );
    let batch = project.read("reports/old/figures/batch.csv");
    assert!(
        batch.contains("chosen reply of pair 1,row 1,,,47"),
        "{batch}"
    );

    let said = project.lions(&["report", "old"]);
    assert_eq!(said.code, 0, "{said:?}");
    let page = project.read("reports/old/report.md");
    assert!(page.contains("All 4 trials have results."), "{page}");
    // The seed stands in `stage.json` alone.
    assert!(page.contains("| 91b6081000ef | dpo | 2 | done |"), "{page}");
}

#[test]
fn a_store_of_the_first_schema_is_compared_drawn_reported_and_shown() {
    comes_back(&old_project());
}

#[test]
fn a_lost_old_store_is_rebuilt_with_its_inputs() {
    let project = old_project();
    let said = project.lions(&["store", "rebuild"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("11 runs known again"), "{said:?}");
    let inputs = "SELECT count(*) FROM run_input JOIN run ON run.id = run_input.run
        WHERE run.run_id LIKE '91b6081000ef%'";
    let inputs: u32 = database(&project)
        .query_row(inputs, [], |row| row.get(0))
        .unwrap();
    assert_eq!(inputs, 2, "the checkpoint and the reference of a dpo run");
}

/// Neither this version nor the one that wrote the store has such configurations and files.
#[test]
fn configurations_that_no_version_has_do_not_matter_to_what_was_measured() {
    let project = old_project();
    let doctored = "UPDATE sweep SET content = json_set(content,
        '$.trials', json('[{ \"config\": { \"sft\": null, \"novel\": { \"stage\": 1 } } }]'),
        '$.novel', 1,
        '$.report.table[0].novel', json('{ \"a\": 1 }'),
        '$.report.figure[0].novel', true,
        '$.report.figure[#]', json('{ \"name\": \"pie\", \"kind\": \"pie\" }'))";
    assert_eq!(database(&project).execute(doctored, []).unwrap(), 1);
    for run in std::fs::read_dir(project.path("results/runs")).unwrap() {
        let path = run.unwrap().path().join("stage.json");
        let text = std::fs::read_to_string(&path).unwrap();
        let mut stage: serde_json::Value = serde_json::from_str(&text).unwrap();
        stage["task"]["recipe"] = serde_json::json!({ "novel": [1] });
        stage["novel"] = true.into();
        let stage = stage.as_object_mut().unwrap();
        assert!(stage.remove("runtime").is_some() && stage.remove("data").is_some());
        let text = serde_json::to_string(stage).unwrap();
        project.write(path.strip_prefix(project.path("")).unwrap(), text);
    }
    comes_back(&project);
    let said = project.lions(&["compare", "old"]);
    assert!(
        said.err
            .contains("figure `pie` was stored by another version"),
        "{said:?}"
    );
    let page = project.read("reports/old/report.md");
    assert!(
        page.contains("figure `pie` was stored by another version"),
        "{page}"
    );
}

fn database(project: &Project) -> rusqlite::Connection {
    rusqlite::Connection::open(project.path("results/lions.db")).unwrap()
}
