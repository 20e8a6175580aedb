//! Some trials of a sweep: what is drawn and compared of them leaves what is said of all of them alone.

use crate::session::Study;

/// A claim, and a table of one configuration alone.
const MORE: &str = r#"
[[report.claim]]
statement = "A faster policy tells better tales"
metric = "tales/loss"
ours = { rate = 1e-2 }
baseline = { rate = 1e-5 }
direction = "lower"

[[report.table]]
name = "fast"
title = "The fast ones alone"
where = { rate = 1e-2 }
metrics = ["tales/loss"]
"#;

#[test]
fn what_is_picked_claims_nothing_and_leaves_the_figures_of_the_report_alone() {
    let study = Study::copied();
    let project = &study.project;
    let text = project.read("sweeps/study.toml") + MORE;
    project.write("sweeps/study.toml", text);
    let said = project.lions(&["run", "sweeps/study.toml", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");

    let (claim, table) = ("A faster policy tells better tales", "The fast ones alone");
    let all = project.lions(&["compare", "study"]).out;
    assert!(all.contains(claim) && all.contains(table), "{all}");
    let slow = project.lions(&["compare", "study", "--where", "rate=1e-5"]);
    assert!(slow.out.contains("Learning rate"), "{slow:?}");
    assert!(!slow.out.contains(claim), "{slow:?}");
    assert!(!slow.out.contains("no results to compare"), "{slow:?}");
    assert!(!slow.out.contains(table), "{slow:?}");
    let tables = |rate: &str| {
        let told = project.json(&["compare", "study", "--where", rate]);
        told.as_array().unwrap().len()
    };
    assert_eq!((tables("rate=1e-5"), tables("rate=1e-2")), (1, 2));
    let none = [
        "compare",
        "study",
        "--table",
        "fast",
        "--where",
        "rate=1e-5",
    ];
    let said = project.lions(&none);
    assert!(
        said.code == 0 && said.out.is_empty() && said.err.contains("`--metrics KEYS`"),
        "{said:?}"
    );

    let own = "reports/study/figures/rate.csv";
    let before = project.read(own);
    let said = project.lions(&["figures", "study", "--where", "rate=1e-5"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out
            .lines()
            .all(|path| path.contains("/figures-where/")),
        "{said:?}"
    );
    assert_eq!(project.read(own), before);
    let picked = project.read("reports/study/figures-where/rate.csv");
    assert!(picked != before && !picked.is_empty(), "{picked}");
}

/// Two configurations' replies side by side, as the sweep file asks for them.
#[test]
fn samples_that_a_sweep_file_asks_for_stand_in_its_report() {
    const SAMPLES: &str = r#"
[[report.samples]]
name = "tales"
title = "The same tales, slow and fast"
set = "stories"
left = { rate = 1e-5 }
right = { rate = 1e-2 }
prompts = 1
"#;
    let study = Study::copied();
    let project = &study.project;
    let text = project.read("sweeps/study.toml") + SAMPLES;
    project.write("sweeps/study.toml", text);
    let said = project.lions(&["run", "sweeps/study.toml", "--quiet"]);
    assert_eq!(said.code, 0, "{said:?}");
    let report = project.read("reports/study/report.md");
    let title = "The same tales, slow and fast";
    let at = report.find(title).unwrap_or_else(|| panic!("{report}"));
    let part = &report[at..];
    let rows = project.json(&[
        "samples",
        "study",
        "--where",
        "rate=1e-5,1e-2",
        "--where",
        "seed=1",
    ]);
    // The first prompt's line of the table has the first line of either reply.
    let prompt = &rows["rows"].as_array().unwrap().iter();
    let line = part.lines().find(|line| line.starts_with("| Tell me"));
    let line = line.unwrap_or_else(|| panic!("{part}")).replace('\\', "");
    let row = prompt
        .clone()
        .find(|row| line.contains(row["prompt"].as_str().unwrap()))
        .unwrap_or_else(|| panic!("{line} {rows}"));
    for reply in row["replies"].as_array().unwrap() {
        let text = reply["text"].as_str().unwrap();
        let first = text.lines().next().unwrap_or_default().trim();
        assert!(
            !first.is_empty() && line.contains(first),
            "{first} in {line}"
        );
    }
    assert!(project.read("reports/study/index.html").contains(title));
}
