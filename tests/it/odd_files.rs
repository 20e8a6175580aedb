//! Files as other programs leave them: line ends of Windows, a byte order mark, nothing at all, names that are hard to
//! write, and files that change between the look and the run.

use crate::project::Project;
use crate::tiny;
use serde_json::{Value, json};

const MARK: &str = "\u{feff}";

fn windows(text: &str) -> String {
    format!("{MARK}{}", text.replace('\n', "\r\n"))
}

/// Every kind of text that a study is made of, once as it is and once as an editor of Windows saves it, trains the same
/// model: the texts that the model sees hold neither mark nor line end.
#[test]
fn files_of_windows_train_the_model_that_others_train() {
    let project = tiny::project();
    let rows = |file: &str, count: usize| -> Vec<Value> {
        let text = project.read(file);
        let rows = text
            .lines()
            .take(count)
            .map(|row| serde_json::from_str(row).unwrap());
        rows.collect()
    };
    let (chats, pairs) = (
        rows("data/sft/instruct_train.jsonl", 6),
        rows("data/pref/polite_train.jsonl", 6),
    );
    let lines = |rows: &[Value]| {
        rows.iter()
            .map(|row| format!("{row}\n"))
            .collect::<String>()
    };
    let template = project.read("models/stories260k/tokenizer_config.json");
    let template: Value = serde_json::from_str(&template).unwrap();
    let template = format!("{}\n", template["chat_template"].as_str().unwrap());
    let ids: String = pairs[..4]
        .iter()
        .map(|row| format!("{}\n", row["id"].as_str().unwrap()))
        .collect();
    let list = serde_json::to_string_pretty(&chats).unwrap();
    for (folder, made) in [
        ("data/plain", None),
        ("data/Dateien von Zoë", Some(windows as fn(&str) -> String)),
    ] {
        let write = |name: &str, text: &str| {
            project.write(
                format!("{folder}/{name}"),
                made.map_or(text.to_owned(), |made| made(text)),
            );
        };
        write("chats.jsonl", &lines(&chats));
        write("list.json", &list);
        write("pairs.jsonl", &lines(&pairs));
        write("template.jinja", &template);
        write("ids.txt", &ids);
    }
    let of = |folder: &str, chats: &str| {
        format!(
            "\"model.chat-template\" = \"{folder}/template.jinja\", \"sft.recipe.data\" = [{{ path = \"{folder}/{chats}\" }}], \
             \"dpo.recipe.data\" = [{{ path = \"{folder}/pairs.jsonl\" }}], \
             select = {{ of = \"dpo\", recipe = {{ keep = 4, method = {{ ids = {{ ids-path = \"{folder}/ids.txt\" }} }} }} }}"
        )
    };
    let arms = [
        ("plain", of("data/plain", "chats.jsonl")),
        ("lines", of("data/Dateien von Zoë", "chats.jsonl")),
        ("list", of("data/Dateien von Zoë", "list.json")),
    ];
    // The sweep and the base below it are such files, too.
    project.write(
        "sweeps/tiny.toml",
        windows(&project.read("sweeps/tiny.toml")),
    );
    let rest = "[base]\npipeline = [\"sft\", \"dpo\"]\n";
    let text = tiny::sweep("windows", &arms, rest) + &tiny::table(&["tales/loss", "instruct/loss"]);
    project.write("sweeps/windows.toml", windows(&text));
    let results = tiny::run(&project, "windows");
    let weights = |arm: &str, stage: &str| results.weights(&results.only(arm, stage));
    for arm in ["lines", "list"] {
        for stage in ["sft", "dpo"] {
            assert!(
                weights(arm, stage) == weights("plain", stage),
                "{arm}, {stage}"
            );
        }
    }
    let shown = project.json(&["compare", "sweeps/windows.toml"]);
    assert_eq!(shown[0]["rows"].as_array().unwrap().len(), 3, "{shown}");
}

#[test]
fn files_without_rows_are_named_before_anything_runs() {
    let project = tiny::project();
    project.write("data/mine/nothing.jsonl", "");
    project.write("data/mine/blank.jsonl", windows("\n  \n"));
    project.write("data/mine/list.json", "[]");
    std::fs::create_dir(project.path("data/mine/folder.jsonl")).unwrap();
    for (file, why) in [
        ("nothing.jsonl", "has no rows"),
        ("blank.jsonl", "has no rows"),
        ("list.json", "has no rows"),
        ("folder.jsonl", "is a folder, not a data file"),
    ] {
        let set = format!("sft.recipe.data=[{{ path = \"data/mine/{file}\" }}]");
        for command in ["check", "run"] {
            let said = project.lions(&[command, "sweeps/smoke.toml", "--set", &set]);
            assert_eq!(said.code, 1, "{said:?}");
            let told = format!("`data/mine/{file}` {why}");
            assert!(said.err.contains(&told), "{told}: {said:?}");
        }
    }
    for text in ["", MARK, "\r\n", "# only a remark\n"] {
        project.write("sweeps/empty.toml", text);
        let said = project.lions(&["check", "sweeps/empty.toml"]);
        assert_eq!(said.code, 1, "{said:?}");
        assert!(
            said.err
                .contains("key `sweep` is missing in the sweep file"),
            "{said:?}"
        );
    }
    assert!(!project.path("results/runs").exists(), "nothing has run");
}

/// What was looked at is not what is there when a run begins: the run says so, and goes on when it is planned anew.
#[test]
fn a_file_that_changes_between_plan_and_run_is_not_trained_on() {
    let project = tiny::project();
    let row = |n: usize| {
        format!(
            "{}\n",
            json!({"prompt": format!("Say {n}."), "completion": format!("{n} it is.")})
        )
    };
    let rows = |from: usize| -> String { (from..from + 6).map(row).collect() };
    project.write("data/mine/rows.jsonl", rows(1));
    let arms = [(
        "one",
        "\"sft.recipe.data\" = [{ path = \"data/mine/rows.jsonl\" }]".to_owned(),
    )];
    let text = tiny::sweep("late", &arms, &tiny::table(&["tales/loss"]));
    project.write("sweeps/late.toml", text);
    assert_eq!(project.lions(&["check", "sweeps/late.toml"]).code, 0);
    let id = |project: &Project| -> String {
        let plan = project.json(&["plan", "sweeps/late.toml"]);
        let runs = plan["runs"].as_array().unwrap();
        let sft = runs.iter().find(|run| run["stage"] == "sft").unwrap();
        sft["id"].as_str().unwrap().to_owned()
    };
    let planned = id(&project);
    // Between check and run: the run is another one, named by what is there.
    project.write("data/mine/rows.jsonl", rows(11));
    let other = id(&project);
    assert_ne!(planned, other);
    let results = tiny::run(&project, "late");
    assert_eq!(results.only("one", "sft"), other[..12]);
    // Afterwards: an attempt by hand of the run that is done refuses the file.
    project.write("data/mine/rows.jsonl", rows(21));
    let said = project.lions(&["exec", "--run", &other, "--attempt", "2", "--device", "cpu"]);
    assert_ne!(said.code, 0, "{said:?}");
    let log = results.folder(&other[..12]).join("attempts/2");
    let told = format!("{}{}", said.err, read_all(&log));
    assert!(
        told.contains("data/mine/rows.jsonl") && told.contains("changed"),
        "{told}"
    );
    // The results that are there stay those of the rows they were made of.
    let shown = project.json(&["compare", "late"]);
    assert!(
        shown[0]["rows"][0]["results"][0]["estimate"]["value"].is_f64(),
        "{shown}"
    );
    assert_ne!(id(&project), other, "the next run is a new one");
}

fn read_all(folder: &std::path::Path) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return String::new();
    };
    let files = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_file());
    files
        .map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
        .collect()
}

/// A folder in which nothing can be written: what only reads works, what writes says which folder.
#[cfg(unix)]
#[test]
fn a_report_for_a_folder_that_may_not_be_written_says_which() {
    use std::os::unix::fs::PermissionsExt as _;
    let study = crate::session::Study::copied();
    let project = &study.project;
    // A user whom modes do not bind (root) sees a file in the place of the folder instead.
    let figures = project.path("reports/study/figures");
    std::fs::remove_dir_all(&figures).unwrap();
    project.write("reports/study/figures", "in the way");
    let said = project.lions(&["figures", "study"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("reports/study/figures"), "{said:?}");
    std::fs::remove_file(&figures).unwrap();
    let reports = project.path("reports");
    std::fs::set_permissions(&reports, std::fs::Permissions::from_mode(0o555)).unwrap();
    assert_eq!(project.lions(&["compare", "study"]).code, 0);
    std::fs::set_permissions(&reports, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(project.lions(&["figures", "study"]).code, 0);
}
