//! `lions show`.

use crate::cli::commands::status::state_word;
use crate::cli::database::{must_open, store_error};
use crate::cli::error::CommandError;
use crate::cli::global::{DONE, Global};
use crate::cli::project::Project;
use crate::cli::text::{bytes, columns, measured, secs, si};
use crate::cli::ui::{Tone, Ui};
use crate::rundir::{MetricValue, RunDir};
use crate::store::{AttemptRow, ReadStore};
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
    let id = store.find_run(&args.id).map_err(no_run)?;
    let row = store.run(&id).map_err(store_error)?;
    let identity: Value =
        serde_json::from_str(&store.identity(&id).map_err(store_error)?).unwrap_or(Value::Null);
    let attempts = store.attempts(&id).map_err(store_error)?;
    let metrics = store.metrics(&id).map_err(store_error)?;
    let counts = store.counts(&id).map_err(store_error)?;
    let notes = store.notes(&id).map_err(store_error)?;
    let artifacts = store.artifacts(&id).map_err(store_error)?;
    let trials = store.trials_of(&id).map_err(store_error)?;
    let folder = RunDir::new(&project.root, &id).path().to_path_buf();
    if ui.json {
        ui.print_json(&json!({
            "run": row, "folder": folder, "identity": identity, "attempts": attempts, "metrics": metrics,
            "counts": counts, "notes": notes, "artifacts": artifacts, "trials": trials,
        }))?;
        return Ok(DONE);
    }
    ui.out(&format!(
        "{} {}  {}",
        ui.tone(Tone::Strong, row.kind.name()),
        id,
        state_word(ui, &row)
    ));
    ui.out(&format!(
        "  {}",
        ui.tone(Tone::Dim, &folder.display().to_string())
    ));
    if let Some(message) = &row.message {
        section(ui, "message");
        message
            .lines()
            .for_each(|line| ui.out(&format!("  {line}")));
    }
    section(ui, "identity");
    print_tree(ui, &identity, 1);
    section(ui, "attempts");
    table(ui, attempts.iter().map(attempt_row).collect());
    if !metrics.is_empty() {
        section(ui, "metrics");
        table(
            ui,
            metrics
                .iter()
                .map(|(key, value)| metric_row(key, value))
                .collect(),
        );
    }
    print_counts(ui, &counts, &notes);
    if !artifacts.is_empty() {
        section(ui, "artifacts");
        let row = |a: &crate::store::ArtifactRow| {
            vec![
                a.path.clone(),
                bytes(a.bytes as f64),
                a.digest.short().to_owned(),
            ]
        };
        table(ui, artifacts.iter().map(row).collect());
    }
    section(ui, "used by");
    let row = |t: &crate::store::TrialUse| {
        vec![
            t.sweep.clone(),
            format!("trial {}", t.index),
            t.label.clone(),
            format!("seed {}", t.seed),
        ]
    };
    table(ui, trials.iter().map(row).collect());
    Ok(DONE)
}

/// An id that no run has, with the way to the ids.
pub(crate) fn no_run(error: crate::store::StoreError) -> CommandError {
    CommandError::user(error)
        .hint("`lions status <sweep>` lists runs; the first digits of an id are enough")
}

/// The id of the run that `prefix` means.
pub(crate) fn find(store: &ReadStore, prefix: &str) -> Result<crate::plan::RunId, CommandError> {
    store.find_run(prefix).map_err(no_run)
}

fn section(ui: &Ui, name: &str) {
    ui.out(&ui.tone(Tone::Accent, name));
}

fn table(ui: &Ui, rows: Vec<Vec<String>>) {
    columns(&rows)
        .iter()
        .for_each(|line| ui.out(&format!("  {line}")));
}

fn attempt_row(attempt: &AttemptRow) -> Vec<String> {
    let took = attempt
        .ended
        .map(|end| secs(end.secs_since(attempt.started)))
        .unwrap_or_default();
    let cost = attempt.usage.map(|usage| {
        let rate = usage.tokens as f64 / usage.wall_secs.max(1e-9);
        format!(
            "{} tokens ({}/s), {}",
            si(usage.tokens as f64),
            si(rate),
            bytes(usage.peak_memory_bytes as f64)
        )
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

fn metric_row(key: &str, metric: &MetricValue) -> Vec<String> {
    let spread = metric
        .stderr
        .map(|stderr| format!("± {} (standard error)", measured(stderr)))
        .unwrap_or_default();
    vec![
        key.to_owned(),
        measured(metric.value),
        spread,
        format!("n = {}", metric.n),
    ]
}

fn print_counts(ui: &Ui, counts: &BTreeMap<String, u64>, notes: &[String]) {
    if !counts.is_empty() {
        section(ui, "data");
        table(
            ui,
            counts
                .iter()
                .map(|(name, count)| vec![name.replace('_', " "), count.to_string()])
                .collect(),
        );
    }
    if !notes.is_empty() {
        section(ui, "notes");
        notes.iter().for_each(|note| ui.out(&format!("  {note}")));
    }
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
                    .for_each(|item| ui.out(&format!("{indent}  - {}", short(item))));
            }
            other => ui.out(&format!("{indent}{key} = {}", short(other))),
        }),
        other => ui.out(&format!("{indent}{}", short(other))),
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
