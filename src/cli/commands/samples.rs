//! `lions samples`.

use crate::base::csv_line;
use crate::cli::database::results;
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::numbers::at_least;
use crate::cli::pick::{TrialFilter, not_none};
use crate::cli::project::Project;
use crate::cli::sweep_file::SweepWord;
use crate::cli::text::measured;
use crate::cli::ui::{Tone, Ui};
use crate::report::{Reply, RunStatus, SampleRow, SweepResults, TrialResult, side_by_side};
use serde_json::json;
use std::collections::BTreeMap;

/// Read what two configurations of a sweep replied, side by side
///
/// The evaluations' sampled texts with their scores, and what a judge said of them; rows on which the two differ most
/// come first. `--where` leaves the two configurations that are compared: values of one axis are alternatives
/// (`--where loss=dpo --where loss=ipo`), axes narrow each other down. Both are read at their first common seed.
#[derive(Debug, clap::Args)]
pub(crate) struct SamplesArgs {
    #[command(flatten)]
    sweep: SweepWord,
    #[command(flatten)]
    picked: TrialFilter,
    /// Only this evaluated set
    #[arg(long = "of", value_name = "NAME")]
    set: Option<String>,
    /// Score by which rows differ, without its set [default: the first that has a better side]
    #[arg(long, value_name = "KEY")]
    metric: Option<String>,
    /// Which page [default: the first; all rows as CSV or JSON]
    #[arg(long, value_name = "N", value_parser = at_least(1_usize))]
    page: Option<usize>,
    /// Rows of a page
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least(1_usize))]
    rows: usize,
    /// A line for each reply, as CSV
    #[arg(long)]
    csv: bool,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &SamplesArgs) -> Result<u8, CommandError> {
    if args.csv && ui.json {
        let error = CommandError::user("`--json` and `--csv` ask for two forms");
        return Err(error.hint("leave one of them out"));
    }
    let project = Project::find(global.root.as_deref(), args.sweep.near())?;
    let mut results = results(ui, &project, &args.sweep.name()?)?;
    args.picked.keep_results(&mut results)?;
    let sides = sides(&results)?;
    let runs: Vec<_> = sides.iter().map(|(_, trial)| trial.eval.clone()).collect();
    let rows = runs.iter().map(|run| results.rows(run));
    let rows = rows
        .collect::<Result<Vec<_>, _>>()
        .map_err(CommandError::user)?;
    let wanted = (args.set.as_deref(), args.metric.as_deref());
    let found = side_by_side(&project.root, &runs, &rows, wanted).map_err(CommandError::user)?;
    if found.is_empty() {
        let error = CommandError::user(match &args.set {
            Some(set) => format!("the evaluations have no sampled texts of a set `{set}`"),
            None => "the evaluations have no sampled texts".to_owned(),
        });
        return Err(error.hint("sets of `stories`, `tasks` that generate, and `judged` have them"));
    }
    let pages = found.len().div_ceil(args.rows);
    let whole = args.page.is_none() && (ui.json || args.csv);
    let page = args.page.unwrap_or(1);
    if page > pages {
        return Err(CommandError::user(format!(
            "there is no page {page} of {pages}"
        )));
    }
    let shown = if whole {
        &found[..]
    } else {
        let from = (page - 1) * args.rows;
        &found[from..found.len().min(from + args.rows)]
    };
    let labels: Vec<&str> = sides.iter().map(|(label, _)| label.as_str()).collect();
    if ui.json {
        let sides = sides
            .iter()
            .map(|(label, trial)| json!({"label": label, "seed": trial.seed, "run": trial.eval}));
        ui.print_json(&json!({
            "sweep": results.sweep.name, "configurations": sides.collect::<Vec<_>>(), "rows": shown,
            "all": found.len(),
        }))?;
    } else if args.csv {
        write_csv(ui, &sides, shown);
    } else {
        shown.iter().for_each(|row| show(ui, &labels, row));
        ui.out(&ui.tone(
            Tone::Dim,
            &format!("page {page} of {pages}, {} rows", found.len()),
        ));
    }
    Ok(DONE)
}

/// The configurations, one or two, each with its trial of the first seed that all have finished.
fn sides(results: &SweepResults) -> Result<Vec<(String, &TrialResult)>, CommandError> {
    let mut by_label: BTreeMap<&str, Vec<&TrialResult>> = BTreeMap::new();
    let mut labels: Vec<&str> = Vec::new();
    for trial in &results.trials {
        if !labels.contains(&trial.label.as_str()) {
            labels.push(&trial.label);
        }
        by_label.entry(&trial.label).or_default().push(trial);
    }
    not_none(labels.len())?;
    if labels.len() > 2 {
        let error = CommandError::user(format!(
            "{} configurations fit, and two are compared",
            labels.len()
        ));
        let error = error.hint("`--where AXIS=VALUE`, perhaps repeated, leaves two");
        return Err(labels
            .iter()
            .take(8)
            .fold(error, |error, label| error.hint(format!("one is {label}"))));
    }
    let done = |trial: &&&TrialResult| {
        let run = results.runs.get(&trial.eval);
        run.is_some_and(|run| run.status == RunStatus::Done)
    };
    let seeds = |label: &str| {
        by_label[label]
            .iter()
            .filter(done)
            .map(|trial| trial.seed)
            .collect::<Vec<_>>()
    };
    let first = seeds(labels[0]);
    let common = first
        .into_iter()
        .find(|seed| labels.iter().all(|label| seeds(label).contains(seed)));
    let Some(seed) = common else {
        return Err(
            CommandError::user("no seed of these configurations is evaluated yet").hint(format!(
                "`lions status {}` says how far it is",
                results.sweep.name
            )),
        );
    };
    let side = |label: &&str| {
        let trial = by_label[label].iter().find(|trial| trial.seed == seed)?;
        Some(((*label).to_owned(), *trial))
    };
    Ok(labels.iter().filter_map(side).collect())
}

fn show(ui: &Ui, labels: &[&str], row: &SampleRow) {
    let sample = if row.sample > 0 {
        format!(", sample {}", row.sample + 1)
    } else {
        String::new()
    };
    let apart = row.apart.map_or(String::new(), |apart| {
        format!(", {} apart", measured(apart))
    });
    ui.out(&ui.tone(
        Tone::Strong,
        &format!("{} {}{sample}{apart}", row.set, row.row),
    ));
    if !row.prompt.is_empty() {
        ui.text(&row.prompt);
    }
    for (label, reply) in labels.iter().zip(&row.replies) {
        let Some(reply) = reply else {
            ui.out(&ui.tone(Tone::Accent, &format!("── {label}: no reply")));
            continue;
        };
        let head = format!("── {label}{}", scores(reply));
        ui.out(&ui.tone(Tone::Accent, &head));
        ui.text(&reply.text);
        for said in &reply.judge {
            ui.out(&ui.tone(
                Tone::Dim,
                &format!("judge, {}: {}", said.about, said.verdict),
            ));
            ui.text(&said.text);
        }
    }
    ui.out("");
}

fn scores(reply: &Reply) -> String {
    let cut = match reply.finished {
        Some(false) => Some("cut off".to_owned()),
        _ => None,
    };
    let tokens = reply.tokens.map(|tokens| format!("{tokens} tokens"));
    let scores = reply
        .scores
        .iter()
        .map(|(key, value)| format!("{key} {}", measured(*value)));
    let all: Vec<String> = scores.chain(tokens).chain(cut).collect();
    if all.is_empty() {
        String::new()
    } else {
        format!(": {}", all.join(", "))
    }
}

fn write_csv(ui: &Ui, sides: &[(String, &TrialResult)], rows: &[SampleRow]) {
    let heads = [
        "set",
        "row",
        "sample",
        "apart",
        "prompt",
        "configuration",
        "seed",
        "run",
        "text",
        "tokens",
        "finished",
        "scores",
        "judge",
    ];
    ui.raw(&csv_line(&heads));
    for row in rows {
        for ((label, trial), reply) in sides.iter().zip(&row.replies) {
            let Some(reply) = reply else { continue };
            let cells = [
                row.set.clone(),
                row.row.clone(),
                row.sample.to_string(),
                row.apart.map_or(String::new(), |apart| apart.to_string()),
                row.prompt.clone(),
                label.clone(),
                trial.seed.to_string(),
                trial.eval.short().to_owned(),
                reply.text.clone(),
                reply.tokens.map_or(String::new(), |n| n.to_string()),
                reply.finished.map_or(String::new(), |b| b.to_string()),
                json!(reply.scores).to_string(),
                if reply.judge.is_empty() {
                    String::new()
                } else {
                    json!(reply.judge).to_string()
                },
            ];
            ui.raw(&csv_line(&cells));
        }
    }
}
