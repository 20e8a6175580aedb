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
use crate::report::{MetricFlips, RunDiff, diff_runs, table_json};
use crate::store::ReadStore;
use serde_json::json;

/// Flipped rows of one metric that are named to a person.
const MOST_NAMED: usize = 12;

/// Compare two runs: recipes, metrics, and the rows that flipped
///
/// Every run that the two are made of is compared with its counterpart, field by field. Metrics that both have stand with
/// their 95 % intervals and the difference, paired by row. Of scores that are right or wrong the rows that flipped are
/// named, with McNemar's exact test.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    /// A run by the first digits of its id, or a trial of a sweep by its number (`study/3`): its evaluation
    first: String,
    /// What it is compared with
    second: String,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &DiffArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let store = must_open(&project)?;
    let first = run_of(&project, &store, &args.first)?;
    let second = run_of(&project, &store, &args.second)?;
    let diff = diff_runs(&store, &project.root, &first, &second).map_err(CommandError::user)?;
    if ui.json {
        ui.print_json(&to_json(&first, &second, &diff))?;
        return Ok(DONE);
    }
    if first == second {
        ui.out(&format!("both are run {}", first.short()));
        return Ok(DONE);
    }
    show_stages(ui, &diff);
    show_metrics(ui, (&first, &second), &diff);
    let flipped = diff.flips.iter().filter(|flips| !flips.rows.is_empty());
    flipped.for_each(|flips| show_flips(ui, flips));
    Ok(DONE)
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

fn show_metrics(ui: &Ui, (first, second): (&RunId, &RunId), diff: &RunDiff) {
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
            (first.short(), Whole),
            (second.short(), Whole),
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
