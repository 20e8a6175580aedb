//! Every kind of figure, the paper's figures, tables in every form and the report, from a store that
//! `lions run` filled.

use crate::project::Project;
use crate::tiny;
use serde_json::Value;
use std::collections::BTreeMap;

const STUDY: &str = r#"extends = ["tiny.toml"]
[sweep]
name = "drawn"
question = "Is everything drawn that was measured?"
seeds = [1, 2]
[base]
pipeline = ["sft", "dpo"]
[base.dpo.recipe]
duration = { steps = 3 }
save-steps = [1, 2]
schedule = { warmup-ratio = 0.0 }
monitor = { data = [{ path = "data/pref/polite_test.jsonl", count = 4 }], every-steps = 1 }
[[axis]]
path = "dpo.recipe.beta"
values = [0.1, 1.0]
[[axis]]
name = "pairs"
path = "dpo.recipe.max-examples"
values = [4, 8]
[[axis]]
name = "step"
points = [
  { label = "1", set = { "eval.checkpoint-step" = 1 } },
  { label = "2", set = { "eval.checkpoint-step" = 2 } },
  { label = "3", set = {} },
]
[[report.table]]
name = "main"
title = "At the end"
metrics = ["polite/rewards/margins", "tales/loss"]
where = { step = "3" }
baseline = { beta = 0.1 }
within = ["pairs"]
[[report.table]]
name = "all"
title = "All steps"
metrics = ["tales/loss"]
published = "hyper-parameters"
[[report.figure]]
name = "bars"
title = "Bars"
kind = "bars"
metric = "polite/rewards/margins"
where = { step = "3" }
x = "pairs"
series = "beta"
order = "value"
caption = "A caption of ours."
paper = "Figure 3"
published = "figure-3"
[[report.figure]]
name = "reference"
title = "Bars against one of them"
kind = "bars"
metric = "polite/rewards/margins"
where = { step = "3" }
reference = { beta = 0.1, pairs = 4, step = "1" }
[[report.figure]]
name = "lines"
title = "Lines 線 🙂"
kind = "lines"
metric = "polite/rewards/margins"
direction = "higher"
where = { step = "3" }
x = "beta"
series = "pairs"
log-x = true
reference = { beta = 0.1, pairs = 4, step = "1" }
paper = "Figure 2"
[[report.figure]]
name = "scaling"
title = "Scaling"
kind = "scaling"
metric = "polite/rewards/margins"
x-metric = "training/flops"
series = "pairs"
panels = "beta"
log-x = true
[[report.figure]]
name = "training"
title = "Training"
kind = "training"
metric = "eval_polite_test/prob_margin"
where = { step = "3" }
series = "pairs"
panels = "beta"
log-x = true
under = ["polite/rewards/accuracies", "eval_polite_test/loss"]
[[report.figure]]
name = "differences"
title = "Differences"
kind = "differences"
metric = "polite/rewards/margins"
where = { step = "3" }
baseline = { beta = 0.1, pairs = 4, step = "3" }
[[report.figure]]
name = "layout"
title = "Layout"
kind = "layout"
paper = "Figure A1"
"#;

const MARGIN: &str = "polite/rewards/margins";

struct Drawn {
    project: Project,
    /// Of each figure, the rows of its CSV file.
    rows: BTreeMap<String, Vec<Row>>,
}

#[derive(Clone, Debug)]
struct Row {
    panel: String,
    series: String,
    x: String,
    seed: String,
    value: f64,
    runs: String,
}

fn rows(text: &str) -> Vec<Row> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let head = [
        "panel", "series", "x", "seed", "n", "value", "low", "high", "runs",
    ];
    assert_eq!(reader.headers().unwrap(), &head[..]);
    let row = |record: csv::StringRecord| Row {
        panel: record[0].to_owned(),
        series: record[1].to_owned(),
        x: record[2].to_owned(),
        seed: record[3].to_owned(),
        value: record[5].parse().unwrap_or(f64::NAN),
        runs: record[8].to_owned(),
    };
    reader
        .records()
        .map(|record| row(record.unwrap()))
        .collect()
}

/// What the store has of one metric, by assignments and seed.
fn stored(project: &Project, metric: &str) -> BTreeMap<(String, String, String, String), f64> {
    let store = rusqlite::Connection::open(project.path("results/lions.db")).unwrap();
    let sql = "SELECT assignments ->> 'beta', assignments ->> 'pairs', assignments ->> 'step', seed, value
        FROM trial_metric WHERE sweep = 'drawn' AND metric = ?1 AND stage = 'eval'";
    let mut found = store.prepare(sql).unwrap();
    let values = found.query_map([metric], |row| {
        let (beta, pairs): (f64, i64) = (row.get(0)?, row.get(1)?);
        let key = (
            format!("{beta:?}"),
            pairs.to_string(),
            row.get(2)?,
            row.get::<_, i64>(3)?.to_string(),
        );
        Ok((key, row.get(4)?))
    });
    values.unwrap().map(Result::unwrap).collect()
}

fn same(got: f64, want: f64) -> bool {
    (got - want).abs() <= 1e-9 * want.abs().max(1.0)
}

#[test]
fn every_kind_of_figure_is_drawn_from_the_store() {
    let project = tiny::project();
    project.write("sweeps/drawn.toml", format!("{STUDY}{}", tiny::POLITE));
    tiny::run(&project, "drawn");
    let mut drawn = Drawn {
        rows: BTreeMap::new(),
        project,
    };
    for name in [
        "bars",
        "reference",
        "lines",
        "scaling",
        "training",
        "differences",
        "layout",
    ] {
        for ending in ["svg", "png", "csv", "json"] {
            let file = drawn
                .project
                .path(format!("reports/drawn/figures/{name}.{ending}"));
            assert!(file.is_file(), "{}", file.display());
        }
        let text = drawn
            .project
            .read(&format!("reports/drawn/figures/{name}.csv"));
        drawn.rows.insert(name.to_owned(), rows(&text));
    }
    values_of_configurations(&drawn);
    values_along_training(&drawn);
    the_layout_counts_the_first_batch(&drawn);
    the_papers_figures_stand_with_what_is_published(&drawn);
    tables_say_the_same_in_every_form(&drawn);
    the_report_holds_it_all(&drawn);
    the_tables_are_latex_that_fits_a_page(&drawn);
    several_reports_have_an_index(&drawn);
}

fn values_of_configurations(drawn: &Drawn) {
    let stored = stored(&drawn.project, MARGIN);
    assert_eq!(stored.len(), 24);
    let of = |beta: &str, pairs: &str, step: &str, seed: &str| {
        stored[&(
            beta.to_owned(),
            pairs.to_owned(),
            step.to_owned(),
            seed.to_owned(),
        )]
    };
    let mean = |beta: &str, pairs: &str, step: &str| {
        f64::midpoint(of(beta, pairs, step, "1"), of(beta, pairs, step, "2"))
    };
    let word = |text: &str| text.rsplit(" = ").next().unwrap().to_owned();
    let mut seen = 0;
    for row in &drawn.rows["bars"] {
        let (beta, pairs) = (word(&row.series), row.x.clone());
        let want = match row.seed.as_str() {
            "mean" => mean(&beta, &pairs, "3"),
            seed => of(&beta, &pairs, "3", seed),
        };
        assert!(same(row.value, want), "{row:?}, not {want}");
        assert_eq!(
            row.runs.split(' ').count(),
            if row.seed == "mean" { 2 } else { 1 }
        );
        seen += 1;
    }
    assert_eq!(seen, 12, "four bars of a mean and two seeds");
    let bars = drawn.rows["bars"].iter().filter(|row| row.seed == "mean");
    let first = bars.clone().next().unwrap();
    let groups = |pairs: &str| {
        bars.clone()
            .filter(|row| row.x == pairs)
            .map(|row| row.value)
            .sum::<f64>()
    };
    let other = if first.x == "4" { "8" } else { "4" };
    assert!(groups(&first.x) >= groups(other), "the best first");

    let reference: Vec<_> = drawn.rows["reference"]
        .iter()
        .filter(|row| row.series == "reference")
        .collect();
    assert!(
        reference
            .iter()
            .any(|row| same(row.value, mean("0.1", "4", "1"))),
        "{reference:?}"
    );
    let (across, lines): (Vec<_>, Vec<_>) = drawn.rows["lines"]
        .iter()
        .partition(|row| row.series == "reference");
    assert!(same(across[0].value, mean("0.1", "4", "1")), "{across:?}");
    assert_eq!(lines.len(), 12, "four points, each a mean and two seeds");
    for row in lines {
        let beta = if row.x == "1" { "1.0" } else { "0.1" };
        let pairs = word(&row.series);
        let want = match row.seed.as_str() {
            "mean" => mean(beta, &pairs, "3"),
            seed => of(beta, &pairs, "3", seed),
        };
        assert!(same(row.value, want), "{row:?}, not {want}");
    }
    let flops = self::stored(&drawn.project, "training/flops");
    let points = drawn.rows["scaling"]
        .iter()
        .filter(|row| row.seed == "mean");
    let points: Vec<_> = points.collect();
    assert_eq!(points.len(), 12, "three steps of four series");
    for (at, row) in points.into_iter().enumerate() {
        let (beta, pairs, step) = (
            word(&row.panel),
            word(&row.series),
            (at % 3 + 1).to_string(),
        );
        assert!(same(row.value, mean(&beta, &pairs, &step)), "{row:?}");
        let cost =
            |seed: &str| flops[&(beta.clone(), pairs.clone(), step.clone(), seed.to_owned())];
        assert!(
            same(row.x.parse().unwrap(), f64::midpoint(cost("1"), cost("2"))),
            "{row:?}"
        );
    }
    let differences = drawn.rows["differences"].iter();
    let differences: Vec<_> = differences
        .filter(|row| row.series != "reference")
        .collect();
    assert!(
        differences.len() >= 9,
        "three configurations, each a mean and two seeds"
    );
    for row in differences {
        let part = |name: &str| {
            let found = row
                .x
                .split(' ')
                .find_map(|part| part.strip_prefix(&format!("{name}=")));
            found.unwrap().to_owned()
        };
        let (beta, pairs) = (part("beta"), part("pairs"));
        let want = match row.seed.as_str() {
            "mean" => mean(&beta, &pairs, "3") - mean("0.1", "4", "3"),
            seed => of(&beta, &pairs, "3", seed) - of("0.1", "4", "3", seed),
        };
        assert!(same(row.value, want), "{row:?}, not {want}");
    }
}

fn values_along_training(drawn: &Drawn) {
    let store = rusqlite::Connection::open(drawn.project.path("results/lions.db")).unwrap();
    let rows = drawn.rows["training"]
        .iter()
        .filter(|row| row.seed != "mean");
    let mut seen = 0;
    for row in rows {
        let sql = "SELECT value FROM training WHERE run = ?1 AND step = ?2 AND metric = 'eval_polite_test/prob_margin'";
        let want: f64 = store
            .query_row(sql, (&row.runs, &row.x), |found| found.get(0))
            .unwrap();
        assert!(same(row.value, want), "{row:?}");
        seen += 1;
    }
    assert_eq!(
        seen, 32,
        "four steps of two values of β, two sizes, two seeds"
    );
}

/// Padded, padding-free and with shared prompts, to scale.
fn the_layout_counts_the_first_batch(drawn: &Drawn) {
    let rows = &drawn.rows["layout"];
    let mut panels: Vec<&str> = rows.iter().map(|row| row.panel.as_str()).collect();
    panels.dedup();
    assert_eq!(panels.len(), 3, "{panels:?}");
    let sum = |panel: &str, padding: bool| -> f64 {
        let parts = rows.iter().filter(|row| row.panel == panel);
        let parts = parts.filter(|row| row.series.starts_with("padding") == padding);
        parts.map(|row| row.value).sum()
    };
    let tokens: Vec<f64> = panels.iter().map(|panel| sum(panel, false)).collect();
    assert!(sum(panels[0], true) > 0.0, "padded");
    assert!(
        panels[1..].iter().all(|panel| sum(panel, true) <= 0.0),
        "padding-free"
    );
    assert!(same(tokens[0], tokens[1]), "the same tokens");
    let prompts = |panel: &str| -> f64 {
        let parts = rows
            .iter()
            .filter(|row| row.panel == panel && row.series.starts_with("prompt"));
        parts.map(|row| row.value).sum()
    };
    assert!(
        same(prompts(panels[1]), 2.0 * prompts(panels[2])),
        "each prompt once"
    );
}

fn the_papers_figures_stand_with_what_is_published(drawn: &Drawn) {
    let said = drawn.project.lions(&["figures", "--paper"]);
    assert_eq!(said.code, 0, "{said:?}");
    let index = drawn.project.read("reports/paper/index.md");
    for (figure, name) in [
        ("figure-2", "lines"),
        ("figure-3", "bars"),
        ("figure-a1", "layout"),
    ] {
        let drawing = drawn
            .project
            .read(&format!("reports/paper/figures/{figure}-drawn-{name}.svg"));
        assert_eq!(
            drawing,
            drawn
                .project
                .read(&format!("reports/drawn/figures/{name}.svg")),
            "{figure}"
        );
        assert!(
            index.contains(&format!("figures/{figure}-drawn-{name}.svg")),
            "{index}"
        );
    }
    assert!(
        index.contains("Missing: no sweep in the store has a figure with `paper = \"Figure 1\"`.")
    );
    assert!(
        index.contains("A larger unfiltered dataset of 100k pairs"),
        "{index}"
    );
    assert!(
        !index.contains("**\n"),
        "a figure without a caption has none: {index}"
    );
}

fn tables_say_the_same_in_every_form(drawn: &Drawn) {
    let project = &drawn.project;
    let tables = project.json(&["compare", "drawn"]);
    let rows = tables[0]["rows"].as_array().unwrap();
    assert_eq!(
        (rows.len(), tables[1]["rows"].as_array().unwrap().len()),
        (4, 12)
    );
    let text = project
        .lions(&["compare", "drawn", "--table", "main", "--format", "csv"])
        .out;
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let head = table.headers().unwrap().clone();
    let at = |name: &str| head.iter().position(|column| column == name).unwrap();
    let records: Vec<_> = table.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 8, "four rows, two metrics");
    let forms = ["text", "markdown", "latex"].map(|form| {
        (
            form,
            project
                .lions(&["compare", "drawn", "--table", "main", "--format", form])
                .out,
        )
    });
    for (row, pair) in rows.iter().zip(records.chunks(2)) {
        for (cell, record) in row["results"].as_array().unwrap().iter().zip(pair) {
            assert_eq!(cell["metric"], record[at("metric")]);
            let mean: f64 = record[at("mean")].parse().unwrap();
            let value = cell["estimate"]["value"].as_f64().unwrap();
            assert!(same(mean, value), "{cell}");
            let shown = format!("{value:.3}");
            let shown = shown.trim_start_matches('-');
            for (form, text) in &forms {
                assert!(text.contains(shown), "{form} has {shown}:\n{text}");
            }
        }
    }
    // Each row's baseline is β 0.1 at its own number of pairs.
    for pairs in [0, 1] {
        let value = |row: &Value| row["results"][0]["estimate"]["value"].as_f64().unwrap();
        let (baseline, row) = (&rows[pairs], &rows[pairs + 2]);
        let difference = row["results"][0]["comparison"]["difference"]
            .as_f64()
            .unwrap();
        let want = value(row) - value(baseline);
        assert!(same(difference, want), "{difference}, not {want}: {row}");
    }
    let single = project.json(&["compare", "drawn", "--metrics", "tales/perplexity"]);
    assert_eq!(single[0]["rows"].as_array().unwrap().len(), 12);
}

fn the_report_holds_it_all(drawn: &Drawn) {
    let said = drawn
        .project
        .lions(&["report", "drawn", "--out", "elsewhere"]);
    assert_eq!(said.code, 0, "{said:?}");
    let (page, text) = (
        drawn.project.read("elsewhere/index.html"),
        drawn.project.read("elsewhere/report.md"),
    );
    assert_eq!(page, drawn.project.read("reports/drawn/index.html"));
    let drawings = page.matches("<svg").count();
    assert_eq!(
        drawings,
        2 * drawn.rows.len(),
        "for wide and narrow screens"
    );
    assert!(
        said.err.contains(
            "the figures' font has no `線🙂`, which the title of a figure `Lines 線 🙂` holds"
        ),
        "{said:?}"
    );
    assert!(!page.contains("<figcaption></figcaption>"));
    assert!(
        !text.contains("\n**\n"),
        "a figure without a caption has none"
    );
    assert!(
        !page.contains("src=\"http") && !page.contains("<link"),
        "self-contained"
    );
    for word in [
        "Is everything drawn that was measured?",
        "A caption of ours.",
        "All 24 trials have results.",
        "best beta",
        "Hyper-parameters of the released runs",
    ] {
        assert!(text.contains(word) && page.contains(word), "{word}");
    }
    for table in ["main", "all"] {
        let csv = drawn.project.read(&format!("elsewhere/tables/{table}.csv"));
        let compared = drawn
            .project
            .lions(&["compare", "drawn", "--table", table, "--format", "csv"])
            .out;
        assert_eq!(csv.trim(), compared.trim(), "{table}");
        assert!(
            drawn
                .project
                .read(&format!("elsewhere/tables/{table}.tex"))
                .contains("\\toprule")
        );
    }
}

/// Where there is a pdflatex: in the class and at the width of an ordinary article.
fn the_tables_are_latex_that_fits_a_page(drawn: &Drawn) {
    let folder = drawn.project.path("reports/drawn/tables");
    for table in ["main", "all"] {
        let text = drawn
            .project
            .read(&format!("reports/drawn/tables/{table}.tex"));
        assert!(
            text.contains(&format!("\\label{{tab:drawn-{table}}}")),
            "{text}"
        );
        let needs = text.lines().next().unwrap().trim_start_matches("% ");
        let whole = format!(
            "\\documentclass{{article}}\n{needs}\n\\begin{{document}}\n{text}\\end{{document}}\n"
        );
        let page = format!("reports/drawn/tables/{table}-page.tex");
        drawn.project.write(&page, whole);
        let mut latex = std::process::Command::new("pdflatex");
        latex.args(["-interaction=nonstopmode", "-halt-on-error"]);
        let Ok(done) = latex
            .arg(format!("{table}-page"))
            .current_dir(&folder)
            .output()
        else {
            return;
        };
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{said}");
        assert!(
            !said.contains("Overfull \\hbox"),
            "{table} is wider than the page: {said}"
        );
        assert!(
            !said.contains("Float too large"),
            "{table} is higher than the page: {said}"
        );
    }
}

fn several_reports_have_an_index(drawn: &Drawn) {
    let project = &drawn.project;
    let said = project.lions(&["report", "--all", "--out", "several"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(
        said.out.trim_end().ends_with("several/index.html"),
        "{said:?}"
    );
    let page = project.read("several/index.html");
    assert!(page.contains("Is everything drawn that was measured?"));
    assert!(page.contains("<a href=\"drawn/index.html\">"));
    assert!(page.contains("Nothing is claimed beforehand"));
    assert_eq!(
        project.read("several/drawn/index.html"),
        project.read("reports/drawn/index.html")
    );
    let refused = project.lions(&["report", "--all", "drawn"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

/// Texts that a spreadsheet would compute: a figure's and a table's, on the terminal and in files.
#[test]
fn labels_that_look_like_formulas_are_texts_in_every_csv() {
    let project = tiny::project();
    let labels = ["=1+1", "+cmd|' /C calc'!A0", "@SUM(1)", "-2+3", "plain"];
    let seed = |seed| {
        format!(
            "\"eval.recipe.likelihood.tales.max-seq-len\" = {}",
            200 + seed
        )
    };
    let arms: Vec<_> = labels.into_iter().zip((0..).map(seed)).collect();
    let rest = "[base]\npipeline = []\n\
        [[report.figure]]\nname = \"arms\"\ntitle = \"Arms\"\nkind = \"bars\"\nmetric = \"tales/loss\"\nx = \"arm\"\n";
    tiny::run_arms(&project, "formulas", &arms, &["tales/loss"], rest);
    let compared = project.lions(&["compare", "formulas", "--format", "csv"]);
    let table = project.read("reports/formulas/tables/main.csv");
    let figure = project.read("reports/formulas/figures/arms.csv");
    for text in [&compared.out, &table, &figure] {
        let cells = text.lines().flat_map(|line| line.split(','));
        let computed = cells.filter(|cell| {
            let cell = cell.trim_matches('"');
            cell.starts_with(['=', '+', '-', '@']) && cell.parse::<f64>().is_err()
        });
        assert_eq!(computed.collect::<Vec<_>>(), Vec::<&str>::new(), "{text}");
        for label in &labels[..4] {
            assert!(text.contains(&format!("'{label}")), "{label} in {text}");
        }
        assert!(text.contains("plain") && !text.contains("'plain"), "{text}");
    }
}
