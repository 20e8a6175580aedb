//! `lions diff`.

use crate::cli::commands::show::find;
use crate::cli::database::{must_open, unknown_sweep};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::counted;
use crate::cli::ui::{Tone, Ui};
use crate::metrics::{fixed, p_value};
use crate::plan::RunId;
use crate::report::ColumnFit::{Cut, Whole, Wrap};
use crate::report::{DiffSide, MetricFlips, RunDiff, diff_runs, read_harness_results, table_json};
use crate::store::ReadStore;
use serde_json::json;
use std::path::Path;

/// Flipped rows of one metric that are named to a person.
const MOST_NAMED: usize = 12;

/// Compare two runs: recipes, metrics, and the rows that flipped
///
/// Every run that the two are made of is compared with its counterpart, field by field. Metrics that both have stand with
/// their 95 % intervals and the difference, paired by row. Of scores that are right or wrong the rows that flipped are
/// named, with McNemar's exact test. In place of a run a results file of lm-evaluation-harness or of `lions eval`, or a folder
/// of such, may stand, of whatever model: its metrics are compared, and its rows if their samples lie beside it.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// A run by the first digits of its id, a trial of a sweep by its number (`study/3`): its evaluation, or a results file
    first: String,
    /// What it is compared with
    second: String,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &DiffArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let files = [&args.first, &args.second].map(|word| is_file(word));
    // Two files are compared without any run.
    let store = match files {
        [true, true] => None,
        _ => Some(must_open(&project)?),
    };
    let first = side_of(&project, store.as_ref(), &args.first)?;
    let second = side_of(&project, store.as_ref(), &args.second)?;
    let diff = diff_runs(&project.root, &first, &second).map_err(CommandError::user)?;
    if ui.json {
        ui.print_json(&to_json(first.run(), second.run(), &diff))?;
        return Ok(DONE);
    }
    if first.run() == second.run() {
        ui.out(&format!("both are run {}", first.run().short()));
        return Ok(DONE);
    }
    show_stages(ui, &diff);
    show_metrics(ui, (first.name(), second.name()), &diff);
    let flipped = diff.flips.iter().filter(|flips| !flips.rows.is_empty());
    flipped.for_each(|flips| show_flips(ui, flips));
    Ok(DONE)
}

/// Whether a word means a file of results, there or not.
fn is_file(word: &str) -> bool {
    let path = Path::new(word);
    path.exists() || path.extension().is_some_and(|ending| ending == "json")
}

/// The run or file that a word means.
fn side_of<'s>(
    project: &Project,
    store: Option<&'s ReadStore>,
    word: &str,
) -> Result<DiffSide<'s>, CommandError> {
    match store {
        Some(store) if !is_file(word) => Ok(DiffSide::Run(store, run_of(project, store, word)?)),
        _ => {
            let file = read_harness_results(Path::new(word));
            Ok(DiffSide::File(file.map_err(CommandError::user)?))
        }
    }
}

/// The run that a word means.
fn run_of(project: &Project, store: &ReadStore, word: &str) -> Result<RunId, CommandError> {
    let Some((sweep, number)) = word.rsplit_once('/') else {
        return find(store, word);
    };
    let Ok(number) = number.parse::<usize>() else {
        return Err(
            CommandError::user(format!("`{word}` is neither a run nor a trial")).hint(format!(
                "`lions status {sweep} --trials` lists trials; `{sweep}/0` is the first"
            )),
        );
    };
    let trials = store.trials(sweep);
    let trials = trials.map_err(|error| unknown_sweep(project, store, error))?;
    let trial = trials.iter().find(|trial| trial.index == number);
    trial.map(|trial| trial.eval.clone()).ok_or_else(|| {
        CommandError::user(format!("sweep `{sweep}` has no trial {number}")).hint(format!(
            "it has {}, from 0 on",
            counted(trials.len(), "trial")
        ))
    })
}

fn show_stages(ui: &Ui, diff: &RunDiff) {
    if diff.stages.is_empty() {
        return;
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for stage in &diff.stages {
        let row = |field: &str, first: String, second: String| {
            vec![stage.stage.clone(), field.to_owned(), first, second]
        };
        let short = |run: &Option<RunId>| {
            run.as_ref()
                .map_or("–".to_owned(), |run| run.short().to_owned())
        };
        rows.push(row("run", short(&stage.first), short(&stage.second)));
        for change in &stage.fields {
            let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
            rows.push(row(&change.field, value(&change.old), value(&change.new)));
        }
    }
    ui.headed_table(
        [
            ("stage", Whole),
            ("field", Whole),
            ("first", Cut),
            ("second", Cut),
        ],
        rows,
    );
}

fn show_metrics(ui: &Ui, (first, second): (&str, &str), diff: &RunDiff) {
    let [a, b] = diff.table.rows.as_slice() else {
        return;
    };
    let mut rows = Vec::new();
    for (at, metric) in diff.table.metrics.iter().enumerate() {
        let cell = |cell: &crate::report::Cell| {
            let value = cell
                .estimate
                .map_or("–".to_owned(), |e| fixed(e.value, metric.decimals));
            let interval = cell.interval.map(|i| {
                format!(
                    " [{}, {}]",
                    fixed(i.low, metric.decimals),
                    fixed(i.high, metric.decimals)
                )
            });
            value + &interval.unwrap_or_default()
        };
        let words = b.cells[at].comparison.as_ref();
        let words = words.map(|c| c.words(metric.better, metric.decimals));
        rows.push(vec![
            metric.key.clone(),
            cell(&a.cells[at]),
            cell(&b.cells[at]),
            words.unwrap_or_default(),
        ]);
    }
    if rows.is_empty() {
        return ui.out("the two have no metric in common");
    }
    ui.out("");
    ui.headed_table(
        [
            ("metric", Whole),
            (first, Whole),
            (second, Whole),
            ("difference", Wrap),
        ],
        rows,
    );
}

fn show_flips(ui: &Ui, flips: &MetricFlips) {
    let counts = flips.counts;
    ui.out("");
    ui.text(&format!(
        "{}: {} gained and {} lost of {}, {} right by both (McNemar's exact test, {})",
        ui.tone(Tone::Strong, &flips.metric),
        counts.gained,
        counts.lost,
        counted(
            counts.both + counts.gained + counts.lost + counts.neither,
            "row"
        ),
        counts.both,
        p_value(flips.p),
    ));
    for (word, gained) in [("gained", true), ("lost", false)] {
        let rows: Vec<&str> = flips
            .rows
            .iter()
            .filter(|r| r.gained == gained)
            .map(|r| r.row.as_str())
            .collect();
        if rows.is_empty() {
            continue;
        }
        let more = rows.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 {
            format!(" and {more} more (`--json` names all)")
        } else {
            String::new()
        };
        let named: Vec<&str> = rows.into_iter().take(MOST_NAMED).collect();
        ui.text(&format!("  {word}: {}{more}", named.join(", ")));
    }
}

fn to_json(first: &RunId, second: &RunId, diff: &RunDiff) -> serde_json::Value {
    let stages = diff.stages.iter().map(|stage| {
        let fields = stage.fields.iter().map(
            |change| json!({"field": change.field, "first": change.old, "second": change.new}),
        );
        json!({
            "stage": stage.stage, "first": stage.first, "second": stage.second,
            "fields": fields.collect::<Vec<_>>(),
        })
    });
    json!({
        "first": first, "second": second, "stages": stages.collect::<Vec<_>>(),
        "metrics": table_json(&diff.table), "flips": diff.flips,
    })
}
