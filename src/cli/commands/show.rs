//! `lions show`.

use crate::cli::commands::status::state_word;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::{bytes, measured, secs, si};
use crate::cli::ui::{Tone, Ui};
use crate::config::nearest;
use crate::live::add_device_memory;
use crate::plan::RunId;
use crate::report::ColumnFit::{Cut, Whole, Wrap};
use crate::rundir::{MetricValue, Provenance, RunDir, read_provenance};
use crate::store::{ArtifactRow, AttemptRow, ReadStore, TrialUse};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Show everything about one run
///
/// Recipe, inputs, attempts, metrics, data counts, artifacts, and the trials that use it.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Run, by the first digits of its id
    id: String,
}

pub(crate) fn run(ui: &Ui, global: &Global, args: &ShowArgs) -> Result<u8, CommandError> {
    let project = Project::find(global.root.as_deref(), None)?;
    let store = must_open(&project)?;
    let id = find(&store, &args.id)?;
    let row = store.run(&id).map_err(store_error)?;
    let identity: Value =
        serde_json::from_str(&store.identity(&id).map_err(store_error)?).unwrap_or(Value::Null);
    let run_dir = RunDir::new(&project.root, &id);
    let mut attempts = store.attempts(&id).map_err(store_error)?;
    add_device_memory(&mut attempts, &run_dir);
    let metrics = store.metrics(&id).map_err(store_error)?;
    let counts = store.counts(&id).map_err(store_error)?;
    let notes = store.notes(&id).map_err(store_error)?;
    let artifacts = store.artifacts(&id).map_err(store_error)?;
    let trials = store.trials_of(&id).map_err(store_error)?;
    let folder = run_dir.path().to_path_buf();
    let provenance = provenance(&attempts, &run_dir);
    if ui.json {
        ui.print_json(&json!({
            "run": row, "folder": folder, "identity": identity, "attempts": attempts, "metrics": metrics,
            "counts": counts, "notes": notes, "artifacts": artifacts, "trials": trials,
            "provenance": provenance,
        }))?;
        return Ok(DONE);
    }
    ui.out(&format!(
        "{} {}  {}",
        ui.tone(Tone::Strong, row.kind.name()),
        id,
        state_word(ui, row.state)
    ));
    ui.out(&format!(
        "  {}",
        ui.tone(Tone::Dim, &folder.display().to_string())
    ));
    if let Some(message) = &row.message {
        section(ui, "message");
        message
            .lines()
            .for_each(|line| ui.text(&format!("  {line}")));
    }
    // A run that a rebuild brought back without its folder has none yet.
    if !identity.is_null() {
        section(ui, "identity");
        print_tree(ui, &identity, 1);
    }
    print_attempts(ui, &attempts);
    print_provenance(ui, provenance.as_ref());
    print_metrics(ui, &metrics);
    print_counts(ui, &counts, &notes);
    print_artifacts(ui, &artifacts);
    print_uses(ui, &trials);
    Ok(DONE)
}

/// Who executed the last attempt that has told; a file that is gone or damaged says nothing.
pub(crate) fn provenance(attempts: &[AttemptRow], dir: &RunDir) -> Option<Provenance> {
    let told = |attempt: &AttemptRow| read_provenance(&dir.attempt(attempt.number)).ok()?;
    attempts.iter().rev().find_map(told)
}

fn print_provenance(ui: &Ui, provenance: Option<&Provenance>) {
    let Some(provenance) = provenance else { return };
    section(ui, "computed by");
    let own = [
        ("lions", provenance.version.clone()),
        ("machine", provenance.host.clone()),
    ];
    let facts = own.into_iter().chain(provenance.facts.named());
    let rows: Vec<_> = facts
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    ui.indented_table(2, &rows, &[Whole, Wrap]);
}

/// The id of the run that `prefix` means; the error shows the way to the ids.
pub(crate) fn find(store: &ReadStore, prefix: &str) -> Result<RunId, CommandError> {
    store.find_run(prefix).map_err(|error| {
        let sweeps = store.sweeps().unwrap_or_default();
        let names = sweeps.iter().map(|sweep| sweep.name.as_str());
        let hint = match nearest(prefix, names) {
            Some(name) if name == prefix => {
                format!("`{name}` is a sweep; `lions status {name}` lists its runs")
            }
            Some(name) => {
                format!("did you mean the sweep `{name}`? `lions status {name}` lists its runs")
            }
            None => {
                "`lions status <sweep>` lists runs; the first digits of an id are enough".to_owned()
            }
        };
        CommandError::user(error).hint(hint)
    })
}

fn section(ui: &Ui, name: &str) {
    ui.out(&ui.tone(Tone::Accent, name));
}

fn print_attempts(ui: &Ui, attempts: &[AttemptRow]) {
    section(ui, "attempts");
    let rows: Vec<_> = attempts.iter().map(attempt_row).collect();
    ui.indented_table(2, &rows, &[Whole, Whole, Whole, Whole, Whole, Wrap]);
}

fn attempt_row(attempt: &AttemptRow) -> Vec<String> {
    let took = attempt
        .ended
        .map(|end| secs(end.secs_since(attempt.started)))
        .unwrap_or_default();
    let cost = attempt.usage.map(|usage| {
        let rate = usage.tokens as f64 / usage.wall_secs.max(1e-9);
        format!(
            "{} {} ({}/s), {}",
            si(usage.tokens as f64),
            if usage.tokens == 1 { "token" } else { "tokens" },
            si(rate),
            bytes(usage.peak_memory_bytes as f64)
        ) + &usage
            .device_memory_bytes
            .map_or_else(String::new, |device| {
                format!(", {} on the device", bytes(device as f64))
            })
    });
    vec![
        attempt.number.to_string(),
        attempt.state.clone(),
        attempt.device.clone(),
        attempt.started.iso8601(),
        took,
        cost.unwrap_or_default(),
    ]
}

fn print_metrics(ui: &Ui, metrics: &BTreeMap<String, MetricValue>) {
    if metrics.is_empty() {
        return;
    }
    section(ui, "metrics");
    let rows: Vec<_> = metrics.iter().map(metric_row).collect();
    ui.indented_table(2, &rows, &[Cut, Whole, Wrap, Whole]);
}

fn metric_row((key, metric): (&String, &MetricValue)) -> Vec<String> {
    let spread = metric
        .stderr
        .map(|stderr| format!("± {} (standard error)", measured(stderr)))
        .unwrap_or_default();
    vec![
        key.clone(),
        measured(metric.value),
        spread,
        format!("n = {}", metric.n),
    ]
}

fn print_counts(ui: &Ui, counts: &BTreeMap<String, u64>, notes: &[String]) {
    if !counts.is_empty() {
        section(ui, "data");
        let row = |(name, count): (&String, &u64)| vec![name.replace('_', " "), count.to_string()];
        let rows: Vec<_> = counts.iter().map(row).collect();
        ui.indented_table(2, &rows, &[Whole; 2]);
    }
    if !notes.is_empty() {
        section(ui, "notes");
        notes.iter().for_each(|note| ui.text(&format!("  {note}")));
    }
}

fn print_artifacts(ui: &Ui, artifacts: &[ArtifactRow]) {
    if artifacts.is_empty() {
        return;
    }
    section(ui, "artifacts");
    let row = |artifact: &ArtifactRow| {
        vec![
            artifact.path.clone(),
            bytes(artifact.bytes as f64),
            artifact.digest.short().to_owned(),
        ]
    };
    let rows: Vec<_> = artifacts.iter().map(row).collect();
    ui.indented_table(2, &rows, &[Whole; 3]);
}

fn print_uses(ui: &Ui, trials: &[TrialUse]) {
    section(ui, "used by");
    let row = |trial: &TrialUse| {
        vec![
            trial.sweep.clone(),
            format!("trial {}", trial.index),
            trial.label.clone(),
            format!("seed {}", trial.seed),
        ]
    };
    let rows: Vec<_> = trials.iter().map(row).collect();
    ui.indented_table(2, &rows, &[Whole, Whole, Cut, Whole]);
}

/// A JSON document as an indented tree.
fn print_tree(ui: &Ui, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| match value {
            Value::Object(_) => {
                ui.out(&format!("{indent}{key}"));
                print_tree(ui, value, depth + 1);
            }
            Value::Array(list) if list.iter().any(Value::is_object) => {
                ui.out(&format!("{indent}{key}"));
                list.iter()
                    .for_each(|item| ui.text(&format!("{indent}  - {}", short(item))));
            }
            other => ui.text(&format!("{indent}{key} = {}", short(other))),
        }),
        other => ui.text(&format!("{indent}{}", short(other))),
    }
}

/// A value on one line, digests by their first digits.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() == 64 => text.chars().take(12).collect(),
        Value::String(text) => text.clone(),
        Value::Object(map) => {
            let parts: Vec<_> = map
                .iter()
                .map(|(key, value)| format!("{key}={}", short(value)))
                .collect();
            parts.join(" ")
        }
        other => other.to_string(),
    }
}
